# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""config.merge() against what a real Falco made of the same files (cut from recordings of 0.44.1 and 0.38.2)."""

import functools
import json

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import configuration, drivers, releases
from ansible_collections.falcotune.fleet.tests.unit.hosts import ROOT

FIXTURES = ROOT / "tests" / "conformance" / "fixtures"
DIR = "/etc/falco"

# `--support`, from which the effective configuration was recorded, prints the last of two equal keys; the log of the same
# runs selects system calls by the first (trap 17).
FIRST_WINS = {"duplicate_key": {"base_syscalls": {"custom_set": ["execve"], "repair": "true"}}}


@functools.cache
def recorded(release):
    return json.loads((FIXTURES / release / "merges.json").read_text().replace("{dir}", DIR))


CASES = [(release, name) for release in ("0.38.2", "0.44.1") for name in sorted(recorded(release))]


def as_text(value):
    if isinstance(value, dict):
        return {str(key): as_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_text(item) for item in value]
    if isinstance(value, bool):
        return str(value).lower()
    return value if value is None else str(value)


def merge(release, case):
    files = {"%s/%s" % (DIR, name): text for name, text in case["files"].items()}
    options = drivers.options_of(["falco"] + case["args"])
    return configuration.merge(DIR + "/falco.yaml", files, options, case["env"], releases.release_for(release))


def interesting(release):
    """The top-level keys that the recording shows."""
    return {key for case in recorded(release).values() for key in case["effective"] or {}}


@pytest.mark.parametrize("release, name", [pytest.param(*case, id="-".join(case)) for case in CASES])
def test_recorded_merge(release, name):
    case = recorded(release)[name]
    if case["effective"] is None:
        with pytest.raises(configuration.ConfigError):
            merge(release, case)
        return
    effective = as_text(merge(release, case)["effective"])
    wanted = dict(case["effective"], **FIRST_WINS.get(name, {}))
    # --support prints a key without a value as an empty mapping.
    found = {key: {} if value is None else value for key, value in effective.items() if key in interesting(release)}
    assert found == wanted


@pytest.mark.parametrize("release", ["0.38.2", "0.44.1"])
def test_trap_17_the_log_of_the_recorded_duplicate_key_shows_the_first_value(release):
    lines = recorded(release)["duplicate_key"]["stderr"]
    assert any("repaired syscalls" in line for line in lines)
    assert not any("connect" in line and "added" in line for line in lines)


@pytest.mark.parametrize("release, name", [("0.38.2", "strategy_append"), ("0.44.1", "recursive"), ("0.44.1", "invalid_yaml")])
def test_recorded_refusals_are_of_the_configuration(release, name):
    assert recorded(release)[name]["exit"] == 1 and recorded(release)[name]["effective"] is None
