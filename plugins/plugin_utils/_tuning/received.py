# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What falco_facts and falco_config send, as far as it has the shape that it should have. Pure.

A host sends what it likes. Each part is made anew from the keys that are listed here, in their types and
within ranges. What is missing or does not fit is unknown: None, False, an empty list or dict. So nothing that
reads facts checks them again, and no host can add to them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import EVIDENCE_BASES
from ansible_collections.falcotune.fleet.plugins.plugin_utils._untrusted import (
    Check,
    always,
    anything,
    at_most,
    count,
    counts,
    dictionary,
    either,
    flag,
    key,
    listed,
    maybe_flag,
    number,
    sequence,
    table,
    text,
    texts,
    whole,
    word,
)

MAIN = "/etc/falco/falco.yaml"
# Linux has at most 8192 CPUs, and pages of 4 to 64 KiB.
MOST_CPUS = 65536
PAGE_SIZES = (4096, 1 << 16)
# Unix time up to the year 2242: a later one is no date that Python can show everywhere.
LATEST = float(1 << 33)
SHORT = 64  # characters of a version or a word
MOST_FILES = 1000  # configuration files, one more than any limit of assembly.py
MOST_PATHS = 2000  # in a record
MOST_ARGUMENTS = 500
MOST_ATTEMPTS = 100

_TIME = at_most(number, LATEST)


def _short(value: object) -> str | None:
    return text(value, SHORT)


def _rings(value: object) -> dict[str, Any] | None:
    found = dictionary(table(driver=_short, bytes_each=count, count=count)(value))
    return found if found and None not in found.values() else None


_CPU_TIME: dict[str, Check] = {"on": number, "waiting": number, "throttled": number}
_FALCO = always(
    table(
        version=_short,
        reason=text,
        warning=text,
        binary=either(text, ""),
        running=flag,
        pid=count,
        since=_TIME,
        age=_TIME,
        start_ticks=count,
        restarts=count,
        nice=at_most(whole, 19, -20),
        rings=_rings,
        cpu=always(
            table(
                **_CPU_TIME,
                seconds=number,
                total=table(**_CPU_TIME),
                reader=always(table(on=number, waiting=number, total_on=number, total_waiting=number)),
                reason=text,
                look=text,
            )
        ),
    )
)
_SERVICE = always(
    table(
        manager=_short,
        unit=text,
        reason=text,
        state=_short,
        exec_start=listed(text),
        user=text,
        group=text,
        limits=always(table(cpu_quota=number, cpu_weight=count, nice=whole, memory_max=count)),
        sandbox=always(
            table(private_tmp=flag, protect_system=either(_short, "no"), read_write_paths=listed(text))
        ),
        cgroup=always(table(weight=count, weighable=flag, throttled=number)),
    )
)
_CPUS = always(
    table(online=at_most(count, MOST_CPUS), possible=at_most(count, MOST_CPUS), list=text, reason=text)
)
_KERNEL = always(
    table(
        release=text,
        btf=maybe_flag,
        bpf_stats_enabled=count,
        autogroup=flag,
        page_size=either(at_most(count, PAGE_SIZES[1], PAGE_SIZES[0]), PAGE_SIZES[0]),
    )
)
_MEMORY = always(table(total=count, available=count, limit=count, used=count))
_BEFORE = table(
    state=_short,
    drops_percent=number,
    rate_per_cpu=number,
    bottleneck=either(_short, "unknown"),
    demand=number,
    losing_percent=number,
)


def _to(value: object) -> dict[str, Any]:
    """What a step set: {key: value}."""
    found = {key(name): anything(item) for name, item in list(dictionary(value).items())[:20]}
    if "custom_set" in found:
        found["custom_set"] = listed(text)(found["custom_set"])
    return found


def _lines(value: object) -> dict[str, Any]:
    """Lines of our drop-in of the unit; None: there was none."""
    given = dictionary(value)
    found: dict[str, Any] = {name: whole(given[name]) for name in ("Nice", "CPUWeight") if name in given}
    return {**found, **{name: text(given[name]) for name in ("CPUQuota",) if name in given}}


def _rings_replaced(value: object) -> dict[str, Any]:
    given = dictionary(value)
    return {
        name: found
        for name in ("buf_size_preset", "cpus_for_each_buffer")
        if (found := count(given.get(name))) is not None
    }


def _set_replaced(value: object) -> dict[str, Any]:
    if "repair" not in dictionary(value):
        return {}
    return always(table(repair=flag, custom_set=listed(text)))(value) or {}


# What was in force before a step, by its name.
_REPLACED: dict[str, Callable[[object], dict[str, Any]]] = {
    "priority": _lines,
    "quota": _lines,
    "buffers": _rings_replaced,
    "syscalls": _set_replaced,
    "give_back": _set_replaced,
}
# Keys that only some attempts have.
_SOMETIMES: dict[str, Check] = {
    "rolled_back": flag,
    "predicted": number,
    "calls": number,
    "undoes": listed(word(*_REPLACED), len(_REPLACED)),
    "profile": lambda value: {
        key(name): number(share) or 0.0 for name, share in list(dictionary(value).items())[:500]
    },
    "coverage": lambda value: anything(dictionary(value)) or None,
}
_ATTEMPT = table(at=either(_TIME, 0.0), step=_short, to=_to, release=_short, before=_BEFORE)


def _attempt(value: object) -> list[dict[str, Any]]:
    """The attempt, and one more for each further step that the same restart carried."""
    found, given = _ATTEMPT(value), dictionary(value)
    if found is None:
        return []
    found.update({name: check(given[name]) for name, check in _SOMETIMES.items() if name in given})
    parts = sequence(given.get("also"))[: len(_REPLACED)]
    return [_with_replaced(found, given)] + [
        _with_replaced({**found, "step": _short(part.get("step")), "to": _to(part.get("to"))}, part)
        for part in map(dictionary, parts)
    ]


def _with_replaced(found: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    check = _REPLACED.get(found["step"])
    replaced = check(given.get("replaced")) if check else {}
    return {**found, "replaced": replaced} if replaced else found


def _attempts(value: object) -> list[dict[str, Any]]:
    return [item for one in sequence(value)[-MOST_ATTEMPTS:] for item in _attempt(one)]


def _paths(value: object) -> dict[str, str]:
    return texts(value, MOST_PATHS)


_RECORD = table(
    proven=flag,
    at=_TIME,
    files=_paths,
    evidence=lambda value: anything(dictionary(value)),
    version=_short,
    driver=_short,
    before=_BEFORE,
    written=listed(text, MOST_PATHS),
    attempts=_attempts,
)
_HOST = always(
    table(
        metrics_dir_exists=either(maybe_flag, True),
        files=lambda value: {
            key(path): text(digest) for path, digest in list(dictionary(value).items())[:MOST_PATHS]
        },
        unit_dropin=texts,
        record=lambda value: _RECORD(value) if value else None,
        unfinished=table(phase=_short, at=_TIME),
        staged=table(digest=text, at=_TIME),
    )
)
_PARTS: dict[str, Check] = {
    "cpus": _CPUS,
    "kernel": _KERNEL,
    "memory": _MEMORY,
    "clock": _TIME,
    "service": _SERVICE,
    "falco": _FALCO,
    "host": _HOST,
}


def _packed(value: object) -> str | None:
    """What a host has compressed. Its length is bounded where the answer of the host is read."""
    return str.__str__(value) if isinstance(value, str) else None


def _file(value: object) -> dict[str, Any] | None:
    """A configuration file with 'data', or with the 'reason' why there is none; None without a path."""
    given = dictionary(value)
    found: dict[str, Any] = {"path": text(given.get("path"))}
    if not found["path"]:
        return None
    data, reason = _packed(given.get("data")), text(given.get("reason"))
    if reason is None and data is not None:
        return {
            **found,
            "sha256": text(given.get("sha256")),
            "mtime": _TIME(given.get("mtime")),
            "data": data,
        }
    if reason is None:
        reason = "%s: the host sent neither its text nor a reason" % found["path"]
    return {**found, "reason": reason}


_SOURCES = always(
    table(
        main=lambda value: text(value) or MAIN,
        files=listed(_file, MOST_FILES),
        folders=listed(text),
        arguments=listed(text, MOST_ARGUMENTS),
        environment=texts,
        probe=flag,
        asked=listed(text),
    )
)
_RULES = table(
    list=_packed,
    dry_run=_packed,
    reason=text,
    profile=table(
        means=word("tracefs", "perf"),
        seconds=number,
        counts=counts,
        callers=lambda value: anything(dictionary(value)),
        reason=text,
        notes=listed(text, 20),
    ),
)


_EVIDENCE: dict[str, Check] = {
    "pid": count,
    "start_ticks": count,
    "restarts": count,
    "basis": word(*EVIDENCE_BASES),
    "source": text,
    "reason": text,
    "events": count,
    "drops_percent": number,
    "buffers": table(bytes_each=count, count=count, source=text, reason=text),
    "seconds_to_evidence": number,
    "blind_seconds_at_most": number,
    "interruptions": count,
    "notes": listed(text),
    "adopted": flag,
}


def evidence(value: object) -> dict[str, Any] | None:
    """What proved a change, as far as it was sent; None for anything that is not a dict."""
    if not isinstance(value, dict):
        return None
    return {name: check(value[name]) for name, check in _EVIDENCE.items() if name in value}


def parts(message: object) -> dict[str, Any]:
    """The parts of the facts that a host tells itself, complete."""
    given = dictionary(message)
    return {name: check(given.get(name)) for name, check in _PARTS.items()}


def sources(message: object) -> dict[str, Any]:
    """What Falco's configuration is merged from: 'main', 'files', 'folders', 'arguments', 'environment',
    'probe', and 'asked', the paths that were asked for."""
    return cast(dict[str, Any], _SOURCES(dictionary(message).get("config_sources")))


def rules(message: object) -> dict[str, Any] | None:
    """What `falco -L` and a dry run printed, compressed, and how often the host makes each system call; None
    where it sent none of that."""
    return _RULES(dictionary(message).get("rules"))
