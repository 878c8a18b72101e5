# SPDX-License-Identifier: GPL-2.0-or-later
"""Uncorrectable memory errors in real guests: which pages break, who meets
them, and a file system whose contents are compared all the time."""

import collections
import random

from .guests import MIB, PAGE, GuestError, wait_for
from qmp.client import QmpError

FRAME_PAGES = 512
# Bits of the guest's own /proc/kpageflags.
LRU, SLAB, BUDDY, MMAP, ANON, PGTABLE = 5, 7, 10, 11, 12, 26
# The golden file, and what compares copies of it for ever: written, read back
# from the disk, summed.
FILES = (
    'for m in crc32c_generic crc16 mbcache jbd2 ext4 virtio_blk; do '
    'f=/modules/$m.ko; [ ! -f $f ] || grep -q "^$m " /proc/modules || '
    'insmod $f; done; '
    'while [ ! -b /dev/vda ]; do sleep 0.1; done; '
    'mkdir -p /mnt && mke2fs -F /dev/vda > /dev/null && '
    'mount -t ext2 /dev/vda /mnt && '
    'dd if=/dev/urandom of=/mnt/golden bs=64k count=48 2> /dev/null && '
    'sync && sha256sum < /mnt/golden > /run/golden.sum')
LOOP = (
    'i=0; while :; do i=$((i+1)); f=/mnt/copy$((i%3)); cp /mnt/golden $f; '
    'sync; echo 1 > /proc/sys/vm/drop_caches; sha256sum < $f > /run/copy.sum; '
    'cmp -s /run/golden.sum /run/copy.sum || echo $i >> /run/files.bad; '
    'echo $i > /run/files.rounds; sleep 0.2; done')


class Errors:
    """Errors in one guest of a Process, whose scheduler allows them."""

    def __init__(self, process, guest, seed):
        self.process, self.guest = process, guest
        self.random = random.Random(seed)
        self.kinds = collections.Counter()
        self.events = {'MEMSCHED_PAGE_RECOVERED': 0, 'MEMSCHED_PAGE_LOST': 0}

    # Protection

    def protect(self, scheme, **settings):
        self.process.qmp.command('memsched-protect', id=self.guest.name,
                                 scheme=scheme, **settings)

    def state(self):
        for state in self.process.qmp.command('query-memsched-protection'):
            if state['id'] == self.guest.name:
                return state
        raise GuestError(f'{self.guest.name} is not in the report')

    def covered(self):
        """In percent of what the guest holds."""
        parts = self.state()['coverage']
        return 100 * parts['parity'] // max(1, sum(parts.values()))

    def wait_covered(self, percent, limit=120):
        wait_for(f'{percent} % of {self.guest.name} are covered',
                 lambda: self.covered() >= percent, limit, 0.1)

    # Breaking pages

    def inject(self, gpa, covered=True):
        """False where there is no such page now."""
        try:
            self.process.qmp.command('memsched-inject-error',
                                     id=self.guest.name, gpa=gpa,
                                     covered=covered)
        except QmpError:
            return False
        return True

    def addresses(self, rows, each=1):
        """Random ones: @each of every row, so that no stripe has more."""
        frames = range(self.guest.memory // PAGE // FRAME_PAGES)
        for row in self.random.sample(range(FRAME_PAGES), rows):
            for frame in self.random.sample(frames, each):
                yield (frame * FRAME_PAGES + row) * PAGE

    def kind(self, flags):
        for bit, name in ((BUDDY, 'free'), (PGTABLE, 'page tables'),
                          (SLAB, 'slab'), (ANON, 'anonymous'),
                          (LRU, 'files'), (MMAP, 'files')):
            if flags >> bit & 1:
                return name
        return 'other kernel'

    def classify(self, gpas):
        """What the guest's kernel uses the pages for.  It looks at none of
        them to tell."""
        numbers = ' '.join(str(gpa // PAGE) for gpa in gpas)
        text = self.guest.sh(
            f'for p in {numbers}; do dd if=/proc/kpageflags bs=8 count=1 '
            'skip=$p 2> /dev/null; done | od -An -v -tx8')
        return [self.kind(int(word, 16)) for word in text.split()]

    def break_some(self, rows, each=1):
        """Breaks covered pages, @each of every row at most; returns their
        addresses."""
        broken = [gpa for gpa in self.addresses(rows, each)
                  if self.inject(gpa)]
        for _, kind in zip(broken, self.classify(broken), strict=True):
            self.kinds[kind] += 1
        return broken

    def meet(self, gpas):
        """The emulator's own thread reads the pages."""
        for gpa in gpas:
            self.guest.qmp.command(
                'pmemsave', val=gpa, size=PAGE,
                filename=str(self.process.folder / 'page'))

    def count_events(self):
        """Those that have arrived since the last call, too."""
        self.process.qmp.command('query-version')
        rest = []
        for event in self.process.qmp.events:
            name = event['event']
            if name in self.events and \
                    event['data']['id'] == self.guest.name:
                self.events[name] += 1
            else:
                rest.append(event)
        self.process.qmp.events[:] = rest
        return self.events

    def report(self, what):
        kinds = ', '.join(f'{count} {kind}' for kind, count in
                          sorted(self.kinds.items()))
        state = self.state()
        print(f'# {what}: {sum(self.kinds.values())} errors: {kinds}; '
              f'{state["recovered"]} repaired, {state["recovered-dead"]} dead, '
              f'{state["lost-pages"]} lost; repair p50 '
              f'{state["repair"]["p50-ns"] / 1000:.0f} us, p99 '
              f'{state["repair"]["p99-ns"] / 1000:.0f} us', flush=True)

    # Files

    def start_files(self):
        """The guest has an empty virtio-blk disk."""
        self.guest.sh(FILES)
        self.guest.sh(f"echo '{LOOP}' > /run/files.sh")
        self.guest.sh('sh /run/files.sh < /dev/null > /dev/null 2>&1 &')
        self.files_go_on()

    def rounds(self):
        if bad := self.guest.sh('cat /run/files.bad 2> /dev/null; true').strip():
            raise GuestError(f'files differ in rounds {bad}')
        return int(self.guest.sh('cat /run/files.rounds 2> /dev/null || '
                                 'echo 0').strip() or 0)

    def files_go_on(self):
        before = self.rounds()
        wait_for('files are written and compared',
                 lambda: self.rounds() > before + 1, 120, 0.2)


__all__ = ['Errors', 'MIB']
