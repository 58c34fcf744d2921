# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host of a rollout: the expected cost of its change, and its outcome. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ansible_collections.falcotune.fleet.plugins.plugin_utils import _untrusted
from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import (
    Facts,
    Outcome,
    Plan,
    Policy,
    RolloutHost,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.configuration import Settings
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import (
    answers,
    buffers,
    capacity,
    requests,
    verdicts,
)

# Seconds from SIGTERM to the first event that is seen again: 2.3 to 2.6 were measured at preset 4, 3.1 to
# 3.4 at preset 10 (0.44.1).
EXPECTED_BLIND = 3.0
# Of the time that it wants a CPU, what Falco got at nice -10 beside ten busy processes (60 to 20 %).
PRIORITY_SHARE = 0.75
# A starved start: 29 s were measured where Falco got 14 % of a CPU.
MOST_STARVED = 60.0
# A longer time in a host's record is not believed.
MOST_BLIND = 600

# A host of which nothing is known but the reason.
UNKNOWN = {
    "class": None,
    "domain": None,
    "blind_seconds": 0.0,
    "bytes": 0,
    "rules_lost": 0,
    "healthy": False,
    "loses": None,
}


def describe(
    facts: Facts, plan: Plan, policy: Policy, changes: Collection[Any], domain: str | None
) -> RolloutHost:
    """What batching.py needs to know of a host, from its facts and plan.

    changes: those of the plan and those of files outside Falco's own. domain: the host's failure domain, or
    None.
    """
    verdict = plan["verdict"]
    state = verdict["state"] if verdict else None
    waits = requests.waits(plan, policy)
    loses = None
    if verdict and state in ("dropping", "overloaded") and not changes:
        advice = [verdict["advice"], *answers.rules_that_cost(facts, verdict)]
        loses = "%s, bottleneck %s: %s" % (state, verdict["bottleneck"], "; ".join(advice))
    return {
        "state": "converged" if not changes else "waiting" if waits else "changing",
        "class": host_class(facts, plan, policy),
        "domain": domain,
        "blind_seconds": _expected_blind(facts, plan) if plan["restart_required"] and not waits else 0.0,
        "bytes": 0 if waits else _bytes(facts, plan),
        "rules_lost": 0 if waits else _rules_lost(plan),
        "healthy": bool(facts["falco"]["running"]) and state != "blind",
        "loses": loses,
        "reason": None,
    }


def host_class(facts: Facts, plan: Plan, policy: Policy) -> list[Any]:
    """[driver, least number of CPUs of its size class, release]: hosts of one class get the same change."""
    online = facts["cpus"]["online"] or 0
    sizes = [item["min_cpus"] for item in policy["buffer_classes"] if item["min_cpus"] <= online]
    return [plan["driver"], max(sizes, default=0), plan["release"]]


def class_text(item: list[Any] | None) -> str:
    return "%s from %s CPUs, Falco %s" % tuple(item) if item else "unknown"


def _expected_blind(facts: Facts, plan: Plan) -> float:
    """Seconds: as long as the last change of this host took, else as long as measured elsewhere.

    A Falco that waits for a CPU starts slowly as well, unless the same restart gives it priority.
    """
    record = _untrusted.dictionary(facts["host"]["record"])
    known = _untrusted.number(_untrusted.dictionary(record.get("evidence")).get("blind_seconds_at_most"))
    expected = float(known) if known and known < MOST_BLIND else EXPECTED_BLIND
    use = capacity.use(facts)
    if not verdicts.waits(use) or not use.on:
        return expected
    share = use.on / (use.on + (use.waiting or 0.0))
    if plan["step"] and plan["step"]["name"] in ("priority", "quota"):
        share = max(share, PRIORITY_SHARE)
        expected = min(expected, EXPECTED_BLIND)
    return round(min(max(expected, EXPECTED_BLIND / share), MOST_STARVED), 1)


def _bytes(facts: Facts, plan: Plan) -> int:
    """Bytes of ring buffers after the change less those before."""
    online, version = facts["cpus"]["online"], facts["falco"]["version"]
    if not plan["buffers"] or online is None or version is None:
        return 0
    settings = Settings(facts["config"]["effective"], releases.release_for(version))
    now = buffers.in_force(settings, plan["driver"])
    rings = buffers.layout(plan["driver"], online, now["buf_size_preset"], now["cpus_for_each_buffer"])
    return int(plan["buffers"]["bytes_total"] - rings["bytes_total"])


def _rules_lost(plan: Plan) -> int:
    """Enabled rules that see less after the change than before."""
    coverage = plan["coverage"]
    return len(coverage["newly"]) if coverage else 0


def outcome(applied: object, looked: object, check_mode: bool = False) -> Outcome:
    """What became of a host whose turn has come, from the results of its tasks.

    applied: of falco_config with state present; looked: with state proven. Either may be None or {}.
    """
    applied, looked = _untrusted.dictionary(applied), _untrusted.dictionary(looked)
    evidence = _untrusted.dictionary(applied.get("evidence"))
    found: Outcome = {
        "outcome": "done",
        "blind": False,
        "began": _time(applied, "began"),
        "ended": _time(looked, "ended") or _time(applied, "ended"),
        "blind_seconds": _blind_seconds(evidence, looked.get("evidence"), applied),
        "reason": None,
        "evidence": evidence_text({**evidence, **_untrusted.dictionary(looked.get("look"))}),
    }
    parts = _bad(applied, looked)
    if parts is None and check_mode:
        parts = {"outcome": "planned", "evidence": ""}
    elif parts is None and applied.get("staged"):
        parts = {"outcome": "staged", "evidence": "", "reason": str(applied.get("msg") or "")}
    if parts is not None:
        found.update(parts)  # type: ignore[typeddict-item]
    return found


def over_rounds(before: Outcome, now: Outcome, gathered: object) -> Outcome:
    """The outcome of a host after one more round.

    before: over the rounds so far, which all ended well. now: of this round. gathered: the result of
    gathering its facts in this round. A host that could not be looked at again, or whose next change waits,
    is still what was proven of it.
    """
    gathered = _untrusted.dictionary(gathered)
    if gathered.get("failed") or gathered.get("unreachable"):
        return {**before, "reason": "not looked at again: %s" % gathered.get("msg")}
    if now["outcome"] == "staged":
        return {**before, "reason": now["reason"]}
    known = [item["blind_seconds"] for item in (before, now) if item["blind_seconds"] is not None]
    return {
        **now,
        "began": before["began"],
        "ended": now["ended"] or before["ended"],
        "blind_seconds": round(sum(known), 2) if known else None,
        "evidence": now["evidence"] or before["evidence"],
    }


def _bad(applied: dict[str, Any], looked: dict[str, Any]) -> dict[str, Any] | None:
    """The parts of an outcome that are not those of a change that was made and proven; None where it was."""
    if not applied:
        return {"outcome": "lost", "blind": True, "reason": "no result came back"}
    for result in (applied, looked):
        if result.get("unreachable"):
            reason = "the connection was lost: %s" % result.get("msg")
            return {"outcome": "lost", "blind": True, "reason": reason}
    if applied.get("failed"):
        return {"evidence": "", **_failed(applied)}
    if looked.get("failed"):
        reverted = bool(looked.get("reverted"))
        return {
            "outcome": "reverted" if reverted else "failed",
            "blind": not reverted,
            "reason": str(looked.get("msg")),
        }
    return None


def _failed(applied: dict[str, Any]) -> dict[str, Any]:
    """The parts of an outcome after a failed change: it was undone, never begun, or nobody knows."""
    reason = str(applied.get("msg"))
    if applied.get("recovered"):
        return {"outcome": "skipped", "reason": reason}
    if applied.get("undone") is False or "module_stderr" in applied:
        # Undoing failed, or the module ended without an answer and its worker may still be running.
        return {"outcome": "lost", "blind": True, "reason": reason}
    return {"outcome": "reverted" if applied.get("touched") else "failed", "reason": reason}


def evidence_text(evidence: object) -> str:
    """What proved a change: 'counters (metrics.output_file), buffers (memory map)'; '' where nothing did."""
    evidence = _untrusted.dictionary(evidence)
    if not evidence.get("basis"):
        return ""
    if evidence["basis"] == "process":
        parts = ["process only: %s" % evidence.get("reason")]
    else:
        parts = ["counters (%s)" % evidence.get("source")]
    rings = _untrusted.dictionary(evidence.get("buffers")).get("source")
    if rings:
        parts.append("buffers (%s)" % rings)
    if evidence.get("drops_percent") is not None:
        parts.append("%s %% of events lost" % evidence["drops_percent"])
    return ", ".join(parts)


def _time(result: dict[str, Any], name: str) -> float | None:
    value = result.get(name)
    return value if isinstance(value, float) else None


def _blind_seconds(*parts: object) -> float | None:
    """The sum of the blind seconds in the parts, or None where none has any."""
    found = [_untrusted.dictionary(part).get("blind_seconds_at_most") for part in parts]
    known = [value for value in found if _untrusted.is_number(value)]
    return round(sum(known), 2) if known else None
