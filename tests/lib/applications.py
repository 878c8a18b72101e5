# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests with balloon applications: the agent over a virtio-serial port."""

from lib import guests, scenario
from lib.guests import MIB

AGENT = 'balloon-exd-static'
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


__all__ = ['AGENT', 'MIB', 'PORT', 'TwoGuestsWithAgents', 'agent_of',
           'applications', 'start_agent']
