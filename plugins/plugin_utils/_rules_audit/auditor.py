# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules files → what each rule costs, and what is wrong with them. Pure; works from files alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import (
    AuditLevel,
    Rule,
    RuleFinding,
    RulesAudit,
    RuleWeight,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases, selections
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.syscall_names import Names, names_for
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.words import SYSCALL
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import (
    condition,
    coverage,
    listing,
    lists,
    reach,
    ruleset,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules.entries import Wrong
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules_audit import (
    costs,
    estimates,
    forms,
    rewrites,
)

# Every kind of finding, with its level.
KINDS: dict[str, AuditLevel] = {
    "syntax": "error",
    "unknown_event": "error",
    "encoding": "warning",
    "no_evttype": "warning",
    "negative_evttype": "warning",
    "many_events": "warning",
    "mixed_events": "note",
    "operator": "warning",
    "equal_chain": "note",
    "order": "warning",
    "duplicate": "warning",
    "shadowed": "warning",
    "matching_all": "warning",
    "illegal_name": "warning",
    "dead": "warning",
    "ignored_io": "warning",
    "unselected": "warning",
    "evt_dir": "warning",
    "below_priority": "note",
    "keeps_calls": "note",
    "unused_macro": "note",
    "unused_list": "note",
    "unneeded_plugin": "warning",
    "noisy": "warning",
    "silent": "note",
    "output": "warning",
    "selection": "warning",
    "too_large": "warning",
}
INSTEAD = {
    "syntax": "correct the file: Falco does not start with it",
    "unknown_event": "name an event type that this release has, or set skip-if-unknown-filter",
    "encoding": "save the file as UTF-8",
    "no_evttype": "begin the condition with the event types that the rule is about: evt.type in (…) and …",
    "negative_evttype": "name the event types that the rule is about instead of those that it is not about",
    "many_events": "begin the condition with the event types that the rule is about",
    "illegal_name": "use the event's name, not the kernel's",
    "dead": "remove or disable the rule, or correct its event types",
    "ignored_io": "remove these event types, or select them with base_syscalls.all",
    "evt_dir": "remove the check of evt.dir",
    "selection": "correct this setting of falco.yaml",
    "too_large": "split the rule, or use lists with `in` instead of macros of macros",
}
# What these save is at most the whole rule: it goes, or it is evaluated for a few events instead of all.
WHOLE_RULE = frozenset(["no_evttype", "negative_evttype", "many_events", "duplicate", "shadowed"])
# A rule that matches more often than this, in matches an hour, is noise: one a minute.
NOISY_PER_HOUR = 60.0
# A rule without a match in this time may be dead weight, in seconds: 30 days.
SILENT_SECONDS = 30 * 86400.0
# Calls of at least this share of all events are worth a finding where one rule alone keeps them.
WORTH = 0.01
WORDS = re.compile(r"[ \t\n\r(),=]+")
NS_PER_PERCENT = 1e7  # one percent of a core in one second


class Host(NamedTuple):
    """What is known beside the files. All of it may be missing.

    priority, selection: Falco's `priority` and `rules`. matching: rule_matching. base_syscalls: custom_set,
    repair and all. rates: {kernel name: events a second}. matches: {rule: matches}, and matched_seconds in
    which they were counted.
    """

    priority: str = "debug"
    selection: Any = ()
    matching: str = "first"
    base_syscalls: Mapping[str, Any] = {}
    rates: Mapping[str, float] | None = None
    matches: Mapping[str, int] | None = None
    matched_seconds: float | None = None


NOTHING_KNOWN = Host()
NONE_DAMAGED: Mapping[str, int] = MappingProxyType({})


def audit(
    files: Iterable[tuple[object, object]],
    release: releases.Release | str,
    host: Host = NOTHING_KNOWN,
    damaged: Mapping[str, int] = NONE_DAMAGED,
) -> RulesAudit:
    """Audit rules files, [(name, text)] in the order in which Falco reads them.

    release: 0.35 or newer. damaged: {file: line of the first byte that is not UTF-8}.
    """
    if not isinstance(release, releases.Release):
        release = releases.release_for(release)
    compiled = ruleset.compiled(files, release, host.priority, host.selection)
    rules = Ruleset(compiled, release, host, damaged)
    return {**rules.of(host), "overrides": rewrites.overrides(rules.rewrites)}


class Ruleset:
    """What an audit says of rules and Falco's settings for them, whatever the host's events: worked out once
    for all hosts with the same rules and settings."""

    def __init__(
        self,
        compiled: ruleset.Compiled,
        release: releases.Release,
        host: Host,
        damaged: Mapping[str, int] = NONE_DAMAGED,
    ) -> None:
        self.compiled, self.release, self.host = compiled, release, host
        self.names: Names = names_for(release)
        self.estimator = estimates.Estimator(reach.Events(self.names), compiled.macros)
        self.rules = [rule for rule in compiled.resolved["rules"] if rule["enabled"]]
        self.syscall = [rule for rule in self.rules if rule["source"] == SYSCALL]
        self.selected = self._selected(self.syscall)
        self.findings: list[RuleFinding] = []
        for file, line in damaged.items():
            self.find("encoding", None, file, line, "the file is not UTF-8, so values may never match")
        self._resolved()
        self.alone = self._alone()
        self.costs = {rule["name"]: self._costs(rule) for rule in self.syscall}
        self.rewrites: list[tuple[str, rewrites.Rewrite]] = []
        for rule in self.syscall:
            self._forms(rule)
        self._overlaps()
        self._unseen()
        self._settings()
        self._unused()

    def of(self, host: Host) -> RulesAudit:
        """The audit of one host with these rules. host: its rates and matches are read."""
        return _Audit(self, host).whole()

    def find(
        self,
        kind: str,
        rule: str | None,
        file: str | None,
        line: int | None,
        text: str,
        instead: str = "",
        ns: float | None = None,
    ) -> None:
        self.findings.append(_finding(kind, rule, file, line, text, instead, ns))

    def about(self, kind: str, rule: Rule, text: str, instead: str = "", ns: float | None = None) -> None:
        self.find(kind, rule["name"], rule["file"], rule["line"], text, instead, ns)

    # -- what the resolver found

    def _resolved(self) -> None:
        for found in self.compiled.resolved["findings"]:
            kind = found["kind"] if found["kind"] in KINDS else "selection"
            tree = self.compiled.trees.get(found["rule"] or "")
            if kind in ("no_evttype", "many_events") and tree is not None:
                if forms.negative_types(tree, self.estimator):
                    kind = "negative_evttype"
            self.find(kind, found["rule"], found["file"], found["line"], found["text"])
        for rule in self.compiled.resolved["rules"]:
            if rule["disabled_by"] == "priority":
                self.about(
                    "below_priority",
                    rule,
                    "its priority %s is below `priority: %s` of falco.yaml, so Falco does not load it"
                    % (rule["priority"], self.host.priority),
                    "raise the rule's priority or lower that of falco.yaml, if it should be evaluated",
                )

    # -- cost

    def _selected(self, rules: list[Rule]) -> set[str]:
        base = self.host.base_syscalls
        found = selections.select(
            self.release,
            coverage.needs(rules, self.release),
            base.get("custom_set") or (),
            bool(base.get("repair")),
            bool(base.get("all")),
        )
        return set(found["kernel"])

    def _costs(self, rule: Rule) -> dict[str, float] | None:
        """{kernel name: nanoseconds} of the selected events of a rule; None where it is too large."""
        tree = self.compiled.trees[rule["name"]]
        known: dict[tuple[bool, ...], float] = {}
        found: dict[str, float] = {}
        try:
            self.estimator.size(tree)
            types = self.estimator.types(tree)
            for event in self._events(rule):
                signature = (event in estimates.SOCKETS, *(event in named for named in types))
                if signature not in known:
                    known[signature] = costs.RULE_NS + self.estimator.estimate(tree, event, {}).ns
                found[event] = known[signature]
        except estimates.TooLarge as error:
            self.about("too_large", rule, "%s, so its cost is not known" % error)
            return None
        return found

    def _events(self, rule: Rule) -> list[str]:
        return sorted(set(rule["kernel"]) & self.selected)

    # -- conditions

    def _forms(self, rule: Rule) -> None:
        tree = self.compiled.trees[rule["name"]]
        for advice in (*forms.operators(tree), *forms.equal_chains(tree)):
            self.about(advice.kind, rule, advice.text, advice.instead, advice.ns)
        events = self._events(rule)
        if not events:
            return
        try:
            busiest = max(events, key=lambda event: event in forms.FREQUENT)
            better = forms.order(tree, self.estimator, busiest)
        except estimates.TooLarge:
            return
        if better:
            self.about(better.kind, rule, better.text, better.instead, better.ns)
            self._rewrite(rule, busiest)
        self._mixed(rule)

    def _rewrite(self, rule: Rule, event: str) -> None:
        """Propose the better order as an override, where it is proven to be the same condition."""
        if not self.release.since(0, 37):
            return
        try:
            found = rewrites.rewritten(
                self.compiled.definitions.rules[rule["name"]].condition,
                lambda text: lists.expand(text, self.compiled.lists),
                self.estimator,
                event,
            )
        except (estimates.TooLarge, condition.ConditionError):
            return
        if found:
            self.rewrites.append((rule["name"], found))

    def _mixed(self, rule: Rule) -> None:
        calls = set(rule["kernel"])
        if not rule["restricted"] or len(calls) * 2 > ruleset.MANY_CODES:
            return
        actions = forms.actions(calls)
        frequent = [action for action in actions if set(action) & forms.FREQUENT]
        if len(actions) > 1 and frequent:
            self.about(
                "mixed_events",
                rule,
                "event types of %d actions in one rule (%s): every check is made for each of %s, which are "
                "frequent on many hosts"
                % (
                    len(actions),
                    "; ".join(", ".join(action) for action in actions),
                    ", ".join(sum(frequent, [])),
                ),
                "write one rule for each action",
            )

    # -- selection

    def _alone(self) -> dict[str, list[str]]:
        """{rule: kernel names that are selected for this rule only}."""
        wanted = Counter(call for rule in self.syscall for call in rule["kernel"])
        found = {}
        for rule in self.syscall:
            own = {call for call in rule["kernel"] if wanted[call] == 1} & self.selected
            if own:
                without = self._selected([other for other in self.syscall if other is not rule])
                calls = sorted(self.selected - without)
                if calls:
                    found[rule["name"]] = calls
        return found

    def _unseen(self) -> None:
        if not self.host.base_syscalls:
            return
        found = coverage.coverage(self.syscall, {"kernel": self.selected}, self.release)
        by_name = {rule["name"]: rule for rule in self.syscall}
        for item in found["blind"]:
            rule = by_name[item["rule"]]
            if rule["kernel"] and not set(rule["kernel"]) <= self.names.ignored:
                self.about(
                    "unselected",
                    rule,
                    "base_syscalls selects none of its event types (%s), so it never matches"
                    % ", ".join(item["lost"]),
                    "select them in base_syscalls, or disable the rule",
                )
        for item in found["wrong_output"]:
            fields = sorted({field for way in item["ways"] for field in way["fields"]})
            self.about(
                "output",
                by_name[item["rule"]],
                "with the selected system calls, these fields of its output can be missing or wrong: %s (%s)"
                % (", ".join(fields), "; ".join(coverage.way_text(way) for way in item["ways"])),
                "select these calls in base_syscalls, or remove the fields from the output",
            )

    # -- rules among each other

    def _overlaps(self) -> None:
        """Rules that can never match, because an earlier rule matches first, and rules that repeat one."""
        first = self.host.matching != "all"
        parts = self._parts()
        common = Counter(part for _rule, own in parts for part in own)
        # Each earlier rule stands under its rarest part: a rule that it covers has that part too.
        known: dict[str, list[tuple[Rule, frozenset[str]]]] = {}
        seen: set[tuple[frozenset[str], frozenset[str], str]] = set()
        for rule, own in parts:
            earlier = next(
                (
                    pair
                    for part in ("", *sorted(own))
                    for pair in known.get(part, ())
                    if self._covers(*pair, rule, own)
                ),
                None,
            )
            key = (own, frozenset(rule["kernel"]), rule["source"])
            if key not in seen:
                seen.add(key)
                rarest = min(own, key=lambda part: (common[part], part), default="")
                known.setdefault(rarest, []).append((rule, own))
            if earlier is None:
                continue
            other, theirs = earlier
            same = theirs == own and other["kernel"] == rule["kernel"]
            where = other["name"]
            if other["file"] != listing.ORIGIN:  # Falco lists no lines
                where += " (%s line %s)" % (other["file"], other["line"])
            if same:
                self.about(
                    "duplicate",
                    rule,
                    "its condition is that of %s%s"
                    % (where, ", which matches first: this rule never does" if first else ""),
                    "remove one of the two",
                )
            elif first:
                self.about(
                    "shadowed",
                    rule,
                    "%s stands before it and matches whatever this rule would match, so it never does"
                    % where,
                    "put this rule first, or exclude its case from the other rule",
                )

    def _parts(self) -> list[tuple[Rule, frozenset[str]]]:
        """The enabled rules with the parts of their conditions, without those that are too large."""
        found = []
        for rule in self.rules:
            try:
                found.append((rule, forms.conjuncts(self.compiled.trees[rule["name"]], self.estimator)))
            except estimates.TooLarge:
                continue
        return found

    @staticmethod
    def _covers(other: Rule, theirs: frozenset[str], rule: Rule, own: frozenset[str]) -> bool:
        return (
            theirs <= own
            and other["source"] == rule["source"]
            and set(rule["kernel"]) <= set(other["kernel"])
            and set(rule["other_events"]) <= set(other["other_events"])
            and (bool(rule["kernel"]) or rule["source"] != SYSCALL)
        )

    def _settings(self) -> None:
        if self.host.matching == "all":
            self.find(
                "matching_all",
                None,
                None,
                None,
                "rule_matching: all evaluates every rule for an event that has matched already",
                "rule_matching: first, unless you need all alerts of one event",
            )

    def _unused(self) -> None:
        defined = self.compiled.definitions
        texts = [macro.condition for macro in defined.macros.values()]
        for rule in defined.rules.values():
            try:
                texts.append(rule.whole_condition())
            except Wrong:
                texts.append(rule.condition)
        words: set[str] = set()
        for text in texts:
            words.update(WORDS.split(text))
        for one in defined.lists.values():
            words.update(one.items)
        for kind, group in (("macro", defined.macros), ("list", defined.lists)):
            for item in group.values():
                if item.name not in words:
                    self.find(
                        "unused_" + kind,
                        item.name,
                        item.file,
                        item.line,
                        "no rule, macro or list uses the %s" % kind,
                        "remove it, unless another file of yours changes it",
                    )


class _Audit:
    """One host: what its rules cost with its events."""

    def __init__(self, rules: Ruleset, host: Host) -> None:
        self.rules, self.host = rules, host
        self.findings: list[RuleFinding] = [{**item} for item in rules.findings]

    def whole(self) -> RulesAudit:
        """The audit."""
        rules, host = self.rules, self.host
        weights = [self._weigh(rule, rules.alone.get(rule["name"], [])) for rule in rules.rules]
        self._kept_alone(rules.alone)
        self._counted()
        self._shares(weights)
        self._gains(weights)
        percents = [weight["percent"] for weight in weights if weight["percent"] is not None]
        return {
            "release": str(rules.release),
            "ok": rules.compiled.resolved["ok"],
            "rules_total": len(rules.compiled.resolved["rules"]),
            "rules_enabled": len(rules.rules),
            "basis": "none" if host.rates is None else "profile",
            "cost": costs.SOURCE,
            "percent": None if host.rates is None else round(sum(percents), 3),
            "findings": self._sorted(),
            "weights": sorted(weights, key=_heaviest_first),
        }

    def about(self, kind: str, rule: Rule, text: str, instead: str) -> None:
        self.findings.append(_finding(kind, rule["name"], rule["file"], rule["line"], text, instead))

    def _weigh(self, rule: Rule, alone: list[str]) -> RuleWeight:
        weight: RuleWeight = {
            "rule": rule["name"],
            "file": rule["file"],
            "line": rule["line"],
            "tags": rule["tags"],
            "events": rule["events"] if rule["restricted"] else [],
            "ns": None,
            "rate": None,
            "percent": None,
            "share": None,
            "alone": alone,
            "findings": [],
        }
        if rule["source"] != SYSCALL:
            return weight
        by_event = self.rules.costs[rule["name"]]
        if by_event is None:
            return weight
        rates = self.host.rates
        if rates is not None:
            reached = {event: rates.get(event, 0.0) for event in by_event}
            rate = sum(reached.values())
            spent = sum(by_event[event] * reached[event] for event in by_event)
            weight["rate"], weight["percent"] = round(rate, 2), round(spent / NS_PER_PERCENT, 4)
        else:
            rate, spent = float(len(by_event)), sum(by_event.values())
        # Without any such event the plain mean is the best that can be said.
        mean = spent / rate if rate else sum(by_event.values()) / max(len(by_event), 1)
        weight["ns"] = round(mean, 1)
        return weight

    def _shares(self, weights: list[RuleWeight]) -> None:
        def of(weight: RuleWeight) -> float:
            if weight["percent"] is not None:
                return weight["percent"]
            return (weight["ns"] or 0.0) * (len(weight["events"]) or len(self.rules.selected))

        total = sum(map(of, weights))
        for weight in weights:
            if weight["ns"] is not None:
                weight["share"] = round(100.0 * of(weight) / total, 2) if total else 0.0

    def _gains(self, weights: list[RuleWeight]) -> None:
        by_name = {weight["rule"]: weight for weight in weights}
        for found in self.findings:
            weight = by_name.get(found["rule"] or "")
            if weight is None:
                continue
            if found["kind"] not in weight["findings"]:
                weight["findings"].append(found["kind"])
            if found["kind"] in WHOLE_RULE and found["saves_ns"] is None:
                found["saves_ns"] = weight["ns"]
            if found["saves_ns"] is not None and weight["rate"] is not None:
                found["saves_percent"] = round(found["saves_ns"] * weight["rate"] / NS_PER_PERCENT, 4)

    def _kept_alone(self, alone: Mapping[str, list[str]]) -> None:
        rates = self.host.rates
        total = sum((rates or {}).get(call, 0.0) for call in self.rules.selected)
        by_name = {rule["name"]: rule for rule in self.rules.syscall}
        for name, calls in alone.items():
            rule = by_name[name]
            if not rule["restricted"]:
                continue  # no_evttype says it
            if rates is None:
                kept = [call for call in calls if call in forms.FREQUENT]
                volume = ""
            else:
                kept = [call for call in calls if total and rates.get(call, 0.0) >= WORTH * total]
                rate = sum(rates.get(call, 0.0) for call in kept)
                volume = ": %.0f events/s, %.0f %% of all" % (rate, 100.0 * rate / total if total else 0)
            if kept:
                self.about(
                    "keeps_calls",
                    rule,
                    "Falco collects %s for this rule only%s" % (", ".join(kept), volume),
                    "without the rule these calls are not collected; disable it where you do not need it",
                )
                if rates is not None:
                    spent = sum(rates.get(call, 0.0) for call in kept) * costs.EVENT_NS
                    self.findings[-1]["saves_percent"] = round(spent / NS_PER_PERCENT, 4)

    def _counted(self) -> None:
        matches, seconds = self.host.matches, self.host.matched_seconds
        if matches is None or not seconds:
            return
        for rule in self.rules.rules:
            count = matches.get(rule["name"], matches.get(metric_name(rule["name"])))
            if count is None:
                continue
            hourly = count * 3600.0 / seconds
            if hourly >= NOISY_PER_HOUR and count >= NOISY_PER_HOUR:
                self.about(
                    "noisy",
                    rule,
                    "it matched %d times in %.1f hours: each match is formatted and sent"
                    % (count, seconds / 3600),
                    "add exceptions for what is normal on these hosts",
                )
            elif count == 0 and seconds >= SILENT_SECONDS:
                self.about(
                    "silent",
                    rule,
                    "it has not matched in %.0f days. That is no proof that it is not needed"
                    % (seconds / 86400),
                    "test that it still fires; keep it where the threat applies",
                )

    def _sorted(self) -> list[RuleFinding]:
        levels = ("error", "warning", "note")
        return sorted(
            self.findings,
            key=lambda item: (
                levels.index(item["level"]),
                -(item["saves_percent"] or 0.0),
                -(item["saves_ns"] or 0.0),
                list(KINDS).index(item["kind"]),
                item["file"] or "",
                item["line"] or 0,
            ),
        )


def _finding(
    kind: str,
    rule: str | None,
    file: str | None,
    line: int | None,
    text: str,
    instead: str = "",
    ns: float | None = None,
) -> RuleFinding:
    return {
        "level": KINDS[kind],
        "kind": kind,
        "rule": rule,
        "file": file,
        "line": line,
        "text": text,
        "instead": instead or INSTEAD.get(kind, ""),
        "saves_ns": None if ns is None else round(ns, 1),
        "saves_percent": None,
    }


def metric_name(rule: str) -> str:
    """A rule's name as Falco's metrics write it (userspace/falco/falco_metrics.cpp)."""
    return re.sub(r"[^a-zA-Z0-9_:]", "_", rule)


def _heaviest_first(weight: RuleWeight) -> tuple[float, float, str]:
    return (-(weight["percent"] or 0.0), -(weight["share"] or 0.0), weight["rule"])


def failing(audit: RulesAudit, fail_on: Collection[str]) -> list[RuleFinding]:
    """The findings that policy does not accept. fail_on: levels and kinds."""
    return [item for item in audit["findings"] if item["level"] in fail_on or item["kind"] in fail_on]


def lines(audit: RulesAudit, most: int = 20) -> Iterator[str]:
    """The audit as lines for people: the heaviest rules, then every finding."""
    yield "%d of %d rules enabled; %s; %s" % (
        audit["rules_enabled"],
        audit["rules_total"],
        "all rules: %.2f %% of a core" % audit["percent"]
        if audit["percent"] is not None
        else "events a second are not known, so weights are nanoseconds an event",
        audit["cost"],
    )
    for weight in audit["weights"][:most]:
        if weight["ns"] is not None:
            yield "  %s: %s" % (weight["rule"], weight_text(weight))
    for item in audit["findings"]:
        yield line(item)


def weight_text(weight: RuleWeight) -> str:
    """What a rule costs, in one clause."""
    rate = (
        "%.2f %% of a core at %.0f events/s" % (weight["percent"], weight["rate"] or 0)
        if weight["percent"] is not None
        else "%s event types" % (len(weight["events"]) or "all")
    )
    return "%.0f ns an event, %s, %.1f %% of what all rules cost" % (
        weight["ns"] or 0,
        rate,
        weight["share"] or 0.0,
    )


def gain_text(item: RuleFinding) -> str:
    """What following a finding saves, in brackets, or ''."""
    if item["saves_percent"] is not None:
        return " (saves up to %.2f %% of a core)" % item["saves_percent"]
    return " (saves up to %.0f ns an event)" % item["saves_ns"] if item["saves_ns"] is not None else ""


def line(item: RuleFinding) -> str:
    """One finding in one line: file, line, what is wrong, what to write."""
    place = str(item["file"]) if item["line"] is None else "%s:%s" % (item["file"], item["line"])
    where = "%s: " % place if item["file"] else ""
    who = "%s: " % item["rule"] if item["rule"] else ""
    return "%s%s: %s%s. %s%s" % (where, item["level"], who, item["text"], item["instead"], gain_text(item))
