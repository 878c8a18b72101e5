#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors in the memory of Debian guests.  What is covered: no byte differs,
and no program notices.  What is not: that guest alone is told, or stops.
ERRORS says how many pages break in each test of covered ones, SEED which."""

import os
import random
import subprocess
import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib import guests, tap  # noqa: E402
from lib.errors import MIB, Errors  # noqa: E402
from lib.guests import (PAGE, Process, wait_for,  # noqa: E402
                        wait_migrated)

ERRORS = int(os.environ.get('ERRORS', '100'))
SEED = int(os.environ.get('SEED', random.getrandbits(32)))
BATCH = 25
FAST = {'rate': 2 << 30, 'cool': 100}
TESTED_MIB = 64


class Case(unittest.TestCase):
    POOL_MIB = 1280

    @classmethod
    def setUpClass(cls):
        print(f'# SEED={SEED}', flush=True)
        guests.ensure_image()
        cls.process = Process(cls.POOL_MIB, 'policy=static,allow-inject=on')
        cls.addClassCleanup(cls.process.close)

    @classmethod
    def start(cls, name, memory_mib=320, tested=TESTED_MIB, **options):
        guest = cls.process.guest(name, memory_mib, **options)
        guest.memtest(tested, seed=ord(name[0]) << 32, rest_us=20000)
        return guest

    def setUp(self):
        self.process.alive()

    def errors(self, guest):
        return Errors(self.process, guest, SEED)

    def sound(self, *names):
        self.process.alive()
        self.process.check()
        for name in names:
            self.process.guests[name].heartbeat()
            self.process.guests[name].sweep()


class Covered(Case):
    """Guest a is protected, and has a disk; b is its neighbour."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        disk = cls.process.folder / 'disk'
        with open(disk, 'wb') as file:
            file.truncate(64 * MIB)
        cls.a = cls.start('a', extra=[
            '-drive', f'if=none,id=d,file={disk},format=raw',
            '-device', 'virtio-blk-pci,drive=d'])
        cls.b = cls.start('b', 256, 32)
        Errors(cls.process, cls.a, SEED).start_files()

    def begin(self, scheme):
        errors = self.errors(self.a)
        errors.protect('none')
        errors.protect(scheme, **FAST)
        errors.wait_covered(50)
        errors.before = errors.state()
        errors.count_events()
        errors.events = dict.fromkeys(errors.events, 0)
        return errors

    def survive(self, errors, rows, each):
        """Batches of errors: some met by the emulator, some by the guest."""
        while sum(errors.kinds.values()) < ERRORS:
            broken = errors.break_some(rows, each)
            errors.meet(broken[::2])
            self.a.heartbeat()
            errors.meet(broken)
        self.finish(errors)

    def finish(self, errors):
        self.sound('a', 'b')
        errors.files_go_on()
        after, before = errors.state(), errors.before
        self.assertEqual(after['lost-pages'], before['lost-pages'])
        self.assertEqual(after['poisoned'], 0)
        repaired = sum(after[k] - before[k]
                       for k in ('recovered', 'recovered-dead'))
        self.assertEqual(repaired, sum(errors.kinds.values()))
        events = errors.count_events()
        self.assertEqual(events['MEMSCHED_PAGE_LOST'], 0)
        self.assertEqual(events['MEMSCHED_PAGE_RECOVERED'], repaired)
        errors.report(self.id().rpartition('.')[2])

    def test_single_errors_with_one_parity(self):
        self.survive(self.begin('xor'), BATCH, 1)

    def test_pairs_of_errors_with_two_parities(self):
        self.survive(self.begin('pq'), BATCH, 2)

    def test_errors_that_a_dump_meets_are_in_it_as_they_were(self):
        """System calls on guest RAM say EFAULT."""
        errors = self.begin('xor')
        broken = errors.break_some(BATCH)
        dump = self.process.folder / 'dump'
        self.a.qmp.command('dump-guest-memory', paging=False,
                           protocol=f'file:{dump}')
        wait_for('no page is broken',
                 lambda: errors.state()['poisoned'] == 0)
        self.assertGreater(len(broken), 0)
        self.assertGreater(dump.stat().st_size, self.a.memory)
        dump.unlink()
        self.finish(errors)

    def test_errors_that_a_migration_meets_are_sent_as_they_were(self):
        errors = self.begin('pq')
        broken = errors.break_some(BATCH)
        saved = self.process.folder / 'saved'
        self.a.qmp.command('migrate', uri=f'file:{saved}')
        wait_migrated(self.a)
        self.assertGreater(len(broken), 0)
        # What the guest's kernel calls free is sent as well.
        self.assertEqual(errors.state()['poisoned'], 0)
        saved.unlink()
        self.a.qmp.command('cont')
        self.finish(errors)

    def test_errors_in_pages_that_are_ballooned_and_reset_are_forgotten(self):
        errors = self.begin('pq')
        errors.break_some(BATCH)
        self.b.heartbeat()
        self.a.qmp.command('balloon', value=self.a.memory - 96 * MIB)
        wait_for('the balloon', lambda: self.process.memory('a')['ballooned'][
            'kernel'] >= 64 * MIB)
        errors.meet(errors.break_some(BATCH))
        self.a.qmp.command('balloon', value=self.a.memory)
        self.sound('a', 'b')
        errors.files_go_on()
        errors.break_some(BATCH)
        self.a.qmp.command('system_reset')
        self.a.wait_ready()
        self.assertEqual(errors.state()['lost-pages'],
                         errors.before['lost-pages'])
        wait_for('no page is broken',
                 lambda: errors.state()['poisoned'] == 0)
        self.a.memtest(TESTED_MIB, seed=7, rest_us=20000)
        errors.start_files()
        self.sound('a', 'b')
        errors.report(self.id().rpartition('.')[2])


class Uncovered(Case):
    """Neither guest is protected."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.a = cls.start('a', 256, 64)
        cls.b = cls.start('b', 256, 32)

    def lose(self, errors):
        """Breaks a page of the memory test; its words go up by a constant."""
        for gpa in errors.addresses(400):
            errors.meet([gpa])
            page = (self.process.folder / 'page').read_bytes()
            first, second = (int.from_bytes(page[at:at + 8], 'little')
                             for at in (0, 8))
            if (second - first) % (1 << 64) == 0x9e3779b97f4a7c15 and \
                    errors.inject(gpa, covered=False):
                return gpa
        self.fail('no page of the memory test was found')

    def told(self, guest, action):
        event = guest.qmp.wait_event('MEMORY_FAILURE', timeout=60)
        self.assertEqual(event['data']['recipient'], 'guest')
        self.assertEqual(event['data']['action'], action)
        lost = self.process.qmp.wait_event(
            'MEMSCHED_PAGE_LOST', lambda data: data['id'] == guest.name, 60)
        self.assertEqual(lost['data']['offset'] % PAGE, 0)

    def test_a_kernel_without_machine_checks_is_reset(self):
        """Debian's cloud kernels are built without them; a guest that has
        enabled them is in test_errors.py."""
        errors = self.errors(self.a)
        self.lose(errors)
        self.a.control.ask('sweep memtest')
        self.told(self.a, 'reset')
        self.a.wait_ready()
        self.assertEqual(self.a.sh('echo yes').strip(), 'yes')
        self.sound('b')
        self.a.memtest(32, seed=5, name='again')
        self.a.heartbeat('again')

    def test_what_the_emulator_has_read_stops_the_guest(self):
        errors = self.errors(self.b)
        errors.meet([self.lose(errors)])
        self.told(self.b, 'fatal')
        wait_for('the guest has stopped', lambda: self.b.qmp.command(
            'query-status')['status'] == 'internal-error')
        self.assertEqual(self.a.sh('echo yes').strip(), 'yes')
        self.process.check()
        self.b.qmp.command('system_reset')
        wait_for('the guest is reset', lambda: self.b.qmp.command(
            'query-status')['status'] != 'internal-error')
        self.b.qmp.command('cont')
        self.b.wait_ready()
        self.b.memtest(32, seed=9)
        self.sound('b')


if __name__ == '__main__':
    tap.main()
