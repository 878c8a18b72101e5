#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest of two vCPUs touches memory that no rule grants.

It is shown as stalled and paused whole: the vCPU that did not touch stands
still too.  Its own monitor answers all the time, may stop it, start it and
reset it; the other guest goes on; so does this one when there is memory, and
its memory is whole."""

import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib import guests, tap  # noqa: E402
from lib.guests import MIB, Process, wait_for  # noqa: E402

POOL_MIB = 480
POOR_MIB = 384
OTHER_MIB = 256
# What the other one holds, and gives.
HELD_MIB = 96
# More than is left by then, and less than with what the other one gives.
HUNGRY_MIB = 48


class StalledGuest(unittest.TestCase):
    def setUp(self):
        guests.ensure_image()
        self.process = Process(POOL_MIB)
        self.addCleanup(self.process.close)
        for name, mib, options in (('poor', POOR_MIB, {'smp': 2}),
                                   ('other', OTHER_MIB, {})):
            self.process.start(guests.Guest(name, self.process.folder, mib,
                                            **options))
        self.poor, self.other = self.process.guests.values()
        for guest in (self.poor, self.other):
            self.process.wait_up(guest)
            guest.memtest(32, seed=len(guest.name))
        self.other.run('holder', 'eat', HELD_MIB)
        self.other.wait_filled('holder')

    def available_mib(self):
        pool = self.process.scheduler()['pool']
        return (pool['free'] - pool['reserved'] - pool['claimed']) // MIB

    def is_stalled(self):
        return self.process.memory('poor')['stalled']

    def wait_stalled(self, active):
        self.process.qmp.wait_event(
            'MEMSCHED_GUEST_STALLED',
            lambda data: data == {'id': 'poor', 'active': active})

    def status(self):
        return self.poor.qmp.command('query-status')['status']

    def vcpu_ns(self):
        """What its vCPUs have run."""
        tasks = Path(f'/proc/{self.process.process.pid}/task')
        vcpus = [task for task in tasks.iterdir()
                 if (task / 'comm').read_text().startswith('poor/CPU ')]
        self.assertEqual(len(vcpus), 2)
        return [int((task / 'schedstat').read_text().split()[0])
                for task in vcpus]

    def assertPausedWhole(self):
        """Both vCPUs stand still while the other guest works."""
        def still():
            before = self.vcpu_ns()
            self.other.heartbeat()
            return self.vcpu_ns() == before
        wait_for('both vCPUs stand still', still)
        before = self.vcpu_ns()
        for _ in range(5):
            self.other.heartbeat()
        self.assertEqual(self.vcpu_ns(), before)
        self.process.check()
        self.assertTrue(self.is_stalled())
        self.assertEqual(self.status(), 'running')

    def stall(self):
        """One program that computes all the time, and a hungry one."""
        self.poor.sh('(while :; do :; done) </dev/null >/dev/null 2>&1 &')
        self.poor.run('hungry', 'eat', HUNGRY_MIB + self.available_mib())
        self.wait_stalled(True)

    def give(self):
        self.other.end('holder')
        self.other.qmp.command('balloon', value=(OTHER_MIB - HELD_MIB) * MIB)

    def assertGoesOn(self):
        self.wait_stalled(False)
        self.poor.wait_filled('hungry')
        self.assertFalse(self.is_stalled())
        self.assertEqual(self.poor.status('hungry')['errors'], 0)
        for guest in (self.poor, self.other):
            guest.heartbeat()
            guest.sweep()
        self.process.check()

    def test_is_paused_whole_and_goes_on(self):
        self.stall()
        self.assertPausedWhole()
        self.give()
        self.assertGoesOn()

    def test_its_monitor_stops_and_starts_it(self):
        self.stall()
        self.assertPausedWhole()
        # Running already: nothing changes.
        self.poor.qmp.command('cont')
        self.assertPausedWhole()
        for _ in range(3):
            self.poor.qmp.command('stop')
            self.assertEqual(self.status(), 'paused')
            # Its vCPU was awaited, and got its page: nothing of it waits.
            self.wait_stalled(False)
            self.poor.qmp.command('cont')
            self.wait_stalled(True)
            self.assertPausedWhole()
        # Memory comes while it is stopped; it goes on with cont, not before.
        self.poor.qmp.command('stop')
        self.wait_stalled(False)
        self.give()
        wait_for('memory', lambda: self.available_mib() > HELD_MIB // 2)
        before = self.vcpu_ns()
        self.other.heartbeat()
        self.assertEqual(self.vcpu_ns(), before)
        self.assertEqual(self.status(), 'paused')
        self.poor.qmp.command('cont')
        self.poor.wait_filled('hungry')
        self.poor.heartbeat()
        self.poor.sweep()
        self.process.check()

    def test_it_is_reset_and_boots_again(self):
        self.stall()
        self.assertPausedWhole()
        self.poor.qmp.command('system_reset')
        # Whether it stalls again at once depends on what it touches first.
        self.poor.qmp.wait_event('RESET')
        # A kernel that boots touches pages that its guest has not yet.
        self.give()
        self.poor.wait_ready()
        self.poor.memtest(32, seed=9)
        self.poor.heartbeat()
        self.poor.sweep()
        self.other.heartbeat()
        self.process.check()

    def test_it_quits_without_getting_any(self):
        self.stall()
        self.assertPausedWhole()
        self.poor.qmp.command('quit')
        wait_for('poor has ended', lambda: self.process.info('poor')[
            'state'] == 'stopped')
        self.other.heartbeat()
        self.other.sweep()
        self.process.check()


if __name__ == '__main__':
    tap.main()
