# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report model → a summary for people at a terminal. Pure.

All its characters print: an escape sequence of a host could rewrite what stands on the screen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import models, rollouts, shape, trials
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import (
    columns,
    fitted,
    number_text,
    several,
    some,
    visible,
    wrapped,
)

WORST = 10
# Answers of hosts that lose events with nothing left to try, and what is said of those that are not shown.
UNCURED = {
    "too_busy": "%d more hosts are too busy for Falco",
    "unsolved": "%d more hosts lose events that tuning does not cure",
}
Host = models.Host


def to_terminal(model: models.Model, width: int = 100) -> str:
    """A summary at most width columns wide: plain text without colours, about 40 lines for any fleet."""
    if model["rollout"]:
        lines = rollouts.terminal_lines(model["rollout"], width)
    elif model["kind"] == "trial":
        lines = wrapped(model["fleet"]["headline"], width, "") + trials.terminal_lines(model["hosts"], width)
    else:
        lines = _fleet_lines(model, width)
    if lines[-1]:
        lines.append("")
    lines.extend(_policy_lines(model, width))
    return "".join(line.rstrip() + "\n" for number, line in enumerate(lines) if line or lines[number - 1])


def _policy_lines(model: models.Model, width: int) -> list[str]:
    """Whether the fleet passes the policy's rules."""
    breaches, rules = model["fleet"]["breaches"], model["policy"]["fail_on"]
    lines: list[str] = []
    for item in breaches:
        text = "FAILED by %s: %s (%s)" % (item["rule"], item["text"], some(item["hosts"]))
        lines.extend(wrapped(text, width, ""))
    if rules and not breaches:
        lines.extend(wrapped("Passed: no host breaks %s." % ", ".join(rules), width, ""))
    elif not rules and model["kind"] not in ("trial", "rollout"):
        lines.extend(wrapped("No policy enforced: falco_audit_fail_on is empty.", width, ""))
    return lines


def _fleet_lines(model: models.Model, width: int) -> list[str]:
    fleet, hosts = model["fleet"], model["hosts"]
    lines = wrapped(fleet["headline"], width, "") + [""]
    told = [(state, number) for state, number in fleet["states"].items() if number]
    told += [(name, len(fleet[name])) for name in ("unreachable", "failed", "monitored") if fleet[name]]
    counted = ", ".join("%d %s" % (number, state) for state, number in told)
    lines.extend(wrapped("Hosts: " + (counted or "none"), width, ""))
    lines.extend(_percentile_lines(fleet["percentiles"], width))
    lines.extend(_prediction_lines(fleet["predictions"], width))
    last = fleet["since_last"]
    if last["at"]:
        changed = ("better", "worse", "new", "gone")
        counted = ", ".join("%d %s" % (len(last[name]), name) for name in changed)
        lines.extend(wrapped("Since %s: %s" % (visible(last["at"]), counted), width, ""))
    lines.extend(_way_lines(fleet["way"], width))
    lines.extend(_worst_lines(hosts, width))
    lines.append("")
    lines.extend(_answer_lines(hosts, width))
    for title, names in (
        ("Blind", [host["name"] for host in hosts if models.state_of(host) == "blind"]),
        ("Could not be reached", fleet["unreachable"]),
        ("Failed", fleet["failed"]),
        ("Differ from their last proven state", fleet["drifting"]),
        ("A tune would restart Falco on", fleet["restart_required"]),
    ):
        if names:
            lines.extend(wrapped("%s (%d): %s" % (title, len(names), some(names)), width, ""))
    lines.extend(_monitoring_lines(fleet["monitoring"], width))
    return lines + _rules_lines(hosts, width) + _sight_lines(hosts, width) + _cost_lines(hosts, width)


def _monitoring_lines(found: dict[str, Any] | None, width: int) -> list[str]:
    """Whether Prometheus could be asked, and whether it was right about the hosts of the sample."""
    if found is None:
        return []
    if found["problem"]:
        text = "Prometheus did not say which hosts to visit, so every host was visited: %s"
        return wrapped(text % visible(found["problem"]), width, "")
    if not found["contradicted"]:
        return []
    text = (
        "Prometheus calls these hosts healthy, and the audit does not (%d of a sample of %d): %s. Compare "
        "the windows of both. If Prometheus is wrong, visit every host: leave out "
        "falco_audit_prometheus_url."
    )
    numbers = (len(found["contradicted"]), len(found["sample"]))
    return wrapped(text % (*numbers, some(found["contradicted"])), width, "")


def _answer_lines(hosts: Sequence[Host], width: int) -> list[str]:
    """The hosts where nothing is left to try: what came of it, and what those that lose events would take."""
    found = [(host["name"], host["verdict"]["answer"]) for host in hosts if host["verdict"]]
    lines = []
    for kind in ("solved", "improved", "accepted"):
        names = [name for name, answer in found if answer and answer["kind"] == kind]
        if names:
            lines.extend(wrapped("%s (%d): %s" % (kind.capitalize(), len(names), some(names)), width, ""))
    for kind, rest in UNCURED.items():
        names = [(name, answer) for name, answer in found if answer and answer["kind"] == kind]
        for name, answer in sorted(names, key=lambda item: (-(item[1]["factor"] or 0.0), item[0]))[:WORST]:
            lines.extend(wrapped("%s: %s" % (name, visible(answer["text"])), width, ""))
        if len(names) > WORST:
            lines.append(rest % (len(names) - WORST))
    return lines


def _rules_lines(hosts: Sequence[Host], width: int) -> list[str]:
    """The rules that go blind with the chosen system calls, those of most hosts first."""
    found = Counter(
        item["rule"]
        for host in hosts
        for item in (host["syscalls"]["coverage"]["blind"] if host["syscalls"] else ())
    )
    if not found:
        return []
    order = sorted(found, key=lambda rule: (-found[rule], rule))
    named = ["%s on %s" % (fitted(rule, 60), several(found[rule], "host")) for rule in order]
    text = "Rules that go blind with the chosen system calls (%d): %s" % (len(order), some(named, 4, 80))
    return wrapped(text, width, "")


def _sight_lines(hosts: Sequence[Host], width: int) -> list[str]:
    """The rules that see less than by default with what is in force now, and the hosts where that is not
    known.
    """
    known = [(host["name"], host["sight"]) for host in hosts if host["sight"]]
    short = {name: [*seen["blind"], *seen["half_blind"]] for name, seen in known}
    found = Counter(rule for rules in short.values() for rule in rules)
    lines = []
    if found:
        order = sorted(found, key=lambda rule: (-found[rule], rule))
        named = ["%s on %s" % (fitted(rule, 60), several(found[rule], "host")) for rule in order]
        text = "Rules that see less than by default now (%d): %s" % (len(order), some(named, 4, 80))
        lines += wrapped(text, width, "")
    unknown = [name for name, seen in known if seen["basis"] == "unknown"]
    if unknown:
        text = "What rules see is unknown (%d): %s" % (len(unknown), some(unknown))
        lines += wrapped(text, width, "")
    return lines


def _cost_lines(hosts: Sequence[Host], width: int) -> list[str]:
    """What rules cost: how many rulesets there are, the heaviest rules, and each finding once."""
    known = [(host["name"], host["rules"]) for host in hosts if host["rules"]]
    if not known:
        return []
    versions = Counter(audit["digest"] for _name, audit in known)
    text = "Rules of %s: %s" % (several(len(known), "host"), several(len(versions), "version"))
    if len(versions) > 1:
        usual = versions.most_common(1)[0][0]
        text += "; other than most: %s" % some([name for name, audit in known if audit["digest"] != usual])
    lines = ["", *wrapped(text, width, "")]
    for (kind, rule, told), (number, gain) in rule_findings(hosts)[:WORST]:
        saves = " (up to %s %% of a core)" % number_text(gain) if gain else ""
        line = "%s: %s: %s, on %s%s" % (kind, rule or "-", told, several(number, "host"), saves)
        lines += wrapped(line, width)
    return lines


def rule_findings(hosts: Sequence[Host]) -> list[tuple[tuple[str, str | None, str], tuple[int, float]]]:
    """[((kind, rule, text), (hosts, most percent of a core saved))] of the warnings and errors of all hosts,
    the largest gain first, then those of most hosts.
    """
    found: dict[tuple[str, str | None, str], tuple[int, float]] = {}
    for host in hosts:
        for item in host["rules"]["findings"] if host["rules"] else ():
            if item["level"] != "note":
                key = (item["kind"], item["rule"], item["text"])
                number, gain = found.get(key, (0, 0.0))
                found[key] = (number + 1, max(gain, item["saves_percent"] or 0.0))
    return sorted(found.items(), key=lambda item: (-item[1][1], -item[1][0], item[0][0], item[0][1] or ""))


def _percentile_lines(found: dict[str, Any], width: int) -> list[str]:
    if not found["measured"]:
        return []
    names = list(found["drops_percent"])
    rows = [["Of %d measured" % found["measured"], *names, ""]]
    for name, title in (("drops_percent", "events lost, %"), ("rate_per_cpu_guide", "events/s per CPU")):
        rows.append([title, *(number_text(found[name][item], "-") for item in names), ""])
    return ["", *columns(rows, width), ""]


def _prediction_lines(found: dict[str, Any], width: int) -> list[str]:
    """How good the predictions of the steps in force were."""
    if not found["hosts"]:
        return []
    text = "Predictions of %s: median error %s, p90 %s percentage points" % (
        several(found["hosts"], "host"),
        number_text(found["median_error"]),
        number_text(found["p90_error"]),
    )
    worst = found["by_class"][0]
    if len(found["by_class"]) > 1:
        text += "; least good for %s with %s, Falco %s and %s against %s: p90 %s" % (
            "unknown CPUs" if worst["cpus"] is None else several(worst["cpus"], "CPU"),
            worst["driver"] or "an unknown driver",
            worst["release"] or "of an unknown release",
            "rules " + worst["ruleset"] if worst["ruleset"] else "unknown rules",
            worst["against"] or "an unknown bottleneck",
            number_text(worst["p90_error"]),
        )
    return wrapped(text, width, "")


def _way_lines(way: Sequence[list[Any]], width: int) -> list[str]:
    """What became of the fleet over the audits that the history has."""
    if len(way) < 2:
        return []
    told = [
        "%d of %s, %s %% of their events"
        % (losing, several(measured, "measured host"), number_text(lost, "-"))
        for _at, _hosts, measured, losing, lost in (way[0], way[-1])
    ]
    since = (several(len(way), "audit"), shape.iso(way[0][0]))
    return wrapped("Lost events in %s since %s: %s; now %s" % (*since, *told), width, "")


def _worst_lines(hosts: Sequence[Host], width: int) -> list[str]:
    """The measured hosts that lose events, worst first. Blind hosts have a line of their own."""
    losing = ("dropping", "overloaded", "acceptable")
    worst = [host for host in models.worst_first(hosts) if models.state_of(host) in losing]
    if not worst:
        return []
    rows = [["host", "state", "lost %", "events/s/CPU", "bottleneck", "next step"]]
    for host in sorted(worst, key=lambda host: -(models.drops_of(host) or 0.0))[:WORST]:
        verdict = host["verdict"]
        rows.append(
            [
                host["name"],
                verdict["state"],
                number_text(models.drops_of(host), "-"),
                number_text(models.rate_of(host), "-"),
                verdict["bottleneck"],
                verdict["next_step"],
            ]
        )
    title = "Hosts that lose events:"
    if len(worst) > WORST:
        title = "The worst %d of %d hosts that lose events:" % (WORST, len(worst))
    return ["", title, *columns(rows, width)]
