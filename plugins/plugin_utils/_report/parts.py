# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one of several jobs found, as text, and the parts of all jobs → what one job would have found. Pure.

A part is JSON by lines: a header, and one line for each host. Parts come from other control nodes, so nothing
in them is trusted. The header says how many hosts follow, so a cut part is seen. Hosts are checked by
models.assemble(), as those of a job of its own are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.falcotune.fleet.plugins.plugin_utils import _untrusted
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import models, shape
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import several, some, value_text, visible

VERSION = 1
# Of an audit and of a part: names of files, and job numbers of AWX.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)
# Bytes of a part: 20 000 hosts with what their rules cost.
MOST_BYTES = 1 << 28
# Characters and values of one host; what its answer may have (_action/host_answers.py).
MOST_CHARACTERS = 1 << 22
MOST_VALUES = 1 << 18
MOST_PARTS = 1000
POLICY = ("accepted_drops_percent", "accepted_hosts_percent", "min_observation_seconds")
# Seconds since 1970 that a part may say: up to the year 9999.
LAST = 253402300799


class PartError(ValueError):
    """A part that cannot be used, or parts that do not belong together. The text says why and what to do."""


class Part(NamedTuple):
    """name: of the part. began: Unix time at which its first host was examined. policy and monitoring: as
    models.assemble() takes them. results: hosts of the model, unchecked."""

    name: str
    made_at: str
    began: float
    policy: dict[str, Any]
    monitoring: dict[str, Any] | None
    results: list[dict[str, Any]]


class Whole(NamedTuple):
    """What models.assemble() takes of an audit."""

    results: list[dict[str, Any]]
    policy: dict[str, Any]
    meta: dict[str, Any]


def file_name(audit: str, name: str) -> str:
    return "part-%s-%s.jsonl" % (audit, name)


def audits_of(names: Iterable[str]) -> list[str]:
    """The audits that files of a directory may be parts of."""
    found = {
        name[5:].rpartition("-")[0] for name in names if name.startswith("part-") and name.endswith(".jsonl")
    }
    return sorted(audit for audit in found if NAME.fullmatch(audit))


def named(what: str, value: str) -> str:
    """The name of an audit or a part. Raises PartError. Only that of an audit may have a dash: what follows
    the last one is the part."""
    if NAME.fullmatch(value) and (what == "falco_audit_id" or "-" not in value):
        return value
    raise PartError(
        "%s is %s: expected 1 to 64 letters, digits, dots and underscores, such as the number of a job"
        % (what, value_text(value))
    )


def to_part(
    audit: str,
    name: str,
    results: Sequence[object],
    policy: Mapping[str, Any],
    meta: Mapping[str, Any],
    began: float,
) -> str:
    """The text of a part. results, policy and meta: as models.assemble() takes them."""
    header = {
        "falcotune_part": VERSION,
        "audit": audit,
        "name": name,
        "kind": meta["kind"],
        "collection": meta["collection"],
        "made_at": meta["made_at"],
        "began": began,
        "policy": {**{key: policy[key] for key in POLICY}, "fail_on": models.fail_on(policy["fail_on"])},
        "monitoring": shape.MONITORING(meta.get("monitoring")),
        "hosts": len(results),
    }
    lines = [header, *map(shape.host, results)]
    return "".join(json.dumps(line, allow_nan=False, separators=(",", ":")) + "\n" for line in lines)


def read(text: str, audit: str, kind: str) -> Part:
    """The part. Raises PartError where it is none of this audit, or not whole."""
    lines = text.split("\n")
    header = _untrusted.dictionary(_line(lines[0]))
    if header.get("falcotune_part") != VERSION:
        raise PartError("this is not a part of an audit that this version of falcotune.fleet reads")
    for key, expected in (("audit", audit), ("kind", kind)):
        if header.get(key) != expected:
            raise PartError(
                "its %s is %s: expected %s"
                % (key, visible(value_text(header.get(key)))[:80], value_text(expected))
            )
    hosts = _untrusted.count(header.get("hosts"))
    if hosts is None or lines[-1] or len(lines) != hosts + 2:
        raise PartError(
            "it is not whole: it has %s, and its header says %s; run its job again"
            % (several(max(len(lines) - 2, 0), "host"), visible(value_text(header.get("hosts")))[:80])
        )
    began, made_at = _untrusted.number(header.get("began")), shape.moment(header.get("made_at"))
    if made_at is None or began is None or began > LAST:
        raise PartError("its header has no time")
    return Part(
        _untrusted.key(header.get("name")),
        made_at,
        began,
        _policy(header.get("policy")),
        shape.MONITORING(header.get("monitoring")),
        [_untrusted.dictionary(_line(line)) for line in lines[1:-1]],
    )


def _policy(value: object) -> dict[str, Any]:
    given = _untrusted.dictionary(value)
    found: dict[str, Any] = {key: _untrusted.number(given.get(key)) for key in POLICY}
    rules = [_untrusted.key(rule) for rule in _untrusted.sequence(given.get("fail_on"))]
    if None in found.values() or not set(rules) <= set(models.RULES):
        raise PartError("its header has no policy that this version of falcotune.fleet knows")
    return {**found, "fail_on": models.fail_on(rules)}


def _line(line: str) -> Any:
    """A line's value. Raises PartError for what is no JSON, or costs more than one host may."""
    if len(line) > MOST_CHARACTERS or sum(map(line.count, ",[{")) > MOST_VALUES:
        raise PartError("one of its lines is longer than a host may be")
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise PartError("it is not JSON by lines, or it is nested too deep") from None


def fold(parts: Sequence[Part], expected: int, meta: Mapping[str, Any]) -> Whole:
    """What one job would have found. Raises PartError for parts that do not belong together.

    expected: number of parts, 0 where it is not known. meta: kind and collection.
    """
    if expected and len(parts) != expected:
        raise PartError(
            "there are %s (%s), and falco_audit_parts is %d: wait for the other jobs, or run those that "
            "failed again. With falco_audit_parts=0 the report is made without them"
            % (several(len(parts), "part"), some(sorted(part.name for part in parts)) or "none", expected)
        )
    if not parts:
        raise PartError("there are no parts: run audits with falco_audit_part first")
    policy = parts[0].policy
    for part in parts:
        if part.policy != policy:
            differing = sorted(key for key in policy if part.policy[key] != policy[key])
            raise PartError(
                "the parts %s and %s were made by different policies (%s): one report needs one policy, so "
                "run one of them again" % (parts[0].name, part.name, ", ".join(differing))
            )
    made_at = max(part.made_at for part in parts)
    took = (shape.unix(made_at) or 0) - min(part.began for part in parts)
    monitoring = _monitoring([part.monitoring for part in parts if part.monitoring])
    return Whole(
        _results(parts),
        policy,
        {**meta, "made_at": made_at, "seconds": round(max(took, 0.0), 1), "monitoring": monitoring},
    )


def _results(parts: Iterable[Part]) -> list[dict[str, Any]]:
    """The hosts of all parts. Of a host in two parts the later one counts."""
    found: list[dict[str, Any]] = []
    known: set[str] = set()
    for part in sorted(parts, key=lambda part: (part.made_at, part.name), reverse=True):
        names = [_untrusted.key(result.get("name")) for result in part.results]
        found += [result for name, result in zip(names, part.results) if name not in known]
        known.update(names)
    return found


def _monitoring(given: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    if not given:
        return None
    problems = [item["problem"] for item in given if item["problem"]]
    return {
        "server": given[0]["server"],
        "problem": problems[0] if problems else None,
        "sample": [name for item in given for name in item["sample"]],
    }
