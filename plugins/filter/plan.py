# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""facts | falcotune.fleet.plan(policy)."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import assembly, planner
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning.policies import PolicyError


def plan(facts, policy=None):
    """The plan contract for one host's facts."""
    if not isinstance(facts, dict) or "falco" not in facts:
        raise AnsibleFilterError(
            "plan: expected the facts of falcotune.fleet.falco_facts (ansible_facts.falco)"
        )
    try:
        return planner.make(assembly.complete(facts), policy)
    except (planner.PlanError, PolicyError) as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    """The filter of this file."""

    def filters(self):
        return {"plan": plan}
