# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Demand, capacity and factor of the thread that reads events, and what each lost event is put down to."""

import csv
import os
from pathlib import Path

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import capacity, policies, verdicts
from ansible_collections.falcotune.fleet.tests.unit.hosts import ROOT, Host, measured
from hypothesis import given
from hypothesis import strategies as st

RECORDED = Path(os.environ.get("FALCOTUNE_RECORDINGS", ROOT.parent / "shared" / "recordings")) / "drops" / "cpu_starved.csv"


def cpu(on, waiting=0.0, throttled=None):
    """Shares of the time, as seconds of 1000."""
    return {"on": 1000.0 * on, "waiting": 1000.0 * waiting, "throttled": None if throttled is None else 1000.0 * throttled}


def host(use, lost, events=1000000, **changes):
    return Host(age=1000.0, cpu=use, pair=measured(events=events, drops=int(events * lost)), **changes)


def found(*arguments, **changes):
    facts = host(*arguments, **changes).facts()
    return capacity.of(facts, capacity.use(facts))


def judge(paper, **given):
    return verdicts.judge(paper.facts(), policies.complete(given))


def test_no_idle_time_is_saturated_and_the_factor_says_by_how_much():
    """The real Falco with 60 heavy rules: 82 % on a CPU, 18 % waiting, 94 % lost."""
    model = found(cpu(0.82, 0.18), 0.94, cpus=2)
    assert (model["demand"], model["idle"]) == (1000.0, pytest.approx(0.0, abs=0.3))
    assert model["capacity"] == pytest.approx(1000 * 0.06 / 0.82, rel=0.003)
    assert model["factor"] == pytest.approx(13.67, rel=0.01)
    assert model["lost"]["overload"] > 85 and model["lost"]["bursts"] < 0.1
    verdict = judge(host(cpu(0.82, 0.18), 0.94, cpus=2))
    assert (verdict["bottleneck"], verdict["next_step"]) == ("consumer", "syscalls")
    assert "buffer" not in verdict["also"]


def test_a_starved_falco_is_worth_a_cpu_of_its_own():
    """The real one beside ten busy processes: 14 % on, 86 % waiting, 91 % lost, and 8 % or nothing with priority."""
    verdict = judge(host(cpu(0.14, 0.86), 0.91, cpus=2))
    model = verdict["capacity"]
    assert verdict["bottleneck"] == "starved" and verdict["next_step"] == "priority"
    assert model["factor"] > 1 and model["factor_alone"] < 1, "what Falco gets, the neighbours that make the events lose"
    assert capacity.lost_after(model, alone=True) == 0
    # With many CPUs the neighbours lose next to nothing.
    assert found(cpu(0.14, 0.86), 0.91, cpus=64)["factor_alone"] > 1


@pytest.mark.skipif(not RECORDED.exists(), reason="no recordings here")
def test_the_recorded_capacity_is_the_same_starved_or_not():
    with open(RECORDED, encoding="utf-8") as stream:
        rows = list(csv.DictReader(line for line in stream if not line.startswith("#")))
    found_ones = []
    for row in rows:
        events, drops = int(row["n_evts"]), int(row["n_drops"]) or int(row["n_evts"]) // 1000
        use = cpu(float(row["falco_on_cpu_perc"]) / 100, float(row["falco_run_queue_wait_perc"]) / 100)
        paper = Host(age=1000.0, cpu=use, cpus=2, pair=measured(events=events, drops=drops, seconds=15.0)).facts()
        model = capacity.of(paper, capacity.use(paper))
        found_ones.append(model["capacity"])
        if row["nice"] == "0":
            assert model["lost"]["waiting"] > 0.95 * float(row["drop_perc"]) and model["factor_alone"] < 1, row
    assert max(found_ones) < 1.3 * min(found_ones), found_ones


def test_starved_and_saturated_are_told_together():
    verdict = judge(host(cpu(0.14, 0.86), 0.991, cpus=64))
    assert verdict["bottleneck"] == "consumer" and verdict["capacity"]["factor_alone"] == pytest.approx(15.4, rel=0.05)
    verdict = judge(host(cpu(0.3, 0.7), 0.8, cpus=64))
    assert (verdict["bottleneck"], verdict["also"]) == ("starved", ["consumer"])
    assert any("saturated even with a whole CPU: 1.48 times too many events" in reason for reason in verdict["reasons"])


def test_a_quota_is_a_part_of_the_same_model():
    quota = found(cpu(0.5, 0.5, 0.5), 0.3, quota=50.0)
    assert quota["throttled"] == pytest.approx(50.0, abs=0.3) and quota["factor"] < 1
    assert quota["lost"]["quota"] == pytest.approx(30, abs=0.5)
    # Sixteen times too many events: the quota is the smallest of its troubles.
    verdict = judge(host(cpu(0.5, 0.5, 0.5), 0.97, quota=50.0))
    assert verdict["bottleneck"] == "consumer" and verdict["capacity"]["factor"] > 10


def test_idle_time_is_bursts():
    model = found(cpu(0.3, 0.02), 0.08)
    assert model["lost"]["bursts"] == pytest.approx(8.0) and model["idle"] == pytest.approx(68.0, abs=0.3)


def test_the_thread_that_reads_events_counts_and_not_the_process():
    reader = {"total_on": 820.0, "total_waiting": 180.0}
    busy_others = cpu(1.4, 0.3)
    model = found(busy_others, 0.5, reader=reader)
    assert (model["on"], model["waiting"]) == (pytest.approx(82.0, abs=0.3), pytest.approx(18.0, abs=0.3))


def intervals(*worst, count=30, losing=None):
    return {"count": count, "losing": losing or len(worst), "worst": [
        {"ns": int(seconds * 1e9), "events": events, "drops": drops} for seconds, events, drops in worst]}


def test_a_load_that_lasts_is_no_burst_however_quiet_the_rest_of_the_hour_was():
    """Ten minutes of four times too much in a quiet hour: 33 % on a CPU on average."""
    pair = measured(events=2_500_000, drops=1_800_000, seconds=3600.0)
    pair["intervals"] = intervals(*[(30.0, 120_000, 90_000)] * 8, count=120, losing=20)
    use = {"on": 700.0, "waiting": 0.0, "throttled": None}
    verdict = judge(Host(age=3600.0, cpu=use, pair=pair))
    assert verdict["bottleneck"] == "consumer" and verdict["capacity"]["factor"] == pytest.approx(4.0, rel=0.02)
    assert verdict["capacity"]["seconds"] == 240.0
    # The same average, and no more than its share in each interval: bursts within the intervals.
    pair["intervals"] = intervals(*[(30.0, 20_840, 15_000)] * 8, count=120, losing=120)
    assert judge(Host(age=3600.0, cpu=use, pair=pair))["capacity"]["factor"] < 1


@pytest.mark.parametrize("wrong", [
    None, {}, {"count": 1, "losing": 2, "worst": []}, {"count": 2, "losing": 1, "worst": [{}]}, {"count": 2, "losing": 1, "worst": "x"},
    {"count": 2, "losing": 1, "worst": [{"ns": 10 ** 9, "events": 5, "drops": 9}]},
    {"count": 2, "losing": 1, "worst": [{"ns": 10 ** 9, "events": 10 ** 12, "drops": 9}]},
    {"count": 2, "losing": 1, "worst": [{"ns": -1, "events": 10, "drops": 9}]}])
def test_intervals_that_do_not_fit_are_not_believed(wrong):
    pair = measured(events=1000, drops=500)
    pair["intervals"] = wrong
    assert Host(pair=pair).facts()["metrics"]["losing"] is None


def test_nothing_is_claimed_without_losses_or_cpu_time():
    assert found(cpu(0.5), 0.0) is None
    assert found(cpu(0.0), 0.5) is None
    assert found(cpu(0.5), 1.0) is None


@given(on=st.floats(0.01, 1.0), waiting=st.floats(0, 1.0), lost=st.floats(0.001, 0.999), cpus=st.integers(1, 256),
       quota=st.none() | st.floats(10, 400), throttled=st.none() | st.floats(0, 1.0))
def test_the_parts_add_up_to_the_loss(on, waiting, lost, cpus, quota, throttled):
    model = found(cpu(on, waiting, throttled), lost, cpus=cpus, quota=quota)
    parts = model["lost"]
    assert all(part >= 0 for part in parts.values())
    assert sum(parts.values()) == pytest.approx(100 * lost, abs=0.2)
    assert model["on"] + model["waiting"] + model["idle"] == pytest.approx(100, abs=0.5)
    assert model["factor_alone"] <= model["factor"] + 0.001
    # Larger buffers never save what a whole CPU could not read.
    assert parts["bursts"] <= model["idle"] / max(model["factor"], 0.001) + 0.5


def hot(lost, drops=50000, count=None, **changes):
    """A host of 16 CPUs whose CPUs lost so many events."""
    pair = measured(events=1000000, drops=drops)
    pair["cpus"] = {"count": count or len(lost), "worst": [list(item) for item in lost]}
    return Host(age=1000.0, cpu=cpu(0.3, 0.02), cpus=16, pair=pair, **changes)


def test_one_hot_ring_is_told_by_the_counters_of_each_cpu():
    verdict = judge(hot([(5, 48000), (11, 2000)]))
    assert "CPUs 4 to 5 lost most of the events: their ring buffer is full while the others have room" in verdict["reasons"]
    assert verdict["bottleneck"] == "buffer"
    for lost in ([(5, 25000), (11, 25000)], []):
        assert not any("lost most" in reason for reason in judge(hot(lost, count=16))["reasons"])


@pytest.mark.parametrize("wrong", [None, [], {"count": 1}, {"count": 1, "worst": [[1]]}, {"count": 1, "worst": [[1, 2], [3, 4]]},
                                   {"count": 2, "worst": [["a", 2]]}, {"count": 1, "worst": [[1, 10 ** 9]]},
                                   {"count": 1, "worst": [[10 ** 6, 5]]}])
def test_counters_of_cpus_that_do_not_fit_are_not_believed(wrong):
    pair = measured(events=1000, drops=500)
    pair["cpus"] = wrong
    assert Host(pair=pair).facts()["metrics"]["losing_cpus"] is None


# Looks at a real 0.44.1 on two CPUs, twenty seconds after its start (tests/load): CPU seconds of the process and of its reading thread,
# percent in a look of a second, Falco's own figure over the window and its error, events and lost ones in so many seconds.
REAL = [
    ("beside ten busy processes", (3.619, 15.53), (3.613, 15.079), (11.67, 87.75), (11.7, 2.2), (6121821, 2093130, 12.024), "starved"),
    ("60 heavy rules", (12.431, 6.434), (12.424, 6.256), (67.97, 32.0), (63.9, 0.4), (4184509, 3768541, 13.0), "consumer"),
    ("60 heavy rules beside ten busy processes", (4.229, 15.827), (4.223, 15.105), (12.03, 91.34), (11.6, 2.9),
     (6132891, 6075595, 12.019), "consumer"),
]


@pytest.mark.parametrize("name, process, reader, look, own, counted, bottleneck", REAL, ids=[row[0] for row in REAL])
def test_looks_at_a_real_falco(name, process, reader, look, own, counted, bottleneck):
    events, drops, seconds = counted
    facts = Host(age=20.0, cpus=2, cpu={"on": process[0], "waiting": process[1], "throttled": None},
                 reader={"on": look[0], "waiting": look[1], "total_on": reader[0], "total_waiting": reader[1]},
                 pair=measured(events=events, drops=drops, seconds=seconds)).facts()
    facts["falco"]["cpu"].update(on=look[0], waiting=look[1], seconds=1.0)
    facts["metrics"].update(falco_cpu_percent=own[0], falco_cpu_error=own[1])
    verdict = verdicts.judge(facts, policies.complete({"min_observation": 5}))
    model = verdict["capacity"]
    assert (verdict["state"], verdict["bottleneck"]) == ("dropping", bottleneck)
    assert model["capacity"] == pytest.approx(100 * (events - drops) / seconds / look[0], rel=0.1), "the look says the same"
    if bottleneck == "starved":
        assert model["factor"] < 0.3 and capacity.lost_after(model, alone=True) == 0 and verdict["next_step"] == "priority"
    else:
        assert model["factor_alone"] > 4 and verdict["next_step"] == "syscalls" and "buffer" not in verdict["also"][:1]


def test_a_load_that_began_after_falco_did_leaves_no_idle_time_for_bursts():
    """A real 0.44.1 beside ten neighbours in sessions of their own, 55 s old, its load some 45 s: its life has idle time, the window has
    none. Larger rings were tried for the bursts that were seen there, lost as much (59.7 %), and were taken back."""
    facts = Host(age=55.0, cpus=2, cpu={"on": 9.4, "waiting": 43.0, "throttled": None}, pair=measured(events=21781051, drops=13025403,
                                                                                                     seconds=36.5)).facts()
    assert "buffer" in verdicts.judge(facts, policies.complete({"min_observation": 20}))["also"]
    facts["falco"]["cpu"].update(on=15.2, waiting=84.4, seconds=1.0)
    facts["falco"]["cpu"]["reader"].update(on=15.2, waiting=84.4)
    verdict = verdicts.judge(facts, policies.complete({"min_observation": 20}))
    assert (verdict["bottleneck"], verdict["also"]) == ("starved", []) and verdict["capacity"]["idle"] < 1
    # What the life cannot hold is not believed of the look: 43 s of waiting in 55 s are 24.5 s at least in the window.
    facts["falco"]["cpu"].update(waiting=1.0)
    facts["falco"]["cpu"]["reader"].update(waiting=1.0)
    assert capacity.use(facts).waiting == pytest.approx(67.1, abs=0.1)
