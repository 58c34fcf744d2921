# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role's defaults, its argument_specs, what falco_trial takes and what the core checks are one list of names and values."""

import re

import jinja2
import pytest
import yaml
from ansible_collections.falcotune.fleet.plugins.plugin_utils._trial import tests
from ansible_collections.falcotune.fleet.tests.unit.hosts import ROOT

ROLE = ROOT / "roles" / "trial"
PREFIX = "falco_trial_"
# What a user may set beside: which hosts (the playbook), which hosts a report of an earlier play is on, and the results.
BESIDE = {PREFIX + "hosts", PREFIX + "report_hosts", PREFIX + "result", PREFIX + "report"}
OF_THE_ROLE = {"report_dir"}

DEFAULTS = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
SPECS = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]
MODULE = (ROOT / "plugins/modules/falco_trial.py").read_text()
DOCUMENTATION = yaml.safe_load(re.search(r'DOCUMENTATION = r"""(.*?)"""', MODULE, re.S).group(1))


@pytest.mark.parametrize("entry", ["main", "report"])
def test_argument_specs_name_every_variable_with_the_same_default(entry):
    assert {name: option["default"] for name, option in SPECS[entry]["options"].items()} == DEFAULTS


@pytest.mark.parametrize("name", sorted(set(DEFAULTS) - {PREFIX + short for short in OF_THE_ROLE}))
def test_the_module_takes_the_same(name):
    option, known = SPECS["main"]["options"][name], DOCUMENTATION["options"][name[len(PREFIX):]]
    assert (option["type"], option["default"], option.get("choices")) == (known["type"], known["default"], known.get("choices"))


def test_the_core_has_the_same_defaults():
    assert {PREFIX + name: option.default for name, option in tests.OPTIONS.items()} == {
        name: value for name, value in DEFAULTS.items() if name not in (PREFIX + "tests", PREFIX + "report_dir")}
    assert tests.options({}) == {name: option.default for name, option in tests.OPTIONS.items()}


def test_tasks_use_no_other_names():
    texts = [path.read_text() for path in sorted(ROLE.glob("tasks/*.yml"))] + [(ROOT / "playbooks/trial_syscalls.yml").read_text()]
    used = {name for text in texts for name in re.findall(r"(?<!_)falco_trial_\w+", text)}
    assert used - BESIDE == set(DEFAULTS) and BESIDE <= used


def test_a_trial_is_waited_for_as_long_as_its_tests_can_take():
    names = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    around = int(re.search(r"^AROUND = (\d+)", MODULE, re.M).group(1))

    def value(name, **given):
        return int(jinja2.Environment().from_string(names[name]).render({**DEFAULTS, **given}))

    def waited(**given):
        runs = value("__falco_trial_runs", **given)
        count, gather = value("__falco_trial_count", __falco_trial_runs=runs, **given), value("__falco_trial_gather_timeout")
        return value("__falco_trial_run_timeout", __falco_trial_count=count, __falco_trial_gather_timeout=gather, **given)

    assert value("__falco_trial_count", __falco_trial_runs=1) >= len(tests.GUIDE) and value("__falco_trial_runs") == 1
    assert waited() > len(tests.GUIDE) * (DEFAULTS["falco_trial_seconds"] + around)
    assert waited(falco_trial_tests=[{}] * 40, falco_trial_seconds=600) > tests.RUNS_COMPARED * 41 * (600 + around)
    assert waited(falco_trial_tests="plugins") > tests.RUNS_COMPARED * len(tests.complete("plugins")) * (60 + around)
    assert waited(falco_trial_tests=[{}], falco_trial_repeats=20) > 20 * 2 * (60 + around)
