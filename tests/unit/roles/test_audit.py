# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role's defaults, its argument_specs and what falco_report takes are one list of names and values."""

import re

import pytest
import yaml
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import models
from ansible_collections.falcotune.fleet.tests.unit.hosts import ROOT

ROLE = ROOT / "roles" / "audit"
PREFIX = "falco_audit_"
# What a user may set beside: which hosts (the playbook), which hosts a report of an earlier play is on, and the result.
BESIDE = {PREFIX + "hosts", PREFIX + "report_hosts", PREFIX + "result"}

DEFAULTS = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
SPECS = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]


def documentation(module):
    text = (ROOT / "plugins/modules" / (module + ".py")).read_text()
    return yaml.safe_load(re.search(r'DOCUMENTATION = r"""(.*?)"""', text, re.S).group(1))


# The hosts' module takes the question for what rules cost, the report's module everything else.
DOCUMENTATION = documentation("falco_report")
DOCUMENTATION["options"]["rule_costs"] = documentation("falco_facts")["options"]["rules"]
# And falco_prometheus_info takes these.
ASKS = {PREFIX + "prometheus_url": "url", PREFIX + "prometheus_options": "options"}
DOCUMENTATION["options"].update({name[len(PREFIX):]: documentation("falco_prometheus_info")["options"][option]
                                 for name, option in ASKS.items()})


@pytest.mark.parametrize("entry", ["main", "ask", "visit", "merge", "report"])
def test_argument_specs_name_every_variable_with_the_same_default(entry):
    assert {name: option["default"] for name, option in SPECS[entry]["options"].items()} == DEFAULTS


# Go to falco_facts.
GATHERS = {PREFIX + "coverage": "coverage", PREFIX + "rule_costs": "rules"}


def test_whether_hosts_are_asked_for_rules_is_an_option_of_the_gathering():
    (gather,) = [task for task in yaml.safe_load((ROLE / "tasks/gather.yml").read_text()) if "falcotune.fleet.falco_facts" in task]
    for name, option in GATHERS.items():
        assert gather["falcotune.fleet.falco_facts"][option] == "{{ %s }}" % name


@pytest.mark.parametrize("name", sorted(set(DEFAULTS) - {PREFIX + "coverage"}))
def test_the_module_takes_the_same(name):
    short = {"report_dir": "directory"}.get(name[len(PREFIX):], name[len(PREFIX):])
    option, known = SPECS["main"]["options"][name], DOCUMENTATION["options"][short]
    assert (option["type"], option["default"], option.get("choices")) == (known["type"], known["default"], known.get("choices"))


def test_the_rules_are_those_of_the_core():
    assert set(SPECS["main"]["options"][PREFIX + "fail_on"]["choices"]) == set(models.RULES)


def test_tasks_use_no_other_names():
    texts = [path.read_text() for path in (*sorted(ROLE.glob("tasks/*.yml")), ROLE / "vars/main.yml")] + [
        (ROOT / "playbooks" / name).read_text() for name in ("audit_falco.yml", "merge_audits.yml")]
    used = {name for text in texts for name in re.findall(r"(?<!_)falco_audit_\w+", text)}
    assert used - BESIDE == set(DEFAULTS) and BESIDE <= used
