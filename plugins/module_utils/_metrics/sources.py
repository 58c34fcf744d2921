# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the metrics of a host's Falco can be read, as snapshots.gather() wants to know it.

Stdlib only, Python 3.6+. The kernel knows which files the running Falco has open, so nobody has to name
them, and no configuration has to be read. They are opened through /proc/PID/root: with PrivateTmp, or in a
container, the same path is another file there.
"""

import os
import re
import stat

from ansible_collections.falcotune.fleet.plugins.module_utils._host import host, processes
from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import (
    falco_lines,
    prometheus,
    rings,
    snapshots,
    tail,
)

OPTIONS = {
    "metrics_file": "",  # metrics.output_file; empty finds it among the files that Falco has open
    "alerts_file": "",  # file_output.filename; as above, where Falco keeps it open
    "syslog": None,  # [paths]; None takes those of SYSLOG that are there
    "prometheus_url": "",  # empty is not asked
    "prometheus_seconds": 10.0,
    "scrape_ok": False,  # True: the caller knows that this release survives being asked at any time
}
SYSLOG = ("/var/log/syslog", "/var/log/messages")
MAX_HANDLES = 4096
# To tell whose a file is: so much from its end, so many lines.
MAX_LOOK, MAX_LINES = 1 << 18, 64


def running(host_root, unit):
    """(Process, its start in ticks, its start in Unix seconds) of the unit's main process; three times None
    without one.

    unit: properties as systemd.find() gives them, or None.
    """
    process, start = processes.of_unit(host_root, unit)
    since = processes.started_at(host_root.rstrip("/"), start) if process else None
    return process, start, since


def of(host_root, unit, process, options):
    """The `sources` of snapshots.gather() on this host.

    unit:     properties as systemd.find() gives them, or None
    process:  the running Falco's processes.Process, or None
    options:  overrides of OPTIONS; paths as Falco sees them
    """
    options = dict(OPTIONS, **options)
    found = {name: [] for name in ("metrics_file", "alerts_file")}
    for name in found:
        if options[name]:
            found[name].append(seen_by(process, options[name]))
    for path in written_by(process) if process else []:
        name = kind(path)
        if name and not options[name]:
            found[name].append(path)
    syslog = options["syslog"]
    if syslog is None:
        syslog = [path for path in (host_root.rstrip("/") + name for name in SYSLOG) if os.path.isfile(path)]
    found["syslog"] = list(syslog)
    if process:
        found["journal"] = {"pid": process.pid}
    elif unit and unit.get("Id"):
        found["journal"] = {"unit": unit["Id"]}
    if options["prometheus_url"]:
        found["prometheus"] = {
            "url": options["prometheus_url"],
            "seconds": options["prometheus_seconds"],
            "scrape_ok": options["scrape_ok"] or (lambda: captures(process)),
            "foreign": lambda: prometheus.foreign(process, options["prometheus_url"]),
        }
    return found


def seen_by(process, path):
    """A path of Falco's as we reach it.

    One that isn't there, as of a log that a shipper moves, is taken as it is.
    """
    if process is None or path.startswith("/proc/"):
        return path
    inside = os.path.join(tail.link(process.path + "/cwd") or "/", path)
    inside = process.path + "/root" + inside
    return path if os.path.lexists(path) and not os.path.lexists(inside) else inside


def written_by(process):
    """Paths of the regular files that the process has open for writing, each file once, in the order of their
    handles.
    """
    folder, files, seen = process.path + "/fd", [], set()
    try:
        numbers = sorted((name for name in os.listdir(folder) if name.isdigit()), key=int)
    except OSError:
        return []
    for number in numbers[:MAX_HANDLES]:
        handle = "%s/%s" % (folder, number)
        if not (tail.link(handle) or "").startswith("/"):
            continue  # sockets, pipes, BPF maps and programs
        try:
            file = os.stat(handle)
        except OSError:
            continue
        flags = re.search(
            r"^flags:\s*([0-7]+)$", host.read("%s/fdinfo/%s" % (process.path, number), 4096) or "", re.M
        )
        if (
            not stat.S_ISREG(file.st_mode)
            or not flags
            or int(flags.group(1), 8) & os.O_ACCMODE == os.O_RDONLY
        ):
            continue
        if (file.st_dev, file.st_ino) not in seen:
            seen.add((file.st_dev, file.st_ino))
            files.append(_named(handle))
    return files


def _named(handle):
    try:
        return tail.resolved(handle)
    except tail.Refused:
        return handle


def kind(path):
    """'metrics_file' or 'alerts_file' by what the last lines are (of its rotated files too, if it is empty);
    None of anything else.
    """
    for number, line in enumerate(tail.Tail(path, MAX_LOOK)):
        found = falco_lines.written_as(line)
        if found or number == MAX_LINES:
            return found
    return None


def captures(process):
    """Whether the process has ring buffers mapped: its driver is open, and /metrics may be asked on any
    release.
    """
    maps = (host.read(process.path + "/maps", 1 << 22) if process else None) or ""
    return any(
        rings.mapped(maps, driver, os.sysconf("SC_PAGE_SIZE")) for driver in ("modern_ebpf", "kmod", "ebpf")
    )


def gather(host_root, unit, options, order=snapshots.ORDER, limits=None):
    """snapshots.gather() of the Falco that runs as this unit, not of earlier ones. options: as for of()."""
    process, dummy, since = running(host_root, unit)
    found = snapshots.gather(
        of(host_root, unit, process, options), order, dict({"since": since}, **(limits or {}))
    )
    if "first" not in found and process and not os.access(process.path + "/fd", os.R_OK):
        found["reason"] += "; the files that Falco has open can't be listed: run with become"
    return found
