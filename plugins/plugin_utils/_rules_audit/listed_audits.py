# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit of what a host's Falco has listed (`falco -L`), as facts and reports keep it. Pure."""

from __future__ import annotations

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import RuleFinding, RulesAudit
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.releases import Release
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import listing
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules_audit import auditor, inputs

# A host keeps its heaviest rules and first findings; there may be thousands.
MOST_WEIGHTS = 25
MOST_FINDINGS = 50
# Falco's list holds no exceptions, which may use macros and lists.
LEFT_OUT = frozenset(["unused_macro", "unused_list"])
MOST_ADVICE = 3


def audit(
    printed: str, release: Release, effective: object = None, profile: object = None
) -> RulesAudit | None:
    """The audit of a list, or None where it cannot be read.

    printed: standard output of `falco -L -o json_output=true`. effective: Falco's configuration. profile: of
    falco_syscall_profile, or None.
    """
    text = listing.as_file(printed)
    if text is None:
        return None
    host = inputs.host(release, effective, profile)
    found = auditor.audit([(listing.ORIGIN, text)], release, host)
    if host.selection:
        found["findings"] += _of_disabled(text, release, host, found)
    for item in (*found["findings"], *found["weights"]):
        item["line"] = None
    kept = [item for item in found["findings"] if item["kind"] not in LEFT_OUT]
    return {**found, "findings": kept[:MOST_FINDINGS], "weights": found["weights"][:MOST_WEIGHTS]}


def _of_disabled(text: str, release: Release, host: auditor.Host, found: RulesAudit) -> list[RuleFinding]:
    """Warnings about the rules that Falco's `rules` disables, maybe for just these findings."""
    enabled = {weight["rule"] for weight in found["weights"]}
    every = auditor.audit([(listing.ORIGIN, text)], release, host._replace(selection=()))
    return [
        {**item, "level": "note", "text": "disabled now: " + item["text"]}
        for item in every["findings"]
        if item["level"] == "warning" and item["rule"] and item["rule"] not in enabled
    ]


def advice(found: RulesAudit) -> list[str]:
    """What would save Falco's thread most, in a few lines: findings with a gain, else the heaviest rules."""
    told = [
        "rules: %s: %s; %s%s" % (item["rule"], item["text"], item["instead"], auditor.gain_text(item))
        for item in found["findings"]
        if item["level"] != "note" or item["saves_percent"]
        if item["saves_ns"] or item["saves_percent"] or item["kind"] in ("no_evttype", "negative_evttype")
    ]
    heavy = [
        "rules: %s takes %s" % (weight["rule"], auditor.weight_text(weight))
        for weight in found["weights"]
        if weight["ns"] is not None
    ]
    return told[:MOST_ADVICE] + heavy[:MOST_ADVICE]
