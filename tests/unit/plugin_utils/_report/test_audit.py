# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import json

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import snapshots
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import audit, shape
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import planner, policies, windows
from ansible_collections.falcotune.fleet.tests.unit.hosts import MAIN, ROOT, SHIPPED, Host, measured
from hypothesis import given
from hypothesis import strategies as st

POLICY = {"min_observation": 60, "accepted_drops_percent": 1.0}


def entry(host, older=None):
    facts = host.facts()
    return audit.entry("web-01", facts, planner.make(facts, {}), POLICY, older)


def test_an_entry_says_what_runs_what_is_lost_and_what_would_change():
    found = entry(Host(age=1000.0, pair=measured(drops=5000)))
    assert (found["name"], found["status"], found["release"], found["cpus"]) == ("web-01", "ok", "0.44.1", 8)
    assert found["buffers"] == {"buf_size_preset": 4, "cpus_for_each_buffer": 2, "count": 4, "bytes_each": 8 << 20, "bytes_total": 32 << 20}
    assert found["window"]["drops"] == 5000 and "snapshot" not in found["window"]
    assert (found["verdict"]["state"], found["verdict"]["bottleneck"]) == ("dropping", "buffer")
    assert found["plan"]["changes"] and found["plan"]["restart_required"] is True and found["plan"]["reason"] is None
    assert found["snapshot"]["scap.n_drops"] == 5000
    assert set(found) == set(audit.EMPTY)
    json.dumps(found)


def test_a_host_that_can_not_be_planned_for_is_still_audited():
    facts = Host(running=False).facts()
    found = audit.entry("web-01", facts, {"reason": "Falco is not running"}, POLICY)
    assert found["verdict"]["state"] == "blind" and found["plan"]["reason"] == "Falco is not running" and found["plan"]["changes"] == []


def test_a_host_without_falco_is_audited_too():
    facts = Host(unit=None, version=None, running=False).facts()
    found = audit.entry("web-01", facts, None, POLICY)
    assert (found["status"], found["release"], found["buffers"], found["verdict"]["state"]) == ("ok", None, None, "blind")


def later(seconds, events, drops, cpu, age, ticks=4711):
    """A host with one snapshot so far, and the snapshot of an audit so many seconds before."""
    host = Host(age=age, cpu=cpu, pair=measured(events=events, drops=drops, seconds=seconds))
    host.pair["first"] = host.pair["last"]  # the record on the host begins now
    pair = measured(events=events, drops=drops, seconds=seconds)
    older = dict(pair["first"], cpu={"on": 0.0, "waiting": 0.0, "throttled": None, "start_ticks": ticks, "age": age - seconds})
    host.pair = {"reason": "only one snapshot", "last": pair["last"], "age": 1.0, "source": "metrics_file", "bytes_read": 1}
    return host, older


def test_counters_of_two_audits_make_a_window():
    host, older = later(3600.0, 10 ** 6, 84 * 10 ** 4, {"on": 504.0, "waiting": 3121.0, "throttled": None}, 90000.0)
    assert entry(host)["verdict"]["state"] == "unmeasured"
    found = entry(host, older)
    assert found["window"]["source"] == "between audits"
    assert (found["window"]["seconds"], found["window"]["drops"]) == (3600.0, 84 * 10 ** 4)
    # And so does CPU time, which tells the bottleneck of a process that has run for days.
    assert found["verdict"]["bottleneck"] == "starved" and "between the audits" in found["verdict"]["reasons"][-1]
    assert found["verdict"]["cost"]["falco_wait_percent"] == pytest.approx(86.69)


def test_another_process_has_other_cpu_time():
    host, older = later(3600.0, 10 ** 6, 84 * 10 ** 4, {"on": 504.0, "waiting": 3121.0, "throttled": None}, 90000.0, ticks=1)
    assert "between the audits" not in " ".join(entry(host, older)["verdict"]["reasons"])


def test_a_run_that_began_since_the_last_audit_is_not_measured_across():
    host, older = later(3600.0, 10 ** 6, 0, {"on": 5.0, "waiting": 0.0, "throttled": None}, 90000.0)
    older["falco.start_ts"] -= 1
    found = entry(host, older)
    assert found["verdict"]["state"] == "unmeasured" and found["window"]["source"] != "between audits"


def test_a_window_of_the_hosts_own_is_preferred():
    host, older = later(3600.0, 10 ** 6, 0, {"on": 5.0, "waiting": 0.0, "throttled": None}, 90000.0)
    host.pair = measured(seconds=1000.0)
    assert entry(host, older)["window"]["source"] == "metrics_file"


# A real Falco that loses events of all kinds, with the counters of months.
RECORDED = [json.loads(line)["output_fields"] for line in (ROOT / "tests/unit/fixtures/metrics/0.44.1-G.jsonl").read_text().splitlines()]
RECORDED = [snapshots.reduced(fields) for fields in RECORDED if "scap.n_drops_buffer_total" in fields]
LAST = {name: value * 10 ** 3 if name.startswith("scap.n_") or name == "falco.num_evts" else value for name, value in RECORDED[-1].items()}
FIRST = {name: value - value // 2 if name.startswith("scap.n_") or name == "falco.num_evts" else value for name, value in LAST.items()}
FIRST.update({"evt.time": LAST["evt.time"] - 3600 * 10 ** 9, "sample": 1, "falco.host_num_cpus": 256})
FIRST.update(dict.fromkeys(("falco.start_ts", "falco.reload_ts"), FIRST["evt.time"] - 10 ** 16))
LAST.update({name: FIRST[name] for name in ("falco.start_ts", "falco.reload_ts")}, **{"falco.host_num_cpus": 256, "sample": 9000000})
METERED = SHIPPED.replace("enabled: false\n  interval: 1h", "enabled: true\n  interval: 30s\n  output_file: /var/log/falco/metrics.jsonl")
CHANGED = {"proven": True, "at": 1795000000.512, "files": {}, "attempts": [],
           "evidence": {"pid": 4194000, "events": 10 ** 9, "basis": "counters", "source": "metrics.output_file", "restarts": 0,
                        "buffers": {"bytes_each": 64 << 20, "count": 128, "source": "memory map"}, "blind_seconds_at_most": 12.41},
           "before": {"state": "dropping", "drops_percent": 26.8508288642, "rate_per_cpu": 27932.1, "seconds": 3600.1,
                      "bottleneck": "starved", "demand": 223456.8, "losing_percent": 30.1}}
BUSIEST = {"files": {MAIN: METERED}, "unit": "falco-modern-bpf@production-eu-central-1-compute.service", "cpus": 256, "weighable": True,
           "record": CHANGED, "age": 10000000.0, "total": 1 << 40, "available": 1 << 39,
           "pair": {"first": FIRST, "last": LAST, "source": "metrics.output_file", "seconds": 3600.0, "age": 29.123}}
LOOKED = {"on": 15.123, "waiting": 70.456, "throttled": 0.0, "seconds": 300.123}
SENT = {
    "starved": Host(**BUSIEST, looked=LOOKED), "throttled": Host(**BUSIEST, quota=50.0, looked={**LOOKED, "throttled": 50.5}),
    "both": Host(**BUSIEST, quota=50.0, looked={**LOOKED, "throttled": 20.5}),
    "busy": Host(**BUSIEST, looked={**LOOKED, "on": 99.0, "waiting": 0.5}), "calm": Host(pair=measured()),
    "bursts": Host(**BUSIEST, looked={**LOOKED, "waiting": 2.0}), "fresh": Host(), "stopped": Host(running=False),
    "changed": Host(record=CHANGED, pair=measured()),
}


def made(name):
    """(entry, what the host's result has of it)."""
    policy = policies.complete({})
    facts = SENT[name].facts()
    try:
        found = planner.make(facts, policy)
    except planner.PlanError as error:
        found = {"reason": str(error), "changes": []}
    whole = audit.entry("web-01", facts, found, policy)
    return whole, json.loads(json.dumps(audit.slim(whole)))


@pytest.mark.parametrize("name", SENT)
def test_the_result_of_a_host_is_the_entry_that_the_report_shows(name):
    whole, sent = made(name)
    assert shape.host(audit.whole("web-01", sent)) == shape.host(whole)


@pytest.mark.parametrize("name, bottleneck", [
    ("starved", "starved"), ("throttled", "cpu_quota"), ("both", "starved"), ("busy", "consumer"), ("bursts", "buffer")])
def test_the_result_of_a_host_that_loses_events_is_at_most_4_kb(name, bottleneck):
    """With a unit of a long name, counters of years, and an earlier change."""
    whole, sent = made(name)
    assert whole["verdict"]["bottleneck"] == bottleneck and len(whole["window"]["drops_by_category"]) >= 6
    assert len(json.dumps(sent)) <= 4000


@pytest.mark.parametrize("why", [-1, 99, True, 0.5, [], {}, None])
def test_a_reason_with_a_wrong_number_is_no_reason(why):
    sent = made("starved")[1]
    sent["plan"]["changes"][0]["why"] = why
    assert shape.host(audit.whole("web-01", sent))["plan"]["changes"][0]["why"] in (None, "0.5")
    for part in ("plan", "verdict"):
        assert shape.host(audit.whole("web-01", {**sent, part: why}))["name"] == "web-01"


def test_what_steps_came_to_is_sent_without_its_names():
    step = {"at": 1795000000.5, "step": "buffers", "against": "buffer", "to": "0123456789ab", "preset": 7, "demand": 743087.2,
            "rate_per_cpu": 2902.7, "worked": True, "error": 0.12}
    whole = {**made("starved")[0], "twin": {"twins": "modern_ebpf/256/0.44.1/0123456789ab", "outcomes": [step] * 3}}
    sent = json.loads(json.dumps(audit.slim(whole)))
    assert shape.host(audit.whole("web-01", sent)) == shape.host(whole) and shape.host(whole)["twin"]["outcomes"] == [step] * 3
    assert len(json.dumps(sent["twin"])) < 350
    for wrong in ([[1, 2]], [7], {"a": 1}, None, [[{}] * 20]):
        assert shape.host(audit.whole("web-01", {**sent, "twin": {**sent["twin"], "outcomes": wrong}}))["name"] == "web-01"


@pytest.mark.parametrize("snapshot", [3, [], {"falco.": 3}, {"scap.": {"n_evts": {"falco.": {}}}, "cpu": []}])
def test_a_snapshot_of_a_wrong_shape_does_no_harm(snapshot):
    sent = {**made("starved")[1], "snapshot": snapshot}
    found = shape.host(audit.whole("web-01", sent))["snapshot"]
    assert entry(SENT["starved"], found)["name"] == "web-01"


def test_what_is_remembered_of_a_snapshot_makes_the_same_window():
    kept = windows.remembered(FIRST)
    assert windows.between(kept, LAST) == windows.between(FIRST, LAST) and len(kept) < len(FIRST) - 5
    none = {**FIRST, **{name: 0 for name in FIRST if name.startswith("scap.n_") or name.endswith("full_threadtable")}}
    kept = windows.remembered(none)
    assert windows.between(kept, LAST) == windows.between(none, LAST) and not windows.between(kept, LAST)["voided"]
    assert not any(name.startswith("scap.n_drops") for name in kept)


KEYS = st.sampled_from(["cpu", "scap.n_evts", "evt.time", "start_ticks", "age", "on", "falco.start_ts"])
ANYTHING = st.recursive(st.none() | st.integers() | st.floats() | st.text(max_size=8),
                        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12)


@given(ANYTHING)
def test_whatever_the_history_holds_does_no_harm(older):
    host = Host(age=90000.0, files={"/etc/falco/falco.yaml": SHIPPED}, pair=measured())
    assert entry(host, older)["name"] == "web-01"


def test_missing():
    found = audit.missing("web-09", "unreachable", "no route to host")
    assert (found["status"], found["reason"], found["verdict"]) == ("unreachable", "no route to host", None)
    assert set(found) == set(audit.EMPTY)


def test_a_host_that_watches_no_system_calls_is_shown_apart():
    facts = Host(arguments=["falco", "--disable-source", "syscall"]).facts()
    found = audit.entry("web-01", facts, {"reason": "watches no system calls"}, POLICY)
    assert found["verdict"]["state"] == "no_syscalls" and found["driver"] == "none" and found["buffers"] is None
