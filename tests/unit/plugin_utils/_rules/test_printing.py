# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""printing.text(): the tree of a condition → a condition with the same tree."""

import os
from pathlib import Path

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import condition, exceptions, printing
from ansible_collections.falcotune.fleet.tests.unit.hosts import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

UPSTREAM = Path(os.environ.get("FALCOTUNE_UPSTREAM") or ROOT.parent / "shared" / "upstream")

FIELDS = st.sampled_from(["evt.type", "proc.name", "fd.name", "proc.aname", "evt.arg", "container.image.repository"])
# A quote after a backslash is part of the string, so a value in quotes cannot end in one.
VALUES = st.text(max_size=12).filter(lambda value: not value.endswith("\\"))
NUMBERS = st.sampled_from(["0", "-1", "42", "0x1f", "1.5", "+7"])
ARGUMENTS = st.none() | st.sampled_from(["1", "name", "a b", "it's"])
LISTS = st.lists(VALUES, max_size=3).map(tuple)
TEXTS = st.sampled_from(sorted(exceptions.TEXT_OPERATORS))
TRANSFORMED = st.sampled_from(["tolower(proc.name)", "toupper( basename(proc.exepath) )", "len(fd.name)", 'join("", (proc.name, "x"))'])


def check(field, argument, operator, values, left="", right=""):
    return condition.Check(None if left else field, None if left else argument, operator, values, (), 0, left, right)


CHECKS = st.one_of(
    st.builds(check, FIELDS, ARGUMENTS, TEXTS, VALUES.map(lambda value: (value,))),
    st.builds(check, FIELDS, ARGUMENTS, st.sampled_from(["<", "<=", ">", ">="]), NUMBERS.map(lambda value: (value,))),
    st.builds(check, FIELDS, ARGUMENTS, st.sampled_from(["in", "intersects", "pmatch", "= oneof", "startswith anyof", "contains allof"]),
              LISTS),
    st.builds(check, FIELDS, ARGUMENTS, st.just("exists"), st.just(())),
    st.builds(check, FIELDS, ARGUMENTS, TEXTS, VALUES.map(lambda value: (value,)), TRANSFORMED),
    st.builds(check, FIELDS, ARGUMENTS, TEXTS, st.none(), st.just(""),
              st.sampled_from(["val(proc.pname)", "val( evt.arg[x] )"]) | TRANSFORMED),
)
MACROS = st.sampled_from(["spawned_process", "open_read", "never_true", "nota", "orb", "in_x"]).map(lambda name: condition.Macro(name, 0))
TREES = st.recursive(CHECKS | MACROS, lambda inner: st.one_of(
    st.lists(inner, min_size=2, max_size=4).map(lambda items: condition.All(tuple(items))),
    st.lists(inner, min_size=2, max_size=4).map(lambda items: condition.Any(tuple(items))),
    inner.map(condition.Not),
), max_leaves=12)


def bare(tree):
    """A tree without places and lists of fields, and with negations as Falco reads them: `not not x` is x there."""
    if isinstance(tree, (condition.All, condition.Any)):
        return type(tree)(tuple(bare(item) for item in tree.items))
    if isinstance(tree, condition.Not):
        return condition.Not(bare(tree.item))
    if isinstance(tree, condition.Macro):
        return tree._replace(at=0)
    return tree._replace(at=0, fields=())


@given(TREES)
@settings(max_examples=500)
def test_a_printed_tree_is_parsed_to_the_same_tree(tree):
    text = printing.text(tree)
    assert bare(condition.parse(text)) == bare(tree)
    assert printing.text(condition.parse(text)) == text


@pytest.mark.parametrize("text, printed", [
    ("evt.type=open and (proc.name in (a,b) or not fd.num>=0)", 'evt.type = "open" and (proc.name in ("a", "b") or not fd.num >= 0)'),
    ("a and b or c", "a and b or c"), ("a and (b or c)", "a and (b or c)"), ("not not a", "a"), ("not (not a)", "not (not a)"),
    ("(a and b) and c", "(a and b) and c"), ("not(a or b)", "not (a or b)"), ("x.y exists", "x.y exists"),
    ("proc.aname[2]=x", 'proc.aname[2] = "x"'), ("evt.arg['a b'] = x", 'evt.arg["a b"] = "x"'),
    (r"""x.y = 'a "b" \\c'""", r'x.y = "a \"b\" \\c"'), ("x.y = a\\", "x.y = a\\"), ("x.y in ()", "x.y in ()"),
    ("tolower(proc.name) = x", 'tolower(proc.name) = "x"'), ("proc.name = val(proc.pname)", "proc.name = val(proc.pname)"),
    ("fd.name startswith oneof (/a, /b)", 'fd.name startswith oneof ("/a", "/b")'),
])
def test_printed_conditions(text, printed):
    assert printing.text(condition.parse(text)) == printed


@pytest.mark.skipif(not UPSTREAM.is_dir(), reason="Falco's rules are not at hand")
def test_conditions_of_falcos_own_rules_are_printed_and_parsed_again():
    from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import ruleset

    count = 0
    for path in sorted(UPSTREAM.glob("falco*_rules-*.yaml")):
        found = ruleset.compiled([(path.name, path.read_text())], "0.44.1")
        for tree in [*found.trees.values(), *found.macros.values()]:
            assert bare(condition.parse(printing.text(tree))) == bare(tree)
            count += 1
    assert count > 200
