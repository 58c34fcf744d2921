# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts of a fleet are changed when. Pure.

No batch leaves more than the allowed share of a failure domain blind.

A batch holds the hosts that are changed at one time. It is planned first, admitted again when its turn has
come (by then hosts may be lost), and judged afterwards. A host counts as blind from the moment its batch
begins until it has proven itself; a host that is down, or was lost on the way, counts as blind for the whole
rollout.

    hosts    {name: {'state', 'class', 'domain', 'blind_seconds', 'bytes', 'rules_lost', 'healthy',
             'reason'}}, in the order of the inventory
             state: one of HOST_STATES; waiting: the host needs a restart and may not be restarted now
             class: [driver, least number of CPUs of its size class, release], or None where nothing is known
             domain: text, or None where no failure domains are told apart
             blind_seconds, bytes, rules_lost: the expected cost of the change
             healthy: Falco sees events now
    outcomes {name: {'outcome', 'blind'}} of the hosts whose turn is over
             outcome: one of OUTCOMES; blind: Falco may see nothing now
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import (
    Batch,
    Outcome,
    Policy,
    RolloutDomain,
    RolloutHost,
    RolloutPlan,
)

HOST_STATES = ("changing", "converged", "refused", "unreachable", "waiting")
STAGES = ("canary", "batch")
# What a change can come to. failed: nothing was touched; lost: nobody knows; staged: kept for the next
# restart.
OUTCOMES = ("done", "reverted", "failed", "lost", "staged", "skipped", "planned")
# Of those, what counts against the failure budget.
BAD = ("reverted", "failed", "lost")


class RolloutError(ValueError):
    """This rollout cannot begin: says what was found, what was expected and what to do."""


def share(value: int | str, total: int, least: int) -> int:
    """A number ('3'), or a percentage of the total rounded down ('10%'); never less than `least`."""
    number, percent, _rest = str(value).partition("%")
    return max(least, total * int(number) // 100 if percent else int(number))


def plan(hosts: Mapping[str, RolloutHost], policy: Policy) -> RolloutPlan:
    """The whole rollout before it begins; the same input gives the same plan.

    policy: canaries, serial, max_parallel, domain_share_percent, failure_budget.
    """
    if not hosts:
        raise RolloutError(
            "no host was examined: expected at least one; check the inventory, falco_tune_hosts and --limit"
        )
    changing = [name for name, host in hosts.items() if host["state"] == "changing"]
    found: RolloutPlan = {
        "batches": [],
        "left": {},
        "home": {name: host["domain"] for name, host in hosts.items()},
        "down": {name: _why_down(host) for name, host in hosts.items() if not host["healthy"]},
        "domains": _domains(hosts, policy),
        "allowed_failures": share(policy["failure_budget"], len(changing), 0),
        "totals": _totals(hosts, changing),
    }
    canaries = _canaries(hosts, changing, policy["canaries"])
    _fill(found, "canary", canaries, [len(canaries) or 1], policy["max_parallel"])
    chosen = set(canaries)
    sizes = [share(item, len(changing), 1) for item in policy["serial"]]
    _fill(found, "batch", [name for name in changing if name not in chosen], sizes, policy["max_parallel"])
    waiting = [name for name, host in hosts.items() if host["state"] == "waiting"]
    if waiting:
        # Nothing is interrupted on these hosts: the change is validated and kept until a restart is allowed.
        _add_batch(found, "batch", waiting)
    return found


def _why_down(host: RolloutHost) -> str:
    return host.get("reason") or (
        "the host cannot be reached" if host["state"] == "unreachable" else "Falco sees no events"
    )


def _domains(hosts: Mapping[str, RolloutHost], policy: Policy) -> dict[str, RolloutDomain]:
    sizes: dict[str, int] = {}
    for host in hosts.values():
        if host["domain"] is not None:
            sizes[host["domain"]] = sizes.get(host["domain"], 0) + 1
    return {
        name: {"hosts": size, "allowed": max(1, int(size * policy["domain_share_percent"] // 100))}
        for name, size in sorted(sizes.items())
    }


def _totals(hosts: Mapping[str, RolloutHost], changing: list[str]) -> dict[str, int | float]:
    states = [host["state"] for host in hosts.values()]
    return {
        "hosts": len(hosts),
        "changing": len(changing),
        "converged": states.count("converged"),
        "refused": states.count("refused"),
        "unreachable": states.count("unreachable"),
        "waiting": states.count("waiting"),
        "restarts": sum(hosts[name]["blind_seconds"] > 0 for name in changing),
        "blind_seconds": round(sum(hosts[name]["blind_seconds"] for name in changing), 1),
        "bytes": sum(hosts[name]["bytes"] for name in changing),
        "rules_lost": sum(hosts[name]["rules_lost"] for name in changing),
    }


def _canaries(hosts: Mapping[str, RolloutHost], changing: list[str], number: int) -> list[str]:
    """The first hosts, healthy ones if possible, of each class without a converged and healthy host."""
    proven = {_class(host) for host in hosts.values() if host["state"] == "converged" and host["healthy"]}
    taken: dict[tuple[Any, ...], list[str]] = {}
    for name in sorted(changing, key=lambda name: not hosts[name]["healthy"]):
        if _class(hosts[name]) not in proven:
            taken.setdefault(_class(hosts[name]), []).append(name)
    chosen = {name for names in taken.values() for name in names[:number]}
    return [name for name in changing if name in chosen]


def _class(host: RolloutHost) -> tuple[Any, ...]:
    """The class as a key of a dict: a task's result holds it as a list."""
    return tuple(host["class"] or ())


def _add_batch(found: RolloutPlan, stage: str, names: list[str]) -> None:
    found["batches"].append({"number": len(found["batches"]) + 1, "stage": stage, "hosts": names})


def _fill(found: RolloutPlan, stage: str, queue: list[str], sizes: list[int], max_parallel: int) -> None:
    """Fill batches in the order of the queue with hosts that their domains have room for. Others are left."""
    turn = 0
    while queue:
        size = sizes[min(turn, len(sizes) - 1)]
        size = min(size, max_parallel) if max_parallel else size
        blind = Blind(found, found["down"])
        taken: list[str] = []
        rest: list[str] = []
        for position, name in enumerate(queue):
            if len(taken) == size:
                rest.extend(queue[position:])
                break
            if blind.admits(name):
                blind.add(name)
                taken.append(name)
            else:
                rest.append(name)
        if not taken:
            found["left"].update({name: blind.full(name) for name in rest})
            return
        _add_batch(found, stage, taken)
        queue, turn = rest, turn + 1


class Blind:
    """The hosts that see nothing at one moment, counted by failure domain."""

    def __init__(self, plan: RolloutPlan, names: Iterable[str]) -> None:
        self.home, self.domains = plan["home"], plan["domains"]
        self.names: set[str] = set()
        self.count = dict.fromkeys(plan["domains"], 0)
        for name in names:
            self.add(name)

    def add(self, name: str) -> None:
        if name not in self.names:
            self.names.add(name)
            domain = self.home.get(name)
            if domain is not None:
                self.count[domain] += 1

    def admits(self, name: str) -> bool:
        """Whether this host may become blind too. A host that is blind already may be changed."""
        domain = self.home.get(name)
        return domain is None or name in self.names or self.count[domain] < self.domains[domain]["allowed"]

    def full(self, name: str) -> str:
        """Why admits() says no."""
        # A host without a domain is always admitted.
        domain = cast(str, self.home[name])
        return (
            "failure domain %s: %d of %d hosts are down or blind, and at most %d may be: repair them "
            "and run again"
            % (domain, self.count[domain], self.domains[domain]["hosts"], self.domains[domain]["allowed"])
        )


def admit(
    plan: RolloutPlan, outcomes: Mapping[str, Outcome], batch: Batch
) -> tuple[list[str], dict[str, str]]:
    """The hosts of a batch that may begin now, and why others may not. Lost hosts count as blind."""
    blind = Blind(plan, list(plan["down"]) + [name for name, item in outcomes.items() if item["blind"]])
    admitted: list[str] = []
    deferred: dict[str, str] = {}
    for name in batch["hosts"]:
        if blind.admits(name):
            blind.add(name)
            admitted.append(name)
        else:
            deferred[name] = blind.full(name)
    return admitted, deferred


def halt(plan: RolloutPlan, outcomes: Mapping[str, Outcome], batch: Batch) -> str | None:
    """Why the rollout must not go on after this batch, or None."""
    bad = [name for name in batch["hosts"] if name in outcomes and outcomes[name]["outcome"] in BAD]
    if batch["stage"] == "canary" and bad:
        outcome = outcomes[bad[0]]["outcome"]
        return "the canary %s %s" % (bad[0], "failed" if outcome == "failed" else "was " + outcome)
    used = budget_used(outcomes)
    if used > plan["allowed_failures"]:
        return "%d hosts were reverted, failed or lost, and falco_tune_failure_budget allows %d of %d" % (
            used,
            plan["allowed_failures"],
            plan["totals"]["changing"],
        )
    if len(bad) > 1 and len(bad) == len(batch["hosts"]):
        return "all %d hosts of batch %d were reverted, failed or lost" % (len(bad), batch["number"])
    return None


def budget_used(outcomes: Mapping[str, Outcome]) -> int:
    return sum(item["outcome"] in BAD for item in outcomes.values())


def last_canary(plan: RolloutPlan, batch: Batch) -> bool:
    """Whether this batch is the last of the canaries, and hosts follow."""
    following = [item for item in plan["batches"] if item["number"] > batch["number"]]
    return batch["stage"] == "canary" and bool(following) and following[0]["stage"] != "canary"


def most_blind(plan: RolloutPlan, hosts: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """{domain: the most hosts of it that were blind at one time}.

    hosts: [{'name', 'began', 'ended', 'blind'}] of the hosts that were changed; blind: they still are.
    """
    down = Blind(plan, plan["down"])
    moments: list[tuple[float, int, str]] = []
    for host in hosts:
        domain = plan["home"].get(host["name"])
        if domain is not None and host["began"] is not None and host["name"] not in down.names:
            moments.append((host["began"], 1, domain))
            if not host["blind"] and host["ended"] is not None:
                moments.append((host["ended"], -1, domain))
    now, most = dict(down.count), dict(down.count)
    for _moment, step, domain in sorted(moments):
        now[domain] += step
        most[domain] = max(most[domain], now[domain])
    return most
