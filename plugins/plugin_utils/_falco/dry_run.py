# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The debug output of `falco --dry-run` (0.35 to 0.44.1) read into the shape of syscalls.select(), and that
shape as such output.

Pure, and safe with any text: what cannot be read gives a reason.
"""

from __future__ import annotations

import re
from typing import Any

# Falco's own prefix of a log line, in both forms (time_format_iso_8601), behind what a journal or syslog may
# put before it.
PREFIX = re.compile(
    r"^(?:\S.{0,120}? falco(?:\[\d{1,10}\])?: )?"
    r"(?:[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}"
    r"|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[+-]\d\d:?\d\d|Z)): "
)
COUNTED = re.compile(r"^([+-]?)\((\d{1,6})\) (.+?): (.*)$")
RULES_TOTAL = re.compile(r"^\((\d{1,6})\) enabled rules in total$")
VERSION = re.compile(r"^Falco version: v?(\S+)")
# (key, sign, words), in the order in which Falco prints.
LINES = (
    ("rules", "", "syscalls in rules"),
    ("plugins", "", "syscalls required by plugins"),
    ("added", "+", "syscalls added (base_syscalls override)"),
    ("removed", "-", "syscalls removed (base_syscalls override)"),
    ("state", "+", "syscalls (Falco's state engine set of syscalls)"),
    ("ignored", "-", "ignored syscalls (-> activate via `-A` flag)"),
    ("repaired", "+", "repaired syscalls"),
    ("selected", "", "syscalls selected in total (final set)"),
)
WORDS = {(sign, words): key for key, sign, words in LINES}
INVALID = {
    "Invalid (positive) syscall names: warning (base_syscalls override): ": "invalid_positive",
    "Invalid (negative) syscall names: warning (base_syscalls override): ": "invalid_negative",
}
UNSUPPORTED = "or unsupported with current configuration: warning (unsupported-evttype): "
KEYS = tuple(key for key, _sign, _words in LINES) + ("invalid_positive", "invalid_negative", "unsupported")


def parse(text: str) -> dict[str, Any]:
    """What one dry run with log_level debug selected.

    text: what Falco wrote to stderr.
    → {the lists of syscalls.select() but 'kernel', 'version': '0.44.1' or None,
       'enabled_rules': [names] or None (printed since 0.37), 'errors': [what stopped Falco], 'reason': None,
       or why this is no whole answer; then the lists hold what could be read}
    """
    result: dict[str, Any] = {key: [] for key in KEYS}
    result.update(version=None, enabled_rules=None, errors=[], reason=None)
    seen: set[str] = set()
    broken: list[str] = []
    listing = True
    for line in str(text or "").replace("\r\n", "\n").split("\n"):
        match = PREFIX.match(line)
        if not match:
            _bare(line, result)
            continue
        rest = line[match.end() :]
        if result["enabled_rules"] is None:
            if rest == "Enabled rules:":
                result["enabled_rules"] = []
            else:
                _logged(rest, result, seen, broken)
            continue
        # From here on names of rules are printed, which may look like anything.
        total = RULES_TOTAL.match(rest)
        if total:
            if listing and int(total[1]) != len(result["enabled_rules"]):
                broken.append(
                    "%s enabled rules are announced, %d are listed" % (total[1], len(result["enabled_rules"]))
                )
            listing = False
        elif listing and rest.startswith("   "):
            result["enabled_rules"].append(rest[3:])
    result["reason"] = _reason(result, seen, broken)
    return result


def lines(result: dict[str, Any]) -> list[str]:
    """The log lines of a selection as Falco prints them, without prefix, in order; the hint after
    'unsupported' is left out."""
    printed = []
    for key, sign, words in LINES:
        names = result.get(key) or []
        if names or key == "selected":
            printed.append("%s(%d) %s: %s" % (sign, len(names), words, ", ".join(sorted(names))))
        for start, invalid in INVALID.items():
            if key == {"invalid_positive": "added", "invalid_negative": "removed"}[invalid] and result.get(
                invalid
            ):
                printed.append(start + ", ".join(sorted(result[invalid])))
    return printed


def _logged(rest: str, result: dict[str, Any], seen: set[str], broken: list[str]) -> None:
    match = COUNTED.match(rest)
    if match:
        key = WORDS.get((match[1], match[3]))
        if key:
            names = _names(match[4])
            if len(names) != int(match[2]):
                broken.append("'%s' announces %s names and holds %d" % (match[3], match[2], len(names)))
            result[key] = names
            seen.add(key)
        return
    for start, key in INVALID.items():
        if rest.startswith(start):
            result[key] = _names(rest[len(start) :])
            return
    match = VERSION.match(rest)
    if match and not result["version"]:
        result["version"] = match[1]


def _bare(line: str, result: dict[str, Any]) -> None:
    """A line without Falco's prefix: written to stderr directly."""
    if line.startswith("Error: "):
        result["errors"].append(line[7:].strip())
    elif result["enabled_rules"] is None and line.startswith("Loaded rules match ") and UNSUPPORTED in line:
        result["unsupported"] = _names(line.partition(UNSUPPORTED)[2])


def _names(text: str) -> list[str]:
    return sorted({name.strip() for name in text.split(", ") if name.strip()})


def _reason(result: dict[str, Any], seen: set[str], broken: list[str]) -> str | None:
    if result["errors"]:
        return "Falco did not get through its dry run: %s" % result["errors"][0]
    if broken:
        return "the output is damaged: %s" % "; ".join(broken)
    if "selected" not in seen:
        if result["version"]:
            return (
                "Falco %s printed no final set of system calls: log_level must be debug and log_stderr true; "
                "releases before 0.35 print none" % result["version"]
            )
        return "this is no output of a dry run of Falco with log_level debug"
    return None
