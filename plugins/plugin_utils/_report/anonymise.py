# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of a report → a bundle that can be shown to strangers: numbers and settings, no names. Pure.

What may stay is listed here (system calls too: what each set of them costs is what a bundle is shared for).
All other text is replaced by the kind of text it is, with a number: host-01, path-3, rule-2, address-1,
text-7. The same text is replaced by the same word everywhere in one bundle, and words are numbered in the
order in which they come up, so the same report makes the same bundle. Sentences are replaced whole, because
they quote what they speak of; the words of a verdict and the numbers of a window say the same to a reader.

What stays: numbers, words of the report model, names of Falco's own keys, releases, drivers and units,
durations. Kernel releases stay as far as they are a distribution's. All times are shifted together, so that
the report was made at EPOCH.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Any

from ansible_collections.falcotune.fleet.plugins.plugin_utils import _untrusted
from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import EVIDENCE_BASES
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases, syscall_names
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.words import ENGINES, UNIT_DRIVERS
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import models, shape
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules_audit import auditor
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import hint
from ansible_collections.falcotune.fleet.plugins.plugin_utils._trial import tests
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies, windows

EPOCH = "2000-01-01T00:00:00Z"
_EPOCH = shape.unix(EPOCH) or 0

UNITS = tuple(UNIT_DRIVERS)
SOURCES = ("metrics_file", "alerts_file", "journal", "syslog", "prometheus", "between audits")
CATEGORIES = (
    "clone_fork",
    "execve",
    "connect",
    "open",
    "dir_file",
    "other_interest",
    "close",
    "proc",
    "scratch_map",
    "page_faults",
    "bug",
    "uncategorised",
)
MEMORIES = ("rss", "pss", "vsz", "container")
# Of the evidence of a change: what counts, not which process it was.
EVIDENCE = ("events", "restarts", "seconds_to_evidence", "blind_seconds_at_most")
PROOFS = ("metrics.output_file", "/metrics", "memory map", "log")
PROPERTIES = ("Nice", "CPUWeight", "CPUQuota", "ReadWritePaths", "kernel.bpf_stats_enabled")
# What plans and findings say in always the same words.
SAID = (
    "(unfinished) change",
    "(unfinished) trial",
    "proven state",
    "change",
    "trial",
    "configuration",
    "driver",
    "Falco's release",
    "bytes of each ring buffer",
    "number of ring buffers",
    "Nice of the process",
    "CPUWeight of the process",
    "changed since",
    "missing",
    "as it was when Falco was proven with it",
    "decided by this file",
    "an older one",
    "what is on disk",
)
# The guide's own tests, by name and by number; a user's may be called anything.
TESTS = tuple(name for test in tests.GUIDE for name in (test["name"], test["name"].split()[0]))
TESTS += tuple(test["name"] for test in tests.complete("plugins"))
EVENTS = (
    syscall_names.WITH_EVENT
    | syscall_names.GENERIC
    | syscall_names.META
    | frozenset(syscall_names.EVENT_TO_KERNEL)
)
FLAVOURS = frozenset(
    (
        "amd64",
        "arm64",
        "aarch64",
        "x86",
        "s390x",
        "ppc64le",
        "generic",
        "lowlatency",
        "aws",
        "azure",
        "gcp",
        "gke",
        "oracle",
        "kvm",
        "cloud",
        "default",
        "lts",
        "rt",
        "uek",
        "virt",
        "hardened",
        "debug",
        "bpo",
    )
)

_KEYS = frozenset(key.path for key in releases.KEYS)
_PARTS = frozenset(part for path in _KEYS for part in path.split("."))
_WORDS = _KEYS | _PARTS | frozenset(ENGINES + UNITS + PROPERTIES + SAID)
_RELEASE = re.compile(r"0\.[0-9]{1,2}\.[0-9]{1,2}")
_SETTING = re.compile(r"(?:[0-9]{1,6}(?:ms|[ywdhms]))+|[0-9]{1,4}|true|false")
_KERNEL = re.compile(r"[0-9]{1,2}\.[0-9]{1,3}(?:\.[0-9]{1,3})?")
_KERNEL_PART = re.compile(r"([-._+~])([^-._+~]+)")
_DISTRIBUTION = re.compile(r"(?:el|fc|amzn|deb)[0-9]{1,4}|[0-9]{1,4}")
_COLLECTION = re.compile(r"falcotune\.fleet [0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}")
_ABOUT = re.compile(r"\((directory|file|unit|sysctl)\) (.+)", re.DOTALL)
_BLOCK_OF = re.compile(r"([a-z_]+) of (/.+)", re.DOTALL)
_OURS = re.compile(r"[a-z]+-[0-9]+")


Host = models.Host
Part = dict[str, Any]
Allowed = Container[str] | re.Pattern[str]


class BundleError(policies.PolicyError):
    """A host that is not in the report: says which, and the nearest name in it."""


def bundle(model: models.Model, hosts: Sequence[str] | None = None) -> models.Model:
    """A report of kind bundle with the chosen hosts, or all. hosts: names as in the report.

    The fleet's part is computed anew, of these hosts alone; what was said of others is not in it.
    """
    chosen = _chosen(model, hosts)
    names = _Names(chosen)
    shift = _EPOCH - (shape.unix(model["made_at"]) or 0)
    collection = model["collection"] if _COLLECTION.fullmatch(str(model["collection"])) else "falcotune.fleet"
    return models.public(
        models.assemble(
            [_host(host, names, shift) for host in chosen],
            model["policy"],
            {"kind": "bundle", "collection": collection, "made_at": EPOCH, "seconds": model["seconds"]},
        )
    )


def _chosen(model: models.Model, names: Sequence[str] | None) -> list[Host]:
    if names is None:
        return [shape.host(host) for host in model["hosts"]]
    known = {host["name"]: host for host in model["hosts"]}
    for name in names:
        if name not in known:
            raise BundleError("%s is not in this report%s" % (name, hint(name, known)))
    return [shape.host(host) for name, host in known.items() if name in names]


class _Names:
    """What each text is called from now on."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self.known: dict[str, str] = {}
        self.numbers: dict[str, int] = {}
        # A text that looks like one of our words keeps its number free, or it would seem to be somebody else.
        self.taken = frozenset(_looking_ours(hosts))
        digits = len(str(len(hosts) + len(self.taken)))
        for host in hosts:
            self.call("host", host["name"], digits)

    def call(self, kind: str, text: str, digits: int = 1) -> str:
        if text not in self.known:
            while True:
                self.numbers[kind] = self.numbers.get(kind, 0) + 1
                name = "%s-%0*d" % (kind, digits, self.numbers[kind])
                if name not in self.taken:
                    break
            self.known[text] = name
        return self.known[text]

    def word(self, kind: str, text: str | None, allowed: Allowed) -> str | None:
        """A text that stays if it is allowed: a container of texts, or a compiled pattern."""
        if text is None:
            return None
        stays = allowed.fullmatch(text) if isinstance(allowed, re.Pattern) else text in allowed
        return text if stays else self.call(kind, text)

    def text(self, text: str | None) -> str | None:
        """Free text, called by what it is where that can be seen."""
        if text is None or not text or text in _WORDS:
            return text
        if text.startswith("/"):
            return self.call("path", text)
        if _is_address(text):
            return self.call("address", text)
        return self.call("text", text)

    def texts(self, texts: Iterable[str | None]) -> list[str | None]:
        return [self.text(text) for text in texts]

    def about(self, text: str) -> str | None:
        """The key of a change or what a finding is about."""
        match = _ABOUT.fullmatch(text)
        if match:
            return "(%s) %s" % (match.group(1), self.text(match.group(2)))
        match = _BLOCK_OF.fullmatch(text)
        if match and match.group(1) in _PARTS:
            return "%s of %s" % (match.group(1), self.text(match.group(2)))
        return self.text(text)

    def value(self, value: Any) -> Any:
        """A setting: numbers and switches stay, lists and dicts are looked into."""
        if isinstance(value, str):
            return value if _SETTING.fullmatch(value) or _RELEASE.fullmatch(value) else self.text(value)
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, dict):
            return {self.word("key", name, _PARTS): self.value(item) for name, item in value.items()}
        return value

    def events(self, names: Iterable[str]) -> list[str]:
        """System calls, each with a ! before it where it is excluded."""
        return ["!" + self.event(name[1:]) if name[:1] == "!" else self.event(name) for name in names]

    def event(self, name: str) -> str:
        return name if name in EVENTS else self.call("event", name)

    def rules(self, names: Iterable[str]) -> list[str]:
        return [self.call("rule", name) for name in names]

    def counts(self, kind: str, counts: dict[str, int], allowed: Allowed) -> dict[str, int]:
        return {self.word(kind, name, allowed) or "": number for name, number in counts.items()}

    def kernel(self, text: str | None) -> str | None:
        """The beginning of a kernel's release that a distribution gave it, or a name."""
        if not text:
            return text
        match = _KERNEL.match(text)
        if not match:
            return self.call("kernel", text)
        end = match.end()
        for part in _KERNEL_PART.finditer(text, end):
            if part.start() != end or not (
                part.group(2) in FLAVOURS or _DISTRIBUTION.fullmatch(part.group(2))
            ):
                break
            end = part.end()
        return text[:end]


def _looking_ours(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if _OURS.fullmatch(value):
            yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _looking_ours(name)
            if name != "history":  # nothing but numbers and states, and most of the report
                yield from _looking_ours(item)
    elif isinstance(value, list):
        for item in value:
            yield from _looking_ours(item)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_interface(text.strip("[]"))
    except ValueError:
        return False
    return True


def _host(host: Host, names: _Names, shift: int) -> Host:
    """A host as assemble() takes it. Its parts are listed one by one, so that a new part is left out."""
    return {
        "name": names.call("host", host["name"]),
        "status": host["status"],
        "reason": names.text(host["reason"]),
        "release": names.word("release", host["release"], _RELEASE),
        "driver": names.word("driver", host["driver"], ENGINES),
        "cpus": host["cpus"],
        "memory_bytes": host["memory_bytes"],
        "kernel": names.kernel(host["kernel"]),
        "unit": names.word("unit", host["unit"], UNITS),
        "buffers": host["buffers"],
        "window": host["window"] and _window(host["window"], names),
        "verdict": host["verdict"] and _verdict(host["verdict"], names),
        "plan": host["plan"] and _plan(host["plan"], names),
        "drift": [
            {
                "kind": item["kind"],
                "what": names.about(item["what"]),
                "found": names.value(item["found"]),
                "expected": names.value(item["expected"]),
                "advice": names.text(item["advice"]),
            }
            for item in host["drift"]
        ],
        "change": host["change"] and _change(host["change"], names, shift),
        "syscalls": host["syscalls"] and _syscalls(host["syscalls"], names),
        "sight": host["sight"]
        and {
            "basis": host["sight"]["basis"],
            "reason": names.text(host["sight"]["reason"]),
            "rules_total": host["sight"]["rules_total"],
            **{kind: names.rules(host["sight"][kind]) for kind in ("blind", "half_blind", "wrong_output")},
            "unseen": _unseen(host["sight"]["unseen"], names),
        },
        "rules": host["rules"] and _rules(host["rules"], names),
        "monitored": host["monitored"],
        "trial": host["trial"] and _trial(host["trial"], names, shift),
        "previous": host["previous"] and dict(host["previous"], at=_later(host["previous"]["at"], shift)),
        "history": [[row[0] + shift, *row[1:]] for row in host["history"]],
    }


def _verdict(verdict: Part, names: _Names) -> Part:
    answer = verdict["answer"]
    return dict(
        verdict,
        advice=names.text(verdict["advice"]),
        reasons=names.texts(verdict["reasons"]),
        answer=answer
        and dict(
            answer,
            text=names.text(answer["text"]),
            **{name: names.texts(answer[name]) for name in ("tried", "takes", "gave_up")},
        ),
    )


def _window(window: Part, names: _Names) -> Part:
    return dict(
        window,
        source=names.word("text", window["source"], SOURCES),
        basis=names.word("text", window["basis"], windows.BASES),
        voided=names.text(window["voided"]),
        drops_by_category=names.counts("category", window["drops_by_category"], CATEGORIES),
        userspace=names.counts("counter", window["userspace"], (*windows.USERSPACE, "n_threads")),
        memory=names.counts("memory", window["memory"], MEMORIES),
    )


def _plan(plan: Part, names: _Names) -> Part:
    return {
        "changes": [
            {
                "kind": item["kind"],
                "key": names.text(item["key"]),
                "from": names.value(item["from"]),
                "to": names.value(item["to"]),
                "why": names.text(item["why"]),
            }
            for item in plan["changes"]
        ],
        "restart_required": plan["restart_required"],
        "warnings": names.texts(plan["warnings"]),
        "reason": names.text(plan["reason"]),
    }


def _unseen(ways: Iterable[Part], names: _Names) -> list[Part]:
    return [
        {
            "way": names.text(one["way"]),
            "calls": names.events(one["calls"]),
            "fields": names.texts(one["fields"]),
            "false_alarms": one["false_alarms"],
            "rules": names.rules(one["rules"]),
        }
        for one in ways
    ]


def _syscalls(chosen: Part, names: _Names) -> Part:
    def rules(items: Iterable[Part]) -> list[Part]:
        return [
            {
                "rule": names.call("rule", item["rule"]),
                "lost": names.events(item["lost"]),
                "left": names.events(item["left"]),
            }
            for item in items
        ]

    coverage = chosen["coverage"]
    return dict(
        {
            name: chosen[name]
            for name in ("repair", "all", "basis", "target_events_per_second", "reached", "before", "after")
        },
        **{name: names.events(chosen[name]) for name in ("custom_set", "selected", "added", "removed")},
        coverage={
            "rules_total": coverage["rules_total"],
            "blind": rules(coverage["blind"]),
            "half_blind": rules(coverage["half_blind"]),
            "wrong_output": rules(coverage["wrong_output"]),
            "unseen": _unseen(coverage["unseen"], names),
        },
        frontier=[
            dict(
                {name: step[name] for name in ("events_per_second", "rules_blind", "rules_half_blind")},
                exclude=names.events(step["exclude"]),
                lost=names.rules(step["lost"]),
            )
            for step in chosen["frontier"]
        ],
        warnings=names.texts(chosen["warnings"]),
    )


def _rules(audit: Part, names: _Names) -> Part:
    """Numbers and kinds; texts of findings quote conditions, so they stay on the host."""
    numbers = ("ok", "rules_total", "rules_enabled", "basis", "percent")
    return {
        **{name: audit[name] for name in numbers},
        "cost": None,
        "digest": None,
        "weights": [
            {
                **item,
                "rule": names.call("rule", item["rule"]),
                "events": names.events(item["events"]),
                "alone": names.events(item["alone"]),
                "findings": [kind for kind in item["findings"] if kind in auditor.KINDS],
            }
            for item in audit["weights"]
        ],
        "findings": [
            {**item, "rule": item["rule"] and names.call("rule", item["rule"]), "text": "", "instead": ""}
            for item in audit["findings"]
            if item["kind"] in auditor.KINDS
        ],
    }


# What a test is shown with as it is.
_MEASURED = (
    "state",
    "repair",
    "all",
    "seconds",
    "events",
    "events_per_second",
    "rate_per_cpu",
    "drops",
    "drops_percent",
    "falco_cpu_percent",
    "falco_wait_percent",
    "memory_bytes",
    "rules_total",
    "cpu_per_million",
    "runs",
)
_WITHOUT = {
    "rules": "rule",
    "tags": "tag",
    "files": "path",
    "rules_of_plugins": "plugin",
    "plugins": "plugin",
}


def _trial(trial: Part, names: _Names, shift: int) -> Part:
    return {
        "verdict": trial["verdict"],
        "reason": names.text(trial["reason"]),
        "largest": names.word("test", trial["largest"], TESTS),
        "accepted_drops_percent": trial["accepted_drops_percent"],
        "mode": trial["mode"],
        **{name: None if trial[name] is None else trial[name] + shift for name in ("began", "ended")},
        "tests": [_test(test, names) for test in trial["tests"]],
    }


def _test(test: Part, names: _Names) -> Part:
    without, difference = test["without"], test["difference"]
    return dict(
        {name: test[name] for name in _MEASURED},
        name=names.word("test", test["name"], TESTS),
        reason=names.text(test["reason"]),
        custom_set=names.events(test["custom_set"]),
        selected=names.events(test["selected"]),
        rules_blind=names.rules(test["rules_blind"]),
        rules_half_blind=names.rules(test["rules_half_blind"]),
        rules_wrong_output=names.rules(test["rules_wrong_output"]),
        unseen=_unseen(test["unseen"], names),
        drops_by_category=names.counts("category", test["drops_by_category"], CATEGORIES),
        without=without
        and {
            kind: [names.call(_WITHOUT.get(kind, kind), name) for name in found]
            for kind, found in without.items()
        },
        against=names.word("test", test["against"], TESTS),
        rules_removed=names.rules(test["rules_removed"]),
        plugins=test["plugins"] and [names.call("plugin", name) for name in test["plugins"]],
        difference=difference and dict(difference, against=names.word("test", difference["against"], TESTS)),
    )


def _change(change: Part, names: _Names, shift: int) -> Part:
    evidence = change["evidence"]
    kept = {name: evidence[name] for name in EVIDENCE if _untrusted.number(evidence.get(name)) is not None}
    kept["basis"] = names.word("text", _untrusted.text(evidence.get("basis")), EVIDENCE_BASES)
    kept["source"] = names.word("text", _untrusted.text(evidence.get("source")), PROOFS)
    rings = evidence.get("buffers")
    if isinstance(rings, dict):
        kept["buffers"] = {
            "bytes_each": _untrusted.count(rings.get("bytes_each")),
            "count": _untrusted.count(rings.get("count")),
            "source": names.word("text", _untrusted.text(rings.get("source")), PROOFS),
        }
    return {
        "at": None if change["at"] is None else change["at"] + shift,
        "evidence": kept,
        "before": change["before"],
    }


def _later(at: object, shift: int) -> str | None:
    seconds = shape.unix(at)
    try:
        return None if seconds is None else shape.iso(seconds + shift)
    except OverflowError:  # before the year 1
        return None
