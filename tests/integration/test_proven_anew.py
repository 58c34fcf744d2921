# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that somebody else changed under a tuned Falco: it is proven with them as it runs. An upgrade: Molecule, falco_upgraded_…"""

from __future__ import annotations

import os
import signal

import direct
import pytest
from conftest import falco_files, leftovers, starts_of, unit, wait_for
from playbooks import ROLLBACK, TUNE, play

ROTATE = "etc/logrotate.d/falcotune"


@pytest.fixture(scope="module")
def fleet(fleet_of):
    return fleet_of({"edited": {}, "rotate": {}, "silent": {}},
                    hostvars={"falco_tune_min_healthy_time": 1, "falco_tune_healthy_deadline": 12})


@pytest.fixture(scope="module")
def hosts(fleet):
    """Tuned hosts, whose main file was edited afterwards by somebody else."""
    found = {host.name: host for host in fleet.hosts}
    found["edited"].as_found = falco_files(found["edited"])
    assert play(TUNE, fleet.inventory).changed == set(found)
    for host in found.values():
        starts = starts_of(host)
        with open(host.root / "etc/falco/falco.yaml", "a", encoding="utf-8") as stream:
            stream.write("\n# by somebody else\n")
        wait_for(lambda host=host, least=starts: starts_of(host) > least, what="the hot reload of the edit")
    return found


def record_change(run, name):
    changes = run.result(name, "falco_config")["changes"]
    return next(change for change in changes if change["kind"] == "record")


def test_what_runs_is_proven_without_an_interruption(fleet, hosts):
    host = hosts["edited"]
    before, starts, files, kept = direct.record(host), starts_of(host), falco_files(host), host.root / "var/lib/falcotune/history"
    history = os.listdir(kept)
    check = play(TUNE, fleet.inventory, "--limit", "edited", "--check", "--diff")
    assert "falco.yaml: changed since" in record_change(check, "edited")["to"]
    shown = check.result("edited", "falco_config")["diff"]
    assert [item["before_header"] for item in shown] == ["proven"] and shown[0]["before"] != shown[0]["after"]
    assert set(shown[0]["before"].split()[::3]) == set(shown[0]["after"].split()[::3])  # the same files
    assert direct.record(host) == before

    run = play(TUNE, fleet.inventory, "--limit", "edited")
    assert run.changed == {"edited"} and "it was not interrupted" in run.output
    evidence = run.result("edited", "falco_config")["evidence"]
    assert evidence["adopted"] and evidence["interruptions"] == 0 and evidence["events"] > 0
    assert "blind_seconds_at_most" not in evidence
    after = direct.record(host)
    assert after["at"] > before["at"] and after["files"] != before["files"] and after["files"].keys() == before["files"].keys()
    assert after["written"] == before["written"] and after["attempts"] == before["attempts"] and after["before"] == before["before"]
    assert starts_of(host) == starts and falco_files(host) == files and leftovers(host) == []
    # There is nothing in it to roll back to.
    assert os.listdir(kept) == history
    assert play(TUNE, fleet.inventory, "--limit", "edited").changed == set()


def test_with_a_quiet_change_beside_it(fleet, hosts):
    host = hosts["rotate"]
    starts = starts_of(host)
    (host.root / ROTATE).unlink()
    run = play(TUNE, fleet.inventory, "--limit", "rotate")
    assert [(change["kind"], change["key"]) for change in run.result("rotate", "falco_config")["changes"]] == [
        ("record", "proven state"), ("file", "/" + ROTATE)]
    assert ROTATE not in record_change(run, "rotate")["to"]
    assert run.result("rotate", "falco_config")["evidence"]["adopted"] and (host.root / ROTATE).exists()
    assert starts_of(host) == starts and leftovers(host) == []
    assert play(TUNE, fleet.inventory, "--limit", "rotate").changed == set()


def test_what_does_not_prove_itself_is_said_and_left_as_it_is(fleet, hosts):
    host = hosts["silent"]
    before, starts, pid = direct.record(host), starts_of(host), int(unit(host)["MainPID"])
    (host.root / ROTATE).unlink()
    os.kill(pid, signal.SIGSTOP)
    try:
        run = play(TUNE, fleet.inventory, "--limit", "silent")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "no snapshot shows that it counts events" in run.failure("silent")
    assert direct.record(host) == before and starts_of(host) == starts and leftovers(host) == []
    assert not (host.root / ROTATE).exists()


def test_the_change_before_it_can_still_be_rolled_back(fleet, hosts):
    host = hosts["edited"]
    assert play(ROLLBACK, fleet.inventory, "--limit", "edited").failures == {}
    now = falco_files(host)
    edited = "etc/falco/falco.yaml"
    assert now.keys() == host.as_found.keys()
    assert {path for path in now if now[path] != host.as_found[path]} <= {path for path in now if path.endswith(edited)}
