# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies at a path of a host of the report model. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Host = dict[str, Any]
Get = Callable[[Host], Any]


def at(*path: str) -> Get:
    """A function of a host: what lies at the path; None where something on the way is unknown."""

    def get(host: Host) -> Any:
        found: Any = host
        for step in path:
            found = found.get(step) if found else None
        return found

    return get


def length(*path: str) -> Get:
    """A function of a host: the length of the list at the path, or None."""
    get = at(*path)

    def size(host: Host) -> int | None:
        found = get(host)
        return None if found is None else len(found)

    return size
