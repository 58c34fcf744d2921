# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trials: what the module on the host needs for one test. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.falcotune.fleet.plugins.plugin_utils import _untrusted
from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import Facts, Policy, TrialTest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import drivers, releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.configuration import Settings
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.releases import Release
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.words import SYSCALL
from ansible_collections.falcotune.fleet.plugins.plugin_utils._trial.rule_arms import Arm
from ansible_collections.falcotune.fleet.plugins.plugin_utils._trial.tests import LIMITS
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies

# It needs the calls of tests.RULE_CALLS and matches nothing, in every release.
RULES = """\
- rule: Dummy rule that never alerts
  desc: Stands in for all rules while a set of system calls is tried.
  condition: evt.type in (execve, execveat) and proc.name=iShouldNeverAlert
  output: never (proc=%proc.name)
  priority: DEBUG
"""
# The host replaces it by the path of the trial's private directory.
PLACE = "{trial}"
# The parts of the facts that a trial reads.
PARTS = ("falco", "service", "driver", "config")
# Blocks of Falco's configuration about plugins. They may hold secrets, so the host copies them itself.
PLUGIN_BLOCKS = ("plugins", "plugins_hostinfo", "container_engines")
# Settings that decide which rules are evaluated, and how.
RULE_SETTINGS = ("rules", "priority", "rule_matching")
BOUNDS = (("cpu_quota", "CPUQuota %.10g %%"), ("cpu_weight", "CPUWeight %d"), ("memory_max", "MemoryMax %d"))


class Impossible(ValueError):
    """No trial can run on this host; the text is the reason."""


def release_of(facts: Facts) -> Release:
    """The host's release of Falco. Raises Impossible where it has no base_syscalls."""
    version = facts["falco"]["version"]
    if not version:
        raise Impossible(
            "Falco's release is unknown: %s" % (facts["falco"]["reason"] or "no version was found")
        )
    try:
        release: Release = releases.release_for(version)
    except releases.UnsupportedRelease as error:
        raise Impossible(str(error)) from None
    if not release.has("base_syscalls.custom_set"):
        raise Impossible(
            "Falco %s has no base_syscalls (since 0.35), so its system calls cannot be chosen: upgrade Falco"
            % version
        )
    return release


def _driver(facts: Facts, release: Release) -> str:
    """The driver that a test runs with. Raises Impossible."""
    if facts["config"]["reason"]:
        raise Impossible(facts["config"]["reason"])
    kind = facts["driver"]["kind"]
    if kind in drivers.WITHOUT_SYSCALLS:
        raise Impossible(
            "this Falco watches no system calls of the host: %s (%s). There is nothing to try; leave the "
            "host out of falco_trial_hosts" % (drivers.WITHOUT_SYSCALLS[kind], facts["driver"]["decided_by"])
        )
    if kind is None or kind not in release.drivers:
        raise Impossible(
            "Falco runs with %s: expected a driver that Falco %s can be tried with (%s)"
            % (kind, release, ", ".join(release.drivers))
        )
    return kind


def build(
    test: TrialTest,
    facts: Facts,
    plan: object,
    chosen: Mapping[str, Any],
    policy: Policy,
    release: Release,
    list_rules: bool,
    arm: Arm | None = None,
) -> dict[str, Any]:
    """The request for one test. Plain data. Raises Impossible.

    plan: of the host, whose buffers are taken where it has some; or None. chosen: what tests.options()
    returned. policy: the tuning policy. list_rules: the host shall also send what `falco -L` prints, and
    where the test has the host's own rules, its rules files. arm: which of those are loaded; None: all.
    """
    kind = _driver(facts, release)
    if chosen["mode"] == "instead" and not policy["restart_ok"]:
        raise Impossible(
            "falco_trial_mode is instead, which stops Falco, and falco_tune_restart_ok is false: use beside"
        )
    config = facts["config"]
    settings = _untrusted.dictionary(_untrusted.dictionary(plan).get("settings"))
    effective = {**config["effective"], **settings}
    old = drivers.old_form(Settings(effective, release))
    own = test["without"] is not None
    options = ["--modern-bpf"] if old and kind == "modern_ebpf" else []
    made = configuration(test, effective, kind, old, release, chosen["metrics_interval"])
    if own:
        made.update(_of_rules(test, effective, facts, release, arm))
        options += ["--enable-source", SYSCALL]
    return {
        "name": test["name"],
        "host_root": policy["host_root"],
        "state_dir": policy["state_dir"],
        "unit": policy["unit"],
        "mode": chosen["mode"],
        "seconds": chosen["seconds"],
        "interval": policies.duration_ms(chosen["metrics_interval"]) / 1000.0,
        "limits": {name: chosen[name] for name in LIMITS},
        "config": made,
        "files": arm.files if arm else {} if own else {"rules.yaml": RULES},
        "options": options,
        "own_rules": _own_rules(effective, facts, release, arm is None) if own else None,
        "main": config["order"][0] if config["order"] else "",
        "list_rules": list_rules,
        "reload_paths": _reload_paths(facts, effective),
    }


def _of_rules(
    test: TrialTest, effective: Mapping[str, Any], facts: Facts, release: Release, arm: Arm | None
) -> dict[str, Any]:
    """What a configuration with the host's own rules holds beside that of a set of system calls."""
    made: dict[str, Any] = {
        _rules_key(release): arm.paths if arm else _rules_paths(effective),
        "load_plugins": arm.plugins if arm else facts["config"]["plugins"],
    }
    made.update({name: effective[name] for name in RULE_SETTINGS if name in effective})
    if not (test["custom_set"] or test["repair"] or test["all"]) and "base_syscalls" in effective:
        made["base_syscalls"] = effective["base_syscalls"]
    return made


def _own_rules(effective: Mapping[str, Any], facts: Facts, release: Release, whole: bool) -> dict[str, Any]:
    """What the host adds itself: configuration of plugins, and which rules files there are.

    blocks: top-level blocks that are copied from `sources`. key: of the configuration, where the host's
    arguments (-r) name other rules files. whole: all of them are loaded.
    """
    config = facts["config"]
    return {
        "blocks": list(PLUGIN_BLOCKS),
        "sources": [{"path": item["path"], "strategy": item["strategy"]} for item in config["files"]],
        "fragments": bool(release.fragments),
        "key": _rules_key(release),
        "paths": _rules_paths(effective),
        "only_yaml": release.since(0, 41),
        "whole": whole,
    }


def _rules_key(release: Release) -> str:
    return "rules_files" if release.since(0, 38) else "rules_file"


def _rules_paths(effective: Mapping[str, Any]) -> list[str]:
    rules = effective.get("rules_files") or effective.get("rules_file") or []
    return [str(item) for item in (rules if isinstance(rules, list) else [rules])]


def _reload_paths(facts: Facts, effective: Mapping[str, Any]) -> list[str]:
    """The files and directories of the host's own Falco that must not change during a trial."""
    return [
        *(item["path"] for item in facts["config"]["files"]),
        *(item["path"] for item in facts["config"]["folders"]),
        *_rules_paths(effective),
    ]


def unbounded(facts: Facts) -> str | None:
    """The limits of the host's own unit that a trial's Falco does not have, as a sentence; or None.

    A trial's Falco runs in the session of the task, with the nice value of the host's own Falco.
    """
    limits = _untrusted.dictionary(facts["service"].get("limits"))
    found = [text % limits[name] for name, text in BOUNDS if _untrusted.is_number(limits.get(name))]
    if not found:
        return None
    return (
        "the trial's Falco runs without %s of the host's own unit: the host's own Falco may lose more events "
        "than the trial did" % ", ".join(found)
    )


def configuration(
    test: TrialTest, effective: Mapping[str, Any], kind: str, old: bool, release: Release, interval: str
) -> dict[str, Any]:
    """A whole falco.yaml as data: the host's driver and buffers, one set of system calls, no outputs.

    old: the release reads the keys of 0.36 and before. PLACE stands for the private directory.
    """
    base = {
        name: value
        for name, value in (
            ("custom_set", test["custom_set"]),
            ("repair", test["repair"]),
            ("all", test["all"]),
        )
        if release.has("base_syscalls." + name)
    }
    off = ["syslog_output", "file_output", "program_output", "http_output", "webserver"]
    off += [] if release.since(0, 44) else ["grpc", "grpc_output"]
    found: dict[str, Any] = {
        _rules_key(release): [PLACE + "/rules.yaml"],
        "base_syscalls": base,
        "load_plugins": [],
        "watch_config_files": False,
        "priority": "debug",
        "json_output": False,
        "stdout_output": {"enabled": True},
        "log_stderr": True,
        "log_syslog": False,
        "log_level": "info",
        "syscall_event_drops": {"threshold": 1, "actions": ["ignore"], "rate": 0.03333, "max_burst": 1},
        "metrics": _metrics(release, interval),
    }
    found.update({name: {"enabled": False} for name in off})
    if release.fragments:
        found["config_files"] = []
    kept = ("falco_libs", "syscall_buf_size_preset", "modern_bpf")
    found.update({name: effective[name] for name in kept if name in effective})
    if release.since(0, 37) and not old:
        found["engine"] = {**_untrusted.dictionary(effective.get("engine")), "kind": kind}
    return found


def _metrics(release: Release, interval: str) -> dict[str, Any]:
    wanted = {
        "enabled": True,
        "interval": interval,
        "output_rule": False,
        "output_file": PLACE + "/metrics.jsonl",
        "resource_utilization_enabled": True,
        "kernel_event_counters_enabled": True,
        "state_counters_enabled": True,
    }
    # Switches that are absent are on in Falco's code.
    names = [key.path.partition(".")[2] for key in release.keys("metrics")]
    return {name: wanted.get(name, False) for name in names}
