# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trials of sets of system calls: what a user may ask for. Pure.

Falco's guide (falco.org, troubleshooting/dropping) tries a dummy rule that never alerts, with a small set of
system calls first and then with larger ones. The largest set that loses no events is what Falco can watch on
this host. A host that loses events with the smallest set and tuned buffers is too busy for Falco.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import TrialTest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import selections
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.releases import Release
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import hint, value_text
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies

PROCESSES = ("clone", "clone3", "fork", "vfork", "execve", "execveat")
SERVERS = ("getsockopt", "socket", "bind", "accept", "accept4", "close")
CLIENTS = ("getsockopt", "socket", "connect", "close")
FILES = ("open", "openat", "openat2", "close")


def _guide(name: str, *calls: str, repair: bool = False) -> TrialTest:
    return {"name": name, "custom_set": list(calls), "repair": repair, "all": False}


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
KEYS = ("name", "custom_set", "repair", "all")
MAX_NAME, MAX_TESTS, MAX_CALLS = 60, 50, 1000
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
    """The tests with all their keys. given: 'guide' (or None), or a list of tests. Raises TrialError."""
    if given in (None, "guide"):
        return copy.deepcopy(list(GUIDE))
    if not isinstance(given, (list, tuple)) or not given or len(given) > MAX_TESTS:
        raise TrialError(
            "falco_trial_tests is %s: expected guide, or a list of 1 to %d tests"
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
    return found


def _complete(item: object, where: str) -> TrialTest:
    wanted = "expected {name, custom_set, repair, all}"
    if not isinstance(item, dict):
        raise TrialError("%s is %s: %s" % (where, value_text(item), wanted))
    for key in item:
        if key not in KEYS:
            raise TrialError("%s: %s is not known%s: %s" % (where, value_text(key), hint(key, KEYS), wanted))
    name = item.get("name")
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise TrialError(
            "%s: the name is %s: expected 1 to %d characters that print" % (where, value_text(name), MAX_NAME)
        )
    where = "%s (%s)" % (where, name)
    return {
        "name": str(name),
        "custom_set": _calls(item.get("custom_set"), where),
        "repair": _switch(item, "repair", where),
        "all": _switch(item, "all", where),
    }


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
    """What selections.select() returns for each test. Raises TrialError for a test with a mistake in it."""
    found: list[dict[str, Any]] = []
    wrong: list[str] = []
    for test in tests:
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
