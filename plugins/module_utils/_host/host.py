# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a host: /proc and /sys below a host root, as Falco's HOST_ROOT. Stdlib only, Python 3.6+."""

import base64
import errno
import hashlib
import os
import re
import zlib


def read(path, limit=1 << 20):
    """Text of a small file, or None where it can't be read."""
    try:
        with open(path, "rb") as stream:
            return stream.read(limit).decode("utf-8", "replace")
    except (IOError, OSError):
        return None


def cpu_list(text):
    """'0-3,8' → [0, 1, 2, 3, 8]; ValueError on anything else."""
    found = []
    for part in text.strip().split(","):
        match = re.match(r"^(\d+)(?:-(\d+))?$", part.strip())
        if not match:
            raise ValueError("%r is not a list of CPUs such as 0-3,8" % text)
        first, last = int(match.group(1)), int(match.group(2) or match.group(1))
        if last < first or last > 65535:
            raise ValueError("%r is not a list of CPUs such as 0-3,8" % text)
        found.extend(range(first, last + 1))
    return found


def cpus(root):
    """The facts' cpus: online decides kmod and ebpf rings, and modern_ebpf's groups."""
    base = root + "/sys/devices/system/cpu/"
    result = {"online": None, "possible": None, "list": None, "reason": None}
    for name in ("online", "possible"):
        text = read(base + name, 65536)
        if text is None:
            result["reason"] = "%s%s can't be read" % (base, name)
            continue
        try:
            numbers = cpu_list(text)
        except ValueError as error:
            result["reason"] = "%s%s: %s" % (base, name, error)
            continue
        result[name] = len(numbers)
        if name == "online":
            result["list"] = text.strip()
    return result


def memory(root):
    """total and available in bytes from /proc/meminfo."""
    text = read(root + "/proc/meminfo") or ""
    found = dict(re.findall(r"^(\w+):\s+(\d+) kB", text, re.M))

    def size(name):
        return int(found[name]) * 1024 if name in found else None

    return {"total": size("MemTotal"), "available": size("MemAvailable")}


def integer(text):
    """An int, or None."""
    try:
        return int((text or "").strip())
    except ValueError:
        return None


def kernel(root):
    """release, btf, bpf_stats_enabled, autogroup (nice values count within a session only), page_size."""
    return {
        "release": (read(root + "/proc/sys/kernel/osrelease") or os.uname()[2]).strip(),
        "btf": os.path.exists(root + "/sys/kernel/btf/vmlinux"),
        "bpf_stats_enabled": integer(read(root + "/proc/sys/kernel/bpf_stats_enabled")),
        "autogroup": integer(read(root + "/proc/sys/kernel/sched_autogroup_enabled")) == 1,
        "page_size": os.sysconf("SC_PAGE_SIZE"),
    }


class Process(object):
    """One process below ROOT/proc."""

    def __init__(self, root, pid):
        self.pid = int(pid)
        self.path = "%s/proc/%d" % (root, self.pid)

    def stat(self):
        """(start in clock ticks since boot, utime + stime in ticks, nice), or None when it is gone."""
        text = read(self.path + "/stat", 4096)
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
        text = read(self.path + "/cmdline", 1 << 17) or ""
        return text.rstrip("\0").split("\0") if text else []

    def environment(self):
        text = read(self.path + "/environ", 1 << 18)
        if text is None:
            return None
        return dict(item.split("=", 1) for item in text.split("\0") if "=" in item)

    def schedule(self):
        """(ns on a CPU, ns waiting for one) over all threads, or None."""
        on = waiting = 0
        try:
            threads = os.listdir(self.path + "/task")
        except OSError:
            return None
        for thread in threads:
            fields = (read("%s/task/%s/schedstat" % (self.path, thread), 256) or "").split()
            if len(fields) >= 2:
                on += int(fields[0])
                waiting += int(fields[1])
        return on, waiting


def cgroup(root, control_group):
    """{'weight', 'weighable', 'throttled'} of a unit's cgroup.

    weight:     its cpu.weight (cgroup v1: shares, 1024 are 100); None where the kernel does not weigh it
    weighable:  the kernel weighs it, or would once its unit asks (systemd enables the cpu controller then)
    throttled:  seconds for which a quota kept it off the CPU; None where nothing counts them
    """
    found = {"weight": None, "weighable": False, "throttled": None}
    if not control_group:
        return found
    base = root + "/sys/fs/cgroup"
    old = [base + name + control_group for name in ("/cpu,cpuacct", "/cpu")]
    found["weight"] = integer(read(base + control_group + "/cpu.weight", 64))
    for folder in [base + control_group] + old:
        match = re.search(r"^throttled_(usec|time) (\d+)", read(folder + "/cpu.stat", 4096) or "", re.M)
        if match:
            found["throttled"] = int(match.group(2)) / (1e6 if match.group(1) == "usec" else 1e9)
            break
    for folder in old if found["weight"] is None else []:
        shares = integer(read(folder + "/cpu.shares", 64))
        if shares:
            found["weight"] = max(1, min(10000, shares * 100 // 1024))
            break
    controllers = read(base + "/cgroup.controllers", 4096) or ""
    found["weighable"] = found["weight"] is not None or "cpu" in controllers.split()
    return found


def started_at(root, start_ticks):
    """Unix time of a process's start, in seconds."""
    match = re.search(r"^btime (\d+)", read(root + "/proc/stat") or read("/proc/stat") or "", re.M)
    if not match:
        return None
    return int(match.group(1)) + start_ticks / float(os.sysconf("SC_CLK_TCK"))


def age(start_ticks):
    """Seconds since a process's start, by the kernel's own clock."""
    text = read("/proc/uptime")
    return round(float(text.split()[0]) - start_ticks / float(os.sysconf("SC_CLK_TCK")), 2) if text else None


def digest(data):
    return hashlib.sha256(data).hexdigest()


MAX_FILE = 1 << 20


def fetch(path):
    """One configuration file for the controller: {'path', 'sha256', 'mtime', 'data'} or {'path', 'reason'}.

    data is zlib + base64: a packaged falco.yaml of 64 kB travels as 20 kB.
    """
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_FILE + 1)
            mtime = os.fstat(stream.fileno()).st_mtime
    except (IOError, OSError) as error:
        advice = "; run with become" if error.errno in (errno.EACCES, errno.EPERM) else ""
        return {
            "path": path,
            "reason": "%s can't be read: %s%s" % (path, os.strerror(error.errno or 5), advice),
        }
    if len(data) > MAX_FILE:
        return {
            "path": path,
            "reason": "%s is larger than %d bytes: that is no Falco configuration" % (path, MAX_FILE),
        }
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return {"path": path, "reason": "%s is not UTF-8 text" % path}
    return {
        "path": path,
        "sha256": digest(data),
        "mtime": mtime,
        "text": text,
        "data": base64.b64encode(zlib.compress(data, 6)).decode("ascii"),
    }
