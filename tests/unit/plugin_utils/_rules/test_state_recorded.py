# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state model against what a real Falco 0.44.1 did: 149 scenarios on 45 selections.

A prediction: a rule loses a *way* where a call that carries its state is not selected. A scenario is predicted lost where such a
call is in the history of what its event reads (fixtures/state/matrix.json: followed through an strace of the scenario by
tests/tools/state_fixture.py, without a look at what Falco said), or where its event is not selected. Explicitly not judged: `flaky`,
`flaky-reference` and `artefact` (the recording cannot say), `own-call` (the rule names
the call itself) and scenarios that are `gap` (blind on the default selection already).
"""

import csv
import json
import os
from pathlib import Path

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import selections
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.syscall_names import names_for
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import coverage, ruleset, state
from ansible_collections.falcotune.fleet.tests.unit.hosts import ROOT

RELEASE = "0.44.1"
NAMES = names_for(RELEASE)
RECORDED = json.loads((ROOT / "tests" / "unit" / "fixtures" / "state" / "matrix.json").read_text())
SCENARIOS = RECORDED["scenarios"]
SHARED = ROOT.parent / "shared"
RECORDINGS = [Path(name) for name in os.environ.get("FALCOTUNE_RECORDINGS", "").split(os.pathsep) if name] or [SHARED / "recordings"]
STOCK_RUNS = RECORDINGS[0] / "state-dependencies" / "stock.csv"
STOCK_RULES = Path(os.environ.get("FALCOTUNE_UPSTREAM") or SHARED / "upstream") / "falco_rules-5.1.0.yaml"
LOST = ("lost", "lost-no-event", "changed-values", "false-alert")
UNJUDGED = ("flaky", "flaky-reference", "artefact", "own-call")
CANARY = {"rule": "CANARY", "desc": "d", "output": "o", "priority": "info", "condition": "evt.type=kill and evt.args contains 4190001"}
# Said lost, is not: at most this share of what is said lost.
CAUTION = 0.10


def _rules():
    written = [CANARY]
    for name, one in SCENARIOS.items():
        # The recorded rules replace these before Falco reads them.
        text = one["condition"].replace("@S@", "/s/" + name).replace("@R@", "/s").replace("@I@", name)
        for mark, value in (("@N@", "31000"), ("@M@", "11000"), ("@Z@", "1000")):
            text = text.replace(mark, value)
        written.append({"rule": name, "desc": "d", "priority": "info", "condition": text,
                        "output": " ".join("%" + field for field in one["fields"])})
    found = ruleset.resolve([("f", json.dumps(written))], RELEASE)
    assert found["ok"], found["findings"]
    return {rule["name"]: rule for rule in found["rules"]}


RULES = _rules()


def selected(configuration):
    rules = [rule for name, rule in RULES.items()
             if name == "CANARY" or configuration["group"] in ("all", SCENARIOS[name]["group"])]
    if configuration["mode"] == "repair":
        return selections.select(RELEASE, coverage.needs(rules, RELEASE), [], True)
    return selections.select(RELEASE, coverage.needs(rules, RELEASE), ["!" + configuration["removed"]], False)


def predicted(name, kernel):
    """The ways of a scenario that its rule does not see."""
    rule, history = RULES[name], SCENARIOS[name]["history"]
    if not set(rule["kernel"]) & kernel:
        return ["its event is not selected"]
    return [need.way for need in state.unseen(rule, kernel, RELEASE) if set(need.calls) & came_by(need.subject, history)]


def came_by(subject, history):
    """Calls in the history of what a subject is. A working directory may have been entered through a handle."""
    calls = set(history.get("cwd" if subject == "fchdir" else subject, ()))
    return calls & NAMES.kernel | NAMES.kernel_of(calls - {"accept"})


def judged():
    """(mode, removed, scenario, verdict, predicted ways) of each cell that the recording decides."""
    for configuration in RECORDED["configurations"]:
        kernel = set(selected(configuration)["kernel"])
        for name, one in SCENARIOS.items():
            if configuration["group"] not in ("all", one["group"]) or one["expect"] == "gap":
                continue
            verdict = configuration["not_same"].get(name, "same")
            if verdict not in UNJUDGED:
                yield configuration["mode"], configuration["removed"], name, verdict, predicted(name, kernel)


CELLS = list(judged())


@pytest.mark.parametrize("configuration", RECORDED["configurations"], ids=lambda item: "%(mode)s %(group)s %(removed)s" % item)
def test_the_selection_is_that_of_the_recording(configuration):
    # A rule of the group 'path' that is not at hand named one more call.
    more = 1 if configuration["group"] in ("all", "path") else 0
    assert len(selected(configuration)["selected"]) + more == configuration["selected"]


def test_every_recorded_loss_is_predicted():
    missed = [cell[:4] for cell in CELLS if cell[3] in LOST and not cell[4]]
    assert not missed, "\n".join(map(str, missed))
    assert sum(cell[3] in LOST for cell in CELLS) > 150


def test_few_predictions_are_over_cautious():
    said = [cell for cell in CELLS if cell[4]]
    cautious = [cell for cell in said if cell[3] not in LOST]
    told = "\n".join("%s %s: %s: %s" % (*cell[:3], "; ".join(cell[4])) for cell in cautious)
    print("said lost: %d, of these over-cautious: %d\n%s" % (len(said), len(cautious), told))
    assert len(cautious) <= CAUTION * len(said), told


def test_nothing_is_predicted_lost_under_the_default_selection():
    kernel = set(selections.select(RELEASE, coverage.needs(RULES.values(), RELEASE))["kernel"])
    assert [name for name in RULES if state.unseen(RULES[name], kernel, RELEASE)] == []


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
