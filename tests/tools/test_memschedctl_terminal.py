# SPDX-License-Identifier: GPL-2.0-or-later
"""memschedctl as a person meets it: top on a terminal (tmux is one that can
be read), and what bash completes.

First argument: the program."""

import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / 'tests'))

from lib import tap  # noqa: E402
from lib.fakeqmp import FakeQmp  # noqa: E402
from lib.samples import MIB, guest, scheduler, transfer  # noqa: E402

CTL = Path(sys.argv.pop(1)).resolve()
COMPLETION = TOP / 'tools/memschedctl.bash'
LIMIT_S = 60


def server(*guests, moves=(), decisions=()):
    def answer(name, arguments):
        if name == 'query-memsched-guests':
            return {'return': list(guests)}
        if name == 'query-memsched':
            return {'return': {**scheduler(512), 'pressure': 117,
                               'policy': 'idle-tax', 'idle-tax': 75,
                               'guests': len(guests)}}
        if name == 'query-memsched-transfers':
            return {'return': list(moves)}
        if name == 'query-memsched-decisions':
            return {'return': list(decisions)}
        return {'error': {'class': 'CommandNotFound', 'desc': 'not found'}}
    return FakeQmp(answer)


@unittest.skipUnless(shutil.which('tmux'), 'there is no tmux')
class Screen(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def tmux(self, *words):
        # A server of its own, without anybody's configuration.
        return subprocess.run(
            ['tmux', '-f', '/dev/null', '-S', f'{self.folder.name}/tmux',
             *[str(w) for w in words]], text=True, capture_output=True,
            timeout=LIMIT_S, check=True).stdout

    def top(self, fake, columns, rows, last='GUEST'):
        """The screen once @last is on it: what stands lowest of what is
        asked for, as the terminal may show half of a drawing."""
        self.tmux('new-session', '-d', '-x', columns, '-y', rows,
                  f"'{CTL}' -s '{fake.path}' top -i 0.2; sleep 60")
        self.addCleanup(self.tmux, 'kill-server')
        return self.wait(lambda lines: last in '\n'.join(lines))

    def lines(self):
        return self.tmux('capture-pane', '-p').split('\n')[:-1]

    def wait(self, good):
        end = time.monotonic() + LIMIT_S
        while True:
            lines = self.lines()
            if good(lines):
                return lines
            self.assertLess(time.monotonic(), end, '\n'.join(lines))
            time.sleep(0.05)

    def key(self, name):
        self.tmux('send-keys', name)

    def test_80x24_holds_host_guests_moves_and_reasons(self):
        moves = [transfer(7, 'web', 'db', 128, 32, 'running', 100)]
        why = [{'id': 'db', 'age': 700, 'text': 'db gets 128 MiB: waits'}]
        many = [guest(f'guest-{i:02}', 100 + i, **MORE) for i in range(40)]
        with server(*many, moves=moves, decisions=why) as fake:
            lines = self.top(fake, 80, 24, '0.7 s ago')
            text = '\n'.join(lines)
            self.assertEqual(len(lines), 24)
            self.assertIn('state high  pressure 117 %  40 guests', lines[0])
            head = next(line for line in lines if 'GUEST' in line).split()
            for name in ('COND', 'ALLOC', 'TARGET', 'ACTIVE'):
                self.assertIn(name, head)
            self.assertNotIn('SHARES', head)
            self.assertIn('guest-00', text)
            self.assertNotIn('guest-39', text)
            # Guests that have no room do not push these away.
            self.assertIn('transfer 7: web -> db, 32 of 128 MiB', text)
            self.assertIn('0.7 s ago: db gets 128 MiB: waits', text)

    def test_keys_scroll_sort_help_and_end(self):
        many = [guest(f'guest-{i:02}', 100 + i, **MORE) for i in range(40)]
        with server(*many) as fake:
            self.top(fake, 80, 24)
            self.key('NPage')
            self.key('NPage')
            self.key('NPage')
            self.wait(lambda lines: 'guest-39' in '\n'.join(lines))
            self.key('PPage')
            self.key('PPage')
            self.key('PPage')
            self.wait(lambda lines: 'guest-00' in '\n'.join(lines))
            for _ in range(5):      # guest, state, condition, pressure, this
                self.key('s')
            lines = self.wait(lambda lines: any('sorted by allocated' in line
                                                for line in lines))
            first = next(i for i, line in enumerate(lines) if 'GUEST' in line)
            self.assertIn('guest-39', lines[first + 1])
            self.key('h')
            self.wait(lambda lines: any('page keys  scroll' in line
                                        for line in lines))
            self.key('q')
            self.wait(lambda lines: not any('page keys' in line
                                            for line in lines))

    def test_wide_terminal_shows_every_column(self):
        with server(guest('web', 256, stalled=True, **MORE)) as fake:
            lines = self.top(fake, 220, 30, 'stalled')
            at = next(i for i, line in enumerate(lines) if 'GUEST' in line)
            head = lines[at].split()
            for name in ('STATE', 'SHARES', 'MIN', 'MAX', 'ENTITL', 'IDLE',
                         'HUGE', 'BKERN', 'BAPP', 'BREP'):
                self.assertIn(name, head)
            self.assertTrue(lines[at + 1].rstrip().endswith('stalled'))

    def test_terminal_that_gets_smaller_is_drawn_anew(self):
        with server(guest('web', 256, **MORE)) as fake:
            self.top(fake, 200, 30)
            self.tmux('resize-window', '-x', 80, '-y', 24)
            self.wait(lambda lines: len(lines) == 24 and any(
                'GUEST' in line and 'SHARES' not in line for line in lines))


MORE = {'ram': 512 * MIB, 'min': 64 * MIB, 'max': 512 * MIB, 'shares': 1000,
        'entitlement': 300 * MIB, 'active': 100 * MIB, 'idle': 50 * MIB,
        'huge': 90 * MIB, 'claimed': 0, 'given': 0, 'pressure': 100}


class Completion(unittest.TestCase):
    def complete(self, *words):
        """What bash offers for the last word."""
        script = ('source "$1"; shift; COMP_WORDS=("$@"); '
                  'COMP_CWORD=$(($# - 1)); _memschedctl; '
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        done = subprocess.run(
            ['bash', '--norc', '-c', script, 'bash', COMPLETION, CTL, *words],
            text=True, capture_output=True, timeout=LIMIT_S, check=False)
        self.assertEqual(done.stderr, '')
        return done.stdout.split()

    def test_commands(self):
        self.assertEqual(self.complete('met'), ['metrics'])
        found = self.complete('')
        for name in ('status', 'guests', 'applications', 'top', 'move', 'set',
                     'explain', 'record', 'plot', 'metrics', '--socket'):
            self.assertIn(name, found)
        self.assertEqual(self.complete('-s', 'qmp', '-t', '5', 'sta'),
                         ['status'])

    def test_options_of_a_command(self):
        found = self.complete('top', '--')
        for name in ('--batch', '--csv', '--interval', '--sort'):
            self.assertIn(name, found)
        self.assertEqual(self.complete('move', '--dead'), ['--deadline'])

    def test_values(self):
        self.assertEqual(self.complete('set', '--policy', 'i'), ['idle-tax'])
        self.assertEqual(self.complete('move', '--source', 'k'), ['kernel'])
        self.assertEqual(self.complete('set', '--dry-run', ''), ['on', 'off'])
        self.assertIn('allocated', self.complete('top', '--sort', 'al'))

    def test_figures_to_sort_by_are_listed_with_their_meaning(self):
        done = subprocess.run([CTL, 'top', '--sort', 'help'], text=True,
                              capture_output=True, timeout=LIMIT_S,
                              check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        self.assertRegex(done.stdout, '(?m)^allocated +Memory that it holds$')

    def test_guests_are_asked_for(self):
        for command in ('move', 'set', 'explain', 'applications'):
            with server(guest('web', 1), guest('db', 1)) as fake:
                self.assertEqual(self.complete('-s', fake.path, command, 'w'),
                                 ['web'], command)

    def test_nobody_listens(self):
        self.assertEqual(self.complete('-s', '/nonexistent', 'set', ''), [])

    def test_files(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'run.jsonl'
            path.touch()
            self.assertEqual(self.complete('plot', f'{folder}/ru'),
                             [str(path)])


if __name__ == '__main__':
    tap.main()
