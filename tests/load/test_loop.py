# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tune_falco with several rounds on a real Falco: verdict, steps, restarts, and what is lost before and after them under the same load.

One row of a table for each load, printed at the end. The CPUs are shared out by nice values alone (autogroup off) but where a test says
otherwise.
"""

from __future__ import annotations

import dataclasses
import os
import time

import pytest
from looped import OBSERVED, autogroup, looped, table
from test_verdicts import BINARY, CPUS, LOADS
from watched import Load, judged

pytestmark = pytest.mark.skipif(not BINARY or os.geteuid() != 0, reason="FALCO_BIN names no real Falco, or this is not root")

HEAVY = {"falco_tune_disabled_rules": ["heavy *"]}


@pytest.fixture(scope="module")
def rows():
    found = []
    yield found
    print("\n" + table(found))


@pytest.fixture
def flat():
    with autogroup(False) as chosen:
        if not chosen:
            pytest.skip("autogroup is on, and this kernel does not let us switch it off")
        yield


@pytest.mark.parametrize("name", ["idle", "steady"])
def test_a_host_that_loses_nothing_gets_metrics_and_is_left_alone(name, rows, flat, tmp_path):
    load = LOADS[name]
    verdict, _facts = judged(BINARY, tmp_path, load)
    with looped(BINARY, tmp_path, load, None) as case:
        run = case.tune()
        after = case.seen()
        row = case.row(name, verdict["drops_percent"], after.lost)
        rows.append(row)
        assert case.restarts == 1 and row.steps == [] and row.verdicts[-1] == "healthy", run.output
        assert after.lost < 1, after


def measured_first(case) -> float:
    """Percent lost before anything is changed, once the product has enough to judge."""
    return case.seen(1.5 * OBSERVED).lost


@pytest.mark.parametrize("name,load,interval", [
    ("bursts at preset 1", LOADS["bursts at preset 1"], "1s"),
    ("bursts that preset 8 holds", Load("buffer", workers=1, burst=(2.0, 25.0), heavy=12), "10s"),
])
def test_rings_are_chosen_that_hold_the_bursts(name, load, interval, rows, flat, tmp_path):
    with looped(BINARY, tmp_path, load, interval) as case:
        before = measured_first(case)
        run = case.tune()
        after = case.seen(3 * OBSERVED if interval == "10s" else OBSERVED)
        row = case.row(name, before, after.lost)
        rows.append(row)
        assert row.verdicts[0] == "dropping buffer" and {step.text.split()[0] for step in row.steps} == {"buffers"}, run.output
        print(row)
        assert after.lost < 1 < before, row


def test_a_starved_falco_that_was_never_measured_gets_priority_in_the_restart_that_turns_metrics_on(rows, flat, tmp_path):
    load = LOADS["starved"]
    verdict, _facts = judged(BINARY, tmp_path, load)
    with looped(BINARY, tmp_path, load, None) as case:
        time.sleep(OBSERVED)
        run = case.tune()
        after = case.seen()
        row = case.row("starved", verdict["drops_percent"], after.lost)
        rows.append(row)
        print(row)
        assert row.verdicts[0] == "unmeasured starved" and case.restarts == 1, run.output
        assert [step.text for step in row.steps] == ["priority Nice -10"], run.output
        assert after.lost < verdict["drops_percent"] / 5, row


def test_a_starved_falco_that_is_measured_gets_priority(rows, flat, tmp_path):
    with looped(BINARY, tmp_path, LOADS["starved"], "10s") as case:
        before = measured_first(case)
        run = case.tune()
        after = case.seen()
        row = case.row("starved, measured", before, after.lost)
        rows.append(row)
        print(row)
        assert "starved" in row.verdicts[0] and row.steps[0].text == "priority Nice -10", run.output
        assert after.lost < before / 5, row


def test_nothing_is_promised_of_nice_where_autogroup_is_on(rows, tmp_path):
    load = dataclasses.replace(LOADS["starved"], sessions=True)
    with autogroup(True) as chosen:
        if not chosen:
            pytest.skip("autogroup is off, and this kernel does not let us switch it on")
        with looped(BINARY, tmp_path, load, "10s") as case:
            before = measured_first(case)
            run = case.tune()
            after = case.seen()
            row = case.row("starved, autogroup on", before, after.lost)
            rows.append(row)
            print(row)
            assert "starved" in row.verdicts[0], run.output
            assert "Nice= has no effect here: kernel autogroup is on" in run.output
            assert not any("priority" in step.text for step in row.steps), row


def test_sixty_heavy_rules_are_named_and_disabled_by_policy_in_one_restart(rows, flat, tmp_path):
    with looped(BINARY, tmp_path, LOADS["60 heavy rules"], "10s") as case:
        before = measured_first(case)
        held = case.tune()
        print("RESTARTS", case.restarts)
        restarts = case.restarts
        run = case.tune(**HEAVY)
        after = case.seen()
        row = case.row("60 heavy rules", before, after.lost)
        rows.append(row)
        print(row)
        assert row.verdicts[0] == "dropping consumer", held.output
        assert case.restarts == restarts + 1, run.output
        assert after.lost < 1, row


def test_sixty_heavy_rules_that_were_never_measured(rows, flat, tmp_path):
    verdict, _facts = judged(BINARY, tmp_path, LOADS["60 heavy rules"])
    with looped(BINARY, tmp_path, LOADS["60 heavy rules"], None) as case:
        time.sleep(OBSERVED)
        held = case.tune()
        after = case.seen()
        row = case.row("60 heavy rules, unmeasured", verdict["drops_percent"], after.lost)
        rows.append(row)
        print(row)


def test_sixty_heavy_rules_beside_neighbours(rows, flat, tmp_path):
    with looped(BINARY, tmp_path, LOADS["60 heavy rules beside neighbours"], "10s") as case:
        before = measured_first(case)
        run = case.tune()
        print("RESTARTS", case.restarts)
        run = case.tune(**HEAVY)
        after = case.seen()
        row = case.row("60 heavy rules beside neighbours", before, after.lost)
        rows.append(row)
        print(row)
        assert after.lost < before / 5
