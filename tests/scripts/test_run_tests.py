#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/run-tests: what it makes of what a program says."""

import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / 'tests'))
sys.path.insert(0, str(TOP / 'scripts'))

from checks import program  # noqa: E402
from checks.tap import judge, parse  # noqa: E402
from lib import tap  # noqa: E402


class Judge(unittest.TestCase):
    def test_silent_program_that_exits_0_counts_once(self):
        self.assertEqual(judge('p', 0, '').passed, 1)

    def test_silent_program_that_exits_1_fails_with_its_last_line(self):
        outcome = judge('p', 1, 'one\nlast words\n')
        self.assertEqual(outcome.failed,
                         [('p', 'exit status 1: last words')])

    def test_status_77_is_a_skip_with_the_last_line_as_reason(self):
        self.assertEqual(judge('p', 77, 'no kernel here\n').skipped,
                         [('p', 'no kernel here')])

    def test_all_ok_and_a_signal_is_a_failure(self):
        outcome = judge('p', -11, '1..1\nok 1 - a\n')
        self.assertEqual(len(outcome.failed), 1)
        self.assertIn('signal 11', outcome.failed[0][1])

    def test_not_ok_fails_though_the_status_is_0(self):
        self.assertEqual(len(judge('p', 0, '1..1\nnot ok 1 - a\n').failed), 1)

    def test_skip_status_does_not_hide_a_failure(self):
        outcome = judge('p', 77, '1..1\nnot ok 1 - a\n')
        self.assertEqual(len(outcome.failed), 1)


class Parse(unittest.TestCase):
    def test_fewer_results_than_planned_is_a_failure(self):
        outcome = parse('p', '1..3\nok 1 - a\nok 2 - b\n')
        self.assertEqual(outcome.failed, [('p', '2 results, 3 planned')])

    def test_bail_out_fails_with_what_it_says(self):
        outcome = parse('p', '1..3\nok 1 - a\nBail out! f.c:3: no\n')
        self.assertEqual(outcome.failed, [('p', 'f.c:3: no')])

    def test_failure_carries_what_was_last_said_of_it(self):
        text = '1..3\n# of a\nok 1 - a\n# Traceback\n# Error: no\n' \
               'not ok 2 - b\nnot ok 3 - c\n'
        self.assertEqual(parse('p', text).failed,
                         [('p: b', 'Error: no'), ('p: c', 'not ok')])

    def test_skip_carries_its_reason(self):
        outcome = parse('p', '1..1\nok 1 - a # SKIP no userfaultfd\n')
        self.assertEqual(outcome.skipped, [('p: a', 'no userfaultfd')])
        self.assertEqual(outcome.passed, 0)

    def test_empty_plan_is_a_skip(self):
        self.assertEqual(parse('p', '1..0 # SKIP nothing to do\n').skipped,
                         [('p', 'nothing to do')])

    def test_text_without_tap_is_none(self):
        self.assertIsNone(parse('p', 'okay then\nnot okay\n'))


class RunOne(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.addCleanup(setattr, program, 'LOGS', program.LOGS)
        program.LOGS = Path(folder.name)

    def test_program_past_its_limit_fails_and_ends(self):
        outcome, seconds = program.run_one('g', program.Program(
            'late', ['sh', '-c', 'sleep 100 & wait'], timeout=0.3))
        self.assertIn('more than', outcome.failed[0][1])
        self.assertLess(seconds, 20)

    def test_missing_program_fails(self):
        outcome, _ = program.run_one('g', program.Program(
            'none', ['/nonexistent/program']))
        self.assertEqual(len(outcome.failed), 1)


if __name__ == '__main__':
    tap.main()
