# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tune_falco over fleets in which something goes wrong: what is changed, what is put back, where it stops, and how it goes on."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conftest import everything, falco_files, leftovers, ring_bytes, starts_of, unit, wait_for
from playbooks import ROOT, TUNE, environment, play

CHANGED = {"metrics.resource_utilization_enabled": True}
REFUSES = {"refuse": "no device", "when": CHANGED}
LARGE = {"cpus": 16, "memory": "64G"}
HOSTVARS = {"falco_tune_min_healthy_time": 1, "falco_tune_healthy_deadline": 15}
# One batch, whatever becomes of it.
AT_ONCE = {**HOSTVARS, "falco_tune_canaries": 0, "falco_tune_serial": "100%", "falco_tune_failure_budget": "100%"}
METRICS = {"enabled": True, "interval": "1s", "output_file": "{root}/var/log/falco/metrics.jsonl", "output_rule": False,
           "resource_utilization_enabled": True, "kernel_event_counters_enabled": True, "libbpf_stats_enabled": True}


def cure(host) -> None:
    """What was wrong with its Falco is so no more."""
    path = host.root / "etc/falco-sim.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "fault": None}))


def by_name(fleet) -> dict:
    return {host.name: host for host in fleet.hosts}


def outcomes(run) -> dict[str, str]:
    return {host["name"]: host["outcome"] for batch in run.record()["batches"] for host in batch["hosts"]}


def batches(run) -> list[list[str]]:
    return [[host["name"] for host in batch["hosts"]] for batch in run.record()["batches"]]


def test_a_canary_that_fails_leaves_the_fleet_untouched_and_a_second_run_goes_on(fleet_of):
    fleet = fleet_of({"c1": {**LARGE, "fault": REFUSES}, "c2": LARGE, "other": {"cpus": 2}, "c3": LARGE}, hostvars=HOSTVARS)
    hosts, before = by_name(fleet), {host.name: everything(host) for host in fleet.hosts}
    starts = {name: starts_of(host) for name, host in hosts.items()}
    first = play(TUNE, fleet.inventory)
    assert first.status == 2 and first.record()["state"] == "stopped"
    assert first.record()["reason"] == "the canary c1 was reverted"
    assert batches(first) == [["c1", "other"]] and outcomes(first) == {"c1": "reverted", "other": "done"}
    assert first.record()["left"] == ["c2", "c3"]
    assert unit(hosts["c1"])["ActiveState"] == "active" and leftovers(hosts["c1"]) == []
    for name in ("c2", "c3"):
        assert everything(hosts[name]) == before[name] and starts_of(hosts[name]) == starts[name]
        assert first.trips(name) == 1
    assert "Error: no device" in first.failure("c1") and set(first.failures) == {"c1"}

    cure(hosts["c1"])
    other = starts_of(hosts["other"])
    second = play(TUNE, fleet.inventory, "-e", "falco_tune_serial=100%")
    assert second.status == 0 and second.record()["state"] == "finished"
    assert outcomes(second) == dict.fromkeys(("c1", "c2", "c3"), "done")
    assert starts_of(hosts["other"]) == other and second.trips("other") == 1
    third = play(TUNE, fleet.inventory)
    assert third.changed == set() and third.status == 0 and third.record()["batches"] == []


def test_the_failure_budget_stops_it_over_all_batches(fleet_of):
    names = ["h%d" % number for number in range(8)]
    hosts = {name: {"fault": REFUSES} if name in ("h0", "h3") else {} for name in names}
    fleet = fleet_of(hosts, hostvars={**HOSTVARS, "falco_tune_canaries": 0, "falco_tune_serial": [1, 3], "falco_tune_failure_budget": 1})
    run = play(TUNE, fleet.inventory)
    record = run.record()
    # The first batch failed whole: Ansible alone would have ended here.
    assert batches(run) == [["h0"], ["h1", "h2", "h3"]]
    assert outcomes(run) == {"h0": "reverted", "h1": "done", "h2": "done", "h3": "reverted"}
    assert record["budget"] == {"allowed": 1, "used": 2} and record["left"] == names[4:]
    assert record["reason"] == "2 hosts were reverted, failed or lost, and falco_tune_failure_budget allows 1 of 8"
    assert set(run.failures) == {"h0", "h3"} and run.status == 2
    assert record["planned"]["changing"] == 8 and record["planned"]["blind_seconds"] == 24
    for host in fleet.hosts:
        assert unit(host)["ActiveState"] == "active" and leftovers(host) == []
        if outcomes(run).get(host.name) != "reverted":
            assert starts_of(host) == (1 if host.name > "h3" else 2), host.name


def test_the_second_look_finds_what_fails_after_its_proof(fleet_of):
    """One host takes its time; meanwhile the others die, go blind, or are well. What fails is rolled back."""
    fleet = fleet_of({
        "slow": {"startup_seconds": 7, "cpus": 2}, "dies-late": {"fault": {"die_after": 5, "when": CHANGED}, "cpus": 2},
        "blind-late": {"fault": {"blind": 4, "when": CHANGED}, "cpus": 2}, "kept": {"fault": {"blind": 4, "when": CHANGED}, "cpus": 2,
                                                                     "hostvars": {**AT_ONCE, "falco_tune_auto_revert": False}},
        "well": {"cpus": 2}}, hostvars={**AT_ONCE, "falco_tune_healthy_deadline": 20})
    hosts, before = by_name(fleet), {host.name: falco_files(host) for host in fleet.hosts}
    run = play(TUNE, fleet.inventory)
    assert outcomes(run) == {"slow": "done", "dies-late": "reverted", "blind-late": "reverted", "kept": "failed", "well": "done"}
    assert "after its proof: Falco started and died" in run.result_of("dies-late")["reason"]
    assert "it stopped writing metrics" in run.result_of("blind-late")["reason"]
    assert "falco_tune_auto_revert is false: the change was left as it is" in run.result_of("kept")["reason"]
    for name in ("dies-late", "blind-late"):
        assert falco_files(hosts[name]) == before[name] and unit(hosts[name])["ActiveState"] == "active"
        assert not (hosts[name].root / "etc/logrotate.d/falcotune").exists() and leftovers(hosts[name]) == []
        wait_for(lambda name=name: int(unit(hosts[name])["MainPID"]), what="a process")
    assert falco_files(hosts["kept"]) != before["kept"] and falco_files(hosts["well"]) != before["well"]
    assert run.result_of("well")["evidence"].startswith("counters (metrics.output_file), buffers")


def test_a_host_that_loses_more_than_before_is_put_back(fleet_of):
    """Bursts that the rings bridge, and smaller ones don't."""
    fleet = fleet_of({"bursts": {
        "config": {"metrics": METRICS}, "consumer_events_per_second": 600000,
        "load": {"events_per_second": 1000, "burst": {"events_per_second": 2000000, "seconds": 0.1, "every": 1}}}},
        hostvars={**AT_ONCE, "falco_tune_min_observation": 2, "falco_tune_window": "1m", "falco_tune_min_healthy_time": 6})
    host = fleet.hosts[0]
    path = host.root / "var/log/falco/metrics.jsonl"
    wait_for(lambda: path.read_text().count("\n") > 5, what="some snapshots")
    before = falco_files(host)
    run = play(TUNE, fleet.inventory, "-e", "falco_tune_buf_size_preset=1")
    assert outcomes(run) == {"bursts": "reverted"}
    assert "% of the events now; the limit after this change is 1.0 %" in run.failure("bursts")
    assert falco_files(host) == before and ring_bytes(host) == 8 << 20


def test_a_failure_domain_is_never_blinder_than_allowed(fleet_of):
    racks = {"a%d" % number: "a" for number in range(5)} | {"b%d" % number: "b" for number in range(3)}
    hosts = {name: {"hostvars": {**AT_ONCE, "rack": rack}} for name, rack in racks.items()}
    hosts["a4"]["hostvars"].update(ansible_connection="ssh", ansible_host="127.0.0.1", ansible_port=1)
    hosts["b2"]["running"] = False
    fleet = fleet_of(hosts)
    run = play(TUNE, fleet.inventory, "-e", "falco_tune_failure_domain=rack", "-e", "falco_tune_domain_share_percent=40")
    record = run.record()
    # Two of five may be blind and one is down; one of three may be, and it is.
    assert batches(run) == [["a0"], ["a1"], ["a2"], ["a3"]]
    assert record["domains"] == [{"name": "a", "hosts": 5, "allowed": 2, "most_blind": 2},
                                 {"name": "b", "hosts": 3, "allowed": 1, "most_blind": 1}]
    assert {item["name"] for item in record["down"]} == {"a4", "b2"} and record["left"] == ["b0", "b1"]
    assert record["planned"]["unreachable"] == 1 and record["planned"]["refused"] == 1
    entries = [host for batch in record["batches"] for host in batch["hosts"]]
    assert all(one["ended"] <= other["began"] for one, other in zip(entries, entries[1:]))
    assert all(entry["domain"] == "a" and entry["blind_seconds"] > 0 and entry["class"] == "modern_ebpf from 1 CPUs, Falco 0.44.1"
               for entry in entries)
    assert run.status != 0 and set(run.failures) == {"a4", "b2"}
    assert starts_of(by_name(fleet)["b0"]) == 1


def test_promotion_by_hand_waits_where_there_is_no_terminal_and_a_second_run_goes_on(fleet_of):
    fleet = fleet_of({"p1": {}, "p2": {}, "p3": {}}, hostvars=HOSTVARS)
    first = play(TUNE, fleet.inventory, "-e", "falco_tune_promote=manual")
    assert first.record()["state"] == "awaiting_promotion" and first.status == 0
    assert batches(first) == [["p1"]] and first.record()["left"] == ["p2", "p3"]
    second = play(TUNE, fleet.inventory, "-e", "falco_tune_promote=auto", "-e", "falco_tune_serial=100%",
                  ANSIBLE_STDOUT_CALLBACK="falcotune.fleet.rollout")
    assert batches(second) == [["p2", "p3"]] and second.record()["state"] == "finished"
    # In a log, a line a batch and no others of its kind.
    lines = [line for line in second.output.splitlines() if " blind now" in line]
    assert len(lines) == 1 and lines[0].startswith("batch 1 of 1: 2 done, 0 reverted, 0 left, 0 blind now | 0:0"), second.output
    assert "\033" not in second.output and "the rollout is finished after 1 batch: 2 done" in second.output


def test_consent_that_nobody_gives_changes_nothing(fleet_of):
    fleet = fleet_of({"n1": {}, "n2": {}}, hostvars=HOSTVARS)
    before = {host.name: everything(host) for host in fleet.hosts}
    run = play(TUNE, fleet.inventory, "-e", "falco_tune_confirm=true")
    assert run.record()["state"] == "stopped" and "nobody answered yes: nothing was changed" in run.record()["reason"]
    assert run.record()["batches"] == [] and run.changed == set()
    assert {host.name: everything(host) for host in fleet.hosts} == before


@pytest.mark.parametrize("started_by", ['{"awx_job_id": 7}', '{"ansible_eda": {"rule": "x"}}'])
def test_nobody_is_asked_on_the_terminal_that_ansible_runner_makes(fleet_of, started_by):
    """ansible-runner starts ansible-playbook on a terminal of its own, where a question would wait without end."""
    fleet = fleet_of({"q1": {}, "q2": {}}, hostvars=HOSTVARS)
    before = {host.name: everything(host) for host in fleet.hosts}
    status, output = on_a_terminal(TUNE, fleet.inventory, "-e", "falco_tune_confirm=true", "-e", started_by)
    assert "nobody answered yes: nothing was changed" in " ".join(output.split()), output
    assert {host.name: everything(host) for host in fleet.hosts} == before
    status, output = on_a_terminal(TUNE, fleet.inventory, "-e", "falco_tune_promote=manual", "-e", started_by)
    assert status == 0 and "falco_tune_promote is manual" in " ".join(output.split()), output
    assert sum(everything(host) != before[host.name] for host in fleet.hosts) == 1


def on_a_terminal(playbook, inventory, *words):
    """(exit status, output) of a playbook that may ask. A question is an error: nobody answers."""
    command = [str(Path(sys.executable).with_name("ansible-playbook")), playbook, "-i", str(inventory), *words]
    child, terminal = pty.fork()
    if not child:
        os.chdir(ROOT)
        os.execve(command[0], command, environment())
    output = b""
    try:
        while select.select([terminal], [], [], 120)[0]:
            try:
                output += os.read(terminal, 65536)
            except OSError:  # the end of the child
                break
            assert b"Only yes does" not in output and b"Enter yes" not in output, output.decode()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGHUP)
        os.close(terminal)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, output.decode()


def test_a_change_that_is_kept_is_made_once_it_may_be(fleet_of):
    fleet = fleet_of({"busy": {}}, hostvars=HOSTVARS)
    host = fleet.hosts[0]
    before, starts = falco_files(host), starts_of(host)
    first = play(TUNE, fleet.inventory, "-e", "falco_tune_restart_ok=false")
    assert outcomes(first) == {"busy": "staged"} and first.changed == {"busy"} and first.status == 0
    folder = host.root / "var/lib/falcotune/staged"
    assert folder.stat().st_mode & 0o7777 == 0o700 and (folder / "manifest.json").exists()
    log = host.root / "var/log/syslog"
    wait_for(lambda: time.time() - log.stat().st_mtime > 3, what="silence in Falco's log")
    assert falco_files(host) == before and starts_of(host) == starts  # no hot reload either
    other = play(TUNE, fleet.inventory, "-e", "falco_tune_restart_ok=false", "-e", "falco_tune_buf_size_preset=6")
    assert other.changed == {"busy"}  # another change is kept instead
    last = play(TUNE, fleet.inventory)
    assert outcomes(last) == {"busy": "done"} and not folder.exists() and starts_of(host) == starts + 1
    assert ring_bytes(host) == 8 << 20


def test_a_candidate_that_falco_refuses_is_not_kept(fleet_of):
    fleet = fleet_of({"refuses": {"fault": {"refuse_config": "no such luck", "when": CHANGED}}},
                     hostvars={**HOSTVARS, "falco_tune_restart_ok": False})
    run = play(TUNE, fleet.inventory)
    assert "Falco refuses the candidate configuration" in run.failure("refuses")
    assert not (fleet.hosts[0].root / "var/lib/falcotune/staged").exists() and leftovers(fleet.hosts[0]) == []


def test_two_rollouts_at_once_change_each_host_once(fleet_of):
    fleet = fleet_of({"t%d" % number: {} for number in range(3)}, hostvars=AT_ONCE)
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda _turn: play(TUNE, fleet.inventory), range(2)))
    for host in fleet.hosts:
        assert starts_of(host) == 2 and leftovers(host) == [] and unit(host)["ActiveState"] == "active"
        assert [host.name in run.changed for run in runs].count(True) == 1
    for run in runs:
        for name, message in run.failures.items():
            assert "another run is changing Falco on this host" in message or "changed" in message, (name, message)
    assert play(TUNE, fleet.inventory).changed == set()


def test_evidence_is_policy_and_said_of_each_host(fleet_of):
    fleet = fleet_of({"counted": {}, "content": {"fault": {"blind": True, "when": CHANGED}, "hostvars": {
        **AT_ONCE, "falco_tune_evidence": "process"}}, "old": {"release": "0.33.1", "driver": "kmod"},
        "strict": {"release": "0.33.1", "driver": "kmod", "hostvars": {**AT_ONCE, "falco_tune_evidence": "counters"},
                   "config": {"syscall_buf_size_preset": 2}}},
        hostvars=AT_ONCE)
    run = play(TUNE, fleet.inventory)
    assert run.result_of("counted")["evidence"].startswith("counters (metrics.output_file)")
    assert run.result_of("content")["evidence"].startswith("process only: falco_tune_evidence is process")
    assert "falco_tune_evidence is counters, and this host would have none" in run.failure("strict")
    assert starts_of(by_name(fleet)["strict"]) == 1


BAD = {
    "batches of nobody": ({"falco_tune_serial": [0]}, "falco_tune_serial is [0]: expected a number of hosts from 1"),
    "batches of 110 %": ({"falco_tune_serial": "110%"}, "falco_tune_serial is '110%': expected a number of hosts from 1, a percentage"),
    "an unknown failure domain": ({"falco_tune_failure_domain": "rak"},
                                  "falco_tune_failure_domain is 'rak', and this host has no such variable (did you mean rack?)"),
    "a deadline that is too short": ({"falco_tune_healthy_deadline": 10, "falco_tune_min_healthy_time": 20},
                                     "falco_tune_min_healthy_time (20 s) must be shorter than falco_tune_healthy_deadline (10 s)"),
}


@pytest.fixture(scope="module")
def innocent(fleet_of):
    return fleet_of({"i1": {"hostvars": {"rack": "a"}}, "i2": {"hostvars": {"rack": "b", "falco_tune_canaries": 2}}})


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_before_anything_is_touched(case, innocent):
    words, message = BAD[case]
    before = {host.name: everything(host) for host in innocent.hosts}
    run = play(TUNE, innocent.inventory, "-e", json.dumps({"falco_tune_canaries": 1, **words}))
    assert run.status == 2 and set(run.failures) == {"i1", "i2"}
    assert all(message in said for said in run.failures.values()), run.failures
    assert {host.name: everything(host) for host in innocent.hosts} == before


def test_hosts_that_want_different_rollouts_are_refused(innocent):
    run = play(TUNE, innocent.inventory)
    assert run.status == 2 and run.changed == set()
    assert "falco_tune_canaries is 1 for i1 and 2 for i2: a rollout has one value for all its hosts" in "".join(run.failures.values())


def test_a_template_in_what_a_host_says_is_text(fleet_of, tmp_path):
    """The reasons of hosts travel through the rollout's fact, its summary and its record."""
    fleet = fleet_of({"hostile": {"running": False}, "well": {}}, hostvars=AT_ONCE)
    text = "{{ lookup('ansible.builtin.pipe', 'touch %s') }}" % (tmp_path / "executed")
    program = by_name(fleet)["hostile"].root / "usr/bin/falco"
    program.write_text(program.read_text().splitlines()[0] + "\nprint(%r)\n" % text)
    run = play(TUNE, fleet.inventory)
    assert outcomes(run) == {"well": "done"} and not (tmp_path / "executed").exists()
    assert any("{{ lookup" in item["reason"] for item in run.record()["down"]) and run.status == 2


def test_an_empty_inventory_is_refused(tmp_path):
    (tmp_path / "hosts").write_text("[falco]\n")
    run = play(TUNE, tmp_path / "hosts")
    assert run.status != 0 and "no host matched: expected some to tune; look at the inventory" in run.output


def test_a_pattern_without_hosts_is_refused(innocent):
    run = play(TUNE, innocent.inventory, "-e", "falco_tune_hosts=nobody")
    assert run.status != 0 and "look at the inventory (-i) and at falco_tune_hosts" in run.output and run.changed == set()


def test_hosts_that_are_called_like_patterns_are_hosts(fleet_of):
    fleet = fleet_of({"web-01.example.com": {}, "10.0.0.7": {}, "node": {}}, hostvars=HOSTVARS)
    run = play(TUNE, fleet.inventory, "--limit", "10.0.0.7,node", "-e", "falco_tune_serial=1")
    assert batches(run) == [["10.0.0.7"], ["node"]] and run.status == 0, run.output


SLICE = {"awx_job_template_name": "Tune", "awx_workflow_job_name": "Tune", "awx_workflow_job_id": 88, "awx_job_id": 90}


def test_a_rollout_over_a_slice_is_refused_before_anything_is_touched(fleet_of):
    fleet = fleet_of({"s1": {}, "s2": {}}, hostvars={**HOSTVARS, "rack": "a", "falco_tune_failure_domain": "rack"})
    before = {host.name: everything(host) for host in fleet.hosts}
    run = play(TUNE, fleet.inventory, "-e", json.dumps(SLICE))
    assert run.status == 2 and "Hosts of the same rack may be in other slices" in " ".join(run.output.split())
    assert {host.name: everything(host) for host in fleet.hosts} == before and run.changed == set()
    assert {name: run.trips(name) for name in before} == {"s1": 1, "s2": 1}
    separate = play(TUNE, fleet.inventory, "-e", json.dumps({**SLICE, "falco_tune_slices": "separate"}))
    assert separate.status == 0 and outcomes(separate) == {"s1": "done", "s2": "done"}


def test_two_rollouts_do_not_spend_the_share_of_one_failure_domain(fleet_of, tmp_path):
    """Each has one host of the rack, of which one may be blind."""
    fleet = fleet_of({"r1": {"startup_seconds": 8}, "r2": {}}, hostvars={**HOSTVARS, "rack": "a", "falco_tune_failure_domain": "rack"})
    before = everything(by_name(fleet)["r2"])
    table = tmp_path / "falcotune-rollouts.json"
    with ThreadPoolExecutor() as pool:
        first = pool.submit(play, TUNE, fleet.inventory, "-l", "r1", ANSIBLE_HOME=str(tmp_path))
        wait_for(lambda: table.exists() and "rack=a" in table.read_text(), 60, "the first rollout")
        second = play(TUNE, fleet.inventory, "-l", "r2", ANSIBLE_HOME=str(tmp_path))
        assert not first.done()
    told = " ".join(second.output.split())
    assert second.status == 2 and "another rollout holds 1 failure domain of this one (rack=a): ansible-playbook with pid" in told
    assert everything(by_name(fleet)["r2"]) == before and outcomes(first.result()) == {"r1": "done"}
    assert json.loads(table.read_text()) == {}
    assert outcomes(play(TUNE, fleet.inventory, "-l", "r2", ANSIBLE_HOME=str(tmp_path))) == {"r2": "done"}
