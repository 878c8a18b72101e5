# SPDX-License-Identifier: GPL-2.0-or-later
"""Which shared objects a program needs, and where they are."""

import re
from pathlib import Path

from .common import SetupError, output_of

# Debian's folders of libraries for this architecture.
FOLDERS = ['lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu', 'lib64',
           'usr/lib64']


def needed(path):
    """Names of the shared objects that a file asks for, its interpreter
    among them."""
    dynamic = output_of(['readelf', '-Wd', str(path)])
    segments = output_of(['readelf', '-Wl', str(path)])
    if dynamic is None or segments is None:
        raise SetupError(f'{path} cannot be read as a program.')
    names = re.findall(r'\(NEEDED\).*\[(.+)\]', dynamic)
    return names + [Path(p).name for p in
                    re.findall(r'program interpreter: (\S+)\]', segments)]


def find(name, roots):
    for root in roots:
        for folder in FOLDERS:
            path = Path(root) / folder / name
            if path.exists():
                return path
    return None


def closure(programs, roots):
    """{name: path} of all that the programs need, looked for in the roots in
    their order."""
    found, left = {}, [(n, p) for p in programs for n in needed(p)]
    while left:
        name, wanted_by = left.pop()
        if name in found:
            continue
        path = find(name, roots)
        if path is None:
            raise SetupError(f'{name} is missing, which {wanted_by} needs.')
        found[name] = path
        left += [(n, path) for n in needed(path)]
    return found
