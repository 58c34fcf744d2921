# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""needs() and coverage(): what rules ask for, and which of them a selection leaves blind."""

import json

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import selections
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import coverage, ruleset
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
        {"rule": "evt.type in (open, close)", "lost": ["open"], "left": ["close"]},
        {"rule": "evt.type in (open, container)", "lost": ["open"], "left": ["container"]}]


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
    # As printed the two are one.
    assert cover(found, only["selected"]) == {"blind": {}, "half_blind": {}}


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
