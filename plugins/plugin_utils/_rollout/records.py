# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollout in lines for people, before, while and after it runs, and its record for the report. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import (
    Batch,
    BegunBatch,
    Outcome,
    RolloutHost,
    RolloutPlan,
    RolloutProgress,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rollout import batching
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rollout.hosts import class_text
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import bytes_text, several, some

# Names in one line.
MANY = 8
# Of a plan's totals, what the record keeps.
PLANNED = (
    "hosts",
    "changing",
    "converged",
    "refused",
    "unreachable",
    "restarts",
    "blind_seconds",
    "bytes",
    "rules_lost",
)
SAID = {
    "finished": "the rollout is finished",
    "stopped": "the rollout stopped",
    "awaiting_promotion": "the rollout waits for promotion",
}


def summary(plan: RolloutPlan, hosts: Mapping[str, RolloutHost]) -> list[str]:
    """Lines: what the rollout would do and cost, batch by batch, and which hosts are left out."""
    totals = plan["totals"]
    lines = [
        "%s: %d to change, %d as planned already, %d refused, %d unreachable, %d waiting for consent to a "
        "restart"
        % (
            several(totals["hosts"], "host"),
            totals["changing"],
            totals["converged"],
            totals["refused"],
            totals["unreachable"],
            totals["waiting"],
        )
    ]
    if totals["changing"]:
        lines.extend(_cost(plan))
    lines.extend(_batch_summary(batch, hosts) for batch in plan["batches"])
    return lines + _left_out(plan, hosts)


def _cost(plan: RolloutPlan) -> list[str]:
    totals, allowed = plan["totals"], plan["allowed_failures"]
    size = totals["bytes"]
    return [
        "cost: %s, %.1f blind seconds expected in all, %s%s for ring buffers, %s lost"
        % (
            several(totals["restarts"], "restart"),
            totals["blind_seconds"],
            "" if size < 0 else "+",
            bytes_text(size),
            several(totals["rules_lost"], "rule"),
        ),
        "failure budget: %s may be reverted, failed or lost; %s stops the rollout"
        % (several(allowed, "host") if allowed else "no host", "one more" if allowed else "the first one"),
    ]


def _batch_summary(batch: Batch, hosts: Mapping[str, RolloutHost]) -> str:
    what = "canaries" if batch["stage"] == "canary" else "batch"
    if hosts[batch["hosts"][0]]["state"] == "waiting":
        what = "staged only"
    names = batch["hosts"]
    return "%d, %s: %s (%s)" % (batch["number"], what, several(len(names), "host"), some(names, MANY))


def _left_out(plan: RolloutPlan, hosts: Mapping[str, RolloutHost]) -> list[str]:
    """Lines: the hosts that are in no batch, or see nothing, or lose events and need no change."""
    left = plan["left"]
    lines = [
        "left: %s: %s" % (some([name for name, why in left.items() if why == reason], MANY), reason)
        for reason in dict.fromkeys(left.values())
    ]
    out = ("refused", "unreachable")
    for state in out:
        lines.extend(
            "%s: %s: %s" % (state, name, host["reason"])
            for name, host in hosts.items()
            if host["state"] == state
        )
    lines.extend(
        "down: %s: %s" % (name, reason)
        for name, reason in plan["down"].items()
        if hosts[name]["state"] not in out
    )
    lines.extend(
        "no change is planned, but events are lost: %s: %s" % (name, host["loses"])
        for name, host in hosts.items()
        if host["loses"]
    )
    return lines


def batch_line(plan: RolloutPlan, batch: Batch, outcomes: Mapping[str, Outcome], reason: str | None) -> str:
    """'batch 2 of 5: 10 done, 1 reverted (web-03: …); failure budget: 2 of 10 used'"""
    known = {name: outcomes[name] for name in batch["hosts"] if name in outcomes}
    counts = Counter(known[name]["outcome"] if name in known else "planned" for name in batch["hosts"])
    worst = [
        "%s: %s" % (name, item["reason"]) for name, item in known.items() if item["outcome"] in batching.BAD
    ]
    return "%s %d of %d: %s%s; failure budget: %d of %d used%s" % (
        "canaries," if batch["stage"] == "canary" else "batch",
        batch["number"],
        len(plan["batches"]),
        _counted(counts) or "no host",
        " (%s)" % "; ".join(worst[:MANY]) if worst else "",
        batching.budget_used(outcomes),
        plan["allowed_failures"],
        ". The rollout stops: %s" % reason if reason else "",
    )


def going_on(names: Sequence[str]) -> str:
    """'; 2 hosts are looked at again (a, b)', or ''."""
    if not names:
        return ""
    verb = "is" if len(names) == 1 else "are"
    return "; %s %s looked at again (%s)" % (several(len(names), "host"), verb, some(names, MANY))


def _counted(counts: Counter[str]) -> str:
    return ", ".join("%d %s" % (number, outcome) for outcome, number in counts.items())


def record(plan: RolloutPlan, hosts: Mapping[str, RolloutHost], progress: RolloutProgress) -> dict[str, Any]:
    """The record of a rollout, as the report takes it ("rollout" in docs/report-1.schema.json)."""
    outcomes = progress["outcomes"]
    batches = [_batch(batch, hosts, outcomes) for batch in progress["batches"]]
    most = batching.most_blind(plan, _changed(batches, outcomes))
    return {
        "id": progress["id"],
        "state": progress["state"],
        "reason": progress["reason"],
        "began": progress["began"],
        "ended": progress["ended"],
        "planned": {name: plan["totals"][name] for name in PLANNED},
        "budget": {"allowed": plan["allowed_failures"], "used": batching.budget_used(outcomes)},
        "domains": [
            {"name": name, "hosts": item["hosts"], "allowed": item["allowed"], "most_blind": most[name]}
            for name, item in plan["domains"].items()
        ],
        "batches": batches,
        "left": _left(plan, progress),
        "down": [{"name": name, "reason": reason} for name, reason in plan["down"].items()],
    }


def _batch(
    batch: BegunBatch, hosts: Mapping[str, RolloutHost], outcomes: Mapping[str, Outcome]
) -> dict[str, Any]:
    """A batch of the record: the hosts that were admitted, and those that could not begin."""
    entries = [_entry(name, hosts[name], outcomes[name], batch["began"]) for name in batch["hosts"]]
    entries += [_deferred(name, hosts[name], reason) for name, reason in batch["deferred"].items()]
    ended = [entry["ended"] for entry in entries if entry["ended"]]
    return {
        "number": batch["number"],
        "stage": batch["stage"],
        "began": batch["began"],
        "ended": max([batch["ended"] or 0, *ended]) or None,
        "hosts": entries,
    }


def _entry(name: str, host: RolloutHost, outcome: Outcome, began: float | None) -> dict[str, Any]:
    return {
        "name": name,
        "domain": host["domain"],
        "class": class_text(host["class"]),
        "outcome": outcome["outcome"],
        "began": outcome["began"] or began,
        "ended": outcome["ended"],
        "blind_seconds": outcome["blind_seconds"],
        "evidence": outcome["evidence"],
        "reason": outcome["reason"],
    }


def _deferred(name: str, host: RolloutHost, reason: str) -> dict[str, Any]:
    outcome: Outcome = {
        "outcome": "skipped",
        "blind": False,
        "began": None,
        "ended": None,
        "blind_seconds": None,
        "evidence": "",
        "reason": reason,
    }
    return _entry(name, host, outcome, None)


def _changed(batches: list[dict[str, Any]], outcomes: Mapping[str, Outcome]) -> list[dict[str, Any]]:
    """The entries of hosts that were changed, with whether they are blind now."""
    return [
        {**entry, "blind": outcomes[entry["name"]]["blind"]}
        for batch in batches
        for entry in batch["hosts"]
        if entry["name"] in outcomes and entry["outcome"] not in ("planned", "staged")
    ]


def _left(plan: RolloutPlan, progress: RolloutProgress) -> list[str]:
    """The hosts for the next run: in no batch, in one that did not begin, deferred or skipped."""
    outcomes = progress["outcomes"]
    reached = {name for batch in progress["batches"] for name in batch["hosts"]}
    left = [
        name
        for batch in plan["batches"]
        for name in batch["hosts"]
        if name not in reached or outcomes[name]["outcome"] == "skipped"
    ]
    return list(dict.fromkeys([*plan["left"], *left]))


def conclusion(rollout: Mapping[str, Any]) -> list[str]:
    """Lines: how a rollout ended. rollout: what record() returned."""
    entries = [entry for batch in rollout["batches"] for entry in batch["hosts"]]
    lines = [
        "%s after %s: %s"
        % (
            SAID[rollout["state"]],
            several(len(rollout["batches"]), "batch", "batches"),
            _counted(Counter(entry["outcome"] for entry in entries)) or "there was nothing to do",
        )
    ]
    if rollout["reason"]:
        lines.append("because: %s" % rollout["reason"])
    lines.extend(
        "%s: %s: %s" % (entry["outcome"], entry["name"], entry["reason"])
        for entry in entries
        if entry["outcome"] in (*batching.BAD, "skipped")
    )
    left = rollout["left"]
    if left:
        lines.append("left for the next run: %s (%s)" % (some(left, MANY), several(len(left), "host")))
    return lines
