# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulator's model of rings and CPU time under the loads that a real Falco was measured under (tests/load/record.py).

Of each load only its first run is given to the model: events a second, what an event costs, and for how long Falco waits among
neighbours; of a rule, what twelve cost. What other presets, priorities and rules then come to is the model's own.
"""

import os
import sys

import pytest

import subject
from subject import recorded as recorded_in

sys.path.insert(0, os.path.dirname(subject.SIMULATOR))

from falcosim.cputime import Cpu, waiting_share  # noqa: E402
from falcosim.profile import Profile  # noqa: E402
from falcosim.rings import Rings  # noqa: E402

pytestmark = pytest.mark.usefixtures("simulator")
WITHIN = 0.2
LEAST = 1.5  # percentage points that drops may differ by in any case: with so few lost, one burst more or less counts
BYTES = 80  # of an open and a close on average (recordings of what a ring holds)
OPEN, CLOSE = "openat", "close"


def capacity(run):
    """Events taken in for each second on a CPU."""
    return (run["n_evts"] - run["n_drops"]) / run["on"]


def same_load(run):
    return run["workers"], run["rate"], run["burst"]


def simulated(run, known):
    """The rings and CPU of the model after the seconds of a run."""
    base = next(one for one in known.values() if same_load(one) == same_load(run))
    few, more = known["one worker"], known["one worker 12 rules"]
    # Each rule is evaluated for the opens alone, half of the events.
    rule = 2e9 * (1 / capacity(more) - 1 / capacity(few)) / more["heavy_rules"]
    # What an event costs a Falco that mostly sleeps says more of its sleep.
    event = 1 / capacity(few if run["rate"] else base) - base["heavy_rules"] * rule / 2e9
    rate, (seconds, every) = base["n_evts"] / base["seconds"], run["burst"]
    load = {"events_per_second": rate, "categories": {"open": 0.5, "close": 0.5}, "bytes_per_event": BYTES}
    if every:
        load.update(events_per_second=0, burst={"events_per_second": rate * every / seconds, "seconds": seconds, "every": every})
    crowded = run["workers"] > run["cpus"]
    starved = base["waiting"] / base["seconds"] if crowded else 0.0
    names = ["rule %d" % number for number in range(run["heavy_rules"])]
    profile = Profile({
        "cpus": run["cpus"], "load": load, "rule_nanoseconds": dict.fromkeys(names, rule), "starved": starved, "nice": run["nice"],
        "consumer_events_per_second": 1 / event})
    cpu = Cpu(0.0, waiting_share(starved, run["nice"]) if starved else 0.0)
    cpu.neighbours = starved
    rings = Rings(profile, "modern_ebpf", 1 << (19 + run["buf_size_preset"]), run["cpus_for_each_buffer"], {OPEN, CLOSE}, 0.0, cpu=cpu,
                  rules=[(name, {OPEN}) for name in names])
    rings.advance(15 * every or 20.0)  # its rings are as full as they will be
    before = rings.events, rings.drops, cpu.on
    rings.advance(rings.last + (10 * every or run["seconds"]))
    return {"seconds": 10 * every or run["seconds"], "n_evts": rings.events - before[0], "n_drops": rings.drops - before[1],
            "on": cpu.on - before[2]}


@recorded_in("loads")
def test_the_model_agrees_with_a_real_falco(recorded, falco):
    known = subject.load(falco.release, "loads")
    found = simulated(recorded, known)
    (demand, lost, able), (model_demand, model_lost, model_able) = (
        (one["n_evts"] / one["seconds"], 100.0 * one["n_drops"] / one["n_evts"], capacity(one)) for one in (recorded, found))
    print("demand %.0f, model %.0f; capacity %.0f, model %.0f; %.2f %% lost, model %.2f %%" % (
        demand, model_demand, able, model_able, lost, model_lost))
    assert model_demand == pytest.approx(demand, rel=WITHIN)
    assert model_able == pytest.approx(able, rel=WITHIN)
    assert model_lost == pytest.approx(lost, rel=WITHIN, abs=LEAST)
