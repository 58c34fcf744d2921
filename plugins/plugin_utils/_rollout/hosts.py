# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host of a rollout: what its change would cost, and what became of it. Pure."""

from __future__ import annotations

from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.configuration import Settings
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import buffers

# From SIGTERM to the first event seen again: 2.3 to 2.6 s were measured at preset 4, 3.1 to 3.4 s at preset 10 (0.44.1).
EXPECTED_BLIND = 3.0

# What a host is to a rollout of which nothing is known but why not.
UNKNOWN = {
    "class": None,
    "domain": None,
    "blind_seconds": 0.0,
    "bytes": 0,
    "rules_lost": 0,
    "healthy": False,
    "loses": None,
}


def describe(facts, plan, policy, changes, domain):
    """What plugin_utils/_rollout/batching.py wants to know of a host, from its facts and plan.

    changes: the plan's and those of files outside Falco's. domain: the host's failure domain, or None.
    """
    verdict = plan["verdict"] or {}
    waits = plan["restart_required"] and not policy["restart_ok"]
    running = bool(facts["falco"].get("running"))
    losing = verdict.get("state") in ("dropping", "overloaded")
    return {
        "state": "converged" if not changes else "waiting" if waits else "changing",
        "class": host_class(facts, plan, policy),
        "domain": domain,
        "blind_seconds": _expected_blind(facts) if plan["restart_required"] and not waits else 0.0,
        "bytes": 0 if waits else _bytes(facts, plan),
        "rules_lost": 0 if waits else _rules_lost(plan),
        "healthy": running and verdict.get("state") != "blind",
        "loses": "%s, bottleneck %s: %s" % (verdict["state"], verdict["bottleneck"], verdict["advice"])
        if losing and not changes
        else None,
    }


def host_class(facts, plan, policy):
    """[driver, least number of CPUs of its size class, release]: hosts of one class get the same change."""
    online = facts["cpus"].get("online") or 0
    sizes = [item["min_cpus"] for item in policy["buffer_classes"] if item["min_cpus"] <= online]
    return [plan["driver"], max(sizes) if sizes else 0, plan["release"]]


def class_text(item):
    return "%s from %s CPUs, Falco %s" % tuple(item) if item else "unknown"


def _expected_blind(facts):
    """Seconds: what the last change of this host took, else what was measured elsewhere."""
    evidence = ((facts.get("host") or {}).get("record") or {}).get("evidence") or {}
    known = evidence.get("blind_seconds_at_most")
    return float(known) if isinstance(known, (int, float)) and 0 < known < 600 else EXPECTED_BLIND


def _bytes(facts, plan):
    """Bytes of ring buffers after the change less those before."""
    if not plan["buffers"]:
        return 0
    release = releases.release_for(facts["falco"]["version"])
    now = buffers.in_force(Settings(facts["config"]["effective"], release), plan["driver"])
    rings = buffers.layout(
        plan["driver"], facts["cpus"]["online"], now["buf_size_preset"], now["cpus_for_each_buffer"]
    )
    return plan["buffers"]["bytes_total"] - rings["bytes_total"]


def _rules_lost(plan):
    """Enabled rules that see less after the change than before."""
    return len((plan.get("coverage") or {}).get("newly") or [])


def outcome(applied, looked, check_mode=False):
    """What became of a host whose turn has come, from the results of its tasks.

    applied: of falco_config with state present; looked: with state proven; either may be None or {}.
    → {'outcome', 'blind' (it may see nothing now), 'began', 'ended', 'blind_seconds', 'evidence' (text), 'reason'}
    """
    applied, looked = _dictionary(applied), _dictionary(looked)
    evidence, again = _dictionary(applied.get("evidence")), looked.get("evidence")
    ended = _time(looked, "ended") or _time(applied, "ended")
    found = {
        "outcome": "done",
        "blind": False,
        "began": _time(applied, "began"),
        "ended": ended,
        "blind_seconds": _seconds(evidence, again, applied),
        "reason": None,
        "evidence": evidence_text(dict(evidence, **_dictionary(looked.get("look")))),
    }
    if not applied:
        return dict(found, outcome="lost", blind=True, reason="it brought no result")
    for result in (applied, looked):
        if result.get("unreachable"):
            return dict(
                found, outcome="lost", blind=True, reason="the connection was lost: %s" % result.get("msg")
            )
    if applied.get("failed"):
        return dict(found, evidence="", **_failed(applied))
    if looked.get("failed"):
        back = bool(looked.get("reverted"))
        return dict(
            found, outcome="reverted" if back else "failed", blind=not back, reason=str(looked.get("msg"))
        )
    if check_mode:
        return dict(found, outcome="planned", evidence="")
    if applied.get("staged"):
        return dict(found, outcome="staged", evidence="", reason=str(applied.get("msg") or ""))
    return found


def _failed(applied):
    """An outcome from a failed change: whether it was put back, never begun, or nobody knows."""
    reason = str(applied.get("msg"))
    if applied.get("recovered"):
        return {"outcome": "skipped", "reason": reason}
    if applied.get("undone") is False or "module_stderr" in applied:
        # Undoing failed, or the module ended without an answer and its keeper may still be at work.
        return {"outcome": "lost", "blind": True, "reason": reason}
    return {"outcome": "reverted" if applied.get("touched") else "failed", "reason": reason}


def evidence_text(evidence):
    """'counters (metrics.output_file), buffers (memory map)', or what else proved a change."""
    evidence = _dictionary(evidence)
    source = str(evidence.get("source") or "")
    if not source:
        return ""
    parts = [source if source.startswith("process only") else "counters (%s)" % source]
    rings = _dictionary(evidence.get("buffers")).get("source")
    if rings:
        parts.append("buffers (%s)" % rings)
    if evidence.get("drops_percent") is not None:
        parts.append("%s %% of events lost" % evidence["drops_percent"])
    return ", ".join(parts)


def _dictionary(value):
    return value if isinstance(value, dict) else {}


def _time(result, name):
    value = result.get(name)
    return value if isinstance(value, float) else None


def _seconds(*parts):
    """The sum of what the parts say of blind seconds, or None where none says any."""
    found = [_dictionary(part).get("blind_seconds_at_most") for part in parts]
    found = [value for value in found if isinstance(value, (int, float)) and not isinstance(value, bool)]
    return round(sum(found), 2) if found else None
