# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of costs, and how tests/calibration works numbers out of what it has measured."""

import importlib.util

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules_audit import costs
from ansible_collections.falcotune.fleet.tests.unit.hosts import ROOT

PROGRAM = ROOT / "tests" / "calibration" / "calibrate.py"
EVENT, RULE, FIELD = 2000.0, 120.0, 90.0


@pytest.fixture(scope="module")
def calibrate():
    found = importlib.util.spec_from_file_location("calibrate", PROGRAM)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def runs(calibrate, operators, fields, wrong=()):
    """What runs would measure without noise. wrong: {run: nanoseconds more}."""
    def of(*parts):
        return EVENT + calibrate.COPIES * (RULE + sum(parts))

    made = {name + when: ns for when in ("", " again", " at last")
            for name, ns in (("nothing", EVENT), ("evt.num", of(operators["="])))}
    for operator, ns in operators.items():
        field = fields["fd.num"] if operator == ">" else FIELD
        for count in (1,) if operator in calibrate.ONCE else (1, calibrate.MANY):
            made["%s x%d" % (operator, count)] = of(field, count * ns)
    made.update({name: of(ns, operators["="]) for name, ns in fields.items()})
    return {name: ns + dict(wrong).get(name, 0.0) for name, ns in made.items()}


def table(calibrate):
    fields = {name: 10.0 * number for number, name in enumerate(calibrate.FIELDS) if name != "evt.num"}
    return {name: costs.OPERATORS[name] for name in calibrate.OPERATORS}, {**fields, "fd.name": FIELD}


def test_a_calibration_finds_what_was_measured(calibrate):
    operators, fields = table(calibrate)
    found = calibrate.fitted(runs(calibrate, operators, fields))
    assert (found["event_ns"], found["rule_ns"]) == pytest.approx((EVENT, RULE))
    assert found["operators"] == pytest.approx(operators)
    assert found["fields"] == pytest.approx({**fields, "evt.num": 0.0})


def test_one_disturbed_run_disturbs_one_number(calibrate):
    operators, fields = table(calibrate)
    wrong = {"nothing again": 3000.0, "evt.num at last": -2000.0, "regex x1": 2000.0}
    found = calibrate.fitted(runs(calibrate, operators, fields, wrong))
    assert (found["event_ns"], found["rule_ns"]) == pytest.approx((EVENT, RULE))
    assert found["operators"] == pytest.approx(operators) and found["fields"]["fd.name"] == pytest.approx(FIELD)


def test_operators_are_in_the_order_of_falcos_documentation():
    """By cost: comparisons and sets, then what looks for a text, then patterns."""
    of = costs.OPERATORS
    assert max(of[name] for name in ("=", "!=", "in", "startswith", "endswith")) < of["contains"] < of["icontains"]
    assert of["contains"] < of["glob"] < min(of["iglob"], of["regex"])
    assert set(of) >= {"pmatch", "intersects", "bcontains", "bstartswith"} and min(of.values()) >= 0
