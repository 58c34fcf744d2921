# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What rules see with the system calls that are in force on a host, whoever configured them. Pure."""

from __future__ import annotations

from typing import Any, Literal, Mapping, TypedDict

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import Facts
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases, selections
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.configuration import Settings
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.releases import Release
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.words import SYSCALL
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import coverage

Basis = Literal["rules", "record", "default", "unknown"]


class Sight(TypedDict):
    """What is known of the coverage in force. The lists hold names of rules.

    unseen: the ways that they do not see, where that is known by the host's rules.

    basis: 'rules' (the host's rules and the dry run of its Falco), 'record' (what the last tune worked out
    for this very selection), 'default' (nothing is narrowed, so no rule loses anything) or 'unknown'. reason:
    why it is unknown.
    """

    basis: Basis
    reason: str | None
    rules_total: int | None
    blind: list[str]
    half_blind: list[str]
    wrong_output: list[str]
    unseen: list[coverage.Unseen]


def digest(found: Mapping[str, Any]) -> dict[str, Any]:
    """A plan's coverage as the record of a host keeps it: names of rules."""
    return {
        "rules_total": found["rules_total"],
        **{kind: [item["rule"] for item in found[kind]] for kind in coverage.KINDS},
    }


def in_force(facts: Facts) -> Sight:
    """The coverage of what a host's Falco watches now. Never raises on host data."""
    release = releases.known(facts["falco"]["version"])
    effective = facts["config"]["effective"]
    if release is None or not effective:
        return _unknown("Falco's release or its configuration is not known")
    if not release.since(0, 35):
        return _sight("default", {})
    known = facts["syscalls"]
    if known and not known["reason"] and known["selected"]:
        rules = [rule for rule in known["rules"] if rule["enabled"] and rule["source"] == SYSCALL]
        found = coverage.coverage(rules, known["selected"], release)
        seen = _sight("rules", digest({**found, "rules_total": len(rules)}))
        return {**seen, "unseen": coverage.unseen(found)}
    return _by_settings(facts, Settings(effective, release), release)


def asks(facts: Facts) -> bool:
    """Whether the host's Falco must be asked for its rules to know what they see now."""
    return (
        in_force(facts)["basis"] == "unknown"
        and releases.known(facts["falco"]["version"]) is not None
        and bool(facts["config"]["effective"])
        and facts["falco"]["running"]
        and facts["syscalls"] is None
    )


def _by_settings(facts: Facts, settings: Settings, release: Release) -> Sight:
    custom_set = selections.entries_of(settings.value("base_syscalls.custom_set"))
    now = {"repair": bool(settings.value("base_syscalls.repair")), "custom_set": custom_set}
    if now == {"repair": False, "custom_set": []}:
        return _sight("default", {})
    record = facts["host"]["record"]
    for attempt in reversed(record["attempts"] if record else []):
        kept = attempt.get("coverage")
        if kept and attempt["to"] == now and attempt["release"] == str(release):
            return _sight("record", kept)
    known = facts["syscalls"]
    return _unknown(
        "base_syscalls is narrowed (repair: %s, custom_set: %s), and the host's rules are not known%s"
        % (
            str(now["repair"]).lower(),
            ", ".join(custom_set) or "empty",
            ": %s" % known["reason"] if known and known["reason"] else "",
        )
    )


def _sight(basis: Basis, found: Mapping[str, Any]) -> Sight:
    blind, half_blind, wrong_output = (_texts(found.get(kind)) for kind in coverage.KINDS)
    total = found.get("rules_total")
    return {
        "basis": basis,
        "reason": None,
        "rules_total": total if isinstance(total, int) else None,
        "blind": blind,
        "half_blind": half_blind,
        "wrong_output": wrong_output,
        "unseen": [],
    }


def _unknown(reason: str) -> Sight:
    return {**_sight("unknown", {}), "reason": reason}


def _texts(given: object) -> list[str]:
    return [item for item in given if isinstance(item, str)] if isinstance(given, list) else []
