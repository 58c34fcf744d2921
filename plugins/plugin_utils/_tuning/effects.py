# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was tried on a host before, what came of it, and whether the load is another one since. Pure.

A step had no effect where the host loses as much as before, under a load that is not larger. It is then taken
back, and not tried again until the load has changed: the events a second while events are lost differ by more
than the factor COMPARABLE from those of each time at which the step was in vain. A step that was rolled back
is not tried again under the same release.

Losses are compared for the time in which events are lost, where it is known: a minute after a change may have
one burst, and the hour before it one in ten minutes. They are compared at the load of now: what was taken in
of a load is taken in of one that is a fifth larger, too, and the rest of it is lost.
"""

from __future__ import annotations

import datetime
import itertools
from typing import Any, Mapping, NamedTuple

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import (
    Attempt,
    Before,
    Buffers,
    Capacity,
    Facts,
    Policy,
    StepName,
    StepOutcome,
    Verdict,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.releases import Release

# Loads that differ by more than this factor are not compared.
COMPARABLE = 1.5
# Of what a step was predicted to save, the share from which it came as predicted.
MOST_OF_IT = 0.5


class Case(NamedTuple):
    """What is known of one host when its step is chosen.

    verdict: as judge() made it, or steps.merged() with an earlier step. current: the buffer settings in
    force. twins: what steps came to on hosts like this one, a list for each of them.
    """

    facts: Facts
    policy: Policy
    release: Release
    verdict: Verdict
    driver: str
    current: Buffers
    twins: tuple[list[StepOutcome], ...] = ()

    @property
    def why(self) -> str:
        """The reason that the verdict names last: the one that asks for the step."""
        return self.verdict["reasons"][-1]


def measured(verdict: Verdict | None) -> Before | None:
    """What a verdict measured, as a host's record keeps it with a step; None where nothing was measured."""
    if verdict is None or verdict["drops_percent"] is None:
        return None
    found, lost = verdict["capacity"], verdict["drops_percent"]
    return {
        "state": verdict["state"],
        "drops_percent": lost,
        "rate_per_cpu": verdict["rate_per_cpu"],
        "bottleneck": verdict["bottleneck"],
        "demand": found["demand"] if found else None,
        "losing_percent": _losing_percent(found, lost) if found else None,
    }


def _losing_percent(found: Capacity, lost: float) -> float:
    """Percent lost in the time in which events are lost: with a share of a CPU a thread takes in share /
    factor of the events. Both are rounded: with less than a percent between them the time is the same."""
    then = max(0.0, 100.0 - found["on"] / found["factor"]) if found["factor"] else lost
    return lost if abs(then - lost) < 1.0 else round(then, 3)


def attempts(case: Case) -> list[Attempt]:
    """What was changed by evidence on this host under this release, oldest first."""
    record = case.facts["host"]["record"]
    return [item for item in record["attempts"] if item["release"] == str(case.release)] if record else []


def day(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.timezone.utc).strftime("%Y-%m-%d")


def told(attempt: Attempt) -> str:
    return "%s %s" % (attempt["step"], values(attempt))


def values(attempt: Attempt) -> str:
    """What a step set, in words. A set of system calls can have some hundred names."""
    return ", ".join(
        "%s of %d entries" % (name, len(value)) if isinstance(value, list) else "%s %s" % (name, value)
        for name, value in sorted(attempt["to"].items())
    )


# --- Loads


def _ratio(now: Before | None, was: Before | None) -> float | None:
    """The load now in that of an earlier time; None where it is not known of both."""
    if now is None or was is None:
        return None
    if now["demand"] and was["demand"]:
        return now["demand"] / was["demand"]
    if now["rate_per_cpu"] and was["rate_per_cpu"]:
        return now["rate_per_cpu"] / was["rate_per_cpu"]
    return None


def alike(now: Before | None, demand: float | None, rate_per_cpu: float | None) -> bool:
    """Whether the load on another host was within COMPARABLE of what it is here. An unknown load counts as
    the same."""
    for here, there in ((now and now["demand"], demand), (now and now["rate_per_cpu"], rate_per_cpu)):
        if here and there:
            return 1 / COMPARABLE <= here / there <= COMPARABLE
    return True


def busier(case: Case, was: Before | None) -> bool:
    """Whether the load is larger than when a step was tried, so that its effect then says nothing."""
    ratio = _ratio(measured(case.verdict), was)
    return ratio is not None and ratio > COMPARABLE


def calls(facts: Facts) -> float | None:
    """System calls a second that the kernel counted, whatever Falco watches; None where it was not asked."""
    profile = facts["syscalls"]["profile"] if facts["syscalls"] else None
    if not profile or not profile["counts"] or not profile["seconds"]:
        return None
    counted: dict[str, int] = profile["counts"]
    return round(sum(counted.values()) / float(profile["seconds"]), 1)


class Look(NamedTuple):
    """What was measured at one time. calls: system calls a second that the kernel counted, where it did.
    changes: attempts of the changes between an attempt, its own included, and this time."""

    measured: Before
    calls: float | None
    changes: list[Attempt]


def _since(case: Case, attempt: Attempt) -> list[Attempt]:
    """Attempts of the same change and of later ones, in the order in which they were made: a clock may
    jump."""
    return list(itertools.dropwhile(lambda one: one["at"] != attempt["at"], attempts(case)))


def _next_look(case: Case, attempt: Attempt) -> Look | None:
    """What was measured before the next change after an attempt."""
    since = _since(case, attempt)
    own = list(itertools.takewhile(lambda one: one["at"] == attempt["at"], since))
    following = since[len(own)] if len(since) > len(own) else None
    if following is None or following["before"] is None:
        return None
    return Look(following["before"], following.get("calls"), own)


def _growth(attempt: Attempt, look: Look) -> float:
    """The load at a look in that before an attempt. 1 where it is not known.

    A selection changes what Falco counts, so where one was made since, the kernel's count of the calls is
    taken.
    """
    selected = any(one["step"] == "syscalls" or "syscalls" in one.get("undoes", []) for one in look.changes)
    if selected:
        then = attempt.get("calls")
        return look.calls / then if then and look.calls else 1.0
    return _ratio(look.measured, attempt["before"]) or 1.0


def calmer(rate_per_cpu: float | None, was: Before | None) -> bool:
    """Whether events a second and CPU are fewer than then, by more than what counts as the same load."""
    then = was["rate_per_cpu"] if was else None
    return rate_per_cpu is not None and then is not None and COMPARABLE * rate_per_cpu < then


def _same_load(case: Case, *times: Before | None) -> bool:
    """Whether the load is within COMPARABLE of what it was at these times, or between them. An unknown load
    counts as the same."""
    now = measured(case.verdict)
    ratios = [ratio for was in times if (ratio := _ratio(now, was)) is not None]
    return not ratios or (min(ratios) <= COMPARABLE and max(ratios) >= 1 / COMPARABLE)


# --- Effects


def _losses(now: Before, was: Before) -> tuple[float, float]:
    """(percent lost then, percent lost now), of comparable times."""
    if was["losing_percent"] is not None and now["losing_percent"] is not None:
        return was["losing_percent"], now["losing_percent"]
    return was["drops_percent"] or 0.0, now["drops_percent"] or 0.0


def _in_vain(case: Case, attempt: Attempt) -> bool:
    """Whether what is in force since this attempt is known to have had no effect."""
    was, now = attempt["before"], measured(case.verdict)
    if not was or not was["drops_percent"] or now is None or busier(case, was):
        return False
    growth = _growth(attempt, Look(now, calls(case.facts), _since(case, attempt)))
    if growth > COMPARABLE or _had_its_effect(case, attempt, was):
        return False
    if _less_lost(case, was, now, growth):
        return False
    return not _as_predicted(attempt, _at(was["drops_percent"], growth), now["drops_percent"] or 0.0, growth)


def _less_lost(case: Case, was: Before, since: Before, growth: float) -> bool:
    """Whether less is lost, by a share that can be told from noise, than the load alone explains."""
    lost, now = _losses(since, was)
    expected = _at(lost, growth)
    return expected - now >= float(case.policy["tolerance_percent"]) / 100.0 * expected > 0


def _had_its_effect(case: Case, attempt: Attempt, was: Before) -> bool:
    """Whether less was lost when the host was looked at next, before another step.

    What later steps save or cost is not put down to this one.
    """
    look = _next_look(case, attempt)
    if look is None:
        return False
    growth = _growth(attempt, look)
    return growth <= COMPARABLE and _less_lost(case, was, look.measured, growth)


def came_to(case: Case, attempt: Attempt) -> tuple[bool, float] | None:
    """(whether less was lost after a step, percent that was lost then); None where that can't be told."""
    was, now = attempt["before"], measured(case.verdict)
    if not was or not was["drops_percent"]:
        return None
    look = _next_look(case, attempt)
    if look is None and _since(case, attempt)[-1]["at"] == attempt["at"] and now is not None:
        look = Look(now, calls(case.facts), _since(case, attempt))
    if look is None:
        return None
    growth = _growth(attempt, look)
    if growth > COMPARABLE:
        return None
    return _less_lost(case, was, look.measured, growth), look.measured["drops_percent"] or 0.0


def _at(lost: float, growth: float) -> float:
    """Percent that is lost of a load that is `growth` times as large, where as much is taken in."""
    return 100.0 * max(0.0, 1.0 - (1.0 - lost / 100.0) / growth)


def _as_predicted(attempt: Attempt, then: float, since: float, growth: float) -> bool:
    """Whether a step that was to save little has saved most of that."""
    predicted = attempt.get("predicted")
    return predicted is not None and then - since >= MOST_OF_IT * (then - _at(predicted, growth)) > 0


def _without_effect(case: Case, attempt: Attempt) -> str:
    was, now = attempt["before"], measured(case.verdict)
    then, since = _losses(now, was) if was and now else (0.0, 0.0)
    return "%s of %s had no effect (%.3g %% lost before, %.3g %% since)" % (
        told(attempt),
        day(attempt["at"]),
        then,
        since,
    )


def _real(case: Case, name: StepName) -> list[Attempt]:
    """Attempts of one step that changed something: one that only kept a profile changed nothing."""
    return [item for item in attempts(case) if item["step"] == name and item.get("replaced") != item["to"]]


def failed_before(name: StepName, present: Mapping[str, Any], case: Case) -> str | None:
    """Why a step is not proposed again, or None: it is in force and had no effect, it was taken back for
    that under such a load, or it was rolled back.

    present: the values in force that the step would change.
    """
    tried = _real(case, name)
    if not tried:
        return None
    last = tried[-1]
    if last.get("rolled_back"):
        return "%s was tried on %s and rolled back" % (told(last), day(last["at"]))
    # Of system calls one set may be in vain and another one help: steps.fewer_syscalls() compares them.
    undone = None if name == "syscalls" else taken_back(case, name)
    if undone is not None:
        return undone
    in_force = all(present.get(key) == value for key, value in last["to"].items())
    return _without_effect(case, last) if in_force and _in_vain(case, last) else None


def taken_back(case: Case, name: StepName) -> str | None:
    """Why a step that was taken back is not tried again, or None: the load is such as it was in vain for."""
    found = attempts(case)
    for position, item in enumerate(found):
        following = found[position + 1 :]
        # The nearest attempt before a take-back is the one that it speaks of. Their order is that of the
        # record: a clock may jump.
        back = next((one for one in following if one["step"] == name or name in one.get("undoes", [])), None)
        if item["step"] != name or back is None or name not in back.get("undoes", []):
            continue
        if _same_load(case, item["before"], back["before"]):
            return "%s of %s had no effect and was taken back on %s, under such a load" % (
                told(item),
                day(item["at"]),
                day(back["at"]),
            )
    return None


def unmeasured(name: StepName, present: Mapping[str, Any], case: Case) -> Attempt | None:
    """The last attempt of a step, where it is in force and nothing had been measured before it."""
    tried = _real(case, name)
    last = tried[-1] if tried else None
    if last is None or last.get("rolled_back") or last["before"] or not last.get("replaced"):
        return None
    return last if all(present.get(key) == value for key, value in last["to"].items()) else None


class Vain(NamedTuple):
    """A step in force that had no effect. replaced: the values before it."""

    step: StepName
    replaced: dict[str, Any]
    why: str


def in_vain(name: StepName, present: Mapping[str, Any], case: Case) -> Vain | None:
    """The last attempt of a step, where it is in force, had no effect, and can be taken back."""
    tried = _real(case, name)
    if not tried or tried[-1].get("rolled_back"):
        return None
    last = tried[-1]
    since = itertools.takewhile(lambda one: one is not last, reversed(attempts(case)))
    if any(name in one.get("undoes", []) for one in since):
        return None  # that made it worse, and was rolled back
    replaced: dict[str, Any] = last.get("replaced") or {}
    if not replaced or any(present.get(key) != value for key, value in last["to"].items()):
        return None
    return Vain(name, replaced, _without_effect(case, last)) if _in_vain(case, last) else None


def had_to_come_back(case: Case, key: str, steps: tuple[StepName, ...]) -> list[Attempt]:
    """Times at which a setting was given back on a quiet host, and evidence asked for it again later."""
    found = attempts(case)
    return [
        item
        for position, item in enumerate(found)
        if item["step"] == "give_back"
        and not item.get("undoes")
        and key in item["to"]
        and any(one["step"] in steps and key in one["to"] for one in found[position + 1 :])
    ]
