# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong between a control node and hosts with systemd, network and sshd of their own, and how each host ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import wait_for
from playbooks import ROOT, TUNE, environment, play

PHASES = ("kept", "stopping", "stopped", "swapped", "started")
CHANGED = {"engine.modern_ebpf.buf_size_preset": 6}
METRICS = ("-e", "falco_tune_metrics_interval=1s")
FRAGMENT = "/etc/falco/config.d/zz-falcotune.yaml"


@pytest.fixture(scope="module")
def machines(machines_of):
    hosts = {f"killed-{phase}": {} for phase in PHASES}
    hosts.update({
        "cut": {}, "rebooted": {}, "full": {}, "twice": {},
        "unplugged": {"hostvars": {"falco_tune_min_healthy_time": 15, "falco_tune_healthy_deadline": 60}},
        "dies": {"fault": {"die_after": 20, "when": CHANGED},
                 "hostvars": {"falco_tune_min_healthy_time": 25, "falco_tune_healthy_deadline": 60}},
        "blind": {"fault": {"blind": True, "when": CHANGED}},
    })
    # A start that takes a while, so that there is a middle to be hit.
    return machines_of(hosts, cpus=16, memory="64G", startup_seconds=2, stop_timeout_seconds=20,
                       hostvars={"falco_tune_min_healthy_time": 1, "falco_tune_healthy_deadline": 20})


def begun(machines, name: str) -> subprocess.Popen:
    """A run of the playbook that goes on beside the test, in a process group of its own."""
    return subprocess.Popen(
        [str(Path(sys.executable).with_name("ansible-playbook")), TUNE, "-i", str(machines.inventory), "--limit", name, *METRICS],
        env=environment(), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True)


def kept(machines, name: str, file: str) -> dict:
    """A JSON file of the collection's on the host; {} where there is none."""
    found = machines.exec(name, "cat", f"/var/lib/falcotune/{file}", check=False)
    return json.loads(found.stdout) if found.returncode == 0 and found.stdout else {}


def reaches(machines, name: str, phase: str) -> None:
    later = PHASES[PHASES.index(phase):]
    wait_for(lambda: kept(machines, name, "journal.json").get("phase") in later, 60, f"phase {phase} on {name}")


def ends(machines, name: str) -> None:
    wait_for(lambda: not kept(machines, name, "journal.json"), 60, f"the end of the change on {name}")


def whole(machines, name: str, preset: int | None) -> None:
    """Falco runs with this preset of ours (None: as it was before us), and no part of a change is left."""
    wait_for(lambda: machines.show(name, "SubState")["SubState"] == "running", 30, f"Falco on {name}")
    found = machines.exec(name, "cat", FRAGMENT, check=False).stdout
    assert (f"buf_size_preset: {preset}" in found) if preset else not found, (name, found)
    temporary = ["-name", ".falcotune-*", "-o", "-name", "candidate-*", "-o", "-name", "token-*", "-o", "-name", "journal.json"]
    left = machines.exec(name, "find", "/var/lib/falcotune", "/etc/falco", *temporary, check=False).stdout
    assert left == "", (name, left)


def proven(machines, name: str) -> None:
    """The running process is the one that proved the change."""
    record = kept(machines, name, "record.json")
    assert str(record["process"]["pid"]) == machines.show(name, "MainPID")["MainPID"] and record["evidence"]["events"] > 0


def converged(machines, name: str) -> None:
    run = play(TUNE, machines.inventory, "--limit", name, *METRICS)
    assert run.status == 0 and run.changed == set(), run.output


@pytest.mark.parametrize("phase", PHASES)
def test_a_control_node_that_is_killed_leaves_the_change_to_the_host(machines, phase):
    name = f"killed-{phase}"
    process = begun(machines, name)
    reaches(machines, name, phase)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    ends(machines, name)
    whole(machines, name, 6)
    proven(machines, name)
    assert machines.starts(name) == 2, "the boot's and ours: one interruption"
    converged(machines, name)


def test_a_connection_that_is_cut_in_the_middle_is_a_lost_host_and_a_finished_change(machines):
    process = begun(machines, "cut")
    reaches(machines, "cut", "stopped")
    machines.cut("cut")
    try:
        ends(machines, "cut")
        output = process.communicate(timeout=120)[0]
        assert process.returncode != 0 and "cut" in output
    finally:
        machines.mend("cut")
    whole(machines, "cut", 6)
    proven(machines, "cut")
    assert machines.starts("cut") == 2
    converged(machines, "cut")


def test_a_host_that_reboots_in_the_middle_is_finished_or_undone_by_the_next_run(machines):
    process = begun(machines, "rebooted")
    reaches(machines, "rebooted", "stopped")
    machines.reboot("rebooted")
    process.communicate(timeout=120)
    assert process.returncode != 0
    run = play(TUNE, machines.inventory, "--limit", "rebooted", *METRICS)
    if run.failures:
        assert "an earlier change was broken off" in run.failure("rebooted"), run.output
        run = play(TUNE, machines.inventory, "--limit", "rebooted", *METRICS)
    assert run.status == 0, run.output
    whole(machines, "rebooted", 6)
    proven(machines, "rebooted")
    converged(machines, "rebooted")


def test_a_host_that_loses_power_in_the_middle_has_its_old_files_before_falco_starts(machines):
    """Without Ansible: systemd runs undo.sh in the boot transaction, before Falco's unit."""
    process = begun(machines, "unplugged")
    reaches(machines, "unplugged", "swapped")
    token = kept(machines, "unplugged", "journal.json")["token"]
    machines.power_off("unplugged")
    process.communicate(timeout=120)
    machines.power_on("unplugged")
    whole(machines, "unplugged", None)
    assert kept(machines, "unplugged", "undone.json")["token"] == token
    lines = machines.exec("unplugged", "journalctl", "--boot", "--output=cat", "_PID=1", "+", "SYSLOG_IDENTIFIER=sh").stdout.splitlines()
    undone, started = (next(number for number, line in enumerate(lines) if text in line) for text in (
        "a change of falco-modern-bpf.service was broken off; its files are put back", "Started falco-modern-bpf.service"))
    assert undone < started, lines
    assert machines.exec("unplugged", "find", "/etc/systemd", "/run/systemd/system", "-name", "*falcotune-*").stdout == ""


@pytest.mark.parametrize("name, said", [("dies", "Falco started and died"), ("blind", "no snapshot shows that it counts events")])
def test_a_falco_that_dies_or_sees_nothing_gets_its_old_configuration_back(machines, name, said):
    run = play(TUNE, machines.inventory, "--limit", name, *METRICS)
    assert run.status and said in run.output and "The previous configuration is back and Falco runs with it" in run.output, run.output
    whole(machines, name, None)
    assert machines.show(name, "NRestarts")["NRestarts"] == "0"


def test_a_full_disk_is_found_before_anything_is_touched(machines):
    machines.shrink("full", "/var/lib/falcotune", "256k")
    # As an earlier run leaves it: a directory with nothing but somebody's files is refused before its disk is.
    machines.exec("full", "sh", "-c", "mkdir /var/lib/falcotune/history && touch /var/lib/falcotune/lock")
    machines.fill("full", "/var/lib/falcotune")
    before = machines.show("full", "MainPID")
    run = play(TUNE, machines.inventory, "--limit", "full", *METRICS)
    assert run.status and ("No space left" in run.output), run.output
    whole(machines, "full", None)
    assert machines.show("full", "MainPID") == before


def test_two_rollouts_at_once_change_the_host_once(machines):
    runs = [begun(machines, "twice") for _number in range(2)]
    outputs = [process.communicate(timeout=180)[0] for process in runs]
    assert [process.returncode for process in runs].count(0) >= 1, outputs
    whole(machines, "twice", 6)
    proven(machines, "twice")
    assert machines.starts("twice") == 2
    converged(machines, "twice")
