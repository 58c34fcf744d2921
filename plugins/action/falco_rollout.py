# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""falco_rollout: what a rollout decides between the tasks of its hosts. Runs on the controller alone.

Only the plan is kept, as a fact of localhost. The registered results of the hosts say where a rollout
stands: the tasks of the role register them in the variables below, each host has one turn, and every
decision is made from all results.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from ansible import constants
from ansible.plugins.action import ActionBase
from ansible_collections.falcotune.fleet.plugins.plugin_utils import _untrusted
from ansible_collections.falcotune.fleet.plugins.plugin_utils._action import rollout_locks
from ansible_collections.falcotune.fleet.plugins.plugin_utils._action.arguments import (
    ArgumentError,
    Arguments,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rollout import batching, hosts, records, slices
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import visible
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning.policies import FLEET

# Registered by the role's tasks.
GATHERED, CONSENT = "__falco_tune_gathered", "__falco_tune_consent"
BATCH, APPLIED, LOOKED, GATE, PROMOTED = (
    "__falco_tune_batch",
    "__falco_tune_applied",
    "__falco_tune_looked",
    "__falco_tune_gate",
    "__falco_tune_promoted",
)
# Of the host KEPT_ON.
FACT, KEPT_ON = "falco_tune_rollout", "localhost"

NOT_CONFIRMED = "falco_tune_confirm is true and nobody answered yes: nothing was changed"
NOT_PROMOTED = (
    "falco_tune_promote is manual, the canaries are done, and nobody answered yes: check them, then run "
    "again with falco_tune_promote: auto"
)
ARGUMENTS = Arguments("falco_rollout")


class ActionModule(ActionBase):
    """Reads hostvars, answers in results."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        result["changed"] = False
        self.hostvars, self.task_vars = task_vars["hostvars"], task_vars
        try:
            state = ARGUMENTS.check(self._task.args)["state"]
            return dict(result, **_visible(getattr(self, "_" + state)()))
        except (ArgumentError, batching.RolloutError, rollout_locks.HeldError) as error:
            return dict(result, failed=True, msg=str(error))

    # -- results of the hosts

    def _of(self, name, variable):
        """A host's registered result, or {}. Untemplated: that is not needed, and slow for 10 000 hosts."""
        try:
            return _untrusted.dictionary(self.hostvars.raw_get(name).get(variable))
        except (AttributeError, KeyError):
            return {}

    def _kept(self):
        """The rollout that state planned left behind."""
        kept = self._of(KEPT_ON, "ansible_facts").get(FACT)
        if not kept or "plan" not in kept:
            raise batching.RolloutError(
                "no rollout is planned: run the role's entry point plan in a play before this one"
            )
        return kept

    # -- planned

    def _planned(self):
        names = [str(name) for name in self.task_vars.get("ansible_play_hosts_all") or []]
        policy = self._policy(names)
        template = slices.sliced(self.task_vars)
        if template is not None and policy["slices"] == "refuse":
            raise batching.RolloutError(slices.refusal(template, policy["failure_domain"]))
        hosts = {name: self._host(name, policy) for name in names}
        plan = batching.plan(hosts, policy)
        order = [name for batch in plan["batches"] for name in batch["hosts"]]
        sizes = [len(batch["hosts"]) for batch in plan["batches"]]
        if self._task.check_mode and order:
            sizes = [len(order)]  # no host is interrupted: all at once
        warnings = self._hold(plan, order, policy)
        summary = records.summary(plan, hosts)
        kept = {
            "hosts": order or ["all", "!all"],
            "serial": sizes or [1],
            "failed": {},
            "summary": summary,
            "plan": plan,
            "of": hosts,
            "policy": policy,
            "began": time.time(),
            "interactive": bool(policy["confirm"] and order and not self._task.check_mode),
            "id": "%s-%s" % (time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()), os.urandom(2).hex()),
        }
        return {"ansible_facts": {FACT: kept}, "summary": summary, **warnings}

    def _hold(self, plan, order, policy):
        """Take the failure domains of the hosts that change. Raises HeldError. → {'warnings'} or {}."""
        variable = policy["failure_domain"]
        domains = {
            "%s=%s" % (variable, plan["home"][name]) for name in order if plan["home"][name] is not None
        }
        if self._task.check_mode:
            return {}
        try:
            rollout_locks.take(_folder(), domains, _playbook())
        except rollout_locks.LockError as error:
            if domains:
                return {"warnings": ["other rollouts of this control node are not known: %s" % error]}
        return {}

    def _policy(self, names):
        """The fleet's part of the policy, which must be one for all hosts."""
        found, first = None, None
        for name in names:
            policy = self._of(name, GATHERED).get("fleet_policy")
            if policy is None:
                continue
            if found is None:
                found, first = policy, name
            for key in FLEET:
                if policy[key] != found[key]:
                    raise batching.RolloutError(
                        "falco_tune_%s is %r for %s and %r for %s: a rollout has one value for all its "
                        "hosts; set it in group_vars/all or with -e. Nothing was changed."
                        % (key, found[key], first, policy[key], name)
                    )
        if found is None:
            raise batching.RolloutError(
                "no host has a plan: see the failure of each host. Nothing was changed."
            )
        return found

    def _host(self, name, policy):
        """What batching.plan() needs of a host. One that failed is refused or unreachable."""
        gathered = self._of(name, GATHERED)
        if isinstance(gathered.get("rollout"), dict):
            return dict(gathered["rollout"], reason=None)
        return {
            **hosts.UNKNOWN,
            "state": "unreachable" if gathered.get("unreachable") else "refused",
            "healthy": bool(gathered.get("running")),
            "domain": self._domain(name, policy["failure_domain"]),
            "reason": str(gathered.get("msg") or "no facts were gathered"),
        }

    def _domain(self, name, variable):
        """The failure domain of a host without a plan."""
        try:
            return str(self.hostvars[name][variable]) if variable else None
        except Exception:  # pylint: disable=broad-except
            return None  # the host lacks the variable, or it cannot be templated

    # -- in a batch

    def _outcomes(self, kept, judged=None):
        """({host: outcome} of all whose turn has come, [batches that began: _contracts.BegunBatch]).

        judged: the number of the batch whose round has just ended.
        """
        outcomes, begun = {}, []
        for batch in kept["plan"]["batches"]:
            mark = self._mark(batch)
            if mark is None or mark.get("stop"):
                continue
            gate = self._gate(batch)
            for name in mark["hosts"]:
                outcomes[name] = self._outcome(name, gate, batch["number"] == judged)
            began = {
                "began": mark["began"],
                "ended": None,
                "hosts": list(mark["hosts"]),
                "deferred": mark["deferred"],
            }
            begun.append({**batch, **began})
        return outcomes, begun

    def _outcome(self, name, gate, judged):
        """The outcome of a host over all rounds of its batch.

        gate: of the round before. judged: whether results came since.
        """
        before = gate["outcomes"].get(name) if gate else None
        if before is not None and not (judged and name in gate["again"]):
            return before
        now = hosts.outcome(self._of(name, APPLIED), self._of(name, LOOKED), self._task.check_mode)
        return now if before is None else hosts.over_rounds(before, now, self._of(name, GATHERED))

    def _gate(self, batch):
        """The result of state gated of the batch's last round, or None."""
        gates = (self._of(name, GATE) for name in batch["hosts"])
        return next((gate for gate in gates if gate.get("number") == batch["number"]), None)

    def _mark(self, batch):
        """The result of state admitted, which all hosts of the batch registered; None before its turn."""
        marks = (self._of(name, BATCH) for name in batch["hosts"])
        return next((mark for mark in marks if mark.get("number") == batch["number"]), None)

    def _this(self, kept):
        """The batch of the rollout that the play runs now."""
        name = self.task_vars["inventory_hostname"]
        batch = next((batch for batch in kept["plan"]["batches"] if name in batch["hosts"]), None)
        others = set(self.task_vars.get("ansible_play_batch") or []) - set(batch["hosts"] if batch else [])
        if batch is None or (others and not self._task.check_mode):
            raise batching.RolloutError(
                "the hosts of this play's batch are not a batch of the planned rollout: give the play the "
                "hosts and the serial of hostvars.localhost.ansible_facts.%s" % FACT
            )
        return batch

    def _stop(self, kept, outcomes, number):
        """(state of the record, reason) if no batch from this number on may begin, or (None, None)."""
        if self._task.check_mode:
            return None, None
        if kept["interactive"] and not self._yes(kept["hosts"], CONSENT):
            return "stopped", NOT_CONFIRMED
        for batch in kept["plan"]["batches"]:
            if batch["number"] >= number:
                break
            reason = batching.halt(kept["plan"], outcomes, batch)
            if reason:
                return "stopped", reason
            if (
                kept["policy"]["promote"] == "manual"
                and batching.last_canary(kept["plan"], batch)
                and not self._yes(batch["hosts"], PROMOTED)
            ):
                return "awaiting_promotion", NOT_PROMOTED
        return None, None

    def _yes(self, names, variable):
        return any(
            str(self._of(name, variable).get("user_input", "")).strip().lower() in ("y", "yes")
            for name in names
        )

    def _admitted(self):
        kept = self._kept()
        batch = self._this(kept)
        outcomes, dummy = self._outcomes(kept)
        state, reason = self._stop(kept, outcomes, batch["number"])
        found = {
            "number": batch["number"],
            "of": len(kept["plan"]["batches"]),
            "stage": batch["stage"],
            "began": time.time(),
            "stop": reason or "",
            "hosts": [],
            "deferred": {},
        }
        if state:
            return dict(found, msg="no further batch begins: %s" % reason)
        if self._task.check_mode:
            return dict(found, hosts=list(self.task_vars.get("ansible_play_batch") or []))
        found["hosts"], found["deferred"] = batching.admit(kept["plan"], outcomes, batch)
        return found

    def _gated(self):
        kept = self._kept()
        batch = self._this(kept)
        before = self._gate(batch)
        outcomes, dummy = self._outcomes(kept, batch["number"])
        reason = None if self._task.check_mode else batching.halt(kept["plan"], outcomes, batch)
        line = records.batch_line(kept["plan"], batch, outcomes, reason)
        again = [] if reason else self._again(before["again"] if before else batch["hosts"], outcomes)
        return {
            "number": batch["number"],
            "of": len(kept["plan"]["batches"]),
            "round": before["round"] + 1 if before else 1,
            "again": again,
            "outcomes": {name: outcomes[name] for name in batch["hosts"] if name in outcomes},
            "ended": time.time(),
            "stop": reason or "",
            "msg": line + records.going_on(again),
            "blind": sorted(name for name, item in outcomes.items() if item["blind"]),
            "ask": bool(
                not reason
                and not self._task.check_mode
                and kept["policy"]["promote"] == "manual"
                and batching.last_canary(kept["plan"], batch)
            ),
        }

    def _again(self, names, outcomes):
        """Of these hosts, those that were changed and proven, and are looked at again in this run."""
        return [
            name
            for name in names
            if name in outcomes
            and outcomes[name]["outcome"] == "done"
            and self._of(name, APPLIED).get("next_round")
        ]

    # -- concluded

    def _concluded(self):
        kept = self._kept()
        if not self._task.check_mode:
            with contextlib.suppress(rollout_locks.LockError):  # the end of this process frees them, too
                rollout_locks.release(_folder(), _playbook())
        outcomes, begun = self._outcomes(kept)
        reached = max([batch["number"] for batch in begun] or [0])
        state, reason = self._stop(kept, outcomes, reached + 1)
        record = records.record(
            kept["plan"],
            kept["of"],
            {
                "id": kept["id"],
                "state": state or "finished",
                "reason": reason,
                "began": kept["began"],
                "ended": time.time(),
                "outcomes": outcomes,
                "batches": begun,
            },
        )
        failed = {
            entry["name"]: "%s: %s" % (entry["outcome"], entry["reason"])
            for batch in record["batches"]
            for entry in batch["hosts"]
            if entry["outcome"] in batching.BAD or entry["outcome"] == "skipped" and entry["began"]
        }
        return {
            "ansible_facts": {
                FACT: {
                    "hosts": ["all", "!all"],
                    "serial": [1],
                    "failed": failed,
                    "unhappy": list(failed) or ["all", "!all"],
                }
            },
            "record": record,
            "summary": records.conclusion(record),
        }


def _folder():
    """Where Ansible keeps what belongs to a user of the control node."""
    return Path(os.path.expanduser(constants.ANSIBLE_HOME))


def _playbook():
    """The process that runs the playbook. A task has a process of its own below it."""
    return rollout_locks.holder(os.getppid())


def _visible(found):
    """The answer with the texts for people as a terminal may show them: hosts' messages are in them."""
    for name in ("msg", "stop"):
        if isinstance(found.get(name), str):
            found[name] = visible(found[name])
    if "summary" in found:
        found["summary"] = [visible(line) for line in found["summary"]]
    return found
