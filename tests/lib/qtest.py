# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest without a CPU: its memory and its balloon driver, over QEMU's
qtest protocol.

The driver is the legacy one of virtio-pci, which needs six registers: enough
for everything that a balloon does.  Every wait has a limit."""

import select
import socket
import struct
import time

PAGE = 4096
INFLATE, DEFLATE, STATS, REPORTING = range(4)
MUST_TELL_HOST = 1 << 0
# what a legacy driver may take; 29 and 28 change the rings
FEATURES = 0x3f

IO_BASE = 0xc000
HOST_FEATURES, GUEST_FEATURES, QUEUE_PFN, QUEUE_SIZE = 0, 4, 8, 12
QUEUE_SELECT, QUEUE_NOTIFY, STATUS, CONFIG = 14, 16, 18, 20
# room of a ring of 1,024 entries, the most there may be
RINGS, RING_BYTES, BUFFER = 0x100000, 0x8000, 0x130000


class Qtest:
    """The socket of -qtest: we listen, QEMU connects."""

    def __init__(self, path, timeout=30):
        self.timeout = timeout
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(path))
        self.listener.listen(1)
        self.file = None

    def accept(self, timeout=None):
        self.listener.settimeout(timeout or self.timeout)
        connection, _ = self.listener.accept()
        connection.settimeout(self.timeout)
        self.connection, self.file = connection, connection.makefile('rwb')
        self.listener.close()

    def command(self, *words):
        self.send(*words)
        return self.receive(words[0])

    def send(self, *words):
        """Without waiting; receive() has the answer, once ready() says so."""
        self.file.write((' '.join(str(w) for w in words) + '\n').encode())
        self.file.flush()

    def ready(self):
        return bool(select.select([self.connection], [], [], 0)[0])

    def receive(self, what='command'):
        while True:
            line = self.file.readline().decode()
            if not line:
                raise EOFError('the guest has gone')
            if line.startswith('IRQ'):
                continue
            if not line.startswith('OK'):
                raise ValueError(f'{what}: {line}')
            return line.split()[1:]

    def fill(self, address, size, value):
        self.command('memset', hex(address), hex(size), hex(value))

    def read(self, address, size):
        return bytes.fromhex(self.command('read', hex(address),
                                          hex(size))[0][2:])

    def write(self, address, data):
        self.command('write', hex(address), hex(len(data)), '0x' + data.hex())

    def port_out(self, width, port, value):
        self.command(f'out{width}', hex(port), hex(value))

    def port_in(self, width, port):
        return int(self.command(f'in{width}', hex(port))[0], 16)

    def close(self):
        try:
            if self.file:
                self.file.close()
        except BrokenPipeError:
            pass                # what was not sent has nobody to go to
        self.listener.close()


class Queue:
    """A legacy ring: descriptors, available, used, one after the other."""

    def __init__(self, base, entries):
        self.entries = entries
        self.desc = base
        self.avail = base + 16 * entries
        end = self.avail + 6 + 2 * entries
        self.used = (end + PAGE - 1) & -PAGE
        self.sent = 0


class BalloonDriver:
    """Drives balloon-ex,addr=04.0,disable-modern=on of a pc machine; its
    rings lie from 1 MiB on."""

    def __init__(self, qtest, device=4):
        self.qtest = qtest
        self._pci_write(device, 0x10, IO_BASE)      # BAR 0
        self._pci_write(device, 0x04, 0x7)          # port I/O, memory, DMA
        self.queues = {}

    def _pci_write(self, device, register, value):
        self.qtest.port_out('l', 0xcf8, 1 << 31 | device << 11 | register)
        self.qtest.port_out('l', 0xcfc, value)

    def out(self, width, register, value):
        self.qtest.port_out(width, IO_BASE + register, value)

    def get(self, width, register):
        return self.qtest.port_in(width, IO_BASE + register)

    def start(self, without=0):
        """Reset, negotiate, make the queues, say that it is ready."""
        self.out('b', STATUS, 0)
        self.out('b', STATUS, 3)
        offered = self.get('l', HOST_FEATURES)
        self.features = offered & FEATURES & ~without
        self.out('l', GUEST_FEATURES, self.features)
        for index in range(4 if self.features & 1 << 5 else 3):
            base = RINGS + index * RING_BYTES
            self.qtest.fill(base, RING_BYTES, 0)
            self.out('w', QUEUE_SELECT, index)
            self.queues[index] = Queue(base, self.get('w', QUEUE_SIZE))
            self.out('l', QUEUE_PFN, base // PAGE)
        self.out('b', STATUS, 7)

    def reset(self):
        self.out('b', STATUS, 0)

    def target_pages(self):
        return self.get('l', CONFIG)

    def set_actual(self, pages):
        self.out('l', CONFIG + 4, pages)

    def send(self, index, buffers, writable=False, timeout=30, wait=True):
        """One element of (address, size) buffers; returns once used."""
        queue = self.queues[index]
        table = b''
        for n, (address, size) in enumerate(buffers):
            more = n + 1 < len(buffers)
            flags = (1 if more else 0) | (2 if writable else 0)
            table += struct.pack('<QIHH', address, size, flags, n + 1)
        self.qtest.write(queue.desc, table)
        slot = queue.avail + 4 + 2 * (queue.sent % queue.entries)
        self.qtest.write(slot, struct.pack('<H', 0))
        queue.sent = (queue.sent + 1) & 0xffff
        self.qtest.write(queue.avail + 2, struct.pack('<H', queue.sent))
        self.out('w', QUEUE_NOTIFY, index)
        if wait:
            self.wait_used(queue, timeout)

    def wait_used(self, queue, timeout=30):
        deadline = time.monotonic() + timeout
        while self.qtest.read(queue.used + 2, 2) != struct.pack('<H',
                                                                queue.sent):
            if time.monotonic() > deadline:
                raise TimeoutError('the device has not returned a buffer')
            time.sleep(0.001)

    def pages(self, index, first, count):
        """Page numbers as Linux sends them: 256 a request."""
        for start in range(first, first + count, 256):
            pfns = range(start, min(start + 256, first + count))
            self.qtest.write(BUFFER, struct.pack(f'<{len(pfns)}I', *pfns))
            self.send(index, [(BUFFER, 4 * len(pfns))])


class MmioBalloonDriver(BalloonDriver):
    """The same for balloon-ex-device on a legacy virtio-mmio transport."""

    FIRST, SIZE, TRANSPORTS = 0xfeb00000, 0x200, 24
    DEVICE_ID, PAGE_SIZE, QUEUE_NUM, QUEUE_ALIGN = 0x08, 0x28, 0x38, 0x3c
    REGISTERS = {HOST_FEATURES: 0x10, GUEST_FEATURES: 0x20, QUEUE_PFN: 0x40,
                 QUEUE_SIZE: 0x34, QUEUE_SELECT: 0x30, QUEUE_NOTIFY: 0x50,
                 STATUS: 0x70, CONFIG: 0x100, CONFIG + 4: 0x104}

    def __init__(self, qtest):
        self.qtest = qtest
        self.queues = {}
        bases = range(self.FIRST, self.FIRST + self.TRANSPORTS * self.SIZE,
                      self.SIZE)
        self.base = next(base for base in bases
                         if self._read(base + self.DEVICE_ID) == 5)

    def _read(self, address):
        return int(self.qtest.command('readl', hex(address))[0], 16)

    def _write(self, offset, value):
        self.qtest.command('writel', hex(self.base + offset), hex(value))

    def out(self, width, register, value):
        if register == QUEUE_PFN:
            self._write(self.QUEUE_NUM, self.get('l', QUEUE_SIZE))
            self._write(self.QUEUE_ALIGN, PAGE)
        if register == GUEST_FEATURES:
            self._write(self.PAGE_SIZE, PAGE)
        self._write(self.REGISTERS[register], value)

    def get(self, width, register):
        return self._read(self.base + self.REGISTERS[register])
