# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts, plan and the counters of the last audit of one host → its entry of the report. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from ansible_collections.falcotune.fleet.plugins.plugin_utils import _untrusted
from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import (
    Buffers,
    Facts,
    Plan,
    Policy,
    ReportPlan,
    StepOutcome,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.configuration import Settings
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.releases import Release
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import shape
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import (
    buffers,
    drift,
    sight,
    twins,
    verdicts,
    windows,
)

# The parts of the facts that an entry reads.
PARTS = ("falco", "service", "driver", "config", "metrics", "cpus", "kernel", "memory", "host")
# What only a visit finds out.
NOT_VISITED = (
    "Falco's CPU time and waiting, its quota, its ring buffers, what its rules see, and whether the host "
    "differs from its last proven state"
)
# The source of a window of windows.between().
BETWEEN = "between audits"
# Of what a step came to.
_OUTCOME = tuple(StepOutcome.__annotations__)
# Of names in a snapshot.
_STARTS = ("scap.n_drops_buffer_", "scap.", "falco.")
Entry = dict[str, Any]
Snapshot = dict[str, Any]

EMPTY: Entry = {
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
    "sight": None,
    "rules": None,
    "trial": None,
    "monitored": None,
    "previous": None,
    "history": [],
    "snapshot": None,
    "twin": None,
}


def missing(name: str, status: str, reason: object) -> Entry:
    """The entry of a host that brought no facts: status 'unreachable' or 'failed'."""
    return {**EMPTY, "name": name, "status": status, "reason": str(reason), "drift": [], "history": []}


def monitored(name: str, known: Mapping[str, Any]) -> Entry:
    """The entry of a host that was not visited. known: what Prometheus knows of it. It has no verdict."""
    reason = "Not visited. Prometheus: %s. Unknown without a visit: %s." % (
        _untrusted.text(known.get("reason"), 500) or "no reason",
        NOT_VISITED,
    )
    return {**missing(name, "monitored", reason), "release": known.get("release"), "monitored": known}


def tried(name: str, trial: Mapping[str, Any], found: Entry) -> Entry:
    """The entry of a host that brought a trial; found: its other entry. A host with a trial was reached."""
    if found["status"] == "failed" and found["release"] is None:
        found = {**EMPTY, "name": name, "drift": [], "history": []}
    return {**found, "trial": trial}


def incomplete(facts: object) -> list[str]:
    """The parts of the facts that are missing; [] for facts that entry() can read."""
    found = _untrusted.dictionary(facts)
    return [part for part in PARTS if not isinstance(found.get(part), dict)]


def entry(name: str, facts: Facts, plan: object, policy: Policy, older: object = None) -> Entry:
    """The entry of a host.

    plan: the plan, {'reason'} where none could be made, or None. policy: min_observation and
    accepted_drops_percent. older: the snapshot of the last audit, or anything else. It makes a window
    between the two audits where the host's own record is too short.
    """
    release = releases.known(facts["falco"]["version"])
    if isinstance(older, dict) and older:
        facts = _with_older(facts, older, release, policy)
    made = _untrusted.dictionary(plan)
    current = _current(facts, release)
    window: dict[str, Any] = dict(facts["metrics"])
    snapshot = window.pop("snapshot", None)
    return {
        **EMPTY,
        "name": name,
        "release": facts["falco"]["version"],
        "driver": facts["driver"]["kind"],
        "cpus": facts["cpus"]["online"],
        "memory_bytes": facts["memory"]["total"],
        "kernel": facts["kernel"]["release"],
        "unit": facts["service"]["unit"],
        "buffers": _buffers(facts, current),
        "window": window,
        "verdict": _verdict(facts, made, policy),
        "plan": _plan(made),
        "drift": drift.find(facts, cast(Plan, made) if made else None, current),
        "change": _change(facts),
        "syscalls": made.get("syscalls"),
        "sight": sight.in_force(facts),
        "rules": _rules(facts),
        "history": [],
        "snapshot": windows.remembered(_snapshot(facts, snapshot)) if snapshot else None,
        "twin": _twin(facts, made),
    }


def waits(facts: Facts, plan: object, policy: Policy) -> bool:
    """Whether the entry may change with the counters of the last audit, which only the report knows."""
    if not facts["metrics"]["snapshot"]:
        return False
    verdict = _untrusted.dictionary(plan).get("verdict")
    return not verdict or (facts["metrics"]["seconds"] or 0) < policy["min_observation"]


def slim(found: Entry) -> Entry:
    """The entry without what is unknown, what the model leaves out and what is said twice, for whole()."""
    kept = {name: part for name, part in found.items() if part is not None and part != []}
    if "window" in kept:
        kept["window"] = _named(kept["window"], shape.WINDOW)
    if "change" in kept:
        kept["change"] = {**kept["change"], "before": _named(kept["change"]["before"], shape.BEFORE)}
    if "plan" in kept and "verdict" in kept:
        kept["plan"] = {**kept["plan"], "changes": _numbered(kept["plan"]["changes"], kept["verdict"])}
    if "snapshot" in kept:
        kept["snapshot"] = _packed(kept["snapshot"])
    if "twin" in kept:
        rows = [[item.get(name) for name in _OUTCOME] for item in kept["twin"]["outcomes"]]
        kept["twin"] = {**kept["twin"], "outcomes": rows}
    tables = ("window", "verdict", "plan", "change", "sight")
    return {name: _known(part) if name in tables else part for name, part in kept.items()}


def _packed(snapshot: Mapping[str, Any]) -> dict[str, Any]:
    """The snapshot with each of the long beginnings of its names once."""
    found: dict[str, Any] = {}
    for name, value in snapshot.items():
        start = next((start for start in _STARTS if name.startswith(start)), None)
        if start is None:
            found[name] = value
        else:
            found.setdefault(start, {})[name[len(start) :]] = value
    return found


def _unpacked(snapshot: object) -> dict[str, Any] | None:
    """The snapshot that _packed() was given."""
    found: dict[str, Any] = {}
    for name, value in _untrusted.dictionary(snapshot).items():
        if name in _STARTS and isinstance(value, dict):
            found.update(("%s%s" % (name, end), item) for end, item in value.items())
        else:
            found[name] = value
    return found or None


def _numbered(changes: list[Any], verdict: Mapping[str, Any]) -> list[Any]:
    """The changes with a number in place of a reason that is told before: of the verdict, or of a change."""
    told: list[Any] = list(verdict["reasons"])
    found = []
    for item in changes:
        why = item.get("why")
        if why in told:
            item = {**item, "why": told.index(why)}
        else:
            told.append(why)
        found.append(item)
    return found


def _told(changes: object, verdict: object) -> list[Any]:
    """The changes that _numbered() was given; a number of no reason is None."""
    told = _untrusted.sequence(_untrusted.dictionary(verdict).get("reasons"))
    found = []
    for item in map(_untrusted.dictionary, _untrusted.sequence(changes)):
        why = item.get("why")
        if _untrusted.is_whole(why):
            item = {**item, "why": told[why] if 0 <= why < len(told) else None}
        else:
            told.append(why)
        found.append(item)
    return found


def _named(part: object, names: Iterable[str]) -> dict[str, Any]:
    """The items of a table that have one of these names."""
    found = _untrusted.dictionary(part)
    return {name: found[name] for name in names if name in found}


def _known(part: Any) -> Any:
    """A table of the model without what is unknown in it."""
    if not isinstance(part, dict):
        return part
    known = {name: _known(value) for name, value in part.items()}
    return {name: value for name, value in known.items() if value is not None and value not in ([], {})}


def whole(name: str, found: Mapping[str, Any]) -> Entry:
    """The entry of a host from what slim() left of it."""
    plan = found.get("plan")
    if isinstance(plan, dict):
        found = {**found, "plan": {**plan, "changes": _told(plan.get("changes"), found.get("verdict"))}}
    twin = found.get("twin")
    if isinstance(twin, dict):
        rows = _untrusted.sequence(twin.get("outcomes"))
        steps = [dict(zip(_OUTCOME, row)) if isinstance(row, (list, tuple)) else row for row in rows]
        found = {**found, "twin": {**twin, "outcomes": steps}}
    snapshot = _unpacked(found.get("snapshot"))
    return {**EMPTY, "drift": [], "history": [], **found, "name": name, "snapshot": snapshot}


def _current(facts: Facts, release: Release | None) -> Buffers | None:
    """The settings of the ring buffers that the configuration on disk asks for."""
    kind, effective = facts["driver"]["kind"], facts["config"]["effective"]
    if release is None or kind not in release.drivers or not effective:
        return None
    return buffers.in_force(Settings(effective, release), kind)


def _with_older(facts: Facts, older: Snapshot, release: Release | None, policy: Policy) -> Facts:
    """The facts with a window and CPU times between two audits, where one Falco run spans both."""
    found = cast(Facts, {**facts, "falco": {**facts["falco"]}})
    if not found["metrics"]["snapshot"]:
        return found
    now = _snapshot(found, found["metrics"]["snapshot"])
    seconds = found["metrics"]["seconds"] or 0
    if seconds < policy["min_observation"]:
        window = windows.between(older, now, release, facts["cpus"]["online"])
        if not window["voided"] and (window["seconds"] or 0) > seconds:
            found["metrics"] = window
    cpu = _cpu_between(older.get("cpu"), now.get("cpu"))
    if cpu and cpu["seconds"] >= policy["min_observation"]:
        known: Any = {**found["falco"]["cpu"], "look": "between the audits", **cpu}
        found["falco"]["cpu"] = known
    return found


def _cpu_between(was: object, now: object) -> dict[str, Any] | None:
    """{'on', 'waiting', 'throttled', 'seconds'} in percent between two looks at one process, or None."""
    if not isinstance(was, dict) or not isinstance(now, dict) or was.get("start_ticks") != now["start_ticks"]:
        return None
    age = _untrusted.number(was.get("age"))
    took = now["age"] - (now["age"] if age is None else age)
    if took <= 0:
        return None
    found: dict[str, Any] = {"seconds": round(took, 1)}
    for name in ("on", "waiting", "throttled"):
        then, spent = _untrusted.number(was.get(name)), now.get(name)
        if then is None or spent is None or spent < then:
            found[name] = None
        else:
            found[name] = round(100.0 * (spent - then) / took, 2)
    return found


def _snapshot(facts: Facts, snapshot: Snapshot) -> Snapshot:
    """The counters of this audit, with the CPU time that Falco had used."""
    falco = facts["falco"]
    total = falco["cpu"]["total"]
    if not total or not falco["age"]:
        return snapshot
    return {**snapshot, "cpu": {**total, "start_ticks": falco["start_ticks"], "age": falco["age"]}}


def _twin(facts: Facts, plan: dict[str, Any]) -> dict[str, Any] | None:
    """What the plans of hosts like this one can learn from it, or None."""
    alike, outcomes = twins.key(facts), plan.get("outcomes")
    return {"twins": alike, "outcomes": outcomes} if alike and outcomes else None


def _verdict(facts: Facts, plan: dict[str, Any], policy: Policy) -> Any:
    """The plan's verdict, which knows what was tried before; a new one on counters between two audits."""
    if plan.get("verdict") and facts["metrics"]["source"] != BETWEEN:
        return plan["verdict"]
    return verdicts.judge(facts, policy)


def _buffers(facts: Facts, current: Buffers | None) -> dict[str, Any] | None:
    kind, online = facts["driver"]["kind"], facts["cpus"]["online"]
    if current is None or kind is None or not online:
        return None
    rings = buffers.layout(kind, online, current["buf_size_preset"], current["cpus_for_each_buffer"])
    return {**current, **{name: rings[name] for name in ("count", "bytes_each", "bytes_total")}}


def _plan(plan: dict[str, Any]) -> ReportPlan | None:
    if not plan:
        return None
    return {
        "changes": plan.get("changes") or [],
        "restart_required": bool(plan.get("restart_required")),
        "warnings": plan.get("warnings") or [],
        "reason": plan.get("reason"),
    }


def _rules(facts: Facts) -> dict[str, Any] | None:
    """The audit of the host's rules, where they were asked for."""
    known = facts["syscalls"]
    audit = known.get("audit") if known else None
    return {**audit, "digest": known.get("digest")} if known and audit else None


def _change(facts: Facts) -> dict[str, Any] | None:
    record = facts["host"]["record"]
    if not record:
        return None
    return {name: _untrusted.dictionary(record).get(name) for name in ("at", "evidence", "before")}
