# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever is killed, and whenever: the host ends in the new proven state or in the old one."""

from __future__ import annotations

import os
import signal

import pytest

import direct
from conftest import falco_files, leftovers, ring_bytes, starts_of, unit, wait_for
from playbooks import TUNE, play

PHASES = ("staged", "kept", "stopping", "stopped", "swapped", "started")


@pytest.fixture(scope="module")
def fleet(fleet_of):
    """A host a case: what one leaves behind must not hide what the next one does."""
    names = [f"{victim}-{phase}" for victim in ("controller", "worker", "everyone") for phase in PHASES] + ["two-runs", "late-run"]
    return fleet_of({name: {"cpus": 16, "memory": "64G", "load": {"events_per_second": 200}} for name in names})


@pytest.fixture
def hosts(fleet):
    return {host.name: host for host in fleet.hosts}


def killed_in(host, phase, victim, before_kill=int, **policy):
    """Begin a change and kill its processes as soon as its journal speaks of the phase."""
    process = direct.change(host, **policy)
    reached = PHASES[PHASES.index(phase):]
    wait_for(lambda: (direct.journal(host) or {}).get("phase") in reached, what=f"phase {phase}")
    # The journal is written before they are there; a module that is killed alone leaves it to the next run.
    watchdogs = wait_for(lambda: direct.children(process.pid), what="the watchdog")
    workers = wait_for(lambda: [worker for watchdog in watchdogs for worker in direct.children(watchdog)], what="the worker")
    victims = {"controller": [process.pid], "worker": workers, "everyone": [process.pid, *watchdogs, *workers]}[victim]
    before_kill()
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return process


def _state(host, before):
    """'new' where the change is there and proven, 'old' where everything is as it was; anything else fails."""
    assert unit(host)["ActiveState"] == "active"
    assert leftovers(host) == []
    record = direct.record(host)
    if falco_files(host) == before:
        assert ring_bytes(host) == 8 << 20
        return "old"
    assert ring_bytes(host) == 32 << 20
    assert record["evidence"]["events"] > 0
    assert str(record["process"]["pid"]) == unit(host)["MainPID"]
    return "new"


@pytest.mark.parametrize("phase", PHASES)
def test_a_dead_controller_changes_nothing(phase, hosts):
    host = hosts[f"controller-{phase}"]
    before = falco_files(host)
    process = killed_in(host, phase, "controller")
    process.wait()
    wait_for(lambda: direct.journal(host) is None, 40, "the end of the change")
    wait_for(lambda: not direct.locked(host), what="the end of the watchdog")
    assert _state(host, before) == "new"
    assert starts_of(host) == 2


@pytest.mark.parametrize("phase", PHASES)
def test_a_dead_worker_is_undone_by_its_watchdog(phase, hosts):
    host = hosts[f"worker-{phase}"]
    before = falco_files(host)
    answer = direct.finished(killed_in(host, phase, "worker"))
    assert answer["failed"] and answer["undone"], answer
    assert "the change was killed in phase" in answer["msg"]
    assert _state(host, before) == "old"


@pytest.mark.parametrize("phase", PHASES)
def test_after_a_power_cut_the_next_run_finishes_or_undoes(phase, fleet, hosts):
    host = hosts[f"everyone-{phase}"]
    before = falco_files(host)
    killed_in(host, phase, "everyone").wait()
    assert direct.journal(host) is not None
    run = play(TUNE, fleet.inventory, "--limit", host.name)
    if run.failures:
        assert "an earlier change was broken off" in run.failure(host.name) and "Run again" in run.failure(host.name)
    assert _state(host, before) in ("old", "new")
    run = play(TUNE, fleet.inventory, "--limit", host.name)
    assert run.failures == {}
    assert _state(host, before) == "new"
    assert play(TUNE, fleet.inventory, "--limit", host.name).changed == set()


def test_a_run_that_waited_for_the_lock_does_not_apply_what_it_read_before(hosts, tmp_path):
    """The second module reads, is held before it takes the lock, and goes on when the first is done."""
    host = hosts["late-run"]
    requested = direct.request(host)
    gate = tmp_path / "go"
    second = direct.started(host, "falco_config", {"request": requested}, gate=gate)
    wait_for(lambda: gate.with_suffix(".there").exists(), what="the second run")
    assert direct.finished(direct.started(host, "falco_config", {"request": requested}))["changed"]
    starts = starts_of(host)
    gate.touch()
    answer = direct.finished(second)
    assert answer["failed"] and "another run has changed this host since its facts were gathered" in answer["msg"], answer
    assert starts_of(host) == starts and leftovers(host) == []


def test_of_two_runs_at_once_one_changes_the_host_and_the_other_says_why_not(hosts):
    host = hosts["two-runs"]
    before = falco_files(host)
    requested = direct.request(host)
    runs = [direct.started(host, "falco_config", {"request": requested}) for _ in range(2)]
    answers = sorted((direct.finished(process) for process in runs), key=lambda answer: bool(answer.get("failed")))
    assert answers[0]["changed"] and answers[0]["evidence"]["interruptions"] == 1
    assert answers[1]["failed"] and "another run is changing Falco on this host" in answers[1]["msg"]
    assert _state(host, before) == "new"
    assert starts_of(host) == 2
