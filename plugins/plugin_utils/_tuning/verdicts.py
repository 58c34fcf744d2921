# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""facts + policy → verdict: does this host lose events, why, and what would help. Pure.

Which bottleneck it is follows from the capacity model (_tuning/capacity.py), not from thresholds: each lost
event is put down to what would have saved it, and the largest part names the bottleneck. The others with a
share in the loss are named beside it.

    starved     its neighbours have the CPU time that Falco's thread waits for: priority is worth exactly that
    cpu_quota   the same of a quota
    consumer    the thread is busy, on a whole CPU too: only fewer or cheaper events help, by the factor
    buffer      the thread has idle time: events come in bursts, which a larger ring bridges
"""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, cast

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import (
    Buffers,
    Capacity,
    Facts,
    State,
    Verdict,
    Window,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import drivers, releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.configuration import Settings
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import buffers, capacity, windows

# Kernel events a second and CPU at which Falco's guide expects no trouble, little, and much. It was written
# when enter events were counted.
LINES = (1000, 1500, 3000)
TIERS = ("low", "moderate", "high", "extreme")
# The same load made 3.4 events an open on 0.38.2 and 1.8 on 0.44.1: what 0.42 and newer count is multiplied
# by this before it is held against the guide's lines.
ENTER_EVENTS = 1.9

# Percent of the time, and of the time that it wants a CPU. A Falco that keeps up waited for a quarter of
# that, a starved one for 86 %. A thread that waits so long makes bursts of its own.
STARVED_WAITING = 10.0
STARVED_SHARE = 40.0
# Falco's thread is starved, whether or not anything counts events, once it waits for this share of the time.
CERTAINLY_STARVED = 40.0
# Percent of the time. With less idle time, larger rings are only full a little later.
NO_IDLE = 5.0
# Percent of the time for which a quota kept Falco off the CPU.
THROTTLED = 5.0
# A part of the loss is a bottleneck of its own from this share of it, and from so many percent of all events.
SHARE_OF_LOSS = 0.1
LEAST_PART = 0.5
# Percent of the drops that must be of one kind to be called the reason.
MOST = 50.0
# Kinds of drops that a sentence names.
MOST_KINDS = 4
# Drops that are measured and yet nothing, percent: a burst at start, a handful of events in a million.
NEGLIGIBLE = 0.01

# A Falco that systemd restarted so often, and last so many seconds ago, lives only between two failures.
# One restart may be the cure of one failure.
LOOP_RESTARTS = 2
YOUNG_SECONDS = 20

STEPS = {
    "none": "nothing to do",
    "measure": "switch on Falco's metrics: run tune_falco.yml, or {switch_on}",
    "observe": "wait: run the audit again when Falco has run and written metrics for {seconds:g} s",
    "priority": "give Falco's unit a higher CPU priority (Nice=, CPUWeight=)",
    "quota": "raise or remove CPUQuota= of {unit}",
    "buffers": "larger ring buffers: Falco has idle time, so the drops come in bursts",
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
    also: tuple[str, ...] = ()
    capacity: Capacity | None = None


def judge(facts: Facts, policy: Mapping[str, Any]) -> Verdict:
    """The verdict of one host. policy: min_observation and accepted_drops_percent are read, and
    buffer_classes, where it is there."""
    window = facts["metrics"]
    release = releases.known(facts["falco"]["version"])
    settings = None if release is None else Settings(facts["config"]["effective"], release)
    cpu = capacity.use(facts)
    early = _blind(facts, window, policy) or _unmeasured(facts, policy, settings, cpu)
    if early:
        return _verdict(facts, cpu, *early)
    lost = window["drops_percent"] or 0.0
    if lost <= NEGLIGIBLE:
        state, finding = _beside(window)
    else:
        accepted = lost <= policy["accepted_drops_percent"]
        finding = _bottleneck(facts, policy, settings, cpu)
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


def _verdict(facts: Facts, cpu: capacity.Use, state: State, finding: Finding) -> Verdict:
    window = facts["metrics"]
    on_cpu = window["falco_cpu_percent"]
    return {
        "state": state,
        "tier": None,
        "rate_per_cpu": None,
        "rate_per_cpu_guide": None,
        "drops_percent": None,
        "bottleneck": finding.bottleneck,
        "also": list(finding.also),
        "capacity": finding.capacity,
        "answer": None,
        "next_step": finding.step,
        "advice": finding.advice or STEPS[finding.step].format(**finding.words),
        "reasons": list(finding.reasons),
        "cost": {
            "falco_cpu_percent": cpu.process if on_cpu is None else on_cpu,
            "falco_wait_percent": cpu.waiting,
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
    loop = exiting(facts, LOOP_RESTARTS)
    if loop and not window["events"]:
        advice = "look at Falco's log (journalctl -u %s) and at a dry run" % facts["service"]["unit"]
        return "blind", Finding("none", "start", (loop,), advice=advice)
    seconds = window["seconds"] or 0
    if window["basis"] == "counters" and window["events"] == 0 and seconds >= policy["min_observation"]:
        reason = "Falco runs, but counted no event in %s s" % _short(seconds)
        advice = "restart Falco and look at its log: its counters stand still"
        return "blind", Finding("none", "start", (reason,), advice=advice)
    return None


def exiting(facts: Facts, least: int) -> str | None:
    """That Falco keeps exiting, or None. least: restarts that make it so.

    systemd counts restarts of its own (Restart=) alone. Whoever starts or restarts the unit, as a change, a
    package or a person does, sets them to 0.
    """
    falco = facts["falco"]
    if not falco["restarts"] or falco["restarts"] < least or falco["age"] is None:
        return None
    if falco["age"] >= YOUNG_SECONDS:
        return None
    return "Falco keeps exiting: systemd restarted %s %d times, the last time %d s ago" % (
        facts["service"]["unit"],
        falco["restarts"],
        falco["age"],
    )


def _unmeasured(
    facts: Facts, policy: Mapping[str, Any], settings: Settings | None, cpu: capacity.Use
) -> tuple[State, Finding] | None:
    window = facts["metrics"]
    if window["voided"]:
        if window["basis"] == windows.UNCOUNTED and settings:
            return "unmeasured", _no_counters(window["voided"], policy, settings)
        found = _no_window(window["voided"], policy, settings)
        if found.step != "measure":
            return "unmeasured", found
        # Who has the CPU is visible without metrics: the restart that switches them on can cure that, too.
        known = _throttled(facts, window, cpu) or _starved(cpu) or _saturated(facts, policy, cpu)
        if known:
            found = found._replace(bottleneck=known.bottleneck, reasons=(*found.reasons, *known.reasons))
        return "unmeasured", found
    seconds, least = window["seconds"] or 0, policy["min_observation"]
    if window["basis"] != "counters":
        # Alerts come only in bad seconds: they prove drops, and say nothing of the rest.
        reason = "%s drop alerts report %s lost events; how many there were in all is unknown" % (
            _short(seconds),
            window["drops"],
        )
        # How long a quota kept Falco off the CPU is known without metrics.
        known = _throttled(facts, window, cpu) or _starved(cpu)
        busy = None if known else _saturated(facts, policy, cpu)
        found = known or _unknown(settings)
        if busy:
            found = found._replace(bottleneck=busy.bottleneck, reasons=(*found.reasons, *busy.reasons))
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


def _bottleneck(
    facts: Facts, policy: Mapping[str, Any], settings: Settings | None, cpu: capacity.Use
) -> Finding:
    window = facts["metrics"]
    return (
        _in_the_kernel(window)
        or _by_capacity(facts, policy, settings, cpu)
        or _throttled(facts, window, cpu)
        or _starved(cpu)
        or Finding("unknown", "look", ("Falco's CPU time is unknown: %s" % cpu.look,))
    )


def _in_the_kernel(window: Window) -> Finding | None:
    """Drops that no buffer can hold."""
    drops, kinds = window["drops"] or 0, window["drops_by_category"]
    for name, what, cure in BESIDE_BUFFERS:
        if name in kinds and 100.0 * kinds[name] >= MOST * drops:
            reason = "%d of %d lost events are %s; no buffer holds those" % (kinds[name], drops, what)
            return Finding("kernel", "kernel", (reason,), {"what": what, "cure": cure})
    return None


def _throttled(facts: Facts, window: Window, cpu: capacity.Use) -> Finding | None:
    """Falco is kept off the CPU by a quota, which is known without metrics."""
    quota, unit = facts["service"]["limits"]["cpu_quota"], facts["service"]["unit"]
    if not quota:
        return None
    if cpu.throttled is None:
        on = window["falco_cpu_percent"] if cpu.on is None else cpu.on
        if (on or 0) < 0.85 * min(quota, 100):
            return None
    elif cpu.throttled < THROTTLED:
        return None
    share = "an unknown share" if cpu.throttled is None else "%s %%" % _short(cpu.throttled)
    reason = "CPUQuota of %s is %.10g %%, and Falco was kept off the CPU for %s of the time %s" % (
        unit,
        quota,
        share,
        cpu.look,
    )
    return Finding("cpu_quota", "quota", (reason,), {"unit": unit})


def waits(cpu: capacity.Use, least: float = STARVED_WAITING) -> bool:
    """Whether Falco's thread waits for much of the time that it wants a CPU."""
    waiting = max(0.0, (cpu.waiting or 0.0) - (cpu.throttled or 0.0))
    return waiting >= least and 100.0 * waiting >= STARVED_SHARE * ((cpu.on or 0.0) + waiting)


def _starved(cpu: capacity.Use) -> Finding | None:
    """Falco waits for a CPU for so long that no counter is needed to know it."""
    if cpu.on is None or not waits(cpu, CERTAINLY_STARVED):
        return None
    return Finding("starved", "priority", (_waited(cpu.on, cpu.waiting or 0.0, cpu.look),))


def saturated(facts: Facts, policy: Mapping[str, Any]) -> bool:
    """Whether the thread that reads events has no idle time, and no neighbours that it waits for.

    It is known without metrics. policy: min_observation is read. A shorter look may fall into a burst, so
    there the whole life must say the same.
    """
    cpu = capacity.use(facts)
    seen = [cpu]
    if (cpu.seconds or 0.0) < policy["min_observation"]:
        whole = capacity.life(facts)
        if whole is None or (whole.seconds or 0.0) < policy["min_observation"]:
            return False
        seen.append(whole)
    return all(
        item.on is not None and 100.0 - item.on - (item.waiting or 0.0) < NO_IDLE and not waits(item)
        for item in seen
    )


def _saturated(facts: Facts, policy: Mapping[str, Any], cpu: capacity.Use) -> Finding | None:
    if not saturated(facts, policy):
        return None
    reason = (
        "Falco used %s %% of a CPU and waited for one for %s %% of the time %s: the thread that reads events "
        "has no idle time" % (_short(cpu.on or 0.0), _short(cpu.waiting or 0.0), cpu.look)
    )
    return Finding("consumer", "syscalls", (reason,))


def _waited(on: float, waiting: float, look: str) -> str:
    return (
        "Falco used %s %% of a CPU and waited for one for %s %% of the time %s: its neighbours have the CPU, "
        "buffers would not help" % (_short(on), _short(waiting), look)
    )


# --- The capacity model


BOTTLENECK_OF = {"bursts": "buffer", "quota": "cpu_quota", "waiting": "starved", "overload": "consumer"}


def _room(facts: Facts, policy: Mapping[str, Any], settings: Settings | None) -> float | None:
    """Events that rings at the upper end of the guide's range hold beyond the present ones, at most: a burst
    is called too long for them only where that is certain."""
    driver, online = facts["driver"]["kind"], facts["cpus"]["online"]
    if settings is None or driver not in settings.release.drivers or not online:
        return None
    now = buffers.in_force(settings, driver)
    classes = policy.get("buffer_classes", buffers.DEFAULT_CLASSES)
    group, top = now["cpus_for_each_buffer"], max(item[driver] for item in classes)
    there, most = (
        buffers.layout(driver, online, preset, group)["bytes_total"]
        for preset in (now["buf_size_preset"], max(top, now["buf_size_preset"]))
    )
    rings = buffers.count(driver, online, group) if hot_cpus(facts, now, driver) else 1
    return (most - there) / rings / float(buffers.LEAST_BYTES_PER_EVENT)


def _held(facts: Facts, settings: Settings | None) -> float:
    """Events that the present rings may hold, at most; 0 where they are not known."""
    driver, online = facts["driver"]["kind"], facts["cpus"]["online"]
    if settings is None or driver not in settings.release.drivers or not online:
        return 0.0
    now = buffers.in_force(settings, driver)
    rings = buffers.layout(driver, online, now["buf_size_preset"], now["cpus_for_each_buffer"])
    return rings["bytes_total"] / float(buffers.LEAST_BYTES_PER_EVENT)


def hot_cpus(facts: Facts, now: Buffers, driver: str) -> set[int]:
    """The CPUs of the one ring that lost most of the events, where per-CPU counters tell. now: buffers in
    force."""
    window, online = facts["metrics"], facts["cpus"]["online"]
    if not window["losing_cpus"] or not online:
        return set()
    group = now["cpus_for_each_buffer"]
    return buffers.hot_ring(driver, online, group, window["drops"] or 0, window["losing_cpus"]["worst"])


def _by_capacity(
    facts: Facts, policy: Mapping[str, Any], settings: Settings | None, cpu: capacity.Use
) -> Finding | None:
    """The bottleneck is what most lost events are put down to."""
    found = capacity.of(facts, cpu, _room(facts, policy, settings), _held(facts, settings))
    if found is None:
        return None
    order = _ordered(facts, found, cpu)
    first, also = order[0], tuple(order[1:])
    why = (_arithmetic(found), *_parts(found, first, also), *_hot(facts, settings))
    on, waiting = (
        (found["on"], found["waiting"]) if cpu.on is None else (cpu.on, min(100.0, cpu.waiting or 0.0))
    )
    quota, unit = facts["service"]["limits"]["cpu_quota"], facts["service"]["unit"]
    if first == "cpu_quota":
        last = "CPUQuota of %s is %.10g %%, and Falco was kept off the CPU for %s %% of the time %s" % (
            unit,
            quota or 0,
            _short(found["throttled"]),
            cpu.look,
        )
        finding = Finding(first, "quota", (last,), {"unit": unit})
    elif first == "starved":
        finding = Finding(first, "priority", (_waited(on, waiting, cpu.look),))
    elif first == "consumer":
        finding = _consumer(settings, found)
    else:
        last = (
            "Falco used %s %% of a CPU and waited %s %% of the time %s: it keeps up on average, so "
            "the losses come in bursts that the rings can't hold" % (_short(on), _short(waiting), cpu.look)
        )
        finding = Finding(first, "buffers", (last,))
    return finding._replace(reasons=(*why, *finding.reasons), also=also, capacity=found)


def _ordered(facts: Facts, found: Capacity, cpu: capacity.Use) -> list[str]:
    """Bottlenecks with a share in the loss, the largest first."""
    lost: dict[str, float] = dict(found["lost"])  # type: ignore[arg-type]
    least = max(LEAST_PART, SHARE_OF_LOSS * sum(lost.values()))
    largest = max(lost, key=lambda name: (lost[name], name))
    order = sorted(
        (name for name in lost if lost[name] >= least or name == largest), key=lambda name: -lost[name]
    )
    bottlenecks = [BOTTLENECK_OF[name] for name in order]
    throttled = bool(facts["service"]["limits"]["cpu_quota"]) and found["throttled"] >= THROTTLED
    if bottlenecks[0] != "buffer":
        # Larger rings do not bridge a quota, which throttles again in the next tenth of a second.
        quota = throttled and bottlenecks[0] == "cpu_quota"
        return [name for name in bottlenecks if not quota or name != "buffer"]
    # On average the thread has the time; what makes the bursts may still be that it has to wait.
    if throttled:
        first = "cpu_quota"
    elif waits(cpu):
        first = "starved"
    elif found["idle"] < NO_IDLE:
        first = "consumer"
    else:
        return bottlenecks
    # Larger rings bridge some of what waiting makes; a quota throttles again in the next tenth of a second.
    rest = [name for name in bottlenecks if name != first]
    return [first, *(rest if first == "starved" else rest[1:])]


def _hot(facts: Facts, settings: Settings | None) -> tuple[str, ...]:
    """One ring that loses, in one sentence."""
    driver = facts["driver"]["kind"]
    if settings is None or driver not in settings.release.drivers:
        return ()
    cpus = hot_cpus(facts, buffers.in_force(settings, driver), driver)
    if not cpus:
        return ()
    names = "CPU %d" % min(cpus) if len(cpus) == 1 else "CPUs %d to %d" % (min(cpus), max(cpus))
    return ("%s lost most of the events: their ring buffer is full while the others have room" % names,)


def _arithmetic(found: Capacity) -> str:
    """Demand, capacity and the factor, in one sentence."""
    text = "demand: %s events/s; capacity: %s events/s on a whole CPU; the load needs %s" % (
        _short(found["demand"]),
        _short(found["capacity"]),
        _times(found["factor"]),
    )
    return text + "; Falco's reading thread was on a CPU for %s %%, waited %s %%, was idle %s %%" % (
        _short(found["on"]),
        _short(found["waiting"]),
        _short(found["idle"]),
    )


def _times(factor: float) -> str:
    return "%.3g CPUs" % factor if factor >= 1 else "%.0f %% of a CPU" % (100 * factor)


def _parts(found: Capacity, first: str, also: tuple[str, ...]) -> tuple[str, ...]:
    """A mixed case in one sentence."""
    if not also:
        return ()
    lost, over = found["lost"], found["factor_alone"]
    if first == "starved" and lost["waiting"] < LEAST_PART:
        return ("lost in bursts while the thread waits for a CPU",)
    said = {
        "starved": "starved (%s %%)" % _short(lost["waiting"]),
        "cpu_quota": "throttled (%s %%)" % _short(lost["quota"]),
        "buffer": "bursts (%s %%)" % _short(lost["bursts"]),
        "consumer": (
            "saturated even with a whole CPU: %.3g times too many events" % over
            if over > 1
            else "bursts longer than rings of the guide's range hold"
        )
        + " (%s %%)" % _short(lost["overload"]),
    }
    return ("lost to more than one thing: " + ", and ".join(said[name] for name in (first, *also)),)


def _consumer(settings: Settings | None, found: Capacity) -> Finding:
    """One thread reads all events and has no CPU time left: only fewer or cheaper events help."""
    if found["factor_alone"] > 1:
        why = (
            "Falco used %s %% of a CPU and one thread reads all events: larger buffers would only be full a "
            "little later, and it takes %.3g times fewer or cheaper events to lose none"
            % (_short(found["on"]), found["factor_alone"])
        )
    else:
        why = (
            "Falco used %s %% of a CPU and one thread reads all events: its bursts are longer than rings of "
            "the guide's range hold, so it takes larger ones, or fewer or cheaper events"
            % _short(found["on"])
        )
    if settings:
        lean = settings.value("base_syscalls.repair") or settings.value("base_syscalls.custom_set")
        if settings.has("base_syscalls.repair") and not lean:
            return Finding("consumer", "syscalls", (why,))
        if settings.release.enter_events:
            return Finding("consumer", "upgrade", (why,))
    return Finding("consumer", "overloaded", (why, "the system calls were narrowed already"))
