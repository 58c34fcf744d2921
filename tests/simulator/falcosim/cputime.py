# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CPU time as the kernel accounts it: on a CPU, waiting in a run queue, kept off by a quota; and what priority changes."""

import math

# A starved thread waits in one piece of this: ten neighbours on two CPUs with slices of 3 ms. A real one lost as much with rings of 64 MiB
# as with 8 MiB, which bridge 0.13 s (conformance/fixtures, loads.json: crowd).
STALL_PERIOD = 0.02
QUOTA_PERIOD = 0.1   # the kernel's default for CPU quotas
IDLE = 0.005         # of a CPU, for nothing (FINDINGS: 0.5 % of a core idle)
# Seconds of CPU time for a look into empty rings (loads.json: steady), and between two looks: twice as long each time, until there is
# an event (libscap sleeps for 0.5 to 30 ms).
LOOK, NAP, LONGEST_NAP = 12e-6, 0.00056, 0.03
STARTING = 0.9       # of a CPU while it starts: 1.5 s of CPU in 1.7 s (first snapshots of drops/raw)
STEP = 1.25          # between the kernel's weights of neighbouring nice values

# What a nice value leaves of the time for which a Falco at nice 0 waits (drops/cpu_starved.csv, mean of both repeats).
RECORDED = ((0, 1.0), (-10, 0.231), (-20, 0.066))


def nice_of_weight(weight):
    """The nice value whose weight relates to that of nice 0 as a cgroup's cpu.weight does to 100."""
    return -math.log(weight / 100.0, STEP)


def waiting_share(starved, nice):
    """Share of the time for which a thread waits at a nice value, if it is `starved` at nice 0.

    Between the recorded values the share shrinks by equal factors. At a lower priority it runs as fair shares have it.
    """
    if nice > 0:
        return 1 - (1 - starved) / (STEP ** nice * starved + (1 - starved))
    nice = max(nice, RECORDED[-1][0])
    for (above, more), (below, less) in zip(RECORDED, RECORDED[1:]):
        if nice >= below:
            return starved * more * (less / more) ** ((nice - above) / float(below - above))
    return starved * RECORDED[-1][1]


def looking(rate):
    """Share of a CPU that a thread which keeps up spends on looking for events that come at a rate."""
    if rate <= 0:
        return IDLE
    often = min(rate, 1 / NAP)
    return IDLE + LOOK * often * math.log2(1 + 1 / (often * NAP))


def overlap(start, end, period, width):
    """Share of [start, end) inside the first `width` of each period."""
    if width >= period:
        return 1.0
    total, at = 0.0, math.floor(start / period + 1e-9) * period
    while at < end:
        total += max(0.0, min(end, at + width) - max(start, at))
        at += period
    return total / (end - start)


class Cpu:
    """A process's totals since its start, in seconds, over all runs that hot reloads make of it."""

    def __init__(self, born, starved=0.0, quota=None):
        self.born = self.last = born
        self.neighbours = starved  # share of the time for which it waits at nice 0
        self.starved = starved     # the same at the priority it has
        self.quota = quota         # CPUs that its cgroup may use, or None
        self.on = self.waiting = self.throttled = 0.0
        self.periods = self.limited = 0  # of the quota: those that passed while it had work, those that it used up
        self._period, self._left, self._exhausted = None, 0.0, False

    @property
    def even(self):
        """Whether any stretch of time is like any other."""
        return not self.starved and not self.quota

    def run(self, start, end, work):
        """Seconds on a CPU that a thread with so much work gets between two moments; a step must not cross a quota's period."""
        span = end - start
        free = span * (overlap(start, end, STALL_PERIOD, STALL_PERIOD * (1 - self.starved)) if self.starved else 1.0)
        got = min(work, free)
        if work > 0:
            self.waiting += span - free
        if self.quota:
            got = self._limit(start, got, free)
        self.on += got
        return got

    def _limit(self, start, wanted, free):
        """What the quota leaves. From there to the period's end the thread is off, which schedstat counts as waiting (measured on 6.18)."""
        period = math.floor(start / QUOTA_PERIOD + 1e-6)
        if period != self._period:
            self._period, self._left, self._exhausted = period, self.quota * QUOTA_PERIOD, False
            self.periods += 1
        got = min(wanted, self._left)
        self._left -= got
        if wanted - got > 1e-9:
            self.limited += not self._exhausted
            self._exhausted = True
            self.throttled += free - got
            self.waiting += free - got
        return got

    def steps(self, start, end, width=0.01):
        """[start, end) cut where the periods change, on a grid that does not depend on when it is asked."""
        while start < end:
            cut = min(end, (math.floor(start / width + 1e-6) + 1) * width)
            yield start, cut
            start = cut

    def spend(self, now, busy_until):
        """Time in which no events are taken in: it starts until `busy_until`, and idles then."""
        for start, end in self.steps(self.last - self.born, now - self.born):
            share = STARTING if self.born + start < busy_until else IDLE
            self.run(start, end, share * (end - start))
        self.last = max(self.last, now)
