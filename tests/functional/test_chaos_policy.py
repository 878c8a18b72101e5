#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""With a policy that moves memory by itself, nothing that a guest does costs
another one its minimum, its content, or the books their exactness.

Guests are killed, wedged and rebooted, lie in their statistics, take what they
gave, give a part of what they are asked or nothing, and touch all of their
memory at once.  SEED says in which order (it is printed), SECONDS how long."""

import os
import struct
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / 'scripts'), str(TOP / 'tests'),
                str(TOP / 'tests/functional')]

import test_chaos  # noqa: E402
from lib import tap  # noqa: E402
from lib.driven import (FILL, FRAME, FREE, MIB,  # noqa: E402
                        NotStarted)
from lib.qtest import BUFFER, PAGE, STATS  # noqa: E402
from qmp.client import QmpError  # noqa: E402

MIN = 24 * MIB
STATISTICS = 16
# What a guest may give, and touch while its balloon does not hold it.
FRAMES = range(*FREE, FRAME)


class Policy(test_chaos.Chaos):
    """Of four guests of 48 MiB three at most ask for all of it at a time: so
    much the pool has, once the fourth is gone."""

    OPTIONS = 'policy=idle-tax,interval=100'
    GUEST = {'min': MIN}
    NAMES = ('a', 'b', 'c', 'd')
    ASKING = 3
    POOL = 144 * MIB
    SECONDS = float(os.environ.get('SECONDS', '300'))

    def setUp(self):
        self.asking = {}            # {name: frames that it touches}
        self.filled = {}            # {name: frames that it has touched}
        self.lying = set()          # those whose statistics are under way
        self.absent = set()         # those that were refused
        super().setUp()

    def new(self, name):
        """Where its min does not fit, because the others hold more than
        theirs, it is refused with a sentence, and comes later."""
        self.filled[name] = set()
        self.lying.discard(name)
        self.absent.discard(name)
        try:
            return super().new(name)
        except NotStarted as error:
            self.assertIn('wants a guaranteed minimum', str(error))
            self.process.remove(name)
            self.process.wait_state(name, None)
            self.absent.add(name)
            return None

    def not_given(self, guest):
        given = {first for first, _ in guest.given}
        return [first for first in FRAMES if first not in given]

    # Steps

    def want(self):
        """All that its balloon does not hold, without waiting for it: whoever
        touches memory that is not there waits with the BQL."""
        guest = self.one(self.running())
        if not guest or len(self.asking) >= self.ASKING:
            return None
        frames = self.not_given(guest)
        start = self.random.randrange(len(frames) or 1)
        run = [f for n, f in enumerate(frames[start:])
               if f == frames[start] + n * FRAME]
        if not run:
            return None
        guest.qtest.send('memset', hex(run[0]), hex(len(run) * FRAME),
                         hex(FILL))
        self.asking[guest.name] = run
        self.wedged.add(guest.name)
        return f'{guest.name} touches {len(run) * FRAME // MIB} MiB'

    def served(self):
        """Who asked and has got it goes on."""
        names = [n for n in sorted(self.asking) if self.guests[n].qtest.ready()]
        for name in names:
            self.guests[name].qtest.receive()
            self.filled[name].update(self.asking.pop(name))
            self.wedged.remove(name)
            if name in self.going:
                self.left(name)
        return ', '.join(names)

    def answer(self):
        """Some do a part of what they are asked; what they touched first, so
        that it is host memory that leaves."""
        said = []
        for guest in self.running():
            if self.random.random() < 0.8:
                done = self.give(guest, self.random.randrange(1, 7))
                said.append(f'{guest.name} {done}')
        return ', '.join(said)

    def give(self, guest, most):
        done, filled = 0, self.filled[guest.name]
        while done < most:
            asked, held = guest.driver.target_pages() * PAGE, guest.held()
            free = sorted(self.not_given(guest), key=lambda f: f not in filled)
            if asked >= held + FRAME and free:
                guest.inflate(free[0], FRAME)
                filled.discard(free[0])
            elif asked < held:
                guest.deflate(*guest.given[-1])
            else:
                break
            done += 1
        return done

    def take_back(self):
        """Unasked, as one that runs out of memory does."""
        guest = self.one([g for g in self.running() if g.given])
        if guest:
            guest.deflate(*guest.given[-1])
        return guest and guest.name

    def lie(self):
        """Any number, for any figure."""
        guest = self.one(self.running())
        if not guest:
            return None
        driver = guest.driver
        queue = driver.queues[STATS]
        if guest.name in self.lying and guest.qtest.read(
                queue.used + 2, 2) != struct.pack('<H', queue.sent):
            return None             # it is not asked for news yet
        told = [struct.pack('<HQ', tag, self.random.choice(
            (0, 1, 2 * MIB, 48 * MIB, 1 << 40, (1 << 64) - 1)))
            for tag in range(STATISTICS) if self.random.random() < 0.8]
        told.append(struct.pack('<HQ', 0xffff, 1))
        data = b''.join(told)
        guest.qtest.write(BUFFER + PAGE, data)
        driver.send(STATS, [(BUFFER + PAGE, len(data))], wait=False)
        self.lying.add(guest.name)
        return guest.name

    def reboot(self):
        name = super().reboot()
        if name:
            self.lying.discard(name)
        return name

    def arrive(self):
        """Who was refused tries again."""
        if not self.absent:
            return None
        name = self.random.choice(sorted(self.absent))
        return f'{name}: {"in" if self.new(name) else "refused"}'

    def unwedge(self):
        names = sorted(self.wedged - set(self.asking))
        if not names:
            return None
        name = self.random.choice(names)
        self.guests[name].unwedge()
        self.wedged.remove(name)
        if name in self.going:
            self.left(name)
        return name

    def change(self):
        """The operator's turn."""
        words = self.random.choice((
            {'policy': 'idle-tax'}, {'policy': 'shares'},
            {'idle-tax': self.random.randrange(100)},
            {'interval': self.random.randrange(20, 300)}))
        self.process.qmp.command('memsched-set', **words)
        name = self.random.choice(self.NAMES)
        shares = self.random.randrange(1, 5000)
        try:
            self.process.qmp.command('memsched-set-guest', id=name,
                                     shares=shares)
        except QmpError as error:
            return f'{words}, {name}: {error}'
        return f'{words}, {name}: {shares} shares'

    STEPS = {want: 10, answer: 20, take_back: 3, lie: 6, change: 2, unwedge: 2,
             arrive: 2,
             reboot: 2, **{getattr(test_chaos.Chaos, name): weight
                           for name, weight in (
                               ('transfer', 2), ('balloon', 1), ('pause', 1),
                               ('cont', 2), ('wedge', 1), ('kill', 1),
                               ('crash', 1), ('delete', 1))}}

    # What has to hold

    def sound(self, *others):
        """Besides: none is steered below its min, none waits for it."""
        self.served()
        super().sound(*(g for g in others if g.name in self.guests))

        def short():
            return [f'{n}: {m}' for n, g in self.process.guests().items()
                    if (m := g.get('memory')) and
                    (m['target'] < m['min'] or m['entitlement'] < m['min'] or
                     m['stalled'] and m['allocated'] < m['min'])]
        try:
            self.process.wait_until(lambda: not short(), 'all have their min')
        except TimeoutError as error:
            pool = self.process.qmp.command('query-memsched')['pool']
            raise TimeoutError(f'{error}: {short()}, of {pool}') from None

    def look_closer(self):
        """All that is under test has been seen; what was touched and kept
        is as it was."""
        for guest in self.running():
            guest.wait_pass()
            for where in self.random.sample(sorted(self.filled[guest.name]),
                                            min(2, len(self.filled[guest.name]))):
                found = guest.qtest.read(where, FRAME)
                self.assertEqual(found.count(FILL), FRAME,
                                 f'{guest.name} at {where:#x}')

    def calm(self):
        while self.wedged - set(self.asking):
            self.unwedge()
        while self.paused - self.wedged:
            self.cont()
        done = self.process.qmp.command('query-memsched')['counters']
        print(f'# {done["captured"] // MIB} MiB captured, '
              f'{done["populated"] // MIB} MiB populated, '
              f'{done["waited-faults"]} touches waited')
        self.assertGreater(done['captured'], 0)
        end = time.monotonic() + 10
        while self.asking:
            self.served()
            for guest in self.running():
                self.give(guest, len(FRAMES))
            givers = [g.name for g in self.running()]
            if time.monotonic() > end and givers:
                # They need what they have: now it is for who still asks.
                self.forget(givers[0])
            self.assertLess(time.monotonic(), end + 120, self.asking)
            time.sleep(0.02)
        while self.paused:
            self.cont()
        self.process.wait_until(lambda: not self.transfers(),
                                'all transfers end', timeout=60)
        self.look_closer()
        self.nothing_is_left()


if __name__ == '__main__':
    tap.main()
