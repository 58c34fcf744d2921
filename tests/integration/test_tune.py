# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tune_falco and rollback_falco over a mixed fleet, in the order in which an operator runs them."""

from __future__ import annotations

import json

import pytest
import yaml

from conftest import everything, falco_files, leftovers, log_of, ring_bytes, starts_of
from hosts import free_ports
from playbooks import ROLLBACK, TUNE, play

ENGINE_KIND = "etc/falco/config.d/engine-kind-falcoctl.yaml"
GOOD = {
    # Large enough for other buffers.
    "modern-44": {"cpus": 16, "memory": "64G"},
    # Trap 2: the package's fragment resets every buffer setting of falco.yaml.
    "packaged-41": {"release": "0.41.3", "unit": "falco-custom", "cpus": 16, "memory": "64G",
                    "files": {ENGINE_KIND: "engine:\n  kind: modern_ebpf\n"}},
    "ebpf-38": {"release": "0.38.2", "driver": "ebpf", "cpus": 64, "memory": "128G"},
    # Trap 18: scraping this one early would kill it.
    "scraped-38": {"release": "0.38.2", "driver": "kmod", "measures": None, "hostvars": {"falco_tune_metrics_interval": "1s"}, "config": {
        "webserver": {
            "enabled": True, "listen_port": free_ports(1)[0], "listen_address": "127.0.0.1", "prometheus_metrics_enabled": True}}},
    "legacy-36": {"release": "0.36.2", "driver": "kmod", "cpus": 16, "memory": "64G"},
    "oldest-33": {"release": "0.33.1", "driver": "kmod", "cpus": 16, "memory": "64G"},
    # Trap 11: Falco may write nowhere but where the unit lets it.
    "strict-44": {"unit_options": {"ProtectSystem": "strict"}},
    "newer-45": {},
}
BAD = {
    "stopped": {"running": False},
    "broken-yaml": {"config": {}},
    "twice": {},
    "overridden": {"files": {"etc/falco/config.d/zzz-local.yaml": "engine:\n  kind: modern_ebpf\n  modern_ebpf:\n    buf_size_preset: 2\n"},
                   "cpus": 16, "memory": "64G"},
    "other-program": {},
    "too-old": {},
}


@pytest.fixture(scope="module")
def fleet(fleet_of):
    return fleet_of({**GOOD, **BAD}, hostvars={"falco_tune_min_healthy_time": 1, "falco_tune_healthy_deadline": 20})


@pytest.fixture(scope="module")
def hosts(fleet):
    found = {host.name: host for host in fleet.hosts}
    with open(found["broken-yaml"].root / "etc/falco/falco.yaml", "a", encoding="utf-8") as stream:
        stream.write("metrics: [\n")
    with open(found["twice"].root / "etc/falco/falco.yaml", "a", encoding="utf-8") as stream:
        stream.write("\nwatch_config_files: false\n")
    for name, text in (("other-program", "I am a bird"), ("too-old", "Falco version: 0.32.2")):
        program = found[name].root / "usr/bin/falco"
        program.write_text(f"{program.read_text().splitlines()[0]}\nprint({text!r})\n")
    newer = found["newer-45"].root / "usr/bin/falco"
    newer.write_text(newer.read_text().replace("import os, runpy, sys\n", (
        "import os, runpy, sys\nif '--version' in sys.argv:\n    print('Falco version: 0.45.0 (x86_64)')\n    sys.exit()\n")))
    return found


@pytest.fixture(scope="module")
def before(hosts):
    return {name: everything(host) for name, host in hosts.items()}


@pytest.fixture(scope="module")
def checked(fleet, hosts, before):
    return play(TUNE, fleet.inventory, "--check", "--diff")


@pytest.fixture(scope="module")
def unchanged_by_check(hosts, before, checked):
    return {name: everything(host) == before[name] for name, host in hosts.items()}


@pytest.fixture(scope="module")
def tuned(fleet, hosts, unchanged_by_check):
    """The run itself, and how often each Falco had started before it."""
    starts = {name: starts_of(host) for name, host in hosts.items()}
    return play(TUNE, fleet.inventory), starts


@pytest.fixture(scope="module")
def again(fleet, tuned):
    return play(TUNE, fleet.inventory)


def test_check_mode_touches_nothing(checked, unchanged_by_check):
    assert unchanged_by_check == dict.fromkeys(unchanged_by_check, True)
    assert checked.changed >= set(GOOD)


def test_check_mode_shows_every_file(checked):
    diff = checked.result("modern-44", "falco_config")["diff"]
    headers = [item["after_header"].rpartition("/modern-44/")[2] for item in diff]
    assert headers == ["etc/falco/config.d/zz-falcotune.yaml", "etc/logrotate.d/falcotune", "var/log/falco"]
    assert "buf_size_preset: 6" in diff[0]["after"]
    assert "+    buf_size_preset: 6" in checked.output


@pytest.mark.parametrize("name", GOOD)
def test_every_good_host_is_changed_once_and_proven(name, hosts, tuned):
    run, starts = tuned
    assert run.failure(name) is None
    result = run.result(name, "falco_config")
    assert result["changed"] and result["evidence"]["interruptions"] == 1
    assert starts_of(hosts[name]) == starts[name] + 1, log_of(hosts[name])
    assert run.trips(name) == 3  # facts, the transaction, the second look
    if name != "oldest-33":
        assert result["evidence"]["source"] == "metrics.output_file"
        assert result["evidence"]["events"] > 0
    assert result["evidence"]["buffers"]["bytes_each"] == ring_bytes(hosts[name])
    assert leftovers(hosts[name]) == []


@pytest.mark.parametrize("name,mib", [("modern-44", 32), ("packaged-41", 32), ("ebpf-38", 32), ("scraped-38", 8), ("legacy-36", 16),
                                      ("oldest-33", 16), ("strict-44", 8), ("newer-45", 8)])
def test_the_running_falco_has_the_guides_buffers(name, mib, hosts, tuned):
    assert ring_bytes(hosts[name]) == mib << 20


def test_trap_01_and_02_the_fragment_is_a_complete_block(hosts, tuned):
    text = (hosts["packaged-41"].root / "etc/falco/config.d/zz-falcotune.yaml").read_text()
    engine = yaml.safe_load(text)["engine"]
    assert engine["kind"] == "modern_ebpf"
    assert engine["modern_ebpf"] == {"buf_size_preset": 6, "cpus_for_each_buffer": 4}
    metrics = yaml.safe_load(text)["metrics"]
    assert metrics["enabled"] and metrics["interval"] == "1s"


def test_trap_03_and_04_only_our_file_is_new_in_config_d_and_it_sorts_last(hosts, tuned):
    names = sorted(path.name for path in (hosts["packaged-41"].root / "etc/falco/config.d").iterdir())
    assert names == ["engine-kind-falcoctl.yaml", "zz-falcotune.yaml"]


def test_trap_11_the_unit_lets_falco_write_its_metrics(hosts, tuned):
    host = hosts["strict-44"]
    dropin = host.root / "etc/systemd/system/falco-modern-bpf.service.d/zz-falcotune.conf"
    assert f"ReadWritePaths={host.root}/var/log/falco" in dropin.read_text()
    assert "ReadWritePaths" in host.systemctl("show", "-p", "ReadWritePaths", host.unit).stdout


def test_trap_14_the_metrics_directory_is_made_before_falco_starts(hosts, tuned):
    folder = hosts["modern-44"].root / "var/log/falco"
    assert folder.stat().st_mode & 0o7777 == 0o750
    assert (folder / "metrics.jsonl").stat().st_size > 0


def test_full_layout_keeps_every_other_line(hosts, before, tuned):
    text = (hosts["legacy-36"].root / "etc/falco/falco.yaml").read_text()
    assert "# Rules, in the order in which they are loaded." in text
    data = yaml.safe_load(text)
    assert data["syscall_buf_size_preset"] == 5
    assert data["metrics"]["enabled"] is True and data["metrics"]["interval"] == "1s"
    assert data["rules_file"] and data["webserver"]["enabled"]


def test_a_newer_release_is_treated_as_the_newest_known_one_with_a_warning(tuned):
    warnings = [word for event in tuned[0].of("newer-45") for word in event["result"].get("warnings", [])]
    assert "Falco 0.45.0 is newer than 0.44.1, the newest release known here; it is treated as 0.44.1" in warnings


@pytest.mark.parametrize("name,message", [
    ("stopped", "Falco is not running (unit falco-modern-bpf.service is inactive): start it first"),
    ("broken-yaml", "not YAML"),
    ("twice", "the key watch_config_files is given twice; Falco takes the first"),
    ("overridden", "zzz-local.yaml holds the block engine and is read after"),
    ("other-program", "does not print 'Falco version:'"),
    ("too-old", "Falco 0.32.2 is older than 0.33"),
])
def test_a_bad_host_fails_alone_with_a_reason_and_is_left_alone(name, message, hosts, before, tuned):
    assert message in tuned[0].failure(name)
    assert everything(hosts[name]) == before[name]


def test_only_the_bad_hosts_fail(tuned):
    assert set(tuned[0].failures) == set(BAD)


def test_a_second_run_changes_nothing_in_one_trip(again):
    assert again.changed == set()
    assert {name: again.trips(name) for name in GOOD} == dict.fromkeys(GOOD, 1)


def test_the_record_on_the_host_is_for_root_alone(hosts, tuned):
    state = hosts["modern-44"].root / "var/lib/falcotune"
    assert state.stat().st_mode & 0o7777 == 0o700
    assert (state / "record.json").stat().st_mode & 0o7777 == 0o600


def test_a_lost_logrotate_file_comes_back_without_an_interruption(fleet, hosts, again):
    host = hosts["modern-44"]
    starts = starts_of(host)
    (host.root / "etc/logrotate.d/falcotune").unlink()
    run = play(TUNE, fleet.inventory, "--limit", "modern-44")
    assert run.result("modern-44", "falco_config")["changes"] == [
        {"kind": "file", "key": "/etc/logrotate.d/falcotune", "from": None, "to": "written",
         "why": "Falco does not rotate its metrics file"}]
    assert starts_of(host) == starts
    assert not play(TUNE, fleet.inventory, "--limit", "modern-44").changed


def test_consent_withheld_keeps_the_change_and_says_so(fleet, hosts, again):
    host = hosts["packaged-41"]
    before, starts = everything(host), starts_of(host)
    words = ("--limit", "packaged-41", "-e", "falco_tune_buf_size_preset=5", "-e", "falco_tune_restart_ok=false")
    result = play(TUNE, fleet.inventory, *words).result("packaged-41", "falco_config")
    assert result["staged"] and result["ansible_facts"] == {"falco_tune_restart_required": True}
    assert "falco_tune_restart_ok is false" in result["msg"]
    after = everything(host)
    assert {path: item for path, item in after.items() if "/staged/" not in path} == before
    assert {mode & 0o7777 for path, (dummy, mode) in after.items() if "/staged/" in path} == {0o600}
    # Trap 6: nothing of it may begin a hot reload.
    assert starts_of(host) == starts
    again = play(TUNE, fleet.inventory, *words)
    assert not again.changed and again.trips("packaged-41") == 1
    # The policy is as before: there is nothing to wait for any more.
    assert play(TUNE, fleet.inventory, "--limit", "packaged-41").changed == {"packaged-41"}
    assert everything(host) == before


def test_rollback_returns_every_host_to_what_it_had(fleet, hosts, before, again):
    run = play(ROLLBACK, fleet.inventory, "--limit", ",".join(GOOD), "-e", "falco_tune_rollback_to=original")
    assert run.failures == {}
    assert run.changed == set(GOOD)
    for name in GOOD:
        now = falco_files(hosts[name])
        assert now == {path: digest for path, (digest, _mode) in before[name].items() if path in now}
        assert ring_bytes(hosts[name]) == 8 << 20
        assert leftovers(hosts[name]) == []
    assert not play(ROLLBACK, fleet.inventory, "--limit", ",".join(GOOD)).changed


def test_facts_hold_no_secret_of_the_configuration(tuned):
    text = json.dumps([event for event in tuned[0].events if event["action"].endswith("falco_facts")])
    assert "rules_counters_enabled" in text and "k8s_healthz_endpoint" in text
    assert "syslog_output" not in text
