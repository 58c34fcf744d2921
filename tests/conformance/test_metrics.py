# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics: which fields, which names, which arithmetic."""

import json
import re

import pytest

import normal
import subject
from subject import few, get, recorded as recorded_in

NO_WEB = "webserver:\n  enabled: false\n"


@recorded_in("metrics")
def test_fields_of_a_snapshot(falco, recorded, web):
    block = re.sub("interval: .*", "interval: " + falco.interval, recorded["metrics"]).replace("output_rule: true", "output_rule: false")
    falco.config(web + block)
    with falco.live() as live:
        live.wait_for(lambda: len(falco.samples()) >= 4, "samples")
    samples = falco.samples()
    first = samples[0]["sample"]
    assert first in (recorded["first_sample"], 1), "1 where the interval was shorter than the opening of the capture"
    assert [sample["sample"] for sample in samples] == list(range(first, first + len(samples)))
    found = {normal.json_field(key) for key in samples[-1]["output_fields"]} - {None}
    if recorded["empty"]:
        assert found == set(recorded["fields"])
    else:
        # Without empty values there are fewer fields, and which ones is a matter of chance.
        assert found >= {name for name in recorded["fields"]
                         if name.startswith("evt.") or name in ("scap.n_evts", "scap.n_drops", "scap.n_drops_perc", "falco.num_evts")}
        empty = [key for key, value in samples[-1]["output_fields"].items() if key.startswith("scap.n_drops_buffer") and not value]
        assert not empty


def test_fields_that_came_and_went(falco):
    falco.config(NO_WEB + falco.metrics("output_file: {dir}/metrics.jsonl", "include_empty_values: true"))
    with falco.live() as live:
        live.wait_for(lambda: len(falco.samples()) >= 3, "samples")
    found = set(falco.samples()[-1]["output_fields"])
    assert found >= {"evt.time", "evt.source", "falco.version", "falco.start_ts", "falco.num_evts", "falco.cpu_usage_perc",
                     "falco.outputs_queue_num_drops", "scap.engine_name", "scap.n_evts", "scap.n_drops", "scap.n_drops_perc",
                     "scap.n_drops_buffer_total", "scap.n_drops_buffer_open_exit", "scap.n_drops_buffer_open_enter"}
    for name, there in (
            ("falco.hostname", not falco.since(38)),
            ("evt.hostname", falco.since(38)),
            ("falco.memory_rss", not falco.since(38)),
            ("falco.memory_rss_mb", falco.since(38)),
            ("falco.n_fds", falco.since(37)),
            ("falco.rules.matches_total", falco.since(38)),
            ("falco.n_containers", falco.since(37) and not falco.since(41)),
            ("falco.reload_ts", falco.since(41)),
            ("scap.n_drops_buffer_execve_enter", not falco.since(42)),
            ("scap.n_evts_cpu_0", falco.since(39)),
            ("scap.n_evts_task", falco.since(44))):
        assert (name in found) == there, name


@few()
def test_rates_and_counters_fit_together(falco):
    falco.config(NO_WEB)
    with falco.live() as live:
        live.wait_for(lambda: len(falco.samples()) >= 5, "samples")
    fields = [sample["output_fields"] for sample in falco.samples()]
    assert "falco.evts_rate_sec" not in fields[0]
    for older, newer in zip(fields, fields[1:]):
        assert newer["scap.n_evts_prev"] == older["scap.n_evts"]
        assert newer["falco.num_evts"] >= older["falco.num_evts"] == newer["falco.num_evts_prev"]
        assert newer["falco.start_ts"] == older["falco.start_ts"]
        seconds = (newer["evt.time"] - older["evt.time"]) / 1e9
        rate = (newer["scap.n_evts"] - older["scap.n_evts"]) / seconds
        assert newer["scap.evts_rate_sec"] == pytest.approx(rate, abs=0.06, rel=0.05)


@few()
def test_cpu_use_is_that_of_the_whole_life(falco):
    """Starting costs more than an idle capture does, so what is shown falls: 95, 53, 30, 21 % in a recording."""
    falco.config(NO_WEB)
    with falco.live() as live:
        live.wait_for(lambda: len(falco.samples()) >= 5, "samples")
    shown = [sample["output_fields"]["falco.cpu_usage_perc"] for sample in falco.samples()]
    assert shown == sorted(shown, reverse=True) and shown[-1] < shown[0]


@recorded_in("prometheus")
def test_prometheus_names(falco, web, port):
    falco.config(web + falco.metrics("output_rule: true", "output_file: {dir}/metrics.jsonl"))
    with falco.live() as live:
        live.wait_open()
        status, headers, body = get(port, "/metrics")
    known = subject.load(falco.release, "prometheus")
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4")
    assert {normal.prometheus_family(line) for line in body.splitlines()} - {None} == set(known["samples"])
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)", body, re.M))
    assert {name: types.get(name) for name in known["types"]} == known["types"]


@few("0.39.2")
def test_prometheus_counts_events(falco, web, port):
    if not falco.since(38):
        pytest.skip("has no /metrics")
    name = "falcosecurity_%s_n_evts_total" % ("scap" if falco.since(39) else "falco")
    falco.config(web)
    with falco.live() as live:
        live.wait_open()

        def count():
            return sum(float(line.rpartition(" ")[2]) for line in get(port, "/metrics")[2].splitlines() if re.match(name + "[{ ]", line))
        first = live.wait_for(count, "events")
        live.wait_for(lambda: count() > first, "more events")


@few()
def test_a_snapshot_as_an_alert(falco):
    falco.config(NO_WEB + "priority: warning\njson_output: true\n" + falco.metrics("output_rule: true"), rules="nineteen_rules.yaml")
    with falco.live() as live:
        live.wait_for(lambda: live.out.count("\n") >= 2, "alerts")
        alert = json.loads(live.out.splitlines()[0])
    assert alert["output_fields"]["falco.version"] == falco.release
    assert (alert["rule"], alert["output"]) == ("Falco internal: metrics snapshot", "Falco metrics snapshot")
    assert (alert["source"], alert["priority"]) == ("internal", "Informational")


@few()
def test_a_snapshot_as_text(falco):
    falco.config(NO_WEB + falco.metrics("output_rule: true"))
    with falco.live() as live:
        live.wait_for(lambda: live.out.count("\n") >= 2, "alerts")
        line = live.out.splitlines()[0]
    assert re.match(r'\d\d:\d\d:\d\d\.\d{9}: Informational Falco metrics snapshot \(evt\.hostname="\S+" evt\.source="syscall" ', line)
    assert line.endswith(")")


DROPS = ("json_output: true\n"
         "syscall_event_drops:\n  threshold: .1\n  actions: [%s]\n  rate: .03333\n  max_burst: 1\n  simulate_drops: true\n")


@few()
def test_a_drop_alert(falco):
    falco.config(NO_WEB + DROPS % "log, alert")
    with falco.live() as live:
        live.wait_for(lambda: live.err.count("Simulating syscall event drop") >= 2 and live.out.count("\n") >= 1, "alert")
        live.term()
        assert live.wait_end() == 0
        text = re.search(r"event drop detected: (\d+) occurrences\s+- num times actions taken: (\d+)", live.err)
    assert int(text.group(1)) >= 2
    assert int(text.group(2)) == 1, "the token bucket lets one through"
    alert = json.loads(live.out.splitlines()[0])
    assert (alert["rule"], alert["source"], alert["priority"]) == ("Falco internal: syscall event drop", "internal", "Debug")
    assert re.match(r"Falco internal: syscall event drop\. \d+ system calls dropped in last second\.$", alert["output"])
    assert all(isinstance(value, str) for value in alert["output_fields"].values())
    found = set(alert["output_fields"])
    assert found >= {"ebpf_enabled", "n_drops", "n_evts", "n_drops_buffer_total", "n_drops_buffer_open_exit", "n_drops_scratch_map"}
    assert ("n_drops_buffer_open_enter" in found) == (not falco.since(42))


@few()
def test_drops_can_end_it(falco):
    falco.config(NO_WEB + DROPS % "exit")
    with falco.live() as live:
        assert live.wait_end() == 1
        assert "Error: Drop manager internal error" in live.err
