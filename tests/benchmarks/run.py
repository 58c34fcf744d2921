# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tuning costs, as ratios and counts: `make bench`, or `run.py plans converged` for some of it.

plans       facts and plans of 10 000 synthetic hosts, hosts a second and peak memory; --matrix: on every ansible-core, too
reports     results of 10 000 synthetic hosts → all report forms and the history, seconds and peak memory
trips       round trips to a host, counted where modules are sent: converged and changed
converged   wall time of a converged tune over 50 local hosts / a play with one ping task, medians of pairs
audit       wall time of an audit of 100 local hosts with all its reports / a play with one ping task, medians of pairs
log_size    two snapshots from a log of 1 GiB / from one of 1 MiB, medians of pairs, and the bytes read
profile     CPU speed of a program of nothing but system calls while they are counted / without, medians of pairs (root)
blind       seconds without events on one host, the collection's change / a bare write and restart, medians of pairs
rollout     300 local hosts of which 100 need a change and 3 fail: batches, budget, resume, wall time / what batches must wait
monitored   10 000 hosts in a real Prometheus: seconds, peak memory and round trips of an audit's first stage, and of the inventory plugin
page        the HTML report of 10 000 hosts in a headless Chromium: size, time until it can be used, what a click costs
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

import log_size as logs  # noqa: E402
import reports  # noqa: E402
import rollouts  # noqa: E402
import synthetic  # noqa: E402
from hosts import Fleet  # noqa: E402
from playbooks import AUDIT, TUNE, environment, play  # noqa: E402

PING = """\
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.ping:
"""


def timed(playbook: str | Path, inventory: Path, forks: int, *words: str) -> float:
    """Seconds that a playbook took; it must succeed on every host. Without callback, which would cost time."""
    before = time.monotonic()
    done = subprocess.run([str(Path(sys.executable).with_name("ansible-playbook")), str(playbook), "-i", str(inventory), *words],
                          env=environment(ANSIBLE_FORKS=str(forks)), cwd=ROOT, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    took = time.monotonic() - before
    if done.returncode:
        raise SystemExit(f"{playbook} ended with {done.returncode}:\n{done.stdout[-4000:]}")
    return took


def calm(hosts: int) -> dict:
    """Hosts that use little CPU time, so that they do not disturb the measurement."""
    return {"defaults": {"startup_seconds": 0.2, "reload_seconds": 0.2, "measures": "1s", "cpus": 8, "memory": "16G",
                         "load": {"events_per_second": 500}, "hostvars": {"falco_tune_min_healthy_time": 0}},
            "hosts": {f"host-{number:03}": {} for number in range(hosts)}}


def plans(folder: Path, args: argparse.Namespace) -> None:
    for line in synthetic.measure(args.synthetic):
        print(line, flush=True)
    for line in synthetic.across(folder, args.synthetic, args.matrix, args.pairs) if args.matrix else ():
        print(line, flush=True)


def report_forms(_folder: Path, args: argparse.Namespace) -> None:
    for line in reports.measure(args.synthetic):
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
            print(f"round trips to a host, {name}: {', '.join(map(str, counts))} (each of {len(fleet.hosts)} hosts)", flush=True)
    finally:
        fleet.stop()


def against_ping(folder: Path, args: argparse.Namespace, playbook: str, hosts: int, what: str, goal: float) -> None:
    """A playbook over tuned hosts / one ping task, in pairs."""
    fleet = Fleet(folder / what.replace(" ", "-"))
    ping = folder / "ping.yml"
    ping.write_text(PING)
    reports = ("-e", f"falco_audit_report_dir={folder / 'reports'}")
    try:
        spec = calm(hosts)
        # As many snapshots as the policy's own 30 s make in its window of an hour, about 120, and not a thousand.
        spec["defaults"]["measures"] = "5s"
        fleet.start(spec)
        timed(TUNE, fleet.inventory, hosts)
        pairs = []
        for number in range(args.pairs):
            base = timed(ping, fleet.inventory, args.forks)
            took = timed(playbook, fleet.inventory, args.forks, *reports)
            pairs.append((base, took))
            print(f"  pair {number + 1}: ping {base:.2f} s, {what} {took:.2f} s, ratio {took / base:.2f}", flush=True)
        base, took = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{what} over {hosts} hosts / one ping task, {args.forks} forks: {took / base:.2f} "
              f"(medians of {args.pairs} pairs: {took:.2f} s / {base:.2f} s; goal at most {goal:g})", flush=True)
    finally:
        fleet.stop()


def converged(folder: Path, args: argparse.Namespace) -> None:
    against_ping(folder, args, TUNE, args.hosts, "converged tune", 1.5)


def audit(folder: Path, args: argparse.Namespace) -> None:
    against_ping(folder, args, AUDIT, 2 * args.hosts, "audit", 1.25)


def log_size(folder: Path, args: argparse.Namespace) -> None:
    for line in logs.measure(folder, args.reads):
        print(line, flush=True)


def profile(_folder: Path, args: argparse.Namespace) -> None:
    import profile_cost

    for line in profile_cost.measure(args.pairs):
        print(line, flush=True)


def blind(folder: Path, args: argparse.Namespace) -> None:
    for line in rollouts.blind(folder, args.pairs):
        print(line, flush=True)


def rollout(folder: Path, args: argparse.Namespace) -> None:
    for line in rollouts.fleet_of_300(folder, args.fleet, max(3, args.fleet // 3), 3, max(args.forks, 30)):
        print(line, flush=True)


def monitored(folder: Path, args: argparse.Namespace) -> None:
    import monitored as prometheus_hosts

    for line in prometheus_hosts.measure(folder / "monitored", args.synthetic, args.pairs):
        print(line, flush=True)


def page(folder: Path, args: argparse.Namespace) -> None:
    import page as pages

    for line in pages.measure(folder, args.synthetic):
        print(line, flush=True)


def main() -> int:
    parts = {"plans": plans, "reports": report_forms, "trips": trips, "converged": converged, "audit": audit, "log_size": log_size,
             "profile": profile, "blind": blind, "rollout": rollout,
             "monitored": monitored, "page": page}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help="%s (default: all)" % ", ".join(parts))
    parser.add_argument("--hosts", type=int, default=50)
    parser.add_argument("--fleet", type=int, default=300)
    parser.add_argument("--forks", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--reads", type=int, default=200)
    parser.add_argument("--synthetic", type=int, default=10000)
    parser.add_argument("--matrix", type=Path, metavar="FOLDER",
                        help="plans: also a rollout's plan on each ansible-core of this folder, which make matrix fills: build/matrix")
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
