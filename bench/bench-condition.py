#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Which figure a program should size its cache by: what its own kernel says is
available, or the memory condition that the host tells.

Two guests of 768 MiB share 1 GiB.  In one a program (sized.c) keeps as large a
cache as its figure allows, and looks its pages up at a steady pace; 64 MiB are
to stay free.  In the other one another program needs 384 MiB for the first 15
seconds, and again from second 30 on.  Both ways use bx-follow's rule of sizing,
with and without the condition.  The scheduler has a swap file: without it, what
MemAvailable promises to both guests is more than there is, and both wait for
ever.

"stall" is the longest time that the first program waited for one look-up, or
for one entry of 256 KiB; "served" how many of the look-ups that were due were
answered in time, within a second; "cache" its mean size while the host has
room; "neighbour" how long the other program waits for its memory the second
time; "swapped" what went to the swap file meanwhile.  Writes
build/bench/condition-over-time.{csv,svg}; prints CSV lines as bench/bench.h
says, the rest to stderr."""

import csv
import statistics
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TOP / 'tests'), str(TOP / 'bench')]

import plot  # noqa: E402
from figures import row, run, say, warm  # noqa: E402
from realguests import background  # noqa: E402
from lib import guests  # noqa: E402
from lib.applications import PORT, agent_of, start_agent  # noqa: E402
from lib.guests import (GuestError, MIB, Process, QmpClosed,  # noqa: E402
                        QmpTimeout, wait_for)

OUT = TOP / 'build/bench'
GUEST_MIB = 768
POOL_MIB = 1024
NEED_MIB = 384
KEEP_MIB = 64
MOST_MIB = 640
RATE = 500              # sized.c's
FREE_S, AGAIN_S, END_S = 15, 30, 50
SWAP_MIB = 1024
# Not where /tmp may be memory.
SWAP = OUT / 'condition.swap'
SCHEDULER = (f'policy=idle-tax,interval=500,swap-file={SWAP},'
             f'swap-size={SWAP_MIB}M')
FIELDS = ['second', 'cache_mib', 'lookups', 'p99_us', 'max_us',
          'growth_max_us', 'dropped_mib']


class World:
    def __init__(self, process):
        self.process = process
        options = {'initramfs': 'initramfs-applications', 'extra': PORT,
                   'balloon': 'balloon-ex,free-page-reporting=on',
                   'minimum_mib': 128}
        self.a, self.b = (process.guest(n, GUEST_MIB, **options) for n in 'ab')
        for guest in (self.a, self.b):
            start_agent(guest, f'--keep-available={KEEP_MIB}M')
            wait_for('the host knows the agent',
                     lambda g=guest: agent_of(process, g))
        self.allocated = []     # (second, a's MiB, b's MiB)

    def look(self, start):
        self.allocated.append(
            (time.monotonic() - start, *(
                self.process.memory(n)['allocated'] / MIB for n in 'ab')))

    def watch_until(self, start, second):
        while time.monotonic() < start + second:
            self.look(start)
            time.sleep(0.25)

    def need(self, start):
        """Seconds until the other program has what it needs."""
        began = time.monotonic()
        self.b.run('need', 'eat', NEED_MIB, 'blind')
        while True:
            status = self.b.status('need', 120)
            if status['filled'] == status['pages'] > 0:
                return time.monotonic() - began
            if not status['alive'] or time.monotonic() > began + 120:
                raise GuestError('the other program did not get its memory')
            self.look(start)
            time.sleep(0.05)

    def story(self, by):
        start = time.monotonic()
        self.need(start)
        start = time.monotonic()
        self.allocated.clear()
        background(self.a, 'sized', f'sized {by} {KEEP_MIB} {MOST_MIB} {END_S}')
        self.watch_until(start, FREE_S)
        self.b.end('need')
        self.watch_until(start, AGAIN_S)
        waited = self.need(start)
        self.watch_until(start, END_S)
        lines = wait_for('the program', lambda: (
            text := self.a.sh('cat /run/sized.log', 120).splitlines()) and
            len(text) >= END_S and text, 120, 0.5)
        killed = int(self.a.sh('sed -n "s/^oom_kill //p" /proc/vmstat'))
        return [dict(zip(FIELDS, map(int, line.split())))
                for line in lines], waited, killed


def figures_of(seconds, waited, killed):
    longest = max(max(s['max_us'], s['growth_max_us']) for s in seconds) / 1e6
    answered = sum(s['lookups'] for s in seconds)
    return {
        'stall': ('s', longest),
        'p99-worst': ('ms', max(s['p99_us'] for s in seconds) / 1e3),
        'p99-median': ('ms', statistics.median(
            s['p99_us'] for s in seconds) / 1e3),
        'served': ('%', 100 * answered / (RATE * END_S)),
        'cache': ('MiB', statistics.mean(
            s['cache_mib'] for s in seconds[AGAIN_S - 5:AGAIN_S])),
        'neighbour': ('s', waited),
        'oom-kills': ('kills', killed)}


def write_stories(stories):
    with open(OUT / 'condition-over-time.csv', 'w', encoding='utf-8',
              newline='') as out:
        writer = csv.writer(out, lineterminator='\n')
        writer.writerow(['variant'] + FIELDS)
        for by, (seconds, _) in stories.items():
            writer.writerows([by] + [s[f] for f in FIELDS] for s in seconds)

    def curve(of):
        return {by: [(s['second'], of(s)) for s in seconds]
                for by, (seconds, _) in stories.items()}
    beside = {by: [(s, b) for s, _, b in looks]
              for by, (_, looks) in stories.items()}
    plot.write(OUT / 'condition-over-time.svg',
               'a cache sized by one figure or the other', [
                   plot.Panel('its size, MiB', curve(lambda s: s['cache_mib']),
                              low=0),
                   plot.Panel('longest wait of each second, ms', curve(
                       lambda s: max(s['max_us'], s['growth_max_us'], 10)
                       / 1e3), log=True),
                   plot.Panel('the other guest has, MiB', beside, low=0)],
               [(FREE_S, 'the other needs less'), (AGAIN_S, 'and more')])


def bench_condition(ways):
    stories, base = {}, {}
    OUT.mkdir(parents=True, exist_ok=True)
    for by in ways:
        warm(POOL_MIB)
        SWAP.unlink(missing_ok=True)
        with Process(POOL_MIB, SCHEDULER) as process:
            world = World(process)
            seconds, waited, killed = world.story(by)
            process.check()
            out = process.scheduler()['last-resort']['out'] / MIB
        figures = figures_of(seconds, waited, killed)
        figures['swapped'] = ('MiB', out)
        for what, (unit, value) in figures.items():
            row(f'sized-{what}', by, unit, value, base.get(what),
                less=unit in ('s', 'ms', 'kills') or what == 'swapped')
        base = base or {what: value for what, (_, value) in figures.items()}
        stories[by] = (seconds, world.allocated)
        write_stories(stories)


if __name__ == '__main__':
    guests.ensure_image()
    chosen = sys.argv[1:] or ['available', 'condition']
    say(f'guests of {GUEST_MIB} MiB under TCG share {POOL_MIB} MiB')

    def bench():
        bench_condition(chosen)
    sys.exit(run([bench], GuestError, QmpClosed, QmpTimeout))
