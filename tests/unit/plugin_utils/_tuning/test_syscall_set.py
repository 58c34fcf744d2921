# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cheapest set that reaches a target; nothing protected is ever lost."""

import json

import pytest
import yaml
from ansible.plugins.filter.core import to_nice_yaml
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import selections
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import coverage, ruleset, state
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies, syscall_set
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.syscall_names import names_for
from hypothesis import given, settings
from hypothesis import strategies as st

NAMES = names_for("0.44.1")


def rule(name, *calls, priority="warning", tags=(), reads="proc.name=x"):
    return {"rule": name, "desc": "d", "output": "o", "condition": "evt.type in (%s) and %s" % (", ".join(calls), reads),
            "priority": priority, "tags": list(tags)}


def resolve(*given):
    return ruleset.resolve([("f", json.dumps(list(given)))], "0.44.1")["rules"]


RULES = resolve(rule("files", "open", "openat", "openat2"), rule("network", "connect", "sendto", tags=["network"]),
                rule("programs", "execve", "execveat", priority="critical"), rule("links", "symlink", "link"))
PROFILE = {"seconds": 1.0, "counts": {"openat": 10000, "open": 100, "close": 9000, "sendto": 6000, "recvfrom": 8000, "connect": 500,
                                      "execve": 50, "read": 99999, "link": 300, "fcntl": 700,
                                      "sched_process_exit": 50}}


def choose(given=RULES, target=None, current=None, profile=PROFILE, release="0.44.1", drops=None, rate=None, **policy):
    return syscall_set.choose(given, release, policies.complete(policy), current, profile, drops, rate, target)


def test_repair_comes_first_and_costs_no_rule_anything():
    made = choose()
    assert (made["repair"], made["custom_set"], made["reached"]) == (True, [], None)
    assert made["coverage"] == {"rules_total": 4, "blind": [], "half_blind": [], "wrong_output": [], "newly": []}
    assert "recvfrom" in made["removed"] and made["after"]["events_per_second"] == made["before"]["events_per_second"] - 8700
    assert made["selected"] == selections.select("0.44.1", coverage.needs(RULES, "0.44.1"), [], True)["selected"]


def test_repair_alone_is_never_followed_by_exclusions_without_consent():
    made = choose(target=1.0)
    assert made["custom_set"] == [] and made["reached"] is False
    assert made["frontier"][0]["exclude"] == ["openat"], "what could be excluded is told all the same"


def test_exclusions_come_in_the_order_of_events_saved_for_each_rule_lost():
    made = choose(target=20000, syscalls="exclude")
    assert made["custom_set"] == ["!openat"] and made["reached"] is True
    assert made["coverage"]["half_blind"] == [{"rule": "files", "lost": ["openat"], "left": ["open", "openat2"], "ways": []}]
    assert made["coverage"]["newly"] == ["files"]
    assert [step["exclude"][-1] for step in made["frontier"]] == ["openat", "open", "sendto", "connect", "link"]
    assert [step["rules_blind"] for step in made["frontier"]] == [0, 0, 0, 1, 1]


def test_what_a_reached_target_does_not_need_is_not_excluded():
    made = choose(target=16500, syscalls="exclude", protected_rules=["files"])
    assert made["custom_set"] == [] and "rules would lose events for no gain" in made["reasons"][-1]
    made = choose(target=20100, syscalls="exclude", protected_rules=["files"])
    assert made["custom_set"] == ["!sendto"]


def test_a_target_that_can_not_be_reached_blinds_nobody():
    made = choose(target=10, syscalls="exclude")
    assert made["custom_set"] == [] and made["reached"] is False and made["coverage"]["newly"] == []
    assert "would come down to" in made["reasons"][-1] and made["frontier"]


def test_a_target_that_is_reached_already_changes_only_what_is_free():
    assert choose(target=1e9, syscalls="exclude")["custom_set"] == []


@pytest.mark.parametrize("policy, protected", [
    ({"protected_rules": ["files"]}, "files"), ({"protected_tags": ["network"]}, "network"), ({"protected_priority": "warning"}, "files"),
    ({}, "programs"),
])
def test_protected_rules_lose_nothing(policy, protected):
    made = choose(target=1.0, syscalls="exclude", **policy)
    assert all(protected not in step["lost"] for step in made["frontier"])


def test_required_calls_are_selected_whatever_happens():
    made = choose(required_syscalls=["recvfrom", "sendto"], target=1.0, syscalls="exclude")
    assert {"recvfrom", "sendto"} <= set(made["selected"]) and made["custom_set"] == ["recvfrom"]
    assert all("sendto" not in step["exclude"] and "recvfrom" not in step["exclude"] for step in made["frontier"])


@pytest.mark.parametrize("name, text", [("pread64", "Falco calls it pread"), ("opnat", "openat is nearest"),
                                        ("container", "event of Falco's own"), ("read", "base_syscalls.all")])
def test_a_required_call_that_can_not_be_watched_is_refused(name, text):
    with pytest.raises(syscall_set.SetError, match=text):
        choose(required_syscalls=[name])


def test_somebodys_exclusion_of_what_is_protected_is_taken_out():
    made = choose(current={"custom_set": ["!execve", "!connect"]})
    assert made["custom_set"] == ["!connect"]
    assert "!execve is taken out: the rule 'programs' is protected and needs execve" in made["reasons"]


def test_somebodys_own_entries_stay():
    made = choose(current={"custom_set": ["fchmod", "!connect"]})
    assert made["custom_set"] == ["fchmod", "!connect"] and "fchmod" in made["selected"]


def test_a_set_that_is_narrower_than_repair_is_left_alone():
    lean = {"custom_set": ["clone", "execve", "procexit"], "repair": False}
    made = choose(current=lean)
    assert (made["repair"], made["custom_set"]) == (False, lean["custom_set"])


def test_keep_keeps_and_tells_the_coverage():
    made = choose(current={"custom_set": ["!sendto"]}, syscalls="keep")
    assert (made["repair"], made["custom_set"], made["removed"]) == (False, ["!sendto"], [])
    assert made["coverage"]["half_blind"] == [{"rule": "network", "lost": ["sendto"], "left": ["connect"], "ways": []}]
    assert made["coverage"]["newly"] == []


def test_what_policy_fixes_is_taken_as_it_is_or_refused():
    made = choose(base_syscalls={"custom_set": ["!sendto"], "repair": True})
    assert (made["custom_set"], made["repair"]) == (["!sendto"], True)
    with pytest.raises(syscall_set.SetError, match="cannot be applied: the rule 'programs' is protected and needs execve"):
        choose(base_syscalls={"custom_set": ["!execve"]})
    with pytest.raises(syscall_set.SetError, match="holds '!pread64': pread64 is the kernel's name: Falco calls it pread"):
        choose(base_syscalls={"custom_set": ["!pread64"]})


def test_without_any_measurement_repair_is_all_there_is():
    made = choose(profile=None, target=1.0, syscalls="exclude")
    assert (made["basis"], made["repair"], made["custom_set"], made["frontier"]) == ("none", True, [], [])
    assert made["reached"] is None and made["before"]["events_per_second"] is None


def test_a_rule_that_restricts_nothing_keeps_everything_watched():
    wild = resolve(dict(rule("wild", "open"), condition="proc.name=x"))
    made = choose(given=wild)
    assert "openat" in made["selected"] and "mmap" in made["selected"] and "read" not in made["selected"]


def test_releases_before_0_40_have_no_all():
    made = choose(release="0.38.2", current={"all": True})
    assert made["all"] is False and made["before"]["events_per_second"] == 2 * choose()["before"]["events_per_second"]


def test_exclusions_survive_the_yaml_dumper():
    """A bare !sendto is a tag: what the role's template writes must come back as text."""
    made = choose(target=20000, syscalls="exclude")
    text = to_nice_yaml({"base_syscalls": {"custom_set": made["custom_set"], "repair": made["repair"]}})
    assert yaml.safe_load(text)["base_syscalls"]["custom_set"] == made["custom_set"] == ["!openat"]


calls = st.sampled_from(["open", "openat", "openat2", "close", "connect", "sendto", "sendmsg", "accept", "accept4", "execve", "clone",
                         "dup", "dup3", "read", "ptrace", "symlink", "socket", "recvfrom", "unlinkat", "getppid"])
some_rules = st.lists(st.tuples(st.lists(calls, min_size=1, max_size=5, unique=True),
                                st.sampled_from(["emergency", "critical", "warning", "debug"]),
                                st.lists(st.sampled_from(["a", "b"]), max_size=2),
                                st.sampled_from(["proc.name=x", "fd.name=/x", "not fd.type=file", "user.uid=0", "proc.cwd=/x",
                                                 "fd.sip=1.2.3.4", "new.field=x", "proc.stdin.type=ipv4"])), max_size=6).map(
    lambda found: resolve(*[rule("r%d" % number, *names, priority=priority, tags=tags, reads=reads)
                            for number, (names, priority, tags, reads) in enumerate(found)]))
counts = st.dictionaries(calls, st.integers(0, 10**6), max_size=12)
entries = st.lists(calls | calls.map("!{}".format), max_size=4)


@settings(max_examples=300)
@given(found=some_rules, counted=counts, custom_set=entries, repair=st.booleans(), target=st.none() | st.floats(1, 1e6),
       required=st.lists(calls.filter(lambda name: name != "read"), max_size=2), names=st.lists(st.sampled_from(["r0", "r2"]), max_size=2),
       tags=st.lists(st.sampled_from(["a"]), max_size=1), least=st.sampled_from(["none", "critical", "warning"]),
       mode=st.sampled_from(["lossless", "exclude"]))
def test_nothing_protected_is_ever_lost_and_the_same_input_gives_the_same_set(
        found, counted, custom_set, repair, target, required, names, tags, least, mode):
    given = {"syscalls": mode, "required_syscalls": required, "protected_rules": names, "protected_tags": tags, "protected_priority": least}
    current, profile = {"custom_set": custom_set, "repair": repair}, {"seconds": 1.0, "counts": counted}
    made = choose(found, target, current, profile, **given)
    assert made == choose(found, target, current, profile, **given)
    kernel = set(selections.select("0.44.1", coverage.needs(found, "0.44.1"), made["custom_set"], made["repair"])["kernel"])
    # What is promised is what Falco selects: select() equals the recorded dry runs (test_selection_recorded.py).
    assert set(made["selected"]) == NAMES.events_of(kernel)
    assert NAMES.kernel_of(required) <= kernel
    for item in found:
        order = ["emergency", "alert", "critical", "error", "warning"]
        protected = item["name"] in names or set(item["tags"]) & set(tags) or (
            least != "none" and item["priority"] in order[:order.index(least) + 1])
        if protected:
            assert set(item["kernel"]) - NAMES.ignored <= kernel, item
            assert not state.unseen(item, kernel, "0.44.1") or not made["repair"], item
    if mode == "lossless":
        assert {name for name in made["custom_set"] if name.startswith("!")} <= set(custom_set)
    if made["reached"] is not None:
        left = made["after"]["events_per_second"]
        assert made["reached"] == (left <= target) or left == pytest.approx(target, abs=0.1)


FD_RULES = resolve(rule("shadow", "open", "openat", "openat2", reads="fd.name=/etc/shadow"),
                   rule("shells", "dup", "dup2", "dup3", reads="fd.type in (ipv4, ipv6)"))
STATE_PROFILE = {"seconds": 1.0, "counts": {"openat": 5000, "close": 4000, "fcntl": 700, "recvfrom": 8000, "sendto": 6000, "recvmsg": 300,
                                            "accept4": 90, "pipe2": 50}}


def test_repair_alone_is_never_the_lossless_step_where_fields_need_more():
    made = choose(FD_RULES, profile=STATE_PROFILE)
    assert made["repair"] is True and {"fcntl", "accept", "recvmsg", "recvmmsg", "socketpair", "pidfd_getfd"} <= set(
        made["custom_set"])
    assert not {"recvfrom", "sendto", "pipe2", "eventfd2"} & set(made["selected"]), "nothing reads pipes or peers of UDP"
    assert made["coverage"] == {"rules_total": 2, "blind": [], "half_blind": [], "wrong_output": [], "newly": []}
    assert "fcntl (700 events/s), recvmsg (300 events/s), accept (90 events/s), close_range, " in " ".join(made["reasons"])
    costs = {item["call"]: (item["events_per_second"], item["rules"]) for item in made["state"]}
    assert costs["fcntl"] == (700.0, 2) and costs["recvmsg"] == (300.0, 2)


def test_a_selection_by_repair_alone_is_completed():
    made = choose(FD_RULES, current={"repair": True}, profile=STATE_PROFILE)
    assert made["repair"] is True and "fcntl" in made["added"] and made["coverage"]["half_blind"] == []
    assert "repair: true alone leaves out calls that the fields of 2 rules need" in made["reasons"][0]
    again = choose(FD_RULES, current={"repair": True, "custom_set": made["custom_set"]}, profile=STATE_PROFILE)
    assert again["custom_set"] == made["custom_set"] and again["reasons"] == []


def test_somebodys_exclusion_of_a_call_that_carries_state_stays_and_is_told():
    made = choose(FD_RULES, current={"custom_set": ["!fcntl"]}, profile=STATE_PROFILE)
    assert "!fcntl" in made["custom_set"] and "fcntl" not in made["custom_set"]
    assert all([way["calls"] for way in item["ways"]] == [["fcntl"]] * len(item["ways"]) and item["ways"]
               for item in made["coverage"]["half_blind"])
    made = choose(FD_RULES, current={"custom_set": ["!fcntl"]}, profile=STATE_PROFILE, protected_rules=["shadow"])
    assert "!fcntl" not in made["custom_set"] and "fcntl" in made["selected"]
    assert "the rule 'shadow' is protected and fd.name reads" in made["reasons"][0]


def test_an_exclusion_takes_state_only_with_the_policys_word_and_names_the_ways():
    target = 1000
    assert "fcntl" in choose(FD_RULES, target, profile=STATE_PROFILE)["selected"]
    made = choose(FD_RULES, 4500, profile=STATE_PROFILE, syscalls="exclude", protected_rules=["shadow"])
    assert {"fcntl", "openat", "recvmsg"} <= set(made["selected"]), "the state of a protected rule"
    made = choose(FD_RULES, 9400, profile=STATE_PROFILE, syscalls="exclude")
    assert made["reached"] and "shells" in made["coverage"]["newly"] + ["shells"]
    assert made["coverage"]["half_blind"] and all(item["ways"] or item["lost"] for item in made["coverage"]["half_blind"])
    named = {call for item in made["coverage"]["half_blind"] for way in item["ways"] for call in way["calls"]}
    left_out = set(choose(FD_RULES, profile=STATE_PROFILE)["selected"]) - set(made["selected"])
    assert left_out <= named | {name for item in made["coverage"]["half_blind"] for name in item["lost"]}


def test_what_only_an_output_reads_is_excluded_before_what_a_condition_reads():
    def rule(name, condition, output):
        return {"rule": name, "desc": "d", "priority": "notice", "condition": condition, "output": output}

    found = ruleset.resolve([("f", json.dumps([rule("prints", "evt.type = ptrace", "%user.name"),
                                              rule("reads", "evt.type = ptrace and group.name = x", "o")]))], "0.44.1")["rules"]
    counted = {"counts": {"setreuid": 500, "setregid": 500, "ptrace": 10}, "seconds": 1}
    made = syscall_set.choose(found, "0.44.1", policies.complete({"syscalls": "exclude", "protected_priority": "none"}), profile=counted,
                              target=600)
    assert "setreuid" not in made["selected"] and "setregid" in made["selected"]
    assert [item["rule"] for item in made["coverage"]["wrong_output"]] == ["prints"] and made["coverage"]["half_blind"] == []


def test_fields_that_are_not_known_keep_every_call_and_are_named():
    made = choose(resolve(rule("new", "openat", reads="krsi.thing=x")))
    assert NAMES.state - NAMES.kernel_of(made["selected"]) <= NAMES.kernel_of(
        {"mount", "umount", "umount2", "getsockopt", "shutdown", "chroot"})
    assert any("the rule 'new' reads krsi.thing" in text for text in made["warnings"])


@settings(max_examples=150)
@given(found=some_rules, counted=counts, repair=st.booleans(), target=st.none() | st.floats(1, 1e6))
def test_the_lossless_step_gives_no_rule_a_worse_sight_than_the_default_selection(found, counted, repair, target):
    made = choose(found, target, {"repair": repair}, {"seconds": 1.0, "counts": counted})
    default = selections.select("0.44.1", coverage.needs(found, "0.44.1"))
    assert coverage.more_lost(coverage.coverage(found, default, "0.44.1"), made["coverage"]) == []
