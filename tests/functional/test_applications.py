#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory moves between real guests by their balloon applications, and nothing
of either guest is lost or seen by the other, whatever its kernel and its
programs do to the pages that the host has taken.

Unmodified kernels; the agent is the only program of ours that a guest needs.
Both guests keep memory under test all the time."""

import sys
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / 'tests'), str(TOP / 'scripts')]

from lib import tap  # noqa: E402
from lib.applications import (AgentsThatGive, MIB, agent_of,  # noqa: E402
                              applications, start_agent)
from lib.guests import wait_for  # noqa: E402


class Applications(AgentsThatGive):
    def killed_by_oom(self, guest):
        return int(guest.sh('sed -n "s/^oom_kill //p" /proc/vmstat'))

    def test_memory_moves_there_and_back(self):
        for giver, taker in ((self.a, self.b), (self.b, self.a)):
            before = self.tags(giver)
            transfer = self.by_application(giver, taker, 96)
            after = self.tags(giver)
            found = sum(after[k] - before[k]
                        for k in ('found-by-scan', 'found-by-hint'))
            self.assertGreaterEqual(found, 96 * MIB)
            self.assertEqual(transfer['copied'], 0)
            self.assertGreaterEqual(
                self.process.memory(giver.name)['ballooned']['application'],
                90 * MIB)
            self.assertSound()

    def test_kernel_that_compacts_captured_memory_loses_nothing(self):
        self.by_application(self.a, self.b, 64)
        for _ in range(5):
            self.a.sh('echo 1 > /proc/sys/vm/compact_memory', 120)
            self.a.heartbeat()
        # Pages that the kernel has migrated have come back by touch, and
        # stand for the same reservation when they are found again.
        wait_for('migrated pages are found again',
                 lambda: self.credited(self.a) >= 60 * MIB, 60)
        self.assertSound()

    def test_memory_of_a_killed_agent_is_clean_for_others(self):
        self.by_application(self.a, self.b, 64)
        self.settle(self.a)
        # What it had is free in the guest, holds its tags at the host, and is
        # somebody else's as soon as it is taken.
        self.a.run('heir', 'eat', 200)
        self.a.wait_filled('heir')
        self.assertEqual(self.a.status('heir')['errors'], 0)
        self.a.end('heir')
        self.assertSound()

    def test_copied_tags_earn_nothing(self):
        self.by_application(self.a, self.b, 32)
        before = self.credited(self.a)
        # The largest locked area of the agent, read by somebody else: each
        # page comes back by its touch, and its copy is a page like any other.
        self.a.sh(
            'pid=$(cat /run/agent.pid); '
            'awk \'/^[0-9a-f]+-/ {range=$1} /^Locked:/ {if ($2 > best) '
            '{best=$2; area=range}} END {print area}\' /proc/$pid/smaps '
            '> /run/area; '
            'start=$((0x$(cut -d- -f1 /run/area) / 4096)); '
            'dd if=/proc/$pid/mem of=/run/copy bs=4096 skip=$start count=2048 '
            '2>/dev/null; test $(stat -c %s /run/copy) = 8388608', 120)
        self.assertEqual(
            self.a.sh('dd if=/run/copy bs=8 count=1 2>/dev/null | od -A n -t x8'
                      ).strip(), '3147415458422ab5')
        returned = self.tags(self.a)['returned-by-fault']
        self.assertGreater(returned, 0)
        wait_for('the agent\'s own pages are found again',
                 lambda: self.credited(self.a) >= before, 60)
        entry = agent_of(self.process, self.a)
        self.assertLessEqual(entry['captured'], entry['reserved'])
        # Copies that were taken as known content read as what they were.
        self.a.sh('cp /run/copy /run/copy2; cmp /run/copy /run/copy2; '
                  'rm /run/copy /run/copy2', 120)
        self.assertSound()

    def test_forged_tags_without_the_key_are_left_alone(self):
        self.by_application(self.a, self.b, 32)
        # The right magic number, version, application, epoch and sequence.
        self.a.sh(
            'dd if=/dev/zero of=/run/forged bs=4096 count=256 2>/dev/null; '
            'i=0; while [ $i -lt 256 ]; do '
            'printf "\\265\\052BXTAG1\\001\\0\\0\\0\\001\\0\\0\\0'
            '\\001\\0\\0\\0\\0\\0\\0\\0" | dd of=/run/forged bs=4096 seek=$i '
            'conv=notrunc 2>/dev/null; i=$((i + 1)); done', 120)
        self.by_application(self.a, self.b, 16)
        self.assertEqual(
            self.a.sh('od -A n -t x8 -N 8 /run/forged').strip(),
            '3147415458422ab5')
        entry = agent_of(self.process, self.a)
        self.assertLessEqual(entry['captured'], entry['reserved'])
        self.assertEqual(applications(self.process, self.a)['known'], 0)
        self.a.sh('rm /run/forged')
        self.assertSound()

    def test_guest_under_pressure_takes_its_memory_back(self):
        self.by_application(self.a, self.b, 128)
        given = self.credited(self.a)
        self.assertGreaterEqual(given, 120 * MIB)
        killed = self.killed_by_oom(self.a)
        # Each is smaller than what the agent keeps available, three quarters
        # of 64 MiB at least, and gives it time to make room for the next one.
        for number in range(6):
            self.a.run(f'hungry{number}', 'eat', 32)
            self.addCleanup(self.a.end, f'hungry{number}')
            self.a.wait_filled(f'hungry{number}')
            wait_for('the agent makes room', lambda: int(self.a.sh(
                'sed -n "s/^MemAvailable: *\\([0-9]*\\) kB/\\1/p" '
                '/proc/meminfo')) > 40 * 1024)
        self.assertEqual(self.killed_by_oom(self.a), killed)
        self.assertLess(self.credited(self.a), given)
        for number in range(6):
            self.assertEqual(self.a.status(f'hungry{number}')['errors'], 0)
        self.assertSound()

    def test_guest_out_of_memory_kills_the_agent_and_nobody_else(self):
        self.by_application(self.a, self.b, 128)
        self.a.run('hungry', 'eat', 300)
        self.a.wait_filled('hungry')
        self.assertEqual(self.a.status('hungry')['errors'], 0)
        self.a.end('hungry')
        self.assertSound()

    def test_guest_that_reboots_starts_a_session_of_its_own(self):
        self.by_application(self.a, self.b, 32)
        self.a.reboot_begin()
        self.a.wait_ready()
        self.under_test(self.a)
        wait_for('the session of before has ended',
                 lambda: agent_of(self.process, self.a) is None)
        start_agent(self.a, *self.AGENT_OPTIONS)
        wait_for('the host knows the agent',
                 lambda: agent_of(self.process, self.a))
        self.by_application(self.a, self.b, 32)
        self.assertSound()


if __name__ == '__main__':
    tap.main()
