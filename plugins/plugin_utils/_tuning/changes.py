# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One change of a plan, and how it is written for people. Pure.

The kind says what sort of thing is changed and decides what follows; the key says which one. The label is for
people only.
"""

from __future__ import annotations

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import Change, ChangeKind, Json

# Changes that Falco is not interrupted for.
WITHOUT_RESTART: tuple[ChangeKind, ...] = ("directory", "sysctl", "record")
# Changes that Falco need only be looked at for: what is on disk stays as it is.
OF_WHAT_RUNS: tuple[ChangeKind, ...] = ("running", "record")


def change(kind: ChangeKind, key: str, before: Json, after: Json, why: str) -> Change:
    """A change as a plan lists it. before is None where nothing was set."""
    return {"kind": kind, "key": key, "from": before, "to": after, "why": why}


def label(item: Change) -> str:
    """'engine.kind', '(unit) Nice', '(file) /etc/x': the key, with its kind where it is not a key of
    Falco's."""
    return item["key"] if item["kind"] == "config" else "(%s) %s" % (item["kind"], item["key"])


def has(changes: list[Change], *kinds: ChangeKind) -> bool:
    """Whether any change is of one of these kinds."""
    return any(item["kind"] in kinds for item in changes)
