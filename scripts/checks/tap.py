# SPDX-License-Identifier: GPL-2.0-or-later
"""What a test program said: TAP where it speaks it, else its exit status."""

import re
from dataclasses import dataclass, field

SKIP_STATUS = 77

LINE = re.compile(r'^\s*(not ok|ok)\b\s*(\d*)\s*(?:- )?(.*)$')
PLAN = re.compile(r'^\s*1\.\.(\d+)(?:\s*#\s*SKIP\b\s*(.*))?', re.I)
BAIL = re.compile(r'^\s*Bail out!\s*(.*)$')
SAID = re.compile(r'^\s*#\s*(\S.*)$')
DIRECTIVE = re.compile(r'#\s*(SKIP|TODO)\b:?\s*(.*)$', re.I)


@dataclass
class Outcome:
    """Counts of one program; skips and failures by name with the reason."""
    passed: int = 0
    failed: list = field(default_factory=list)
    skipped: list = field(default_factory=list)

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else 'no output'


def parse(name, text):
    """The TAP lines of a program, or None where it prints none."""
    outcome, plan, count, said = Outcome(), None, 0, ''
    for line in text.splitlines():
        bail = BAIL.match(line)
        if bail:
            outcome.failed.append((name, bail.group(1) or 'bailed out'))
            return outcome
        planned = PLAN.match(line)
        if planned:
            plan = int(planned.group(1))
            if plan == 0:
                outcome.skipped.append((name, planned.group(2) or
                                        'has no test for this build'))
            continue
        # What a program says of a result stands before it, and of a Python
        # exception its last line tells most.
        note = SAID.match(line)
        if note:
            said = note.group(1)
        found = LINE.match(line)
        if not found:
            continue
        count += 1
        why, said = said, ''
        title = found.group(3).strip()
        directive = DIRECTIVE.search(title)
        label = f'{name}: {DIRECTIVE.sub("", title).strip()}'
        if directive and directive.group(1).upper() == 'SKIP':
            outcome.skipped.append((label, directive.group(2).strip() or
                                    'no reason given'))
        elif found.group(1) == 'ok' or directive:
            outcome.passed += 1
        else:
            outcome.failed.append((label, why or 'not ok'))
    if plan is None and count == 0:
        return None
    if plan is not None and count != plan:
        outcome.failed.append((name, f'{count} results, {plan} planned'))
    return outcome


def judge(name, status, text):
    """Outcome of a program from its exit status and output.  A status that
    TAP does not explain is a failure of its own."""
    outcome = parse(name, text)
    if status == SKIP_STATUS and (outcome is None or not outcome.failed):
        return Outcome(skipped=[(name, last_line(text))])
    if outcome is None:
        if status == 0:
            return Outcome(passed=1)
        outcome = Outcome()
    if status != 0 and not outcome.failed:
        what = f'signal {-status}' if status < 0 else f'exit status {status}'
        outcome.failed.append((name, f'{what}: {last_line(text)}'))
    return outcome
