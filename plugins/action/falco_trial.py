# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of falco_trial: one round trip a test; what comes next is decided in between, and progress
is shown.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
import time

from ansible.utils.display import Display
from ansible_collections.falcotune.fleet.plugins.plugin_utils._action.host_answers import (
    MAX_ANSWER,
    HostAction,
    TooMuch,
    bounded,
    line,
    mapping,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._action.arguments import (
    ArgumentError,
    Arguments,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import plugin_needs
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import visible
from ansible_collections.falcotune.fleet.plugins.plugin_utils._trial import (
    comparisons,
    outcomes,
    requests,
    rule_arms,
    tests,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import assembly, policies
from ansible_collections.falcotune.fleet.plugins.plugin_utils._untrusted import (
    count,
    flag,
    number,
    signed,
    table,
    text,
    weight,
    word,
)

display = Display()
ARGUMENTS = Arguments("falco_trial", internal=("request",))
# Characters of a dry run's output, of what `falco -L` printed, and of the outcome of all tests of a host.
MAX_DRY_RUN = 1 << 19
MAX_LIST = assembly.MAX_RULES
MAX_OUTCOME = 1 << 20


def _string(most):
    """A text of at most so many characters, or None."""
    return lambda value: str.__str__(value) if isinstance(value, str) and len(value) <= most else None


# What is kept of the module's answer: of one test.
KEPT = {
    "trial": table(
        state=word("ran", "checked", "aborted", "failed"),
        reason=text,
        dry_run=_string(MAX_DRY_RUN),
        pair=mapping,
        cpu=table(seconds=number, on=number, waiting=number),
        cpus=count,
        production=table(watched=flag, reason=text, more_drops_percent=signed),
        rules=_string(MAX_ANSWER),
        rules_files=_string(MAX_ANSWER),
        blind=flag,
        ended=number,
    ),
    "recovered": line,
}
STEP = 0.5


class ActionModule(HostAction):
    """Runs the campaign."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        self._task_vars = task_vars
        self._host = (task_vars or {}).get("inventory_hostname") or "host"
        began = time.time()
        try:
            # The campaign's own checks first: they name the role's variables and ranges.
            given = {name: self._task.args[name] for name in tests.OPTIONS if name in self._task.args}
            chosen = tests.options(given)
            asked = tests.complete(self._task.args.get("tests"))
            arguments = ARGUMENTS.check(self._task.args)
            facts = arguments["facts"] or {}
            if not all(isinstance(facts.get(part), dict) for part in requests.PARTS):
                parts = ", ".join(requests.PARTS)
                raise ArgumentError("facts is not what falco_facts returns: expected a dict with %s" % parts)
            policy = policies.complete(arguments["policy"])
            done, warnings = self._done(asked, arguments, chosen, policy)
        except (ArgumentError, policies.PolicyError, tests.TrialError) as error:
            return dict(result, failed=True, msg=str(error))
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

    def _done(self, asked, arguments, chosen, policy):
        """(one entry a test, warnings). Raises TrialError."""
        facts = arguments["facts"]
        try:
            release = requests.release_of(facts)
            selections = tests.predicted(asked, release)

            def build(test, list_rules=False, arm=None):
                return requests.build(
                    test, facts, arguments["plan"], chosen, policy, release, list_rules, arm
                )

            for test in asked:
                build(test)
        except requests.Impossible as error:
            return [outcomes.unrun(test, str(error), "failed") for test in asked], []
        self._facts, self._release, self._chosen, self._build = facts, release, chosen, build
        with _together_with_the_controller():
            return self._campaign(asked, selections)

    def _campaign(self, asked, selections):
        """(one entry a test, warnings): each test in turn, as often as it is to run."""
        free = requests.unbounded(self._facts)
        self._found, self._stopped, self._rules, self._loaded = [free] if free else [], None, None, None
        count = 1 if self._task.check_mode else tests.runs_of(asked, self._chosen)
        runs = {test["name"]: [] for test in asked}
        for turn in range(count):
            for test, selection in zip(asked, selections, strict=True):
                before = [entries[-1] for entries in runs.values() if entries]
                entry = self._run(test, selection, before, turn, count)
                if entry is not None:
                    runs[test["name"]].append(entry)
        made = [comparisons.combined(runs[test["name"]]) for test in asked]
        named = {entry["name"]: entry for entry in made}
        for entry in made:
            if entry["against"]:
                entry["difference"] = comparisons.difference(entry, named[entry["against"]])
        return made, self._found

    def _run(self, test, selection, before, turn, count):
        """The entry of one run of a test, or None where an earlier one tells it already."""
        reason = self._stopped or outcomes.skipped(selection, before)
        if reason:
            return outcomes.unrun(test, reason) if turn == 0 else None
        try:
            request = self._request(test, turn == 0 and not before)
        except (rule_arms.Unlike, TooMuch) as error:
            return outcomes.unrun(test, str(error), "failed") if turn == 0 else None
        self._say(self._announced(test, selection, turn, count))
        response = self._round_trip(request)
        answer = response.get("trial")
        if answer is None:
            reason = str(response.get("msg") or "the host gave no answer")
            self._stopped = "not run: %s" % reason
            return outcomes.unrun(test, reason, "failed")
        made, problem = self._told(test, request, response, selection)
        if problem and test["without"] is None:
            self._found.append("which rules would lose events is not known: %s" % visible(problem))
        elif problem:
            self._stopped = "not run: the host's own rules are not known: %s" % problem
        self._found.extend(self._warnings(response, answer, self._found))
        self._say(outcomes.line(made))
        if answer["blind"]:
            self._stopped = "not run: %s" % made["reason"]
        return made

    def _request(self, test, first):
        """The request for a test. Raises Unlike, or TooMuch where the rules take too long to be cut.

        first: the host sends its rules, and everything is loaded.
        """
        if first or test["without"] is None:
            return self._build(test, first)
        if self._loaded is None:
            raise rule_arms.Unlike("the host's own rules are not known, because the first test failed")
        with bounded():
            return self._build(test, False, rule_arms.arm(test["without"], self._loaded, requests.PLACE))

    def _announced(self, test, selection, turn, count):
        """The line that is shown before a test."""
        if self._task.check_mode:
            how = "dry run"
        else:
            mode = self._chosen["mode"]
            where = "instead of" if mode == "instead" else mode
            how = "%d s %s the host's own Falco" % (self._chosen["seconds"], where)
        if count > 1:
            how += ", run %d of %d" % (turn + 1, count)
        if selection["selected"] is None:
            return "%s: the host's own rules, %s" % (test["name"], how)
        return "%s: %d system calls, %s" % (test["name"], len(selection["selected"]), how)

    def _round_trip(self, request):
        return self.ask("falco_trial", {"request": request}, KEPT)

    def _told(self, test, request, response, selection):
        """(the entry of a test that was run, why the host's rules are not known or None)."""
        answer, listed, problem = response["trial"], self._rules, None
        try:
            with bounded():
                if request["list_rules"]:
                    listed, problem = self._listed(test, answer)
                made = outcomes.result(
                    test, answer, selection, self._release, self._chosen["accepted_drops_percent"], listed
                )
                if test["without"] is not None:
                    made["plugins"] = request["config"]["load_plugins"]
                if weight(made, MAX_OUTCOME) > MAX_OUTCOME:
                    raise TooMuch("the outcome of the test is larger than %d bytes" % MAX_OUTCOME)
        except TooMuch as error:
            made = outcomes.unrun(test, str(error), "failed")
        self._rules = listed
        return made, problem

    def _listed(self, test, answer):
        """(the rules that the host's own Falco has loaded or None, why they are not known)."""
        printed = _unpacked(answer["rules"], MAX_LIST)
        listed, problem = outcomes.production_rules(printed, self._facts, self._release)
        if problem:
            return None, problem
        if test["without"] is not None:
            files = rule_arms.files_of(_unpacked(answer["rules_files"], 2 * rule_arms.MAX_TEXT))
            if files is None:
                return None, "the host sent no rules files"
            plugins = self._facts["config"]["plugins"]
            needs = plugin_needs.needs(printed, listed, self._release, plugins)
            self._loaded = rule_arms.Loaded(files, listed, plugins, needs)
        return listed, None

    @staticmethod
    def _warnings(response, answer, known):
        found = [response["recovered"]] if response.get("recovered") else []
        production = answer["production"]
        if production and not production["watched"]:
            found.append(
                "the drops of the host's own Falco could not be watched during the trial: %s"
                % visible(str(production["reason"]))
            )
        return [item for item in found if item not in known]

    def _say(self, text):
        display.display("%s: %s" % (visible(str(self._host)), visible(text)))


def _unpacked(packed, most):
    """What the host packed, or None. most: characters."""
    try:
        return assembly.unpacked(packed, most) if packed else None
    except assembly.Unpackable:
        return None


@contextlib.contextmanager
def _together_with_the_controller():
    """End this process where ansible-playbook was killed: it would go on to the last test, and nobody would
    know.
    """
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
