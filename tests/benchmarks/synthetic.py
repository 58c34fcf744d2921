# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts and plans of hosts that exist only as messages: releases, drivers, sizes and local settings differ."""

from __future__ import annotations

import base64
import hashlib
import random
import resource
import time
import zlib
from pathlib import Path

from ansible_collections.falcotune.fleet.plugins.filter.plan import plan
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import assembly
from hosts import config_text, packaged_config

RELEASES = ("0.36.2", "0.37.1", "0.38.2", "0.39.2", "0.40.0", "0.41.3", "0.42.1", "0.43.0", "0.44.1")
UNITS = {"modern_ebpf": "falco-modern-bpf.service", "kmod": "falco-kmod.service"}


def _file(path: str, text: str) -> dict:
    data = text.encode()
    return {"path": path, "sha256": hashlib.sha256(data).hexdigest(), "mtime": 1.0,
            "data": base64.b64encode(zlib.compress(data, 6)).decode()}


def message(number: int, random: random.Random) -> dict:
    """What the module falco_facts sends of one host."""
    release, kind = random.choice(RELEASES), random.choice(tuple(UNITS))
    cpus = random.choice((2, 4, 8, 16, 32, 48, 64, 96, 128, 256))
    memory = cpus * random.choice((2, 4, 8)) << 30
    modern = release >= "0.38"
    # Hostnames and tokens make every host's file its own.
    text = config_text(release, packaged_config(Path("/"), release, 8765)).replace("//", "/") + f"\n# host {number}\n"
    files = [_file("/etc/falco/falco.yaml", text)]
    if modern and random.random() < 0.5:
        files.append(_file("/etc/falco/config.d/engine-kind-falcoctl.yaml", f"engine:\n  kind: {kind}\n"))
    option = ["-o", "engine.kind=" + kind] if release >= "0.37" else (["--modern-bpf"] if kind == "modern_ebpf" else [])
    return {
        "cpus": {"online": cpus, "possible": cpus, "list": f"0-{cpus - 1}", "reason": None},
        "memory": {"total": memory, "available": memory // 2, "limit": None, "used": 80 << 20},
        "kernel": {"release": "6.1.0-18-amd64", "btf": True, "bpf_stats_enabled": 0, "page_size": 4096},
        "falco": {"version": release, "reason": None, "binary": "/usr/bin/falco", "running": True, "pid": 812, "since": 1795470186.1,
                  "age": 86400.5, "start_ticks": 4711, "restarts": 0, "nice": 0, "cpu": {"on": 3.1, "waiting": 0.2, "reason": None}},
        "service": {"manager": "systemd", "unit": UNITS[kind], "state": "active", "exec_start": ["/usr/bin/falco", *option],
                    "user": "root", "limits": {"cpu_quota": None, "cpu_weight": None, "nice": 0, "memory_max": None},
                    "sandbox": {"private_tmp": True, "protect_system": "full", "read_write_paths": []}},
        "host": {"metrics_dir_exists": False, "files": {}, "record": None, "unfinished": None},
        "config_sources": {"main": "/etc/falco/falco.yaml", "files": files, "folders": ["/etc/falco/config.d"] if modern else [],
                    "arguments": ["/usr/bin/falco", *option], "environment": {}, "probe": False},
    }


def measure(hosts: int) -> list[str]:
    """Lines of results; raises where a host gets no plan."""
    chance = random.Random(1)
    messages = [message(number, chance) for number in range(hosts)]
    before = time.perf_counter()
    found = [assembly.assemble(item) for item in messages]
    assembled = time.perf_counter()
    made = [plan(item, {}) for item in found]
    planned = time.perf_counter()
    if not all(item["changes"] for item in made):
        raise SystemExit("a synthetic host got no change")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [
        f"facts of {hosts} hosts from their messages: {hosts / (assembled - before):.0f} a second (parsing and merging their files)",
        f"plans of {hosts} hosts: {hosts / (planned - assembled):.0f} a second",
        f"facts and plans together: {hosts / (planned - before):.0f} a second, peak memory {peak:.0f} MiB (goal 2000 a second)",
    ]
