# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is on disk ≠ what was planned ≠ what runs. Pure: facts and plan → findings.

Only a host that the collection has changed before can drift: its record says what was written and proven then.
"""

from __future__ import annotations

from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import buffers, changes

AGAIN = "run tune_falco.yml: it puts this back, or proves Falco with what is there now"


def _finding(kind, what, found, expected, advice=AGAIN):
    return {"kind": kind, "what": what, "found": found, "expected": expected, "advice": advice}


def find(facts, plan=None, current=None):
    """[{'kind': 'disk'|'running'|'overridden'|'driver', 'what', 'found', 'expected', 'advice'}].

    plan: the plan that the same facts make now, or None. current: {'buf_size_preset', 'cpus_for_each_buffer'} that the
    configuration on disk asks for, or None.
    """
    record = (facts.get("host") or {}).get("record")
    found = _running(facts, current)
    if record:
        found = unproven(facts) + _overridden(facts, record) + found
        if plan and not plan.get("reason"):
            found += _planned(plan)
    return found


def unproven(facts):
    """The findings about what differs from what Falco was proven with: its driver, its release, the files on disk."""
    record = (facts.get("host") or {}).get("record")
    return _driver(facts, record) + _disk(facts, record) if record else []


def _disk(facts, record):
    now = (facts.get("host") or {}).get("files") or {}
    found = []
    for path, expected in sorted((record.get("files") or {}).items()):
        if now.get(path) != expected:
            found.append(
                _finding(
                    "disk",
                    path,
                    "changed since" if now.get(path) else "missing",
                    "as it was when Falco was proven with it",
                )
            )
    return found


def _driver(facts, record):
    kind, known = facts["driver"].get("kind"), record.get("driver")
    found = []
    if known and kind and kind != known:
        found.append(
            _finding(
                "driver",
                "driver (%s)" % facts["driver"].get("decided_by"),
                kind,
                known,
                "a package upgrade may have chosen anew: enable the unit of the driver you want, or run tune_falco.yml "
                "to tune the one that runs",
            )
        )
    version, proven = facts["falco"].get("version"), record.get("version")
    if version and proven and version != proven:
        found.append(
            _finding(
                "running",
                "Falco's release",
                version,
                proven,
                "its settings were proven with another release: " + AGAIN,
            )
        )
    return found


def _overridden(facts, record):
    """Blocks of a file of ours that something read later decides."""
    config = facts.get("config") or {}
    files, options = config.get("files") or [], config.get("options") or []
    found = []
    for item in files:
        if item["path"] not in (record.get("written") or []):
            continue
        for block in item["keys"]:
            later = [
                other["path"] for other in files if block in other["keys"] and other["strategy"] != "add-only"
            ]
            by = later[-1] if later and later[-1] != item["path"] else None
            if not by and (config.get("origin") or {}).get(block) == "-o":
                # The packages' units name the driver, and what we write says the same.
                given = [
                    option
                    for option in options
                    if option.split(".")[0].split("=")[0].split("[")[0] == block
                    and not option.startswith("engine.kind=")
                ]
                by = "-o %s of the process" % given[0] if given else None
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


def _running(facts, current):
    config, falco = facts.get("config") or {}, facts.get("falco") or {}
    found = []
    if config.get("stale"):
        found.append(
            _finding(
                "running",
                "configuration",
                "an older one",
                "what is on disk",
                "%s: restart Falco, or run tune_falco.yml" % config["stale"],
            )
        )
    rings, online = falco.get("rings"), (facts.get("cpus") or {}).get("online")
    if rings and current and online and facts["driver"].get("kind"):
        if rings["driver"] != facts["driver"]["kind"]:
            found.append(
                _finding(
                    "driver",
                    "driver",
                    rings["driver"],
                    facts["driver"]["kind"],
                    "the ring buffers that are mapped are another driver's: look at Falco's log",
                )
            )
        else:
            wanted = buffers.layout(
                rings["driver"], online, current["buf_size_preset"], current["cpus_for_each_buffer"]
            )
            for name, what in (
                ("bytes_each", "bytes of each ring buffer"),
                ("count", "number of ring buffers"),
            ):
                if rings[name] != wanted[name]:
                    found.append(
                        _finding(
                            "running",
                            what,
                            rings[name],
                            wanted[name],
                            "the running Falco has not taken what is on disk: restart it, or run tune_falco.yml",
                        )
                    )
    held = (facts.get("host") or {}).get("unit_dropin") or {}
    for name, now in (
        ("Nice", falco.get("nice")),
        ("CPUWeight", ((facts.get("service") or {}).get("cgroup") or {}).get("weight")),
    ):
        if name in held and now is not None and str(now) != str(held[name]):
            found.append(
                _finding(
                    "running",
                    "%s of the process" % name,
                    now,
                    held[name],
                    "a later drop-in overrides it, the unit was not restarted, or systemd may not set it here",
                )
            )
    return found


def _planned(plan):
    """What policy asks for now and the host does not have. What evidence asks for anew is a proposal, not drift, and what runs or is
    proven is a finding of its own.
    """
    if plan.get("step"):
        return []
    return [
        _finding("disk", changes.label(change), change["from"], change["to"])
        for change in plan["changes"]
        if change["kind"] not in changes.OF_WHAT_RUNS
    ]
