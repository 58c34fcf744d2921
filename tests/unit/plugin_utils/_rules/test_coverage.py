# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""needs() and coverage(): what rules ask for, and which of them a selection leaves blind."""

import json

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import selections
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import coverage, ruleset, state
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.syscall_names import names_for
from hypothesis import given
from hypothesis import strategies as st

NAMES = names_for("0.44.1")


def resolve(*conditions, **keys):
    return ruleset.resolve([("f", json.dumps([
        {"rule": condition, "desc": "d", "output": "o", "condition": condition, "priority": "info", **keys} for condition in conditions
    ]))], "0.44.1")["rules"]


def cover(found, selected):
    result = coverage.coverage(found, selected, "0.44.1")
    return {key: {item["rule"]: item["lost"] for item in result[key]} for key in ("blind", "half_blind")}


def test_needs():
    assert coverage.needs(resolve("evt.type = open", "evt.type in (close, open)"), "0.44.1") == {"open", "close"}
    assert coverage.needs(resolve("evt.type = accept4"), "0.44.1") == {"accept4"}
    assert coverage.needs(resolve("a.b = c"), "0.44.1") == NAMES.events
    assert coverage.needs(resolve("evt.type = open", enabled=False), "0.44.1") == set()
    assert coverage.needs(resolve("evt.type = open", source="k8s_audit"), "0.44.1") == set()
    assert coverage.needs([], "0.44.1") == set()


FOUND = resolve("evt.type = open", "evt.type in (open, close)", "evt.type = container", "evt.type in (open, container)",
                "evt.type = open and evt.type = close")


@pytest.mark.parametrize(("selected", "blind", "half"), [
    (["open", "close"], {}, {}),
    (["close"], {"evt.type = open": ["open"]}, {"evt.type in (open, close)": ["open"], "evt.type in (open, container)": ["open"]}),
    (["open"], {}, {"evt.type in (open, close)": ["close"]}),
    ([], {"evt.type = open": ["open"], "evt.type in (open, close)": ["close", "open"]}, {"evt.type in (open, container)": ["open"]}),
])
def test_coverage(selected, blind, half):
    assert cover(FOUND, selected) == {"blind": blind, "half_blind": half}


def test_what_is_left_is_told():
    assert coverage.coverage(FOUND[1:4:2], ["close"], "0.44.1")["half_blind"] == [
        {"rule": "evt.type in (open, close)", "lost": ["open"], "left": ["close"], "ways": []},
        {"rule": "evt.type in (open, container)", "lost": ["open"], "left": ["container"], "ways": []}]


def test_a_rule_that_restricts_nothing_loses_what_is_not_selected():
    lost = cover(resolve("a.b = c"), ["open"])["half_blind"]["a.b = c"]
    assert "open" not in lost and {"read", "accept", "close"} <= set(lost)
    assert "a.b = c" in cover(resolve("a.b = c"), [])["blind"]


def test_accept_and_accept4_are_told_apart_where_the_selection_does():
    found = resolve("evt.type = accept", "evt.type = accept4")
    only = selections.select("0.44.1", [], ["accept4"])
    assert cover(found, only) == {"blind": {}, "half_blind": {"evt.type = accept": ["accept"]}}
    assert cover(found, selections.select("0.44.1", ["accept"], ["!accept4"])) == {
        "blind": {"evt.type = accept4": ["accept4"]}, "half_blind": {"evt.type = accept": ["accept4"]}}
    # As printed, accept4 alone and the two are one.
    assert cover(found, only["selected"]) == {"blind": {}, "half_blind": {}}


def test_a_printed_set_without_accept4_shows_its_loss():
    found = resolve("evt.type = accept", "evt.type = accept4")
    chosen = selections.select("0.44.1", ["accept"], ["!accept4"])
    lost = {"blind": {"evt.type = accept4": ["accept4"]}, "half_blind": {"evt.type = accept": ["accept4"]}}
    assert "accept" in chosen["selected"] and "accept4" not in chosen["selected"]
    assert cover(found, chosen["selected"]) == cover(found, {"selected": chosen["selected"]}) == lost


def test_the_rules_of_an_exclusion():
    found = resolve("evt.type = open", "evt.type in (open, openat)", "evt.type = connect")
    chosen = selections.select("0.44.1", coverage.needs(found, "0.44.1"), ["!open"], repair=True)
    assert cover(found, chosen) == {"blind": {"evt.type = open": ["open"]}, "half_blind": {"evt.type in (open, openat)": ["open"]}}


names = st.sampled_from(["open", "close", "read", "accept", "accept4", "procexit", "getppid", "container", "pread64", "clone"])
conditions = st.lists(st.builds("evt.type in ({}, {})".format, names, names) | st.builds("not evt.type = {}".format, names)
                      | st.builds("evt.type = {} and evt.type != {}".format, names, names) | st.just("a.b = c"), max_size=5, unique=True)


@given(conditions)
def test_with_everything_selected_nothing_is_blind(texts):
    found = resolve(*texts)
    assert cover(found, NAMES.events) == {"blind": {}, "half_blind": {}}
    everything = selections.select("0.44.1", coverage.needs(found, "0.44.1"), all_=True)
    assert cover(found, everything) == {"blind": {}, "half_blind": {}} and everything["unsupported"] == []


@given(conditions, st.booleans())
def test_without_exclusions_only_high_volume_calls_are_lost(texts, repair):
    found = resolve(*texts)
    chosen = selections.select("0.44.1", coverage.needs(found, "0.44.1"), [], repair)
    lost = {name for kind in cover(found, chosen).values() for names_ in kind.values() for name in names_}
    assert lost == set(chosen["unsupported"]) <= NAMES.events_of(NAMES.ignored)


@given(conditions, st.sets(st.sampled_from(sorted(NAMES.events)), max_size=30), st.sets(st.sampled_from(sorted(NAMES.events)), max_size=5))
def test_a_larger_selection_never_blinds_more(texts, selected, more):
    found = resolve(*texts)
    small, large = cover(found, selected), cover(found, selected | more)
    assert set(large["blind"]) <= set(small["blind"])
    assert set(large["half_blind"]) <= set(small["half_blind"]) | set(small["blind"])
    assert not set(small["blind"]) & set(small["half_blind"])


def test_lines_for_people():
    found = coverage.coverage(FOUND, ["close"], "0.44.1")
    assert coverage.lines(found)[:2] == ["blind: evt.type = open (lost open)",
                                         "half blind: evt.type in (open, close) (lost open, left close)"]
    assert coverage.lines(found, but=["evt.type = open"])[0].startswith("half blind")
    assert coverage.lines(None) == []


SHADOW = "evt.type in (open, openat, openat2) and fd.name = /etc/shadow"


def item(text, selected, output="o", kind="half_blind"):
    found = ruleset.resolve([("f", json.dumps([
        {"rule": "r", "desc": "d", "output": output, "condition": text, "priority": "info"}]))], "0.44.1")["rules"]
    return next((one for one in coverage.coverage(found, selected, "0.44.1")[kind]), None)


def ways(text, selected, **keys):
    found = item(text, selected, **keys) or item(text, selected, kind="blind")
    return {call: way["way"] for way in found["ways"] for call in way["calls"]} if found else {}


def repaired(text, *more):
    calls = coverage.needs(resolve(text), "0.44.1")
    return selections.select("0.44.1", calls, more, True)["selected"]


def test_repair_leaves_a_rule_on_file_names_half_blind_and_says_for_what():
    found = item(SHADOW, repaired(SHADOW))
    assert found["lost"] == [] and found["left"] == ["open", "openat", "openat2"]
    told = coverage.lines({"half_blind": [found]})
    assert told[0] == "half blind: r"
    assert ("  unseen: paths relative to a directory handle copied by fcntl (F_DUPFD): grep -r, find, rm -r, chmod -R, shells that "
            "save a descriptor (fcntl)") in told


def test_the_calls_that_are_named_beside_repair_bring_the_rule_back():
    more = ["fcntl", "dup", "dup2", "dup3", "recvmsg", "recvmmsg", "socketpair", "socket", "accept", "accept4", "pidfd_open",
            "pidfd_getfd", "open_by_handle_at", "close_range"]
    assert item(SHADOW, repaired(SHADOW, *more)) is None
    assert set(ways(SHADOW, repaired(SHADOW, *more[1:]))) == {"fcntl"}


def test_a_negated_field_is_a_false_alarm():
    text = "evt.type = openat and not fd.directory in (/etc)"
    assert all(way["false_alarms"] for way in item(text, repaired(text))["ways"])
    told = coverage.lines({"half_blind": [item(text, repaired(text))]})
    assert any("false alarms possible: fd.directory" in line for line in told)
    exact = item("evt.type = openat and fd.directory = /etc", repaired(text))["ways"]
    assert [way["way"] for way in exact if way["false_alarms"]] == [
        "paths relative to a directory handle closed by close_range and their number used again"]


def test_an_exception_is_a_negated_read():
    found = ruleset.resolve([("f", json.dumps([
        {"rule": "r", "desc": "d", "output": "o", "condition": "evt.type = connect", "priority": "info",
         "exceptions": [{"name": "e", "fields": ["user.name"], "comps": ["="], "values": [["root"]]}]}]))], "0.44.1")["rules"]
    (rule,) = coverage.coverage(found, repaired("evt.type = connect"), "0.44.1")["half_blind"]
    assert [(way["calls"], way["fields"], way["false_alarms"]) for way in rule["ways"]] == [(["setreuid"], ["user.name"], True)]


def test_a_field_of_the_output_alone_is_a_lesser_loss():
    text = "evt.type = ptrace"
    assert item(text, repaired(text), output="by %user.name") is None
    found = item(text, repaired(text), output="by %user.name", kind="wrong_output")
    assert [way["calls"] for way in found["ways"]] == [["setreuid"]] and not found["ways"][0]["false_alarms"]


CONNECTED = "evt.type in (dup, dup2, dup3) and fd.type in (ipv4, ipv6)"
MADE = ("accept", "accept4", "bind", "connect", "socket", "sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg", "recvmmsg")


@pytest.mark.parametrize("text", [
    CONNECTED, CONNECTED + " and not user.name = root", "evt.type = execve and proc.stdin.type = ipv4",
    "evt.type = read and (fd.directory = /etc/shadow or fd.filename = x)", "evt.type = dup and not (proc.name = x or not fd.type = ipv4)"])
def test_a_rule_none_of_whose_descriptors_is_made_by_a_selected_call_is_blind_although_its_events_come(text):
    events = {"read", "dup", "dup2", "dup3", "execve"}
    copies = {"fcntl", "clone", "clone3", "execve", "execveat", "close", "pidfd_getfd", "setreuid", "recvmmsg"} - set(MADE)
    found = item(text, sorted(events | copies), kind="blind")
    assert found and found["lost"] == [] and found["left"] and found["ways"]
    assert coverage.lines({"blind": [found]})[0] == "blind: r"
    # One of the ways that make it is enough for half of the sight.
    for one in ("accept", "openat"):
        half = item(text, sorted(events | copies | {one}))
        assert (half is not None) == (("/etc/shadow" in text) == (one == "openat"))


@pytest.mark.parametrize("text", [
    "evt.type = dup and (fd.type = ipv4 or proc.name = x)", "evt.type = dup and not fd.type = ipv4", "evt.type = dup and fd.type != ipv4",
    "evt.type = dup and fd.num = 3", "evt.type in (dup, openat) and fd.name = /x", "evt.type = connect and fd.sip = 1.2.3.4",
    "evt.type = dup and fd.ino > 3 or evt.type = dup and proc.name = x", "evt.type = dup and fd.type = bpf",
    "evt.type in (dup, container) and fd.type = ipv4"])
def test_a_rule_that_can_fire_without_a_known_descriptor_is_not_blind(text):
    assert item(text, ["dup", "openat", "connect"], kind="blind") is None


def test_only_kinds_that_the_condition_allows_are_needed():
    text = "evt.type in (dup, dup2, dup3) and fd.type in (ipv4, ipv6)"
    assert {"connect", "accept", "accept4", "socket", "fcntl", "recvmsg"} - set(ways(text, ["dup", "dup2", "dup3"])) == {"connect"}
    assert not {"pipe", "pipe2", "memfd_create", "openat", "sendto"} & set(ways(text, ["dup", "dup2", "dup3"]))
    assert {"pipe", "openat", "memfd_create"} <= set(ways(text.replace("fd.type in (ipv4, ipv6)", "fd.name contains x"), ["dup"]))
    assert "connect" in ways(text + " and fd.sip = 1.2.3.4", ["dup"])


def test_fields_that_the_model_does_not_know_need_every_call_and_are_named():
    (rule,) = resolve("evt.type = openat and krsi.thing = 1")
    assert state.unknown_fields(rule) == ["krsi.thing"]
    lost = {call for way in item("evt.type = openat and krsi.thing = 1", ["openat"])["ways"] for call in way["calls"]}
    carried = {call for row in state.TABLE for call in row.calls.replace("|", " ").split()} & NAMES.state
    assert NAMES.kernel_of(lost) | {"openat", "accept"} >= carried - {"sched_process_exit"}


@pytest.mark.parametrize("text, output", [
    ("evt.type = execve and proc.name = x", "%proc.cmdline %container.id %k8s.pod.name %proc.aname[2] %evt.arg.flags"),
    ("evt.type = open_by_handle_at and fd.name = /x", "o"),
    ("evt.type = accept4 and fd.sip = 1.2.3.4", "%fd.name"),
    ("evt.type = openat and fd.name endswith release_agent", "%fd.num %evt.res"),
    ("evt.type = socket and evt.arg.domain = AF_PACKET", "o"),
])
def test_what_an_event_brings_itself_needs_no_other_call(text, output):
    assert item(text, repaired(text), output) is None and item(text, repaired(text), output, "wrong_output") is None


def test_before_0_39_setreuid_was_not_followed_so_that_nothing_is_lost_without_it():
    rule = resolve("evt.type = ptrace and user.name = root")[0]
    for release, needed in (("0.38.2", False), ("0.39.0", True)):
        assert ("setreuid" in {call for need in state.needs(rule, release) for call in need.calls}) is needed


def test_more_lost_counts_ways():
    whole, half = (coverage.coverage(resolve(SHADOW), repaired(SHADOW, *more), "0.44.1") for more in (("fcntl",), ()))
    assert coverage.more_lost(whole, half) == [SHADOW] and coverage.more_lost(half, whole) == []


def test_each_way_is_told_once_with_the_rules_that_do_not_see_it():
    found = coverage.coverage(resolve(SHADOW, "evt.type = openat and not fd.directory in (/etc)"), ["open", "openat", "openat2"], "0.44.1")
    ways_ = {way["way"]: way for way in coverage.unseen(found)}
    handle = next(way for way in ways_.values() if way["calls"] == ["fcntl"])
    assert len(handle["rules"]) == 2 and handle["false_alarms"] and handle["fields"] == ["fd.directory"]
    assert [len(way["rules"]) for way in ways_.values()] == sorted((len(way["rules"]) for way in ways_.values()), reverse=True)
    assert coverage.unseen({}) == []


fields = st.sampled_from("fd.name fd.type fd.sip fd.directory user.name group.gid proc.cwd proc.stdin.type proc.fdlimit fs.path.name "
                         "evt.arg.path thread.cap_effective container.id x.unknown evt.args proc.aname[2]".split())
reading = st.builds("evt.type in ({}, {}) and {} {} /x".format, names, names, fields, st.sampled_from(["=", "!=", "endswith"]))


@given(st.lists(reading, max_size=4, unique=True), st.booleans())
def test_the_default_selection_loses_no_way_and_what_is_missing_can_be_added(texts, repair):
    found = resolve(*texts)
    calls = coverage.needs(found, "0.44.1")
    default = set(selections.select("0.44.1", calls)["kernel"])
    assert not any(state.unseen(rule, default, "0.44.1") for rule in found)
    lean = set(selections.select("0.44.1", calls, [], repair)["kernel"])
    more = state.carrying(found, lean, "0.44.1")
    whole = lean | set(more)
    assert set(more) <= default and not any(state.unseen(rule, whole, "0.44.1") for rule in found)
