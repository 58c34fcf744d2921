# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit of what a host's Falco has listed (`falco -L`), as facts and reports keep it. Pure."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import (
    PluginNeed,
    RuleFinding,
    RulesAudit,
    RuleWeight,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.releases import Release
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import listing, ruleset
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules_audit import auditor, inputs
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import several, some

# A host keeps its heaviest rules and first findings; there may be thousands.
MOST_WEIGHTS = 25
MOST_FINDINGS = 50
# Falco's list holds no exceptions, which may use macros and lists.
LEFT_OUT = frozenset(["unused_macro", "unused_list"])
MOST_ADVICE = 3
# Percent of what all rules cost, from which the rules of one tag are worth naming.
LEAST_OF_A_TAG = 10.0


def audit(
    printed: str,
    release: Release,
    effective: object = None,
    profile: object = None,
    plugins: Sequence[PluginNeed] = (),
) -> RulesAudit | None:
    """The audit of a list, or None where it cannot be read.

    printed: standard output of `falco -L -o json_output=true`. effective: Falco's configuration. profile: of
    falco_syscall_profile, or None. plugins: what the loaded plugins are needed for.
    """
    host = inputs.host(release, effective, profile)
    settings = json.dumps([host.priority, host.selection, host.matching, host.base_syscalls], default=str)
    rules = _ruleset(printed, str(release), settings)
    if rules is None:
        return None
    found = rules.of(host)
    if host.selection:
        every = _ruleset(printed, str(release), json.dumps([host.priority, [], *json.loads(settings)[2:]]))
        found["findings"] += _of_disabled(every, host, found)
    for item in (*found["findings"], *found["weights"]):
        item["line"] = None
    kept = [found for found in map(_unneeded, plugins) if found]
    kept += [item for item in found["findings"] if item["kind"] not in LEFT_OUT]
    return {**found, "findings": kept[:MOST_FINDINGS], "weights": found["weights"][:MOST_WEIGHTS]}


def _unneeded(need: PluginNeed) -> RuleFinding | None:
    """A finding about a plugin that no enabled rule needs, and how that was decided."""
    if need["rules"] or need["settings"]:
        return None
    text = (
        "the plugin %s is loaded, and no enabled rule needs it: none has its events, or reads its fields in "
        "the condition, exceptions or output" % need["plugin"]
    )
    if need["outputs"]:
        text += "; Falco adds its fields to the outputs of %s" % several(need["outputs"], "rule")
    blocking = [item["rule"] for item in need["disabled"] if not item["by_source"]]
    if need["required"] or blocking:
        held = ["required_plugin_versions names it"] if need["required"] else []
        held += ["disabled rules read its fields (%s)" % some(blocking)] if blocking else []
        text += ". But Falco does not load the rules files without it: %s" % "; ".join(held)
        instead = "remove that from the rules files first, if nothing else needs the plugin"
    else:
        instead = "remove it from load_plugins, or name it in falco_tune_disabled_plugins"
    return {
        "level": "note" if need["required"] or blocking else "warning",
        "kind": "unneeded_plugin",
        "rule": None,
        "file": None,
        "line": None,
        "text": text,
        "instead": "%s; trial_rules.yml measures what it costs" % instead,
        "saves_ns": None,
        "saves_percent": None,
    }


# Hosts of one process mostly have the same rules: each set of rules and settings is worked out once.
@functools.lru_cache(maxsize=4)
def _ruleset(printed: str, release: str, settings: str) -> auditor.Ruleset | None:
    """The Ruleset of a list, or None where it cannot be read. settings: JSON, as audit() makes it."""
    text = listing.as_file(printed)
    if text is None:
        return None
    priority, selection, matching, base = json.loads(settings)
    host = auditor.Host(priority, selection, matching, base)
    compiled = ruleset.compiled([(listing.ORIGIN, text)], release, priority, selection)
    return auditor.Ruleset(compiled, releases.release_for(release), host)


def _of_disabled(every: auditor.Ruleset | None, host: auditor.Host, found: RulesAudit) -> list[RuleFinding]:
    """Warnings about the rules that Falco's `rules` disables, maybe for just these findings.

    every: the rules without that setting.
    """
    enabled = {weight["rule"] for weight in found["weights"]}
    return [
        {**item, "level": "note", "text": "disabled now: " + item["text"]}
        for item in (every.of(host)["findings"] if every else ())
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
    weighed = [weight for weight in found["weights"] if weight["ns"] is not None]
    heavy = ["rules: %s takes %s" % (weight["rule"], auditor.weight_text(weight)) for weight in weighed]
    return told[:MOST_ADVICE] + heavy[:MOST_ADVICE] + _of_a_tag(weighed)


def _of_a_tag(weighed: Sequence[RuleWeight]) -> list[str]:
    """The tag whose rules cost most together, where they are many: each of them may cost little."""
    by_tag: dict[str, list[float]] = {}
    for weight in weighed:
        for tag in weight["tags"]:
            by_tag.setdefault(tag, []).append(weight["share"] or 0.0)
    tag, shares = max(by_tag.items(), key=lambda item: (sum(item[1]), item[0]), default=("", []))
    if len(shares) <= MOST_ADVICE or sum(shares) < LEAST_OF_A_TAG:
        return []
    return [
        "rules: of the %d heaviest, %d have the tag %s; they take %.0f %% of what all rules cost"
        % (len(weighed), len(shares), tag, sum(shares))
    ]
