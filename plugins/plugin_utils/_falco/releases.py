# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each Falco release knows: keys, drivers, merge rules and habits.

One table for 0.33 to 0.44.1. Every number and every border was read in
Falco's source at the release tags (userspace/falco/configuration.cpp, app/actions, app/options.cpp).
Nothing else in the collection compares versions.
"""

from __future__ import annotations

import re
from functools import lru_cache
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

Version = tuple[int, ...]

OLDEST: Version = (0, 33, 0)
NEWEST = (0, 44, 1)

ANY = (0, 0, 0)
NEVER = (99, 0, 0)


class Key(NamedTuple):
    """One configuration key of one span of releases.

    ``default`` is what the code takes when the key is absent, which is often not
    what the packaged falco.yaml says.
    """

    path: str
    since: Version
    until: Version  # the first release without the key
    kind: str  # int, float, bool, str, list, duration
    default: Any
    low: float | None = None
    high: float | None = None


def _key(
    path: str,
    since: Version,
    until: Version,
    kind: str,
    default: Any,
    low: float | None = None,
    high: float | None = None,
) -> Key:
    return Key(path, since, until, kind, default, low, high)


KEYS = (
    # Ring buffers. Presets 1..10 are 2^(19+preset) bytes (app/actions/configure_syscall_buffer_size.cpp).
    _key("syscall_buf_size_preset", ANY, (0, 38, 0), "int", 4, 1, 10),
    _key("modern_bpf.cpus_for_each_syscall_buffer", (0, 34, 0), (0, 38, 0), "int", 2, 0, 65535),
    _key("syscall_drop_failed_exit", (0, 35, 0), (0, 38, 0), "bool", False),
    _key("engine.kind", (0, 37, 0), NEVER, "str", "kmod"),
    _key("engine.kmod.buf_size_preset", (0, 37, 0), NEVER, "int", 4, 1, 10),
    _key("engine.kmod.drop_failed_exit", (0, 37, 0), NEVER, "bool", False),
    _key("engine.ebpf.buf_size_preset", (0, 37, 0), (0, 44, 0), "int", 4, 1, 10),
    _key("engine.ebpf.drop_failed_exit", (0, 37, 0), (0, 44, 0), "bool", False),
    _key("engine.ebpf.probe", (0, 37, 0), (0, 44, 0), "str", ""),
    _key("engine.modern_ebpf.buf_size_preset", (0, 37, 0), NEVER, "int", 4, 1, 10),
    _key("engine.modern_ebpf.cpus_for_each_buffer", (0, 37, 0), NEVER, "int", 2, 0, 65535),
    _key("engine.modern_ebpf.drop_failed_exit", (0, 37, 0), NEVER, "bool", False),
    _key("engine.modern_ebpf.disable_iterators", (0, 44, 1), NEVER, "bool", False),
    # Syscall selection.
    _key("rules", (0, 38, 0), NEVER, "list", []),
    _key("base_syscalls.custom_set", (0, 35, 0), NEVER, "list", []),
    _key("base_syscalls.repair", (0, 35, 0), NEVER, "bool", False),
    _key("base_syscalls.all", (0, 40, 0), NEVER, "bool", False),
    # Metrics. Flags that are absent are on in the code (two of them off in the shipped file).
    _key("metrics.enabled", (0, 35, 0), NEVER, "bool", False),
    _key("metrics.interval", (0, 35, 0), NEVER, "duration", "5000"),
    _key("metrics.output_rule", (0, 35, 0), NEVER, "bool", False),
    _key("metrics.output_file", (0, 35, 0), NEVER, "str", ""),
    _key("metrics.resource_utilization_enabled", (0, 35, 0), NEVER, "bool", True),
    _key("metrics.kernel_event_counters_enabled", (0, 35, 0), NEVER, "bool", True),
    _key("metrics.libbpf_stats_enabled", (0, 35, 0), NEVER, "bool", True),
    _key("metrics.convert_memory_to_mb", (0, 35, 0), NEVER, "bool", True),
    _key("metrics.include_empty_values", (0, 35, 0), NEVER, "bool", False),
    _key("metrics.state_counters_enabled", (0, 37, 0), NEVER, "bool", True),
    _key("metrics.rules_counters_enabled", (0, 38, 0), NEVER, "bool", True),
    _key("metrics.plugins_metrics_enabled", (0, 39, 0), NEVER, "bool", True),
    _key("metrics.kernel_event_counters_per_cpu_enabled", (0, 39, 0), NEVER, "bool", True),
    _key("metrics.jemalloc_stats_enabled", (0, 40, 0), NEVER, "bool", True),
    _key("metrics.kernel_iter_event_counters_enabled", (0, 44, 0), NEVER, "bool", True),
    _key("load_plugins", ANY, NEVER, "list", []),
    # What evidence and reloads depend on.
    _key("watch_config_files", ANY, NEVER, "bool", True),
    _key("config_files", (0, 38, 0), NEVER, "list", []),
    _key("webserver.enabled", ANY, NEVER, "bool", False),
    _key("webserver.listen_port", ANY, NEVER, "int", 8765, 1, 65535),
    _key("webserver.listen_address", (0, 37, 0), NEVER, "str", "0.0.0.0"),
    _key("webserver.prometheus_metrics_enabled", (0, 38, 0), NEVER, "bool", False),
    _key("webserver.ssl_enabled", ANY, NEVER, "bool", False),
)

_OF_PATH: dict[str, list[Key]] = {}
_OF_BLOCK: dict[str, list[Key]] = {}
for _item in KEYS:
    _OF_PATH.setdefault(_item.path, []).append(_item)
    _OF_BLOCK.setdefault(_item.path.split(".")[0], []).append(_item)


def keys_of(blocks: Iterable[str]) -> Iterator[Key]:
    """The keys of any release in these top-level blocks."""
    return (key for block in blocks for key in _OF_BLOCK.get(block, ()))


# The paths are our own, and a fleet has a few releases.
@lru_cache(maxsize=4096)
def _key_of(path: str, table: Version) -> Key | None:
    return next((key for key in _OF_PATH.get(path, ()) if key.since <= table < key.until), None)


class Release:
    """One Falco release, as the collection understands it.

    ``version`` is the host's own; ``table`` the release whose rules are applied (they differ only for a
    release newer than NEWEST, and then ``warning`` says so).
    """

    def __init__(self, version: Version, table: Version, warning: str | None = None) -> None:
        self.version = version
        self.table = table
        self.warning = warning

    def __str__(self) -> str:
        return ".".join(str(part) for part in self.version)

    def since(self, *version: int) -> bool:
        return self.table >= tuple(version) + (0,) * (3 - len(version))

    def key(self, path: str) -> Key | None:
        """The Key of this name in this release, or None."""
        return _key_of(path, self.table)

    def has(self, path: str) -> bool:
        return self.key(path) is not None

    def keys(self, block: str) -> list[Key]:
        """Keys of one top-level block that this release knows."""
        return [
            key for key in KEYS if key.path.split(".")[0] == block and key.since <= self.table < key.until
        ]

    @property
    def drivers(self) -> tuple[str, ...]:
        """Drivers that this release can open for system calls."""
        kinds = ["kmod"]
        if not self.since(0, 44):
            kinds.append("ebpf")
        if self.since(0, 34):
            kinds.append("modern_ebpf")
        return tuple(kinds)

    def buffer_keys(self, driver: str) -> dict[str, tuple[str, ...]]:
        """The keys that set buffers for a driver: {'buf_size_preset': (path, …), 'cpus_for_each_buffer':
        (path, …)}.

        0.37 reads the old keys only while its engine block looks untouched, so there both forms are written.
        """
        preset, cpus = [], []
        if self.has("engine.%s.buf_size_preset" % driver):
            preset.append("engine.%s.buf_size_preset" % driver)
            if driver == "modern_ebpf":
                cpus.append("engine.modern_ebpf.cpus_for_each_buffer")
        if self.has("syscall_buf_size_preset"):
            preset.append("syscall_buf_size_preset")
        if driver == "modern_ebpf" and self.has("modern_bpf.cpus_for_each_syscall_buffer"):
            cpus.append("modern_bpf.cpus_for_each_syscall_buffer")
        return {"buf_size_preset": tuple(preset), "cpus_for_each_buffer": tuple(cpus)}

    @property
    def fragments(self) -> str | None:
        """How config_files merge: None (before 0.38), 'replace' (0.38-0.40) or 'strategy' (0.41 on)."""
        if not self.since(0, 38):
            return None
        return "strategy" if self.since(0, 41) else "replace"

    @property
    def options_beat_fragments(self) -> bool:
        """Before 0.41, -o was applied before the fragments were merged (falco#3493)."""
        return self.since(0, 41)

    @property
    def reload_on_rename(self) -> bool:
        """Whether a file that is renamed into place begins a hot reload: onto falco.yaml since 0.37, into
        config.d ever since."""
        return self.since(0, 37)

    @property
    def dry_run(self) -> str:
        """--dry-run exists since 0.35; --support reads configuration and rules before that."""
        return "--dry-run" if self.since(0, 35) else "--support"

    @property
    def scrape_before_capture(self) -> bool:
        """Whether GET /metrics is harmless before the driver is open (SIGSEGV before 0.41.1, 404 since)."""
        return self.table >= (0, 41, 1)

    @property
    def counts_beside_plugins(self) -> bool:
        """Whether snapshots of the syscall source hold the kernel's counters beside other event sources.
        Before 0.41.1 one collector serves all of them (falco#3583)."""
        return self.table >= (0, 41, 1)

    @property
    def metrics(self) -> bool:
        return self.since(0, 35)

    @property
    def prometheus(self) -> bool:
        return self.since(0, 38)

    @property
    def enter_events(self) -> bool:
        """Syscall enter events are counted (and buffered) before 0.42: about twice the events."""
        return not self.since(0, 42)


class UnsupportedRelease(ValueError):
    """A release that the collection refuses, with the reason."""


def parse_version(text: object) -> Version:
    """'0.44.1', '0.45.0-rc1', '0.38.2+abc' → (0, 44, 1). Raises UnsupportedRelease."""
    match = re.match(r"^\s*v?(\d+)\.(\d+)(?:\.(\d+))?", str(text or ""))
    if not match:
        raise UnsupportedRelease("%r is not a Falco version (expected something like 0.44.1)" % (text,))
    return tuple(int(part or 0) for part in match.groups())


def known(text: object) -> Release | None:
    """The Release of a version string, or None where it is unknown or too old."""
    try:
        return release_for(text)
    except UnsupportedRelease:
        return None


def release_for(text: object) -> Release:
    """The Release of a version string.

    A newer release is treated as the newest known one, with a warning; an older one is refused.
    """
    version = parse_version(text)
    if version < OLDEST:
        raise UnsupportedRelease(
            "Falco %s is older than 0.33, the oldest release whose configuration is known here: upgrade Falco"
            % text
        )
    if version > NEWEST:
        return Release(
            version,
            NEWEST,
            "Falco %s is newer than 0.44.1, the newest release known here; it is treated as 0.44.1" % text,
        )
    return Release(version, version)
