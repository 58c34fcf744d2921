# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""falco_list.parse(): rules as Falco lists them. (test_rules_agreement.py reads recorded lists.)"""

import json

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import listing, ruleset
from hypothesis import given
from hypothesis import strategies as st


def listed(*entries, **more):
    return json.dumps({"rules": list(entries), "macros": [], "lists": [], "required_engine_version": "0.57.0", **more})


def rule(name="r", events=("open", "asyncevent"), compiled="evt.type = open", **info):
    return {"info": {"name": name, "condition": compiled, "priority": "Warning", "source": "syscall", "enabled": True, "tags": ["b", "a"],
                     "output": "o", "description": "d", **info},
            "details": {"events": list(events), "condition_compiled": compiled}}


def parse(text, release="0.44.1", **keywords):
    return listing.parse(text, release, **keywords)


def test_the_shape_is_that_of_the_resolver():
    resolved = ruleset.resolve([("f", json.dumps([{"rule": "r", "desc": "d", "output": "o", "condition": "evt.type = open",
                                                 "priority": "WARNING", "tags": ["a", "b"]}]))], "0.44.1")["rules"][0]
    assert parse("some text before\n" + listed(rule())) == {
        "rules": [{**resolved, "file": "falco -L", "line": None}], "findings": [], "ok": True, "reason": None}


@pytest.mark.parametrize(("events", "compiled", "kernel"), [
    (["accept", "accept4", "asyncevent"], "evt.type = accept", ["accept", "accept4"]),
    (["accept", "accept4", "asyncevent"], "evt.type = accept4", ["accept4"]),
    # A compiled condition that is no condition any more, or another one: then the printed names count.
    (["accept", "accept4", "asyncevent"], "evt.type = accept4 and proc.name in ((x))", ["accept", "accept4"]),
    (["accept", "accept4", "asyncevent"], "evt.type = open", ["accept", "accept4"]),
    (["accept", "accept4", "asyncevent"], None, ["accept", "accept4"]),
    (["pread", "asyncevent"], "evt.type = pread", ["pread64"]),
])
def test_kernel_names(events, compiled, kernel):
    assert parse(listed(rule(events=events, compiled=compiled)))["rules"][0]["kernel"] == kernel


def test_events_of_falcos_own():
    found = parse(listed(rule(events=["container", "asyncevent"], compiled="evt.type = container")))["rules"][0]
    assert found["events"] == [] and found["other_events"] == ["container"] and found["restricted"]


def test_rules_of_other_sources():
    found = parse(listed(rule(events=["pluginevent", "asyncevent"], compiled="ka.verb = get", source="k8s_audit")))["rules"][0]
    assert found["events"] == found["other_events"] == [] and found["source"] == "k8s_audit"


def test_priority_and_selection():
    text = listed(rule("one"), rule("two", priority="Debug"), rule("three", enabled=False), rule("four"))
    found = parse(text, priority="info", selection=[{"disable": {"rule": "four"}}])
    assert [one["disabled_by"] for one in found["rules"]] == [None, "priority", "rules", "selection"]


def test_releases_that_print_no_usable_events_are_resolved():
    macro = {"info": {"name": "m", "condition": "evt.type in (l)"}, "details": {}}
    lists = [{"info": {"name": "inner", "items": ["openat"]}, "details": {}},
             {"info": {"name": "l", "items": ["open"]}, "details": {"lists": ["inner"]}}]
    text = listed(rule(events=["asyncevent"], compiled="m and a.b = c"), rule("broken", compiled="gone"), macros=[macro], lists=lists)
    found = parse(text, "0.36.2")
    assert found["reason"] is None and not found["ok"]
    assert [(one["name"], one["events"]) for one in found["rules"]] == [("r", ["open", "openat"]), ("broken", [])]
    assert "macro 'gone' is not defined" in found["findings"][0]["text"]


@pytest.mark.parametrize(("text", "reason"), [
    ("", "printed no JSON"), (None, "printed no JSON"), ("Error: x", "printed no JSON"), ("{", "broken JSON"), ("{}", "JSON without rules"),
    ('{"rules": {}}', "JSON without rules"), ('{"rules": [' + "[" * 100000, "broken JSON"), ("\x00{\x00", "broken JSON"),
])
def test_what_is_no_list(text, reason):
    for release in ("0.36.2", "0.44.1"):
        found = parse(text, release)
        assert reason in found["reason"] and found["rules"] == [] and not found["ok"]


@pytest.mark.parametrize("entry", [None, 1, [], {}, {"info": None}, {"info": {"name": "x"}}, rule(priority="urgent"), rule(name=None),
                                   {**rule(), "details": {}}, {**rule(), "details": {"events": "open"}}])
def test_entries_that_cannot_be_read(entry):
    found = parse(listed(rule(), entry))
    assert [one["name"] for one in found["rules"]] == ["r"] and found["findings"][0]["text"] == "entry 2 of the rules cannot be read"


values = st.recursive(st.none() | st.booleans() | st.text(max_size=5) | st.sampled_from(["syscall", "Info", "evt.type=open"]),
                      lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                          st.sampled_from(["info", "details", "name", "events", "condition_compiled", "priority", "tags", "source"]),
                          inner), max_leaves=10)


@given(values, values, st.sampled_from(["0.36.2", "0.44.1"]))
def test_any_json_is_survived(info, details, release):
    found = parse(listed({"info": info, "details": details}, {**rule(), "info": {**rule()["info"], "tags": info, "source": details}},
                         macros=info, lists=details), release)
    assert found["reason"] is None and json.dumps(found)
