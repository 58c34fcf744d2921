# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rule costs an event: its condition evaluated as Falco does, with probabilities in place of values.
Pure.

Falco evaluates from left to right and stops where the result is known. Macros are part of the rule. Within
one rule and event a field is read once and an equal comparison is made once; rules share nothing, because
Falco makes one cache for each rule (libs 0.25.4, userspace/libsinsp/filter_cache.h). evt.type is known for
each event; how often another check holds is assumed (chance()).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import condition, printing, reach
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules.ruleset import Trees
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules_audit import costs

# Checks of one rule with its macros. The longest stock rule has 300; macros of macros can make billions.
MOST_CHECKS = 20000
# Kernel names of events whose descriptor is a socket.
SOCKETS = frozenset(
    "connect accept accept4 bind listen sendto sendmsg sendmmsg recvfrom recvmsg recvmmsg send recv shutdown "
    "getsockopt setsockopt getpeername getsockname".split()
)
# How often a check holds, of all events that reach it. Nobody knows without values; these orders of
# magnitude only decide how far a condition is evaluated.
CHANCES = {
    "exists": 0.9,
    "=": 0.05,
    "==": 0.05,
    "!=": 0.95,
    "<": 0.5,
    "<=": 0.5,
    ">": 0.5,
    ">=": 0.5,
    "in": 0.15,
    "startswith": 0.1,
    "intersects": 0.15,
    "pmatch": 0.15,
}
DEFAULT_CHANCE = 0.05
# Checks of fields with few values.
BROAD = {
    "fd.typechar": 0.5,
    "fd.type": 0.5,
    "evt.is_open_read": 0.6,
    "evt.is_open_write": 0.3,
    "evt.dir": 1.0,
    "fd.num": 0.9,
    "evt.failed": 0.3,
    "container.id": 0.5,
    "fd.l4proto": 0.5,
    "fd.sockfamily": 0.5,
}


class Estimate(NamedTuple):
    """ns: expected nanoseconds. chance: of a match. read: {field or check: chance that it was evaluated}."""

    ns: float
    chance: float
    read: Mapping[str, float]


class TooLarge(ValueError):
    """A condition of more than MOST_CHECKS checks, with its macros."""


class Estimator:
    """Works out the costs of conditions. macros: their trees by name."""

    def __init__(self, events: reach.Events, macros: Trees) -> None:
        self.events, self.macros = events, macros
        self._sizes: dict[str, int] = {}

    def checks(self, tree: condition.Tree) -> Iterator[condition.Check]:
        """The checks of a tree and of its macros, each macro once."""
        waiting, seen = [tree], set()
        while waiting:
            for node in condition.walk(waiting.pop()):
                if isinstance(node, condition.Check):
                    yield node
                elif node.name not in seen and (inner := self.macros.get(node.name)) is not None:
                    seen.add(node.name)
                    waiting.append(inner)

    def size(self, tree: condition.Tree) -> int:
        """Checks of a tree with its macros. Raises TooLarge."""
        total = 0
        for node in condition.walk(tree):
            if isinstance(node, condition.Macro):
                if node.name not in self._sizes:
                    self._sizes[node.name] = MOST_CHECKS  # a circle does not load
                    inner = self.macros.get(node.name)
                    self._sizes[node.name] = self.size(inner) if inner is not None else 1
                total += self._sizes[node.name]
            else:
                total += 1
            if total > MOST_CHECKS:
                raise TooLarge("the condition has more than %d checks with its macros" % MOST_CHECKS)
        return total

    def types(self, tree: condition.Tree) -> list[frozenset[str]]:
        """The sets of events that the checks of evt.type in a tree name. Events in the same of them cost the
        same."""
        found = (self.events.check(node).yes for node in self.checks(tree) if is_type(node))
        return list(dict.fromkeys(found))

    def whole(self, tree: condition.Tree, event: str) -> Estimate:
        """The Estimate of a rule's tree at one event (kernel name). Raises TooLarge."""
        self.size(tree)
        return self.estimate(tree, event, {})

    def estimate(self, tree: condition.Tree, event: str, before: Mapping[str, float]) -> Estimate:
        """The Estimate of a part of a tree. before: `read` of what was evaluated before it."""
        if isinstance(tree, (condition.All, condition.Any)):
            return self._chain(tree, event, before)
        if isinstance(tree, condition.Not):
            inner = self.estimate(tree.item, event, before)
            return inner._replace(chance=1.0 - inner.chance)
        if isinstance(tree, condition.Macro):
            inner_tree = self.macros.get(tree.name)
            if inner_tree is None:
                return Estimate(0.0, DEFAULT_CHANCE, {})
            return self.estimate(inner_tree, event, before)
        return self._check(tree, event, before)

    def _chain(
        self, tree: condition.All | condition.Any, event: str, before: Mapping[str, float]
    ) -> Estimate:
        known = dict(before)
        read: dict[str, float] = {}
        ns, reached = 0.0, 1.0
        for item in tree.items:
            if not reached:
                break
            found = self.estimate(item, event, known)
            ns += reached * found.ns
            for name, chance in found.read.items():
                known[name] = 1.0 - (1.0 - known.get(name, 0.0)) * (1.0 - chance)
                read[name] = 1.0 - (1.0 - read.get(name, 0.0)) * (1.0 - reached * chance)
            reached *= found.chance if isinstance(tree, condition.All) else 1.0 - found.chance
        return Estimate(ns, reached if isinstance(tree, condition.All) else 1.0 - reached, read)

    def _check(self, check: condition.Check, event: str, before: Mapping[str, float]) -> Estimate:
        if is_type(check):
            # Part of RULE_NS the first time, and as good as nothing later.
            return Estimate(0.0, 1.0 if event in self.events.check(check).yes else 0.0, {})
        text = printing.check(check)
        subject = printing.subject(check)
        reading = field_ns(check, event) * (1.0 - before.get(subject, 0.0))
        comparing = costs.operator_ns(check.operator, len(check.values or ()))
        if check.values is None:
            comparing += sum(costs.field(name).ns for name in check.fields[1:])
        known = before.get(text, 0.0)
        ns = costs.CACHED_NS * known + (reading + comparing) * (1.0 - known)
        return Estimate(ns, chance(check), {subject: 1.0, text: 1.0})


def is_type(check: condition.Check | condition.Macro) -> bool:
    """Whether a check decides by evt.type, so that its result is known for each event."""
    return (
        isinstance(check, condition.Check)
        and check.field in reach.TYPES
        and check.argument is None
        and check.operator in reach.DECISIVE
        and check.values is not None
    )


def field_ns(check: condition.Check, event: str) -> float:
    """The nanoseconds of reading the left side of a check."""
    if check.field is None:
        ours = check.fields if check.values is not None else check.fields[:1]
        return sum(costs.field(name).ns for name in ours) + costs.TRANSFORMER_NS * check.left.count("(")
    if check.field in ("fd.name", "fd.sip.name", "fd.cip.name") and event in SOCKETS:
        return costs.SOCKET_NAME_NS
    return costs.field(check.field).ns


def chance(check: condition.Check) -> float:
    """How often a check is assumed to hold."""
    operator = check.operator.split()[0]
    if operator in ("!=",):
        return 1.0 - BROAD.get(check.field or "", 1.0 - CHANCES["!="])
    return BROAD.get(check.field or "", CHANCES.get(operator, DEFAULT_CHANCE))
