# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hostile host is a line of the report: whatever it prints, the controller half answers, within bounds, and all forms are written.

Each kind runs in a process of its own, as a task does. `pytest -s` shows what each one took.
"""

import itertools
import json
import os
import pickle
import resource
import time
import traceback
from types import SimpleNamespace

import pytest
from ansible.plugins.action import ActionBase
from ansible_collections.falcotune.fleet.plugins.action import falco_facts, falco_report
from ansible_collections.falcotune.fleet.plugins.plugin_utils._action import host_answers
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import audit, html, json_csv, models, openmetrics, terminal
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import assembly, planner, policies, verdicts
from ansible_collections.falcotune.fleet.tests.benchmarks import synthetic_audit
from ansible_collections.falcotune.fleet.tests.unit import hostile_hosts
from ansible_collections.falcotune.fleet.tests.unit.hosts import Host, measured

MIB = 1 << 20
LEAN = {"base_syscalls": {"repair": True}}
BY_GUARD = ("controller's memory", "controller's CPU time")


class Half(falco_facts.ActionModule):
    """With what hosts print, one text a round trip; Ansible's own code parses it."""

    def __init__(self, *texts, **arguments):
        self.texts = list(texts)
        self._used_interpreter, self._discovered_interpreter_key = "/usr/bin/python3", None
        # ansible-core 2.16 warns of half a surrogate pair with the name of the task's action.
        self._task = SimpleNamespace(args=arguments, action="falco_facts", resolved_action="falcotune.fleet.falco_facts")

    def _execute_module(self, module_name, module_args, task_vars):
        text = self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]
        printed = {"stdout": text, "stdout_lines": [], "stderr": "", "rc": 0}
        more = ["legacy"] if ActionBase._parse_returned_data.__code__.co_argcount > 2 else []
        answer = self._parse_returned_data(printed, *more)
        # From ansible-core 2.21 on an object, of which _execute_module() makes the result.
        return answer.as_result_dict(for_round_trip=True) if hasattr(answer, "as_result_dict") else answer


@pytest.fixture(autouse=True)
def base(monkeypatch):
    monkeypatch.setattr(falco_facts.HostAction, "run", lambda self, tmp=None, task_vars=None: {})


def apart(body):
    """What body() returns in a process of its own, and the seconds of CPU time and bytes of memory that it took there."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        try:
            before = resource.getrusage(resource.RUSAGE_SELF)
            began = time.process_time()
            value = body()
            after = resource.getrusage(resource.RUSAGE_SELF)
            took = time.process_time() - began, (after.ru_maxrss - before.ru_maxrss) * 1024
            with os.fdopen(writer, "wb") as stream:
                pickle.dump((value, *took), stream)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        data = stream.read()
    os.waitpid(pid, 0)
    assert data, "the process ended without an answer"
    return pickle.loads(data)


def audited(*texts, **arguments):
    """The result of the task, without what Ansible adds to it, and the host's entry of the report."""
    result = Half(*texts, **arguments).run(task_vars={})
    result.pop("exception", None)
    gathered = {**result, "unreachable": False}
    entry = falco_report._guarded("evil", gathered, result.get("ansible_facts") or {}, POLICY, None)
    return result, entry


POLICY = {"min_observation": 60, "accepted_drops_percent": 1.0}
MADE = {}


@pytest.fixture(scope="module", autouse=True)
def table():
    yield
    print("\n%-28s %8s %8s  %s" % ("host", "CPU s", "MiB", "result"))
    for name, (cpu, memory, said) in MADE.items():
        print("%-28s %8.2f %8.1f  %s" % (name, cpu, memory / MIB, said))


def checked(name, text, *more, **arguments):
    """audited() of one kind, after what holds for each of them."""
    (result, entry), cpu, memory = apart(lambda: audited(text, *more, **arguments))
    said = result.get("msg") or entry["reason"] or (result["ansible_facts"]["falco"]["config"]["reason"] or "ok")
    MADE[name] = (cpu, memory, ascii(said)[:100])
    assert memory <= host_answers.MEMORY
    assert not any(part in said for part in BY_GUARD), "only the last resort stopped it: " + said
    json.dumps(result.get("ansible_facts"))
    assert set(result.get("ansible_facts", {})) <= {"falco", "falco_plan"}
    for shown in (result.get("msg") or "", *result.get("warnings", [])):
        assert shown.isprintable() or not result.get("failed"), shown
    return result, entry


@pytest.mark.parametrize("name", hostile_hosts.KINDS)
def test_the_controller_survives_what_a_host_prints(name):
    make, expected = hostile_hosts.KINDS[name]
    result, entry = checked(name, make(), policy={}, refusal="report")
    if expected == "ok":
        assert not result.get("failed"), result["msg"]
    else:
        assert result.get("failed") or "ansible_facts" not in result
        assert (expected or "") in result.get("msg", "")
    assert entry["status"] == ("ok" if expected == "ok" else "failed")


@pytest.mark.parametrize("name", hostile_hosts.RULES)
def test_the_controller_survives_what_it_prints_as_rules(name):
    result, entry = checked(name, hostile_hosts.printed(Host(pair=measured()).message()), hostile_hosts.RULES[name](), policy=LEAN,
                            refusal="report")
    assert "base_syscalls cannot be applied" in result["ansible_facts"]["falco_plan"]["reason"] or entry["status"] == "failed"


def test_the_report_of_hostile_hosts_and_good_ones_is_whole():
    """The others' entries are the same, and no form has a control character of a host's in it."""
    good = {"good-%d" % number: hostile_hosts.printed(Host(pair=measured(drops=number)).message()) for number in range(3)}
    entries = [audited(text, policy={}, refusal="report")[1] for text in good.values()]
    hostile = [dict(audited(make(), policy={}, refusal="report")[1], name=name) for name, (make, _said) in hostile_hosts.KINDS.items()]
    meta = synthetic_audit.META
    policy = dict(synthetic_audit.POLICY, fail_on=[])
    alone, whole = (models.assemble(items, policy, meta) for items in (entries, entries + hostile))
    kept = [host for host in whole["hosts"] if host["name"] == "evil"]
    assert kept == alone["hosts"] and len(whole["hosts"]) == len(entries) + len(hostile_hosts.KINDS)
    assert set(whole["fleet"]["failed"]) == {name for name, (_make, said) in hostile_hosts.KINDS.items() if said != "ok"}
    public = models.public(whole)
    for text in (terminal.to_terminal(public), openmetrics.to_openmetrics(public), json_csv.to_csv(public)):
        assert "\x1b" not in text and "\x07" not in text and "\u202e" not in text or text.startswith("\ufeff")
    json.loads(json_csv.to_json(public))
    assert "<script>alert" not in html.render(public)


SAMPLE = hostile_hosts.message(host={**hostile_hosts.message()["host"], "record": hostile_hosts.RECORD})


@pytest.mark.parametrize("part", SAMPLE)
def test_every_key_of_the_message_may_be_wrong_or_missing(part):
    """Facts, verdict, plan and entry are made of each message, or the plan is refused."""
    policy = policies.complete({})
    others = itertools.cycle(hostile_hosts.WRONG)
    for path in (path for path in hostile_hosts.paths(SAMPLE) if path[0] == part):
        for wrong in (KeyError, None, True, [[]], {"a": {"b": []}}, next(others), next(others)):
            facts = assembly.assemble(hostile_hosts.replaced(SAMPLE, path, wrong))
            json.dumps(facts, allow_nan=False)
            verdicts.judge(facts, policy)
            made = None
            try:
                made = planner.make(facts, policy)
            except planner.PlanError:
                pass
            audit.entry("x", facts, made, POLICY, SAMPLE["metrics"]["first"])


@pytest.mark.parametrize("message", hostile_hosts.WRONG)
def test_facts_are_made_of_anything(message):
    assert assembly.assemble(message)["driver"]["kind"] is None


def test_the_last_resort_stops_what_nothing_else_did():
    def hoard():
        with host_answers.bounded(memory=64 * MIB):
            held = []
            while True:
                held.append(bytearray(MIB))

    def spin():
        with host_answers.bounded(cpu=0.1):
            while True:
                pass

    for body, said in ((hoard, "64 MiB of the controller's memory"), (spin, "0.1 s of the controller's CPU time")):
        with pytest.raises(host_answers.TooMuch, match=said):
            body()


def test_a_host_that_costs_too_much_is_failed_by_name():
    class Hoarder(Half):
        def _execute_module(self, module_name, module_args, task_vars):
            held = []
            while True:
                held.append(bytearray(MIB))

    def run():
        return Hoarder("", policy={}).run(task_vars={})

    result, _cpu, memory = apart(run)
    assert result["failed"] and "256 MiB of the controller's memory" in result["msg"] and memory < 2 * host_answers.MEMORY
