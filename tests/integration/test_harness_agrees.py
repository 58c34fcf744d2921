# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fault harness of tests/faults, on virtual time, and a stand-in host in real time end in the same state after the same faults."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

import direct
from conftest import ROOT, counts_on, falco_files, leftovers, unit, wait_for
from playbooks import COLLECTIONS
from test_interrupted import killed_in

PHASES = ("kept", "stopping", "stopped", "swapped", "started")
VICTIMS = ("worker", "everyone")
CASES = [f"{phase}:{victim}" for victim in VICTIMS for phase in PHASES]
# The timer fires 30 s after it was set, and undo.sh gives a Falco that is down 15 s more. Stand-in hosts are slower than virtual time.
SECONDS = 75


@pytest.fixture(scope="module")
def harness(tmp_path_factory):
    command = [sys.executable, str(ROOT / "tests/faults/killed.py"), str(tmp_path_factory.mktemp("harness")), str(SECONDS), *CASES]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(COLLECTIONS)}, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def found(fleet_of):
    """The same on stand-in hosts, all at once."""
    fleet = fleet_of({case.replace(":", "-"): {"cpus": 16, "memory": "64G", "load": {"events_per_second": 200}} for case in CASES})
    hosts = {case: next(host for host in fleet.hosts if host.name == case.replace(":", "-")) for case in CASES}
    results, before, new = {}, {}, {}
    for case, host in hosts.items():
        wait_for(lambda host=host: counts_on(host), what=f"a start of {host.name}")
        assert direct.finished(direct.change(host, falco_tune_buf_size_preset=5))["changed"]
        before[case] = falco_files(host)
    for case, host in hosts.items():
        phase, victim = case.split(":")
        # Long enough a proof that a kill in the last phase does not come after its end.
        process = killed_in(host, phase, victim, falco_tune_buf_size_preset=6, falco_tune_min_healthy_time=8)
        answer = direct.finished(process) if victim == "worker" else process.wait() and None
        results[case] = {"undone": answer and answer.get("undone")}
    time.sleep(SECONDS)
    for case, host in hosts.items():
        results[case].update(files="old" if falco_files(host) == before[case] else "new", runs=unit(host)["ActiveState"] == "active")
    for case, host in hosts.items():
        for _run in range(4):
            answer = direct.finished(direct.change(host, falco_tune_buf_size_preset=6))
            if not answer.get("failed"):
                break
        new[case] = falco_files(host)
        whole = not answer.get("failed") and unit(host)["ActiveState"] == "active" and leftovers(host) == []
        results[case]["then"] = "new" if whole else [answer, leftovers(host)]
    # All hosts are configured alike: their fragments must be, too.
    assert len({files["etc/falco/config.d/zz-falcotune.yaml"] != before[case]["etc/falco/config.d/zz-falcotune.yaml"]
                for case, files in new.items()}) == 1
    return results


@pytest.mark.parametrize("case", CASES)
def test_both_end_in_the_same_state(case, harness, found):
    assert found[case] == harness[case]
    assert found[case]["runs"] and found[case]["then"] == "new"
