# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What real Falcos lost when matrix.csv was measured was named by the model. Needs no Falco.

Not judged: flaky and artefact (the measurement does not decide), the scenarios that the default selection does not see either, and
those that it sees otherwise than expected on this release (0.41 does not collect close_range).
"""

import itertools

import corpus
import matrix
import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import selections
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.syscall_names import KERNEL_ONLY
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import coverage, state
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
            usual = row["reference"] == ("yes/yes" if row["expect"] == "fire" else "no/no")
            if row["expect"] != "gap" and row["verdict"] not in UNJUDGED and usual:
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


def measured_alone(model):
    """{(subject, kernel name): scenarios that differ without this call alone and whose rule came by the subject by it}"""
    found = {}
    for row in matrix.rows():
        if row["mode"] != "default minus one" or row["verdict"] not in matrix.DIFFERENCES:
            continue
        one = next(one for one in corpus.SCENARIOS if one["id"] == row["scenario"])
        removed = model.names.kernel_of({row["call_removed_or_custom_set"]})
        for need in state.needs(model.rules["S " + one["id"]], model.release):
            # Where an old value stays, nothing in the history of the event itself was missed.
            if removed & set(need.calls) & (removed if need.stale else model.came_by(need.subject, one)):
                found.setdefault((need.subject, need.calls), set()).add(one["id"])
    return found


def test_rows_of_the_model_say_what_was_measured(rules):
    model = rules("0.44.1", "all")
    alone = measured_alone(model)
    wrong = []
    for row in state.TABLE:
        for call in row.calls.split():
            names = (KERNEL_ONLY.get(name, name) for name in call.split("|"))
            kernel = tuple(sorted(model.names.kernel_of(names) - ({"accept4"} - {call})))
            seen = any((subject, kernel) in alone for subject in row.subjects.split())
            if row.evidence == state.MEASURED and not seen:
                wrong.append("%s %s: marked as measured" % (row.subjects, call))
    assert wrong == []
    # The reverse: a call that showed a difference is measured in one row at least.
    marked = {call for row in state.TABLE if row.evidence == state.MEASURED for call in row.calls.split()}
    assert {call for _subject, calls in alone for call in calls} <= model.names.kernel_of(marked) | marked
