#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Each source file names its licence, and the one that its place asks for."""

import re
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
SUFFIXES = {'.c', '.h', '.py', '.sh', '.build', '.json', '.list', '.map', '.S',
            '.s'}
NAMES = {'configure', 'Makefile', 'trace-events', 'run'}
# JSON proper has no comments; QAPI's does.
NO_COMMENTS = re.compile(r'^(tests|bench|docs)/.*\.json$')
PLACES = [
    (re.compile(r'^include/standard-headers/'), 'BSD-3-Clause'),
    (re.compile(r'^guest/(lib|include)/'), 'LGPL-2.1-or-later'),
    (re.compile(r''), 'GPL-2.0-or-later'),
]


def tracked():
    names = subprocess.run(['git', '-C', str(TOP), 'ls-files', '-co',
                            '--exclude-standard'], check=True, text=True,
                           stdout=subprocess.PIPE).stdout.splitlines()
    return [name for name in names if (TOP / name).is_file()]


def is_source(name):
    path = Path(name)
    if NO_COMMENTS.match(name):
        return False
    with open(TOP / name, 'rb') as file:
        script = file.read(2) == b'#!'
    return script or path.suffix in SUFFIXES or path.name in NAMES


def main():
    bad = []
    for name in filter(is_source, tracked()):
        head = (TOP / name).read_text(encoding='utf-8')[:2500]
        found = re.search(r'SPDX-License-Identifier: (\S+(?: OR \S+)*)', head)
        wanted = next(text for place, text in PLACES if place.search(name))
        if not found:
            bad.append(f'{name}: no SPDX-License-Identifier')
        elif found.group(1) != wanted:
            bad.append(f'{name}: {found.group(1)}, not {wanted}')
    print('\n'.join(bad))
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
