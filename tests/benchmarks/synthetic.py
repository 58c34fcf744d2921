# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts and plans of hosts that exist only as messages: releases, drivers, sizes and local settings differ.

    synthetic.py HOSTS INVENTORY    what the rollout's plan takes of them in this Python; one line of JSON
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = ROOT / "build" / "collections"
sys.path[:0] = [str(COLLECTIONS), str(ROOT / "tests" / "fleet")]

from ansible_collections.falcotune.fleet.plugins.filter.plan import plan  # noqa: E402
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rollout import hosts as rollout_hosts  # noqa: E402
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import assembly, policies  # noqa: E402
from hosts import config_text, packaged_config  # noqa: E402

# The task that plans the batches, and what comes after it. The hosts' results are in the inventory.
PLAN = """\
- hosts: all
  gather_facts: false
  tasks:
    - falcotune.fleet.falco_rollout:
        state: planned
      run_once: true
      delegate_to: localhost
      delegate_facts: true
    - ansible.builtin.debug:
        msg: "{{ hostvars.localhost.ansible_facts.falco_tune_rollout.summary }}"
      run_once: true
"""
NOTHING = """\
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.debug:
      run_once: true
      delegate_to: localhost
    - ansible.builtin.debug:
      run_once: true
"""

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


def described(hosts: int, inventory: Path) -> dict:
    """Seconds of core time from the messages of the hosts to what falco_rollout reads of them, which an inventory has then."""
    chance, policy = random.Random(1), policies.complete({"failure_domain": "rack"})
    messages = [message(number, chance) for number in range(hosts)]
    fleet = {key: policy[key] for key in policies.FLEET}
    before, found = time.process_time(), {}
    for number, item in enumerate(messages):
        facts = assembly.assemble(item)
        made = plan(facts, policy)
        rack = "rack-%02d" % (number % 40)
        found["host-%05d" % number] = {"rack": rack, "__falco_tune_gathered": {
            "rollout": rollout_hosts.describe(facts, made, policy, made["changes"], rack), "fleet_policy": fleet}}
    took = time.process_time() - before
    inventory.write_text("#!/bin/sh\ncat <<'END'\n%s\nEND\n" % json.dumps({"all": {"hosts": list(found)}, "_meta": {"hostvars": found}}))
    inventory.chmod(0o755)
    return {"seconds": took, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def used(words: list[str], env: dict) -> tuple[float, float]:
    """(core time in seconds, peak memory in MiB) of a program and of all that it starts. It must succeed."""
    process = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = process.stdout.read()
    _pid, status, resources = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(said[-4000:])
    return resources.ru_utime + resources.ru_stime, resources.ru_maxrss / 1024


def across(folder: Path, hosts: int, matrix: Path, pairs: int) -> Iterator[str]:
    """A table of what planning a rollout takes with each ansible-core that `make matrix` has an environment of."""
    places = {place.name.split("-")[0]: place for place in sorted(matrix.glob("2.*-3.*")) if (place / "bin/ansible-playbook").exists()}
    if not places:
        raise SystemExit(f"there is no environment in {matrix}: run make matrix")
    inventory, playbook, nothing = folder / "inventory", folder / "plan.yml", folder / "nothing.yml"
    playbook.write_text(PLAN)
    nothing.write_text(NOTHING)
    thousands = hosts / 1000
    yield f"core time of planning a rollout of {hosts} hosts, seconds for 1000 of them; peak memory of the whole (goal: below 5 s)"
    yield "  ansible-core  Python  facts, plans  batches  together   peak  ansible itself, peak"
    for core, place in places.items():
        env = {**os.environ, "PATH": f"{place / 'bin'}:{os.environ['PATH']}", "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
               "ANSIBLE_HOME": str(folder / "home"), "ANSIBLE_LOCALHOST_WARNING": "False", "ANSIBLE_DEPRECATION_WARNINGS": "False"}
        made = json.loads(subprocess.run([str(place / "bin/python"), __file__, str(hosts), str(inventory)], env=env, check=True,
                                         stdout=subprocess.PIPE).stdout)
        run = [str(place / "bin/ansible-playbook"), "-i", str(inventory)]
        found = [(*used([*run, str(playbook)], env), *used([*run, str(nothing)], env)) for _pair in range(pairs)]
        whole, peak, base, base_peak = (sorted(column)[pairs // 2] for column in zip(*found, strict=True))
        first, second = made["seconds"] / thousands, (whole - base) / thousands
        yield (f"  {core:12}  {place.name.split('-')[1]:6}  {first:10.2f} s  {second:5.2f} s  {first + second:6.2f} s  "
               f"{max(peak, made['peak']):.0f} MiB  {base / thousands:.2f} s, {base_peak:.0f} MiB")


if __name__ == "__main__":
    print(json.dumps(described(int(sys.argv[1]), Path(sys.argv[2]))))
