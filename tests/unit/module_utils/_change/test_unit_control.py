# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Control of Falco's unit with a systemd on paper. Stops and starts of real units: tests/integration/test_faults.py."""

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._change import unit_control
from ansible_collections.falcotune.fleet.plugins.module_utils._change.failure import Failed


class Systemd:
    """What systemctl answers, and what it was asked."""

    def __init__(self, monkeypatch, **unit):
        self.unit, self.asked, self.answer = {"ActiveState": "active", "MainPID": "0", **unit}, [], (0, "", "")
        self.stop = (0, "")
        monkeypatch.setattr(unit_control.systemd, "show", lambda names: [self.unit])
        monkeypatch.setattr(unit_control.systemd, "run", lambda words, **options: (self.asked.append(words), self.answer)[1])
        monkeypatch.setattr(unit_control.systemd, "begin", lambda words: (self.asked.append(words), self)[1])

    def ended(self, seconds):
        return self.stop

    def give_up(self):
        self.asked.append("given up")


@pytest.fixture
def unit():
    return unit_control.Unit("falco.service", "/", ["/nonexistent"])


def test_a_stop_is_an_interruption_and_forgets_earlier_failures_first(monkeypatch, unit):
    systemd = Systemd(monkeypatch)
    unit.stop()
    assert systemd.asked == [["systemctl", "reset-failed", "falco.service"], ["systemctl", "stop", "falco.service"]]
    assert unit.interruptions == 1 and unit.stopped_at > 0 and unit.notes == []


@pytest.mark.parametrize("state, refused", [("active", True), ("failed", False), ("inactive", False)])
def test_a_stop_that_systemd_refuses_fails_unless_the_unit_is_down(monkeypatch, unit, state, refused):
    systemd = Systemd(monkeypatch, ActiveState=state)
    systemd.stop = (1, "Job failed")
    if not refused:
        return unit.stop()
    with pytest.raises(Failed, match="systemctl stop falco.service: Job failed"):
        unit.stop()


def test_a_falco_that_does_not_stop_is_sent_sigterm_again(monkeypatch, unit):
    systemd = Systemd(monkeypatch, MainPID="812")
    systemd.stop = (None, "")
    monkeypatch.setattr(unit_control.processes.Process, "stat", lambda process: (4711, 0, 0))
    monkeypatch.setattr(unit_control, "SEND_AGAIN", 0)
    monkeypatch.setattr(unit_control, "STOP_TIMEOUT", 0.05)
    with pytest.raises(Failed, match=r"Falco \(process 812\) did not stop within 0 s"):
        unit.stop()
    assert ["systemctl", "kill", "--signal=SIGTERM", "falco.service"] in systemd.asked and systemd.asked[-1] == "given up"
    assert unit.notes[0] == "Falco did not react to SIGTERM; it was sent again"


def test_a_start_that_fails_says_why(monkeypatch, unit):
    systemd = Systemd(monkeypatch)
    unit.start()
    systemd.answer = (1, "", "Unit falco.service not found.\n")
    with pytest.raises(Failed, match="systemctl start falco.service: Unit falco.service not found."):
        unit.start()


def test_a_process_that_stays_is_enough_and_one_that_does_not_is_not(monkeypatch, unit):
    monkeypatch.setattr(unit_control, "STAYS", 0)
    Systemd(monkeypatch, MainPID="812")
    unit.await_process()
    monkeypatch.setattr(unit_control, "COMES_BACK", 0.01)
    Systemd(monkeypatch, ActiveState="activating")
    with pytest.raises(Failed, match="did not come back with the previous configuration"):
        unit.await_process()


@pytest.mark.parametrize("pid, found, same", [("812", 812, True), ("813", 812, False), ("0", 0, True), ("[not set]", 0, True)])
def test_whether_the_same_process_runs(monkeypatch, unit, pid, found, same):
    Systemd(monkeypatch, MainPID=pid)
    assert unit.runs_as(found) is same


@pytest.mark.parametrize("user, answer, said", [
    ("", (1, "Error: bad preset\n", ""), "Error: bad preset"), ("root", (1, "", "x\n"), "x"), ("", (0, "", ""), None), ("", (None, "",
        ""), None),
    ("falco", (1, "Error: bad preset\n", ""), None),  # it would run as root
])
def test_a_start_by_hand_tells_the_error(monkeypatch, unit, user, answer, said):
    systemd = Systemd(monkeypatch, User=user, ExecStart="{ argv[]=/usr/bin/falco -A ; }")
    monkeypatch.setattr(unit_control.processes.programs, "refusal", lambda path: None)
    systemd.answer = answer
    assert unit.start_by_hand() == said
    assert systemd.asked == ([] if user == "falco" else [["/usr/bin/falco", "-A"]])


def test_a_start_by_hand_has_the_variables_of_the_unit(monkeypatch, unit):
    """F04: without them Falco would fail for another reason."""
    Systemd(monkeypatch, ExecStart="{ argv[]=/usr/bin/falco ; }", Environment="LD_PRELOAD=/lib64/libresolv.so.2")
    monkeypatch.setattr(unit_control.processes.programs, "refusal", lambda path: None)
    given = []
    monkeypatch.setattr(unit_control.systemd, "run", lambda words, **options: (given.append(options["environment"]), (0, "", ""))[1])
    unit.start_by_hand()
    assert given == [{"LD_PRELOAD": "/lib64/libresolv.so.2"}]


def test_a_start_script_is_not_started_by_hand(monkeypatch, unit):
    systemd = Systemd(monkeypatch, ExecStart="{ path=/opt/start-falco ; argv[]=/opt/start-falco ; ignore_errors=no }")
    assert unit.start_by_hand() is None and systemd.asked == []


def test_it_settles_once_nothing_that_falco_watches_was_written_lately(monkeypatch, tmp_path):
    path = tmp_path / "falco.yaml"
    path.write_text("")
    slept = []
    now = [path.stat().st_ctime + 1.0]
    monkeypatch.setattr(unit_control.time, "time", lambda: now[0])
    monkeypatch.setattr(unit_control.time, "sleep", lambda seconds: (slept.append(seconds), now.__setitem__(0, now[0] + seconds)))
    unit_control.Unit("falco.service", "", [str(path), "/nonexistent"]).settle()
    assert sum(slept) == pytest.approx(2.0, abs=0.01)
    unit_control.Unit("falco.service", "", ["/nonexistent"]).settle()
    assert sum(slept) == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize("streams, pending, dropin, hears", [
    ({"StandardOutput": "null", "StandardError": "inherit"}, "no", True, False),  # the packages' units
    ({"StandardOutput": "journal", "StandardError": "null"}, "no", True, False),
    ({"StandardOutput": "journal", "StandardError": "inherit"}, "no", False, True),
    ({"StandardOutput": "null", "StandardError": "journal"}, "no", False, True),
    ({"StandardOutput": "null", "StandardError": "file:/var/log/falco.err"}, "no", False, False),  # somebody's own
    ({"StandardOutput": "null", "StandardError": "inherit"}, "yes", False, False),  # an edit would become effective
    ({}, "no", False, False),
])
def test_where_the_error_of_a_start_goes(monkeypatch, tmp_path, streams, pending, dropin, hears):
    Systemd(monkeypatch, NeedDaemonReload=pending, **streams)
    unit = unit_control.Unit("falco.service", str(tmp_path))
    path = str(tmp_path / "run/systemd/system/falco.service.d/zz-falcotune-stderr.conf")
    assert unit.listen() == (path if dropin else None) and unit.hears is hears


def test_the_drop_in_for_standard_error_comes_and_goes(monkeypatch, tmp_path):
    systemd = Systemd(monkeypatch)
    unit = unit_control.Unit("falco.service", str(tmp_path))
    unit.write_dropin()
    path = tmp_path / "run/systemd/system/falco.service.d/zz-falcotune-stderr.conf"
    assert "[Service]\nStandardError=journal\n" in path.read_text() and unit.hears
    unit.drop_dropin()
    unit.drop_dropin()
    assert not path.parent.exists() and systemd.asked == [["systemctl", "daemon-reload"]] * 2
    unit.write_dropin()
    (path.parent / "theirs.conf").write_text("")
    unit.drop_dropin()
    assert [item.name for item in path.parent.iterdir()] == ["theirs.conf"]


def test_systemd_that_does_not_read_it_is_not_believed(monkeypatch, tmp_path):
    Systemd(monkeypatch).answer = (1, "", "")
    unit = unit_control.Unit("falco.service", str(tmp_path))
    unit.write_dropin()
    assert not unit.hears


@pytest.mark.parametrize("lines, said", [
    ("Falco version: 0.44.1\nError: first\nstarted again\nError: can't open driver: no device\n", "Error: can't open driver: no device"),
    ("Falco version: 0.44.1\n", None),
    ("", None),
])
def test_what_falco_said_is_the_last_error_since_the_start(monkeypatch, unit, lines, said):
    systemd = Systemd(monkeypatch)
    systemd.answer = (0, lines, "")
    assert unit.said(1764200000.7) == said
    assert systemd.asked[0][-2:] == ["--since=@1764200000", "_SYSTEMD_UNIT=falco.service"]
