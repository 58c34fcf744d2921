# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host counted (module_utils/syscall_profile) in the names of Falco. Pure; what a host sends is not
trusted."""

from __future__ import annotations

import math
import re
from typing import Any, TypeGuard

from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.releases import Release
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.syscall_names import (
    KERNEL_ONLY,
    names_for,
)

MEANS = ("tracefs", "perf")
NAME = re.compile(r"[a-z0-9_]{1,64}")
# More than any kernel has; a host that sends more sends garbage.
CALLS = 1024
# Calls a window: 60 s of a thousand CPUs.
MOST = 1 << 42
TEXT = 500
NOTES = 20
# Callers of one call; the host sends fewer.
CALLERS = 10


def read(profile: Any, release: Release | str | None = None) -> dict[str, Any]:
    """Rates by Falco's event names.

    profile: what measure() returned, in whatever state it arrived. release: a Release or version, 0.35 or
    newer; None is the newest known. Raises releases.UnsupportedRelease.
    → {'means', 'seconds', 'reason', 'notes', 'per_second': {event name: calls a second}, 'unwatchable':
    {kernel's name: the same}, 'callers': {event name: {'uids': {uid: calls a second}, 'cgroups': {path: the
    same}, 'unknown': the same}} of the frequent calls, the busiest callers of each,
       'total_per_second'}; without counts 'reason' says why, and total_per_second is None.
    Each call counts once, under the narrowest name (accept4, not accept), so the rate of a selection is the
    sum over the names that Falco prints of it.
    """
    names = names_for(release or "%d.%d.%d" % releases.NEWEST)
    given = profile if isinstance(profile, dict) else {}
    notes = given.get("notes")
    result: dict[str, Any] = {
        "means": given.get("means") if given.get("means") in MEANS else None,
        "seconds": _seconds(given.get("seconds")),
        "reason": _text(given.get("reason")) or None,
        "notes": [_text(item) for item in (notes if isinstance(notes, list) else [])[:NOTES] if _text(item)],
        "per_second": {},
        "unwatchable": {},
        "callers": {},
        "total_per_second": None,
    }
    counts = _counts(given.get("counts"))
    if result["means"] is None or result["seconds"] is None or counts is None or result["reason"]:
        result.update(
            means=None, seconds=None, reason=result["reason"] or "the host sent no profile that can be read"
        )
        return result
    for name in sorted(counts):
        event = KERNEL_ONLY.get(name, name)
        kind, key = ("per_second", event) if name in names.kernel else ("unwatchable", name)
        result[kind][key] = result[kind].get(key, 0) + counts[name]
    result["callers"] = {
        KERNEL_ONLY.get(name, name): one
        for name in sorted(counts)
        if name in names.kernel and (one := _callers(given.get("callers"), name, result["seconds"]))
    }
    for kind in ("per_second", "unwatchable"):
        result[kind] = {
            name: round(calls / result["seconds"], 2) for name, calls in sorted(result[kind].items())
        }
    result["total_per_second"] = round(sum(counts.values()) / result["seconds"], 2)
    return result


def _seconds(value: Any) -> float | None:
    usable = (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and 0.1 <= value <= 3600
        and math.isfinite(value)
    )
    return float(value) if usable else None


def _counts(value: Any) -> dict[str, int] | None:
    """{name: calls} of what is a name and a number; None where nothing is."""
    if not isinstance(value, dict) or not 0 < len(value) <= CALLS:
        return None
    return {
        name: calls
        for name, calls in value.items()
        if isinstance(name, str)
        and NAME.fullmatch(name)
        and isinstance(calls, int)
        and not isinstance(calls, bool)
        and 0 < calls <= MOST
    } or None


def _callers(value: Any, name: str, seconds: float) -> dict[str, Any] | None:
    """Who made a call, in calls a second; None where that is not known."""
    one = value.get(name) if isinstance(value, dict) else None
    if not isinstance(one, dict):
        return None
    found: dict[str, Any] = {}
    for kind in ("uids", "cgroups"):
        listed = one.get(kind)
        some = listed[:CALLERS] if isinstance(listed, list) else []
        pairs = [pair for pair in some if isinstance(pair, (list, tuple)) and len(pair) == 2]
        found[kind] = {_text(str(who)): round(calls / seconds, 2) for who, calls in pairs if _number(calls)}
    unknown = one.get("unknown")
    found["unknown"] = round(unknown / seconds, 2) if _number(unknown) else None
    return found


def _number(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST


def _text(value: Any) -> str:
    """One line of printable text."""
    if not isinstance(value, str):
        return ""
    return "".join(letter if letter.isprintable() else " " for letter in value[:TEXT]).strip()
