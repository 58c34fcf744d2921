# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal, whatever journalctl does."""

import os
import stat

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import journalctl, snapshots
from ansible_collections.falcotune.fleet.tests.unit.falco_output import START, alert_line, minutes, text_line


def _program(tmp_path, body):
    path = tmp_path / "journalctl"
    path.write_text("#!/bin/sh\n" + body)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_the_journal(tmp_path, monkeypatch):
    (tmp_path / "out").write_bytes(b"".join(reversed([text_line(1), alert_line(2), b"other\n", text_line(3)])))
    _program(tmp_path, 'echo "$@" > %s/arguments\ncat %s/out\n' % (tmp_path, tmp_path))
    monkeypatch.setenv("PATH", "%s:%s" % (tmp_path, os.environ["PATH"]))
    assert minutes(snapshots.gather({"journal": {"pid": 812}}, limits={"min_seconds": 100, "since": START})) == (1, 3)
    arguments = (tmp_path / "arguments").read_text().split()
    assert arguments[-1] == "_PID=812" and "--since=@%d" % (START - 2) in arguments and "-u" not in arguments
    snapshots.gather({"journal": {"unit": "falco-modern-bpf.service"}})
    assert (tmp_path / "arguments").read_text().split()[-1] == "_SYSTEMD_UNIT=falco-modern-bpf.service"


@pytest.mark.parametrize("body, timeout, word", [
    ("exit 1\n", 60, "status 1"), ("exec sleep 60\n", 0.2, "no answer within 0.2 s"), ("exit 0\n", 60, "no metrics snapshot"),
])
def test_a_journal_that_does_not_answer(tmp_path, body, timeout, word):
    log = journalctl.Journal("_PID=1", 1 << 20, timeout=timeout, program=_program(tmp_path, body))
    assert word in snapshots.two_snapshots(log, "journal")["reason"]


def test_an_endless_journal_and_none(tmp_path):
    log = journalctl.Journal("_PID=1", 1 << 20, timeout=60, program=_program(tmp_path, "yes n_evts\n"))
    assert "no metrics snapshot" in snapshots.two_snapshots(log, "journal")["reason"] and log.bytes_read == 1 << 20
    log = journalctl.Journal("_PID=1", 1 << 20, program=str(tmp_path / "none"))
    assert "No such file" in snapshots.two_snapshots(log, "journal")["reason"]
