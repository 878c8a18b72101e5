# SPDX-License-Identifier: GPL-2.0-or-later
"""A program of scripts/ as a module, though its name is none."""

import importlib.util
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / 'scripts'


def load(name):
    """scripts/@name, without running its main()."""
    spec = importlib.util.spec_from_file_location(
        name.partition('.')[0].replace('-', '_'), SCRIPTS / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
