# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recorded commands, repeated: the same exit code and the same lines."""

import json

import pytest

import normal
import subject
from subject import recorded as recorded_in


@recorded_in("versions")
def test_version(falco):
    known = subject.load(falco.release, "versions")
    code, out, _ = falco.run("--version")
    assert (code, out.splitlines()) == (0, known["text"])
    code, out, _ = falco.run("--version", "-o", "json_output=true")
    assert (code, json.loads(out)) == (0, known["json"])


@recorded_in("dry_runs")
def test_dry_run_selects_the_recorded_system_calls(falco, recorded):
    falco.write(recorded["files"])
    code, _, err = falco.run(*recorded["args"])
    assert falco.normal(err, rules=not recorded["stock"]) == recorded["stderr"]
    assert code == recorded["exit"]


@recorded_in("errors")
def test_settings_good_and_bad(falco, recorded, request):
    if recorded["live"]:
        subject.need_driver()
        if falco.cpus != 2:
            pytest.skip("recorded on two CPUs")
        if falco.kernel_module:
            pytest.skip("the kernel module is loaded here")
    falco.profile["startup_seconds"] = 0.1
    falco.write(recorded["files"])
    with subject.activity():
        code, _, err = falco.run(*recorded["args"])
    assert code == recorded["exit"], err
    rule_talk = request.node.callspec.id.endswith(tuple("-" + name for name in normal.RULE_CASES))
    assert falco.normal(err, rule_talk=rule_talk) == recorded["stderr"]


@recorded_in("merges")
def test_merge_of_fragments_and_options(falco, recorded):
    falco.write(recorded["files"])
    code, _, err = falco.run(*recorded["args"], env=recorded["env"])
    assert falco.normal(err) == recorded["stderr"]
    assert code == recorded["exit"]
    # What --support shows of the merge.
    arguments = ["--support" if word == "--dry-run" else word for word in recorded["args"]]
    code, out, _ = falco.run(*arguments, env=recorded["env"])
    assert code == recorded["exit_support"]
    if recorded["effective"] is not None:
        effective = json.loads(json.loads(out)["config"])
        wanted = json.loads(falco.text(json.dumps(recorded["effective"])))
        assert {key: effective.get(key) for key in wanted} == wanted
