#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory follows demand by itself: three Debian guests on a pool of 60 % of
the sum of their sizes, whose demand peaks one after the other and then begins
anew.  After their start no command is given that changes anything."""

import re
import subprocess
import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / 'tests'), str(TOP / 'scripts')]

from lib import demand, guests, tap  # noqa: E402
from lib.demand import MIB, NAMES  # noqa: E402
from lib.guests import CTL  # noqa: E402
from lib.recorded import Recorded  # noqa: E402

TESTED_MIB = 48             # under test all the time
PEAK_MIB = 224              # and so much while demand peaks
PEAK_LIMIT_S = 180


class Demand(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        guests.ensure_image()
        cls.process = demand.new_process()
        cls.addClassCleanup(cls.process.close)
        demand.boot(cls.process, TESTED_MIB)

    def memory(self, guest):
        return self.process.memory(guest.name)

    def peak(self, guest):
        """Demand that goes up, and is gone.  Returns what the guest held
        meanwhile."""
        guest.run('peak', 'eat', PEAK_MIB, 'blind')
        guest.wait_filled('peak', PEAK_LIMIT_S)
        self.assertEqual(guest.check_status('peak')['errors'], 0)
        held = self.memory(guest)['allocated'] // MIB
        guest.end('peak')
        return held

    def explained(self, guest):
        """memschedctl explain, in words and numbers."""
        done = subprocess.run(
            [CTL, '-s', self.process.top_path, 'explain', guest.name],
            text=True, capture_output=True, timeout=60, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        self.assertRegex(done.stdout, r'\d+ MiB')
        return done.stdout

    def test_memory_follows_demand_and_comes_back(self):
        everyone = [self.process.guests[n] for n in NAMES]
        record = self.process.folder / 'run.jsonl'
        with Recorded(self.process, record) as recorded:
            for guest in everyone + everyone[:1]:
                held = self.peak(guest)
                print(f'# {guest.name} held {held} MiB at its peak')
                self.assertGreater(held, TESTED_MIB + PEAK_MIB)
            samples = recorded.samples()
        for guest in everyone:
            text = self.explained(guest)
            print('# ' + text.strip().replace('\n', '\n# '))
            self.followed(samples, guest.name)
            self.kept(samples, guest.name)
        self.process.alive()
        self.process.check()
        for guest in everyone:
            guest.heartbeat()
            guest.sweep()
            self.assertEqual(
                int(re.search(r'oom_kill (\d+)', guest.sh(
                    'grep oom_kill /proc/vmstat'))[1]), 0)

    def of(self, samples, name):
        return [g['memory'] for s in samples for g in s['guests']
                if g['id'] == name and 'memory' in g]

    def followed(self, samples, name):
        """It has given what it had for its peak, to who peaked after it."""
        held = [m['allocated'] // MIB for m in self.of(samples, name)]
        before = held[0]
        self.assertGreater(max(held), before + PEAK_MIB // 2)
        up = next(i for i, mib in enumerate(held)
                  if mib > before + PEAK_MIB // 2)
        after = min(held[up:])
        print(f'# {name}: from {before} to {max(held)} to {after} MiB')
        if name != 'c':             # which peaks last but for a again
            self.assertLess(after, max(held) - PEAK_MIB // 4)
            self.assertGreater(self.of(samples, name)[-1]['captured'],
                               PEAK_MIB // 4 * MIB)

    def kept(self, samples, name):
        """Never below its min: not steered there, not waiting for it."""
        for memory in self.of(samples, name):
            self.assertGreaterEqual(memory['target'], memory['min'])
            self.assertGreaterEqual(memory['entitlement'], memory['min'])
            if memory['stalled']:
                self.assertGreaterEqual(memory['allocated'], memory['min'])


if __name__ == '__main__':
    tap.main()
