# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulator's model of CPU time, alone: a starved Falco as it was recorded, quotas as the kernel documents them."""

import json
import os
import statistics
import sys

import pytest

import subject
from subject import recorded as recorded_in

sys.path.insert(0, os.path.dirname(subject.SIMULATOR))

from falcosim.accounting import Accounting, quota_of  # noqa: E402
from falcosim.cputime import Cpu, looking, nice_of_weight, waiting_share  # noqa: E402
from falcosim.profile import Profile  # noqa: E402
from falcosim.rings import Rings  # noqa: E402

pytestmark = pytest.mark.usefixtures("simulator")
MIB = 1 << 20


@pytest.fixture
def model(tmp_path, monkeypatch):
    """model(preset, CPUs for a buffer, what the profile says) gives rings that have not run yet."""
    def make(preset=4, per_ring=2, kind="modern_ebpf", **profile):
        path = tmp_path / "sim.json"
        path.write_text(json.dumps({"nice": 0, **profile}))
        monkeypatch.setenv("FALCO_SIM", str(path))
        read = Profile()
        cpu = Cpu(0.0)
        Accounting(cpu, read).take(read)
        return Rings(read, kind, MIB << (preset - 1), per_ring, {"openat", "close"}, 0.0, cpu=cpu)
    return make


def load(rate, **more):
    return {"events_per_second": rate, "categories": {"open": 0.5, "close": 0.5}, **more}


def percent(part, whole):
    return 100.0 * part / whole


@recorded_in("starved")
def test_a_starved_falco_is_the_recorded_one(recorded, model, falco):
    """Only what was recorded at nice 0 is given: its load, its wait, and the cost of an event."""
    base = subject.load(falco.release, "starved")["nice0"]
    seconds = base["seconds"]
    taken_in = statistics.mean(events - drops for events, drops in zip(base["n_evts"], base["n_drops"])) / seconds
    found = model(
        recorded["buf_size_preset"], recorded["cpus_for_each_buffer"], cpus=recorded["cpus"], nice=recorded["nice"],
        starved=statistics.mean(base["falco_run_queue_wait_perc"]) / 100, load=load(statistics.mean(base["n_evts"]) / seconds),
        consumer_events_per_second=taken_in / statistics.mean(base["falco_on_cpu_perc"]) * 100)
    found.advance(seconds)
    assert percent(found.drops, found.events) == pytest.approx(statistics.mean(recorded["drop_perc"]), abs=2)
    assert percent(found.cpu.on, seconds) == pytest.approx(statistics.mean(recorded["falco_on_cpu_perc"]), abs=5)
    assert percent(found.cpu.waiting, seconds) == pytest.approx(statistics.mean(recorded["falco_run_queue_wait_perc"]), abs=2)
    # What Falco gets, the neighbours lose, and they make the load.
    assert found.events == pytest.approx(statistics.mean(recorded["n_evts"]), rel=0.1)


def test_priority_helps_step_by_step():
    shares = [waiting_share(0.867, nice) for nice in range(19, -21, -1)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] < 1 and shares[19] == 0.867
    assert waiting_share(0.867, -40) == waiting_share(0.867, -20)


@pytest.mark.parametrize("weight,nice", [(100, 0), (125, -1), (931, -10), (10, 10.32), (10000, -20.64)])
def test_a_weight_counts_as_the_nice_value_of_the_same_ratio(weight, nice):
    assert nice_of_weight(weight) == pytest.approx(nice, abs=0.02)


@pytest.mark.parametrize("profile", [
    {"starved": 0.8}, {"cpu_quota": 0.3}, {"starved": 0.5, "cpu_quota": 0.3},
    {"load": load(20000, burst={"events_per_second": 1800000, "seconds": 0.05, "every": 1})},
])
def test_the_result_does_not_depend_on_when_it_is_asked(model, profile):
    whole, pieces = (model(1, **{"cpus": 4, "load": load(200000), **profile}) for _ in range(2))
    whole.advance(7.3)
    at = 0.0
    while at < 7.3:
        at += 0.037
        pieces.advance(min(at, 7.3))
    for one, other in ((whole.events, pieces.events), (whole.drops, pieces.drops), (whole.cpu.on, pieces.cpu.on),
                       (whole.cpu.waiting, pieces.cpu.waiting), (whole.cpu.throttled, pieces.cpu.throttled)):
        assert one == pytest.approx(other, rel=0.02)
    assert whole.drops
    assert (whole.cpu.periods, whole.cpu.limited) == (pieces.cpu.periods, pieces.cpu.limited)


def test_a_thread_is_never_in_two_places(model):
    rings = model(1, cpus=4, starved=0.5, cpu_quota=0.3, load=load(900000))
    for at in range(1, 40):
        rings.advance(at / 8)
        assert rings.cpu.on + rings.cpu.waiting <= at / 8 + 1e-6
        assert rings.cpu.throttled <= rings.cpu.waiting + 1e-9


def test_a_quota_that_binds(model):
    rings = model(cpus=4, cpu_quota=0.2, load=load(300000), consumer_events_per_second=600000)
    rings.advance(3.0)
    before = vars(rings.cpu).copy(), rings.events, rings.drops
    rings.advance(13.0)
    cpu, (then, events, drops) = rings.cpu, before
    assert cpu.periods - then["periods"] == cpu.limited - then["limited"] == 100
    assert cpu.on - then["on"] == pytest.approx(2.0, abs=0.01)
    assert cpu.throttled - then["throttled"] == pytest.approx(8.0, abs=0.01)
    assert cpu.waiting - then["waiting"] == pytest.approx(8.0, abs=0.01), "schedstat counts it as waiting"
    # A fifth of a CPU takes in 120 000 of 300 000 events a second.
    assert percent(rings.drops - drops, rings.events - events) == pytest.approx(60, abs=1)


def test_a_quota_that_does_not_bind(model):
    rings = model(cpus=4, cpu_quota=0.8, load=load(300000), consumer_events_per_second=600000)
    rings.advance(10.0)
    assert rings.cpu.periods == 100
    assert (rings.cpu.limited, rings.cpu.throttled, rings.cpu.waiting, rings.drops) == (0, 0, 0, 0)


def test_a_saturated_thread_waits_for_nobody(model):
    rings = model(cpus=4, load=load(2000000), consumer_events_per_second=600000)
    rings.advance(10.0)
    assert rings.cpu.on == pytest.approx(10.0, abs=0.01)
    assert rings.cpu.waiting == 0
    assert percent(rings.drops, rings.events) > 60


def test_what_page_faults_take_costs_no_time(model):
    rings = model(kind="kmod", cpus=4, page_faults_per_second=5000, load=load(20000), consumer_events_per_second=600000)
    rings.advance(10.0)
    assert rings.page_faults == pytest.approx(0.25 * rings.events, rel=0.01)
    assert rings.drops == 0
    assert rings.cpu.on == pytest.approx(10 * (15000 / 600000 + looking(15000) * (1 - 15000 / 600000)), rel=0.02)


def test_a_thread_that_keeps_up_looks_for_events_as_often_as_they_come_and_no_oftener_than_it_sleeps():
    assert looking(0) == 0.005 and looking(10) == pytest.approx(0.0059, abs=0.0001)
    assert looking(5000) == looking(50000) == pytest.approx(0.026, abs=0.001)
    shares = [looking(rate) for rate in range(0, 4000, 20)]
    assert shares == sorted(shares)


@pytest.mark.parametrize("text,cpus", [("20000 100000\n", 0.2), ("250000 100000\n", 2.5), ("max 100000\n", None), ("", None)])
def test_cpu_max(text, cpus):
    assert quota_of(text) == cpus
