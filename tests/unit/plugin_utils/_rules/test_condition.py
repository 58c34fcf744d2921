# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""condition.parse(): the grammar, and what is none."""

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import condition
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules.condition import (
    All, Any, Check, ConditionError, Macro, Not,
)
from hypothesis import given
from hypothesis import strategies as st


def plain(tree):
    """A tree as nested tuples, without places."""
    if isinstance(tree, (All, Any)):
        return ("and" if isinstance(tree, All) else "or", *map(plain, tree.items))
    if isinstance(tree, Not):
        return ("not", plain(tree.item))
    if isinstance(tree, Macro):
        return tree.name
    return (tree.field, tree.argument, tree.operator, tree.values)


def check(text):
    tree = condition.parse(text)
    assert isinstance(tree, Check)
    return tree.field, tree.argument, tree.operator, tree.values


@pytest.mark.parametrize(("text", "tree"), [
    ("a", "a"),
    (" a\n", "a"),
    ("a and b or c", ("or", ("and", "a", "b"), "c")),
    ("a or b and c", ("or", "a", ("and", "b", "c"))),
    ("(a or b) and c", ("and", ("or", "a", "b"), "c")),
    ("a and(b)or(c)", ("or", ("and", "a", "b"), "c")),
    ("not a", ("not", "a")),
    ("not not a", "a"),
    ("not(a or b)", ("not", ("or", "a", "b"))),
    ("not not(a)", "a"),
    ("not\tnot\n not a", ("not", "a")),
    ("notable", "notable"),
    ("a and not b and c", ("and", "a", ("not", "b"), "c")),
    ("((a))", "a"),
    ("oracle or android", ("or", "oracle", "android")),
])
def test_words(text, tree):
    assert plain(condition.parse(text)) == tree


@pytest.mark.parametrize(("text", "expected"), [
    ("evt.type=open", ("evt.type", None, "=", ("open",))),
    ("evt.type == open", ("evt.type", None, "==", ("open",))),
    ("evt.type != open", ("evt.type", None, "!=", ("open",))),
    ("evt.type in (open, openat)", ("evt.type", None, "in", ("open", "openat"))),
    ("evt.type in(open,openat )", ("evt.type", None, "in", ("open", "openat"))),
    ("evt.type in ()", ("evt.type", None, "in", ())),
    ("evt.type in open_calls", ("evt.type", None, "in", ("open_calls",))),
    ("evt.type exists", ("evt.type", None, "exists", ())),
    ("evt.dir=<", ("evt.dir", None, "=", ("<",))),
    ("evt.dir = >", ("evt.dir", None, "=", (">",))),
    ("fd.num>=-1", ("fd.num", None, ">=", ("-1",))),
    ("fd.num < 0x1F", ("fd.num", None, "<", ("0x1F",))),
    ("evt.rawtime > 1.5e+3", ("evt.rawtime", None, ">", ("1.5e+3",))),
    ("proc.aname[2]=sshd", ("proc.aname", "2", "=", ("sshd",))),
    ("evt.arg['a b'] = 1", ("evt.arg", "a b", "=", ("1",))),
    ('proc.cmdline contains "a \\"b\\" c"', ("proc.cmdline", None, "contains", ('a "b" c',))),
    ("proc.name = 'it''s'", None),
    ("proc.name = ''", ("proc.name", None, "=", ("",))),
    ("proc.name icontains x", ("proc.name", None, "icontains", ("x",))),
    ("fd.name startswith /etc/", ("fd.name", None, "startswith", ("/etc/",))),
    ("fd.name glob /home/*/.ssh/*", ("fd.name", None, "glob", ("/home/*/.ssh/*",))),
    ("fd.name pmatch (/etc, '/var/a b')", ("fd.name", None, "pmatch", ("/etc", "/var/a b"))),
    ("proc.args intersects (a)", ("proc.args", None, "intersects", ("a",))),
    ("fd.name startswith oneof (/a, /b)", ("fd.name", None, "startswith oneof", ("/a", "/b"))),
    ("proc.name = anyof names", ("proc.name", None, "= anyof", ("names",))),
    ("proc.name contains oneof", ("proc.name", None, "contains", ("oneof",))),
    ("proc.name = val(proc.pname)", ("proc.name", None, "=", None)),
    ("proc.name in tolower(proc.pname)", ("proc.name", None, "in", None)),
    ("tolower(proc.name) = bash", (None, None, "=", ("bash",))),
    ("len(join(',', (proc.args, 'x'))) > 3", (None, None, ">", ("3",))),
    ("concat(proc.name, toupper(fd.name)) startswith x", (None, None, "startswith", ("x",))),
])
def test_checks(text, expected):
    if expected is None:
        with pytest.raises(ConditionError):
            condition.parse(text)
    else:
        assert check(text) == expected


def test_every_field_of_a_check_is_named():
    tree = condition.parse("concat(proc.name, toupper(fd.name)) = val(proc.aname[2])")
    assert tree.fields == ("proc.name", "fd.name", "proc.aname")


def test_a_modifier_that_is_a_value():
    assert plain(condition.parse("proc.name = oneof and b")) == ("and", ("proc.name", None, "=", ("oneof",)), "b")


@pytest.mark.parametrize(("text", "at", "what"), [
    ("", 0, "empty"),
    (" \n", 0, "empty"),
    ("a b", 2, "expected 'and', 'or' or the end, found 'b'"),
    ("a and", 5, "expected a blank or '(' after 'and', found the end"),
    ("a and ", 6, "expected a check, a macro or '(', found the end"),
    ("a or or b", 8, "expected 'and', 'or'"),
    ("(a", 2, "expected ')'"),
    ("a)", 1, "found ')'"),
    ("evt.type", 8, "expected an operator"),
    ("evt.type =", 10, "expected a value"),
    ("evt.type ~ x", 9, "expected an operator"),
    ("evt.type in", 11, "expected a list"),
    ("evt.type in (open openat)", 18, "expected ')'"),
    ("evt.type in (open,)", 18, "expected a value"),
    ("evt.type in (open", 17, "expected ')'"),
    ("fd.num > x", 9, "expected a number"),
    ("proc.name = \"x", 12, "expected a value"),
    ("proc.aname[2 = x", 12, "expected ']'"),
    ("proc.aname[] = x", 11, "expected an argument"),
    ("evt.type = val(x) ", 15, "expected a field in 'val('"),
    ("tolower(x) = y", 8, "expected a field, a transformer"),
    ("1 = 2", 0, "expected a check"),
    ("\x00", 0, "expected a check"),
    ("proc.name startswith", 10, "expected an operator"),
    ("a and (b and (c or d)", 21, "expected ')'"),
])
def test_what_is_no_condition_says_where(text, at, what):
    with pytest.raises(ConditionError, match="^[^\n]*$") as caught:
        condition.parse(text)
    assert what in str(caught.value) and caught.value.at == at


@pytest.mark.parametrize("text", ["(" * 100000, "not(" * 5000 + "a" + ")" * 5000, "tolower(" * 5000, "(" * 65 + "a" + ")" * 65])
def test_deep_nesting_ends(text):
    with pytest.raises(ConditionError, match="nested deeper"):
        condition.parse(text)


def test_nesting_within_reason():
    assert plain(condition.parse("(" * 60 + "a" + ")" * 60)) == "a"
    assert len(condition.parse(" or ".join(["a"] * 20000)).items) == 20000
    assert plain(condition.parse("not " * 20001 + "a")) == ("not", "a")


PIECES = ["a", "and", "or", "not", "(", ")", " ", "evt.type", "=", "in", ",", "'", '"', "\\", "val(", "tolower(", "[", "]", "oneof",
          "<", "1"]


@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join) | st.text(max_size=40))
def test_any_text_is_a_tree_or_an_error(text):
    try:
        tree = condition.parse(text)
    except ConditionError as error:
        assert 0 <= error.at <= len(text)
    else:
        assert list(condition.walk(tree))


words = st.sampled_from(["a", "b_1", "evt.type=open", "proc.name in (x, y)", "fd.num>=0", "not c", "evt.type exists"])
trees = st.recursive(words, lambda inner: st.builds("({} and {})".format, inner, inner) | st.builds("({} or {})".format, inner, inner)
                     | st.builds("not ({})".format, inner), max_leaves=12)


@given(trees, st.sampled_from(["\n", "\t ", "  "]))
def test_blanks_do_not_matter(text, blank):
    assert plain(condition.parse(text)) == plain(condition.parse(text.replace(" ", blank)))
