# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The binary under test: FALCO_BIN, or the simulator. Only this file knows which of the two it is."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
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
DERIVED = ["0.36.2", "0.37.1", "0.39.2", "0.41.3", "0.42.1", "0.43.0"]

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


def _release_of_binary():
    out = subprocess.run([BINARY, "--version"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False).stdout.decode()
    return re.search(r"^Falco version: +(\S+)", out, re.M).group(1)


def releases(derived):
    """Releases to test: all known ones of the simulator, or the one of a real binary."""
    if SIMULATED:
        return sorted(RECORDED + DERIVED) if derived else RECORDED
    return [_release_of_binary()]


def load(release, name):
    path = os.path.join(HERE, "fixtures", release, name + ".json")
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as stream:
        return json.load(stream)


def pytest_generate_tests(metafunc):
    if "recorded" in metafunc.fixturenames:
        kind = metafunc.function.fixture
        found = [(release, name, body) for release in releases(False) for name, body in (load(release, kind) or {}).items()]
        metafunc.parametrize("falco,recorded", [(release, body) for release, _, body in found], indirect=["falco"],
                             ids=["%s-%s" % (release, name) for release, name, _ in found])
    elif "falco" in metafunc.fixturenames:
        derived = not hasattr(metafunc.function, "fixture")
        metafunc.parametrize("falco", releases(derived), indirect=True)


def uses(kind):
    """Marks a test as made from fixtures/<release>/<kind>.json."""
    def mark(function):
        function.fixture = kind
        return function
    return mark


class Falco:
    """One release of the binary, with a directory of its own."""

    def __init__(self, release, directory):
        self.release = release
        self.directory = str(directory)
        self.minor, self.patch = [int(part) for part in release.split(".")[1:3]]
        self.env = dict(os.environ)
        self.env.pop("FALCO_BPF_PROBE", None)
        # A real Falco ignores this: a host of two CPUs on which no kernel module is installed.
        self.profile = {"release": release, "cpus": 2, "drivers": ["modern_ebpf", "ebpf"], "startup_seconds": 0.5,
                        "reload_seconds": 0.8, "stop_seconds": 0.1}
        self.env["FALCO_SIM"] = self.path("sim.json")
        self.env["PATH"] = os.path.dirname(sys.executable) + os.pathsep + self.env.get("PATH", "")
        self.write({name: text for name, text in RULES.items()})

    def since(self, minor, patch=0):
        return (self.minor, self.patch) >= (minor, patch)

    @property
    def rules_key(self):
        return "rules_files" if self.since(38) else "rules_file"

    def path(self, name):
        return os.path.join(self.directory, name)

    def text(self, value):
        return value.replace("{dir}", self.directory)

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

    def _prepare(self, env):
        with open(self.env["FALCO_SIM"], "w", encoding="utf-8") as stream:
            json.dump(self.profile, stream)
        return dict(self.env, **(env or {}))

    def run(self, *args, env=None, timeout=60):
        """Runs to the end; gives exit code, stdout, stderr."""
        done = subprocess.run([BINARY] + [self.text(word) for word in args], cwd=self.directory, env=self._prepare(env),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, check=False)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def dry_run(self, *args, env=None):
        """Exit code and normal lines of a dry run at debug level."""
        code, _, err = self.run("-c", "{dir}/falco.yaml", "-o", "log_level=debug", "-o", "log_stderr=true", "-o", "log_syslog=false",
                                *args, "--dry-run", env=env)
        return code, self.normal(err)

    def normal(self, err, **how):
        return normal.lines(err.replace(self.directory, "{dir}"), **how)

    def config(self, extra="", engine="engine:\n  kind: modern_ebpf\n", rules="dummy_rules.yaml"):
        """A small falco.yaml."""
        if not self.since(37):
            engine = ""
        self.write({"falco.yaml": "%s: [{dir}/%s]\n%slog_stderr: true\nlog_syslog: false\nlog_level: info\n"
                                  "stdout_output:\n  enabled: true\n%s" % (self.rules_key, rules, engine, extra)})

    @contextlib.contextmanager
    def live(self, *args, env=None):
        """A running Falco; skips where a real one can't run."""
        need_driver()
        extra = [] if self.since(37) else ["--modern-bpf"]
        with open(self.path("stdout"), "wb") as out, open(self.path("stderr"), "wb") as err:
            process = subprocess.Popen([BINARY, "-c", self.path("falco.yaml"), "-U"] + extra + [self.text(word) for word in args],
                                       cwd=self.directory, env=self._prepare(env), stdout=out, stderr=err)
        live = Live(self, process)
        try:
            with activity():
                yield live
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


class Live:
    def __init__(self, falco, process):
        self.falco, self.process = falco, process

    def text(self, name):
        with open(self.falco.path(name), encoding="utf-8", errors="replace") as stream:
            return stream.read()

    def wait_for(self, condition, seconds=20, what="condition"):
        end = time.time() + seconds
        while time.time() < end:
            found = condition()
            if found:
                return found
            time.sleep(0.03)
        raise AssertionError("no %s in %s s; stderr:\n%s" % (what, seconds, self.text("stderr")[-3000:]))

    def wait_end(self, seconds=20):
        self.process.wait(timeout=seconds)
        return self.process.returncode

    def term(self):
        self.process.send_signal(signal.SIGTERM)

    def openings(self):
        """How often a capture was announced."""
        return self.text("stderr").count("Opening 'syscall' source")

    def wait_open(self, times=1):
        """Until the n-th capture collects. Early scrapes kill old releases, so those get the time they were recorded to need."""
        self.wait_for(lambda: self.openings() >= times or self.process.poll() is not None, what="capture")
        time.sleep(0.9 if SIMULATED else 3.0)


_driver = []


def need_driver():
    """A real Falco needs root and a driver that opens: tried once."""
    if SIMULATED:
        return
    if os.geteuid() != 0:
        pytest.skip("not root: a real driver can't be opened")
    if not _driver:
        import tempfile
        with tempfile.TemporaryDirectory() as directory:
            falco = Falco(_release_of_binary(), directory)
            falco.config("webserver:\n  enabled: false\n")
            process = subprocess.Popen([BINARY, "-c", falco.path("falco.yaml")], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            try:
                process.wait(timeout=6)
                _driver.append(process.stderr.read().decode()[-300:])
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                _driver.append("")
    if _driver[0]:
        pytest.skip("the driver doesn't open here: " + _driver[0])


@contextlib.contextmanager
def activity():
    """Programs are started all the while, so that even a lean Falco sees events."""
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


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def web(port):
    """Configuration of a web server with metrics."""
    return ("webserver:\n  enabled: true\n  listen_port: %d\n  listen_address: 127.0.0.1\n  prometheus_metrics_enabled: true\n"
            % port)


@pytest.fixture
def falco(request, tmp_path):
    return Falco(request.param, tmp_path)
