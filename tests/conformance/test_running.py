# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From start to end: buffers, the web server, signals."""

import json
import socket

import pytest

import subject
from subject import few, get, recorded as recorded_in

NO_WEB = "webserver:\n  enabled: false\n"


def _buffers(falco, preset, cpus):
    """Configuration of buffers, as this release names it."""
    if falco.since(37):
        return {"extra": NO_WEB, "engine": "engine:\n  kind: modern_ebpf\n  modern_ebpf:\n    buf_size_preset: %s\n"
                                           "    cpus_for_each_buffer: %s\n" % (preset, cpus)}
    return {"extra": NO_WEB + "syscall_buf_size_preset: %s\nmodern_bpf:\n  cpus_for_each_syscall_buffer: %s\n" % (preset, cpus)}


def test_buffers_are_announced(falco):
    falco.config(**_buffers(falco, 5, 1))
    with falco.live() as live:
        live.wait_open()
        lines = falco.normal(live.err)
    assert "The chosen syscall buffer dimension is: 16777216 bytes (16 MBs)" in lines
    assert "Opening 'syscall' source with modern BPF probe." in lines
    assert "One ring buffer every '1' CPUs." in lines


@pytest.mark.parametrize("preset", [1, 4, 10])
def test_a_dry_run_says_how_large_a_buffer_will_be(falco, preset):
    falco.config(**_buffers(falco, preset, 2))
    code, lines = falco.dry_run()
    size = 1 << (19 + preset)
    assert "The chosen syscall buffer dimension is: %d bytes (%d MBs)" % (size, size >> 20) in lines
    assert not [line for line in lines if line.startswith("One ring buffer")]
    assert code == 0


@pytest.mark.parametrize("preset", [0, 11])
def test_a_preset_out_of_range_is_fatal(falco, preset):
    falco.config(**_buffers(falco, preset, 2))
    code, lines = falco.dry_run()
    assert "Error: The 'buf_size_preset' value must be between '1' and '10'" in lines
    assert code == 1


@few()
def test_more_cpus_for_a_buffer_than_there_are(falco):
    falco.config(**_buffers(falco, 4, falco.cpus + 5))
    with falco.live() as live:
        live.wait_open()
        lines = falco.normal(live.err)
    assert ("you required a buffer every '%d' CPUs but there are only '%d' online CPUs. Falco changed the config to: one buffer "
            "every '%d' CPUs" % (falco.cpus + 5, falco.cpus, falco.cpus)) in lines
    assert "One ring buffer every '%d' CPUs." % falco.cpus in lines


@few()
def test_health_is_green_before_anything_is_captured(falco, web, port):
    falco.profile["startup_seconds"] = 1.5
    falco.config(web)
    with falco.live() as live:
        live.wait_for(lambda: get(port, "/healthz")[0] == 200, "/healthz")
        assert not falco.samples()
        live.wait_open()
        status, headers, body = get(port, "/healthz")
    assert (status, body, headers["Content-Type"]) == (200, '{"status": "ok"}', "application/json")


def test_metrics_answer_404_before_capture(falco, web, port):
    if not falco.since(41, 1):
        pytest.skip("an early scrape kills this release")
    falco.profile["startup_seconds"] = 1.5
    falco.config(web)
    with falco.live() as live:
        live.wait_for(lambda: get(port, "/healthz")[0] == 200, "/healthz")
        assert get(port, "/metrics")[0] == 404
        live.wait_for(lambda: get(port, "/metrics")[0] == 200, "/metrics")


def test_an_early_scrape_kills_old_releases(falco, web, port):
    if falco.since(41, 1):
        pytest.skip("answers 404")
    if not falco.since(38):
        pytest.skip("has no /metrics")
    falco.profile["startup_seconds"] = 1.5
    falco.config(web)
    with falco.live() as live:
        live.wait_for(lambda: get(port, "/healthz")[0] == 200, "/healthz")
        assert get(port, "/metrics")[0] in (-1, 0)
        assert live.wait_end() == -11


@few()
@pytest.mark.parametrize("metrics,prometheus", [(True, False), (False, True)])
def test_no_metrics_page_unless_both_switches_are_on(falco, web, port, metrics, prometheus):
    if not prometheus:
        web = web.replace("prometheus_metrics_enabled: true", "prometheus_metrics_enabled: false")
    falco.config(web if metrics else web + "metrics:\n  enabled: false\n")
    with falco.live() as live:
        live.wait_for(lambda: get(port, "/healthz")[0] == 200, "/healthz")
        if metrics:
            live.wait_open()
        assert get(port, "/metrics")[0] == 404


@recorded_in("versions")
def test_versions_are_served(falco, web, port):
    falco.config(web)
    with falco.live() as live:
        live.wait_for(lambda: get(port, "/versions")[0] == 200, "/versions")
        found = json.loads(get(port, "/versions")[2])
        assert get(port, "/")[0] == 404
    known = subject.load(falco.release, "versions")["json"]
    assert {key: found.get(key) for key in known} == known


@few()
def test_a_port_in_use_ends_it(falco, web, port):
    falco.config(web)
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen(1)
        with falco.live() as live:
            assert live.wait_end() == 1
            assert "Runtime error: an error occurred while starting webserver. Exiting." in live.err


def test_a_missing_directory_for_metrics_ends_it(falco):
    falco.config(NO_WEB + falco.metrics("output_file: {dir}/nowhere/metrics.jsonl"))
    with falco.live() as live:
        assert live.wait_end() == 1
        assert not live.openings()


def test_a_driver_that_is_not_there_is_found_out_only_at_the_start(falco):
    if not falco.since(37):
        pytest.skip("the driver is chosen on the command line")
    if falco.kernel_module:
        pytest.skip("the kernel module is loaded here")
    falco.config(NO_WEB, engine="engine:\n  kind: kmod\n")
    assert falco.dry_run()[0] == 0
    assert falco.run("--version", "-c", "{dir}/falco.yaml")[0] == 0
    with falco.live() as live:
        assert live.wait_end() == 1
        assert "Opening 'syscall' source with Kernel module" in live.err
        assert "Error: error opening device /dev/falco0." in live.err


@few()
def test_sigterm_ends_cleanly(falco):
    falco.config(NO_WEB)
    with falco.live() as live:
        live.wait_open()
        live.term()
        assert live.wait_end() == 0
        assert "SIGINT received, exiting..." in live.err
        assert live.out.endswith("Events detected: 0\nRule counts by severity:\nTriggered rules by rule name:\n")


@few()
def test_one_runs_beside_another(falco, tmp_path):
    """As a trial does it: each sees the whole machine, and neither minds when the other comes or goes."""
    other = subject.Falco(falco.release, tmp_path / "other")
    for each in (falco, other):
        each.config(NO_WEB)
    with falco.live() as first:
        first.wait_open()
        with other.live() as second:
            second.wait_open()
            first.wait_open()
            second.term()
            assert second.wait_end() == 0
        assert first.stays()
        before, last = falco.samples()[0]["output_fields"], falco.samples()[-1]["output_fields"]
    beside = other.samples()[-1]["output_fields"]
    assert last["falco.start_ts"] == before["falco.start_ts"] < beside["falco.start_ts"]
    assert last["falco.host_num_cpus"] == beside["falco.host_num_cpus"] == falco.cpus
    assert last["scap.n_evts"] > 0 and beside["scap.n_evts"] > 0


@few("0.36.2")
def test_a_configuration_may_be_json(falco):
    """A trial writes its configuration so: JSON is YAML."""
    falco.write({"falco.yaml": json.dumps({
        falco.rules_key: ["{dir}/dummy_rules.yaml"], "base_syscalls": {"custom_set": ["open", "!close"], "repair": False},
        "load_plugins": [], "stdout_output": {"enabled": True}, "syslog_output": {"enabled": False}, "webserver": {"enabled": False},
        "syscall_event_drops": {"threshold": 1, "actions": ["ignore"], "rate": 0.03333, "max_burst": 1},
        "metrics": {"enabled": True, "interval": "1s", "output_file": "{dir}/metrics.jsonl"}})})
    code, lines = falco.dry_run()
    assert "(4) syscalls selected in total (final set): execve, execveat, open, procexit" in lines
    assert code == 0
