# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""falco_syscall_profile: both halves and its documentation."""

import json

import pytest
import yaml
from ansible_collections.falcotune.fleet.tests.unit.module_args import patch_module_args
from ansible_collections.falcotune.fleet.plugins.action import falco_syscall_profile as action
from ansible_collections.falcotune.fleet.plugins.module_utils._measure import syscall_counts
from ansible_collections.falcotune.fleet.plugins.modules import falco_syscall_profile
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import syscall_profile
from ansible_collections.falcotune.fleet.tests.unit.hosts import Host

MEASURED = {"means": "tracefs", "seconds": 2.0, "counts": {"openat": 20, "listns": 2}, "reason": None, "notes": []}


def module(capsys, monkeypatch, check=False, **arguments):
    """What the module prints, with a host that counts on paper."""
    called = []
    monkeypatch.setattr(syscall_counts, "measure", lambda *given: [called.append(given), MEASURED][1])
    with patch_module_args(dict(arguments, _ansible_check_mode=check)), pytest.raises(SystemExit):
        falco_syscall_profile.main()
    return json.loads(capsys.readouterr().out), called


@pytest.mark.parametrize("check", [False, True])
def test_the_host_counts_in_check_mode_too(capsys, monkeypatch, check):
    result, called = module(capsys, monkeypatch, check)
    assert result["measured"] == MEASURED and result["changed"] is False and called == [("", 5.0, ["tracefs", "perf"])]


def test_a_wrong_length_is_refused(capsys, monkeypatch):
    with patch_module_args({"seconds": 300}), pytest.raises(SystemExit):
        falco_syscall_profile.main()
    assert "seconds is 300.0: expected 0.5 to 60" in json.loads(capsys.readouterr().out)["msg"]


class Answer(action.ActionModule):
    """The controller half with a host's answer on paper."""

    def __init__(self, answer, **arguments):
        self.answer, self.trips = answer, 0
        self._task = type("Task", (), {"args": arguments})()

    def _execute_module(self, module_name, module_args, task_vars):
        assert module_name == "falcotune.fleet.falco_syscall_profile" and module_args == self._task.args
        self.trips += 1
        return dict(self.answer)


@pytest.fixture(autouse=True)
def base(monkeypatch):
    monkeypatch.setattr(action.HostAction, "run", lambda self, tmp=None, task_vars=None: {})


@pytest.mark.parametrize("release", [None, "0.43.0"])
def test_the_controller_half_names_the_calls(release):
    result = Answer({"measured": MEASURED, "changed": False}, release=release).run(task_vars={})
    assert result == {"changed": False, "profile": syscall_profile.read(MEASURED, release)}
    assert ("listns" in result["profile"]["unwatchable"]) == (release is not None)


def test_a_wrong_release_is_told_before_the_host_counts():
    half = Answer({"measured": MEASURED}, release="0.34.1")
    result = half.run(task_vars={})
    assert result["failed"] and "0.34.1 cannot choose system calls" in result["msg"] and half.trips == 0


@pytest.mark.parametrize("answer", [{"failed": True, "msg": "no"}, {"unreachable": True}, {"failed": True, "measured": {}}])
def test_a_failure_is_passed_on(answer):
    assert Answer(answer).run(task_vars={}) == answer


def test_the_documentation_is_the_sample_and_the_contract():
    documented = yaml.safe_load(falco_syscall_profile.RETURN)["profile"]["contains"]
    assert list(documented) == list(syscall_profile.read(MEASURED))
    options = yaml.safe_load(falco_syscall_profile.DOCUMENTATION)["options"]
    assert options["means"]["choices"] == list(syscall_profile.MEANS) == list(syscall_counts.MEANS)


def test_the_facts_of_a_host_name_its_release_or_why_it_is_not_profiled():
    half = Answer({"measured": MEASURED, "changed": False}, facts=Host(version="0.43.0").facts())
    sent = []
    half._execute_module = lambda module_name, module_args, task_vars: [sent.append(module_args), {"measured": MEASURED}][1]
    assert half.run(task_vars={})["profile"] == syscall_profile.read(MEASURED, "0.43.0") and sent == [{}]
    half = Answer({"measured": MEASURED}, facts=Host(arguments=["/usr/bin/falco", "--disable-source", "syscall"]).facts())
    result = half.run(task_vars={})
    assert result["failed"] and "watches no system calls of the host: its syscall source is disabled" in result["msg"] and half.trips == 0
