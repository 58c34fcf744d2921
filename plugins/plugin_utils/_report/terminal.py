# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report model → a summary for people at a terminal. Pure."""

from __future__ import annotations

from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import models, rollouts, trials
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import (
    columns,
    fitted,
    several,
    some,
    visible,
    wrapped,
)

WORST = 10


def to_terminal(model, width=100):
    """A summary for people, at most width columns wide: plain text without colours, about 40 lines for any fleet."""
    if model["rollout"]:
        lines = rollouts.terminal_lines(model["rollout"], width)
    elif model["kind"] == "trial":
        lines = wrapped(model["fleet"]["headline"], width, "") + trials.terminal_lines(model["hosts"], width)
    else:
        lines = _fleet_lines(model, width)
    if lines[-1]:
        lines.append("")
    for item in model["fleet"]["breaches"]:
        lines.extend(
            wrapped("FAILED by %s: %s (%s)" % (item["rule"], item["text"], some(item["hosts"])), width, "")
        )
    rules = ", ".join(model["policy"]["fail_on"]) or "a rule, because fail_on is empty"
    if not model["fleet"]["breaches"] and (
        model["policy"]["fail_on"] or model["kind"] not in ("trial", "rollout")
    ):
        lines.extend(wrapped("Passed: no host breaks %s." % rules, width, ""))
    return "".join(line.rstrip() + "\n" for number, line in enumerate(lines) if line or lines[number - 1])


def _fleet_lines(model, width):
    fleet = model["fleet"]
    lines = wrapped(fleet["headline"], width, "") + [""]
    told = [(state, number) for state, number in fleet["states"].items() if number]
    told += [(name, len(fleet[name])) for name in ("unreachable", "failed") if fleet[name]]
    lines.extend(
        wrapped(
            "Hosts: " + (", ".join("%d %s" % (number, state) for state, number in told) or "none"), width, ""
        )
    )
    lines.extend(_percentile_lines(fleet["percentiles"], width))
    last = fleet["since_last"]
    if last["at"]:
        lines.extend(
            wrapped(
                "Since %s: %s"
                % (
                    visible(last["at"]),
                    ", ".join(
                        "%d %s" % (len(last[name]), name) for name in ("better", "worse", "new", "gone")
                    ),
                ),
                width,
                "",
            )
        )
    lines.extend(_worst_lines(model["hosts"], width))
    lines.append("")
    blind = [host["name"] for host in model["hosts"] if models.state_of(host) == "blind"]
    for title, names in (
        ("Blind", blind),
        ("Could not be reached", fleet["unreachable"]),
        ("Failed", fleet["failed"]),
        ("Not as they were set up", fleet["drifting"]),
        ("A tune would restart Falco on", fleet["restart_required"]),
    ):
        if names:
            lines.extend(wrapped("%s (%d): %s" % (title, len(names), some(names)), width, ""))
    return lines + _rules_line(model["hosts"], width)


def _rules_line(hosts, width):
    """Which rules the chosen system calls leave blind, by how many hosts."""
    found = {}
    for host in hosts:
        for item in host["syscalls"]["coverage"]["blind"] if host["syscalls"] else ():
            found[item["rule"]] = found.get(item["rule"], 0) + 1
    if not found:
        return []
    order = sorted(found, key=lambda rule: (-found[rule], rule))
    return wrapped(
        "Rules that go blind with the chosen system calls (%d): %s"
        % (
            len(order),
            some(["%s on %s" % (fitted(rule, 60), several(found[rule], "host")) for rule in order], 4, 80),
        ),
        width,
        "",
    )


def _percentile_lines(found, width):
    if not found["measured"]:
        return []
    names = list(found["drops_percent"])
    rows = [["Of %d measured" % found["measured"], *names, ""]]
    for name, title in (("drops_percent", "events lost, %"), ("rate_per_cpu_guide", "events/s per CPU")):
        rows.append(
            [
                title,
                *(
                    "-" if found[name][item] is None else models.number_text(found[name][item])
                    for item in names
                ),
                "",
            ]
        )
    return [""] + columns(rows, width) + [""]


def _worst_lines(hosts, width):
    """The measured hosts that need somebody, worst first. Blind ones have no numbers: they are named in a line of their own."""
    worst = [
        host
        for host in models.worst_first(hosts)
        if models.state_of(host) in ("dropping", "overloaded", "acceptable")
    ]
    if not worst:
        return []
    rows = [["host", "state", "lost %", "events/s/CPU", "bottleneck", "next step"]]
    for host in sorted(worst, key=lambda host: -(models.drops_of(host) or 0.0))[:WORST]:
        verdict = host["verdict"]
        lost, rate = models.drops_of(host), models.rate_of(host)
        rows.append(
            [
                host["name"],
                verdict["state"],
                "-" if lost is None else models.number_text(lost),
                "-" if rate is None else models.number_text(rate),
                verdict["bottleneck"],
                verdict["next_step"],
            ]
        )
    title = (
        "Hosts that lose events"
        if len(worst) <= WORST
        else "The worst %d of %d hosts that lose events" % (WORST, len(worst))
    )
    return ["", title + ":"] + columns(rows, width)
