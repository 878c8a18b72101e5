# SPDX-License-Identifier: GPL-2.0-or-later
"""The packages that a build needs, and how they get there."""

import os
import shutil
import subprocess

from .common import SetupError, output_of, run_logged, say

# What builds and tests our own code, and what the emulator needs on top.
OWN = ['gcc', 'libc6-dev', 'make', 'ninja-build', 'pkg-config',
       'libglib2.0-dev', 'libhiredis-dev', 'libisal-dev', 'libjson-glib-dev',
       'libncurses-dev', 'libzstd-dev', 'python3']
QEMU = ['libpixman-1-dev', 'libslirp-dev', 'libfdt-dev', 'libaio-dev',
        'liburing-dev', 'libpcre2-dev', 'python3-venv', 'patch', 'xz-utils',
        'perl', 'seabios', 'ipxe-qemu', 'qemu-system-data']


def missing(wanted):
    """Those of the wanted packages that are not installed.  A package that
    another one provides (pkgconf for pkg-config) counts as installed."""
    text = output_of(['dpkg-query', '-W', '-f',
                      '${db:Status-Abbrev}|${Package}|${Provides}\n'])
    if text is None:
        return None
    have = set()
    for line in text.splitlines():
        status, package, provides = line.split('|', 2)
        if status.startswith('ii'):
            have.add(package)
            have.update(p.split()[0] for p in provides.split(',') if p.strip())
    return [package for package in wanted if package not in have]


def extra_lists(top):
    """Packages that other parts ask for: one a line in tests/packages.list."""
    path = top / 'tests' / 'packages.list'
    if not path.is_file():
        return []
    lines = (line.split('#')[0].strip() for line in
             path.read_text(encoding='utf-8').splitlines())
    return [line for line in lines if line]


def install(names, asked):
    root = os.geteuid() == 0
    if not root and not (asked and shutil.which('sudo')):
        raise SetupError(
            'missing packages; run as root: apt-get install -y '
            '--no-install-recommends ' + ' '.join(names) +
            ' (or configure with --install-deps)')
    sudo = [] if root else ['sudo']
    env = dict(os.environ, DEBIAN_FRONTEND='noninteractive')
    argv = sudo + ['apt-get', 'install', '-y', '--no-install-recommends']
    known = output_of(['apt-cache', 'policy'] + names) or ''
    if known.count('Candidate: ') - known.count('Candidate: (none)') \
       < len(names):
        run_logged('updating the package lists', sudo + ['apt-get', 'update'],
                   'apt-update.log', 'see that the machine reaches its '
                   'package mirror.')
    try:
        run_logged('installing ' + ' '.join(names), argv + names,
                   'apt-install.log', 'retried after an update.', env=env)
    except SetupError:
        # The lists may name versions that the mirror has replaced since.
        subprocess.call(sudo + ['apt-get', 'update'],
                        stdout=subprocess.DEVNULL)
        run_logged('installing ' + ' '.join(names), argv + names,
                   'apt-install.log', 'install them by hand, then run '
                   'configure again.', env=env)


def ensure(names, asked):
    """Have the packages, or stop with one line that names those missing."""
    absent = missing(names)
    if absent is None:
        say('no dpkg here: not checking for packages')
        return
    if absent:
        say('missing packages: ' + ' '.join(absent))
        install(absent, asked)
