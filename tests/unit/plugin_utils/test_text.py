# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils import _text
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize("value, text", [
    (None, "unknown"), (0, "0"), (84.21, "84.2"), (0.01234, "0.0123"), (1240.4, "1240"), (99.95, "100"), (0.00001, "less than 0.0001"),
    (-5.25, "-5.25"), (-1240.4, "-1240"),
])
def test_numbers(value, text):
    assert _text.number_text(value) == text


def test_an_unknown_number_is_what_the_caller_says():
    assert _text.number_text(None, "?") == "?" and _text.number_text(3, "?") == "3"


@pytest.mark.parametrize("seconds, text", [(-1, "0:00:00"), (271.9, "0:04:31"), (36000, "10:00:00")])
def test_clocks(seconds, text):
    assert _text.clock_text(seconds) == text


def test_plurals():
    assert [_text.several(number, "host") for number in (0, 1, 2)] == ["0 hosts", "1 host", "2 hosts"]
    assert _text.several(2, "batch", "batches") == "2 batches" and _text.either(1, "is", "are") == "is"


def test_many_names_are_a_few_and_a_number():
    assert _text.some("abcdefghij", 8) == "a, b, c, d, e, f, g, h and 2 more"
    assert _text.some(iter("ab")) == "a, b"


def test_the_nearest_name_is_a_hint():
    assert _text.nearest("halthy", ["healthy", "blind"]) == "healthy" and _text.nearest("x", ["healthy"]) is None
    assert _text.hint("halthy", ["healthy"]) == " (did you mean healthy?)" and _text.hint(3, ["healthy"]) == ""
    assert _text.hint("canarys", ["canaries"], "falco_tune_") == " (did you mean falco_tune_canaries?)"


def test_a_wrong_value_is_cut():
    assert _text.value_text("x") == "'x'" and len(_text.value_text("x" * 999)) == _text.MOST_OF_A_VALUE


def test_columns_are_counted_not_characters():
    assert _text.fitted("漢字漢字", 5) == "漢字…" and _text.padded("ab", 4) == "ab  "


@pytest.mark.parametrize("text, expected", [
    ("web-01", "web-01"), ("\x1b[2J", "\\x1b[2J"), ("\x9b31m", "\\x9b31m"), ("a\r\nb", "a\\x0d\\x0ab"), ("\u202e", "\\u202e"),
    ("é字", "é字"), ("\U000e0001", "\\U000e0001"), ("\u00a0", "\\xa0"), ("\x7f", "\\x7f")])
def test_what_does_not_print_is_written_out(text, expected):
    assert _text.visible(text) == expected


@pytest.mark.parametrize("size, expected", [
    (None, "unknown"), (0, "0 B"), (1023, "1023 B"), (-(12 << 20), "-12 MiB"), (3 << 29, "1.5 GiB"), (5 << 40, "5 TiB"),
    (5 << 50, "5120 TiB")])
def test_bytes_for_people(size, expected):
    assert _text.bytes_text(size) == expected


@pytest.mark.parametrize("seconds, expected", [
    (None, "unknown"), (0, "0 s"), (2.346, "2.35 s"), (119.0, "119 s"), (600, "10 min"), (9000, "2.5 h")])
def test_durations_for_people(seconds, expected):
    assert _text.duration_text(seconds) == expected


@given(st.text(), st.integers(4, 40))
def test_text_that_is_fitted_fits(text, width):
    assert sum(map(_text._width, _text.fitted(text, width))) <= width
    assert sum(map(_text._width, _text.padded(text, width))) == width
