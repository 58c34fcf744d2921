# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The resolver against others: what a real Falco says of its stock rules, where that is at hand, and the simulator's own resolver.

FALCOTUNE_RECORDINGS names directories of recordings, FALCOTUNE_UPSTREAM that of Falco's own files.
"""

import json
import os
import re
import sys
from pathlib import Path

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import dry_run, selections
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import (
    condition, coverage, listing, ruleset,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.syscall_names import names_for
from ansible_collections.falcotune.fleet.tests.unit.hosts import ROOT
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(ROOT / "tests" / "simulator"))
from falcosim.condition import Expander, Parser  # noqa: E402
from falcosim.release import Release  # noqa: E402
from falcosim.rules import Engine  # noqa: E402

SHARED = ROOT.parent / "shared"
NAMED = [Path(name) for name in os.environ.get("FALCOTUNE_RECORDINGS", "").split(os.pathsep) if name]
LISTED = [path / "cli" / "L_json.stdout" for path in NAMED or sorted(SHARED.glob("recordings*"))]
LISTED = [path for path in LISTED if path.is_file()]
UPSTREAM = Path(os.environ.get("FALCOTUNE_UPSTREAM") or SHARED / "upstream")
STOCK = UPSTREAM / "falco_rules-5.1.0.yaml"
MORE = [path for path in sorted(UPSTREAM.glob("falco-*_rules-*.yaml")) if path.is_file()]
NEWEST = "0.44.1"

needs_listed = pytest.mark.skipif(not LISTED, reason="no recordings at hand")
needs_stock = pytest.mark.skipif(not STOCK.is_file(), reason="Falco's rules are not at hand")


def release_of(path):
    return re.search(r"Falco version: *(\S+)", (path.parent / "version.stdout").read_text())[1]


def by_name(found):
    return {rule["name"]: rule for rule in found}


def of_version(path, release):
    return release_of(path) == release


# A real Falco.

@needs_listed
@pytest.mark.parametrize("path", LISTED, ids=lambda path: path.parts[-3])
def test_falco_list_reads_what_a_falco_printed(path):
    release = release_of(path)
    found = listing.parse(path.read_text(), release)
    assert found["reason"] is None and found["findings"] == [] and len(found["rules"]) == 25
    listed = {rule["info"]["name"]: rule for rule in json.loads(path.read_text())["rules"]}
    for rule in found["rules"]:
        theirs = listed[rule["name"]]
        assert rule["events"] == sorted(set(theirs["details"]["events"]) - {"asyncevent"})
        assert rule["tags"] == theirs["info"]["tags"] and rule["priority"] == theirs["info"]["priority"].lower()
        assert rule["enabled"] == theirs["info"]["enabled"] and rule["source"] == theirs["info"]["source"]


@needs_listed
@pytest.mark.parametrize("path", LISTED, ids=lambda path: path.parts[-3])
def test_what_the_listed_rules_need_is_what_that_falco_selects(path):
    """All the way: listed rules → needs → select() is what the dry run of the same Falco and rules printed."""
    release = release_of(path)
    log = (path.parent.parent / "dry-runs" / "T07_stock_default.txt").read_text()
    printed = dry_run.parse(log.split("===== stderr =====")[1])
    found = listing.parse(path.read_text(), release)["rules"]
    chosen = selections.select(release, coverage.needs(found, release))
    assert {key: chosen[key] for key in dry_run.KEYS} == {key: printed[key] for key in dry_run.KEYS}
    assert sorted(printed["enabled_rules"]) == sorted(rule["name"] for rule in found if rule["enabled"])


@needs_listed
@pytest.mark.parametrize("path", LISTED, ids=lambda path: path.parts[-3])
def test_the_listed_rules_resolved_again(path):
    """From macros, lists and conditions that Falco printed to the events that it printed: its compiler, without its files."""
    release = release_of(path)
    listed = json.loads(path.read_text())
    again = by_name(ruleset.resolve([("listed", json.dumps(listing._file(listed)))], release)["rules"])
    theirs = by_name(listing.parse(path.read_text(), release)["rules"])
    assert len(again) == len(theirs)
    for name, rule in theirs.items():
        assert again[name]["kernel"] == rule["kernel"], name
    # Falco 0.36 and older print no usable events: the same document is resolved this way there.
    older = listing.parse(path.read_text().replace(listed["required_engine_version"], "0"), "0.36.2")
    assert {rule["name"]: rule["events"] for rule in older["rules"]} == {name: rule["events"] for name, rule in theirs.items()}


@needs_listed
@pytest.mark.parametrize("path", LISTED, ids=lambda path: path.parts[-3])
def test_compiled_conditions_are_read(path):
    """Falco prints a compiled condition without quotes; all but those that need them are conditions again."""
    listed = json.loads(path.read_text())
    unreadable = []
    for item in listed["rules"] + listed["macros"]:
        try:
            tree = condition.parse(item["details"]["condition_compiled"])
            assert not any(isinstance(node, condition.Macro) for node in condition.walk(tree))
        except condition.ConditionError:
            unreadable.append(item["info"]["name"])
    assert unreadable == ["Read sensitive file untrusted"]


@needs_stock
@pytest.mark.skipif(not any(of_version(path, NEWEST) for path in LISTED), reason="no recording of this release at hand")
def test_the_resolver_agrees_with_falco_on_the_stock_rules():
    path = next(path for path in LISTED if of_version(path, NEWEST))
    mine = ruleset.resolve([("falco_rules.yaml", STOCK.read_text()), ("falco_rules.local.yaml", "# nothing\n")], NEWEST)
    theirs = by_name(listing.parse(path.read_text(), NEWEST)["rules"])
    assert mine["ok"] and mine["findings"] == [] and len(theirs) == 25
    for name, rule in by_name(mine["rules"]).items():
        for key in set(rule) - {"file", "line", "reads"}:
            assert rule[key] == theirs[name][key], (name, key)
        # Falco adds fields that plugins suggest to the output; and one of its conditions cannot be parsed as it is printed.
        for place in ("condition", "output"):
            read, printed = ({one["field"] for one in found["reads"]["fields"] if one["place"] == place}
                             for found in (rule, theirs[name]))
            assert read == {field for field in printed if not field.startswith(("container.", "k8s.")) or field in read}, name
    assert len(coverage.needs(mine["rules"], NEWEST)) == 19


@needs_stock
def test_stock_rules_and_an_older_falco():
    found = ruleset.resolve([("falco_rules.yaml", STOCK.read_text())], "0.38.2")
    assert not found["ok"] and "need engine 0.57.0, Falco 0.38.2 has 0.40.0" in found["findings"][0]["text"]


# The simulator's resolver, which was written apart from this one.

@pytest.mark.skipif(not UPSTREAM.is_dir(), reason="Falco's rules are not at hand")
@pytest.mark.parametrize("path", [path for path in (STOCK, *MORE) if path.is_file()], ids=lambda path: path.name)
def test_the_simulator_agrees_on_upstream_rules(path):
    mine = ruleset.resolve([(path.name, path.read_text())], NEWEST)
    engine = Engine(Release(NEWEST), ["container"])
    engine.load(str(path))
    engine.compile()
    assert mine["ok"] and not any(report.errors for report in engine.reports)
    theirs = listing.parse(json.dumps(engine.describe()), NEWEST)
    assert len(mine["rules"]) == len(theirs["rules"]) >= 25
    for name, rule in by_name(theirs["rules"]).items():
        assert by_name(mine["rules"])[name]["events"] == rule["events"], name


@needs_stock
@pytest.mark.parametrize("path", MORE, ids=lambda path: path.name)
def test_upstream_rules_load_together(path):
    """They define many macros again; a macro keeps its first place in the order, so what used it before still may."""
    found = ruleset.resolve([(one.name, one.read_text()) for one in (STOCK, path)], NEWEST)
    assert found["ok"] and len(found["rules"]) > 50


names = st.sampled_from(["open", "close", "read", "accept", "accept4", "procexit", "getppid", "clone", "pread64", "switch"])
others = st.sampled_from(["proc.name = x", "fd.num >= 0", "proc.name exists", "fd.name startswith /etc", "proc.name in (a, b)"])
leaves = others | st.builds("{} {} {}".format, st.sampled_from(["evt.type", "syscall.type"]), st.sampled_from(["=", "==", "!="]), names) | (
    st.builds("evt.type in ({}, {})".format, names, names))
conditions = st.recursive(leaves, lambda inner: st.builds("({} and {})".format, inner, inner)
                          | st.builds("({} or {})".format, inner, inner) | st.builds("not ({})".format, inner), max_leaves=12)


@given(conditions)
def test_both_resolvers_agree_on_any_condition(text):
    entry = {"rule": "r", "desc": "d", "output": "o", "priority": "info", "condition": text}
    mine = ruleset.resolve([("f", json.dumps([entry]))], NEWEST)
    assert mine["ok"]
    theirs = Expander({}, {}).codes(Parser(text).parse())
    assert set(mine["rules"][0]["kernel"]) == set(theirs) & names_for(NEWEST).kernel
