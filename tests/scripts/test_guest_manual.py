#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual pages of guest/ name every option, command and function that there
is, and are formatted without a warning."""

import re
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / 'tests'))

from lib import tap  # noqa: E402

GUEST = TOP / 'guest'


def text(name):
    return (GUEST / name).read_text(encoding='utf-8')


def page(name):
    """Without the backslash that roff has before a dash."""
    return text(f'man/{name}').replace('\\-', '-')


class Manual(unittest.TestCase):
    def test_each_option_of_the_agent_is_described(self):
        names = re.findall(r'^    \{ "([a-z-]+)", (?:"|NULL)',
                           text('agent/options.c'), re.M)
        self.assertGreater(len(names), 10)
        manual = page('balloon-exd.8')
        for name in names:
            self.assertTrue(f'--{name}' in manual, name)

    def test_each_option_in_the_sample_file_is_one(self):
        code = text('agent/options.c')
        names = re.findall(r'^#([a-z-]+)=', text('agent/dist/balloon-exd.conf'),
                           re.M)
        self.assertGreater(len(names), 5)
        for name in names:
            self.assertIn(f'"{name}"', code)

    def test_each_command_and_option_of_bxctl_is_described(self):
        code = text('tools/bxctl.c')
        names = re.findall(r'strcmp\(command, "(\w+)"\)', code)
        self.assertEqual(len(names), 6)
        manual = page('bxctl.1')
        for name in names:
            self.assertRegex(manual, rf'\n\.BR? {name}\b')
            self.assertIn(name, code.split('usage[]')[1].split(';\n\n')[0])
        for name in re.findall(r'^        \{ "([a-z-]+)", ', code, re.M):
            self.assertIn(f'--{name}', manual)

    def test_each_function_is_exported_declared_and_described(self):
        exported = set(re.findall(r'^    (bx_\w+);', text(
            'lib/libballoonex.map'), re.M))
        code = re.sub(r'/\*.*?\*/', '', text('include/balloonex.h'),
                      flags=re.S)
        declared = set(re.findall(r'\b(bx_\w+)\(', code))
        self.assertGreater(len(exported), 15)
        self.assertEqual(exported, declared)
        manual = page('balloonex.3')
        for name in exported:
            self.assertRegex(manual, rf'\n\.BI .*\b{name}\(')
            self.assertTrue(f'.BR {name} (' in manual, name)

    @unittest.skipUnless(shutil.which('groff'), 'there is no groff')
    def test_pages_are_formatted_without_a_warning(self):
        for path in sorted((GUEST / 'man').iterdir()):
            done = subprocess.run(
                ['groff', '-man', '-ww', '-z', '-Tutf8', path], text=True,
                stderr=subprocess.STDOUT, stdout=subprocess.PIPE, check=False)
            self.assertEqual((done.returncode, done.stdout), (0, ''))


if __name__ == '__main__':
    tap.main()
