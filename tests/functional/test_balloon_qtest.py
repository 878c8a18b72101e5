#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""balloon-ex driven without guest CPUs: two guests of one process and a
transfer between them, migration and snapshots of captured pages.

Each page's content is checked through the guest's own eyes, and each test
ends with a recount of all memory."""

import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.dont_write_bytecode = True

from tests.lib import tap  # noqa: E402
from tests.lib.machine import TOP, Process, QmpError  # noqa: E402
from tests.lib.qtest import (BalloonDriver, DEFLATE, INFLATE,  # noqa: E402
                             MmioBalloonDriver, PAGE, Qtest)

MIB = 1 << 20
FRAME = 2 * MIB
RAM = 128 * MIB
# where a test's own pages lie: above the driver's rings
GIVE = 32 * MIB
DEVICE = 'balloon-ex,id=balloon,addr=04.0,disable-modern=on,disable-legacy=off'
WAIT_S = 60


def guest_options(qtest, *more):
    """A machine whose CPU never runs."""
    return ['-nodefaults', '-M', 'pc', '-accel', 'qtest', '-qtest',
            f'unix:{qtest}', '-qtest-log', '/dev/null', '-m',
            f'{RAM // MIB}M', '-display', 'none', '-device', DEVICE, *more]


class Checks(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix='memsched-qtest-')
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def qtest(self, name):
        qtest = Qtest(self.folder / f'{name}.qtest')
        self.addCleanup(qtest.close)
        return qtest

    def wait(self, condition, what):
        deadline = time.monotonic() + WAIT_S
        while not condition():
            self.assertLess(time.monotonic(), deadline, f'not in time: {what}')
            time.sleep(0.02)

    def memory(self, qmp, guest):
        for shown in qmp.command('query-memsched-guests'):
            if shown['id'] == guest:
                return shown['memory']
        return self.fail(f'no guest {guest}')

    def assert_exact(self, qmp):
        check = qmp.command('memsched-check')
        self.assertTrue(check['exact'], check.get('message'))

    def assert_filled(self, qtest, address, size, value):
        data = qtest.read(address, size)
        self.assertEqual(data.count(value), size,
                         f'0x{address:x}: not all 0x{value:02x}')

    def pfns(self, qmp, guest, addresses):
        return [qmp.command('memsched-translate', id=guest, gpa=a).get('pfn')
                for a in addresses]


class TwoGuests(Checks):
    """Instance 0 without a machine, guests a and b."""

    def setUp(self):
        super().setUp()
        self.process = Process('-object', 'memsched,id=ms,pool=192M')
        self.addCleanup(self.process.close)
        self.qmp = self.process.qmp
        self.guests, self.drivers = {}, {}
        for guest in 'ab':
            qtest = self.qtest(guest)
            self.process.add(guest, guest_options(qtest_path(qtest)))
            qtest.accept()
            self.guests[guest] = qtest
            self.drivers[guest] = BalloonDriver(qtest)
            self.drivers[guest].start()

    def give_up(self, guest, address, size):
        """Gives what it is asked for, as a driver with free memory does."""
        driver = self.drivers[guest]
        driver.pages(INFLATE, address // PAGE, size // PAGE)
        driver.set_actual(size // PAGE)

    def test_transfer_moves_frames_and_no_content(self):
        size = 16 * MIB
        a, b = self.guests['a'], self.guests['b']
        a.fill(GIVE - FRAME, FRAME, 0x11)
        a.fill(GIVE, size, 0xa5)
        a.fill(GIVE + size, FRAME, 0x22)
        b.fill(GIVE, FRAME, 0x33)
        addresses = range(GIVE, GIVE + size, FRAME)
        given = self.pfns(self.qmp, 'a', addresses)
        self.assertNotIn(None, given)
        before = self.memory(self.qmp, 'b')['allocated']
        transfer = self.qmp.command(
            'memsched-reallocate', **{'from': 'a', 'to': 'b', 'size': size})
        self.wait(lambda: self.drivers['a'].target_pages() * PAGE >= size,
                  'the donor is asked for its pages')
        self.give_up('a', GIVE, size)
        self.wait(lambda: self.state(transfer)['state'] != 'running',
                  'the transfer ends')
        done = self.state(transfer)
        self.assertEqual(done['state'], 'completed', done)
        self.assertEqual(done['moved'], size, done)
        self.assertEqual(self.memory(self.qmp, 'b')['allocated'] - before,
                         size)
        # nothing of a's is seen in b, and neither lost what it kept
        self.assert_filled(a, GIVE - FRAME, FRAME, 0x11)
        self.assert_filled(a, GIVE + size, FRAME, 0x22)
        self.assert_filled(b, GIVE, FRAME, 0x33)
        for address in range(GIVE + FRAME, RAM, FRAME):
            self.assert_filled(b, address, FRAME, 0)
        self.assertTrue(
            set(given) & set(self.pfns(self.qmp, 'b', range(0, RAM, FRAME))),
            'no frame that backed a backs b')
        self.assert_exact(self.qmp)

    def state(self, transfer):
        number = transfer['id'] if isinstance(transfer, dict) else transfer
        for shown in self.qmp.command('query-memsched-transfers'):
            if shown['id'] == number:
                return shown
        return self.fail('the transfer is not listed')

    def test_hostile_guest_disturbs_only_itself(self):
        a, b = self.guests['a'], self.guests['b']
        b.fill(GIVE, FRAME, 0x77)
        before = self.memory(self.qmp, 'b')['allocated']
        driver = self.drivers['a']
        # everything, and as much again behind the end of RAM
        driver.pages(INFLATE, RAM // PAGE - 1024, 2048)
        driver.pages(INFLATE, RAM // PAGE - 1024, 2048)
        self.assertGreaterEqual(self.memory(self.qmp, 'a')['refused'],
                                2 * 1024 * PAGE)
        driver.send(INFLATE, [(GIVE, 0)], wait=False)   # breaks the device
        driver.start()
        driver.pages(DEFLATE, RAM // PAGE - 1024, 2048)
        a.fill(RAM - 4 * MIB, 4 * MIB, 0x44)
        self.assert_filled(a, RAM - 4 * MIB, 4 * MIB, 0x44)
        self.assert_filled(b, GIVE, FRAME, 0x77)
        self.assertEqual(self.memory(self.qmp, 'b')['allocated'], before)
        self.assertEqual(self.memory(self.qmp, 'b')['refused'], 0)
        self.assert_exact(self.qmp)


def qtest_path(qtest):
    return qtest.listener.getsockname()


class OneGuest(Checks):
    """Instance 0 is the guest, known as "main"."""

    def machine(self, name, *more, driver=True):
        qtest = self.qtest(name)
        process = Process('-object', 'memsched,id=ms,pool=192M',
                          machine=guest_options(qtest_path(qtest), *more))
        self.addCleanup(process.close)
        qtest.accept()
        balloon = BalloonDriver(qtest) if driver else None
        if balloon:
            balloon.start()
        return process, qtest, balloon

    def fill_and_give(self, process, qtest, balloon):
        """Frames with content, two of them given up."""
        qtest.fill(GIVE, 8 * FRAME, 0x5a)
        balloon.pages(INFLATE, (GIVE + 2 * FRAME) // PAGE, 2 * FRAME // PAGE)
        balloon.set_actual(2 * FRAME // PAGE)
        self.wait(lambda: self.ballooned(process) == 2 * FRAME,
                  'both frames are captured')

    def ballooned(self, process):
        return self.memory(process.qmp, 'main')['ballooned']['kernel']

    def assert_content(self, qtest):
        self.assert_filled(qtest, GIVE, 2 * FRAME, 0x5a)
        self.assert_filled(qtest, GIVE + 4 * FRAME, 4 * FRAME, 0x5a)

    def wait_migrated(self, qmp, *states):
        self.wait(lambda: qmp.command('query-migrate').get('status')
                  in states, f'migration is one of {states}')
        return qmp.command('query-migrate')

    def test_migrated_guest_has_its_pages_and_its_balloon(self):
        source, qtest, balloon = self.machine('source')
        self.fill_and_give(source, qtest, balloon)
        before = self.memory(source.qmp, 'main')['allocated']
        target, target_qtest, _ = self.machine('target', '-incoming', 'defer',
                                               driver=False)
        uri = f'unix:{self.folder}/migration'
        target.qmp.command('migrate-incoming', uri=uri)
        source.qmp.command('migrate', uri=uri)
        self.assertEqual(self.wait_migrated(source.qmp, 'completed',
                                            'failed')['status'], 'completed')
        self.wait_migrated(target.qmp, 'completed')
        # reading the pages that were absent would have made them present
        self.assertEqual(self.ballooned(source), 2 * FRAME)
        self.assertEqual(self.memory(source.qmp, 'main')['allocated'], before)
        self.assertEqual(self.ballooned(target), 2 * FRAME)
        self.assert_content(target_qtest)
        self.assert_filled(target_qtest, GIVE + 2 * FRAME, 2 * FRAME, 0)
        self.assert_exact(source.qmp)
        self.assert_exact(target.qmp)

    def test_source_goes_on_after_a_migration_that_failed(self):
        source, qtest, balloon = self.machine('source')
        self.fill_and_give(source, qtest, balloon)
        source.qmp.command('migrate', uri='exec:false')
        self.wait_migrated(source.qmp, 'failed')
        self.wait(lambda: source.qmp.command('query-status')['running'],
                  'it runs')
        balloon.pages(INFLATE, (GIVE + 4 * FRAME) // PAGE, FRAME // PAGE)
        self.wait(lambda: self.ballooned(source) == 3 * FRAME,
                  'captures are allowed again')
        self.assert_filled(qtest, GIVE, 2 * FRAME, 0x5a)
        self.assert_exact(source.qmp)

    def test_pages_given_during_a_cancelled_migration_are_taken_after(self):
        source, qtest, balloon = self.machine('source')
        self.fill_and_give(source, qtest, balloon)
        source.qmp.command('migrate-set-parameters', max_bandwidth=4096)
        source.qmp.command('migrate', uri='exec:cat > /dev/null')
        self.wait(lambda: self.memory(source.qmp, 'main')['inhibited'],
                  'captures are forbidden')
        balloon.pages(INFLATE, (GIVE + 4 * FRAME) // PAGE, FRAME // PAGE)
        balloon.set_actual(3 * FRAME // PAGE)
        self.assertEqual(self.ballooned(source), 2 * FRAME)
        self.assertEqual(self.memory(source.qmp, 'main')['given'], FRAME)
        source.qmp.command('migrate_cancel')
        self.wait_migrated(source.qmp, 'cancelled')
        self.wait(lambda: self.ballooned(source) == 3 * FRAME,
                  'what was given meanwhile is captured')
        self.assert_filled(qtest, GIVE, 2 * FRAME, 0x5a)
        self.assert_filled(qtest, GIVE + 5 * FRAME, 3 * FRAME, 0x5a)
        self.assert_exact(source.qmp)

    def test_postcopy_and_background_snapshot_are_refused(self):
        source, qtest, balloon = self.machine('source')
        self.fill_and_give(source, qtest, balloon)
        for capability in ('postcopy-ram', 'background-snapshot'):
            with self.subTest(capability):
                switch = [{'capability': capability, 'state': True}]
                try:
                    source.qmp.command('migrate-set-capabilities',
                                       capabilities=switch)
                    source.qmp.command('migrate', uri='exec:cat >/dev/null')
                    said = self.wait_migrated(source.qmp, 'failed')
                    said = said.get('error-desc', '')
                except QmpError as error:
                    said = str(error)
                self.assertIn('guest memory', said)
                switch[0]['state'] = False
                source.qmp.command('migrate-set-capabilities',
                                   capabilities=switch)
        self.assertEqual(self.ballooned(source), 2 * FRAME)
        self.assert_content(qtest)
        self.assert_exact(source.qmp)

    def test_snapshot_brings_back_content_and_balloon(self):
        disk = self.folder / 'disk.qcow2'
        subprocess.run([TOP / 'build/qemu/qemu-img', 'create', '-q', '-f',
                        'qcow2', disk, '256M'], check=True)
        process, qtest, balloon = self.machine(
            'snapshot', '-blockdev', 'driver=qcow2,node-name=disk,'
            f'file.driver=file,file.filename={disk}')
        self.fill_and_give(process, qtest, balloon)
        self.snapshot(process.qmp, 'snapshot-save', vmstate='disk')
        self.assertEqual(self.ballooned(process), 2 * FRAME)
        # a page of the balloon, and one behind all, get content
        qtest.fill(GIVE, 8 * FRAME, 0x99)
        qtest.fill(GIVE + 32 * MIB, 3 * PAGE, 0x99)
        self.snapshot(process.qmp, 'snapshot-load', vmstate='disk')
        self.assertEqual(self.ballooned(process), 2 * FRAME)
        self.assert_content(qtest)
        self.assert_filled(qtest, GIVE + 2 * FRAME, 2 * FRAME, 0)
        self.assert_filled(qtest, GIVE + 32 * MIB, 3 * PAGE, 0)
        self.assert_exact(process.qmp)

    def test_snapshot_loaded_at_the_start_brings_back_the_same(self):
        disk = self.folder / 'disk.qcow2'
        subprocess.run([TOP / 'build/qemu/qemu-img', 'create', '-q', '-f',
                        'qcow2', disk, '256M'], check=True)
        drive = ['-drive', f'if=none,id=disk,format=qcow2,file={disk}']
        process, qtest, balloon = self.machine('first', *drive)
        self.fill_and_give(process, qtest, balloon)
        said = process.qmp.command('human-monitor-command',
                                   **{'command-line': 'savevm one'})
        self.assertEqual(said, '')
        process.qmp.command('quit')
        process.wait_exit()
        process, qtest, balloon = self.machine(
            'second', *drive, '-loadvm', 'one', driver=False)
        self.assertEqual(self.ballooned(process), 2 * FRAME)
        self.assert_content(qtest)
        self.assert_filled(qtest, GIVE + 2 * FRAME, 2 * FRAME, 0)
        self.assert_filled(qtest, GIVE + 32 * MIB, MIB, 0)
        self.assert_exact(process.qmp)

    def snapshot(self, qmp, command, **more):
        qmp.command(command, **{'job-id': 'job', 'tag': 'one',
                                'devices': ['disk'], **more})
        self.wait(lambda: [j for j in qmp.command('query-jobs')
                           if j['status'] == 'concluded'], 'the job ends')
        job = qmp.command('query-jobs')[0]
        self.assertNotIn('error', job)
        qmp.command('job-dismiss', id='job')


class OnMmio(Checks):
    """balloon-ex-device on the virtio-mmio transport of microvm."""

    def setUp(self):
        super().setUp()
        self.ram = self.qtest('micro')
        self.process = Process(
            '-object', 'memsched,id=ms,pool=192M', machine=[
                '-nodefaults', '-M', 'microvm', '-accel', 'qtest', '-qtest',
                f'unix:{qtest_path(self.ram)}', '-qtest-log', '/dev/null',
                '-m', f'{RAM // MIB}M', '-device', 'balloon-ex-device'])
        self.addCleanup(self.process.close)
        self.ram.accept()
        self.driver = MmioBalloonDriver(self.ram)

    def ballooned(self):
        return self.memory(self.process.qmp, 'main')['ballooned']['kernel']

    def give(self):
        self.driver.start()
        self.ram.fill(GIVE, 4 * FRAME, 0x5a)
        self.driver.pages(INFLATE, GIVE // PAGE, 2 * FRAME // PAGE)
        self.driver.set_actual(2 * FRAME // PAGE)
        self.wait(lambda: self.ballooned() == 2 * FRAME, 'it is captured')

    def test_driver_gives_and_takes_back(self):
        self.give()
        self.assertEqual(self.process.qmp.command('query-balloon')['actual'],
                         RAM - 2 * FRAME)
        self.driver.pages(DEFLATE, GIVE // PAGE, FRAME // PAGE)
        self.assert_filled(self.ram, GIVE, FRAME, 0)
        self.assert_filled(self.ram, GIVE + 2 * FRAME, 2 * FRAME, 0x5a)
        self.assertEqual(self.ballooned(), FRAME)
        self.assert_exact(self.process.qmp)

    def test_driver_is_told_the_target(self):
        self.driver.start()
        self.process.qmp.command('balloon', value=RAM - 4 * MIB)
        self.wait(lambda: self.driver.target_pages() * PAGE == 4 * MIB,
                  'the driver sees it')

    def test_driver_that_goes_and_comes_again(self):
        self.give()
        self.driver.reset()
        self.wait(lambda: self.ballooned() == 0, 'nothing is ballooned')
        self.give()
        self.assert_filled(self.ram, GIVE + 2 * FRAME, 2 * FRAME, 0x5a)
        self.assert_exact(self.process.qmp)


if __name__ == '__main__':
    tap.main()
