# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The YAML of rules files as Falco reads it: texts instead of types, with their lines. Pure.

The first of two equal keys counts. What is not YAML, or not a list of mappings, is reported with its line. A
hostile file costs at most MAX_TEXT characters and LIMIT values.
"""

from __future__ import annotations

from ansible_collections.falcotune.fleet.plugins.plugin_utils import _yaml

# Characters of one file. An audit takes about two seconds of CPU and 150 MB for each million; Falco's largest
# file of rules has 0.1 million.
MAX_TEXT = 4 << 20
# Values read of one file. Falco's own rules hold some thousand; aliases can turn one page into billions.
LIMIT = 1000000
# The deepest nesting of a rules file is rule, exceptions, exception, values, value, tuple, list.
DEEPEST = 10
TRUE = ("y", "yes", "true", "on")
FALSE = ("n", "no", "false", "off")


def entries(text: str) -> tuple[list[_yaml.Value], _yaml.Unreadable | None]:
    """The entries of a rules file, of all its documents in order.

    → ([Value], problem). problem is the _yaml.Unreadable at which reading stopped, or None. Entries that are
    not mappings are included.
    """
    found: list[_yaml.Value] = []
    if len(text) > MAX_TEXT:
        line = text.count("\n", 0, MAX_TEXT) + 1
        return found, _yaml.Unreadable(
            "the file has %d characters, and at most %d are read of one file, up to here. This is "
            "no limit of Falco's: split the file" % (len(text), MAX_TEXT),
            line,
        )
    try:
        for document in _yaml.documents(text, DEEPEST, LIMIT):
            if document.root.data is None:
                continue
            if not isinstance(document.root.data, list):
                raise _yaml.Unreadable(
                    "the file is not a list of rules, macros and lists", document.root.line
                )
            found.extend(item for item in document.root.data if item.data is not None)
    except _yaml.Unreadable as error:
        return found, error
    return found, None


def flag(text: object) -> bool | None:
    """A YAML boolean as Falco reads one: True, False, or None for any other text."""
    if isinstance(text, str) and text in (text.lower(), text.upper(), text.capitalize()):
        if text.lower() in TRUE:
            return True
        if text.lower() in FALSE:
            return False
    return None
