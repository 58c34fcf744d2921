# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of falco_trial: one trip a test, what comes next is decided in between, and progress is shown."""

from __future__ import annotations

import base64
import binascii
import contextlib
import multiprocessing
import os
import threading
import time
import zlib

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies
from ansible_collections.falcotune.fleet.plugins.plugin_utils._trial import outcomes, requests, tests
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import visible

display = Display()
MAX_LIST = 1 << 24
STEP = 0.5


class ActionModule(ActionBase):
    """Runs the campaign."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = False
    _VALID_ARGS = frozenset(("tests", "facts", "plan", "policy", *tests.OPTIONS))

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        arguments = self._task.args
        unknown = sorted(set(arguments) - self._VALID_ARGS)
        if unknown:
            return dict(
                result,
                failed=True,
                msg="unsupported parameters: %s; supported are %s"
                % (", ".join(unknown), ", ".join(sorted(self._VALID_ARGS))),
            )
        began = time.time()
        facts = arguments.get("facts")
        if not isinstance(facts, dict) or not all(
            isinstance(facts.get(part), dict) for part in requests.PARTS
        ):
            return dict(
                result,
                failed=True,
                msg="facts is not what falco_facts returns: expected a dict with %s"
                % ", ".join(requests.PARTS),
            )
        try:
            given = policies.complete(arguments.get("policy"))
            chosen = tests.options({name: arguments[name] for name in tests.OPTIONS if name in arguments})
            asked = tests.complete(arguments.get("tests"))
        except (policies.PolicyError, tests.TrialError) as error:
            return dict(result, failed=True, msg=str(error))
        self._host = (task_vars or {}).get("inventory_hostname") or "host"
        try:
            release = requests.release_of(facts)
            selections = tests.predicted(asked, release)
            built = [
                requests.build(test, facts, arguments.get("plan"), chosen, given, release, test is asked[0])
                for test in asked
            ]
        except tests.TrialError as error:
            return dict(result, failed=True, msg=str(error))
        except requests.Impossible as error:
            done, warnings = [outcomes.unrun(test, str(error), "failed") for test in asked], []
        else:
            with _together_with_the_controller():
                done, warnings = self._campaign(asked, selections, built, facts, release, chosen, task_vars)
        found = {
            **outcomes.verdict(done, chosen["accepted_drops_percent"]),
            "accepted_drops_percent": chosen["accepted_drops_percent"],
            "mode": chosen["mode"],
            "began": began,
            "ended": time.time(),
            "tests": done,
        }
        # A Falco that was stopped and started is a change, even though nothing looks different now.
        changed = chosen["mode"] == "instead" and (
            self._task.check_mode or any(item["seconds"] is not None for item in done)
        )
        return dict(
            result,
            changed=changed,
            ansible_facts={"falco_trial": found},
            summary=outcomes.lines(found),
            warnings=warnings,
        )

    def _campaign(self, asked, selections, built, facts, release, chosen, task_vars):
        """(one entry a test, warnings)."""
        free = requests.unbounded(facts)
        done, warnings, rules, stopped = [], [free] if free else [], None, None
        for test, selection, request in zip(asked, selections, built, strict=True):
            reason = stopped or outcomes.skipped(selection, done)
            if reason:
                done.append(outcomes.unrun(test, reason))
                continue
            self._say(
                "%s: %d system calls, %s"
                % (
                    test["name"],
                    len(selection["selected"]),
                    "dry run"
                    if self._task.check_mode
                    else (
                        "%d s %s the host's own Falco"
                        % (chosen["seconds"], chosen["mode"] + (" of" if chosen["mode"] == "instead" else ""))
                    ),
                )
            )
            response = self._execute_module(
                module_name="falcotune.fleet.falco_trial",
                module_args={"request": request},
                task_vars=task_vars,
            )
            answer = response.get("trial") if isinstance(response.get("trial"), dict) else None
            if answer is None:
                stopped = "not run: %s" % (response.get("msg") or "the host gave no answer")
                done.append(
                    outcomes.unrun(test, str(response.get("msg") or "the host gave no answer"), "failed")
                )
                continue
            if request["list_rules"]:
                rules, problem = outcomes.production_rules(_text(answer.get("rules")), facts, release)
                if problem:
                    rules = None
                    warnings.append("which rules would lose events is not known: %s" % problem)
            warnings.extend(self._warnings(response, answer, warnings))
            done.append(
                outcomes.result(test, answer, selection, release, chosen["accepted_drops_percent"], rules)
            )
            self._say(outcomes.line(done[-1]))
            if answer.get("blind"):
                stopped = "not run: %s" % done[-1]["reason"]
        return done, warnings

    @staticmethod
    def _warnings(response, answer, known):
        found = [response["recovered"]] if response.get("recovered") else []
        production = answer.get("production")
        if isinstance(production, dict) and not production.get("watched"):
            found.append(
                "the losses of the host's own Falco could not be watched during the trial: %s"
                % production.get("reason")
            )
        return [text for text in (visible(str(item)) for item in found) if text not in known]

    def _say(self, text):
        display.display("%s: %s" % (visible(str(self._host)), visible(text)))


def _text(packed):
    """What the host packed, or None."""
    try:
        inflate = zlib.decompressobj()
        return (
            inflate.decompress(base64.b64decode(packed), MAX_LIST).decode("utf-8", "replace")
            if packed
            else None
        )
    except (binascii.Error, zlib.error, TypeError, ValueError):
        return None


@contextlib.contextmanager
def _together_with_the_controller():
    """End this worker where ansible-playbook was killed: a worker alone would go on to the last test, and nobody would know."""
    parent, over = multiprocessing.parent_process(), threading.Event()

    def look():
        while not over.wait(STEP):
            if os.getppid() != parent.pid:
                os._exit(1)

    thread = threading.Thread(target=look, daemon=True)
    if parent is not None:
        thread.start()
    try:
        yield
    finally:
        over.set()
