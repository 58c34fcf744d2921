# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import copy

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.falcotune.fleet.plugins.filter import buffer_settings, explain, plan, policy, rules_audit, syscall_set, verdict
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import planner
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import verdicts
from ansible_collections.falcotune.fleet.tests.unit.hosts import GIB, MIB, ROOT, Host, measured


@pytest.mark.parametrize("module, name", [(buffer_settings, "buffer_settings"), (explain, "explain"), (plan, "plan"), (policy, "policy"),
                                          (rules_audit, "rules_audit"), (syscall_set, "syscall_set"), (verdict, "verdict")])
def test_each_file_brings_its_filter_and_documentation(module, name):
    filters = module.FilterModule().filters()
    assert list(filters) == [name] and filters[name] is getattr(module, name)
    assert (ROOT / "plugins" / "filter" / (name + ".yml")).is_file()


# plan

def test_plan_is_the_planners():
    found = Host().facts()
    assert plan.plan(copy.deepcopy(found), {"buf_size_preset": 5}) == planner.make(found, {"buf_size_preset": 5})
    assert plan.plan(found) == plan.plan(found, {})


def test_plan_answers_what_if_with_other_facts():
    found = Host(total=1024 * GIB, available=900 * GIB).facts()
    assert plan.plan(dict(found, cpus={"online": 128}))["buffers"]["count"] == 22


@pytest.mark.parametrize("facts, given, message", [
    (None, {}, "plan: expected the facts of falcotune.fleet.falco_facts"),
    ({}, {}, "plan: expected the facts"),
    ([], {}, "plan: expected the facts"),
    (Host(running=False).facts(), {}, "Falco is not running"),
    (Host(version="0.20.0").facts(), {}, "Falco 0.20.0 is older than 0.33"),
    (Host().facts(), {"buf_size_preset": 11}, "falco_tune_buf_size_preset is 11: expected auto, or a number from 1 to 10"),
    (Host().facts(), {"buf_size_prest": 5}, "did you mean buf_size_preset"),
])
def test_plan_errors(facts, given, message):
    with pytest.raises(AnsibleFilterError, match=message):
        plan.plan(facts, given)


# policy

def test_policy_is_completed():
    assert policy.policy({"falco_tune_buf_size_preset": "5"}) == dict(policies.complete({}), buf_size_preset=5)
    assert policy.policy({"my_metrics": "no"}, "my_")["metrics"] is False


@pytest.mark.parametrize("given, message", [
    ("buf_size_preset=5", "policy: expected a mapping of policy keys"), (None, "policy: expected a mapping"),
    ([], "policy: expected a mapping"),
    ({"falco_tune_layout": "x"}, "falco_tune_layout is 'x': expected one of auto, dropin, full"),
])
def test_policy_errors(given, message):
    with pytest.raises(AnsibleFilterError, match=message):
        policy.policy(given)


# buffer_settings: what-if with no host

@pytest.mark.parametrize("driver, cpus, more, result", [
    ("modern_ebpf", 96, {}, (7, 6, 16)),
    ("modern_ebpf", 96, {"memory": 384 * GIB}, (7, 6, 16)),
    ("modern_ebpf", 96, {"memory": 8 * GIB}, (4, 6, 16)),
    ("modern_ebpf", 96, {"memory": {"total": 384 * GIB, "available": 1 * GIB}}, (3, 6, 16)),
    ("modern_ebpf", 96, {"memory": 8 * GIB, "policy": {"memory_share_percent": 50}}, (7, 6, 16)),
    ("modern_ebpf", 4, {"policy": {"falco_tune_buf_size_preset": 9}}, (9, 2, 2)),
    ("modern_ebpf", 4, {"current": {"buf_size_preset": 8, "cpus_for_each_buffer": 2}}, (8, 2, 2)),
    ("kmod", 96, {}, (6, None, 96)),
    ("ebpf", 4, {"release": "0.43.0"}, (4, None, 4)),
    ("kmod", 2, {"release": "0.33.0"}, (4, None, 2)),
])
def test_buffer_settings(driver, cpus, more, result):
    found = buffer_settings.buffer_settings(driver, cpus, **more)
    assert (found["buf_size_preset"], found["cpus_for_each_buffer"], found["count"]) == result
    assert found["bytes_total"] == found["count"] * found["bytes_each"] == found["count"] * (MIB << (found["buf_size_preset"] - 1))
    assert found["reasons"] and found["budget"]["bound"]


@pytest.mark.parametrize("driver, cpus, more, message", [
    ("ebpf", 4, {}, "buffer_settings: driver 'ebpf' is not one of Falco 0.44.1's: kmod, modern_ebpf"),
    ("bpf", 4, {}, "buffer_settings: driver 'bpf' is not one of"),
    ("modern_ebpf", 4, {"release": "0.33.0"}, "driver 'modern_ebpf' is not one of Falco 0.33.0's: kmod, ebpf"),
    ("kmod", 0, {}, "buffer_settings: cpus is 0: expected a number from 1 to 65536"),
    ("kmod", True, {}, "cpus is True"), ("kmod", "4", {}, "cpus is '4'"), ("kmod", 65537, {}, "cpus is 65537"),
    ("kmod", 4, {"release": "0.1.0"}, "buffer_settings: Falco 0.1.0 is older than 0.33"),
    ("kmod", 4, {"release": None}, "buffer_settings: None is not a Falco version"),
    ("kmod", 4, {"policy": {"buf_size_preset": 0}}, "buffer_settings: falco_tune_buf_size_preset is 0"),
    ("kmod", 64, {"memory": 64 * MIB}, "buffer_settings: no buffers fit the budget of 1.28 MiB"),
    ("kmod", 4, {"memory": "16 GiB"}, "buffer_settings: memory is '16 GiB'"),
    ("kmod", 4, {"current": {"buf_size_preset": 0}}, "buffer_settings: current is"),
    ("kmod", 4, {"current": 8}, "buffer_settings: current is 8"),
])
def test_buffer_settings_errors(driver, cpus, more, message):
    with pytest.raises(AnsibleFilterError) as raised:
        buffer_settings.buffer_settings(driver, cpus, **more)
    assert message in str(raised.value)


# explain

CHANGE = {"kind": "config", "key": "metrics.enabled", "from": False, "to": True, "why": "without metrics drops are silent"}
EVIDENCE = {"pid": 7, "events": 900, "source": "metrics file", "blind_seconds_at_most": 1.5,
            "buffers": {"bytes_each": 32 * MIB, "source": "log"}}


@pytest.mark.parametrize("result, lines", [
    ({}, []),
    ({"changes": [CHANGE]}, ["metrics.enabled: false -> true (without metrics drops are silent)"]),
    ({"changes": [dict(CHANGE, **{"from": None, "to": 5})]}, ["metrics.enabled: (not set) -> 5 (without metrics drops are silent)"]),
    ({"changes": [], "msg": "a restart is needed"}, ["a restart is needed"]),
    ({"evidence": EVIDENCE},
     ["proof: process 7 counted 900 events (metrics file), rings of 32 MiB (log); no event was seen for at most 1.5 s"]),
    ({"evidence": dict(EVIDENCE, buffers=None)},
     ["proof: process 7 counted 900 events (metrics file); no event was seen for at most 1.5 s"]),
    ({"evidence": {"pid": 7, "events": 0, "basis": "process", "source": None, "reason": "metrics are off"}},
     ["proof: process 7 counted 0 events (process only: metrics are off); nothing tells when it saw events again"]),
])
def test_explain(result, lines):
    assert explain.explain(result) == lines


def test_explain_writes_out_control_characters_of_the_host():
    assert explain.explain({"msg": "kept: \x1b[2J\r\n"}) == ["kept: \\x1b[2J\\x0d\\x0a"]


def test_explain_says_what_the_buffers_buy():
    made = planner.make(Host(cpus=32, total=256 * GIB, available=200 * GIB).facts(), {})
    lines = explain.explain({"changes": made["changes"]}, made)
    assert len(lines) == len(made["changes"]) + 1
    assert lines[-1].startswith("buffers: 8 x 32 MiB = 256 MiB of at most 5.12 GiB (2 % of 256 GiB); they bridge ")
    bridged = made["seconds_bridged"]
    assert "%s s instead of %s s at 3000 events/s per CPU" % (bridged["after"], bridged["before"]) in lines[-1]


@pytest.mark.parametrize("cpu, beginning, last", [
    ({"on": 140.0, "waiting": 867.0, "throttled": None}, "verdict: dropping, bottleneck starved", "expected: a Falco that lost 84 %"),
    ({"on": 970.0, "waiting": 3.0, "throttled": None}, "verdict: dropping, bottleneck consumer", "next: watch fewer system calls"),
])
def test_explain_says_what_was_measured_and_what_follows(cpu, beginning, last):
    made = planner.make(Host(age=1000.0, cpu=cpu, pair=measured(drops=50000)).facts(), {})
    lines = explain.explain({"changes": []}, made)
    assert lines[0] == beginning and lines[-1].startswith(last)
    assert all(line.startswith("because: ") for line in lines[1:-1]) and len(lines) > 3


def test_verdict_is_the_core_s():
    found = Host(age=1000.0, pair=measured(drops=1500)).facts()
    assert verdict.verdict(found) == verdicts.judge(found, policies.complete({}))
    assert verdict.verdict(found, {"falco_tune_accepted_drops_percent": 2})["state"] == "acceptable"


@pytest.mark.parametrize("facts, given, message", [
    (None, {}, "verdict: expected the facts of falcotune.fleet.falco_facts"), ({}, {}, "verdict: expected the facts"),
    (Host().facts(), {"min_observation": 0}, "verdict: falco_tune_min_observation is 0: expected a number from 1"),
])
def test_verdict_errors(facts, given, message):
    with pytest.raises(AnsibleFilterError, match=message):
        verdict.verdict(facts, given)


@pytest.mark.parametrize("result", [None, "text", [CHANGE]])
def test_explain_errors(result):
    with pytest.raises(AnsibleFilterError, match="explain: expected the result of falcotune.fleet.falco_config"):
        explain.explain(result)


# syscall_set

RULES = """
- rule: Files
  desc: d
  condition: evt.type in (open, openat) and proc.name = x
  output: o
  priority: WARNING
"""


def test_syscall_set_reads_rules_files_without_falco():
    made = syscall_set.syscall_set(RULES, "0.44.1", profile={"seconds": 1, "counts": {"recvfrom": 1000, "openat": 10}})
    assert made["repair"] is True and made["custom_set"] == [] and made["coverage"]["rules_total"] == 1
    assert (made["before"]["events_per_second"], made["after"]["events_per_second"]) == (1010.0, 10.0)
    assert syscall_set.syscall_set([RULES, ""], "0.38.2")["basis"] == "none"


@pytest.mark.parametrize("given, release, more, message", [
    (7, "0.44.1", {}, "expected ansible_facts.falco.syscalls.rules, or the text"),
    (RULES, "0.34.1", {}, "cannot choose system calls"), (RULES, "new", {}, "is not a Falco version"),
    ("- rule: [broken", "0.44.1", {}, "rules file 1 line"), (RULES.replace("openat", "opnat"), "0.44.1", {}, "opnat"),
    (RULES, "0.44.1", {"policy": {"required_syscalls": ["pread64"]}}, "Falco calls it pread"),
    (RULES, "0.44.1", {"policy": {"syscals": "keep"}}, "did you mean syscalls"),
    ([{"name": "x"}], "0.44.1", {}, "another shape than documented"),
])
def test_syscall_set_errors(given, release, more, message):
    with pytest.raises(AnsibleFilterError, match=message):
        syscall_set.syscall_set(given, release, **more)
