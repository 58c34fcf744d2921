# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of hosts + policy → the report model. Pure: the same input gives the same model, byte for byte.

Percentiles are by nearest rank over the measured hosts: p99 is the smallest value that at least 99 % of them
do not exceed. It is always the value of a host that exists, so the tail is not smoothed away; there is no
mean anywhere.
"""

from __future__ import annotations

from ansible_collections.falcotune.fleet.plugins.plugin_utils import _untrusted
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import rollouts, trials
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import shape
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import hint, number_text, several

# What fail_on may name, in the order in which breaches are told. `acceptable` makes any loss a breach.
RULES = (
    "blind",
    "dropping",
    "overloaded",
    "acceptable",
    "unmeasured",
    "unreachable",
    "failed",
    "worse",
    "drift",
    "restart_required",
)
# name in the model: per thousand of the hosts
PERCENTILES = (("p50", 500), ("p90", 900), ("p99", 990), ("p99.9", 999), ("max", 1000))

# What counts as another result than last time. What is lost on a busy host changes from audit to audit: a
# difference is told when it is larger than both half a percentage point and a fifth of what it was.
TOLERANCE_POINTS = 0.5
TOLERANCE_SHARE = 0.2
# healthy and acceptable are both fine, and overloaded names another cure than dropping, not another loss:
# between those only the drops decide. Between the groups the state does. unmeasured can't be compared.
_GRADE = {"healthy": 0, "acceptable": 0, "dropping": 1, "overloaded": 1, "blind": 2}


def fail_on(given):
    """The rules of fail_on in the order of RULES. Raises PolicyError for a name that is none."""
    if isinstance(given, str) or not isinstance(given, (list, tuple)):
        raise policies.PolicyError(
            "falco_audit_fail_on is %r: expected a list of %s" % (given, ", ".join(RULES))
        )
    for name in given:
        if name not in RULES:
            raise policies.PolicyError(
                "falco_audit_fail_on holds %r, which is no rule%s; the rules are %s"
                % (name, hint(name, RULES), ", ".join(RULES))
            )
    return [name for name in RULES if name in given]


def assemble(results, policy, meta, previous=None, rollout=None):
    """The report model (docs/report-1.schema.json). Never raises on host data; PolicyError on a wrong fail_on.

    results:   "hosts" of the model as far as they are known; what is missing or impossible becomes null
    policy:    {'accepted_drops_percent', 'accepted_hosts_percent', 'min_observation_seconds', 'fail_on'}
    meta:      {'kind', 'collection', 'made_at' ISO 8601 in UTC, 'seconds'}
    rollout:   "rollout" of the model, of a report on one. Its sentence is then the head line; that of the trials is in kind trial
    previous:  {host: {'at', 'state', 'drops_percent', 'rate_per_cpu_guide'[, 'seen']}}, what History.last() says; at is the
               audit that last judged the host, seen the last one that knew it (at if missing). None or {}
               for the first audit

    Snapshots stay in the model, for the history database; public() takes them out.
    """
    policy = {
        "accepted_drops_percent": float(policy["accepted_drops_percent"]),
        "accepted_hosts_percent": float(policy["accepted_hosts_percent"]),
        "min_observation_seconds": float(policy["min_observation_seconds"]),
        "fail_on": fail_on(policy["fail_on"]),
    }
    previous = {_untrusted.text(name) or "": item for name, item in (previous or {}).items()}
    hosts = sorted(map(shape.host, results), key=lambda host: host["name"])
    for host in hosts:
        if host["previous"] is None:
            host["previous"] = shape.PREVIOUS(previous.get(host["name"]))
    model = {
        "schema_version": shape.SCHEMA_VERSION,
        "kind": _untrusted.text(meta["kind"]),
        "collection": _untrusted.text(meta["collection"]),
        "made_at": _untrusted.text(meta["made_at"]),
        "seconds": _untrusted.number(meta["seconds"]),
        "policy": policy,
        "fleet": _fleet(hosts, policy, previous),
        "rollout": shape.ROLLOUT(rollout),
        "hosts": hosts,
    }
    if model["rollout"]:
        model["fleet"]["headline"] = rollouts.headline(model["rollout"])
    elif model["kind"] == "trial":
        model["fleet"]["headline"] = trials.headline(hosts)
    return model


def public(model):
    """The model without the snapshots, which only the history database keeps. Hosts are new dicts, their parts are shared."""
    return dict(
        model,
        hosts=[{name: part for name, part in host.items() if name != "snapshot"} for host in model["hosts"]],
    )


def state_of(host):
    """The host's state; None for one that could not be audited. A host that answered without a verdict is unmeasured."""
    if host["verdict"]:
        return host["verdict"]["state"]
    return "unmeasured" if host["status"] == "ok" else None


def drops_of(host):
    """Percent of events that a measured host loses, else None."""
    return host["verdict"]["drops_percent"] if state_of(host) in shape.MEASURED and host["verdict"] else None


def rate_of(host):
    """Events/s per CPU in the guide's terms of a measured host, else None."""
    return (
        host["verdict"]["rate_per_cpu_guide"]
        if state_of(host) in shape.MEASURED and host["verdict"]
        else None
    )


def worst_first(hosts):
    """Hosts by state, then by what they lose, then by load, then by name. Those that could not be audited come last."""
    order = {state: number for number, state in enumerate(shape.STATES)}
    return sorted(
        hosts,
        key=lambda host: (
            order.get(state_of(host), len(order)),
            -(drops_of(host) or 0.0),
            -(rate_of(host) or 0.0),
            host["name"],
        ),
    )


def percentiles(values):
    """{'p50', 'p90', 'p99', 'p99.9', 'max'} by nearest rank; None without values."""
    values = sorted(values)
    if not values:
        return {name: None for name, dummy in PERCENTILES}
    # -(-a // b) rounds up in whole numbers: 0.999 * 1000 is not 999 in binary.
    return {name: values[max(-(-share * len(values) // 1000), 1) - 1] for name, share in PERCENTILES}


def compare(host):
    """'better', 'worse' or None: this audit against the previous one."""
    state, then = state_of(host), host["previous"]
    if state is None or then is None or then["state"] is None:
        return None
    now_grade, then_grade = _GRADE.get(state), _GRADE.get(then["state"])
    if state == "blind" and then["state"] != "blind":
        return "worse"
    if now_grade is None or then_grade is None:
        return None
    if now_grade != then_grade:
        return "worse" if now_grade > then_grade else "better"
    now, was = drops_of(host), then["drops_percent"]
    if now is None or was is None:
        return None
    change = now - was
    if abs(change) <= TOLERANCE_POINTS or abs(change) <= TOLERANCE_SHARE * was:
        return None
    return "worse" if change > 0 else "better"


def _names(hosts):
    return [host["name"] for host in hosts]


def _tally(words, found):
    """{word: number of hosts}, every word, in our order."""
    counted = dict.fromkeys(words, 0)
    for item in found:
        counted[item] += 1
    return counted


def _fleet(hosts, policy, previous):
    states = {state: [] for state in shape.STATES}
    for host in hosts:
        if state_of(host):
            states[state_of(host)].append(host)
    judged = [host["verdict"] for host in hosts if host["verdict"]]
    # Drop alerts tell of bad seconds only, so they belong in no sum with true windows.
    windows = [
        host["window"]
        for host in hosts
        if drops_of(host) is not None
        and host["window"]
        and host["window"]["basis"] == "counters"
        and host["window"]["events"] is not None
    ]
    events, drops = sum(item["events"] for item in windows), sum(item["drops"] or 0 for item in windows)
    measured = [value for value in map(drops_of, hosts) if value is not None]
    fleet = {
        "hosts": len(hosts),
        "ok": sum(host["status"] == "ok" for host in hosts),
        "unreachable": _names(host for host in hosts if host["status"] == "unreachable"),
        "failed": _names(host for host in hosts if host["status"] == "failed"),
        "states": {state: len(found) for state, found in states.items()},
        "bottlenecks": _tally(shape.BOTTLENECKS, (item["bottleneck"] for item in judged)),
        "next_steps": _tally(shape.NEXT_STEPS, (item["next_step"] for item in judged)),
        "percentiles": {
            "method": "nearest-rank",
            "measured": len(measured),
            "drops_percent": percentiles(measured),
            "rate_per_cpu_guide": percentiles(value for value in map(rate_of, hosts) if value is not None),
        },
        "lines": list(shape.LINES),
        "events": events,
        "drops": drops,
        "drops_percent": 100.0 * drops / events if events else None,
        "drifting": _names(host for host in hosts if host["drift"]),
        "restart_required": _names(
            host for host in hosts if host["plan"] and host["plan"]["restart_required"]
        ),
        "since_last": _since_last(hosts, previous),
    }
    fleet["headline"] = _headline(fleet, policy)
    fleet["breaches"] = _breaches(fleet, states, policy)
    return fleet


def _since_last(hosts, previous):
    """What changed. gone is told once: of the hosts that the newest audit before this one knew."""
    seen = {name: shape.moment(item.get("seen") or item.get("at")) or "" for name, item in previous.items()}
    last = max(seen.values(), default=None) or None
    present = set(_names(hosts))
    found = {"better": [], "worse": []}
    for host in hosts:
        if compare(host):
            found[compare(host)].append(host["name"])
    return {
        "at": last,
        **found,
        "new": [name for name in _names(hosts) if name not in previous] if previous else [],
        "gone": sorted(name for name, at in seen.items() if at == last and name not in present),
    }


def _headline(fleet, policy):
    """One sentence: who loses events, how much the worst, and what isn't known."""
    states, measured = fleet["states"], fleet["percentiles"]["measured"]
    losing = states["dropping"] + states["overloaded"]
    if not fleet["hosts"]:
        return "No hosts were audited."
    worst = fleet["percentiles"]["drops_percent"]["max"]
    if losing:
        parts = [
            "%d of %s %s events%s"
            % (
                losing,
                several(fleet["hosts"], "host"),
                "loses" if losing == 1 else "lose",
                ", the worst %s %%" % number_text(worst) if worst else "",
            )
        ]
    elif measured:
        parts = [
            "None of %s loses %s"
            % (
                several(measured, "host"),
                "events"
                if not states["acceptable"]
                else (
                    "more than the accepted %s %% of events" % number_text(policy["accepted_drops_percent"])
                ),
            )
        ]
    else:
        parts = ["Nothing is known about the losses of %s" % several(fleet["hosts"], "host")]
    if states["acceptable"]:
        parts.append(
            "%d %s a little" % (states["acceptable"], "loses" if states["acceptable"] == 1 else "lose")
        )
    if states["blind"]:
        parts.append("%d %s blind" % (states["blind"], "is" if states["blind"] == 1 else "are"))
    for number, words in (
        (states["unmeasured"], "could not be measured"),
        (len(fleet["unreachable"]), "could not be reached"),
        (len(fleet["failed"]), "failed"),
    ):
        if number:
            parts.append("%d %s" % (number, words))
    return "; ".join(parts) + "."


_SAID = {
    "blind": ("is blind: Falco sees nothing there", "are blind: Falco sees nothing there"),
    "dropping": ("loses more events than policy accepts", "lose more events than policy accepts"),
    "overloaded": ("is too busy for Falco as it is set up", "are too busy for Falco as it is set up"),
    "acceptable": ("loses some events", "lose some events"),
    "unmeasured": ("could not be measured", "could not be measured"),
    "unreachable": ("could not be reached", "could not be reached"),
    "failed": ("could not be audited", "could not be audited"),
    "worse": ("does worse than at the last audit", "do worse than at the last audit"),
    "drift": ("is not as it was set up", "are not as they were set up"),
    "restart_required": ("needs a change that restarts Falco", "need a change that restarts Falco"),
}


def _breaches(fleet, states, policy):
    found = {
        "unreachable": fleet["unreachable"],
        "failed": fleet["failed"],
        "worse": fleet["since_last"]["worse"],
        "drift": fleet["drifting"],
        "restart_required": fleet["restart_required"],
        **{state: _names(hosts) for state, hosts in states.items()},
    }
    breaches = []
    for rule in policy["fail_on"]:
        if found[rule]:
            breaches.append(
                {
                    "rule": rule,
                    "hosts": found[rule],
                    "text": "%s %s."
                    % (several(len(found[rule]), "host"), _SAID[rule][len(found[rule]) != 1]),
                }
            )
        if rule == "dropping":
            breaches.extend(
                _too_many(found["acceptable"], sum(len(states[state]) for state in shape.MEASURED), policy)
            )
    return breaches


def _too_many(accepted, measured, policy):
    """A little loss is acceptable on a small part of the fleet, and on no more."""
    if not accepted or 100.0 * len(accepted) <= policy["accepted_hosts_percent"] * measured:
        return []
    return [
        {
            "rule": "dropping",
            "hosts": accepted,
            "text": "%d of %s (%s %%) %s up to %s %% of events; that little is acceptable on a small part of the fleet, by policy on at most "
            "%s %% of the measured hosts, not on so many."
            % (
                len(accepted),
                several(measured, "measured host"),
                number_text(100.0 * len(accepted) / measured),
                "loses" if len(accepted) == 1 else "lose",
                number_text(policy["accepted_drops_percent"]),
                number_text(policy["accepted_hosts_percent"]),
            ),
        }
    ]
