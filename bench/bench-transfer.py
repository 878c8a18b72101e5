#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures through real guests: a transfer of 512 MiB against upstream's balloon
in two processes, a bystander's speed meanwhile, and the time of a boot.

Guests run under TCG, whose share of a transfer (the guest kernel allocates,
lists and frees each page) is the same on both sides; host CPU seconds leave
nothing out.  "given": until the giver's balloon has its size and, here, the
memory is mapped in the taker; with upstream, until the taker's balloon has
shrunk, which maps nothing.  "used": and a program in the taker has touched as
much memory.  Prints CSV lines as bench/bench.h says, the rest to stderr."""

import os
import statistics
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'tests'))

from lib import guests  # noqa: E402
from lib.guests import (GuestError, MIB, Process, StockProcess,  # noqa: E402
                        wait_for)

MOVE_MIB = 512
GUEST_MIB = 1024
ROUNDS = 3
BOOTS = 5
TICK = os.sysconf('SC_CLK_TCK')


def say(text):
    print(text, file=sys.stderr, flush=True)


def row(name, variant, unit, value, baseline=None, mark='', better=None):
    """better: 'less' or 'more', for the ratio."""
    ratio = ''
    if baseline:
        ratio = baseline / value if better == 'less' else value / baseline
        ratio = f'{ratio:.3g}'
    base = '' if baseline is None else f'{baseline:.6g}'
    print(f'{name},{variant},{unit},{value:.6g},{base},{ratio},{mark}',
          flush=True)


def cpu_seconds(*processes):
    total = 0
    for process in processes:
        text = Path(f'/proc/{process.pid}/stat').read_text(encoding='ascii')
        fields = text.rsplit(')', 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


class Clock:
    """Seconds of wall clock and of the processes' CPU."""

    def __init__(self, *processes):
        self.processes = processes
        self.start = self.read()

    def read(self):
        return time.monotonic(), cpu_seconds(*self.processes)

    def lap(self):
        return tuple(now - then for now, then in zip(self.read(), self.start))


def touch(guest):
    guest.run('user', 'eat', MOVE_MIB)
    wait_for(f'{guest.name} uses it', lambda: (
        (s := guest.status('user'))['filled'] == s['pages'] > 0), 120, 0.01)


def ours_once(busy):
    """((wall, cpu) given, (wall, cpu) used)"""
    with Process(2 * GUEST_MIB + 512) as process:
        a = process.guest('a', GUEST_MIB)
        b = process.guest('b', GUEST_MIB)
        if busy:
            b.memtest(64, 1, 0)
        a.touch_and_free(MOVE_MIB + 64)
        clock = Clock(process.process)
        transfer = process.move(a, b, MOVE_MIB, limit=120)
        given = clock.lap()
        if transfer['state'] != 'completed':
            raise GuestError(f'transfer {transfer["state"]}: '
                             f'{transfer.get("reason")}')
        touch(b)
        used = clock.lap()
        process.check()
    return given, used


def stock_balloon(guest, size):
    guest.qmp.command('balloon', value=size)
    wait_for('the balloon', lambda: (
        guest.qmp.command('query-balloon')['actual'] == size), 120, 0.005)


def stock_once(busy):
    small = (GUEST_MIB - MOVE_MIB) * MIB
    with StockProcess('a', GUEST_MIB) as first, \
            StockProcess('b', GUEST_MIB) as second:
        a, b = first.one, second.one
        stock_balloon(b, small)
        if busy:
            b.memtest(64, 1, 0)
        a.touch_and_free(MOVE_MIB + 64)
        clock = Clock(first.process, second.process)
        stock_balloon(a, small)
        stock_balloon(b, GUEST_MIB * MIB)
        given = clock.lap()
        touch(b)
        used = clock.lap()
    return given, used


def bench_transfer():
    for variant, busy in (('idle', False), ('busy', True)):
        ours = [ours_once(busy) for _ in range(ROUNDS)]
        stock = [stock_once(busy) for _ in range(ROUNDS)]
        for what, index in (('given', 0), ('used', 1)):
            for kind, part in (('time', 0), ('host-cpu', 1)):
                mine = statistics.median(r[index][part] for r in ours)
                theirs = statistics.median(r[index][part] for r in stock)
                mark = '5x' if (what, kind, busy) == ('given', 'time', True) \
                    else ''
                row(f'guests-transfer-{MOVE_MIB}MiB-{what}-{kind}', variant,
                    's', mine, theirs, mark, 'less')


def speed(guest, during, least=3.0):
    """Pages a second of its memory test, while during() runs again and
    again."""
    before, start = guest.status('memtest')['ops'], time.monotonic()
    while time.monotonic() < start + least:
        during()
    return (guest.status('memtest')['ops'] - before) / \
        (time.monotonic() - start)


def bench_bystander():
    """The guests that give and take run on the same CPUs: what the bystander
    loses to them it loses with upstream's balloon too, the baseline."""
    with Process(2 * GUEST_MIB + 768) as process:
        a, b, c = (process.guest(n, GUEST_MIB if n != 'c' else 256)
                   for n in 'abc')
        c.memtest(64, 3, 0)
        for guest in (a, b):
            guest.touch_and_free(MOVE_MIB)
        alone = speed(c, lambda: time.sleep(0.2))

        def back_and_forth():
            for giver, taker in ((a, b), (b, a)):
                process.move(giver, taker, 128)
        meanwhile = speed(c, back_and_forth, 6.0)
        c.sweep()
    with StockProcess('a', GUEST_MIB) as first, \
            StockProcess('c', 256) as third:
        c = third.one
        c.memtest(64, 3, 0)
        first.one.touch_and_free(MOVE_MIB)
        stock_alone = speed(c, lambda: time.sleep(0.2))

        def there_and_back():
            stock_balloon(first.one, (GUEST_MIB - 128) * MIB)
            stock_balloon(first.one, GUEST_MIB * MIB)
        stock_meanwhile = speed(c, there_and_back, 6.0)
    row('guests-bystander-no-transfer', 'tcg', 'pages/s', alone, stock_alone,
        '0.99x', 'more')
    row('guests-bystander-transfers', 'tcg', '%', 100 * meanwhile / alone,
        100 * stock_meanwhile / stock_alone, '', 'more')


def bench_boot():
    """From the command, or the start of the process, to an answer of the
    guest's first process."""
    mine, theirs = [], []
    for _ in range(BOOTS):
        with Process(GUEST_MIB) as process:
            start = time.monotonic()
            process.guest('a', 512)
            mine.append(time.monotonic() - start)
        start = time.monotonic()
        with StockProcess('a', 512):
            theirs.append(time.monotonic() - start)
    row('guest-boot', 'median', 's', statistics.median(mine),
        statistics.median(theirs), '1x', 'less')
    row('guest-boot', 'best', 's', min(mine), min(theirs), '', 'less')


def main():
    guests.ensure_image()
    failed = 0
    for bench in (bench_boot, bench_transfer, bench_bystander):
        try:
            bench()
        except GuestError as error:
            say(f'{bench.__name__}: {error}')
            failed = 1
    return failed


if __name__ == '__main__':
    sys.exit(main())
