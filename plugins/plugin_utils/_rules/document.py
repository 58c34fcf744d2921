# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The YAML of rules files as Falco reads it: texts, not types, with the line of everything; the first of two
equal keys counts.

Pure. What is no YAML, or no list of mappings, is told with its line; a hostile file costs no more than LIMIT
values.
"""

from __future__ import annotations

from typing import NamedTuple

import yaml

# Values read of one file: Falco's own rules hold some thousand; aliases can make billions of a page.
LIMIT = 1000000
# Rule, exceptions, exception, values, value, tuple, list: nothing is nested deeper in a rules file.
DEEPEST = 10
NULLS = ("", "~", "null", "Null", "NULL")
TRUE = ("y", "yes", "true", "on")
FALSE = ("n", "no", "false", "off")
# Only its events are used: its composer ends the process on a file of brackets.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Value(NamedTuple):
    """Something with its line (from 1). data: None, a text, a list of Values, or a dict of text → Value."""

    data: object
    line: int


class RulesFileError(ValueError):
    """What is wrong with a file, and where."""

    def __init__(self, what, line):
        super().__init__(what)
        self.line = line


def entries(text):
    """The entries of a rules file, all documents in turn.

    → ([Value], problem): a RulesFileError where reading had to stop, else None. Entries that are no mappings
    are among them.
    """
    found = []
    try:
        for document in _documents(text):
            if document.data is None:
                continue
            if not isinstance(document.data, list):
                raise RulesFileError("the file is no list of rules, macros and lists", document.line)
            found.extend(item for item in document.data if item.data is not None)
    except RulesFileError as error:
        return found, error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return found, RulesFileError(
            "no YAML: %s" % (error.problem or error.context or "unreadable"), mark.line + 1 if mark else 1
        )
    except (yaml.YAMLError, UnicodeError) as error:
        return found, RulesFileError(
            "no YAML: %s" % (" ".join(str(error).split())[:200] or type(error).__name__), 1
        )
    return found, None


def flag(text):
    """A YAML boolean as Falco reads one: True, False, or None where it is none."""
    if isinstance(text, str) and text in (text.lower(), text.upper(), text.capitalize()):
        if text.lower() in TRUE:
            return True
        if text.lower() in FALSE:
            return False
    return None


class _Open:
    """A list or mapping that is being read. key: the key of a mapping whose value comes next; size: values in
    it so far."""

    def __init__(self, event, data):
        self.line = event.start_mark.line + 1
        self.anchor = event.anchor
        self.data = data
        self.key = None
        self.keyed = False
        self.size = 1

    def add(self, value, size):
        self.size += size
        if isinstance(self.data, list):
            self.data.append(value)
        elif not self.keyed:
            self.key, self.keyed = value.data if isinstance(value.data, str) else None, True
        else:
            if self.key is not None:
                self.data.setdefault(self.key, value)
            self.keyed = False


def _documents(text):
    """Every document of a text as one Value."""
    open_, anchors, left, root = [], {}, LIMIT, None
    for event in yaml.parse(text, Loader=LOADER):
        if isinstance(event, yaml.DocumentStartEvent):
            open_, anchors, root = [], {}, None
            continue
        if isinstance(event, yaml.DocumentEndEvent):
            if root is not None:
                yield root
            continue
        if isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
            open_.append(_Open(event, [] if isinstance(event, yaml.SequenceStartEvent) else {}))
            if len(open_) > DEEPEST:
                raise RulesFileError("values are nested deeper than %d" % DEEPEST, open_[-1].line)
            continue
        line, size, anchor = event.start_mark.line + 1, 1, None
        if isinstance(event, yaml.ScalarEvent):
            # Plain and empty is nothing; in quotes it is a text.
            value, anchor = (
                Value(None if not event.style and event.value in NULLS else event.value, line),
                event.anchor,
            )
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchors:
                raise RulesFileError("no YAML: the alias *%s stands for nothing" % event.anchor, line)
            value, size = anchors[event.anchor]
        elif isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
            done = open_.pop()
            value, size, anchor, line = Value(done.data, done.line), done.size, done.anchor, done.line
        else:
            continue
        if anchor is not None:
            anchors[anchor] = (value, size)
        if not isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
            left -= size
            if left < 0:
                raise RulesFileError("the file holds more than %d values" % LIMIT, line)
        if open_:
            open_[-1].add(value, size)
        else:
            root = value
