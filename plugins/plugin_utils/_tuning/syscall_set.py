# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""rules + volume + policy + target → the cheapest base_syscalls, and which rules lose what. Pure.

The lossless step is `repair: true` and the calls that carry the state which the enabled rules' fields read.
Repair alone drops many of them (fcntl, accept, dup, recvmsg, setreuid). Beside repair, a positive custom_set
adds calls and does nothing else.

Exclusions follow where policy says exclude. Those come first that save the most events for what rules lose: a
share of their own events, or ways in which their fields come by their values. A protected rule loses neither,
and a required call is always selected.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import Policy, Rule
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases, selections
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.syscall_names import REPAIR, names_for
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.words import PRIORITIES, SYSCALL
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import coverage, state
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import syscall_volume
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning.syscall_volume import Volume

# An exclusion that saves a smaller share of the events is not worth what a rule loses.
LEAST = 0.001
# Calls with a smaller share of what is watched are not kept of a profile.
LEAST_SHARE = 0.01
# Steps of the frontier. After so many, the rest is small.
MOST_STEPS = 30
# What a wrong value in an output weighs against one in a condition: the rule still fires.
OUTPUT_ONLY = 0.1
# Stands for the rules that an exclusion loses where it loses none, so that volume orders such exclusions.
NOTHING = 1e-9


class SetError(ValueError):
    """The policy and the rules contradict each other. The text says which rule or call, and what to do."""


class Exclusions(NamedTuple):
    """names: what is excluded so far, as event names. left: kernel names that are still selected."""

    names: list[str]
    left: set[str]


class _Choice:
    """The rules and calls of one host, in kernel names."""

    def __init__(
        self, rules: Iterable[Rule], release: releases.Release, policy: Policy, current: Mapping[str, Any]
    ) -> None:
        self.release, self.policy = release, policy
        self.names = names_for(release)
        self.rules = [rule for rule in rules if rule["enabled"] and rule["source"] == SYSCALL]
        self.wanted = _union(rule["kernel"] for rule in self.rules) & self.names.kernel
        self.all = bool(current.get("all")) and release.has("base_syscalls.all")
        self.before = self.selected(current.get("custom_set"), bool(current.get("repair")))
        self.required = self._required()
        self.protected = [rule for rule in self.rules if _protects(policy, rule)]
        self.needs = {rule["name"]: state.needs(rule, release) for rule in self.rules}
        self.weights = self._weights()

    def _weights(self) -> dict[tuple[str, ...], float]:
        """{calls: what rules lose without them}.

        All ways of a rule together weigh as much as one rule, or less where only its output reads them. A
        call that the rule names itself is its event, not a way.
        """
        weights: dict[tuple[str, ...], float] = {}
        for rule in self.rules:
            needs = [need for need in self.needs[rule["name"]] if not set(need.calls) & set(rule["kernel"])]
            for need in needs:
                weight = (OUTPUT_ONLY if need.only_output else 1.0) / len(needs)
                weights[need.calls] = weights.get(need.calls, 0.0) + weight
        return weights

    def carrying(self, kernel: set[str]) -> dict[str, set[str]]:
        """{kernel name: names of the rules whose fields need it}, of what a selection lacks."""
        missing: dict[str, set[str]] = {}
        for rule in self.rules:
            for need in self.needs[rule["name"]]:
                if not kernel & set(need.calls):
                    for call in need.calls:
                        missing.setdefault(call, set()).add(rule["name"])
        return missing

    def selected(self, custom_set: Any, repair: bool) -> set[str]:
        entries = selections.entries_of(custom_set)
        added = self.names.kernel_of(item for item in entries if not item.startswith("!"))
        removed = self.names.kernel_of(item[1:] for item in entries if item.startswith("!"))
        return selections.stages(self.names, self.wanted, added, removed, repair, bool(entries), self.all)[-1]

    def _required(self) -> set[str]:
        for key in ("required_syscalls", "excludable_syscalls"):
            for name in self.policy[key]:
                if name not in self.names.events:
                    raise SetError(
                        "falco_tune_%s holds %r: %s"
                        % (key, name, selections.nearest(name, self.release)["text"])
                    )
        for name in self.policy["required_syscalls"]:
            if not self.all and self.names.kernel_of({name}) <= self.names.ignored:
                raise SetError(
                    "falco_tune_required_syscalls holds %s, which Falco watches only with "
                    "base_syscalls.all: true (-A before 0.40)" % name
                )
        return self.names.kernel_of(self.policy["required_syscalls"])

    def watchable(self, rule: Rule) -> set[str]:
        """What this Falco would select for a rule if nothing were excluded."""
        return set(rule["kernel"]) & self.names.kernel - (set() if self.all else self.names.ignored)

    def needed(self, kernel: frozenset[str] | set[str], events_only: bool = False) -> str | None:
        """Why the policy does not give up any of these calls, or None.

        events_only: consider only the events that rules name, not the state that calls carry.
        """
        found = self.required & kernel
        if found:
            return "%s is required (falco_tune_required_syscalls)" % ", ".join(
                sorted(self.names.exact_events(found))
            )
        for rule in self.protected:
            found = self.watchable(rule) & kernel
            if found:
                return "the rule '%s' is protected and needs %s" % (
                    rule["name"],
                    ", ".join(sorted(self.names.exact_events(found))),
                )
            for need in () if events_only else self.needs[rule["name"]]:
                if set(need.calls) <= kernel:
                    return "the rule '%s' is protected and %s reads %s, which needs %s" % (
                        rule["name"],
                        ", ".join(need.fields),
                        need.way,
                        " or ".join(sorted(self.names.exact_events(need.calls))),
                    )
        return None

    def violated(self, kernel: set[str], events_only: bool = False) -> str | None:
        """Why the policy does not allow a selection, or None."""
        return self.needed(self.names.kernel - kernel, events_only)

    def lost(self, kernel: set[str], volume: Volume) -> float:
        """What a selection loses against the present one, in rules.

        Each rule counts with the share of its own events that it loses, and each way with its weight.
        """
        total = 0.0
        for rule in self.rules:
            had = self.before & set(rule["kernel"])
            gone = had - kernel
            if gone:
                whole = volume.total(had)
                total += volume.total(gone) / whole if whole else len(gone) / float(len(had))
        return total + sum(weight for calls, weight in self.weights.items() if not kernel & set(calls))


def _union(sets: Iterable[Iterable[str]]) -> set[str]:
    return {item for one in sets for item in one}


def _protects(policy: Policy, rule: Rule) -> bool:
    least = policy["protected_priority"]
    return (
        rule["name"] in policy["protected_rules"]
        or bool(set(rule["tags"]) & set(policy["protected_tags"]))
        or least != "none"
        and PRIORITIES.index(rule["priority"]) <= PRIORITIES.index(least)
    )


def choose(
    rules: Iterable[Rule],
    release: releases.Release | str,
    policy: Policy,
    current: Mapping[str, Any] | None = None,
    profile: Mapping[str, Any] | None = None,
    drops: object = None,
    rate: object = None,
    target: float | None = None,
    proved: Callable[[dict[str, float]], Collection[str]] | None = None,
    restore: bool = False,
) -> dict[str, Any]:
    """The cheapest base_syscalls that reaches a target.

    release: 0.35 or newer. policy: syscalls, base_syscalls, required_syscalls, protected_rules,
    protected_tags and protected_priority are read. current: {'custom_set', 'repair', 'all'} in force.
    profile, drops, rate: see syscall_volume.measured(). target: events a second to come down to, or None
    for as low as repair goes. proved: a function from the shares of the calls (below) to the names that may
    be excluded; None: all may. restore: give back what the rules lose now, whatever it costs.

    → 'syscalls' of a plan:
       {'repair', 'custom_set', 'all', 'selected', 'added', 'removed', 'basis' (syscall_volume.Basis),
        'target_events_per_second', 'reached',
        'before': {'events_per_second', 'syscalls'}, 'after': the same,
        'coverage': coverage.Coverage with 'rules_total' and 'newly', the rules that lose more,
        'state': [{'call', 'events_per_second', 'rules'}], what repair alone would not select,
        'frontier': [{'exclude', 'events_per_second', 'rules_blind', 'rules_half_blind', 'lost'}],
        'reasons', 'warnings',
        'shares': {event name: its share of what is watched now, by the profile}, from 1 % upwards, without
        the calls of the busiest user and of the busiest control group (see _shares()),
        'unproved': why an exclusion that would help is not made yet, or None,
        'back': coverage.Coverage of the rules that lose less with it than now}

    Raises SetError where the policy cannot be met.
    """
    if not isinstance(release, releases.Release):
        release = releases.release_for(release)
    current = dict({"custom_set": [], "repair": False, "all": False}, **(current or {}))
    choice = _Choice(rules, release, policy, current)
    volume = syscall_volume.measured(release, choice.before, profile, drops, rate)
    found = _Found(choice, volume, current)
    if policy["base_syscalls"]:
        found.entries, found.repair = _fixed(choice, policy, current)
        found.reasons.append("policy says so (falco_tune_base_syscalls)")
    elif restore:
        _restore(choice, found)
    elif policy["syscalls"] != "keep":
        _narrow(choice, volume, found, target, proved)
    return _answer(choice, volume, target, found)


def share(
    rules: Iterable[Rule],
    release: releases.Release,
    policy: Policy,
    smaller: Mapping[str, Any],
    larger: Mapping[str, Any],
    profile: Mapping[str, Any] | None,
) -> float | None:
    """The events of one selection in those of another, by a profile of the host; None without one.

    smaller, larger: {'custom_set', 'repair'}.
    """
    one, other = (_Choice(rules, release, policy, current).before for current in (smaller, larger))
    volume = syscall_volume.measured(release, other, profile)
    events, whole = volume.of(one), volume.of(other)
    return events / whole if whole and events is not None else None


class _Found:
    """What choose() has found so far: base_syscalls, and the reasons for them."""

    def __init__(self, choice: _Choice, volume: Volume, current: Mapping[str, Any]) -> None:
        self.entries, self.repair = selections.entries_of(current["custom_set"]), bool(current["repair"])
        self.shares = _shares(choice, volume)
        self.unproved: str | None = None
        self.frontier: list[dict[str, Any]] = []
        self.reasons: list[str] = []


def _narrow(
    choice: _Choice,
    volume: Volume,
    found: _Found,
    target: float | None,
    proved: Callable[[dict[str, float]], Collection[str]] | None,
) -> None:
    """Take the lossless step, and exclude where the policy allows it."""
    entries = _freed(choice, found.entries, found.reasons)
    entries, repair = _lossless(choice, entries, found.repair, volume, found.reasons)
    steps = list(_steps(choice, entries, repair, volume))
    found.frontier = [_point(choice, step, volume, previous) for previous, step in zip([None, *steps], steps)]
    if choice.policy["syscalls"] == "exclude" and target is not None:
        allowed = None if proved is None else proved(found.shares)
        entries, found.unproved = _exclude(
            choice, entries, repair, volume, steps, target, found.reasons, allowed
        )
    found.entries, found.repair = entries, repair


def _restore(choice: _Choice, found: _Found) -> None:
    """The lossless set, without the exclusions that take anything from a rule."""
    kept = []
    for item in found.entries:
        calls = choice.names.kernel_of({item[1:]}) if item.startswith("!") else frozenset()
        if calls & choice.wanted or any(
            set(need.calls) <= calls for needs in choice.needs.values() for need in needs
        ):
            found.reasons.append("%s is taken out: rules need it" % item)
        else:
            kept.append(item)
    lean = _with_required(choice, kept, True)
    more = _missing(choice, lean)[1]
    found.entries, found.repair = lean + [name for name in more if name not in lean], True


def _missing(choice: _Choice, lean: list[str]) -> tuple[dict[str, set[str]], list[str]]:
    """({kernel name: rules whose fields need it}, what to add to a custom_set for that) beside repair."""
    refused = choice.names.kernel_of(item[1:] for item in lean if item.startswith("!"))
    found = choice.carrying(choice.selected(lean, True))
    missing = {call: rules for call, rules in found.items() if call not in refused}
    more = sorted(choice.names.exact_events(set(missing)))
    # In custom_set, accept selects accept4 too.
    return missing, [name for name in more if name != "accept4" or "accept" not in more]


def _unknown_fields(choice: _Choice) -> list[str]:
    """A warning for each rule that reads fields of which the calls are not known."""
    return [
        "the rule '%s' reads %s, and it is not known which calls that needs: every call that Falco "
        "collects for its state is kept for it" % (rule["name"], ", ".join(unknown))
        for rule in choice.rules
        if (unknown := state.unknown_fields(rule))
    ]


def _fixed(choice: _Choice, policy: Policy, current: Mapping[str, Any]) -> tuple[list[str], bool]:
    fixed = policy["base_syscalls"]
    entries = selections.entries_of(fixed.get("custom_set", current["custom_set"]))
    for item in selections.entries_of(fixed.get("custom_set")):
        if item.removeprefix("!") not in choice.names.events:
            raise SetError(
                "falco_tune_base_syscalls holds %r: %s"
                % (item, selections.nearest(item, choice.release)["text"])
            )
    repair: bool = fixed.get("repair", bool(current["repair"]))
    choice.all = bool(fixed.get("all", choice.all)) and choice.release.has("base_syscalls.all")
    broken = choice.violated(choice.selected(entries, repair), events_only=True)
    if broken:
        raise SetError("falco_tune_base_syscalls cannot be applied: %s" % broken)
    return entries, repair


def _freed(choice: _Choice, entries: list[str], reasons: list[str]) -> list[str]:
    """custom_set without the exclusions that the policy forbids."""
    kept = []
    for item in entries:
        why = choice.needed(choice.names.kernel_of({item[1:]})) if item.startswith("!") else None
        if why:
            reasons.append("%s is taken out: %s" % (item, why))
        else:
            kept.append(item)
    return kept


def _lossless(
    choice: _Choice, entries: list[str], repair: bool, volume: Volume, reasons: list[str]
) -> tuple[list[str], bool]:
    """(custom_set, repair) of the lossless step, or as they are where that step saves nothing.

    The step is repair, the calls that the fields of rules need beside it, and the calls that the policy
    requires. A custom_set without repair may be narrower because an administrator chose so. It is left as it
    is, and coverage tells what it costs.
    """
    lean = _with_required(choice, entries, True)
    missing, more = _missing(choice, lean)
    whole = lean + [name for name in more if name not in lean]
    then = choice.selected(whole, True)
    if not repair:
        asis = _with_required(choice, entries, False)
        named = choice.names.kernel_of(item for item in entries if not item.startswith("!"))
        # Without repair, calls in custom_set replace Falco's own set, so none is added to an empty one.
        now = choice.selected(asis, False) if named or asis == entries else None
        if now is not None and not _saves(volume, now, then):
            if asis != entries:
                reasons.append(_required_text(asis, entries))
            return asis, False
        reasons.append(
            "base_syscalls.repair: true, and beside it %d calls that the fields of rules need, leave out "
            "%d calls that no rule needs%s"
            % (len(more), len((now or choice.before) - then), _rates_text(volume, choice.before, then))
        )
    elif more:
        rules = _union(missing.values())
        reasons.append(
            "base_syscalls.repair: true alone leaves out calls that the fields of %d rules need%s"
            % (len(rules), _rates_text(volume, choice.before, then))
        )
    if more:
        reasons.append("added for what rules read: %s" % _costs_text(choice, more, volume))
    if lean != entries:
        reasons.append(_required_text(lean, entries))
    return whole, True


def _saves(volume: Volume, now: set[str], then: set[str]) -> bool:
    """Whether a selection saves enough to be worth a change."""
    if volume.basis == "none":
        return len(then) < len(now)
    return volume.total(then) < (1 - LEAST) * volume.total(now)


def _required_text(entries: list[str], before: list[str]) -> str:
    added = ", ".join(item for item in entries if item not in before)
    return "%s added: required (falco_tune_required_syscalls)" % added


def _rates_text(volume: Volume, before: set[str], after: set[str]) -> str:
    if volume.basis == "none":
        return ""
    return ": %s instead of %s events/s" % (_short(volume.total(after)), _short(volume.total(before)))


def _costs_text(choice: _Choice, calls: Sequence[str], volume: Volume) -> str:
    """Calls with the cost of each, the most expensive first."""
    if volume.basis == "none":
        return ", ".join(calls)
    costs = {name: volume.total(choice.names.kernel_of({name})) for name in calls}
    dear = sorted((name for name in calls if costs[name] >= 1), key=lambda name: (-costs[name], name))
    texts = ["%s (%s events/s)" % (name, _short(costs[name])) for name in dear]
    cheap = [name for name in calls if name not in dear]
    if cheap:
        known = "less than 1 event/s each" if volume.basis == "profile" else "not estimated"
        texts.append("%s (%s)" % (", ".join(cheap), known))
    return ", ".join(texts)


def _with_required(choice: _Choice, entries: list[str], repair: bool) -> list[str]:
    """custom_set with the calls that the policy requires and that would not be selected."""
    missing = choice.required - choice.selected(entries, repair)
    return sorted(choice.names.exact_events(missing)) + entries


def _excluding(entries: list[str], names: Iterable[str]) -> list[str]:
    """custom_set without some names. A name that it lists is removed from it; any other is excluded."""
    named = {name for name in names if name in entries}
    return [item for item in entries if item not in named] + [
        "!" + name for name in names if name not in named
    ]


def _shares(choice: _Choice, volume: Volume) -> dict[str, float]:
    """The share of each call in what is watched now, by a profile. A host remembers these.

    The calls of the user and of the control group that make the most of them do not count, so that neither
    chooses what Falco no longer sees; unless the policy says of a call that it does not matter who makes it.
    """
    whole = volume.of(choice.before) if volume.basis == "profile" else None
    if not whole:
        return {}
    found = {}
    for name in choice.names.exact_events(choice.before):
        kernel = choice.names.kernel_of({name}) & choice.before
        counted = volume.total if name in choice.policy["excludable_syscalls"] else volume.without_the_busiest
        # Rounded down: what is remembered must not reach a limit that was not reached.
        found[name] = int(1000 * counted(kernel) / whole) / 1000.0
    return {name: share for name, share in sorted(found.items()) if share >= LEAST_SHARE}


def _exclude(
    choice: _Choice,
    entries: list[str],
    repair: bool,
    volume: Volume,
    steps: list[Exclusions],
    target: float,
    reasons: list[str],
    allowed: Collection[str] | None,
) -> tuple[list[str], str | None]:
    """(custom_set, why an exclusion that would help is not made yet, or None).

    allowed: names that may be excluded; None: all.
    """
    free = _enough(choice, entries, repair, volume, steps, target, reasons if allowed is None else [])
    if allowed is None or free == entries:
        return free, None
    some = list(_steps(choice, entries, repair, volume, allowed))
    chosen = _enough(choice, entries, repair, volume, some, target, reasons)
    if chosen != entries:
        return chosen, None
    lacking = sorted(name for name in _left_out(entries, free) if name not in allowed)
    why = (
        "%s would have to be excluded, which needs two profiles of the host, falco_tune_exclude_hours "
        "apart, in which it makes at least 5 %% of what is watched without its busiest user and without its "
        "busiest control group, or is listed in falco_tune_excludable_syscalls" % ", ".join(lacking)
    )
    if volume.basis != "profile":
        why += "; there is none now (falco_tune_profile_seconds)"
    elif not volume.shared:
        why += "; who made the calls is not known"
    reasons.append("nothing is excluded yet: %s" % why)
    return entries, why


def _left_out(entries: list[str], then: list[str]) -> set[str]:
    """The names that only one of two custom_sets excludes or lists."""
    return {item.removeprefix("!") for item in set(entries) ^ set(then)}


def _steps(
    choice: _Choice, entries: list[str], repair: bool, volume: Volume, allowed: Collection[str] | None = None
) -> Iterator[Exclusions]:
    """One exclusion after the other. Each is the one that saves the most events for what rules lose.

    allowed: names that may be excluded; None: all.
    """
    if volume.basis == "none":
        return
    kernel = choice.selected(entries, repair)
    whole = volume.total(choice.before) or 1.0
    excluded: list[str] = []
    for _number in range(MOST_STEPS):
        now, cost = volume.total(kernel), choice.lost(kernel, volume)
        best: tuple[tuple[float, float], str, set[str]] | None = None
        for name in sorted(choice.names.exact_events(kernel - REPAIR)):
            if allowed is not None and name not in allowed:
                continue
            left = choice.selected(_excluding(entries, excluded + [name]), repair)
            saved = now - volume.total(left)
            if saved < LEAST * whole or choice.violated(left):
                continue
            # Calls of one rule are worth the same for each share of it, so the larger one comes first.
            worth = (float("%.6g" % (saved / max(choice.lost(left, volume) - cost, NOTHING))), saved)
            if best is None or worth > best[0]:
                best = (worth, name, left)
        if best is None:
            return
        excluded, kernel = excluded + [best[1]], best[2]
        yield Exclusions(excluded, kernel)


def _point(choice: _Choice, step: Exclusions, volume: Volume, previous: Exclusions | None) -> dict[str, Any]:
    """A step as the report shows it."""
    now = _covered(choice, step.left)
    before = _covered(choice, previous.left if previous else choice.before)
    return {
        "exclude": list(step.names),
        "events_per_second": round(volume.total(step.left), 1),
        "rules_blind": len(now["blind"]),
        "rules_half_blind": len(now["half_blind"]),
        "lost": coverage.more_lost(before, now),
    }


def _enough(
    choice: _Choice,
    entries: list[str],
    repair: bool,
    volume: Volume,
    steps: list[Exclusions],
    target: float,
    reasons: list[str],
) -> list[str]:
    """The first step that reaches the target, without the exclusions that it does not need."""
    if volume.basis == "none":
        reasons.append("nothing is excluded: no volume per system call was measured")
        return entries
    if volume.total(choice.selected(entries, repair)) <= target or not steps:
        return entries
    chosen = next((step.names for step in steps if volume.total(step.left) <= target), None)
    if chosen is None:
        reasons.append(
            "nothing is excluded: all that policy allows would come down to %s events/s only, so rules would "
            "lose events for no gain" % _short(volume.total(steps[-1].left))
        )
        return entries
    needed = list(chosen)
    for name in chosen:
        fewer = [other for other in needed if other != name]
        left = choice.selected(_excluding(entries, fewer), repair)
        if volume.total(left) <= target and not choice.violated(left):
            needed = fewer
    for name in needed:
        only = volume.total(choice.names.kernel_of({name}))
        reasons.append("leaving out %s saves %s events/s" % (name, _short(only)))
    return _excluding(entries, sorted(needed))


def _covered(choice: _Choice, kernel: set[str]) -> coverage.Coverage:
    return coverage.coverage(choice.rules, {"kernel": kernel}, choice.release)


def _short(number: float) -> str:
    return "%.3g" % number if number < 1000 else "%.0f" % number


def _answer(choice: _Choice, volume: Volume, target: float | None, found: _Found) -> dict[str, Any]:
    entries, repair = found.entries, found.repair
    kernel = choice.selected(entries, repair)
    made = selections.select(
        choice.release, choice.names.exact_events(choice.wanted), entries, repair, choice.all
    )
    before, after = _covered(choice, choice.before), _covered(choice, kernel)
    rates = volume.of(choice.before), volume.of(kernel)
    events_before = choice.names.events_of(choice.before)
    warnings = [item["text"] for item in made["warnings"]] + _unknown_fields(choice)
    broken = choice.violated(kernel)
    if broken:
        warnings.append("policy is not kept by what is configured: %s" % broken)
    return {
        "repair": repair,
        "custom_set": entries,
        "all": choice.all,
        "selected": made["selected"],
        "added": sorted(set(made["selected"]) - events_before),
        "removed": sorted(events_before - set(made["selected"])),
        "basis": volume.basis,
        "target_events_per_second": None if target is None else round(float(target), 1),
        "reached": None if target is None or rates[1] is None else rates[1] <= target,
        "before": {
            "events_per_second": None if rates[0] is None else round(rates[0], 1),
            "syscalls": len(events_before),
        },
        "after": {
            "events_per_second": None if rates[1] is None else round(rates[1], 1),
            "syscalls": len(made["selected"]),
        },
        "coverage": {
            "rules_total": len(choice.rules),
            "blind": after["blind"],
            "half_blind": after["half_blind"],
            "wrong_output": after["wrong_output"],
            "newly": coverage.more_lost(before, after),
        },
        "state": _state_calls(choice, kernel, repair, volume),
        "frontier": found.frontier,
        "reasons": found.reasons,
        "warnings": warnings,
        "shares": found.shares,
        "unproved": found.unproved,
        "back": _back(before, after),
    }


def _back(before: coverage.Coverage, after: coverage.Coverage) -> coverage.Coverage:
    """What the rules lose before that see more after."""
    more = coverage.more_lost(before=after, after=before)
    blind, half_blind, wrong_output = (
        [item for item in found if item["rule"] in more]
        for found in (before["blind"], before["half_blind"], before["wrong_output"])
    )
    return {"blind": blind, "half_blind": half_blind, "wrong_output": wrong_output}


def _state_calls(choice: _Choice, kernel: set[str], repair: bool, volume: Volume) -> list[dict[str, Any]]:
    """What is selected for the state of rules and would not be selected by repair alone."""
    if not repair:
        return []
    missing = choice.carrying(choice.selected([], True))
    found = []
    for name in sorted(choice.names.exact_events(set(missing) & kernel)):
        calls = choice.names.kernel_of({name}) & set(missing) & kernel
        cost = volume.of(calls)
        found.append(
            {
                "call": name,
                "events_per_second": None if cost is None else round(cost, 1),
                "rules": len(_union(missing[call] for call in calls)),
            }
        )
    return found
