#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Transfers between two real guests with the stock balloon driver, while each
keeps a part of its memory under test.  ROUNDS says how many there and back."""

import os
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib import tap  # noqa: E402
from lib.scenario import MIB, TwoGuests  # noqa: E402
from qmp.client import QmpError  # noqa: E402

ROUNDS = int(os.environ.get('ROUNDS', '5'))


class Transfer(TwoGuests):
    def test_transfers_in_both_directions_under_a_memory_test(self):
        for round_number in range(ROUNDS):
            for giver, taker in ((self.a, self.b), (self.b, self.a)):
                with self.subTest(round=round_number, giver=giver.name):
                    self.room(taker, 64)
                    self.give(giver, 80)
                    transfer = self.process.move(giver, taker, 64)
                    self.assertCompleted(transfer)
                    self.process.check()
                    for guest in (giver, taker):
                        guest.heartbeat()
        self.assertSound()

    def test_transfer_ends_partial_where_the_guest_gives_only_a_part(self):
        """A program holds nearly all of the guest's memory, so that its
        balloon cannot find what it is asked for."""
        self.room(self.b, 200)
        self.a.qmp.command('balloon', value=self.a.memory)
        self.a.run('holder', 'eat', 260)
        self.a.wait_filled('holder')
        try:
            transfer = self.process.move(self.a, self.b, 200, deadline=4000)
        finally:
            self.a.end('holder')
        self.assertEndedShort(transfer)
        self.assertSound()

    def assertEndedShort(self, transfer):
        self.assertEnded(transfer, 'partial', 'failed')
        arrived = transfer['moved'] + transfer['copied'] + \
            transfer['discarded']
        self.assertLess(arrived, transfer['requested'])
        if transfer['state'] == 'partial':
            self.assertGreater(arrived, 0)

    def test_impossible_transfers_are_refused_at_once(self):
        for arguments, words in (
                ({'from': 'a', 'to': 'a', 'size': MIB}, ''),
                ({'from': 'a', 'to': 'nobody', 'size': MIB}, ''),
                ({'from': 'a', 'to': 'b', 'size': 0}, ''),
                ({'from': 'a', 'to': 'b', 'size': 1 << 40}, '')):
            with self.subTest(**arguments):
                with self.assertRaises(QmpError) as caught:
                    self.process.qmp.command('memsched-reallocate',
                                             **arguments)
                self.assertIn(words, str(caught.exception))
        self.assertSound()

    def test_a_guest_finds_zeros_in_memory_that_came_from_another(self):
        self.room(self.b, 64)
        self.give(self.a, 80)
        self.assertCompleted(self.process.move(self.a, self.b, 64))
        self.b.run('eater', 'eat', 200)
        self.b.wait_filled('eater')
        self.assertEqual(self.b.status('eater')['errors'], 0)
        self.b.end('eater')
        self.assertSound()


if __name__ == '__main__':
    tap.main()
