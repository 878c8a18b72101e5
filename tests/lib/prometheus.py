# SPDX-License-Identifier: GPL-2.0-or-later
"""A strict reader of Prometheus' text format, version 0.0.4: what a lenient
one lets pass is an error here, and so is what its guide to names advises
against."""

import re

NAME = re.compile(r'[a-zA-Z_:][a-zA-Z0-9_:]*')
LABEL = re.compile(r'[a-zA-Z_][a-zA-Z0-9_]*')
NUMBER = re.compile(r'[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?Inf|NaN')
ESCAPES = {'\\': '\\', '"': '"', 'n': '\n'}
TYPES = ('counter', 'gauge', 'histogram', 'summary', 'untyped')
# Anything else is not a base unit.
NOT_BASE = re.compile(r'_(ns|us|ms|nanoseconds|microseconds|milliseconds|'
                      r'minutes|hours|kb|kib|mb|mib|gb|gib|kilobytes|megabytes|'
                      r'mebibytes|pages|percent|permille)(_|$)')


class FormatError(Exception):
    pass


class Metric:
    def __init__(self, name, about):
        self.name, self.about, self.kind = name, about, None
        self.samples = {}           # {((label, value), ...): number}


class Reader:
    def __init__(self):
        self.metrics, self.current = {}, None

    def help(self, rest):
        name, _, about = rest.partition(' ')
        if not NAME.fullmatch(name):
            raise FormatError('no name of a metric')
        if name in self.metrics:
            raise FormatError('it is there twice, or its lines are apart')
        if not about or re.search(r'\\(?![\\n])', about):
            raise FormatError('its help is empty, or has a wrong escape')
        self.current = self.metrics[name] = Metric(name, about)

    def type(self, rest):
        name, _, kind = rest.partition(' ')
        if not self.current or name != self.current.name:
            raise FormatError('a type apart from its help')
        if self.current.kind or self.current.samples:
            raise FormatError('a type that comes again, or late')
        if kind not in TYPES:
            raise FormatError('no such type')
        if (kind == 'counter') != name.endswith('_total'):
            raise FormatError('counters, and only they, end in _total')
        if NOT_BASE.search(name):
            raise FormatError('not a base unit')
        self.current.kind = kind

    def labels(self, text):
        """(labels in their order, what is behind the brace)"""
        found, at = [], 1
        while True:
            label = LABEL.match(text, at)
            if not label or label[0].startswith('__'):
                raise FormatError('no name of a label')
            if label[0] in dict(found):
                raise FormatError('a label that comes twice')
            if text[label.end():label.end() + 2] != '="':
                raise FormatError('no value of a label')
            value, at = self.quoted(text, label.end() + 2)
            found.append((label[0], value))
            if text[at:at + 1] == '}':
                return tuple(found), text[at + 1:]
            if text[at:at + 1] != ',':
                raise FormatError('neither a comma nor a brace')
            at += 1

    @staticmethod
    def quoted(text, at):
        value = ''
        while text[at:at + 1] != '"':
            if at >= len(text):
                raise FormatError('a value without an end')
            if text[at] == '\\':
                at += 1
                if text[at:at + 1] not in ESCAPES:
                    raise FormatError('a wrong escape')
                value += ESCAPES[text[at]]
            else:
                value += text[at]
            at += 1
        return value, at + 1

    def sample(self, line):
        name = NAME.match(line)
        if not name or not self.current or name[0] != self.current.name:
            raise FormatError('a sample apart from its metric')
        if not self.current.kind:
            raise FormatError('a sample without a type')
        labels, rest = (), line[name.end():]
        if rest.startswith('{'):
            labels, rest = self.labels(rest)
        if not rest.startswith(' ') or not NUMBER.fullmatch(rest[1:]):
            raise FormatError('no number behind one blank')
        key = tuple(sorted(labels))
        if key in self.current.samples:
            raise FormatError('the same labels twice')
        number = float(rest[1:].replace('Inf', 'inf'))
        if self.current.kind == 'counter' and not number >= 0:
            raise FormatError('a counter below 0')
        self.current.samples[key] = number

    def line(self, line):
        if line.startswith('# HELP '):
            self.help(line[7:])
        elif line.startswith('# TYPE '):
            self.type(line[7:])
        elif line:
            self.sample(line)


def parse(text):
    """{name: Metric}; FormatError names the line."""
    reader = Reader()
    if not text.endswith('\n') or '\r' in text:
        raise FormatError('the last line has no end, or lines end in \\r')
    for number, line in enumerate(text.split('\n')[:-1], 1):
        try:
            reader.line(line)
        except FormatError as error:
            raise FormatError(f'line {number}: {error}: {line}') from None
    for metric in reader.metrics.values():
        if not metric.samples:
            raise FormatError(f'{metric.name} has no sample')
    return reader.metrics
