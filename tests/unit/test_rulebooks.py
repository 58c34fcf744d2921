# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rulebooks: what they react to is there, and nothing of an alert becomes a limit."""

import json
import re
from importlib import resources
from importlib.util import find_spec

import pytest
import yaml
from ansible_collections.falcotune.fleet.tests.unit.hosts import ROOT

RULEBOOKS = sorted((ROOT / "extensions/eda/rulebooks").iterdir())
RULESETS = [ruleset for path in RULEBOOKS for ruleset in yaml.safe_load(path.read_text())]
RULES = [rule for ruleset in RULESETS for rule in ruleset["rules"]]
ALERTS = {rule["alert"] for group in yaml.safe_load((ROOT / "extensions/prometheus/falco.rules.yml").read_text())["groups"]
          for rule in group["rules"] if "alert" in rule}


def alerts(rule):
    return re.findall(r'"(\w+)"', rule["condition"].partition("alertname in")[2].partition("]")[0])


def test_there_are_rulebooks():
    assert len(RULES) >= 2 and all(path.suffix == ".yml" for path in RULEBOOKS)


@pytest.mark.parametrize("ruleset", RULESETS, ids=lambda ruleset: ruleset["name"])
def test_one_alert_is_handled_at_a_time_and_no_host_of_it_is_a_limit(ruleset):
    assert ruleset["execution_strategy"] == "sequential"
    (source,) = ruleset["sources"]
    given = source["ansible.eda.alertmanager"]
    # By default, the source makes meta.hosts of a label, and ansible-rulebook makes --limit of that.
    assert given["data_host_path"] == "" and given["skip_original_data"] is True
    assert given["host"] == "{{ falco_react_address | default('127.0.0.1') }}"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["name"])
def test_a_rule_is_for_alerts_that_there_are_while_they_fire_once_a_host_and_hour(rule):
    assert alerts(rule) and set(alerts(rule)) <= ALERTS
    assert 'event.alert.status == "firing"' in rule["condition"] and "event.alert.labels.instance is defined" in rule["condition"]
    assert rule["throttle"] == {"once_within": "1 hour", "group_by_attributes": ["event.alert.labels.instance"]}


def test_no_alert_starts_two_reactions():
    named = [alert for rule in RULES for alert in alerts(rule)]
    assert len(named) == len(set(named))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["name"])
def test_a_reaction_is_a_playbook_of_the_collection_and_templates_nothing_of_an_alert(rule):
    (action, given), = rule["action"].items()
    namespace, name = given["name"].rsplit(".", 1)
    assert (action, namespace) == ("run_playbook", "falcotune.fleet") and (ROOT / "playbooks" / (name + ".yml")).is_file()
    assert "event" not in json.dumps(given) and "{{" not in given["name"]


def test_the_playbook_reads_the_alert_without_templating_it():
    first, then = yaml.safe_load((ROOT / "playbooks/react_falco.yml").read_text())
    (task,) = first["tasks"]
    assert task["falcotune.fleet.falco_prometheus_info"]["alert"] == "ansible_eda" and first["hosts"] == "localhost"
    everything = json.dumps([first, then])
    assert everything.count("ansible_eda") == 1
    for name in ("falco_audit_hosts", "falco_tune_hosts"):
        assert then["vars"][name] == "{{ hostvars.localhost.ansible_facts.falco_alerted.hosts | default(['all', '!all']) }}"


@pytest.mark.skipif(find_spec("ansible_rulebook") is None or find_spec("jsonschema") is None, reason="there is no ansible-rulebook")
@pytest.mark.parametrize("path", RULEBOOKS, ids=lambda path: path.name)
def test_ansible_rulebook_reads_it(path):
    import jsonschema

    schema = json.loads(resources.files("ansible_rulebook").joinpath("schema/ruleset_schema.json").read_text())
    jsonschema.validate(yaml.safe_load(path.read_text()), schema)
