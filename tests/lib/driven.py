# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that start in no time: their CPU tests a part of their RAM for ever
(payload.S), their balloon driver is the test, over qtest."""

import functools
import subprocess
import tempfile
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
            self.qtest.accept()
            process.wait_state(name, 'running')
            self.qmp = process.guest_qmp(name)
        except BaseException:
            self.close()
            raise
        self.driver, self.given = BalloonDriver(self.qtest), []
        if not incoming:
            self.driver.start()

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

    def _tell(self):
        self.driver.set_actual(sum(size for _, size in self.given) // PAGE)

    def wait_ballooned(self, size):
        self.process.wait_until(
            lambda: self.memory()['ballooned']['kernel'] == size,
            f'{size // MIB} MiB of {self.name} are in its balloon')

    # The end

    def leave(self):
        """Its CPU calls exit()."""
        self.qtest.write(COMMAND, LEAVE.to_bytes(4, 'little'))

    def close(self):
        self.qtest.close()
        if self.qmp:
            self.qmp.close()


__all__ = ['BALLOON', 'FREE', 'MIB', 'RAM', 'TESTED', 'Driven', 'rom']
