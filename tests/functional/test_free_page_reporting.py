#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Free page reporting by the driver of a stock kernel."""

import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib import tap  # noqa: E402
from lib.guests import wait_for  # noqa: E402
from lib.scenario import MIB, TwoGuests  # noqa: E402


class FreePageReporting(TwoGuests):
    GUEST = {'balloon': 'balloon-ex,free-page-reporting=on'}

    def test_freed_memory_returns_to_the_pool_unasked(self):
        self.give(self.a, 200)
        # The driver waits two seconds, then reports blocks of 4 MiB.
        wait_for('most of it is reported', lambda: (
            self.process.memory('a')['ballooned']['reported'] > 150 * MIB))
        self.assertSound()

    def test_guest_takes_reported_memory_back_by_touching_it(self):
        self.give(self.a, 200)
        wait_for('most of it is reported', lambda: (
            self.process.memory('a')['ballooned']['reported'] > 150 * MIB))
        self.a.run('eater', 'eat', 220)
        self.a.wait_filled('eater')
        self.assertEqual(self.a.status('eater')['errors'], 0)
        self.a.end('eater')
        self.assertSound()


if __name__ == '__main__':
    tap.main()
