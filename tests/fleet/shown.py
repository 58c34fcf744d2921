# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's /proc shows every Falco that runs on it, also one that no unit has started. Only the standard library."""

import atexit
import os
import shutil


def process(proc):
    """Show this process below `proc` until it ends, in the way that systemctl shows those of its units, for the simulator's accounting."""
    pid = os.getpid()
    folder = "%s/%d" % (proc, pid)
    for name in os.listdir(proc):
        if name.isdigit() and not os.path.isdir("/proc/" + name):
            shutil.rmtree("%s/%s" % (proc, name), ignore_errors=True)  # of a process that was killed
    if os.path.lexists(folder):
        return  # a unit's
    with open("/proc/self/stat", encoding="ascii", errors="replace") as stream:
        name, _paren, fields = stream.read().rpartition(") ")
    fields = fields.split()
    fields[11] = fields[12] = "0"
    thread = "%s/task/%d" % (folder, pid)
    os.makedirs(thread)
    atexit.register(shutil.rmtree, folder, True)
    for path, text in ((folder + "/stat", name + ") " + " ".join(fields) + "\n"), (folder + "/cgroup", "0::/user.slice\n"),
                       (thread + "/schedstat", "0 0 0\n")):
        with open(path, "w", encoding="ascii") as stream:
            stream.write(text)
