# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""verdict + facts + policy → the one rung to climb now, with its reason and its expected effect. Pure.

A host that was never measured gets buffers for its size. A measured one is changed by evidence only: CPU priority where
Falco is starved, its quota where that throttles it (by policy), buffers where buffers are the bottleneck. What was tried
on this host and did nothing, or was rolled back, is not proposed again.
"""

from __future__ import annotations

import datetime

from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import buffers, verdicts

JUDGED = ("healthy", "acceptable", "dropping", "overloaded")

# The nice value at which a starved Falco was measured to lose nothing.
NICE = -10
# One preset doubles a ring: two steps make a difference that can be told from noise, within the guide's range.
PRESETS_A_RUNG = 2
# Loads that differ by more than this are not compared.
COMPARABLE = 1.5


def weight_of(nice):
    """The CPUWeight that competes like a nice value: each step is a factor of 1.25, 100 is nice 0 (kernel/sched/core.c)."""
    return max(1, min(10000, round(100 * 1.25**-nice)))


def _attempts(facts, release):
    """What was changed by evidence on this host under this release, oldest first."""
    record = (facts.get("host") or {}).get("record") or {}
    return [item for item in record.get("attempts") or [] if item.get("release") == str(release)]


def _day(at):
    return datetime.datetime.fromtimestamp(at, datetime.timezone.utc).strftime("%Y-%m-%d")


def failed_before(step, present, facts, release, verdict, policy):
    """Why a step is not proposed again: it was tried, is in force, and did nothing; or it was rolled back. Else None.

    present: the values in force that the step would change.
    """
    tried = [item for item in _attempts(facts, release) if item.get("step") == step]
    if not tried:
        return None
    last = tried[-1]
    if last.get("rolled_back"):
        return "%s was tried on %s and rolled back" % (_said(last), _day(last["at"]))
    if any(present.get(name) != value for name, value in last["to"].items()):
        return None
    was, now = last["before"], verdict
    if not was.get("drops_percent") or (now["rate_per_cpu"] or 0) > COMPARABLE * (
        was.get("rate_per_cpu") or 0
    ):
        return None
    if (
        was["drops_percent"] - now["drops_percent"]
        >= policy["tolerance_percent"] / 100.0 * was["drops_percent"]
    ):
        return None
    return "%s of %s did nothing (%.3g %% lost before, %.3g %% since)" % (
        _said(last),
        _day(last["at"]),
        was["drops_percent"],
        now["drops_percent"],
    )


def _said(attempt):
    return "%s %s" % (attempt["step"], ", ".join("%s %s" % item for item in sorted(attempt["to"].items())))


def kept_unit_settings(facts, policy):
    """What our drop-in of the unit holds already and policy still allows."""
    held = dict((facts.get("host") or {}).get("unit_dropin") or {})
    kept = {}
    nice, weight = _int(held.get("Nice")), _int(held.get("CPUWeight"))
    if policy["priority"] and nice is not None and policy["nice_ceiling"] < 0:
        kept["Nice"] = max(nice, policy["nice_ceiling"])
    if policy["priority"] and weight is not None and policy["cpu_weight_ceiling"] > 100:
        kept["CPUWeight"] = min(weight, policy["cpu_weight_ceiling"])
    if policy["unthrottle"] and "CPUQuota" in held:
        kept["CPUQuota"] = held["CPUQuota"]
    return kept


def _int(text):
    try:
        return int(text)
    except (TypeError, ValueError):
        return None


class Rung:
    """step: None, 'priority', 'quota', 'buffers', 'give_back' or 'syscalls'; unit: lines for the drop-in.

    buffers: what choose() is to take as asked, or None: by the machine's size. syscalls: what syscall_set.choose() returned, or
    None. why, expected: for people. to: what is recorded of the attempt.
    """

    def __init__(self, verdict):
        self.verdict = verdict
        self.step = self.buffers = self.syscalls = self.why = self.expected = None
        self.unit = {}
        self.to = {}

    def blocked(self, reason, step=None):
        """The next rung can't be climbed here: say why, and what is next after it."""
        self.step = self.why = self.expected = None
        self.verdict["reasons"].append(reason)
        if step:
            self.verdict.update(next_step=step, advice=verdicts.STEPS[step])


def climb(facts, policy, release, verdict, driver, current, measuring):
    """The Rung for one host. current: {'buf_size_preset', 'cpus_for_each_buffer'} in force.

    measuring: Falco's metrics are on already; a host that is young is then waited for, not given buffers by its size.
    Changes `verdict` where a rung is blocked.
    """
    rung = Rung(verdict)
    # Drop alerts alone are no measurement: they say nothing of the rest of the time.
    judged = verdict["state"] in JUDGED and verdict["drops_percent"] is not None
    if judged or measuring:
        rung.buffers = dict(current, why="kept: nothing measured asks for a change")
    if verdict["state"] == "dropping":
        climber = {"starved": _priority, "cpu_quota": _quota, "buffer": _buffers}.get(verdict["bottleneck"])
        if climber:
            climber(rung, facts, policy, release, driver, current)
    elif verdict["state"] == "healthy":
        _give_back(rung, facts, policy, release, driver, current)
    return rung


def _priority(rung, facts, policy, release, driver, current):
    """CPUWeight= among cgroups, where the kernel weighs them or would; Nice= among the processes of one.

    A service is a session of its own: where autogroup is on and no cgroup is weighed, its nice value counts for nothing.
    """
    group = (facts.get("service") or {}).get("cgroup") or {}
    nice, weight = facts["falco"].get("nice") or 0, group.get("weight")
    floor = policy["nice_ceiling"] if policy["priority"] else 0
    top = policy["cpu_weight_ceiling"] if policy["priority"] else 100
    target = max(floor, NICE if nice > NICE else floor)
    wanted = {}
    if group.get("weighable") and min(top, weight_of(target)) > (weight or 100):
        wanted["CPUWeight"] = min(top, weight_of(target))
    counts = weight is None and not (facts.get("kernel") or {}).get("autogroup")
    if target < nice and (wanted or counts):
        wanted["Nice"] = target
    again = failed_before(
        "priority", {"Nice": nice, "CPUWeight": weight}, facts, release, rung.verdict, policy
    )
    if again:
        rung.blocked(
            again + ": its neighbours may be in another slice, or have a higher priority", "overloaded"
        )
        return
    if not wanted:
        has = "nice %d%s" % (nice, "" if weight is None else ", CPUWeight %d" % weight)
        if floor >= 0 and (top <= 100 or not group.get("weighable")):
            rung.blocked(
                "policy allows no CPU priority (falco_tune_priority, falco_tune_nice_ceiling, falco_tune_cpu_weight_ceiling)"
            )
        elif target < nice:
            rung.blocked(
                "Falco has %s, and a nice value counts for nothing here: autogroup is on and no cgroup is weighed (is "
                "falco_tune_cpu_weight_ceiling 100, or the cpu controller missing?)" % has
            )
        else:
            rung.blocked(
                "Falco has the priority that policy allows (%s) and still waits for a CPU" % has, "overloaded"
            )
        return
    seen = verdicts.schedule(facts)
    rung.step, rung.unit, rung.to = "priority", wanted, dict(wanted)
    rung.why = rung.verdict["reasons"][-1]
    rung.expected = (
        "a Falco that lost 84 %% at nice 0 lost nothing at nice -10 (measured); it may cost the applications up to the "
        "%.3g %% of one CPU that Falco waits for now" % min(100.0, seen["waiting"] or 0)
    )


def _quota(rung, facts, policy, release, driver, current):
    service = facts.get("service") or {}
    quota = service["limits"]["cpu_quota"]
    if not policy["unthrottle"]:
        rung.blocked("CPUQuota is somebody's choice: falco_tune_unthrottle: true takes it away")
        return
    again = failed_before("quota", {"CPUQuota": ""}, facts, release, rung.verdict, policy)
    if again:
        rung.blocked(again)
        return
    rung.step, rung.unit, rung.to = "quota", {"CPUQuota": ""}, {"CPUQuota": ""}
    rung.why = rung.verdict["reasons"][-1]
    rung.expected = (
        "Falco may use a whole CPU instead of %.10g %% of one; the applications lose what it takes" % quota
    )


def guide_top(driver, policy):
    """The largest preset that the policy's classes name for a driver: the upper end of the guide's range."""
    return max(item[driver] for item in policy["buffer_classes"])


def _fixed(rung, policy):
    if policy["buf_size_preset"] != "auto":
        rung.buffers = None
        return True
    return False


def _buffers(rung, facts, policy, release, driver, current):
    if _fixed(rung, policy):
        rung.blocked(
            "the preset is set by policy (falco_tune_buf_size_preset: %s)" % policy["buf_size_preset"],
            "syscalls",
        )
        return
    now, top = current["buf_size_preset"], guide_top(driver, policy)
    if now >= top:
        rung.blocked(
            "preset %d is the upper end of the guide's range for %s already" % (now, driver), "syscalls"
        )
        return
    again = failed_before("buffers", current, facts, release, rung.verdict, policy)
    if again:
        rung.blocked(again, "syscalls")
        return
    preset = min(top, now + PRESETS_A_RUNG)
    rung.step, rung.why = "buffers", rung.verdict["reasons"][-1]
    rung.buffers = dict(current, buf_size_preset=preset, why="preset %d: %s" % (preset, rung.why))
    _expect(rung, facts, driver, current)


def _expect(rung, facts, driver, current):
    online, rate = facts["cpus"]["online"], max(rung.verdict["rate_per_cpu"] or 0, 1)
    asked = rung.buffers
    before, after = (
        buffers.seconds_bridged(
            driver, online, item["buf_size_preset"], item["cpus_for_each_buffer"] or 0, rate
        )
        for item in (current, asked)
    )
    rung.to = {"buf_size_preset": asked["buf_size_preset"]}
    rung.expected = (
        "a stall or burst of %.3g times the length is bridged: %.3g s instead of %.3g s at the mean rate measured"
        % (after / before, after, before)
    )


def risen(rung, chosen, current):
    """Called once buffers were chosen: the budget may not allow what was asked."""
    if rung.step == "buffers":
        if chosen["buf_size_preset"] <= current["buf_size_preset"]:
            rung.blocked(
                "larger buffers are asked for, but the budget of %s (%s) binds"
                % (buffers.human(chosen["budget"]["bytes"]), chosen["budget"]["bound"]),
                "syscalls",
            )
        else:
            rung.to = {"buf_size_preset": chosen["buf_size_preset"]}


# What a verdict says next where fewer system calls may be the cure: `overloaded` and `upgrade` where they were narrowed already.
FEWER = ("syscalls", "overloaded", "upgrade")
LOSING = ("dropping", "overloaded")
# Falco's thread is to use no more of its CPU than this share of what it could take in when it lost events.
HEADROOM = 0.9


def fewer_syscalls(rung, policy, release):
    """Whether the rules and the volume of the host's system calls are worth a look: a trip that only such hosts pay."""
    verdict = rung.verdict
    return (
        rung.step is None
        and verdict["state"] in LOSING
        and verdict["next_step"] in FEWER
        and verdict["bottleneck"] in ("consumer", "buffer")
        and policy["syscalls"] != "keep"
        and release.has("base_syscalls.repair")
    )


def target_of(window):
    """Events a second that this Falco can take in: what it did not lose, less some headroom."""
    if not window.get("seconds") or window.get("events") is None:
        return None
    return HEADROOM * (window["events"] - (window.get("drops") or 0)) / window["seconds"]


def narrow(rung, facts, release, policy, made, current):
    """The rung of fewer system calls. made: what syscall_set.choose() proposes. current: {'custom_set', 'repair', 'all'} in force."""
    to = {"repair": made["repair"], "custom_set": made["custom_set"]}
    rung.syscalls = made
    if all(current[name] == value for name, value in to.items()):
        more = (
            []
            if policy["syscalls"] == "exclude"
            else ["falco_tune_syscalls: exclude would let rules go blind for it"]
        )
        rung.verdict["reasons"].append(
            "; ".join(["no fewer system calls within policy"] + made["reasons"] + more)
        )
        return
    last = next(
        (item["to"] for item in reversed(_attempts(facts, release)) if item.get("step") == "syscalls"), {}
    )
    # Exclusions may well help where repair did not: they save other calls.
    if last == to or any(name.startswith("!") for name in last.get("custom_set") or []):
        again = failed_before("syscalls", current, facts, release, rung.verdict, policy)
        if again:
            rung.blocked(again, "overloaded")
            rung.syscalls = None
            return
    rung.verdict.update(next_step="syscalls", advice=verdicts.STEPS["syscalls"])
    rung.step, rung.to = "syscalls", to
    rung.why = "; ".join([rung.verdict["reasons"][-1]] + made["reasons"])
    before, after = made["before"], made["after"]
    rung.expected = "%d instead of %d system calls%s; %s" % (
        after["syscalls"],
        before["syscalls"],
        ""
        if after["events_per_second"] is None
        else ", %.0f instead of %.0f events/s (%s)"
        % (
            after["events_per_second"],
            before["events_per_second"],
            "by a profile of the host"
            if made["basis"] == "profile"
            else "estimated from what was lost of each kind",
        ),
        blind_text(made["coverage"]),
    )


def blind_text(found):
    """Which rules a selection costs, in one clause."""
    if not found["newly"]:
        return "no rule loses anything"
    return "%d of %d rules see less: %s" % (
        len(found["newly"]),
        found["rules_total"],
        ", ".join(found["newly"]),
    )


def _give_back(rung, facts, policy, release, driver, current):
    """Down, slowly: only what is larger than the machine's class, never below what once cured this host."""
    since = (facts.get("metrics") or {}).get("since_start") or {}
    seconds = policy["quiet_days"] * 86400.0
    if (
        _fixed(rung, policy)
        or not seconds
        or since.get("drops") != 0
        or (since.get("seconds") or 0) < seconds
    ):
        return
    online = facts["cpus"]["online"]
    machine = max(
        (item for item in policy["buffer_classes"] if item["min_cpus"] <= online),
        key=lambda item: item["min_cpus"],
    )
    cured = [
        item["to"].get("buf_size_preset", 1)
        for item in _attempts(facts, release)
        if item.get("step") == "buffers"
    ]
    floor = max([machine[driver]] + cured)
    now = current["buf_size_preset"]
    preset = max(floor, now - PRESETS_A_RUNG)
    if preset >= now:
        return
    rung.step = "give_back"
    rung.why = "not one event was lost in %.3g days" % (since["seconds"] / 86400.0)
    rung.buffers = dict(
        current,
        buf_size_preset=preset,
        why="preset %d instead of %d: %s, so memory is given back" % (preset, now, rung.why),
    )
    rung.to = {"buf_size_preset": preset}
    group = current["cpus_for_each_buffer"]
    saved = (
        buffers.layout(driver, online, now, group)["bytes_total"]
        - buffers.layout(driver, online, preset, group)["bytes_total"]
    )
    rung.expected = "%s of memory are given back" % buffers.human(saved)
