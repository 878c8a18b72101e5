#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs in a guest ask for memory: with a priority, a reason and a time by
which they need it.  They are shown while they wait, and get an answer in time,
whatever there is to be had.

Free memory of guest a goes to the pool by itself; b keeps what it has touched.
Both guests keep memory under test all the time."""

import json
import sys
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / 'tests'), str(TOP / 'scripts')]

from lib import guests, tap  # noqa: E402
from lib.applications import (MIB, TwoGuestsWithAgents,  # noqa: E402
                              applications)
from lib.guests import wait_for  # noqa: E402
from lib.scenario import GUEST_MIB  # noqa: E402

# What the pool has left where it is said to be short: no program here asks
# for as little.
LEFT_MIB = 16
# What b has used, and needs no more.
BUSY_MIB = 256


class Asking(TwoGuestsWithAgents):
    # Less than both guests' RAM, more than they hold at first.
    POOL_MIB = 736

    @classmethod
    def new_guest(cls, name):
        reporting = 'on' if name == 'a' else 'off'
        return guests.Guest(
            name, cls.process.folder, GUEST_MIB,
            balloon=f'balloon-ex,free-page-reporting={reporting}', **cls.GUEST)

    def spare(self):
        """What the pool could give to a guest that asks."""
        pool = self.process.scheduler()['pool']
        return pool['free'] - sum(pool[key] for key in (
            'reserved', 'claimed', 'min-free'))

    def wait_spare(self, mib):
        """What guests have got by their requests they keep: each test finds
        less than the one before."""
        wait_for(f'the pool has {mib} MiB',
                 lambda: self.spare() >= (mib + LEFT_MIB) * MIB)

    def short_pool(self, mib):
        """A program in a holds @mib and all else that the pool could give."""
        self.wait_spare(mib)
        self.a.run('holder', 'eat', self.spare() // MIB - LEFT_MIB)
        self.held = True
        self.addCleanup(self.free_pool)
        self.a.wait_filled('holder', 300)
        self.assertLess(self.spare(), 3 * LEFT_MIB * MIB)

    def free_pool(self):
        if self.held:
            self.held = False
            self.a.end('holder')

    def ask(self, guest, name, mib, priority, reason, deadline_s):
        guest.sh(f'rm -f /run/{name}; (bxctl request {mib}M --json --wait '
                 f'--priority {priority} --reason {reason} '
                 f'--deadline {deadline_s} >/run/{name}.text 2>&1; '
                 f'echo "{{\\"exit\\": $?}}" >>/run/{name}.text; '
                 f'mv /run/{name}.text /run/{name}) >/dev/null 2>&1 &')

    def answer(self, guest, name, limit=60):
        """(its exit status, what it was told)"""
        wait_for(f'{name} is answered', lambda: guest.sh(
            f'test -e /run/{name} && echo yes || echo no').strip() == 'yes',
            limit)
        told, status = map(json.loads,
                           guest.sh(f'cat /run/{name}').splitlines())
        return status['exit'], told

    def shown(self, guest):
        return applications(self.process, guest).get('requests', [])

    def wait_shown(self, guest, count):
        return wait_for(f'{count} requests are shown', lambda: len(
            found := self.shown(guest)) == count and found)


class Requests(Asking):
    def test_request_that_waits_is_shown_and_gets_what_comes_free(self):
        self.short_pool(64)
        before = self.process.memory('b')['allocated']
        self.ask(self.b, 'waits', 64, 7, 'heap', 120)
        shown = self.wait_shown(self.b, 1)[0]
        # One that gives nothing has no number of its own.
        self.assertEqual(
            (shown['size'], shown['priority'], shown['reason'],
             shown['application']), (64 * MIB, 7, 'heap', 0))
        self.assertLess(shown['got'], 64 * MIB)
        self.assertLessEqual(shown['left'], 120000)
        self.free_pool()
        status, told = self.answer(self.b, 'waits', 120)
        self.assertEqual((status, told['status'], told['granted']),
                         (0, 'granted', 64 * MIB))
        self.assertEqual(self.shown(self.b), [])
        self.assertGreaterEqual(self.process.memory('b')['allocated'],
                                before + 64 * MIB)
        self.assertSound()

    def test_request_beyond_the_pool_gets_a_part_by_its_deadline(self):
        self.short_pool(64)
        before = self.process.memory('b')['allocated']
        self.ask(self.b, 'part', 100, 3, 'cache', 4)
        status, told = self.answer(self.b, 'part')
        self.assertEqual((status, told['status'], told['reason']),
                         (2, 'partial', 'deadline'))
        self.assertGreater(told['granted'], 0)
        self.assertLess(told['granted'], 3 * LEFT_MIB * MIB)
        self.assertGreaterEqual(self.process.memory('b')['allocated'],
                                before + told['granted'])
        # Nothing is left: this one is refused, and told why.
        self.ask(self.b, 'nothing', 100, 9, 'pressure', 3)
        status, told = self.answer(self.b, 'nothing')
        self.assertEqual((status, told['status'], told['reason'],
                          told['granted']), (3, 'refused', 'host', 0))
        self.assertSound()

    def test_requests_are_shown_the_most_urgent_first(self):
        self.short_pool(64)
        self.ask(self.b, 'later', 32, 2, 'cache', 120)
        self.wait_shown(self.b, 1)
        self.ask(self.b, 'first', 32, 8, 'start', 120)
        shown = self.wait_shown(self.b, 2)
        self.assertEqual([(entry['priority'], entry['reason'])
                          for entry in shown], [(8, 'start'), (2, 'cache')])
        self.free_pool()
        for name in ('first', 'later'):
            status, told = self.answer(self.b, name, 150)
            self.assertEqual((status, told['granted']), (0, 32 * MIB))
        self.assertSound()


class Donors(Asking):
    def test_the_rest_comes_from_a_guest_that_needs_its_memory_less(self):
        # b holds most of its RAM, and has no use for it.
        self.b.run('busy', 'eat', BUSY_MIB)
        self.b.wait_filled('busy', 300)
        self.b.end('busy')
        mib = self.spare() // MIB + 24
        before = self.process.memory('b')['allocated']
        self.process.qmp.command('memsched-set', policy='shares')
        self.addCleanup(self.process.qmp.command, 'memsched-set',
                        policy='static')
        self.ask(self.a, 'donated', mib, 6, 'heap', 60)
        status, told = self.answer(self.a, 'donated', 90)
        self.assertEqual((status, told['status'], told['granted']),
                         (0, 'granted', mib * MIB))
        self.assertLess(self.process.memory('b')['allocated'], before)
        self.assertSound()


if __name__ == '__main__':
    tap.main()
