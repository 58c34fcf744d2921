# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trials of sets of system calls, and of rules and plugins, on hosts that exist only here: what falco_trial would leave as its fact.

Stdlib only. The same arguments give the same.
"""

from __future__ import annotations

import random

NOW = 1795525200  # 2026-11-24T13:00:00Z
STATE = """
    bind capset chdir chroot clone clone3 close connect creat dup dup2 dup3 execve execveat fchdir fcntl fork open openat openat2 pipe
    prctl procexit recvfrom recvmsg sendmsg sendto setgid setuid setsid shutdown socket socketpair umount vfork accept accept4
""".split()
MORE = """
    access chmod chown ioctl kill link linkat mkdir mkdirat mmap mprotect ptrace rename renameat rmdir setns symlink symlinkat unlink
    unlinkat unshare listen getsockopt setsockopt mount bpf
""".split()
RULES = {"close": ("Detect release_agent File Container Escapes",),
         "openat": ("Read sensitive file untrusted", "Directory traversal monitored file read"),
         "recvfrom": ("Unexpected UDP Traffic",), "unlinkat": ("Remove Bulk Data from Disk",)}
# name: (custom_set, repair, all, what of the load is left)
TESTS = {
    "T1": ([], True, False, 0.15), "T2": (["!openat", "!close"], False, False, 0.4), "T3": (["!close"], False, False, 0.7),
    "T4": ([], False, False, 1.0), "T5": ([], False, True, 2.6), "no files": (["execve", "connect", "accept4"], False, False, 0.2),
}


# What only a test of rules and plugins has.
OF_RULES = {"without": None, "against": None, "cpu_per_million": None, "rules_removed": [], "plugins": None, "runs": [], "difference": None}


def _rules(excluded):
    """(blind, half blind) of a set without these system calls."""
    blind, half = [], []
    for name in excluded:
        for place, rule in enumerate(RULES[name]):
            found = half if place or name == "openat" else blind
            if rule not in blind + half:
                found.append(rule)
    return blind, half


def _unseen(rules):
    """What such rules do not see."""
    way = "paths relative to a directory handle copied by fcntl (F_DUPFD): grep -r, find, rm -r, chmod -R, shells that save a descriptor"
    return [{"way": way, "calls": ["fcntl"], "fields": ["fd.directory"], "false_alarms": True, "rules": rules}] if rules else []


def _test(chance, name, rate, room, cpus):
    custom, repair, everything, share = TESTS[name]
    seconds, rate = round(30 + chance.random(), 2), rate * share
    lost = max(0.0, rate - room) / rate * 100
    lost = 0.0 if lost < 0.01 else round(lost, 3)
    events = int(rate * seconds)
    drops = int(events * lost / 100)
    state = "clean" if not lost else "accepted" if lost <= 1 else "dropping"
    excluded = [item[1:] for item in custom if item[0] == "!"] or (["openat", "recvfrom", "unlinkat"] if repair or custom else [])
    blind, half = _rules(excluded)
    return {
        "name": name, "custom_set": custom, "repair": repair, "all": everything, "state": state, "reason": None,
        "selected": [item for item in sorted(STATE + MORE) if item not in excluded], "seconds": seconds, "events": events,
        "events_per_second": round(rate, 1), "rate_per_cpu": round(rate / cpus, 1), "drops": drops, "drops_percent": lost,
        "drops_by_category": {"close": drops // 3, "open": drops - drops // 3} if drops else {},
        "falco_cpu_percent": round(min(99.0, rate / room * 90), 1), "falco_wait_percent": 1.2,
        "memory_bytes": chance.randrange(90, 180) << 20,
        "rules_total": 84, "rules_blind": blind, "rules_half_blind": half,
        "rules_wrong_output": ["Terminal shell in container"] if repair else [], "unseen": _unseen(half) if repair else [], **OF_RULES}


def _not_run(name, state, reason):
    custom, repair, everything, dummy = TESTS[name]
    unknown = dict.fromkeys(("seconds", "events", "events_per_second", "rate_per_cpu", "drops", "drops_percent", "falco_cpu_percent",
                             "falco_wait_percent", "memory_bytes", "rules_total"))
    return dict(unknown, name=name, custom_set=custom, repair=repair, all=everything, state=state, reason=reason, selected=[],
                drops_by_category={}, rules_blind=[], rules_half_blind=[], rules_wrong_output=[], unseen=[], **OF_RULES)


def trial(chance, cpus):
    """The fact falco_trial of a host."""
    rate, room = chance.lognormvariate(10.5, 1.0), chance.uniform(9000, 70000)
    found = {"verdict": "largest", "reason": None, "largest": None, "accepted_drops_percent": 1.0, "mode": "beside", "began": NOW - 600,
             "ended": NOW - 300, "tests": []}
    if chance.random() < 0.06:
        reason = "the load reached 48 on %d CPUs: the limit is 2 for each" % cpus
        names = list(TESTS)
        return dict(found, verdict="aborted", reason=reason, tests=[
            _test(chance, "T1", rate, room, cpus), _not_run("T2", "aborted", reason),
            *(_not_run(name, "skipped", "the trial was aborted") for name in names[2:])])
    if chance.random() < 0.04:
        return dict(found, verdict="failed", reason="Falco's dry run failed: Error: unable to open the driver")
    tests = [_test(chance, name, rate, room, cpus) for name in TESTS]
    kept = [test for test in tests if test["state"] in ("clean", "accepted")]
    if tests[0]["state"] == "dropping":
        for test in tests[1:]:
            test.update(_not_run(test["name"], "skipped", "T1 lost events already"))
        return dict(found, verdict="too_busy", tests=tests,
                    reason="T1 lost %s %% with tuned buffers: this host is too busy for one Falco" % tests[0]["drops_percent"])
    largest = max(kept, key=lambda test: test["events"])
    return dict(found, largest=largest["name"], tests=tests,
                reason="%s is the largest set without more than 1 %% of losses" % largest["name"])


# name: (what it leaves out, compared with, what of the CPU is left)
COMPARED = {
    "as it is": ({}, None, 1.0),
    "without their rules": ({"rules_of_plugins": ["*"]}, "as it is", 0.8),
    "without plugins": ({"plugins": ["*"]}, "without their rules", 0.74),
}
PARTS = ("rules", "tags", "files", "plugins", "rules_of_plugins")
MEASURED = ("cpu_per_million", "falco_cpu_percent", "drops_percent", "memory_bytes", "events_per_second")


def _run(chance, rate, share, memory):
    cost = round(2.4 * share * chance.uniform(0.97, 1.03), 4)
    rate = round(rate * chance.uniform(0.95, 1.05), 1)
    return {"state": "clean", "seconds": 30.0, "cpu_per_million": cost, "falco_cpu_percent": round(cost * rate / 1e4, 2),
            "drops_percent": 0.0, "memory_bytes": memory, "events_per_second": rate}


def _differs(runs, others, name):
    pairs = [(run[name], other[name]) for run, other in zip(runs, others)]
    mean = sum(one - other for one, other in pairs) / len(pairs)
    base = sum(other for _one, other in pairs) / len(pairs)
    return {"mean": round(mean, 4), "low": round(mean - 0.1, 4), "high": round(mean + 0.1, 4), "certain": abs(mean) > 0.1,
            "percent": round(100 * mean / base, 2) if base else None}


def compared(chance, cpus):
    """The fact falco_trial of a host whose plugins were tried."""
    rate, tests = chance.lognormvariate(9.5, 0.8), []
    for name, (without, against, share) in COMPARED.items():
        runs = [_run(chance, rate, share, (96 if name == "without plugins" else 141) << 20) for _number in range(3)]
        means = {key: round(sum(run[key] for run in runs) / 3, 4) for key in MEASURED}
        other = next((test["runs"] for test in tests if test["name"] == against), None)
        events = int(means["events_per_second"] * 90)
        tests.append(dict(
            _not_run("T4", "clean", None), **means | {"memory_bytes": runs[0]["memory_bytes"]}, name=name, selected=sorted(STATE),
            seconds=90.0, events=events, drops=0, rate_per_cpu=round(means["events_per_second"] / cpus, 1), falco_wait_percent=0.8,
            rules_total=14 if without else 25, without={part: without.get(part, []) for part in PARTS}, against=against, runs=runs,
            plugins=[] if name == "without plugins" else ["container"],
            rules_removed=["Terminal shell in container", "Packet socket created in container"] if without else [],
            difference=other and {"against": against, "pairs": 3, "load_ratio": 1.06,
                                  **{key: _differs(runs, other, key) for key in MEASURED}}))
    return {"verdict": "compared", "reason": "without plugins: less CPU", "largest": None, "accepted_drops_percent": 1.0, "mode": "beside",
            "began": NOW - 900, "ended": NOW - 300, "tests": tests}


def tried(results, seed=1, make=trial):
    """The same hosts, those that were reached with a trial each. make: trial or compared."""
    chance = random.Random(seed)
    for host in results:
        if host["status"] == "ok":
            host["trial"] = make(chance, host["cpus"])
    return results
