# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Falco writes about itself in a line → a snapshot, or the counts of a drop alert.

Stdlib only, Python 3.6+. A *snapshot* is a flat dict of Falco's field names, as 0.44 prints them in JSON, to
numbers and texts. Every form is brought to these names: a line of metrics.output_file, and the rule "Falco
internal: metrics snapshot" as JSON or text, with or without a syslog prefix. Only the syscall event source
counts.

Falco wrote these lines, but others can write to the same logs. An alert quotes whatever a process calls
itself, so a snapshot is taken only from where Falco itself puts it in a line. syslog files remain open to
everyone on the host.
"""

import calendar
import json
import re
import time

SNAPSHOT_RULE = "Falco internal: metrics snapshot"
DROP_RULE = "Falco internal: syscall event drop"
NEEDLE = b"n_evts"  # in every snapshot and every drop alert, and in little else
LIMIT = 1 << 64
MAX_TEXT = 256

# Names in the alert and in /metrics carry no prefix, or another one. Kernel-side ones are scap., the others
# falco.
_KERNEL = re.compile(
    r"^(?:n_evts|n_drops|evts_rate_sec|evts_drop_rate_sec|engine_name|n_preemptions)(?:_|$)"
    r"|\.(?:run_cnt|run_time_ns|avg_time_ns)$"
)
_USERSPACE = ("n_drops_full_threadtable",)
# How a Falco without json_output begins its own lines: time with nanoseconds, ISO 8601 on request, and the
# priority.
_HEADER = re.compile(r"(?:\d{4}-\d\d-\d\dT)?\d\d:\d\d:\d\d\.\d{9}(?:Z|[+-]\d{4})?: [A-Z][a-z]+ ")
_PAIR = re.compile(r'(?<=[ (])([A-Za-z0-9_.:-]{1,160})=("(?:[^"\\]|\\.)*"|[^\s"()]+)(?=[ )])')


def _number(text):
    """JSON's integers; None for longer ones than any counter, which cost quadratic time on old Pythons."""
    return int(text) if len(text) <= 24 else None


_DECODER = json.JSONDecoder(parse_int=_number, parse_constant=lambda name: None)


def _clean(fields):
    """Only finite numbers and short texts."""
    found = {}
    for name, value in fields.items():
        if isinstance(value, bool):
            continue
        if (
            isinstance(value, float)
            and abs(value) < LIMIT
            or isinstance(value, int)
            and -LIMIT < value < LIMIT
        ):
            found[name] = value
        elif isinstance(value, str) and len(value) <= MAX_TEXT:
            found[name] = value
    return found


def prefixed(name):
    """'n_evts' → 'scap.n_evts', 'n_threads' → 'falco.n_threads'; a name with its prefix stays."""
    if name.startswith(("falco.", "scap.", "evt.", "plugins.")):
        return name
    return ("scap." if _KERNEL.search(name) and name not in _USERSPACE else "falco.") + name


def snapshot(fields, sample=None):
    """A clean snapshot of the syscall source, or None."""
    found = {prefixed(name): value for name, value in _clean(fields).items() if name != "sample"}
    if found.get("evt.source", "syscall") != "syscall":
        return None
    if (
        not counter(found.get("scap.n_evts"))
        or not counter(found.get("scap.n_drops", 0))
        or not counter(found.get("evt.time"))
    ):
        return None
    if counter(sample):
        found["sample"] = sample
    return found


def counter(value):
    """Whether this can be one of Falco's counters, unsigned and of 64 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LIMIT


def _text(line):
    return line.decode("utf-8", "replace") if isinstance(line, bytes) else line


def _json_object(line):
    """The object of a JSON line, with or without a syslog prefix or somebody's # comment behind it, or None.

    A text alert that quotes JSON begins with Falco's own time and priority before the brace.
    """
    text = _text(line)
    brace = text.find("{")
    if brace < 0 or brace > 512 or _HEADER.search(text, 0, brace):
        return None
    try:
        value, end = _DECODER.raw_decode(text, brace)
    except (ValueError, RecursionError):
        return None
    behind = text[end:].strip()
    return value if not behind or behind.startswith("#") else None


def from_json_line(line):
    """One snapshot of metrics.output_file ({"sample", "output_fields"}) or of the rule as a JSON alert, or
    None.
    """
    value = _json_object(line)
    if value is None or not isinstance(value.get("output_fields"), dict):
        return None
    if value.get("rule") != SNAPSHOT_RULE and ("rule" in value or "sample" not in value):
        return None
    return snapshot(value["output_fields"], value.get("sample"))


def lacks_counters(line, since=None):
    """Whether this is a snapshot of the syscall source without the kernel's counters. since: as for
    snapshots.two_snapshots(): older lines belong to another process.
    """
    value = _json_object(line)
    if value is None or not isinstance(value.get("output_fields"), dict):
        return False
    if value.get("rule") != SNAPSHOT_RULE and ("rule" in value or "sample" not in value):
        return False
    fields = {prefixed(name): number for name, number in value["output_fields"].items()}
    at = fields.get("evt.time")
    if fields.get("evt.source") != "syscall" or "scap.n_evts" in fields or not counter(at):
        return False
    return since is None or at >= (since - 2) * 1e9


def written_as(line):
    """'metrics_file' or 'alerts_file': where Falco writes lines of this form; None where it writes none like
    it.
    """
    value = _json_object(line)
    if value is None:
        return "alerts_file" if _HEADER.match(_text(line)) else None
    if not isinstance(value.get("output_fields"), dict):
        return None
    return "alerts_file" if "rule" in value else "metrics_file" if "sample" in value else None


def _pairs(text):
    """The k=v and k="JSON string" of one alert's brackets; {} unless they are closed: a cut number is a wrong
    one.
    """
    text = text.rstrip("\r\n")
    if not text.endswith(")"):
        return {}
    found = {}
    for name, value in _PAIR.findall(text):
        if value.startswith('"'):
            try:
                found[name] = json.loads(value)
            except ValueError:
                continue
        elif re.match(r"^-?\d{1,24}$", value):
            found[name] = int(value)
        else:
            try:
                found[name] = float(value)
            except ValueError:
                found[name] = value
    return found


def _message(line, beginning):
    """What follows Falco's own header in a line of text output where it begins so, else None."""
    text = _text(line)
    header = _HEADER.search(text, 0, 1024)
    if not header or not text.startswith(beginning, header.end()):
        return None
    return text[header.start() :]


def from_text_line(line):
    """One snapshot of the rule in text form, with or without a syslog prefix, or None."""
    text = _message(line, "Falco metrics snapshot (")
    return snapshot(_pairs(text)) if text else None


def _when(text):
    """Unix time of Falco's ISO times in UTC, or None."""
    match = re.match(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(?:Z|\+0000)", text or "")
    try:
        return float(calendar.timegm(time.strptime(match.group(1), "%Y-%m-%dT%H:%M:%S"))) if match else None
    except (ValueError, OverflowError):
        return None


def drop_alert(line):
    """{'time' or None, 'fields': {'n_evts', 'n_drops', 'n_drops_…'}} of a drop alert: counts of about one
    second. Or None.
    """
    value = _json_object(line)
    if value is not None:
        if value.get("rule") != DROP_RULE or not isinstance(value.get("output_fields"), dict):
            return None
        fields, at = value["output_fields"], value.get("time")
    else:
        at = _message(line, DROP_RULE)
        fields = _pairs(at) if at else {}
    found = {}
    for name, number in fields.items():
        if name in ("n_evts", "n_drops") or name.startswith("n_drops_"):
            if isinstance(number, str) and re.match(r"^\d{1,20}$", number):
                number = int(number)
            if counter(number):
                found[name] = number
    if "n_evts" not in found or not 0 < found.get("n_drops", 0) <= found["n_evts"]:
        return None
    return {"time": _when(at) if isinstance(at, str) else None, "fields": found}
