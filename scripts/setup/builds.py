# SPDX-License-Identifier: GPL-2.0-or-later
"""Configure the two builds: our own, and QEMU's."""

import os
import shutil
import sys
from pathlib import Path

from .common import (BUILD, OWN_BUILD, QEMU_BUILD, QEMU_SRC, SetupError, TOOLS,
                     TOP, link_if_changed, read_json, run_logged, say,
                     write_if_changed)

# Everything that several guests on one host are run with, and nothing that
# breaks a second copy of the emulator in the process: modules and plugins
# resolve against the executable; LTO and CFI do not survive the relinking.
# Position-independent code throughout (-fPIC for the shared object; with
# --disable-pie QEMU's executables do not link where the compiler defaults to
# PIE).
FEATURES = """
--without-default-features --enable-system --enable-tools --enable-kvm
--enable-tcg --enable-fdt=system --enable-pixman --enable-slirp --enable-vnc
--enable-linux-aio --enable-linux-io-uring --disable-modules --disable-plugins
--disable-lto --disable-cfi --enable-pie --disable-docs --disable-download
--disable-install-blobs -Db_staticpic=true
""".split()

# The distribution's packages hold the firmware that its source lacks.
FIRMWARE = ['/usr/share/qemu', '/usr/share/seabios', '/usr/lib/ipxe/qemu']

# Checked after configuring, by what the build really has.
MUST_BE = {'b_lto': False, 'cfi': False, 'plugins': False,
           'modules': 'disabled', 'b_staticpic': True, 'b_pie': True}


def compiler():
    cc = os.environ.get('CC', 'gcc')
    return f'ccache {cc}' if shutil.which('ccache') else cc


def environment():
    env = dict(os.environ)
    env['PYTHONPATH'] = str(TOOLS / 'python')
    env['CCACHE_BASEDIR'] = str(TOP)
    env['CCACHE_NOHASHDIR'] = '1'
    return env


def configure_own_in(folder, meson, options):
    """Our own build in a folder, anew where its options have changed."""
    stamp = folder / 'arguments.txt'
    text = ''.join(o + '\n' for o in options)
    if (folder / 'build.ninja').is_file() and stamp.is_file() and \
       stamp.read_text() == text:
        return
    shutil.rmtree(folder, ignore_errors=True)
    # Meson looks for ccache itself.
    run_logged('configuring our own build',
               [sys.executable, meson, 'setup', *options, folder, TOP],
               f'configure-{folder.name}.log', 'see the end of the log above.',
               env=environment())
    write_if_changed(stamp, text)


def configure_own(meson):
    configure_own_in(OWN_BUILD, meson, [])


def qemu_arguments(extra):
    cc = compiler()
    return [f'--cc={cc}', f'--host-cc={cc}', '--target-list=x86_64-softmmu',
            f'--python={sys.executable}', *FEATURES,
            '--firmwarepath=' + ':'.join(FIRMWARE),
            f'-Dpkg_config_path={TOOLS}/pkgconfig', *extra]


def check_options():
    """Stop where an option that the shared object depends on did not hold."""
    path = QEMU_BUILD / 'meson-info/intro-buildoptions.json'
    values = {o['name']: o['value'] for o in read_json(path) or []}
    for name, wanted in MUST_BE.items():
        if values.get(name) != wanted:
            raise SetupError(f'QEMU was configured with {name}='
                             f'{values.get(name)}; remove what sets it.')


def link_firmware():
    """Firmware where QEMU looks when it runs from its build folder."""
    for folder in FIRMWARE:
        link_if_changed(QEMU_BUILD / 'qemu-bundle' / folder[1:], folder)
    link_if_changed(BUILD / 'qemu-bundle', 'qemu/qemu-bundle')


def configure_qemu(extra):
    QEMU_BUILD.mkdir(parents=True, exist_ok=True)
    arguments = qemu_arguments(extra)
    stamp = QEMU_BUILD / 'arguments.txt'
    text = '\n'.join(arguments) + '\n'
    if (QEMU_BUILD / 'build.ninja').is_file() and stamp.is_file() and \
       stamp.read_text() == text:
        return
    stamp.unlink(missing_ok=True)
    run_logged('configuring QEMU', [QEMU_SRC / 'configure', *arguments],
               'configure-qemu.log', 'see the end of the log above.',
               cwd=QEMU_BUILD, env=environment())
    check_options()
    # Later runs of Meson, by Ninja, come without our environment.
    for site in Path(QEMU_BUILD / 'pyvenv').glob('lib/python3*/site-packages'):
        write_if_changed(site / 'memsched-tools.pth', f'{TOOLS}/python\n')
    link_firmware()
    write_if_changed(stamp, text)


def link_outputs():
    """build/ looks as an installation would: program and libraries beside one
    another."""
    link_if_changed(BUILD / 'libmemsched.so',
                    'memsched/memsched/libmemsched.so')
    link_if_changed(BUILD / 'libqemu-system-x86_64.so',
                    'qemu/system/memsched/link/libqemu-system-x86_64.so')
    say('ready: run make')
