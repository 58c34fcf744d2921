# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rules Falco evaluates: what the files say, then the `priority` of its configuration, then its
`rules`. Pure."""

from __future__ import annotations

from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules.definitions import (
    PRIORITIES,
    priority_of,
)


def apply(rules, release, priority="debug", selection=()):
    """Set 'enabled' and 'disabled_by' of rules (the shape of rules.resolve()).

    priority: less urgent rules are not loaded, whatever `rules` says. selection: Falco's list `rules`, since
    0.38:
    {'enable' or 'disable': {'rule': a name with wildcards} or {'tag': a tag}}, in turn.
    → findings of settings that do nothing
    """
    findings = []

    def warn(text):
        findings.append(
            {"level": "warning", "kind": "selection", "file": None, "line": None, "rule": None, "text": text}
        )

    least = priority_of(str(priority if priority is not None else "debug"))
    if least is None:
        warn("'%s' is no priority, so no rule is left out" % (priority,))
        least = len(PRIORITIES) - 1
    entries = _entries(selection)
    if entries and not release.since(0, 38):
        warn("Falco %s does not know the setting 'rules' (since 0.38)" % release)
        entries = []
    loaded = []
    for rule in rules:
        if rule["disabled_by"] in ("error", "skipped"):
            continue
        if PRIORITIES.index(rule["priority"]) > least:
            rule.update(enabled=False, disabled_by="priority")
        else:
            loaded.append(rule)
    for entry in entries:
        parsed = _parse(entry)
        if parsed is None:
            warn("an entry of the setting 'rules' is neither enable nor disable with a rule or a tag")
            continue
        enable, matches = parsed
        chosen = [rule for rule in loaded if matches(rule)]
        if not chosen:
            warn("an entry of the setting 'rules' fits no rule: %s" % _told(entry))
        for rule in chosen:
            rule.update(enabled=enable, disabled_by=None if enable else "selection")
    return findings


def fits(pattern, name):
    """Whether a name fits a pattern in which * stands for anything, as Falco compares them: first fit, no
    second try."""
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


def _entries(selection):
    if not selection:
        return []
    return list(selection) if isinstance(selection, (list, tuple)) else [selection]


def _parse(entry):
    """(enable, a function that tells whether a rule is meant), or None."""
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


def _told(entry):
    ((word, what),) = ((key, entry[key]) for key in ("enable", "disable") if key in entry)
    return "%s %s" % (word, ", ".join("%s %s" % item for item in sorted(what.items(), key=str)))


def as_printed(rules, names):
    """Set 'enabled' of rules to what Falco itself printed: names are the 'enabled_rules' of
    dry_run.parse()."""
    printed = set(names)
    for rule in rules:
        if (rule["name"] in printed) != rule["enabled"]:
            rule.update(enabled=not rule["enabled"], disabled_by="falco" if rule["enabled"] else None)
