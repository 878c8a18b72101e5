#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest runs out of memory while its balloon is full and the pool is empty.

Its kernel deflates the balloon on its OOM path, holding locks that all of the
guest may need, and waits for the answer.  There are no pages for what comes
back; the answer must come all the same.  The program that touches such a page
waits, no other guest does, and everything goes on when there is memory."""

import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib import guests, tap  # noqa: E402
from lib.guests import MIB, Process, wait_for  # noqa: E402

POOL_MIB = 720
VICTIM_MIB = 320
BALLOON_MIB = 128
PREPARED_MIB = 32
# More than it has without its balloon, and less than with it.
HUNGRY_MIB = 160
# The pool is as good as empty: what the holder's own kernel may still touch.
LEFT_MIB = 4
# To the pool, by which the victim goes on: as much as its balloon held, and
# what its kernel touches besides.
GIVEN_MIB = 160


class OomDeflate(unittest.TestCase):
    def setUp(self):
        guests.ensure_image()
        self.process = Process(POOL_MIB)
        self.addCleanup(self.process.close)
        # The victim deflates; the holder has all else; the third goes on.
        for name, mib in (('victim', VICTIM_MIB), ('holder', 512),
                          ('third', 256)):
            self.process.start(guests.Guest(name, self.process.folder, mib))
        self.guests = self.process.guests
        for guest in self.guests.values():
            self.process.wait_up(guest)
            guest.memtest(32, seed=len(guest.name))

    def available_mib(self):
        pool = self.process.scheduler()['pool']
        return (pool['free'] - pool['reserved'] - pool['claimed']) // MIB

    def free_mib(self, guest):
        """What its kernel calls free."""
        for line in guest.sh('cat /proc/meminfo').splitlines():
            if line.startswith('MemFree:'):
                return int(line.split()[1]) // 1024
        raise guests.GuestError('no MemFree in /proc/meminfo')

    def balloon(self, guest, mib):
        guest.qmp.command('balloon', value=guest.memory - mib * MIB)
        wait_for(f'{mib} MiB in the balloon', lambda: self.process.memory(
            guest.name)['balloon']['actual'] == mib * MIB)

    def fill_balloon(self, guest):
        """
        Every page of the guest has been touched, then its balloon is full.  A
        page that never was the host would have to give now: a touch would
        wait there, and the guest's memory would never be used up.
        """
        self.balloon(guest, PREPARED_MIB)
        guest.touch_and_free(self.free_mib(guest) + PREPARED_MIB // 2)
        self.assertGreater(self.process.memory(guest.name)['oom-deflates'], 0)
        self.balloon(guest, BALLOON_MIB)

    def hold_the_rest(self, guest, victim):
        """
        Again and again: some of what a program takes its guest had already.
        What the victim has given in incomplete frames is taken from it when
        the pool is short: that little must not be what it needs.
        """
        holders = []

        def held():
            if self.available_mib() > LEFT_MIB + 2:
                holders.append(f'holding{len(holders)}')
                guest.run(holders[-1], 'eat', self.available_mib() - LEFT_MIB)
                guest.wait_filled(holders[-1])
                return False
            return self.process.memory(victim.name)['given'] < 16 * MIB
        wait_for('the pool is empty', held)
        return holders

    def assertWaits(self, victim, others):
        """It is seen to wait, whole; nobody else notices."""
        for _ in range(3):
            for guest in others:
                guest.heartbeat()
            self.process.check()
            memory = self.process.memory(victim.name)
            self.assertTrue(memory['stalled'])
            self.assertGreater(memory['balloon']['actual'], 0)

    def test_deflate_on_oom_from_an_empty_pool(self):
        victim, holder, third = self.guests.values()
        self.fill_balloon(victim)
        holders = self.hold_the_rest(holder, victim)
        before = self.process.memory(victim.name)

        victim.run('hungry', 'eat', HUNGRY_MIB)
        wait_for('the victim waits for memory', lambda: self.process.memory(
            victim.name)['stalled'])
        memory = self.process.memory(victim.name)
        count = memory['oom-deflates'] - before['oom-deflates']
        print(f'# {count} deflates on OOM, then it waits', flush=True)
        self.assertGreater(count, 0)
        self.assertEqual(self.available_mib(), 0)
        # Answered without a page behind what came back: the guest has more
        # pages than before, and the host gave it fewer.
        self.assertGreater(
            before['balloon']['actual'] - memory['balloon']['actual'],
            memory['allocated'] - before['allocated'])
        self.assertWaits(victim, (holder, third))

        for name in holders:
            holder.end(name)
        self.balloon(holder, GIVEN_MIB)
        victim.wait_filled('hungry')
        self.assertFalse(self.process.memory(victim.name)['stalled'])
        self.assertEqual(victim.status('hungry')['errors'], 0)
        for guest in self.guests.values():
            guest.heartbeat()
            guest.sweep()
        self.process.check()


if __name__ == '__main__':
    tap.main()
