# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting, stopping and reloading a running Falco."""

import os
import time

import pytest

import conftest
from conftest import get, uses

WITH_FRAGMENTS = "config_files:\n  - {dir}/config.d\n"
FRAGMENT = "base_syscalls:\n  custom_set: []\n  repair: %s\n"


def _reload_config(falco, more=""):
    os.makedirs(falco.path("config.d"), exist_ok=True)
    falco.config(WITH_FRAGMENTS + "webserver:\n  enabled: false\n" + more)
    falco.write({"config.d/99-tuning.yaml": FRAGMENT % "false"})


@uses("reloads")
def test_healthz_answers_before_capture_and_metrics_do_not(falco, web, port):
    if not falco.since(41, 1):
        pytest.skip("an early scrape kills this release")
    falco.config(web + "metrics:\n  enabled: true\n  interval: 1s\n  output_rule: true\n")
    with falco.live() as live:
        live.wait_for(lambda: get(port, "/healthz")[0] == 200, what="healthz")
        assert get(port, "/metrics")[0] == 404
        live.wait_for(lambda: get(port, "/metrics")[0] == 200, what="metrics")
        status, headers, body = get(port, "/healthz")
        assert (status, body, headers["Content-Type"]) == (200, '{"status": "ok"}', "application/json")
        assert get(port, "/")[0] == 404
        live.term()
        assert live.wait_end() == 0


@uses("reloads")
def test_a_scrape_before_capture_kills_old_releases(falco, web, port):
    if falco.since(41, 1):
        pytest.skip("answers 404")
    falco.config(web + "metrics:\n  enabled: true\n  interval: 1s\n  output_rule: true\n")
    with falco.live() as live:
        live.wait_for(lambda: get(port, "/healthz")[0] == 200, what="healthz")
        assert get(port, "/metrics")[0] in (-1, 0)
        assert live.wait_end() == -11


@uses("reloads")
def test_versions_are_served(falco, web, port):
    falco.config(web)
    with falco.live() as live:
        live.wait_for(lambda: get(port, "/versions")[0] == 200, what="versions")
        wanted = conftest.load(falco.release, "versions")["json"]
        import json
        found = json.loads(get(port, "/versions")[2])
        assert {key: found.get(key) for key in wanted} == wanted


@uses("reloads")
def test_no_metrics_page_unless_both_switches_are_on(falco, web, port):
    falco.config(web)
    with falco.live() as live:
        live.wait_open()
        assert get(port, "/metrics")[0] == 404


def test_a_port_in_use_ends_it(falco, web, port):
    import socket
    if not falco.since(37):
        pytest.skip("no listen_address")
    falco.config(web)
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen(1)
        with falco.live() as live:
            assert live.wait_end() == 1
            assert "Runtime error: an error occurred while starting webserver. Exiting." in live.text("stderr")


def test_sigterm_ends_cleanly(falco):
    falco.config("webserver:\n  enabled: false\n")
    with falco.live() as live:
        live.wait_open()
        live.term()
        assert live.wait_end() == 0
        assert "SIGINT received, exiting..." in live.text("stderr")
        assert live.text("stdout").endswith("Events detected: 0\nRule counts by severity:\nTriggered rules by rule name:\n")


@uses("errors")
def test_an_engine_block_without_kind_ends_a_running_falco(falco):
    if not conftest.SIMULATED and os.path.exists("/dev/falco0"):
        pytest.skip("the kernel module is loaded here")
    _reload_config(falco)
    with falco.live() as live:
        live.wait_open()
        falco.rename_in("config.d/50-eng.yaml", "engine:\n  modern_ebpf:\n    buf_size_preset: 6\n")
        assert live.wait_end() == 1
        assert "Opening 'syscall' source with Kernel module" in live.text("stderr")
        assert "Error: error opening device /dev/falco0." in live.text("stderr")


def _steps(falco, live):
    """What is done in each recorded step."""
    main = open(falco.path("falco.yaml"), encoding="utf-8").read()

    def preset(number):
        return main + "engine:\n  kind: modern_ebpf\n  modern_ebpf:\n    buf_size_preset: %d\n" % number

    def rename_within():
        falco.write({"config.d/tmp": FRAGMENT % "false"})
        os.rename(falco.path("config.d/tmp"), falco.path("config.d/99-tuning.yaml"))

    def touch(name):
        with open(falco.path(name), "a", encoding="utf-8"):
            pass
        os.utime(falco.path(name))

    main = main.replace("engine:\n  kind: modern_ebpf\n", "")
    return {
        "falco.yaml rewritten in place": lambda: falco.write({"falco.yaml": preset(5)}),
        "falco.yaml replaced by rename": lambda: falco.rename_in("falco.yaml", preset(4)),
        "falco.yaml replaced by rename a second time": lambda: falco.rename_in("falco.yaml", preset(5)),
        "config.d/99-tuning.yaml rewritten in place": lambda: falco.write({"config.d/99-tuning.yaml": FRAGMENT % "true"}),
        "config.d/99-tuning.yaml replaced by rename from outside config.d":
            lambda: falco.rename_in("config.d/99-tuning.yaml", FRAGMENT % "true"),
        "config.d/99-tuning.yaml replaced by rename from a temporary file within config.d": rename_within,
        "new file config.d/98-new.yaml written in place":
            lambda: falco.write({"config.d/98-new.yaml": "falco_libs:\n  thread_table_size: 262144\n"}),
        "config.d/98-new.yaml removed": lambda: os.remove(falco.path("config.d/98-new.yaml")),
        "touch falco.yaml": lambda: touch("falco.yaml"),
        "touch config.d/99-tuning.yaml": lambda: touch("config.d/99-tuning.yaml"),
        "rules file rewritten in place": lambda: falco.write({"dummy_rules.yaml": conftest.DUMMY + "\n"}),
        "SIGHUP": lambda: live.process.send_signal(1),
        "invalid YAML placed by rename in config.d": lambda: falco.rename_in("config.d/99-tuning.yaml", "base_syscalls: ["),
        "SIGHUP while config.d is broken": lambda: live.process.send_signal(1),
        "valid again": lambda: falco.rename_in("config.d/99-tuning.yaml", FRAGMENT % "true"),
        "buf_size_preset 0 written to falco.yaml in place": lambda: falco.write({"falco.yaml": preset(0)}),
        "valid falco.yaml again": lambda: falco.write({"falco.yaml": preset(4)}),
        "misspelt syscall placed by rename in config.d":
            lambda: falco.rename_in("config.d/99-tuning.yaml", "base_syscalls:\n  custom_set: [opennat, execve]\n"),
    }


@uses("reloads")
def test_hot_reload_happens_when_recorded(falco):
    falco.profile["reload_seconds"] = 0.5
    _reload_config(falco, "json_output: true\n")
    recorded = {step["what"]: step for step in conftest.load(falco.release, "reloads")}
    with falco.live() as live:
        live.wait_open()
        for what, action in _steps(falco, live).items():
            if not recorded[what]["alive"]:
                continue
            before, failures = live.openings(), live.text("stdout").count("hot restart failure")
            action()
            if recorded[what]["reloaded"]:
                live.wait_open(before + 1)
                assert live.openings() == before + 1, what
            else:
                time.sleep(0.8 if conftest.SIMULATED else 1.5)
                assert live.openings() == before, what
                broken = "invalid" in what or "broken" in what or "preset 0" in what
                assert ("hot restart failure" in live.text("stdout")) >= broken
                assert live.text("stdout").count('"rule":"Falco internal: hot restart failure"') == failures // 2 + broken, what
            assert live.process.poll() is None, what
        assert '"priority":"Critical"' in live.text("stdout")
        live.term()
        assert live.wait_end() == 0


@uses("reloads")
def test_reload_restarts_counters_and_keeps_the_start_time(falco):
    import json
    falco.profile["reload_seconds"] = 0.5
    _reload_config(falco, "metrics:\n  enabled: true\n  interval: 300ms\n  output_file: {dir}/metrics.jsonl\n")

    def samples():
        if not os.path.exists(falco.path("metrics.jsonl")):
            return []
        with open(falco.path("metrics.jsonl"), encoding="utf-8") as stream:
            return [json.loads(line) for line in stream if line.endswith("\n")]

    with falco.live() as live:
        live.wait_for(lambda: len(samples()) >= 4, what="samples")
        before = samples()
        falco.rename_in("config.d/99-tuning.yaml", FRAGMENT % "true")
        live.wait_open(2)
        live.wait_for(lambda: len(samples()) >= len(before) + 2 and samples()[-1]["sample"] < before[-1]["sample"] + 1,
                      what="new samples")
        first = next(sample for sample in samples()[len(before):] if sample["sample"] <= 1)
        old, new = before[-1]["output_fields"], first["output_fields"]
        assert old["falco.start_ts"] == new["falco.start_ts"]
        assert new["falco.num_evts"] < old["falco.num_evts"]
        assert ("falco.reload_ts" in new) == falco.since(41)
        if falco.since(41):
            assert new["falco.reload_ts"] > old["falco.reload_ts"]


def _term_after_reload(falco, gap):
    """Renames a fragment in and sends SIGTERM after `gap` s: ("exit", code) or ("ignored", code of a second SIGTERM)."""
    _reload_config(falco)
    with falco.live() as live:
        live.wait_open()
        falco.rename_in("config.d/99-tuning.yaml", FRAGMENT % "true")
        time.sleep(gap)
        live.term()
        try:
            return "exit", live.wait_end(6)
        except Exception:
            live.term()
            return "ignored", live.wait_end(10)


@pytest.mark.parametrize("gap,outcome", [(0.0, ("exit", 0)), (0.37, ("ignored", 0)), (0.6, ("exit", -15)), (2.2, ("exit", 0))])
@uses("reloads")
def test_sigterm_during_a_reload(falco, gap, outcome):
    if falco.release != "0.44.1":
        pytest.skip("recorded on 0.44.1")
    falco.profile["reload_seconds"] = 2.0
    # The windows are narrow: a busy machine gets more than one try.
    assert outcome in [_term_after_reload(falco, gap) for _ in range(1 if conftest.SIMULATED else 3)]


def test_nothing_watched_means_no_sighup_on_newer_releases(falco):
    falco.profile["reload_seconds"] = 0.4
    falco.config("watch_config_files: false\nwebserver:\n  enabled: false\n")
    with falco.live() as live:
        live.wait_open()
        live.process.send_signal(1)
        time.sleep(0.8 if conftest.SIMULATED else 1.5)
        assert live.process.poll() is None
        assert live.openings() == (1 if falco.since(42) else 2)


def test_rename_over_falco_yaml_is_seen_since_0_37(falco):
    falco.profile["reload_seconds"] = 0.4
    falco.config("webserver:\n  enabled: false\n")
    text = open(falco.path("falco.yaml"), encoding="utf-8").read()
    with falco.live() as live:
        live.wait_open()
        falco.rename_in("falco.yaml", text + "\n")
        time.sleep(0.8 if conftest.SIMULATED else 1.5)
        assert live.openings() == (2 if falco.since(37) else 1)
