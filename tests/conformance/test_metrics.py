# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics: which fields, which names, which arithmetic."""

import json

import pytest

import normal
from conftest import get, load, uses


def _samples(falco):
    try:
        with open(falco.path("metrics.jsonl"), encoding="utf-8") as stream:
            return [json.loads(line) for line in stream if line.endswith("\n")]
    except OSError:
        return []


@uses("metrics")
def test_fields_of_a_snapshot(falco, recorded, web):
    falco.config(web + recorded["metrics"].replace("interval: 5s", "interval: 300ms").replace("output_rule: true", "output_rule: false"))
    with falco.live() as live:
        live.wait_for(lambda: len(_samples(falco)) >= 4 or live.process.poll() is not None, what="samples")
    samples = _samples(falco)
    assert samples[0]["sample"] == recorded["first_sample"]
    assert [sample["sample"] for sample in samples] == list(range(samples[0]["sample"], samples[0]["sample"] + len(samples)))
    found = {normal.json_field(key) for key in samples[-1]["output_fields"]} - {None}
    if recorded["empty"]:
        # Without plugins and with other file names nothing else may differ.
        assert found == set(recorded["fields"])
    else:
        always = {name for name in recorded["fields"] if name.startswith(("evt.", "scap.n_evts_", "scap.evts"))}
        always -= {name for name in always if name.startswith("scap.n_evts_task")}
        assert always <= found
        dropped = [key for key, value in samples[-1]["output_fields"].items() if key.startswith("scap.n_drops_buffer") and not value]
        assert not dropped


@uses("versions")
def test_rates_and_counters_fit_together(falco):
    falco.config("webserver:\n  enabled: false\nmetrics:\n  enabled: true\n  interval: 300ms\n  output_file: {dir}/metrics.jsonl\n")
    with falco.live() as live:
        live.wait_for(lambda: len(_samples(falco)) >= 5, what="samples")
    fields = [sample["output_fields"] for sample in _samples(falco)]
    assert "falco.evts_rate_sec" not in fields[0]
    for older, newer in zip(fields, fields[1:]):
        assert newer["scap.n_evts_prev"] == older["scap.n_evts"]
        assert newer["falco.num_evts"] >= older["falco.num_evts"] == newer["falco.num_evts_prev"]
        assert newer["scap.n_evts"] >= newer["falco.num_evts"]
        assert newer["falco.start_ts"] == older["falco.start_ts"]
        seconds = (newer["evt.time"] - older["evt.time"]) / 1e9
        rate = (newer["scap.n_evts"] - older["scap.n_evts"]) / seconds
        assert newer["scap.evts_rate_sec"] == pytest.approx(rate, abs=0.06, rel=0.05)


@uses("versions")
def test_prometheus_names(falco, web, port):
    falco.config(web + "metrics:\n  enabled: true\n  interval: 1s\n  output_rule: true\n  include_empty_values: true\n")
    with falco.live() as live:
        live.wait_open()
        status, headers, body = get(port, "/metrics")
    recorded = load(falco.release, "prometheus")
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4"
    assert {normal.prometheus_family(line) for line in body.splitlines()} - {None} == set(recorded["samples"])
    import re
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)", body, re.M))
    assert {name: types.get(name) for name in recorded["types"]} == recorded["types"]


@uses("versions")
def test_a_snapshot_as_an_alert(falco):
    falco.config("webserver:\n  enabled: false\npriority: warning\njson_output: true\n"
                 "metrics:\n  enabled: true\n  interval: 300ms\n  output_rule: true\n", rules="nineteen_rules.yaml")
    with falco.live() as live:
        live.wait_for(lambda: live.text("stdout").count("\n") >= 2, what="alerts")
        alert = json.loads(live.text("stdout").splitlines()[0])
    fields = alert.pop("output_fields")
    assert fields["falco.version"] == falco.release
    assert (alert["rule"], alert["output"]) == ("Falco internal: metrics snapshot", "Falco metrics snapshot")
    assert (alert["source"], alert["priority"]) == ("internal", "Informational")


@uses("versions")
def test_a_snapshot_as_text(falco):
    import re
    falco.config("webserver:\n  enabled: false\nmetrics:\n  enabled: true\n  interval: 300ms\n  output_rule: true\n")
    with falco.live() as live:
        live.wait_for(lambda: live.text("stdout").count("\n") >= 2, what="alerts")
        line = live.text("stdout").splitlines()[0]
    assert re.match(r'\d\d:\d\d:\d\d\.\d{9}: Informational Falco metrics snapshot \(evt\.hostname="\S+" evt\.source="syscall" ', line)
    assert line.endswith(")")
