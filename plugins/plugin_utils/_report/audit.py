# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit keeps of one host: facts + plan (+ the last audit's counters) → one entry of the report. Pure."""

from __future__ import annotations

from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.configuration import Settings
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import buffers, drift, windows
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import verdicts

EMPTY = {
    "name": None,
    "status": "ok",
    "reason": None,
    "release": None,
    "driver": None,
    "cpus": None,
    "memory_bytes": None,
    "kernel": None,
    "unit": None,
    "buffers": None,
    "window": None,
    "verdict": None,
    "plan": None,
    "drift": [],
    "change": None,
    "syscalls": None,
    "trial": None,
    "previous": None,
    "history": [],
    "snapshot": None,
}


def missing(name, status, reason):
    """The entry of a host that brought no facts: status 'unreachable' or 'failed'."""
    return dict(EMPTY, name=name, status=status, reason=str(reason), drift=[], history=[])


def tried(name, trial, found):
    """The entry of a host that brought a trial; found: its other entry. A host that was tried was reached."""
    if found["status"] == "failed" and found["release"] is None:
        found = dict(EMPTY, name=name, drift=[], history=[])
    return dict(found, trial=trial)


def entry(name, facts, plan, policy, older=None):
    """The entry of a host. plan: the plan, or {'reason'} where none could be made. policy: min_observation and
    accepted_drops_percent. older: the snapshot of the last audit, from which a window between the two audits is made
    where the host's own record is too short."""
    release = releases.known(facts["falco"]["version"])
    facts = _with_older(facts, older, release, policy)
    current = None
    if (
        release is not None
        and facts["driver"].get("kind") in release.drivers
        and facts["config"].get("effective")
    ):
        current = buffers.in_force(Settings(facts["config"]["effective"], release), facts["driver"]["kind"])
    window = dict(facts.get("metrics") or {})
    snapshot = window.pop("snapshot", None)
    return dict(
        EMPTY,
        name=name,
        release=facts["falco"].get("version"),
        driver=facts["driver"].get("kind"),
        cpus=facts["cpus"].get("online"),
        memory_bytes=facts["memory"].get("total"),
        kernel=facts["kernel"].get("release"),
        unit=facts["service"].get("unit"),
        buffers=_buffers(facts, current),
        window=window,
        verdict=_verdict(facts, plan, policy),
        plan=_plan(plan),
        drift=drift.find(facts, plan, current),
        change=_change(facts),
        syscalls=(plan or {}).get("syscalls"),
        history=[],
        snapshot=_snapshot(facts, snapshot),
    )


def _with_older(facts, older, release, policy):
    """Counters that were read at two audits make a window where one Falco run spans both; CPU time too."""
    if not isinstance(older, dict) or not older:
        return facts
    facts = dict(facts, falco=dict(facts["falco"]))
    now = _snapshot(facts, (facts.get("metrics") or {}).get("snapshot"))
    seconds = (facts.get("metrics") or {}).get("seconds") or 0
    if now and seconds < policy["min_observation"]:
        between = windows.between(older, now, release, facts["cpus"].get("online"))
        if not between["voided"] and between["seconds"] > seconds:
            facts["metrics"] = between
    between = _cpu_between(older.get("cpu"), (now or {}).get("cpu"))
    if between and between["seconds"] >= policy["min_observation"]:
        facts["falco"]["cpu"] = dict(facts["falco"].get("cpu") or {}, look="between the audits", **between)
    return facts


def _cpu_between(was, now):
    """{'on', 'waiting', 'throttled', 'seconds'} in percent between two looks at one process, or None."""
    if not isinstance(was, dict) or not isinstance(now, dict) or was.get("start_ticks") != now["start_ticks"]:
        return None
    took = now["age"] - _number(was.get("age"), now["age"])
    if took <= 0:
        return None
    found = {"seconds": round(took, 1)}
    for name in ("on", "waiting", "throttled"):
        then = _number(was.get(name), None)
        found[name] = (
            None
            if then is None or now.get(name) is None or now[name] < then
            else round(100.0 * (now[name] - then) / took, 2)
        )
    return found


def _number(value, instead):
    return (
        value
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1 << 64
        else instead
    )


def _snapshot(facts, snapshot):
    """What the next audit needs of this one, or None."""
    if not snapshot:
        return None
    falco = facts["falco"]
    total = (falco.get("cpu") or {}).get("total")
    if total and falco.get("age"):
        snapshot = dict(snapshot, cpu=dict(total, start_ticks=falco.get("start_ticks"), age=falco["age"]))
    return snapshot


def _verdict(facts, plan, policy):
    """The plan's verdict knows what was tried; one on counters between two audits is made here."""
    if plan and plan.get("verdict") and (facts.get("metrics") or {}).get("source") != "between audits":
        return plan["verdict"]
    return verdicts.judge(facts, policy)


def _buffers(facts, current):
    online = facts["cpus"].get("online")
    if not current or not online:
        return None
    rings = buffers.layout(
        facts["driver"]["kind"], online, current["buf_size_preset"], current["cpus_for_each_buffer"]
    )
    return dict(current, **{name: rings[name] for name in ("count", "bytes_each", "bytes_total")})


def _plan(plan):
    if not plan:
        return None
    return {
        "changes": plan.get("changes") or [],
        "restart_required": bool(plan.get("restart_required")),
        "warnings": plan.get("warnings") or [],
        "reason": plan.get("reason"),
    }


def _change(facts):
    record = (facts.get("host") or {}).get("record")
    if not record:
        return None
    return {"at": record.get("at"), "evidence": record.get("evidence"), "before": record.get("before")}
