# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text for people: visible characters, columns, one form of numbers, bytes, times and plurals. Pure."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Sequence

# How alike two names must be for the one to be a hint for the other, by difflib's ratio from 0 to 1.
LIKENESS = 0.6
MOST_OF_A_VALUE = 80


def visible(text: str) -> str:
    """Text whose characters that do not print (controls, direction marks) are written out: \\x1b."""
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
    """Visible text of at most so many columns; an ellipsis marks what is cut off."""
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
    """Visible text of exactly so many columns."""
    text = fitted(text, width)
    return text + " " * (width - sum(map(_width, text)))


def columns(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Lines of a table. Columns are as wide as their contents; the last one takes what is left."""
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


def number_text(value: float | None, unknown: str = "unknown") -> str:
    """A percentage, rate or count: three digits below 100, whole above, no exponent. 84.2, 0.0123, 1240."""
    if value is None:
        return unknown
    if abs(value) >= 100:
        return "%.0f" % value
    return "%.3g" % value if abs(value) >= 0.0001 or not value else "less than 0.0001"


def several(number: int, one: str, many: str | None = None) -> str:
    """1 host, 2 hosts. many: the plural where it is not the singular with an s."""
    return "%d %s" % (number, either(number, one, many or one + "s"))


def either(number: int, one: str, many: str) -> str:
    """The form of a word that follows a number."""
    return one if number == 1 else many


def some(names: Iterable[str], most: int = 5, width: int = 40) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    shown = ", ".join(fitted(name, width) for name in names[:most])
    return shown + (" and %d more" % (len(names) - most) if len(names) > most else "")


def duration_text(seconds: float | None) -> str:
    """12.5 s, 4 min, 3.2 h; unknown."""
    if seconds is None:
        return number_text(None)
    if seconds < 120:
        return number_text(seconds) + " s"
    return "%.0f min" % (seconds / 60) if seconds < 7200 else "%s h" % number_text(seconds / 3600)


def clock_text(seconds: float) -> str:
    """0:04:31, hours first."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return "%d:%02d:%02d" % (hours, minutes, rest)


def bytes_text(size: float | None) -> str:
    """12 MiB, in binary units, with its sign where it is negative; unknown."""
    if size is None:
        return "unknown"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            break
        size, unit = size / 1024, "TiB"
    return "%s%s %s" % ("-" if size < 0 else "", number_text(abs(size)), unit)


def value_text(value: object) -> str:
    """A wrong value as Python writes it, for an error message: at most MOST_OF_A_VALUE characters."""
    text = repr(value)
    return text if len(text) <= MOST_OF_A_VALUE else text[: MOST_OF_A_VALUE - 1] + "…"


def nearest(name: str, names: Iterable[str], likeness: float = LIKENESS) -> str | None:
    """The name that somebody may have meant, or None where none is near."""
    close = difflib.get_close_matches(name, list(names), 1, likeness)
    return close[0] if close else None


def hint(name: object, names: Iterable[str], prefix: str = "") -> str:
    """' (did you mean X?)' or ''. prefix: what all names begin with, which says nothing about likeness."""
    close = nearest(str(name), names)
    return "" if close is None else " (did you mean %s%s?)" % (prefix, close)
