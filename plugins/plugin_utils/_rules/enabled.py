# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rules Falco evaluates. Pure.

The files decide first, then `priority` of Falco's configuration, then its `rules`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import Finding, Rule
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.releases import Release
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.words import PRIORITIES
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules.definitions import priority_of


def apply(
    rules: Iterable[Rule], release: Release, priority: object = "debug", selection: Any = ()
) -> list[Finding]:
    """Set 'enabled' and 'disabled_by' of rules.

    priority: Falco's setting of that name; rules that are less urgent are not loaded, whatever `rules` says.
    selection: Falco's list `rules`, since 0.38:
    {'enable' or 'disable': {'rule': a name with wildcards} or {'tag': a tag}}, in order.
    → findings about settings that have no effect
    """
    findings: list[Finding] = []
    least = priority_of(str(priority if priority is not None else "debug"))
    if least is None:
        findings.append(_finding("'%s' is not a priority, so no rule is left out" % (priority,)))
        least = len(PRIORITIES) - 1
    loaded = _loaded(rules, least)
    entries = _entries(selection)
    if entries and not release.since(0, 38):
        findings.append(_finding("Falco %s does not know the setting 'rules' (since 0.38)" % release))
        return findings
    for entry in entries:
        problem = _select(loaded, entry)
        if problem:
            findings.append(_finding(problem))
    return findings


def _finding(text: str) -> Finding:
    return {"level": "warning", "kind": "selection", "file": None, "line": None, "rule": None, "text": text}


def _loaded(rules: Iterable[Rule], least: int) -> list[Rule]:
    """The rules that Falco loads; the others are disabled. least: index into PRIORITIES."""
    loaded = []
    for rule in rules:
        if rule["disabled_by"] in ("error", "skipped"):
            continue
        if PRIORITIES.index(rule["priority"]) > least:
            rule["enabled"], rule["disabled_by"] = False, "priority"
        else:
            loaded.append(rule)
    return loaded


def _select(loaded: list[Rule], entry: Any) -> str | None:
    """Enable or disable rules as one entry of `rules` says; why it has no effect, or None."""
    parsed = _parse(entry)
    if parsed is None:
        return "an entry of the setting 'rules' is neither enable nor disable with a rule or a tag"
    enable, matches = parsed
    chosen = [rule for rule in loaded if matches(rule)]
    for rule in chosen:
        rule["enabled"], rule["disabled_by"] = enable, None if enable else "selection"
    return None if chosen else "an entry of the setting 'rules' matches no rule: %s" % _told(entry)


def fits(pattern: str, name: str) -> bool:
    """Whether a name fits a pattern in which * stands for any text.

    As in Falco, each part is taken where it first fits, and no other place is tried.
    """
    parts = pattern.split("*")
    if len(parts) == 1:
        return pattern == name
    if not name.startswith(parts[0]):
        return False
    at = len(parts[0])
    for part in [part for part in parts[1:] if part]:
        found = name.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return not parts[-1] or at == len(name)


def _entries(selection: Any) -> list[Any]:
    if not selection:
        return []
    return list(selection) if isinstance(selection, (list, tuple)) else [selection]


def _parse(entry: Any) -> tuple[bool, Callable[[Rule], bool]] | None:
    """(enable, a function that tells whether the entry means a rule), or None."""
    if not isinstance(entry, dict) or ("enable" in entry) == ("disable" in entry):
        return None
    enable = "enable" in entry
    what = entry["enable" if enable else "disable"]
    if not isinstance(what, dict):
        return None
    name, tag = what.get("rule"), what.get("tag")
    if not name and not tag:
        return None
    return enable, lambda rule: bool(
        (name and fits(str(name), rule["name"])) or (tag and str(tag) in rule["tags"])
    )


def _told(entry: dict[str, Any]) -> str:
    ((word, what),) = ((key, entry[key]) for key in ("enable", "disable") if key in entry)
    return "%s %s" % (word, ", ".join("%s %s" % item for item in sorted(what.items(), key=str)))


def as_printed(rules: Iterable[Rule], names: Iterable[str]) -> None:
    """Set 'enabled' of rules to what Falco itself printed.

    names: the 'enabled_rules' of dry_run.parse().
    """
    printed = set(names)
    for rule in rules:
        if (rule["name"] in printed) != rule["enabled"]:
            rule["disabled_by"] = "falco" if rule["enabled"] else None
            rule["enabled"] = not rule["enabled"]
