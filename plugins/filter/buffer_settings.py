# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""'modern_ebpf' | falcotune.fleet.buffer_settings(cpus=96, memory=…, release='0.44.1')."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import buffers
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies


def buffer_settings(driver, cpus, memory=None, release="0.44.1", policy=None, current=None, page_size=4096):
    """Preset, CPUs per buffer, number of buffers, bytes, budget and reasons."""
    try:
        known = releases.release_for(release)
        if driver not in known.drivers:
            raise AnsibleFilterError(
                "buffer_settings: driver %r is not one of Falco %s's: %s"
                % (driver, known, ", ".join(known.drivers))
            )
        if isinstance(cpus, bool) or not isinstance(cpus, int) or not 1 <= cpus <= 65536:
            raise AnsibleFilterError(
                "buffer_settings: cpus is %r: expected a number from 1 to 65536" % (cpus,)
            )
        if not isinstance(memory, dict):
            memory = {"total": memory, "available": None}
        for name, size in memory.items():
            if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 0):
                raise AnsibleFilterError(
                    "buffer_settings: memory is %r: expected bytes, or a mapping of total, available, limit "
                    "and used in bytes" % (size if name == "total" else {name: size},)
                )
        if current is not None and not (
            isinstance(current, dict) and current.get("buf_size_preset") in range(1, 11)
        ):
            raise AnsibleFilterError(
                "buffer_settings: current is %r: expected a mapping of buf_size_preset (1 to 10) and "
                "cpus_for_each_buffer" % (current,)
            )
        if current is not None:
            current = {"cpus_for_each_buffer": 2, **current}
        machine = buffers.Machine(driver, cpus, memory, page_size)
        chosen = buffers.choose(machine, policies.buffer_policy(policies.complete(policy)), current)
        preset, group = chosen["buf_size_preset"], chosen["cpus_for_each_buffer"] or 0
        bridged = buffers.seconds_bridged(driver, cpus, preset, group, buffers.GUIDE_EVENTS_PER_CPU)
        return dict(chosen, seconds_bridged=round(bridged, 3))
    except (releases.UnsupportedRelease, policies.PolicyError, buffers.BufferError) as error:
        raise AnsibleFilterError("buffer_settings: %s" % error) from None


class FilterModule:
    """The filter of this file."""

    def filters(self):
        return {"buffer_settings": buffer_settings}
