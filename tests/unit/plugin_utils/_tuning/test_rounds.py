# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts are looked at again in the same run, when, and what may follow."""

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies, rounds
from ansible_collections.falcotune.fleet.tests.unit.hosts import Host
from ansible_collections.falcotune.fleet.tests.unit.plugin_utils._tuning.test_steps import COOL, STARVED, WEEK, host, plan


def after(made, this=None, **given):
    return rounds.following(made, policies.complete(given), this, 30.0, 1000.0)


UNMEASURED, STEP, QUIET = plan(Host()), plan(host(STARVED, drops=84000)), plan(host(COOL, 9, drops=0, since_start=WEEK + 1))


def test_by_default_only_a_step_against_losses_is_looked_at_again():
    assert after(UNMEASURED) is None and after(QUIET) is None
    assert after(STEP) == {"number": 1, "closing": True, "not_before": 1091.0, "seconds": 91.0}


def test_with_more_rounds_whatever_was_changed_is_observed():
    assert after(UNMEASURED, rounds=2) == {"number": 2, "closing": False, "not_before": 1091.0, "seconds": 91.0}
    second = after(STEP, rounds=2)
    assert second["number"] == 2 and not second["closing"]
    assert after(STEP, second, rounds=2)["closing"] is True
    assert after(STEP, after(STEP, second, rounds=2), rounds=2) is None, "a closing look is the last"


def test_nobody_is_waited_for_without_end():
    assert after(STEP, min_observation=3600, window="2h") is None, "the next run goes on with this host"
    found = rounds.given({"number": 2, "closing": False, "not_before": 1e12, "seconds": 1e9})
    assert rounds.wait(found, 1000.0) == rounds.LONGEST_WAIT


@pytest.mark.parametrize("now, seconds", [(1000.0, 91.0), (1050.0, 41.0), (2000.0, 0.0), (-1e9, 91.0)])
def test_a_controllers_clock_that_jumps_makes_no_long_wait(now, seconds):
    assert rounds.wait(after(STEP), now) == seconds


@pytest.mark.parametrize("value", [None, "x", {}, {"number": "x", "seconds": 5}, [1], {"number": 2}])
def test_what_is_no_round_is_the_first_one(value):
    assert rounds.given(value) is None and rounds.wait(None, 5.0) == 0


def test_without_counters_nothing_can_be_judged():
    assert after(dict(STEP, metrics_file=None)) is None
