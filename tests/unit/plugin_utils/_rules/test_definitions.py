# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How definitions of several files come together, and what Falco refuses."""

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules.definitions import (
    Definitions, priority_of,
)

RULE = """
- rule: one
  desc: d
  condition: evt.type = open
  output: o
  priority: WARNING
  tags: [a, b]
"""


def define(*files, release="0.44.1"):
    found = Definitions(releases.release_for(release))
    for number, text in enumerate(files):
        found.read("file%d" % number, text)
    return found


def good(*files, **keywords):
    found = define(*files, **keywords)
    assert found.problems == []
    return found


def test_a_rule():
    rule = good(RULE).rules["one"]
    assert (rule.condition, rule.condition_line, rule.line, rule.file) == ("evt.type = open", 4, 2, "file0")
    assert (rule.priority, rule.tags, rule.enabled, rule.source) == (4, {"a", "b"}, True, "syscall")


def test_a_later_definition_replaces_an_older_one():
    found = good(RULE, RULE.replace("open", "close").replace("tags: [a, b]", "enabled: false"))
    rule = found.rules["one"]
    assert (rule.condition, rule.tags, rule.enabled, rule.file) == ("evt.type = close", set(), False, "file1")
    assert rule.index == 1 and rule.changed == 2


@pytest.mark.parametrize("text", [
    "- rule: one\n  condition: and b\n  append: true\n",
    "- rule: one\n  condition: and b\n  override: {condition: append}\n",
])
def test_a_condition_is_appended_to(text):
    assert good(RULE, text).rules["one"].condition == "evt.type = open and b"


def test_override_replaces_what_it_names():
    rule = good(RULE, "- rule: one\n  enabled: false\n  priority: info\n  tags: [c]\n  condition: a\n"
                      "  override: {enabled: replace, priority: replace, tags: append, condition: replace}\n").rules["one"]
    assert (rule.enabled, rule.priority, rule.tags, rule.condition) == (False, 6, {"a", "b", "c"}, "a")


def test_enabled_alone():
    assert good(RULE, "- rule: one\n  enabled: false\n").rules["one"].enabled is False


def test_before_0_37_override_is_an_unknown_key():
    found = define(RULE, "- rule: one\n  enabled: false\n  override: {enabled: replace}\n", release="0.36.2")
    assert found.problems == [] and found.rules["one"].enabled is False
    found = define(RULE, "- rule: one\n  condition: a\n  override: {condition: replace}\n", release="0.36.2")
    assert [problem["text"] for problem in found.problems] == ["'output' is missing"]


def test_macros_and_lists():
    found = good("- list: l\n  items: [a]\n- macro: m\n  condition: x\n",
                 "- list: l\n  items: [b]\n  append: true\n- macro: m\n  condition: or y\n  override: {condition: append}\n")
    assert found.lists["l"].items == ["a", "b"] and found.macros["m"].condition == "x or y"
    found = good("- list: l\n  items: [a]\n", "- list: l\n  items: []\n  override: {items: replace}\n")
    assert found.lists["l"].items == []


EXCEPTIONS = RULE + """
  exceptions:
    - name: pairs
      fields: [proc.name, fd.name]
      comps: [in, startswith]
      values:
        - [[a, "b c"], /x]
        - [(d), /y z]
    - name: one
      fields: proc.name
      values: [p, q r]
    - name: none
      fields: [proc.name]
"""


def test_exceptions_are_part_of_the_condition():
    assert good(EXCEPTIONS).rules["one"].whole_condition() == (
        '(evt.type = open) and not ((proc.name in (a, "b c") and fd.name startswith /x) or '
        '(proc.name in (d) and fd.name startswith "/y z")) and not (proc.name in (p, "q r"))')


def test_values_are_appended_to_exceptions():
    rule = good(EXCEPTIONS, "- rule: one\n  exceptions: [{name: none, values: [[z]]}, {name: new, fields: fd.num, values: [1]}]\n"
                            "  append: true\n").rules["one"]
    assert rule.whole_condition().endswith(" and not ((proc.name = z)) and not (fd.num in (1))")


def test_exceptions_are_replaced():
    rule = good(EXCEPTIONS, "- rule: one\n  exceptions: []\n  override: {exceptions: replace}\n").rules["one"]
    assert rule.whole_condition() == "evt.type = open"


@pytest.mark.parametrize("wanted", ["0", "26", "0.62.0", "0.57.0", "0.0.1-rc1"])
def test_engines_that_are_there(wanted):
    good("- required_engine_version: %s\n- required_plugin_versions: [x]\n- unknown: 1\n" % wanted)


@pytest.mark.parametrize(("release", "wanted", "what"), [
    ("0.38.2", "0.57.0", "need engine 0.57.0, Falco 0.38.2 has 0.40.0"), ("0.44.1", "0.62.1", "need engine"), ("0.44.1", "1.0.0", "need"),
    ("0.36.2", "0.1.0", "is not a version that Falco 0.36.2 understands"), ("0.35.1", "26", "need engine 0.26.0, Falco 0.35.1 has 0.17.0"),
    ("0.44.1", "x", "is not a version"), ("0.44.1", "[1]", "is not a version"), ("0.44.1", "²", "is not a version"),
    ("0.44.1", "9" * 40, "need"),
])
def test_engines_that_are_missing(release, wanted, what):
    problems = define("- required_engine_version: %s" % wanted, release=release).problems
    assert len(problems) == 1 and what in problems[0]["text"] and problems[0]["line"] == 1


# What Falco refuses: (entry that follows RULE, its line there, what is said).
@pytest.mark.parametrize(("text", "line", "what"), [
    ("- text", 1, "an entry is not a mapping"),
    ("- rule: two\n  condition: a", 1, "'output' is missing"),
    ("- rule:\n  condition: a", 1, "'rule' must be a text"),
    ("- rule: [x]", 1, "'rule' must be a text"),
    ("- rule: two\n  desc: d\n  output: o\n  condition: ''\n  priority: info", 4, "'condition' must be a text and not be empty"),
    ("- rule: two\n  desc: d\n  output: o\n  condition: a\n  priority: urgent", 5, "'urgent' is not a priority"),
    ("- rule: two\n  desc: d\n  output: o\n  condition: a\n  priority: info\n  enabled: maybe", 6, "'enabled' is neither true nor false"),
    ("- rule: two\n  desc: d\n  output: o\n  condition: a\n  priority: info\n  tags: x", 6, "'tags' is not a list"),
    ("- rule: two\n  desc: d\n  output: o\n  condition: a\n  priority: info\n  tags: [[x]]", 6, "not a text"),
    ("- rule: two\n  enabled: false", 1, "rule 'two' is changed, but was not defined before"),
    ("- rule: two\n  condition: a\n  append: true", 1, "was not defined before"),
    ("- rule: one\n  append: true", 1, "neither a condition nor exceptions"),
    ("- rule: one\n  condition: a\n  append: true\n  override: {condition: append}", 1, "exclude each other"),
    ("- rule: one\n  condition: a\n  override: {condition: prepend}", 3, "override of 'condition' cannot be 'prepend'"),
    ("- rule: one\n  enabled: false\n  override: {enabled: append}", 3, "override of 'enabled' cannot be 'append'"),
    ("- rule: one\n  override: {condition: append}", 1, "'condition' is overridden, but is missing"),
    ("- rule: one\n  condition: a\n  priority: info\n  override: {condition: append}", 3, "'priority' is set without"),
    ("- rule: one\n  condition: a\n  override: [x]", 3, "'override' is not a mapping"),
    (RULE.strip() + "\n  source: k8s_audit", 1, "defined again for another source, k8s_audit instead of syscall"),
    ("- macro: m", 1, "'condition' is missing"),
    ("- macro: m\n  condition: a\n  append: true", 1, "macro 'm' is changed"),
    ("- list: l", 1, "'items' is missing"),
    ("- list: l\n  items: x", 2, "'items' is not a list"),
    ("- list: l\n  items: [x]\n  override: {items: append}", 1, "list 'l' is changed"),
    ("- rule: one\n  exceptions: x\n  append: true", 2, "'exceptions' is not a list"),
    ("- rule: one\n  exceptions: [x]\n  append: true", 2, "an exception is not a mapping"),
    ("- rule: one\n  exceptions: [{fields: x}]\n  append: true", 2, "'name' is missing"),
    ("- rule: one\n  exceptions: [{name: n, values: x}]\n  append: true", 2, "values of exception 'n' are not a list"),
    ("- rule: one\n  exceptions: [{name: n, values: [x]}]\n  append: true", 2, "is new and needs fields and values"),
    ("- rule: one\n  exceptions: [{name: n, fields: [a.b], comps: [=, =], values: [[x]]}]\n  append: true", 2, "of different length"),
    ("- rule: one\n  exceptions: [{name: n, fields: [a.b], comps: [~~], values: [[x]]}]\n  append: true", 2, "which is not an operator"),
    ("- rule: one\n  exceptions: [{name: n, fields: a.b, comps: '=', values: [x]}]\n  append: true", 2, "which does not take a list"),
    ("- rule: one\n  exceptions: [{name: n, fields: a.b, comps: [in], values: [x]}]\n  append: true", 2, "a list of comps for one field"),
    ("- rule: one\n  exceptions: [{name: n, fields: [[a.b]], values: [[x]]}]\n  append: true", 2, "fields that are not texts"),
    ("- rule: one\n  exceptions: [{name: n, fields: a.b, values: [{}]}]\n  append: true", 2, "a mapping where texts belong"),
])
def test_what_is_refused(text, line, what):
    found = define(RULE, text)
    assert len(found.problems) == 1
    problem = found.problems[0]
    assert what in problem["text"] and (problem["file"], problem["line"]) == ("file1", line)
    # The rule that was there is as it was.
    assert found.rules["one"].whole_condition() == "evt.type = open" and found.rules["one"].enabled


@pytest.mark.parametrize("values", ["[[x]]", "[x]", "[[x, y, z]]"])
def test_values_that_do_not_match_the_fields(values):
    found = define(RULE, "- rule: one\n  append: true\n  exceptions: [{name: n, fields: [a.b, c.d], values: %s}]\n" % values)
    assert found.condition_of(found.rules["one"]) is None
    assert "values that do not match" in found.problems[0]["text"]


def test_reading_goes_on_behind_an_error():
    found = define("- rule: broken\n" + RULE + "- macro: m\n")
    assert "one" in found.rules and len(found.problems) == 2


@pytest.mark.parametrize(("text", "index"), [("EMERGENCY", 0), ("Info", 6), ("informational", 6), ("debug", 7), ("x", None), (None, None)])
def test_priorities(text, index):
    assert priority_of(text) == index
