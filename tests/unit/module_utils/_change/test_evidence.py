# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What proves that a running Falco has taken a change."""

import json
import os

import pytest

from ansible_collections.falcotune.fleet.plugins.module_utils._change import evidence
from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import rings

# As a running 0.44.1 with one ring of 16 MiB had them.
MODERN = """\
7f01d02b9000-7f01d22ba000 r--s 00001000 00:10 1038                       anon_inode:bpf-map
7f01d834e000-7f01d83fc000 r--s 00000000 00:10 1038                       anon_inode:bpf-map
7f01dbd35000-7f01dbd36000 rw-s 00000000 00:10 1038                       anon_inode:bpf-map
7f01dbd36000-7f01dbd37000 rw-s 00000000 00:10 1038                       anon_inode:bpf-map
7f01dbe00000-7f01dbe21000 rw-p 00000000 00:00 0
7ffd0a1b2000-7ffd0a1d3000 rw-p 00000000 00:00 0                          [stack]
"""
KMOD = """\
7f01d0000000-7f01d1000000 r--s 00000000 00:06 512                        /dev/falco0
7f01d1000000-7f01d1001000 rw-s 00000000 00:06 512                        /dev/falco0
7f01d2000000-7f01d3000000 r--s 00000000 00:06 513                        /dev/falco1
7f01d3000000-7f01d3001000 rw-s 00000000 00:06 513                        /dev/falco1
"""
EBPF = """\
7f01d0000000-7f01d0801000 rw-s 00000000 00:10 1038                       anon_inode:[perf_event]
7f01d0801000-7f01d1001000 rw-s 00001000 00:10 1038                       anon_inode:[perf_event]
"""


@pytest.mark.parametrize("maps,driver,found", [
    (MODERN, "modern_ebpf", {16 << 20: 1}),
    (KMOD, "kmod", {8 << 20: 2}),
    (EBPF, "ebpf", {8 << 20: 1}),
    (MODERN, "kmod", {}),
    (KMOD, "modern_ebpf", {}),
    ("", "modern_ebpf", {}),
    ("no map at all\n", "ebpf", {}),
])
def test_rings_are_seen_in_the_memory_map(maps, driver, found):
    assert rings.mapped(maps, driver, 4096) == found


def _line(**fields):
    return json.dumps({"output_fields": fields}) + "\n"


def test_only_complete_new_snapshots_of_syscalls_count(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(_line(**{"scap.n_evts": 9}))
    mark = evidence.file_mark(str(path))
    with open(path, "a", encoding="utf-8") as stream:
        stream.write(_line(**{"scap.n_evts": 0}) + "text\n" + _line(**{"evt.source": "k8s_audit"}) + '{"rule": "other"}\n[1]\n'
                     + _line(**{"scap.n_evts": 12}) + '{"output_fields": {"scap.n_evts": 99')
    assert evidence.new_snapshots(str(path), mark) == [(0, 0, 0), (12, 0, 0)]


def test_a_file_that_was_rotated_is_read_from_its_beginning(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(_line(**{"scap.n_evts": 9}) * 9)
    mark = evidence.file_mark(str(path))
    path.write_text(_line(**{"scap.n_evts": 3}))
    assert evidence.new_snapshots(str(path), mark) == [(3, 0, 0)]
    assert evidence.new_snapshots(str(tmp_path / "gone"), mark) == []


def watch(monkeypatch, wanted, nice=0, weight=None, quota="infinity"):
    """What a started Falco is found with, against what its unit was to give it."""
    found = evidence.Watch({"unit_settings": wanted, "host_root": ""}, "falco-modern-bpf.service", None, [0, 0], 0)
    found.process = type("Process", (), {"stat": lambda self: (1, 2, nice)})()
    monkeypatch.setattr(evidence.host, "cgroup", lambda root, group: {"weight": weight, "weighable": True, "throttled": None})
    found._privileged({"ControlGroup": "/a", "CPUQuotaPerSecUSec": quota})


@pytest.mark.parametrize("wanted, found", [
    ({}, {}), ({}, {"nice": 5, "quota": "500ms"}), ({"Nice": -10}, {"nice": -10}),
    ({"Nice": -10, "CPUWeight": 931}, {"nice": -10, "weight": 931}), ({"CPUQuota": ""}, {}),
])
def test_priority_that_took_effect(monkeypatch, wanted, found):
    watch(monkeypatch, wanted, **found)


@pytest.mark.parametrize("wanted, found, said", [
    ({"Nice": -10}, {"nice": 0}, "was to run at nice -10, and the process runs at 0.*CAP_SYS_NICE"),
    ({"CPUWeight": 931}, {"weight": 100}, "was to have CPUWeight 931, and its cgroup has 100"),
    ({"CPUWeight": 931}, {"weight": None}, "its cgroup has no cpu.weight"),
    ({"CPUQuota": ""}, {"quota": "500ms"}, "CPUQuota was to go, and the unit still has 50 %"),
])
def test_trap_15_a_priority_that_never_took_effect_is_no_evidence(monkeypatch, wanted, found, said):
    with pytest.raises(evidence.NoEvidence, match=said):
        watch(monkeypatch, wanted, **found)


@pytest.mark.parametrize("snapshots, percent", [
    ([], None), ([(0, 0, 9)], None), ([(500, 500, 9)], None), ([(2000, 20, 9)], 1.0), ([(2000, 20, 4)], None),
    ([(1000, 900, 1), (3000, 900, 6)], 0.0),  # a burst at the start is not held against it
    ([(100, 90, 1), (300, 90, 9)], None),
    ([(900, 90, 1), (1500, 90, 9)], 6.0), ([(900, 90, 5), (9000, 90, 9)], 1.0),  # too little after the first one: all of them
    ([(9000, 9000, 60), (100, 0, 1), (2100, 200, 9)], 10.0),  # a hot reload in between
])
def test_what_a_host_loses_after_its_change(snapshots, percent):
    assert evidence.drops_percent(snapshots) == percent


def proven(monkeypatch, tmp_path, lines, unit=None, **params):
    """A proof from what the host shows."""
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(_line(**{"scap.n_evts": events, "scap.n_drops": drops, "evt.time": 30 * 10**9, "falco.start_ts": 10**9})
                            for events, drops in lines))
    found = evidence.Watch({"host_root": str(tmp_path), "metrics_file": str(path), "drops_at_most": None, **params}, "x", None, [0, 0], 0)
    found.process = type("Process", (), {"pid": 7})()
    return found._state(unit or {}, lines[-1][0], "metrics.output_file")


def test_drops_that_are_no_worse_than_before(monkeypatch, tmp_path):
    assert proven(monkeypatch, tmp_path, [(5000, 50)], drops_at_most=1.0)["drops_percent"] == 1.0
    assert proven(monkeypatch, tmp_path, [(5000, 5000)])["drops_percent"] == 100.0  # nothing was measured before
    with pytest.raises(evidence.NoEvidence, match="loses 2.0 % of the events now, and at most 1.0 % would be no worse"):
        proven(monkeypatch, tmp_path, [(5000, 100)], drops_at_most=1.0)


def test_memory_near_its_limit_is_no_proof_and_page_cache_does_not_count(monkeypatch, tmp_path):
    unit = {"MemoryMax": "1000000", "MemoryCurrent": "990000", "ControlGroup": "/system.slice/falco.service"}
    with pytest.raises(evidence.NoEvidence, match="uses 990000 bytes of memory of its MemoryMax of 1000000"):
        proven(monkeypatch, tmp_path, [(5, 0)], unit)
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
        started = evidence.file_mark(str(self.path))
        self.write(400)
        marks = {"started": started, "proven": evidence.file_mark(str(self.path))}
        monkeypatch.setattr(evidence.systemd, "show", lambda units: [{"MainPID": "7", "ActiveState": "active"}])
        monkeypatch.setattr(evidence.host.Process, "stat", lambda process: (self.start, 0, 0))
        self.start = 55
        params = {"host_root": "", "metrics_file": str(self.path), "scrape_url": "", "interval": 0.2, "min_healthy_time": 0}
        self.look = evidence.SecondLook(params, "falco.service", {"pid": 7, "start_ticks": 55, "restarts": 0, "events": 400}, marks)

    def write(self, *events):
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write("".join(_line(**{"scap.n_evts": number}) for number in events))


def test_a_second_look_wants_counters_that_moved_on(monkeypatch, tmp_path):
    again = Again(monkeypatch, tmp_path)
    assert again.look._look()[1] == "its counters stand still at 400 since its proof"
    again.write(900)
    assert again.look._look()[0]["events"] == 900


def test_a_second_look_wants_them_to_be_written_still(monkeypatch, tmp_path):
    again = Again(monkeypatch, tmp_path)
    again.write(900)
    os.utime(again.path, (1, 1))
    assert again.look._look()[1] == "it has ceased to write metrics, 500 events after its proof"


def test_a_second_look_counts_anew_after_a_hot_reload(monkeypatch, tmp_path):
    """Rules that somebody else brought meanwhile are no failure of the change."""
    again = Again(monkeypatch, tmp_path)
    began = again.look.began = again.look.began - 3
    again.write(30)
    assert again.look._look()[1] == "its counters stand still at 30 since its proof"
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
    with pytest.raises(evidence.NoEvidence, match="stand still at 70"):
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
    with pytest.raises(evidence.NoEvidence, match="no evidence within two metrics intervals .*stand still at 400"):
        again.look.wait()
