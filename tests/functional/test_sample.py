#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a booted guest uses, as the host sees it: a guest that touches its
memory all the time looks busy, and nothing of what it holds changes."""

import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / 'scripts'), str(TOP / 'tests')]

from lib import tap  # noqa: E402
from lib.guests import MIB, Process, ensure_image, wait_for  # noqa: E402

POOL_MIB = 512
GUEST_MIB = 256
LIMIT_S = 240


class Sample(unittest.TestCase):
    def usage(self):
        return self.process.memory('web')['usage']

    def wait_usage(self, what, condition):
        wait_for(what, lambda: condition(self.usage()), LIMIT_S)
        return self.usage()

    def test_busy_memory_looks_busy_and_keeps_its_content(self):
        ensure_image()
        self.process = Process(
            POOL_MIB, 'policy=static,sample-interval=1000')
        self.addCleanup(self.process.close)
        web = self.process.guest('web', GUEST_MIB)
        usage = self.wait_usage('a figure of the idle guest',
                                lambda usage: 'sampled' in usage)
        self.assertNotIn('reason', usage)
        self.assertGreaterEqual(usage['units'], 16)
        self.assertLessEqual(usage['fast'], 100)
        self.assertLessEqual(usage['slow'], 100)

        # 96 MiB that are written and compared without a rest; a slow machine
        # does not come to all of it within a second.
        web.memtest(96, seed=7, rest_us=0)
        self.wait_usage('memory in use',
                        lambda usage: usage.get('sampled', 0) > 32 * MIB)
        web.sweep()
        web.end('memtest')

        # Nothing of it is out, or told, once that is switched off.
        self.process.qmp.command('memsched-set', sample_interval=0)
        usage = self.wait_usage('all of it back',
                                lambda usage: usage['out'] == 0)
        self.assertEqual(usage['reason'], 'sampling is off')
        self.process.check()


if __name__ == '__main__':
    tap.main()
