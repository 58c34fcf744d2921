# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tune_falco with several rounds: from unmeasured to quiet in one run, what did nothing is taken back before it ends, and two
controllers, a reboot and a killed controller between rounds."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import direct
from conftest import leftovers, ring_bytes, starts_of, wait_for
from playbooks import ROOT, TUNE, environment, play

METRICS = {"metrics": {"enabled": True, "interval": "500ms", "output_rule": False, "output_file": "{root}/var/log/falco/metrics.jsonl",
                       "resource_utilization_enabled": True, "kernel_event_counters_enabled": True, "libbpf_stats_enabled": True}}
STARVED = {"starved": 0.8, "load": {"events_per_second": 300000, "bytes_per_event": 335}}
QUICK = {"falco_tune_min_healthy_time": 1, "falco_tune_healthy_deadline": 20, "falco_tune_min_observation": 3,
         "falco_tune_metrics_interval": "500ms", "falco_tune_canaries": 0, "falco_tune_serial": "100%"}
DROPIN = "etc/systemd/system/falco-kmod.service.d/falcotune.conf"


def attempts(host) -> list[dict]:
    return (direct.record(host) or {}).get("attempts") or []


def by_name(fleet) -> dict:
    return {host.name: host for host in fleet.hosts}


def measured(host) -> None:
    path = host.root / "var/log/falco/metrics.jsonl"
    wait_for(lambda: path.exists() and len(path.read_text().splitlines()) > 10, 30, f"metrics of {host.name}")


def becomes(host, **profile) -> None:
    """The simulator's profile from the next start on."""
    path = host.root / "etc/falco-sim.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **profile}))


@pytest.fixture(scope="module")
def fleet(fleet_of):
    # kmod loads no BPF programs, so short intervals are allowed from the first run on.
    return fleet_of({"unmeasured": STARVED, "in-vain": {"config": METRICS, **STARVED}, "calm": {"config": METRICS}, "new": {}},
                    driver="kmod", measures=None, hostvars=QUICK)


@pytest.fixture(scope="module")
def hosts(fleet):
    found = by_name(fleet)
    for name in ("in-vain", "calm"):
        measured(found[name])
    # From the next start on it waits for nobody, and its thread is too slow for the load: it will lose as much, whatever its priority.
    becomes(found["in-vain"], starved=0.0, consumer_events_per_second=110000)
    return found


@pytest.fixture(scope="module")
def run(fleet, hosts):
    starts = {name: starts_of(host) for name, host in hosts.items()}
    return play(TUNE, fleet.inventory, "-e", "falco_tune_rounds=3", "-e", "falco_tune_syscalls=keep"), starts


def test_a_host_that_was_never_measured_is_quiet_at_the_end_of_one_run(run, hosts):
    result, starts = run
    assert result.status == 0, result.output
    assert starts_of(hosts["unmeasured"]) == starts["unmeasured"] + 1, "metrics and priority in one restart, and none after it"
    assert [item["step"] for item in attempts(hosts["unmeasured"])] == ["priority"]
    assert result.trips("unmeasured") == 4, "facts, the change, the second look, and facts of the second round"
    assert "healthy" in result.output


def test_what_did_nothing_is_taken_back_in_the_same_run(run, hosts):
    result, starts = run
    steps = attempts(hosts["in-vain"])
    assert [item["step"] for item in steps] == ["priority", "give_back"] and steps[1]["undoes"] == ["priority"]
    assert steps[1]["to"] == {"CPUWeight": None, "Nice": None}
    dropin = hosts["in-vain"].root / DROPIN
    assert not dropin.exists() or "Nice=" not in dropin.read_text()
    assert starts_of(hosts["in-vain"]) == starts["in-vain"] + 2 and leftovers(hosts["in-vain"]) == []
    entry = result.result_of("in-vain")
    assert entry["outcome"] == "done" and entry["blind_seconds"] > 0.6, "both interruptions count"


def test_a_second_run_changes_nothing_and_asks_each_host_once(run, fleet, hosts):
    starts = {name: starts_of(host) for name, host in hosts.items()}
    again = play(TUNE, fleet.inventory, "-e", "falco_tune_rounds=3", "-e", "falco_tune_syscalls=keep")
    assert again.status == 0 and again.changed == set(), again.output
    for name, host in hosts.items():
        # The thread of one is the bottleneck: its rules are asked for, too, so that the heavy ones can be named.
        assert starts_of(host) == starts[name] and again.trips(name) == (2 if name == "in-vain" else 1)
        assert len([event for event in again.of(name) if event["action"].startswith("falcotune.fleet.falco_")
                    and event["action"].rpartition(".")[2] in ("falco_facts", "falco_config")]) == 1


# --- two controllers, a killed controller, a reboot


@pytest.fixture(scope="module")
def pair(fleet_of):
    found = by_name(fleet_of({name: {"config": METRICS, **STARVED} for name in ("twice", "killed", "rebooted")},
                             driver="kmod", measures=None, hostvars=QUICK))
    for host in found.values():
        measured(host)
    return found


def test_a_controller_with_facts_of_before_the_others_change_changes_nothing(pair):
    """Its plan touches the unit's drop-in alone, so no file of Falco's tells that it is an old one."""
    host = pair["twice"]
    first, second = direct.request(host), direct.request(host)
    assert first["attempt"]["step"] == "priority" and first["seen"] == {"at": None, "tried": None}
    answer = direct.finished(direct.started(host, "falco_config", {"request": first}))
    assert answer["changed"] and answer["evidence"]["interruptions"] == 1
    starts, record = starts_of(host), direct.record(host)
    late = direct.finished(direct.started(host, "falco_config", {"request": second}))
    assert late.get("failed") and "another run has changed this host since its facts were gathered" in late["msg"], late
    assert starts_of(host) == starts and direct.record(host) == record and leftovers(host) == []


def test_a_run_goes_on_where_a_killed_controller_left_off(pair, tmp_path):
    """The controller is killed while the hosts are observed: the change stays, and the next run judges it."""
    host = pair["killed"]
    becomes(host, starved=0.0, consumer_events_per_second=110000)
    inventory = next(path for path in host.root.parents if (path / "inventory.yml").exists()) / "inventory.yml"
    command = [str(Path(sys.executable).with_name("ansible-playbook")), TUNE, "-i", str(inventory), "-l", "killed",
               "-e", "falco_tune_syscalls=keep"]
    with open(tmp_path / "log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(command, env=environment(), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   start_new_session=True)
        try:
            wait_for(lambda: "is looked at again" in (tmp_path / "log").read_text() or process.poll() is not None, 240)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert [item["step"] for item in attempts(host)] == ["priority"], (tmp_path / "log").read_text()
    time.sleep(5)
    again = play(TUNE, inventory, "-l", "killed", "-e", "falco_tune_syscalls=keep")
    assert again.status == 0, again.output
    assert [item["step"] for item in attempts(host)] == ["priority", "give_back"] and leftovers(host) == []


def test_after_a_reboot_between_rounds_the_host_is_observed_anew_and_nothing_is_lost(pair):
    host = pair["rebooted"]
    answer = direct.finished(direct.started(host, "falco_config", {"request": direct.request(host)}))
    assert answer["changed"] and ring_bytes(host)
    before = attempts(host)
    subprocess.run([str(host.root / "usr/bin/systemctl"), "restart", "falco-kmod.service"], check=True)
    made = direct.request(host)
    assert made["attempt"] is None, "unmeasured since the restart: no step, and none is taken back"
    assert attempts(host) == before
