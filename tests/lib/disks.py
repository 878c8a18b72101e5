# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks without a guest CPU: drivers of a pc machine, over QEMU's qtest
protocol, that read and write sectors by DMA.

Each has read(address, sector, count) and write() of the same; what they need
of guest memory lies between 1 and 2 MiB.  Every wait has a limit."""

import struct
import time

from .qtest import BalloonDriver, PAGE, QUEUE_PFN, QUEUE_SELECT, \
    QUEUE_SIZE, RING_BYTES, RINGS, STATUS, GUEST_FEATURES, Queue

SECTOR = 512
TABLE = 0x180000
WAIT_S = 60


class PciDevice:
    def __init__(self, qtest, slot, function=0):
        self.qtest = qtest
        self.at = 1 << 31 | slot << 11 | function << 8

    def config(self, register, value):
        self.qtest.port_out('l', 0xcf8, self.at | register)
        self.qtest.port_out('l', 0xcfc, value)


class VirtioDriver(BalloonDriver):
    """A legacy virtio-pci device with these queues."""

    def __init__(self, qtest, device, queues):
        super().__init__(qtest, device)
        self.out('b', STATUS, 0)
        self.out('b', STATUS, 3)
        self.out('l', GUEST_FEATURES, 0)
        for index in queues:
            base = RINGS + index * RING_BYTES
            qtest.fill(base, RING_BYTES, 0)
            self.out('w', QUEUE_SELECT, index)
            self.queues[index] = Queue(base, self.get('w', QUEUE_SIZE))
            self.out('l', QUEUE_PFN, base // PAGE)
        self.out('b', STATUS, 7)

    def request(self, index, buffers):
        """(address, size, device writes it) each; returns once used."""
        queue = self.queues[index]
        table = b''
        for n, (address, size, writable) in enumerate(buffers):
            more = n + 1 < len(buffers)
            table += struct.pack('<QIHH', address, size, (1 if more else 0) |
                                 (2 if writable else 0), n + 1)
        self.qtest.write(queue.desc, table)
        slot = queue.avail + 4 + 2 * (queue.sent % queue.entries)
        self.qtest.write(slot, struct.pack('<H', 0))
        queue.sent = (queue.sent + 1) & 0xffff
        self.qtest.write(queue.avail + 2, struct.pack('<H', queue.sent))
        self.out('w', 16, index)
        self.wait_used(queue, WAIT_S)


class VirtioBlk(VirtioDriver):
    DEVICE = 'virtio-blk-pci,drive=disk,addr=04.0,disable-modern=on,' \
             'disable-legacy=off'

    def __init__(self, qtest):
        super().__init__(qtest, 4, [0])

    def transfer(self, kind, address, sector, count):
        self.qtest.write(TABLE, struct.pack('<IIQ', kind, 0, sector))
        self.qtest.write(TABLE + 64, b'\xff')
        self.request(0, [(TABLE, 16, False),
                         (address, count * SECTOR, kind == 0),
                         (TABLE + 64, 1, True)])
        return self.qtest.read(TABLE + 64, 1) == b'\0'

    def read(self, address, sector, count):
        return self.transfer(0, address, sector, count)

    def write(self, address, sector, count):
        return self.transfer(1, address, sector, count)


class VirtioScsi(VirtioDriver):
    DEVICE = 'virtio-scsi-pci,id=scsi,addr=04.0,disable-modern=on,' \
             'disable-legacy=off', 'scsi-hd,bus=scsi.0,drive=disk'

    def __init__(self, qtest):
        super().__init__(qtest, 4, [2])
        # The first command is told that there was a reset.
        self.command(bytes(16), [])

    def command(self, cdb, data):
        lun = bytes([1, 0, 0x40, 0]) + bytes(4)
        self.qtest.write(TABLE, lun + bytes(11) + cdb.ljust(32, b'\0'))
        into = [buffer for buffer in data if buffer[2]]
        out = [buffer for buffer in data if not buffer[2]]
        self.request(2, [(TABLE, 51, False), *out, (TABLE + 64, 108, True),
                         *into])
        answer = self.qtest.read(TABLE + 64, 12)
        return answer[10] == 0 and answer[11] == 0

    def read(self, address, sector, count):
        return self.command(struct.pack('>BBQIBB', 0x88, 0, sector, count, 0,
                                        0), [(address, count * SECTOR, True)])

    def write(self, address, sector, count):
        return self.command(struct.pack('>BBQIBB', 0x8a, 0, sector, count, 0,
                                        0), [(address, count * SECTOR, False)])


class Ide:
    """Primary master of the piix3, by bus master DMA."""
    DEVICE = 'ide-hd,bus=ide.0,drive=disk'
    BASE = 0xc100

    def __init__(self, qtest):
        self.qtest = qtest
        pci = PciDevice(qtest, 1, 1)
        pci.config(0x20, self.BASE)
        pci.config(0x04, 0x5)

    def transfer(self, command, address, sector, count):
        q = self.qtest
        q.write(TABLE, struct.pack('<IHH', address, count * SECTOR & 0xffff,
                                   0x8000))
        q.port_out('b', self.BASE, 0)
        q.port_out('b', self.BASE + 2, 6)
        q.port_out('l', self.BASE + 4, TABLE)
        q.port_out('b', 0x1f2, count & 0xff)
        for n in range(3):
            q.port_out('b', 0x1f3 + n, sector >> 8 * n & 0xff)
        q.port_out('b', 0x1f6, 0xe0 | sector >> 24)
        q.port_out('b', 0x1f7, command)
        q.port_out('b', self.BASE, 1 | (8 if command == 0xc8 else 0))
        deadline = time.monotonic() + WAIT_S
        while q.port_in('b', self.BASE + 2) & 1:
            if time.monotonic() > deadline:
                raise TimeoutError('no end of the transfer')
            time.sleep(0.001)
        good = q.port_in('b', self.BASE + 2) & 2 == 0 and \
            q.port_in('b', 0x1f7) & 1 == 0
        q.port_out('b', self.BASE, 0)
        return good

    def read(self, address, sector, count):
        return self.transfer(0xc8, address, sector, count)

    def write(self, address, sector, count):
        return self.transfer(0xca, address, sector, count)


class Ahci:
    """Port 0 of an ich9-ahci."""
    DEVICE = 'ich9-ahci,id=ahci,addr=04.0', 'ide-hd,bus=ahci.0,drive=disk'
    BASE = 0xe0000000
    PORT = BASE + 0x100
    COMMAND = TABLE + 0x1000

    def __init__(self, qtest):
        self.qtest = qtest
        pci = PciDevice(qtest, 4)
        pci.config(0x24, self.BASE)
        pci.config(0x04, 0x6)
        self.out(self.BASE + 4, 1 << 31)
        self.out(self.PORT, TABLE)
        self.out(self.PORT + 4, 0)
        self.out(self.PORT + 8, TABLE + 0x800)
        self.out(self.PORT + 0xc, 0)
        self.out(self.PORT + 0x18, 1 << 4)
        self.out(self.PORT + 0x18, 1 << 4 | 1)

    def out(self, address, value):
        self.qtest.write(address, struct.pack('<I', value))

    def get(self, address):
        return struct.unpack('<I', self.qtest.read(address, 4))[0]

    def transfer(self, command, address, sector, count):
        fis = bytes([0x27, 0x80, command, 0]) + \
            sector.to_bytes(8, 'little')[:3] + bytes([0x40]) + \
            sector.to_bytes(8, 'little')[3:6] + bytes([0]) + \
            struct.pack('<HBB', count, 0, 0) + bytes(4)
        self.qtest.write(self.COMMAND, fis.ljust(0x80, b'\0') +
                         struct.pack('<QII', address, 0, count * SECTOR - 1))
        self.qtest.write(TABLE, struct.pack(
            '<HHIQ', 5 | (0x40 if command == 0x35 else 0), 1, 0,
            self.COMMAND))
        self.out(self.PORT + 0x10, 0xffffffff)
        self.out(self.PORT + 0x38, 1)
        deadline = time.monotonic() + WAIT_S
        while self.get(self.PORT + 0x38) & 1:
            if time.monotonic() > deadline:
                raise TimeoutError('no end of the transfer')
            time.sleep(0.001)
        return self.get(self.PORT + 0x20) & 1 == 0

    def read(self, address, sector, count):
        return self.transfer(0x25, address, sector, count)

    def write(self, address, sector, count):
        return self.transfer(0x35, address, sector, count)
