#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Each header of the library compiles alone, and twice.

Public headers and the wire format need nothing but the C library and GLib; the
wire format not even GLib.  Headers of devices are compiled by QEMU's build."""

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
PATTERNS = ['include/memsched/*.h', 'include/standard-headers/linux/*.h',
            'memsched/*.h', 'guest/**/*.h']
# These may use QEMU's headers, after osdep.h as everywhere in QEMU.
QEMU_PATTERNS = ['include/system/*.h', 'include/hw/**/*.h', 'system/*.h',
                 'hw/**/*.h', 'monitor/*.h', 'migration/*.h']
QEMU_BUILD = TOP / 'build/qemu'
QEMU_SRC = TOP / 'build/qemu-src'
QEMU_FLAGS = ['-std=gnu11', '-fsyntax-only', '-D_GNU_SOURCE',
              f'-iquote{QEMU_SRC}', f'-I{QEMU_BUILD}', f'-I{QEMU_BUILD}/qapi',
              f'-I{QEMU_SRC}/include', f'-I{QEMU_SRC}/tcg/i386',
              f'-I{QEMU_SRC}/host/include/x86_64',
              f'-I{QEMU_SRC}/host/include/generic',
              f'-isystem{QEMU_SRC}/linux-headers', '-include', 'qemu/osdep.h']
FLAGS = ['-std=gnu11', '-Wall', '-Wextra', '-Wno-unused-parameter', '-Werror',
         '-D_GNU_SOURCE', '-fsyntax-only', f'-I{TOP}/include', f'-I{TOP}',
         f'-I{TOP}/memsched', f'-I{TOP}/guest/lib', f'-I{TOP}/guest/include',
         f'-I{TOP}/include/standard-headers']


def compiles(command, header):
    """Included twice: the guard is tested too."""
    with tempfile.NamedTemporaryFile('w', suffix='.c') as file:
        file.write(f'#include "{header}"\n' * 2)
        file.flush()
        return subprocess.call([*command, file.name]) == 0


def found(patterns):
    return sorted({h for p in patterns for h in TOP.glob(p)})


def main():
    cc = shlex.split(os.environ.get('CC', 'gcc'))
    glib = subprocess.run(['pkg-config', '--cflags', 'glib-2.0'], check=True,
                          text=True, stdout=subprocess.PIPE).stdout.split()
    # GLib's headers before 2.76 are not warning free.
    glib = [flag.replace('-I', '-isystem', 1) for flag in glib]
    bad = []
    headers = found(PATTERNS)
    if not headers:
        print('no header found: the patterns are wrong')
        return 1
    for header in headers:
        bare = 'standard-headers' in header.as_posix()
        if not compiles([*cc, *FLAGS, *([] if bare else glib)], header):
            bad.append(header)
    if (QEMU_BUILD / 'qapi/qapi-types-memsched.h').is_file():
        for header in found(QEMU_PATTERNS):
            if not compiles([*cc, *QEMU_FLAGS, *glib], header):
                bad.append(header)
    for header in bad:
        print(f'{header.relative_to(TOP)}: does not compile alone')
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
