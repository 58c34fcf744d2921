# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""facts + policy → verdict: does this host lose events, why, and what would help. Pure.

What a bottleneck looks like was measured on a real Falco (0.44.1, two CPUs):

    starved     14 % of a CPU used, 87 % of the time spent waiting for one, 84 % of events lost; the same
                Falco at nice -10 used 60 %, waited 20 % and lost nothing. So it is the share of waiting that
                tells, not the use of CPU.
    consumer    one thread reads all rings: near 100 % of a core nothing but fewer events or fewer rules
                helps.
    buffer      a cool CPU and drops: they come in bursts, which a larger ring bridges.
"""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, TypedDict, cast

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import Facts, State, Verdict, Window
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import drivers, releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.configuration import Settings
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import windows

# Kernel events a second and CPU at which Falco's guide expects no trouble, little, and much. It was written
# when enter events were counted.
LINES = (1000, 1500, 3000)
TIERS = ("low", "moderate", "high", "extreme")
# The same load made 3.4 events an open on 0.38.2 and 1.8 on 0.44.1: what 0.42 and newer count is multiplied
# by this before it is held against the guide's lines.
ENTER_EVENTS = 1.9

# Percent of the time. A Falco that keeps up waited for a quarter of the time it wanted a CPU, a starved one
# 86 %.
STARVED_WAITING = 10.0
STARVED_SHARE = 40.0
# Percent of one CPU from which the one thread that reads events counts as busy.
SATURATED = 85.0
# Percent of the time for which a quota kept Falco off the CPU.
THROTTLED = 5.0
# Percent of the drops that must be of one kind to be called the reason.
MOST = 50.0
# Kinds of drops that a sentence names.
MOST_KINDS = 4
# A look at the whole life of a process says little about now when that life is long, seconds.
LONG_LIFE = 86400.0
# Drops that are measured and yet nothing, percent: a burst at start, a handful of events in a million.
NEGLIGIBLE = 0.01

STEPS = {
    "none": "nothing to do",
    "measure": "switch on Falco's metrics: run tune_falco.yml, or {switch_on}",
    "observe": "wait: run the audit again when Falco has run and written metrics for {seconds:g} s",
    "priority": "give Falco's unit a higher CPU priority (Nice=, CPUWeight=)",
    "quota": "raise or remove CPUQuota= of {unit}",
    "buffers": "larger ring buffers: the CPU is cool, so the drops come in bursts",
    "syscalls": "watch fewer system calls: base_syscalls.repair: true first, then exclusions by measured "
    "volume",
    "outputs": "make the outputs faster or the rules quieter: alerts are lost in a full outputs_queue, not "
    "events in the kernel",
    "thread_table": "raise falco_libs.thread_table_size: threads are dropped, so events lack their process",
    "kernel": "nothing in Falco's settings helps against {what}: {cure}",
    "upgrade": "upgrade Falco to 0.42 or newer, which makes about half the events of the same load",
    "accept": "accept it: a little loss on a few busy hosts is within policy",
    "overloaded": "this host is too busy for Falco as it is: fewer rules, fewer plugins, or a smaller load",
    "start": "start Falco: it watches nothing",
    "look": "see which part of Falco is the bottleneck: its CPU time could not be read (run with become)",
}
# Categories of drops that are lost before they reach a ring: (category, what they are, what helps).
BESIDE_BUFFERS = (
    (
        "page_faults",
        "events lost to page faults",
        "the programs' arguments are not in memory: look for memory pressure or swapping, or use modern_ebpf",
    ),
    (
        "scratch_map",
        "events larger than 64 KiB",
        "lower falco_libs.snaplen if it was raised, or leave out the calls that carry them",
    ),
)
NO_METRICS = "Falco %s has no metrics: they came with 0.35"
GET_METRICS = "upgrade Falco: releases before 0.35 have no metrics, so what they lose can't be measured"
SWITCH_ON = "set metrics.enabled: true, an interval and metrics.output_file"


class Finding(NamedTuple):
    """What limits Falco, the step that would help, and how both are worded. words: what the step's advice is
    filled with."""

    bottleneck: str
    step: str
    reasons: tuple[str, ...]
    words: dict[str, Any] = {}
    advice: str | None = None  # in place of the step's own


def judge(facts: Facts, policy: Mapping[str, Any]) -> Verdict:
    """The verdict of one host. policy: its min_observation and accepted_drops_percent are read."""
    window = facts["metrics"]
    release = releases.known(facts["falco"]["version"])
    settings = None if release is None else Settings(facts["config"]["effective"], release)
    cpu = schedule(facts)
    early = _blind(facts, window, policy) or _unmeasured(facts, policy, settings, cpu)
    if early:
        return _verdict(facts, cpu, *early)
    lost = window["drops_percent"] or 0.0
    if lost <= NEGLIGIBLE:
        state, finding = _beside(window)
    else:
        accepted = lost <= policy["accepted_drops_percent"]
        finding = _bottleneck(facts, window, settings, cpu)
        # What fewer system calls and an upgrade can't cure is another state than drops that something may
        # cure.
        state = "acceptable" if accepted else "overloaded" if finding.step == "overloaded" else "dropping"
        finding = finding._replace(reasons=(*_kinds(window), *finding.reasons))
    found = _verdict(facts, cpu, state, finding)
    tier, load = _tier(window)
    found.update(cast(Any, tier))
    found["drops_percent"] = window["drops_percent"]
    found["reasons"] = [load, _loss(window), *finding.reasons]
    if state == "acceptable":
        found["next_step"], found["advice"] = "accept", STEPS["accept"]
    return found


def _verdict(facts: Facts, cpu: Schedule, state: State, finding: Finding) -> Verdict:
    window = facts["metrics"]
    on_cpu = window["falco_cpu_percent"]
    return {
        "state": state,
        "tier": None,
        "rate_per_cpu": None,
        "rate_per_cpu_guide": None,
        "drops_percent": None,
        "bottleneck": finding.bottleneck,
        "next_step": finding.step,
        "advice": finding.advice or STEPS[finding.step].format(**finding.words),
        "reasons": list(finding.reasons),
        "cost": {
            "falco_cpu_percent": cpu["on"] if on_cpu is None else on_cpu,
            "falco_wait_percent": cpu["waiting"],
            "kernel_percent": window["kernel"]["percent"] if window["kernel"] else None,
            "memory_bytes": window["memory"].get("pss") or window["memory"].get("rss"),
        },
    }


def _loss(window: Window) -> str:
    return "%s of %s events lost in %s s (%s %%, %s)" % (
        window["drops"],
        window["events"],
        _short(window["seconds"] or 0),
        _short(window["drops_percent"] or 0),
        window["source"],
    )


def _short(number: float) -> str:
    return "%.3g" % number if abs(number) < 100 else "%.0f" % number


class Schedule(TypedDict):
    """Falco's use of CPUs and its waiting for them, in percent of one CPU; None where it is unknown.

    look: what it was observed over, or why it is unknown.
    """

    on: float | None
    waiting: float | None
    throttled: float | None
    seconds: float | None
    look: str


def schedule(facts: Facts) -> Schedule:
    """Between two audits where there were two; since its start where that was within a day; else as two looks
    saw it."""
    seen, age = facts["falco"]["cpu"], facts["falco"]["age"]
    total = seen["total"]
    found: Schedule = {
        "on": seen["on"],
        "waiting": seen["waiting"],
        "throttled": seen["throttled"],
        "seconds": seen["seconds"],
        "look": seen["look"] or "in a look of %s s" % _short(seen["seconds"] or 0),
    }
    if seen["look"] and seen["on"] is not None:
        return found
    if total and total["on"] is not None and age and age <= LONG_LIFE:
        return {
            "on": _share(total["on"], age),
            "waiting": _share(total["waiting"], age),
            "throttled": _share(total["throttled"], age),
            "seconds": round(age, 1),
            "look": "since its start",
        }
    if seen["on"] is not None:
        return found
    return {
        "on": None,
        "waiting": None,
        "throttled": None,
        "seconds": None,
        "look": seen["reason"] or "not observed",
    }


def _share(seconds: float | None, age: float) -> float | None:
    return None if seconds is None else round(100.0 * seconds / age, 2)


# --- Hosts that are not measured


def _blind(facts: Facts, window: Window, policy: Mapping[str, Any]) -> tuple[State, Finding] | None:
    if not facts["falco"]["running"]:
        unit = facts["service"]["unit"]
        reason = "Falco is not running%s" % (" (unit %s)" % unit if unit else "")
        return "blind", Finding("none", "start", (reason,))
    kind = facts["driver"]["kind"]
    if kind in drivers.WITHOUT_SYSCALLS:
        reason = "Falco watches no system calls here: %s (%s)" % (
            drivers.WITHOUT_SYSCALLS[kind],
            facts["driver"]["decided_by"],
        )
        return "no_syscalls", Finding("none", "none", (reason,))
    seconds = window["seconds"] or 0
    if window["basis"] == "counters" and window["events"] == 0 and seconds >= policy["min_observation"]:
        reason = "Falco runs, but counted no event in %s s" % _short(seconds)
        advice = "restart Falco and look at its log: its counters stand still"
        return "blind", Finding("none", "start", (reason,), advice=advice)
    return None


def _unmeasured(
    facts: Facts, policy: Mapping[str, Any], settings: Settings | None, cpu: Schedule
) -> tuple[State, Finding] | None:
    window = facts["metrics"]
    if window["voided"]:
        if window["basis"] == windows.UNCOUNTED and settings:
            return "unmeasured", _no_counters(window["voided"], policy, settings)
        return "unmeasured", _no_window(window["voided"], policy, settings)
    seconds, least = window["seconds"] or 0, policy["min_observation"]
    if window["basis"] != "counters":
        # Alerts come only in bad seconds: they prove drops, and say nothing of the rest.
        reason = "%s drop alerts report %s lost events; how many there were in all is unknown" % (
            _short(seconds),
            window["drops"],
        )
        # How long a quota kept Falco off the CPU is known without metrics.
        found = _throttled(facts, window, cpu) or _unknown(settings)
        return "dropping", found._replace(reasons=(reason, *found.reasons))
    if seconds < least:
        reason = "observed for %s s only, policy requires %s s before a host is judged" % (
            _short(seconds),
            _short(least),
        )
        return "unmeasured", Finding("unknown", "observe", (reason,), {"seconds": least})
    return None


def _no_window(reason: str, policy: Mapping[str, Any], settings: Settings | None) -> Finding:
    if settings and not settings.release.metrics:
        return _unknown(settings)
    if settings and settings.value("metrics.enabled"):
        return Finding("unknown", "observe", (reason,), {"seconds": policy["min_observation"]})
    return Finding("unknown", "measure", (reason,), {"switch_on": SWITCH_ON})


def _no_counters(reason: str, policy: Mapping[str, Any], settings: Settings) -> Finding:
    """There are snapshots of the syscall source, and the kernel's counters are not in them."""
    if not settings.value("metrics.kernel_event_counters_enabled"):
        words = {"switch_on": "set metrics.kernel_event_counters_enabled: true"}
        return Finding("unknown", "measure", (reason,), words)
    if settings.release.counts_beside_plugins:
        return _no_window(reason, policy, settings)
    why = "Falco before 0.41.1 leaves them out where it has more than one event source"
    other = "or switch on drop alerts (syscall_event_drops)"
    if settings.release.prometheus:
        other = "or webserver.prometheus_metrics_enabled: true, whose counters are complete"
    advice = "upgrade Falco to 0.41.1 or newer, %s; waiting does not help" % other
    return Finding("unknown", "upgrade", (reason, why), advice=advice)


def _unknown(settings: Settings | None) -> Finding:
    """The bottleneck can't be told without metrics: what brings them."""
    if settings and not settings.release.metrics:
        return Finding("unknown", "upgrade", (NO_METRICS % settings.release,), advice=GET_METRICS)
    return Finding("unknown", "measure", (), {"switch_on": SWITCH_ON})


# --- Measured hosts


def _tier(window: Window) -> tuple[dict[str, Any], str]:
    """The load in the guide's terms, and how it is said."""
    rate = window["rate_per_cpu"]
    if rate is None:
        return {}, "the number of CPUs is unknown, so events/s per CPU are too"
    counts_enter = window["enter_events"]
    guide = rate if counts_enter or counts_enter is None else round(rate * ENTER_EVENTS, 1)
    number = sum(guide >= line for line in LINES)
    said = "%s events/s per CPU" % _short(rate)
    if guide != rate:
        said += ", %s in the guide's terms (since 0.42 enter events are not counted: x %s)" % (
            _short(guide),
            ENTER_EVENTS,
        )
    where = (
        "below the guide's line of 1000",
        "between the guide's lines of 1000 and 1500",
        "between the guide's lines of 1500 and 3000",
        "above the guide's line of 3000, where Falco has a hard time",
    )[number]
    found = {"rate_per_cpu": rate, "rate_per_cpu_guide": guide, "tier": TIERS[number]}
    return found, "%s: %s" % (said, where)


def _beside(window: Window) -> tuple[State, Finding]:
    """Nothing is lost in the kernel; is anything lost elsewhere?"""
    alerts, full = window["outputs_queue_drops"], window["userspace"].get("n_drops_full_threadtable")
    if alerts:
        reason = "%d alerts were lost in the outputs queue" % alerts
        return "dropping", Finding("outputs", "outputs", (reason,))
    if full:
        reason = "the thread table was full %d times" % full
        return "dropping", Finding("thread_table", "thread_table", (reason,))
    return "healthy", Finding("none", "none", ())


def _kinds(window: Window) -> tuple[str, ...]:
    """The largest categories of drops, in one sentence."""
    largest = sorted(window["drops_by_category"].items(), key=lambda pair: (-pair[1], pair[0]))
    rest = sum(number for dummy, number in largest[MOST_KINDS:])
    shown = largest[:MOST_KINDS] + ([("others", rest)] if rest else [])
    return ("lost by kind: " + ", ".join("%s %d" % item for item in shown),) if shown else ()


def _bottleneck(facts: Facts, window: Window, settings: Settings | None, cpu: Schedule) -> Finding:
    return (
        _in_the_kernel(window)
        or _throttled(facts, window, cpu)
        or _by_cpu_time(window, settings, cpu)
        or Finding("unknown", "look", ("Falco's CPU time is unknown: %s" % cpu["look"],))
    )


def _in_the_kernel(window: Window) -> Finding | None:
    """Drops that no buffer can hold."""
    drops, kinds = window["drops"] or 0, window["drops_by_category"]
    for name, what, cure in BESIDE_BUFFERS:
        if name in kinds and 100.0 * kinds[name] >= MOST * drops:
            reason = "%d of %d lost events are %s; no buffer holds those" % (kinds[name], drops, what)
            return Finding("kernel", "kernel", (reason,), {"what": what, "cure": cure})
    return None


def _on_cpu(window: Window, cpu: Schedule) -> float | None:
    """Percent of one CPU that Falco uses, as the kernel counts it, else as Falco does."""
    return window["falco_cpu_percent"] if cpu["on"] is None else cpu["on"]


def _throttled(facts: Facts, window: Window, cpu: Schedule) -> Finding | None:
    quota, unit = facts["service"]["limits"]["cpu_quota"], facts["service"]["unit"]
    if not quota:
        return None
    if cpu["throttled"] is None:
        if (_on_cpu(window, cpu) or 0) < SATURATED * min(quota, 100) / 100:
            return None
    elif cpu["throttled"] < THROTTLED:
        return None
    share = "an unknown share" if cpu["throttled"] is None else "%s %%" % _short(cpu["throttled"])
    reason = "CPUQuota of %s is %.10g %%, and Falco was kept off the CPU for %s of the time %s" % (
        unit,
        quota,
        share,
        cpu["look"],
    )
    return Finding("cpu_quota", "quota", (reason,), {"unit": unit})


def _by_cpu_time(window: Window, settings: Settings | None, cpu: Schedule) -> Finding | None:
    """Starved, saturated or bursty: told by the CPU time that Falco used and waited for."""
    on, waiting = _on_cpu(window, cpu), cpu["waiting"] or 0.0
    if on is None:
        return None
    if waiting >= STARVED_WAITING and 100.0 * waiting >= STARVED_SHARE * (on + waiting):
        reason = (
            "Falco used %s %% of a CPU and waited for one for %s %% of the time %s: its "
            "neighbours have the CPU, buffers would not help" % (_short(on), _short(waiting), cpu["look"])
        )
        return Finding("starved", "priority", (reason,))
    busiest = max(on, window["falco_cpu_percent"] or 0)
    if busiest >= SATURATED:
        return _consumer(settings, busiest)
    reason = (
        "Falco used %s %% of a CPU and waited %s %% of the time %s: it keeps up on average, so "
        "the losses come in bursts that the rings can't hold" % (_short(on), _short(waiting), cpu["look"])
    )
    return Finding("buffer", "buffers", (reason,))


def _consumer(settings: Settings | None, on: float) -> Finding:
    """One thread reads all events and has no CPU time left: only fewer events help."""
    why = (
        "Falco used %s %% of a CPU, and one thread reads all events: larger buffers would only be full a "
        "little later" % _short(on)
    )
    if settings:
        lean = settings.value("base_syscalls.repair") or settings.value("base_syscalls.custom_set")
        if settings.has("base_syscalls.repair") and not lean:
            return Finding("consumer", "syscalls", (why,))
        if settings.release.enter_events:
            return Finding("consumer", "upgrade", (why,))
    return Finding("consumer", "overloaded", (why, "the system calls were narrowed already"))
