# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What came of tuning a host once nothing is left to try: solved, improved, accepted, too busy or unsolved.
Pure.

Too busy names the factor that is missing and what it would take. Unsolved is a loss that no step within
policy cures, and that has nothing to do with how busy the host is: page faults, a quota that somebody set, a
full outputs queue.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Sequence

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import (
    Answer,
    Attempt,
    Facts,
    Verdict,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules_audit import listed_audits
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import some
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import effects, verdicts
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning.effects import Case
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning.steps import LOSING, Step

# Rules and system calls that one answer names.
MOST_NAMES = 10
WORDS = {
    "solved": "solved",
    "improved": "improved",
    "accepted": "accepted",
    "too_busy": "too busy for Falco",
    "unsolved": "not solved by tuning",
}
KINDS = tuple(WORDS)
# What tells which step is next, so that nothing can be said before.
AWAITED = ("measure", "observe")

# A rule is heavy that costs at least this share of what the heaviest one costs.
LEAST_OF_HEAVIEST = 0.1
# Heavy rules are worth naming from this share of the load's work on.
LEAST_SAVED = 0.1


class Heavy(NamedTuple):
    """The rules that cost most, and the share of the load's work that goes with them."""

    rules: Sequence[str]
    saves: float  # 0 to 1, an estimate


def answer(case: Case, step: Step, syscalls: dict[str, Any] | None) -> Answer | None:
    """The answer for one host; None for one that never lost events, is not measured, or has a step to take.

    case: with the verdict as the steps left it. step: the one that is taken. syscalls: what
    syscall_set.choose() returned, where it was asked.
    """
    verdict = case.verdict
    record = case.facts["host"]["record"]
    attempts = record["attempts"] if record else []
    before = _lost_first(attempts)
    kind = _kind(case, step, before)
    if kind == "unsolved" and (verdict["next_step"] in AWAITED or syscalls and syscalls["unproved"]):
        kind = None  # exclusions are the next step, once a second profile proves them
    if kind is None:
        return None
    found = verdict["capacity"]
    takes = [] if kind in ("solved", "accepted") else _takes(case)
    factor = found["factor_alone"] if found and kind == "too_busy" else None
    made: Answer = {
        "kind": kind,
        "factor": factor,
        "text": "",
        "tried": [_tried(item) for item in attempts],
        "takes": takes,
        "gave_up": _gave_up(attempts, syscalls),
        "predicted": _predicted(attempts),
        "against": _against(attempts),
    }
    made["text"] = _text(made, before, verdict)
    return made


def rules_that_cost(facts: Facts, verdict: Verdict) -> list[str]:
    """What would save most in the rules, where the thread that evaluates them is the bottleneck."""
    known = facts["syscalls"]
    audit = known.get("audit") if known else None
    if audit is None or verdict["bottleneck"] != "consumer":
        return []
    return listed_audits.advice(audit)


def _lost_first(attempts: list[Attempt]) -> float | None:
    """Percent lost before the first step that evidence asked for."""
    for item in attempts:
        was = item["before"]
        if was and was["state"] in LOSING and was["drops_percent"]:
            return was["drops_percent"]
    return None


def _kind(
    case: Case, step: Step, before: float | None
) -> Literal["solved", "improved", "accepted", "too_busy", "unsolved"] | None:
    verdict, lost = case.verdict, case.verdict["drops_percent"] or 0.0
    if verdict["state"] == "healthy":
        return "solved" if before is not None else None
    if verdict["state"] == "acceptable":
        return "accepted"
    if verdict["state"] not in LOSING or step.name:
        return None
    found = verdict["capacity"]
    if found and verdict["bottleneck"] == "consumer":
        return "too_busy"
    if verdict["next_step"] == "overloaded":
        return "too_busy"
    less = before is not None and before - lost >= case.policy["tolerance_percent"] / 100.0 * before
    return "improved" if less else "unsolved"


def _predicted(attempts: list[Attempt]) -> float | None:
    """What the last step was to leave lost, where it is in force."""
    last = attempts[-1] if attempts else None
    return None if last is None or last.get("rolled_back") else last.get("predicted")


def _against(attempts: list[Attempt]) -> str | None:
    """The bottleneck that the last step was taken against, where it was measured."""
    before = attempts[-1]["before"] if attempts else None
    return before["bottleneck"] if before else None


def _tried(attempt: Attempt) -> str:
    if attempt["step"] == "give_back" and attempt.get("undoes"):
        return "%s taken back" % " and ".join(attempt["undoes"])
    text = "%s (%s)" % (attempt["step"], effects.values(attempt))
    if attempt.get("rolled_back"):
        return text + ", rolled back"
    predicted = attempt.get("predicted")
    return text if predicted is None else "%s, %.3g %% predicted" % (text, predicted)


def _heavy(case: Case) -> Heavy | None:
    """The heaviest rules without which the load would fit, or all heavy ones.

    None where no audit of rules knows their event rates, or where they would save little. A rule's percent
    is of all events, those that are lost now included; so is the factor.
    """
    known, found = case.facts["syscalls"], case.verdict["capacity"]
    audit = known.get("audit") if known else None
    if not audit or not found or not found["factor"]:
        return None
    costs = sorted(((weight["percent"] or 0.0, weight["rule"]) for weight in audit["weights"]), reverse=True)
    whole, too_much = 100.0 * found["factor"], 1 - 1 / max(found["factor_alone"], 1.0)
    names, saves = [], 0.0
    for percent, rule in costs:
        if percent <= LEAST_OF_HEAVIEST * costs[0][0] or saves >= too_much:
            break
        names.append(rule)
        saves += percent / whole
    return Heavy(names, min(1.0, saves)) if saves >= LEAST_SAVED else None


def _takes(case: Case) -> list[str]:
    """What would end the loss, the smallest demand first."""
    verdict, found = case.verdict, case.verdict["capacity"]
    bottlenecks = [verdict["bottleneck"], *verdict["also"]]
    takes = []
    if "starved" in bottlenecks:
        takes.append("a whole CPU: a higher priority, or fewer neighbours")
    if "cpu_quota" in bottlenecks:
        takes.append("no CPU quota (falco_tune_unthrottle)")
    factor = found["factor_alone"] if found else 1.0
    if factor <= 1.0:
        return takes
    heavy = _heavy(case)
    if heavy:
        names = some(heavy.rules)
        enough = "" if factor * (1 - heavy.saves) <= 1 else ", which does not suffice alone"
        takes.append(
            "without the rules %s: about %.0f %% less work, by estimate%s"
            % (names, 100 * heavy.saves, enough)
        )
    if case.release.enter_events:
        enough = "" if factor <= verdicts.ENTER_EVENTS else ", which does not suffice alone"
        takes.append("Falco 0.42 or newer: about half the events%s" % enough)
    if factor <= 2:
        takes.append(
            "%.0f %% fewer events, or events that cost Falco as much less" % (100 * (1 - 1 / factor))
        )
    else:
        takes.append("%.3g times fewer events, or rules that cost Falco as much less for each" % factor)
    return takes


def _gave_up(attempts: list[Attempt], syscalls: dict[str, Any] | None) -> list[str]:
    """What Falco sees less of, by the last choice of system calls that is in force."""
    if syscalls:
        found = syscalls["coverage"]
        rules = [*found["newly"]] or [item["rule"] for item in [*found["blind"], *found["half_blind"]]]
        return rules[:MOST_NAMES]
    last = next((item for item in reversed(attempts) if item["step"] in ("syscalls", "give_back")), None)
    entries = last["to"].get("custom_set") or [] if last else []
    return [str(entry)[1:] for entry in entries if str(entry).startswith("!")][:MOST_NAMES]


def _text(made: Answer, before: float | None, verdict: Verdict) -> str:
    parts, lost = [WORDS[made["kind"]]], verdict["drops_percent"]
    if made["factor"] and made["factor"] > 1:
        parts[0] += (
            ": the load needs %.3g times a whole CPU, and one thread reads all events" % made["factor"]
        )
    if lost is not None:
        was = " (%.3g %% before)" % before if before is not None else ""
        parts.append("%.3g %% lost%s" % (lost, was))
    if made["tried"]:
        parts.append("tried: " + ", ".join(made["tried"]))
    if made["takes"]:
        parts.append("it would take: " + "; or ".join(made["takes"]))
    elif made["kind"] == "unsolved":
        parts += ["because: " + verdict["reasons"][-1], "advice: " + verdict["advice"]]
    if made["gave_up"]:
        parts.append("given up: " + ", ".join(made["gave_up"]))
    return "; ".join(parts)
