# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""syscalls.select() and nearest(): documented examples, odd input, and what holds for any input."""

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import dry_run, releases, selections
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.syscall_names import REPAIR, names_for
from hypothesis import given
from hypothesis import strategies as st

RELEASES = ["0.35.0", "0.36.2", "0.37.1", "0.38.2", "0.39.2", "0.40.0", "0.41.3", "0.42.1", "0.43.1", "0.44.1"]
NEWEST = names_for("0.44.1")
legal = st.sampled_from(sorted(NEWEST.events))
# Illegal here, legal or not elsewhere; with a sign, without one.
odd = st.text(max_size=5) | st.sampled_from(
    ["pread64", "sched_process_exit", "opennat", "container", "", "!", "!!read", "READ", "task", "-1"])
entries = st.lists(st.builds(lambda sign, name: sign + name, st.sampled_from(["", "!"]), legal | odd), max_size=8)
rules = st.sets(legal, max_size=12)
versions = st.sampled_from(RELEASES)


def kinds(chosen):
    return {warning["kind"]: warning["names"] for warning in chosen["warnings"]}


@pytest.mark.parametrize("release", RELEASES)
def test_the_example_of_the_documentation(release):
    chosen = selections.select(release, ["execve", "execveat"], [], repair=True)
    assert (len(chosen["state"]), len(chosen["selected"])) == (16, 18)
    assert chosen["warnings"] == []


def test_names_that_falco_does_not_know():
    chosen = selections.select("0.44.1", ["execve"], ["pread64", "opne", "close", "!sched_process_exit"])
    assert chosen["invalid_positive"] == ["opne", "pread64"] and chosen["invalid_negative"] == ["sched_process_exit"]
    assert chosen["added"] == ["close"] and chosen["selected"] == ["close", "execve", "procexit"]
    texts = [warning["text"] for warning in chosen["warnings"]]
    assert any("pread64 is the kernel's name: Falco calls it pread" in text and "open is nearest" in text for text in texts)
    assert any("!sched_process_exit" in text and "procexit" in text for text in texts)
    assert "fallback" not in kinds(chosen)


def test_when_no_name_is_valid_the_default_set_comes_back():
    chosen = selections.select("0.44.1", ["execve"], ["opennat"])
    assert chosen["selected"] == selections.select("0.44.1", ["execve"], [])["selected"]
    assert kinds(chosen)["fallback"] == ["opennat"]
    assert "fallback" not in kinds(selections.select("0.44.1", ["execve"], ["!opennat"]))


def test_an_exclusion_that_the_repair_undoes():
    chosen = selections.select("0.44.1", ["open"], ["!clone", "!close", "!open"], repair=True)
    # close is back because the minimum itself holds chdir, which is of the file family.
    assert kinds(chosen)["restored"] == chosen["repaired"] == ["clone", "close"]
    assert chosen["unsupported"] == ["open"]


def test_procexit_cannot_be_excluded():
    chosen = selections.select("0.44.1", ["execve"], ["!procexit"])
    assert "procexit" in chosen["selected"] and chosen["removed"] == ["procexit"]
    assert kinds(chosen) == {"always": ["procexit"]}


@pytest.mark.parametrize(("release", "all_", "option", "collected"), [
    ("0.44.1", False, False, False), ("0.44.1", True, False, True), ("0.44.1", False, True, False), ("0.40.0", False, True, True),
    ("0.40.0", True, False, True), ("0.39.2", True, False, False), ("0.39.2", False, True, True), ("0.38.2", False, False, False),
])
def test_high_volume_calls_need_leave(release, all_, option, collected):
    chosen = selections.select(release, ["read", "execve"], [], all_=all_, option_all=option)
    assert ("read" in chosen["selected"]) == collected
    assert (chosen["ignored"], chosen["unsupported"]) == (([], []) if collected else (["read"], ["read"]))
    assert ("all_unknown" in kinds(chosen)) == (all_ and release < "0.40")
    assert ("option_gone" in kinds(chosen)) == (option and release > "0.41")


def test_accept_is_two_calls():
    def kernel(custom_set):
        return {name for name in selections.select("0.44.1", [], custom_set)["kernel"] if name.startswith("accept")}

    assert kernel(["accept"]) == {"accept", "accept4"} and kernel(["accept4"]) == {"accept4"}
    assert kernel(["!accept"]) == set() and kernel(["!accept4"]) == {"accept"}
    chosen = selections.select("0.44.1", [], ["accept4"])
    assert chosen["selected"] == ["accept", "accept4", "procexit"] and kinds(chosen)["accept"] == ["accept4"]
    assert "accept4" not in selections.select("0.44.1", [], ["!accept4"])["selected"]


@pytest.mark.parametrize("custom_set", [None, [], "", [None], [""]])
def test_nothing_in_custom_set(custom_set):
    assert selections.select("0.44.1", ["execve"], custom_set) == selections.select("0.44.1", ["execve"])


def test_a_scalar_is_a_list_of_one():
    assert selections.select("0.44.1", [], "execve") == selections.select("0.44.1", [], ["execve"])


def test_a_set_that_selects_nothing_of_its_own():
    chosen = selections.select("0.44.1", [], ["open", "!open"])
    assert chosen["selected"] == ["procexit"]


@pytest.mark.parametrize("release", ["0.33.0", "0.34.1", "0.12", "x"])
def test_releases_that_cannot_choose(release):
    with pytest.raises(releases.UnsupportedRelease):
        selections.select(release, [])


# nearest()

@pytest.mark.parametrize(("name", "wanted"), [
    ("open", "open"), ("pread64", "pread"), ("pwrite64", "pwrite"), ("prlimit64", "prlimit"), ("sched_process_exit", "procexit"),
    ("sched_switch", "switch"), ("setuid32", "setuid"), ("_llseek", "llseek"), ("signal_deliver", "signaldeliver"),
    ("page_fault_user", "page_fault"), ("sendfile64", "sendfile"), ("ugetrlimit", "getrlimit"), ("fcntl64", "fcntl"),
    ("opennat", "openat"), ("opne", "open"), ("!conect", "connect"), ("OPENAT", "openat"), (" close ", "close"),
    ("sys_enter_openat", "openat"), ("__x64_sys_pread64", "pread"), ("SYS_execve", "execve"), ("[openat]", "openat"),
    ("zzzzzz", None), ("", None), ("!", None), ("container", None), ("\x00", None), ("☃" * 500, None), (None, None), (7, None),
])
def test_the_nearest_name(name, wanted):
    found = selections.nearest(name, "0.44.1")
    assert found["name"] == wanted
    assert (found["text"] == "") == (str(name).strip(" !") in NEWEST.events)


def test_every_kernel_name_leads_to_its_event():
    for name in NEWEST.kernel - NEWEST.events:
        found = selections.nearest(name, "0.44.1")
        assert name in NEWEST.kernel_of({found["name"]}) and "the kernel's name" in found["text"]


def test_a_name_of_a_later_release():
    assert selections.nearest("listns", "0.38.2") == {"name": None, "text": "listns is known since Falco 0.44"}


# What holds for any input.

@given(versions, rules, entries, st.booleans(), st.booleans(), st.booleans())
def test_invariants(release, needed, custom_set, repair, all_, option):
    names = names_for(release)
    chosen = selections.select(release, needed, custom_set, repair, all_, option)
    selected, kernel = set(chosen["selected"]), set(chosen["kernel"])
    assert "procexit" in selected and "sched_process_exit" in kernel
    assert selected <= names.events and kernel <= names.kernel and names.events_of(kernel) == selected
    # Falco repairs last only with a custom set; without one nothing was excluded.
    if repair:
        assert REPAIR <= kernel
    anything = (all_ and release >= "0.40") or (option and release < "0.41")
    if not anything:
        assert not kernel & names.ignored
    else:
        assert chosen["ignored"] == []
    assert set(chosen["unsupported"]) <= set(chosen["rules"])
    assert (not chosen["unsupported"]) == (names.kernel_of(needed) <= kernel)
    wanted = {item for item in custom_set if item and not item.startswith("!")}
    assert set(chosen["invalid_positive"]) == wanted - names.events
    assert bool(chosen["state"]) <= (not chosen["added"])
    # What was asked for and neither taken back nor ignored is there.
    removed = names.kernel_of(item[1:] for item in custom_set if item.startswith("!"))
    ignored = set() if anything else names.ignored
    assert (names.kernel_of(needed) | names.kernel_of(wanted)) - removed - ignored <= kernel
    # What was taken away comes back only by the repair, and always procexit.
    assert kernel & removed <= {"sched_process_exit"} | (REPAIR | {"socket", "getsockopt", "bind", "close"} if repair else set())
    for key in dry_run.KEYS:
        assert chosen[key] == sorted(set(chosen[key]))
    assert all(warning["text"] and warning["names"] == sorted(warning["names"]) for warning in chosen["warnings"])


@given(versions, rules, entries, st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_anything_does_not_matter(release, needed, custom_set, repair, random):
    once = selections.select(release, needed, custom_set, repair)
    shuffled, mixed = list(needed), list(custom_set)
    random.shuffle(shuffled)
    random.shuffle(mixed)
    again = selections.select(release, shuffled, mixed, repair)
    assert again == once


@given(versions, rules, rules, st.booleans())
def test_more_rules_never_watch_less(release, needed, more, repair):
    few = set(selections.select(release, needed, [], repair)["kernel"])
    assert few <= set(selections.select(release, needed | more, [], repair)["kernel"])


@given(rules)
def test_repair_watches_no_more_than_the_default_and_its_minimum(needed):
    lean = set(selections.select("0.44.1", needed, [], repair=True)["kernel"])
    assert lean - set(selections.select("0.44.1", needed, [])["kernel"]) <= {"setpgid"}
