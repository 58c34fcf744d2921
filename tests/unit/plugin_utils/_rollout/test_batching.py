# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import random

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rollout import batching
from hypothesis import given
from hypothesis import strategies as st

MODERN, KMOD = ["modern_ebpf", 1, "0.44.1"], ["kmod", 16, "0.38.2"]
STATES = ("changing", "converged", "refused", "unreachable", "waiting")


def host(state="changing", domain=None, kind=MODERN, healthy=None, **more):
    return {"state": state, "class": kind, "domain": domain, "blind_seconds": 3.0 if state == "changing" else 0.0, "bytes": 1 << 20,
            "rules_lost": 0, "healthy": state not in ("refused", "unreachable") if healthy is None else healthy, "reason": None, **more}


def fleet(number, **more):
    return {"h%03d" % index: host(**more) for index in range(number)}


def plan(hosts, **given_policy):
    return batching.plan(hosts, policies.complete(given_policy))


def shapes(found):
    return [(batch["stage"], len(batch["hosts"])) for batch in found["batches"]]


def test_a_canary_first_and_then_growing_batches():
    found = plan(fleet(100), serial=[1, "10%", "50%"])
    assert shapes(found) == [("canary", 1), ("batch", 1), ("batch", 10), ("batch", 50), ("batch", 38)]
    assert [batch["number"] for batch in found["batches"]] == [1, 2, 3, 4, 5]
    assert [name for batch in found["batches"] for name in batch["hosts"]] == list(fleet(100))


def test_a_canary_for_each_class_that_has_no_proven_host():
    hosts = {"a": host(), "b": host(kind=KMOD), "c": host(kind=KMOD), "d": host(), "e": host("converged", kind=MODERN)}
    assert plan(hosts)["batches"][0] == {"number": 1, "stage": "canary", "hosts": ["b"]}
    del hosts["e"]
    assert plan(hosts)["batches"][0]["hosts"] == ["a", "b"]
    assert plan(hosts, canaries=2)["batches"][0]["hosts"] == ["a", "b", "c", "d"]
    assert plan(hosts, canaries=0)["batches"][0]["stage"] == "batch"


def test_a_converged_host_that_is_blind_proves_nothing():
    assert plan({"a": host("converged", healthy=False), "b": host()})["batches"][0]["stage"] == "canary"


def test_a_healthy_canary_is_preferred():
    assert plan({"a": host(healthy=False), "b": host()})["batches"][0]["hosts"] == ["b"]


def test_never_more_than_max_parallel():
    found = plan(fleet(20), canaries=3, serial="100%", max_parallel=2)
    assert shapes(found) == [("canary", 2), ("canary", 1)] + [("batch", 2)] * 8 + [("batch", 1)]


def test_a_batch_takes_the_share_of_each_domain_and_no_more():
    hosts = {"%s%d" % (rack, index): host(domain=rack) for rack in "ab" for index in range(9)}
    found = plan(hosts, canaries=0, serial="100%", domain_share_percent=34)
    assert [sorted(name[0] for name in batch["hosts"]) for batch in found["batches"]] == [list("aaabbb")] * 3
    assert found["domains"] == {"a": {"hosts": 9, "allowed": 3}, "b": {"hosts": 9, "allowed": 3}}


def test_a_domain_of_one_host_may_have_it_changed():
    assert shapes(plan({"a": host(domain="x")}, domain_share_percent=0)) == [("canary", 1)]


def test_hosts_that_are_down_are_named_and_take_their_domains_share():
    hosts = {"a%d" % index: host(domain="a") for index in range(6)}
    hosts["a0"] = host("unreachable", "a")
    hosts["a1"] = host("refused", "a", reason="Falco is not running")
    found = plan(hosts, canaries=0, serial="100%", domain_share_percent=50)
    assert found["down"] == {"a0": "the host cannot be reached", "a1": "Falco is not running"}
    assert shapes(found) == [("batch", 1)] * 4  # 3 may be blind, 2 are
    hosts["a2"] = host("converged", "a", healthy=False)
    found = plan(hosts, canaries=0, serial="100%", domain_share_percent=50)
    assert found["batches"] == [] and list(found["left"]) == ["a3", "a4", "a5"]
    assert found["left"]["a3"] == ("failure domain a: 3 of 6 hosts are down or blind, and at most 3 may be: repair them and run again")


def test_a_blind_host_may_be_changed_in_a_full_domain():
    """Nobody becomes blind by it, and it may be what cures it."""
    hosts = {"a": host("unreachable", "a"), "b": host(domain="a", healthy=False), "c": host(domain="a")}
    found = plan(hosts, canaries=0)
    assert found["batches"] == [{"number": 1, "stage": "batch", "hosts": ["b"]}] and list(found["left"]) == ["c"]


def test_a_refused_host_that_sees_events_is_not_down():
    assert plan({"a": host("refused", healthy=True), "b": host()})["down"] == {}


def test_hosts_without_consent_are_staged_together_at_the_end():
    found = plan({**fleet(2), "w1": host("waiting"), "w2": host("waiting")})
    assert found["batches"][-1]["hosts"] == ["w1", "w2"] and found["totals"]["waiting"] == 2
    assert found["totals"]["restarts"] == 2


def test_totals():
    hosts = {"a": host(rules_lost=2), "b": host(blind_seconds=0.0), "c": host("converged"), "d": host("refused"), "e": host("unreachable")}
    assert plan(hosts)["totals"] == {"hosts": 5, "changing": 2, "converged": 1, "refused": 1, "unreachable": 1, "waiting": 0, "restarts": 1,
                                     "blind_seconds": 3.0, "bytes": 2 << 20, "rules_lost": 2}


def test_nothing_to_do():
    assert plan({"a": host("converged")})["batches"] == []


def test_no_hosts_are_refused_with_a_sentence():
    with pytest.raises(batching.RolloutError, match="no host was examined: expected at least one; check the inventory"):
        plan({})


@pytest.mark.parametrize("value, total, least, found", [
    ("10%", 100, 1, 10), ("10%", 5, 1, 1), ("10%", 5, 0, 0), (3, 5, 1, 3), ("100%", 7, 0, 7)])
def test_share(value, total, least, found):
    assert batching.share(value, total, least) == found


# -- while it runs


def done(names, outcome="done"):
    return {name: {"outcome": outcome, "blind": outcome == "lost"} for name in names}


def test_a_lost_host_keeps_its_place_and_what_no_longer_fits_is_deferred():
    hosts = {"a%d" % index: host(domain="a") for index in range(6)}
    found = plan(hosts, canaries=0, serial="100%", domain_share_percent=34, failure_budget="100%")
    assert shapes(found) == [("batch", 2)] * 3
    outcomes = {**done(["a0"], "lost"), **done(["a1"])}
    admitted, deferred = batching.admit(found, outcomes, found["batches"][1])
    assert admitted == ["a2"] and list(deferred) == ["a3"] and "2 of 6 hosts are down or blind" in deferred["a3"]
    outcomes.update(done(["a2"], "lost"))
    assert batching.admit(found, outcomes, found["batches"][2])[0] == []


def test_a_reverted_host_gives_its_place_back():
    hosts = {"a%d" % index: host(domain="a") for index in range(3)}
    found = plan(hosts, canaries=0)
    assert batching.admit(found, done(["a0"], "reverted"), found["batches"][1]) == (["a1"], {})


@pytest.mark.parametrize("outcome, said", [("reverted", "the canary h000 was reverted"), ("failed", "the canary h000 failed"),
                                           ("lost", "the canary h000 was lost"), ("done", None)])
def test_a_canary_that_fails_stops_the_rollout(outcome, said):
    found = plan(fleet(10), failure_budget="100%")
    assert batching.halt(found, done(["h000"], outcome), found["batches"][0]) == said


def test_the_budget_counts_over_the_whole_rollout():
    found = plan(fleet(40), canaries=0, serial=10, failure_budget=2)
    outcomes = {**done(found["batches"][0]["hosts"]), "h000": {"outcome": "reverted", "blind": False}}
    assert batching.halt(found, outcomes, found["batches"][0]) is None
    outcomes.update(done(found["batches"][1]["hosts"]), h010={"outcome": "lost", "blind": True})
    assert batching.halt(found, outcomes, found["batches"][1]) is None
    outcomes.update(h011={"outcome": "failed", "blind": False})
    assert batching.halt(found, outcomes, found["batches"][1]) == (
        "3 hosts were reverted, failed or lost, and falco_tune_failure_budget allows 2 of 40")


def test_a_whole_batch_that_fails_stops_it_and_one_host_alone_does_not():
    found = plan(fleet(40), canaries=0, serial=[1, 3], failure_budget="100%")
    assert batching.halt(found, done(["h000"], "reverted"), found["batches"][0]) is None
    assert batching.halt(found, done(found["batches"][1]["hosts"], "reverted"), found["batches"][1]) == (
        "all 3 hosts of batch 2 were reverted, failed or lost")


def test_the_last_canary():
    found = plan(fleet(6), canaries=2, max_parallel=1, serial="100%")
    assert [batching.last_canary(found, batch) for batch in found["batches"]] == [False, True] + [False] * 4
    assert not batching.last_canary(plan(fleet(1)), {"number": 1, "stage": "canary", "hosts": ["h000"]})


# -- never more than the allowed share, from timestamps


def simulate(hosts, policy, chance):
    """Run a planned rollout with chance failures. → (plan, [(began, ended or None, host)] of every host that was touched)."""
    found, now, spans, outcomes = batching.plan(hosts, policy), 0.0, [], {}
    for batch in found["batches"]:
        if any(batching.halt(found, outcomes, earlier) for earlier in found["batches"][:batch["number"] - 1]):
            break
        admitted, dummy = batching.admit(found, outcomes, batch)
        ends = []
        for name in admitted:
            if hosts[name]["state"] == "waiting":
                outcomes[name] = {"outcome": "staged", "blind": False}
                continue
            began, took = now + chance.random(), chance.uniform(0.5, 60)
            what = chance.choices(("done", "reverted", "failed", "lost"), (80, 8, 4, 8))[0]
            outcomes[name] = {"outcome": what, "blind": what == "lost"}
            ends.append(began + took)
            spans.append((began, None if what == "lost" else began + took, name))
        now = max(ends, default=now)
    return found, spans


def check(hosts, policy, chance):
    found, spans = simulate(hosts, policy, chance)
    down = {name for name, item in hosts.items() if not item["healthy"]}
    for moment in sorted({began for began, dummy, dummy2 in spans}):
        blind = down | {name for began, ended, name in spans if began <= moment and (ended is None or moment < ended)}
        touched = len([1 for began, ended, dummy in spans if began <= moment and ended is not None and moment < ended])
        assert not policy["max_parallel"] or touched <= policy["max_parallel"]
        for domain in {item["domain"] for item in hosts.values()} - {None}:
            members = {name for name, item in hosts.items() if item["domain"] == domain}
            allowed = max(1, int(len(members) * policy["domain_share_percent"] // 100))
            # What was down before is not ours; nobody may be added to it.
            assert len(blind & members) <= max(allowed, len(down & members)), (domain, moment)
    said = {name for batch in found["batches"] for name in batch["hosts"]}
    assert said | set(found["left"]) == {name for name, item in hosts.items() if item["state"] in ("changing", "waiting")}
    assert len(spans) == len({name for dummy, dummy2, name in spans})  # each host's turn comes once
    most = batching.most_blind(found, [
        {"name": name, "began": began, "ended": ended, "blind": ended is None} for began, ended, name in spans])
    for domain, item in found["domains"].items():
        members = {name for name, one in hosts.items() if one["domain"] == domain}
        assert most[domain] <= max(item["allowed"], len(down & members))
    return spans


def random_rollout(chance):
    racks = ["r%d" % index for index in range(chance.randint(1, 6))] + [None]
    hosts = {"h%d" % index: host(chance.choices(STATES, (70, 10, 5, 5, 10))[0], chance.choice(racks), chance.choice((MODERN, KMOD)),
                                 *([chance.random() < 0.9] if chance.random() < 0.5 else []))
             for index in range(chance.randint(1, 60))}
    policy = policies.complete({
        "canaries": chance.randint(0, 3), "serial": [chance.choice((1, 3, "10%", "40%", "100%")) for dummy in range(chance.randint(1, 3))],
        "max_parallel": chance.choice((0, 0, 1, 5)), "domain_share_percent": chance.choice((0, 10, 25, 34, 50, 100)),
        "failure_budget": chance.choice((0, 3, "10%", "100%"))})
    return hosts, policy


def test_1000_random_rollouts_leave_no_domain_blinder_than_allowed():
    touched = sum(len(check(*random_rollout(random.Random(seed)), random.Random(-seed))) for seed in range(1000))
    assert touched > 5000


@given(st.lists(st.tuples(st.sampled_from(STATES), st.sampled_from(["a", "b", None]), st.booleans()), min_size=1, max_size=12),
       st.integers(0, 3), st.sampled_from([1, 2, "50%", "100%"]), st.integers(0, 3), st.integers(0, 100), st.integers())
def test_any_rollout_leaves_no_domain_blinder_than_allowed(members, canaries, serial, most, share, seed):
    hosts = {"h%d" % index: host(state, domain, healthy=healthy) for index, (state, domain, healthy) in enumerate(members)}
    check(hosts, policies.complete({"canaries": canaries, "serial": serial, "max_parallel": most, "domain_share_percent": share,
                                    "failure_budget": "100%"}), random.Random(seed))


def test_the_check_of_timestamps_can_fail(monkeypatch):
    monkeypatch.setattr(batching.Blind, "admits", lambda self, name: True)
    with pytest.raises(AssertionError):
        for seed in range(50):
            check(*random_rollout(random.Random(seed)), random.Random(seed))


@given(st.integers())
def test_the_same_input_gives_the_same_plan(seed):
    hosts, policy = random_rollout(random.Random(seed))
    assert batching.plan(hosts, policy) == batching.plan(dict(hosts), dict(policy))


def test_5000_hosts_are_planned_at_once():
    hosts = {"h%d" % index: host(domain="r%d" % (index % 100)) for index in range(5000)}
    found = plan(hosts, serial=[1, "1%"])
    assert sum(len(batch["hosts"]) for batch in found["batches"]) == 5000
