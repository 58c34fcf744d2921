# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From Falco's unit to its process, and what that was started with. Stdlib only, Python 3.6+."""

import os
import re
import time

from ansible_collections.falcotune.fleet.plugins.module_utils._host import host, programs, systemd

# Where the packages install it; for a unit whose ExecStart can't be read.
BINARY = "/usr/bin/falco"

# linux/time.h; Python has had a name for it since 3.7.
CLOCK_BOOTTIME = 7


class Process:
    """One process below ROOT/proc."""

    def __init__(self, root, pid):
        self.pid = int(pid)
        self.path = "%s/proc/%d" % (root, self.pid)

    def stat(self):
        """(start in clock ticks since boot, utime + stime in ticks, nice), or None when it is gone."""
        text = host.read(self.path + "/stat", 4096)
        if not text or ")" not in text:
            return None
        fields = text.rsplit(")", 1)[1].split()
        if fields[0] in ("Z", "X"):
            return None
        return int(fields[19]), int(fields[11]) + int(fields[12]), int(fields[16])

    def alive(self, start):
        """Whether it is still the same process."""
        stat = self.stat()
        return stat is not None and stat[0] == start

    def arguments(self):
        text = host.read(self.path + "/cmdline", 1 << 17) or ""
        return text.rstrip("\0").split("\0") if text else []

    def is_roots(self):
        """Whether its arguments and environment are the word of root or of our user."""
        status = host.read(self.path + "/status", 65536) or ""
        found = re.search(r"^Uid:\t(\d+)\t(\d+)\t(\d+)", status, re.M)
        return bool(found) and {int(uid) for uid in found.groups()} <= {0, os.geteuid()}

    def environment(self):
        text = host.read(self.path + "/environ", 1 << 18)
        if text is None:
            return None
        return dict(item.split("=", 1) for item in text.split("\0") if "=" in item)

    def threads(self):
        """{thread id: (ns on a CPU, ns waiting for one)} since the start of each thread, or None."""
        try:
            names = os.listdir(self.path + "/task")
        except OSError:
            return None
        found = {}
        for name in names:
            fields = (host.read("%s/task/%s/schedstat" % (self.path, name), 256) or "").split()
            if len(fields) >= 2:
                found[name] = int(fields[0]), int(fields[1])
        return found

    def schedule(self):
        """(ns on a CPU, ns waiting for one) over all threads, or None."""
        threads = self.threads()
        return None if threads is None else summed(threads)


def summed(threads):
    """(ns on a CPU, ns waiting for one) of all of Process.threads()."""
    return sum(on for on, _waiting in threads.values()), sum(waiting for _on, waiting in threads.values())


def busiest(threads, before=None):
    """(ns on a CPU, ns waiting) of the thread that wanted a CPU most, since its start or since `before`.

    One thread of Falco reads all events, so it is the one whose time decides. (0, 0) without threads.
    threads, before: as Process.threads(); a thread that is not in `before` counts from its start.
    """
    before = before or {}
    spent = [
        tuple(now - then for now, then in zip(times, before.get(name, (0, 0))))
        for name, times in threads.items()
    ]
    return max(spent, key=sum) if spent else (0, 0)


def of_unit(root, unit):
    """(Process, its start in ticks) of the unit's main process, or (None, None) where none is alive.

    root: prefix of /proc. unit: properties as systemd.find() gives them, or None.
    """
    pid = host.integer(unit.get("MainPID")) if unit else None
    process = Process(root.rstrip("/"), pid) if pid else None
    stat = process.stat() if process else None
    return (process, stat[0]) if stat else (None, None)


def command(unit, process):
    """What Falco is started with: {'binary', 'arguments' (its path first, may be empty), 'environment',
    'reason'}.

    The process tells, if there is one, else its unit; either may be None. Of a process that is not root's
    (User= in the unit) only the words of its unit are taken. reason: why the binary must not be run, or None.
    environment is for reading; start_environment() is for what we start.
    """
    started = programs.of_words(systemd.argv(unit)) if unit else []
    shown = programs.of_process(process) if process else []
    if shown:
        binary, arguments = shown[0], shown
        if not process.is_roots() and started and " ".join(shown[1:]) != " ".join(started[1:]):
            arguments = [shown[0]] + started[1:]
    else:
        binary, arguments = started[0] if started else BINARY, started
    if not programs.is_falco(binary):
        arguments = arguments[:1]  # the others are a wrapper's own
    variables = process.environment() if process else None
    return {
        "binary": binary,
        "arguments": arguments,
        "environment": variables or (systemd.environment(unit) if unit else {}),
        "reason": programs.refusal(binary),
    }


def start_environment(unit, process, texts=()):
    """The variables for a program of Falco's that we start.

    Of the unit (Environment=) all, if it runs Falco as root; else, and of a process that is root's,
    HOST_ROOT, FALCO_* and what Falco's files name as ${NAME}. The dynamic loader gets libraries of root's
    only: what the unit's user may load as itself, root must not. texts: those files.
    """
    named = set()
    for text in texts:
        named.update(re.findall(r"\$\{([^}]*)\}", text or ""))
    found = _of_unit(unit, named) if unit else {}
    shown = process.environment() if process and process.is_roots() else None
    for name, value in (shown or {}).items():
        if _wanted(name, named):
            found[name] = value
    return found


def _wanted(name, named):
    return name == "HOST_ROOT" or name.startswith("FALCO_") or name in named and not name.startswith("LD_")


def _of_unit(unit, named):
    """The variables of a unit that a program of Falco's gets from us. named: what Falco's files name."""
    as_root = unit.get("User") in (None, "", "root", "0")
    return {
        name: value
        for name, value in systemd.environment(unit).items()
        if (programs.only_roots(name, value) if name.startswith("LD_") else as_root or _wanted(name, named))
    }


def memory_limit(root, unit, names=("MemoryMax", "MemoryHigh", "MemoryLimit")):
    """The smallest limit of the unit's memory in bytes, or None: its own, by these names, or that of its
    cgroup or of a slice around it.
    """
    named = [systemd.number(unit.get(name)) for name in names]
    limits = [value for value in named if value] + host.memory_limits(root, unit.get("ControlGroup"))
    return min(limits) if limits else None


def started_at(root, start_ticks):
    """Unix time of a process's start, in seconds, or None where /proc/stat has no btime."""
    text = host.read(root + "/proc/stat") or host.read("/proc/stat") or ""
    match = re.search(r"^btime (\d+)", text, re.M)
    if not match:
        return None
    return int(match.group(1)) + start_ticks / float(os.sysconf("SC_CLK_TCK"))


def now():
    """Seconds since boot, by the clock of start_ticks."""
    return time.clock_gettime(CLOCK_BOOTTIME)


def age(start_ticks):
    """Seconds since a process's start, by the kernel's own clock."""
    text = host.read("/proc/uptime")
    return round(float(text.split()[0]) - start_ticks / float(os.sysconf("SC_CLK_TCK")), 2) if text else None
