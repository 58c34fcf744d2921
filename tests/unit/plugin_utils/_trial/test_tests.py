# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trials: the guide's tests, and what a user can get wrong."""

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.syscall_names import names_for
from ansible_collections.falcotune.fleet.plugins.plugin_utils._trial import tests

RELEASES = ["0.35.0", "0.36.2", "0.37.1", "0.38.2", "0.40.0", "0.41.3", "0.44.1"]
NEWEST = releases.release_for("0.44.1")
GUIDE = tests.predicted(tests.complete("guide"), NEWEST)


@pytest.mark.parametrize("version", RELEASES)
def test_the_guide_fits_every_release(version):
    release = releases.release_for(version)
    sizes = [len(item["selected"]) for item in tests.predicted(tests.complete("guide"), release)]
    assert sizes == [7, 18, 13, 11, 11]  # as recorded: dry-runs/SUMMARY.txt
    assert not any(item["warnings"] and item["invalid_positive"] for item in tests.predicted(tests.complete(None), release))


def test_every_test_of_the_guide_watches_all_that_the_first_does():
    for selection in GUIDE[1:]:
        assert set(GUIDE[0]["selected"]) < set(selection["selected"])


@pytest.mark.parametrize("given_tests,said", [
    ("guides", "expected guide, plugins, or a list"),
    ([], "expected guide, plugins, or a list"),
    ({"name": "x"}, "expected guide, plugins, or a list"),
    ([{"name": "x"}] * 51, "expected guide, plugins, or a list of 1 to 50"),
    (["x"], "test 1 is 'x': expected {name"),
    ([{"name": ""}], "the name is '': expected 1 to 60 characters"),
    ([{"name": "a\x1b[2J"}], "expected 1 to 60 characters"),
    ([{"custom_set": []}], "the name is None"),
    ([{"name": "x", "custom_sets": []}], "'custom_sets' is not known (did you mean custom_set?)"),
    ([{"name": "x", "custom_set": "open"}], "custom_set is 'open': expected a list"),
    ([{"name": "x", "custom_set": [1]}], "custom_set is [1]: expected a list"),
    ([{"name": "x", "repair": "perhaps"}], "repair is 'perhaps': expected true or false"),
    ([{"name": "x"}, {"name": "x"}], "test 2: there is another test called x"),
    ([{"name": "x", "without": ["a"]}], "without is ['a']: expected lists of names in {rules, tags"),
    ([{"name": "x", "without": {"rule": ["a"]}}], "without.rule is not known (did you mean rules?)"),
    ([{"name": "x", "without": {"rules": "a"}}], "without.rules is 'a': expected a list of names"),
    ([{"name": "x", "without": {"rules": "all"}}], "without.rules is 'all': expected a list of names"),
    ([{"name": "x", "without": {"tags": [""]}}], "without.tags is ['']: expected a list of names"),
    ([{"name": "x", "without": {}}, {"name": "y", "custom_set": ["open"]}], "tests without it (y): run one trial for rules"),
    ([{"name": "x", "against": "y"}], "against is only for tests with without"),
    ([{"name": "x", "without": {}, "against": "y"}], "against is 'y': expected the name of a test before it"),
    ([{"name": "x", "without": {}, "against": 1}], "against is 1: expected 1 to 60 characters"),
    ([{"name": "x", "without": {}}, {"name": "as it is", "without": {}}], "must be the first"),
])
def test_a_wrong_list_of_tests(given_tests, said):
    with pytest.raises(tests.TrialError) as error:
        tests.complete(given_tests)
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
    with pytest.raises(tests.TrialError) as error:
        tests.predicted(tests.complete([{"name": "mine", **test}]), NEWEST)
    assert said in str(error.value) and "mine: " in str(error.value) and "Nothing was changed" in str(error.value)


def test_all_is_not_known_before_0_40():
    mine = tests.complete([{"name": "mine", "custom_set": ["open", "read"], "all": True}])
    assert "read" in tests.predicted(mine, NEWEST)[0]["selected"]
    with pytest.raises(tests.TrialError, match="since 0.40"):
        tests.predicted(mine, releases.release_for("0.39.2"))


@pytest.mark.parametrize("given_options,said", [
    ({"seconds": 4}, "seconds is 4"), ({"seconds": 3601}, "seconds is 3601"), ({"mode": "inside"}, "one of beside, instead"),
    ({"metrics_interval": "100ms"}, "at least 200ms"), ({"metrics_interval": "30"}, "at least 200ms"),
    ({"metrics_interval": "10s", "seconds": 10}, "too long for tests of 10 s"), ({"max_load_per_cpu": 0}, "0.1 to 1000"),
    ({"min_available_percent": 100}, "0 to 99"), ({"max_more_drops_percent": -1}, "0 to 100"),
    ({"accepted_drops_percent": True}, "0 to 100"), ({"repeats": 21}, "0 to 20"),
])
def test_a_wrong_option(given_options, said):
    with pytest.raises(tests.TrialError) as error:
        tests.options(given_options)
    assert said in str(error.value) and "falco_trial_" in str(error.value)


def test_tests_of_rules_are_compared_with_everything_that_is_loaded():
    mine = tests.complete([{"name": "a", "without": {"tags": ["x"], "plugins": "all"}}, {"name": "b", "without": {}, "against": "a"}])
    assert [(test["name"], test["against"]) for test in mine] == [("as it is", None), ("a", "as it is"), ("b", "a")]
    assert mine[0]["without"] == dict.fromkeys(tests.WITHOUT, []) and mine[1]["without"]["plugins"] == ["*"]
    assert [item["selected"] for item in tests.predicted(mine, NEWEST)] == [None] * 3


def test_the_guides_advice_to_try_without_plugins_tells_rules_and_plugins_apart():
    found = tests.complete("plugins")
    assert [(test["name"], test["against"]) for test in found] == [
        ("as it is", None), ("without their rules", "as it is"), ("without plugins", "without their rules")]
    assert found[1]["without"]["rules_of_plugins"] == found[2]["without"]["plugins"] == ["*"]


@pytest.mark.parametrize("given,repeats,runs", [("guide", 0, 1), ("guide", 2, 2), ("plugins", 0, 3), ("plugins", 1, 1)])
def test_how_often_a_test_runs(given, repeats, runs):
    assert tests.runs_of(tests.complete(given), tests.options({"repeats": repeats})) == runs
