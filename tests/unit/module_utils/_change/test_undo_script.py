# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The script that undoes a change without Ansible and Python: run by sh, with a systemctl on paper."""

import os
import shutil
import signal
import stat
import subprocess
import sys

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._change import files, records, undo_script
from ansible_collections.falcotune.fleet.plugins.module_utils._change.failure import Failed

SYSTEMCTL = """#!/bin/sh
echo "$@" >>"$(dirname "$0")/asked"
if [ "$1" = is-active ]; then cat "$(dirname "$0")/state"; fi
"""
# A quote, a blank, a dollar, a percent sign and an option in one name.
AWKWARD = "it's $a % -rf"
SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]


class Place:
    """A host with a file that is replaced, one that is made and one that is removed."""

    def __init__(self, root):
        self.root, self.state = root, root / "var/lib" / AWKWARD
        for folder in (self.state / "history/0001", root / "etc/falco" / AWKWARD, root / "etc/systemd/system", root / "bin"):
            folder.mkdir(parents=True)
        self.main, self.gone = root / "etc/falco/falco.yaml", root / "etc/falco/gone.yaml"
        self.new = root / "etc/falco" / AWKWARD / "zz.yaml"
        self.main.write_text("old")
        self.gone.write_text("gone")
        (root / "bin/systemctl").write_text(SYSTEMCTL)
        (root / "bin/systemctl").chmod(0o755)
        self.is_active("inactive")
        self.items = [files.Item(str(self.main), b"new"), files.Item(str(self.gone), None), files.Item(str(self.new), b"made", 0o640)]
        staged, stages = files.stage(self.items, str(self.state), "token-1")
        kept = files.keep_old(self.items, str(self.state), "token-1")
        self.entry = {
            "state_dir": str(self.state), "token": "token-1", "unit": "falco.service", "apply": "restart", "was_running": True,
            "files": [item.entry(staged, kept) for item in self.items], "stages": stages, "made": [str(root / "etc/made")],
            "kept": str(self.state / "history/0001"), "forget": [], "old_sysctls": {}, "daemon_reload": False,
            "proof": {"host_root": str(root)}, "phase": "stopping", "at": 5.0, "old_pid": 0,
        }
        (root / "etc/made").mkdir()
        records.write_journal(str(self.state), self.entry)
        assert undo_script.write(self.entry, []) == []

    def is_active(self, state):
        (self.root / "bin/state").write_text(state + "\n")

    def run(self, mode, shell="sh"):
        words = [shell, "sh"] if shell == "busybox" else [shell]
        return subprocess.run(words + [undo_script.path_of(self.entry), mode], capture_output=True, text=True, timeout=60, check=False,
                              env={"PATH": "%s:%s" % (self.root / "bin", os.environ["PATH"])})

    def asked(self):
        path = self.root / "bin/asked"
        return [line for line in path.read_text().splitlines() if not line.startswith("is-active")] if path.exists() else []

    def found(self):
        return {path.name: path.read_text() for path in (self.main, self.gone, self.new) if path.exists()}

    def ours(self):
        """What is left of the change."""
        units = [path.name for path in (self.root / "etc/systemd/system").rglob("*") if not path.is_dir()]
        return sorted(os.listdir(self.state) + units)


OLD, NEW = {"falco.yaml": "old", "gone.yaml": "gone"}, {"falco.yaml": "new", "zz.yaml": "made"}


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("swapped", range(4))
@pytest.mark.parametrize("mode", ["boot", "timer"])
def test_after_any_rename_the_old_files_are_back_and_nothing_is_left(place, mode, swapped, shell):
    files.swap(place.entry["files"][:swapped])
    inode = os.stat(place.entry["files"][0]["old_link"]).st_ino
    done = place.run(mode, shell)
    assert place.found() == OLD and place.main.stat().st_ino == inode, done.stderr
    assert place.ours() == ["history", "undone.json"] and os.listdir(place.state / "history") == []
    assert not (place.root / "etc/made").exists()
    verb = "restart" if swapped else "start"
    assert place.asked() == ([] if mode == "boot" else ["reset-failed falco.service", verb + " falco.service"])
    assert records.undone(str(place.state))["token"] == "token-1" and done.stderr == ""


def test_it_can_be_broken_off_and_run_again(place):
    files.swap(place.entry["files"])
    os.rename(place.entry["files"][0]["old_link"], place.main)
    assert place.run("boot").stderr == "" and place.found() == OLD


def test_what_somebody_else_wrote_stays(place):
    files.swap(place.entry["files"])
    place.main.write_text("theirs")
    place.gone.write_text("theirs too")
    place.run("boot")
    assert place.found() == {"falco.yaml": "theirs", "gone.yaml": "theirs too"} and place.ours() == ["history", "undone.json"]


@pytest.mark.parametrize("mode", ["boot", "timer"])
def test_a_change_whose_record_is_written_is_not_undone(place, mode):
    files.swap(place.entry["files"])
    records.write_record(str(place.state), {"token": "token-1"})
    place.run(mode)
    assert place.found() == NEW and place.ours() == ["history", "record.json"]
    assert os.listdir(place.state / "history") == ["0001"]
    assert place.asked() == ([] if mode == "boot" else ["reset-failed falco.service", "start falco.service"])


@pytest.mark.parametrize("mode", ["boot", "timer"])
def test_another_change_is_none_of_its_business(place, mode):
    files.swap(place.entry["files"])
    records.write_journal(str(place.state), dict(place.entry, token="token-2"))
    place.run(mode)
    assert place.found() == NEW and place.asked() == [] and records.journal(str(place.state))["token"] == "token-2"


def test_a_live_worker_is_waited_for_and_its_down_falco_is_started(place):
    """As it is: the worker restarts a Falco that started before all files were in place."""
    files.swap(place.entry["files"][:1])
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        text = undo_script.text(place.entry, [worker.pid]).replace('-ge %d ]' % undo_script.DOWN_AT_MOST, "-ge 2 ]")
        (place.state / "undo.sh").write_text(text)
        assert place.run("boot").returncode == 0 and place.main.read_text() == "new"
        script = subprocess.Popen(["sh", undo_script.path_of(place.entry), "timer"],
                                  env={"PATH": "%s:%s" % (place.root / "bin", os.environ["PATH"])})
        while "start falco.service" not in place.asked():
            assert script.poll() is None
        assert place.main.read_text() == "new"
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        assert script.wait(timeout=30) == 0 and place.found() == OLD
    finally:
        worker.kill()
        worker.wait()


def test_a_worker_of_an_earlier_boot_is_nobody(place):
    files.swap(place.entry["files"])
    text = undo_script.text(place.entry, [os.getpid()])
    (place.state / "undo.sh").write_text(text.replace("boot=", "boot=0"))
    place.run("boot")
    assert place.found() == OLD


def test_a_falco_that_runs_with_all_the_new_files_is_left_to_the_next_run(place):
    files.swap(place.entry["files"])
    place.is_active("active")
    (place.state / "undo.sh").write_text((place.state / "undo.sh").read_text().replace("-lt %d ]" % undo_script.STAYS_UP, "-lt 2 ]"))
    place.run("timer")
    assert place.found() == NEW and place.asked() == [] and records.journal(str(place.state))


@pytest.mark.parametrize(("runs", "verb"), [(True, "start"), (False, "restart")], ids=["runs", "stopped"])
def test_a_falco_that_was_never_stopped_is_not_restarted(place, runs, verb):
    """Everybody was killed after the unit's drop-in was swapped and before the stop."""
    falco = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        (place.state / "undo.sh").write_text(undo_script.text(dict(place.entry, old_pid=falco.pid), []))
        files.swap(place.entry["files"][:1])
        if not runs:
            falco.kill()
            falco.wait()
        place.run("timer")
    finally:
        falco.kill()
        falco.wait()
    assert place.found() == OLD and place.asked() == ["reset-failed falco.service", verb + " falco.service"]


def test_a_falco_that_was_not_running_is_not_started(place):
    (place.state / "undo.sh").write_text(undo_script.text(dict(place.entry, was_running=False), []))
    place.run("timer")
    assert place.found() == OLD and place.asked() == []


def test_a_file_that_can_not_be_put_back_keeps_all_that_could_undo_it(place, monkeypatch):
    """The script tries for an hour: a file system that is read-only now may be mounted again."""
    monkeypatch.setattr(undo_script, "TRIES", 1)
    (place.state / "undo.sh").write_text(undo_script.text(place.entry, []).replace("sleep 20", "sleep 0"))
    files.swap(place.entry["files"])
    os.unlink(place.entry["files"][0]["old_link"])
    done = place.run("timer")
    assert place.found() == {"falco.yaml": "new", "gone.yaml": "gone"} and "except %s" % place.main in done.stdout
    assert records.journal(str(place.state)) and "start falco.service" in place.asked()[-1]


def test_systemd_reads_its_units_again_before_the_start(place):
    (place.state / "undo.sh").write_text(undo_script.text(dict(place.entry, daemon_reload=True), []))
    place.run("timer")
    assert place.asked() == ["daemon-reload", "reset-failed falco.service", "start falco.service"]


def test_script_and_unit_are_roots_and_gone_with_the_change(place):
    unit = place.root / "etc/systemd/system/falcotune-undo-token-1.service"
    link = place.root / "etc/systemd/system/multi-user.target.wants" / unit.name
    assert stat.S_IMODE((place.state / "undo.sh").stat().st_mode) == 0o700 and stat.S_IMODE(unit.stat().st_mode) == 0o644
    assert os.path.realpath(link) == str(unit) and undo_script.write(place.entry, []) == []
    undo_script.remove(place.entry)
    undo_script.remove(place.entry)
    assert place.ours() == [".falcotune-token-1", "history", "journal.json"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
def test_systemd_understands_the_unit(place, tmp_path):
    unit = place.root / "etc/systemd/system/falcotune-undo-token-1.service"
    (unit.parent / "falco.service").write_text("[Service]\nExecStart=/bin/true\n")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
    assert "token-1" not in done.stderr, done.stderr


def test_a_host_whose_units_are_read_only_is_told_so(place, monkeypatch):
    def read_only(path, *dummy):
        if "systemd" in path:
            raise OSError(30, "Read-only file system")

    monkeypatch.setattr(records, "write_atomic", read_only)
    assert "if this host loses power during the change, the next run undoes it" in undo_script.write(place.entry, [])[0]


def test_a_host_without_the_programs_is_not_changed(place, monkeypatch):
    monkeypatch.setattr(undo_script, "NEEDS", ("sha256sum", "nonesuch"))
    with pytest.raises(Failed, match="the host has no nonesuch, which would undo this change"):
        undo_script.write(place.entry, [])
