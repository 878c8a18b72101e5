# SPDX-License-Identifier: GPL-2.0-or-later
"""A QMP server that a test fills with answers; no QEMU in it."""

import json
import os
import socket
import tempfile
import threading


class FakeQmp:
    """Answers each command by calling answer(name, arguments), which returns
    the whole answer, or a list of messages that are sent in this order; None
    closes the connection."""

    def __init__(self, answer):
        self.answer = answer
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, 'qmp')
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(self.path)
        self.socket.listen(1)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        try:
            client, _ = self.socket.accept()
        except OSError:
            return
        with client, client.makefile('rw', encoding='utf-8') as file:
            self._talk(file)

    def _talk(self, file):
        greeting = {'QMP': {'version': {}, 'capabilities': ['oob']}}
        file.write(json.dumps(greeting) + '\r\n')
        file.flush()
        for line in file:
            message = json.loads(line)
            name = message.get('execute') or message.get('exec-oob')
            answer = {'return': {}} if name == 'qmp_capabilities' else \
                self.answer(name, message.get('arguments', {}))
            if answer is None:
                return
            for part in answer if isinstance(answer, list) else [answer]:
                file.write(json.dumps(part) + '\r\n')
            file.flush()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.socket.close()
        self.thread.join(timeout=10)
        self.folder.cleanup()
