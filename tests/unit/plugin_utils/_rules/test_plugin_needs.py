# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rules need which plugins, and what is said of a plugin that none needs."""

import json
import os
from pathlib import Path

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import listing, plugin_needs
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules_audit import listed_audits
from ansible_collections.falcotune.fleet.tests.unit.hosts import ROOT, Host, fragment

NEWEST = releases.release_for("0.44.1")
RECORDED = Path(os.environ.get("FALCOTUNE_RECORDINGS") or ROOT.parent / "shared" / "recordings") / "cli" / "L_json.stdout"
PLUGINS = ["container", "json", "cloudtrail"]


def rule(name, condition, output="o", source="syscall", plugins=("container",), enabled=True):
    return {"info": {"name": name, "condition": condition, "priority": "Notice", "output": output, "enabled": enabled, "source": source,
                     "tags": []},
            "details": {"events": ["execve", "asyncevent"], "condition_compiled": condition, "plugins": list(plugins)}}


def needs(*rules, release=NEWEST, loaded=PLUGINS, required=(), added=()):
    printed = json.dumps({"rules": list(rules), "required_plugin_versions": list(required)})
    found = plugin_needs.needs(printed, listing.parse(printed, release)["rules"], release, loaded, added)
    return {item["plugin"]: item for item in found}, printed


def named(found):
    return {plugin: [item["rule"] for item in need["rules"]] for plugin, need in found.items()}


PLAIN = rule("Plain", "evt.type = execve")


def test_fields_and_sources_decide_not_what_falco_adds_to_outputs():
    found, _printed = needs(
        PLAIN, rule("By condition", "evt.type = execve and container.id != host"),
        rule("By output", "evt.type = execve", "%k8s.pod.name x"),
        rule("By source", "ct.name = x", source="aws_cloudtrail", plugins=("cloudtrail",)),
        rule("Off", "evt.type = execve and json.value[/x] = y", enabled=False, plugins=("json",)))
    assert named(found) == {"container": ["By condition", "By output"], "json": [], "cloudtrail": ["By source"]}
    assert found["json"]["disabled"] == [{"rule": "Off", "why": "it reads json.value", "by_source": False}]
    why = "its events are of the source aws_cloudtrail"
    assert found["cloudtrail"]["rules"][0] == {"rule": "By source", "why": why, "by_source": True}
    assert found["container"]["outputs"] == 1  # of the plain rule


def test_an_unknown_field_counts_for_whoever_falco_names_or_for_all():
    assert named(needs(rule("A", "evt.type = execve and my.field = x", plugins=("json", "other")))[0])["json"] == ["A"]
    assert named(needs(rule("A", "evt.type = execve and my.field = x", plugins=()))[0]) == dict.fromkeys(PLUGINS, ["A"])


@pytest.mark.parametrize("version,expected", [("0.44.1", ["A"]), ("0.40.0", [])])
def test_fields_of_containers_came_from_falco_before_0_41(version, expected):
    found, _printed = needs(rule("A", "evt.type = execve and container.id = host", plugins=()), release=releases.release_for(version))
    assert named(found)["container"] == expected


def test_settings_and_required_versions():
    found, _printed = needs(PLAIN, required=[{"name": "container", "version": "1"},
                                             {"name": "json", "version": "1", "alternatives": [{"name": "cloudtrail"}]}, 5],
                            added=["proc.name", "ct.user", "container.name"])
    assert [item["required"] for item in found.values()] == [True, False, False]
    assert (found["container"]["settings"], found["cloudtrail"]["settings"]) == (["container.name"], ["ct.user"])


def finding(found, printed):
    audit = listed_audits.audit(printed, NEWEST, {}, None, list(found.values()))
    return {item["text"].split()[2]: (item["level"], item["text"], item["instead"]) for item in audit["findings"]
            if item["kind"] == "unneeded_plugin"}


def test_what_is_said_of_a_plugin_that_no_rule_needs():
    found = finding(*needs(PLAIN, rule("Off", "ct.name = x", source="aws_cloudtrail", plugins=("cloudtrail",), enabled=False),
                           rule("Off too", "evt.type = execve and json.value = x", plugins=("json",), enabled=False)))
    assert set(found) == set(PLUGINS)
    level, text, instead = found["container"]
    assert level == "warning" and "Falco adds its fields to the outputs of 1 rule" in text and "falco_tune_disabled_plugins" in instead
    level, text, instead = found["json"]
    assert level == "note" and "disabled rules read its fields (Off too)" in text and "remove that from the rules files first" in instead
    assert found["cloudtrail"][0] == "warning"
    assert "trial_rules.yml measures what it costs" in instead


@pytest.mark.parametrize("more", [{"added": ["container.id"]}, {}])
def test_a_plugin_that_is_needed_is_no_finding(more):
    rules = [PLAIN] if more else [rule("A", "evt.type = execve and container.id = host")]
    assert "container" not in finding(*needs(*rules, loaded=["container"], **more))


def test_facts_name_the_plugins_and_keep_nothing_of_their_configuration():
    host = Host().with_file("/etc/falco/config.d/p.yaml", fragment(
        plugins=[{"name": "json", "init_config": {"token": "hunter2"}}, {"name": "container"}, {"no": "name"}],
        append_output=[{"extra_output": "%container.id %proc.name", "extra_fields": ["k8s.pod.name", {"x": "%ct.user"}]}]))
    facts = host.facts()
    assert facts["config"]["plugins"] == ["json", "container"] and "hunter2" not in json.dumps(facts)
    assert facts["config"]["added_fields"] == ["container.id", "ct.user", "k8s.pod.name", "proc.name"]
    chosen = host.with_file("/etc/falco/config.d/q.yaml", fragment(load_plugins=["json"]))
    assert chosen.facts()["config"]["plugins"] == ["json"]
    by_option = Host(arguments=["/usr/bin/falco", "-pc"]).facts()
    assert by_option["config"]["added_fields"] == ["container.id"]


@pytest.mark.skipif(not RECORDED.exists(), reason="no recordings here")
def test_of_the_stock_rules_those_with_conditions_on_containers_need_the_plugin():
    printed = RECORDED.read_text()
    rules = listing.parse(printed, NEWEST)["rules"]
    (found,) = plugin_needs.needs(printed, rules, NEWEST, ["container"])
    assert found["required"] and len(found["rules"]) + found["outputs"] == 25
    assert {item["rule"] for item in found["rules"]} >= {"Terminal shell in container", "Clear Log Activities"}
    assert "Find AWS Credentials" not in {item["rule"] for item in found["rules"]}
    print(len(found["rules"]), "of 25 stock rules need the container plugin")
