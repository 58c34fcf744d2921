# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much each system call makes: measured, estimated, or unknown."""

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import syscall_volume
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.syscall_names import names_for

NEW = releases.release_for("0.44.1")
PROFILE = {"seconds": 10.0, "counts": {"openat": 1000, "close": 2000, "read": 50000}}


def test_a_profile_counts_one_event_a_call_and_two_before_0_42():
    found = syscall_volume.measured(NEW, {"openat", "close"}, PROFILE)
    assert (found.basis, found.of({"openat"}), found.of({"openat", "close", "execve"})) == ("profile", 100.0, 300.0)
    assert syscall_volume.measured(releases.release_for("0.41.3"), {"openat"}, PROFILE).of({"openat"}) == 200.0


def test_with_falcos_own_rate_what_is_watched_makes_that_rate():
    found = syscall_volume.measured(NEW, {"openat", "close"}, PROFILE, rate=600.0)
    assert found.of({"openat", "close"}) == pytest.approx(600.0) and found.of({"openat"}) == pytest.approx(200.0)


def test_without_a_profile_drops_by_kind_tell_the_shares():
    found = syscall_volume.measured(NEW, {"openat", "open", "close", "sendto"}, None, {"open": 50, "close": 30, "uncategorised": 20},
        1000.0)
    assert found.basis == "drops"
    assert found.of({"openat"}) == pytest.approx(250.0) and found.of({"close"}) == pytest.approx(300.0)
    assert found.of({"sendto"}) == pytest.approx(200.0) and found.of({"recvfrom"}) == 0


@pytest.mark.parametrize("profile, drops, rate", [
    (None, None, 100.0), (None, {"open": 5}, None), ({"counts": {}, "seconds": 5}, {}, 1.0),
    ({"counts": {"openat": 5}, "seconds": 0}, None, 1.0),
    ({"counts": "x", "seconds": 5}, "x", 1.0), ({"counts": {"openat": True, "close": -5, "no_such_call": 9}, "seconds": 5}, None, 5.0),
    (None, {"open": "many"}, 5.0),
])
def test_what_can_not_be_read_is_no_volume(profile, drops, rate):
    found = syscall_volume.measured(NEW, {"openat", "close"}, profile, drops, rate)
    assert found.basis == "none" and found.of({"openat"}) is None


def test_the_members_of_each_kind_are_the_kernels_own_names():
    known = names_for("0.44.1").kernel
    assert {name for members in syscall_volume.CATEGORIES.values() for name in members.split()} <= known
