# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rules are evaluated: files, priority, the setting `rules`."""

import json

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import enabled, ruleset
from hypothesis import given
from hypothesis import strategies as st

RULES = [("Read a file", "warning", ["files", "host"], True), ("Read a socket", "notice", ["network"], True),
         ("Write a file", "critical", ["files"], False), ("Run a shell", "debug", [], True)]
FILE = json.dumps([{"rule": name, "desc": "d", "output": "o", "condition": "evt.type = open", "priority": priority, "tags": tags,
                    "enabled": enabled} for name, priority, tags, enabled in RULES])


def resolve(release="0.44.1", **keywords):
    return ruleset.resolve([("f", FILE)], release, **keywords)


def names_of(*selection, release="0.44.1", priority="debug"):
    return [rule["name"] for rule in resolve(release, priority=priority, selection=selection)["rules"] if rule["enabled"]]


@pytest.mark.parametrize(("priority", "count"), [("debug", 3), ("DEBUG", 3), ("info", 2), ("notice", 2), ("Warning", 1), ("critical", 0),
                                                 ("emergency", 0), (None, 3), ("urgent", 3), (4, 3)])
def test_priority(priority, count):
    found = resolve(priority=priority)
    assert sum(rule["enabled"] for rule in found["rules"]) == count
    assert bool(found["findings"]) == (priority in ("urgent", 4))


@pytest.mark.parametrize(("selection", "expected"), [
    ([], ["Read a file", "Read a socket", "Run a shell"]),
    ([{"disable": {"rule": "Read a file"}}], ["Read a socket", "Run a shell"]),
    ([{"disable": {"rule": "Read*"}}], ["Run a shell"]),
    ([{"disable": {"rule": "*"}}, {"enable": {"rule": "*file"}}], ["Read a file", "Write a file"]),
    ([{"disable": {"tag": "files"}}], ["Read a socket", "Run a shell"]),
    ([{"enable": {"tag": "files"}}], ["Read a file", "Read a socket", "Write a file", "Run a shell"]),
    ([{"disable": {"tag": "host"}}, {"enable": {"tag": "files"}}], ["Read a file", "Read a socket", "Write a file", "Run a shell"]),
    ([{"disable": {"rule": "Run a shell", "tag": "network"}}], ["Read a file"]),
    ([{"disable": {"tag": "file*"}}], ["Read a file", "Read a socket", "Run a shell"]),
])
def test_the_setting_rules(selection, expected):
    assert names_of(*selection) == expected


def test_priority_comes_first():
    assert names_of({"enable": {"rule": "*"}}, priority="warning") == ["Read a file", "Write a file"]
    reasons = {rule["name"]: rule["disabled_by"] for rule in resolve(
        priority="notice", selection=[{"disable": {"tag": "network"}}])["rules"]}
    assert reasons == {"Read a file": None, "Read a socket": "selection", "Write a file": "rules", "Run a shell": "priority"}


@pytest.mark.parametrize("entry", ["x", None, {}, {"enable": "x"}, {"enable": {}, "disable": {}}, {"disable": {"rule": ""}},
                                   {"disable": {}}, {"skip": {"rule": "*"}}, {"enable": None}])
def test_entries_that_mean_nothing(entry):
    found = resolve(selection=[entry])
    assert [finding["kind"] for finding in found["findings"]] == ["selection"] and found["ok"]
    assert sum(rule["enabled"] for rule in found["rules"]) == 3


def test_an_entry_that_fits_nothing_is_told():
    assert "disable rule Raed*" in resolve(selection=[{"disable": {"rule": "Raed*"}}])["findings"][0]["text"]


def test_before_0_38_there_was_no_such_setting():
    found = resolve("0.37.1", selection=[{"disable": {"rule": "*"}}])
    assert sum(rule["enabled"] for rule in found["rules"]) == 3 and "since 0.38" in found["findings"][0]["text"]


@pytest.mark.parametrize(("pattern", "name", "expected"), [
    ("a", "a", True), ("a", "ab", False), ("", "", True), ("", "a", False), ("*", "", True), ("**", "a", True), ("a*", "a", True),
    ("*a", "ba", True), ("*a", "ab", False), ("a*c", "abc", True), ("a*c", "abcd", False), ("*b*", "abc", True), ("a*b*c", "a-b-c", True),
    ("a*b*c", "a-c-b", False), ("A*", "a", False), ("?", "a", False), ("[a]", "a", False),
    # The first fit counts; there is no second try.
    ("*foo", "foofoo", False),
])
def test_wildcards(pattern, name, expected):
    assert enabled.fits(pattern, name) is expected


@given(st.text("ab*", max_size=8), st.text("ab", max_size=8))
def test_wildcards_never_find_more_than_a_shell_would(pattern, name):
    import fnmatch
    assert enabled.fits(pattern, name) <= fnmatch.fnmatchcase(name, pattern)


def test_what_falco_itself_printed_counts():
    found = resolve()["rules"]
    enabled.as_printed(found, ["Read a file", "Write a file"])
    assert [(rule["enabled"], rule["disabled_by"]) for rule in found] == [(True, None), (False, "falco"), (True, None), (False, "falco")]
