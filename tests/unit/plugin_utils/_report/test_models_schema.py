# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/report-1.schema.json is what the model is, neither more nor less."""

import copy
import json

import jsonschema
import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils import _untrusted
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import anonymise, json_csv, models, shape, terminal
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import windows
from ansible_collections.falcotune.fleet.tests.benchmarks import synthetic_audit, synthetic_rollout, synthetic_trial
from ansible_collections.falcotune.fleet.tests.unit import hostile
from ansible_collections.falcotune.fleet.tests.unit.hosts import ROOT

SCHEMA = json.loads((ROOT / "docs" / "report-1.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
MODEL = json.loads(json_csv.to_json(synthetic_audit.audit_model(150)))


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
    assert SCHEMA["properties"]["schema_version"]["const"] == shape.SCHEMA_VERSION
    assert SCHEMA["$id"].endswith("report-%d.schema.json" % shape.SCHEMA_VERSION)


@pytest.mark.parametrize("part", [pytest.param(part, id="/".join(path) or "/") for path, part in objects(SCHEMA)])
def test_objects_are_strict(part):
    assert part["additionalProperties"] is False
    assert sorted(part["required"]) == sorted(part["properties"])


def test_words_are_those_of_the_code():
    kinds = SCHEMA["$defs"]
    assert kinds["state"]["enum"] == list(shape.STATES) == kinds["maybe_state"]["enum"][:-1]
    assert kinds["rule"]["enum"] == list(models.RULES)
    assert kinds["bottleneck"]["enum"] == list(shape.BOTTLENECKS)
    assert kinds["next_step"]["enum"] == list(shape.NEXT_STEPS)
    assert kinds["verdict"]["properties"]["tier"]["enum"][:-1] == list(shape.TIERS)
    assert kinds["host"]["properties"]["drift"]["items"]["properties"]["kind"]["enum"] == list(shape.DRIFTS)
    assert kinds["syscalls"]["properties"]["basis"]["enum"] == list(shape.BASES)
    trial, rollout = kinds["trial"]["properties"], kinds["rollout"]["properties"]
    assert (trial["verdict"]["enum"], trial["mode"]["enum"]) == (list(shape.TRIALS), list(shape.MODES))
    assert trial["tests"]["items"]["properties"]["state"]["enum"] == list(shape.TESTS)
    assert rollout["state"]["enum"] == list(shape.ROLLOUTS)
    batch = rollout["batches"]["items"]["properties"]
    assert batch["stage"]["enum"] == list(shape.STAGES)
    assert batch["hosts"]["items"]["properties"]["outcome"]["enum"] == list(shape.OUTCOMES)
    assert kinds["text"]["maxLength"] == _untrusted.MAX_TEXT
    assert kinds["host"]["properties"]["history"]["maxItems"] == shape.MAX_HISTORY
    for name, words in (("states", shape.STATES), ("bottlenecks", shape.BOTTLENECKS),
                        ("next_steps", shape.NEXT_STEPS)):
        assert kinds["fleet"]["properties"][name]["minProperties"] == len(words)


def test_the_window_is_the_one_of_the_metrics():
    assert {*SCHEMA["$defs"]["window"]["properties"], "snapshot", "losing", "losing_cpus"} == set(windows.EMPTY)


def test_a_fleet_is_valid():
    assert not errors(MODEL)


def rolled(rollout):
    return models.assemble([], synthetic_audit.POLICY, dict(synthetic_audit.META, kind="rollout"), None, rollout)


def test_trials_and_a_rollout_are_valid():
    trials = models.assemble(synthetic_trial.tried(synthetic_audit.audit_results(60, history=0)), synthetic_audit.POLICY,
                             dict(synthetic_audit.META, kind="trial"))
    assert any(host["trial"]["tests"] for host in trials["hosts"] if host["trial"]) and not errors(trials | models.public(trials))
    record = synthetic_rollout.rollout(["host-%d" % number for number in range(200)], wrong=0.1, stop=5)
    model = rolled(record)
    assert not errors(json.loads(json_csv.to_json(model)))
    assert json.loads(json.dumps(model["rollout"])) == json.loads(json.dumps(record)), "and nothing of it is lost"


@pytest.mark.parametrize("make", [synthetic_trial.trial, synthetic_trial.compared])
def test_nothing_of_a_trial_or_a_choice_is_lost(make):
    results = synthetic_trial.tried(synthetic_audit.audit_results(60, history=0), make=make)
    model = models.assemble(results, synthetic_audit.POLICY, synthetic_audit.META)
    for host, given in zip(model["hosts"], sorted(results, key=lambda host: host["name"])):
        assert (host["syscalls"], host["trial"]) == (given["syscalls"], given["trial"])


def test_trials_of_rules_are_valid():
    results = synthetic_trial.tried(synthetic_audit.audit_results(60, history=0), make=synthetic_trial.compared)
    found = models.assemble(results, synthetic_audit.POLICY, dict(synthetic_audit.META, kind="trial"))
    assert any(host["trial"] for host in found["hosts"]) and not errors(found | models.public(found))


@pytest.mark.parametrize("kind", ["trial", "rollout"])
def test_hostile_trials_and_rollouts_are_valid(kind):
    assert not errors(json.loads(json_csv.to_json(hostile.model(40, kind=kind))))


def everywhere(value, put):
    """The value with `put` in place of each of its parts in turn."""
    if isinstance(value, dict):
        for name in value:
            yield dict(value, **{name: put})
            yield from (dict(value, **{name: inner}) for inner in everywhere(value[name], put))
    elif isinstance(value, list) and value:
        yield [put, *value[1:]]
        yield from ([inner, *value[1:]] for inner in everywhere(value[0], put))


@pytest.mark.parametrize("value", hostile.VALUES, ids=range(len(hostile.VALUES)))
def test_any_value_in_a_rollout_a_trial_or_a_choice_makes_a_valid_report(value):
    record = synthetic_rollout.rollout(["a", "b", "c", "d"], wrong=0.5)
    for spoiled in everywhere(record, value):
        assert not errors(rolled(spoiled))
    base = synthetic_trial.tried(synthetic_audit.audit_results(30, history=0))
    host = next(item for item in base if item["syscalls"] and item["trial"]["tests"])
    results = [dict(host, **{name: spoiled}) for name in ("syscalls", "trial") for spoiled in everywhere(host[name], value)]
    model = models.assemble(results, synthetic_audit.POLICY, dict(synthetic_audit.META, kind="trial"))
    assert len(results) > 60 and not errors(json.loads(json_csv.to_json(model)))
    for form in (json_csv.to_csv, terminal.to_terminal):
        assert form(model)


@pytest.mark.parametrize("results", [[], [{}], [None], hostile.results(40)], ids=["empty", "nothing", "null", "hostile"])
def test_whatever_comes_makes_a_valid_report(results):
    model = models.assemble(results, dict(synthetic_audit.POLICY, fail_on=list(models.RULES)), synthetic_audit.META)
    assert not errors(json.loads(json_csv.to_json(model)))


@pytest.mark.parametrize("value", hostile.VALUES, ids=range(len(hostile.VALUES)))
def test_any_value_in_place_of_any_part_makes_a_valid_report(value):
    base = synthetic_audit.audit_results(200, 5, history=2)
    results = []
    for host in [host for host in base if host["drift"] and host["window"]][:1] + [host for host in base if host["change"]][:1]:
        for name in host:
            results.append(dict(copy.deepcopy(host), **{name: value}))
            if isinstance(host[name], dict):
                results.extend(dict(copy.deepcopy(host), **{name: dict(host[name], **{part: value})}) for part in host[name])
    model = models.assemble(results, synthetic_audit.POLICY, synthetic_audit.META, {"": {"at": value, "state": value}})
    assert not errors(json.loads(json_csv.to_json(model)))


def test_a_bundle_is_valid():
    assert not errors(anonymise.bundle(synthetic_audit.audit_model(60)))


@pytest.mark.parametrize("spoil", [
    lambda model: model.update(schema_version=2),
    lambda model: model.update(more=1),
    lambda model: model.pop("fleet"),
    lambda model: model["hosts"][0].update(snapshot={}),
    lambda model: model["hosts"][0].pop("verdict"),
    lambda model: model["hosts"][0].update(cpus="8"),
    lambda model: model.pop("rollout"),
    lambda model: model.update(rollout={}),
    lambda model: model["hosts"][0].update(syscalls={}),
    lambda model: model["hosts"][0].update(trial={"verdict": "largest"}),
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
