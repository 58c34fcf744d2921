# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of falco_facts: one trip, then parse and merge here, where PyYAML is."""

from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible_collections.falcotune.fleet.plugins.plugin_utils import facts, plan, policy, releases


_FROM_POLICY = ("host_root", "unit", "config_file", "state_dir", "metrics_dir", "observe_seconds")


class ActionModule(ActionBase):
    """Runs the module and turns what it sent into the facts contract."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        given = arguments.pop("policy", None)
        if given is not None:
            try:
                complete = policy.complete(given)
            except policy.PolicyError as error:
                return dict(result, failed=True, msg=str(error))
            for name in _FROM_POLICY:
                arguments.setdefault(name, complete[name])
        answer = self._gather(arguments, task_vars)
        if answer.get("failed") or "ansible_facts" not in answer:
            return answer
        gathered = answer["ansible_facts"]["falco"]
        asked = self._more(gathered)
        if asked:
            # Rare: config_files names its files through variables. Ask for exactly those.
            answer = self._gather(dict(arguments, extra_files=asked), task_vars)
            if answer.get("failed"):
                return answer
            gathered = answer["ansible_facts"]["falco"]
        result.update(changed=False, invocation=answer.get("invocation"), ansible_facts={"falco": facts.assemble(gathered)})
        if given is not None:
            try:
                result["ansible_facts"]["falco_plan"] = plan.make(gathered, complete)
            except plan.PlanError as error:
                return dict(result, ansible_facts={}, failed=True, msg=str(error))
        warning = gathered["falco"].get("warning")
        if warning:
            result.setdefault("warnings", []).append(warning)
        return result

    def _gather(self, arguments, task_vars):
        return self._execute_module(module_name="falcotune.fleet.falco_facts", module_args=arguments, task_vars=task_vars)

    @staticmethod
    def _more(gathered):
        try:
            release = releases.release_for(gathered["falco"].get("version"))
        except releases.UnsupportedRelease:
            return []
        return facts.missing(gathered["sources"], release)
