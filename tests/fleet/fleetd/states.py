# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs: the state that each unit's supervisor keeps in run/systemd/units/UNIT/."""

import os

from fleetd import files, units

STATE_DIR = files.ROOT + "/run/systemd/units"


def unit_dir(unit_id):
    return STATE_DIR + "/" + unit_id


def all_ids():
    """Ids of the units that were started once."""
    try:
        return sorted(name for name in os.listdir(STATE_DIR) if name[0] != "." and os.path.isdir(unit_dir(name)))
    except OSError:
        return []


def ticks_of(pid):
    """When a process started, in clock ticks since boot; None when it is gone or a zombie."""
    try:
        with open("/proc/%d/stat" % pid) as stream:
            fields = stream.read().rsplit(")", 1)[1].split()
    except (OSError, ValueError, IndexError, TypeError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def state_of(unit_id):
    state = files.read_json(unit_dir(unit_id) + "/state.json") or {}
    supervised = state.get("supervisor") and ticks_of(state["supervisor"]) == state.get("supervisor_ticks")
    if state.get("active") in ("active", "activating", "deactivating", "reloading") and not supervised:
        state.update(active="failed", sub="failed", main_pid=0, result="resources")
    state["supervised"] = bool(supervised)
    return state


def loaded_unit(unit_id):
    """The unit as it was loaded: running units stay as they were until daemon-reload."""
    if state_of(unit_id).get("supervised"):
        cached = files.read_json(unit_dir(unit_id) + "/loaded.json")
        if cached:
            return cached
    return units.load_unit(unit_id)
