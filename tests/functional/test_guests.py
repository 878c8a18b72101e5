#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Several guests in one process: each row of the table of process-wide state
in docs/devel/multi-guest.rst, with guests that are boot sectors."""

import os
import re
import signal
import socket
import sys
import time
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / 'scripts'), str(TOP / 'tests')]

from lib import tap  # noqa: E402
from lib.machine import (SPIN, Process,  # noqa: E402
                         QmpError, isa_debug_exit)

PPOLL = '271 '
WITHOUT_IO_URING = TOP / 'tests/lib/without_io_uring.py'


class Guests(unittest.TestCase):
    def start(self, *options, **more):
        process = Process(*options, **more)
        self.addCleanup(process.close)
        return process

    def run_guest(self, process, guest, *extra, **more):
        process.add(guest, process.guest_args(guest, *extra, **more))
        process.wait_state(guest, 'running')
        return process.guest_qmp(guest)

    def fail_assertion(self, path):
        """In the main loop of the guest whose -qtest socket this is."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(30)
            sock.connect(str(path))
            # A read of nothing: qtest asserts that there is a length.
            sock.sendall(b'read 0x0 0x0\n')
            sock.recv(1)

    def lives(self, qmp):
        self.assertEqual(qmp.command('query-status')['status'], 'running')

    def failed(self, process, guest, args, sentence):
        """@guest fails with @sentence, and a neighbour notices nothing."""
        neighbour = self.run_guest(process, f'beside-{guest}')
        process.add(guest, args)
        shown = process.wait_state(guest, 'failed')
        self.assertIn(sentence, shown.get('message', ''))
        self.lives(neighbour)
        process.qmp.command('query-status')


class Life(Guests):
    def test_guests_of_the_command_line_start_before_any_order(self):
        folder = self.start()
        args = folder.path / 'a.args'
        args.write_text('# two lines\n-nodefaults -M pc -m 16M -S\n'
                        f"-display none -qmp 'unix:{folder.path}/a,server=on,"
                        "wait=off'\n")
        process = self.start('-object', f'guest,id=a,args-file={args}')
        self.assertEqual(process.wait_state('a', 'running')['id'], 'a')

    def test_a_guest_runs_says_so_and_stops_when_removed(self):
        process = self.start()
        self.run_guest(process, 'a')
        process.remove('a')
        process.wait_state('a', None)
        states = []
        while 'stopped' not in states:
            event = process.qmp.wait_event('MEMSCHED_GUEST_STATE')
            states.append(event['data']['state'])
        self.assertEqual(states, ['loading', 'running', 'stopping',
                                  'stopped'])

    def test_quit_on_its_own_monitor_ends_that_guest_only(self):
        process = self.start()
        a, b = (self.run_guest(process, guest) for guest in 'ab')
        a.command('quit')
        self.assertEqual(process.wait_state('a', 'stopped').get('message'),
                         None)
        self.lives(b)

    def test_a_missing_args_file_is_a_failed_guest_with_the_reason(self):
        process = self.start()
        process.qmp.command('object-add', qom_type='guest', id='a',
                            args_file='/nowhere/a.args')
        shown = process.wait_state('a', 'failed')
        self.assertEqual(shown['message'], "args-file '/nowhere/a.args' "
                         'cannot be read: No such file or directory')

    def test_args_files_that_are_none_fail_with_one_sentence(self):
        process = self.start()
        neighbour = self.run_guest(process, 'beside')
        loop = process.path / 'loop'
        loop.symlink_to(loop)
        cases = {
            'folder': (None, 'Is a directory'),
            'empty': (b'', 'has no option'),
            'blank': (b'  \n\t\n', 'has no option'),
            'comment': (b'# nothing but this\n', 'has no option'),
            'zero': (b'-S -m 16M\0 -M pc', 'byte of value 0'),
            'binary': (Path('/proc/self/exe').read_bytes()[:9000],
                       'byte of value 0'),
            'quote': (b"-M pc -name 'x\n-S\n", 'does not end'),
            'escape': (b'-S \\', 'does not end'),
            'word': (b'nonsense', 'nonsense'),
            'option': (b'--nonsense', 'invalid option'),
            'latin1': (b'-M \xe4\xf6', 'unsupported machine'),
        }
        for guest, (text, sentence) in cases.items():
            with self.subTest(guest):
                path = process.path / guest
                if text is None:
                    path.mkdir()
                else:
                    path.write_bytes(text)
                self.file_fails(process, guest, path, sentence)
        self.file_fails(process, 'loop', loop, 'symbolic links')
        self.file_fails(process, 'below', process.path / 'empty/more',
                        'Not a directory')
        self.lives(neighbour)

    def test_an_args_file_that_may_not_be_read_fails_with_the_reason(self):
        if os.geteuid() == 0:
            self.skipTest('root may read every file')
        process = self.start()
        path = process.path / 'closed'
        path.write_text('-S')
        path.chmod(0)
        self.file_fails(process, 'a', path, 'Permission denied')

    def file_fails(self, process, guest, path, sentence):
        process.qmp.command('object-add', qom_type='guest', id=guest,
                            args_file=str(path))
        shown = process.wait_state(guest, 'failed', 'running')
        self.assertIn(sentence, shown.get('message', ''))
        self.assertNotIn('\n', shown['message'])

    def test_args_that_are_none_are_refused_or_fail(self):
        process = self.start()
        neighbour = self.run_guest(process, 'beside')
        for args in ('-S', 5, {'M': 'pc'}, [5], [None], [['-S']], []):
            with self.subTest(args), self.assertRaises(QmpError):
                process.add('a', args)
        for number, args in enumerate((
                [''], ['-M'], ['\n'], ['-M', 'x' * 100000],
                ['-device'] * 50, ['\u2603'])):
            with self.subTest(number):
                guest = f'g{number}'
                process.add(guest, args)
                shown = process.wait_state(guest, 'failed', 'running')
                self.assertEqual(shown['state'], 'failed')
                self.assertTrue(shown['message'])
                self.assertNotIn('\n', shown['message'])
        for bad in '', '1a', 'a b', 'x' * 200, 'main', '../a':
            with self.subTest(bad), self.assertRaises(QmpError):
                process.add(bad, ['-S'])
        self.lives(neighbour)

    def test_a_bad_option_is_a_failed_guest_with_the_reason(self):
        process = self.start()
        self.failed(process, 'a', ['-M', 'nonsense'], 'unsupported machine')

    def test_the_same_id_twice_is_refused(self):
        process = self.start()
        self.run_guest(process, 'a')
        with self.assertRaises(QmpError):
            process.add('a', ['-S'])

    def test_the_id_is_free_again_after_removal(self):
        process = self.start()
        for _ in range(3):
            self.run_guest(process, 'a').close()
            process.remove('a')
            process.wait_state('a', None)

    def test_neither_args_nor_args_file_is_refused(self):
        process = self.start()
        with self.assertRaisesRegex(QmpError, 'either args-file'):
            process.qmp.command('object-add', qom_type='guest', id='a')

    def test_a_guest_cannot_have_guests(self):
        process = self.start()
        self.failed(process, 'a', ['-M', 'none', '-object',
                                   'guest,id=b,args-file=x'],
                    'a guest cannot have guests')


class Exit(Guests):
    def test_exit_on_a_vcpu_thread_ends_that_guest_only(self):
        process = self.start()
        neighbour = self.run_guest(process, 'b', code=SPIN)
        process.add('a', process.guest_args(
            'a', '-device', 'isa-debug-exit,iobase=0x501,iosize=2',
            code=isa_debug_exit(3)))
        process.wait_state('a', 'failed')
        self.lives(neighbour)
        process.wait_until(lambda: 'a' not in process.threads(),
                           'threads of a end')

    def test_exit_inside_a_coroutine_ends_that_guest_only(self):
        process = self.start()
        neighbour = self.run_guest(process, 'b')
        # What arrives of a migration is read in a coroutine, which calls
        # exit() where it is none.
        process.add('a', process.guest_args(
            'a', '-incoming', f'unix:{process.path}/incoming'))
        process.wait_state('a', 'running')
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(process.path / 'incoming'))
            sock.sendall(b'nothing like a migration' * 100)
            shown = process.wait_state('a', 'failed')
        self.assertIn('migration', shown['message'].lower())
        self.lives(neighbour)
        process.wait_until(lambda: 'a' not in process.threads(),
                           'threads of a end')

    def test_a_failed_assertion_ends_that_guest_only(self):
        process = self.start()
        neighbour = self.run_guest(process, 'b', code=SPIN)
        a = self.run_guest(process, 'a', '-qtest',
                           f'unix:{process.path}/qtest,server=on,wait=off',
                           '-qtest-log', 'none')
        self.fail_assertion(process.path / 'qtest')
        shown = process.wait_state('a', 'failed')
        self.assertIn('ssert', shown['message'])
        self.lives(neighbour)
        a.close()

    def test_threads_that_poll_end_with_their_guest(self):
        # Without io_uring an I/O thread waits in poll() with an array of its
        # own, which upstream's end of a thread finds in use.
        process = self.start(program=WITHOUT_IO_URING)
        neighbour = self.run_guest(process, 'b')
        a = self.run_guest(process, 'a', '-object', 'iothread,id=io', '-qtest',
                           f'unix:{process.path}/qtest,server=on,wait=off',
                           '-qtest-log', 'none')
        thread = a.command('query-iothreads')[0]['thread-id']
        call = Path(f'/proc/{process.pid}/task/{thread}/syscall')
        process.wait_until(lambda: call.read_text().startswith(PPOLL),
                           'the I/O thread polls')
        self.fail_assertion(process.path / 'qtest')
        shown = process.wait_state('a', 'failed')
        self.assertIn('ssert', shown['message'])
        self.assertNotIn('npfd', process.output())
        self.assertNotIn('did not stop', process.output())
        process.wait_until(lambda: not any(
            name.startswith('a') for name in process.threads()),
            'threads of a end')
        self.lives(neighbour)
        a.close()


class Refused(Guests):
    def test_what_belongs_to_the_process_is_refused(self):
        cases = {
            'stdio': (['-serial', 'stdio'], 'no standard input'),
            'nographic': (['-nographic'], 'no standard input'),
            'daemonize': (['-daemonize'], 'whole process'),
            'user': (['-run-with', 'user=nobody'], 'whole process'),
            'root': (['-run-with', 'chroot=/'], 'whole process'),
            'teardown': (['-run-with', 'async-teardown=on'],
                         'whole process'),
            'lock': (['-overcommit', 'mem-lock=on'], 'whole process'),
            'name': (['-name', 'x,process=y'], 'whole process'),
        }
        process = self.start()
        neighbour = self.run_guest(process, 'beside')
        before = os.readlink(f'/proc/{process.pid}/root')
        for guest, (options, sentence) in cases.items():
            with self.subTest(guest):
                process.add(guest, ['-M', 'pc', '-m', '16M', '-S',
                                    '-display', 'none', *options])
                shown = process.wait_state(guest, 'failed')
                self.assertIn(sentence, shown['message'])
        self.lives(neighbour)
        self.assertEqual(os.readlink(f'/proc/{process.pid}/root'), before)

    def test_a_configuration_file_is_no_way_around(self):
        process = self.start()
        config = process.path / 'stdio.cfg'
        config.write_text('[chardev "c"]\n  backend = "stdio"\n')
        self.failed(process, 'a', ['-M', 'pc', '-m', '16M', '-S', '-readconfig',
                                   str(config)], 'no standard input')


class Names(Guests):
    def test_threads_and_messages_carry_the_guests_id(self):
        process = self.start()
        self.run_guest(process, 'alpha')
        self.run_guest(process, 'beta')
        process.add('gamma', ['-M', 'nonsense'])
        process.wait_state('gamma', 'failed')
        self.assertGreaterEqual(process.threads().count('alpha'), 3)
        self.assertGreaterEqual(process.threads().count('beta'), 3)
        lines = [line for line in process.output().splitlines()
                 if 'nonsense' in line or 'unsupported machine' in line]
        self.assertTrue(lines)
        for line in lines:
            self.assertTrue(line.startswith('gamma '), line)

    def test_named_threads_carry_the_guests_id(self):
        process = self.start()
        self.run_guest(process, 'alpha', '-name', 'x,debug-threads=on')
        self.assertTrue(any(name.startswith('alpha/CPU')
                            for name in process.threads()),
                        process.threads())

    LOGGED = re.compile(r'runstate_set|E[ABCD]X=|CPU Reset')

    def logged(self, path):
        return [line for line in Path(path).read_text().splitlines()
                if self.LOGGED.search(line)]

    def log_together(self, process, *where):
        """Trace events, one a line, and states of CPUs, many a line."""
        for guest in 'alpha', 'beta':
            self.run_guest(process, guest, '-d', 'cpu_reset', '-trace',
                           'runstate_set', *where).command('stop')

    def assert_of_guests(self, lines):
        for line in lines:
            self.assertRegex(line, '^(alpha|beta) ')
        for guest in 'alpha', 'beta':
            mine = [line for line in lines if line.startswith(guest)]
            for what in 'runstate_set', 'EAX=', 'CPU Reset':
                self.assertTrue(any(what in line for line in mine), what)

    def test_log_and_trace_lines_carry_the_guests_id(self):
        process = self.start()
        self.log_together(process)
        self.assert_of_guests(self.logged(process.path / 'log'))

    def test_each_guest_may_have_a_file_of_its_own(self):
        process = self.start()
        for guest in 'alpha', 'beta':
            self.run_guest(process, guest, '-d', 'cpu_reset', '-D',
                           str(process.path / guest))
        for guest in 'alpha', 'beta':
            lines = (process.path / guest).read_text().splitlines()
            self.assertTrue(lines)
            for line in lines:
                self.assertTrue(line.startswith(f'{guest} '), line)

    def test_lines_of_instance_0_are_as_upstreams(self):
        process = self.start('-trace', 'runstate_set')
        self.run_guest(process, 'alpha')
        process.qmp.command('stop')
        lines = self.logged(process.path / 'log')
        self.assertTrue(lines)
        for line in lines:
            self.assertTrue(line.startswith('runstate_set'), line)

    def test_a_guest_that_ends_while_it_logs_breaks_no_line_of_others(self):
        """Its vCPU writes lines, one for each OUT, when it is ended."""
        # out 0x80, al; jmp to it
        chatter = b'\xe6\x80\xeb\xfc'
        process = self.start()
        beside = self.run_guest(process, 'beta', '-trace', 'runstate_set')
        for _ in range(10):
            self.run_guest(process, 'alpha', '-trace',
                           'memory_region_ops_write', '-qtest',
                           f'unix:{process.path}/qtest,server=on,wait=off',
                           '-qtest-log', 'none', code=chatter).close()
            process.wait_until(lambda: 'alpha memory_region_ops_write' in
                               process.output()[-1000:], 'it writes')
            self.fail_assertion(process.path / 'qtest')
            process.wait_state('alpha', 'failed')
            process.remove('alpha')
            process.wait_state('alpha', None)
        before = len(self.logged(process.path / 'log'))
        beside.command('stop')
        self.assertGreater(len(self.logged(process.path / 'log')), before)
        for line in process.output().splitlines():
            self.assertRegex(line, '^(alpha|beta) [^ ]')
            self.assertNotIn('beta', line[1:])

    def test_a_second_client_of_a_guests_monitor_waits_for_the_first(self):
        process = self.start()
        first = self.run_guest(process, 'a')
        with socket.socket(socket.AF_UNIX) as second:
            second.settimeout(1)
            second.connect(str(process.path / 'a.qmp'))
            with self.assertRaises(TimeoutError):
                second.recv(1)
            self.lives(first)
            first.close()
            second.settimeout(30)
            self.assertIn(b'QMP', second.recv(4096))

    def test_a_guests_monitor_shows_that_guest_only(self):
        process = self.start()
        a = self.run_guest(process, 'a')
        self.run_guest(process, 'b')
        self.assertEqual([g['id'] for g in
                          a.command('query-memsched-guests')], ['a'])


class Signals(Guests):
    def ends(self, process, within):
        start = time.monotonic()
        status = process.wait_exit(timeout=within)
        return status, time.monotonic() - start

    def test_sigterm_without_guests_ends_as_upstream(self):
        process = self.start()
        process.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.ends(process, 30)[0], 0)
        self.assertIn('terminating on signal 15', process.output())

    def test_sigterm_ends_guests_that_do_not_listen_after_the_limit(self):
        process = self.start()
        self.run_guest(process, 'a')
        process.process.send_signal(signal.SIGTERM)
        status, seconds = self.ends(process, 40)
        self.assertEqual(status, 0)
        self.assertGreater(seconds, 5)

    def test_sigterm_after_one_guest_has_ended_ends_the_others(self):
        process = self.start()
        a = self.run_guest(process, 'a')
        b = process.guest_args('b', '-S')
        process.add('b', b)
        process.wait_state('b', 'running')
        a.command('quit')
        process.wait_state('a', 'stopped')
        process.process.send_signal(signal.SIGTERM)
        status, seconds = self.ends(process, 30)
        self.assertEqual(status, 0)
        self.assertLess(seconds, 8)

    def test_a_second_signal_ends_at_once(self):
        for signo in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with self.subTest(signo.name):
                process = self.start()
                guest = self.run_guest(process, 'a')
                process.process.send_signal(signal.SIGTERM)
                # The first has been heard: the two do not become one.
                guest.wait_event('POWERDOWN')
                process.process.send_signal(signo)
                status, seconds = self.ends(process, 5)
                self.assertEqual(status, 128 + signo)

    def test_quit_of_instance_0_ends_all(self):
        process = self.start()
        process.add('a', process.guest_args('a', '-S'))
        process.wait_state('a', 'running')
        process.qmp.command('quit')
        self.assertEqual(self.ends(process, 30)[0], 0)

    def test_sigbus_is_blocked_in_no_thread_of_a_guest(self):
        process = self.start()
        self.run_guest(process, 'a')
        blocked = []
        for task in Path(f'/proc/{process.pid}/task').iterdir():
            text = (task / 'status').read_text()
            mask = int(text.partition('SigBlk:')[2].split()[0], 16)
            if mask & (1 << (signal.SIGBUS - 1)):
                blocked.append((task / 'comm').read_text().strip())
        self.assertEqual(blocked, [])


class Many(Guests):
    def start_many(self, process, count):
        for i in range(count):
            process.add(f'g{i}', process.guest_args(
                f'g{i}', '-S' if count > 16 else '-no-reboot', memory='16M'))
        for i in range(count):
            process.wait_state(f'g{i}', 'running', timeout=120)

    def test_16_guests_run_at_once(self):
        process = self.start()
        self.start_many(process, 16)
        for i in range(16):
            with process.guest_qmp(f'g{i}') as qmp:
                self.lives(qmp)

    def test_64_idle_guests_start_and_stop(self):
        process = self.start()
        self.start_many(process, 64)
        for i in range(64):
            process.remove(f'g{i}')
        for i in range(64):
            process.wait_state(f'g{i}', None, timeout=120)
        self.assertEqual(process.guests(), {})

    def test_threads_and_descriptors_are_flat_over_300_starts_and_stops(self):
        """300, since a process has 1,024 keys of thread-specific data: at four
        a copy the 256th guest would find none."""
        process = self.start()
        figures = []
        for _ in range(300):
            self.run_guest(process, 'a').close()
            process.remove('a')
            process.wait_state('a', None)
            figures.append(process.figures())
        print(f'# after 10: {figures[9]}; after 300: {figures[-1]}')
        for what in 'threads', 'fds':
            self.assertEqual(figures[9][what], figures[-1][what], what)
        # A process may have 65,530 mappings: 6,000 guests in its life.
        grown = figures[-1]['maps'] - figures[9]['maps']
        self.assertLess(grown, 290 * 10, 'mappings of 290 guests that ended')
        grown = figures[-1]['anon_kib'] - figures[9]['anon_kib']
        self.assertLess(grown, 24 << 10, 'KiB more after 290 starts and stops')


if __name__ == '__main__':
    tap.main()
