# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of falco_facts: one trip, then parse and merge here, where PyYAML is."""

from __future__ import annotations

import time

from ansible.plugins.action import ActionBase
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.configuration import Settings
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import (
    assembly,
    planner,
    policies,
    requests,
    verdicts,
)


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


class ActionModule(ActionBase):
    """Runs the module and turns what it sent into the facts contract."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        result["began"] = time.time()
        arguments = dict(self._task.args)
        given, refusal = arguments.pop("policy", None), arguments.get("refusal", "fail")
        if given is not None:
            try:
                complete = policies.complete(given)
            except policies.PolicyError as error:
                return dict(result, failed=True, msg=str(error))
            for name in _FROM_POLICY:
                arguments.setdefault(name, complete[name])
            arguments.setdefault("window_seconds", policies.duration_ms(complete["window"]) / 1000.0)
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
        assembled = assembly.assemble(gathered)
        scrape = self._scrape(assembled, arguments)
        if scrape:
            # Rare: /metrics is all there is, and only the merged configuration tells where. Two scrapes, in a trip of their own.
            again = self._gather(
                dict(arguments, metrics_sources=["prometheus"], extra_files=asked, **scrape), task_vars
            )
            if not again.get("failed"):
                assembled = assembly.assemble(again["ansible_facts"]["falco"])
        result.update(changed=False, invocation=answer.get("invocation"), ansible_facts={"falco": assembled})
        if given is not None:
            try:
                made = planner.make(assembled, complete)
                if made["needs"] == "syscalls":
                    # Only where Falco loses events that fewer system calls may save, or policy changes what is selected.
                    more = self._gather(
                        dict(
                            arguments,
                            rules=True,
                            dry_run=releases.release_for(assembled["falco"]["version"]).dry_run,
                            profile_seconds=complete["profile_seconds"],
                            extra_files=asked,
                            observe_seconds=0,
                            metrics_sources=[],
                        ),
                        task_vars,
                    )
                    if more.get("failed"):
                        return more
                    assembled["syscalls"] = assembly.assemble(more["ansible_facts"]["falco"])["syscalls"]
                    made = planner.make(assembled, complete)
                result["ansible_facts"]["falco_plan"] = made
            except planner.PlanError as error:
                if refusal != "report":
                    # Whether it sees events all the same is what a rollout counts.
                    return dict(
                        result,
                        ansible_facts={},
                        failed=True,
                        msg=str(error),
                        running=bool(assembled["falco"]["running"]),
                    )
                result["ansible_facts"]["falco_plan"] = {
                    "reason": str(error),
                    "changes": [],
                    "warnings": [],
                    "restart_required": False,
                    "verdict": verdicts.judge(assembled, complete),
                    "step": None,
                }
        warning = assembled["falco"].get("warning")
        if warning:
            result.setdefault("warnings", []).append(warning)
        return result

    @staticmethod
    def _scrape(assembled, arguments):
        """Arguments for scraping where no other source has metrics, or None."""
        if (
            not assembled["metrics"]["voided"]
            or not assembled["falco"]["running"]
            or arguments.get("prometheus_url")
        ):
            return None
        if "prometheus" not in arguments.get("metrics_sources", ["prometheus"]) or not assembled[
            "config"
        ].get("effective"):
            return None
        release = releases.known(assembled["falco"]["version"])
        if release is None:
            return None
        url = requests.scrape_url(Settings(assembled["config"]["effective"], release), early=False)
        return {"prometheus_url": url, "scrape_ok": release.scrape_before_capture} if url else None

    def _gather(self, arguments, task_vars):
        return self._execute_module(
            module_name="falcotune.fleet.falco_facts", module_args=arguments, task_vars=task_vars
        )

    @staticmethod
    def _more(gathered):
        return assembly.missing(gathered["sources"], releases.known(gathered["falco"].get("version")))
