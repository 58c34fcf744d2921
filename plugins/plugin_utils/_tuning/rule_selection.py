# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rules policy disables on a host, and what Falco's `rules` must say for it. Pure.

Falco reads `rules` since 0.38, after all rules files, entry by entry: the last entry that fits a rule
decides, so ours come last. Tags and findings of policy are written as names of rules: a rule that comes later
with the same tag is not disabled without anybody knowing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import LoadedRules, Policy, Rule
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.words import PRIORITIES
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules.enabled import fits
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning.refusals import PlanError

KEY = "rules"
Entries = list[dict[str, dict[str, str]]]


class Disabled(NamedTuple):
    """entries: of Falco's `rules`. why: the rules by name, with what is lost, or ''. notes: what policy names
    and is not disabled, with reasons."""

    entries: Entries
    why: str
    notes: list[str]


def asked(policy: Policy) -> bool:
    """Whether policy disables anything, so that the host's rules must be known."""
    return bool(policy["disabled_rules"] or policy["disabled_tags"] or policy["disabled_findings"])


def choose(policy: Policy, known: LoadedRules) -> Disabled:
    """What policy disables of a host's rules. Raises PlanError where it names a rule that it protects."""
    found: dict[str, str] = {}
    notes = []
    audit = known.get("audit")
    flagged = {(item["rule"], item["kind"]) for item in (audit["findings"] if audit else ()) if item["rule"]}
    for rule in known["rules"]:
        reason = _reason(policy, rule, flagged)
        if reason is None or not (rule["enabled"] or rule["disabled_by"] == "selection"):
            continue
        if "*" in rule["name"]:
            notes.append(
                "%s is not disabled: its name holds a *, which Falco takes as any text" % rule["name"]
            )
        elif _protected(policy, rule):
            if rule["name"] in policy["disabled_rules"]:
                raise PlanError(
                    "falco_tune_disabled_rules names %s, which falco_tune_protected_* protects: take it out "
                    "of one of them" % rule["name"]
                )
            notes.append("%s (%s) is not disabled: it is protected" % (rule["name"], reason))
        else:
            tags = ", tags %s" % ", ".join(rule["tags"]) if rule["tags"] else ""
            found[rule["name"]] = "%s (%s%s; %s)" % (rule["name"], rule["priority"], tags, reason)
    notes += _unmatched(policy, known["rules"])
    why = "these rules no longer alert, by policy: %s" % "; ".join(found.values()) if found else ""
    return Disabled([{"disable": {"rule": name}} for name in found], why, notes)


def _reason(policy: Policy, rule: Rule, flagged: set[tuple[str, str]]) -> str | None:
    """What of policy disables a rule, or None."""
    if any(fits(pattern, rule["name"]) for pattern in policy["disabled_rules"]):
        return "named"
    tags = [tag for tag in policy["disabled_tags"] if tag in rule["tags"]]
    if tags:
        return "tag %s" % tags[0]
    kinds = [kind for kind in policy["disabled_findings"] if (rule["name"], kind) in flagged]
    return "finding %s" % kinds[0] if kinds else None


def _protected(policy: Policy, rule: Rule) -> bool:
    least = policy["protected_priority"]
    return (
        rule["name"] in policy["protected_rules"]
        or bool(set(policy["protected_tags"]) & set(rule["tags"]))
        or (least != "none" and PRIORITIES.index(rule["priority"]) <= PRIORITIES.index(least))
    )


def _unmatched(policy: Policy, rules: Iterable[Rule]) -> list[str]:
    """Names and tags of policy that no rule of this host has: a rule was renamed, or a name is misspelt."""
    rules = list(rules)
    names = [rule["name"] for rule in rules]
    tags = {tag for rule in rules for tag in rule["tags"]}
    return [
        "falco_tune_disabled_rules names %s, and this host has no such rule" % pattern
        for pattern in policy["disabled_rules"]
        if not any(fits(pattern, name) for name in names)
    ] + [
        "falco_tune_disabled_tags names %s, and no rule of this host has that tag" % tag
        for tag in policy["disabled_tags"]
        if tag not in tags
    ]


def in_force(now: Any, entries: Entries) -> bool:
    """Whether Falco's `rules` end with these entries."""
    return not entries or (isinstance(now, list) and now[-len(entries) :] == entries)


def whole(now: Any, entries: Entries) -> list[Any]:
    """Falco's `rules` with these entries at the end."""
    return [*(now if isinstance(now, list) else []), *entries]
