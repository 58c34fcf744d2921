# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trials: what a user may ask for. Pure.

Falco's guide (falco.org, troubleshooting/dropping) tries a dummy rule that never alerts, with a small set of
system calls first and then with larger ones. The largest set that loses no events is what Falco can watch on
this host. A host that loses events with the smallest set and tuned buffers is too busy for Falco.

The guide also advises to audit rules and to try without plugins. Such a test has the host's own rules and
plugins without some of them, and is compared with another test that runs in turn with it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import TrialTest, TrialWithout
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import selections
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.releases import Release
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import hint, value_text
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies

PROCESSES = ("clone", "clone3", "fork", "vfork", "execve", "execveat")
SERVERS = ("getsockopt", "socket", "bind", "accept", "accept4", "close")
CLIENTS = ("getsockopt", "socket", "connect", "close")
FILES = ("open", "openat", "openat2", "close")


def _guide(name: str, *calls: str, repair: bool = False) -> TrialTest:
    return {
        "name": name,
        "custom_set": list(calls),
        "repair": repair,
        "all": False,
        "without": None,
        "against": None,
    }


GUIDE = (
    _guide("T1 processes", *PROCESSES, "procexit"),
    _guide("T2 repair", repair=True),
    _guide("T3 servers", *PROCESSES, *SERVERS),
    _guide("T4 clients", *PROCESSES, *CLIENTS),
    _guide("T5 files", *PROCESSES, *FILES),
)
# The system calls of the dummy rule.
RULE_CALLS = ("execve", "execveat")
# What Falco selects whatever a test says.
ANYWAY = {*RULE_CALLS, selections.ALWAYS}
KEYS = ("name", "custom_set", "repair", "all", "without", "against")
WITHOUT = ("rules", "tags", "files", "plugins", "rules_of_plugins")
# Every plugin, or every rule: in Falco's `rules` too, * stands for any text.
EVERY = "*"
# The test that others are compared with: everything that the host's own Falco has loaded.
AS_IT_IS = "as it is"
MAX_NAME, MAX_TESTS, MAX_CALLS = 60, 50, 1000
MAX_WITHOUT = 1000
# Runs of each test: a difference between two configurations needs several, a set of system calls one.
RUNS, RUNS_COMPARED = 1, 3
# Beside the host's own Falco, or instead of it.
MODES = ("beside", "instead")
# Two snapshots and more fit into a test whose metrics interval is at most this share of it.
MOST_INTERVAL = 0.5

OPTIONS = {
    "seconds": policies.Option(60, policies._integer(5, 3600)),
    "mode": policies.Option("beside", policies._choice(*MODES)),
    "accepted_drops_percent": policies.Option(1.0, policies._number(0, 100)),
    "metrics_interval": policies.Option("1s", policies._interval),
    "max_load_per_cpu": policies.Option(8.0, policies._number(0.1, 1000)),
    "min_available_percent": policies.Option(5.0, policies._number(0, 99)),
    "max_more_drops_percent": policies.Option(5.0, policies._number(0, 100)),
    "repeats": policies.Option(0, policies._integer(0, 20)),
}
LIMITS = ("max_load_per_cpu", "min_available_percent", "max_more_drops_percent")


class TrialError(ValueError):
    """A wrong option or test: says which, what was found, what was expected and what to do."""


def options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a trial, complete and checked. Raises TrialError."""
    found = {}
    for name, option in OPTIONS.items():
        value = given.get(name, option.default)
        try:
            found[name] = option.check(value)
        except ValueError as error:
            raise TrialError("falco_trial_%s is %r: expected %s" % (name, value, error)) from None
    if policies.duration_ms(found["metrics_interval"]) > found["seconds"] * MOST_INTERVAL * 1000:
        raise TrialError(
            "falco_trial_metrics_interval (%s) is too long for tests of %d s: expected at most half of "
            "that, so that each test has two snapshots or more"
            % (found["metrics_interval"], found["seconds"])
        )
    return found


def complete(given: object) -> list[TrialTest]:
    """The tests with all their keys. Raises TrialError.

    given: guide (or None), plugins, or a list of tests. Where one of them has `without`, the test AS_IT_IS is
    the first.
    """
    if given in (None, "guide"):
        return copy.deepcopy(list(GUIDE))
    if given == "plugins":
        return _plugins()
    if not isinstance(given, (list, tuple)) or not given or len(given) > MAX_TESTS:
        raise TrialError(
            "falco_trial_tests is %s: expected guide, plugins, or a list of 1 to %d tests"
            % (value_text(given), MAX_TESTS)
        )
    found: list[TrialTest] = []
    for number, item in enumerate(given, 1):
        test = _complete(item, "falco_trial_tests, test %d" % number)
        if test["name"] in [other["name"] for other in found]:
            raise TrialError(
                "falco_trial_tests, test %d: there is another test called %s: expected names that differ"
                % (number, test["name"])
            )
        found.append(test)
    return _compared(found)


def _plugins() -> list[TrialTest]:
    """The guide's advice to try without plugins.

    Rules that need a plugin cannot be loaded without it, so what they cost is told apart from what the
    plugins cost.
    """
    rules = _against("without their rules", AS_IT_IS, rules_of_plugins=[EVERY])
    return [_against(AS_IT_IS, None), rules, _against("without plugins", rules["name"], plugins=[EVERY])]


def _against(name: str, against: str | None, **without: list[str]) -> TrialTest:
    kept: Any = {part: without.get(part, []) for part in WITHOUT}
    return {
        "name": name,
        "custom_set": [],
        "repair": False,
        "all": False,
        "without": kept,
        "against": against,
    }


def _compared(found: list[TrialTest]) -> list[TrialTest]:
    """The tests with the one that the others are compared with. Raises TrialError."""
    if all(test["without"] is None for test in found):
        return found
    for test in found:
        if test["without"] is None:
            raise TrialError(
                "falco_trial_tests has tests with without and tests without it (%s): run one trial for rules "
                "and another one for system calls" % test["name"]
            )
    if found[0]["name"] != AS_IT_IS:
        found.insert(0, _against(AS_IT_IS, None))
    names = [test["name"] for test in found]
    if AS_IT_IS in names[1:]:
        raise TrialError("falco_trial_tests: the test %s must be the first, if it is given" % AS_IT_IS)
    for place, test in enumerate(found):
        if place and test["against"] is None:
            test["against"] = AS_IT_IS
        if test["against"] is not None and test["against"] not in names[:place]:
            raise TrialError(
                "falco_trial_tests (%s): against is %s: expected the name of a test before it, or %s"
                % (test["name"], value_text(test["against"]), AS_IT_IS)
            )
    return found


def runs_of(tests: Sequence[TrialTest], chosen: Mapping[str, Any]) -> int:
    """How many times each test runs. chosen: what options() returned."""
    compared = any(test["against"] is not None for test in tests)
    return int(chosen["repeats"]) or (RUNS_COMPARED if compared else RUNS)


def _complete(item: object, where: str) -> TrialTest:
    wanted = "expected {%s}" % ", ".join(KEYS)
    if not isinstance(item, dict):
        raise TrialError("%s is %s: %s" % (where, value_text(item), wanted))
    for key in item:
        if key not in KEYS:
            raise TrialError("%s: %s is not known%s: %s" % (where, value_text(key), hint(key, KEYS), wanted))
    name = _name(item.get("name"), where, "the name")
    where = "%s (%s)" % (where, name)
    against = item.get("against")
    found: TrialTest = {
        "name": name,
        "custom_set": _calls(item.get("custom_set"), where),
        "repair": _switch(item, "repair", where),
        "all": _switch(item, "all", where),
        "without": None if item.get("without") is None else _without(item["without"], where),
        "against": None if against is None else _name(against, where, "against"),
    }
    if found["against"] and found["without"] is None:
        raise TrialError("%s: against is only for tests with without" % where)
    return found


def _name(name: object, where: str, what: str) -> str:
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise TrialError(
            "%s: %s is %s: expected 1 to %d characters that print" % (where, what, value_text(name), MAX_NAME)
        )
    return str(name)


def _without(given: object, where: str) -> TrialWithout:
    """What a test takes away. Raises TrialError."""
    wanted = "expected lists of names in {%s}" % ", ".join(WITHOUT)
    if not isinstance(given, dict):
        raise TrialError("%s: without is %s: %s" % (where, value_text(given), wanted))
    for key in given:
        if key not in WITHOUT:
            raise TrialError("%s: without.%s is not known%s: %s" % (where, key, hint(key, WITHOUT), wanted))
    found: Any = {}
    for part in WITHOUT:
        names = [EVERY] if given.get(part) == "all" and "plugins" in part else given.get(part)
        names = [] if names is None else names
        if (
            not isinstance(names, (list, tuple))
            or len(names) > MAX_WITHOUT
            or not all(isinstance(name, str) and name.strip() for name in names)
        ):
            raise TrialError(
                "%s: without.%s is %s: expected a list of names" % (where, part, value_text(names))
            )
        found[part] = [str(name) for name in names]
    return found  # type: ignore[no-any-return]


def _calls(calls: object, where: str) -> list[str]:
    calls = [] if calls is None else calls
    if (
        not isinstance(calls, (list, tuple))
        or len(calls) > MAX_CALLS
        or not all(isinstance(call, str) and call.strip() for call in calls)
    ):
        raise TrialError(
            "%s: custom_set is %s: expected a list of names of system calls" % (where, value_text(calls))
        )
    return [str(call).strip() for call in calls]


def _switch(item: Mapping[str, Any], key: str, where: str) -> bool:
    value = item.get(key, False)
    try:
        return bool(policies._bool(value))
    except ValueError as error:
        raise TrialError("%s: %s is %s: expected %s" % (where, key, value_text(value), error)) from None


def predicted(tests: Sequence[TrialTest], release: Release) -> list[dict[str, Any]]:
    """What selections.select() returns for each test. Raises TrialError for a test with a mistake in it.

    Of a test with the host's own rules, 'selected' is None: Falco's own dry run tells.
    """
    found: list[dict[str, Any]] = []
    wrong: list[str] = []
    for test in tests:
        if test["without"] is not None:
            found.append({"selected": None})
            continue
        selection = selections.select(release, RULE_CALLS, test["custom_set"], test["repair"], test["all"])
        found.append(selection)
        wrong.extend("%s: %s" % (test["name"], text) for text in _mistakes(test, selection, release))
    if wrong:
        raise TrialError(
            "falco_trial_tests, for Falco %s: %s. Nothing was changed." % (release, "; ".join(wrong))
        )
    return found


def _mistakes(test: TrialTest, selection: Mapping[str, Any], release: Release) -> list[str]:
    names = [selections.nearest(call, release)["text"] for call in test["custom_set"]]
    found = [text for text in names if text]
    nothing = not found and not set(selection["selected"]) - ANYWAY
    if test["all"] and not release.has("base_syscalls.all"):
        found.append("Falco %s does not know base_syscalls.all (since 0.40)" % release)
    if nothing:
        ignored = ", ".join(selection["ignored"])
        found.append(
            "it selects nothing but %s, which Falco selects anyway%s"
            % (
                ", ".join(sorted(set(selection["selected"]))),
                " (%s: not selected without all: true)" % ignored if ignored else "",
            )
        )
    return found
