# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""make campaign: fleets of simulated hosts, tuned by the collection's own decisions and by the obvious alternatives, in virtual time.

The decisions are those of plugin_utils: facts → plan → what the simulator's ring model then loses → facts. Compared with

    guide     Falco's guide followed blindly: metrics, preset 6 with 4 CPUs a buffer, preset 7, base_syscalls.repair, a small set
    largest   the largest buffers that the machine's budget has room for, everywhere
    grid      the best of all combinations of buffers, priority, quota and selection that the policy allows, and the least memory
              that does as well (in the model no larger ring, priority or smaller selection ever loses more: tests hold that)

The loads have the shapes of the project's recordings; their sizes follow what Falco's maintainers published of a fleet
(falcosecurity/libs#1557): median 71,000 events/s, 99th percentile 260,000.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import random
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/simulator"))
if __name__ == "__main__":
    # The checkout as ansible_collections.falcotune.fleet, as tests/unit/conftest.py has it.
    FOLDER = tempfile.TemporaryDirectory(prefix="falcotune-")
    PLACE = Path(FOLDER.name) / "ansible_collections" / "falcotune"
    PLACE.mkdir(parents=True)
    (PLACE / "fleet").symlink_to(ROOT)
    sys.path.insert(0, FOLDER.name)

from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import ruleset  # noqa: E402
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import buffers, effects, planner, policies  # noqa: E402
from ansible_collections.falcotune.fleet.tests.unit.hosts import GIB, Host  # noqa: E402
from falcosim import rings, syscalls, truth  # noqa: E402

MEDIAN, SIGMA = 71000, math.log(260 / 71) / 2.326  # events/s of a host: a log-normal with the published percentiles
# Seconds: until rings are as full as a load makes them, the window, and between two snapshots. An even load costs nothing to follow, so it
# is followed for longer; under others the rings are full at the start, since that a large one takes hours to fill is no cure.
SETTLED, FILLED, WINDOW, INTERVAL = 180.0, 18000.0, 480.0, 30.0
LOOKS = 10
START = 1795000000 * 10 ** 9
NS = 1e9

KINDS = ("calm", "bursty", "sustained", "starved", "quota-bound", "hot CPU", "page faults", "heavy rules", "mixed", "overloaded")
# How many hosts of a hundred: one in a hundred loses 1.8 % or more, as published.
NATURAL = {"calm": 92.0, **dict.fromkeys(KINDS[1:], 0.9)}

RULES = ruleset.resolve([("f", json.dumps([
    {"rule": name, "desc": "d", "output": "o", "priority": priority, "condition": "evt.type in (%s) and proc.name=x" % ", ".join(calls)}
    for name, priority, calls in (
        ("files", "warning", ["open", "openat", "openat2"]), ("network", "notice", ["connect", "sendto"]),
        ("listeners", "notice", ["accept", "accept4", "recvfrom"]), ("programs", "critical", ["execve", "execveat"]),
        ("names", "warning", ["rename", "renameat", "unlink", "unlinkat"]), ("modes", "notice", ["chmod", "fchmod"]),
        ("users", "warning", ["setuid"]), ("debuggers", "warning", ["ptrace"]))]))], "0.44.1")["rules"]
# What the guide leaves as the last way: the calls of new processes alone.
SMALL = ("clone", "clone3", "fork", "vfork", "execve", "execveat", "procexit")


# --- Hosts


def rate(chance: random.Random) -> float:
    return MEDIAN * math.exp(SIGMA * chance.gauss(0, 1))


def generated(kind: str, chance: random.Random) -> dict[str, Any]:
    """A host as FALCO_SIM would describe it. Capacities are those that were measured on a real Falco: 650,000 to 730,000 events for each
    second on a CPU with few rules, 30,000 with sixty heavy ones."""
    cpus, consumer, base = chance.choice((2, 4, 8, 16, 32)), chance.uniform(350000, 730000), rate(chance)
    load: dict[str, Any] = {"bytes_per_event": chance.uniform(56, 120), "events_per_second": min(base, 0.8 * consumer)}
    found: dict[str, Any] = {"cpus": cpus, "consumer_events_per_second": consumer, "load": load}
    if kind in ("bursty", "hot CPU") or (kind == "mixed" and chance.random() < 0.5):
        # As tests/unit/test_verdict_truth.py has them, and some that no ring holds.
        seconds = chance.uniform(0.1, 0.6) if chance.random() < 0.8 else chance.uniform(1.5, 3)
        load["burst"] = {"events_per_second": chance.uniform(3, 6) * consumer, "seconds": seconds, "every": chance.uniform(45, 220)}
    if kind == "hot CPU":
        load["hot"] = chance.uniform(0.5, 0.95)
    if kind == "sustained":
        load["events_per_second"] = consumer * chance.uniform(1.05, 1.9)
    if kind == "overloaded":
        load["events_per_second"] = consumer * chance.uniform(3, 20)
    if kind == "heavy rules" or (kind == "mixed" and "burst" not in load):
        found["consumer_events_per_second"] = load["events_per_second"] / chance.choice((chance.uniform(1.1, 2), chance.uniform(2, 16)))
    if kind in ("starved", "mixed"):
        found["starved"] = chance.uniform(0.5, 0.88)
        if kind == "starved":
            load["events_per_second"] = consumer * chance.uniform(0.3, 0.8)
    if kind == "quota-bound":
        found["cpu_quota"] = chance.uniform(0.1, 0.5)
        load["events_per_second"] = consumer * found["cpu_quota"] * chance.uniform(1.2, 1.9)
    if kind == "page faults":
        found["page_faults_per_second"] = load["events_per_second"] * chance.uniform(0.02, 0.2)
    return found


class Setup(NamedTuple):
    """What is in force on a host. selected: names of system calls; None: Falco's default."""

    preset: int = 4
    group: int = 2
    nice: int = 0
    quota: bool = True
    selected: tuple[str, ...] | None = None


class Seen(NamedTuple):
    """lost: percent of the events, lost: number. pair, cpu, age: as a host would send them."""

    percent: float
    events: float
    drops: float
    pair: dict[str, Any]
    cpu: dict[str, Any]
    age: float


def driver(data: dict[str, Any]) -> str:
    return "kmod" if data.get("page_faults_per_second") else "modern_ebpf"


def observed(data: dict[str, Any], setup: Setup, window: float = WINDOW, per_cpu: bool = False) -> Seen:
    """A window of a Falco that was started with a setup a while ago, as two looks show it."""
    codes = syscalls.ALL_CODES if setup.selected is None else frozenset(syscalls.to_codes(setup.selected))
    model = truth.Model(data, setup.preset, setup.group, quota=setup.quota, nice=setup.nice, kind=driver(data), selected=codes)
    even = model.cpu.even and not model.profile.burst
    shots, hot_before, settled = [], 0.0, FILLED if even else min(SETTLED, window)
    if not even:
        fill(model.rings)
    began = int(settled / INTERVAL)
    for number in range(began, began + int(window / INTERVAL) + 1):
        model.advance(number * INTERVAL)
        faults = int(model.rings.page_faults)
        shots.append({"evt.time": START + int((model.startup + number * INTERVAL) * NS), "falco.start_ts": START,
                      "falco.reload_ts": START, "sample": number,
                      "falco.version": "0.44.1", "falco.host_num_cpus": data["cpus"], "scap.n_evts": int(model.rings.events),
                      "scap.n_drops": int(model.rings.drops) + faults, "scap.n_drops_page_faults": faults,
                      "falco.cpu_usage_perc": round(100 * model.cpu.on / (model.startup + number * INTERVAL), 1)})
        hot_before = model.rings.hot_drops if number == began else hot_before
    first, last = shots[0], shots[-1]
    gaps = [{"ns": new["evt.time"] - old["evt.time"], "events": new["scap.n_evts"] - old["scap.n_evts"],
             "drops": new["scap.n_drops"] - old["scap.n_drops"]} for old, new in zip(shots, shots[1:])]
    losing = sorted((gap for gap in gaps if gap["drops"]), key=lambda gap: -gap["drops"])
    pair = {"first": first, "last": last, "source": "metrics_file", "seconds": window, "age": 0.0,
            "intervals": {"count": len(gaps), "losing": len(losing), "worst": losing[:8]}}
    if per_cpu and data["load"].get("hot"):
        pair["cpus"] = {"count": 1, "worst": [[0, int(model.rings.hot_drops - hot_before)]]}
    events, drops = last["scap.n_evts"] - first["scap.n_evts"], last["scap.n_drops"] - first["scap.n_drops"]
    throttled = model.cpu.throttled if data.get("cpu_quota") and setup.quota else None
    cpu = {"on": model.cpu.on, "waiting": model.cpu.waiting, "throttled": throttled}
    age = model.startup + (began + int(window / INTERVAL)) * INTERVAL
    return Seen(100.0 * drops / events if events else 0.0, events, drops, pair, cpu, age)


def fill(rings: Any) -> None:
    """As if the rings had been filled at the start."""
    for group in rings.groups:
        group[2] = rings.capacity
        rings.events += group[0] * rings.capacity


class Outcome(NamedTuple):
    """What one way of tuning came to on one host. memory: bytes of rings. lost: percent. blinded: rules that see less.
    predicted: percent that the last step was to leave lost, None where it was not said."""

    lost: float
    drops: float
    memory: int
    restarts: int
    blinded: int
    said: str = ""
    predicted: float | None = None


def ring_bytes(data: dict[str, Any], setup: Setup) -> int:
    return buffers.layout(driver(data), data["cpus"], setup.preset, setup.group)["bytes_total"]


# --- The collection's own decisions


class Subject:
    """One host, in virtual time. data may be exchanged: the load then is another one."""

    def __init__(self, data: dict[str, Any], policy: dict[str, Any] | None = None, window: float = WINDOW) -> None:
        self.data, self.policy, self.window = data, policies.complete(policy), window
        quota, kind = data.get("cpu_quota"), driver(data)
        self.paper = Host(cpus=data["cpus"], total=4 * data["cpus"] * GIB, available=3 * data["cpus"] * GIB,
                          quota=quota and 100.0 * quota, options=("engine.kind=" + kind,), clock=START / NS)
        self.selected: tuple[str, ...] | None = None
        self.restarts = self.blinded = 0
        self.steps: list[dict[str, Any]] = []
        self.moves: list[tuple[str, Any]] = []
        self.plan: dict[str, Any] = {}
        self.look()

    def setup(self) -> Setup:
        effective = self.paper.effective()["engine"][driver(self.data)]
        return Setup(effective["buf_size_preset"], effective.get("cpus_for_each_buffer", 2), self.paper.nice, self.paper.quota is not None,
                     self.selected)

    def look(self) -> Seen:
        """Time passes, and what the host would send is of that time."""
        settings = self.paper.effective()
        measuring = settings["metrics"]["enabled"]
        seen = observed(self.data, self.setup(), self.window, settings["metrics"].get("kernel_event_counters_per_cpu_enabled"))
        self.paper.cpu, self.paper.age, self.paper.pair = seen.cpu, seen.age, seen.pair if measuring else None
        self.paper.clock += self.window
        self.seen = seen
        return seen

    def decide(self) -> dict[str, Any]:
        facts = self.paper.facts()
        made = planner.make(facts, self.policy)
        if made["needs"] == "syscalls":
            facts["syscalls"] = {"rules": RULES, "selected": [], "reason": None, "profile": self._profile()}
            made = planner.make(facts, self.policy)
        self.plan = made
        return made

    def _profile(self) -> dict[str, Any]:
        """A count of the system calls that the model's load makes."""
        profile = truth.Model(self.data).profile
        weights, made = profile.categories, 5.0 * profile.rate
        members = {"open": "openat", "connect": "connect", "execve": "execve", "close": "close", "clone_fork": "clone",
                   "dir_file": "unlinkat", "other_interest": "setsid"}
        counts = {members[name]: int(made * weight) for name, weight in weights.items() if name in members}
        # What is outside of Falco's drop categories, as the model has it.
        whole = sum(rings.OTHER.values())
        counts.update({name: int(made * weights.get("other", 0) * share / whole) for name, share in rings.OTHER.items()})
        return {"means": "tracefs", "seconds": 5.0, "counts": counts, "callers": {}, "reason": None, "notes": []}

    def change(self, made: dict[str, Any]) -> None:
        quota = self.paper.quota
        # The paper host takes its own quota away; here the unit's own comes back with our line.
        self.paper = self.paper.after(made)
        own = self.data.get("cpu_quota")
        self.paper.quota = None if self.paper.dropin.get("CPUQuota") == "" else own and 100.0 * own
        assert quota == self.paper.quota or made["step"], made["changes"]
        self.restarts += bool(made["restart_required"])
        if any(item["key"].startswith("base_syscalls.") for item in made["changes"]):
            back = not (made["settings"].get("base_syscalls") or {}).get("repair")
            self.selected = None if back else tuple(made["syscalls"]["selected"])
            self.blinded = len(made["coverage"]["newly"]) if made["coverage"] and not back else 0
        if made["step"]:
            self.steps.append(made["step"])
        self.moves.extend((item["key"], item["to"]) for item in made["changes"] if item["kind"] in ("config", "unit"))

    def tune(self, looks: int = LOOKS) -> None:
        """Rounds until nothing changes."""
        for _look in range(looks):
            made = self.decide()
            if not made["changes"]:
                return
            self.change(made)
            self.look()

    def outcome(self) -> Outcome:
        verdict = self.plan["verdict"]
        said = (verdict["answer"] or {"kind": verdict["state"]})["kind"]
        predicted = self.steps[-1]["predicted"] if self.steps else None
        return Outcome(self.seen.percent, self.seen.drops, ring_bytes(self.data, self.setup()), self.restarts, self.blinded, said,
                       predicted)


# --- Thirty days

DAYS, DAY = 30, 86400.0


class Days(Subject):
    """A host with one run a day, under a load that changes. A day is as its sample: the counters of a life add up."""

    def __init__(self, data: dict[str, Any], chance: random.Random, policy: dict[str, Any] | None = None, window: float = 240.0) -> None:
        self.given, self.chance = data, chance
        self.life = {"seconds": 0.0, "events": 0, "drops": 0, "faults": 0, "on": 0.0, "waiting": 0.0, "throttled": 0.0}
        self.factor = self.day = self.load_changes = 0
        self.days: list[tuple[float, float]] = []
        self._phase()
        super().__init__(data, policy, window)

    def _phase(self) -> None:
        """Another load for some days."""
        before, self.factor = self.factor, self.chance.choice((0.1, 0.3, 1.0, 1.0, 1.0, 2.0))
        self.until = self.day + self.chance.randint(4, 10)
        if before:
            ratio = self.factor / before
            self.load_changes += ratio > effects.COMPARABLE or ratio < 1 / effects.COMPARABLE

    def next_day(self) -> None:
        self.day += 1
        if self.day >= self.until:
            self._phase()
        load, jitter = self.given["load"], self.chance.uniform(0.85, 1.15)
        made = dict(load, events_per_second=load["events_per_second"] * self.factor * jitter)
        if "burst" in load:
            made["burst"] = dict(load["burst"], events_per_second=load["burst"]["events_per_second"] * self.factor * jitter)
        self.data = dict(self.given, load=made)
        if "starved" in self.given and self.factor < 1:
            self.data["starved"] = 0.02  # the neighbours rest as well
        self.look()

    def change(self, made: dict[str, Any]) -> None:
        super().change(made)
        if made["restart_required"]:
            self.life = dict.fromkeys(self.life, 0.0)

    def look(self) -> Seen:
        """A day passes, of which the sample is the last part."""
        seen, life = super().look(), self.life
        scale = DAY / self.window
        for name, value in (("seconds", self.window), ("events", seen.events), ("drops", seen.drops), ("on", seen.cpu["on"]),
                            ("waiting", seen.cpu["waiting"]), ("throttled", seen.cpu["throttled"] or 0.0)):
            life[name] += value * scale * (self.window / seen.age if name in ("on", "waiting", "throttled") else 1.0)
        self.paper.clock += DAY - self.window
        share = 100.0 / seen.age
        self.paper.age = life["seconds"]
        self.paper.cpu = {name: life[name] for name in ("on", "waiting")} | {"throttled": life["throttled"] or None}
        self.paper.looked = {"on": seen.cpu["on"] * share, "waiting": seen.cpu["waiting"] * share,
                             "throttled": None if seen.cpu["throttled"] is None else seen.cpu["throttled"] * share}
        if self.paper.pair:
            self.paper.pair = self._of_the_life(seen)
        return seen

    def _of_the_life(self, seen: Seen) -> dict[str, Any]:
        pair, now = seen.pair, START + int(self.life["seconds"] * NS)
        first, last = dict(pair["first"]), dict(pair["last"])
        for name, whole in (("scap.n_evts", self.life["events"]), ("scap.n_drops", self.life["drops"])):
            grown = last[name] - first[name]
            first[name], last[name] = int(whole) - grown, int(whole)
        first["evt.time"], last["evt.time"] = now - int(self.window * NS), now
        for shot in (first, last):
            del shot["falco.cpu_usage_perc"]
        return dict(pair, first=first, last=last)


class Month(NamedTuple):
    """changes: restarts. turns: how often a setting went up after it had gone down, or down after up; loads: how often the load changed.
    back: steps that gave something back. lost: percent of all events."""

    kind: str
    changes: int
    turns: int
    loads: int
    back: int
    lost: float
    last: float


def turns(moves: list[tuple[str, Any]]) -> int:
    """How often one setting changed its direction, the most of all settings."""
    worst = 0
    for key in {key for key, _value in moves}:
        values = [float(value) if isinstance(value, (bool, int, float)) else 0.0 for name, value in moves if name == key]
        # Nice is higher where the number is lower; what is taken away is 0.
        ways = [new > old for old, new in zip([values[0], *values], values) if new != old]
        worst = max(worst, sum(new != old for old, new in zip(ways, ways[1:])))
    return worst


def month(kind: str, chance: random.Random, policy: dict[str, Any] | None = None, days: int = DAYS) -> Month:
    subject = Days(generated(kind, chance), chance, policy)
    for _day in range(days):
        subject.next_day()
        subject.days.append((subject.seen.events, subject.seen.drops))
        made = subject.decide()
        if made["changes"]:
            subject.change(made)
            subject.look()
    back = sum(step["name"] == "give_back" and not step["undoes"] for step in subject.steps)
    events, drops = (sum(values) for values in zip(*subject.days))
    return Month(kind, subject.restarts, turns(subject.moves), subject.load_changes, back, 100.0 * drops / events, subject.seen.percent)


# --- The alternatives


def _of(data: dict[str, Any], setup: Setup, restarts: int, blinded: int, window: float) -> Outcome:
    seen = observed(data, setup, window)
    return Outcome(seen.percent, seen.drops, ring_bytes(data, setup), restarts, blinded)


def by_the_guide(data: dict[str, Any], policy: dict[str, Any], window: float = WINDOW) -> Outcome:
    """One step after the other, until next to nothing is lost."""
    narrowed = tuple(sorted(lossless()))
    steps = (Setup(), Setup(6, 4), Setup(7, 4), Setup(7, 4, selected=narrowed), Setup(7, 4, selected=SMALL))
    found = None
    for number, setup in enumerate(steps):
        blinded = len(RULES) - 1 if setup.selected == SMALL else 0
        found = _of(data, setup, number + 1, blinded, window)
        if found.lost <= policy["accepted_drops_percent"]:
            break
    return found


def budget(data: dict[str, Any], policy: dict[str, Any]) -> int:
    memory = {"total": 4 * data["cpus"] * GIB, "available": 3 * data["cpus"] * GIB, "limit": None}
    return buffers.budget(memory, policies.buffer_policy(policy))["bytes"]


def most(data: dict[str, Any], policy: dict[str, Any], group: int) -> int:
    """The largest preset that fits the budget."""
    kind, room = driver(data), budget(data, policy)
    return max(preset for preset in range(1, 11) if buffers.layout(kind, data["cpus"], preset, group)["bytes_at_load"] <= room)


def largest(data: dict[str, Any], policy: dict[str, Any], window: float = WINDOW) -> Outcome:
    return _of(data, Setup(most(data, policy, 2)), 1, 0, window)


@functools.cache
def lossless() -> frozenset[str]:
    """The selection with which no rule of RULES loses anything, as the collection chooses it."""
    subject = Subject({"cpus": 2, "consumer_events_per_second": 1e5, "load": {"events_per_second": 1.5e5}}, window=120.0)
    subject.tune()
    return frozenset(subject.selected or ())


def grid(data: dict[str, Any], policy: dict[str, Any]) -> list[Setup]:
    """Every combination that policy and budget allow."""
    presets = range(1, 11)
    room, kind = budget(data, policy), driver(data)
    return [Setup(preset, group, nice, quota, selected)
            for preset in presets for group in (1, 2, 4, 6)
            for nice in ((0, policy["nice_ceiling"]) if policy["priority"] else (0,))
            for quota in ((True, False) if policy["unthrottle"] else (True,))
            for selected in ((None, tuple(sorted(lossless()))) if policy["syscalls"] != "keep" else (None,))
            if buffers.layout(kind, data["cpus"], preset, group)["bytes_at_load"] <= room]


def best(data: dict[str, Any], policy: dict[str, Any], window: float = WINDOW) -> Outcome:
    """The best of the grid, and the least memory that comes within 5 % of it. Nothing in the model loses more with larger rings, more
    priority, no quota or fewer system calls, so only those ends of the grid are run."""
    ends = [setup for setup in grid(data, policy)
            if setup.nice == (policy["nice_ceiling"] if policy["priority"] else 0) and setup.quota is not policy["unthrottle"]
            and (setup.selected is not None or policy["syscalls"] == "keep")]
    by_memory = sorted(ends, key=lambda setup: (ring_bytes(data, setup), -setup.preset))
    top = [max((setup for setup in ends if setup.group == group), key=lambda setup: setup.preset) for group in {one.group for one in ends}]
    found = min((_of(data, setup, 1, 0, window) for setup in top), key=lambda item: (item.drops, item.memory))
    low, high = 0, len(by_memory) - 1
    enough = 1.05 * found.drops + 1
    while low < high:
        middle = (low + high) // 2
        if _of(data, by_memory[middle], 1, 0, window).drops <= enough:
            high = middle
        else:
            low = middle + 1
    return found._replace(memory=min(found.memory, ring_bytes(data, by_memory[low])))


# --- The comparison


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Host_(NamedTuple):
    kind: str
    before: Outcome
    ways: dict[str, Outcome]


def campaign(kinds: list[str], seed: int, policy: dict[str, Any], window: float = WINDOW) -> list[Host_]:
    chance, found, whole = random.Random(seed), [], policies.complete(policy)
    for kind in kinds:
        data = generated(kind, chance)
        subject = Subject(data, policy, window)
        before = Outcome(subject.seen.percent, subject.seen.drops, ring_bytes(data, Setup()), 0, 0)
        subject.tune()
        ways = {"falcotune": subject.outcome(), "guide": by_the_guide(data, whole, window), "largest": largest(data, whole, window),
                "grid": best(data, whole, window)}
        found.append(Host_(kind, before, ways))
    return found


def goals(found: list[Host_]) -> dict[str, tuple[bool, str]]:
    ours, grids = [host.ways["falcotune"] for host in found], [host.ways["grid"] for host in found]
    drops, least = sum(item.drops for item in ours), sum(item.drops for item in grids)
    memory, large = sum(item.memory for item in ours), sum(host.ways["largest"].memory for host in found)
    restarts = [float(item.restarts) for item in ours]
    needless = sum(host.ways["falcotune"].blinded > 0 and host.ways["grid"].lost <= 1 for host in found)
    return {
        "drops within 5 % of the grid's": (drops <= 1.05 * least, "%+.1f %%" % (100 * (drops / least - 1) if least else 0)),
        "a quarter of the largest buffers' memory": (4 * memory <= large, "%.2f" % (memory / large)),
        "median of 1 restart or fewer": (statistics.median(restarts) <= 1, "%g" % statistics.median(restarts)),
        "95 % with 2 restarts or fewer": (percentile(restarts, 0.95) <= 2, "%g" % percentile(restarts, 0.95)),
        "no rule lost where others suffice": (needless == 0, "%d hosts" % needless),
    }


def table(found: list[Host_]) -> list[str]:
    accepted = 1.0
    lines = ["%-12s %6s %12s %10s %10s %8s %9s %9s" % ("way", "solved", "drops", "mean lost", "memory", "blinded", "restarts", "p95")]
    for way in ("before", "falcotune", "guide", "largest", "grid"):
        items = [host.before if way == "before" else host.ways[way] for host in found]
        restarts = [float(item.restarts) for item in items]
        lines.append("%-12s %6d %12.0f %8.2f %% %6.0f MiB %8d %9.2f %9.0f" % (
            way, sum(item.lost <= accepted for item in items), sum(item.drops for item in items),
            statistics.mean(item.lost for item in items), statistics.mean(item.memory for item in items) / (1 << 20),
            sum(item.blinded for item in items), statistics.mean(restarts), percentile(restarts, 0.95)))
    return lines


def by_kind(found: list[Host_]) -> list[str]:
    lines = ["%-12s %5s %9s %10s %9s %9s %9s %9s   %s" % (
        "kind", "hosts", "before", "falcotune", "guide", "largest", "grid", "restarts", "said")]
    for kind in KINDS:
        of = [host for host in found if host.kind == kind]
        if not of:
            continue
        means = [statistics.mean(host.before.lost for host in of)] + [
            statistics.mean(host.ways[way].lost for host in of) for way in ("falcotune", "guide", "largest", "grid")]
        said: dict[str, int] = {}
        for host in of:
            said[host.ways["falcotune"].said] = said.get(host.ways["falcotune"].said, 0) + 1
        lines.append("%-12s %5d %7.2f %% %8.2f %% %7.2f %% %7.2f %% %7.2f %% %9.2f   %s" % (
            kind, len(of), *means, statistics.mean(host.ways["falcotune"].restarts for host in of),
            ", ".join("%s %d" % item for item in sorted(said.items()))))
    return lines


def errors(found: list[Host_]) -> str:
    """How far the last step's prediction was from what came of it, in percentage points."""
    off = sorted(abs(host.ways["falcotune"].predicted - host.ways["falcotune"].lost) for host in found
                 if host.ways["falcotune"].predicted is not None)
    if not off:
        return "no prediction was made"
    return "%d predictions: median error %.2f, p90 %.2f percentage points" % (len(off), statistics.median(off), percentile(off, 0.9))


def natural(number: int, seed: int) -> list[str]:
    chance = random.Random(seed)
    return chance.choices(list(NATURAL), list(NATURAL.values()), k=number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hosts", type=int, default=90, help="hosts of each fleet")
    parser.add_argument("--seed", type=int, default=1557)
    parser.add_argument("--policy", default="{}", help="policy as JSON")
    parser.add_argument("--only", choices=("fleets", "days"), help="one of the two parts; the default is both")
    parser.add_argument("--months", type=int, default=2, help="hosts of each kind that are followed for %d days" % DAYS)
    given = parser.parse_args()
    policy = json.loads(given.policy)
    if given.only != "days":
        fleets(given, policy)
    if given.only != "fleets":
        thirty_days(given, policy)


def fleets(given: argparse.Namespace, policy: dict[str, Any]) -> None:
    hard = [KINDS[1:][number % (len(KINDS) - 1)] for number in range(given.hosts)]
    for name, kinds in (("a fleet in trouble", hard), ("a fleet as published", natural(given.hosts, given.seed))):
        found = campaign(kinds, given.seed, policy)
        print("\n%s: %d hosts, policy %s" % (name, len(found), policy or "balanced"))
        print("\n".join([*table(found), "", *by_kind(found), "", errors(found)]))
        for goal, (reached, value) in goals(found).items():
            print("%-8s %s (%s)" % ("reached" if reached else "missed", goal, value))
        sys.stdout.flush()


def thirty_days(given: argparse.Namespace, policy: dict[str, Any]) -> None:
    chance, months = random.Random(given.seed), []
    print("\n%d days of one run a day, under loads that change, %d hosts of each kind" % (DAYS, given.months))
    print("%-12s %8s %6s %6s %11s %10s %10s" % ("kind", "restarts", "turns", "loads", "given back", "lost", "last day"))
    for kind in KINDS:
        for _number in range(given.months):
            one = month(kind, chance, policy)
            months.append(one)
            print("%-12s %8d %6d %6d %11d %8.2f %% %8.2f %%" % (
                one.kind, one.changes, one.turns, one.loads, one.back, one.lost, one.last), flush=True)
    swing = [one for one in months if one.turns > one.loads]
    print("%-8s no setting turns more often than the load (%d hosts)" % ("missed" if swing else "reached", len(swing)))


if __name__ == "__main__":
    main()
