#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Three Debian guests whose demand peaks one after the other and then all at
once, on host memory of 60 % of the sum of their sizes.

  static   a third of the memory each, for good
  script   upstream's balloon, a process a guest, and a script that looks once
           a second and moves balloons by the rules of common hosts: when less
           than a fifth of the memory is free, each guest shrinks by 5 % at
           most and keeps a fifth of what it has free; when more is, each that
           is short grows by 5 %
  ours     one process, the pool, and the scheduler's own policy, with a last
           resort: guests that all want more at once stand in their touches, and
           cannot give before they go on

Work is lookups done while demand peaks (tests/functional/guest/lookup.c: who
has a larger cache is faster), latency that of the same.  The baseline of our
rows is the better one of the other two.  Footprints over time are left in
build/bench, as recordings and pictures.  Prints CSV lines as bench/bench.h
says, the rest to stderr."""

import contextlib
import json
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TOP / 'tests'), str(TOP / 'bench')]

from figures import row, run, say, warm  # noqa: E402
from lib import demand, guests  # noqa: E402
from lib.demand import (GUEST_MIB, MIB, MIN_MIB, NAMES,  # noqa: E402
                        POOL_MIB)
from lib.guests import (GuestError, QmpClosed, QmpTimeout,  # noqa: E402
                        StockProcess)
from lib.recorded import Recorded, draw  # noqa: E402

OUT = TOP / 'build/bench'
# A peak is long enough to fill its cache where the memory is there at once.
PEAK_MIB, MISS_US, KEEP_MIB = 256, 100, 40
PEAK_S, TOGETHER_S = 30, 40
HELD_MIB = 64
SCRIPT_S, STEP_PERCENT, FREE_PERCENT = 1, 5, 20


def resident_mib(emulator):
    """Of what no file backs."""
    text = Path(f'/proc/{emulator.processes[0].pid}/status').read_text()
    return int(text.split('RssAnon:')[1].split()[0]) // 1024


class Watched(threading.Thread):
    """Looks at upstream's processes, and writes what it sees as memschedctl
    would; with a script, moves their balloons."""

    def __init__(self, emulators, path, script):
        super().__init__(daemon=True)
        self.emulators, self.path, self.script = emulators, path, script
        self.done, self.peak_mib = threading.Event(), 0
        # What a process needs besides its guest's memory is not the pool's.
        self.beside = {}

    def used(self):
        return {e.one.name: min(resident_mib(e), GUEST_MIB)
                for e in self.emulators}

    def run(self):
        start, due = time.monotonic(), 0
        with open(self.path, 'w', encoding='utf-8') as out:
            while not self.done.wait(0.25):
                now, used = time.monotonic() - start, self.used()
                free = POOL_MIB - sum(used.values())
                self.peak_mib = max(self.peak_mib, sum(used.values()))
                print(json.dumps({
                    'time': round(now, 3),
                    'scheduler': {'pool': {'free': max(free, 0) * MIB}},
                    'guests': [{'id': name, 'memory': {
                        'allocated': mib * MIB}} for name, mib in
                        used.items()], 'transfers': []}), file=out)
                if self.script and now >= due:
                    due = now + SCRIPT_S
                    self.balance(free)

    def balance(self, free):
        for emulator in self.emulators:
            guest = emulator.one
            has = guest.qmp.command('query-balloon')['actual'] // MIB
            told = guest.qmp.command('qom-get', path='/machine/peripheral/'
                                     'balloon0', property='guest-stats')
            unused = told['stats'].get('stat-available-memory', 0) // MIB
            if unused > 1 << 40:
                continue            # not told yet
            step = has * STEP_PERCENT // 100
            if free < POOL_MIB * FREE_PERCENT // 100:
                spare = unused - has * FREE_PERCENT // 100
                to = has - max(min(step, spare), 0)
            elif unused < has * FREE_PERCENT // 100:
                to = has + step
            else:
                continue
            guest.qmp.command('balloon', value=min(max(to, MIN_MIB),
                                                   GUEST_MIB) * MIB)

    def end(self):
        self.done.set()
        self.join()


# ---- demand ----

class Demand:
    def __init__(self, everyone):
        self.everyone, self.ops = everyone, 0
        self.alone, self.together, self.rises = [], [], []

    def begin(self, guest):
        guest.run('peak', 'lookup', PEAK_MIB, MISS_US, KEEP_MIB)

    def end(self, guest):
        status = guest.status('peak')
        if not status['alive'] or status['errors']:
            raise GuestError(f'{guest.name}: {status}')
        guest.end('peak')
        self.ops += status['ops']
        say(f'  {guest.name}: {status["filled"] * 100 // status["pages"]} % of '
            f'its cache, {status["ops"]} lookups')
        return status['p99_us']

    def play(self):
        for guest in self.everyone:
            self.begin(guest)
            time.sleep(PEAK_S)
            self.alone.append(self.end(guest))
        for guest in self.everyone:
            self.begin(guest)
        time.sleep(TOGETHER_S)
        self.together = [self.end(guest) for guest in self.everyone]
        return {'work': self.ops, 'alone': max(self.alone) / 1000,
                'together': max(self.together) / 1000}


def stock(memory_mib, script, path):
    with contextlib.ExitStack() as stack:
        emulators = [stack.enter_context(StockProcess(n, memory_mib))
                     for n in NAMES]
        for emulator in emulators:
            if script:
                emulator.one.qmp.command(
                    'qom-set', path='/machine/peripheral/balloon0',
                    property='guest-stats-polling-interval', value=1)
                emulator.one.qmp.command(
                    'balloon', value=POOL_MIB // len(NAMES) * MIB)
        watched = Watched(emulators, path, script)
        watched.start()
        try:
            figures = Demand([e.one for e in emulators]).play()
        finally:
            watched.end()
        figures['most'] = watched.peak_mib
        return figures


def ours(path):
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(
            prefix='memsched-swap-'))
        process = stack.enter_context(demand.new_process(
            f',held-memory={HELD_MIB}M,swap-file={folder}/swap,'
            f'swap-size={POOL_MIB}M'))
        everyone = demand.boot(process)
        with Recorded(process, path) as recorded:
            figures = Demand(everyone).play()
            samples = recorded.samples()
        process.check()
        figures['most'] = max(s['scheduler']['pool']['allocated'] // MIB
                              for s in samples)
        faults = [process.memory(n)['faults'] for n in NAMES]
        figures['mapped-p50'] = statistics.median(
            f['p50-ns'] for f in faults) / 1e6
        figures['mapped-p99'] = max(f['p99-ns'] for f in faults) / 1e6
        figures['moved'] = process.scheduler()['counters']['captured'] // MIB
        return figures


def bench_demand():
    found = {}
    OUT.mkdir(parents=True, exist_ok=True)
    for name, play in (
            ('static', lambda p: stock(POOL_MIB // len(NAMES), False, p)),
            ('script', lambda p: stock(GUEST_MIB, True, p)),
            ('ours', ours)):
        warm(POOL_MIB)
        path = OUT / f'demand-{name}.jsonl'
        found[name] = play(path)
        draw(path, path.with_suffix('.svg'), f'Demand that turns: {name}')
        say(f'{name}: {found[name]}')
    mine, others = found['ours'], (found['static'], found['script'])
    if not mine['moved']:
        # Guests that had all that they could use say nothing of a scheduler.
        raise GuestError('the pool was never short, so nothing moved and there '
                         'is nothing to compare: this machine is too slow for '
                         f'{PEAK_S} s to fill {PEAK_MIB} MiB')
    for name in 'static', 'script':
        row('demand-work', name, 'lookups', found[name]['work'], less=False)
        row('demand-footprint-most', name, 'MiB', found[name]['most'])
    row('demand-work', 'ours', 'lookups', mine['work'],
        max(o['work'] for o in others), '1x', less=False)
    for what in 'alone', 'together':
        for name in 'static', 'script':
            row(f'demand-p99-peak-{what}', name, 'ms', found[name][what])
        row(f'demand-p99-peak-{what}', 'ours', 'ms', mine[what],
            min(o[what] for o in others), '1x')
    row('demand-footprint-most', 'ours', 'MiB', mine['most'])
    row('demand-moved', 'ours', 'MiB', mine['moved'])
    row('demand-touch-to-mapped', 'median', 'ms', mine['mapped-p50'])
    row('demand-touch-to-mapped', 'p99', 'ms', mine['mapped-p99'])


if __name__ == '__main__':
    guests.ensure_image()
    sys.exit(run([bench_demand], GuestError, QmpClosed, QmpTimeout))
