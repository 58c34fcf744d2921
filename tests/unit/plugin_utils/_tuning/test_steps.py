# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a measured host: one step a round, by evidence, within policy, and not twice in vain."""

import json
import re

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import steps
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import planner
from ansible_collections.falcotune.fleet.tests.unit.hosts import FOLDER, MAIN, SHIPPED, Host, change, measured
from hypothesis import given, settings
from hypothesis import strategies as st

MEASURING = SHIPPED.replace("enabled: false\n  interval: 1h", "enabled: true\n  interval: 30s\n  output_file: /var/log/falco/metrics.jsonl")
PRESET = "engine.modern_ebpf.buf_size_preset"
COOL = {"on": 300.0, "waiting": 20.0, "throttled": None}
STARVED = {"on": 140.0, "waiting": 867.0, "throttled": None}
BUSY = {"on": 970.0, "waiting": 30.0, "throttled": None}
THROTTLED = {"on": 450.0, "waiting": 10.0, "throttled": 300.0}
WEEK = 7 * 86400.0
ALERTS = {"alerts": {"count": 3, "undated": 0, "fields": {"n_evts": 1000, "n_drops": 500}}, "source": "journal", "reason": "x",
          "bytes_read": 1}


def host(cpu, preset=4, **changes):
    age = changes.get("since_start") or 1000.0
    pair = changes.pop("pair", None) or measured(**{name: changes.pop(name) for name in ("drops", "events", "since_start", "rate_per_cpu",
                                                                                          "n_drops_page_faults") if name in changes})
    text = MEASURING.replace("cpus_for_each_buffer: 2\n    buf_size_preset: 4", "cpus_for_each_buffer: 2\n    buf_size_preset: %d" % preset)
    return Host(cpu=cpu, pair=pair, **dict({"files": {MAIN: text}, "age": age}, **changes))


def plan(found, **given):
    return planner.make(found.facts(), given)


def again(found, made, cpu, **pair):
    """The same host after the change, run for long enough and measured anew."""
    after = found.after(made)
    after.cpu, after.age, after.pair = cpu, 1000.0, measured(**pair)
    return after


def unit(made):
    return {item["key"]: item["to"] for item in made["changes"] if item["kind"] == "unit"}


# --- CPU priority


def test_a_starved_falco_gets_priority_and_no_buffers():
    made = plan(host(STARVED, drops=84000))
    assert unit(made) == {"Nice": -10} and made["unit_dropin"] == {"Nice": -10}
    assert change(made, PRESET) is None and made["restart_required"] is True
    assert made["step"]["name"] == "priority" and "may cost the applications up to the 86.7 % of one CPU" in made["step"]["expected"]
    assert "waited for one for 86.7 % of the time" in change(made, "Nice", "unit")["why"]


@pytest.mark.parametrize("changes", [{"weight": 100}, {"weighable": True}, {"weighable": True, "autogroup": True}])
def test_where_the_kernel_weighs_cgroups_or_would_the_weight_goes_with_it(changes):
    made = plan(host(STARVED, drops=84000, **changes))
    assert made["unit_dropin"] == {"Nice": -10, "CPUWeight": 931}


def test_a_nice_value_that_counts_for_nothing_is_not_given():
    made = plan(host(STARVED, drops=84000, autogroup=True))
    assert made["changes"] == [] and "autogroup is on and Falco's cgroup has no CPU weight" in made["verdict"]["reasons"][-1]
    made = plan(host(STARVED, drops=84000, autogroup=True, weighable=True), cpu_weight_ceiling=100)
    assert made["changes"] == [] and "has no effect here" in made["verdict"]["reasons"][-1]


@pytest.mark.parametrize("given, weight, wanted", [
    ({"nice_ceiling": -5}, None, {"Nice": -5}),
    ({"nice_ceiling": -20}, None, {"Nice": -10}),  # first what was measured to suffice
    ({"cpu_weight_ceiling": 300}, 100, {"Nice": -10, "CPUWeight": 300}),
    ({"nice_ceiling": 0}, 100, {"CPUWeight": 100}),
    ({"priority": False}, 100, {}), ({"nice_ceiling": 0}, None, {}), ({"nice_ceiling": 0, "cpu_weight_ceiling": 100}, 100, {}),
])
def test_priority_has_a_ceiling_and_needs_consent(given, weight, wanted):
    made = plan(host(STARVED, drops=84000, weight=weight), **given)
    if wanted == {"CPUWeight": 100}:
        wanted = {}  # nice 0 is weight 100: nothing is left to give
    assert (made["unit_dropin"] or {}) == wanted
    if not wanted:
        assert made["step"] is None and made["changes"] == [] and made["verdict"]["bottleneck"] == "starved"


def test_priority_converges_stays_and_is_taken_back_with_consent():
    first = plan(host(STARVED, drops=84000))
    cured = again(host(STARVED, drops=84000), first, COOL, drops=0)
    second = plan(cured)
    assert (second["changes"], second["unit_dropin"], second["verdict"]["state"]) == ([], {"Nice": -10}, "healthy")
    third = plan(cured, priority=False)
    assert unit(third) == {"Nice": None} and third["unit_dropin"] == {}
    assert unit(plan(cured, nice_ceiling=-5)) == {"Nice": -5}


def test_priority_goes_to_the_ceiling_where_it_helped_and_did_not_suffice():
    start = host(STARVED, drops=84000)
    better = again(start, plan(start), STARVED, drops=30000)
    assert unit(plan(better, nice_ceiling=-20)) == {"Nice": -20}
    made = plan(better)
    assert made["step"] is None and made["changes"] == []
    assert "has the priority that policy allows" in made["verdict"]["reasons"][-1] and made["verdict"]["next_step"] == "overloaded"


def test_priority_that_did_nothing_is_taken_back_and_not_proposed_again():
    start = host(STARVED, drops=84000)
    same = again(start, plan(start), STARVED, drops=83000)
    alone = {"nice_ceiling": -20, "syscalls": "keep"}
    made = plan(same, **alone)
    assert made["verdict"]["reasons"][-1].startswith("priority Nice -10 of 1970-01-01 had no effect (84 % lost before, 83 % since)")
    assert unit(made) == {"Nice": None} and made["step"]["name"] == "give_back" and made["step"]["undoes"] == ["priority"]
    assert change(made, "Nice", "unit")["why"].startswith("taken back, since priority Nice -10 of 1970-01-01 had no effect")
    back = again(same, made, STARVED, drops=84000)
    third = plan(back, **alone)
    assert third["step"] is None and third["changes"] == []
    assert "had no effect and was taken back on 1970-01-01, under such a load" in third["verdict"]["reasons"][-1]


# --- quota


def test_a_throttled_falco_is_named_and_left_as_it_is():
    made = plan(host(THROTTLED, drops=9000, quota=50.0))
    assert made["changes"] == [] and made["verdict"]["bottleneck"] == "cpu_quota" and made["verdict"]["next_step"] == "quota"
    assert "falco_tune_unthrottle: true" in made["verdict"]["reasons"][-1]


def test_by_policy_the_quota_goes_and_stays_away():
    start = host(THROTTLED, drops=9000, quota=50.0)
    made = plan(start, unthrottle=True)
    assert made["unit_dropin"] == {"CPUQuota": ""} and unit(made) == {"CPUQuota": ""} and made["step"]["name"] == "quota"
    free = again(start, made, COOL, drops=0)
    assert plan(free, unthrottle=True)["changes"] == []
    assert unit(plan(free)) == {"CPUQuota": None}  # consent withdrawn: the unit's own quota comes back


# --- buffers


@pytest.mark.parametrize("preset, total, to", [(1, 256, 3), (4, 256, 6), (6, 256, 7), (7, 256, None), (9, 256, None)])
def test_buffers_go_up_within_the_guides_range(preset, total, to):
    made = plan(host(COOL, preset, drops=5000, total=total << 30, available=total << 30))
    if to is None:
        assert made["step"] is None and made["changes"] == [] and made["verdict"]["next_step"] == "syscalls"
        assert "upper end of the guide's range" in made["verdict"]["reasons"][-1]
        return
    found = change(made, PRESET)
    assert (found["from"], found["to"], made["step"]["name"]) == (preset, to, "buffers")
    assert "bursts" in found["why"] and "is bridged" in made["step"]["expected"]
    assert made["seconds_bridged"]["at_events_per_second_per_cpu"] == made["verdict"]["rate_per_cpu"]


def test_buffers_go_up_only_within_the_budget():
    # 4 rings and one more at load: 5 x 8 MiB fit in 2 % of 4 GiB, and no larger ones.
    made = plan(host(COOL, drops=5000, total=3 << 30, available=3 << 30))
    assert change(made, PRESET) is None and made["step"] is None and made["verdict"]["next_step"] == "syscalls"
    assert "larger buffers are asked for, but the budget of" in made["verdict"]["reasons"][-1]


def test_buffers_that_policy_sets_are_not_moved_by_evidence():
    made = plan(host(COOL, drops=5000), buf_size_preset=4)
    assert made["changes"] == [] and "set by policy" in made["verdict"]["reasons"][-1]


def test_buffers_that_did_nothing_are_kept_and_not_raised_again():
    start = host(COOL, drops=5000, total=256 << 30, available=200 << 30)
    made = plan(start)
    same = again(start, made, COOL, drops=4900)
    second = plan(same)
    assert second["changes"] == [] and second["step"] is None and second["verdict"]["next_step"] == "syscalls"
    better = again(start, made, COOL, drops=2500)
    assert change(plan(better), PRESET)["to"] == 7
    # Three times the load is another question.
    busier = again(start, made, COOL, events=300000, drops=15000)
    assert change(plan(busier), PRESET)["to"] == 7


def test_what_was_rolled_back_is_not_tried_again_until_the_release_changes():
    start = host(COOL, drops=5000)
    attempt = {"at": 86400.0, "step": "buffers", "to": {"buf_size_preset": 6}, "release": "0.44.1", "rolled_back": True,
               "before": {"drops_percent": 5.0, "rate_per_cpu": 12.5}}
    start.record = {"proven": True, "files": {}, "attempts": [attempt]}
    made = plan(start)
    assert made["changes"] == [] and "buffers buf_size_preset 6 was tried on 1970-01-02 and rolled back" in made["verdict"]["reasons"]
    attempt["release"] = "0.43.0"
    assert change(plan(start), PRESET)["to"] == 6


@pytest.mark.parametrize("cpu, changes", [(BUSY, {}), (COOL, {"n_drops_page_faults": 4900}), (STARVED, {}), (THROTTLED, {"quota": 50.0})])
def test_buffers_are_never_the_answer_to_something_else(cpu, changes):
    made = plan(host(cpu, drops=5000, **changes))
    assert change(made, PRESET) is None and made["buffers"]["buf_size_preset"] == 4


def test_a_measured_host_that_loses_nothing_keeps_what_it_has():
    made = plan(host(COOL, drops=0, cpus=64, total=256 << 30, available=200 << 30))
    assert made["changes"] == [] and made["verdict"]["state"] == "healthy"
    # The same host, never measured, gets the guide's buffers for its size.
    assert change(plan(Host(cpus=64, total=256 << 30, available=200 << 30)), PRESET)["to"] == 7


def test_an_unmeasured_host_keeps_what_an_earlier_measurement_chose():
    start = host(COOL, drops=5000, total=256 << 30, available=200 << 30)
    young = start.after(plan(start))
    made = plan(young)
    assert made["verdict"]["state"] == "unmeasured" and made["changes"] == [] and made["buffers"]["buf_size_preset"] == 6
    assert plan(young, keep_larger_buffers=False)["changes"] == []


# --- giving back


@pytest.mark.parametrize("preset, since, given, to", [
    (9, WEEK + 1, {}, 7), (6, WEEK + 1, {}, 4), (5, WEEK + 1, {}, 4), (4, WEEK + 1, {}, None), (3, WEEK + 1, {}, None),
    (9, WEEK - 9, {}, None), (9, WEEK + 1, {"quiet_days": 0}, None), (9, 86401.0, {"quiet_days": 1}, 7),
    (9, WEEK + 1, {"buf_size_preset": 9}, None),
])
def test_memory_is_given_back_on_hosts_that_have_long_been_quiet(preset, since, given, to):
    made = plan(host(COOL, preset, drops=0, since_start=since, total=256 << 30, available=200 << 30), **given)
    found = change(made, PRESET)
    assert (found and found["to"]) == to
    if to:
        assert made["step"]["name"] == "give_back" and "not one event was lost" in found["why"] and "given back" in made["step"]["expected"]


def test_what_once_cured_a_host_is_not_given_back():
    start = host(COOL, drops=5000, total=256 << 30, available=200 << 30)
    quiet = again(start, plan(start), COOL, drops=0, since_start=WEEK * 4)
    assert plan(quiet)["changes"] == []


# --- always


@given(cpu=st.sampled_from([COOL, STARVED, BUSY, THROTTLED]), preset=st.integers(1, 10), drops=st.integers(0, 100000),
       quota=st.sampled_from([None, 50.0]), weight=st.sampled_from([None, 100, 500]), nice=st.integers(-20, 5), online=st.integers(1, 128),
       given=st.fixed_dictionaries({}, optional={
           "priority": st.booleans(), "unthrottle": st.booleans(), "nice_ceiling": st.integers(-20, 0)}))
def test_one_step_a_round_and_the_next_look_finds_nothing_to_change(cpu, preset, drops, quota, weight, nice, online, given):
    start = host(cpu, preset, drops=drops, quota=quota, weight=weight, nice=nice, cpus=online, total=1 << 44, available=1 << 43)
    made = plan(start, **given)
    found = {"unit" if item["kind"] == "unit" else item["key"].split(".")[0] for item in made["changes"]}
    assert len(found & {"engine", "unit"}) <= 1
    assert made["step"] or not made["changes"]
    if made["step"]:
        assert made["step"]["why"] and made["step"]["expected"] and made["step"]["to"]
    assert plan(start.after(made), **given)["changes"] == []


def test_weights_compete_like_nice_values():
    assert [steps.weight_of(nice) for nice in (0, -5, -10, -20, 19)] == [100, 305, 931, 8674, 1]


def test_drop_alerts_are_no_measurement_the_host_gets_buffers_for_its_size():
    alerts = dict(ALERTS)
    made = plan(Host(cpus=32, total=256 << 30, available=200 << 30, pair=alerts))
    assert change(made, PRESET)["to"] == 6 and made["verdict"]["state"] == "dropping" and change(made, "metrics.enabled")


def test_what_runs_well_is_not_taken_away_for_want_of_memory():
    made = plan(host(COOL, 9, drops=0, total=2 << 30, available=1 << 30))
    assert made["changes"] == [] and made["buffers"]["buf_size_preset"] == 9
    assert made["warnings"] == []
    made = plan(host(COOL, 9, drops=0, total=2 << 30, available=1 << 30, limit=1 << 30, used=(1 << 30) + (150 << 20)))
    # 4 rings of 256 MiB and one more at load, where 1 GiB less 150 MiB is left: said, and left alone.
    assert made["changes"] == [] and made["buffers"]["buf_size_preset"] == 9
    assert [text for text in made["warnings"] if "take 1.25 GiB while Falco starts" in text and "memory limit of 1 GiB" in text]
    # What policy sets is policy's.
    assert change(plan(host(COOL, 9, drops=0), buffer_max_bytes=512 << 20), PRESET)["to"] == 7


@pytest.mark.parametrize("version, driver, limited", [
    ("0.44.1", "modern_ebpf", True), ("0.38.2", "modern_ebpf", True), ("0.44.1", "kmod", False), ("0.38.2", "ebpf", False)])
def test_only_the_rings_of_modern_ebpf_are_charged_to_the_unit(version, driver, limited):
    """48 CPUs, next to no drops, resident memory near the limit: kmod's rings are not charged to the cgroup."""
    files = {MAIN: "config_files: [%s]\nengine: {kind: %s}\n" % (FOLDER, driver)}
    pair = measured(events=72000000, drops=3, seconds=900.0)
    found = Host(version=version, files=files, arguments=["falco"], cpus=48, total=64 << 30, available=32 << 30, pair=pair)
    near = plan(found.but(limit=1 << 30, used=800 << 20))
    assert ("memory limit" in near["buffers"]["budget"]["bound"]) is limited
    # Its rings are counted in what it uses: 8 MiB are left for others.
    rings = near["buffers"]["bytes_total"] if limited else 0
    tight = plan(found.but(limit=1 << 30, used=(1016 << 20) + rings))
    for made in (near, tight):
        assert made["buffers"]["buf_size_preset"] == 4 and change(made, "engine.%s.buf_size_preset" % driver) is None
    assert any("memory limit" in text for text in tight["warnings"]) is limited


# --- fewer system calls


def listed(*given):
    """What the host's Falco would say of such rules: names, priorities, system calls."""
    from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import ruleset
    return ruleset.resolve([("f", json.dumps([
        {"rule": name, "desc": "d", "output": "o", "priority": priority, "condition": "evt.type in (%s) and proc.name=x" % ", ".join(calls)}
        for name, priority, calls in given]))], "0.44.1")["rules"]


def made_by_two(counts):
    """Two users in two control groups make half of each call."""
    return {name: {"uids": [[33, calls - calls // 2], [70, calls // 2]], "unknown": 0,
                   "cgroups": [["/system.slice/web.service", calls - calls // 2], ["/system.slice/db.service", calls // 2]]}
            for name, calls in counts.items()}


COUNTS = {"openat": 10000, "close": 8000, "sendto": 6000, "recvfrom": 5000, "connect": 500, "execve": 500}
KNOWN = {"rules": listed(("files", "warning", ["open", "openat"]), ("network", "notice", ["connect", "sendto"]),
                         ("programs", "critical", ["execve", "execveat"])),
         "selected": [], "reason": None,
         "profile": {"means": "tracefs", "seconds": 5.0, "reason": None, "notes": [],
                     "counts": COUNTS, "callers": made_by_two(COUNTS)}}


def fewer(found, known=KNOWN, **given):
    facts = found.facts()
    facts["syscalls"] = known
    return planner.make(facts, given)


def busy(**changes):
    return host(BUSY, **dict({"events": 300000, "drops": 60000}, **changes))


def test_where_one_thread_is_at_its_end_the_plan_asks_for_the_rules_first():
    made = plan(busy())
    assert made["needs"] == "syscalls" and made["changes"] == [] and made["step"] is None
    made = plan(busy(), syscalls="keep")
    assert made["needs"] == "syscalls" and made["step"] is None, "the rules that cost most are named whatever policy allows"
    assert fewer(busy(), syscalls="keep")["needs"] is None
    assert plan(host(COOL, drops=9000))["needs"] is None, "larger buffers come first"
    assert plan(host(COOL, drops=0))["needs"] is None


def test_repair_is_the_rung_after_buffers_and_no_rule_loses_anything():
    made = fewer(busy())
    assert made["settings"]["base_syscalls"] == {"repair": True} and made["needs"] is None
    assert made["step"]["name"] == "syscalls" and made["step"]["to"] == {"repair": True, "custom_set": []}
    assert "instead of 300 events/s (by a profile of the host); no rule loses anything" in made["step"]["expected"]
    assert made["coverage"] == {"rules_total": 3, "blind": [], "half_blind": [], "wrong_output": [], "newly": []}
    assert change(made, PRESET) is None and made["restart_required"]


def proven(days=1.5, **changes):
    """A host that kept a profile when the lossless set was put in force, and looks again days later."""
    first = fewer(busy(**changes), syscalls="exclude")
    assert first["settings"]["base_syscalls"] == {"repair": True}, "one profile excludes nothing"
    later = again(busy(**changes), first, BUSY, events=300000, drops=59000)
    return later.but(clock=later.clock + days * 86400)


def test_exclusions_need_consent_and_come_down_to_what_falco_can_take_in():
    made = fewer(proven(), syscalls="exclude")
    # 300 events/s, 59 of them lost: 0.9 of the 241 that were read.
    assert made["syscalls"]["target_events_per_second"] == 216.9 and made["syscalls"]["reached"]
    assert made["settings"]["base_syscalls"]["custom_set"] == ["!openat"]
    assert made["coverage"]["half_blind"] == [{"rule": "files", "lost": ["openat"], "left": ["open"], "ways": []}]
    assert "1 of 3 rules see less: files" in change(made, "base_syscalls.custom_set")["why"]


def test_buffers_at_the_top_of_the_range_lead_to_system_calls():
    assert plan(host(COOL, preset=7, drops=9000))["needs"] == "syscalls"
    assert fewer(host(COOL, preset=7, drops=9000))["step"]["name"] == "syscalls"


def test_it_converges_and_a_set_that_did_nothing_is_taken_back_and_not_proposed_again():
    first = fewer(busy())
    same = again(busy(), first, BUSY, events=300000, drops=59000)
    made = fewer(same)
    assert made["step"]["name"] == "give_back" and made["step"]["to"] == {"repair": False, "custom_set": []}
    assert "had no effect (20 % lost before, 19.7 % since)" in made["step"]["why"]
    assert change(made, "base_syscalls.repair")["to"] is False
    third = fewer(again(same, made, BUSY, events=300000, drops=59500))
    assert third["changes"] == [] and third["verdict"]["next_step"] == "overloaded"
    assert "reduced to the same set before, which had no effect and was taken back" in third["verdict"]["reasons"][-1]
    cured = again(busy(), first, COOL, drops=0)
    assert fewer(cured)["changes"] == [] and plan(cured)["needs"] is None


def test_a_lossless_set_that_helped_some_is_kept_and_the_next_word_is_the_policys():
    helped = again(busy(), fewer(busy()), BUSY, events=300000, drops=30000)
    made = fewer(helped)
    assert made["changes"] == [] and "no fewer system calls within policy" in " ".join(made["verdict"]["reasons"])
    assert "falco_tune_syscalls: exclude would let rules go blind for it" in made["verdict"]["reasons"][-1]


def test_exclusions_follow_a_lossless_set_that_did_not_suffice():
    made = fewer(proven(), syscalls="exclude")
    assert made["step"]["name"] == "syscalls" and made["settings"]["base_syscalls"]["repair"] is True
    assert made["settings"]["base_syscalls"]["custom_set"]


def test_one_profile_excludes_nothing_nor_do_two_that_are_too_close():
    for days in (0, 0.9):
        made = fewer(proven(days), syscalls="exclude")
        assert made["changes"] == [] and "nothing is excluded yet: openat would have to be excluded" in made["verdict"]["reasons"][-1]
    assert fewer(proven(0.9), syscalls="exclude", exclude_hours=12)["settings"]["base_syscalls"]["custom_set"] == ["!openat"]


def test_a_call_that_dominates_in_one_profile_only_is_never_excluded():
    """A user who floods ptrace while the kernel counts does not choose what Falco no longer sees."""
    calm = fewer(busy(), syscalls="exclude")
    later = again(busy(), calm, BUSY, events=300000, drops=59000)
    later = later.but(clock=later.clock + 2 * 86400)
    counted = dict(COUNTS, ptrace=900000)
    flood = dict(KNOWN["profile"], counts=counted, callers=made_by_two(counted))
    known = dict(KNOWN, profile=flood, rules=KNOWN["rules"] + listed(("debuggers", "notice", ["ptrace"])))
    made = fewer(later, known=known, syscalls="exclude")
    assert "!ptrace" not in json.dumps(made["settings"]) and made["coverage"] is None or not made["coverage"]["newly"]
    told = " ".join([*made["verdict"]["reasons"], (made["step"] or {"why": ""})["why"]])
    assert re.search("ptrace would have to be excluded, which needs two profiles", told)


CALLS = ("openat", "sendto", "connect", "close", "recvfrom", "open", "ptrace", "execve")
PEOPLE = st.tuples(st.sampled_from([0, 33, 70, 1000]), st.sampled_from(["/system.slice/a.service", "/user.slice/user-1000.slice", "/b"]))
HONEST = st.dictionaries(PEOPLE, st.dictionaries(st.sampled_from(CALLS), st.integers(1, 10**5), max_size=8), max_size=6)


def profile_of(made):
    """The profile of a host on which each (user, control group) makes such calls."""
    counts, callers = {}, {}
    for (uid, group), calls in made.items():
        for name, count in calls.items():
            counts[name] = counts.get(name, 0) + count
            one = callers.setdefault(name, {"uids": {}, "cgroups": {}})
            for kind, who in (("uids", uid), ("cgroups", group)):
                one[kind][who] = one[kind].get(who, 0) + count
    listed_ = {name: {"unknown": 0, **{kind: [[who, count] for who, count in found.items()] for kind, found in one.items()}}
               for name, one in callers.items()}
    return dict(KNOWN["profile"], counts=counts, callers=listed_)


def excluded_of(made):
    custom_set = (made["settings"].get("base_syscalls") or {}).get("custom_set") or []
    return {name[1:] for name in custom_set if name.startswith("!")}


EVERYTHING = dict(KNOWN, rules=KNOWN["rules"] + listed(
    ("debuggers", "notice", ["ptrace"]), ("more", "notice", ["close", "recvfrom", "connect", "sendto", "openat", "open"])))


@settings(max_examples=40, deadline=None)
@given(honest=HONEST, flood=st.dictionaries(st.sampled_from(CALLS), st.integers(1, 10**7), min_size=1),
       who=st.sampled_from([(1001, "/b"), (0, "/docker/0123"), (1001, "/user.slice/user-1001.slice")]), drops=st.integers(30000, 250000))
def test_one_noisy_user_or_control_group_never_decides_even_in_every_profile(honest, flood, who, drops):
    """What is excluded dominates without the calls of the noisy one: their own calls chose nothing."""
    known = dict(EVERYTHING, profile=profile_of({**honest, who: flood}))
    first = fewer(busy(), known=known, syscalls="exclude")
    later = again(busy(), first, BUSY, events=300000, drops=59000) if first["changes"] else busy()
    later = later.but(clock=later.clock + 2 * 86400)
    made = fewer(later, known=known, syscalls="exclude", protected_priority="none")
    calm = profile_of(honest)["counts"]
    whole = sum(calm.values()) or 1
    for name in excluded_of(made):
        assert calm.get(name, 0) >= 0.05 * whole, (name, calm)


@pytest.mark.parametrize("callers", [
    None, {}, {"openat": None}, {"openat": {"uids": [[33, 10000]], "cgroups": [["/a", 5000], ["/b", 5000]], "unknown": 0}},
    {"openat": {"uids": [[33, 5000], [34, 5000]], "cgroups": [["/a", 10000]], "unknown": 0}},
    {"openat": {"uids": [[33, 10], [34, 10]], "cgroups": [["/a", 10], ["/b", 10]], "unknown": 9980}},
    {"openat": {"uids": [[33, 1], [34, -5]], "cgroups": [], "unknown": 0}}, {"openat": {"uids": "x", "cgroups": [], "unknown": 0}},
    {"openat": {"uids": [], "cgroups": [], "unknown": None}},
    {"openat": {"uids": [], "cgroups": [], "unknown": 0}}, [], "x"])
def test_whoever_made_the_calls_excludes_nothing_where_that_is_one_or_unknown_unless_policy_lists_the_call(callers):
    known = dict(KNOWN, profile=dict(KNOWN["profile"], callers=callers))
    listed_too = {"syscalls": "exclude", "excludable_syscalls": ["openat"]}
    for policy, wanted in (({"syscalls": "exclude"}, set()), (listed_too, {"openat"})):
        first = fewer(busy(), known=known, **policy)
        later = again(busy(), first, BUSY, events=300000, drops=59000)
        made = fewer(later.but(clock=later.clock + 1.5 * 86400), known=known, **policy)
        assert excluded_of(made) == wanted
        if not wanted:
            told = first["step"]["why"]
            assert "openat would have to be excluded" in told and "without its busiest user and without its busiest control group" in told
            assert "who made the calls is not known" in told or isinstance(callers, dict) and callers["openat"]


def test_where_no_step_keeps_the_profile_a_record_of_it_is_kept_and_nothing_else_changes():
    lean = busy().but(options=("engine.kind=modern_ebpf", "base_syscalls.repair=true"))
    made = fewer(lean, syscalls="exclude")
    assert [(item["kind"], item["key"]) for item in made["changes"]] == [("record", "profile of system calls")]
    assert not made["restart_required"] and made["step"]["expected"].startswith("nothing changes")
    later = again(lean, made, BUSY, events=300000, drops=60000)
    assert fewer(later, syscalls="exclude")["changes"] == [], "kept once for each span of time"
    later = later.but(clock=later.clock + 2 * 86400)
    assert fewer(later, syscalls="exclude")["settings"]["base_syscalls"]["custom_set"] == ["!openat"]


def test_exclusions_are_taken_back_after_quiet_days_on_a_host_that_loses_nothing():
    excluded = proven()
    calm = again(excluded, fewer(excluded, syscalls="exclude"), COOL, drops=0)
    assert plan(calm, syscalls="exclude")["changes"] == []
    later = calm.but(clock=calm.clock + 8 * 86400)
    made = plan(later, syscalls="exclude")
    assert made["step"]["name"] == "give_back" and change(made, "base_syscalls.custom_set")["to"] == []
    assert made["settings"]["base_syscalls"]["repair"] is True
    assert made["step"]["why"].startswith("openat was excluded on ")
    assert plan(later, syscalls="exclude", quiet_days=0)["changes"] == []


@given(counted=st.dictionaries(st.sampled_from(["openat", "sendto", "connect", "close", "recvfrom", "open"]), st.integers(0, 10**6)))
def test_the_first_profile_never_decides(counted):
    known = dict(KNOWN, profile=dict(KNOWN["profile"], counts=counted, callers=made_by_two(counted)))
    made = fewer(busy(), known=known, syscalls="exclude")
    assert not any(name.startswith("!") for name in (made["settings"].get("base_syscalls") or {}).get("custom_set") or [])


def test_what_policy_fixes_needs_the_rules_and_protects_them():
    fixed = {"base_syscalls": {"custom_set": ["!sendto"], "repair": True}}
    calm = host(COOL, drops=0)
    assert plan(calm, **fixed)["needs"] == "syscalls"
    made = fewer(calm, **fixed)
    assert made["settings"]["base_syscalls"] == {"custom_set": ["!sendto"], "repair": True}
    assert change(made, "base_syscalls.repair")["why"].startswith("policy says so")
    assert plan(again(calm, made, COOL, drops=0), **fixed)["changes"] == []
    with pytest.raises(planner.PlanError, match="the rule 'programs' is protected and needs execve"):
        fewer(calm, base_syscalls={"custom_set": ["!execve"]})
    with pytest.raises(planner.PlanError, match="can't choose system calls"):
        plan(calm.but(version="0.34.1"), **fixed)


def test_rules_that_can_not_be_had_are_a_reason_and_no_failure():
    known = dict(KNOWN, rules=[], reason="falco -L failed: Error: broken")
    made = fewer(busy(), known)
    assert made["changes"] == [] and "falco -L failed: Error: broken" in made["verdict"]["reasons"][-1]
    with pytest.raises(planner.PlanError, match="falco -L failed"):
        fewer(busy(), known, base_syscalls={"repair": True})


# --- what is certain without metrics, and what a restart carries


def test_the_restart_that_switches_metrics_on_carries_priority_and_buffers():
    """A starved Falco is seen without any metric."""
    start = Host(age=1000.0, cpu=STARVED, cpus=32, total=256 << 30, available=200 << 30)
    made = plan(start)
    assert made["verdict"]["state"] == "unmeasured" and made["verdict"]["bottleneck"] == "starved"
    assert change(made, "metrics.enabled") and change(made, PRESET)["to"] == 6 and unit(made) == {"Nice": -10}
    assert made["step"]["name"] == "priority" and "waited for one for 86.7 % of the time" in made["step"]["why"]
    assert unit(plan(start, priority=False)) == {}
    # A host that waits no more than others do gets no priority unmeasured.
    assert unit(plan(start.but(cpu={"on": 600.0, "waiting": 200.0, "throttled": None}))) == {}


@pytest.mark.parametrize("cpu, changes, carries", [
    (BUSY, {}, True),
    ({"on": 820.0, "waiting": 180.0, "throttled": None}, {}, True),      # as seen on a real Falco with sixty heavy rules
    ({"on": 500.0, "waiting": 490.0, "throttled": 490.0}, {"quota": 50.0}, True),
    ({"on": 940.0, "waiting": 0.0, "throttled": None}, {}, False),       # some idle time
    (COOL, {}, False), (THROTTLED, {"quota": 50.0}, False), (STARVED, {}, False),
    (BUSY, {"age": 59.0, "cpu": {"on": 59.0, "waiting": 0.0, "throttled": None}}, False),  # policy asks for a minute
])
def test_the_restart_that_switches_metrics_on_carries_a_lossless_selection_for_a_thread_without_idle_time(cpu, changes, carries):
    start = Host(**{"age": 1000.0, "cpu": cpu, **changes})
    made = fewer(start)
    assert (plan(start)["needs"] == "syscalls") is carries
    assert made["verdict"]["state"] == "unmeasured" and made["verdict"]["next_step"] == "measure" and change(made, "metrics.enabled")
    assert (change(made, "base_syscalls.repair") is not None) is carries
    if carries:
        assert made["step"]["name"] == "syscalls" and made["step"]["predicted"] is None and made["coverage"]["newly"] == []
        assert fewer(start.after(made))["changes"] == []
        assert change(fewer(start, syscalls="keep"), "base_syscalls.repair") is None
        assert fewer(start, metrics=False)["step"] is None, "no restart for it without a measurement"
        unknown = fewer(start, dict(KNOWN, rules=[], reason="falco -L failed"))
        assert change(unknown, "metrics.enabled") and unknown["step"] is None


@pytest.mark.parametrize("drops, kept", [(299700, False), (282000, True), (90000, True)])
def test_a_selection_that_was_reduced_before_anything_was_measured_stays_only_if_it_saves_events(drops, kept):
    start = Host(age=1000.0, cpu=BUSY)
    made = fewer(start)
    assert made["step"]["name"] == "syscalls"
    same = again(start, made, {"on": 1000.0, "waiting": 0.0, "throttled": None}, events=300000, drops=drops)
    # Of 99.9 % lost it saves next to nothing, of 94 % something, of 30 % much.
    then = fewer(same, syscalls="lossless")
    back = change(then, "base_syscalls.repair")
    if kept:
        assert back is None and then["step"] is None
        return
    assert then["step"]["name"] == "give_back" and then["step"]["undoes"] == ["syscalls"] and back["to"] is False
    assert "made before anything was measured, saves" in back["why"] and "would be lost without it" in back["why"]
    # It is not reduced again under such a load, and the answer says what is missing.
    after = again(same, then, {"on": 1000.0, "waiting": 0.0, "throttled": None}, events=300000, drops=drops)
    last = fewer(after, syscalls="lossless")
    assert last["changes"] == [] and last["verdict"]["answer"]["kind"] == "too_busy"
    # Without a profile nobody can tell, and it stays.
    assert change(fewer(same, {**KNOWN, "profile": None}), "base_syscalls.repair") is None


@pytest.mark.parametrize("cpu, changes, bottleneck, carries", [
    (BUSY, {}, "consumer", True), (COOL, {}, "unknown", False), (STARVED, {}, "starved", False),
    ({"on": 500.0, "waiting": 490.0, "throttled": 490.0}, {"quota": 50.0}, "cpu_quota", True),
    (THROTTLED, {"quota": 50.0}, "cpu_quota", False)])
def test_so_it_does_where_drop_alerts_say_that_events_are_lost(cpu, changes, bottleneck, carries):
    alerts = dict(ALERTS)
    made = fewer(Host(age=1000.0, cpu=cpu, pair=alerts, **changes))
    assert (made["verdict"]["state"], made["verdict"]["bottleneck"]) == ("dropping", bottleneck) and change(made, "metrics.enabled")
    assert (change(made, "base_syscalls.repair") is not None) is carries
    if bottleneck == "consumer":
        assert made["verdict"]["next_step"] == "measure"
        metrics = {MAIN: MEASURING}
        assert change(fewer(Host(age=1000.0, cpu=cpu, pair=alerts, files=metrics)), "base_syscalls.repair") is None, "its metrics are on"


@pytest.mark.parametrize("life, carries", [(0.99, True), (0.5, False)])
def test_a_short_look_at_a_busy_thread_counts_where_its_whole_life_says_the_same(life, carries):
    month = 30 * 86400.0
    start = Host(age=month, cpu={"on": life * month, "waiting": 0.0, "throttled": None},
                 looked={"on": 100.0, "waiting": 0.0, "throttled": None})
    assert (change(fewer(start), "base_syscalls.repair") is not None) is carries


def hot(lost=3000000, preset=6, **changes):
    """16 CPUs, of which CPU 5 loses all that a burst loses."""
    start = host(COOL, preset, events=100000000, drops=lost, **dict({"cpus": 16, "total": 256 << 30, "available": 200 << 30}, **changes))
    start.pair["intervals"] = {"count": 20, "losing": 1, "worst": [{"ns": 50 * 10**9, "events": 8000000, "drops": lost}]}
    return start


def test_one_hot_cpu_gets_the_ring_that_its_burst_needs_at_once():
    """Three million events want 458 MiB, margin included: all rings have that with preset 8, the hot one alone with 10."""
    start = hot()
    even = plan(start)
    assert even["step"]["to"] == {"buf_size_preset": 8}
    start.pair["cpus"] = {"count": 1, "worst": [[5, 3000000]]}
    made = plan(start)
    assert made["step"]["to"] == {"buf_size_preset": 10, "cpus_for_each_buffer": 6} and made["step"]["predicted"] == 0
    assert made["buffers"]["count"] == 3 and made["buffers"]["bytes_each"] == 512 << 20, "as large, and fewer of them"
    assert change(made, "engine.modern_ebpf.cpus_for_each_buffer")["to"] == 6
    fixed = plan(start.but(total=150 << 30), cpus_for_each_buffer=2)
    assert fixed["step"]["to"] == {"buf_size_preset": 9} and fixed["buffers"]["count"] == 8, "the budget ends there"
    assert plan(start.after(made))["changes"] == []
    back = again(start, made, COOL, events=100000000, drops=2990000)
    back.pair["intervals"], back.pair["cpus"] = start.pair["intervals"], start.pair["cpus"]
    undone = plan(back, syscalls="keep")
    assert undone["step"]["undoes"] == ["buffers"] and (undone["buffers"]["buf_size_preset"], undone["buffers"]["count"]) == (6, 8)


def test_two_steps_that_are_worth_a_restart_only_together_share_one():
    """Preset 5, where the budget ends, saves less than a fifth, and so do fewer system calls."""
    start = host(COOL, events=100000000, drops=2250000, total=5 << 30, available=4 << 30)
    start.pair["intervals"] = {"count": 20, "losing": 1, "worst": [{"ns": 50 * 10**9, "events": 12000000, "drops": 2250000}]}
    alone = plan(start, syscalls="keep")
    assert alone["changes"] == [] and "not worth a restart" in " ".join(alone["verdict"]["reasons"])
    assert alone["buffers"]["buf_size_preset"] == 4
    made = fewer(start)
    assert change(made, PRESET)["to"] == 5 and change(made, "base_syscalls.repair")["to"] is True
    assert made["step"]["predicted"] < 0.8 * 2.25 and made["coverage"]["newly"] == []
    # Where the rules are unknown there is nothing to share it with.
    unknown = fewer(start, dict(KNOWN, rules=[], reason="falco -L failed"))
    assert unknown["changes"] == [] and unknown["step"] is None and unknown["buffers"]["buf_size_preset"] == 4


def test_what_a_step_should_leave_lost_is_kept_and_told_with_the_outcome():
    start = host({"on": 140.0, "waiting": 860.0, "throttled": None}, drops=91000, cpus=2)
    made = plan(start)
    assert made["step"]["predicted"] == 0 and "the capacity model expects 0 % lost" in made["step"]["expected"]
    cured = again(start, made, {"on": 600.0, "waiting": 200.0, "throttled": None}, drops=0)
    answer = plan(cured)["verdict"]["answer"]
    assert answer["kind"] == "solved" and answer["tried"] == ["priority (Nice -10), 0 % predicted"]
    assert (answer["predicted"], answer["against"]) == (0, "starved")


def test_by_policy_the_same_restart_removes_a_quota():
    start = Host(age=1000.0, cpu=THROTTLED, quota=50.0)
    assert unit(plan(start)) == {} and plan(start)["verdict"]["bottleneck"] == "cpu_quota"
    assert unit(plan(start, unthrottle=True)) == {"CPUQuota": ""}


def test_buffers_without_effect_are_taken_back_with_the_next_restart():
    start = busy().but(cpu=COOL)
    made = planner.make(start.facts(), {})
    assert change(made, PRESET)["to"] == 6
    same = again(start, made, COOL, events=300000, drops=59000)
    made = fewer(same)
    assert made["step"]["name"] == "syscalls" and change(made, PRESET)["to"] == 4
    assert "taken back, since buffers buf_size_preset 6" in change(made, PRESET)["why"]


def test_fewer_system_calls_are_no_restart_for_a_load_that_stays_sixteen_times_too_much():
    """A real Falco with 60 heavy rules: repair saved a third of the events, and 94 % stayed lost."""
    start = busy().but(pair=measured(events=300000, drops=282000), cpu={"on": 820.0, "waiting": 180.0, "throttled": None}, cpus=2)
    made = fewer(start)
    assert made["changes"] == [] and made["verdict"]["next_step"] == "overloaded"
    assert "which is not worth a restart" in made["verdict"]["reasons"][-1]
    assert made["verdict"]["answer"]["kind"] == "too_busy" and made["verdict"]["answer"]["factor"] > 10


def test_one_hot_ring_is_split_where_it_cannot_be_larger():
    """Preset 7 is the end of the guide's range; two busy CPUs need not share one buffer."""
    pair = measured(events=100000, drops=5000)
    pair["cpus"] = {"count": 2, "worst": [[4, 2500], [5, 2400]]}
    start = host(COOL, 7, pair=pair, cpus=16, total=1 << 40, available=1 << 39)
    made = plan(start)
    assert change(made, PRESET) is None and change(made, "engine.modern_ebpf.cpus_for_each_buffer")["to"] == 1
    assert made["step"]["name"] == "buffers" and made["step"]["to"] == {"cpus_for_each_buffer": 1}
    assert plan(start, cpus_for_each_buffer=2)["changes"] == []
    # Not where the budget has no room for twice the rings.
    tight = plan(start.but(total=40 << 30, available=30 << 30))
    assert tight["changes"] == [] and tight["step"] is None
    same = again(start, made, COOL, events=100000, drops=4900)
    same.pair["cpus"] = pair["cpus"]
    assert plan(same)["changes"] == []


@pytest.mark.parametrize("cpu, changes, given, following, advice, kind", [
    (THROTTLED, {"quota": 50.0}, {}, "quota", "raise or remove CPUQuota= of falco", "unsolved"),
    (STARVED, {}, {"priority": False}, "priority", "higher CPU priority", "unsolved"),
    (BUSY, {}, {}, "overloaded", "too busy for Falco as it is", "too_busy"),
])
def test_where_cpu_time_is_withheld_to_give_it_stays_what_is_next(cpu, changes, given, following, advice, kind):
    start = host(cpu, events=300000, drops=120000, **changes)
    made = fewer(start, **given)
    assert made["step"]["name"] == "syscalls"
    same = again(start, made, cpu, events=300000, drops=120000)
    for last in (fewer(same, **given), fewer(again(same, fewer(same, **given), cpu, events=300000, drops=120000), **given)):
        assert last["verdict"]["next_step"] == following and advice in last["verdict"]["advice"]
    assert last["step"] is None and last["verdict"]["answer"]["kind"] == kind
