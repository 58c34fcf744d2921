# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller half of falco_config: what it sends to the host, and when it sends nothing."""

import pytest
from ansible_collections.falcotune.fleet.plugins.action import falco_config
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import planner, policies, requests
from ansible_collections.falcotune.fleet.tests.unit.hosts import Host

FACTS = Host().facts()
PLAN = planner.make(FACTS, policies.complete({}))
EVIDENCE = {"pid": 1, "start_ticks": 2, "restarts": 0, "events": 3, "notes": []}


class Half(falco_config.ActionModule):
    """With the host's answer on paper."""

    def __init__(self, check_mode=False, **arguments):
        self.sent = []
        self._task = type("Task", (), {"args": arguments, "check_mode": check_mode})()

    def _execute_module(self, module_name, module_args, task_vars):
        assert module_name == "falcotune.fleet.falco_config" and list(module_args) == ["request"]
        self.sent.append(module_args["request"])
        return {"changed": True, "diff": []}


@pytest.fixture(autouse=True)
def base(monkeypatch):
    monkeypatch.setattr(falco_config.HostAction, "run", lambda self, tmp=None, task_vars=None: {})


def test_a_change_is_one_request():
    half = Half(plan=PLAN, facts=FACTS, content="metrics: {}\n")
    result = half.run(task_vars={})
    assert half.sent == [requests.build("present", PLAN, FACTS, policies.complete({}), "metrics: {}\n")]
    assert result["changed"] and result["changes"] == PLAN["changes"] + requests.pending(FACTS, policies.complete({}),
        PLAN) and result["began"] <= result["ended"]
    assert result["ansible_facts"] == {"falco_tune_restart_required": False}  # it may restart now


def test_without_a_change_nothing_is_sent():
    plan = dict(PLAN, changes=[], host_files=[], restart_required=False)
    half = Half(plan=plan, facts=FACTS)
    result = half.run(task_vars={})
    assert (result["changed"], half.sent) == (False, [])


def test_a_change_that_waits_is_kept_once():
    given = {"plan": PLAN, "facts": FACTS, "policy": {"restart_ok": False}}
    half = Half(**given)
    assert half.run(task_vars={})["staged"] is True
    digest = half.sent[0]["stage"]
    assert digest == requests.digest(half.sent[0])
    again = Half(**dict(given, facts=dict(FACTS, host=dict(FACTS["host"], staged={"digest": digest, "at": 1.0}))))
    assert again.run(task_vars={})["staged"] is True and again.sent == []


@pytest.mark.parametrize("check_mode, evidence, sent", [
    (False, EVIDENCE, True), (True, EVIDENCE, False), (False, dict(EVIDENCE, adopted=True), False), (False, None, False)])
def test_a_second_look_needs_a_change_to_look_at(check_mode, evidence, sent):
    half = Half(check_mode, state="proven", evidence=evidence)
    result = half.run(task_vars={})
    assert bool(half.sent) is sent and result.get("skipped", False) is not sent
    if sent:
        assert half.sent[0]["evidence"] == {name: EVIDENCE[name] for name in ("pid", "start_ticks", "restarts", "events")}
        assert (half.sent[0]["state"], half.sent[0]["rollback_to"]) == ("proven", "previous")


@pytest.mark.parametrize("arguments, said", [
    ({}, "state present needs plan and facts"), ({"plan": PLAN}, "state present needs facts"),
    ({"facts": FACTS}, "state present needs plan"),
    ({"state": "absent"}, "state must be one of: present, proven, rolled_back, got: absent"),
    ({"plan": [1], "facts": FACTS}, "'plan' is of type"), ({"request": {}}, "unsupported parameters: request"),
    ({"policy": {"apply": "now"}}, "falco_tune_apply is 'now'"),
])
def test_wrong_arguments_name_their_option_and_nothing_is_sent(arguments, said):
    half = Half(**arguments)
    result = half.run(task_vars={})
    assert result["failed"] and said in result["msg"] and half.sent == []


def test_a_change_says_when_the_host_can_be_judged_and_by_which_round():
    class Answers(Half):
        def _execute_module(self, module_name, module_args, task_vars):
            return {"changed": True, "diff": [], "evidence": EVIDENCE, "next_round": {"number": 99}}

    given = {"plan": PLAN, "facts": FACTS, "content": "metrics: {}\n", "policy": {"rounds": 2}}
    result = Answers(**given).run(task_vars={})
    following = result["next_round"]
    assert (following["number"], following["closing"], following["seconds"]) == (2, False, 91.0)
    assert following["not_before"] >= result["began"] + 91
    assert "next_round" not in Answers(**given, round=dict(following, closing=True)).run(task_vars={})
    assert "next_round" not in Answers(**dict(given, policy={})).run(task_vars={}), "a host says nothing of rounds"


def test_a_request_names_the_record_that_its_plan_was_made_from():
    facts = Host(record={"proven": True, "at": 77.5, "files": {}, "attempts": [{"at": 12.0, "step": "buffers", "to": {}}]}).facts()
    half = Half(plan=planner.make(facts, policies.complete({})), facts=facts, content="metrics: {}\n")
    half.run(task_vars={})
    assert half.sent[0]["seen"] == {"at": 77.5, "tried": 12.0}
