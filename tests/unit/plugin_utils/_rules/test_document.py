# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""rules files: texts with their lines, and files that are none."""

import pytest
import yaml
from ansible_collections.falcotune.fleet.plugins.plugin_utils import _yaml
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import document
from hypothesis import given
from hypothesis import strategies as st


def plain(value):
    if isinstance(value.data, list):
        return [plain(item) for item in value.data]
    if isinstance(value.data, dict):
        return {key: plain(item) for key, item in value.data.items()}
    return value.data


def read(text):
    found, problem = document.entries(text)
    return [plain(item) for item in found], problem and (problem.line, str(problem))


@pytest.fixture(params=sorted({_yaml.LOADER, yaml.SafeLoader}, key=lambda loader: loader.__name__), autouse=True)
def loader(request, monkeypatch):
    monkeypatch.setattr(_yaml, "LOADER", request.param)


def test_texts_stay_texts():
    found, problem = read("- rule: 012\n  enabled: no\n  tags: [1.0, ~, '~', null, \"\", 2026-01-01]\n  nothing:\n")
    assert problem is None
    assert found == [{"rule": "012", "enabled": "no", "tags": ["1.0", None, "~", None, "", "2026-01-01"], "nothing": None}]


def test_lines():
    found, _problem = document.entries("# c\n- list: a\n  items:\n    - x\n---\n\n- macro: m\n  condition: >\n    a\n    and b\n")
    assert [item.line for item in found] == [2, 7]
    assert found[0].data["items"].data[0].line == 4 and found[1].data["condition"].line in (8, 9)
    assert found[1].data["condition"].data == "a and b\n"


def test_the_first_of_two_equal_keys_counts():
    assert read("- {rule: a, rule: b, 1: x, [1, 2]: y}") == ([{"rule": "a", "1": "x"}], None)


def test_aliases():
    assert read("- &a {list: x, items: &i [p, q]}\n- {list: y, items: *i}\n- *a")[0][1:] == [
        {"list": "y", "items": ["p", "q"]}, {"list": "x", "items": ["p", "q"]}]


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n---\n", "~", "- ~\n- null\n", "[]"])
def test_nothing_in_it(text):
    assert read(text) == ([], None)


BOMB = "- &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    "- &%s [%s]\n" % (chr(98 + number), ", ".join(["*" + chr(97 + number)] * 10)) for number in range(9))


@pytest.mark.parametrize(("text", "line", "what"), [
    ("a: b", 1, "is not a list of rules"),
    ("- a\n---\njust text", 3, "is not a list of rules"),
    ("- rule: a\n  desc: [b\n", 3, "not YAML"),
    ("- rule: a\n\tdesc: b\n", 2, "not YAML"),
    ("- *unknown", 1, "*unknown refers to no anchor"),
    ("- &a [*a]", 1, "*a refers to no anchor"),
    ("- a: \x01", 1, "not YAML"),
    ("\udcff", 1, "not YAML"),
    ("[" * 50000, 1, "nested deeper"),
    ("- " * 3000, 1, "nested deeper"),
    (BOMB, 6, "more than"),
])
def test_files_that_cannot_be_read(text, line, what):
    _found, problem = read(text)
    assert problem[0] in (line, line + 1) and what in problem[1]


@given(st.text(alphabet="-[]{}:,&*a! \n\t\"'|>#%@~?", max_size=60))
def test_any_text_is_survived(text):
    found, problem = document.entries(text)
    assert isinstance(found, list) and (problem is None or problem.line >= 1)


@pytest.mark.parametrize(("text", "value"), [
    ("true", True), ("Yes", True), ("ON", True), ("y", True), ("off", False), ("No", False), ("FALSE", False), ("n", False),
    ("tRUE", None), ("1", None), ("", None), (None, None), ([], None),
])
def test_booleans(text, value):
    assert document.flag(text) is value
