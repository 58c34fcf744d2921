# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ring-buffer model: events arrive, one thread drains, full rings drop."""

import math

from . import cputime, syscalls

_MEMBERS = {
    "open": "open creat openat openat2 open_by_handle_at",
    "close": "close",
    "connect": "connect",
    "execve": "execve execveat",
    "clone_fork": "clone clone3 fork vfork",
    "proc_exit": "procexit",
    "dir_file": "dup chmod fchmod fchmodat chown fchown fchownat lchown link linkat mkdir mkdirat mount umount umount2 rename "
                "renameat renameat2 rmdir symlink symlinkat unlink unlinkat",
    "other_interest": "bpf setpgid ptrace seccomp setns setresgid setresuid setsid unshare capset keyctl",
}
_MEMBERS = {name: frozenset(members.split()) for name, members in _MEMBERS.items()}

# Calls outside of Falco's drop categories, by their share of ordinary traffic.
OTHER = {
    "recvfrom": 14, "recvmsg": 12, "recvmmsg": 2, "sendto": 12, "sendmsg": 8, "sendmmsg": 2, "socket": 10, "fcntl": 16, "dup2": 4,
    "pipe2": 3, "accept4": 6, "bind": 2, "getsockopt": 3, "shutdown": 3, "socketpair": 1, "epoll_create1": 1, "prctl": 1,
}

CATEGORIES = tuple(_MEMBERS)


def ring_count(kind, cpus, per_ring):
    if kind != "modern_ebpf":
        return cpus
    per_ring = min(per_ring, cpus) or cpus
    return math.ceil(cpus / per_ring)


class Rings:
    def __init__(self, profile, kind, size, per_ring, selected, now, blind_from=math.inf, cpu=None, rules=(), plugins=()):
        """rules: [(name, codes of its events)] of those that are enabled. plugins: names of those that are loaded."""
        self.profile = profile
        self.cpu = cpu or cputime.Cpu(now, profile.starved, profile.quota)
        self.blind_at = now + blind_from
        cpus = profile.cpus
        self.size = size
        self.count = ring_count(kind, cpus, per_ring)
        self.capacity = size / profile.bytes_per_event
        width = cpus if kind == "modern_ebpf" and (per_ring == 0 or per_ring > cpus) else per_ring if kind == "modern_ebpf" else 1
        # [rings of this kind, share of the load on one of them, events waiting in one]
        self.groups = self._groups(cpus, min(width, cpus), profile.hot)
        self.hot_drops = 0.0  # of the ring of CPU 0, where that is hot
        self.kind = kind
        self.weights = self._weights(selected)
        self.share = sum(self.weights.values())
        self.consumer = 1 / (1 / profile.consumer + self._seconds_an_event(selected, rules, plugins))
        self.start = self.last = now
        self.events = self.drops = self.page_faults = self.consumed = 0.0
        self._yielded = (None, 1.0)
        self._naps, self._awake = False, 0.0  # the thread has nothing to read, and when a burst has woken it

    def _seconds_an_event(self, selected, rules, plugins):
        """CPU time that rules and plugins take for an event, on average over all that are selected."""
        found = sum(self.profile.plugin_nanoseconds.get(name, 0) for name in plugins)
        for name, codes in rules:
            cost = self.profile.rule_nanoseconds.get(name, 0)
            if cost and self.share:
                found += cost * sum(self._weights(codes & selected).values()) / self.share
        return found / 1e9

    @staticmethod
    def _groups(cpus, width, hot):
        """hot: share of the load on CPU 0, or None where all CPUs make as much."""
        full, rest = divmod(cpus, width)
        if not hot or cpus == 1:
            return [[full, width / cpus, 0.0]] + ([[1, rest / cpus, 0.0]] if rest else [])
        each = (1.0 - hot) / (cpus - 1)
        groups = [[1, hot + (width - 1) * each, 0.0], [full - 1, width * each, 0.0], [1 if rest else 0, rest * each, 0.0]]
        return [group for group in groups if group[0]]

    def _weights(self, selected):
        names = syscalls.to_names(selected)
        out = {}
        for name, weight in self.profile.categories.items():
            if name in _MEMBERS:
                share = 1.0 if _MEMBERS[name] & names else 0.0
            elif name == "other":
                share = sum(part for call, part in OTHER.items() if call in names) / float(sum(OTHER.values()))
            else:
                share = 1.0 if name in names else 0.0
            out[name] = weight * share
        return out

    def _rate(self, at):
        """Events a second at a moment, in seconds since the start."""
        if self.start + at >= self.blind_at:
            return 0.0
        rate, burst = self.profile.rate, self.profile.burst
        if burst and at % float(burst["every"]) < float(burst["seconds"]):
            rate = float(burst["events_per_second"])
        return rate * self.share * self.profile.release.events_factor * self._neighbours()

    def _neighbours(self):
        """What is left of the load when Falco takes CPU from the neighbours that make it (drops/cpu_starved.csv: a quarter less)."""
        if self.cpu.starved == self.cpu.neighbours:
            return 1.0
        if self._yielded[0] != self.cpu.starved:
            cpus, wanted = self.profile.cpus, self.profile.rate * self.share * self.profile.release.events_factor / self.consumer
            before = min(1 - self.cpu.neighbours, wanted)
            left = cpus / (cpus - before + wanted)
            if left * wanted > 1 - self.cpu.starved:
                left = (cpus - (1 - self.cpu.starved)) / (cpus - before)
            self._yielded = (self.cpu.starved, left)
        return self._yielded[1]

    def blind(self, now):
        """Whether events have ceased to arrive."""
        return now >= self.blind_at

    def advance(self, now):
        if now <= self.last:
            return
        start, end = self.last - self.start, now - self.start
        even = self.cpu.even and not self.profile.burst and not self.last < self.blind_at < now
        for step in [(start, end)] if even else self.cpu.steps(start, end):
            self._step(*step)
        self.last = self.cpu.last = now

    def _step(self, start, end):
        profile, span = self.profile, end - start
        arrived = self._rate((start + end) / 2) * span
        faults = min(profile.page_faults * span, arrived) if self.kind != "modern_ebpf" else 0.0
        stored = arrived - faults
        total = sum(count * (waiting + stored * share) for count, share, waiting in self.groups)
        idle = cputime.looking(stored / span) * max(0.0, span - total / self.consumer)
        if stored < span / cputime.LONGEST_NAP and total < 1:
            self._naps = True
        elif self._naps:
            # It sees a burst in the middle of its sleep.
            self._naps, self._awake = False, start + cputime.LONGEST_NAP / 2
        ran = self.cpu.run(max(start, self._awake), end, total / self.consumer + idle) if self._awake < end else 0.0
        budget = max(0.0, ran - idle) * self.consumer
        left = 0.0 if total <= budget else 1 - budget / total
        dropped = kept = 0.0
        for group in self.groups:
            count, share, waiting = group
            rest = (waiting + stored * share) * left
            group[2] = min(rest, self.capacity)
            dropped += count * (rest - group[2])
            if profile.hot and group is self.groups[0]:
                self.hot_drops += rest - group[2]
            kept += count * group[2]
        self.events += arrived
        self.drops += dropped
        self.page_faults += faults
        self.consumed += total - kept - dropped

    def by_category(self, number):
        """`number` shared out over Falco's drop categories; the rest is uncategorised."""
        return {name: int(number * self.weights.get(name, 0.0) / self.share) if self.share else 0 for name in CATEGORIES}

    @property
    def memory(self):
        return self.count * self.size

    @property
    def peak_memory(self):
        """modern_ebpf needs one more ring while it loads."""
        return self.memory + (self.size if self.kind == "modern_ebpf" else 0)
