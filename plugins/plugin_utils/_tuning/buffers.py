# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ring buffers: how large, how many, and what they cost.

Sizes are bytes, shares are percent. Sources: Falco's app/actions/configure_syscall_buffer_size.cpp (preset
table), libs driver/ppm_ringbuffer.h (legal sizes), libpman/src/configuration.c (number of rings),
falco.org "Falco Is Dropping Syscalls Events" (ranges for large machines).
"""

from __future__ import annotations

from typing import Iterable, Mapping, NamedTuple

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import (
    AskedBuffers,
    Budget,
    Buffers,
    ChosenBuffers,
    Policy,
    Rings,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import drivers
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.configuration import Settings
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import bytes_text

MIB = 1 << 20

# Bytes that an event takes in a ring, header and padding included: 56 (dup, close) to 335 (a failing open of
# a long path), 80 for open and close together; measured on Falco 0.44.1.
BYTES_PER_EVENT = 80
LEAST_BYTES_PER_EVENT = 56

# The guide's upper line: above 3 000 events a second and CPU, Falco has a hard time.
GUIDE_EVENTS_PER_CPU = 3000

# CPUs from which a machine counts as large. The guide says "large machines" and names no number: below the
# first line Falco's own defaults (preset 4, two CPUs a buffer) stay, from the second the upper end of the
# range applies.
DEFAULT_CLASSES: tuple[dict[str, int], ...] = (
    {"min_cpus": 1, "kmod": 4, "ebpf": 4, "modern_ebpf": 4, "cpus_for_each_buffer": 2},
    {"min_cpus": 16, "kmod": 5, "ebpf": 5, "modern_ebpf": 6, "cpus_for_each_buffer": 4},
    {"min_cpus": 64, "kmod": 6, "ebpf": 6, "modern_ebpf": 7, "cpus_for_each_buffer": 6},
)


class BufferError(ValueError):
    """No legal buffers for these facts and this policy."""


def preset_bytes(preset: int) -> int:
    """Size of one ring for a preset of 1 to 10: 1 MiB to 512 MiB."""
    return MIB << (preset - 1)


def legal_preset(preset: int, page_size: int) -> bool:
    """libs takes a size that is a multiple of the page size and more than two pages."""
    if not 1 <= preset <= 10:
        return False
    size = preset_bytes(preset)
    return size % page_size == 0 and size > 2 * page_size


def effective_cpus(cpus_for_each_buffer: int, online: int) -> int:
    """How many CPUs really share a ring: 0 means all of them, and Falco clamps to the online ones."""
    return online if cpus_for_each_buffer == 0 else min(cpus_for_each_buffer, online)


def count(driver: str, online: int, cpus_for_each_buffer: int | None = None) -> int:
    """Number of rings: one per online CPU, or per group of CPUs with modern_ebpf."""
    if driver != "modern_ebpf":
        return online
    group = effective_cpus(2 if cpus_for_each_buffer is None else cpus_for_each_buffer, online)
    return -(-online // group)


def layout(driver: str, online: int, preset: int, cpus_for_each_buffer: int | None = None) -> Rings:
    """Number and bytes of the rings of one choice.

    bytes_at_load: modern_ebpf makes one more ring for a moment while it loads its maps.
    """
    rings, each = count(driver, online, cpus_for_each_buffer), preset_bytes(preset)
    extra = each if driver == "modern_ebpf" else 0
    return {
        "count": rings,
        "bytes_each": each,
        "bytes_total": rings * each,
        "bytes_at_load": rings * each + extra,
    }


# Of the lost events, the percent on one ring from which it is a case of its own.
HOT = 80.0


def hot_ring(driver: str, online: int, group: int | None, drops: int, worst: list[list[int]]) -> set[int]:
    """The CPUs of the one ring of several that lost HOT percent of the events, or an empty set.

    worst: [CPU, lost events] of each. CPUs are taken to be numbered without gaps.
    """
    width = effective_cpus(2 if group is None else group, online) if driver == "modern_ebpf" else 1
    lost: dict[int, int] = {}
    for cpu, number in worst:
        lost[cpu // width] = lost.get(cpu // width, 0) + number
    ring = max(lost, key=lambda item: (lost[item], item), default=None)
    if ring is None or count(driver, online, group) < 2 or 100.0 * lost[ring] < HOT * drops:
        return set()
    return set(range(ring * width, min(online, (ring + 1) * width)))


def seconds_bridged(
    driver: str, online: int, preset: int, cpus_for_each_buffer: int, rate_per_cpu: float
) -> float:
    """How long Falco may be stalled before a ring is full, in seconds."""
    group = effective_cpus(cpus_for_each_buffer, online) if driver == "modern_ebpf" else 1
    return preset_bytes(preset) / float(max(rate_per_cpu, 1) * group * BYTES_PER_EVENT)


def budget(memory: Mapping[str, int | None], policy: Policy) -> Budget:
    """The most memory that rings may take, in bytes, and the bound that decides.

    memory: the keys of _contracts.Memory. What is None or left out sets no bound; where nothing is known
    there is no budget.
    """
    total, available, limit = (memory.get(name) for name in ("total", "available", "limit"))
    bounds: list[tuple[float, str]] = []
    if total:
        share = policy["memory_share_percent"]
        bounds.append((total * share // 100, "%.10g %% of %s" % (share, bytes_text(total))))
    if available is not None:
        share = policy["available_share_percent"]
        bounds.append(
            (available * share // 100, "%.10g %% of the %s available" % (share, bytes_text(available)))
        )
    if limit:
        rest = max(0, limit - (memory.get("used") or 0))
        bounds.append((rest, "the unit's memory limit of %s less what Falco uses" % bytes_text(limit)))
    if policy.get("max_bytes"):
        bounds.append((policy["max_bytes"], "the policy's buffer_max_bytes"))
    if not bounds:
        return {"bytes": None, "bound": "unknown: the host's memory could not be read"}
    least = min(bounds, key=lambda bound: bound[0])
    return {"bytes": int(least[0]), "bound": least[1]}


def tight(machine: Machine, chosen: ChosenBuffers) -> str | None:
    """Why the unit's memory limit is too tight for rings that are kept, or None."""
    room = budget({name: machine.memory.get(name) for name in ("limit", "used")}, {})
    if room["bytes"] is None or chosen["bytes_at_load"] <= room["bytes"]:
        return None
    return (
        "the ring buffers take %s while Falco starts, and their limit is %s (%s); they are kept, since "
        "nothing measured asks for smaller ones: raise the limit"
        % (bytes_text(chosen["bytes_at_load"]), bytes_text(room["bytes"]), room["bound"])
    )


class Machine(NamedTuple):
    """What buffers are chosen for. memory: the keys of _contracts.Memory, in bytes; unknown ones are None or
    left out."""

    driver: str
    online: int
    memory: Mapping[str, int | None]
    page_size: int = 4096


def in_force(settings: Settings, driver: str) -> Buffers:
    """The buffer settings that a configuration asks for. The second is None where the driver has none."""
    keys = settings.release.buffer_keys(driver)
    # 0.37 knows two forms, and reads the old one while its engine block is untouched.
    form = -1 if drivers.old_form(settings) else 0
    groups = keys["cpus_for_each_buffer"]
    return {
        "buf_size_preset": settings.value(keys["buf_size_preset"][form]),
        "cpus_for_each_buffer": settings.value(groups[form]) if groups else None,
    }


def size_class(classes: list[dict[str, int]], online: int) -> dict[str, int]:
    """The policy's buffer class of a machine with so many CPUs online. Raises BufferError where there is
    none."""
    matching = [item for item in classes if item["min_cpus"] <= online]
    if not matching:
        raise BufferError("the policy has no buffer class for %d CPUs" % online)
    return max(matching, key=lambda item: item["min_cpus"])


def holding(
    machine: Machine,
    policy: Policy,
    current: Buffers,
    wanted: float,
    groups: Iterable[int | None],
    one_ring: bool,
) -> Buffers | None:
    """The least memory with which a burst finds `wanted` bytes more than with the rings in force.

    Where the budget has no room for so much: the rings with most room. None: no larger ones fit. policy: as
    for choose(). groups: the CPUs for each ring that may be chosen. one_ring: the burst fills one ring only.
    """
    room = _Room(machine, policy, None, None)

    def bytes_of(preset: int, group: int | None) -> tuple[int, int]:
        """(bytes that the burst fills, bytes of all rings)"""
        rings = layout(machine.driver, machine.online, preset, group)
        return rings["bytes_each" if one_ring else "bytes_total"], rings["bytes_total"]

    there = bytes_of(current["buf_size_preset"], current["cpus_for_each_buffer"])[0]
    larger = []
    for group in groups:
        for preset in range(current["buf_size_preset"] + 1, 11):
            filled, total = bytes_of(preset, group)
            if filled > there and room.fits(preset, group):
                larger.append((filled - there, total, preset, group))
    enough = [item for item in larger if item[0] >= wanted]
    if not larger:
        return None
    if enough:
        found = min(enough, key=lambda item: (item[1], item[2]))
    else:
        found = min(larger, key=lambda item: (-item[0], item[1]))
    return {"buf_size_preset": found[2], "cpus_for_each_buffer": found[3]}


class _Choice(NamedTuple):
    preset: int
    group: int | None
    reasons: list[str]


class _Room:
    """Which rings the memory has room for."""

    def __init__(
        self, machine: Machine, policy: Policy, current: Buffers | None, asked: AskedBuffers | None
    ) -> None:
        self.machine = machine
        self.limit = budget(machine.memory, policy)
        # Rings that run already and are kept on evidence are held only to what policy sets.
        self.set_limit = budget({}, policy)
        self.running = None
        if current and asked:
            self.running = (current["buf_size_preset"], current["cpus_for_each_buffer"])

    def bytes_of(self, preset: int, group: int | None) -> int:
        """What the rings take while Falco loads its driver, when they take most."""
        return layout(self.machine.driver, self.machine.online, preset, group)["bytes_at_load"]

    def fits(self, preset: int, group: int | None) -> bool:
        if not legal_preset(preset, self.machine.page_size):
            return False
        bound = (self.set_limit if (preset, group) == self.running else self.limit)["bytes"]
        return bound is None or self.bytes_of(preset, group) <= bound

    def fits_well(self, preset: int, group: int | None) -> bool:
        """Whether a quarter of the budget is left over."""
        bound = self.limit["bytes"]
        return bound is None or self.bytes_of(preset, group) * 4 <= bound * 3


def choose(
    machine: Machine,
    policy: Policy,
    current: Buffers | None = None,
    settled: bool = False,
    asked: AskedBuffers | None = None,
) -> ChosenBuffers:
    """The rings for one host. Raises BufferError where no preset fits the memory.

    policy: what policies.buffer_policy() makes of a policy. current: the settings in force, or None.
    settled: the current values are an earlier choice of the collection. A larger one must then leave a
    quarter of the budget, so that memory that comes and goes does not change buffers at every run.
    asked: what evidence asks for instead of the machine's class.
    """
    fixed = policy["buf_size_preset"] != "auto"
    if fixed:
        asked = None
    room = _Room(machine, policy, current, asked)
    choice = _wanted(machine, policy, asked)
    if current and policy["keep_larger_buffers"] and not fixed and not asked:
        choice = _kept(machine, policy, current, room, choice)
    most = current["buf_size_preset"] if current and settled and not fixed else None
    preset, group, reasons = _fitted(machine, room, choice, fixed, most)
    return {
        **layout(machine.driver, machine.online, preset, group),
        "buf_size_preset": preset,
        "cpus_for_each_buffer": group,
        "budget": room.limit,
        "reasons": reasons,
    }


def _wanted(machine: Machine, policy: Policy, asked: AskedBuffers | None) -> _Choice:
    """What policy fixes, else what evidence asks for, else the machine's class."""
    by_class = size_class(policy["classes"], machine.online)
    if policy["buf_size_preset"] != "auto":
        preset = policy["buf_size_preset"]
        reasons = ["preset %d is set by policy" % preset]
    elif asked:
        preset, reasons = asked["buf_size_preset"], [asked["why"]]
    else:
        preset = by_class[machine.driver]
        reasons = [
            "preset %d: the class of machines from %d CPUs with %s"
            % (preset, by_class["min_cpus"], machine.driver)
        ]
    if machine.driver != "modern_ebpf":
        return _Choice(preset, None, reasons)
    group = policy["cpus_for_each_buffer"]
    if group != "auto":
        reasons.append("%d CPUs for each buffer is set by policy" % group)
    elif asked:
        group = asked["cpus_for_each_buffer"]
    else:
        group = by_class["cpus_for_each_buffer"]
        reasons.append("%d CPUs for each buffer: the same class" % group)
    # Falco clamps the value itself: a measured host is not changed for that.
    if group > machine.online and not (asked and group == asked["cpus_for_each_buffer"]):
        reasons.append(
            "%d CPUs for each buffer is more than the %d online: Falco would clamp it"
            % (group, machine.online)
        )
        group = machine.online
    return _Choice(preset, group, reasons)


def _kept(machine: Machine, policy: Policy, current: Buffers, room: _Room, choice: _Choice) -> _Choice:
    """The buffers that are there, where they bridge more than the wanted ones and fit."""
    preset, group = current["buf_size_preset"], current["cpus_for_each_buffer"]
    if machine.driver == "modern_ebpf" and policy["cpus_for_each_buffer"] != "auto":
        group = choice.group
    if not room.fits(preset, group):
        return choice
    there, wanted = (
        seconds_bridged(machine.driver, machine.online, item[0], item[1] or 0, GUIDE_EVENTS_PER_CPU)
        for item in ((preset, group), (choice.preset, choice.group))
    )
    if there <= wanted:
        return choice
    if machine.driver != "modern_ebpf" or group is None:
        group = None
    else:
        group = min(group, machine.online)
    reason = (
        "the buffers are larger already (preset %d) and are kept: no measurement asks for smaller ones"
        % preset
    )
    return _Choice(preset, group, [*choice.reasons, reason])


def _fitted(machine: Machine, room: _Room, choice: _Choice, fixed: bool, most: int | None) -> _Choice:
    """The wanted preset, or the largest below it that the memory has room for.

    most: a preset above this one must leave room; None where none must.
    """
    preset, group = choice.preset, choice.group
    while not (
        room.fits(preset, group) and (most is None or preset <= most or room.fits_well(preset, group))
    ):
        if fixed or preset <= 1:
            raise BufferError(_no_room(machine, room, preset, group, fixed))
        preset -= 1
    if preset == choice.preset:
        return choice
    reason = "the budget of %s (%s) binds: preset %d instead of %d" % (
        bytes_text(room.limit["bytes"] or 0),
        room.limit["bound"],
        preset,
        choice.preset,
    )
    return _Choice(preset, group, [*choice.reasons, reason])


def _no_room(machine: Machine, room: _Room, preset: int, group: int | None, fixed: bool) -> str:
    return (
        "no buffers fit the budget of %s (%s): preset %d on %d CPUs takes %s with %s while it loads; raise "
        "the budget%s"
        % (
            bytes_text(room.limit["bytes"] or 0),
            room.limit["bound"],
            preset,
            machine.online,
            bytes_text(room.bytes_of(preset, group)),
            machine.driver,
            " or lower the preset that the policy sets" if fixed else ", or let more CPUs share a buffer",
        )
    )
