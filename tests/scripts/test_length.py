#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/lint-length.py finds what it is there to find."""

import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / 'tests'))

from lib import script, tap  # noqa: E402

length = script.load('lint-length.py')


def c_function(lines=1, parameters='void', name='work'):
    return f'static int {name}({parameters})\n{{\n' + '    x++;\n' * lines + \
        '}\n'


def check(name, text, exceptions=()):
    return list(length.check([(name, text)], dict.fromkeys(exceptions, 'why')))


class Length(unittest.TestCase):
    def test_file_at_the_limit_is_clean_and_one_line_more_is_named(self):
        text = 'int a;\n' * length.MAX_FILE_LINES
        self.assertEqual(check('a.c', text), [])
        self.assertEqual(len(check('a.c', text + 'int b;\n')), 1)

    def test_c_function_at_the_limit_is_clean_and_one_line_more_is_named(self):
        # Its head and two braces count.
        inside = length.MAX_FUNCTION_LINES - 3
        self.assertEqual(check('a.c', c_function(inside)), [])
        self.assertIn('a.c:work', check('a.c', c_function(inside + 1))[0])

    def test_function_behind_another_is_measured_alone(self):
        half = c_function(length.MAX_FUNCTION_LINES // 2)
        self.assertEqual(check('a.c', half + '\n' + half), [])

    def test_too_many_parameters_of_a_c_function_are_named(self):
        many = ', '.join(f'int a{i}' for i in range(length.MAX_PARAMETERS))
        self.assertEqual(check('a.c', c_function(1, many)), [])
        self.assertTrue(check('a.c', c_function(1, many + ', int b')))

    def test_a_function_pointer_is_one_parameter(self):
        self.assertEqual(length.c_parameters(
            'int f(void (*done)(int a, int b), char c)'), 2)
        self.assertEqual(length.c_parameters('int f(void)'), 0)

    def test_commas_in_comments_are_no_parameters(self):
        text = c_function(1, 'int a /* b, c, d, e, f, g, h, i, j */')
        self.assertEqual([f[2] for f in length.c_functions(text)], [1])

    def test_initialiser_of_a_table_is_no_function(self):
        table = 'static const int a[] = {\n' + '    1,\n' * 200 + '};\n'
        self.assertEqual(list(length.c_functions(table)), [])

    def test_long_python_function_is_named_and_self_does_not_count(self):
        many = ', '.join(f'a{i}' for i in range(length.MAX_PARAMETERS))
        text = f'class A:\n    def f(self, {many}):\n' + \
            '        x = 1\n' * (length.MAX_FUNCTION_LINES - 1)
        self.assertEqual(check('a.py', text), [])
        self.assertTrue(check('a.py', text + '        y = 1\n'))

    def test_exception_excuses_what_it_names_only(self):
        text = c_function(200) + '\n' + c_function(200, name='other')
        found = check('a.c', text, ['a.c:work'])
        self.assertEqual(len(found), 1)
        self.assertIn('a.c:other', found[0])

    def test_exception_that_excuses_nothing_is_named(self):
        self.assertIn('no exception', check('a.c', c_function(),
                                            ['a.c:work'])[0])


if __name__ == '__main__':
    tap.main()
