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


def test_each_host_of_a_quiet_fleet_is_visited_once_in_101_runs():
    found, seen = fleet("healthy"), []
    for day in range(101):
        chosen = visits.choose(NAMES, found, [], 1.0, 490000 + 24 * day)
        assert chosen.hosts == chosen.sample and set(chosen.left) == set(NAMES) - set(chosen.hosts)
        seen += chosen.sample
    assert sorted(seen) == NAMES


@pytest.mark.parametrize("hosts", [200, 250, 333, 1999, 2000])
def test_no_run_visits_more_than_a_hundredth_of_a_quiet_fleet(hosts):
    names = NAMES[:hosts]
    visited = [len(visits.choose(names, fleet("healthy", names), [], 1.0, hour).hosts) for hour in range(490000, 490200)]
    assert 1 <= min(visited) and max(visited) <= hosts / 100


def test_suspects_are_visited_beside_the_sample():
    names = NAMES[:200]
    losing = {name: {**monitored.absent("1d"), "state": "dropping"} for name in names[::20]}
    for hour in range(490000, 490101):
        chosen = visits.choose(names, {**fleet("healthy", names), **losing}, [], 1.0, hour)
        assert set(losing) <= set(chosen.hosts) and not set(losing) & set(chosen.sample) and len(chosen.hosts) <= 12


def test_wanted_hosts_are_visited_and_hosts_of_no_fleet_are_not():
    chosen = visits.choose(NAMES, fleet("healthy", [*NAMES, "stranger"]), ["host-0003", "stranger"], 0, 5)
    assert chosen.hosts == chosen.sample == ["host-0003"] and "stranger" not in chosen.left


@pytest.mark.parametrize("percent", [0, 1.0])
@pytest.mark.parametrize("every", [1, 24])
def test_a_report_needs_one_host_and_later_runs_take_others(percent, every):
    names = NAMES[:3]
    runs = [visits.choose(names, fleet("healthy", names), [], percent, 490000 + every * run).hosts for run in range(5)]
    assert all(runs) and {name for run in runs for name in run} == set(names)


def test_a_fleet_without_hosts():
    assert visits.choose([], {}, [], 2.0, 5) == ([], [], {})
