#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The monitor's side of the scheduler: every command, its answers and its
refusals, and the events.  Behind it is not libmemsched but memsched-pretend,
whose figures all differ, so that one in the wrong place is seen."""

import os
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / 'scripts'), str(TOP / 'tests')]

from lib import tap  # noqa: E402
from qmp.client import Qmp, QmpError, QmpTimeout  # noqa: E402

QEMU = TOP / 'build/qemu-system-x86_64'
PRETEND = TOP / 'build/memsched/tests/functional/libmemsched-pretend.so'
PAGE = 4096
NO_SCHEDULER = 'No memory scheduler runs in this process; start QEMU with ' \
    '-object memsched,id=ID,pool=SIZE'

POOL = {'size': 101, 'free': 205, 'clean': 102, 'dirty': 103, 'huge': 113,
        'claimed': 110, 'reserved': 111, 'min-free': 112, 'allocated': 104,
        'transit': 105, 'held': 106, 'parity': 107, 'quarantine': 108,
        'retired': 109}
COUNTERS = {'captured': 201 * PAGE, 'populated': 202 * PAGE,
            'moved': 203 * PAGE, 'copied': 204 * PAGE,
            'discarded': 206 * PAGE, 'scrubbed': 207 * PAGE,
            'put-back': 219 * PAGE, 'busy': 218 * PAGE, 'huge-moves': 208,
            'split-frames': 209, 'flushes': 217, 'stale-faults': 211,
            'waited-faults': 212, 'refused-requests': 220}
KERNEL = {'release': '6.1.2-pretend', 'full-userfaultfd': True, 'move': True,
          'poison': False, 'write-protect': True,
          'write-protect-async': False, 'pagemap-scan': True,
          'huge-pages': False, 'warning': 'too old for dreams'}
STATS = ['swap-in', 'swap-out', 'major-faults', 'minor-faults', 'free',
         'total', 'available', 'caches', 'hugetlb-allocations',
         'hugetlb-failures', 'oom-kills', 'alloc-stalls', 'scan-async',
         'scan-direct', 'reclaim-async', 'reclaim-direct']
WEB = {'ram': 303, 'min': 301, 'max': 302, 'shares': 304, 'entitlement': 305,
       'target': 306, 'allocated': 307, 'active': 308, 'idle': 309,
       'usage': {'claimed': 331, 'sampled': 332, 'difference': -1,
                 'units': 333, 'age': 334, 'fast': 34, 'slow': 33,
                 'touched-after': 335, 'out': 336},
       'huge': 314, 'claimed': 317,
       'ballooned': {'kernel': 310, 'application': 311, 'reported': 312},
       'given': 313, 'held': {'stored': 3 * (1 << 20), 'swapped': 2 * (1 << 20)},
       'balloon': {'target': 315, 'actual': 316},
       'condition': 'low', 'pressure': 318, 'vm-running': True,
       'stalled': True, 'unresponsive': False, 'inhibited': True,
       'responsiveness': 319,
       'faults': {'served': 320, 'p50-ns': 321, 'p99-ns': 322,
                  'max-ns': 323},
       'captured': 324 * PAGE, 'populated': 325 * PAGE, 'oom-deflates': 326,
       'refused': 327 * PAGE,
       'thrash': {'returned': 328 * PAGE, 'back-offs': 329, 'remaining': 330},
       'stats': {name: {'value': 401 + i, 'age': 640}
                 for i, name in enumerate(STATS)}}
MIB = 1 << 20
LAST_RESORT = {
    'store': 801, 'store-limit': 802, 'stored': 803 * PAGE,
    'compressed': 804, 'swap': 805, 'swapped': 806 * PAGE, 'out': 807 * PAGE,
    'zero': 808 * PAGE, 'refused': 809 * PAGE, 'back': 810 * PAGE,
    'read': 811 * PAGE, 'lost': 812 * PAGE, 'write-errors': 813,
    'read-errors': 814,
    'back-faults': {'served': 815, 'p50-ns': 816, 'p99-ns': 817000,
                    'max-ns': 818},
    'read-faults': {'served': 819, 'p50-ns': 820, 'p99-ns': 821000,
                    'max-ns': 822}}
WEB_APPS = {
    'connected': True, 'known': 600,
    'told': {'generation': 601, 'age': 602, 'condition': 'hard',
             'host': 'soft', 'pressure': 603, 'entitlement': 604,
             'target': 605, 'allocated': 606, 'reservable': 607},
    'list': [
        {'number': 621, 'name': 'first', 'agent': False, 'reserves': True,
         'priority': 622, 'offer': 623, 'ordered': 624 * MIB,
         'reserved': 625 * MIB, 'captured': 626 * MIB, 'veto': 627,
         'cache': {'size': 628, 'misses': 629, 'age': 630}},
        {'number': 631, 'name': 'second', 'agent': True, 'reserves': False,
         'priority': 0, 'ordered': 0, 'reserved': 0, 'captured': 0,
         'veto': 0}],
    'requests': [
        {'application': 641, 'name': 'first', 'size': 642 * MIB,
         'got': 643 * MIB, 'priority': 644, 'reason': 'heap', 'age': 645,
         'left': 646999},
        {'application': 0, 'size': 651, 'got': 0, 'priority': 0,
         'reason': 'unsaid', 'age': 0, 'left': 0}],
    'tags': {'scanned': 611 * PAGE, 'scan-ns': 612,
             'found-by-scan': 613 * PAGE, 'found-by-hint': 614 * PAGE,
             'rejected': 615 * PAGE, 'recaptured': 616 * PAGE,
             'returned-by-fault': 617 * PAGE,
             'returned-by-release': 618 * PAGE}}
TRANSFER = {'id': 501, 'from': 'web', 'to': 'db', 'source': 'reported',
            'state': 'partial', 'requested': 511, 'captured': 512,
            'moved': 513, 'copied': 514, 'discarded': 515, 'duration': 516,
            'deadline': 517, 'reason': 'web gave no more',
            'estimate': 531, 'rate': 532, 'rate-age': 533, 'left': 534,
            'tags': {'scanned': 521 * PAGE, 'scan-ns': 522,
                     'found-by-scan': 523 * PAGE, 'found-by-hint': 524 * PAGE,
                     'rejected': 525 * PAGE, 'recaptured': 526 * PAGE,
                     'returned-by-fault': 527 * PAGE,
                     'returned-by-release': 528 * PAGE}}
PAGE_STATES = ['hole', 'resident', 'given', 'ballooned', 'reported', 'tag',
               'held', 'transit', 'poisoned', 'lost']

# Of each command: arguments that it takes.
COMMANDS = {
    'query-memsched': {}, 'query-memsched-guests': {},
    'query-memsched-transfers': {}, 'memsched-check': {},
    'memsched-reallocate': {'from': 'web', 'to': 'db', 'size': 4096},
    'memsched-set-guest': {'id': 'web', 'shares': 7},
    'memsched-set': {'idle-tax': 50},
    'memsched-translate': {'id': 'web', 'gpa': 0},
    'query-memsched-decisions': {}, 'memsched-explain': {'id': 'web'}}
DECISION = {
    'number': 701, 'age': 702, 'id': 'web', 'action': 'give', 'size': 703,
    'reason': 'pressure', 'text': 'web gets it.', 'dry-run': True,
    'allocated': 704, 'active': 705, 'wanted': 706, 'entitlement': 707,
    'min': 708, 'max': 709, 'ballooned': 710, 'waiting': 711,
    'outgoing': 712, 'shares': 713, 'pressure': 714, 'again': 715,
    'policy': 'idle-tax', 'idle-tax': 716, 'state': 'low', 'free': 717,
    'min-free': 718}
EVENTS = ['MEMSCHED_TRANSFER_COMPLETED', 'MEMSCHED_CONDITION_CHANGED',
          'MEMSCHED_GUEST_UNRESPONSIVE', 'MEMSCHED_GUEST_STALLED',
          'MEMSCHED_DECISION', 'MEMSCHED_GUEST_STATE']


class Instance:
    """One QEMU without a machine, and a client of its monitor."""

    def __init__(self, *options, oob=False, preload=PRETEND):
        self.folder = tempfile.TemporaryDirectory()
        path = os.path.join(self.folder.name, 'qmp')
        self.path = path
        env = {**os.environ, 'LD_PRELOAD': str(preload)} if preload else None
        self.process = subprocess.Popen(
            [QEMU, '-M', 'none', '-display', 'none', '-monitor', 'none',
             '-serial', 'none', '-qmp', f'unix:{path},server=on,wait=off',
             '-qmp', f'unix:{path}2,server=on,wait=off', *options],
            env=env, stdin=subprocess.DEVNULL)
        self.qmp = Qmp(path, timeout=30, oob=oob)

    def close(self):
        self.qmp.close()
        self.process.terminate()
        self.process.wait(timeout=30)
        self.folder.cleanup()


class Monitor(unittest.TestCase):
    options = ('-object', 'memsched,id=sched0,pool=64M')

    def setUp(self):
        self.instance = Instance(*self.options, oob=True)
        self.addCleanup(self.instance.close)
        self.qmp = self.instance.qmp

    def refused(self, sentence, command, **arguments):
        with self.assertRaises(QmpError, msg=f'{command} {arguments}') as got:
            self.qmp.command(command, **arguments)
        self.assertEqual(str(got.exception), sentence)


class Answers(Monitor):
    def test_query_memsched_shows_each_figure_in_its_place(self):
        self.assertEqual(self.qmp.command('query-memsched'), {
            'id': 'sched0', 'version': '9.8.7', 'policy': 'shares',
            'interval': 1000, 'idle-tax': 61,
            'sample-interval': 337, 'dry-run': True,
            'allow-inject': False, 'fallback': True, 'state': 'soft',
            'pressure': 162, 'guests': 2, 'pool': POOL,
            'counters': COUNTERS, 'kernel': KERNEL,
            'last-resort': LAST_RESORT,
            'faults': {'served': 210, 'p50-ns': 214, 'p99-ns': 215,
                       'max-ns': 216}})

    def test_guests_show_each_figure_in_its_place(self):
        web = self.qmp.command('query-memsched-guests')[0]
        self.assertEqual(web, {'id': 'web', 'state': 'running',
                               'memory': WEB, 'applications': WEB_APPS})

    def test_what_is_not_known_of_a_guest_is_absent(self):
        memory = self.qmp.command('query-memsched-guests')[1]['memory']
        self.assertEqual(memory['stats'], {})
        self.assertNotIn('balloon', memory)
        self.assertNotIn('responsiveness', memory)
        self.assertEqual(memory['usage'], {'reason': 'it hides', 'out': 0})
        apps = self.qmp.command('query-memsched-guests')[1]['applications']
        self.assertEqual(apps, {
            'connected': False, 'list': [], 'requests': [], 'known': 0,
            'tags': {name: 0 for name in WEB_APPS['tags']}})

    def test_transfers_show_each_figure_in_its_place(self):
        self.assertEqual(self.qmp.command('query-memsched-transfers'),
                         [TRANSFER])

    def test_reallocate_passes_its_arguments_on(self):
        for number, source in enumerate(['any', 'application', 'kernel',
                                         'reported']):
            started = self.qmp.command(
                'memsched-reallocate', **{'from': 'a', 'to': 'b'},
                size=(1 << 62) + number, source=source, deadline=4321)
            self.assertEqual(started, {'id': 0x8000000000000001})
            echo = self.qmp.command('query-memsched-transfers')[1]['reason']
            self.assertEqual(echo, f'a b {(1 << 62) + number} {number}')

    def test_decisions_show_each_figure_in_its_place(self):
        web, other = self.qmp.command('query-memsched-decisions')
        self.assertEqual(web, DECISION)
        self.assertEqual((other['action'], other['id']), ('take', 'db'))
        self.assertNotIn('again', other)

    def test_explain_says_how_it_is_and_what_was_decided(self):
        self.assertEqual(
            self.qmp.command('memsched-explain', id='web'),
            {'id': 'web', 'text': 'web!gets it.', 'decisions': [DECISION],
             'now': {**DECISION, 'number': 0, 'size': 0, 'action': 'keep',
                     'text': 'web!gets it.'}})
        self.refused('no guest is named x', 'memsched-explain', id='x')
        self.refused("Parameter 'id' is missing", 'memsched-explain')

    def test_set_guest_passes_on_what_is_given_and_no_more(self):
        self.refused('1 5 0 0 0 0', 'memsched-set-guest', id='web', min=5)
        self.refused('0 0 1 6 0 0', 'memsched-set-guest', id='web', max=6)
        self.refused('1 5 1 6 1 8', 'memsched-set-guest', id='web', min=5,
                     max=6, shares=8)
        self.assertEqual(self.qmp.command('memsched-set-guest', id='web',
                                          shares=7), {})

    def test_set_changes_the_interval(self):
        self.qmp.command('memsched-set', interval=777, policy='static',
                         dry_run=False)
        self.assertEqual(self.qmp.command('query-memsched')['interval'], 777)

    def test_translate_shows_address_frame_and_every_state(self):
        for number, state in enumerate(PAGE_STATES):
            gpa = number * PAGE
            expected = {'block': 'pc.ram', 'offset': gpa + 1, 'hva': gpa + 2,
                        'pfn': gpa + 3, 'huge': number == 2, 'state': state}
            if number == 1:     # the kernel does not tell
                del expected['pfn']
            self.assertEqual(self.qmp.command('memsched-translate', id='web',
                                              gpa=gpa), expected)

    def test_check_says_exact_or_the_difference(self):
        self.assertEqual(self.qmp.command('memsched-check'), {'exact': True})
        self.qmp.command('memsched-set', interval=3333)
        self.assertEqual(self.qmp.command('memsched-check'), {
            'exact': False, 'message': 'free is 3 pages, counted 4'})

    def test_check_that_takes_long_does_not_block_queries(self):
        self.qmp.command('memsched-set', interval=4444)
        start = time.monotonic()
        self.qmp.send({'execute': 'memsched-check', 'id': 'slow'})
        answer = self.qmp.execute({'exec-oob': 'query-memsched', 'id': 'now'})
        self.assertEqual(answer['id'], 'now')
        self.assertLess(time.monotonic() - start, 1.5)
        self.assertEqual(self.qmp.receive()['id'], 'slow')

    def test_all_but_check_work_out_of_band(self):
        for command, arguments in COMMANDS.items():
            answer = self.qmp.execute({'exec-oob': command,
                                       'arguments': arguments})
            if command == 'memsched-check':
                self.assertIn('does not support OOB', answer['error']['desc'])
            else:
                self.assertIn('return', answer, command)


class Refusals(Monitor):
    def test_library_gives_the_sentence(self):
        self.refused('no guest is named nobody', 'memsched-reallocate',
                     **{'from': 'nobody'}, to='db', size=1)
        self.refused('no guest is named x', 'memsched-set-guest', id='x',
                     min=1)
        self.refused('idle tax 99 is not for pretenders', 'memsched-set',
                     idle_tax=99)

    def test_library_without_a_sentence_gets_that_of_the_errno(self):
        self.refused('The memory scheduler refused: Resource temporarily '
                     'unavailable', 'memsched-reallocate',
                     **{'from': 'silent'}, to='db', size=1)
        self.refused('The memory scheduler refused: No such file or '
                     'directory', 'memsched-translate', id='x', gpa=0)

    def test_nothing_to_change_is_said(self):
        self.refused('Nothing to change: give min, max or shares',
                     'memsched-set-guest', id='web')
        self.refused('Nothing to change: give policy, interval, idle-tax, '
                     'sample-interval or dry-run', 'memsched-set')
        self.refused('shares must be at least 1', 'memsched-set-guest',
                     id='web', shares=0)

    def test_deadline_out_of_range_is_said(self):
        for deadline in (0, 3600001, 2**32 - 1):
            self.refused('deadline is in milliseconds, from 1 to 3600000',
                         'memsched-reallocate', **{'from': 'a'}, to='b',
                         size=1, deadline=deadline)

    def test_translate_without_a_guest_is_refused(self):
        self.refused("Parameter 'id' is missing", 'memsched-translate', gpa=0)

    def test_wrong_types_and_unknown_words_are_refused_by_name(self):
        good = COMMANDS['memsched-reallocate']
        for bad in ({'size': '1G'}, {'size': -1}, {'size': 2**64},
                    {'size': 1.5}, {'size': None}, {'from': 1},
                    {'to': ['b']}, {'source': 'magic'}, {'source': 1},
                    {'deadline': -1}, {'deadline': 2**32}, {'extra': 1}):
            with self.subTest(bad):
                answer = self.qmp.execute(
                    {'execute': 'memsched-reallocate',
                     'arguments': {**good, **bad}})
                self.assertIn(f"'{list(bad)[0]}'", answer['error']['desc'])

    def test_missing_arguments_are_refused_by_name(self):
        for command, arguments in COMMANDS.items():
            needed = {'memsched-reallocate': ['from', 'to', 'size'],
                      'memsched-set-guest': ['id'],
                      'memsched-translate': ['gpa']}.get(command, [])
            for name in needed:
                rest = {k: v for k, v in arguments.items() if k != name}
                answer = self.qmp.execute({'execute': command,
                                           'arguments': rest})
                self.assertEqual(answer['error']['desc'],
                                 f"Parameter '{name}' is missing")

    def test_sizes_below_zero_are_refused_by_name(self):
        for command, name in (('memsched-reallocate', 'size'),
                              ('memsched-set-guest', 'min'),
                              ('memsched-set-guest', 'max')):
            for size in (-1, -(1 << 63), 1 << 63):
                answer = self.qmp.execute(
                    {'execute': command,
                     'arguments': {**COMMANDS[command], name: size}})
                self.assertEqual(answer['error']['desc'],
                                 f"Parameter '{name}' must be from 0 to "
                                 f'{(1 << 63) - 1} bytes')

    def test_bad_values_of_memsched_set_are_refused(self):
        for bad in ({'policy': 'best'}, {'interval': -1}, {'interval': '1'},
                    {'idle-tax': 2**32}, {'dry-run': 1}):
            with self.subTest(bad):
                answer = self.qmp.execute({'execute': 'memsched-set',
                                           'arguments': bad})
                self.assertIn(f"'{list(bad)[0]}'", answer['error']['desc'])

    def test_second_scheduler_is_refused_and_the_first_stays(self):
        self.refused('a scheduler runs in this process already', 'object-add',
                     qom_type='memsched', id='other', pool=1 << 26)
        self.assertEqual(self.qmp.command('query-memsched')['id'], 'sched0')

    def test_scheduler_with_guests_cannot_be_deleted(self):
        self.refused("object 'sched0' is in use, can not be deleted",
                     'object-del', id='sched0')

    def test_options_cannot_be_written_behind_its_back(self):
        for name, value in (('pool', 1 << 30), ('interval', 5),
                            ('policy', 'static'), ('allow-inject', True)):
            self.refused(f'{name} cannot be written while the scheduler '
                         'runs; memsched-set changes what can be changed',
                         'qom-set', path='/objects/sched0', property=name,
                         value=value)


class Events(Monitor):
    def test_each_kind_arrives_with_its_data(self):
        self.qmp.command('memsched-set', interval=1111)
        event = self.qmp.wait_event('MEMSCHED_TRANSFER_COMPLETED')
        self.assertEqual(event['data'], TRANSFER)
        event = self.qmp.wait_event('MEMSCHED_CONDITION_CHANGED')
        self.assertEqual(event['data'], {'id': 'web', 'condition': 'hard'})
        event = self.qmp.wait_event('MEMSCHED_CONDITION_CHANGED')
        self.assertEqual(event['data'], {'condition': 'clear'})
        event = self.qmp.wait_event('MEMSCHED_GUEST_UNRESPONSIVE')
        self.assertEqual(event['data'], {'id': 'web', 'active': True})
        event = self.qmp.wait_event('MEMSCHED_GUEST_STALLED')
        self.assertEqual(event['data'], {'id': 'db', 'active': False})
        event = self.qmp.wait_event('MEMSCHED_DECISION')
        self.assertEqual(event['data'], {'decision': DECISION,
                                         'skipped': 719})

    def test_flood_ends_in_the_last_state_and_loses_no_other_guest(self):
        self.qmp.command('memsched-set', interval=2222)
        self.qmp.wait_event('MEMSCHED_CONDITION_CHANGED',
                            lambda data: data['id'] == 'db')
        told = [event['data'] for event in self.qmp.events
                if event['event'] == 'MEMSCHED_CONDITION_CHANGED']
        self.assertEqual(told[-1], {'id': 'web', 'condition': 'low'})

    def test_monitor_answers_during_a_flood(self):
        self.qmp.command('memsched-set', interval=2222)
        start = time.monotonic()
        self.qmp.command('query-memsched')
        self.assertLess(time.monotonic() - start, 5)


class Schema(Monitor):
    def test_commands_and_events_are_in_the_schema(self):
        schema = self.qmp.command('query-qmp-schema')
        names = {(entry['meta-type'], entry['name']) for entry in schema}
        for command in COMMANDS:
            self.assertIn(('command', command), names)
        for event in EVENTS:
            self.assertIn(('event', event), names)

    def test_objects_are_listed_with_their_options(self):
        options = self.qmp.command('qom-list-properties', typename='memsched')
        self.assertLessEqual(
            {'pool', 'policy', 'interval', 'idle-tax', 'min-free',
             'allow-inject'}, {option['name'] for option in options})


class Human(Monitor):
    def test_info_memsched_shows_pool_counters_and_warning(self):
        text = self.qmp.hmp('info memsched')
        for words in ('sched0, libmemsched 9.8.7, policy shares (dry run), '
                      'every 1000 ms', 'soft, pressure 162 %, 2 guests',
                      'stored 3 in 0 of 0  swapped 3 of 0  out 3  zero 3  '
                      'refused 3', 'back 3, p99 817 us  read 3, p99 821 us  '
                      'lost 3  errors 1627', 'pages are copied and discarded',
                      'Warning:     too old for dreams'):
            self.assertIn(words, text)

    def test_info_memsched_guests_is_a_table(self):
        lines = self.qmp.hmp('info memsched-guests').splitlines()
        self.assertEqual(lines[0].split()[2:], [
            'State', 'Allocated', 'Target', 'Ballooned', 'Min', 'Max',
            'Shares', 'Condition', 'Pressure'])
        self.assertEqual(lines[1].split()[:2], ['web', 'running'])
        self.assertEqual(lines[1].split()[7:], ['304', 'low', '318%',
                                                'stalled'])
        self.assertEqual(lines[2:7], [
            '    kept by the host: compressed 3, in the swap file 2',
            '    application 621 (first): asked for 624, set aside 625, taken '
            '626, wants to be left alone',
            '    application 631 (second): asked for 0, set aside 0, taken 0',
            '    request of first: 642, got 643, priority 644, for heap, '
            '646 s left',
            '    request of the guest: 0, got 0, priority 0, for an unsaid '
            'reason, 0 s left'])
        self.assertEqual(lines[7].split()[0], 'db')
        self.assertEqual(len(lines), 8)

    def test_info_memsched_decisions_is_a_table(self):
        lines = self.qmp.hmp('info memsched-decisions').splitlines()
        self.assertEqual(lines[0].split(), [
            'Decision', 'Ago', '(s)', 'Guest', 'Action', 'MiB', 'Reason'])
        self.assertEqual([line.split() for line in lines[1:]], [
            ['701', '0.7', 'web', 'give', '0', 'pressure', '(dry', 'run)'],
            ['700', '0.0', 'db', 'take', '3', 'idle']])

    def test_reallocate_takes_mib_and_suffixes(self):
        self.assertEqual(self.qmp.hmp('memsched_reallocate web db 16'),
                         f'Transfer {0x8000000000000001} started\n')
        self.assertIn('started',
                      self.qmp.hmp('memsched_reallocate web db 1G'))

    def test_reallocate_prints_the_refusal(self):
        self.assertEqual(self.qmp.hmp('memsched_reallocate nobody db 1'),
                         'Error: no guest is named nobody\n')
        self.assertIn("expected", self.qmp.hmp('memsched_reallocate web'))


class WithoutScheduler(Monitor):
    options = ()

    def test_each_command_says_what_to_do(self):
        for command, arguments in COMMANDS.items():
            answer = self.qmp.execute({'execute': command,
                                       'arguments': arguments})
            self.assertEqual(answer['error']['desc'], NO_SCHEDULER, command)

    def test_human_monitor_says_it_too(self):
        for line in ('info memsched', 'info memsched-guests',
                     'memsched_reallocate a b 1'):
            self.assertEqual(self.qmp.hmp(line), f'Error: {NO_SCHEDULER}\n')

    def test_no_event_comes(self):
        with self.assertRaises(QmpTimeout):
            self.qmp.wait_event('MEMSCHED_CONDITION_CHANGED', timeout=0.2)


class RealLibrary(unittest.TestCase):
    def test_scheduler_ends_and_starts_again_under_queries(self):
        instance = Instance(oob=True, preload=None)
        self.addCleanup(instance.close)
        other = Qmp(instance.path + '2', timeout=30, oob=True)
        self.addCleanup(other.close)
        stop = threading.Event()
        told = []

        def ask():
            while not stop.is_set():
                for name in ('query-memsched', 'query-memsched-transfers'):
                    told.append(other.execute({'exec-oob': name}))
                told.append(other.execute({'execute': 'memsched-check'}))

        asker = threading.Thread(target=ask)
        asker.start()
        try:
            for _ in range(20):
                instance.qmp.command('object-add', qom_type='memsched',
                                     id='sched0', pool=64 << 20)
                self.assertTrue(instance.qmp.command('memsched-check')
                                ['exact'])
                instance.qmp.command('object-del', id='sched0')
        finally:
            stop.set()
            asker.join(timeout=60)
        self.assertIsNone(instance.process.poll())
        for answer in told:
            if 'error' in answer:
                self.assertEqual(answer['error']['desc'], NO_SCHEDULER)


class Options(unittest.TestCase):
    def run_with(self, option):
        return subprocess.run(
            [QEMU, '-M', 'none', '-display', 'none', '-object', option],
            env={**os.environ, 'LD_PRELOAD': str(PRETEND)}, text=True,
            capture_output=True, timeout=60, check=False)

    def test_bad_options_end_the_start_with_a_sentence(self):
        for option, sentence in (
                ('memsched,id=s', "Parameter 'pool' is missing"),
                ('memsched,id=s,pool=0', 'memsched needs pool=SIZE'),
                ('memsched,id=s,pool=64M,interval=9', 'from 10 to 3600000'),
                ('memsched,id=s,pool=64M,idle-tax=100', 'from 0 to 99'),
                ('memsched,id=s,pool=64M,policy=best',
                 "does not accept value 'best'"),
                ('memsched,id=s,pool=lots', "'pool' expects a size")):
            done = self.run_with(option)
            self.assertEqual(done.returncode, 1, option)
            self.assertIn(sentence, done.stderr)


if __name__ == '__main__':
    tap.main()
