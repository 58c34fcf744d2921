# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two name spaces: how they map, and what each release knew."""

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases, syscall_names
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.syscall_names import names_for

RELEASES = ["0.35.0", "0.36.2", "0.37.1", "0.38.2", "0.39.2", "0.40.0", "0.41.3", "0.42.1", "0.43.1", "0.44.1"]
# Names in custom_set that the newest release knows, calls and tracepoints behind them, members of its default set.
EVENTS, KERNEL, STATE = 438, 452, 65


def test_the_tables_of_the_newest_release():
    names = names_for("0.44.1")
    assert (len(names.events), len(names.kernel), len(names.events_of(names.state))) == (EVENTS, KERNEL, STATE)
    assert not syscall_names.WITH_EVENT & syscall_names.GENERIC
    assert names.ignored == {"pread64", "preadv", "pwrite64", "pwritev", "read", "readv", "recv", "send", "sendfile", "sendfile64",
                             "write", "writev"}


@pytest.mark.parametrize("release", RELEASES)
def test_every_table_is_made_of_names_that_exist(release):
    names = names_for(release)
    for table in (names.state, names.ignored, names.network, names.files, syscall_names.REPAIR):
        assert table and table <= names.kernel
    assert names.kernel_of(names.events) == names.kernel
    assert names.events_of(names.kernel) == names.events
    assert not names.events & set(syscall_names.KERNEL_ONLY) and not names.events & names.meta


@pytest.mark.parametrize("release", RELEASES)
def test_a_name_survives_the_way_to_the_kernel_and_back(release):
    names = names_for(release)
    for event in names.events - {"accept4"}:
        assert names.events_of(names.kernel_of({event})) == ({event} if event != "accept" else {"accept", "accept4"})
        assert names.kernel_of(names.exact_events(names.kernel_of({event}))) == names.kernel_of({event})


def test_accept4_is_printed_as_both_and_remembered_as_one():
    names = names_for("0.44.1")
    assert names.events_of({"accept4"}) == {"accept", "accept4"}
    assert names.exact_events({"accept4"}) == {"accept4"}
    assert names.exact_events({"accept", "accept4"}) == {"accept", "accept4"}


def test_a_printed_accept_without_accept4_is_one_call():
    names = names_for("0.44.1")
    assert names.kernel_of_printed(["accept"]) == {"accept"}
    assert names.kernel_of_printed(["accept", "accept4"]) == {"accept", "accept4"}
    assert names.kernel_of_printed(["pread", "fcntl", "container", "pread64"]) == {"pread64", "fcntl", "fcntl64"}
    assert names.exact_events({"accept"}) == {"accept"}


@pytest.mark.parametrize(("release", "more", "fewer"), [
    ("0.35.0", {"setpgid"}, {"close_range", "recvmmsg", "sendmmsg", "setregid", "setreuid", "memfd_create", "pidfd_getfd", "pidfd_open"}),
    ("0.37.0", {"setpgid"}, {"close_range", "recvmmsg", "sendmmsg", "setregid", "setreuid"}),
    ("0.39.0", {"setpgid"}, {"close_range", "recvmmsg", "sendmmsg"}),
    ("0.41.3", {"setpgid"}, {"close_range"}),
    ("0.43.0", set(), {"close_range"}),
])
def test_the_default_set_of_older_releases(release, more, fewer):
    old, new = names_for(release).state, names_for("0.44.1").state
    assert (old - new, new - old) == (more, fewer)
    assert ("recvmmsg" in names_for(release).ignored) == ("recvmmsg" in fewer)


def test_a_name_that_came_later():
    assert "listns" not in names_for("0.43.1").events and "listns" in names_for("0.44.0").events
    assert syscall_names.known_since("listns") == "0.44" and syscall_names.known_since("open") is None


def test_releases_without_a_choice_are_refused():
    with pytest.raises(releases.UnsupportedRelease):
        names_for("0.34.1")
    assert names_for("0.50.0") is names_for(releases.release_for("0.44.1"))
