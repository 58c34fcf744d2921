# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What proves that a running Falco has taken a change."""

import json

import pytest

from ansible_collections.falcotune.fleet.plugins.module_utils import evidence

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
    assert evidence.rings_mapped(maps, driver, 4096) == found


def _line(**fields):
    return json.dumps({"output_fields": fields}) + "\n"


def test_only_complete_new_snapshots_of_syscalls_count(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(_line(**{"scap.n_evts": 9}))
    mark = evidence.file_mark(str(path))
    with open(path, "a", encoding="utf-8") as stream:
        stream.write(_line(**{"scap.n_evts": 0}) + "text\n" + _line(**{"evt.source": "k8s_audit"}) + '{"rule": "other"}\n[1]\n'
                     + _line(**{"scap.n_evts": 12}) + '{"output_fields": {"scap.n_evts": 99')
    assert evidence.new_snapshots(str(path), mark) == [(0, 0), (12, 0)]


def test_a_file_that_was_rotated_is_read_from_its_beginning(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(_line(**{"scap.n_evts": 9}) * 9)
    mark = evidence.file_mark(str(path))
    path.write_text(_line(**{"scap.n_evts": 3}))
    assert evidence.new_snapshots(str(path), mark) == [(3, 0)]
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
