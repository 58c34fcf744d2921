# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import buffers, policies

CLASS = dict(buffers.DEFAULT_CLASSES[0])
CLASSES = "a list of {min_cpus, kmod, ebpf, modern_ebpf, cpus_for_each_buffer}"

# Key: [(wrong value, what was expected)].
WRONG = {
    "host_root": [("relative", "an absolute path"), (5, "an absolute path"), ("/a\nb", "an absolute path"), ("/a\0", "an absolute path")],
    "unit": [("falco service", "the name of a systemd unit"), ("falco;reboot", "the name of a systemd unit"),
             ("falco.service\n", "the name of a systemd unit"), ("--host=other", "the name of a systemd unit"),
             (None, "the name of a systemd unit")],
    "config_file": [("falco.yaml", "an absolute path"), (["/etc/falco/falco.yaml"], "an absolute path")],
    "state_dir": [("var/lib", "an absolute path"), ("", "an absolute path"), ("/", "an absolute path")],
    "layout": [("drop-in", "one of auto, dropin, full"), (None, "one of auto, dropin, full"), ([], "one of auto, dropin, full")],
    "fragment_name": [("zz.conf", "a file name such as zz-falcotune.yaml"), ("a/zz.yaml", "a file name such as zz-falcotune.yaml"),
                      (".zz.yaml", "a file name such as zz-falcotune.yaml"), ("zz.yaml\n", "a file name such as zz-falcotune.yaml"),
                      (7, "a file name such as zz-falcotune.yaml")],
    "driver": [("bpf", "one of auto, kmod, ebpf, modern_ebpf"), ("modern-ebpf", "one of auto, kmod, ebpf, modern_ebpf")],
    "buf_size_preset": [(0, "auto, or a number from 1 to 10"), (11, "auto, or a number from 1 to 10"),
                        ("large", "auto, or a number from 1 to 10"),
                        (True, "auto, or a number from 1 to 10"), (4.5, "auto, or a number from 1 to 10"),
                        (None, "auto, or a number from 1 to 10"), (-1, "auto, or a number from 1 to 10")],
    "cpus_for_each_buffer": [(-1, "auto, or a number from 0 to 65535"), (65536, "auto, or a number from 0 to 65535")],
    "buffer_classes": [([], CLASSES), ("auto", CLASSES), ([{"min_cpus": 1}], CLASSES), ([dict(CLASS, extra=1)], CLASSES),
                       ([dict(CLASS, kmod=11)], "presets from 1 to 10"), ([dict(CLASS, min_cpus=0)], "a number from 1 to 65536"),
                       ([dict(CLASS, min_cpus=2)], "whose first class starts at min_cpus: 1"), ([1], CLASSES)],
    "keep_larger_buffers": [("maybe", "true or false"), (2, "true or false"), (None, "true or false")],
    "memory_share_percent": [(0, "a number from 0.01 to 100"), (101, "a number from 0.01 to 100"), ("nan", "a number from 0.01 to 100"),
                             ("inf", "a number from 0.01 to 100"), (True, "a number from 0.01 to 100"),
                             ("2%", "a number from 0.01 to 100")],
    "available_share_percent": [(-5, "a number from 0.01 to 100"), ("", "a number from 0.01 to 100")],
    "buffer_max_bytes": [(-1, "a number from 0 to"), ("1GiB", "a number from 0 to"), (1.5, "a number from 0 to")],
    "metrics": [("sometimes", "true or false")],
    "metrics_interval": [("30", "a Falco duration of at least 200ms"), ("199ms", "a Falco duration"), ("5x", "a Falco duration"),
                         ("", "a Falco duration"), (30, "a Falco duration"), ("30m1h", "a Falco duration"), ("-5s", "a Falco duration")],
    "metrics_dir": [("log", "an absolute path"), ("", "an absolute path"), ("/", "an absolute path")],
    "metrics_rotate_size": [("20MB", "a size as logrotate reads it"), (0, "a size"), ("-1M", "a size"), ("20M\n", "a size"),
                            ("20M\n}", "a size")],
    "metrics_rotate_count": [(0, "a number from 1 to 100"), (101, "a number from 1 to 100")],
    "bpf_stats": [("", "true or false")],
    "observe_seconds": [(-0.1, "a number from 0 to 60"), (61, "a number from 0 to 60")],
    "metrics_sources": [([], "a list of metrics_file"), (["journal", "journal"], "each at most once"),
                        (["dmesg"], "a list of metrics_file"), (None, "a list of")],
    "metrics_max_bytes": [(0, "a number from 65536"), (1 << 31, "a number from 65536"), ("2M", "a number from 65536")],
    "window": [("1", "a Falco duration"), (60, "a Falco duration"), ("soon", "a Falco duration")],
    "prometheus_seconds": [(0, "a number from 1 to 600"), (601, "a number from 1 to 600")],
    "round_trip_seconds": [(9, "a number from 10 to 86400"), (86401, "a number from 10 to 86400"), ("5m", "a number from 10 to 86400")],
    "min_observation": [(0, "a number from 1 to"), ("1m", "a number from 1 to")],
    "accepted_drops_percent": [(-1, "a number from 0 to 100"), (101, "a number from 0 to 100"), ("1%", "a number from 0 to 100")],
    "tolerance_percent": [(0, "a number from 1 to 100"), (101, "a number from 1 to 100")],
    "exclude_hours": [(-1, "a number from 0 to 8760"), ("day", "a number from 0 to 8760")],
    "quiet_days": [(-1, "a number from 0 to 3650"), ("week", "a number from 0 to 3650")],
    "history": [(7, "the path of an SQLite file"), ("a\nb", "connection string of libpq"), ("host=db password=x", "without its password")],
    "rounds": [(0, "a number from 1 to 10"), ("all", "a number from 1 to 10")],
    "priority": [("high", "true or false")],
    "nice_ceiling": [(1, "a number from -20 to 0"), (-21, "a number from -20 to 0"), (-1.5, "a number from -20 to 0")],
    "cpu_weight_ceiling": [(0, "a number from 1 to 10000"), (10001, "a number from 1 to 10000")],
    "unthrottle": [("a bit", "true or false")],
    "syscalls": [("lean", "one of keep, lossless, exclude"), (True, "one of keep")],
    "base_syscalls": [([], "a mapping with any of custom_set"), ({"custom": []}, "a mapping with any of"),
                      ({"repair": "perhaps"}, "a mapping with any of"), ({"custom_set": [1]}, "a mapping with any of")],
    "restore_rules": [("maybe", "true or false"), (None, "true or false")],
    "excludable_syscalls": [(7, "a list of names"), ([""], "a list of names")],
    "required_syscalls": [(7, "a list of names"), ([""], "a list of names"), ([["open"]], "a list of names")],
    "protected_rules": [({"a": 1}, "a list of names")],
    "protected_tags": [([None], "a list of names")],
    "disabled_rules": [({"a": 1}, "a list of names")], "disabled_tags": [([None], "a list of names")],
    "disabled_plugins": [({"a": 1}, "a list of names")],
    "disabled_findings": [(["no_evtype"], "a list of kinds of findings: encoding, no_evttype")],
    "protected_priority": [("urgent", "one of none, emergency"), (None, "one of none")],
    "profile_seconds": [(-1, "0, or a number from 0.5 to 60"), (61, "0, or a number"), ("5s", "0, or a number"), (0.2, "0, or a number")],
    "restart_ok": [("y", "true or false")],
    "apply": [("reboot", "one of restart, reload")],
    "healthy_deadline": [(4, "a number from 5 to 3600"), (3601, "a number from 5 to 3600"), ("120s", "a number from 5 to 3600")],
    "min_healthy_time": [(-1, "a number from 0 to 3000"), ("soon", "a number from 0 to 3000")],
    "rollback_to": [("first", "one of previous, original")],
    "kept_changes": [(0, "from 1 to 1000"), (1001, "from 1 to 1000"), ("many", "from 1 to 1000")],
    "evidence": [("belief", "one of auto, counters, process")],
    "auto_revert": [("perhaps", "true or false")],
    "canaries": [(-1, "a number from 0 to 1000"), ("one", "a number from 0 to 1000")],
    "max_parallel": [(-1, "a number from 0 to 100000"), ("5%", "a number from 0 to 100000")],
    "failure_domain": [("{{ rack }}", "the name of a variable"), ("rack-no", "the name of a variable"), (7, "the name of a variable")],
    "domain_share_percent": [(101, "a number from 0 to 100"), ("third", "a number from 0 to 100")],
    "failure_budget": [(-1, "a number of hosts from 0"), ("101%", "a number of hosts from 0"), (True, "a number of hosts from 0"),
                       (0.5, "a number of hosts from 0")],
    "slices": [("merge", "one of refuse, separate")],
    "promote": [("later", "one of auto, manual")],
    "confirm": [("perhaps", "true or false")],
    "serial": [(0, "a number of hosts from 1"), ("101%", "a number of hosts from 1"), ("half", "a number of hosts from 1"),
               ([1, "x"], "a number of hosts from 1"),
               ([], "a number of hosts from 1"), ("110%", "a number of hosts from 1"), ("5\n", "a number of hosts from 1"),
               (True, "a number of hosts from 1")],
}

RIGHT = [
    ("host_root", "/host/", "/host"), ("host_root", "/", ""), ("unit", "falco@a.service", "falco@a.service"),
    ("config_file", "/a/b.yaml", "/a/b.yaml"),
    ("fragment_name", "zz-mine.yml", "zz-mine.yml"), ("fragment_name", "falco-tuning.yaml", "falco-tuning.yaml"),
    ("buf_size_preset", "7", 7), ("buf_size_preset", 10, 10), ("cpus_for_each_buffer", 0, 0), ("cpus_for_each_buffer", "auto", "auto"),
    ("keep_larger_buffers", "no", False), ("metrics", 1, True), ("memory_share_percent", "0.5", 0.5),
    ("buffer_max_bytes", "1048576", 1048576),
    ("metrics_interval", "1s 500ms", "1s 500ms"), ("metrics_interval", "200ms", "200ms"), ("metrics_rotate_size", 1048576, "1048576"),
    ("observe_seconds", 0, 0), ("serial", "30%", ["30%"]), ("failure_budget", 0, 0),
    ("failure_budget", "100%", "100%"), ("failure_domain", "rack", "rack"), ("serial", [1, "10%", 5], [1, "10%", 5]),
    ("hosts", "web:!db", "web:!db"),
    ("state_dir", "/srv/state/", "/srv/state"), ("nice_ceiling", "-20", -20), ("window", "2h", "2h"),
    ("metrics_sources", ["journal", "metrics_file"], ["journal", "metrics_file"]),
    ("metrics_sources", "journal", ["journal"]),
    ("required_syscalls", "open", ["open"]), ("required_syscalls", "", []), ("protected_tags", [" network "], ["network"]),
    ("base_syscalls", {"custom_set": "!sendto", "repair": "yes"}, {"custom_set": ["!sendto"], "repair": True}),
    ("protected_priority", "none", "none"), ("profile_seconds", 0, 0),
]


def test_every_option_has_a_wrong_value_here():
    assert set(WRONG) | {"hosts", "report_dir"} == set(policies.OPTIONS)


@pytest.mark.parametrize("name, value, expected", [(name, value, expected) for name in WRONG for value, expected in WRONG[name]])
def test_a_wrong_value_is_named_with_its_key_and_what_was_expected(name, value, expected):
    with pytest.raises(policies.PolicyError) as raised:
        policies.complete({name: value})
    text = str(raised.value)
    found = "of no use" if policies.OPTIONS[name].secret else repr(value)
    assert text.startswith("falco_tune_%s is %s: expected " % (name, found))
    assert expected in text


@pytest.mark.parametrize("name, value, result", RIGHT)
def test_right_values(name, value, result):
    completed = policies.complete({name: value})
    assert completed[name] == result
    assert set(completed) == set(policies.OPTIONS)


def test_the_defaults_pass_their_own_checks():
    defaults = policies.complete({})
    assert policies.complete(defaults) == defaults == {name: option.default for name, option in policies.OPTIONS.items()}
    assert policies.complete(None) == defaults


def test_defaults_are_not_shared_between_policies():
    policies.complete({})["buffer_classes"][0]["kmod"] = 9
    assert policies.complete({})["buffer_classes"][0]["kmod"] == 4


@pytest.mark.parametrize("name", ["90-tuning.yaml", "ZZ-tuning.yaml", "engine-kind-falcoctl.yaml", "a.yaml"])
def test_trap_03_fragment_names_that_sort_before_the_packages_own_are_refused(name):
    with pytest.raises(policies.PolicyError, match="sorts after engine-kind-falcoctl.yaml"):
        policies.complete({"fragment_name": name})


@pytest.mark.parametrize("key, said", [
    ("falco_tune_buf_size_prest", r"falco_tune_buf_size_prest is not a known policy key \(did you mean falco_tune_buf_size_preset\?\)"),
    ("memory_share_precent", r"memory_share_precent is not a known policy key \(did you mean memory_share_percent\?\)"),
    ("falco_tune_colour_of_the_sky", r"falco_tune_colour_of_the_sky is not a known policy key$"),
    ("falco_tune_", r"falco_tune_ is not a known policy key"),
])
def test_typo_suggestions(key, said):
    with pytest.raises(policies.PolicyError, match=said):
        policies.complete({key: 1})


def test_results_of_the_role_are_left_out_and_nothing_like_them():
    given = {"falco_tune_rollout": {"hosts": ["a"]}, "falco_tune_restart_required": True, "falco_tune_buf_size_preset": 5}
    assert policies.complete(given) == policies.complete({"buf_size_preset": 5})
    for name in ("rollout", "restart_required", "falco_tune_rollouts"):
        with pytest.raises(policies.PolicyError, match="%s is not a known policy key" % name):
            policies.complete({name: True})


def test_keys_may_carry_the_prefix():
    assert policies.complete({"falco_tune_buf_size_preset": 5}) == policies.complete({"buf_size_preset": 5})
    assert policies.complete({"mine_buf_size_preset": 5}, "mine_")["buf_size_preset"] == 5
    with pytest.raises(policies.PolicyError, match="^mine_buf_size_preset is 0"):
        policies.complete({"buf_size_preset": 0}, "mine_")


@pytest.mark.parametrize("given, message", [
    ({"healthy_deadline": 5, "min_healthy_time": 5},
     "falco_tune_min_healthy_time (5 s) must be shorter than falco_tune_healthy_deadline (5 s)"),
    ({"healthy_deadline": 10, "min_healthy_time": 60, "metrics": False}, "falco_tune_min_healthy_time (60 s) must be shorter"),
    ({"healthy_deadline": 65}, "falco_tune_healthy_deadline is 65 s, but evidence takes two metrics intervals of 30s and "
                               "falco_tune_min_healthy_time of 5 s: raise the deadline or shorten the interval"),
    ({"metrics_interval": "1h"}, "two metrics intervals of 1h"),
    ({"prometheus_seconds": 300}, "falco_tune_round_trip_seconds is 300 s, but measuring alone can take 306 s"),
    ({"round_trip_seconds": 66}, "raise it or shorten those"),
])
def test_deadlines_that_can_not_be_met_are_refused(given, message):
    with pytest.raises(policies.PolicyError) as raised:
        policies.complete(given)
    assert message in str(raised.value)


@pytest.mark.parametrize("given", [{"healthy_deadline": 66}, {"metrics": False, "metrics_interval": "1h"},
                                   {"metrics_interval": "1s", "healthy_deadline": 8}])
def test_deadlines_that_can_be_met_are_taken(given):
    assert policies.complete(given)["healthy_deadline"] == given.get("healthy_deadline", 120)


@pytest.mark.parametrize("text, milliseconds", [
    ("30s", 30000), ("1h30m", 5400000), ("1h 30m", 5400000), ("500ms", 500), ("1m500ms", 60500), ("1y", 31536000000), ("2w3d", 1468800000),
    ("5000", 0), ("", 0), ("s", 0), ("1s1h", 0), ("1.5s", 0), (None, 0), ("5 S", 0),
])
def test_duration(text, milliseconds):
    assert policies.duration_ms(text) == milliseconds


def test_buffer_policy_is_what_choose_reads():
    completed = policies.complete({"buffer_max_bytes": 5})
    part = policies.buffer_policy(completed)
    assert part["max_bytes"] == 5 and part["classes"] == completed["buffer_classes"]
    assert set(part) == {"classes", "max_bytes", "buf_size_preset", "cpus_for_each_buffer", "keep_larger_buffers", "memory_share_percent",
                         "available_share_percent"}


def test_a_window_that_is_shorter_than_the_least_observation_would_judge_nobody():
    with pytest.raises(policies.PolicyError,
        match=r"falco_tune_window \(30s\) must not be shorter than falco_tune_min_observation \(60 s\)"):
        policies.complete({"window": "30s"})
