# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One trial on a host: a private Falco that runs for a while, beside the host's own or instead of it, and
leaves nothing behind.

Three processes. The module waits and keeps the connection; it forks a watchdog in a session of its own, and
the watchdog a worker, which runs the test. Whichever of them is killed, another one cleans:

    the module      the worker sees its pipe closed, and ends the trial (a change would go on)
    the watchdog    the worker sees that its parent is another one, and ends the trial
    the worker      the watchdog cleans
    both of them    the module sees the pipe end, and cleans
    all at once     the trial's Falco dies with its parent (PR_SET_PDEATHSIG); the next trial cleans

STATE_DIR/trial.json is that journal: the private directory, the trial's process, the unit that was stopped
for it.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import time
import traceback

from ansible_collections.falcotune.fleet.plugins.module_utils._change import (
    candidate,
    dead_man,
    failure,
    records,
    unit_control,
)
from ansible_collections.falcotune.fleet.plugins.module_utils._host import detach, host, processes, systemd
from ansible_collections.falcotune.fleet.plugins.module_utils._measure import own_rules
from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import snapshots, sources

STEP = 0.1
LOOK = 0.5  # seconds between two looks at the limits
# Seconds of metrics of the host's own Falco before its losses say anything: they come in bursts.
JUDGED = 10.0
DRY_RUN = 120  # seconds that Falco may take for what it only prints
OPENS = 90  # and from its start to its first snapshot
WARM_UP = 2.0  # seconds after that which count for nothing: a start is no steady state
SEND_AGAIN, KILL = 2.5, 15  # seconds after which SIGTERM is sent again, and SIGKILL
BEAT = 5  # seconds between two signs of life on the connection
MAX_TEXT = 1 << 18
MAX_LIST = 1 << 24
MAX_METRICS = 64 << 20
PDEATHSIG = 1  # PR_SET_PDEATHSIG, linux/prctl.h
PLACE = "{trial}"


class Failed(failure.Failed):
    """This test can't be run; the text says why."""


class Aborted(Exception):
    """A limit was passed; the text says which, the value and where."""


class Gone(Exception):
    """Nobody waits for the answer any more."""


# --- leaving nothing behind ---------------------------------------------------------------------------------


def clean(state_dir):
    """Remove what a trial left: its process, its directory; start the unit that it stopped. The trial's
    journal, or None.

    Any number of times, by anybody who holds the lock. Raises Failed where the unit does not start; then the
    journal stays, and the next run tries again.
    """
    try:
        left = records.trial(state_dir)
    except failure.Failed as error:
        raise Failed(str(error))
    if left:
        end(left.get("pid"), left.get("start"))
        if left.get("stopped"):
            bring_back(left)
            dead_man.disarm(left.get("folder"))
    records.sweep(state_dir)
    records.drop_trial(state_dir)
    return left


def end(pid, start):
    """Kill the trial's Falco, if it is still the same process."""
    process = processes.Process("", pid) if pid and start else None
    until = time.monotonic() + 10
    while process and process.alive(start) and time.monotonic() < until:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
        time.sleep(0.05)


def production(left):
    """The unit of the host's own Falco. left: the trial's journal."""
    return unit_control.Unit(left["unit"], left["root"], left["reload_paths"])


def bring_back(left):
    """Start the host's own Falco again, and see that it runs."""
    for last in (False, False, True):
        try:
            unit = production(left)
            unit.start()
            unit.await_process()
            return
        except (failure.Failed, systemd.ManagerError, IndexError) as error:
            if last:
                raise Failed(
                    "the host's own Falco (unit %s) was stopped for the trial and does not start again: %s; "
                    "start it" % (left["unit"], error)
                )


def recover(state_dir):
    """Remove what an earlier trial left. Returns a sentence about it, or None. Raises Failed."""
    left = clean(state_dir)
    if not left:
        return None
    return "an earlier trial was broken off: what it left was removed%s" % (
        ", and Falco (unit %s) was started again" % left["unit"] if left.get("stopped") else ""
    )


# --- limits -------------------------------------------------------------------------------------------------


class Limits:
    """What ends a trial before its time. `told`: what is known of the host's own Falco, for the answer.

    wanted: 'max_load_per_cpu', 'min_available_percent' and 'max_more_drops_percent'.
    """

    def __init__(self, wanted, root, unit, process, start):
        self.wanted = wanted
        self.root = root
        self.unit = unit
        self.process = process
        self.start = start
        self.cpus = host.cpus(root)["online"] or 1
        self.next = 0
        self.expected_gone = process is None
        self.first = None
        self.before = 0.0
        self.told = {"watched": False, "reason": "it does not run", "more_drops_percent": None}
        if process:
            self._baseline()

    def _snapshot(self, seconds):
        unit = dict(self.unit, MainPID=str(self.process.pid))
        return sources.gather(
            self.root,
            unit,
            {},
            ("metrics_file", "alerts_file"),
            {"min_seconds": seconds, "max_bytes": 1 << 20},
        )

    def _baseline(self):
        found = self._snapshot(60.0)
        if "last" not in found:
            self.told["reason"] = "its drops can't be read: %s" % found["reason"]
            return
        self.first = found["last"]
        if "first" in found:
            self.before = _lost(found["first"], found["last"]) or 0.0
        self.told.update(watched=True, reason=None)

    def check(self):
        """Raises Aborted."""
        now = time.monotonic()
        if now < self.next:
            return
        self.next = now + LOOK
        load = (host.read(self.root + "/proc/loadavg", 256) or "").split()
        if load and float(load[0]) / self.cpus > self.wanted["max_load_per_cpu"]:
            raise Aborted(
                "the load is %s on %d CPUs, %.2f each: the limit is max_load_per_cpu %.10g (%s/proc/loadavg)"
                % (load[0], self.cpus, float(load[0]) / self.cpus, self.wanted["max_load_per_cpu"], self.root)
            )
        memory = host.memory(self.root)
        if memory["total"] and memory["available"] is not None:
            share = 100.0 * memory["available"] / memory["total"]
            if share < self.wanted["min_available_percent"]:
                raise Aborted(
                    "%.1f %% of the memory is available: the limit is min_available_percent %.10g "
                    "(%s/proc/meminfo)" % (share, self.wanted["min_available_percent"], self.root)
                )
        if not self.expected_gone:
            self._production()

    def _production(self):
        if not self.process.alive(self.start):
            raise Aborted(
                "the host's own Falco (process %d) has ended while the trial ran: see its log"
                % self.process.pid
            )
        if self.first is None:
            return
        found = self._snapshot(0.0)
        last = found.get("last")
        if not last or snapshots.broken(self.first, last):
            # A hot reload: count from there.
            self.first = last or self.first
            return
        lost = _lost(self.first, last)
        if lost is None or last["evt.time"] - self.first["evt.time"] < JUDGED * 1e9:
            return
        more = self.told["more_drops_percent"] = round(lost - self.before, 3)
        if more > self.wanted["max_more_drops_percent"]:
            raise Aborted(
                "the host's own Falco has lost %.3g %% of its events since the trial began, %.3g %% before: "
                "the limit is max_more_drops_percent %.10g (its metrics)"
                % (lost, self.before, self.wanted["max_more_drops_percent"])
            )


def _lost(first, last):
    """Percent of the events between two snapshots of one run; None without events."""
    events = last["scap.n_evts"] - first["scap.n_evts"]
    return (
        100.0 * (last.get("scap.n_drops", 0) - first.get("scap.n_drops", 0)) / events if events > 0 else None
    )


# --- the trial ----------------------------------------------------------------------------------------------


class Trial:
    """One test, as the worker runs it.

    subject: what the test is about: 'state_dir' (the directory of journal and private directory; with 'dry',
    which is the dry run alone, one that is made for it), 'root', 'unit' (properties, or None), 'binary',
    'arguments' and 'environment' of the host's own Falco, and the controller's 'request'.
    """

    def __init__(self, subject):
        self.subject = subject
        self.request = subject["request"]
        self.state_dir = subject["state_dir"]
        self.journal_entry = {
            "at": time.time(),
            "state_dir": self.state_dir,
            "root": subject["root"],
            "unit": (subject["unit"] or {}).get("Id"),
            "reload_paths": self.request["reload_paths"],
            "folder": "trial-" + host.digest(os.urandom(16))[:16],
            "stopped": False,
        }
        self.folder = os.path.join(self.state_dir, self.journal_entry["folder"])
        self.process, self.start = processes.of_unit(subject["root"], subject["unit"])
        self.limits = None
        self.watchdog = None
        self.pipe = None
        self.pulse = None
        self.libc = ctypes.CDLL(None)
        self.answer = {
            "dry_run": None,
            "pair": None,
            "cpu": None,
            "cpus": None,
            "production": None,
            "rules": None,
            "rules_files": None,
        }

    # -- bookkeeping

    def note(self, **more):
        self.journal_entry.update(more)
        records.write_trial(self.state_dir, self.journal_entry)

    def check(self):
        """Raises Gone where nobody waits, Aborted where a limit is passed."""
        if os.getppid() != self.watchdog or broken_pipe(self.pipe):
            raise Gone()
        if self.limits:
            self.limits.check()

    # -- Falco

    def spawn(self, words, name, discard=False):
        """Start the host's Falco privately: it dies with this process, and has the priority of the host's
        own.

        discard: its standard output. The host's own rules alert, and nobody may find that twice, or on disk.
        """
        worker, libc = os.getpid(), self.libc
        stat = self.process.stat() if self.process else None

        def prepare():
            libc.prctl(PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != worker:
                os._exit(1)
            os.umask(0o077)
            if stat and stat[2]:
                try:
                    os.setpriority(os.PRIO_PROCESS, 0, stat[2])
                except OSError:
                    pass

        files = [os.path.join(self.folder, name + ending) for ending in (".out", ".err")]
        if discard:
            files[0] = os.devnull
        with open(files[0], "wb") as out, open(files[1], "wb") as err:
            try:
                return subprocess.Popen(  # pylint: disable=ansible-bad-function
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    cwd=self.folder,
                    preexec_fn=prepare,
                    env=systemd.environment_for(self.subject["environment"]),
                )
            except OSError as error:
                raise Failed("%s can't be started: %s" % (words[0], error.strerror))

    def said(self, name, limit=MAX_TEXT):
        return host.read(os.path.join(self.folder, name), limit) or ""

    def cause(self, name, status):
        return candidate.cause(self.said(name + ".out"), self.said(name + ".err"), status).replace(
            self.folder, "(trial)"
        )

    def ask(self, words, name):
        """Let Falco print something and end: its exit status."""
        child = self.spawn(words, name)
        until = time.monotonic() + DRY_RUN
        try:
            while child.poll() is None:
                self.check()
                if time.monotonic() > until:
                    raise Failed("no end after %d s: %s" % (DRY_RUN, " ".join(words)))
                time.sleep(0.02)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        return child.returncode

    # -- steps

    def run(self):
        """The answer; None where nobody waits for it.

        The host is clean afterwards, or the answer says what is not.
        """
        answer = dict(self.answer, state="failed", reason=None)
        try:
            if self.subject["dry"]:
                os.mkdir(self.state_dir, 0o700)
            self.note()
            os.mkdir(self.folder, 0o700)
            self.check()
            answer["state"] = self.steps()
        except Gone:
            answer = None
        except Aborted as error:
            answer.update(state="aborted", reason=str(error))
        except (failure.Failed, systemd.ManagerError) as error:
            answer["reason"] = str(error)
        except Exception as error:  # pylint: disable=broad-except
            answer["reason"] = "".join(traceback.format_exception_only(type(error), error)).strip()
        if answer is not None:
            answer.update(self.answer, ended=time.time())
            answer["production"] = self.limits.told if self.limits else None
        try:
            self.clean()
        except Failed as error:
            if answer is not None:
                answer.update(
                    state="failed",
                    reason="; ".join(item for item in (answer["reason"], str(error)) if item),
                    blind=True,
                )
        return answer

    def clean(self):
        clean(self.state_dir)
        if self.subject["dry"] and os.path.isdir(self.state_dir):
            os.rmdir(self.state_dir)

    def steps(self):
        """What the trial came to: 'ran' or 'checked'."""
        self.write()
        main = os.path.join(self.folder, "falco.yaml")
        words = [self.subject["binary"], "-c", main] + self.request["options"] + self.more_options()
        status = self.ask(words + ["-o", "log_level=debug", "--dry-run"], "dry")
        self.answer["dry_run"] = self.said("dry.err")
        if status != 0:
            raise Failed("Falco refuses the trial's configuration: %s" % self.cause("dry", status))
        if self.request["list_rules"]:
            self.list_rules()
        if self.subject["dry"]:
            return "checked"
        self.limits = Limits(
            self.request["limits"], self.subject["root"], self.subject["unit"], self.process, self.start
        )
        self.check()
        if self.request["mode"] == "instead" and self.process:
            self.stop_production()
        return self.measure(words)

    def write(self):
        """Write the private configuration and rules."""
        config, texts = self.request["config"], dict(self.request["files"])
        after = ""
        if self.request["own_rules"]:
            try:
                found = own_rules.Own(self.request["own_rules"], self.subject["arguments"])
                after, fragments = found.blocks()
                if self.request["own_rules"]["whole"]:
                    config = dict(config, **found.named())
                if self.request["list_rules"]:
                    self.answer["rules_files"] = found.texts()
            except own_rules.Unusable as error:
                raise Failed(str(error))
            config = dict(config, **fragments.listed(PLACE))
            texts.update(fragments.texts)
        lines = ["%s: %s\n" % (key, json.dumps(config[key])) for key in sorted(config)]
        texts["falco.yaml"] = "".join(lines).replace(PLACE, self.folder) + after
        for name, text in texts.items():
            handle = os.open(os.path.join(self.folder, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as stream:
                stream.write(text.encode("utf-8"))

    def more_options(self):
        """The options of the host's own Falco that decide which rules and plugins are loaded."""
        return own_rules.options(self.subject["arguments"]) if self.request["own_rules"] else []

    def list_rules(self):
        """The rules that the host's own Falco loads, as it prints them; none where it doesn't."""
        words = [self.subject["binary"]] + self.subject["arguments"][1:]
        if "-c" not in words and self.request["main"]:
            words += ["-c", self.request["main"]]
        try:
            if self.ask(words + ["-L", "-o", "json_output=true"], "list") == 0:
                self.answer["rules"] = self.said("list.out", MAX_LIST)
        except Failed:
            pass

    def stop_production(self):
        unit = production(self.journal_entry)
        unit.settle()
        # Where all processes of the trial are killed at once, systemd starts the host's own Falco when the
        # trial would have ended.
        seconds = dead_man.STARTS_AFTER + OPENS + int(self.request["seconds"])
        dead_man.arm(unit.name, self.journal_entry["folder"], ["systemctl", "start", unit.name], seconds)
        self.note(stopped=True)
        self.limits.expected_gone = True
        unit.stop()

    def measure(self, words):
        metrics = os.path.join(self.folder, "metrics.jsonl")
        child = self.spawn(words, "falco", discard=bool(self.request["own_rules"]))
        stat = processes.Process("", child.pid).stat()
        self.note(pid=child.pid, start=stat[0] if stat else None)
        self.wait(
            child,
            OPENS,
            lambda: host.read(metrics, 4096),
            "no snapshot of its metrics shows within %d s that Falco captures" % OPENS,
        )
        self.wait(child, WARM_UP)
        began, seen = time.monotonic(), self.cpu(child.pid)
        self.wait(child, self.request["seconds"] + self.request["interval"])
        ended, now = time.monotonic(), self.cpu(child.pid)
        if seen and now:
            self.answer["cpu"] = {
                "seconds": round(ended - began, 3),
                "on": (now[0] - seen[0]) / 1e9,
                "waiting": (now[1] - seen[1]) / 1e9,
            }
        self.answer["cpus"] = self.limits.cpus
        self.stop(child)
        self.answer["pair"] = snapshots.gather(
            {"metrics_file": metrics},
            ("metrics_file",),
            {"min_seconds": float(self.request["seconds"]), "max_bytes": MAX_METRICS},
        )
        return "ran"

    def wait(self, child, seconds, until=None, msg=None):
        """Let Falco run, for so long or until something is so; Failed with msg where it never is."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check()
            if child.poll() is not None:
                raise Failed("Falco ended: %s" % self.cause("falco", child.returncode))
            if until and until():
                return
            self.beat()
            time.sleep(STEP)
        if until:
            raise Failed(msg)

    def beat(self):
        """An event now and then: Falco writes snapshots only when there is one, and a lean set on a quiet
        host has none.
        """
        if self.pulse is None or time.monotonic() > self.pulse:
            self.pulse = time.monotonic() + LOOK
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)

    def cpu(self, pid):
        """(ns on a CPU, ns waiting for one) so far, or None; as the host shows the process, if that is the
        same one.
        """
        own, shown = processes.Process("", pid), processes.Process(self.subject["root"], pid)
        stat = own.stat()
        return (shown if stat and shown.alive(stat[0]) else own).schedule()

    def stop(self, child):
        """SIGTERM, once more where it was not heard, and SIGKILL in the end."""
        began = again = time.monotonic()
        while child.poll() is None:
            self.check()
            if time.monotonic() >= again:
                child.send_signal(signal.SIGKILL if time.monotonic() - began > KILL else signal.SIGTERM)
                again = time.monotonic() + SEND_AGAIN
            time.sleep(0.02)


# --- the three processes ------------------------------------------------------------------------------------


def broken_pipe(handle):
    """Whether nobody reads from this end any more. A file is never broken."""
    try:
        poll = select.poll()
        poll.register(handle, 0)
        return any(
            event & (select.POLLERR | select.POLLHUP | select.POLLNVAL) for dummy, event in poll.poll(0)
        )
    except (OSError, ValueError):
        return True


def send(pipe, answer):
    data = json.dumps(answer).encode("utf-8")
    try:
        while data:
            data = data[os.write(pipe, data) :]
    except OSError:
        pass


def detached(trial, deadline):
    """Begin a trial in a worker below a watchdog: (the watchdog's pid, where the answer is read). deadline:
    seconds for the worker.
    """
    reader, writer = os.pipe()

    def work():
        trial.watchdog, trial.pipe = os.getppid(), writer
        answer = trial.run()
        if answer is not None:
            send(writer, answer)

    def body():
        os.close(reader)
        if not detach.work(work, deadline):
            send(writer, killed(trial))

    watchdog = detach.watchdog(body)
    os.close(writer)
    return watchdog, reader


def killed(trial):
    """The answer for a trial whose worker was killed. Cleans."""
    answer = {"state": "failed", "reason": "the trial was killed"}
    try:
        trial.clean()
    except Failed as error:
        answer.update(reason=str(error), blind=True)
    return answer


def answer_of(watchdog, reader, connection):
    """What the trial came to; None where watchdog and worker were killed. Raises Gone where the connection is
    broken.

    connection: our end of it, or None. An empty line now and then shows whether the other one is still there.
    """
    data, beat = [], time.monotonic() + BEAT
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    while True:
        if poll.poll(int(LOOK * 1000)):
            part = os.read(reader, 1 << 16)
            if not part:
                break
            data.append(part)
        if connection is not None and time.monotonic() >= beat:
            beat = time.monotonic() + BEAT
            try:
                os.write(connection, b"\n")
            except OSError:
                raise Gone()
        if connection is not None and broken_pipe(connection):
            raise Gone()
    os.close(reader)
    os.waitpid(watchdog, 0)
    try:
        answer = json.loads(b"".join(data).decode("utf-8"))
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None
