# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ring buffers: how large, how many, and what they cost.

Sizes are bytes, shares are percent. Sources: Falco's app/actions/configure_syscall_buffer_size.cpp (preset table),
libs driver/ppm_ringbuffer.h (legal sizes), libpman/src/configuration.c (number of rings),
falco.org "Falco Is Dropping Syscalls Events" (ranges for large machines).
"""

from __future__ import annotations

MIB = 1 << 20

# Bytes an event takes in a ring, header and padding included: 56 (dup, close) to 335 (a failing open of a long
# path), 80 for open and close together; measured on Falco 0.44.1.
BYTES_PER_EVENT = 80
BYTES_PER_EVENT_WORST = 335

# The guide's upper line: above 3 000 events a second and CPU, Falco has a hard time.
GUIDE_EVENTS_PER_CPU = 3000

# CPUs from which a machine counts as large. The guide says "large machines" and names no number: below the first
# line Falco's own defaults (preset 4, two CPUs a buffer) stay, from the second the upper end of the range applies.
DEFAULT_CLASSES = (
    {"min_cpus": 1, "kmod": 4, "ebpf": 4, "modern_ebpf": 4, "cpus_for_each_buffer": 2},
    {"min_cpus": 16, "kmod": 5, "ebpf": 5, "modern_ebpf": 6, "cpus_for_each_buffer": 4},
    {"min_cpus": 64, "kmod": 6, "ebpf": 6, "modern_ebpf": 7, "cpus_for_each_buffer": 6},
)


class BufferError(ValueError):
    """No legal buffers for these facts and this policy."""


def preset_bytes(preset):
    """Size of one ring for a preset of 1 to 10: 1 MiB to 512 MiB."""
    return MIB << (int(preset) - 1)


def legal_preset(preset, page_size):
    """libs takes a size that is a multiple of the page size and more than two pages."""
    if not 1 <= preset <= 10:
        return False
    size = preset_bytes(preset)
    return size % page_size == 0 and size > 2 * page_size


def effective_cpus(cpus_for_each_buffer, online):
    """CPUs that share a ring in fact: 0 means all of them, and Falco clamps to the online ones."""
    return online if cpus_for_each_buffer == 0 else min(cpus_for_each_buffer, online)


def count(driver, online, cpus_for_each_buffer=None):
    """Number of rings: one per online CPU, or per group of CPUs with modern_ebpf."""
    if driver != "modern_ebpf":
        return online
    group = effective_cpus(2 if cpus_for_each_buffer is None else cpus_for_each_buffer, online)
    return -(-online // group)


def layout(driver, online, preset, cpus_for_each_buffer=None):
    """{'count', 'bytes_each', 'bytes_total', 'bytes_at_load'} of one choice.

    modern_ebpf makes one more ring for a moment while it loads its maps.
    """
    rings, each = count(driver, online, cpus_for_each_buffer), preset_bytes(preset)
    extra = each if driver == "modern_ebpf" else 0
    return {
        "count": rings,
        "bytes_each": each,
        "bytes_total": rings * each,
        "bytes_at_load": rings * each + extra,
    }


def seconds_bridged(
    driver, online, preset, cpus_for_each_buffer, rate_per_cpu, bytes_per_event=BYTES_PER_EVENT
):
    """How long Falco may stand still before a ring is full, in seconds: what a buffer buys."""
    group = effective_cpus(cpus_for_each_buffer, online) if driver == "modern_ebpf" else 1
    return preset_bytes(preset) / float(max(rate_per_cpu, 1) * group * bytes_per_event)


def budget(memory, policy):
    """The most memory that rings may take, in bytes, with the bound that decides.

    memory: {'total', 'available', 'limit', 'used'} in bytes; limit and used are the unit's MemoryMax and what it
    uses now. Unknown pieces (None) bound nothing; with nothing known there is no budget.
    """
    bounds = []
    if memory.get("total"):
        bounds.append(
            (
                memory["total"] * policy["memory_share_percent"] // 100,
                "%.10g %% of %s" % (policy["memory_share_percent"], human(memory["total"])),
            )
        )
    if memory.get("available") is not None:
        bounds.append(
            (
                memory["available"] * policy["available_share_percent"] // 100,
                "%.10g %% of the %s available"
                % (policy["available_share_percent"], human(memory["available"])),
            )
        )
    if memory.get("limit"):
        rest = max(0, memory["limit"] - (memory.get("used") or 0))
        bounds.append((rest, "MemoryMax of the unit (%s) less what Falco uses" % human(memory["limit"])))
    if policy.get("max_bytes"):
        bounds.append((policy["max_bytes"], "the policy's buffer_max_bytes"))
    if not bounds:
        return {"bytes": None, "bound": "unknown: the host did not tell its memory"}
    least = min(bounds, key=lambda bound: bound[0])
    return {"bytes": int(least[0]), "bound": least[1]}


def human(size):
    """Bytes for people, in binary units."""
    for unit, width in (("GiB", 1 << 30), ("MiB", MIB), ("KiB", 1 << 10)):
        if size >= width:
            return "%.10g %s" % (round(size / float(width), 1), unit)
    return "%d B" % size


def choose(driver, online, memory, policy, current=None, page_size=4096, settled=False, asked=None):
    """The rings for one host: {'buf_size_preset', 'cpus_for_each_buffer', 'count', 'bytes_each', 'bytes_total',
    'bytes_at_load', 'budget', 'seconds_bridged', 'reasons'}.

    policy: classes, buf_size_preset ('auto' or 1-10), cpus_for_each_buffer ('auto' or 0-65535), keep_larger_buffers,
    memory_share_percent, available_share_percent, max_bytes. current: {'buf_size_preset', 'cpus_for_each_buffer'} in force, or
    None. settled: the current values are an earlier choice of ours; a larger one must then fit with a quarter of the
    budget to spare, so that memory that comes and goes does not move buffers to and fro. asked: {'buf_size_preset',
    'cpus_for_each_buffer', 'why'} that evidence asks for instead of the machine's class. Raises BufferError where no preset fits.
    """
    reasons = []
    group_of = [item for item in policy["classes"] if item["min_cpus"] <= online]
    if not group_of:
        raise BufferError("the policy has no buffer class for %d CPUs" % online)
    machine = max(group_of, key=lambda item: item["min_cpus"])
    preset, group = policy["buf_size_preset"], policy["cpus_for_each_buffer"]
    fixed = preset != "auto"
    asked = None if fixed else asked
    if fixed:
        reasons.append("preset %d is set by policy" % preset)
    elif asked:
        preset = asked["buf_size_preset"]
        reasons.append(asked["why"])
    else:
        preset = machine[driver]
        reasons.append(
            "preset %d: the class of machines from %d CPUs with %s" % (preset, machine["min_cpus"], driver)
        )
    if driver != "modern_ebpf":
        group = None
    elif group == "auto" and asked:
        group = asked["cpus_for_each_buffer"]
    elif group == "auto":
        group = machine["cpus_for_each_buffer"]
        reasons.append("%d CPUs for each buffer: the same class" % group)
    else:
        reasons.append("%d CPUs for each buffer is set by policy" % group)
    # Falco clamps by itself: a measured host is not changed for that.
    if group is not None and group > online and not (asked and group == asked["cpus_for_each_buffer"]):
        reasons.append(
            "%d CPUs for each buffer is more than the %d online: Falco would clamp it" % (group, online)
        )
        group = online

    limit = budget(memory, policy)
    # What runs well is not taken away for a share of memory, only for a limit that somebody set.
    hard = budget({"limit": memory.get("limit"), "used": memory.get("used")}, policy)

    def fits(candidate, candidate_group):
        runs = (
            asked
            and current
            and (candidate, candidate_group) == (current["buf_size_preset"], current["cpus_for_each_buffer"])
        )
        bound = (hard if runs else limit)["bytes"]
        return bound is None or layout(driver, online, candidate, candidate_group)["bytes_at_load"] <= bound

    if not fixed and not asked and current and policy["keep_larger_buffers"]:
        kept, kept_group = current["buf_size_preset"], current["cpus_for_each_buffer"]
        if driver == "modern_ebpf" and policy["cpus_for_each_buffer"] != "auto":
            kept_group = group
        if legal_preset(kept, page_size) and fits(kept, kept_group):
            rate = GUIDE_EVENTS_PER_CPU
            more = seconds_bridged(driver, online, kept, kept_group, rate) > seconds_bridged(
                driver, online, preset, group, rate
            )
            if more:
                preset, group = kept, (kept_group if driver == "modern_ebpf" else None)
                if group is not None and group > online:
                    group = online
                reasons.append(
                    "larger than that already (preset %d): kept, nothing measured says it is too much" % kept
                )

    wanted = preset

    def keeps(candidate):
        if not (legal_preset(candidate, page_size) and fits(candidate, group)):
            return False
        if not (
            settled
            and not fixed
            and current
            and candidate > current["buf_size_preset"]
            and limit["bytes"] is not None
        ):
            return True
        return layout(driver, online, candidate, group)["bytes_at_load"] * 4 <= limit["bytes"] * 3

    while not keeps(preset):
        if fixed or preset <= 1:
            smallest = layout(driver, online, preset, group)
            raise BufferError(
                "no buffers fit the budget of %s (%s): preset %d on %d CPUs takes %s with %s while it loads; raise the budget%s"
                % (
                    human(limit["bytes"] or 0),
                    limit["bound"],
                    preset,
                    online,
                    human(smallest["bytes_at_load"]),
                    driver,
                    " or lower the preset that the policy sets"
                    if fixed
                    else ", or let more CPUs share a buffer",
                )
            )
        preset -= 1
    if preset != wanted:
        reasons.append(
            "the budget of %s (%s) binds: preset %d instead of %d"
            % (human(limit["bytes"]), limit["bound"], preset, wanted)
        )

    chosen = layout(driver, online, preset, group)
    chosen.update(
        buf_size_preset=preset,
        cpus_for_each_buffer=group,
        budget=limit,
        reasons=reasons,
        seconds_bridged=round(seconds_bridged(driver, online, preset, group or 0, GUIDE_EVENTS_PER_CPU), 3),
    )
    return chosen
