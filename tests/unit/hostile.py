# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts that a host could send to do harm somewhere, and reports that are full of them."""

from __future__ import annotations

import copy

from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import models
from ansible_collections.falcotune.fleet.tests.benchmarks import synthetic_audit, synthetic_rollout, synthetic_trial

TEXTS = (
    "<script>alert(1)</script>", "</script><img src=x onerror=alert(1)>", "<!--", "]]>", "&lt;b&gt;", "javascript:alert(1)",
    "'\"><svg/onload=x>",
    "=1+1", "=HYPERLINK(\"http://example.test\",\"x\")", "+1+1|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1+1", "\r=1+1", "\n=1+1", " =1+1",
    "\uff1d1+1", "\uff201", "a,b;c\td", "say \"hi\"", "one\r\ntwo", "-1.5", "+49", "-", "=",
    "\x1b[2J\x1b[H", "\x1b]0;title\x07", "\x9b31m", "\x08\x08\x08", "a\rb", "\u202eevil", "\u200b", "\u2028", "\ufeff=1", "\x7f",
    "{{ lookup('pipe', 'id') }}", "{% raw %}", "{#", "${HOME}", "$(id)", "`id`", "%s%n", "../../etc/passwd", "\\", "\\n", '"', "}", "# EOF",
    "falcotune_fleet_hosts 5", "\x00", "a\x00b", "\ud800", "x\udfffy", "\U0001f600", "e\u0301" * 20, "字" * 30, "long" * 5000, "", " ",
    "None", "null", "NaN", "1e999", "'; DROP TABLE results; --",
)
VALUES = (None, True, False, -1, 0, 1.5, float("nan"), float("inf"), float("-inf"), 1 << 64, -(1 << 70), 10 ** 400, 1e308, [], {}, [[]],
          {"a": {"b": {}}}, (1, 2), b"bytes", object(), {1: 2, None: 3, (1, 2): "x"}, *TEXTS[:3])


def replaced(value, texts):
    """The same with every text (and every key of the host's own dicts) the next one of texts."""
    if isinstance(value, str):
        return next(texts)
    if isinstance(value, dict):
        return {name: replaced(item, texts) for name, item in value.items()}
    if isinstance(value, list):
        return [replaced(item, texts) for item in value]
    return value


def results(number=60, seed=3):
    """Results of hosts that keep our own words, and whose other texts are hostile."""
    hosts, texts = synthetic_trial.tried(synthetic_audit.audit_results(number, seed, history=3), seed), _endless()
    for host in hosts:
        hostile = replaced(copy.deepcopy(host), texts)
        for name in ("status", "history"):
            hostile[name] = host[name]
        for name, words in (("verdict", ("state", "tier", "bottleneck", "next_step")), ("window", ("basis",)),
                            ("syscalls", ("basis",)), ("trial", ("verdict", "mode"))):
            if host[name]:
                hostile[name].update({word: host[name][word] for word in words})
        for item, ours in zip((hostile["trial"] or {}).get("tests", ()), (host["trial"] or {}).get("tests", ())):
            item["state"] = ours["state"]
            item["drops_by_category"] = {next(texts): 5}
        for item, ours in zip(hostile["drift"], host["drift"]):
            item["kind"] = ours["kind"]
        if hostile["window"]:
            hostile["window"]["drops_by_category"] = {next(texts): 5, next(texts): 6}
        hostile["drift"].append({"kind": "disk", "what": next(texts), "found": {next(texts): [next(texts)]}, "expected": next(texts),
                                 "advice": next(texts)})
        hosts[hosts.index(host)] = hostile
    return hosts


def rollout(number=60, seed=3):
    """A rollout over hosts that are called like this."""
    texts = _endless()
    ours = synthetic_rollout.rollout([next(texts) for dummy in range(number)], seed, wrong=0.4)
    hostile = replaced(copy.deepcopy(ours), texts)
    hostile["state"] = ours["state"]
    for batch, our in zip(hostile["batches"], ours["batches"]):
        batch["stage"] = our["stage"]
        for host, told in zip(batch["hosts"], our["hosts"]):
            host["outcome"] = told["outcome"]
    return hostile


def model(number=60, seed=3, kind="audit"):
    return models.assemble(results(number, seed), dict(synthetic_audit.POLICY, fail_on=list(models.RULES)), dict(
        synthetic_audit.META, kind=kind), rollout=rollout(number, seed) if kind == "rollout" else None, previous={
        text: {"at": "2026-11-23T13:00:00Z", "state": "healthy", "drops_percent": 0.0, "rate_per_cpu_guide": 1.0} for text in TEXTS})


def _endless():
    while True:
        yield from TEXTS
