# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`falco -L -o json_output=true` in the shape that ruleset.resolve() gives. Pure, and safe with any text.

Since 0.37 Falco prints the events of each compiled rule. Older releases print the events of the text without
its macros, which is nearly always everything. For those, the rules are rebuilt from what Falco prints and
resolved like files.
"""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import (
    Finding,
    ListedRules,
    Reads,
    Rule,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.syscall_names import Names, names_for
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.words import SYSCALL
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import condition, enabled, reads, ruleset
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules.definitions import priority_of
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules.reach import Events, Reach

# What Falco adds to every rule.
ADDED = "asyncevent"
ORIGIN = "falco -L"
# Rules, macros or lists of one host, and characters of a compiled condition: Falco has 100 rules of its own,
# and the longest condition of theirs has 6000 characters. What is longer is not parsed.
MOST_ENTRIES = 10000
LONGEST_CONDITION = 1 << 17


def parse(
    text: object, release: releases.Release | str, priority: object = "debug", selection: Any = ()
) -> ListedRules:
    """The rules that Falco has loaded.

    text: its standard output. priority, selection: as for ruleset.resolve(): Falco lists all rules, whatever
    these say.
    → {'rules', 'findings', 'ok', 'reason': None, or why there are none}
    """
    if not isinstance(release, releases.Release):
        release = releases.release_for(release)
    names = names_for(release)
    listed, reason = load(text)
    if listed is None:
        return {"rules": [], "findings": [], "ok": False, "reason": reason}
    if not release.since(0, 37):
        resolved = ruleset.resolve([(ORIGIN, json.dumps(_file(listed)))], release, priority, selection)
        return {**resolved, "reason": None}
    found: list[Rule] = []
    findings: list[Finding] = []
    events = Events(names)
    for number, one in enumerate(listed["rules"]):
        made = _rule(one, names, events)
        if made is None:
            findings.append(
                {
                    "level": "warning",
                    "kind": "unreadable",
                    "file": ORIGIN,
                    "line": None,
                    "rule": None,
                    "text": "entry %d of the rules cannot be read" % (number + 1),
                }
            )
        else:
            found.append(made)
    findings.extend(enabled.apply(found, release, priority, selection))
    return {"rules": found, "findings": findings, "ok": True, "reason": None}


def as_file(text: object) -> str | None:
    """What Falco listed as the text of one rules file, or None; exceptions are not listed."""
    listed, _reason = load(text)
    return None if listed is None else json.dumps(_file(listed))


def load(text: object) -> tuple[dict[str, Any] | None, str | None]:
    """(the document, None) or (None, a reason)."""
    printed = str(text or "")
    start = printed.find("{")
    if start < 0:
        return None, "falco -L printed no JSON"
    try:
        listed = json.JSONDecoder().raw_decode(printed, start)[0]
    except (ValueError, RecursionError) as error:
        return None, "falco -L printed broken JSON: %s" % str(error)[:100]
    if not isinstance(listed.get("rules"), list):
        return None, "falco -L printed JSON without rules"
    if any(len(_list(listed, key)) > MOST_ENTRIES for key in ("rules", "macros", "lists")):
        return None, "falco -L printed more than %d rules, macros or lists" % MOST_ENTRIES
    return listed, None


def _rule(one: object, names: Names, events: Events) -> Rule | None:
    info, details = (mapping(one, key) for key in ("info", "details"))
    name, printed = info.get("name"), texts(details.get("events"))
    priority = priority_of(info.get("priority"))
    if not isinstance(name, str) or printed is None or priority is None:
        return None
    source = info["source"] if isinstance(info.get("source"), str) else SYSCALL
    tree = _tree(details.get("condition_compiled"))
    made = ruleset.shape(
        name,
        source,
        priority,
        texts(info.get("tags")) or [],
        ORIGIN,
        None,
        info.get("enabled") is not False,
        _yes(tree, set(printed) - {ADDED}, names, events),
        names,
        _reads(tree, details),
    )
    return made


def _tree(compiled: object) -> condition.Tree | None:
    """The tree of a compiled condition, or None where it cannot be parsed.

    Falco prints conditions without the quotes that some of them need.
    """
    text = str(compiled or "")
    if len(text) > LONGEST_CONDITION:
        return None
    try:
        return condition.parse(text)
    except (condition.ConditionError, RecursionError):
        return None


def _yes(tree: condition.Tree | None, printed: set[str], names: Names, events: Events) -> frozenset[str]:
    """The kernel names and other events that a rule can match.

    The compiled condition is more exact than the printed names and is used where the two agree. Falco prints
    accept4 as accept, accept4.
    """
    if tree is not None:
        everything = Reach(events.all, events.all)
        try:
            yes = events.reach(tree, lambda node: everything).yes
            if names.events_of(yes & names.kernel) == printed & names.events:
                return yes
        except RecursionError:
            pass
    return frozenset(names.kernel_of(printed) | (printed & names.meta))


def _reads(tree: condition.Tree | None, details: dict[str, Any]) -> Reads:
    """What a rule reads, by its compiled condition.

    Without one: by the names of fields that Falco prints, or that its text contains.
    """
    output = details.get("output_compiled") or texts(details.get("output_fields"))
    listed = [
        name for key in ("condition_fields", "exception_fields") for name in texts(details.get(key)) or []
    ]
    if tree is None:
        return reads.of_names(listed or reads.fields_in(str(details.get("condition_compiled") or "")), output)
    return reads.of(tree, output)


def _file(listed: dict[str, Any]) -> list[dict[str, Any]]:
    """The listed rules as entries of a rules file."""
    entries = []
    for one in _list(listed, "lists"):
        info = mapping(one, "info")
        inner = texts(mapping(one, "details").get("lists")) or []
        entries.append({"list": info.get("name"), "items": inner + (texts(info.get("items")) or [])})
    for one in _list(listed, "macros"):
        info = mapping(one, "info")
        entries.append({"macro": info.get("name"), "condition": info.get("condition")})
    for one in _list(listed, "rules"):
        info = mapping(one, "info")
        entries.append(
            {
                "rule": info.get("name"),
                "condition": info.get("condition"),
                "output": info.get("output") or "-",
                "desc": "-",
                "priority": info.get("priority"),
                "source": info.get("source") or SYSCALL,
                "enabled": info.get("enabled") is not False,
                "tags": texts(info.get("tags")) or [],
            }
        )
    return entries


def _list(value: dict[str, Any], key: str) -> list[Any]:
    found = value.get(key)
    return found if isinstance(found, list) else []


def mapping(value: object, key: str) -> dict[str, Any]:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def texts(value: object) -> list[str] | None:
    """The texts of a list, or None where the value is not a list."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else None
