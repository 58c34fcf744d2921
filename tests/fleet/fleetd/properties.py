# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`systemctl show`: a unit's properties, as systemd prints them."""

import os
import time

from fleetd import command_lines, files, formats, kernel, states, units

VERSION = "252"


def date(usec, style):
    if not usec:
        return ""
    seconds, rest = divmod(usec, 1000000)
    if style == "unix":
        return "@%d" % seconds
    clock = time.gmtime if style in ("utc", "us+utc") else time.localtime
    text = time.strftime("%a %Y-%m-%d %H:%M:%S", clock(seconds))
    if style in ("us", "us+utc"):
        text += ".%06d" % rest
    return text + " " + ("UTC" if clock is time.gmtime else time.strftime("%Z", clock(seconds)))


def resident(pid):
    try:
        with open("/proc/%d/statm" % pid) as stream:
            return str(int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    except (OSError, ValueError, TypeError):
        return "[not set]"


def exec_text(line, state, style):
    words = command_lines.split_command(line)
    running = state.get("main_pid") or 0
    return "{ path=%s ; argv[]=%s ; ignore_errors=%s ; start_time=[%s] ; stop_time=[n/a] ; pid=%d ; code=(null) ; status=0/0 }" % (
        words[0], " ".join(words), "yes" if line.startswith("-") else "no",
        date(state.get("started"), style) if running else "n/a", running)


def properties(name, style):
    unit_id, _fragment, _masked = units.resolve(name)
    unit = states.loaded_unit(unit_id)
    state = states.state_of(unit_id)
    values = unit["values"]
    active = state.get("active", "inactive")
    live = active in ("active", "activating", "deactivating") and bool(state.get("main_pid"))
    environment = command_lines.environment_of(values)
    user = values.get("User", "")
    quota = kernel.quota_usec(values)
    shown = {
        "Type": values.get("Type", "simple"),
        "Restart": values.get("Restart", "no"),
        "RestartUSec": formats.format_span(formats.parse_span(values.get("RestartSec"), 100000)),
        "TimeoutStartUSec": formats.format_span(formats.parse_span(values.get("TimeoutStartSec"), 90000000)),
        "TimeoutStopUSec": formats.format_span(formats.parse_span(values.get("TimeoutStopSec"), 90000000)),
        "MainPID": str(state.get("main_pid") or 0),
        "Result": state.get("result", "success"),
        "NRestarts": str(state.get("restarts", 0)),
        "ExecMainStartTimestamp": date(state.get("started"), style),
        "ExecMainStartTimestampMonotonic": str(state.get("started_monotonic", 0)),
        "ExecMainPID": str(state.get("main_pid") or 0),
        "ExecMainCode": str(state.get("exit_code", 0)),
        "ExecMainStatus": str(state.get("exit_status", 0)),
    }
    for key in ("ExecStart", "ExecReload"):
        if values.get(key):
            shown[key] = "\n".join(
                (key + "=" if index else "") + exec_text(line, state if key == "ExecStart" else {}, style)
                for index, line in enumerate(values[key]))
    shown.update({
        "ControlGroup": kernel.group_of(unit_id) if live else "",
        "MemoryCurrent": resident(state["main_pid"]) if live else "[not set]",
        "CPUWeight": values.get("CPUWeight") or "[not set]",
        "CPUQuotaPerSecUSec": formats.format_span(quota) if quota else formats.INFINITY,
        "MemoryMax": formats.parse_size(values.get("MemoryMax")),
        "Environment": " ".join(command_lines.quote("%s=%s" % item) for item in environment.items()),
        "UMask": "%04o" % int(values.get("UMask") or "0022", 8),
        "Nice": str(int(values.get("Nice") or 0)),
        "StandardOutput": values.get("StandardOutput", "journal"),
        "StandardError": values.get("StandardError", "inherit"),
        "User": "root" if user == "%u" else user,
        "PrivateTmp": formats.yes_no(values.get("PrivateTmp")),
        "NoNewPrivileges": formats.yes_no(values.get("NoNewPrivileges")),
        "ProtectHome": formats.yes_no(values.get("ProtectHome")),
        "ProtectSystem": formats.yes_no(values.get("ProtectSystem")),
        "ReadOnlyPaths": values.get("ReadOnlyPaths", ""),
        "InaccessiblePaths": values.get("InaccessiblePaths", ""),
        "CapabilityBoundingSet": " ".join(kernel.bounding(values)),
        "ReadWritePaths": " ".join(values.get("ReadWritePaths", [])),
        "Id": unit_id,
        "Names": " ".join(unit["names"]),
        "Description": values.get("Description", unit_id),
        "LoadState": unit["load"],
        "ActiveState": active,
        "SubState": state.get("sub", "dead"),
        "FragmentPath": files.ROOT + unit["fragment"] if unit["fragment"] else "",
        "DropInPaths": " ".join(files.ROOT + path for path in unit["dropins"]),
        "UnitFileState": "" if unit["load"] == "not-found" else units.file_state(unit_id),
        "ActiveEnterTimestamp": date(state.get("started"), style),
        "ActiveEnterTimestampMonotonic": str(state.get("started_monotonic", 0)),
        "NeedDaemonReload": "yes" if unit["load"] == "loaded" and unit["stamp"] != units.stamp_of(unit_id) else "no",
        "InvocationID": state.get("invocation", ""),
    })
    return shown


def show(names, options):
    wanted = options["properties"]
    if not names:
        blocks = [{"Version": VERSION, "SystemState": "running", "Virtualization": ""}]
    else:
        blocks = [properties(units.full_name(name), options["timestamp"]) for name in names]
    for index, block in enumerate(blocks):
        if index:
            print()
        for key, value in block.items():
            if not wanted or key in wanted:
                print(value if options["value"] else "%s=%s" % (key, value))
