# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists are put into the text of a condition before it is read."""

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules.condition import ConditionError
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules.lists import expand


@pytest.mark.parametrize(("text", "lists", "expanded"), [
    ("a in (l)", {"l": ["x", "y z"]}, 'a in ( x, "y z" )'),
    ("a in (l, b)", {"l": ["x"]}, "a in ( x , b)"),
    ("a in (l2,l)", {"l": ["x"]}, "a in (l2, x )"),
    ("a in (b, l)", {"l": []}, "a in (b  )"),
    ("a in (l, b)", {"l": []}, "a in (   b)"),
    ("a in (l)", {"l": []}, "a in (  )"),
    ("a.l = 'l'", {"l": ["x"]}, "a.l = 'l'"),
    ("a in (l, k)", {"l": ["k"], "k": ["x"]}, None),
    ("l", {"l": ["a", "b"]}, "a, b "),
    ("a in (l,l)", {"l": ["x"]}, "a in ( x , x )"),
])
def test_lists_are_put_into_the_text(text, lists, expanded):
    found = expand(text, list(lists.items()))
    if expanded is None:
        assert found.split() == ["a", "in", "(", "x", ",", "x", ")"]
    else:
        assert found.replace(" ", "") == expanded.replace(" ", "")


def test_a_list_that_makes_too_much_of_a_text():
    assert len(expand("a in (l)", [("l", ["x" * 1000] * 100)])) > 100000
    with pytest.raises(ConditionError, match="longer than"):
        expand("a in (l)" * 100, [("l", ["x" * 1000] * 100)])
