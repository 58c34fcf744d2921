# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A package manager at work, by the locks that dpkg and rpm hold. They are asked for and never taken.

An upgrade of Falco's package replaces files and restarts the unit while a change does the same.
"""

import fcntl
import os
import struct
import sys
import time

from ansible_collections.falcotune.fleet.plugins.module_utils._change.failure import Failed
from ansible_collections.falcotune.fleet.plugins.module_utils._host import host

# POSIX record locks: lock-frontend since dpkg 1.19.1 (apt holds it from start to end); rpm's database lock,
# also where image-based systems have it.
LOCKS = (
    ("dpkg", "/var/lib/dpkg/lock-frontend"),
    ("dpkg", "/var/lib/dpkg/lock"),
    ("rpm", "/var/lib/rpm/.rpm.lock"),
    ("rpm", "/usr/lib/sysimage/rpm/.rpm.lock"),
)
# Seconds: an installation of some packages; an upgrade of the whole host takes longer than a batch waits.
PATIENCE = 30
STEP = 0.5

# struct flock of 64-bit Linux: l_type, l_whence, l_start, l_len, l_pid.
_FLOCK = "hhqqi"


def holder(path):
    """Pid of the process that holds a write lock on this file; None where nobody does, or nothing tells."""
    if sys.maxsize < 1 << 32:
        return None
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        asked = struct.pack(_FLOCK, fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
        kind, dummy, dummy2, dummy3, pid = struct.unpack(_FLOCK, fcntl.fcntl(handle, fcntl.F_GETLK, asked))
    except OSError:
        return None
    finally:
        os.close(handle)
    return None if kind == fcntl.F_UNLCK else pid


def at_work(root=""):
    """(package manager, pid, path of the lock), or None. root: prefix of the paths."""
    for name, path in LOCKS:
        pid = holder(root + path)
        if pid is not None:
            return name, pid, root + path
    return None


def wait(root=""):
    """Wait until no package manager is at work. Raises Failed where it takes longer than PATIENCE."""
    until = time.monotonic() + PATIENCE
    while True:
        found = at_work(root)
        if not found:
            return
        if time.monotonic() >= until:
            break
        time.sleep(STEP)
    name, pid, path = found
    command = (host.read("/proc/%d/comm" % pid, 64) or "").strip()
    raise Failed(
        "%s is at work on this host: process %d%s has held %s for %d s. Nothing was changed; run again when "
        "it is done" % (name, pid, " (%s)" % command if command else "", path, PATIENCE),
        undone=True,
    )
