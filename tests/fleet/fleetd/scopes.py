# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""busctl, as far as `busctl call … StartTransientUnit` of a scope for processes that run. Which those are is kept in
run/systemd/units/.scopes/NAME."""

import os
import sys

from fleetd import files, states, units

FOLDER = states.STATE_DIR + "/.scopes"
CALL = ["call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "StartTransientUnit",
        "ssa(sv)a(sa(sv))"]


def parse(arguments):
    """(name, mode, {property: value}) of the call, by its signature."""
    if arguments[:len(CALL)] != CALL:
        raise units.Failure("busctl: the stand-in makes scopes only")
    queue = arguments[len(CALL):]
    name, mode, number, found = queue.pop(0), queue.pop(0), int(queue.pop(0)), {}
    for _property in range(number):
        key, kind = queue.pop(0), queue.pop(0)
        if kind == "s":
            found[key] = queue.pop(0)
        elif kind == "au":
            found[key] = [int(queue.pop(0)) for _item in range(int(queue.pop(0)))]
        else:
            raise units.Failure("busctl: the stand-in knows no type %s" % kind)
    if queue != ["0"]:
        raise units.Failure("Too %s parameters for signature." % ("many" if queue else "few"))
    return name, mode, found


def main():
    status = 0
    try:
        name, mode, found = parse(sys.argv[1:])
        if not name.endswith(".scope") or mode != "fail" or found.get("Slice") != "system.slice" \
                or any(states.ticks_of(pid) is None for pid in found["PIDs"]):
            raise units.Failure("Call failed: Invalid argument")
        os.makedirs(FOLDER, exist_ok=True)
        files.write_json("%s/%s" % (FOLDER, name), found)
        for pid in found["PIDs"]:
            os.makedirs("%s/proc/%d" % (files.ROOT, pid), exist_ok=True)
            files.write_text("%s/proc/%d/cgroup" % (files.ROOT, pid), "0::/system.slice/%s\n" % name)
    except units.Failure as failure:
        print(failure, file=sys.stderr, flush=True)
        status = failure.status
    os._exit(status)
