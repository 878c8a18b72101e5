# SPDX-License-Identifier: GPL-2.0-or-later
"""QMP examples of a document: what is sent (->) and what comes (<-)."""

import json
import re
from dataclasses import dataclass

START = re.compile(r'^[\s#]*(->|<-)\s+(.*)$')
LEADER = re.compile(r'^\s*#')


@dataclass
class Example:
    sent: bool          # -> ; else it is an answer or an event
    message: object
    place: str          # file:line


def examples(path, name=None):
    """Every message of the file, in its order.  One may go over several
    lines; it ends where it is complete JSON."""
    found, text, start = [], None, None
    lines = path.read_text(encoding='utf-8').splitlines()
    for number, line in enumerate(lines, 1):
        match = START.match(line)
        if text is None and not match:
            continue
        if text is None:
            start = (match.group(1) == '->', f'{name or path.name}:{number}')
            text = match.group(2)
        elif match or not line.strip(' #'):
            raise ValueError(f'{start[1]}: example is not complete JSON')
        else:
            text += '\n' + LEADER.sub('', line)
        try:
            found.append(Example(start[0], json.loads(text), start[1]))
        except json.JSONDecodeError:
            continue
        text = None
    if text is not None:
        raise ValueError(f'{start[1]}: example is not complete JSON')
    return found
