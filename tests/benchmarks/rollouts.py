# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rollout costs: seconds without events on one host, and wall time over 300. Parts of run.py."""

from __future__ import annotations

import json
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from hosts import Fleet
from playbooks import TUNE, play

REFUSES = {"refuse": "no device", "when": {"metrics.resource_utilization_enabled": True}}

# A Falco for a host that needs no change: it reports its version and does nothing else.
LIGHT = """\
#!/bin/sh
case " $* " in *" --version "*) echo 'Falco version: 0.44.1'; exit ;; esac
trap 'exit 0' TERM
while :; do sleep 3600 & wait $!; done
"""
MEASURING = {"enabled": True, "interval": "1s", "output_file": "{root}/var/log/falco/others.jsonl", "output_rule": False,
             "resource_utilization_enabled": True, "kernel_event_counters_enabled": True, "libbpf_stats_enabled": True}


# -- seconds without events


def snapshots(host) -> list[tuple[float, int]]:
    """(Unix time, scap.n_evts) of each snapshot of the host."""
    found = []
    for line in (host.root / "var/log/falco/metrics.jsonl").read_text().splitlines():
        fields = json.loads(line)["output_fields"]
        found.append((fields["evt.time"] / 1e9, fields["scap.n_evts"]))
    return found


INTERVAL = 0.2  # seconds between two snapshots


def gap(host, since: float, rate: float) -> float:
    """Seconds between the last event of the Falco that ran before and the first one of the next, from its counters.

    Up to an interval too many: what Falco sees between its last snapshot and its end is in no counter.
    """
    before = [(at, events) for at, events in snapshots(host) if at <= since and events][-1]
    later = [(at, events) for at, events in snapshots(host) if at > since]
    last = before
    for at, events in later:
        if events < last[1]:
            first = next((at, events) for at, events in later if at > last[0] and 0 < events)
            return first[0] - first[1] / rate - last[0]
        last = (at, events)
    raise SystemExit(f"{host.name}: no restart is seen in {later[-5:]}")


def starts(host) -> int:
    """By what Falco sends to syslog: after a change, the journal has its standard error ("falco[0]") too."""
    lines = (host.root / "var/log/syslog").read_text().splitlines()
    return sum("Opening 'syscall' source" in line and " falco[0]: " not in line for line in lines)


def settled(host) -> None:
    """Wait for several snapshots of a Falco that counts, and for a time without changes."""
    time.sleep(5)
    if snapshots(host)[-1][1] == 0:
        raise SystemExit(f"{host.name} does not count")


def blind(folder: Path, pairs: int) -> Iterator[str]:
    """The collection's change of one host / writing the same fragment and restarting, in pairs."""
    rate = 2000
    fleet = Fleet(folder / "blind")
    found = []
    try:
        # Start and stop as recorded (restart-gap: 2.3 to 2.6 s from SIGTERM to the first event).
        fleet.start({"hosts": {"host": {"startup_seconds": 1.8, "load": {"events_per_second": rate}, "measures": f"{INTERVAL * 1000:g}ms",
                                        "hostvars": {"falco_tune_min_healthy_time": 1, "falco_tune_healthy_deadline": 30}}}})
        host = fleet.hosts[0]
        play(TUNE, fleet.inventory)
        fragment = host.root / "etc/falco/config.d/zz-falcotune.yaml"
        # The simulator's load is what a default configuration selects; measure it instead of assuming it.
        settled(host)
        (first, one), (last, other) = snapshots(host)[-10], snapshots(host)[-1]
        rate = (other - one) / (last - first)
        for turn in range(pairs):
            ours_preset, bare_preset = (5, 6) if turn % 2 else (6, 5)
            took = {}
            settled(host)
            opened, since = starts(host), time.time()
            text = fragment.read_text()
            fragment.write_text("".join(f"    buf_size_preset: {bare_preset}\n" if "buf_size_preset" in line else line + "\n"
                                        for line in text.splitlines()))
            host.systemctl("restart", host.unit)
            settled(host)
            took["bare"], count = gap(host, since, rate), {"bare": starts(host) - opened}
            opened, since = starts(host), time.time()
            run = play(TUNE, fleet.inventory, "-e", f"falco_tune_buf_size_preset={ours_preset}")
            if run.changed != {"host"} or run.status:
                raise SystemExit(run.output)
            settled(host)
            took["ours"], count["ours"] = gap(host, since, rate), starts(host) - opened
            said = run.result("host", "falco_config")["evidence"]["blind_seconds_at_most"]
            if said < took["ours"] - INTERVAL:
                raise SystemExit(f"no event was seen for {took['ours'] - INTERVAL:.2f} s and more, and the evidence says at most {said} s")
            found.append((took["bare"], took["ours"], count["ours"]))
            yield (f"  pair {turn + 1}: bare {took['bare']:.2f} s (starts: {count['bare']}), collection {took['ours']:.2f} s "
                   f"(starts: {count['ours']}; it says at most {said} s), ratio {took['ours'] / took['bare']:.2f}")
        bare, ours = statistics.median(item[0] for item in found), statistics.median(item[1] for item in found)
        yield (f"seconds without events, collection / bare write and restart: {ours / bare:.2f} (medians of {pairs} pairs: "
               f"{ours:.2f} s / {bare:.2f} s; goal at most 1.1); most interruptions for one change: {max(item[2] for item in found)}")
    finally:
        fleet.stop()


# -- a fleet


def describe(folder: Path, hosts: int, changing: int, failing: int) -> dict:
    """A third needs a change and a few of those fail; the others are light and converged."""
    light = folder / "light"
    light.write_text(LIGHT)
    light.chmod(0o755)
    every = max(1, hosts // changing)
    names = {}
    for number in range(hosts):
        name, rack = f"host-{number:03}", {"rack": f"rack-{number % 10}"}
        if number % every or number // every >= changing:
            names[name] = {"binary": str(light), "config": {"metrics": MEASURING}, "hostvars": rack}
        else:
            names[name] = {"hostvars": rack}
    several = [name for name in names if "binary" not in names[name]]
    for name in [several[len(several) // 4], several[len(several) // 2], several[len(several) // 2 + 1]][:failing]:
        names[name]["fault"] = REFUSES
    return {"defaults": {"startup_seconds": 1.6, "cpus": 4, "memory": "8G", "measures": "1s",
                         "load": {"events_per_second": 200}}, "hosts": names}


def fleet_of_300(folder: Path, hosts: int, changing: int, failing: int, forks: int) -> Iterator[str]:
    """Roll out until the budget stops it, repair what failed, and resume."""
    fleet = Fleet(folder / "fleet")
    policy = {"falco_tune_serial": ["10%", "30%"], "falco_tune_failure_budget": failing - 1, "falco_tune_failure_domain": "rack",
              "falco_tune_domain_share_percent": 34, "falco_tune_min_healthy_time": 20, "falco_tune_healthy_deadline": 60}
    try:
        before = time.monotonic()
        fleet.start(describe(folder, hosts, changing, failing))
        yield (f"  {hosts} hosts started in {time.monotonic() - before:.0f} s")
        words = ("-e", json.dumps(policy))
        for turn in ("first", "second", "third"):
            run = play(TUNE, fleet.inventory, *words, ANSIBLE_FORKS=str(forks))
            yield from told(turn, run, policy)
            for host in fleet.hosts:
                if host.spec["fault"]:
                    path = host.root / "etc/falco-sim.json"
                    path.write_text(json.dumps({**json.loads(path.read_text()), "fault": None}))
        final = Counter()
        for host in fleet.hosts:
            record = host.root / "var/lib/falcotune/record.json"
            proven = record.exists() and json.loads(record.read_text())["process"]["pid"] == int(
                host.systemctl("show", "-P", "MainPID", host.unit).stdout)
            final["proven by its record" if proven else "light, untouched" if host.spec["binary"] else "other"] += 1
        yield f"  final states: {dict(final)}"
    finally:
        fleet.stop()


def told(turn: str, run, policy: dict) -> Iterator[str]:
    """What one run did, and its wall time against what its batches had to wait."""
    record = run.record()
    kinds = Counter(host["outcome"] for batch in record["batches"] for host in batch["hosts"])
    # Each batch must wait for its slowest host: from the start of its change to its second look.
    waits = sum(max(host["ended"] for host in batch["hosts"]) - min(host["began"] for host in batch["hosts"])
                for batch in record["batches"] if batch["hosts"])
    least = sum(policy["falco_tune_min_healthy_time"] + max((host["blind_seconds"] or 0) for host in batch["hosts"])
                for batch in record["batches"])
    sizes = [len(batch["hosts"]) for batch in record["batches"]]
    took = (record["ended"] - record["batches"][0]["began"]) if record["batches"] else 0
    reason = f" ({record['reason']})" if record["reason"] else ""
    rack, most = record["domains"][0], max(item["most_blind"] for item in record["domains"])
    yield (f"  {turn} run: {record['state']}{reason}; batches of {sizes}; {dict(kinds)}; {len(record['left'])} left; "
           f"{record['planned']['converged']} as planned already; most blind of a rack's {rack['hosts']}: {most} of {rack['allowed']} "
           f"allowed; exit {run.status}")
    if waits:
        yield (f"    wall {run.seconds:.0f} s, of it {took:.0f} s for the batches; they waited {waits:.0f} s for their hosts "
               f"(ratio {took / waits:.2f}), at least {least:.0f} s (blind and min_healthy_time: ratio {took / least:.2f})")
    else:
        yield f"    wall {run.seconds:.0f} s, nothing to change"
