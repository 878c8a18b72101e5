# SPDX-License-Identifier: GPL-2.0-or-later
"""Run the unittest cases of a file and print TAP, a line as each ends."""

import sys
import unittest


class TapResult(unittest.TestResult):
    def __init__(self):
        super().__init__()
        self.number = 0
        self._subtest_failed = False

    def _line(self, verdict, test, directive=''):
        self.number += 1
        name = test.id().split('.', 1)[-1]
        print(f'{verdict} {self.number} {name}{directive}', flush=True)

    def _broken(self, test, text):
        for line in text.rstrip().splitlines():
            print(f'# {line}')
        self._line('not ok', test)

    def startTest(self, test):
        super().startTest(test)
        self._subtest_failed = False

    def addSuccess(self, test):
        super().addSuccess(test)
        self._line('ok', test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._broken(test, self.failures[-1][1])

    def addError(self, test, err):
        super().addError(test, err)
        self._broken(test, self.errors[-1][1])

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            print(f'# {subtest}: {err[1]}')
            if not self._subtest_failed:
                self._subtest_failed = True
                self._line('not ok', test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._line('ok', test, f' # SKIP {reason}')

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self._line('not ok', test)

    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, err)
        self._line('ok', test)


def main(module='__main__'):
    """For the end of a test file; names of cases may be given."""
    loader = unittest.defaultTestLoader
    names = sys.argv[1:]
    suite = loader.loadTestsFromNames(names, sys.modules[module]) if names \
        else loader.loadTestsFromModule(sys.modules[module])
    result = TapResult()
    suite.run(result)
    print(f'1..{result.number}')
    sys.exit(0 if result.wasSuccessful() else 1)
