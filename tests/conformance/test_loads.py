# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulator's model of rings and CPU time under the loads that a real Falco was measured under (tests/load/record.py).

All figures are medians of repeated runs. Of each load the model is given what its runs at nice 0 with the fewest rules tell, whatever
their rings: events a second, what an event costs, and for how long Falco waits among neighbours; and of a rule, what twelve cost. What
rings, priorities and rules then come to is the model's own.
"""

import os
import statistics
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


def demand(run):
    """Events a second."""
    return run["n_evts"] / run["seconds"]


def capacity(run):
    """Events taken in for each second on a CPU."""
    return (run["n_evts"] - run["n_drops"]) / run["on"]


def lost(run):
    """Percent of the events."""
    return 100.0 * run["n_drops"] / run["n_evts"]


def median(figure, runs):
    return statistics.median(figure(run) for run in runs)


def same_load(runs):
    return runs[0]["workers"], runs[0]["rate"], runs[0]["burst"]


def simulated(runs, known):
    """What the model counts in the seconds of a run."""
    run, alike = runs[0], [one for name in known.values() if same_load(name) == same_load(runs) for one in name if one["nice"] == 0]
    rules = min(one["heavy_rules"] for one in alike)
    base = [one for one in alike if one["heavy_rules"] == rules]
    few, more = known["one worker"], known["one worker 12 rules"]
    # Each rule is evaluated for the opens alone, half of the events.
    rule = 2 * (1 / median(capacity, more) - 1 / median(capacity, few)) / more[0]["heavy_rules"]
    # What an event costs a Falco that mostly sleeps says more of its sleep.
    event = 1 / median(capacity, few if run["rate"] else base) - rules * rule / 2
    rate, (seconds, every) = median(demand, base), run["burst"]
    load = {"events_per_second": rate, "categories": {"open": 0.5, "close": 0.5}, "bytes_per_event": BYTES}
    if every:
        load.update(events_per_second=0, burst={"events_per_second": rate * every / seconds, "seconds": seconds, "every": every})
    waits = median(lambda one: one["waiting"] / one["seconds"], base) if run["workers"] > run["cpus"] else 0.0
    names = ["rule %d" % number for number in range(run["heavy_rules"])]
    profile = Profile({"cpus": run["cpus"], "load": load, "starved": waits, "consumer_events_per_second": 1 / event,
                       "rule_nanoseconds": dict.fromkeys(names, 1e9 * rule)})
    cpu = Cpu(0.0, waiting_share(waits, run["nice"]) if waits else 0.0)
    cpu.neighbours = waits
    rings = Rings(profile, "modern_ebpf", 1 << (19 + run["buf_size_preset"]), run["cpus_for_each_buffer"], {"openat", "close"}, 0.0,
                  cpu=cpu, rules=[(name, {"openat"}) for name in names])
    span = 10 * every or run["seconds"]
    rings.advance(span)  # its rings are as full then as they will be
    before = rings.events, rings.drops, cpu.on
    rings.advance(2 * span)
    return {"seconds": span, "n_evts": rings.events - before[0], "n_drops": rings.drops - before[1], "on": cpu.on - before[2]}


@recorded_in("loads")
def test_the_model_agrees_with_a_real_falco(recorded, falco):
    model = simulated(recorded, subject.load(falco.release, "loads"))
    figures = [(median(figure, recorded), figure(model)) for figure in (demand, capacity, lost)]
    print("real and model: demand %.0f %.0f, capacity %.0f %.0f, lost %.2f %% %.2f %%" % tuple(sum(figures, ())))
    for real, modelled in figures[:2]:
        assert modelled == pytest.approx(real, rel=WITHIN)
    assert figures[2][1] == pytest.approx(figures[2][0], rel=WITHIN, abs=LEAST)
