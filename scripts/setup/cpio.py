# SPDX-License-Identifier: GPL-2.0-or-later
"""Archives that the kernel takes as an initramfs."""

import io
import stat


class Cpio:
    """An archive in the "newc" format of the kernel's
    Documentation/driver-api/early-userspace/buffer-format.rst.  Several, one
    behind the other, are one initramfs."""

    def __init__(self):
        self.out = io.BytesIO()
        self.inode = 0

    def add(self, name, mode, data=b'', device=(0, 0)):
        self.inode += 1
        raw = name.encode() + b'\0'
        fields = [self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device,
                  len(raw), 0]
        self.out.write(b'070701' + b''.join(b'%08X' % f for f in fields))
        self.out.write(raw)
        self._pad()
        self.out.write(data)
        self._pad()

    def _pad(self):
        self.out.write(bytes(-self.out.tell() % 4))

    def folder(self, name):
        self.add(name, stat.S_IFDIR | 0o755)

    def file(self, name, data, mode=0o644):
        self.add(name, stat.S_IFREG | mode, data)

    def link(self, name, target):
        self.add(name, stat.S_IFLNK | 0o777, target.encode())

    def bytes(self):
        self.add('TRAILER!!!', 0)
        return self.out.getvalue()
