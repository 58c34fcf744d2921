# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A result of falco_config | falcotune.fleet.explain(plan): lines for people."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import coverage
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import bytes_text, visible
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import changes


def _value(value):
    if value in (None, ""):
        return "(not set)" if value is None else "(none)"
    if value is True or value is False:
        return str(value).lower()
    return str(value)


def explain(result, plan=None):
    """What was measured and what it means; what changed and why; what the buffers cost and bridge; what
    proved the change.

    result: of falco_config. plan: the plan that it was given, or None.
    """
    if not isinstance(result, dict):
        raise AnsibleFilterError("explain: expected the result of falcotune.fleet.falco_config")
    changed, evidence = result.get("changes", []), result.get("evidence")
    lines = _measured(plan) if plan else []
    lines.extend(
        "%s: %s -> %s (%s)" % (changes.label(item), _value(item["from"]), _value(item["to"]), item["why"])
        for item in changed
    )
    if plan and plan["buffers"] and any(_about_buffers(item) for item in changed):
        lines.append(_buffers(plan["buffers"], plan["seconds_bridged"]))
    if evidence:
        lines.append(_proof(evidence))
    elif result.get("msg"):
        lines.append(str(result["msg"]))
    # Much of it was written by the host, and goes to a terminal.
    return [visible(line) for line in lines]


def _about_buffers(change):
    return change["kind"] == "config" and (
        "buf_size_preset" in change["key"] or "cpus_for_each" in change["key"]
    )


def _buffers(rings, bridged):
    budget = rings["budget"]
    return (
        "buffers: %d x %s = %s of at most %s (%s); they bridge %s s instead of %s s at %d events/s per CPU"
        % (
            rings["count"],
            bytes_text(rings["bytes_each"]),
            bytes_text(rings["bytes_total"]),
            bytes_text(budget["bytes"]),
            budget["bound"],
            bridged["after"],
            bridged["before"],
            bridged["at_events_per_second_per_cpu"],
        )
    )


def _proof(evidence):
    source = evidence.get("source")
    if evidence.get("basis") == "process":
        source = "process only: %s" % evidence.get("reason")
    text = "proof: process %s counted %s events (%s)" % (evidence.get("pid"), evidence.get("events"), source)
    rings = evidence.get("buffers")
    if rings and rings.get("source"):
        text += ", rings of %s (%s)" % (bytes_text(rings["bytes_each"]), rings["source"])
    if evidence.get("adopted"):
        return text + "; it was not interrupted"
    blind = evidence.get("blind_seconds_at_most")
    if blind is None:
        return text + "; nothing tells when it saw events again"
    return text + "; no event was seen for at most %s s" % blind


def _measured(plan):
    """The verdict of a host that was judged, and the step that follows."""
    verdict = plan["verdict"]
    if not verdict:
        return []
    if verdict["state"] == "unmeasured":
        step = plan["step"]
        return ["because: %s" % step["why"], "expected: %s" % step["expected"]] if step else []
    bottleneck = "" if verdict["bottleneck"] == "none" else ", bottleneck %s" % verdict["bottleneck"]
    lines = ["verdict: %s%s" % (verdict["state"], bottleneck)]
    lines.extend("because: %s" % reason for reason in verdict["reasons"])
    if plan["step"]:
        lines.append("expected: %s" % plan["step"]["expected"])
        lines.extend(coverage.lines(plan["coverage"]))
    elif verdict["next_step"] not in ("none", "measure"):  # the plan itself switches metrics on
        lines.append("next: %s" % verdict["advice"])
    if verdict["answer"]:
        lines.append("answer: %s" % verdict["answer"]["text"])
    return lines


class FilterModule:
    """The filter of this file."""

    def filters(self):
        return {"explain": explain}
