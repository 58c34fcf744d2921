# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of the report model, and the checks that make the data of a host fit into it.

A result is data from hosts: any key may be missing, any value of the wrong type, any text hostile. What fits
is kept, all else becomes null. So every form of the report can rely on docs/report-1.schema.json, and none
checks again. Texts keep their characters here: each form makes harmless what is dangerous in it.
"""

from __future__ import annotations

import datetime
import re
from typing import Any, cast

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import CHANGE_KINDS
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rollout import batching
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import coverage
from ansible_collections.falcotune.fleet.plugins.plugin_utils._trial import comparisons, outcomes, tests
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import (
    answers,
    capacity,
    twins,
    verdicts,
    windows,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._untrusted import (
    Check,
    always,
    anything,
    count,
    counts,
    dictionary,
    flag,
    key,
    listed,
    maybe_flag,
    number,
    signed,
    table,
    text,
    word,
)

SCHEMA_VERSION = 1
# Parts of a host that no report shows: what the next audit and the plans of hosts like it need.
OF_HISTORY = ("snapshot", "twin")
# Worst first.
LEVELS = ("error", "warning", "note")
STATES = ("blind", "dropping", "overloaded", "unmeasured", "no_syscalls", "acceptable", "healthy")
MEASURED = ("dropping", "overloaded", "acceptable", "healthy")
# monitored: not visited, as Prometheus knows that it loses no more than the limit.
STATUSES = ("ok", "unreachable", "failed", "monitored")
# Of a host in a list of hosts: its state, or the status of one that was not audited. What needs somebody
# comes first.
CONDITIONS = (
    "blind",
    "dropping",
    "overloaded",
    "failed",
    "unreachable",
    "unmeasured",
    "no_syscalls",
    "acceptable",
    "healthy",
    "monitored",
)
BOTTLENECKS = (
    "none",
    "buffer",
    "starved",
    "consumer",
    "cpu_quota",
    "kernel",
    "outputs",
    "thread_table",
    "unknown",
)
NEXT_STEPS = tuple(verdicts.STEPS)
TIERS = verdicts.TIERS
LINES = verdicts.LINES
DRIFTS = ("disk", "running", "overridden", "driver")
# What a choice of system calls rests on.
BASES = ("profile", "drops", "none")
TRIALS = outcomes.VERDICTS
MODES = tests.MODES
TESTS = outcomes.STATES
ROLLOUTS = ("finished", "stopped", "awaiting_promotion")
STAGES = batching.STAGES
OUTCOMES = batching.OUTCOMES

MAX_HOSTS = 100000  # of one list of hosts that the controller made
MAX_HISTORY = 60

_TIME = "%Y-%m-%dT%H:%M:%SZ"
_MOMENT = re.compile("([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})Z")
_EPOCH = datetime.datetime(1970, 1, 1)


def unix(value: object) -> int | None:
    """Unix time of the model's own kind of time, 2026-11-24T13:00:00Z, or None."""
    match = _MOMENT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    year, month, day, hour, minute, second = map(int, match.groups())
    try:
        at = datetime.datetime(year, month, day, hour, minute, second)
    except ValueError:  # the 31st of February
        return None
    return round((at - _EPOCH).total_seconds())


def iso(seconds: float) -> str:
    """2026-11-24T13:00:00Z of a Unix time."""
    return (_EPOCH + datetime.timedelta(seconds=int(seconds))).strftime(_TIME)


def moment(value: object) -> str | None:
    """The model's own kind of time, or None."""
    return str.__str__(value) if isinstance(value, str) and unix(value) is not None else None


def row(value: object) -> list[Any] | None:
    """[unix, state, drops_percent, rate_per_cpu_guide, seconds] of one earlier audit, or None."""
    if not isinstance(value, (list, tuple)) or len(value) != 5:
        return None
    at, state, drops, rate, seconds = value
    at = count(at)
    return None if at is None else [at, _STATE(state), number(drops), number(rate), number(seconds)]


def _history(value: object) -> list[list[Any]]:
    return listed(row)(value[-MAX_HISTORY:]) if isinstance(value, (list, tuple)) else []


_STATE = word(*STATES)

PREVIOUS = table(at=moment, state=_STATE, drops_percent=number, rate_per_cpu_guide=number)

# The snapshot has a place of its own, beside the window.
WINDOW: dict[str, Check] = {
    name: number for name in windows.EMPTY if name not in ("snapshot", "losing", "losing_cpus")
}
WINDOW.update(
    source=text,
    basis=text,
    voided=text,
    ruleset=text,
    enter_events=maybe_flag,
    cpus=count,
    events=count,
    drops=count,
    drops_by_category=counts,
    userspace=counts,
    memory=counts,
    since_start=table(seconds=number, events=count, drops=count),
    kernel=table(run_time_ns=count, percent=number, ns_per_event=number, syscalls=count),
)

_WAY = {"way": key, "calls": listed(text), "fields": listed(text), "false_alarms": flag}
_UNSEEN = listed(table(**_WAY, rules=listed(text)))
_RULES = listed(table(rule=key, lost=listed(text), left=listed(text), ways=listed(table(**_WAY))))
_COVERAGE = always(table(rules_total=count, blind=_RULES, half_blind=_RULES, wrong_output=_RULES))


def _coverage(value: object) -> dict[str, Any]:
    """Rules and ways apart: each way once, with the names of the rules that do not see it."""
    # always() gives the table a dict, so there is no None.
    found = cast(dict[str, Any], _COVERAGE(value))
    ways = coverage.unseen(found) or _UNSEEN(dictionary(value).get("unseen"))
    rules = {
        kind: [{name: item[name] for name in ("rule", "lost", "left")} for item in found[kind]]
        for kind in coverage.KINDS
    }
    return {"rules_total": found["rules_total"], **rules, "unseen": ways}


_VOLUME = always(table(events_per_second=number, syscalls=count))
SYSCALLS = table(
    repair=flag,
    custom_set=listed(text),
    all=flag,
    selected=listed(text),
    added=listed(text),
    removed=listed(text),
    basis=word(*BASES, instead="none"),
    target_events_per_second=number,
    reached=maybe_flag,
    before=_VOLUME,
    after=_VOLUME,
    coverage=_coverage,
    frontier=listed(
        table(
            exclude=listed(text),
            events_per_second=number,
            rules_blind=count,
            rules_half_blind=count,
            lost=listed(text),
        )
    ),
    warnings=listed(text),
)

RULES_AUDIT = table(
    digest=text,
    ok=flag,
    rules_total=count,
    rules_enabled=count,
    basis=word("profile", "none", instead="none"),
    cost=text,
    percent=number,
    weights=listed(
        table(
            rule=key,
            events=listed(text),
            ns=number,
            rate=number,
            percent=number,
            share=number,
            alone=listed(text),
            findings=listed(text),
        )
    ),
    findings=listed(
        table(
            level=word(*LEVELS, instead="note"),
            kind=key,
            rule=text,
            text=key,
            instead=key,
            saves_ns=number,
            saves_percent=number,
        )
    ),
)


def _maybe_texts(value: object) -> list[str] | None:
    return None if value is None else listed(text)(value)


_DIFFERENCE = table(mean=signed, low=signed, high=signed, percent=signed, certain=flag)
TRIAL = table(
    verdict=word(*TRIALS, instead="failed"),
    reason=text,
    largest=text,
    accepted_drops_percent=number,
    mode=word(*MODES, instead="beside"),
    began=number,
    ended=number,
    tests=listed(
        table(
            name=key,
            custom_set=listed(text),
            repair=flag,
            all=flag,
            without=table(**{name: listed(text) for name in tests.WITHOUT}),
            against=text,
            state=word(*TESTS, instead="failed"),
            reason=text,
            selected=listed(text),
            seconds=number,
            events=count,
            events_per_second=number,
            rate_per_cpu=number,
            drops=count,
            drops_percent=number,
            drops_by_category=counts,
            falco_cpu_percent=number,
            falco_wait_percent=number,
            memory_bytes=count,
            rules_total=count,
            rules_blind=listed(text),
            rules_half_blind=listed(text),
            rules_wrong_output=listed(text),
            unseen=_UNSEEN,
            cpu_per_million=number,
            rules_removed=listed(text),
            plugins=_maybe_texts,
            runs=listed(
                table(
                    state=word(*TESTS, instead="failed"),
                    seconds=number,
                    **dict.fromkeys(comparisons.COMPARED, number),
                )
            ),
            difference=table(
                against=key,
                pairs=count,
                load_ratio=number,
                **dict.fromkeys(comparisons.COMPARED, _DIFFERENCE),
            ),
        )
    ),
)

MONITORING = table(server=key, problem=text, sample=listed(key, MAX_HOSTS))

ROLLOUT = table(
    id=key,
    state=word(*ROLLOUTS, instead="stopped"),
    reason=text,
    began=number,
    ended=number,
    planned=always(
        table(
            hosts=count,
            changing=count,
            converged=count,
            refused=count,
            unreachable=count,
            restarts=count,
            blind_seconds=number,
            bytes=signed,
            rules_lost=count,
        )
    ),
    budget=always(table(allowed=count, used=count)),
    domains=listed(table(name=key, hosts=count, allowed=count, most_blind=count), MAX_HOSTS),
    batches=listed(
        table(
            number=count,
            stage=word(*STAGES, instead="batch"),
            began=number,
            ended=number,
            hosts=listed(
                table(
                    name=key,
                    domain=text,
                    outcome=word(*OUTCOMES, instead="failed"),
                    began=number,
                    ended=number,
                    blind_seconds=number,
                    evidence=text,
                    reason=text,
                    **{"class": key},
                ),
                MAX_HOSTS,
            ),
        ),
        MAX_HOSTS,
    ),
    left=listed(text, MAX_HOSTS),
    down=listed(table(name=key, reason=text), MAX_HOSTS),
)

# Of the window before the last change, whose other parts the planner reads.
BEFORE: dict[str, Check] = {"drops_percent": number, "rate_per_cpu": number, "seconds": number}
HOST = table(
    name=key,
    status=word(*STATUSES, instead="failed"),
    reason=text,
    release=text,
    driver=text,
    cpus=count,
    memory_bytes=count,
    kernel=text,
    unit=text,
    buffers=table(
        buf_size_preset=count, cpus_for_each_buffer=count, count=count, bytes_each=count, bytes_total=count
    ),
    window=table(**WINDOW),
    verdict=table(
        state=word(*STATES, instead="unmeasured"),
        tier=word(*TIERS),
        rate_per_cpu=number,
        rate_per_cpu_guide=number,
        drops_percent=number,
        bottleneck=word(*BOTTLENECKS, instead="unknown"),
        also=listed(word(*BOTTLENECKS, instead="unknown")),
        capacity=table(
            **dict.fromkeys(capacity.NUMBERS, number),
            lost=always(table(**dict.fromkeys(capacity.CURES, number))),
        ),
        answer=table(
            kind=word(*answers.KINDS, instead="improved"),
            factor=number,
            text=key,
            tried=listed(text),
            takes=listed(text),
            gave_up=listed(text),
            predicted=number,
            against=word(*BOTTLENECKS),
        ),
        next_step=word(*NEXT_STEPS, instead="none"),
        advice=key,
        reasons=listed(text),
        cost=always(
            table(
                falco_cpu_percent=number, falco_wait_percent=number, kernel_percent=number, memory_bytes=count
            )
        ),
    ),
    plan=table(
        changes=listed(
            table(
                kind=word(*CHANGE_KINDS, instead="config"),
                key=key,
                **{"from": anything, "to": anything},
                why=text,
            )
        ),
        restart_required=flag,
        warnings=listed(text),
        reason=text,
    ),
    drift=listed(
        table(kind=word(*DRIFTS, instead="running"), what=key, found=anything, expected=anything, advice=key)
    ),
    change=table(at=number, evidence=lambda value: anything(dictionary(value)), before=table(**BEFORE)),
    syscalls=SYSCALLS,
    sight=table(
        basis=word("rules", "record", "default", "unknown", instead="unknown"),
        reason=text,
        rules_total=count,
        blind=listed(text),
        half_blind=listed(text),
        wrong_output=listed(text),
        unseen=_UNSEEN,
    ),
    rules=RULES_AUDIT,
    trial=TRIAL,
    monitored=table(age=number, events=number, drops=number, drops_percent=number),
    previous=PREVIOUS,
    history=_history,
    snapshot=lambda value: anything(value) if isinstance(value, dict) else None,
    twin=table(twins=key, outcomes=twins.CHECK),
)


def host(result: object) -> dict[str, Any]:
    """One host of the model, with every key of the contract, from anything."""
    # always() gives the table a dict, so there is no None.
    return cast(dict[str, Any], always(HOST)(result))
