# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""extensions/awx: each entry has parameters of its module, its playbooks and variables are there, and nodes lead where they should.

FALCOTUNE_AWX names a directory of the collection awx.awx or ansible.controller. Without it, one that is installed is taken.
"""

import ast
import os
import re
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies
from ansible_collections.falcotune.fleet.tests.unit.hosts import ROOT
from jinja2 import Environment, StrictUndefined

DATA = yaml.safe_load((ROOT / "extensions/awx/falco.yml").read_text())
TEMPLATES, WORKFLOWS = DATA["controller_templates"], DATA["controller_workflows"]
NAMED = {template["name"]: template for template in TEMPLATES}
SURVEYED = [entry for entry in TEMPLATES + WORKFLOWS if "survey_spec" in entry]
(WORKFLOW,) = WORKFLOWS
NODES = {node["identifier"]: node for node in WORKFLOW["workflow_nodes"]}


def rendered(value, **variables):
    """As Ansible does: the values of falco_awx_ variables in place of templates."""
    if isinstance(value, dict):
        return {key: rendered(item, **variables) for key, item in value.items()}
    if isinstance(value, list):
        return [rendered(item, **variables) for item in value]
    return Environment(undefined=StrictUndefined).from_string(value).render(variables) if isinstance(value, str) else value


def modules():
    """The folder of the modules of awx.awx or ansible.controller, or None."""
    given = [Path(os.environ["FALCOTUNE_AWX"])] if os.environ.get("FALCOTUNE_AWX") else []
    for folder in filter(None, os.environ.get("ANSIBLE_COLLECTIONS_PATH", "").split(":")):
        given += [Path(folder) / "ansible_collections" / name for name in ("awx/awx", "ansible/controller")]
    return next((folder / "plugins/modules" for folder in given if (folder / "plugins/modules/job_template.py").is_file()), None)


def literal(node):
    """A call of dict() with literals as a dict."""
    return {word.arg: literal(word.value) if isinstance(word.value, ast.Call) else ast.literal_eval(word.value) for word in node.keywords}


def spec_of(module):
    """(argument_spec, documented options) of a module of awx.awx."""
    tree = ast.parse((modules() / (module + ".py")).read_text())
    spec = next(literal(node.value) for node in ast.walk(tree)
                if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "argument_spec")
    text = next(ast.literal_eval(node.value) for node in tree.body
                if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "DOCUMENTATION")
    return spec, yaml.safe_load(text)["options"]


def nested(options):
    """An argument_spec of documented suboptions."""
    return {name: {**{key: option[key] for key in ("type", "elements", "choices", "required") if key in option},
                   **({"options": nested(option["suboptions"])} if "suboptions" in option else {})} for name, option in options.items()}


def check(spec, given):
    found = ArgumentSpecValidator(spec).validate(given)
    assert not found.error_messages and not found.unsupported_parameters, (found.error_messages, found.unsupported_parameters)


@pytest.mark.skipif(modules() is None, reason="there is no collection awx.awx: set FALCOTUNE_AWX to its directory")
@pytest.mark.parametrize("entry", TEMPLATES, ids=lambda entry: entry["name"])
def test_a_job_template_has_parameters_of_its_module(entry):
    check(spec_of("job_template")[0], rendered(entry))


@pytest.mark.skipif(modules() is None, reason="there is no collection awx.awx: set FALCOTUNE_AWX to its directory")
def test_a_workflow_has_parameters_of_its_module():
    spec, options = spec_of("workflow_job_template")
    check(spec, rendered(WORKFLOW))
    for node in rendered(WORKFLOW["workflow_nodes"]):
        check(nested(options["workflow_nodes"]["suboptions"]), node)


@pytest.mark.parametrize("entry", TEMPLATES, ids=lambda entry: entry["name"])
def test_a_job_template_runs_a_playbook_of_the_collection_and_its_names_can_be_set(entry):
    assert (ROOT / "playbooks" / entry["playbook"]).is_file() and entry["ask_variables_on_launch"]
    own = rendered(entry, falco_awx_organization="o", falco_awx_project="p", falco_awx_inventory="i", falco_awx_execution_environment="e",
                   falco_awx_credential="c", falco_awx_slices=8, falco_awx_report_dir="/r")
    assert (own["organization"], own["project"], own["inventory"], own["execution_environment"]) == ("o", "p", "i", "e")
    assert "{" not in str(rendered(entry)["name"]) and own["name"] == entry["name"]


def test_audits_are_sliced_and_rollouts_are_not():
    assert int(rendered(NAMED["Falco: audit"])["job_slice_count"]) > 1
    for name in ("Falco: tune", "Falco: react"):
        assert NAMED[name]["job_slice_count"] == 1 and NAMED[name]["allow_simultaneous"] is False
    # The parts of the slices are where the merging job looks.
    assert NAMED["Falco: audit"]["extra_vars"] == NAMED["Falco: merge audits"]["extra_vars"]
    # A sliced job is known by a workflow with the name of its template.
    assert WORKFLOW["name"] not in NAMED


def test_a_reaction_takes_no_limit():
    assert not NAMED["Falco: react"].get("ask_limit_on_launch")


@pytest.mark.parametrize("entry", SURVEYED, ids=lambda entry: entry["name"])
def test_questions_of_a_survey_are_about_the_policy_and_their_answers_are_legal(entry):
    """As AWX checks a survey, and as the collection checks the answers."""
    survey = entry["survey_spec"]
    assert entry["survey_enabled"] and survey["name"] and isinstance(survey["description"], str)
    for question in survey["spec"]:
        kinds = {"text": str, "multiplechoice": str, "integer": int}
        assert isinstance(question["default"], kinds[question["type"]]) and question["question_name"]
        # AWX starts no job of a workflow whose required questions have no answer.
        assert question["required"] is False
        answers = question.get("choices", [question["default"]])
        assert question["default"] in answers
        for answer in answers:
            policies.complete({question["variable"]: answer})
    # An answer is an extra variable, which would replace a change window of the inventory.
    names = [question["variable"] for question in survey["spec"]]
    assert len(set(names)) == len(names) and "falco_tune_restart_ok" not in names


def test_the_workflow_goes_from_the_audit_over_two_approvals_to_the_rest():
    path, name = [], "audit"
    while name:
        path.append(name)
        following = NODES[name].get("related", {})
        assert set(following) <= {"success_nodes"}  # nothing follows a failure
        name = next((node["identifier"] for node in following.get("success_nodes", [])), None)
    assert path == ["audit", "merge", "approve-canaries", "canaries", "approve-rest", "rest"] and set(path) == set(NODES)
    kinds = [NODES[name]["unified_job_template"]["type"] for name in path]
    assert kinds == ["job_template", "job_template", "workflow_approval", "job_template", "workflow_approval", "job_template"]
    jobs = [NODES[name]["unified_job_template"]["name"] for name, kind in zip(path, kinds, strict=True) if kind == "job_template"]
    assert jobs == ["Falco: audit", "Falco: merge audits", "Falco: tune", "Falco: tune"] and set(jobs) <= set(NAMED)
    assert NODES["canaries"]["extra_data"] == {"falco_tune_promote": "manual"}
    assert NODES["rest"]["extra_data"] == {"falco_tune_promote": "auto"}


def test_the_page_names_every_playbook_that_a_project_needs():
    page = (ROOT / "docs/docsite/rst/guide_awx.rst").read_text()
    for entry in TEMPLATES:
        assert "falcotune.fleet." + entry["playbook"].removesuffix(".yml") in page
    variables = set(re.findall(r"falco_awx_\w+", (ROOT / "extensions/awx/falco.yml").read_text())) - {"falco_awx_"}
    assert variables == set(re.findall(r"falco_awx_\w+", page))


def test_the_execution_environment_is_what_ansible_builder_reads():
    """ansible-builder introspect reads meta/execution-environment.yml and the files that it names, from the collection's root."""
    given = yaml.safe_load((ROOT / "meta/execution-environment.yml").read_text())
    assert given["version"] == 1 and set(given["dependencies"]) == {"python", "system"}
    for path in given["dependencies"].values():
        assert (ROOT / path).is_file()
    example = (ROOT / "docs/docsite/rst/guide_awx.rst").read_text()
    assert "ansible-builder" in example
