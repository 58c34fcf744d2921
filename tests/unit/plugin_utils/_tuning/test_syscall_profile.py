# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the kernel's names and counts to Falco's names and rates; a host may send anything."""

import json

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import (
    releases, selections, syscall_names,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import syscall_profile
from ansible_collections.falcotune.fleet.tests.unit import hostile
from hypothesis import given
from hypothesis import strategies as st

PROFILE = {"means": "tracefs", "seconds": 2.0, "reason": None, "notes": ["one"], "counts": {
    "openat": 2000, "pread64": 10, "accept4": 6, "accept": 4, "sched_process_exit": 8, "umount2": 2, "getppid": 20, "sendfile": 2,
    "sendfile64": 4, "syscall_600": 12, "listns": 2},
    "callers": {"openat": {"uids": [[33, 1500], [0, 300]], "cgroups": [["/system.slice/a\n.service", 1800]], "unknown": 200},
                "listns": {"uids": [[0, 2]], "cgroups": [["/", 2]], "unknown": 0}, "pread64": {"uids": "x", "unknown": -1}}}


def test_rates_by_the_names_that_rules_use():
    found = syscall_profile.read(PROFILE)
    assert found == {
        "means": "tracefs", "seconds": 2.0, "reason": None, "notes": ["one"],
        "per_second": {"openat": 1000.0, "pread": 5.0, "accept4": 3.0, "accept": 2.0, "procexit": 4.0, "umount2": 1.0, "getppid": 10.0,
                       "sendfile": 3.0, "listns": 1.0},
        "unwatchable": {"syscall_600": 6.0}, "total_per_second": 1035.0,
        "callers": {"openat": {"uids": {"33": 750.0, "0": 150.0}, "cgroups": {"/system.slice/a .service": 900.0}, "unknown": 100.0},
                    "listns": {"uids": {"0": 1.0}, "cgroups": {"/": 1.0}, "unknown": 0.0},
                    "pread": {"uids": {}, "cgroups": {}, "unknown": None}}}
    assert list(found["per_second"]) == sorted(found["per_second"])


def test_a_release_names_what_it_can_watch():
    found = syscall_profile.read(PROFILE, "0.43.0")
    assert found["unwatchable"] == {"listns": 1.0, "syscall_600": 6.0} and "listns" not in found["per_second"]
    assert syscall_profile.read(PROFILE, releases.release_for("0.44.1")) == syscall_profile.read(PROFILE)
    assert syscall_profile.read(PROFILE, "0.99.0") == syscall_profile.read(PROFILE)


@pytest.mark.parametrize("release", ["0.34.1", "0.20.0", "new"])
def test_a_release_that_cannot_choose(release):
    with pytest.raises(releases.UnsupportedRelease):
        syscall_profile.read(PROFILE, release)


def test_the_rate_of_a_selection_is_a_sum_over_its_names():
    names = syscall_names.names_for("0.44.1")
    profile = dict(PROFILE, counts=dict.fromkeys(names.kernel, 2))
    found = syscall_profile.read(profile)
    assert found["total_per_second"] == len(names.kernel) and not found["unwatchable"]
    chosen = selections.select("0.44.1", ["openat", "accept", "accept4", "pread"], ["openat", "accept", "accept4", "fcntl"])
    assert sum(found["per_second"].get(name, 0) for name in chosen["selected"]) == len(chosen["kernel"])


def test_why_there_is_none():
    found = syscall_profile.read({"means": None, "seconds": None, "counts": {}, "reason": "tracefs: no", "notes": []})
    assert found == {"means": None, "seconds": None, "reason": "tracefs: no", "notes": [], "per_second": {}, "unwatchable": {},
                     "callers": {}, "total_per_second": None}


@pytest.mark.parametrize("profile", [
    *hostile.VALUES, {}, {"counts": {"read": 1}}, dict(PROFILE, means="ptrace"), dict(PROFILE, means=["tracefs"]), dict(PROFILE, means={}),
    dict(PROFILE, seconds=0), dict(PROFILE, seconds=True), dict(PROFILE, seconds="2"), dict(PROFILE, seconds=float("nan")),
    dict(PROFILE, seconds=1e308), dict(PROFILE, seconds=-2.0), dict(PROFILE, counts=[["read", 1]]), dict(PROFILE, counts=None),
    dict(PROFILE, counts={"syscall_%d" % number: 1 for number in range(5000)}),
    dict(PROFILE, counts={text: 1 for text in hostile.TEXTS if text not in ("null", "1e999")}),
    *[dict(PROFILE, counts={"read": value}) for value in (None, True, -1, 0, 1.5, float("nan"), "7", 10 ** 400, [], {})],
], ids=lambda value: type(value).__name__)
def test_what_is_no_profile(profile):
    found = syscall_profile.read(profile)
    assert found["means"] is None and found["per_second"] == found["unwatchable"] == {} and found["total_per_second"] is None
    assert found["reason"] == "the host sent no profile that can be read"
    json.dumps(found, allow_nan=False)


def test_texts_of_a_host_are_one_short_line():
    found = syscall_profile.read(dict(PROFILE, reason="a\x1b[2J\nb" + "x" * 9000, notes=list(hostile.TEXTS) + [None, 7, {}]))
    assert found["reason"].startswith("a [2J b") and len(found["reason"]) <= 500 and found["per_second"] == {}
    assert len(found["notes"]) <= 20 and all(note.isprintable() for note in found["notes"])


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(
                        ["means", "seconds", "counts", "reason", "notes", "read", "openat"]), inner)))
def test_nothing_that_a_host_sends_raises(value):
    for profile in (value, dict(PROFILE, counts=value), dict(PROFILE, seconds=value), dict(PROFILE, notes=value, reason=value)):
        json.dumps(syscall_profile.read(profile), allow_nan=False)
