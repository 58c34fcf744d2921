# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of hosts + policy → the report model. Pure: the same input gives the same bytes.

Percentiles are by nearest rank over the measured hosts: p99 is the smallest value that at least 99 % of them
do not exceed. It is always the value of a host that exists, so the tail is not smoothed away; there is no
mean anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.falcotune.fleet.plugins.plugin_utils import _untrusted
from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import (
    Breach,
    Fleet,
    Monitoring,
    Percentiles,
    PredictionClass,
    PredictionErrors,
    Predictions,
    ReportPolicy,
    SinceLast,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import rollouts, shape, trials
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import (
    either,
    hint,
    number_text,
    several,
    value_text,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies

# A host of the model (_contracts.ReportHost) and the model (_contracts.Report). The forms read their parts
# by names that are no literals.
Host = dict[str, Any]
Model = dict[str, Any]
Previous = Mapping[str, Mapping[str, Any]]

# What fail_on may name, in the order in which breaches are shown. `acceptable` makes any loss a breach.
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
    "blind_rules",
)
# name in the model: per thousand of the hosts
PERCENTILES = (("p50", 500), ("p90", 900), ("p99", 990), ("p99.9", 999), ("max", 1000))

# Drops on a busy host differ from audit to audit. A difference is reported when it is larger than both half a
# percentage point and a fifth of the earlier value.
TOLERANCE_POINTS = 0.5
TOLERANCE_SHARE = 0.2
# What hosts have in common whose predictions are told together.
ALIKE = ("driver", "cpus", "release", "ruleset", "against")
# Classes of hosts whose predictions a report shows apart.
MOST_CLASSES = 20
# Between these groups the state decides, within one the drops do: healthy and acceptable are both fine, and
# overloaded names another remedy than dropping, not another loss. The others cannot be compared.
_GRADE = {"healthy": 0, "acceptable": 0, "dropping": 1, "overloaded": 1, "blind": 2}


def fail_on(given: object) -> list[str]:
    """The rules of fail_on in the order of RULES. Raises PolicyError for an unknown name."""
    if not isinstance(given, (list, tuple)):
        raise policies.PolicyError(
            "falco_audit_fail_on is %s: expected a list of %s" % (value_text(given), ", ".join(RULES))
        )
    for name in given:
        if name not in RULES:
            raise policies.PolicyError(
                "falco_audit_fail_on holds %r, which is not a rule%s; the rules are %s"
                % (name, hint(name, RULES), ", ".join(RULES))
            )
    return [name for name in RULES if name in given]


def assemble(
    results: Iterable[object],
    policy: Mapping[str, Any],
    meta: Mapping[str, Any],
    previous: Previous | None = None,
    rollout: object = None,
) -> Model:
    """The report model (docs/report-1.schema.json). Host data never makes it fail; a wrong fail_on does.

    results:   "hosts" of the model as far as they are known; what is missing or impossible becomes null
    policy:    accepted_drops_percent, accepted_hosts_percent, min_observation_seconds, fail_on
    meta:      {'kind', 'collection', 'made_at' ISO 8601 in UTC, 'seconds'}, and 'monitoring' {'server',
               'problem', 'sample'} where a Prometheus was asked which hosts to visit
    previous:  {host: {'at', 'state', 'drops_percent', 'rate_per_cpu_guide'[, 'seen']}}: what
               History.last() returns. at: the audit that last judged it; seen: the last that knew it (at if
               missing). None or {} for the first audit
    rollout:   "rollout" of the model, in a report of kind rollout

    Snapshots and outcomes stay in the model, for the history database; public() removes them.
    """
    checked: ReportPolicy = {
        "accepted_drops_percent": float(policy["accepted_drops_percent"]),
        "accepted_hosts_percent": float(policy["accepted_hosts_percent"]),
        "min_observation_seconds": float(policy["min_observation_seconds"]),
        "fail_on": fail_on(policy["fail_on"]),
    }
    earlier = {_untrusted.key(name): item for name, item in (previous.items() if previous else ())}
    hosts = sorted(map(shape.host, results), key=lambda host: str(host["name"]))
    for host in hosts:
        if host["previous"] is None:
            host["previous"] = shape.PREVIOUS(earlier.get(host["name"]))
    model: Model = {
        "schema_version": shape.SCHEMA_VERSION,
        "kind": _untrusted.text(meta["kind"]),
        "collection": _untrusted.text(meta["collection"]),
        "made_at": _untrusted.text(meta["made_at"]),
        "seconds": _untrusted.number(meta["seconds"]),
        "policy": checked,
        "fleet": _fleet(hosts, checked, earlier, shape.MONITORING(meta.get("monitoring"))),
        "rollout": shape.ROLLOUT(rollout),
        "hosts": hosts,
    }
    if model["rollout"]:
        model["fleet"]["headline"] = rollouts.headline(model["rollout"])
    elif model["kind"] == "trial":
        model["fleet"]["headline"] = trials.headline(hosts)
    return model


def public(model: Model) -> Model:
    """The model without what only the history database keeps. Hosts share their parts with it."""
    hosts = [
        {name: part for name, part in host.items() if name not in shape.OF_HISTORY} for host in model["hosts"]
    ]
    return {**model, "hosts": hosts}


def state_of(host: Host) -> str | None:
    """The host's state; None without an audit. A host that answered without a verdict is unmeasured."""
    if host["verdict"]:
        return str(host["verdict"]["state"])
    return "unmeasured" if host["status"] == "ok" else None


def drops_of(host: Host) -> float | None:
    """Percent of events that a measured host loses, else None."""
    return _measured(host, "drops_percent")


def rate_of(host: Host) -> float | None:
    """Events/s per CPU of a measured host, as the guide counts them, else None."""
    return _measured(host, "rate_per_cpu_guide")


def _measured(host: Host, name: str) -> float | None:
    if not host["verdict"] or state_of(host) not in shape.MEASURED:
        return None
    value: float | None = host["verdict"][name]
    return value


def worst_first(hosts: Iterable[Host]) -> list[Host]:
    """Hosts by state, then by drops, then by load, then by name. Those without an audit come last."""
    order = {state: number for number, state in enumerate(shape.STATES)}
    return sorted(
        hosts,
        key=lambda host: (
            order.get(state_of(host) or "", len(order)),
            -(drops_of(host) or 0.0),
            -(rate_of(host) or 0.0),
            host["name"],
        ),
    )


def percentiles(values: Iterable[float | None]) -> dict[str, float | None]:
    """{'p50', 'p90', 'p99', 'p99.9', 'max'} of the known values, by nearest rank; None without any."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return {name: None for name, _share in PERCENTILES}
    # -(-a // b) rounds up in whole numbers: 0.999 * 1000 is not 999 in binary.
    return {name: known[max(-(-share * len(known) // 1000), 1) - 1] for name, share in PERCENTILES}


def compare(host: Host) -> str | None:
    """'better', 'worse' or None: this audit against the previous one."""
    state, then = state_of(host), host["previous"]
    if state is None or then is None or then["state"] is None:
        return None
    if state == "blind" and then["state"] != "blind":
        return "worse"
    now_grade, then_grade = _GRADE.get(state), _GRADE.get(then["state"])
    if now_grade is None or then_grade is None:
        return None
    if now_grade != then_grade:
        return "worse" if now_grade > then_grade else "better"
    return _compare_drops(drops_of(host), then["drops_percent"])


def _compare_drops(now: float | None, was: float | None) -> str | None:
    if now is None or was is None:
        return None
    change = now - was
    if abs(change) <= TOLERANCE_POINTS or abs(change) <= TOLERANCE_SHARE * was:
        return None
    return "worse" if change > 0 else "better"


def _names(hosts: Iterable[Host]) -> list[str]:
    return [host["name"] for host in hosts]


def _tally(words: Iterable[str], found: Iterable[str]) -> dict[str, int]:
    """{word: number of hosts}, every word, in our order."""
    counted = dict.fromkeys(words, 0)
    for item in found:
        counted[item] += 1
    return counted


def _fleet(
    hosts: Sequence[Host], policy: ReportPolicy, previous: Previous, monitoring: dict[str, Any] | None
) -> Fleet:
    states: dict[str, list[str]] = {state: [] for state in shape.STATES}
    for host in hosts:
        state = state_of(host)
        if state:
            states[state].append(host["name"])
    judged = [host["verdict"] for host in hosts if host["verdict"]]
    events, drops = _sums(hosts)
    fleet: Fleet = {
        "hosts": len(hosts),
        "ok": sum(host["status"] == "ok" for host in hosts),
        "unreachable": _names(host for host in hosts if host["status"] == "unreachable"),
        "failed": _names(host for host in hosts if host["status"] == "failed"),
        "monitored": _names(host for host in hosts if host["status"] == "monitored"),
        "monitoring": _monitoring(hosts, monitoring),
        "states": {state: len(names) for state, names in states.items()},
        "bottlenecks": _tally(shape.BOTTLENECKS, (item["bottleneck"] for item in judged)),
        "next_steps": _tally(shape.NEXT_STEPS, (item["next_step"] for item in judged)),
        "percentiles": _percentiles(hosts),
        "lines": list(shape.LINES),
        "events": events,
        "drops": drops,
        "drops_percent": 100.0 * drops / events if events else None,
        "drifting": _names(host for host in hosts if host["drift"]),
        "restart_required": _names(
            host for host in hosts if host["plan"] and host["plan"]["restart_required"]
        ),
        "predictions": _predictions(hosts),
        "since_last": _since_last(hosts, previous),
        "way": [],
        "headline": "",
        "breaches": [],
    }
    fleet["headline"] = _headline(fleet, policy)
    fleet["breaches"] = _breaches(fleet, states, _blind_rules(hosts), policy)
    return fleet


def _monitoring(hosts: Iterable[Host], given: dict[str, Any] | None) -> Monitoring | None:
    """The Prometheus that was asked, and whom it called healthy although the audit does not."""
    if given is None:
        return None
    sample = set(given["sample"])
    wrong = (host for host in hosts if host["name"] in sample and _GRADE.get(state_of(host) or "", 0))
    return {
        "server": given["server"],
        "problem": given["problem"],
        "sample": sorted(sample),
        "contradicted": _names(wrong),
    }


def _percentiles(hosts: Sequence[Host]) -> Percentiles:
    return {
        "method": "nearest-rank",
        "measured": sum(drops_of(host) is not None for host in hosts),
        "drops_percent": percentiles(map(drops_of, hosts)),
        "rate_per_cpu_guide": percentiles(map(rate_of, hosts)),
    }


def _predictions(hosts: Sequence[Host]) -> Predictions:
    """Of all hosts, and of hosts that are alike in what a prediction rests on."""
    classes: dict[tuple[Any, ...], list[float]] = {}
    for host in hosts:
        answer, lost = host["verdict"]["answer"] if host["verdict"] else None, drops_of(host)
        if answer and answer["predicted"] is not None and lost is not None:
            ruleset = _untrusted.dictionary(host["window"]).get("ruleset")
            alike = (host["driver"], host["cpus"], host["release"], ruleset, answer["against"])
            classes.setdefault(alike, []).append(abs(lost - answer["predicted"]))
    by_class: list[PredictionClass] = [
        {**dict(zip(ALIKE, alike)), **_errors(errors)}  # type: ignore[typeddict-item]
        for alike, errors in classes.items()
    ]
    by_class.sort(key=lambda item: (-(item["p90_error"] or 0.0), -item["hosts"], str(item["driver"])))
    whole = [error for errors in classes.values() for error in errors]
    return {**_errors(whole), "by_class": by_class[:MOST_CLASSES]}


def _errors(errors: list[float]) -> PredictionErrors:
    found = percentiles(errors)
    return {"hosts": len(errors), "median_error": found["p50"], "p90_error": found["p90"]}


def _sums(hosts: Iterable[Host]) -> tuple[int, int]:
    """(events, drops) of all windows with counters. Drop alerts cover bad seconds only."""
    windows = [
        host["window"]
        for host in hosts
        if drops_of(host) is not None
        and host["window"]
        and host["window"]["basis"] == "counters"
        and host["window"]["events"] is not None
    ]
    return sum(item["events"] for item in windows), sum(item["drops"] or 0 for item in windows)


def _since_last(hosts: Sequence[Host], previous: Previous) -> SinceLast:
    """What changed. A host is in gone once: when the newest audit before this one knew it."""
    seen = {name: shape.moment(item.get("seen") or item.get("at")) or "" for name, item in previous.items()}
    last = max(seen.values(), default=None) or None
    present = set(_names(hosts))
    return {
        "at": last,
        "better": _names(host for host in hosts if compare(host) == "better"),
        "worse": _names(host for host in hosts if compare(host) == "worse"),
        "new": [name for name in _names(hosts) if name not in previous] if previous else [],
        "gone": sorted(name for name, at in seen.items() if at == last and name not in present),
    }


def _headline(fleet: Fleet, policy: ReportPolicy) -> str:
    """One sentence: how many hosts lose events, how much the worst loses, and what is not known."""
    if not fleet["hosts"]:
        return "No hosts were audited."
    states = fleet["states"]
    parts = [_losses(fleet, policy)]
    for number, one, many in (
        (states["acceptable"], "loses a little", "lose a little"),
        (states["blind"], "is blind", "are blind"),
        (states["unmeasured"], "could not be measured", "could not be measured"),
        (states["no_syscalls"], "watches no system calls", "watch no system calls"),
        (len(fleet["unreachable"]), "could not be reached", "could not be reached"),
        (len(fleet["failed"]), "failed", "failed"),
    ):
        if number:
            parts.append("%d %s" % (number, either(number, one, many)))
    if fleet["monitored"]:
        parts.append(
            "%d %s not visited and %s by Prometheus"
            % (
                len(fleet["monitored"]),
                either(len(fleet["monitored"]), "was", "were"),
                either(len(fleet["monitored"]), "is healthy", "are healthy"),
            )
        )
    return "; ".join(parts) + "."


def _losses(fleet: Fleet, policy: ReportPolicy) -> str:
    states, measured = fleet["states"], fleet["percentiles"]["measured"]
    losing = states["dropping"] + states["overloaded"]
    if losing:
        worst = fleet["percentiles"]["drops_percent"]["max"]
        return "%d of %s %s events%s" % (
            losing,
            several(fleet["hosts"], "host"),
            either(losing, "loses", "lose"),
            ", the worst %s %%" % number_text(worst) if worst else "",
        )
    if not measured:
        visited = fleet["hosts"] - len(fleet["monitored"])
        return "Nothing is known about the losses of %s" % several(visited, "host")
    what = "events"
    if states["acceptable"]:
        what = "more than the accepted %s %% of events" % number_text(policy["accepted_drops_percent"])
    return "None of %s loses %s" % (several(measured, "host"), what)


# What is said of one host that breaks a rule, and of more.
_SAID = {
    "blind": ("is blind: Falco sees no events there", "are blind: Falco sees no events there"),
    "dropping": ("loses more events than the policy accepts", "lose more events than the policy accepts"),
    "overloaded": ("is too busy for Falco as configured", "are too busy for Falco as configured"),
    "acceptable": ("loses some events", "lose some events"),
    "unmeasured": ("could not be measured", "could not be measured"),
    "unreachable": ("could not be reached", "could not be reached"),
    "failed": ("could not be audited", "could not be audited"),
    "worse": ("is worse than at the last audit", "are worse than at the last audit"),
    "drift": ("differs from its last proven state", "differ from their last proven state"),
    "restart_required": ("needs a change that restarts Falco", "need a change that restarts Falco"),
    "blind_rules": (
        "has rules that see less than by default, as system calls are left out",
        "have rules that see less than by default, as system calls are left out",
    ),
}


def _blind_rules(hosts: Sequence[Host]) -> list[str]:
    """Names of the hosts on which rules are known to see less than by default."""
    return [
        host["name"]
        for host in hosts
        if host["sight"] and (host["sight"]["blind"] or host["sight"]["half_blind"])
    ]


def _breaches(
    fleet: Fleet, states: Mapping[str, list[str]], blind_rules: list[str], policy: ReportPolicy
) -> list[Breach]:
    """states: {state: names of the hosts in it}. blind_rules: of _blind_rules()."""
    found = {
        "unreachable": fleet["unreachable"],
        "failed": fleet["failed"],
        "worse": fleet["since_last"]["worse"],
        "drift": fleet["drifting"],
        "restart_required": fleet["restart_required"],
        "blind_rules": blind_rules,
        **states,
    }
    breaches: list[Breach] = []
    for rule in policy["fail_on"]:
        hosts = found[rule]
        if hosts:
            text = "%s %s." % (several(len(hosts), "host"), either(len(hosts), *_SAID[rule]))
            breaches.append({"rule": rule, "hosts": hosts, "text": text})
        if rule == "dropping":
            measured = sum(len(states[state]) for state in shape.MEASURED)
            breaches.extend(_too_many(states["acceptable"], measured, policy))
    return breaches


def _too_many(accepted: list[str], measured: int, policy: ReportPolicy) -> list[Breach]:
    """A little loss is acceptable on a small part of the fleet only."""
    if not accepted or 100.0 * len(accepted) <= policy["accepted_hosts_percent"] * measured:
        return []
    text = (
        "%d of %s (%s %%) %s up to %s %% of events; the policy accepts that on at most %s %% of the measured "
        "hosts."
    ) % (
        len(accepted),
        several(measured, "measured host"),
        number_text(100.0 * len(accepted) / measured),
        either(len(accepted), "loses", "lose"),
        number_text(policy["accepted_drops_percent"]),
        number_text(policy["accepted_hosts_percent"]),
    )
    return [{"rule": "dropping", "hosts": accepted, "text": text}]
