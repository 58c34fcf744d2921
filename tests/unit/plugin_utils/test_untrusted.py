# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import json
import math

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils import _untrusted
from hypothesis import given
from hypothesis import strategies as st

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3))


def test_text_keeps_what_it_is_but_for_length_and_half_pairs():
    assert _untrusted.text("\x1b[2J<b>\x00") == "\x1b[2J<b>\x00"
    assert _untrusted.text("\ud800x") == "\ufffdx"
    assert len(_untrusted.text("x" * 9999)) == _untrusted.MAX_TEXT
    assert _untrusted.text(0.44) == "0.44" and _untrusted.text(True) is None and _untrusted.text(b"x") is None


@pytest.mark.parametrize("value, number, signed, count", [
    (0, 0, 0, 0), (3, 3, 3, 3), (3.0, 3.0, 3.0, 3), (3.5, 3.5, 3.5, None), (-1, None, -1, None), (True, None, None, None),
    (False, None, None, None), ("3", None, None, None), (None, None, None, None), (math.nan, None, None, None),
    (math.inf, None, None, None), (1 << 64, None, None, None), ((1 << 64) - 1, (1 << 64) - 1, (1 << 64) - 1, (1 << 64) - 1),
])
def test_numbers_are_finite_and_no_bools(value, number, signed, count):
    assert (_untrusted.number(value), _untrusted.signed(value), _untrusted.count(value)) == (number, signed, count)
    assert _untrusted.is_number(value) is (type(value) in (int, float))
    assert _untrusted.is_whole(value) is (type(value) is int)


def test_tables_have_exactly_their_keys():
    check = _untrusted.table(a=_untrusted.count, b=_untrusted.listed(_untrusted.text, 2))
    assert check({"a": "x", "b": ["1", None, "3", "4"], "c": 1}) == {"a": None, "b": ["1"]}
    assert check([]) is None and _untrusted.always(check)("x") == {"a": None, "b": []}


def test_words_are_ours_or_the_one_instead():
    check = _untrusted.word("yes", "no", instead="maybe")
    assert [check(value) for value in ("yes", "other", 3, None, ["yes"])] == ["yes", "maybe", "maybe", "maybe", "maybe"]


@given(VALUES)
def test_no_check_raises_and_all_of_it_is_json(value):
    for check in (_untrusted.text, _untrusted.key, _untrusted.number, _untrusted.signed, _untrusted.count, _untrusted.flag,
                  _untrusted.maybe_flag, _untrusted.dictionary, _untrusted.sequence, _untrusted.counts, _untrusted.anything,
                  _untrusted.word("a"), _untrusted.listed(_untrusted.anything)):
        found = check(value)
        if check not in (_untrusted.dictionary, _untrusted.sequence):
            json.dumps(found, allow_nan=False).encode("ascii")


@given(VALUES, st.integers(0, 400))
def test_what_is_light_is_what_weighs_less(value, most):
    assert _untrusted.is_light(value, most) == (_untrusted.weight(value, most) <= most)


def test_a_value_that_cannot_be_written_out_is_weighed_too():
    deep = []
    for _number in range(5000):
        deep = [deep]
    assert _untrusted.is_light(deep, 50000) and not _untrusted.is_light(deep, 30000) and _untrusted.may_hold(deep, "<<")


def test_what_may_hold_no_part_holds_none():
    assert _untrusted.may_hold({"x": [1, {"y": "b<<c"}]}, "<<") and _untrusted.may_hold({"<<": 1}, "<<")
    assert not _untrusted.may_hold({"<": "<"}, "<<")
