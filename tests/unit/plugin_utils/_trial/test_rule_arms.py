# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trials of rules and plugins: what is loaded without some of them."""

import json

import pytest
import yaml
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import document, ruleset, writing
from ansible_collections.falcotune.fleet.plugins.plugin_utils._trial import rule_arms, tests
from hypothesis import given
from hypothesis import strategies as st

STOCK = """\
- required_engine_version: 0.50.0
- required_plugin_versions:
    - name: container
      version: 0.4.0
    - name: json
      version: 0.1.0
- list: shells
  items: [sh, bash, "0", 5]
- macro: container
  condition: (container.id != host)
- rule: Shell in container
  desc: d
  condition: evt.type = execve and container and proc.name in (shells)
  output: "%container.id"
  priority: NOTICE
  tags: [maturity_stable, container]
- rule: Shadow read
  desc: Reads "it"
  condition: >
    evt.type in (open, openat)
    and fd.name = /etc/shadow
  output: x
  priority: WARNING
  tags: [maturity_stable]
  exceptions:
    - name: known
      fields: [proc.name, fd.name]
      comps: [in, startswith]
      values:
        - [[sshd], "/etc"]
- rule: Quiet
  desc: d
  condition: evt.type = connect and container.id = host
  output: x
  priority: DEBUG
  enabled: false
"""
LOCAL = """\
- rule: Shadow read
  append: true
  condition: and proc.name != su
- rule: Site
  desc: d
  condition: evt.type = ptrace
  output: x
  priority: DEBUG
  tags: [site]
"""
FILES = [("/etc/falco/falco_rules.yaml", STOCK), ("/etc/falco/rules.d/site.yaml", LOCAL)]
NEEDS = [{"plugin": "container", "rules": [{"rule": "Shell in container", "why": ""}], "disabled": [{"rule": "Quiet", "why": ""}]},
         {"plugin": "json", "rules": [], "disabled": []}]


def loaded(files=FILES):
    return rule_arms.Loaded(files, ruleset.resolve(files, "0.44.1")["rules"], ["container", "json"], NEEDS)


def made(**without):
    return rule_arms.arm({**dict.fromkeys(tests.WITHOUT, []), **without}, loaded(), "{trial}")


def names(text):
    return [next(iter(entry)) + ":" + str(next(iter(entry.values()))) for entry in yaml.safe_load(text)]


def test_nothing_is_left_out():
    assert made() == rule_arms.Arm([path for path, _text in FILES], {}, ["container", "json"], [])


def test_a_rule_goes_with_all_that_changes_it():
    found = made(rules=["Shadow*"])
    assert found.removed == ["Shadow read"] and found.paths == ["{trial}/rules-00.yaml", "{trial}/rules-01.yaml"]
    assert names(found.files["rules-00.yaml"]) == [
        "required_engine_version:0.50.0", "required_plugin_versions:[{'name': 'container', 'version': '0.4.0'}, "
        "{'name': 'json', 'version': '0.1.0'}]", "list:shells", "macro:container", "rule:Shell in container", "rule:Quiet"]
    assert names(found.files["rules-01.yaml"]) == ["rule:Site"]


def test_tags_and_files():
    assert made(tags=["site"]).removed == ["Site"] and made(tags=["site"]).paths[0] == FILES[0][0]
    by_file = made(files=["site.yaml"])
    assert (by_file.removed, by_file.paths, by_file.files) == (["Site"], [FILES[0][0]], {})
    assert made(files=[FILES[1][0]]) == by_file
    assert made(tags=["maturity_stable"]).removed == ["Shadow read", "Shell in container"]


def test_without_a_plugin_the_rules_that_need_it_and_its_version_go():
    found = made(plugins=["container"])
    assert (found.plugins, found.removed) == (["json"], ["Shell in container"])
    text = found.files["rules-00.yaml"]
    assert "json" in text and "container'" not in str(yaml.safe_load(text)[1]) and "Quiet" not in text and "Shadow read" in text
    every = made(plugins=["*"])
    assert every.plugins == [] and "required_plugin_versions" not in every.files["rules-00.yaml"]


def test_the_rules_of_a_plugin_go_and_the_plugin_stays():
    found = made(rules_of_plugins=["*"])
    assert (found.plugins, found.removed) == (["container", "json"], ["Shell in container"])
    assert "required_plugin_versions" in found.files["rules-00.yaml"]


def test_an_alternative_plugin_that_stays_is_enough():
    wanted = "- required_plugin_versions:\n  - {name: json, version: 1, alternatives: [{name: container, version: 1}]}\n"
    files = [("a", wanted + LOCAL[LOCAL.index("- rule: Site"):])]
    without = {**dict.fromkeys(tests.WITHOUT, []), "plugins": ["json"]}
    found = rule_arms.arm(without, loaded(files), "{trial}")
    assert "alternatives" in found.files["rules-00.yaml"] and found.removed == []


@pytest.mark.parametrize("without,said", [
    ({"rules": ["Shado read"]}, "no rule of this host is called Shado read (did you mean Shadow read?)"),
    ({"tags": ["sites"]}, "no rule of this host has the tag sites"),
    ({"files": ["other.yaml"]}, "this host has no rules file other.yaml: Falco reads /etc/falco/falco_rules.yaml"),
    ({"plugins": ["k8saudit"]}, "without.plugins names k8saudit, which Falco does not load here: it loads container, json"),
    ({"files": ["site.yaml", "falco_rules.yaml"]}, "no rules file would be left"),
    ({"rules": ["*"]}, "no rule would be left"),
])
def test_what_a_host_does_not_have(without, said):
    with pytest.raises(rule_arms.Unlike) as error:
        made(**without)
    assert said in str(error.value)


def test_a_file_that_cannot_be_read_names_its_line():
    broken = loaded()._replace(files=[("a.yaml", "- rule: x\n- [\n")])
    with pytest.raises(rule_arms.Unlike, match="a.yaml line"):
        rule_arms.arm(dict.fromkeys(tests.WITHOUT, []), broken, "{trial}")


def test_what_is_left_means_the_same():
    """The rules that stay need the same calls, for the same conditions and exceptions."""
    found = made(tags=["site"], rules=["Quiet"])
    texts = {"{trial}/" + name: text for name, text in found.files.items()}
    again = ruleset.compiled([(path, texts.get(path) or dict(FILES)[path]) for path in found.paths], "0.44.1")
    before = ruleset.compiled(FILES, "0.44.1")
    assert again.resolved["ok"] and set(again.trees) == {"Shell in container", "Shadow read"}
    for name, tree in again.trees.items():
        assert tree == before.trees[name]


def plain(value):
    """A document's value without lines."""
    if isinstance(value.data, dict):
        return {key: plain(item) for key, item in value.data.items()}
    return [plain(item) for item in value.data] if isinstance(value.data, list) else value.data


TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from("\n\t\"'\\{}[]#:-,&*!~"), max_size=12)


@given(st.lists(st.dictionaries(TEXTS, TEXTS | st.none() | st.lists(TEXTS, max_size=3), min_size=1, max_size=3), max_size=4))
def test_texts_come_out_as_they_went_in(entries):
    read, broken = document.entries(yaml.safe_dump(entries, allow_unicode=False))
    assert not broken
    again, broken = document.entries(writing.written(read))
    assert not broken and [plain(entry) for entry in again] == [plain(entry) for entry in read]


@pytest.mark.parametrize("sent", [None, "", "[", "{}", "[]", "[1]", '[["a"]]', '[["a", 1]]', "[" * 100000])
def test_files_that_a_host_did_not_send(sent):
    assert rule_arms.files_of(sent) is None


def test_files_that_a_host_sent():
    assert rule_arms.files_of(json.dumps([list(item) for item in FILES])) == FILES
