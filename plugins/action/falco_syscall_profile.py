# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of falco_syscall_profile: counts by the kernel's names → rates by Falco's."""

from __future__ import annotations

from ansible_collections.falcotune.fleet.plugins.plugin_utils._action.host_answers import HostAction
from ansible_collections.falcotune.fleet.plugins.plugin_utils._action.arguments import (
    ArgumentError,
    Arguments,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import drivers, releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import syscall_profile
from ansible_collections.falcotune.fleet.plugins.plugin_utils._untrusted import dictionary

ARGUMENTS = Arguments("falco_syscall_profile")
KEPT = {"measured": dictionary}


class ActionModule(HostAction):
    """Runs the module and translates here what it counted."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        self._task_vars = task_vars
        try:
            given = ARGUMENTS.check(self._task.args)
            refused, release = _of_facts(given["facts"])
            if refused:
                return dict(result, failed=True, msg=refused)
            release = given["release"] or release
            syscall_profile.read(None, release)  # reports a wrong release before the host counts
        except (ArgumentError, releases.UnsupportedRelease) as error:
            return dict(result, failed=True, msg=str(error))
        # The host needs nothing of its facts.
        sent = {name: value for name, value in self._task.args.items() if name != "facts"}
        answer = self.ask("falco_syscall_profile", sent, KEPT)
        if answer.get("failed") or "measured" not in answer:
            return answer
        answer["profile"] = syscall_profile.read(answer.pop("measured"), release)
        result.update(answer)
        return result


def _of_facts(facts):
    """(why a host is not profiled, its release of Falco), each None where the facts do not tell."""
    driver, falco = (dictionary(dictionary(facts).get(part)) for part in ("driver", "falco"))
    kind = driver.get("kind")
    refused = None
    if kind in drivers.WITHOUT_SYSCALLS:
        refused = (
            "this Falco watches no system calls of the host: %s (%s). A profile of them says nothing about it"
            % (drivers.WITHOUT_SYSCALLS[kind], driver.get("decided_by"))
        )
    return refused, falco.get("version")
