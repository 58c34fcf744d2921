# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""YAML from hosts, read by events under limits: nesting and values are counted while the text is parsed.
Pure.

PyYAML's composer must not see text from a host: with libyaml 0.2.5 (the PyYAML packages of Debian 12 and
6.0.3 from PyPI) 60 kB of brackets end the process, and 500 bytes of merge keys take gigabytes. Its events are
safe, and this module uses nothing else.

As in yaml-cpp, which Falco uses: of two equal keys in one mapping the first one counts, and ``<<`` is an
ordinary key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import yaml

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DEEPER = "values are nested deeper than %d levels"
_HALF_PAIRS = re.compile("[\ud800-\udfff]")
# Plain texts that yaml-cpp reads as null (include/yaml-cpp/null.h).
NULLS = ("", "~", "null", "Null", "NULL")


class Value(NamedTuple):
    """A value with its line, from 1.

    data: None, a text, a list of Values, or a dict of text → Value. plain: not in quotes.
    """

    data: Any
    line: int
    plain: bool = False


class Document(NamedTuple):
    """One document.

    duplicates: keys that a mapping holds twice, as (key, line of the second one). odd_keys: lines of keys
    that are no text; such keys are left out. values: read so far in all documents of the text.
    """

    root: Value
    duplicates: list[tuple[str, int]]
    odd_keys: list[int]
    values: int


class Unreadable(ValueError):
    """Text that cannot be read: what is wrong, and in which line (from 1)."""

    def __init__(self, what: str, line: int) -> None:
        super().__init__(what)
        self.line = line


class _Open:
    """A list or mapping that is being read. size: the values in it so far."""

    __slots__ = ("line", "anchor", "data", "listed", "key", "keyed", "size")

    def __init__(self, event: Any, data: Any) -> None:
        self.line: int = event.start_mark.line + 1
        self.anchor: str | None = event.anchor
        self.data = data
        self.listed = isinstance(data, list)
        self.key: str | None = None
        self.keyed = False
        self.size = 1

    def add(self, value: Value, size: int, reader: _Reader) -> None:
        self.size += size
        if self.keyed:
            if self.key is not None:
                self.data.setdefault(self.key, value)
            self.keyed = False
        elif self.listed:
            self.data.append(value)
        else:
            self.key, self.keyed = value.data if isinstance(value.data, str) else None, True
            if self.key is None:
                reader.odd_keys.append(value.line)
            elif self.key in self.data:
                reader.duplicates.append((self.key, value.line))


class _Reader:
    """Builds one document after the other from events."""

    def __init__(self, deepest: int, most: int) -> None:
        self.deepest, self.most, self.left = deepest, most, most
        self.start()

    def start(self) -> None:
        self.open: list[_Open] = []
        self.anchors: dict[str, tuple[Value, int]] = {}
        self.root: Value | None = None
        self.duplicates: list[tuple[str, int]] = []
        self.odd_keys: list[int] = []

    def steps(self) -> dict[type, Callable[[Any], None]]:
        """What to do for each kind of event inside a document. A lookup by type: tens of thousands of events
        come from a fleet's files each second."""
        return {
            yaml.ScalarEvent: self.scalar,
            yaml.MappingStartEvent: self.begin,
            yaml.SequenceStartEvent: self.begin,
            yaml.MappingEndEvent: self.end,
            yaml.SequenceEndEvent: self.end,
            yaml.AliasEvent: self.alias,
        }

    def begin(self, event: Any) -> None:
        self.open.append(_Open(event, [] if isinstance(event, yaml.SequenceStartEvent) else {}))
        if len(self.open) > self.deepest:
            raise Unreadable(DEEPER % self.deepest, self.open[-1].line)

    def end(self, _event: Any) -> None:
        done = self.open.pop()
        self._put(Value(done.data, done.line), done.size, done.anchor)

    def scalar(self, event: Any) -> None:
        text, line = event.value, event.start_mark.line + 1
        if event.tag and event.tag.endswith(","):
            # Without libyaml, and with it before 0.2.3, [!open, close] has one value, and two for Falco.
            raise Unreadable("a value that begins with ! stands before a comma: quote it", line)
        if text and not text.isascii() and _HALF_PAIRS.search(text):
            # libyaml refuses these itself.
            raise Unreadable("not YAML: half of a surrogate pair is no character", line)
        self._count(1, line)
        plain = not event.style and event.tag is None  # a tag makes it a text, as in yaml-cpp
        self._put(Value(None if plain and text in NULLS else text, line, plain), 1, event.anchor)

    def alias(self, event: Any) -> None:
        line = event.start_mark.line + 1
        if event.anchor not in self.anchors:
            raise Unreadable("not YAML: the alias *%s refers to no anchor" % event.anchor, line)
        value, size = self.anchors[event.anchor]
        self._count(size, line)
        self._put(value, size, None)

    def _count(self, size: int, line: int) -> None:
        self.left -= size
        if self.left < 0:
            raise Unreadable("the text holds more than %d values" % self.most, line)

    def _put(self, value: Value, size: int, anchor: str | None) -> None:
        if anchor is not None:
            self.anchors[anchor] = (value, size)
        if self.open:
            self.open[-1].add(value, size, self)
        else:
            self.root = value


def documents(text: str | bytes, deepest: int, most: int) -> Iterator[Document]:
    """Every document of a text. deepest: levels of nesting. most: values in all documents, aliases written
    out.

    Raises Unreadable.
    """
    reader = _Reader(deepest, most)
    steps = reader.steps()
    try:
        following = LOADER(text).get_event  # as yaml.parse(), which asks twice for each event
        while (kind := type(event := following())) is not yaml.StreamEndEvent:
            if kind in steps:
                steps[kind](event)
            elif kind is yaml.DocumentStartEvent:
                reader.start()
            elif kind is yaml.DocumentEndEvent and reader.root is not None:
                yield Document(reader.root, reader.duplicates, reader.odd_keys, most - reader.left)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = "not YAML: %s" % (error.problem or error.context or "unreadable")
        if "nesting depth" in what:  # libyaml 0.2.6 and newer refuse it before the event is seen here
            what = DEEPER % deepest
        raise Unreadable(what, mark.line + 1 if mark else 1) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        if isinstance(error, Unreadable):
            raise
        # Without libyaml a character beyond Unicode, "\\UFFFFFFFF", is a ValueError of Python's.
        what = " ".join(str(error).split())[:200] or type(error).__name__
        raise Unreadable("not YAML: %s" % what, 1) from None
