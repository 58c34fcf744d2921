# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What proves that a running Falco has taken a change."""

import json
import os

import pytest

from ansible_collections.falcotune.fleet.plugins.module_utils._change import evidence
from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import since

def _line(**fields):
    return json.dumps({"output_fields": fields}) + "\n"


def started(monkeypatch, wanted, nice=0, weight=None, quota="infinity"):
    """What a started Falco is found with, against what its unit was to give it."""
    found = evidence.Proof({"unit_settings": wanted, "host_root": ""}, "falco-modern-bpf.service", [0, 0], 0)
    found.process = type("Process", (), {"stat": lambda self: (1, 2, nice)})()
    monkeypatch.setattr(evidence.host, "cgroup", lambda root, group: {"weight": weight, "weighable": True, "throttled": None})
    found._privileged({"ControlGroup": "/a", "CPUQuotaPerSecUSec": quota})


@pytest.mark.parametrize("wanted, found", [
    ({}, {}), ({}, {"nice": 5, "quota": "500ms"}), ({"Nice": -10}, {"nice": -10}),
    ({"Nice": -10, "CPUWeight": 931}, {"nice": -10, "weight": 931}), ({"CPUQuota": ""}, {}),
])
def test_priority_that_took_effect(monkeypatch, wanted, found):
    started(monkeypatch, wanted, **found)


@pytest.mark.parametrize("wanted, found, said", [
    ({"Nice": -10}, {"nice": 0}, "sets Nice=-10 but the process runs at 0.*CAP_SYS_NICE"),
    ({"CPUWeight": 931}, {"weight": 100}, "sets CPUWeight=931 but the unit's cgroup has cpu.weight 100"),
    ({"CPUWeight": 931}, {"weight": None}, "the unit's cgroup has no cpu.weight"),
    ({"CPUQuota": ""}, {"quota": "500ms"}, "removes CPUQuota but the unit still has 50 %"),
])
def test_trap_15_a_priority_that_never_took_effect_is_no_evidence(monkeypatch, wanted, found, said):
    with pytest.raises(evidence.NoEvidence, match=said):
        started(monkeypatch, wanted, **found)


def proven(monkeypatch, tmp_path, lines, unit=None, **params):
    """A proof from what the host shows."""
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(_line(**{"scap.n_evts": events, "scap.n_drops": drops, "evt.time": 30 * 10**9, "falco.start_ts": 10**9})
                            for events, drops in lines))
    found = evidence.Proof({"host_root": str(tmp_path), "metrics_file": str(path), "scrape_url": "", "drops_at_most": None, **params},
        "x", [0, 0], 0)
    found.process = type("Process", (), {"pid": 7})()
    return found._state(unit or {}, *found._counted())


def test_drops_that_are_no_worse_than_before(monkeypatch, tmp_path):
    assert proven(monkeypatch, tmp_path, [(5000, 50)], drops_at_most=1.0)["drops_percent"] == 1.0
    assert proven(monkeypatch, tmp_path, [(5000, 5000)])["drops_percent"] == 100.0  # nothing was measured before
    with pytest.raises(evidence.NoEvidence, match="drops 2.0 % of the events now; the limit after this change is 1.0 %"):
        proven(monkeypatch, tmp_path, [(5000, 100)], drops_at_most=1.0)


def test_memory_near_its_limit_is_no_proof_and_page_cache_does_not_count(monkeypatch, tmp_path):
    unit = {"MemoryMax": "1000000", "MemoryCurrent": "990000", "ControlGroup": "/system.slice/falco.service"}
    with pytest.raises(evidence.NoEvidence, match="uses 990000 bytes of memory, and its limit is 1000000"):
        proven(monkeypatch, tmp_path, [(5, 0)], unit)
    # MemoryLimit= of old units, MemoryHigh=, which ends nobody, and the limit of a slice.
    for name, dead in (("MemoryLimit", True), ("MemoryHigh", False)):
        old = {name: "1000000", "MemoryMax": "infinity", "MemoryCurrent": "990000"}
        if dead:
            with pytest.raises(evidence.NoEvidence, match="its limit is 1000000"):
                proven(monkeypatch, tmp_path, [(5, 0)], old)
        else:
            assert proven(monkeypatch, tmp_path, [(5, 0)], old)["pid"] == 7
    inside = tmp_path / "sys/fs/cgroup/small.slice"
    inside.mkdir(parents=True)
    (inside / "memory.max").write_text("1000000\n")
    with pytest.raises(evidence.NoEvidence, match="its limit is 1000000"):
        proven(monkeypatch, tmp_path, [(5, 0)], {"MemoryCurrent": "990000", "ControlGroup": "/small.slice/falco.service"})
    folder = tmp_path / "sys/fs/cgroup/system.slice/falco.service"
    folder.mkdir(parents=True)
    (folder / "memory.stat").write_text("anon 500000\ninactive_file 200000\n")
    assert proven(monkeypatch, tmp_path, [(5, 0)], unit)["pid"] == 7
    assert proven(monkeypatch, tmp_path, [(5, 0)], {"MemoryMax": "infinity", "MemoryCurrent": "[not set]"})["pid"] == 7


class Again:
    """A second look at a Falco of which the test says how it is."""

    def __init__(self, monkeypatch, tmp_path):
        self.path = tmp_path / "metrics.jsonl"
        self.write(0, 10)
        started = since.file_mark(str(self.path))
        self.write(400)
        marks = {"started": started, "proven": since.file_mark(str(self.path))}
        monkeypatch.setattr(evidence.systemd, "show", lambda units: [{"MainPID": "7", "ActiveState": "active"}])
        monkeypatch.setattr(evidence.processes.Process, "stat", lambda process: (self.start, 0, 0))
        self.start = 55
        params = {"host_root": "", "metrics_file": str(self.path), "scrape_url": "", "interval": 0.2, "min_healthy_time": 0}
        self.look = evidence.SecondLook(params, "falco.service", {"pid": 7, "start_ticks": 55, "restarts": 0, "events": 400}, marks)

    def write(self, *events):
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write("".join(_line(**{"scap.n_evts": number}) for number in events))


def test_a_second_look_wants_counters_that_moved_on(monkeypatch, tmp_path):
    again = Again(monkeypatch, tmp_path)
    assert again.look._look()[1] == "its counters have stood still at 400 since its proof"
    again.write(900)
    assert again.look._look()[0]["events"] == 900


def test_a_second_look_wants_them_to_be_written_still(monkeypatch, tmp_path):
    again = Again(monkeypatch, tmp_path)
    again.write(900)
    os.utime(again.path, (1, 1))
    assert again.look._look()[1] == "it stopped writing metrics, 500 events after its proof"


def test_a_second_look_counts_anew_after_a_hot_reload(monkeypatch, tmp_path):
    """Rules that somebody else brought meanwhile are no failure of the change."""
    again = Again(monkeypatch, tmp_path)
    began = again.look.began = again.look.began - 3
    again.write(30)
    assert again.look._look()[1] == "its counters have stood still at 30 since its proof"
    assert again.look.began > began + 2.9  # with all of its time
    assert again.look._look()[0] is None
    again.write(60)
    assert again.look._look()[0]["events"] == 60


def test_a_second_look_does_not_wait_for_reload_after_reload(monkeypatch, tmp_path):
    again = Again(monkeypatch, tmp_path)
    for number in (90, 80, 70, 60, 50):
        again.write(number)
        assert again.look._look()[0] is None
    assert again.look.events == 70 and again.look.reloads == 3
    with pytest.raises(evidence.NoEvidence, match="stood still at 70"):
        again.look.wait()


def test_a_second_look_wants_the_same_process(monkeypatch, tmp_path):
    again = Again(monkeypatch, tmp_path)
    again.write(900)
    again.start = 56
    with pytest.raises(evidence.Died, match="Falco started and died"):
        again.look._look()


def test_a_second_look_ends_after_two_intervals(monkeypatch, tmp_path):
    again = Again(monkeypatch, tmp_path)
    again.look.params["healthy_deadline"] = 0
    with pytest.raises(evidence.NoEvidence, match="no evidence within two metrics intervals .*stood still at 400"):
        again.look.wait()


@pytest.mark.parametrize("params, reason", [
    ({"metrics_file": "", "scrape_url": ""}, "metrics are off"),
    ({"metrics_file": "/nonexistent", "scrape_url": "", "counters": False}, "falco_tune_evidence is process"),
])
def test_a_process_alone_is_a_basis_of_its_own_with_the_reason(params, reason):
    look = evidence.Proof({"host_root": "", **params}, "falco.service", [0, 0], 0)
    assert look._counted() == (0, {"basis": "process", "source": None, "reason": reason})


def test_counters_that_moved_are_the_basis_with_their_source(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(_line(**{"scap.n_evts": 9}))
    look = evidence.Proof({"host_root": "", "metrics_file": str(tmp_path / "metrics.jsonl"), "scrape_url": ""}, "x", [0, 0], 0)
    assert look._counted() == (9, {"basis": "counters", "source": "metrics.output_file", "reason": None})
    look.params["metrics_file"] = "/nonexistent"
    assert look._counted() == (None, None)


def test_a_scrape_counts_once_its_counter_has_moved(monkeypatch):
    answers = [None, 5, 5, 7]
    monkeypatch.setattr(evidence.prometheus, "events", lambda url: answers.pop(0))
    look = evidence.Proof({"host_root": "", "metrics_file": "", "scrape_url": "http://127.0.0.1:8765/metrics"}, "x", [0, 0], 0)
    assert [look._counted()[0] for _number in range(4)] == [None, None, None, 7]
