#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that has migrated to another process is removed: the process that
it left goes on, with its other guests and with exact books.  ROUNDS says how
many guests leave."""

import os
import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / 'scripts'), str(TOP / 'tests')]

from lib import tap  # noqa: E402
from lib.driven import FREE, MIB, Driven  # noqa: E402
from lib.machine import Process  # noqa: E402

ROUNDS = int(os.environ.get('ROUNDS', '15'))
GIVEN = 8 * MIB


class Away(unittest.TestCase):
    def setUp(self):
        self.source, self.target = (self.process() for _ in range(2))

    def process(self):
        process = Process('-object', 'memsched,id=ms,pool=320M')
        self.addCleanup(process.close)
        return process

    def guest(self, process, name, *extra, **more):
        guest = Driven(process, name, *extra, **more)
        self.addCleanup(guest.close)
        return guest

    def exact(self, process):
        check = process.qmp.command('memsched-check')
        self.assertTrue(check['exact'], check.get('message'))

    def migrate(self, guest):
        """To the target process; returns the guest there."""
        way = self.target.path / 'way'
        way.unlink(missing_ok=True)
        there = self.guest(self.target, guest.name, '-incoming',
                           f'unix:{way}', incoming=True)
        guest.qmp.command('migrate', uri=f'unix:{way}')

        def migrated():
            state = guest.qmp.command('query-migrate').get('status')
            self.assertNotIn(state, ('failed', 'cancelled'))
            return state == 'completed'
        self.source.wait_until(migrated, f'{guest.name} migrates')
        self.target.wait_until(lambda: there.qmp.command('query-status')[
            'status'] == 'running', f'{guest.name} runs there')
        return there

    def removed(self, guest):
        guest.process.remove(guest.name)
        guest.process.wait_state(guest.name, None)
        guest.close()

    def leave(self, name):
        guest = self.guest(self.source, name)
        guest.qtest.fill(FREE[0], 2 * GIVEN, 0x5a)
        guest.inflate(FREE[0], GIVEN)
        guest.wait_ballooned(GIVEN)
        # The scheduler wants something of its balloon all the while.
        transfer = self.source.qmp.command(
            'memsched-reallocate', **{'from': name}, to='beside',
            size=4 * MIB, deadline=2000)['id']
        there = self.migrate(guest)
        self.removed(guest)
        self.assertIsNone(self.source.process.poll(),
                          self.source.output()[-2000:])
        there.wait_beat()
        self.assertEqual(there.qtest.read(FREE[0] + GIVEN, GIVEN),
                         b'\x5a' * GIVEN)
        self.removed(there)
        self.source.wait_until(lambda: self.state(transfer) != 'running',
                               'the transfer ends')

    def state(self, number):
        return next(t['state'] for t in self.source.qmp.command(
            'query-memsched-transfers') if t['id'] == number)

    def test_removal_of_a_guest_that_has_migrated_away(self):
        beside = self.guest(self.source, 'beside')
        for number in range(ROUNDS):
            self.leave(f'a{number % 3}')
            beside.wait_beat()
            self.exact(self.source)
            self.exact(self.target)
        beside.wait_pass()


if __name__ == '__main__':
    tap.main()
