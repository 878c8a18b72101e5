#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of rules in docs/devel/testing.rst names tests that exist.

A row is a rule and, below it, its tests as ``file:name``: the function
test_name of tests/*/file.c or tests/*/file.py.  A rule without a test, a file
that is not there or is there twice, and a test that it does not have are
named."""

import re
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
DOC = 'docs/devel/testing.rst'
TITLE = 'Which test guards which rule'
TEST = re.compile(r'``([\w-]+):(\w+)``')


def rows(text):
    """(rule, [(file, test)]) of the section's list; None without it."""
    section = re.search(rf'^{TITLE}\n-+\n(.*?)(?=^\S[^\n]*\n-+$|\Z)', text,
                        re.M | re.S)
    if not section:
        return None
    return [(' '.join(TEST.sub('', row).split()), TEST.findall(row))
            for row in re.split(r'^- ', section.group(1), flags=re.M)[1:]]


def missing(tests, files):
    """What is wrong with each of the tests; files: {stem: [text, ...]}."""
    for file, test in tests:
        texts = files.get(file, [])
        if len(texts) != 1:
            yield f'{file}: {len(texts)} files of that name'
        elif not re.search(rf'\btest_{test}\b', texts[0]):
            yield f'{file} has no test_{test}'


def check(text, files):
    found = rows(text)
    if not found:
        yield f'no rules under "{TITLE}"'
        return
    for rule, tests in found:
        if not tests:
            yield f'no test of: {rule}'
        for wrong in missing(tests, files):
            yield f'{rule} {wrong}'


def main():
    files = {}
    for path in sorted(TOP.glob('tests/*/test*.*')) + \
            sorted(TOP.glob('tests/qtest/*-test.c')):
        files.setdefault(path.stem, []).append(
            path.read_text(encoding='utf-8'))
    wrong = list(check((TOP / DOC).read_text(encoding='utf-8'), files))
    for line in wrong:
        print(f'{DOC}: {line}')
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
