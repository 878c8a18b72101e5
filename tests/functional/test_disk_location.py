#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages that a disk read has filled are read again when they break.

Guests without CPUs: the one who touches a broken page is the main loop, with
the BQL held, which is the worst case for reading a disk.  Each kind of disk,
raw and qcow2."""

import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.dont_write_bytecode = True

from tests.lib import tap  # noqa: E402
from tests.lib.disks import (Ahci, Ide, SECTOR, VirtioBlk,  # noqa: E402
                             VirtioScsi)
from tests.lib.machine import TOP, Process  # noqa: E402
from tests.lib.qtest import PAGE, Qtest  # noqa: E402

MIB = 1 << 20
IMAGE = 2 * MIB
# where pages are read to, the first of a guest's frame
READ = 16 * MIB
PER = PAGE // SECTOR
WAIT_S = 60
HOOK = TOP / 'build/memsched/tests/functional/libmemsched-errors.so'
IMG = TOP / 'build/qemu/qemu-img'


class Errors:
    """The preloaded library's socket."""

    FIELDS = ('sure', 'unsure', 'recovered', 'lost', 'by_write', 'by_disk')

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(WAIT_S)
        self.socket.connect(str(path))
        self.file = self.socket.makefile('rw')

    def ask(self, *words):
        self.file.write(' '.join(words) + '\n')
        self.file.flush()
        return self.file.readline().split()

    def query(self):
        return dict(zip(self.FIELDS, map(int, self.ask('query', 'a'))))

    def inject(self, address):
        return int(self.ask('inject', 'a', hex(address))[0])

    def close(self):
        self.file.close()
        self.socket.close()


class DiskLocation(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix='memsched-disk-')
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        seed = random.randrange(1 << 32)
        print(f'# seed {seed}')
        self.content = random.Random(seed).randbytes(IMAGE)

    def image(self, kind):
        raw = self.folder / 'disk.raw'
        raw.write_bytes(self.content)
        if kind == 'raw':
            return raw
        path = self.folder / 'disk.qcow2'
        subprocess.run([IMG, 'convert', '-q', '-f', 'raw', '-O', 'qcow2', raw,
                        path], check=True)
        return path

    def start(self, driver, kind, *more):
        qtest = Qtest(self.folder / 'a.qtest')
        self.addCleanup(qtest.close)
        devices = driver.DEVICE
        if isinstance(devices, str):
            devices = (devices,)
        args = ['-nodefaults', '-M', 'pc', '-accel', 'qtest', '-qtest',
                f'unix:{self.folder}/a.qtest', '-qtest-log', '/dev/null',
                '-m', '64M', '-display', 'none', '-drive',
                f'if=none,id=disk,format={kind},file={self.image(kind)}',
                '-qmp', f'unix:{self.folder}/a.qmp,server=on,wait=off']
        for device in devices:
            args += ['-device', device]
        self.process = Process(
            '-object', 'memsched,id=s,pool=256M,policy=static,'
            'allow-inject=on',
            env={'LD_PRELOAD': str(HOOK),
                 'MEMSCHED_ERRORS': f'{self.folder}/errors'})
        self.addCleanup(self.process.close)
        self.process.add('a', args + list(more))
        qtest.accept()
        self.process.wait_state('a', 'running')
        self.errors = Errors(self.folder / 'errors')
        self.addCleanup(self.errors.close)
        self.assertEqual(self.errors.ask('protect', 'a'), ['0'])
        self.qtest = qtest
        self.driver = driver(qtest)

    def wait(self, **expected):
        deadline = time.monotonic() + WAIT_S
        while True:
            seen = self.errors.query()
            if all(seen[name] == value for name, value in expected.items()):
                return seen
            self.assertLess(time.monotonic(), deadline,
                            f'{seen}, not {expected}')
            time.sleep(0.01)

    def page(self, n):
        return self.qtest.read(READ + n * PAGE, PAGE)

    def on_disk(self, n):
        return self.content[n * PAGE:(n + 1) * PAGE]

    def check(self, driver, kind):
        self.start(driver, kind)
        # 16 pages, from a sector that no page begins at
        self.assertTrue(self.driver.read(READ, 16 * PER, 16 * PER))
        self.wait(sure=16, unsure=0)
        for n in (0, 5, 15):
            self.assertEqual(self.errors.inject(READ + n * PAGE), 0)
            self.assertEqual(self.page(n), self.on_disk(16 + n))
        self.wait(recovered=3, lost=0, sure=16)

        # a write of the guest to the page
        self.qtest.write(READ + 3 * PAGE, b'\x55')
        self.wait(sure=15, unsure=0, by_write=1)
        self.assertEqual(self.errors.inject(READ + 3 * PAGE), 0)
        self.assertEqual(self.page(3), bytes(PAGE))
        self.wait(lost=1)

        # a write to the part of the disk that page 7 was read from; what is
        # written is broken itself, and met by a system call
        self.assertEqual(self.errors.inject(READ + 8 * PAGE), 0)
        self.assertTrue(self.driver.write(READ + 8 * PAGE, 23 * PER, PER))
        self.assertEqual(self.page(8), self.on_disk(24))
        self.wait(sure=14, unsure=0, by_disk=1, recovered=4)
        self.assertEqual(self.errors.inject(READ + 7 * PAGE), 0)
        self.assertEqual(self.page(7), bytes(PAGE))
        self.wait(lost=2)

        # a read into a page that is broken
        self.assertEqual(self.errors.inject(READ + 9 * PAGE), 0)
        self.assertTrue(self.driver.read(READ + 8 * PAGE, 40 * PER, 4 * PER))
        for n in range(4):
            self.assertEqual(self.page(8 + n), self.on_disk(40 + n))
        # and what was written to the disk is there
        self.assertTrue(self.driver.read(READ + 20 * PAGE, 23 * PER, PER))
        self.assertEqual(self.page(20), self.on_disk(24))
        self.assertIsNone(self.process.process.poll())

    def test_media_that_others_may_write_are_not_noted(self):
        self.start(SharedBlk, 'raw')
        self.assertTrue(self.driver.read(READ, 0, 16 * PER))
        self.assertEqual(self.page(0), self.on_disk(0))
        self.wait(sure=0, unsure=0)
        self.assertEqual(self.errors.inject(READ), 0)
        self.assertEqual(self.page(0), bytes(PAGE))
        self.wait(lost=1)

    def test_image_that_somebody_changed_is_never_given(self):
        self.start(VirtioBlk, 'raw')
        self.assertTrue(self.driver.read(READ, 0, 16 * PER))
        self.wait(sure=16, unsure=0)
        with open(self.folder / 'disk.raw', 'r+b') as image:
            image.seek(5 * PAGE)
            image.write(b'other')
        self.assertEqual(self.errors.inject(READ + 5 * PAGE), 0)
        self.assertEqual(self.page(5), bytes(PAGE))
        self.wait(lost=1, recovered=0)


class SharedBlk(VirtioBlk):
    DEVICE = VirtioBlk.DEVICE + ',share-rw=on'


def add(driver, kind):
    def test(self):
        self.check(driver, kind)
    setattr(DiskLocation, f'test_{driver.__name__.lower()}_{kind}', test)


for disk in (VirtioBlk, VirtioScsi, Ide, Ahci):
    for image_kind in ('raw', 'qcow2'):
        add(disk, image_kind)

if __name__ == '__main__':
    if not shutil.which(str(IMG)):
        print(f'1..0 # SKIP there is no {IMG}')
        sys.exit(0)
    tap.main()
