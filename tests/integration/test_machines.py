# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts with systemd, network and sshd of their own: a run as a user's is, and the faults that such hosts can be given."""

from __future__ import annotations

import subprocess

import pytest
from conftest import wait_for
from machines import NotHere
from playbooks import TUNE, play

METRICS = ("-e", "falco_tune_metrics_interval=1s")
SIXTEEN = {"cpus": 16, "memory": "64G"}


@pytest.fixture(scope="module")
def machines(machines_of):
    """One host where sudo asks for nothing, one where it asks for a password."""
    machines = machines_of({"web-01": {"release": "0.44.1"}, "db-01": {"release": "0.41.3", "driver": "kmod", "password": "s3cret"}},
                           **SIXTEEN)
    for name in machines.specs:
        wait_for(lambda name=name: machines.starts(name), 30, f"a Falco that captures on {name}")
    return machines


def properties(machines, name: str) -> dict[str, str]:
    return machines.show(name, "ActiveState", "SubState", "NRestarts", "MainPID", "ExecMainStartTimestampMonotonic")


def ssh(machines, name: str, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(machines.ssh(name, *words), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60)


def test_the_login_is_nobody_special_and_python_has_nothing_installed(machines):
    """What a run finds on a user's server: no root login, and no PyYAML."""
    done = ssh(machines, "web-01", "id -un; sudo -n id -un; python3 -c 'import yaml'")
    assert done.stdout.split() == ["ops", "root"] and "No module named 'yaml'" in done.stderr
    assert "password is required" in ssh(machines, "db-01", "sudo -n true").stderr


def test_a_wrong_password_of_sudo_changes_nothing(machines):
    before = properties(machines, "db-01")
    run = play(TUNE, machines.inventory, *METRICS, "--limit", "db-01", "-e", "ansible_become_password=wrong")
    assert run.status and "password" in run.failure("db-01")
    assert properties(machines, "db-01") == before
    assert machines.exec("db-01", "ls", "-A", "/etc/falco/config.d", "/var/lib/falcotune", check=False).stdout.split() \
        == ["/etc/falco/config.d:"]


def test_a_change_interrupts_falco_once(machines):
    before = {name: properties(machines, name) for name in machines.specs}
    run = play(TUNE, machines.inventory, *METRICS, "-e", "ansible_become_password=s3cret")
    assert run.status == 0, run.output
    assert run.changed == {"web-01", "db-01"}
    for name, preset in (("web-01", 6), ("db-01", 5)):
        now = properties(machines, name)
        assert now["MainPID"] != before[name]["MainPID"]
        assert (now["ActiveState"], now["SubState"], now["NRestarts"]) == ("active", "running", "0")
        assert machines.starts(name) == 2  # the boot's, and ours
        assert run.result(name, "falco_config")["evidence"]["interruptions"] == 1
        assert run.result(name, "falco_facts")["ansible_facts"]["falco"]["cpus"]["online"] == 16
        assert f"buf_size_preset: {preset}" in machines.read(name, "/etc/falco/config.d/zz-falcotune.yaml")

    again = play(TUNE, machines.inventory, *METRICS, "-e", "ansible_become_password=s3cret")
    assert again.status == 0 and not again.changed
    assert [again.trips(name) for name in machines.specs] == [1, 1]
    facts = again.result("web-01", "falco_facts")["ansible_facts"]["falco"]
    assert facts["config"]["effective"]["engine"]["modern_ebpf"]["buf_size_preset"] == 6
    assert facts["host"]["record"]["proven"] and facts["host"]["record"]["evidence"]["events"] > 0


def test_a_host_without_network_is_unreachable_and_comes_back(machines):
    machines.cut("web-01")
    try:
        assert ssh(machines, "web-01", "true").returncode == 255
        run = play(TUNE, machines.inventory, *METRICS, "--limit", "web-01", ANSIBLE_TIMEOUT="3")
        assert [event["state"] for event in run.of("web-01")] == ["unreachable"]
    finally:
        machines.mend("web-01")
    assert ssh(machines, "web-01", "true").returncode == 0


def test_a_rebooted_host_has_its_address_and_its_falco(machines):
    booted = machines.exec("web-01", "stat", "-c", "%Y", "/proc/1").stdout
    machines.reboot("web-01")
    assert machines.exec("web-01", "stat", "-c", "%Y", "/proc/1").stdout != booted
    assert ssh(machines, "web-01", "systemctl is-active falco-modern-bpf").stdout.strip() == "active"
    assert "buf_size_preset: 6" in machines.read("web-01", "/etc/falco/config.d/zz-falcotune.yaml")


def test_an_ended_session_is_not_the_end_of_sshd(machines):
    session = subprocess.Popen(machines.ssh("web-01", "sleep 60"), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    wait_for(lambda: machines.exec("web-01", "pgrep", "-f", "^sleep 60", check=False).returncode == 0, 20, "the session")
    machines.kill_ssh("web-01")
    assert session.wait(20) == 255
    assert ssh(machines, "web-01", "true").returncode == 0


def test_a_small_disk_is_full_when_it_is_filled(machines):
    machines.shrink("web-01", "/var/lib/falcotune", "256k")
    machines.fill("web-01", "/var/lib/falcotune")
    assert "No space left" in machines.exec("web-01", "cp", "/etc/passwd", "/var/lib/falcotune", check=False).stderr
    assert machines.read("web-01", "/var/lib/falcotune/record.json")


def test_where_no_engine_runs_the_missing_one_is_named(monkeypatch, tmp_path):
    import engine

    for name in ("ssh", "ssh-keygen"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "docker").write_text("#!/bin/sh\necho 'Cannot connect to the daemon' >&2; exit 1\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.delenv("MACHINES_ENGINE", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.setattr(engine.shutil, "which", lambda name: str(tmp_path / name) if (tmp_path / name).exists() else None)
    with pytest.raises(NotHere, match="podman is not installed; .*Cannot connect to the daemon"):
        engine.find()
