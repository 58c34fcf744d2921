# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The step back to a selection with which no rule loses anything, on a host that loses no events. Pure.

Such a host has room for what its selection leaves out: a custom_set from an old guide, or repair alone. The
plan offers the lossless selection with what comes back and what it costs; policy allows it
(falco_tune_restore_rules).
"""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import coverage
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import sight, steps
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning.effects import Case
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning.steps import Step

# Ways that an offer names; a plan of the step shows them all.
WAYS = 3


def wanted(case: Case, current: Mapping[str, Any], first: Step) -> bool:
    """Whether rules are known to lose something with what is in force on a host that loses no events.

    current: {'custom_set', 'repair', 'all'} in force. first: the step that is taken otherwise.
    """
    if (
        case.verdict["state"] != "healthy"
        or case.policy["syscalls"] == "keep"
        or case.policy["base_syscalls"]
    ):
        return False
    if first.name or not case.release.has("base_syscalls.repair") or _excluded_by_tune(case, current):
        return False
    seen = sight.in_force(case.facts)
    return any(seen[kind] for kind in ("blind", "half_blind", "wrong_output"))


def step(case: Case, made: dict[str, Any], current: Mapping[str, Any]) -> Step:
    """The step, or where policy does not allow it the offer. made: syscall_set.choose() with restore."""
    to = {"repair": made["repair"], "custom_set": made["custom_set"]}
    lost = [item["rule"] for kind in coverage.KINDS for item in made["back"][kind]]
    if not lost or all(current[name] == value for name, value in to.items()):
        return Step()
    told = (
        "%d of %d rules see less than by default with the base_syscalls in force (repair: %s, custom_set: %s)"
        % (
            len(lost),
            made["coverage"]["rules_total"],
            str(current["repair"]).lower(),
            ", ".join(current["custom_set"]) or "empty",
        )
    )
    if not case.policy["restore_rules"]:
        return Step(offer=_offer(told, lost, made))
    refused = _refused(case, to)
    if refused:
        return Step(offer="%s; not given back: %s" % (told, refused))
    return Step(
        name="give_back",
        why="; ".join(["no events are lost, and %s" % told, *made["reasons"]]),
        expected="%s see again what they see by default%s" % (_named(lost), _cost(made)),
        to=to,
        settings=steps.wanted_syscalls(made, current),
        syscalls=made,
    )


def _excluded_by_tune(case: Case, current: Mapping[str, Any]) -> bool:
    """Whether policy allowed what is in force, on evidence: it expires after quiet_days."""
    record = case.facts["host"]["record"]
    taken = [item for item in (record["attempts"] if record else []) if item["step"] == "syscalls"]
    now = {name: current[name] for name in ("repair", "custom_set")}
    return case.policy["syscalls"] == "exclude" and bool(taken) and taken[-1]["to"] == now


def _refused(case: Case, to: Mapping[str, Any]) -> str | None:
    record = case.facts["host"]["record"]
    for item in record["attempts"] if record else []:
        if item["release"] == str(case.release) and item["to"] == to and item.get("rolled_back"):
            return "it was tried before and rolled back"
    return None


def _offer(told: str, lost: list[str], made: dict[str, Any]) -> str:
    ways = list(dict.fromkeys(line.strip() for line in coverage.lines(made["back"]) if line.startswith("  ")))
    more = "; and %d more" % (len(ways) - WAYS) if len(ways) > WAYS else ""
    return "%s: %s%s. falco_tune_restore_rules: true gives that back%s" % (
        told,
        _named(lost),
        " (%s%s)" % ("; ".join(ways[:WAYS]), more) if ways else "",
        _cost(made),
    )


def _named(rules: list[str]) -> str:
    return ", ".join(rules[:10]) + (" and %d more" % (len(rules) - 10) if len(rules) > 10 else "")


def _cost(made: dict[str, Any]) -> str:
    before, after = made["before"], made["after"]
    rates = ""
    if after["events_per_second"] is not None:
        rates = ", %.0f instead of %.0f events/s" % (after["events_per_second"], before["events_per_second"])
    return ": %d instead of %d system calls%s" % (after["syscalls"], before["syscalls"], rates)
