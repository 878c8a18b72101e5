# SPDX-License-Identifier: GPL-2.0-or-later
"""Find the QEMU source, and unpack it untouched into the build tree."""

import hashlib
import os
import re
import shutil
import tarfile
from pathlib import Path

from .common import (BUILD, QEMU_SRC, SetupError, read_json, say, version_key,
                     write_json)

SERIES = '10.0.'
RECORD = BUILD / 'qemu-source.json'


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        for block in iter(lambda: file.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()


def tree_sha256(folder):
    """One checksum for a folder: names and contents, version control and
    build folders left out."""
    digest = hashlib.sha256()
    for root, dirs, files in os.walk(folder):
        dirs[:] = sorted(d for d in dirs if d not in ('.git', 'build'))
        for name in sorted(files):
            path = os.path.join(root, name)
            if not os.path.islink(path):
                digest.update(os.path.relpath(path, folder).encode() + b'\0')
                digest.update(bytes.fromhex(sha256_of(path)))
    return digest.hexdigest()


def tarball_version(path):
    found = re.search(r'qemu[-_](\d+\.\d+\.\d+)', Path(path).name)
    return found.group(1) if found else ''


def newest_cached(cache):
    found = [p for p in cache.glob('qemu[-_]*.tar.*')
             if tarball_version(p).startswith(SERIES)
             and not p.name.endswith(('.part', '.asc'))
             and '.debian.' not in p.name]
    return max(found, key=lambda p: version_key(tarball_version(p)),
               default=None)


def fetch(apt, cache):
    """The newest 10.0.x of the distribution's source packages."""
    versions = {}
    for version, sums in apt.source_versions('qemu').items():
        number = re.search(r'(?:\d+:)?(10\.0\.\d+)', version)
        if number:
            versions[version] = (version_key(number.group(1)), sums)
    order = sorted(versions, key=lambda v: versions[v][0], reverse=True)
    for version in order:
        try:
            apt.fetch_tarball('qemu', version, cache)
        except SetupError as error:
            say(f'{version} cannot be had ({error})')
            continue
        for name, expected in versions[version][1].items():
            path = cache / name
            if '.orig.tar' in name and path.is_file() and \
               not name.endswith('.asc'):
                if sha256_of(path) == expected:
                    return path
                path.unlink()
    raise SetupError('no source package of qemu ' + SERIES + 'x was found: '
                     'use --qemu-source=DIR or TARBALL.')


def locate(given, cache, apt):
    if given:
        path = Path(given).expanduser().resolve()
        if not path.exists():
            raise SetupError(f'--qemu-source={given} does not exist.')
        return path
    cache.mkdir(parents=True, exist_ok=True)
    return newest_cached(cache) or fetch(apt, cache)


def unpack(path, target):
    """A pristine copy of a folder or tarball at target."""
    part = target.with_name(target.name + '.part')
    shutil.rmtree(part, ignore_errors=True)
    if path.is_dir():
        shutil.copytree(path, part, symlinks=True,
                        ignore=shutil.ignore_patterns('.git', 'build'))
    else:
        part.mkdir(parents=True)
        with tarfile.open(path) as archive:
            if hasattr(tarfile, 'data_filter'):
                archive.extraction_filter = tarfile.data_filter
            archive.extractall(part)
        inside = list(part.iterdir())
        if len(inside) != 1:
            raise SetupError(f'{path} is not a QEMU source archive.')
        top = inside[0]
        moved = part.with_name(part.name + '.top')
        shutil.rmtree(moved, ignore_errors=True)
        top.rename(moved)
        part.rmdir()
        moved.rename(part)
    try:
        version = (part / 'VERSION').read_text(encoding='utf-8').strip()
    except OSError as error:
        raise SetupError(f'{path} is not a QEMU source.') from error
    if not version.startswith(SERIES):
        raise SetupError(f'{path} is QEMU {version}: 10.0.x is needed.')
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    return version


def ensure(given, cache, apt):
    """Have an unpacked source; returns its record."""
    record = read_json(RECORD)
    if record and record['given'] == (given or '') and QEMU_SRC.is_dir():
        return record
    path = locate(given, cache, apt)
    say(f'unpacking {path.name}')
    RECORD.unlink(missing_ok=True)
    shutil.rmtree(BUILD / 'pristine', ignore_errors=True)
    version = unpack(path, QEMU_SRC)
    digest = tree_sha256(path) if path.is_dir() else sha256_of(path)
    record = {'given': given or '', 'name': path.name, 'version': version,
              'sha256': digest}
    write_json(RECORD, record)
    return record
