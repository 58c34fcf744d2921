# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's rules and plugins without some of them, as a trial's Falco loads them. Pure.

Rules are left out of private copies of the rules files. That works with every release: before 0.38 Falco has
no setting `rules`, its option -D takes part of a name for all of it, and a rule that needs a plugin cannot be
loaded without that one, even if it is disabled.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import PluginNeed, Rule, TrialWithout
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import document, writing
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules.enabled import fits
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import hint, some
from ansible_collections.falcotune.fleet.plugins.plugin_utils._yaml import Value

# What one host's rules files may hold together, in characters: Falco's own have 0.2 MB.
MAX_TEXT = 1 << 21


class Unlike(ValueError):
    """A test that cannot be made of this host's rules. The text says why."""


class Loaded(NamedTuple):
    """What the host's own Falco has loaded.

    files: [(path, text)] of rules files, in order. rules: of listing.parse(). plugins: names of those that it
    loads. needs: of plugin_needs.needs().
    """

    files: Sequence[tuple[str, str]]
    rules: Sequence[Rule]
    plugins: Sequence[str]
    needs: Sequence[PluginNeed]


def files_of(sent: str | None) -> list[tuple[str, str]] | None:
    """The rules files that a host sent (JSON: [[path, text]]), or None where that is something else."""
    try:
        found = json.loads(sent or "")
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list) or not found:
        return None
    for item in found:
        if not (isinstance(item, list) and len(item) == 2 and all(isinstance(part, str) for part in item)):
            return None
    return [tuple(item) for item in found]


class Arm(NamedTuple):
    """Rules and plugins of one test.

    paths: rules files in order; those in `files` are named {trial}/NAME. files: {NAME: text}. plugins: names
    of those that are loaded. removed: names of enabled rules that are left out.
    """

    paths: list[str]
    files: dict[str, str]
    plugins: list[str]
    removed: list[str]


def arm(without: TrialWithout, loaded: Loaded, place: str) -> Arm:
    """What is left without some rules and plugins. place: stands for the trial's directory. Raises Unlike."""
    plugins = _plugins(without["plugins"], loaded.plugins, "plugins")
    of_plugins = _plugins(without["rules_of_plugins"], loaded.plugins, "rules_of_plugins")
    kept = [name for name in loaded.plugins if name not in plugins]
    left_out = _names(without, loaded) | _needing(loaded, plugins) | _needing(loaded, of_plugins)
    paths: list[str] = []
    files: dict[str, str] = {}
    defined: set[str] = set()
    if sum(len(text) for _path, text in loaded.files) > MAX_TEXT:
        raise Unlike("the rules files of this host hold more than %d characters" % MAX_TEXT)
    for number, (path, text) in enumerate(_files(without["files"], loaded.files)):
        entries, broken = document.entries(text)
        if broken:
            raise Unlike("%s line %d: %s" % (path, broken.line, broken))
        remaining = [
            entry for entry in entries if _kept(entry, left_out) and _satisfied(entry, plugins, kept)
        ]
        defined.update(name for name in map(_rule_of, remaining) if name is not None)
        if len(remaining) == len(entries) and not _needs_any(entries, plugins):
            paths.append(path)
            continue
        name = "rules-%02d.yaml" % number
        files[name] = writing.written(_without_plugins(entry, plugins, kept) for entry in remaining)
        paths.append("%s/%s" % (place, name))
    enabled = {rule["name"] for rule in loaded.rules if rule["enabled"]}
    if not enabled & defined:
        raise Unlike("no rule would be left, and Falco does not start without rules")
    return Arm(paths, files, kept, sorted(enabled - defined))


def _plugins(named: Sequence[str], loaded: Sequence[str], part: str) -> set[str]:
    for name in named:
        if name != "*" and name not in loaded:
            raise Unlike(
                "without.%s names %s, which Falco does not load here%s: it loads %s"
                % (part, name, hint(name, loaded), ", ".join(loaded) or "none")
            )
    return set(loaded) if "*" in named else set(named)


def _names(without: TrialWithout, loaded: Loaded) -> set[str]:
    """The rules that are named, or that have one of the tags."""
    found: set[str] = set()
    names = [rule["name"] for rule in loaded.rules]
    for pattern in without["rules"]:
        matched = {name for name in names if fits(pattern, name)}
        if not matched:
            raise Unlike("no rule of this host is called %s%s" % (pattern, hint(pattern, names)))
        found |= matched
    tags = {tag for rule in loaded.rules for tag in rule["tags"]}
    for tag in without["tags"]:
        if tag not in tags:
            raise Unlike("no rule of this host has the tag %s%s" % (tag, hint(tag, tags)))
        found |= {rule["name"] for rule in loaded.rules if tag in rule["tags"]}
    return found


def _needing(loaded: Loaded, plugins: Collection[str]) -> set[str]:
    """The rules that need one of these plugins; a disabled one must compile too."""
    return {
        item["rule"]
        for need in loaded.needs
        if need["plugin"] in plugins
        for item in (*need["rules"], *need["disabled"])
    }


def _files(named: Sequence[str], files: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The files that are not named, by path or by name."""
    for name in named:
        if not any(_is(path, name) for path, _text in files):
            raise Unlike(
                "this host has no rules file %s: Falco reads %s"
                % (name, some([path for path, _text in files]))
            )
    kept = [(path, text) for path, text in files if not any(_is(path, name) for name in named)]
    if not kept:
        raise Unlike("no rules file would be left, and Falco does not start without one")
    return kept


def _is(path: str, name: str) -> bool:
    return name in (path, posixpath.basename(path))


def _rule_of(entry: Value) -> str | None:
    """The rule that an entry defines or changes."""
    value = entry.data.get("rule") if isinstance(entry.data, dict) else None
    return value.data if value is not None and isinstance(value.data, str) else None


def _kept(entry: Value, left_out: Collection[str]) -> bool:
    return _rule_of(entry) not in left_out


# --- required_plugin_versions


def _wanted(entry: Value) -> list[Value]:
    value = entry.data.get("required_plugin_versions") if isinstance(entry.data, dict) else None
    return value.data if value is not None and isinstance(value.data, list) else []


def _name_of(item: Value) -> str | None:
    value = item.data.get("name") if isinstance(item.data, dict) else None
    return value.data if value is not None and isinstance(value.data, str) else None


def _alternatives(item: Value) -> list[str]:
    value = item.data.get("alternatives") if isinstance(item.data, dict) else None
    others = value.data if value is not None and isinstance(value.data, list) else []
    return [name for name in map(_name_of, others) if name is not None]


def _met(item: Value, plugins: Collection[str], kept: Collection[str]) -> bool:
    """Whether Falco loads what one required plugin asks for, or misses it for another reason than ours."""
    return _name_of(item) not in plugins or any(name in kept for name in _alternatives(item))


def _needs_any(entries: Iterable[Value], plugins: Collection[str]) -> bool:
    return any(_name_of(item) in plugins for entry in entries for item in _wanted(entry))


def _satisfied(entry: Value, plugins: Collection[str], kept: Collection[str]) -> bool:
    wanted = _wanted(entry)
    return not wanted or any(_met(item, plugins, kept) for item in wanted)


def _without_plugins(entry: Value, plugins: Collection[str], kept: Collection[str]) -> Value:
    wanted = _wanted(entry)
    if not wanted:
        return entry
    left = [item for item in wanted if _met(item, plugins, kept)]
    return entry._replace(data={**entry.data, "required_plugin_versions": Value(left, entry.line)})
