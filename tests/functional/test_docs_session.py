#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the README and the operator's manual tell to type is typed: the
process is started as they say, each command is sent in its order, and the
scripts are run."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / 'scripts'), str(TOP / 'tests')]

from lib import tap  # noqa: E402
from lib.examples import examples  # noqa: E402
from lib.guests import CTL, IMAGE, ensure_image, wait_for  # noqa: E402
from lib.qmpschema import Schema  # noqa: E402
from qmp.client import Qmp  # noqa: E402

README = TOP / 'README.md'
MANUAL = TOP / 'docs/system/memsched.rst'
DEADLINE_S = 60


def readme_blocks():
    """(kind, text) of each fenced block."""
    return re.findall(r'^```(\w*)\n(.*?)^```$', README.read_text('utf-8'),
                      re.M | re.S)


def manual_blocks():
    """The same of the blocks of a given kind in the manual."""
    return [(kind, textwrap.dedent(text)) for kind, text in re.findall(
        r'^\.\. code-block:: (\w+)\n\n((?: {3}.*\n|\n)+)',
        MANUAL.read_text('utf-8'), re.M)]


def the_block(blocks, kind, words):
    found = [text for k, text in blocks if k == kind and words in text]
    assert len(found) == 1, f'{len(found)} {kind} blocks with {words}'
    return found[0]


class Session:
    """A folder as the reader's would be, and the process of the text."""

    def __init__(self, command):
        self.folder = Path(tempfile.mkdtemp())
        for name in ('build', 'scripts'):
            (self.folder / name).symlink_to(TOP / name)
        for name in ('vmlinuz', 'initramfs'):
            (self.folder / name).symlink_to(IMAGE / name)
        args = the_block(readme_blocks(), '', '-device balloon-ex')
        for name in ('web', 'db'):
            # The guest image of the tests wants its line of control too.
            (self.folder / f'{name}.args').write_text(
                args.replace('web', name) +
                f'-serial unix:{name}.ctl,server=on,wait=off\n')
        self.log = open(self.folder / 'log', 'w', encoding='utf-8')
        self.process = subprocess.Popen(
            'exec ' + command, shell=True, cwd=self.folder, env=self.env(),
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        try:
            self.qmp = Qmp(self.folder / 'qmp.sock', timeout=30)
            self.wait_booted()
        except BaseException:
            self.close()
            raise

    @staticmethod
    def env():
        return {**os.environ, 'PATH': f'{TOP}/build:{CTL.parent}:'
                                    f'{os.environ["PATH"]}'}

    def wait_booted(self):
        """Each guest's driver has told its memory: the kernel is up."""
        def up():
            guests = self.qmp.command('query-memsched-guests')
            ended = [g for g in guests if g['state'] in ('failed', 'stopped')]
            if ended:
                raise AssertionError(f'{ended[0]}')
            return len(guests) == 2 and all(
                'memory' in g and 'balloon' in g['memory'] and
                g['memory']['stats'].get('free') for g in guests)
        wait_for('both guests have booted', up, DEADLINE_S)

    def run(self, command):
        return subprocess.run(command, shell=True, cwd=self.folder,
                              env=self.env(), text=True, capture_output=True,
                              timeout=60, check=False)

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder)


class Document:
    """Tests that hold for both texts."""

    def session(self, command):
        session = Session(command)
        self.addCleanup(session.close)
        schema = Schema(session.qmp.command('query-qmp-schema'))
        return session, schema

    def play(self, session, schema, path):
        """Send what the text sends; compare what it shows."""
        name, told = None, None
        for example in examples(path):
            message = example.message
            with self.subTest(example.place):
                if example.sent:
                    name = message['execute']
                    if name == 'qmp_capabilities':  # done on connecting
                        told = {}
                        continue
                    answer = session.qmp.execute(message)
                    self.assertIn('return', answer, answer)
                    told = answer['return']
                    self.assertEqual(schema.check_return(name, told), [])
                elif 'return' in message:
                    self.compare(message['return'], told, name)
                else:
                    self.event(session, message)

    def compare(self, shown, told, name):
        """Members alike; values too, where they do not depend on the run."""
        if isinstance(shown, dict):
            self.assertEqual(shown.keys(), told.keys())
        if name in ('memsched-set', 'memsched-set-guest', 'memsched-check',
                    'memsched-reallocate'):
            self.assertEqual(shown, told)

    def event(self, session, message):
        event = session.qmp.wait_event(message['event'], timeout=DEADLINE_S)
        self.assertEqual(event['data'].keys(), message['data'].keys())
        for member in ('id', 'state', 'requested', 'moved', 'copied',
                       'discarded'):
            self.assertEqual(event['data'][member], message['data'][member],
                             event)


class Readme(Document, unittest.TestCase):
    def test_session_of_the_readme_goes_as_it_says(self):
        ensure_image()
        session, schema = self.session(
            the_block(readme_blocks(), 'sh', '-object guest'))
        self.play(session, schema, README)

    def test_links_lead_somewhere(self):
        for target in re.findall(r'\]\(([^)#]+)\)', README.read_text('utf-8')):
            if '://' not in target:
                self.assertTrue((TOP / target).exists(), target)

    def test_targets_of_make_exist(self):
        text = README.read_text('utf-8')
        known = (TOP / 'Makefile').read_text('utf-8')
        for target in re.findall(r'^make ([\w-]+)', text, re.M):
            self.assertRegex(known, rf'(?m)^{target}:')


class Manual(Document, unittest.TestCase):
    def test_session_of_the_manual_goes_as_it_says(self):
        ensure_image()
        session, schema = self.session(
            the_block(manual_blocks(), 'sh', '-object guest'))
        self.play(session, schema, MANUAL)
        for line in re.findall(r'^ +\(qemu\) (.*)$', MANUAL.read_text('utf-8'),
                               re.M):
            self.assertNotIn('Error', session.qmp.hmp(line), line)
        session.qmp.close()     # a monitor serves one client at a time
        record, plot = the_block(manual_blocks(), 'sh',
                                 'memschedctl plot').splitlines()[:2]
        done = session.run(f'{record} --for 2')
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        done = session.run(plot)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        picture = (session.folder / plot.split()[-1]).read_text('utf-8')
        self.assertIn('guest web', picture)

    def test_states_and_figures_that_it_names_exist(self):
        """Words in the manual's tables are members of the schema."""
        ensure_image()
        schema_text = (TOP / 'qapi/memsched.json').read_text('utf-8')
        words = re.findall(r'^``([a-z][a-z-]+)`` {2,}',
                           MANUAL.read_text('utf-8'), re.M)
        self.assertGreater(len(words), 20)
        options = (TOP / 'qapi/memsched-objects.json').read_text('utf-8')
        for word in words:
            if word != 'id':
                self.assertRegex(schema_text + options, rf"'\*?{word}'")


if __name__ == '__main__':
    tap.main()
