# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The driver that runs, and what decided it.

Order: the process's arguments, its unit, the configuration, the release's default
(userspace/falco/app/actions/ load_config.cpp, configuration.cpp).
"""

from __future__ import annotations

from typing import Any

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import Driver
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import configuration
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.configuration import Merged, Settings
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.releases import Release
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.words import SYSCALL, UNIT_DRIVERS


# Engines of a Falco that watches no system calls of the host, and what it does instead. There are no ring
# buffers and no kernel counters then.
WITHOUT_SYSCALLS = {
    "none": "its syscall source is disabled, so it reads plugins only",
    "nodriver": "no driver is opened",
    "gvisor": "its events come from gVisor sandboxes",
    "replay": "it replays a capture file",
}


def _values(arguments: list[str], long: str, short: str = "") -> list[str]:
    """The values of an option in an argument list: --long VALUE, --long=VALUE, -s VALUE and -sVALUE."""
    found, wait = [], False
    for argument in arguments[1:]:
        if wait:
            found.append(argument)
            wait = False
        elif argument in (long, short or long):
            wait = True
        elif argument.startswith(long + "="):
            found.append(argument[len(long) + 1 :])
        elif short and argument.startswith(short) and not argument.startswith("--"):
            found.append(argument[len(short) :])
    return found


def options_of(arguments: list[str]) -> list[str]:
    """The values of -o and --option in an argument list."""
    return _values(arguments, "--option", "-o")


def _sources(arguments: list[str], option: str) -> list[str]:
    """The event sources that an option names, which may be given more than once."""
    return [name.strip() for value in _values(arguments, option) for name in value.split(",")]


def _without_syscalls(arguments: list[str], effective: dict[str, Any], release: Release) -> Driver | None:
    """The driver where the arguments leave no system calls to watch, else None.

    Sources: userspace/falco/app/options.cpp and app/actions/select_event_sources.cpp. gVisor, nodriver and
    a capture file are options up to 0.37; later releases have engine.kind for them.
    """
    if SYSCALL in _sources(arguments, "--disable-source"):
        return {"kind": "none", "decided_by": "process arguments: --disable-source %s" % SYSCALL}
    enabled = _sources(arguments, "--enable-source")
    if enabled and SYSCALL not in enabled:
        return {"kind": "none", "decided_by": "process arguments: --enable-source %s" % ",".join(enabled)}
    if not old_form(Settings(effective, release)):
        return None
    if _values(arguments, "--gvisor-config", "-g"):
        return {"kind": "gvisor", "decided_by": "process arguments: --gvisor-config"}
    if "--nodriver" in arguments:
        return {"kind": "nodriver", "decided_by": "process arguments: --nodriver"}
    if "-e" in arguments:
        return {"kind": "replay", "decided_by": "process arguments: -e"}
    return None


def old_form(settings: Settings) -> bool:
    """Whether the release reads the flags and keys of 0.36 and before.

    0.37 does so while kind, kmod.buf_size_preset and kmod.drop_failed_exit have their defaults
    (m_changes_in_engine_config in app/actions/load_config.cpp at 0.37.0).
    """
    if settings.release.since(0, 38):
        return False
    if not settings.release.since(0, 37):
        return True
    return all(
        settings.value(key) == default
        for key, default in (
            ("engine.kind", "kmod"),
            ("engine.kmod.buf_size_preset", 4),
            ("engine.kmod.drop_failed_exit", False),
        )
    )


def _from_arguments(
    arguments: list[str], environment: dict[str, str], effective: dict[str, Any], release: Release
) -> str | None:
    if old_form(Settings(effective, release)):
        if "--modern-bpf" in arguments:
            return "modern_ebpf"
        if "FALCO_BPF_PROBE" in environment:
            return "ebpf"
    kind = None
    if release.since(0, 37):
        for option in options_of(arguments):
            key, dummy, value = option.partition("=")
            if key.strip() == "engine.kind":
                kind = value.strip().strip("'\"")
    return kind


def decide(
    arguments: list[str],
    environment: dict[str, str],
    unit: str | None,
    merged: Merged | None,
    release: Release,
) -> Driver:
    """{'kind', 'decided_by'}: kind is kmod, ebpf, modern_ebpf, none, or another engine's name.

    none: the syscall source is disabled (WITHOUT_SYSCALLS).

    arguments: of the running process, else of the unit's ExecStart. merged: what config.merge() returned, or
    None.
    """
    effective = merged["effective"] if merged else {}
    without = _without_syscalls(arguments, effective, release)
    if without:
        return without
    kind = _from_arguments(arguments, environment, effective, release)
    origin = merged["origin"].get("engine") if merged else None
    if kind and merged and release.since(0, 37) and not release.options_beat_fragments:
        # Before 0.41 a fragment with an engine block beats -o (recorded on 0.38.2).
        if origin not in (None, "-o", merged["order"][0]):
            kind = None
    if kind:
        return {"kind": kind, "decided_by": "process arguments"}
    if merged and release.since(0, 37):
        found, value = configuration.lookup(merged["effective"], "engine.kind")
        if found and value:
            return {"kind": str(value), "decided_by": "configuration (%s)" % (origin or "engine.kind")}
    if not release.since(0, 37):
        kind = UNIT_DRIVERS.get(unit or "")
        if kind and not arguments:
            return {"kind": kind, "decided_by": "unit %s" % unit}
    return {"kind": "kmod", "decided_by": "default of release %s" % release}
