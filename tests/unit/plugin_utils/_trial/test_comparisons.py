# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trials: runs of one test together, and what two tests differ by."""

import json
import statistics

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._trial import comparisons, outcomes, tests
from hypothesis import given
from hypothesis import strategies as st

PLUGINS = tests.complete("plugins")


def run(cpu=50.0, events=1000000, drops=0, memory=100 << 20, state="clean", test=0, **more):
    """The entry of one run of ten seconds."""
    found = {**outcomes.unrun(PLUGINS[test], None, state), "seconds": 10.0, "events": events, "drops": drops,
             "events_per_second": events / 10.0, "rate_per_cpu": events / 40.0, "drops_percent": 100.0 * drops / events if events else None,
             "falco_cpu_percent": cpu, "falco_wait_percent": 1.0, "memory_bytes": memory, **more}
    return {**found, "cpu_per_million": comparisons.cpu_per_million(found)}


def test_cpu_time_counts_for_the_events_that_falco_read():
    assert run()["cpu_per_million"] == 5.0
    assert run(drops=500000)["cpu_per_million"] == 10.0
    assert run(drops=1000000)["cpu_per_million"] is None and run(cpu=None)["cpu_per_million"] is None
    assert run(events=0, drops=0)["cpu_per_million"] is None


def test_runs_of_one_test_are_one_entry():
    losing = run(cpu=60.0, drops=30000, state="dropping", reason="lost", drops_by_category={"open": 30000})
    found = comparisons.combined([run(cpu=40.0), losing])
    assert (found["state"], found["reason"], found["seconds"], found["events"]) == ("dropping", "lost", 20.0, 2000000)
    assert found["drops"] == 30000
    assert (found["falco_cpu_percent"], found["drops_percent"], found["drops_by_category"]) == (50.0, 1.5, {"open": 30000})
    assert [item["falco_cpu_percent"] for item in found["runs"]] == [40.0, 60.0]
    assert set(found) == {*outcomes.EMPTY, *tests.KEYS}


def differing(base, other, **more):
    against = comparisons.combined([run(cpu=cpu) for cpu in base])
    entry = comparisons.combined([run(cpu=cpu, test=1, **more) for cpu in other])
    entry["difference"] = comparisons.difference(entry, against)
    return entry


def test_a_difference_with_its_interval():
    found = differing([50.0, 52.0, 48.0], [40.0, 41.0, 39.0])["difference"]
    assert (found["against"], found["pairs"], found["load_ratio"]) == ("as it is", 3, 1.0)
    cpu = found["cpu_per_million"]
    # Differences of -1.0, -1.1 and -0.9: s = 0.1, t(2) = 4.303.
    assert cpu["mean"] == -1.0 and cpu["percent"] == -20.0 and cpu["certain"]
    half = 4.303 * 0.1 / 3 ** 0.5
    assert cpu["low"] == pytest.approx(-1.0 - half, abs=1e-3) and cpu["high"] == pytest.approx(-1.0 + half, abs=1e-3)
    assert found["drops_percent"]["mean"] == 0 and not found["drops_percent"]["certain"]


def test_a_load_that_grows_is_no_effect():
    """In pairs, what both runs of a pair share cancels out."""
    found = differing([10.0, 20.0, 30.0, 40.0], [10.5, 20.4, 30.6, 40.5])["difference"]["falco_cpu_percent"]
    assert found["mean"] == 0.5 and found["certain"] and found["low"] > 0.3


def test_one_pair_is_no_proof():
    found = differing([50.0], [40.0])["difference"]["cpu_per_million"]
    assert found == {"mean": -1.0, "low": None, "high": None, "percent": -20.0, "certain": False}


def test_without_a_measured_pair_there_is_no_difference():
    base = comparisons.combined([run(), {**run(), "seconds": None}])
    assert comparisons.difference(comparisons.combined([{**run(), "seconds": None}, run()]), base) is None


@pytest.mark.parametrize("entry,said", [
    (differing([50.0, 52.0, 48.0], [40.0, 41.0, 39.0]), [
        "without their rules, compared with as it is in 3 pairs of runs: CPU for each million events: 1 s less (20 %, ",
        "(20 %, 95 %: -1.25 s to -0.752 s)",
        "events lost: no difference"]),
    (differing([50.0, 51.0], [50.5, 50.1]), ["not certain"]),
    (differing([50.0], [40.0], memory=60 << 20), ["in 1 pair of runs", "memory: 40 MiB less (40 %)"]),
    (differing([50.0], [50.0], drops=10000), ["events lost: 1 % more"]),
    (differing([50.0], [50.0], events=2000000), ["differed by a factor of 2, so repeat this"]),
    (differing([50.0], [50.0], rules_removed=["Shell", "Read"]), ["; without the rules Shell, Read"]),
])
def test_words(entry, said):
    told = comparisons.text(entry)
    assert all(part in told for part in said), told


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), min_size=1, max_size=20))
def test_intervals_hold_the_mean_and_are_json(pairs):
    found = differing([one for one, _other in pairs], [other for _one, other in pairs])["difference"]
    json.dumps(found, allow_nan=False)
    item = found["falco_cpu_percent"]
    assert item["mean"] == pytest.approx(statistics.fmean(other - one for one, other in pairs), abs=0.01)
    assert item["low"] is None or item["low"] <= item["mean"] <= item["high"]
