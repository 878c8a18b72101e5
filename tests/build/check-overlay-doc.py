#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/devel/overlay.rst names every upstream file that a patch touches and
every link-time wrap, and patches stay what they are meant to be.  TAP."""

import re
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(TOP / 'scripts'))

from setup import overlay  # noqa: E402

# What only registers is short; an entry of a .hx table takes twelve lines.
MAX_ADDED = 50


def added(patch):
    return len(re.findall(r'^\+(?!\+\+ )', patch.read_text(), re.M))


def reasons():
    """What is wrong, by test."""
    text = (TOP / 'docs/devel/overlay.rst').read_text(encoding='utf-8')
    patches = overlay.series()
    files = sorted({n for p in patches for n in overlay.files_of(p)})
    listed = {p.name for p in patches}
    wraps = [line.split()[0] for line in
             (TOP / 'system/wraps.list').read_text().splitlines()
             if line.strip() and not line.startswith('#')]
    return {
        'every patched file is in overlay.rst':
            [name for name in files if f'``{name}``' not in text],
        'every wrap is in overlay.rst':
            [name for name in wraps if f'``{name}``' not in text],
        'every patch is in the series':
            [p.name for p in (TOP / 'patches').glob('*.patch')
             if p.name not in listed],
        f'no patch adds more than {MAX_ADDED} lines':
            [p.name for p in patches if added(p) > MAX_ADDED],
        'every patch says why':
            [p.name for p in patches
             if len(p.read_text().partition('diff --git')[0].strip()) < 40],
    }


def main():
    found = reasons()
    print(f'1..{len(found)}')
    for number, (name, bad) in enumerate(found.items(), 1):
        print(f'{"not ok" if bad else "ok"} {number} - {name}')
        for item in bad:
            print(f'# {item}')
    return 1 if any(found.values()) else 0


if __name__ == '__main__':
    sys.exit(main())
