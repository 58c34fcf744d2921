# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plugins that policy takes out: only those that nothing needs, what is lost named, and the same on every later run."""

import json

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import listing, plugin_needs
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import planner
from ansible_collections.falcotune.fleet.tests.unit.hosts import FOLDER, MAIN, SHIPPED, TARGET, Host, change, fragment

PLUGINS = [{"name": "container", "init_config": {"token": "secret"}}, {"name": "json"}, {"name": "cloudtrail"}]
NAMES = ["container", "json", "cloudtrail"]


def rule(name, condition, source="syscall", plugins=("container",)):
    info = {"name": name, "condition": condition, "priority": "Notice", "output": "o", "enabled": True, "source": source, "tags": []}
    return {"info": info,
            "details": {"events": ["execve", "asyncevent"], "condition_compiled": condition, "plugins": list(plugins)}}


RULES = (rule("Plain", "evt.type = execve"), rule("Cloud", "ct.name = x", "aws_cloudtrail", ("cloudtrail",)))
NEEDY = (*RULES, rule("In container", "evt.type = execve and container.id != host"))


def plan(host, rules=RULES, required=(), **given):
    facts, release = host.facts(), releases.release_for(host.version)
    printed = json.dumps({"rules": list(rules), "required_plugin_versions": list(required)})
    listed = listing.parse(printed, release, selection=host.effective().get("rules") or ())["rules"]
    needs = plugin_needs.needs(printed, listed, release, facts["config"]["plugins"], facts["config"]["added_fields"])
    facts["syscalls"] = {"rules": listed, "selected": [], "profile": None, "reason": None, "digest": "x", "audit": None, "plugins": needs}
    return planner.make(facts, given)


def with_plugins(version="0.40.0", **more):
    """A host whose falco.yaml loads three plugins. Before 0.41 a fragment replaces that list."""
    return Host(version=version).with_file(MAIN, SHIPPED + fragment(plugins=PLUGINS, load_plugins=NAMES, **more))


def test_only_what_policy_lists_is_taken_out_and_a_second_run_changes_nothing():
    host = with_plugins()
    made = plan(host, disabled_plugins=["json", "okta"])
    item = change(made, "load_plugins")
    assert item["to"] == ["container", "cloudtrail"] and made["settings"]["load_plugins"] == item["to"]
    assert item["why"] == "these plugins are no longer loaded, by policy: json (no enabled rule needs it)"
    assert "falco_tune_disabled_plugins names okta, and Falco does not load it here" in made["warnings"]
    assert "plugins" not in made["settings"] and "secret" not in json.dumps(made)
    after = host.after(made)
    assert after.facts()["config"]["plugins"] == ["container", "cloudtrail"]
    again = plan(after, disabled_plugins=["json", "okta"])
    assert change(again, "load_plugins") is None
    # Another change writes the fragment anew.
    more = after.after(plan(after, disabled_plugins=["json"], buf_size_preset=7))
    assert more.facts()["config"]["plugins"] == ["container", "cloudtrail"]
    released = more.after(plan(more, buf_size_preset=7))
    assert released.facts()["config"]["plugins"] == NAMES and change(plan(released, buf_size_preset=7), "load_plugins") is None


def test_without_policy_nothing_is_taken_out():
    assert change(plan(with_plugins()), "load_plugins") is None


def test_all_plugins():
    host = with_plugins()
    made = plan(host, rules=RULES[:1], disabled_plugins=NAMES)
    assert made["settings"]["load_plugins"] == [] and host.after(made).facts()["config"]["plugins"] == []


def test_rules_whose_events_come_from_the_plugin_must_be_given_up_by_name():
    with pytest.raises(planner.PlanError, match="enabled rules need it, because their events come from it: Cloud. Name these rules"):
        plan(with_plugins(), disabled_plugins=["cloudtrail"])
    made = plan(with_plugins(), disabled_plugins=["cloudtrail"], disabled_rules=["Cloud"])
    assert change(made, "load_plugins")["why"].endswith("cloudtrail (its rules no longer alert (Cloud))")
    assert change(made, "rules")["to"] == [{"disable": {"rule": "Cloud"}}]


def test_fields_that_go_from_outputs_are_told():
    assert "container (no enabled rule needs it; its fields go from the outputs of 1 rule)" in change(
        plan(with_plugins(), disabled_plugins=["container"]), "load_plugins")["why"]


@pytest.mark.parametrize("rules,required,given,said", [
    (NEEDY, (), {}, "Falco does not start without it (In container: it reads container.id)"),
    (NEEDY, (), {"disabled_rules": ["In container"]}, "A disabled rule must load, too"),
    (RULES, [{"name": "container", "version": "0.4.0"}], {}, "required_plugin_versions of a rules file names it"),
])
def test_a_plugin_that_falco_needs_to_start_is_refused(rules, required, given, said):
    host = with_plugins("0.44.1").with_file(FOLDER + "/p.yaml", "{}\n")
    with pytest.raises(planner.PlanError) as error:
        plan(host, rules, required, disabled_plugins=["container"], layout="full", **given)
    assert said in str(error.value)


def test_fields_that_settings_add_are_a_need():
    host = with_plugins("0.44.1", append_output=[{"extra_fields": ["container.id"]}])
    with pytest.raises(planner.PlanError, match="append_output or -p names its fields .container.id.: remove them there first"):
        plan(host, disabled_plugins=["container"], layout="full")


def test_a_list_that_falco_appends_to_cannot_become_shorter():
    with pytest.raises(planner.PlanError, match="holds load_plugins, so .* cannot make it shorter. Set falco_tune_layout to full"):
        plan(with_plugins("0.44.1"), disabled_plugins=["json"])
    made = plan(with_plugins("0.44.1"), disabled_plugins=["json"], layout="full")
    assert made["settings"]["load_plugins"] == ["container", "cloudtrail"] and made["target"] == MAIN
    by_fragment = Host(version="0.44.1").with_file(FOLDER + "/p.yaml", fragment(plugins=PLUGINS, load_plugins=NAMES))
    with pytest.raises(planner.PlanError, match="config.d/p.yaml holds load_plugins, .* Remove the plugin there"):
        plan(by_fragment, disabled_plugins=["json"])
    implicit = Host(version="0.44.1").with_file(FOLDER + "/p.yaml", fragment(plugins=PLUGINS))
    made = plan(implicit, disabled_plugins=["json"])
    assert implicit.after(made).facts()["config"]["plugins"] == ["container", "cloudtrail"] and made["target"] == TARGET


def test_rules_that_are_not_known_are_asked_for_or_refused():
    facts = with_plugins().facts()
    assert planner.make(facts, {"disabled_plugins": ["json"]})["needs"] == "syscalls"
    facts["syscalls"] = {"rules": [], "selected": [], "profile": None, "reason": "falco -L failed"}
    with pytest.raises(planner.PlanError, match="falco_tune_disabled_plugins cannot be applied: falco -L failed"):
        planner.make(facts, {"disabled_plugins": ["json"]})
