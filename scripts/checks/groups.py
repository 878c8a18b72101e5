# SPDX-License-Identifier: GPL-2.0-or-later
"""The groups of tests/groups.json, and what programs each consists of.

level     fast (own code, no QEMU), check, or long; a level includes those
          before it
kind      files: each file that a pattern matches is a program
          meson: tests of our own meson build, with "options" in a folder of
          its own
          qtest: QEMU's x86_64 qtests, ours among them, on our launcher;
          "exceptions" names a list of those left out, "special" gives some
          other arguments
env, timeout, alone    for each program; alone: never beside another one

A program prints TAP, or nothing and says it with its exit status: 0 passed,
77 skipped with the reason in its last line, anything else failed."""

import json
import os
import subprocess
import sys
from pathlib import Path

from .program import TOP, Program
from .tap import Outcome

sys.path.insert(0, str(TOP / 'scripts'))
from setup import builds  # noqa: E402
from setup.common import TOOLS  # noqa: E402

LEVELS = ['fast', 'check', 'long']


def load(level, names):
    groups = json.loads((TOP / 'tests/groups.json').read_text())['groups']
    if names:
        known = [g['name'] for g in groups]
        for name in names:
            if name not in known:
                raise SystemExit(f'no group {name}: there are '
                                 + ', '.join(known))
        return [g for g in groups if g['name'] in names]
    width = LEVELS.index(level)
    return [g for g in groups if LEVELS.index(g['level']) <= width]


def ninja(build, targets=()):
    env = builds.environment()
    quiet = ['--quiet'] if not sys.stdout.isatty() else []
    return subprocess.call(['ninja', '-C', str(build), *quiet, *targets],
                           env=env) == 0


def introspected(build, what='tests'):
    path = Path(build) / f'meson-info/intro-{what}.json'
    return json.loads(path.read_text(encoding='utf-8'))


def files_of(build, tests):
    """Of the build, what these tests are and what they run, as Ninja names
    them: test programs are not among what a plain build makes."""
    wanted = {target for test in tests for target in test['depends']}
    return sorted(os.path.relpath(name, build)
                  for target in introspected(build, 'targets')
                  if target['id'] in wanted for name in target['filename'])


def file_programs(group):
    found = sorted({path for pattern in group['files']
                    for path in TOP.glob(pattern)})
    programs = []
    for path in found:
        argv = [sys.executable, path] if path.suffix == '.py' else [path]
        programs.append(Program(path.name, argv, dict(group.get('env', {})),
                                timeout=group.get('timeout', 300),
                                alone=group.get('alone', False)))
    return programs


def meson_programs(group):
    build = TOP / group['build']
    builds.configure_own_in(build, TOOLS / 'meson', group.get('options', []))
    if not ninja(build, ['build.ninja']):
        return None
    tests = [test for test in introspected(build) if set(group['suites']) &
             {suite.split(':')[-1] for suite in test['suite']}]
    if tests and not ninja(build, files_of(build, tests)):
        return None
    return [Program(test['name'], test['cmd'],
                    {**test['env'], **group.get('env', {})},
                    cwd=test['workdir'] or build,
                    timeout=group.get('timeout', test['timeout'] *
                                      (3 if 'options' in group else 1)),
                    alone=not test['is_parallel']) for test in tests]


def exceptions(path):
    """{name: reason}: one a line, the name and then why."""
    found = {}
    for line in (TOP / path).read_text(encoding='utf-8').splitlines():
        if line.strip() and not line.startswith('#'):
            name, reason = line.split(None, 1)
            found[name] = reason
    return found


def qtest_programs(group):
    """QEMU's qtests with our launcher in the place of its executable."""
    build = TOP / 'build/qemu'
    left_out = exceptions(group['exceptions'])
    tests = [t for t in introspected(build)
             if any(s.endswith('qtest-x86_64') for s in t['suite'])]
    skipped, programs = [], []
    for test in sorted(tests, key=lambda t: -t['priority']):
        name = test['name'].split('/')[-1]
        if name in left_out:
            skipped.append((name, left_out[name]))
            continue
        special = group.get('special', {}).get(name)
        argv = test['cmd']
        if special:
            argv = [*(TOP / p for p in special.get('prefix', [])), argv[0],
                    *special['arguments']]
            print(f'    {name}: a part only, {special["why"]}', flush=True)
        env = dict(test['env'])
        env['QTEST_QEMU_BINARY'] = str(TOP / 'build/qemu-system-x86_64')
        programs.append(Program(name, argv, env, cwd=build,
                                timeout=test['timeout'] or 300))
    targets = {os.path.relpath(t['cmd'][0], build) for t in tests}
    if not ninja(build, [*sorted(targets), 'qemu-img']):
        return None
    return programs, Outcome(skipped=skipped)


def plain(program):
    """The same test on upstream's executable of the same build."""
    env = dict(program.env, QTEST_QEMU_BINARY=str(
        TOP / 'build/qemu/qemu-system-x86_64'))
    return Program(program.name + '-plain', program.argv, env,
                   program.cwd, program.timeout)
