# SPDX-License-Identifier: GPL-2.0-or-later
"""Check messages against what query-qmp-schema returns."""


class Schema:
    def __init__(self, entries):
        self.types = {e['name']: e for e in entries
                      if e['meta-type'] not in ('command', 'event')}
        self.commands = {e['name']: e for e in entries
                         if e['meta-type'] == 'command'}
        self.events = {e['name']: e for e in entries
                       if e['meta-type'] == 'event'}

    def check_command(self, message):
        """What is wrong with a command, in words; nothing: an empty list."""
        name = message.get('execute', message.get('exec-oob'))
        command = self.commands.get(name)
        if not command:
            return [f'no command {name}']
        if 'exec-oob' in message and not command.get('allow-oob'):
            return [f'{name} does not work out of band']
        return self.check(message.get('arguments', {}), command['arg-type'],
                          name)

    def check_return(self, name, value):
        return self.check(value, self.commands[name]['ret-type'], name)

    def check_event(self, message):
        event = self.events.get(message['event'])
        if not event:
            return [f'no event {message["event"]}']
        return self.check(message.get('data', {}), event['arg-type'],
                          message['event'])

    def check(self, value, type_name, where):
        entry = self.types[type_name]
        return getattr(self, '_' + entry['meta-type'])(value, entry, where)

    def _object(self, value, entry, where):
        if not isinstance(value, dict):
            return [f'{where} is no object']
        wrong = []
        members = {m['name']: m for m in entry['members']}
        for name in value.keys() - members.keys():
            wrong.append(f'{where} has no member {name}')
        for name, member in members.items():
            if name in value:
                wrong += self.check(value[name], member['type'],
                                    f'{where}.{name}')
            elif 'default' not in member:
                wrong.append(f'{where}.{name} is missing')
        return wrong

    def _array(self, value, entry, where):
        if not isinstance(value, list):
            return [f'{where} is no list']
        return [text for i, item in enumerate(value) for text in
                self.check(item, entry['element-type'], f'{where}[{i}]')]

    def _enum(self, value, entry, where):
        words = [m['name'] for m in entry['members']]
        return [] if value in words else [f'{where}: {value} is none of '
                                          + ', '.join(words)]

    def _builtin(self, value, entry, where):
        kind = entry['json-type']
        right = {'string': isinstance(value, str),
                 'int': isinstance(value, int) and
                 not isinstance(value, bool),
                 'boolean': isinstance(value, bool),
                 'number': isinstance(value, (int, float)) and
                 not isinstance(value, bool),
                 'null': value is None,
                 'object': isinstance(value, dict),
                 'value': True}[kind]
        return [] if right else [f'{where} is no {kind}']

    def _alternate(self, value, entry, where):
        tried = [self.check(value, m['type'], where)
                 for m in entry['members']]
        return [] if [] in tried else [f'{where} fits no alternative']
