#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Uncorrectable memory errors in guests that start in no time; the same in
Debian guests is long_errors.py.

Covered pages, some met by the emulator, some by a CPU: no byte differs.
Uncovered ones: that guest gets its machine check where it has enabled them, is
reset where it has not, and its neighbour goes on."""

import os
import random
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.dont_write_bytecode = True

from tests.lib import tap  # noqa: E402
from tests.lib.driven import FRAME, FREE, MIB, Driven  # noqa: E402
from tests.lib.machine import Process, QmpError  # noqa: E402
from tests.lib.qtest import PAGE  # noqa: E402

SEED = int(os.environ.get('SEED', random.getrandbits(32)))
ERRORS = int(os.environ.get('ERRORS', '128'))
WAIT_S = 60
POOL = 'memsched,id=s,pool=256M,policy=static,allow-inject=on'
FAST = {'rate': 2 << 30, 'cool': 100, 'group-size': 4}
ROM = Path(__file__).resolve().parents[1] / 'lib/machine-check.S'
MAILBOX, BROKEN = 0x7000, 0x50000
BEATS, CHECKS, BOOTS = (MAILBOX + 4 * n for n in range(3))


class Errors(unittest.TestCase):
    def setUp(self):
        self.process = Process('-object', POOL)
        self.addCleanup(self.process.close)

    def wait_for(self, what, condition):
        self.process.wait_until(condition, what, WAIT_S)

    def protect(self, name, scheme, **settings):
        self.process.qmp.command('memsched-protect', id=name, scheme=scheme,
                                 **{**FAST, **settings})

    def state(self, name):
        return next(state for state in
                    self.process.qmp.command('query-memsched-protection')
                    if state['id'] == name)

    def inject(self, name, gpa, covered):
        self.process.qmp.command('memsched-inject-error', id=name, gpa=gpa,
                                 covered=covered)

    def check(self):
        self.assertIsNone(self.process.process.poll(), self.process.output())


class Covered(Errors):
    """What the guest fills and leaves is covered; its CPU writes the rest."""

    def setUp(self):
        super().setUp()
        self.random = random.Random(SEED)
        print(f'# SEED={SEED}', flush=True)
        self.guest = Driven(self.process, 'a')
        self.addCleanup(self.guest.close)
        self.other = Driven(self.process, 'b')
        self.addCleanup(self.other.close)
        for frame in range(*FREE, FRAME):
            self.guest.qtest.fill(frame, FRAME, self.byte(frame))

    @staticmethod
    def byte(gpa):
        return gpa // FRAME + 1

    def inject_covered(self, gpa):
        """Once the page is covered, which may be soon."""
        def done():
            try:
                self.inject('a', gpa, True)
            except QmpError as error:
                self.assertIn('not covered', str(error))
                return False
            return True
        self.wait_for(f'the page at {gpa:#x} is covered', done)

    def wait_covered(self, size):
        self.wait_for(f'{size // MIB} MiB are covered', lambda: self.state(
            'a')['coverage']['parity'] >= size)

    def survive(self, scheme, each):
        """Errors in rows of their own, @each in every row, batch by batch:
        the pages of a group are in one row."""
        frames = range(*FREE, FRAME)
        self.protect('a', scheme)
        injected = 0
        while injected < ERRORS:
            for row in self.random.sample(range(FRAME // PAGE), 16):
                gpas = [frame + row * PAGE for frame in
                        self.random.sample(frames, each)]
                for gpa in gpas:
                    self.inject_covered(gpa)
                for gpa in gpas:
                    self.assertEqual(self.guest.qtest.read(gpa, PAGE),
                                     bytes([self.byte(gpa)]) * PAGE)
                injected += each
        after = self.state('a')
        self.assertEqual(after['lost-pages'], 0)
        self.assertEqual(after['poisoned'], 0)
        self.assertGreaterEqual(after['recovered'], injected)
        for frame in frames:
            self.assertEqual(self.guest.qtest.read(frame, FRAME),
                             bytes([self.byte(frame)]) * FRAME)
        self.guest.wait_beat()
        self.other.wait_beat()
        self.check()
        print(f'# {scheme}: {injected} errors, {after["recovered"]} repaired, '
              f'p50 {after["repair"]["p50-ns"] // 1000} us, p99 '
              f'{after["repair"]["p99-ns"] // 1000} us', flush=True)

    def test_single_errors_with_one_parity(self):
        self.survive('xor', 1)

    def test_pairs_of_errors_with_two_parities(self):
        self.survive('pq', 2)

    def test_what_the_policy_leaves_out_is_said(self):
        self.protect('a', 'xor', policy='none', ranges=[
            {'gpa': FREE[0], 'size': FREE[1] - FREE[0], 'policy': 'parity'}])
        self.wait_covered(FREE[1] - FREE[0])
        state = self.state('a')
        self.assertEqual(state['policy'], 'none')
        self.assertEqual(len(state['ranges']), 1)
        self.assertEqual(state['coverage']['parity'], FREE[1] - FREE[0])
        self.assertEqual(state['coverage']['excluded'],
                         state['coverage']['none'])
        self.assertGreater(state['coverage']['excluded'], 0)

    def test_the_scrubber_finds_errors_that_nobody_meets(self):
        self.protect('a', 'xor', scrub=0)
        self.wait_covered(FREE[1] - FREE[0])
        for row in range(8):
            self.inject_covered(FREE[0] + row * PAGE)
        self.assertEqual(self.state('a')['poisoned'], 8 * PAGE)
        self.protect('a', 'xor', scrub=1 << 30)
        self.wait_for('all are repaired', lambda: self.state(
            'a')['recovered'] >= 8)
        self.wait_for('a pass ends', lambda: self.state(
            'a')['scrub']['passes'] > 0)
        state = self.state('a')
        self.assertGreaterEqual(state['scrub']['errors'], 8)
        self.assertEqual(state['scrub']['mismatches'], 0)
        self.assertEqual(state['lost-pages'], 0)
        self.assertEqual(self.guest.qtest.read(FREE[0], FRAME),
                         bytes([self.byte(FREE[0])]) * FRAME)


class Uncovered(Errors):
    """A CPU that reads one page for ever."""

    def start(self, name, checks_on, cpu):
        rom = self.process.path / f'{name}.rom'
        subprocess.run(['cc', '-m32', '-c', f'-DMAILBOX={MAILBOX}',
                        f'-DBROKEN={BROKEN}', f'-DCHECKS_ON={int(checks_on)}',
                        ROM, '-o', f'{rom}.o'], check=True)
        subprocess.run(['ld', '-m', 'elf_i386', '-Ttext=0', '-e', '0',
                        '--oformat', 'binary', '-o', rom, f'{rom}.o'],
                       check=True)
        self.process.add(name, [
            '-nodefaults', '-M', 'pc', '-accel', 'tcg', '-display', 'none',
            '-m', '16M', '-cpu', cpu, '-bios', str(rom), '-qmp',
            f'unix:{self.process.path}/{name}.qmp,server=on,wait=off'])
        self.process.wait_state(name, 'running')
        qmp = self.process.guest_qmp(name)
        self.addCleanup(qmp.close)
        self.wait_for(f'{name} runs', lambda: self.word(qmp, BEATS) > 0)
        return qmp

    @staticmethod
    def word(qmp, gpa):
        answer = qmp.command('human-monitor-command', **{
            'command-line': f'xp /1wx {gpa:#x}'})
        return int(answer.split(':')[1], 16)

    def goes_on(self, qmp):
        before = self.word(qmp, BEATS)
        self.wait_for('it goes on', lambda: self.word(qmp, BEATS) != before)

    def told(self, qmp, name):
        event = qmp.wait_event('MEMORY_FAILURE', timeout=WAIT_S)
        lost = self.process.qmp.wait_event('MEMSCHED_PAGE_LOST',
                                           timeout=WAIT_S)
        self.assertEqual(lost['data']['id'], name)
        self.assertEqual(lost['data']['offset'], BROKEN)
        self.assertEqual(event['data']['recipient'], 'guest')
        return event['data']

    def test_a_guest_that_has_enabled_them_gets_one_machine_check(self):
        other = self.start('b', False, 'qemu64')
        guest = self.start('a', True, 'Nehalem')
        self.inject('a', BROKEN, False)
        event = self.told(guest, 'a')
        self.assertEqual(event['action'], 'inject', event)
        self.assertTrue(event['flags']['action-required'], event)
        self.wait_for('it has its check',
                      lambda: self.word(guest, CHECKS) > 0)
        self.goes_on(guest)
        self.assertEqual(self.word(guest, CHECKS), 1)
        self.assertEqual(self.word(guest, BOOTS), 1)
        self.goes_on(other)
        self.assertEqual(self.word(other, BOOTS), 1)
        self.check()

    def test_a_guest_that_has_not_is_reset_and_its_neighbour_goes_on(self):
        other = self.start('b', True, 'Nehalem')
        guest = self.start('a', False, 'Nehalem')
        self.inject('a', BROKEN, False)
        event = self.told(guest, 'a')
        self.assertEqual(event['action'], 'reset', event)
        self.assertFalse(event['flags']['recursive'], event)
        self.wait_for('it has booted again',
                      lambda: self.word(guest, BOOTS) == 2)
        self.goes_on(guest)
        self.assertEqual(self.word(guest, CHECKS), 0)
        self.goes_on(other)
        self.assertEqual(self.word(other, CHECKS), 0)
        self.check()


if __name__ == '__main__':
    tap.main()
