# SPDX-License-Identifier: GPL-2.0-or-later
"""A small QMP client over a Unix socket.

One command at a time; events that arrive meanwhile are kept in the order of
their arrival.  Every wait has a limit."""

import json
import socket
import time


class QmpError(Exception):
    """The answer was an error; the text is QEMU's own sentence."""

    def __init__(self, command, error):
        super().__init__(error.get('desc', str(error)))
        self.command = command
        self.error_class = error.get('class')


class QmpTimeout(Exception):
    """No answer, or not the event that was waited for, in time."""


class QmpClosed(Exception):
    """The other side has gone."""


class Qmp:
    def __init__(self, path, timeout=10.0, oob=False):
        """Connects, waiting up to @timeout for the socket to appear."""
        self.timeout = timeout
        self.events = []
        self._rest = b''
        self._socket = self._connect(path, time.monotonic() + timeout)
        self.greeting = self._receive(timeout)
        enable = {'enable': ['oob']} if oob else {}
        self.command('qmp_capabilities', **enable)

    @staticmethod
    def _connect(path, deadline):
        while True:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.connect(str(path))
                return sock
            except (FileNotFoundError, ConnectionRefusedError):
                sock.close()
                if time.monotonic() > deadline:
                    raise QmpTimeout(f'nobody listens on {path}') from None
                time.sleep(0.02)

    def receive(self, timeout=None):
        """The next message, whatever it is."""
        return self._receive(timeout or self.timeout)

    def _receive(self, timeout):
        """One message; blank lines between messages are skipped."""
        deadline = time.monotonic() + timeout
        while True:
            line, newline, rest = self._rest.partition(b'\n')
            if newline:
                self._rest = rest
                if line.strip():
                    return json.loads(line)
                continue
            left = deadline - time.monotonic()
            if left <= 0:
                raise QmpTimeout(f'no answer within {timeout:g} s')
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                continue
            except ConnectionError as error:
                raise QmpClosed(str(error)) from None
            if not data:
                raise QmpClosed('the monitor has closed the connection')
            self._rest += data

    def send(self, message):
        """Send @message as it is, and wait for nothing."""
        try:
            self._socket.sendall(json.dumps(message).encode() + b'\n')
        except ConnectionError as error:
            raise QmpClosed(str(error)) from None

    def execute(self, message, timeout=None):
        """Send @message as it is, and return the whole answer to it."""
        self.send(message)
        while True:
            answer = self._receive(timeout or self.timeout)
            if 'event' in answer:
                self.events.append(answer)
            elif 'QMP' not in answer:
                return answer
            # A client that connects while QEMU sets the monitor up may be
            # greeted twice.

    def command(self, name, /, **arguments):
        """Returns what the command returns, or raises QmpError.  A hyphen in
        the name of an argument is written as an underscore."""
        arguments = {key.replace('_', '-'): value
                     for key, value in arguments.items()}
        message = {'execute': name}
        if arguments:
            message['arguments'] = arguments
        answer = self.execute(message)
        if 'error' in answer:
            raise QmpError(name, answer['error'])
        return answer['return']

    def hmp(self, line):
        """What the human monitor prints."""
        text = self.command('human-monitor-command', command_line=line)
        return text.replace('\r\n', '\n')

    def wait_event(self, name, match=lambda data: True, timeout=None):
        """The first event @name whose data match, already arrived or yet to
        come; it is taken out of self.events."""
        limit = timeout or self.timeout
        deadline = time.monotonic() + limit
        seen = 0
        while True:
            for event in self.events[seen:]:
                if event['event'] == name and match(event.get('data', {})):
                    self.events.remove(event)
                    return event
            seen = len(self.events)
            left = deadline - time.monotonic()
            if left <= 0:
                raise QmpTimeout(f'no event {name} within {limit:g} s')
            try:
                self.events.append(self._receive(left))
            except QmpTimeout:
                raise QmpTimeout(f'no event {name} within {limit:g} s') \
                    from None

    def close(self):
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
