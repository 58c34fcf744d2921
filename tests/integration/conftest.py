# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleets of local hosts for the playbooks, and what a test wants to know of a host."""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "fleet"), str(ROOT / "tests" / "machines"), str(Path(__file__).resolve().parent)]

from hosts import Fleet  # noqa: E402
from machines import Machines, NotHere  # noqa: E402

# Quick starts, and no patience for hosts that don't come back.
QUICK = {"startup_seconds": 0.3, "reload_seconds": 0.4, "restart_seconds": 2, "measures": "1s", "cpus": 4, "memory": "8G",
         "load": {"events_per_second": 1000}, "hostvars": {"falco_tune_min_healthy_time": 1, "falco_tune_healthy_deadline": 15}}


@pytest.fixture(scope="module")
def fleet_of(tmp_path_factory):
    """fleet_of({"web-01": {…}}) starts hosts as tests/fleet describes them, and stops them after the module's tests."""
    fleets = []

    def start(hosts: dict, **defaults) -> Fleet:
        fleet = Fleet(tmp_path_factory.mktemp("fleet") / "hosts")
        fleets.append(fleet)
        fleet.start({"defaults": {**QUICK, **defaults}, "hosts": hosts})
        wait_for(lambda: all(counts_on(host) for host in fleet.hosts if host.spec["running"] and not host.spec["fault"]), 60)
        return fleet

    yield start
    for fleet in fleets:
        fleet.stop()


@pytest.fixture(scope="module")
def machines_of(tmp_path_factory):
    """machines_of({"web-01": {…}}) starts hosts with systemd and sshd as tests/machines describes them, and stops them after the
    module's tests. Where no containers can run the test is skipped."""
    started = []

    def start(hosts: dict, **defaults) -> Machines:
        machines = Machines(tmp_path_factory.mktemp("machines") / "hosts")
        started.append(machines)
        quick = {key: QUICK[key] for key in ("startup_seconds", "reload_seconds", "restart_seconds", "measures", "load", "hostvars")}
        try:
            machines.start(hosts, **{**quick, **defaults})
        except NotHere as reason:
            started.remove(machines)
            pytest.skip(str(reason))
        return machines

    yield start
    for machines in started:
        machines.stop()


def wait_for(condition, seconds: float = 20, what: str = "the condition"):
    """What the condition returned, as soon as it is true."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {seconds} s")
        time.sleep(0.05)


def unit(host) -> dict:
    """What systemctl show says of the host's unit."""
    out = host.systemctl("show", "-p", "ActiveState,SubState,MainPID,NRestarts,Result", host.unit).stdout
    return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)


def counts_on(host) -> bool:
    """Falco has opened its driver."""
    return "Opening 'syscall' source" in log_of(host)


def log_of(host) -> str:
    """The journal, without what Falco writes to standard error: the same lines once more, after a change."""
    path = host.root / "var/log/syslog"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return "".join(line for line in lines if " falco[0]: " not in line)


def starts_of(host) -> int:
    """How often a Falco opened a driver on this host: starts and reloads."""
    return log_of(host).count("Opening 'syscall' source")


def ring_bytes(host) -> int:
    """The size of the buffers as the Falco that runs logged it."""
    lines = [line for line in log_of(host).splitlines() if "The chosen syscall buffer dimension is: " in line]
    return int(lines[-1].split("dimension is: ")[1].split()[0])


def falco_files(host) -> dict[str, str]:
    """Hashes of all that Falco or its unit reads."""
    found = {}
    for folder in ("etc/falco", "etc/systemd"):
        for path in sorted((host.root / folder).rglob("*")):
            if path.is_file() and not path.is_symlink():
                found[str(path.relative_to(host.root))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def everything(host) -> dict[str, tuple]:
    """Every file of the host but what its processes write: hash, mode."""
    found = {}
    for path in sorted(host.root.rglob("*")):
        name = str(path.relative_to(host.root))
        if path.is_file() and not path.is_symlink() and not name.startswith(("var/log/", "run/", "proc/", ".ansible")) \
                and path.name != "lock":
            found[name] = (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mode)
    return found


def leftovers(host) -> list[str]:
    """Temporary files of a change that should be gone."""
    return [str(path) for path in host.root.rglob("*")
            if path.name.startswith((".falcotune-", "candidate-", "token-", "result-")) or path.name == "journal.json"]
