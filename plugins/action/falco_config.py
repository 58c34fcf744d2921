# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of falco_config: from plan, facts and policy to one request for the host; no trip where nothing changes."""

from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible_collections.falcotune.fleet.plugins.plugin_utils import policy as policies
from ansible_collections.falcotune.fleet.plugins.plugin_utils import coverage, request


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
        if state not in ("present", "rolled_back"):
            return dict(result, failed=True, msg="state is %r: expected present or rolled_back" % (state,))
        facts, plan = arguments.get("facts"), arguments.get("plan")
        if state == "rolled_back":
            return self._send(result, request.build(state, None, None, policy, None, []), task_vars)
        if not (isinstance(plan, dict) and isinstance(facts, dict)):
            return dict(result, failed=True, msg="state present needs plan and facts")
        host_files = arguments.get("host_files") or []
        changes = plan["changes"] + request.pending(host_files, facts, policy, plan)
        waits = plan["restart_required"] and not policy["restart_ok"]
        result.update(changed=False, changes=changes, warnings=list(plan["warnings"]),
                      ansible_facts={"falco_tune_restart_required": waits})
        if waits:
            return dict(result, msg="a restart is needed and falco_tune_restart_ok is false: nothing was changed")
        if not changes and not (facts.get("host") or {}).get("unfinished"):
            return result
        built = request.build(state, plan, facts, policy, arguments.get("content"), host_files)
        return self._send(result, built, task_vars, self._sight(plan) if built["selected"] is not None else [])

    @staticmethod
    def _sight(plan):
        """What a change of the system calls costs, as a part of the diff."""
        found = plan["coverage"]
        texts = ["".join(line + "\n" for line in coverage.lines(found, but)) for but in (found["newly"], ())]
        header = "rules that lose events, of %d" % found["rules_total"]
        return [{"before_header": header, "after_header": header, "before": texts[0], "after": texts[1]}]

    def _send(self, result, built, task_vars, more_diff=()):
        """The one trip."""
        answer = self._execute_module(module_name="falcotune.fleet.falco_config",
                                      module_args={"state": built["state"], "plan": built}, task_vars=task_vars)
        answer["warnings"] = list(answer.get("warnings") or []) + result.get("warnings", [])
        if isinstance(answer.get("diff"), list):
            answer["diff"] = answer["diff"] + list(more_diff)
        result.update(answer)
        return result
