# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is on disk ≠ what was planned ≠ what runs. Pure: facts and plan → findings.

Only a host that the collection has changed before can drift: its record says what was written and proven
then.
"""

from __future__ import annotations

from typing import Literal

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import (
    Buffers,
    Config,
    ConfigFile,
    Drift,
    Facts,
    Json,
    Plan,
    Record,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import buffers, changes

AGAIN = "run tune_falco.yml: it puts this back, or proves Falco with what is there now"


def _finding(
    kind: Literal["disk", "running", "overridden", "driver"],
    what: str,
    found: Json,
    expected: Json,
    advice: str = AGAIN,
) -> Drift:
    return {"kind": kind, "what": what, "found": found, "expected": expected, "advice": advice}


def find(facts: Facts, plan: Plan | None = None, current: Buffers | None = None) -> list[Drift]:
    """What has drifted.

    plan: the plan that the same facts make now, or None where none can be made. current: the buffer settings
    that the configuration on disk asks for, or None.
    """
    record = facts["host"]["record"]
    running = _stale(facts) + _rings(facts, current) + _priority(facts)
    if not record:
        return running
    found = unproven(facts) + _overridden(facts["config"], record) + running
    return found + (_planned(plan) if plan and "reason" not in plan else [])


def unproven(facts: Facts) -> list[Drift]:
    """What differs from what Falco was proven with: its driver, its release, the files on disk."""
    record = facts["host"]["record"]
    return _driver(facts, record) + _disk(facts, record) if record else []


def _disk(facts: Facts, record: Record) -> list[Drift]:
    now = facts["host"]["files"]
    return [
        _finding(
            "disk",
            path,
            "changed since" if now.get(path) else "missing",
            "as it was when Falco was proven with it",
        )
        for path, expected in sorted(record["files"].items())
        if now.get(path) != expected
    ]


def _driver(facts: Facts, record: Record) -> list[Drift]:
    kind, known = facts["driver"]["kind"], record["driver"]
    found = []
    if known and kind and kind != known:
        found.append(
            _finding(
                "driver",
                "driver (%s)" % facts["driver"]["decided_by"],
                kind,
                known,
                "a package upgrade may have chosen anew: enable the unit of the driver you want, or run "
                "tune_falco.yml "
                "to tune the one that runs",
            )
        )
    version, proven = facts["falco"]["version"], record["version"]
    if version and proven and version != proven:
        advice = "its settings were proven with another release: " + AGAIN
        found.append(_finding("running", "Falco's release", version, proven, advice))
    return found


def _overridden(config: Config, record: Record) -> list[Drift]:
    """Blocks of a file of ours that something read later decides."""
    found = []
    for item in config["files"]:
        if item["path"] not in record["written"]:
            continue
        for block in item["keys"]:
            by = _override(config, item, block)
            if by:
                found.append(
                    _finding(
                        "overridden",
                        "%s of %s" % (block, item["path"]),
                        "decided by %s" % by,
                        "decided by this file",
                        "rename or remove what overrides it; a whole block is replaced, not merged",
                    )
                )
    return found


def _override(config: Config, ours: ConfigFile, block: str) -> str | None:
    """What decides a block that our file holds, or None where that is our file."""
    holders = [
        item["path"] for item in config["files"] if block in item["keys"] and item["strategy"] != "add-only"
    ]
    if holders and holders[-1] != ours["path"]:
        return holders[-1]
    if config["origin"].get(block) != "-o":
        return None
    # The packages' units name the driver, and what we write says the same.
    given = [
        option
        for option in config["options"]
        if option.split(".")[0].split("=")[0].split("[")[0] == block and not option.startswith("engine.kind=")
    ]
    return "-o %s of the process" % given[0] if given else None


def _stale(facts: Facts) -> list[Drift]:
    stale = facts["config"]["stale"]
    if not stale:
        return []
    advice = "%s: restart Falco, or run tune_falco.yml" % stale
    return [_finding("running", "configuration", "an older one", "what is on disk", advice)]


def _rings(facts: Facts, current: Buffers | None) -> list[Drift]:
    """Where the ring buffers that Falco has mapped are not those that the configuration asks for."""
    rings, online, kind = facts["falco"]["rings"], facts["cpus"]["online"], facts["driver"]["kind"]
    if not (rings and current and online and kind):
        return []
    if rings["driver"] != kind:
        advice = "the ring buffers that are mapped are another driver's: look at Falco's log"
        return [_finding("driver", "driver", rings["driver"], kind, advice)]
    wanted = buffers.layout(kind, online, current["buf_size_preset"], current["cpus_for_each_buffer"])
    advice = "the running Falco has not taken what is on disk: restart it, or run tune_falco.yml"
    return [
        _finding("running", what, now, expected, advice)
        for what, now, expected in (
            ("bytes of each ring buffer", rings["bytes_each"], wanted["bytes_each"]),
            ("number of ring buffers", rings["count"], wanted["count"]),
        )
        if now != expected
    ]


def _priority(facts: Facts) -> list[Drift]:
    """Where the process does not have what our drop-in says."""
    held = facts["host"]["unit_dropin"]
    advice = "a later drop-in overrides it, the unit was not restarted, or systemd may not set it here"
    return [
        _finding("running", "%s of the process" % name, now, held[name], advice)
        for name, now in (
            ("Nice", facts["falco"]["nice"]),
            ("CPUWeight", facts["service"]["cgroup"]["weight"]),
        )
        if name in held and now is not None and str(now) != str(held[name])
    ]


def _planned(plan: Plan) -> list[Drift]:
    """What policy asks for now and the host does not have.

    A step that evidence asks for is a proposal, not drift. What runs or is proven is a finding of its own.
    """
    if plan["step"]:
        return []
    return [
        _finding("disk", changes.label(item), item["from"], item["to"])
        for item in plan["changes"]
        if item["kind"] not in changes.OF_WHAT_RUNS
    ]
