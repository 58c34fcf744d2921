# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""rules.resolve(): the system calls that rules need, and what is wrong with them."""

import json

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import ruleset
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.syscall_names import names_for
from hypothesis import given
from hypothesis import strategies as st

NAMES = names_for("0.44.1")
ALL = len(NAMES.events)
SHAPE = {"name", "source", "priority", "tags", "file", "line", "enabled", "disabled_by", "events", "kernel", "other_events",
    "restricted", "reads"}


def rule(condition, name="r", **keys):
    return {"rule": name, "desc": "d", "condition": condition, "output": "o", "priority": "NOTICE", **keys}


def resolve(*files, release="0.44.1", **keywords):
    """Each file is a list of entries. JSON is YAML."""
    return ruleset.resolve([("f%d" % number, json.dumps(file)) for number, file in enumerate(files)], release, **keywords)


def events(condition, *entries, release="0.44.1"):
    found = resolve([*entries, rule(condition)], release=release)
    assert [finding for finding in found["findings"] if finding["level"] == "error"] == []
    assert set(found["rules"][0]) == SHAPE
    return found["rules"][0]["events"]


def kinds(found):
    return [(finding["level"], finding["kind"], finding["rule"]) for finding in found["findings"]]


def texts(found):
    return " | ".join(finding["text"] for finding in found["findings"])


@pytest.mark.parametrize(("condition", "expected"), [
    ("evt.type = open", ["open"]),
    ("evt.type == open", ["open"]),
    ("syscall.type = open", ["open"]),
    ("evt.type in (open, openat)", ["open", "openat"]),
    ("evt.type = open and proc.name = x", ["open"]),
    ("evt.type = open or evt.type = close", ["close", "open"]),
    ("evt.type = open and evt.type = close", []),
    ("evt.type in (open, close) and not evt.type = close", ["open"]),
    ("evt.type in (open, close) and evt.type != close", ["open"]),
    ("not evt.type != open", ["open"]),
    ("not (not evt.type = open or proc.name = x)", ["open"]),
    ("not (evt.type != open and evt.type != close)", ["close", "open"]),
    ("not not evt.type = open", ["open"]),
    ("evt.type = accept", ["accept", "accept4"]),
    ("evt.type = accept4", ["accept", "accept4"]),
    ("evt.type = procexit", ["procexit"]),
    ("evt.type = futex_wait", ["futex_wait"]),
    ("evt.type in (open, pread64)", ["open"]),
    ("evt.type = container", []),
    ("evt.type = open and evt.type exists", ["open"]),
    ("evt.type = open and not evt.type exists", []),
    ("evt.type = open and not proc.name exists", ["open"]),
    ("(evt.type = open and proc.name = x) or (proc.name = y and evt.type = close)", ["close", "open"]),
])
def test_events_of_a_condition(condition, expected):
    assert events(condition) == expected


@pytest.mark.parametrize("condition", [
    "proc.name = x", "not proc.name = x", "evt.type = open or proc.name = x", "evt.type exists", "evt.type startswith open",
    "evt.type contains x", "evt.type[0] = open", "not (evt.type = open and proc.name = x)", "evt.type = open or evt.type != open",
    "evt.category = file", "evt.type regex '^open'",
])
def test_conditions_that_restrict_nothing(condition):
    assert len(events(condition)) == ALL


@pytest.mark.parametrize(("condition", "missing"), [
    ("not evt.type = open", {"open"}), ("evt.type != accept", {"accept", "accept4"}), ("not evt.type in (open, close)", {"open", "close"}),
    ("not evt.type = pread64", set()), ("evt.type != container", set()),
])
def test_conditions_that_exclude(condition, missing):
    assert set(NAMES.events) - set(events(condition)) == missing


def test_accept4_alone_is_one_call():
    found = resolve([rule("evt.type = accept4")])["rules"][0]
    assert found["kernel"] == ["accept4"] and found["events"] == ["accept", "accept4"]


SPAWN = {"macro": "spawn", "condition": "evt.type in (calls)"}
CALLS = {"list": "calls", "items": ["execve", "execveat"]}


@pytest.mark.parametrize(("condition", "expected"), [
    ("spawn", ["execve", "execveat"]), ("spawn and x.y = 1", ["execve", "execveat"]),
    ("not spawn and evt.type in (open, execve)", ["open"]),
    ("evt.type in (calls, open)", ["execve", "execveat", "open"]), ("spawn or evt.type = open", ["execve", "execveat", "open"]),
])
def test_macros_and_lists(condition, expected):
    assert events(condition, CALLS, SPAWN) == expected


def test_a_macro_that_is_used_twice_in_opposite_ways():
    assert events("(spawn and x.y = 1) or (not spawn and evt.type = open)", CALLS, SPAWN) == ["execve", "execveat", "open"]


def test_lists_in_lists_are_resolved_one_level_deep():
    deep = [{"list": "a", "items": ["open"]}, {"list": "b", "items": ["a", "close"]}]
    assert events("evt.type in (b)", *deep) == ["close", "open"]
    # What the list of a list names is put in only where the text is searched for it later: not for an older list.
    found = resolve([*deep, {"list": "c", "items": ["b"]}, rule("evt.type in (c)")])
    assert kinds(found) == [("error", "unknown_event", "r")] and "evt.type a:" in texts(found)


def test_changes_in_later_files():
    base = [CALLS, SPAWN, rule("spawn")]
    changes = {
        "list": ({"list": "calls", "items": ["fork"], "override": {"items": "append"}}, ["execve", "execveat", "fork"]),
        "macro": ({"macro": "spawn", "condition": "evt.type = fork"}, ["fork"]),
        "macro appended": ({"macro": "spawn", "condition": "or evt.type = fork", "append": True}, ["execve", "execveat", "fork"]),
        "rule": (rule("evt.type = kill"), ["kill"]),
        "rule appended": ({"rule": "r", "condition": "and not evt.type = execve", "append": True}, ["execveat"]),
        "exception": ({"rule": "r", "exceptions": [{"name": "x", "fields": "evt.type", "values": ["execve"]}], "append": True},
                      ["execveat"]),
        "harmless exception": ({"rule": "r", "exceptions": [{"name": "x", "fields": ["evt.type", "a.b"], "values": [["execve", "y"]]}],
                                "append": True}, ["execve", "execveat"]),
    }
    for what, (entry, expected) in changes.items():
        found = resolve(base, [entry])
        assert found["ok"] and found["rules"][0]["events"] == expected, what


def test_tags_priority_source_and_place():
    found = resolve([CALLS], [rule("evt.type = open", tags=["b", "a"], priority="Info", enabled=False)])["rules"][0]
    assert found["tags"] == ["a", "b"] and found["priority"] == "informational" and (found["file"], found["line"]) == ("f1", 1)
    assert (found["enabled"], found["disabled_by"]) == (False, "rules")


def test_rules_of_other_sources_need_no_system_call():
    found = resolve([rule("ka.verb = create and evt.type = nonsense", source="k8s_audit")])
    assert found["ok"] and found["findings"] == []
    assert found["rules"][0]["events"] == [] and found["rules"][0]["restricted"]


# Errors: Falco would not start.

@pytest.mark.parametrize(("entries", "text", "line"), [
    ([rule("evt.type = ")], "condition of 'r': expected a value, found the end", 1),
    ([rule("spawn")], "condition of 'r': macro 'spawn' is not defined", 1),
    ([rule("a"), {"macro": "a", "condition": "a"}], "macro 'a' is not defined before", 1),
    ([{"macro": "a", "condition": "b"}, {"macro": "b", "condition": "evt.type = open"}, rule("a")], "macro 'b' is not defined before", 1),
    ([{"macro": "a", "condition": "x.y = "}], "condition of 'a': expected a value", 1),
    ([rule("evt.type in (gone)")], "evt.type gone: Falco refuses it", 1),
    ([rule("evt.type = opne")], "evt.type opne: Falco refuses it unless a plugin brings it (no system call of Falco is called opne: "
                                "open is nearest)", 1),
    ([rule("evt.type = val(proc.name)")], "evt.type cannot be compared with another field", 1),
    ([rule("toupper(evt.type) = OPEN")], "evt.type cannot be compared through a transformer", 1),
    ([rule("evt.type = open", priority="urgent")], "'urgent' is not a priority", 1),
])
def test_errors(entries, text, line):
    found = resolve(entries)
    errors = [finding for finding in found["findings"] if finding["level"] == "error"]
    assert not found["ok"] and any(text in error["text"] for error in errors), texts(found)
    assert {(error["file"], error["line"]) for error in errors} == {("f0", line)}
    assert not any(one["enabled"] for one in found["rules"])


def test_a_macro_of_a_later_file_is_missing_when_the_first_file_is_compiled():
    macro = {"macro": "m", "condition": "evt.type = open"}
    found = resolve([rule("m")], [macro])
    assert not found["ok"] and "macro 'm' is not defined" in texts(found)
    assert resolve([macro], [rule("m")])["ok"] and resolve([rule("m"), macro])["ok"]


def test_macros_in_a_circle():
    first = [{"macro": "a", "condition": "evt.type = open"}, {"macro": "b", "condition": "a"}, rule("b")]
    found = resolve(first, [{"macro": "a", "condition": "b or evt.type = close"}])
    assert not found["ok"] and "macro 'a' refers to itself" in texts(found)


def test_an_error_is_blamed_on_the_macro_that_has_it():
    found = resolve([{"macro": "m", "condition": "gone"}, rule("m"), rule("m", "s")])
    assert kinds(found) == [("error", "syntax", "m")] and not any(one["enabled"] for one in found["rules"])
    # Falco compiles macros that nobody uses, too.
    assert kinds(resolve([{"macro": "m", "condition": "gone"}])) == [("error", "syntax", "m")]


def test_a_very_long_chain_of_macros():
    chain = [{"macro": "m0", "condition": "evt.type = open"}] + [
        {"macro": "m%d" % number, "condition": "m%d or m%d" % (number - 1, number - 1)} for number in range(1, 120)]
    assert events("m119", *chain) == ["open"]
    # Backwards: every macro but the last is redefined after those it needs, so each may refer to a younger one.
    backwards = [{"macro": "m%d" % number, "condition": "evt.type = open"} for number in range(120)]
    found = resolve(backwards, [{"macro": "m%d" % number, "condition": "m%d or m%d" % (number + 1, number + 1)} for number in range(119)]
                    + [rule("m0")])
    assert "more than 40 deep" in texts(found)


def test_lists_that_multiply():
    bomb = [{"list": "l%d" % number, "items": ["l%d" % (number + 1)] * 10} for number in range(12)]
    found = resolve([*bomb, rule("evt.type in (l0)"), rule("evt.type = open", "other")])
    assert "its lists make it longer than" in texts(found) and [one["enabled"] for one in found["rules"]] == [False, True]


@pytest.mark.parametrize("text", ["a" * 300000, "a.b = " + "x" * 300000, "a.b = 1" + " or a.b = 1" * 30000, "'" * 200000,
                                  "a.b = \"" + "\\\"" * 100000, "1" * 200000, "a." * 100000])
def test_long_conditions(text):
    assert isinstance(resolve([rule(text)])["ok"], bool)


def test_a_skipped_rule_is_no_error():
    found = resolve([rule("evt.type = opne", **{"skip-if-unknown-filter": True}), rule("evt.type = open", "other")])
    assert found["ok"] and [one["disabled_by"] for one in found["rules"]] == ["skipped", None]


def test_every_error_is_told_once_and_the_rest_goes_on():
    found = resolve([rule("evt.type =", "a"), rule("evt.type = opne", "b"), rule("evt.type = open", "c")], [], [])
    assert [one["enabled"] for one in found["rules"]] == [False, False, True]
    assert sorted(kinds(found)) == [("error", "syntax", "a"), ("error", "unknown_event", "b")]


def test_broken_files():
    found = ruleset.resolve([("a.yaml", "- rule: [\n"), ("b.yaml", "{}"), ("c.yaml", None), (7, "x: 1")], "0.44.1")
    assert [(finding["file"], finding["line"], finding["kind"]) for finding in found["findings"]] == [
        ("a.yaml", 2, "syntax"), ("b.yaml", 1, "syntax"), ("7", 1, "syntax")]
    assert ruleset.resolve([], "0.44.1") == {"rules": [], "findings": [], "ok": True}


# Warnings.

@pytest.mark.parametrize(("condition", "release", "expected"), [
    ("evt.type = open", "0.44.1", []),
    ("proc.name = x", "0.44.1", ["no_evttype"]),
    ("not evt.type = open", "0.44.1", ["many_events", "ignored_io"]),
    ("evt.type = pread64", "0.44.1", ["illegal_name", "dead"]),
    ("evt.type in (open, pread64)", "0.44.1", ["illegal_name"]),
    ("syscall.type in (open, nonsense)", "0.44.1", ["illegal_name"]),
    ("evt.type = open and evt.type = close", "0.44.1", ["dead"]),
    ("evt.type = container", "0.44.1", []),
    ("evt.type in (read, open)", "0.44.1", ["ignored_io"]),
    ("evt.type in (recvmmsg, open)", "0.39.2", ["ignored_io"]),
    ("evt.type in (recvmmsg, open)", "0.40.0", []),
    ("evt.type = open and evt.dir = <", "0.41.3", []),
    ("evt.type = open and evt.dir = <", "0.42.0", ["evt_dir"]),
    ("evt.type = open and evt.dir = >", "0.44.1", ["evt_dir"]),
])
def test_warnings(condition, release, expected):
    found = resolve([rule(condition)], release=release)
    assert found["ok"] and kinds(found) == [("warning", kind, "r") for kind in expected]
    assert resolve([rule(condition, enabled=False)], release=release)["findings"] == []


def test_what_the_warnings_say():
    assert "pread64 is the kernel's name: Falco calls it pread" in texts(resolve([rule("evt.type = pread64")]))
    assert "name nothing that exists" in texts(resolve([rule("evt.type = pread64")]))
    assert "exclude each other" in texts(resolve([rule("evt.type = open and evt.type = close")]))
    assert "base_syscalls.all" in texts(resolve([rule("evt.type = read")]))
    assert "the option -A" in texts(resolve([rule("evt.type = read")], release="0.38.2"))
    assert "part of the rule dead" in texts(resolve([rule("evt.type = open and evt.dir = >")]))
    assert "438 names" in texts(resolve([rule("a.b = c")]))


def test_an_author_who_knows_is_not_warned_again():
    text = "not evt.type in (open, %s)" % ", ".join(sorted(NAMES.events_of(NAMES.ignored)))
    assert kinds(resolve([rule(text)])) == [("warning", "many_events", "r")]
    assert kinds(resolve([rule(text, warn_evttypes=False)])) == []


def test_only_named_events_count_as_many():
    generic = sorted(ruleset.GENERIC & NAMES.events)[:120]
    assert resolve([rule("evt.type in (%s)" % ", ".join(generic))])["findings"] == []


# What holds for any rules.

names = st.sampled_from(["open", "close", "read", "accept", "accept4", "procexit", "getppid", "container", "pread64", "clone"])
leaves = st.builds("evt.type = {}".format, names) | st.builds("evt.type != {}".format, names) | st.builds(
    "evt.type in ({}, {})".format, names, names) | st.just("proc.name = x") | st.just("m")
conditions = st.recursive(leaves, lambda inner: st.builds("({} and {})".format, inner, inner)
                          | st.builds("({} or {})".format, inner, inner) | st.builds("not ({})".format, inner), max_leaves=10)


@given(conditions, conditions, st.sampled_from(["0.35.1", "0.38.2", "0.44.1"]))
def test_algebra(one, other, release):
    macro = {"macro": "m", "condition": "evt.type in (open, clone) and proc.name = y"}
    texts_ = {"a": one, "b": other, "and": "(%s) and (%s)" % (one, other), "or": "(%s) or (%s)" % (one, other),
              "not": "not (%s)" % one, "twice": "not not (%s)" % one, "de morgan": "not (not (%s) and not (%s))" % (one, other)}
    found = resolve([macro, *(rule(text, name) for name, text in texts_.items())], release=release)
    assert found["ok"]
    kernel = {item["name"]: set(item["kernel"]) for item in found["rules"]}
    everything = set(names_for(release).kernel)
    assert kernel["and"] == kernel["a"] & kernel["b"]
    assert kernel["or"] == kernel["de morgan"] == kernel["a"] | kernel["b"]
    assert kernel["twice"] == kernel["a"] and kernel["a"] | kernel["not"] == everything
    assert all(set(item["events"]) <= names_for(release).events for item in found["rules"])


@given(st.lists(st.sampled_from(["rule", "macro", "list", "condition", "items", "append", "override", "exceptions", "priority", "desc",
                                 "output", "enabled", "tags", "name", "fields", "values", "comps"]), max_size=6, unique=True),
       st.recursive(st.none() | st.booleans() | st.integers(-1, 9) | st.text(max_size=6) | st.just("evt.type=open"),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "fields", "values", "condition"]),
                                                                                 inner, max_size=3), max_leaves=6))
def test_any_entry_is_survived(keys, value):
    found = resolve([rule("evt.type = open"), {**dict.fromkeys(keys, value), "rule": "r"}, dict.fromkeys(keys, value)])
    assert isinstance(found["ok"], bool) and json.dumps(found)


def test_releases():
    with pytest.raises(releases.UnsupportedRelease):
        ruleset.resolve([], "0.34.1")
    assert events("evt.type = openat", release="0.99.0") == ["openat"]
