#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures through real guests: a transfer of 512 MiB, the taker idle and under
a memory test, a bystander's speed meanwhile, and the time of a boot.  The other
ways to move memory are bench-ways.py's.

The baseline is upstream's executable, a process a guest, its virtio-balloon
inflated in one, then deflated in the other.

"given": until the giver has given and, here, the memory is mapped in the
taker; elsewhere, until the taker may use it, which maps nothing.  "used": and
a program in the taker has touched as much.  "time" is wall clock, which guests
under TCG fill with their own work: their kernels allocate, clear, list and
free each page, on both sides alike.  "host-side" is the CPU seconds of
everything but the guests' own code: all threads but vCPUs, and what vCPUs
spend in the host's kernel; "guest-side" of that code.  Prints CSV lines as
bench/bench.h says, the rest to stderr."""

import statistics
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TOP / 'tests'), str(TOP / 'bench')]

from figures import medians, row, run, say, warm  # noqa: E402
from realguests import NAMED, Stopwatch, stock_balloon  # noqa: E402
from lib import guests  # noqa: E402
from lib.guests import (GuestError, MIB, Process, QmpClosed,  # noqa: E402
                        QmpTimeout, StockProcess, wait_for)

MOVE_MIB = 512
BESIDE_MIB = 128        # a transfer beside which a bystander is looked at
GUEST_MIB = 1024
BOOT_MIB = 512
ROUNDS = 3
BOOTS = 9
MARKED = ('given-time', 'given-host-side', 'used-host-side')


def touch(guest):
    guest.run('user', 'eat', MOVE_MIB, 'blind')
    wait_for(f'{guest.name} uses it', lambda: (
        (s := guest.status('user'))['filled'] == s['pages'] > 0), 120, 0.01)


def make_busy(guest, busy):
    if busy:
        guest.memtest(64, 1, 0)


# ---- a transfer ----

def ours_once(busy):
    warm(2 * GUEST_MIB + 512)
    with Process(2 * GUEST_MIB + 512) as process:
        a = process.guest('a', GUEST_MIB, extra=NAMED)
        b = process.guest('b', GUEST_MIB, extra=NAMED)
        make_busy(b, busy)
        a.touch_and_free(MOVE_MIB + 64)
        watch = Stopwatch(process)
        transfer = process.move(a, b, MOVE_MIB, limit=120)
        watch.lap('given')
        if transfer['state'] != 'completed':
            raise GuestError(f'transfer {transfer["state"]}: '
                             f'{transfer.get("reason")}')
        touch(b)
        watch.lap('used')
        process.check()
    return watch.figures


def balloon_once(busy):
    small = (GUEST_MIB - MOVE_MIB) * MIB
    warm(2 * GUEST_MIB + 512)
    with StockProcess('a', GUEST_MIB, extra=NAMED) as first, \
            StockProcess('b', GUEST_MIB, extra=NAMED) as second:
        a, b = first.one, second.one
        stock_balloon(b, small)
        make_busy(b, busy)
        a.touch_and_free(MOVE_MIB + 64)
        watch = Stopwatch(first, second)
        stock_balloon(a, small)
        stock_balloon(b, GUEST_MIB * MIB)
        watch.lap('given')
        touch(b)
        watch.lap('used')
    return watch.figures


def bench_transfer():
    for variant, busy in (('idle', False), ('busy', True)):
        ours, stock = (medians([once(busy) for _ in range(ROUNDS)])
                       for once in (ours_once, balloon_once))
        for what, mine in ours.items():
            mark = '5x' if busy and what in MARKED else ''
            row(f'guests-transfer-{MOVE_MIB}MiB-{what}', variant, 's', mine,
                stock[what], mark)


# ---- a bystander ----

def speed(guest, during, least=3.0):
    """(pages a second of its memory test, times a second) while during() runs
    again and again."""
    before, start, times = guest.status('memtest')['ops'], time.monotonic(), 0
    while time.monotonic() < start + least:
        during()
        times += 1
    passed = time.monotonic() - start
    return (guest.status('memtest')['ops'] - before) / passed, times / passed


def bystander_figures(guest, there_and_back):
    guest.memtest(64, 3, 0)
    alone, _ = speed(guest, lambda: time.sleep(0.2))
    beside, rate = speed(guest, there_and_back, 6.0)
    guest.sweep()
    return {'alone': alone, 'beside': 100 * beside / alone,
            'rate': 2 * BESIDE_MIB * rate}


def ours_bystander():
    with Process(2 * GUEST_MIB + 768) as process:
        a, b, c = (process.guest(n, GUEST_MIB if n != 'c' else 256)
                   for n in 'abc')
        for guest in (a, b):
            guest.touch_and_free(MOVE_MIB)

        def back_and_forth():
            for giver, taker in ((a, b), (b, a)):
                process.move(giver, taker, BESIDE_MIB)
        return bystander_figures(c, back_and_forth)


def stock_bystander():
    with StockProcess('a', GUEST_MIB) as first, \
            StockProcess('b', GUEST_MIB) as second, \
            StockProcess('c', 256) as third:
        a, b = first.one, second.one
        for guest in (a, b):
            guest.touch_and_free(MOVE_MIB)
        small = (GUEST_MIB - BESIDE_MIB) * MIB
        stock_balloon(b, small)

        def back_and_forth():
            for giver, taker in ((a, b), (b, a)):
                stock_balloon(giver, small)
                stock_balloon(taker, GUEST_MIB * MIB)
        return bystander_figures(third.one, back_and_forth)


def bench_bystander():
    """The guests that give and take run on the same CPUs: what the bystander
    loses to them it loses with upstream's balloon too, the baseline."""
    rounds = []
    for _ in range(ROUNDS):
        # In turns: a machine that gets slower gets so for both.
        rounds.append((ours_bystander(), stock_bystander()))
    ours, stock = (medians([r[side] for r in rounds]) for side in range(2))
    row('guests-bystander-no-transfer', 'tcg', 'pages/s', ours['alone'],
        stock['alone'], '0.99x', less=False)
    row('guests-bystander-transfers', 'tcg', '%', ours['beside'],
        stock['beside'], less=False)
    row('guests-bystander-transfers-rate', 'tcg', 'MiB/s', ours['rate'],
        stock['rate'], less=False)


# ---- a boot ----

def seconds_to_boot(emulator, guest, start):
    """The guest's first process says when it runs; it is listened for from
    the moment that there is a line to listen on."""
    wait_for('the monitor', lambda: guest.qmp_path.exists() or
             emulator.processes[0].poll() is not None, step=0.001)
    guest.connect()
    guest.wait_ready()
    return time.monotonic() - start


def ours_boot():
    with Process(GUEST_MIB) as process:
        guest = guests.Guest('a', process.folder, BOOT_MIB)
        start = time.monotonic()
        process.start(guest)
        return seconds_to_boot(process, guest, start)


def stock_boot():
    start = time.monotonic()
    with StockProcess('a', BOOT_MIB, connect=False) as process:
        return seconds_to_boot(process, process.one, start)


def bench_boot():
    """From the command, or the start of the process, to the start of the
    guest's first process."""
    mine, theirs = [], []
    for _ in range(BOOTS):
        warm(2 * GUEST_MIB)
        mine.append(ours_boot())
        warm(2 * GUEST_MIB)
        theirs.append(stock_boot())
    row('guest-boot', 'median', 's', statistics.median(mine),
        statistics.median(theirs), '1x')
    row('guest-boot', 'best', 's', min(mine), min(theirs))


if __name__ == '__main__':
    guests.ensure_image()
    only = sys.argv[1:]
    benches = [bench for bench in (bench_boot, bench_transfer, bench_bystander)
               if not only or bench.__name__.removeprefix('bench_') in only]
    say(f'transfers of {MOVE_MIB} MiB, guests of {GUEST_MIB} MiB under TCG')
    sys.exit(run(benches, GuestError, QmpClosed, QmpTimeout))
