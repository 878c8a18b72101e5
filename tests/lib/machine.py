# SPDX-License-Identifier: GPL-2.0-or-later
"""One process of ours, its monitors, and tiny guests for it.

A guest here is a boot sector that this file assembles by hand; every wait has
a limit."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / 'scripts'))

from qmp.client import Qmp, QmpClosed, QmpError  # noqa: E402

QEMU = TOP / 'build/qemu-system-x86_64'

# cli; hlt; jmp to the hlt
HALT = b'\xfa\xf4\xeb\xfd'
# jmp to itself
SPIN = b'\xeb\xfe'


def boot_sector(code):
    return code.ljust(510, b'\0') + b'\x55\xaa'


def isa_debug_exit(value):
    """Writes to the port of -device isa-debug-exit: the vCPU thread calls
    exit() with twice the value plus one."""
    # mov al, value; mov dx, 0x501; out dx, al; cli; hlt
    return b'\xb0' + bytes([value]) + b'\xba\x01\x05\xee\xfa\xf4\xeb\xfd'


class Process:
    """qemu-system-x86_64 with -M none and a monitor; guests by methods."""

    def __init__(self, *options, machine=('-M', 'none'), env=None,
                 program=QEMU):
        self.folder = tempfile.TemporaryDirectory(prefix='memsched-')
        self.path = Path(self.folder.name)
        self.log = open(self.path / 'log', 'w+', encoding='utf-8')
        self.process = subprocess.Popen(
            [program, *machine, '-display', 'none', '-monitor', 'none',
             '-serial', 'none', '-qmp', f'unix:{self.path}/qmp,server=on,'
             'wait=off', *options], stdin=subprocess.DEVNULL,
            stdout=self.log, stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})})
        try:
            self.qmp = Qmp(self.path / 'qmp', timeout=30)
        except Exception:
            self.kill()
            print(self.output(), file=sys.stderr)
            raise

    @property
    def pid(self):
        return self.process.pid

    def image(self, code, name='boot'):
        """A disk whose boot sector is @code."""
        path = self.path / f'{name}.img'
        path.write_bytes(boot_sector(code).ljust(1 << 20, b'\0'))
        return path

    def guest_args(self, guest, *extra, code=HALT, memory='16M',
                   machine='pc', accel='tcg'):
        """A command line of a small guest with a monitor of its own."""
        return ['-nodefaults', '-M', machine, '-accel', accel, '-m', memory,
                '-display', 'none', '-drive',
                f'file={self.image(code, guest)},format=raw,if=ide,'
                'snapshot=off',
                '-qmp', f'unix:{self.path}/{guest}.qmp,server=on,wait=off',
                *extra]

    def add(self, guest, args, **properties):
        self.qmp.command('object-add', qom_type='guest', id=guest, args=args,
                         **properties)

    def remove(self, guest):
        self.qmp.command('object-del', id=guest)

    def guest_qmp(self, guest, timeout=30):
        return Qmp(self.path / f'{guest}.qmp', timeout=timeout)

    def guests(self):
        """{id: state and all else that is shown}"""
        try:
            shown = self.qmp.command('query-memsched-guests')
        except QmpError as error:
            # Neither a guest nor a scheduler.
            if 'No memory scheduler' not in str(error):
                raise
            shown = []
        return {g['id']: g for g in shown}

    def wait_state(self, guest, *states, timeout=30):
        """The guest as shown once it is in one of @states; None is gone."""
        deadline = time.monotonic() + timeout
        while True:
            shown = self.guests().get(guest)
            if (shown['state'] if shown else None) in states:
                return shown
            if time.monotonic() > deadline:
                raise TimeoutError(f'{guest} is {shown}, not {states}, after '
                                   f'{timeout} s\n{self.output()}')
            time.sleep(0.02)

    def wait_until(self, condition, what, timeout=30):
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f'not within {timeout} s: {what}')
            time.sleep(0.02)

    def output(self):
        self.log.flush()
        return (self.path / 'log').read_text(errors='replace')

    def figures(self):
        """Threads, descriptors, mappings, and memory of the process that no
        file shares."""
        proc = Path(f'/proc/{self.pid}')
        status = dict(line.split(':', 1) for line in
                      (proc / 'status').read_text().splitlines())
        return {'threads': int(status['Threads']),
                'fds': len(list((proc / 'fd').iterdir())),
                'maps': len((proc / 'maps').read_text().splitlines()),
                'anon_kib': int(status['RssAnon'].split()[0])}

    def threads(self):
        return sorted(path.read_text().strip() for path in
                      Path(f'/proc/{self.pid}/task').glob('*/comm'))

    def wait_exit(self, timeout=60):
        return self.process.wait(timeout=timeout)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def close(self):
        """Ends the process at once."""
        if hasattr(self, 'qmp'):
            self.qmp.close()
        for signo in (signal.SIGTERM, signal.SIGTERM):
            if self.process.poll() is None:
                self.process.send_signal(signo)
                time.sleep(0.05)
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.kill()
        self.log.close()
        self.folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


__all__ = ['HALT', 'SPIN', 'QEMU', 'TOP', 'Process', 'Qmp', 'QmpClosed',
           'QmpError', 'boot_sector', 'isa_debug_exit', 'json']
