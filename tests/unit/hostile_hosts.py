# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hostile hosts print where falco_facts was to answer: one function a kind, each with everything else as on a good host."""

from __future__ import annotations

import base64
import copy
import json
import zlib
from pathlib import Path

from ansible_collections.falcotune.fleet.tests.unit.hosts import FOLDER, MAIN, SHIPPED, Host, measured, packed

EVIL = "<script>alert(1)</script>\x1b]0;owned\x07\x1b[2J=cmd|' /C calc'!A0,\"\r\n# EOF\nx{y=\"z\"} 1\u202e{{ lookup('pipe','id') }}"
LONG = "x" * 200000
WRONG = (None, True, -1, 0, 7, 1.5, -1e308, 1 << 70, "", "text", [], [None], [[]], {}, {"a": {"b": []}}, [1, "two", {}])


def message(**more):
    return {**Host(pair=measured()).message(), **more}


def printed(answer) -> str:
    """A module's answer on standard output."""
    return json.dumps({"changed": False, "invocation": {"module_args": {}}, "ansible_facts": {"falco": answer}})


def config(text: str, **more) -> str:
    """The answer of a host with this falco.yaml."""
    host = Host(pair=measured(), **more)
    return printed(host.but(files={**host.files, MAIN: text}).message())


def with_data(data: str) -> str:
    answer = message()
    answer["config_sources"]["files"][0]["data"] = data
    return printed(answer)


def aliases(depth: int, width: int, merge: str = "") -> str:
    lines = ["a0: &a0 {k0: 1, k1: 2, k2: 3, k3: 4}"]
    for level in range(1, depth + 1):
        inner = ", ".join(["*a%d" % (level - 1)] * width)
        lines.append("a%d: &a%d %s" % (level, level, "{%s: [%s]}" % (merge, inner) if merge else "[%s]" % inner))
    return "\n".join(lines) + "\n"


def everywhere(value, wrong):
    """The same with each text, number and switch replaced."""
    if isinstance(value, dict):
        return {name: everywhere(item, wrong) for name, item in value.items()}
    if isinstance(value, list):
        return [everywhere(item, wrong) for item in value]
    return wrong


def texts(value, text):
    """The same with each text replaced, but for versions and what is compressed."""
    if isinstance(value, dict):
        return {name: item if name in ("version", "data", "falco.version") else texts(item, text) for name, item in value.items()}
    if isinstance(value, list):
        return [texts(item, text) for item in value]
    return text if isinstance(value, str) else value


def paths(value, prefix=()):
    """The path of each key in nested dicts and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield (*prefix, name)
        yield from paths(item, (*prefix, name))


def replaced(value, path, wrong):
    """The same with the value at a path replaced, or taken out for KeyError."""
    value = copy.deepcopy(value)
    node = value
    for step in path[:-1]:
        node = node[step]
    if wrong is KeyError:
        del node[path[-1]]
    else:
        node[path[-1]] = wrong
    return value


RECORD = {
    "proven": True, "at": 3000.0, "files": {MAIN: "0" * 64}, "evidence": {"basis": "counters", "blind_seconds_at_most": 2.5},
    "version": "0.44.1", "driver": "modern_ebpf", "before": {"state": "dropping", "drops_percent": 5.0, "rate_per_cpu": 100.0,
                                                          "bottleneck": "buffer"},
    "written": [MAIN], "attempts": [{
        "at": 3000.0, "step": "syscalls", "to": {"repair": True, "custom_set": ["!openat"]}, "release": "0.44.1",
        "before": {"state": "dropping", "drops_percent": 5.0, "rate_per_cpu": 100.0, "bottleneck": "buffer"}, "rolled_back": False,
        "replaced": {"repair": False, "custom_set": []}, "profile": {"openat": 0.5},
        "coverage": {"rules_total": 3, "blind": ["x"], "half_blind": [], "wrong_output": []}}],
}


def lies() -> str:
    answer = message()
    answer["host"].update(record={**copy.deepcopy(RECORD), "at": -1e18}, unit_dropin={"Nice": "NaN"})
    attempt = answer["host"]["record"]["attempts"][0]
    answer["host"]["record"]["attempts"] = [dict(attempt, at=1e15), dict(attempt, to={"custom_set": [{}]}, at=-5)] * 500
    answer.update(clock=1e18, cpus={"online": 10 ** 6, "possible": -3, "list": "0-999999", "reason": None})
    answer["falco"].update(age=-1.0, since=1e300, restarts=10 ** 18, nice=-10 ** 9, start_ticks=-1)
    answer["falco"]["cpu"]["total"] = {"on": 1e300, "waiting": -5, "throttled": "much"}
    answer["kernel"]["page_size"] = 0
    answer["memory"] = {"total": -1, "available": 1 << 63, "limit": 0, "used": 1 << 80}
    return printed(answer)


def forged_counters() -> str:
    pair = measured()
    for name in ("first", "last"):
        pair[name].update({"scap.n_evts": (1 << 64) - 1, "scap.n_drops": 1 << 63, "evt.time": -5, "falco.host_num_cpus": 10 ** 9})
        pair[name].update({"scap.n_drops_buffer_%06d_enter" % number: 1 for number in range(3000)})
    return printed(message(metrics=pair))


def forged_alerts() -> str:
    fields = {"n_evts": 10 ** 30, "n_drops": -1, **{"n_drops_buffer_x%d_exit" % number: 1 for number in range(5000)}}
    return printed(message(metrics={"reason": EVIL, "alerts": {"count": 1e9, "fields": fields}, "source": "syslog"}))


def many_options() -> str:
    options = ["a%s=1" % "".join("[%d]" % place for place in range(90, 80, -1))] * 400
    options += ["x={a0: &a0 [1,1], %s}" % ", ".join("a%d: &a%d [%s]" % (level, level, ",".join(["*a%d" % (level - 1)] * 8))
                                                  for level in range(1, 8))] * 90
    options += ["." .join(["deep"] * 800) + "=1", "list[%s]=1" % ("9" * 4000)]
    return printed(Host(pair=measured(), options=tuple(options)).message())


def many_entries() -> str:
    files = {"%s/%d.yaml" % (FOLDER, number): "a: 1\n" for number in range(400)}
    return config("config_files: [%s]\n" % ", ".join([FOLDER] * 20000), files={MAIN: SHIPPED, **files})


def keys_of_variables() -> str:
    environment = {"V": "v" * 4000}
    return config("engine:\n  kind: '%s'\n" % ("${V}" * 200000), environment=environment)


def foreign_facts() -> str:
    return json.dumps({
        "changed": True, "failed": False, "rollout": {"state": "changing"}, "_ansible_no_log": False, "skip_reason": EVIL,
        "ansible_facts": {"falco": message(), "falco_plan": {"changes": EVIL}, "ansible_connection": "local",
                          "falco_tune_rollout": {"hosts": ["all"]}, "ansible_python_interpreter": "/tmp/evil"},
        "warnings": [EVIL] * 1000, "deprecations": [{"msg": EVIL}], "invocation": LONG})


def twice() -> str:
    good = json.dumps(message())
    return '{"changed": false, "ansible_facts": {"falco": {"cpus": 1}}, "ansible_facts": {"falco": %s, "falco": %s}}' % (good, good)


def zeros(size: int) -> str:
    return base64.b64encode(zlib.compress(bytes(size), 9)).decode()


# The kinds, and what becomes of the host: 'ok' (its facts are there, for what they are worth) or a part of the reason for which it
# is failed. What Ansible says itself differs from release to release and is not looked at: None.
KINDS = {
    # -- the answer as a whole
    "deep-json": (lambda: '{"a":' * 100000 + "1" + "}" * 100000, "too deep"),
    "deep-facts": (lambda: '{"ansible_facts": {"falco": %s1%s}}' % ("[" * 5000, "]" * 5000), "too deep"),
    "flood": (lambda: "x" * (6 << 20), "expected at most 4 MiB"),
    "many-values": (lambda: '{"ansible_facts": {"falco": [%s]}}' % ",".join(["1"] * 700000), "values"),
    "no-json": (lambda: EVIL, None),
    "a-list": (lambda: "[1, 2, 3]", None),
    "nothing": (lambda: "", None),
    "giant-integer": (lambda: '{"ansible_facts": {"falco": {"cpus": {"online": %s}}}}' % ("9" * 100000), None),
    "not-a-number": (lambda: '{"ansible_facts": {"falco": {"cpus": {"online": NaN}, "falco": {"age": Infinity, "since": 1e999}}}}', "ok"),
    "keys-twice": (twice, "ok"),
    "half-pairs": (lambda: '{"failed": true, "msg": "\\ud800\\udc00\\ud800 \\u0000"}', None),
    "failure-that-shouts": (lambda: json.dumps({"failed": True, "msg": EVIL + LONG, "exception": EVIL}), "\\x1b]0;owned"),
    "foreign-facts": (foreign_facts, "ok"),
    # -- the facts in it
    "no-facts": (lambda: json.dumps({"changed": False, "ansible_facts": {}}), None),
    "facts-are-text": (lambda: printed(EVIL), "ok"),
    "no-sources": (lambda: printed({name: part for name, part in message().items() if name != "config_sources"}), "ok"),
    "all-null": (lambda: printed(everywhere(message(), None)), "ok"),
    "all-lists": (lambda: printed(everywhere(message(), [[]])), "ok"),
    "all-negative": (lambda: printed(everywhere(message(), -1e300)), "ok"),
    "shouting-texts": (lambda: printed(texts(message(host={**message()["host"], "record": RECORD}), EVIL)), "ok"),
    "long-texts": (lambda: printed(texts(message(), LONG[:20000])), "ok"),
    "lies": (lies, "ok"),
    "forged-counters": (forged_counters, "ok"),
    "forged-alerts": (forged_alerts, "ok"),
    "another-release": (lambda: printed(message(falco={**message()["falco"], "version": "9" * 4000 + ".1"})), "ok"),
    # -- the configuration in them
    "zlib-bomb": (lambda: with_data(zeros(1 << 30)), "ok"),
    "no-zlib": (lambda: with_data("!!!!"), "ok"),
    "brackets": (lambda: config("engine: " + "[" * 60000), "ok"),
    "braces": (lambda: config("engine: " + "{a: " * 60000), "ok"),
    "merge-keys": (lambda: config(SHIPPED + aliases(9, 10, "<<")), "ok"),
    "aliases": (lambda: config(SHIPPED + aliases(9, 10)), "ok"),
    "dollars": (lambda: config("engine: {kind: '%s'}\n" % ("${" * 400000)), "ok"),
    "variables": (keys_of_variables, "ok"),
    "digits": (lambda: config("engine: {kind: modern_ebpf, modern_ebpf: {buf_size_preset: %s}}\nmetrics: {interval: %ss}\n" % (
        "7" * 100000, "8" * 100000)), "ok"),
    "base-60": (lambda: config("engine: {kind: modern_ebpf, modern_ebpf: {buf_size_preset: %s.5}}\n" % ":".join(["1"] * 100000)), "ok"),
    "long-keys": (lambda: config("? %s\n: [%s]\n" % ("k" * 300000, "1, " * 90000)), "ok"),
    "long-key-of-merge-keys": (lambda: config("%s: [%s]\n" % ("k" * 900, "{<<: 1}, " * 20000)), "ok"),
    "large-blocks": (lambda: config("rules_files: [%s]\n" % ("/r, " * 90000)), "ok"),
    "repeated-keys": (lambda: config("a: 1\n" * 90000), "ok"),
    "entries": (many_entries, "ok"),
    "options": (many_options, "ok"),
    "files": (lambda: config(SHIPPED, files={"%s/%d.yaml" % (FOLDER, number): "a: 1\n" for number in range(3000)}), "ok"),
    "no-characters": (lambda: config('metrics: {output_file: "\\UFFFFFFFF"}\n'), "ok"),
    "half-characters": (lambda: config('metrics: {output_file: "\\ud800"}\n'), "ok"),
    "templates": (lambda: config(SHIPPED.replace("interval: 1h", "interval: 1h\n  output_file: \"{{ lookup('pipe', 'id') }}\"")), "ok"),
}


# -- what a second round trip brings: the rules

RULE = {"info": {"name": "r", "priority": "Warning", "source": "syscall", "enabled": True, "tags": [], "condition": "x"},
        "details": {"events": ["open"], "condition_compiled": "evt.type in (open)"}}


def rules(listed: str, dry_run: str = "", **more) -> str:
    return printed(message(rules={"list": packed(listed), "dry_run": packed(dry_run), "reason": None, "profile": None, **more}))


def listing(number: int = 1, **details) -> str:
    return json.dumps({"rules": [{**RULE, "details": {**RULE["details"], **details}}] * number})


RULES = {
    "a-million-rules": lambda: rules('{"rules": [%s]}' % ",".join(["1"] * 1000000)),
    "many-rules": lambda: rules(listing(20000)),
    "rules-that-are-brackets": lambda: rules('{"rules": ' + "[" * 3000000),
    "deep-conditions": lambda: rules(listing(condition_compiled="not (" * 100000)),
    "long-conditions": lambda: rules(listing(condition_compiled=" or ".join(["evt.type=open"] * 200000))),
    "quotes": lambda: rules(listing(condition_compiled="fd.name in (%s" % ("'\\" * 500000))),
    "a-million-threads": lambda: rules(listing(), profile={"means": "tracefs", "seconds": 5.0, "reason": None, "notes": [EVIL] * 9999,
                                                         "counts": {"call_%d" % number: 10 ** 30 for number in range(40000)}}),
    "long-dry-run": lambda: rules(listing(), "\n" * 7000000),
    "lines-of-dry-run": lambda: rules(listing(), "Wed Nov 25 10:00:00 2026: (1) syscalls in rules: open\n" * 30000),
    "rules-bomb": lambda: printed(message(rules={"list": zeros(1 << 30), "dry_run": zeros(1 << 30), "reason": None})),
    "rules-are-numbers": lambda: printed(message(rules={"list": 5, "dry_run": [], "reason": {}, "profile": 7})),
    "shouting-rules": lambda: rules(json.dumps(texts(json.loads(listing()), EVIL)), EVIL),
}


# -- a fleet of them


def good(number: int) -> str:
    """A good host's answer: each has counters of its own."""
    return printed(Host(pair=measured(events=100000 + number, drops=number % 7, seconds=1000.0)).message())


def write(folder: str, number: int) -> None:
    """Each host's answer in a file of its name: 1 % of each kind, one that is endless, one that hangs, and good ones up to so many.

    Prints {name: what becomes of the host, as in KINDS} as JSON.
    """
    each, place = max(1, number // 100), Path(folder)
    answers = {"%s-%d" % (kind, copy_of): (make(), said) for kind, (make, said) in KINDS.items() for copy_of in range(each)}
    expected = {name: said for name, (_text, said) in answers.items()}
    for index in range(max(10, number - len(answers) - 2 * each)):
        name = "good-%03d" % index
        answers[name], expected[name] = (good(index), "good"), "good"
    for name, (text, _said) in answers.items():
        (place / name).write_text(text)
    for index in range(each):
        expected.update({"endless-%d" % index: "MiB", "hangs-%d" % index: "hangs"})
    print(json.dumps(expected))
