# SPDX-License-Identifier: GPL-2.0-or-later
"""memschedctl metrics, read by a strict reader of the format.

First argument: the program."""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / 'tests'))

from lib import prometheus, tap  # noqa: E402
from lib.fakeqmp import FakeQmp  # noqa: E402
from lib.samples import MIB, failed_guest, guest, scheduler  # noqa: E402

CTL = sys.argv.pop(1)


def metrics(*guests, options=()):
    def answer(name, arguments):
        if name == 'query-memsched-guests':
            return {'return': list(guests)}
        if name == 'query-memsched':
            return {'return': {**scheduler(512), 'pressure': 85}}
        return {'error': {'class': 'CommandNotFound', 'desc': 'not found'}}
    with FakeQmp(answer) as server:
        return subprocess.run(
            [CTL, '-s', server.path, 'metrics', *map(str, options)],
            text=True, capture_output=True, timeout=60, check=False)


class Reader(unittest.TestCase):
    HEAD = '# HELP a Text.\n# TYPE a gauge\n'

    def test_what_is_right_is_read(self):
        read = prometheus.parse(self.HEAD + 'a 1\na{b="x\\"\\\\\\n",c=""} 2e3\n')
        self.assertEqual(read['a'].samples,
                         {(): 1, (('b', 'x"\\\n'), ('c', '')): 2000})

    def test_what_is_wrong_is_not(self):
        for text in ('', 'a 1\n', self.HEAD, self.HEAD + 'a 1',
                     self.HEAD + 'b 1\n', self.HEAD + 'a  1\n',
                     self.HEAD + 'a 1 \n', self.HEAD + 'a 1,5\n',
                     self.HEAD + 'a 1\na 2\n', self.HEAD + 'a{} 1\n',
                     self.HEAD + 'a{b="x",} 1\n', self.HEAD + 'a{b=x} 1\n',
                     self.HEAD + 'a{b="x} 1\n', self.HEAD + 'a{b="\\t"} 1\n',
                     self.HEAD + 'a{b="1",b="2"} 1\n',
                     self.HEAD + 'a{__b="1"} 1\n', self.HEAD + 'a 1\r\n',
                     self.HEAD + 'a 1\n' + self.HEAD + 'a 2\n',
                     '# HELP a Text.\na 1\n', '# TYPE a gauge\na 1\n',
                     '# HELP a \n# TYPE a gauge\na 1\n',
                     '# HELP a T.\n# TYPE a thing\na 1\n',
                     '# HELP a T.\n# TYPE a counter\na 1\n',
                     '# HELP a_total T.\n# TYPE a_total gauge\na_total 1\n',
                     '# HELP a_total T.\n# TYPE a_total counter\n'
                     'a_total -1\n',
                     '# HELP a_ms T.\n# TYPE a_ms gauge\na_ms 1\n'):
            with self.subTest(text), \
                    self.assertRaises(prometheus.FormatError):
                prometheus.parse(text)


class Metrics(unittest.TestCase):
    def read(self, *guests):
        done = metrics(*guests)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        return prometheus.parse(done.stdout)

    def value(self, read, name, **labels):
        return read[name].samples[tuple(sorted(labels.items()))]

    def test_values_have_base_units(self):
        read = self.read(guest('web', 256, pressure=150, captured=MIB,
                               faults={'served': 3, 'p99-ns': 41000}))
        for name, labels, value in (
                ('memsched_free_bytes', {}, 512 * MIB),
                ('memsched_pressure_ratio', {}, 0.85),
                ('memsched_moved_bytes_total', {}, 3 * MIB),
                ('memsched_state', {'state': 'high'}, 1),
                ('memsched_state', {'state': 'low'}, 0),
                ('memsched_guest_allocated_bytes', {'guest': 'web'},
                 256 * MIB),
                ('memsched_guest_pressure_ratio', {'guest': 'web'}, 1.5),
                ('memsched_guest_fault_p99_seconds', {'guest': 'web'}, 41e-6),
                ('memsched_guest_captured_bytes_total', {'guest': 'web'}, MIB),
                ('memsched_guest_faults_total', {'guest': 'web'}, 3)):
            self.assertAlmostEqual(self.value(read, name, **labels), value,
                                   msg=name)
        for name in read:
            self.assertRegex(name, '^memsched_')

    def test_a_word_is_one_of_its_values(self):
        read = self.read(guest('web', 1, condition='hard'))
        for name in 'memsched_guest_condition', 'memsched_guest_state':
            self.assertEqual(sum(read[name].samples.values()), 1, name)

    def test_applications_and_their_requests_are_counted(self):
        asks = guest('web', 1)
        asks['applications'] = {'list': [{}, {}], 'requests': [
            {'size': 3 * MIB}, {'size': 4 * MIB}]}
        read = self.read(asks, guest('db', 1))
        self.assertEqual(self.value(read, 'memsched_guest_requested_bytes',
                                    guest='web'), 7 * MIB)
        self.assertEqual(read['memsched_guest_applications'].samples,
                         {(('guest', 'web'),): 2})

    def test_guest_without_memory_has_a_state_alone(self):
        read = self.read(failed_guest('db', 'gone'))
        self.assertEqual([n for n in read if n.startswith('memsched_guest_')],
                         ['memsched_guest_state'])

    def test_names_of_any_kind_are_quoted(self):
        read = self.read(guest('a"\\b\n', 1), guest('{c="d"} 1', 2))
        self.assertEqual(read['memsched_guest_allocated_bytes'].samples,
                         {(('guest', 'a"\\b?'),): MIB,
                          (('guest', '{c="d"} 1'),): 2 * MIB})

    def test_file_is_replaced(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'memsched.prom'
            path.write_text('old')
            done = metrics(guest('a', 1), options=('-o', path))
            self.assertEqual((done.returncode, done.stdout), (0, ''))
            prometheus.parse(path.read_text('utf-8'))
            self.assertEqual(os.listdir(folder), ['memsched.prom'])


if __name__ == '__main__':
    tap.main()
