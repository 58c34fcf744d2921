# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Falco's unit under our control: settle, stop, start, and what it says when it fails."""

import os
import re
import time

from ansible_collections.falcotune.fleet.plugins.module_utils._change import candidate
from ansible_collections.falcotune.fleet.plugins.module_utils._change.failure import Failed
from ansible_collections.falcotune.fleet.plugins.module_utils._host import host, processes, systemd

# A hot reload that is under way loses a SIGTERM 0.25 to 0.5 s after the write that began it (recorded on
# 0.44.1, and longer where loading the rules takes longer): keep clear of it, and send it again where Falco
# did not stop.
SETTLE = 3.0
SEND_AGAIN = 2.5
# Somebody who writes to Falco's files all the time is not waited for any longer.
SETTLE_AT_MOST = 20

# Seconds to wait for the end of the process. A SIGTERM lost in a hot reload costs 30 s (TimeoutStopSec of the
# packages' units).
STOP_TIMEOUT = 45
START_TIMEOUT = 120

# Seconds for a start by hand that is to tell why a start failed. The host is blind for so long at most.
BY_HAND = 4

# Of this boot; systemd reads those below /etc after it, by name.
RUNTIME_DROPIN = "/run/systemd/system/%s.d/zz-falcotune-stderr.conf"

# Under the previous configuration: seconds to wait for the process, and for which it must then be alive.
COMES_BACK = 30
STAYS = 2
# Seconds from a start to the first event, recorded with the largest buffers (1.6 to 1.9 with the usual ones).
OPENS = 4.3


class Unit:
    """One unit, and what was done to it: `stopped_at` (time.monotonic() of the first interruption, or None),
    `interruptions`, `notes`.

    name: of the unit. root: prefix of /proc. reload_paths: files and folders a write to which begins a hot
    reload.
    """

    def __init__(self, name, root, reload_paths=()):
        self.name = name
        self.root = root.rstrip("/")
        self.reload_paths = list(reload_paths)
        self.dropin = self.root + RUNTIME_DROPIN % name
        self.stopped_at = None
        self.interruptions = 0
        self.hears = False  # whether the journal has what a start writes to standard error
        self.notes = []

    def properties(self):
        return systemd.show([self.name])[0]

    def interrupted(self):
        """Falco sees no events from now on."""
        if self.stopped_at is None:
            self.stopped_at = time.monotonic()
        self.interruptions += 1

    def settle(self):
        """Wait until no hot reload can be in the window in which SIGTERM is lost."""
        paths = [path for path in self.reload_paths if os.path.exists(path)]
        until = time.monotonic() + SETTLE_AT_MOST
        while time.monotonic() < until:
            newest = 0
            for path in paths:
                try:
                    newest = max(newest, os.stat(path).st_ctime, os.stat(path).st_mtime)
                except OSError:
                    pass
            age = time.time() - newest
            if age >= SETTLE or age < 0:
                return
            time.sleep(min(SETTLE - age, 0.25))

    def stop(self):
        """Stop the unit; where Falco did not hear SIGTERM, send it again instead of waiting for systemd's
        SIGKILL.
        """
        process, start = processes.of_unit(self.root, self.properties())
        # Earlier failures must not keep the start from happening. Reset now: nobody sees events between the
        # stop and the start.
        systemd.run(["systemctl", "reset-failed", self.name])
        self.interrupted()
        stopping = systemd.begin(["systemctl", "stop", self.name])
        again = time.monotonic() + SEND_AGAIN
        until = time.monotonic() + STOP_TIMEOUT
        while time.monotonic() < until:
            status, output = stopping.ended(0.05)
            gone = process is None or not process.alive(start)
            if status is not None and gone and (status == 0 or self.is_down()):
                return
            if status:
                raise Failed("systemctl stop %s: %s" % (self.name, output))
            if not gone and time.monotonic() >= again:
                self.notes.append("Falco did not react to SIGTERM; it was sent again")
                systemd.run(["systemctl", "kill", "--signal=SIGTERM", self.name])
                again = time.monotonic() + SEND_AGAIN
        stopping.give_up()
        raise Failed(
            "Falco (process %d) did not stop within %d s" % (process.pid if process else 0, STOP_TIMEOUT)
        )

    def is_down(self):
        return self.properties().get("ActiveState") in ("inactive", "failed")

    def start(self):
        status, out, err = systemd.run(["systemctl", "start", self.name], timeout=START_TIMEOUT)
        if status != 0:
            raise Failed("systemctl start %s: %s" % (self.name, (err or out).strip()))

    def await_process(self):
        """Alive for a moment under the previous configuration: it ran before, so this is enough."""
        seen, until = None, time.monotonic() + COMES_BACK
        while time.monotonic() < until:
            unit = self.properties()
            pid = unit.get("MainPID")
            if unit.get("ActiveState") == "active" and pid not in (None, "0"):
                if seen and seen[0] == pid:
                    if time.monotonic() - seen[1] >= STAYS:
                        return
                else:
                    seen = (pid, time.monotonic())
            time.sleep(0.25)
        raise Failed("Falco did not come back with the previous configuration")

    def runs_as(self, pid):
        """Whether the unit's main process is still this one."""
        return (host.integer(self.properties().get("MainPID")) or 0) == pid

    def start_by_hand(self):
        """The error with which Falco ends under the configuration on disk, or None.

        The packages' units send standard output, and with it the final "Error: ...", to /dev/null.
        """
        unit = self.properties()
        started = processes.command(unit, None)
        if not started["arguments"] or unit.get("User") not in (None, "", "root") or started["reason"]:
            return None
        # With the unit's own variables, or Falco would fail for another reason than the one asked for.
        variables = processes.start_environment(unit, None)
        status, out, err = systemd.run(started["arguments"], timeout=BY_HAND, environment=variables)
        return candidate.cause(out, err, status) if status else None

    def listen(self):
        """Let the journal have what the next start writes to standard error, where nothing keeps that.

        → the path of the drop-in of this boot that does so, None where none is needed or possible; self.hears
        tells which. Before the stop: systemd must read its units again.
        """
        unit = self.properties()
        out, err = unit.get("StandardOutput"), unit.get("StandardError")
        stream = out if err in (None, "", "inherit") else err
        self.hears = (stream or "").startswith(("journal", "syslog", "kmsg"))
        if stream != "null" or unit.get("NeedDaemonReload") == "yes":
            # Somebody's own file; or an edit that systemd has not read yet, which daemon-reload would make
            # effective.
            return None
        return self.dropin

    def write_dropin(self):
        """Write what listen() named."""
        path = self.dropin
        try:
            os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
            with open(path, "w") as stream:
                stream.write(
                    "# Written by falcotune.fleet for one change.\n[Service]\nStandardError=journal\n"
                )
        except OSError as error:
            self.notes.append("%s can't be written: %s" % (path, error.strerror))
            return
        self.hears = systemd.run(["systemctl", "daemon-reload"])[0] == 0

    def drop_dropin(self):
        """Take it away again. A Falco that runs keeps its streams until its next start."""
        try:
            os.unlink(self.dropin)
            os.rmdir(os.path.dirname(self.dropin))
        except FileNotFoundError:
            return
        except OSError:
            pass  # others have drop-ins there
        systemd.run(["systemctl", "daemon-reload"])

    def said(self, since):
        """The error with which Falco ended, by the journal, or None. since: Unix time of the start."""
        command = ["journalctl", "--quiet", "--no-pager", "--output=cat", "--since=@%d" % since]
        status, out, dummy = systemd.run(command + ["_SYSTEMD_UNIT=" + self.name], timeout=20)
        found = re.findall(r"(?:Runtime error|Error): .*", out) if status == 0 else []
        return found[-1].strip() if found else None

    def log_lines(self, until):
        """The last lines that the unit wrote to the journal. until: Unix time."""
        command = ["journalctl", "--quiet", "--no-pager", "--output=cat", "--lines=20", "--unit=" + self.name]
        status, out, dummy = systemd.run(command + ["--until=@%.3f" % until], timeout=20)
        return out.strip().splitlines()[-20:] if status == 0 else []
