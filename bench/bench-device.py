#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What inflating and deflating cost through the device, without a guest's CPU:
balloon-ex under the scheduler, and upstream's virtio-balloon-pci in upstream's
executable, driven alike over qtest.

Requests are Linux's, 256 page numbers each, 128 of them a kick.  "inflate":
until each request is answered and, here, all pages are captured.  "deflate":
until each is answered, by when they are mapped again here; upstream maps
nothing, its pages come by touch.  Prints CSV lines as bench/bench.h says."""

import struct
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TOP), str(TOP / 'tests'), str(TOP / 'bench')]

from figures import medians, row, run, say, warm  # noqa: E402
from lib.machine import Process, QmpClosed, QmpError  # noqa: E402
from lib.qtest import (BUFFER, DEFLATE, INFLATE, PAGE,  # noqa: E402
                       QUEUE_NOTIFY, BalloonDriver, Qtest)

MIB = 1 << 20
GIB = 1 << 30
RAM_MIB = 640
FIRST = 64 * MIB
SIZE = 512 * MIB
PFNS = 256
BATCH = 128
ROUNDS = 5
WAIT_S = 60
ADDRESS = 'addr=04.0,disable-modern=on,disable-legacy=off'
PLAIN = TOP / 'build/qemu/qemu-system-x86_64'


def options(qtest_path, device):
    return ['-nodefaults', '-M', 'pc', '-accel', 'qtest', '-qtest',
            f'unix:{qtest_path}', '-qtest-log', '/dev/null', '-m',
            f'{RAM_MIB}M', '-display', 'none', '-device',
            f'{device},{ADDRESS}']


def send_all(driver, index):
    """SIZE bytes from FIRST on, as many requests at a time as fit."""
    queue, qtest = driver.queues[index], driver.qtest
    size = 4 * PFNS
    for first in range(FIRST, FIRST + SIZE, BATCH * PFNS * PAGE):
        pfn = first // PAGE
        qtest.write(BUFFER, struct.pack(f'<{BATCH * PFNS}I',
                                        *range(pfn, pfn + BATCH * PFNS)))
        qtest.write(queue.desc, b''.join(
            struct.pack('<QIHH', BUFFER + i * size, size, 0, 0)
            for i in range(BATCH)))
        slot = queue.sent % queue.entries
        qtest.write(queue.avail + 4 + 2 * slot,
                    struct.pack(f'<{BATCH}H', *range(BATCH)))
        queue.sent = (queue.sent + BATCH) & 0xffff
        qtest.write(queue.avail + 2, struct.pack('<H', queue.sent))
        driver.out('w', QUEUE_NOTIFY, index)
        wait_used(driver, queue)


def wait_used(driver, queue):
    """A look is answered between two turns of the device's main loop."""
    deadline = time.monotonic() + WAIT_S
    wanted = struct.pack('<H', queue.sent)
    while driver.qtest.read(queue.used + 2, 2) != wanted:
        if time.monotonic() > deadline:
            raise TimeoutError('the device has not returned the requests')


def one_round(driver, captured):
    """{what: seconds}"""
    driver.qtest.fill(FIRST, SIZE, 0xa5)
    figures, start = {}, time.monotonic()
    send_all(driver, INFLATE)
    captured()
    figures['inflate'] = time.monotonic() - start
    start = time.monotonic()
    send_all(driver, DEFLATE)
    figures['deflate'] = time.monotonic() - start
    return figures


def measure(process, qtest, captured):
    qtest.accept()
    driver = BalloonDriver(qtest)
    driver.start()
    # A batch neither wraps around in a ring nor overtakes itself.
    if driver.queues[INFLATE].entries % BATCH:
        raise ValueError(f'a queue of {driver.queues[INFLATE].entries}')
    rounds = [one_round(driver, captured) for _ in range(ROUNDS + 1)]
    return medians(rounds[1:])          # the first one fills caches


def ours(folder):
    qtest = Qtest(folder / 'ours.qtest')
    with Process('-object',
                 f'memsched,id=ms,pool={RAM_MIB + 256}M') as process:
        process.add('a', options(folder / 'ours.qtest', 'balloon-ex'))

        def captured():
            deadline = time.monotonic() + WAIT_S
            while process.guests()['a']['memory']['allocated'] > \
                    RAM_MIB * MIB - SIZE:
                if time.monotonic() > deadline:
                    raise TimeoutError('not all pages are captured')
        try:
            figures = measure(process, qtest, captured)
            if not process.qmp.command('memsched-check')['exact']:
                raise QmpError('memsched-check', {'desc': 'not exact'})
            return figures
        finally:
            qtest.close()


def stock(folder):
    qtest = Qtest(folder / 'stock.qtest')
    with Process(*options(folder / 'stock.qtest', 'virtio-balloon-pci'),
                 machine=(), program=PLAIN) as process:
        try:
            return measure(process, qtest, lambda: None)
        finally:
            qtest.close()


def bench_device():
    with tempfile.TemporaryDirectory(prefix='memsched-bench-') as name:
        warm(2 * RAM_MIB)
        mine = ours(Path(name))
        warm(2 * RAM_MIB)
        theirs = stock(Path(name))
    for what in mine:
        row(f'device-{what}', 'qtest', 'GiB/s', SIZE / GIB / mine[what],
            SIZE / GIB / theirs[what], less=False)


if __name__ == '__main__':
    say(f'{SIZE // MIB} MiB of a guest of {RAM_MIB} MiB, no CPU runs')
    sys.exit(run((bench_device,), QmpClosed, QmpError, TimeoutError,
                 ValueError))
