# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Prometheus with a fleet's history, which promtool made: what the first stage of an audit takes, and the inventory plugin.

    monitored.py URL HOSTS      the first stage alone, in this process: one line of JSON
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "build" / "collections"), str(ROOT / "tests" / "fleet")]

from playbooks import environment  # noqa: E402
from prometheus import Prometheus  # noqa: E402

GOAL = "goal: 5 s and 500 MB for 10 000 hosts, 30 s for 50 000; 1/100 of the round trips"
# Samples of each series, a minute apart: half an hour, and as long after now as everything here may take.
SAMPLES, LATER, INTERVAL = 30, 30, 60
# Every 50th host loses 10 %.
DROPPING = 50
QUIET = 'instance!~"host-[0-9]*(00|50)[.].*"'
# promtool holds all samples of a file in memory.
AT_ONCE = 10000


def name_of(host: int) -> str:
    return f"host-{host:05}.example.com"


def exposition(hosts: range, now: int) -> Iterator[str]:
    """OpenMetrics with times, family by family."""
    times = [now - INTERVAL * (SAMPLES - 1 - number) for number in range(SAMPLES + LATER)]
    for family, kind, label in (("falcosecurity_scap_n_evts", "counter", ""), ("falcosecurity_scap_n_drops", "counter", ""),
                                ("falcosecurity_falco_version_info", "gauge", ',version="0.44.1"'),
                                ("falcosecurity_scap_engine_name_info", "gauge", ',engine_name="modern_bpf",evt_source="syscall"'),
                                ("up", "gauge", "")):
        yield f"# TYPE {family} {kind}\n"
        for host in hosts:
            name = f'{family}{"_total" if kind == "counter" else ""}{{instance="{name_of(host)}:8765",job="falco"{label}}}'
            step = {"falcosecurity_scap_n_evts": 60000, "falcosecurity_scap_n_drops": 0 if host % DROPPING else 6000}.get(family)
            yield "".join(f"{name} {1 if step is None else step * number} {at}\n" for number, at in enumerate(times))
    yield "# EOF\n"


def measure(folder: Path, hosts: int, pairs: int) -> Iterator[str]:
    """Lines of results; raises where hosts are in the wrong groups or a wrong host is visited."""
    server = Prometheus(folder / "server", {})
    data = folder / "server" / "data"
    data.mkdir(parents=True)
    text, now = folder / "exposition", int(time.time())
    for first in range(0, hosts, AT_ONCE):
        with text.open("w") as lines:
            lines.writelines(exposition(range(first, min(hosts, first + AT_ONCE)), now))
        subprocess.run(["promtool", "tsdb", "create-blocks-from", "openmetrics", "-q", str(text), str(data)], check=True)
    text.unlink()
    server.start()
    try:
        deadline = time.monotonic() + 120
        while not server.ask("up") and time.monotonic() < deadline:
            time.sleep(0.2)
        yield from first_stage(server.url, hosts, pairs)
        yield from inventory(folder, server.url, hosts, pairs)
        peak = Path(f"/proc/{server.process.pid}/status").read_text().split("VmHWM:")[1].split()[0]
        yield f"  Prometheus itself: at most {int(peak) / 1024:.0f} MiB"
    finally:
        server.stop()


def first_stage(url: str, hosts: int, pairs: int) -> Iterator[str]:
    """falco_prometheus_info alone, each time in a process of its own."""
    found = [json.loads(subprocess.run([sys.executable, __file__, url, str(hosts)], check=True, stdout=subprocess.PIPE).stdout)
             for _pair in range(pairs)]
    took, peak, before = (statistics.median(item[key] for item in found) for key in ("seconds", "peak", "before"))
    one = found[0]
    yield (f"stage 1 of an audit of {hosts} hosts: {took:.1f} s, peak {peak:.0f} MiB, of which {before:.0f} MiB are Python and Ansible's "
           f"imports (medians of {pairs} runs; {GOAL})")
    yield (f"  round trips: {one['visited']} of {hosts}, of which {one['sample']} are the sample; of a quiet fleet of {one['quiet']} hosts "
           f"{one['visited_quiet']}, 1/{one['quiet'] / one['visited_quiet']:.0f}")


def inventory(folder: Path, url: str, hosts: int, pairs: int) -> Iterator[str]:
    """ansible-inventory with the plugin / without it."""
    source, empty = folder / "falco.prometheus.yml", folder / "hosts.yml"
    source.write_text(json.dumps({"plugin": "falcotune.fleet.prometheus", "url": url, "stale_seconds": 3600}))
    empty.write_text("all: {hosts: {%s}}" % ", ".join(f"{name_of(host)}: {{}}" for host in range(hosts)))
    found = []
    for _pair in range(pairs):
        base = listed(folder / "out", empty)
        asked = listed(folder / "out", empty, source)
        groups = json.loads((folder / "out").read_text())
        if len(groups["falco_dropping"]["hosts"]) != -(-hosts // DROPPING) or "hosts" in groups.get("falco_unknown", {}):
            raise SystemExit("hosts are in the wrong groups")
        found.append((asked[0] - base[0], base[0], asked[1], base[1]))
    more, base, peak, base_peak = (statistics.median(column) for column in zip(*found, strict=True))
    yield (f"groups of {hosts} hosts: {more:.1f} s beside the {base:.1f} s of ansible-inventory alone, peak {peak:.0f} MiB, alone "
           f"{base_peak:.0f} MiB (medians of {pairs} pairs)")


def listed(out: Path, *sources: Path) -> tuple[float, float]:
    """Seconds and peak memory in MiB of ansible-inventory, and of no other process."""
    words = [word for path in sources for word in ("-i", str(path))]
    before = time.monotonic()
    with out.open("w") as stream:
        process = subprocess.Popen([str(Path(sys.executable).with_name("ansible-inventory")), *words, "--list"], cwd=ROOT,
                                   env=environment(), stdout=stream)
    _pid, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"ansible-inventory ended with {process.returncode}")
    return time.monotonic() - before, used.ru_maxrss / 1024


class Hosts(dict):
    """As Ansible's hostvars: raw_get() is what is not templated."""

    raw_get = dict.__getitem__


def stage_1(url: str, hosts: int) -> dict:
    """What a run of falco_prometheus_info takes in this process."""
    from ansible_collections.falcotune.fleet.plugins.action import falco_prometheus_info

    def run(numbers: list[int], **options) -> dict:
        names = Hosts({name_of(number): {} for number in numbers})
        args = {"url": url, "options": {"stale_seconds": 3600, **options}}
        task = SimpleNamespace(args=args, check_mode=False, async_val=0, diff=False, _ds={}, delegate_to=None, environment=None)
        action = falco_prometheus_info.ActionModule(task, MagicMock(), MagicMock(check_mode=False), MagicMock(), MagicMock(), MagicMock())
        found = action.run(None, {"hostvars": names, "ansible_play_hosts_all": list(names)})
        if found.get("failed") or found["ansible_facts"]["falco_prometheus"]["problem"]:
            raise SystemExit(str(found)[:2000])
        return found["ansible_facts"]["falco_prometheus"]

    before, began = peak_memory(), time.monotonic()
    found = run(list(range(hosts)))
    took, peak = time.monotonic() - began, peak_memory()
    if not {name_of(host) for host in range(0, hosts, DROPPING)} <= set(found["hosts"]):
        raise SystemExit("a host that loses events is not visited")
    rest = [host for host in range(hosts) if host % DROPPING]
    quiet = run(rest, selector=QUIET)
    return {"seconds": took, "peak": peak, "before": before, "visited": len(found["hosts"]), "sample": len(found["sample"]),
            "quiet": len(rest), "visited_quiet": len(quiet["hosts"])}


def peak_memory() -> float:
    """MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    print(json.dumps(stage_1(sys.argv[1], int(sys.argv[2]))))
