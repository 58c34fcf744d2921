# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Falco's thread spends on one check of a condition: the only table of these numbers. Pure data.

Nanoseconds of CPU time an event, measured by tests/calibration on a Falco 0.44.1 (libs 0.25.4, modern eBPF,
container plugin 0.7.1) with Linux 6.18 on two CPUs of a virtual machine (AMD EPYC): it loads Falco with 20
rules of one check that never matches, makes a known number of opens, and divides the difference of Falco's
CPU time. Each number is the mean of two runs; kinds of fields whose runs differ by no more than their noise
(50 ns) share one number, and operators keep the order of Falco's documentation there. Not measured, and put
beside what is alike: fields of sockets, fd.*, thread.*, containers, transformers, and operators on bytes.

Times differ between machines, and regular expressions, paths, command lines and ancestors cost more the
longer they are. The order and the ratios are what the auditor needs.
"""

from __future__ import annotations

import re
from typing import NamedTuple

SOURCE = "costs of checks were measured on a Falco 0.44.1"

# Of every event that Falco reads, before any rule: read from the ring, parsed, its process looked up.
EVENT_NS = 450.0
# Of every rule that an event reaches: the call of its filter and the check of evt.type.
RULE_NS = 90.0
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
    _field(r"evt\.(is_open_\w+|rawres|res|failed|rawarg|rawarg\..*)", 20, True),
    _field(r"evt\.arg\..*", 225),
    _field(r"evt\.(arg|args|info|abspath)", 810),
    _field(r"fd\.(num|type|typechar|sockfamily|l4proto|is_server|is_upper_layer)", 20, True),
    _field(r"fd\.(name|directory|filename)", 100),
    _field(r"fd\.[cslr]?(ip|port|net|proto)", 90, True),
    _field(r"fd\.[cslr]ip\.name", 2000),
    _field(r"fd\..*", 120),
    _field(r"fs\.path\..*", 405),
    _field(r"proc\.(name|exe|exepath|pid|tty|vpid|sid|is_exe_\w+|duration)", 25, True),
    _field(r"proc\.(pname|ppid|pexe|pexepath|pvpid|ppid\..*)", 50),
    _field(r"proc\.(aname|aexe|aexepath|acmdline|apid)", 165),
    _field(r"proc\.env", 580),
    _field(r"proc\.(cmdline|args|exeline|pcmdline|cmdnargs|cmdlenargs)", 25),
    _field(r"proc\..*", 35),
    _field(r"(user|group)\..*", 90),
    _field(r"thread\.cap_.*", 595),
    _field(r"thread\..*", 80),
    _field(r"container\.id", 405, True),
    _field(r"(container|k8s)\..*", 450),
)
# Fields of a source other than system calls, or of a plugin that is not known.
UNKNOWN_FIELD = _field(r".*", 300)
# fd.name of a socket is put together of addresses and ports.
SOCKET_NAME_NS = 900.0

# A comparison of a field that is read already, by operator.
OPERATORS = {
    "exists": 20.0,
    "=": 20.0,
    "==": 20.0,
    "!=": 20.0,
    "<": 20.0,
    "<=": 20.0,
    ">": 20.0,
    ">=": 20.0,
    "in": 30.0,
    "startswith": 20.0,
    "bstartswith": 20.0,
    "endswith": 20.0,
    "intersects": 30.0,
    "pmatch": 90.0,
    "contains": 35.0,
    "bcontains": 35.0,
    "icontains": 40.0,
    "glob": 85.0,
    "iglob": 90.0,
    "regex": 140.0,
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
