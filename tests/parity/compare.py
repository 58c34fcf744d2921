# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What two Falcos that watched the same execution said, and how it differs."""

import json
import re

from corpus import FIRST_ACTION, STOCK

# Ephemeral ports and addresses of sockets differ from one pass to the next.
EPHEMERAL = re.compile(r":(3[3-9]\d{3}|32[89]\d\d|3277\d|327[7-9]\d|[4-5]\d{4}|60\d{3})\b")
POINTER = re.compile(r"\b[0-9a-f]{8,16}\b")
OF_THE_CLIENT = re.compile(r'"fd\.(rport|cport)": "\d+"')


def seen(alerts, scenarios, root):
    """Scenario → {'fires': alerts of its rule, 'events': of its witness, 'values': of the fields at these events}.

    root: the scratch folder; @ROOT@ stands for it in values.
    """
    found = {one["id"]: {"fires": 0, "events": 0, "values": set()} for one in scenarios}
    fields = {one["id"]: one["fields"] for one in scenarios}
    for alert in played(alerts):
        kind, _, name = alert.get("rule", "").partition(" ")
        if name not in found:
            continue
        found[name]["fires" if kind == "S" else "events"] += 1
        if kind == "W":
            found[name]["values"].add(json.dumps({key: _plain(alert["fields"].get(key), root) for key in fields[name]}, sort_keys=True))
    return found


def played(alerts):
    """The alerts of a pass without those of the preparation: making a scratch folder opens what the rules look for."""
    begin = next((index for index, alert in enumerate(alerts) if alert.get("mark") == FIRST_ACTION), len(alerts))
    return alerts[begin:]


def _plain(value, root):
    return "<NA>" if value is None else POINTER.sub("PTR", EPHEMERAL.sub(":E", str(value))).replace(str(root), "@ROOT@")


def verdict(reference, candidate):
    """How a scenario differs; both: what was seen of it, one item a pass. Passes that disagree make it flaky."""
    before, after = ([bool(one["fires"]) for one in passes] for passes in (reference, candidate))
    if len(set(before)) > 1:
        return "flaky-reference"
    if len(set(after)) > 1:
        return "flaky"
    came = any(one["events"] for one in candidate)
    if before[0] and not after[0]:
        return "lost" if came else "lost-no-event"
    if after[0] and not before[0]:
        return "false-alert"
    values = [{OF_THE_CLIENT.sub("", text) for one in passes for text in one["values"]} for passes in (reference, candidate)]
    return "changed-values" if came and values[0].isdisjoint(values[1]) else "same"


def fires(passes):
    return "/".join("yes" if one["fires"] else "no" for one in passes)


def stock_alerts(alerts):
    """Action → number of alerts of its rule between its own mark and the next."""
    found, at = {one["id"]: 0 for one in STOCK}, None
    for alert in alerts:
        if "mark" in alert:
            index = alert["mark"] - FIRST_ACTION
            at = STOCK[index] if 0 <= index < len(STOCK) else None
        elif at and alert["rule"] == at["rule"]:
            found[at["id"]] += 1
    return found
