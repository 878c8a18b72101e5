#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that has migrated to another process is removed: the process that
it left goes on, with its other guests and with exact books.

The guests' CPUs spin; their balloon driver is this test, over qtest.  ROUNDS
says how many guests leave."""

import os
import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / 'scripts'), str(TOP / 'tests')]

from lib import tap  # noqa: E402
from lib.machine import STARTED, STARTED_AT, Process  # noqa: E402
from lib.qtest import INFLATE, PAGE, BalloonDriver, Qtest  # noqa: E402

ROUNDS = int(os.environ.get('ROUNDS', '15'))
MIB = 1 << 20
RAM = 64 * MIB
# Above the driver's rings: what a guest fills, and the part that it gives.
FILLED, GIVEN = (32 * MIB, 24 * MIB), (40 * MIB, 8 * MIB)
BALLOON = 'balloon-ex,addr=04.0,disable-modern=on,disable-legacy=off'


class Away(unittest.TestCase):
    def setUp(self):
        self.source, self.target = (self.process() for _ in range(2))

    def process(self):
        process = Process('-object', 'memsched,id=ms,pool=320M')
        self.addCleanup(process.close)
        return process

    def guest(self, process, name, *extra):
        """Running, with its RAM over qtest and its monitor."""
        path = process.path / f'{name}.qtest'
        path.unlink(missing_ok=True)
        qtest = Qtest(path)
        self.addCleanup(qtest.close)
        process.add(name, process.guest_args(
            name, '-qtest', f'unix:{path}', '-qtest-log', '/dev/null',
            '-device', BALLOON, *extra, code=STARTED,
            memory=f'{RAM // MIB}M'))
        qtest.accept()
        process.wait_state(name, 'running')
        if '-incoming' not in extra:
            # The firmware sets up devices and uses RAM before.
            process.wait_until(
                lambda: qtest.read(STARTED_AT, 2) == b'\xaa\x55',
                f'the firmware of {name} is done')
        return qtest, process.guest_qmp(name)

    def ballooned(self, process, name):
        memory = process.guests()[name]['memory']
        return memory['ballooned']['kernel']

    def exact(self, process):
        check = process.qmp.command('memsched-check')
        self.assertTrue(check['exact'], check.get('message'))

    def give(self, process, name, qtest):
        """Fills a part of its RAM, and gives some of that."""
        driver = BalloonDriver(qtest)
        driver.start()
        qtest.fill(*FILLED, 0x5a)
        driver.pages(INFLATE, GIVEN[0] // PAGE, GIVEN[1] // PAGE)
        driver.set_actual(GIVEN[1] // PAGE)
        process.wait_until(
            lambda: self.ballooned(process, name) == GIVEN[1],
            'the balloon is captured')

    def migrate(self, name, monitor):
        """To the target process; returns the guest there."""
        way = self.target.path / 'way'
        way.unlink(missing_ok=True)
        arrived = self.guest(self.target, name, '-incoming', f'unix:{way}')
        monitor.command('migrate', uri=f'unix:{way}')

        def migrated():
            state = monitor.command('query-migrate').get('status')
            self.assertNotIn(state, ('failed', 'cancelled'))
            return state == 'completed'
        self.source.wait_until(migrated, f'{name} migrates')
        self.target.wait_until(lambda: arrived[1].command(
            'query-status')['status'] == 'running', f'{name} runs there')
        return arrived

    def removed(self, process, name, monitor, qtest):
        process.remove(name)
        process.wait_state(name, None)
        monitor.close()
        qtest.close()

    def round(self, number):
        name = f'a{number % 3}'
        qtest, monitor = self.guest(self.source, name)
        self.give(self.source, name, qtest)
        # The scheduler wants something of its balloon all the while.
        transfer = self.source.qmp.command(
            'memsched-reallocate', **{'from': name}, to='b', size=4 * MIB,
            deadline=2000)['id']
        there, there_monitor = self.migrate(name, monitor)
        self.removed(self.source, name, monitor, qtest)
        self.assertIsNone(self.source.process.poll(),
                          self.source.output()[-2000:])
        kept = FILLED[0], GIVEN[0] - FILLED[0]
        self.assertEqual(there.read(*kept).count(0x5a), kept[1])
        self.removed(self.target, name, there_monitor, there)
        return transfer

    def test_removal_of_a_guest_that_has_migrated_away(self):
        beside, monitor = self.guest(self.source, 'b')
        beside.fill(*FILLED, 0x77)
        for number in range(ROUNDS):
            transfer = self.round(number)
            self.source.wait_until(lambda: self.state(transfer) != 'running',
                                   'the transfer ends')
            self.assertEqual(monitor.command('query-status')['status'],
                             'running')
            self.exact(self.source)
            self.exact(self.target)
        self.assertEqual(beside.read(*FILLED).count(0x77), FILLED[1])

    def state(self, number):
        return next(t['state'] for t in self.source.qmp.command(
            'query-memsched-transfers') if t['id'] == number)


if __name__ == '__main__':
    tap.main()
