# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trials of rules and plugins: what they cost, under the same load, with and without."""

from __future__ import annotations

import json

import pytest

from conftest import everything, starts_of, unit
from playbooks import play
from test_trial import left

TRIAL_RULES = "falcotune.fleet.trial_rules"
SITE = """\
- required_plugin_versions:
  - name: container
    version: 0.4.0
- macro: in_container
  condition: (container.id != host)
- rule: File opened in a container
  desc: Anything is opened in a container.
  condition: evt.type in (open, openat, openat2) and in_container and fd.name contains never
  output: opened (file=%fd.name container=%container.name)
  priority: NOTICE
  tags: [site]
- rule: Heavy
  desc: A rule without need that looks at every open.
  condition: evt.type in (open, openat, openat2) and proc.aname contains never
  output: heavy (file=%fd.name)
  priority: NOTICE
  tags: [site, heavy]
"""
PLUGIN = """\
plugins:
  - name: container
    library_path: libcontainer.so
    init_config: {secret: hunter2}
load_plugins: [container]
"""
MIB = 1 << 20
PROFILE = {"rule_nanoseconds": {"Heavy": 4000, "File opened in a container": 2000}, "plugin_nanoseconds": {"container": 1000},
           "plugin_bytes": {"container": 64 * MIB}}
CATEGORIES = {"open": 0.5, "close": 0.4, "execve": 0.05, "connect": 0.05}
HOSTS = {
    "new": {"files": {"etc/falco/rules.d/site.yaml": SITE, "etc/falco/config.d/container.yaml": PLUGIN}, "profile": PROFILE},
    # No fragments, no setting `rules`, and -D would take part of a name for all of it.
    "old": {"release": "0.36.2", "files": {"etc/falco/rules.d/site.yaml": SITE[SITE.index("- rule: Heavy"):]}, "profile": PROFILE},
    "refused": {"files": {"etc/falco/rules.d/site.yaml": SITE, "etc/falco/config.d/container.yaml": PLUGIN}},
}
QUICK = {"falco_trial_seconds": 5, "falco_trial_report_dir": "", "falco_trial_max_load_per_cpu": 1000, "falco_trial_repeats": 2}


@pytest.fixture(scope="module")
def fleet(fleet_of):
    return fleet_of(HOSTS, load={"events_per_second": 60000, "categories": CATEGORIES})


@pytest.fixture(scope="module")
def hosts(fleet):
    return {host.name: host for host in fleet.hosts}


def tried(fleet, name, *words, **variables):
    run = play(TRIAL_RULES, fleet.inventory, "--limit", name, "-e", json.dumps({**QUICK, **variables}), *words)
    assert run.status == 0, run.output
    trials = {host: run.result(host, "falco_trial")["ansible_facts"]["falco_trial"] for host in name.split(",")}
    return run, {host: {test["name"]: test for test in trial["tests"]} for host, trial in trials.items()}, trials


def test_what_plugins_and_the_rules_that_need_them_cost(fleet, hosts, tmp_path):
    before = everything(hosts["new"]), unit(hosts["new"])
    run, tests, trials = tried(fleet, "new", falco_trial_report_dir=str(tmp_path))
    new = tests["new"]
    assert trials["new"]["verdict"] == "compared" and [len(test["runs"]) for test in new.values()] == [2, 2, 2], trials
    whole, rules, plugins = new["as it is"], new["without their rules"], new["without plugins"]
    assert (whole["plugins"], rules["plugins"], plugins["plugins"]) == (["container"], ["container"], [])
    assert rules["rules_removed"] == plugins["rules_removed"] == ["File opened in a container"] and whole["rules_removed"] == []
    assert (whole["rules_total"], plugins["rules_total"]) == (7, 6)
    # Half of the events are opens: the rule takes 1 s of a million events, the plugin another one.
    assert rules["difference"]["cpu_per_million"]["mean"] == pytest.approx(-1.0, abs=0.35)
    assert plugins["difference"]["cpu_per_million"]["mean"] == pytest.approx(-1.0, abs=0.35)
    assert plugins["difference"]["against"] == "without their rules"
    assert plugins["difference"]["memory_bytes"]["mean"] == pytest.approx(-64 * MIB, rel=0.02)
    assert abs(rules["difference"]["memory_bytes"]["mean"]) < MIB
    assert "without plugins, compared with without their rules in 2 pairs of runs: CPU for each million events: " in run.output
    assert "as it is: the host's own rules, 5 s beside the host's own Falco, run 2 of 2" in run.output
    assert left(hosts["new"]) == [] and (everything(hosts["new"]), unit(hosts["new"])) == before and starts_of(hosts["new"]) == 1
    assert "hunter2" not in run.output + json.dumps([event["result"] for event in run.events])
    report = json.loads((tmp_path / "trial.json").read_text())
    assert report["hosts"][0]["trial"]["tests"][2]["difference"]["pairs"] == 2
    assert "File opened in a container" in (tmp_path / "trial.html").read_text()


def test_rules_by_name_and_tag_on_a_new_and_an_old_release(fleet, hosts):
    run, tests, _trials = tried(fleet, "new,old", falco_trial_tests=[
        {"name": "by name", "without": {"rules": ["Heavy"]}}, {"name": "by tag", "without": {"tags": ["heavy"]}}])
    for host, found in tests.items():
        for name in ("by name", "by tag"):
            test = found[name]
            assert test["state"] == "clean" and test["against"] == "as it is", (host, test)
            assert test["difference"]["cpu_per_million"]["mean"] == pytest.approx(-2.0, abs=0.6), (host, test)
        assert left(hosts[host]) == []
    assert tests["new"]["by tag"]["rules_removed"] == ["Heavy"]
    assert run.changed == set()


def test_check_mode_measures_nothing_and_names_what_would_be_left_out(fleet, hosts, tmp_path):
    before = everything(hosts["refused"])
    run, tests, trials = tried(fleet, "refused", "--check")
    assert trials["refused"]["verdict"] == "none" and run.changed == set()
    assert tests["refused"]["without plugins"]["rules_removed"] == ["File opened in a container"]
    assert [test["state"] for test in tests["refused"].values()] == ["skipped"] * 3
    assert everything(hosts["refused"]) == before


def test_what_the_host_does_not_have_and_what_falco_refuses(fleet, hosts):
    broken = {"name": "broken", "without": {"files": ["falco_rules.yaml", "falco_rules.local.yaml", "site.yaml"]}}
    _run, tests, trials = tried(fleet, "refused", falco_trial_repeats=1, falco_trial_tests=[
        {"name": "misspelt", "without": {"rules": ["Hevy"]}}, {"name": "unknown", "without": {"plugins": ["json"]}}, broken])
    found = tests["refused"]
    assert found["misspelt"]["reason"] == "no rule of this host is called Hevy (did you mean Heavy?)"
    assert found["unknown"]["reason"].startswith("without.plugins names json, which Falco does not load here")
    assert "no rules file would be left" in found["broken"]["reason"]
    assert found["as it is"]["state"] == "clean" and trials["refused"]["verdict"] == "failed"
    assert left(hosts["refused"]) == []
