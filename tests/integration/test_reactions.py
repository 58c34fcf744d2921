# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook that ansible-rulebook runs for an alert: it reaches the host of the alert, and no other, whatever the alert says."""

from __future__ import annotations

import json

import pytest

from playbooks import play

REACT = "falcotune.fleet.react_falco"


@pytest.fixture(scope="module")
def fleet(fleet_of):
    return fleet_of({"web-01": {}, "web-02": {}, "db-01": {}})


def react(fleet, folder, labels, reaction="audit", **more):
    """As ansible-rulebook passes an alert: in the extra variable ansible_eda."""
    given = {"ansible_eda": {"event": {"alert": {"labels": labels, "status": "firing"}}, "rule": "A host loses events"},
             "falco_react_with": reaction, "falco_audit_report_dir": str(folder / "reports"), **more}
    return play(REACT, fleet.inventory, "-e", json.dumps(given))


def test_an_audit_is_of_the_host_of_the_alert_alone(fleet, tmp_path):
    run = react(fleet, tmp_path, {"alertname": "FalcoSeesNoEvents", "instance": "web-02:8765"})
    assert run.status == 0, run.output
    assert {line["host"] for line in run.sent} == {"web-02"} and run.changed <= {"localhost", "web-02"}
    report = json.loads((tmp_path / "reports" / "report.json").read_text())
    assert [host["name"] for host in report["hosts"]] == ["web-02"]


def test_a_tune_is_of_the_host_of_the_alert_alone_and_keeps_to_its_change_window(fleet, tmp_path):
    labels = {"alertname": "FalcoDropsEvents", "instance": "db-01:8765"}
    run = react(fleet, tmp_path, labels, "tune", falco_tune_restart_ok=False)
    assert run.status == 0, run.output
    assert {line["host"] for line in run.sent} == {"db-01"} and "falco_tune_restart_ok is false" in " ".join(run.output.split())
    run = react(fleet, tmp_path, labels, "tune")
    assert run.status == 0, run.output
    assert {line["host"] for line in run.sent} == {"db-01"} and run.changed == {"db-01"}


@pytest.mark.parametrize("reaction", ["audit", "tune"])
@pytest.mark.parametrize("instance", ["all", "web*", "!db-01", "web-01:web-02", "ungrouped", "nobody:8765"])
def test_a_pattern_reaches_no_host(fleet, tmp_path, instance, reaction):
    run = react(fleet, tmp_path, {"alertname": "FalcoDropsEvents", "instance": instance}, reaction)
    assert run.status != 0 and not run.sent and "alert" in run.failure("localhost")


def test_a_template_in_a_label_is_not_evaluated(fleet, tmp_path):
    proof = tmp_path / "proof"
    template = "{{ lookup('ansible.builtin.pipe', 'touch %s') }}" % proof
    run = react(fleet, tmp_path, {"alertname": "FalcoDropsEvents", "instance": template, "job": template})
    assert run.status != 0 and not run.sent
    run = react(fleet, tmp_path, {"alertname": template, "instance": "web-01:8765", "job": template}, "tune")
    assert run.status == 0 and {line["host"] for line in run.sent} == {"web-01"}
    assert not proof.exists()
