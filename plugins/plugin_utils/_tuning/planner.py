# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""facts + policy → plan. Pure: the same input gives the same plan, byte for byte.

The plan contract: release, driver, layout, settings (complete top-level blocks), changes[{kind, key, from, to, why}],
buffers, target (the file to write), directories, sysctls, rotate, unit_dropin, restart_required, warnings, verdict,
step (what evidence asks for: {'name', 'why', 'expected', 'to'}, or None), syscalls (what
syscall_set.choose() says, or None where system calls are no question here), coverage (its part about rules, or None),
needs ('syscalls' where the plan would be another with the host's rules at hand, else None).
"""

from __future__ import annotations

import copy
import posixpath

from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases, selections
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import (
    buffers,
    changes,
    drift,
    steps,
    syscall_set,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import configuration
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import drivers
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import verdicts


class PlanError(ValueError):
    """This host can't be planned for: says what was found, what was expected and what to do."""


def _release(facts):
    version = (facts.get("falco") or {}).get("version")
    if not version:
        reason = (facts.get("falco") or {}).get("reason") or "no version was found"
        raise PlanError("Falco's release is unknown: %s" % reason)
    try:
        return releases.release_for(version)
    except releases.UnsupportedRelease as error:
        raise PlanError(str(error)) from None


# A process younger than this, of a unit that systemd has restarted, keeps dying.
YOUNG_SECONDS = 20


def _running(facts):
    """A change can be proven only on a Falco that runs."""
    falco, service = facts["falco"], facts.get("service") or {}
    if not service.get("unit"):
        raise PlanError(service.get("reason") or "no systemd unit of Falco was found")
    if not falco.get("running"):
        raise PlanError(
            "Falco is not running (unit %s is %s): start it first, a change can't be proven on a stopped Falco"
            % (service["unit"], service.get("state"))
        )
    if falco.get("restarts") and falco.get("age") is not None and falco["age"] < YOUNG_SECONDS:
        raise PlanError(
            "Falco keeps dying: systemd restarted %s %d times, the last time %d s ago; look at its log "
            "(journalctl -u %s) and at a dry run first"
            % (service["unit"], falco["restarts"], falco["age"], service["unit"])
        )


def _driver(facts, policy, release):
    kind = facts["driver"]["kind"]
    decided_by = facts["driver"]["decided_by"]
    if policy["driver"] not in ("auto", kind):
        raise PlanError(
            "policy says driver %s, but Falco runs %s (%s): the unit chooses the driver, so enable the unit of the driver "
            "you want, or set falco_tune_driver to %s or auto" % (policy["driver"], kind, decided_by, kind)
        )
    if kind not in release.drivers:
        raise PlanError(
            "driver %s (%s) is not one that Falco %s can tune; it knows %s"
            % (kind, decided_by, release, ", ".join(release.drivers))
        )
    return kind


def _block_error(facts):
    config = facts.get("config") or {}
    if config.get("reason"):
        raise PlanError(config["reason"])
    repeated = config.get("duplicates") or []
    if repeated:
        path, key, line = repeated[0]
        raise PlanError(
            "%s line %d: the key %s is given twice; Falco takes the first, most tools the last: remove one of them"
            % (path, line, key)
        )


def _folder(config):
    """The last directory in config_files whose fragments override: {'path', 'entry'}, or None."""
    folders = [item for item in config.get("folders", []) if item.get("strategy") != "add-only"]
    return folders[-1] if folders else None


def _target(facts, policy, release):
    """(layout, path) of the file that will hold the settings."""
    config = facts["config"]
    main = config["order"][0]
    if policy["layout"] == "full" or release.fragments is None:
        if policy["layout"] == "dropin":
            raise PlanError(
                "layout dropin needs Falco 0.38 or newer, and this is %s: use full or auto" % release
            )
        return "full", main
    folder = _folder(config)
    if folder is None:
        if policy["layout"] == "dropin":
            raise PlanError(
                "layout dropin: %s lists no directory in config_files, so nothing would load a fragment; add one "
                "or use layout full or auto" % main
            )
        return "full", main
    return "dropin", posixpath.join(folder["path"], policy["fragment_name"])


class _Draft:
    """Collects changes against what is in force."""

    def __init__(self, effective, release):
        self.effective = effective
        self.release = release
        self.values = {}
        self.changes = []

    def want(self, path, value, why):
        if not self.release.has(path):
            return
        now = configuration.value_in_force(self.effective, path, self.release)
        if now["legal"] and now["value"] == value:
            return
        found, raw = configuration.lookup(self.effective, path)
        self.values[path] = value
        self.changes.append(changes.change("config", path, raw if found else None, value, why))


def current_buffers(effective, driver, release):
    """{'buf_size_preset', 'cpus_for_each_buffer'} in force; the second is None where the driver has none."""
    keys = release.buffer_keys(driver)
    # 0.37 knows two forms, and reads the old one while its engine block is untouched.
    form = -1 if drivers.old_form(effective, release) else 0
    preset = configuration.value_in_force(effective, keys["buf_size_preset"][form], release)["value"]
    cpus = None
    if keys["cpus_for_each_buffer"]:
        cpus = configuration.value_in_force(effective, keys["cpus_for_each_buffer"][form], release)["value"]
    return {"buf_size_preset": preset, "cpus_for_each_buffer": cpus}


def _memory(facts, driver, current):
    memory = facts.get("memory") or {}
    used, available = memory.get("used"), memory.get("available")
    # The rings that are there now will be replaced: they come back to the host, and to the unit where they are charged to it.
    rings = buffers.layout(
        driver, facts["cpus"]["online"], current["buf_size_preset"], current["cpus_for_each_buffer"]
    )
    if available is not None:
        available += rings["bytes_total"]
    if used is not None and driver == "modern_ebpf":
        used = max(0, used - rings["bytes_total"])
    return {"total": memory.get("total"), "available": available, "limit": memory.get("limit"), "used": used}


def _metrics_file(policy):
    return posixpath.join(policy["metrics_dir"], "metrics.jsonl")


def _temporary(path, policy):
    """Whether PrivateTmp hides this file of the host."""
    root = policy["host_root"].rstrip("/")
    inside = path[len(root) :] if root and path.startswith(root + "/") else path
    return inside.startswith(("/tmp/", "/var/tmp/"))


def _metrics(draft, policy, release, facts):
    """Metrics on, written to a file that survives the unit's sandbox."""
    if not policy["metrics"] or not release.metrics:
        return None
    effective = draft.effective
    output = configuration.value_in_force(effective, "metrics.output_file", release)["value"]
    wanted = _metrics_file(policy)
    hidden = (facts.get("service") or {}).get("sandbox", {}).get("private_tmp")
    if hidden and _temporary(wanted, policy):
        raise PlanError(
            "falco_tune_metrics_dir is %s, but the unit %s has PrivateTmp: Falco would not find the directory, and nobody "
            "else the file; choose one outside /tmp and /var/tmp"
            % (policy["metrics_dir"], facts["service"]["unit"])
        )
    if not output:
        output = wanted
        why = "a file that an audit can read; the directory is made first, since Falco exits where it is missing"
    elif hidden and _temporary(output, policy):
        output, why = wanted, "the unit has PrivateTmp, so %s is invisible to the host" % output
    else:
        why = None
    draft.want("metrics.enabled", True, "without metrics drops are silent")
    interval = configuration.value_in_force(effective, "metrics.interval", release)["value"]
    if policies.duration_ms(interval) != policies.duration_ms(policy["metrics_interval"]):
        draft.want("metrics.interval", policy["metrics_interval"], "a window short enough to judge by")
    if why:
        draft.want("metrics.output_file", output, why)
    for flag, why in (
        ("kernel_event_counters_enabled", "events and drops by category"),
        ("libbpf_stats_enabled", "run times of Falco's kernel side, where kernel.bpf_stats_enabled is 1"),
        ("resource_utilization_enabled", "Falco's CPU and memory tell which bottleneck it is"),
    ):
        draft.want("metrics." + flag, True, why)
    return output


def _recovery(facts, release):
    """The plan for a host on which a change or a trial was broken off: finish or undo that one, nothing else."""
    phase = facts["host"]["unfinished"].get("phase")
    what = "trial" if phase == "trial" else "change"
    broken_off = (
        "a trial that was broken off" if phase == "trial" else "a change that was broken off (%s)" % phase
    )
    return {
        "release": str(release),
        "driver": facts["driver"]["kind"],
        "layout": None,
        "target": None,
        "settings": {},
        "changes": [
            changes.change(
                "unfinished", what, broken_off, "finished or undone", "nobody is working on it any more"
            )
        ],
        "buffers": None,
        "seconds_bridged": None,
        "metrics_file": None,
        "sysctls": {},
        "directories": [],
        "rotate": None,
        "unit_dropin": None,
        "warnings": [],
        "restart_required": True,
        "verdict": None,
        "step": None,
        "syscalls": None,
        "coverage": None,
        "needs": None,
    }


def make(facts, given):
    """The plan for one host. Raises PlanError or PolicyError; both before anything is touched."""
    policy = policies.complete(given)
    release = _release(facts)
    if (facts.get("host") or {}).get("unfinished"):
        return _recovery(facts, release)
    _block_error(facts)
    _running(facts)
    driver = _driver(facts, policy, release)
    config = facts["config"]
    effective = config["effective"]
    layout, path = _target(facts, policy, release)
    draft = _Draft(effective, release)
    current = current_buffers(effective, driver, release)
    online = facts["cpus"]["online"]
    if not online:
        raise PlanError(
            "the number of online CPUs is unknown: %s" % (facts["cpus"].get("reason") or "nothing was read")
        )
    page_size = (facts.get("kernel") or {}).get("page_size") or 4096
    ours = ((facts.get("host") or {}).get("record") or {}).get("files") or {}
    output = _metrics(draft, policy, release, facts)
    verdict = verdicts.judge(facts, policy, release)
    rung = steps.climb(
        facts, policy, release, verdict, driver, current, measuring=bool(output) and not draft.changes
    )
    try:
        chosen = buffers.choose(
            driver,
            online,
            _memory(facts, driver, current),
            policies.buffer_policy(policy),
            current,
            page_size,
            settled=path in ours,
            asked=rung.buffers,
        )
    except buffers.BufferError as error:
        raise PlanError(str(error)) from None
    steps.risen(rung, chosen, current)
    needs = _syscalls(draft, rung, facts, policy, release)

    why = "; ".join(chosen["reasons"])
    keys = release.buffer_keys(driver)
    for key in keys["buf_size_preset"]:
        draft.want(key, chosen["buf_size_preset"], why)
    for key in keys["cpus_for_each_buffer"]:
        draft.want(key, chosen["cpus_for_each_buffer"], why)

    _not_overridden(draft, config, layout, path, release)
    settings = _settings(draft, config, layout, path, release, driver)
    warnings = ([release.warning] if release.warning else []) + _findings(effective, release)
    plan = {
        "release": str(release),
        "driver": driver,
        "layout": layout,
        "target": path,
        "settings": settings,
        "changes": draft.changes,
        "buffers": {
            name: chosen[name]
            for name in (
                "buf_size_preset",
                "cpus_for_each_buffer",
                "count",
                "bytes_each",
                "bytes_total",
                "bytes_at_load",
                "budget",
                "reasons",
            )
        },
        "seconds_bridged": _bridged(driver, online, current, chosen, verdict),
        "metrics_file": output,
        "sysctls": {},
        "warnings": warnings,
        "verdict": verdict,
        "step": {"name": rung.step, "why": rung.why, "expected": rung.expected, "to": rung.to}
        if rung.step
        else None,
        "syscalls": rung.syscalls,
        "coverage": rung.syscalls["coverage"] if rung.syscalls else None,
        "needs": needs,
    }
    _host_needs(plan, facts, policy, driver, output, rung)
    stale = config.get("stale")
    if stale:
        plan["changes"].append(
            changes.change("running", "configuration", "an older configuration", "what is on disk", stale)
        )
    plan["restart_required"] = any(
        change["kind"] not in changes.WITHOUT_RESTART for change in plan["changes"]
    )
    unproven = _unproven(facts)
    if unproven and not plan["restart_required"]:
        # A package was upgraded, or somebody changed what is no matter of ours. A restart would prove it too.
        before, now = (
            "; ".join("%s: %s" % (item["what"], item[name]) for item in unproven)
            for name in ("expected", "found")
        )
        plan["changes"].append(
            changes.change(
                "record",
                "proven state",
                before,
                now,
                "Falco is proven with what is there now: it is watched, not interrupted",
            )
        )
    return plan


def _unproven(facts):
    """What Falco was not proven with. Our files that it does not read (logrotate's, say) are no part of a proof, and are put back."""
    config, record = facts["config"], (facts.get("host") or {}).get("record") or {}
    read = {posixpath.dirname(config["order"][0])} | {item["path"].rstrip("/") for item in config["folders"]}
    return [
        item
        for item in drift.unproven(facts)
        if item["kind"] != "disk"
        or item["what"] not in (record.get("written") or [])
        or posixpath.dirname(item["what"]) in read
    ]


def current_syscalls(effective, release):
    """base_syscalls in force: {'custom_set', 'repair', 'all'}."""
    found = {
        name: configuration.value_in_force(effective, "base_syscalls." + name, release)["value"]
        for name in ("custom_set", "repair", "all")
        if release.has("base_syscalls." + name)
    }
    return {
        "custom_set": selections.entries_of(found.get("custom_set")),
        "repair": bool(found.get("repair")),
        "all": bool(found.get("all")),
    }


def _syscalls(draft, rung, facts, policy, release):
    """Which system calls are watched: what policy fixes, else what evidence asks for. → what the plan lacks to say so, or None."""
    fixed = policy["base_syscalls"]
    if fixed and not release.has("base_syscalls.repair"):
        raise PlanError(
            "falco_tune_base_syscalls is set, but Falco %s can't choose system calls (since 0.35)" % release
        )
    current = current_syscalls(draft.effective, release)
    differs = any(current[name] != value for name, value in fixed.items())
    if not differs and (fixed or not steps.fewer_syscalls(rung, policy, release)):
        return None
    known = facts.get("syscalls")
    if known is None:
        return "syscalls"
    if known["reason"]:
        if fixed:
            raise PlanError("falco_tune_base_syscalls can't be applied: %s" % known["reason"])
        rung.verdict["reasons"].append(
            "which system calls could be left out is unknown: %s" % known["reason"]
        )
        return None
    window = facts.get("metrics") or {}
    try:
        made = syscall_set.choose(
            known["rules"],
            release,
            policy,
            current,
            known["profile"],
            window.get("drops_by_category"),
            window.get("rate"),
            steps.target_of(window) if rung.verdict["state"] in steps.LOSING else None,
        )
    except syscall_set.SetError as error:
        raise PlanError(str(error)) from None
    if fixed:
        rung.syscalls = made
    else:
        steps.narrow(rung, facts, release, policy, made, current)
        if rung.step != "syscalls":
            return None
    why = "; ".join(made["reasons"] + [steps.blind_text(made["coverage"])])
    for name in ("repair", "custom_set", "all"):
        if made[name] != current[name]:
            draft.want("base_syscalls." + name, made[name], why)
    return None


def _bridged(driver, online, before, after, verdict):
    """Seconds that the rings bridge, at the rate that was measured, else at the guide's upper line."""
    rate = verdict["rate_per_cpu"] or buffers.GUIDE_EVENTS_PER_CPU
    found = [
        round(
            buffers.seconds_bridged(
                driver, online, item["buf_size_preset"], item["cpus_for_each_buffer"] or 0, rate
            ),
            3,
        )
        for item in (before, after)
    ]
    return {
        "before": found[0],
        "after": found[1],
        "at_events_per_second_per_cpu": rate,
        "bytes_per_event": buffers.BYTES_PER_EVENT,
    }


def _unit(plan, facts, policy, output, rung):
    """Lines of our drop-in of Falco's unit: what it holds already and policy allows, what evidence asks for, what the sandbox needs."""
    held = dict((facts.get("host") or {}).get("unit_dropin") or {})
    wanted = dict(steps.kept_unit_settings(facts, policy), **rung.unit)
    sandbox = (facts.get("service") or {}).get("sandbox") or {}
    if output and sandbox.get("protect_system") == "strict":
        folder = posixpath.dirname(output)
        writable = [item.lstrip("-+") for item in sandbox.get("read_write_paths", [])]
        inside = any(folder == item or folder.startswith(item.rstrip("/") + "/") for item in writable)
        if not inside or held.get("ReadWritePaths") == folder:
            wanted["ReadWritePaths"] = folder
    reasons = {
        "ReadWritePaths": "the unit has ProtectSystem=strict, so Falco could not write its metrics there"
    }
    for name in sorted(set(held) | set(wanted)):
        now, value = held.get(name), wanted.get(name)
        if (None if now is None else str(now)) == (None if value is None else str(value)):
            continue
        why = reasons.get(name) or (rung.why if name in rung.unit else "policy does not allow it any more")
        plan["changes"].append(changes.change("unit", name, now, value, why))
    return wanted if wanted or held else None


def _host_needs(plan, facts, policy, driver, output, rung):
    """What lives outside Falco's files: directory, rotation, sysctl, the unit's sandbox and limits."""
    host = facts.get("host") or {}
    plan["directories"] = [posixpath.dirname(output)] if output else []
    plan["rotate"] = None
    if output:
        if output == _metrics_file(policy):
            # A file that somebody else chose is rotated by somebody else: logrotate refuses a second entry for it.
            plan["rotate"] = {
                "path": output,
                "size": policy["metrics_rotate_size"],
                "count": policy["metrics_rotate_count"],
            }
        if not host.get("metrics_dir_exists", True):
            plan["changes"].append(
                changes.change(
                    "directory",
                    posixpath.dirname(output),
                    None,
                    "0750",
                    "Falco exits where the directory of metrics.output_file is missing",
                )
            )
    plan["unit_dropin"] = _unit(plan, facts, policy, output, rung)
    if policy["bpf_stats"] and driver != "kmod":
        plan["sysctls"] = {"kernel.bpf_stats_enabled": "1"}
        now = (facts.get("kernel") or {}).get("bpf_stats_enabled")
        if now != 1:
            plan["changes"].append(
                changes.change(
                    "sysctl",
                    "kernel.bpf_stats_enabled",
                    now,
                    1,
                    "policy bpf_stats: run times of Falco's programs; it costs every BPF program a little CPU",
                )
            )


def _settings(draft, config, layout, path, release, driver):
    """Complete top-level blocks: those that change, and those that our own fragment already holds."""
    raw = config.get("raw") or {}
    blocks = {key.split(".")[0] for key in draft.values}
    if layout == "dropin" and blocks:
        for item in config.get("files", []):
            if item["path"] == path:
                blocks.update(item.get("keys", []))
    settings = {}
    for block in sorted(blocks):
        value = raw.get(block, config["effective"].get(block))
        settings[block] = copy.deepcopy(value) if isinstance(value, dict) else value
    for key, value in draft.values.items():
        block, dummy, rest = key.partition(".")
        if not rest:
            settings[block] = value
            continue
        if not isinstance(settings[block], dict):
            settings[block] = {}
        node = settings[block]
        for step in rest.split(".")[:-1]:
            if not isinstance(node.get(step), dict):
                node[step] = {}
            node = node[step]
        node[rest.split(".")[-1]] = value
    if "engine" in settings:
        # A block without kind selects kmod, whatever falco.yaml says.
        engine = settings["engine"] if isinstance(settings["engine"], dict) else {}
        # What an upgrade left in our own fragment and this release does not know would be a warning at every start.
        gone = {"kind"} | {name for name in ("kmod", "ebpf", "modern_ebpf") if name not in release.drivers}
        settings["engine"] = {
            "kind": driver,
            **{key: value for key, value in engine.items() if key not in gone},
        }
    return settings


def _not_overridden(draft, config, layout, path, release):
    """Nothing that is read later may hold what we are about to write."""
    place = {item["path"]: item["entry"] for item in config["files"]}
    if release.options_beat_fragments or layout == "full":
        for option in config["options"]:
            given = option.partition("=")[0].strip()
            if any(key == given or key.startswith(given + ".") for key in draft.values):
                raise PlanError(
                    "the process is started with -o %s, which overrides every file: take it out of the unit, or set the "
                    "policy to the value it gives" % option
                )
    for block in sorted({key.split(".")[0] for key in draft.values}):
        holders = [
            item["path"]
            for item in config["files"]
            if block in item["keys"]
            and item["strategy"] != "add-only"
            and item["path"] not in (path, config["order"][0])
        ]
        if not holders:
            continue
        if layout == "full":
            raise PlanError(
                "%s holds the block %s and is read after %s, so it would override it: use layout dropin or auto, "
                "or remove the block there" % (holders[-1], block, path)
            )
        if (place[holders[-1]], holders[-1]) > (_folder(config)["entry"], path):
            raise PlanError(
                "%s holds the block %s and is read after %s, so it would override it: rename or remove it"
                % (holders[-1], block, path)
            )


def _findings(effective, release):
    """Values that Falco replaces in silence, and keys of other releases."""
    found = []
    for key in releases.KEYS:
        present, value = configuration.lookup(effective, key.path)
        if not present:
            continue
        known = release.key(key.path)
        if known is None:
            if not any(
                other.path == key.path and other.since <= release.table < other.until
                for other in releases.KEYS
            ):
                found.append("%s is set, but Falco %s does not read it" % (key.path, release))
        elif not configuration.coerce(value, known)[0]:
            found.append(
                "%s is %r, which Falco %s can't use; it takes its default %r"
                % (key.path, value, release, known.default)
            )
    return sorted(set(found))
