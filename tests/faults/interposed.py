# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process side of the fault injection: inside a forked process every system call of the transaction asks the conductor first.

The conductor answers each request with "go", with an errno, or with SIGKILL. It also keeps the clock: time.monotonic(), time.time()
and time.sleep() are virtual. Commands (systemctl, systemd-run, journalctl, Falco) are answered by the conductor's systemd. Calls on
files below the host's directory are real calls on real files; everything else passes through.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import io
import os
import pickle
import shutil
import socket
import subprocess
import tempfile
import time

REAL = {name: getattr(os, name) for name in (
    "open", "close", "read", "write", "fsync", "fchmod", "fchown", "chmod", "chown", "ftruncate", "rename", "replace", "link", "symlink",
    "unlink", "remove", "mkdir", "rmdir", "listdir", "scandir", "stat", "lstat", "fstat", "access", "readlink", "fork", "waitpid", "kill",
    "killpg", "fdopen", "pipe", "setsid", "_exit", "getxattr", "setxattr", "listxattr")}
REAL_OPEN = builtins.open
# Reads of /proc are no calls that can fail here; a write to a sysctl is.
UNSEEN = ("proc", "run")


class Link:
    """This process's line to the conductor."""

    def __init__(self, address: str, root: str):
        self.address, self.root = address, root
        self.files: dict[int, str] = {}  # descriptors of files on the host
        # So many calls need not ask, those that write among them or not; and what was not asked.
        self.free, self.free_to_write, self.noted = 0, False, []
        self.result = 0  # of the last call that the conductor let pass: its errno, or ("handle", descriptor)
        self.connect("module")

    def connect(self, kind: str) -> None:
        self.line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.line.connect(self.address)
        self.pid = os.getpid()
        self.names = 0
        self.free, self.noted = 0, []
        self.mounts = self.take(self.exchange("hello", self.pid, os.getppid(), kind))

    def exchange(self, *message):
        self.line.send(pickle.dumps((self.result, self.noted, message)))
        self.result, self.noted = 0, []
        data = self.line.recv(1 << 20)
        if not data:
            REAL["_exit"](9)
        return pickle.loads(data)

    def take(self, answer):
        self.now, self.wall, kind, value, self.free, self.free_to_write = answer
        if kind == "error":
            raise OSError(value, os.strerror(value))
        return value

    def ask(self, *message):
        return self.take(self.exchange(*message))

    def make(self, name: str, where: list, handle, value, writes: bool, call, *arguments, **options):
        """A call. Where the conductor has no plans for it, it is told afterwards, with the next request."""
        if len(where) == 2 and self.device(where[0]) != self.device(where[1]):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        note = None
        if self.free > 0 and (self.free_to_write or not writes):
            self.free -= 1
            note = [name, where, handle, value, 0]
            self.noted.append(note)
        else:
            self.ask("call", name, where, handle, value)
        result = 0
        try:
            found = call(*arguments, **options)
            if name == "open":
                result = ("handle", found)
            return found
        except OSError as error:
            result = error.errno
            raise
        finally:
            if note:
                note[4] = result
            else:
                self.result = result

    def device(self, path: str) -> int:
        """Of the file system that holds a path."""
        return 64 + max(len(mount) for mount in ["", *self.mounts] if not mount or path == mount or path.startswith(mount + "/"))

    def inside(self, path) -> str | None:
        """The path below the host's directory, None for any other."""
        if isinstance(path, int):
            return self.files.get(path)
        path = os.fspath(path)
        if isinstance(path, bytes):
            path = path.decode()
        if not path.startswith(self.root + "/"):
            return None
        return path[len(self.root) + 1:]


LINK: Link


def _seen(name: str, paths: int, reads: bool):
    """A call with so many paths (or descriptors) before its other arguments."""
    real = REAL[name]

    def call(*arguments, **options):
        where = [LINK.inside(item) for item in arguments[:paths]]
        if None in where or reads and where[0].startswith(UNSEEN):
            return real(*arguments, **options)
        handle = arguments[0] if isinstance(arguments[0], int) else None
        value = arguments[paths] if name in ("write", "ftruncate") else None
        return LINK.make(name, where, handle, value, not reads, real, *arguments, **options)
    return call


def _open(path, flags, mode=0o777, *, dir_fd=None):
    where = LINK.inside(path) if dir_fd is None else None
    writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if where is None or where.startswith(UNSEEN) and not writes:
        return REAL["open"](path, flags, mode, dir_fd=dir_fd)
    handle = LINK.make("open", [where], None, flags, bool(writes), REAL["open"], path, flags, mode)
    LINK.files[handle] = where
    return handle


def _close(handle):
    LINK.files.pop(handle, None)
    REAL["close"](handle)


class Raw(io.RawIOBase):
    """A file whose reads and writes are those of os."""

    def __init__(self, handle: int, mode: str):
        self.handle = handle
        self.for_reading, self.for_writing = "r" in mode or "+" in mode, mode[0] in "wax" or "+" in mode

    def readable(self):
        return self.for_reading

    def writable(self):
        return self.for_writing

    def seekable(self):
        return True

    def seek(self, offset, whence=0):
        return os.lseek(self.handle, offset, whence)

    def fileno(self):
        return self.handle

    def readinto(self, buffer):
        data = os.read(self.handle, len(buffer))
        buffer[:len(data)] = data
        return len(data)

    def write(self, data):
        return os.write(self.handle, bytes(data))

    def close(self):
        if not self.closed:
            try:
                super().close()
            finally:
                os.close(self.handle)


def _file(handle: int, mode: str, encoding=None):
    raw = Raw(handle, mode)
    binary = io.BufferedWriter(raw) if raw.for_writing else io.BufferedReader(raw)
    return binary if "b" in mode else io.TextIOWrapper(binary, encoding=encoding or "utf-8")


def _builtin_open(path, mode="r", buffering=-1, encoding=None, *rest, **options):
    if isinstance(path, int) or LINK.inside(path) is None:
        return REAL_OPEN(path, mode, buffering, encoding, *rest, **options)
    flags = {"r": os.O_RDONLY, "w": os.O_WRONLY | os.O_CREAT | os.O_TRUNC, "a": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
             "x": os.O_WRONLY | os.O_CREAT | os.O_EXCL}[mode[0]]
    try:
        return _file(os.open(path, flags, 0o666), mode, encoding)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, path) from None


def _fdopen(handle, mode="r", *rest, **options):
    if handle in PIPES:
        LINK.ask("wait for descendants")  # the conductor must know that this process waits
        PIPES.clear()
    return _file(handle, mode) if handle in LINK.files else REAL["fdopen"](handle, mode, *rest, **options)


def _stat_of(real, name):
    """stat() as it is where /var and /var/log are file systems of their own."""
    def call(path, *, dir_fd=None, follow_symlinks=True):
        where = LINK.inside(path) if dir_fd is None else None
        options = {"follow_symlinks": follow_symlinks} if name == "stat" else {}
        if where is None or where.startswith(UNSEEN):
            return real(path, dir_fd=dir_fd, **options)
        found = LINK.make(name, [where], None, None, False, real, path, **options)
        device = LINK.device(where)
        items = [device if position == 2 else value for position, value in enumerate(found)]
        return os.stat_result(items, {field: getattr(found, field) for field in dir(found) if field.startswith("st_")})
    return call


def _fstat(handle):
    return REAL["fstat"](handle)


PIPES: set[int] = set()


def _pipe():
    ends = REAL["pipe"]()
    PIPES.update(ends)
    return ends


def _fork():
    kind = LINK.ask("fork")
    pid = REAL["fork"]()
    if pid == 0:
        LINK.line.close()
        LINK.connect(kind)
        return 0
    LINK.ask("forked", pid)
    return pid


def _setsid():
    REAL["setsid"]()
    LINK.ask("leads a session")


def _waitpid(pid, options):
    if not options & os.WNOHANG:
        LINK.ask("wait", pid)
    return REAL["waitpid"](pid, options)


class Popen:
    """subprocess.Popen as _host/systemd.py uses it; the conductor runs the command."""

    def __init__(self, arguments, **options):
        self.args, self.returncode = arguments, None
        self.number = LINK.ask("command", [str(word) for word in arguments])
        self.pid = -self.number

    def communicate(self, timeout=None):
        answer = LINK.ask("communicate", self.number, timeout)
        if answer is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        self.returncode = answer[0]
        return answer[1].encode(), answer[2].encode()

    def wait(self, timeout=None):
        self.communicate(timeout)
        return self.returncode

    def poll(self):
        try:
            self.communicate(0)
        except subprocess.TimeoutExpired:
            pass
        return self.returncode

    def kill(self):
        LINK.ask("kill command", self.number)

    terminate = kill


def _kill(pid, sign):
    LINK.ask("kill", pid) if pid > 0 else LINK.ask("kill command", -pid)


class Names:
    """The random part of temporary names: the same in each run of a seed."""

    def __iter__(self):
        return self

    def __next__(self):
        LINK.names += 1
        return "p%03dn%03d" % (LINK.ask("number"), LINK.names)


def install(address: str, root: str) -> Link:
    """In the process: from now on every call asks."""
    global LINK
    LINK = Link(address, root)
    one_path = ("chmod", "chown", "unlink", "remove", "mkdir", "rmdir", "fsync", "fchmod", "fchown", "ftruncate", "write", "setxattr")
    for name in one_path:
        setattr(os, name, _seen(name, 1, False))
    for name in ("listdir", "scandir", "access", "readlink", "read", "getxattr", "listxattr"):
        setattr(os, name, _seen(name, 1, True))
    for name in ("rename", "replace", "link"):
        setattr(os, name, _seen(name, 2, False))
    real_symlink = REAL["symlink"]

    def symlink(source, target, *rest, **options):
        where = LINK.inside(target)
        if where is None:
            real_symlink(source, target, *rest, **options)
        else:
            LINK.make("symlink", [where], None, source, True, real_symlink, source, target)
    os.symlink = symlink
    os.open, os.close, os.fdopen, os.fork, os.waitpid, os.kill, os.killpg = _open, _close, _fdopen, _fork, _waitpid, _kill, _kill
    os.pipe, os.setsid = _pipe, _setsid
    real_exit = os._exit

    def leave(status):
        try:
            LINK.ask("bye")  # and what was not told yet
        finally:
            real_exit(status)
    os._exit = leave
    os.stat, os.lstat, os.fstat = _stat_of(REAL["stat"], "stat"), _stat_of(REAL["lstat"], "lstat"), _fstat
    builtins.open = _builtin_open
    io.open = _builtin_open
    real_flock = fcntl.flock

    def flock(handle, operation):
        LINK.make("flock", [LINK.inside(handle) or ""], handle, None, True, real_flock, handle, operation)
    fcntl.flock = flock
    from ansible_collections.falcotune.fleet.plugins.module_utils._host import renames
    real_rename = renames.call

    def rename(one, other, flags):
        name = "exchange" if flags == renames.EXCHANGE else "move"
        LINK.make(name, [LINK.inside(one), LINK.inside(other)], None, None, True, real_rename, one, other, flags)
    renames.call = rename
    time.monotonic, time.time = (lambda: LINK.now), (lambda: LINK.wall)
    real_clock = time.clock_gettime
    time.clock_gettime = lambda clock: LINK.now if clock == 7 else real_clock(clock)
    time.sleep = lambda seconds: LINK.ask("sleep", seconds)
    subprocess.Popen = Popen
    shutil._use_fd_functions = False
    tempfile._name_sequence = Names()
    return LINK
