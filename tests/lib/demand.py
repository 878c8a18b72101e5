# SPDX-License-Identifier: GPL-2.0-or-later
"""Three Debian guests on a pool of 60 % of the sum of their sizes, for a demand
that turns: what the test, the demo and the bench of it start from."""

from .guests import Guest, MIB, Process

NAMES = ('a', 'b', 'c')
GUEST_MIB, MIN_MIB = 512, 96
POOL_MIB = len(NAMES) * GUEST_MIB * 60 // 100


def new_process(more=''):
    """@more: options of the scheduler, each after a comma."""
    return Process(POOL_MIB, 'policy=idle-tax,interval=500' + more)


def boot(process, tested_mib=0):
    """The guests, booted side by side; @tested_mib of each is kept under
    test."""
    everyone = [Guest(name, process.folder, GUEST_MIB) for name in NAMES]
    for guest in everyone:
        process.start(guest, MIN_MIB)
    for guest in everyone:
        process.wait_up(guest)
        if tested_mib:
            guest.memtest(tested_mib, seed=ord(guest.name) << 32)
    return everyone


__all__ = ['GUEST_MIB', 'MIB', 'MIN_MIB', 'NAMES', 'POOL_MIB', 'boot',
           'new_process']
