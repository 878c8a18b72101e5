# SPDX-License-Identifier: GPL-2.0-or-later
"""Answers of the scheduler's queries, made up, for tests without QEMU."""

MIB = 1 << 20


def scheduler(free_mib, size_mib=1024, state='high'):
    return {'id': 'sched0', 'state': state, 'policy': 'static',
            'pool': {'size': size_mib * MIB, 'free': free_mib * MIB,
                     'clean': free_mib * MIB,
                     'allocated': (size_mib - free_mib) * MIB},
            'counters': {'moved': 3 * MIB, 'copied': 0}}


def guest(name, allocated_mib, kernel_mib=0, **flags):
    memory = {'allocated': allocated_mib * MIB, 'target': 512 * MIB,
              'ballooned': {'kernel': kernel_mib * MIB, 'application': 0,
                            'reported': 0},
              'condition': 'high', 'stalled': False, 'unresponsive': False}
    return {'id': name, 'state': 'running', 'memory': {**memory, **flags}}


def failed_guest(name, message):
    return {'id': name, 'state': 'failed', 'message': message}


def transfer(number, donor, acceptor, size_mib, moved_mib, state,
             duration_ms):
    return {'id': number, 'from': donor, 'to': acceptor, 'source': 'any',
            'state': state, 'requested': size_mib * MIB,
            'captured': moved_mib * MIB, 'moved': moved_mib * MIB,
            'copied': 0, 'discarded': 0, 'duration': duration_ms,
            'deadline': 30000}
