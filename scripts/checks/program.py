# SPDX-License-Identifier: GPL-2.0-or-later
"""Run test programs, some at a time, each with a time limit and a log."""

import os
import queue
import re
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from .tap import Outcome, judge

TOP = Path(__file__).resolve().parents[2]
LOGS = TOP / 'build' / 'logs' / 'tests'


@dataclass
class Program:
    name: str
    argv: list
    env: dict = field(default_factory=dict)
    cwd: Path = TOP
    timeout: float = 300
    alone: bool = False


def log_path(group, name):
    return LOGS / group / (re.sub(r'[^\w.-]+', '_', name) + '.log')


def run_one(group, program):
    """(Outcome, seconds).  The whole process group ends with the limit."""
    log = log_path(group, program.name)
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with open(log, 'wb') as out:
        try:
            process = subprocess.Popen(
                [str(a) for a in program.argv], stdin=subprocess.DEVNULL,
                stdout=out, stderr=subprocess.STDOUT, cwd=program.cwd,
                env={**os.environ, **program.env}, start_new_session=True)
        except OSError as error:
            return Outcome(failed=[(program.name, str(error))]), 0
        try:
            status = process.wait(timeout=program.timeout)
            late = False
        except subprocess.TimeoutExpired:
            late = True
        # Whatever a test left behind ends with it.
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        if late:
            process.wait()
    seconds = time.monotonic() - start
    if late:
        return Outcome(failed=[(program.name, 'more than '
                                f'{program.timeout:.0f} s')]), seconds
    text = log.read_text(encoding='utf-8', errors='replace')
    return judge(program.name, status, text), seconds


def report(group, number, total, program, outcome, seconds):
    verdict = 'FAIL' if outcome.failed else \
        'skip' if outcome.skipped and not outcome.passed else 'ok'
    print(f'[{group}] {number}/{total} {program.name}: {verdict} '
          f'({outcome.passed} passed, {seconds:.1f} s)', flush=True)
    for name, reason in outcome.skipped:
        print(f'    skipped {name}: {reason}', flush=True)
    for name, reason in outcome.failed:
        print(f'    FAILED {name}: {reason}', flush=True)
    if outcome.failed:
        log = log_path(group, program.name)
        print(f'    log: {log.relative_to(TOP)}', flush=True)


def run_all(group, programs, jobs, retry=None):
    """Run the programs, those marked alone after the others.  retry(program,
    outcome) may replace the outcome of a failure."""
    total, done = Outcome(), [0]
    lock = threading.Lock()

    def work(todo):
        while True:
            try:
                program = todo.get_nowait()
            except queue.Empty:
                return
            outcome, seconds = run_one(group, program)
            if outcome.failed and retry:
                outcome = retry(program, outcome)
            with lock:
                done[0] += 1
                total.add(outcome)
                report(group, done[0], len(programs), program, outcome,
                       seconds)

    for alone, width in ((False, jobs), (True, 1)):
        todo = queue.Queue()
        for program in programs:
            if program.alone == alone:
                todo.put(program)
        threads = [threading.Thread(target=work, args=(todo,))
                   for _ in range(width)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return total
