#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""512 MiB from one real guest to another, in each way that there is, with the
same guests in the same run.

  virtio-balloon        upstream's, a process a guest: inflated in one, then
                        deflated in the other; the baseline of all others
  kernel-balloon        ours, the guest's own driver of virtio-balloon
  application           ours, by balloon-exd, in units of 2 MiB
  reporting             ours, freed in one and reported, touched in the other
  upstream-reporting    the same in upstream's two processes
  upstream-virtio-mem   unplugged in one, then plugged into the other

"given": until the giver has given and, here, the memory is mapped in the
taker; elsewhere, until the taker may use it, which maps nothing.  With reports
nothing is given: until the host has them, two seconds of which a Linux guest
waits for more.  "used": and a program in the taker has touched as much.  Each
as "time", wall clock; "guest-side", CPU seconds of the guests' own code;
"host-side", CPU seconds of everything else.  "whole": how much of what the
taker got is mapped as 2 MiB.  "touch": how fast a program writes a word a page,
at first and again, in the taker to what it got, in the giver to what it
kept.  Prints CSV lines as bench/bench.h says, the rest to stderr."""

import os
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TOP / 'tests'), str(TOP / 'bench')]

from figures import medians, row, run, say, warm  # noqa: E402
from realguests import (NAMED, Stopwatch, background, mapped,  # noqa: E402
                        stock_balloon)
from lib import guests  # noqa: E402
from lib.applications import PORT, agent_of, start_agent  # noqa: E402
from lib.guests import (GuestError, MIB, Process, QmpClosed,  # noqa: E402
                        QmpTimeout, StockProcess, wait_for)

MOVE_MIB = 512
GUEST_MIB = 1152
KEPT_MIB = 192          # what the giver touches of what it has kept
# Of what was freed a little stays with the guest's kernel.
MOST_MIB = MOVE_MIB * 9 // 10
ROUNDS = int(os.environ.get('ROUNDS', '2'))
IMAGE = 'initramfs-applications'
REPORTING = 'free-page-reporting=on'
OURS = {'initramfs': IMAGE, 'extra': NAMED + PORT}
STOCK = {'initramfs': IMAGE, 'extra': NAMED}


def touch(guest, mib, passes=3):
    """(first touch, touch again), MiB/s; the memory stays in use."""
    background(guest, 'retouch', f'retouch {mib} {passes} keep')
    words = wait_for(f'{guest.name} touches its memory', lambda: guest.sh(
        'cat /run/retouch.log').split(), 120, 0.01)
    first, *further = (mib / (int(word) / 1e6) for word in words)
    return first, max(further)


class Way:
    """One way: what it runs, and what is read around it."""

    def __init__(self, emulators, a, b, ram_of_b):
        self.emulators = emulators
        self.a, self.b = a, b
        self.ram_of_b = ram_of_b        # (process, address, None: ask smaps)

    def mapped(self):
        return mapped(self.ram_of_b[0], self.ram_of_b[1], self.b.memory)

    def measure(self, give):
        had, had_whole = self.mapped()
        watch = Stopwatch(*self.emulators)
        give()
        watch.lap('given')
        first, again = touch(self.b, MOVE_MIB)
        watch.lap('used')
        has, has_whole = self.mapped()
        kept, kept_again = touch(self.a, KEPT_MIB)
        return watch.figures | {
            'whole': 100 * (has_whole - had_whole) / max(has - had, 1),
            'taker-first-touch': first, 'taker-touch-again': again,
            'giver-first-touch': kept, 'giver-touch-again': kept_again}


def ours(a_options, give, prepare=lambda process, a, b: None):
    warm(2 * GUEST_MIB + 512)
    with Process(2 * GUEST_MIB + 512) as process:
        a, b = (guests.Guest(name, process.folder, GUEST_MIB, **options)
                for name, options in (('a', OURS | a_options), ('b', OURS)))
        for guest in (a, b):
            process.start(guest)
        for guest in (a, b):
            process.wait_up(guest)
        prepare(process, a, b)
        at = process.qmp.command('memsched-translate', id='b', gpa=MIB)
        way = Way([process], a, b, (process, at['hva'] - MIB))
        figures = way.measure(lambda: give(process, a, b))
        process.check()
        return figures


def touched_before(_process, a, _b):
    a.touch_and_free(MOVE_MIB + 64)


def transfer(process, a, b, source):
    done = process.move(a, b, MOVE_MIB, limit=120, source=source,
                        deadline=100000)
    if done['state'] != 'completed':
        raise GuestError(f'transfer {done["state"]}: {done.get("reason")}')


def kernel_balloon():
    return ours({}, lambda process, a, b: transfer(process, a, b, 'kernel'),
                touched_before)


def application():
    def prepare(process, a, b):
        start_agent(a, '--keep-available=64M', '--granule=2M')
        wait_for('the host knows the agent', lambda: agent_of(process, a))
        touched_before(process, a, b)
    return ours({}, lambda process, a, b:
                transfer(process, a, b, 'application'), prepare)


def eat(_process, a, _b):
    a.run('eater', 'eat', MOVE_MIB, 'blind')
    a.wait_filled('eater')


def reporting():
    def give(process, a, _b):
        had = process.memory('a')['allocated']
        a.end('eater')
        wait_for('reports', lambda: process.memory('a')['allocated'] <=
                 had - MOST_MIB * MIB, 120, 0.01)
    return ours({'balloon': f'balloon-ex,{REPORTING}'}, give, eat)


def stock(give, prepare, first, second):
    """@first, @second: what makes the two processes."""
    warm(2 * GUEST_MIB + 512)
    with first() as one, second() as two:
        prepare(one, one.one, two.one)
        # Memory that is plugged in is an area of its own.
        plugged = two.one.memory != GUEST_MIB * MIB
        way = Way([one, two], one.one, two.one, (two, None))
        figures = way.measure(lambda: give(one, one.one, two.one))
        if plugged:
            # Its two areas are not told apart.
            del figures['whole']
        return figures


def stock_guest(name, balloon='virtio-balloon-pci'):
    return lambda: StockProcess(name, GUEST_MIB, balloon=balloon, **STOCK)


def virtio_balloon():
    small = (GUEST_MIB - MOVE_MIB) * MIB

    def prepare(_process, a, b):
        stock_balloon(b, small)
        touched_before(_process, a, b)

    def give(_process, a, b):
        stock_balloon(a, small)
        stock_balloon(b, GUEST_MIB * MIB)
    return stock(give, prepare, stock_guest('a'), stock_guest('b'))


def upstream_reporting():
    def give(process, a, _b):
        had = mapped(process, None, a.memory)[0]
        a.end('eater')
        wait_for('reports', lambda: mapped(process, None, a.memory)[0] <=
                 had - MOST_MIB * MIB, 120, 0.01)
    return stock(give, eat,
                 stock_guest('a', f'virtio-balloon-pci,{REPORTING}'),
                 stock_guest('b'))


def wait_plugged(guest, mib):
    wait_for(f'{guest.name} has {mib} MiB plugged', lambda: (
        guest.qmp.command('qom-get', path='vm0', property='size') ==
        mib * MIB), 120, 0.005)


def plug(guest, mib):
    guest.qmp.command('qom-set', path='vm0', property='requested-size',
                      value=mib * MIB)
    wait_plugged(guest, mib)


def with_virtio_mem(name, plugged_mib):
    """A guest of GUEST_MIB at most, MOVE_MIB of them removable."""
    emulator = StockProcess(
        name, GUEST_MIB - MOVE_MIB, balloon='', initramfs=IMAGE, extra=[
            *NAMED, '-m', f'maxmem={2 * GUEST_MIB}M', '-object',
            f'memory-backend-ram,id=vmem,size={MOVE_MIB}M', '-device',
            f'virtio-mem-pci,id=vm0,memdev=vmem,'
            f'requested-size={plugged_mib}M'],
        append='memhp_default_state=online_movable')
    emulator.one.sh('insmod /modules/virtio_mem.ko')
    wait_plugged(emulator.one, plugged_mib)
    return emulator


def virtio_mem():
    def give(_process, a, b):
        plug(a, 0)
        plug(b, MOVE_MIB)
    return stock(give, touched_before, lambda: with_virtio_mem('a', MOVE_MIB),
                 lambda: with_virtio_mem('b', 0))


WAYS = {'virtio-balloon': virtio_balloon, 'kernel-balloon': kernel_balloon,
        'application': application, 'reporting': reporting,
        'upstream-reporting': upstream_reporting,
        'upstream-virtio-mem': virtio_mem}
# Design's mark for what a transfer costs the host.
MARKS = {('kernel-balloon', 'given-host-side'): '5x',
         ('kernel-balloon', 'used-host-side'): '5x',
         ('application', 'given-host-side'): '5x',
         ('application', 'used-host-side'): '5x'}


def unit_of(what):
    if what == 'whole':
        return '%'
    return 'MiB/s' if 'touch' in what else 's'


def bench_ways(names):
    baseline = None
    for name in names:
        start = time.monotonic()
        figures = medians([WAYS[name]() for _ in range(ROUNDS)])
        say(f'{name}: {time.monotonic() - start:.0f} s')
        if name == 'virtio-balloon':
            baseline = figures
        for what, value in figures.items():
            base = (baseline or {}).get(what)
            row(f'way-{MOVE_MIB}MiB-{what}', name, unit_of(what), value,
                None if name == 'virtio-balloon' else base,
                MARKS.get((name, what), ''), less=unit_of(what) == 's')


if __name__ == '__main__':
    guests.ensure_image()
    chosen = sys.argv[1:] or list(WAYS)
    say(f'{MOVE_MIB} MiB between guests of {GUEST_MIB} MiB under TCG, '
        f'{ROUNDS} rounds')

    def bench():
        bench_ways(chosen)
    sys.exit(run([bench], GuestError, QmpClosed, QmpTimeout))
