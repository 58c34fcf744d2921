# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A job of a sliced job template is known by what AWX gives to it."""

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rollout import slices

# Of a job of a sliced template in AWX; each variable is there by both prefixes.
JOB = {"job_id": 90, "job_launch_type": "workflow", "workflow_job_id": 88, "workflow_job_name": "Tune",
       "workflow_job_launch_type": "manual", "job_template_id": 7, "job_template_name": "Tune", "inventory_id": 2}


def given(prefix, **changed):
    return {"%s_%s" % (prefix, name): value for name, value in {**JOB, **changed}.items() if value is not None}


@pytest.mark.parametrize("variables", [{**given("awx"), **given("tower")}, given("awx"), given("tower")])
def test_a_slice(variables):
    assert slices.sliced(variables) == "Tune"


@pytest.mark.parametrize("variables", [
    {}, given("awx", workflow_job_name="Nightly"), given("awx", workflow_job_id=None), given("awx", workflow_job_name=None),
    given("awx", job_template_name=None), {"awx_job_id": 5, "awx_job_template_name": "Tune"}, {"workflow_job_name": "Tune"}])
def test_no_slice(variables):
    assert slices.sliced(variables) is None


@pytest.mark.parametrize(("domain", "said"), [("rack", "Hosts of the same rack"), ("", "Hosts of other slices")])
def test_the_refusal_says_what_to_do(domain, said):
    text = slices.refusal("Tune", domain)
    assert said in text and "job slicing to 1" in text and "falco_tune_slices: separate" in text and "Nothing was changed" in text


@pytest.mark.parametrize(("variables", "expected"), [
    ({}, False), ({"awx_job_id": 5}, True), ({"tower_job_id": 5}, True), (given("awx"), True), ({"ansible_eda": {}}, True),
    ({"job_id": 5, "awx_user_name": "x"}, False)])
def test_nobody_answers_questions_in_awx_and_under_ansible_rulebook(variables, expected):
    assert slices.unattended(variables) is expected
