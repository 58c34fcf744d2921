# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports for the HTML page that report.assemble() would not let through: hostile texts and impossible numbers everywhere."""

from __future__ import annotations

import copy

TEXTS = (
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]><script>alert(2)</script>",
    "<img src=x onerror=alert(3)>",
    "<svg/onload=alert(4)>",
    "\"><iframe srcdoc='<script>alert(5)</script>'>",
    "</title></style></textarea></noscript><b onmouseover=alert(6)>",
    "javascript:alert(7)",
    "&lt;script&gt;alert(8)&lt;/script&gt; &amp; &#x3c;b>",
    "{{7*7}}{% for x in y %}{# no #}${7*7}<%= 7*7 %>",
    "@@script@@ @@report@@ %s %(name)s {0}",
    "$0 $zz =equal \\u003c \\",
    "web\u202egnp.exe\u2066\u2069 left\u200bright\ufeff",
    "\u05e9\u05e8\u05ea-\u0645\u0636\u064a\u0641",
    "null\x00bell\x07escape\x1b[31m\x9b1m\x7f",
    "line\nfeed\r\ncarriage\ttab\u2028separator\u2029paragraph\x85next",
    "half \ud800 pair \udfff",
    "z\u0310\u0321\u0489\u0334" * 40,
    "\U000e0041\U000e0042 tags",
    "__proto__", "constructor", "toString", "hasOwnProperty", "",  # what objects have anyway
    "../../etc/passwd", "#all", "state=healthy&q=x", "name+with%20plus%", "' OR 1=1 --", "=cmd|' /C calc'!A0",
    "W" * 10240, "wide " * 2048,
)
NUMBERS = (float("nan"), float("inf"), -1, 1e308, 5e-324, 1 << 64, 1 << 4000, True, None, "12", [], {})


def host(name, text, number=3.5):
    """A host of the report model whose every text is this one."""
    return {
        "name": name, "status": "ok", "reason": text, "release": text, "driver": text, "cpus": number, "memory_bytes": number,
        "kernel": text, "unit": text,
        "buffers": {"buf_size_preset": text, "cpus_for_each_buffer": number, "count": number, "bytes_each": number, "bytes_total": number},
        "window": {"source": text, "basis": text, "voided": None, "seconds": number, "age": number, "cpus": number, "events": number,
                   "drops": number, "drops_percent": number, "rate": number, "rate_per_cpu": number, "drop_rate": number,
                   "engine_rate": number, "drops_by_category": {text: 5, "open": 7, "__proto__": 3}, "falco_cpu_percent": number,
                   "outputs_queue_drops": number, "userspace": {text: number}, "kernel": {"ns_per_event": number, "syscalls": number},
                   "memory": {"rss": number}},
        "verdict": {"state": "dropping", "tier": text, "rate_per_cpu": number, "rate_per_cpu_guide": 1200.5, "drops_percent": 4.5,
                    "bottleneck": text, "next_step": text, "advice": text, "reasons": [text, text],
                    "cost": {"falco_cpu_percent": number, "falco_wait_percent": number, "kernel_percent": number, "memory_bytes": number}},
        "plan": {"changes": [{"kind": text, "key": text, "from": text, "to": {text: [text]}, "why": text}], "restart_required": True,
                 "warnings": [text],
                 "reason": text},
        "drift": [{"kind": text, "what": text, "found": text, "expected": number, "advice": text}],
        "change": {"at": 1795000000, "evidence": {text: text, "rings": {"bytes_each": number}}, "before": {"drops_percent": number}},
        "syscalls": {"repair": text, "custom_set": [text, "open"], "all": number, "selected": [text, "close"], "added": [text],
                     "removed": [text], "basis": text, "target_events_per_second": number, "reached": False,
                     "before": {"events_per_second": 1000.5, "syscalls": number}, "after": {"events_per_second": number, "syscalls": text},
                     "coverage": {"rules_total": number, "blind": [{"rule": text, "lost": [text], "left": text}, text],
                                  "half_blind": [{"rule": text, "lost": number, "left": [text]}],
                                  "wrong_output": [{"rule": text, "lost": text}], "unseen": ways(text, number)},
                     "frontier": [{"exclude": [text], "events_per_second": 800, "rules_blind": 1, "rules_half_blind": number,
                                   "lost": [text]},
                                  {"exclude": [text, "open"], "events_per_second": 700.5, "rules_blind": number, "rules_half_blind": 2,
                                   "lost": [text, number]}, {"exclude": text, "events_per_second": number}, text],
                     "warnings": [text]},
        "sight": {"basis": "rules" if number else text, "reason": text, "rules_total": number, "blind": [text], "half_blind": text,
                  "wrong_output": [text, number], "unseen": ways(text, number)},
        "trial": {"verdict": text, "reason": text, "largest": text, "accepted_drops_percent": number, "mode": text, "began": number,
                  "ended": text, "tests": [test(text, text, number), test("T1", "dropping", number), text]},
        "previous": {"at": text, "state": text, "drops_percent": number, "rate_per_cpu_guide": number},
        "history": [[1795000000, text, 2.5, 900.0, 60], [1795086400, "healthy", 0.0, 800.0, 60]],
    }


COMPARED = ("cpu_per_million", "falco_cpu_percent", "drops_percent", "memory_bytes", "events_per_second")


def ways(text, number):
    return [{"way": text, "calls": [text, number], "fields": text, "false_alarms": True, "rules": [text, number]}, text,
            {"way": number, "calls": text, "fields": [text], "false_alarms": text, "rules": text}]


def test(name, state, number):
    """A test of a trial."""
    numbers = ("repair", "seconds", "events", "events_per_second", "rate_per_cpu", "drops", "drops_percent", "falco_cpu_percent",
               "falco_wait_percent", "memory_bytes", "rules_total")
    return dict(dict.fromkeys(numbers, number), name=name, custom_set=[name, number], all=name, state=state, reason=name,
                selected=[name, "open"], drops_by_category={name: 5}, rules_blind=[name], rules_half_blind=[name],
                rules_wrong_output=[name, number], unseen=ways(name, number), cpu_per_million=number, against=name,
                without=dict.fromkeys(("rules", "tags", "files", "plugins", "rules_of_plugins"), [name, number]), plugins=[name, number],
                rules_removed=[name, number], runs=[dict.fromkeys(COMPARED, number), name, {"state": name}],
                difference=dict(dict.fromkeys(COMPARED, dict.fromkeys(("mean", "low", "high", "percent", "certain"), number)),
                                against=name, pairs=number, load_ratio=number))


def rollout(texts=TEXTS):
    """A rollout over the hosts of a report, and over some that are not in it."""
    def host(name, text, number, began=1795000000):
        return {"name": name, "domain": text, "class": text, "outcome": text, "began": began, "ended": number, "blind_seconds": number,
                "evidence": text, "reason": text}

    outcomes = ("done", "reverted", "failed", "lost", "staged", "skipped", "planned")
    batches = [{"number": text, "stage": text, "began": 1795000000, "ended": 1795000100, "hosts": [
        host(text, text, 1795000050.5), dict(host(text + "?", text, 1795000060), outcome=outcomes[place % 7], blind_seconds=3.5)]}
        for place, text in enumerate(texts)]
    batches += [{"number": number, "stage": "batch", "began": number, "ended": number, "hosts": [
        host("number-%d" % place, "plain", number, number), host("x", "plain", number)]} for place, number in enumerate(NUMBERS)]
    batches += [None, {}, {"hosts": [None, "x", {}]}]
    return {"id": texts[0], "state": texts[1], "reason": texts[2], "began": float("nan"), "ended": texts[3],
            "planned": {"hosts": texts[0], "changing": 1 << 70, "bytes": -5, "blind_seconds": -1},
            "budget": {"allowed": texts[4], "used": -1},
            "domains": [{"name": text, "hosts": 3, "allowed": 1, "most_blind": 2} for text in texts] + [None], "batches": batches,
            "left": list(texts), "down": [{"name": text, "reason": text} for text in texts] + [None]}


def report(texts=TEXTS, kind="audit"):
    """A report with one host for each text, which is its name too, and with the same texts in the fleet's part."""
    hosts = [host(text, text) for text in texts]
    hosts += [host("number-%d" % number, "plain", value) for number, value in enumerate(NUMBERS)]
    names = [item["name"] for item in hosts]
    spread = dict.fromkeys(("p50", "p90", "p99", "p99.9", "max"), 1.5)
    return copy.deepcopy({
        "schema_version": 1, "kind": kind, "collection": texts[0], "made_at": "2026-11-24T13:00:00Z", "seconds": 1.5,
        "policy": {"accepted_drops_percent": 1.0, "accepted_hosts_percent": 5.0, "min_observation_seconds": 60,
                   "fail_on": ["dropping", texts[0]]},
        "fleet": {
            "hosts": len(hosts), "ok": len(hosts), "unreachable": list(texts), "failed": [], "states": {"dropping": len(hosts)},
            "bottlenecks": dict.fromkeys(texts, 1), "next_steps": {}, "lines": [1000, 1500, 3000], "events": 1 << 70, "drops": 5,
            "percentiles": {"measured": len(hosts), "drops_percent": spread, "rate_per_cpu_guide": spread}, "drops_percent": float("nan"),
            "drifting": names, "restart_required": names,
            "since_last": {"at": texts[0], "better": [], "worse": names, "new": [], "gone": list(texts)},
            "headline": " ".join(texts)[:900], "breaches": [{"rule": text, "hosts": names, "text": text} for text in texts[:6]],
        },
        "rollout": rollout(texts) if kind == "rollout" else None,
        "hosts": hosts,
    })
