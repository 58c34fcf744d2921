# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries of rules files as text that Falco reads to the same values. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.falcotune.fleet.plugins.plugin_utils._yaml import Value

# Plain values that YAML and JSON write alike, apart from the quotes.
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_UNPRINTABLE = re.compile(r"[^ -~]")


def written(entries: Iterable[Value]) -> str:
    """Entries as the text of a rules file, one a line. Values that stood without quotes stay without."""
    return "".join("- %s\n" % _flow(entry) for entry in entries) or "[]\n"


def _flow(value: Value) -> str:
    data: Any = value.data
    if isinstance(data, Mapping):
        parts = ("%s: %s" % (quoted(key), _flow(item)) for key, item in data.items())
        return "{%s}" % ", ".join(parts)
    if isinstance(data, list):
        return "[%s]" % ", ".join(map(_flow, data))
    if data is None:
        return "null"
    if value.plain and _WORD.fullmatch(data):
        return str(data)
    return quoted(data)


def quoted(text: str) -> str:
    """A text in double quotes. JSON's escapes are YAML's, but for pairs of surrogates."""
    return _UNPRINTABLE.sub(_escaped, json.dumps(text, ensure_ascii=False))


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return match[0] if match[0].isprintable() else "\\u%04x" % code if code < 1 << 16 else "\\U%08x" % code
