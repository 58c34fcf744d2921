# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trials: what a host's answer means, what comes next, and the verdict. Pure."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.falcotune.fleet.plugins.plugin_utils import _untrusted
from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import Facts, Rule, TrialTest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import dry_run
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.releases import Release
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.words import SYSCALL
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import coverage, listing
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import bytes_text, number_text, visible
from ansible_collections.falcotune.fleet.plugins.plugin_utils._trial import comparisons
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import windows
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning.verdicts import MOST_KINDS

# Percent of one CPU from which the one thread that reads events counts as busy. A trial's Falco runs for too
# short a time to tell more.
SATURATED = 85.0

# What a test can come to, and what a whole trial can.
STATES = ("clean", "accepted", "dropping", "aborted", "failed", "skipped")
MEASURED = STATES[:3]
PASSED = ("clean", "accepted")
VERDICTS = ("largest", "compared", "too_busy", "none", "aborted", "failed")

EMPTY: dict[str, Any] = {
    "state": "skipped",
    "reason": None,
    "selected": [],
    "seconds": None,
    "events": None,
    "events_per_second": None,
    "rate_per_cpu": None,
    "drops": None,
    "drops_percent": None,
    "drops_by_category": {},
    "falco_cpu_percent": None,
    "falco_wait_percent": None,
    "memory_bytes": None,
    "rules_total": None,
    "rules_blind": [],
    "rules_half_blind": [],
    "rules_wrong_output": [],
    "unseen": [],
    "cpu_per_million": None,
    "rules_removed": [],
    "plugins": None,
    "runs": [],
    "difference": None,
}
# Kinds of drops that neither larger buffers nor fewer system calls reduce.
NO_LOAD = ("bug", "page_faults", "scratch_map")
MAX_TEXT = 400
# System calls in one sentence.
MOST_NAMES = 10
# Seconds of CPU time that a host may report; a shorter time than this is no base for a percentage.
LONGEST, SHORTEST = 1e9, 0.1

Entry = dict[str, Any]


def production_rules(text: str | None, facts: Facts, release: Release) -> tuple[list[Rule], str | None]:
    """(the rules that the host's own Falco has loaded, why they are not known). text: of `falco -L`."""
    if not text:
        return [], "falco -L printed nothing"
    effective = facts["config"]["effective"]
    selection = _untrusted.sequence(effective.get("rules"))
    try:
        found = listing.parse(text, release, str(effective.get("priority") or "debug"), selection)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        return [], "what the host sent can't be read: %s" % error
    return found["rules"], found["reason"]


def result(
    test: TrialTest,
    answer: Mapping[str, Any],
    selection: Mapping[str, Any],
    release: Release,
    accepted: float,
    rules: list[Rule] | None,
) -> Entry:
    """The entry of a test that was run. Never raises on host data.

    answer: {'state': 'ran', 'aborted', 'failed' or 'checked', 'reason', 'dry_run': text, 'pair', 'cpu',
    'cpus'}. selection: what was predicted; its 'selected' is None where the test has the host's own rules.
    accepted: percent of events that may be lost. rules: as production_rules() returns them, or None where
    they are not known.
    """
    dry = dry_run.parse(str(answer.get("dry_run") or ""))
    state, reason = answer.get("state"), _cut(answer.get("reason"))
    found = {**unrun(test, reason), "selected": dry["selected"]}
    if test["without"] is None:
        found.update(_losses(rules, dry["selected"], release))
    else:
        found.update(_removed(rules, dry["enabled_rules"]))
    if state == "checked" and not dry["reason"]:
        found["reason"] = "check mode: %d system calls would be watched; nothing was measured" % len(
            dry["selected"]
        )
        return found
    pair, cpus = answer.get("pair"), answer.get("cpus")
    window = windows.window(
        pair if isinstance(pair, dict) else {"reason": "nothing was measured"},
        release,
        cpus if isinstance(cpus, int) else None,
    )
    if not window["voided"]:
        found.update(_measured(window))
    cpu = _untrusted.dictionary(answer.get("cpu"))
    found.update(falco_cpu_percent=_share(cpu, "on"), falco_wait_percent=_share(cpu, "waiting"))
    found["cpu_per_million"] = comparisons.cpu_per_million(found)
    if state == "aborted":
        return {**found, "state": "aborted", "reason": reason or "no reason was given"}
    if dry["reason"] or state != "ran" or window["voided"]:
        told = reason if state == "failed" else None
        why = told or dry["reason"] or window["voided"] or reason or "the host's answer is not complete"
        return {**found, "state": "failed", "reason": _cut(why)}
    return {**found, **_judged(found, selection["selected"], accepted)}


def _losses(rules: list[Rule] | None, selected: list[str], release: Release) -> Entry:
    """The rules that would see less with these system calls, and what they would not see.

    {} where the rules are not known.
    """
    if rules is None:
        return {}
    lost = coverage.coverage(rules if selected else [], selected, release)
    return {
        "rules_total": sum(rule["enabled"] and rule["source"] == SYSCALL for rule in rules),
        "rules_blind": [item["rule"] for item in lost["blind"]],
        "rules_half_blind": [item["rule"] for item in lost["half_blind"]],
        "rules_wrong_output": [item["rule"] for item in lost["wrong_output"]],
        "unseen": coverage.unseen(lost),
    }


def _removed(rules: list[Rule] | None, enabled: list[str] | None) -> Entry:
    """How many rules the test's Falco has enabled, and which ones of the host's own it has not.

    enabled: names that its dry run printed, or None before 0.37.
    """
    if enabled is None:
        return {}
    before = {rule["name"] for rule in rules or () if rule["enabled"]}
    return {"rules_total": len(enabled), "rules_removed": sorted(before - set(enabled))}


def _measured(window: Mapping[str, Any]) -> Entry:
    return {
        "seconds": window["seconds"],
        "events": window["events"],
        "events_per_second": window["rate"],
        "rate_per_cpu": window["rate_per_cpu"],
        "drops": window["drops"],
        "drops_percent": window["drops_percent"],
        "drops_by_category": window["drops_by_category"],
        "memory_bytes": window["memory"].get("pss") or window["memory"].get("rss"),
    }


def _judged(found: Entry, expected: list[str] | None, accepted: float) -> Entry:
    """State and reason of a test that was measured whole."""
    state, reasons = "clean", []
    if found["drops"]:
        state = "accepted" if found["drops_percent"] <= accepted else "dropping"
        reasons.append(
            "%d of %d events lost (%s %%): %s"
            % (
                found["drops"],
                found["events"],
                number_text(found["drops_percent"]),
                _kinds(found["drops_by_category"]),
            )
        )
    elif (found["falco_cpu_percent"] or 0) >= SATURATED:
        reasons.append(
            "Falco used %s %% of a CPU, which is all that its one thread can use: buffers hide that for a "
            "while, so run a longer test" % number_text(found["falco_cpu_percent"])
        )
    if expected is not None and found["selected"] != expected:
        difference = _difference(expected, found["selected"])
        reasons.append("Falco selected other system calls than expected (%s)" % difference)
    return {"state": state, "reason": "; ".join(reasons) or None}


def _share(cpu: Mapping[str, Any], name: str) -> float | None:
    """Percent of the time, or None."""
    spent, span = _untrusted.number(cpu.get(name)), _untrusted.number(cpu.get("seconds"))
    if spent is None or span is None or not SHORTEST < span < LONGEST or spent >= LONGEST:
        return None
    return round(100.0 * spent / span, 2)


def _difference(expected: Iterable[str], selected: Iterable[str]) -> str:
    expected, selected = set(expected), set(selected)
    names = ["+" + name for name in sorted(selected - expected)]
    names += ["-" + name for name in sorted(expected - selected)]
    return ", ".join(names[:MOST_NAMES]) + (" …" if len(names) > MOST_NAMES else "")


def skipped(selection: Mapping[str, Any], done: Iterable[Entry]) -> str | None:
    """Why a test need not run after those that are done, or None. selection: what was predicted for it."""
    for other in done:
        if other["state"] == "aborted":
            return "not run: %s was aborted" % other["name"]
        if selection["selected"] is None:
            continue
        if other["state"] == "dropping" and set(other["selected"]) <= set(selection["selected"]):
            return "not run: it has all system calls of %s, which lost %s %% of events" % (
                other["name"],
                number_text(other["drops_percent"]),
            )
    return None


def unrun(test: TrialTest, reason: str | None, state: str = "skipped") -> Entry:
    """The entry of a test that was not run."""
    return {**copy.deepcopy(EMPTY), **copy.deepcopy(test), "state": state, "reason": reason}


def verdict(results: Sequence[Entry], accepted: float) -> dict[str, str | None]:
    """{'verdict', 'reason', 'largest'} of a trial. accepted: percent of events that may be lost."""
    first: dict[str, Entry] = {}
    for item in results:
        first.setdefault(item["state"], item)
    sets = [item for item in results if item["without"] is None]
    best = _largest([item for item in sets if item["state"] in PASSED])
    largest = best["name"] if best else None
    if "aborted" in first:
        kind, reason = "aborted", _named(first["aborted"])
    elif any(item["difference"] for item in results):
        kind, reason = "compared", comparisons.reason(results)
    elif best:
        kind, reason = "largest", _cost(best, accepted)
    elif sets and "dropping" in first:
        kind, reason = "too_busy", _too_busy(results, accepted)
    elif "failed" in first:
        alike = len({item["reason"] for item in results}) == 1
        kind, reason = "failed", first["failed"]["reason"] if alike else _named(first["failed"])
    else:
        kind, reason = "none", (results[0]["reason"] if results else None) or "nothing was measured"
    return {"verdict": kind, "reason": reason, "largest": largest}


def _named(item: Entry) -> str:
    return "%s: %s" % (item["name"], item["reason"])


def _largest(passed: Sequence[Entry]) -> Entry | None:
    """The test with most events a second; of equals, the one with most system calls.

    But a set that holds all of another one is larger than that, whatever the load was while they ran.
    """
    outer = [
        item for item in passed if not any(set(item["selected"]) < set(other["selected"]) for other in passed)
    ]
    return max(
        outer, key=lambda item: (item["events_per_second"], len(item["selected"]), item["name"]), default=None
    )


def _too_busy(results: Iterable[Entry], accepted: float) -> str:
    """Every set that was measured lost too much: the one that lost least, and what its losses mean."""
    least = min(
        (item for item in results if item["state"] == "dropping"),
        key=lambda item: (item["drops_percent"], item["name"]),
    )
    no_load = sum(least["drops_by_category"].get(name, 0) for name in NO_LOAD)
    return "%s lost least, %s %% of its events with this host's buffers (%s), and %s %% are accepted: %s" % (
        least["name"],
        number_text(least["drops_percent"]),
        _kinds(least["drops_by_category"]),
        number_text(accepted),
        "most drops are not for want of room, so fewer system calls or larger buffers do not help"
        if no_load * 2 > least["drops"]
        else "the host is too busy for Falco",
    )


def _kinds(found: Mapping[str, int]) -> str:
    """Drops by kind, most first."""
    most = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:MOST_KINDS]
    return ", ".join("%s %d" % item for item in most) or "of no known kind"


def _cost(best: Entry, accepted: float) -> str:
    """What it costs to watch the largest set."""
    lost = "no events lost"
    if best["drops"]:
        lost = "%s %% lost (%s %% accepted)" % (number_text(best["drops_percent"]), number_text(accepted))
    text = "%s: %d system calls, %s events/s, %s" % (
        best["name"],
        len(best["selected"]),
        number_text(best["events_per_second"]),
        lost,
    )
    if best["falco_cpu_percent"] is not None:
        text += "; Falco used %s %% of a CPU" % number_text(best["falco_cpu_percent"])
    if best["memory_bytes"]:
        text += " and %s of memory" % bytes_text(best["memory_bytes"])
    if best["rules_total"] is not None:
        text += "; of %d rules %d would be blind, %d half blind, %d with wrong values in outputs" % (
            best["rules_total"],
            len(best["rules_blind"]),
            len(best["rules_half_blind"]),
            len(best["rules_wrong_output"]),
        )
    if best["reason"] and not best["drops"]:
        text += ". But " + best["reason"]
    return text


def line(item: Entry, known: str | None = None) -> str:
    """One test in one line of plain text. known: a reason that was told already."""
    words = [item["name"], item["state"]]
    if item["selected"]:
        words.append("%d system calls" % len(item["selected"]))
    if item["events"] is not None:
        words.append("%s events/s/CPU" % number_text(item["rate_per_cpu"]))
        words.append("%s %% lost" % number_text(item["drops_percent"]))
    if item["falco_cpu_percent"] is not None:
        words.append("CPU %s %%" % number_text(item["falco_cpu_percent"]))
    if item["without"] is not None and item["cpu_per_million"] is not None:
        words.append("%s s of CPU for each million events" % number_text(item["cpu_per_million"]))
        words.append("%s of memory" % bytes_text(item["memory_bytes"]))
    if item["reason"] and not item["drops"] and item["reason"] != known:
        words.append(item["reason"])
    return visible(", ".join(words))


def lines(trial: Mapping[str, Any]) -> list[str]:
    """A host's trial for people. What rules would not see is told of the largest set that it could watch."""
    compared = [told for told in map(comparisons.text, trial["tests"]) if told]
    return [
        visible("verdict: %s" % trial["verdict"]),
        *([] if trial["verdict"] == "compared" else [visible("because: %s" % trial["reason"])]),
        *map(visible, compared),
        *(line(item, trial["reason"]) for item in trial["tests"]),
        *(
            visible("with %s, %s" % (item["name"], unseen_text(way)))
            for item in trial["tests"]
            if item["name"] == trial["largest"]
            for way in item["unseen"]
        ),
    ]


def unseen_text(way: Mapping[str, Any]) -> str:
    """One way that some rules would not see, in one line."""
    rules = way["rules"]
    return "%s: %s%s" % (
        coverage.way_text(way),
        ", ".join(rules[:MOST_NAMES]),
        " and %d more rules" % (len(rules) - MOST_NAMES) if len(rules) > MOST_NAMES else "",
    )


def _cut(value: object) -> str | None:
    return str(value)[:MAX_TEXT] if value else None
