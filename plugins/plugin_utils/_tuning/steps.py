# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""verdict + facts + policy → the one step to take now, with its reason and its expected effect. Pure.

A host that was never measured gets buffers for its size. A measured host is changed by evidence only: CPU
priority where Falco is starved, its CPU quota where that throttles it (if policy allows), buffers where
buffers are the bottleneck. A step that was tried on this host and had no effect, or was rolled back, is not
proposed again.

Every function returns a value; merged() is the one place where what blocks a step becomes part of the
verdict.
"""

from __future__ import annotations

import datetime
from typing import Any, Mapping, NamedTuple, cast

from ansible_collections.falcotune.fleet.plugins.plugin_utils import _contracts
from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import (
    AskedBuffers,
    Attempt,
    Before,
    Buffers,
    ChosenBuffers,
    Facts,
    Policy,
    StepName,
    Verdict,
    Window,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.releases import Release
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import bytes_text
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import buffers, capacity, verdicts

JUDGED = ("healthy", "acceptable", "dropping", "overloaded")

# The nice value at which a starved Falco was measured to lose nothing (84 % at nice 0; 0.44.1, two CPUs).
NICE = -10
# One preset doubles a ring: two presets make a difference that can be told from noise, within the guide's
# range.
PRESETS_A_STEP = 2
# Loads that differ by more than this factor are not compared.
COMPARABLE = 1.5
# What a verdict says next where fewer system calls may help: `overloaded` and `upgrade` where they were
# reduced already.
FEWER = ("syscalls", "overloaded", "upgrade")
LOSING = ("dropping", "overloaded")
# Profiles in which a call must dominate before it is excluded, and the share of what is watched that is meant
# by that.
PROFILES = 2
DOMINANT = 0.05
# CPUs that a load needs from which fewer system calls are no restart, unless they save much of the loss: of
# a load 14 times too large, a third fewer events save 3 % of the loss. Below it they are one of several
# measures.
OUT_OF_REACH = 4.0
# The share of the events Falco could take in when it lost some that it is to be given from now on.
HEADROOM = 0.9


class Case(NamedTuple):
    """What is known of one host when its step is chosen.

    verdict: as judge() made it, or merged() with an earlier step. current: the buffer settings in force.
    """

    facts: Facts
    policy: Policy
    release: Release
    verdict: Verdict
    driver: str
    current: Buffers

    @property
    def why(self) -> str:
        """The reason that the verdict names last: the one that asks for the step."""
        return self.verdict["reasons"][-1]


class Setting(NamedTuple):
    """A wanted value of one dotted key of Falco's configuration."""

    path: str
    value: Any
    why: str


class Step(NamedTuple):
    """The step that is taken, or what blocks it.

    name: None where no step is taken. to: what the host's record keeps of the attempt. unit: lines of the
    drop-in.
    buffers: what buffers.choose() is asked for; None: by the machine's size. settings: wanted keys of Falco's
    configuration. syscalls: what syscall_set.choose() returned, where that was asked. blocked: why the step
    is not taken. offer: what policy could allow, for people. next_step: what the verdict proposes instead, or
    None: what it proposes already.
    """

    name: StepName | None = None
    why: str = ""
    expected: str = ""
    to: dict[str, Any] = {}
    unit: dict[str, Any] = {}
    buffers: AskedBuffers | None = None
    settings: tuple[Setting, ...] = ()
    syscalls: dict[str, Any] | None = None
    blocked: str | None = None
    offer: str | None = None
    predicted: float | None = None
    next_step: str | None = None

    def shown(self) -> _contracts.Step | None:
        """The part that the plan shows and the host's record keeps."""
        if self.name is None:
            return None
        return {
            "name": self.name,
            "why": self.why,
            "expected": self.expected,
            "to": self.to,
            "predicted": self.predicted,
        }


def merged(verdict: Verdict, step: Step) -> Verdict:
    """The verdict with what blocks the step among its reasons, and with what is next instead. A new dict."""
    found = verdict.copy()
    if step.blocked:
        found["reasons"] = [*verdict["reasons"], step.blocked]
    if step.next_step:
        found["next_step"], found["advice"] = step.next_step, verdicts.STEPS[step.next_step]
    return found


def choose(case: Case, measuring: bool) -> Step:
    """The step that the verdict asks for, without system calls.

    measuring: Falco's metrics are on already. A host that has not run for long enough is then waited for, and
    gets no buffers by its size.
    """
    # Drop alerts alone are no measurement: they say nothing of the rest of the time.
    judged = case.verdict["state"] in JUDGED and case.verdict["drops_percent"] is not None
    kept: AskedBuffers | None = None
    if judged or measuring:
        kept = {**case.current, "why": "kept: nothing measured asks for a change"}
    step = Step()
    if case.verdict["state"] == "dropping":
        step = _against_losses(case)
    elif case.verdict["state"] == "unmeasured" and not measuring:
        # The restart that switches metrics on carries what is certain without them.
        step = _against(case, case.verdict["bottleneck"])._replace(next_step=None)
    elif case.verdict["state"] == "healthy":
        step = _give_back(case)
    return step if step.buffers else step._replace(buffers=kept)


def _against(case: Case, bottleneck: str) -> Step:
    chooser = {"starved": _priority, "cpu_quota": _quota, "buffer": _buffers}.get(bottleneck)
    return chooser(case) if chooser else Step()


def _against_losses(case: Case) -> Step:
    """The step against the largest part of the loss, or where that is blocked, against another part."""
    first = _against(case, case.verdict["bottleneck"])
    if first.name or not first.blocked:
        return first
    reasons = [*case.verdict["reasons"], first.blocked]
    for bottleneck in case.verdict["also"]:
        if bottleneck == "consumer":
            return first._replace(next_step="syscalls")
        # What it is worth is among the reasons; why the larger part stays is said with it.
        other = case._replace(verdict={**case.verdict, "reasons": reasons})
        step = _against(other, bottleneck)
        if step.name:
            return step._replace(blocked=first.blocked)
    return first


# --- What was tried before


def _attempts(case: Case) -> list[Attempt]:
    """What was changed by evidence on this host under this release, oldest first."""
    record = case.facts["host"]["record"]
    return [item for item in record["attempts"] if item["release"] == str(case.release)] if record else []


def _day(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.timezone.utc).strftime("%Y-%m-%d")


def failed_before(name: StepName, present: Mapping[str, Any], case: Case) -> str | None:
    """Why a step is not proposed again: it is in force and had no effect, or it was rolled back. Else None.

    present: the values in force that the step would change.
    """
    # An attempt that only kept a profile changed nothing.
    tried = [item for item in _attempts(case) if item["step"] == name and item.get("replaced") != item["to"]]
    if not tried:
        return None
    last = tried[-1]
    if last.get("rolled_back"):
        return "%s was tried on %s and rolled back" % (_attempt_text(last), _day(last["at"]))
    if any(present.get(key) != value for key, value in last["to"].items()):
        return None
    was, lost = last["before"], case.verdict["drops_percent"] or 0.0
    if not was or not was["drops_percent"]:
        return None
    if _busier(case, was):
        return None
    if was["drops_percent"] - lost >= case.policy["tolerance_percent"] / 100.0 * was["drops_percent"]:
        return None
    return "%s of %s had no effect (%.3g %% lost before, %.3g %% since)" % (
        _attempt_text(last),
        _day(last["at"]),
        was["drops_percent"],
        lost,
    )


def _busier(case: Case, was: Before | None) -> bool:
    """Whether the load is another one than when a step was tried, so that its effect then says nothing."""
    if was is None or not was["rate_per_cpu"]:
        return False
    return (case.verdict["rate_per_cpu"] or 0) > COMPARABLE * was["rate_per_cpu"]


def _attempt_text(attempt: Attempt) -> str:
    return "%s %s" % (attempt["step"], ", ".join("%s %s" % item for item in sorted(attempt["to"].items())))


# --- CPU priority and quota


def weight_of(nice: int) -> int:
    """The CPUWeight that competes like a nice value: each nice level is a factor of 1.25, and nice 0 is a
    weight of 100 (kernel/sched/core.c)."""
    return max(1, min(10000, round(100 * 1.25**-nice)))


def kept_unit_settings(facts: Facts, policy: Policy) -> dict[str, Any]:
    """What the collection's drop-in of the unit holds already and policy still allows."""
    held = facts["host"]["unit_dropin"]
    kept: dict[str, Any] = {}
    nice, weight = _int(held.get("Nice")), _int(held.get("CPUWeight"))
    if policy["priority"] and nice is not None and policy["nice_ceiling"] < 0:
        kept["Nice"] = max(nice, policy["nice_ceiling"])
    if policy["priority"] and weight is not None and policy["cpu_weight_ceiling"] > 100:
        kept["CPUWeight"] = min(weight, policy["cpu_weight_ceiling"])
    if policy["unthrottle"] and "CPUQuota" in held:
        kept["CPUQuota"] = held["CPUQuota"]
    return kept


def _int(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


class _Priority(NamedTuple):
    """What a process and its cgroup have, and what policy allows. weight: None where the kernel weighs no
    cgroup."""

    nice: int
    weight: int | None
    weighable: bool
    autogroup: bool
    floor: int  # the lowest nice value that policy allows
    top: int  # the largest CPUWeight that policy allows

    @property
    def target(self) -> int:
        """The nice value to go to: NICE first, then as far as policy allows."""
        return max(self.floor, NICE if self.nice > NICE else self.floor)

    def wanted(self) -> dict[str, int]:
        """CPUWeight= among cgroups, where the kernel weighs them or would; Nice= among the processes of one
        cgroup."""
        found = {}
        weight = min(self.top, weight_of(self.target))
        if self.weighable and weight > (self.weight or 100):
            found["CPUWeight"] = weight
        # A service is a session of its own: with autogroup, and without weights, its nice value has no
        # effect.
        effective = self.weight is None and not self.autogroup
        if self.target < self.nice and (found or effective):
            found["Nice"] = self.target
        return found


def _priority(case: Case) -> Step:
    facts, policy = case.facts, case.policy
    group, allowed = facts["service"]["cgroup"], policy["priority"]
    now = _Priority(
        facts["falco"]["nice"] or 0,
        group["weight"],
        group["weighable"],
        facts["kernel"]["autogroup"],
        policy["nice_ceiling"] if allowed else 0,
        policy["cpu_weight_ceiling"] if allowed else 100,
    )
    again = failed_before("priority", {"Nice": now.nice, "CPUWeight": now.weight}, case)
    if again:
        reason = again + ": its neighbours may be in another slice, or have a higher priority"
        return Step(blocked=reason, next_step="overloaded")
    wanted = now.wanted()
    if not wanted:
        return _no_more_priority(now)
    waiting, predicted = min(100.0, capacity.use(facts).waiting or 0), _with_a_cpu(case)
    return Step(
        name="priority",
        why=case.why,
        expected="a Falco that lost 84 %% at nice 0 lost nothing at nice -10 (measured); it may cost the "
        "applications up to "
        "the %.3g %% of one CPU that Falco waits for now%s" % (waiting, _after_text(predicted)),
        to=dict(wanted),
        unit=dict(wanted),
        predicted=predicted,
    )


def _with_a_cpu(case: Case) -> float | None:
    """Percent that is lost for want of CPU time once Falco need not wait for it, by the capacity model."""
    found = case.verdict["capacity"]
    return None if found is None else round(capacity.lost_after(found, alone=True), 2)


def _after_text(predicted: float | None) -> str:
    return "" if predicted is None else "; the capacity model expects %.3g %% lost, bursts aside" % predicted


def _no_more_priority(now: _Priority) -> Step:
    """Why there is no higher priority to be had."""
    has = "nice %d%s" % (now.nice, "" if now.weight is None else ", CPUWeight %d" % now.weight)
    if now.floor >= 0 and (now.top <= 100 or not now.weighable):
        return Step(
            blocked="policy allows no CPU priority (falco_tune_priority, falco_tune_nice_ceiling, "
            "falco_tune_cpu_weight_ceiling)"
        )
    if now.target < now.nice:
        return Step(
            blocked="Falco has %s, and Nice= has no effect here: kernel autogroup is on and Falco's cgroup "
            "has no CPU "
            "weight (is falco_tune_cpu_weight_ceiling 100, or the cpu controller missing?)" % has
        )
    return Step(
        blocked="Falco has the priority that policy allows (%s) and still waits for a CPU" % has,
        next_step="overloaded",
    )


def _quota(case: Case) -> Step:
    if not case.policy["unthrottle"]:
        return Step(
            blocked="CPUQuota= was set by somebody on purpose: falco_tune_unthrottle: true allows to remove "
            "it"
        )
    again = failed_before("quota", {"CPUQuota": ""}, case)
    if again:
        return Step(blocked=again)
    return Step(
        name="quota",
        why=case.why,
        expected="Falco may use a whole CPU instead of %.10g %% of one; the applications lose what it takes%s"
        % (case.facts["service"]["limits"]["cpu_quota"] or 0, _after_text(_with_a_cpu(case))),
        to={"CPUQuota": ""},
        unit={"CPUQuota": ""},
        predicted=_with_a_cpu(case),
    )


# --- Buffers


def guide_top(driver: str, policy: Policy) -> int:
    """The largest preset that the policy's classes name for a driver: the upper end of the guide's range."""
    classes: list[dict[str, int]] = policy["buffer_classes"]
    return max(item[driver] for item in classes)


def _buffers(case: Case) -> Step:
    if case.policy["buf_size_preset"] != "auto":
        reason = (
            "the preset is set by policy (falco_tune_buf_size_preset: %s)" % case.policy["buf_size_preset"]
        )
        return Step(blocked=reason, next_step="syscalls")
    now, top = case.current["buf_size_preset"], guide_top(case.driver, case.policy)
    if now >= top:
        split = _split(case)
        if split.name:
            return split
        reason = "preset %d is the upper end of the guide's range for %s already" % (now, case.driver)
        return Step(blocked=reason, next_step="syscalls")
    again = failed_before("buffers", case.current, case)
    if again:
        return Step(blocked=again, next_step="syscalls")
    preset = min(top, now + PRESETS_A_STEP)
    asked: AskedBuffers = {
        **case.current,
        "buf_size_preset": preset,
        "why": "preset %d: %s" % (preset, case.why),
    }
    rate = max(case.verdict["rate_per_cpu"] or 0, 1)
    before, after = (_bridged(case, item, rate) for item in (now, preset))
    return Step(
        name="buffers",
        why=case.why,
        expected="a stall or burst of %.3g times the length is bridged: %.3g s instead of %.3g s at the "
        "mean rate measured" % (after / before, after, before),
        to={"buf_size_preset": preset},
        buffers=asked,
    )


def _split(case: Case) -> Step:
    """Fewer CPUs for each ring, where one ring loses and cannot be larger within the guide's range."""
    group = buffers.effective_cpus(case.current["cpus_for_each_buffer"] or 0, _online(case))
    hot = verdicts.hot_cpus(case.facts, case.current, case.driver)
    fixed = case.policy["cpus_for_each_buffer"] != "auto"
    if case.driver != "modern_ebpf" or group < 2 or not hot or fixed:
        return Step()
    if failed_before("buffers", case.current, case):
        return Step()
    why = "%d CPUs for each buffer: %s" % (group // 2, case.why)
    asked: AskedBuffers = {**case.current, "cpus_for_each_buffer": group // 2, "why": why}
    return Step(
        name="buffers",
        why=case.why,
        expected="the busy CPU shares its ring buffer with half as many others",
        to={"cpus_for_each_buffer": group // 2},
        buffers=asked,
    )


def _bridged(case: Case, preset: int, rate: float) -> float:
    group = case.current["cpus_for_each_buffer"] or 0
    return buffers.seconds_bridged(case.driver, _online(case), preset, group, rate)


def _online(case: Case) -> int:
    return case.facts["cpus"]["online"] or 1


def within_budget(step: Step, chosen: ChosenBuffers, current: Buffers) -> Step:
    """The step once buffers were chosen: the memory budget may not allow what was asked for."""
    if step.name != "buffers":
        return step
    if chosen["cpus_for_each_buffer"] == step.to.get("cpus_for_each_buffer"):
        if chosen["buf_size_preset"] == current["buf_size_preset"]:
            return step
    elif chosen["buf_size_preset"] > current["buf_size_preset"]:
        return step._replace(to={"buf_size_preset": chosen["buf_size_preset"]})
    return Step(
        blocked="larger buffers are asked for, but the budget of %s (%s) binds"
        % (bytes_text(chosen["budget"]["bytes"] or 0), chosen["budget"]["bound"]),
        next_step="syscalls",
    )


def _give_back(case: Case) -> Step:
    """Smaller buffers after quiet days: only what exceeds the machine's class, never below what helped this
    host."""
    since, days = case.facts["metrics"]["since_start"], case.policy["quiet_days"]
    fixed = case.policy["buf_size_preset"] != "auto"
    if fixed or not days or not since or since["drops"] != 0 or since["seconds"] < days * 86400.0:
        return Step()
    online, current = _online(case), case.current
    by_class = buffers.size_class(case.policy["buffer_classes"], online)[case.driver]
    helped = [item["to"].get("buf_size_preset", 1) for item in _attempts(case) if item["step"] == "buffers"]
    now = current["buf_size_preset"]
    preset = max(by_class, *helped, now - PRESETS_A_STEP)
    if preset >= now:
        return Step()
    why = "not one event was lost in %.3g days" % (since["seconds"] / 86400.0)
    saved = [
        buffers.layout(case.driver, online, item, current["cpus_for_each_buffer"])["bytes_total"]
        for item in (now, preset)
    ]
    asked: AskedBuffers = {
        **current,
        "buf_size_preset": preset,
        "why": "preset %d instead of %d: %s, so memory is given back" % (preset, now, why),
    }
    return Step(
        name="give_back",
        why=why,
        expected="%s of memory are given back" % bytes_text(saved[0] - saved[1]),
        to={"buf_size_preset": preset},
        buffers=asked,
    )


# --- Fewer system calls


def wants_fewer_syscalls(case: Case, first: Step) -> bool:
    """Whether fewer system calls are the next step that evidence asks for, and policy and release allow
    it."""
    return (
        first.name is None
        and case.verdict["state"] in LOSING
        and case.verdict["next_step"] in FEWER
        and bool({"consumer", "buffer"} & {case.verdict["bottleneck"], *case.verdict["also"]})
        and case.policy["syscalls"] != "keep"
        and case.release.has("base_syscalls.repair")
    )


def target_of(window: Window) -> float | None:
    """Events a second that this Falco can take in: what it did not lose, less some headroom."""
    if not window["seconds"] or window["events"] is None:
        return None
    return HEADROOM * (window["events"] - (window["drops"] or 0)) / window["seconds"]


def proved(case: Case, profile: Mapping[str, float]) -> frozenset[str]:
    """System calls that dominate now and dominated before: those that may be excluded.

    profile: shares of what is watched now, without what one user or one control group makes. One profile
    proves nothing: who makes a system call often while the kernel counts would choose what Falco no longer
    sees. So a call must dominate in PROFILES profiles, each exclude_hours after the one before.
    """
    apart = case.policy["exclude_hours"] * 3600.0
    seen, last = [profile], case.facts["clock"] or 0.0
    for attempt in reversed(_attempts(case)):
        if attempt.get("profile") and last - attempt["at"] >= apart:
            seen.append(attempt["profile"])
            last = attempt["at"]
    if len(seen) < PROFILES:
        return frozenset()
    return frozenset(
        name for name in profile if all((one.get(name) or 0) >= DOMINANT for one in seen[:PROFILES])
    )


def fewer_syscalls(case: Case, made: dict[str, Any], current: Mapping[str, Any]) -> Step:
    """The step to fewer system calls, or back from one that had no effect.

    made: what syscall_set.choose() proposes. current: {'custom_set', 'repair', 'all'} in force.
    """
    to = {"repair": made["repair"], "custom_set": made["custom_set"]}
    if all(current[name] == value for name, value in to.items()):
        return _no_fewer_syscalls(case, made, current)
    if to in _taken_back(case):
        reason = "system calls were reduced to the same set before, which had no effect and was taken back"
        return Step(blocked=reason, next_step="overloaded", syscalls=made)
    useless = _out_of_reach(case, made)
    if useless:
        return Step(blocked=useless, next_step="overloaded", syscalls=made)
    last: dict[str, Any] = next(
        (item["to"] for item in reversed(_attempts(case)) if item["step"] == "syscalls"), {}
    )
    # Exclusions may well help where the lossless set did not: they save other calls.
    if last == to or any(name.startswith("!") for name in last.get("custom_set", [])):
        again = failed_before("syscalls", current, case)
        if again:
            return _back(case, current, again)
    return Step(
        name="syscalls",
        why="; ".join([case.why, *made["reasons"]]),
        expected=_expected_of(made) + _still_lost(case, made),
        predicted=_with_fewer(case, made),
        to=to,
        settings=wanted_syscalls(made, current),
        syscalls=made,
        next_step="syscalls",
    )


def _ratio(made: dict[str, Any]) -> float | None:
    """The events after a choice of system calls in those before; None where the volume is unknown."""
    before, after = made["before"]["events_per_second"], made["after"]["events_per_second"]
    return after / before if before and after is not None else None


def _out_of_reach(case: Case, made: dict[str, Any]) -> str | None:
    """Why fewer system calls would be a restart for nothing, or None: the load stays too much for one thread,
    and next to nothing less is lost."""
    found, ratio = case.verdict["capacity"], _ratio(made)
    if found is None or ratio is None or case.verdict["bottleneck"] != "consumer":
        return None
    now, then = capacity.lost_after(found), capacity.lost_after(found, ratio)
    saves = now - then >= case.policy["tolerance_percent"] / 100.0 * now
    if saves or found["factor"] * ratio <= OUT_OF_REACH:
        return None
    return (
        "fewer system calls would save %.3g %% of the events, and the load needs %.3g times a CPU: %.3g %% "
        "would be lost instead of %.3g %%, which is not worth a restart"
        % (100 * (1 - ratio), found["factor"], then, now)
    )


def _with_fewer(case: Case, made: dict[str, Any]) -> float | None:
    """Percent that is lost for want of CPU time with a choice of system calls, by the capacity model."""
    found, ratio = case.verdict["capacity"], _ratio(made)
    return None if found is None or ratio is None else round(capacity.lost_after(found, ratio), 2)


def _still_lost(case: Case, made: dict[str, Any]) -> str:
    """What a choice of system calls leaves lost, where it cannot reach the target."""
    found, ratio = case.verdict["capacity"], _ratio(made)
    if found is None or ratio is None or case.verdict["bottleneck"] != "consumer":
        return ""
    then = capacity.lost_after(found, ratio)
    if then <= case.policy["accepted_drops_percent"]:
        return ""
    return "; it does not suffice: about %.3g %% would still be lost, as the load needs %.3g times a CPU" % (
        then,
        found["factor"] * ratio,
    )


def buffers_without_effect(case: Case) -> AskedBuffers | None:
    """The buffers before a step that had no effect, which the next restart takes back. None without one."""
    tried = [item for item in _attempts(case) if item["step"] == "buffers"]
    before: dict[str, Any] = tried[-1].get("replaced", {}) if tried else {}
    if not before or any(name not in case.current for name in before):
        return None
    again = failed_before("buffers", case.current, case)
    if not again:
        return None
    asked: dict[str, Any] = {**case.current, **before, "why": "taken back, since %s" % again}
    return cast(AskedBuffers, asked)


def _no_fewer_syscalls(case: Case, made: dict[str, Any], current: Mapping[str, Any]) -> Step:
    """What follows where the proposed set is in force already: a profile is kept, or the set is taken back,
    or nothing.
    """
    reasons = ["no fewer system calls within policy", *made["reasons"]]
    if made["unproved"] and made["shares"]:
        kept = [item for item in _attempts(case) if item.get("profile")]
        if kept and (case.facts["clock"] or 0.0) - kept[-1]["at"] < case.policy["exclude_hours"] * 3600.0:
            return Step(blocked="; ".join(reasons), syscalls=made)
        return Step(
            name="syscalls",
            why=made["unproved"],
            expected="nothing changes: the host's record keeps the profile",
            to={name: current[name] for name in ("repair", "custom_set")},
            syscalls=made,
        )
    again = failed_before("syscalls", current, case)
    if again:
        return _back(case, current, again)
    if case.policy["syscalls"] != "exclude":
        reasons.append("falco_tune_syscalls: exclude would let rules go blind for it")
    return Step(blocked="; ".join(reasons), syscalls=made)


def _taken_back(case: Case) -> list[dict[str, Any]]:
    """Sets of system calls that had no effect on this host under such a load, and were taken back."""
    return [
        item["replaced"]
        for item in _attempts(case)
        if item["step"] == "give_back" and "replaced" in item and not _busier(case, item["before"])
    ]


def _back(case: Case, current: Mapping[str, Any], why: str) -> Step:
    """The step back to the system calls before a step that had no effect or has expired."""
    last = next((item for item in reversed(_attempts(case)) if item["step"] == "syscalls"), None)
    before: dict[str, Any] = (last or {}).get("replaced") or {}
    if not before or all(current[name] == before[name] for name in before):
        return Step(blocked=why, next_step="overloaded")
    return Step(
        name="give_back",
        why=why,
        expected="the rules see again what they saw before that step",
        to=dict(before),
        settings=tuple(
            Setting("base_syscalls." + name, before[name], "taken back: %s" % why)
            for name in ("repair", "custom_set")
            if before[name] != current[name]
        ),
        next_step="overloaded",
    )


def expired_exclusions(case: Case, current: Mapping[str, Any]) -> Step:
    """The step that takes exclusions back which evidence asked for quiet_days ago, on a host that does not
    lose events now.
    """
    days, last = (
        case.policy["quiet_days"],
        next((item for item in reversed(_attempts(case)) if item["step"] == "syscalls"), None),
    )
    if not last or not days or case.verdict["state"] not in ("healthy", "acceptable"):
        return Step()
    excluded = [name for name in last["to"].get("custom_set") or [] if name.startswith("!")]
    in_force = all(current.get(name) == value for name, value in last["to"].items())
    if not excluded or not in_force or (case.facts["clock"] or 0.0) - last["at"] < days * 86400.0:
        return Step()
    why = "%s was excluded on %s and is tried again after falco_tune_quiet_days" % (
        ", ".join(name[1:] for name in excluded),
        _day(last["at"]),
    )
    return _back(case, current, why)._replace(next_step=None)


def wanted_syscalls(made: dict[str, Any], current: Mapping[str, Any]) -> tuple[Setting, ...]:
    """The keys of base_syscalls that differ from what is in force."""
    why = "; ".join([*made["reasons"], blind_text(made["coverage"])])
    return tuple(
        Setting("base_syscalls." + name, made[name], why)
        for name in ("repair", "custom_set", "all")
        if made[name] != current[name]
    )


def _expected_of(made: dict[str, Any]) -> str:
    before, after = made["before"], made["after"]
    rates = ""
    if after["events_per_second"] is not None:
        rates = ", %.0f instead of %.0f events/s (%s)" % (
            after["events_per_second"],
            before["events_per_second"],
            "by a profile of the host"
            if made["basis"] == "profile"
            else "estimated from the drops of each category",
        )
    return "%d instead of %d system calls%s; %s" % (
        after["syscalls"],
        before["syscalls"],
        rates,
        blind_text(made["coverage"]),
    )


def blind_text(found: dict[str, Any]) -> str:
    """What a selection costs the rules, in one clause. found: a plan's coverage."""
    if found["newly"]:
        names = ", ".join(found["newly"])
        return "%d of %d rules see less: %s" % (len(found["newly"]), found["rules_total"], names)
    short = len(found["blind"]) + len(found["half_blind"])
    if short:
        return "no rule loses anything more, but %d of %d see less than by default" % (
            short,
            found["rules_total"],
        )
    return "no rule loses anything"
