# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vars | falcotune.fleet.policy: check what the user gave and complete it."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies


def policy(given, prefix="falco_tune_"):
    """The whole policy; a key that does not exist or a value out of range is an error that names it."""
    if not isinstance(given, dict):
        raise AnsibleFilterError("policy: expected a mapping of policy keys")
    try:
        return policies.complete(given, prefix)
    except policies.PolicyError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    """The filter of this file."""

    def filters(self):
        return {"policy": policy}
