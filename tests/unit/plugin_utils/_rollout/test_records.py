# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import json

from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rollout import batching, records
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rollout.progress import Progress


def host(state="changing", **more):
    return {"state": state, "class": ["kmod", 1, "0.44.1"], "domain": "r1", "blind_seconds": 3.0 if state == "changing" else 0.0,
            "bytes": 8 << 20, "rules_lost": 0, "healthy": True, "reason": None, "loses": None, **more}


HOSTS = {"a": host(), "b": host(), "c": host(), "d": host("unreachable", healthy=False, reason="no route"),
         "e": host("converged", loses="dropping, bottleneck consumer: watch fewer system calls"), "w": host("waiting")}
PLAN = batching.plan(HOSTS, policies.complete({"failure_budget": 1, "domain_share_percent": 50}))


def outcome(kind, began=1.0, ended=5.0, **more):
    return {"outcome": kind, "blind": kind == "lost", "began": began, "ended": ended, "blind_seconds": 2.5, "evidence": "counters (x)",
            "reason": None, **more}


def made(outcomes, batches, state="stopped", reason="because"):
    return records.record(PLAN, HOSTS, {"id": "x-1", "state": state, "reason": reason, "began": 0.0, "ended": 9.0,
                                               "outcomes": outcomes, "batches": batches})


def batch(number, hosts, **deferred):
    return {"number": number, "stage": "canary" if number == 1 else "batch", "began": 1.0, "ended": None, "hosts": hosts,
            "deferred": deferred}


def test_the_summary_says_what_it_costs_and_who_is_left_out():
    lines = records.summary(PLAN, HOSTS)
    assert lines == [
        "6 hosts: 3 to change, 1 as planned already, 0 refused, 1 unreachable, 1 waiting for consent to a restart",
        "cost: 3 restarts, 9.0 blind seconds expected in all, +24 MiB for ring buffers, 0 rules lost",
        "failure budget: 1 host may be reverted, failed or lost; one more stops the rollout",
        "1, batch: 1 host (a)", "2, batch: 1 host (b)", "3, batch: 1 host (c)", "4, staged only: 1 host (w)",
        "unreachable: d: no route",
        "no change is planned, but events are lost: e: dropping, bottleneck consumer: watch fewer system calls",
    ]


def test_the_record_has_the_shape_that_the_report_takes():
    outcomes = {"a": outcome("done"), "b": outcome("reverted", 6.0, 8.0, reason="no luck")}
    found = made(outcomes, [batch(1, ["a"]), batch(2, ["b"], c="no room")])
    assert json.loads(json.dumps(found)) == found
    assert set(found) == {"id", "state", "reason", "began", "ended", "planned", "budget", "domains", "batches", "left", "down"}
    assert set(found["planned"]) == {"hosts", "changing", "converged", "refused", "unreachable", "restarts", "blind_seconds", "bytes",
                                     "rules_lost"}
    assert found["budget"] == {"allowed": 1, "used": 1}
    assert found["domains"] == [{"name": "r1", "hosts": 6, "allowed": 3, "most_blind": 2}]  # one is down, one at a time is changed
    assert found["batches"][1] == {"number": 2, "stage": "batch", "began": 1.0, "ended": 8.0, "hosts": [
        {"name": "b", "domain": "r1", "class": "kmod from 1 CPUs, Falco 0.44.1", "outcome": "reverted", "began": 6.0, "ended": 8.0,
         "blind_seconds": 2.5, "evidence": "counters (x)", "reason": "no luck"},
        {"name": "c", "domain": "r1", "class": "kmod from 1 CPUs, Falco 0.44.1", "outcome": "skipped", "began": None, "ended": None,
         "blind_seconds": None, "evidence": "", "reason": "no room"}]}
    assert found["left"] == ["c", "w"] and found["down"] == [{"name": "d", "reason": "no route"}]


def test_a_lost_host_is_blind_until_the_end():
    found = made({"a": outcome("lost", 1.0, 2.0), "b": outcome("lost", 3.0, 4.0)}, [batch(1, ["a"]), batch(2, ["b"])])
    assert found["domains"][0]["most_blind"] == 3


def test_the_conclusion_names_who_failed_and_who_is_left():
    found = made({"a": outcome("done"), "b": outcome("reverted", reason="no luck")}, [batch(1, ["a"]), batch(2, ["b"])])
    assert records.conclusion(found) == [
        "the rollout stopped after 2 batches: 1 done, 1 reverted", "because: because", "reverted: b: no luck",
        "left for the next run: c, w (2 hosts)"]
    assert records.conclusion(made({}, [], "finished", None))[0] == "the rollout is finished after 0 batches: there was nothing to do"


def test_the_line_of_a_batch():
    line = records.batch_line(PLAN, PLAN["batches"][0], {"a": outcome("reverted", reason="no luck")}, "the canary a was reverted")
    assert line == ("batch 1 of 4: 1 reverted (a: no luck); failure budget: 1 of 1 used. The rollout stops: the canary a was reverted")


def test_progress_of_a_batch():
    progress = Progress()
    progress.planned(PLAN, 100.0)
    progress.admitted({"number": 1, "of": 4, "stage": "canary", "began": 100.0, "hosts": ["a"]})
    progress.started("a")
    progress.started("z")  # not of this batch
    assert progress.line(101.0) == "canaries, 1 of 4: 0 done, 0 reverted, 4 left, 1 blind now | 0:00:01, end not known yet"
    progress.host("a", outcome("done"))
    assert progress.blind() == 0
    progress.ended({"ended": 110.0})
    assert progress.expected_end(110.0) == 140.0
    progress.admitted({"number": 2, "of": 4, "stage": "batch", "began": 110.0, "hosts": ["b"]})
    assert progress.expected_end(115.0) == 140.0
    progress.host("b", outcome("lost"))
    assert progress.line(115.0).startswith("batch 2 of 4: 1 done, 0 reverted, 1 lost, 2 left, 1 blind now | 0:00:15, end about ")
