# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import fcntl
import os
import stat
import subprocess
import sys

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._change import records
from ansible_collections.falcotune.fleet.plugins.module_utils._change.failure import Failed


@pytest.fixture
def state(tmp_path):
    return str(tmp_path)


def test_write_atomic(tmp_path):
    path = tmp_path / "falco.yaml"
    path.write_text("old")
    before = path.stat().st_ino
    records.write_atomic(str(path), b"new", 0o640)
    assert path.read_bytes() == b"new" and stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.stat().st_ino != before  # a reader that has the old file open keeps it
    assert os.listdir(tmp_path) == ["falco.yaml"]


@pytest.mark.parametrize("step", ["fsync", "fchmod", "rename"])
def test_write_atomic_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "falco.yaml"
    path.write_text("old")

    def fail(*arguments):
        raise OSError("no space left")

    monkeypatch.setattr(records.os, step, fail)
    with pytest.raises(OSError, match="no space left"):
        records.write_atomic(str(path), b"new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["falco.yaml"]


def test_the_file_is_on_disk_before_its_name_changes(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "rename"):
        real = getattr(os, name)
        monkeypatch.setattr(records.os, name, lambda *given, name=name, real=real: calls.append(name) or real(*given))
    records.write_atomic(str(tmp_path / "x"), b"new")
    assert calls == ["fsync", "rename", "fsync"]  # the file, its name, the folder


def test_json_round_trip(tmp_path):
    path = str(tmp_path / "record.json")
    records.write_json(path, {"b": [1, None], "a": "caf\u00e9"})
    assert records.read_json(path) == records.load(str(tmp_path)) == {"b": [1, None], "a": "caf\u00e9"}
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


@pytest.mark.parametrize("content", [None, b"", b"{", b"[1]", b"\xff"])
def test_what_is_no_record_is_none(tmp_path, content):
    if content is not None:
        (tmp_path / "record.json").write_bytes(content)
    assert records.load(str(tmp_path)) is None


HOLDER = """
import sys
sys.path[:0] = sys.argv[2:]
from ansible_collections.falcotune.fleet.plugins.module_utils._change import records
try:
    handle = records.lock(sys.argv[1])
except records.Locked as error:
    print("locked", error)
else:
    print("mine", flush=True)
    sys.stdin.read()
"""


def other(state):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, state] + [path for path in sys.path if path], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().strip()


def test_the_lock_is_held_by_one_process_and_ends_with_it(state):
    assert not records.held(state)
    process, answer = other(state)
    assert answer == "mine" and records.held(state)
    with pytest.raises(records.Locked, match="^process %d$" % process.pid):
        records.lock(state)
    process.communicate("")
    assert not records.held(state)
    handle = records.lock(state)
    process, answer = other(state)
    process.communicate("")
    assert answer == "locked process %d" % os.getpid()
    os.close(handle)
    os.close(records.lock(state))


def test_the_lock_excludes_within_a_process_too(state):
    handle = records.lock(state)
    with pytest.raises(records.Locked):
        records.lock(state)
    assert stat.S_IMODE(os.stat(os.path.join(state, "lock")).st_mode) == 0o600
    os.close(handle)


def test_the_lock_follows_no_link(state):
    victim = os.path.join(state, "victim")
    with open(victim, "w") as stream:
        stream.write("precious")
    os.symlink(victim, os.path.join(state, "lock"))
    with pytest.raises(OSError):
        records.lock(state)
    with open(victim) as stream:
        assert stream.read() == "precious"


@pytest.mark.parametrize("names, numbers", [
    (None, []), ([], []), (["0002", "0010", "0001"], [1, 2, 10]), (["9999", "10000", "tmp", "3.old"], [9999, 10000]),
])
def test_history(tmp_path, names, numbers):
    for name in names or []:
        (tmp_path / "history" / name).mkdir(parents=True)
    assert records.history(str(tmp_path)) == numbers


def test_an_unfinished_change_is_one_that_nobody_works_on(state):
    assert records.unfinished(state) is None
    records.write_json(os.path.join(state, "journal.json"), {"phase": "swapped", "at": 5.0, "files": []})
    assert records.unfinished(state) == {"phase": "swapped", "at": 5.0}
    handle = records.lock(state)
    assert records.unfinished(state) is None
    os.close(handle)


def test_an_unfinished_trial_is_one_too_and_a_change_comes_first(state):
    records.write_json(os.path.join(state, "trial.json"), {"at": 4.0, "stopped": True})
    assert records.unfinished(state) == {"phase": "trial", "at": 4.0}
    handle = records.lock(state)
    assert records.unfinished(state) is None
    os.close(handle)
    records.write_json(os.path.join(state, "journal.json"), {"phase": "swapped", "at": 5.0})
    assert records.unfinished(state)["phase"] == "swapped"


def test_a_sweep_takes_what_killed_writers_left_and_nothing_else(state, tmp_path):
    kept = {"record.json", "journal.json", "trial.json", "lock", "staged", "history", "result-token-1.json",
            "trial-data", "candidate-list.txt", "token-store"}  # names that anybody may give
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("")
    for name in kept | {".falcotune-abc"}:
        with open(os.path.join(state, name), "w") as stream:
            stream.write("{}")
    for name in (".falcotune-token-1", ".falcotune-staged-1", "candidate-a1b2_c3d", "token-a1b2_c3d", "trial-0123456789abcdef"):
        os.mkdir(os.path.join(state, name))
        with open(os.path.join(state, name, "falco.yaml"), "w") as stream:
            stream.write("")
    os.symlink(str(outside), os.path.join(state, "candidate-linklink"))
    records.sweep(state)
    assert set(os.listdir(state)) - {"outside"} == kept and os.listdir(str(outside)) == ["precious"]
    records.sweep(os.path.join(state, "nothing"))


RECORD = {"process": {"pid": 7, "start_ticks": 9}, "at": 5.0, "files": {"/a": "0"}, "evidence": {"events": 1}}


@pytest.mark.parametrize("record, pid, start, proven", [
    (RECORD, 7, 9, True), (RECORD, 7, 10, False), (RECORD, 8, 9, False), (RECORD, None, None, False), ({}, 7, 9, None), (None, 7, 9, None),
    ({"process": None}, None, None, False),
])
def test_a_record_speaks_of_one_process(record, pid, start, proven):
    found = records.summary(record, pid, start)
    assert (found and found["proven"]) == proven


def test_identity_of_a_binary(tmp_path):
    path = tmp_path / "falco"
    assert records.identity(str(path)) is None
    path.write_text("one")
    assert records.identity(str(path)) is None  # not executable
    path.chmod(0o755)
    first = records.identity(str(path))
    assert first == records.identity(str(path)) and len(first) == 4
    path.write_text("other")
    assert records.identity(str(path)) != first
    assert records.identity(str(tmp_path)) is None


def test_a_change_that_is_kept(state):
    assert records.staged(state) is None
    records.keep_staged(state, "abc", [("/etc/falco/x.yaml", b"new", 0o640), ("/etc/gone", None, 0o644)])
    assert records.staged(state)["digest"] == "abc"
    folder = os.path.join(state, "staged")
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert {stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) for name in os.listdir(folder)} == {0o600}
    manifest = records.read_json(os.path.join(folder, "manifest.json"))
    assert manifest["files"] == [{"path": "/etc/falco/x.yaml", "kept": "0", "mode": "0640"},
                                 {"path": "/etc/gone", "kept": None, "mode": "0644"}]
    records.keep_staged(state, "def", [])
    assert records.staged(state)["digest"] == "def" and os.listdir(folder) == ["manifest.json"]
    records.drop_staged(state)
    records.drop_staged(state)
    assert os.listdir(state) == []


def test_a_change_that_can_not_be_kept_leaves_the_one_before(state, monkeypatch):
    records.keep_staged(state, "abc", [])

    def fail(*arguments):
        raise OSError("no space left")

    monkeypatch.setattr(records.os, "fsync", fail)
    with pytest.raises(OSError):
        records.keep_staged(state, "def", [("/x", b"y", 0o640)])
    assert records.staged(state)["digest"] == "abc" and os.listdir(state) == ["staged"]


OLD_PROOF = {"host_root": "", "metrics_file": "/var/log/falco/metrics.jsonl", "driver": "kmod"}


@pytest.mark.parametrize("source, now", [
    ("metrics.output_file", {"basis": "counters", "source": "metrics.output_file", "reason": None}),
    ("process only: metrics are off", {"basis": "process", "source": None, "reason": "metrics are off"}),
])
def test_a_record_of_an_earlier_version_is_understood(state, source, now):
    records.write_json(os.path.join(state, "record.json"), {"watch": OLD_PROOF, "evidence": {"source": source, "events": 7}})
    assert records.load(state) == {"proof": OLD_PROOF, "evidence": dict(now, events=7)}
    assert records.summary(records.load(state), None, None)["driver"] == "kmod"


def test_a_manifest_and_a_trial_of_an_earlier_version_are_understood(state):
    os.makedirs(records.kept_folder(state, 3))
    records.write_json(os.path.join(records.kept_folder(state, 3), "manifest.json"), {"files": [], "watch": OLD_PROOF})
    assert records.manifest(state, 3) == {"files": [], "proof": OLD_PROOF}
    records.write_json(os.path.join(state, "trial.json"), {"state": state, "root": "", "unit": "falco.service", "watched": ["/etc/falco"]})
    assert records.trial(state) == {"state_dir": state, "root": "", "unit": "falco.service", "reload_paths": ["/etc/falco"]}


def test_history_without_a_manifest_says_so(state):
    with pytest.raises(Failed, match="history/0001/manifest.json can't be read: nothing was changed"):
        records.manifest(state, 1)


def test_a_journal_that_can_not_be_understood_says_what_is_missing(state):
    records.write_json(os.path.join(state, "journal.json"), {"phase": "swapped", "at": 5.0, "files": []})
    with pytest.raises(Failed, match="journal.json can't be understood: it has no apply, .*was_running; expected the journal"):
        records.journal(state)
    records.drop_journal(state)
    assert records.journal(state) is None


def test_a_manifest_that_can_not_be_read_just_now_costs_no_history(tmp_path):
    """A directory of this name stands for a file whose read fails."""
    for number in (1, 2, 3):
        kept_change(tmp_path, number, {"/a": (b"a%d" % number, "a")})
    manifest = tmp_path / "history/0001/manifest.json"
    text = manifest.read_text()
    manifest.unlink()
    manifest.mkdir()
    with pytest.raises(OSError):
        records.fold_history(str(tmp_path), 2)
    assert records.history(str(tmp_path)) == [1, 2, 3]
    manifest.rmdir()
    manifest.write_text(text)
    records.fold_history(str(tmp_path), 2)
    assert records.history(str(tmp_path)) == [2, 3]


def test_a_lock_that_somebody_only_looks_at_is_waited_for(state, monkeypatch):
    """held() has the lock for a moment: whoever wants it just then must not fail."""
    os.close(records.lock(state))
    looking = os.open(os.path.join(state, "lock"), os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    closed = []
    monkeypatch.setattr(records.time, "sleep", lambda seconds: closed or closed.append(os.close(looking)))
    os.close(records.lock(state))
    assert closed


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def test_a_directory_of_our_own_is_made_and_known_again(tmp_path):
    path = str(tmp_path / "a/b")
    records.own(path)
    assert mode(path) == 0o700
    records.own(path)  # still empty
    os.close(records.lock(path))
    records.own(path)
    os.mkdir(os.path.join(path, "history"))
    os.mkdir(os.path.join(path, ".falcotune-left"))
    records.own(path)


@pytest.mark.parametrize("names, found", [
    (["trial-data"], "(trial-data)"), (["passwd", "falco", "hosts", "zz"], "(falco, hosts, passwd)"), (["history"], "(history)"),
    (["lock", "utmp"], "(utmp)"),
])
def test_a_directory_of_others_is_refused_and_left_as_it_is(tmp_path, names, found):
    """It was given mode 0700, and what began with our prefixes was removed: /etc, /opt."""
    path = tmp_path / "opt"
    path.mkdir(mode=0o755)
    for name in names:
        (path / name).write_text("precious")
    with pytest.raises(Failed, match="opt holds what this collection did not put there") as raised:
        records.own(str(path))
    assert found in str(raised.value) and "such as %s/falcotune" % path in str(raised.value) and raised.value.more == {"undone": True}
    assert mode(path) == 0o755 and sorted(os.listdir(path)) == sorted(names)


def test_a_lock_of_another_kind_is_not_ours(tmp_path):
    (tmp_path / "lock").mkdir()  # as in /run
    (tmp_path / "history").mkdir()
    with pytest.raises(Failed, match="did not put there"):
        records.own(str(tmp_path))


def test_a_directory_that_others_may_write_is_refused(tmp_path):
    tmp_path.chmod(0o777)
    with pytest.raises(Failed, match=r"can be written by others \(mode 0777\)"):
        records.own(str(tmp_path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(tmp_path):
    os.chown(str(tmp_path), 12345, 0)
    with pytest.raises(Failed, match="belongs to uid 12345, and this is uid 0"):
        records.own(str(tmp_path))


def test_an_empty_directory_keeps_its_mode(tmp_path):
    tmp_path.chmod(0o755)
    records.own(str(tmp_path))
    assert mode(tmp_path) == 0o755


def kept_change(state_dir, number, files, **more):
    """A change of the history. files: {path: (bytes before or None, sha256 of what was written)}."""
    folder = records.kept_folder(str(state_dir), number)
    os.makedirs(folder)
    manifest = {"at": float(number), "written": ["w%d" % number], "unit": "falco.service", "files": [], "directories": [], "sysctls": {},
                "proof": {"driver": "d%d" % number}, **more}
    for position, (path, (old, new)) in enumerate(files.items()):
        manifest["files"].append({"path": path, "meta": [0o640, 0, 0], "old": None if old is None else str(position), "new_sha256": new})
        if old is not None:
            records.write_atomic(os.path.join(folder, str(position)), old)
    records.write_json(os.path.join(folder, "manifest.json"), manifest)


def test_the_oldest_changes_are_folded_and_the_original_stays(tmp_path):
    kept_change(tmp_path, 1, {"/a": (b"a0", "a1"), "/b": (None, "b1")}, directories=["/d"], sysctls={"k.x": "0"})
    kept_change(tmp_path, 2, {"/a": (b"a1", "a2"), "/c": (b"c0", "c1")}, directories=["/e"], sysctls={"k.x": "1", "k.y": "0"})
    kept_change(tmp_path, 3, {"/a": (b"a2", "a3")})
    records.fold_history(str(tmp_path), 3)
    assert records.history(str(tmp_path)) == [1, 2, 3]
    for _again in range(2):
        records.fold_history(str(tmp_path), 2)
        assert records.history(str(tmp_path)) == [2, 3]
        found = records.manifest(str(tmp_path), 2)
        texts = {}
        for entry in found["files"]:
            old = entry["old"] and open(os.path.join(records.kept_folder(str(tmp_path), 2), entry["old"]), "rb").read()
            texts[entry["path"]] = (old, entry["new_sha256"])
        assert texts == {"/a": (b"a0", "a2"), "/b": (None, "b1"), "/c": (b"c0", "c1")}
        assert found["directories"] == ["/d", "/e"] and found["sysctls"] == {"k.x": "0", "k.y": "0"}
        assert (found["at"], found["written"], found["proof"]) == (1.0, ["w1"], {"driver": "d1"})
    records.fold_history(str(tmp_path), 1)
    assert records.history(str(tmp_path)) == [3]
    assert {entry["path"] for entry in records.manifest(str(tmp_path), 3)["files"]} == {"/a", "/b", "/c"}


def test_a_fold_that_was_broken_off_is_finished(tmp_path, monkeypatch):
    kept_change(tmp_path, 1, {"/a": (b"a0", "a1")})
    kept_change(tmp_path, 2, {"/a": (b"a1", "a2")})
    with monkeypatch.context() as patched:
        patched.setattr(records.shutil, "rmtree", lambda *dummy, **more: None)
        records.fold_history(str(tmp_path), 1)
    assert records.history(str(tmp_path)) == [1, 2]
    records.fold_history(str(tmp_path), 1)
    entry, = records.manifest(str(tmp_path), 2)["files"]
    assert open(os.path.join(records.kept_folder(str(tmp_path), 2), entry["old"]), "rb").read() == b"a0"


@pytest.mark.parametrize("mode, owner, said", [
    (0o777, 0, "can be written by others"),
    (0o755, 65534, "belongs to uid 65534: expected root"),
    (0o1777, 0, None),  # as /tmp: nobody else moves what is in it
    (0o755, 0, None),
])
@pytest.mark.parametrize("there", [False, True])
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_keeps_nothing_where_others_may_put_another_directory(tmp_path, mode, owner, said, there):
    """It runs undo.sh by this path."""
    home = tmp_path / "home"
    home.mkdir()
    if there:
        (home / "falcotune").mkdir(mode=0o700)
    os.chown(home, owner, 0)
    home.chmod(mode)
    if not said:
        return records.own(str(home / "falcotune"))
    with pytest.raises(Failed, match=said):
        records.own(str(home / "falcotune"))
    assert (home / "falcotune").exists() == there


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_nor_behind_a_link_to_such_a_place(tmp_path):
    (tmp_path / "home/falcotune").mkdir(parents=True, mode=0o700)
    (tmp_path / "home").chmod(0o777)
    (tmp_path / "falcotune").symlink_to(tmp_path / "home/falcotune")
    with pytest.raises(Failed, match="can be written by others"):
        records.own(str(tmp_path / "falcotune"))


@pytest.mark.parametrize("record, seen", [
    (None, {"at": None, "tried": None}), ({}, {"at": None, "tried": None}),
    ({"at": 5.5, "attempts": [{"at": 1.0}, {"at": 2.0}]}, {"at": 5.5, "tried": 2.0}),
    ({"at": "soon", "attempts": [{"at": -1}]}, {"at": None, "tried": None}), ({"at": 1e12, "attempts": [{}]}, {"at": None, "tried": None})])
def test_what_tells_a_record_from_an_earlier_one(record, seen):
    assert records.seen(record) == seen
