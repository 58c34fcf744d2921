# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failure domains that a rollout of this control node changes now.

Two rollouts at once would each spend the share of a domain that may be blind. One file says which rollout has
which domains. A rollout is its ansible-playbook, which is known by machine, boot, pid and start. One that is
no longer there holds nothing, so nobody has to clean up.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.falcotune.fleet.plugins.plugin_utils import _untrusted
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import several, some

NAME = "falcotune-rollouts"
# Seconds to wait for another rollout that reads or writes the file, which takes milliseconds.
PATIENCE = 10.0
PAUSE = 0.05
MOST_BYTES = 1 << 24
BOOT = Path("/proc/sys/kernel/random/boot_id")


class HeldError(ValueError):
    """Another rollout has failure domains of this one: says which, and who."""


class LockError(ValueError):
    """The file cannot be used: says which and why."""


class Holder(NamedTuple):
    """A process. start: clock ticks since boot, of /proc; 0 where there is no /proc. began: Unix time at
    which the rollout took its domains."""

    host: str
    boot: str
    pid: int
    start: int
    began: float


def holder(pid: int) -> Holder:
    """The running process with this number."""
    return Holder(platform.node(), _boot(), pid, _start(pid) or 0, time.time())


def take(folder: Path, domains: Iterable[str], mine: Holder) -> None:
    """All of these domains for this rollout, and no others. Raises HeldError, and takes none, where a rollout
    that still runs has one of them. Raises LockError."""
    wanted = sorted(set(domains))
    with _opened(folder) as table:
        for domain, other in list(table.items()):
            if _same(other, mine) or not _runs(other):
                del table[domain]
        held = [domain for domain in wanted if domain in table]
        if held:
            raise HeldError(_told(held, table[held[0]]))
        table.update(dict.fromkeys(wanted, mine))


def release(folder: Path, mine: Holder) -> None:
    """What this rollout took is free. Raises LockError."""
    with _opened(folder) as table:
        for domain, other in list(table.items()):
            if _same(other, mine):
                del table[domain]


def _told(held: list[str], other: Holder) -> str:
    began = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(other.began))
    return (
        "another rollout holds %s of this one (%s): ansible-playbook with pid %d on %s since %s. Both would "
        "leave the allowed share of a domain blind at one time. Nothing was changed. Run again when the "
        "other rollout has ended, or leave these hosts out"
        % (several(len(held), "failure domain"), some(held), other.pid, other.host, began)
    )


def _same(one: Holder, other: Holder) -> bool:
    return one[:4] == other[:4]


def _runs(other: Holder) -> bool:
    """Whether the process is still there. That of another machine is taken for running."""
    if other.host != platform.node():
        return True
    if other.boot != _boot():
        return False
    start = _start(other.pid)
    if start is not None:
        return start == other.start
    if BOOT.exists():
        return False
    try:  # a control node without /proc
        os.kill(other.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _boot() -> str:
    try:
        return BOOT.read_text("ascii").strip()
    except OSError:
        return ""


def _start(pid: int) -> int | None:
    """When a process started, in ticks since boot; None where there is no such process."""
    try:
        fields = Path("/proc/%d/stat" % pid).read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return None
    # A zombie is a rollout that has ended.
    return None if fields[0] in ("Z", "X") else int(fields[19])


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[dict[str, Holder]]:
    """{domain: holder}, for one process at a time. What is in it at the end of the body is kept."""
    path = folder / (NAME + ".json")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(
            folder / (NAME + ".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        with os.fdopen(handle, "w") as lock:
            _lock(lock.fileno(), path)
            table = _read(path)
            before = dict(table)
            yield table
            if table != before:
                _write(path, table)
    except OSError as error:
        raise LockError("%s cannot be used: %s" % (path, error.strerror)) from None


def _lock(handle: int, path: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise LockError("%s has been locked for %d s" % (path, PATIENCE)) from None
            time.sleep(PAUSE)


def _read(path: Path) -> dict[str, Holder]:
    """What is in the file. A file that is none of ours, or that a power cut left empty, holds nothing."""
    try:
        with path.open("rb") as stream:
            data = json.loads(stream.read(MOST_BYTES))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError):
        return {}
    found = {_untrusted.key(domain): _holder(item) for domain, item in _untrusted.dictionary(data).items()}
    return {domain: item for domain, item in found.items() if item is not None}


def _holder(value: object) -> Holder | None:
    given: dict[str, Any] = _untrusted.dictionary(value)
    pid, start = _untrusted.count(given.get("pid")), _untrusted.count(given.get("start"))
    began = _untrusted.number(given.get("began"))
    if not pid or pid >= 1 << 31 or start is None or began is None or began > 1 << 33:
        return None
    return Holder(_untrusted.key(given.get("host")), _untrusted.key(given.get("boot")), pid, start, began)


def _write(path: Path, table: dict[str, Holder]) -> None:
    """At once: a rollout that is killed here leaves the old file."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as stream:
        json.dump({domain: item._asdict() for domain, item in table.items()}, stream)
    new.replace(path)
