# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a review broke, each as one point of the harness: full disk, killed together, a stop that hangs, a sysctl, a clock that is set, an
edit that was overwritten, an edit that was lost, and the order in which a power cut finds things on disk."""

from __future__ import annotations

import errno

import pytest

from editors import edit_seed
from faults import Fault, label
from host import METRICS
from power import cut_seed
from scenes import Scene, run_seed
from stand_in import MAIN

HOST = {"mounts": (), "restart": False, "before": False, "full": False, "unit": True, "logrotate": True, "sysctl": True, "apply": "restart"}


@pytest.fixture
def base(tmp_path):
    return tmp_path


@pytest.fixture(scope="module")
def cache():
    return {}


def number_of(base, cache, start: str, **more) -> int:
    """The first call of a change whose label starts so."""
    calls = Scene(1, "change", **{**HOST, **more}).reference(base, cache)["calls"]
    return next(number for number, entry in enumerate(calls) if label(entry).startswith(start))


def outcome(base, cache, start: str, kind: str, **more) -> dict:
    fault = Fault(number_of(base, cache, start), kind, **more)
    result = run_seed(1, base, cache, "change", [fault], **HOST)
    assert result["violations"] == [] and len(result["faults"]) == 1, result
    return result["answer"]


def test_a_disk_that_is_full_from_the_start_on(base, cache):
    answer = outcome(base, cache, f"worker stat {METRICS}", "full", number=errno.ENOSPC, seconds=300)
    assert answer["changed"] and any("could not be written" in note for note in answer["evidence"]["notes"]), answer


def test_all_processes_killed_at_the_stop(base, cache):
    assert outcome(base, cache, "worker run systemctl daemon-reload", "kill", victims=None) is None


def test_a_stop_of_120_seconds(base, cache):
    answer = outcome(base, cache, "worker run systemctl stop falco", "stop hangs", seconds=120)
    assert answer["changed"] or answer["undone"], answer


def test_a_sysctl_that_can_not_be_written(base, cache):
    answer = outcome(base, cache, "worker open proc/sys", "errno", choice=0, seconds=300, number=errno.EROFS)
    assert answer["changed"] and any("sysctl" in note for note in answer["evidence"]["notes"]), answer


def test_a_recovery_that_is_killed_before_it_has_set_its_own_timer(base, cache):
    """At calls before and after it takes the change over, when all of the change was killed with Falco stopped."""
    calls = Scene(1, "recovery", **HOST).reference(base, cache)
    at = next(number for number, entry in enumerate(calls["change"]) if label(entry).startswith("worker move"))
    first = next(number for number, entry in enumerate(calls["calls"]) if label(entry).startswith("module run systemctl stop falcotune"))
    for number in range(first - 6, first + 36, 6):
        fault = Fault(number, "kill", victims=("module",))
        found = run_seed(1, base, cache, "recovery", [fault], broken_at=at, **HOST)
        assert found["violations"] == [], (number, found["faults"], found["violations"])


@pytest.mark.parametrize("seconds", [-86400, 86400])
def test_a_clock_that_is_set_while_falco_proves_itself(seconds, base, cache):
    assert outcome(base, cache, f"worker stat {METRICS}", "clock", seconds=seconds)["changed"]


def test_an_edit_while_a_change_waits_for_the_stop(base, cache):
    full = {**HOST, "full": True}
    at = number_of(base, cache, "worker run systemctl stop falco", full=True)
    found = edit_seed(1, base, cache, "change", [(at, MAIN, "in place")], **full)
    assert found["edits"] == 1 and found["violations"] == [] and found["answer"]["failed"], found


def test_a_repair_by_hand_after_all_were_killed(base, cache):
    full = {**HOST, "full": True}
    at = number_of(base, cache, "worker run systemctl start falco", full=True)
    found = edit_seed(1, base, cache, "recovery", [(0, MAIN, "in place")], broken_at=at, **full)
    assert found["edits"] == 1 and found["violations"] == [], found


@pytest.mark.parametrize("run, seed", [
    # A file system that is read-only while a change is undone; an edit while a rollback reads what it takes back; two edits
    # around one rename.
    (run_seed, 125), (edit_seed, 137), (edit_seed, 210), (edit_seed, 258),
    # A power cut while an old change is folded into the one after it.
    (cut_seed, 47), (cut_seed, 77),
    # A file of a rollback is deleted by somebody else, and the rollback stops at another file, or at a deleted one.
    (edit_seed, 349), (edit_seed, 960),
    # A file is deleted before the run reads it.
    (edit_seed, 365),
    # The new main file is repaired by somebody else before, between and after the renames.
    (edit_seed, 79), (edit_seed, 531), (edit_seed, 764), (edit_seed, 816),
    # The drop-in for standard error can't be removed after the change.
    (run_seed, 231),
    # The state directory fails between the stop and the renames of a rollback, for longer than the run.
    (run_seed, 157),
])
def test_seeds_that_found_faults(run, seed, base, cache):
    assert run(seed, base, cache)["violations"] == []


def test_the_metrics_directory_is_on_disk_before_the_configuration_that_needs_it(base, cache):
    """All of / is kept, nothing of /var that nobody forced."""
    between = ("worker mkdir var/log/falco", "worker run systemctl start falco")
    found = cut_seed(1, base, cache, 0, "change", {"": 1.0, "var": 0.0}, between, **{**HOST, "mounts": ("var",), "before": False})
    assert found["violations"] == [] and found["mixed"] == 0, found["violations"]


@pytest.mark.parametrize("tells", [True, False], ids=["reload_ts", "before-0.41"])
def test_what_falco_counts_before_its_hot_reload_proves_nothing(tells, base, cache):
    """The old configuration counts for four more seconds; the new one is blind."""
    more = {**HOST, "before": True, "unit": False, "apply": "reload", "reloads_after": 4.0, "tells_reloads": tells}
    answer = run_seed(1, base, cache, "undo", [], **more, bad="blind: true")
    assert answer["violations"] == [] and answer["answer"]["undone"], answer["answer"]
    answer = run_seed(1, base, cache, "change", [], **more)
    assert answer["violations"] == [] and answer["answer"]["evidence"]["seconds_to_evidence"] > 4, answer["answer"]


def test_a_watchdog_that_can_not_read_the_journal_of_its_killed_worker(base, cache):
    """It must not take it for a change that has touched nothing: Falco is stopped."""
    at = number_of(base, cache, "worker run systemctl start falco")
    given = [Fault(at, "kill", victims=("worker",)), Fault(at + 1, "errno", choice=0, seconds=0)]
    found = run_seed(1, base, cache, "change", given, **HOST)
    assert found["violations"] == [] and "watchdog" in found["faults"][1] and "journal.json" in found["faults"][1], found
    assert "journal.json can't be read" in found["answer"]["msg"] and not found["answer"]["undone"], found["answer"]


@pytest.mark.parametrize("seconds", [0.0, 0.2, 0.35])
def test_a_falco_that_somebody_restarts_as_a_change_begins_runs_after_its_undo(seconds, base):
    """It has no process at the first look."""
    host = Scene(1, "undo", **HOST, bad="refused: true").host(base)
    try:
        host.manager.restart(None)
        host.rest(seconds)
        answer = host.run({**HOST, "preset": 6, "extra": ("refused: true",)})
        host.rest(30)
        assert answer["failed"] and host.manager.up and host.manager.falco.phase == "runs", answer
    finally:
        host.close()
