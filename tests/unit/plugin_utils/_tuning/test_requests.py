# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import hashlib
import json

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import planner
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.configuration import Settings
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import requests
from ansible_collections.falcotune.fleet.tests.unit.hosts import FOLDER, KIND_FILE, MAIN, OLD, SHIPPED, TARGET, Host

SERVING = {"webserver": {"enabled": True, "prometheus_metrics_enabled": True}, "metrics": {"enabled": True}}


def with_webserver(**changes):
    return dict(SERVING, webserver=dict(SERVING["webserver"], **changes))


@pytest.mark.parametrize("settings, url", [
    (SERVING, "http://127.0.0.1:8765/metrics"),
    (with_webserver(listen_port=9000, listen_address="10.0.0.5"), "http://10.0.0.5:9000/metrics"),
    (with_webserver(listen_address="::"), "http://[::1]:8765/metrics"),
    (with_webserver(listen_address="fe80::1"), "http://[fe80::1]:8765/metrics"),
    (with_webserver(listen_port="many"), "http://127.0.0.1:8765/metrics"),
    (with_webserver(ssl_enabled=True), ""),
    (with_webserver(enabled=False), ""),
    (with_webserver(prometheus_metrics_enabled=False), ""),
    (dict(SERVING, metrics={}), ""),
    ({}, ""),
])
def test_scrape_url(settings, url):
    assert requests.scrape_url(Settings(settings, releases.release_for("0.44.1"))) == url


@pytest.mark.parametrize("version, asked", [("0.37.1", False), ("0.38.2", False), ("0.41.0", False), ("0.41.1", True), ("0.44.1", True)])
def test_trap_18_metrics_are_not_asked_for_where_an_early_question_kills_falco(version, asked):
    assert bool(requests.scrape_url(Settings(SERVING, releases.release_for(version)))) is asked


def build(host, state="present", content="engine: {}\n", **given):
    policy = policies.complete(given)
    found = host.facts()
    return requests.build(state, planner.make(found, policy), found, policy, content)


def test_a_request_is_plain_data_that_says_what_to_write_and_what_to_expect():
    host = Host(cpus=32).with_file(KIND_FILE, "engine: {kind: modern_ebpf}\n")
    built = build(host, apply="reload", healthy_deadline=90)
    assert json.loads(json.dumps(built)) == built
    assert (built["layout"], built["target"], built["main"], built["content"]) == ("dropin", TARGET, MAIN, "engine: {}\n")
    assert built["expected"] == {path: hashlib.sha256(text.encode()).hexdigest() for path, text in host.files.items()}
    assert built["reload_paths"] == [FOLDER, "/etc/falco/falco_rules.yaml"]
    assert built["load_order"] == [{"path": KIND_FILE, "strategy": None}, {"path": TARGET, "strategy": None}]
    assert (built["apply"], built["restart"], built["dry_run"], built["version"]) == ("reload", True, "--dry-run", "0.44.1")
    assert built["proof"] == {"healthy_deadline": 90, "min_healthy_time": 5, "metrics_file": "/var/log/falco/metrics.jsonl",
                              "scrape_url": "",
                              "driver": "modern_ebpf", "buffers": {"count": 8, "bytes_each": 32 << 20}, "unit_settings": {},
                              "drops_at_most": None, "counters": True, "interval": 30.0}
    assert built["attempt"] is None and built["before"] is None


@pytest.mark.parametrize("entries, files, order", [
    ("  - {path: /etc/falco/config.d, strategy: override}\n", {}, [(TARGET, "override")]),
    ("  - /etc/falco/config.d\n", {FOLDER + "/zzz.yaml": "json_output: true\n"}, [(TARGET, None), (FOLDER + "/zzz.yaml", None)]),
    ("  - /etc/falco/config.d\n  - /etc/falco/aa.yaml\n", {"/etc/falco/aa.yaml": "json_output: true\n"},
     [(TARGET, None), ("/etc/falco/aa.yaml", None)]),
    ("  - /etc/falco/config.d\n", {TARGET: "json_output: true\n"}, [(TARGET, None)]),
])
def test_load_order_is_that_after_the_change(entries, files, order):
    host = Host(files=dict({MAIN: SHIPPED.replace("  - /etc/falco/config.d\n", entries)}, **files))
    assert [(item["path"], item["strategy"]) for item in build(host)["load_order"]] == order


def test_a_single_file_keeps_its_own_strategy():
    main = SHIPPED.replace("  - /etc/falco/config.d\n", "  - {path: /etc/falco/aa.yaml, strategy: override}\n  - /etc/falco/config.d\n")
    host = Host(files={MAIN: main, "/etc/falco/aa.yaml": "load_plugins: [a]\n"})
    assert build(host)["load_order"][0] == {"path": "/etc/falco/aa.yaml", "strategy": "override"}


def test_full_writes_the_main_file_and_loads_no_more():
    built = build(Host(version="0.34.1", files={MAIN: OLD}, arguments=["falco"]))
    assert (built["layout"], built["target"], built["load_order"], built["dry_run"]) == ("full", MAIN, [], "--support")


def test_what_needs_no_restart_asks_for_none():
    host = Host()
    host = host.after(planner.make(host.facts(), {}))
    built = build(host.but(metrics_dir_exists=False))
    assert built["restart"] is False and built["content"] == "" and built["directories"] == ["/var/log/falco"]


def test_rollback_needs_no_facts():
    built = requests.build("rolled_back", None, None, policies.complete({"rollback_to": "original"}))
    assert built["state"] == "rolled_back" and built["rollback_to"] == "original" and built["content"] == ""


def test_an_unfinished_change_needs_no_more_than_the_hosts_records():
    built = build(Host(unfinished={"phase": "swapped"}))
    assert built["state"] == "present" and built["layout"] is None and built["expected"] == {}


@pytest.mark.parametrize("hashes, origin", [
    ({}, [None]), ({"/etc/x": hashlib.sha256(b"new\n").hexdigest()}, []), ({"/etc/x": "0"}, ["something else"]), ({"/etc/x": None}, [None]),
])
def test_pending_files_are_those_that_are_not_as_written(hashes, origin):
    plan = {"changes": [], "host_files": [{"path": "/etc/x", "content": "new\n", "why": "because"}]}
    found = requests.pending({"host": {"files": hashes}}, policies.complete({}), plan)
    assert [item["from"] for item in found] == origin
    assert all((item["kind"], item["key"], item["why"]) == ("file", "/etc/x", "because") for item in found)


def test_pending_files_are_looked_for_below_the_host_root():
    hashes = {"/host/etc/x": hashlib.sha256(b"new\n").hexdigest()}
    policy = policies.complete({"host_root": "/host"})
    plan = {"changes": [], "host_files": [{"path": "/etc/x", "content": "new\n", "why": "because"}]}
    assert requests.pending({"host": {"files": hashes}}, policy, plan) == []


def test_a_selection_is_to_be_seen_by_the_host_only_where_the_plan_changes_it():
    host = Host()
    found = host.facts()
    found["syscalls"] = {"rules": [], "selected": [], "profile": None, "reason": None}
    policy = policies.complete({"base_syscalls": {"repair": True}})
    plan = planner.make(found, policy)
    built = requests.build("present", plan, found, policy, "x: 1\n")
    assert built["selected"] == plan["syscalls"]["selected"] and "execve" in built["selected"]
    assert build(host)["selected"] is None


def test_drops_may_be_as_before_with_the_tolerance_and_what_is_accepted():
    complete = policies.complete({"tolerance_percent": 20, "accepted_drops_percent": 1})
    assert requests.drops_at_most({"drops_percent": 10.0}, complete) == 13.0
    assert requests.drops_at_most({"drops_percent": 0.0}, complete) == 1.0
    assert requests.drops_at_most({"drops_percent": None}, complete) is None and requests.drops_at_most(None, complete) is None


@pytest.mark.parametrize("given, version, said", [
    ({"evidence": "counters", "metrics": False}, "0.44.1", "falco_tune_metrics is false"),
    ({"evidence": "counters"}, "0.33.1", "Falco 0.33.1 writes no metrics to a file"),
    ({"evidence": "auto", "metrics": False}, "0.44.1", None), ({"evidence": "counters"}, "0.44.1", None),
    ({"evidence": "process"}, "0.33.1", None),
])
def test_evidence_that_a_host_can_not_give_is_refused_at_once(given, version, said):
    complete = policies.complete(given)
    host = Host() if version == "0.44.1" else Host(version=version, files={MAIN: OLD}, arguments=["falco"])
    found = requests.weak_evidence(planner.make(host.facts(), complete), complete)
    assert said in found if said else found is None


def test_a_kept_change_is_another_one_when_anything_of_it_is():
    built = build(Host(cpus=32))
    assert requests.digest(built) == requests.digest(build(Host(cpus=32)))
    for name, value in (("content", "x"), ("expected", {}), ("sysctls", {"a": "1"})):
        assert requests.digest(dict(built, **{name: value})) != requests.digest(built)


@pytest.mark.parametrize("state", ["rolled_back", "proven"])
def test_nothing_says_that_a_rollback_can_be_a_hot_reload(state):
    policy = policies.complete({"apply": "reload"})
    assert requests.build(state, None, None, policy)["apply"] == "restart"
