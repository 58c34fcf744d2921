# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that outlive the connection: a watchdog in a session of its own, and below it the worker.

A session's processes share its cgroup, whatever setsid() does: at logout systemd kills them all where
KillUserProcesses= is on, and so it does with a service that ran Ansible. own_scope() moves them out.
Stdlib only, Python 3.6+.
"""

import os
import signal
import time

from ansible_collections.falcotune.fleet.plugins.module_utils._host import systemd

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


def own_scope(name, pids):
    """Move processes into a transient scope of systemd's, below system.slice. None, or why that was refused.

    name: of the scope, which ends with its last process. D-Bus is the only way for processes that run
    already: org.freedesktop.systemd1.Manager.StartTransientUnit(name, mode, properties, aux).
    """
    call = ["busctl", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1"]
    call += ["org.freedesktop.systemd1.Manager", "StartTransientUnit", "ssa(sv)a(sa(sv))", name, "fail"]
    call += ["3", "Description", "s", "A change of Falco by falcotune.fleet", "Slice", "s", "system.slice"]
    call += ["PIDs", "au", "%d" % len(pids)] + ["%d" % pid for pid in pids] + ["0"]
    status, out, err = systemd.run(call, timeout=10)
    return None if status == 0 else (err or out).strip() or "busctl ended with status %s" % status


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
