# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollout in a report: its sentence, its lines for a terminal, its rows for a table. Pure. rollout: that of the report model."""

from __future__ import annotations

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
SAID = {
    "finished": "The rollout is finished",
    "stopped": "The rollout stopped",
    "awaiting_promotion": "The rollout waits for promotion",
}


def hosts_of(rollout):
    """[(batch, host)] in order."""
    return [(batch, host) for batch in rollout["batches"] for host in batch["hosts"]]


def outcomes(hosts):
    """{outcome: number of hosts}, every outcome."""
    counted = dict.fromkeys(shape.OUTCOMES, 0)
    for host in hosts:
        counted[host["outcome"]] += 1
    return counted


def headline(rollout):
    """The rollout stopped: 12 of 100 hosts changed; 2 reverted, 1 lost; 85 left."""
    hosts = [host for dummy, host in hosts_of(rollout)]
    found, changing = outcomes(hosts), rollout["planned"]["changing"]
    parts = [
        "%s of %s changed" % (found["done"], several(len(hosts) if changing is None else changing, "host"))
    ]
    others = [
        "%s %s" % (found[name], name) for name in ("reverted", "failed", "lost", "staged") if found[name]
    ]
    if others:
        parts.append(", ".join(others))
    if rollout["left"]:
        parts.append("%d left" % len(rollout["left"]))
    return "%s: %s." % (SAID[rollout["state"]], "; ".join(parts))


def terminal_lines(rollout, width):
    """What an operator wants to know: where it stands, what it cost, which batch went wrong, and which hosts."""
    lines = wrapped(headline(rollout), width, "")
    if rollout["reason"]:
        lines += wrapped("Because: " + rollout["reason"], width, "")
    lines += [""] + wrapped(_cost(rollout), width, "") + _batches(rollout, width)
    over = [item for item in rollout["domains"] if (item["most_blind"] or 0) > 0]
    over.sort(key=lambda item: (-(item["most_blind"] or 0), item["name"]))
    if over:
        lines += [""] + wrapped(
            "Most blind at once: %s%s"
            % (
                ", ".join(
                    "%s %d (allowed %s)"
                    % (
                        fitted(item["name"], 40),
                        item["most_blind"],
                        "?" if item["allowed"] is None else item["allowed"],
                    )
                    for item in over[:5]
                ),
                " and %d more domains with no more" % (len(over) - 5) if len(over) > 5 else "",
            ),
            width,
            "",
        )
    wrong = [(batch, host) for batch, host in hosts_of(rollout) if host["outcome"] in batching.BAD]
    for batch, host in wrong[:MOST_HOSTS]:
        lines += wrapped(
            "%s %s (batch %s): %s"
            % (
                host["outcome"],
                host["name"],
                _number(batch["number"]),
                host["reason"] or "no reason was given",
            ),
            width,
            "",
        )
    if len(wrong) > MOST_HOSTS:
        lines.append("and %d more that went wrong" % (len(wrong) - MOST_HOSTS))
    if rollout["left"]:
        lines += wrapped("Left (%d): %s" % (len(rollout["left"]), some(rollout["left"])), width, "")
    if rollout["down"]:
        names = [item["name"] for item in rollout["down"]]
        lines += wrapped("Down before it began (%d): %s" % (len(names), some(names)), width, "")
    return lines


def _number(value):
    return "?" if value is None else "%d" % value


def _cost(rollout):
    planned, budget = rollout["planned"], rollout["budget"]
    blind = sum(host["blind_seconds"] or 0 for dummy, host in hosts_of(rollout))
    took = (
        None if None in (rollout["began"], rollout["ended"]) else max(0, rollout["ended"] - rollout["began"])
    )
    return (
        "Failures: %s of %s allowed. Blind: %s in all, %s expected of %s. Took %s. Memory: %s. Rules lost: %s."
        % (
            _number(budget["used"]),
            _number(budget["allowed"]),
            duration_text(blind),
            duration_text(planned["blind_seconds"]),
            "? restarts" if planned["restarts"] is None else several(planned["restarts"], "restart"),
            duration_text(took),
            bytes_text(planned["bytes"]),
            _number(planned["rules_lost"]),
        )
    )


def _batches(rollout, width):
    """The latest batches; what all were is in the other forms."""
    if not rollout["batches"]:
        return []
    shown = rollout["batches"][-MOST_BATCHES:]
    names = [
        name
        for name in shape.OUTCOMES
        if any(host["outcome"] == name for batch in shown for host in batch["hosts"])
    ]
    table = [["batch", "took", "hosts", *names, "blind s", "most", ""]]
    for batch in shown:
        found, blind = outcomes(batch["hosts"]), [host["blind_seconds"] or 0 for host in batch["hosts"]]
        took = None if None in (batch["began"], batch["ended"]) else max(0, batch["ended"] - batch["began"])
        table.append(
            [
                ("canary " if batch["stage"] == "canary" else "") + _number(batch["number"]),
                "-" if took is None else duration_text(took),
                "%d" % len(batch["hosts"]),
                *("%d" % found[name] for name in names),
                number_text(sum(blind)),
                number_text(max(blind, default=0)),
                "",
            ]
        )
    title = (
        "Batches:"
        if len(shown) == len(rollout["batches"])
        else "The last %d of %d batches:" % (len(shown), len(rollout["batches"]))
    )
    return ["", title] + columns(table, width)
