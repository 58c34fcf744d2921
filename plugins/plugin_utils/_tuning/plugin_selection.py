# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which plugins policy takes out of Falco's `load_plugins`, and what is lost with them. Pure.

A rule that reads a field of a plugin does not load without the plugin, even if it is disabled, and then Falco
does not start. So such a plugin is refused, whatever policy says. A rule whose events come from a plugin is
skipped with a warning: that is lost detection, and policy must disable the rule too.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import (
    Config,
    LoadedRules,
    PluginNeed,
    Policy,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.releases import Release
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import several, some
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning.refusals import PlanError

KEY = "load_plugins"


class Unloaded(NamedTuple):
    """kept: names that `load_plugins` is to hold, or None where nothing is taken out. why: what is lost.
    notes: names of policy that Falco does not load here."""

    kept: list[str] | None
    why: str
    notes: list[str]


def choose(
    policy: Policy, known: LoadedRules, config: Config, disabled: Collection[str], own: bool
) -> Unloaded:
    """What policy takes out of the plugins that Falco loads. Raises PlanError.

    disabled: the rules that policy disables. own: `load_plugins` is in our own fragment already, so what is
    missing in it was taken out before.
    """
    loaded = config["plugins"]
    needs = {need["plugin"]: need for need in known.get("plugins") or ()}
    asked = [name for name in dict.fromkeys(policy["disabled_plugins"]) if name in loaded]
    notes = [
        "falco_tune_disabled_plugins names %s, and Falco does not load it here" % name
        for name in dict.fromkeys(policy["disabled_plugins"])
        if name not in loaded and not own
    ]
    if not asked:
        return Unloaded(None, "", notes)
    lost = [_lost(needs[name], disabled) for name in asked if name in needs]
    kept = [name for name in loaded if name not in asked]
    return Unloaded(kept, "these plugins are no longer loaded, by policy: %s" % "; ".join(lost), notes)


def _lost(need: PluginNeed, disabled: Collection[str]) -> str:
    """What goes with a plugin, or PlanError where Falco or an enabled rule needs it."""
    start = "falco_tune_disabled_plugins names %s, and " % need["plugin"]
    by_field = [item for item in (*need["rules"], *need["disabled"]) if not item["by_source"]]
    if need["required"] or by_field:
        held = ["required_plugin_versions of a rules file names it"] if need["required"] else []
        held += ["%s: %s" % (item["rule"], item["why"]) for item in by_field[:5]]
        more = len(by_field) - 5
        raise PlanError(
            "%sFalco does not start without it (%s%s). A disabled rule must load, too: remove this from the "
            "rules files, or take the plugin out of the policy"
            % (start, "; ".join(held), " and %d more rules" % more if more > 0 else "")
        )
    if need["settings"]:
        raise PlanError(
            "%sappend_output or -p names its fields (%s): remove them there first"
            % (start, some(need["settings"]))
        )
    wanted = [item["rule"] for item in need["rules"] if item["rule"] not in disabled]
    if wanted:
        raise PlanError(
            "%senabled rules need it, because their events come from it: %s. Name these rules in "
            "falco_tune_disabled_rules too, or take the plugin out of the policy" % (start, some(wanted))
        )
    told = [item["rule"] for item in need["rules"]]
    parts = ["its rules no longer alert (%s)" % some(told)] if told else ["no enabled rule needs it"]
    if need["outputs"]:
        parts.append("its fields go from the outputs of %s" % several(need["outputs"], "rule"))
    return "%s (%s)" % (need["plugin"], "; ".join(parts))


def refuse_appended(config: Config, path: str, release: Release) -> None:
    """Raises PlanError where a fragment, whose lists Falco appends, cannot make the list shorter.

    path: of our fragment.
    """
    holders = [item["path"] for item in config["files"] if KEY in item["keys"] and item["path"] != path]
    if not holders:
        return
    only_main = holders == [config["order"][0]]
    raise PlanError(
        "falco_tune_disabled_plugins cannot be applied: Falco %s appends the lists of its fragments, and %s "
        "holds load_plugins, so %s cannot make it shorter. %s"
        % (
            release,
            some(holders, width=120),
            path,
            "Set falco_tune_layout to full"
            if only_main
            else "Remove the plugin there, or give that directory in config_files the strategy override",
        )
    )
