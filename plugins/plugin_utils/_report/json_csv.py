# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report model → JSON and CSV. Pure.

A host's text may hold anything, so each form of the report makes harmless what is dangerous in it:

    JSON  all ASCII: no character can disturb a terminal or an editor
    CSV   no formulas: a spreadsheet runs a cell that begins with = + - @
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import models, rollouts, trials
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report.paths import at, length
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import visible
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import changes


def to_json(model: dict[str, Any]) -> str:
    """The whole report, one host a line, for line tools and for diff."""
    return "".join(json_lines(model))


def json_lines(model: dict[str, Any]) -> Iterator[str]:
    """The parts of to_json() in order: that of 10 000 hosts has 50 MB, which need not be in memory."""

    def dump(value: object) -> str:
        return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))

    public = models.public(model)
    hosts = public.pop("hosts")
    yield "{\n"
    for name, value in public.items():
        yield "%s:%s,\n" % (dump(name), dump(value))
    yield '"hosts":['
    for index, host in enumerate(hosts):
        yield ("," if index else "") + "\n" + dump(host)
    yield "\n]\n}\n"


# Column, and a function of the host. New ones go to the end: users may count columns.
COLUMNS: tuple[tuple[str, Any], ...] = (
    ("host", at("name")),
    ("status", at("status")),
    ("state", models.state_of),
    ("drops_percent", models.drops_of),
    ("events", at("window", "events")),
    ("drops", at("window", "drops")),
    ("window_seconds", at("window", "seconds")),
    ("rate_per_cpu", at("verdict", "rate_per_cpu")),
    ("rate_per_cpu_guide", at("verdict", "rate_per_cpu_guide")),
    ("tier", at("verdict", "tier")),
    ("bottleneck", at("verdict", "bottleneck")),
    ("next_step", at("verdict", "next_step")),
    ("advice", at("verdict", "advice")),
    ("demand", at("verdict", "capacity", "demand")),
    ("capacity", at("verdict", "capacity", "capacity")),
    ("factor", at("verdict", "capacity", "factor_alone")),
    ("answer", at("verdict", "answer", "kind")),
    ("falco_cpu_percent", at("verdict", "cost", "falco_cpu_percent")),
    ("falco_wait_percent", at("verdict", "cost", "falco_wait_percent")),
    ("kernel_percent", at("verdict", "cost", "kernel_percent")),
    ("falco_memory_bytes", at("verdict", "cost", "memory_bytes")),
    ("release", at("release")),
    ("driver", at("driver")),
    ("cpus", at("cpus")),
    ("memory_bytes", at("memory_bytes")),
    ("kernel", at("kernel")),
    ("unit", at("unit")),
    ("buf_size_preset", at("buffers", "buf_size_preset")),
    ("cpus_for_each_buffer", at("buffers", "cpus_for_each_buffer")),
    ("buffers", at("buffers", "count")),
    ("buffer_bytes", at("buffers", "bytes_total")),
    (
        "planned_changes",
        lambda host: "; ".join(map(changes.label, host["plan"]["changes"])) if host["plan"] else None,
    ),
    ("restart_required", at("plan", "restart_required")),
    ("drift", lambda host: "; ".join(item["what"] for item in host["drift"])),
    ("compared", models.compare),
    ("previous_state", at("previous", "state")),
    ("previous_drops_percent", at("previous", "drops_percent")),
    ("reason", lambda host: host["reason"] or at("window", "voided")(host) or at("plan", "reason")(host)),
    ("syscalls_selected", at("syscalls", "after", "syscalls")),
    ("syscalls_events_per_second", at("syscalls", "after", "events_per_second")),
    ("rules_blind", length("syscalls", "coverage", "blind")),
    ("rules_half_blind", length("syscalls", "coverage", "half_blind")),
)


def _difference(test: Any, name: str) -> Any:
    """The mean difference of a test from the one that it is compared with, or nothing."""
    found = test and test["difference"] and test["difference"][name]
    return found and found["mean"]


# Of a report on trials, by (host, trial, test or None), and on a rollout, by (batch, host).
TRIAL_COLUMNS: tuple[tuple[str, Any], ...] = (
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
                "cpu_per_million",
                "against",
            )
        ]
    ),
    *(
        ("%s_difference" % name, lambda row, name=name: _difference(row[2], name))
        for name in ("cpu_per_million", "drops_percent", "memory_bytes")
    ),
    ("runs", lambda row: row[2] and len(row[2]["runs"])),
    ("rules_removed", lambda row: row[2] and len(row[2]["rules_removed"])),
    *(
        (name, lambda row, name=name: row[2] and len(row[2][name]))
        for name in ("rules_blind", "rules_half_blind", "selected")
    ),
    *((name, lambda row, name=name: row[2] and row[2][name]) for name in ("repair", "all")),
    ("custom_set", lambda row: row[2] and " ".join(row[2]["custom_set"])),
    ("reason", lambda row: (row[2] or row[1])["reason"]),
)
ROLLOUT_COLUMNS: tuple[tuple[str, Any], ...] = (
    ("batch", lambda row: row[0]["number"]),
    ("stage", lambda row: row[0]["stage"]),
    ("host", lambda row: row[1]["name"]),
    *(
        (name, lambda row, name=name: row[1][name])
        for name in ("domain", "class", "outcome", "began", "ended", "blind_seconds", "evidence", "reason")
    ),
)
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
# Spreadsheets of East Asia take the wide forms of = + - @ as formulas too.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def cell(value: Any) -> Any:
    """The value of a CSV cell. The writer quotes every text, so no separator of any locale splits it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return value
    shown = visible(value)
    if value.lstrip(" ").startswith(_FORMULA) and not _NUMBER.fullmatch(value):
        return "'" + shown
    return shown


def to_csv(model: dict[str, Any]) -> str:
    """One row a host; of trials one a host and test, of a rollout one a batch and host. RFC 4180."""
    rows: Iterable[Any]
    if model["rollout"]:
        columns, rows = ROLLOUT_COLUMNS, rollouts.hosts_of(model["rollout"])
    elif model["kind"] == "trial":
        columns, rows = TRIAL_COLUMNS, trials.rows(model["hosts"])
    else:
        columns, rows = COLUMNS, model["hosts"]
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
    writer.writerow([name for name, _get in columns])
    writer.writerows([cell(get(row)) for _name, get in columns] for row in rows)
    return stream.getvalue()
