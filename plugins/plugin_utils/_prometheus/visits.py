# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Prometheus knows of a fleet → the hosts that an audit has to visit. Pure.

A host is left out only if Prometheus knows that it is healthy. All else is a reason to visit it: it loses
events, it is blind or stale, Prometheus cannot tell, somebody asks for it, or it is in the sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import Monitored
from ansible_collections.falcotune.fleet.plugins.plugin_utils._prometheus import monitored


class Visits(NamedTuple):
    """hosts: names to visit, in the given order, at least one of any fleet. sample: those of them that
    Prometheus calls healthy. left: what Prometheus knows of the others."""

    hosts: list[str]
    sample: list[str]
    left: dict[str, Monitored]


def choose(
    names: Iterable[str], found: Mapping[str, Monitored], wanted: Iterable[str], percent: float, hour: int
) -> Visits:
    """The hosts to visit in this hour.

    names: of the fleet. found: what Prometheus knows, of judge(). wanted: hosts that are visited in any case.
    percent: of all hosts that are in the sample at most; 0 is no sample.
    """
    order, asked = list(names), set(wanted)
    healthy = [name for name in order if name in found and found[name]["state"] == "healthy"]
    if percent > 0:
        asked |= monitored.sampled(order, percent, hour)
    chosen = asked.intersection(healthy)
    if len(healthy) == len(order) and not chosen:
        # A report needs a host that it can be made on.
        chosen = monitored.sampled(order, 0, hour)
    left = {name: found[name] for name in healthy if name not in chosen}
    return Visits(
        [name for name in order if name not in left], [name for name in healthy if name in chosen], left
    )
