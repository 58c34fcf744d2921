# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What rules need of a selection of system calls, and what they lose under one. Pure.

A rule loses events that are not selected. It also loses *ways*: its event arrives, but the calls that carry
the state behind its fields do not (see state.py). Rules come from ruleset.resolve() or listing.parse(); only
enabled rules for system calls count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, TypedDict

from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.syscall_names import Names, names_for
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.words import SYSCALL
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import state

Rules = Iterable[Mapping[str, Any]]
KINDS = ("blind", "half_blind", "wrong_output")


class Way(TypedDict):
    """A way to come by a value that a rule does not see.

    way: in words. calls: names of the events that would carry it, one of which is enough. fields: those that
    read it. false_alarms: a wrong value can make the rule fire where it should not.
    """

    way: str
    calls: list[str]
    fields: list[str]
    false_alarms: bool


class Unseen(Way):
    """The same with the names of the rules that do not see it."""

    rules: list[str]


class Item(TypedDict):
    """A rule that loses something.

    lost, left: event names. ways: what the rule does not see of the events that are left.
    """

    rule: str
    lost: list[str]
    left: list[str]
    ways: list[Way]


class Coverage(TypedDict):
    """The rules that lose something. A rule in none of these lists loses nothing.

    blind: none of the rule's system calls is selected, or no call that makes a descriptor which its condition
    requires; and none of Falco's own events can match it either.
    half_blind: some of its system calls are not selected, or a way of its condition is not seen.
    wrong_output: the rule fires as it should, but fields of its output may be missing or wrong.
    """

    blind: list[Item]
    half_blind: list[Item]
    wrong_output: list[Item]


def needs(rules: Rules, release: releases.Release | str) -> set[str]:
    """Event names that the enabled rules name together: what selections.select() takes as `rules`."""
    kernel: set[str] = set()
    for rule in _counted(rules):
        kernel.update(rule["kernel"])
    return names_for(release).exact_events(kernel)


def coverage(rules: Rules, selected: Any, release: releases.Release | str) -> Coverage:
    """Which rules lose what under a selection, in the order of the rules.

    selected: what selections.select() returned, or the names of a final set as a dry run prints it.
    """
    names = names_for(release)
    if isinstance(selected, dict) and "kernel" in selected:
        kernel = set(selected["kernel"])
    else:
        kernel = names.kernel_of_printed(selected["selected"] if isinstance(selected, dict) else selected)
    found: Coverage = {"blind": [], "half_blind": [], "wrong_output": []}
    for rule in _counted(rules):
        wanted = set(rule["kernel"])
        lost = wanted - kernel
        others = set(rule["other_events"] if rule["restricted"] else ())
        left = names.exact_events(wanted & kernel) | others
        # Without any of its system calls there is no event whose fields could be read.
        unseen = state.unseen(rule, kernel, release) if wanted & kernel else []
        if not lost and not unseen:
            continue
        item: Item = {
            "rule": rule["name"],
            # The most exact names: a rule that loses accept and keeps accept4 loses accept, not both.
            "lost": sorted(names.exact_events(lost)),
            "left": sorted(left),
            "ways": _ways(unseen, names),
        }
        if not left or not others and state.never(rule, kernel, release):
            found["blind"].append(item)
        elif lost or any(not need.only_output for need in unseen):
            found["half_blind"].append(item)
        else:
            found["wrong_output"].append(item)
    return found


def more_lost(before: Coverage, after: Coverage) -> list[str]:
    """Names of rules that see less after than before, also of those that only print wrong values."""
    had = {item["rule"]: _losses(item) for kind in KINDS for item in _items(before, kind)}
    return [
        item["rule"]
        for kind in KINDS
        for item in _items(after, kind)
        if _losses(item) - had.get(item["rule"], frozenset())
    ]


def unseen(found: Mapping[str, Any]) -> list[Unseen]:
    """The ways that rules do not see, those of the most rules first."""
    made: dict[str, Unseen] = {}
    for kind in KINDS:
        for item in _items(found, kind):
            for way in item["ways"]:
                one = made.setdefault(
                    way["way"],
                    {
                        "way": way["way"],
                        "calls": way["calls"],
                        "fields": [],
                        "false_alarms": False,
                        "rules": [],
                    },
                )
                one["rules"].append(item["rule"])
                if way["false_alarms"]:
                    one["false_alarms"] = True
                    one["fields"] = sorted({*one["fields"], *way["fields"]})
    return sorted(made.values(), key=lambda one: -len(one["rules"]))


def lines(found: Mapping[str, Any] | None, but: Collection[str] = ()) -> list[str]:
    """The rules that lose something: one line for each rule, and one for each way.

    found: a plan's coverage, or None. but: names of rules to leave out.
    """
    told = []
    for kind in KINDS:
        for item in _items(found or {}, kind):
            if item["rule"] not in but:
                told.append("%s: %s%s" % (kind.replace("_", " "), item["rule"], _events_text(item)))
                told.extend("  " + way_text(way) for way in item.get("ways") or ())
    return told


def way_text(way: Mapping[str, Any]) -> str:
    """One way that is not seen, in one line."""
    return "unseen: %s (%s%s)" % (
        way["way"],
        " or ".join(way["calls"]),
        "; false alarms possible: %s" % ", ".join(way["fields"]) if way["false_alarms"] else "",
    )


def _events_text(item: Mapping[str, Any]) -> str:
    if not item["lost"]:
        return ""
    left = ", left %s" % ", ".join(item["left"]) if item["left"] else ""
    return " (lost %s%s)" % (", ".join(item["lost"]), left)


def _ways(unseen: Iterable[state.Need], names: Names) -> list[Way]:
    """The ways of some needs, those of the condition first. Ways with the same words become one."""
    made: dict[str, Way] = {}
    unseen = sorted(unseen, key=lambda need: need.only_output)
    handles = {need.calls for need in unseen if need.subject == "path"}
    for need in unseen:
        # What is not seen of handles is not seen of directories entered through them either; report it once.
        if need.subject == "fchdir" and need.calls in handles:
            continue
        way = made.setdefault(need.way, {"way": need.way, "calls": [], "fields": [], "false_alarms": False})
        way["calls"] = sorted(set(way["calls"]) | names.exact_events(need.calls))
        way["fields"] = sorted(set(way["fields"]) | set(need.fields))
        way["false_alarms"] = way["false_alarms"] or not need.only_output and (need.negated or need.stale)
    return list(made.values())


def _losses(item: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    events = {("event", name) for name in item["lost"]}
    return frozenset(events | {("way", way["way"]) for way in item.get("ways") or ()})


def _items(found: Mapping[str, Any], kind: str) -> list[Any]:
    return found.get(kind) or []


def _counted(rules: Rules) -> Iterator[Mapping[str, Any]]:
    return (rule for rule in rules if rule["enabled"] and rule["source"] == SYSCALL)
