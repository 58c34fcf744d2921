# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which fields a rule reads, and for which kinds of descriptors its condition can hold. Pure.

Exceptions are part of the condition (`and not (…)`), so their fields are negated reads of the condition.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import Read, Reads
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import condition

# Prefixes of fields that are about a descriptor.
OPERANDS = ("fd", "proc.stdin", "proc.stdout", "proc.stderr")
KINDS = frozenset(
    "file directory tcp udp unix netlink pipe event signalfd timerfd inotify eventpoll userfaultfd io_uring "
    "pidfd memfd bpf other".split()
)
NETWORK = frozenset(["tcp", "udp"])
# Values of fd.type and fd.typechar (libs 0.25.4, fd_type_to_char and get_typestring). Raw sockets count with
# udp.
BY_TYPE = {
    "ipv4": NETWORK,
    "ipv6": NETWORK,
    **{name: frozenset([name]) for name in KINDS - NETWORK - {"other"}},
}
BY_CHAR = {
    "f": frozenset(["file"]),
    "d": frozenset(["directory"]),
    "4": NETWORK,
    "6": NETWORK,
    "u": frozenset(["unix", "userfaultfd"]),
    "p": frozenset(["pipe"]),
}
BY_FAMILY = {"ip": NETWORK, "unix": frozenset(["unix"])}
BY_PROTOCOL = {"tcp": frozenset(["tcp"])}
# Fields that have a value only for sockets of the Internet, or only for files.
OF_NETWORK = re.compile(r"fd\.([cslr]?(ip|port|net|proto)|[cslr]ip\.name|l4proto)")
OF_FILES = re.compile(r"fd\.(directory|filename|containerdirectory|dev|dev\.major|dev\.minor|ino)")
PATHS = frozenset(["file", "directory", "unix", "pidfd"])
# Fields of descriptors that the event itself brings.
OF_EVENT = frozenset(["fd.num", "fd.nameraw", "fd.containername"])
OUTPUT_FIELD = re.compile(r"%\*?([a-zA-Z][a-zA-Z0-9_]*(?:\.[a-zA-Z][a-zA-Z0-9_]*)+)(?:\[([^\]]*)\])?")
# A transformer around a field in an output: %toupper(proc.name)
OUTPUT_CALL = re.compile(r"%\*?[a-z0-9_]+\(([^)]*)\)")
# Comparisons that only look at the end of a value.
TAIL = frozenset(["endswith"])


MacroTree = Callable[[str], object]


def of(tree: object, output: object, macro: MacroTree = lambda name: None) -> Reads:
    """What a condition (a tree, or None) and an output (a text, or a list of fields) read.

    macro: the tree of a macro by its name, or None where it is not known.
    """
    found: dict[tuple[str, str, bool, bool], None] = {}
    for read in _of_tree(tree, macro):
        found[read] = None
    for name in of_output(output):
        found[name, "output", False, False] = None
    read_names = {name for name, place, _negated, _tail in found if place == "condition"}
    kinds, required = {}, []
    for operand in OPERANDS:
        if any(name.startswith(operand + ".") for name in read_names):
            yes = _Kinds(macro, operand).of(tree, 0)[0]
            if yes != KINDS:
                kinds[operand] = sorted(yes)
            if not _Without(macro, operand).of(tree, 0)[0]:
                required.append(operand)
    return {
        "fields": [
            {"field": name, "place": place, "negated": negated, "tail": tail}
            for name, place, negated, tail in sorted(found)
        ],
        "kinds": kinds,
        "required": required,
    }


def of_names(names: Iterable[str], output: object) -> Reads:
    """The same where only the names of the condition's fields are known. Each may be negated."""
    fields: list[Read] = [
        {"field": _plain(name), "place": "condition", "negated": True, "tail": False}
        for name in sorted(set(names))
    ]
    return {"fields": fields + of(None, output)["fields"], "kinds": {}, "required": []}


def fields_in(text: str) -> list[str]:
    """Names in a text that look like fields.

    This serves conditions that Falco prints in a form that cannot be parsed.
    """
    return sorted({match[0] for match in condition.FIELD.finditer(text)})


def _plain(name: str) -> str:
    """proc.aname[2] → proc.aname, evt.arg[name] → evt.arg.name"""
    base, bracket, argument = name.partition("[")
    return _with_argument(base, argument.rstrip("]") if bracket else None)


def _with_argument(name: str, argument: str | None) -> str:
    if name in ("evt.arg", "evt.rawarg") and argument:
        return "%s.%s" % (name, argument)
    return name


def of_output(output: object) -> list[str]:
    if isinstance(output, (list, tuple)):
        return [_plain(item.lstrip("%*")) for item in output if isinstance(item, str)]
    if not isinstance(output, str):
        return []
    found = [_with_argument(match[1], match[2]) for match in OUTPUT_FIELD.finditer(output)]
    for match in OUTPUT_CALL.finditer(output):
        found.extend(_plain(name) for name in fields_in(match[1]))
    return found


def _of_tree(tree: object, macro: MacroTree) -> Iterator[tuple[str, str, bool, bool]]:
    waiting: list[tuple[object, bool, int]] = [(tree, False, 0)]
    seen: set[tuple[str, bool]] = set()
    while waiting:
        node, negated, depth = waiting.pop()
        if isinstance(node, (condition.All, condition.Any)):
            waiting.extend((item, negated, depth) for item in node.items)
        elif isinstance(node, condition.Not):
            waiting.append((node.item, not negated, depth))
        elif isinstance(node, condition.Macro):
            if (node.name, negated) not in seen:
                seen.add((node.name, negated))
                waiting.append((macro(node.name), negated, depth + 1))
        elif isinstance(node, condition.Check):
            yield from _of_check(node, negated)


def _of_check(check: condition.Check, negated: bool) -> Iterator[tuple[str, str, bool, bool]]:
    negated = negated != (check.operator == "!=")
    for name in check.fields:
        own = name == check.field
        yield (
            _with_argument(name, check.argument if own else None),
            "condition",
            negated,
            own and check.operator in TAIL,
        )


class _Kinds:
    """Kinds of descriptors of one operand. A macro is worked out once: macros that name others twice would
    take exponential time."""

    def __init__(self, macro: MacroTree, operand: str) -> None:
        self.macro, self.operand = macro, operand
        self.known: dict[str, tuple[frozenset[str], frozenset[str]]] = {}

    def of(self, tree: object, depth: int) -> tuple[frozenset[str], frozenset[str]]:
        """Kinds of descriptors for which a tree, and its negation, can hold."""
        if isinstance(tree, condition.Not):
            yes, no = self.of(tree.item, depth)
            return no, yes
        if isinstance(tree, (condition.All, condition.Any)):
            parts = [self.of(item, depth) for item in tree.items]
            both = [part[0] for part in parts], [part[1] for part in parts]
            if isinstance(tree, condition.All):
                return frozenset.intersection(*both[0]), frozenset.union(*both[1])
            return frozenset.union(*both[0]), frozenset.intersection(*both[1])
        if isinstance(tree, condition.Macro) and depth < condition.DEEPEST:
            if tree.name not in self.known:
                self.known[tree.name] = KINDS, KINDS  # a circle does not load
                self.known[tree.name] = self.of(self.macro(tree.name), depth + 1)
            return self.known[tree.name]
        if isinstance(tree, condition.Check):
            return _kinds_of_check(tree, self.operand), KINDS
        return KINDS, KINDS


class _Without:
    """Whether conditions can hold where a descriptor has no value. A macro is worked out once, as above."""

    def __init__(self, macro: MacroTree, operand: str) -> None:
        self.macro, self.operand = macro, operand
        self.known: dict[str, tuple[bool, bool]] = {}

    def of(self, tree: object, depth: int) -> tuple[bool, bool]:
        """Whether a tree can be true, and false."""
        if isinstance(tree, condition.Not):
            true, false = self.of(tree.item, depth)
            return false, true
        if isinstance(tree, (condition.All, condition.Any)):
            parts = [self.of(item, depth) for item in tree.items]
            every, some = (0, 1) if isinstance(tree, condition.All) else (1, 0)
            found = {every: all(part[every] for part in parts), some: any(part[some] for part in parts)}
            return found[0], found[1]
        if isinstance(tree, condition.Macro) and depth < condition.DEEPEST:
            if tree.name not in self.known:
                self.known[tree.name] = True, True  # a circle does not load
                self.known[tree.name] = self.of(self.macro(tree.name), depth + 1)
            return self.known[tree.name]
        if isinstance(tree, condition.Check) and tree.field and tree.operator != "!=":
            if tree.field.startswith(self.operand + ".") and tree.field not in OF_EVENT:
                return False, True
        return True, True


def _kinds_of_check(check: condition.Check, operand: str) -> frozenset[str]:
    """Kinds of descriptors for which a comparison can hold.

    A descriptor that Falco does not know has no value, so the negation of a check holds for all.
    """
    if check.field is None or not check.field.startswith(operand + "."):
        return KINDS
    name = check.field[len(operand) + 1 :]
    equal = check.operator in ("=", "==", "in") and check.values
    tables = {"type": BY_TYPE, "typechar": BY_CHAR, "sockfamily": BY_FAMILY, "l4proto": BY_PROTOCOL}
    if equal and name in tables:
        other = NETWORK if name == "l4proto" else KINDS
        return frozenset().union(*(tables[name].get(value, other) for value in check.values or ()))
    if check.operator == "!=":
        return KINDS
    if OF_NETWORK.fullmatch("fd." + name):
        return NETWORK
    if OF_FILES.fullmatch("fd." + name):
        return frozenset(["file", "directory"])
    absolute = check.values and all(value.startswith("/") for value in check.values)
    if name == "name" and absolute and check.operator in ("=", "==", "in", "startswith", "pmatch"):
        return PATHS
    return KINDS
