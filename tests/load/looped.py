# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory host with a real Falco under a load, tuned by the playbook, and what came of each step."""

from __future__ import annotations

import contextlib
import json
import os
import re
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import snapshots
from hosts import Fleet
from playbooks import TUNE, Run, play
from watched import Load, configuration, loaded, rules

METRICS = "var/log/falco/metrics.jsonl"
AUTOGROUP = Path("/proc/sys/kernel/sched_autogroup_enabled")
# Seconds: how long a host is observed, and the longest that one load may last.
OBSERVED, LONGEST = 20, 600
POLICY = {"falco_tune_min_healthy_time": 1, "falco_tune_healthy_deadline": 90, "falco_tune_metrics_interval": "10s",
          "falco_tune_min_observation": OBSERVED, "falco_tune_window": "30s", "falco_tune_rounds": 4,
          "falco_tune_canaries": 0, "falco_tune_serial": "100%"}


class Seen(NamedTuple):
    """What a Falco counted lately under its load."""

    lost: float  # percent
    rate: float  # events a second


class Step(NamedTuple):
    """A step that the host's record holds. predicted, lost: percent after it; None where that is not known."""

    name: str
    text: str
    predicted: float | None
    lost: float | None


class Row(NamedTuple):
    load: str
    before: float
    verdicts: list[str]
    steps: list[Step]
    restarts: int
    blind: float
    after: float


def weighed() -> bool:
    """Whether what runs here is in a cgroup with a CPU weight, where autogroup has no effect (sched(7))."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _number, controllers, path = line.split(":", 2)
        if "cpu" in controllers.split(","):
            return path != "/"
    control = Path("/sys/fs/cgroup/cgroup.subtree_control")
    return control.exists() and "cpu" in control.read_text().split() and path != "/"


@contextlib.contextmanager
def autogroup(on: bool):
    """With the kernel sharing the CPUs out by sessions, or by nice values alone. Skips where it cannot be had."""
    if on and weighed():
        pytest.skip("the cgroup of this shell has a CPU weight, so autogroup has no effect in it")
    there = AUTOGROUP.read_text() if AUTOGROUP.exists() else "0"
    if there.strip() == str(int(on)):
        yield
        return
    try:
        AUTOGROUP.write_text("%d\n" % on)
    except OSError as error:
        pytest.skip("autogroup cannot be switched here: %s" % error)
    try:
        yield
    finally:
        AUTOGROUP.write_text(there)


@contextlib.contextmanager
def prompt():
    """The controller is a machine of its own: what runs here meanwhile does not starve it."""
    was, group = os.getpriority(os.PRIO_PROCESS, 0), Path("/proc/self/autogroup")
    os.setpriority(os.PRIO_PROCESS, 0, -15)
    shared = group.read_text().split()[-1] if group.exists() else None
    if shared:
        group.write_text("-15\n")
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, was)
        if shared:
            group.write_text(shared + "\n")


class Looped:
    """One host under its load."""

    def __init__(self, fleet: Fleet, load: Load) -> None:
        self.fleet, self.load, self.host, self.runs = fleet, load, fleet.hosts[0], []
        self.starts = self._starts()

    def _starts(self) -> int:
        return (self.host.root / "var/log/syslog").read_text().count("Started %s.service" % self.host.unit)

    @property
    def restarts(self) -> int:
        return self._starts() - self.starts

    def tune(self, **policy: Any) -> Run:
        with prompt() if self.load.sessions is False else contextlib.nullcontext():
            run = play(TUNE, self.fleet.inventory, "-e", json.dumps(policy))
        assert run.failures == {}, run.output
        self.runs.append(run)
        print(run.output)
        return run

    def record(self) -> dict[str, Any]:
        path = self.host.root / "var/lib/falcotune/record.json"
        return json.loads(path.read_text()) if path.exists() else {"attempts": []}

    def seen(self, seconds: float = OBSERVED) -> Seen:
        """The last seconds of the Falco that runs, once its metrics cover them."""
        deadline = time.monotonic() + seconds + 40
        while True:
            since = int(self.host.systemctl("show", "-P", "ActiveEnterTimestampMonotonic", self.host.unit).stdout or 0) / 1e6
            pair = snapshots.gather({"metrics_file": str(self.host.root / METRICS)}, ("metrics_file",), {
                "min_seconds": seconds, "since": time.time() - time.clock_gettime(time.CLOCK_MONOTONIC) + since - 1})
            if pair.get("seconds", 0) >= seconds:
                events, drops = (pair["last"][name] - pair["first"][name] for name in ("scap.n_evts", "scap.n_drops"))
                return Seen(100.0 * drops / events, events / pair["seconds"])
            assert time.monotonic() < deadline, pair
            time.sleep(1)

    def rings(self) -> tuple[int, str]:
        """(bytes of each ring, where that was read) by the last proof."""
        proofs = [event["result"]["evidence"] for run in self.runs for event in run.of(self.host.name) if event["result"].get("evidence")]
        found = [proof["buffers"] for proof in proofs if proof.get("buffers")][-1]
        return found["bytes_each"], found["source"]

    def plans(self) -> list[dict[str, Any]]:
        """The plans of all runs and rounds, in order."""
        found = (event["result"].get("ansible_facts") or {} for run in self.runs for event in run.of(self.host.name))
        return [facts["falco_plan"] for facts in found if "falco_plan" in facts]

    def ended(self, rows: list[Row], name: str, before: float, after: Seen) -> Row:
        """The row of this host, which is a row of the table as well."""
        verdicts = [said(plan["verdict"]) for plan in self.plans() if plan["verdict"]]
        told = [text for place, text in enumerate(verdicts) if not place or verdicts[place - 1] != text]
        blind = sum(run.result_of(self.host.name)["blind_seconds"] or 0.0 for run in self.runs if run.changed)
        rows.append(Row(name, before, told, list(self.steps(after.lost)), self.restarts, blind, after.lost))
        print(rows[-1])
        return rows[-1]

    def steps(self, after: float):
        """The steps of the host's record, each with what was lost when the host was looked at next."""
        plans = self.plans()
        told = [place for place, plan in enumerate(plans) if plan["step"]]
        attempts = self.record()["attempts"]
        assert [plans[place]["step"]["name"] for place in told] == [item["step"] for item in attempts]
        for place, item in zip(told, attempts, strict=True):
            later = (plan["verdict"]["drops_percent"] for plan in plans[place + 1:] if plan["verdict"])
            parts = " + ".join(" ".join([part["step"], *("%s %s" % pair for pair in sorted(part["to"].items()))])
                               for part in [item, *item.get("also", [])])
            yield Step(item["step"], parts, item.get("predicted"),
                       next((lost for lost in later if lost is not None), after))


def said(verdict: dict[str, Any]) -> str:
    return " ".join([verdict["state"], *{verdict["bottleneck"]: None, **dict.fromkeys(verdict["also"])}]).replace(" none", "")


def metrics(interval: str | None) -> dict[str, Any]:
    if not interval:
        return {}
    return {"metrics": {**configuration(Path(), 4)["metrics"], "interval": interval, "libbpf_stats_enabled": True,
                        "output_file": "{root}/" + METRICS}}


@contextlib.contextmanager
def looped(binary: str, folder: Path, load: Load, measured: str | None, **policy: Any):
    """measured: the interval at which metrics are on from the start; None: they are off. policy: instead of POLICY's."""
    engine = {"kind": "modern_ebpf", "modern_ebpf": {"buf_size_preset": load.preset, "cpus_for_each_buffer": 2}}
    fleet = Fleet(folder / "hosts")
    try:
        fleet.start({"defaults": {"cpus": os.cpu_count(), "memory": "16G", "binary": binary, "restart_seconds": 3,
                                  "cgroup_cpu": False, "hostvars": {**POLICY, **policy}},
                     "hosts": {"real": {"config": {"engine": engine, **metrics(measured)},
                                        "files": {"etc/falco/falco_rules.local.yaml": rules(load.heavy)}}}})
        if load.workers > (os.cpu_count() or 1):
            time.sleep(6)  # it opens its driver before the load can starve it
        with loaded(load, LONGEST):
            yield Looped(fleet, load)
    finally:
        fleet.stop()


# --- The table


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def table(rows: list[Row]) -> str:
    head = ("load", "lost before", "verdicts", "steps (predicted -> lost)", "restarts", "blind s", "lost after")
    lines = [head, *(
        (row.load, "%.3g %%" % row.before, " -> ".join(row.verdicts),
         "; ".join("%s (%s -> %s)" % (re.sub(r"[\[\]'{}]", "", step.text)[:60], _percent(step.predicted), _percent(step.lost))
                   for step in row.steps) or "none",
         str(row.restarts), "%.1f" % row.blind, "%.3g %%" % row.after) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    errors = [abs(step.lost - step.predicted) for row in rows for step in row.steps
              if step.predicted is not None and step.lost is not None]
    if errors:
        text.append("prediction errors of %d steps, percent of the events: median %.3g, p90 %.3g"
                    % (len(errors), statistics.median(errors), percentile(errors, 0.9)))
    return "\n".join(text)


def _percent(number: float | None) -> str:
    return "?" if number is None else "%.3g %%" % number
