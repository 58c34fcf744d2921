# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""syscalls.select() against what real Falcos selected, line by line: the fixtures, and whole recordings where they are at hand.

FALCOTUNE_RECORDINGS names their directories (separated by colons); the fixtures were cut from their log lines.
"""

import functools
import json
import os
import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import dry_run, selections
from ansible_collections.falcotune.fleet.tests.unit.hosts import ROOT

FIXTURES = ROOT / "tests" / "unit" / "fixtures" / "dry_runs"
NAMED = [Path(name) for name in os.environ.get("FALCOTUNE_RECORDINGS", "").split(os.pathsep) if name]
ROOTS = [path for path in NAMED or sorted((ROOT.parent / "shared").glob("recordings*")) if path.is_dir()]
FINAL = "syscalls selected in total (final set)"
# `--support`, from which an effective configuration was recorded, prints the last of two equal keys; Falco uses the first.
FIRST_WINS = {"duplicate_key": {"custom_set": ["execve"], "repair": "true"}}


def selection(release, parsed, base, option_all=False):
    """What select() says to a recorded configuration and the rules' calls as Falco printed them."""
    def flag(name):
        return str(base.get(name)).lower() == "true"

    return selections.select(release, parsed["rules"], base.get("custom_set"), flag("repair"), flag("all"), option_all)


def printed(log):
    """The lines about the selection, without their prefix."""
    rest = [line[match.end():] for line in log for match in [dry_run.PREFIX.match(line)] if match]
    return [line for line in rest if line.startswith("Invalid (") or (
        dry_run.COUNTED.match(line) and not dry_run.RULES_TOTAL.match(line))]


def check(release, log, base, option_all=False):
    parsed = dry_run.parse("\n".join(log))
    assert parsed["reason"] is None
    chosen = selection(release, parsed, base, option_all)
    assert {key: chosen[key] for key in dry_run.KEYS} == {key: parsed[key] for key in dry_run.KEYS}
    assert dry_run.lines(chosen) == printed(log)
    return chosen


@functools.cache
def fixture(release):
    return json.loads((FIXTURES / (release + ".json")).read_text())


CASES = [(release, name) for release in ("0.38.2", "0.44.1") for name in sorted(fixture(release))]


@pytest.mark.parametrize(("release", "name"), CASES, ids="-".join)
def test_a_recorded_dry_run(release, name):
    case = fixture(release)[name]
    assert dry_run.parse("\n".join(case["log"]))["version"] == release
    check(release, case["log"], case["base_syscalls"], case["option_all"])


@pytest.mark.parametrize(("release", "name"), CASES, ids="-".join)
def test_what_is_selected_is_parsed_back(release, name):
    case = fixture(release)[name]
    chosen = check(release, case["log"], case["base_syscalls"], case["option_all"])
    again = dry_run.parse("\n".join("2026-11-24T10:00:00+0000: " + line for line in dry_run.lines(chosen)))
    assert {key: again[key] for key in dry_run.KEYS if key != "unsupported"} == {
        key: chosen[key] for key in dry_run.KEYS if key != "unsupported"}


# Whole recordings.

def overrides(command, base):
    """base_syscalls as -o on the command line changes it."""
    base = {**base, "custom_set": base.get("custom_set") or []}
    for key, value in re.findall(r"-o base_syscalls\.([a-z_\[\]0-9]+)=(\S+)", command):
        if key == "custom_set[]":
            base["custom_set"] = [*base["custom_set"], value]
        elif key == "custom_set[0]":
            base["custom_set"] = [value, *base["custom_set"][1:]]
        else:
            base[key] = value
    return base


def of_main_file(text):
    block = re.search(r"^===== file [^\n]*=====\n(.*?)^===== ", text, re.M | re.S)
    base = (yaml.safe_load(block[1]) or {}).get("base_syscalls") or {}
    return overrides(re.search(r"^# command: (.*)$", text, re.M)[1], base)


def of_support(path, text):
    if path.stem in FIRST_WINS:
        return FIRST_WINS[path.stem]
    start = text.index("{", text.index("===== effective configuration"))
    return json.JSONDecoder().raw_decode(text, start)[0].get("base_syscalls") or {}


def release_of(text):
    return re.search(r": Falco version: (\S+)", text)[1]


RECORDED = [path for root in ROOTS for folder in ("dry-runs", "errors", "config-d") for path in sorted((root / folder).glob("*.txt"))
            if not path.name.startswith("SUMMARY") and FINAL in path.read_text(errors="replace")]


@pytest.mark.skipif(not RECORDED, reason="no recordings at hand")
@pytest.mark.parametrize("path", RECORDED, ids=lambda path: "-".join(path.parts[-3:]))
def test_a_whole_recording(path):
    text = path.read_text(errors="replace")
    base = of_support(path, text) if path.parent.name == "config-d" else of_main_file(text)
    command = re.search(r"^# commands?: (.*)$", text, re.M)[1]
    option_all = " -A" in command and release_of(text).startswith("0.38")
    runs = re.split(r"^(?=.*: Falco version: )", text, flags=re.M)[1:]
    assert runs
    for log in runs:
        parsed = dry_run.parse(log)
        chosen = selection(release_of(text), parsed, base, option_all)
        assert {key: chosen[key] for key in dry_run.KEYS} == {key: parsed[key] for key in dry_run.KEYS}
        assert dry_run.lines(chosen) == printed(log.split("\n"))
