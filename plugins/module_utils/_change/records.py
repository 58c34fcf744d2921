# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the collection keeps on a host: the proven record, the history of changes, the journal of an unfinished one.

STATE/record.json     what was proven last: binary, process, hashes, evidence, what was measured before the change, and the
                      attempts: changes that evidence asked for, so that one that did nothing is not made again
STATE/journal.json    a transaction that is under way, or whose keeper died
STATE/trial.json      a trial that is under way, or that was broken off
STATE/staged/         a change that waits for consent to a restart: its files, and manifest.json with the digest that tells it from others
STATE/history/NNNN/   the files as they were before change NNNN, with manifest.json
STATE/lock            held by the one run that may change the host
"""

import fcntl
import json
import os
import shutil
import tempfile
import time


# Names of what is there only while somebody holds the lock.
PASSING = (".falcotune-", "candidate-", "token-", "trial-")


class Locked(Exception):
    """Another run holds the host."""


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
    try:
        with open(path, "rb") as stream:
            value = json.loads(stream.read(1 << 24).decode("utf-8"))
    except (IOError, OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


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


def load(state):
    return read_json(os.path.join(state, "record.json"))


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
        "driver": (record.get("watch") or {}).get("driver"),
        "before": record.get("before"),
        "written": record.get("written") or [],
        "attempts": record.get("attempts") or [],
    }


def unfinished(state):
    """The change or trial that nobody is working on any more, as {'phase', 'at'}; the phase of a trial is 'trial'. Or None."""
    change, trial = (read_json(os.path.join(state, name)) for name in ("journal.json", "trial.json"))
    if not change and not trial:
        return None
    if held(state):
        return None
    if change:
        return {"phase": change.get("phase"), "at": change.get("at")}
    return {"phase": "trial", "at": trial.get("at")}


def sweep(state):
    """Take away what a killed writer left half done. By whoever holds the lock, once no journal speaks of it any more."""
    try:
        names = os.listdir(state)
    except OSError:
        return
    for name in names:
        whole = os.path.join(state, name)
        if not name.startswith(PASSING):
            continue
        if os.path.isdir(whole) and not os.path.islink(whole):
            shutil.rmtree(whole, ignore_errors=True)
        else:
            os.unlink(whole)


def staged(state):
    """{'digest', 'at'} of a change that waits for consent, or None."""
    found = read_json(os.path.join(state, "staged", "manifest.json"))
    return {"digest": found.get("digest"), "at": found.get("at")} if found else None


def keep_staged(state, digest, files):
    """Keep a change that may not be made now, instead of an earlier one. files: [(path, bytes or None, mode)]."""
    folder = tempfile.mkdtemp(dir=state, prefix=".falcotune-staged-")
    try:
        manifest = {"digest": digest, "at": time.time(), "files": []}
        for number, (path, data, mode) in enumerate(files):
            entry = {"path": path, "kept": None if data is None else "%d" % number, "mode": "%04o" % mode}
            if data is not None:
                write_atomic(os.path.join(folder, entry["kept"]), data)
            manifest["files"].append(entry)
        write_json(os.path.join(folder, "manifest.json"), manifest)
        drop_staged(state)
        os.rename(folder, os.path.join(state, "staged"))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    sync_folder(state)


def drop_staged(state):
    shutil.rmtree(os.path.join(state, "staged"), ignore_errors=True)


def held(state):
    """Whether a live run holds the lock."""
    try:
        handle = os.open(os.path.join(state, "lock"), os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except (IOError, OSError):
        return True
    finally:
        os.close(handle)


def lock(state):
    """Take the host for one change; the handle keeps it, and a forked keeper inherits it. Raises Locked."""
    handle = os.open(os.path.join(state, "lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (IOError, OSError):
        owner = os.read(handle, 200).decode("utf-8", "replace").strip()
        os.close(handle)
        raise Locked(owner)
    os.ftruncate(handle, 0)
    os.lseek(handle, 0, os.SEEK_SET)
    os.write(handle, ("process %d\n" % os.getpid()).encode("ascii"))
    return handle


def history(state):
    """Numbers of the kept changes, oldest first."""
    try:
        names = os.listdir(os.path.join(state, "history"))
    except OSError:
        return []
    return sorted(int(name) for name in names if name.isdigit())
