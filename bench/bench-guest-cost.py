#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What one more guest costs: as a thread of our process, and as one more
process of upstream's plain executable.

A guest is a pc of 16 MiB whose boot sector halts, under TCG, with a monitor.
Memory, threads and descriptors are the difference between N guests and one, a
guest; memory that several map counts for each its part (Pss), so a process of
its own pays nothing for the text that it shares.  Starts are timed one after
another, from the order to the monitor's word that the guest runs, and all at
once.  The guest's own RAM is in both sides alike: nothing is scheduled."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TOP / 'tests'), str(TOP / 'scripts'), str(TOP / 'bench')]

from figures import footprint, row, run, say, warm  # noqa: E402
from lib.machine import HALT, Process, boot_sector  # noqa: E402
from qmp.client import Qmp, QmpClosed, QmpError, QmpTimeout  # noqa: E402

PLAIN = TOP / 'build/qemu/qemu-system-x86_64'
MANY = 16
CROWD = 64
LIMIT_S = 120


def wait_running(path):
    """Until the monitor at @path says that its guest runs; its client."""
    deadline = time.monotonic() + LIMIT_S
    while not path.exists():
        if time.monotonic() > deadline:
            raise QmpTimeout(f'no {path} within {LIMIT_S} s')
        time.sleep(0.001)       # a look, a thousandth of what is timed
    qmp = Qmp(path, timeout=LIMIT_S)
    while qmp.command('query-status')['status'] != 'running':
        if time.monotonic() > deadline:
            raise QmpTimeout(f'{path}: not running within {LIMIT_S} s')
    return qmp


class Ours:
    """Guests of one process."""

    def __init__(self):
        self.process = Process()
        self.path = self.process.path
        self.monitors = []

    def order(self, name):
        self.process.add(name, self.process.guest_args(name))

    def pids(self):
        return [self.process.pid]

    def close(self):
        for qmp in self.monitors:
            qmp.close()
        self.process.close()


class Theirs:
    """Each guest a process."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix='memsched-')
        self.path = Path(self.folder.name)
        self.monitors = []
        self.processes = []

    def order(self, name):
        image = self.path / f'{name}.img'
        image.write_bytes(boot_sector(HALT).ljust(1 << 20, b'\0'))
        argv = [PLAIN, '-nodefaults', '-M', 'pc', '-accel', 'tcg', '-m', '16M',
                '-display', 'none', '-drive',
                f'file={image},format=raw,if=ide,snapshot=off', '-qmp',
                f'unix:{self.path}/{name}.qmp,server=on,wait=off']
        self.processes.append(subprocess.Popen(
            [str(a) for a in argv], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL))

    def pids(self):
        return [process.pid for process in self.processes]

    def close(self):
        for qmp in self.monitors:
            qmp.close()
        for process in self.processes:
            process.kill()
            process.wait()
        self.folder.cleanup()


def settled(side):
    """The footprint, once it has stood still for half a second: firmware that
    has not come to its boot sector takes memory."""
    deadline = time.monotonic() + LIMIT_S
    before, since = footprint(*side.pids()), time.monotonic()
    while time.monotonic() < since + 0.5:
        time.sleep(0.1)
        now = footprint(*side.pids())
        if abs(now['Pss'] - before['Pss']) > 64:
            before, since = now, time.monotonic()
        if time.monotonic() > deadline:
            raise QmpTimeout('the memory of guests that halt changes after '
                             f'{LIMIT_S} s')
    return now


def one_by_one(make, count):
    """(footprint of one more, [seconds of each start])"""
    side, seconds, first = make(), [], None
    try:
        for i in range(count):
            start = time.monotonic()
            side.order(f'g{i}')
            side.monitors.append(wait_running(side.path / f'g{i}.qmp'))
            seconds.append(time.monotonic() - start)
            if i == 0:
                first = settled(side)
        last = settled(side)
        return {what: (last[what] - first[what]) / (count - 1)
                for what in last}, seconds
    finally:
        side.close()


def at_once(make, count):
    """Seconds until the last of @count guests, ordered together, runs."""
    side = make()
    try:
        start = time.monotonic()
        for i in range(count):
            side.order(f'g{i}')
        for i in range(count):
            side.monitors.append(wait_running(side.path / f'g{i}.qmp'))
        return time.monotonic() - start
    finally:
        side.close()


def bench_one_more(count=MANY):
    warm(64 * count)
    ours, our_starts = one_by_one(Ours, count)
    warm(64 * count)
    theirs, their_starts = one_by_one(Theirs, count)
    variant = f'{count}-guests'
    row('one-more-guest-memory', variant, 'KiB', ours['Pss'], theirs['Pss'],
        '1x')
    row('one-more-guest-anonymous', variant, 'KiB', ours['Pss_Anon'],
        theirs['Pss_Anon'])
    row('one-more-guest-threads', variant, 'threads', ours['threads'],
        theirs['threads'])
    row('one-more-guest-descriptors', variant, 'descriptors', ours['fds'],
        theirs['fds'])
    row('one-more-guest-start', variant, 'ms',
        1e3 * statistics.median(our_starts),
        1e3 * statistics.median(their_starts), '1x')


def bench_crowd():
    bench_one_more(CROWD)


def bench_at_once():
    for count in (MANY, CROWD):
        row('guests-start-at-once', f'{count}-guests', 's',
            at_once(Ours, count), at_once(Theirs, count), '1x')


if __name__ == '__main__':
    say(f'guests of 16 MiB; {MANY} and {CROWD} of them')
    sys.exit(run((bench_one_more, bench_crowd, bench_at_once),
                 QmpClosed, QmpError, QmpTimeout))
