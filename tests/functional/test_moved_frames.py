#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A transfer maps the very host frames that the donor gave.

Two real guests with the stock balloon driver, a memory test in each; 256 MiB
by memsched-reallocate, and memsched-translate of every page before and
after."""

import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib import guests, tap  # noqa: E402
from lib.frames import Moved  # noqa: E402
from lib.guests import MIB, Process  # noqa: E402

MOVE_MIB = 256
GUEST_MIB = 512
MEMTEST_MIB = 64
# What the donor holds and does not need; the balloon takes some of its free
# memory elsewhere.
IDLE_MIB = 320
# Kept free for both guests at any time: their give-allowances, and as much
# again for what their kernels touch while the test prepares.
MARGIN_MIB = 16


class MovedFrames(unittest.TestCase):
    def pair(self, pool_mib, **taker):
        """Two guests that are up and under test."""
        guests.ensure_image()
        process = Process(pool_mib)
        self.addCleanup(process.close)
        pair = [guests.Guest('a', process.folder, GUEST_MIB),
                guests.Guest('b', process.folder, GUEST_MIB, **taker)]
        for guest in pair:
            process.start(guest)
        for guest in pair:
            process.wait_up(guest)
            guest.memtest(MEMTEST_MIB, seed=ord(guest.name))
        return process, *pair

    def free_mib(self, process):
        return process.scheduler()['pool']['free'] // MIB

    def move(self, process, giver, taker):
        before = process.frames(giver)
        counted = process.scheduler()['counters']
        transfer = process.move(giver, taker, MOVE_MIB)
        self.assertEqual(transfer['state'], 'completed',
                         transfer.get('reason'))
        self.assertEqual(transfer['moved'], MOVE_MIB * MIB)
        self.assertEqual(transfer['copied'] + transfer['discarded'], 0)
        # Once out of the giver and once into the taker.
        moved = process.scheduler()['counters']['moved'] - counted['moved']
        self.assertGreaterEqual(moved, 2 * MOVE_MIB * MIB)
        process.check()

        same = Moved(before, process.frames(taker), process.frames(giver))
        print(f'# {same.mib} of {MOVE_MIB} MiB are the same host frames, '
              f'{transfer["duration"]} ms', flush=True)
        self.assertGreaterEqual(same.share(MOVE_MIB * MIB), 0.95)
        for guest in (giver, taker):
            guest.heartbeat()
            guest.sweep()
        process.check()

    def test_same_frames_from_a_pool_with_room_to_spare(self):
        process, a, b = self.pair(3 * GUEST_MIB)
        a.touch_and_free(IDLE_MIB)
        self.assertGreater(self.free_mib(process), 2 * MOVE_MIB)
        self.move(process, a, b)

    def test_same_frames_from_a_pool_that_holds_just_what_both_hold(self):
        process, a, b = self.pair(640)
        a.touch_and_free(self.free_mib(process) - MARGIN_MIB)
        self.assertLess(self.free_mib(process), 2 * MARGIN_MIB)
        self.move(process, a, b)

    def test_same_frames_to_a_guest_that_has_reported_its_free_memory(self):
        """What was free there is neither a hole nor in a balloon."""
        process, a, b = self.pair(640, balloon='balloon-ex')
        guests.wait_for('b reports its free memory', lambda: process.memory(
            'b')['ballooned']['reported'] >= MOVE_MIB * MIB, step=0.1)
        a.touch_and_free(self.free_mib(process) - MARGIN_MIB)
        self.move(process, a, b)


if __name__ == '__main__':
    tap.main()
