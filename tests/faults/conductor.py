# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host under control: real processes of the collection, one running at a time, on virtual time.

Every process asks before each system call (see interposed.py). The conductor decides who runs next, what time it is, which call
fails and who is killed; it logs every call. With the same seed the same happens again.
"""

from __future__ import annotations

import ctypes
import gc
import heapq
import os
import pickle
import shutil
import signal
import socket
import subprocess
import traceback
from pathlib import Path

import interposed

# Virtual seconds that a call takes; the exact number is of no importance, that time goes on is.
COST = {"fsync": 0.004, "command": 0.01, "fork": 0.002}
CALL = 0.0002
PATIENCE = 300  # real seconds for a process to come to its next call
MOST_CALLS = 60000
PR_SET_CHILD_SUBREAPER = 36


class Stuck(AssertionError):
    """The host came to no end."""


class Process:
    def __init__(self, pid: int, parent: int, kind: str, number: int, line: socket.socket):
        self.pid, self.parent, self.kind, self.number, self.line = pid, parent, kind, number, line
        self.files: dict[int, str] = {}
        self.last = None  # log entry of the call that it is about to make
        self.waiting = None  # () → reply or None, asked again after each event
        self.alive = True
        self.detached = False  # in a scope of its own
        self.forks = ""  # the kind of the child that it is about to fork
        self.when_ended = None
        self.ancestors: list[int] = []


SCRIPT = r"""
exec 8>&1 9<&0 >/dev/null 2>&1 </dev/null
ask() { printf '%s\n' "$*" >&8; read -r status text <&9 || exit 9; [ -z "$text" ] || printf '%s\n' "$text"; return "$status"; }
systemctl() { ask systemctl "$@"; }
sleep() { ask sleep "$@"; }
sync() { ask sync; }
mv() { ask mv "$@" && command mv "$@"; }
rm() { ask rm "$@" && command rm "$@"; }
ln() { ask ln "$@" && command ln "$@"; }
rmdir() { ask rmdir "$@" && command rmdir "$@"; }
. "$0"
"""


class ScriptLine:
    """A shell script in place of a socket: it asks in lines of text, and is answered with a status and a text."""

    def __init__(self, words: list[str]):
        hears, self.out = interposed.REAL["pipe"]()
        self.into, says = interposed.REAL["pipe"]()
        self.process = subprocess.Popen(["/bin/sh", "-c", SCRIPT, *words], stdin=hears, stdout=says, env={"PATH": os.defpath})
        os.close(hears)
        os.close(says)
        self.pid, self.text = self.process.pid, b""

    def send(self, data: bytes) -> None:
        _now, _wall, kind, value, *_free = pickle.loads(data)
        status, text = value if isinstance(value, tuple) else (1 if kind == "error" else 0, "")
        os.write(self.out, ("%d %s\n" % (status, text)).encode())

    def recv(self, _size: int) -> bytes:
        while b"\n" not in self.text:
            more = os.read(self.into, 4096)
            if not more:
                return b""
            self.text += more
        line, _newline, self.text = self.text.partition(b"\n")
        return pickle.dumps((0, [], ("script", line.decode().split())))

    def close(self) -> None:
        for end in (self.out, self.into):
            try:
                os.close(end)
            except OSError:
                pass


class Command:
    """One command that a process has started."""

    def __init__(self, number: int, words: list[str]):
        self.number, self.words, self.answer = number, words, None

    def end(self, status: int | None, out: str = "", err: str = "") -> None:
        if self.answer is None:
            self.answer = (status, out, err)


class Conductor:
    """folder: for the socket. root: the host's directory. faults: decides about each call (faults.Faults), or None."""

    def __init__(self, folder: Path, root: Path, faults=None):
        self.root, self.faults = root, faults
        self.now, self.wall_offset = 1000.0, 1.7e9
        self.queue: list = []
        self.order = 0
        self.processes: dict[int, Process] = {}
        self.calls: list[dict] = []
        self.trace: list[str] = []
        self.answers: dict[int, dict] = {}
        self.commands: dict[int, Command] = {}
        self.number = 0
        self.forked: dict[int, int] = {}
        self.manager = None  # stand_in.Manager
        self.watchers: list = []  # called with each log entry before the call is made: editors
        self.mounts: list[str] = []
        self.address = str(folder / "line")
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listening.bind(self.address)
        self.listening.listen(16)
        self.listening.settimeout(PATIENCE)
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    # -- time

    def say(self, text: str) -> None:
        self.trace.append("%9.3f %s" % (self.now, text))

    def at(self, when: float, action, *arguments) -> None:
        self.order += 1
        heapq.heappush(self.queue, (when, self.order, action, arguments))

    def after(self, seconds: float, action, *arguments) -> None:
        self.at(self.now + seconds, action, *arguments)

    @property
    def wall(self) -> float:
        return self.now + self.wall_offset

    def run(self, until: float | None = None) -> None:
        """Until no process lives, or until that time."""
        while self.queue:
            if until is None and not any(process.kind != "script" for process in self.living()):
                return
            if until is not None and self.queue[0][0] > until:
                break
            when, _order, action, arguments = heapq.heappop(self.queue)
            self.now = max(self.now, when)
            action(*arguments)
            self.wake()
            if len(self.calls) > MOST_CALLS:
                raise Stuck("more than %d calls:\n%s" % (MOST_CALLS, "\n".join(self.trace[-20:])))
        if until is not None:
            self.now = max(self.now, until)
        elif self.living():
            raise Stuck("nothing happens any more: %s" % [(one.kind, one.waiting) for one in self.living()])

    def living(self) -> list[Process]:
        return [process for process in self.processes.values() if process.alive]

    def wake(self) -> None:
        for process in list(self.processes.values()):
            if process.alive and process.waiting:
                reply = process.waiting()
                if reply is not None:
                    process.waiting = None
                    self.after(CALL, self.resume, process, *reply)

    # -- processes

    def launch(self, body) -> int:
        """A process of the collection: body() → its answer. → its number."""
        self.number += 1
        number = self.number
        gc.freeze()
        pid = interposed.REAL["fork"]()
        if pid == 0:
            self._child(body, number)
        process = self._accept(pid)
        self.after(CALL, self.resume, process, "go", self.mounts)
        return process.number

    def _child(self, body, number: int) -> None:
        gc.disable()  # it would touch, and so copy, all pages that this process shares with its parent
        try:
            self.listening.close()
            for process in self.processes.values():
                process.line.close()
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            link = interposed.install(self.address, str(self.root))
            owner = os.getpid()
            try:
                answer = body()
            except Exception:  # noqa: BLE001
                answer = {"crashed": traceback.format_exc()}
            if os.getpid() == owner:
                link.ask("answer", answer)
        finally:
            os._exit(0)

    def _accept(self, pid: int, kind: str | None = None, parent: Process | None = None) -> Process:
        line, _address = self.listening.accept()
        line.settimeout(PATIENCE)
        _result, _noted, (_hello, told, ppid, said) = pickle.loads(line.recv(1 << 20))
        assert told == pid, (told, pid)
        process = Process(pid, ppid, kind or said, self.number, line)
        if parent:
            self.number += 1
            process.number = self.number
            process.files = dict(parent.files)
            process.ancestors = [*parent.ancestors, parent.number]
            process.detached = parent.detached
        self.processes[process.number] = process
        self.say("process %d is %s" % (process.number, process.kind))
        return process

    def resume(self, process: Process, kind: str, value) -> None:
        """Send a reply and hear the next request."""
        if not process.alive:
            return
        try:
            process.line.send(pickle.dumps((self.now, self.wall, kind, value, *self.free())))
            self.hear(process)
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise Stuck("%s made no call for %d s" % (process.kind, PATIENCE)) from None
            self.ended(process)

    def hear(self, process: Process) -> None:
        data = process.line.recv(1 << 20)
        if not data:
            self.ended(process)
            return
        result, noted, message = pickle.loads(data)
        if process.last is not None:
            self.finished(process, result)
        for name, paths, handle, value, made in noted:
            self.log(process, name, paths, **self.details(name, handle, value))
            self.finished(process, made)
        reply = self.handle(process, *message)
        if reply is not None and process.alive:
            cost = COST.get(message[1] if message[0] == "call" else message[0], CALL)
            self.after(len(noted) * CALL + cost, self.resume, process, *reply)

    def finished(self, process: Process, result) -> None:
        entry, process.last = process.last, None
        if isinstance(result, tuple):
            entry["handle"], result = result[1], 0
            process.files[entry["handle"]] = entry["paths"][0]
        entry["result"] = result
        if self.manager and result == 0:
            self.manager.seen(entry)

    def ended(self, process: Process) -> None:
        process.alive = False
        process.line.close()
        self.say("%s %d has ended" % (process.kind, process.number))
        if process.last is not None:
            if process.last["result"] is None:
                process.last["result"] = 0  # it ended after its last call, or by it
            process.last = None
        if process.when_ended:
            self.at(self.now, process.when_ended)
        # The kernel gives its children to us before anybody runs on.
        path = "/proc/%d/stat" % process.pid
        while True:
            try:
                with interposed.REAL_OPEN(path) as stream:
                    state, parent = stream.read().rsplit(")", 1)[1].split()[:2]
            except (OSError, IndexError):
                break
            if state in "ZX":
                if int(parent) == os.getpid():
                    interposed.REAL["waitpid"](process.pid, 0)
                break

    def kill(self, kinds, why: str = "") -> None:
        """SIGKILL to the living processes of these kinds, all for None. They make no further call."""
        for process in self.living():
            if process.kind != "script" if kinds is None else process.kind in kinds:
                self.say("SIGKILL to %s %d%s" % (process.kind, process.number, why))
                os.kill(process.pid, signal.SIGKILL)
                if process.last is not None:
                    process.last["result"] = "never made"
                try:
                    while process.line.recv(1 << 20):
                        pass
                except OSError:
                    pass
                self.ended(process)

    def close(self) -> None:
        self.kill(None)
        self.kill(["script"])
        self.listening.close()
        shutil.rmtree(os.path.dirname(self.address), ignore_errors=True)
        while True:
            try:
                if not interposed.REAL["waitpid"](-1, os.WNOHANG)[0]:
                    break
            except OSError:
                break

    # -- requests

    def free(self) -> tuple[int, bool]:
        """(how many calls may be made before somebody must look, whether those that write are among them)."""
        nexts = [fault.at + self.faults.first for fault in self.faults.waiting] if self.faults else []
        nexts += [watcher.__self__.at for watcher in self.watchers]
        number = max(0, min(nexts, default=1 << 20) - len(self.calls))
        return number, not (self.faults and self.faults.errors)

    @staticmethod
    def details(name: str, handle, value) -> dict:
        return {"flags": value, "value": None, "fd": None} if name == "open" else {"fd": handle, "value": value}

    def handle(self, process: Process, kind: str, *arguments):
        return getattr(self, "on_" + kind.replace(" ", "_"))(process, *arguments)

    def log(self, process: Process, name: str, paths: list[str], **more) -> dict:
        entry = {"number": len(self.calls), "process": process.number, "kind": process.kind, "name": name, "paths": paths,
                 "at": self.now, "result": None, **more}
        self.calls.append(entry)
        process.last = entry
        return entry

    def point(self, process: Process, name: str, paths: list[str], **more):
        """Log a call; the reply of a fault, or None. The process may be dead after it."""
        entry = self.log(process, name, paths, **more)
        for watcher in self.watchers:
            watcher(entry)
        if self.faults is not None:
            error = self.faults.decide(entry)
            if not process.alive:
                entry["result"] = "never made"
                return ("dead", None)
            if error is not None:
                entry["result"], process.last = error, None
                self.say("%s %s %s: %s" % (process.kind, name, " ".join(paths), os.strerror(error)))
                return ("error", error)
        return None

    def on_call(self, process: Process, name: str, paths: list[str], handle, value):
        reply = self.point(process, name, paths, **self.details(name, handle, value))
        if reply:
            return reply
        return ("go", None)

    def mount(self, path: str) -> str:
        """The longest mount point that holds a path; '' is /."""
        return max((mount for mount in self.mounts if path == mount or path.startswith(mount + "/")), key=len, default="")

    def on_fork(self, process: Process):
        reply = self.point(process, "fork", [])
        if reply:
            return reply
        process.last = None
        process.forks = {"watchdog": "worker"}.get(process.kind, "helper")
        return ("go", process.forks)

    def on_leads_a_session(self, process: Process):
        process.kind = "watchdog"
        return ("go", None)

    def on_forked(self, process: Process, pid: int):
        child = self._accept(pid, process.forks, process)
        self.after(CALL, self.resume, child, "go", self.mounts)
        return ("go", None)

    def on_wait(self, process: Process, pid: int):
        child = next((one for one in reversed(list(self.processes.values())) if one.pid == pid and one.parent == process.pid), None)

        def dead():
            return ("go", None) if child is None or not child.alive else None
        return self._block(process, dead)

    def _block(self, process: Process, condition):
        reply = condition()
        if reply is None:
            process.waiting = condition
        return reply

    def on_wait_for_descendants(self, process: Process):
        return self._block(process, lambda: None if any(
            one.alive and process.number in one.ancestors for one in self.processes.values()) else ("go", None))

    # -- scripts that systemd starts

    def script(self, words: list[str], ended=None) -> Process:
        """Run /bin/sh WORDS; ended() at its end."""
        self.number += 1
        line = ScriptLine(words)
        process = self.processes[self.number] = Process(line.pid, os.getpid(), "script", self.number, line)
        process.detached, process.when_ended = True, ended
        self.say("process %d is the script %s" % (self.number, " ".join(words).replace(str(self.root), "")))
        self.hear(process)
        return process

    def on_script(self, process: Process, words: list[str]):
        if words[0] == "sleep":
            return self.on_sleep(process, float(words[1]))
        if words[0] == "systemctl":
            number = len(self.commands) + 1
            command = self.commands[number] = Command(number, words)
            if words[1] != "is-active":
                self.say("script: %s" % " ".join(words))
            self.manager.run(command, process)

            def ended():
                return command.answer and ("go", (command.answer[0] or 0, command.answer[1].strip()))
            return self._block(process, ended)
        paths = [word[len(str(self.root)) + 1:] for word in words[1:] if word.startswith(str(self.root))]
        self.say("script: %s" % " ".join(words).replace(str(self.root), ""))
        reply = self.point(process, words[0], paths)
        if process.last is not None:
            process.last["result"] = 0
        process.last = None
        return reply or ("go", None)

    def on_sleep(self, process: Process, seconds: float):
        self.after(max(seconds, 0.001), self.resume, process, "go", None)

    def on_bye(self, process: Process):
        return ("go", None)

    def on_number(self, process: Process):
        return ("go", process.number)

    def on_answer(self, process: Process, answer):
        self.answers[process.number] = answer
        return ("go", None)

    def on_kill(self, process: Process, pid: int):
        victim = next((one for one in self.living() if one.pid == pid), None)
        if victim:
            self.kill_one(victim)
        return ("go", None)

    def kill_one(self, victim: Process) -> None:
        kind, victim.kind = victim.kind, "victim"
        self.kill(["victim"], " (%s)" % kind)
        victim.kind = kind

    def on_command(self, process: Process, words: list[str]):
        words = [word.replace(str(self.root), "") for word in words]
        reply = self.point(process, "run", [" ".join(words)])
        if reply:
            return reply
        process.last = None
        number = len(self.commands) + 1
        command = self.commands[number] = Command(number, words)
        self.say("%s: %s" % (process.kind, " ".join(words)))
        self.manager.run(command, process)
        return ("go", number)

    def on_communicate(self, process: Process, number: int, timeout: float | None):
        command, until = self.commands[number], None if timeout is None else self.now + timeout
        if until is not None:
            self.at(until, lambda: None)

        def ended():
            if command.answer is not None:
                return ("go", command.answer)
            return ("go", None) if until is not None and self.now >= until else None
        return self._block(process, ended)

    def on_kill_command(self, process: Process, number: int):
        command = self.commands[number]
        self.manager.given_up(command)
        command.end(-9, "", "")
        return ("go", None)
