# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of falco_config: from plan, facts and policy to one request for the host; no trip where nothing changes."""

from __future__ import annotations

import time

from ansible.plugins.action import ActionBase
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rollout import hosts
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import coverage
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import requests
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning.changes import change

STATES = ("present", "planned", "proven", "rolled_back")


class ActionModule(ActionBase):
    """Builds the request, runs the module, and says what changed and why."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp=None, task_vars=None):
        began = time.time()
        result = self._answer(super().run(tmp, task_vars), self._task.args, task_vars)
        result.update(began=began, ended=time.time())
        return result

    def _answer(self, result, arguments, task_vars):
        unknown = sorted(set(arguments) - {"state", "plan", "content", "facts", "policy", "evidence"})
        if unknown:
            return dict(result, failed=True, msg="unsupported parameters: %s" % ", ".join(unknown))
        try:
            policy = policies.complete(arguments.get("policy"))
        except policies.PolicyError as error:
            return dict(result, failed=True, msg=str(error))
        state = arguments.get("state", "present")
        if state not in STATES:
            return dict(
                result, failed=True, msg="state is %r: expected one of %s" % (state, ", ".join(STATES))
            )
        facts, plan = arguments.get("facts"), arguments.get("plan")
        if state in ("rolled_back", "proven"):
            return self._look_back(result, state, arguments, policy, task_vars)
        if not (isinstance(plan, dict) and isinstance(facts, dict)):
            return dict(result, failed=True, msg="state %s needs plan and facts" % state)
        changes = plan["changes"] + requests.pending(facts, policy, plan)
        waits = plan["restart_required"] and not policy["restart_ok"]
        result.update(
            changed=False,
            changes=changes,
            warnings=list(plan["warnings"]),
            ansible_facts={"falco_tune_restart_required": waits},
        )
        wrong = requests.weak_evidence(plan, policy)
        if wrong:
            return dict(result, failed=True, msg=wrong)
        if state == "planned":
            return self._planned(result, facts, plan, policy, task_vars)
        built = requests.build(state, plan, facts, policy, arguments.get("content") or "")
        staged = (facts.get("host") or {}).get("staged") or {}
        if waits and plan["layout"] is None:
            return dict(
                result, msg="%s; falco_tune_restart_ok is false: nothing was changed" % changes[0]["from"]
            )
        if waits:
            return self._stage(result, built, staged, task_vars)
        if staged:
            changes.append(
                change(
                    "staged",
                    "change",
                    "a change that waits for a restart",
                    None,
                    "it is made now" if changes else "nothing is to be changed any more",
                )
            )
        if not changes and not (facts.get("host") or {}).get("unfinished"):
            return result
        return self._send(
            result, built, task_vars, self._sight(plan) if built["selected"] is not None else []
        )

    def _look_back(self, result, state, arguments, policy, task_vars):
        """Undo the last change, or look at it again. Where Falco was only proven anew, or in check mode, there is none to look at."""
        built = requests.build(state, None, None, policy)
        if state == "proven":
            evidence = arguments.get("evidence")
            if not isinstance(evidence, dict) or evidence.get("adopted") or self._task.check_mode:
                return dict(result, changed=False, skipped=True, msg="there is no change to look at")
            built.update(
                rollback_to="previous",
                proof={name: evidence.get(name) for name in ("pid", "start_ticks", "restarts", "events")},
            )
        return self._send(result, built, task_vars)

    def _planned(self, result, facts, plan, policy, task_vars):
        """What state present would do, for a rollout to plan with."""
        result.pop("warnings")  # said when it is done
        try:
            domain = self._domain(policy["failure_domain"], task_vars)
        except policies.PolicyError as error:
            return dict(result, failed=True, msg=str(error))
        staged = (facts.get("host") or {}).get("staged")
        changes = result["changes"] or (facts.get("host") or {}).get("unfinished") or staged
        result["rollout"] = hosts.describe(facts, plan, policy, changes, domain)
        result["fleet_policy"] = {key: policy[key] for key in policies.FLEET}
        return result

    def _domain(self, name, task_vars):
        """The host's failure domain, from the variable that policy names; None where it names none. Raises PolicyError."""
        if not name:
            return None
        said = "falco_tune_failure_domain is %r, and " % name
        if name not in task_vars:
            raise policies.PolicyError(
                "%sthis host has no such variable%s: set it for every host, or correct the name. Nothing was "
                "changed." % (said, policies.nearest(name, map(str, task_vars)))
            )
        domain = self._templar.template(task_vars[name])
        if not isinstance(domain, (str, int)) or isinstance(domain, bool) or domain == "":
            raise policies.PolicyError(
                "%sthat variable is %r on this host: expected a text such as the name of a rack. Nothing was "
                "changed." % (said, domain)
            )
        return str(domain)

    def _stage(self, result, built, staged, task_vars):
        """Keep a change that may not be made now, once its own Falco has read it; no trip where the same is kept already."""
        digest = requests.digest(built)
        said = (
            "(staged) a restart is needed and falco_tune_restart_ok is false: the host's own Falco has read the change, which is "
            "kept in %s/staged; nothing else was touched" % built["state_dir"]
        )
        if staged.get("digest") == digest:
            return dict(result, staged=True, msg=said)
        built.update(stage=digest)
        answer = self._send(result, built, task_vars)
        if not answer.get("failed"):
            answer.update(staged=True, msg=said)
        return answer

    @staticmethod
    def _sight(plan):
        """What a change of the system calls costs, as a part of the diff."""
        found = plan["coverage"]
        texts = ["".join(line + "\n" for line in coverage.lines(found, but)) for but in (found["newly"], ())]
        header = "rules that lose events, of %d" % found["rules_total"]
        return [{"before_header": header, "after_header": header, "before": texts[0], "after": texts[1]}]

    def _send(self, result, built, task_vars, more_diff=()):
        """The one trip."""
        answer = self._execute_module(
            module_name="falcotune.fleet.falco_config",
            module_args={"state": built["state"], "plan": built},
            task_vars=task_vars,
        )
        answer["warnings"] = list(answer.get("warnings") or []) + result.get("warnings", [])
        if isinstance(answer.get("diff"), list):
            answer["diff"] = answer["diff"] + list(more_diff)
        result.update(answer)
        return result
