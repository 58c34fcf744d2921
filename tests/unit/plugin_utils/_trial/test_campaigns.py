# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trials: the guide's tests, what a user can get wrong, what a host is asked, what its answer means."""

import copy
import json

import pytest
import yaml
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import dry_run, releases, selections
from ansible_collections.falcotune.fleet.plugins.plugin_utils._trial import campaigns
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import planner, policies
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.syscall_names import names_for
from ansible_collections.falcotune.fleet.tests.unit.hosts import FOLDER, Host, fragment, measured
from hypothesis import given
from hypothesis import strategies as st

RELEASES = ["0.35.0", "0.36.2", "0.37.1", "0.38.2", "0.40.0", "0.41.3", "0.44.1"]
NEWEST = releases.release_for("0.44.1")
PREFIX = "Tue Nov 24 12:00:00 2026: "
GUIDE = campaigns.predicted(campaigns.shaped("guide"), NEWEST)


def printed(selection):
    """The stderr of a dry run that selected this."""
    return "".join(PREFIX + line + "\n" for line in ["Falco version: 0.44.1 (x86_64)", *dry_run.lines(selection)])


def answered(number, events=100000, drops=0, **more):
    """What a host answers to the guide's test of this number, from 0."""
    return {"state": "ran", "reason": None, "dry_run": printed(GUIDE[number]), "pair": measured(events, drops, 60.0), "cpus": 8,
            "cpu": {"seconds": 60.0, "on": 3.0, "waiting": 0.6}, **more}


def entry(number, answer, accepted=1.0, rules=None):
    return campaigns.result(campaigns.GUIDE[number], answer, GUIDE[number], NEWEST, accepted, rules)


# --- what a user asks for ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", RELEASES)
def test_the_guide_fits_every_release(version):
    release = releases.release_for(version)
    sizes = [len(item["selected"]) for item in campaigns.predicted(campaigns.shaped("guide"), release)]
    assert sizes == [7, 18, 13, 11, 11]  # as recorded: dry-runs/SUMMARY.txt
    assert not any(item["warnings"] and item["invalid_positive"] for item in campaigns.predicted(campaigns.shaped(None), release))


def test_every_test_of_the_guide_watches_all_that_the_first_does():
    for selection in GUIDE[1:]:
        assert set(GUIDE[0]["selected"]) < set(selection["selected"])


@pytest.mark.parametrize("tests,said", [
    ("guides", "expected guide, or a list"),
    ([], "expected guide, or a list"),
    ({"name": "x"}, "expected guide, or a list"),
    ([{"name": "x"}] * 51, "expected guide, or a list of 1 to 50"),
    (["x"], "test 1 is 'x': expected {name"),
    ([{"name": ""}], "the name is '': expected 1 to 60 letters"),
    ([{"name": "a\x1b[2J"}], "expected 1 to 60 letters"),
    ([{"custom_set": []}], "the name is None"),
    ([{"name": "x", "custom_sets": []}], "'custom_sets' is not known (did you mean custom_set?)"),
    ([{"name": "x", "custom_set": "open"}], "custom_set is 'open': expected a list"),
    ([{"name": "x", "custom_set": [1]}], "custom_set is [1]: expected a list"),
    ([{"name": "x", "repair": "perhaps"}], "repair is 'perhaps': expected true or false"),
    ([{"name": "x"}, {"name": "x"}], "test 2: there is another test called x"),
])
def test_a_wrong_list_of_tests(tests, said):
    with pytest.raises(campaigns.TrialError) as error:
        campaigns.shaped(tests)
    assert said in str(error.value) and "falco_trial_tests" in str(error.value)


@pytest.mark.parametrize("test,said", [
    ({"custom_set": ["pread64"]}, "pread64 is the kernel's name: Falco calls it pread"),
    ({"custom_set": ["opne"]}, "open is nearest"),
    ({"custom_set": ["open", "!sched_process_exit"]}, "procexit"),
    ({"custom_set": ["execve"]}, "selects nothing but execve, execveat, procexit"),
    ({"custom_set": ["procexit"]}, "selects nothing but"),
    ({"custom_set": ["read", "write"]}, "read, write: not selected without all: true"),
    ({"custom_set": ["!" + name for name in sorted(names_for("0.44.1").events)]}, "selects nothing but"),
])
def test_a_test_that_is_not_what_its_author_meant(test, said):
    with pytest.raises(campaigns.TrialError) as error:
        campaigns.predicted(campaigns.shaped([{"name": "mine", **test}]), NEWEST)
    assert said in str(error.value) and "mine: " in str(error.value) and "Nothing was touched" in str(error.value)


def test_all_is_not_known_before_0_40():
    tests = campaigns.shaped([{"name": "mine", "custom_set": ["open", "read"], "all": True}])
    assert "read" in campaigns.predicted(tests, NEWEST)[0]["selected"]
    with pytest.raises(campaigns.TrialError, match="since 0.40"):
        campaigns.predicted(tests, releases.release_for("0.39.2"))


@pytest.mark.parametrize("given_options,said", [
    ({"seconds": 4}, "seconds is 4"), ({"seconds": 3601}, "seconds is 3601"), ({"mode": "inside"}, "one of beside, instead"),
    ({"metrics_interval": "100ms"}, "at least 200ms"), ({"metrics_interval": "30"}, "at least 200ms"),
    ({"metrics_interval": "10s", "seconds": 10}, "too long for tests of 10 s"), ({"max_load_per_cpu": 0}, "0.1 to 1000"),
    ({"min_available_percent": 100}, "0 to 99"), ({"max_more_drops_percent": -1}, "0 to 100"),
    ({"accepted_drops_percent": True}, "0 to 100"),
])
def test_a_wrong_option(given_options, said):
    with pytest.raises(campaigns.TrialError) as error:
        campaigns.options(given_options)
    assert said in str(error.value) and "falco_trial_" in str(error.value)


@pytest.mark.parametrize("version,said", [
    ("0.34.1", "no base_syscalls (since 0.35)"), ("0.32.0", "older than 0.33"), (None, "release is unknown")])
def test_a_release_without_base_syscalls(version, said):
    with pytest.raises(campaigns.Impossible) as error:
        campaigns.release_of(Host(version=version).facts())
    assert said in str(error.value)


# --- what a host is asked ------------------------------------------------------------------------------------------


def asked(host, number=0, with_plan=True, given=None, **options):
    facts, complete = host.facts(), policies.complete(given)
    made = planner.make(facts, complete) if with_plan else None
    return campaigns.request(campaigns.GUIDE[number], facts, made, campaigns.options(options), complete, campaigns.release_of(facts), True)


def test_a_trial_has_the_buffers_that_a_tune_would_give():
    host = Host(cpus=64, total=256 << 30, available=200 << 30)
    assert asked(host)["config"]["engine"]["modern_ebpf"]["buf_size_preset"] == 7
    assert asked(host, with_plan=False)["config"]["engine"]["modern_ebpf"]["buf_size_preset"] == 4


OLD_FILE = {"/etc/falco/falco.yaml": "rules_file: [/etc/falco/falco_rules.yaml]\nsyscall_buf_size_preset: 6\n"}


@pytest.mark.parametrize("version,rules_key", [
    ("0.44.1", "rules_files"), ("0.38.2", "rules_files"), ("0.37.1", "rules_file"), ("0.35.0", "rules_file")])
def test_the_private_configuration(version, rules_key):
    files = {} if version > "0.38" else {"files": OLD_FILE, "options": (), "arguments": ["/usr/bin/falco", "--modern-bpf"], "folders": ()}
    request = asked(Host(version=version, **files), with_plan=False, metrics_interval="2s")
    config = request["config"]
    assert yaml.safe_load(json.dumps(config)) == config
    assert config[rules_key] == ["{trial}/rules.yaml"] and config["metrics"]["output_file"] == "{trial}/metrics.jsonl"
    assert config["metrics"]["interval"] == "2s" and config["watch_config_files"] is False
    assert config["base_syscalls"]["custom_set"] == campaigns.GUIDE[0]["custom_set"]
    on = [name for name, value in config.items() if isinstance(value, dict) and value.get("enabled")]
    assert sorted(on) == ["metrics", "stdout_output"]
    assert ("engine" in config) == (version > "0.37.9") and request["options"] == ([] if version > "0.38" else ["--modern-bpf"])
    assert version > "0.38" or config["syscall_buf_size_preset"] == 6
    assert ("all" in config["base_syscalls"]) == (version > "0.40")


def test_the_driver_is_the_one_that_runs_not_the_one_in_the_file():
    host = Host(options=("engine.kind=kmod",)).with_file(FOLDER + "/engine-kind-falcoctl.yaml", fragment(engine={"kind": "modern_ebpf"}))
    assert asked(host, with_plan=False)["config"]["engine"]["kind"] == "kmod"


def test_a_falco_that_may_not_be_stopped_is_not():
    with pytest.raises(campaigns.Impossible, match="restart_ok is false: use beside"):
        asked(Host(), given={"restart_ok": False}, mode="instead")
    assert asked(Host(), given={"restart_ok": False})["mode"] == "beside"


@pytest.mark.parametrize("host, said", [
    (Host(), None), (Host(unit=None), None), (Host(quota=20.0), "CPUQuota 20 %,"),
    (Host(quota=12.5, weight=200, limit=1 << 30), "CPUQuota 12.5 %, CPUWeight 200, MemoryMax 1073741824,"),
])
def test_what_bounds_the_hosts_own_and_not_the_trials(host, said):
    text = campaigns.unbounded(host.facts())
    assert (text is None) if said is None else ("not held to %s as the unit of the host's own" % said in text)


def test_a_host_whose_falco_cannot_be_tried():
    with pytest.raises(campaigns.Impossible, match="nodriver"):
        asked(Host(options=("engine.kind=nodriver",)), with_plan=False)
    with pytest.raises(campaigns.Impossible, match="not YAML"):
        asked(Host().with_file("/etc/falco/falco.yaml", "a: [\n"), with_plan=False)


# --- what it answers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer,state,said", [
    (answered(0), "clean", None),
    (answered(0, drops=1000), "accepted", "1000 of 100000 events lost (1 %): uncategorised 1000"),
    (answered(0, drops=1001), "dropping", "1001 of 100000"),
    (answered(0, state="aborted", reason="the load is 99", pair=None), "aborted", "the load is 99"),
    (answered(0, state="failed", reason="Falco ended: x", pair=None), "failed", "Falco ended: x"),
    (answered(0, pair={"reason": "only one snapshot"}), "failed", "only one snapshot"),
    (answered(0, dry_run=None), "failed", "no output of a dry run"),
    (answered(0, dry_run=printed(GUIDE[0]) + "Error: broken\n"), "failed", "did not get through its dry run"),
    (answered(0, state="checked", pair=None, cpu=None), "skipped", "check mode: 7 system calls"),
    (answered(0, dry_run=printed(GUIDE[2])), "clean", "other system calls than expected (+accept"),
    (answered(0, cpu={"seconds": 60, "on": 57, "waiting": 1}), "clean", "95 % of a CPU"),
    ({}, "failed", "no output of a dry run"),
    (dict.fromkeys(answered(0), [1]), "failed", ""),
    (dict.fromkeys(answered(0), "x"), "failed", ""),
])
def test_what_an_answer_means(answer, state, said):
    found = entry(0, answer)
    assert found["state"] == state
    assert found["reason"] is None if said is None else said in found["reason"]
    assert set(found) == {*campaigns.EMPTY, "name", "custom_set", "repair", "all"}
    json.dumps(found, allow_nan=False)


def test_numbers_of_a_test():
    found = entry(1, answered(1, events=480000, drops=4800, pair=measured(480000, 4800, 60.0, n_drops_buffer_open_exit=4800)))
    assert (found["events_per_second"], found["rate_per_cpu"], found["drops_percent"]) == (8000.0, 1000.0, 1.0)
    assert (found["falco_cpu_percent"], found["falco_wait_percent"], found["seconds"]) == (5.0, 1.0, 60.0)
    assert found["drops_by_category"] == {"open": 4800} and found["selected"] == GUIDE[1]["selected"]


@pytest.mark.parametrize("cpu", [None, [], {"seconds": 0, "on": 1, "waiting": 1}, {"seconds": 60, "on": -1, "waiting": float("nan")},
                                 {"seconds": "60", "on": "1", "waiting": True}])
def test_cpu_times_that_cannot_be(cpu):
    found = entry(0, answered(0, cpu=cpu))
    assert (found["falco_cpu_percent"], found["falco_wait_percent"]) == (None, None) and found["state"] == "clean"


LISTED = json.dumps({"rules": [
    {"info": {"name": name, "priority": priority, "source": "syscall", "tags": [], "enabled": True},
     "details": {"events": ["asyncevent", *calls], "condition_compiled": "evt.type in (%s)" % ", ".join(calls)}}
    for name, priority, calls in (("Shell", "Notice", ["execve"]), ("Read", "Warning", ["open", "openat"]), ("Quiet", "Debug", ["connect"]),
                                  ("Both", "Error", ["execve", "connect"]))]})


def test_which_rules_a_set_would_blind():
    host = Host().with_file(FOLDER + "/rules.yaml", fragment(priority="notice", rules=[{"disable": {"rule": "nothing"}}]))
    rules, problem = campaigns.production_rules(LISTED, host.facts(), NEWEST)
    assert problem is None
    found = entry(0, answered(0), rules=rules)
    assert (found["rules_total"], found["rules_blind"], found["rules_half_blind"]) == (3, ["Read"], ["Both"])
    assert campaigns.production_rules(None, host.facts(), NEWEST)[1] and campaigns.production_rules("{", host.facts(), NEWEST)[1]


# --- what comes next -----------------------------------------------------------------------------------------------


def campaign(answers, accepted=1.0):
    """The guide's campaign with these answers, as the action runs it."""
    done = []
    for number, answer in enumerate(answers):
        reason = campaigns.skipped(campaigns.GUIDE[number], GUIDE[number], done)
        done.append(campaigns.unrun(campaigns.GUIDE[number], reason) if reason else entry(number, answer, accepted))
    return done, campaigns.verdict(done, accepted)


def answers(*losses, events=(100000, 200000, 300000, 400000, 500000)):
    return [answered(number, events[number], int(events[number] * lost / 100)) for number, lost in enumerate(losses)]


@pytest.mark.parametrize("losses,states,verdict,largest", [
    ((0, 0, 0, 0, 0), ["clean"] * 5, "largest", "T5 files"),
    ((0, 0, 0, 0, 7), ["clean"] * 4 + ["dropping"], "largest", "T4 clients"),
    ((0, 0, 0, 0.5, 7), ["clean"] * 3 + ["accepted", "dropping"], "largest", "T4 clients"),
    ((9, 0, 0, 0, 0), ["dropping"] + ["skipped"] * 4, "too_busy", None),
    ((0, 2, 2, 2, 2), ["clean"] + ["dropping"] * 4, "largest", "T1 processes"),
])
def test_campaigns(losses, states, verdict, largest):
    done, found = campaign(answers(*losses))
    assert [item["state"] for item in done] == states
    assert (found["verdict"], found["largest"]) == (verdict, largest), found


def test_losses_that_are_no_matter_of_load_are_told_apart():
    pair = measured(1000, 990, 60.0, n_drops_page_faults=900)
    reason = campaign([answered(0, pair=pair), None, None, None, None])[1]["reason"]
    assert "(page_faults 900, uncategorised 90)" in reason and "don't help" in reason and "too busy" not in reason
    assert "too busy for Falco as it is" in campaign(answers(9, 0, 0, 0, 0))[1]["reason"]


def test_a_largest_set_that_keeps_falco_busy_is_said_to():
    made = [answered(0), answered(1, cpu={"seconds": 60, "on": 59.4, "waiting": 0.1})]
    reason = campaigns.verdict([entry(number, answer) for number, answer in enumerate(made)], 1.0)["reason"]
    assert reason.startswith("T2 repair: 18 system calls") and ". But Falco used 99 % of a CPU" in reason


def test_of_equal_sets_the_one_with_more_calls_is_larger():
    done, found = campaign(answers(0, 0, 0, 0, 0, events=(5, 5, 5, 5, 5)))
    assert found["largest"] == "T2 repair"


def test_a_set_that_holds_another_is_larger_whatever_the_load_was():
    """As measured on a real Falco: 196 events/s with the first set, and 148 with the second some seconds later."""
    done = [entry(0, answered(0, 1960)), entry(1, answered(1, 1480))]
    assert campaigns.verdict(done, 1.0)["largest"] == "T2 repair"


def test_a_set_that_holds_a_losing_one_is_not_run():
    done = [entry(3, answered(3, drops=50000))]
    assert "watches all that T4 clients watches" in campaigns.skipped({"name": "x"}, selections.select(NEWEST, campaigns.RULE_CALLS, [
        *campaigns.GUIDE[3]["custom_set"], "open"]), done)
    assert campaigns.skipped(campaigns.GUIDE[4], GUIDE[4], done) is None


def test_an_aborted_test_ends_the_campaign():
    done, found = campaign([answered(0), answered(1, state="aborted", reason="the load is 9", pair=None), None, None, None])
    assert [item["state"] for item in done] == ["clean", "aborted", "skipped", "skipped", "skipped"]
    assert found == {"verdict": "aborted", "reason": "T2 repair: the load is 9", "largest": "T1 processes"}


def test_nothing_but_failures():
    done = [entry(number, answered(number, state="failed", reason="Falco ended: a %d" % number, pair=None)) for number in range(5)]
    assert campaigns.verdict(done, 1.0) == {"verdict": "failed", "reason": "T1 processes: Falco ended: a 0", "largest": None}
    assert campaigns.verdict([campaigns.unrun(test, "too old", "failed") for test in campaigns.GUIDE], 1.0)["reason"] == "too old"


def test_lines_are_plain_text():
    item = dict(entry(0, answered(0, state="failed", reason="{{ 1 }} \x1b[2J\n\u202e", pair=None)), name="a\u0007b")
    found = {**campaigns.verdict([item], 1.0), "tests": [item]}
    for text in campaigns.lines(found):
        assert text.isprintable()
    assert "\\x1b[2J\\x0a" in " ".join(campaigns.lines(found))


# --- what holds for any answers ------------------------------------------------------------------------------------

loss = st.sampled_from([0, 0, 0.2, 0.9, 1.1, 5, 60, 100])
outcome = st.tuples(st.sampled_from(["ran", "ran", "ran", "ran", "aborted", "failed"]), st.integers(1, 10 ** 7), loss,
                    st.none() | st.integers(0, 100))


@given(st.lists(outcome, min_size=5, max_size=5), st.sampled_from([0, 0.5, 1.0, 10.0]))
def test_any_campaign(outcomes, accepted):
    made = []
    for number, (state, events, lost, cpu) in enumerate(outcomes):
        made.append(answered(number, events, int(events * lost / 100), state=state))
        if state != "ran":
            made[-1].update(pair=None, reason="why")
        if cpu is not None:
            made[-1]["cpu"] = {"seconds": 60, "on": cpu, "waiting": 0}
    done, found = campaign(copy.deepcopy(made), accepted)
    assert (done, found) == campaign(copy.deepcopy(made), accepted)
    assert campaigns.verdict(list(reversed(done)), accepted)["largest"] == found["largest"]
    by_name = {item["name"]: item for item in done}
    for number, item in enumerate(done):
        assert (item["state"] == "clean") <= (item["drops"] == 0)
        assert (item["state"] == "accepted") <= (0 < (item["drops_percent"] or 0) <= accepted)
        assert (item["state"] == "dropping") <= ((item["drops_percent"] or 0) > accepted)
        if item["state"] in ("clean", "accepted"):
            # Nothing that it watches all of has lost too much, and it is not larger than the largest.
            assert not any(other["state"] == "dropping" and set(other["selected"]) <= set(item["selected"]) for other in done[:number])
            inner = any(set(item["selected"]) < set(other["selected"]) for other in done if other["state"] in ("clean", "accepted"))
            assert inner or by_name[found["largest"]]["events_per_second"] >= item["events_per_second"]
    if found["largest"]:
        assert by_name[found["largest"]]["state"] in ("clean", "accepted")
        assert found["verdict"] in ("largest", "aborted")
    if found["verdict"] == "too_busy":
        assert any(item["state"] == "dropping" for item in done) and not any(item["state"] in ("clean", "accepted") for item in done)
    assert found["reason"] and all(text.isprintable() for text in campaigns.lines({**found, "tests": done}))
