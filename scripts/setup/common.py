# SPDX-License-Identifier: GPL-2.0-or-later
"""What every step of the set-up shares: paths, messages, running programs."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
BUILD = TOP / 'build'
LOGS = BUILD / 'logs'
TOOLS = BUILD / 'tools'
QEMU_SRC = BUILD / 'qemu-src'
QEMU_BUILD = BUILD / 'qemu'
OWN_BUILD = BUILD / 'memsched'


class SetupError(Exception):
    """A failure whose text is one sentence that says what to do."""


def say(text):
    print(f'configure: {text}', flush=True)


def run_logged(what, argv, log, hint, **kwargs):
    """Run argv with its output in build/logs/LOG; on failure show the log's
    end and stop with the hint."""
    LOGS.mkdir(parents=True, exist_ok=True)
    path = LOGS / log
    say(f'{what} (log: {path.relative_to(TOP)})')
    start = time.monotonic()
    with open(path, 'w', encoding='utf-8') as out:
        code = subprocess.call([str(a) for a in argv], stdout=out,
                               stderr=subprocess.STDOUT,
                               stdin=subprocess.DEVNULL, **kwargs)
    if code:
        lines = path.read_text(errors='replace').splitlines()
        print('\n'.join(lines[-20:]), file=sys.stderr)
        raise SetupError(f'{what} failed: {hint}')
    seconds = time.monotonic() - start
    if seconds > 2:
        say(f'  done in {seconds:.0f} s')


def output_of(argv, **kwargs):
    """Standard output of a program, or None where it fails or is missing."""
    try:
        return subprocess.run([str(a) for a in argv], check=True, text=True,
                              stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, **kwargs).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def read_json(path):
    try:
        return json.loads(Path(path).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None


def write_json(path, value):
    write_if_changed(path, json.dumps(value, indent=2, sort_keys=True) + '\n')


def write_if_changed(path, data):
    """Write only what differs: the time of a file decides what is rebuilt."""
    path = Path(path)
    raw = data.encode() if isinstance(data, str) else data
    if path.is_file() and path.read_bytes() == raw:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + '.part')
    part.write_bytes(raw)
    os.replace(part, path)
    return True


def link_if_changed(link, target):
    """A symbolic link, made anew only where it leads elsewhere."""
    link = Path(link)
    if link.is_symlink() and os.readlink(link) == str(target):
        return False
    if link.is_symlink() or link.is_file():
        link.unlink()
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
    return True


def version_key(text):
    """10.0.13 as (10, 0, 13)."""
    return tuple(int(part) for part in text.split('.') if part.isdigit())
