# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be written better in one condition, by its form alone. Pure.

Each advice keeps the meaning of the condition: checks have no effects, so their order in an `and` is free,
and an operator is only replaced by one that holds for the same values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import condition, printing
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules_audit import costs, estimates

# Checks with one of these operators say what a value is, not what it is not.
POSITIVE = frozenset(["=", "==", "in", "startswith", "endswith", "pmatch", "exists"])
# A check is strong where it is assumed to hold for at most this share of the events that reach it.
STRONG = 0.2
# An order is only worth a finding from this gain on, in nanoseconds an event and as a share of the rule.
LEAST_GAIN_NS = 50.0
LEAST_GAIN_SHARE = 0.1
# Fields that are read anew along all ancestors.
ANCESTORS = frozenset(["proc.aname", "proc.aexe", "proc.aexepath", "proc.acmdline"])
GLOB_SPECIAL = re.compile(r"[?\[\]\\]")
REGEX_SPECIAL = re.compile(r"[.^$*+?{}\[\]\\|()]")
# From so many equal comparisons of one field on, a list is advised.
MANY_EQUAL = 3

# Fields with one value: = for one of several is the same as `in`. Lists compare in other ways.
ONE_VALUE = re.compile(
    r"(proc\.(name|pname|exe|pexe|exepath|pexepath|cmdline|pcmdline|args|cwd|tty|sname|vpid|pid|ppid)"
    r"|fd\.(name|directory|filename|type|typechar|num)|(user|group)\.\w+"
    r"|container\.(id|name|image\.repository))"
)

# Calls that do the same in different forms: a rule should name those of one action.
ACTIONS = tuple(
    frozenset(names.split())
    for names in (
        "open openat openat2 creat open_by_handle_at",
        "execve execveat",
        "accept accept4",
        "connect",
        "bind listen",
        "unlink unlinkat rmdir",
        "rename renameat renameat2",
        "mkdir mkdirat",
        "mknod mknodat",
        "chmod fchmod fchmodat fchmodat2",
        "chown fchown fchownat lchown",
        "link linkat",
        "symlink symlinkat",
        "dup dup2 dup3",
        "send sendto sendmsg sendmmsg",
        "recv recvfrom recvmsg recvmmsg",
        "read readv pread64 preadv preadv2",
        "write writev pwrite64 pwritev pwritev2",
        "clone clone3 fork vfork",
        "mount umount umount2 fsmount move_mount fsopen fsconfig",
        "setuid setuid32 setreuid setresuid setresuid32",
        "setgid setgid32 setregid setresgid setresgid32",
        "setns unshare",
        "init_module finit_module delete_module",
        "kill tkill tgkill",
        "stat fstat lstat newfstatat statx",
    )
)
# Calls that are frequent on most hosts. Mixed with rarer ones, they make every check of the rule frequent.
FREQUENT = frozenset(
    "open openat openat2 close read write readv writev pread64 pwrite64 recvfrom recvmsg sendto sendmsg recv "
    "send recvmmsg sendmmsg connect accept accept4 stat fstat lstat newfstatat statx mmap munmap mprotect "
    "futex fcntl ioctl poll ppoll select epoll_wait epoll_pwait dup dup2 dup3 clone clone3 brk lseek "
    "getdents64 access faccessat rt_sigaction rt_sigprocmask nanosleep clock_nanosleep".split()
)


class Advice(NamedTuple):
    """text: why. instead: what to write. ns: nanoseconds an event saved, or None where that is not known."""

    kind: str
    text: str
    instead: str
    ns: float | None = None


def operators(tree: condition.Tree) -> Iterator[Advice]:
    """Checks of a tree, without its macros, whose operator can be a cheaper one."""
    seen: set[str] = set()
    for node in condition.walk(tree):
        if isinstance(node, condition.Check):
            found = _operator(node)
            if found and found.instead not in seen:
                seen.add(found.instead)
                yield found


def _operator(check: condition.Check) -> Advice | None:
    if check.operator not in ("glob", "regex") or not check.values:
        return None
    value = check.values[0]
    simpler = _of_glob(value) if check.operator == "glob" else _of_regex(value)
    if simpler is None:
        return None
    operator, text = simpler
    instead = "%s %s %s" % (printing.subject(check), operator, printing.quoted(text))
    return Advice(
        "operator",
        "%s needs no %s" % (printing.check(check), check.operator),
        instead,
        costs.OPERATORS[check.operator] - costs.OPERATORS[operator],
    )


def _of_glob(value: str) -> tuple[str, str] | None:
    """(operator, value) that hold for the same texts as a glob, or None."""
    inner = value.strip("*")
    if GLOB_SPECIAL.search(value) or "*" in inner or not inner:
        return None
    return _anchored(inner, not value.startswith("*"), not value.endswith("*"))


def _of_regex(value: str) -> tuple[str, str] | None:
    """The same for a regular expression. Falco compares the whole value: ^ and $ say nothing."""
    value = value.removeprefix("^")
    value = value if value.endswith("\\$") else value.removesuffix("$")
    inner = value.removeprefix(".*").removesuffix(".*")
    if REGEX_SPECIAL.search(inner) or not inner:
        return None
    return _anchored(inner, not value.startswith(".*"), not value.endswith(".*"))


def _anchored(inner: str, start: bool, end: bool) -> tuple[str, str]:
    if start and end:
        return "=", inner
    return ("startswith" if start else "endswith" if end else "contains"), inner


def equal_chains(tree: condition.Tree) -> Iterator[Advice]:
    """`a = 1 or a = 2 or a = 3`, which is one look into a set as `a in (1, 2, 3)`."""
    waiting: list[condition.Tree] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, condition.Not):
            waiting.append(node.item)
        elif isinstance(node, condition.All):
            waiting.extend(node.items)
        elif isinstance(node, condition.Any):
            waiting.extend(node.items)
            by_subject: dict[str, list[str]] = {}
            for item in node.items:
                if isinstance(item, condition.Check) and item.operator in ("=", "==") and item.values:
                    by_subject.setdefault(printing.subject(item), []).append(item.values[0])
            for subject, values in by_subject.items():
                if len(values) >= MANY_EQUAL and ONE_VALUE.fullmatch(subject):
                    yield Advice(
                        "equal_chain",
                        "%d comparisons of %s are made one after the other" % (len(values), subject),
                        "%s in (%s)" % (subject, ", ".join(values)),
                        (len(values) - 1) * (costs.CACHED_NS + costs.OPERATORS["="]) - costs.OPERATORS["in"],
                    )


def order(tree: condition.Tree, estimator: estimates.Estimator, event: str) -> Advice | None:
    """An expensive check that stands before a cheap and strong one in the rule's own `and`.

    event: one at which the rule is evaluated (kernel name).
    """
    if not isinstance(tree, condition.All):
        return None
    parts = list(_flat(tree))
    found = better(parts, estimator, event)
    if found is None:
        return None
    early_text, late_text = (_short(parts[place]) for place in (found.early, found.late))
    return Advice(
        "order",
        "%s is evaluated before the cheaper and stronger %s" % (early_text, late_text),
        "put %s before %s" % (late_text, early_text),
        found.ns,
    )


class Order(NamedTuple):
    """A better order of the parts of an `and`: their places. The part at `late` goes before that at `early`.
    ns: nanoseconds an event that it saves."""

    places: list[int]
    early: int
    late: int
    ns: float


def better(parts: Sequence[condition.Tree], estimator: estimates.Estimator, event: str) -> Order | None:
    """One move that makes an `and` cheaper, or None. What decides by event types comes first in any case."""
    typed = [place for place, item in enumerate(parts) if _decides_types(item, estimator)]
    others = [place for place in range(len(parts)) if place not in typed]
    late = next(_pairs([parts[place] for place in others], estimator, event), None)
    if late is None:
        return None
    early, item = (next(place for place in others if parts[place] is one) for one in late)
    moved = [place for place in others if place != item]
    moved.insert(moved.index(early), item)
    now, then = (
        estimator.whole(condition.All(tuple(parts[place] for place in typed + order)), event).ns
        for order in (others, moved)
    )
    if now - then < max(LEAST_GAIN_NS, LEAST_GAIN_SHARE * now):
        return None
    return Order(typed + moved, early, item, now - then)


def _flat(tree: condition.Tree) -> Iterator[condition.Tree]:
    """The parts of an `and`. A rule with exceptions is (condition) and not (exception)."""
    if isinstance(tree, condition.All):
        for item in tree.items:
            yield from _flat(item)
    else:
        yield tree


def _pairs(
    items: list[condition.Tree], estimator: estimates.Estimator, event: str
) -> Iterator[tuple[condition.Tree, condition.Tree]]:
    """(an expensive item, a cheap and strong one behind it)."""
    for number, early in enumerate(items):
        if not expensive(early, estimator, event):
            continue
        for item in items[number + 1 :]:
            if _cheap_and_strong(item, event):
                yield early, item


def expensive(tree: condition.Tree, estimator: estimates.Estimator, event: str) -> bool:
    """Whether a tree with its macros contains a check that looks at a whole text or at all ancestors."""
    return any(
        node.operator.split()[0] in costs.EXPENSIVE
        or node.field in ANCESTORS
        and node.argument is None
        or node.field == "fd.name"
        and event in estimates.SOCKETS
        for node in estimator.checks(tree)
    )


def _cheap_and_strong(tree: condition.Tree, event: str) -> bool:
    return (
        isinstance(tree, condition.Check)
        and tree.field is not None
        and tree.operator in POSITIVE
        and tree.values is not None
        and costs.field(tree.field).cheap
        and not (tree.field == "fd.name" and event in estimates.SOCKETS)
        and estimates.chance(tree) <= STRONG
    )


def _decides_types(tree: condition.Tree, estimator: estimates.Estimator) -> bool:
    """Whether a part of an `and` restricts the events."""
    return bool(estimator.types(tree))


def _short(tree: condition.Tree, most: int = 60) -> str:
    text = printing.text(tree)
    return text if len(text) <= most else text[: most - 1] + "…"


def negative_types(tree: condition.Tree, estimator: estimates.Estimator) -> bool:
    """Whether a condition names event types, all of them under a negation."""
    signs = set(_signs(tree, estimator, False, set()))
    return signs == {True}


def _signs(
    tree: condition.Tree, estimator: estimates.Estimator, negated: bool, seen: set[tuple[str, bool]]
) -> Iterator[bool]:
    if isinstance(tree, condition.Not):
        yield from _signs(tree.item, estimator, not negated, seen)
    elif isinstance(tree, (condition.All, condition.Any)):
        for item in tree.items:
            yield from _signs(item, estimator, negated, seen)
    elif isinstance(tree, condition.Macro):
        inner = estimator.macros.get(tree.name)
        if inner is not None and (tree.name, negated) not in seen:
            seen.add((tree.name, negated))
            yield from _signs(inner, estimator, negated, seen)
    elif estimates.is_type(tree):
        yield negated != (tree.operator == "!=")


def actions(kernel: Iterable[str]) -> list[list[str]]:
    """Some calls by what they do: one list for each action."""
    left = set(kernel)
    found = []
    for action in ACTIONS:
        if left & action:
            found.append(sorted(left & action))
            left -= action
    found.extend([name] for name in sorted(left))
    return found


# `not never_true`, as stock rules end: it holds for every event, because events are numbered from 1.
ALWAYS = frozenset(['not evt.num = "0"', 'not (evt.num = "0")', 'evt.num != "0"'])


def conjuncts(tree: condition.Tree, estimator: estimates.Estimator) -> frozenset[str]:
    """The parts that must all hold, as texts with their macros written out; what decides by event types is
    left out. Raises TooLarge."""
    estimator.size(tree)
    found: set[str] = set()
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, condition.All):
            waiting.extend(node.items)
        elif isinstance(node, condition.Macro):
            waiting.append(
                estimator.macros.get(node.name) or condition.Check(node.name, None, "?", (), (), 0)
            )
        elif not (isinstance(node, condition.Check) and estimates.is_type(node)):
            found.add(written_out(node, estimator))
    return frozenset(found - ALWAYS)


def written_out(tree: condition.Tree, estimator: estimates.Estimator) -> str:
    """The text of a tree with its macros in brackets. Raises TooLarge."""
    estimator.size(tree)
    return printing.text(_without_macros(tree, estimator))


def _without_macros(tree: condition.Tree, estimator: estimates.Estimator) -> condition.Tree:
    if isinstance(tree, condition.Not):
        return condition.Not(_without_macros(tree.item, estimator))
    if isinstance(tree, (condition.All, condition.Any)):
        return type(tree)(tuple(_without_macros(item, estimator) for item in tree.items))
    if isinstance(tree, condition.Macro):
        inner = estimator.macros.get(tree.name)
        return tree if inner is None else _without_macros(inner, estimator)
    return tree
