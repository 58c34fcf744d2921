# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of falco_facts: gather, parse and merge here, where PyYAML is, and plan by policy.

One round trip as a rule. A host needs another one where config_files names its files through variables, where
/metrics is all that there is, and where the plan depends on what Falco's rules need; see the methods named
_gather_….
"""

from __future__ import annotations

import time

from ansible_collections.falcotune.fleet.plugins.plugin_utils._action import histories
from ansible_collections.falcotune.fleet.plugins.plugin_utils._action.host_answers import (
    HostAction,
    TooMuch,
    bounded,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._action.arguments import (
    ArgumentError,
    Arguments,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.configuration import Settings
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import audit
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rollout import hosts
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import hint
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import (
    assembly,
    planner,
    policies,
    received,
    requests,
    rounds,
    sight,
    twins,
    verdicts,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._untrusted import dictionary

ARGUMENTS = Arguments("falco_facts")
# What is kept of the module's answer. assembly.assemble() checks what is in it.
KEPT = {"ansible_facts": dictionary}
# Options that the module on the host never sees.
OF_CONTROLLER = ("policy", "entry", "rollout", "round")
# Options of the module that take their values from a policy.
_FROM_POLICY = (
    "host_root",
    "unit",
    "config_file",
    "state_dir",
    "metrics_dir",
    "observe_seconds",
    "metrics_sources",
    "metrics_max_bytes",
    "min_observation",
    "prometheus_seconds",
)


class _Unanswered(Exception):
    """A round trip that brought no facts."""

    def __init__(self, answer):
        super().__init__(answer.get("msg"))
        self.answer = answer


class ActionModule(HostAction):
    """Runs the module and turns what it sent into the facts contract."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = False

    def run(self, tmp=None, task_vars=None):
        result = dict(super().run(tmp, task_vars), began=time.time())
        self._task_vars, self._invocation, self._warnings = task_vars, None, []
        try:
            checked = ARGUMENTS.check(self._task.args)
            policy = None if checked["policy"] is None else policies.complete(checked["policy"])
            this = rounds.given(checked["round"])
            time.sleep(rounds.wait(this, time.time()))
            facts, arguments = self._facts(self._arguments(checked, policy))
            if checked["coverage"] and sight.asks(facts):
                self._gather_coverage(facts, policy, arguments)
            result.update(changed=False, ansible_facts={"falco": facts}, invocation=self._invocation)
            if policy is not None:
                closing = bool(this and this["closing"])
                plan = self._plan(facts, policy, arguments, closing)
                result["ansible_facts"]["falco_plan"] = plan
                if checked["rollout"]:
                    result["ansible_facts"]["falco_tune_restart_required"] = requests.waits(plan, policy)
                    result.update(self._for_rollout(facts, plan, policy))
        except (ArgumentError, policies.PolicyError) as error:
            return dict(result, failed=True, msg=str(error))
        except _Unanswered as error:
            return error.answer
        except (assembly.TooLarge, TooMuch) as error:
            return dict(result, failed=True, msg=str(error))
        except planner.PlanError as error:
            result = self._refused(result, str(error), facts, policy, checked["refusal"])
            if result.get("failed"):
                return result
        if facts["falco"].get("warning"):
            self._warnings.append(facts["falco"]["warning"])
        if self._warnings:
            result["warnings"] = [*result.get("warnings", []), *self._warnings]
        return _reported(result, policy) if checked["entry"] and policy is not None else result

    def _arguments(self, checked, policy):
        """What the task gives, and the rest from policy; the module knows its own defaults."""
        found = {name: checked[name] for name in self._task.args if name not in OF_CONTROLLER}
        if policy is not None:
            for name in _FROM_POLICY:
                found.setdefault(name, policy[name])
            found.setdefault("window_seconds", policies.duration_ms(policy["window"]) / 1000.0)
        return found

    @staticmethod
    def _refused(result, reason, facts, policy, refusal):
        """The result for a host that can't be planned for."""
        if refusal == "fail":
            # Whether it sees events all the same is what a rollout counts.
            running = bool(facts["falco"]["running"])
            return dict(result, ansible_facts={}, failed=True, msg=reason, running=running)
        result["ansible_facts"]["falco_plan"] = {
            "reason": reason,
            "changes": [],
            "warnings": [],
            "restart_required": False,
            "verdict": verdicts.judge(facts, policy),
            "step": None,
        }
        return result

    # -- facts and plan

    def _facts(self, arguments):
        """(the facts, arguments that bring all of their files)."""
        gathered = self._round_trip(arguments)
        with bounded():
            named = _files_named_by_variables(gathered)
        if named:
            arguments = dict(arguments, extra_files=named)
            gathered = self._gather_named_files(arguments)
        facts = _assembled(gathered)
        scrape = _scrape(facts, arguments)
        if scrape:
            facts = self._gather_scrapes(arguments, scrape) or facts
        return facts, arguments

    def _plan(self, facts, policy, arguments, closing):
        """The plan; facts get their syscalls where it depends on them. Raises PlanError."""
        with bounded():
            made = planner.make(facts, policy, closing)
        if made["needs"] == "syscalls":
            facts["syscalls"] = self._gather_rules(facts, policy, arguments)
            with bounded():
                made = planner.make(facts, policy, closing)
        like_it = self._like_it(facts, policy) if made["step"] else ()
        if like_it:
            with bounded():
                made = planner.make(facts, policy, closing, like_it)
        return made

    def _like_it(self, facts, policy):
        """What steps came to on hosts like this one, by the history that policy names, a list for each."""
        alike = twins.key(facts)
        if not policy["history"] or alike is None:
            return ()
        name, since = str(self._task_vars["inventory_hostname"]), time.time() - twins.LASTS
        try:
            found = histories.named(policy["history"])
            if found is None:
                return ()
            with found:
                return tuple(map(twins.CHECK, found.outcomes(alike, name, since, twins.MOST_TWINS)))
        except (histories.HistoryError, ValueError) as error:
            self._warnings.append("falco_tune_history is of no use: %s" % error)
            return ()

    # -- what a rollout is planned with

    def _for_rollout(self, facts, plan, policy):
        """What falco_rollout needs of the host. Raises PlanError."""
        wrong = requests.weak_evidence(plan, policy)
        if wrong:
            raise planner.PlanError(wrong)
        changes = plan["changes"] + requests.pending(facts, policy, plan)
        on_host = facts.get("host") or {}
        changes = changes or on_host.get("unfinished") or on_host.get("staged")
        described = hosts.describe(facts, plan, policy, changes, self._domain(policy["failure_domain"]))
        return {"rollout": described, "fleet_policy": {key: policy[key] for key in policies.FLEET}}

    def _domain(self, name):
        """The host's failure domain, from the variable that policy names; None where it names none.

        Raises PlanError.
        """
        if not name:
            return None
        found = "falco_tune_failure_domain is %r, and " % name
        if name not in self._task_vars:
            raise planner.PlanError(
                "%sthis host has no such variable%s: set it for every host, or correct the name. Nothing was "
                "changed." % (found, hint(name, map(str, self._task_vars)))
            )
        domain = self._templar.template(self._task_vars[name])
        if not isinstance(domain, (str, int)) or isinstance(domain, bool) or domain == "":
            raise planner.PlanError(
                "%sthat variable is %r on this host: expected a text such as the name of a rack. Nothing was "
                "changed." % (found, domain)
            )
        return str(domain)

    # -- round trips. The first one is all that most hosts need.

    def _round_trip(self, arguments):
        """What the module found. Raises _Unanswered."""
        answer = self.ask("falco_facts", arguments, KEPT)
        gathered = answer.pop("ansible_facts", {}).get("falco")
        if answer.get("failed") or gathered is None:
            raise _Unanswered(answer)
        self._invocation = self._invocation or answer.get("invocation")
        return gathered

    def _gather_named_files(self, arguments):
        """Rare: config_files names its files through variables. Ask for exactly those."""
        self._invocation = None
        return self._round_trip(arguments)

    def _gather_scrapes(self, arguments, scrape):
        """Rare: /metrics is all there is, and only the merged configuration tells where.

        Two scrapes; None without an answer.
        """
        try:
            again = self._round_trip(dict(arguments, metrics_sources=["prometheus"], **scrape))
        except _Unanswered:
            return None
        return _assembled(again)

    def _gather_coverage(self, facts, policy, arguments):
        """Where an audit wants to tell what rules see, and only the host's Falco can say it."""
        try:
            facts["syscalls"] = self._gather_rules(facts, policy or {"profile_seconds": 0}, arguments)
        except _Unanswered as error:
            facts["syscalls"] = assembly.no_rules("the host did not answer: %s" % error)

    def _gather_rules(self, facts, policy, arguments):
        """Where Falco drops events that fewer system calls may save, or policy changes what is selected."""
        asked = dict(
            arguments,
            rules=True,
            dry_run=releases.release_for(facts["falco"]["version"]).dry_run,
            profile_seconds=policy["profile_seconds"],
            observe_seconds=0,
            metrics_sources=[],
        )
        return _assembled(self._round_trip(asked))["syscalls"]


def _reported(result, policy):
    """The result with the entry of the report in place of facts and plan, where no earlier audit matters."""
    found = result["ansible_facts"]
    if audit.waits(found["falco"], found["falco_plan"], policy):
        return result
    try:
        with bounded():
            entry = audit.slim(audit.entry("", found["falco"], found["falco_plan"], policy))
    except TooMuch as error:
        return dict(result, ansible_facts={}, failed=True, msg=str(error))
    except Exception:  # pylint: disable=broad-except
        return result  # the report says what is wrong with these facts
    kept = {name: part for name, part in result.items() if name not in ("ansible_facts", "invocation")}
    return {**kept, "entry": entry}


def _files_named_by_variables(gathered):
    """Files of config_files that the host could not find by itself."""
    version = received.parts(gathered)["falco"]["version"]
    return assembly.missing(dictionary(gathered).get("config_sources"), releases.known(version))


def _assembled(gathered):
    """The facts. Raises TooLarge or TooMuch."""
    with bounded():
        return assembly.assemble(gathered)


def _scrape(facts, arguments):
    """Arguments for scraping where no other source has metrics, or None."""
    if not facts["metrics"]["voided"] or not facts["falco"]["running"] or arguments.get("prometheus_url"):
        return None
    effective = facts["config"].get("effective")
    if "prometheus" not in arguments.get("metrics_sources", ["prometheus"]) or not effective:
        return None
    release = releases.known(facts["falco"]["version"])
    if release is None:
        return None
    url = requests.scrape_url(Settings(effective, release), early=False)
    return {"prometheus_url": url, "scrape_ok": release.scrape_before_capture} if url else None
