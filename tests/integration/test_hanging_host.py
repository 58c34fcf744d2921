# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host whose Python never answers: it is failed by name, and the others' report is complete."""

from __future__ import annotations

import json

import pytest

from playbooks import AUDIT, ROLLBACK, TRIAL, TUNE, play

# Long enough to outlast the run, short enough not to be left behind for ever.
HANGS = "#!/bin/sh\nexec sleep 120\n"
SECONDS = 12
QUICK = {"falco_tune_prometheus_seconds": 1, "falco_tune_profile_seconds": 0,
         "falco_tune_healthy_deadline": 30, "falco_tune_min_healthy_time": 1}


@pytest.fixture(scope="module")
def fleet(fleet_of):
    fleet = fleet_of({"hangs": {"hostvars": dict(QUICK, falco_tune_round_trip_seconds=SECONDS)}, "well": {"hostvars": QUICK}})
    host = next(host for host in fleet.hosts if host.name == "hangs")
    (host.root / "usr/bin/python3").write_text(HANGS)
    return fleet


def test_an_audit_reports_without_it(fleet, tmp_path):
    run = play(AUDIT, fleet.inventory, "-e", f"falco_audit_report_dir={tmp_path / 'reports'}")
    assert run.status == 0, run.output
    found = {host["name"]: host for host in json.loads((tmp_path / "reports/report.json").read_text())["hosts"]}
    assert (found["hangs"]["status"], found["well"]["status"]) == ("failed", "ok")
    assert "imed out after %d second" % SECONDS in json.dumps(found["hangs"]), found["hangs"]


def test_a_rollout_changes_the_others_and_fails_it_by_name(fleet):
    run = play(TUNE, fleet.inventory)
    assert "imed out after %d second" % SECONDS in run.failure("hangs") and run.status != 0
    assert run.result_of("well")["outcome"] == "done", run.output


def test_a_trial_reports_without_it(fleet, tmp_path):
    """It hangs in the first round trip, or once it was looked at."""
    tests = {"falco_trial_tests": [{"name": "one", "custom_set": [], "repair": True}]}
    options = ("-e", "falco_trial_seconds=5", "-e", f"falco_trial_report_dir={tmp_path / 'trials'}",
               "-e", "falco_trial_max_load_per_cpu=1000", "-e", json.dumps(tests))
    run = play(TRIAL, fleet.inventory, *options)
    found = {host["name"]: host for host in json.loads((tmp_path / "trials/trial.json").read_text())["hosts"]}
    assert (found["hangs"]["status"], found["well"]["status"]) == ("failed", "ok") and found["well"]["trial"], run.output
    assert "imed out after %d second" % SECONDS in json.dumps(found["hangs"]), found["hangs"]


def test_a_rollback_fails_it_by_name_and_rolls_the_others_back(fleet):
    # A change is waited for as long as it can take, so this host's deadline is set to the least.
    run = play(ROLLBACK, fleet.inventory, "-e", "__falco_tune_change_timeout=15")
    assert "imed out after 15 second" in run.failure("hangs") and run.status != 0
    assert run.failure("well") is None and "well" in run.changed
