# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit brings from a fleet that exists only here: most hosts are quiet, the losses are in a long tail.

Stdlib only. The same arguments give the same hosts.
"""

from __future__ import annotations

import calendar
import random
import time

MADE_AT = "2026-11-24T13:00:00Z"
NOW = calendar.timegm(time.strptime(MADE_AT, "%Y-%m-%dT%H:%M:%SZ"))
DAY = 86400
LINES = (1000, 1500, 3000)
TIERS = ("low", "moderate", "high", "extreme")
RELEASES = ("0.36.2", "0.38.2", "0.40.0", "0.41.3", "0.42.1", "0.43.0", "0.44.1", "0.44.1", "0.44.1")
KERNELS = ("6.1.0-18-amd64", "5.15.0-116-generic", "5.14.0-427.13.1.el9_4.x86_64", "6.8.0-1014-aws", "4.18.0-553.el8_10.x86_64")
UNITS = {"modern_ebpf": "falco-modern-bpf.service", "kmod": "falco-kmod.service", "ebpf": "falco-bpf.service"}
ROLES = ("web", "db", "cache", "queue", "build", "edge", "batch")
CATEGORIES = ("open", "dir_file", "close", "execve", "clone_fork", "connect", "other_interest", "uncategorised")
POLICY = {"accepted_drops_percent": 1.0, "accepted_hosts_percent": 5.0, "min_observation_seconds": 60,
          "fail_on": ["blind", "dropping"]}
META = {"kind": "audit", "collection": "falcotune.fleet 0.1.0", "made_at": MADE_AT, "seconds": 41.7}
UNREACHABLE = "Failed to connect to the host via ssh: connect to host %s port 22: Connection timed out"
FAILED = "Falco is not running (unit falco-modern-bpf.service is failed): start it first, a change can't be proven on a stopped Falco"
UNMEASURED = ("no metrics were found: metrics.enabled is false", "the window of 12 s is shorter than the 60 s that policy wants",
              "Falco was restarted between the snapshots (falco.start_ts changed)")
VOID = ("basis", "seconds", "age", "events", "drops", "drops_percent", "rate", "rate_per_cpu", "drop_rate", "engine_rate",
        "falco_cpu_percent", "falco_cpu_error", "outputs_queue_drops", "kernel", "since_start")
# bottleneck: (next step, advice, a reason)
CURES = {
    "buffer": ("buffers", "Raise buf_size_preset from %(preset)d to %(larger)d.",
               "Falco used only %(cpu).1f %% of a CPU while events were dropped: its buffers ran over in bursts"),
    "starved": ("priority", "Give Falco's unit Nice=-10: its neighbours keep it from a CPU.",
                "Falco waited for a CPU %(wait).1f %% of the time"),
    "consumer": ("syscalls", "Watch fewer system calls: one thread can't read more than this.",
                 "Falco's thread is busy %(cpu).1f %% of a CPU, and it has only one"),
    "cpu_quota": ("quota", "Lift CPUQuota of Falco's unit.", "the unit's CPUQuota of 20 %% throttled Falco in 91 %% of its periods"),
    "kernel": ("upgrade", "Upgrade Falco: these drops are page faults in the kernel, and no buffer cures them.",
               "most drops are page faults"),
    "thread_table": ("thread_table", "Raise falco_libs.thread_table_size.", "the thread table was full 1204 times"),
    "outputs": ("outputs", "Look at the outputs: the queue lost alerts.", "the outputs queue lost 17 alerts"),
}

# Event names that the rules need, those that are loud, and the rules that would miss them.
STATE_EVENTS = """
    bind capset chdir chroot clone clone3 close connect creat dup dup2 dup3 execve execveat fchdir fcntl fork open openat openat2 pipe
    prctl procexit recvfrom recvmsg sendmsg sendto setgid setuid setsid shutdown socket socketpair umount vfork accept accept4
""".split()
RULE_EVENTS = """
    access chmod chown ioctl kill link linkat mkdir mkdirat mmap mprotect ptrace rename renameat rmdir setns symlink symlinkat unlink
    unlinkat unshare listen getsockopt setsockopt mount bpf
""".split()
NOISY = ("close", "openat", "recvfrom", "sendto", "connect", "open", "unlinkat", "renameat", "mkdirat", "fcntl")
RULES = {
    "close": ("Detect release_agent File Container Escapes",),
    "openat": ("Read sensitive file untrusted", "Directory traversal monitored file read"),
    "recvfrom": ("Unexpected UDP Traffic",), "sendto": ("Packet socket created in container",),
    "connect": ("Contact K8S API Server From Container", "Disallowed SSH Connection Non Standard Port"),
    "open": ("Read sensitive file untrusted",), "unlinkat": ("Remove Bulk Data from Disk",), "renameat": ("Clear Log Activities",),
    "mkdirat": ("Create Hidden Files or Directories",), "fcntl": ("Redirect STDOUT/STDIN to Network Connection in Container",),
}


def _window(chance, cpus, release, rate, percent, falco_cpu):
    """The window contract (plugin_utils/_tuning/windows.py) of a host: rate in events/s per CPU as counted."""
    seconds = round(60 + chance.random() * 5, 3)
    events = int(rate * cpus * seconds)
    drops = int(events * percent / 100)
    found, rest = {}, drops
    for name in sorted(chance.sample(CATEGORIES[:-1], 3)):
        found[name] = int(rest * chance.uniform(0.1, 0.6))
        rest -= found[name]
    found["uncategorised"] = rest
    return {
        "source": chance.choice(("metrics_file", "metrics_file", "journal", "prometheus")), "basis": "counters", "voided": None,
        "seconds": seconds, "age": round(chance.uniform(0, 30), 3), "cpus": cpus, "enter_events": release < "0.42",
        "events": events, "drops": drops, "drops_percent": 100.0 * drops / events if events else 0.0,
        "rate": round(events / seconds, 1), "rate_per_cpu": round(events / seconds / cpus, 1), "drop_rate": round(drops / seconds, 1),
        "engine_rate": round((events - drops) / seconds * 0.93, 1),
        "drops_by_category": {name: value for name, value in sorted(found.items()) if value},
        "falco_cpu_percent": round(falco_cpu, 1), "falco_cpu_error": 0.4, "outputs_queue_drops": 0,
        "userspace": {"n_drops_full_threadtable": 0, "n_failed_fd_lookups": chance.randrange(500), "n_failed_thread_lookups": 3,
                      "n_threads": chance.randrange(100, 4000)},
        "kernel": {"run_time_ns": int(events * 520), "percent": round(events * 520 / (seconds * 1e7 * cpus), 2), "ns_per_event": 520.0,
                   "syscalls": events * 3} if chance.random() < 0.3 else None,
        "memory": {"rss": chance.randrange(80, 900) << 20, "vsz": 2 << 30},
        "since_start": {"seconds": round(seconds * 400, 3), "events": events * 380, "drops": drops * 150},
    }


def _tier(rate):
    return TIERS[sum(rate >= line for line in LINES)]


def _verdict(state, rate, guide, percent, bottleneck, step, advice, reasons, cost):
    return {"state": state, "tier": None if guide is None else _tier(guide), "rate_per_cpu": rate, "rate_per_cpu_guide": guide,
            "drops_percent": percent, "bottleneck": bottleneck, "next_step": step, "advice": advice, "reasons": reasons,
            "cost": dict({"falco_cpu_percent": None, "falco_wait_percent": None, "kernel_percent": None, "memory_bytes": None}, **cost)}


def _state(percent, guide, bottleneck):
    if percent == 0.0:
        return "healthy"
    if percent <= POLICY["accepted_drops_percent"]:
        return "acceptable"
    return "overloaded" if bottleneck == "consumer" and guide > LINES[-1] else "dropping"


def _measured(chance, host):
    """Window, verdict and plan of a host that could be measured."""
    cpus, release, preset = host["cpus"], host["release"], host["buffers"]["buf_size_preset"]
    guide = min(chance.lognormvariate(5.9, 1.15), 164000.0)
    rate = round(guide if release < "0.42" else guide / 1.9, 1)
    losing = chance.random() < (0.03 if guide < 1000 else 0.12 if guide < 1500 else 0.3 if guide < 3000 else 0.75)
    percent = min(chance.lognormvariate(-0.5, 2.0), 96.0) if losing else 0.0
    bottleneck = chance.choices(list(CURES), (40, 20, 20, 6, 5, 5, 4))[0] if losing else "none"
    cpu = 97.0 + chance.random() * 3 if bottleneck == "consumer" else min(rate * cpus / 4000.0, 88.0)
    wait = chance.uniform(40, 90) if bottleneck == "starved" else chance.uniform(0, 3)
    window = _window(chance, cpus, release, rate, percent, cpu)
    percent = window["drops_percent"]
    state = _state(percent, guide, bottleneck)
    step, advice, reasons, changes = "none", "Nothing to do.", ["no event was lost in %.0f s" % window["seconds"]], []
    if percent:
        words = {"preset": preset, "larger": min(preset + 2, 10), "cpu": cpu, "wait": wait}
        step, advice, reason = CURES[bottleneck]
        reasons = ["%.2f %% of %d events were lost in %.0f s" % (percent, window["events"], window["seconds"]), reason % words]
        advice = advice % words
        if state == "overloaded":
            step, advice = "overloaded", "This host makes more events than one Falco can read; move load away or watch less."
        elif state == "acceptable":
            step, advice = "accept", "Nothing to do: policy accepts this on a few hosts."
        elif step == "buffers":
            key = "engine.%s.buf_size_preset" % host["driver"]
            changes = [{"kind": "config", "key": key, "from": preset, "to": words["larger"],
                        "why": "bursts ran over the buffers; twice the bytes bridge "
                                                                                  "twice the time"}]
        elif step == "priority":
            changes = [{"kind": "unit", "key": "Nice", "from": 0, "to": -10, "why": "Falco waited for a CPU %.1f %% of the time" % wait}]
    host["window"] = window
    host["verdict"] = _verdict(state, window["rate_per_cpu"], round(guide, 1), percent, bottleneck if percent else "none", step, advice,
                               reasons, {"falco_cpu_percent": window["falco_cpu_percent"], "falco_wait_percent": round(wait, 1),
                                         "kernel_percent": (window["kernel"] or {}).get("percent"),
                                         "memory_bytes": window["memory"]["rss"]})
    host["plan"] = {"changes": changes, "restart_required": bool(changes), "warnings": [], "reason": None}


def _unmeasured(chance, host, blind):
    reason = "Falco's counters stand still while the host makes events" if blind else chance.choice(UNMEASURED)
    host["window"] = None
    if not blind:
        host["window"] = _window(chance, host["cpus"], host["release"], 0.0, 0.0, 0.0)
        host["window"].update(dict.fromkeys(VOID), voided=reason, drops_by_category={}, userspace={}, memory={})
    host["verdict"] = _verdict("blind" if blind else "unmeasured", None, None, None, "unknown", "measure" if not blind else "upgrade",
                               "Look at Falco's log: it sees nothing." if blind else "Switch on Falco's metrics.", [reason], {})
    changes = [] if blind else [{"kind": "config", "key": "metrics.enabled", "from": False, "to": True,
                                 "why": "without metrics drops are silent"}]
    host["plan"] = {"changes": changes, "restart_required": bool(changes), "warnings": [], "reason": None}


def _history(chance, host, length):
    """One audit a day until yesterday; what was there before wanders around what is there now."""
    now = host["verdict"] or {}
    percent, rate = now.get("drops_percent"), now.get("rate_per_cpu_guide")
    found = []
    for day in range(length, 0, -1):
        if rate is None or chance.random() < 0.02:
            found.append([NOW - day * DAY, "unmeasured", None, None, None])
            continue
        then = 0.0 if not percent or chance.random() < 0.2 else min(percent * chance.lognormvariate(0, 0.5), 99.0)
        load = round(rate * chance.lognormvariate(0, 0.2), 1)
        found.append([NOW - day * DAY, _state(then, load, now["bottleneck"]), then, load, round(60 + chance.random() * 5, 3)])
    return found


def _change(chance):
    before = {"drops_percent": round(chance.uniform(0.5, 40), 3), "rate_per_cpu": round(chance.uniform(500, 6000), 1), "seconds": 61.2}
    return {"at": NOW - chance.randrange(1, 60) * DAY,
            "evidence": {"pid": chance.randrange(400, 90000), "events": chance.randrange(10**4, 10**7), "basis": "counters",
                "source": "metrics.output_file",
                         "restarts": 0,
                         "buffers": {"bytes_each": 64 << 20, "count": 4, "source": "memory map"},
                         "blind_seconds_at_most": round(chance.uniform(1.6, 4.2), 2)},
            "before": before}


# They fire as they should, and print a wrong user.
PRINTED = ["Terminal shell in container"]


def _dimmed(excluded):
    """(blind, half blind) of a set without these system calls."""
    blind, half = [], []
    for name in excluded:
        for place, rule in enumerate(RULES[name]):
            found = half if place or name in ("openat", "connect") else blind
            if rule not in blind + half:
                found.append(rule)
    return blind, half


def unseen(rules):
    """What such rules, and those that print a user, do not see."""
    return [
        {"way": "paths relative to a directory handle copied by fcntl (F_DUPFD): grep -r, find, rm -r, chmod -R, shells that save a "
                "descriptor", "calls": ["fcntl"], "fields": ["fd.directory"], "false_alarms": True, "rules": rules},
        {"way": "descriptors of connections taken by accept4: servers, bind shells", "calls": ["accept4"], "fields": [],
         "false_alarms": False, "rules": rules[:1]},
        {"way": "user ids changed by setreuid", "calls": ["setreuid"], "fields": [], "false_alarms": False, "rules": PRINTED},
    ] if rules else []


def _syscalls(chance, rate):
    """The choice of system calls of a host that makes so many events a second."""
    order = chance.sample(NOISY, 8)
    frontier, left, seen = [], rate, []
    for number in range(1, len(order) + 1):
        before = sum(map(list, _dimmed(seen)), [])
        seen = order[:number]
        blind, half = _dimmed(seen)
        left *= chance.uniform(0.55, 0.97)
        frontier.append({"exclude": seen, "events_per_second": round(left, 1), "rules_blind": len(blind), "rules_half_blind": len(half),
                         "lost": [rule for rule in blind + half if rule not in before]})
    step = frontier[chance.randrange(0, 4)]
    present = sorted(STATE_EVENTS + RULE_EVENTS)
    blind, half = _dimmed(step["exclude"])

    def items(rules):
        return [{"rule": rule, "lost": [name for name in step["exclude"] if rule in RULES[name]],
                 "left": ["execve"] if rule in half else []} for rule in rules]

    return {
        "repair": False, "custom_set": ["!" + name for name in step["exclude"]], "all": False,
        "selected": [name for name in present if name not in step["exclude"]], "added": [], "removed": step["exclude"], "basis": "profile",
        "target_events_per_second": round(step["events_per_second"] * chance.uniform(0.9, 1.2), 1), "reached": chance.random() < 0.7,
        "before": {"events_per_second": round(rate, 1), "syscalls": len(present)},
        "after": {"events_per_second": step["events_per_second"], "syscalls": len(present) - len(step["exclude"])},
        "coverage": {"rules_total": 84, "blind": items(blind), "half_blind": items(half),
                     "wrong_output": [{"rule": rule, "lost": [], "left": ["execve"]} for rule in PRINTED], "unseen": unseen(half)},
        "frontier": frontier,
        "warnings": ["fcntl: repair would put it back"] if chance.random() < 0.3 else [],
    }


def _snapshot(chance, host):
    window = host["window"] or {}
    if not window.get("events"):
        return None
    total = window["events"] * chance.randrange(2, 5000)
    return {"evt.time": (NOW - int(window["age"])) * 10**9, "falco.start_ts": (NOW - 9 * DAY) * 10**9, "falco.version": host["release"],
            "falco.host_num_cpus": host["cpus"], "falco.num_evts": int(total * 0.93), "falco.cpu_usage_perc": 3.1,
            "falco.outputs_queue_num_drops": 0, "scap.engine_name": "modern_bpf", "scap.n_evts": total,
            "scap.n_drops": int(total * window["drops_percent"] / 100), "sample": chance.randrange(1, 90000)}


def _host(number, chance, history):
    name = "%s-%05d" % (chance.choice(ROLES), number)
    empty = {"name": name, "status": "ok", "reason": None, "release": None, "driver": None, "cpus": None, "memory_bytes": None,
             "kernel": None, "unit": None, "buffers": None, "window": None, "verdict": None, "plan": None, "drift": [], "change": None,
             "syscalls": None, "trial": None, "previous": None, "history": [], "snapshot": None}
    fate = chance.random()
    if fate < 0.008:
        return dict(empty, status="unreachable", reason=UNREACHABLE % name)
    if fate < 0.011:
        return dict(empty, status="failed", reason=FAILED)
    release = chance.choice(RELEASES)
    driver = chance.choices(("modern_ebpf", "kmod", "ebpf"), (80, 15, 0 if release >= "0.44" else 5))[0]
    cpus = chance.choice((2, 4, 4, 8, 8, 8, 16, 16, 32, 48, 64, 96, 128, 256))
    preset, each = chance.choice((4, 4, 5, 6, 7)), chance.choice((2, 4, 6)) if driver == "modern_ebpf" else 1
    each = min(each, cpus)
    count, size = -(-cpus // each), 1 << (19 + preset)
    host = dict(empty, release=release, driver=driver, cpus=cpus, memory_bytes=cpus * chance.choice((2, 4, 8)) << 30,
                kernel=chance.choice(KERNELS), unit=UNITS[driver],
                buffers={"buf_size_preset": preset, "cpus_for_each_buffer": each if driver == "modern_ebpf" else None, "count": count,
                         "bytes_each": size, "bytes_total": count * size})
    fate = chance.random()
    if fate < 0.03:
        _unmeasured(chance, host, blind=fate < 0.002)
    else:
        _measured(chance, host)
    if chance.random() < 0.01:
        host["drift"] = [{"kind": "overridden", "what": "engine.%s.buf_size_preset" % driver, "found": 4, "expected": preset,
                          "advice": "Remove the block engine from /etc/falco/config.d/zzz-local.yaml."}]
    if chance.random() < 0.2:
        host["change"] = _change(chance)
    if number % 5 < 2 and host["window"] and host["window"]["rate"]:
        host["syscalls"] = _syscalls(random.Random(number), host["window"]["rate"])
        half = [item["rule"] for item in host["syscalls"]["coverage"]["half_blind"]]
        host["sight"] = {"basis": "rules", "reason": None, "rules_total": 84, "blind": [], "half_blind": half,
                         "wrong_output": PRINTED, "unseen": unseen(half)}
    host["history"] = _history(chance, host, history)
    host["snapshot"] = _snapshot(chance, host)
    return host


def audit_results(n, seed=1, history=20):
    """n hosts as "hosts" of the report model, each with that many earlier audits. Some are unreachable, failed or unmeasured."""
    chance = random.Random(seed)
    return [_host(number, chance, history) for number in range(n)]


def previous_of(results, at="2026-11-23T13:00:00Z"):
    """What History.last() would say before these results: a few hosts are new since then, and one is gone."""
    found = {"gone-00000": {"at": at, "seen": at, "state": "healthy", "drops_percent": 0.0, "rate_per_cpu_guide": 310.2}}
    for number, host in enumerate(results):
        state, percent, rate = host["history"][-1][1:4] if host["history"] else (None, None, None)
        if number % 997 != 13:
            found[host["name"]] = {"at": at if state else None, "seen": at, "state": state, "drops_percent": percent,
                                   "rate_per_cpu_guide": rate}
    return found


def audit_model(n, seed=1, history=20, policy=None):
    """The whole report model of n hosts."""
    from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import models

    results = audit_results(n, seed, history)
    return models.assemble(results, dict(POLICY, **(policy or {})), dict(META), previous_of(results))
