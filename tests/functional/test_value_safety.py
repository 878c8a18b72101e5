#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What real guests do to pages that are given by their value: they swap, write
to them while they are searched for, hibernate, are saved, loaded and migrated.
Both guests keep memory under test all the time.

CAPTURES says how many pages are captured in all by the last test."""

import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / 'tests'), str(TOP / 'scripts')]

from lib import guests, tap  # noqa: E402
from lib.applications import (AgentsThatGive, MIB, PORT,  # noqa: E402
                              agent_of)
from lib.guests import Process, wait_for, wait_migrated  # noqa: E402
from lib.scenario import GUEST_MIB  # noqa: E402

QEMU_IMG = TOP / 'build/qemu/qemu-img'
HOOK = TOP / 'guest/agent/dist/balloon-ex.system-sleep'
CAPTURES = int(os.environ.get('CAPTURES', '50000'))
# Pages, each by a program of its own.
WRITTEN = 12
NO_DISK = ['-drive', 'if=none,id=disk,driver=null-co,size=1G,read-zeroes=on']
DISK = ['-device', 'virtio-blk,drive=disk']


class ValueSafety(AgentsThatGive):
    GUEST = {}

    @classmethod
    def new_guest(cls, name):
        disk = cls.process.folder / f'{name}.qcow2'
        if not disk.exists():
            subprocess.run([QEMU_IMG, 'create', '-q', '-f', 'qcow2', disk,
                            '1G'], check=True)
        return guests.Guest(
            name, cls.process.folder, GUEST_MIB, append='psi=1',
            initramfs='initramfs-applications', extra=[
                *PORT, '-drive', f'if=none,id=disk,file={disk},format=qcow2',
                *DISK])

    def vmstat(self, guest, name):
        return int(guest.sh(f'sed -n "s/^{name} //p" /proc/vmstat'))

    def session(self, guest):
        return json.loads(guest.sh('bxctl condition --json'))['session']

    def sessions(self, guest):
        """How often the agent says that one began."""
        return int(guest.sh('grep -c "session with the host" /run/agent.log'
                            ' || true'))

    def swap_on(self, guest):
        guest.sh('test -e /dev/vda || insmod /modules/virtio_blk.ko; '
                 'mkswap /dev/vda >/dev/null && swapon /dev/vda && '
                 'echo 100 > /proc/sys/vm/swappiness', 120)
        self.addCleanup(guest.sh, 'swapoff /dev/vda', 300)

    def test_guest_that_swaps_loses_nothing(self):
        self.swap_on(self.a)
        self.by_application(self.a, self.b, 64)
        before = self.vmstat(self.a, 'pswpout')
        self.a.run('hungry', 'eat', 360)
        self.a.wait_filled('hungry', 300)
        self.assertGreater(self.vmstat(self.a, 'pswpout'), before)
        # What is locked for the host stays out of it.
        self.assertEqual(self.a.sh('sed -n "s/^VmSwap:[^0-9]*//p" /proc/$(cat '
                                   '/run/agent.pid)/status').split()[0], '0')
        self.assertSound()
        self.a.end('hungry')
        self.by_application(self.a, self.b, 32)
        self.assertSound()

    # The first of these tests: a guest whose pages have come back in great
    # numbers is not searched for minutes.
    def test_changed_pages_are_found_and_stay_as_written(self):
        self.by_application(self.a, self.b, 32)
        before = self.tags(self.a)
        area = self.agent_area(self.a)
        # Each write brings its tag back first; what the search finds then has
        # the right header, and is no tag.
        self.a.sh(
            f'i=0; while [ $i -lt {WRITTEN} ]; do '
            f'at=$(({area} + i * 4096 + 2000)); '
            'printf X | dd of=/proc/$(cat /run/agent.pid)/mem bs=1 seek=$at '
            'conv=notrunc 2>/dev/null || exit 1; i=$((i + 1)); done', 120)
        wait_for('the search has met them', lambda: self.tags(self.a)[
            'rejected'] >= before['rejected'] + WRITTEN * 4096, 120)
        text = self.a.sh(
            f'i=0; while [ $i -lt {WRITTEN} ]; do '
            f'at=$(({area} + i * 4096 + 2000)); '
            'dd if=/proc/$(cat /run/agent.pid)/mem bs=1 count=1 skip=$at '
            '2>/dev/null; i=$((i + 1)); done', 120)
        self.assertEqual(text.strip(), 'X' * WRITTEN)
        self.assertLessEqual(self.credited(self.a), 32 * MIB - WRITTEN * 4096)
        self.assertSound()

    def hook(self, guest, *words):
        """The file that systemd would run."""
        text = base64.b64encode(HOOK.read_bytes()).decode()
        guest.sh(f'echo {text} | base64 -d > /run/hook && sh /run/hook '
                 + ' '.join(words))

    def test_guest_that_hibernates_has_all_of_its_memory(self):
        self.by_application(self.a, self.b, 64)
        self.assertGreaterEqual(self.credited(self.a), 60 * MIB)
        self.hook(self.a, 'pre', 'suspend')
        self.assertGreaterEqual(self.credited(self.a), 60 * MIB)
        self.hook(self.a, 'pre', 'hibernate')
        wait_for('all of it is back', lambda: agent_of(
            self.process, self.a)['reserved'] == 0)
        self.assertEqual(self.credited(self.a), 0)
        transfer = self.process.move(self.a, self.b, 32, deadline=1500,
                                     source='application')
        self.assertEndedNot(transfer)
        self.hook(self.a, 'post', 'hibernate')
        self.by_application(self.a, self.b, 32)
        self.assertSound()

    def assertEndedNot(self, transfer):
        self.assertEqual(transfer['moved'], 0)
        self.assertEqual(transfer['state'], 'failed')
        self.assertTrue(transfer.get('reason'))

    def test_stalls_that_the_kernel_tells_give_memory_back(self):
        self.assertNotIn('does not tell', self.a.sh('cat /run/agent.log'))
        self.by_application(self.a, self.b, 96)
        given = agent_of(self.process, self.a)['reserved']
        # A group above its limit waits for memory while the guest has plenty.
        self.a.sh('mkdir -p /run/cgroup && (mountpoint -q /run/cgroup || '
                  'mount -t cgroup2 none /run/cgroup) && '
                  'echo +memory > /run/cgroup/cgroup.subtree_control && '
                  'mkdir -p /run/cgroup/tight && '
                  'echo 4M > /run/cgroup/tight/memory.high')
        self.addCleanup(self.a.sh, 'rmdir /run/cgroup/tight; true')
        self.a.sh('(echo 0 > /run/cgroup/tight/cgroup.procs; '
                  'exec dd if=/dev/zero of=/dev/null bs=24M count=1000000) '
                  '>/dev/null 2>&1 & echo $! > /run/tight.pid')
        self.addCleanup(self.a.sh, 'kill -9 $(cat /run/tight.pid); true')
        wait_for('the agent gives back', lambda: agent_of(
            self.process, self.a)['reserved'] < given, 120)
        self.assertIn('short of memory', self.a.sh('cat /run/agent.log'))
        self.assertSound()

    def test_saved_guest_loads_into_a_session_of_its_own(self):
        self.by_application(self.a, self.b, 48)
        before = self.session(self.a)
        self.assertEqual(self.a.qmp.hmp('savevm one'), '')
        self.by_application(self.a, self.b, 16)
        self.assertEqual(self.session(self.a), before)
        self.assertEqual(self.a.qmp.hmp('loadvm one'), '')
        wait_for('another session', lambda: self.session(self.a) != before)
        wait_for('the agent is known', lambda: agent_of(self.process, self.a))
        # Of the session before, nothing is credited.
        self.assertSound()
        self.by_application(self.a, self.b, 32)
        self.assertSound()

    def test_migrated_guest_goes_on_with_another_session(self):
        self.by_application(self.b, self.a, 48)
        before = self.session(self.b)
        with Process(768) as other:
            way = other.folder / 'way'
            target = guests.Guest('b', other.folder, GUEST_MIB, extra=[
                *PORT, *NO_DISK, *DISK, '-incoming', f'unix:{way}'])
            other.start(target)
            wait_for('the target listens', way.exists)
            target.connect()
            self.b.qmp.command('migrate', uri=f'unix:{way}')
            wait_migrated(self.b, 180)
            wait_for('the target runs', lambda: target.qmp.command(
                'query-status')['status'] == 'running')
            wait_for('another session', lambda: self.session(target) != before)
            wait_for('the agent is known', lambda: agent_of(other, target))
            target.heartbeat()
            target.sweep()
            # Pages of the session before are its kernel's as they were.
            target.sh('kill -9 $(cat /run/agent.pid)')
            target.run('heir', 'eat', 200)
            target.wait_filled('heir')
            self.assertEqual(target.status('heir')['errors'], 0)
            target.heartbeat()
            other.check()
        self.assertSound(self.a)
        self.replace(self.b)
        self.assertSound()

    def captured_pages(self):
        return sum(self.tags(guest)[key] for guest in (self.a, self.b)
                   for key in ('found-by-scan', 'found-by-hint')) // 4096

    def disturb(self, guest, number):
        """Each in turn; its agent is killed after each of them."""
        if number % 3 == 1:
            guest.sh('echo 1 > /proc/sys/vm/compact_memory', 120)
        elif number % 3 == 2:
            guest.sh('kill -9 $(cat /run/agent.pid)')
            guest.run('heir', 'eat', 160)
            guest.wait_filled('heir')
            self.assertEqual(guest.status('heir')['errors'], 0)
            guest.end('heir')

    def test_very_many_captures_lose_nothing(self):
        start, begin, rounds = time.monotonic(), self.captured_pages(), 0
        giver, taker = self.a, self.b
        while self.captured_pages() - begin < CAPTURES:
            self.by_application(giver, taker, 96)
            self.disturb(giver, rounds)
            for guest in (giver, taker):
                guest.heartbeat()
            rounds += 1
            if rounds % 8 == 0:
                self.assertSound()
                print(f'# {self.captured_pages() - begin} captures, '
                      f'{time.monotonic() - start:.0f} s', flush=True)
            self.settle(giver)
            giver, taker = taker, giver
        self.assertSound()
        print(f'# {self.captured_pages() - begin} captures in {rounds} '
              f'transfers, {time.monotonic() - start:.0f} s', flush=True)


if __name__ == '__main__':
    tap.main()
