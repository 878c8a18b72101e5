#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may include whom.

  guest/ -> wire header <- virtio-balloon-ex.c -> virtio-balloon-ex-mem.c
  wire header <- tag.c (the layout of a tag)
  virtio-balloon-ex-mem.c, monitor/, migration/, system/, tools/ -> memsched.h
  memsched.c -> sched -> client policy cond mover fault scan protect ledger
                         pool stats
  mover fault scan protect -> uffd -> sys
  ledger policy decision cond stats transfer request thrash reclaim parity
                         stripe diskmap estimate: pure, no system call, lock or clock

Only uffd.c issues UFFDIO_*; system calls and the clock go through sys.  lock.c
reads the clock itself: a timed wait takes an absolute time of its own kind."""

import re
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
COMMENT = re.compile(r'/\*.*?\*/', re.S)
STRING = re.compile(r'"(?:\\.|[^"\\\n])*"')

# Modules of libmemsched by rank: a module includes those of a lower rank, and
# of its own.  One that is missing here ranks with the helpers of its layer.
RANKS = [
    ['types'],
    ['sys', 'trace', 'lock', 'locks', 'bitmap'],
    ['uffd'],
    ['ledger', 'policy', 'decision', 'cond', 'stats', 'transfer', 'request',
     'thrash', 'reclaim', 'pagemap', 'pool', 'chunk', 'scrub', 'scrubber', 'tag',
     'torn', 'parity', 'stripe', 'diskmap', 'store', 'swapfile', 'pack',
     'estimate', 'rate'],
    ['client', 'region', 'fault', 'mover', 'scan', 'protect', 'repair',
     'capture', 'populate', 'prefetch', 'takeback', 'held', 'hold',
     'swapin', 'sample', 'sampler'],
    ['sched', 'scheduler', 'reallocate', 'event'],
    ['memsched'],
]
PURE = ('ledger', 'policy', 'decision', 'cond', 'stats', 'transfer',
        'request', 'thrash', 'reclaim', 'parity', 'stripe', 'diskmap', 'estimate',
        'rate')
PURE_FORBIDDEN = re.compile(
    r'\b(?:g_mutex_\w+|g_rw_lock_\w+|pthread_\w+|clock_gettime|time|usleep|'
    r'nanosleep|g_get_monotonic_time|g_get_real_time|mmap|munmap|madvise|ioctl|'
    r'read|write|open|close|syscall|getpid)\s*\(')
OS_CALLS = re.compile(
    r'(?<![\w.>])(?:mmap|munmap|madvise|mremap|mprotect|mlock|ioctl|'
    r'clock_gettime|syscall|poll|ppoll|usleep|nanosleep|'
    r'g_get_monotonic_time|g_get_real_time|g_usleep|time)\s*\(')
QEMU_HEADERS = re.compile(
    r'^(?:qemu|hw|qapi|qom|exec|system|monitor|migration|block|io|ui|net|'
    r'chardev|trace|standard-headers/linux/virtio_)/')
PUBLIC = re.compile(r'^memsched/(?:memsched|types|apps|recovery)\.h$')
# The layout of a tag is the wire's; everything else of the wire is not ours.
TAG_HEADER = 'standard-headers/linux/virtio_balloon_ex.h'


def rank_of(module):
    """A file is named after its module: pool-huge.c belongs to pool."""
    for rank, names in enumerate(RANKS):
        if module in names or module.split('-')[0].split('_')[0] in names:
            return rank
    return None


def includes(text):
    return [match.group(2) for match in INCLUDE.finditer(text)]


def check_library(path, text, code):
    name = path.name
    module = path.stem
    for header in includes(text):
        if QEMU_HEADERS.match(header) and not header.startswith(
                'standard-headers/'):
            yield f'libmemsched includes {header}, which is QEMU\'s'
        if header == TAG_HEADER and rank_of(module) == rank_of('tag') and \
                module.split('-')[0] == 'tag':
            continue
        if header.startswith('hw/') or 'virtio_balloon_ex' in header:
            yield f'libmemsched knows no device: {header}'
        base = Path(header)
        own = (TOP / 'memsched' / base.name).is_file() and \
            not PUBLIC.match(header)
        if own:
            here, there = rank_of(module), rank_of(base.stem)
            if here is not None and there is not None and there > here:
                yield f'{module} may not include {header}: it ranks higher'
    if 'UFFDIO_' in code and not name.startswith('uffd'):
        yield 'only uffd.c issues UFFDIO_*'
    if module.split('-')[0] in PURE:
        for match in PURE_FORBIDDEN.finditer(code):
            yield f'pure module calls {match.group(0)[:-1].strip()}()'
    elif not module.startswith(('sys', 'uffd', 'lock')) and path.suffix == '.c':
        for match in OS_CALLS.finditer(code):
            yield f'{match.group(0)[:-1].strip()}() goes through sys'


def check_emulator(path, text):
    name = path.relative_to(TOP).as_posix()
    for header in includes(text):
        library = header.startswith('memsched/')
        if library and not PUBLIC.match(header):
            yield f'{header} is inside libmemsched: use memsched/memsched.h'
        if library and name in ('hw/virtio/virtio-balloon-ex.c',
                                'hw/virtio/virtio-balloon-ex-pci.c'):
            yield f'the device speaks the protocol only, not {header}'


def check_guest(text):
    for header in includes(text):
        if header.startswith('memsched/') or QEMU_HEADERS.match(header) and \
           'virtio_balloon_ex' not in header:
            yield f'runs in a guest: may not include {header}'


def check_public(path, text):
    for header in includes(text):
        if '/' in header and not header.startswith(('memsched/', 'sys/',
                                                    'linux/')):
            yield f'{path.name} is a contract: may not include {header}'


def findings():
    for path in sorted(TOP.glob('**/*.[ch]')):
        name = path.relative_to(TOP).as_posix()
        top = name.split('/')[0]
        if top == 'build':
            continue
        text = path.read_text(encoding='utf-8')
        code = STRING.sub('""', COMMENT.sub(' ', text))
        if top == 'memsched':
            found = check_library(path, text, code)
        elif top in ('hw', 'monitor', 'migration', 'system', 'tools'):
            found = check_emulator(path, text)
        elif top == 'guest':
            found = check_guest(text)
        elif name.startswith('include/memsched/'):
            found = check_public(path, text)
        else:
            continue
        for text in found:
            yield f'{name}: {text}'


def main():
    bad = list(findings())
    print('\n'.join(bad))
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
