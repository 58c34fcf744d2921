#!/usr/bin/env python
# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a check of a condition costs on a real Falco (root; modern eBPF), and whether the auditor predicts it.

    calibrate.py cost FALCO RESULT.json          nanoseconds an event by operator and field
    calibrate.py compare ONE.json TWO.json       whether two calibrations agree: rank correlation, ratios
    calibrate.py predict FALCO RESULT.json [RULES.yaml ...]
                                                 CPU time an event of twelve rule sets and more, predicted and measured

Each run starts a private Falco, without outputs, that collects openat and what keeps its table of processes. A load program of
this file opens and closes one file of its own directory, at a bounded rate for a bounded time, and counts what it opened. Falco's
CPU time is that of its threads (/proc/PID/task/*/schedstat). Other programs of the machine make events, too: what Falco takes for
those is measured before and after the load, and taken off for the time of the load. What Falco has read and dropped is asked
on the loopback, so its metrics need no timer. --plugin (before the other words) names libcontainer.so, so that container.id can be
measured. No other Falco should run, and the quieter the machine, the better the numbers. Needs Falco 0.38 or newer.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = ROOT / "build" / "collections"
SECONDS = 1.5
SETTLED = 0.5
MOST_PER_SECOND = 40000
COPIES = 20
MANY = 6
CUSTOM_SET = ["openat", "clone", "clone3", "fork", "vfork", "execve", "execveat"]
CALLS = {"base_syscalls": {"custom_set": CUSTOM_SET, "repair": False}}
# A check that is never true for the load, by operator: {n} makes it differ. bcontains and bstartswith take bytes only, which an
# open does not have.
OPERATORS = {
    "=": "fd.name = /zq{n}",
    "!=": "not fd.name != /zq{n}",
    "exists": "not fd.name exists",
    "in": "fd.name in (" + ", ".join("/zq%d{n}" % one for one in range(10)) + ")",
    "startswith": "fd.name startswith /zq{n}",
    "endswith": "fd.name endswith zq{n}",
    "contains": "fd.name contains zq{n}",
    "icontains": "fd.name icontains zq{n}",
    "glob": "fd.name glob '*/zq{n}*'",
    "iglob": "fd.name iglob '*/zq{n}*'",
    "regex": "fd.name regex '.*/zq[0-9]{n}.*'",
    "pmatch": "fd.name pmatch (/zq{n}, /zr{n})",
    "intersects": "fd.name intersects (/zq{n}, /zr{n})",
    ">": "fd.num > 1{n}000000",
}
# One comparison of this kind fills no second one: it has no value.
ONCE = {"exists"}
# Programs of the machine open files for writing: what could be true for them is joined with what never is, or each would be an alert.
FIELDS = {
    "evt.num": "evt.num = 1{n}", "evt.rawres": "evt.rawres = -9{n}", "evt.is_open_write": "evt.is_open_write = true and evt.num = 0",
    "evt.arg.flags": "evt.arg.flags = zq{n}", "evt.args": "evt.args = zq{n}",
    "fd.num": "fd.num = 9{n}9999", "fd.typechar": "fd.typechar = '4'", "fd.name": "fd.name = /zq{n}",
    "fd.directory": "fd.directory = /zq{n}", "fd.filename": "fd.filename = zq{n}", "fs.path.name": "fs.path.name = /zq{n}",
    "proc.name": "proc.name = zq{n}", "proc.exepath": "proc.exepath = /zq{n}", "proc.pname": "proc.pname = zq{n}",
    "proc.aname": "proc.aname = zq{n}", "proc.aname[3]": "proc.aname[3] = zq{n}", "proc.cmdline": "proc.cmdline = zq{n}",
    "proc.pcmdline": "proc.pcmdline = zq{n}", "proc.args": "proc.args = zq{n}", "proc.tty": "proc.tty = 9{n}999",
    "proc.cwd": "proc.cwd = /zq{n}", "proc.env": "proc.env = zq{n}", "user.name": "user.name = zq{n}",
    "user.uid": "user.uid = 7{n}777", "group.gid": "group.gid = 7{n}777", "thread.cap_permitted": "thread.cap_permitted = zq{n}",
    "container.id": "container.id = zq{n}",
}
LOAD = """\
import os, sys, time
path, rate, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
began, made = time.monotonic(), 0
while True:
    passed = time.monotonic() - began
    if passed >= seconds:
        break
    for _ in range(min(int(passed * rate) - made, 4000)):
        os.close(os.open(path, os.O_RDONLY))
        made += 1
    time.sleep(0.002)
print(made)
"""


class Falco:
    """One private Falco with some rules, in a directory of its own, and the load beside it."""

    def __init__(self, binary: str, folder: Path, rules: list[dict] | list[str], plugin: str | None) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        files = [item for item in rules if isinstance(item, str)]
        if not files:
            (folder / "rules.yaml").write_text(json.dumps(rules))
            files = [str(folder / "rules.yaml")]
        config = {
            "rules_files": files, "engine": {"kind": "modern_ebpf", "modern_ebpf": {"buf_size_preset": 6, "cpus_for_each_buffer": 0}},
            # An output that nothing is written to: no rule here matches, and Falco needs one.
            "file_output": {"enabled": True, "filename": str(folder / "alerts")},
            "stdout_output": {"enabled": False}, "syslog_output": {"enabled": False},
            "webserver": {"enabled": True, "listen_address": "127.0.0.1", "listen_port": self.port, "prometheus_metrics_enabled": True},
            "log_stderr": True, "log_syslog": False, "watch_config_files": False, "priority": "debug", **CALLS,
            # The signal of a short timer interrupts the kernel's check of a program and can keep a busy machine's Falco from starting.
            "metrics": {"enabled": True, "interval": "1h", "output_rule": False, "kernel_event_counters_enabled": True},
        }
        if plugin:
            config.update(load_plugins=["container"], plugins=[{"name": "container", "library_path": plugin}])
        (folder / "falco.yaml").write_text(json.dumps(config))
        self.log = (folder / "log").open("wb")
        self.process = subprocess.Popen([binary, "-c", str(folder / "falco.yaml")], stdout=self.log, stderr=subprocess.STDOUT)

    def snapshot(self) -> dict:
        """What the kernel's side has seen and dropped until now, and Falco's CPU time; waits for a Falco that starts."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise SystemExit("Falco ended: " + (self.folder / "log").read_text()[-1500:])
            try:
                with urllib.request.urlopen("http://127.0.0.1:%d/metrics" % self.port, timeout=10) as answer:
                    lines = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line[:1] not in ("", "#"))
            except OSError:
                lines = {}  # not yet
            if float(lines.get("falcosecurity_scap_n_evts_total", 0)) > 0:
                return {"events": int(float(lines["falcosecurity_scap_n_evts_total"])), "cpu": self.cpu(), "at": time.monotonic(),
                        "drops": int(float(lines["falcosecurity_scap_n_drops_total"]))}
            time.sleep(0.1)
        raise SystemExit("Falco served no metrics: " + (self.folder / "log").read_text()[-1500:])

    def cpu(self) -> int:
        """Nanoseconds that all threads have spent on a CPU."""
        tasks = Path("/proc/%d/task" % self.process.pid)
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir())

    def idle(self, before: dict | None = None) -> tuple[dict, dict]:
        """Snapshots before and after some time without the load."""
        before = before or self.snapshot()
        time.sleep(SECONDS / 2)
        return before, self.snapshot()

    def settled(self) -> dict:
        """A snapshot after the ring is empty: the load is bounded to what Falco reads at once."""
        time.sleep(SETTLED)
        return self.snapshot()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


def measure(arguments: argparse.Namespace, rules: list, expected_ns: float) -> dict:
    """{'ns': CPU time an event of the load, 'events': of the load, 'others', 'drops'} of Falco with these rules.

    expected_ns: bounds the rate, to 60 % of a CPU.
    """
    rate = int(min(MOST_PER_SECOND, 0.6e9 / (expected_ns + 3000)))
    with tempfile.TemporaryDirectory(prefix="calibrate-") as name:
        folder = Path(name)
        target = folder / "a-file-that-is-opened" / "some-name.conf"
        target.parent.mkdir()
        target.write_text("x")
        (folder / "load").write_text(LOAD)
        falco = Falco(arguments.falco, folder, rules, arguments.plugin)
        try:
            falco.snapshot()
            falco.settled()
            first = falco.idle()
            done = subprocess.run([sys.executable, str(folder / "load"), str(target), str(rate), str(SECONDS)],
                                  check=True, stdout=subprocess.PIPE)
            last = falco.idle(falco.settled())
        finally:
            falco.stop()
    made = int(done.stdout)
    passed = {name: last[0][name] - first[1][name] for name in first[1]}
    quiet = {name: sum(after[name] - before[name] for before, after in (first, last)) for name in passed}
    taken_off = quiet["cpu"] * passed["at"] / quiet["at"]
    others = passed["events"] - made
    return {"ns": (passed["cpu"] - taken_off) / made, "events": made, "others": others, "drops": passed["drops"]}


def rules_of(check: str, comparisons: int, copies: int = COPIES) -> list[dict]:
    return [
        rule("r%d" % copy, "evt.type in (open, openat) and (%s)" % " or ".join(
            check.replace("{n}", str(10 + copy * MANY + one)) for one in range(comparisons)))
        for copy in range(copies)
    ]


def rule(name: str, condition: str) -> dict:
    return {"rule": name, "desc": "d", "condition": condition, "output": "o", "priority": "INFO"}


NOTHING = [rule("nothing", "evt.type = openat and evt.num = 0")]


def cost(arguments: argparse.Namespace) -> None:
    costs = collection()[0]
    runs: dict[str, dict] = {}

    def run(name: str, rules: list, expected: float) -> None:
        runs[name] = done = measure(arguments, rules, expected)
        print("%-28s %9.0f ns an event, %d events and %d of others, %d drops" % (
            name, done["ns"], done["events"], done["others"], done["drops"]), flush=True)

    def reference(when: str) -> None:
        """Every number is a difference from these two, so they are measured three times."""
        run("nothing" + when, NOTHING, 0)
        run("evt.num" + when, rules_of(FIELDS["evt.num"], 1), COPIES * 200)

    reference("")
    for operator, check in OPERATORS.items():
        for comparisons in (1,) if operator in ONCE else (1, MANY):
            run("%s x%d" % (operator, comparisons), rules_of(check, comparisons), COPIES * (200 + comparisons * costs.OPERATORS[operator]))
    reference(" again")
    for field, check in FIELDS.items():
        if field != "evt.num" and (arguments.plugin or not field.startswith("container.")):
            run(field, rules_of(check, 1), COPIES * 500)
    reference(" at last")
    found = {**fitted({name: done["ns"] for name, done in runs.items()}), "runs": runs}
    Path(arguments.result).write_text(json.dumps(found, indent=1))
    for kind in ("operators", "fields"):
        for key, value in sorted(found[kind].items(), key=lambda item: item[1]):
            print("%-10s %-22s %8.0f ns" % (kind, key, value))
    print("an event %.0f ns, a rule %.0f ns" % (found["event_ns"], found["rule_ns"]))


def fitted(runs: dict[str, float]) -> dict:
    """Nanoseconds of an event, a rule, operators and fields, from the nanoseconds an event of all runs.

    A run's rules cost (a rule + a field + N comparisons) each. All operators but > have fd.name, so what a rule and that field
    take together is the median of what their pairs of runs say.
    """
    base, known = (statistics.median(value for name, value in runs.items() if name.partition(" ")[0] == reference)
                   for reference in ("nothing", "evt.num"))

    def each(name: str) -> float:
        return (runs[name] - base) / COPIES

    def slope(operator: str) -> float:
        return (each("%s x%d" % (operator, MANY)) - each("%s x1" % operator)) / (MANY - 1)

    of_name = [operator for operator in OPERATORS if operator not in ONCE and OPERATORS[operator].partition("fd.name")[1]]
    level = statistics.median(each("%s x1" % operator) - slope(operator) for operator in of_name)
    found = {operator: (each("%s x%d" % (operator, MANY)) - level) / MANY for operator in of_name}
    found.update({operator: each("%s x1" % operator) - level for operator in ONCE})
    found.update({operator: slope(operator) for operator in OPERATORS if operator not in found})
    rule = (known - base) / COPIES - found["="]
    fields = {field: each(field) - rule - found["="] for field in FIELDS if field in runs}
    return {"event_ns": base, "rule_ns": rule, "operators": found, "fields": {**fields, "evt.num": 0.0, "fd.name": level - rule}}


def ranks(values: list[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    found = [0.0] * len(values)
    for rank, index in enumerate(order):
        found[index] = float(rank)
    return found


def rank_correlation(one: list[float], two: list[float]) -> float:
    """Spearman's, of values without ties."""
    count = len(one)
    return 1 - 6 * sum((a - b) ** 2 for a, b in zip(ranks(one), ranks(two))) / (count * (count * count - 1))


def compare(arguments: argparse.Namespace) -> None:
    one, two = (fitted({name: run["ns"] for name, run in json.loads(Path(name).read_text())["runs"].items()})
                for name in (arguments.one, arguments.two))
    for kind in ("operators", "fields"):
        keys = sorted(set(one[kind]) & set(two[kind]), key=one[kind].__getitem__)
        for key in keys:
            print("%-10s %-22s %8.0f %8.0f ns" % (kind, key, one[kind][key], two[kind][key]))
        print("%s: rank correlation %.3f" % (kind, rank_correlation(*([run[kind][key] for key in keys] for run in (one, two)))))
    print("an event %.0f and %.0f ns, a rule %.0f and %.0f ns" % (one["event_ns"], two["event_ns"], one["rule_ns"], two["rule_ns"]))


def sets(files: list[str]) -> dict[str, list]:
    """Rule sets to predict, none of which a calibration run has used: rules as people write them."""
    head = "evt.type in (open, openat) and "

    def many(count: int, condition: str) -> list[dict]:
        return [rule("r%d" % n, head + condition.replace("{n}", str(10 + n))) for n in range(count)]

    found: dict[str, list] = {
        "1 rule": NOTHING,
        "10 simple rules": many(10, "proc.name = zq{n}"),
        "60 simple rules": many(60, "proc.name = zq{n}"),
        "200 simple rules": many(200, "proc.name = zq{n} and fd.name startswith /etc/zq{n}"),
        "60 regex on opens": many(60, "fd.name regex '.*/(etc|usr)/zq{n}[a-z]+.*'"),
        "60 regex, cheap first": many(60, "proc.name = zq{n} and fd.name regex '.*/(etc|usr)/zq{n}[a-z]+.*'"),
        "20 regex on opens": many(20, "fd.name regex '.*/(etc|usr)/zq{n}[a-z]+.*'"),
        "40 globs": many(40, "fd.name glob '/home/*/.zq{n}/*'"),
        "60 contains": many(60, "(fd.name contains zq{n} or fd.name contains yq{n} or fd.name contains xq{n})"),
        "60 ancestors": many(60, "proc.aname = zq{n}"),
        "60 command lines": many(60, "proc.cmdline contains 'zq{n}'"),
        "60 command lines late": many(60, "fd.directory = /zq{n} and proc.cmdline contains 'zq{n}'"),
        "30 of lists": many(30, "fd.name in (/a{n}, /b{n}, /c{n}, /d{n}) and not proc.name in (a, b, c)"),
        "60 of prefixes": many(60, "(fd.name startswith /zq{n} or fd.name startswith /yq{n} or fd.directory in (/a{n}, /b))"),
        "40 pmatch": many(40, "fd.name pmatch (/zq{n}/a, /yq{n}/b)"),
    }
    for name in files:
        found[Path(name).name] = [name]
    if len(files) > 1:
        found["all files"] = list(files)
    return found


def collection():
    sys.path.insert(0, str(COLLECTIONS))
    from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules_audit import auditor, costs

    return costs, auditor


def predicted(rules: list) -> float:
    """Nanoseconds of an openat, by the auditor."""
    costs, auditor = collection()
    texts = [(item, Path(item).read_text()) if isinstance(item, str) else ("rules.yaml", json.dumps(rules)) for item in rules]
    texts = texts if isinstance(rules[0], str) else texts[:1]
    host = auditor.Host(base_syscalls=CALLS["base_syscalls"], rates={"openat": 1e6})
    found = auditor.audit(texts, "0.44.1", host)
    if not found["ok"]:
        raise SystemExit("the rules do not load: %s" % found["findings"][0]["text"])
    return costs.EVENT_NS + found["percent"] * 10


def predict(arguments: argparse.Namespace) -> None:
    rows = []
    # With --again only the prediction is made anew, for what was measured before.
    known = {row["set"]: row for row in json.loads(Path(arguments.result).read_text())["rows"]} if arguments.again else {}
    for name, rules in sets(arguments.rules).items():
        before = predicted(rules)
        done = {key: known[name][key] for key in ("ns", "events", "drops")} if known else measure(arguments, rules, before)
        rows.append({"set": name, "predicted": before, **done})
        print("%-30s predicted %8.3f s, measured %8.3f s of CPU per million events (%d events, %d drops)" % (
            name, before / 1000, done["ns"] / 1000, done["events"], done["drops"]), flush=True)
    value = rank_correlation([row["predicted"] for row in rows], [row["ns"] for row in rows])
    Path(arguments.result).write_text(json.dumps({"rows": rows, "rank_correlation": value}, indent=1))
    print("%d rule sets: rank correlation %.3f" % (len(rows), value))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for function in (cost, predict):
        command = commands.add_parser(function.__name__)
        command.add_argument("falco")
        command.add_argument("result")
        command.add_argument("--plugin")
        command.set_defaults(function=function)
    command.add_argument("rules", nargs="*")
    command.add_argument("--again", action="store_true", help="measure nothing: predict again, with the table as it is now")
    command = commands.add_parser("compare")
    command.add_argument("one")
    command.add_argument("two")
    command.set_defaults(function=compare)
    arguments = parser.parse_args()
    if arguments.function is not compare and os.geteuid():
        raise SystemExit("Falco needs root")
    arguments.function(arguments)


if __name__ == "__main__":
    main()
