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

from typing import Any, Iterable, Mapping, NamedTuple, cast

from ansible_collections.falcotune.fleet.plugins.plugin_utils import _contracts
from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import (
    AskedBuffers,
    Buffers,
    ChosenBuffers,
    Facts,
    Memory,
    Policy,
    Rings,
    StepName,
    Verdict,
    Window,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.configuration import Settings
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import bytes_text
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import (
    buffers,
    capacity,
    effects,
    policies,
    twins,
    verdicts,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning.effects import Case

JUDGED = ("healthy", "acceptable", "dropping", "overloaded")

# The nice value at which a starved Falco was measured to lose nothing (84 % at nice 0; 0.44.1, two CPUs).
NICE = -10
# One preset doubles a ring: two presets make a difference that can be told from noise, within the guide's
# range.
PRESETS_A_STEP = 2
# Room that larger rings get for each event that a burst loses, in sizes of an average one: events of 56 to
# 335 bytes were measured, and no burst is like the last.
MARGIN = 2.0
# What a verdict says next where fewer system calls may help: `overloaded` and `upgrade` where they were
# reduced already.
FEWER = ("syscalls", "overloaded", "upgrade")
LOSING = ("dropping", "overloaded")
# Profiles in which a call must dominate before it is excluded, and the share of what is watched that is meant
# by that.
PROFILES = 2
DOMINANT = 0.05
PER_CPU = "metrics.kernel_event_counters_per_cpu_enabled"
# Steps that are taken back where they had no effect; a selection of system calls has a way of its own.
UNDONE: tuple[StepName, ...] = ("priority", "quota", "buffers")
# Percent of the time. At nice -10 Falco waited for 0.23 of what it waited for at nice 0 (cpu_starved.csv):
# with less than this it would not be starved without priority (verdicts.STARVED_WAITING).
UNHURRIED = 2.0
# Percent of all events. A step that saves more of them is worth a restart, whatever share of the loss that
# is. Of a load 14 times too large a third fewer events saved 3 %, which was not to be seen.
LEAST_GAIN = 5.0
# The share of the events Falco could take in when it lost some that it is to be given from now on.
HEADROOM = 0.9


class Setting(NamedTuple):
    """A wanted value of one dotted key of Falco's configuration."""

    path: str
    value: Any
    why: str


class Step(NamedTuple):
    """The step that is taken, or what blocks it.

    name: None where no step is taken. to: what the host's record keeps of the attempt. replaced: the values
    before, where they can be taken back. unit: lines of the drop-in; None takes one away.
    calls: system calls a second on the host, where they were counted.
    also: further steps that the same restart carries. undoes: steps without effect that it takes back, and
    back: why.
    useless: why it is not worth a restart alone; None where it is.
    buffers: what buffers.choose() is asked for; None: by the machine's size. settings: wanted keys of Falco's
    configuration. syscalls: what syscall_set.choose() returned, where that was asked. blocked: why the step
    is not taken. offer: what policy could allow, for people. next_step: what the verdict proposes instead, or
    None: what it proposes already.
    """

    name: StepName | None = None
    why: str = ""
    expected: str = ""
    to: dict[str, Any] = {}
    replaced: dict[str, Any] = {}
    unit: dict[str, Any] = {}
    buffers: AskedBuffers | None = None
    settings: tuple[Setting, ...] = ()
    syscalls: dict[str, Any] | None = None
    blocked: str | None = None
    offer: str | None = None
    predicted: float | None = None
    next_step: str | None = None
    also: tuple[_contracts.StepPart, ...] = ()
    undoes: tuple[StepName, ...] = ()
    back: str = ""
    useless: str | None = None
    calls: float | None = None

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
            "replaced": self.replaced,
            "also": list(self.also),
            "undoes": list(self.undoes),
            "calls": self.calls,
        }

    def part(self, name: StepName) -> _contracts.StepPart:
        """What the record keeps of this step where another one names the change."""
        return {"step": name, "to": self.to, "replaced": self.replaced}


def merged(verdict: Verdict, step: Step) -> Verdict:
    """The verdict with what blocks the step among its reasons, and with what is next instead. A new dict."""
    found = verdict.copy()
    if step.blocked:
        found["reasons"] = [*verdict["reasons"], step.blocked]
    if step.next_step:
        found["next_step"] = step.next_step
        found["advice"] = verdicts.STEPS[step.next_step]
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
    choosers = {"starved": _priority, "cpu_quota": _quota, "buffer": _buffers, "consumer": _long_bursts}
    chooser = choosers.get(bottleneck)
    step = chooser(case) if chooser else Step()
    if not step.name:
        return step
    vain = twins.in_vain(case, step.name, step.to)
    if vain:
        return Step(blocked=vain, next_step="overloaded" if step.name == "priority" else "syscalls")
    return step


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


def beside_rules(case: Case) -> Step:
    """Priority for a saturated thread that waits for a CPU as well: alone it leaves the host saturated, and a
    restart that takes rules or plugins away carries it."""
    if case.verdict["state"] not in LOSING or "starved" not in case.verdict["also"]:
        return Step()
    waiting = capacity.use(case.facts).waiting or 0.0
    why = "Falco waits for a CPU for %.3g %% of the time, and is restarted for its rules anyhow" % waiting
    reasons = [*case.verdict["reasons"], why]
    step = _priority(case._replace(verdict={**case.verdict, "reasons": reasons}))
    # What is lost then depends on the rules, whose cost is an estimate.
    return step._replace(predicted=None) if step.name else Step()


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
    again = effects.failed_before("priority", _present(case, "priority"), case)
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
        replaced=_held(facts, wanted),
        unit=dict(wanted),
        predicted=predicted,
    )


def _held(facts: Facts, names: Iterable[str]) -> dict[str, Any]:
    """What our drop-in of the unit holds of these lines; None where it has no such line."""
    held = facts["host"]["unit_dropin"]
    return {name: held.get(name) if name == "CPUQuota" else _int(held.get(name)) for name in names}


def _present(case: Case, name: StepName) -> dict[str, Any]:
    """The values in force that a step changes."""
    if name == "buffers":
        return dict(case.current)
    if name == "quota":
        return {"CPUQuota": case.facts["host"]["unit_dropin"].get("CPUQuota")}
    return {"Nice": case.facts["falco"]["nice"] or 0, "CPUWeight": case.facts["service"]["cgroup"]["weight"]}


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
    again = effects.failed_before("quota", {"CPUQuota": ""}, case)
    if again:
        return Step(blocked=again)
    return Step(
        name="quota",
        why=case.why,
        expected="Falco may use a whole CPU instead of %.10g %% of one; the applications lose what it takes%s"
        % (case.facts["service"]["limits"]["cpu_quota"] or 0, _after_text(_with_a_cpu(case))),
        to={"CPUQuota": ""},
        replaced=_held(case.facts, ["CPUQuota"]),
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
    rings = _larger(case)
    if rings is None:
        split = _split(case)
        if split.name:
            return split
        return Step(blocked=_no_larger(case), next_step="syscalls")
    again = effects.failed_before("buffers", case.current, case)
    if again:
        return Step(blocked=again, next_step="syscalls")
    like = "" if rings["buf_size_preset"] != twins.preset(case) else ", as on hosts like it"
    why = "%s%s: %s" % (_named(case, rings), like, case.why)
    # Where rings grow, the next look is to tell one hot CPU from many: only a restart switches that on.
    step = Step(name="buffers", why=case.why, buffers={**rings, "why": why}, settings=(per_cpu_counters(),))
    return _to_rings(case, step, rings)


def _to_rings(case: Case, step: Step, rings: Buffers) -> Step:
    """A step to these rings, with what it should come to."""
    to = _changed(case, rings)
    return step._replace(
        expected=_bridging(case, rings),
        to=to,
        replaced={name: case.current[name] for name in to},  # type: ignore[literal-required]
        predicted=_with_rings(case, rings),
    )


def _changed(case: Case, rings: Buffers) -> dict[str, Any]:
    """The values in which rings differ from those in force."""
    return {name: value for name, value in rings.items() if value != case.current.get(name)}


def _named(case: Case, rings: Buffers) -> str:
    preset, group = rings["buf_size_preset"], rings["cpus_for_each_buffer"]
    if group == case.current["cpus_for_each_buffer"]:
        return "preset %d" % preset
    return "preset %d with %d CPUs for each buffer" % (preset, group or 0)


def _long_bursts(case: Case) -> Step:
    """Larger rings for a thread that has the time on the whole, and whose bursts are longer than rings of the
    guide's range hold."""
    found = case.verdict["capacity"]
    if found is None or found["factor"] >= 1 or _burst(case) is None:
        return Step()
    step = _buffers(case)
    return step if step.name else Step()


def _larger(case: Case) -> Buffers | None:
    """The rings that the evidence asks for, or None where there are no larger ones.

    What a burst loses is known: the rings that hold it, as far as the budget goes. It is not known: two
    presets, within the guide's range. Larger ones that helped its twins come first.
    """
    now, top = case.current["buf_size_preset"], guide_top(case.driver, case.policy)
    burst, group, helped = _burst(case), case.current["cpus_for_each_buffer"], twins.preset(case) or 0
    if burst is None:
        preset = min(top, max(now + PRESETS_A_STEP, helped))
        return {"buf_size_preset": preset, "cpus_for_each_buffer": group} if preset > now else None
    hot, groups = _hot(case), [group]
    if hot and group is not None and case.policy["cpus_for_each_buffer"] == "auto":
        # A ring that loses alone need not be one of many: with more CPUs for each, fewer are as large.
        classes: list[dict[str, int]] = case.policy["buffer_classes"]
        online = _online(case)
        groups += sorted({min(item["cpus_for_each_buffer"], online) for item in classes} - {0, group})
    wanted = burst * MARGIN * buffers.BYTES_PER_EVENT
    asked = policies.buffer_policy(case.policy)
    rings = buffers.holding(machine(case), asked, case.current, wanted, groups, hot)
    if rings is None or rings["buf_size_preset"] >= helped:
        return rings
    return {**rings, "buf_size_preset": helped}


def _no_larger(case: Case) -> str:
    if _burst(case) is not None:
        return "no larger buffers than preset %d fit the budget" % case.current["buf_size_preset"]
    return "preset %d is the upper end of the guide's range for %s already" % (
        case.current["buf_size_preset"],
        case.driver,
    )


def machine(case: Case) -> buffers.Machine:
    """What buffers are chosen for: the host, with the present rings given back, since they are replaced."""
    facts, online = case.facts, _online(case)
    memory: Memory = facts["memory"]
    available, used, limit = memory["available"], memory["used"], memory["limit"]
    rings = _layout(case, case.current)
    if available is not None:
        available += rings["bytes_total"]
    if case.driver != "modern_ebpf":
        limit = None  # the kernel charges only modern_ebpf's rings to the unit's cgroup
    elif used is not None:
        used = max(0, used - rings["bytes_total"])
    there = {"total": memory["total"], "available": available, "limit": limit, "used": used}
    return buffers.Machine(case.driver, online, there, facts["kernel"]["page_size"])


def _layout(case: Case, rings: Buffers) -> Rings:
    return buffers.layout(case.driver, _online(case), rings["buf_size_preset"], rings["cpus_for_each_buffer"])


def _bridging(case: Case, rings: Buffers) -> str:
    rate = max(case.verdict["rate_per_cpu"] or 0, 1)
    before, after = (_bridged(case, item, rate) for item in (case.current, rings))
    text = (
        "a stall or burst of %.3g times the length is bridged: %.3g s instead of %.3g s at the mean rate "
        "measured" % (after / before, after, before)
    )
    burst, predicted = _burst(case), _with_rings(case, rings)
    if burst is None or predicted is None:
        return text
    return "%s; a burst loses about %.0f events, %s are added, and %.3g %% should still be lost" % (
        text,
        burst,
        bytes_text(int(_room(case, rings) - _room(case, case.current))),
        predicted,
    )


def per_cpu_counters() -> Setting:
    return Setting(PER_CPU, True, "tells whether one CPU's ring buffer loses, or all")


def _burst(case: Case) -> float | None:
    """Events that a burst loses, by the intervals that lost most; None where that can't be told."""
    losing = case.facts["metrics"]["losing"]
    return capacity.overflow(losing) if losing and case.verdict["capacity"] else None


def _with_rings(case: Case, rings: Buffers) -> float | None:
    """Percent that is lost with other rings: what a burst loses beyond the added room, and the rest."""
    burst, found, lost = _burst(case), case.verdict["capacity"], case.verdict["drops_percent"]
    if burst is None or found is None or lost is None:
        return None
    room = (_room(case, rings) - _room(case, case.current)) / buffers.BYTES_PER_EVENT
    by_rings = found["lost"]["bursts"] + (found["lost"]["overload"] if found["factor"] < 1 else 0.0)
    return round(max(0.0, lost - by_rings * min(1.0, room / burst)), 2)


def _hot(case: Case) -> bool:
    """Whether one ring loses most of the events."""
    return bool(verdicts.hot_cpus(case.facts, case.current, case.driver))


def _room(case: Case, rings: Buffers) -> int:
    """Bytes of the rings that a burst fills: of all, or of one where one ring loses."""
    return _layout(case, rings)["bytes_each" if _hot(case) else "bytes_total"]


def _saves(case: Case, now: float, then: float) -> bool:
    """Whether losing so many percent less is worth a restart: a share of the loss that can be told from
    noise, or a share of the events."""
    return now - then >= min(LEAST_GAIN, float(case.policy["tolerance_percent"]) / 100.0 * now)


def _worth(case: Case, predicted: float | None) -> str | None:
    """Why a step is not worth a restart by what it should leave lost, or None."""
    lost = case.verdict["drops_percent"]
    if predicted is None or lost is None or _saves(case, lost, predicted):
        return None
    return "about %.3g %% would be lost instead of %.3g %%, which is not worth a restart" % (predicted, lost)


def _split(case: Case) -> Step:
    """Fewer CPUs for each ring, where one ring loses and cannot be larger within the guide's range."""
    group = buffers.effective_cpus(case.current["cpus_for_each_buffer"] or 0, _online(case))
    fixed = case.policy["cpus_for_each_buffer"] != "auto"
    if case.driver != "modern_ebpf" or group < 2 or not _hot(case) or fixed:
        return Step()
    if effects.failed_before("buffers", case.current, case):
        return Step()
    why = "%d CPUs for each buffer: %s" % (group // 2, case.why)
    asked: AskedBuffers = {**case.current, "cpus_for_each_buffer": group // 2, "why": why}
    return Step(
        name="buffers",
        why=case.why,
        expected="the busy CPU shares its ring buffer with half as many others",
        to={"cpus_for_each_buffer": group // 2},
        replaced={"cpus_for_each_buffer": case.current["cpus_for_each_buffer"]},
        buffers=asked,
    )


def _bridged(case: Case, rings: Buffers, rate: float) -> float:
    group = rings["cpus_for_each_buffer"] or 0
    return buffers.seconds_bridged(case.driver, _online(case), rings["buf_size_preset"], group, rate)


def _online(case: Case) -> int:
    return case.facts["cpus"]["online"] or 1


def within_budget(case: Case, step: Step, chosen: ChosenBuffers) -> Step:
    """The step once buffers were chosen: the memory budget may not allow what was asked for, or so little of
    it that it is not worth a restart alone."""
    if step.name != "buffers":
        return step
    current, preset = case.current, chosen["buf_size_preset"]
    if preset > current["buf_size_preset"]:
        rings: Buffers = {"buf_size_preset": preset, "cpus_for_each_buffer": chosen["cpus_for_each_buffer"]}
        step = _to_rings(case, step, rings)
        useless = _worth(case, step.predicted)
        if useless:
            useless = "with preset %d, the largest that range and budget allow, %s" % (preset, useless)
        return step._replace(useless=useless)
    split = "cpus_for_each_buffer" in step.to
    if split and preset == current["buf_size_preset"]:
        return step
    return Step(
        blocked="larger buffers are asked for, but the budget of %s (%s) binds"
        % (bytes_text(chosen["budget"]["bytes"] or 0), chosen["budget"]["bound"]),
        next_step="syscalls",
    )


def not_alone(step: Step) -> Step:
    """What is left of a step that is not worth a restart, where no other one shares it."""
    return Step(blocked=step.useless, next_step="syscalls") if step.useless else step


def _quiet(case: Case) -> float | None:
    """Days without a lost event, where they are as many as policy asks for; else None.

    Falco's clock may have been set: its process is not older than the host says.
    """
    since, days, age = (
        case.facts["metrics"]["since_start"],
        case.policy["quiet_days"],
        case.facts["falco"]["age"],
    )
    if not days or not since or since["drops"] != 0:
        return None
    seconds = since["seconds"] if age is None else min(since["seconds"], age)
    return seconds / 86400.0 if seconds >= days * 86400.0 else None


def _mean_rate(case: Case) -> float | None:
    """Events a second and CPU since Falco's start."""
    since = case.facts["metrics"]["since_start"]
    return since["events"] / since["seconds"] / _online(case) if since else None


def _give_back(case: Case) -> Step:
    """What a host that has been quiet for long no longer needs: memory first, then priority; one a run."""
    days = _quiet(case)
    if days is None:
        return Step()
    why = "not one event was lost in %.3g days" % days
    smaller = _smaller_buffers(case, why)
    return smaller if smaller.name else _less_priority(case, why)


def _comes_back(case: Case, key: str, names: tuple[StepName, ...]) -> bool:
    """Whether a setting was given back before, had to come back, and the load is not smaller than then."""
    rate = _mean_rate(case)
    return any(
        not effects.calmer(rate, item["before"]) for item in effects.had_to_come_back(case, key, names)
    )


def _smaller_buffers(case: Case, why: str) -> Step:
    """Only what exceeds the machine's class, and not below what helped this host under such a load."""
    if case.policy["buf_size_preset"] != "auto" or _comes_back(case, "buf_size_preset", ("buffers",)):
        return Step()
    online, current, rate = _online(case), case.current, _mean_rate(case)
    by_class = buffers.size_class(case.policy["buffer_classes"], online)[case.driver]
    helped = [
        item["to"].get("buf_size_preset", 1)
        for item in effects.attempts(case)
        if item["step"] == "buffers" and not effects.calmer(rate, item["before"])
    ]
    now = current["buf_size_preset"]
    preset = max(by_class, *helped, now - PRESETS_A_STEP)
    if preset >= now:
        return Step()
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


def _less_priority(case: Case, why: str) -> Step:
    """Priority that evidence asked for goes where Falco hardly waits for a CPU: at nice NICE it waits for a
    quarter of what it would at nice 0."""
    given = [item for item in effects.attempts(case) if item["step"] == "priority"]
    names = [name for name in ("CPUWeight", "Nice") if name in case.facts["host"]["unit_dropin"]]
    if not given or not names or given[-1].get("rolled_back"):
        return Step()
    waiting, age = _waited_since_start(case.facts), case.facts["falco"]["age"]
    if waiting is None or not age or 100.0 * waiting / age > UNHURRIED:
        return Step()
    if any(_comes_back(case, name, ("priority",)) for name in names):
        return Step()
    return Step(
        name="give_back",
        why="%s, and Falco waited for a CPU for %.2g %% of the time" % (why, 100.0 * waiting / age),
        expected="Falco competes for the CPU as other services do",
        to=dict.fromkeys(names),
        unit=dict.fromkeys(names),
    )


def _waited_since_start(facts: Facts) -> float | None:
    """Seconds for which the thread that reads events has waited for a CPU since its start."""
    seen = facts["falco"]["cpu"]
    reader = seen["reader"]["total_waiting"]
    return reader if reader is not None or not seen["total"] else seen["total"]["waiting"]


# --- What had no effect


def taking_back(case: Case, step: Step) -> Step:
    """The step, and with it the end of what had no effect before; or that alone, where there is no step.

    What the step itself changes is not taken back: it is another try of the same.
    """
    if case.verdict["state"] not in LOSING:
        return step
    for name in UNDONE:
        if name == "buffers" and case.policy["buf_size_preset"] != "auto":
            continue
        found = effects.in_vain(name, _present(case, name), case)
        if found is None or name == step.name or any(part["step"] == name for part in step.also):
            continue
        step = _with_back(case, step, found)
    return step


def _with_back(case: Case, step: Step, found: effects.Vain) -> Step:
    why = "taken back, since %s" % found.why
    made = step._replace(
        undoes=(*step.undoes, found.step), back="; ".join([item for item in (step.back, why) if item])
    )
    if found.step == "buffers":
        asked: dict[str, Any] = {**case.current, **found.replaced, "why": why}
        made = made._replace(buffers=cast(AskedBuffers, asked))
    else:
        made = made._replace(unit={**found.replaced, **step.unit})
    if step.name:
        return made
    return made._replace(
        name="give_back",
        why=made.back,
        expected="what had no effect costs nothing any more",
        to={**step.to, **found.replaced},
    )


# --- Fewer system calls


def wants_fewer_syscalls(case: Case, first: Step) -> bool:
    """Whether fewer system calls are the next step that evidence asks for, or one that the same restart is to
    carry, and policy and release allow it."""
    if case.policy["syscalls"] == "keep" or not case.release.has("base_syscalls.repair"):
        return False
    if case.verdict["drops_percent"] is None:
        return _certainly_busy(case)
    if case.verdict["state"] not in LOSING:
        return False
    bottlenecks = {case.verdict["bottleneck"], *case.verdict["also"]}
    if first.name:
        # The evidence for both is there: one restart carries both.
        if first.name == "buffers" and first.predicted is not None:
            return first.predicted > float(case.policy["accepted_drops_percent"])
        return first.name in UNDONE and "consumer" in bottlenecks
    if {"starved", "cpu_quota"} & bottlenecks and case.verdict["capacity"]:
        # Fewer events need less of the CPU time that there is no more of.
        return True
    return case.verdict["next_step"] in FEWER and bool({"consumer", "buffer"} & bottlenecks)


def _certainly_busy(case: Case) -> bool:
    """Whether the restart that switches metrics on is to carry a lossless selection: the thread that reads
    events has no idle time, and no neighbours that it waits for."""
    settings = Settings(case.facts["config"]["effective"], case.release)
    off = case.release.metrics and not settings.value("metrics.enabled")
    return bool(off and case.policy["metrics"]) and verdicts.saturated(case.facts, case.policy)


def joined(first: Step, second: Step) -> Step:
    """One step of two that the same restart carries. second: of the system calls."""
    if not first.name or not second.name:
        return second if second.name else first
    return first._replace(
        why="; ".join([first.why, second.why]),
        expected="; ".join([first.expected, second.expected]),
        also=(second.part(second.name),),
        undoes=second.undoes,
        predicted=first.predicted if second.predicted is None else second.predicted,
        calls=second.calls,
        syscalls=second.syscalls,
        settings=(*first.settings, *second.settings),
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
    for attempt in reversed(effects.attempts(case)):
        if attempt.get("profile") and last - attempt["at"] >= apart:
            seen.append(attempt["profile"])
            last = attempt["at"]
    if len(seen) < PROFILES:
        return frozenset()
    return frozenset(
        name for name in profile if all((one.get(name) or 0) >= DOMINANT for one in seen[:PROFILES])
    )


def fewer_syscalls(
    case: Case, first: Step, made: dict[str, Any], current: Mapping[str, Any], share: float | None = None
) -> Step:
    """The step to fewer system calls, or back from one that had no effect.

    Of a host that is not measured yet only the step itself: what blocks it is said once it is.

    first: the step that the same restart carries, if it has a name. made: what syscall_set.choose() proposes.
    current: {'custom_set', 'repair', 'all'} in force. share: of a selection that was reduced before anything
    was measured, its events in those without it.
    """
    useless = _saves_nothing(case, current, share)
    step = _back(case, current, useless) if useless else _fewer_syscalls(case, first, made, current)
    if step.next_step == "overloaded" and case.verdict["next_step"] in ("quota", "priority"):
        # Where CPU time is withheld, to give it stays what is next, whatever else was tried.
        step = step._replace(next_step=None)
    if case.verdict["drops_percent"] is not None:
        return step
    return step._replace(next_step=None) if step.name == "syscalls" and step.settings else Step()


def _fewer_syscalls(case: Case, first: Step, made: dict[str, Any], current: Mapping[str, Any]) -> Step:
    to = {"repair": made["repair"], "custom_set": made["custom_set"]}
    if all(current[name] == value for name, value in to.items()):
        return _no_fewer_syscalls(case, made, current)
    if to in _taken_back(case):
        reason = "system calls were reduced to the same set before, which had no effect and was taken back"
        return Step(blocked=reason, next_step="overloaded", syscalls=made)
    useless = _out_of_reach(case, first, made) or twins.in_vain(case, "syscalls", to)
    if useless:
        return Step(blocked=useless, next_step="overloaded", syscalls=made)
    last: dict[str, Any] = next(
        (item["to"] for item in reversed(effects.attempts(case)) if item["step"] == "syscalls"), {}
    )
    # Exclusions may well help where the lossless set did not: they save other calls.
    if last == to or any(name.startswith("!") for name in last.get("custom_set", [])):
        again = effects.failed_before("syscalls", current, case)
        if again:
            return _back(case, current, again)
    return Step(
        name="syscalls",
        why="; ".join([case.why, *made["reasons"]]),
        expected=_expected_of(made) + _still_lost(case, made),
        predicted=_with_fewer(case, first, made),
        to=to,
        replaced={name: current[name] for name in to},
        settings=wanted_syscalls(made, current),
        syscalls=made,
        next_step="syscalls",
        calls=effects.calls(case.facts),
    )


def _ratio(made: dict[str, Any]) -> float | None:
    """The events after a choice of system calls in those before; None where the volume is unknown."""
    before, after = made["before"]["events_per_second"], made["after"]["events_per_second"]
    return after / before if before and after is not None else None


def _out_of_reach(case: Case, first: Step, made: dict[str, Any]) -> str | None:
    """Why fewer system calls would be a restart for nothing, or None: the load stays too much for one thread,
    and next to nothing less is lost."""
    found, ratio = case.verdict["capacity"], _ratio(made)
    then = _with_fewer(case, first, made)
    if found is None or ratio is None or then is None:
        return None
    lost = case.verdict["drops_percent"] or 0.0
    # A first step that is not worth a restart alone has to be paid for, too.
    paid = first.predicted is not None and not first.useless
    now = first.predicted if first.predicted is not None and paid else lost
    if now - then >= verdicts.LEAST_PART if paid else _saves(case, now, then):
        return None
    return (
        "fewer system calls would save %.3g %% of the events, and the load needs %.3g times a CPU: %.3g %% "
        "would be lost instead of %.3g %%, which is not worth a restart"
        % (100 * (1 - ratio), found["factor"], then, now)
    )


def _with_fewer(case: Case, first: Step, made: dict[str, Any]) -> float | None:
    """Percent that is lost with a choice of system calls, and with the step that the same restart carries."""
    found, ratio = case.verdict["capacity"], _ratio(made)
    if found is None or ratio is None:
        return None
    alone = first.name in ("priority", "quota")
    lasting = capacity.lost_after(found, ratio, alone)
    return round(max(lasting, _bursts_with_fewer(case, first, ratio)), 2)


def _bursts_with_fewer(case: Case, first: Step, ratio: float) -> float:
    """Percent that bursts lose with so much of the events.

    A burst that loses V with rings for R had at least V + R events. With a share r of them it loses
    r (V + R) - R at most.
    """
    found, burst = case.verdict["capacity"], _burst(case)
    if found is None or burst is None or found["factor"] >= 1:
        return 0.0
    lost = found["lost"]["bursts"] + found["lost"]["overload"]
    rings = cast(Buffers, {name: first.to.get(name, value) for name, value in case.current.items()})
    room = _room(case, case.current) / buffers.BYTES_PER_EVENT
    gained = _room(case, rings) / buffers.BYTES_PER_EVENT - room
    left = max(0.0, ratio * (burst + room) - room - gained)
    return lost * left / burst / ratio


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


def _no_fewer_syscalls(case: Case, made: dict[str, Any], current: Mapping[str, Any]) -> Step:
    """What follows where the proposed set is in force already: a profile is kept, or the set is taken back,
    or nothing.
    """
    reasons = ["no fewer system calls within policy", *made["reasons"]]
    if made["unproved"] and made["shares"]:
        kept = [item for item in effects.attempts(case) if item.get("profile")]
        if kept and (case.facts["clock"] or 0.0) - kept[-1]["at"] < case.policy["exclude_hours"] * 3600.0:
            return Step(blocked="; ".join(reasons), syscalls=made)
        return Step(
            name="syscalls",
            why=made["unproved"],
            expected="nothing changes: the host's record keeps the profile",
            to={name: current[name] for name in ("repair", "custom_set")},
            replaced={name: current[name] for name in ("repair", "custom_set")},
            syscalls=made,
        )
    again = effects.failed_before("syscalls", current, case)
    if again:
        return _back(case, current, again)
    if case.policy["syscalls"] != "exclude":
        reasons.append("falco_tune_syscalls: exclude would let rules go blind for it")
    return Step(blocked="; ".join(reasons), syscalls=made)


def _saves_nothing(case: Case, current: Mapping[str, Any], share: float | None) -> str | None:
    """Why a selection that was reduced before anything was measured goes, or None: next to nothing more would
    be lost without it. Its restart is paid, and to take it back is another one: whatever it saves, stays."""
    last, found = effects.unmeasured("syscalls", current, case), case.verdict["capacity"]
    if last is None or not share or found is None:
        return None
    now, then = (capacity.lost_after(found, ratio) for ratio in (1.0, 1.0 / share))
    if then - now >= verdicts.LEAST_PART:
        return None
    return (
        "%s of %s, made before anything was measured, saves %.3g %% of the events: %.3g %% would be lost "
        "without it, and %.3g %% are with it"
        % (effects.told(last), effects.day(last["at"]), 100 * (1 - share), then, now)
    )


def _taken_back(case: Case) -> list[dict[str, Any]]:
    """Sets of system calls that had no effect on this host under such a load, and were taken back."""
    return [
        item["replaced"]
        for item in effects.attempts(case)
        if "syscalls" in item.get("undoes", [])
        and "custom_set" in item.get("replaced", {})
        and not effects.busier(case, item["before"])
    ]


def _back(case: Case, current: Mapping[str, Any], why: str) -> Step:
    """The step back to the system calls before a step that had no effect or has expired."""
    last = next((item for item in reversed(effects.attempts(case)) if item["step"] == "syscalls"), None)
    before: dict[str, Any] = (last or {}).get("replaced") or {}
    if not before or all(current[name] == before[name] for name in before):
        return Step(blocked=why, next_step="overloaded")
    return Step(
        name="give_back",
        why=why,
        expected="the rules see again what they saw before that step",
        to=dict(before),
        replaced={name: current[name] for name in before},
        settings=tuple(
            Setting("base_syscalls." + name, before[name], "taken back: %s" % why)
            for name in ("repair", "custom_set")
            if before[name] != current[name]
        ),
        next_step="overloaded",
        undoes=("syscalls",),
    )


def expired_exclusions(case: Case, current: Mapping[str, Any]) -> Step:
    """The step that takes exclusions back which evidence asked for quiet_days ago, on a host that does not
    lose events now.
    """
    days, last = (
        case.policy["quiet_days"],
        next((item for item in reversed(effects.attempts(case)) if item["step"] == "syscalls"), None),
    )
    if not last or not days or case.verdict["state"] not in ("healthy", "acceptable"):
        return Step()
    excluded = [name for name in last["to"].get("custom_set") or [] if name.startswith("!")]
    in_force = all(current.get(name) == value for name, value in last["to"].items())
    if not excluded or not in_force or (case.facts["clock"] or 0.0) - last["at"] < days * 86400.0:
        return Step()
    why = "%s was excluded on %s and is tried again after falco_tune_quiet_days" % (
        ", ".join(name[1:] for name in excluded),
        effects.day(last["at"]),
    )
    return _back(case, current, why)._replace(next_step=None, undoes=())


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
