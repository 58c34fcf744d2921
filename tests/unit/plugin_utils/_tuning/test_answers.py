# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What came of tuning a host: the answer of its plan."""

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import planner
from ansible_collections.falcotune.fleet.tests.unit.hosts import MAIN, SHIPPED, Host, measured
from ansible_collections.falcotune.fleet.tests.unit.plugin_utils._tuning.test_steps import listed, made_by_two

MEASURING = SHIPPED.replace("enabled: false\n  interval: 1h", "enabled: true\n  interval: 30s\n  output_file: /var/log/falco/metrics.jsonl")
LEAN = MEASURING + "base_syscalls: {repair: true, custom_set: []}\n"


def host(on, waiting, drops, text=MEASURING, **changes):
    use = {"on": 1000.0 * on, "waiting": 1000.0 * waiting, "throttled": None}
    return Host(age=1000.0, cpu=use, pair=measured(events=100000, drops=drops), files={MAIN: text}, **changes)


def answer(paper, **given):
    return planner.make(paper.facts(), given)["verdict"]["answer"]


def tried(step="priority", to=None, lost=84.0, **more):
    attempt = {"at": 1.0, "step": step, "to": to or {"Nice": -10}, "release": "0.44.1", "rolled_back": False,
               "before": {"state": "dropping", "drops_percent": lost, "rate_per_cpu": 12.5, "bottleneck": "starved"}, **more}
    return {"proven": True, "files": {}, "attempts": [attempt]}


def test_a_host_that_never_lost_events_has_no_answer():
    assert answer(host(0.3, 0.02, 0)) is None


def test_a_host_that_tuning_cured_is_solved():
    found = answer(host(0.6, 0.2, 0, record=tried()))
    assert found["kind"] == "solved" and found["tried"] == ["priority (Nice -10)"]
    assert found["text"] == "solved; 0 % lost (84 % before); tried: priority (Nice -10)"


def test_what_was_tried_is_said_in_a_few_words():
    record = tried("syscalls", {"repair": True, "custom_set": ["accept", "dup"]}, 40.0, predicted=7.5)
    back = {**record["attempts"][0], "at": 2.0, "step": "give_back", "to": {"repair": False, "custom_set": []}, "undoes": ["syscalls"]}
    del back["predicted"]
    record["attempts"].append(back)
    found = answer(host(0.82, 0.18, 94000, cpus=2, record=record), syscalls="keep")
    assert found["tried"] == ["syscalls (custom_set of 2 entries, repair True), 7.5 % predicted", "syscalls taken back"]


def test_a_little_loss_is_accepted():
    assert answer(host(0.3, 0.02, 500))["kind"] == "accepted"


def test_a_host_with_a_step_to_take_has_no_answer_yet():
    assert answer(host(0.14, 0.867, 84000)) is None
    assert answer(host(0.3, 0.02, 8000)) is None


@pytest.mark.parametrize("text, version, words", [
    (LEAN, "0.44.1", "13.6 times fewer events, or rules that cost Falco as much less"),
    (LEAN, "0.41.3", "Falco 0.42 or newer: about half the events, which does not suffice alone")])
def test_too_busy_says_the_factor_and_what_it_would_take(text, version, words):
    found = answer(host(0.82, 0.18, 94000, text, cpus=2, version=version), syscalls="keep")
    assert found["kind"] == "too_busy" and found["factor"] > 8
    if "13.6" in words:
        found = answer(host(0.82, 0.0, 94000, text, cpus=2, version=version), syscalls="keep")
    assert any(words in item for item in found["takes"]), found
    assert found["text"].startswith("too busy for Falco: the load needs ") and "it would take: " in found["text"]


def test_policy_that_forbids_the_cure_is_said_with_it():
    found = answer(host(0.14, 0.86, 84000), priority=False)
    assert found is None or "a whole CPU: a higher priority, or fewer neighbours" in found["takes"]


def audited(facts, **percents):
    """Facts with an audit of rules: percent of a core that each takes, None where event rates are not known."""
    weights = [{"rule": name, "percent": percent, "ns": None} for name, percent in percents.items()]
    known = {"rules": [], "selected": [], "profile": None, "reason": "not asked", "audit": {"weights": weights, "findings": []}}
    return {**facts, "syscalls": known}


def takes(facts):
    plan = planner.make(facts, {"syscalls": "keep"})
    return plan["verdict"]["answer"]["takes"]


def test_heavy_rules_are_named_where_they_are_known():
    facts = host(0.82, 0.0, 94000, LEAN, cpus=2).facts()
    # Of what the whole load needs: rules would cost as much more for the events that are lost now.
    whole = 100 * planner.make(facts, {"syscalls": "keep"})["verdict"]["capacity"]["factor"]
    assert whole > 1000
    found = takes(audited(facts, a=0.5 * whole, b=0.45 * whole, c=None))
    assert found[0] == "without the rules a, b: about 95 % less work, by estimate"
    found = takes(audited(facts, a=0.3 * whole))
    assert found[0] == "without the rules a: about 30 % less work, by estimate, which does not suffice alone"
    assert not any("without the rules" in item for item in takes(audited(facts, a=0.01 * whole)) + takes(audited(facts, a=None)))


def test_rules_are_asked_for_where_they_are_the_bottleneck_whatever_policy_allows():
    policy = {"syscalls": "keep", "priority": False}
    busy, calm = host(0.82, 0.0, 94000, LEAN, cpus=2).facts(), host(0.3, 0.02, 0).facts()
    assert planner.make(busy, policy)["needs"] == "syscalls" and planner.make(calm, policy)["needs"] is None
    assert planner.make(busy, policy, closing=True)["needs"] is None
    made = planner.make(audited(busy, a=500.0), policy)
    assert made["needs"] is None and made["changes"] == []


def test_many_rules_that_cost_the_same_are_heavy_together():
    facts = host(0.82, 0.0, 94000, LEAN, cpus=2).facts()
    whole = 100 * planner.make(facts, {"syscalls": "keep"})["verdict"]["capacity"]["factor"]
    many = {"needless %02d" % number: 0.016 * whole for number in range(25)}
    found = takes(audited(facts, **many, light=0.001 * whole))
    assert found[0] == ("without the rules needless 24, needless 23, needless 22, needless 21, needless 20 and 20 more: "
                        "about 40 % less work, by estimate, which does not suffice alone")
    # No more of them than it takes.
    found = takes(audited(facts, one=0.94 * whole, two=0.3 * whole))
    assert found[0] == "without the rules one: about 94 % less work, by estimate"


def test_better_and_not_well_is_improved():
    # Larger buffers are at the guide's end, and the rest comes in bursts.
    text = MEASURING.replace("cpus_for_each_buffer: 2\n    buf_size_preset: 4", "cpus_for_each_buffer: 2\n    buf_size_preset: 7")
    record = tried("buffers", {"buf_size_preset": 7}, 40.0)
    found = answer(host(0.3, 0.02, 8000, text, record=record), syscalls="keep")
    assert found["kind"] == "improved" and "8 % lost (40 % before)" in found["text"]


def test_exclusions_in_force_are_what_was_given_up():
    record = tried("syscalls", {"repair": True, "custom_set": ["!openat"]})
    found = answer(host(0.6, 0.2, 0, LEAN.replace("custom_set: []", 'custom_set: ["!openat"]'), record=record), quiet_days=0)
    assert found["gave_up"] == ["openat"] and found["text"].endswith("given up: openat")


@pytest.mark.parametrize("changes, drops, given, because, advice", [
    ({"pair": measured(drops=8000, n_drops_page_faults=7000)}, 8000, {}, "7000 of 8000 lost events are events lost to page faults",
     "look for memory pressure"),
    ({"pair": measured(drops=0, outputs=50)}, 0, {}, "50 alerts were lost in the outputs queue", "make the outputs faster"),
    ({"quota": 50.0, "cpu": {"on": 450.0, "waiting": 310.0, "throttled": 300.0}}, 9000, {"syscalls": "keep"},
     "falco_tune_unthrottle: true allows to remove it", None),
    ({}, 8000, {"buf_size_preset": 4, "syscalls": "keep"}, "the preset is set by policy (falco_tune_buf_size_preset: 4)", "watch fewer"),
])
def test_what_no_step_within_policy_cures_is_not_solved_and_says_why(changes, drops, given, because, advice):
    found = answer(host(0.3, 0.02, drops).but(**changes), **given)
    assert found["kind"] == "unsolved" and found["factor"] is None
    assert found["text"].startswith("not solved by tuning; ")
    if advice is None:
        assert found["takes"] == ["no CPU quota (falco_tune_unthrottle)"]
    else:
        assert "because: " in found["text"] and because in found["text"] and advice in found["text"].split("; advice: ")[1]


def test_a_host_that_is_yet_to_be_measured_has_no_answer():
    alerts = {"alerts": {"count": 3, "undated": 0, "fields": {"n_evts": 1000, "n_drops": 500}}, "source": "journal", "reason": "x",
              "bytes_read": 1}
    paper = Host(age=1000.0, cpu={"on": 300.0, "waiting": 20.0, "throttled": None}, pair=alerts)
    made = planner.make(paper.facts(), {})
    assert made["verdict"]["state"] == "dropping" and made["verdict"]["next_step"] == "measure" and made["restart_required"]
    assert made["verdict"]["answer"] is None and answer(paper, metrics=False) is None


def test_exclusions_that_wait_for_their_proof_are_no_answer():
    calls = {"openat": 5000, "connect": 200}
    profile = {"means": "tracefs", "seconds": 5.0, "reason": None, "notes": [], "counts": calls, "callers": made_by_two(calls)}
    rules = listed(("files", "warning", ["open", "openat"]), ("network", "notice", ["connect"]))
    paper = host(0.97, 0.03, 60000, LEAN, clock=1000.0)
    facts = {**paper.facts(), "syscalls": {"rules": rules, "selected": [], "reason": None, "profile": profile}}
    first = planner.make(facts, {"syscalls": "exclude"})
    assert first["syscalls"]["unproved"] and first["verdict"]["answer"] is None
