# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action with hostvars of ours: what each kind of report takes, and which files it writes."""

import csv
import json
import os
import signal
import stat
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from ansible_collections.falcotune.fleet.plugins.action import falco_report
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import audit
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


@pytest.mark.parametrize("result, status", [({"failed": True, "msg": "Timed out after 5 second(s)."}, "failed"),
                                            ({"unreachable": True, "msg": "gone"}, "unreachable"), ({"msg": "x"}, "ok")])
def test_a_host_whose_trial_failed_is_named(tmp_path, result, status):
    host = read(run(tmp_path, {"web": {**facts_of(), "falco_trial_result": result}}, kind="trial"))["hosts"][0]
    assert (host["status"], host["reason"]) == (status, None if status == "ok" else result["msg"])


@pytest.mark.parametrize("facts", ["text", {"falco": {}}, {"falco": {part: {} for part in audit.PARTS}}])
def test_facts_that_cannot_be_read_fail_their_host_alone(tmp_path, facts):
    """Of an older version in a fact cache, or a host's own by another module."""
    result = run(tmp_path, {"web": facts_of(), "old": {"ansible_facts": facts}})
    found = {host["name"]: host for host in read(result)["hosts"]}
    assert found["web"]["status"] == "ok" and found["old"]["status"] == "failed" and found["old"]["reason"]


@pytest.mark.parametrize("given, told", [
    ({"formss": ["json"]}, "unsupported parameters: formss"), ({"forms": ["jsonn"]}, "jsonn"),
    ({"min_observation": "soon"}, "min_observation is 'soon': expected a number from 1 to"),
    ({"retention_days": 0}, "retention_days is 0: expected a number from 1 to 36500"),
    ({"fail_on": ["dropped"]}, "falco_audit_fail_on holds 'dropped', which is not a rule (did you mean dropping?)"),
])
def test_arguments_are_those_of_the_documentation(tmp_path, given, told):
    result = run(tmp_path, {"web": facts_of()}, **given)
    assert result["failed"] and told in result["msg"] and not (tmp_path / "reports").exists()


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


@pytest.mark.parametrize("mode", [0o777, 0o757])
def test_a_directory_that_others_may_write_is_refused(tmp_path, mode):
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports").chmod(mode)
    result = run(tmp_path, {"web": facts_of()})
    assert result["failed"] and "reports can be written by others (mode %04o): nothing was written" % mode in result["msg"]
    assert names(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(tmp_path):
    (tmp_path / "reports").mkdir()
    os.chown(tmp_path / "reports", 12345, 0)
    result = run(tmp_path, {"web": facts_of()})
    assert result["failed"] and "belongs to uid 12345, and this is uid 0" in result["msg"] and names(tmp_path) == []
    os.chown(tmp_path / "reports", 0, 12345)
    (tmp_path / "reports").chmod(0o770)
    assert "can be written by others (mode 0770)" in run(tmp_path, {"web": facts_of()})["msg"]


@pytest.mark.parametrize("name", ["history.sqlite", "history.sqlite-wal"])
def test_a_history_that_is_a_link_is_refused(tmp_path, name):
    """root made a database wherever the link pointed to."""
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / name).symlink_to(tmp_path / "victim")
    result = run(tmp_path, {"web": facts_of()})
    assert result["failed"] and name + " is a link or not a regular file: nothing was written" in result["msg"]
    assert not (tmp_path / "victim").exists() and names(tmp_path) == [name]


def test_a_history_in_a_directory_of_others_is_refused(tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    result = run(tmp_path, {"web": facts_of()}, history=str(tmp_path / "shared/history.sqlite"))
    assert result["failed"] and "set falco_audit_history" in result["msg"] and not list((tmp_path / "shared").iterdir())


def test_a_report_that_is_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "reports").mkdir()
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / "reports/report.json").symlink_to(tmp_path / "victim")
    run(tmp_path, {"web": facts_of()})
    assert (tmp_path / "victim").read_text() == "untouched" and not (tmp_path / "reports/report.json").is_symlink()


def test_a_shared_directory_with_the_sticky_bit_will_do(tmp_path):
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports").chmod(0o1777)
    if os.geteuid() == 0:
        assert "failed" not in run(tmp_path, {"web": facts_of()})


MONITORED = {"server": "http://prometheus:9090", "problem": None, "hosts": ["web"], "sample": ["web"], "left": {
    "quiet": {"state": "healthy", "reason": "0.5 % of its events were lost in the last 15m; the limit is 1 %", "release": "0.44.1",
              "age": 3.0, "events": 1000.0, "drops": 5.0, "drops_percent": 0.5}}}


def with_monitored(monitored, **hosts):
    return {**hosts, "localhost": {"ansible_facts": {"falco_prometheus": monitored}}}


def test_a_host_that_was_not_visited_has_what_prometheus_knows_and_no_verdict(tmp_path):
    result = run(tmp_path, with_monitored(MONITORED, web=facts_of()), hosts=["web"], monitored="falco_prometheus")
    quiet = {host["name"]: host for host in read(result)["hosts"]}["quiet"]
    assert quiet["status"] == "monitored" and quiet["verdict"] is None and quiet["window"] is None and quiet["plan"] is None
    assert quiet["release"] == "0.44.1" and quiet["monitored"] == {"age": 3.0, "events": 1000.0, "drops": 5.0, "drops_percent": 0.5}
    assert "0.5 % of its events were lost" in quiet["reason"]
    for unknown in ("waiting", "quota", "ring buffers", "differs from its last proven state"):
        assert unknown in quiet["reason"]
    fleet = result["report"]["fleet"]
    assert fleet["monitored"] == ["quiet"] and fleet["ok"] == 1 and fleet["hosts"] == 2 and not any(
        fleet["states"][state] for state in ("healthy", "acceptable"))
    assert "1 was not visited and is healthy by Prometheus" in fleet["headline"]
    with open(result["report"]["paths"]["openmetrics"], encoding="utf-8") as stream:
        text = stream.read()
    assert 'fleet_hosts{status="monitored"} 1' in text and 'host_up{host="quiet"}' not in text


def test_a_host_that_was_not_visited_keeps_what_the_last_visit_found(tmp_path):
    run(tmp_path, {"web": facts_of(), "quiet": facts_of()})
    run(tmp_path, with_monitored(MONITORED, web=facts_of()), hosts=["web"], monitored="falco_prometheus")
    result = run(tmp_path, {"web": facts_of(), "quiet": facts_of()})
    quiet = {host["name"]: host for host in read(result)["hosts"]}["quiet"]
    assert quiet["previous"]["state"] == quiet["verdict"]["state"] and len(quiet["history"]) == 2
    assert result["report"]["fleet"]["since_last"]["new"] == result["report"]["fleet"]["since_last"]["gone"] == []


def test_a_prometheus_that_is_wrong_about_its_sample_is_told(tmp_path):
    stopped = facts_of()
    stopped["ansible_facts"]["falco_plan"]["verdict"] = dict(stopped["ansible_facts"]["falco_plan"]["verdict"], state="blind")
    result = run(tmp_path, with_monitored(MONITORED, web=stopped), hosts=["web"], monitored="falco_prometheus")
    assert result["report"]["fleet"]["monitoring"]["contradicted"] == ["web"]
    assert "Prometheus calls these hosts healthy, and the audit does not (1 of a sample of 1): web" in " ".join(result["summary"])


def test_a_prometheus_that_could_not_be_asked_is_told(tmp_path):
    down = {"server": "http://prometheus:9090", "problem": "query known: refused", "hosts": None, "sample": [], "left": {}}
    result = run(tmp_path, with_monitored(down, web=facts_of()), hosts=["web"], monitored="falco_prometheus")
    assert result["report"]["fleet"]["monitoring"]["problem"] == "query known: refused" and result["report"]["fleet"]["ok"] == 1
    assert "so every host was visited: query known: refused" in " ".join(result["summary"])


@pytest.mark.parametrize("fact", [None, "x", [], {"left": ["x"], "sample": 5}, {"left": {"quiet": "x"}, "server": 7}])
def test_a_fact_that_is_none_of_ours_harms_nothing(tmp_path, fact):
    result = run(tmp_path, with_monitored(fact, web=facts_of()), hosts=["web"], monitored="falco_prometheus")
    assert result["report"]["fleet"]["ok"] == 1


def at(monkeypatch, seconds):
    monkeypatch.setattr(falco_report.time, "time", lambda: float(seconds))


def forms_of(result):
    found = {}
    for form, path in result["report"]["paths"].items():
        with open(path, encoding="utf-8", newline="") as stream:
            found[form] = stream.read()
    return found


NAMES = ["web-%02d" % number for number in range(10)]


def gathered(names, began):
    return {name: {**facts_of(), "seen": {"began": began}} for name in names} | {
        "gone": {"seen": {"unreachable": True, "msg": "no route", "began": began}}}


def test_parts_of_several_jobs_are_merged_into_the_report_of_one(tmp_path, monkeypatch):
    whole, slices = tmp_path / "whole", tmp_path / "slices"
    hosts = gathered(NAMES, 1000000990.0)
    policy = {"gathered": "seen", "fail_on": ["unreachable"]}
    for folder in (whole, slices):
        at(monkeypatch, 999000000)
        run(folder, hosts, **policy)
    at(monkeypatch, 1000001000)
    one = run(whole, hosts, **policy)
    for offset in range(3):
        names_of_slice = list(hosts)[offset::3]
        at(monkeypatch, 1000000998 + offset)
        result = run(slices, {name: hosts[name] for name in names_of_slice}, part=str(offset), id="4711", **policy)
        assert not result.get("failed") and set(result["report"]["paths"]) == {"part"} and result["stats"]["falco_audit_id"] == "4711"
    assert len([name for name in names(slices) if name.startswith("part-4711-")]) == 3
    at(monkeypatch, 1000009999)
    merged = run(slices, {}, hosts=[], merge=True, id="4711", parts=3)
    assert merged["failed"] is one["failed"] is True and merged["msg"] == one["msg"]
    assert forms_of(merged) == forms_of(one) and merged["summary"] == one["summary"] and names(slices) == names(whole)
    assert read(merged)["fleet"]["since_last"]["at"] == "2001-08-28T12:00:00Z" and len(read(merged)["hosts"][3]["history"]) == 2


def test_the_next_job_gets_numbers_and_paths_within_eight_kilobytes(tmp_path):
    hosts = gathered(["host-%04d.%s" % (number, "x" * 100) for number in range(50)], 5.0)
    rules = ["blind", "dropping", "unmeasured", "unreachable", "failed", "worse", "drift", "restart_required", "blind_rules"]
    stats = run(tmp_path, hosts, gathered="seen", fail_on=rules)["stats"]
    assert len(json.dumps(stats)) < 8192 and stats["falco_audit"]["hosts"] == 51 and stats["falco_audit"]["unreachable"] == 1
    assert {item["rule"] for item in stats["falco_audit"]["breaches"]} >= {"unreachable"} and stats["falco_audit"]["paths"]["json"]
    assert "falco_audit_id" not in stats


def test_a_part_that_is_not_whole_stops_the_merge_before_anything_is_written(tmp_path):
    path = run(tmp_path, {"web": facts_of()}, part="1", id="4711")["report"]["paths"]["part"]
    run(tmp_path, {"db": facts_of()}, part="2", id="4711")
    with open(path, "r+b") as stream:
        stream.truncate(2000)
    result = run(tmp_path, {}, hosts=[], merge=True)
    assert result["failed"] and path in result["msg"] and "Nothing was written" in result["msg"]
    assert names(tmp_path) == ["part-4711-1.jsonl", "part-4711-2.jsonl"]


def test_parts_of_two_audits_are_not_mixed(tmp_path):
    run(tmp_path, {"web": facts_of()}, part="1", id="4711")
    run(tmp_path, {"db": facts_of()}, part="1", id="4711-b")
    assert "parts of 2 audits (4711, 4711-b): set falco_audit_id" in run(tmp_path, {}, hosts=[], merge=True)["msg"]
    result = run(tmp_path, {}, hosts=[], merge=True, id="4711")
    assert [host["name"] for host in read(result)["hosts"]] == ["web"]
    assert "part-4711-b-1.jsonl" in names(tmp_path) and "part-4711-1.jsonl" not in names(tmp_path)


def test_a_missing_part_is_told(tmp_path):
    run(tmp_path, {"web": facts_of()}, part="1", id="4711")
    assert "falco_audit_parts is 2" in run(tmp_path, {}, hosts=[], merge=True, parts=2)["msg"]
    assert "there are no parts" in run(tmp_path, {}, hosts=[], merge=True, id="4712")["msg"]


def test_a_part_that_is_a_link_or_a_fifo_is_not_read(tmp_path):
    run(tmp_path, {"web": facts_of()}, part="1", id="4711")
    os.mkfifo(tmp_path / "reports" / "part-4711-2.jsonl")
    assert "not a regular file" in run(tmp_path, {}, hosts=[], merge=True)["msg"]
    (tmp_path / "reports" / "part-4711-2.jsonl").unlink()
    (tmp_path / "reports" / "part-4711-2.jsonl").symlink_to(tmp_path / "reports" / "part-4711-1.jsonl")
    assert "cannot be read" in run(tmp_path, {}, hosts=[], merge=True)["msg"]


@pytest.mark.parametrize("given, told", [
    ({"part": "../x", "id": "1"}, "falco_audit_part"),
    ({"part": "1", "id": ""}, "falco_audit_id"), ({"part": "1", "id": "a/b"}, "falco_audit_id"),
    ({"part": "1", "id": "1", "merge": True}, "both given"), ({"part": "1", "id": "1", "kind": "trial"}, "only audits have parts")])
def test_wrong_parts_are_told_before_anything_is_written(tmp_path, given, told):
    result = run(tmp_path, {"web": facts_of()}, **given)
    assert result["failed"] and told in result["msg"] and not (tmp_path / "reports").exists()


def test_a_writer_that_is_killed_leaves_no_part_of_a_part(tmp_path):
    run(tmp_path, {"web": facts_of()}, part="1", id="4711")
    child = os.fork()
    if not child:
        # All is written, and nothing has its name yet.
        falco_report.os = SimpleNamespace(**{**vars(os), "replace": lambda *dummy: os.kill(os.getpid(), signal.SIGKILL)})
        run(tmp_path, {"db": facts_of()}, part="2", id="4711")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert [name for name in names(tmp_path) if name.startswith("part-")] == ["part-4711-1.jsonl"]
    assert "falco_audit_parts is 2" in run(tmp_path, {}, hosts=[], merge=True, parts=2)["msg"]
    assert [host["name"] for host in read(run(tmp_path, {}, hosts=[], merge=True))["hosts"]] == ["web"]


def test_control_nodes_share_a_history_in_postgresql(tmp_path, server):
    run(tmp_path / "one", {"web": facts_of()}, history_dsn=server.dsn)
    result = run(tmp_path / "other", {"web": facts_of()}, history_dsn=server.dsn)
    host = read(result)["hosts"][0]
    assert host["previous"]["state"] == host["verdict"]["state"] and len(host["history"]) == 2 and "warnings" not in result
    assert "history.sqlite" not in names(tmp_path / "other")
    part = run(tmp_path / "part", {"web": facts_of()}, history_dsn=server.dsn, part="1", id="1")
    third = run(tmp_path / "third", {"web": facts_of()}, history_dsn=server.dsn)
    assert "warnings" not in part and len(read(third)["hosts"][0]["history"]) == 3


def test_a_database_that_is_gone_in_mid_audit_costs_the_comparison_alone(tmp_path, server, monkeypatch):
    run(tmp_path, {"web": facts_of()}, history_dsn=server.dsn)
    look = falco_report.postgresql.Postgres.snapshots

    def look_and_lose(self, *arguments):
        found = look(self, *arguments)
        server.halt()
        return found

    monkeypatch.setattr(falco_report.postgresql.Postgres, "snapshots", look_and_lose)
    try:
        result = run(tmp_path, {"web": facts_of()}, history_dsn=server.dsn, fail_on=["blind"])
    finally:
        server.start()
    assert not result.get("failed") and read(result)["fleet"]["ok"] == 1 and read(result)["fleet"]["since_last"]["at"] is None
    assert "the history in PostgreSQL (host 127.0.0.1" in result["warnings"][0] and result["warnings"][0] in result["summary"]


@pytest.mark.parametrize("dsn", ["postgresql://falco:s3cret@127.0.0.1:1/x?connect_timeout=2", "postgres//falco:s3cret@h", "host=h s3cret"])
@pytest.mark.parametrize("more", [{}, {"part": "1", "id": "1"}])
def test_a_wrong_dsn_is_a_warning_without_the_password(tmp_path, dsn, more):
    result = run(tmp_path, {"web": facts_of()}, history_dsn=dsn, **more)
    assert not result.get("failed") and "This audit is not kept" in result["warnings"][0] and "s3cret" not in json.dumps(result)


def test_check_mode_makes_no_schema(tmp_path, server):
    with falco_report.postgresql.Postgres(server.dsn) as past:
        past.connection.execute("DROP SCHEMA falcotune CASCADE")
    assert "warnings" not in run(tmp_path, {"web": facts_of()}, check_mode=True, history_dsn=server.dsn)
    with falco_report.postgresql.Postgres(server.dsn, writes=False) as past:
        assert past.version == 0
