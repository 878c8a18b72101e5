# SPDX-License-Identifier: GPL-2.0-or-later
"""Symbols of the emulator's copies, for gdb.

Each guest runs a copy that the dynamic loader knows under a name in
/proc/self/fd that leads nowhere in the debugger, and opening it may hang.
So start gdb this way:

    gdb -iex "set auto-solib-add off" -ex "source scripts/gdb-instances.py" \\
        -p PID -ex instances

`instances` finds every place where the text of libqemu-system-x86_64.so is
mapped and loads the file's symbols there."""

import gdb

NAME = 'libqemu-system-x86_64.so'


def text_bases(pid):
    """(address of file offset 0, file) of each copy, instance 0's included."""
    found = {}
    with open(f'/proc/{pid}/maps', encoding='utf-8') as maps:
        for line in maps:
            words = line.split(None, 5)
            if len(words) < 6 or not words[5].rstrip().endswith(NAME):
                continue
            if int(words[2], 16) == 0:
                start = int(words[0].split('-')[0], 16)
                found[start] = words[5].rstrip()
    return sorted(found.items())


class Instances(gdb.Command):
    """Load the symbols of every copy of the emulator in the process."""

    def __init__(self):
        super().__init__('instances', gdb.COMMAND_FILES)

    def invoke(self, argument, from_tty):
        pid = gdb.selected_inferior().pid
        if not pid:
            raise gdb.GdbError('attach to qemu-system-x86_64 first')
        copies = text_bases(pid)
        for base, path in copies:
            gdb.execute(f'add-symbol-file {path} -o {base:#x}',
                        to_string=True)
        print(f'{len(copies)} copies of {NAME}')


Instances()
