#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a process has once and several guests share: signals, children, kinds
of RAM, identity.  The rows of the table in docs/devel/multi-guest.rst that
are not about a guest's own life (test_guests.py)."""

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / 'scripts'), str(TOP / 'tests')]

from lib import tap  # noqa: E402
from lib.driven import FREE, MIB, Driven  # noqa: E402
from lib.machine import QEMU, SPIN, Process, QmpError  # noqa: E402
from lib.qtest import Qtest  # noqa: E402

SCHEDULER = ('-object', 'memsched,id=ms,pool=256M')
COUNTER = 0x7000
TGKILL = 234


def counting_rom():
    """64 KiB of ROM for a CPU in real mode: xor ax, ax; mov ds, ax; then inc
    dword [COUNTER] and a jump back to it, for ever."""
    code = b'\x31\xc0\x8e\xd8' b'\x66\xff\x06' + COUNTER.to_bytes(
        2, 'little') + b'\xeb\xf9'
    # Where it starts: jmp to the first byte.
    return code.ljust(0xfff0, b'\0') + b'\xe9\x0d\x00'.ljust(16, b'\0')


def tgkill(process, thread, signo):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(TGKILL, process, thread, int(signo)) < 0:
        raise OSError(ctypes.get_errno(), 'tgkill')


def status(process, field):
    text = Path(f'/proc/{process.pid}/status').read_text()
    return text.partition(f'\n{field}:')[2].partition('\n')[0].split()


def signal_set(process, field):
    mask = int(status(process, field)[0], 16)
    return {signo for signo in range(1, 65) if mask & 1 << (signo - 1)}


class Shared(unittest.TestCase):
    def start(self, *options, **more):
        process = Process(*options, **more)
        self.addCleanup(process.close)
        return process

    def driven(self, process, name, *extra, **more):
        guest = Driven(process, name, *extra, **more)
        self.addCleanup(guest.close)
        return guest

    def exact(self, process):
        check = process.qmp.command('memsched-check')
        self.assertTrue(check['exact'], check.get('message'))

    def failed(self, process, guest, args, sentence):
        process.add(guest, process.guest_args(guest, *args))
        shown = process.wait_state(guest, 'failed', 'running')
        self.assertEqual(shown['state'], 'failed', f'{guest} runs')
        self.assertIn(sentence, shown['message'])
        self.assertNotIn('\n', shown['message'])


class KickedVcpus(Shared):
    """SIGUSR1 brings a vCPU out of KVM."""

    def counting(self, process, name):
        qtest = Qtest(process.path / f'{name}.qtest')
        self.addCleanup(qtest.close)
        (process.path / 'rom').write_bytes(counting_rom())
        process.add(name, process.guest_args(
            name, '-bios', str(process.path / 'rom'), '-qtest',
            f'unix:{process.path}/{name}.qtest', '-qtest-log', '/dev/null',
            accel='kvm'))
        qtest.accept()
        process.wait_state(name, 'running')
        return qtest, process.guest_qmp(name)

    def count(self, qtest):
        return int.from_bytes(qtest.read(COUNTER, 4), 'little')

    def counts(self, process, qtest, what):
        before = self.count(qtest)
        process.wait_until(lambda: self.count(qtest) != before, what)

    def need_kvm(self):
        try:
            os.close(os.open('/dev/kvm', os.O_RDWR))
        except OSError as error:
            self.skipTest(f'/dev/kvm does not open: {error.strerror}')

    def test_a_kick_stops_the_vcpu_of_one_guest_and_of_no_other(self):
        self.need_kvm()
        process = self.start()
        a, a_qmp = self.counting(process, 'a')
        b, b_qmp = self.counting(process, 'b')
        try:
            self.counts(process, a, 'a runs under KVM')
        except TimeoutError:
            self.skipTest('no instruction runs under this host\'s KVM')
        for _ in range(20):
            for stopped, qmp, other in ((a, a_qmp, b), (b, b_qmp, a)):
                qmp.command('stop')
                at = self.count(stopped)
                self.counts(process, other, 'the other one goes on')
                self.assertEqual(self.count(stopped), at)
                qmp.command('cont')
                self.counts(process, stopped, 'it goes on')

    def test_a_kick_of_any_thread_reaches_its_guest_alone(self):
        """Each thread of the process gets one; no handler of another guest,
        nor of instance 0, makes anything of it."""
        self.need_kvm()
        process = self.start()
        guests = [self.counting(process, name) for name in 'ab']
        for task in Path(f'/proc/{process.pid}/task').iterdir():
            name = (task / 'comm').read_text()
            if not name.startswith('kvm-'):     # a worker of the kernel's
                tgkill(process.pid, int(task.name), signal.SIGUSR1)
        for qtest, qmp in guests:
            self.counts(process, qtest, 'it goes on')
            self.assertEqual(qmp.command('query-status')['status'], 'running')

    def test_it_ends_no_process_whose_guests_do_not_use_kvm(self):
        process = self.start(*SCHEDULER)
        guest = self.driven(process, 'a')
        for task in Path(f'/proc/{process.pid}/task').iterdir():
            tgkill(process.pid, int(task.name), signal.SIGUSR1)
        os.kill(process.pid, signal.SIGUSR1)
        guest.wait_beat()
        process.qmp.command('query-status')


class OtherSignals(Shared):
    def test_a_guest_installs_no_handler_but_for_its_two(self):
        process = self.start()
        before = [signal_set(process, f) for f in ('SigCgt', 'SigIgn')]
        self.driven(process, 'a')
        self.driven(process, 'b')
        after = [signal_set(process, f) for f in ('SigCgt', 'SigIgn')]
        self.assertLessEqual(after[0] - before[0],
                             {signal.SIGUSR1, signal.SIGBUS})
        self.assertLessEqual(before[0], after[0])
        self.assertEqual(after[1], before[1])
        self.assertIn(signal.SIGPIPE, after[1])

    def test_signals_that_mean_nothing_end_nobody(self):
        process = self.start()
        guest = self.driven(process, 'a')
        for signo in (signal.SIGPIPE, signal.SIGCHLD, signal.SIGIO,
                      signal.SIGALRM):
            with self.subTest(signo.name):
                os.kill(process.pid, signo)
                guest.wait_beat()
                process.qmp.command('query-status')

    def test_a_client_that_goes_in_the_middle_of_an_answer_ends_nobody(self):
        process = self.start()
        guest = self.driven(process, 'a', '-qmp',
                            f'unix:{process.path}/more,server=on,wait=off')
        for _ in range(20):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(30)
                client.connect(str(process.path / 'more'))
                client.sendall(b'{"execute": "qmp_capabilities"}\n' +
                               b'{"execute": "query-qmp-schema"}\n' * 4)
                client.recv(1)
        guest.wait_beat()
        process.qmp.command('query-status')


class Children(Shared):
    """Helpers that a guest forks."""

    HELPER = ('#!/bin/sh\nls -l /proc/self/fd > {0}.fds.part\n'
              'cat /proc/self/maps > {0}.maps\nmv {0}.fds.part {0}.fds\n')

    def helper(self, process, name):
        path = process.path / name
        path.write_text(self.HELPER.format(path))
        path.chmod(0o755)
        return path

    def spawn(self, guest, helper):
        """By fork(): the helper brings no device, so the guest refuses."""
        with self.assertRaises(QmpError):
            guest.qmp.command('netdev_add', type='bridge', id='net',
                              helper=str(helper))

    def assert_inherits_nothing(self, helper):
        fds = helper.with_suffix('.fds').read_text()
        for word in ('userfaultfd', 'memfd', 'kvm', '.img', 'rom', 'eventfd',
                     'eventpoll'):
            self.assertNotIn(word, fds)
        self.assertNotIn('libqemu', helper.with_suffix('.maps').read_text())

    def test_a_helper_inherits_no_descriptor_of_any_guest(self):
        process = self.start(*SCHEDULER)
        self.driven(process, 'b')
        guest = self.driven(process, 'a')
        helper = self.helper(process, 'helper')
        self.spawn(guest, helper)
        self.assert_inherits_nothing(helper)

    def test_the_command_of_a_migration_inherits_none_either(self):
        process = self.start(*SCHEDULER)
        self.driven(process, 'b')
        guest = self.driven(process, 'a')
        helper = self.helper(process, 'helper')
        guest.qmp.command('migrate', uri=f'exec:{helper}; cat > /dev/null')
        process.wait_until(
            lambda: guest.qmp.command('query-migrate')['status'] ==
            'completed', 'it migrates')
        self.assert_inherits_nothing(helper)

    def test_no_child_stays_behind(self):
        process = self.start()
        guest = self.driven(process, 'a')
        for command in ('exec:false', 'exec:cat > /dev/null'):
            guest.qmp.command('migrate', uri=command)
            process.wait_until(
                lambda: guest.qmp.command('query-migrate')['status'] in
                ('completed', 'failed'), 'it ends')
        self.spawn(guest, '/bin/false')
        children = Path(f'/proc/{process.pid}/task')
        process.wait_until(lambda: not any(
            path.read_text().strip() for path in
            children.glob('*/children')), 'children are waited for')

    def test_ram_of_guests_and_the_pool_are_inherited_by_no_child(self):
        """All that userfaultfd watches: the kernel neither copies it to a
        child nor merges it."""
        process = self.start(*SCHEDULER)
        self.driven(process, 'a')
        self.driven(process, 'b', memory=(
            '-M', 'pc,memory-backend=m', '-object',
            'memory-backend-ram,id=m,size=48M,merge=on'))
        seen = 0
        for part in re.split(r'^(?=[0-9a-f]+-[0-9a-f]+ )',
                             Path(f'/proc/{process.pid}/smaps').read_text(),
                             flags=re.MULTILINE):
            flags = part.partition('VmFlags:')[2].split()
            if {'um', 'uw'} & set(flags):
                seen += 1
                self.assertIn('dc', flags, part)
                self.assertNotIn('mg', flags, part)
        self.assertGreaterEqual(seen, 3)

    def test_moves_go_on_while_helpers_are_forked(self):
        process = self.start(*SCHEDULER)
        a, b, forks = (self.driven(process, name) for name in 'abf')
        size = 8 * MIB
        a.inflate(FREE[0], size)
        for number in range(10):
            giver, taker = (a, b) if number % 2 else (b, a)
            giver.qtest.fill(FREE[0], size, number + 1)
            ident = process.qmp.command('memsched-reallocate', size=size,
                                        to=taker.name,
                                        **{'from': giver.name})['id']
            self.spawn(forks, '/bin/false')
            giver.inflate(FREE[0], size)
            self.spawn(forks, '/bin/false')
            taker.deflate(FREE[0], size)
            ended = self.wait_transfer(process, ident)
            self.assertEqual((ended['state'], ended['moved']),
                             ('completed', size), ended)
            for guest in (a, b, forks):
                guest.wait_beat()
            self.exact(process)
        for guest in (a, b, forks):
            guest.wait_pass()

    def wait_transfer(self, process, ident):
        found = []

        def ended():
            found[:] = [t for t in process.qmp.command(
                'query-memsched-transfers') if t['id'] == ident]
            return found[0]['state'] != 'running'
        process.wait_until(ended, 'the transfer ends')
        return found[0]


class KindsOfRam(Shared):
    def backend(self, kind, more=''):
        return ('-M', 'pc,memory-backend=m', '-object',
                f'{kind},id=m,size=48M{more}')

    def test_prealloc_is_refused_in_every_spelling(self):
        process = self.start(*SCHEDULER)
        beside = self.driven(process, 'beside')
        self.failed(process, 'a', ['-mem-prealloc'], 'leave it out')
        self.failed(process, 'b', [
            '-object', 'memory-backend-ram,id=m,size=16M,prealloc=on',
            '-machine', 'memory-backend=m'], 'leave it out')
        config = process.path / 'config'
        config.write_text('[object "m"]\n  qom-type = "memory-backend-ram"\n'
                          '  size = "16M"\n  prealloc = "on"\n'
                          '[machine]\n  memory-backend = "m"\n')
        self.failed(process, 'c', ['-readconfig', str(config)],
                    'leave it out')
        beside.wait_beat()
        self.exact(process)

    def gives_and_has_again(self, kind, more):
        """Its balloon's pages go to the pool, and it finds zeros there."""
        process = self.start(*SCHEDULER)
        beside = self.driven(process, 'beside')
        guest = self.driven(process, 'a', memory=self.backend(kind, more))
        size = 4 * MIB
        guest.qtest.fill(FREE[0], 2 * size, 0x5a)
        before = guest.memory()['captured']
        guest.inflate(FREE[0], size)
        # One of the two frames, where they lie across those of the host.
        process.wait_until(lambda: guest.memory()['ballooned']['kernel'] >=
                           size // 2, 'the balloon is captured')
        self.exact(process)
        guest.deflate(FREE[0], size)
        # The other one may have followed at any moment until now.
        taken = guest.memory()['captured'] - before
        self.assertGreaterEqual(taken, size // 2)
        found = guest.qtest.read(FREE[0], size)
        self.assertEqual(found.count(0), taken)
        self.assertEqual(found.count(0x5a), size - taken)
        self.assertEqual(guest.qtest.read(FREE[0] + size, size),
                         b'\x5a' * size)
        guest.wait_pass()
        beside.wait_beat()
        self.exact(process)

    def test_shared_ram_gives_and_takes(self):
        self.gives_and_has_again('memory-backend-memfd', ',share=on')

    def test_shared_anonymous_ram_gives_and_takes(self):
        self.gives_and_has_again('memory-backend-ram', ',share=on')

    def test_private_memfd_gives_and_takes(self):
        self.gives_and_has_again('memory-backend-memfd', ',share=off')

    def test_hugetlbfs_ram_is_refused(self):
        free = Path('/sys/kernel/mm/hugepages/hugepages-2048kB/'
                    'free_hugepages')
        if not free.exists() or int(free.read_text()) < 8:
            self.skipTest('this host has fewer than 8 free pages of '
                          'hugetlbfs')
        process = self.start(*SCHEDULER)
        beside = self.driven(process, 'beside')
        self.failed(process, 'a', [
            '-object', 'memory-backend-memfd,id=m,size=16M,hugetlb=on',
            '-machine', 'memory-backend=m'], 'use ordinary RAM')
        beside.wait_beat()
        self.exact(process)

    def test_a_kind_that_cannot_be_watched_fails_with_the_reason(self):
        """A file on a disk, whose faults userfaultfd does not report."""
        process = self.start(*SCHEDULER)
        beside = self.driven(process, 'beside')
        folder = TOP / 'build'
        args = ['-object', 'memory-backend-file,id=m,size=16M,share=on,'
                f'mem-path={folder}', '-machine', 'memory-backend=m']
        process.add('a', process.guest_args('a', *args))
        shown = process.wait_state('a', 'failed', 'running')
        if shown['state'] == 'running':
            self.skipTest(f'userfaultfd watches the file system of {folder}')
        self.assertIn('this kind of guest RAM', shown['message'])
        beside.wait_beat()
        self.exact(process)


class Locks(Shared):
    def locked(self, process):
        return int(status(process, 'VmLck')[0])

    def test_mem_lock_is_refused_where_memory_moves(self):
        done = subprocess.run(
            [QEMU, '-M', 'pc', '-m', '16M', '-display', 'none', *SCHEDULER,
             '-overcommit', 'mem-lock=on'], stdin=subprocess.DEVNULL,
            text=True, capture_output=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn('use mem-lock=on-fault', done.stderr)

    def test_locking_on_fault_goes_with_moves(self):
        process = self.start(*SCHEDULER, '-overcommit', 'mem-lock=on-fault')
        guest = self.driven(process, 'a')
        self.assertGreater(self.locked(process), 0)
        guest.qtest.fill(FREE[0], 4 * MIB, 0x5a)
        guest.inflate(FREE[0], 2 * MIB)
        guest.wait_ballooned(2 * MIB)
        guest.deflate(FREE[0], 2 * MIB)
        guest.wait_pass()
        self.exact(process)

    def test_a_guest_that_asks_for_it_locks_nothing(self):
        process = self.start(*SCHEDULER)
        beside = self.driven(process, 'beside')
        for guest, how in (('a', 'on'), ('b', 'on-fault')):
            self.failed(process, guest, ['-overcommit', f'mem-lock={how}'],
                        'whole process')
        self.assertEqual(self.locked(process), 0)
        beside.wait_beat()


class GeneratedCode(Shared):
    def buffer_mib(self, process, guest, accel):
        process.add(guest, process.guest_args(guest, accel=accel, code=SPIN))
        process.wait_state(guest, 'running')
        with process.guest_qmp(guest) as qmp:
            text = qmp.command('human-monitor-command',
                               **{'command-line': 'info jit'})
        size = re.search(r'gen code size\s+\d+/(\d+)', text)
        return round(int(size[1]) / MIB)

    def test_the_buffer_of_a_guest_is_modest_by_default(self):
        process = self.start()
        self.assertEqual(self.buffer_mib(process, 'a', 'tcg'), 128)

    def test_a_size_that_is_given_counts(self):
        process = self.start()
        self.assertEqual(self.buffer_mib(process, 'a', 'tcg,tb-size=32'), 32)
        self.assertEqual(self.buffer_mib(process, 'b', 'tcg,tb-size=256'),
                         256)


class Identity(Shared):
    """User, groups, root, working directory, umask, environment, limits."""

    def identity(self, process):
        proc = Path(f'/proc/{process.pid}')
        return [status(process, f) for f in (
            'Umask', 'Uid', 'Gid', 'Groups', 'NoNewPrivs', 'Seccomp',
            'VmLck')] + [os.readlink(proc / 'root'), os.readlink(proc / 'cwd'),
                         (proc / 'limits').read_text(),
                         (proc / 'comm').read_text(), os.getpgid(process.pid),
                         os.getsid(process.pid)]

    def test_no_guest_changes_it_whatever_its_options(self):
        process = self.start()
        beside = self.driven(process, 'beside')
        before = self.identity(process)
        for number, options in enumerate((
                ['-daemonize'], ['-run-with', 'user=nobody'],
                ['-run-with', 'chroot=/tmp'], ['-chroot', '/tmp'],
                ['-runas', 'nobody'], ['-sandbox', 'on'],
                ['-overcommit', 'mem-lock=on'], ['-name', 'x,process=y'],
                ['-run-with', 'async-teardown=on'])):
            with self.subTest(options):
                guest = f'g{number}'
                process.add(guest, process.guest_args(guest, *options))
                shown = process.wait_state(guest, 'failed', 'running')
                self.assertEqual(shown['state'], 'failed')
                self.assertTrue(shown['message'])
                self.assertEqual(self.identity(process), before)
        beside.wait_beat()

    def test_no_configuration_file_changes_it(self):
        """Groups that upstream does not act upon in a file have no effect
        here either; the others are refused."""
        process = self.start()
        beside = self.driven(process, 'beside')
        before = self.identity(process)
        for group, text in {
                'run-with': 'user = "nobody"\n  chroot = "/tmp"',
                'overcommit': 'mem-lock = "on"',
                'name': 'guest = "x"\n  process = "y"',
                'sandbox': 'enable = "on"', 'daemonize': '',
                'chardev "c"': 'backend = "stdio"'}.items():
            with self.subTest(group):
                guest = 'c-' + group.split()[0]
                config = process.path / guest
                config.write_text(f'[{group}]\n  {text}\n')
                process.add(guest, process.guest_args(
                    guest, '-readconfig', str(config)))
                shown = process.wait_state(guest, 'failed', 'running')
                if group not in ('run-with', 'overcommit'):
                    self.assertEqual(shown['state'], 'failed')
                self.assertEqual(self.identity(process), before)
        beside.wait_beat()


class Symbols(Shared):
    def test_gdb_names_the_functions_of_each_copy(self):
        if not shutil.which('gdb'):
            self.skipTest('there is no gdb')
        process = self.start()
        guests = [self.driven(process, name) for name in 'ab']
        done = subprocess.run(
            ['gdb', '-batch', '-nx', '-iex', 'set auto-solib-add off', '-ex',
             f'source {TOP}/scripts/gdb-instances.py', '-p',
             str(process.pid), '-ex', 'instances', '-ex',
             'thread apply all backtrace 12'], stdin=subprocess.DEVNULL,
            text=True, capture_output=True, timeout=120, check=False)
        if 'ptrace: Operation not permitted' in done.stderr:
            self.skipTest('this host lets gdb attach to nothing')
        # Generated code has no frames: vCPUs are not looked at.
        threads = re.split(r'\nThread \d+ ', done.stdout)
        self.assertEqual(sum('main_loop_wait' in t for t in threads), 3)
        for guest in guests:
            guest.wait_beat()


if __name__ == '__main__':
    tap.main()
