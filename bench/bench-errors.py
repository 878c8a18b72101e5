#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures of protection against memory errors, through a real guest.

slow-down: what a program in the guest gets done a second, protected and
settled, against the same guest before: one that writes pages at random, one
that reads all of its memory over and over; and CPU seconds a second of an idle
guest's process.  repair: from the signal to the access that goes on, pages at
random, as the scheduler's own clock has it.  coverage: of what the guest holds,
so many seconds after the command, at the rate that is the default.  memory:
parity for what is covered; the baseline is a mirror, which takes as much again.
Prints CSV lines as bench/bench.h says, the rest to stderr."""

import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TOP / 'tests'), str(TOP / 'bench')]

from figures import cpu_seconds, row, run, say, warm  # noqa: E402
from lib import guests  # noqa: E402
from lib.errors import Errors  # noqa: E402
from lib.guests import (GuestError, MIB, Process, QmpClosed,  # noqa: E402
                        QmpTimeout)

GUEST_MIB = 384
TESTED_MIB = 96
SECONDS = 15
REPAIRS = 200
KINDS = (('xor', 8), ('xor', 16), ('pq', 8), ('pq', 16))
FAST = {'rate': 2 << 30, 'cool': 100}


class Bench:
    def __init__(self):
        self.process = Process(1024, 'policy=static,allow-inject=on')

    def __enter__(self):
        try:
            self.guest = self.process.guest('a', GUEST_MIB)
            self.errors = Errors(self.process, self.guest, 1)
        except BaseException:
            self.process.close()
            raise
        return self

    def __exit__(self, *exc):
        self.process.close()

    def settle(self):
        """Nothing joins any more, or nearly so."""
        last = -1
        while (now := self.errors.state()['joined']) > last + 512:
            last = now
            time.sleep(2)

    def rate(self, key, name='memtest'):
        before, start = self.guest.status(name)[key], time.monotonic()
        time.sleep(SECONDS)
        return (self.guest.status(name)[key] - before) / \
            (time.monotonic() - start)

    def write_heavy(self):
        return self.rate('ops')

    def read_heavy(self):
        start, sweeps = time.monotonic(), 0
        while time.monotonic() < start + SECONDS:
            self.guest.sweep()
            sweeps += 1
        return sweeps / (time.monotonic() - start)

    def idle(self):
        pid = self.process.process.pid
        before, start = cpu_seconds(pid), time.monotonic()
        time.sleep(SECONDS)
        return (cpu_seconds(pid) - before) / (time.monotonic() - start)


def bench_slowdown():
    with Bench() as bench:
        before = {'idle': bench.idle()}
        bench.guest.memtest(TESTED_MIB, seed=1, rest_us=0)
        before['write-heavy'] = bench.write_heavy()
        before['read-heavy'] = bench.read_heavy()
        for scheme, size in KINDS:
            bench.errors.protect('none')
            bench.errors.protect(scheme, group_size=size)
            bench.settle()
            name = f'{scheme}-{size}'
            for what, measure in (('write-heavy', bench.write_heavy),
                                  ('read-heavy', bench.read_heavy)):
                row(f'protected-{what}', name, '1/s', measure(), before[what],
                    '0.95x', less=False)
        bench.guest.end('memtest')
        bench.settle()
        row('protected-idle', 'pq-16', 'cpu', bench.idle(), before['idle'])


def bench_repair():
    for scheme, each in (('xor', 1), ('pq', 1), ('pq', 2)):
        with Bench() as bench:
            errors = bench.errors
            bench.guest.memtest(TESTED_MIB, seed=1, rest_us=50000)
            errors.protect(scheme, **FAST)
            errors.wait_covered(60)
            while sum(errors.kinds.values()) < REPAIRS:
                errors.meet(errors.break_some(25, each))
            state = errors.state()
            if state['lost-pages']:
                raise GuestError(f'{state["lost-pages"]} pages lost')
            name = f'{scheme}{"-pairs" * (each - 1)}'
            row('repair-p50', name, 'us', state['repair']['p50-ns'] / 1000,
                mark='1000')
            row('repair-p99', name, 'us', state['repair']['p99-ns'] / 1000)
            bench.guest.sweep()


def bench_coverage():
    with Bench() as bench:
        bench.guest.memtest(TESTED_MIB, seed=1, rest_us=20000)
        bench.errors.protect('xor')
        start = time.monotonic()
        for second in (1, 2, 4, 8, 16, 30):
            time.sleep(max(0, start + second - time.monotonic()))
            row('coverage', f'{second}s', '%', bench.errors.covered())
        bench.errors.wait_covered(50)
        state = bench.errors.state()
        cost = state['parity'] + state['bookkeeping']
        row('protection-memory', 'xor-8', '%',
            100 * cost / state['coverage']['parity'], 100)


if __name__ == '__main__':
    guests.ensure_image()
    only = sys.argv[1:]
    benches = [bench for bench in (bench_slowdown, bench_repair,
                                   bench_coverage)
               if not only or bench.__name__.removeprefix('bench_') in only]
    say(f'a guest of {GUEST_MIB} MiB under TCG, {TESTED_MIB} MiB under test')
    warm(1024)
    sys.exit(run(benches, GuestError, QmpClosed, QmpTimeout))
