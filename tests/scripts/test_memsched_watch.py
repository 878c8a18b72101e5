#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/memsched-watch against a server that is no QEMU."""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / 'tests'))

from lib import tap  # noqa: E402
from lib.fakeqmp import FakeQmp  # noqa: E402
from lib.samples import failed_guest, guest, scheduler  # noqa: E402
from lib.samples import transfer  # noqa: E402


class Server:
    """Serves @looks looks, then closes."""

    def __init__(self, guests, transfers=(), looks=2):
        self.guests, self.transfers = guests, list(transfers)
        self.looks = looks

    def __call__(self, name, arguments):
        if name == 'query-memsched':
            if self.looks == 0:
                return None
            self.looks -= 1
            return {'return': scheduler(512)}
        if name == 'query-memsched-guests':
            return {'return': self.guests}
        return {'return': self.transfers}


def watch(answer, *options):
    with FakeQmp(answer) as server:
        return subprocess.run(
            [TOP / 'scripts/memsched-watch', server.path, '-i', '0.01',
             *options], text=True, capture_output=True, timeout=60,
            check=False)


class Watch(unittest.TestCase):
    def test_table_has_a_row_for_each_guest_and_ends_with_qemu(self):
        done = watch(Server([guest('web', 256, kernel_mib=64),
                             failed_guest('db', 'no kernel image')]))
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        blocks = done.stdout.strip().split('\n\n')
        self.assertEqual(len(blocks), 2)
        rows = [line.split() for line in blocks[0].splitlines()]
        self.assertEqual(rows[1], ['guest', 'state', 'allocated', 'target',
                                   'ballooned', 'moved'])
        self.assertEqual(rows[2], ['web', 'running', '256', '512', '64', '0'])
        self.assertEqual(rows[3][:2], ['db', 'failed'])
        self.assertIn('no kernel image', blocks[0])

    def test_transfers_are_summed_with_their_sign(self):
        moves = [transfer(2, 'db', 'web', 64, 32, 'partial', 100),
                 transfer(1, 'web', 'db', 128, 128, 'completed', 100)]
        done = watch(Server([guest('web', 256), guest('db', 100)], moves))
        rows = {line.split()[0]: line.split() for line in
                done.stdout.strip().split('\n\n')[0].splitlines()}
        self.assertEqual(rows['web'][5], '-96')
        self.assertEqual(rows['db'][5], '+96')

    def test_running_transfer_shows_its_progress(self):
        moves = [transfer(5, 'web', 'db', 128, 32, 'running', 100)]
        done = watch(Server([guest('web', 256)], moves))
        self.assertIn('transfer 5: web → db, 32 of 128 MiB', done.stdout)

    def test_stalled_guest_is_marked(self):
        done = watch(Server([guest('web', 1, stalled=True,
                                   condition='low')]))
        self.assertRegex(done.stdout, r'web .* low stalled\n')

    def test_recording_holds_a_sample_a_line(self):
        with tempfile.NamedTemporaryFile('r') as file:
            done = watch(Server([guest('web', 256)], looks=3), '--quiet',
                         '--record', file.name)
            self.assertEqual((done.returncode, done.stdout), (0, ''))
            samples = [json.loads(line) for line in file]
        self.assertEqual(len(samples), 3)
        times = [sample['time'] for sample in samples]
        self.assertEqual(times, sorted(times))
        self.assertEqual(samples[0]['guests'][0]['id'], 'web')
        self.assertEqual(set(samples[0]), {'time', 'scheduler', 'guests',
                                           'transfers'})

    def test_limit_of_time_ends_it(self):
        done = watch(Server([guest('web', 256)], looks=10**6), '--for', '0.1')
        self.assertEqual((done.returncode, done.stderr), (0, ''))

    def test_refusal_of_qemu_is_passed_on(self):
        error = {'error': {'class': 'GenericError',
                           'desc': 'No memory scheduler runs'}}
        done = watch(lambda name, args: error)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr,
                         'memsched-watch: No memory scheduler runs\n')


if __name__ == '__main__':
    tap.main()
