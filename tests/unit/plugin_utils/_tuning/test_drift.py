# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import hashlib

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import drift
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import planner
from ansible_collections.falcotune.fleet.tests.unit.hosts import FOLDER, GIB, TARGET, Host, fragment

CURRENT = {"buf_size_preset": 6, "cpus_for_each_buffer": 4}


def tuned(**given):
    """A host as a first tune leaves it: what was written is on disk, loaded and remembered."""
    host = Host(cpus=32, total=256 * GIB, available=200 * GIB)
    host = host.after(planner.make(host.facts(), given))
    host.record.update(written=[TARGET], driver="modern_ebpf", version="0.44.1")
    return host


def find(host, files=None, given=None, **changes):
    facts = host.facts()
    facts["host"]["files"] = dict({path: hashlib.sha256(text.encode()).hexdigest() for path, text in host.files.items()}, **(files or {}))
    for name, value in changes.items():
        facts["falco"][name] = value
    return drift.find(facts, planner.make(facts, given or {}), CURRENT)


def only(found, kind):
    assert [item["kind"] for item in found] == [kind], found
    assert set(found[0]) == {"kind", "what", "found", "expected", "advice"} and found[0]["advice"]
    return found[0]


def test_a_host_as_the_tune_left_it_has_not_drifted():
    assert find(tuned()) == []


def test_a_host_that_was_never_tuned_can_not_drift():
    assert drift.find(Host().facts(), planner.make(Host().facts(), {}), CURRENT) == []


@pytest.mark.parametrize("now, said", [("0" * 64, "changed since"), (None, "missing")])
def test_a_file_that_is_not_as_it_was_proven(now, said):
    found = only(find(tuned(), {TARGET: now}), "disk")
    assert (found["what"], found["found"]) == (TARGET, said)


def test_a_later_fragment_that_overrides():
    facts = tuned().with_file(FOLDER + "/zzz.yaml", fragment(engine={"kind": "modern_ebpf"})).facts()
    found = [item for item in drift.find(facts, {"reason": "overridden"}) if item["kind"] == "overridden"]
    assert found[0]["what"] == "engine of " + TARGET and found[0]["found"] == "decided by %s/zzz.yaml" % FOLDER


def test_an_option_of_the_unit_that_overrides():
    facts = tuned().but(options=("engine.kind=modern_ebpf", "metrics.enabled=false")).facts()
    assert any(item["kind"] == "overridden" and item["what"] == "metrics of " + TARGET for item in drift.find(facts, {"reason": "x"}))


def test_a_driver_that_a_package_upgrade_switched():
    found = [item for item in find(tuned().but(options=("engine.kind=kmod",), unit="falco-kmod.service")) if item["kind"] == "driver"]
    assert (found[0]["found"], found[0]["expected"]) == ("kmod", "modern_ebpf") and "package upgrade" in found[0]["advice"]


def test_another_release_than_the_proven_one():
    found = [item for item in find(tuned().but(version="0.43.1")) if item["what"] == "Falco's release"]
    assert (found[0]["found"], found[0]["expected"]) == ("0.43.1", "0.44.1")


@pytest.mark.parametrize("rings, what", [
    ({"driver": "modern_ebpf", "bytes_each": 32 << 20, "count": 8}, None),
    ({"driver": "modern_ebpf", "bytes_each": 8 << 20, "count": 8}, "bytes of each ring buffer"),
    ({"driver": "modern_ebpf", "bytes_each": 32 << 20, "count": 16}, "number of ring buffers"),
    ({"driver": "kmod", "bytes_each": 32 << 20, "count": 32}, "driver"),
])
def test_rings_that_are_not_those_on_disk(rings, what):
    found = find(tuned(), rings=rings)
    assert [item["what"] for item in found] == ([what] if what else [])


def test_a_priority_that_never_took_effect():
    host = tuned().but(dropin={"Nice": "-10"}, nice=0)
    found = only(find(host), "running")
    assert (found["what"], found["found"], found["expected"]) == ("Nice of the process", 0, "-10")
    assert find(host.but(nice=-10)) == []


def test_a_policy_that_asks_for_something_else_now():
    found = only(find(tuned(), given={"buf_size_preset": 5}), "disk")
    assert (found["what"], found["found"], found["expected"]) == ("engine.modern_ebpf.buf_size_preset", 6, 5)


def test_what_evidence_proposes_is_not_drift():
    facts = tuned().facts()
    facts["host"]["files"] = dict(facts["host"]["record"]["files"])
    plan = dict(planner.make(facts, {}), step={"name": "buffers"}, changes=[{"kind": "config", "key": "engine.x", "from": 1, "to": 2,
        "why": "y"}])
    assert drift.find(facts, plan, CURRENT) == []
