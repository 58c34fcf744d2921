# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report model → one self-contained HTML page.

The page makes no network requests: style, script and the report are in it, and a Content-Security-Policy
with their hashes forbids everything else. The same model gives the same page, byte for byte.

No text of a host is ever markup. The report is JSON in a script element that does not run, with every
character escaped that could end the element, and the script makes text nodes of it. The page also holds no
{{, {% or {#, so Ansible's templating leaves it as it is.

The page leaves out parts of a large fleet, so that 10 000 hosts stay below 15 MB: of more than
WHOLE_HISTORIES hosts, only the worst keep their whole history and the names of their chosen system calls;
the others keep the latest RECENT points of the history. Numbers of the history have four digits. snapshot is
never in the page, texts are cut after MOST_CHARACTERS, and so are values nested deeper than MOST_DEPTH. The
JSON report has everything.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
import unicodedata
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

from ansible_collections.falcotune.fleet.plugins.plugin_utils import _untrusted
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import shape

Host = dict[str, Any]
# Parts of the packed report; see model.js.
Packed = Any

STYLES = ("page.css",)
# In this order they make one script.
SCRIPTS = (
    "text.js",
    "states.js",
    "model.js",
    "summary.js",
    "chart.js",
    "table.js",
    "history.js",
    "way.js",
    "syscalls.js",
    "trials.js",
    "rules.js",
    "timeline.js",
    "rollout.js",
    "host.js",
    "page.js",
)
BRANDS = {"trial": "Falco trials", "rollout": "Falco rollout"}

WHOLE_HISTORIES = 1000
RECENT = 12
MOST_CHARACTERS = 2000
MOST_DEPTH = 24
# What JavaScript keeps exactly of a whole number.
MOST_BITS = 53

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
# The types of a plain value that hold texts or are one. See plain().
PACKED = frozenset([str, list, dict])
INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def render(model: dict[str, Any]) -> str:
    """The page as a string that UTF-8 can hold. model: schema_version 1; raises ValueError for any other."""
    if not isinstance(model, dict) or model.get("schema_version") != shape.SCHEMA_VERSION:
        raise ValueError("this page shows reports of schema_version %d" % shape.SCHEMA_VERSION)
    # Files of the collection itself, wherever it is installed: a part of the program, not input.
    folder = resources.files(__package__).joinpath("page")
    page = folder.joinpath("page.html").read_text("utf-8")
    parts: dict[str, str] = {}
    for kind, names in (("style", STYLES), ("script", SCRIPTS)):
        parts[kind] = "\n".join(folder.joinpath(name).read_text("utf-8") for name in names)
    # In a scope of its own, because window has a name, a status and a history already.
    parts["script"] = '"use strict";\n(() => {\n%s})();\n' % parts["script"]
    parts["policy"] = html.escape(policy(parts["style"], parts["script"]))
    fleet = _untrusted.dictionary(model.get("fleet"))
    parts["brand"] = BRANDS.get(str(model.get("kind")), "Falco fleet audit")
    parts["headline"] = _outside_scripts(fleet.get("headline") or parts["brand"])
    parts["title"] = _outside_scripts("%s, %s" % (parts["brand"], model.get("made_at")))
    parts["report"] = in_script(pack(model))
    # In one pass: what was put in is not searched again.
    return re.sub("@@([a-z]+)@@", lambda found: parts[found.group(1)], page)


def policy(style: str, script: str) -> str:
    """The Content-Security-Policy: only these two texts, and no text becomes markup."""
    return "; ".join(
        (
            "default-src 'none'",
            "script-src '%s'" % _hash(script),
            "style-src '%s'" % _hash(style),
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def in_script(value: object) -> str:
    """JSON for a script element: ASCII, and nothing that ends the element or begins a comment or template."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    # JSON has these pairs in strings only.
    return re.sub(r"\{(?=[{%#])", r"\\u007b", text)


def _outside_scripts(value: object, most: int = 300) -> str:
    """Text of the model in the static part of the page: escaped, with invisible characters named."""
    shown = "".join(
        "[U+%04X]" % ord(character) if unicodedata.category(character) in INVISIBLE else character
        for character in str(value)[:most]
    )
    return re.sub(r"\{(?=[{%#])", "&#123;", html.escape(shown))


def pack(model: dict[str, Any]) -> dict[str, Packed]:
    """The model without repeated keys, texts and lists, as model.js reads it.

    {'strings', 'lists', 'shapes', 'report', 'hosts', 'history_cut'}; history_cut: how many points of a
    history most hosts keep, or None where all keep all.
    """
    hosts = [host for host in model.get("hosts") or [] if isinstance(host, dict)]
    longer = [index for index, host in enumerate(hosts) if len(host.get("history") or []) > RECENT]
    chosen = [index for index, host in enumerate(hosts) if isinstance(host.get("syscalls"), dict)]
    whole, named = _worst(hosts, longer), _worst(hosts, chosen)
    slim = deque(_slim(host, index in whole, index in named) for index, host in enumerate(hosts))
    report = plain({key: value for key, value in model.items() if key != "hosts"})
    packer = _Packer([report, *slim])
    return {
        "report": packer.pack(report),
        # Each host goes as it is packed: the page of a large fleet is what an audit's memory is needed for.
        "hosts": [packer.pack(slim.popleft()) for _host in hosts],
        "shapes": packer.shapes,
        "strings": packer.strings,
        "lists": packer.lists,
        "history_cut": RECENT if len(longer) > len(whole) else None,
    }


def _worst(hosts: Sequence[Host], numbers: Iterable[int]) -> set[int]:
    """The numbers of the WHOLE_HISTORIES hosts that need somebody most."""
    return set(sorted(numbers, key=lambda index: (*_need(hosts[index]), index))[:WHOLE_HISTORIES])


def _need(host: Host) -> tuple[int, float]:
    """Small for a host that needs somebody."""
    verdict = _untrusted.dictionary(host.get("verdict"))
    state = verdict.get("state") if host.get("status") == "ok" else host.get("status")
    drops = _untrusted.number(verdict.get("drops_percent"))
    known = state if state in shape.CONDITIONS else "unmeasured"
    return shape.CONDITIONS.index(known), -(drops or 0.0)


def _slim(host: Host, whole: bool, named: bool) -> Host:
    """The host as the page keeps it. whole: with its whole history; named: with names of its system calls."""
    if not named and isinstance(host.get("syscalls"), dict):
        host = {**host, "syscalls": {**host["syscalls"], "selected": None, "frontier": None}}
    left = (*shape.OF_HISTORY, "history")
    found: Host = plain({key: value for key, value in host.items() if key not in left})
    history = [
        row
        for row in host.get("history") or []
        if isinstance(row, (list, tuple)) and len(row) == 5 and _is_exact(row[0])
    ]
    found["history"] = _columns(history if whole else history[-RECENT:])
    return found


def _is_exact(value: object) -> bool:
    """A whole number that JavaScript keeps exactly."""
    return _untrusted.is_whole(value) and abs(value) < 1 << MOST_BITS


def _columns(rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """A history as columns, with times as differences: a fourth of the size."""
    first = rows[0][0] if rows else 0
    steps = [row[0] - (rows[index - 1][0] if index else first) for index, row in enumerate(rows)]
    drops, rates, seconds = ([_four_digits(row[place]) for row in rows] for place in (2, 3, 4))
    return {
        "first": first,
        "steps": steps,
        "states": [None if row[1] is None else str(row[1])[:MOST_CHARACTERS] for row in rows],
        "drops": drops,
        "rates": rates,
        "seconds": seconds,
    }


def _four_digits(value: object) -> int | float | None:
    return _short_number(float("%.4g" % value)) if _untrusted.is_number(value) else None


def _short_number(value: float) -> int | float | None:
    """60.0 is 60 to JavaScript, and shorter; infinities and NaN are not in JSON."""
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < 1 << MOST_BITS else float(value)


def plain(value: Any, depth: int = 0) -> Any:
    """Only what JSON holds and JavaScript reads: no NaN, no larger numbers, no endless texts or depths."""
    kind = type(value)
    if kind is str and len(value) <= MOST_CHARACTERS or value is None or kind is bool:
        return value
    if isinstance(value, str):
        return _plain_text(str(value))
    if isinstance(value, int):
        return int(value) if _is_exact(value) else _large_number(value)
    if isinstance(value, float):
        return _short_number(value)
    if depth >= MOST_DEPTH:
        return "\u2026 (nested deeper)"
    if isinstance(value, dict):
        return {plain(str(key)): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, depth + 1) for item in value]
    return plain(str(value))


def _plain_text(text: str) -> str:
    if len(text) <= MOST_CHARACTERS:
        return text
    return "%s\u2026 (%d characters)" % (text[:MOST_CHARACTERS], len(text))


def _large_number(value: int) -> str:
    return str(value) if value.bit_length() < 1000 else hex(value)[:MOST_CHARACTERS]


class _Packer:
    """Shares texts and lists of texts that come more than once, and the keys of objects.

    The most frequent ones have the shortest numbers. A shared list is {"@": its number}.
    """

    def __init__(self, values: Iterable[Any]) -> None:
        texts: Counter[str] = Counter()
        lists: Counter[tuple[str, ...]] = Counter()
        for value in values:
            _count(value, texts, lists)
        shared = [text for text, number in texts.items() if number > 1 and len(text) > 3]
        self.strings = sorted(shared, key=lambda text: (-texts[text], text))
        self.shapes: list[list[str]] = []
        often = [items for items, number in lists.items() if number > 1 and len(items) > 2]
        often.sort(key=lambda items: (-lists[items], items))
        self._references = {text: "$" + _base36(number) for number, text in enumerate(self.strings)}
        self._shapes: dict[tuple[str, ...], int] = {}
        self._numbers = {items: number for number, items in enumerate(often)}
        self.lists = [[self.pack(text) for text in items] for items in often]

    def pack(self, value: Any) -> Packed:
        kind = type(value)
        if kind is str:
            return self._references.get(value) or ("=" + value if value.startswith(("$", "=")) else value)
        if kind is list:
            number = self._numbers.get(tuple(value)) if _are_texts(value) else None
            return self._items(value) if number is None else {"@": number}
        if kind is dict:
            keys = tuple(value)
            if keys not in self._shapes:
                self._shapes[keys] = len(self.shapes)
                self.shapes.append(list(keys))
            return {str(self._shapes[keys]): self._items(value.values())}
        return value

    def _items(self, values: Iterable[Any]) -> list[Packed]:
        # Most values are numbers: a call for each would take most of the time.
        return [self.pack(item) if type(item) in PACKED else item for item in values]


def _count(value: Any, texts: Counter[str], lists: Counter[tuple[str, ...]]) -> None:
    """Adds the texts and the lists of texts that are somewhere in the value."""
    if isinstance(value, list) and _are_texts(value):
        lists[tuple(value)] += 1
        texts.update(value)
        return
    for item in value.values() if isinstance(value, dict) else value:
        kind = type(item)
        if kind is str:
            texts[item] += 1
        elif kind in PACKED:
            _count(item, texts, lists)


def _are_texts(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _base36(number: int) -> str:
    text = DIGITS[number % 36]
    while number >= 36:
        number //= 36
        text = DIGITS[number % 36] + text
    return text
