# SPDX-License-Identifier: GPL-2.0-or-later
"""Meson, in a version that QEMU accepts, without installing it."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import zipfile

from .common import (SetupError, TOOLS, output_of, say, version_key,
                     write_if_changed)

MESON_AT_LEAST = '1.5.0'
MODULES = TOOLS / 'python'

# QEMU's configure wants the first to build, and insists on having the second.
WANTED = {'meson': ('meson', MESON_AT_LEAST), 'pycotap': ('python3-pycotap',
                                                          '1.1.0')}


def have(name, at_least, path=None):
    search = {'path': [str(path)]} if path else {}
    for found in importlib.metadata.distributions(name=name, **search):
        if version_key(found.version) >= version_key(at_least):
            return True
    return False


def from_wheels(folder, name):
    """A QEMU release carries wheels, which are plain zip archives."""
    for wheel in sorted(folder.glob(f'{name}-*.whl')):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(MODULES)
        return True
    return False


def from_package(apt, cache, name, package, at_least):
    debs = sorted(cache.glob(f'{package}_*.deb'))
    if not debs:
        versions = [v for v in apt.binary_versions(package)
                    if version_key(upstream(v)) >= version_key(at_least)]
        if not versions:
            raise SetupError(f'{name} {at_least} or newer is needed: install '
                             'it, then run configure again.')
        apt.fetch_binary(package, max(versions, key=lambda v:
                                      version_key(upstream(v))), cache)
        debs = sorted(cache.glob(f'{package}_*.deb'))
    scratch = TOOLS / 'unpack'
    shutil.rmtree(scratch, ignore_errors=True)
    subprocess.run(['dpkg-deb', '-x', str(debs[-1]), str(scratch)], check=True)
    for folder in scratch.glob('usr/lib/python3/dist-packages/*'):
        if not (MODULES / folder.name).exists():
            shutil.move(str(folder), str(MODULES / folder.name))
    shutil.rmtree(scratch)


def upstream(version):
    """1.7.0 of 1:1.7.0-1~bpo12+1."""
    return re.sub(r'[^0-9.].*', '', version.split(':')[-1].split('-')[0])


def static_glib():
    """Describe GLib's static library to pkg-config under GLib's own name.

    Each copy of the emulator in a process needs a GLib of its own.  Its names
    are kept out of the dynamic symbol table, or the shared libraries of the
    process, libslirp and libmemsched, would find a mixture of two."""
    def ask(*args):
        return (output_of(['pkg-config', *args, 'glib-2.0'],
                          env=dict(os.environ, PKG_CONFIG_PATH=''))
                or '').strip()

    libdir = ask('--variable=libdir')
    archives, rest = [], []
    for word in ask('--static', '--libs').split():
        path = f'{libdir}/lib{word[2:]}.a'
        if word in ('-lm', '-pthread') or not word.startswith('-l'):
            rest.append(word)
        elif os.path.exists(path):
            archives.append(path)
        else:
            rest.append(word)
    if not any('glib-2.0' in path for path in archives):
        raise SetupError('libglib-2.0.a is missing: install libglib2.0-dev.')
    names = ':'.join(os.path.basename(path) for path in archives)
    write_if_changed(TOOLS / 'pkgconfig' / 'glib-2.0.pc', (
        'Name: GLib\n'
        'Description: the static library, private to what links with it\n'
        f'Version: {ask("--modversion")}\n'
        f'Cflags: {ask("--cflags")}\n'
        f'Libs: -Wl,--exclude-libs,{names} {" ".join(archives + rest)}\n'))


def ensure(apt, cache, qemu_source=None):
    MODULES.mkdir(parents=True, exist_ok=True)
    for name, (package, at_least) in WANTED.items():
        if name != 'meson' and qemu_source is None:
            continue
        if have(name, at_least, MODULES) or have(name, at_least):
            continue
        say(f'{name} {at_least} or newer is not installed: fetching it into '
            'build/tools')
        if qemu_source and from_wheels(qemu_source / 'python/wheels', name):
            continue
        cache.mkdir(parents=True, exist_ok=True)
        from_package(apt, cache, name, package, at_least)
    # Meson calls itself again by the name it was started with.
    script = TOOLS / 'meson'
    if write_if_changed(script, (
            f'#!{sys.executable}\n'
            'import sys\n'
            f'sys.path.insert(0, {str(MODULES)!r})\n'
            'from mesonbuild.mesonmain import main\n'
            'sys.exit(main())\n')):
        script.chmod(0o755)
    return script
