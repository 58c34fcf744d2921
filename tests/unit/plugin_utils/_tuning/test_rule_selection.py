# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules that policy disables: only those that it lists, named in the plan, and the same on every later run."""

import json

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rollout import hosts
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import ruleset
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules_audit import listed_audits
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import planner, policies
from ansible_collections.falcotune.fleet.tests.unit.hosts import MAIN, SHIPPED, TARGET, Host, change, measured

RULES = [
    {"rule": name, "desc": "d", "output": "o", "priority": priority, "condition": condition, "tags": tags}
    for name, priority, condition, tags in (
        ("Opens by regex", "NOTICE", "evt.type = openat and fd.name regex '.*[0-9]x'", ["files"]),
        ("Every event", "WARNING", "proc.name = x", ["files", "noisy"]),
        ("Programs", "CRITICAL", "evt.type = execve", ["noisy"]),
        ("Opens again", "NOTICE", "evt.type = openat and fd.name regex '.*[0-9]x'", []),
    )
]
LISTED = json.dumps({"required_engine_version": "0.57.0", "lists": [], "macros": [], "rules": [
    {"info": {"name": rule["rule"], "condition": rule["condition"], "priority": rule["priority"].title(), "output": "o", "enabled": True,
              "source": "syscall", "tags": rule["tags"]}, "details": {}} for rule in RULES]})


def facts(host):
    found = host.facts()
    effective = host.effective()
    release = releases.release_for("0.44.1")
    rules = ruleset.resolve([("f", json.dumps(RULES))], release, selection=effective.get("rules") or ())["rules"]
    found["syscalls"] = {"rules": rules, "selected": [], "profile": None, "reason": None, "digest": "x",
                         "audit": listed_audits.audit(LISTED, release, effective)}
    return found


def plan(host, **given):
    return planner.make(facts(host), given)


def disabled(host):
    release = releases.release_for("0.44.1")
    found = ruleset.resolve([("f", json.dumps(RULES))], release, selection=host.effective().get("rules") or ())["rules"]
    return [rule["name"] for rule in found if not rule["enabled"]]


HOST = Host()


@pytest.mark.parametrize("given, gone", [
    ({}, []),
    ({"disabled_rules": ["Opens by regex"]}, ["Opens by regex"]),
    ({"disabled_rules": ["Opens*"]}, ["Opens by regex", "Opens again"]),
    ({"disabled_tags": ["noisy"]}, ["Every event"]),  # Programs is critical, so it is protected
    ({"disabled_tags": ["noisy"], "protected_priority": "none"}, ["Every event", "Programs"]),
    ({"disabled_findings": ["no_evttype"]}, ["Every event"]),
    ({"disabled_findings": ["duplicate"]}, ["Opens again"]),
    ({"disabled_rules": ["Programs"], "protected_priority": "emergency"}, ["Programs"]),
])
def test_only_what_policy_lists_is_disabled_and_a_second_run_changes_nothing(given, gone):
    made = plan(HOST, **given)
    after = HOST.after(made)
    assert disabled(after) == gone
    again = plan(after, **given)
    assert change(again, "rules") is None and disabled(after.after(again)) == gone
    # Another change writes the fragment anew: what is disabled stays, and the entries do not grow.
    more = after.after(planner.make(facts(after), {**given, "buf_size_preset": 7}))
    assert disabled(more) == gone and len(more.effective().get("rules") or []) == len(gone)
    # Policy that no longer lists them: they alert again.
    released = more.after(plan(more, buf_size_preset=7))
    assert disabled(released) == [] and change(plan(released, buf_size_preset=7), "rules") is None


def test_the_plan_names_the_detection_that_is_lost():
    item = change(plan(HOST, disabled_tags=["noisy"]), "rules")
    assert item["from"] is None and item["to"] == [{"disable": {"rule": "Every event"}}]
    assert item["why"] == "these rules no longer alert, by policy: Every event (warning, tags files, noisy; tag noisy)"
    assert "Programs (tag noisy) is not disabled: it is protected" in plan(HOST, disabled_tags=["noisy"])["warnings"]


def test_entries_of_others_stay_before_ours():
    main = SHIPPED + "rules: [{disable: {tag: files}}, {enable: {rule: Opens by regex}}]\n"
    host = Host().with_file(MAIN, main)
    made = plan(host, disabled_rules=["Opens by regex"])
    assert made["settings"]["rules"] == [{"disable": {"rule": "Opens by regex"}}]
    after = host.after(made)
    assert after.effective()["rules"] == [{"disable": {"tag": "files"}}, {"enable": {"rule": "Opens by regex"}},
                                          {"disable": {"rule": "Opens by regex"}}]
    assert change(plan(after, disabled_rules=["Opens by regex"]), "rules") is None
    whole = plan(host, disabled_rules=["Opens by regex"], layout="full")
    assert len(whole["settings"]["rules"]) == 3


def test_a_fragment_after_ours_is_refused():
    host = Host().with_file(TARGET.replace("zz-", "zzz-"), "rules: [{enable: {rule: '*'}}]\n")
    with pytest.raises(planner.PlanError, match="holds the block rules"):
        plan(host, disabled_rules=["Opens by regex"])


def test_what_cannot_be_done_is_refused_or_named():
    with pytest.raises(planner.PlanError, match="names Programs, which falco_tune_protected"):
        plan(HOST, disabled_rules=["Programs"])
    with pytest.raises(planner.PlanError, match="0.37.1 can't disable rules"):
        planner.make(Host(version="0.37.1").facts(), {"disabled_rules": ["x"]})
    found = HOST.facts()
    assert planner.make(found, {"disabled_rules": ["x"]})["needs"] == "syscalls"
    found["syscalls"] = {"rules": [], "selected": [], "profile": None, "reason": "falco -L failed"}
    with pytest.raises(planner.PlanError, match="falco -L failed"):
        planner.make(found, {"disabled_rules": ["x"]})
    made = plan(HOST, disabled_rules=["Opens by regx"], disabled_tags=["fles"])
    assert change(made, "rules") is None
    assert [text for text in made["warnings"] if "this host has no such rule" in text or "no rule of this host has that tag" in text] == [
        "falco_tune_disabled_rules names Opens by regx, and this host has no such rule",
        "falco_tune_disabled_tags names fles, and no rule of this host has that tag"]
    with pytest.raises(policies.PolicyError, match="kinds of findings"):
        planner.make(found, {"disabled_findings": ["no_such"]})


def test_a_saturated_thread_is_told_which_rules_would_save_most_whatever_policy_allows():
    found = listed_audits.audit(LISTED, releases.release_for("0.44.1"), {}, {"counts": {"openat": 500000}, "seconds": 5.0})
    told = listed_audits.advice(found)
    assert any(line.startswith("rules: Every event: no evt.type restricts it") for line in told) and "% of a core" in told[0]
    assert any(line.startswith("rules: Opens again: its condition is that of Opens by regex, which matches first") for line in told)
    assert any("takes" in line and "ns an event" in line for line in told) and len(told) <= 6


def test_the_plan_of_a_saturated_host_names_them():
    busy = Host(age=1000.0, cpu={"on": 970.0, "waiting": 30.0, "throttled": None}, pair=measured(events=300000, drops=60000))
    made = plan(busy)
    assert made["verdict"]["bottleneck"] == "consumer"
    assert any(text.startswith("rules: Every event") for text in made["warnings"])
    assert not any(text.startswith("rules:") for text in plan(HOST)["warnings"])


def test_many_light_rules_of_one_tag_are_named_by_it():
    printed = json.dumps({"rules": [{"info": {"name": "r%d" % number, "condition": "evt.type = openat and fd.name regex '.*%d'" % number,
                                              "output": "o", "priority": "Notice", "tags": ["site", "even"][:1 + (number < 3)]},
                                     "details": {}} for number in range(20)], "macros": [], "lists": []})
    told = listed_audits.advice(listed_audits.audit(printed, releases.release_for("0.44.1"), {}))
    assert told[-1] == "rules: of the 20 heaviest, 20 have the tag site; they take 100 % of what all rules cost"
    assert not any("tag even" in line for line in told) and len(told) == 7


def test_a_host_that_gets_no_change_is_told_of_its_heavy_rules_by_the_rollout():
    busy = Host(age=1000.0, cpu={"on": 970.0, "waiting": 30.0, "throttled": None}, pair=measured(events=300000, drops=60000))
    policy = policies.complete({"syscalls": "keep", "priority": False, "metrics": False})
    known = facts(busy)
    found = hosts.describe(known, planner.make(known, policy), policy, [], None)["loses"]
    assert found.startswith("dropping, bottleneck consumer: ") and "; rules: Every event: no evt.type restricts it" in found


@pytest.mark.parametrize("waiting, given, step", [
    (840.0, {"disabled_rules": ["Opens*"]}, "priority"),
    (840.0, {}, None),  # alone it would leave the host saturated
    (10.0, {"disabled_rules": ["Opens*"]}, None),
    (840.0, {"disabled_rules": ["Opens*"], "priority": False}, None),
])
def test_the_restart_that_takes_rules_away_carries_priority_for_a_thread_that_waits(waiting, given, step):
    """Sixty heavy rules beside ten neighbours on a real 0.44.1: 15 % on a CPU, 85 % waiting, 99 % lost; priority came a restart later."""
    busy = Host(age=1000.0, cpus=2, cpu={"on": 150.0, "waiting": waiting, "throttled": None}, pair=measured(events=600000, drops=594000))
    made = plan(busy, syscalls="keep", **given)
    assert made["verdict"]["bottleneck"] == "consumer", made["verdict"]
    assert (made["step"] and made["step"]["name"]) == step and bool(given) == bool(change(made, "rules"))
    assert (made["unit_dropin"] or {}) == ({"Nice": -10} if step else {})
