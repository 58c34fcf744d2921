# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import buffers, policies
from hypothesis import given
from hypothesis import strategies as st

MIB, GIB = 1 << 20, 1 << 30
PLENTY = {"total": 4096 * GIB, "available": 4000 * GIB, "limit": None, "used": None}


def choose(driver="modern_ebpf", online=8, memory=PLENTY, current=None, page_size=4096, settled=False, **given):
    machine = buffers.Machine(driver, online, memory, page_size)
    return buffers.choose(machine, policies.buffer_policy(policies.complete(given)), current, settled)


def values(chosen):
    return chosen["buf_size_preset"], chosen["cpus_for_each_buffer"]


@pytest.mark.parametrize("wanted, groups, one_ring, memory, found", [
    (1, [2], False, PLENTY, (5, 2)),
    (400 * MIB, [2], False, PLENTY, (8, 2)),   # 4 rings of 128 MiB instead of 8
    (40 * GIB, [2], False, PLENTY, (10, 2)),   # the largest there are
    (200 * MIB, [2], True, PLENTY, (9, 2)),    # one ring of them has to hold it
    (200 * MIB, [2, 4, 6], True, PLENTY, (9, 4)),  # two rings as 4 or 6 CPUs share one: the fewer
    (200 * MIB, [2, 4], True, {"total": 20 * GIB, "available": None}, (8, 4)),   # no room for 256 MiB: the most there is, in the fewest
    (1, [2], False, {"total": GIB, "available": None}, None),
])
def test_the_least_memory_that_holds_a_burst(wanted, groups, one_ring, memory, found):
    machine = buffers.Machine("modern_ebpf", 8, memory)
    policy = policies.buffer_policy(policies.complete({}))
    now = {"buf_size_preset": 4, "cpus_for_each_buffer": 2}
    rings = buffers.holding(machine, policy, now, wanted, groups, one_ring)
    assert (rings and values(rings)) == found


@given(wanted=st.floats(0, 1e10), online=st.integers(1, 128), preset=st.integers(1, 10), group=st.integers(0, 8), one_ring=st.booleans(),
       total=st.integers(1, 1 << 42))
def test_rings_for_a_burst_are_larger_and_within_the_budget(wanted, online, preset, group, one_ring, total):
    machine = buffers.Machine("modern_ebpf", online, {"total": total, "available": None})
    policy = policies.buffer_policy(policies.complete({}))
    now = {"buf_size_preset": preset, "cpus_for_each_buffer": group}
    rings = buffers.holding(machine, policy, now, wanted, [group, 2, 6], one_ring)
    if rings:
        new = buffers.layout("modern_ebpf", online, rings["buf_size_preset"], rings["cpus_for_each_buffer"])
        assert rings["buf_size_preset"] > preset and new["bytes_at_load"] <= buffers.budget(machine.memory, policy)["bytes"]


@pytest.mark.parametrize("preset, size", [(1, MIB), (2, 2 * MIB), (4, 8 * MIB), (6, 32 * MIB), (7, 64 * MIB), (10, 512 * MIB)])
def test_preset_bytes(preset, size):
    assert buffers.preset_bytes(preset) == size


@pytest.mark.parametrize("preset, page_size, legal", [
    (1, 4096, True), (10, 4096, True), (0, 4096, False), (11, 4096, False), (1, 65536, True), (1, 512 * 1024, False), (2, 512 * 1024, True),
    (3, 3 * 4096, False),
])
def test_legal_preset(preset, page_size, legal):
    assert buffers.legal_preset(preset, page_size) is legal


@pytest.mark.parametrize("driver, online, group, count", [
    ("kmod", 1, None, 1), ("kmod", 96, None, 96), ("ebpf", 96, 4, 96),
    ("modern_ebpf", 8, 2, 4), ("modern_ebpf", 9, 2, 5), ("modern_ebpf", 8, 0, 1), ("modern_ebpf", 8, 8, 1), ("modern_ebpf", 8, 500, 1),
    ("modern_ebpf", 8, 1, 8), ("modern_ebpf", 8, None, 4), ("modern_ebpf", 1, 2, 1), ("modern_ebpf", 5, 4, 2),
])
def test_count(driver, online, group, count):
    assert buffers.count(driver, online, group) == count


@pytest.mark.parametrize("driver, at_load", [("kmod", 8 * 32), ("ebpf", 8 * 32), ("modern_ebpf", 2 * 32 + 32)])
def test_layout(driver, at_load):
    found = buffers.layout(driver, 8, 6, 4)
    assert found["bytes_at_load"] == at_load * MIB
    assert found["bytes_total"] == found["count"] * found["bytes_each"] and found["bytes_each"] == 32 * MIB


@pytest.mark.parametrize("driver, preset, group, seconds", [
    # 32 MiB / (3000 events/s on one CPU x 80 bytes)
    ("kmod", 6, None, 32 * MIB / (3000 * 80)),
    ("modern_ebpf", 6, 4, 32 * MIB / (4 * 3000 * 80)),
    ("modern_ebpf", 6, 0, 32 * MIB / (8 * 3000 * 80)),
    ("modern_ebpf", 6, 99, 32 * MIB / (8 * 3000 * 80)),
])
def test_seconds_bridged(driver, preset, group, seconds):
    assert buffers.seconds_bridged(driver, 8, preset, group, 3000) == pytest.approx(seconds)


def test_seconds_bridged_of_an_idle_host_is_no_division_by_zero():
    assert buffers.seconds_bridged("kmod", 1, 1, None, 0) == MIB / 80.0


@pytest.mark.parametrize("driver, online, preset, group", [
    ("kmod", 1, 4, None), ("kmod", 15, 4, None), ("kmod", 16, 5, None), ("kmod", 63, 5, None), ("kmod", 64, 6, None),
    ("kmod", 1024, 6, None),
    ("ebpf", 15, 4, None), ("ebpf", 16, 5, None), ("ebpf", 64, 6, None),
    ("modern_ebpf", 2, 4, 2), ("modern_ebpf", 15, 4, 2), ("modern_ebpf", 16, 6, 4), ("modern_ebpf", 63, 6, 4), ("modern_ebpf", 64, 7, 6),
    ("modern_ebpf", 1, 4, 1),  # never more CPUs than are online
])
def test_classes_of_the_guide(driver, online, preset, group):
    chosen = choose(driver, online)
    assert values(chosen) == (preset, group)
    assert "the class of machines from" in chosen["reasons"][0]


@pytest.mark.parametrize("given, result, reason", [
    ({"buf_size_preset": 9}, (9, 2), "preset 9 is set by policy"),
    ({"cpus_for_each_buffer": 0}, (4, 0), "0 CPUs for each buffer is set by policy"),
    ({"cpus_for_each_buffer": 100}, (4, 8), "100 CPUs for each buffer is more than the 8 online"),
])
def test_policy_decides(given, result, reason):
    chosen = choose(**given)
    assert values(chosen) == result
    assert any(reason in text for text in chosen["reasons"])


def test_kmod_has_no_groups_whatever_the_policy_says():
    assert values(choose("kmod", cpus_for_each_buffer=4)) == (4, None)


def test_own_classes():
    classes = [dict(item, modern_ebpf=item["modern_ebpf"] + 1) for item in buffers.DEFAULT_CLASSES]
    assert values(choose(online=64, buffer_classes=classes)) == (8, 6)


def test_no_class_for_the_machine_is_refused():
    with pytest.raises(buffers.BufferError, match="no buffer class for 8 CPUs"):
        buffers.choose(buffers.Machine("kmod", 8, PLENTY), dict(
            policies.buffer_policy(policies.complete({})), classes=[{"min_cpus": 9, "kmod": 4}]))


@pytest.mark.parametrize("memory, given, size, bound", [
    ({"total": 100 * GIB, "available": 90 * GIB}, {}, 2 * GIB, "2 % of 100 GiB"),
    ({"total": 100 * GIB, "available": 10 * GIB}, {}, 1 * GIB, "10 % of the 10 GiB available"),
    ({"total": 100 * GIB, "limit": 600 * MIB, "used": 100 * MIB}, {}, 500 * MIB, "the unit's memory limit of 600 MiB less what Falco uses"),
    ({"total": 100 * GIB, "limit": 100 * MIB, "used": 200 * MIB}, {}, 0, "memory limit"),
    ({"total": 100 * GIB}, {"buffer_max_bytes": 64 * MIB}, 64 * MIB, "buffer_max_bytes"),
    ({"total": 100 * GIB}, {"memory_share_percent": 50}, 50 * GIB, "50 % of 100 GiB"),
    ({"total": None, "available": 0}, {}, 0, "10 % of the 0 B available"),
    ({}, {}, None, "unknown: the host's memory could not be read"),
])
def test_budget(memory, given, size, bound):
    found = buffers.budget(memory, policies.buffer_policy(policies.complete(given)))
    assert found["bytes"] == size and bound in found["bound"]


def test_where_the_budget_binds_the_next_smaller_preset_is_taken_and_said():
    # 64 CPUs, class 7 with 6 CPUs: 11 rings, 12 while loading = 768 MiB; 400 MiB hold presets up to 6.
    chosen = choose(online=64, memory={"total": 20000 * MIB})
    assert values(chosen) == (6, 6)
    assert chosen["bytes_at_load"] == 12 * 32 * MIB <= chosen["budget"]["bytes"] == 400 * MIB
    assert chosen["reasons"][-1] == "the budget of 400 MiB (2 % of 19.5 GiB) binds: preset 6 instead of 7"


def test_where_no_preset_fits_the_error_says_what_to_do():
    with pytest.raises(buffers.BufferError, match=(
            r"no buffers fit the budget of 10\.2 MiB \(2 % of 512 MiB\): preset 1 on 64 CPUs takes 64 MiB with kmod while it loads; "
            "raise the budget, or let more CPUs share a buffer")):
        choose("kmod", 64, {"total": 512 * MIB})


def test_a_preset_of_the_policy_that_does_not_fit_is_refused_not_lowered():
    with pytest.raises(buffers.BufferError, match=(
            r"preset 10 on 8 CPUs takes 2\.5 GiB with modern_ebpf while it loads; "
            "raise the budget or lower the preset that the policy sets")):
        choose(memory={"total": 8 * GIB}, buf_size_preset=10)


@pytest.mark.parametrize("current, given, result", [
    ({"buf_size_preset": 8, "cpus_for_each_buffer": 2}, {}, (8, 2)),
    ({"buf_size_preset": 8, "cpus_for_each_buffer": 2}, {"keep_larger_buffers": False}, (4, 2)),
    ({"buf_size_preset": 8, "cpus_for_each_buffer": 2}, {"buf_size_preset": 5}, (5, 2)),
    ({"buf_size_preset": 3, "cpus_for_each_buffer": 2}, {}, (4, 2)),
    # The same time bridged is not larger.
    ({"buf_size_preset": 5, "cpus_for_each_buffer": 4}, {}, (4, 2)),
    ({"buf_size_preset": 5, "cpus_for_each_buffer": 2}, {"cpus_for_each_buffer": 4}, (5, 4)),
    ({"buf_size_preset": 9, "cpus_for_each_buffer": 99}, {}, (9, 8)),
    ({"buf_size_preset": 11, "cpus_for_each_buffer": 2}, {}, (4, 2)),
])
def test_keep_larger(current, given, result):
    chosen = choose(current=current, **given)
    assert values(chosen) == result
    assert any("larger already" in text for text in chosen["reasons"]) is (result[0] == current["buf_size_preset"])


def test_larger_buffers_that_do_not_fit_the_budget_are_not_kept():
    chosen = choose(memory={"total": 4 * GIB}, current={"buf_size_preset": 8, "cpus_for_each_buffer": 2})
    assert values(chosen) == (4, 2)


@pytest.mark.parametrize("settled, current, preset", [
    (False, 5, 6),  # fits: 5 rings of 32 MiB = 160 MiB of 170 MiB
    (True, 5, 5),   # but not with a quarter to spare, so an earlier choice stays
    (True, 6, 6),   # what is there and fits is not shrunk either
    (True, 7, 6),
])
def test_a_settled_choice_grows_only_with_a_quarter_of_the_budget_to_spare(settled, current, preset):
    chosen = choose(online=16, memory={"total": 170 * MIB * 50}, settled=settled,
                    current={"buf_size_preset": current, "cpus_for_each_buffer": 4})
    assert values(chosen) == (preset, 4)
    assert any("binds" in text for text in chosen["reasons"]) is (preset < 6)


def test_a_settled_choice_grows_where_there_is_room():
    assert values(choose(online=16, settled=True, current={"buf_size_preset": 4, "cpus_for_each_buffer": 4})) == (6, 4)


def test_large_pages_raise_the_smallest_preset():
    # 1 MiB is not more than two pages of 512 KiB.
    with pytest.raises(buffers.BufferError):
        choose("kmod", 8, PLENTY, page_size=512 * 1024, buf_size_preset=1)


@given(
    driver=st.sampled_from(["kmod", "ebpf", "modern_ebpf"]), online=st.integers(1, 1024), total=st.integers(0, 4096 * GIB),
    share=st.floats(0, 1), limit=st.none() | st.integers(1, 64 * GIB), preset=st.just("auto") | st.integers(1, 10),
    group=st.just("auto") | st.integers(0, 2000), settled=st.booleans(),
    current=st.none() | st.tuples(st.integers(1, 10), st.integers(0, 2000)),
)
def test_a_choice_fits_its_budget_or_is_refused(driver, online, total, share, limit, preset, group, settled, current):
    memory = {"total": total, "available": int(total * share), "limit": limit, "used": 0}
    current = current and {"buf_size_preset": current[0], "cpus_for_each_buffer": current[1] if driver == "modern_ebpf" else None}
    try:
        chosen = choose(driver, online, memory, current, settled=settled, buf_size_preset=preset, cpus_for_each_buffer=group)
    except buffers.BufferError as error:
        assert "no buffers fit the budget of" in str(error)
        return
    if total:
        assert chosen["bytes_at_load"] <= total * 2 // 100
    assert chosen["bytes_at_load"] <= int(total * share) * 10 // 100
    if limit:
        assert chosen["bytes_at_load"] <= limit
    assert 1 <= chosen["buf_size_preset"] <= 10
    assert preset in ("auto", chosen["buf_size_preset"])
    assert (chosen["cpus_for_each_buffer"] is None) is (driver != "modern_ebpf")
    assert chosen["cpus_for_each_buffer"] is None or chosen["cpus_for_each_buffer"] <= online
