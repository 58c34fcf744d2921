# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that outlive the connection: a watchdog in a session of its own, and below it the worker.

A session's processes share its cgroup, whatever setsid() does: at logout systemd kills them all where
KillUserProcesses= is on, and so it does with a service that ran Ansible. own_scope() moves them out.

And a child for what may never come back: on a dead mount, or in /proc of a process that the kernel holds, a
read does not end, whatever it is opened with.

Stdlib only, Python 3.6+.
"""

import json
import os
import select
import signal
import time
import traceback

from ansible_collections.falcotune.fleet.plugins.module_utils._host import host, systemd

MOVES = 2.0  # seconds for systemd to move a process
STEP = 0.1  # seconds between two looks at a worker that has a deadline


def watchdog(body):
    """Run body() in a process of a session of its own, with /dev/null as its standard streams. Its pid.

    The process ends with body(), with status 0, whatever body() raises: nothing of the caller runs on in it.
    """
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for handle in (0, 1, 2):
            os.dup2(null, handle)
        body()
    finally:
        os._exit(0)


def own_scope(name, pids, root=""):
    """Move processes into a transient scope of systemd's, below system.slice. None, or why that was refused.

    name: of the scope, which ends with its last process. root: prefix of /proc. D-Bus is the only way for
    processes that run already: org.freedesktop.systemd1.Manager.StartTransientUnit(name, mode, properties,
    aux), which answers before they are moved.
    """
    call = ["busctl", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1"]
    call += ["org.freedesktop.systemd1.Manager", "StartTransientUnit", "ssa(sv)a(sa(sv))", name, "fail"]
    call += ["3", "Description", "s", "A change of Falco by falcotune.fleet", "Slice", "s", "system.slice"]
    call += ["PIDs", "au", "%d" % len(pids)] + ["%d" % pid for pid in pids] + ["0"]
    status, out, err = systemd.run(call, timeout=10)
    if status != 0:
        return (err or out).strip() or "busctl ended with status %s" % status
    until = time.monotonic() + MOVES
    while not all(name in (host.read("%s/proc/%d/cgroup" % (root, pid), 1 << 16) or "") for pid in pids):
        if time.monotonic() > until:
            systemd.run(["systemctl", "reset-failed", name], timeout=10)
            return "systemd did not move the processes into %s" % name
        time.sleep(0.02)
    return None


def work(body, deadline=None):
    """Run body() in a child, the worker, and wait for its end. Whether body() came to its end.

    deadline: seconds after which the worker is killed; None waits for as long as it takes.
    """
    worker = os.fork()
    if worker == 0:
        status = 1
        try:
            body()
            status = 0
        finally:
            os._exit(status)
    if deadline is None:
        return os.waitpid(worker, 0)[1] == 0
    until = time.monotonic() + deadline
    while True:
        pid, status = os.waitpid(worker, os.WNOHANG)
        if pid:
            return status == 0
        if time.monotonic() > until:
            os.kill(worker, signal.SIGKILL)
        time.sleep(STEP)


class Late(Exception):
    """A child did not answer in time; the text says what holds it."""


def within(seconds, body):
    """What body() returns, as JSON can hold it, from a child that has so many seconds. Raises Late.

    A child that is late is killed and left behind: one that the kernel holds ends when that lets it go.
    RuntimeError has the traceback of what body() raised.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            data = json.dumps(_outcome(body)).encode("utf-8")
            while data:
                data = data[os.write(writer, data) :]
        finally:
            os._exit(0)
    os.close(writer)
    data, until = [], time.monotonic() + seconds
    try:
        while select.select([reader], [], [], max(0, until - time.monotonic()))[0]:
            part = os.read(reader, 1 << 16)
            if not part:
                os.waitpid(child, 0)
                return _value(b"".join(data))
            data.append(part)
        held = _held(child)
        os.kill(child, signal.SIGKILL)
    finally:
        os.close(reader)
    raise Late("no answer from this host's files and /proc within %d s%s" % (seconds, held))


def _outcome(body):
    """{'value'} of body(), or {'raised': text}."""
    try:
        return {"value": body()}
    except BaseException:  # pylint: disable=broad-except
        return {"raised": traceback.format_exc()}


def _value(data):
    """What the child's body() returned. Raises RuntimeError."""
    found = json.loads(data.decode("utf-8")) if data else {"raised": "the child was killed"}
    if "raised" in found:
        raise RuntimeError(found["raised"])
    return found["value"]


def _held(pid):
    """What holds a process, as far as the kernel tells: ': it waits in nfs_wait_bit_killable (state D)'."""
    try:
        with open("/proc/%d/wchan" % pid) as stream:
            where = stream.read(100).strip()
        with open("/proc/%d/stat" % pid) as stream:
            state = stream.read(4096).rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""
    return ": it waits%s (state %s)" % (" in " + where if where not in ("", "0") else "", state)
