# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""facts + policy → verdict: does this host lose events, why, and what would help. Pure.

What a bottleneck looks like was measured on a real Falco (0.44.1, two CPUs):

    starved     14 % of a CPU used, 87 % of the time spent waiting for one, 84 % of events lost; the same Falco at nice -10
                used 60 %, waited 20 % and lost nothing. So it is the share of waiting that tells, not the use of CPU.
    consumer    one thread reads all rings: near 100 % of a core nothing but fewer events or fewer rules helps.
    buffer      a cool CPU and drops: they come in bursts, which a larger ring bridges.
"""

from __future__ import annotations

from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import configuration
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases

# Kernel events a second and CPU at which Falco's guide expects no trouble, little, and much. It was written when enter
# events were counted.
LINES = (1000, 1500, 3000)
TIERS = ("low", "moderate", "high", "extreme")
# The same load made 3.4 events an open on 0.38.2 and 1.8 on 0.44.1: what 0.42 and newer count is multiplied by this
# before it is held against the guide's lines.
ENTER_EVENTS = 1.9

# Percent of the time. A Falco that keeps up waited for a quarter of the time it wanted a CPU, a starved one 86 %.
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
    "syscalls": "watch fewer system calls: base_syscalls.repair: true first, then exclusions by measured volume",
    "outputs": "make the outputs faster or the rules quieter: alerts are lost in a full outputs_queue, not events in the kernel",
    "thread_table": "raise falco_libs.thread_table_size: threads are not stored, so events lack their process",
    "kernel": "nothing in Falco's settings helps against {what}: {cure}",
    "upgrade": "upgrade Falco to 0.42 or newer, which makes about half the events of the same load",
    "accept": "accept it: a little loss on a few busy hosts is within policy",
    "overloaded": "this host is too busy for Falco as it is: fewer rules, fewer plugins, or a smaller load",
    "start": "start Falco: it watches nothing",
    "look": "see which part of Falco is the bottleneck: its CPU time could not be read (run with become)",
}
SWITCH_ON = "set metrics.enabled: true, an interval and metrics.output_file"


def judge(facts, policy, release=None):
    """The verdict of one host.

    facts: the facts contract; facts['metrics'] is the window. policy: min_observation, accepted_drops_percent.
    → {'state', 'tier', 'rate_per_cpu', 'rate_per_cpu_guide', 'drops_percent', 'bottleneck', 'next_step', 'advice',
       'reasons': [], 'cost': {'falco_cpu_percent', 'falco_wait_percent', 'kernel_percent', 'memory_bytes'}}
    """
    window = facts.get("metrics") or {}
    release = release or _release(facts)
    cpu = schedule(facts)
    verdict = {
        "state": "unmeasured",
        "tier": None,
        "rate_per_cpu": None,
        "rate_per_cpu_guide": None,
        "drops_percent": None,
        "bottleneck": "unknown",
        "next_step": "none",
        "advice": "",
        "reasons": [],
        "cost": {
            "falco_cpu_percent": _first(window.get("falco_cpu_percent"), cpu["on"]),
            "falco_wait_percent": cpu["waiting"],
            "kernel_percent": (window.get("kernel") or {}).get("percent"),
            "memory_bytes": (window.get("memory") or {}).get("pss")
            or (window.get("memory") or {}).get("rss"),
        },
    }
    if _blind(verdict, facts, window, policy) or _unmeasured(verdict, facts, window, policy, release):
        return verdict
    _tier(verdict, window, release)
    verdict["drops_percent"] = window["drops_percent"]
    verdict["reasons"].append(
        "%s of %s events lost in %s s (%s %%, %s)"
        % (
            window["drops"],
            window["events"],
            _short(window["seconds"]),
            _short(window["drops_percent"]),
            window["source"],
        )
    )
    _drops(verdict, facts, window, policy, release, cpu)
    return verdict


def _release(facts):
    try:
        return releases.release_for((facts.get("falco") or {}).get("version"))
    except releases.UnsupportedRelease:
        return None


def _first(*values):
    return next((value for value in values if value is not None), None)


def _short(number):
    return "%.3g" % number if abs(number) < 100 else "%.0f" % number


def _decide(verdict, state, bottleneck, step, *reasons, **words):
    verdict.update(state=state, bottleneck=bottleneck, next_step=step, advice=STEPS[step].format(**words))
    verdict["reasons"].extend(reasons)


def schedule(facts):
    """Falco's use of CPUs and its waiting for them: {'on', 'waiting', 'throttled', 'seconds', 'look'}, percent of one CPU.

    Between two audits where there were two; since its start where that was within a day; else as two looks saw it. None
    where nothing is known.
    """
    falco = facts.get("falco") or {}
    seen = falco.get("cpu") or {}
    total, age = seen.get("total") or {}, falco.get("age")
    if seen.get("look") and seen.get("on") is not None:
        return {name: seen.get(name) for name in ("on", "waiting", "throttled", "seconds", "look")}
    if total.get("on") is not None and age and age <= LONG_LIFE:
        percent = {
            name: None if total.get(name) is None else round(100.0 * total[name] / age, 2)
            for name in ("on", "waiting", "throttled")
        }
        return dict(percent, seconds=round(age, 1), look="since its start")
    if seen.get("on") is not None:
        return {
            "on": seen["on"],
            "waiting": seen.get("waiting"),
            "throttled": seen.get("throttled"),
            "seconds": seen.get("seconds"),
            "look": "in a look of %s s" % _short(seen.get("seconds") or 0),
        }
    return {
        "on": None,
        "waiting": None,
        "throttled": None,
        "seconds": None,
        "look": seen.get("reason") or "not observed",
    }


def _blind(verdict, facts, window, policy):
    falco = facts.get("falco") or {}
    if not falco.get("running"):
        unit = (facts.get("service") or {}).get("unit")
        _decide(
            verdict,
            "blind",
            "none",
            "start",
            "Falco is not running%s" % (" (unit %s)" % unit if unit else ""),
        )
        return True
    if (
        window.get("basis") == "counters"
        and window.get("events") == 0
        and window["seconds"] >= policy["min_observation"]
    ):
        _decide(
            verdict,
            "blind",
            "none",
            "start",
            "Falco runs, but counted no event in %s s" % _short(window["seconds"]),
        )
        verdict["advice"] = "restart Falco and look at its log: its counters stand still"
        return True
    return False


def _unmeasured(verdict, facts, window, policy, release):
    reason = window.get("voided") if window else "nothing was measured"
    if reason:
        known = facts.get("config", {}).get("effective") or {}
        on = (
            release is not None
            and release.metrics
            and configuration.value_in_force(known, "metrics.enabled", release)["value"]
        )
        if release is not None and not release.metrics:
            _decide(
                verdict,
                "unmeasured",
                "unknown",
                "measure",
                "Falco %s has no metrics: they came with 0.35" % release,
                switch_on="upgrade Falco",
            )
        elif on:
            _decide(
                verdict, "unmeasured", "unknown", "observe", str(reason), seconds=policy["min_observation"]
            )
        else:
            _decide(verdict, "unmeasured", "unknown", "measure", str(reason), switch_on=SWITCH_ON)
        return True
    if window["basis"] != "counters":
        # Alerts come only in bad seconds: they prove drops, and say nothing of the rest.
        _decide(
            verdict,
            "dropping",
            "unknown",
            "measure",
            "%s drop alerts tell of %s lost events; how many there were in all is unknown"
            % (_short(window["seconds"]), window["drops"]),
            switch_on=SWITCH_ON,
        )
        return True
    if window["seconds"] < policy["min_observation"]:
        _decide(
            verdict,
            "unmeasured",
            "unknown",
            "observe",
            "seen for %s s only, policy wants %s s before it judges"
            % (_short(window["seconds"]), _short(policy["min_observation"])),
            seconds=policy["min_observation"],
        )
        return True
    return False


def _tier(verdict, window, release):
    rate = window.get("rate_per_cpu")
    if rate is None:
        verdict["reasons"].append("the number of CPUs is unknown, so events/s per CPU are too")
        return
    enter = window.get("enter_events")
    guide = rate if enter or enter is None else round(rate * ENTER_EVENTS, 1)
    tier = TIERS[sum(guide >= line for line in LINES)]
    verdict.update(rate_per_cpu=rate, rate_per_cpu_guide=guide, tier=tier)
    if guide == rate:
        said = "%s events/s per CPU" % _short(rate)
    else:
        said = "%s events/s per CPU, %s in the guide's terms (0.42 ceased to count enter events: x %s)" % (
            _short(rate),
            _short(guide),
            ENTER_EVENTS,
        )
    where = (
        "below the guide's line of 1000",
        "between the guide's lines of 1000 and 1500",
        "between the guide's lines of 1500 and 3000",
        "above the guide's line of 3000, where Falco has a hard time",
    )[TIERS.index(tier)]
    verdict["reasons"].append("%s: %s" % (said, where))


def _drops(verdict, facts, window, policy, release, cpu):
    """State, bottleneck and next step of a measured host."""
    lost = window["drops_percent"]
    if lost <= NEGLIGIBLE:
        _beside(verdict, window)
        return
    state = "acceptable" if lost <= policy["accepted_drops_percent"] else "dropping"
    kinds = window.get("drops_by_category") or {}
    if kinds:
        largest = sorted(kinds.items(), key=lambda pair: (-pair[1], pair[0]))
        rest = sum(number for dummy, number in largest[MOST_KINDS:])
        verdict["reasons"].append(
            "lost by kind: "
            + ", ".join(
                "%s %d" % item for item in largest[:MOST_KINDS] + ([("others", rest)] if rest else [])
            )
        )
    _bottleneck(verdict, state, facts, window, release, cpu, kinds)
    if state == "acceptable":
        verdict.update(next_step="accept", advice=STEPS["accept"])


def _beside(verdict, window):
    """Nothing is lost in the kernel; what is lost elsewhere?"""
    if window.get("outputs_queue_drops"):
        _decide(
            verdict,
            "dropping",
            "outputs",
            "outputs",
            "%d alerts were lost in the outputs queue" % window["outputs_queue_drops"],
        )
        return
    full = (window.get("userspace") or {}).get("n_drops_full_threadtable")
    if full:
        _decide(
            verdict, "dropping", "thread_table", "thread_table", "the thread table was full %d times" % full
        )
        return
    _decide(verdict, "healthy", "none", "none")


def _bottleneck(verdict, state, facts, window, release, cpu, kinds):
    drops = window["drops"]
    for name, what, cure in (
        (
            "page_faults",
            "events lost to page faults",
            "the programs' arguments are not in memory: look for memory pressure and swapping, or use modern_ebpf",
        ),
        (
            "scratch_map",
            "events larger than 64 KiB",
            "lower falco_libs.snaplen if it was raised, or leave out the calls that carry them",
        ),
    ):
        if name in kinds and 100.0 * kinds[name] >= MOST * drops:
            _decide(
                verdict,
                state,
                "kernel",
                "kernel",
                "%d of %d lost events are %s; no buffer holds those" % (kinds[name], drops, what),
                what=what,
                cure=cure,
            )
            return
    limits = (facts.get("service") or {}).get("limits") or {}
    quota, unit = limits.get("cpu_quota"), (facts.get("service") or {}).get("unit")
    on = _first(cpu["on"], window.get("falco_cpu_percent"))
    if quota and (
        (cpu["throttled"] or 0) >= THROTTLED
        or (cpu["throttled"] is None and (on or 0) >= SATURATED * min(quota, 100) / 100)
    ):
        _decide(
            verdict,
            state,
            "cpu_quota",
            "quota",
            "CPUQuota of %s is %.10g %%, and Falco was kept off the CPU for %s of the time %s"
            % (
                unit,
                quota,
                "an unknown share" if cpu["throttled"] is None else "%s %%" % _short(cpu["throttled"]),
                cpu["look"],
            ),
            unit=unit,
        )
        return
    if on is None:
        _decide(verdict, state, "unknown", "look", "Falco's CPU time is unknown: %s" % cpu["look"])
        return
    waiting = cpu["waiting"] or 0.0
    if waiting >= STARVED_WAITING and 100.0 * waiting >= STARVED_SHARE * (on + waiting):
        _decide(
            verdict,
            state,
            "starved",
            "priority",
            "Falco used %s %% of a CPU and waited for one for %s %% of the time %s: its "
            "neighbours have the CPU, buffers would not help" % (_short(on), _short(waiting), cpu["look"]),
        )
        return
    busiest = max(on, window.get("falco_cpu_percent") or 0)
    if busiest >= SATURATED:
        _consumer(verdict, state, facts, release, busiest)
        return
    _decide(
        verdict,
        state,
        "buffer",
        "buffers",
        "Falco used %s %% of a CPU and waited %s %% of the time %s: it keeps up on average, so "
        "the losses come in bursts that the rings can't hold" % (_short(on), _short(waiting), cpu["look"]),
    )


def _consumer(verdict, state, facts, release, on):
    """One thread is at its end: only fewer events help."""
    known = facts.get("config", {}).get("effective") or {}
    why = (
        "Falco used %s %% of a CPU, and one thread reads all events: larger buffers would only be full a little later"
        % _short(on)
    )
    lean = release is not None and any(
        configuration.value_in_force(known, "base_syscalls." + name, release)["value"]
        for name in ("repair", "custom_set")
    )
    if release is not None and release.has("base_syscalls.repair") and not lean:
        _decide(verdict, state, "consumer", "syscalls", why)
    elif release is not None and release.enter_events:
        _decide(verdict, state, "consumer", "upgrade", why)
    else:
        _decide(
            verdict,
            "overloaded" if state == "dropping" else state,
            "consumer",
            "overloaded",
            why,
            "the system calls were narrowed already",
        )
