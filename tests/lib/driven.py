# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that start in no time: their CPU tests a part of their RAM for ever
(payload.S), their balloon driver is the test, over qtest."""

import functools
import os
import subprocess
import tempfile
import time
from pathlib import Path

from .qtest import DEFLATE, INFLATE, PAGE, BalloonDriver, Qtest

MIB = 1 << 20
SOURCE = Path(__file__).with_name('payload.S')
RAM = 48 * MIB
# The CPU's own; above the driver's rings, below what the driver gives.
TESTED = (4 * MIB, 20 * MIB)
# What a test fills and gives: whole frames up to the end of RAM.
FREE = (24 * MIB, 48 * MIB)
MAILBOX = 0x8000
COMMAND, BEATS, ERRORS, BAD, PASSES = (MAILBOX + 4 * n for n in range(5))
LEAVE = 1
FRAME = 2 * MIB
FILL = 0x5a
# As the kernel shows the number of a system call.
OPENAT = '257 '
BALLOON = 'balloon-ex,addr=04.0,disable-modern=on,disable-legacy=off'
DEBUG_EXIT = 'isa-debug-exit,iobase=0x501,iosize=2'


@functools.cache
def rom():
    """The bytes of the payload's ROM."""
    with tempfile.TemporaryDirectory(prefix='memsched-rom-') as folder:
        part, whole = Path(folder, 'rom.o'), Path(folder, 'rom')
        subprocess.run(['cc', '-m32', '-c', f'-DMAILBOX={MAILBOX}',
                        f'-DSTART={TESTED[0]}', f'-DEND={TESTED[1]}', SOURCE,
                        '-o', part], check=True)
        subprocess.run(['ld', '-m', 'elf_i386', '-Ttext=0', '-e', '0',
                        '--oformat', 'binary', '-o', whole, part], check=True)
        return whole.read_bytes()


class NotStarted(Exception):
    """The guest has failed before it ran; why."""


class Driven:
    """One guest of a lib.machine.Process.  Its RAM is looked at through the
    guest's own eyes; each method fails where the guest does not answer."""

    def __init__(self, process, name, *extra, incoming=False, memory=(),
                 **properties):
        self.process, self.name = process, name
        path = process.path / f'{name}.qtest'
        path.unlink(missing_ok=True)
        image = process.path / 'rom'
        if not image.exists():
            image.write_bytes(rom())
        self.qtest, self.qmp = Qtest(path), None
        try:
            process.add(name, [
                '-nodefaults', '-accel', 'tcg', '-display', 'none', '-bios',
                str(image), '-m', f'{RAM // MIB}M', '-qmp',
                f'unix:{process.path}/{name}.qmp,server=on,wait=off',
                '-qtest', f'unix:{path}', '-qtest-log', '/dev/null',
                '-device', BALLOON, '-device', DEBUG_EXIT,
                *(memory or ('-M', 'pc')), *extra], **properties)
            self._accept()
            process.wait_state(name, 'running')
            self.qmp = process.guest_qmp(name)
        except BaseException:
            self.close()
            raise
        self.driver, self.given = BalloonDriver(self.qtest), []
        if not incoming:
            self.driver.start()
            self.wait_beat()        # it has touched all that it tests

    def _accept(self):
        end = time.monotonic() + self.qtest.timeout
        while True:
            try:
                return self.qtest.accept(0.2)
            except TimeoutError:
                shown = self.process.guests().get(self.name, {})
                if shown.get('state') == 'failed':
                    raise NotStarted(shown['message']) from None
                if time.monotonic() > end:
                    raise

    def word(self, address):
        return int.from_bytes(self.qtest.read(address, 4), 'little')

    def wait_beat(self, timeout=30):
        """The CPU goes on, and has met no wrong page."""
        before = self.word(BEATS)
        self.process.wait_until(lambda: self.word(BEATS) != before,
                                f'the CPU of {self.name} goes on', timeout)
        self.assert_right()

    def wait_pass(self, timeout=60):
        """All that the CPU tests has been compared once more."""
        before = self.word(PASSES)
        self.process.wait_until(
            lambda: self.word(PASSES) - before & 0xffffffff > 1,
            f'the CPU of {self.name} has seen all of its RAM', timeout)
        self.assert_right()

    def assert_right(self):
        errors = self.word(ERRORS)
        if errors:
            raise AssertionError(
                f'{self.name}: {errors} wrong pages, the last at '
                f'{self.word(BAD):#x}, in pass {self.word(PASSES)}')

    def memory(self):
        return self.process.guests()[self.name]['memory']

    # The balloon

    def inflate(self, first, size):
        """Gives [first, first + size)."""
        self.driver.pages(INFLATE, first // PAGE, size // PAGE)
        self.given.append((first, size))
        self._tell()

    def deflate(self, first, size):
        self.driver.pages(DEFLATE, first // PAGE, size // PAGE)
        self.given.remove((first, size))
        self._tell()

    def answer(self, frames=None):
        """Does what the scheduler asks of its balloon, at most @frames of 2
        MiB of it, out of FREE; returns how many.  What is given was filled
        before, so that it is host memory that leaves."""
        done = 0
        while frames is None or done < frames:
            asked, held = self.driver.target_pages() * PAGE, self.held()
            if asked >= held + FRAME and (where := self._next_free()):
                self.qtest.fill(where, FRAME, FILL)
                self.inflate(where, FRAME)
            elif asked < held:
                self.deflate(*self.given[-1])
            else:
                break
            done += 1
        return done

    def _next_free(self):
        taken = {first for first, _ in self.given}
        return next((first for first in range(*FREE, FRAME)
                     if first not in taken), None)

    def held(self):
        return sum(size for _, size in self.given)

    def _tell(self):
        self.driver.set_actual(self.held() // PAGE)

    def wait_ballooned(self, size):
        self.process.wait_until(
            lambda: self.memory()['ballooned']['kernel'] == size,
            f'{size // MIB} MiB of {self.name} are in its balloon')

    # What befalls it

    def restarted(self):
        """After a reset of the machine: its driver starts anew."""
        self.given = []
        self.driver = BalloonDriver(self.qtest)
        self.driver.start()

    def wedge(self):
        """Its main loop sleeps with the BQL until unwedge(): it writes memory
        to a pipe that nobody reads."""
        self.pipe = self.process.path / f'{self.name}.pipe'
        self.pipe.unlink(missing_ok=True)
        os.mkfifo(self.pipe)
        self.qmp.send({'execute': 'pmemsave', 'arguments': {
            'val': 0, 'size': PAGE, 'filename': str(self.pipe)}})
        self.process.wait_until(self._is_wedged, f'{self.name} is wedged')

    def _is_wedged(self):
        """One of its threads is in open()."""
        tasks = Path(f'/proc/{self.process.pid}/task')
        for task in tasks.iterdir():
            try:
                if (task / 'comm').read_text().strip() == self.name and \
                        (task / 'syscall').read_text().startswith(OPENAT):
                    return True
            except OSError:
                continue            # it has just ended
        return False

    def unwedge(self):
        self.pipe.read_bytes()
        while 'return' not in self.qmp.receive():
            pass                    # an event

    def leave(self):
        """Its CPU calls exit()."""
        self.qtest.write(COMMAND, LEAVE.to_bytes(4, 'little'))

    def close(self):
        self.qtest.close()
        if self.qmp:
            self.qmp.close()


__all__ = ['BALLOON', 'COMMAND', 'ERRORS', 'FILL', 'FRAME', 'FREE', 'MIB', 'RAM',
           'TESTED', 'Driven', 'rom']
