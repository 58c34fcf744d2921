# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trials in a report: head line, a matrix for a terminal, rows for a table. Pure.

hosts: those of the report model; hosts without a trial are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import (
    columns,
    either,
    fitted,
    number_text,
    several,
    some,
    wrapped,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._trial import comparisons, outcomes

# Of a matrix in a terminal.
MOST_HOSTS = 20
MOST_TESTS = 8
# Verdicts, worst first, and what is said of one host and of more.
ORDER = ("failed", "aborted", "too_busy", "none", "compared", "largest")
SAID = {
    "largest": ("has a set that loses no more than accepted", "have a set that loses no more than accepted"),
    "compared": ("compares rules and plugins", "compare rules and plugins"),
    "none": ("has none", "have none"),
    "too_busy": ("is too busy even for the smallest set", "are too busy even for the smallest set"),
    "aborted": ("was aborted", "were aborted"),
    "failed": ("failed", "failed"),
}

Host = dict[str, Any]


def tried(hosts: Iterable[Host]) -> list[Host]:
    """The hosts with a trial, worst first."""
    return sorted(
        (host for host in hosts if host["trial"]),
        key=lambda host: (ORDER.index(host["trial"]["verdict"]), host["name"]),
    )


def tests_of(hosts: Iterable[Host]) -> list[str]:
    """The names of all tests, in the order in which they come up."""
    return list(dict.fromkeys(test["name"] for host in hosts for test in host["trial"]["tests"]))


def headline(hosts: Iterable[Host]) -> str:
    """5 hosts were tried: 3 have a set that loses no more than accepted; 2 failed."""
    found = [host["trial"]["verdict"] for host in tried(hosts)]
    if not found:
        return "No host was tried."
    counted = [(verdict, found.count(verdict)) for verdict in reversed(ORDER) if verdict in found]
    return "%s %s tried: %s." % (
        several(len(found), "host"),
        either(len(found), "was", "were"),
        "; ".join("%d %s" % (number, either(number, *SAID[verdict])) for verdict, number in counted),
    )


def rows(hosts: Iterable[Host]) -> list[tuple[Host, dict[str, Any], dict[str, Any] | None]]:
    """[(host, trial, test)], a row a test; (host, trial, None) of a trial without tests."""
    return [
        (host, host["trial"], test)
        for host in sorted(tried(hosts), key=lambda host: str(host["name"]))
        for test in host["trial"]["tests"] or [None]
    ]


def terminal_lines(hosts: Iterable[Host], width: int) -> list[str]:
    """A matrix of what each host lost with each set, and what the sets cost in rules."""
    chosen = tried(hosts)
    if not chosen:
        return []
    names = tests_of(chosen)
    shown, more = names[:MOST_TESTS], names[MOST_TESTS:]
    lines = ["", *_matrix(chosen, shown, width)]
    if more:
        lines += wrapped("%d more sets: %s" % (len(more), some(more)), width, "")
    lines.append("")
    for name in shown:
        found = [test for host in chosen for test in host["trial"]["tests"] if test["name"] == name]
        line = _set_line if any(test["without"] is None for test in found) else _rules_line
        lines += wrapped(line(name, found), width, "")
    for host in chosen[:MOST_HOSTS]:
        if host["trial"]["verdict"] == "compared":
            for told in filter(None, map(comparisons.text, host["trial"]["tests"])):
                lines += wrapped("%s: %s" % (host["name"], told), width, "")
        elif host["trial"]["verdict"] != "largest" and host["trial"]["reason"]:
            lines += wrapped("%s: %s" % (host["name"], host["trial"]["reason"]), width, "")
    return lines


def _matrix(hosts: Sequence[Host], names: Sequence[str], width: int) -> list[str]:
    table = [["host", "verdict", "largest", *(fitted(name, 12) for name in names), ""]]
    for host in hosts[:MOST_HOSTS]:
        trial = host["trial"]
        found = {test["name"]: test for test in trial["tests"]}
        cells = [_cell(found.get(name)) for name in names]
        table.append([host["name"], trial["verdict"], fitted(trial["largest"] or "-", 12), *cells, ""])
    title = "Events lost with each set, %"
    if len(hosts) > MOST_HOSTS:
        title += " (%d of %d hosts)" % (MOST_HOSTS, len(hosts))
    return [title + ":", *columns(table, width)]


def _cell(test: dict[str, Any] | None) -> str:
    if test is None:
        return "-"
    if test["state"] in outcomes.MEASURED:
        return number_text(test["drops_percent"], "?")
    return str(test["state"])


def _set_line(name: str, found: Sequence[dict[str, Any]]) -> str:
    """T3: passed on 3 of 5 hosts that ran it; up to 62 system calls; up to 2 rules blind, 1 half blind."""
    passed = sum(test["state"] in outcomes.PASSED for test in found)
    ran = sum(test["state"] in outcomes.MEASURED for test in found)
    return "%s: passed on %d of %s that ran it; up to %s; up to %s blind, %d half blind" % (
        fitted(name, 40),
        passed,
        several(ran, "host"),
        several(max(len(test["selected"]) for test in found), "system call"),
        several(max(len(test["rules_blind"]) for test in found), "rule"),
        max(len(test["rules_half_blind"]) for test in found),
    )


def _rules_line(name: str, found: Sequence[dict[str, Any]]) -> str:
    """without plugins: 3 of 5 hosts ran it; CPU for each million events changes by -24 % to -18 %."""
    ran = sum(test["state"] in outcomes.MEASURED for test in found)
    line = "%s: %d of %s ran it" % (fitted(name, 40), ran, several(len(found), "host"))
    shares = sorted(
        test["difference"]["cpu_per_million"]["percent"]
        for test in found
        if test["difference"]
        and test["difference"]["cpu_per_million"]
        and test["difference"]["cpu_per_million"]["percent"] is not None
    )
    if shares:
        line += "; CPU for each million events changes by %s %% to %s %%" % (
            number_text(shares[0]),
            number_text(shares[-1]),
        )
    return line
