# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exceptions of rules: from their entries to the condition that they exclude. Pure."""

from __future__ import annotations

from typing import Any

from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import entries
from ansible_collections.falcotune.fleet.plugins.plugin_utils._yaml import Value
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules.entries import Wrong

OPERATORS = frozenset(
    """exists <= < >= > == = != glob iglob contains icontains bcontains startswith bstartswith endswith regex
                      intersects in pmatch""".split()
)
TEXT_OPERATORS = frozenset(
    "== = != glob iglob contains icontains bcontains startswith bstartswith endswith regex".split()
)
LIST_OPERATORS = frozenset(["intersects", "in", "pmatch"])
MODIFIERS = frozenset(["oneof", "anyof", "allof"])


class RuleException:
    """One exception of a rule.

    fields, comparisons: a text or a list of texts, None where the entry has none. values: texts, or lists of
    texts and lists.
    """

    def __init__(self, name: str, fields: Any, comparisons: Any, values: list[Any], line: int) -> None:
        self.name, self.fields, self.comparisons, self.values, self.line = (
            name,
            fields,
            comparisons,
            values,
            line,
        )

    def check(self) -> None:
        """Fill in the default comparisons. Raises Wrong for what Falco refuses."""
        if isinstance(self.fields, list):
            if not all(isinstance(item, str) for item in self.fields):
                raise Wrong("exception '%s' has fields that are not texts" % self.name, self.line)
            if self.comparisons is None:
                self.comparisons = ["="] * len(self.fields)
            if not isinstance(self.comparisons, list) or len(self.fields) != len(self.comparisons):
                raise Wrong("exception '%s' has fields and comps of different length" % self.name, self.line)
            self.comparisons = [str(item).strip() for item in self.comparisons]
            for comparison in self.comparisons:
                if comparison not in OPERATORS and not _with_modifier(comparison):
                    raise Wrong(
                        "exception '%s' compares by '%s', which is not an operator" % (self.name, comparison),
                        self.line,
                    )
            return
        if self.comparisons is None:
            self.comparisons = "in"
        if not isinstance(self.comparisons, str):
            raise Wrong("exception '%s' has a list of comps for one field" % self.name, self.line)
        self.comparisons = self.comparisons.strip()
        if self.comparisons not in LIST_OPERATORS and not _with_modifier(self.comparisons):
            raise Wrong(
                "exception '%s' compares one field by '%s', which does not take a list"
                % (self.name, self.comparisons),
                self.line,
            )

    def condition(self) -> str:
        """The condition that this exception excludes, or '' without values. Raises Wrong."""
        if not self.values:
            return ""
        if not isinstance(self.fields, list):
            if any(isinstance(value, list) for value in self.values):
                raise Wrong(
                    "exception '%s' has one field, so its values must be texts" % self.name, self.line
                )
            return "(%s %s (%s))" % (
                self.fields,
                self.comparisons,
                ", ".join(quote(value) for value in self.values),
            )
        return "(%s)" % " or ".join("(%s)" % self._tuple(values) for values in self.values)

    def _tuple(self, values: Any) -> str:
        if not isinstance(values, list) or len(values) != len(self.fields):
            raise Wrong("exception '%s' has values that do not match its fields" % self.name, self.line)
        return " and ".join(
            "%s %s %s" % (field, comparison, _operand(value, comparison))
            for field, comparison, value in zip(self.fields, self.comparisons, values)
        )


def exceptions_of(entry: Value) -> list[RuleException]:
    """The exceptions of an entry, with their values unchanged. Raises Wrong."""
    value = entry.data.get("exceptions", Value(None, entry.line))
    if value.data is None:
        return []
    if not isinstance(value.data, list):
        raise Wrong("'exceptions' is not a list", value.line)
    found = []
    for item in value.data:
        if not isinstance(item.data, dict):
            raise Wrong("an exception is not a mapping", item.line)
        name = entries.text(item, "name")
        values = item.data.get("values")
        if values is not None and not isinstance(values.data, list):
            raise Wrong("values of exception '%s' are not a list" % name, values.line)
        found.append(
            RuleException(
                name,
                _plain(item.data.get("fields")),
                _plain(item.data.get("comps")),
                [_plain(one) for one in values.data] if values else [],
                item.line,
            )
        )
    return found


def _plain(value: Value | None) -> Any:
    """A Value as a text or as nested lists of texts; None for nothing."""
    if value is None or value.data is None:
        return None
    if isinstance(value.data, str):
        if not value.data:
            raise Wrong("an exception holds an empty text", value.line)
        return value.data
    if isinstance(value.data, list):
        return ["" if item is None else item for item in map(_plain, value.data)]
    raise Wrong("an exception holds a mapping where texts belong", value.line)


def _with_modifier(operator: str) -> bool:
    words = operator.split()
    return len(words) == 2 and words[0] in TEXT_OPERATORS and words[1] in MODIFIERS


def quote(text: object) -> str:
    """A value as it is written in a condition: in quotes where it contains a blank."""
    text = "" if text is None else str(text)
    return '"%s"' % text if " " in text and text[0] not in "'\"" else text


def _operand(value: Any, comparison: str) -> str:
    if isinstance(value, list):
        return "(%s)" % ", ".join(quote(item) for item in value)
    text = "" if value is None else value
    if comparison in LIST_OPERATORS or _with_modifier(comparison):
        return text if text.startswith("(") else "(%s)" % text
    return quote(text)
