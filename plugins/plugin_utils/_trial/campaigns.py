# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trials of sets of system calls: which tests there are, what one asks of a host, what its answer means, what comes next. Pure.

The guide (falco.org, troubleshooting/dropping): a dummy rule that never alerts, a small set of system calls first, then larger
ones; the largest that loses nothing is what this host can be watched with. A host that loses events with the smallest set and
tuned buffers is too busy for Falco.
"""

from __future__ import annotations

import copy

from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import dry_run, releases, selections
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import coverage, listing
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies, windows
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import drivers
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.configuration import Settings
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import visible
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules.definitions import SYSCALL
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning.verdicts import MOST_KINDS, SATURATED

PROCESSES = ("clone", "clone3", "fork", "vfork", "execve", "execveat")
GUIDE = (
    {"name": "T1 processes", "custom_set": [*PROCESSES, "procexit"], "repair": False, "all": False},
    {"name": "T2 repair", "custom_set": [], "repair": True, "all": False},
    {
        "name": "T3 servers",
        "custom_set": [*PROCESSES, "getsockopt", "socket", "bind", "accept", "accept4", "close"],
        "repair": False,
        "all": False,
    },
    {
        "name": "T4 clients",
        "custom_set": [*PROCESSES, "getsockopt", "socket", "connect", "close"],
        "repair": False,
        "all": False,
    },
    {
        "name": "T5 files",
        "custom_set": [*PROCESSES, "open", "openat", "openat2", "close"],
        "repair": False,
        "all": False,
    },
)
# Needs two system calls and matches nothing, in every release.
RULES = """\
- rule: Dummy rule that never alerts
  desc: Stands in for all rules while a set of system calls is tried.
  condition: evt.type in (execve, execveat) and proc.name=iShouldNeverAlert
  output: never (proc=%proc.name)
  priority: DEBUG
"""
RULE_CALLS = ("execve", "execveat")
# What is selected whatever a test says.
ANYWAY = {*RULE_CALLS, selections.ALWAYS}
# Where the host puts its private directory.
PLACE = "{trial}"
KEYS = ("name", "custom_set", "repair", "all")
MAX_NAME, MAX_TESTS, MAX_CALLS, MAX_TEXT = 60, 50, 1000, 400

OPTIONS = {
    "seconds": policies.Option(60, policies._integer(5, 3600)),
    "mode": policies.Option("beside", policies._choice("beside", "instead")),
    "accepted_drops_percent": policies.Option(1.0, policies._number(0, 100)),
    "metrics_interval": policies.Option("1s", policies._interval),
    "max_load_per_cpu": policies.Option(8.0, policies._number(0.1, 1000)),
    "min_available_percent": policies.Option(5.0, policies._number(0, 99)),
    "max_more_drops_percent": policies.Option(5.0, policies._number(0, 100)),
}
LIMITS = ("max_load_per_cpu", "min_available_percent", "max_more_drops_percent")

EMPTY = {
    "state": "skipped",
    "reason": None,
    "selected": [],
    "seconds": None,
    "events": None,
    "events_per_second": None,
    "rate_per_cpu": None,
    "drops": None,
    "drops_percent": None,
    "drops_by_category": {},
    "falco_cpu_percent": None,
    "falco_wait_percent": None,
    "memory_bytes": None,
    "rules_total": None,
    "rules_blind": [],
    "rules_half_blind": [],
}
PASSED = ("clean", "accepted")
# Kinds of drops that no buffer and no smaller set cures.
NO_LOAD = ("bug", "page_faults", "scratch_map")


class TrialError(ValueError):
    """A wrong option or test: names it, what was found, what was expected and what to do."""


class Impossible(ValueError):
    """This host can't be tried; the text is the reason."""


# --- what a user asks for ------------------------------------------------------------------------------------------


def options(given):
    """The options of a trial, complete and checked. Raises TrialError."""
    found = {}
    for name, option in OPTIONS.items():
        value = (given or {}).get(name, option.default)
        try:
            found[name] = option.check(value)
        except ValueError as error:
            raise TrialError("falco_trial_%s is %r: expected %s" % (name, value, error)) from None
    if policies.duration_ms(found["metrics_interval"]) > found["seconds"] * 500:
        raise TrialError(
            "falco_trial_metrics_interval (%s) is too long for tests of %d s: each needs two snapshots and more"
            % (found["metrics_interval"], found["seconds"])
        )
    return found


def shaped(given):
    """The tests in full, whatever the release: 'guide', or a list of {name, custom_set, repair, all}. Raises TrialError."""
    if given in (None, "guide"):
        return copy.deepcopy(list(GUIDE))
    if not isinstance(given, (list, tuple)) or not given or len(given) > MAX_TESTS:
        raise TrialError(
            "falco_trial_tests is %s: expected guide, or a list of 1 to %d tests" % (_short(given), MAX_TESTS)
        )
    found = []
    for number, item in enumerate(given, 1):
        test = _test(item, "falco_trial_tests, test %d" % number)
        if test["name"] in [other["name"] for other in found]:
            raise TrialError(
                "falco_trial_tests, test %d: there is another test called %s" % (number, test["name"])
            )
        found.append(test)
    return found


def _test(item, where):
    wanted = "expected {name, custom_set, repair, all}"
    if not isinstance(item, dict):
        raise TrialError("%s is %s: %s" % (where, _short(item), wanted))
    for key in item:
        if key not in KEYS:
            raise TrialError(
                "%s: %s is not known%s: %s" % (where, _short(key), policies.nearest(str(key), KEYS), wanted)
            )
    name, calls = item.get("name"), item.get("custom_set", [])
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise TrialError("%s: the name is %s: expected 1 to %d letters" % (where, _short(name), MAX_NAME))
    calls = [] if calls is None else calls
    if (
        not isinstance(calls, (list, tuple))
        or len(calls) > MAX_CALLS
        or not all(isinstance(call, str) and call.strip() for call in calls)
    ):
        raise TrialError(
            "%s (%s): custom_set is %s: expected a list of names of system calls"
            % (where, name, _short(calls))
        )
    test = {"name": str(name), "custom_set": [str(call).strip() for call in calls]}
    for key in ("repair", "all"):
        try:
            test[key] = policies._bool(item.get(key, False))
        except ValueError as error:
            raise TrialError(
                "%s (%s): %s is %s: expected %s" % (where, name, key, _short(item[key]), error)
            ) from None
    return test


def release_of(facts):
    """The host's Release. Raises Impossible where it has no base_syscalls."""
    version = (facts.get("falco") or {}).get("version")
    if not version:
        raise Impossible(
            "Falco's release is unknown: %s"
            % ((facts.get("falco") or {}).get("reason") or "no version was found")
        )
    try:
        release = releases.release_for(version)
    except releases.UnsupportedRelease as error:
        raise Impossible(str(error)) from None
    if not release.has("base_syscalls.custom_set"):
        raise Impossible(
            "Falco %s has no base_syscalls (since 0.35): what it watches can't be chosen; upgrade Falco"
            % version
        )
    return release


def predicted(tests, release):
    """[what syscalls.select() says of each test]. Raises TrialError where a test is not what its author meant."""
    found, wrong = [], []
    for test in tests:
        slips = [selections.nearest(call, release)["text"] for call in test["custom_set"]]
        wrong.extend("%s: %s" % (test["name"], slip) for slip in slips if slip)
        if test["all"] and not release.has("base_syscalls.all"):
            wrong.append("%s: Falco %s doesn't know base_syscalls.all (since 0.40)" % (test["name"], release))
        selection = selections.select(release, RULE_CALLS, test["custom_set"], test["repair"], test["all"])
        found.append(selection)
        if not any(slips) and not set(selection["selected"]) - ANYWAY:
            why = (
                ""
                if not selection["ignored"]
                else " (%s: not selected without all: true)" % ", ".join(selection["ignored"])
            )
            wrong.append(
                "%s: it selects nothing but %s, which is selected anyway%s"
                % (test["name"], ", ".join(sorted(set(selection["selected"]))), why)
            )
    if wrong:
        raise TrialError(
            "falco_trial_tests, for Falco %s: %s. Nothing was touched." % (release, "; ".join(wrong))
        )
    return found


# --- what a host is asked ------------------------------------------------------------------------------------------


def request(test, facts, plan, chosen, given, release, list_rules):
    """What the module needs for one test. Plain data.

    plan: of the host, whose buffers are taken where it has some; or None. chosen: what options() returned. given: the tuning policy.
    """
    config = facts.get("config") or {}
    if config.get("reason"):
        raise Impossible(config["reason"])
    effective = dict(config.get("effective") or {}, **((plan or {}).get("settings") or {}))
    kind = (facts.get("driver") or {}).get("kind")
    if kind not in release.drivers:
        raise Impossible(
            "Falco runs with %s, which is no driver that Falco %s can be tried with (%s)"
            % (kind, release, ", ".join(release.drivers))
        )
    if chosen["mode"] == "instead" and not given["restart_ok"]:
        raise Impossible(
            "falco_trial_mode instead stops Falco, and falco_tune_restart_ok is false: use beside"
        )
    old = drivers.old_form(Settings(effective, release))
    rules = effective.get("rules_files") or effective.get("rules_file") or []
    return {
        "name": test["name"],
        "host_root": given["host_root"],
        "state_dir": given["state_dir"],
        "unit": given["unit"],
        "mode": chosen["mode"],
        "seconds": chosen["seconds"],
        "interval": policies.duration_ms(chosen["metrics_interval"]) / 1000.0,
        "limits": {name: chosen[name] for name in LIMITS},
        "config": configuration(test, effective, kind, old, release, chosen["metrics_interval"]),
        "rules": RULES,
        "options": ["--modern-bpf"] if old and kind == "modern_ebpf" else [],
        "main": (config.get("order") or [""])[0],
        "list_rules": list_rules,
        "watched": [item["path"] for item in config.get("files") or []]
        + [item["path"] for item in config.get("folders") or []]
        + [str(item) for item in (rules if isinstance(rules, list) else [rules])],
    }


def unbounded(facts):
    """What the unit of the host's own Falco bounds and a trial's Falco is free of, as a sentence; or None.

    A trial's Falco runs in the session of the task, at the priority of the host's own.
    """
    limits = (facts.get("service") or {}).get("limits") or {}
    texts = (
        ("cpu_quota", "CPUQuota %.10g %%"),
        ("cpu_weight", "CPUWeight %d"),
        ("memory_max", "MemoryMax %d"),
    )
    found = [text % limits[name] for name, text in texts if isinstance(limits.get(name), (int, float))]
    return (
        "the trial's Falco is not held to %s, as the unit of the host's own is: that may lose more than the trial did"
        % (", ".join(found))
        if found
        else None
    )


def configuration(test, effective, kind, old, release, interval):
    """A whole falco.yaml as data: this host's driver and buffers, one set of system calls, and nothing that others would notice.

    old: the release reads the keys of 0.36 and before. PLACE stands for the private directory.
    """
    base = {
        name: test[name] for name in ("custom_set", "repair", "all") if release.has("base_syscalls." + name)
    }
    off = ["syslog_output", "file_output", "program_output", "http_output", "webserver"]
    off += [] if release.since(0, 44) else ["grpc", "grpc_output"]
    found = {
        "rules_files" if release.since(0, 38) else "rules_file": [PLACE + "/rules.yaml"],
        "base_syscalls": base,
        "load_plugins": [],
        "watch_config_files": False,
        "priority": "debug",
        "json_output": False,
        "stdout_output": {"enabled": True},
        "log_stderr": True,
        "log_syslog": False,
        "log_level": "info",
        "syscall_event_drops": {"threshold": 1, "actions": ["ignore"], "rate": 0.03333, "max_burst": 1},
        "metrics": _metrics(release, interval),
    }
    found.update({name: {"enabled": False} for name in off})
    if release.fragments:
        found["config_files"] = []
    found.update(
        {
            name: effective[name]
            for name in ("falco_libs", "syscall_buf_size_preset", "modern_bpf")
            if name in effective
        }
    )
    if release.since(0, 37) and not old:
        found["engine"] = dict(
            effective["engine"] if isinstance(effective.get("engine"), dict) else {}, kind=kind
        )
    return found


def _metrics(release, interval):
    wanted = {
        "enabled": True,
        "interval": interval,
        "output_rule": False,
        "output_file": PLACE + "/metrics.jsonl",
        "resource_utilization_enabled": True,
        "kernel_event_counters_enabled": True,
        "state_counters_enabled": True,
    }
    # Absent switches are on in Falco's code.
    return {
        key.path.partition(".")[2]: wanted.get(key.path.partition(".")[2], False)
        for key in release.keys("metrics")
    }


# --- what it answers -----------------------------------------------------------------------------------------------


def production_rules(text, facts, release):
    """(the rules that the production Falco has loaded, None) or ([], why they are not known). text: `falco -L`, or None."""
    if not text:
        return [], "falco -L said nothing"
    effective = (facts.get("config") or {}).get("effective") or {}
    priority, selection = effective.get("priority"), effective.get("rules")
    try:
        found = listing.parse(
            text, release, str(priority or "debug"), selection if isinstance(selection, list) else ()
        )
    except ValueError as error:
        return [], str(error)
    return found["rules"], found["reason"]


def result(test, answer, selection, release, accepted, rules):
    """One entry of the results: what a host's answer says of a test. Never raises on host data.

    answer: {'state': 'ran', 'aborted', 'failed' or 'checked', 'reason', 'dry_run': text, 'pair', 'cpu', 'cpus'}. selection: predicted.
    rules: as of production_rules(), or None where they are not known.
    """
    found = dict(copy.deepcopy(EMPTY), **copy.deepcopy(test))
    dry = dry_run.parse(answer.get("dry_run"))
    found["selected"] = dry["selected"]
    if rules is not None:
        lost = (
            coverage.coverage(rules, found["selected"], release)
            if found["selected"]
            else {"blind": [], "half_blind": []}
        )
        found["rules_total"] = sum(rule["enabled"] and rule["source"] == SYSCALL for rule in rules)
        found["rules_blind"] = [item["rule"] for item in lost["blind"]]
        found["rules_half_blind"] = [item["rule"] for item in lost["half_blind"]]
    state, reason = answer.get("state"), _text(answer.get("reason"))
    if state == "checked" and not dry["reason"]:
        reason = "check mode: %d system calls would be watched; nothing was measured" % len(dry["selected"])
        return dict(found, state="skipped", reason=reason)
    window = windows.window(
        answer.get("pair") if isinstance(answer.get("pair"), dict) else {"reason": "nothing was measured"},
        release,
        answer.get("cpus") if isinstance(answer.get("cpus"), int) else None,
    )
    if not window["voided"]:
        found.update(_measured(window))
    cpu = answer.get("cpu") if isinstance(answer.get("cpu"), dict) else {}
    found["falco_cpu_percent"], found["falco_wait_percent"] = _share(cpu, "on"), _share(cpu, "waiting")
    if state == "aborted":
        return dict(found, state="aborted", reason=reason or "no reason was given")
    if dry["reason"] or state != "ran" or window["voided"]:
        why = (
            reason
            if state == "failed" and reason
            else dry["reason"] or window["voided"] or reason or "the host gave no whole answer"
        )
        return dict(found, state="failed", reason=_text(why))
    found["state"] = (
        "clean" if not found["drops"] else "accepted" if found["drops_percent"] <= accepted else "dropping"
    )
    if found["state"] != "clean":
        found["reason"] = "%d of %d events lost (%.3g %%): %s" % (
            found["drops"],
            found["events"],
            found["drops_percent"],
            _kinds(found["drops_by_category"]),
        )
    elif (found["falco_cpu_percent"] or 0) >= SATURATED:
        found["reason"] = (
            "Falco used %.3g %% of a CPU, all that its one thread can: buffers bridge that for a while, so try it "
            "for longer" % found["falco_cpu_percent"]
        )
    if dry["selected"] != selection["selected"]:
        found["reason"] = "; ".join(
            filter(
                None,
                [
                    found["reason"],
                    "Falco selected other system calls than expected (%s)"
                    % _difference(selection["selected"], dry["selected"]),
                ],
            )
        )
    return found


def _measured(window):
    return {
        "seconds": window["seconds"],
        "events": window["events"],
        "events_per_second": window["rate"],
        "rate_per_cpu": window["rate_per_cpu"],
        "drops": window["drops"],
        "drops_percent": window["drops_percent"],
        "drops_by_category": window["drops_by_category"],
        "memory_bytes": window["memory"].get("pss") or window["memory"].get("rss"),
    }


def _share(cpu, name):
    """Percent of a time, or None."""
    spent, span = cpu.get(name), cpu.get("seconds")
    for value in (spent, span):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
            return None
    return round(100.0 * spent / span, 2) if span > 0.1 else None


def _difference(expected, selected):
    words = ["+" + name for name in sorted(set(selected) - set(expected))] + [
        "-" + name for name in sorted(set(expected) - set(selected))
    ]
    return ", ".join(words[:10]) + (" …" if len(words) > 10 else "")


def skipped(test, selection, done):
    """Why a test need not be run after those that are done, or None."""
    for other in done:
        if other["state"] == "aborted":
            return "not run: %s was aborted" % other["name"]
        if other["state"] == "dropping" and set(other["selected"]) <= set(selection["selected"]):
            return "not run: it watches all that %s watches, which lost %.3g %%" % (
                other["name"],
                other["drops_percent"],
            )
    return None


def unrun(test, reason, state="skipped"):
    """The entry of a test that was not run."""
    return dict(copy.deepcopy(EMPTY), **copy.deepcopy(test), state=state, reason=reason)


def verdict(results, accepted):
    """{'verdict', 'reason', 'largest'} of a campaign.

    The largest set is the one that made most events a second; of equals, the one of most calls. But a set that holds all of another
    one is larger than that, whatever the load was while they ran.
    """
    passed = [item for item in results if item["state"] in PASSED]
    outer = [
        item for item in passed if not any(set(item["selected"]) < set(other["selected"]) for other in passed)
    ]
    best = (
        max(outer, key=lambda item: (item["events_per_second"], len(item["selected"]), item["name"]))
        if outer
        else None
    )
    largest = best["name"] if best else None
    aborted = [item for item in results if item["state"] == "aborted"]
    dropping = [item for item in results if item["state"] == "dropping"]
    failed = [item for item in results if item["state"] == "failed"]
    if aborted:
        return {
            "verdict": "aborted",
            "reason": "%s: %s" % (aborted[0]["name"], aborted[0]["reason"]),
            "largest": largest,
        }
    if best:
        return {"verdict": "largest", "reason": _cost(best, accepted), "largest": largest}
    if dropping:
        least = min(dropping, key=lambda item: (item["drops_percent"], item["name"]))
        return {
            "verdict": "too_busy",
            "largest": None,
            "reason": "%s, the set that lost least, lost %.3g %% of its events with this host's buffers (%s); accepted are %.3g %%: %s"
            % (
                least["name"],
                least["drops_percent"],
                _kinds(least["drops_by_category"]),
                accepted,
                _busy(least),
            ),
        }
    if failed:
        alike = len({item["reason"] for item in results}) == 1
        return {
            "verdict": "failed",
            "reason": failed[0]["reason"] if alike else "%s: %s" % (failed[0]["name"], failed[0]["reason"]),
            "largest": None,
        }
    return {
        "verdict": "none",
        "reason": (results[0]["reason"] if results else None) or "nothing was measured",
        "largest": None,
    }


def _kinds(found):
    """Drops by kind, most first, in words."""
    most = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:MOST_KINDS]
    return ", ".join("%s %d" % item for item in most) or "of no known kind"


def _busy(item):
    """What losses with a small set mean."""
    kernel = sum(item["drops_by_category"].get(name, 0) for name in NO_LOAD)
    if kernel * 2 > item["drops"]:
        return "most of them not for want of room, so fewer system calls or larger buffers don't help"
    return "it is too busy for Falco as it is"


def _cost(best, accepted):
    text = "%s: %d system calls, %s events/s%s" % (
        best["name"],
        len(best["selected"]),
        _number(best["events_per_second"]),
        " without a loss"
        if not best["drops"]
        else ", %.3g %% lost (accepted %.3g %%)" % (best["drops_percent"], accepted),
    )
    if best["falco_cpu_percent"] is not None:
        text += "; Falco used %.3g %% of a CPU" % best["falco_cpu_percent"]
    if best["memory_bytes"]:
        text += " and %d MiB" % (best["memory_bytes"] >> 20)
    if best["rules_total"] is not None:
        text += "; of %d rules %d would be blind, %d half blind" % (
            best["rules_total"],
            len(best["rules_blind"]),
            len(best["rules_half_blind"]),
        )
    if best["reason"] and not best["drops"]:
        text += ". But " + best["reason"]
    return text


# --- what is shown -------------------------------------------------------------------------------------------------


def line(item, known=None):
    """One test in one line of plain text. known: a reason that has been told."""
    words = [item["name"], item["state"]]
    if item["selected"]:
        words.append("%d system calls" % len(item["selected"]))
    if item["events"] is not None:
        words.append("%s events/s/CPU" % _number(item["rate_per_cpu"]))
        words.append("%.3g %% lost" % item["drops_percent"])
    if item["falco_cpu_percent"] is not None:
        words.append("CPU %.3g %%" % item["falco_cpu_percent"])
    if item["reason"] and not item["drops"] and item["reason"] != known:
        words.append(item["reason"])
    return visible(", ".join(words))


def lines(trial):
    """A host's trial for people."""
    return [visible("verdict: %s" % trial["verdict"]), visible("because: %s" % trial["reason"])] + [
        line(item, trial["reason"]) for item in trial["tests"]
    ]


def _number(value):
    return "?" if value is None else "%.3g" % value if value < 100 else "%d" % value


def _text(value):
    return str(value)[:MAX_TEXT] if value else None


def _short(value):
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"
