#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A second configure does nothing in under a second; a touched file of ours
rebuilds only what depends on it.  TAP."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
TOUCHED = TOP / 'monitor/hmp-memsched.c'

# Its object, both forms of the emulator, and what QEMU makes anew each time:
# the version header and its two users.
MOST_STEPS = 12


def planned_steps():
    text = subprocess.run(['ninja', '-C', str(TOP / 'build/qemu'), '-n',
                           'qemu-system-x86_64',
                           'system/memsched/link/libqemu-system-x86_64.so'],
                          check=True, text=True, stdout=subprocess.PIPE).stdout
    return re.findall(r'^\[\d+/\d+\] (.*)$', text, re.M)


def check_touch():
    before = TOUCHED.stat()
    os.utime(TOUCHED)
    try:
        steps = planned_steps()
    finally:
        os.utime(TOUCHED, ns=(before.st_atime_ns, before.st_mtime_ns))
    for step in steps:
        print(f'# {step}')
    return len(steps) <= MOST_STEPS and \
        any(TOUCHED.stem in step for step in steps)


def check_second_configure():
    start = time.monotonic()
    done = subprocess.run([str(TOP / 'configure'), '--recheck'], text=True,
                          check=False, stdout=subprocess.PIPE)
    seconds = time.monotonic() - start
    print(f'# {seconds:.2f} s, said {done.stdout!r}')
    return done.returncode == 0 and not done.stdout and seconds < 1


def main():
    tests = [('touched file rebuilds what depends on it only', check_touch),
             ('second configure does nothing in a second',
              check_second_configure)]
    bad = 0
    print(f'1..{len(tests)}')
    for number, (name, test) in enumerate(tests, 1):
        good = test()
        bad += not good
        print(f'{"ok" if good else "not ok"} {number} - {name}', flush=True)
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
