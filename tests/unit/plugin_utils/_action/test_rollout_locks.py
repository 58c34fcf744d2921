# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One rollout for a failure domain at a time, and nobody who is gone holds one."""

import fcntl
import json
import os
import signal
import stat
import subprocess
import sys

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._action import rollout_locks
from ansible_collections.falcotune.fleet.plugins.plugin_utils._action.rollout_locks import HeldError, LockError


@pytest.fixture
def other():
    """A process that is there until it is killed."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def mine():
    return rollout_locks.holder(os.getpid())


def held(folder):
    return set(json.loads((folder / "falcotune-rollouts.json").read_text()))


def test_another_rollout_is_told_who_holds_what(tmp_path, mine, other):
    rollout_locks.take(tmp_path, ["rack=a", "rack=b"], rollout_locks.holder(other.pid))
    with pytest.raises(HeldError) as error:
        rollout_locks.take(tmp_path, ["rack=b", "rack=c"], mine)
    text = str(error.value)
    assert "1 failure domain of this one (rack=b)" in text and "pid %d on %s since 20" % (other.pid, os.uname().nodename) in text
    assert "Nothing was changed" in text and held(tmp_path) == {"rack=a", "rack=b"}, "none is taken where one is held"
    rollout_locks.take(tmp_path, ["rack=c"], mine)
    assert held(tmp_path) == {"rack=a", "rack=b", "rack=c"}


def test_what_is_released_is_free(tmp_path, mine, other):
    rollout_locks.take(tmp_path, ["rack=a"], rollout_locks.holder(other.pid))
    rollout_locks.take(tmp_path, ["rack=b"], mine)
    rollout_locks.release(tmp_path, rollout_locks.holder(other.pid))
    assert held(tmp_path) == {"rack=b"}


def test_the_same_rollout_may_plan_again(tmp_path, mine):
    rollout_locks.take(tmp_path, ["rack=a", "rack=b"], mine)
    rollout_locks.take(tmp_path, ["rack=b", "rack=c"], rollout_locks.holder(os.getpid()))
    assert held(tmp_path) == {"rack=b", "rack=c"}


@pytest.mark.parametrize("reaped", [True, False])
def test_a_killed_rollout_holds_nothing(tmp_path, mine, other, reaped):
    rollout_locks.take(tmp_path, ["rack=a"], rollout_locks.holder(other.pid))
    other.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, other.pid, os.WEXITED | (0 if reaped else os.WNOWAIT))
    rollout_locks.take(tmp_path, ["rack=a"], mine)
    with pytest.raises(HeldError):
        rollout_locks.take(tmp_path, ["rack=a"], rollout_locks.holder(os.getppid()))


@pytest.mark.parametrize("changed", [{"start": 1}, {"boot": "another"}])
def test_a_pid_of_another_process_or_boot_holds_nothing(tmp_path, mine, other, changed):
    rollout_locks.take(tmp_path, ["rack=a"], rollout_locks.holder(other.pid)._replace(**changed))
    rollout_locks.take(tmp_path, ["rack=a"], mine)


def test_a_rollout_of_another_machine_is_taken_for_running(tmp_path, mine):
    rollout_locks.take(tmp_path, ["rack=a"], mine._replace(host="cn2", boot="another", pid=999999))
    with pytest.raises(HeldError, match="on cn2"):
        rollout_locks.take(tmp_path, ["rack=a"], mine)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100000, '{"rack=a": 5}', '{"rack=a": {"pid": -1}}', '{"rack=a": {"pid": 1e99}}'])
def test_a_file_that_is_none_of_ours_holds_nothing(tmp_path, mine, text):
    (tmp_path / "falcotune-rollouts.json").write_text(text)
    rollout_locks.take(tmp_path, ["rack=a"], mine)
    assert held(tmp_path) == {"rack=a"} and stat.S_IMODE((tmp_path / "falcotune-rollouts.json").stat().st_mode) == 0o600


def test_a_file_that_cannot_be_used(tmp_path, mine, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(LockError, match="file/falcotune-rollouts.json cannot be used"):
        rollout_locks.take(tmp_path / "file", ["rack=a"], mine)
    (tmp_path / "falcotune-rollouts.lock").symlink_to(tmp_path / "file")
    with pytest.raises(LockError):
        rollout_locks.take(tmp_path, ["rack=a"], mine)


def test_of_many_that_begin_at_once_one_has_it(tmp_path):
    code = ("import sys, os, time; sys.path[:0] = %r; from pathlib import Path\n"
            "from ansible_collections.falcotune.fleet.plugins.plugin_utils._action import rollout_locks\n"
            "sys.stdin.readline()\n"
            "try: rollout_locks.take(Path(%r), ['rack=a'], rollout_locks.holder(os.getpid())); print('mine', flush=True)\n"
            "except rollout_locks.HeldError: print('held', flush=True)\n"
            "sys.stdin.readline()\n") % (sys.path, str(tmp_path))
    many = [subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    try:
        for process in many:
            process.stdin.write("\n")
            process.stdin.flush()
        assert sorted(process.stdout.readline().strip() for process in many) == ["held"] * 5 + ["mine"]
    finally:
        for process in many:
            process.communicate("\n")


def test_somebody_who_keeps_the_lock_is_not_waited_for_for_ever(tmp_path, mine, monkeypatch):
    monkeypatch.setattr(rollout_locks, "PATIENCE", 0.2)
    with (tmp_path / "falcotune-rollouts.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(LockError, match="has been locked"):
            rollout_locks.take(tmp_path, ["rack=a"], mine)
