# SPDX-License-Identifier: GPL-2.0-or-later
"""Real guests for tests, benches and the demo.

`Process` is one emulator process with a scheduler and guests as threads of
it; `StockProcess` is one plain upstream process with upstream's balloon.  Both
have `guests`, each with a QMP connection and a `Control`, the serial line to
the guest's first process (tests/functional/guest/control.c).  Every wait has a
limit.  A process ends, whatever happens, when its `with` block does."""

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / 'scripts'))
from qmp.client import Qmp, QmpClosed, QmpTimeout  # noqa: E402

MIB = 1 << 20
PAGE = 4096
HUGE = 2 * MIB
LAUNCHER = TOP / 'build/qemu-system-x86_64'
PLAIN = TOP / 'build/qemu/qemu-system-x86_64'
CTL = TOP / 'build/memsched/tools/memschedctl'
IMAGE = TOP / 'build/guest'

# Two TCG guests on two busy cores: ten times what it takes on idle ones.
BOOT_S = 120
ANSWER_S = 60

# A guest that panics starts anew; one that is told to power off ends.  Whether
# its timer interrupts, a guest's kernel would find out by waiting for 40 ms; on
# a host with much else to do none may come in that time, and it panics.
APPEND = 'console=ttyS0 quiet panic=1 oops=panic random.trust_cpu=on ' \
    'no_timer_check'


class GuestError(Exception):
    """The guest said no, or said nothing in time."""


def ensure_image():
    """Build the guest image where it is missing or old."""
    if subprocess.call([str(TOP / 'scripts/build-guest-image')]):
        raise GuestError('the guest image cannot be built')


def wait_for(what, condition, limit=ANSWER_S, step=0.02):
    """The first true value of condition().  The limit is generous: only a
    broken program meets it."""
    deadline = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise GuestError(f'{what}: not within {limit:g} s')
        time.sleep(step)


def wait_migrated(guest, limit=120):
    """All of it has been sent; GuestError where that fails."""
    def done():
        state = guest.qmp.command('query-migrate').get('status')
        if state in ('failed', 'cancelled'):
            raise GuestError(f'migration {state}')
        return state == 'completed'
    wait_for('the migration', done, limit)


class Control:
    """Requests to a guest over its second serial port."""

    def __init__(self, path):
        self.path = path
        self.numbers = itertools.count(1)
        self.rest = b''
        self.socket = None

    def connect(self, limit=BOOT_S):
        def attempt():
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.connect(str(self.path))
            except (FileNotFoundError, ConnectionRefusedError):
                sock.close()
                return None
            return sock
        self.close()
        self.socket = wait_for(f'{self.path}', attempt, limit)

    def _line(self, deadline):
        while b'\n' not in self.rest:
            left = deadline - time.monotonic()
            if left <= 0:
                raise GuestError('no answer from the guest in time')
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                continue
            if not data:
                raise GuestError('the guest\'s serial line was closed')
            self.rest += data
        line, _, self.rest = self.rest.partition(b'\n')
        return line.decode(errors='replace').rstrip('\r')

    def wait_ready(self, limit=BOOT_S):
        """Returns when control has started, as it does once a boot."""
        deadline = time.monotonic() + limit
        while self._line(deadline) != '0 ok ready':
            pass

    def wait_answer(self, limit=BOOT_S):
        """Returns when control answers.  It may have started before anybody
        listened: a line without a listener is lost."""
        deadline = time.monotonic() + limit
        while True:
            left = deadline - time.monotonic()
            try:
                self.ask('ping', min(max(left, 0.01), 1))
                return
            except GuestError:
                if left <= 0:
                    raise

    def ask(self, request, limit=ANSWER_S):
        number = str(next(self.numbers))
        deadline = time.monotonic() + limit
        self.socket.settimeout(limit)
        try:
            self.socket.sendall(f'{number} {request}\n'.encode())
        except TimeoutError:
            raise GuestError(f'{request}: the guest does not read its serial '
                             'line') from None
        while True:
            got = self._line(deadline).split(' ', 2)
            if len(got) >= 2 and got[0] == number:
                break
        text = got[2] if len(got) > 2 else ''
        if got[1] != 'ok':
            raise GuestError(f'{request}: {text}')
        return text

    def send(self, request):
        """For what has no answer: the guest ends by it."""
        number = str(next(self.numbers))
        self.socket.sendall(f'{number} {request}\n'.encode())

    def close(self):
        if self.socket:
            self.socket.close()
            self.socket = None
        self.rest = b''


class Guest:
    """
    One guest: its monitor, its serial line, its programs.

    It does not report free pages unless its @balloon says so: what a test
    makes it hold and not need would leave by itself.
    """

    def __init__(self, name, folder, memory_mib=512, smp=1,
                 balloon='balloon-ex,free-page-reporting=off', extra=(),
                 boot=True, initramfs='initramfs', append=''):
        self.name = name
        self.folder = Path(folder)
        self.memory = memory_mib * MIB
        self.smp = smp
        self.balloon = balloon
        self.extra = list(extra)
        self.boot = boot
        self.initramfs = initramfs
        self.append = f'{APPEND} {append}'.rstrip()
        self.console = self.folder / f'{name}.console'
        self.qmp_path = self.folder / f'{name}.qmp'
        self.control = Control(self.folder / f'{name}.ctl')
        self.qmp = None

    def arguments(self):
        argv = ['-M', 'q35', '-accel', 'tcg', '-m', str(self.memory // MIB),
                '-smp', str(self.smp), '-nodefaults', '-display', 'none',
                '-serial', f'file:{self.console}',
                '-serial', f'unix:{self.control.path},server=on,wait=off',
                '-qmp', f'unix:{self.qmp_path},server=on,wait=off']
        if self.boot:
            argv += ['-kernel', str(IMAGE / 'vmlinuz'),
                     '-initrd', str(IMAGE / self.initramfs),
                     '-append', self.append]
        if self.balloon:
            argv += ['-device', f'{self.balloon},id=balloon0']
        return argv + self.extra

    def connect(self):
        self.qmp = Qmp(self.qmp_path, timeout=ANSWER_S)
        self.control.connect()

    def wait_ready(self, limit=BOOT_S):
        """After a reboot."""
        self._wait(self.control.wait_ready, limit)

    def wait_answer(self, limit=BOOT_S):
        """After the start."""
        self._wait(self.control.wait_answer, limit)

    def _wait(self, wait, limit):
        try:
            wait(limit)
        except GuestError as error:
            raise GuestError(f'{self.name} did not boot: {error}; its console '
                             f'ends with: {self.console_end()}') from None

    def console_end(self, size=400):
        try:
            return self.console.read_text(errors='replace')[-size:]
        except OSError:
            return ''

    def sh(self, command, limit=ANSWER_S):
        text = self.control.ask(f'sh {command}', limit)
        return text.replace('\\n', '\n').replace('\\\\', '\\')

    # Programs

    def run(self, name, program, *arguments):
        words = ' '.join(str(a) for a in arguments)
        self.control.ask(f'run {name} {program} {words}')

    def end(self, name):
        self.control.ask(f'end {name}')

    def status(self, name, limit=ANSWER_S):
        text = self.control.ask(f'status {name}', limit)
        return {key: int(value) for key, value in
                (word.split('=') for word in text.split())}

    def wait_filled(self, name, limit=120):
        def filled():
            status = self.status(name)
            if not status['alive']:
                raise GuestError(f'{self.name}: {name} ended, wait status '
                                 f'{status["wait"]}')
            return status['pages'] and status['filled'] == status['pages']
        wait_for(f'{self.name}: {name} fills its memory', filled, limit, 0.1)

    def memtest(self, mib, seed, rest_us=2000, name='memtest'):
        """Starts a program that keeps @mib under test."""
        self.run(name, 'memtest', mib, seed, rest_us)
        self.wait_filled(name)

    def touch_and_free(self, mib):
        """Makes the host back @mib that the guest then no longer needs."""
        self.run('eater', 'eat', mib)
        self.wait_filled('eater')
        self.end('eater')

    def heartbeat(self, name='memtest', limit=ANSWER_S):
        """Fails unless the program goes on, without a wrong page."""
        before = self.check_status(name)['ops']
        wait_for(f'{self.name}: {name} goes on',
                 lambda: self.check_status(name)['ops'] > before, limit)

    def check_status(self, name='memtest'):
        status = self.status(name)
        if not status['alive']:
            raise GuestError(f'{self.name}: {name} has ended, wait status '
                             f'{status["wait"]}')
        if status['errors']:
            raise GuestError(
                f'{self.name}: {status["errors"]} wrong pages, the first is '
                f'page {status["bad_page"]}, word {status["bad_word"]}: '
                f'{status["found"]:#x} instead of {status["wanted"]:#x}')
        return status

    def sweep(self, name='memtest', limit=120):
        """All pages compared and summed; returns the sum."""
        number = int(self.control.ask(f'sweep {name}'))
        wait_for(f'{self.name}: sweep of {name}',
                 lambda: self.status(name)['swept'] >= number, limit, 0.05)
        status = self.check_status(name)
        if status['sum'] != status['expected']:
            raise GuestError(f'{self.name}: sum {status["sum"]:#x} instead of '
                             f'{status["expected"]:#x}')
        return status['sum']

    # The machine

    def reboot_begin(self):
        self.control.send('sh reboot -f')

    def crash_begin(self):
        self.control.send('sh echo c > /proc/sysrq-trigger')

    def close(self):
        self.control.close()
        if self.qmp:
            self.qmp.close()
            self.qmp = None


class Emulator:
    """What the two kinds of process have in common."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix='memsched-'))
        self.processes = []
        self.keep = bool(os.environ.get('KEEP'))

    def spawn(self, argv, log):
        with open(self.folder / log, 'ab') as out:
            process = subprocess.Popen(
                [str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, cwd=TOP)
        self.processes.append(process)
        return process

    def log(self, name, size=2000):
        try:
            return (self.folder / name).read_text(errors='replace')[-size:]
        except OSError:
            return ''

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
        if self.keep:
            print(f'# kept {self.folder}', flush=True)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class Process(Emulator):
    """One process, one scheduler, several guests."""

    LOG = 'process.log'

    def __init__(self, pool_mib, scheduler='policy=static', extra=(),
                 instance0=('-M', 'none')):
        super().__init__()
        self.guests = {}
        self.pool = pool_mib * MIB
        qmp = self.folder / 'host.qmp'
        # A monitor serves one client: these are for memschedctl's.
        self.watch_path = self.folder / 'watch.qmp'
        self.top_path = self.folder / 'top.qmp'
        argv = [LAUNCHER, *instance0, '-nodefaults', '-display', 'none',
                '-qmp', f'unix:{qmp},server=on,wait=off',
                '-qmp', f'unix:{self.watch_path},server=on,wait=off',
                '-qmp', f'unix:{self.top_path},server=on,wait=off',
                '-object', f'memsched,id=sched,pool={pool_mib}M,{scheduler}',
                *extra]
        self.process = self.spawn(argv, self.LOG)
        try:
            self.qmp = self._connect(qmp)
        except BaseException:
            self.close()
            raise

    def _connect(self, path):
        """Gives up at once where the process has ended."""
        def ended_or_there():
            return self.process.poll() is not None or path.exists()
        wait_for('the process', ended_or_there)
        if self.process.poll() is not None:
            raise GuestError(f'the process ended with status '
                             f'{self.process.returncode}: '
                             f'{self.log(self.LOG)}')
        return Qmp(path, timeout=ANSWER_S)

    def guest(self, name, memory_mib=512, minimum_mib=64, maximum_mib=None,
              ready=True, **options):
        """Adds a guest, and waits until it has booted."""
        guest = Guest(name, self.folder, memory_mib, **options)
        self.start(guest, minimum_mib, maximum_mib)
        if ready:
            self.wait_up(guest)
        return guest

    def start(self, guest, minimum_mib=64, maximum_mib=None):
        limits = {'min': minimum_mib * MIB}
        if maximum_mib:
            limits['max'] = maximum_mib * MIB
        self.qmp.command('object-add', qom_type='guest', id=guest.name,
                         args=guest.arguments(), **limits)
        self.guests[guest.name] = guest

    def wait_up(self, guest):
        """Connected, and its first process answers."""
        def loaded():
            info = self.known(guest.name)
            if info and info['state'] in ('failed', 'stopped'):
                raise GuestError(f'{guest.name} is {info["state"]}: '
                                 f'{info.get("message", "")}')
            return guest.qmp_path.exists()
        wait_for(f'{guest.name} is loaded', loaded)
        guest.connect()
        if guest.boot:
            guest.wait_answer()

    def remove(self, guest, limit=ANSWER_S):
        self.qmp.command('object-del', id=guest.name)
        guest.close()
        del self.guests[guest.name]

    # What the scheduler says

    def known(self, name):
        """What is known of a guest, None if nothing."""
        for guest in self.qmp.command('query-memsched-guests'):
            if guest['id'] == name:
                return guest
        return None

    def info(self, name):
        info = self.known(name)
        if not info:
            raise GuestError(f'no guest {name}')
        return info

    def memory(self, name):
        return self.info(name)['memory']

    def scheduler(self):
        return self.qmp.command('query-memsched')

    def check(self):
        """The books are exact.  Pages under way are no difference, but
        nothing may be under way for ever."""
        last = {}

        def exact():
            last.update(self.qmp.command('memsched-check'))
            return last['exact']
        try:
            wait_for('exact books', exact, limit=10, step=0.2)
        except GuestError:
            raise GuestError(f'the books are not exact: '
                             f'{last.get("message")}') from None

    def reallocate(self, giver, taker, mib, **options):
        """Starts a transfer; returns its number."""
        return self.qmp.command('memsched-reallocate',
                                **{'from': giver.name, 'to': taker.name},
                                size=mib * MIB, **options)['id']

    def transfer(self, number):
        for transfer in self.qmp.command('query-memsched-transfers'):
            if transfer['id'] == number:
                return transfer
        raise GuestError(f'no transfer {number}')

    def wait_captured(self, number, mib=1, limit=60):
        """In the middle of a transfer: something moved, or it has ended."""
        return wait_for(
            f'transfer {number} begins',
            lambda: (t := self.transfer(number))['captured'] >= mib * MIB and
            t or t['state'] != 'running' and t, limit, 0.002)

    def wait_end(self, number, limit=60):
        """The transfer's end, from the event."""
        event = self.qmp.wait_event('MEMSCHED_TRANSFER_COMPLETED',
                                    lambda data: data['id'] == number, limit)
        return event['data']

    def move(self, giver, taker, mib, limit=60, **options):
        """A transfer from its start to its end."""
        return self.wait_end(self.reallocate(giver, taker, mib, **options),
                             limit)

    def frames(self, guest):
        """{host frame: guest physical address} of every present page."""
        found = {}
        # The first page of each 2 MiB tells whether the host page is that
        # large; then the others follow it.
        starts = range(0, guest.memory, HUGE)
        for start, first in zip(starts, self._translate(guest, starts)):
            pages = range(start, start + HUGE, PAGE)
            if first.get('huge') and 'pfn' in first:
                found.update(zip(range(first['pfn'], first['pfn'] + 512),
                                 pages))
                continue
            # Mostly absent as a whole: a look at each 16th page tells.
            if any('pfn' in answer for answer in
                   self._translate(guest, pages[::16])):
                found.update(
                    (answer['pfn'], gpa) for gpa, answer in
                    zip(pages, self._translate(guest, pages))
                    if 'pfn' in answer)
        return found

    def _translate(self, guest, addresses):
        """Many under way at a time: what the sockets hold without waiting."""
        answers = []
        for at in range(0, len(addresses), 64):
            batch = addresses[at:at + 64]
            for gpa in batch:
                self.qmp.send({'execute': 'memsched-translate', 'arguments': {
                    'id': guest.name, 'gpa': gpa}})
            answers += [self._answer() for _ in batch]
        return answers

    def _answer(self):
        while True:
            answer = self.qmp.receive()
            if 'event' in answer:
                self.qmp.events.append(answer)
            else:
                # An address without RAM, below 1 MiB, is an error.
                return answer.get('return', {})

    def alive(self):
        if self.process.poll() is not None:
            raise GuestError(f'the process has ended with status '
                             f'{self.process.returncode}: '
                             f'{self.log(self.LOG)}')

    def close(self):
        for guest in self.guests.values():
            guest.close()
        super().close()


class StockProcess(Emulator):
    """Upstream's plain executable with upstream's balloon: a baseline."""

    def __init__(self, name='stock', memory_mib=512, executable=PLAIN,
                 balloon='virtio-balloon-pci', ready=True, connect=True,
                 **options):
        super().__init__()
        guest = Guest(name, self.folder, memory_mib, balloon=balloon,
                      **options)
        self.one = guest
        self.guests = {name: guest}
        self.process = self.spawn([executable, *guest.arguments()],
                                  'process.log')
        try:
            wait_for('the process', lambda: guest.qmp_path.exists() or
                     self.process.poll() is not None)
            if self.process.poll() is not None:
                raise GuestError(self.log('process.log'))
            if connect:
                guest.connect()
            if connect and ready and guest.boot:
                guest.wait_answer()
        except BaseException:
            self.close()
            raise

    def close(self):
        self.one.close()
        super().close()


__all__ = ['ANSWER_S', 'BOOT_S', 'CTL', 'Control', 'Guest', 'GuestError', 'LAUNCHER',
           'MIB', 'PLAIN', 'Process', 'QmpClosed', 'QmpTimeout',
           'StockProcess', 'TOP', 'ensure_image', 'json', 'wait_for']
