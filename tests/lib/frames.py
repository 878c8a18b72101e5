# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose are the host's page frames, before and after.

Takes what `Process.frames()` gives: {host frame: guest physical address} of
all that a guest holds."""

from .guests import MIB, PAGE, GuestError


class Moved:
    """Host frames that backed one guest before, and back another one now."""

    def __init__(self, before, after, left):
        """@before and @left: the giver's; @after: the taker's."""
        two_owners = set(left) & set(after)
        if two_owners:
            raise GuestError(f'{len(two_owners)} host pages have two owners')
        self.before, self.after = before, after
        self.frames = sorted(set(before) & set(after),
                             key=lambda pfn: before[pfn])

    @property
    def mib(self):
        return len(self.frames) * PAGE // MIB

    def share(self, size):
        """Of so many bytes, how much are the same frames: 0 to 1."""
        return len(self.frames) * PAGE / size

    def samples(self, count):
        """Some of them: (host frame, address before, address after)."""
        step = max(1, len(self.frames) // count)
        return [(pfn, self.before[pfn], self.after[pfn])
                for pfn in self.frames[::step][:count]]
