# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules files → the system calls that each rule needs, without Falco. Pure.

listing.py reads what Falco itself prints (`falco -L -o json_output=true`) into the same shape. Fields are not
looked up, because plugins add their own. So an unknown field is not an error here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple, Optional, cast

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import (
    Finding,
    Reads,
    ResolvedRules,
    Rule,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.selections import nearest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.syscall_names import (
    GENERIC,
    Names,
    names_for,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.words import PRIORITIES, SYSCALL
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import (
    condition,
    definitions,
    enabled,
    reads,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules.definitions import (
    Definition,
    Definitions,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules.lists import expand
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules.reach import Events, Reach

# Falco warns about a rule with more event codes than this. Each named event has two or more; all generic
# events share two.
MANY_CODES = 100
# Levels of macros that refer to macros.
DEEPEST = 40

Trees = dict[str, Optional[condition.Tree]]
"""Trees of macros by name; None for a macro whose condition cannot be read."""


class Compiled(NamedTuple):
    """Rules with their trees.

    trees: those of the rules that load, with their exceptions; macros are names in them. reach: the Reach of
    each of these rules. macros: the trees of all macros. lists: [(name, items)], as lists.expand() takes
    them.
    """

    resolved: ResolvedRules
    definitions: Definitions
    trees: dict[str, condition.Tree]
    reach: dict[str, Reach]
    macros: Trees
    lists: list[tuple[str, list[str]]]


def resolve(
    files: Iterable[tuple[object, object]],
    release: releases.Release | str,
    priority: object = "debug",
    selection: Any = (),
) -> ResolvedRules:
    """The rules of some files.

    files: [(name, text)] in the order in which Falco reads them. release: 0.35 or newer. priority, selection:
    Falco's `priority` and `rules` (see enabled.apply()).
    """
    return compiled(files, release, priority, selection).resolved


def compiled(
    files: Iterable[tuple[object, object]],
    release: releases.Release | str,
    priority: object = "debug",
    selection: Any = (),
) -> Compiled:
    """The same with the trees of conditions."""
    if not isinstance(release, releases.Release):
        release = releases.release_for(release)
    defined = Definitions(release)
    compiler = _Compiler(defined, release)
    reached: dict[str, Reach | None] = {}
    for name, text in files:
        defined.read(str(name), str(text or ""))
        # Falco compiles everything again after each file: what only a later file defines is still missing.
        reached = compiler.rules()
    found = [_rule(rule, reached.get(rule.name), compiler) for rule in defined.rules.values()]
    findings = [
        _finding("error", "syntax", problem["file"], problem["line"], problem["name"], problem["text"])
        for problem in defined.problems
    ]
    findings.extend(compiler.findings)
    findings.extend(enabled.apply(found, release, priority, selection))
    for rule in found:
        if rule["enabled"]:
            # A rule that does not compile is not enabled.
            reach = cast(Reach, reached[rule["name"]])
            findings.extend(_look(rule, defined.rules[rule["name"]], reach, compiler, release))
    resolved: ResolvedRules = {
        "rules": found,
        "findings": findings,
        "ok": not any(finding["level"] == "error" for finding in findings),
    }
    loaded = {name: reach for name, reach in reached.items() if reach is not None}
    trees = {name: compiler.tree_of(defined.rules[name]) for name in loaded}
    return Compiled(resolved, defined, trees, loaded, compiler.macro_trees, compiler.lists)


def shape(
    name: str,
    source: str,
    priority: int,
    tags: Iterable[str],
    file: str | None,
    line: int | None,
    enabled: bool,
    yes: Iterable[str],
    names: Names,
    read: Reads,
) -> Rule:
    """A rule as resolve() returns it.

    priority: index into PRIORITIES. yes: the events and kernel names at which the rule can hold.
    """
    kernel: frozenset[str] = frozenset(yes) & names.kernel if source == SYSCALL else frozenset()
    return {
        "name": name,
        "source": source,
        "priority": PRIORITIES[priority],
        "tags": sorted(tags),
        "file": file,
        "line": line,
        "enabled": enabled,
        "disabled_by": None if enabled else "rules",
        "events": sorted(names.events_of(kernel)),
        "kernel": sorted(kernel),
        "other_events": sorted(frozenset(yes) & names.meta) if source == SYSCALL else [],
        "restricted": source != SYSCALL or kernel != names.kernel,
        "reads": read,
    }


def _rule(rule: definitions.Rule, reach: Reach | None, compiler: _Compiler) -> Rule:
    made = shape(
        rule.name,
        rule.source,
        rule.priority,
        rule.tags,
        rule.file,
        rule.line,
        rule.enabled,
        reach.yes if reach else frozenset(),
        compiler.names,
        compiler.reads(rule) if reach else {"fields": [], "kinds": {}, "required": []},
    )
    if reach is None:
        made["enabled"] = False
        made["disabled_by"] = "skipped" if rule.name in compiler.skipped else "error"
    return made


def _finding(
    level: Literal["error", "warning"],
    kind: str,
    file: str | None,
    line: int | None,
    rule: str | None,
    text: str,
) -> Finding:
    return {"level": level, "kind": kind, "file": file, "line": line, "rule": rule, "text": text}


class _Compiler:
    """Compiles what is defined so far. A text is parsed only once."""

    def __init__(self, defined: Definitions, release: releases.Release) -> None:
        self.definitions, self.release = defined, release
        self.names = names_for(release)
        self.events = Events(self.names)
        self.trees: dict[str, condition.Tree] = {}
        self.findings: list[Finding] = []
        self.skipped: set[str] = set()
        self.macro_trees: Trees = {}
        self.lists: list[tuple[str, list[str]]] = []
        self.expanded: dict[str, condition.Tree | condition.ConditionError] = {}
        self.done: dict[str, Reach] = {}
        self.partial: dict[tuple[str, int | None], Reach] = {}
        self.path: list[str] = []

    def rules(self) -> dict[str, Reach | None]:
        """{name: Reach, or None for a rule that Falco would refuse}. Adds problems to the definitions."""
        lists = self._lists()
        if lists != self.lists:
            self.lists, self.expanded = lists, {}
        self.done, self.partial = {}, {}
        blamed: set[str] = set()
        macros = sorted(self.definitions.macros.values(), key=lambda item: item.index)
        trees = {macro.name: self._tree(macro.condition, macro, macro.condition_line) for macro in macros}
        self.macro_trees = trees
        for macro in macros:
            tree = trees[macro.name]
            if tree is not None:
                self.done[macro.name] = reach = self._macro(macro, tree, trees, macro.changed)
                self._problems(macro, reach, blamed)
                blamed.update(reach.errors)
        found: dict[str, Reach | None] = {}
        for rule in self.definitions.rules.values():
            text = self.definitions.condition_of(rule)
            tree = None if text is None else self._tree(text, rule, rule.condition_line)
            found[rule.name] = None if tree is None else self._rule(rule, tree, trees, blamed)
        return found

    def reads(self, rule: definitions.Rule) -> Reads:
        """What a compiled rule reads."""
        return reads.of(self.tree_of(rule), rule.output, self.macro_trees.get)

    def tree_of(self, rule: definitions.Rule) -> condition.Tree:
        """The tree of a compiled rule."""
        return cast(condition.Tree, self.expanded[rule.whole_condition()])

    def _problems(self, owner: Definition, reach: Reach, blamed: set[str]) -> None:
        """Report the errors of a macro or rule, without those of a macro that it names."""
        for error in reach.errors:
            if error not in blamed:
                self.definitions.problem(
                    owner.file, owner.line, owner.name, "condition of '%s': %s" % (owner.name, error)
                )

    def _lists(self) -> list[tuple[str, list[str]]]:
        """Lists by age. An item that names an older list is replaced by its items, one level deep."""
        lists = self.definitions.lists
        found = []
        for one in sorted(lists.values(), key=lambda item: item.index):
            items: list[str] = []
            for item in one.items:
                inner = lists.get(item)
                items.extend(inner.items if inner and inner.index < one.changed else [item])
            found.append((one.name, items))
        return found

    def _tree(self, text: str, owner: Definition, line: int) -> condition.Tree | None:
        """The tree of a condition, or None and a problem."""
        if text not in self.expanded:
            self.expanded[text] = self._parsed(text)
        tree = self.expanded[text]
        if isinstance(tree, condition.ConditionError):
            self.definitions.problem(
                owner.file, line, owner.name, "condition of '%s': %s" % (owner.name, tree)
            )
            return None
        return tree

    def _parsed(self, text: str) -> condition.Tree | condition.ConditionError:
        try:
            text = expand(text, self.lists)
            if text not in self.trees:
                self.trees[text] = condition.parse(text)
            return self.trees[text]
        except condition.ConditionError as error:
            return error

    def _macro(
        self, macro: definitions.Macro, tree: condition.Tree, trees: Trees, visible: int | None
    ) -> Reach:
        """The Reach of a macro that sees the macros older than `visible` (all where that is None)."""
        if (macro.name, visible) not in self.partial:
            self.path.append(macro.name)
            self.partial[macro.name, visible] = self.events.reach(
                tree, lambda node: self._refer(node, trees, visible)
            )
            self.path.pop()
        return self.partial[macro.name, visible]

    def _refer(self, node: condition.Macro, trees: Trees, visible: int | None) -> Reach:
        """The Reach of a macro where it is named, or an error."""
        everything = Reach(self.events.all, self.events.all)
        macro = self.definitions.macros.get(node.name)
        if macro is None or (visible is not None and macro.index >= visible):
            return everything._replace(
                errors=("macro '%s' is not defined%s" % (node.name, " before" if macro else ""),)
            )
        if node.name in self.path:
            return everything._replace(errors=("macro '%s' refers to itself" % node.name,))
        if node.name in self.done:
            return self.done[node.name]
        tree = trees[node.name]
        if tree is None:
            return everything
        if len(self.path) >= DEEPEST:
            return everything._replace(errors=("macros refer to each other more than %d deep" % DEEPEST,))
        return self._macro(macro, tree, trees, visible)

    def _rule(
        self, rule: definitions.Rule, tree: condition.Tree, trees: Trees, blamed: set[str]
    ) -> Reach | None:
        reach = self.events.reach(tree, lambda node: self._refer(node, trees, None))
        if rule.source != SYSCALL:
            reach = reach._replace(yes=frozenset(), types=frozenset())
        self._problems(rule, reach, blamed)
        unknown = self.events.unknown(reach)
        if unknown and not reach.errors and rule.skip_unknown:
            self.skipped.add(rule.name)
        for name in unknown if not rule.skip_unknown else ():
            self._once(
                _finding(
                    "error",
                    "unknown_event",
                    rule.file,
                    rule.line,
                    rule.name,
                    "evt.type %s: Falco refuses it unless a plugin brings it (%s)"
                    % (name, nearest(name, self.release)["text"]),
                )
            )
        return None if reach.errors or unknown else reach

    def _once(self, finding: Finding) -> None:
        if finding not in self.findings:
            self.findings.append(finding)


def _look(
    rule: Rule, definition: definitions.Rule, reach: Reach, compiler: _Compiler, release: releases.Release
) -> Iterator[Finding]:
    """Findings about a rule that loads."""
    if rule["source"] != SYSCALL:
        return
    names = compiler.names

    def warn(kind: str, text: str) -> Finding:
        return _finding("warning", kind, rule["file"], rule["line"], rule["name"], text)

    codes = 2 * len([name for name in rule["kernel"] if name not in GENERIC])
    if not rule["restricted"]:
        yield warn(
            "no_evttype",
            "no evt.type restricts it: it makes Falco collect every system call (%d names)"
            % len(rule["events"]),
        )
    elif codes > MANY_CODES and definition.warn_evttypes:
        yield warn(
            "many_events",
            "it needs %d system calls; name those that matter in evt.type" % len(rule["events"]),
        )
    nameless = compiler.events.nameless(reach)
    if nameless:
        yield warn(
            "illegal_name",
            "evt.type never has these names: %s"
            % "; ".join(nearest(name, release)["text"] or name for name in nameless),
        )
    if not reach.yes:
        yield warn(
            "dead",
            "no event can match it: its checks of evt.type %s"
            % ("name nothing that exists" if nameless else "exclude each other"),
        )
    lost = names.events_of(set(rule["kernel"]) & names.ignored) if rule["restricted"] else ()
    if lost:
        cure = "base_syscalls.all" if release.since(0, 40) else "the option -A"
        yield warn("ignored_io", "Falco does not collect %s without %s" % (", ".join(sorted(lost)), cure))
    if reach.directions and not release.enter_events:
        never = any(operator in ("=", "==", "in") and value == ">" for operator, value in reach.directions)
        yield warn(
            "evt_dir",
            "evt.dir says nothing since 0.42: it is always <%s"
            % (", so the check for > makes that part of the rule dead" if never else ""),
        )
