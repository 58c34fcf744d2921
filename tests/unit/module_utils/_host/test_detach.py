# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watchdogs and workers: whose session they are in, and what is known of their ends."""

import os
import signal
import time

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._host import detach


def told(body):
    """What body(write) says through a pipe from within a watchdog, once that has ended: (text, exit status)."""
    reader, writer = os.pipe()
    pid = detach.watchdog(lambda: body(lambda text: os.write(writer, str(text).encode())))
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        text = stream.read().decode()
    return text, os.waitpid(pid, 0)[1]


def test_a_watchdog_has_a_session_of_its_own_and_no_streams():
    def body(write):
        write([os.getsid(0) == os.getpid(), [os.readlink("/proc/self/fd/%d" % handle) for handle in (0, 1, 2)]])

    assert told(body) == (str([True, ["/dev/null"] * 3]), 0)


def test_nothing_of_the_caller_runs_on_in_a_watchdog_that_fails():
    def body(write):
        write("began")
        raise RuntimeError("no")

    assert told(body) == ("began", 0)


@pytest.mark.parametrize("work, well", [
    (lambda: None, True),
    (lambda: os.kill(os.getpid(), signal.SIGKILL), False),
    (lambda: 1 / 0, False),
    (lambda: os._exit(3), False),
])
@pytest.mark.parametrize("deadline", [None, 60])
def test_whether_a_worker_came_to_its_end(work, well, deadline):
    assert told(lambda write: write(detach.work(work, deadline))) == (str(well), 0)


def test_a_worker_is_killed_at_its_deadline():
    assert told(lambda write: write(detach.work(lambda: time.sleep(600), 0.2))) == ("False", 0)


def test_a_worker_is_a_child_of_its_watchdog():
    def body(write):
        watchdog = os.getpid()
        detach.work(lambda: write(os.getppid() == watchdog and os.getsid(0) == watchdog))

    assert told(body) == ("True", 0)


@pytest.mark.parametrize("answer, reason", [
    ((0, 'o "/org/freedesktop/systemd1/job/7"', ""), None),
    ((1, "", "Failed to connect to bus: No such file or directory\n"), "Failed to connect to bus: No such file or directory"),
    ((None, "", "busctl: No such file or directory"), "busctl: No such file or directory"),
    ((1, "", ""), "busctl ended with status 1"),
])
def test_a_scope_of_its_own(monkeypatch, tmp_path, answer, reason):
    asked = []
    for pid in ("7", "8"):
        (tmp_path / "proc" / pid).mkdir(parents=True)
        (tmp_path / "proc" / pid / "cgroup").write_text("0::/system.slice/x.scope\n")
    monkeypatch.setattr(detach.systemd, "run", lambda words, **options: (asked.append(words), answer)[1])
    assert detach.own_scope("x.scope", [7, 8], str(tmp_path)) == reason
    # The signature: name, mode, 3 properties with a type each, no auxiliary units.
    assert asked[0][5:] == ["StartTransientUnit", "ssa(sv)a(sa(sv))", "x.scope", "fail", "3", "Description", "s",
                            "A change of Falco by falcotune.fleet", "Slice", "s", "system.slice", "PIDs", "au", "2", "7", "8", "0"]


def test_a_scope_into_which_nothing_was_moved_is_not_believed_and_forgotten(monkeypatch, tmp_path):
    """In a container, systemd answers well and then can't see the process."""
    asked = []
    monkeypatch.setattr(detach.systemd, "run", lambda words, **options: (asked.append(words), (0, "", ""))[1])
    monkeypatch.setattr(detach, "MOVES", 0)
    assert detach.own_scope("x.scope", [7], str(tmp_path)) == "systemd did not move the processes into x.scope"
    assert asked[-1] == ["systemctl", "reset-failed", "x.scope"]


def test_what_a_child_returned_in_time():
    assert detach.within(30, lambda: {"a": [1, "é"], "large": "x" * 200000}) == {"a": [1, "é"], "large": "x" * 200000}


def test_a_child_that_is_late_is_killed_and_what_holds_it_is_told(tmp_path):
    """A read from a FIFO nobody writes to stands for one from a dead mount."""
    os.mkfifo(tmp_path / "fifo")
    before = children()
    with pytest.raises(detach.Late, match=r"no answer from this host's files and /proc within 0 s.*state S"):
        detach.within(0.5, lambda: open(tmp_path / "fifo").read())
    for pid in children() - before:
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL


def test_what_a_child_raised_is_told():
    with pytest.raises(RuntimeError, match="KeyError: 'no such thing'"):
        detach.within(30, lambda: {}["no such thing"])
    with pytest.raises(RuntimeError, match="the child was killed"):
        detach.within(30, lambda: os.kill(os.getpid(), signal.SIGKILL))


def children():
    with open("/proc/self/task/%d/children" % os.getpid()) as stream:
        return set(map(int, stream.read().split()))
