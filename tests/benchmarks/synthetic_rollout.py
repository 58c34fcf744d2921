# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollout over hosts that exist only here: a canary of each class, then growing batches; a few hosts go wrong, each in its way.

Stdlib only. The same arguments give the same rollout.
"""

from __future__ import annotations

import random

NOW = 1795525200  # 2026-11-24T13:00:00Z
CLASSES = ("modern_ebpf, 8 CPUs, 0.44", "modern_ebpf, 64 CPUs, 0.44", "kmod, 16 CPUs, 0.36")
RACKS = ("rack-a", "rack-b", "rack-c", "rack-d")
WRONG = (
    ("reverted", "drops rose from 0.4 % to 6.1 %: the previous state is back, proven by 40912 events"),
    ("reverted", "Falco exited within 20 s of its start: Unable to load the driver"),
    ("failed", "/etc/falco/config.d/zz-falcotune.yaml can't be written: No space left on device"),
    ("lost", "no connection since its change began: it undoes itself by 13:21:40"),
)
EVIDENCE = "events advance, rings of 16 MiB (memory map), one start in 60 s"
SIZES = (3, 10, 25, 50)


def _host(chance, name, at, wrong):
    """A host of a batch, at work from `at` on."""
    outcome, reason = chance.choice(WRONG) if wrong else ("done", None)
    ended = None if outcome == "lost" else round(at + 64 + chance.random() * (70 if wrong else 12), 1)
    blind = chance.uniform(5, 40) if wrong else chance.lognormvariate(0.9, 0.25)
    return {"name": name, "domain": chance.choice(RACKS), "class": chance.choice(CLASSES), "outcome": outcome, "began": round(at, 1),
            "ended": ended, "blind_seconds": round(blind, 2), "evidence": EVIDENCE if outcome == "done" else None, "reason": reason}


def rollout(names, seed=1, wrong=0.02, parallel=10, stop=None, largest=50):
    """The record of a rollout over these hosts. stop: failures that end it (None: it finishes)."""
    chance, rest, at = random.Random(seed), list(names), NOW - 5000.0
    batches, used, state, reason = [], 0, "finished", None
    for number in range(len(rest)):
        size = SIZES[number] if number < len(SIZES) and SIZES[number] < largest else largest
        taken, rest = rest[:size], rest[size:]
        began, hosts = at, []
        for place, name in enumerate(taken):
            # The one that begins when a place is free again, and not all at the same moment.
            hosts.append(_host(chance, name, began + place // parallel * 80 + place % parallel * 1.5, chance.random() < wrong))
        at = max(host["ended"] or began + 140 for host in hosts) + 20
        batches.append({"number": number + 1, "stage": "batch" if number else "canary", "began": began, "ended": at - 15, "hosts": hosts})
        used += sum(host["outcome"] != "done" for host in hosts)
        if not number:
            at += 7200  # somebody had to promote it
        if not rest:
            break
        if stop is not None and used >= stop:
            state, reason = "stopped", "the budget of %d failures is used up" % stop
            break
    hosts = [host for batch in batches for host in batch["hosts"]]
    return {
        "id": "tune-20261124-1300", "state": state, "reason": reason, "began": NOW - 5000.0,
        "ended": batches[-1]["ended"] if batches else None,
        "planned": {"hosts": len(names) + 20, "changing": len(names), "converged": 17, "refused": 1, "unreachable": 2,
                    "restarts": len(names), "blind_seconds": 3.0 * len(names), "bytes": -(12 << 20) * len(names), "rules_lost": 2},
        "budget": {"allowed": stop or 5, "used": used},
        "domains": [{"name": rack, "hosts": sum(host["domain"] == rack for host in hosts), "allowed": 3, "most_blind": 1 + number % 3}
                    for number, rack in enumerate(RACKS)],
        "batches": batches, "left": rest,
        "down": [{"name": "db-90001", "reason": "unreachable: Connection timed out"},
                 {"name": "db-90002", "reason": "Falco is not running"}],
    }
