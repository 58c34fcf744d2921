# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a simulated host's kernel takes priority and quota from, and where it shows CPU time: proc/PID and the unit's cgroup.

Whoever starts the process makes proc/PID with its `stat` and `cgroup`, and the cgroup with its files. Without them nothing is
shown, and priority is the process's own.
"""

import os

from . import cputime

EVERY = 0.1  # seconds between two writings
TICKS = os.sysconf("SC_CLK_TCK")
USER = 0.75  # share of the CPU time that is shown as spent in user space
SLICE = 0.003  # seconds of a time slice

# Fields of proc/PID/stat after the name in parentheses.
STATE, UTIME, STIME, PRIORITY, NICE = 0, 11, 12, 15, 16


def read(path):
    try:
        with open(path, encoding="ascii", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def quota_of(text):
    """CPUs of a cpu.max such as '50000 100000', or None."""
    words = text.split()
    return int(words[0]) / float(words[1]) if len(words) == 2 and words[0].isdigit() else None


class Accounting:
    """Between a process's Cpu and its host's files."""

    def __init__(self, cpu, profile, pid=None):
        pid = pid or os.getpid()
        self.cpu = cpu
        folder = "%s/%d" % (profile.accounting, pid)
        self.folder = folder if profile.accounting and os.path.isdir(folder) else None
        self.group = None
        group = read(folder + "/cgroup").rpartition("::")[2].strip() if self.folder else ""
        if group and profile.cgroups and os.path.isdir(profile.cgroups + group):
            self.group = profile.cgroups + group
        self.schedstat = "%s/task/%d/schedstat" % (folder, pid)
        self.autogroup = profile.autogroup
        self.nice = profile.nice
        if self.folder:
            self.nice = int(read(self.folder + "/stat").rpartition(")")[2].split()[NICE])
            name, _, fields = read("/proc/self/stat").rpartition(") ")
            self.stat = name + ") ", fields.split()
        self.turns = {}
        self.next = 0.0

    def take(self, profile):
        """Priority and quota as they are now. Returns whether the unit's cgroup has the cpu controller."""
        weight = read(self.group + "/cpu.weight").strip() if self.group else ""
        limit = read(self.group + "/cpu.max") if self.group else ""
        if weight.isdigit():
            # Among cgroups only weights count: nice values do inside of one.
            nice = cputime.nice_of_weight(int(weight))
        else:
            nice = 0 if self.autogroup else self.nice
        self.cpu.neighbours = profile.starved
        self.cpu.starved = cputime.waiting_share(profile.starved, nice) if profile.starved else 0.0
        self.cpu.quota = quota_of(limit) or profile.quota and float(profile.quota)
        return bool(limit)

    def show(self, limits):
        """Write the totals; `limits`: those of the quota too."""
        cpu = self.cpu
        user, system = cpu.on * USER, cpu.on * (1 - USER)
        name, fields = self.stat
        fields[STATE] = "S"
        fields[UTIME], fields[STIME] = str(int(user * TICKS)), str(int(system * TICKS))
        fields[NICE], fields[PRIORITY] = str(self.nice), str(20 + self.nice)
        schedule = "%d %d %d\n" % (cpu.on * 1e9, cpu.waiting * 1e9, cpu.on / SLICE + 1)
        self._write(self.folder + "/stat", name + " ".join(fields) + "\n")
        self._write(self.schedstat, schedule)
        if self.group:
            text = "usage_usec %d\nuser_usec %d\nsystem_usec %d\n" % (cpu.on * 1e6, user * 1e6, system * 1e6)
            if limits:
                text += "nr_periods %d\nnr_throttled %d\nthrottled_usec %d\nnr_bursts 0\nburst_usec 0\n" % (
                    cpu.periods, cpu.limited, cpu.throttled * 1e6)
            self._write(self.group + "/cpu.stat", text)

    def _write(self, path, text):
        """Whole or not at all; not at all once the directory is gone.

        Two files take turns at being there: a new one each time would be written to disk each time (ext4, on rename).
        """
        turn = self.turns[path] = 1 - self.turns.get(path, 1)
        spare = "%s/.%s.%d" % (self.folder, os.path.basename(path), turn)
        try:
            handle = os.open(spare, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                os.ftruncate(handle, os.pwrite(handle, text.encode(), 0))
            finally:
                os.close(handle)
            os.link(spare, self.folder + "/.new")
            os.rename(self.folder + "/.new", path)
        except OSError:
            pass
