# SPDX-License-Identifier: GPL-2.0-or-later
"""memschedctl against servers that are no QEMU.

First argument: the program."""

import csv
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import xml.etree.ElementTree as ET
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / 'tests'))

from lib import tap  # noqa: E402
from lib.fakeqmp import FakeQmp  # noqa: E402
from lib.samples import failed_guest, guest, scheduler  # noqa: E402
from lib.samples import MIB, transfer  # noqa: E402

CTL = sys.argv.pop(1)
SVG = '{http://www.w3.org/2000/svg}'
UNKNOWN = {'error': {'class': 'CommandNotFound', 'desc': 'not found'}}


def refusal(words):
    return {'error': {'class': 'GenericError', 'desc': words}}


class Server:
    """A process with these guests; closes after @looks looks."""

    def __init__(self, *guests, transfers=(), looks=10**9, **more):
        self.guests, self.transfers = list(guests), list(transfers)
        self.looks, self.more, self.seen = looks, more, []

    def __call__(self, name, arguments):
        self.seen.append((name, arguments))
        if name == 'query-memsched-guests':
            self.looks -= 1
            return {'return': self.guests} if self.looks >= 0 else None
        if name == 'query-memsched':
            return {'return': {**scheduler(512), 'pressure': 85, 'guests': 2,
                               'idle-tax': 75}}
        if name == 'query-memsched-transfers':
            return {'return': self.transfers}
        return self.more.get(name.replace('-', '_'), UNKNOWN)


def ctl(*args, answer=None, stdin=None, env=None):
    """Runs it, with a server where there is an @answer."""
    if answer is None:
        return subprocess.run([CTL, *map(str, args)], text=True, input=stdin,
                              capture_output=True, timeout=60, check=False,
                              env={**os.environ, **(env or {})})
    with FakeQmp(answer) as server:
        return ctl('-s', server.path, *args, stdin=stdin, env=env)


class Raw:
    """Sends these bytes, waits for the client to leave, or (@wait) for the
    test's end, and reads nothing."""

    def __init__(self, data, close=False):
        self.folder = tempfile.TemporaryDirectory()
        self.path = self.folder.name + '/qmp'
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(self.path)
        self.socket.listen(1)
        self.data, self.close = data, close
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        client, _ = self.socket.accept()
        with client:
            try:
                client.sendall(self.data)
                while not self.close and client.recv(4096):
                    pass
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.socket.close()
        self.thread.join(10)
        self.folder.cleanup()


class Views(unittest.TestCase):
    def ok(self, done):
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        return done.stdout

    def test_status_shows_host_pool_and_running_transfers(self):
        moves = [transfer(5, 'web', 'db', 128, 32, 'running', 100),
                 transfer(4, 'web', 'db', 128, 128, 'completed', 100)]
        text = self.ok(ctl('status', answer=Server(guest('web', 256),
                                                   transfers=moves)))
        self.assertIn('sched0  state high  pressure 85 %  2 guests', text)
        self.assertIn('pool 1024 MiB: 512 allocated, 512 free (512 clean)',
                      text)
        self.assertIn('transfer 5: web -> db, 32 of 128 MiB', text)
        self.assertNotIn('transfer 4', text)

    def test_guests_are_a_table_with_notes(self):
        text = self.ok(ctl('guests', answer=Server(
            guest('web', 256, kernel_mib=64, stalled=True, condition='low'),
            failed_guest('db', 'no kernel image'))))
        rows = [line.split() for line in text.splitlines()]
        head = rows[0]
        self.assertEqual(rows[1][head.index('ALLOC')], '256')
        self.assertEqual(rows[1][head.index('BKERN')], '64')
        self.assertEqual(rows[1][head.index('COND')], 'low')
        self.assertEqual(rows[1][-1], 'stalled')
        self.assertEqual(rows[2][:3], ['db', 'failed', '-'])
        self.assertIn('no kernel image', text)

    def test_tables_fit_80_and_200_columns(self):
        memory = {'ram': MIB, 'min': MIB, 'max': MIB, 'shares': 1000,
                  'entitlement': MIB, 'active': MIB, 'idle': 0, 'huge': 0,
                  'claimed': 0, 'pressure': 100, 'given': 0,
                  'responsiveness': 12 * MIB}
        many = [guest(f'guest-{i}', 1000 + i, kernel_mib=5, **memory)
                for i in range(50)]
        heads = []
        for width in (80, 200):
            text = self.ok(ctl('guests', '-w', width, answer=Server(*many)))
            lines = text.splitlines()
            self.assertEqual(len(lines), 51)
            self.assertLessEqual(max(map(len, lines)), width)
            heads.append(lines[0].split())
        for name in ('GUEST', 'COND', 'ALLOC', 'TARGET', 'ACTIVE'):
            self.assertIn(name, heads[0])
        self.assertGreater(len(heads[1]), len(heads[0]))
        self.assertIn('HUGE', heads[1])

    def test_top_prints_looks_with_rates_and_ends_with_the_process(self):
        class Growing(Server):
            def __call__(self, name, arguments):
                answer = super().__call__(name, arguments)
                if name == 'query-memsched-guests' and answer:
                    past = 100 - self.looks
                    answer = {'return': [guest(
                        'web', 256, captured=past * 100 * MIB,
                        faults={'served': past * 7, 'p99-ns': 41500})]}
                return answer
        done = ctl('top', '-i', 0.05, '-n', 3, answer=Growing(looks=100))
        blocks = self.ok(done).strip().split('\n\n')
        self.assertEqual(len(blocks), 3)
        head, row = [line.split() for line in blocks[-1].splitlines()[-2:]]
        self.assertGreater(float(row[head.index('OUT/s')]), 0)
        self.assertGreater(float(row[head.index('FLT/s')]), 0)
        self.assertEqual(row[head.index('P99us')], '42')
        self.assertNotIn('OUT/s', blocks[0])    # no rate without a first look
        done = ctl('top', '-i', 0.01, answer=Server(guest('web', 1), looks=3))
        self.assertEqual(done.returncode, 0)
        self.assertEqual(done.stderr, 'memschedctl: the process has ended\n')

    def test_top_sorts(self):
        text = self.ok(ctl('top', '-n', 1, '--sort', 'allocated', answer=Server(
            guest('a', 5), guest('b', 500), guest('c', 50))))
        self.assertEqual(re.findall(r'^([abc]) ', text, re.M),
                         ['b', 'c', 'a'])

    def test_top_prints_what_was_decided_since_the_look_before(self):
        why = [{'id': 'web', 'age': 10, 'text': 'web gives 32 MiB'},
               {'id': 'web', 'age': 90000, 'text': 'long ago'}]
        text = self.ok(ctl('top', '-n', 2, '-i', 0.5, answer=Server(
            guest('web', 1), query_memsched_decisions={'return': why})))
        first, second = text.strip().split('\n\n')
        self.assertNotIn('web gives', first)
        self.assertIn('0.0 s ago: web gives 32 MiB', second)
        self.assertNotIn('long ago', text)

    def test_protection_is_shown_in_percent_of_what_guests_hold(self):
        covered = {
            'id': 'db', 'scheme': 'pq', 'group-size': 16,
            'coverage': {'parity': 75 * MIB, 'disk': 5 * MIB,
                         'none': 20 * MIB, 'excluded': 10 * MIB},
            'parity': 9 * MIB, 'bookkeeping': MIB, 'poisoned': 8192,
            'recovered': 3, 'recovered-dead': 1, 'lost-pages': 2,
            'last-age': 51200, 'repair': {'p50-ns': 38000, 'p99-ns': 65000},
            'scrub': {'done': 30 * MIB, 'all': 120 * MIB, 'passes': 7,
                      'mismatches': 1, 'parity-mismatches': 2}}
        bare = {'id': 'web', 'scheme': 'none', 'group-size': 0}
        server = Server(query_memsched_protection={'return': [covered, bare]})
        lines = self.ok(ctl('protection', answer=server)).splitlines()
        self.assertEqual(lines[0].split(), [
            'GUEST', 'SCHEME', 'GROUP', 'MIB', 'PARITY%', 'DISK%',
            'LEFT-OUT%', 'COST-MIB', 'BROKEN', 'REPAIRED', 'LOST', 'AGE-S',
            'P50-US', 'P99-US', 'SCRUBBED%', 'PASSES', 'DIFFER'])
        self.assertEqual(lines[1].split(), [
            'db', 'pq', '16', '100', '75', '5', '10', '10', '2', '4', '2',
            '51', '38', '65', '25', '7', '3'])
        # An older process says less.
        self.assertEqual(lines[2].split(), ['web', 'none', '0'] + 14 * ['-'])
        text = self.ok(ctl('protection', 'web', answer=server))
        self.assertNotIn('db', text)
        result = ctl('protection', 'nobody', answer=server)
        self.assertEqual(result.returncode, 1)
        self.assertIn('no guest nobody', result.stderr)

    def test_applications_are_listed_by_kind_with_what_they_ask_for(self):
        def entry(number, name, **more):
            return {'number': number, 'name': name, 'agent': False,
                    'reserves': False, 'priority': 0, 'ordered': 0,
                    'reserved': 0, 'captured': 0, 'veto': 0, **more}
        web, db = guest('web', 1), guest('db', 1)
        web['applications'] = {'list': [
            entry(1, 'balloon-exd', agent=True, reserves=True,
                  captured=64 * MIB),
            entry(2, 'redis', reserves=True, offer=32 * MIB, veto=1500),
            entry(3, 'memcached', cache={'size': 50 * MIB, 'age': 1})],
            'requests': [{'application': 2, 'name': 'redis', 'size': 16 * MIB,
                          'got': 4 * MIB, 'priority': 5, 'reason': 'cache',
                          'age': 1, 'left': 1}]}
        db['applications'] = {'list': [entry(1, 'jvm')], 'requests': []}
        text = self.ok(ctl('applications', answer=Server(web, db)))
        lines = text.splitlines()
        head = lines[0].split()
        rows = {line.split()[2]: line.split() for line in lines[1:5]}
        self.assertEqual([rows[n][head.index('KIND')] for n in
                          ('balloon-exd', 'redis', 'memcached', 'jvm')],
                         ['agent', 'gives', 'follows', 'follows'])
        self.assertEqual(rows['balloon-exd'][head.index('TAKEN')], '64')
        self.assertEqual(rows['redis'][head.index('OFFER')], '32')
        self.assertEqual(rows['memcached'][head.index('CACHE')], '50')
        self.assertIn('left alone for 1.5 s', text)
        self.assertEqual(lines[5:], ['web: redis asks for 16 MiB (cache, '
                                     'priority 5), has got 4'])
        text = self.ok(ctl('applications', 'db', answer=Server(web, db)))
        self.assertNotIn('redis', text)
        self.assertIn('jvm', text)
        done = ctl('applications', 'no', answer=Server(web, db))
        self.assertIn('there is no guest no\n', done.stderr)

    def test_held_content_is_shown_where_there_is_some(self):
        class Holding(Server):
            def __call__(self, name, arguments):
                answer = super().__call__(name, arguments)
                if name == 'query-memsched':
                    answer['return']['pool']['held'] = 24 * MIB
                return answer
        text = self.ok(ctl('status', answer=Holding(guest('web', 1))))
        self.assertIn(', 24 held', text)
        text = self.ok(ctl('guests', answer=Server(
            guest('web', 1, held=24 * MIB), guest('db', 1))))
        head, web, db = [line.split() for line in text.splitlines()]
        self.assertEqual([row[head.index('HELD')] for row in (web, db)],
                         ['24', '-'])

    def test_csv_has_bytes_and_holes(self):
        text = self.ok(ctl('top', '--csv', '-n', 2, '-i', 0.01, answer=Server(
            guest('we,"b', 256, active=7), failed_guest('db', 'gone'))))
        rows = list(csv.DictReader(io.StringIO(text)))
        self.assertEqual([row['guest'] for row in rows],
                         ['we,"b', 'db'] * 2)
        self.assertEqual(rows[0]['allocated'], str(256 * MIB))
        self.assertEqual(rows[0]['active'], '7')
        self.assertEqual(rows[0]['stalled'], '0')
        self.assertEqual(rows[0]['host-free'], str(512 * MIB))
        self.assertEqual((rows[1]['allocated'], rows[1]['stalled']),
                         ('', ''))
        self.assertGreaterEqual(float(rows[2]['time']),
                                float(rows[0]['time']))

    def test_monitor_of_a_guest_shows_the_guest(self):
        class Own(Server):
            def __call__(self, name, arguments):
                if name == 'query-memsched':
                    return refusal('concerns the whole host')
                return super().__call__(name, arguments)
        done = ctl('guests', answer=Own(guest('web', 256)))
        self.assertIn('web', self.ok(done))
        done = ctl('status', answer=Own(guest('web', 256)))
        self.assertIn('own monitor', self.ok(done))


class Changes(unittest.TestCase):
    def test_move_waits_for_its_own_end(self):
        ended = transfer(7, 'web', 'db', 64, 64, 'completed', 412)
        other = transfer(6, 'web', 'db', 1, 0, 'failed', 1)

        def event(data):
            return {'event': 'MEMSCHED_TRANSFER_COMPLETED', 'data': data}
        server = Server(memsched_reallocate=[
            event(other), {'return': {'id': 7}}, {'event': 'STOP'},
            event(ended)])
        done = ctl('move', 'web', 'db', '64M', '--source', 'kernel', '-d', 5,
                   '--in-time', answer=server)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        self.assertIn('completed in 412 ms: 64 of 64 MiB moved', done.stdout)
        self.assertEqual(server.seen, [('memsched-reallocate', {
            'from': 'web', 'to': 'db', 'size': 64 * MIB, 'source': 'kernel',
            'deadline': 5000, 'in-time': True})])

    def test_partial_and_failed_moves_have_their_status_and_reason(self):
        for state, status in (('partial', 3), ('failed', 1)):
            ended = {**transfer(1, 'a', 'b', 64, 9, state, 5),
                     'reason': 'its deadline came'}
            done = ctl('move', 'a', 'b', '64M', answer=Server(
                memsched_reallocate=[
                    {'return': {'id': 1}},
                    {'event': 'MEMSCHED_TRANSFER_COMPLETED', 'data': ended}]))
            self.assertEqual(done.returncode, status)
            self.assertIn('its deadline came', done.stdout)

    def test_set_sends_what_was_given_and_nothing_else(self):
        empty = {'return': {}}
        server = Server(memsched_set_guest=empty, memsched_set=empty)
        done = ctl('set', 'web', '--min', '1.5G', '--shares', 2000,
                   answer=server)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        done = ctl('set', '--policy', 'shares', '--dry-run', 'on',
                   '--idle-tax', 0, '--sample-interval', 2000, answer=server)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        self.assertEqual(server.seen, [
            ('memsched-set-guest', {'id': 'web', 'min': 3 << 29,
                                    'shares': 2000}),
            ('memsched-set', {'policy': 'shares', 'dry-run': True,
                              'idle-tax': 0, 'sample-interval': 2000})])

    def test_refusal_of_a_look_is_passed_on(self):
        for command in (['top'], ['record', '/dev/null'], ['guests']):
            done = ctl(*command, answer=lambda name, args:
                       refusal('No memory scheduler runs'))
            self.assertEqual((done.returncode, done.stderr), (
                1, 'memschedctl: No memory scheduler runs\n'))

    def test_refusal_of_the_process_is_passed_on(self):
        done = ctl('set', 'web', '--min', '9T', answer=Server(
            memsched_set_guest=refusal('It does not fit')))
        self.assertEqual((done.returncode, done.stderr),
                         (1, 'memschedctl: It does not fit\n'))

    def test_explain_shows_what_the_process_says(self):
        decision = {'id': 'web', 'age': 1500, 'action': 'take', 'reason':
                    'idle', 'size': 32 * MIB}
        done = ctl('explain', answer=Server(query_memsched_decisions={
            'return': [decision, {**decision, 'text': 'web gives 32 MiB'}]}))
        self.assertEqual(done.stdout, '1.5 s ago: web take 32 MiB (idle)\n'
                         '1.5 s ago: web gives 32 MiB\n')
        done = ctl('explain', 'web', answer=Server(memsched_explain={
            'return': {'text': 'It sleeps.', 'decisions': [decision]}}))
        self.assertEqual(done.stdout, 'It sleeps.\n'
                         '1.5 s ago: web take 32 MiB (idle)\n')
        done = ctl('explain', 'web', answer=Server(memsched_explain={
            'return': {'a': {'b': 1}, 'c': 'd'}}))
        self.assertEqual(done.stdout, 'a.b: 1\nc: d\n')

    def test_command_that_is_not_there_is_named(self):
        for args, name in ((['explain'], 'query-memsched-decisions'),
                           (['explain', 'web'], 'memsched-explain'),
                           (['move', 'a', 'b', '1M'], 'memsched-reallocate')):
            done = ctl(*args, answer=Server())
            self.assertEqual((done.returncode, done.stderr), (
                1, f'memschedctl: this process has no command {name}\n'))


class Recordings(unittest.TestCase):
    def record(self, server, *options):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'run.jsonl'
            done = ctl('record', path, '-i', 0.02, *options, answer=server)
            self.assertEqual((done.returncode, done.stdout, done.stderr),
                             (0, '', ''))
            return path.read_text('utf-8')

    def plot(self, text, *options):
        done = ctl('plot', '-', *options, stdin=text)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        return done.stdout

    def samples(self, *rows):
        return ''.join(json.dumps({'time': t, 'scheduler': scheduler(512),
                                   'guests': guests, 'transfers': moves}) +
                       '\n' for t, guests, moves in rows)

    def test_recording_ends_with_the_process_or_its_limit(self):
        text = self.record(Server(guest('web', 256), looks=3))
        samples = [json.loads(line) for line in text.splitlines()]
        self.assertEqual(len(samples), 3)
        self.assertEqual(set(samples[0]), {'time', 'scheduler', 'guests',
                                           'transfers'})
        times = [sample['time'] for sample in samples]
        self.assertEqual(times, sorted(times))
        self.assertEqual(samples[0]['guests'][0]['id'], 'web')
        self.assertTrue(self.record(Server(guest('a', 1)), '-f', '0.1'))

    def test_each_decision_is_recorded_once_and_is_on_the_page(self):
        class Deciding(Server):
            def __call__(self, name, arguments):
                if name != 'query-memsched-decisions':
                    return super().__call__(name, arguments)
                return {'return': [
                    {'number': n, 'id': 'web', 'age': 5, 'text': f'text {n}'}
                    for n in range(10 - self.looks, 0, -1)]}
        text = self.record(Deciding(guest('web', 256), looks=10))
        self.assertEqual([[d['number'] for d in json.loads(line)['decisions']]
                          for line in text.splitlines()],
                         [[n] for n in range(1, 11)])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'page.html'
            self.plot(text, '-o', path)
            page = path.read_text('utf-8')
        self.assertEqual(re.findall(r'text \d+', page),
                         [f'text {n}' for n in range(10, 0, -1)])

    def test_signal_ends_a_recording_whole(self):
        with FakeQmp(Server(guest('web', 1))) as server, \
                tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'run.jsonl'
            with subprocess.Popen([CTL, '-s', server.path, 'record',
                                   path, '-i', '0.01']) as process:
                limit = time.monotonic() + 30
                while time.monotonic() < limit and not (
                        path.exists() and path.stat().st_size):
                    time.sleep(0.01)
                process.send_signal(signal.SIGINT)
                self.assertEqual(process.wait(30), 0)
            for line in path.read_text('utf-8').splitlines():
                json.loads(line)

    def texts(self, root):
        return [node.text for node in root.iter(SVG + 'text')]

    def lines(self, root):
        return [[tuple(map(float, point.split(',')))
                 for point in node.get('points').split()]
                for node in root.iter(SVG + 'polyline')]

    def test_picture_has_a_line_for_each_guest_and_a_band_for_transfers(self):
        moves = [transfer(1, 'web', 'db', 256, 256, 'completed', 500)]
        two = [guest('web', 0), guest('db', 200)]
        root = ET.fromstring(self.plot(self.samples(
            (100, two, []), (104, [guest('web', 256), two[1]], moves),
            (108, two, moves))))
        pool, web, _ = self.lines(root)
        for text in ('guest web', 'guest db', 'free in the pool', 'time (s)',
                     'host memory (MiB)', 'web \u2192 db 256 MiB, completed',
                     '0'):
            self.assertIn(text, self.texts(root))
        self.assertNotIn('108', self.texts(root))
        floor, half, top = web[0][1], web[1][1], pool[0][1]
        self.assertAlmostEqual((floor - half) * 2, floor - top, delta=0.3)

    def test_guest_without_memory_leaves_a_gap(self):
        known, gone = [guest('web', 10)], [failed_guest('web', 'gone')]
        root = ET.fromstring(self.plot(self.samples(
            (0, known, []), (1, gone, []), (2, known, []), (3, known, []))))
        self.assertEqual([len(line) for line in self.lines(root)], [4, 1, 2])

    def test_many_transfers_have_a_strip_and_no_bands(self):
        moves = [transfer(i, 'web', 'db', 16, 16, 'completed', 50)
                 for i in range(30)]
        two = [guest('web', 0), guest('db', 200)]
        root = ET.fromstring(self.plot(self.samples(
            (0, two, []), *((i, two, moves[:i]) for i in range(1, 31)))))
        self.assertIn('30 transfers', self.texts(root))
        rects = list(root.iter(SVG + 'rect'))[1:]
        self.assertEqual(len(rects), 30)
        self.assertEqual({rect.get('height') for rect in rects}, {'8'})
        self.assertEqual(rects[0].find(SVG + 'title').text,
                         'web \u2192 db 16 MiB, completed')

    def test_transfer_out_of_the_pool_is_called_so(self):
        move = transfer(1, 'x', 'db', 16, 16, 'completed', 500)
        del move['from']
        one = [guest('db', 200)]
        root = ET.fromstring(self.plot(self.samples(
            (0, one, []), (4, one, [move]), (8, one, [move]))))
        self.assertIn('pool \u2192 db 16 MiB, completed', self.texts(root))

    def test_many_guests_with_any_name_stay_inside_and_well_formed(self):
        many = [guest(f'<b>&"\x01guest-number-{i}', i) for i in range(64)]
        text = self.plot(self.samples((0, many, []), (1, many, [])))
        root = ET.fromstring(text)
        for line in self.lines(root):
            for x, y in line:
                self.assertTrue(0 <= x <= 960 and 0 <= y <= 520)
        self.assertTrue(any(re.fullmatch(r'and \d+ more', t)
                            for t in self.texts(root)))
        self.assertNotRegex(text, r'href|url\(|<image|<script|@import')

    def test_page_is_well_formed_and_alone(self):
        moves = [{**transfer(1, 'a<', 'b', 2, 1, 'partial', 5),
                  'reason': 'late & <short>'}]
        sample = self.samples((0, [guest('a<', 1)], moves),
                              (1, [guest('a<', 2)], moves))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'page.html'
            self.plot(sample, '-o', path, '--title', 'A <b> & c')
            text = path.read_text('utf-8')
        root = ET.fromstring(text.replace('<!DOCTYPE html>', ''))
        self.assertEqual(len(list(root.iter(SVG + 'svg'))), 2)
        self.assertEqual(root.find('.//h1').text, 'A <b> & c')
        self.assertIn('late & <short>', [n.text for n in root.iter('td')])
        self.assertNotRegex(text, r'href|url\(|<image|<script|@import')

    def test_what_is_no_recording_is_refused_with_its_line(self):
        good = self.samples((0, [guest('a', 1)], []))
        for text, words in ((good + 'not json\n', 'line 2 is no sample'),
                            (good + '[]\n', 'line 2 is no sample'),
                            (good + '{"time": "soon", "guests": []}\n',
                             'line 2 is no sample'),
                            (good, 'needs 2 samples or more')):
            done = ctl('plot', '-', stdin=text)
            self.assertEqual(done.returncode, 1)
            self.assertIn(words, done.stderr)
        done = ctl('plot', '/nonexistent')
        self.assertEqual(done.returncode, 1)
        self.assertIn('No such file', done.stderr)


class Trouble(unittest.TestCase):
    def failed(self, done, words, status=1):
        self.assertEqual((done.returncode, done.stdout), (status, ''))
        self.assertRegex(done.stderr, r'^memschedctl: [^\n]*\n$')
        self.assertIn(words, done.stderr)

    def test_nobody_listens(self):
        self.failed(ctl('-s', '/nonexistent/qmp', 'status'), 'No such file')

    def test_other_side_closes_at_any_time(self):
        greeting = json.dumps({'QMP': {}}).encode() + b'\n'
        for data in (b'', greeting[:5], greeting,
                     greeting + b'{"return": {}}\n'):
            with self.subTest(data), Raw(data, close=True) as server:
                self.failed(ctl('-s', server.path, 'status'), 'closed')
        self.failed(ctl('status', answer=lambda name, args: None), 'closed')

    def test_nonsense_is_called_so(self):
        for data in (b'hello\n', b'[]\n', b'{}\n', b'{"QMP": \n', b'\xff\n',
                     b'{"QMP": {}}\n5\n', b'{"QMP": {}}\n{"error": 1}\n',
                     b'{"QMP": {}}\n{"id": 1}\n'):
            with self.subTest(data), Raw(data) as server:
                done = ctl('-s', server.path, '-t', 5, 'status')
                self.assertEqual(done.returncode, 1)
                self.assertRegex(done.stderr, 'not QMP|neither a result')

    def test_silent_and_slow_servers_end_in_time(self):
        greeting = b'{"QMP": {}}\n'
        for data, words in ((b'', 'one client at a time'),
                            (greeting, 'one client at a time'),
                            (greeting + b'{"return": {}}\n',
                             'does not answer in time')):
            with self.subTest(data), Raw(data) as server:
                start = time.monotonic()
                done = ctl('-s', server.path, '-t', 0.3, 'status')
                self.failed(done, words)
                self.assertLess(time.monotonic() - start, 10)

    def test_slow_answer_that_comes_is_taken(self):
        class Slow(Server):
            def __call__(self, name, arguments):
                # Longer than a look, shorter than the limit.
                threading.Event().wait(0.2)
                return super().__call__(name, arguments)
        done = ctl('-t', 20, 'status', answer=Slow(guest('a', 1)))
        self.assertEqual(done.returncode, 0)

    def test_answer_of_megabytes_is_taken(self):
        many = [guest(f'guest-{i}', 1, message='x' * 500)
                for i in range(5000)]
        done = ctl('guests', answer=Server(*many))
        self.assertEqual(done.returncode, 0)
        self.assertEqual(len(done.stdout.splitlines()), 5001)

    def test_wrong_command_lines_are_refused_with_status_2(self):
        os.environ.pop('MEMSCHED_SOCKET', None)
        for args in (['status'], ['-s', 'x'], ['-x', 'status'], ['nothing'],
                     ['-t', '0', 'status'], ['-s', 'x', 'move', 'a', 'b'],
                     ['-s', 'x', 'move', 'a', 'b', '-5'],
                     ['-s', 'x', 'move', 'a', 'b', '1X'],
                     ['-s', 'x', 'move', 'a', 'b', '1M', '-d', '-1'],
                     ['-s', 'x', 'set'], ['-s', 'x', 'set', 'web'],
                     ['-s', 'x', 'set', 'web', '--policy', 'shares'],
                     ['-s', 'x', 'set', '--min', '1M'],
                     ['-s', 'x', 'set', '--dry-run', 'maybe'],
                     ['-s', 'x', 'top', '-i', '0'], ['-s', 'x', 'top', 'y'],
                     ['-s', 'x', 'top', '--sort', 'beauty'],
                     ['-s', 'x', 'record'], ['plot'], ['status', '--what'],
                     ['-s', 'x', 'explain', 'a', 'b'],
                     ['-s', 'x', 'applications', 'a', 'b'],
                     ['-s', 'x', 'guests', 'web']):
            with self.subTest(args):
                done = ctl(*args)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertEqual(done.stdout, '')
                self.assertTrue(done.stderr)

    def test_help_is_there_for_each_command(self):
        done = ctl('--help')
        self.assertEqual(done.returncode, 0)
        for name in re.findall(r'^  ([a-z]+) ', done.stdout, re.M):
            more = ctl(name, '--help')
            self.assertEqual((more.returncode, more.stderr), (0, ''), name)
            self.assertIn(f'memschedctl {name}', more.stdout)

    def test_socket_comes_from_the_environment(self):
        with FakeQmp(Server(guest('web', 1))) as server:
            done = ctl('guests', env={'MEMSCHED_SOCKET': server.path})
        self.assertEqual(done.returncode, 0)

    def test_recording_of_a_csv_feeds_the_simulator(self):
        text = ctl('top', '--csv', '-n', 1, answer=Server(
            guest('web', 256, active=5 * MIB))).stdout
        head = text.splitlines()[0].split(',')
        for name in ('time', 'guest', 'active'):
            self.assertIn(name, head)


if __name__ == '__main__':
    tap.main()
