#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that know nothing of hosts, in real guests: redis, memcached, a
control group and a program that speaks systemd's memory pressure protocol
follow the memory condition, and give memory up when the host asks for it."""

import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / 'tests'), str(TOP / 'scripts')]

from lib import tap  # noqa: E402
from lib.applications import (MIB, TwoGuestsWithAgents,  # noqa: E402
                              applications)
from lib.guests import wait_for  # noqa: E402

REDIS = 'redis-cli -s /run/redis.sock'


class Following(TwoGuestsWithAgents):
    # The agent gives little, so that it is the caches who are asked.
    AGENT_OPTIONS = ('--keep-available=64M', '--max-fraction=10')

    def background(self, guest, name, command):
        guest.sh(f'{command} >/run/{name}.log 2>&1 & echo $! >/run/{name}.pid')
        self.addCleanup(guest.sh, f'kill $(cat /run/{name}.pid); true')

    def application(self, guest, name):
        for entry in applications(self.process, guest).get('list', []):
            if entry['name'] == name:
                return entry
        return None

    def redis(self, guest, mib):
        self.background(guest, 'redis', 'redis-server --port 0 --unixsocket '
                        '/run/redis.sock --save "" --appendonly no '
                        '--enable-debug-command local '
                        f'--maxmemory {mib}mb --maxmemory-policy allkeys-lru')
        wait_for('redis', lambda: guest.sh(f'{REDIS} ping || true').strip()
                 == 'PONG')

    def redis_figure(self, guest, name):
        return int(guest.sh(f'{REDIS} info memory | sed -n "s/^{name}://p"'
                            ).strip())

    def fill_redis(self, guest, mib):
        guest.sh(f'{REDIS} debug populate {mib * 16} k 65536', 120)

    def test_redis_gives_its_cache_to_the_other_guest(self):
        self.redis(self.a, 200)
        self.fill_redis(self.a, 160)
        used = self.redis_figure(self.a, 'used_memory')
        self.assertGreater(used, 150 * MIB)
        self.background(self.a, 'follow', 'bx-follow redis --verbose --give '
                        '--priority=0 --min=16M --max=200M -a /run/redis.sock')
        wait_for('the host knows redis',
                 lambda: self.application(self.a, 'redis'))
        # A kernel that takes its balloon back takes some by itself, too.
        self.room(self.b, 112)
        # However slow the machine is.
        transfer = self.process.move(self.a, self.b, 64, limit=150,
                                     source='application', deadline=120000)
        self.assertCompleted(transfer)
        entry = self.application(self.a, 'redis')
        self.assertGreater(entry['captured'], 0, self.a.sh(
            'cat /run/follow.log /run/redis.log | tail -20'))
        self.assertLess(self.redis_figure(self.a, 'used_memory'), used)
        # The server has lost keys, and nothing else.
        self.assertEqual(self.a.sh(f'{REDIS} set later on').strip(), 'OK')
        self.assertEqual(self.a.sh(f'{REDIS} get later').strip(), 'on')
        self.assertSound()

    def test_memcached_shrinks_when_the_guest_is_short(self):
        self.background(self.a, 'memcached',
                        'memcached -u root -s /run/memcached.sock -m 150')
        wait_for('memcached', lambda: self.a.sh(
            'test -S /run/memcached.sock && echo yes || echo no').strip()
            == 'yes')
        self.background(self.a, 'follow', 'bx-follow memcached --verbose '
                        '--min=16M --max=150M -a /run/memcached.sock')

        def limit():
            text = self.a.sh('tail -n 1 /run/follow.log')
            return int(text.split()[1]) // 1024 if 'limit' in text else 0
        wait_for('a limit', limit)
        # What is missing to 64 MiB of headroom is taken from the limit.
        self.a.run('hungry', 'eat', 260)
        self.a.wait_filled('hungry')
        wait_for('memcached is told a smaller limit', lambda: limit() < 100)
        self.a.end('hungry')
        wait_for('memcached may grow again', lambda: limit() >= 100)
        self.assertSound()

    def test_group_follows_and_its_programs_live(self):
        self.a.sh('mkdir -p /run/cgroup && (mountpoint -q /run/cgroup || '
                  'mount -t cgroup2 none /run/cgroup) && '
                  'echo +memory > /run/cgroup/cgroup.subtree_control && '
                  'mkdir -p /run/cgroup/cache')
        self.addCleanup(self.a.sh, 'rmdir /run/cgroup/cache; true')
        self.assertEqual(self.a.sh('cat /run/cgroup/cache/memory.high').strip(),
                         'max')
        self.background(self.a, 'follow', 'bx-follow cgroup --min=32M '
                        '--max=120M -a /run/cgroup/cache')
        wait_for('the group has a limit', lambda: self.a.sh(
            'cat /run/cgroup/cache/memory.high').strip() != 'max')
        high = int(self.a.sh('cat /run/cgroup/cache/memory.high'))
        self.assertGreaterEqual(high, 32 * MIB)
        self.assertLessEqual(high, 120 * MIB)
        self.assertSound()

    def test_pressure_reaches_a_program_that_knows_systemds_protocol(self):
        def told():
            return self.a.sh('cat /run/told 2>/dev/null || true').strip()
        self.background(self.a, 'pressure',
                        'bx-pressure --interval=200 -- pressed /run/told')
        wait_for('it is connected', lambda: told() == 'waits')
        # The host asks this guest for memory: its condition becomes hard.
        self.give(self.a, 96)
        self.process.reallocate(self.a, self.b, 200, deadline=8000)
        wait_for('it was told, and again',
                 lambda: told() not in ('', 'waits', '1'))
        self.assertSound()

    def test_a_program_that_asks_gets_memory(self):
        # The first of these tests: b has pages which it never touched.
        before = self.process.memory('b')['allocated']
        text = self.b.sh('bxctl request 32M --priority 7 --reason start '
                         '--deadline 20 --wait 2>&1; echo status $?', 60)
        self.assertIn('status 0', text)
        self.assertGreaterEqual(self.process.memory('b')['allocated'],
                                before + 32 * MIB)
        self.assertSound()

    def test_condition_as_a_program_sees_it_is_the_hosts(self):
        text = self.a.sh('bxctl condition')
        self.assertIn('high', text.lower())
        told = applications(self.process, self.a)['told']
        self.assertEqual(told['condition'], 'high')


if __name__ == '__main__':
    tap.main()
