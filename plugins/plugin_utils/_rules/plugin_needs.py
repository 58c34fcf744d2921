# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rules need which plugins: by their event source, and by the fields that they read. Pure.

Since 0.41 Falco adds fields of the container plugin to the output of every rule, so `plugins` of `falco -L`
names that plugin for each rule. Here a rule needs a plugin only where its condition, its exceptions or the
output that its author wrote name a field that Falco itself does not have, or where its events come from a
plugin.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import PluginNeed, Rule
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.releases import Release
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.words import SYSCALL
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import listing, reads

# Classes of fields that Falco has without any plugin (`falco --list` of 0.38.2 and 0.44.1).
OWN = frozenset("evt fd fdlist fs group proc span syscall syslog thread user".split())
# Since 0.41 these come from the container plugin.
UNTIL_0_41 = frozenset(["container", "k8s", "mesos"])
CONTAINER = "container"
OF_CONTAINER = (
    "proc.is_container_healthcheck",
    "proc.is_container_liveness_probe",
    "proc.is_container_readiness_probe",
)
# Classes of fields, and the plugin of falcosecurity/plugins that has them.
PLUGIN_OF = {
    "container": "container",
    "k8s": "container",
    "k8smeta": "k8smeta",
    "ka": "k8saudit",
    "jevt": "json",
    "json": "json",
    "ct": "cloudtrail",
    "gcp": "gcpaudit",
    "github": "github",
    "okta": "okta",
}


def foreign(field: str, release: Release) -> bool:
    """Whether a field comes from a plugin."""
    if field in OF_CONTAINER:
        return release.since(0, 41)
    kind = field.partition(".")[0]
    return kind not in OWN and (release.since(0, 41) or kind not in UNTIL_0_41)


def needs(
    text: object, rules: Iterable[Rule], release: Release, loaded: Sequence[str], added: Iterable[str] = ()
) -> list[PluginNeed]:
    """What each loaded plugin is needed for.

    text: what `falco -L` printed. rules: of listing.parse(), which tell what a condition reads and whether a
    rule is enabled. loaded: names of plugins. added: fields that settings add to every alert. A field of
    unknown origin counts for each plugin that it may come from.
    """
    document = listing.load(text)[0] or {"rules": []}
    listed = {listing.mapping(one, "info").get("name"): one for one in document["rules"]}
    required = _required(document, loaded)
    found: dict[str, PluginNeed] = {
        name: {
            "plugin": name,
            "rules": [],
            "disabled": [],
            "settings": [],
            "required": name in required,
            "outputs": 0,
        }
        for name in loaded
    }
    for rule in rules:
        printed = _printed(listed.get(rule["name"]), loaded)
        reasons = _of_rule(rule, listed.get(rule["name"]), printed or loaded, release, loaded)
        for plugin, why in reasons.items():
            kind = found[plugin]["rules" if rule["enabled"] else "disabled"]
            kind.append({"rule": rule["name"], "why": why, "by_source": rule["source"] != SYSCALL})
        for plugin in printed:
            found[plugin]["outputs"] += plugin not in reasons and rule["enabled"]
    for field in sorted(field for field in set(added) if foreign(field, release)):
        for plugin in _origins(field, loaded, loaded):
            found[plugin]["settings"].append(field)
    return list(found.values())


def _required(document: Mapping[str, Any], loaded: Sequence[str]) -> set[str]:
    """The loaded plugins that a rules file requires and that no other loaded plugin can stand in for."""
    found: set[str] = set()
    wanted = document.get("required_plugin_versions")
    for item in wanted if isinstance(wanted, list) else ():
        alternatives = item.get("alternatives") if isinstance(item, dict) else None
        named = [item, *(alternatives if isinstance(alternatives, list) else [])]
        names = [one.get("name") for one in named if isinstance(one, dict)]
        there = [name for name in names if isinstance(name, str) and name in loaded]
        if len(there) == 1:
            found.add(there[0])
    return found


def _printed(one: object, loaded: Sequence[str]) -> list[str]:
    """The loaded plugins that Falco itself names for a rule."""
    named = listing.texts(listing.mapping(one, "details").get("plugins")) or []
    return [name for name in dict.fromkeys(named) if name in loaded]


def _of_rule(
    rule: Rule, one: object, named: Sequence[str], release: Release, loaded: Sequence[str]
) -> dict[str, str]:
    """{plugin: why the rule needs it}. one: the rule as Falco printed it. named: the plugins that a field of
    unknown origin may come from."""
    if rule["source"] != SYSCALL:
        return dict.fromkeys(named, "its events are of the source %s" % rule["source"][:60])
    fields = {item["field"] for item in rule["reads"]["fields"] if item["place"] == "condition"}
    fields.update(reads.of_output(listing.mapping(one, "info").get("output")))
    found: dict[str, list[str]] = {}
    for field in sorted(field for field in fields if foreign(field, release)):
        for plugin in _origins(field, named, loaded):
            found.setdefault(plugin, []).append(field)
    return {plugin: "it reads %s" % ", ".join(names[:5]) for plugin, names in found.items()}


def _origins(field: str, named: Sequence[str], loaded: Sequence[str]) -> Sequence[str]:
    """The plugins that a field may come from."""
    known = CONTAINER if field in OF_CONTAINER else PLUGIN_OF.get(field.partition(".")[0])
    return [known] if known is not None and known in loaded else named
