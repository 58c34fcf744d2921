# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was tried before and came to nothing: taken back, at the load of now, and not tried again until the load has changed."""

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import effects, planner
from ansible_collections.falcotune.fleet.tests.unit.hosts import change, measured
from ansible_collections.falcotune.fleet.tests.unit.plugin_utils._tuning.test_steps import (
    BUSY, COOL, KNOWN, PRESET, STARVED, again, busy, fewer, host, made_by_two, plan, unit)

LARGE = {"total": 256 << 30, "available": 200 << 30}
KEEP = {"syscalls": "keep"}
WEEK = 7 * 86400.0


def tried(found):
    return found.facts()["host"]["record"]["attempts"]


# --- taken back


def test_buffers_without_effect_are_taken_back_where_nothing_else_is_left_to_do():
    start = host(COOL, drops=5000, **LARGE)
    same = again(start, plan(start, **KEEP), COOL, drops=4900)
    made = plan(same, **KEEP)
    assert change(made, PRESET)["to"] == 4 and made["step"]["name"] == "give_back" and made["step"]["undoes"] == ["buffers"]
    assert made["step"]["to"] == {"buf_size_preset": 4} and "taken back, since buffers buf_size_preset 6" in change(made, PRESET)["why"]
    back = again(same, made, COOL, drops=5000)
    third = plan(back, **KEEP)
    assert third["changes"] == [] and third["step"] is None
    assert "had no effect and was taken back on 1970-01-01, under such a load" in third["verdict"]["reasons"][-1]


@pytest.mark.parametrize("events, tries", [(100000, False), (140000, False), (70000, False), (160000, True), (60000, True)])
def test_it_is_tried_again_under_a_load_that_differs_by_more_than_a_half(events, tries):
    start = host(COOL, drops=5000, **LARGE)
    same = again(start, plan(start, **KEEP), COOL, drops=4900)
    back = again(same, plan(same, **KEEP), COOL, events=events, drops=events // 20)
    assert bool(plan(back, **KEEP)["changes"]) is tries


def test_a_load_between_those_of_two_failures_is_none_that_is_new():
    """It failed at one load, and at twice that: at 1.5 times of it nothing is learned."""
    start = host(COOL, drops=5000, **LARGE)
    found = again(start, plan(start, **KEEP), COOL, drops=4900)
    found = again(found, plan(found, **KEEP), COOL, events=200000, drops=10000)
    found = again(found, plan(found, **KEEP), COOL, events=200000, drops=9900)
    found = again(found, plan(found, **KEEP), COOL, events=150000, drops=7500)
    assert len(tried(found)) == 4 and plan(found, **KEEP)["changes"] == []


@pytest.mark.parametrize("jump", [86400.0, -3000.0])
@pytest.mark.parametrize("at", range(4))
def test_a_clock_that_jumps_between_two_changes_loses_nothing_that_was_learned(jump, at):
    """Buffers failed at one load and at twice that, and were taken back each time."""
    found = host(COOL, drops=5000, **LARGE).but(clock=9000.0)
    for number, after in enumerate(((100000, 4900), (200000, 10000), (200000, 9900), (150000, 7500))):
        found = again(found, plan(found, **KEEP), COOL, events=after[0], drops=after[1])
        found.clock += jump if number == at else 60
    assert [item.get("undoes") or [] for item in tried(found)] == [[], ["buffers"], [], ["buffers"]]
    for events in (100000, 150000, 200000):
        found.pair = measured(events=events, drops=events // 20)
        assert plan(found, **KEEP)["changes"] == []


def test_a_take_back_that_made_it_worse_is_not_tried_again():
    """Its proof put the step in force again: the step had an effect."""
    start = host(STARVED, drops=84000)
    same = again(start, plan(start, **KEEP), STARVED, drops=83000)
    made = plan(same, **KEEP)
    assert made["step"]["undoes"] == ["priority"]
    # As the host keeps it once the change is rolled back: the files are the old ones.
    same.record["attempts"].append({"at": same.clock + 60, "step": "give_back", "to": made["step"]["to"], "release": "0.44.1",
                                    "undoes": ["priority"], "rolled_back": True, "before": same.record["attempts"][0]["before"]})
    later = plan(same, **KEEP)
    assert later["changes"] == [] and later["step"] is None


def test_what_helped_some_stays():
    start = host(COOL, drops=5000, **LARGE)
    better = again(start, plan(start, **KEEP), COOL, drops=2500)
    assert change(plan(better, **KEEP), PRESET)["to"] == 7, "and more of it follows"


def test_an_effect_is_judged_at_the_load_of_now():
    """Forty percent more events, and half of them lost as before: without the step it would be 64 %."""
    start = host(STARVED, drops=50000, cpus=64)
    made = plan(start, **KEEP)
    busier = again(start, made, STARVED, events=140000, drops=70000)
    assert plan(busier, **KEEP)["step"] is None or not plan(busier, **KEEP)["step"]["undoes"]
    same = again(start, made, STARVED, events=100000, drops=50000)
    assert plan(same, **KEEP)["step"]["undoes"] == ["priority"]


def test_fewer_system_calls_are_judged_by_the_kernels_count_of_all_calls():
    """What Falco counts fell with the selection, so it does not tell whether the load rose."""
    first = fewer(busy())
    assert first["step"]["calls"] == sum(KNOWN["profile"]["counts"].values()) / 5.0
    later = again(busy(), first, BUSY, events=300000, drops=60000)
    assert fewer(later)["step"]["undoes"] == ["syscalls"]
    counts = {name: int(1.4 * calls) for name, calls in KNOWN["profile"]["counts"].items()}
    more = dict(KNOWN, profile=dict(KNOWN["profile"], counts=counts, callers=made_by_two(counts)))
    assert fewer(later, known=more)["changes"] == []


def test_what_one_change_carried_is_remembered_as_several_steps():
    start = host({"on": 839.0, "waiting": 161.0, "throttled": None}, events=300000, drops=96700, cpus=2)
    verdict = plan(start, **KEEP)["verdict"]
    assert (verdict["bottleneck"], verdict["also"]) == ("starved", ["consumer"])
    made = fewer(start)
    assert unit(made) == {"Nice": -10} and change(made, "base_syscalls.repair")["to"] is True
    after = again(start, made, COOL, events=300000, drops=96000)
    steps = [(item["step"], item["to"], item["replaced"]) for item in tried(after)]
    assert steps == [("priority", {"Nice": -10}, {"Nice": None}),
                     ("syscalls", {"repair": True, "custom_set": []}, {"repair": False, "custom_set": []})]


def test_a_hosts_record_of_lines_is_not_trusted():
    start = host(STARVED, drops=84000)
    bad = {"at": 5.0, "step": "priority", "to": {"Nice": -10}, "release": "0.44.1", "before": None, "undoes": ["x", "buffers", 7],
           "replaced": {"Nice": "rm -rf", "CPUWeight": 10**30, "Exec": "x"}, "also": [{"step": "quota", "to": {}, "replaced": 7}, "x"] * 9}
    start.record = {"proven": True, "files": {}, "attempts": [bad]}
    found = tried(start)
    assert len(found) <= 6 and found[0]["undoes"] == ["buffers"] and "Exec" not in found[0]["replaced"]
    assert found[0]["replaced"]["Nice"] is None


# --- not worth it


def test_larger_buffers_that_would_hold_little_of_a_burst_are_no_restart():
    """A burst loses five million events. Rings of 1 GiB would hold them with a margin, and the budget ends at 5."""
    start = host(COOL, 4, events=100000000, drops=10600000, total=5 << 30, available=4 << 30)
    start.pair["intervals"] = {"count": 20, "losing": 2, "worst": [{"ns": 50 * 10**9, "events": 8000000, "drops": 5300000}] * 2}
    made = plan(start, **KEEP)
    assert made["changes"] == [] and made["step"] is None and made["buffers"]["buf_size_preset"] == 4
    assert "with preset 5, the largest that range and budget allow, about 9." in " ".join(made["verdict"]["reasons"])
    roomy = start.but(total=256 << 30, available=200 << 30)
    assert change(plan(roomy, **KEEP), PRESET)["to"] == 9


def test_buffers_are_as_large_as_what_a_burst_loses():
    found = []
    for lost in (40000, 400000, 4000000):
        start = host(COOL, events=100000000, drops=lost, total=1 << 40, available=1 << 39)
        worst = [{"ns": 50 * 10**9, "events": 8000000, "drops": lost}]
        start.pair["intervals"] = {"count": 20, "losing": 1, "worst": worst}
        made = plan(start, accepted_drops_percent=0)
        found.append(change(made, PRESET)["to"])
        assert made["step"]["predicted"] is not None and change(made, "metrics.kernel_event_counters_per_cpu_enabled")["to"] is True
    assert found == [5, 6, 9], "beyond the guide's range, where the memory budget has room for it"


def bursts(lost, demand):
    """Two snapshots of a host with one burst in four intervals of 50 s: what it loses, of so many events of that interval."""
    pair = measured(events=4 * demand, drops=lost, seconds=200.0)
    return dict(pair, intervals={"count": 4, "losing": 1, "worst": [{"ns": 50 * 10**9, "events": demand, "drops": lost}]})


SMALL = {"total": 5 << 30, "available": 4 << 30}  # its budget ends at preset 5


def later(step, to, replaced, looked):
    """A host whose larger rings saved a third, and which was changed again after that. looked: whether the host was measured between."""
    start = host(COOL, pair=bursts(2000000, 8000000), **SMALL)
    made = plan(start, **KEEP)
    assert made["step"]["to"] == {"buf_size_preset": 5}
    after = again(start, made, COOL)
    after.pair = bursts(1300000, 8000000)
    seen = effects.measured(plan(after, **KEEP)["verdict"]) if looked else None
    after.record["attempts"].append({"at": after.clock + 3600, "step": step, "to": to, "release": "0.44.1", "before": seen,
                                     "replaced": replaced, "calls": 100000.0})
    return after


@pytest.mark.parametrize("looked", [True, False])
def test_rings_are_not_taken_back_for_what_fewer_system_calls_did_after_them(looked):
    """Those saved less of the losses than their share of the events."""
    after = later("syscalls", {"repair": True, "custom_set": []}, {"repair": False, "custom_set": []}, looked)
    after.pair = bursts(1250000, 6720000)
    assert plan(after, **KEEP)["changes"] == []


@pytest.mark.parametrize("looked", [True, False])
def test_a_step_that_was_seen_to_help_stays_when_the_load_falls(looked):
    """A tenth of a smaller burst is lost: by that alone, the rings might have done nothing."""
    after = later("quota", {"CPUQuota": ""}, {"CPUQuota": None}, looked)
    after.pair = bursts(640000, 6400000)
    found = plan(after, **KEEP)["step"]
    assert ("buffers" in found["undoes"] if found else False) is not looked


def test_rings_that_came_with_fewer_system_calls_are_judged_by_the_kernels_count_of_calls():
    """What Falco counts is a sixth less, and as much of it is lost in a burst: with the rings of before it would be more."""
    start = host(COOL, pair=bursts(2000000, 8000000), **SMALL)
    made = fewer(start)
    assert made["step"]["name"] == "buffers" and [part["step"] for part in made["step"]["also"]] == ["syscalls"]
    after = again(start, made, COOL)
    after.pair = bursts(1200000, 6670000)
    assert fewer(after)["changes"] == []
    after.pair = bursts(1660000, 6670000)
    assert "buffers" in fewer(after)["step"]["undoes"], "25 % of a burst is lost, as before"


# --- given back


def starved_then_quiet(rate, waiting, days=8.0):
    """A host that got priority, and has been quiet for days."""
    start = host(STARVED, drops=84000)
    seconds = days * 86400
    cured = again(start, plan(start), {"on": seconds / 10, "waiting": waiting * seconds, "throttled": None}, events=rate * 1000,
                  since_start=seconds)
    cured.age = seconds
    return cured


def test_priority_is_given_back_where_falco_hardly_waits():
    made = plan(starved_then_quiet(100, 0.01))
    assert unit(made) == {"Nice": None} and made["step"]["name"] == "give_back" and made["step"]["undoes"] == []
    assert "not one event was lost in 8 days" in made["step"]["why"] and made["restart_required"]
    assert plan(starved_then_quiet(100, 0.19))["changes"] == [], "its neighbours are still there"
    assert plan(starved_then_quiet(100, 0.01, days=6))["changes"] == []
    assert plan(starved_then_quiet(100, 0.01), quiet_days=0)["changes"] == []


def test_priority_that_had_to_come_back_is_given_back_only_under_a_smaller_load():
    quiet = starved_then_quiet(100, 0.01)
    without = again(quiet, plan(quiet), STARVED, drops=84000)
    assert unit(plan(without)) == {"Nice": -10}
    restored = again(without, plan(without), {"on": 60000.0, "waiting": 5000.0, "throttled": None},
                     events=100 * 8 * 86400, since_start=8 * 86400.0)
    restored.age = 8 * 86400.0
    assert plan(restored)["changes"] == []


def test_buffers_that_helped_are_given_back_once_the_load_has_fallen():
    start = host(COOL, drops=5000, **LARGE)
    calm = again(start, plan(start), COOL, events=2000, since_start=WEEK * 2)
    calm.age = WEEK * 2
    # The week's mean is what counts, and the paper host counted little in it.
    made = plan(calm)
    assert change(made, PRESET)["to"] == 4 and made["step"]["undoes"] == []


def test_a_clock_that_was_set_makes_no_quiet_days():
    quiet = host(COOL, 9, drops=0, since_start=WEEK + 1, **LARGE)
    assert change(plan(quiet), PRESET)["to"] == 7
    quiet.age = 3600.0
    assert plan(quiet)["changes"] == []


# --- a closing look


def test_a_closing_look_takes_back_and_takes_no_step():
    start = host(COOL, drops=5000, **LARGE)
    made = plan(start, **KEEP)
    same, better = again(start, made, COOL, drops=4900), again(start, made, COOL, drops=2500)
    closing = planner.make(same.facts(), KEEP, closing=True)
    assert change(closing, PRESET)["to"] == 4 and closing["step"]["undoes"] == ["buffers"]
    closing = planner.make(better.facts(), KEEP, closing=True)
    assert closing["changes"] == [] and closing["step"] is None and closing["verdict"]["answer"] is None
    assert planner.make(better.facts(), KEEP)["step"]["name"] == "buffers"
