# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rollout is said to be before, while and after it runs: lines for people, and the record that the report shows. Pure."""

from __future__ import annotations

from ansible_collections.falcotune.fleet.plugins.plugin_utils._rollout import batching, hosts
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning.buffers import human

# Names in one line.
MANY = 8


def some(names):
    names = list(names)
    return ", ".join(names[:MANY]) + (" and %d more" % (len(names) - MANY) if len(names) > MANY else "")


def _s(number, noun):
    return "%d %s%s" % (number, noun, "" if number == 1 else "s")


def summary(plan, hosts):
    """Lines: what the rollout would do and cost, wave by wave, and who is left out."""
    totals = plan["totals"]
    lines = [
        "%s: %d to change, %d as planned already, %d refused, %d unreachable, %d waiting for consent to a restart"
        % (
            _s(totals["hosts"], "host"),
            totals["changing"],
            totals["converged"],
            totals["refused"],
            totals["unreachable"],
            totals["waiting"],
        )
    ]
    if totals["changing"]:
        size = totals["bytes"]
        lines.append(
            "cost: %s, %.1f blind seconds expected in all, %s%s for ring buffers, %s lost"
            % (
                _s(totals["restarts"], "restart"),
                totals["blind_seconds"],
                "-" if size < 0 else "+",
                human(abs(size)),
                _s(totals["rules_lost"], "rule"),
            )
        )
        allowed = plan["allowed_failures"]
        lines.append(
            "failure budget: %s may be reverted, failed or lost; %s stops the rollout"
            % (_s(allowed, "host") if allowed else "no host", "one more" if allowed else "the first one")
        )
    for wave in plan["waves"]:
        what = "canaries" if wave["stage"] == "canary" else "batch"
        if hosts[wave["hosts"][0]]["state"] == "waiting":
            what = "staged only"
        lines.append(
            "%d, %s: %s (%s)" % (wave["number"], what, _s(len(wave["hosts"]), "host"), some(wave["hosts"]))
        )
    lines.extend(
        "left: %s: %s" % (some([name for name, why in plan["left"].items() if why == reason]), reason)
        for reason in dict.fromkeys(plan["left"].values())
    )
    for state in ("refused", "unreachable"):
        lines.extend(
            "%s: %s: %s" % (state, name, host["reason"])
            for name, host in hosts.items()
            if host["state"] == state
        )
    lines.extend(
        "down: %s: %s" % (name, reason)
        for name, reason in plan["down"].items()
        if hosts[name]["state"] not in ("refused", "unreachable")
    )
    lines.extend(
        "nothing to change, and yet: %s: %s" % (name, host["loses"])
        for name, host in hosts.items()
        if host["loses"]
    )
    return lines


def wave_line(plan, wave, outcomes, reason):
    """'batch 2 of 5: 10 done, 1 reverted (web-03: …); 2 of 10 of the failure budget used'"""
    counts, worst = {}, []
    for name in wave["hosts"]:
        item = outcomes.get(name)
        kind = item["outcome"] if item else "planned"
        counts[kind] = counts.get(kind, 0) + 1
        if kind in batching.BAD:
            worst.append("%s: %s" % (name, item["reason"]))
    said = ", ".join("%d %s" % (number, kind) for kind, number in counts.items()) or "no host"
    return "%s %d of %d: %s%s; failure budget: %d of %d used%s" % (
        "canaries," if wave["stage"] == "canary" else "batch",
        wave["number"],
        len(plan["waves"]),
        said,
        " (%s)" % "; ".join(worst[:MANY]) if worst else "",
        batching.budget_used(outcomes),
        plan["allowed_failures"],
        ". The rollout stops: %s" % reason if reason else "",
    )


def record(plan, hosts, progress):
    """The record of a rollout as the report takes it.

    progress: {'id', 'state', 'reason', 'began', 'ended', 'outcomes': {host: rollout_host.outcome()}, 'waves': [{'number', 'stage',
               'began', 'ended', 'hosts': [names], 'deferred': {name: reason}}] that began}
    """
    outcomes, batches, reached = progress["outcomes"], [], set()
    for wave in progress["waves"]:
        entries = [_entry(name, hosts[name], outcomes[name], wave) for name in wave["hosts"]]
        entries += [
            dict(
                _entry(name, hosts[name], {"outcome": "skipped", "reason": reason}, {}),
                began=None,
                ended=None,
            )
            for name, reason in wave["deferred"].items()
        ]
        reached.update(wave["hosts"])
        ended = [entry["ended"] for entry in entries if entry["ended"]]
        batches.append(
            {
                "number": wave["number"],
                "stage": wave["stage"],
                "began": wave["began"],
                "ended": max([wave["ended"] or 0] + ended) or None,
                "hosts": entries,
            }
        )
    left = [
        name
        for wave in plan["waves"]
        for name in wave["hosts"]
        if name not in reached or outcomes[name]["outcome"] == "skipped"
    ]
    most = batching.most_blind(
        plan,
        [
            dict(entry, blind=outcomes[entry["name"]]["blind"])
            for batch in batches
            for entry in batch["hosts"]
            if entry["name"] in outcomes and entry["outcome"] not in ("planned", "staged")
        ],
    )
    return {
        "id": progress["id"],
        "state": progress["state"],
        "reason": progress["reason"],
        "began": progress["began"],
        "ended": progress["ended"],
        "planned": {
            name: plan["totals"][name]
            for name in (
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
        },
        "budget": {"allowed": plan["allowed_failures"], "used": batching.budget_used(outcomes)},
        "domains": [
            {"name": name, "hosts": item["hosts"], "allowed": item["allowed"], "most_blind": most[name]}
            for name, item in plan["domains"].items()
        ],
        "batches": batches,
        "left": list(dict.fromkeys(list(plan["left"]) + left)),
        "down": [{"name": name, "reason": reason} for name, reason in plan["down"].items()],
    }


def _entry(name, host, outcome, wave):
    return {
        "name": name,
        "domain": host["domain"],
        "class": hosts.class_text(host["class"]),
        "outcome": outcome["outcome"],
        "began": outcome.get("began") or wave.get("began"),
        "ended": outcome.get("ended"),
        "blind_seconds": outcome.get("blind_seconds"),
        "evidence": outcome.get("evidence") or "",
        "reason": outcome.get("reason"),
    }


def conclusion(record_):
    """Lines: how a rollout ended."""
    entries = [entry for batch in record_["batches"] for entry in batch["hosts"]]
    counts = {}
    for entry in entries:
        counts[entry["outcome"]] = counts.get(entry["outcome"], 0) + 1
    said = {
        "finished": "the rollout is finished",
        "stopped": "the rollout stopped",
        "awaiting_promotion": "the rollout waits for promotion",
    }[record_["state"]]
    lines = [
        "%s after %s: %s"
        % (
            said,
            _s(len(record_["batches"]), "batch").replace("batchs", "batches"),
            ", ".join("%d %s" % (number, kind) for kind, number in counts.items())
            or "nothing was to be done",
        )
    ]
    if record_["reason"]:
        lines.append("because: %s" % record_["reason"])
    lines.extend(
        "%s: %s: %s" % (entry["outcome"], entry["name"], entry["reason"])
        for entry in entries
        if entry["outcome"] in batching.BAD + ("skipped",)
    )
    if record_["left"]:
        lines.append(
            "left for the next run: %s (%s)" % (some(record_["left"]), _s(len(record_["left"]), "host"))
        )
    return lines
