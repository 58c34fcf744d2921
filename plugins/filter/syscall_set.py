# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""rules | falcotune.fleet.syscall_set(release, …)."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import ruleset
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning.syscall_set import SetError, choose


def syscall_set(given, release, policy=None, current=None, profile=None, drops=None, rate=None, target=None):
    """The cheapest base_syscalls for some rules: those of a host's facts, or the text of rules files."""
    try:
        if isinstance(given, str):
            given = [given]
        if not isinstance(given, list):
            raise AnsibleFilterError(
                "syscall_set: expected ansible_facts.falco.syscalls.rules, or the text of one or more rules "
                "files"
            )
        if all(isinstance(item, str) for item in given):
            found = ruleset.resolve(
                [("rules file %d" % (number + 1), text) for number, text in enumerate(given)], release
            )
            wrong = next((item for item in found["findings"] if item["level"] == "error"), None)
            if wrong:
                raise AnsibleFilterError("%s line %s: %s" % (wrong["file"], wrong["line"], wrong["text"]))
            given = found["rules"]
        return choose(given, release, policies.complete(policy), current, profile, drops, rate, target)
    except (SetError, policies.PolicyError, releases.UnsupportedRelease) as error:
        raise AnsibleFilterError(str(error)) from None
    except (KeyError, TypeError, AttributeError) as error:
        raise AnsibleFilterError(
            "syscall_set: rules, current, profile or drops have another shape than documented: %r" % error
        ) from None


class FilterModule:
    """The filter of this file."""

    def filters(self):
        return {"syscall_set": syscall_set}
