# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host sent → the facts contract: parse, merge by the release's rules, decide the driver, drop the rest."""

from __future__ import annotations

import base64
import posixpath
import zlib

from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import configuration
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import drivers
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import dry_run, releases, syscall_names
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import definitions, listing
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
MAX_RULES = 1 << 25


def _text(item):
    text = _inflated(item["data"], MAX_TEXT)
    if text is None:
        raise configuration.ConfigError("%s is larger than it said" % item["path"])
    return text


def _inflated(data, limit):
    """The text that a host compressed; None where it is larger than the limit."""
    found = zlib.decompressobj().decompress(base64.b64decode(data), limit + 1)
    return None if len(found) > limit else found.decode("utf-8", "replace")


def missing(sources, release):
    """Paths that config_files names and that the host did not bring, so that they can be asked for. [] mostly."""
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


def _config(sources, release):
    """The facts' config part; `reason` says why there is none."""
    broken = {item["path"]: item["reason"] for item in sources["files"] if "reason" in item}
    main = sources["main"]
    empty = {
        "layout": None,
        "order": [main],
        "files": [],
        "folders": [],
        "options": [],
        "effective": {},
        "raw": {},
        "origin": {},
        "duplicates": [],
        "watch": None,
        "stale": None,
    }
    if main in broken:
        return dict(empty, reason=broken[main])
    if release is None:
        return dict(empty, reason=None)
    try:
        files = {item["path"]: _text(item) for item in sources["files"] if "data" in item}
        options = drivers.options_of(sources["arguments"])
        # A file that can't be read matters only if Falco loads it.
        names = dict(files)
        names.update(dict.fromkeys(broken, ""))
        merged = configuration.merge(main, names, options, sources["environment"], release)
    except configuration.ConfigError as error:
        return dict(empty, reason=str(error))
    for path in merged["order"]:
        if path in broken:
            return dict(empty, reason=broken[path])
    listed = merged["listed"] if release.fragments else []
    known = {name.rstrip("/") for name in sources["folders"]}
    folders = [
        {"path": path.rstrip("/"), "strategy": strategy, "entry": number}
        for number, (path, strategy) in enumerate(listed)
        if path.rstrip("/") in known
    ]
    hashes = {item["path"]: item.get("sha256") for item in sources["files"]}
    effective = {key: merged["effective"][key] for key in BLOCKS if key in merged["effective"]}
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
        "watch": configuration.value_in_force(merged["effective"], "watch_config_files", release)["value"],
        "stale": None,
    }, merged


def _stale(sources, config, falco, record):
    """Why the running Falco can't have loaded what is on disk, or None.

    With watch_config_files a change is loaded (or refused) by Falco itself; without, only by a restart.
    """
    if not falco.get("since") or config["watch"]:
        return None
    times = {item["path"]: item.get("mtime") for item in sources["files"]}
    if record and record.get("proven"):
        changed = [
            item["path"]
            for item in config["files"]
            if (record.get("files") or {}).get(item["path"]) not in (None, item["sha256"])
        ]
    else:
        # btime has whole seconds: allow two.
        changed = [path for path in config["order"] if (times.get(path) or 0) > falco["since"] + 2]
    if not changed:
        return None
    return "%s changed after Falco started, and watch_config_files is off" % posixpath.basename(changed[0])


def _syscalls(sent, config, release):
    """The rules that Falco has loaded and what it selects for them, by its own words; `reason` where the two don't fit together."""
    found = {"rules": [], "selected": [], "profile": None, "reason": sent.get("reason")}
    if isinstance(sent.get("profile"), dict):
        found["profile"] = {
            name: sent["profile"].get(name) for name in ("means", "seconds", "counts", "reason", "notes")
        }
    if found["reason"] or release is None:
        return found
    effective = config["effective"]
    listed = listing.parse(
        _inflated(sent["list"], MAX_RULES) or "",
        release,
        effective.get("priority"),
        effective.get("rules") or (),
    )
    said = dry_run.parse(_inflated(sent["dry_run"], MAX_RULES) or "")
    found["reason"] = listed["reason"] or said["reason"]
    if found["reason"]:
        return found
    for rule in listed["rules"]:
        if said["enabled_rules"] is not None and rule["source"] == definitions.SYSCALL:
            rule["enabled"] = rule["name"] in said["enabled_rules"]
    wanted = set().union(
        *(
            rule["kernel"]
            for rule in listed["rules"]
            if rule["enabled"] and rule["source"] == definitions.SYSCALL
        )
    )
    names = sorted(syscall_names.names_for(release).events_of(wanted))
    if names != said["rules"]:
        differs = sorted(set(names) ^ set(said["rules"]))
        found["reason"] = (
            "falco -L and its dry run disagree about the system calls of the rules: %s"
            % ", ".join(differs[:10])
        )
        return found
    return dict(found, rules=listed["rules"], selected=said["selected"])


def assemble(gathered):
    """The facts of one host from what the module sent. Never raises on host data."""
    sources = gathered.pop("config_sources")
    falco = gathered["falco"]
    try:
        release = releases.release_for(falco["version"]) if falco.get("version") else None
        if release is not None and release.warning:
            falco["warning"] = release.warning
    except releases.UnsupportedRelease as error:
        release, falco["reason"] = None, str(error)
    outcome = _config(sources, release)
    config, merged = outcome if isinstance(outcome, tuple) else (outcome, None)
    environment = {"FALCO_BPF_PROBE": ""} if sources["probe"] else {}
    if release is None:
        gathered["driver"] = {"kind": None, "decided_by": falco.get("reason") or "unknown release"}
    else:
        gathered["driver"] = drivers.decide(
            sources["arguments"], environment, gathered["service"].get("unit"), merged, release
        )
    sent = gathered.pop("rules", None)
    try:
        gathered["syscalls"] = _syscalls(sent, config, release) if isinstance(sent, dict) else None
    except (ValueError, TypeError, KeyError, zlib.error) as error:
        gathered["syscalls"] = {
            "rules": [],
            "selected": [],
            "profile": None,
            "reason": "what the host sent can't be read: %s" % error,
        }
    config["stale"] = _stale(sources, config, falco, (gathered.get("host") or {}).get("record"))
    gathered["config"] = config
    gathered["metrics"] = windows.window(gathered.get("metrics"), release, gathered["cpus"].get("online"))
    return gathered
