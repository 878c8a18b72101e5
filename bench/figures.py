# SPDX-License-Identifier: GPL-2.0-or-later
"""What the benches in Python share: the lines that they print (bench.h has
the format), clocks, and what a process costs."""

import mmap
import os
import signal
import statistics
import sys
import time
from pathlib import Path

TICK = os.sysconf('SC_CLK_TCK')


def say(text):
    print(text, file=sys.stderr, flush=True)


def row(name, variant, unit, value, baseline=None, mark='', less=True):
    """@less: less is better, which decides what the ratio is."""
    ratio = ''
    if baseline and value:
        ratio = f'{baseline / value if less else value / baseline:.3g}'
    base = '' if baseline is None else f'{baseline:.6g}'
    print(f'{name},{variant},{unit},{value:.6g},{base},{ratio},{mark}',
          flush=True)


def warm(mib):
    """Touch as much memory as what is measured will use, and give it back:
    what a virtual machine has not used for long fills at a twentieth of the
    speed."""
    for _ in range(2):
        with mmap.mmap(-1, mib << 20, flags=mmap.MAP_PRIVATE |
                       mmap.MAP_ANONYMOUS) as memory:
            memory.madvise(mmap.MADV_HUGEPAGE)
            for at in range(0, mib << 20, mmap.PAGESIZE):
                memory[at] = 1


def medians(rounds):
    """[{what: figure}] to {what: median}."""
    return {what: statistics.median(r[what] for r in rounds)
            for what in rounds[0]}


def cpu_seconds(*pids):
    total = 0
    for pid in pids:
        text = Path(f'/proc/{pid}/stat').read_text(encoding='ascii')
        fields = text.rsplit(')', 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


class Clock:
    """Seconds since it was made: of the wall, of the processes' CPU."""

    def __init__(self, *pids):
        self.pids = pids
        self.start = self._read()

    def _read(self):
        return time.monotonic(), cpu_seconds(*self.pids)

    def lap(self):
        return tuple(now - then for now, then in zip(self._read(),
                                                     self.start))


def footprint(*pids):
    """KiB, threads and descriptors of some processes together.  Pss: what
    several map counts for each its part; Pss_Anon: what no file backs."""
    total = dict.fromkeys(('Pss', 'Pss_Anon', 'threads', 'fds'), 0)
    for pid in pids:
        proc = Path(f'/proc/{pid}')
        for line in (proc / 'smaps_rollup').read_text().splitlines():
            key, _, rest = line.partition(':')
            if key in total:
                total[key] += int(rest.split()[0])
        total['threads'] += len(list((proc / 'task').iterdir()))
        total['fds'] += len(list((proc / 'fd').iterdir()))
    return total


def run(benches, *errors):
    """Each bench, also after one has failed with one of @errors.  Who is told
    to end ends the guests that it has started, as upon a key."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    failed = 0
    for bench in benches:
        try:
            bench()
        except errors as error:
            say(f'{bench.__name__}: {type(error).__name__}: {error}')
            failed = 1
    return failed
