# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The harness can fail: what makes a change safe is taken out of the code, one thing at a time, and each loss is found."""

from __future__ import annotations

import inspect
import textwrap

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._change import files, transaction, undo_script

from editors import edit_seed
from faults import Fault, label
from host import FRAGMENT
from power import cut_seed
from scenes import Scene, run_seed

RESTART = {"mounts": (), "restart": False, "before": True, "full": False, "unit": True, "logrotate": False, "sysctl": True,
           "apply": "restart"}


@pytest.fixture
def base(tmp_path):
    return tmp_path


@pytest.fixture
def mutated(monkeypatch):
    """mutated(owner, name, old, new): the function with another text in one place."""
    def mutate(owner, name: str, old: str, new: str) -> None:
        function = getattr(owner, name)
        source = textwrap.dedent(inspect.getsource(function))
        assert source.count(old) == 1, f"{name} has no {old!r} once any more"
        names = dict(function.__globals__)
        exec(source.replace(old, new), names)  # noqa: S102
        made = names[name]
        monkeypatch.setattr(owner, name, type(function)(made.__code__, function.__globals__, name, function.__defaults__))
    return mutate


def number_of(kind: str, base, start: str, **more) -> int:
    """The first call of the run whose label starts so."""
    calls = Scene(1, kind, **{**RESTART, **more}).reference(base, {})["calls"]
    return next(number for number, entry in enumerate(calls) if label(entry).startswith(start))


def test_an_undo_without_its_start_is_found(base, mutated):
    given = [Fault(1, "clock", seconds=0)]
    assert run_seed(1, base, {}, "undo", given, **RESTART, bad="refused: true")["violations"] == []
    mutated(transaction.Transaction, "undo", 'if interrupted and self.entry["was_running"]:', "if False:")
    found = run_seed(1, base, {}, "undo", given, **RESTART, bad="refused: true")
    assert any("Falco was away" in text for text in found["violations"]), found["violations"]


def test_a_timer_that_is_disarmed_too_early_is_found(base, mutated):
    at = number_of("change", base, "worker run systemctl start")
    given = [Fault(at, "kill", victims=None)]
    assert run_seed(1, base, {}, "change", given, **RESTART)["violations"] == []
    mutated(transaction.Transaction, "run", 'self.note("stopping")', 'self.disarm(); self.note("stopping")')
    at = number_of("change", base, "worker run systemctl start")
    found = run_seed(1, base, {}, "change", [Fault(at, "kill", victims=None)], **RESTART)
    assert any("Falco was away" in text for text in found["violations"]), found["violations"]


def test_a_rename_without_its_comparison_is_found(base, mutated):
    scene = {**RESTART, "unit": False, "sysctl": False}
    at = number_of("change", base, "worker run systemctl stop falco", **scene)
    given = [(at, FRAGMENT, "rename over")]
    assert edit_seed(1, base, {}, "change", given, **scene)["violations"] == []
    mutated(files, "_swapped_one", "if digest_of(target) != _old_digest(entry):", "if False:")
    mutated(files, "_put", "if digest_of(name) == expected:", "if True:")
    assert "its bytes are nowhere" in str(edit_seed(1, base, {}, "change", given, **scene)["violations"])


def test_a_file_that_is_not_synced_is_found(base, mutated):
    lost, swap = {"": 0.0}, ("worker exchange", "worker run systemctl stop falcotune")
    scene = {**RESTART, "unit": False, "sysctl": False}
    assert cut_seed(1, base, {}, 0, "change", lost, swap, **scene)["violations"] == []
    mutated(files, "write_staged", "os.fsync(stream.fileno())", "pass")
    found = cut_seed(1, base, {}, 0, "change", lost, swap, **scene)["violations"]
    assert any("neither the old nor the new file" in text or "Falco does not run" in text for _point, text in found), found


def test_an_undo_that_comes_after_the_boot_only_is_found(base, mutated):
    """Without undo.sh at the boot some files are old and some are new then."""
    scene, swap = {**RESTART, "logrotate": True}, ("worker exchange", "worker run systemctl start falco")
    assert cut_seed(1, base, {}, 0, "change", {"": 1.0}, swap, **scene)["mixed"] == 0
    mutated(undo_script, "_unit", "return _UNIT", 'return "" and _UNIT')
    assert cut_seed(1, base, {}, 0, "change", {"": 1.0}, swap, **scene)["mixed"] > 0
