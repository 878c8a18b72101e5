#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs build/qemu-system-x86_64 with these arguments where there is no
io_uring, as on older kernels and in most containers: a seccomp filter lets
io_uring_setup() fail with ENOSYS.  x86_64 only."""

import ctypes
import errno
import os
import sys
from pathlib import Path

QEMU = Path(__file__).resolve().parents[2] / 'build/qemu-system-x86_64'
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
RET_ERRNO, RET_ALLOW = 0x00050000, 0x7fff0000
LOAD_WORD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
IO_URING_SETUP = 425


class Instruction(ctypes.Structure):
    _fields_ = [('code', ctypes.c_uint16), ('if_true', ctypes.c_uint8),
                ('if_false', ctypes.c_uint8), ('value', ctypes.c_uint32)]


class Filter(ctypes.Structure):
    _fields_ = [('length', ctypes.c_uint16),
                ('first', ctypes.POINTER(Instruction))]


def main():
    code = [(LOAD_WORD, 0, 0, 0),       # the number of the system call
            (JUMP_EQUAL, 0, 1, IO_URING_SETUP),
            (RETURN, 0, 0, RET_ERRNO | errno.ENOSYS),
            (RETURN, 0, 0, RET_ALLOW)]
    program = (Instruction * len(code))(*code)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
            PR_SET_SECCOMP, SECCOMP_MODE_FILTER,
            ctypes.byref(Filter(len(code), program))):
        sys.exit(f'no seccomp: {os.strerror(ctypes.get_errno())}')
    os.execv(QEMU, [str(QEMU), *sys.argv[1:]])


if __name__ == '__main__':
    main()
