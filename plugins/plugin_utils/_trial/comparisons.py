# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trials whose tests run in turn, several times: the runs of one test as one entry, and what two tests differ
by. Pure.

Runs that stand next to each other in time are compared in pairs, so a load that grows during the trial does
not look like an effect. The interval of a difference is Student's, 95 %: with n pairs, the mean plus and
minus t(n - 1) · s / √n.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import bytes_text, number_text, some

Entry = dict[str, Any]

# Two-sided 95 % quantiles of Student's t distribution by degrees of freedom, from 1 (any table of it).
T_95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145),
    *(2.131, 2.120, 2.110, 2.101, 2.093),
)
# What is kept of one run, and compared: seconds of CPU for each million events that Falco read, percent of
# one CPU, percent of events lost, bytes, and events a second.
COMPARED = ("cpu_per_million", "falco_cpu_percent", "drops_percent", "memory_bytes", "events_per_second")
KEPT = ("state", "seconds", *COMPARED)
# A load that differs by more than this between the runs of a pair can be what made the difference.
MOST_LOAD_RATIO = 1.5
# A mean below this is no base for a percentage: nothing that is measured is so small.
LEAST_BASE = 1e-6
# Worst first: what the runs of one test come to.
ORDER = ("failed", "aborted", "dropping", "accepted", "clean", "skipped")
SUMMED = ("seconds", "events", "drops")
AVERAGED = ("falco_cpu_percent", "falco_wait_percent", "memory_bytes", "rate_per_cpu", "events_per_second")


def cpu_per_million(entry: Mapping[str, Any]) -> float | None:
    """Seconds of CPU time for each million events that Falco read, or None."""
    cpu, seconds = entry["falco_cpu_percent"], entry["seconds"]
    if cpu is None or not seconds or entry["events"] is None:
        return None
    read = (entry["events"] - (entry["drops"] or 0)) / seconds
    return round(cpu / 100.0 / read * 1e6, 4) if read > 0 else None


def run_of(entry: Mapping[str, Any]) -> Entry:
    """What is kept of one run of a test."""
    return {name: entry[name] for name in KEPT}


def combined(runs: Sequence[Entry]) -> Entry:
    """The entry of a test from the entries of its runs, which are not empty.

    Events, losses and time are summed, rates averaged, and the state is the worst of them.
    """
    worst = min(runs, key=lambda item: ORDER.index(item["state"]))
    if len(runs) == 1:
        return {**worst, "runs": [run_of(worst)]}
    found = {**worst, "runs": [run_of(item) for item in runs]}
    for name in SUMMED:
        found[name] = _sum(item[name] for item in runs)
    for name in (*AVERAGED, "cpu_per_million"):
        found[name] = _mean([item[name] for item in runs if item[name] is not None])
    if found["memory_bytes"] is not None:
        found["memory_bytes"] = round(found["memory_bytes"])
    if found["events"]:
        found["drops_percent"] = round(100.0 * found["drops"] / found["events"], 3)
    categories: dict[str, int] = {}
    for item in runs:
        for name, number in item["drops_by_category"].items():
            categories[name] = categories.get(name, 0) + number
    return {**found, "drops_by_category": categories}


def _sum(values: Iterable[Any]) -> Any:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _mean(values: Sequence[float]) -> float | None:
    return round(math.fsum(values) / len(values), 4) if values else None


def difference(without: Entry, against: Entry) -> Entry | None:
    """What a test differs by from the one that it is compared with, or None where no pair of runs was
    measured.

    {'against': name, 'pairs': number, 'load_ratio': the largest ratio of events/s in a pair,
     each of COMPARED: None or {'mean', 'low', 'high', 'percent', 'certain'}}. low and high: the interval,
    None with one pair. percent: of the other test's mean. certain: 0 is not in the interval.
    """
    pairs = [
        (one, other)
        for one, other in zip(without["runs"], against["runs"])
        if one["seconds"] is not None and other["seconds"] is not None
    ]
    if not pairs:
        return None
    found: Entry = {"against": against["name"], "pairs": len(pairs), "load_ratio": None}
    for name in COMPARED:
        known = [
            (one[name], other[name])
            for one, other in pairs
            if one[name] is not None and other[name] is not None
        ]
        found[name] = _interval(known) if known else None
    loads = [sorted((one["events_per_second"], other["events_per_second"])) for one, other in pairs]
    ratios = [high / low for low, high in loads if low > LEAST_BASE]
    found["load_ratio"] = round(max(ratios), 3) if ratios else None
    return found


def _interval(pairs: Sequence[tuple[float, float]]) -> Entry:
    differences = [one - other for one, other in pairs]
    mean = math.fsum(differences) / len(differences)
    base = math.fsum(other for _one, other in pairs) / len(pairs)
    found: Entry = {
        "mean": round(mean, 4),
        "low": None,
        "high": None,
        "percent": round(100.0 * mean / base, 2) if base > LEAST_BASE else None,
        "certain": False,
    }
    degrees = len(differences) - 1
    if degrees:
        spread = math.sqrt(math.fsum((value - mean) ** 2 for value in differences) / degrees)
        half = T_95[min(degrees, len(T_95)) - 1] * spread / math.sqrt(len(differences))
        found.update(low=round(mean - half, 4), high=round(mean + half, 4))
        found["certain"] = found["low"] > 0 or found["high"] < 0
    return found


# --- words


def text(entry: Mapping[str, Any]) -> str | None:
    """What a test showed in comparison with another one, in one line; None without a comparison."""
    found = entry["difference"]
    if found is None:
        return None
    parts = [
        part
        for part in (
            _part(found, "cpu_per_million", "CPU for each million events", _seconds),
            _part(found, "falco_cpu_percent", "CPU", lambda value: "%s %% of a CPU" % number_text(value)),
            _part(found, "drops_percent", "events lost", lambda value: "%s %%" % number_text(value)),
            _part(found, "memory_bytes", "memory", bytes_text),
        )
        if part
    ]
    told = "%s, compared with %s in %d %s: %s" % (
        entry["name"],
        found["against"],
        found["pairs"],
        "pair of runs" if found["pairs"] == 1 else "pairs of runs",
        "; ".join(parts) or "nothing was measured in both",
    )
    if found["load_ratio"] is not None and found["load_ratio"] > MOST_LOAD_RATIO:
        told += (
            "; the load of two compared runs differed by a factor of %s, so repeat this with a steadier load"
            % number_text(found["load_ratio"])
        )
    if entry["rules_removed"]:
        told += "; without the rules %s" % some(entry["rules_removed"])
    return told


def _seconds(value: float) -> str:
    return "%s s" % number_text(value)


def _part(found: Mapping[str, Any], name: str, what: str, shown: Any) -> str | None:
    """CPU for each million events: 0.4 s less (-21 %; 0.3 s to 0.5 s less)."""
    item = found[name]
    if item is None:
        return None
    if not item["mean"]:
        return "%s: no difference" % what
    word = "less" if item["mean"] < 0 else "more"
    notes = []
    if item["percent"] is not None and name != "drops_percent":
        notes.append("%s %%" % number_text(abs(item["percent"])))
    if item["low"] is not None:
        notes.append("95 %%: %s to %s" % (_signed(item["low"], shown), _signed(item["high"], shown)))
        if not item["certain"]:
            notes.append("not certain")
    return "%s: %s %s%s" % (what, shown(abs(item["mean"])), word, " (%s)" % ", ".join(notes) if notes else "")


def _signed(value: float, shown: Any) -> str:
    return ("-" if value < 0 else "+" if value > 0 else "") + str(shown(abs(value)))


def reason(entries: Sequence[Entry]) -> str:
    """What a trial of rules and plugins showed, in one sentence."""
    told = [line for line in map(text, entries) if line]
    return ". ".join(told) or "no two tests were measured, so nothing can be compared"
