#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest with captured pages is saved and loaded, and migrated to another
process, with its contents intact."""

import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib import guests, tap  # noqa: E402
from lib.guests import TOP, Process, wait_for, wait_migrated  # noqa: E402
from lib.scenario import MIB, TwoGuests  # noqa: E402

QEMU_IMG = TOP / 'build/qemu/qemu-img'


class Saved(TwoGuests):
    @classmethod
    def new_guest(cls, name):
        disk = cls.process.folder / f'{name}.qcow2'
        if not disk.exists():
            subprocess.run([QEMU_IMG, 'create', '-q', '-f', 'qcow2', disk,
                            '1G'], check=True)
        return guests.Guest(name, cls.process.folder, 384, extra=[
            '-drive', f'if=none,id=disk,file={disk},format=qcow2'])

    def ballooned(self, guest, mib):
        """A guest of which @mib have been captured."""
        guest.touch_and_free(mib + 20)
        guest.qmp.command('balloon', value=guest.memory - mib * MIB)
        wait_for('the balloon', lambda: (
            self.process.memory(guest.name)['ballooned']['kernel'] >=
            (mib - 8) * MIB))

    def test_snapshot_of_a_ballooned_guest_loads_with_its_contents(self):
        self.ballooned(self.a, 128)
        self.a.heartbeat()
        self.assertEqual(self.a.qmp.hmp('savevm one'), '')
        self.a.heartbeat()
        # What happens now is undone by the load.
        self.a.run('eater', 'eat', 100)
        self.a.wait_filled('eater')
        self.assertEqual(self.a.qmp.hmp('loadvm one'), '')
        self.assertSound()
        self.a.qmp.command('balloon', value=self.a.memory)
        self.a.run('again', 'eat', 150)
        self.a.wait_filled('again')
        self.assertEqual(self.a.status('again')['errors'], 0)
        self.a.end('again')
        self.assertSound()

    def test_ballooned_guest_migrates_with_its_contents(self):
        self.ballooned(self.b, 128)
        with Process(768) as other:
            way = other.folder / 'way'
            target = guests.Guest('b', other.folder, 384, extra=[
                '-drive', 'if=none,id=disk,driver=null-co,size=1G,'
                'read-zeroes=on', '-incoming', f'unix:{way}'])
            other.start(target)
            wait_for('the target listens', way.exists)
            target.connect()
            self.b.qmp.command('migrate', uri=f'unix:{way}')
            wait_migrated(self.b)
            wait_for('the target runs', lambda: (
                target.qmp.command('query-status')['status'] == 'running'))
            target.heartbeat()
            target.sweep()
            target.qmp.command('balloon', value=target.memory)
            target.run('eater', 'eat', 150)
            target.wait_filled('eater')
            self.assertEqual(target.status('eater')['errors'], 0)
            target.heartbeat()
            other.check()
        self.assertSound(self.a)
        self.replace(self.b)
        self.assertSound()


if __name__ == '__main__':
    tap.main()
