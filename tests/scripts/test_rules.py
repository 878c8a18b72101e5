#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/lint-rules.py finds what it is there to find."""

import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / 'tests'))

from lib import script, tap  # noqa: E402

rules = script.load('lint-rules.py')

TEXT = f'''Before
------

- no rule: ``test-x:y``

{rules.TITLE}
{'-' * len(rules.TITLE)}

Words.

- *A*: first, over
  two lines:
  ``test-a:one``,
  ``test_b:two``
- *B*: second:
  ``test-a:three``

After
-----

- no rule either
'''
FILES = {'test-a': ['static void test_one(void)\nstatic void test_three(void)'],
         'test_b': ['def test_two(self):']}


class Rules(unittest.TestCase):
    def test_rows_of_the_section_alone_are_read(self):
        self.assertEqual(
            [tests for _, tests in rules.rows(TEXT)],
            [[('test-a', 'one'), ('test_b', 'two')], [('test-a', 'three')]])

    def test_table_whose_tests_exist_is_clean(self):
        self.assertEqual(list(rules.check(TEXT, FILES)), [])

    def test_test_that_is_gone_is_named_with_its_rule(self):
        wrong = list(rules.check(TEXT, {**FILES, 'test_b': ['def test_tw(']}))
        self.assertEqual(len(wrong), 1)
        self.assertRegex(wrong[0], 'first, over two lines.*test_b.*test_two')

    def test_file_that_is_gone_or_there_twice_is_named(self):
        self.assertEqual(len(list(rules.check(TEXT, {**FILES,
                                                     'test_b': []}))), 1)
        self.assertEqual(len(list(rules.check(TEXT, {
            **FILES, 'test_b': FILES['test_b'] * 2}))), 1)

    def test_rule_without_a_test_is_named(self):
        self.assertEqual(list(rules.check(
            TEXT.replace('``test-a:three``', 'none'), FILES)),
            ['no test of: *B*: second: none'])

    def test_page_without_the_section_is_no_clean_page(self):
        self.assertTrue(list(rules.check('Nothing\n', FILES)))


if __name__ == '__main__':
    tap.main()
