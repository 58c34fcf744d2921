# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the checkout importable as ansible_collections.falcotune.fleet, and the helpers beside this file by their names."""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FOLDER = tempfile.TemporaryDirectory(prefix="falcotune-")
_PLACE = Path(_FOLDER.name) / "ansible_collections" / "falcotune"
_PLACE.mkdir(parents=True)
(_PLACE / "fleet").symlink_to(ROOT)
sys.path[:0] = [_FOLDER.name, str(Path(__file__).resolve().parent), str(ROOT / "tests/fleet")]
