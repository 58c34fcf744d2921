# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks of package managers, held by another process as dpkg and rpm hold them."""

import os
import subprocess
import sys

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._change import packages
from ansible_collections.falcotune.fleet.plugins.module_utils._change.failure import Failed

HOLDS = """
import fcntl, sys
stream = open(sys.argv[1], "w")
fcntl.lockf(stream, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def held(tmp_path):
    """held(PATH) has a process lock a file of a host, until the test ends; the process."""
    started = []

    def hold(path):
        whole = tmp_path / path.lstrip("/")
        whole.parent.mkdir(parents=True)
        process = subprocess.Popen([sys.executable, "-c", HOLDS, str(whole)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout.readline() == b"held\n"
        return process

    yield hold
    for process in started:
        process.communicate()


@pytest.mark.parametrize("name, path", packages.LOCKS)
def test_a_package_manager_that_stays_is_named(held, tmp_path, monkeypatch, name, path):
    process = held(path)
    assert packages.at_work(str(tmp_path)) == (name, process.pid, str(tmp_path) + path)
    monkeypatch.setattr(packages, "PATIENCE", 0)
    told = r"%s is at work on this host: process %d \(py.*\) has held %s" % (name, process.pid, tmp_path)
    with pytest.raises(Failed, match=told) as caught:
        packages.wait(str(tmp_path))
    assert caught.value.more == {"undone": True}


def test_one_that_ends_is_waited_for(held, tmp_path, monkeypatch):
    process = held("/var/lib/dpkg/lock-frontend")
    monkeypatch.setattr(packages.time, "sleep", lambda seconds: process.communicate())
    packages.wait(str(tmp_path))
    assert process.returncode == 0


def test_a_lock_that_nobody_holds_is_left_as_it_is(tmp_path):
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/lock").write_text("")
    os.mkfifo(tmp_path / "var/lib/dpkg/lock-frontend")
    assert packages.at_work(str(tmp_path)) is None
    packages.wait(str(tmp_path))
    packages.wait(str(tmp_path / "nowhere"))
