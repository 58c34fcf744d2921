# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a host's settings are written, as complete blocks, and whether anything read later would override
them. Pure."""

from __future__ import annotations

import posixpath
from typing import Any, Literal, NamedTuple

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import Config, ConfigFolder, Policy
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import configuration, releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.configuration import Settings
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.releases import Release
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.words import DRIVERS
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import value_text
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import plugin_selection, rule_selection
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning.refusals import PlanError


class Target(NamedTuple):
    """layout: dropin, a fragment of our own in a directory of config_files, or full, the main file itself."""

    layout: Literal["dropin", "full"]
    path: str


def _folder(config: Config) -> ConfigFolder | None:
    """The last directory in config_files whose fragments override."""
    folders = [item for item in config["folders"] if item["strategy"] != "add-only"]
    return folders[-1] if folders else None


def target(config: Config, policy: Policy, release: Release) -> Target:
    """The file that will hold the settings. Raises PlanError where policy asks for a layout that is not
    possible."""
    main = config["order"][0]
    if policy["layout"] == "full" or release.fragments is None:
        if policy["layout"] == "dropin":
            raise PlanError(
                "layout dropin needs Falco 0.38 or newer, and this is %s: use full or auto" % release
            )
        return Target("full", main)
    folder = _folder(config)
    if folder is not None:
        return Target("dropin", posixpath.join(folder["path"], policy["fragment_name"]))
    if policy["layout"] == "dropin":
        raise PlanError(
            "layout dropin: %s lists no directory in config_files, so nothing would load a fragment; add one "
            "or use layout full or auto" % main
        )
    return Target("full", main)


def _block(key: str) -> str:
    return key.split(".")[0]


def holds(config: Config, place: Target, block: str) -> bool:
    """Whether our own fragment holds a block."""
    return place.layout == "dropin" and any(
        item["path"] == place.path and block in item["keys"] for item in config["files"]
    )


def appends(config: Config, place: Target, release: Release) -> bool:
    """Whether Falco appends the lists of our fragment to those of the files before it."""
    folder = _folder(config)
    strategy = folder["strategy"] if folder else None
    return place.layout == "dropin" and release.fragments == "strategy" and strategy != "override"


def blocks(
    values: dict[str, Any], config: Config, place: Target, release: Release, driver: str
) -> dict[str, Any]:
    """Complete top-level blocks: those that change, and those that our own fragment holds already.

    values: wanted values by dotted key.
    """
    names = {_block(key) for key in values}
    if place.layout == "dropin" and names:
        for item in config["files"]:
            if item["path"] == place.path:
                names.update(item["keys"])
    found = {
        name: configuration.copied(config["raw"].get(name, config["effective"].get(name)))
        for name in sorted(names)
    }
    for key, value in values.items():
        _set(found, key.split("."), value)
    if found.get(rule_selection.KEY) == [] and len(found) > 1:
        del found[rule_selection.KEY]
    if plugin_selection.KEY in found and found[plugin_selection.KEY] is None:
        del found[plugin_selection.KEY]
    if "engine" in found:
        # A block without kind selects kmod, whatever falco.yaml says.
        engine = found["engine"] if isinstance(found["engine"], dict) else {}
        # Left in our own fragment by an upgrade, what this release does not know would be a warning at every
        # start.
        gone = {"kind"} | {name for name in DRIVERS if name not in release.drivers}
        found["engine"] = {"kind": driver, **{key: value for key, value in engine.items() if key not in gone}}
    return found


def _set(node: dict[str, Any], steps: list[str], value: Any) -> None:
    for step in steps[:-1]:
        if not isinstance(node.get(step), dict):
            node[step] = {}
        node = node[step]
    node[steps[-1]] = value


def refuse_overridden(values: dict[str, Any], config: Config, place: Target, release: Release) -> None:
    """Raises PlanError where something that Falco reads later holds what is about to be written."""
    if release.options_beat_fragments or place.layout == "full":
        _refuse_options(values, config)
    entry_of = {item["path"]: item["entry"] for item in config["files"]}
    for block in sorted({_block(key) for key in values}):
        holders = [
            item["path"]
            for item in config["files"]
            if block in item["keys"]
            and item["strategy"] != "add-only"
            and item["path"] not in (place.path, config["order"][0])
        ]
        if not holders:
            continue
        overrides = "%s holds the block %s and is read after %s, so it would override it: " % (
            holders[-1],
            block,
            place.path,
        )
        if place.layout == "full":
            raise PlanError(overrides + "use layout dropin or auto, or remove the block there")
        folder = _folder(config)
        if folder and (entry_of[holders[-1]], holders[-1]) > (folder["entry"], place.path):
            raise PlanError(overrides + "rename or remove it")


def _refuse_options(values: dict[str, Any], config: Config) -> None:
    for option in config["options"]:
        given = option.partition("=")[0].strip()
        if any(key == given or key.startswith(given + ".") for key in values):
            raise PlanError(
                "the process is started with -o %s, which overrides every file: take it out of the unit, or "
                "set the "
                "policy to the value it gives" % option
            )


def findings(settings: Settings) -> list[str]:
    """Values that Falco replaces without a word, and keys of other releases."""
    found = set()
    for key in releases.keys_of(settings.effective):
        present, value = settings.lookup(key.path)
        if not present:
            continue
        known = settings.release.key(key.path)
        if known is None:
            found.add("%s is set, but Falco %s does not read it" % (key.path, settings.release))
        elif not configuration.coerce(value, known)[0]:
            found.add(
                "%s is %s, which Falco %s can't use; it takes its default %r"
                % (key.path, value_text(value), settings.release, known.default)
            )
    return sorted(found)
