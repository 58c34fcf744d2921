# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host sent → facts (_contracts.Facts): parse, merge by the release's rules, decide the driver, drop
the rest.

Facts are complete: every key is there, so whoever reads them needs no guards.
"""

from __future__ import annotations

import hashlib
import base64
import copy
import posixpath
import zlib
from typing import Any, cast

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import (
    Config,
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
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import listing
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules_audit import listed_audits
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import windows

# Blocks that a decision or a piece of evidence needs. Everything else (outputs with their tokens, plugin
# configurations) is parsed and forgotten.
BLOCKS = (
    "base_syscalls",
    "config_files",
    "engine",
    "falco_libs",
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
MAX_RULES = 1 << 25
# Merge keys that are named; a host may send thousands.
MOST_MERGE_KEYS = 20


def _text(item: dict[str, Any]) -> str:
    text = _inflated(item["data"], MAX_TEXT)
    if text is None:
        raise configuration.ConfigError(
            "%s: the host sent more than a configuration file may hold (%d bytes)" % (item["path"], MAX_TEXT)
        )
    return text


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


def _inflated(data: str, limit: int) -> str | None:
    """The text that a host compressed; None where it is larger than the limit."""
    found = zlib.decompressobj().decompress(base64.b64decode(data), limit + 1)
    return None if len(found) > limit else found.decode("utf-8", "replace")


def missing(sources: dict[str, Any], release: Release | None) -> list[str]:
    """Paths that config_files names and that the host did not send, so that they can be asked for. Mostly
    []."""
    texts = {item["path"]: item for item in sources["files"] if "data" in item}
    if sources["main"] not in texts or release is None or release.fragments is None:
        return []
    try:
        raw, dummy = configuration.load(_text(texts[sources["main"]]), sources["main"])
        listed = configuration.listing(raw, drivers.options_of(sources["arguments"]), sources["environment"])
    except configuration.ConfigError:
        return []
    known = {item["path"] for item in sources["files"]} | {name.rstrip("/") for name in sources["folders"]}
    known |= set(sources.get("asked", []))
    return sorted(
        {path for path, dummy in listed if path.startswith("/") and (path.rstrip("/") or "/") not in known}
    )


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
        "watch": None,
        "stale": None,
    }


def _merged(sources: dict[str, Any], release: Release) -> Merged:
    """Falco's configuration from the files that the host sent. Raises ConfigError."""
    broken = {item["path"]: item["reason"] for item in sources["files"] if "reason" in item}
    if sources["main"] in broken:
        raise configuration.ConfigError(broken[sources["main"]])
    files = _texts(sources["files"])
    # A file that can't be read matters only if Falco loads it.
    names = {**files, **dict.fromkeys(broken, "")}
    options = drivers.options_of(sources["arguments"])
    merged = configuration.merge(sources["main"], names, options, sources["environment"], release)
    for path in merged["order"]:
        if path in broken:
            raise configuration.ConfigError(broken[path])
    return merged


def _config(sources: dict[str, Any], merged: Merged, release: Release) -> Config:
    """The facts' config part: of the merged configuration, what a decision or a piece of evidence needs."""
    known = {name.rstrip("/") for name in sources["folders"]}
    folders: list[ConfigFolder] = [
        {"path": path.rstrip("/"), "strategy": strategy, "entry": number}
        for number, (path, strategy) in enumerate(merged["listed"] if release.fragments else [])
        if path.rstrip("/") in known
    ]
    hashes = {item["path"]: item.get("sha256") for item in sources["files"]}
    effective = {key: merged["effective"][key] for key in BLOCKS if key in merged["effective"]}
    options = drivers.options_of(sources["arguments"])
    return {
        "reason": None,
        "layout": "dropin" if folders else "full",
        "order": merged["order"],
        "files": [
            {
                "path": path,
                "sha256": hashes[path],
                "entry": merged["entry"][path],
                "strategy": merged["strategy"][path],
                "keys": [key for key in merged["keys"][path] if key in BLOCKS],
            }
            for path in merged["order"]
        ],
        "folders": folders,
        "options": [option for option in options if configuration.top_level(option) in BLOCKS],
        "effective": effective,
        # Only where a variable makes them differ: writing a block must not freeze what a variable holds.
        "raw": {
            key: merged["raw"][key] for key in effective if merged["raw"][key] != merged["effective"][key]
        },
        "origin": {key: value for key, value in merged["origin"].items() if key in BLOCKS},
        "duplicates": [list(item) for item in merged["duplicates"]],
        "merge_keys": _merge_keys(merged["effective"], "")[:MOST_MERGE_KEYS],
        "watch": Settings(merged["effective"], release).value("watch_config_files"),
        "stale": None,
    }


def _merge_keys(value: Any, place: str) -> list[str]:
    """Dotted paths of the keys named << in a value at a place. What such a key holds is not looked into."""
    if isinstance(value, list):
        return [
            path for index, item in enumerate(value) for path in _merge_keys(item, "%s[%d]" % (place, index))
        ]
    if not isinstance(value, dict):
        return []
    found: list[str] = []
    for key, item in value.items():
        here = "%s.%s" % (place, key) if place else key
        found += [here] if key == "<<" else _merge_keys(item, here)
    return found


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


def _no_rules(reason: str | None) -> LoadedRules:
    return {"rules": [], "selected": [], "profile": None, "reason": reason, "digest": None, "audit": None}


def _syscalls(sent: dict[str, Any], config: Config, release: Release | None) -> LoadedRules:
    """The rules that Falco has loaded and what it selects for them; `reason` where the two do not agree."""
    found = _no_rules(sent.get("reason"))
    if isinstance(sent.get("profile"), dict):
        found["profile"] = {
            name: sent["profile"].get(name) for name in ("means", "seconds", "counts", "reason", "notes")
        }
    if found["reason"] or release is None:
        return found
    effective = config["effective"]
    printed = _inflated(sent["list"], MAX_RULES) or ""
    listed = listing.parse(printed, release, effective.get("priority"), effective.get("rules") or ())
    said = dry_run.parse(_inflated(sent["dry_run"], MAX_RULES) or "")
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
    found["digest"] = hashlib.sha256(printed.encode("utf-8", "replace")).hexdigest()
    found["audit"] = listed_audits.audit(printed, release, effective, found["profile"])
    return found


def _rules_sent(sent: Any, config: Config, release: Release | None) -> LoadedRules | None:
    """_syscalls() of what a host sent, or of nothing. Never raises on host data."""
    if not isinstance(sent, dict):
        return None
    try:
        return _syscalls(sent, config, release)
    except (ValueError, TypeError, KeyError, zlib.error) as error:
        return _no_rules("what the host sent can't be read: %s" % error)


# Every key that a host may leave out, with what it means then. Dicts are parts; an empty one has keys of the
# host's own.
MISSING: dict[str, Any] = {
    "falco": {
        "version": None,
        "reason": None,
        "warning": None,
        "running": False,
        "pid": None,
        "since": None,
        "age": None,
        "start_ticks": None,
        "restarts": None,
        "nice": None,
        "rings": None,
        "cpu": {
            "on": None,
            "waiting": None,
            "throttled": None,
            "seconds": None,
            "total": None,
            "reason": None,
            "look": None,
        },
    },
    "service": {
        "manager": None,
        "unit": None,
        "reason": None,
        "state": None,
        "exec_start": [],
        "user": None,
        "limits": {"cpu_quota": None, "cpu_weight": None, "nice": None, "memory_max": None},
        "sandbox": {"private_tmp": False, "protect_system": "no", "read_write_paths": []},
        "cgroup": {"weight": None, "weighable": False, "throttled": None},
    },
    "cpus": {"online": None, "possible": None, "list": None, "reason": None},
    "kernel": {
        "release": None,
        "btf": None,
        "bpf_stats_enabled": None,
        "autogroup": False,
        "page_size": 4096,
    },
    "memory": {"total": None, "available": None, "limit": None, "used": None},
    "host": {
        "metrics_dir_exists": True,
        "files": {},
        "unit_dropin": {},
        "record": None,
        "unfinished": None,
        "staged": None,
    },
}
MISSING_IN_RECORD: dict[str, Any] = {
    "proven": False,
    "at": None,
    "files": {},
    "evidence": {},
    "version": None,
    "driver": None,
    "before": None,
    "written": [],
    "attempts": [],
}
MISSING_IN_ATTEMPT: dict[str, Any] = {"at": 0.0, "step": None, "to": {}, "release": None, "before": None}
MISSING_BEFORE: dict[str, Any] = {
    "state": None,
    "drops_percent": None,
    "rate_per_cpu": None,
    "bottleneck": "unknown",
}


def _filled(given: Any, missing: Any) -> Any:
    """What is given, with what is missing in it. Nothing that is given is lost."""
    if isinstance(missing, dict) and missing:
        given = given if isinstance(given, dict) else {}
        return {**given, **{name: _filled(given.get(name), value) for name, value in missing.items()}}
    return copy.copy(missing) if given is None else given


def _attempt(given: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = _filled(given, MISSING_IN_ATTEMPT)
    if found["before"]:
        found["before"] = _filled(found["before"], MISSING_BEFORE)
    return found


def complete(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts in which every key of the host's own parts is there, as _contracts says. Keys that are there stay
    as they are."""
    found: dict[str, Any] = _filled(facts, MISSING)
    record = found["host"]["record"]
    if record:
        record = _filled(record, MISSING_IN_RECORD)
        record["attempts"] = [_attempt(item) for item in record["attempts"]]
        found["host"]["record"] = record
    found.setdefault("syscalls", None)
    found.setdefault("clock", None)
    return found


def assemble(gathered: dict[str, Any]) -> Facts:
    """The facts of one host from what the module sent. Never raises on host data."""
    sources = gathered["config_sources"]
    sent, pair = gathered.get("rules"), gathered.get("metrics")
    facts = complete(
        {name: part for name, part in gathered.items() if name not in ("config_sources", "rules", "metrics")}
    )
    release = _release(facts["falco"])
    merged: Merged | None = None
    config = _no_config(sources["main"], None)
    if release is not None:
        try:
            merged = _merged(sources, release)
            config = _config(sources, merged, release)
        except configuration.ConfigError as error:
            config = _no_config(sources["main"], str(error))
    elif any(item["path"] == sources["main"] and "reason" in item for item in sources["files"]):
        config["reason"] = next(
            item["reason"] for item in sources["files"] if item["path"] == sources["main"]
        )
    config["stale"] = _stale(sources, config, facts["falco"], facts["host"]["record"])
    facts.update(
        driver=_driver(sources, facts, merged, release),
        config=config,
        syscalls=_rules_sent(sent, config, release),
        metrics=windows.window(pair, release, facts["cpus"]["online"]),
    )
    return cast(Facts, facts)


def _release(falco: FalcoFacts) -> Release | None:
    """The release, with its warning or why it is not supported noted in the facts."""
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
