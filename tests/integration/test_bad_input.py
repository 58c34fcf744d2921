# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wrong policies and hostile hosts: a clear message on that host alone, before anything is touched."""

from __future__ import annotations

import shutil

import pytest
import yaml

from conftest import everything
from playbooks import TUNE, play

CASES = {
    "preset": ({"falco_tune_buf_size_preset": 11},
               "falco_tune_buf_size_preset is 11: expected auto, or a number from 1 to 10"),
    "driver": ({"falco_tune_driver": "mbpf"}, "falco_tune_driver is 'mbpf': expected one of auto, kmod, ebpf, modern_ebpf"),
    "typo": ({"falco_tune_buf_size_presets": 5},
             "falco_tune_buf_size_presets is not a known policy key (did you mean falco_tune_buf_size_preset?)"),
    "budget": ({"falco_tune_buffer_max_bytes": 4096}, "no buffers fit the budget of 4 KiB (the policy's buffer_max_bytes)"),
    "kind": ({"falco_tune_driver": "kmod"},
             "policy says driver kmod, but Falco runs modern_ebpf (process arguments): the unit chooses the driver"),
    "early-name": ({"falco_tune_fragment_name": "90-tuning.yaml"},
                   "falco_tune_fragment_name is '90-tuning.yaml': expected a file name that sorts after engine-kind-falcoctl.yaml"),
    "deadline": ({"falco_tune_healthy_deadline": 40, "falco_tune_metrics_interval": "1m"},
                 "falco_tune_healthy_deadline is 40 s, but evidence takes two metrics intervals of 1m"),
    "nothing-loads": ({"falco_tune_layout": "dropin"}, "lists no directory in config_files, so nothing would load a fragment"),
    "release": ({}, "'banana' is not a Falco version (expected something like 0.44.1)"),
    "no-falco": ({}, "/usr/bin/falco does not exist or is not executable: is Falco installed?"),
}
HOSTILE = "{{ lookup('ansible.builtin.pipe', 'touch %s') }}"


@pytest.fixture(scope="module")
def marker(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile") / "executed"


@pytest.fixture(scope="module")
def fleet(fleet_of, marker):
    hosts = {name: {"hostvars": hostvars, "running": name != "no-falco"} for name, (hostvars, _message) in CASES.items()}
    hosts["nothing-loads"]["config"] = {"config_files": []}
    hosts["hostile"] = {"config": {"metrics": {"enabled": False, "interval": "1h", "output_file": HOSTILE % marker}},
                        "hostvars": {"falco_tune_metrics_interval": "30s", "falco_tune_healthy_deadline": 120}}
    fleet = fleet_of(hosts)
    found = {host.name: host for host in fleet.hosts}
    program = found["release"].root / "usr/bin/falco"
    program.write_text(program.read_text().splitlines()[0] + "\nprint('Falco version: banana')\n")
    shutil.rmtree(found["no-falco"].root / "usr/lib/systemd")
    (found["no-falco"].root / "usr/bin/falco").unlink()
    return fleet


@pytest.fixture(scope="module")
def before(fleet):
    return {host.name: everything(host) for host in fleet.hosts}


@pytest.fixture(scope="module")
def run(fleet, before):
    return play(TUNE, fleet.inventory)


@pytest.mark.parametrize("name", CASES)
def test_the_message_says_what_was_found_and_what_was_expected(name, fleet, before, run):
    assert CASES[name][1] in run.failure(name)
    host = next(host for host in fleet.hosts if host.name == name)
    assert everything(host) == before[name]


def test_nobody_else_fails(run):
    assert set(run.failures) - {"hostile"} == set(CASES)


def test_a_template_in_a_hosts_configuration_is_text(fleet, marker, run):
    """It is copied as it is: Falco can't open such a file, the host's dry run says so, and nothing was executed."""
    assert not marker.exists()
    host = next(host for host in fleet.hosts if host.name == "hostile")
    check = play(TUNE, fleet.inventory, "--limit", "hostile", "--check", "--diff", "-e", "falco_tune_metrics=false",
                 "-e", "falco_tune_buf_size_preset=5")
    assert not marker.exists()
    written = yaml.safe_load((host.root / "etc/falco/falco.yaml").read_text())["metrics"]["output_file"]
    assert written == HOSTILE % marker
    assert check.failures == {}, check.output
