# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Better orders of conditions as overrides: the same condition, by its parse and on samples."""

import itertools
import os
import random
from pathlib import Path

import pytest
import yaml
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.syscall_names import names_for
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import condition, printing, reach, ruleset
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules_audit import auditor, estimates, rewrites
from ansible_collections.falcotune.fleet.tests.unit.hosts import ROOT
from hypothesis import given
from hypothesis import strategies as st

UPSTREAM = Path(os.environ.get("FALCOTUNE_UPSTREAM") or ROOT.parent / "shared" / "upstream")
ESTIMATOR = estimates.Estimator(reach.Events(names_for("0.44.1")), {"opening": condition.parse("evt.type in (open, openat)")})


def better(text, event="openat"):
    found = rewrites.rewritten(text, lambda part: part, ESTIMATOR, event)
    return found and found.condition


@pytest.mark.parametrize("text,made", [
    ("opening and fd.name regex '.*x' and proc.name = sh", "opening and proc.name = sh and fd.name regex '.*x'"),
    ("fd.name contains 'a  and  b' and proc.name = sh and evt.type = openat",
     "evt.type = openat and proc.name = sh and fd.name contains 'a  and  b'"),
    ("opening and (fd.name glob '*a*' or fd.name glob '*b*')\n  and not user.name = x and proc.name in (shells)",
     "opening and proc.name in (shells) and (fd.name glob '*a*' or fd.name glob '*b*') and not user.name = x"),
    ('opening and fd.name regex "a\\" and (b" and proc.name=sh', 'opening and proc.name=sh and fd.name regex "a\\" and (b"'),
    # Good as it is, no `and` of the rule's own, or not a condition.
    ("opening and proc.name = sh and fd.name regex '.*x'", None),
    ("opening and fd.name regex x or proc.name = sh", None), ("fd.name regex x", None), ("", None), ("a and", None), ("(a and b", None),
    ("fd.name regex 'x and proc.name = sh", None), ("opening and fd.name regex x and proc.name = sh and (", None),
])
def test_a_better_order(text, made):
    assert better(text) == made


def value(tree, truth):
    """What a condition comes to where each check has such a value."""
    if isinstance(tree, condition.All):
        return all(value(item, truth) for item in tree.items)
    if isinstance(tree, condition.Any):
        return any(value(item, truth) for item in tree.items)
    if isinstance(tree, condition.Not):
        return not value(tree.item, truth)
    return truth[printing.text(tree)]


def same_on_samples(one, other, samples=256):
    leaves = sorted({printing.text(leaf) for leaf in condition.walk(one)} | {printing.text(leaf) for leaf in condition.walk(other)})
    chance = random.Random(1)
    every = itertools.product((False, True), repeat=len(leaves)) if len(leaves) <= 8 else (
        [chance.random() < share for _leaf in leaves] for share in (0.5, 0.9, 0.97) for _number in range(samples))
    return all(value(one, dict(zip(leaves, truth))) == value(other, dict(zip(leaves, truth))) for truth in every)


CHECKS = st.sampled_from([
    "evt.type = openat", "fd.name regex '.*x'", "proc.name = sh", "proc.cmdline contains 'y and z'", "fd.name startswith /etc", "opening",
    "proc.aname in (a, b)", "user.name != root", "fd.num >= 0", "proc.name in (a, \"b (c\")", "fd.directory = '/and'"])
TEXTS = st.recursive(CHECKS, lambda inner: st.one_of(
    st.lists(inner, min_size=2, max_size=3).map(lambda items: "(%s)" % " or ".join(items)),
    st.lists(inner, min_size=2, max_size=4).map(lambda items: "(%s)" % "  and ".join(items)), inner.map(lambda item: "not (%s)" % item)),
    max_leaves=10)


@given(st.lists(TEXTS, min_size=2, max_size=6).map("\n and ".join))
def test_a_rewrite_is_the_same_condition(text):
    made = better(text)
    if made is not None:
        one, other = condition.parse(text), condition.parse(made)
        assert same_on_samples(one, other)
        assert better(made) is None  # a second audit has nothing more to propose


def test_another_condition_is_not_proven():
    tree = condition.parse("a and b and not c")
    assert rewrites.proven(tree, "not c and b and a", lambda text: text)
    for other in ("a and b", "a and b and c", "a and b and not c and a", "a or b", "a and (b and not c)", "a and", "a"):
        assert not rewrites.proven(tree, other, lambda text: text)


RULES = """\
- list: shells
  items: [sh, "b sh"]
- rule: 'Slow: "quoted"'
  desc: d
  condition: >
    evt.type in (open, openat) and fd.name regex '.*  x' and
    proc.name in (shells)
  output: o
  priority: INFO
  exceptions:
    - {name: known, fields: [proc.pname], comps: [=], values: [[cron]]}
- rule: Fine
  desc: d
  condition: evt.type = openat and proc.name = x
  output: o
  priority: INFO
"""


def test_overrides_are_a_rules_file_that_changes_nothing_but_the_order():
    text = auditor.audit([("f", RULES)], "0.44.1")["overrides"]
    assert yaml.safe_load(text) == [{"rule": 'Slow: "quoted"', "override": {"condition": "replace"},
                                     "condition": "evt.type in (open, openat) and proc.name in (shells) and fd.name regex '.*  x'"}]
    before, after = (ruleset.compiled(files, "0.44.1") for files in ([("f", RULES)], [("f", RULES), ("o", text)]))
    assert after.resolved["ok"]
    for name, tree in before.trees.items():
        assert same_on_samples(tree, after.trees[name])
    again = auditor.audit([("f", RULES), ("o", text)], "0.44.1")
    assert again["overrides"] == "" and "order" not in [item["kind"] for item in again["findings"]]
    assert auditor.audit([("f", RULES)], "0.36.2")["overrides"] == ""  # `override` came with 0.37


@pytest.mark.skipif(not UPSTREAM.exists(), reason="Falco's own files are not here")
@pytest.mark.parametrize("name", ["falco_rules-5.1.0", "falco-incubating_rules-6.0.1", "falco-sandbox_rules-6.1.0"])
def test_overrides_of_falcos_own_rules(name):
    files = [(name, (UPSTREAM / (name + ".yaml")).read_text())]
    text = auditor.audit(files, "0.44.1")["overrides"]
    before, after = ruleset.compiled(files, "0.44.1"), ruleset.compiled([*files, ("o", text)], "0.44.1")
    assert after.resolved["ok"] == before.resolved["ok"] and set(after.trees) == set(before.trees)
    changed = [rule for rule, tree in before.trees.items() if rewrites.bare(tree) != rewrites.bare(after.trees[rule])]
    assert len(changed) == text.count("- rule: ")
    assert all(same_on_samples(before.trees[rule], after.trees[rule]) for rule in changed)
    print(name, len(changed), "rewrites:", ", ".join(changed))
