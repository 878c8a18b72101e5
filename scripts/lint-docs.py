#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Documents are complete: no place that waits for a figure (@NAME@, TODO,
TBD, FIXME), and each image and document that one of them refers to is there."""

import re
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
GAP = re.compile(r'@[A-Z][A-Z_]*@|\b(?:TODO|TBD|FIXME|XXX)\b')
REFERENCE = re.compile(r'^\.\. (?:image|figure|include):: +(\S+)|:doc:`([^`<]+)`|'
                       r'\]\(((?!https?:)[^)#]+)(?:#[^)]*)?\)', re.M)


def target(document, match):
    """The file that a reference is to."""
    if match[2]:
        return document.parent / f'{match[2].strip()}.rst'
    return document.parent / (match[1] or match[3])


def check(document, text):
    for number, line in enumerate(text.splitlines(), 1):
        for gap in GAP.findall(line):
            yield f'{number}: {gap} waits to be filled in'
    for match in REFERENCE.finditer(text):
        if not target(document, match).exists():
            number = text.count('\n', 0, match.start()) + 1
            yield f'{number}: there is no {match[1] or match[2] or match[3]}'


def main():
    wrong = 0
    documents = [*sorted(TOP.glob('docs/**/*.rst')), *TOP.glob('*.md')]
    for document in documents:
        for line in check(document, document.read_text(encoding='utf-8')):
            print(f'{document.relative_to(TOP)}:{line}')
            wrong += 1
    if not documents:
        print('no documents')
    return 1 if wrong or not documents else 0


if __name__ == '__main__':
    sys.exit(main())
