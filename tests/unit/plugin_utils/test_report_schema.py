# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/report-1.schema.json is what the model is, neither more nor less."""

import copy
import json

import jsonschema
import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils import anonymise, metrics, report, report_forms, report_shape
from ansible_collections.falcotune.fleet.tests.benchmarks import synthetic_audit
from ansible_collections.falcotune.fleet.tests.unit import hostile
from ansible_collections.falcotune.fleet.tests.unit.hosts import ROOT

SCHEMA = json.loads((ROOT / "docs" / "report-1.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
MODEL = json.loads(report_forms.to_json(synthetic_audit.audit_model(150)))


def errors(model):
    return ["/".join(map(str, error.absolute_path)) + ": " + error.message[:200] for error in VALIDATOR.iter_errors(model)]


def objects(schema, path=()):
    """(path, schema) of every object that has properties of ours."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield path, schema
        for name, part in schema.items():
            yield from objects(part, (*path, name))
    elif isinstance(schema, list):
        for part in schema:
            yield from objects(part, path)


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_version_is_the_one_in_its_name():
    assert SCHEMA["properties"]["schema_version"]["const"] == report_shape.SCHEMA_VERSION
    assert SCHEMA["$id"].endswith("report-%d.schema.json" % report_shape.SCHEMA_VERSION)


@pytest.mark.parametrize("part", [pytest.param(part, id="/".join(path) or "/") for path, part in objects(SCHEMA)])
def test_objects_are_strict(part):
    assert part["additionalProperties"] is False
    assert sorted(part["required"]) == sorted(part["properties"])


def test_words_are_those_of_the_code():
    kinds = SCHEMA["$defs"]
    assert kinds["state"]["enum"] == list(report_shape.STATES) == kinds["maybe_state"]["enum"][:-1]
    assert kinds["rule"]["enum"] == list(report.RULES)
    assert kinds["bottleneck"]["enum"] == list(report_shape.BOTTLENECKS)
    assert kinds["next_step"]["enum"] == list(report_shape.NEXT_STEPS)
    assert kinds["verdict"]["properties"]["tier"]["enum"][:-1] == list(report_shape.TIERS)
    assert kinds["host"]["properties"]["drift"]["items"]["properties"]["kind"]["enum"] == list(report_shape.DRIFTS)
    assert kinds["text"]["maxLength"] == report_shape.MAX_TEXT
    assert kinds["host"]["properties"]["history"]["maxItems"] == report_shape.MAX_HISTORY
    for name, words in (("states", report_shape.STATES), ("bottlenecks", report_shape.BOTTLENECKS),
                        ("next_steps", report_shape.NEXT_STEPS)):
        assert kinds["fleet"]["properties"][name]["minProperties"] == len(words)


def test_the_window_is_the_one_of_the_metrics():
    assert {*SCHEMA["$defs"]["window"]["properties"], "snapshot"} == set(metrics.EMPTY)


def test_a_fleet_is_valid():
    assert not errors(MODEL)


@pytest.mark.parametrize("results", [[], [{}], [None], hostile.results(40)], ids=["empty", "nothing", "null", "hostile"])
def test_whatever_comes_makes_a_valid_report(results):
    model = report.assemble(results, dict(synthetic_audit.POLICY, fail_on=list(report.RULES)), synthetic_audit.META)
    assert not errors(json.loads(report_forms.to_json(model)))


@pytest.mark.parametrize("value", hostile.VALUES, ids=range(len(hostile.VALUES)))
def test_any_value_in_place_of_any_part_makes_a_valid_report(value):
    base = synthetic_audit.audit_results(200, 5, history=2)
    results = []
    for host in [host for host in base if host["drift"] and host["window"]][:1] + [host for host in base if host["change"]][:1]:
        for name in host:
            results.append(dict(copy.deepcopy(host), **{name: value}))
            if isinstance(host[name], dict):
                results.extend(dict(copy.deepcopy(host), **{name: dict(host[name], **{part: value})}) for part in host[name])
    model = report.assemble(results, synthetic_audit.POLICY, synthetic_audit.META, {"": {"at": value, "state": value}})
    assert not errors(json.loads(report_forms.to_json(model)))


def test_a_bundle_is_valid():
    assert not errors(anonymise.bundle(synthetic_audit.audit_model(60)))


@pytest.mark.parametrize("spoil", [
    lambda model: model.update(schema_version=2),
    lambda model: model.update(more=1),
    lambda model: model.pop("fleet"),
    lambda model: model["hosts"][0].update(snapshot={}),
    lambda model: model["hosts"][0].pop("verdict"),
    lambda model: model["hosts"][0].update(cpus="8"),
    lambda model: model["hosts"][0].update(status="maybe"),
    lambda model: model["fleet"]["states"].update(fine=1),
    lambda model: model["fleet"]["states"].pop("healthy"),
    lambda model: model["fleet"]["percentiles"]["drops_percent"].pop("p99.9"),
    lambda model: model["hosts"][0]["history"].append([1, "healthy", 0.0, 1.0]),
    lambda model: model["policy"]["fail_on"].append("anything"),
    lambda model: model.update(made_at="yesterday"),
])
def test_what_is_wrong_is_not_valid(spoil):
    model = copy.deepcopy(MODEL)
    model["hosts"] = model["hosts"][:1]
    assert not errors(model)
    spoil(model)
    assert errors(model)
