# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text of unknown origin for a terminal: nothing in it moves the cursor, and it fits into columns. Numbers for people. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def visible(text: str) -> str:
    """Text in which every character that does not print (controls, escapes, direction marks, line ends) is written out: \\x1b."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(character if character.isprintable() else _written(ord(character)) for character in text)


def _written(code: int) -> str:
    return "\\x%02x" % code if code < 0x100 else "\\u%04x" % code if code < 0x10000 else "\\U%08x" % code


def _width(character: str) -> int:
    return (
        2 if unicodedata.east_asian_width(character) in "WF" else 0 if unicodedata.combining(character) else 1
    )


def fitted(text: str, width: int) -> str:
    """Visible text of at most so many columns; what is cut off is marked with an ellipsis."""
    text = visible(text)
    if text.isascii():
        return text if len(text) <= width else text[: width - 1] + "…"
    used, fits = 0, 0
    for position, character in enumerate(text):
        used += _width(character)
        if used <= width - 1:
            fits = position + 1
    return text if used <= width else text[:fits] + "…"


def padded(text: str, width: int) -> str:
    text = fitted(text, width)
    return text + " " * (width - sum(map(_width, text)))


def columns(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Columns wide enough for what is in them; the last one takes what is left."""
    wide = [max(sum(map(_width, visible(row[column]))) for row in rows) for column in range(len(rows[0]) - 1)]
    wide[0] = min(wide[0], max(width // 3, 8))
    return [
        fitted(
            "  ".join([padded(text, size) for text, size in zip(row, wide)] + [visible(row[-1])]), width
        ).rstrip()
        for row in rows
    ]


def wrapped(text: str, width: int, indent: str = "  ") -> list[str]:
    """Lines of whole words, by columns. Words longer than a line are cut."""
    lines, line = [], indent
    for word in text.split(" "):
        word = fitted(word, width - len(indent))
        if line != indent and sum(map(_width, line)) + 1 + sum(map(_width, word)) > width:
            lines.append(line)
            line = indent
        line += word if line == indent else " " + word
    return lines + [line]


def number_text(value: float | None) -> str:
    """A percentage or rate for people: three figures, no exponent. 84.2, 0.0123, 1240."""
    if value is None:
        return "unknown"
    if value >= 100:
        return "%.0f" % value
    return "%.3g" % value if value >= 0.0001 or not value else "less than 0.0001"


def several(number: int, one: str, many: str | None = None) -> str:
    """1 host, 2 hosts."""
    return "%d %s" % (number, one if number == 1 else many or one + "s")


def some(names: Sequence[str], most: int = 5, width: int = 40) -> str:
    """The first of some names, and how many more there are."""
    shown = ", ".join(fitted(name, width) for name in names[:most])
    return shown + (" and %d more" % (len(names) - most) if len(names) > most else "")


def duration_text(seconds: float | None) -> str:
    """12.5 s, 4 min, 3.2 h; unknown."""
    if seconds is None or seconds < 120:
        return number_text(seconds) + (" s" if seconds is not None else "")
    return "%.0f min" % (seconds / 60) if seconds < 7200 else "%s h" % number_text(seconds / 3600)


def bytes_text(size: float | None) -> str:
    """12 MiB; unknown. With its sign."""
    if size is None:
        return "unknown"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            break
        size, unit = size / 1024, "TiB"
    return "%s%s %s" % ("-" if size < 0 else "", number_text(abs(size)), unit)
