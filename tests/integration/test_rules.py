# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules: an audit says what they cost, policy disables some of them, a rollback brings them back; and rules files alone."""

from __future__ import annotations

import json

import pytest

from conftest import falco_files
from playbooks import AUDIT, ROLLBACK, TUNE, play

AUDIT_RULES = "falcotune.fleet.audit_rules"
SITE = """\
- rule: Anything by a miner
  desc: A program of this name does anything at all.
  condition: proc.cmdline contains xmrig and proc.name != grep
  output: Miner (command=%proc.cmdline)
  priority: NOTICE
  tags: [site]
"""
HOSTS = {"plain": {}, "plain-too": {}, "site": {"files": {"etc/falco/rules.d/site.yaml": SITE}}}
POLICY = json.dumps({"falco_tune_disabled_findings": ["no_evttype"], "falco_tune_min_healthy_time": 1})


@pytest.fixture(scope="module")
def fleet(fleet_of):
    return fleet_of(HOSTS)


@pytest.fixture(scope="module")
def site(fleet):
    return next(host for host in fleet.hosts if host.name == "site")


def test_an_audit_names_a_rule_without_event_types_and_its_cost(fleet, tmp_path):
    run = play(AUDIT, fleet.inventory, "-e", json.dumps({
        "falco_audit_rule_costs": True, "falco_tune_profile_seconds": 0, "falco_audit_report_dir": str(tmp_path)}))
    assert run.status == 0, run.output
    report = json.loads((tmp_path / "report.json").read_text())
    rules = {host["name"]: host["rules"] for host in report["hosts"]}
    assert rules["plain"]["digest"] == rules["plain-too"]["digest"] != rules["site"]["digest"]
    heaviest = rules["site"]["weights"][0]
    assert heaviest["rule"] == "Anything by a miner" and heaviest["share"] > 50 and heaviest["events"] == []
    assert ("no_evttype", "Anything by a miner") in [(item["kind"], item["rule"]) for item in rules["site"]["findings"]]
    assert "no_evttype" not in str(rules["plain"])
    # One finding on many hosts is one line, and the host that differs is named.
    assert run.output.count("no_evttype: Anything by a miner") == 1 and "Rules of 3 hosts: 2 versions" in run.output
    assert "Anything by a miner" in (tmp_path / "report.html").read_text()


def test_without_the_question_no_host_is_asked_for_its_rules(fleet, tmp_path):
    run = play(AUDIT, fleet.inventory, "-e", json.dumps({"falco_audit_report_dir": str(tmp_path)}))
    assert [host["rules"] for host in json.loads((tmp_path / "report.json").read_text())["hosts"]] == [None] * 3, run.output


def test_policy_disables_the_finding_and_a_rollback_brings_the_rule_back(fleet, site):
    # Another tune first, so that what follows changes the rules alone.
    assert play(TUNE, fleet.inventory, "--limit", "site", "-e", '{"falco_tune_min_healthy_time": 1}').failures == {}
    before = falco_files(site)
    check = play(TUNE, fleet.inventory, "--limit", "site", "--check", "--diff", "-e", POLICY)
    assert check.changed == {"site"} and falco_files(site) == before
    assert "these rules no longer alert, by policy: Anything by a miner (notice, tags site; finding no_evttype)" in check.output
    run = play(TUNE, fleet.inventory, "--limit", "site", "-e", POLICY)
    assert run.failures == {} and run.changed == {"site"}, run.output
    assert "Anything by a miner" in (site.root / "etc/falco/config.d/zz-falcotune.yaml").read_text()
    assert play(TUNE, fleet.inventory, "--limit", "site", "-e", POLICY).changed == set()
    assert play(ROLLBACK, fleet.inventory, "--limit", "site").failures == {}
    assert falco_files(site) == before


def test_rules_files_alone_pass_or_fail_by_policy(fleet, site):
    path = str(site.root / "etc/falco/rules.d/site.yaml")
    passed = play(AUDIT_RULES, fleet.inventory, "-e", json.dumps({"falco_rules_files": [path]}))
    assert passed.status == 0 and path + ":1: warning: Anything by a miner" in passed.output
    failed = play(AUDIT_RULES, fleet.inventory, "-e", json.dumps({"falco_rules_files": [path], "falco_rules_fail_on": ["no_evttype"]}))
    assert failed.status != 0 and "no_evttype" in failed.output
