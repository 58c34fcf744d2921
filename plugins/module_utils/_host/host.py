# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a host: /proc and /sys below a host root, as Falco's HOST_ROOT. Stdlib only, Python 3.6+."""

import base64
import errno
import hashlib
import os
import re
import stat
import zlib

# What a path may be instead of a regular file.
KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (lambda mode: True, "a device"),
)


class NotRegular(OSError):
    """A path that is no regular file. kind: what it is instead."""

    def __init__(self, path, mode):
        self.kind = next(name for test, name in KINDS if test(mode))
        OSError.__init__(self, errno.EINVAL, "it is %s, not a regular file" % self.kind, path)


def open_regular(path):
    """(handle, stat) of a regular file, symlinks followed. Raises OSError; never waits for the other end of a
    FIFO.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise NotRegular(path, found.st_mode)
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        os.close(handle)
        raise NotRegular(path, found.st_mode)
    return handle, found


def regular(path):
    """A stream of bytes, as open(path, "rb") gives it, of a regular file. Raises OSError."""
    return os.fdopen(open_regular(path)[0], "rb")


def read(path, limit=1 << 20):
    """Text of a small file, or None where it can't be read."""
    try:
        with regular(path) as stream:
            data = stream.read(limit)
    except OSError:
        return None
    # Some files of the kernel have nothing yet, and would wait for more.
    return None if data is None else data.decode("utf-8", "replace")


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
    """The int in a text, or None where there is none."""
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


# What cgroup v1 shows where there is no limit is a little less than 2^63.
UNLIMITED = 1 << 62


def memory_limits(root, control_group):
    """Bytes that a unit's cgroup may hold, and each of its parents; those without a limit are left out."""
    found, group = [], (control_group or "").rstrip("/")
    while group:
        for path in ("%s/memory.max" % group, "/memory%s/memory.limit_in_bytes" % group):
            value = integer(read("%s/sys/fs/cgroup%s" % (root, path), 64))
            if value is not None and value < UNLIMITED:
                found.append(value)
        group = group.rpartition("/")[0]
    return found


def mount_of(path):
    """The mount point that a path is below, symlinks followed; None where the kernel does not tell.

    A bind mount has the device of what it shows, and a rename across its border fails all the same.
    """
    path = os.path.realpath(path)
    found = None
    for line in (read("/proc/self/mountinfo", 1 << 22) or "").splitlines():
        fields = line.split(" ")
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal.group(1), 8)), (fields + [""] * 5)[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if point and inside and len(point) >= len(found or ""):
            found = point
    return found


def boot_id():
    """The kernel's name of this boot, '' where it has none."""
    return (read("/proc/sys/kernel/random/boot_id", 64) or "").strip()


def digest(data):
    return hashlib.sha256(data).hexdigest()


def pack(data):
    """Bytes as zlib + base64, for an answer to the controller: a packaged falco.yaml of 64 kB travels as 20
    kB.
    """
    return base64.b64encode(zlib.compress(data, 6)).decode("ascii")


# A falco.yaml is 64 kB as packaged. What is larger is not read to its end.
MAX_FILE = 1 << 20
# Their files have no text of a user's, and some change by being read: /proc/kmsg loses its messages.
OF_KERNEL = ("/proc/", "/sys/", "/dev/")


def fetch(path):
    """One configuration file for the controller: {'path', 'sha256', 'mtime', 'text', 'data'} or {'path',
    'reason'}.

    data: the text, packed.
    """
    if os.path.realpath(path).startswith(OF_KERNEL):
        return {"path": path, "reason": "%s is a file of the kernel: expected a Falco configuration" % path}
    try:
        with regular(path) as stream:
            data = stream.read(MAX_FILE + 1)
            mtime = os.fstat(stream.fileno()).st_mtime
    except OSError as error:
        advice = "; run with become" if error.errno in (errno.EACCES, errno.EPERM) else ""
        return {"path": path, "reason": "%s can't be read: %s%s" % (path, error.strerror, advice)}
    if len(data) > MAX_FILE:
        return {
            "path": path,
            "reason": "%s is larger than %d bytes: expected a Falco configuration" % (path, MAX_FILE),
        }
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return {"path": path, "reason": "%s is not UTF-8 text" % path}
    return {"path": path, "sha256": digest(data), "mtime": mtime, "text": text, "data": pack(data)}
