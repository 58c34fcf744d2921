# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report model → JSON, CSV, OpenMetrics and a summary for a terminal. Pure; the page is report_html's.

What comes from a host is text that could be anything. Each form makes harmless what could do harm in it:

    JSON         all ASCII, so neither a terminal nor an editor is moved by it
    CSV          no formula: a spreadsheet runs a cell that begins with = + - @
    OpenMetrics  labels escaped, one series once: node_exporter rejects the whole file otherwise
    terminal     nothing that isn't printable: an escape sequence can rewrite what was said before it
"""

from __future__ import annotations

import csv
import io
import json
import re

from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import models, rollouts, trials
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import shape
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report.terminal import to_terminal
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import visible
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import changes

__all__ = ("to_csv", "to_json", "to_openmetrics", "to_terminal")


def to_json(model):
    """The whole report, one host a line: usable by line tools, and by diff."""

    def dump(value):
        return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))

    public = models.public(model)
    hosts = public.pop("hosts")
    parts = ["{\n"]
    parts.extend("%s:%s,\n" % (dump(name), dump(value)) for name, value in public.items())
    parts.append('"hosts":[')
    parts.append(",".join("\n" + dump(host) for host in hosts))
    parts.append("\n]\n}\n")
    return "".join(parts)


def _at(*path):
    """What lies at a path of the host; None where something on the way is unknown."""

    def get(host):
        for step in path:
            host = host.get(step) if host else None
        return host

    return get


def _length(*path):
    get = _at(*path)

    def length(host):
        found = get(host)
        return None if found is None else len(found)

    return length


# Column, and what it holds. New ones go to the end: somebody may count columns.
COLUMNS = (
    ("host", _at("name")),
    ("status", _at("status")),
    ("state", models.state_of),
    ("drops_percent", models.drops_of),
    ("events", _at("window", "events")),
    ("drops", _at("window", "drops")),
    ("window_seconds", _at("window", "seconds")),
    ("rate_per_cpu", _at("verdict", "rate_per_cpu")),
    ("rate_per_cpu_guide", _at("verdict", "rate_per_cpu_guide")),
    ("tier", _at("verdict", "tier")),
    ("bottleneck", _at("verdict", "bottleneck")),
    ("next_step", _at("verdict", "next_step")),
    ("advice", _at("verdict", "advice")),
    ("falco_cpu_percent", _at("verdict", "cost", "falco_cpu_percent")),
    ("falco_wait_percent", _at("verdict", "cost", "falco_wait_percent")),
    ("kernel_percent", _at("verdict", "cost", "kernel_percent")),
    ("falco_memory_bytes", _at("verdict", "cost", "memory_bytes")),
    ("release", _at("release")),
    ("driver", _at("driver")),
    ("cpus", _at("cpus")),
    ("memory_bytes", _at("memory_bytes")),
    ("kernel", _at("kernel")),
    ("unit", _at("unit")),
    ("buf_size_preset", _at("buffers", "buf_size_preset")),
    ("cpus_for_each_buffer", _at("buffers", "cpus_for_each_buffer")),
    ("buffers", _at("buffers", "count")),
    ("buffer_bytes", _at("buffers", "bytes_total")),
    (
        "planned_changes",
        lambda host: "; ".join(map(changes.label, host["plan"]["changes"])) if host["plan"] else None,
    ),
    ("restart_required", _at("plan", "restart_required")),
    ("drift", lambda host: "; ".join(item["what"] for item in host["drift"])),
    ("compared", models.compare),
    ("previous_state", _at("previous", "state")),
    ("previous_drops_percent", _at("previous", "drops_percent")),
    ("reason", lambda host: host["reason"] or _at("window", "voided")(host) or _at("plan", "reason")(host)),
    ("syscalls_selected", _at("syscalls", "after", "syscalls")),
    ("syscalls_events_per_second", _at("syscalls", "after", "events_per_second")),
    ("rules_blind", _length("syscalls", "coverage", "blind")),
    ("rules_half_blind", _length("syscalls", "coverage", "half_blind")),
)
# Of a report on trials, by (host, trial, test), and on a rollout, by (batch, host).
TRIAL_COLUMNS = (
    ("host", lambda row: row[0]["name"]),
    ("verdict", lambda row: row[1]["verdict"]),
    ("largest", lambda row: row[1]["largest"]),
    ("mode", lambda row: row[1]["mode"]),
    *(
        (column, lambda row, name=name: row[2] and row[2][name])
        for column, name in [("test", "name")]
        + [
            (name, name)
            for name in (
                "state",
                "seconds",
                "events",
                "events_per_second",
                "rate_per_cpu",
                "drops",
                "drops_percent",
                "falco_cpu_percent",
                "falco_wait_percent",
                "memory_bytes",
                "rules_total",
            )
        ]
    ),
    *(
        (name, lambda row, name=name: row[2] and len(row[2][name]))
        for name in ("rules_blind", "rules_half_blind", "selected")
    ),
    *((name, lambda row, name=name: row[2] and row[2][name]) for name in ("repair", "all")),
    ("custom_set", lambda row: row[2] and " ".join(row[2]["custom_set"])),
    ("reason", lambda row: (row[2] or row[1])["reason"]),
)
ROLLOUT_COLUMNS = (
    ("batch", lambda row: row[0]["number"]),
    ("stage", lambda row: row[0]["stage"]),
    ("host", lambda row: row[1]["name"]),
    *(
        (name, lambda row, name=name: row[1][name])
        for name in ("domain", "class", "outcome", "began", "ended", "blind_seconds", "evidence", "reason")
    ),
)
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
# The wide forms of = + - @ are formulas to spreadsheets of East Asia.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def cell(value):
    """What stands in a CSV cell. Every text is quoted by the writer, so that no separator of any locale splits it."""
    if value is None or isinstance(value, bool):
        return {None: "", True: "true", False: "false"}[value]
    if not isinstance(value, str):
        return value
    shown = visible(value)
    if value.lstrip(" ").startswith(_FORMULA) and not _NUMBER.fullmatch(value):
        return "'" + shown
    return shown


def to_csv(model):
    """One row a host, of trials one a host and test, by RFC 4180."""
    if model["rollout"]:
        columns, rows = ROLLOUT_COLUMNS, rollouts.hosts_of(model["rollout"])
    elif model["kind"] == "trial":
        columns, rows = TRIAL_COLUMNS, trials.rows(model["hosts"])
    else:
        columns, rows = COLUMNS, model["hosts"]
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
    writer.writerow([name for name, dummy in columns])
    writer.writerows([cell(get(row)) for dummy, get in columns] for row in rows)
    return stream.getvalue()


def _share(*path):
    """A percentage of the host as the ratio that Prometheus wants."""
    get = _at(*path)

    def ratio(host):
        value = get(host)
        return None if value is None else value / 100.0

    return ratio


def _drops_ratio(host):
    lost = models.drops_of(host)
    return None if lost is None else lost / 100.0


# name after falcotune_host_, help, what it holds; a host without it has no series
HOST_GAUGES = (
    ("up", "Whether the audit reached the host and understood it", lambda host: int(host["status"] == "ok")),
    ("drops_ratio", "Share of the events in the window that Falco lost, of measured hosts", _drops_ratio),
    ("window_events", "Events in the window, lost ones included", _at("window", "events")),
    ("window_drops", "Events in the window that were lost", _at("window", "drops")),
    ("window_seconds", "Length of the window", _at("window", "seconds")),
    ("events_per_second_per_cpu", "Events a second and CPU, as counted", _at("verdict", "rate_per_cpu")),
    (
        "guide_events_per_second_per_cpu",
        "The same in the terms of the guide's lines, which count enter events too",
        _at("verdict", "rate_per_cpu_guide"),
    ),
    ("falco_cpu_ratio", "CPUs that Falco uses", _share("verdict", "cost", "falco_cpu_percent")),
    (
        "falco_cpu_wait_ratio",
        "Share of the time that Falco waits for a CPU",
        _share("verdict", "cost", "falco_wait_percent"),
    ),
    (
        "kernel_cpu_ratio",
        "Share of all CPUs' time that Falco's kernel programs use",
        _share("verdict", "cost", "kernel_percent"),
    ),
    ("falco_memory_bytes", "Memory of Falco", _at("verdict", "cost", "memory_bytes")),
    ("cpus", "CPUs online", _at("cpus")),
    ("memory_bytes", "Memory of the host", _at("memory_bytes")),
    ("buffer_bytes", "All ring buffers together", _at("buffers", "bytes_total")),
    ("buffers", "Number of ring buffers", _at("buffers", "count")),
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
    ("drift_findings", "Ways in which the host is not as it was set up", lambda host: len(host["drift"])),
    (
        "rules_blind",
        "Enabled rules that see nothing with the chosen system calls",
        _length("syscalls", "coverage", "blind"),
    ),
    (
        "rules_half_blind",
        "Enabled rules that see a part of their system calls",
        _length("syscalls", "coverage", "half_blind"),
    ),
    ("changed_timestamp_seconds", "When the last proven change was made", _at("change", "at")),
)
_QUANTILES = (("p50", "0.5"), ("p90", "0.9"), ("p99", "0.99"), ("p99.9", "0.999"), ("max", "1"))


def _labels(**labels):
    """Labels as they are written. What is unknown is empty, which is the same to Prometheus as not there."""
    return "{%s}" % ",".join(
        '%s="%s"' % (name, visible(value or "").replace("\\", "\\\\").replace('"', '\\"'))
        for name, value in labels.items()
    )


def _value(value):
    return repr(float(value)) if isinstance(value, float) else "%d" % value


def to_openmetrics(model, hosts=True):
    """Gauges for node_exporter's textfile collector. Both Prometheus' text format and OpenMetrics: gauges look alike in them.

    hosts: False leaves out the series of single hosts, about 20 each.
    """
    lines = []

    def family(name, text, samples):
        """samples: [(labels as they are written, number or None)]."""
        found = [
            "falcotune_%s%s %s" % (name, labels, _value(value))
            for labels, value in samples
            if value is not None
        ]
        if found:
            lines.append("# HELP falcotune_%s %s.\n# TYPE falcotune_%s gauge" % (name, text, name))
            lines.extend(found)

    _fleet_families(model, family)
    hosts = _once(model["hosts"]) if hosts else []
    alone = [(_labels(host=label), host) for label, host in hosts]
    for name, text, get in HOST_GAUGES:
        family("host_" + name, text, [(labels, get(host)) for labels, host in alone])
    family(
        "host_state",
        "The state that the host is in; 1 for that one",
        [
            (_labels(host=label, state=models.state_of(host)), 1)
            for label, host in hosts
            if models.state_of(host)
        ],
    )
    family(
        "host_info",
        "Falco on the host",
        [
            (_labels(host=label, release=host["release"], driver=host["driver"], kernel=host["kernel"]), 1)
            for label, host in hosts
            if host["status"] == "ok"
        ],
    )
    family(
        "host_verdict_info",
        "What keeps Falco from reading all events, and what to do next",
        [
            (
                _labels(
                    host=label,
                    **{name: host["verdict"][name] for name in ("bottleneck", "next_step", "tier")},
                ),
                1,
            )
            for label, host in hosts
            if host["verdict"]
        ],
    )
    lines.append("# EOF\n")
    return "\n".join(lines)


def _once(hosts):
    """[(label, host)], no label twice, whatever hosts are called."""
    found, used = [], set()
    for host in hosts:
        label, number = visible(host["name"]), 2
        while label in used:
            label, number = "%s (%d)" % (visible(host["name"]), number), number + 1
        used.add(label)
        found.append((label, host))
    return found


def _fleet_families(model, family):
    fleet = model["fleet"]
    family("audit_timestamp_seconds", "When the audit was made", [("", shape.unix(model["made_at"]))])
    family("audit_duration_seconds", "How long the audit took", [("", model["seconds"])])
    family(
        "audit_info",
        "What made the audit",
        [(_labels(kind=model["kind"], collection=model["collection"]), 1)],
    )
    family(
        "fleet_hosts",
        "Hosts by what the audit found there",
        [
            (_labels(status="ok"), fleet["ok"]),
            (_labels(status="unreachable"), len(fleet["unreachable"])),
            (_labels(status="failed"), len(fleet["failed"])),
        ],
    )
    for name, label, text in (
        ("states", "state", "Hosts in each state"),
        ("bottlenecks", "bottleneck", "Hosts with each bottleneck"),
        ("next_steps", "next_step", "Hosts by what to do next"),
    ):
        family(
            "fleet_" + name,
            text,
            [(_labels(**{label: word}), number) for word, number in fleet[name].items()],
        )
    family("fleet_measured_hosts", "Hosts behind the quantiles", [("", fleet["percentiles"]["measured"])])
    drops, rates = fleet["percentiles"]["drops_percent"], fleet["percentiles"]["rate_per_cpu_guide"]
    family(
        "fleet_drops_ratio",
        "Quantiles by nearest rank of the share of events that hosts lost",
        [
            (_labels(quantile=share), None if drops[name] is None else drops[name] / 100.0)
            for name, share in _QUANTILES
        ],
    )
    family(
        "fleet_guide_events_per_second_per_cpu",
        "Quantiles by nearest rank of the hosts' events a second and CPU, in the guide's terms",
        [(_labels(quantile=share), rates[name]) for name, share in _QUANTILES],
    )
    family("fleet_window_events", "Events in all windows, lost ones included", [("", fleet["events"])])
    family("fleet_window_drops", "Events in all windows that were lost", [("", fleet["drops"])])
    family("fleet_drifting_hosts", "Hosts that are not as they were set up", [("", len(fleet["drifting"]))])
    family(
        "fleet_restart_required_hosts",
        "Hosts that need a change that restarts Falco",
        [("", len(fleet["restart_required"]))],
    )
    family(
        "fleet_changed_hosts",
        "Hosts by how they compare with the last audit",
        [
            (_labels(change=name), len(fleet["since_last"][name]))
            for name in ("better", "worse", "new", "gone")
        ],
    )
    broken = dict.fromkeys(model["policy"]["fail_on"], 0)
    for item in fleet["breaches"]:
        broken[item["rule"]] = broken.get(item["rule"], 0) + len(item["hosts"])
    family(
        "fleet_breaches",
        "Hosts that break each rule of fail_on",
        [(_labels(rule=rule), number) for rule, number in broken.items()],
    )
