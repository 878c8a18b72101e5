# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests with balloon applications: the agent over a virtio-serial port."""

from lib import guests, scenario
from lib.guests import MIB

AGENT = 'balloon-exd-static'
DEADLINE_MS = 180000
PORT = ['-device', 'virtio-serial', '-device', 'balloon-ex-port']


def start_agent(guest, *options):
    """Returns when its socket is there, which it makes when it runs."""
    words = ' '.join(options)
    guest.sh(f'{AGENT} --verbose {words} >/run/agent.log 2>&1 & echo $! '
             '>/run/agent.pid')
    guests.wait_for(f'{guest.name}: the agent', lambda: guest.sh(
        'test -S /run/balloon-ex/socket && echo yes || echo no').strip() == 'yes')


def applications(process, guest):
    return process.info(guest.name).get('applications') or {}


def agent_of(process, guest):
    """What the host knows of the guest's agent, None if nothing."""
    for entry in applications(process, guest).get('list', []):
        if entry.get('agent'):
            return entry
    return None


class TwoGuestsWithAgents(scenario.TwoGuests):
    GUEST = {'initramfs': 'initramfs-applications', 'extra': PORT}
    AGENT_OPTIONS = ('--keep-available=64M',)

    @classmethod
    def ready(cls, name):
        guest = super().ready(name)
        start_agent(guest, *cls.AGENT_OPTIONS)
        guests.wait_for(f'{name}: the host knows the agent',
                        lambda: agent_of(cls.process, guest))
        return guest


class AgentsThatGive(TwoGuestsWithAgents):
    """Transfers by their agents alone."""

    def setUp(self):
        """Each begins with agents and balloons that hold nothing."""
        super().setUp()
        for guest in (self.a, self.b):
            guest.qmp.command('balloon', value=guest.memory)
            entry = agent_of(self.process, guest)
            if entry is None:
                self.agent(guest)
            elif entry['reserved']:
                self.settle(guest)
        for guest in (self.a, self.b):
            guests.wait_for(
                f'{guest.name}\'s balloon is empty', lambda g=guest:
                self.process.memory(g.name)['balloon']['actual'] == 0)

    def agent(self, guest):
        start_agent(guest, *self.AGENT_OPTIONS)
        guests.wait_for(f'{guest.name}: the host knows the agent',
                        lambda: agent_of(self.process, guest))

    def by_application(self, giver, taker, mib):
        self.room(taker, mib)
        self.give(giver, mib + 32)
        # A busy machine's guests take their time; it ends when all is there.
        transfer = self.process.move(giver, taker, mib, source='application',
                                     deadline=DEADLINE_MS,
                                     limit=DEADLINE_MS / 1000 + 30)
        self.assertCompleted(transfer)
        return transfer

    def tags(self, guest):
        return applications(self.process, guest)['tags']

    def credited(self, guest):
        entry = agent_of(self.process, guest)
        return entry['captured'] if entry else 0

    def settle(self, guest):
        """Everything that the guest's applications have given is back."""
        guest.sh('kill -9 $(cat /run/agent.pid); true')
        guests.wait_for(f'{guest.name}: the host has lost the agent',
                        lambda: agent_of(self.process, guest) is None)
        self.agent(guest)

    def agent_area(self, guest):
        """Where the agent's largest locked area begins."""
        return int(guest.sh(
            'awk \'/^[0-9a-f]+-/ {range=$1} /^Locked:/ {if ($2 > best) '
            '{best=$2; area=range}} END {print area}\' '
            '/proc/$(cat /run/agent.pid)/smaps').split('-')[0], 16)


__all__ = ['AGENT', 'AgentsThatGive', 'MIB', 'PORT', 'TwoGuestsWithAgents',
           'agent_of', 'applications', 'start_agent']
