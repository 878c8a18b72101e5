#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The last resort: a guest that gives nothing keeps nobody from memory.

Its balloon driver is there and never answers; what it holds above its
entitlement is compressed, or written to a swap file, when another guest wants
memory, and comes back byte by byte."""

import errno
import os
import random
import struct
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / 'tests')]

from lib import tap  # noqa: E402
from lib.driven import FILL, FRAME, FREE, MIB, Driven  # noqa: E402
from lib.machine import Process, QmpError  # noqa: E402
from lib.qtest import PAGE  # noqa: E402

POOL_MIB = 72
MIN = 12 * MIB
# What the keeper fills besides what its CPU tests all the time.
KEPT = range(*FREE, FRAME)
# What the hungry one touches: more than is free, less than its entitlement.
WANTED = 20 * MIB
# Of a frame at once: qtest looks through a line anew with each piece of it.
PART = 1 << 16
# Looked at while memory is short.
SAMPLES = 64


def counted(where):
    """Pages that get shorter: each repeats its own number."""
    return b''.join(struct.pack('<Q', page * 0x9e3779b97f4a7c15 % (1 << 64)) *
                    (PAGE // 8) for page in
                    range(where // PAGE, (where + FRAME) // PAGE))


def is_tmpfs(path):
    mounts = Path('/proc/self/mounts').read_text().splitlines()
    return [path, 'tmpfs'] in [line.split()[1:3] for line in mounts]


class Resort(unittest.TestCase):
    def start(self, *places):
        self.process = Process('-object', ','.join((
            'memsched,id=ms,policy=idle-tax,interval=100,min-free=4M',
            f'pool={POOL_MIB}M', *places)))
        self.addCleanup(self.process.close)
        self.keeper = self.guest('keeper')
        self.hungry = self.guest('hungry', shares=2000)
        self.random = random.Random(int(os.environ.get('SEED', '1')))

    def guest(self, name, **limits):
        guest = Driven(self.process, name, min=MIN, **limits)
        self.addCleanup(guest.close)
        return guest

    def exact(self):
        last = {}

        def exact():
            last.update(self.process.qmp.command('memsched-check'))
            return last['exact']
        self.process.wait_until(exact, f'exact books: {last}', timeout=10)

    def figures(self):
        return self.process.qmp.command('query-memsched')['last-resort']

    def wait(self, what, condition, timeout=60):
        try:
            self.process.wait_until(condition, what, timeout)
        except TimeoutError:
            self.fail(f'not within {timeout} s: {what}; '
                      f'{self.process.qmp.command("query-memsched")}, '
                      f'{self.process.guests()}')

    def fill(self, content):
        self.content = {where: content(where) for where in KEPT}
        for where, data in self.content.items():
            for at in range(0, FRAME, PART):
                self.keeper.qtest.write(where + at, data[at:at + PART])

    def demand(self):
        """All that it touches arrives, though the pool has not got it."""
        pool = self.process.qmp.command('query-memsched')['pool']
        self.assertLess(pool['free'] - pool['reserved'], WANTED // 2)
        self.hungry.qtest.send('memset', hex(FREE[0]), hex(WANTED), hex(FILL))
        self.wait('the hungry guest has what it touches',
                  self.hungry.qtest.ready)
        self.hungry.qtest.receive()
        # Nothing of this is the keeper's doing.
        self.assertEqual(self.keeper.memory()['ballooned']['kernel'], 0)
        self.assertGreater(self.hungry.memory()['allocated'], WANTED)
        self.exact()

    def look(self, where, size=PAGE):
        at = where - where % FRAME
        want = self.content[at][where - at:where - at + size]
        self.assertTrue(self.keeper.qtest.read(where, size) == want,
                        f'other content at {where:#x}')

    def look_at_some(self):
        """While memory is short; each page that comes back takes another's
        place."""
        for page in self.random.sample(range(FREE[0] // PAGE, FREE[1] // PAGE),
                                       SAMPLES):
            self.look(page * PAGE)
        self.keeper.wait_pass()
        self.hungry.wait_pass()

    def look_at_all(self):
        """Once the other one needs it no longer: each byte."""
        self.hungry.inflate(FREE[0], WANTED)
        self.hungry.wait_ballooned(WANTED)
        for where in KEPT:
            self.look(where, FRAME)
        self.keeper.wait_pass()
        self.exact()

    def play(self, content):
        self.fill(content)
        self.demand()
        self.look_at_some()
        short = self.figures()
        self.look_at_all()
        done = self.figures()
        print(f'# {short}\n# {done}')
        self.assertEqual(done['lost'] + done['write-errors'] +
                         done['read-errors'], 0)
        found = self.hungry.qtest.read(FREE[0] + WANTED - PAGE, PAGE)
        self.assertEqual(found.count(0), PAGE)      # given up, and new
        return short, done


class Held(Resort):
    def test_pages_are_compressed_and_come_back(self):
        self.start('held-memory=8M')
        short, done = self.play(counted)
        self.assertGreater(short['stored'], 4 * MIB)
        self.assertLess(short['compressed'], short['stored'] // 4)
        self.assertLessEqual(short['store'], short['store-limit'])
        self.assertEqual(short['swap'] + short['swapped'], 0)
        self.assertGreater(done['back'], 4 * MIB)
        self.assertGreater(done['back-faults']['p99-ns'], 0)

    def test_pages_are_written_to_a_file_and_come_back(self):
        with tempfile.TemporaryDirectory(prefix='memsched-swap-') as folder:
            self.start(f'swap-file={folder}/swap,swap-size=64M')
            self.assertEqual(list(Path(folder).iterdir()), [])
            short, done = self.play(lambda _: self.random.randbytes(FRAME))
        self.assertGreater(short['swapped'], 4 * MIB)
        self.assertEqual(short['stored'], 0)
        self.assertGreater(done['read'], 4 * MIB)
        self.assertGreater(done['read-faults']['p99-ns'], 0)


class Refused(unittest.TestCase):
    """Each in one sentence, before any guest is there; nothing is left."""

    def setUp(self):
        self.process = Process()
        self.addCleanup(self.process.close)
        folder = tempfile.TemporaryDirectory(prefix='memsched-swap-')
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def refused(self, sentence, **options):
        with self.assertRaises(QmpError) as got:
            self.process.qmp.command('object-add', qom_type='memsched',
                                     id='ms', pool=16 * MIB, **options)
        self.assertEqual(str(got.exception), sentence)
        with self.assertRaises(QmpError):
            self.process.qmp.command('query-memsched')

    def test_what_does_not_fit_together(self):
        self.refused('held-memory of memsched is at most half of its pool',
                     held_memory=9 * MIB)
        together = 'swap-file and swap-size of memsched belong together'
        self.refused(together, swap_file=str(self.folder / 'swap'))
        self.refused(together, swap_size=MIB)
        self.refused('the swap file of memsched must have from 4 KiB to 4 TiB',
                     swap_file=str(self.folder / 'swap'), swap_size=512)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_a_file_that_cannot_be_had(self):
        there = self.folder / 'there'
        there.write_text('precious')
        self.refused(f"the swap file '{there}' of memsched exists already: "
                     'give it a new name, so that nothing is overwritten',
                     swap_file=str(there), swap_size=MIB)
        self.assertEqual(there.read_text(), 'precious')
        nowhere = self.folder / 'no' / 'swap'
        self.refused(f"the swap file '{nowhere}' of memsched cannot be used: "
                     f'{os.strerror(errno.ENOENT)}', swap_file=str(nowhere),
                     swap_size=MIB)

    def without_room(self, path):
        self.refused(f"the swap file '{path}' of memsched does not fit: there "
                     f'is no room for {1 << 22} MiB', swap_file=path,
                     swap_size=1 << 42)
        self.assertFalse(Path(path).exists())

    def test_a_file_system_without_room(self):
        """It is not filled to find that out."""
        self.without_room(str(self.folder / 'swap'))

    @unittest.skipUnless(is_tmpfs('/dev/shm'),
                         'no file system in memory is at /dev/shm')
    def test_a_file_system_in_memory_without_room(self):
        self.without_room(f'/dev/shm/{self.folder.name}')

    def test_after_all_this_it_starts(self):
        self.refused('held-memory of memsched is at most half of its pool',
                     held_memory=9 * MIB)
        self.process.qmp.command(
            'object-add', qom_type='memsched', id='ms', pool=16 * MIB,
            held_memory=8 * MIB, swap_file=str(self.folder / 'swap'),
            swap_size=MIB)
        shown = self.process.qmp.command('query-memsched')['last-resort']
        self.assertEqual((shown['store-limit'], shown['swap']),
                         (8 * MIB, MIB))
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_without_a_place_there_is_no_last_resort(self):
        self.process.qmp.command('object-add', qom_type='memsched', id='ms',
                                 pool=16 * MIB)
        shown = self.process.qmp.command('query-memsched')
        self.assertNotIn('last-resort', shown)
        self.assertEqual(shown['pool']['held'], 0)


if __name__ == '__main__':
    tap.main()
