# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who made the system calls that were counted. Stdlib only, Python 3.6+.

The kernel's histograms have no key for a user or a control group. They have one for the thread, so calls are
counted for each thread, and /proc tells whose it is. What cannot be told for certain stays unknown: calls of
threads that ended, or that began while the kernel counted (their number may have been another thread's).
"""

import os
import re

from ansible_collections.falcotune.fleet.plugins.module_utils._host import host

# A call with a smaller share of all calls is left out, and so are all but the first few callers of a call.
SHARE = 0.01
TOP = 3
# Threads that are looked up in /proc, those with the most calls first.
THREADS = 4096
PATH = 200
# The inode of the first namespace of processes (PROC_PID_INIT_INO of the kernel).
FIRST_NAMESPACE = "pid:[4026531836]"
ENTRY = re.compile(r"^\{ id: (\w+) *\[ *(\d+)\], common_pid: +(\d+) *\} hitcount: +(\d+)", re.M)
UID = re.compile(r"^Uid:\s+(\d+)", re.M)
# A user's sessions and services are one caller, and so are the containers of a pod.
ONE_USER = re.compile(r"user-\d+\.slice")
ONE_POD = re.compile(r"pod[0-9a-f]{8}")


def moment(root):
    """Now, as the start times of threads are told: seconds since boot. None where that is not known."""
    try:
        return float((host.read(root + "/proc/uptime", 256) or "").split()[0])
    except (IndexError, ValueError):
        return None


def of(root, text, counts, named, began):
    """{name: {'uids': [[uid, calls]], 'cgroups': [[path, calls]], 'unknown': calls}} of the frequent calls.

    text: the histogram by thread. counts: {name: calls} of all. named: a function from the kernel's name and
    number of a call to its name. began: moment() before it was counted. Raises ValueError with the reason
    where the threads' numbers say nothing here.
    """
    try:
        namespace = os.readlink(root + "/proc/1/ns/pid")
    except OSError as error:
        raise ValueError("the namespace of processes is unknown: %s" % error)
    if namespace != FIRST_NAMESPACE or began is None:
        raise ValueError("/proc shows another namespace of processes than the host's first one")
    least = SHARE * sum(counts.values())
    made, whole = {}, {}
    for function, number, thread, hits in ENTRY.findall(text):
        name = named(function, int(number))
        if name and int(hits) and counts.get(name, 0) >= least:
            made.setdefault(name, {}).setdefault(int(thread), 0)
            made[name][int(thread)] += int(hits)
            whole[int(thread)] = whole.get(int(thread), 0) + int(hits)
    busiest = sorted(whole, key=lambda thread: (-whole[thread], thread))[:THREADS]
    ticks = os.sysconf("SC_CLK_TCK")
    owners = {thread: _owner(root, thread, began * ticks) for thread in busiest}
    return {
        name: _callers(made.get(name, {}), owners, counts[name])
        for name in sorted(counts)
        if counts[name] and counts[name] >= least
    }


def _callers(threads, owners, total):
    uids, cgroups, known = {}, {}, 0
    for thread, calls in threads.items():
        owner = owners.get(thread)
        if owner:
            known += calls
            uids[owner[0]] = uids.get(owner[0], 0) + calls
            cgroups[owner[1]] = cgroups.get(owner[1], 0) + calls
    return {"uids": _first(uids), "cgroups": _first(cgroups), "unknown": max(0, total - known)}


def _first(found):
    """The callers with the most calls."""
    order = sorted(found, key=lambda who: (-found[who], str(who)))
    return [[who, found[who]] for who in order[:TOP]]


def _owner(root, thread, began):
    """(real uid, control group) of a thread that was there before, else None."""
    base = "%s/proc/%d" % (root, thread)
    stat = (host.read(base + "/stat", 4096) or "").rpartition(") ")[2].split()
    uid = UID.search(host.read(base + "/status", 8192) or "")
    group = control_group(host.read(base + "/cgroup", 16384) or "")
    # The 22nd field, in ticks since boot; one tick of doubt.
    if uid is None or group is None or len(stat) < 20 or not stat[19].isdigit() or int(stat[19]) >= began - 1:
        return None
    return int(uid.group(1)), group


def control_group(text):
    """The control group of a line of /proc/PID/cgroup, down to what is one caller; None where there is none.

    cgroup v2, else systemd's own hierarchy, else the deepest of the others.
    """
    found = {}
    for line in text.splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            found[parts[1]] = parts[2]
    path = found.get("") if found.get("", "/") != "/" else found.get("name=systemd")
    if path is None:
        path = max(sorted(found.values()), key=lambda one: one.count("/"), default=None)
    if path is None:
        return None
    parts = [part for part in path.split("/") if part]
    depth = 2
    for number, part in enumerate(parts):
        if ONE_USER.match(part) or ONE_POD.search(part):
            depth = number + 1
            break
    return ("/" + "/".join(parts[:depth]))[:PATH]
