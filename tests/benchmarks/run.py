# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tuning costs, as ratios and counts: `make bench`, or `run.py plans converged` for some of it.

plans       facts and plans of 10 000 synthetic hosts, hosts a second and peak memory
trips       trips to a host, counted from the callback's events: converged and changed
converged   wall time of a converged tune over 50 local hosts / a play with one ping task, medians of pairs
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
COLLECTIONS = ROOT / "build" / "collections"
sys.path[:0] = [str(COLLECTIONS), str(ROOT / "tests" / "fleet")]

import synthetic  # noqa: E402
from hosts import Fleet  # noqa: E402
from playbooks import TUNE, environment, play  # noqa: E402

PING = """\
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.ping:
"""


def timed(playbook: str | Path, inventory: Path, forks: int) -> float:
    """Seconds that a playbook took; it must succeed on every host. Without callback, which would cost time."""
    before = time.monotonic()
    done = subprocess.run([str(Path(sys.executable).with_name("ansible-playbook")), str(playbook), "-i", str(inventory)],
                          env=environment(ANSIBLE_FORKS=str(forks)), cwd=ROOT, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    took = time.monotonic() - before
    if done.returncode:
        raise SystemExit(f"{playbook} ended with {done.returncode}:\n{done.stdout[-4000:]}")
    return took


def calm(hosts: int) -> dict:
    """Hosts that leave the machine to what is measured."""
    return {"defaults": {"startup_seconds": 0.2, "reload_seconds": 0.2, "cpus": 8, "memory": "16G",
                         "load": {"events_per_second": 500}, "hostvars": {"falco_tune_min_healthy_time": 0}},
            "hosts": {f"host-{number:03}": {} for number in range(hosts)}}


def plans(_folder: Path, args: argparse.Namespace) -> None:
    for line in synthetic.measure(args.synthetic):
        print(line, flush=True)


def trips(folder: Path, args: argparse.Namespace) -> None:
    fleet = Fleet(folder / "trips")
    try:
        fleet.start(calm(5))
        for name in ("changed", "converged"):
            run = play(TUNE, fleet.inventory)
            if run.status or bool(run.changed) != (name == "changed"):
                raise SystemExit(run.output)
            counts = {run.trips(host.name) for host in fleet.hosts}
            print(f"trips to a host, {name}: {', '.join(map(str, counts))} (each of {len(fleet.hosts)} hosts)", flush=True)
    finally:
        fleet.stop()


def converged(folder: Path, args: argparse.Namespace) -> None:
    fleet = Fleet(folder / "converged")
    ping = folder / "ping.yml"
    ping.write_text(PING)
    try:
        fleet.start(calm(args.hosts))
        timed(TUNE, fleet.inventory, args.forks)
        pairs = []
        for number in range(args.pairs):
            base = timed(ping, fleet.inventory, args.forks)
            tune = timed(TUNE, fleet.inventory, args.forks)
            pairs.append((base, tune))
            print(f"  pair {number + 1}: ping {base:.2f} s, converged tune {tune:.2f} s, ratio {tune / base:.2f}", flush=True)
        base, tune = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"converged tune over {args.hosts} hosts / one ping task, {args.forks} forks: {tune / base:.2f} "
              f"(medians of {args.pairs} pairs: {tune:.2f} s / {base:.2f} s; goal at most 1.5)", flush=True)
    finally:
        fleet.stop()


def main() -> int:
    parts = {"plans": plans, "trips": trips, "converged": converged}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help="%s (default: all)" % ", ".join(parts))
    parser.add_argument("--hosts", type=int, default=50)
    parser.add_argument("--forks", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--synthetic", type=int, default=10000)
    args = parser.parse_args()
    unknown = set(args.parts) - set(parts)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="falcotune-bench-") as folder:
        for name, part in parts.items():
            if not args.parts or name in args.parts:
                part(Path(folder), args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
