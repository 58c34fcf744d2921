# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of the report model, and what makes anything that a host sent fit into it.

A result is data from hosts: any key can be missing, any value can be of the wrong type, any text can be hostile. What
fits is kept, what doesn't becomes null. So every form can rely on docs/report-1.schema.json, and none has to check again.
Text stays as it is here, but for halves of surrogate pairs, which no UTF-8 file can hold, and for its length: to
disarm it is each form's own part, because only the form knows what is dangerous in it.
"""

from __future__ import annotations

import datetime
import re

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import CHANGE_KINDS
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import verdicts, windows

SCHEMA_VERSION = 1
# Worst first.
STATES = ("blind", "dropping", "overloaded", "unmeasured", "acceptable", "healthy")
MEASURED = ("dropping", "overloaded", "acceptable", "healthy")
STATUSES = ("ok", "unreachable", "failed")
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
TRIALS = ("largest", "too_busy", "none", "aborted", "failed")
MODES = ("beside", "instead")
TESTS = ("clean", "accepted", "dropping", "aborted", "failed", "skipped")
ROLLOUTS = ("finished", "stopped", "awaiting_promotion")
STAGES = ("canary", "batch")
OUTCOMES = ("done", "reverted", "failed", "lost", "staged", "skipped", "planned")

MAX_TEXT = 4096  # characters of one text
MAX_ITEMS = 500  # of one list or dict of the host's own
MAX_HOSTS = 100000  # of one list of hosts that the controller made
MAX_DEPTH = 6  # of values whose shape is not ours
MAX_HISTORY = 60
LIMIT = 1 << 64

_TIME = "%Y-%m-%dT%H:%M:%SZ"
_MOMENT = re.compile("([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})Z")
_EPOCH = datetime.datetime(1970, 1, 1)
_HALF_PAIRS = re.compile("[\ud800-\udfff]")


def text(value):
    """A plain str of at most MAX_TEXT characters that UTF-8 can hold; None for what is no text (numbers are)."""
    if not isinstance(value, str):
        return None if number(value) is None else str(value)
    value = str.__str__(value)  # Ansible's own kinds of str end here
    if len(value) > MAX_TEXT:
        value = value[: MAX_TEXT - 1] + "…"
    return value if value.isascii() else _HALF_PAIRS.sub("\ufffd", value)


def number(value):
    """A finite number from 0, or None."""
    kind = type(value)
    if kind is not float and kind is not int:  # millions come by here, and nearly all are plain
        if value is None or kind is bool or not isinstance(value, (int, float)):
            return None
        value = int(value) if isinstance(value, int) else float(value)
    return value if 0 <= value < LIMIT else None


def count(value):
    """A whole number from 0, or None."""
    value = number(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value


def flag(value):
    return value is True


def maybe_flag(value):
    return value if isinstance(value, bool) else None


def change(value):
    """A finite number of either sign, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -LIMIT < value < LIMIT:
        return None
    return int(value) if isinstance(value, int) else float(value)


def word(*words, instead=None):
    """One of our own words; instead for anything else."""

    def check(value):
        return str.__str__(value) if isinstance(value, str) and value in words else instead

    return check


def anything(value, depth=MAX_DEPTH):
    """A value whose shape is not ours, in what JSON can hold. Finite numbers keep their sign."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        if not -LIMIT < value < LIMIT:
            return None
        return int(value) if isinstance(value, int) else float(value)
    if isinstance(value, str):
        return text(value)
    if depth and isinstance(value, dict):
        return {_key(name): anything(item, depth - 1) for name, item in list(value.items())[:MAX_ITEMS]}
    if depth and isinstance(value, (list, tuple)):
        return [anything(item, depth - 1) for item in value[:MAX_ITEMS]]
    return None


def _key(name):
    return text(name) or ""


def unix(value):
    """Unix time of the model's own kind of time, 2026-11-24T13:00:00Z, or None."""
    match = _MOMENT.fullmatch(value) if isinstance(value, str) else None
    try:
        return (
            round((datetime.datetime(*map(int, match.groups())) - _EPOCH).total_seconds()) if match else None
        )
    except ValueError:  # the 31st of February
        return None


def iso(seconds):
    """2026-11-24T13:00:00Z of a Unix time."""
    return (_EPOCH + datetime.timedelta(seconds=int(seconds))).strftime(_TIME)


def moment(value):
    """The model's own kind of time, or None."""
    return None if unix(value) is None else str.__str__(value)


def listed(check, most=MAX_ITEMS):
    """A list of what passes the check."""

    def inner(value):
        if not isinstance(value, (list, tuple)):
            return []
        return [item for item in map(check, value[:most]) if item is not None]

    return inner


def counts(value):
    """{text: whole number}."""
    if not isinstance(value, dict):
        return {}
    found = ((_key(name), count(item)) for name, item in list(value.items())[:MAX_ITEMS])
    return {name: item for name, item in found if item is not None}


def table(**parts):
    """A dict with exactly these keys; None for what is no dict."""
    checks = tuple(parts.items())

    def check(value):
        if not isinstance(value, dict):
            return None
        return {name: inner(value.get(name)) for name, inner in checks}

    return check


def always(check):
    """A table of unknowns for what is no dict."""
    return lambda value: check(value if isinstance(value, dict) else {})


def row(value):
    """[unix, state, drops_percent, rate_per_cpu_guide, seconds] of one earlier audit, or None."""
    if not isinstance(value, (list, tuple)) or len(value) != 5:
        return None
    at, state, drops, rate, seconds = value
    at = count(at)
    return None if at is None else [at, _STATE(state), number(drops), number(rate), number(seconds)]


def _history(value):
    return (
        [found for found in map(row, value[-MAX_HISTORY:]) if found]
        if isinstance(value, (list, tuple))
        else []
    )


_STATE = word(*STATES)

PREVIOUS = table(at=moment, state=_STATE, drops_percent=number, rate_per_cpu_guide=number)

# The snapshot has a place of its own, beside the window.
WINDOW = {name: number for name in windows.EMPTY if name != "snapshot"}
WINDOW.update(
    source=text,
    basis=text,
    voided=text,
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

_RULES = listed(table(rule=_key, lost=listed(text), left=listed(text)))
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
    coverage=always(table(rules_total=count, blind=_RULES, half_blind=_RULES)),
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
            name=_key,
            custom_set=listed(text),
            repair=flag,
            all=flag,
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
        )
    ),
)

ROLLOUT = table(
    id=_key,
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
            bytes=change,
            rules_lost=count,
        )
    ),
    budget=always(table(allowed=count, used=count)),
    domains=listed(table(name=_key, hosts=count, allowed=count, most_blind=count), MAX_HOSTS),
    batches=listed(
        table(
            number=count,
            stage=word(*STAGES, instead="batch"),
            began=number,
            ended=number,
            hosts=listed(
                table(
                    name=_key,
                    domain=text,
                    outcome=word(*OUTCOMES, instead="failed"),
                    began=number,
                    ended=number,
                    blind_seconds=number,
                    evidence=text,
                    reason=text,
                    **{"class": _key},
                ),
                MAX_HOSTS,
            ),
        ),
        MAX_HOSTS,
    ),
    left=listed(text, MAX_HOSTS),
    down=listed(table(name=_key, reason=text), MAX_HOSTS),
)

HOST = table(
    name=_key,
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
        next_step=word(*NEXT_STEPS, instead="none"),
        advice=_key,
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
                key=_key,
                **{"from": anything, "to": anything},
                why=text,
            )
        ),
        restart_required=flag,
        warnings=listed(text),
        reason=text,
    ),
    drift=listed(
        table(
            kind=word(*DRIFTS, instead="running"), what=_key, found=anything, expected=anything, advice=_key
        )
    ),
    change=table(
        at=number,
        evidence=lambda value: anything(value) if isinstance(value, dict) else {},
        before=table(drops_percent=number, rate_per_cpu=number, seconds=number),
    ),
    syscalls=SYSCALLS,
    trial=TRIAL,
    previous=PREVIOUS,
    history=_history,
    snapshot=lambda value: anything(value) if isinstance(value, dict) else None,
)


def host(result):
    """One host of the model, with every key of the contract, from whatever came."""
    return HOST(result if isinstance(result, dict) else {})
