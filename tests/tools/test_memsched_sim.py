# SPDX-License-Identifier: GPL-2.0-or-later
"""memsched-sim: all scenarios reach what they expect; nonsense is refused.

First argument: the program."""

import csv
import io
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / 'tests'))

from lib import tap  # noqa: E402

SIM = sys.argv.pop(1)
SCENARIOS = sorted((TOP / 'tests/sim').glob('*.ini'))
GOOD = '[host]\npool-mib=1024\nduration-s=60\n[web]\nram-mib=512\n'


def sim(*args):
    return subprocess.run([SIM, *map(str, args)], text=True,
                          capture_output=True, timeout=150, check=False)


def table(done):
    return list(csv.DictReader(io.StringIO(done.stdout)))


class Scenarios(unittest.TestCase):
    def test_all_reach_what_they_expect_and_the_average_is_90(self):
        done = sim('--csv', *SCENARIOS)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        rows = table(done)
        self.assertEqual(len(rows), len(SCENARIOS))
        self.assertGreater(len(rows), 10)
        scores = [float(row['score']) for row in rows]
        self.assertGreaterEqual(sum(scores) / len(scores), 90)
        for row in rows:
            self.assertEqual(row['below-min'], '0', row['scenario'])
            self.assertLessEqual(float(row['score']), 100)

    def test_policy_is_better_than_dividing_once_where_demand_moves(self):
        done = sim('--csv', *SCENARIOS)
        for row in table(done):
            if float(row['fixed']) < 97:
                self.assertGreater(float(row['score']), float(row['fixed']),
                                   row['scenario'])

    def test_static_policy_moves_nothing(self):
        done = sim('--csv', '--policy', 'static', '-s', 300,
                   TOP / 'tests/sim/build-farm.ini')
        self.assertEqual(float(table(done)[0]['moved-gib']), 0)

    def test_more_tax_serves_more_beside_sleepers(self):
        path = TOP / 'tests/sim/idle-neighbours.ini'
        scores = [float(table(sim('--csv', '-s', 200, '--idle-tax', tax,
                                  path))[0]['score']) for tax in (0, 75)]
        self.assertGreater(scores[1], scores[0] + 5)

    def test_run_repeats_exactly(self):
        path = TOP / 'tests/sim/liars.ini'
        self.assertEqual(sim('--csv', path).stdout, sim('--csv', path).stdout)

    def test_guests_that_refuse_are_found_and_no_others(self):
        row = table(sim('--csv', TOP / 'tests/sim/unwilling.ini'))[0]
        self.assertEqual(row['silent'], '2')


class Snapshots(unittest.TestCase):
    def test_snapshot_of_a_run_replays_with_reasons(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'snapshot'
            sim('--snapshot', path, '--at', 500,
                TOP / 'tests/sim/build-farm.ini')
            first, again = sim('--replay', path), sim('--replay', path)
        self.assertEqual((first.returncode, first.stderr), (0, ''))
        self.assertEqual(first.stdout, again.stdout)
        self.assertIn('16 guests, ', first.stdout)

    def test_snapshot_that_is_none_is_refused(self):
        done = sim('--replay', __file__)
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, r'^memsched-sim: line 1 .*\n$')

    def test_timeline_has_a_line_for_each_guest_and_second(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'timeline.csv'
            sim('-s', 20, '--timeline', path, TOP / 'tests/sim/steady.ini')
            with open(path, encoding='utf-8') as file:
                rows = list(csv.DictReader(file))
        self.assertEqual(len(rows), 20 * 10)
        self.assertEqual(rows[-1]['wants'], '1400')


class Nonsense(unittest.TestCase):
    def refused(self, text, words):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'x.ini'
            path.write_text(text, encoding='utf-8')
            done = sim(path)
        self.assertEqual(done.returncode, 2, text)
        self.assertIn(words, done.stderr)
        self.assertEqual(done.stderr.count('\n'), 1)

    def test_bad_scenarios_are_refused_with_a_sentence(self):
        for before, after, words in (
                ('pool-mib=1024', 'pool-mib=0', 'the pool is empty'),
                ('pool-mib=1024', 'pool-mib=x', 'no number'),
                ('pool-mib=1024', 'pool=1024', 'is a key that is not known'),
                ('duration-s=60', 'duration-s=0', 'duration-s'),
                ('duration-s=60', 'idle-tax=100', 'idle tax'),
                ('duration-s=60', 'policy=best', 'not known'),
                ('ram-mib=512', 'ram-mib=0', 'ram-mib'),
                ('ram-mib=512', 'ram-mib=512\nmin-mib=513', 'have to fit'),
                ('ram-mib=512', 'ram-mib=9000\nmin-mib=9000', 'less than'),
                ('ram-mib=512', 'ram-mib=512\ndemand=much', 'not known'),
                ('ram-mib=512', 'ram-mib=512\ndemand=trace', 'is missing'),
                ('ram-mib=512', 'ram-mib=512\ncount=200000', 'too large'),
                ('ram-mib=512', 'ram-mib=512\nperiod-s=0', 'is 0'),
                ('[web]\nram-mib=512\n', '', 'no guests')):
            with self.subTest(after):
                self.refused(GOOD.replace(before, after), words)

    def test_bad_recordings_are_refused_with_their_line(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'x.ini'
            path.write_text(GOOD + 'demand=trace\ntrace=x.csv\n',
                            encoding='utf-8')
            for text, words in (('time,guest\n', 'first line'),
                                ('time,guest,active\n1,a\n', 'line 2'),
                                ('time,guest,active\n1,a,-5\n', 'line 2'),
                                ('time,guest,active\nnan,a,5\n', 'line 2')):
                with self.subTest(text):
                    (path.parent / 'x.csv').write_text(text, 'utf-8')
                    done = sim(path)
                    self.assertEqual(done.returncode, 2)
                    self.assertIn(words, done.stderr)

    def test_missing_arguments_are_named(self):
        for args, words in (((), 'no scenario'), (('/nonexistent',), 'No such'),
                            (('--policy', 'x', SCENARIOS[0]), 'no such policy'),
                            (('-s', '-1', SCENARIOS[0]), 'below 0')):
            done = sim(*args)
            self.assertEqual(done.returncode, 2)
            self.assertIn(words, done.stderr)

    def test_score_below_what_is_expected_fails(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'x.ini'
            path.write_text('[host]\npool-mib=64\nduration-s=9\nexpect=100\n'
                            'min-free-mib=32\n[a]\nram-mib=64\n', 'utf-8')
            done = sim(path)
        self.assertEqual(done.returncode, 1)
        self.assertIn('less than the 100 %', done.stderr)


if __name__ == '__main__':
    tap.main()
