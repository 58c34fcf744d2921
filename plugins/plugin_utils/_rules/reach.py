# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The events at which a condition can be true, by set arithmetic over its tree, as in Falco. Pure.

Only evt.type and syscall.type restrict, and only with =, ==, != and in. Every other check, negated or not,
holds for all events. So `spawned_process or proc.name = x` needs every event, and `not evt.type = open` every
event but open.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.syscall_names import KERNEL_ONLY, Names
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import condition

TYPES = ("evt.type", "syscall.type")
DECISIVE = ("=", "==", "!=", "in")


class Reach(NamedTuple):
    """The events that a condition can match.

    yes, no: kernel names, and events of Falco's own, at which the condition or its negation can hold. types:
    {(field, name)} that it compares. directions: {(operator, value)} of evt.dir. errors: what Falco refuses.
    """

    yes: frozenset[str]
    no: frozenset[str]
    types: frozenset[tuple[str, str]] = frozenset()
    directions: frozenset[tuple[str, str]] = frozenset()
    errors: tuple[str, ...] = ()


class Events:
    """Works out conditions for the names of one release."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.all = frozenset(names.kernel | names.meta)

    def reach(self, tree: condition.Tree, macro: Callable[[condition.Macro], Reach]) -> Reach:
        """The Reach of a tree. macro: a function from a condition.Macro to its Reach."""
        if isinstance(tree, condition.Not):
            inner = self.reach(tree.item, macro)
            return inner._replace(yes=inner.no, no=inner.yes)
        if isinstance(tree, (condition.All, condition.Any)):
            parts = [self.reach(item, macro) for item in tree.items]
            both = [part.yes for part in parts], [part.no for part in parts]
            # not (a and b) is (not a or not b): a union on one side is an intersection on the other.
            if isinstance(tree, condition.All):
                yes, no = frozenset.intersection(*both[0]), frozenset.union(*both[1])
            else:
                yes, no = frozenset.union(*both[0]), frozenset.intersection(*both[1])
            return Reach(
                yes,
                no,
                frozenset().union(*(part.types for part in parts)),
                frozenset().union(*(part.directions for part in parts)),
                tuple(dict.fromkeys(error for part in parts for error in part.errors)),
            )
        if isinstance(tree, condition.Macro):
            return macro(tree)
        return self.check(tree)

    def check(self, check: condition.Check) -> Reach:
        """The Reach of one comparison."""
        everything = Reach(self.all, self.all)
        if check.field is None:
            if (check.operator in DECISIVE or check.operator == "exists") and set(TYPES) & set(check.fields):
                return everything._replace(errors=("evt.type cannot be compared through a transformer",))
            return everything
        if check.field == "evt.dir":
            return everything._replace(
                directions=frozenset((check.operator, value) for value in check.values or ("",))
            )
        if check.field not in TYPES or check.argument is not None:
            return everything
        if check.operator == "exists":
            return everything._replace(no=frozenset())
        if check.operator not in DECISIVE:
            return everything
        if check.values is None:
            return everything._replace(errors=("%s cannot be compared with another field" % check.field,))
        named = frozenset(self.names.kernel_of(check.values) | (self.names.meta & set(check.values)))
        yes, no = named, self.all - named
        if check.operator == "!=":
            yes, no = no, yes
        field = check.field
        return Reach(yes, no, frozenset((field, value) for value in check.values))

    def unknown(self, reach: Reach) -> list[str]:
        """Names that Falco refuses in evt.type, unless a plugin brings them."""
        return sorted(
            value
            for field, value in reach.types
            if field == "evt.type" and value not in self.names.events and value not in self.all
        )

    def nameless(self, reach: Reach) -> list[str]:
        """Names that load but stand for no event: the kernel's own ones, and unknown ones in syscall.type."""
        found = {
            value for _field, value in reach.types if value in KERNEL_ONLY and value in self.names.kernel
        }
        return sorted(
            found
            | {
                value
                for field, value in reach.types
                if field == "syscall.type" and value not in self.names.events and value not in self.names.meta
            }
        )
