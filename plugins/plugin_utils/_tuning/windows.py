# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two snapshots of one Falco run → the window contract: what the host made, what Falco lost, what it cost.

Everything is a difference of monotonic counters over the difference of evt.time, as Falco's own rates are
(userspace/falco/stats_writer.cpp); with neighbouring snapshots the numbers are those that Falco printed, to
the last digit:

    rate           = Δ scap.n_evts / Δt            scap.evts_rate_sec, rounded to one decimal
    drop_rate      = Δ scap.n_drops / Δt           scap.evts_drop_rate_sec, rounded to one decimal
    engine_rate    = Δ falco.num_evts / Δt         falco.evts_rate_sec, rounded to one decimal
    drops_percent  = 100 · Δ n_drops / Δ n_evts    scap.n_drops_perc, unrounded; n_evts includes what was
                   dropped

The keys of a window; every one of them is always there:

    voided              why there is no window, or None; with a reason all numbers are None but age and those
                        of since_start
    basis               'counters', or 'drop alerts': then events and drops are those of the alerts' seconds
                        alone (a lower bound of drops, an upper bound of drops_percent), seconds is their
                        number, and rates are None
    seconds, age        length of the window; time since its end when it was read
    cpus                what rate_per_cpu was divided by
    enter_events        True before 0.42, which counts about twice the events for the same load; None if the
                        release is unknown
    drops_by_category   {category: drops}, enter and exit added up, zeros left out; 'uncategorised' is the
                        rest of the drops: recv, send, accept and other state syscalls. From /metrics of 0.42
                        on it also holds what the open and connect enter programs lost, which are printed
                        there as 0
    falco_cpu_percent, falco_cpu_error   of one CPU, see _cpu(); percentage points
    outputs_queue_drops alerts that a slow output lost
    userspace           deltas of Falco's state counters that were there, and n_threads at the end
    kernel              from the libbpf fields, or None without them. percent: of all CPUs' time spent in
                        Falco's programs; syscalls: runs of sys_exit
    memory              {'rss', 'pss', 'vsz', 'container'} in bytes at the end
    since_start         from the last snapshot alone, whose counters began at 0 with the start or the last hot
                        reload; None without falco.start_ts. Before 0.41 Falco does not say when it was
                        reloaded: seconds is an upper bound then. A share of drops in it is right, a rate only
                        without hot reloads
    losing              the intervals between snapshots that lost most (_contracts.Losing); None without
                        losses or where only two snapshots are known
    losing_cpus         the CPUs whose events were lost (_contracts.LosingCpus); None where
                        metrics.kernel_event_counters_per_cpu_enabled is off
    ruleset             the same for Falcos that loaded rules files of the same content; None where unknown
    snapshot            the last snapshot, for between(); 500 to 1000 bytes of JSON. None with drop alerts
                        alone
"""

from __future__ import annotations

import math
import re
from typing import Any, cast

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import (
    KernelCost,
    Losing,
    LosingCpus,
    SinceStart,
    Window,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.releases import Release

# The basis of a window of snapshots that lack the kernel's counters. It is voided.
UNCOUNTED = "no counters"
BASES = ("counters", "drop alerts", UNCOUNTED)
EMPTY: Window = {
    "source": None,
    "basis": None,
    "voided": None,
    "seconds": None,
    "age": None,
    "cpus": None,
    "enter_events": None,
    "events": None,
    "drops": None,
    "drops_percent": None,
    "rate": None,
    "rate_per_cpu": None,
    "drop_rate": None,
    "engine_rate": None,
    "drops_by_category": {},
    "falco_cpu_percent": None,
    "falco_cpu_error": None,
    "outputs_queue_drops": None,
    "userspace": {},
    "kernel": None,
    "memory": {},
    "since_start": None,
    "losing": None,
    "losing_cpus": None,
    "ruleset": None,
    "snapshot": None,
}
USERSPACE = (
    "n_drops_full_threadtable",
    "n_failed_thread_lookups",
    "n_failed_fd_lookups",
    "n_store_evts_drops",
    "n_retrieve_evts_drops",
)
LIMIT = 1 << 64
SHORTEST = 1000000  # ns; metrics.interval is 100 ms at least
MOST_FIELDS = 200
MOST_INTERVALS = 8
# Of the drops in the worst interval: one that lost less is no part of the time in which events are lost.
LEAST_OF_WORST = 0.1
MOST_TEXT = 2000
# No CPU makes and records an event in 10 ns (an interesting one costs some 500, recordings/metrics:
# sys_exit.avg_time_ns).
MOST_EVENTS_PER_CPU = 1e8
MOST_CPUS = 8192
# A lifetime average with one decimal says nothing of a short window in a long life; beyond this it is not
# told.
MOST_CPU_ERROR = 10.0

_CATEGORY = re.compile(r"(?:scap\.)?n_drops_buffer_([a-z_]{1,40})_(?:enter|exit)")
# Fields that are no counters, and that window() reads of the last snapshot alone.
_STATE = re.compile(
    r"scap\.engine_name|falco\.(?:host_num_cpus|n_threads|rules|(?:container_)?memory_\w+)", re.ASCII
)
_ZERO_IF_MISSING = re.compile(r"scap\.n_drops\w*|falco\.(?:%s)" % "|".join(USERSPACE), re.ASCII)
_ENTER = re.compile(r"scap\.n_drops_buffer_[a-z_]+_enter")
_NAME = re.compile(r"sample|(?:evt|falco|scap)\.[\w.]{1,100}", re.ASCII)
_WORD = re.compile(r"[\w.+~-]{1,64}", re.ASCII)
_BESIDE = ("scratch_map", "page_faults", "bug")


class Void(ValueError):
    """Two snapshots that make no window; the text is the reason."""


def window(pair: Any, release: Release | None = None, cpus: int | None = None) -> Window:
    """The window of what a host sent. Never raises on host data.

    pair: {'first', 'last', 'source', 'age'}, or {'reason'} with or without 'alerts', 'last', 'age' and
    'source'.
    release: for enter_events; None takes the one that the snapshot names. cpus: CPUs online, where the
    snapshots lack falco.host_num_cpus (plugins: falco#2821).
    """
    pair = pair if isinstance(pair, dict) else {}
    last = _trusted(pair.get("last"))
    release, cpus = release or releases.known(last.get("falco.version")), _cpus({"falco.host_num_cpus": cpus})
    result: dict[str, Any] = {
        **EMPTY,
        "drops_by_category": {},
        "userspace": {},
        "memory": {},
        "source": _short(pair.get("source")),
        "age": _real(pair.get("age")),
        "enter_events": release.enter_events if release is not None else None,
        "since_start": _since_start(last),
        "ruleset": _short(last.get("falco.rules")),
        "snapshot": last or None,
    }
    try:
        if "first" in pair and "last" in pair:
            result.update(_counted(_trusted(pair["first"]), last, cpus), basis="counters")
            result["losing"] = _losing(pair.get("intervals"), result)
            result["losing_cpus"] = _losing_cpus(pair.get("cpus"), result["drops"])
        elif pair.get("alerts"):
            result.update(_alerted(pair["alerts"], cpus), basis="drop alerts")
        else:
            if pair.get("uncounted") is True:
                result["basis"] = UNCOUNTED
            raise Void(_short(pair.get("reason")) or "nothing was measured")
    except Void as reason:
        result["voided"] = str(reason)
    return cast(Window, result)


def between(older: Any, newer: Any, release: Release | None = None, cpus: int | None = None) -> Window:
    """The window between the snapshots of two audits, hours or days apart; voided unless one run of Falco
    spans both.

    older, newer: window()['snapshot'] of each audit, or None. Before 0.41 Falco doesn't tell that it was
    reloaded, and its counters may have overtaken the older ones since: no window then.
    """
    older, newer = _trusted(older), _trusted(newer)
    pair = {"source": "between audits", "last": newer}
    if not older or not newer:
        pair["reason"] = "there is no snapshot of the %s audit" % ("earlier" if newer else "later")
    elif "falco.reload_ts" not in older and "falco.reload_ts" not in newer:
        pair["reason"] = (
            "this Falco does not report when it was reloaded (falco.reload_ts, since 0.41), so two audits "
            "may have seen different runs"
        )
    else:
        # /metrics has no drops of the enter side; the file has.
        pair["first"] = {
            name: value for name, value in older.items() if name in newer or not _ENTER.fullmatch(name)
        }
    return window(pair, release, cpus)


def remembered(snapshot: dict[str, Any]) -> dict[str, Any]:
    """What between() reads of the older snapshot: no sizes and states, which only the newer one tells, and no
    counters that are 0 where it takes a missing one for 0."""
    return {
        name: value
        for name, value in snapshot.items()
        if not (_STATE.fullmatch(name) or value == 0 and _ZERO_IF_MISSING.fullmatch(name))
    }


def _trusted(snapshot: Any) -> dict[str, Any]:
    """What is a field's name with a finite number or a version; {} of anything else. Hosts may send what they
    like."""
    if not isinstance(snapshot, dict):
        return {}
    return {
        name: value
        for name, value in list(snapshot.items())[:MOST_FIELDS]
        if isinstance(name, str)
        and _NAME.fullmatch(name)
        and (
            isinstance(value, str)
            and _WORD.fullmatch(value)
            or isinstance(value, (int, float))
            and not isinstance(value, bool)
            and abs(value) < LIMIT
        )
    }


def _short(text: Any) -> str | None:
    return text[:MOST_TEXT] if isinstance(text, str) else None


def _since_start(last: dict[str, Any]) -> SinceStart | None:
    started, now = _count(last, "falco.start_ts"), _count(last, "evt.time")
    events, drops = _count(last, "scap.n_evts"), _count(last, "scap.n_drops") or 0
    age = (now or 0) - max(started or 0, _count(last, "falco.reload_ts") or 0)
    if not started or age < SHORTEST or events is None:
        return None
    try:
        _possible(events, drops, age / 1e9, _cpus(last))
    except Void:
        return None
    return {"seconds": round(age / 1e9, 3), "events": events, "drops": drops}


def _count(fields: dict[str, Any], name: str) -> int | None:
    """A counter, or None where it is missing or impossible."""
    value = fields.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LIMIT else None


def _cpus(fields: dict[str, Any]) -> int | None:
    found = _count(fields, "falco.host_num_cpus")
    return found if found and found <= MOST_CPUS else None


def _real(value: Any) -> float | None:
    """A finite number that is not negative, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < LIMIT:
        return None
    return value


def _delta(first: dict[str, Any], last: dict[str, Any], name: str) -> int | None:
    """The increase of a counter; None where it is missing. Raises Void where it went down."""
    was, now = _count(first, name), _count(last, name)
    if was is None or now is None:
        return None
    return _increase(was, now, name)


def _delta_or_zero(first: dict[str, Any], last: dict[str, Any], name: str) -> int:
    """The increase of a counter that Falco leaves out while it is 0. Raises Void where it went down."""
    return _increase(_count(first, name) or 0, _count(last, name) or 0, name)


def _increase(was: int, now: int, name: str) -> int:
    if now < was:
        raise Void(
            "%s went down from %d to %d: Falco was restarted or reloaded between the snapshots"
            % (name, was, now)
        )
    return now - was


def _counted(first: dict[str, Any], last: dict[str, Any], cpus: int | None) -> dict[str, Any]:
    if not first or not last:
        raise Void("the snapshots are not complete")
    for name, event in (
        ("falco.start_ts", "restarted"),
        ("falco.reload_ts", "reloaded"),
        ("falco.version", "replaced"),
    ):
        if first.get(name) != last.get(name):
            raise Void("Falco was %s between the snapshots (%s changed)" % (event, name))
    began, ended = _count(first, "evt.time"), _count(last, "evt.time")
    if began is None or ended is None or ended - began < SHORTEST:
        raise Void("no time passed between the snapshots, or the clock was set back")
    _delta(first, last, "sample")
    seconds = (ended - began) / 1e9
    events = _delta(first, last, "scap.n_evts")
    drops = _delta_or_zero(first, last, "scap.n_drops")
    if events is None:
        raise Void("the snapshots hold no scap.n_evts")
    cpus = _cpus(last) or cpus
    _possible(events, drops, seconds, cpus)
    engine = _delta(first, last, "falco.num_evts")
    cpu, error = _cpu(first, last, seconds, cpus)
    return {
        "seconds": round(seconds, 3),
        "cpus": cpus,
        "events": events,
        "drops": drops,
        "drops_percent": percent(drops, events),
        "rate": round(events / seconds, 1),
        "drop_rate": round(drops / seconds, 1),
        "rate_per_cpu": round(events / seconds / cpus, 1) if cpus else None,
        "engine_rate": None if engine is None else round(engine / seconds, 1),
        "drops_by_category": _categories(first, last, drops),
        "falco_cpu_percent": cpu,
        "falco_cpu_error": error,
        "outputs_queue_drops": _delta(first, last, "falco.outputs_queue_num_drops"),
        "userspace": _userspace(first, last),
        "kernel": _kernel(first, last, seconds, cpus, events),
        "memory": _memory(last),
    }


def _possible(events: int, drops: int, seconds: float, cpus: int | None) -> None:
    if drops > events:
        raise Void(
            "more drops (%d) than events (%d), which include them: impossible counters" % (drops, events)
        )
    if events >= LIMIT >> 1 or events / seconds > MOST_EVENTS_PER_CPU * (cpus or MOST_CPUS):
        raise Void("%d events in %.3f s: impossible counters" % (events, seconds))


def percent(drops: float, events: float) -> float:
    """Falco's n_drops_perc: 0 without events."""
    return 100.0 * drops / events if events else 0.0


def _categories(first: dict[str, Any], last: dict[str, Any], drops: int) -> dict[str, int]:
    """Buffer drops by Falco's classes of syscalls, drops that no buffer cures, and the rest. Sums to drops,
    or less."""
    found: dict[str, int] = {}
    for name in sorted(set(first) | set(last)):
        match = _CATEGORY.fullmatch(name) if isinstance(name, str) else None
        if match:
            found[match.group(1)] = found.get(match.group(1), 0) + _delta_or_zero(first, last, name)
    for name in _BESIDE:
        found[name] = _delta_or_zero(first, last, "scap.n_drops_" + name)
    return _with_rest(found, drops)


def _with_rest(found: dict[str, int], drops: int) -> dict[str, int]:
    rest = drops - sum(found.values())
    if rest < 0:  # read one after the other under load, the parts can be some events ahead of the sum
        scale = drops / sum(found.values())
        found, rest = {name: math.floor(value * scale) for name, value in found.items()}, 0
    found["uncategorised"] = rest
    return {name: value for name, value in sorted(found.items()) if value}


def _cpu(
    first: dict[str, Any], last: dict[str, Any], seconds: float, cpus: int | None
) -> tuple[float | None, float | None]:
    """(percent of one CPU, error in percentage points) over the window; (None, None or the error) where it
    can't be told.

    falco.cpu_usage_perc is CPU time over the process's life, one decimal. Multiplied by the age at each
    snapshot it is CPU time again, and that has a difference. Two errors: the rounding, which grows with the
    age, and the age itself. falco.start_ts is when Falco first looked at its own /proc entry, about 1.5 s
    late; the first falco.reload_ts is earlier than that and nearer to the truth
    (recordings/drops/raw/heavy_*: 13.9 % then, 14 % by schedstat).
    """
    was, now = _real(first.get("falco.cpu_usage_perc")), _real(last.get("falco.cpu_usage_perc"))
    origins = [value for value in (_count(last, "falco.start_ts"), _count(last, "falco.reload_ts")) if value]
    if was is None or now is None or not origins or min(origins) > first["evt.time"]:
        return None, None
    ages = [(fields["evt.time"] - min(origins)) / 1e9 for fields in (first, last)]
    used = (now * ages[1] - was * ages[0]) / seconds
    error = round((0.05 * sum(ages) + 2 * abs(now - was)) / seconds, 1)
    if error > MOST_CPU_ERROR or used < -error or used > 100.0 * (cpus or MOST_CPUS) + error:
        return None, error
    return round(min(max(used, 0.0), 100.0 * (cpus or MOST_CPUS)), 1), error


def _userspace(first: dict[str, Any], last: dict[str, Any]) -> dict[str, int]:
    found = {
        name: _delta_or_zero(first, last, "falco." + name) for name in USERSPACE if "falco." + name in last
    }
    threads = _count(last, "falco.n_threads")
    return found if threads is None else {**found, "n_threads": threads}


def _kernel(
    first: dict[str, Any], last: dict[str, Any], seconds: float, cpus: int | None, events: int
) -> KernelCost | None:
    spent = _delta(first, last, "scap.run_time_ns")
    if spent is None:
        return None
    share = 100.0 * spent / (seconds * 1e9 * cpus) if cpus else None
    if share is not None and share > 100.0:
        return None
    return {
        "run_time_ns": spent,
        "percent": None if share is None else round(share, 2),
        "ns_per_event": round(spent / events, 1) if events else None,
        "syscalls": _delta(first, last, "scap.sys_exit.run_cnt"),
    }


def _memory(fields: dict[str, Any]) -> dict[str, int]:
    """Bytes. Before 0.38 the fields have no unit: MB with convert_memory_to_mb, else kB; no Falco has 10 GB
    or fits in 10 MB."""
    found: dict[str, int] = {}
    for name, field in (
        ("rss", "memory_rss"),
        ("pss", "memory_pss"),
        ("vsz", "memory_vsz"),
        ("container", "container_memory_used"),
    ):
        for ending, unit in (("_mb", 1 << 20), ("_kb", 1 << 10), ("_bytes", 1), ("", None)):
            value = _real(fields.get("falco." + field + ending))
            if value is None:
                continue
            if unit is None:
                unit = 1 << 20 if value < 10000 else 1 if name == "container" else 1 << 10
            if value * unit < LIMIT >> 1:
                found[name] = int(value * unit)
            break
    return found


def _losing(intervals: Any, counted: dict[str, Any]) -> Losing | None:
    """The intervals that lost most, added up. None where they are not told, or do not fit the window."""
    if not isinstance(intervals, dict) or not isinstance(intervals.get("worst"), list):
        return None
    count, losing = _count(intervals, "count"), _count(intervals, "losing")
    if not count or not losing or losing > count:
        return None
    found: Losing = {
        "seconds": 0.0,
        "events": 0,
        "drops": 0,
        "longest": 0.0,
        "most": 0,
        "intervals": [losing, count],
    }
    for item in intervals["worst"][:MOST_INTERVALS]:
        fields = item if isinstance(item, dict) else {}
        time, events, drops = (_count(fields, name) for name in ("ns", "events", "drops"))
        if not time or time < SHORTEST or events is None or drops is None or drops > events:
            return None
        if found["drops"] and (drops < LEAST_OF_WORST * found["most"]):
            break
        found["seconds"] += time / 1e9
        found["events"] += events
        found["drops"] += drops
        found["longest"] = max(found["longest"], time / 1e9)
        found["most"] = max(found["most"], drops)
    fits = (
        0 < found["drops"] <= counted["drops"]
        and found["events"] <= counted["events"]
        and found["seconds"] <= counted["seconds"] + 0.001
    )
    return found if fits else None


def _losing_cpus(cpus: Any, drops: int) -> LosingCpus | None:
    """The CPUs that lost most; None where they are not told, or do not fit the window."""
    if not isinstance(cpus, dict) or not isinstance(cpus.get("worst"), list):
        return None
    count = _count(cpus, "count")
    worst: list[list[int]] = []
    for item in cpus["worst"][:MOST_INTERVALS]:
        fields = dict(zip(("cpu", "drops"), item)) if isinstance(item, list) else {}
        cpu, lost = _count(fields, "cpu"), _count(fields, "drops")
        if cpu is None or cpu >= MOST_CPUS or not lost:
            return None
        worst.append([cpu, lost])
    # Read one after the other under load, they can be some events ahead of the sum.
    if not count or len(worst) > count or sum(lost for _cpu, lost in worst) > 1.1 * drops:
        return None
    return {"count": count, "worst": worst}


def _alerted(alerts: Any, cpus: int | None) -> dict[str, Any]:
    """Sums of drop alerts, each of about one second with drops."""
    fields = alerts.get("fields") if isinstance(alerts, dict) else None
    if not isinstance(fields, dict):
        raise Void("the drop alerts are not complete")
    count, events, drops = _count(alerts, "count"), _count(fields, "n_evts"), _count(fields, "n_drops")
    if not count or not events or drops is None:
        raise Void("the drop alerts are not complete")
    _possible(events, drops, float(count), cpus)
    found: dict[str, int] = {}
    for name in fields:
        match = _CATEGORY.fullmatch(name) if isinstance(name, str) else None
        if match:
            found[match.group(1)] = found.get(match.group(1), 0) + (_count(fields, name) or 0)
    for name in _BESIDE:
        found[name] = _count(fields, "n_drops_" + name) or 0
    return {
        "seconds": float(count),
        "cpus": cpus,
        "events": events,
        "drops": drops,
        "drops_percent": percent(drops, events),
        "drops_by_category": _with_rest(found, drops),
    }
