# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guard answers for a killed keeper. The transaction as a whole is tested on hosts: tests/integration/test_interrupted.py."""

import os

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._change import records, transaction


@pytest.fixture
def work(tmp_path):
    """A change that has not begun, and what its killed keeper left."""
    for name in (".falcotune-token-1", "history/0001"):
        (tmp_path / name).mkdir(parents=True)
    plan = {"state": str(tmp_path), "phase": "staged", "at": 100.0, "apply": "restart", "files": [], "made": [],
            "stages": [str(tmp_path / ".falcotune-token-1")], "unit": "falco.service", "watch": {"host_root": ""}}
    (tmp_path / ".falcotune-half").write_text("{")
    return transaction.Transaction(plan)


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
    work.plan["kept"] = str(tmp_path / "history/0001")
    work.note("staged")
    if half:
        (tmp_path / "history/0001" / half).write_text("engine: {}\n")
    answer = transaction.killed(work)
    assert answer["undone"] and "killed in phase staged. Nothing was changed" in answer["msg"]
    assert records.history(str(tmp_path)) == [] and os.listdir(tmp_path) == ["history"]


@pytest.mark.parametrize("apply, told", [("restart", {"evidence": {"events": 7}}), ("quiet", {})])
def test_killed_after_its_end(apply, told, work, tmp_path):
    work.plan["apply"] = apply
    records.write_json(str(tmp_path / "record.json"), {"at": 101.0, "evidence": {"events": 7}})
    assert transaction.killed(work) == {"changed": True, "failed": False, **told}
    assert (tmp_path / "record.json").exists()


def test_an_earlier_change_is_not_taken_for_its_own(work, tmp_path):
    records.write_json(str(tmp_path / "record.json"), {"at": 99.0, "evidence": {"events": 7}})
    assert transaction.killed(work)["failed"]
