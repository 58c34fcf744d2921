# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Falco runs again whatever fails in a change, without Ansible, and a third party's edit stays."""

from __future__ import annotations

import json
import os

import pytest

import direct
from conftest import counts_on, falco_files, leftovers, ring_bytes, starts_of, unit, wait_for
from test_interrupted import killed_in

LARGE = {"cpus": 16, "memory": "64G", "load": {"events_per_second": 200}}
# The timer fires 30 s after it was set; a second for its accuracy, and what a start takes.
REVIVED = 60
FOREIGN = "# A third party's.\n"


@pytest.fixture(scope="module")
def fleet(fleet_of):
    hosts = dict.fromkeys(("stopping", "stopped", "swapped", "no-record", "sysctl", "edited-kept", "edited-stopped",
        "edited-then-killed", "no-journal", "cut-stopping", "cut-swapped", "cut-started", "cut-edited", "undone", "scope"), LARGE)
    hosts["deaf"] = {**LARGE, "stop_timeout_seconds": 60, "fault": {"hang_on_term": True}}
    fleet = fleet_of(hosts)
    for host in fleet.hosts:
        wait_for(lambda host=host: counts_on(host), what=f"a start of {host.name}")
    return fleet


@pytest.fixture
def hosts(fleet):
    return {host.name: host for host in fleet.hosts}


def target(host):
    """The file that a change of these hosts writes."""
    return host.root / "etc/falco/config.d/zz-falcotune.yaml"


def tuned(host, **policy):
    """A host with a change behind it: the next one replaces a file of ours."""
    assert direct.finished(direct.change(host, **policy))["changed"]


@pytest.mark.parametrize("phase", ["stopping", "stopped", "swapped"])
def test_all_our_processes_killed_at_once_and_systemd_starts_falco(phase, hosts):
    host = hosts[phase]
    killed_in(host, phase, "everyone").wait()
    wait_for(lambda: unit(host)["ActiveState"] == "active", REVIVED, "a start by the timer")
    pid = unit(host)["MainPID"]
    answer = direct.finished(direct.change(host))
    assert "an earlier change was broken off" in answer["msg"], answer
    assert unit(host)["ActiveState"] == "active" and leftovers(host) == [], answer
    assert pid != "0"


def test_a_timer_that_was_not_needed_is_gone(hosts):
    for host in hosts.values():
        timers = host.root / "run/systemd/units/.timers"
        assert not timers.exists() or list(timers.iterdir()) == []


def test_a_falco_that_does_not_stop_in_time_runs_again(hosts):
    """systemd kills it 15 s after we have given up; the start that follows takes the place of the stop."""
    host = hosts["deaf"]
    before = falco_files(host)
    answer = direct.finished(direct.change(host))
    assert "did not stop within 45 s" in answer["msg"] and answer["undone"], answer
    assert unit(host)["ActiveState"] == "active" and falco_files(host) == before and leftovers(host) == []


def test_a_record_that_can_not_be_written_stops_no_proven_falco(hosts):
    host = hosts["no-record"]
    state_dir = host.root / "var/lib/falcotune"
    process = direct.change(host)
    wait_for(lambda: (direct.journal(host) or {}).get("phase") in ("stopping", "stopped", "swapped", "started"), what="the stop")
    (state_dir / "record.json").mkdir()
    answer = direct.finished(process)
    assert answer["changed"] and not answer.get("failed"), answer
    assert any("its record in" in note and "the next run proves it anew" in note for note in answer["evidence"]["notes"])
    assert unit(host)["ActiveState"] == "active" and ring_bytes(host) == 32 << 20 and starts_of(host) == 2
    (state_dir / "record.json").rmdir()
    assert "it has now proven itself and stays" in direct.finished(direct.change(host))["msg"]
    assert starts_of(host) == 2 and direct.record(host)["evidence"]["events"] > 0


def test_a_journal_that_can_not_be_written_after_the_stop_delays_nothing(hosts):
    host = hosts["no-journal"]
    path = host.root / "var/lib/falcotune/journal.json"
    process = direct.change(host)
    wait_for(lambda: (direct.journal(host) or {}).get("phase") == "stopping", what="the stop")
    path.unlink()
    path.mkdir()
    try:
        answer = direct.finished(process)
        assert answer["changed"] and any("journal could not be written" in note for note in answer["evidence"]["notes"]), answer
        assert unit(host)["ActiveState"] == "active" and ring_bytes(host) == 32 << 20 and starts_of(host) == 2
    finally:
        if path.is_dir():
            path.rmdir()


def test_a_sysctl_that_can_not_be_set_is_a_note(hosts):
    host = hosts["sysctl"]
    path = host.root / "proc/sys/kernel/bpf_stats_enabled"
    requested = direct.request(host, falco_tune_bpf_stats=True)
    path.unlink()
    path.mkdir()
    answer = direct.finished(direct.started(host, "falco_config", {"request": requested}))
    assert answer["changed"] and any("sysctl kernel.bpf_stats_enabled = 1 could not be set" in note
                                     for note in answer["evidence"]["notes"]), answer
    assert unit(host)["ActiveState"] == "active" and starts_of(host) == 2


def test_an_edit_before_the_swap_stays_and_nothing_is_changed(hosts):
    host = hosts["edited-kept"]
    tuned(host, falco_tune_buf_size_preset=5)
    process = direct.change(host, falco_tune_buf_size_preset=6)
    wait_for(lambda: (direct.journal(host) or {}).get("phase") == "kept", what="the change")
    _edit(host)
    answer = direct.finished(process)
    assert answer["failed"] and "was changed by somebody else while this change was made" in answer["msg"], answer
    assert target(host).read_text().startswith(FOREIGN)
    assert unit(host)["ActiveState"] == "active" and leftovers(host) == []


def test_an_edit_after_the_swap_stays_when_the_change_is_undone(hosts):
    host = hosts["edited-stopped"]
    tuned(host, falco_tune_buf_size_preset=5)
    killed = killed_in(host, "started", "worker", falco_tune_buf_size_preset=6, before_kill=lambda: _edit(host))
    answer = direct.finished(killed)
    assert answer["undone"] and any("was changed by somebody else meanwhile" in note for note in answer["notes"]), answer
    assert target(host).read_text().startswith(FOREIGN)
    assert unit(host)["ActiveState"] == "active" and leftovers(host) == []


def test_a_repair_by_hand_of_a_broken_off_change_stays(hosts):
    host = hosts["edited-then-killed"]
    tuned(host, falco_tune_buf_size_preset=5)
    killed_in(host, "swapped", "everyone", falco_tune_buf_size_preset=6).wait()
    _edit(host)
    host.systemctl("start", host.unit)
    answer = direct.finished(direct.change(host))
    assert "an earlier change was broken off" in answer["msg"], answer
    assert target(host).read_text().startswith(FOREIGN)
    assert unit(host)["ActiveState"] == "active" and leftovers(host) == []


def _edit(host):
    """What an editor does: a new file with the old text and a line more, renamed into place from outside config.d."""
    path = host.root / "etc/falco/edited"
    path.write_text(FOREIGN + target(host).read_text())
    os.rename(path, target(host))


def _cut(host, phase, **policy):
    """A power cut in this phase, and the boot after it."""
    killed_in(host, phase, "everyone", **policy).wait()
    host.reboot()
    wait_for(lambda: unit(host)["ActiveState"] == "active", what="Falco after the boot")


@pytest.mark.parametrize("phase", ["stopping", "swapped", "started"])
def test_after_a_power_cut_the_boot_puts_the_previous_files_back_before_falco_starts(phase, hosts):
    host = hosts[f"cut-{phase}"]
    tuned(host, falco_tune_buf_size_preset=5)
    before, starts = falco_files(host), starts_of(host)
    _cut(host, phase, falco_tune_buf_size_preset=6)
    record = direct.record(host)
    if record["files"].get(str(target(host))) != falco_files(host)[str(target(host).relative_to(host.root))]:
        raise AssertionError("the record tells of other files")
    if falco_files(host) != before:  # it had proven itself before the cut
        assert phase == "started" and record["token"] != "", record
    wait_for(lambda: counts_on(host) and starts_of(host) > starts, what="Falco's start")
    assert leftovers(host) == [] and _undo_units(host) == []
    answer = direct.finished(direct.change(host, falco_tune_buf_size_preset=6))
    assert not answer.get("failed") or "an earlier change was broken off" in answer["msg"], answer


def test_after_a_power_cut_an_edit_stays(hosts):
    host = hosts["cut-edited"]
    tuned(host, falco_tune_buf_size_preset=5)
    killed_in(host, "swapped", "everyone", falco_tune_buf_size_preset=6).wait()
    _edit(host)
    host.reboot()
    assert target(host).read_text().startswith(FOREIGN) and leftovers(host) == []
    wait_for(lambda: unit(host)["ActiveState"] == "active", what="Falco after the boot")


def test_the_timer_leaves_nothing_of_a_broken_off_change(hosts):
    host = hosts["undone"]
    before = falco_files(host)
    killed_in(host, "stopping", "everyone").wait()
    script = host.root / "var/lib/falcotune/undo.sh"
    wait_for(lambda: not script.exists(), REVIVED, "the end of undo.sh")
    assert falco_files(host) == before and leftovers(host) == [] and _undo_units(host) == []
    assert unit(host)["ActiveState"] == "active" and (host.root / "var/lib/falcotune/undone.json").exists()


def test_the_worker_has_a_scope_of_its_own(hosts):
    """Not the cgroup of the session, which is killed at logout."""
    host = hosts["scope"]
    process = direct.change(host)
    wait_for(lambda: (direct.journal(host) or {}).get("phase") == "stopping", what="the stop")
    watchdogs = direct.children(process.pid)
    scopes = list((host.root / "run/systemd/units/.scopes").iterdir())
    assert [json.loads(scope.read_text())["PIDs"] for scope in scopes] == [[direct.children(watchdogs[0])[0], watchdogs[0]]]
    answer = direct.finished(process)
    assert answer["changed"] and answer["evidence"]["notes"] == [], answer


def _undo_units(host):
    return [path.name for path in (host.root / "etc/systemd/system").rglob("falcotune-undo-*")] \
        + [path.name for path in (host.root / "run/systemd").rglob("zz-falcotune-stderr.conf")]
