# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action with hostvars of ours: what each kind of report takes, and which files it writes."""

import csv
import json
import stat
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from ansible_collections.falcotune.fleet.plugins.action import falco_report
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import planner
from ansible_collections.falcotune.fleet.tests.benchmarks import synthetic_rollout, synthetic_trial
from ansible_collections.falcotune.fleet.tests.unit.hosts import Host

TRIAL = synthetic_trial.tried([{"name": "a", "status": "ok", "cpus": 8}], 3)[0]["trial"]
CHOSEN = {"repair": True, "custom_set": ["!close"], "all": False, "selected": ["open"], "basis": "drops", "coverage": {
    "rules_total": 3, "blind": [{"rule": "Shell in a container", "lost": ["close"], "left": []}], "half_blind": []}}


def facts_of(**more):
    facts = Host().facts()
    return {"ansible_facts": dict({"falco": facts, "falco_plan": dict(planner.make(facts, {}), syscalls=CHOSEN)}, **more)}


def run(folder, hostvars, check_mode=False, **args):
    """What the task says of these hosts."""
    task = SimpleNamespace(args=dict(args, directory=str(folder / "reports")), check_mode=check_mode, async_val=0, diff=False, _ds={},
                           delegate_to=None, environment=None)
    action = falco_report.ActionModule(task, MagicMock(), MagicMock(check_mode=check_mode), MagicMock(), MagicMock(), MagicMock())
    return action.run(None, {"hostvars": hostvars, "ansible_play_hosts_all": list(hostvars)})


def read(result):
    with open(result["report"]["paths"]["json"], encoding="utf-8") as stream:
        return json.load(stream)


def names(folder):
    return sorted(path.name for path in (folder / "reports").iterdir())


def test_an_audit_has_the_choice_of_system_calls_and_no_trial(tmp_path):
    result = run(tmp_path, {"web": facts_of(falco_trial=TRIAL)})
    host = read(result)["hosts"][0]
    assert host["trial"] is None and host["syscalls"]["coverage"]["blind"][0]["rule"] == "Shell in a container"
    assert names(tmp_path) == ["falcotune.prom", "history.sqlite", "report.csv", "report.html", "report.json"]
    assert "Shell in a container on 1 host" in "\n".join(result["summary"])


def test_trials_lie_beside_the_audit_and_leave_its_history_alone(tmp_path):
    run(tmp_path, {"web": facts_of()})
    before = (tmp_path / "reports" / "history.sqlite").read_bytes()
    (tmp_path / "textfiles").mkdir()
    result = run(tmp_path, {"web": facts_of(falco_trial=TRIAL), "lonely": {"ansible_facts": {"falco_trial": TRIAL}}, "none": {}},
                 kind="trial", textfile_dir=str(tmp_path / "textfiles"))
    found = {host["name"]: host for host in read(result)["hosts"]}
    assert found["web"]["release"] == "0.44.1" and found["web"]["trial"]["tests"] == TRIAL["tests"]
    assert found["lonely"]["status"] == "ok" and found["lonely"]["trial"]["verdict"] == TRIAL["verdict"]
    assert found["none"]["status"] == "failed" and found["none"]["trial"] is None
    assert {"trial.csv", "trial.html", "trial.json", "report.json"} <= set(names(tmp_path))
    assert not list((tmp_path / "textfiles").iterdir()), "a host has one state, and that is the audit's"
    assert (tmp_path / "reports" / "history.sqlite").read_bytes() == before
    assert result["summary"][0].startswith("2 hosts were tried:") and result["report"]["fleet"]["since_last"]["at"] is None
    assert stat.S_IMODE((tmp_path / "reports" / "trial.html").stat().st_mode) == 0o600


@pytest.mark.parametrize("trial", [None, "x", [], 5])
def test_what_is_no_trial_is_none(tmp_path, trial):
    assert read(run(tmp_path, {"web": facts_of(falco_trial=trial)}, kind="trial"))["hosts"][0]["trial"] is None


def test_a_rollout(tmp_path):
    record = synthetic_rollout.rollout(["web", "db", "gone"], wrong=0.5)
    result = run(tmp_path, {"web": facts_of(), "db": {}}, kind="rollout", rollout=record)
    model = read(result)
    assert model["rollout"]["batches"] == json.loads(json.dumps(record["batches"])) and model["kind"] == "rollout"
    assert names(tmp_path) == ["rollout.csv", "rollout.html", "rollout.json"]
    with open(result["report"]["paths"]["csv"], encoding="utf-8", newline="") as stream:
        assert [row["host"] for row in csv.DictReader(stream)] == ["web", "db", "gone"]
    assert result["summary"][0].startswith("The rollout is finished:")


def test_a_bundle_of_trials(tmp_path):
    result = run(tmp_path, {"web": facts_of(falco_trial=TRIAL)}, kind="trial", bundle_hosts=["web"])
    with open(result["report"]["paths"]["bundle"], encoding="utf-8") as stream:
        bundle = json.load(stream)
    assert bundle["hosts"][0]["trial"]["tests"][0]["name"] == "T1" and "Shell in a container" not in json.dumps(bundle)


def test_check_mode_says_it_and_writes_nothing(tmp_path):
    result = run(tmp_path, {"web": facts_of()}, check_mode=True, kind="rollout", rollout={"state": "finished"})
    assert not (tmp_path / "reports").exists() and result["summary"][0] == "The rollout is finished: 0 of 0 hosts changed."


@pytest.mark.parametrize("given, told", [
    ({"kind": "rollout"}, "kind is 'rollout' and rollout is not given: expected the record of a rollout"),
    ({"kind": "rollout", "rollout": ["x"]}, "rollout is a list"),
    ({"kind": "trial", "rollout": {"state": "finished"}}, "kind is 'trial' and rollout is a dict"),
])
def test_wrong_arguments_are_told_before_anything_is_written(tmp_path, given, told):
    result = run(tmp_path, {"web": facts_of()}, **given)
    assert result["failed"] and told in result["msg"] and not (tmp_path / "reports").exists()
