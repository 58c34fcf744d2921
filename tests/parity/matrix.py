# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""matrix.csv: what each scenario showed under each measured selection. README.md explains the columns.

On disk the scenario `*` stands for all scenarios of the row's group that have no row of their own: their verdict is `same`.
"""

import csv
import re
from pathlib import Path

from corpus import SCENARIOS

PATH = Path(__file__).parent / "matrix.csv"
MEASURED = ["release", "batch", "scenario", "group", "mode", "call_removed_or_custom_set", "selected"]
COLUMNS = [*MEASURED, "fires", "reference", "verdict", "values", "values_reference"]
REST = "*"
LOSSES = ("lost", "lost-no-event")
DIFFERENCES = (*LOSSES, "false-alert", "changed-values")
_NAMED = re.compile(r"evt\.type(?:=([a-z0-9_]+)| in \(([^)]*)\))")


def rows():
    """One dict a scenario and configuration, with the scenario's own columns: mechanism, rule_evt_types, fields, expect."""
    with PATH.open(newline="") as stream:
        stored = list(csv.DictReader(stream))
    own = {}
    for row in stored:
        own.setdefault(_configuration(row), {})[row["scenario"]] = row
    found = []
    for told in own.values():
        rest = told[REST]
        for scenario in SCENARIOS:
            if rest["group"] in ("all", scenario["obs"]):
                row = told.get(scenario["id"], dict(rest, scenario=scenario["id"], **_as_expected(scenario)))
                found.append(dict(row, mechanism=scenario["mech"], rule_evt_types=" ".join(sorted(calls_of(scenario))),
                                  fields=" ".join(scenario["fields"]), expect=scenario["expect"]))
    return found


def write(full):
    """The reverse of rows(); the scenario's own columns are left out."""
    stored, expected = [], {one["id"]: _as_expected(one) for one in SCENARIOS}
    for row in full:
        if not stored or _configuration(stored[-1]) != _configuration(row):
            stored.append(dict({key: row[key] for key in MEASURED}, scenario=REST, verdict="same"))
        if not expected[row["scenario"]].items() <= row.items():
            stored.append({key: row[key] for key in COLUMNS})
    with PATH.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(stored)


def calls_of(scenario):
    """The event types that a scenario's rules name."""
    found = set()
    for one, several in _NAMED.findall(scenario["w"] + " " + scenario["cond"]):
        found.update(name.strip() for name in (one or several).split(","))
    return found


def _as_expected(scenario):
    fires = "yes/yes" if scenario["expect"] == "fire" else "no/no"
    return {"verdict": "same", "fires": fires, "reference": fires}


def _configuration(row):
    return tuple(row[key] for key in MEASURED if key != "scenario")
