# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a step came to on three hosts is known to the plan of a fourth one that is like them, by the history of the audits."""

from __future__ import annotations

import pytest
from conftest import leftovers, starts_of
from playbooks import AUDIT, TUNE, play
from test_rounds import METRICS, QUICK, STARVED, attempts, becomes, by_name, measured

FIRST = ("first-1", "first-2", "first-3")
KEEP = ("-e", "falco_tune_syscalls=keep")


@pytest.fixture(scope="module")
def fleet(fleet_of):
    return fleet_of({name: {"config": METRICS, **STARVED} for name in (*FIRST, "last")}, driver="kmod", measures=None, hostvars=QUICK)


@pytest.fixture(scope="module")
def hosts(fleet):
    found = by_name(fleet)
    for host in found.values():
        measured(host)
    return found


def test_a_step_that_was_in_vain_on_three_hosts_is_not_tried_on_the_fourth(fleet, hosts, tmp_path):
    for name in FIRST:
        # Whatever its priority, it will lose as much.
        becomes(hosts[name], starved=0.0, consumer_events_per_second=110000)
    tuned = play(TUNE, fleet.inventory, "--limit", ",".join(FIRST), *KEEP)
    assert tuned.status == 0, tuned.output
    assert [[item["step"] for item in attempts(hosts[name])] for name in FIRST] == [["priority", "give_back"]] * 3
    told = ("-e", f"falco_audit_report_dir={tmp_path}", "-e", '{"falco_audit_fail_on": []}')
    audited = play(AUDIT, fleet.inventory, "--limit", ",".join(FIRST), *told, *KEEP)
    assert audited.status == 0, audited.output
    starts = starts_of(hosts["last"])
    known = play(TUNE, fleet.inventory, "--limit", "last", "-e", f"falco_tune_history={tmp_path}/history.sqlite", *KEEP)
    assert known.status == 0 and starts_of(hosts["last"]) == starts and attempts(hosts["last"]) == [], known.output
    assert "priority had no effect on 3 of 3 hosts with the same driver, CPUs, release and rules" in known.output
    # By its own record alone it is tried.
    alone = play(TUNE, fleet.inventory, "--limit", "last", *KEEP)
    assert alone.status == 0 and starts_of(hosts["last"]) > starts and attempts(hosts["last"])[0]["step"] == "priority", alone.output
    assert all(leftovers(host) == [] for host in hosts.values())
