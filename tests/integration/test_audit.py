# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""audit_falco over hosts in every state: what it says, that it changes nothing, and what its exit status tells."""

from __future__ import annotations

import csv
import json
import stat

import pytest

from conftest import everything, starts_of, unit, wait_for
from hosts import free_ports
from playbooks import AUDIT, TUNE, play

METRICS = {"metrics": {"enabled": True, "interval": "500ms", "output_rule": False, "output_file": "{root}/var/log/falco/metrics.jsonl",
                       "resource_utilization_enabled": True, "kernel_event_counters_enabled": True, "libbpf_stats_enabled": True}}
HOSTS = {
    "calm": {"config": METRICS},
    "starved": {"config": METRICS, "starved": 0.8, "load": {"events_per_second": 300000, "bytes_per_event": 335}},
    "unmeasured": {"measures": None, "hostvars": {"falco_tune_healthy_deadline": 120}},
    "stopped": {"running": False},
    "old": {"release": "0.36.2", "driver": "kmod", "config": METRICS},
    "drifted": {},
}
MEASURED = ("calm", "starved", "old")
QUICK = {"falco_tune_min_healthy_time": 1, "falco_tune_healthy_deadline": 20, "falco_tune_min_observation": 2}


@pytest.fixture(scope="module")
def fleet(fleet_of):
    return fleet_of(HOSTS, hostvars=QUICK)


@pytest.fixture(scope="module")
def hosts(fleet):
    found = {host.name: host for host in fleet.hosts}
    for name in MEASURED:
        metrics = found[name].root / "var/log/falco/metrics.jsonl"
        wait_for(lambda path=metrics: path.exists() and len(path.read_text().splitlines()) > 8, 30, f"metrics of {name}")
    return found


@pytest.fixture(scope="module")
def inventory(fleet, tmp_path_factory):
    """The fleet, a host that nothing listens for, and one whose Python is gone."""
    tree = fleet.inventory.read_text()
    path = tmp_path_factory.mktemp("inventory") / "hosts.yml"
    path.write_text(tree + (
        "    gone:\n      ansible_connection: ssh\n      ansible_host: 127.0.0.1\n      ansible_port: %d\n"
        "    pythonless:\n      ansible_python_interpreter: /nonexistent/python3\n" % free_ports(1)[0]))
    return path


@pytest.fixture(scope="module")
def first(hosts, inventory, tmp_path_factory):
    """(the run, the report's directory, the hosts before it)."""
    folder = tmp_path_factory.mktemp("audit") / "reports"
    before = {name: (everything(host), starts_of(host), unit(host)) for name, host in hosts.items()}
    return play(AUDIT, inventory, "-e", f"falco_audit_report_dir={folder}"), folder, before


def model(folder):
    return json.loads((folder / "report.json").read_text())


def entries(folder):
    return {host["name"]: host for host in model(folder)["hosts"]}


def test_every_host_has_a_line_and_none_is_fatal(first):
    run, folder, before = first
    assert run.status == 0, run.output
    assert {name: host["status"] for name, host in entries(folder).items()} == {
        **dict.fromkeys(before, "ok"), "gone": "unreachable", "pythonless": "failed"}


def test_verdicts(first):
    found = {name: host["verdict"] for name, host in entries(first[1]).items() if host["verdict"]}
    assert {name: (item["state"], item["bottleneck"], item["next_step"]) for name, item in found.items()} == {
        "calm": ("healthy", "none", "none"), "starved": ("dropping", "starved", "priority"), "stopped": ("blind", "none", "start"),
        "unmeasured": ("unmeasured", "unknown", "measure"), "old": ("healthy", "none", "none"),
        "drifted": ("unmeasured", "unknown", "observe")}


def test_a_host_is_asked_once_and_not_changed(first, hosts):
    run, folder, before = first
    assert {name: run.trips(name) for name in hosts} == dict.fromkeys(hosts, 1)
    assert run.changed == set()
    for name, host in hosts.items():
        assert (everything(host), starts_of(host), unit(host)) == before[name], name


def test_the_result_of_a_host_is_small(first, hosts):
    """AWX keeps the result of each host in its database. Facts and plan are 8 to 12 kB; the reasons of a loss are the largest part."""
    sizes = {name: len(json.dumps(first[0].result(name, "falco_facts"))) for name in hosts}
    assert max(sizes.values()) <= 4000 and sum(size > 3072 for size in sizes.values()) <= 1, sizes


def test_the_report_says_what_would_change(first):
    found = entries(first[1])
    assert [(item["kind"], item["key"]) for item in found["starved"]["plan"]["changes"]] == [("unit", "CPUWeight"), ("unit", "Nice")]
    assert any(item["key"] == "metrics.enabled" for item in found["unmeasured"]["plan"]["changes"])
    assert "Falco is not running" in found["stopped"]["plan"]["reason"]


def test_all_forms_are_there_for_their_owner_only(first):
    folder = first[1]
    assert {path.name for path in folder.iterdir() if not path.name.endswith(("-wal", "-shm"))} == {
        "report.json", "report.csv", "report.html", "falcotune.prom", "history.sqlite"}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    with open(folder / "report.csv", encoding="utf-8", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == len(entries(folder))
    assert "<script" in (folder / "report.html").read_text()
    assert "starved" in (folder / "falcotune.prom").read_text()


def test_the_summary_is_short_and_in_the_output(first):
    assert "Could not be reached (1): gone" in first[0].output and "Failed (1): pythonless" in first[0].output
    assert "Hosts that lose events:" in first[0].output


@pytest.mark.parametrize("rules, status", [
    (["worse"], 0), (["restart_required"], 2), (["dropping"], 2), (["blind", "unreachable"], 2), (["overloaded"], 0), (["drift"], 0)])
def test_the_exit_status_is_policy(hosts, inventory, tmp_path, rules, status):
    run = play(AUDIT, inventory, "-e", f"falco_audit_report_dir={tmp_path}", "-e", json.dumps({"falco_audit_fail_on": rules}))
    assert run.status == status, run.output
    # The report is written whatever the status.
    breaches = model(tmp_path)["fleet"]["breaches"]
    assert bool(breaches) is bool(status) and all(item["rule"] in rules for item in breaches)


def test_check_mode_says_everything_and_writes_nothing(hosts, inventory, tmp_path):
    run = play(AUDIT, inventory, "--check", "-e", f"falco_audit_report_dir={tmp_path / 'reports'}")
    assert run.status == 0 and "starved" in run.output and not (tmp_path / "reports").exists()


@pytest.mark.parametrize("given, said", [
    ({"falco_audit_fail_on": ["droping"]}, "did you mean dropping?"), ({"falco_audit_forms": ["pdf"]}, "must be one or more of: json"),
    ({"falco_audit_retention_days": 0}, "retention_days is"), ({"falco_audit_report_dir": "/proc/nowhere"}, "cannot be written"),
    ({"falco_audit_accepted_hosts_percent": "many"}, "accepted_hosts_percent is"),
])
def test_bad_input(inventory, tmp_path, given, said):
    run = play(AUDIT, inventory, "-l", "calm", "-e", json.dumps({"falco_audit_report_dir": str(tmp_path), **given}))
    assert run.status == 2 and said in run.output.replace("\n", " ")


def test_a_wrong_tuning_policy_is_told_and_not_fatal(inventory, tmp_path):
    run = play(AUDIT, inventory, "-l", "calm", "-e", f"falco_audit_report_dir={tmp_path}", "-e", "falco_tune_presett=4")
    assert run.status == 0 and "falco_tune_presett" in entries(tmp_path)["calm"]["reason"]


BOTH = """\
- ansible.builtin.import_playbook: falcotune.fleet.tune_falco
- ansible.builtin.import_playbook: falcotune.fleet.audit_falco
  vars:
    falco_audit_hosts: localhost
"""


def test_results_of_a_tune_are_no_policy_of_an_audit_in_the_same_run(hosts, inventory, tmp_path):
    """A tune leaves falco_tune_rollout on localhost and falco_tune_restart_required on its hosts."""
    playbook = tmp_path / "both.yml"
    playbook.write_text(BOTH)
    run = play(playbook, inventory, "--check", "-l", "calm,localhost", "-e", f"falco_audit_report_dir={tmp_path / 'reports'}")
    assert run.status == 0, run.output
    looked = run.result("localhost", "falco_facts")
    assert "not a known policy key" not in json.dumps(looked), looked


def test_drift_and_what_became_better_or_worse(hosts, inventory, first, tmp_path):
    """One story: tune, audit, spoil, audit again."""
    folder = first[1]
    done = play(TUNE, inventory, "-l", "drifted,starved")
    assert done.status == 0, done.output
    assert "bottleneck starved" in done.output and "(unit) Nice: (not set) -> -10" in done.output
    for name in ("drifted", "starved"):
        metrics = hosts[name].root / "var/log/falco/metrics.jsonl"
        size = len(metrics.read_text().splitlines())
        wait_for(lambda path=metrics, least=size: len(path.read_text().splitlines()) > least + 8, 30, f"metrics of {name}")
    again = play(AUDIT, inventory, "-l", "drifted,starved", "-e", f"falco_audit_report_dir={folder}")
    found = entries(folder)
    assert again.status == 0 and found["drifted"]["drift"] == found["starved"]["drift"] == []
    assert found["starved"]["verdict"]["state"] == "healthy" and found["starved"]["previous"]["state"] == "dropping"
    assert "starved" in model(folder)["fleet"]["since_last"]["better"]
    assert found["starved"]["change"]["before"]["drops_percent"] > 20 and found["starved"]["change"]["evidence"]["interruptions"] == 1
    assert [item[1] for item in found["starved"]["history"]] == ["dropping", "healthy"]

    host = hosts["drifted"]
    (host.root / "etc/falco/config.d/zzz-other.yaml").write_text("metrics:\n  enabled: false\n")
    (host.root / "etc/falco/falco.yaml").write_text((host.root / "etc/falco/falco.yaml").read_text() + "\n# edited\n")
    spoilt = play(AUDIT, inventory, "-l", "drifted", "-e", f"falco_audit_report_dir={tmp_path}", "-e", '{"falco_audit_fail_on": ["drift"]}')
    assert spoilt.status == 2
    kinds = {(item["kind"], item["what"].rsplit("/", 1)[-1]) for item in entries(tmp_path)["drifted"]["drift"]}
    assert {("overridden", "zz-falcotune.yaml"), ("disk", "falco.yaml")} <= kinds
