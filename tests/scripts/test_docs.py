#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/lint-docs.py finds gaps, and references to nothing."""

import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / 'tests'))

from lib import script, tap  # noqa: E402

docs = script.load('lint-docs.py')


class Docs(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.document = Path(folder.name) / 'a.rst'
        (Path(folder.name) / 'there.rst').touch()

    def check(self, text):
        return list(docs.check(self.document, text))

    def test_place_for_a_figure_is_a_gap(self):
        gap = '@' + 'TICK' + '@'
        self.assertEqual(self.check(f'one\ntakes {gap} ms\n'),
                         [f'2: {gap} waits to be filled in'])

    def test_references_to_what_is_there_are_none(self):
        self.assertEqual(self.check('.. image:: there.rst\n:doc:`there`\n'
                                    '[x](there.rst) [y](https://a.b/c)\n'), [])

    def test_reference_to_nothing_is_named_with_its_line(self):
        self.assertEqual(
            self.check('one\n.. image:: no.svg\n[x](no.md#part)\n:doc:`no`\n'),
            ['2: there is no no.svg', '3: there is no no.md',
             '4: there is no no'])


if __name__ == '__main__':
    tap.main()
