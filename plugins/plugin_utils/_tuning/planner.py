# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""facts + policy → plan (_contracts.Plan). Pure: the same input gives the same plan, byte for byte."""

from __future__ import annotations

import posixpath
from typing import Any, Iterable, Literal, NamedTuple, cast

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import (
    Bridged,
    Buffers,
    Change,
    ChosenBuffers,
    Drift,
    Facts,
    LoadedRules,
    Plan,
    Policy,
    StepOutcome,
    Verdict,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import drivers, releases, selections
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.configuration import Settings
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.releases import Release
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import (
    answers,
    buffers,
    changes,
    drift,
    effects,
    host_needs,
    placement,
    plugin_selection,
    policies,
    restore,
    rule_selection,
    steps,
    syscall_set,
    twins,
    verdicts,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning.refusals import PlanError
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning.effects import Case
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning.steps import Setting, Step


def make(
    facts: Facts, given: Policy | None, closing: bool = False, like_it: tuple[list[StepOutcome], ...] = ()
) -> Plan:
    """The plan for one host. Raises PlanError or PolicyError; both before anything is touched.

    closing: the host was changed and is only judged: what had no effect is taken back, and no step follows.
    like_it: what steps came to on hosts like this one, a list for each (twins.outcomes()).
    """
    policy = policies.complete(given)
    release = _release(facts)
    if facts["host"]["unfinished"]:
        return _recovery(facts, release)
    _refuse(facts)
    driver = _driver(facts, policy, release)
    settings = Settings(facts["config"]["effective"], release)
    now = buffers.in_force(settings, driver)
    case = Case(facts, policy, release, verdicts.judge(facts, policy), driver, now, like_it)
    return _plan(case, settings, closing)


def _plan(case: Case, settings: Settings, closing: bool) -> Plan:
    """The plan for one host that can have one."""
    facts, policy, release, driver = case.facts, case.policy, case.release, case.driver
    place = placement.target(facts["config"], policy, release)
    metrics = host_needs.metrics(settings, policy, facts)
    made = _differing(settings, metrics.settings)
    choices = _choose(case, settings, place, bool(metrics.path) and not made, closing)
    made += _differing(settings, choices.settings)
    values = _values(made, choices.rules.disabled, facts, place, release)
    placement.refuse_overridden(values, facts["config"], place, release)
    needs = host_needs.around(facts, policy, driver, metrics.path, choices.step)
    made += needs.changes + _of_what_runs(facts)
    restart = any(item["kind"] not in changes.WITHOUT_RESTART for item in made)
    return {
        "release": str(release),
        "driver": driver,
        "layout": place.layout,
        "target": place.path,
        "settings": placement.blocks(values, facts["config"], place, release, driver),
        "changes": made if restart else made + (_proven_again(facts) or _profile_kept(choices.step)),
        "buffers": choices.buffers,
        "buffers_before": choices.current,
        "seconds_bridged": _bridged(driver, facts, choices),
        "metrics_file": metrics.proof,
        "sysctls": needs.sysctls,
        "directories": needs.directories,
        "rotate": needs.rotate,
        "unit_dropin": needs.unit_dropin,
        "host_files": needs.files,
        "warnings": _warnings(facts, settings, choices, metrics) + _replaced(facts, place, values),
        "restart_required": restart,
        "verdict": choices.verdict,
        "step": choices.step.shown(),
        "syscalls": choices.syscalls,
        "syscalls_before": _before(settings),
        "coverage": choices.syscalls["coverage"] if choices.syscalls else None,
        "outcomes": twins.outcomes(case),
        "needs": choices.needs,
    }


def _values(
    made: list[Change],
    disabled: rule_selection.Disabled | None,
    facts: Facts,
    place: placement.Target,
    release: Release,
) -> dict[str, Any]:
    """Falco's keys that change, and their values."""
    values = {item["key"]: item["to"] for item in made}
    ours = rule_selection.KEY in values or placement.holds(facts["config"], place, rule_selection.KEY)
    if disabled is not None and made and ours and placement.appends(facts["config"], place, release):
        # The lists of all files are put together: the fragment holds ours only.
        values[rule_selection.KEY] = disabled.entries
    return values


def _warnings(facts: Facts, settings: Settings, choices: _Choices, metrics: host_needs.Metrics) -> list[str]:
    """What a person should know of this host, and the plan does not change."""
    release = settings.release
    merged = [
        "%s is an ordinary key for Falco, whose YAML library merges nothing: what it refers to is not in "
        "force there. Write its keys out" % path
        for path in facts["config"]["merge_keys"]
    ]
    found = [release.warning, choices.tight, choices.offer, *metrics.warnings]
    named = (choices.rules.disabled.notes if choices.rules.disabled else []) + choices.rules.unloaded.notes
    return (
        [text for text in found if text]
        + placement.findings(settings)
        + merged
        + named
        + answers.rules_that_cost(facts, choices.verdict)
    )


def _replaced(facts: Facts, place: placement.Target, values: dict[str, Any]) -> list[str]:
    """What the layout full costs: blocks of falco.yaml are written anew, and the file is the package's."""
    if place.layout != "full" or not values:
        return []
    blocks = {key.split(".")[0] for key in values}
    lost = sorted(blocks & set(facts["config"]["commented"]))
    found = [
        "%s is changed itself: where it is a configuration file of Falco's package, the next upgrade keeps "
        "this one and puts its own beside it (.dpkg-dist, .rpmnew), or asks which one to keep" % place.path
    ]
    if lost:
        found.append(
            "the comments inside these blocks of %s go, because the blocks are written anew: %s. A rollback "
            "brings them back" % (place.path, ", ".join(lost))
        )
    return found


# --- Hosts that get no plan, or another one


def _release(facts: Facts) -> Release:
    falco = facts["falco"]
    if not falco["version"]:
        raise PlanError("Falco's release is unknown: %s" % (falco["reason"] or "no version was found"))
    try:
        return releases.release_for(falco["version"])
    except releases.UnsupportedRelease as error:
        raise PlanError(str(error)) from None


def _recovery(facts: Facts, release: Release) -> Plan:
    """The plan for a host on which a change or a trial was interrupted: finish or undo that one, nothing
    else."""
    unfinished = facts["host"]["unfinished"]
    phase = unfinished["phase"] if unfinished else None
    what = "trial" if phase == "trial" else "change"
    found = "a trial that was broken off" if what == "trial" else "a change that was broken off (%s)" % phase
    why = "nobody is working on it any more"
    return {
        "release": str(release),
        "driver": facts["driver"]["kind"] or "",
        "layout": None,
        "target": None,
        "settings": {},
        "changes": [changes.change("unfinished", what, found, "finished or undone", why)],
        "buffers": None,
        "buffers_before": None,
        "seconds_bridged": None,
        "metrics_file": None,
        "sysctls": {},
        "directories": [],
        "rotate": None,
        "unit_dropin": None,
        "host_files": [],
        "warnings": [],
        "restart_required": True,
        "verdict": None,
        "step": None,
        "syscalls": None,
        "syscalls_before": None,
        "coverage": None,
        "outcomes": [],
        "needs": None,
    }


def _refuse(facts: Facts) -> None:
    _refuse_without_syscalls(facts)
    _refuse_unreadable(facts)
    _refuse_stopped(facts)


def _refuse_without_syscalls(facts: Facts) -> None:
    kind, decided_by = facts["driver"]["kind"], facts["driver"]["decided_by"]
    if kind in drivers.WITHOUT_SYSCALLS:
        raise PlanError(
            "this Falco watches no system calls of the host: %s (%s). There are no ring buffers and no "
            "kernel counters to tune, and nothing was changed; leave the host out of falco_tune_hosts"
            % (drivers.WITHOUT_SYSCALLS[kind], decided_by)
        )


def _refuse_unreadable(facts: Facts) -> None:
    config = facts["config"]
    if config["reason"]:
        raise PlanError(config["reason"])
    if config["duplicates"]:
        path, key, line = config["duplicates"][0]
        raise PlanError(
            "%s line %d: the key %s is given twice; Falco takes the first, most tools the last: remove one "
            "of them" % (path, line, key)
        )


def _refuse_stopped(facts: Facts) -> None:
    """A change can be proven only on a Falco that runs."""
    falco, service = facts["falco"], facts["service"]
    if not service["unit"]:
        raise PlanError(service["reason"] or "no systemd unit of Falco was found")
    if not falco["running"]:
        raise PlanError(
            "Falco is not running (unit %s is %s): start it first, a change can't be proven on a stopped "
            "Falco. If it runs as another unit, name that in falco_tune_unit"
            % (service["unit"], service["state"])
        )
    loop = verdicts.exiting(facts, 1)
    if loop:
        raise PlanError(
            "%s; look at its log (journalctl -u %s) and at a dry run first" % (loop, service["unit"])
        )
    if not facts["cpus"]["online"]:
        raise PlanError(
            "the number of online CPUs is unknown: %s" % (facts["cpus"]["reason"] or "nothing was read")
        )


def _driver(facts: Facts, policy: Policy, release: Release) -> str:
    kind, decided_by = facts["driver"]["kind"], facts["driver"]["decided_by"]
    if policy["driver"] not in ("auto", kind):
        raise PlanError(
            "policy says driver %s, but Falco runs %s (%s): the unit chooses the driver, so enable the unit "
            "of the driver "
            "you want, or set falco_tune_driver to %s or auto" % (policy["driver"], kind, decided_by, kind)
        )
    if kind is None or kind not in release.drivers:
        raise PlanError(
            "driver %s (%s) is not one that Falco %s can tune; it knows %s"
            % (kind, decided_by, release, ", ".join(release.drivers))
        )
    return kind


# --- What is chosen for Falco


class _Rules(NamedTuple):
    """What policy disables. settings: Falco's keys for it. needs: as in _Choices."""

    settings: list[Setting]
    disabled: rule_selection.Disabled | None
    unloaded: plugin_selection.Unloaded
    needs: Literal["syscalls"] | None


class _Choices(NamedTuple):
    verdict: Verdict
    step: Step
    current: Buffers
    buffers: ChosenBuffers
    tight: str | None  # why the unit's memory limit is too tight for the buffers
    offer: str | None  # what policy could allow
    settings: tuple[Setting, ...]
    syscalls: dict[str, Any] | None
    needs: Literal["syscalls"] | None
    rules: _Rules


def _choose(
    case: Case, settings: Settings, place: placement.Target, measuring: bool, closing: bool
) -> _Choices:
    """Buffers, the step that evidence asks for, and system calls.

    measuring: as for steps.choose(). closing: as for make().
    """
    current, driver = case.current, case.driver
    first = steps.choose(case, measuring)
    more = first.name is not None
    if closing:
        first = _kept(current, "no step follows in this run")
    chosen, tight = _rings(case, place, first)
    asked, first = first, steps.within_budget(case, first, chosen)
    case, first, second, needs = _both(case, settings, first)
    if asked.name and not first.name and asked.buffers:
        # What was asked for is not taken: the buffers stay as they are.
        chosen, tight = _rings(case, place, _kept(current, "nothing larger fits the budget"))
    if closing and "syscalls" not in second.undoes:
        more = more or second.name is not None
        second = Step(syscalls=second.syscalls)
    taken, rules = steps.joined(first, second), _rules(case, settings, place)
    if rules.settings and not taken.name and not closing:
        taken = steps.beside_rules(case)._replace(settings=second.settings)
    if not needs:
        taken = steps.taking_back(case, taken)
    if taken.name:
        taken = taken._replace(expected=taken.expected + twins.errors(case, taken.name))
    if "buffers" in taken.undoes:
        chosen, tight = _rings(case, place, taken)
    wanted = _of_rings(chosen, settings, driver)
    verdict = steps.merged(case.verdict, second)
    if not needs and not (closing and more):
        verdict["answer"] = answers.answer(case._replace(verdict=verdict), taken, second.syscalls)
    return _Choices(
        verdict,
        taken,
        current,
        chosen,
        tight,
        second.offer,
        (*(taken.settings if taken.name else second.settings), *wanted, *rules.settings),
        second.syscalls,
        needs or rules.needs or (None if closing else _unweighed(case)),
        rules,
    )


def _kept(current: Buffers, why: str) -> Step:
    """A step that leaves the buffers as they are."""
    return Step(buffers={**current, "why": "kept: " + why})


def _rules(case: Case, settings: Settings, place: placement.Target) -> _Rules:
    disabled, unknown = _disabled(case, settings, place)
    wanted = [] if disabled is None else _disabling(settings, disabled, case.facts, place)
    unloaded, missing = _unloaded(case, place, disabled)
    wanted += _unloading(unloaded, case.policy, case.facts, place)
    return _Rules(wanted, disabled, unloaded, unknown or missing)


def _of_rings(chosen: ChosenBuffers, settings: Settings, driver: str) -> list[Setting]:
    """The keys of this release and driver that the chosen rings are written with."""
    why, names = "; ".join(chosen["reasons"]), settings.release.buffer_keys(driver)
    return [
        Setting(key, value, why)
        for name, value in (
            ("buf_size_preset", chosen["buf_size_preset"]),
            ("cpus_for_each_buffer", chosen["cpus_for_each_buffer"]),
        )
        for key in names[name]
    ]


def _both(case: Case, settings: Settings, first: Step) -> tuple[Case, Step, Step, Literal["syscalls"] | None]:
    """(the case with the first step in its verdict, the first step, that of the system calls, what the plan
    lacks). A first step that is worth a restart only together with the other one goes with it, or not at all.
    """
    merged = case._replace(verdict=steps.merged(case.verdict, first))
    second, needs = _syscalls(merged, settings, first)
    if first.useless and not second.name and not needs:
        first = steps.not_alone(first)
        merged = case._replace(verdict=steps.merged(case.verdict, first))
        second, needs = _syscalls(merged, settings, first)
    if first.name and not second.name:
        second = second._replace(blocked=None, next_step=None)
    return merged, first, second, needs


def _disabled(
    case: Case, settings: Settings, place: placement.Target
) -> tuple[rule_selection.Disabled | None, Literal["syscalls"] | None]:
    """What policy disables of this host's rules, and what the plan lacks to say so. None: `rules` is not
    ours."""
    if not rule_selection.asked(case.policy):
        held = placement.holds(case.facts["config"], place, rule_selection.KEY)
        return (rule_selection.Disabled([], "policy disables no rule any more", []) if held else None), None
    if not settings.has(rule_selection.KEY):
        raise PlanError(
            "falco_tune_disabled_* is set, but Falco %s can't disable rules by its configuration (since "
            "0.38): upgrade Falco, or list a rules file of your own last in rules_file, with an entry for "
            "each rule that holds only `rule: NAME` and `enabled: false`. Falco does not start once a rule "
            "that it names is gone, so keep that file with your rules" % case.release
        )
    known = case.facts["syscalls"]
    if known is None:
        return None, "syscalls"
    if known["reason"]:
        raise PlanError("falco_tune_disabled_* cannot be applied: %s" % known["reason"])
    return rule_selection.choose(case.policy, known), None


def _unweighed(case: Case) -> Literal["syscalls"] | None:
    """What the plan lacks to name the rules that cost most, where they are what it takes."""
    rules_matter = case.verdict["state"] in steps.LOSING and case.verdict["bottleneck"] == "consumer"
    return "syscalls" if rules_matter and case.facts["syscalls"] is None else None


def _disabling(
    settings: Settings, disabled: rule_selection.Disabled, facts: Facts, place: placement.Target
) -> list[Setting]:
    """The setting that disables rules, where it is not in force."""
    now = settings.value(rule_selection.KEY)
    if disabled.entries:
        if rule_selection.in_force(now, disabled.entries):
            return []
        return [Setting(rule_selection.KEY, rule_selection.whole(now, disabled.entries), disabled.why)]
    if now and placement.holds(facts["config"], place, rule_selection.KEY):
        return [Setting(rule_selection.KEY, [], disabled.why or "policy disables no rule of this host")]
    return []


def _unloaded(
    case: Case, place: placement.Target, disabled: rule_selection.Disabled | None
) -> tuple[plugin_selection.Unloaded, Literal["syscalls"] | None]:
    """What policy takes out of the plugins that Falco loads, and what the plan lacks to say so."""
    nothing = plugin_selection.Unloaded(None, "", [])
    if not case.policy["disabled_plugins"]:
        return nothing, None
    config, known = case.facts["config"], case.facts["syscalls"]
    if known is None:
        return nothing, "syscalls"
    if known["reason"]:
        raise PlanError("falco_tune_disabled_plugins cannot be applied: %s" % known["reason"])
    gone = {entry["disable"]["rule"] for entry in disabled.entries} if disabled else set()
    own = placement.holds(config, place, plugin_selection.KEY)
    found = plugin_selection.choose(case.policy, known, config, gone, own)
    if found.kept is not None and placement.appends(config, place, case.release):
        plugin_selection.refuse_appended(config, place.path, case.release)
    return found, None


def _unloading(
    unloaded: plugin_selection.Unloaded, policy: Policy, facts: Facts, place: placement.Target
) -> list[Setting]:
    """The setting that loads fewer plugins, or that takes `load_plugins` out of our fragment again."""
    key = plugin_selection.KEY
    if unloaded.kept is not None:
        return [Setting(key, unloaded.kept, unloaded.why)]
    if not policy["disabled_plugins"] and placement.holds(facts["config"], place, key):
        return [Setting(key, None, "policy takes out no plugin any more")]
    return []


def _rings(case: Case, place: placement.Target, step: Step) -> tuple[ChosenBuffers, str | None]:
    """The rings, and why the unit's memory limit is too tight for them."""
    machine, record = steps.machine(case), case.facts["host"]["record"]
    # Memory that comes and goes must not change buffers at every run; what evidence asks for is asked once.
    settled = bool(record and place.path in record["files"]) and step.name != "buffers"
    try:
        chosen = buffers.choose(
            machine, policies.buffer_policy(case.policy), case.current, settled, step.buffers
        )
    except buffers.BufferError as error:
        raise PlanError(str(error)) from None
    return chosen, buffers.tight(machine, chosen)


def current_syscalls(settings: Settings) -> dict[str, Any]:
    """base_syscalls in force: {'custom_set', 'repair', 'all'}."""
    return {
        "custom_set": selections.entries_of(settings.value("base_syscalls.custom_set")),
        "repair": bool(settings.value("base_syscalls.repair")),
        "all": bool(settings.value("base_syscalls.all")),
    }


def _before(settings: Settings) -> dict[str, Any] | None:
    """What a step of the system calls would change: the host's record keeps it."""
    if not settings.has("base_syscalls.repair"):
        return None
    current = current_syscalls(settings)
    return {name: current[name] for name in ("repair", "custom_set")}


def _profile_kept(step: Step) -> list[Change]:
    """A step of the system calls that changes nothing keeps the profile of the host in its record."""
    if step.name != "syscalls" or step.settings:
        return []
    return [changes.change("record", "profile of system calls", "not kept", "kept", step.why)]


def _syscalls(case: Case, settings: Settings, first: Step) -> tuple[Step, Literal["syscalls"] | None]:
    """Which system calls are watched: what policy fixes, else what evidence asks for; and what the plan lacks
    to say so."""
    fixed = case.policy["base_syscalls"]
    if fixed and not settings.has("base_syscalls.repair"):
        raise PlanError(
            "falco_tune_base_syscalls is set, but Falco %s can't choose system calls (since 0.35)"
            % case.release
        )
    current = current_syscalls(settings)
    expired = Step() if fixed or first.name else steps.expired_exclusions(case, current)
    if expired.name:
        return expired, None
    differs = any(current[name] != value for name, value in fixed.items())
    back = restore.wanted(case, current, first)
    if not differs and not back and (fixed or not steps.wants_fewer_syscalls(case, first)):
        return Step(), None
    known = case.facts["syscalls"]
    if known is None:
        return Step(), "syscalls"
    if known["reason"]:
        if fixed:
            raise PlanError("falco_tune_base_syscalls cannot be applied: %s" % known["reason"])
        reason = "which system calls could be left out is unknown: %s" % known["reason"]
        return Step(blocked=None if back else reason), None
    made = _syscall_set(case, current, back)
    if back:
        return restore.step(case, made, current), None
    if fixed:
        return Step(settings=steps.wanted_syscalls(made, current), syscalls=made), None
    return steps.fewer_syscalls(case, first, made, current, _share(case, current)), None


def _share(case: Case, current: dict[str, Any]) -> float | None:
    """Of a selection that was reduced before anything was measured, its events in those without it."""
    known, last = cast(LoadedRules, case.facts["syscalls"]), effects.unmeasured("syscalls", current, case)
    if last is None:
        return None
    larger = {**current, **last.get("replaced", {})}
    return syscall_set.share(known["rules"], case.release, case.policy, current, larger, known["profile"])


def _syscall_set(case: Case, current: dict[str, Any], back: bool) -> dict[str, Any]:
    # Asked only where the rules are known.
    known, window = cast(LoadedRules, case.facts["syscalls"]), case.facts["metrics"]
    losing = case.verdict["state"] in steps.LOSING
    try:
        found: dict[str, Any] = syscall_set.choose(
            known["rules"],
            case.release,
            case.policy,
            current,
            known["profile"],
            window["drops_by_category"],
            window["rate"],
            steps.target_of(window) if losing else None,
            lambda shares: steps.proved(case, shares),
            back,
        )
    except syscall_set.SetError as error:
        raise PlanError(str(error)) from None
    return found


def _bridged(driver: str, facts: Facts, choices: _Choices) -> Bridged:
    """Seconds that the rings bridge, at the rate that was measured, else at the guide's upper line."""
    rate = choices.verdict["rate_per_cpu"] or buffers.GUIDE_EVENTS_PER_CPU
    sizes: tuple[Buffers, ...] = (choices.current, choices.buffers)
    before, after = (
        buffers.seconds_bridged(
            driver,
            facts["cpus"]["online"] or 1,
            item["buf_size_preset"],
            item["cpus_for_each_buffer"] or 0,
            rate,
        )
        for item in sizes
    )
    return {
        "before": round(before, 3),
        "after": round(after, 3),
        "at_events_per_second_per_cpu": rate,
        "bytes_per_event": buffers.BYTES_PER_EVENT,
    }


# --- Changes


def _differing(settings: Settings, wanted: Iterable[Setting]) -> list[Change]:
    """Changes of what is wanted, known to the release, and not in force."""
    found = []
    for path, value, why in wanted:
        now = settings.in_force(path)
        if settings.has(path) and not (now.legal and now.value == value):
            there, raw = settings.lookup(path)
            found.append(changes.change("config", path, raw if there else None, value, why))
    return found


def _of_what_runs(facts: Facts) -> list[Change]:
    """Where Falco runs with an older configuration than the one on disk."""
    stale = facts["config"]["stale"]
    if not stale:
        return []
    return [changes.change("running", "configuration", "an older configuration", "what is on disk", stale)]


def _proven_again(facts: Facts) -> list[Change]:
    """A package was upgraded, or somebody changed what policy has nothing against. A restart would prove it
    too."""
    unproven = _unproven(facts)
    if not unproven:
        return []
    before = "; ".join("%s: %s" % (item["what"], item["expected"]) for item in unproven)
    now = "; ".join("%s: %s" % (item["what"], item["found"]) for item in unproven)
    why = "Falco is proven with what is there now: it is watched, not interrupted"
    return [changes.change("record", "proven state", before, now, why)]


def _unproven(facts: Facts) -> list[Drift]:
    """What Falco was not proven with.

    Files of ours that Falco does not read (logrotate's) are no part of a proof, and are put back.
    """
    config, record = facts["config"], facts["host"]["record"]
    written = record["written"] if record else []
    read = {posixpath.dirname(config["order"][0])} | {item["path"].rstrip("/") for item in config["folders"]}
    return [
        item
        for item in drift.unproven(facts)
        if item["kind"] != "disk" or item["what"] not in written or posixpath.dirname(item["what"]) in read
    ]
