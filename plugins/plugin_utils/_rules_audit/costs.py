# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Falco's thread spends on one check of a condition: the only table of these numbers. Pure data.

Nanoseconds of CPU time an event, by what libs 0.25.4 do for a field and an operator. tests/calibration
measures them: it loads Falco with N rules of one check that never matches, makes a known number of opens, and
divides the difference of Falco's CPU time by N. Times differ between machines; the order and the ratios are
what the auditor needs.
"""

from __future__ import annotations

import re
from typing import NamedTuple

SOURCE = "costs of checks are estimated from Falco's source"

# Of every event that Falco reads, before any rule: read from the ring, parsed, its process looked up.
EVENT_NS = 2000.0
# Of every rule that an event reaches: the call of its filter and the check of evt.type.
RULE_NS = 110.0
# Of a comparison that this rule has made for this event already.
CACHED_NS = 20.0
# Of each transformer: the value is copied.
TRANSFORMER_NS = 150.0


class Field(NamedTuple):
    """What reading a field takes.

    ns: the first time in a rule. cheap: the auditor may advise to put a check of it first.
    """

    pattern: re.Pattern[str]
    ns: float
    cheap: bool = False


def _field(pattern: str, ns: float, cheap: bool = False) -> Field:
    return Field(re.compile(pattern), ns, cheap)


# The first pattern that fits the whole name counts.
FIELDS = (
    _field(r"evt\.(type|num|dir|cpu|is_async|category|source)|syscall\.type", 0, True),
    _field(r"evt\.(is_open_\w+|rawres|res|failed|rawarg|rawarg\..*)", 25, True),
    _field(r"evt\.arg\..*", 265),
    _field(r"evt\.(arg|args|info|abspath)", 850),
    _field(r"fd\.(num|type|typechar|sockfamily|l4proto|is_server|is_upper_layer)", 45, True),
    _field(r"fd\.(name|directory|filename)", 95),
    _field(r"fd\.[cslr]?(ip|port|net|proto)", 90, True),
    _field(r"fd\.[cslr]ip\.name", 2000),
    _field(r"fd\..*", 120),
    _field(r"fs\.path\..*", 465),
    _field(r"proc\.(name|exe|exepath|pid|tty|vpid|sid|is_exe_\w+|duration)", 32, True),
    _field(r"proc\.(pname|ppid|pexe|pexepath|pvpid|ppid\..*)", 32),
    _field(r"proc\.(aname|aexe|aexepath|acmdline|apid)", 95),
    _field(r"proc\.env", 590),
    _field(r"proc\.(cmdline|args|exeline|pcmdline|cmdnargs|cmdlenargs)", 35),
    _field(r"proc\..*", 32),
    _field(r"(user|group)\..*", 45),
    _field(r"thread\.cap_.*", 380),
    _field(r"thread\..*", 80),
    _field(r"container\.id", 320, True),
    _field(r"(container|k8s)\..*", 300),
)
# Fields of a source other than system calls, or of a plugin that is not known.
UNKNOWN_FIELD = _field(r".*", 300)
# fd.name of a socket is put together of addresses and ports.
SOCKET_NAME_NS = 900.0

# A comparison of a field that is read already, by operator.
OPERATORS = {
    "exists": 40.0,
    "=": 40.0,
    "==": 40.0,
    "!=": 40.0,
    "<": 20.0,
    "<=": 20.0,
    ">": 20.0,
    ">=": 20.0,
    "in": 45.0,
    "startswith": 25.0,
    "bstartswith": 25.0,
    "endswith": 35.0,
    "intersects": 50.0,
    "pmatch": 350.0,
    "contains": 50.0,
    "bcontains": 50.0,
    "icontains": 170.0,
    "glob": 160.0,
    "iglob": 200.0,
    "regex": 410.0,
}
# These look at every character of a value.
EXPENSIVE = frozenset(["contains", "icontains", "bcontains", "glob", "iglob", "regex"])
# One comparison for each of the values.
PER_VALUE = frozenset(["oneof", "anyof", "allof"])


def field(name: str) -> Field:
    """What is known of a field, by its name without an argument."""
    return next((item for item in FIELDS if item.pattern.fullmatch(name)), UNKNOWN_FIELD)


def operator_ns(operator: str, values: int) -> float:
    """The nanoseconds of a comparison by an operator, such as `in` or `= oneof`."""
    first, _blank, modifier = operator.partition(" ")
    one = OPERATORS.get(first, OPERATORS["regex"])
    return one * max(values, 1) if modifier in PER_VALUE else one
