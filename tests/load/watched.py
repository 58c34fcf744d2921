# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Falco under a load, seen as falco_facts sees a host, and judged."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml
from ansible_collections.falcotune.fleet.plugins.module_utils._host import processes
from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import snapshots
from ansible_collections.falcotune.fleet.plugins.modules import falco_facts
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import assembly, policies, verdicts
from ansible_collections.falcotune.fleet.tests.unit.hosts import MAIN, Host

LOAD = Path(__file__).with_name("load.py")
OPENS = 60.0  # seconds until the first snapshot of a starved Falco

# Conditions that many rule sets have, and that cost: each is evaluated for every open.
HEAVY = ('evt.type in (open, openat, openat2) and (proc.cmdline regex ".*needle{0}[a-z]+x.*" or fd.name glob "*/needle{0}/*/x*"'
         ' or proc.aname[3] icontains "needle{0}" or proc.pcmdline regex "^needle{0}.*[0-9]x")')


def rules(heavy: int) -> str:
    """One ordinary rule on files and processes, and so many heavy ones. None of them ever matches."""
    found = [("files", "evt.type in (open, openat, openat2) and fd.name startswith /needle/"),
             ("programs", "evt.type in (execve, execveat) and proc.name = needle")]
    found += [("heavy %d" % number, HEAVY.format(number)) for number in range(heavy)]
    return yaml.safe_dump([{"rule": name, "desc": name, "condition": condition, "output": "%evt.type", "priority": "NOTICE"}
                           for name, condition in found], sort_keys=False)


def configuration(folder: Path, preset: int) -> dict:
    return {
        "rules_files": [str(folder / "rules.yaml")], "watch_config_files": False, "json_output": True, "log_stderr": True,
        "log_syslog": False, "syslog_output": {"enabled": False}, "stdout_output": {"enabled": True},
        "webserver": {"enabled": False}, "priority": "debug",
        "engine": {"kind": "modern_ebpf", "modern_ebpf": {"buf_size_preset": preset, "cpus_for_each_buffer": 2}},
        "syscall_event_drops": {"actions": ["ignore"], "rate": 0.03333, "max_burst": 1, "threshold": 0.1},
        "metrics": {"enabled": True, "interval": "1s", "output_rule": False, "output_file": str(folder / "metrics.jsonl"),
                    "resource_utilization_enabled": True, "state_counters_enabled": True, "kernel_event_counters_enabled": True,
                    "libbpf_stats_enabled": False, "convert_memory_to_mb": True, "include_empty_values": False},
    }


@dataclasses.dataclass
class Load:
    """One load, and what truly limits Falco under it."""

    truth: str  # a bottleneck, or "none"
    workers: int = 0
    rate: float = 0.0
    burst: tuple[float, float] = (0.0, 0.0)
    preset: int = 4
    heavy: int = 0
    also: str | None = None
    sessions: bool = False  # each worker in a session of its own


class Watched:
    """A Falco with a configuration of its own."""

    def __init__(self, binary: str, folder: Path, preset: int, heavy: int, nice: int = 0) -> None:
        self.folder, self.preset = folder, preset
        (folder / "rules.yaml").write_text(rules(heavy))
        self.text = yaml.safe_dump(configuration(folder, preset), sort_keys=False)
        (folder / "falco.yaml").write_text(self.text)
        self.log = open(folder / "falco.log", "w", encoding="utf-8")
        self.child = subprocess.Popen([binary, "-c", str(folder / "falco.yaml")], stdin=subprocess.DEVNULL,
                                      stdout=subprocess.DEVNULL, stderr=self.log)
        os.setpriority(os.PRIO_PROCESS, self.child.pid, nice)  # before it has another thread
        self.process = processes.Process("", self.child.pid)
        self.start = self.process.stat()[0]
        self.wait_for_events()

    def metrics(self) -> int:
        path = self.folder / "metrics.jsonl"
        return path.read_text().count("\n") if path.exists() else 0

    def wait_for_events(self) -> None:
        """Falco writes snapshots only where there are events: this process makes some."""
        deadline = time.monotonic() + OPENS
        while self.metrics() < 2:
            os.close(os.open("/dev/null", os.O_RDONLY))
            assert self.child.poll() is None, (self.folder / "falco.log").read_text()
            assert time.monotonic() < deadline, (self.folder / "falco.log").read_text()
            time.sleep(0.1)

    def facts(self, seconds: float):
        """The facts of its host, with two looks as the module takes them."""
        age = processes.age(self.start)
        observation = falco_facts.Observation("", self.process, age, {}, 1.0)
        pair = snapshots.gather({"metrics_file": str(self.folder / "metrics.jsonl")}, ("metrics_file",),
                                {"min_seconds": seconds, "since": processes.started_at("", self.start)})
        cpu = observation.end(falco_facts.loses(pair))
        message = Host(version=None, cpus=os.cpu_count(), pair=pair, age=age, arguments=["falco"], files={MAIN: self.text}).message()
        message["falco"].update(version="0.44.1", reason=None, cpu=cpu, nice=self.process.stat()[2])
        return assembly.assemble(message)

    def measured(self, seconds: float) -> dict:
        """What it counted between two snapshots so far apart, and the seconds of its reading thread on a CPU and waiting for one."""
        first, threads, span = self.next_snapshot(), self.process.threads(), 0.0
        while span < seconds - 0.5:  # they are a second apart
            last = self.next_snapshot()
            span = (last["evt.time"] - first["evt.time"]) / 1e9
        on, waiting = processes.busiest(self.process.threads(), threads)
        return {"seconds": round(span, 3), "n_evts": last["scap.n_evts"] - first["scap.n_evts"],
                "n_drops": last["scap.n_drops"] - first["scap.n_drops"], "on": round(on / 1e9, 3), "waiting": round(waiting / 1e9, 3)}

    def next_snapshot(self) -> dict:
        """The next snapshot that it writes."""
        there, deadline = self.metrics(), time.monotonic() + OPENS
        while self.metrics() == there:
            assert time.monotonic() < deadline, (self.folder / "falco.log").read_text()
            os.close(os.open("/dev/null", os.O_RDONLY))
            time.sleep(0.02)
        return json.loads((self.folder / "metrics.jsonl").read_text().splitlines()[-1])["output_fields"]

    def stop(self) -> None:
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(20)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.log.close()


@contextlib.contextmanager
def loaded(load: Load, seconds: float):
    """The load, in this process's session or one for each worker: with autogroup the kernel gives each session a share of its own."""
    apart = load.workers if load.sessions else 0
    running = [subprocess.Popen([sys.executable, "-S", "-E", str(LOAD), *map(str, (workers, seconds, load.rate, *load.burst))],
                                stdin=subprocess.DEVNULL, start_new_session=load.sessions)
               for workers in [1] * apart or [load.workers] if workers]
    try:
        yield
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


def judged(binary: str, folder: Path, load: Load, warm_up: float = 5.0, seconds: float = 12.0):
    """The verdict on a Falco that ran under a load for so long, and the facts that it rests on."""
    falco = Watched(binary, folder, load.preset, load.heavy)
    try:
        with loaded(load, warm_up + seconds + 60):
            time.sleep(warm_up + seconds)
            facts = falco.facts(seconds)
    finally:
        falco.stop()
    return verdicts.judge(facts, policies.complete({"min_observation": 5, "window": "1m"})), facts
