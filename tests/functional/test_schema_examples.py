#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Examples of commands and events are what QEMU's own schema allows: those of
the schema file, and those of all our documents."""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / 'scripts'), str(TOP / 'tests')]

from lib import tap  # noqa: E402
from lib.examples import examples  # noqa: E402
from lib.qmpschema import Schema  # noqa: E402
from qmp.client import Qmp  # noqa: E402

QEMU = TOP / 'build/qemu-system-x86_64'


def documents():
    return [TOP / 'README.md', *sorted((TOP / 'qapi').glob('memsched*.json')),
            *sorted((TOP / 'docs').glob('**/*.rst'))]


def load_schema():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'qmp')
        process = subprocess.Popen(
            [QEMU, '-M', 'none', '-display', 'none', '-monitor', 'none',
             '-qmp', f'unix:{path},server=on,wait=off'],
            stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            with Qmp(path, timeout=30) as qmp:
                return Schema(qmp.command('query-qmp-schema'))
        finally:
            process.terminate()
            process.wait(timeout=30)


class Examples(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.schema = load_schema()
        cls.found = [example for path in documents() for example in
                     examples(path, str(path.relative_to(TOP)))]

    def wrong(self, example, command):
        message = example.message
        if example.sent:
            return self.schema.check_command(message)
        if 'event' in message:
            return self.schema.check_event(message)
        if 'QMP' in message or 'error' in message:
            return []
        if command is None:
            return ['an answer without a command before it']
        return self.schema.check_return(command, message['return'])

    def test_each_message_fits_the_schema(self):
        command = None
        for example in self.found:
            if example.sent:
                command = example.message.get(
                    'execute', example.message.get('exec-oob'))
            with self.subTest(example.place):
                self.assertEqual(self.wrong(example, command), [])

    def test_each_command_and_event_of_ours_has_an_example(self):
        sent = {e.message.get('execute') for e in self.found if e.sent}
        events = {e.message.get('event') for e in self.found if not e.sent}
        ours = {name for name in self.schema.commands if 'memsched' in name}
        self.assertEqual(ours - sent, set())
        self.assertGreaterEqual(len(ours), 8)
        ours = {name for name in self.schema.events if 'MEMSCHED' in name}
        self.assertEqual(ours - events, set())
        self.assertGreaterEqual(len(ours), 5)

    def test_checker_finds_what_is_wrong(self):
        check = self.schema.check_command
        good = {'from': 'a', 'to': 'b', 'size': 1}
        for bad, words in (({'size': '1'}, 'is no int'),
                           ({'size': True}, 'is no int'),
                           ({'more': 1}, 'no member more'),
                           ({'source': 'x'}, 'is none of')):
            message = {'execute': 'memsched-reallocate',
                       'arguments': {**good, **bad}}
            self.assertIn(words, check(message)[0])
        self.assertEqual(check({'execute': 'memsched-set-guest'}),
                         ['memsched-set-guest.id is missing'])
        self.assertEqual(check({'execute': 'x'}), ['no command x'])


if __name__ == '__main__':
    tap.main()
