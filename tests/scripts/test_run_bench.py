#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What run-bench reads out of the lines of benches."""

import importlib.machinery
import importlib.util
import sys
import tempfile
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


class Runs(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        for name, value in (('OUT', self.folder), ('LIMIT_S', 20)):
            before = getattr(run_bench, name)
            self.addCleanup(setattr, run_bench, name, before)
            setattr(run_bench, name, value)

    def program(self, text):
        path = self.folder / 'bench-a.py'
        path.write_text(text)
        return path

    def test_a_program_that_fails_keeps_what_it_has_printed(self):
        rows, why = run_bench.run(self.program(
            'import sys\nprint("a,b,us,5,,,")\nsys.exit("no more")\n'))
        self.assertEqual(len(rows), 1)
        self.assertIn('no more', why)

    def test_a_program_that_hangs_is_ended_with_what_it_has_started(self):
        run_bench.LIMIT_S = 1
        rows, why = run_bench.run(self.program(
            'import subprocess\nprint("a,b,us,5,,,", flush=True)\n'
            'subprocess.run(["sleep", "600"])\n'))
        # It would not return while anybody holds the pipe.
        self.assertEqual(len(rows), 1)
        self.assertIn('more than 1 s', why)

    def test_figures_of_an_earlier_run_are_found_again(self):
        program = self.program('')
        self.assertEqual(run_bench.kept_rows(program), [])
        rows = run_bench.rows_of('a,b,us,5,60,12,10x\n')
        run_bench.write_rows(self.folder / 'bench-a.csv', rows)
        self.assertEqual(run_bench.kept_rows(program), rows)


if __name__ == '__main__':
    tap.main()
