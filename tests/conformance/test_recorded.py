# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recorded commands, repeated: the same exit code and the same lines."""

import os

import pytest

import conftest
import normal
from conftest import uses




def _rule_talk(request):
    return any(request.node.callspec.id.endswith("-" + name) for name in normal.RULE_CASES)


@uses("dry_runs")
def test_dry_run_selects_the_recorded_system_calls(falco, recorded):
    falco.write(recorded["files"])
    code, _, err = falco.run(*recorded["args"])
    assert falco.normal(err, rules=not recorded["stock"]) == recorded["stderr"]
    assert code == recorded["exit"]


@uses("errors")
def test_settings_good_and_bad(falco, recorded, request):
    if recorded["live"]:
        conftest.need_driver()
        if not conftest.SIMULATED and os.cpu_count() != 2:
            pytest.skip("recorded on two CPUs")
        if not conftest.SIMULATED and os.path.exists("/dev/falco0"):
            pytest.skip("the kernel module is loaded here")
    falco.profile["startup_seconds"] = 0.1
    falco.write(recorded["files"])
    with conftest.activity():
        code, _, err = falco.run(*recorded["args"])
    assert code == recorded["exit"], err
    assert falco.normal(err, rule_talk=_rule_talk(request)) == recorded["stderr"]


@uses("merges")
def test_merge_of_fragments_and_options(falco, recorded):
    os.makedirs(falco.path("config.d"), exist_ok=True)
    if "missing" in falco.text(recorded["files"]["falco.yaml"].splitlines()[1]):
        os.rmdir(falco.path("config.d"))
    falco.write(recorded["files"])
    code, _, err = falco.run(*recorded["args"], env=recorded["env"])
    assert falco.normal(err) == recorded["stderr"]
    assert code == recorded["exit"]


@uses("merges")
def test_support_shows_the_effective_configuration(falco, recorded):
    import json
    falco.write(recorded["files"])
    arguments = ["--support" if word == "--dry-run" else word for word in recorded["args"]]
    code, out, _ = falco.run(*arguments, env=recorded["env"])
    assert code == recorded["exit_support"]
    if recorded["effective"] is None:
        return
    effective = json.loads(json.loads(out)["config"])
    wanted = json.loads(falco.text(json.dumps(recorded["effective"])))
    assert {key: effective.get(key) for key in wanted} == wanted
