# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller half of falco_facts: which round trips it makes, and what comes of them."""

import time

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.falcotune.fleet.plugins.action import falco_facts
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import audit, history, models, shape
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import assembly, planner, policies, sight, twins
from ansible_collections.falcotune.fleet.tests.benchmarks import synthetic_audit
from ansible_collections.falcotune.fleet.tests.unit.hosts import MAIN, Host


class Half(falco_facts.ActionModule):
    """With hosts' answers on paper, one a round trip."""

    def __init__(self, *answers, **arguments):
        self.answers, self.trips = list(answers), []
        self._task = type("Task", (), {"args": arguments})()
        self._templar = Templar(DataLoader())

    def _execute_module(self, module_name, module_args, task_vars):
        assert module_name == "falcotune.fleet.falco_facts"
        self.trips.append(dict(module_args))
        answer = self.answers.pop(0)
        return answer if "failed" in answer or not answer else {"ansible_facts": {"falco": answer}, "invocation": len(self.trips)}


@pytest.fixture(autouse=True)
def base(monkeypatch):
    monkeypatch.setattr(falco_facts.HostAction, "run", lambda self, tmp=None, task_vars=None: {})


def run(half):
    result = half.run(task_vars={})
    assert isinstance(result.pop("began", 0.0), float)
    return result


def test_one_round_trip_without_a_policy():
    half = Half(Host().message(), observe_seconds=2, extra_files=["/x"])
    assert run(half) == {"changed": False, "invocation": 1, "ansible_facts": {"falco": assembly.assemble(Host().message())}}
    assert half.trips == [{"observe_seconds": 2.0, "extra_files": ["/x"]}]


def test_a_policy_plans_and_gives_the_other_options_their_values():
    half = Half(Host().message(), policy={"falco_tune_window": "10m", "state_dir": "/var/lib/other"}, state_dir="/mine")
    result = run(half)
    facts = assembly.assemble(Host().message())
    complete = policies.complete({"window": "10m", "state_dir": "/var/lib/other"})
    assert result["ansible_facts"]["falco_plan"] == planner.make(facts, complete)
    assert len(half.trips) == 1
    assert half.trips[0] == {
        "state_dir": "/mine", "window_seconds": 600.0, **{name: complete[name] for name in falco_facts._FROM_POLICY if name != "state_dir"}}


def test_for_a_rollout_the_host_is_described_in_the_same_round_trip():
    half = Half(Host().message(), policy={"failure_domain": "rack"}, rollout=True)
    result = half.run(task_vars={"rack": 7})
    assert len(half.trips) == 1 and "rollout" not in half.trips[0]
    assert (result["rollout"]["state"], result["rollout"]["domain"]) == ("changing", "7")
    assert set(result["fleet_policy"]) == set(policies.FLEET)
    assert result["ansible_facts"]["falco_tune_restart_required"] is False  # it may restart now
    waits = Half(Host().message(), policy={"restart_ok": False}, rollout=True).run(task_vars={})
    assert waits["rollout"]["state"] == "waiting" and waits["ansible_facts"]["falco_tune_restart_required"] is True


@pytest.mark.parametrize("policy, variables, said", [
    ({"failure_domain": "rack"}, {"racks": 1}, "falco_tune_failure_domain is 'rack', and this host has no such variable"),
    ({"failure_domain": "rack"}, {"rack": ""}, "that variable is '' on this host: expected a text"),
    ({"evidence": "counters", "metrics": False}, {}, "falco_tune_evidence is counters, and this host would have none"),
])
def test_a_host_that_has_no_place_in_a_rollout_fails_and_is_known_to_run(policy, variables, said):
    result = Half(Host().message(), policy=policy, rollout=True).run(task_vars=variables)
    assert result["failed"] and said in result["msg"] and result["running"] is True and result["ansible_facts"] == {}


def test_files_that_only_a_variable_names_are_asked_for():
    text = "config_files: ['${WHERE}/x.yaml']\n"
    host = Host(environment={"WHERE": "/srv"}).with_file(MAIN, text)
    half = Half(host.message(), host.with_file("/srv/x.yaml", "metrics: {enabled: true}\n").message())
    result = run(half)
    assert [trip.get("extra_files") for trip in half.trips] == [None, ["/srv/x.yaml"]]
    assert result["invocation"] == 2 and [item["path"] for item in result["ansible_facts"]["falco"]["config"]["files"]] == [
        MAIN, "/srv/x.yaml"]


SERVED = Host().with_file(MAIN, "metrics: {enabled: true}\nwebserver: {enabled: true, prometheus_metrics_enabled: true}\n")


def test_metrics_are_scraped_where_no_other_source_has_any():
    half = Half(SERVED.message(), dict(SERVED.message(), metrics={"reason": "scraped"}))
    assert "scraped" in run(half)["ansible_facts"]["falco"]["metrics"]["voided"]
    assert half.trips[1] == {"metrics_sources": ["prometheus"], "prometheus_url": "http://127.0.0.1:8765/metrics", "scrape_ok": True}


@pytest.mark.parametrize("arguments", [{"prometheus_url": "http://127.0.0.1:1/metrics"}, {"metrics_sources": ["journal"]}])
def test_metrics_are_not_scraped_again_or_against_the_order(arguments):
    half = Half(SERVED.message(), **arguments)
    run(half)
    assert len(half.trips) == 1


def test_a_scrape_that_fails_leaves_the_facts_as_they_are():
    half = Half(SERVED.message(), {"failed": True, "msg": "no"})
    assert run(half)["ansible_facts"]["falco"] == assembly.assemble(SERVED.message())


LEAN = {"base_syscalls": {"repair": True}}


def test_rules_are_asked_for_where_the_plan_depends_on_them():
    half = Half(Host().message(), {"failed": True, "msg": "no"}, policy=LEAN)
    assert planner.make(assembly.assemble(Host().message()), policies.complete(LEAN))["needs"] == "syscalls"
    assert run(half) == {"failed": True, "msg": "no"}
    asked = half.trips[1]
    assert (asked["rules"], asked["dry_run"], asked["observe_seconds"], asked["metrics_sources"]) == (True, "--dry-run", 0, [])


NARROWED = Host(options=("engine.kind=modern_ebpf", "base_syscalls.repair=true"))


@pytest.mark.parametrize("answer", [{"failed": True, "msg": "no"}, {}])
def test_coverage_is_asked_of_a_host_that_nothing_else_tells_it_of_and_that_may_not_answer(answer):
    half = Half(NARROWED.message(), answer, coverage=True, policy={"falco_tune_profile_seconds": 0})
    facts = run(half)["ansible_facts"]["falco"]
    assert half.trips[1]["rules"] is True and half.trips[1]["profile_seconds"] == 0
    found = sight.in_force(facts)
    assert found["basis"] == "unknown" and "repair: true" in found["reason"] and "the host did not answer" in found["reason"]


def test_coverage_of_a_host_that_is_not_narrowed_takes_no_second_round_trip():
    for host, arguments in ((Host(), {"coverage": True}), (NARROWED, {}), (NARROWED, {"coverage": False})):
        half = Half(host.message(), **arguments)
        run(half)
        assert len(half.trips) == 1


@pytest.mark.parametrize("answer", [{"failed": True, "msg": "no"}, {}])
def test_a_first_trip_without_facts_is_the_answer(answer):
    assert run(Half(answer)) == answer


@pytest.mark.parametrize("arguments, said", [
    ({"observe_secs": 1}, "unsupported parameters: observe_secs"), ({"observe_seconds": "x"}, "observe_seconds"),
    ({"policy": {"falco_tune_presett": 4}}, "falco_tune_presett is not a known policy key"),
])
def test_wrong_arguments_are_told_before_any_round_trip(arguments, said):
    half = Half(**arguments)
    result = run(half)
    assert result["failed"] and said in result["msg"] and half.trips == []


def test_a_host_that_can_not_be_planned_for_fails_or_is_reported():
    stopped = Host(running=False, state="inactive")
    failed = run(Half(stopped.message(), policy={}))
    assert failed["failed"] and "not running" in failed["msg"] and failed["running"] is False and failed["ansible_facts"] == {}
    reported = run(Half(stopped.message(), policy={}, refusal="report"))
    assert reported["ansible_facts"]["falco_plan"]["reason"] == failed["msg"] and "failed" not in reported


def entry_of(message, **policy):
    """(what the report gets of the host, the entry that it would make of facts and plan)."""
    given = {"policy": {"min_observation": 60, **policy}, "refusal": "report"}
    small, large = run(Half(message, **given, entry=True)), run(Half(message, **given))
    complete = policies.complete(given["policy"])
    facts = large["ansible_facts"]
    made = audit.entry("web", facts["falco"], facts["falco_plan"], complete)
    return small, shape.host(made)


@pytest.mark.parametrize("host", [Host(), Host(cpus=64), Host(running=False)])
def test_an_entry_is_what_the_report_makes_of_facts_and_plan(host):
    small, expected = entry_of(host.message())
    assert "ansible_facts" not in small and "invocation" not in small
    assert shape.host(audit.whole("web", small["entry"])) == expected


def test_a_host_that_may_be_judged_by_the_last_audit_brings_its_facts():
    facts = assembly.assemble(Host().message())
    assert not audit.waits(facts, {"verdict": {}}, {"min_observation": 60}), "without counters there is nothing to compare"
    for seconds, verdict, expected in ((10.0, {"state": "healthy"}, True), (60.0, {"state": "healthy"}, False), (60.0, None, True)):
        metrics = {**facts["metrics"], "snapshot": {"n": 1}, "seconds": seconds}
        assert audit.waits({**facts, "metrics": metrics}, {"verdict": verdict}, {"min_observation": 60}) is expected


# --- Hosts that are alike

def starved():
    """A starved host whose rules are known, and the outcome of a step against that which had no effect."""
    from ansible_collections.falcotune.fleet.tests.unit.plugin_utils._tuning import test_twins
    paper = test_twins.host(test_twins.STARVED, drops=84000)
    for fields in (paper.pair["first"], paper.pair["last"]):
        fields["falco.rules"] = "1c15d5d54363"
    return paper, test_twins.IN_VAIN


@pytest.fixture
def audited(tmp_path):
    """The path of a history in which three hosts like that had no use of CPU priority."""
    paper, outcomes = starved()
    path = tmp_path / "history.sqlite"
    with history.History(path) as kept:
        kept.add(models.assemble(
            [{"name": name, "status": "ok", "twin": {"twins": twins.key(paper.facts()), "outcomes": outcomes}} for name in "abc"],
            synthetic_audit.POLICY, dict(synthetic_audit.META, made_at=shape.iso(time.time()))))
    return path


def planned(paper, name="web-01", **policy):
    result = Half(paper.message(), policy={"syscalls": "keep", **policy}).run(task_vars={"inventory_hostname": name})
    return result["ansible_facts"]["falco_plan"], result.get("warnings", [])


def test_the_history_that_policy_names_is_asked_what_came_of_a_step_on_hosts_like_it(audited):
    paper, dummy = starved()
    plan, warnings = planned(paper, history=str(audited))
    assert plan["step"] is None and "priority had no effect on 3 of 3 hosts" in plan["verdict"]["reasons"][-1] and warnings == []
    assert planned(paper)[0]["step"]["name"] == "priority", "without a history"
    assert planned(paper, "a", history=str(audited))[0]["step"]["name"] == "priority", "two others say nothing"
    assert planned(paper, history=str(audited.with_name("none.sqlite"))) == planned(paper), "there is none yet"
    assert not audited.with_name("none.sqlite").exists()


@pytest.mark.parametrize("where", ["file", "host=/nonexistent dbname=x", "postgresql://127.0.0.1:1/x"])
def test_a_history_that_is_of_no_use_is_a_warning(where, tmp_path):
    paper, dummy = starved()
    if where == "file":
        (tmp_path / "x").write_text("no database at all, but some text that is long enough")
        where = str(tmp_path / "x")
    plan, warnings = planned(paper, history=where)
    assert plan["step"]["name"] == "priority" and len(warnings) == 1 and warnings[0].startswith("falco_tune_history is of no use: ")


@pytest.mark.parametrize("where", ["postgresql://me:secret@db/x", "host=db password=secret", "host=db password = 'secret'"])
def test_a_password_has_no_place_in_a_policy_and_is_not_shown(where):
    result = Half(Host().message(), policy={"falco_tune_history": where}).run(task_vars={})
    assert result["failed"] and "secret" not in result["msg"] and "~/.pgpass or PGPASSWORD" in result["msg"]
