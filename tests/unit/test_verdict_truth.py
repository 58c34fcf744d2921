# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts over generated hosts against what the simulator's ring model truly loses once one thing is changed.

FALCOTUNE_HOSTS says how many hosts; the goal is held on 500 and more.
"""

from __future__ import annotations

import os
import random
import sys
from collections import Counter

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies, verdicts
from ansible_collections.falcotune.fleet.tests.unit.hosts import ROOT, Host

sys.path.insert(0, str(ROOT / "tests/simulator"))

from falcosim import truth  # noqa: E402

HOSTS = int(os.environ.get("FALCOTUNE_HOSTS", "45"))
RIGHT = 0.97
SECONDS, INTERVAL = 60.0, 5.0
# Cures that save nearly as much as the best one: either is right to name.
AS_GOOD = 0.85
# Percent: what policy accepts, and from where on to where a host is neither solvable nor unsolvable for certain.
ACCEPTED, EDGE = 1.0, (0.3, 3.0)
KINDS = ("calm", "bursts", "sustained", "starved", "quota", "starved and sustained", "quota and sustained", "starved and bursts",
         "long bursts")
START = 1795000000 * 10 ** 9


def generated(kind: str, chance: random.Random) -> dict:
    """A host as FALCO_SIM would describe it."""
    cpus = chance.choice((2, 4, 8))  # rings of the guide's upper end fill within the truth's time
    consumer = chance.uniform(150000, 700000)
    need = chance.uniform(0.05, 0.6)
    found = {"cpus": cpus, "consumer_events_per_second": consumer, "load": {"bytes_per_event": chance.uniform(56, 110)}}
    if "sustained" in kind:
        need = chance.choice((chance.uniform(1.25, 2), chance.uniform(2, 20)))
    if "starved" in kind:
        found["starved"] = chance.uniform(0.6, 0.9)
        need = max(need, chance.uniform(0.4, 0.8))
    if "quota" in kind:
        found["cpu_quota"] = chance.uniform(0.1, 0.5)
        need = max(need, found["cpu_quota"] * chance.uniform(1.3, 1.9))
    found["load"]["events_per_second"] = need * consumer
    if "bursts" in kind:
        seconds = chance.uniform(0.1, 0.6) if kind != "long bursts" else chance.uniform(1.5, 3)
        found["load"]["burst"] = {"events_per_second": chance.uniform(3, 6) * consumer, "seconds": seconds,
                                  "every": seconds * chance.uniform(8, 12)}
        found["load"]["events_per_second"] = chance.uniform(0.02, 0.2) * consumer
        if "starved" in kind:
            found["starved"] = chance.uniform(0.3, 0.5)
    return found


def snapshot(model, at: float, number: int, cpus: int, perc: bool) -> dict:
    rings, cpu = model.rings, model.cpu
    found = {"evt.time": START + int((model.startup + at) * 1e9), "falco.start_ts": START, "falco.reload_ts": START, "sample": number,
             "falco.version": "0.44.1", "falco.host_num_cpus": cpus, "scap.n_evts": int(rings.events), "scap.n_drops": int(rings.drops)}
    if perc:
        found["falco.cpu_usage_perc"] = round(100 * cpu.on / (model.startup + at), 1)
    return found


def seen(data: dict, preset: int, perc: bool, intervals: bool) -> Host:
    """The host as two looks would show it, after a minute under its load."""
    model, shots = truth.Model(data, preset=preset), []
    for number in range(int(SECONDS / INTERVAL) + 1):
        model.advance(number * INTERVAL)
        shots.append(snapshot(model, number * INTERVAL, number, data["cpus"], perc))
    pair = {"first": shots[0], "last": shots[-1], "source": "metrics_file", "seconds": SECONDS, "age": 0.0}
    if intervals:
        steps = [{"ns": new["evt.time"] - old["evt.time"], "events": new["scap.n_evts"] - old["scap.n_evts"],
                  "drops": new["scap.n_drops"] - old["scap.n_drops"]} for old, new in zip(shots, shots[1:])]
        losing = sorted((step for step in steps if step["drops"]), key=lambda step: -step["drops"])
        pair["intervals"] = {"count": len(steps), "losing": len(losing), "worst": losing[:8]}
    quota = data.get("cpu_quota")
    return Host(cpus=data["cpus"], age=model.startup + SECONDS, pair=pair, quota=quota and 100 * quota, total=1 << 40, available=1 << 39,
                cpu={"on": model.cpu.on, "waiting": model.cpu.waiting, "throttled": model.cpu.throttled if quota else None})


def right_names(true: dict) -> set:
    """The bottlenecks that are right to name."""
    worth = {**true["saves"], "consumer": true["left"]}
    best = max(worth.values())
    return {name for name, saved in worth.items() if saved >= AS_GOOD * best}


@pytest.fixture(scope="module")
def judged():
    """(kind, host, truth, verdict) of each generated host."""
    chance, found = random.Random(20261126), []
    for number in range(HOSTS):
        kind = KINDS[number % len(KINDS)]
        data, preset = generated(kind, chance), chance.choice((1, 3, 4))
        paper = seen(data, preset, chance.random() < 0.5, chance.random() < 0.8)
        verdict = verdicts.judge(paper.facts(), policies.complete({"min_observation": 30}))
        found.append((kind, data, truth.truth(data, SECONDS, preset), verdict))
    return found


def test_the_confusion_matrix_of_verdicts(judged):
    matrix, wrong = Counter(), []
    for kind, data, true, verdict in judged:
        names = {"none"} if true["lost"] <= ACCEPTED else right_names(true)
        said = "none" if verdict["state"] in ("healthy", "acceptable") else verdict["bottleneck"]
        matrix["/".join(sorted(names)), said] += 1
        # Where two things are wrong by construction, the better cure is to be named, first or beside.
        named = {said, *verdict["also"]} if " and " in kind else {said}
        if not named & names:
            wrong.append((kind, data, true, said, verdict["also"], verdict["capacity"]))
    for (names, said), number in sorted(matrix.items()):
        print("truth %-28s verdict %-10s %4d" % (names, said, number))
    for item in wrong:
        print("wrong: %s" % (item,))
    assert len(wrong) <= (1 - RIGHT) * len(judged), wrong


def test_no_unsolvable_host_is_called_solvable_nor_the_reverse(judged):
    wrong, sure = [], Counter()
    for kind, data, true, verdict in judged:
        solvable, unsolvable = true["left"] < EDGE[0], true["least"] > EDGE[1]
        if verdict["capacity"] is None or not (solvable or unsolvable):
            continue  # only rings beyond the guide's range would help, or it is on the edge
        sure[unsolvable] += 1
        called = verdict["capacity"]["lost"]["overload"] > ACCEPTED
        if called is not unsolvable:
            wrong.append((kind, data, true, verdict["capacity"]))
    for item in wrong:
        print("wrong: %s" % (item,))
    assert wrong == [] and sure[True] >= len(judged) / 8 and sure[False] >= len(judged) / 8


def test_the_truth_has_every_bottleneck_and_mixed_ones(judged):
    names = Counter()
    for _kind, _data, true, _verdict in judged:
        for name in ("none",) if true["lost"] <= ACCEPTED else right_names(true):
            names[name] += 1
    assert {"none", "buffer", "starved", "cpu_quota", "consumer"} <= set(names)
