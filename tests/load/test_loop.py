# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tune_falco with several rounds on a real Falco: verdict, steps, restarts, and what is lost before and after them under the same load.

A table with a row for each load is printed at the end. The CPUs are shared out by nice values alone, but where a test says otherwise.
On a machine that is busy otherwise, give the shell that runs this a cgroup with a high CPU weight: the figures are those of the loads then.
"""

from __future__ import annotations

import dataclasses
import os
import time

import pytest
from looped import OBSERVED, autogroup, looped, table
from test_verdicts import BINARY, LOADS
from watched import Load, judged

pytestmark = pytest.mark.skipif(not BINARY or os.geteuid() != 0, reason="FALCO_BIN names no real Falco, or this is not root")

HEAVY = {"falco_tune_disabled_rules": ["heavy *"]}
GUIDE = 7  # the largest preset of the guide's range
LONGER = {"falco_tune_min_observation": 50, "falco_tune_window": "60s"}


@pytest.fixture(scope="module")
def rows():
    found = []
    yield found
    print("\n" + table(found))


@pytest.fixture
def flat():
    with autogroup(False):
        yield


@pytest.mark.parametrize("name", ["idle", "steady"])
def test_a_host_that_loses_nothing_gets_metrics_and_is_left_alone(name, rows, flat, tmp_path):
    verdict, _facts = judged(BINARY, tmp_path, LOADS[name])
    with looped(BINARY, tmp_path, LOADS[name], None) as case:
        run = case.tune()
        after = case.seen()
        row = case.ended(rows, name, verdict["drops_percent"], after)
    assert row.restarts == 1 and row.steps == [] and row.verdicts[-1] == "healthy", run.output
    assert after.lost < 1, row


def test_bursts_get_the_rings_that_hold_them(rows, flat, tmp_path):
    name = "bursts at preset 1"
    with looped(BINARY, tmp_path, LOADS[name], "1s") as case:
        before = case.seen(1.5 * OBSERVED)
        run = case.tune()
        after = case.seen()
        row = case.ended(rows, name, before.lost, after)
    assert row.verdicts[0] == "dropping buffer" and {step.name for step in row.steps} == {"buffers"}, run.output
    assert after.lost < 1 < before.lost and row.restarts <= 2, row


def test_bursts_that_only_rings_beyond_the_guides_range_hold_get_those(rows, flat, tmp_path):
    """6 s of one busy program every 40 s: two million events more than are read meanwhile, of 80 bytes each."""
    load = Load("buffer", workers=1, burst=(6.0, 40.0), heavy=12)
    with looped(BINARY, tmp_path, load, "10s", **LONGER) as case:
        before = case.seen(60)
        run = case.tune()
        after = case.seen(50)
        row = case.ended(rows, "bursts beyond preset 7", before.lost, after)
        size, source = case.rings()
    assert {step.name for step in row.steps} == {"buffers"}, run.output
    assert size > 1 << (19 + GUIDE) and source == "memory map", "as the Falco that runs has them"
    assert after.lost < 1 < before.lost and row.restarts <= 2, row


def test_a_starved_falco_that_was_never_measured_gets_priority_in_the_restart_that_turns_metrics_on(rows, flat, tmp_path):
    verdict, _facts = judged(BINARY, tmp_path, LOADS["starved"])
    with looped(BINARY, tmp_path, LOADS["starved"], None) as case:
        time.sleep(OBSERVED)
        run = case.tune()
        after = case.seen()
        row = case.ended(rows, "starved", verdict["drops_percent"], after)
    assert row.verdicts[0] == "unmeasured starved" and row.restarts == 1, run.output
    assert [step.text for step in row.steps] == ["priority Nice -10"], run.output
    assert after.lost < verdict["drops_percent"] / 5, row


def test_a_starved_falco_that_is_measured_gets_priority_and_nothing_else(rows, flat, tmp_path):
    with looped(BINARY, tmp_path, LOADS["starved"], "10s") as case:
        before = case.seen(1.5 * OBSERVED)
        run = case.tune()
        after = case.seen()
        row = case.ended(rows, "starved, measured", before.lost, after)
    assert row.verdicts[0].startswith("dropping starved") and row.restarts == 1, run.output
    assert [step.text for step in row.steps] == ["priority Nice -10"], run.output
    assert after.lost < before.lost / 5, row


def test_nothing_is_promised_of_nice_where_autogroup_is_on(rows, tmp_path):
    """Each neighbour has a session of its own, as services have: the kernel gives each session a share, whatever its nice value."""
    load = dataclasses.replace(LOADS["starved"], sessions=True)
    with autogroup(True), looped(BINARY, tmp_path, load, "10s") as case:
        before = case.seen(1.5 * OBSERVED)
        run = case.tune()
        after = case.seen()
        row = case.ended(rows, "starved, autogroup on", before.lost, after)
    assert row.verdicts[0] == "dropping starved", run.output
    assert "Nice= has no effect here: kernel autogroup is on" in run.output
    # Fewer system calls may be worth a restart. What is said of them comes true, or they are taken back.
    assert {step.name for step in row.steps} <= {"syscalls", "give_back"} and row.restarts == len(row.steps), row
    came_true = all(abs(step.predicted - step.lost) < 5 for step in row.steps if step.name == "syscalls")
    assert came_true or row.steps[-1].name == "give_back", row


def test_sixty_heavy_rules_are_named_and_disabled_by_policy_in_one_restart(rows, flat, tmp_path):
    with looped(BINARY, tmp_path, LOADS["60 heavy rules"], "10s") as case:
        before = case.seen(1.5 * OBSERVED)
        held = case.tune()
        assert case.restarts == 0, held.output
        assert "answer: too busy for Falco" in held.output and "rules: heavy 0 takes" in held.output
        run = case.tune(**HEAVY)
        after = case.seen()
        row = case.ended(rows, "60 heavy rules", before.lost, after)
    assert row.verdicts[0].startswith("dropping consumer") and "buffer" not in " ".join(row.verdicts), held.output
    assert row.restarts == 1 and not any(step.name in ("buffers", "syscalls") for step in row.steps), run.output
    assert after.lost < 1, row


def test_a_saturated_falco_that_was_never_measured_gets_a_narrower_selection_in_the_restart_that_turns_metrics_on(rows, flat, tmp_path):
    verdict, _facts = judged(BINARY, tmp_path, LOADS["60 heavy rules"])
    with looped(BINARY, tmp_path, LOADS["60 heavy rules"], None) as case:
        time.sleep(OBSERVED)
        run = case.tune()
        first = {change["key"] for change in case.plans()[0]["changes"]}
        assert {"metrics.enabled", "base_syscalls.repair"} <= first, run.output
        case.tune(**HEAVY)
        after = case.seen()
        row = case.ended(rows, "60 heavy rules, never measured", verdict["drops_percent"], after)
    assert row.verdicts[0] == "unmeasured consumer" and "buffer" not in " ".join(row.verdicts), run.output
    assert after.lost < 1, row


def test_sixty_heavy_rules_beside_neighbours_go_in_the_restart_that_gives_priority(rows, flat, tmp_path):
    name = "60 heavy rules beside neighbours"
    with looped(BINARY, tmp_path, LOADS[name], "10s") as case:
        before = case.seen(1.5 * OBSERVED)
        held = case.tune()
        assert case.restarts == 0 and "saturated even with a whole CPU" in held.output, held.output
        run = case.tune(**HEAVY)
        after = case.seen()
        row = case.ended(rows, name, before.lost, after)
    assert row.verdicts[0] == "dropping consumer starved", held.output
    assert row.restarts == 1 and [step.text for step in row.steps] == ["priority Nice -10"], run.output
    assert after.lost < before.lost / 5, row
