# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What steps came to on hosts that are alike, and what a plan takes from that. Pure.

Twins have the same driver, number of CPUs, release and rules. An audit keeps what the steps of each host came
to in the history. A plan for a twin with the same bottleneck and a comparable load then

    leaves a step out   that was in vain on MIN_TWINS of them at least, and on twice as many as it helped
    begins with rings   that helped MIN_TWINS of them at least (the median), where they are larger than its
                        own evidence asks for, within the budget
    says                how far predictions of that step were off

Nothing is made smaller, and nothing that Falco sees is given up, because of other hosts. One host says
nothing: its record may be wrong.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import Facts, StepName, StepOutcome
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import effects
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning.effects import Case
from ansible_collections.falcotune.fleet.plugins.plugin_utils._untrusted import (
    count,
    flag,
    listed,
    number,
    table,
    text,
    word,
)

MIN_TWINS = 3
# What happened longer ago is not what happens now, seconds.
LASTS = 90 * 86400
# Steps of one host that are kept, the newest, and hosts that are asked.
MOST_STEPS = 8
MOST_TWINS = 200

STEPS: tuple[StepName, ...] = ("priority", "quota", "buffers", "syscalls")
CHECK = listed(
    table(
        at=number,
        step=word(*STEPS, instead="buffers"),
        against=text,
        to=text,
        preset=count,
        demand=number,
        rate_per_cpu=number,
        worked=flag,
        error=number,
    ),
    MOST_STEPS,
)


def key(facts: Facts) -> str | None:
    """The same text for hosts that are alike; None where one of what makes them so is not known."""
    parts = (
        facts["driver"]["kind"],
        facts["cpus"]["online"],
        facts["falco"]["version"],
        facts["metrics"]["ruleset"],
    )
    return None if None in parts else "/".join(map(str, parts))


def outcomes(case: Case) -> list[StepOutcome]:
    """What the steps that were taken on this host came to, where that can be told."""
    found = []
    for attempt in effects.attempts(case):
        was = attempt["before"]
        came = effects.came_to(case, attempt) if attempt["step"] in STEPS else None
        if was is None or came is None or attempt.get("replaced") == attempt["to"]:
            continue
        worked, lost = came
        predicted = attempt.get("predicted")
        outcome: StepOutcome = {
            "at": attempt["at"],
            "step": attempt["step"],
            "against": was["bottleneck"],
            "to": digest(attempt["to"]),
            "preset": attempt["to"].get("buf_size_preset"),
            "demand": was["demand"],
            "rate_per_cpu": was["rate_per_cpu"],
            "worked": worked and not attempt.get("rolled_back"),
            "error": None if predicted is None else round(abs(lost - predicted), 2),
        }
        found.append(outcome)
    return found[-MOST_STEPS:]


def digest(to: Mapping[str, Any]) -> str:
    """The same text for steps that set the same values."""
    return hashlib.sha256(json.dumps(to, sort_keys=True).encode("utf-8")).hexdigest()[:12]


def _of(case: Case, step: str) -> Iterable[StepOutcome]:
    """What the last such step came to on each twin with this bottleneck and such a load, not too long ago."""
    now, like = effects.measured(case.verdict), (step, case.verdict["bottleneck"])
    since = (case.facts["clock"] or 0.0) - LASTS
    for host in case.twins:
        found = [
            item for item in host if (item["step"], item["against"]) == like and (item["at"] or 0.0) >= since
        ]
        if found and effects.alike(now, found[-1]["demand"], found[-1]["rate_per_cpu"]):
            yield found[-1]


def in_vain(case: Case, step: StepName, to: Mapping[str, Any]) -> str | None:
    """Why a step is left out: it had no effect on twins."""
    wanted = digest(to)
    same = [item["worked"] for item in _of(case, step) if item["to"] == wanted]
    vain = same.count(False)
    if vain < MIN_TWINS or vain <= 2 * same.count(True):
        return None
    return (
        "%s had no effect on %d of %d hosts with the same driver, CPUs, release and rules, under such a load"
        % (step, vain, len(same))
    )


def preset(case: Case) -> int | None:
    """The preset that helped twins; None where it helped too few."""
    helped = [item["preset"] for item in _of(case, "buffers") if item["worked"] and item["preset"]]
    return statistics.median_low(helped) if len(helped) >= MIN_TWINS else None


def errors(case: Case, step: StepName) -> str:
    """How far predictions of such a step were off on twins, as a part of a sentence; '' where few tell."""
    known = [item["error"] for item in _of(case, step) if item["error"] is not None]
    if len(known) < MIN_TWINS:
        return ""
    return "; on %d hosts like it such predictions were off by %.3g percentage points (median)" % (
        len(known),
        statistics.median(known),
    )
