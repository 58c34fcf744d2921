# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""falco_config on a host whose files cannot be read. What it does to a host is tested on hosts: tests/integration, tests/faults."""

import json
import os

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._change import change, records
from ansible_collections.falcotune.fleet.plugins.modules import falco_config
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import planner, policies, requests
from ansible_collections.falcotune.fleet.tests.unit.hosts import Host
from ansible_collections.falcotune.fleet.tests.unit.module_args import patch_module_args

UNIT = {"Id": "falco-modern-bpf.service", "LoadState": "loaded", "ActiveState": "active", "MainPID": "812"}


@pytest.fixture
def request_of(tmp_path, monkeypatch):
    monkeypatch.setattr(change.systemd, "find", lambda name, root: UNIT)
    policy = policies.complete({"state_dir": str(tmp_path / "state")})
    found = Host().facts()
    return requests.build("present", planner.make(found, policy), found, policy, "engine: {}\n")


def answer_of(request, capsys):
    with patch_module_args({"request": request}), pytest.raises(SystemExit):
        falco_config.main()
    return json.loads(capsys.readouterr().out)


def test_a_dead_mount_ends_the_module_before_anything_is_locked(request_of, tmp_path, monkeypatch, capsys):
    """A read from a FIFO nobody writes to stands for one from a dead mount."""
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.setattr(change.host, "regular", lambda path: open(tmp_path / "fifo", "rb"))
    monkeypatch.setattr(falco_config, "PROBE", 1)
    monkeypatch.setattr(records, "lock", lambda state_dir: pytest.fail("locked"))
    answer = answer_of(request_of, capsys)
    assert answer["failed"] and answer["undone"] and answer["msg"].startswith("no answer from this host's files and /proc within 1 s")
    assert answer["msg"].endswith(". Nothing was changed") and not (tmp_path / "state").exists()


def test_what_the_first_read_finds_is_said_by_the_change(request_of, tmp_path, capsys):
    request_of["expected"] = {str(tmp_path / "gone"): "0" * 64}
    answer = answer_of(request_of, capsys)
    assert answer["failed"] and answer["msg"].startswith("%s can't be read: No such file" % (tmp_path / "gone"))


def test_a_host_without_a_process_to_spare_is_not_touched(request_of, tmp_path, monkeypatch, capsys):
    def no_fork():
        raise OSError(11, "Resource temporarily unavailable")
    monkeypatch.setattr(os, "fork", no_fork)
    answer = answer_of(request_of, capsys)
    assert answer["failed"] and answer["msg"] == "no process could be started: Resource temporarily unavailable. Nothing was changed"
    assert not (tmp_path / "state").exists()
