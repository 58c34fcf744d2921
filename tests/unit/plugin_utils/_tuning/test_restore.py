# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that loses no events and whose rules see less than by default: the offer, and the step where policy allows it."""

import json
import re

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import selections
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import coverage, ruleset
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import planner, sight
from ansible_collections.falcotune.fleet.tests.unit.plugin_utils._tuning.test_steps import BUSY, COOL, MAIN, again, host
from hypothesis import given, settings
from hypothesis import strategies as st

RULES = ruleset.resolve([("f", json.dumps([
    {"rule": name, "desc": "d", "output": output, "priority": "warning", "condition": condition} for name, condition, output in (
        ("shadow", "evt.type in (open, openat) and fd.name = /etc/shadow", "o"),
        ("shells", "evt.type = dup2 and fd.type in (ipv4, ipv6)", "o"),
        ("debuggers", "evt.type = ptrace", "by %user.name"))]))], "0.44.1")["rules"]
BLOCK = re.compile(r"^base_syscalls:.*\n(^[ #].*\n)*", re.M)
COUNTS = {"openat": 1000, "close": 800, "fcntl": 400, "recvmsg": 100, "dup2": 5}
ALLOWED = {"restore_rules": True}


def narrowed(*custom_set, repair, cpu=COOL, drops=0):
    found = host(cpu, drops=drops)
    block = "base_syscalls: %s\n" % json.dumps({"custom_set": custom_set, "repair": repair, "all": False})
    return found.but(files={MAIN: BLOCK.sub(block, found.files[MAIN]) if BLOCK.search(found.files[MAIN]) else found.files[MAIN] + block})


def rules_of(found):
    """What the host's Falco says when it is asked."""
    settings_ = planner.Settings(found.facts()["config"]["effective"], planner.releases.release_for("0.44.1"))
    now = planner.current_syscalls(settings_)
    selected = selections.select("0.44.1", coverage.needs(RULES, "0.44.1"), now["custom_set"], now["repair"])["selected"]
    return {"rules": RULES, "selected": selected, "reason": None,
            "profile": {"means": "tracefs", "seconds": 5.0, "reason": None, "notes": [], "counts": COUNTS, "callers": {}}}


def plan(found, **policy):
    facts = found.facts()
    if sight.asks(facts):
        facts["syscalls"] = rules_of(found)
    made = planner.make(facts, policy)
    if made["needs"] == "syscalls":
        facts["syscalls"] = rules_of(found)
        made = planner.make(facts, policy)
    return made


def offer(made):
    return next((text for text in made["warnings"] if "falco_tune_restore_rules" in text), None)


@pytest.mark.parametrize("found, lost", [
    (narrowed(repair=True), ["shadow", "shells", "debuggers"]),
    (narrowed("!fcntl", repair=False), ["shadow", "shells"]),
    (narrowed("execve", "execveat", "clone", "clone3", "fork", "vfork", "close", "connect", repair=False),
     ["shadow", "shells", "debuggers"]),
    (narrowed("!ptrace", repair=False), ["debuggers"])])
def test_the_offer_names_what_comes_back_and_what_it_costs_and_changes_nothing(found, lost):
    made = plan(found)
    assert made["changes"] == [] and made["step"] is None and made["syscalls"] is None
    told = offer(made)
    assert "%d of 3 rules see less than by default" % len(lost) in told and all(name in told for name in lost)
    assert " system calls" in told and " events/s" in told.partition("gives that back")[2]


def test_the_offer_says_in_words_what_is_not_seen():
    told = offer(plan(narrowed("!fcntl", repair=False)))
    assert "unseen: paths relative to a directory handle copied by fcntl (F_DUPFD): grep -r, find, rm -r" in told


@pytest.mark.parametrize("custom_set, repair", [
    ((), True), (("!fcntl",), False), (("!fcntl", "!ptrace"), True), (("execve", "close", "connect"), False), (("!mkdir",), True)])
def test_where_policy_allows_it_the_plan_gives_back_all_that_the_rules_lose(custom_set, repair):
    found = narrowed(*custom_set, repair=repair)
    made = plan(found, **ALLOWED)
    assert made["step"]["name"] == "give_back" and made["coverage"]["half_blind"] == made["coverage"]["wrong_output"] == []
    assert made["coverage"]["blind"] == [] and made["restart_required"] and "falco_tune_restore_rules" not in str(made["warnings"])
    block = made["settings"]["base_syscalls"]
    assert block["repair"] is True and {"fcntl", "recvmsg", "setreuid"} <= set(block["custom_set"])
    assert {name for name in custom_set if not name.startswith("!")} <= set(block["custom_set"])
    assert ("!mkdir" in block["custom_set"]) is ("!mkdir" in custom_set), "an exclusion that takes nothing stays"
    assert "see again what they see by default" in made["step"]["expected"] and " events/s" in made["step"]["expected"]
    after = again(found, made, COOL, drops=0)
    assert sight.in_force(after.facts())["basis"] == "record" and plan(after, **ALLOWED)["changes"] == []
    assert offer(plan(after)) is None


@pytest.mark.parametrize("policy", [{"syscalls": "keep"}, {"base_syscalls": {"repair": True}}])
def test_a_policy_that_speaks_of_the_selection_is_not_answered(policy):
    made = plan(narrowed(repair=True), **policy, **ALLOWED)
    assert made["changes"] == [] and made["step"] is None and offer(made) is None


def test_a_host_that_loses_events_or_is_not_narrowed_is_not_asked():
    assert planner.make(host(COOL, drops=0).facts(), ALLOWED)["needs"] is None
    losing = plan(narrowed(repair=True, cpu=BUSY, drops=60000), **ALLOWED)
    assert (losing["step"] or {"name": None})["name"] != "give_back" and offer(losing) is None


def test_a_host_that_does_not_tell_its_rules_gets_neither():
    facts = narrowed(repair=True).facts()
    facts["syscalls"] = {"rules": [], "selected": [], "profile": None, "reason": "falco -L printed no JSON"}
    made = planner.make(facts, ALLOWED)
    assert made["changes"] == [] and made["needs"] is None and offer(made) is None


def test_what_was_rolled_back_is_not_tried_again():
    found = narrowed(repair=True)
    made = plan(found, **ALLOWED)
    after = again(found, made, COOL, drops=0)
    record = after.facts()["host"]["record"]
    attempts = [dict(item, rolled_back=True) for item in record["attempts"]]
    undone = narrowed(repair=True).but(record=dict(record, attempts=attempts))
    refused = plan(undone, **ALLOWED)
    assert refused["step"] is None and any("not given back: it was tried before and rolled back" in text for text in refused["warnings"])


CALLS = st.sampled_from("openat open dup2 ptrace fcntl recvmsg accept accept4 setreuid mkdir execve clone".split())
ENTRIES = st.lists(st.builds("{}{}".format, st.sampled_from(["", "!"]), CALLS), max_size=5, unique_by=lambda item: item.lstrip("!"))


@settings(max_examples=40, deadline=None)
@given(custom_set=ENTRIES, repair=st.booleans())
def test_whatever_is_in_force_nothing_is_lost_afterwards(custom_set, repair):
    made = plan(narrowed(*custom_set, repair=repair), **ALLOWED)
    if made["step"]:
        assert all(made["coverage"][kind] == [] for kind in coverage.KINDS)
    else:
        assert made["changes"] == []
