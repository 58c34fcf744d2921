# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trials: what a host is asked."""

import json

import pytest
import yaml
from ansible_collections.falcotune.fleet.plugins.plugin_utils._trial import requests, rule_arms, tests
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import planner, policies
from ansible_collections.falcotune.fleet.tests.unit.hosts import FOLDER, Host, fragment


@pytest.mark.parametrize("version,said", [
    ("0.34.1", "no base_syscalls (since 0.35)"), ("0.32.0", "older than 0.33"), (None, "release is unknown")])
def test_a_release_without_base_syscalls(version, said):
    with pytest.raises(requests.Impossible) as error:
        requests.release_of(Host(version=version).facts())
    assert said in str(error.value)


def asked(host, number=0, with_plan=True, given=None, **options):
    facts, complete = host.facts(), policies.complete(given)
    made = planner.make(facts, complete) if with_plan else None
    return requests.build(tests.GUIDE[number], facts, made, tests.options(options), complete, requests.release_of(facts), True)


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
    assert config["base_syscalls"]["custom_set"] == tests.GUIDE[0]["custom_set"]
    on = [name for name, value in config.items() if isinstance(value, dict) and value.get("enabled")]
    assert sorted(on) == ["metrics", "stdout_output"]
    assert ("engine" in config) == (version > "0.37.9") and request["options"] == ([] if version > "0.38" else ["--modern-bpf"])
    assert version > "0.38" or config["syscall_buf_size_preset"] == 6
    assert ("all" in config["base_syscalls"]) == (version > "0.40")


PLUGINS = {"plugins": [{"name": "container", "library_path": "libcontainer.so", "init_config": {"token": "secret"}}, {"name": "json"}],
           "load_plugins": ["container"]}
RULES = {"priority": "notice", "rules": [{"disable": {"tag": "x"}}], "rule_matching": "all",
         "base_syscalls": {"custom_set": ["!close"], "repair": False}}


def of_rules(host, arm=None, **test):
    facts, complete = host.facts(), policies.complete(None)
    asked_test = tests.complete([{"name": "as it is", "without": {}, **test}])[0]
    return requests.build(asked_test, facts, None, tests.options({}), complete, requests.release_of(facts), True, arm)


def test_the_hosts_own_rules_are_loaded_as_the_host_has_them():
    host = Host().with_file(FOLDER + "/a.yaml", fragment(**PLUGINS, **RULES))
    request = of_rules(host)
    config = request["config"]
    assert config["rules_files"] == ["/etc/falco/falco_rules.yaml"] and config["load_plugins"] == ["container"]
    assert {name: config[name] for name in RULES} == RULES and request["files"] == {}
    assert request["options"] == ["--enable-source", "syscall"] and "secret" not in json.dumps(request)
    own = request["own_rules"]
    assert own["whole"] and own["sources"][-1] == {"path": FOLDER + "/a.yaml", "strategy": None} and own["paths"] == config["rules_files"]
    on = [name for name, value in config.items() if isinstance(value, dict) and value.get("enabled")]
    assert sorted(on) == ["metrics", "stdout_output"]
    assert of_rules(host, repair=True)["config"]["base_syscalls"] == {"custom_set": [], "repair": True, "all": False}


def test_a_part_of_the_hosts_own_rules():
    arm = rule_arms.Arm(["/etc/falco/falco_rules.yaml", "{trial}/rules-01.yaml"], {"rules-01.yaml": "[]"}, [], ["Shell"])
    request = of_rules(Host().with_file(FOLDER + "/a.yaml", fragment(**PLUGINS)), arm)
    assert request["config"]["rules_files"] == arm.paths and request["files"] == arm.files
    assert request["config"]["load_plugins"] == [] and not request["own_rules"]["whole"]


def test_an_old_release_has_one_file():
    request = of_rules(Host(version="0.35.0", files=OLD_FILE, options=(), arguments=["/usr/bin/falco", "--modern-bpf"], folders=()))
    assert request["config"]["rules_file"] == ["/etc/falco/falco_rules.yaml"] and not request["own_rules"]["fragments"]
    assert request["options"] == ["--modern-bpf", "--enable-source", "syscall"]


def test_the_driver_is_the_one_that_runs_not_the_one_in_the_file():
    host = Host(options=("engine.kind=kmod",)).with_file(FOLDER + "/engine-kind-falcoctl.yaml", fragment(engine={"kind": "modern_ebpf"}))
    assert asked(host, with_plan=False)["config"]["engine"]["kind"] == "kmod"


def test_a_falco_that_may_not_be_stopped_is_not():
    with pytest.raises(requests.Impossible, match="restart_ok is false: use beside"):
        asked(Host(), given={"restart_ok": False}, mode="instead")
    assert asked(Host(), given={"restart_ok": False})["mode"] == "beside"


@pytest.mark.parametrize("host, said", [
    (Host(), None), (Host(unit=None), None), (Host(quota=20.0), "CPUQuota 20 %"),
    (Host(quota=12.5, weight=200, limit=1 << 30), "CPUQuota 12.5 %, CPUWeight 200, MemoryMax 1073741824"),
])
def test_what_bounds_the_hosts_own_and_not_the_trials(host, said):
    text = requests.unbounded(host.facts())
    assert (text is None) if said is None else ("runs without %s of the host's own unit" % said in text)


def test_a_host_whose_falco_cannot_be_tried():
    with pytest.raises(requests.Impossible, match="watches no system calls of the host: no driver is opened"):
        asked(Host(options=("engine.kind=nodriver",)), with_plan=False)
    with pytest.raises(requests.Impossible, match="not YAML"):
        asked(Host().with_file("/etc/falco/falco.yaml", "a: [\n"), with_plan=False)
