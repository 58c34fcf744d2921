# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of data that a host sent. Pure.

Any key may be missing, any value of the wrong type, any text hostile. A check takes anything and returns
what fits, as a plain Python value, or None (an empty list or dict where it says so). It never raises. Texts
keep every character that UTF-8 can hold: only the form that shows a text knows which characters are
dangerous in it.
"""

from __future__ import annotations

import marshal
import re
from collections.abc import Callable
from typing import Any, TypeGuard, TypeVar

MAX_TEXT = 4096  # characters of one text
MAX_ITEMS = 500  # of one list or dict of the host's own
MAX_DEPTH = 6  # of values that have no shape of ours
# Numbers reach to here: counters of Falco and of Linux have 64 bits.
LIMIT = 1 << 64

Check = Callable[[object], Any]
T = TypeVar("T")

_HALF_PAIRS = re.compile("[\ud800-\udfff]")


# -- predicates


def is_number(value: object) -> TypeGuard[int | float]:
    """A number and not a bool. It may be negative, infinite or NaN."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_whole(value: object) -> TypeGuard[int]:
    """A whole number and not a bool, of either sign."""
    return isinstance(value, int) and not isinstance(value, bool)


# -- values


def text(value: object, most: int = MAX_TEXT) -> str | None:
    """A plain str that UTF-8 can hold, at most so long. Numbers are written out; all else is None."""
    if not isinstance(value, str):
        return None if number(value) is None else str(value)
    value = str.__str__(value)  # Ansible's own kinds of str end here
    if len(value) > most:
        value = value[: most - 1] + "…"
    return value if value.isascii() else _HALF_PAIRS.sub("\ufffd", value)


def key(value: object) -> str:
    """A text that is never None, as a key or a name must be."""
    return text(value) or ""


def number(value: object) -> int | float | None:
    """A finite number from 0, or None."""
    kind = type(value)
    if kind is not float and kind is not int:  # millions come by here, and nearly all are plain
        if value is None or kind is bool or not isinstance(value, (int, float)):
            return None
        value = int(value) if isinstance(value, int) else float(value)
    return value if 0 <= value < LIMIT else None  # type: ignore[operator,return-value]


def signed(value: object) -> int | float | None:
    """A finite number of either sign, or None."""
    if not is_number(value) or not -LIMIT < value < LIMIT:
        return None
    return int(value) if isinstance(value, int) else float(value)


def count(value: object) -> int | None:
    """A whole number from 0, or None; 3.0 is 3."""
    found = number(value)
    if isinstance(found, float):
        return int(found) if found.is_integer() else None
    return found


def whole(value: object) -> int | None:
    """A whole number of either sign, or None."""
    found = signed(value)
    if isinstance(found, float):
        return int(found) if found.is_integer() else None
    return found


def flag(value: object) -> bool:
    return value is True


def maybe_flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def dictionary(value: object) -> dict[Any, Any]:
    """The dict itself; {} for anything else."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[Any]:
    """A list of the items of a list or tuple; [] for anything else."""
    return list(value) if isinstance(value, (list, tuple)) else []


def counts(value: object) -> dict[str, int]:
    """{text: whole number from 0}."""
    found = ((key(name), count(item)) for name, item in list(dictionary(value).items())[:MAX_ITEMS])
    return {name: item for name, item in found if item is not None}


def texts(value: object, most: int = MAX_ITEMS) -> dict[str, str]:
    """{text: text}."""
    found = ((key(name), text(item)) for name, item in list(dictionary(value).items())[:most])
    return {name: item for name, item in found if item is not None}


def weight(value: object, most: int) -> int:
    """Roughly the bytes that a value takes as JSON: 8 for each value, and its characters. Counting ends where
    it is more than most."""
    found, left = 0, [value]
    while left and found <= most:
        item = left.pop()
        found += 8 + (len(item) if isinstance(item, str) else 0)
        if isinstance(item, dict):
            left.extend(item)
            left.extend(item.values())
        elif isinstance(item, (list, tuple)):
            left.extend(item)
    return found


def is_light(value: Any, most: int) -> bool:
    """Whether the weight() is at most that. Nearly every value is far lighter, and that is quickly seen."""
    try:
        # Without references (version 2), each value takes at least a byte, and each character of a text.
        if 8 * len(marshal.dumps(value, 2)) <= most:
            return True
    except ValueError:  # too deep, or not a plain value
        pass
    return weight(value, most) <= most


def may_hold(value: Any, part: str) -> bool:
    """Whether a text in the value, or a key, may have this part. False is for sure."""
    try:
        return part.encode() in marshal.dumps(value, 2)
    except ValueError:  # too deep, or not a plain value
        return True


def anything(value: object, depth: int = MAX_DEPTH) -> Any:
    """A value without a shape of ours, as far as JSON can hold it. Finite numbers keep their sign."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return signed(value)
    if isinstance(value, str):
        return text(value)
    if depth and isinstance(value, dict):
        return {key(name): anything(item, depth - 1) for name, item in list(value.items())[:MAX_ITEMS]}
    if depth and isinstance(value, (list, tuple)):
        return [anything(item, depth - 1) for item in value[:MAX_ITEMS]]
    return None


# -- checks made of checks


def word(*words: str, instead: str | None = None) -> Callable[[object], str | None]:
    """One of our own words; instead for anything else."""

    def check(value: object) -> str | None:
        return str.__str__(value) if isinstance(value, str) and value in words else instead

    return check


def listed(check: Callable[[object], T | None], most: int = MAX_ITEMS) -> Callable[[object], list[T]]:
    """A list of the items that pass the check; [] for anything that is not a list."""

    def inner(value: object) -> list[T]:
        if not isinstance(value, (list, tuple)):
            return []
        return [item for item in map(check, value[:most]) if item is not None]

    return inner


def at_most(check: Callable[[object], Any], most: float, least: float = 0) -> Callable[[object], Any]:
    """A number that passes the check and lies in this range, or None."""

    def inner(value: object) -> Any:
        found = check(value)
        return found if found is not None and least <= found <= most else None

    return inner


def either(check: Callable[[object], T | None], instead: T) -> Callable[[object], T]:
    """What passes the check; instead for anything else."""

    def inner(value: object) -> T:
        found = check(value)
        return instead if found is None else found

    return inner


def table(**parts: Check) -> Callable[[object], dict[str, Any] | None]:
    """A dict with exactly these keys; None for anything that is not a dict."""
    checks = tuple(parts.items())

    def check(value: object) -> dict[str, Any] | None:
        if not isinstance(value, dict):
            return None
        get = value.get
        return {name: inner(get(name)) for name, inner in checks}

    return check


def always(check: Callable[[object], T]) -> Callable[[object], T]:
    """A table of unknowns, rather than None, for anything that is not a dict."""
    return lambda value: check(dictionary(value))
