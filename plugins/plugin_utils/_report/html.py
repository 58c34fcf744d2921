# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report model → one self-contained HTML page.

The page asks no network for anything: style, script and the report are inside, and a Content-Security-Policy
with their hashes forbids everything else. The same model gives the same page, byte for byte.

Nothing of a host is ever markup. The report is JSON in a script element that is not run, with every
character escaped that could end it, and the script builds text nodes from it. Neither does the page hold any
{{, {% or {#, so that it stays what it is where somebody passes it through Ansible's templating.

What the page leaves out of a large fleet, so that 10 000 hosts stay below 15 MB: of more than
WHOLE_HISTORIES hosts, the worst so many keep their history and the others only its latest RECENT points; so
it is with the names of the system calls that were chosen, which the others have not. Numbers of the history
have four digits. snapshot is never in it, texts beyond MOST_CHARACTERS are cut, and so is what is nested
deeper than MOST_DEPTH. The JSON report has it all.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
import unicodedata
from collections import Counter
from importlib import resources

SCHEMA_VERSION = 1
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
    "syscalls.js",
    "trials.js",
    "timeline.js",
    "rollout.js",
    "host.js",
    "page.js",
)
BRANDS = {"trial": "Falco system call trials", "rollout": "Falco rollout"}

WHOLE_HISTORIES = 1000
RECENT = 12
MOST_CHARACTERS = 2000
MOST_DEPTH = 24
# What JavaScript keeps exactly of a whole number.
MOST_BITS = 53

# Worst first: who keeps a whole history in a large fleet.
ORDER = ("blind", "dropping", "overloaded", "failed", "unreachable", "unmeasured", "acceptable", "healthy")
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def render(model):
    """The page as a string that UTF-8 can hold. model: schema_version 1; raises ValueError for any other."""
    if not isinstance(model, dict) or model.get("schema_version") != SCHEMA_VERSION:
        raise ValueError("this page shows reports of schema_version %d" % SCHEMA_VERSION)
    # A file of the collection itself, wherever and however that is installed: a part of the program, not
    # input.
    folder = resources.files(__package__).joinpath("page")
    page, parts = folder.joinpath("page.html").read_text("utf-8"), {}
    for kind, names in (("style", STYLES), ("script", SCRIPTS)):
        parts[kind] = "\n".join(folder.joinpath(name).read_text("utf-8") for name in names)
    # Of its own scope, or its names would be the window's: name, status and history are taken there.
    parts["script"] = '"use strict";\n(() => {\n%s})();\n' % parts["script"]
    parts["policy"] = html.escape(policy(parts["style"], parts["script"]))
    fleet = model.get("fleet") if isinstance(model.get("fleet"), dict) else {}
    kind = model.get("kind")
    parts["brand"] = (BRANDS.get(kind) if isinstance(kind, str) else None) or "Falco fleet audit"
    parts["headline"] = _outside_scripts(fleet.get("headline") or parts["brand"])
    parts["title"] = _outside_scripts("%s, %s" % (parts["brand"], model.get("made_at")))
    parts["report"] = in_script(pack(model))
    # In one pass, so that what was put in is not looked at again.
    return re.sub("@@([a-z]+)@@", lambda found: parts[found.group(1)], page)


def policy(style, script):
    """The Content-Security-Policy: these two texts and nothing else, and no text may become markup."""
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


def _hash(text):
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def in_script(value):
    """JSON as it may stand in a script element: ASCII, and nothing that ends the element or begins a comment or a template."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    # JSON itself never has these pairs outside of a string.
    return re.sub(r"\{(?=[{%#])", r"\\u007b", text)


def _outside_scripts(value, most=300):
    """Text of the model in the static part of the page: escaped, and what can't be seen is named."""
    shown = "".join(
        "[U+%04X]" % ord(character) if unicodedata.category(character) in INVISIBLE else character
        for character in str(value)[:most]
    )
    return re.sub(r"\{(?=[{%#])", "&#123;", html.escape(shown))


def pack(model):
    """{'strings', 'lists', 'shapes', 'report', 'hosts', 'history_cut'}: the model without repeated keys, texts and lists; see model.js.

    history_cut: how many points of a history most hosts keep, or None where all keep all.
    """
    hosts = [host for host in model.get("hosts") or [] if isinstance(host, dict)]
    longer = [index for index, host in enumerate(hosts) if len(host.get("history") or []) > RECENT]
    keepers = _worst(hosts, longer)
    choosers = _worst(
        hosts, [index for index, host in enumerate(hosts) if isinstance(host.get("syscalls"), dict)]
    )
    hosts = [_slim(host, index in keepers, index in choosers) for index, host in enumerate(hosts)]
    report = plain({key: value for key, value in model.items() if key != "hosts"})
    packer = _Packer([report, *hosts])
    return {
        "report": packer.pack(report),
        "hosts": [packer.pack(host) for host in hosts],
        "shapes": packer.shapes,
        "strings": packer.strings,
        "lists": packer.lists,
        "history_cut": RECENT if len(longer) > len(keepers) else None,
    }


def _worst(hosts, numbers):
    """So many of these hosts as keep everything."""
    return set(sorted(numbers, key=lambda index: _need(hosts[index]) + (index,))[:WHOLE_HISTORIES])


def _need(host):
    """Small for a host that somebody will look at."""
    verdict = host.get("verdict") if isinstance(host.get("verdict"), dict) else {}
    state = verdict.get("state") if host.get("status") == "ok" else host.get("status")
    drops = verdict.get("drops_percent")
    return (
        ORDER.index(state) if state in ORDER else 5,
        -drops if isinstance(drops, (int, float)) and math.isfinite(drops) else 0.0,
    )


def _slim(host, whole, names):
    if not names and isinstance(host.get("syscalls"), dict):
        host = dict(host, syscalls=dict(host["syscalls"], selected=None, frontier=None))
    found = plain({key: value for key, value in host.items() if key not in ("snapshot", "history")})
    history = [
        row
        for row in host.get("history") or []
        if isinstance(row, (list, tuple)) and len(row) == 5 and _is_whole(row[0])
    ]
    found["history"] = _columns(history if whole else history[-RECENT:])
    return found


def _is_whole(value):
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << MOST_BITS


def _columns(rows):
    """A history as columns, with the times as steps: a fourth of the size."""
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


def _four_digits(value):
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    value = float("%.4g" % value)
    return int(value) if value.is_integer() and abs(value) < 1 << MOST_BITS else value


def plain(value, depth=0):
    """Only what JSON has and JavaScript can read: no NaN, no numbers beyond its own, no endless texts or depths."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        text = str(value)
        return (
            text
            if len(text) <= MOST_CHARACTERS
            else "%s\u2026 (%d characters)" % (text[:MOST_CHARACTERS], len(text))
        )
    if isinstance(value, int):
        if abs(value) < 1 << MOST_BITS:
            return int(value)
        return str(value) if value.bit_length() < 1000 else hex(value)[:MOST_CHARACTERS]
    if isinstance(value, float):
        # 60.0 is 60 to JavaScript, and shorter.
        return (
            None
            if not math.isfinite(value)
            else int(value)
            if value.is_integer() and abs(value) < 1 << MOST_BITS
            else float(value)
        )
    if depth >= MOST_DEPTH:
        return "\u2026 (nested deeper)"
    if isinstance(value, dict):
        return {plain(str(key)): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, depth + 1) for item in value]
    return plain(str(value))


class _Packer:
    """Shares the texts and the lists of texts that come more than once, and the keys of objects; the most frequent ones have the
    shortest numbers. A list is {"@": its number}."""

    def __init__(self, values):
        found, self._lists = Counter(), Counter()
        for value in values:
            self._count(value, found)
        shared = [text for text, number in found.items() if number > 1 and len(text) > 3]
        self.strings = sorted(shared, key=lambda text: (-found[text], text))
        self.shapes = []
        lists = [texts for texts, number in self._lists.items() if number > 1 and len(texts) > 2]
        lists.sort(key=lambda texts: (-self._lists[texts], texts))
        self._references = {text: "$" + _base36(number) for number, text in enumerate(self.strings)}
        self._shapes = {}
        self._numbers = {texts: number for number, texts in enumerate(lists)}
        self.lists = [[self.pack(text) for text in texts] for texts in lists]

    def _count(self, value, found):
        if isinstance(value, str):
            found[value] += 1
        elif isinstance(value, dict):
            for item in value.values():
                self._count(item, found)
        elif isinstance(value, list):
            if _texts(value):
                self._lists[tuple(value)] += 1
            for item in value:
                self._count(item, found)

    def pack(self, value):
        if isinstance(value, str):
            return self._references.get(value) or ("=" + value if value.startswith(("$", "=")) else value)
        if isinstance(value, list):
            number = self._numbers.get(tuple(value)) if _texts(value) else None
            return [self.pack(item) for item in value] if number is None else {"@": number}
        if isinstance(value, dict):
            keys = tuple(value)
            if keys not in self._shapes:
                self._shapes[keys] = len(self.shapes)
                self.shapes.append(list(keys))
            return {str(self._shapes[keys]): [self.pack(item) for item in value.values()]}
        return value


def _texts(values):
    return all(isinstance(value, str) for value in values)


def _base36(number):
    text = DIGITS[number % 36]
    while number >= 36:
        number //= 36
        text = DIGITS[number % 36] + text
    return text
