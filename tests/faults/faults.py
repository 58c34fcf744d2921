# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong at a call: an errno, a SIGKILL, a systemd that hangs, a clock that is set, a reboot. Chosen by a seed."""

from __future__ import annotations

import errno
import os
import random

WRITING = {"write", "fsync", "fchmod", "fchown", "chown", "chmod", "rename", "replace", "link", "symlink", "unlink", "remove", "mkdir",
           "rmdir", "ftruncate", "setxattr", "exchange", "move", "mv", "rm", "ln"}
NEEDS_ROOM = {"write", "fsync", "link", "symlink", "mkdir", "setxattr"}
BY_HANDLE = {"write", "fsync", "ftruncate"}
# "session": what is not in a scope of its own, as at the end of a session.
VICTIMS = (("worker",), ("watchdog",), ("module",), ("worker", "watchdog"), ("module", "watchdog"), ("session",), None, None)


def writes(entry: dict) -> bool:
    return entry["name"] in WRITING or entry["name"] == "open" and bool(entry["flags"] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def errnos(entry: dict) -> list[int]:
    """With which errors a call can fail."""
    name = entry["name"]
    if name in ("run", "fork"):
        return [errno.EAGAIN, errno.ENOMEM]
    if name == "flock":
        return [errno.ENOLCK]
    found = [errno.EIO]
    if writes(entry):
        found.append(errno.EROFS)
        if name not in BY_HANDLE and entry["kind"] != "script":
            found.append(errno.EPERM)
        if name in NEEDS_ROOM or name == "open" and entry["flags"] & os.O_CREAT:
            found.append(errno.ENOSPC)
    return found


def label(entry: dict) -> str:
    """A point's name: who, which call, on what; random parts left out."""
    words = []
    for path in entry["paths"]:
        for part in path.replace("=", "/").split("/"):
            if "p00" in part or "p01" in part:
                part = part.split("p0")[0] + "*"
            words.append(part + "/")
    return "%s %s %s" % (entry["kind"], entry["name"], "".join(words).rstrip("/"))


class Fault:
    """at: number of the call, counted from the beginning of the run, at which it begins; the first one that is so or later."""

    def __init__(self, at: int, kind: str, **more):
        self.at, self.kind, self.more = at, kind, more

    def __repr__(self):
        return "at call %d: %s%s" % (self.at, self.kind, "".join(" %s=%s" % item for item in sorted(self.more.items())))


KINDS = (["errno"] * 8 + ["kill"] * 5 + ["stop hangs", "start fails", "start hangs", "systemd hangs", "systemd refuses", "clock", "reboot"])


def draw(rng: random.Random, calls: list[dict]) -> list[Fault]:
    """One to three faults. calls: those of the same run without faults."""
    weights = [4 if writes(entry) or entry["name"] in ("run", "fork", "flock") else 1 for entry in calls]
    found, at = [], 0
    for number in range(rng.choice((1, 1, 2, 2, 3))):
        if number == 0 or rng.random() < 0.3:
            at = rng.choices(range(len(calls)), weights)[0]
        else:
            at += rng.randint(1, 60)
        kind = rng.choice(KINDS)
        more: dict = {}
        if kind == "errno":
            more = {"choice": rng.random(), "seconds": rng.choice((0, 0, 0, 2, 30, 300))}
        elif kind == "kill":
            more = {"victims": rng.choice(VICTIMS)}
        elif kind == "stop hangs":
            more = {"seconds": rng.choice((5, 40, 60, 120))}
        elif kind in ("start fails", "start hangs", "systemd hangs", "systemd refuses"):
            more = {"seconds": rng.choice((2, 20, 50, 100, 150))}
        elif kind == "clock":
            more = {"seconds": rng.choice((-86400, 86400))}
        found.append(Fault(at, kind, **more))
    return found


class Faults:
    """Makes the faults of one run happen."""

    def __init__(self, host, faults: list[Fault]):
        self.host, self.conductor, self.waiting = host, host.conductor, list(faults)
        self.first = len(host.conductor.calls)
        self.errors: list[tuple] = []  # (errno, mount, until) of file systems that are full or read-only
        self.obstacles: list[tuple[float, float]] = []  # times in which nobody could start Falco, or write
        self.killed = False
        self.happened: list[str] = []
        host.conductor.faults = self

    def over(self) -> None:
        """Whoever was to mend it has done so."""
        self.waiting, self.errors = [], []
        self.host.conductor.faults = None
        manager = self.host.manager
        manager.deaf = manager.refuses = manager.stop_hangs = manager.start_hangs = manager.start_fails = 0.0

    def decide(self, entry: dict):
        number, error = entry["number"] - self.first, None
        for fault in [fault for fault in self.waiting if number >= fault.at]:
            self.waiting.remove(fault)
            self.happened.append("%s (%s)" % (fault, label(entry)))
            self.conductor.say("FAULT %s" % self.happened[-1])
            error = getattr(self, "_" + fault.kind.replace(" ", "_"))(entry, **fault.more) or error
        if error:
            return error
        possible = errnos(entry)
        for number, where, until in self.errors:
            if self.conductor.now < until and entry["paths"] and where == self._place(entry) and number in possible and writes(entry):
                return number
        return None

    def _place(self, entry: dict) -> str:
        path = entry["paths"][-1]
        return "proc" if path.startswith("proc/") else self.conductor.mount(path)

    def _obstacle(self, seconds: float) -> None:
        self.obstacles.append((self.conductor.now, self.conductor.now + seconds))

    def _full(self, entry: dict, number: int, seconds: float) -> None:
        """Every file system at once."""
        self.errors += [(number, mount, self.conductor.now + seconds) for mount in ["", *self.host.mounts]]
        self._obstacle(seconds)

    def _errno(self, entry: dict, choice: float, seconds: float, number: int | None = None):
        possible = errnos(entry)
        number = number or possible[int(choice * len(possible))]
        if seconds and writes(entry) and number != errno.EPERM:
            self.errors.append((number, self._place(entry), self.conductor.now + seconds))
            self._obstacle(seconds)
        return number

    def _kill(self, entry: dict, victims) -> None:
        self.killed = True
        if victims == ("session",):
            for process in self.conductor.living():
                if not process.detached:
                    self.conductor.kill_one(process)
            return
        self.conductor.kill(victims)

    def _stop_hangs(self, entry: dict, seconds: float) -> None:
        # systemd's SIGKILL ends it.
        self.host.manager.stop_hangs = self.conductor.now + seconds
        self._obstacle(min(seconds, 32))

    def _start_fails(self, entry: dict, seconds: float) -> None:
        self.host.manager.start_fails = self.conductor.now + seconds
        self._obstacle(seconds)

    def _start_hangs(self, entry: dict, seconds: float) -> None:
        self.host.manager.start_hangs = self.conductor.now + seconds
        self._obstacle(seconds)

    def _systemd_hangs(self, entry: dict, seconds: float) -> None:
        self.host.manager.fall_deaf(seconds)
        self._obstacle(seconds)

    def _systemd_refuses(self, entry: dict, seconds: float) -> None:
        self.host.manager.refuses = self.conductor.now + seconds
        self._obstacle(seconds)

    def _clock(self, entry: dict, seconds: float) -> None:
        self.conductor.wall_offset += seconds

    def _reboot(self, entry: dict) -> None:
        self.killed = True
        self.errors = []
        self.host.reboot()
        self._obstacle(25)
