# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""in_force(): what rules see with the system calls of now, by the host's rules, its record, or not at all."""

import json

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import selections
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import coverage, ruleset
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import sight
from ansible_collections.falcotune.fleet.tests.unit.hosts import Host

RULES = ruleset.resolve([("f", json.dumps([
    {"rule": "shadow", "desc": "d", "output": "o", "priority": "info", "condition": "evt.type = openat and fd.name = /etc/shadow"},
    {"rule": "programs", "desc": "d", "output": "by %user.name", "priority": "info", "condition": "evt.type = execve"},
    {"rule": "debuggers", "desc": "d", "output": "o", "priority": "info", "condition": "evt.type = ptrace"}]))], "0.44.1")["rules"]
REPAIR = ("engine.kind=modern_ebpf", "base_syscalls.repair=true")


def facts(known=None, record=None, **keys):
    found = Host(**keys).but(record=record).facts()
    return dict(found, syscalls=known)


def known(*custom_set, repair=True):
    selected = selections.select("0.44.1", coverage.needs(RULES, "0.44.1"), custom_set, repair)["selected"]
    return {"rules": RULES, "selected": selected, "profile": None, "reason": None}


def attempt(**keys):
    return {"at": 1.0, "step": "syscalls", "release": "0.44.1", "before": None, "to": {"repair": True, "custom_set": []},
            "coverage": {"rules_total": 3, "blind": [], "half_blind": ["shadow"], "wrong_output": []}, **keys}


def record(*attempts):
    return {"proven": True, "at": 2.0, "files": {}, "evidence": {}, "attempts": list(attempts)}


def test_a_selection_that_is_not_narrowed_takes_nothing():
    assert sight.in_force(facts()) == {"basis": "default", "reason": None, "rules_total": None, "blind": [], "half_blind": [],
                                       "wrong_output": [], "unseen": []}


def test_by_the_hosts_rules_whoever_configured_it():
    found = sight.in_force(facts(known("!ptrace"), options=REPAIR))
    assert found["basis"] == "rules" and found["rules_total"] == 3
    assert (found["blind"], found["half_blind"], found["wrong_output"]) == (["debuggers"], ["shadow"], ["programs"])
    (handle,) = [way for way in found["unseen"] if way["calls"] == ["fcntl"]]
    assert handle["rules"] == ["shadow"] and "grep -r, find, rm -r" in handle["way"] and not handle["false_alarms"]
    assert found["unseen"][0]["rules"] and any(way["rules"] == ["programs"] and way["calls"] == ["setreuid"] for way in found["unseen"])


def test_by_the_record_of_the_last_tune_for_this_very_selection_and_release():
    found = sight.in_force(facts(record=record(attempt()), options=REPAIR))
    assert found["basis"] == "record" and found["half_blind"] == ["shadow"] and found["rules_total"] == 3
    for other in (attempt(release="0.43.0"), attempt(to={"repair": True, "custom_set": ["fcntl"]}), attempt(coverage=None)):
        assert sight.in_force(facts(record=record(other), options=REPAIR))["basis"] == "unknown"


@pytest.mark.parametrize("options, text", [
    (REPAIR, "repair: true, custom_set: empty"),
    (("engine.kind=modern_ebpf", "base_syscalls.custom_set[]=!fcntl"), "repair: false, custom_set: !fcntl"),
])
def test_a_narrowed_selection_without_rules_says_that_it_is_unknown(options, text):
    found = sight.in_force(facts(options=options))
    assert found["basis"] == "unknown" and text in found["reason"] and found["half_blind"] == []


@pytest.mark.parametrize("kept", [{}, {"half_blind": None, "rules_total": "x"}, {"blind": [1, "r"]}, {"half_blind": "shadow"}])
def test_a_record_that_somebody_wrote_by_hand_never_ends_an_audit(kept):
    found = sight.in_force(facts(record=record(attempt(coverage=kept)), options=REPAIR))
    assert all(isinstance(item, str) for kind in coverage.KINDS for item in found[kind])


def test_rules_that_could_not_be_read_leave_the_record():
    broken = {"rules": [], "selected": [], "profile": None, "reason": "falco -L printed no JSON"}
    assert sight.in_force(facts(broken, record(attempt()), options=REPAIR))["basis"] == "record"


def test_only_a_running_falco_with_a_narrowed_selection_is_asked_for_its_rules():
    assert sight.asks(facts(options=REPAIR)) and not sight.asks(facts())
    assert not sight.asks(facts(options=REPAIR, running=False)) and not sight.asks(facts(known(), options=REPAIR))
    assert not sight.asks(facts(record=record(attempt()), options=REPAIR))
