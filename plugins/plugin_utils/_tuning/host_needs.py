# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan needs of the host around Falco: metrics in a file, its directory and rotation, the unit's
drop-in, sysctls. Pure."""

from __future__ import annotations

import posixpath
from typing import Any, NamedTuple

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import (
    Change,
    Driver,
    Facts,
    HostFile,
    Policy,
    Rotation,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.configuration import Settings
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import (
    changes,
    host_files,
    policies,
    steps,
    windows,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning.refusals import PlanError
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning.steps import Setting, Step

FLAGS = (
    ("kernel_event_counters_enabled", "events and drops by category"),
    ("libbpf_stats_enabled", "run times of Falco's kernel side, where kernel.bpf_stats_enabled is 1"),
    ("resource_utilization_enabled", "Falco's CPU and memory tell which bottleneck it is"),
)


# Milliseconds. The timer signal of metrics.interval interrupts the BPF verifier, which gives up after
# five tries: with 2 s a starved Falco failed to start four times of five, with 10 s and 30 s never. No plan
# makes an interval shorter than this for a driver that loads BPF programs.
SAFE_INTERVAL = 10000


class Metrics(NamedTuple):
    """path: the file that Falco will write metrics to; None where there will be none. proof: the same file,
    where snapshots come often enough to prove a change by them."""

    path: str | None
    proof: str | None
    settings: tuple[Setting, ...]
    warnings: tuple[str, ...]


class Needs(NamedTuple):
    changes: list[Change]
    directories: list[str]
    rotate: Rotation | None
    sysctls: dict[str, str]
    unit_dropin: dict[str, Any] | None
    files: list[HostFile]


def _own_metrics_file(policy: Policy) -> str:
    return posixpath.join(policy["metrics_dir"], "metrics.jsonl")


def _temporary(path: str, policy: Policy) -> bool:
    """Whether PrivateTmp= hides this file of the host."""
    root = policy["host_root"].rstrip("/")
    inside = path[len(root) :] if root and path.startswith(root + "/") else path
    return bool(inside.startswith(("/tmp/", "/var/tmp/")))


def metrics(settings: Settings, policy: Policy, facts: Facts) -> Metrics:
    """Metrics on, written to a file outside the unit's sandbox. Raises PlanError where policy names a hidden
    one."""
    if not policy["metrics"] or not settings.release.metrics:
        return Metrics(None, None, (), ())
    output, wanted = settings.value("metrics.output_file"), _own_metrics_file(policy)
    hidden = facts["service"]["sandbox"]["private_tmp"]
    if hidden and _temporary(wanted, policy):
        raise PlanError(
            "falco_tune_metrics_dir is %s, but the unit %s has PrivateTmp: Falco would not find the "
            "directory, and nobody "
            "else the file; choose one outside /tmp and /var/tmp"
            % (policy["metrics_dir"], facts["service"]["unit"])
        )
    found = [Setting("metrics.enabled", True, "without metrics drops are silent")]
    rhythm = _interval(settings, policy, facts["driver"])
    found.extend(rhythm.settings)
    if not settings.value("metrics.enabled"):
        why = "an audit reads the file: as alerts, each snapshot would go to every output"
        found.append(Setting("metrics.output_rule", False, why))
        # On a host that is measured already, this alone is not worth a restart.
        found.append(steps.per_cpu_counters())
    if not output:
        why = (
            "a file that an audit can read; its directory is made first, since Falco exits where it is "
            "missing"
        )
        output = wanted
        found.append(Setting("metrics.output_file", output, why))
    elif hidden and _temporary(output, policy):
        why = "the unit has PrivateTmp, so %s is invisible to the host" % output
        output = wanted
        found.append(Setting("metrics.output_file", output, why))
    found.extend(Setting("metrics." + flag, True, why) for flag, why in FLAGS)
    warnings, proves = rhythm.warnings, rhythm.proves
    if facts["metrics"]["basis"] == windows.UNCOUNTED and not settings.release.counts_beside_plugins:
        proves = False
        warnings += (
            "Falco %s writes no kernel counters beside other event sources, so a change is proven "
            "by its process only: upgrade to 0.41.1 or newer" % settings.release,
        )
    return Metrics(output, output if proves else None, tuple(found), warnings)


class _Rhythm(NamedTuple):
    """How often snapshots come. proves: whether two come within the policy's healthy_deadline."""

    settings: tuple[Setting, ...]
    proves: bool
    warnings: tuple[str, ...]


def _interval(settings: Settings, policy: Policy, driver: Driver) -> _Rhythm:
    """The policy's interval, but for one in force that is shorter, or whose snapshots are alerts too.

    Raises PlanError for one that could keep Falco from starting and is not in force already."""
    now, raw = policies.duration_ms(settings.value("metrics.interval")), settings.value("metrics.interval")
    wanted = policies.duration_ms(policy["metrics_interval"])
    alerts = now > wanted and bool(settings.value("metrics.output_rule"))
    keep = bool(settings.value("metrics.enabled")) and (alerts or 0 < now <= wanted)
    if wanted < SAFE_INTERVAL and driver["kind"] != "kmod" and not keep:
        raise PlanError(
            "falco_tune_metrics_interval is %s, but Falco runs %s (%s): expected 10s or longer. The timer of "
            "a shorter interval can interrupt the loading of Falco's BPF programs, and Falco then does not "
            "start on a busy host (Resource temporarily unavailable). Set 10s or longer; a shorter interval "
            "that is in force on the host already is kept"
            % (policy["metrics_interval"], driver["kind"], driver["decided_by"])
        )
    interval = now if keep else wanted
    proves = policy["min_healthy_time"] + 2 * interval / 1000.0 < policy["healthy_deadline"]
    warnings = []
    if keep and alerts:
        warnings.append(
            "metrics.interval stays at %s: metrics.output_rule is on, so each snapshot is an alert on every "
            "output, and %s would make %.3g times as many. Set metrics.output_rule: false to have it "
            "shortened%s"
            % (
                raw,
                policy["metrics_interval"],
                now / wanted,
                "" if proves else "; until then counters come too seldom to prove a change",
            )
        )
    if interval < SAFE_INTERVAL and driver["kind"] != "kmod":
        warnings.append(
            "metrics.interval is %s: below 10s its timer can interrupt the loading of Falco's BPF programs, "
            "and Falco then does not start on a busy host (Resource temporarily unavailable)" % raw
        )
    made = Setting(
        "metrics.interval", policy["metrics_interval"], "snapshots often enough to judge the host by"
    )
    return _Rhythm(() if interval == now else (made,), proves, tuple(warnings))


def around(facts: Facts, policy: Policy, driver: str, output: str | None, step: Step) -> Needs:
    """What lives outside Falco's files. output: the metrics file, or None."""
    directories = [posixpath.dirname(output)] if output else []
    made = []
    if output and not facts["host"]["metrics_dir_exists"]:
        why = "Falco exits where the directory of metrics.output_file is missing"
        made.append(changes.change("directory", directories[0], None, "0750", why))
    rotate: Rotation | None = None
    if output and output == _own_metrics_file(policy):
        # A file that somebody else chose is rotated by somebody else: logrotate refuses a second entry for
        # it.
        rotate = {
            "path": output,
            "size": policy["metrics_rotate_size"],
            "count": policy["metrics_rotate_count"],
            "owner": _owner(facts),
        }
    lines = _unit_lines(facts, policy, output, step)
    made.extend(_unit_changes(facts, lines, step))
    sysctls: dict[str, str] = {}
    if policy["bpf_stats"] and driver != "kmod":
        sysctls = {"kernel.bpf_stats_enabled": "1"}
        now = facts["kernel"]["bpf_stats_enabled"]
        if now != 1:
            why = "policy bpf_stats: run times of Falco's programs; it costs every BPF program a little CPU"
            made.append(changes.change("sysctl", "kernel.bpf_stats_enabled", now, 1, why))
    dropin = lines if lines or facts["host"]["unit_dropin"] else None
    unit = facts["service"]["unit"] or ""
    return Needs(made, directories, rotate, sysctls, dropin, host_files.wanted(rotate, sysctls, unit, dropin))


def _owner(facts: Facts) -> str | None:
    """User and group that the metrics directory belongs to, as logrotate's su names them; None for root."""
    user, group = facts["service"]["user"], facts["service"]["group"]
    return "%s %s" % (user, group) if user and group and user != "root" else None


def _unit_lines(facts: Facts, policy: Policy, output: str | None, step: Step) -> dict[str, Any]:
    """Lines of our drop-in: what it holds already and policy allows, what evidence asks for, what the sandbox
    needs."""
    held, sandbox = facts["host"]["unit_dropin"], facts["service"]["sandbox"]
    wanted = {**steps.kept_unit_settings(facts, policy), **step.unit}
    if output and sandbox["protect_system"] == "strict":
        folder = posixpath.dirname(output)
        writable = [item.lstrip("-+") for item in sandbox["read_write_paths"]]
        inside = any(folder == item or folder.startswith(item.rstrip("/") + "/") for item in writable)
        if not inside or held.get("ReadWritePaths") == folder:
            wanted["ReadWritePaths"] = folder
    return {name: value for name, value in wanted.items() if value is not None}


def _unit_changes(facts: Facts, wanted: dict[str, Any], step: Step) -> list[Change]:
    held = facts["host"]["unit_dropin"]
    found = []
    for name in sorted(set(held) | set(wanted)):
        now, value = held.get(name), wanted.get(name)
        if (None if now is None else str(now)) == (None if value is None else str(value)):
            continue
        if name == "ReadWritePaths":
            why = "the unit has ProtectSystem=strict, so Falco could not write its metrics there"
        else:
            why = _why_of_line(step, name)
        found.append(changes.change("unit", name, now, value, why))
    return found


def _why_of_line(step: Step, name: str) -> str:
    if name not in step.unit:
        return "policy does not allow it any more"
    return step.why if name in step.to or not step.back else step.back
