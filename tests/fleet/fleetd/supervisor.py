# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that `systemctl start` leaves behind for each unit.

It does what systemd's manager would: it starts the main process, restarts and counts failures, stops with SIGTERM and
kills after the stop timeout. No dependencies between units, no sandboxing.
"""

import os
import signal
import subprocess
import time

from fleetd import command_lines, files, formats, kernel, states

SYSLOG = files.ROOT + "/var/log/syslog"
CLEAN_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)
START_LIMIT = (5, 10.0)


def log(tag, pid, message):
    try:
        with open(SYSLOG, "a") as stream:
            stream.write("%s %s %s[%d]: %s\n" % (
                time.strftime("%Y-%m-%dT%H:%M:%S%z"), os.path.basename(files.ROOT), tag, pid, message))
    except OSError:
        pass


def now_usec(clock):
    return time.clock_gettime_ns(clock) // 1000


class Supervisor:
    """Runs one unit's main process until it is stopped or stays dead."""

    def __init__(self, unit):
        self.unit = unit
        self.folder = states.unit_dir(unit["id"])
        self.child = None
        self.state = {"active": "activating", "sub": "start", "main_pid": 0, "restarts": 0, "result": "success",
                      "exit_code": 0, "exit_status": 0, "supervisor": os.getpid(),
                      "supervisor_ticks": states.ticks_of(os.getpid())}

    def save(self, **changes):
        self.state.update(changes)
        try:
            files.write_json(self.folder + "/state.json", self.state)
        except OSError:
            pass

    def values(self):
        loaded = files.read_json(self.folder + "/loaded.json")
        return (loaded or self.unit)["values"]

    def spawn(self):
        values = self.values()
        environment = {"PATH": files.ROOT + "/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                       "LANG": "C.UTF-8", "FLEET_HOST_ROOT": files.ROOT}
        environment.update(command_lines.environment_of(values))
        invocation = os.urandom(16).hex()
        environment["INVOCATION_ID"] = invocation
        command = command_lines.expand(command_lines.split_command((values.get("ExecStart") or ["/bin/true"])[-1]), environment)
        output = values.get("StandardOutput", "journal")
        nice = kernel.granted_nice(values)
        heard = self.listener() if output == "null" and values.get("StandardError") == "journal" else None
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(writer)
                os.read(reader, 1)  # until the host shows it
                os.close(reader)
                os.setsid()
                signal.pthread_sigmask(signal.SIG_SETMASK, [])
                os.umask(int(values.get("UMask") or "0022", 8))
                if nice or os.getpriority(os.PRIO_PROCESS, 0) < 0:  # a unit inherits no priority of who starts it
                    try:
                        os.setpriority(os.PRIO_PROCESS, 0, nice)
                    except OSError:
                        pass  # this machine doesn't permit it; the host did
                if heard:
                    os.dup2(heard, 2)
                if output != "null":
                    stream = os.open(SYSLOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
                    os.dup2(stream, 1)
                    os.dup2(stream, 2)
                kernel.drop_capabilities(values)
                os.chdir("/")
                os.execve(command[0], command, environment)
            except BaseException:
                pass
            os._exit(203)
        self.child = pid
        os.close(reader)
        if heard:
            os.close(heard)
        try:
            kernel.make_process(self.unit["id"], pid, command[0], nice)
            kernel.make_cgroup(self.unit["id"], values, pid)
        except OSError as problem:
            log("systemd", 1, "%s: %s" % (self.unit["id"], problem))
        os.close(writer)
        self.save(active="active", sub="running", main_pid=pid, main_ticks=states.ticks_of(pid), invocation=invocation,
                  command=command, started=now_usec(time.CLOCK_REALTIME),
                  started_monotonic=now_usec(time.CLOCK_MONOTONIC), exit_code=0, exit_status=0, result="success",
                  needs=self.state.get("needs"))

    def reap(self):
        """(code, status) of the main process if it has ended, in systemd's numbers."""
        try:
            pid, status = os.waitpid(self.child, os.WNOHANG)
        except ChildProcessError:
            pid, status = self.child, 0
        if pid == 0:
            return None
        kernel.forget_process(self.child)
        files.remove(kernel.SLICE + "/" + self.unit["id"])
        # Whatever it left in its session goes with it, as its cgroup would.
        self.signal_all(signal.SIGKILL)
        self.child = None
        if os.WIFSIGNALED(status):
            return (3 if os.WCOREDUMP(status) else 2), os.WTERMSIG(status)
        return 1, os.WEXITSTATUS(status)

    @staticmethod
    def listener():
        """Where a process writes what the journal is to have of it: a pipe, which a process of its own reads to its end."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            if os.fork() == 0:
                # None of the supervisor's own, whose end others wait for.
                os.closerange(3, reader)
                os.closerange(reader + 1, 1024)
                signal.pthread_sigmask(signal.SIG_SETMASK, [])
                with os.fdopen(reader, errors="replace") as stream:
                    for line in stream:
                        log("falco", 0, line.rstrip("\n"))
            os._exit(0)
        os.waitpid(child, 0)
        os.close(reader)
        return writer

    def signal_all(self, number):
        try:
            os.killpg(self.child, number)
        except OSError:
            pass

    def wait(self, seconds):
        """'stop', 'child' or 'time', whichever comes first. Ends everything when the host's directory is gone."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            left = 2.0 if deadline is None else min(2.0, deadline - time.monotonic())
            if left <= 0:
                return "time"
            info = signal.sigtimedwait([signal.SIGTERM, signal.SIGCHLD], left)
            if info is None:
                if not os.path.isdir(self.folder):
                    if self.child:
                        self.signal_all(signal.SIGKILL)
                    os._exit(0)
            elif info.si_signo == signal.SIGTERM:
                return "stop"
            elif self.child is None or not self.alive():
                return "child"

    def alive(self):
        return states.ticks_of(self.child) is not None

    def stop(self):
        name = self.unit["id"]
        self.save(active="deactivating", sub="stop-sigterm")
        timeout = formats.parse_span(self.values().get("TimeoutStopSec"), 90000000)
        self.signal_all(signal.SIGTERM)
        end = None if timeout is None else time.monotonic() + timeout / 1e6
        result = "success"
        while True:
            ended = self.reap()
            if ended:
                break
            if end is not None and time.monotonic() >= end:
                result = "timeout"
                self.save(sub="stop-sigkill", result=result)
                log("systemd", 1, "%s: State 'stop-sigterm' timed out. Killing." % name)
                self.signal_all(signal.SIGKILL)
                end = None
            self.wait(1.0 if end is None else max(0.0, end - time.monotonic()))
        if result == "success" and not self.clean(ended):
            result = "exit-code" if ended[0] == 1 else "signal"
        bad = result != "success"
        log("systemd", 1, "%s: Failed with result '%s'." % (name, result) if bad else "%s: Deactivated successfully." % name)
        self.save(active="failed" if bad else "inactive", sub="failed" if bad else "dead", main_pid=0, result=result,
                  exit_code=ended[0], exit_status=ended[1])

    @staticmethod
    def clean(ended):
        return ended == (1, 0) or (ended[0] == 2 and ended[1] in CLEAN_SIGNALS)

    def run(self, ready):
        name = self.unit["id"]
        starts = []
        while True:
            starts = [at for at in starts if at > time.monotonic() - START_LIMIT[1]]
            if len(starts) >= START_LIMIT[0]:
                self.save(active="failed", sub="failed", main_pid=0, result="start-limit-hit")
                log("systemd", 1, "%s: Start request repeated too quickly." % name)
                return
            starts.append(time.monotonic())
            self.spawn()
            log("systemd", 1, "Started %s." % name)
            ready()
            ready = int
            event = "child" if not self.alive() else self.wait(None)
            if event == "stop":
                self.stop()
                return
            ended = self.reap()
            while ended is None:
                if self.wait(0.05) == "stop":
                    self.stop()
                    return
                ended = self.reap()
            clean = self.clean(ended)
            result = "success" if clean else "exit-code" if ended[0] == 1 else "core-dump" if ended[0] == 3 else "signal"
            log("systemd", 1, "%s: Main process exited, code=%s, status=%d" % (
                name, ("", "exited", "killed", "dumped")[ended[0]], ended[1]))
            values = self.values()
            policy = values.get("Restart", "no")
            again = policy == "always" or (policy == "on-failure" and not clean) or (policy == "on-success" and clean) \
                or (policy in ("on-abnormal", "on-abort") and not clean and ended[0] != 1)
            if not again:
                self.save(active="inactive" if clean else "failed", sub="dead" if clean else "failed", main_pid=0,
                          exit_code=ended[0], exit_status=ended[1], result=result)
                return
            self.save(active="activating", sub="auto-restart", main_pid=0, exit_code=ended[0], exit_status=ended[1],
                      result=result)
            if self.wait((formats.parse_span(values.get("RestartSec"), 100000) or 0) / 1e6) == "stop":
                self.save(active="inactive", sub="dead")
                return
            self.save(restarts=self.state["restarts"] + 1)
            log("systemd", 1, "%s: Scheduled restart job, restart counter is at %d." % (name, self.state["restarts"]))


def run_once(unit):
    """A unit with Type=oneshot, to its end."""
    command = command_lines.split_command(unit["values"]["ExecStart"][-1])
    environment = {"PATH": files.ROOT + "/usr/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    with open(SYSLOG, "ab") as stream:
        subprocess.call(command, env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)


def launch(unit):
    """Leave a supervisor behind that runs the unit; return once its main process has been started."""
    os.makedirs(states.unit_dir(unit["id"]), exist_ok=True)
    files.write_json(states.unit_dir(unit["id"]) + "/loaded.json", unit)
    reader, writer = os.pipe()
    if os.fork() == 0:
        status = 1
        try:
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for number in (0, 1, 2):
                os.dup2(null, number)
            high = os.dup2(writer, 200, inheritable=False)
            os.closerange(3, high)
            os.closerange(high + 1, 1024)
            os.chdir("/")
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGCHLD])
            Supervisor(unit).run(lambda: os.close(high))
            status = 0
        except BaseException as problem:
            log("systemd", 1, "%s: supervisor: %r" % (unit["id"], problem))
        os._exit(status)
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)
