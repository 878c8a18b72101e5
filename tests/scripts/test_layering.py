#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/lint-layering.py finds what it is there to find."""

import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / 'tests'))

from lib import script, tap  # noqa: E402

layering = script.load('lint-layering.py')


def library(name, text):
    return list(layering.check_library(TOP / 'memsched' / name, text, text))


class Layering(unittest.TestCase):
    def test_library_that_includes_qemu_is_named(self):
        self.assertTrue(library('pool.c', '#include "qemu/osdep.h"\n'))

    def test_pure_module_that_takes_a_lock_is_named(self):
        self.assertTrue(library('policy.c', 'pthread_mutex_lock(&l);\n'))

    def test_pure_module_that_computes_is_clean(self):
        self.assertEqual(library('policy.c', 'int a = max(b, c);\n'), [])

    def test_uffdio_outside_uffd_is_named(self):
        self.assertTrue(library('mover.c', 'x = UFFDIO_MOVE;\n'))
        self.assertEqual(library('uffd.c', 'x = UFFDIO_MOVE;\n'), [])

    def test_direct_system_call_is_named_and_one_through_the_table_is_not(self):
        self.assertTrue(library('pool.c', 'p = mmap(0, n, 0, 0, 0, 0);\n'))
        self.assertEqual(library('pool.c', 'p = sys->mmap(0, n);\n'), [])

    def test_lower_module_that_includes_a_higher_one_is_named(self):
        self.assertTrue(library('uffd.c', '#include "pool.h"\n'))
        self.assertEqual(library('pool.c', '#include "uffd.h"\n'), [])

    def test_device_that_includes_the_library_is_named(self):
        path = TOP / 'hw/virtio/virtio-balloon-ex.c'
        text = '#include "memsched/memsched.h"\n'
        self.assertTrue(list(layering.check_emulator(path, text)))

    def test_monitor_may_include_the_contract_only(self):
        path = TOP / 'monitor/qmp-memsched.c'
        self.assertEqual(list(layering.check_emulator(
            path, '#include "memsched/memsched.h"\n')), [])
        self.assertTrue(list(layering.check_emulator(
            path, '#include "memsched/pool.h"\n')))

    def test_guest_program_that_includes_the_library_is_named(self):
        self.assertTrue(list(layering.check_guest(
            '#include "memsched/memsched.h"\n')))


if __name__ == '__main__':
    tap.main()
