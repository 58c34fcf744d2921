# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin prometheus against a real Prometheus with a fleet's history, which promtool made."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from playbooks import ROOT, environment
from prometheus import Prometheus

GOAL = "goal: 5 s and 500 MB for 10 000, 30 s for 50 000"
# Samples of each series, a minute apart: half an hour, and as long after now as everything here may take.
SAMPLES, LATER, INTERVAL = 30, 30, 60
# Every 50th host loses 10 %.
DROPPING = 50


def exposition(hosts: int, now: int) -> Iterator[str]:
    """OpenMetrics with times, family by family."""
    times = [now - INTERVAL * (SAMPLES - 1 - number) for number in range(SAMPLES + LATER)]
    for family, kind, label in (("falcosecurity_scap_n_evts", "counter", ""), ("falcosecurity_scap_n_drops", "counter", ""),
                                ("falcosecurity_falco_version_info", "gauge", ',version="0.44.1"'),
                                ("falcosecurity_scap_engine_name_info", "gauge", ',engine_name="modern_bpf",evt_source="syscall"'),
                                ("up", "gauge", "")):
        yield f"# TYPE {family} {kind}\n"
        for host in range(hosts):
            name = f'{family}{"_total" if kind == "counter" else ""}{{instance="host-{host:05}.example.com:8765",job="falco"{label}}}'
            step = {"falcosecurity_scap_n_evts": 60000, "falcosecurity_scap_n_drops": 0 if host % DROPPING else 6000}.get(family)
            yield "".join(f"{name} {1 if step is None else step * number} {at}\n" for number, at in enumerate(times))
    yield "# EOF\n"


def measure(folder: Path, hosts: int, pairs: int) -> list[str]:
    """Lines of results; raises where hosts are in the wrong groups."""
    server = Prometheus(folder / "server", {})
    data = folder / "server" / "data"
    data.mkdir(parents=True)
    text = folder / "exposition"
    with text.open("w") as lines:
        lines.writelines(exposition(hosts, int(time.time())))
    subprocess.run(["promtool", "tsdb", "create-blocks-from", "openmetrics", "-q", str(text), str(data)], check=True)
    text.unlink()
    server.start()
    source, empty = folder / "falco.prometheus.yml", folder / "hosts.yml"
    source.write_text(json.dumps({"plugin": "falcotune.fleet.prometheus", "url": server.url, "stale_seconds": 3600}))
    empty.write_text("all: {hosts: {%s}}" % ", ".join(f"host-{host:05}.example.com: {{}}" for host in range(hosts)))
    try:
        deadline = time.monotonic() + 120
        while not server.ask("up") and time.monotonic() < deadline:
            time.sleep(0.2)
        found = []
        for _pair in range(pairs):
            base, _out = listed(empty)
            took, out = listed(empty, source)
            groups = json.loads(out)
            if len(groups["falco_dropping"]["hosts"]) != -(-hosts // DROPPING) or "hosts" in groups.get("falco_unknown", {}):
                raise SystemExit("hosts are in the wrong groups")
            found.append((took - base, base))
        asked, base = (sorted(column)[len(found) // 2] for column in zip(*found, strict=True))
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        return [f"groups of {hosts} hosts from a Prometheus: {asked:.1f} s beside the {base:.1f} s of ansible-inventory alone (median of "
                f"{pairs} pairs), largest process {peak:.0f} MiB ({GOAL})"]
    finally:
        server.stop()


def listed(*sources: Path) -> tuple[float, str]:
    words = [word for path in sources for word in ("-i", str(path))]
    before = time.monotonic()
    done = subprocess.run([str(Path(sys.executable).with_name("ansible-inventory")), *words, "--list"], cwd=ROOT, check=True,
                          env=environment(), stdout=subprocess.PIPE, text=True)
    return time.monotonic() - before, done.stdout
