# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The history of audits as action plugins open it: a file in a place that is ours, or a PostgreSQL."""

from __future__ import annotations

import os
import re
import stat

from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import history, postgresql
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report.history import HistoryError

# How a connection string of libpq begins; all else is a path.
DSN = re.compile(r"postgres(?:ql)?://|[a-z_]+\s*=")


def named(where: str) -> history.Audits | None:
    """The history that a path or a connection string names, to be read. None where there is none yet."""
    if not DSN.match(where):
        return in_file(where, writes=False)
    found = postgresql.Postgres(where, writes=False)
    if found.version < history.VERSION:
        found.close()
        return None
    return found


def in_file(where: str, retention_days: int = 400, writes: bool = True) -> history.History | None:
    """The history in a file. None where there is none and nothing is written."""
    path = os.path.abspath(os.path.expanduser(where))
    check_directory(os.path.dirname(path), "falco_audit_history")
    for name in (path, path + "-wal", path + "-shm", path + "-journal"):
        _check_file(name)
    return history.History(path, retention_days) if writes or os.path.exists(path) else None


def check_directory(directory: str, variable: str) -> None:
    """Raises HistoryError where others could put files of theirs in the place of ours.

    One that is missing is not checked.
    """
    try:
        found = os.stat(directory)
    except OSError:
        return
    mode = stat.S_IMODE(found.st_mode)
    # In /tmp and the like nobody can rename or remove the files of others.
    if found.st_uid == 0 and mode & stat.S_ISVTX:
        return
    others = mode & stat.S_IWOTH or mode & stat.S_IWGRP and found.st_gid not in (0, os.getegid())
    if found.st_uid != os.geteuid():
        problem = "belongs to uid %d, and this is uid %d" % (found.st_uid, os.geteuid())
    elif others:
        problem = "can be written by others (mode %04o)" % mode
    else:
        return
    raise HistoryError(
        "%s %s: nothing was written; expected a directory that only you can write to. Remove it, change its "
        "owner or mode, or set %s" % (directory, problem, variable)
    )


def _check_file(path: str) -> None:
    """Raises HistoryError for a file of SQLite's that leads somewhere else, or that somebody else made."""
    try:
        found = os.lstat(path)
    except OSError:
        return
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        problem = "is a link or not a regular file"
    elif found.st_uid != os.geteuid():
        problem = "belongs to uid %d, and this is uid %d" % (found.st_uid, os.geteuid())
    else:
        return
    raise HistoryError(
        "%s %s: nothing was written; expected a file of yours. Remove it, or set falco_audit_history to "
        "another file" % (path, problem)
    )
