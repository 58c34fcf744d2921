# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules, macros and lists of several rules files, as Falco collects them. Pure.

This covers later definitions, append, override and exceptions. Falco stops at the first error and does not
start; here reading goes on, so that one run shows all errors.
"""

from __future__ import annotations

import re
from typing import Any, Literal, TypedDict, TypeVar

from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.releases import Release
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.words import PRIORITIES, SYSCALL
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import document, entries
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules.entries import Wrong
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules.exceptions import (
    RuleException,
    exceptions_of,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._yaml import Value

# The version of the rules engine of each release: required_engine_version is compared with it.
ENGINES: dict[tuple[int, ...], int] = {
    (0, 35): 17,
    (0, 36): 26,
    (0, 37): 31,
    (0, 38): 40,
    (0, 39): 43,
    (0, 40): 46,
    (0, 41): 50,
    (0, 42): 57,
    (0, 43): 58,
    (0, 44): 62,
}
SEMVER = re.compile(r"^(\d{1,6})\.(\d{1,6})\.(\d{1,6})(?:[-+].*)?$")
Kind = Literal["rule", "macro", "list"]
APPENDABLE: dict[Kind, set[str]] = {
    "rule": {"condition", "output", "desc", "tags", "exceptions"},
    "macro": {"condition"},
    "list": {"items"},
}
REPLACEABLE: dict[Kind, set[str]] = {
    "rule": {
        "condition",
        "output",
        "desc",
        "tags",
        "exceptions",
        "priority",
        "enabled",
        "warn_evttypes",
        "skip-if-unknown-filter",
        "capture",
        "capture_duration",
    },
    "macro": {"condition"},
    "list": {"items"},
}
REQUIRED = ("condition", "output", "desc", "priority")


class Problem(TypedDict):
    """What keeps Falco from starting, and where."""

    file: str
    line: int
    name: str | None
    text: str


class Definition:
    """A list, macro or rule.

    index: when it was first defined. changed: when it was last changed. Both count the entries of all files.
    """

    def __init__(self, name: str, file: str, line: int, index: int) -> None:
        self.name, self.file, self.line = name, file, line
        self.index = self.changed = index


class List(Definition):
    """A list. items are texts."""

    items: list[str]


class Macro(Definition):
    """A macro. condition is its text, condition_line the line where that begins."""

    condition: str
    condition_line: int


class Rule(Definition):
    """A rule. priority: index into PRIORITIES. enabled: as the files say."""

    condition: str
    condition_line: int
    output = ""
    source = SYSCALL
    priority = 0
    enabled = True
    warn_evttypes = True
    skip_unknown = False

    def __init__(self, name: str, file: str, line: int, index: int) -> None:
        super().__init__(name, file, line, index)
        self.tags: set[str] = set()
        self.exceptions: list[RuleException] = []

    def whole_condition(self) -> str:
        """The condition followed by the exceptions, as Falco writes it."""
        if not self.exceptions:
            return self.condition
        return "(%s)%s" % (
            self.condition,
            "".join(" and not " + text for text in (item.condition() for item in self.exceptions) if text),
        )


Defined = TypeVar("Defined", bound=Definition)


class Definitions:
    """What the files have defined so far. Each of the problems keeps Falco from starting."""

    def __init__(self, release: Release) -> None:
        self.release = release
        self.lists: dict[str, List] = {}
        self.macros: dict[str, Macro] = {}
        self.rules: dict[str, Rule] = {}
        self.problems: list[Problem] = []
        self._count = 0

    def read(self, file: str, text: str) -> None:
        """Read one more file. Files must come in the order in which Falco reads them."""
        found, broken = document.entries(text)
        for entry in found:
            name = None
            try:
                if not isinstance(entry.data, dict):
                    raise Wrong("an entry is not a mapping", entry.line)
                name = next(
                    (entry.data[kind].data for kind in ("rule", "macro", "list") if kind in entry.data), None
                )
                self._entry(file, entry)
            except Wrong as wrong:
                self.problem(file, wrong.line, name, str(wrong))
        if broken:
            self.problem(file, broken.line, None, str(broken))

    def problem(self, file: str, line: int, name: object, text: str) -> None:
        known = name if isinstance(name, str) else None
        found: Problem = {"file": file, "line": line, "name": known, "text": text}
        if found not in self.problems:
            self.problems.append(found)

    def condition_of(self, rule: Rule) -> str | None:
        """rule.whole_condition(), or None and a problem."""
        try:
            return rule.whole_condition()
        except Wrong as wrong:
            self.problem(rule.file, wrong.line, rule.name, str(wrong))
            return None

    def _entry(self, file: str, entry: Value) -> None:
        if "required_engine_version" in entry.data:
            self._engine(entry.data["required_engine_version"])
        elif "required_plugin_versions" in entry.data:
            return
        elif "list" in entry.data:
            self._list(file, entry)
        elif "macro" in entry.data:
            self._macro(file, entry)
        elif "rule" in entry.data:
            self._rule(file, entry)

    def _engine(self, value: Value) -> None:
        text = value.data if isinstance(value.data, str) else ""
        match = SEMVER.match(text)
        if text.isascii() and text.isdigit():
            wanted: tuple[int, ...] = (0, int(text[:9]), 0)
        elif match and self.release.since(0, 37):
            wanted = tuple(int(part) for part in match.groups())
        else:
            raise Wrong(
                "required_engine_version '%s' is not a version that Falco %s understands"
                % (text, self.release),
                value.line,
            )
        engine = ENGINES[self.release.table[:2]]
        if wanted[0] != 0 or wanted > (0, engine, 0):
            raise Wrong(
                "the rules need engine %s, Falco %s has 0.%d.0"
                % (".".join(map(str, wanted)), self.release, engine),
                value.line,
            )

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _defined(self, made: Defined, into: dict[str, Defined]) -> None:
        """Store a new definition in place of an older one of that name."""
        before = into.get(made.name)
        if before:
            made.index = before.index
        into[made.name] = made

    def _previous(self, into: dict[str, Defined], name: str, entry: Value, what: str) -> Defined:
        if name not in into:
            raise Wrong("%s '%s' is changed, but was not defined before" % (what, name), entry.line)
        return into[name]

    def _list(self, file: str, entry: Value) -> None:
        name = entries.text(entry, "list")
        items = entries.texts(entry, "items")
        append = self._mode(entry, "list")
        if append:
            made = self._previous(self.lists, name, entry, "list")
            made.items.extend(items)
            made.changed = self._next()
            return
        made = List(name, file, entry.line, self._next())
        made.items = items
        self._defined(made, self.lists)

    def _macro(self, file: str, entry: Value) -> None:
        name = entries.text(entry, "macro")
        condition = entries.text(entry, "condition")
        if self._mode(entry, "macro"):
            made = self._previous(self.macros, name, entry, "macro")
            made.condition += " " + condition
            made.changed = self._next()
            return
        made = Macro(name, file, entry.line, self._next())
        made.condition, made.condition_line = condition, entry.data["condition"].line
        self._defined(made, self.macros)

    def _mode(self, entry: Value, kind: Kind) -> bool:
        """Whether a list or macro is appended to."""
        append = entries.flag(entry, "append", False)
        appended, replaced = self._overrides(entry, kind)
        if append and (appended or replaced):
            raise Wrong("'append: true' and 'override' exclude each other", entry.line)
        return append or bool(appended)

    def _overrides(self, entry: Value, kind: Kind) -> tuple[set[str], set[str]]:
        """(keys to append to, keys to replace)."""
        value = entry.data.get("override")
        if value is None or not self.release.since(0, 37):
            return set(), set()
        ways: dict[str, set[str]] = {"append": set(), "replace": set()}
        if isinstance(value.data, dict):
            for key, way in value.data.items():
                allowed = {"append": APPENDABLE, "replace": REPLACEABLE}.get(
                    way.data if isinstance(way.data, str) else ""
                )
                if not allowed or key not in allowed[kind]:
                    raise Wrong(
                        "override of '%s' cannot be '%s'"
                        % (key, way.data if isinstance(way.data, str) else "…"),
                        way.line,
                    )
                ways[way.data].add(key)
        elif value.data is not None:
            raise Wrong("'override' is not a mapping", value.line)
        return ways["append"], ways["replace"]

    def _rule(self, file: str, entry: Value) -> None:
        name = entries.text(entry, "rule")
        append = entries.flag(entry, "append", False)
        appended, replaced = self._overrides(entry, "rule")
        if append and (appended or replaced):
            raise Wrong("'append: true' and 'override' exclude each other", entry.line)
        if appended or replaced:
            self._override(name, entry, appended, replaced)
        elif append:
            self._append(name, entry, {key for key in ("condition", "exceptions") if key in entry.data})
        elif not any(key in entry.data for key in REQUIRED):
            self._previous(self.rules, name, entry, "rule").enabled = entries.flag(entry, "enabled", None)
        else:
            self._define(name, file, entry)

    def _same_source(self, name: str, entry: Value, source: str) -> None:
        before = self.rules.get(name)
        if before and source and before.source != source:
            raise Wrong(
                "rule '%s' is defined again for another source, %s instead of %s"
                % (name, source, before.source),
                entry.line,
            )

    def _define(self, name: str, file: str, entry: Value) -> None:
        made = Rule(name, file, entry.line, self._next())
        texts = {key: entries.text(entry, key) for key in REQUIRED}
        made.condition, made.condition_line = texts["condition"], entry.data["condition"].line
        made.output = texts["output"]
        made.priority = _priority(entry)
        if "source" in entry.data and entries.text_or_nothing(entry, "source"):
            made.source = entries.text(entry, "source")
        made.enabled = entries.flag(entry, "enabled", True)
        made.warn_evttypes = entries.flag(entry, "warn_evttypes", True)
        made.skip_unknown = entries.flag(entry, "skip-if-unknown-filter", False)
        made.tags = set(entries.texts(entry, "tags")) if "tags" in entry.data else set()
        made.exceptions = exceptions_of(entry)
        for exception in made.exceptions:
            if exception.fields is None:
                raise Wrong("exception '%s' has no fields" % exception.name, exception.line)
            exception.check()
        self._same_source(name, entry, made.source)
        self._defined(made, self.rules)

    def _override(self, name: str, entry: Value, appended: set[str], replaced: set[str]) -> None:
        known = APPENDABLE["rule"] | REPLACEABLE["rule"]
        for key in sorted(appended | replaced):
            if key not in entry.data:
                raise Wrong("'%s' is overridden, but is missing" % key, entry.line)
        for key in sorted(known & set(entry.data) - appended - replaced):
            raise Wrong("'%s' is set without an entry under 'override'" % key, entry.data[key].line)
        if appended:
            self._append(name, entry, appended)
        if replaced:
            self._replace(name, entry, replaced)

    def _append(self, name: str, entry: Value, keys: set[str]) -> None:
        rule = self._previous(self.rules, name, entry, "rule")
        self._same_source(name, entry, entries.text_or_nothing(entry, "source"))
        if not keys:
            raise Wrong("rule '%s' is appended to with neither a condition nor exceptions" % name, entry.line)
        more = {key: entries.text(entry, key) for key in keys & {"condition", "output", "desc"}}
        tags = entries.texts(entry, "tags") if "tags" in keys else []
        exceptions = exceptions_of(entry) if "exceptions" in keys else []
        merged = list(rule.exceptions)
        for exception in exceptions:
            before = next((item for item in merged if item.name == exception.name), None)
            if before is None:
                if exception.fields is None or not exception.values:
                    raise Wrong(
                        "exception '%s' is new and needs fields and values" % exception.name, exception.line
                    )
                exception.check()
                merged.append(exception)
            else:
                if exception.fields is not None or exception.comparisons is not None:
                    raise Wrong(
                        "exception '%s' exists: only values can be appended to it" % exception.name,
                        exception.line,
                    )
                merged[merged.index(before)] = RuleException(
                    before.name,
                    before.fields,
                    before.comparisons,
                    before.values + exception.values,
                    before.line,
                )
        if "condition" in more:
            rule.condition += " " + more["condition"]
        if "output" in more:
            rule.output += " " + more["output"]
        rule.tags |= set(tags)
        rule.exceptions = merged
        rule.changed = self._next()

    def _replace(self, name: str, entry: Value, keys: set[str]) -> None:
        rule = self._previous(self.rules, name, entry, "rule")
        self._same_source(name, entry, entries.text_or_nothing(entry, "source"))
        fresh: dict[str, Any] = {}
        if "condition" in keys:
            fresh["condition"], fresh["condition_line"] = (
                entries.text(entry, "condition"),
                entry.data["condition"].line,
            )
        if "output" in keys:
            fresh["output"] = entries.text(entry, "output")
        if "priority" in keys:
            fresh["priority"] = _priority(entry)
        for key, attribute in (
            ("enabled", "enabled"),
            ("warn_evttypes", "warn_evttypes"),
            ("skip-if-unknown-filter", "skip_unknown"),
        ):
            if key in keys:
                fresh[attribute] = entries.flag(entry, key, None)
        if "tags" in keys:
            fresh["tags"] = set(entries.texts(entry, "tags"))
        if "exceptions" in keys:
            fresh["exceptions"] = exceptions_of(entry)
            for exception in fresh["exceptions"]:
                if exception.fields is None:
                    raise Wrong("exception '%s' has no fields" % exception.name, exception.line)
                exception.check()
        vars(rule).update(fresh)
        rule.changed = self._next()


def _priority(entry: Value) -> int:
    text = entries.text(entry, "priority")
    found = priority_of(text)
    if found is None:
        raise Wrong("'%s' is not a priority" % text, entry.data["priority"].line)
    return found


def priority_of(text: object) -> int | None:
    """Index into PRIORITIES of a priority in any case ('Info' is informational), or None."""
    name = text.lower() if isinstance(text, str) else ""
    name = "informational" if name == "info" else name
    return PRIORITIES.index(name) if name in PRIORITIES else None
