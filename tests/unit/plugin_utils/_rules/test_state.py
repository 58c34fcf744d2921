# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state model and Falco's own rules. tests/parity holds the model against the measured matrix."""

import csv
import os
from pathlib import Path

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import selections
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import coverage, ruleset, state
from ansible_collections.falcotune.fleet.tests.unit.hosts import ROOT

RELEASE = "0.44.1"
SHARED = ROOT.parent / "shared"
RECORDINGS = [Path(name) for name in os.environ.get("FALCOTUNE_RECORDINGS", "").split(os.pathsep) if name] or [SHARED / "recordings"]
STOCK_RUNS = RECORDINGS[0] / "state-dependencies" / "stock.csv"
STOCK_RULES = Path(os.environ.get("FALCOTUNE_UPSTREAM") or SHARED / "upstream") / "falco_rules-5.1.0.yaml"


def stock_silent():
    """Stock rules that alert on the default selection and fall silent with repair alone."""
    found = {}
    for row in csv.DictReader(STOCK_RUNS.open()):
        key = (row["run"], row["action"], row["rule"])
        found.setdefault(key, {})[row["selection"]] = int(row["alerts_pass1"]) + int(row["alerts_pass2"])
    return {rule for (_run, _action, rule), fired in found.items() if fired.get("default") and not fired.get("repair")}


@pytest.mark.skipif(not (STOCK_RUNS.is_file() and STOCK_RULES.is_file()), reason="Falco's rules and the recordings are not at hand")
def test_every_stock_rule_that_fell_silent_is_half_blind_and_whole_with_the_lossless_set():
    texts = [(path.name, path.read_text()) for path in (STOCK_RULES, *sorted(STOCK_RULES.parent.glob("falco-*_rules-*.yaml")))]
    rules = [dict(rule, enabled=True) for rule in ruleset.resolve(texts, RELEASE)["rules"]]
    repaired = selections.select(RELEASE, coverage.needs(rules, RELEASE), [], True)
    half = {item["rule"] for item in coverage.coverage(rules, repaired, RELEASE)["half_blind"]}
    assert len(stock_silent()) >= 6 and stock_silent() <= half
    more = state.carrying(rules, repaired["kernel"], RELEASE)
    whole = set(repaired["kernel"]) | set(more)
    assert not any(state.unseen(rule, whole, RELEASE) for rule in rules if rule["source"] == "syscall")
