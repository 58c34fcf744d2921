# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What real Falcos lost when matrix.csv was measured was named by the model. Needs no Falco.

Not judged: flaky and artefact (the measurement does not decide), and the scenarios that the default selection does not see either.
"""

import itertools

import corpus
import matrix
import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import selections
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import coverage
from model import Model

UNJUDGED = ("flaky", "flaky-reference", "artefact")
# Said lost and is not: at most this share of what is said to be lost.
CAUTION = 0.10
MARKS = "- rule: Mark\n  desc: d\n  condition: evt.type=kill and evt.args contains 4190001\n  output: o\n  priority: info\n"


def configuration(row):
    return row["release"], row["batch"], row["group"], row["mode"], row["call_removed_or_custom_set"], row["selected"]


CONFIGURATIONS = [(key, list(rows)) for key, rows in itertools.groupby(matrix.rows(), configuration)]


@pytest.fixture(scope="session")
def rules(tmp_path_factory):
    """(release, group) → the model of the group's rules."""
    folder, made = tmp_path_factory.mktemp("rules"), {}

    def rules_of(release, group):
        if (release, group) not in made:
            path = folder / ("%s.yaml" % group)
            path.write_text(MARKS + corpus.rules(folder / "s", None if group == "all" else group))
            made[release, group] = Model([path], release)
        return made[release, group]
    return rules_of


def judged(rules):
    """(configuration, row, what the model names) for each cell that the measurement decides."""
    for (release, _batch, group, mode, changed, size), rows in CONFIGURATIONS:
        model = rules(release, group)
        custom_set = ["!" + changed] if mode == "default minus one" else changed.split()
        repair = mode.startswith("repair")
        selected = selections.select(release, coverage.needs(model.rules.values(), release), custom_set, repair)["selected"]
        assert abs(len(selected) - int(size)) <= 1, (mode, changed, group, len(selected), size)
        for row in rows:
            one = next(one for one in corpus.SCENARIOS if one["id"] == row["scenario"])
            if row["expect"] != "gap" and row["verdict"] not in UNJUDGED:
                yield "%s %s %s %s" % (release, group, mode, changed), row, model.named("S " + one["id"], selected, one)


def test_every_measured_loss_is_named(rules):
    cells = list(judged(rules))
    lost = [cell for cell in cells if cell[1]["verdict"] in (*matrix.DIFFERENCES, "own-call")]
    assert len(lost) > 250
    assert [(where, row["scenario"], row["verdict"]) for where, row, named in lost if not named] == []


def test_few_named_losses_are_none(rules):
    said = [cell for cell in judged(rules) if cell[2]]
    cautious = ["%s: %s: %s" % (where, row["scenario"], "; ".join(named)) for where, row, named in said if row["verdict"] == "same"]
    print("\nsaid lost %d, but is not %d\n%s" % (len(said), len(cautious), "\n".join(cautious)))
    assert len(cautious) <= CAUTION * len(said)
