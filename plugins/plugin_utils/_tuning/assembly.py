# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host sent → facts (_contracts.Facts): parse, merge by the release's rules, decide the driver, drop
the rest.

Facts are complete: every key is there, so whoever reads them needs no guards.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import itertools
import posixpath
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, cast

from ansible_collections.falcotune.fleet.plugins.plugin_utils import _untrusted
from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import (
    Config,
    ConfigFile,
    ConfigFolder,
    Driver,
    Facts,
    FalcoFacts,
    LoadedRules,
    Record,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import (
    configuration,
    drivers,
    dry_run,
    releases,
    syscall_names,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.configuration import Merged, Settings
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.releases import Release
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.words import SYSCALL
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import listing, plugin_needs, reads
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules_audit import listed_audits
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import received, windows

# Blocks that a decision or a piece of evidence needs. Everything else (outputs with their tokens, plugin
# configurations) is parsed and forgotten.
BLOCKS = (
    "base_syscalls",
    "config_files",
    "engine",
    "falco_libs",
    "load_plugins",
    "metrics",
    "modern_bpf",
    "outputs_queue",
    "priority",
    "rule_matching",
    "rules",
    "rules_file",
    "rules_files",
    "syscall_buf_size_preset",
    "syscall_drop_failed_exit",
    "syscall_event_drops",
    "watch_config_files",
    "webserver",
)
MAX_TEXT = 1 << 20
# What all configuration files of one host may hold together: bytes, and files.
MAX_TEXTS = 1 << 24
MAX_FILES = 500
FEWER_FILES = "remove files that Falco does not need from the directories in config_files"
# What `falco -L` may print, and a dry run: 2 MB and 0.1 MB with all of Falco's rules.
MAX_RULES = 1 << 23
MAX_DRY_RUN = 1 << 21
# What the blocks in BLOCKS may weigh together, and all facts of a host: 0.25 MB with all of
# Falco's rules, which only some plans need.
MAX_EFFECTIVE = 1 << 18
MAX_FACTS = 1 << 21
# Merge keys, duplicates and plugins that are named, and characters of each: a host may send thousands.
MOST_KEYS = 20
MOST_OF_A_KEY = 100


class TooLarge(ValueError):
    """A host sent more than any host has to tell. The text says what."""


def _text(item: dict[str, Any]) -> str:
    try:
        return unpacked(item["data"], MAX_TEXT)
    except Unpackable as error:
        raise configuration.ConfigError(
            "%s: %s; expected a configuration file of at most %d bytes" % (item["path"], error, MAX_TEXT)
        ) from None


def _texts(files: list[dict[str, Any]]) -> dict[str, str]:
    """The texts that a host sent, by path. Raises ConfigError where that is more than one host may cost."""
    if len(files) > MAX_FILES:
        raise configuration.ConfigError(
            "%s: the host sent %d configuration files, and at most %d are read: %s"
            % (files[MAX_FILES]["path"], len(files), MAX_FILES, FEWER_FILES)
        )
    found, left = {}, MAX_TEXTS
    for item in files:
        if "data" not in item:
            continue
        found[item["path"]] = _text(item)
        left -= len(found[item["path"]])
        if left < 0:
            raise configuration.ConfigError(
                "%s: with this file the host's configuration is larger than %d bytes: %s"
                % (item["path"], MAX_TEXTS, FEWER_FILES)
            )
    return found


class Unpackable(ValueError):
    """What a host compressed is too large, or was not compressed as the module does it."""


def unpacked(data: str | None, limit: int) -> str:
    """The text that a host compressed. Raises Unpackable."""
    if data is None:
        raise Unpackable("the host sent nothing that can be unpacked")
    try:
        found = zlib.decompressobj().decompress(base64.b64decode(data), limit + 1)
    except (zlib.error, binascii.Error, ValueError):
        raise Unpackable("what the host sent can't be unpacked") from None
    if len(found) > limit:
        raise Unpackable("the host sent more than %d bytes" % limit)
    return found.decode("utf-8", "replace")


def missing(sent: object, release: Release | None) -> list[str]:
    """Paths that config_files names and that the host did not send, so that they can be asked for. Mostly
    [].

    sent: the message's config_sources.
    """
    sources = received.sources({"config_sources": sent})
    texts = {item["path"]: item for item in sources["files"] if "data" in item}
    if sources["main"] not in texts or release is None or release.fragments is None:
        return []
    try:
        raw, dummy = configuration.load(_text(texts[sources["main"]]), sources["main"])
        listed = configuration.listing(raw, drivers.options_of(sources["arguments"]), sources["environment"])
    except configuration.ConfigError:
        return []
    known = {item["path"] for item in sources["files"]} | {name.rstrip("/") for name in sources["folders"]}
    known |= set(sources["asked"])
    found = {
        path for path, dummy in listed if path.startswith("/") and (path.rstrip("/") or "/") not in known
    }
    return sorted(found)[:MAX_FILES]


def _no_config(main: str, reason: str | None) -> Config:
    return {
        "reason": reason,
        "layout": None,
        "order": [main],
        "files": [],
        "folders": [],
        "options": [],
        "effective": {},
        "raw": {},
        "origin": {},
        "duplicates": [],
        "merge_keys": [],
        "commented": [],
        "plugins": [],
        "added_fields": [],
        "watch": None,
        "stale": None,
    }


def _merged(sources: dict[str, Any], release: Release) -> tuple[Merged, dict[str, str]]:
    """Falco's configuration from the files that the host sent, and their texts. Raises ConfigError."""
    broken = {item["path"]: item["reason"] for item in sources["files"] if "reason" in item}
    if sources["main"] in broken:
        raise configuration.ConfigError(broken[sources["main"]])
    texts = _texts(sources["files"])
    if sources["main"] not in texts:
        raise configuration.ConfigError("%s: the host did not send it" % sources["main"])
    # A file that can't be read matters only if Falco loads it.
    names = {**texts, **dict.fromkeys(broken, "")}
    options = drivers.options_of(sources["arguments"])
    merged = configuration.merge(sources["main"], names, options, sources["environment"], release)
    for path in merged["order"]:
        if path in broken:
            raise configuration.ConfigError(broken[path])
    return merged, texts


def _loaded_files(sources: dict[str, Any], merged: Merged) -> list[ConfigFile]:
    """The files that Falco loads, in order."""
    hashes = {item["path"]: item.get("sha256") for item in sources["files"]}
    return [
        {
            "path": path,
            "sha256": hashes[path],
            "entry": merged["entry"][path],
            "strategy": merged["strategy"][path],
            "keys": [key for key in merged["keys"][path] if key in BLOCKS],
        }
        for path in merged["order"]
    ]


def _config(sources: dict[str, Any], texts: dict[str, str], merged: Merged, release: Release) -> Config:
    """The facts' config part: of the merged configuration, what a decision or a piece of evidence needs."""
    known = {name.rstrip("/") for name in sources["folders"]}
    folders: list[ConfigFolder] = [
        {"path": path.rstrip("/"), "strategy": strategy, "entry": number}
        for number, (path, strategy) in enumerate(merged["listed"] if release.fragments else [])
        if path.rstrip("/") in known
    ]
    whole = merged["effective"]
    effective = {key: configuration.copied(whole[key]) for key in BLOCKS if key in whole}
    if not _untrusted.is_light(effective, MAX_EFFECTIVE):
        raise configuration.ConfigError(
            "%s: the blocks %s hold more than %d bytes together, and at most that is read"
            % (sources["main"], ", ".join(effective), MAX_EFFECTIVE)
        )
    options = drivers.options_of(sources["arguments"])
    return {
        "reason": None,
        "layout": "dropin" if folders else "full",
        "order": merged["order"],
        "files": _loaded_files(sources, merged),
        "folders": folders,
        "options": [option for option in options if configuration.top_level(option) in BLOCKS],
        "effective": effective,
        # Only where a variable makes them differ: writing a block must not freeze what a variable holds.
        "raw": {
            key: configuration.copied(merged["raw"][key])
            for key in effective
            if merged["raw"][key] != whole[key]
        },
        "origin": {key: value for key, value in merged["origin"].items() if key in BLOCKS},
        "duplicates": [
            [path, key[:MOST_OF_A_KEY], line] for path, key, line in merged["duplicates"][:MOST_KEYS]
        ],
        "merge_keys": _merge_key_places(whole),
        "commented": [key for key in configuration.commented(texts[sources["main"]]) if key in BLOCKS],
        "plugins": [name[:MOST_OF_A_KEY] for name in configuration.plugins(whole)[:MOST_KEYS]],
        "added_fields": _added_fields(whole, sources["arguments"]),
        "watch": Settings(whole, release).value("watch_config_files"),
        "stale": None,
    }


def _added_fields(effective: dict[str, Any], arguments: list[str]) -> list[str]:
    """The fields that append_output, or -p of the command line, adds to alerts."""
    texts = [str(effective.get("append_output") or "")]
    for place, word in enumerate(arguments):
        if word in ("-pc", "-pcontainer", "-pk", "-pkubernetes"):
            texts.append("container.id")
        elif word.startswith(("-p", "--print")):
            texts += arguments[place : place + 2]
    return reads.fields_in(" ".join(texts)[:MAX_TEXT])[:MOST_KEYS]


def _merge_key_places(effective: dict[str, Any]) -> list[str]:
    """Where keys named << are."""
    if not _untrusted.may_hold(effective, "<<"):
        return []
    return list(itertools.islice(map(_place, _merge_keys(effective, [])), MOST_KEYS))


def _merge_keys(value: Any, steps: list[str | int]) -> Iterator[list[str | int]]:
    """The steps to each key named << in a value. What such a key holds is not looked into.

    steps: to the value. It is changed on the way, so each result must be used before the next is asked for.
    """
    items: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, list):
        items = enumerate(value)
    elif isinstance(value, dict):
        items = value.items()
    for step, item in items:
        steps.append(step)
        if step == "<<":
            yield steps
        elif isinstance(item, (list, dict)):
            yield from _merge_keys(item, steps)
        steps.pop()


def _place(steps: list[str | int]) -> str:
    """engine.list[2].<< of the steps to a value."""
    parts = ("[%d]" % step if isinstance(step, int) else "." + step[:MOST_OF_A_KEY] for step in steps)
    return "".join(parts).lstrip(".")


def _stale(sources: dict[str, Any], config: Config, falco: FalcoFacts, record: Record | None) -> str | None:
    """Why the running Falco can't have loaded what is on disk, or None.

    With watch_config_files a change is loaded (or refused) by Falco itself; without, only by a restart.
    """
    if not falco["since"] or config["watch"]:
        return None
    if record and record["proven"]:
        changed = [
            item["path"]
            for item in config["files"]
            if record["files"].get(item["path"]) not in (None, item["sha256"])
        ]
    else:
        # The boot time in /proc/stat has whole seconds: allow two.
        times = {item["path"]: item.get("mtime") or 0 for item in sources["files"]}
        changed = [path for path in config["order"] if times.get(path, 0) > falco["since"] + 2]
    if not changed:
        return None
    return "%s changed after Falco started, and watch_config_files is off" % posixpath.basename(changed[0])


def no_rules(reason: str | None) -> LoadedRules:
    """What stands for the rules of a host that were asked for, and why they are not known."""
    return {
        "rules": [],
        "selected": [],
        "profile": None,
        "reason": reason,
        "digest": None,
        "audit": None,
        "plugins": [],
    }


def _syscalls(sent: dict[str, Any], config: Config, release: Release | None) -> LoadedRules:
    """The rules that Falco has loaded and what it selects for them; `reason` where the two do not agree."""
    found = no_rules(sent["reason"])
    found["profile"] = sent["profile"]
    if found["reason"] or release is None:
        return found
    effective = config["effective"]
    printed = unpacked(sent["list"], MAX_RULES)
    listed = listing.parse(printed, release, effective.get("priority"), effective.get("rules") or ())
    said = dry_run.parse(unpacked(sent["dry_run"], MAX_DRY_RUN))
    found["reason"] = listed["reason"] or said["reason"]
    if found["reason"]:
        return found
    for rule in listed["rules"]:
        if said["enabled_rules"] is not None and rule["source"] == SYSCALL:
            rule["enabled"] = rule["name"] in said["enabled_rules"]
    enabled = [rule for rule in listed["rules"] if rule["enabled"] and rule["source"] == SYSCALL]
    wanted = {name for rule in enabled for name in rule["kernel"]}
    differs = set(syscall_names.names_for(release).events_of(wanted)) ^ set(said["rules"])
    if differs:
        found["reason"] = (
            "falco -L and its dry run disagree about the system calls of the rules: %s"
            % ", ".join(sorted(differs)[:10])
        )
        return found
    found["rules"], found["selected"] = listed["rules"], said["selected"]
    found["plugins"] = plugin_needs.needs(
        printed, listed["rules"], release, config["plugins"], config["added_fields"]
    )
    found["digest"] = hashlib.sha256(printed.encode("utf-8", "replace")).hexdigest()
    found["audit"] = listed_audits.audit(printed, release, effective, found["profile"], found["plugins"])
    return found


def _rules_sent(sent: dict[str, Any] | None, config: Config, release: Release | None) -> LoadedRules | None:
    """_syscalls() of what a host sent, or of nothing. Never raises on host data."""
    if sent is None:
        return None
    try:
        return _syscalls(sent, config, release)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        return no_rules("what the host sent can't be read: %s" % error)


def complete(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts in which every key of the host's own parts is there, as _contracts says. Other parts stay as they
    are."""
    return {"syscalls": None, **facts, **received.parts(facts)}


def assemble(gathered: object) -> Facts:
    """The facts of one host from what the module sent. Never raises on host data, but for TooLarge."""
    sources, facts = received.sources(gathered), received.parts(gathered)
    facts["falco"]["cpu"]["look"] = None
    release = _release(facts["falco"])
    merged: Merged | None = None
    config = _no_config(sources["main"], None)
    if release is not None:
        try:
            merged, texts = _merged(sources, release)
            config = _config(sources, texts, merged, release)
        except configuration.ConfigError as error:
            merged, config = None, _no_config(sources["main"], str(error))
    else:
        config["reason"] = next(
            (
                item["reason"]
                for item in sources["files"]
                if item["path"] == sources["main"] and "reason" in item
            ),
            None,
        )
    config["stale"] = _stale(sources, config, facts["falco"], facts["host"]["record"])
    facts.update(
        driver=_driver(sources, facts, merged, release),
        config=config,
        syscalls=_rules_sent(received.rules(gathered), config, release),
        metrics=windows.window(
            _untrusted.dictionary(gathered).get("metrics"), release, facts["cpus"]["online"]
        ),
    )
    if not _untrusted.is_light(facts, MAX_FACTS):
        raise TooLarge("the host's facts are larger than %d bytes: expected some kB" % MAX_FACTS)
    return cast(Facts, facts)


def _release(falco: FalcoFacts) -> Release | None:
    """The release, with its warning or why it is not supported noted in the facts."""
    falco["warning"] = None
    if not falco["version"]:
        return None
    try:
        release = releases.release_for(falco["version"])
    except releases.UnsupportedRelease as error:
        falco["reason"] = str(error)
        return None
    falco["warning"] = release.warning
    return release


def _driver(
    sources: dict[str, Any], facts: dict[str, Any], merged: Merged | None, release: Release | None
) -> Driver:
    if release is None:
        return {"kind": None, "decided_by": facts["falco"]["reason"] or "unknown release"}
    environment = {"FALCO_BPF_PROBE": ""} if sources["probe"] else {}
    return drivers.decide(sources["arguments"], environment, facts["service"]["unit"], merged, release)
