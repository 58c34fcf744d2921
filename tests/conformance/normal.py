# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Falco's output, less what differs from one machine or run to the next."""

import re

STAMP = re.compile(r"^(?:\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}|\d{4}-\d\d-\d\dT[\d:]+\+0000): ")
_VOLATILE = ("CLI args: ", "System info: ", "Falco version: ", "Loaded plugin ", "[libs]: ", "Skipping starting webserver")
_RULE_TALK = re.compile(
    r"LOAD_|^Error: |^\d+ (Schema warnings|Warnings|Errors):|schema validation|^Loaded rules match|^The chosen|: (Ok|Invalid)|Validating")

# Cases whose output quotes rules: only the findings are compared, not the quotation.
RULE_CASES = ("rules_bad_field", "rules_bad_yaml", "rules_warnings", "validate_bad", "validate_bad_yaml", "validate_warn")


def unstamped(text):
    return [STAMP.sub("", line) for line in text.splitlines()]


def lines(text, rule_talk=False, rules=True):
    """Lines of stderr that a second run must repeat. The order of enabled rules is that of a hash table."""
    out, block = [], None
    for line in unstamped(text):
        if block is not None:
            if line.startswith("   ") and "|" not in line:
                block.append(line)
                continue
            out += sorted(block) if rules else []
            block = None
        if not line.strip() or line.startswith(_VOLATILE):
            continue
        if line == "Enabled rules:":
            block = []
        if not rules and (line == "Enabled rules:" or line.endswith("enabled rules in total")):
            continue
        out.append(line.rstrip())
    if rule_talk:
        out = [line for line in out if _RULE_TALK.search(line)]
    return out


def json_field(name):
    """A metrics field with the names of rules, files, interfaces, programs and CPUs taken out; None to ignore it."""
    if re.match(r"falco\.rules\.(?!matches_total$)|falco\.host_netinfo\.|plugins\.|falco\.jemalloc", name):
        return None
    if re.search(r"\.(run_cnt|run_time_ns|avg_time_ns)$", name):
        return None
    name = re.sub(r"^(falco\.sha256_\w+_file)\..*", r"\1.*", name)
    return re.sub(r"_cpu_\d+$", "_cpu_*", name)


def prometheus_family(line):
    """`name{label,..} ` of a sample line, or None to ignore it."""
    if not line or line.startswith("#"):
        return None
    head = line.rpartition(" ")[0]
    name, _, labels = head.partition("{")
    if re.search(r"_rules_(matches|counters)_total$|_plugins_|_run_cnt_|_run_time_|_avg_time_|jemalloc|_netinfo_", name):
        return None
    keys = sorted(re.findall(r'(\w+)="', labels))
    return "%s{%s}" % (name, ",".join(keys)) if keys else name
