# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong during a change, and what the host is left with: the old state and a Falco that runs."""

from __future__ import annotations

import os
import subprocess

import pytest

from conftest import everything, falco_files, leftovers, log_of, ring_bytes, starts_of, unit, wait_for
from playbooks import TUNE, play

CHANGED = {"metrics.resource_utilization_enabled": True}
LARGE = {"cpus": 16, "memory": "64G", "stop_timeout_seconds": 4}

# What Falco does once it has read the change → what the user is told, and whether Falco was interrupted for it.
UNDONE = {
    "refuses-the-file": ({"refuse_config": "no such luck", "when": CHANGED}, "Falco refuses the candidate configuration", False),
    "does-not-start": ({"refuse": "no device", "when": CHANGED}, "Falco said: Error: no device", True),
    "starts-and-dies": ({"die_after": 2, "when": CHANGED}, "Falco started and died", True),
    "never-opens": ({"never_opens": True, "when": CHANGED}, "no snapshot shows that it counts events", True),
    # Trap 12: it lives, /healthz is green, and it sees nothing.
    "alive-and-blind": ({"blind": True, "when": CHANGED}, "no snapshot shows that it counts events", True),
    "blind-and-deaf": ({"blind": True, "hang_on_term": True, "when": CHANGED}, "no snapshot shows that it counts events", True),
}


@pytest.fixture(scope="module")
def fleet(fleet_of):
    hosts = {name: {**LARGE, "fault": fault} for name, (fault, _message, _interrupted) in UNDONE.items()}
    hosts["restart-hangs"] = {**LARGE, "fault": {"hang_on_term": True}}
    hosts["fault-free"] = LARGE
    fleet = fleet_of(hosts, hostvars={
        "falco_tune_min_healthy_time": 4, "falco_tune_healthy_deadline": 12, "falco_tune_canaries": 0, "falco_tune_serial": "100%",
        "falco_tune_failure_budget": "100%"})
    for host in fleet.hosts:
        wait_for(lambda host=host: starts_of(host), what=f"a start of {host.name}")
    return fleet


@pytest.fixture(scope="module")
def before(fleet):
    return {host.name: everything(host) for host in fleet.hosts}


@pytest.fixture(scope="module")
def run(fleet, before):
    return play(TUNE, fleet.inventory)


@pytest.fixture
def hosts(fleet):
    return {host.name: host for host in fleet.hosts}


@pytest.mark.parametrize("name", UNDONE)
def test_the_previous_state_is_back_and_falco_runs_with_it(name, hosts, before, run):
    dummy, message, interrupted = UNDONE[name]
    host = hosts[name]
    assert message in run.failure(name)
    result = run.result(name, "falco_config")
    assert result["undone"] is True
    assert ("The previous configuration is back" in run.failure(name)) == interrupted
    assert falco_files(host) == {path: digest for path, (digest, dummy) in before[name].items()
                                 if path.startswith(("etc/falco/", "etc/systemd/"))}
    assert not (host.root / "etc/logrotate.d/falcotune").exists()
    assert unit(host)["ActiveState"] == "active"
    assert ring_bytes(host) == 8 << 20
    assert leftovers(host) == []
    assert (log_of(host).count("Started falco") > 1) == interrupted


def test_a_failed_change_is_not_kept_as_history(hosts, run):
    for name in UNDONE:
        history = hosts[name].root / "var/lib/falcotune/history"
        assert not history.exists() or list(history.iterdir()) == []


def test_a_falco_that_ignores_sigterm_is_ended_by_systemd_and_the_change_goes_on(hosts, run):
    result = run.result("restart-hangs", "falco_config")
    assert result["changed"] and result["evidence"]["interruptions"] == 1
    assert ring_bytes(hosts["restart-hangs"]) == 32 << 20


def test_other_hosts_are_not_harmed(run):
    assert run.result("fault-free", "falco_config")["changed"]
    assert set(run.failures) == set(UNDONE)


def test_an_immutable_file_is_found_before_anything_is_touched(fleet, hosts, run):
    host = hosts["fault-free"]
    target = host.root / "etc/falco/config.d/zz-falcotune.yaml"
    if os.geteuid() != 0 or subprocess.run(["chattr", "+i", target], check=False, capture_output=True).returncode:
        pytest.skip("files can't be made immutable here")
    before, starts = everything(host), starts_of(host)
    try:
        again = play(TUNE, fleet.inventory, "--limit", host.name, "-e", "falco_tune_buf_size_preset=5")
        assert "zz-falcotune.yaml is not writable: is it immutable (lsattr)" in again.failure(host.name)
        assert "nothing was changed" in again.failure(host.name)
        assert everything(host) == before
        assert starts_of(host) == starts
        assert leftovers(host) == []
    finally:
        subprocess.run(["chattr", "-i", target], check=True)


def test_a_full_disk_is_found_before_anything_is_touched(fleet, fleet_of, tmp_path, run):
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", tmp_path], check=False,
                                           capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    from conftest import QUICK
    from hosts import Fleet

    small = Fleet(tmp_path / "hosts")
    try:
        small.start({"defaults": QUICK, "hosts": {"full": {}}})
        host = small.hosts[0]
        wait_for(lambda: starts_of(host), what="a start")
        before, starts = everything(host), starts_of(host)
        # The log goes on to a file that has its room already.
        filler = host.root / "filler"
        with open(filler, "wb", buffering=0) as stream:
            try:
                while True:
                    stream.write(b"x" * 4096)
            except OSError:
                pass
        again = play(TUNE, small.inventory)
        filler.unlink()
        assert "No space left on device" in again.failure("full")
        assert {key: value for key, value in everything(host).items() if not key.startswith("var/lib/falcotune")} == before
        assert starts_of(host) == starts
        assert leftovers(host) == []
        assert unit(host)["ActiveState"] == "active"
        assert play(TUNE, small.inventory).result("full", "falco_config")["changed"]
    finally:
        small.stop()
        subprocess.run(["umount", tmp_path], check=False)
