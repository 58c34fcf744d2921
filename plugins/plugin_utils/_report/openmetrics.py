# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report model → gauges for node_exporter's textfile collector. Pure.

A host's text may hold anything: labels are escaped, and no series comes twice, because node_exporter rejects
the whole file otherwise. Gauges are written alike in OpenMetrics and in Prometheus' older text format.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import models, shape
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report.paths import Get, Host, at, length
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import visible

# (labels as they are written, number or None): a sample without a number is left out.
Sample = tuple[str, int | float | None]
# (name after falcotune_, help, samples): a family without samples is left out.
Family = tuple[str, str, Iterable[Sample]]


def _ratio(get: Get) -> Get:
    """A percentage of the host as the ratio that Prometheus wants."""

    def ratio(host: Host) -> float | None:
        return _hundredth(get(host))

    return ratio


def _hundredth(percent: float | None) -> float | None:
    return None if percent is None else percent / 100.0


# Name after falcotune_host_, help, and a function of the host; a host for which that is None has no series.
HOST_GAUGES: tuple[tuple[str, str, Get], ...] = (
    (
        "up",
        "Whether the audit reached the host and could read its facts",
        lambda host: None if host["status"] == "monitored" else int(host["status"] == "ok"),
    ),
    (
        "drops_ratio",
        "Share of the events in the window that Falco lost, of measured hosts",
        _ratio(models.drops_of),
    ),
    ("window_events", "Events in the window, lost ones included", at("window", "events")),
    ("window_drops", "Events in the window that were lost", at("window", "drops")),
    ("window_seconds", "Length of the window", at("window", "seconds")),
    ("events_per_second_per_cpu", "Events a second and CPU, as counted", at("verdict", "rate_per_cpu")),
    (
        "guide_events_per_second_per_cpu",
        "Events a second and CPU as Falco's guide counts them, enter events included",
        at("verdict", "rate_per_cpu_guide"),
    ),
    ("falco_cpu_ratio", "CPUs that Falco uses", _ratio(at("verdict", "cost", "falco_cpu_percent"))),
    (
        "falco_cpu_wait_ratio",
        "Share of the time that Falco waits for a CPU",
        _ratio(at("verdict", "cost", "falco_wait_percent")),
    ),
    (
        "kernel_cpu_ratio",
        "Share of all CPUs' time that Falco's kernel programs use",
        _ratio(at("verdict", "cost", "kernel_percent")),
    ),
    ("falco_memory_bytes", "Memory of Falco", at("verdict", "cost", "memory_bytes")),
    ("cpus", "CPUs online", at("cpus")),
    ("memory_bytes", "Memory of the host", at("memory_bytes")),
    ("buffer_bytes", "All ring buffers together", at("buffers", "bytes_total")),
    ("buffers", "Number of ring buffers", at("buffers", "count")),
    (
        "planned_changes",
        "Changes that a tune would make",
        lambda host: len(host["plan"]["changes"]) if host["plan"] else None,
    ),
    (
        "restart_required",
        "Whether such a change restarts Falco",
        lambda host: int(host["plan"]["restart_required"]) if host["plan"] else None,
    ),
    ("drift_findings", "Differences from the host's last proven state", lambda host: len(host["drift"])),
    (
        "rules_blind",
        "Enabled rules that see nothing with the chosen system calls",
        length("syscalls", "coverage", "blind"),
    ),
    (
        "rules_half_blind",
        "Enabled rules that see only a part of their system calls",
        length("syscalls", "coverage", "half_blind"),
    ),
    ("changed_timestamp_seconds", "Time of the last proven change", at("change", "at")),
)
_QUANTILES = (("p50", "0.5"), ("p90", "0.9"), ("p99", "0.99"), ("p99.9", "0.999"), ("max", "1"))
_COUNTED = (
    ("states", "state", "Hosts in each state"),
    ("bottlenecks", "bottleneck", "Hosts with each bottleneck"),
    ("next_steps", "next_step", "Hosts by their next step"),
)


def to_openmetrics(model: dict[str, Any], hosts: bool = True) -> str:
    """hosts: False leaves out the series of single hosts, about 20 each."""
    lines: list[str] = []
    families = [*_audit_families(model), *_fleet_families(model["fleet"]), *_policy_families(model)]
    if hosts:
        families += _host_families(model["hosts"])
    for name, text, samples in families:
        found = [
            "falcotune_%s%s %s" % (name, labels, _value(value))
            for labels, value in samples
            if value is not None
        ]
        if found:
            lines.append("# HELP falcotune_%s %s.\n# TYPE falcotune_%s gauge" % (name, text, name))
            lines.extend(found)
    lines.append("# EOF\n")
    return "\n".join(lines)


def _labels(**labels: str | None) -> str:
    """Labels as they are written. What is unknown is empty: to Prometheus an empty label does not exist."""
    return "{%s}" % ",".join(
        '%s="%s"' % (name, visible(value or "").replace("\\", "\\\\").replace('"', '\\"'))
        for name, value in labels.items()
    )


def _value(value: int | float) -> str:
    return repr(float(value)) if isinstance(value, float) else "%d" % value


def _audit_families(model: dict[str, Any]) -> Iterator[Family]:
    yield "audit_timestamp_seconds", "Time of the audit", [("", shape.unix(model["made_at"]))]
    yield "audit_duration_seconds", "Duration of the audit", [("", model["seconds"])]
    labels = _labels(kind=model["kind"], collection=model["collection"])
    yield "audit_info", "The software that made the audit", [(labels, 1)]


def _fleet_families(fleet: dict[str, Any]) -> Iterator[Family]:
    yield (
        "fleet_hosts",
        "Hosts by what the audit found there",
        [
            (_labels(status="ok"), fleet["ok"]),
            (_labels(status="unreachable"), len(fleet["unreachable"])),
            (_labels(status="failed"), len(fleet["failed"])),
            (_labels(status="monitored"), len(fleet["monitored"])),
        ],
    )
    for name, label, text in _COUNTED:
        yield (
            "fleet_" + name,
            text,
            [(_labels(**{label: word}), number) for word, number in fleet[name].items()],
        )
    yield from _quantile_families(fleet["percentiles"])
    yield "fleet_window_events", "Events in all windows, lost ones included", [("", fleet["events"])]
    yield "fleet_window_drops", "Events in all windows that were lost", [("", fleet["drops"])]
    yield (
        "fleet_drifting_hosts",
        "Hosts that differ from their last proven state",
        [("", len(fleet["drifting"]))],
    )
    yield (
        "fleet_restart_required_hosts",
        "Hosts that need a change that restarts Falco",
        [("", len(fleet["restart_required"]))],
    )
    yield (
        "fleet_changed_hosts",
        "Hosts by how they compare with the last audit",
        [
            (_labels(change=name), len(fleet["since_last"][name]))
            for name in ("better", "worse", "new", "gone")
        ],
    )


def _quantile_families(percentiles: dict[str, Any]) -> Iterator[Family]:
    drops, rates = percentiles["drops_percent"], percentiles["rate_per_cpu_guide"]
    yield "fleet_measured_hosts", "Hosts behind the quantiles", [("", percentiles["measured"])]
    yield (
        "fleet_drops_ratio",
        "Quantiles by nearest rank of the share of events that hosts lost",
        [(_labels(quantile=share), _hundredth(drops[name])) for name, share in _QUANTILES],
    )
    yield (
        "fleet_guide_events_per_second_per_cpu",
        "Quantiles by nearest rank of the hosts' events a second and CPU, as Falco's guide counts them",
        [(_labels(quantile=share), rates[name]) for name, share in _QUANTILES],
    )


def _policy_families(model: dict[str, Any]) -> Iterator[Family]:
    broken = dict.fromkeys(model["policy"]["fail_on"], 0)
    for item in model["fleet"]["breaches"]:
        broken[item["rule"]] = broken.get(item["rule"], 0) + len(item["hosts"])
    yield (
        "fleet_breaches",
        "Hosts that break each rule of fail_on",
        [(_labels(rule=rule), number) for rule, number in broken.items()],
    )


def _host_families(hosts: Iterable[Host]) -> Iterator[Family]:
    found = _once(hosts)
    for name, text, get in HOST_GAUGES:
        yield "host_" + name, text, [(_labels(host=label), get(host)) for label, host in found]
    yield (
        "host_state",
        "The state that the host is in; 1 for that one",
        [
            (_labels(host=label, state=models.state_of(host)), 1)
            for label, host in found
            if models.state_of(host)
        ],
    )
    yield (
        "host_info",
        "Falco on the host",
        [
            (_labels(host=label, **{name: host[name] for name in ("release", "driver", "kernel")}), 1)
            for label, host in found
            if host["status"] == "ok"
        ],
    )
    yield (
        "host_verdict_info",
        "What keeps Falco from reading all events, and the next step",
        [
            (
                _labels(
                    host=label,
                    **{name: host["verdict"][name] for name in ("bottleneck", "next_step", "tier")},
                ),
                1,
            )
            for label, host in found
            if host["verdict"]
        ],
    )


def _once(hosts: Iterable[Host]) -> list[tuple[str, Host]]:
    """[(label, host)], no label twice, whatever the names of the hosts are."""
    found: list[tuple[str, Host]] = []
    used: set[str] = set()
    for host in hosts:
        label, number = visible(host["name"]), 2
        while label in used:
            label, number = "%s (%d)" % (visible(host["name"]), number), number + 1
        used.add(label)
        found.append((label, host))
    return found
