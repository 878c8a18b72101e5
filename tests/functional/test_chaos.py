#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever happens to one guest, at any point of a transfer, leaves the others
running, their memory as they left it, and the books exact.

First each kind of disturbance at each point, then a random sequence of them.
SEED says which sequence (it is printed), SECONDS how long it goes on."""

import os
import random
import sys
import time
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / 'scripts'), str(TOP / 'tests')]

from lib import tap  # noqa: E402
from lib.driven import (FILL, FRAME, FREE, MIB, RAM, TESTED,  # noqa: E402
                        Driven)
from lib.machine import Process, QmpError  # noqa: E402

SEED = int(os.environ.get('SEED', '0')) or random.randrange(1, 1 << 31)
ENDED = ('completed', 'partial', 'failed')
# A transfer that nobody works on ends by itself.
DEADLINE_MS = 1000


class World(unittest.TestCase):
    """One process, and guests that come and go."""

    POOL = 224 * MIB
    OPTIONS = 'policy=static'
    GUEST = {}

    def setUp(self):
        self.process = Process('-object', f'memsched,id=ms,{self.OPTIONS},'
                               f'pool={self.POOL // MIB}M')
        self.addCleanup(self.process.close)
        self.guests = {}
        self.addCleanup(lambda: [g.close() for g in self.guests.values()])

    def new(self, name):
        self.guests[name] = Driven(self.process, name, **self.GUEST)
        return self.guests[name]

    def forget(self, name):
        """It is told to go, if it is there; returns once it is gone."""
        try:
            self.process.remove(name)
        except QmpError as error:
            self.assertIn('not found', str(error))
        self.gone(name)

    def gone(self, name):
        self.process.wait_state(name, None)
        self.guests.pop(name).close()

    def reallocate(self, giver, taker, size):
        return self.process.qmp.command(
            'memsched-reallocate', **{'from': giver}, to=taker, size=size,
            deadline=DEADLINE_MS)['id']

    def transfers(self, state='running'):
        return [t for t in self.process.qmp.command(
            'query-memsched-transfers') if t['state'] == state]

    def exact(self):
        """Pages under way are no difference, but none is so for ever."""
        last = {}

        def exact():
            last.update(self.process.qmp.command('memsched-check'))
            return last['exact']
        try:
            self.process.wait_until(exact, 'exact books', timeout=10)
        except TimeoutError:
            self.fail(f'the books are not exact: {last.get("message")}')

    def sound(self, *others):
        self.assertIsNone(self.process.process.poll(),
                          self.process.output()[-2000:])
        for guest in others:
            guest.wait_beat()
        self.exact()

    def nothing_is_left(self):
        for name in list(self.guests):
            self.forget(name)
        state = self.process.qmp.command('query-memsched')['pool']
        self.assertEqual(state['allocated'], 0, state)
        self.exact()


class Checker(World):
    def test_a_wrong_page_is_found(self):
        guest = self.new('a')
        guest.wait_pass()
        # The CPU passes the page in a millisecond, and we write for longer.
        with self.assertRaisesRegex(AssertionError, 'wrong page'):
            for _ in range(1000):
                guest.qtest.fill(TESTED[0] + 8 * MIB, 4096, 0x13)
                guest.assert_right()


class Wedged(World):
    QUERIES = 500

    def test_what_is_asked_of_the_scheduler_is_answered_at_once(self):
        """One guest sleeps with its BQL held, in the middle of a transfer
        to it and of one from it."""
        a, b, c = (self.new(name) for name in 'abc')
        a.wedge()
        self.reallocate('b', 'a', 2 * FRAME)
        self.reallocate('a', 'c', 2 * FRAME)
        for command in 'query-memsched', 'query-memsched-guests':
            took = []
            for _ in range(self.QUERIES):
                start = time.monotonic()
                self.process.qmp.command(command)
                took.append(time.monotonic() - start)
            took.sort()
            middle, late = (took[self.QUERIES * n // 100] for n in (50, 99))
            print(f'# {command}: median {middle * 1e3:.2f} ms, '
                  f'99 % within {late * 1e3:.2f} ms')
            self.assertLess(late, 0.1)
        b.answer()
        self.sound(b, c)
        a.unwedge()
        self.sound(a, b, c)


class AtEachPoint(World):
    """A transfer of four frames: before the giver has given any, after two,
    after all."""

    POINTS = (0, 2, 4)

    def quit(self, guest):
        guest.qmp.command('quit')
        self.process.wait_state(guest.name, 'stopped')
        self.forget(guest.name)

    def crash(self, guest):
        guest.leave()
        self.process.wait_state(guest.name, 'failed')
        self.forget(guest.name)

    def delete(self, guest):
        self.forget(guest.name)

    def reboot(self, guest):
        guest.qmp.command('system_reset')
        guest.restarted()

    def driver_restart(self, guest):
        guest.restarted()

    def pause(self, guest):
        guest.qmp.command('stop')
        return lambda: guest.qmp.command('cont')

    def wedge(self, guest):
        guest.wedge()
        return guest.unwedge

    def wedge_and_delete(self, guest):
        """Told to go, it cannot hear."""
        guest.wedge()
        self.process.remove(guest.name)

        def undo():
            guest.unwedge()
            self.gone(guest.name)
        return undo

    def fresh(self):
        for name in 'abc':
            if name not in self.guests:
                self.new(name)
        for guest in (self.guests[n] for n in 'ab'):
            if guest.held():
                guest.qmp.command('balloon', value=RAM)
                self.process.wait_until(
                    lambda g=guest: g.answer() == 0 and not g.held(),
                    f'the balloon of {guest.name} is empty')
        # What was populated ahead and is not needed makes no room.
        if self.guests['b'].memory()['allocated'] > RAM - 5 * FRAME:
            self.forget('b')
            self.new('b')
        return [self.guests[n] for n in 'abc']

    def disturb(self, how, whom, point):
        a, b, beside = self.fresh()
        victim, other = (a, b) if whom == 'giver' else (b, a)
        # With content, whose frames may go over at once.
        number = self.reallocate('a', 'b', 4 * FRAME)
        if point:
            self.process.wait_until(
                lambda: a.driver.target_pages() >= point * FRAME // 4096,
                'the giver is asked')
            self.assertEqual(a.answer(point), point)
        undo = getattr(self, how)(victim)
        self.sound(other, beside)
        self.process.wait_until(
            lambda: number not in [t['id'] for t in self.transfers()],
            'the transfer ends', timeout=DEADLINE_MS / 1000 + 10)
        if undo:
            undo()
        self.sound(*self.guests.values())

    def sweep(self, how):
        for whom in 'giver', 'taker':
            for point in self.POINTS:
                with self.subTest(whom=whom, point=point):
                    self.disturb(how, whom, point)
        for guest in self.guests.values():
            guest.wait_pass()
        self.nothing_is_left()

    def test_quit(self):
        self.sweep('quit')

    def test_crash(self):
        self.sweep('crash')

    def test_delete(self):
        self.sweep('delete')

    def test_reboot(self):
        self.sweep('reboot')

    def test_driver_restart(self):
        self.sweep('driver_restart')

    def test_pause(self):
        self.sweep('pause')

    def test_wedge(self):
        self.sweep('wedge')

    def test_wedge_and_delete(self):
        self.sweep('wedge_and_delete')


class Chaos(World):
    # Less than the guests would have if each had all of its RAM.
    POOL = 160 * MIB
    NAMES = ('a', 'b', 'c', 'd')
    SECONDS = float(os.environ.get('SECONDS', '40'))

    def setUp(self):
        super().setUp()
        self.random = random.Random(SEED)
        self.paused, self.wedged, self.going = set(), set(), set()
        for name in self.NAMES:
            self.new(name)

    def answering(self):
        """Guests whose main loop runs."""
        return [g for n, g in self.guests.items() if n not in self.wedged]

    def running(self):
        return [g for g in self.answering() if g.name not in self.paused]

    # Steps; each says in a word what it did, or nothing where it cannot be.

    def transfer(self):
        if len(self.guests) < 2:
            return None
        giver, taker = self.random.sample(sorted(self.guests), 2)
        size = self.random.randrange(1, 6) * FRAME
        try:
            self.reallocate(giver, taker, size)
        except QmpError as error:
            return f'{giver} to {taker}: {error}'
        return f'{giver} to {taker}: {size // MIB} MiB'

    def answer(self):
        """Some do a part of what they are asked."""
        said = []
        for guest in self.running():
            if self.random.random() < 0.7:
                done = guest.answer(self.random.randrange(1, 5))
                said.append(f'{guest.name} {done}')
        return ', '.join(said)

    def one(self, guests):
        return self.random.choice(sorted(guests, key=lambda g: g.name)) \
            if guests else None

    def balloon(self):
        guest = self.one(self.answering())
        if not guest:
            return None
        held = self.random.randrange(0, (FREE[1] - FREE[0]) // FRAME) * FRAME
        guest.qmp.command('balloon', value=RAM - held)
        return f'{guest.name} is to hold {held // MIB} MiB'

    def reboot(self):
        guest = self.one(self.answering())
        if guest:
            guest.qmp.command('system_reset')
            guest.restarted()
        return guest and guest.name

    def pause(self):
        guest = self.one(self.running())
        if guest:
            guest.qmp.command('stop')
            self.paused.add(guest.name)
        return guest and guest.name

    def cont(self):
        if not self.paused - self.wedged:
            return None
        name = self.random.choice(sorted(self.paused - self.wedged))
        self.guests[name].qmp.command('cont')
        self.paused.remove(name)
        return name

    def wedge(self):
        guest = self.one(self.answering())
        if not guest or len(self.wedged) > 1:
            return None
        guest.wedge()
        self.wedged.add(guest.name)
        return guest.name

    def unwedge(self):
        if not self.wedged:
            return None
        name = self.random.choice(sorted(self.wedged))
        self.guests[name].unwedge()
        self.wedged.remove(name)
        if name in self.going:
            self.left(name)
        return name

    def left(self, name):
        self.gone(name)
        self.paused.discard(name)
        self.going.discard(name)
        self.new(name)

    def kill(self):
        guest = self.one(self.answering())
        if not guest:
            return None
        guest.qmp.command('quit')
        if self.random.random() < 0.5:
            self.process.wait_state(guest.name, 'stopped')
        self.process.remove(guest.name)
        self.left(guest.name)
        return guest.name

    def crash(self):
        guest = self.one(self.running())
        if not guest:
            return None
        guest.leave()
        self.process.wait_state(guest.name, 'failed')
        self.process.remove(guest.name)
        self.left(guest.name)
        return guest.name

    def delete(self):
        """A wedged one goes when it can hear."""
        name = self.random.choice(sorted(self.guests))
        if name in self.going:
            return None
        self.process.remove(name)
        if name in self.wedged:
            self.going.add(name)
        else:
            self.left(name)
        return name

    def delete_at_once(self):
        """Told to go while it is being loaded."""
        try:
            self.process.add('e', ['-M', 'pc', '-m', '16M', '-S', '-display',
                                   'none', '-nodefaults'])
        except QmpError as error:
            # The one before it is not gone yet.
            self.assertIn('still stopping', str(error))
            return str(error)
        self.process.remove('e')
        return 'e'

    STEPS = {transfer: 8, answer: 14, balloon: 2, reboot: 2, pause: 1,
             cont: 2, wedge: 1, unwedge: 2, kill: 1, crash: 1, delete: 1,
             delete_at_once: 1}

    def look_closer(self):
        """All that is under test has been seen, and what was filled and kept
        is as it was, or was given meanwhile."""
        for guest in self.running():
            guest.wait_pass()
            where = self.random.randrange(*FREE, FRAME)
            found = guest.qtest.read(where, FRAME)
            self.assertEqual(found.count(0) + found.count(FILL), FRAME,
                             f'{guest.name} at {where:#x}')

    def test_random_disturbances(self):
        print(f'# SEED={SEED}', flush=True)
        end = time.monotonic() + self.SECONDS
        number = 0
        while time.monotonic() < end:
            step = self.random.choices(list(self.STEPS),
                                       list(self.STEPS.values()))[0]
            number += 1
            print(f'# {number} {step.__name__}', end=' ', flush=True)
            print(step(self), flush=True)
            self.sound(*self.running())
            if number % 25 == 0:
                self.look_closer()
        self.calm()

    def calm(self):
        while self.wedged:
            self.unwedge()
        while self.paused:
            self.cont()
        self.process.wait_until(lambda: not self.transfers(),
                                'all transfers end')
        self.look_closer()
        self.process.wait_state('e', None)
        self.nothing_is_left()


if __name__ == '__main__':
    tap.main()
