# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Arguments of action plugins against the documentation of their modules."""

import importlib

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._action import arguments

MODULES = ("falco_config", "falco_facts", "falco_metrics_info", "falco_report", "falco_rollout", "falco_syscall_profile", "falco_trial")
ON_HOSTS = [name for name in MODULES if name not in ("falco_report", "falco_rollout")]


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_options_and_its_defaults_are_valid(module):
    options = arguments.options_of(module)
    checker = arguments.Arguments(module)
    needed = {name: option["choices"][0] for name, option in options.items() if option.get("required")}
    checked = checker.check(needed)
    assert set(checked) == set(options)
    assert {name: checked[name] for name in checked if name not in needed} == {
        name: option.get("default") for name, option in options.items() if name not in needed}


@pytest.mark.parametrize("module", ON_HOSTS)
def test_the_hosts_half_takes_the_same_options(module, monkeypatch):
    """Fragments included. What the documentation says of an option is what the module says."""
    taken = {}

    class Stop(Exception):
        pass

    def stop(argument_spec, **_more):
        taken.update(argument_spec)
        raise Stop

    half = importlib.import_module("ansible_collections.falcotune.fleet.plugins.modules." + module)
    monkeypatch.setattr(half, "AnsibleModule", stop)
    with pytest.raises(Stop):
        half.main()
    assert taken == arguments.Arguments(module).spec


def test_options_of_a_fragment_are_options_of_its_module():
    assert {"host_root", "unit"} <= set(arguments.options_of("falco_facts"))
    assert "host_root" not in arguments.options_of("falco_report")


@pytest.mark.parametrize("module, given, said", [
    ("falco_config", {"plann": {}}, "unsupported parameters: plann; supported are content, evidence, facts, plan, policy, round, state"),
    ("falco_config", {"request": {}}, "unsupported parameters: request"),
    ("falco_config", {"state": "absent"}, "state"),
    ("falco_config", {"plan": "nothing"}, "plan"),
    ("falco_report", {"bundle_hosts": {}}, "bundle_hosts"),
    ("falco_facts", {"observe_seconds": "long"}, "observe_seconds"),
    ("falco_facts", {"metrics_sources": ["journald"]}, "metrics_sources"),
    ("falco_facts", {"scrape_ok": "perhaps"}, "scrape_ok"),
    ("falco_rollout", {}, "state"),
])
def test_what_is_wrong_is_named(module, given, said):
    with pytest.raises(arguments.ArgumentError, match=said):
        arguments.Arguments(module, internal=("request",) if module == "falco_config" else ()).check(given)


def test_values_come_in_their_type_and_dicts_as_they_are():
    facts = {"falco": {"version": "0.44.1"}}
    found = arguments.Arguments("falco_config").check({"facts": facts, "plan": '{"a": 1}', "state": "proven"})
    assert found["facts"] is facts and found["plan"] == {"a": 1}
    assert (found["state"], found["content"], found["policy"]) == ("proven", None, None)
    assert arguments.Arguments("falco_facts").check({"observe_seconds": "2"})["observe_seconds"] == 2.0


def test_defaults_are_nobodys_to_change():
    checker = arguments.Arguments("falco_facts")
    checker.check({})["extra_files"].append("/etc/passwd")
    assert checker.check({})["extra_files"] == []
