#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Files and functions that have grown too long to be read at one sitting.

The aim is a file of 600 lines, a function of 60 lines and 6 parameters; the
limits here are a little wider, so that nobody is stopped over one line.  What
has a good reason to be longer is in EXCEPTIONS; one that no longer applies is
an error too, so the list stays short."""

import ast
import re
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
MAX_FILE_LINES = 700
MAX_FUNCTION_LINES = 80
MAX_PARAMETERS = 7

# {file, or file:function: why it may be longer}
QAPI = 'the QAPI generator asks for a parameter a member of the command'
EXCEPTIONS = {
    'monitor/qmp-memsched.c:qmp_memsched_reallocate': QAPI,
    'monitor/qmp-memsched.c:qmp_memsched_set_guest': QAPI,
    'monitor/qmp-memsched.c:qmp_memsched_set': QAPI,
    'tests/lib/guests.py:__init__':
        'options of a guest, each with its default, given by name',
    'tests/integration/test-tags.c':
        'one driver of pretended applications, many short cases of it',
}


def c_parameters(head):
    """How many parameters the last parenthesis of a function's head holds."""
    depth, end = 0, head.rfind(')')
    if end < 0:
        return 0
    for start in range(end, -1, -1):
        depth += (head[start] == ')') - (head[start] == '(')
        if depth == 0:
            break
    inside = head[start + 1:end].strip()
    if inside in ('', 'void'):
        return 0
    depth = commas = 0
    for char in inside:
        depth += (char == '(') - (char == ')')
        commas += char == ',' and depth == 0
    return commas + 1


def c_functions(text):
    """(name, lines, parameters) of each, as QEMU's style lays them out: the
    opening and the closing brace stand alone, in the first column."""
    # Comments keep their lines.
    text = re.sub(r'/\*.*?\*/', lambda m: re.sub(r'[^\n]', ' ', m.group()),
                  text, flags=re.DOTALL)
    lines = text.split('\n')
    for start, line in enumerate(lines):
        if line.rstrip() != '{':
            continue
        first = start
        while first > 0 and lines[first - 1].strip() and \
                not re.match(r'[}#]|.*;\s*$', lines[first - 1]):
            first -= 1
        head = ' '.join(lines[first:start])
        name = re.search(r'(\w+)\s*\(', head)
        if not name:
            continue
        try:
            end = next(i for i in range(start, len(lines))
                       if lines[i].startswith('}'))
        except StopIteration:
            continue
        yield name.group(1), end - first + 1, c_parameters(head)


def python_functions(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            names = [a.arg for a in node.args.posonlyargs + node.args.args +
                     node.args.kwonlyargs]
            count = len([n for n in names if n not in ('self', 'cls')])
            yield node.name, node.end_lineno - node.lineno + 1, count


def problems(name, text):
    """(what the exception would be named, what is wrong)"""
    lines = text.count('\n')
    if lines > MAX_FILE_LINES:
        yield name, f'{name}: {lines} lines, at most {MAX_FILE_LINES}'
    functions = c_functions if name.endswith(('.c', '.h')) else \
        python_functions
    for function, length, parameters in functions(text):
        where = f'{name}:{function}'
        if length > MAX_FUNCTION_LINES:
            yield where, f'{where}: {length} lines, at most ' \
                f'{MAX_FUNCTION_LINES}'
        if parameters > MAX_PARAMETERS:
            yield where, f'{where}: {parameters} parameters, at most ' \
                f'{MAX_PARAMETERS}'


def check(sources, exceptions):
    """@sources: pairs of name and text."""
    used = set()
    for name, text in sources:
        for where, message in problems(name, text):
            if where in exceptions:
                used.add(where)
            else:
                yield message
    for where in sorted(set(exceptions) - used):
        yield f'scripts/lint-length.py: {where} needs no exception any more'


def is_python(path):
    if path.suffix:
        return path.suffix == '.py'
    with open(path, 'rb') as file:
        return re.match(rb'#!.*python', file.readline()) is not None


def sources():
    names = subprocess.run(['git', '-C', str(TOP), 'ls-files', '-co',
                            '--exclude-standard'], check=True, text=True,
                           stdout=subprocess.PIPE).stdout.splitlines()
    for name in names:
        path = TOP / name
        if path.is_file() and not path.is_symlink() and \
                (path.suffix in ('.c', '.h') or is_python(path)):
            yield name, path.read_text(encoding='utf-8')


def main():
    bad = list(check(sources(), EXCEPTIONS))
    print('\n'.join(bad))
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
