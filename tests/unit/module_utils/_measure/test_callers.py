# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who made the calls: what the kernel counts for each thread, and what /proc tells of it."""

import os

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._measure import callers
from hypothesis import given
from hypothesis import strategies as st

TICKS = os.sysconf("SC_CLK_TCK")
UPTIME = 5000.0


@pytest.fixture
def root(tmp_path):
    (tmp_path / "proc/1/ns").mkdir(parents=True)
    (tmp_path / "proc/1/ns/pid").symlink_to(callers.FIRST_NAMESPACE)
    (tmp_path / "proc/uptime").write_text("%s 9999.0\n" % UPTIME)
    return tmp_path


def thread(root, number, uid=33, group="0::/system.slice/web.service", started=100.0):
    folder = root / "proc" / str(number)
    folder.mkdir()
    folder.joinpath("stat").write_text("%d (a) b) (c) S %s %d 7 8\n" % (number, " ".join(["1"] * 18), started * TICKS))
    folder.joinpath("status").write_text("Name:\tx\nUid:\t%d\t0\t0\t0\nGid:\t1\t1\t1\t1\n" % uid)
    folder.joinpath("cgroup").write_text(group + "\n")


def entries(*given):
    return "".join("{ id: sys_%-26s[%3d], common_pid: %10d } hitcount: %10d\n" % (name, 7, number, hits) for name, number, hits in given)


def of(root, text, counts, began=UPTIME):
    return callers.of(str(root), text, counts, lambda function, number: function[4:], began)


def test_calls_by_real_user_and_control_group(root):
    thread(root, 10)
    thread(root, 11, uid=1000, group="0::/user.slice/user-1000.slice/session-3.scope")
    thread(root, 12, uid=1000, group="0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope")
    found = of(root, entries(("openat", 10, 60), ("openat", 11, 20), ("openat", 12, 25), ("close", 10, 5)), {"openat": 110, "close": 5})
    assert found["openat"] == {"uids": [[33, 60], [1000, 45]], "unknown": 5,
                               "cgroups": [["/system.slice/web.service", 60], ["/user.slice/user-1000.slice", 45]]}
    assert found["close"] == {"uids": [[33, 5]], "cgroups": [["/system.slice/web.service", 5]], "unknown": 0}


def test_threads_that_ended_or_began_meanwhile_are_unknown(root):
    """The number of a thread that began while the kernel counted may have been another thread's before."""
    thread(root, 10, started=UPTIME - 1)
    thread(root, 11, started=UPTIME + 1)
    thread(root, 12, started=UPTIME)
    found = of(root, entries(*(("read", number, 10) for number in (10, 11, 12, 13))), {"read": 40})
    assert found == {"read": {"uids": [[33, 10]], "cgroups": [["/system.slice/web.service", 10]], "unknown": 30}}


def test_what_did_not_fit_into_the_histogram_is_unknown(root):
    assert of(root, "", {"read": 40}) == {"read": {"uids": [], "cgroups": [], "unknown": 40}}


def test_rare_calls_and_all_but_the_first_callers_are_left_out(root):
    for number in range(10, 16):
        thread(root, number, uid=number, group="0::/g%d" % number)
    found = of(root, entries(*(("read", number, number) for number in range(10, 16)), ("rare", 10, 1)), {"read": 1000, "rare": 9})
    assert list(found) == ["read"] and found["read"]["uids"] == [[15, 15], [14, 14], [13, 13]]
    assert [len(found["read"][kind]) for kind in ("uids", "cgroups")] == [callers.TOP, callers.TOP]
    assert found["read"]["unknown"] == 1000 - sum(range(10, 16))


def test_numbers_of_another_namespace_say_nothing(root):
    with pytest.raises(ValueError, match="another namespace"):
        of(root, "", {"read": 4}, began=None)
    (root / "proc/1/ns/pid").unlink()
    with pytest.raises(ValueError, match="is unknown"):
        of(root, "", {"read": 4})
    (root / "proc/1/ns/pid").symlink_to("pid:[4026532999]")
    with pytest.raises(ValueError, match="another namespace"):
        of(root, "", {"read": 4})


def test_the_moment_is_the_uptime(root):
    assert callers.moment(str(root)) == UPTIME
    (root / "proc/uptime").write_text("soon\n")
    assert callers.moment(str(root)) is None


@pytest.mark.parametrize("text, group", [
    ("0::/system.slice/docker-0123.scope/init\n", "/system.slice/docker-0123.scope"),
    ("12:cpu,cpuacct:/a\n1:name=systemd:/system.slice/x.service\n0::/\n", "/system.slice/x.service"),
    ("4:memory:/docker/0123/x/y\n2:cpu:/\n", "/docker/0123"), ("0::/\n", "/"),
    ("0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0a1b2c3d_1.slice/cri-1.scope\n",
     "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0a1b2c3d_1.slice"),
    ("3:pids:/kubepods/pod0a1b2c3d-11/c1\n", "/kubepods/pod0a1b2c3d-11"), ("", None), ("garbage", None),
])
def test_a_control_group_is_cut_down_to_what_is_one_caller(text, group):
    assert callers.control_group(text) == group


@given(st.text())
def test_any_text_is_a_control_group_or_none(text):
    found = callers.control_group(text)
    assert found is None or found.startswith("/") and len(found) <= callers.PATH


@pytest.mark.parametrize("text", [
    "\0\0", "{ id: sys_read [ 7], common_pid: } hitcount: 3", "{ id: sys_read [ 7], common_pid: -4 } hitcount: 4",
    "x{ id: sys_read [ 7], common_pid: 4 } hitcount: 4", "{ id: sys_read [ 7], common_pid: four } hitcount: 4", "{ id: " * 20000,
    "{ id: sys_read [ 7], common_pid: 99999999999999999999 } hitcount: 4"])
def test_garbage_is_nobody(root, text):
    assert of(root, text, {"read": 4}) == {"read": {"uids": [], "cgroups": [], "unknown": 4}}
