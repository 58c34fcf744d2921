# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists in conditions: Falco replaces their names in the text before it parses it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules.condition import ConditionError
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules.exceptions import quote

# Characters of a condition with its lists expanded. Lists of lists can make it arbitrarily long.
LONGEST = 4000000


def expand(text: str, lists: Iterable[tuple[str, Sequence[str]]]) -> str:
    """A condition with the name of every list replaced by its items.

    As in Falco, the text is searched for one list after the other. A name counts where blanks, brackets,
    commas or '=' surround it, wherever that is. lists: [(name, items)]. Raises ConditionError where the text
    grows too long.
    """
    for name, items in lists:
        if name not in text:
            continue
        if text.count(name) * sum(len(item) + 4 for item in items) > LONGEST:
            raise ConditionError("its lists make it longer than %d characters" % LONGEST, 0)
        pattern = re.compile(r"(?:(?<=[ \t\n\r(),=])|\A)%s(?=[ \t\n\r(),=]|\Z)" % re.escape(name))
        text = _replaced(text, pattern, ", ".join(quote(item) for item in items))
    return text


def _replaced(text: str, pattern: re.Pattern[str], items: str) -> str:
    parts: list[str] = []
    start = 0
    for match in pattern.finditer(text):
        left, right = match.start(), match.end()
        before = text[start:left].rstrip(" \t\n\r")
        while right < len(text) and text[right] in " \t\n\r":
            right += 1
        if not items:
            # An empty list removes the comma on its left, or else the one on its right.
            if before.endswith(","):
                before = before[:-1]
            elif text[right : right + 1] == ",":
                right += 1
        parts.append(before + (" " if before or parts else "") + items + " ")
        start = right
    return "".join(parts) + text[start:]
