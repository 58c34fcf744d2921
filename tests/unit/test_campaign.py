# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small form of `make campaign`: what it promises of each host holds, and its comparison compares."""

from __future__ import annotations

import random
import sys

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies
from ansible_collections.falcotune.fleet.tests.unit.hosts import ROOT

sys.path.insert(0, str(ROOT / "tests/benchmarks"))

import campaign  # noqa: E402

WINDOW = 180.0
TRIED = ("bursty", "sustained", "starved", "quota-bound", "overloaded", "hot CPU", "mixed")


@pytest.fixture(scope="module")
def tuned():
    chance, found = random.Random(7), {}
    for kind in TRIED:
        subject = campaign.Subject(campaign.generated(kind, chance), window=WINDOW)
        before = subject.seen.percent
        subject.tune()
        found[kind] = (before, subject)
    return found


@pytest.mark.parametrize("kind", TRIED)
def test_no_host_is_worse_off_and_none_loses_a_rule(kind, tuned):
    before, subject = tuned[kind]
    assert subject.seen.percent <= before + 0.5 and subject.blinded == 0
    assert subject.restarts <= 2 and subject.decide()["changes"] == [], "it comes to rest"


@pytest.mark.parametrize("kind", TRIED)
def test_no_step_is_taken_back_where_the_load_stays(kind, tuned):
    """What gains nothing is seen before the restart."""
    assert [step["name"] for step in tuned[kind][1].steps if step["undoes"]] == []


def test_a_starved_host_is_quiet_after_one_restart_and_an_overloaded_one_is_told_so(tuned):
    before, starved = tuned["starved"]
    assert before > 5 and starved.seen.percent < 1 and starved.restarts == 1
    before, busy = tuned["overloaded"]
    assert before > 50 and busy.plan["verdict"]["answer"]["kind"] == "too_busy" and busy.plan["verdict"]["answer"]["factor"] > 2


def test_predictions_come_true_within_a_few_points(tuned):
    off = [abs(subject.steps[-1]["predicted"] - subject.seen.percent) for _before, subject in tuned.values()
           if subject.steps and subject.steps[-1]["predicted"] is not None]
    assert len(off) >= 2 and max(off) < 5


def test_only_the_ends_of_the_grid_need_be_run():
    """No larger ring, no priority, no smaller selection loses more in the model."""
    policy = policies.complete({})
    data = campaign.generated("bursty", random.Random(3))
    few = [setup for setup in campaign.grid(data, policy) if setup.group == 2 and setup.preset in (1, 4, 7)]
    assert len(few) == 12
    lost = {setup: campaign.observed(data, setup, WINDOW).drops for setup in few}
    for setup in few:
        for better in (setup._replace(preset=7), setup._replace(nice=policy["nice_ceiling"]),
                       setup._replace(selected=max(one.selected or () for one in few))):
            assert lost[better] <= lost[setup] + 1, (setup, better)


def test_a_setting_turns_when_the_load_does_and_no_more_often():
    assert campaign.turns([("a", 4), ("a", 6), ("a", 4), ("b", 1)]) == 1 and campaign.turns([("a", 4), ("a", 6), ("a", 7)]) == 0
    month = campaign.month("sustained", random.Random(5), days=8)
    assert month.turns <= month.loads and month.changes <= 3
