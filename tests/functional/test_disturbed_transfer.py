#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens to one guest in the middle of a transfer must leave the other
guest as it was, and the books exact."""

import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib import tap  # noqa: E402
from lib.guests import wait_for  # noqa: E402
from lib.scenario import MIB, TwoGuests  # noqa: E402

ALL = ('completed', 'partial', 'failed')
DRIVER = '/sys/bus/virtio/drivers/virtio_balloon'


class DisturbedTransfer(TwoGuests):
    POOL_MIB = 1400

    def begin(self, giver, taker, mib=128, **options):
        """A transfer that is under way: its giver has the memory, and a part
        of it has been taken."""
        self.deflated(giver)
        self.room(taker, mib)
        self.give(giver, mib + 20)
        number = self.process.reallocate(giver, taker, mib, **options)
        self.process.wait_captured(number)
        return number

    def deflated(self, guest):
        """Everything back, for the next test."""
        guest.qmp.command('balloon', value=guest.memory)
        wait_for(f'{guest.name} has its memory back', lambda: (
            self.process.memory(guest.name)['ballooned']['kernel'] < 4 * MIB))

    def test_giver_reboots(self):
        number = self.begin(self.a, self.b)
        self.a.reboot_begin()
        self.assertEnded(self.process.wait_end(number), *ALL)
        self.restart(self.a)
        self.assertSound()

    def test_taker_reboots(self):
        number = self.begin(self.a, self.b)
        self.b.reboot_begin()
        self.assertEnded(self.process.wait_end(number), *ALL)
        self.restart(self.b)
        self.assertSound()
        self.deflated(self.a)

    def test_giver_crashes(self):
        number = self.begin(self.a, self.b)
        self.a.crash_begin()
        self.assertEnded(self.process.wait_end(number), *ALL)
        self.restart(self.a)
        self.assertSound()

    def test_giver_is_reset(self):
        number = self.begin(self.a, self.b)
        self.a.qmp.command('system_reset')
        self.assertEnded(self.process.wait_end(number), *ALL)
        self.restart(self.a)
        self.assertSound()

    def test_giver_ends(self):
        number = self.begin(self.a, self.b)
        self.a.qmp.command('quit')
        self.assertEnded(self.process.wait_end(number), *ALL)
        self.assertSound(self.b)
        self.replace(self.a)
        self.assertSound()

    def test_taker_ends(self):
        number = self.begin(self.a, self.b)
        self.b.qmp.command('quit')
        self.assertEnded(self.process.wait_end(number), *ALL)
        self.assertSound(self.a)
        self.replace(self.b)
        self.deflated(self.a)
        self.assertSound()

    def test_giver_is_paused_until_the_deadline(self):
        number = self.begin(self.a, self.b, deadline=2500)
        self.a.qmp.command('stop')
        try:
            ended = self.process.wait_end(number, limit=10)
            self.assertEnded(ended, *ALL)
            self.assertSound(self.b)
        finally:
            self.a.qmp.command('cont')
        self.assertSound()
        self.deflated(self.a)

    def test_giver_is_paused_from_the_start(self):
        self.deflated(self.a)
        self.room(self.b, 64)
        self.give(self.a, 100)
        self.a.qmp.command('stop')
        try:
            ended = self.process.move(self.a, self.b, 64, deadline=1500)
            self.assertEnded(ended, 'failed')
            self.assertEqual(ended['moved'], 0)
            self.assertSound(self.b)
        finally:
            self.a.qmp.command('cont')
        self.assertSound()
        self.deflated(self.a)

    def test_taker_is_paused(self):
        number = self.begin(self.a, self.b)
        self.b.qmp.command('stop')
        try:
            self.assertEnded(self.process.wait_end(number), *ALL)
            self.assertSound(self.a)
        finally:
            self.b.qmp.command('cont')
        self.assertSound()
        self.deflated(self.a)

    def test_driver_of_the_giver_is_unbound_and_bound(self):
        number = self.begin(self.a, self.b, deadline=5000)
        device = self.a.sh(f'cd {DRIVER}; ls -d virtio*').strip()
        self.a.sh(f'echo {device} > {DRIVER}/unbind', limit=60)
        self.assertEnded(self.process.wait_end(number), *ALL)
        self.assertSound()
        wait_for('no page is ballooned without a driver', lambda: (
            self.process.memory('a')['ballooned']['kernel'] == 0))
        self.a.sh(f'echo {device} > {DRIVER}/bind', limit=60)
        self.room(self.b, 32)
        self.give(self.a, 40)
        self.assertCompleted(self.process.move(self.a, self.b, 32))
        self.assertSound()
        self.deflated(self.a)


if __name__ == '__main__':
    tap.main()
