#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A cache server in a guest that the host takes memory from, and gives it back
to: hit rate and latency over time.

redis in a guest of 512 MiB, under look-ups at a steady pace (cacheload.c).
After 12 s the host moves 192 MiB from it to another guest, 20 s later back.

  application     redis follows the memory condition and gives its cache
                  (bx-follow redis --give)
  kernel-balloon  redis knows nothing, the guest's driver inflates; no swap
  swapping        the same, and the guest has a swap area on a disk image

"before", "short" and "after": 4 s after a change begins, until the next.
"p99" is the median of the seconds' 99th percentiles, "worst" the longest
look-up, "failed" those without an answer within a second.  "given" is what
the host got.  Writes build/bench/cache-over-time.{csv,svg}; prints CSV lines
as bench/bench.h says, the rest to stderr."""

import csv
import os
import statistics
import sys
import threading
import time
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TOP / 'tests'), str(TOP / 'bench')]

import plot  # noqa: E402
from figures import row, run, say, warm  # noqa: E402
from realguests import background  # noqa: E402
from lib import guests  # noqa: E402
from lib.applications import (PORT, agent_of, applications,  # noqa: E402
                              start_agent)
from lib.guests import (GuestError, MIB, Process, QmpClosed,  # noqa: E402
                        QmpTimeout, wait_for)

OUT = TOP / 'build/bench'
GUEST_MIB = 512
SERVER_MIB = 290        # what the server may have
KEYS = 40000            # 313 MiB of values
FILLED = 34000          # keys that are there at the start
VALUE_BYTES = 8000      # with its header a class of the allocator
RATE = int(os.environ.get('RATE', '250'))
TAKE_MIB = 192
TAKE_S, BACK_S, END_S = 12, 32, 52
SETTLE_S = 4            # not counted behind a change
DEADLINE_MS = 10000
REDIS = 'redis-cli -s /run/redis.sock'
FIELDS = ['second', 'lookups', 'hits', 'failed', 'p50_us', 'p99_us', 'max_us']


def serve(guest):
    background(guest, 'redis', 'redis-server --port 0 --unixsocket '
               '/run/redis.sock --save "" --appendonly no '
               '--enable-debug-command local '
               f'--maxmemory {SERVER_MIB}mb --maxmemory-policy allkeys-lru')
    wait_for('redis', lambda: guest.sh(f'{REDIS} ping || true').strip()
             == 'PONG')
    guest.sh(f'{REDIS} debug populate {FILLED} k {VALUE_BYTES}', 120)


def swap_on(guest):
    guest.sh('insmod /modules/virtio_blk.ko')
    wait_for('the disk', lambda: guest.sh(
        'test -b /dev/vda && echo yes || echo no').strip() == 'yes')
    guest.sh('mkswap /dev/vda >/dev/null && swapon /dev/vda')


def follow(process, guest):
    background(guest, 'follow', 'bx-follow redis --give --priority=0 '
               f'--min=16M --max={SERVER_MIB}M -a /run/redis.sock')
    wait_for('the host knows redis', lambda: [
        entry for entry in applications(process, guest).get('list', [])
        if entry['name'] == 'redis'])


def prepare(process, a, kind):
    serve(a)
    if kind == 'swapping':
        swap_on(a)
    if kind == 'application':
        # The agent gives little, so that it is the cache that is asked.
        start_agent(a, '--keep-available=64M', '--max-fraction=10')
        wait_for('the host knows the agent', lambda: agent_of(process, a))
        follow(process, a)


def moves(process, a, b, kind, start, found):
    """The host's side of the story, beside what the guest does."""
    try:
        time.sleep(max(start + TAKE_S - time.monotonic(), 0))
        source = 'application' if kind == 'application' else 'kernel'
        found['take'] = process.move(a, b, TAKE_MIB, source=source,
                                     deadline=DEADLINE_MS)
        time.sleep(max(start + BACK_S - time.monotonic(), 0))
        given = (found['take']['moved'] + found['take']['discarded']) // MIB
        if given:
            found['back'] = process.move(b, a, given, source='kernel',
                                         deadline=DEADLINE_MS)
    except (GuestError, QmpClosed, QmpTimeout, KeyError) as error:
        found['error'] = error


def disk(process):
    """As long as what the guest may have to put there."""
    path = process.folder / 'swap'
    with open(path, 'wb') as image:
        image.truncate(GUEST_MIB * MIB)
    return ['-drive', f'file={path},format=raw,if=none,id=swap,cache=none',
            '-device', 'virtio-blk,drive=swap']


def story(kind):
    """([{field: number} of each second], what the host found)"""
    warm(2 * GUEST_MIB)
    with Process(2 * GUEST_MIB + 256) as process:
        extra = PORT + (disk(process) if kind == 'swapping' else [])
        a = process.guest('a', GUEST_MIB, initramfs='initramfs-applications',
                          extra=extra)
        b = process.guest('b', GUEST_MIB, initramfs='initramfs-applications')
        prepare(process, a, kind)
        found = {}
        background(a, 'load', f'cacheload /run/redis.sock {KEYS} '
                   f'{VALUE_BYTES} {RATE} {END_S}')
        mover = threading.Thread(target=moves, args=(
            process, a, b, kind, time.monotonic(), found))
        mover.start()
        # The guest may have no memory left to start a shell with.
        mover.join(END_S + 60)
        lines = wait_for('the load', lambda: (
            text := a.sh('cat /run/load.log', 120).splitlines()) and
            len(text) >= END_S and text, 120, 0.5)
        process.check()
        found['oom'] = int(a.sh('sed -n "s/^oom_kill //p" /proc/vmstat'))
    if 'error' in found:
        raise GuestError(f'{kind}: {found["error"]}')
    return [dict(zip(FIELDS, map(int, line.split()))) for line in lines], found


def period(seconds, first, last):
    part = seconds[first + SETTLE_S:last]
    asked = sum(s['lookups'] for s in part) or 1
    return {'hit-rate': 100 * sum(s['hits'] for s in part) / asked,
            'p99': statistics.median(s['p99_us'] for s in part) / 1e3,
            'worst': max(s['max_us'] for s in seconds[first:last]) / 1e3,
            'failed': sum(s['failed'] for s in seconds[first:last])}


UNITS = {'hit-rate': '%', 'p99': 'ms', 'worst': 'ms', 'failed': 'lookups'}


def figures_of(kind, seconds, found):
    figures = {}
    for name, first, last in (('before', 0, TAKE_S), ('short', TAKE_S, BACK_S),
                              ('after', BACK_S, END_S)):
        for what, value in period(seconds, first, last).items():
            figures[f'{name}-{what}'] = (UNITS[what], value)
    take = found['take']
    figures['given'] = ('MiB', (take['moved'] + take['discarded']) / MIB)
    figures['oom-kills'] = ('kills', found['oom'])
    say(f'{kind}: {take["state"]}, {take.get("reason", "whole")}')
    return figures


def write_story(stories):
    with open(OUT / 'cache-over-time.csv', 'w', encoding='utf-8',
              newline='') as out:
        writer = csv.writer(out, lineterminator='\n')
        writer.writerow(['variant'] + FIELDS)
        for kind, seconds in stories.items():
            writer.writerows([kind] + [s[f] for f in FIELDS] for s in seconds)
    rate = {k: [(s['second'], 100 * s['hits'] / max(
        s['lookups'] + s['failed'], 1)) for s in v]
        for k, v in stories.items()}
    p99 = {k: [(s['second'], s['p99_us'] / 1e3) for s in v]
           for k, v in stories.items()}
    plot.write(OUT / 'cache-over-time.svg',
               'redis in a guest that gives memory',
               [plot.Panel('look-ups that hit, %', rate, low=0, high=100),
                plot.Panel('99th percentile, ms', p99, log=True)],
               [(TAKE_S, f'{TAKE_MIB} MiB asked for'), (BACK_S, 'given back')])


def bench_cache(kinds):
    stories, base = {}, {}
    OUT.mkdir(parents=True, exist_ok=True)
    for kind in kinds:
        seconds, found = story(kind)
        stories[kind] = seconds
        figures = figures_of(kind, seconds, found)
        for what, (unit, value) in figures.items():
            row(f'cache-{what}', kind, unit, value, base.get(what),
                less=unit in ('ms', 'lookups'))
        if kind == 'swapping':
            base = {what: value for what, (_, value) in figures.items()}
        write_story(stories)


if __name__ == '__main__':
    guests.ensure_image()
    chosen = sys.argv[1:] or ['swapping', 'kernel-balloon', 'application']
    say(f'redis with {SERVER_MIB} MiB in a guest of {GUEST_MIB} MiB under TCG, '
        f'{RATE} look-ups a second')

    def bench():
        bench_cache(chosen)
    sys.exit(run([bench], GuestError, QmpClosed, QmpTimeout))
