# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""facts | falcotune.fleet.verdict(policy)."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import assembly, policies
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import verdicts


def verdict(facts, policy=None):
    """The verdict contract for one host's facts."""
    if not isinstance(facts, dict) or "falco" not in facts:
        raise AnsibleFilterError(
            "verdict: expected the facts of falcotune.fleet.falco_facts (ansible_facts.falco)"
        )
    try:
        return verdicts.judge(assembly.complete(facts), policies.complete(policy))
    except policies.PolicyError as error:
        raise AnsibleFilterError("verdict: %s" % error) from None


class FilterModule:
    """The filter of this file."""

    def filters(self):
        return {"verdict": verdict}
