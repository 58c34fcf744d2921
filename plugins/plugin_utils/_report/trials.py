# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trials of sets of system calls in a report: what is said of them all, a matrix for a terminal, rows for a table. Pure.

hosts: those of the report model; what is no trial is left out.
"""

from __future__ import annotations

from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import (
    columns,
    either,
    fitted,
    number_text,
    several,
    some,
    wrapped,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._trial import outcomes

# Of a matrix in a terminal.
MOST_HOSTS = 20
MOST_TESTS = 8
# Worst first, and what is said of one host and of more.
ORDER = ("failed", "aborted", "too_busy", "none", "largest")
SAID = {
    "largest": ("has a set that it can watch", "have a set that they can watch"),
    "none": ("has none", "have none"),
    "too_busy": ("is too busy even for the smallest", "are too busy even for the smallest"),
    "aborted": ("was aborted", "were aborted"),
    "failed": ("failed", "failed"),
}


def tried(hosts):
    """The hosts that were tried, worst first."""
    return sorted(
        (host for host in hosts if host["trial"]),
        key=lambda host: (ORDER.index(host["trial"]["verdict"]), host["name"]),
    )


def tests_of(hosts):
    """The names of all tests, in the order in which they come up."""
    return list(dict.fromkeys(test["name"] for host in hosts for test in host["trial"]["tests"]))


def headline(hosts):
    """5 hosts were tried: 3 have a set that they can watch; 2 are too busy even for the smallest."""
    found = [host["trial"]["verdict"] for host in tried(hosts)]
    if not found:
        return "No host was tried."
    told = [(verdict, found.count(verdict)) for verdict in reversed(ORDER) if verdict in found]
    return "%s %s tried: %s." % (
        several(len(found), "host"),
        "was" if len(found) == 1 else "were",
        "; ".join("%d %s" % (number, SAID[verdict][number != 1]) for verdict, number in told),
    )


def rows(hosts):
    """[(host, trial, test)], a row a test; (host, trial, None) of a trial without any."""
    return [
        (host, host["trial"], test)
        for host in sorted(tried(hosts), key=lambda host: host["name"])
        for test in host["trial"]["tests"] or [None]
    ]


def _cell(test):
    if test is None:
        return "-"
    if test["state"] in outcomes.MEASURED:
        return "?" if test["drops_percent"] is None else number_text(test["drops_percent"])
    return test["state"]


def terminal_lines(hosts, width):
    """A matrix of what each host lost with each set, and what the sets cost in rules."""
    chosen = tried(hosts)
    if not chosen:
        return []
    names = tests_of(chosen)
    table = [["host", "verdict", "largest", *(fitted(name, 12) for name in names[:MOST_TESTS]), ""]]
    for host in chosen[:MOST_HOSTS]:
        found = {test["name"]: test for test in host["trial"]["tests"]}
        table.append(
            [
                host["name"],
                host["trial"]["verdict"],
                fitted(host["trial"]["largest"] or "-", 12),
                *(_cell(found.get(name)) for name in names[:MOST_TESTS]),
                "",
            ]
        )
    title = "Events lost with each set, %"
    if len(chosen) > MOST_HOSTS:
        title += " (%d of %d hosts)" % (MOST_HOSTS, len(chosen))
    lines = ["", title + ":"] + columns(table, width)
    if len(names) > MOST_TESTS:
        lines += wrapped("%d more sets: %s" % (len(names) - MOST_TESTS, some(names[MOST_TESTS:])), width, "")
    lines.append("")
    for name in names[:MOST_TESTS]:
        lines += wrapped(_set_line(name, chosen), width, "")
    for host in chosen[:MOST_HOSTS]:
        if host["trial"]["verdict"] != "largest" and host["trial"]["reason"]:
            lines += wrapped("%s: %s" % (host["name"], host["trial"]["reason"]), width, "")
    return lines


def _set_line(name, hosts):
    """T3: kept on 3 of 5 hosts; at most 62 system calls; at most 2 rules blind, 1 half blind."""
    found = [test for host in hosts for test in host["trial"]["tests"] if test["name"] == name]
    kept = sum(test["state"] in outcomes.PASSED for test in found)
    ran = sum(test["state"] in outcomes.MEASURED for test in found)
    return "%s: kept on %d of %s where it ran; up to %s; up to %s blind, %d half blind" % (
        fitted(name, 40),
        kept,
        several(ran, "host"),
        several(max(len(test["selected"]) for test in found), "system call"),
        several(max(len(test["rules_blind"]) for test in found), "rule"),
        max(len(test["rules_half_blind"]) for test in found),
    )
