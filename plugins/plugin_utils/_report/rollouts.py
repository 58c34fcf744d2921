# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollout in a report: its head line, its lines for a terminal, its rows for a table. Pure.

rollout: "rollout" of the report model (docs/report-1.schema.json).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import shape
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rollout import batching
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import (
    bytes_text,
    columns,
    duration_text,
    fitted,
    number_text,
    several,
    some,
    wrapped,
)

MOST_BATCHES = 12
MOST_HOSTS = 8
MOST_DOMAINS = 5
SAID = {
    "finished": "The rollout is finished",
    "stopped": "The rollout stopped",
    "awaiting_promotion": "The rollout waits for promotion",
}
# Outcomes beside done that the head line names.
OTHERS = (*batching.BAD, "staged")

Rollout = dict[str, Any]


def hosts_of(rollout: Rollout) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """[(batch, host)] in order."""
    return [(batch, host) for batch in rollout["batches"] for host in batch["hosts"]]


def outcomes(hosts: Iterable[dict[str, Any]]) -> dict[str, int]:
    """{outcome: number of hosts}, every outcome."""
    counted = dict.fromkeys(shape.OUTCOMES, 0)
    for host in hosts:
        counted[host["outcome"]] += 1
    return counted


def headline(rollout: Rollout) -> str:
    """The rollout stopped: 12 of 100 hosts changed; 2 reverted, 1 lost; 85 left."""
    hosts = [host for _batch, host in hosts_of(rollout)]
    found, changing = outcomes(hosts), rollout["planned"]["changing"]
    total = several(len(hosts) if changing is None else changing, "host")
    parts = ["%s of %s changed" % (found["done"], total)]
    others = ", ".join("%s %s" % (found[name], name) for name in OTHERS if found[name])
    if others:
        parts.append(others)
    if rollout["left"]:
        parts.append("%d left" % len(rollout["left"]))
    return "%s: %s." % (SAID[rollout["state"]], "; ".join(parts))


def terminal_lines(rollout: Rollout, width: int) -> list[str]:
    """Where the rollout stands, what it cost, and which batches and hosts failed."""
    lines = wrapped(headline(rollout), width, "")
    if rollout["reason"]:
        lines += wrapped("Because: " + rollout["reason"], width, "")
    lines += ["", *wrapped(_cost(rollout), width, ""), *_batches(rollout, width)]
    blind = _most_blind(rollout)
    if blind:
        lines += ["", *wrapped(blind, width, "")]
    lines += _failures(rollout, width)
    if rollout["left"]:
        lines += wrapped("Left (%d): %s" % (len(rollout["left"]), some(rollout["left"])), width, "")
    if rollout["down"]:
        names = [item["name"] for item in rollout["down"]]
        lines += wrapped("Down before it began (%d): %s" % (len(names), some(names)), width, "")
    return lines


def _most_blind(rollout: Rollout) -> str | None:
    """The domains with most hosts blind at one time."""
    found = [item for item in rollout["domains"] if (item["most_blind"] or 0) > 0]
    found.sort(key=lambda item: (-item["most_blind"], item["name"]))
    if not found:
        return None
    named = [
        "%s %d (allowed %s)"
        % (fitted(item["name"], 40), item["most_blind"], number_text(item["allowed"], "?"))
        for item in found[:MOST_DOMAINS]
    ]
    more = len(found) - MOST_DOMAINS
    return "Most blind at once: %s%s" % (
        ", ".join(named),
        " and %d more domains with no more" % more if more > 0 else "",
    )


def _failures(rollout: Rollout, width: int) -> list[str]:
    lines: list[str] = []
    failed = [(batch, host) for batch, host in hosts_of(rollout) if host["outcome"] in batching.BAD]
    for batch, host in failed[:MOST_HOSTS]:
        number = number_text(batch["number"], "?")
        reason = host["reason"] or "no reason was given"
        lines += wrapped("%s %s (batch %s): %s" % (host["outcome"], host["name"], number, reason), width, "")
    if len(failed) > MOST_HOSTS:
        lines.append("and %d more that failed" % (len(failed) - MOST_HOSTS))
    return lines


def _cost(rollout: Rollout) -> str:
    planned, budget = rollout["planned"], rollout["budget"]
    blind = sum(host["blind_seconds"] or 0 for _batch, host in hosts_of(rollout))
    restarts = "? restarts" if planned["restarts"] is None else several(planned["restarts"], "restart")
    return (
        "Failures: %s of %s allowed. Blind: %s in all, %s expected of %s. "
        "Took %s. Memory: %s. Rules lost: %s."
    ) % (
        number_text(budget["used"], "?"),
        number_text(budget["allowed"], "?"),
        duration_text(blind),
        duration_text(planned["blind_seconds"]),
        restarts,
        duration_text(_took(rollout)),
        bytes_text(planned["bytes"]),
        number_text(planned["rules_lost"], "?"),
    )


def _took(part: dict[str, Any]) -> float | None:
    """Seconds that a rollout or a batch took, or None."""
    began, ended = part["began"], part["ended"]
    return None if began is None or ended is None else max(0, ended - began)


def _batches(rollout: Rollout, width: int) -> list[str]:
    """A table of the latest batches. The other forms of the report have all."""
    if not rollout["batches"]:
        return []
    shown = rollout["batches"][-MOST_BATCHES:]
    present = {host["outcome"] for batch in shown for host in batch["hosts"]}
    names = [name for name in shape.OUTCOMES if name in present]
    title = "Batches:"
    if len(shown) < len(rollout["batches"]):
        title = "The last %d of %d batches:" % (len(shown), len(rollout["batches"]))
    head = ["batch", "took", "hosts", *names, "blind s", "most", ""]
    return ["", title, *columns([head, *(_batch_row(batch, names) for batch in shown)], width)]


def _batch_row(batch: dict[str, Any], names: Iterable[str]) -> list[str]:
    found, took = outcomes(batch["hosts"]), _took(batch)
    blind = [host["blind_seconds"] or 0 for host in batch["hosts"]]
    return [
        ("canary " if batch["stage"] == "canary" else "") + number_text(batch["number"], "?"),
        "-" if took is None else duration_text(took),
        "%d" % len(batch["hosts"]),
        *("%d" % found[name] for name in names),
        number_text(sum(blind)),
        number_text(max(blind, default=0)),
        "",
    ]
