# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a real Falco loses under a narrowed selection was named before by the model.

Two Falcos watch the same execution: one with the default selection, one with the selection under test. An alert that the first
raises and the second does not, or with other values, must be among what the model said of this rule and this way of getting there.
What the model said and did not happen is printed.

FALCO_BIN names the Falco, FALCO_PLUGIN its container plugin, FALCO_RULES the rules that come with it (the two for stock rules).
"""

import os
import tempfile
import time
from pathlib import Path

import compare
import corpus
import matrix
import pytest
import watch
from model import Model

RULES = os.environ.get("FALCO_RULES")
PASSES = 2
# Of the scenarios, so many must show on the default selection what they describe; others are not judged (an old kernel has no
# io_uring, a slow machine loses the race for received descriptors).
LEAST_JUDGED = 0.9
SELECTIONS = {
    "default": lambda model: {},
    "repair": lambda model: {"repair": True},
    # What a tune does by itself, and with leave to exclude.
    "lossless": lambda model: model.planned("lossless"),
    "exclude": lambda model: model.planned("exclude", 0.4),
    # As people configure it.
    "negative": lambda model: {"custom_set": ["!fcntl", "!dup2", "!recvmsg", "!connect", "!setresuid"]},
    "positive": lambda model: {"custom_set": ["clone", "clone3", "fork", "vfork", "execve", "execveat", "close"]},
}
# `repair` looks at the event types that rules name: with one group's rules alone it leaves out the most.
CASES = [(name, None) for name in SELECTIONS] + [(name, group) for name in ("repair", "lossless") for group in corpus.GROUPS]

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not watch.BINARY, reason="FALCO_BIN names no real Falco"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a real Falco needs root"),
    pytest.mark.skipif(bool(corpus.missing()), reason="not installed: " + ", ".join(corpus.missing())),
]


@pytest.fixture(scope="module")
def actions():
    # Some actions go on as another user, who must get to their programs: not below pytest's own folder.
    with tempfile.TemporaryDirectory(prefix="parity-") as folder:
        os.chmod(folder, 0o755)
        made = corpus.Corpus(folder)
        yield made
        made.close()


def side_by_side(folder, files, model, selection, play, read):
    """Plays before a default Falco and one with the selection: (selected names, what read() makes of the passes of each)."""
    selection = SELECTIONS[selection](model)
    print("\nbase_syscalls: %s" % selection)
    reference, candidate = watch.Falco(folder, "default", files), watch.Falco(folder, "candidate", files, **selection)
    found = {reference: [], candidate: []}
    with reference, candidate:
        for falco in found:
            falco.alerts()
        for _ in range(PASSES):
            play()
            for falco, passes in found.items():
                passes.append(read(falco.alerts()))
        time.sleep(2)
        candidate.alerts()
    assert not reference.drops() and not candidate.drops(), "events were dropped: nothing can be said"
    return candidate.selected, found[reference], found[candidate]


@pytest.mark.parametrize("selection, group", CASES, ids=lambda item: item or "all")
def test_every_loss_is_named(actions, tmp_path, selection, group):
    rules = tmp_path / "rules.yaml"
    rules.write_text(actions.rules(group))
    scenarios = [one for one in corpus.SCENARIOS if group in (None, one["obs"])]
    model = Model([rules], watch.release())
    selected, before, after = side_by_side(tmp_path, [rules], model, selection, lambda: actions.play(tmp_path / "log", group and [group]),
                                           lambda alerts: compare.seen(alerts, scenarios, actions.root))
    unnamed, cautious, unsure, lost = [], [], [], []
    for one in scenarios:
        passes = [[found[one["id"]] for found in both] for both in (before, after)]
        verdict = compare.verdict(*passes)
        named = model.named("S " + one["id"], selected, one)
        if one["expect"] == "gap":
            continue
        if "flaky" in verdict or any(bool(found["fires"]) != (one["expect"] == "fire") for found in passes[0]):
            unsure.append("%s: %s" % (one["id"], verdict))
        elif verdict in matrix.DIFFERENCES:
            lost.append(one["id"])
            if not named:
                unnamed.append("%s: %s" % (one["id"], verdict))
        elif named:
            cautious.append("%s: %s" % (one["id"], "; ".join(named)))
    print("\n%s, %s rules: %d calls; lost %d, lost without being named %d; said lost but is not %d; not judged %d"
          % (selection, group or "all", len(selected), len(lost), len(unnamed), len(cautious), len(unsure)))
    print("\n".join("  not lost: " + line for line in cautious) + "\n".join("\n  not judged: " + line for line in unsure))
    assert len(unsure) <= (1 - LEAST_JUDGED) * len(scenarios) + 1, unsure
    assert unnamed == []
    if selection in ("default", "lossless"):
        assert lost == []


@pytest.mark.skipif(not RULES, reason="FALCO_RULES names no rules of Falco's")
@pytest.mark.parametrize("selection", SELECTIONS)
def test_every_loss_of_stock_rules_is_named(actions, tmp_path, selection):
    # Some rules look at containers only; this machine need not be one.
    everywhere = tmp_path / "everywhere.yaml"
    everywhere.write_text("- macro: container\n  condition: (evt.num >= 0)\n  override:\n    condition: replace\n")
    files = [Path(RULES), everywhere]
    model = Model(files, watch.release())
    selected, before, after = side_by_side(tmp_path, files, model, selection, lambda: actions.play_stock(tmp_path / "log"),
                                           compare.stock_alerts)
    unnamed, cautious, silent, lost = [], [], [], []
    for one in corpus.STOCK:
        had, has = ([found[one["id"]] > 0 for found in passes] for passes in (before, after))
        named = model.named(one["rule"], selected, one)
        if not all(had):
            silent.append(one["id"])
        elif not any(has):
            lost.append(one["id"])
            if not named:
                unnamed.append("%s: %s" % (one["id"], one["rule"]))
        elif named and all(has):
            cautious.append("%s: %s" % (one["id"], "; ".join(named)))
    print("\n%s, stock rules: %d calls; lost %d, lost without being named %d; said lost but is not %d; silent by default %s"
          % (selection, len(selected), len(lost), len(unnamed), len(cautious), silent))
    print("\n".join("  not lost: " + line for line in cautious))
    assert len(silent) <= len(corpus.STOCK) / 4, silent
    assert unnamed == []
    if selection in ("default", "lossless"):
        assert lost == []
