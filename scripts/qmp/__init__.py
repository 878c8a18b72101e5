# SPDX-License-Identifier: GPL-2.0-or-later
"""Talking to a monitor; used by our scripts and our tests."""
