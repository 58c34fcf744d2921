# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Prometheus knows of each host's Falco → one group for each host. Pure.

Only what Prometheus can know is judged: whether Falco's counters move, and which share of its events Falco
lost. Why it loses them, what would help, and whether the host differs from its plan is for an audit.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import Monitored, MonitoredState
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._prometheus import queries, responses
from ansible_collections.falcotune.fleet.plugins.plugin_utils._prometheus.responses import Sample
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import fitted, number_text, some

STATES: tuple[MonitoredState, ...] = ("dropping", "blind", "stale", "healthy", "unknown")
# Two samples make a difference; a counter that stands still in two may move in the third.
FEWEST_SAMPLES = 3
HOURS_OF_A_WEEK = 24 * 7
# increase() extrapolates each counter alone, by at most half an interval at each end of the window.
TOLERANCE = 1.5
# A name that is no option of ssh. No names of the control node: each host's Prometheus agent may call its
# own Falco so.
NAME = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_.:-]{0,252}", re.ASCII)
LOOPBACK = re.compile(r"localhost(\..*)?|127\.[0-9.]+|::1|0\.0\.0\.0|::", re.ASCII | re.IGNORECASE)
NOT_SERIES = "Prometheus has no series of a Falco on this host in the last %s"

Target = frozenset[tuple[str, str]]


class Naming(NamedTuple):
    """How a target's labels name a host, as a relabelling rule of Prometheus does: values of the labels,
    joined by ';', must match the whole pattern. aliases: other names of hosts, such as addresses."""

    labels: tuple[str, ...]
    pattern: re.Pattern[str]
    replacement: str
    aliases: Mapping[str, str]

    def name(self, labels: Mapping[str, str]) -> str | None:
        """The host's name, or None where the labels give none that a host may have."""
        match = self.pattern.fullmatch(";".join(labels.get(label, "") for label in self.labels))
        name = match.expand(self.replacement) if match else ""
        name = self.aliases.get(name, name)
        return name if NAME.fullmatch(name) and not LOOPBACK.fullmatch(name) else None


class Limits(NamedTuple):
    """drops_percent: a larger share of lost events is dropping. stale_seconds: an older sample is stale.

    window and remember: the durations of the queries, for reasons.
    """

    drops_percent: float
    stale_seconds: float
    window: str
    remember: str


class Found(NamedTuple):
    hosts: dict[str, Monitored]
    nameless: list[str]  # what targets without a name are called, each once


def judge(given: Mapping[str, list[Sample]], naming: Naming, limits: Limits) -> Found:
    """The state of every host that Prometheus knows. given: the samples of each of queries.queries()."""
    shared: dict[Target, Target] = {}
    asked = {name: _by_target(samples, shared) for name, samples in given.items()}
    targets: dict[str, list[Target]] = {}
    nameless = set()
    for target in {target for known in asked.values() for target in known} - (
        set(asked["down"]) - set(asked["known"])
    ):
        name = naming.name(dict(target))
        if name is None:
            labels = dict(target)
            nameless.add(";".join(labels.get(label, "") for label in naming.labels))
        else:
            targets.setdefault(name, []).append(target)
    hosts = {name: _host(sorted(targets[name], key=sorted), asked, limits) for name in sorted(targets)}
    return Found(hosts, sorted(nameless))


def absent(remember: str) -> Monitored:
    """A host that Prometheus does not know."""
    return _result("unknown", NOT_SERIES % remember, {})


def sampled(names: Iterable[str], percent: float, hour: int) -> set[str]:
    """The hosts to look at in this hour, whatever Prometheus says of them.

    percent: of the hosts that are taken at most, rounded down; of any fleet at least one host is taken.
    hour: since the epoch. Runs in different hours take different hosts, so hourly runs are through a fleet
    in days. Runs in the same hour of each day are through it, too, after as many runs: the number of turns
    has no factor in common with the hours of a day and of a week. The order is that of a hash, so that
    neighbours in an inventory are not looked at together, and a new host moves few others.
    """
    order = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    turns = -(-len(order) // max(1, int(len(order) * percent / 100))) or 1
    while math.gcd(turns, HOURS_OF_A_WEEK) > 1:
        turns += 1
    first, end = (len(order) * number // turns for number in (hour % turns, hour % turns + 1))
    return set(order[first : max(end, first + 1)])


def _by_target(samples: Iterable[Sample], shared: dict[Target, Target]) -> dict[Target, list[Sample]]:
    """shared: the targets of all answers, so that each is in memory once. 50 000 take 20 MB an answer."""
    found: dict[Target, list[Sample]] = {}
    for sample in samples:
        labels = frozenset(item for item in sample.labels.items() if item[0] not in queries.OF_FALCO)
        found.setdefault(shared.setdefault(labels, labels), []).append(sample)
    return found


def _host(
    targets: list[Target], asked: Mapping[str, dict[Target, list[Sample]]], limits: Limits
) -> Monitored:
    """One host. Of several targets only one may be there now, as after a job was renamed."""
    there = [target for target in targets if target in asked["age"]]
    if len(there) > 1:
        told = some([_told(target) for target in there], 3, 120)
        reason = "%d targets are this host now (%s): choose one with selector" % (len(there), told)
        return _result("unknown", reason, {})
    target = (there or targets)[0]
    values = {name: _only(asked[name].get(target, [])) for name in ("age", "samples", "events", "drops")}
    release = next((sample.labels.get("version") for sample in asked["releases"].get(target, [])), None)
    known: Monitored = {**_result("unknown", "", dict(target)), "release": release, "age": values["age"]}
    if not there and not any(item in asked["known"] for item in targets):
        return {**known, "reason": "it has no %s, so whether its Falco runs is unknown" % queries.VERSION}
    if not there:
        failed = any(item in asked["down"] for item in targets)
        what = "its last scrape failed" if failed else "it is no target any more, or its Falco has no metrics"
        reason = "Prometheus had metrics of this Falco in the last %s, and has none now: %s"
        return {**known, "state": "stale", "reason": reason % (limits.remember, what)}
    if not responses.usable(values["age"]):
        return {**known, "age": None, "reason": "the time of its last sample makes no sense"}
    if (values["age"] or 0) > limits.stale_seconds:
        reason = "its last sample is %s s old" % number_text(values["age"])
        return {**known, "state": "stale", "reason": reason}
    doubt = _doubt(target, asked, release)
    return {**known, "reason": doubt} if doubt else _counted(known, values, limits)


def _doubt(target: Target, asked: Mapping[str, dict[Target, list[Sample]]], text: str | None) -> str | None:
    """Why the counters may be those of something else, or None."""
    release = releases.known(text)
    others = {sample.labels.get("evt_source", "") for sample in asked["sources"].get(target, [])}
    if others and (release is None or not release.counts_beside_plugins):
        return (
            "Falco %s has other event sources (%s), and before 0.41.1 their counters have the same names: an "
            "audit reads the right ones" % (fitted(text or "of an unknown release", 40), some(sorted(others)))
        )
    return None


def _counted(known: Monitored, values: Mapping[str, float | None], limits: Limits) -> Monitored:
    """What the counters of a Falco that is there say."""
    samples, events, drops = values["samples"], values["events"], values["drops"]
    if samples is None:
        reason = (
            "it has no event counters: metrics.kernel_event_counters_enabled is off, or Falco has no syscall "
            "source"
        )
        return {**known, "reason": reason}
    if samples < FEWEST_SAMPLES or events is None or drops is None:
        reason = "there are fewer than %d samples of its counters in the last %s"
        return {**known, "reason": reason % (FEWEST_SAMPLES, limits.window)}
    if not responses.usable(events) or not responses.usable(drops) or drops > events * TOLERANCE:
        told = (number_text(drops), number_text(events))
        return {**known, "reason": "its counters make no sense: %s of %s events lost" % told}
    found: Monitored = {**known, "events": events, "drops": drops}
    if not events:
        reason = "Falco runs, but counted no event in the last %s" % limits.window
        return {**found, "state": "blind", "reason": reason}
    percent = min(100.0, 100.0 * drops / events)
    state: MonitoredState = "dropping" if percent > limits.drops_percent else "healthy"
    reason = "%s %% of its events were lost in the last %s; the limit is %s %%" % (
        number_text(percent),
        limits.window,
        number_text(limits.drops_percent),
    )
    return {**found, "drops_percent": percent, "state": state, "reason": reason}


def _only(samples: list[Sample]) -> float | None:
    """The value of the one sample of a target; NaN, which is of no use, where there are several."""
    return (samples[0].value if len(samples) == 1 else float("nan")) if samples else None


def _told(target: Target) -> str:
    return ", ".join('%s="%s"' % item for item in sorted(target) if item[0] in ("job", "instance"))


def _result(state: MonitoredState, reason: str, labels: dict[str, str]) -> Monitored:
    return {
        "state": state,
        "reason": reason,
        "release": None,
        "age": None,
        "events": None,
        "drops": None,
        "drops_percent": None,
        "labels": labels,
    }
