# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils import _text


@pytest.mark.parametrize("value, text", [
    (None, "unknown"), (0, "0"), (84.21, "84.2"), (0.01234, "0.0123"), (1240.4, "1240"), (99.95, "100"), (0.00001, "less than 0.0001"),
    (-5.25, "-5.25"), (-1240.4, "-1240"),
])
def test_numbers(value, text):
    assert _text.number_text(value) == text


def test_an_unknown_number_is_what_the_caller_says():
    assert _text.number_text(None, "?") == "?" and _text.number_text(3, "?") == "3"


@pytest.mark.parametrize("size, text", [
    (None, "unknown"), (0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (24 << 20, "24 MiB"), (3 << 29, "1.5 GiB"), (5 << 40, "5 TiB"),
    (-(24 << 20), "-24 MiB"),
])
def test_bytes(size, text):
    assert _text.bytes_text(size) == text


@pytest.mark.parametrize("seconds, text", [(None, "unknown"), (12.5, "12.5 s"), (240, "4 min"), (11520, "3.2 h")])
def test_durations(seconds, text):
    assert _text.duration_text(seconds) == text


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


def test_text_that_does_not_print_is_written_out():
    assert _text.visible("a\x1b[2J\u202e\U000e0041") == "a\\x1b[2J\\u202e\\U000e0041"
    assert _text.fitted("漢字漢字", 5) == "漢字…" and _text.padded("ab", 4) == "ab  "
