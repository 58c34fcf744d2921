# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role's defaults, its argument_specs and the policy are one list of names and values."""

import re

import jinja2
import pytest
import yaml
from ansible_collections.falcotune.fleet.plugins.module_utils._change import transaction
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies
from ansible_collections.falcotune.fleet.tests.unit.hosts import ROOT

ROLE = ROOT / "roles" / "tune"
PLAYBOOK_ONLY = {"hosts"}
PREFIX = "falco_tune_"
RESULTS = set(policies.RESULTS)  # what the role tells, not what it is told

DEFAULTS = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
VARS = yaml.safe_load((ROLE / "vars/main.yml").read_text())
SPECS = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]
WANTED = {PREFIX + name: option.default for name, option in policies.OPTIONS.items() if name not in PLAYBOOK_ONLY}

# Values of each kind, and the type of the specification that takes them.
TYPES = {bool: {"bool"}, str: {"str", "raw"}, int: {"int", "float"}, float: {"float"}, list: {"list", "raw"}, dict: {"dict"}}


def test_defaults_are_those_of_the_policy():
    assert DEFAULTS == WANTED


def test_argument_specs_name_every_variable_with_the_same_default():
    assert {name: option["default"] for name, option in SPECS["main"]["options"].items()} == WANTED


@pytest.mark.parametrize("name", sorted(WANTED))
def test_argument_specs_take_what_the_policy_takes(name):
    option = SPECS["main"]["options"][name]
    assert option["type"] in TYPES[type(WANTED[name])]
    assert option["description"]
    for choice in option.get("choices", []):
        choice = [choice] if option["type"] == "list" else choice
        assert policies.complete({name: choice})[name[len(PREFIX):]] == choice


def test_argument_specs_hold_no_template():
    """Ansible would execute it when it checks the arguments."""
    assert "{{" not in (ROLE / "meta/argument_specs.yml").read_text()


def test_rollback_takes_a_part_of_the_same_variables():
    for name, option in SPECS["rollback"]["options"].items():
        assert option == SPECS["main"]["options"][name]


def test_the_defaults_make_a_policy():
    assert policies.complete(DEFAULTS) == policies.complete({})


def test_public_variables_carry_the_roles_name():
    assert DEFAULTS and all(name.startswith(PREFIX) for name in DEFAULTS)


def test_internal_variables_carry_the_internal_prefix():
    assert VARS and all(name.startswith("__falco_tune_") for name in VARS)


def test_tasks_and_templates_use_no_other_names():
    known = set(WANTED) | set(VARS)
    registered = set()
    texts = [path.read_text() for path in sorted(ROLE.glob("tasks/*.yml")) + sorted(ROLE.glob("templates/*"))]
    for text in texts:
        registered.update(re.findall(r"register: (\w+)", text))
    assert all(name.startswith("__falco_tune_") for name in registered)
    used = {name for text in texts for name in re.findall(r"\b(?:__)?falco_tune_\w+", text)}
    assert used <= known | registered | RESULTS


def test_the_playbooks_read_the_remaining_names():
    texts = [path.read_text() for path in sorted((ROOT / "playbooks").glob("*.yml")) if "falcotune.fleet.tune" in path.read_text()]
    assert texts
    for text in texts:
        used = set(re.findall(r"\bfalco_tune_(\w+)", text))
        assert PLAYBOOK_ONLY <= used <= set(policies.OPTIONS) | {name[len(PREFIX):] for name in RESULTS}


@pytest.mark.parametrize("role", sorted(path.name for path in (ROOT / "roles").iterdir()))
def test_no_argument_spec_holds_a_template(role):
    """Ansible templates the whole specification, descriptions too, whenever a role is included."""
    assert "{{" not in (ROOT / "roles" / role / "meta/argument_specs.yml").read_text()


@pytest.mark.parametrize("role", ["tune", "audit", "trial"])
def test_no_role_lists_results_itself(role):
    """The collection leaves them out: policies.RESULTS."""
    text = (ROOT / "roles" / role / "vars/main.yml").read_text()
    assert "^falco_tune_" in text and not [name for name in RESULTS if name in text]


def test_the_tasks_leave_those_results():
    action = "".join((ROOT / "plugins/action" / name).read_text() for name in ("falco_config.py", "falco_facts.py", "falco_rollout.py"))
    assert all('"%s"' % name in action for name in RESULTS)


# Tasks that go to hosts, and what bounds them.
HOSTS = ("falcotune.fleet.falco_facts", "falcotune.fleet.falco_config")


@pytest.mark.parametrize("role", ["tune", "audit", "trial"])
def test_no_task_waits_for_a_host_without_end(role):
    tasks = [task for path in sorted((ROOT / "roles" / role / "tasks").glob("*.yml")) for task in yaml.safe_load(path.read_text())]
    names = yaml.safe_load((ROOT / "roles" / role / "vars/main.yml").read_text())
    sent = [task for task in tasks if any(module in task for module in HOSTS)]
    assert sent
    for task in sent:
        changes = "falcotune.fleet.falco_config" in task
        name = "__falco_%s_%s_timeout" % (role, "change" if changes else "gather")
        assert task["timeout"] == "{{ %s }}" % name and "falco_tune_round_trip_seconds" in names[name]


def seconds(name, **given):
    return int(jinja2.Environment().from_string(VARS[name]).render({**DEFAULTS, **given}))


@pytest.mark.parametrize("deadline", [5, 120, 3600])
def test_a_change_is_waited_for_as_long_as_it_can_take(deadline):
    proof = {"healthy_deadline": deadline, "host_root": ""}
    change = transaction.Transaction({"state_dir": "/", "unit": "falco.service", "proof": proof}).deadline
    # In the worst case: an earlier change is undone, Falco reads the candidate, the second check fails and is rolled back.
    assert seconds("__falco_tune_change_timeout", falco_tune_healthy_deadline=deadline) > change / 2 + 120 + deadline + change


def test_a_wrong_time_reaches_the_policy_which_says_so():
    assert seconds("__falco_tune_gather_timeout", falco_tune_round_trip_seconds="soon") == 300
