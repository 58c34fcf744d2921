# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host on paper: what falco_facts would send from it, and what it looks like once a plan was applied."""

from __future__ import annotations

import base64
import copy
import dataclasses
import functools
import hashlib
import zlib
from pathlib import Path

import jinja2
import yaml
from ansible.plugins.filter.core import to_nice_yaml
from ansible_collections.falcotune.fleet.plugins.module_utils._change import yaml_text
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import configuration, drivers, releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import assembly, buffers, requests

ROOT = Path(__file__).resolve().parents[2]
MAIN = "/etc/falco/falco.yaml"
FOLDER = "/etc/falco/config.d"
TARGET = FOLDER + "/zz-falcotune.yaml"
KIND_FILE = FOLDER + "/engine-kind-falcoctl.yaml"
GIB = 1 << 30
MIB = 1 << 20

SHIPPED = """\
# Falco's configuration
config_files:
  - /etc/falco/config.d
watch_config_files: true
rules_files:
  - /etc/falco/falco_rules.yaml
engine:
  kind: modern_ebpf
  kmod:
    buf_size_preset: 4
    drop_failed_exit: false
  modern_ebpf:
    cpus_for_each_buffer: 2
    buf_size_preset: 4
    drop_failed_exit: false
webserver:
  enabled: true
  listen_port: 8765
http_output:
  enabled: true
  url: https://user:secret@example.test/
metrics:
  enabled: false
  interval: 1h
  output_rule: true
  rules_counters_enabled: true
  kernel_event_counters_per_cpu_enabled: false
"""

OLD = """\
rules_file:
  - /etc/falco/falco_rules.yaml
syscall_buf_size_preset: 4
modern_bpf:
  cpus_for_each_syscall_buffer: 2
webserver:
  enabled: true
"""


@functools.cache
def _template():
    environment = jinja2.Environment(trim_blocks=True, keep_trailing_newline=False, autoescape=False)
    environment.filters["to_nice_yaml"] = to_nice_yaml
    return environment.from_string((ROOT / "roles/tune/templates/falco.yaml.j2").read_text())


def render(plan):
    """The text that the role's own template makes of a plan."""
    return _template().render(__falco_tune_plan=plan)


def packed(text):
    return base64.b64encode(zlib.compress(text.encode())).decode()


@dataclasses.dataclass
class Host:
    """Defaults: 8 CPUs, 16 GiB, Falco 0.44.1 from the package, modern eBPF, healthy."""

    version: str | None = "0.44.1"
    files: dict = dataclasses.field(default_factory=lambda: {MAIN: SHIPPED})
    folders: tuple = (FOLDER,)
    options: tuple = ("engine.kind=modern_ebpf",)
    arguments: list | None = None
    environment: dict = dataclasses.field(default_factory=dict)
    probe: bool = False
    cpus: int | None = 8
    total: int | None = 16 * GIB
    available: int | None = 12 * GIB
    limit: int | None = None
    used: int | None = 100 * MIB
    page_size: int = 4096
    bpf_stats: int | None = 0
    metrics_dir_exists: bool = True
    unit: str | None = "falco-modern-bpf.service"
    state: str = "active"
    running: bool = True
    restarts: int | None = 0
    age: float | None = 86400.0
    clock: float = 4005.0
    since: float | None = 2000.0
    private_tmp: bool = True
    protect_system: str = "full"
    user: str = "root"
    read_write_paths: list = dataclasses.field(default_factory=list)
    mtimes: dict = dataclasses.field(default_factory=dict)
    unreadable: dict = dataclasses.field(default_factory=dict)
    nice: int = 0
    weight: int | None = None  # cpu.weight of the unit's cgroup
    weighable: bool = False  # systemd can have the kernel weigh it
    autogroup: bool = False
    quota: float | None = None  # CPUQuota in percent
    reader: dict | None = None  # of the thread that reads events; None: not told apart
    cpu: dict = dataclasses.field(default_factory=lambda: {"on": 400.0, "waiting": 20.0, "throttled": None})  # seconds since the start
    looked: dict | None = None  # use of the CPU between two looks, percent; None: not sampled twice
    dropin: dict = dataclasses.field(default_factory=dict)  # lines of our drop-in of the unit
    pair: dict | None = None  # two snapshots, as gather() brings them
    record: dict | None = None
    unfinished: dict | None = None

    def but(self, **changes):
        return dataclasses.replace(copy.deepcopy(self), **changes)

    def with_file(self, path, text):
        return self.but(files=dict(self.files, **{path: text}))

    @property
    def argv(self):
        if self.arguments is not None:
            return self.arguments
        return ["/usr/bin/falco"] + [word for option in self.options for word in ("-o", option)]

    def message(self):
        """What falco_facts sends, in its shape."""
        service = {"manager": None, "unit": None, "reason": "systemd has no unit of Falco's packages"}
        if self.unit:
            service = {
                "manager": "systemd", "unit": self.unit, "state": self.state, "exec_start": self.argv,
                "user": self.user, "group": self.user,
                "limits": {"cpu_quota": self.quota, "cpu_weight": self.weight, "nice": self.nice, "memory_max": self.limit},
                "sandbox": {"private_tmp": self.private_tmp, "protect_system": self.protect_system,
                            "read_write_paths": list(self.read_write_paths)},
            }
        service["cgroup"] = {"weight": self.weight, "weighable": self.weighable or self.weight is not None,
                             "throttled": self.cpu["throttled"]}
        sent = [{"path": path, "sha256": hashlib.sha256(text.encode()).hexdigest(), "mtime": self.mtimes.get(path, 1000.0),
                 "data": packed(text)} for path, text in self.files.items()]
        sent += [{"path": path, "reason": reason} for path, reason in self.unreadable.items()]
        return {
            "cpus": {"online": self.cpus, "possible": self.cpus, "list": None, "reason": None if self.cpus else "no such file"},
            "kernel": {"release": "6.1.0", "btf": True, "bpf_stats_enabled": self.bpf_stats,
                       "autogroup": self.autogroup, "page_size": self.page_size},
            "memory": {"total": self.total, "available": self.available, "limit": self.limit, "used": self.used},
            "service": service, "clock": self.clock,
            "falco": {"version": self.version, "reason": None if self.version else "/usr/bin/falco does not exist",
                      "binary": "/usr/bin/falco",
                      "running": self.running, "pid": 812 if self.running else None, "since": self.since, "age": self.age,
                      "start_ticks": 4711, "restarts": self.restarts, "nice": self.nice, "rings": None,
                      "cpu": {"on": None, "waiting": None, "throttled": None, "seconds": None, "total": dict(self.cpu),
                              "reader": {"on": None, "waiting": None, "total_on": None, "total_waiting": None, **(self.reader or {})},
                              "reason": "not sampled twice", **({"reason": None, "seconds": 1.0, **self.looked} if self.looked else {})}},
            "metrics": self.pair or {"reason": "no source of metrics", "bytes_read": 0},
            "config_sources": {"main": MAIN, "files": sent, "folders": list(self.folders), "arguments": list(self.argv),
                        "environment": dict(self.environment), "probe": self.probe},
            "host": {"metrics_dir_exists": self.metrics_dir_exists, "unit_dropin": dict(self.dropin), "record": self.record,
                     "files": {path: hashlib.sha256(self.files[path].encode()).hexdigest() if path in self.files else None
                               for path in (self.record or {}).get("files") or {}},
                     "unfinished": self.unfinished, "staged": None},
        }

    def facts(self):
        return assembly.assemble(self.message())

    def effective(self):
        """The configuration as Falco merges it."""
        release = releases.release_for(self.version)
        merged = configuration.merge(MAIN, self.files, drivers.options_of(self.argv), self.environment, release)
        return merged["effective"]

    def rings(self):
        """Bytes that Falco's rings take now."""
        kind, effective, release = self.facts()["driver"]["kind"], self.effective(), releases.release_for(self.version)

        def value(path):
            return configuration.Settings(effective, release).value(path)

        # 0.37 reads the old keys while its engine block says what the code's defaults say.
        old = release.has("syscall_buf_size_preset") and (
            value("engine.kind"), value("engine.kmod.buf_size_preset"), value("engine.kmod.drop_failed_exit")) in (
                (None, None, None), ("kmod", 4, False))
        keys = release.buffer_keys(kind)
        preset, group = (value(paths[-1 if old else 0]) if paths else None for paths in keys.values())
        return buffers.layout(kind, self.cpus, preset, group)["bytes_total"]

    def after(self, plan):
        """The same host once the plan was applied and Falco was restarted."""
        host = self.but(metrics_dir_exists=True)
        if plan["settings"]:
            content = render(plan)
            if plan["layout"] == "dropin":
                host.files[plan["target"]] = content
            else:
                names = [key for key, dummy, dummy2 in yaml_text.spans(content)]
                host.files[plan["target"]] = yaml_text.replace(
                    host.files[plan["target"]], {key: yaml_text.block(content, key) for key in names})
            host.mtimes = dict(host.mtimes, **{plan["target"]: 3000.0})
        if plan["changes"]:
            host.since, host.age, host.restarts = 4000.0, 60.0, 0
            host.record = {"proven": True, "at": 4005.0, "evidence": {}, "attempts": (self.record or {}).get("attempts") or [],
                           "files": {path: hashlib.sha256(text.encode()).hexdigest() for path, text in host.files.items()}}
        if plan["sysctls"]:
            host.bpf_stats = 1
        if plan["unit_dropin"] is not None:
            host.dropin = {name: str(value) for name, value in plan["unit_dropin"].items()}
            paths = [path for path in [host.dropin.get("ReadWritePaths")] if path and path not in self.read_write_paths]
            host.read_write_paths = self.read_write_paths + paths
            host.nice = int(host.dropin.get("Nice", 0))
            weighed = self.weight is not None or "CPUWeight" in host.dropin
            host.weight = int(host.dropin.get("CPUWeight", 100)) if weighed else None
            host.quota = None if host.dropin.get("CPUQuota") == "" else self.quota
        if plan["step"]:
            attempt = dict(requests.attempt(plan), at=self.clock)
            host.record["attempts"] = ((self.record or {}).get("attempts") or []) + [attempt]
        if plan["changes"]:
            host.pair, host.cpu = None, {"on": 1.0, "waiting": 0.0, "throttled": None}
        grown = plan["buffers"]["bytes_total"] - self.rings()
        if host.available is not None:
            host.available = max(0, host.available - grown)
        if host.used is not None and plan["driver"] == "modern_ebpf":
            host.used = max(0, host.used + grown)
        return host


def measured(events=100000, drops=0, seconds=1000.0, rate_per_cpu=None, outputs=0, full=0, since_start=None, **kinds):
    """Two snapshots as gather() brings them from a host of 8 CPUs: events and drops in so many seconds."""
    if rate_per_cpu is not None:
        events = int(rate_per_cpu * 8 * seconds)
    start = 1795000000 * 10 ** 9
    first = {"evt.time": start + 10 ** 9, "falco.start_ts": start, "falco.reload_ts": start, "falco.version": "0.44.1",
             "falco.host_num_cpus": 8, "scap.n_evts": 10, "falco.num_evts": 10,
             "falco.outputs_queue_num_drops": 0, "falco.n_drops_full_threadtable": 0, "sample": 1}
    last = dict(first, sample=2)
    last["evt.time"] += int(seconds * 1e9)
    last["scap.n_evts"] += events
    last["falco.num_evts"] += events - drops
    last["falco.outputs_queue_num_drops"] = outputs
    last["falco.n_drops_full_threadtable"] = full
    if drops:
        last["scap.n_drops"] = drops
    last.update({"scap." + name: value for name, value in kinds.items()})
    if since_start is not None:
        for fields in (first, last):
            fields["falco.start_ts"] = fields["falco.reload_ts"] = last["evt.time"] - int(since_start * 1e9)
    return {"first": first, "last": last, "source": "metrics_file", "seconds": seconds, "age": 3.0, "bytes_read": 1, "ended_by": None}


def fragment(**blocks):
    return yaml.safe_dump(blocks, sort_keys=False)


def change(plan, key, kind="config"):
    """The one change of a key, or None."""
    found = [item for item in plan["changes"] if (item["kind"], item["key"]) == (kind, key)]
    assert len(found) < 2, found
    return found[0] if found else None


