# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that outlive the connection: a watchdog in a session of its own, and below it the worker.

Stdlib only, Python 3.6+.
"""

import os
import signal
import time

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
