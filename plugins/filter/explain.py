# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A result of falco_config | falcotune.fleet.explain(plan): lines for people."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import coverage
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning.buffers import human
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning.changes import label


def _value(value):
    if value in (None, ""):
        return "(not set)" if value is None else "(none)"
    if value is True or value is False:
        return str(value).lower()
    return str(value)


def explain(result, plan=None):
    """What was measured and what it means; what changed, from what to what, and why; what the buffers buy and
    cost; what proved it."""
    if not isinstance(result, dict):
        raise AnsibleFilterError("explain: expected the result of falcotune.fleet.falco_config")
    lines = _measured(plan)
    lines.extend(
        "%s: %s -> %s (%s)" % (label(change), _value(change["from"]), _value(change["to"]), change["why"])
        for change in result.get("changes", [])
    )
    keys = " ".join(change["key"] for change in result.get("changes", []))
    if plan and plan["buffers"] and ("buf_size_preset" in keys or "cpus_for_each" in keys):
        rings, bridged = plan["buffers"], plan["seconds_bridged"]
        lines.append(
            "buffers: %d x %s = %s of at most %s (%s); they bridge %s s instead of %s s at %d events/s per "
            "CPU"
            % (
                rings["count"],
                human(rings["bytes_each"]),
                human(rings["bytes_total"]),
                "?" if rings["budget"]["bytes"] is None else human(rings["budget"]["bytes"]),
                rings["budget"]["bound"],
                bridged["after"],
                bridged["before"],
                bridged["at_events_per_second_per_cpu"],
            )
        )
    evidence = result.get("evidence")
    if evidence:
        rings = evidence.get("buffers") or {}
        lines.append(
            "proof: process %s counted %s events (%s)%s; %s"
            % (
                evidence.get("pid"),
                evidence.get("events"),
                evidence.get("source"),
                ", rings of %s (%s)" % (human(rings["bytes_each"]), rings.get("source"))
                if rings.get("source")
                else "",
                "it was not interrupted"
                if evidence.get("adopted")
                else "no event was seen for at most %s s" % evidence.get("blind_seconds_at_most"),
            )
        )
    elif result.get("msg"):
        lines.append(str(result["msg"]))
    return lines


def _measured(plan):
    """The verdict of a host that was judged, and the step that follows."""
    verdict = (plan or {}).get("verdict")
    if not verdict or verdict["state"] == "unmeasured":
        return []
    lines = [
        "verdict: %s%s"
        % (
            verdict["state"],
            "" if verdict["bottleneck"] == "none" else ", bottleneck %s" % verdict["bottleneck"],
        )
    ]
    lines.extend("because: %s" % reason for reason in verdict["reasons"])
    if plan["step"]:
        lines.append("expected: %s" % plan["step"]["expected"])
        lines.extend(coverage.lines(plan["coverage"]))
    elif verdict["next_step"] not in ("none", "measure"):  # the plan itself switches metrics on
        lines.append("next: %s" % verdict["advice"])
    return lines


class FilterModule:
    """The filter of this file."""

    def filters(self):
        return {"explain": explain}
