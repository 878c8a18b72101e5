# SPDX-License-Identifier: GPL-2.0-or-later
"""Lay this tree over the unpacked QEMU source and apply patches/series.

Our files are symbolic links, so that an edit is seen at once and rebuilds only
what depends on it.  A patched file is computed from its untouched copy, kept in
build/pristine, and written only where the result differs: changing one patch
recompiles what that patch touches."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from .common import (BUILD, QEMU_SRC, SetupError, TOP, link_if_changed,
                     read_json, write_if_changed, write_json)

RECORD = BUILD / 'overlay.json'


def our_files(top=TOP):
    """Paths of this tree, relative to its top, that belong over QEMU's."""
    patterns = [line.strip() for line in
                (top / 'patches/overlay.list').read_text().splitlines()
                if line.strip() and not line.startswith('#')]
    found = {path.relative_to(top).as_posix() for pattern in patterns
             for path in top.glob(pattern) if path.is_file()}
    return sorted(name for name in found if not name.endswith(('~', '.orig')))


def series(top=TOP):
    lines = (top / 'patches/series').read_text().splitlines()
    return [top / 'patches' / line.strip() for line in lines
            if line.strip() and not line.startswith('#')]


def files_of(patch):
    """The upstream files that a patch changes.  Patches never add one."""
    names = re.findall(r'^\+\+\+ b/(\S+)', patch.read_text(), re.M)
    if not names:
        raise SetupError(f'{patch.name} changes no file: remove it from '
                         'patches/series.')
    return names


def apply_series(pristine, work, top=TOP):
    """Copy what the series touches from pristine to work, and patch it there.
    Returns the names.  Context must match to the line: no fuzz."""
    patches = series(top)
    names = sorted({name for patch in patches for name in files_of(patch)})
    for name in names:
        if not (pristine / name).is_file():
            raise SetupError(f'patches touch {name}, which this QEMU does not '
                             'have.')
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(pristine / name, work / name)
    for patch in patches:
        done = subprocess.run(
            ['patch', '-p1', '-F0', '-s', '--no-backup-if-mismatch', '-r', '-',
             '-d', str(work), '-i', str(patch)], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            raise SetupError(f'{patch.name} does not apply: refresh it for '
                             f'this QEMU.\n{done.stdout.rstrip()}')
    return names


def keep_pristine(names, source, pristine):
    for name in names:
        if not (pristine / name).exists() and (source / name).is_file():
            (pristine / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, pristine / name)


def lay_links(files, source, before):
    """Link our files in; drop the links of files that are gone."""
    for name in set(before) - set(files):
        if (source / name).is_symlink():
            (source / name).unlink()
    for name in files:
        link = source / name
        if link.exists() and not link.is_symlink():
            raise SetupError(f'{name} exists in QEMU: rename ours, or change '
                             'upstream\'s with a patch.')
        link_if_changed(link, os.path.relpath(TOP / name, link.parent))


def lay(source=QEMU_SRC):
    record = read_json(RECORD) or {'files': [], 'patched': []}
    pristine = BUILD / 'pristine'
    files = our_files()
    lay_links(files, source, record['files'])
    wanted = {name for patch in series() for name in files_of(patch)}
    keep_pristine(wanted, source, pristine)
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        work = Path(folder)
        names = apply_series(pristine, work)
        for name in names:
            write_if_changed(source / name, (work / name).read_bytes())
    for name in set(record['patched']) - set(names):
        if (pristine / name).is_file():
            write_if_changed(source / name, (pristine / name).read_bytes())
    write_json(RECORD, {'files': files, 'patched': names})
    return files, names


def inputs():
    """What decides whether lay() has anything to do."""
    paths = series() + [TOP / 'patches/series', TOP / 'patches/overlay.list']
    return [our_files()] + [[str(p), p.stat().st_mtime_ns] for p in paths]
