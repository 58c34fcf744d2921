# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of an audit: together they are what one job would have found, and nothing in one of them is trusted."""

import json

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import html, json_csv, models, openmetrics, parts, terminal
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report.history import History
from ansible_collections.falcotune.fleet.tests.benchmarks import synthetic_audit
from ansible_collections.falcotune.fleet.tests.unit import hostile

META, POLICY = synthetic_audit.META, synthetic_audit.POLICY
BEGAN = synthetic_audit.NOW - 41.7


def part(results, name="1", audit="4711", policy=POLICY, meta=META, began=BEGAN):
    return parts.read(parts.to_part(audit, name, results, policy, meta, began), audit, "audit")


def sliced(results, number):
    """As AWX slices an inventory: every n-th host."""
    return [part(results[offset::number], str(offset)) for offset in range(number)]


def merged(found, expected=0, previous=None):
    whole = parts.fold(found, expected, {"kind": "audit", "collection": META["collection"]})
    return models.assemble(whole.results, whole.policy, whole.meta, previous)


def kept(tmp_path, name, model):
    """What the history keeps of an audit."""
    with History(tmp_path / name) as history:
        history.add(model)
        tables = ("audits", "hosts", "results", "snapshots")
        return {table: history.connection.execute("SELECT * FROM %s ORDER BY 1, 2" % table).fetchall() for table in tables}


@pytest.mark.parametrize("number", [1, 3, 8])
def test_slices_merge_into_the_bytes_of_one_job(tmp_path, number):
    results = synthetic_audit.audit_results(160, history=3)
    previous = synthetic_audit.previous_of(results)
    one, many = models.assemble(results, POLICY, META, previous), merged(sliced(results, number), number, previous)
    for make in (json_csv.to_json, json_csv.to_csv, openmetrics.to_openmetrics, html.render, terminal.to_terminal):
        assert make(models.public(many)) == make(models.public(one))
    assert any(host["snapshot"] for host in one["hosts"]) and kept(tmp_path, "many", many) == kept(tmp_path, "one", one)


def test_what_hosts_send_survives_a_part_unchanged():
    results = hostile.results(40)
    assert merged([part(results)])["hosts"] == models.assemble(results, POLICY, META)["hosts"]


def test_the_audit_lasted_from_the_first_part_to_the_last():
    later = dict(META, made_at="2026-11-24T13:05:00Z")
    model = merged([part([], "1", began=synthetic_audit.NOW - 60), part([], "2", meta=later, began=synthetic_audit.NOW + 7)])
    assert model["made_at"] == later["made_at"] and model["seconds"] == 360.0


def test_of_a_host_in_two_parts_the_later_one_counts():
    first, second = synthetic_audit.audit_results(2, history=0)
    again = dict(second, name=first["name"])
    model = merged([part([again], "2", meta=dict(META, made_at="2026-11-24T13:00:01Z")), part([first], "1")])
    assert [host["cpus"] for host in model["hosts"]] == [second["cpus"]]


def test_samples_and_problems_of_prometheus_come_together():
    asked = {"server": "http://p", "problem": None, "sample": ["b"]}
    model = merged([part([], "1", meta=dict(META, monitoring=asked)),
                    part([], "2", meta=dict(META, monitoring=dict(asked, sample=["a"], problem="down")))])
    assert model["fleet"]["monitoring"] == {"server": "http://p", "problem": "down", "sample": ["a", "b"], "contradicted": []}


@pytest.mark.parametrize(("found", "expected", "said"), [
    (lambda: [part([], "1"), part([], "2")], 3, "there are 2 parts (1, 2), and falco_audit_parts is 3"),
    (list, 0, "there are no parts"),
    (lambda: [part([], "1"), part([], "2", policy=dict(POLICY, accepted_drops_percent=2.0))], 0,
     "different policies (accepted_drops_percent)"),
    (lambda: [part([], "1"), part([], "2", policy=dict(POLICY, fail_on=[]))], 0, "different policies (fail_on)")])
def test_parts_that_do_not_belong_together(found, expected, said):
    with pytest.raises(parts.PartError) as error:
        merged(found(), expected)
    assert said in str(error.value)


TEXT = parts.to_part("4711", "1", synthetic_audit.audit_results(5, history=0), POLICY, META, BEGAN)


@pytest.mark.parametrize("cut", range(0, len(TEXT), len(TEXT) // 60))
def test_a_cut_part_is_refused(cut):
    with pytest.raises(parts.PartError):
        parts.read(TEXT[:cut], "4711", "audit")


def header(**changed):
    return json.dumps({**json.loads(TEXT.split("\n")[0]), "hosts": 1, **changed}) + "\n{}\n"


@pytest.mark.parametrize("text", [
    "", "\n", "[]\n", "null\n{}\n", "{}\n{}\n", header(falcotune_part=2), header(audit="4712"), header(kind="trial"),
    header(hosts=2),
    header(hosts=-1), header(hosts="1"), header(hosts=None), header(began="x"), header(began=1e18), header(began=None),
    header(made_at="now"), header(made_at=5), header(policy=None), header(policy={"fail_on": ["x"]}),
    header(policy={**POLICY, "accepted_drops_percent": "1"}),
    header() + "{}\n", header()[:-3] + "[" * 200000 + "\n", header()[:-3] + "[" + "1," * 300000 + "1]\n", header()[:-3] + "{" + "\n",
    header()[:-3] + '"' + "x" * (5 << 20) + '"\n'])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(parts.PartError) as error:
        parts.read(text, "4711", "audit")
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("value", [None, 5, "x", [], {"name": ["x"]}, {"status": 7, "verdict": "x", "name": "web"}])
def test_a_hostile_host_becomes_one_of_the_model(value):
    text = header().replace("{}", json.dumps(value))
    model = merged([parts.read(text, "4711", "audit")])
    assert len(model["hosts"]) == 1 and json_csv.to_json(model)


@pytest.mark.parametrize(("what", "value", "right"), [
    ("falco_audit_id", "2026-11-24", True), ("falco_audit_id", "", False), ("falco_audit_id", "../x", False),
    ("falco_audit_id", "a/b", False),
    ("falco_audit_id", ".hidden", False), ("falco_audit_id", "a" * 65, False),
    ("falco_audit_part", "88", True), ("falco_audit_part", "a-b", False)])
def test_names_become_names_of_files(what, value, right):
    if right:
        assert parts.named(what, value) == value
    else:
        with pytest.raises(parts.PartError, match=what):
            parts.named(what, value)


def test_the_audits_of_a_directory():
    names = [
        parts.file_name("4711", "88"), parts.file_name("2026-11-24", "3"), "part-.jsonl", "part-x.jsonl", "report.json", "part-a-b.tmp"]
    assert parts.audits_of(names) == ["2026-11-24", "4711"]
