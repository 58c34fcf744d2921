# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a watchdog answers for a killed worker. The transaction as a whole is tested on hosts: tests/integration/test_interrupted.py."""

import base64
import hashlib
import os

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._change import evidence, records, transaction


@pytest.fixture
def work(tmp_path):
    """A change that has not begun, and what its killed worker left."""
    for name in (".falcotune-token-1", "history/0001"):
        (tmp_path / name).mkdir(parents=True)
    entry = {"state_dir": str(tmp_path), "phase": "staged", "at": 100.0, "apply": "restart", "files": [], "made": [],
             "stages": [str(tmp_path / ".falcotune-token-1")], "unit": "falco.service", "proof": {"host_root": ""},
             "token": "token-1", "old_sysctls": {}, "daemon_reload": False, "was_running": True, "old_pid": 7}
    (tmp_path / ".falcotune-half").write_text("{")
    return transaction.Transaction(entry)


@pytest.fixture(autouse=True)
def no_log(monkeypatch):
    monkeypatch.setattr(transaction.systemd, "run", lambda *words, **options: (1, "", ""))


def test_killed_before_its_journal(work, tmp_path):
    answer = transaction.killed(work)
    assert answer["undone"] and answer["msg"] == "the change was killed before anything was touched. Nothing was changed."
    assert os.listdir(tmp_path) == ["history"]


@pytest.mark.parametrize("half", [None, "0"])
def test_killed_while_the_previous_files_were_being_kept(half, work, tmp_path):
    """A folder without its manifest would stop every later rollback."""
    work.entry["kept"] = str(tmp_path / "history/0001")
    work.note("staged")
    if half:
        (tmp_path / "history/0001" / half).write_text("engine: {}\n")
    answer = transaction.killed(work)
    assert answer["undone"] and "killed in phase staged. Nothing was changed" in answer["msg"]
    assert records.history(str(tmp_path)) == [] and os.listdir(tmp_path) == ["history"]


@pytest.mark.parametrize("apply, told", [("restart", {"evidence": {"basis": "counters", "events": 7}}), ("quiet", {})])
def test_killed_after_its_end(apply, told, work, tmp_path):
    work.entry["apply"] = apply
    records.write_json(str(tmp_path / "record.json"),
                       {"at": 101.0, "token": "token-1", "evidence": {"basis": "counters", "events": 7}})
    assert transaction.killed(work) == {"changed": True, "failed": False, **told}
    assert (tmp_path / "record.json").exists()


def test_an_earlier_change_is_not_taken_for_its_own(work, tmp_path):
    records.write_json(str(tmp_path / "record.json"),
                       {"at": 101.0, "token": "token-0", "evidence": {"basis": "counters", "events": 7}})
    assert transaction.killed(work)["failed"]


@pytest.mark.parametrize("end", [transaction.killed, lambda work: transaction.recover(work.state_dir)])
def test_a_change_whose_record_is_written_is_finished_and_not_undone(end, work, tmp_path, monkeypatch):
    """A proven Falco is not stopped because its worker died a moment before it had removed the journal."""
    monkeypatch.setattr(transaction.Transaction, "undo", lambda *dummy: pytest.fail("undone"))
    work.entry["kept"], work.entry["forget"] = str(tmp_path / "history/0001"), []
    work.note("started")
    records.write_json(str(tmp_path / "record.json"), {"token": "token-1", "evidence": {"basis": "counters", "events": 7}})
    answer = end(work)
    assert answer is None or answer["changed"]
    assert not (tmp_path / "journal.json").exists() and not (tmp_path / ".falcotune-token-1").exists()
    assert records.history(str(tmp_path)) == [1]


def test_the_next_run_tells_of_a_change_that_its_timer_or_a_boot_has_undone(work, tmp_path):
    work.note("stopped")
    (tmp_path / "journal.json").rename(tmp_path / "undone.json")
    assert records.unfinished(str(tmp_path)) == {"phase": "undone", "at": work.entry["at"]}
    assert "an earlier change was broken off (phase stopped): its timer or the boot" in transaction.recover(str(tmp_path))
    assert transaction.recover(str(tmp_path)) is None and records.unfinished(str(tmp_path)) is None


def old_journal(folder, **more):
    """As an earlier version wrote it: other names, and a limit that is a constant now."""
    return {"state": str(folder / "elsewhere"), "token": "token-1", "unit": "falco.service", "phase": "kept", "at": 5.0, "apply": "restart",
            "files": [], "stages": [str(folder / ".falcotune-token-1")], "made": [], "owner": [0, 0], "sysctls": {}, "old_sysctls": {},
            "daemon_reload": False, "watched": ["/etc/falco"], "stop_timeout": 45, "forget": [], "forget_since": 0, "attempt": None,
            "before": None, "was_running": True, "old_pid": 0, "binary": {}, "hashes": {}, "written": [],
            "kept": str(folder / "history/0001"), "watch": {"host_root": "", "metrics_file": ""}, **more}


def test_a_journal_of_an_earlier_version_is_undone(work, tmp_path):
    records.write_json(str(tmp_path / "journal.json"), old_journal(tmp_path))
    assert transaction.recover(str(tmp_path)) == "an earlier change was broken off (phase kept). Nothing was changed."
    assert os.listdir(tmp_path) == ["history"] and records.history(str(tmp_path)) == []


def test_files_that_an_earlier_version_had_swapped_are_put_back(work, tmp_path):
    path = tmp_path / "falco.yaml"
    path.write_text("new")
    entry = {"path": str(path), "staged": None, "old_meta": [0o640, os.getuid(), os.getgid()],
             "old": base64.b64encode(b"old").decode(), "new_sha256": hashlib.sha256(b"new").hexdigest()}
    records.write_json(str(tmp_path / "journal.json"), old_journal(tmp_path, phase="swapped", apply="quiet", files=[entry]))
    assert "The previous configuration is back" in transaction.recover(str(tmp_path))
    assert path.read_text() == "old" and not (tmp_path / "journal.json").exists()


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_journal_that_is_none_is_no_obstacle(work, tmp_path, text):
    (tmp_path / "journal.json").write_text(text)
    assert transaction.recover(str(tmp_path)) is None


@pytest.mark.parametrize("name", ["journal.json", "undone.json"])
def test_a_journal_that_can_not_be_read_just_now_is_not_swept_away(name, work, tmp_path):
    """A directory of this name stands for a file whose read fails."""
    (tmp_path / name).mkdir()
    with pytest.raises(transaction.Failed, match="%s can't be read: it is a directory" % name):
        transaction.recover(str(tmp_path))
    assert (tmp_path / ".falcotune-token-1").exists()


@pytest.mark.parametrize("name", ["journal.json", "record.json"])
def test_a_watchdog_that_can_not_read_what_it_should_undo_leaves_it_to_the_timer(name, work, tmp_path, monkeypatch):
    monkeypatch.setattr(transaction.Transaction, "undo", lambda *dummy: pytest.fail("undone"))
    work.note("stopped")
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).mkdir()
    answer = transaction.killed(work)
    assert answer["failed"] and not answer["undone"] and "Its timer puts the previous files back" in answer["msg"]
    assert (tmp_path / ".falcotune-token-1").exists() and (tmp_path / name).exists()


def test_a_record_that_can_not_be_read_is_not_one_of_another_change(work, tmp_path):
    work.note("started")
    (tmp_path / "record.json").mkdir()
    with pytest.raises(OSError):
        transaction.recover(str(tmp_path))
    assert (tmp_path / "journal.json").exists()


@pytest.mark.parametrize("now", ["old", "theirs", None])
def test_a_change_whose_files_are_not_all_in_place_is_not_proven_by_a_later_run(now, work, tmp_path, monkeypatch):
    """Its journal says that Falco was started, as the undo that put files back could not write there."""
    monkeypatch.setattr(transaction.Transaction, "prove", lambda *dummy: pytest.fail("proven"))
    monkeypatch.setattr(transaction.Transaction, "arm", lambda *dummy: None)
    monkeypatch.setattr(transaction.Transaction, "undo", lambda _work, error: {"undone": True, "msg": str(error)})
    path = tmp_path / "falco.yaml"
    if now:
        path.write_text(now)
    work.entry["files"] = [{"path": str(path), "staged": None, "old_meta": [0o640, os.getuid(), os.getgid()], "old_link": None,
                            "old": base64.b64encode(b"old").decode(), "new_sha256": hashlib.sha256(b"new").hexdigest()}]
    work.note("started")
    assert transaction.recover(str(tmp_path)) == "an earlier change was broken off (phase started)"


class Falco:
    """Stands in for evidence.Proof and the unit."""

    def __init__(self, monkeypatch, **proven):
        self.proven = {"basis": "counters", "seconds_to_evidence": 2.344, **proven}
        monkeypatch.setattr(transaction.evidence, "Proof", lambda *given: self)

    def wait(self):
        return dict(self.proven)


@pytest.mark.parametrize("basis, said", [("counters", 3.35), ("process", None)])
def test_only_counters_tell_for_how_long_nothing_was_seen_and_the_number_is_rounded_up(basis, said, work, monkeypatch):
    """A process that is alive has not opened its driver yet: that takes another two seconds and more."""
    Falco(monkeypatch, basis=basis)
    monkeypatch.setattr(work, "commit_if_possible", lambda proven: None)
    work.entry["sysctls"] = {}
    work.unit.stopped_at = 100.0
    assert work.prove(101.0, [0, 0])["evidence"].get("blind_seconds_at_most") == said


def test_a_second_interruption_does_not_hide_the_first(monkeypatch, work):
    clock = iter([10.0, 14.0])
    monkeypatch.setattr(transaction.unit_control.time, "monotonic", lambda: next(clock))
    work.unit.interrupted()
    work.unit.interrupted()
    assert work.unit.stopped_at == 10.0 and work.unit.interruptions == 2


def test_an_undo_by_the_watchdog_counts_from_the_stop_by_the_worker(work, monkeypatch):
    """... and until Falco sees events, which takes longer than for the process to be there."""
    monkeypatch.setattr(work.unit, "stop", lambda: None)
    monkeypatch.setattr(work.unit, "start", lambda: None)
    monkeypatch.setattr(work.unit, "await_process", lambda: None)
    monkeypatch.setattr(work, "finish", lambda committed: None)
    monkeypatch.setattr(transaction.time, "monotonic", lambda: 50.0)
    work.entry.update(phase="started", blind_from=20.0)
    answer = work.undo(transaction.Failed("the change was killed"))
    assert answer["undone"] and answer["blind_seconds_at_most"] == 50.0 + transaction.unit_control.OPENS - 20.0


@pytest.mark.parametrize("error, kept", [
    (evidence.NoEvidence("Falco drops 9 % now"), True), (evidence.Died("it died"), True), (RuntimeError("no space left"), False)])
def test_a_step_whose_proof_failed_is_remembered_so_that_it_is_not_tried_again(error, kept, work, tmp_path, monkeypatch):
    monkeypatch.setattr(transaction.Transaction, "restore", lambda self: None)
    records.write_json(str(tmp_path / "record.json"), {"at": 101.0, "token": "token-0", "attempts": [{"step": "buffers", "at": 50.0}]})
    work.entry.update(attempt={"step": "priority", "to": {"Nice": -10}}, apply="quiet")
    work.note("swapped")
    seen = records.seen(records.load(str(tmp_path)))
    assert work.undo(error)["undone"]
    record = records.load(str(tmp_path))
    steps = [(item["step"], item.get("rolled_back", False)) for item in record["attempts"]]
    assert steps == [("buffers", False)] + kept * [("priority", True)]
    assert (record["at"], record["token"]) == (101.0, "token-0"), "what is proven is still that"
    assert (records.seen(record) == seen) is not kept, "a plan from before the failure is an old one"


def test_without_a_record_a_failure_begins_none(work, tmp_path, monkeypatch):
    monkeypatch.setattr(transaction.Transaction, "restore", lambda self: None)
    work.entry.update(attempt={"step": "priority", "to": {}}, apply="quiet")
    work.note("swapped")
    assert work.undo(evidence.NoEvidence("none"))["undone"] and not (tmp_path / "record.json").exists()
