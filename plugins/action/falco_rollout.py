# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""falco_rollout: what a whole rollout decides between its hosts' tasks, on the controller. No trip to any host.

Nothing is kept but the plan, as a fact of localhost. Where a rollout stands is what its hosts' own results
say: the role's tasks register them in the variables below, each host's turn comes once, and every decision
is made anew from all of them.
"""

from __future__ import annotations

import os
import time

from ansible.plugins.action import ActionBase
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rollout import batching, hosts, records
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning.policies import FLEET

# Registered by the role's tasks.
GATHERED, PLANNED, CONSENT = "__falco_tune_gathered", "__falco_tune_planned", "__falco_tune_consent"
BATCH, APPLIED, LOOKED, PROMOTED = (
    "__falco_tune_batch",
    "__falco_tune_applied",
    "__falco_tune_looked",
    "__falco_tune_promoted",
)
FACT, KEEPER = "falco_tune_rollout", "localhost"

NOT_CONFIRMED = "falco_tune_confirm is true and nobody answered yes: nothing was changed"
NOT_PROMOTED = (
    "falco_tune_promote is manual, the canaries are done, and nobody answered yes: look at them, then run again with "
    "falco_tune_promote: auto"
)
STATES = ("planned", "admitted", "gated", "concluded")


class ActionModule(ActionBase):
    """Reads hostvars, answers in results."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = False
    _VALID_ARGS = frozenset(("state",))

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        result["changed"] = False
        unknown = sorted(set(self._task.args) - self._VALID_ARGS)
        if unknown:
            return dict(
                result, failed=True, msg="unsupported parameters: %s; supported is state" % ", ".join(unknown)
            )
        state = self._task.args.get("state")
        if state not in STATES:
            return dict(
                result, failed=True, msg="state is %r: expected one of %s" % (state, ", ".join(STATES))
            )
        self.hostvars, self.task_vars = task_vars["hostvars"], task_vars
        try:
            return dict(result, **getattr(self, "_" + state)())
        except batching.RolloutError as error:
            return dict(result, failed=True, msg=str(error))

    # -- what the hosts brought

    def _of(self, name, variable):
        """A host's registered result, or {}. As it is: nothing here needs a template, and 10 000 hosts would feel one."""
        try:
            values = self.hostvars.raw_get(name)
            value = values.get(variable)
        except (AttributeError, KeyError):
            return {}
        return value if isinstance(value, dict) else {}

    def _kept(self):
        """The rollout that state planned left behind."""
        kept = self._of(KEEPER, "ansible_facts").get(FACT)
        if not kept or "plan" not in kept:
            raise batching.RolloutError(
                "no rollout is planned: run the role's entry point plan in a play before this one"
            )
        return kept

    # -- planned

    def _planned(self):
        names = [str(name) for name in self.task_vars.get("ansible_play_hosts_all") or []]
        policy = self._policy(names)
        hosts = {name: self._host(name, policy) for name in names}
        plan = batching.plan(hosts, policy)
        order = [name for batch in plan["batches"] for name in batch["hosts"]]
        # In check mode nobody is interrupted: all at once.
        sizes = (
            [len(batch["hosts"]) for batch in plan["batches"]]
            if not self._task.check_mode
            else [len(order)]
            if order
            else []
        )
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
        return {"ansible_facts": {FACT: kept}, "summary": summary}

    def _policy(self, names):
        """The fleet's part of the policy, which must be one for all hosts."""
        found, first = None, None
        for name in names:
            policy = self._of(name, PLANNED).get("fleet_policy")
            if policy is None:
                continue
            if found is None:
                found, first = policy, name
            for key in FLEET:
                if policy[key] != found[key]:
                    raise batching.RolloutError(
                        "falco_tune_%s is %r for %s and %r for %s: a rollout has one value for all its hosts; set it in group_vars/all or "
                        "with -e. Nothing was changed." % (key, found[key], first, policy[key], name)
                    )
        if found is None:
            raise batching.RolloutError(
                "no host could be planned for: see what each one failed with. Nothing was changed."
            )
        return found

    def _host(self, name, policy):
        """What the plan wants to know of a host; a host that failed is refused or unreachable, with the reason."""
        described = self._of(name, PLANNED).get("rollout")
        if isinstance(described, dict):
            return dict(described, reason=None)
        gathered = self._of(name, GATHERED)
        result = self._of(name, PLANNED) if "failed" in self._of(name, PLANNED) else gathered
        lost = gathered.get("unreachable")
        # Known where the host's plan was refused, and where its part in the rollout was.
        running = gathered.get("running") or self._of(name, "ansible_facts").get("falco", {}).get(
            "falco", {}
        ).get("running")
        return dict(
            hosts.UNKNOWN,
            state="unreachable" if lost else "refused",
            healthy=bool(running),
            domain=self._domain(name, policy["failure_domain"]),
            reason=str(result.get("msg") or "it brought no facts"),
        )

    def _domain(self, name, variable):
        """The failure domain of a host that could not be planned for."""
        try:
            return str(self.hostvars[name][variable]) if variable else None
        except Exception:  # pylint: disable=broad-except
            return None  # a variable that this host lacks, or that can't be templated

    # -- in a batch

    def _outcomes(self, kept):
        """({host: outcome} of all whose turn has come, [batches that began, with 'began', 'ended', 'hosts', 'deferred'])."""
        outcomes, begun = {}, []
        for batch in kept["plan"]["batches"]:
            mark = next(
                (
                    mark
                    for mark in (self._of(name, BATCH) for name in batch["hosts"])
                    if mark.get("number") == batch["number"]
                ),
                None,
            )
            if mark is None or mark.get("stop"):
                continue
            for name in mark["hosts"]:
                outcomes[name] = hosts.outcome(
                    self._of(name, APPLIED), self._of(name, LOOKED), self._task.check_mode
                )
            begun.append(
                {
                    "number": batch["number"],
                    "stage": batch["stage"],
                    "began": mark["began"],
                    "ended": None,
                    "hosts": list(mark["hosts"]),
                    "deferred": mark["deferred"],
                }
            )
        return outcomes, begun

    def _this(self, kept):
        """The batch that this batch of the play is."""
        name = self.task_vars["inventory_hostname"]
        batch = next((batch for batch in kept["plan"]["batches"] if name in batch["hosts"]), None)
        others = set(self.task_vars.get("ansible_play_batch") or []) - set(batch["hosts"] if batch else [])
        if batch is None or (others and not self._task.check_mode):
            raise batching.RolloutError(
                "this play's batch is not a batch of the rollout that was planned: give the play the hosts and the serial of "
                "hostvars.localhost.ansible_facts.%s" % FACT
            )
        return batch

    def _stop(self, kept, outcomes, number):
        """(state, reason) for which no batch from this number on may begin, or (None, None)."""
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
        outcomes, dummy = self._outcomes(kept)
        reason = None if self._task.check_mode else batching.halt(kept["plan"], outcomes, batch)
        line = records.batch_line(kept["plan"], batch, outcomes, reason)
        return {
            "number": batch["number"],
            "of": len(kept["plan"]["batches"]),
            "ended": time.time(),
            "stop": reason or "",
            "msg": line,
            "blind": sorted(name for name, item in outcomes.items() if item["blind"]),
            "ask": bool(
                not reason
                and not self._task.check_mode
                and kept["policy"]["promote"] == "manual"
                and batching.last_canary(kept["plan"], batch)
            ),
        }

    # -- concluded

    def _concluded(self):
        kept = self._kept()
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
