# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The step to fewer system calls: asked for, planned, read by the host's own Falco, applied, and told with what it costs."""

from __future__ import annotations

import re
import time

import pytest
import yaml

import direct
from conftest import falco_files, leftovers, wait_for
from playbooks import AUDIT, TUNE, play

METRICS = {"enabled": True, "interval": "500ms", "output_rule": False, "output_file": "{root}/var/log/falco/metrics.jsonl",
           "resource_utilization_enabled": True, "state_counters_enabled": True, "kernel_event_counters_enabled": True,
           "libbpf_stats_enabled": True, "convert_memory_to_mb": True, "include_empty_values": False}
RULES = """\
- rule: Files
  desc: d
  condition: evt.type in (open, openat, openat2) and proc.name=x
  output: o
  priority: WARNING
- rule: Network
  desc: d
  condition: evt.type in (connect, sendto, sendmsg) and proc.name=x
  output: o
  priority: NOTICE
  tags: [network]
- rule: Programs
  desc: d
  condition: evt.type in (execve, execveat) and proc.name=x
  output: o
  priority: CRITICAL
- rule: Shadow
  desc: d
  condition: evt.type in (open, openat, openat2) and fd.name=/etc/shadow
  output: o
  priority: WARNING
- rule: Shells
  desc: d
  condition: evt.type in (dup, dup2, dup3) and fd.type in (ipv4, ipv6) and not user.name=root
  output: o
  priority: NOTICE
"""
# Twice what one thread can take in.
BUSY = {"load": {"events_per_second": 200000}, "consumer_events_per_second": 80000, "config": {"metrics": METRICS},
        "files": {"etc/falco/falco_rules.yaml": RULES}}
HOSTS = {
    "lean": BUSY,
    # kmod loads no BPF programs, so a short interval is allowed from the first restart on.
    "unmeasured": {**BUSY, "driver": "kmod", "config": {}, "measures": None, "hostvars": {"falco_tune_metrics_interval": "500ms"}},
    "lean-38": {**BUSY, "release": "0.38.2", "driver": "kmod"},
    "exclude": {**BUSY, "hostvars": {"falco_tune_syscalls": "exclude", "falco_tune_accepted_drops_percent": 0.5}},
    "keep": {**BUSY, "hostvars": {"falco_tune_syscalls": "keep"}},
    "fixed": {"load": {"events_per_second": 1000}, "config": {"metrics": METRICS}, "files": {"etc/falco/falco_rules.yaml": RULES},
              "hostvars": {"falco_tune_base_syscalls": {"custom_set": ["!sendto"], "repair": True}}},
    "protected": {"load": {"events_per_second": 1000}, "config": {"metrics": METRICS}, "files": {"etc/falco/falco_rules.yaml": RULES},
                  "hostvars": {"falco_tune_base_syscalls": {"custom_set": ["!execve"]}}},
    "misspelt": {"load": {"events_per_second": 1000}, "config": {"metrics": METRICS}, "files": {"etc/falco/falco_rules.yaml": RULES},
                 "hostvars": {"falco_tune_required_syscalls": ["pread64"], "falco_tune_base_syscalls": {"repair": True}}},
}
EVIDENCE = ("-e", "falco_tune_min_observation=3", "-e", "falco_tune_profile_seconds=0")


@pytest.fixture(scope="module")
def fleet(fleet_of):
    fleet = fleet_of(HOSTS)
    observed(measured(fleet))
    return fleet


def measured(fleet):
    return [host for host in fleet.hosts if host.name != "unmeasured"]


@pytest.fixture(scope="module")
def hosts(fleet):
    return {host.name: host for host in fleet.hosts}


def observed(hosts):
    """Four seconds of metrics from now on."""
    since = time.time()

    def enough(host):
        text = (host.root / "var/log/falco/metrics.jsonl").read_text()
        return sum(int(found) > since * 1e9 for found in re.findall(r'"evt.time":(\d+)', text)) > 8
    wait_for(lambda: all(enough(host) for host in hosts), 60, "metrics")


def written(host):
    path = host.root / "etc/falco/config.d/zz-falcotune.yaml"
    return yaml.safe_load(path.read_text()) if path.exists() else {}


@pytest.fixture(scope="module")
def checked(fleet, hosts):
    before = {name: falco_files(host) for name, host in hosts.items()}
    run = play(TUNE, fleet.inventory, "--check", "--diff", *EVIDENCE)
    assert {name: falco_files(host) for name, host in hosts.items()} == before
    return run


@pytest.fixture(scope="module")
def tuned(fleet, hosts, checked):
    observed(measured(fleet))
    return play(TUNE, fleet.inventory, *EVIDENCE)


def plan_of(run, host):
    return next(event["result"]["ansible_facts"]["falco_plan"] for event in run.of(host)
                if "falco_plan" in (event["result"].get("ansible_facts") or {}))


def test_check_mode_shows_what_goes_blind(checked):
    part = next(item for item in checked.result("fixed", "falco_config")["diff"] if "rules that lose events" in item["after_header"])
    assert part["before_header"] == "rules that lose events, of 5" and part["before"] == ""
    told = part["after"].splitlines()
    assert "half blind: Network (lost sendto, left connect, sendmsg)" in told and "half blind: Shadow" in told
    # The policy's own words here are a plain repair: what it takes from rules beside events is told by its name.
    assert ("  unseen: paths relative to a directory handle copied by fcntl (F_DUPFD): grep -r, find, rm -r, chmod -R, shells that save "
            "a descriptor (fcntl)") in told
    assert "  unseen: descriptors of connections taken by accept: servers, bind shells (accept)" in told
    assert "  unseen: user ids changed by setreuid (setreuid; false alarms possible: user.name)" in told


@pytest.mark.parametrize("name", ["lean", "lean-38"])
def test_a_host_whose_thread_is_at_its_end_watches_less_and_no_rule_loses_anything(name, tuned, hosts):
    plan = plan_of(tuned, name)
    assert plan["verdict"]["bottleneck"] == "consumer" and plan["step"]["name"] == "syscalls", plan["verdict"]
    block = written(hosts[name])["base_syscalls"]
    assert block["repair"] is True and {"fcntl", "accept", "recvmsg", "socketpair", "pidfd_getfd"} <= set(block["custom_set"])
    assert ("setreuid" in block["custom_set"]) == (name == "lean"), "followed since 0.39"
    assert plan["coverage"] == {"rules_total": 5, "blind": [], "half_blind": [], "wrong_output": [], "newly": []}
    assert "recvfrom" in plan["syscalls"]["removed"] and "no rule loses anything" in plan["step"]["expected"]
    result = tuned.result(name, "falco_config")
    assert result["evidence"]["interruptions"] == 1 and leftovers(hosts[name]) == []


def test_a_thread_without_idle_time_watches_less_from_the_restart_on_that_switches_metrics_on(tuned, hosts):
    plan, block = plan_of(tuned, "unmeasured"), written(hosts["unmeasured"])
    assert plan["verdict"]["drops_percent"] is None and plan["verdict"]["bottleneck"] == "consumer", plan["verdict"]
    assert block["metrics"]["enabled"] is True and block["metrics"]["kernel_event_counters_per_cpu_enabled"] is True
    assert block["base_syscalls"]["repair"] is True and plan["step"]["name"] == "syscalls"
    assert plan["coverage"] == {"rules_total": 5, "blind": [], "half_blind": [], "wrong_output": [], "newly": []}
    assert tuned.result("unmeasured", "falco_config")["evidence"]["interruptions"] == 1 and leftovers(hosts["unmeasured"]) == []


def test_exclusions_reach_the_target_and_name_the_rules(tuned, hosts):
    plan = plan_of(tuned, "exclude")
    assert plan["syscalls"]["basis"] == "drops"
    told = "\n".join(tuned.output.splitlines())
    assert plan["syscalls"]["frontier"] and "Programs" not in [name for step in plan["syscalls"]["frontier"] for name in step["lost"]]
    assert all("half blind: " + item["rule"] in told for item in plan["coverage"]["half_blind"])
    assert not any(entry.startswith("!") for entry in plan["syscalls"]["custom_set"]), "without two profiles nothing is excluded"
    assert {"execve", "execveat"} <= set(plan["syscalls"]["selected"])


def test_keep_keeps(tuned, hosts):
    assert "base_syscalls" not in written(hosts["keep"]) and plan_of(tuned, "keep")["syscalls"] is None


def test_what_policy_fixes_is_applied(tuned, hosts):
    block = written(hosts["fixed"])["base_syscalls"]
    assert block["custom_set"] == ["!sendto"] and block["repair"] is True
    assert "'!sendto'" in (hosts["fixed"].root / "etc/falco/config.d/zz-falcotune.yaml").read_text()


def test_a_protected_rule_and_a_misspelt_call_are_refused_before_anything_is_touched(tuned, hosts):
    assert "the rule 'Programs' is protected and needs execve" in tuned.failure("protected")
    assert "pread64 is the kernel's name: Falco calls it pread" in tuned.failure("misspelt")
    for name in ("protected", "misspelt"):
        assert not (hosts[name].root / "var/lib/falcotune/record.json").exists()


def test_a_set_that_helped_stays_and_one_that_did_not_is_taken_back_and_not_proposed_again(fleet, hosts, tuned, tmp_path):
    names = ["lean", "fixed"]
    observed([hosts[name] for name in names])
    run = play(TUNE, fleet.inventory, "--limit", ",".join(names), *EVIDENCE)
    assert run.failures == {} and "fixed" not in run.changed, run.output
    before, plan = plan_of(tuned, "lean")["verdict"]["drops_percent"], plan_of(run, "lean")
    if run.changed == set() and written(hosts["lean"])["base_syscalls"]["repair"]:
        # It saved a part of what was predicted, so it stays.
        assert plan["verdict"]["drops_percent"] < before, run.output
    else:
        # What is left is what rules need: it is more than this Falco can take in. The run that narrowed it takes that back where it could
        # measure long enough, or else this one.
        if run.changed:
            assert run.changed == {"lean"} and plan["step"]["name"] == "give_back" and "had no effect" in plan["step"]["why"], run.output
            observed([hosts["lean"]])
            run = play(TUNE, fleet.inventory, "--limit", "lean", *EVIDENCE)
            plan = plan_of(run, "lean")
        assert run.changed == set() and written(hosts["lean"])["base_syscalls"]["repair"] is False, run.output
        assert any("had no effect and was taken back" in reason for reason in plan["verdict"]["reasons"]), plan["verdict"]["reasons"]
    audit = play(AUDIT, fleet.inventory, "--limit", ",".join(names), "-e", f"falco_audit_report_dir={tmp_path}", *EVIDENCE)
    assert audit.status == 0, audit.output


def test_a_dry_run_that_selects_otherwise_stops_the_change(hosts, tuned):
    """The rules change between plan and change: what was said of blind rules would no longer hold."""
    host = hosts["keep"]
    before = falco_files(host)
    request = direct.request(host, buf_size_preset=5)
    selected = plan_of(tuned, "lean")["syscalls"]["selected"]
    answer = direct.finished(direct.started(host, "falco_config", {"request": {**request, "selected": selected}}))
    assert answer["failed"] and "would not select the planned system calls" in answer["msg"], answer
    assert falco_files(host) == before and leftovers(host) == []
