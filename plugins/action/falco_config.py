# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of falco_config: from plan, facts and policy to one request for the host.

No round trip where nothing changes.
"""

from __future__ import annotations

import time

from ansible_collections.falcotune.fleet.plugins.plugin_utils._action.host_answers import HostAction, line
from ansible_collections.falcotune.fleet.plugins.plugin_utils._action.arguments import (
    ArgumentError,
    Arguments,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import coverage
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import (
    policies,
    received,
    requests,
    rounds,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning.changes import change
from ansible_collections.falcotune.fleet.plugins.plugin_utils._untrusted import flag, listed, number

ARGUMENTS = Arguments("falco_config", internal=("request",))
# What is kept of the module's answer.
KEPT = {
    "evidence": received.evidence,
    "look": received.evidence,
    "undone": flag,
    "touched": flag,
    "reverted": flag,
    "recovered": line,
    "log": listed(line),
    "notes": listed(line),
    "blind_seconds_at_most": number,
}


class ActionModule(HostAction):
    """Builds the request, runs the module, and says what changed and why."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp=None, task_vars=None):
        began = time.time()
        result = super().run(tmp, task_vars)
        self._task_vars = task_vars
        try:
            arguments = ARGUMENTS.check(self._task.args)
            policy = policies.complete(arguments["policy"])
            result = self._answer(result, arguments, policy)
        except (ArgumentError, policies.PolicyError) as error:
            result.update(failed=True, msg=str(error))
        return dict(result, began=began, ended=time.time())

    def _answer(self, result, arguments, policy):
        state = arguments["state"]
        if state in ("rolled_back", "proven"):
            return self._look_back(result, state, arguments["evidence"], policy)
        missing = [name for name in ("plan", "facts") if arguments[name] is None]
        if missing:
            raise ArgumentError("state %s needs %s" % (state, " and ".join(missing)))
        facts, plan = arguments["facts"], arguments["plan"]
        changes = plan["changes"] + requests.pending(facts, policy, plan)
        result.update(
            changed=False,
            changes=changes,
            warnings=list(plan["warnings"]),
            ansible_facts={"falco_tune_restart_required": requests.waits(plan, policy)},
        )
        wrong = requests.weak_evidence(plan, policy)
        if wrong:
            return dict(result, failed=True, msg=wrong)
        built = requests.build(state, plan, facts, policy, arguments["content"] or "")
        result = self._present(result, facts, plan, policy, built)
        # A change is looked at again once it has been proven, and not where Falco was left alone.
        if built["restart"] and result.get("evidence") and not result.get("failed"):
            this, interval = rounds.given(arguments["round"]), built["proof"]["interval"]
            again = rounds.following(plan, policy, this, interval, time.time())
            if again:
                result["next_round"] = again
        return result

    def _present(self, result, facts, plan, policy, built):
        """Make the change, or keep it until a restart is allowed."""
        on_host, changes = facts.get("host") or {}, result["changes"]
        staged = on_host.get("staged") or {}
        if requests.waits(plan, policy):
            if plan["layout"] is None:
                said = "%s; falco_tune_restart_ok is false: nothing was changed" % changes[0]["from"]
                return dict(result, msg=said)
            return self._stage(result, built, staged)
        if staged:
            why = "it is made now" if changes else "nothing is to be changed any more"
            changes.append(change("staged", "change", "a change that waits for a restart", None, why))
        if not changes and not on_host.get("unfinished"):
            return result
        return self._send(result, built, _coverage_diff(plan) if built["selected"] is not None else ())

    def _look_back(self, result, state, evidence, policy):
        """Undo the last change, or look at it again.

        Where Falco was only proven anew, or in check mode, there is none to look at.
        """
        built = requests.build(state, None, None, policy)
        if state == "proven":
            if evidence is None or evidence.get("adopted") or self._task.check_mode:
                return dict(result, changed=False, skipped=True, msg="there is no change to look at")
            built.update(
                rollback_to="previous",
                evidence={name: evidence.get(name) for name in ("pid", "start_ticks", "restarts", "events")},
            )
        return self._send(result, built)

    def _stage(self, result, built, staged):
        """Keep a change that may not be made now, once its own Falco has read it.

        No round trip where the same is kept already.
        """
        digest = requests.digest(built)
        said = (
            "(staged) a restart is needed and falco_tune_restart_ok is false: the host's own Falco has read "
            "the change, which is kept in %s/staged; nothing else was touched" % built["state_dir"]
        )
        if staged.get("digest") == digest:
            return dict(result, staged=True, msg=said)
        built.update(stage=digest)
        answer = self._send(result, built)
        if not answer.get("failed"):
            answer.update(staged=True, msg=said)
        return answer

    def _send(self, result, built, more_diff=()):
        """The one round trip."""
        answer = self.ask("falco_config", {"request": built}, KEPT)
        answer["warnings"] = answer.get("warnings", []) + result.get("warnings", [])
        if isinstance(answer.get("diff"), list):
            answer["diff"] = answer["diff"] + list(more_diff)
        result.update(answer)
        return result


def _coverage_diff(plan):
    """What a change of the system calls costs, as a part of the diff."""
    found = plan["coverage"]
    texts = ["".join(line + "\n" for line in coverage.lines(found, but)) for but in (found["newly"], ())]
    header = "rules that lose events, of %d" % found["rules_total"]
    return [{"before_header": header, "after_header": header, "before": texts[0], "after": texts[1]}]
