#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/plot-memory: from a recording to a picture."""

import json
import re
import subprocess
import sys
import unittest
import xml.etree.ElementTree as ET
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / 'tests'))

from lib import tap  # noqa: E402
from lib.samples import failed_guest, guest, scheduler  # noqa: E402
from lib.samples import transfer  # noqa: E402

SVG = '{http://www.w3.org/2000/svg}'


def plot(samples, *options):
    text = ''.join(sample if isinstance(sample, str) else
                   json.dumps(sample) + '\n' for sample in samples)
    return subprocess.run([TOP / 'scripts/plot-memory', '-', *options],
                          input=text, text=True, capture_output=True,
                          timeout=60, check=False)


def sample(time, *guests, free=512, transfers=()):
    return {'time': time, 'guests': list(guests),
            'scheduler': scheduler(free), 'transfers': list(transfers)}


def texts(root):
    return [node.text for node in root.iter(SVG + 'text')]


class Plot(unittest.TestCase):
    def draw(self, samples, *options):
        done = plot(samples, *options)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        return ET.fromstring(done.stdout)

    def lines(self, root):
        return [[tuple(map(float, point.split(',')))
                 for point in node.get('points').split()]
                for node in root.iter(SVG + 'polyline')]

    def test_picture_has_a_line_and_a_name_for_each_guest_and_the_pool(self):
        root = self.draw([sample(t, guest('web', 100), guest('db', 200))
                          for t in (0, 1, 2)])
        self.assertEqual(len(self.lines(root)), 3)
        for name in ('guest web', 'guest db', 'free in the pool',
                     'host memory (MiB)', 'time (s)'):
            self.assertIn(name, texts(root))

    def test_height_of_a_point_is_its_share_of_the_axis(self):
        root = self.draw([sample(0, guest('web', 0), free=512),
                          sample(10, guest('web', 256), free=512)])
        pool, web = self.lines(root)
        floor, half, top = web[0][1], web[1][1], pool[0][1]
        self.assertAlmostEqual((floor - half) * 2, floor - top, places=1)
        self.assertEqual(web[0][0], pool[0][0])

    def test_time_starts_at_zero_whatever_the_recording_says(self):
        root = self.draw([sample(1000, guest('web', 1)),
                          sample(1010, guest('web', 2))])
        self.assertIn('0', texts(root))
        self.assertIn('10', texts(root))
        self.assertNotIn('1000', texts(root))

    def test_guest_without_memory_leaves_a_gap(self):
        root = self.draw([sample(0, guest('web', 10)),
                          sample(1, failed_guest('web', 'gone')),
                          sample(2, guest('web', 10)),
                          sample(3, guest('web', 20))])
        self.assertEqual([len(line) for line in self.lines(root)], [4, 1, 2])

    def test_transfer_is_marked_with_its_names_and_size(self):
        moves = [transfer(1, 'web', 'db', 256, 256, 'completed', 500)]
        root = self.draw([sample(0, guest('web', 10)),
                          sample(4, guest('web', 10), transfers=moves),
                          sample(8, guest('web', 10), transfers=moves)])
        self.assertIn('web → db 256 MiB, completed', texts(root))

    def test_name_with_markup_is_shown_as_text(self):
        root = self.draw([sample(t, guest('<b>&"', 10)) for t in (0, 1)])
        self.assertIn('guest <b>&"', texts(root))

    def test_many_guests_stay_inside_the_picture(self):
        root = self.draw([sample(t, *[guest(f'guest-number-{i}', i)
                                      for i in range(64)]) for t in (0, 1)])
        width, height = float(root.get('width')), float(root.get('height'))
        for line in self.lines(root):
            for x, y in line:
                self.assertTrue(0 <= x <= width and 0 <= y <= height)
        self.assertTrue(any(re.fullmatch(r'and \d+ more', text)
                            for text in texts(root)))

    def test_picture_refers_to_nothing_outside_itself(self):
        done = plot([sample(t, guest('web', 10)) for t in (0, 1)])
        self.assertNotRegex(done.stdout, r'href|url\(|<image|<script|@import')

    def test_recording_of_one_sample_is_refused_with_a_sentence(self):
        done = plot([sample(0, guest('web', 10))])
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr, 'plot-memory: a picture needs two '
                         'samples or more; record for longer\n')

    def test_line_that_is_no_sample_is_named(self):
        for bad in ('not json\n', '{}\n', '[]\n', '{"time": "soon"}\n'):
            with self.subTest(bad):
                done = plot([sample(0, guest('web', 10)), bad])
                self.assertEqual(done.returncode, 1)
                self.assertIn('line 2 is no sample', done.stderr)
                self.assertNotIn('Traceback', done.stderr)

    def test_missing_file_is_refused_with_a_sentence(self):
        done = subprocess.run([TOP / 'scripts/plot-memory', '/nonexistent'],
                              text=True, capture_output=True, timeout=60,
                              check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn('No such file', done.stderr)
        self.assertNotIn('Traceback', done.stderr)


if __name__ == '__main__':
    tap.main()
