#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's own checkpatch.pl, from the unpacked base, on each C file of ours.

It takes a second a file: what was found without fault is remembered in the
build folder, by its content and that of the checkers, and not looked at
again."""

import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
SCRIPT = TOP / 'build/qemu-src/scripts/checkpatch.pl'
GOOD = TOP / 'build/checkpatch.json'

# Each with the reason: libmemsched, the launcher and guest programs do not
# link with QEMU, so they cannot use what these ask for.
NOT_FOR_US = (
    'use QEMU instead of Qemu',
    'consider using qemu_',         # strto*, thread and string helpers
    'use g_',                       # guest programs have no GLib
    'All .c files must include osdep.h',
    'MAINTAINERS',
    # Misreads a loop over compare-exchange whose body is empty.
    'suspect code indent for conditional statements',
    'architecture specific defines',    # __cplusplus of public headers
    'Saw acceptable license',           # the guest library is LGPL
    # The wire header is our own, where QEMU keeps those of Linux.
    'file(s) imported from Linux',
)


def beside_code(lines, number):
    """Whether line number (from 1) belongs to a comment that begins after code,
    as those of struct members do.  checkpatch would have each on lines of its
    own."""
    while number > 0 and '/*' not in lines[number - 1]:
        number -= 1
    return number > 0 and lines[number - 1].split('/*')[0].strip() != ''


def declares(lines, number):
    """Whether line number (from 1) is a use or the definition of the macros
    that declare wrapped functions: checkpatch takes their arguments for
    expressions and their declarations for statements."""
    line = lines[number - 1]
    return line.startswith(('WRAP(', '#define WRAP(', '#define DECLARE_WRAP('))


def messages(path):
    lines = path.read_text(encoding='utf-8').splitlines()
    done = subprocess.run(
        ['perl', str(SCRIPT), '--no-tree', '--no-signoff', '--terse', '-f',
         str(path.relative_to(TOP))], cwd=TOP, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    for line in done.stdout.splitlines():
        if ': ERROR: ' in line or ': WARNING: ' in line:
            if any(text in line for text in NOT_FOR_US):
                continue
            number = int(line.split(':')[1])
            if 'Block comments' in line and beside_code(lines, number):
                continue
            if declares(lines, number):
                continue
            yield line


class Good:
    """Hashes of files that have no fault."""

    def __init__(self):
        self.rules = SCRIPT.read_bytes() + Path(__file__).read_bytes()
        try:
            self.known = set(json.loads(GOOD.read_text(encoding='utf-8')))
        except (OSError, ValueError):
            self.known = set()

    def hash(self, path):
        # The name counts: rules differ between headers and other files.
        name = str(path.relative_to(TOP)).encode()
        return hashlib.sha256(b'\0'.join((self.rules, name,
                                          path.read_bytes()))).hexdigest()

    def add(self, digest):
        """Written at once, so that a run that is ended early is not lost."""
        self.known.add(digest)
        part = GOOD.with_suffix('.part')
        part.write_text(json.dumps(sorted(self.known)), encoding='utf-8')
        part.replace(GOOD)


def look_at(files):
    good, bad = Good(), []
    digests = {path: good.hash(path) for path in files}
    new = [path for path in files if digests[path] not in good.known]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, found in zip(new, pool.map(lambda p: list(messages(p)),
                                             new)):
            if not found:
                good.add(digests[path])
            bad += found
    return bad


def main():
    if not SCRIPT.is_file():
        print('QEMU\'s source is not unpacked here: run ./configure')
        return 77
    files = sorted(path for path in TOP.glob('**/*.[ch]')
                   if path.relative_to(TOP).parts[0] != 'build')
    bad = look_at(files)
    print('\n'.join(bad))
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
