# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several jobs audit parts of a fleet, one job merges them, and the next job of a workflow gets the numbers."""

from __future__ import annotations

import concurrent.futures
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from playbooks import AUDIT, ROOT, environment, play
from postgresql import PostgreSQL

sys.path[:0] = [str(ROOT / "build" / "collections"), str(ROOT / "tests" / "benchmarks")]

import synthetic_audit  # noqa: E402
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report.history import History  # noqa: E402
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report.postgresql import Postgres  # noqa: E402

MERGE = "falcotune.fleet.merge_audits"
HOSTS = {"calm": {}, "quiet": {}, "stopped": {"running": False}, "other": {}}
# What AWX gives to a job of a sliced job template: nothing of its slice, but a workflow of the template's name.
SLICED = {"awx_job_template_name": "Audit Falco", "awx_workflow_job_name": "Audit Falco", "awx_workflow_job_id": 4711}


@pytest.fixture(scope="module")
def fleet(fleet_of):
    return fleet_of(HOSTS)


def audit(fleet, folder, *words, **given):
    return play(AUDIT, fleet.inventory, "-e", json.dumps({"falco_audit_report_dir": str(folder), **given}), *words,
                ANSIBLE_SHOW_CUSTOM_STATS="true")


def merge(fleet, folder, **given):
    return play(MERGE, fleet.inventory, "-e", json.dumps({"falco_audit_report_dir": str(folder), **given}),
                ANSIBLE_SHOW_CUSTOM_STATS="true")


def report(folder):
    return json.loads((folder / "report.json").read_text())


def test_slices_of_awx_are_merged_into_one_report_with_one_exit_status(fleet, tmp_path):
    policy = {"falco_audit_fail_on": ["blind"]}
    whole = audit(fleet, tmp_path / "whole", **policy)
    for number, names in enumerate(("calm,stopped", "other,quiet")):
        run = audit(fleet, tmp_path / "parts", "-l", names, awx_job_id=90 + number, **SLICED, **policy)
        # The exit status is that of the whole audit.
        assert run.status == 0 and "falco_audit_id: 4711" in run.output or '"falco_audit_id": "4711"' in run.output, run.output
    assert {path.name for path in (tmp_path / "parts").iterdir()} == {"part-4711-90.jsonl", "part-4711-91.jsonl"}
    run = merge(fleet, tmp_path / "parts", falco_audit_parts=3)
    assert run.status == 2 and "falco_audit_parts is 3" in run.output
    run = merge(fleet, tmp_path / "parts", falco_audit_parts=2, falco_audit_id="4711")
    assert run.status == whole.status == 2 and "1 host is blind" in run.output
    one, many = report(tmp_path / "whole"), report(tmp_path / "parts")
    assert [host["name"] for host in many["hosts"]] == sorted(HOSTS) and many["policy"] == one["policy"]
    for name in ("headline", "hosts", "states", "breaches", "bottlenecks", "next_steps", "restart_required"):
        assert many["fleet"][name] == one["fleet"][name], name
    for mine, theirs in zip(many["hosts"], one["hosts"]):
        for name in ("name", "status", "reason", "release", "driver", "buffers", "plan", "drift"):
            assert mine[name] == theirs[name], name
    assert "headline" in run.output and not list((tmp_path / "parts").glob("part-*"))


def test_a_second_audit_compares_with_the_merged_one(fleet, tmp_path):
    for offset in (1, 2):
        for part, names in (("a", "calm,stopped"), ("b", "other,quiet")):
            assert audit(fleet, tmp_path, "-l", names, falco_audit_part=part, falco_audit_id=str(offset)).status == 0
        assert merge(fleet, tmp_path).status == 0
    found = report(tmp_path)
    assert found["fleet"]["since_last"]["at"] and found["fleet"]["since_last"]["new"] == found["fleet"]["since_last"]["gone"] == []
    assert {len(host["history"]) for host in found["hosts"]} == {2}


def test_a_job_of_another_workflow_is_no_part(fleet, tmp_path):
    run = audit(fleet, tmp_path, "-l", "calm", awx_job_id=7, **{**SLICED, "awx_workflow_job_name": "Nightly"})
    assert run.status == 0 and (tmp_path / "report.json").exists()


# -- slices by workers of ansible-runner, as AWX and receptor start them

SLICES = 8
# Hosts of a slice: FALCOTUNE_SLICE=1250 makes 10 000.
EACH = int(os.environ.get("FALCOTUNE_SLICE", "12"))
# What the hosts answered is in the inventory. All else of an audit is as it is.
REPORT = """\
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.import_role:
        name: falcotune.fleet.audit
        tasks_from: report
        rolespec_validate: false
"""
MERGING = "- ansible.builtin.import_playbook: falcotune.fleet.merge_audits\n"


def answered(host: dict) -> dict:
    """What falco_facts returned of a host."""
    if host["status"] == "ok":
        found = {key: value for key, value in host.items() if key not in ("name", "status", "reason", "history", "previous") and value}
        return {"changed": False, "began": synthetic_audit.NOW - 40.0, "entry": {"status": "ok", **found}}
    return {host["status"]: True, "msg": host["reason"]}


def job(folder: Path, playbook: str, hosts: list[dict], **given) -> Path:
    """What AWX sends to an execution node: a directory with inventory, project and variables."""
    for name in ("inventory", "project", "env"):
        (folder / name).mkdir(parents=True)
    tree = {"all": {"hosts": {host["name"]: {"__falco_audit_gathered": answered(host)} for host in hosts}}}
    (folder / "inventory" / "hosts.json").write_text(json.dumps(tree))
    (folder / "project" / "job.yml").write_text(playbook)
    (folder / "env" / "extravars").write_text(json.dumps(given))
    return folder


def run_by_a_worker(folder: Path) -> tuple[str, int]:
    """(status, exit status) of a job that was transmitted, worked off and processed, each by a process of its own."""
    runner = [sys.executable, "-m", "ansible_runner"]
    env = environment(PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    sent, returned = folder.with_suffix(".sent"), folder.with_suffix(".returned")
    with sent.open("wb") as out:
        subprocess.run([*runner, "transmit", str(folder), "-p", "job.yml"], check=True, stdout=out, env=env)
    with sent.open("rb") as given, returned.open("wb") as out:
        subprocess.run([*runner, "worker"], check=False, stdin=given, stdout=out, env=env)
    with returned.open("rb") as given:
        subprocess.run([*runner, "process", str(folder)], check=False, stdin=given, stdout=subprocess.DEVNULL, env=env)
    done = folder / "artifacts"
    return (done / "status").read_text(), int((done / "rc").read_text())


def content(folder: Path) -> tuple[dict, str, list[str]]:
    """(the report, the CSV, the metrics) but for the time of the audit."""
    model = report(folder)
    assert model.pop("made_at") and model.pop("seconds") > 0
    for row in [*model["fleet"]["way"], *(row for host in model["hosts"] for row in host["history"])]:
        row[0] = None
    metrics = (folder / "falcotune.prom").read_text().splitlines()
    timed = ("falcotune_audit_timestamp_seconds ", "falcotune_audit_duration_seconds ")
    return model, (folder / "report.csv").read_text(), [line for line in metrics if not line.startswith(timed)]


def history_of(folder: Path, dsn: str | None) -> dict:
    """All that is kept of an audit but its time. It is the same in a file and in a server."""
    with Postgres(dsn) if dsn else History(folder / "history.sqlite") as kept:
        last = kept.last()
        series, snapshots = kept.series(list(last)), kept.snapshots(list(last))
    for host in last.values():
        host.update(at=bool(host["at"]), seen=bool(host["seen"]))
    assert {len(rows) for rows in series.values()} <= {0, 1}  # a host that was not reached has no point
    return {"last": last, "series": {name: [row[1:] for row in rows] for name, rows in series.items()}, "snapshots": snapshots}


@pytest.mark.skipif(importlib.util.find_spec("ansible_runner") is None, reason="there is no ansible-runner: pip install ansible-runner")
def test_slices_by_eight_workers_are_the_audit_of_one_job_in_both_histories(tmp_path):
    results = synthetic_audit.audit_results(SLICES * EACH, history=0)
    server = PostgreSQL(fsync="off") if PostgreSQL.there() else None
    if server:
        server.start()
    try:
        slices = [job(tmp_path / f"slice-{number}", REPORT, results[number::SLICES], falco_audit_report_dir=str(tmp_path / "parts"),
                      awx_job_id=90 + number, **SLICED) for number in range(SLICES)]
        with concurrent.futures.ThreadPoolExecutor(SLICES) as workers:
            assert set(workers.map(run_by_a_worker, slices)) == {("successful", 0)}
        assert len(list((tmp_path / "parts").glob("part-4711-*.jsonl"))) == SLICES
        kept = []
        for dsn in (None, server.dsn) if server else (None,):
            store = {"falco_audit_history_dsn": dsn} if dsn else {}
            many, one = (tmp_path / f"{name}-{'server' if dsn else 'file'}" for name in ("many", "one"))
            shutil.copytree(tmp_path / "parts", many)
            store["falco_audit_report_dir"] = str(many)
            merging = job(tmp_path / f"job-{many.name}", MERGING, [], falco_audit_parts=SLICES, **store)
            assert run_by_a_worker(merging) == ("successful", 0)
            kept.append(history_of(many, dsn))
            if dsn:
                server.empty()
            store["falco_audit_report_dir"] = str(one)
            assert run_by_a_worker(job(tmp_path / f"job-{one.name}", REPORT, results, **store)) == ("successful", 0)
            kept.append(history_of(one, dsn))
            assert content(many) == content(one)
        assert all(item == kept[0] for item in kept) and set(kept[0]["last"]) == {host["name"] for host in results}
        assert len(kept[0]["snapshots"]) > SLICES * EACH / 2
    finally:
        if server:
            server.stop()
