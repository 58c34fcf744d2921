# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the collection keeps on a host: the proven record, the history of changes, the journal of an
unfinished one.

STATE_DIR/record.json     what was proven last: binary, process, hashes, evidence, what was measured before,
                          and the attempts: changes that evidence asked for; none is made again without effect
STATE_DIR/journal.json    a change that is under way, or whose worker died: its transaction.Transaction.entry
STATE_DIR/undo.sh         undoes that change where nobody works on it any more: at boot, or started by a timer
STATE_DIR/undone.json     the journal of a change that undo.sh has undone, for the next run to tell
STATE_DIR/trial.json      a trial that is under way, or that was broken off
STATE_DIR/staged/         a change that waits for consent to a restart: its files, and manifest.json
STATE_DIR/history/NNNN/   the files as they were before change NNNN, with manifest.json
STATE_DIR/lock            held by the one run that may change the host
"""

import fcntl
import json
import os
import re
import shutil
import stat
import tempfile
import time

from ansible_collections.falcotune.fleet.plugins.module_utils._change.failure import Failed
from ansible_collections.falcotune.fleet.plugins.module_utils._host import host, programs

RECORD, JOURNAL, TRIAL = "record.json", "journal.json", "trial.json"
UNDO, UNDONE = "undo.sh", "undone.json"

# Earlier versions wrote these keys under other names. Hosts may hold such files for as long as they are not
# tuned again.
RENAMED = {"state": "state_dir", "watch": "proof", "watched": "reload_paths"}

# What undoing a change needs to know.
NEEDED = (
    "apply",
    "daemon_reload",
    "files",
    "made",
    "old_pid",
    "old_sysctls",
    "proof",
    "stages",
    "token",
    "unit",
    "was_running",
)

# Unix time of the year 2242: a later one is none.
LATEST = 1 << 33

# Changes that the history holds where no policy says how many.
MOST_CHANGES = 20

# Seconds for which a lock is tried again: whoever only looks whether it is held has it for a moment.
LOCK_PATIENCE = 1.0

# Names of what is there only while somebody holds the lock, with the random part that tempfile or we give
# them.
PASSING = re.compile(
    r"^(\.falcotune-[\w-]+|(candidate|token)-\w{8}|result-token-\w{8}\.json|"
    r"trial-[0-9a-f]{16})$"
)

# Names of what stays.
FOLDERS = {"staged", "history"}
STAYS = FOLDERS | {RECORD, JOURNAL, UNDO, UNDONE, TRIAL, "lock"}


class Locked(Exception):
    """Another run holds the host."""


def own(state_dir):
    """Make the directory, or see that the one that is there is ours. Raises Failed or OSError.

    One that is there keeps its mode: somebody may have named /etc or /opt. Root runs undo.sh by this path, so
    nobody else may change what is behind it.
    """
    try:
        os.makedirs(state_dir, 0o700)
        made = True
    except FileExistsError:
        made = False
    folders = [os.path.dirname(path) for path in (os.path.abspath(state_dir), os.path.realpath(state_dir))]
    problem = programs.others_may_change(folders[0]) or programs.others_may_change(folders[1])
    if problem:
        if made:
            os.rmdir(state_dir)
        raise Failed(
            "falco_tune_state_dir is %s, and %s. Nothing was changed; set it to a directory that root alone "
            "can move, such as /var/lib/falcotune" % (state_dir, problem),
            undone=True,
        )
    if made:
        return
    found, names = os.stat(state_dir), set(os.listdir(state_dir))
    mode = stat.S_IMODE(found.st_mode)
    others = mode & stat.S_IWOTH or mode & stat.S_IWGRP and found.st_gid not in (0, os.getegid())
    if found.st_uid != os.geteuid():
        problem = "belongs to uid %d, and this is uid %d" % (found.st_uid, os.geteuid())
    elif others:
        problem = "can be written by others (mode %04o)" % mode
    elif not _is_ours(state_dir, names):
        problem = "holds what this collection did not put there (%s)" % ", ".join(
            _foreign(state_dir, names)[:3]
        )
    else:
        return
    raise Failed(
        "%s %s: nothing was changed; expected a directory of its own. Set falco_tune_state_dir to one that "
        "does not exist yet, such as %s" % (state_dir, problem, os.path.join(state_dir, "falcotune")),
        undone=True,
    )


def _foreign(state_dir, names):
    """Those that no run of ours leaves there: by their names, and whether they are files or directories."""
    found = []
    for name in sorted(names):
        kind = stat.S_ISDIR if name in FOLDERS else stat.S_ISREG
        known = name in STAYS and kind(os.lstat(os.path.join(state_dir, name)).st_mode)
        if not known and not PASSING.match(name):
            found.append(name)
    return found


def _is_ours(state_dir, names):
    """Whether a directory with these names holds nothing foreign, or a run of ours has been there.

    Another run may have made the directory a moment ago, and not yet its lock.
    """
    if not _foreign(state_dir, names):
        return True
    try:
        lock_file = os.lstat(os.path.join(state_dir, "lock"))
    except OSError:
        return False
    return stat.S_ISREG(lock_file.st_mode) and bool(names & (STAYS - {"lock"}))


def identity(path):
    """What tells that a binary is still the same file: [device, inode, size, mtime in ns], or None."""
    try:
        if not os.access(path, os.X_OK) or os.path.isdir(path):
            return None
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns]


def read_json(path):
    """The dict in a file, None where there is none that can be read."""
    try:
        return _parsed(path)
    except (OSError, ValueError):
        return None


def _parsed(path):
    """The dict in a file, None where there is no file. Raises OSError or ValueError."""
    try:
        with host.regular(path) as stream:
            value = json.loads(stream.read(1 << 24).decode("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value


def _required(path):
    """As _parsed(), for a file that must not be taken for one that is not there: what it speaks of would be
    swept away, with a Falco that is stopped. Raises Failed. One that holds something else tells nothing.
    """
    try:
        return _parsed(path)
    except ValueError:
        return None
    except OSError as error:
        raise Failed("%s can't be read: %s" % (path, error.strerror))


def write_atomic(path, data, mode=0o600):
    """Write bytes so that a reader finds the old file or the new one, on disk before the name changes."""
    folder = os.path.dirname(path)
    handle, name = tempfile.mkstemp(dir=folder, prefix=".falcotune-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.rename(name, path)
    except BaseException:
        try:
            os.unlink(name)
        except OSError:
            pass
        raise
    sync_folder(folder)


def sync_folder(folder):
    """Make a rename survive a power cut."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def write_json(path, value):
    write_atomic(path, json.dumps(value, sort_keys=True).encode("utf-8"))


def _renamed(value):
    """A file of an earlier version in the names of today; None stays None."""
    return value and {RENAMED.get(name, name): item for name, item in value.items()}


def _evidence(value):
    """The evidence of an earlier version, whose source told the basis too; any other value as it is."""
    if not isinstance(value, dict) or "basis" in value:
        return value
    kind, colon, reason = str(value.get("source") or "").partition(": ")
    if kind == "process only" and colon:
        return dict(value, basis="process", source=None, reason=reason)
    return dict(value, basis="counters", reason=None)


def load(state_dir, required=False):
    """The proven record, or None. required: raises OSError where there is one that can't be read now."""
    try:
        record = _renamed(_parsed(os.path.join(state_dir, RECORD)))
    except ValueError:
        return None
    except OSError:
        if required:
            raise
        return None
    if record and "evidence" in record:
        record["evidence"] = _evidence(record["evidence"])
    return record


def write_record(state_dir, record):
    write_json(os.path.join(state_dir, RECORD), record)


def journal(state_dir):
    """The entry of a change that was broken off, or None.

    Raises Failed for one that can't be read, or can't be undone by what it says.
    """
    path = os.path.join(state_dir, JOURNAL)
    entry = _renamed(_required(path))
    if not entry:
        return None
    missing = [name for name in NEEDED if name not in entry]
    if missing:
        raise Failed(
            "%s can't be understood: it has no %s; expected the journal of a change that was broken off. "
            "Compare Falco's files with %s/history, restore them and remove the journal"
            % (path, ", ".join(missing), state_dir)
        )
    return dict(entry, state_dir=state_dir)


def write_journal(state_dir, entry):
    write_json(os.path.join(state_dir, JOURNAL), entry)


def drop_journal(state_dir):
    _drop(state_dir, JOURNAL)
    # On disk before the names that it speaks of go: or a journal that comes back after a power cut would undo
    # a change without them.
    sync_folder(state_dir)


def _drop(state_dir, name):
    try:
        os.unlink(os.path.join(state_dir, name))
    except FileNotFoundError:
        pass


def undone(state_dir):
    """The journal entry of a change that undo.sh has undone, or None. Raises Failed."""
    return _required(os.path.join(state_dir, UNDONE))


def drop_undone(state_dir):
    _drop(state_dir, UNDONE)


def trial(state_dir):
    """The journal of a trial that is under way or was broken off, or None. Raises Failed."""
    return _renamed(_required(os.path.join(state_dir, TRIAL)))


def write_trial(state_dir, entry):
    write_json(os.path.join(state_dir, TRIAL), entry)


def drop_trial(state_dir):
    _drop(state_dir, TRIAL)


def summary(record, pid, start):
    """What facts tell of the record: whether it speaks of the process that runs now."""
    if not record:
        return None
    process = record.get("process") or {}
    return {
        "proven": bool(pid) and process.get("pid") == pid and process.get("start_ticks") == start,
        "at": record.get("at"),
        "files": record.get("files"),
        "evidence": record.get("evidence"),
        "version": (record.get("binary") or {}).get("version"),
        "driver": (record.get("proof") or {}).get("driver"),
        "before": record.get("before"),
        "written": record.get("written") or [],
        "attempts": record.get("attempts") or [],
    }


def seen(record):
    """What tells a record from an earlier one: when it was proven, and when a step was tried last. An earlier
    step that failed is kept in the record without a new proof.
    """
    record = record or {}
    attempts = record.get("attempts") or [{}]
    return {"at": _moment(record.get("at")), "tried": _moment(attempts[-1].get("at"))}


def _moment(value):
    """A Unix time that facts would tell, or None."""
    return value if isinstance(value, (int, float)) and 0 < value <= LATEST else None


def unfinished(state_dir):
    """The change or trial that nobody is working on any more, as {'phase', 'at'}; the phase of a trial is
    'trial', of a change that undo.sh has undone 'undone'. Or None.
    """
    change, undone_one, tried = (
        read_json(os.path.join(state_dir, name)) for name in (JOURNAL, UNDONE, TRIAL)
    )
    if not change and not undone_one and not tried:
        return None
    if held(state_dir):
        return None
    if change:
        return {"phase": change.get("phase"), "at": change.get("at")}
    if undone_one:
        return {"phase": "undone", "at": undone_one.get("at")}
    return {"phase": "trial", "at": tried.get("at")}


def _passing(state_dir):
    """Paths of what a killed writer left half done, in the folders of the history too: fold_history() writes
    there.
    """
    found = []
    for folder in [state_dir] + [kept_folder(state_dir, number) for number in history(state_dir)]:
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        found.extend(os.path.join(folder, name) for name in names if PASSING.match(name))
    return found


def sweep(state_dir):
    """Remove what a killed writer left half done.

    For whoever holds the lock, once no journal speaks of it any more.
    """
    for whole in _passing(state_dir):
        if os.path.isdir(whole) and not os.path.islink(whole):
            shutil.rmtree(whole, ignore_errors=True)
            continue
        try:
            os.unlink(whole)
        except OSError:
            pass  # the next run tries again


def untidy(state_dir):
    """Whether sweep() would find anything, and nobody is at work."""
    return bool(_passing(state_dir)) and not held(state_dir)


def staged(state_dir):
    """{'digest', 'at'} of a change that waits for consent, or None."""
    found = read_json(os.path.join(state_dir, "staged", "manifest.json"))
    return {"digest": found.get("digest"), "at": found.get("at")} if found else None


def keep_staged(state_dir, digest, files):
    """Keep a change that may not be made now, instead of an earlier one.

    files: [(path, bytes or None, mode)].
    """
    folder = tempfile.mkdtemp(dir=state_dir, prefix=".falcotune-staged-")
    try:
        manifest = {"digest": digest, "at": time.time(), "files": []}
        for number, (path, data, mode) in enumerate(files):
            entry = {"path": path, "kept": None if data is None else "%d" % number, "mode": "%04o" % mode}
            if data is not None:
                write_atomic(os.path.join(folder, entry["kept"]), data)
            manifest["files"].append(entry)
        write_json(os.path.join(folder, "manifest.json"), manifest)
        drop_staged(state_dir)
        os.rename(folder, os.path.join(state_dir, "staged"))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    sync_folder(state_dir)


def drop_staged(state_dir):
    shutil.rmtree(os.path.join(state_dir, "staged"), ignore_errors=True)


def held(state_dir):
    """Whether a live run holds the lock."""
    try:
        handle = os.open(os.path.join(state_dir, "lock"), os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(handle)


def lock(state_dir):
    """Take the host for one change; the handle keeps it, and a forked worker inherits it. Raises Locked."""
    handle = os.open(os.path.join(state_dir, "lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    if not _locked(handle):
        owner = os.read(handle, 200).decode("utf-8", "replace").strip()
        os.close(handle)
        raise Locked(owner)
    os.ftruncate(handle, 0)
    os.lseek(handle, 0, os.SEEK_SET)
    os.write(handle, ("process %d\n" % os.getpid()).encode("ascii"))
    return handle


def _locked(handle):
    """Whether the lock became ours."""
    until = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() >= until:
                return False
        time.sleep(0.02)


def kept_folder(state_dir, number):
    return os.path.join(state_dir, "history", "%04d" % number)


def manifest(state_dir, number):
    """What change NNNN replaced. Raises Failed."""
    folder = kept_folder(state_dir, number)
    found = _renamed(read_json(os.path.join(folder, "manifest.json")))
    if found is None:
        raise Failed("%s/manifest.json can't be read: nothing was changed" % folder)
    return found


def fold_history(state_dir, most):
    """Keep at most so many changes. The oldest is folded into the one after it, so that the original state
    can still be restored; only the states between are given up.

    Best effort, any number of times. Raises OSError or ValueError: a manifest that can't be read now is not
    one that is not there.
    """
    numbers = history(state_dir)
    while len(numbers) > max(1, most):
        oldest, following = (kept_folder(state_dir, number) for number in numbers[:2])
        first, second = (
            _renamed(_parsed(os.path.join(folder, "manifest.json"))) for folder in (oldest, following)
        )
        if first and second:
            entries = {entry["path"]: entry for entry in second["files"]}
            for entry in first["files"]:
                kept = dict(entry)
                if entry["old"] is not None:
                    kept["old"] = "%d-%s" % (numbers[0], entry["old"])
                    with open(os.path.join(oldest, entry["old"]), "rb") as stream:
                        write_atomic(os.path.join(following, kept["old"]), stream.read())
                # What is there since is what the later change wrote.
                kept["new_sha256"] = entries.get(entry["path"], entry)["new_sha256"]
                entries[entry["path"]] = kept
            made = first["directories"] + [
                path for path in second["directories"] if path not in first["directories"]
            ]
            write_json(
                os.path.join(following, "manifest.json"),
                dict(
                    second,
                    files=list(entries.values()),
                    directories=made,
                    sysctls=dict(second["sysctls"], **first["sysctls"]),
                    **{name: first.get(name) for name in ("at", "written", "proof")},
                ),
            )
        shutil.rmtree(oldest, ignore_errors=True)
        numbers = numbers[1:]


def history(state_dir):
    """Numbers of the kept changes, oldest first."""
    try:
        names = os.listdir(os.path.join(state_dir, "history"))
    except OSError:
        return []
    return sorted(int(name) for name in names if name.isdigit())
