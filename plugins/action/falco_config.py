# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of falco_config: from plan, facts and policy to one request for the host; no trip where nothing changes."""

from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible_collections.falcotune.fleet.plugins.plugin_utils import policy as policies
from ansible_collections.falcotune.fleet.plugins.plugin_utils import request


class ActionModule(ActionBase):
    """Builds the request, runs the module, and says what changed and why."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        arguments = self._task.args
        unknown = sorted(set(arguments) - {"state", "plan", "content", "host_files", "facts", "policy"})
        if unknown:
            return dict(result, failed=True, msg="unsupported parameters: %s" % ", ".join(unknown))
        try:
            policy = policies.complete(arguments.get("policy"))
        except policies.PolicyError as error:
            return dict(result, failed=True, msg=str(error))
        state = arguments.get("state", "present")
        facts, plan = arguments.get("facts"), arguments.get("plan")
        if state not in ("present", "rolled_back"):
            return dict(result, failed=True, msg="state is %r: expected present or rolled_back" % (state,))
        if state == "present" and not (isinstance(plan, dict) and isinstance(facts, dict)):
            return dict(result, failed=True, msg="state present needs plan and facts")
        changes = (plan or {}).get("changes", [])
        if state == "present" and not changes and not (facts.get("host") or {}).get("unfinished"):
            return dict(result, changed=False, changes=[], warnings=plan.get("warnings", []))
        if state == "present" and not policy["restart_ok"]:
            return dict(result, changed=False, changes=changes, restart_required=True, warnings=plan.get("warnings", []),
                        msg="a restart is needed and falco_tune_restart_ok is false: nothing was changed")
        built = request.build(state, plan, facts, policy, arguments.get("content"), arguments.get("host_files", []))
        answer = self._execute_module(module_name="falcotune.fleet.falco_config", module_args={"state": state, "plan": built},
                                      task_vars=task_vars)
        result.update(answer)
        if state == "present":
            result["changes"] = changes
            result["warnings"] = list(result.get("warnings", [])) + plan.get("warnings", [])
        return result
