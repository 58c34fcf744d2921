# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the syscall profile costs others: a program of nothing but system calls, with it and without, in pairs of one run."""

from __future__ import annotations

import os
import statistics
import subprocess
import threading
import time

from ansible_collections.falcotune.fleet.plugins.module_utils._measure import syscall_counts

# dd makes two of the cheapest calls for each byte: the worst that the profile can do to anybody.
CALLS = 200_000
DD = ["dd", "if=/dev/zero", "of=/dev/null", "bs=1", "count=%d" % (CALLS // 2), "status=none"]
# perf has begun to count by then.
BEGIN = 3


def rate(seconds: float) -> float:
    """Calls a second of dd's own CPU time, the median of those runs that end in this time: neighbours take the rest of the clock."""
    found, end = [], time.monotonic() + seconds
    while time.monotonic() < end or not found:
        dd = subprocess.Popen(DD)
        dummy, status, used = os.wait4(dd.pid, 0)
        dd.returncode = status
        if status != 0:
            raise SystemExit(f"dd ended with {status}")
        found.append(CALLS / (used.ru_utime + used.ru_stime))
    return statistics.median(found)


def measure(pairs: int, seconds: float = 4) -> list[str]:
    """Lines of results; one of the means that this kernel doesn't have is said and left out."""
    if os.geteuid() != 0:
        return ["the profile: not measured, only root may count system calls"]
    lines = []
    for means in syscall_counts.MEANS:
        lacking = syscall_counts.measure("", 0.5, (means,))["reason"]
        if lacking:
            lines.append(f"profile by {means}: not measured: {lacking}")
            continue
        found, after = [], []
        for number in range(pairs):
            pair = {}
            for counts in sorted((False, True), reverse=number % 2 == 1):
                answer = {}
                counting = threading.Thread(target=lambda: answer.update(syscall_counts.measure("", seconds + BEGIN, (means,))))  # noqa: B023
                if counts:
                    counting.start()
                    time.sleep(BEGIN)
                pair[counts] = rate(seconds)
                if counts:
                    began = time.monotonic()
                    counting.join()
                    after.append(time.monotonic() - began)
                    if answer["means"] != means:
                        raise SystemExit(answer["reason"])
            found.append(pair)
        without, during = (statistics.median(pair[counts] for pair in found) for counts in (False, True))
        ratio = statistics.median(pair[True] / pair[False] for pair in found)
        lines.append(f"a loop of the cheapest calls with a profile by {means} / without: {ratio:.2f} of its speed (medians of {pairs} "
                     f"pairs: {during / 1e3:.0f} / {without / 1e3:.0f} thousand calls a CPU second, {1e9 / during - 1e9 / without:.0f} ns "
                     f"more a call; the task ends {statistics.median(after):.1f} s after the count)")
    return lines
