# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trials: what a host's answer means, and what comes next."""

import copy
import json

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import dry_run, releases, selections
from ansible_collections.falcotune.fleet.plugins.plugin_utils._trial import comparisons, outcomes, tests
from ansible_collections.falcotune.fleet.tests.unit.hosts import FOLDER, Host, fragment, measured
from hypothesis import given
from hypothesis import strategies as st

NEWEST = releases.release_for("0.44.1")
PREFIX = "Tue Nov 24 12:00:00 2026: "
GUIDE = tests.predicted(tests.complete("guide"), NEWEST)


def printed(selection):
    """The stderr of a dry run that selected this."""
    return "".join(PREFIX + line + "\n" for line in ["Falco version: 0.44.1 (x86_64)", *dry_run.lines(selection)])


def answered(number, events=100000, drops=0, **more):
    """What a host answers to the guide's test of this number, from 0."""
    return {"state": "ran", "reason": None, "dry_run": printed(GUIDE[number]), "pair": measured(events, drops, 60.0), "cpus": 8,
            "cpu": {"seconds": 60.0, "on": 3.0, "waiting": 0.6}, **more}


def entry(number, answer, accepted=1.0, rules=None):
    return outcomes.result(tests.GUIDE[number], answer, GUIDE[number], NEWEST, accepted, rules)


@pytest.mark.parametrize("answer,state,said", [
    (answered(0), "clean", None),
    (answered(0, drops=1000), "accepted", "1000 of 100000 events lost (1 %): uncategorised 1000"),
    (answered(0, drops=1001), "dropping", "1001 of 100000"),
    (answered(0, state="aborted", reason="the load is 99", pair=None), "aborted", "the load is 99"),
    (answered(0, state="failed", reason="Falco ended: x", pair=None), "failed", "Falco ended: x"),
    (answered(0, pair={"reason": "only one snapshot"}), "failed", "only one snapshot"),
    (answered(0, dry_run=None), "failed", "no output of a dry run"),
    (answered(0, dry_run=printed(GUIDE[0]) + "Error: broken\n"), "failed", "did not get through its dry run"),
    (answered(0, state="checked", pair=None, cpu=None), "skipped", "check mode: 7 system calls"),
    (answered(0, dry_run=printed(GUIDE[2])), "clean", "other system calls than expected (+accept"),
    (answered(0, cpu={"seconds": 60, "on": 57, "waiting": 1}), "clean", "95 % of a CPU"),
    ({}, "failed", "no output of a dry run"),
    (dict.fromkeys(answered(0), [1]), "failed", ""),
    (dict.fromkeys(answered(0), "x"), "failed", ""),
])
def test_what_an_answer_means(answer, state, said):
    found = entry(0, answer)
    assert found["state"] == state
    assert found["reason"] is None if said is None else said in found["reason"]
    assert set(found) == {*outcomes.EMPTY, *tests.KEYS}
    json.dumps(found, allow_nan=False)


def test_numbers_of_a_test():
    found = entry(1, answered(1, events=480000, drops=4800, pair=measured(480000, 4800, 60.0, n_drops_buffer_open_exit=4800)))
    assert (found["events_per_second"], found["rate_per_cpu"], found["drops_percent"]) == (8000.0, 1000.0, 1.0)
    assert (found["falco_cpu_percent"], found["falco_wait_percent"], found["seconds"]) == (5.0, 1.0, 60.0)
    assert found["drops_by_category"] == {"open": 4800} and found["selected"] == GUIDE[1]["selected"]


@pytest.mark.parametrize("cpu", [None, [], {"seconds": 0, "on": 1, "waiting": 1}, {"seconds": 60, "on": -1, "waiting": float("nan")},
                                 {"seconds": "60", "on": "1", "waiting": True}])
def test_cpu_times_that_cannot_be(cpu):
    found = entry(0, answered(0, cpu=cpu))
    assert (found["falco_cpu_percent"], found["falco_wait_percent"]) == (None, None) and found["state"] == "clean"


LISTED = json.dumps({"rules": [
    {"info": {"name": name, "priority": priority, "source": "syscall", "tags": [], "enabled": True},
     "details": {"events": ["asyncevent", *calls], "condition_compiled": "evt.type in (%s)" % ", ".join(calls)}}
    for name, priority, calls in (("Shell", "Notice", ["execve"]), ("Read", "Warning", ["open", "openat"]), ("Quiet", "Debug", ["connect"]),
                                  ("Both", "Error", ["execve", "connect"]))]})


def test_which_rules_a_set_would_blind():
    host = Host().with_file(FOLDER + "/rules.yaml", fragment(priority="notice", rules=[{"disable": {"rule": "nothing"}}]))
    rules, problem = outcomes.production_rules(LISTED, host.facts(), NEWEST)
    assert problem is None
    found = entry(0, answered(0), rules=rules)
    assert (found["rules_total"], found["rules_blind"], found["rules_half_blind"]) == (3, ["Read"], ["Both"])
    assert all(set(way["rules"]) <= {"Read", "Both", *found["rules_wrong_output"]} for way in found["unseen"])
    assert outcomes.production_rules(None, host.facts(), NEWEST)[1] and outcomes.production_rules("{", host.facts(), NEWEST)[1]


# --- what comes next -----------------------------------------------------------------------------------------------


def campaign(answers, accepted=1.0):
    """The guide's campaign with these answers, as the action runs it."""
    done = []
    for number, answer in enumerate(answers):
        reason = outcomes.skipped(GUIDE[number], done)
        done.append(outcomes.unrun(tests.GUIDE[number], reason) if reason else entry(number, answer, accepted))
    return done, outcomes.verdict(done, accepted)


def answers(*losses, events=(100000, 200000, 300000, 400000, 500000)):
    return [answered(number, events[number], int(events[number] * lost / 100)) for number, lost in enumerate(losses)]


@pytest.mark.parametrize("losses,states,verdict,largest", [
    ((0, 0, 0, 0, 0), ["clean"] * 5, "largest", "T5 files"),
    ((0, 0, 0, 0, 7), ["clean"] * 4 + ["dropping"], "largest", "T4 clients"),
    ((0, 0, 0, 0.5, 7), ["clean"] * 3 + ["accepted", "dropping"], "largest", "T4 clients"),
    ((9, 0, 0, 0, 0), ["dropping"] + ["skipped"] * 4, "too_busy", None),
    ((0, 2, 2, 2, 2), ["clean"] + ["dropping"] * 4, "largest", "T1 processes"),
])
def test_campaigns(losses, states, verdict, largest):
    done, found = campaign(answers(*losses))
    assert [item["state"] for item in done] == states
    assert (found["verdict"], found["largest"]) == (verdict, largest), found


def test_losses_that_are_no_matter_of_load_are_told_apart():
    pair = measured(1000, 990, 60.0, n_drops_page_faults=900)
    reason = campaign([answered(0, pair=pair), None, None, None, None])[1]["reason"]
    assert "(page_faults 900, uncategorised 90)" in reason and "do not help" in reason and "too busy" not in reason
    assert "too busy for Falco" in campaign(answers(9, 0, 0, 0, 0))[1]["reason"]


def test_a_largest_set_that_keeps_falco_busy_is_said_to():
    made = [answered(0), answered(1, cpu={"seconds": 60, "on": 59.4, "waiting": 0.1})]
    reason = outcomes.verdict([entry(number, answer) for number, answer in enumerate(made)], 1.0)["reason"]
    assert reason.startswith("T2 repair: 18 system calls") and ". But Falco used 99 % of a CPU" in reason


def test_of_equal_sets_the_one_with_more_calls_is_larger():
    done, found = campaign(answers(0, 0, 0, 0, 0, events=(5, 5, 5, 5, 5)))
    assert found["largest"] == "T2 repair"


def test_a_set_that_holds_another_is_larger_whatever_the_load_was():
    """As measured on a real Falco: 196 events/s with the first set, and 148 with the second some seconds later."""
    done = [entry(0, answered(0, 1960)), entry(1, answered(1, 1480))]
    assert outcomes.verdict(done, 1.0)["largest"] == "T2 repair"


def test_a_set_that_holds_a_losing_one_is_not_run():
    done = [entry(3, answered(3, drops=50000))]
    assert "has all system calls of T4 clients" in outcomes.skipped(selections.select(NEWEST, tests.RULE_CALLS, [
        *tests.GUIDE[3]["custom_set"], "open"]), done)
    assert outcomes.skipped(GUIDE[4], done) is None


def test_an_aborted_test_ends_the_campaign():
    done, found = campaign([answered(0), answered(1, state="aborted", reason="the load is 9", pair=None), None, None, None])
    assert [item["state"] for item in done] == ["clean", "aborted", "skipped", "skipped", "skipped"]
    assert found == {"verdict": "aborted", "reason": "T2 repair: the load is 9", "largest": "T1 processes"}


def test_nothing_but_failures():
    done = [entry(number, answered(number, state="failed", reason="Falco ended: a %d" % number, pair=None)) for number in range(5)]
    assert outcomes.verdict(done, 1.0) == {"verdict": "failed", "reason": "T1 processes: Falco ended: a 0", "largest": None}
    assert outcomes.verdict([outcomes.unrun(test, "too old", "failed") for test in tests.GUIDE], 1.0)["reason"] == "too old"


def test_lines_are_plain_text():
    item = dict(entry(0, answered(0, state="failed", reason="{{ 1 }} \x1b[2J\n\u202e", pair=None)), name="a\u0007b")
    found = {**outcomes.verdict([item], 1.0), "tests": [item]}
    for text in outcomes.lines(found):
        assert text.isprintable()
    assert "\\x1b[2J\\x0a" in " ".join(outcomes.lines(found))


# --- what holds for any answers ------------------------------------------------------------------------------------

loss = st.sampled_from([0, 0, 0.2, 0.9, 1.1, 5, 60, 100])
outcome = st.tuples(st.sampled_from(["ran", "ran", "ran", "ran", "aborted", "failed"]), st.integers(1, 10 ** 7), loss,
                    st.none() | st.integers(0, 100))


@given(st.lists(outcome, min_size=5, max_size=5), st.sampled_from([0, 0.5, 1.0, 10.0]))
def test_any_campaign(made_outcomes, accepted):
    made = []
    for number, (state, events, lost, cpu) in enumerate(made_outcomes):
        made.append(answered(number, events, int(events * lost / 100), state=state))
        if state != "ran":
            made[-1].update(pair=None, reason="why")
        if cpu is not None:
            made[-1]["cpu"] = {"seconds": 60, "on": cpu, "waiting": 0}
    done, found = campaign(copy.deepcopy(made), accepted)
    assert (done, found) == campaign(copy.deepcopy(made), accepted)
    assert outcomes.verdict(list(reversed(done)), accepted)["largest"] == found["largest"]
    by_name = {item["name"]: item for item in done}
    for number, item in enumerate(done):
        assert (item["state"] == "clean") <= (item["drops"] == 0)
        assert (item["state"] == "accepted") <= (0 < (item["drops_percent"] or 0) <= accepted)
        assert (item["state"] == "dropping") <= ((item["drops_percent"] or 0) > accepted)
        if item["state"] in ("clean", "accepted"):
            # Nothing that it watches all of has lost too much, and it is not larger than the largest.
            assert not any(other["state"] == "dropping" and set(other["selected"]) <= set(item["selected"]) for other in done[:number])
            inner = any(set(item["selected"]) < set(other["selected"]) for other in done if other["state"] in ("clean", "accepted"))
            assert inner or by_name[found["largest"]]["events_per_second"] >= item["events_per_second"]
    if found["largest"]:
        assert by_name[found["largest"]]["state"] in ("clean", "accepted")
        assert found["verdict"] in ("largest", "aborted")
    if found["verdict"] == "too_busy":
        assert any(item["state"] == "dropping" for item in done) and not any(item["state"] in ("clean", "accepted") for item in done)
    assert found["reason"] and all(text.isprintable() for text in outcomes.lines({**found, "tests": done}))


# --- rules and plugins -----------------------------------------------------------------------------------------------

RULES = [{"name": "Shell", "enabled": True, "source": "syscall"}, {"name": "Read", "enabled": True, "source": "syscall"},
         {"name": "Off", "enabled": False, "source": "syscall"}]


def of_rules(number, enabled, cpu=3.0, **more):
    """The entry of one run of a test of the guide's advice to try without plugins."""
    names = "".join(PREFIX + "   %s\n" % name for name in enabled)
    dry = printed(GUIDE[1]) + PREFIX + "Enabled rules:\n" + names + PREFIX + "(%d) enabled rules in total\n" % len(enabled)
    answer = answered(1, dry_run=dry, cpu={"seconds": 60.0, "on": cpu, "waiting": 0.6}, **more)
    return outcomes.result(tests.complete("plugins")[number], answer, {"selected": None}, NEWEST, 1.0, RULES)


def compared(*runs):
    """A trial of these tests, each with its runs."""
    found = [comparisons.combined(entries) for entries in runs]
    for place, item in enumerate(found[1:]):
        item["difference"] = comparisons.difference(item, found[place])
    return found


def test_a_test_of_rules_names_the_rules_that_it_did_not_load():
    found = of_rules(1, ["Read"])
    assert (found["state"], found["reason"]) == ("clean", None)
    assert (found["rules_total"], found["rules_removed"], found["rules_blind"]) == (1, ["Shell"], [])
    assert found["cpu_per_million"] == 30.0


def test_a_trial_of_rules_is_a_comparison_and_names_no_largest_set():
    found = compared([of_rules(0, ["Shell", "Read"])] * 2, [of_rules(1, ["Read"], cpu=1.5)] * 2)
    told = outcomes.verdict(found, 1.0)
    assert (told["verdict"], told["largest"]) == ("compared", None)
    assert "without their rules, compared with as it is in 2 pairs of runs: CPU for each million events: 15 s less (50 %" in told["reason"]
    shown = outcomes.lines({**told, "tests": found})
    assert shown[0] == "verdict: compared" and "15 s less" in shown[1] and "without the rules Shell" in shown[1]


@pytest.mark.parametrize("states,verdict", [
    (["clean", "failed"], "failed"), (["dropping", "skipped"], "none"), (["clean", "aborted"], "aborted")])
def test_a_trial_of_rules_that_compared_nothing(states, verdict):
    found = [outcomes.unrun(test, "why", state) for test, state in zip(tests.complete("plugins"), states)]
    assert outcomes.verdict(found, 1.0)["verdict"] == verdict


def test_a_test_of_rules_runs_whatever_the_others_lost():
    losing = {**of_rules(0, ["Shell"]), "state": "dropping"}
    assert outcomes.skipped({"selected": None}, [losing]) is None
    assert outcomes.skipped({"selected": None}, [{**losing, "state": "aborted"}]) == "not run: as it is was aborted"
