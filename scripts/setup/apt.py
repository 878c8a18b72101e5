# SPDX-License-Identifier: GPL-2.0-or-later
"""A private apt: the machine's mirrors and keys, further suites, and lists and
downloads of its own inside the build tree.  Changes nothing of the machine."""

import os
import re

from .common import BUILD, SetupError, output_of, run_logged

# Tried after what the machine has configured.
FURTHER_SUITES = ['trixie', 'trixie-updates', 'bookworm-backports']


def machine_entries():
    """(uri, suite, keys) of each Debian suite that the machine uses."""
    text = output_of(['apt-get', 'indextargets', 'Created-By: Packages'])
    if text is None:
        raise SetupError('apt is missing: use --qemu-source=DIR.')
    release = re.search(r'^VERSION_CODENAME=(\w+)',
                        open('/etc/os-release', encoding='utf-8').read(), re.M)
    names = [release.group(1)] if release else []
    names += ['stable', 'oldstable', 'testing']
    entries = []
    for stanza in text.split('\n\n'):
        field = dict(re.findall(r'^([\w-]+): (.*)$', stanza, re.M))
        suite = field.get('Release', '')
        if field.get('Component') != 'main' or \
           suite.split('-')[0] not in names:
            continue
        entry = (field['Repo-URI'], suite, field.get('Signed-By', ''))
        if entry not in entries:
            entries.append(entry)
    if not entries:
        raise SetupError('apt has no Debian suite configured: use '
                         '--qemu-source=DIR.')
    return entries


def sources_list():
    entries = machine_entries()
    base = next((e for e in entries if '-' not in e[1]), entries[0])
    seen = {suite for _, suite, _ in entries}
    configured = len(entries)
    entries += [(base[0], suite, base[2]) for suite in FURTHER_SUITES
                if suite not in seen]
    lines = []
    for number, (uri, suite, keys) in enumerate(entries):
        # Keys may be a path, or a whole key that a one-line entry cannot hold.
        option = f' [signed-by={keys}]' if keys.startswith('/') else ''
        lines.append(f'deb-src{option} {uri} {suite} main\n')
        # Programs come from this release or its backports, never from a later
        # one, whose libraries they would need.
        if number < configured or suite.endswith('-backports'):
            lines.append(f'deb{option} {uri} {suite} main\n')
    return ''.join(lines)


class PrivateApt:
    def __init__(self):
        self.home = BUILD / 'apt'
        self.ready = False

    def options(self):
        home = self.home
        return ['-o', f'Dir::Etc::sourcelist={home}/sources.list',
                '-o', 'Dir::Etc::sourceparts=/dev/null',
                '-o', 'Dir::Etc::preferencesparts=/dev/null',
                '-o', f'Dir::State::lists={home}/lists',
                '-o', f'Dir::Cache={home}/cache',
                '-o', 'APT::Sandbox::User=',
                '-o', 'Acquire::Languages=none']

    def update(self):
        if self.ready:
            return
        for name in ('lists/partial', 'cache/archives/partial'):
            os.makedirs(self.home / name, exist_ok=True)
        (self.home / 'sources.list').write_text(sources_list(),
                                                encoding='utf-8')
        # A suite that the mirror does not carry is a warning, not the end.
        run_logged('fetching package lists',
                   ['apt-get', *self.options(), 'update'], 'apt-private.log',
                   'without network, use --qemu-source=DIR.')
        self.ready = True

    def source_versions(self, package):
        """{version: {file name: sha256}} of a source package."""
        self.update()
        text = output_of(['apt-cache', *self.options(), 'showsrc', package])
        found = {}
        for stanza in (text or '').split('\n\n'):
            version = re.search(r'^Version: (\S+)$', stanza, re.M)
            sums = re.search(r'^Checksums-Sha256:\s*\n((?: .*\n?)+)', stanza,
                             re.M)
            if version and sums:
                found[version.group(1)] = {
                    line.split()[2]: line.split()[0]
                    for line in sums.group(1).splitlines() if line.strip()}
        return found

    def fetch_tarball(self, package, version, folder):
        """The tarballs alone: patches of the distribution are not wanted."""
        self.update()
        run_logged(f'fetching {package} {version}',
                   ['apt-get', *self.options(), 'source', '--tar-only',
                    f'{package}={version}'],
                   f'apt-source-{package}.log', 'without network, use '
                   '--qemu-source=DIR.', cwd=folder)

    def binary_versions(self, package):
        self.update()
        text = output_of(['apt-cache', *self.options(), 'show', package])
        return re.findall(r'^Version: (\S+)$', text or '', re.M)

    def fetch_binary(self, package, version, folder):
        self.update()
        run_logged(f'fetching {package} {version}',
                   ['apt-get', *self.options(), 'download',
                    f'{package}={version}'],
                   f'apt-download-{package}.log',
                   f'install {package} by hand.', cwd=folder)
