# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host is left out only where Prometheus knows that it is healthy."""

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._prometheus import monitored, visits

NAMES = ["host-%04d" % number for number in range(2000)]


def fleet(state, names=NAMES):
    return {name: {**monitored.absent("1d"), "state": state} for name in names}


@pytest.mark.parametrize("state", [state for state in monitored.STATES if state != "healthy"])
def test_every_other_state_is_visited(state):
    found = {**fleet("healthy"), "host-0007": {**monitored.absent("1d"), "state": state}}
    chosen = visits.choose(NAMES, found, [], 0, 5)
    assert chosen.hosts == ["host-0007"] and chosen.sample == [] and set(chosen.left) == set(NAMES) - {"host-0007"}


def test_hosts_that_prometheus_does_not_know_are_visited():
    chosen = visits.choose(NAMES, fleet("healthy", NAMES[:-3]), [], 0, 5)
    assert chosen.hosts == NAMES[-3:] and len(chosen.left) == 1997


def test_each_host_is_in_the_sample_once_in_fifty_days():
    found, seen = fleet("healthy"), []
    for day in range(100, 150):
        chosen = visits.choose(NAMES, found, [], 2.0, day)
        assert chosen.hosts == chosen.sample and 15 < len(chosen.sample) < 75
        seen += chosen.sample
    assert sorted(seen) == NAMES


def test_a_quiet_fleet_is_visited_by_the_hundredth():
    assert len(visits.choose(NAMES, fleet("healthy"), [], 1.0, 5).hosts) <= len(NAMES) / 100 * 1.5


def test_wanted_hosts_are_visited_and_hosts_of_no_fleet_are_not():
    chosen = visits.choose(NAMES, fleet("healthy", [*NAMES, "stranger"]), ["host-0003", "stranger"], 0, 5)
    assert chosen.hosts == chosen.sample == ["host-0003"] and "stranger" not in chosen.left


@pytest.mark.parametrize("percent", [0, 2.0])
def test_a_report_needs_one_host_and_each_day_another_one(percent):
    names = NAMES[:3]
    days = [visits.choose(names, fleet("healthy", names), [], percent, day).hosts for day in range(200, 206)]
    assert all(days) and {name for day in days for name in day} == set(names)


def test_a_fleet_without_hosts():
    assert visits.choose([], {}, [], 2.0, 5) == ([], [], {})
