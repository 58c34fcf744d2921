# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report model: what hosts' results become, and what is said of them."""

import copy
import itertools
import random
import typing

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils import _contracts
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import models, rollouts, shape, trials
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rollout import batching, progress, records
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies, verdicts, windows
from ansible_collections.falcotune.fleet.tests.benchmarks import synthetic_audit, synthetic_rollout
from ansible_collections.falcotune.fleet.tests.unit import hostile
from hypothesis import given, strategies as st

POLICY, META = synthetic_audit.POLICY, synthetic_audit.META


def judged(name, state, drops=None, rate=500.0, **more):
    """A host's result with just a verdict."""
    return dict({"name": name, "status": "ok", "verdict": {
        "state": state, "drops_percent": drops, "rate_per_cpu_guide": rate, "bottleneck": "none", "next_step": "none", "advice": "",
        "reasons": [], "cost": {}}}, **more)


def assembled(*hosts, previous=None, **policy):
    return models.assemble(hosts, dict(POLICY, **policy), META, previous)


def fleet(*hosts, **more):
    return assembled(*hosts, **more)["fleet"]


def then(state, drops=0.0, at="2026-11-23T13:00:00Z"):
    return {"at": at, "state": state, "drops_percent": drops, "rate_per_cpu_guide": 500.0}


# Percentiles

@pytest.mark.parametrize("values, expected", [
    ([7], (7, 7, 7, 7, 7)),
    ([1, 2], (1, 2, 2, 2, 2)),
    (range(1, 11), (5, 9, 10, 10, 10)),
    (range(1, 101), (50, 90, 99, 100, 100)),
    (range(1, 1001), (500, 900, 990, 999, 1000)),
    (range(1, 10001), (5000, 9000, 9900, 9990, 10000)),
    ([0] * 999 + [84.2], (0, 0, 0, 0, 84.2)),
    ([], (None,) * 5),
])
def test_percentiles_by_nearest_rank(values, expected):
    assert tuple(models.percentiles(values).values()) == expected


@given(st.lists(st.floats(0, 100), min_size=1), st.sampled_from(models.PERCENTILES))
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(values, percentile):
    name, share = percentile
    found = models.percentiles(values)[name]
    needed = share * len(values)
    assert found in values
    assert 1000 * sum(value <= found for value in values) >= needed
    assert 1000 * sum(value < found for value in values) < needed


def test_percentiles_are_of_measured_hosts_only():
    found = fleet(judged("a", "dropping", 8.0), judged("b", "unmeasured", 50.0), judged("c", "blind", 90.0), judged("d", "healthy", 0.0),
                  {"name": "e", "status": "unreachable"})["percentiles"]
    assert found["measured"] == 2
    assert found["drops_percent"]["max"] == 8.0
    assert found["method"] == "nearest-rank"


# The fleet

def test_an_empty_fleet():
    found = fleet()
    assert (found["hosts"], found["ok"], found["drops_percent"], found["breaches"]) == (0, 0, None, [])
    assert found["headline"] == "No hosts were audited."


def test_every_word_is_counted_even_where_nobody_has_it():
    found = fleet(judged("a", "healthy", 0.0))
    assert found["states"] == dict(dict.fromkeys(shape.STATES, 0), healthy=1)
    assert found["bottlenecks"] == dict(dict.fromkeys(shape.BOTTLENECKS, 0), none=1)
    assert list(found["next_steps"]) == list(verdicts.STEPS)


def test_a_host_that_answered_without_verdict_is_unmeasured():
    assert fleet({"name": "a", "status": "ok"})["states"]["unmeasured"] == 1


def test_a_host_that_could_not_be_audited_has_no_state():
    found = fleet({"name": "a", "status": "unreachable"}, {"name": "b", "status": "failed"}, {"name": "c", "status": "strange"})
    assert sum(found["states"].values()) == 0
    assert (found["unreachable"], found["failed"]) == (["a"], ["b", "c"])


def test_sums_are_of_measured_windows():
    def window(**values):
        return dict(windows.EMPTY, basis="counters", events=1000, drops=10, **values)

    found = fleet(judged("a", "dropping", 1.0, window=window()), judged("b", "healthy", 0.0, window=dict(window(), drops=0)),
                  judged("c", "unmeasured", window=window()), judged("d", "dropping", window=dict(window(), basis="drop alerts")))
    assert (found["events"], found["drops"], found["drops_percent"]) == (2000, 10, 0.5)


def predicted(name, lost, said, against="buffer", **more):
    host = judged(name, "dropping", lost, driver="modern_ebpf", **{"release": "0.44.1", "cpus": 8, **more})
    host["verdict"]["answer"] = {"kind": "improved", "text": "x", "predicted": said, "against": against}
    return host


def test_predictions_are_told_by_classes_of_hosts_the_worst_first():
    found = fleet(predicted("a", 5.0, 4.0), predicted("b", 7.0, 4.0), predicted("c", 50.0, 20.0, cpus=64), predicted("d", 50.0, None),
                  predicted("e", 5.0, 5.5, "starved"), judged("f", "dropping", 9.0))["predictions"]
    assert (found["hosts"], found["median_error"], found["p90_error"]) == (4, 1.0, 30.0)
    assert [(item["cpus"], item["against"], item["hosts"], item["median_error"], item["p90_error"]) for item in found["by_class"]] == [
        (64, "buffer", 1, 30.0, 30.0), (8, "buffer", 2, 1.0, 3.0), (8, "starved", 1, 0.5, 0.5)]
    many = fleet(*(predicted("h%d" % number, 9.0, 0.0, cpus=number) for number in range(99)))["predictions"]
    assert many["hosts"] == 99 and len(many["by_class"]) == models.MOST_CLASSES


def test_drifting_and_restart_required_are_named():
    found = fleet(judged("b", "healthy", 0.0, drift=[{"kind": "disk", "what": "x"}]), judged("a", "healthy", 0.0, plan={
        "changes": [], "restart_required": True}))
    assert (found["drifting"], found["restart_required"]) == (["b"], ["a"])


def test_hosts_are_sorted_by_name():
    assert [host["name"] for host in assembled(judged("b", "healthy"), judged("a", "healthy"))["hosts"]] == ["a", "b"]


# The head line

@pytest.mark.parametrize("hosts, expected", [
    ([judged("a", "healthy", 0.0)], "None of 1 host loses events."),
    ([judged("a", "healthy", 0.0), judged("b", "acceptable", 0.4)],
     "None of 2 hosts loses more than the accepted 1 % of events; 1 loses a little."),
    ([judged("a", "dropping", 84.23), judged("b", "healthy", 0.0)], "1 of 2 hosts loses events, the worst 84.2 %."),
    ([judged("a", "dropping", 2.0), judged("b", "overloaded", 31.0)], "2 of 2 hosts lose events, the worst 31 %."),
    ([judged("a", "dropping", None)], "1 of 1 host loses events."),
    ([judged("a", "blind"), judged("b", "blind")], "Nothing is known about the losses of 2 hosts; 2 are blind."),
    ([judged("a", "healthy", 0.0), judged("b", "no_syscalls")], "None of 1 host loses events; 1 watches no system calls."),
    ([judged("a", "healthy", 0.0), judged("b", "unmeasured"), {"name": "c", "status": "unreachable"}, {"name": "d", "status": "failed"}],
     "None of 1 host loses events; 1 could not be measured; 1 could not be reached; 1 failed."),
])
def test_headline(hosts, expected):
    assert fleet(*hosts)["headline"] == expected


@pytest.mark.parametrize("value, expected", [
    (0, "0"), (0.0123456, "0.0123"), (84.23, "84.2"), (100.0, "100"), (1240.4, "1240"), (164000.0, "164000"), (0.00001, "less than 0.0001"),
    (None, "unknown"), (99.96, "100")])
def test_numbers_for_people_have_no_exponent(value, expected):
    assert models.number_text(value) == expected


def kind_of(kind, *hosts, rollout=None):
    return models.assemble(hosts, POLICY, dict(META, kind=kind), None, rollout)["fleet"]["headline"]


def tried(*verdicts):
    return [{"name": "host-%d" % number, "status": "ok", "trial": {"verdict": verdict}} for number, verdict in enumerate(verdicts)]


@pytest.mark.parametrize("verdicts, expected", [
    ([], "No host was tried."),
    (["largest"], "1 host was tried: 1 has a set that loses no more than accepted."),
    (["largest", "largest", "too_busy", "nonsense"],
     "4 hosts were tried: 2 have a set that loses no more than accepted; 1 is too busy even for the smallest set; 1 failed."),
    (["none", "aborted"], "2 hosts were tried: 1 has none; 1 was aborted."),
])
def test_headline_of_trials(verdicts, expected):
    assert kind_of("trial", *tried(*verdicts)) == expected
    assert "tried" not in kind_of("audit", *tried(*verdicts))


@pytest.mark.parametrize("record, expected", [
    ({}, "The rollout stopped: 0 of 0 hosts changed."),
    ({"state": "awaiting_promotion", "planned": {"changing": 40}, "left": ["a"] * 37, "batches": [
        {"hosts": [{"outcome": "done"}, {"outcome": "done"}, {"outcome": "reverted"}]}]},
     "The rollout waits for promotion: 2 of 40 hosts changed; 1 reverted; 37 left."),
    ({"state": "finished", "batches": [{"hosts": [{"outcome": "done"}]}, {"hosts": [{"outcome": "staged"}, {"outcome": "what"}]}]},
     "The rollout is finished: 1 of 3 hosts changed; 1 failed, 1 staged."),
])
def test_headline_of_a_rollout(record, expected):
    assert kind_of("rollout", rollout=record) == expected


def test_a_rollout_of_five_thousand_hosts_keeps_them_all():
    record = synthetic_rollout.rollout(["host-%d" % number for number in range(6000)], stop=20, wrong=0.004)
    found = models.assemble([], POLICY, META, None, record)["rollout"]
    assert sum(len(batch["hosts"]) for batch in found["batches"]) + len(found["left"]) == 6000
    assert found["planned"]["bytes"] < 0


# Against the last audit

@pytest.mark.parametrize("now, was, expected", [
    (("healthy", 0.0), ("healthy", 0.0), None),
    (("dropping", 3.0), ("healthy", 0.0), "worse"),
    (("healthy", 0.0), ("overloaded", 30.0), "better"),
    (("blind", None), ("healthy", 0.0), "worse"),
    (("blind", None), ("unmeasured", None), "worse"),
    (("blind", None), ("blind", None), None),
    (("dropping", 30.0), ("blind", None), "better"),
    # within the tolerance: half a point, a fifth
    (("dropping", 10.4), ("dropping", 10.0), None),
    (("dropping", 11.9), ("dropping", 10.0), None),
    (("dropping", 12.1), ("dropping", 10.0), "worse"),
    (("dropping", 7.9), ("dropping", 10.0), "better"),
    (("acceptable", 0.5), ("healthy", 0.0), None),
    (("acceptable", 0.6), ("healthy", 0.0), "worse"),
    (("overloaded", 10.0), ("dropping", 10.0), None),
    (("overloaded", 5.0), ("dropping", 10.0), "better"),
    # no comparison
    (("unmeasured", None), ("dropping", 10.0), None),
    (("dropping", 10.0), ("unmeasured", None), None),
    (("dropping", None), ("dropping", 10.0), None),
    (("dropping", 10.0), (None, None), None),
])
def test_better_and_worse(now, was, expected):
    found = fleet(judged("a", *now), previous={"a": then(*was)})["since_last"]
    assert {name: found[name] for name in ("better", "worse") if found[name]} == ({expected: ["a"]} if expected else {})


def test_an_unreachable_host_is_neither_better_nor_worse():
    found = fleet({"name": "a", "status": "unreachable"}, previous={"a": then("healthy")})["since_last"]
    assert (found["better"], found["worse"], found["new"], found["gone"]) == ([], [], [], [])


def test_new_and_gone():
    found = fleet(judged("a", "healthy", 0.0), judged("n", "healthy", 0.0), previous={
        "a": then("healthy", at="2026-11-20T00:00:00Z"), "g": then("healthy"), "old": then("healthy", at="2026-11-22T00:00:00Z"),
        "never": {"at": None, "seen": "2026-11-23T13:00:00Z", "state": None, "drops_percent": None, "rate_per_cpu_guide": None}})
    assert found["since_last"] == {"at": "2026-11-23T13:00:00Z", "better": [], "worse": [], "new": ["n"], "gone": ["g", "never"]}


@pytest.mark.parametrize("previous", [None, {}])
def test_the_first_audit_calls_nobody_new(previous):
    assert fleet(judged("a", "healthy", 0.0), previous=previous)["since_last"] == {
        "at": None, "better": [], "worse": [], "new": [], "gone": []}


def test_a_host_brings_what_it_was():
    host = assembled(judged("a", "healthy", 0.0), previous={"a": dict(then("dropping", 4.0), seen="2026-11-23T14:00:00Z")})["hosts"][0]
    assert host["previous"] == then("dropping", 4.0)


# fail_on

def everything():
    """One host for every rule."""
    hosts = [judged(state, state, 0.5 if state == "acceptable" else 5.0) for state in ("blind", "dropping", "overloaded", "acceptable")]
    hosts += [judged("unmeasured", "unmeasured"), {"name": "unreachable", "status": "unreachable"}, {"name": "failed", "status": "failed"},
              judged("worse", "dropping", 50.0), judged("drift", "healthy", 0.0, drift=[{"kind": "disk"}]),
              judged("restart_required", "healthy", 0.0, plan={"restart_required": True}),
              judged("blind_rules", "healthy", 0.0, sight={"basis": "record", "reason": None, "rules_total": 9, "blind": [],
                                                           "half_blind": ["Read"], "wrong_output": []})]
    return hosts


@pytest.mark.parametrize("rule", models.RULES)
def test_each_rule_finds_its_host_and_only_by_policy(rule):
    previous = {"worse": then("healthy")}
    found = fleet(*everything(), previous=previous, fail_on=[rule], accepted_hosts_percent=100)["breaches"]
    assert len(found) == 1 and found[0]["rule"] == rule and rule in found[0]["hosts"] and found[0]["text"]
    calm = [host for host in everything() if host["name"] not in (rule, "worse")]
    assert not fleet(*calm, fail_on=[rule], accepted_hosts_percent=100)["breaches"]


def test_breaches_come_in_the_order_of_the_rules_whatever_policy_says():
    found = fleet(*everything(), previous={"worse": then("healthy")}, fail_on=list(reversed(models.RULES)))
    assert list(dict.fromkeys(item["rule"] for item in found["breaches"])) == list(models.RULES)


def test_nothing_fails_without_a_rule():
    assert not fleet(*everything(), fail_on=[])["breaches"]


@pytest.mark.parametrize("accepted, measured, breach", [
    (1, 20, False), (2, 20, True), (5, 100, False), (6, 100, True), (1, 1, True), (0, 5, False)])
def test_a_little_loss_is_acceptable_on_few_hosts_only(accepted, measured, breach):
    hosts = [judged("%03d" % number, "acceptable" if number < accepted else "healthy", 0.5 if number < accepted else 0.0)
             for number in range(measured)]
    hosts.append(judged("unmeasured", "unmeasured"))
    found = fleet(*hosts, fail_on=["dropping"])["breaches"]
    assert bool(found) == breach
    if breach:
        assert found[0]["rule"] == "dropping" and len(found[0]["hosts"]) == accepted
        assert "%d of %d measured host" % (accepted, measured) in found[0]["text"] and "at most 5 %" in found[0]["text"]
    assert not fleet(*hosts, fail_on=["blind"])["breaches"]


@pytest.mark.parametrize("given, told", [
    (["droping"], "'droping', which is not a rule (did you mean dropping?); the rules are blind, dropping"),
    (["restart"], "did you mean restart_required?"),
    (["xyz"], "'xyz', which is not a rule; the rules are"),
    ("dropping", "expected a list"),
    (None, "expected a list"),
    ([["dropping"]], "which is not a rule"),
    ([None], "which is not a rule"),
])
def test_a_wrong_rule_is_told_with_the_nearest(given, told):
    with pytest.raises(policies.PolicyError) as caught:
        assembled(fail_on=given)
    assert "falco_audit_fail_on" in str(caught.value) and told in str(caught.value)


# Anything may come

def test_every_key_is_there_however_little_came():
    model = assembled({"name": "a"}, None, 5, {})
    full = models.assemble(synthetic_audit.audit_results(1), POLICY, META)["hosts"][0]
    assert all(list(host) == list(full) for host in model["hosts"])


def test_the_window_is_the_one_of_the_contract():
    host = assembled(judged("a", "healthy", window=dict(windows.EMPTY)))["hosts"][0]
    assert {*host["window"], "snapshot", "losing", "losing_cpus"} == set(windows.EMPTY)
    assert all(host["window"][name] == value for name, value in windows.EMPTY.items() if name not in ("snapshot", "losing", "losing_cpus"))


def test_there_is_one_list_of_each_kind_of_state():
    assert set(shape.CONDITIONS) == {*shape.STATES, *shape.STATUSES} - {"ok"}
    assert set(shape.MEASURED) < set(shape.STATES) == set(typing.get_args(_contracts.State))
    assert set(trials.ORDER) == set(shape.TRIALS) == set(trials.SAID) and set(batching.BAD) < set(shape.OUTCOMES)
    assert set(rollouts.SAID) == set(records.SAID) == set(shape.ROLLOUTS) and set(progress.ALWAYS_SHOWN) < set(shape.OUTCOMES)


def test_words_of_the_verdict_are_known_here():
    known = set(shape.STATES)
    assert {host["verdict"]["state"] for host in assembled(*(judged(state, state) for state in known))["hosts"]} == known
    assert set(verdicts.STEPS) == set(shape.NEXT_STEPS)


@pytest.mark.parametrize("seed", range(4))
def test_any_value_anywhere_makes_a_model(seed):
    chance = random.Random(seed)
    base = synthetic_audit.audit_results(8, seed, history=2)
    for value, host in itertools.product(hostile.VALUES, base):
        spoiled = copy.deepcopy(host)
        parts = [spoiled] + [part for part in spoiled.values() if isinstance(part, dict)]
        part = chance.choice(parts)
        part[chance.choice(list(part))] = value
        model = assembled(spoiled, host)
        assert len(model["hosts"]) == 2


def test_kinds_of_str_and_int_become_plain():
    class Unsafe(str):
        pass

    class Tagged(int):
        pass

    host = assembled({"name": Unsafe("a"), "cpus": Tagged(8), "status": Unsafe("ok"), "release": Unsafe("é")})["hosts"][0]
    assert [type(host[name]) for name in ("name", "cpus", "status", "release")] == [str, int, str, str]


def test_history_keeps_the_newest_points():
    host = assembled({"name": "a", "history": [[number, "healthy", 0.0, 1.0, 60.0] for number in range(100)] + ["x", [1]]})["hosts"][0]
    assert len(host["history"]) <= shape.MAX_HISTORY and host["history"][-1][0] == 99


def test_the_same_results_make_the_same_model_and_stay_as_they_were():
    results = synthetic_audit.audit_results(50)
    kept = copy.deepcopy(results)
    first = models.assemble(results, POLICY, META, synthetic_audit.previous_of(results))
    assert first == models.assemble(list(reversed(results)), POLICY, META, synthetic_audit.previous_of(results))
    assert results == kept


def test_public_takes_out_the_snapshots_and_leaves_the_model():
    model = synthetic_audit.audit_model(20)
    assert any(host["snapshot"] for host in model["hosts"])
    assert not any(name in host for host in models.public(model)["hosts"] for name in shape.OF_HISTORY)
    assert all(name in host for host in model["hosts"] for name in shape.OF_HISTORY)


def test_worst_first():
    hosts = assembled(judged("h", "healthy", 0.0), judged("d1", "dropping", 3.0), judged("d2", "dropping", 30.0), judged("b", "blind"),
                      {"name": "u", "status": "unreachable"}, judged("busy", "healthy", 0.0, 4000.0))["hosts"]
    assert [host["name"] for host in models.worst_first(hosts)] == ["b", "d2", "d1", "busy", "h", "u"]


@pytest.mark.parametrize("text, seconds", [
    ("1970-01-01T00:00:00Z", 0), ("2026-11-24T13:00:00Z", synthetic_audit.NOW), ("2026-02-31T00:00:00Z", None), ("2026-11-24", None),
    ("2026-11-24T13:00:00+00:00", None), (None, None), (5, None), ("\u0662026-11-24T13:00:00Z", None)])
def test_times(text, seconds):
    assert shape.unix(text) == seconds
    assert seconds is None or shape.iso(seconds) == text
