#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Laying files over a source, and applying a series, on a small tree."""

import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / 'tests'))
sys.path.insert(0, str(TOP / 'scripts'))

from lib import tap  # noqa: E402
from setup import overlay, tools  # noqa: E402
from setup.common import SetupError, write_if_changed  # noqa: E402

PATCH = """Why.

diff --git a/menu b/menu
--- a/menu
+++ b/menu
@@ -1,2 +1,3 @@
 soup
+bread
 wine
"""


class Series(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.top = Path(folder.name)
        for name in ('patches', 'base', 'work'):
            (self.top / name).mkdir()
        (self.top / 'patches/series').write_text('# list\nmenu.patch\n')
        (self.top / 'patches/menu.patch').write_text(PATCH)

    def apply(self, text):
        (self.top / 'base/menu').write_text(text)
        return overlay.apply_series(self.top / 'base', self.top / 'work',
                                    self.top)

    def test_matching_context_is_patched_and_the_base_kept(self):
        self.assertEqual(self.apply('soup\nwine\n'), ['menu'])
        self.assertEqual((self.top / 'work/menu').read_text(),
                         'soup\nbread\nwine\n')
        self.assertEqual((self.top / 'base/menu').read_text(), 'soup\nwine\n')

    def test_other_context_is_refused_with_the_name_of_the_patch(self):
        with self.assertRaisesRegex(SetupError, 'menu.patch does not apply'):
            self.apply('soup\nwater\n')

    def test_missing_file_is_refused(self):
        with self.assertRaisesRegex(SetupError, 'menu, which this QEMU'):
            overlay.apply_series(self.top / 'base', self.top / 'work',
                                 self.top)

    def test_file_of_ours_that_exists_upstream_is_refused(self):
        (self.top / 'base/Makefile').write_text('theirs\n')
        with self.assertRaisesRegex(SetupError, 'Makefile exists in QEMU'):
            overlay.lay_links(['Makefile'], self.top / 'base', [])

    def test_link_of_a_file_that_is_gone_is_removed(self):
        overlay.lay_links(['Makefile'], self.top / 'base', [])
        self.assertTrue((self.top / 'base/Makefile').is_symlink())
        overlay.lay_links([], self.top / 'base', ['Makefile'])
        self.assertFalse((self.top / 'base/Makefile').is_symlink())


class Writing(unittest.TestCase):
    def test_same_content_leaves_the_time_of_the_file(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'a'
            self.assertTrue(write_if_changed(path, 'x'))
            before = path.stat().st_mtime_ns
            self.assertFalse(write_if_changed(path, 'x'))
            self.assertEqual(path.stat().st_mtime_ns, before)

    def test_version_of_a_package_without_its_epoch_and_revision(self):
        self.assertEqual(tools.upstream('1:1.7.0-1~bpo12+1'), '1.7.0')


if __name__ == '__main__':
    tap.main()
