# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Falco's messages in the journal, newest first, for a bounded time and number of bytes.

Stdlib only, Python 3.6+.
"""

import os
import select
import signal
import subprocess
import time

from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import tail
from ansible_collections.falcotune.fleet.plugins.module_utils._metrics.falco_lines import NEEDLE


# Seconds that a killed journalctl may take to be gone.
KILLED = 5


def _status(process):
    """The exit status; 0 where the kernel holds the process."""
    try:
        return process.wait(timeout=KILLED)
    except subprocess.TimeoutExpired:
        return 0


class Journal:
    """Iterate for the journal's messages of Falco, newest first; .bytes_read and .reason as a Tail.

    match: '_PID=812' or '_SYSTEMD_UNIT=falco-modern-bpf.service'. The name falco.service is an alias under
    the packages and holds nothing.
    """

    def __init__(self, match, max_bytes, timeout=10.0, since=None, program="journalctl"):
        self.arguments = [
            program,
            "--quiet",
            "--no-pager",
            "--output=cat",
            "--reverse",
            "--lines=100000",
            match,
        ]
        if since is not None:
            self.arguments.insert(-1, "--since=@%d" % (since - 2))
        self.max_bytes, self.timeout = max_bytes, timeout
        self.bytes_read, self.reason = 0, None

    def __iter__(self):
        environment = dict(os.environ, LC_ALL="C.UTF-8")
        try:
            process = subprocess.Popen(  # pylint: disable=ansible-bad-function
                self.arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        except OSError as error:
            self.reason = "%s: %s" % (self.arguments[0], error.strerror)
            return
        try:
            for line in self._lines(process.stdout.fileno()):
                if NEEDLE in line:
                    yield line
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.stdout.close()
            status = _status(process)
        if status > 0 and not self.bytes_read:
            self.reason = "journalctl ended with status %d" % status

    def _lines(self, handle):
        deadline, rest = time.monotonic() + self.timeout, b""
        while self.bytes_read < self.max_bytes:
            if not select.select([handle], [], [], max(0, deadline - time.monotonic()))[0]:
                self.reason = (
                    "journalctl gave no answer within %g s" % self.timeout if not self.bytes_read else None
                )
                return
            block = os.read(handle, min(tail.BLOCK, self.max_bytes - self.bytes_read))
            self.bytes_read += len(block)
            lines = (rest + block).split(b"\n")
            rest = lines.pop()[-tail.MAX_LINE - 1 :]
            for line in lines:
                if len(line) <= tail.MAX_LINE:
                    yield line
            if not block:
                yield rest
                return
