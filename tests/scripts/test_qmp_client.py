#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/qmp/client.py against a server that is no QEMU."""

import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / 'scripts'), str(TOP / 'tests')]

from lib import tap  # noqa: E402
from lib.fakeqmp import FakeQmp  # noqa: E402
from qmp.client import Qmp, QmpClosed, QmpError, QmpTimeout  # noqa: E402


def event(name, **data):
    return {'event': name, 'data': data,
            'timestamp': {'seconds': 1, 'microseconds': 0}}


class Client(unittest.TestCase):
    def test_command_returns_what_was_returned(self):
        with FakeQmp(lambda name, args: {'return': [name, args]}) as server, \
                Qmp(server.path) as qmp:
            self.assertEqual(qmp.command('do-it', big_size=1),
                             ['do-it', {'big-size': 1}])

    def test_error_is_raised_with_the_sentence(self):
        error = {'error': {'class': 'GenericError', 'desc': 'No such guest'}}
        with FakeQmp(lambda name, args: error) as server, \
                Qmp(server.path) as qmp:
            with self.assertRaisesRegex(QmpError, '^No such guest$') as caught:
                qmp.command('do-it')
            self.assertEqual(caught.exception.error_class, 'GenericError')

    def test_event_before_the_answer_is_kept(self):
        messages = [event('A', id='x'), event('B', id='y'), {'return': 7}]
        with FakeQmp(lambda name, args: messages) as server, \
                Qmp(server.path) as qmp:
            self.assertEqual(qmp.command('do-it'), 7)
            found = qmp.wait_event('B', lambda data: data['id'] == 'y')
            self.assertEqual(found['data'], {'id': 'y'})
            self.assertEqual([e['event'] for e in qmp.events], ['A'])

    def test_event_after_the_answer_is_found(self):
        messages = [{'return': 7}, event('A', id='x'), event('A', id='y')]
        with FakeQmp(lambda name, args: messages) as server, \
                Qmp(server.path) as qmp:
            qmp.command('do-it')
            found = qmp.wait_event('A', lambda data: data['id'] == 'y')
            self.assertEqual(found['data'], {'id': 'y'})

    def test_wait_for_an_event_that_never_comes_ends(self):
        with FakeQmp(lambda name, args: {'return': {}}) as server, \
                Qmp(server.path) as qmp:
            with self.assertRaisesRegex(QmpTimeout, 'no event A'):
                qmp.wait_event('A', timeout=0.05)

    def test_answer_that_never_comes_ends_the_wait(self):
        with FakeQmp(lambda name, args: []) as server, \
                Qmp(server.path) as qmp:
            with self.assertRaises(QmpTimeout):
                qmp.execute({'execute': 'do-it'}, timeout=0.05)

    def test_server_that_goes_away_is_told_apart_from_an_error(self):
        with FakeQmp(lambda name, args: None) as server, \
                Qmp(server.path) as qmp:
            with self.assertRaises(QmpClosed):
                qmp.command('do-it')

    def test_second_greeting_is_no_answer(self):
        messages = [{'QMP': {'version': {}}}, {'return': 7}]
        with FakeQmp(lambda name, args: messages) as server, \
                Qmp(server.path) as qmp:
            self.assertEqual(qmp.command('do-it'), 7)

    def test_missing_socket_ends_the_wait(self):
        with self.assertRaisesRegex(QmpTimeout, 'nobody listens'):
            Qmp('/nonexistent/socket', timeout=0.05)


if __name__ == '__main__':
    tap.main()
