# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hot reload: what sets it off, what it resets, and what becomes of a SIGTERM meanwhile."""

import json
import os
import signal

import pytest

import subject
from subject import few, get, recorded as recorded_in

FRAGMENT = "base_syscalls:\n  custom_set: []\n  repair: %s\n"


@pytest.fixture
def fragments(falco):
    """A configuration with one fragment; returns the function that writes it."""
    def write(more="", web="webserver:\n  enabled: false\n"):
        falco.config("config_files:\n  - {dir}/config.d\n" + web + more)
        falco.write({"config.d/99-tuning.yaml": FRAGMENT % "false"})
    falco.profile["reload_seconds"] = 0.3
    write()
    return write


def _steps(falco, live):
    """What is done in each recorded step."""
    rest = falco.read("falco.yaml").replace("engine:\n  kind: modern_ebpf\n", "")

    def preset(number):
        return rest + "engine:\n  kind: modern_ebpf\n  modern_ebpf:\n    buf_size_preset: %d\n" % number

    def rename_within():
        falco.write({"config.d/tmp": FRAGMENT % "false"})
        os.rename(falco.path("config.d/tmp"), falco.path("config.d/99-tuning.yaml"))

    def touch(name):
        with open(falco.path(name), "a", encoding="utf-8"):
            pass
        os.utime(falco.path(name))

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
        "rules file rewritten in place": lambda: falco.write({"dummy_rules.yaml": subject.DUMMY + "\n"}),
        "SIGHUP": lambda: live.signal(signal.SIGHUP),
        "invalid YAML placed by rename in config.d": lambda: falco.rename_in("config.d/99-tuning.yaml", "base_syscalls: ["),
        "SIGHUP while config.d is broken": lambda: live.signal(signal.SIGHUP),
        "valid again": lambda: falco.rename_in("config.d/99-tuning.yaml", FRAGMENT % "true"),
        "buf_size_preset 0 written to falco.yaml in place": lambda: falco.write({"falco.yaml": preset(0)}),
        "valid falco.yaml again": lambda: falco.write({"falco.yaml": preset(4)}),
        "misspelt syscall placed by rename in config.d":
            lambda: falco.rename_in("config.d/99-tuning.yaml", "base_syscalls:\n  custom_set: [opennat, execve]\n"),
    }


# Recorded as no reload because the dry run that Falco makes of itself failed.
_BROKEN = ("invalid YAML placed by rename in config.d", "SIGHUP while config.d is broken",
           "buf_size_preset 0 written to falco.yaml in place")


def _failures(live):
    return [alert for alert in live.out.splitlines() if '"rule":"Falco internal: hot restart failure"' in alert]


@recorded_in("reloads")
def test_reloads_happen_when_recorded(falco, fragments):
    fragments("json_output: true\n")
    known = {step["what"]: step for step in subject.load(falco.release, "reloads")}
    opened = 1
    with falco.live() as live:
        live.wait_open()
        for what, action in _steps(falco, live).items():
            assert known[what]["alive"]
            failures = len(_failures(live))
            action()
            if known[what]["reloaded"]:
                opened += 1
                live.wait_open(opened)
                assert live.openings() == opened, what
            elif what in _BROKEN:
                live.wait_for(lambda: len(_failures(live)) > failures, "alert after " + what)  # noqa: B023 (called at once)
                assert live.stays(opened), what
            else:
                assert live.stays(opened), what
                assert len(_failures(live)) == failures, what
        live.term()
        assert live.wait_end() == 0
    alert = json.loads(_failures(live)[0])
    assert (alert["priority"], alert["source"]) == ("Critical", "internal")
    assert alert["output"].startswith("Falco internal: hot restart failure: ")


@few()
def test_an_engine_block_without_kind_ends_a_running_falco(falco, fragments):
    if falco.kernel_module:
        pytest.skip("the kernel module is loaded here")
    with falco.live() as live:
        live.wait_open()
        falco.rename_in("config.d/50-eng.yaml", "engine:\n  modern_ebpf:\n    buf_size_preset: 6\n")
        assert live.wait_end() == 1
        assert "Opening 'syscall' source with Kernel module" in live.err
        assert "Error: error opening device /dev/falco0." in live.err


@few("0.36.2", "0.41.3")
def test_counters_start_again_and_the_start_time_stays(falco):
    falco.profile["reload_seconds"] = 0.5
    falco.config("webserver:\n  enabled: false\n")
    with falco.live() as live:
        live.wait_for(lambda: len(falco.samples()) >= 4, "samples")
        live.signal(signal.SIGHUP)
        live.wait_open(2)
        samples = falco.samples()
    numbers = [sample["sample"] for sample in samples]
    again = next(index for index in range(1, len(numbers)) if numbers[index] <= numbers[index - 1])
    assert numbers[again] in (0, 1)
    old, new = samples[again - 1]["output_fields"], samples[again]["output_fields"]
    assert new["falco.start_ts"] == old["falco.start_ts"]
    assert new["falco.num_evts"] < old["falco.num_evts"]
    assert ("falco.reload_ts" in new) == falco.since(41)
    if falco.since(41):
        assert new["falco.reload_ts"] > old["falco.reload_ts"]


def _reloading(falco, line):
    """Running Falcos, one after the other, that have just begun a reload and logged this line. Such moments are short."""
    for _ in range(5):
        with falco.live("-o", "log_level=debug") as live:
            live.wait_open()
            falco.rename_in("config.d/99-tuning.yaml", FRAGMENT % "true")
            live.wait_for(lambda: line in "".join(live.err.partition("SIGHUP received")[1:]), line, every=0.002)  # noqa: B023
            yield live


@few()
def test_sigterm_while_the_old_capture_closes_is_lost(falco, fragments):
    """A restart that follows a write too soon: the write's own reload swallows the signal."""
    falco.profile["reload_seconds"] = 2.0
    for live in _reloading(falco, "SIGHUP received"):
        live.term()
        live.wait_for(lambda: live.ended or live.openings() == 2, "new capture or end")  # noqa: B023 (called at once)
        if not live.ended:
            live.wait_open(2)
            assert live.stays(2)
            live.term()
            assert live.wait_end() == 0
            return
    raise AssertionError("SIGTERM ended it each time")


@few()
def test_sigterm_between_two_captures_kills_at_once(falco, fragments):
    """No handler is set then."""
    falco.profile["reload_seconds"] = 2.0
    for live in _reloading(falco, "closing inspectors"):
        live.term()
        live.wait_for(lambda: live.ended or live.openings() == 2, "new capture or end")  # noqa: B023 (called at once)
        if live.process.poll() == -signal.SIGTERM:
            return
    raise AssertionError("SIGTERM never killed it")


@few()
def test_sigterm_before_a_reload_begins_ends_cleanly(falco, fragments):
    with falco.live() as live:
        live.wait_open()
        falco.rename_in("config.d/99-tuning.yaml", FRAGMENT % "true")
        live.term()
        assert live.wait_end() == 0


@few()
def test_sigterm_while_the_new_capture_opens_ends_cleanly(falco, fragments):
    falco.profile["reload_seconds"] = 1.0
    with falco.live() as live:
        live.wait_open()
        falco.rename_in("config.d/99-tuning.yaml", FRAGMENT % "true")
        live.wait_opening(2)
        live.term()
        assert live.wait_end() == 0


@few("0.36.2", "0.41.3", "0.42.1")
def test_sighup_without_anything_to_watch(falco):
    falco.profile["reload_seconds"] = 0.5
    falco.config("watch_config_files: false\nwebserver:\n  enabled: false\n")
    with falco.live() as live:
        live.wait_open()
        live.signal(signal.SIGHUP)
        if falco.since(42):
            assert live.stays()
        else:
            live.wait_open(2)


@few()
def test_an_edit_is_not_seen_when_nothing_is_watched(falco):
    falco.profile["reload_seconds"] = 0.5
    falco.config("watch_config_files: false\nwebserver:\n  enabled: false\n")
    with falco.live() as live:
        live.wait_open()
        falco.write({"falco.yaml": falco.read("falco.yaml") + "\n"})
        assert live.stays()


@few("0.36.2", "0.37.1")
def test_falco_yaml_replaced_by_rename(falco):
    falco.profile["reload_seconds"] = 0.5
    falco.config("webserver:\n  enabled: false\n")
    with falco.live() as live:
        live.wait_open()
        falco.rename_in("falco.yaml", falco.read("falco.yaml") + "\n")
        if falco.since(37):
            live.wait_open(2)
        else:
            assert live.stays()
            falco.write({"falco.yaml": falco.read("falco.yaml") + "\n"})
            assert live.stays(), "the watch was on the file that is gone"


@few()
def test_a_scrape_during_a_reload(falco, fragments, web, port):
    fragments(web=web)
    falco.profile["reload_seconds"] = 1.5
    with falco.live() as live:
        live.wait_open()
        live.signal(signal.SIGHUP)
        live.wait_opening(2)
        status = live.wait_for(lambda: get(port, "/metrics")[0] or live.ended, "answer")
        if falco.since(41, 1):
            assert status == 404
            live.wait_for(lambda: get(port, "/metrics")[0] == 200, "/metrics")
        else:
            assert live.wait_end() == -11
