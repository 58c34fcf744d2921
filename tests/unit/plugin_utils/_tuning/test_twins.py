# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What steps came to on a host, and what the plans of hosts like it take from that."""

import json

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import audit, shape
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import planner, twins
from ansible_collections.falcotune.fleet.tests.unit.plugin_utils._tuning.test_steps import (
    BUSY, COOL, KNOWN, PRESET, STARVED, again, change, fewer, host, unit)


def burst(lost=3000000, preset=4, most=1000000, **changes):
    """A host with idle time that loses what it loses in bursts of so many events."""
    start = host(COOL, preset, events=100000000, drops=lost,
                 **dict({"cpus": 16, "total": 256 << 30, "available": 200 << 30}, **changes))
    start.pair["intervals"] = {"count": 20, "losing": 3, "worst": [{"ns": 50 * 10**9, "events": 8000000, "drops": most}] * 3}
    return start


def plan(found, like_it=(), **given):
    return planner.make(found.facts(), given, like_it=tuple(like_it))


def told(found, made, cpu, **pair):
    """What a host tells its twins once it has run with a plan and was measured again."""
    after = again(found, made, cpu, **pair)
    return plan(after)["outcomes"], after


STEP = plan(host(STARVED, drops=84000))
IN_VAIN, SAME = told(host(STARVED, drops=84000), STEP, STARVED, drops=84000)
HELPED, dummy = told(host(STARVED, drops=84000), STEP, COOL, drops=100)


def test_what_a_step_came_to_is_told_with_the_load_and_the_error_of_its_prediction():
    [vain], [helped] = IN_VAIN, HELPED
    assert (vain["step"], vain["against"], vain["worked"]) == ("priority", "starved", False)
    assert (helped["worked"], helped["to"]) == (True, vain["to"]) and helped["demand"] == vain["demand"] > 0
    assert vain["error"] == pytest.approx(84 - STEP["step"]["predicted"], abs=0.01)
    assert helped["error"] == pytest.approx(abs(0.1 - STEP["step"]["predicted"]), abs=0.01)
    assert plan(host(STARVED, drops=84000))["outcomes"] == [], "nothing was tried there"
    # It says the same later, when the step is long gone.
    back = plan(SAME, syscalls="keep")
    assert back["step"]["undoes"] == ["priority"]
    later, dummy = told(SAME, back, STARVED, drops=84000)
    assert [(item["step"], item["worked"]) for item in later] == [("priority", False)]


def test_nothing_is_told_of_another_load_or_before_anything_is_measured():
    busier, dummy = told(host(STARVED, drops=84000), STEP, STARVED, events=300000, drops=280000)
    assert busier == []
    assert plan(host(STARVED, drops=84000).after(STEP))["outcomes"] == []


def test_a_step_that_was_in_vain_on_three_hosts_like_it_is_left_out():
    start = host(STARVED, drops=84000)
    for few in ([], [IN_VAIN], [IN_VAIN] * 2, [IN_VAIN] * 4 + [HELPED] * 2):
        assert unit(plan(start, few)) == unit(STEP)
    made = plan(start, [IN_VAIN] * 5 + [HELPED] * 2, syscalls="keep")
    assert made["changes"] == [] and made["step"] is None and made["verdict"]["next_step"] == "overloaded"
    assert "priority had no effect on 5 of 7 hosts with the same driver, CPUs, release and rules" in made["verdict"]["reasons"][-1]
    assert made["verdict"]["answer"]["kind"] == "too_busy"


def test_only_hosts_with_the_same_bottleneck_load_and_values_count():
    start = host(STARVED, drops=84000)
    old = start.facts()["clock"] - twins.LASTS - 1
    for changes in ({"at": old}, {"against": "buffer"}, {"demand": IN_VAIN[0]["demand"] * 2}, {"to": "another"}):
        other = [dict(item, **changes) for item in IN_VAIN]
        assert unit(plan(start, [other] * 9)) == unit(STEP), changes


def test_rings_that_helped_three_hosts_like_it_are_tried_at_once_within_the_budget():
    own = plan(burst())
    preset = change(own, PRESET)["to"]
    assert 4 < preset < 8
    like_it = [[{**HELPED[0], "step": "buffers", "against": "buffer", "preset": preset + number, "demand": None, "rate_per_cpu": None}]
               for number in (0, 1, 1, 2)]
    made = plan(burst(), like_it)
    assert change(made, PRESET)["to"] == preset + 1 and "as on hosts like it" in change(made, PRESET)["why"]
    assert "on 4 hosts like it such predictions were off by" in made["step"]["expected"]
    assert change(plan(burst(), like_it[:2]), PRESET)["to"] == preset, "two hosts say nothing"
    assert change(plan(burst(), [[dict(item, preset=1) for item in host] for host in like_it]), PRESET)["to"] == preset, "never smaller"
    # As far as the budget goes.
    rings = own["buffers"]["bytes_total"]
    tight = plan(burst(), like_it, buffer_max_bytes=rings)
    assert tight["buffers"]["bytes_total"] <= rings
    # Nobody who does not lose events gets anything.
    assert plan(host(COOL, drops=0), like_it)["changes"] == []


def test_a_selection_that_saved_nothing_on_hosts_like_it_is_left_out():
    start = host(BUSY, events=300000, drops=60000)
    made = fewer(start)
    assert made["step"]["name"] == "syscalls"
    vain = [{**IN_VAIN[0], "step": "syscalls", "against": "consumer", "to": twins.digest(made["step"]["to"]), "demand": None,
             "rate_per_cpu": None}]
    facts = start.facts()
    facts["syscalls"] = KNOWN
    left = planner.make(facts, {}, like_it=(vain,) * 3)
    assert left["step"] is None and "syscalls had no effect on 3 of 3 hosts" in " ".join(left["verdict"]["reasons"])


def test_hosts_are_alike_by_driver_cpus_release_and_rules():
    start = host(STARVED, drops=84000)
    assert twins.key(start.facts()) is None, "its rules are not known"
    for fields in (start.pair["first"], start.pair["last"]):
        fields["falco.rules"] = "1c15d5d54363"
    assert twins.key(start.facts()) == "modern_ebpf/8/0.44.1/1c15d5d54363"
    assert twins.key(start.but(cpus=None).facts()) is None


def test_the_entry_of_an_audit_carries_it_and_a_report_does_not():
    for fields in (SAME.pair["first"], SAME.pair["last"]):
        fields["falco.rules"] = "1c15d5d54363"
    made = plan(SAME)
    entry = shape.host(audit.entry("a", SAME.facts(), made, {"min_observation": 60, "accepted_drops_percent": 1.0}))
    assert entry["twin"] == {"twins": "modern_ebpf/8/0.44.1/1c15d5d54363", "outcomes": made["outcomes"]} and "twin" in shape.OF_HISTORY
    assert json.loads(json.dumps(entry["twin"])) == entry["twin"] and len(json.dumps(entry["twin"])) < 300
    quiet = host(COOL, drops=0)
    assert audit.entry("b", quiet.facts(), plan(quiet), {"min_observation": 60, "accepted_drops_percent": 1.0})["twin"] is None


@pytest.mark.parametrize("given", [None, 7, "x", [None], [[]], [{"step": ["x"], "worked": "yes", "preset": -1, "at": "x"}] * 99])
def test_what_a_history_holds_is_checked(given):
    found = twins.CHECK(given)
    assert isinstance(found, list) and len(found) <= twins.MOST_STEPS
    assert unit(plan(host(STARVED, drops=84000), [found] * 5)) == unit(STEP)
