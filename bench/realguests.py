# SPDX-License-Identifier: GPL-2.0-or-later
"""What the benches of real guests share: whose CPU seconds, upstream's
balloon, pages that the host maps whole, and programs in the background."""

import re
import time
from pathlib import Path

from figures import TICK
from lib.guests import wait_for

# A vCPU's thread must be known by its name.
NAMED = ['-name', 'guest,debug-threads=on']


def tasks(emulator):
    """(whether it is a vCPU, fields of its stat, its folder) of each thread"""
    for task in Path(f'/proc/{emulator.processes[0].pid}/task').iterdir():
        try:
            name, _, rest = (task / 'stat').read_text().rpartition(')')
        except (FileNotFoundError, ProcessLookupError):
            continue            # it has just ended
        yield 'CPU' in name, rest.split(), task


def host_side(*emulators):
    """CPU seconds of the processes outside guests' code.  To the nanosecond,
    but for what vCPUs spend in the kernel: that is counted in ticks."""
    total = 0
    for emulator in emulators:
        for is_vcpu, fields, task in tasks(emulator):
            if is_vcpu:
                total += int(fields[12]) / TICK
            else:
                total += int((task / 'schedstat').read_text().split()[0]) / 1e9
    return total


def guest_side(*emulators):
    """CPU seconds of guests' code, in ticks."""
    return sum(int(fields[11]) / TICK for emulator in emulators
               for is_vcpu, fields, _ in tasks(emulator) if is_vcpu)


class Stopwatch:
    """Of the wall, of the host's side and of the guests' CPUs."""

    def __init__(self, *emulators):
        self.emulators = emulators
        self.figures = {}
        self.start = time.monotonic()
        self.host = host_side(*emulators)
        self.guest = guest_side(*emulators)

    def lap(self, what):
        self.figures |= {
            f'{what}-time': time.monotonic() - self.start,
            f'{what}-host-side': host_side(*self.emulators) - self.host,
            f'{what}-guest-side': guest_side(*self.emulators) - self.guest}


def stock_balloon(guest, size):
    """Through upstream's balloon, to its end."""
    guest.qmp.command('balloon', value=size)
    wait_for('the balloon', lambda: (
        guest.qmp.command('query-balloon')['actual'] == size), 120, 0.005)


def mapped(emulator, base, size):
    """(bytes, of these in whole 2 MiB) that the process maps of its own
    memory from @base on; @base None: of the area that is its guest's RAM."""
    areas, area = [], None
    path = Path(f'/proc/{emulator.processes[0].pid}/smaps')
    for line in path.read_text().splitlines():
        head = re.match(r'([0-9a-f]+)-([0-9a-f]+) ', line)
        if head:
            area = {'start': int(head[1], 16), 'end': int(head[2], 16)}
            areas.append(area)
        elif line.startswith(('Anonymous:', 'AnonHugePages:')):
            key, value, _ = line.split()
            area[key] = int(value) << 10
    if base is None:
        inside = [max((a for a in areas if 'Anonymous:' in a),
                      key=lambda a: (a['end'] - a['start'] >= size,
                                     a['Anonymous:']))]
    else:
        inside = [a for a in areas if a['start'] < base + size and
                  base < a['end']]
    return (sum(a['Anonymous:'] for a in inside),
            sum(a['AnonHugePages:'] for a in inside))


def background(guest, name, command):
    """Runs on in the guest; what it prints is in /run/NAME.log."""
    guest.sh(f'{command} >/run/{name}.log 2>&1 & echo $! >/run/{name}.pid')


def end_background(guest, name):
    guest.sh(f'kill $(cat /run/{name}.pid); true')
