# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Import the checkout as ansible_collections.falcotune.fleet, as Ansible would, and the harness beside this file."""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FOLDER = tempfile.TemporaryDirectory(prefix="falcotune-")
_PLACE = Path(_FOLDER.name) / "ansible_collections" / "falcotune"
_PLACE.mkdir(parents=True)
(_PLACE / "fleet").symlink_to(ROOT)
sys.path[:0] = [_FOLDER.name, str(Path(__file__).resolve().parent)]


def pytest_terminal_summary(terminalreporter):
    """What the parts of test_faults.py have counted."""
    counts: dict[str, int] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, number in getattr(report, "user_properties", ()) if getattr(report, "when", "") == "call" else ():
                counts[name] = counts.get(name, 0) + number
    if counts:
        terminalreporter.write_line(", ".join(f"{number} {name}" for name, number in sorted(counts.items())))
