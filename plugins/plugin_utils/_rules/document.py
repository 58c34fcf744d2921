# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The YAML of rules files as Falco reads it: texts, not types, with the line of everything; the first of two
equal keys counts.

Pure. What is not YAML, or not a list of mappings, is reported with its line. A hostile file costs at most
LIMIT values.
"""

from __future__ import annotations

from ansible_collections.falcotune.fleet.plugins.plugin_utils import _yaml

# Values read of one file: Falco's own rules hold some thousand; aliases can make billions of a page.
LIMIT = 1000000
# Rule, exceptions, exception, values, value, tuple, list: nothing is nested deeper in a rules file.
DEEPEST = 10
TRUE = ("y", "yes", "true", "on")
FALSE = ("n", "no", "false", "off")


def entries(text: str) -> tuple[list[_yaml.Value], _yaml.Unreadable | None]:
    """The entries of a rules file, all documents in turn.

    → ([Value], problem): an _yaml.Unreadable where reading had to stop, else None. Entries that are not
    mappings are among them.
    """
    found: list[_yaml.Value] = []
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
    """A YAML boolean as Falco reads one: True, False, or None where it is none."""
    if isinstance(text, str) and text in (text.lower(), text.upper(), text.capitalize()):
        if text.lower() in TRUE:
            return True
        if text.lower() in FALSE:
            return False
    return None
