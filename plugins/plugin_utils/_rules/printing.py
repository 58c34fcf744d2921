# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A condition's tree → text that parses to the same tree. Pure.

Brackets stand where the tree has them, so `a and (b and c)` keeps them. Values are in quotes, except those
that end in a backslash: Falco takes a quote after a backslash as part of the string.
"""

from __future__ import annotations

from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import condition
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules.exceptions import TEXT_OPERATORS


def text(tree: condition.Tree) -> str:
    """The text of a tree."""
    if isinstance(tree, condition.Any):
        # `and` binds more closely than `or`, so it needs no brackets here.
        return " or ".join(
            text(item) if isinstance(item, condition.All) else _operand(item) for item in tree.items
        )
    if isinstance(tree, condition.All):
        return " and ".join(_operand(item) for item in tree.items)
    if isinstance(tree, condition.Not):
        inner = text(tree.item)
        return "not %s" % (inner if isinstance(tree.item, (condition.Check, condition.Macro)) else _in(inner))
    return tree.name if isinstance(tree, condition.Macro) else check(tree)


def _operand(tree: condition.Tree) -> str:
    return _in(text(tree)) if isinstance(tree, (condition.All, condition.Any)) else text(tree)


def _in(inner: str) -> str:
    return "(%s)" % inner


def check(one: condition.Check) -> str:
    """The text of one comparison."""
    left = subject(one)
    if one.operator == "exists":
        return "%s exists" % left
    return "%s %s %s" % (left, one.operator, _right(one))


def subject(one: condition.Check) -> str:
    """The left side of a comparison: a field with its argument, or a transformer."""
    if one.field is None:
        return one.left
    return one.field if one.argument is None else "%s[%s]" % (one.field, _argument(one.argument))


def _right(one: condition.Check) -> str:
    if one.values is None:
        return one.right
    if condition.COMPARES_NUMBERS.fullmatch(one.operator):
        return one.values[0]
    if one.operator in TEXT_OPERATORS:
        return quoted(one.values[0])
    return "(%s)" % ", ".join(quoted(value) for value in one.values)


def quoted(value: str) -> str:
    """A value as it can stand on the right side."""
    if value.endswith("\\"):
        return value
    return '"%s"' % value.replace("\\", "\\\\").replace('"', '\\"')


def _argument(value: str) -> str:
    return value if condition.ARGUMENT.fullmatch(value) else quoted(value)
