#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What run-bench reads out of the lines of benches."""

import importlib.machinery
import importlib.util
import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / 'tests'))

from lib import tap  # noqa: E402

loader = importlib.machinery.SourceFileLoader(
    'run_bench', str(TOP / 'scripts/run-bench'))
run_bench = importlib.util.module_from_spec(
    importlib.util.spec_from_loader(loader.name, loader))
loader.exec_module(run_bench)


def row(line):
    return run_bench.rows_of(line)[0]


class Marks(unittest.TestCase):
    def test_more_is_better_where_the_unit_is_a_rate(self):
        self.assertEqual(run_bench.verdict(row('a,b,GiB/s,20,,,10')), 'met')
        self.assertIn('50%', run_bench.verdict(row('a,b,GiB/s,5,,,10')))

    def test_less_is_better_where_the_unit_is_a_time(self):
        self.assertEqual(run_bench.verdict(row('a,b,us,5,,,10')), 'met')
        self.assertIn('50%', run_bench.verdict(row('a,b,us,20,,,10')))

    def test_a_mark_with_an_x_is_for_the_ratio(self):
        self.assertEqual(run_bench.verdict(row('a,b,us,5,60,12,10x')), 'met')
        self.assertIn('missed', run_bench.verdict(row('a,b,us,5,9,1.8,10x')))

    def test_a_row_without_a_mark_has_no_verdict(self):
        self.assertEqual(run_bench.verdict(row('a,b,us,5,9,1.8,')), '')


class Lines(unittest.TestCase):
    def test_headers_and_other_lines_are_no_rows(self):
        text = ','.join(run_bench.FIELDS) + '\nsome words\na,b,us,1,,,\n'
        self.assertEqual(len(run_bench.rows_of(text)), 1)

    def test_the_picture_has_a_bar_for_each_mark(self):
        rows = run_bench.rows_of('a,b,us,5,,,10\nc,d,us,5,,,\n')
        self.assertEqual(run_bench.svg(rows).count('<rect x='), 1)


if __name__ == '__main__':
    tap.main()
