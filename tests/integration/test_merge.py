# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several jobs audit parts of a fleet, one job merges them, and the next job of a workflow gets the numbers."""

from __future__ import annotations

import json

import pytest

from playbooks import AUDIT, play

MERGE = "falcotune.fleet.merge_audits"
HOSTS = {"calm": {}, "quiet": {}, "stopped": {"running": False}, "other": {}}
# What AWX gives to a job of a sliced job template: nothing of its slice, but a workflow of the template's name.
SLICED = {"awx_job_template_name": "Audit Falco", "awx_workflow_job_name": "Audit Falco", "awx_workflow_job_id": 4711}


@pytest.fixture(scope="module")
def fleet(fleet_of):
    return fleet_of(HOSTS)


def audit(fleet, folder, *words, **given):
    return play(AUDIT, fleet.inventory, "-e", json.dumps({"falco_audit_report_dir": str(folder), **given}), *words,
                ANSIBLE_SHOW_CUSTOM_STATS="true")


def merge(fleet, folder, **given):
    return play(MERGE, fleet.inventory, "-e", json.dumps({"falco_audit_report_dir": str(folder), **given}),
                ANSIBLE_SHOW_CUSTOM_STATS="true")


def report(folder):
    return json.loads((folder / "report.json").read_text())


def test_slices_of_awx_are_merged_into_one_report_with_one_exit_status(fleet, tmp_path):
    policy = {"falco_audit_fail_on": ["blind"]}
    whole = audit(fleet, tmp_path / "whole", **policy)
    for number, names in enumerate(("calm,stopped", "other,quiet")):
        run = audit(fleet, tmp_path / "parts", "-l", names, awx_job_id=90 + number, **SLICED, **policy)
        # The exit status is that of the whole audit.
        assert run.status == 0 and "falco_audit_id: 4711" in run.output or '"falco_audit_id": "4711"' in run.output, run.output
    assert {path.name for path in (tmp_path / "parts").iterdir()} == {"part-4711-90.jsonl", "part-4711-91.jsonl"}
    run = merge(fleet, tmp_path / "parts", falco_audit_parts=3)
    assert run.status == 2 and "falco_audit_parts is 3" in run.output
    run = merge(fleet, tmp_path / "parts", falco_audit_parts=2, falco_audit_id="4711")
    assert run.status == whole.status == 2 and "1 host is blind" in run.output
    one, many = report(tmp_path / "whole"), report(tmp_path / "parts")
    assert [host["name"] for host in many["hosts"]] == sorted(HOSTS) and many["policy"] == one["policy"]
    for name in ("headline", "hosts", "states", "breaches", "bottlenecks", "next_steps", "restart_required"):
        assert many["fleet"][name] == one["fleet"][name], name
    for mine, theirs in zip(many["hosts"], one["hosts"]):
        for name in ("name", "status", "reason", "release", "driver", "buffers", "plan", "drift"):
            assert mine[name] == theirs[name], name
    assert "headline" in run.output and not list((tmp_path / "parts").glob("part-*"))


def test_a_second_audit_compares_with_the_merged_one(fleet, tmp_path):
    for offset in (1, 2):
        for part, names in (("a", "calm,stopped"), ("b", "other,quiet")):
            assert audit(fleet, tmp_path, "-l", names, falco_audit_part=part, falco_audit_id=str(offset)).status == 0
        assert merge(fleet, tmp_path).status == 0
    found = report(tmp_path)
    assert found["fleet"]["since_last"]["at"] and found["fleet"]["since_last"]["new"] == found["fleet"]["since_last"]["gone"] == []
    assert {len(host["history"]) for host in found["hosts"]} == {2}


def test_a_job_of_another_workflow_is_no_part(fleet, tmp_path):
    run = audit(fleet, tmp_path, "-l", "calm", awx_job_id=7, **{**SLICED, "awx_workflow_job_name": "Nightly"})
    assert run.status == 0 and (tmp_path / "report.json").exists()
