# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import csv
import json
import os
from pathlib import Path

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies, verdicts
from ansible_collections.falcotune.fleet.tests.unit.hosts import MAIN, ROOT, SHIPPED, Host, measured
from hypothesis import given
from hypothesis import strategies as st

ON = {"metrics": {"enabled": True}}
COOL = {"on": 300.0, "waiting": 20.0, "throttled": None}
STARVED = {"on": 140.0, "waiting": 867.0, "throttled": None}
BUSY = {"on": 970.0, "waiting": 30.0, "throttled": None}
RECORDED = Path(os.environ.get("FALCOTUNE_RECORDINGS", ROOT.parent / "shared" / "recordings")) / "drops" / "cpu_starved.csv"


def judge(host, **given):
    return verdicts.judge(host.facts(), policies.complete(given))


def host(cpu=None, **pair):
    """A Falco of 1000 s whose metrics tell of `pair`."""
    changes = {name: pair.pop(name) for name in ("version", "quota", "running", "files", "options") if name in pair}
    return Host(age=1000.0, cpu=cpu or COOL, pair=measured(**pair), **changes)


@pytest.mark.parametrize("found", [
    Host(restarts=2, age=3.0), Host(restarts=7, age=12.0), Host(restarts=90000, age=0.4),
    Host(restarts=7, age=19.0, pair=measured(events=0)),
    Host(restarts=7, age=3.0, files={MAIN: SHIPPED.replace("enabled: false\n  interval", "enabled: true\n  interval")}),
])
def test_a_falco_that_systemd_restarts_again_and_again_is_blind_in_its_short_lives_too(found):
    result = judge(found)
    assert (result["state"], result["next_step"]) == ("blind", "start")
    assert result["reasons"] == ["Falco keeps exiting: systemd restarted falco-modern-bpf.service %d times, the last time %d s ago"
                                 % (found.restarts, found.age)]
    assert "journalctl -u falco-modern-bpf.service" in result["advice"]


@pytest.mark.parametrize("found", [
    Host(restarts=0, age=3.0),  # by somebody: a change, an upgrade of the package, a person
    Host(restarts=1, age=3.0),  # one failure, and systemd cured it
    Host(restarts=7, age=20.0), Host(restarts=7, age=3600.0), Host(restarts=None, age=3.0), Host(restarts=7, age=None),
    Host(restarts=7, age=19.0, pair=measured(events=900, seconds=15.0))])  # it sees events
def test_a_falco_that_was_restarted_is_not_blind_for_that(found):
    assert judge(found)["state"] == "unmeasured"


def test_a_host_that_loses_nothing_is_healthy():
    found = judge(host(drops=0))
    assert (found["state"], found["bottleneck"], found["next_step"]) == ("healthy", "none", "none")
    assert found["drops_percent"] == 0


@pytest.mark.parametrize("version, rate, guide, tier", [
    ("0.41.3", 999, 999, "low"), ("0.41.3", 1000, 1000, "moderate"), ("0.41.3", 1499, 1499, "moderate"), ("0.41.3", 1500, 1500, "high"),
    ("0.41.3", 3000, 3000, "extreme"), ("0.38.2", 2999, 2999, "high"),
    ("0.42.0", 520, 988, "low"), ("0.44.1", 530, 1007, "moderate"), ("0.44.1", 800, 1520, "high"), ("0.44.1", 1600, 3040, "extreme"),
])
def test_tiers_are_stated_for_the_release(version, rate, guide, tier):
    found = judge(host(version=version, rate_per_cpu=rate))
    assert (found["tier"], found["rate_per_cpu"], found["rate_per_cpu_guide"]) == (tier, rate, guide)
    assert any("since 0.42 enter events are not counted" in reason for reason in found["reasons"]) is (version >= "0.42")


@pytest.mark.parametrize("found, bottleneck, step", [
    (host(STARVED, drops=8000), "starved", "priority"),
    (host(BUSY, drops=8000), "consumer", "syscalls"),
    (host(COOL, drops=8000), "buffer", "buffers"),
    (host({"on": 450.0, "waiting": 10.0, "throttled": 300.0}, drops=8000, quota=50.0), "cpu_quota", "quota"),
    (host({"on": 440.0, "waiting": 10.0, "throttled": None}, drops=8000, quota=50.0), "cpu_quota", "quota"),
    (host({"on": 100.0, "waiting": 10.0, "throttled": 1.0}, drops=8000, quota=50.0), "buffer", "buffers"),  # a quota that does not bind
    (host(COOL, drops=8000, n_drops_page_faults=7000), "kernel", "kernel"),
    (host(COOL, drops=8000, n_drops_scratch_map=7900), "kernel", "kernel"),
    (host(COOL, drops=8000, n_drops_page_faults=100), "buffer", "buffers"),
    (host(STARVED, drops=8000, n_drops_page_faults=7000), "kernel", "kernel"),  # priority does not bring a page back
    (host(COOL, drops=0, outputs=12), "outputs", "outputs"),
    (host(COOL, drops=0, full=3), "thread_table", "thread_table"),
])
def test_the_bottleneck_and_what_helps_against_it(found, bottleneck, step):
    result = judge(found)
    assert (result["state"], result["bottleneck"], result["next_step"]) == ("dropping", bottleneck, step)
    assert result["advice"] and result["reasons"]


@pytest.mark.skipif(not RECORDED.exists(), reason="no recordings here")
def test_the_recorded_starvation_is_told_by_waiting_and_not_by_use():
    with open(RECORDED, encoding="utf-8") as stream:
        rows = list(csv.DictReader(line for line in stream if not line.startswith("#")))
    assert len(rows) == 6
    for row in rows:
        cpu = {"on": 10 * float(row["falco_on_cpu_perc"]), "waiting": 10 * float(row["falco_run_queue_wait_perc"]), "throttled": None}
        result = judge(host(cpu, events=int(row["n_evts"]), drops=int(row["n_drops"])))
        assert (result["bottleneck"] == "starved") is (row["nice"] == "0"), row
        # The same waiting, had the prioritised Falco lost anything, is not called starvation.
        assert (judge(host(cpu, drops=5000))["bottleneck"] == "starved") is (row["nice"] == "0"), row


@pytest.mark.parametrize("text, version, state, step", [
    (SHIPPED, "0.44.1", "dropping", "syscalls"),
    (SHIPPED + "base_syscalls: {repair: true}\n", "0.44.1", "overloaded", "overloaded"),
    (SHIPPED + "base_syscalls: {custom_set: [open]}\n", "0.44.1", "overloaded", "overloaded"),
    (SHIPPED + "base_syscalls: {repair: true}\n", "0.41.3", "dropping", "upgrade"),
    (SHIPPED + "base_syscalls: {repair: true}\n", "0.38.2", "dropping", "upgrade"),
])
def test_a_busy_thread_is_helped_by_fewer_events_until_there_are_no_fewer(text, version, state, step):
    result = judge(host(BUSY, drops=8000, version=version, files={"/etc/falco/falco.yaml": text}))
    assert (result["state"], result["next_step"]) == (state, step)


@pytest.mark.parametrize("drops, given, state, step", [
    (9, {}, "healthy", "none"),  # 0.009 %
    (500, {}, "acceptable", "accept"), (1000, {}, "acceptable", "accept"), (1001, {}, "dropping", "buffers"),
    (1500, {"accepted_drops_percent": 2}, "acceptable", "accept"), (500, {"accepted_drops_percent": 0}, "dropping", "buffers"),
])
def test_a_little_loss_is_acceptable_by_policy(drops, given, state, step):
    result = judge(host(drops=drops, events=100000), **given)
    assert (result["state"], result["next_step"]) == (state, step)


def test_nothing_is_judged_on_less_than_the_minimum_observation():
    short = host(STARVED, drops=8000, seconds=59.0)
    result = judge(short)
    assert (result["state"], result["next_step"], result["bottleneck"]) == ("unmeasured", "observe", "unknown")
    assert "policy requires 60 s" in result["reasons"][-1]
    assert judge(short, min_observation=30)["state"] == "dropping"


def test_unmeasured_says_what_to_switch_on():
    result = judge(Host(pair={"reason": "no source of metrics"}))
    assert (result["state"], result["next_step"]) == ("unmeasured", "measure")
    assert "metrics.enabled: true" in result["advice"] and "no source of metrics" in result["reasons"]
    result = judge(Host(version="0.34.1", pair={"reason": "x"}, options=()).with_file("/etc/falco/falco.yaml", "rules_file: [/a]\n"))
    assert result["next_step"] == "upgrade" and "0.35" in result["reasons"][-1]


def test_metrics_that_are_on_and_not_there_yet_need_time():
    text = SHIPPED.replace("enabled: false\n  interval", "enabled: true\n  interval")
    result = judge(Host(pair={"reason": "only one snapshot"}, files={"/etc/falco/falco.yaml": text}))
    assert (result["state"], result["next_step"]) == ("unmeasured", "observe")


def test_a_falco_that_does_not_run_or_counts_nothing_is_blind():
    assert judge(Host(running=False))["state"] == "blind"
    assert judge(host(events=0, drops=0))["state"] == "blind"
    assert judge(host(events=0, drops=0, seconds=10.0))["state"] == "unmeasured"


def test_drop_alerts_prove_drops_and_nothing_more():
    alerts = {"alerts": {"count": 3, "undated": 0, "fields": {"n_evts": 1000, "n_drops": 500}}, "source": "journal", "reason": "x"}
    result = judge(Host(pair=alerts))
    assert (result["state"], result["bottleneck"], result["next_step"]) == ("dropping", "unknown", "measure")


def test_an_old_process_is_judged_by_the_look_and_not_by_its_life():
    # Ten days of idleness behind it, starved now.
    found = host({"on": 1000.0, "waiting": 10.0, "throttled": None}, drops=8000).facts()
    found["falco"].update(age=864000.0)
    found["falco"]["cpu"].update(on=14.0, waiting=87.0, seconds=1.0)
    assert verdicts.judge(found, policies.complete({}))["bottleneck"] == "starved"


def test_without_cpu_time_no_bottleneck_is_claimed():
    found = host(drops=8000).facts()
    found["falco"]["cpu"].update(dict.fromkeys(("on", "waiting", "throttled", "seconds", "total", "look"), None))
    found["falco"]["cpu"]["reason"] = "schedstat can't be read"
    found["metrics"]["falco_cpu_percent"] = None
    result = verdicts.judge(found, policies.complete({}))
    assert (result["bottleneck"], result["next_step"]) == ("unknown", "look") and "schedstat can't be read" in result["reasons"][-1]


def test_cost_is_told():
    cost = judge(host(STARVED, drops=8000))["cost"]
    assert cost["falco_wait_percent"] == 86.7 and set(cost) == {
        "falco_cpu_percent", "falco_wait_percent", "kernel_percent", "memory_bytes"}


NUMBERS = st.none() | st.floats(0, 1e6) | st.integers(0, 10 ** 9)


@given(cpu=st.fixed_dictionaries(dict.fromkeys(("on", "waiting", "throttled"), NUMBERS)), quota=st.none() | st.floats(1, 1000),
       events=st.integers(0, 10 ** 12), share=st.floats(0, 1), seconds=st.floats(0.5, 1e6), age=st.none() | st.floats(0, 1e8))
def test_any_host_gets_a_verdict_that_can_be_written_down(cpu, quota, events, share, seconds, age):
    found = host(drops=1).facts()
    found["metrics"].update(events=events, drops=int(events * share), drops_percent=100.0 * share, seconds=seconds)
    found["falco"]["age"], found["falco"]["cpu"]["total"] = age, cpu
    found["service"]["limits"]["cpu_quota"] = quota
    result = verdicts.judge(found, policies.complete({}))
    json.dumps(result)
    assert result["next_step"] in verdicts.STEPS and result["advice"]
    # Advice that can't help is never given.
    if result["next_step"] == "buffers":
        assert result["bottleneck"] == "buffer"
    if result["next_step"] == "priority":
        assert result["bottleneck"] == "starved"


@pytest.mark.parametrize("arguments", [["falco", "--disable-source=syscall"], ["falco", "--enable-source", "k8s_audit"]])
def test_a_host_without_system_calls_has_a_state_of_its_own(arguments):
    found = judge(Host(arguments=arguments))
    assert (found["state"], found["bottleneck"], found["next_step"]) == ("no_syscalls", "none", "none")
    assert "watches no system calls" in found["reasons"][0] and arguments[1][:15] in found["reasons"][0]
    # One that is stopped sees nothing at all.
    assert judge(Host(arguments=arguments, running=False, state="failed"))["state"] == "blind"


ALERTS = {"alerts": {"count": 2, "undated": 0, "fields": {"n_evts": 3200000, "n_drops": 909000}}, "source": "alerts_file", "reason": "x"}


@pytest.mark.parametrize("version", ["0.33.1", "0.34.1"])
def test_releases_without_metrics_are_not_told_to_switch_them_on(version):
    old = Host(version=version, files={"/etc/falco/falco.yaml": "rules_file: [/a]\n"}, folders=(), arguments=["falco"], age=1000.0)
    for pair, state in (({"reason": "x"}, "unmeasured"), (ALERTS, "dropping")):
        found = judge(old.but(pair=pair))
        assert (found["state"], found["bottleneck"], found["next_step"]) == (state, "unknown", "upgrade")
        assert found["advice"].startswith("upgrade Falco") and "tune_falco" not in found["advice"]
        assert any("they came with 0.35" in reason for reason in found["reasons"])
    # The quota kept Falco off the CPU for 75 % of the time.
    throttled = old.but(pair=ALERTS, quota=50.0, cpu={"on": 245.0, "waiting": 5.0, "throttled": 750.0})
    found = judge(throttled)
    assert (found["state"], found["bottleneck"], found["next_step"]) == ("dropping", "cpu_quota", "quota")
    assert found["advice"].startswith("raise or remove CPUQuota=") and "909000" in found["reasons"][0] and "75 %" in found["reasons"][1]


def test_drop_alerts_and_a_quota_that_binds_are_a_bottleneck_in_every_release():
    found = judge(Host(pair=ALERTS, quota=50.0, age=1000.0, cpu={"on": 245.0, "waiting": 5.0, "throttled": 750.0}))
    assert (found["state"], found["bottleneck"], found["next_step"]) == ("dropping", "cpu_quota", "quota")
    assert judge(Host(pair=ALERTS))["next_step"] == "measure"


METERED = SHIPPED.replace("enabled: false\n  interval: 1h", "enabled: true\n  interval: 30s\n  output_file: /var/log/falco/metrics.jsonl")
UNCOUNTED = {"reason": "metrics_file: its snapshots of the syscall source hold no kernel counters", "uncounted": True, "bytes_read": 1}


@pytest.mark.parametrize("version, text, step, advice", [
    ("0.40.0", METERED, "upgrade", "webserver.prometheus_metrics_enabled"), ("0.37.1", METERED, "upgrade", "drop alerts"),
    ("0.41.0", METERED, "upgrade", "0.41.1 or newer"), ("0.44.1", METERED, "observe", "wait"),
    ("0.40.0", METERED + "  kernel_event_counters_enabled: false\n", "measure", "metrics.kernel_event_counters_enabled: true"),
])
def test_snapshots_without_kernel_counters_are_not_waited_for(version, text, step, advice):
    found = judge(Host(version=version, files={"/etc/falco/falco.yaml": text}, pair=UNCOUNTED))
    assert (found["state"], found["next_step"]) == ("unmeasured", step)
    assert advice in found["advice"] and "no kernel counters" in found["reasons"][0]
    assert any("more than one event source" in reason for reason in found["reasons"]) is (step == "upgrade")
