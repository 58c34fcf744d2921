# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts of a fleet are changed when: waves that never leave more than the allowed share of a failure domain blind. Pure.

A *wave* is what is changed at one time. A wave is planned first, admitted again when its turn has come (by then hosts may be
lost), and judged afterwards. A host counts as blind from the moment its wave begins until it has proven itself; a host that is
down, or was lost on the way, counts as blind for the whole rollout.

    hosts    {name: {'state', 'class', 'domain', 'blind_seconds', 'bytes', 'rules_lost', 'healthy', 'reason'}}, in the inventory's order
             state: changing, converged, refused, unreachable or waiting (it may not be restarted now)
             class: [driver, the size class's least number of CPUs, release], or None where nothing is known
             domain: text, or None where no failure domains are told apart
             blind_seconds, bytes, rules_lost: what the change is expected to cost
             healthy: it sees events now
    outcomes {name: {'outcome', 'blind'}} of the hosts whose turn is over
             outcome: done, reverted, failed (nothing was touched), lost, staged, skipped or planned; blind: it may see nothing now
"""

from __future__ import annotations

import re

BAD = ("reverted", "failed", "lost")


class RolloutError(ValueError):
    """This rollout can't begin: says what was found, what was expected and what to do."""


def share(value, total, least):
    """A number, or a percentage of the total rounded down, and never less than `least`."""
    match = re.match(r"^([0-9]+)(%?)\Z", str(value))
    number = int(match.group(1))
    return max(least, total * number // 100 if match.group(2) else number)


def plan(hosts, policy):
    """The whole rollout before it begins; the same input gives the same plan.

    policy: canaries, serial, max_parallel, domain_share_percent, failure_budget.
    → {'waves': [{'number', 'stage': 'canary' or 'batch', 'hosts': []}], 'left': {name: reason}, 'down': {name: reason},
       'domains': {name: {'hosts', 'allowed'}}, 'home': {host: domain}, 'allowed_failures', 'totals': {…}}
    """
    if not hosts:
        raise RolloutError(
            "no host was looked at: expected at least one; look at the inventory, falco_tune_hosts and --limit"
        )
    changing = [name for name, host in hosts.items() if host["state"] == "changing"]
    found = {
        "waves": [],
        "left": {},
        "home": {name: host["domain"] for name, host in hosts.items()},
        "down": {name: _why_down(host) for name, host in hosts.items() if not host["healthy"]},
        "domains": _domains(hosts, policy),
        "allowed_failures": share(policy["failure_budget"], len(changing), 0),
        "totals": _totals(hosts, changing),
    }
    canaries = _canaries(hosts, changing, policy["canaries"])
    _pack(found, "canary", canaries, [len(canaries) or 1], policy["max_parallel"])
    chosen = set(canaries)
    sizes = [share(item, len(changing), 1) for item in policy["serial"]]
    _pack(found, "batch", [name for name in changing if name not in chosen], sizes, policy["max_parallel"])
    waiting = [name for name, host in hosts.items() if host["state"] == "waiting"]
    if waiting:
        # Nothing is interrupted there: the change is validated and kept until it may be made.
        _wave(found, "batch", waiting)
    return found


def _why_down(host):
    return host.get("reason") or {"unreachable": "it can't be reached"}.get(
        host["state"], "its Falco sees no events"
    )


def _domains(hosts, policy):
    sizes = {}
    for host in hosts.values():
        if host["domain"] is not None:
            sizes[host["domain"]] = sizes.get(host["domain"], 0) + 1
    return {
        name: {"hosts": size, "allowed": max(1, int(size * policy["domain_share_percent"] // 100))}
        for name, size in sorted(sizes.items())
    }


def _totals(hosts, changing):
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


def _canaries(hosts, changing, number):
    """The first hosts of each class of which none is converged and healthy; healthy ones where there are any."""
    proven = {_class(host) for host in hosts.values() if host["state"] == "converged" and host["healthy"]}
    taken = {}
    for name in sorted(changing, key=lambda name: not hosts[name]["healthy"]):
        if _class(hosts[name]) not in proven:
            taken.setdefault(_class(hosts[name]), []).append(name)
    chosen = {name for names in taken.values() for name in names[:number]}
    return [name for name in changing if name in chosen]


def _class(host):
    """Of the same class, or alone: a list from a task's result can't be looked up."""
    return tuple(host["class"] or ())


def _wave(found, stage, names):
    found["waves"].append({"number": len(found["waves"]) + 1, "stage": stage, "hosts": names})


def _pack(found, stage, queue, sizes, max_parallel):
    """Fill waves in the queue's order, each with the hosts that its domains have room for; who never fits is left."""
    turn = 0
    while queue:
        size = sizes[min(turn, len(sizes) - 1)]
        size = min(size, max_parallel) if max_parallel else size
        blind, taken, rest = Blind(found, found["down"]), [], []
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
        _wave(found, stage, taken)
        queue, turn = rest, turn + 1


class Blind:
    """The hosts that see nothing at one moment, counted by failure domain."""

    def __init__(self, plan_, names):
        self.home, self.domains = plan_["home"], plan_["domains"]
        self.names, self.count = set(), dict.fromkeys(plan_["domains"], 0)
        for name in names:
            self.add(name)

    def add(self, name):
        if name not in self.names:
            self.names.add(name)
            if self.home.get(name) is not None:
                self.count[self.home[name]] += 1

    def admits(self, name):
        """Whether this host may become blind too. One that is blind already may: nobody becomes blind by it."""
        domain = self.home.get(name)
        return domain is None or name in self.names or self.count[domain] < self.domains[domain]["allowed"]

    def full(self, name):
        domain = self.home[name]
        return (
            "of failure domain %s %d of %d hosts are down or blind, and %d may be: bring them back and run again"
            % (domain, self.count[domain], self.domains[domain]["hosts"], self.domains[domain]["allowed"])
        )


def admit(plan_, outcomes, wave):
    """What of a wave may begin now: ([names], {name: why not}). Hosts that were lost on the way keep their place in their domain."""
    blind = Blind(plan_, list(plan_["down"]) + [name for name, item in outcomes.items() if item["blind"]])
    admitted, deferred = [], {}
    for name in wave["hosts"]:
        if blind.admits(name):
            blind.add(name)
            admitted.append(name)
        else:
            deferred[name] = blind.full(name)
    return admitted, deferred


def halt(plan_, outcomes, wave):
    """Why the rollout must not go on after this wave, or None."""
    bad = [name for name in wave["hosts"] if outcomes.get(name, {}).get("outcome") in BAD]
    if wave["stage"] == "canary" and bad:
        return "the canary %s %s" % (
            bad[0],
            "was lost"
            if outcomes[bad[0]]["outcome"] == "lost"
            else "was reverted"
            if outcomes[bad[0]]["outcome"] == "reverted"
            else "failed",
        )
    used = budget_used(outcomes)
    if used > plan_["allowed_failures"]:
        return "%d hosts were reverted, failed or lost, and falco_tune_failure_budget allows %d of %d" % (
            used,
            plan_["allowed_failures"],
            plan_["totals"]["changing"],
        )
    if len(bad) > 1 and len(bad) == len(wave["hosts"]):
        return "all %d hosts of batch %d were reverted, failed or lost" % (len(bad), wave["number"])
    return None


def budget_used(outcomes):
    return sum(item["outcome"] in BAD for item in outcomes.values())


def last_canary(plan_, wave):
    """Whether this wave is the last of the canaries, and hosts follow."""
    following = [item for item in plan_["waves"] if item["number"] > wave["number"]]
    return wave["stage"] == "canary" and bool(following) and following[0]["stage"] != "canary"


def most_blind(plan_, hosts):
    """{domain: the most hosts of it that were blind at one time}.

    hosts: [{'name', 'began', 'ended', 'blind'}] that were changed; blind: and are still.
    """
    down, moments = Blind(plan_, plan_["down"]), []
    for host in hosts:
        domain = plan_["home"].get(host["name"])
        if domain is not None and host["began"] is not None and host["name"] not in down.names:
            moments.append((host["began"], 1, domain))
            if not host["blind"] and host["ended"] is not None:
                moments.append((host["ended"], -1, domain))
    now, most = dict(down.count), dict(down.count)
    for _moment, step, domain in sorted(moments):
        now[domain] += step
        most[domain] = max(most[domain], now[domain])
    return most
