# SPDX-License-Identifier: GPL-2.0-or-later
"""memschedctl beside a process: its recording, its table, a picture."""

import json
import signal
import subprocess

from lib.guests import CTL, GuestError

END_S = 30


class Recorded:
    """Records into @path while the block runs, over a monitor of its own.
    With @top, memschedctl's table goes to standard output as well, each
    @top seconds, over another monitor of the process."""

    def __init__(self, process, path, interval=0.25, top=None):
        self.path = path
        self.programs = [self.start(process.watch_path, 'record', path, '-i',
                                    interval)]
        if top:
            self.programs.append(self.start(process.top_path, 'top', '--batch',
                                            '-i', top, '-w', 100))

    @staticmethod
    def start(socket, *words):
        return subprocess.Popen([str(w) for w in (CTL, '-s', socket, *words)],
                                stdin=subprocess.DEVNULL)

    def samples(self):
        """What is there so far, whole lines only."""
        text = self.path.read_text(encoding='utf-8')
        return [json.loads(line) for line in text.split('\n')[:-1]]

    def end(self):
        programs, self.programs = self.programs, []
        for program in programs:
            if program.poll() is None:
                program.send_signal(signal.SIGINT)
        for program in programs:
            if program.wait(END_S):
                raise GuestError('memschedctl ended with status '
                                 f'{program.returncode}')

    def __enter__(self):
        return self

    def __exit__(self, kind, *exc):
        try:
            self.end()
        except GuestError:
            if kind is None:
                raise


def draw(recording, picture, title):
    """A picture, or a page where the name ends in .html."""
    if subprocess.call([str(w) for w in (CTL, 'plot', recording, '-o', picture,
                                         '--title', title)]):
        raise GuestError(f'{picture} could not be drawn')
