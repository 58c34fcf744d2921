# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The binary under test: FALCO_BIN, or the simulator. Only this file knows which of the two it is."""

import contextlib
import functools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import pytest

import normal

HERE = os.path.dirname(os.path.abspath(__file__))
SIMULATOR = os.path.realpath(os.path.join(HERE, "..", "simulator", "falco"))
BINARY = os.environ.get("FALCO_BIN") or SIMULATOR
SIMULATED = os.path.realpath(BINARY) == SIMULATOR
RECORDED = sorted(os.listdir(os.path.join(HERE, "fixtures")))
# Never recorded: what holds for these was read in Falco's source.
DERIVED = ["0.36.2", "0.37.1", "0.39.2", "0.41.3", "0.42.1", "0.43.0"]
DEADLINE = 60  # seconds; nothing here takes that long, but the machine may be busy

DUMMY = """\
- macro: spawned_process
  condition: (evt.type in (execve, execveat))
- rule: Dummy rule that never alerts
  desc: Needs two system calls and matches nothing.
  condition: spawned_process and proc.name=iShouldNeverAlert
  output: never (proc=%proc.name)
  priority: INFO
"""
DUMMY2 = """\
- rule: Second dummy rule that never alerts
  desc: Needs three system calls and matches nothing.
  condition: evt.type in (execve, execveat, openat) and proc.name=iShouldNeverAlert
  output: never (proc=%proc.name)
  priority: INFO
"""
NINETEEN = """\
- list: opens
  items: [open, openat, openat2]
- macro: never
  condition: (proc.name=iShouldNeverAlert)
- macro: any_link
  condition: (evt.type in (link, linkat) or evt.type in (symlink, symlinkat))
- rule: Files
  desc: Opens and links.
  condition: (evt.type in (opens) or any_link) and never
  output: never (proc=%proc.name)
  priority: WARNING
- rule: Network
  desc: Sockets, descriptors and sending.
  condition: evt.type in (socket, connect, sendto, sendmsg, dup, dup2, dup3) and never
  output: never (proc=%proc.name)
  priority: WARNING
- rule: Processes
  desc: Programs, modules and tracing.
  condition: evt.type in (execve, execveat, ptrace, init_module, finit_module) and not never
             and proc.name=iShouldNeverAlertEither
  output: never (proc=%proc.name)
  priority: WARNING
"""
RULES = {"dummy_rules.yaml": DUMMY, "dummy2_rules.yaml": DUMMY2, "nineteen_rules.yaml": NINETEEN}


@functools.lru_cache(maxsize=None)
def release_of_binary():
    out = subprocess.run([BINARY, "--version"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False).stdout.decode()
    return re.search(r"^Falco version: +(\S+)", out, re.M).group(1)


def releases(derived=()):
    """Releases to test: the recorded ones and `derived` of the simulator, or the one of a real binary."""
    return sorted(RECORDED + list(derived)) if SIMULATED else [release_of_binary()]


def load(release, kind):
    """What fixtures/<release>/<kind>.json holds, or None."""
    try:
        with open(os.path.join(HERE, "fixtures", release, kind + ".json"), encoding="utf-8") as stream:
            return json.load(stream)
    except OSError:
        return None


def recorded(kind):
    """Marks a test as made from fixtures/<release>/<kind>.json: its argument `recorded` is one case of that, if it has one."""
    def mark(function):
        function.recorded = kind
        return function
    return mark


def few(*derived):
    """Lets the simulator be only the recorded releases and these: enough where the others behave alike."""
    def mark(function):
        function.derived = derived
        return function
    return mark


class Falco:
    """One release of the binary, with a directory of its own."""

    def __init__(self, release, directory):
        self.release = release
        self.directory = str(directory)
        self.minor, self.patch = [int(part) for part in release.split(".")[1:3]]
        self.cpus = 2 if SIMULATED else os.cpu_count()
        self.kernel_module = not SIMULATED and os.path.exists("/dev/falco0")
        self.env = dict(os.environ)
        self.env.pop("FALCO_BPF_PROBE", None)
        # A real Falco ignores this: a host of two CPUs on which no kernel module is installed.
        self.profile = {"release": release, "cpus": 2, "drivers": ["modern_ebpf", "ebpf"], "startup_seconds": 0.3,
                        "reload_seconds": 0.8, "stop_seconds": 0.1}
        self.env["FALCO_SIM"] = self.path("sim.json")
        self.env["PATH"] = os.path.dirname(sys.executable) + os.pathsep + self.env.get("PATH", "")
        self.write(RULES)

    def since(self, minor, patch=0):
        return (self.minor, self.patch) >= (minor, patch)

    @property
    def rules_key(self):
        return "rules_files" if self.since(38) else "rules_file"

    def path(self, name):
        return os.path.join(self.directory, name)

    def text(self, value):
        return value.replace("{dir}", self.directory)

    def read(self, name):
        """A file's text; none while it isn't there."""
        try:
            with open(self.path(name), encoding="utf-8", errors="replace") as stream:
                return stream.read()
        except FileNotFoundError:
            return ""

    def write(self, files):
        """Writes files; {dir} in their text is this directory."""
        for name, text in files.items():
            target = self.path(name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "w", encoding="utf-8") as stream:
                stream.write(self.text(text))

    def rename_in(self, name, text):
        """Puts a file in place the way a careful program does: written elsewhere, then renamed."""
        self.write({"elsewhere": text})
        os.rename(self.path("elsewhere"), self.path(name))

    # --- configuration -------------------------------------------------

    def config(self, extra="", engine="engine:\n  kind: modern_ebpf\n", rules="dummy_rules.yaml"):
        """A small falco.yaml, with metrics to a file unless `extra` says otherwise."""
        if not self.since(37):
            engine = ""
        if "metrics:" not in extra:
            extra += self.metrics("output_file: {dir}/metrics.jsonl")
        self.write({"falco.yaml": "%s: [{dir}/%s]\n%slog_stderr: true\nlog_syslog: false\nlog_level: info\n"
                                  "stdout_output:\n  enabled: true\n%s" % (self.rules_key, rules, engine, extra)})

    @property
    def interval(self):
        """Of metrics. Short ones keep a real driver from loading: the timer's signal interrupts each try of a large program."""
        if not SIMULATED:
            return "2s"
        return "300ms"

    def metrics(self, *settings):
        """A metrics block."""
        return "metrics:\n  enabled: true\n  interval: %s\n%s" % (self.interval, "".join("  %s\n" % line for line in settings))

    def samples(self):
        """Metrics snapshots so far."""
        return [json.loads(line) for line in self.read("metrics.jsonl").splitlines(True) if line.endswith("\n")]

    # --- running -----------------------------------------------------------

    def _prepare(self, env):
        with open(self.env["FALCO_SIM"], "w", encoding="utf-8") as stream:
            json.dump(self.profile, stream)
        return dict(self.env, **(env or {}))

    @property
    def driver_options(self):
        """What older releases need on the command line to choose the driver."""
        return [] if self.since(37) else ["--modern-bpf"]

    def run(self, *args, env=None):
        """Runs to the end; gives exit code, stdout, stderr."""
        done = subprocess.run([BINARY] + [self.text(word) for word in args], cwd=self.directory, env=self._prepare(env),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=DEADLINE, check=False)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def dry_run(self, *args, env=None):
        """Exit code and normal lines of a dry run at debug level."""
        code, _, err = self.run("-c", "{dir}/falco.yaml", "-o", "log_level=debug", "-o", "log_stderr=true", "-o", "log_syslog=false",
                                *self.driver_options, *args, "--dry-run", env=env)
        return code, self.normal(err)

    def normal(self, err, **how):
        return normal.lines(err.replace(self.directory, "{dir}"), **how)

    @contextlib.contextmanager
    def live(self, *args, env=None):
        """A running Falco; skips where a real one can't run."""
        need_driver()
        command = [BINARY, "-c", self.path("falco.yaml"), "-U"] + self.driver_options + [self.text(word) for word in args]
        for name in ("metrics.jsonl", "stdout", "stderr"):
            with contextlib.suppress(FileNotFoundError):
                os.remove(self.path(name))
        with open(self.path("stdout"), "wb") as out, open(self.path("stderr"), "wb") as err:
            process = subprocess.Popen(command, cwd=self.directory, env=self._prepare(env), stdout=out, stderr=err)
        try:
            with activity():
                yield Live(self, process)
        finally:
            process.kill()
            process.wait()


class Live:
    """A Falco that runs."""

    def __init__(self, falco, process):
        self.falco, self.process = falco, process

    @property
    def ended(self):
        return self.process.poll() is not None

    @property
    def out(self):
        return self.falco.read("stdout")

    @property
    def err(self):
        return self.falco.read("stderr")

    def wait_for(self, condition, what, every=0.03):
        """The first true answer of `condition`; fails when Falco ends or takes too long."""
        end = time.monotonic() + DEADLINE
        while True:
            last = self.ended or time.monotonic() > end
            found = condition()
            if found:
                return found
            if last:
                raise AssertionError("no %s; exit code %s; stderr:\n%s" % (what, self.process.poll(), self.err[-3000:]))
            time.sleep(every)

    def wait_end(self):
        try:
            return self.process.wait(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            raise AssertionError("still running; stderr:\n" + self.err[-3000:])

    def signal(self, number):
        self.process.send_signal(number)

    def term(self):
        self.signal(signal.SIGTERM)

    def openings(self):
        """How often a capture was announced."""
        return self.err.count("Opening 'syscall' source")

    def wait_opening(self, times=1):
        self.wait_for(lambda: self.openings() >= times, "capture %d" % times)

    def wait_open(self, times=1):
        """Until the n-th capture collects: it was announced, and a snapshot was written after that."""
        self.wait_opening(times)
        before = len(self.falco.samples())
        self.wait_for(lambda: len(self.falco.samples()) > before, "snapshot from capture %d" % times)

    def stays(self, times=1):
        """Whether nothing reloads: the same capture still collects when a reload would long have begun."""
        end = time.monotonic() + 1.0
        while time.monotonic() < end and self.openings() == times:
            time.sleep(0.05)
        before = len(self.falco.samples())
        self.wait_for(lambda: len(self.falco.samples()) > before, "further snapshot")
        return self.openings() == times


def need_driver():
    """A real Falco needs root and a driver that opens: tried once."""
    problem = None if SIMULATED else _driver_problem()
    if problem:
        pytest.skip("the driver doesn't open here: " + problem)


@functools.lru_cache(maxsize=None)
def _driver_problem():
    if os.geteuid() != 0:
        return "not root"
    with tempfile.TemporaryDirectory() as directory:
        falco = Falco(release_of_binary(), directory)
        falco.config("webserver:\n  enabled: false\n")
        process = subprocess.Popen([BINARY, "-c", falco.path("falco.yaml")], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            with activity():
                end = time.monotonic() + DEADLINE
                while process.poll() is None and not falco.samples() and time.monotonic() < end:
                    time.sleep(0.1)
            if process.poll() is None:
                return None if falco.samples() else "no event in %d s" % DEADLINE
            return process.stderr.read().decode()[-300:]
        finally:
            process.kill()
            process.wait()
            process.stderr.close()


@contextlib.contextmanager
def activity():
    """Programs are started all the while, so that even a lean Falco sees events. The simulator sees those of its profile."""
    if SIMULATED:
        yield
        return
    stop = threading.Event()

    def work():
        while not stop.is_set():
            subprocess.run(["/bin/true"], check=False)
            stop.wait(0.05)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def get(port, path):
    """(status, headers, body); status 0 if nobody listens, -1 if the connection just ends."""
    try:
        with urllib.request.urlopen("http://127.0.0.1:%d%s" % (port, path), timeout=5) as reply:
            return reply.status, dict(reply.headers), reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read().decode()
    except urllib.error.URLError:
        return 0, {}, ""
    except OSError:
        return -1, {}, ""
