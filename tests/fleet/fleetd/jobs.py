# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What changes units: start, stop, restart, kill, daemon-reload and reset-failed."""

import fcntl
import os
import signal
import time

from fleetd import files, kernel, states, supervisor, units


class Lock:
    """One job at a time for a unit."""

    def __init__(self, unit_id):
        os.makedirs(states.STATE_DIR, exist_ok=True)
        self.stream = open("%s/.%s.lock" % (states.STATE_DIR, unit_id), "w")

    def __enter__(self):
        fcntl.flock(self.stream, fcntl.LOCK_EX)

    def __exit__(self, *_exc):
        self.stream.close()


def stop_unit(unit_id):
    state = states.state_of(unit_id)
    if not state["supervised"]:
        if state.get("main_pid") and states.ticks_of(state["main_pid"]) == state.get("main_ticks"):
            os.killpg(state["main_pid"], signal.SIGKILL)
        return
    os.kill(state["supervisor"], signal.SIGTERM)
    while states.ticks_of(state["supervisor"]) == state["supervisor_ticks"]:
        time.sleep(0.005)


def start_unit(unit_id, restart=False):
    state = states.state_of(unit_id)
    if state["supervised"]:
        if state.get("active") == "active" and not restart:
            return
        # What was loaded when it started still holds, unless daemon-reload came since.
        unit = states.loaded_unit(unit_id)
        stop_unit(unit_id)
    else:
        unit = units.load_unit(unit_id)
    if unit["load"] != "loaded":
        raise units.Failure("Unit %s not found." % unit_id, 5)
    if not unit["values"].get("ExecStart"):
        raise units.Failure("Failed to start %s: Unit %s has a bad unit file setting." % (unit_id, unit_id))
    if unit["values"].get("Type") == "oneshot":
        supervisor.run_once(unit)
    else:
        supervisor.launch(unit)


def start(names, _options):
    for name in names:
        unit_id = units.known(name)
        with Lock(unit_id):
            start_unit(unit_id)


def restart(names, _options):
    for name in names:
        unit_id = units.known(name)
        with Lock(unit_id):
            start_unit(unit_id, restart=True)


def stop(names, _options):
    from fleetd import timers

    failed = []
    for name in names:
        if timers.stop(name):
            continue
        unit_id, fragment, _masked = units.resolve(units.full_name(name))
        if name.endswith(".timer") or fragment is None and not states.state_of(unit_id)["supervised"]:
            failed.append("Failed to stop %s: Unit %s not loaded." % (unit_id, unit_id))
            continue
        with Lock(unit_id):
            stop_unit(unit_id)
    if failed:
        raise units.Failure("\n".join(failed), 5)


def kill(names, options):
    word = options.get("signal", "SIGTERM")
    number = int(word) if word.isdigit() else getattr(signal, word if word.startswith("SIG") else "SIG" + word)
    for name in names:
        state = states.state_of(units.known(name))
        if not state.get("main_pid"):
            raise units.Failure("Failed to kill unit %s: Unit %s not loaded." % (units.full_name(name), units.full_name(name)))
        os.kill(state["main_pid"], number)


def is_active(names, _options):
    found = [states.state_of(units.resolve(units.full_name(name))[0]).get("active", "inactive") for name in names]
    print("\n".join(found))
    if "active" not in found:
        raise units.Failure("", 3)


def isolate(names, _options):
    """As a boot does it: every unit below TARGET.wants, each after those that say Before= of it."""
    for name in names:
        folder = "%s/etc/systemd/system/%s.wants" % (files.ROOT, name)
        wanted = {units.resolve(link)[0] for link in os.listdir(folder)}
        loaded = {unit_id: units.load_unit(unit_id) for unit_id in wanted}
        before = {unit_id: set(" ".join(unit["values"].get("Before", [])).split()) for unit_id, unit in loaded.items()}
        while loaded:
            unit_id = next(one for one in sorted(loaded) if not any(one in before[other] for other in loaded if other != one))
            unit = loaded.pop(unit_id)
            if all(os.path.exists(path.replace("%%", "%")) for path in unit["values"].get("ConditionPathExists", [])):
                start_unit(unit_id)


def daemon_reload(_names, _options):
    for unit_id in states.all_ids():
        unit = units.load_unit(unit_id)
        files.write_json(states.unit_dir(unit_id) + "/loaded.json", unit)
        # Running cgroups take their new settings at once; a nice value waits for the next start.
        kernel.set_cgroup(unit_id, unit["values"])


def reset_failed(names, _options):
    for unit_id in [units.resolve(units.full_name(name))[0] for name in names] or states.all_ids():
        state = files.read_json(states.unit_dir(unit_id) + "/state.json")
        if state:
            state["restarts"] = 0
            if state.get("active") == "failed":
                state.update(active="inactive", sub="dead", result="success")
            if not states.state_of(unit_id)["supervised"]:
                files.write_json(states.unit_dir(unit_id) + "/state.json", state)
