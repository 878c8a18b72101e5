# SPDX-License-Identifier: GPL-2.0-or-later
"""Two guests under a memory test, and what must hold after each step."""

import unittest

from . import guests
from .guests import MIB, Process

# Under test in each guest all the time; a wrong page is found by the program
# within seconds, and by the sweep at the end of each test for certain.
MEMTEST_MIB = 96
GUEST_MIB = 512


class TwoGuests(unittest.TestCase):
    """One process for all tests of a class: what one test leaves behind,
    the next one meets.  A guest that a test has ended is started anew."""

    POOL_MIB = 1280
    SCHEDULER = 'policy=static'
    NAMES = ('a', 'b')
    GUEST = {}

    @classmethod
    def setUpClass(cls):
        guests.ensure_image()
        cls.process = Process(cls.POOL_MIB, cls.SCHEDULER)
        cls.addClassCleanup(cls.process.close)
        for name in cls.NAMES:
            cls.process.start(cls.new_guest(name))
        for name in cls.NAMES:
            cls.ready(name)

    @classmethod
    def new_guest(cls, name):
        return guests.Guest(name, cls.process.folder, GUEST_MIB, **cls.GUEST)

    @classmethod
    def ready(cls, name):
        guest = cls.process.guests[name]
        cls.process.wait_up(guest)
        cls.under_test(guest)
        return guest

    @classmethod
    def under_test(cls, guest):
        guest.memtest(MEMTEST_MIB, seed=ord(guest.name[0]) << 32)

    def setUp(self):
        self.a, self.b = (self.process.guests[n] for n in self.NAMES[:2])

    def assertSound(self, *guest_list):
        """The books are exact, and every program goes on, all of its memory
        as it left it."""
        self.process.alive()
        self.process.check()
        for guest in guest_list or self.process.guests.values():
            guest.heartbeat()
            guest.sweep()
            guest.heartbeat()

    def assertCompleted(self, transfer):
        self.assertEqual(transfer['state'], 'completed',
                         transfer.get('reason'))
        self.assertEqual(transfer['requested'],
                         transfer['moved'] + transfer['copied']
                         + transfer['discarded'])

    def assertEnded(self, transfer, *states):
        """In one of the states; short of all, it says why."""
        self.assertIn(transfer['state'], states)
        if transfer['state'] != 'completed':
            self.assertTrue(transfer.get('reason'))

    def give(self, giver, mib):
        """Makes the giver hold @mib of host memory that it does not need."""
        giver.touch_and_free(mib)

    def room(self, guest, mib):
        """Makes the guest able to take @mib: what it holds, and does not
        need, goes to the pool."""
        def enough():
            now = self.process.memory(guest.name)
            missing = mib + 16 - (now['max'] - now['allocated']) // MIB
            balloon = now['balloon']
            # It may give first what it never had: then it is asked for more.
            if missing > 0 and balloon['actual'] >= balloon['target']:
                held = balloon['actual'] // MIB + missing
                guest.qmp.command('balloon', value=guest.memory - held * MIB)
            return missing <= 0
        guests.wait_for(f'{guest.name} has room for {mib} MiB', enough)

    def restart(self, guest):
        """After a reboot: its line is there again, and its memory test."""
        guest.wait_ready()
        self.under_test(guest)

    def replace(self, guest):
        """After its end: another guest of the same name."""
        self.process.remove(guest)
        guests.wait_for(f'{guest.name} is gone', lambda: guest.name not in [
            g['id'] for g in self.process.qmp.command('query-memsched-guests')
            if g['state'] not in ('stopped', 'failed')])
        for path in (guest.qmp_path, guest.control.path):
            path.unlink(missing_ok=True)
        again = self.new_guest(guest.name)
        self.process.start(again)
        return self.ready(guest.name)


__all__ = ['GUEST_MIB', 'MEMTEST_MIB', 'MIB', 'TwoGuests']
