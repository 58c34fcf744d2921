# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One entry of a rules file: its values as Falco takes them, and what is wrong with them. Pure."""

from __future__ import annotations

from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import document
from ansible_collections.falcotune.fleet.plugins.plugin_utils._yaml import Value


class Wrong(ValueError):
    """Something that Falco refuses, and its line."""

    def __init__(self, text: str, line: int) -> None:
        super().__init__(text)
        self.line = line


def text_or_nothing(entry: Value, key: str) -> str:
    """A text, or '' where there is none."""
    value = entry.data.get(key)
    return value.data if value and isinstance(value.data, str) else ""


def text(entry: Value, key: str) -> str:
    """A text that must be present and not empty."""
    value = entry.data.get(key)
    if value is None:
        raise Wrong("'%s' is missing" % key, entry.line)
    if not isinstance(value.data, str) or not value.data:
        raise Wrong("'%s' must be a text and not be empty" % key, value.line)
    return value.data


def texts(entry: Value, key: str) -> list[str]:
    """A list of texts that must be present."""
    value = entry.data.get(key)
    if value is None:
        raise Wrong("'%s' is missing" % key, entry.line)
    if not isinstance(value.data, list):
        raise Wrong("'%s' is not a list" % key, value.line)
    for item in value.data:
        if not isinstance(item.data, str):
            raise Wrong("'%s' holds something that is not a text" % key, item.line)
    return [item.data for item in value.data]


def flag(entry: Value, key: str, default: bool | None) -> bool:
    """A boolean. With default None it must be present."""
    if key not in entry.data and default is not None:
        return default
    found = document.flag(text(entry, key))
    if found is None:
        raise Wrong("'%s' is neither true nor false" % key, entry.data[key].line)
    return found
