#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The scheduler's commands on a live process with two booted guests: what is
refused and how, who may ask what, which events come, and that nothing waits
for a guest."""

import sys
import time
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / 'scripts'), str(TOP / 'tests')]

from lib import tap  # noqa: E402
from lib.guests import MIB, Guest, Process, ensure_image  # noqa: E402
from lib.qmpschema import Schema  # noqa: E402
from qmp.client import QmpError  # noqa: E402

POOL_MIB = 640
MIN_MIB = 64


class Live(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        ensure_image()
        cls.process = Process(POOL_MIB)
        cls.addClassCleanup(cls.process.close)
        cls.web = cls.process.guest('web', 256, MIN_MIB)
        cls.db = cls.process.guest('db', 256, MIN_MIB)
        cls.qmp = cls.process.qmp
        cls.schema = Schema(cls.qmp.command('query-qmp-schema'))

    def refused(self, words, command, qmp=None, **arguments):
        """The command is refused with one sentence that has these words."""
        with self.assertRaises(QmpError) as caught:
            (qmp or self.qmp).command(command, **arguments)
        text = str(caught.exception)
        for word in words if isinstance(words, list) else [words]:
            self.assertIn(word, text)
        self.assertNotIn('\n', text)
        return text


class Reallocate(Live):
    def reallocate_refused(self, words, giver, taker, size, **more):
        before = self.qmp.command('query-memsched-transfers')
        self.refused(words, 'memsched-reallocate',
                     **{'from': giver}, to=taker, size=size, **more)
        self.assertEqual(self.qmp.command('query-memsched-transfers'), before)

    def test_unknown_guests_are_named(self):
        self.reallocate_refused("'nobody'", 'nobody', 'db', MIB)
        self.reallocate_refused("'nobody'", 'web', 'nobody', MIB)
        self.reallocate_refused("''", '', 'db', MIB)
        self.reallocate_refused('no', 'x' * 10000, 'db', MIB)

    def test_same_guest_is_refused(self):
        self.reallocate_refused('', 'web', 'web', MIB)

    def test_size_of_nothing_is_refused(self):
        self.reallocate_refused('', 'web', 'db', 0)

    def test_more_than_above_the_min_is_refused(self):
        allocated = self.process.memory('web')['allocated']
        self.reallocate_refused('', 'web', 'db', allocated - MIN_MIB * MIB +
                                64 * MIB)

    def test_absurd_sizes_are_refused(self):
        for size in (1 << 40, (1 << 62) + 1, (1 << 63) - 1):
            self.reallocate_refused('', 'web', 'db', size)

    def test_source_that_the_guest_lacks_is_refused_or_fails(self):
        try:
            answer = self.qmp.command(
                'memsched-reallocate', **{'from': 'web'}, to='db', size=MIB,
                source='application', deadline=300)
        except QmpError:
            return
        data = self.process.wait_end(answer['id'])
        self.assertEqual(data['state'], 'failed')
        self.assertTrue(data['reason'])

    def test_deadline_ends_what_a_stopped_guest_does_not_give(self):
        self.web.qmp.command('stop')
        try:
            start = time.monotonic()
            answer = self.qmp.command('memsched-reallocate',
                                      **{'from': 'web'}, to='db',
                                      size=8 * MIB, source='kernel',
                                      deadline=3000)
            self.assertLess(time.monotonic() - start, 2)
            data = self.process.wait_end(answer['id'])
        finally:
            self.web.qmp.command('cont')
        self.assertEqual((data['state'], data['moved']), ('failed', 0))
        self.assertTrue(data['reason'])
        self.process.check()

    def test_transfer_ends_in_an_event_that_equals_the_list(self):
        self.web.touch_and_free(96)
        answer = self.qmp.command('memsched-reallocate', **{'from': 'web'},
                                  to='db', size=32 * MIB, source='kernel')
        data = self.process.wait_end(answer['id'])
        listed = self.process.transfer(answer['id'])
        self.assertEqual(self.schema.check(
            listed, self.schema.events['MEMSCHED_TRANSFER_COMPLETED']
            ['arg-type'], 'transfer'), [])
        self.assertEqual(listed, data)
        self.assertEqual(data['state'], 'completed', data)
        self.assertEqual(data['moved'] + data['copied'] + data['discarded'],
                         32 * MIB)
        self.assertEqual(data['requested'], 32 * MIB)
        self.process.check()


class Limits(Live):
    def limits(self):
        memory = self.process.memory('web')
        return [memory[name] for name in ('min', 'max', 'shares')]

    def refused_and_unchanged(self, words, **change):
        before = self.limits()
        self.refused(words, 'memsched-set-guest', id='web', **change)
        self.assertEqual(self.limits(), before)

    def test_what_is_set_is_shown(self):
        old = self.limits()
        self.qmp.command('memsched-set-guest', id='web', min=80 * MIB,
                         max=200 * MIB, shares=2500)
        self.assertEqual(self.limits(), [80 * MIB, 200 * MIB, 2500])
        self.qmp.command('memsched-set-guest', id='web', min=old[0],
                         max=old[1], shares=old[2])
        self.assertEqual(self.limits(), old)

    def test_min_that_the_pool_cannot_guarantee_is_refused(self):
        self.refused_and_unchanged('', min=1 << 50)
        self.refused_and_unchanged('', min=(1 << 63) - 1)

    def test_min_above_max_is_refused(self):
        self.refused_and_unchanged('', min=128 * MIB, max=64 * MIB)

    def test_one_bad_value_changes_no_other(self):
        self.refused_and_unchanged('', shares=7, min=1 << 50)

    def test_unknown_guest_is_named(self):
        self.refused("'nobody'", 'memsched-set-guest', id='nobody', shares=7)

    def test_options_of_the_scheduler_change_at_once(self):
        self.qmp.command('memsched-set', policy='shares', interval=777,
                         idle_tax=33, sample_interval=5000, dry_run=True)
        info = self.qmp.command('query-memsched')
        self.assertEqual([info[name] for name in (
            'policy', 'interval', 'idle-tax', 'sample-interval', 'dry-run')],
            ['shares', 777, 33, 5000, True])
        self.qmp.command('memsched-set', policy='static', interval=1000,
                         idle_tax=75, sample_interval=0, dry_run=False)
        usage = self.process.memory('web')['usage']
        self.assertEqual(usage['reason'], 'sampling is off')
        self.assertNotIn('sampled', usage)
        self.qmp.command('memsched-set', sample_interval=30000)

    def test_options_out_of_range_are_refused_and_change_nothing(self):
        before = self.qmp.command('query-memsched')
        for bad in ({'interval': 9}, {'interval': 3600001}, {'idle_tax': 100},
                    {'sample_interval': 999}, {'sample_interval': 3600001},
                    {'interval': 50, 'idle_tax': 100}):
            self.refused('', 'memsched-set', **bad)
        after = self.qmp.command('query-memsched')
        for name in ('policy', 'interval', 'idle-tax', 'sample-interval',
                     'dry-run'):
            self.assertEqual(after[name], before[name])


class Translate(Live):
    def test_ram_is_shown_with_block_and_offset(self):
        found = self.qmp.command('memsched-translate', id='web', gpa=MIB)
        self.assertEqual((found['state'], found['offset']), ('resident', MIB))
        self.assertTrue(found['block'])
        self.assertGreater(found['hva'], 0)

    def test_address_within_a_page_is_that_page(self):
        page = self.qmp.command('memsched-translate', id='web', gpa=MIB)
        byte = self.qmp.command('memsched-translate', id='web', gpa=MIB + 123)
        self.assertEqual(page.get('pfn'), byte.get('pfn'))

    def test_two_guests_share_no_frame(self):
        frames = [self.qmp.command('memsched-translate', id=name,
                                   gpa=MIB).get('pfn')
                  for name in ('web', 'db')]
        if None not in frames:
            self.assertNotEqual(*frames)

    def test_addresses_without_ram_are_refused(self):
        for gpa in (256 * MIB, 0xfee00000, 1 << 40, (1 << 64) - 1,
                    (1 << 64) - 4096):
            self.refused('', 'memsched-translate', id='web', gpa=gpa)

    def test_unknown_guest_is_named(self):
        self.refused("'nobody'", 'memsched-translate', id='nobody', gpa=0)


class Authority(Live):
    """What a guest's own monitor may know."""

    def test_commands_about_the_host_are_refused(self):
        for command, arguments in (
                ('query-memsched', {}), ('memsched-check', {}),
                ('memsched-set', {'interval': 50}),
                ('memsched-set-guest', {'id': 'web', 'shares': 9}),
                ('memsched-set-guest', {'id': 'db', 'shares': 9}),
                ('memsched-reallocate', {'from': 'db', 'to': 'web',
                                         'size': MIB}),
                ('memsched-reallocate', {'from': 'web', 'to': 'db',
                                         'size': MIB})):
            self.refused(f'{command} concerns the whole host; use the '
                         'monitor of instance 0', command, self.web.qmp,
                         **arguments)

    def test_guests_show_that_guest_alone(self):
        guests = self.web.qmp.command('query-memsched-guests')
        self.assertEqual([guest['id'] for guest in guests], ['web'])
        self.assertEqual(guests[0]['memory']['ram'], 256 * MIB)

    def test_translate_shows_no_address_and_no_frame(self):
        for arguments in ({}, {'id': 'web'}):
            found = self.web.qmp.command('memsched-translate', gpa=MIB,
                                         **arguments)
            self.assertEqual(set(found), {'block', 'offset', 'state', 'huge'})
            self.assertEqual(found['offset'], MIB)

    def test_neighbour_and_nobody_are_answered_alike(self):
        texts = {self.refused('', 'memsched-translate', self.web.qmp, id=name,
                              gpa=MIB) for name in ('db', 'nobody')}
        self.assertEqual(texts, {"This monitor shows guest 'web' only"})

    def test_transfers_leave_the_neighbour_out(self):
        answer = self.qmp.command('memsched-reallocate', **{'from': 'web'},
                                  to='db', size=MIB, deadline=2000)
        self.process.wait_end(answer['id'])
        for guest, known in ((self.web, 'from'), (self.db, 'to')):
            listed = [t for t in
                      guest.qmp.command('query-memsched-transfers')
                      if t['id'] == answer['id']][0]
            self.assertEqual(listed[known], guest.name)
            self.assertEqual({'from', 'to', 'reason'} & set(listed), {known})

    def test_human_monitor_obeys_too(self):
        self.assertIn('concerns the whole host',
                      self.web.qmp.hmp('info memsched'))
        self.assertIn('concerns the whole host',
                      self.web.qmp.hmp('memsched_reallocate db web 1'))
        table = self.web.qmp.hmp('info memsched-guests')
        self.assertIn('web', table)
        self.assertNotIn('db', table)

    def test_second_scheduler_in_a_guest_is_refused(self):
        self.refused("give it to instance 0, not to guest 'web'",
                     'object-add', self.web.qmp, qom_type='memsched',
                     id='mine', pool=MIB)

    def test_no_event_of_the_scheduler_reaches_a_guest(self):
        self.web.qmp.command('query-status')
        names = [event['event'] for event in self.web.qmp.events]
        self.assertEqual([n for n in names if n.startswith('MEMSCHED')], [])


class States(Live):
    def wait_state(self, name, state):
        return self.qmp.wait_event(
            'MEMSCHED_GUEST_STATE', lambda data: data['id'] == name and
            data['state'] == state, timeout=60)['data']

    def test_guest_that_cannot_start_fails_with_a_message(self):
        self.qmp.command('object-add', qom_type='guest', id='bad',
                         args=['-device', 'no-such-device'])
        data = self.wait_state('bad', 'failed')
        self.assertIn('no-such-device', data['message'])
        info = self.process.info('bad')
        self.assertEqual(info['state'], 'failed')
        self.assertEqual(info['message'], data['message'])
        self.assertNotIn('memory', info)
        self.assertIn('failed', self.qmp.hmp('info memsched-guests'))
        self.qmp.command('object-del', id='bad')

    def test_guest_comes_and_goes_with_events(self):
        guest = Guest('brief', self.process.folder, 64, boot=False)
        self.process.start(guest, 0)
        self.wait_state('brief', 'loading')
        self.wait_state('brief', 'running')
        self.process.wait_up(guest)
        self.assertEqual(self.process.info('brief')['state'], 'running')
        guest.qmp.command('quit')
        self.wait_state('brief', 'stopped')
        self.assertEqual(self.process.info('brief')['state'], 'stopped')
        self.process.remove(guest)
        self.process.check()

    def test_taken_id_is_refused(self):
        self.refused('', 'object-add', qom_type='guest', id='web',
                     args=['-M', 'none'])
        self.assertEqual(self.process.info('web')['state'], 'running')


class Speed(Live):
    def test_queries_do_not_wait_for_a_stopped_guest(self):
        self.web.qmp.command('stop')
        try:
            for command in ('query-memsched', 'query-memsched-guests',
                            'query-memsched-transfers'):
                took = []
                for _ in range(20):
                    start = time.monotonic()
                    self.qmp.command(command)
                    took.append(time.monotonic() - start)
                # The median: a busy machine may take this test its CPU.
                self.assertLess(sorted(took)[10], 0.1, command)
        finally:
            self.web.qmp.command('cont')


if __name__ == '__main__':
    tap.main()
