# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import copy
import json

import pytest
import yaml
from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import CHANGE_KINDS
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import planner
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies
from ansible_collections.falcotune.fleet.tests.unit.hosts import FOLDER, GIB, KIND_FILE, MAIN, OLD, SHIPPED, TARGET, Host, change, fragment

KIND = "engine: {kind: modern_ebpf}\n"
LARGE = {"cpus": 32, "total": 256 * GIB, "available": 200 * GIB}


def plan(host, **given):
    return planner.make(host.facts(), given)


def refused(host, **given):
    with pytest.raises(planner.PlanError) as raised:
        plan(host, **given)
    return str(raised.value)


def test_a_packaged_host_gets_one_fragment_of_complete_blocks():
    made = plan(Host(**LARGE).with_file(KIND_FILE, KIND))
    assert (made["layout"], made["target"]) == ("dropin", TARGET)
    assert made["settings"]["engine"] == {"kind": "modern_ebpf", "modern_ebpf": {"buf_size_preset": 6, "cpus_for_each_buffer": 4}}
    assert made["settings"]["metrics"] == {
        "enabled": True, "interval": "30s", "output_rule": False, "rules_counters_enabled": True,
        "kernel_event_counters_per_cpu_enabled": True, "output_file": "/var/log/falco/metrics.jsonl"}
    assert set(made["settings"]) == {"engine", "metrics"}
    assert made["restart_required"] is True and made["warnings"] == []
    assert made["release"] == "0.44.1" and made["driver"] == "modern_ebpf"


def test_every_change_has_a_reason():
    for item in plan(Host(**LARGE))["changes"]:
        assert set(item) == {"kind", "key", "from", "to", "why"} and item["kind"] in CHANGE_KINDS
        assert len(item["why"]) > 20 and item["from"] != item["to"]


def test_changes_say_what_was_set_before():
    made = plan(Host(**LARGE))
    assert change(made, "engine.modern_ebpf.buf_size_preset")["from"] == 4
    assert change(made, "metrics.interval")["from"] == "1h"
    assert change(made, "metrics.output_file")["from"] is None
    assert change(made, "metrics.rules_counters_enabled") is None


def test_buffers_say_what_they_cost_and_buy():
    made = plan(Host(**LARGE))
    assert made["buffers"]["count"] == 8 and made["buffers"]["bytes_total"] == 8 * 32 << 20
    bridged = made["seconds_bridged"]
    # 8 MiB for two CPUs before, 32 MiB for four after.
    assert bridged["after"] == pytest.approx(2 * bridged["before"], abs=0.01)
    assert (bridged["at_events_per_second_per_cpu"], bridged["bytes_per_event"]) == (3000, 80)


def test_trap_01_the_plan_writes_blocks_that_hold_everything_that_was_in_force():
    host = Host(**LARGE)
    made = plan(host)
    before, after = host.effective(), host.after(made).effective()
    assert after["engine"]["kmod"] == before["engine"]["kmod"]
    assert after["engine"]["modern_ebpf"]["drop_failed_exit"] is False
    assert {key: after[key] for key in after if key not in made["settings"]} == {
        key: before[key] for key in before if key not in made["settings"]}


@pytest.mark.parametrize("host, driver", [
    (Host(**LARGE), "modern_ebpf"),
    (Host(**LARGE, options=()).with_file(MAIN, SHIPPED.replace("kind: modern_ebpf", "kind: kmod")), "kmod"),
    (Host(**LARGE, options=()).with_file(KIND_FILE, "engine: {modern_ebpf: {buf_size_preset: 6}}\n"), "kmod"),  # no kind: kmod runs
    (Host(**LARGE, options=("engine.kind=kmod",)), "kmod"),
    (Host(**LARGE, version="0.43.0", options=("engine.kind=ebpf",)), "ebpf"),
])
def test_trap_01_the_engine_block_keeps_the_kind_that_runs(host, driver):
    made = plan(host)
    assert made["driver"] == driver
    assert list(made["settings"]["engine"])[0] == "kind" and made["settings"]["engine"]["kind"] == driver
    assert change(made, "engine.kind") is None
    assert host.after(made).facts()["driver"]["kind"] == driver


def test_trap_02_a_packaged_host_is_planned_by_what_is_in_force():
    # falco.yaml says 6 and 4, the package's fragment resets that to 4 and 2.
    tuned = SHIPPED.replace("buf_size_preset: 4", "buf_size_preset: 6").replace("cpus_for_each_buffer: 2", "cpus_for_each_buffer: 4")
    assert change(plan(Host(**LARGE).with_file(MAIN, tuned)), "engine.modern_ebpf.buf_size_preset") is None
    host = Host(**LARGE).with_file(MAIN, tuned).with_file(KIND_FILE, KIND)
    made = plan(host)
    assert change(made, "engine.modern_ebpf.buf_size_preset")["to"] == 6
    assert host.after(made).effective()["engine"]["modern_ebpf"] == {"buf_size_preset": 6, "cpus_for_each_buffer": 4}


@pytest.mark.parametrize("name", ["zzz.yaml", "zz-falcotune.yaml.bak", "zz-falcotune.yaml~"])
def test_trap_03_and_04_a_later_fragment_with_the_same_block_is_refused_by_name(name):
    path = "%s/%s" % (FOLDER, name)
    text = refused(Host(**LARGE).with_file(path, "metrics: {enabled: false}\n"))
    assert text == "%s holds the block metrics and is read after %s, so it would override it: rename or remove it" % (path, TARGET)


def test_a_later_fragment_with_other_blocks_is_nobodys_business():
    assert plan(Host(**LARGE).with_file(FOLDER + "/zzz.yaml", "json_output: true\n"))["target"] == TARGET


def test_a_later_entry_of_config_files_is_refused_by_name_too():
    main = SHIPPED.replace("  - /etc/falco/config.d\n", "  - /etc/falco/config.d\n  - /etc/falco/aa.yaml\n")
    assert "/etc/falco/aa.yaml holds the block engine" in refused(Host(**LARGE, files={MAIN: main, "/etc/falco/aa.yaml": KIND}))


def test_an_add_only_entry_overrides_nothing():
    main = SHIPPED.replace("  - /etc/falco/config.d\n", "  - /etc/falco/config.d\n  - {path: /etc/falco/site.yaml, strategy: add-only}\n")
    host = Host(**LARGE, files={MAIN: main, "/etc/falco/site.yaml": "engine: {kind: kmod}\n"})
    assert host.after(plan(host)).effective()["engine"]["modern_ebpf"]["buf_size_preset"] == 6
    assert host.after(plan(host, layout="full")).effective()["engine"]["modern_ebpf"]["buf_size_preset"] == 6


@pytest.mark.parametrize("option", [
    "engine.modern_ebpf.buf_size_preset=2", "engine={kind: modern_ebpf}", "engine.modern_ebpf={buf_size_preset: 3}",
])
def test_trap_05_an_option_that_overrides_the_setting_is_refused_by_name(option):
    text = refused(Host(**LARGE, options=("engine.kind=modern_ebpf", option)))
    assert text.startswith("the process is started with -o %s, which overrides every file: take it out of the unit" % option)


@pytest.mark.parametrize("option", ["engine.modern_ebpf.drop_failed_exit=true", "metrics.output_rule=false", "json_output=true"])
def test_an_option_for_another_key_is_left_alone(option):
    assert plan(Host(**LARGE, options=("engine.kind=modern_ebpf", option)))["settings"]


def test_an_option_that_gives_the_planned_value_is_left_alone():
    made = plan(Host(**LARGE, options=("engine.kind=modern_ebpf", "engine.modern_ebpf.buf_size_preset=6")),
                keep_larger_buffers=False)
    assert change(made, "engine.modern_ebpf.buf_size_preset") is None
    assert change(made, "engine.modern_ebpf.cpus_for_each_buffer")["to"] == 4


def test_trap_19_before_0_41_a_fragment_beats_the_option_and_a_main_file_does_not():
    host = Host(**LARGE, version="0.38.2", options=("engine.kind=modern_ebpf", "engine.modern_ebpf.buf_size_preset=2"))
    assert host.after(plan(host)).effective()["engine"]["modern_ebpf"]["buf_size_preset"] == 6
    assert "started with -o engine.modern_ebpf.buf_size_preset=2" in refused(host, layout="full")


def test_trap_09_unusable_values_are_findings_and_are_replaced():
    main = SHIPPED.replace("    buf_size_preset: 4\n    drop_failed_exit: false\nweb",
                           "    buf_size_preset: big\n    drop_failed_exit: perhaps\nweb")
    made = plan(Host().with_file(MAIN, main))
    assert made["warnings"] == [
        "engine.modern_ebpf.buf_size_preset is 'big', which Falco 0.44.1 can't use; it takes its default 4",
        "engine.modern_ebpf.drop_failed_exit is 'perhaps', which Falco 0.44.1 can't use; it takes its default False"]
    found = change(made, "engine.modern_ebpf.buf_size_preset")
    assert (found["from"], found["to"]) == ("big", 4)


@pytest.mark.parametrize("version, main, warning", [
    ("0.44.1", SHIPPED + "syscall_buf_size_preset: 6\n", "syscall_buf_size_preset is set, but Falco 0.44.1 does not read it"),
    ("0.44.1", SHIPPED + "base_syscalls: {repair: maybe}\n", "base_syscalls.repair is 'maybe'"),
    ("0.38.2", SHIPPED + "base_syscalls: {all: true}\n", "base_syscalls.all is set, but Falco 0.38.2 does not read it"),
    ("0.36.2", OLD + "engine: {kind: modern_ebpf}\n", "engine.kind is set, but Falco 0.36.2 does not read it"),
])
def test_trap_09_keys_of_other_releases_are_findings(version, main, warning):
    assert any(warning in text for text in plan(Host(version=version, files={MAIN: main}, arguments=["falco"]))["warnings"])


def test_trap_10_a_block_is_never_written_without_what_the_shipped_file_said():
    host = Host().with_file(KIND_FILE, KIND)
    metrics = host.after(plan(host)).effective()["metrics"]
    assert metrics["interval"] == "30s"  # absent it would be "5000", which ends Falco
    assert metrics["kernel_event_counters_per_cpu_enabled"] is True  # shipped off; one hot CPU is seen at the next look
    assert metrics["rules_counters_enabled"] is True
    assert metrics["output_rule"] is False  # the shipped file's alerts would come every 30 s now


def test_per_cpu_counters_are_no_restart_of_their_own():
    """A host whose metrics are on keeps what it has, and none before 0.39 is asked for them."""
    text = SHIPPED.replace("enabled: false\n  interval: 1h", "enabled: true\n  interval: 30s\n  output_file: /var/log/falco/metrics.jsonl")
    assert plan(Host().with_file(MAIN, text))["changes"] == []
    per_cpu = "metrics.kernel_event_counters_per_cpu_enabled"
    assert change(plan(Host()), per_cpu)["to"] is True and change(plan(Host(version="0.38.2")), per_cpu) is None
    kept = Host().with_file(MAIN, SHIPPED.replace("  kernel_event_counters_per_cpu_enabled: false\n", ""))
    assert change(plan(kept), per_cpu) is None, "what is left out is on in Falco's code"


def test_trap_17_duplicate_keys_are_refused_with_file_and_line():
    text = refused(Host().with_file(MAIN, SHIPPED + "metrics: {enabled: true}\n"))
    assert text == "%s line %d: the key metrics is given twice; Falco takes the first, most tools the last: remove one of them" % (
        MAIN, SHIPPED.count("\n") + 1)


def test_variables_are_not_frozen():
    host = Host(**LARGE, environment={"FLAG": "true", "TOKEN": "x"}).with_file(
        KIND_FILE, "engine: {kind: modern_ebpf, modern_ebpf: {drop_failed_exit: '${FLAG}'}}\n")
    assert plan(host)["settings"]["engine"]["modern_ebpf"]["drop_failed_exit"] == "${FLAG}"


# Layouts.

NO_FOLDER = SHIPPED.replace("config_files:\n  - /etc/falco/config.d\n", "")
ADD_ONLY = SHIPPED.replace("  - /etc/falco/config.d", "  - {path: /etc/falco/config.d, strategy: add-only}")


@pytest.mark.parametrize("host, given, layout", [
    (Host(), {}, "dropin"), (Host(), {"layout": "full"}, "full"), (Host(version="0.38.2"), {}, "dropin"),
    (Host(files={MAIN: NO_FOLDER}), {}, "full"), (Host(files={MAIN: ADD_ONLY}), {}, "full"),
    (Host(version="0.37.1"), {}, "full"), (Host(version="0.33.0", files={MAIN: OLD}, arguments=["falco"]), {}, "full"),
])
def test_layout(host, given, layout):
    made = plan(host, **given)
    assert (made["layout"], made["target"]) == (layout, MAIN if layout == "full" else TARGET)


def test_the_fragment_goes_to_the_last_folder():
    main = SHIPPED.replace("  - /etc/falco/config.d\n", "  - /etc/falco/config.d\n  - /srv/more.d\n")
    assert plan(Host(files={MAIN: main}, folders=(FOLDER, "/srv/more.d")))["target"] == "/srv/more.d/zz-falcotune.yaml"


@pytest.mark.parametrize("host, message", [
    (Host(version="0.37.1"), "layout dropin needs Falco 0.38 or newer, and this is 0.37.1: use full or auto"),
    (Host(files={MAIN: NO_FOLDER}), "falco.yaml lists no directory in config_files, so nothing would load a fragment"),
    (Host(files={MAIN: ADD_ONLY}), "lists no directory in config_files"),
])
def test_dropin_without_a_target_is_refused(host, message):
    assert message in refused(host, layout="dropin")


def test_full_with_the_packages_fragment_is_refused_by_name():
    text = refused(Host(**LARGE).with_file(KIND_FILE, KIND), layout="full")
    assert text.startswith("%s holds the block engine and is read after %s" % (KIND_FILE, MAIN))
    assert "use layout dropin or auto, or remove the block there" in text


def test_full_replaces_blocks_and_leaves_the_rest():
    host = Host(**LARGE)
    made = plan(host, layout="full")
    text = host.after(made).files[MAIN]
    before, after = yaml.safe_load(SHIPPED), yaml.safe_load(text)
    assert text.startswith("# Falco's configuration\n")
    assert after["engine"] == made["settings"]["engine"] and after["http_output"] == before["http_output"]
    assert set(after) == set(before)


def test_old_releases_get_their_own_keys():
    made = plan(Host(version="0.36.2", files={MAIN: OLD}, arguments=["falco", "--modern-bpf"], unit="falco-modern-bpf.service", **LARGE))
    assert made["settings"]["syscall_buf_size_preset"] == 6
    assert made["settings"]["modern_bpf"] == {"cpus_for_each_syscall_buffer": 4}
    assert "engine" not in made["settings"]


def test_0_37_gets_both_forms():
    made = plan(Host(version="0.37.1", **LARGE))
    assert made["settings"]["engine"]["modern_ebpf"]["buf_size_preset"] == made["settings"]["syscall_buf_size_preset"] == 6
    assert made["settings"]["modern_bpf"] == {"cpus_for_each_syscall_buffer": 4}


def test_0_37_keeps_larger_buffers_of_the_old_keys():
    # With an untouched engine block 0.37 reads the old keys (app/actions/load_config.cpp).
    host = Host(version="0.37.1", files={MAIN: "syscall_buf_size_preset: 5\n"}, arguments=["falco"])
    assert plan(host)["buffers"]["buf_size_preset"] == 5


def test_our_own_fragment_keeps_the_blocks_that_it_holds():
    host = Host(**LARGE)
    converged = host.after(plan(host))
    assert plan(converged)["changes"] == []
    converged.files[TARGET] = converged.files[TARGET].replace("interval: 30s", "interval: 1h")
    assert set(plan(converged)["settings"]) == {"engine", "metrics"}


@pytest.mark.parametrize("layout", ["dropin", "full"])
def test_the_first_choice_for_a_host_does_not_depend_on_the_layout(layout):
    # 160 MiB of rings in a budget of 170 MiB: only an earlier choice of ours would need room to spare.
    host = Host(cpus=16, total=50 * 170 << 20, available=100 * GIB)
    assert plan(host, layout=layout)["buffers"]["buf_size_preset"] == 6


@pytest.mark.parametrize("text", ["engine: 7\n", "engine:\n", "engine: [a]\n", "metrics: 7\n", "engine: {modern_ebpf: 7}\nmetrics: []\n"])
@pytest.mark.parametrize("path", [TARGET, FOLDER + "/a.yaml"])
def test_blocks_that_are_no_mappings_are_replaced(path, text):
    host = Host(options=()).with_file(path, text)
    made = plan(host)
    assert all(isinstance(value, dict) for value in made["settings"].values())
    assert plan(host.after(made))["changes"] == []


# Metrics.

def test_metrics_can_be_left_alone():
    made = plan(Host(), metrics=False)
    assert "metrics" not in made["settings"] and made["metrics_file"] is None and made["directories"] == [] and made["rotate"] is None


def metrics_host(private_tmp=True, **metrics):
    return Host(private_tmp=private_tmp).with_file(FOLDER + "/metrics.yaml", fragment(metrics=metrics))


@pytest.mark.parametrize("host, path, why", [
    (Host(), "/var/log/falco/metrics.jsonl", "a file that an audit can read"),
    (metrics_host(output_file="/srv/falco.jsonl"), "/srv/falco.jsonl", None),
    (metrics_host(output_file="/tmp/falco.jsonl"), "/var/log/falco/metrics.jsonl",
     "the unit has PrivateTmp, so /tmp/falco.jsonl is invisible"),
    (metrics_host(output_file="/var/tmp/x"), "/var/log/falco/metrics.jsonl", "the unit has PrivateTmp"),
    (metrics_host(private_tmp=False, output_file="/tmp/falco.jsonl"), "/tmp/falco.jsonl", None),
])
def test_trap_11_metrics_go_where_the_host_can_see_them(host, path, why):
    made = plan(host)
    assert made["metrics_file"] == path
    found = change(made, "metrics.output_file")
    assert (found is None) is (why is None)
    assert why is None or why in found["why"]


def test_trap_11_a_file_of_ours_is_rotated_and_that_of_somebody_else_is_not():
    rotate = plan(Host(), metrics_rotate_size="5M", metrics_rotate_count=9)["rotate"]
    assert rotate == {"path": "/var/log/falco/metrics.jsonl", "size": "5M", "count": 9, "owner": None}
    assert plan(metrics_host(output_file="/srv/falco.jsonl"))["rotate"] is None


def test_trap_14_the_directory_is_part_of_the_plan():
    made = plan(Host(metrics_dir_exists=False), metrics_dir="/srv/falco")
    assert made["directories"] == ["/srv/falco"] and made["metrics_file"] == "/srv/falco/metrics.jsonl"
    assert "Falco exits where the directory" in change(made, "/srv/falco", "directory")["why"]
    assert change(plan(Host()), "/var/log/falco", "directory") is None


@pytest.mark.parametrize("interval, changed", [("30s", False), ("30000ms", False), ("0m30s", False), ("1h", True), ("5000", True),
                                               (30, True)])
def test_intervals_are_compared_by_their_length(interval, changed):
    assert (change(plan(metrics_host(interval=interval)), "metrics.interval") is not None) is changed


def test_flags_that_were_switched_off_are_switched_on_and_absent_ones_are_on_already():
    made = plan(metrics_host(kernel_event_counters_enabled=False))
    assert change(made, "metrics.kernel_event_counters_enabled")["to"] is True
    assert change(made, "metrics.libbpf_stats_enabled") is None


def test_releases_without_metrics_get_none():
    made = plan(Host(version="0.34.1", files={MAIN: OLD}, arguments=["falco"]))
    assert "metrics" not in made["settings"] and made["metrics_file"] is None


@pytest.mark.parametrize("protect, writable, dropin", [
    ("strict", [], {"ReadWritePaths": "/var/log/falco"}), ("strict", ["/var/log/falco"], None), ("strict", ["-/var/log"], None),
    ("strict", ["/var/log/fal"], {"ReadWritePaths": "/var/log/falco"}), ("full", [], None), ("no", [], None),
])
def test_a_unit_that_may_not_write_gets_a_dropin(protect, writable, dropin):
    made = plan(Host(protect_system=protect, read_write_paths=writable))
    assert made["unit_dropin"] == dropin
    assert (change(made, "ReadWritePaths", "unit") is not None) is (dropin is not None)


# Sysctl.

@pytest.mark.parametrize("host, given, sysctls, changed", [
    (Host(), {}, {}, False),
    (Host(), {"bpf_stats": True}, {"kernel.bpf_stats_enabled": "1"}, True),
    (Host(bpf_stats=1), {"bpf_stats": True}, {"kernel.bpf_stats_enabled": "1"}, False),
    (Host(bpf_stats=None), {"bpf_stats": True}, {"kernel.bpf_stats_enabled": "1"}, True),
    (Host(options=("engine.kind=kmod",)), {"bpf_stats": True}, {}, False),
])
def test_bpf_stats(host, given, sysctls, changed):
    made = plan(host, **given)
    assert made["sysctls"] == sysctls
    assert (change(made, "kernel.bpf_stats_enabled", "sysctl") is not None) is changed


@pytest.mark.parametrize("changes, given, restart", [
    ({"bpf_stats": 0}, {}, False), ({"metrics_dir_exists": False}, {}, False), ({}, {"buf_size_preset": 5}, True)])
def test_only_what_falco_reads_needs_a_restart(changes, given, restart):
    host = Host(total=900 * GIB, available=900 * GIB)
    made = plan(host.after(plan(host)).but(**changes), bpf_stats=True, **given)
    assert made["changes"] and made["restart_required"] is restart


def test_a_host_that_has_metrics_is_waited_for_and_not_given_buffers_by_its_size():
    host = Host(total=900 * GIB, available=900 * GIB)
    grown = host.after(plan(host)).but(cpus=64)
    assert plan(grown)["changes"] == [] and plan(grown)["verdict"]["state"] == "unmeasured"


# Hosts that can't be planned for.

@pytest.mark.parametrize("host, message", [
    (Host(unit=None), "systemd has no unit of Falco's packages"),
    (Host(running=False, state="inactive"), "Falco is not running (unit falco-modern-bpf.service is inactive): start it first"),
    (Host(restarts=7, age=12.0), "Falco keeps exiting: systemd restarted falco-modern-bpf.service 7 times, the last time 12 s ago"),
    (Host(version=None), "Falco's release is unknown: /usr/bin/falco does not exist"),
    (Host(version="0.32.2"), "Falco 0.32.2 is older than 0.33"),
    (Host(version="Fastly"), "'Fastly' is not a Falco version"),
    (Host(options=("engine.kind=nodriver",)), "this Falco watches no system calls of the host: no driver is opened (process arguments)"),
    (Host(options=("engine.kind=other",)),
     "driver other (process arguments) is not one that Falco 0.44.1 can tune; it knows kmod, modern_ebpf"),
    (Host(options=("engine.kind=ebpf",)), "driver ebpf (process arguments) is not one that Falco 0.44.1 can tune"),
    (Host(cpus=None), "the number of online CPUs is unknown: no such file"),
    (Host(files={MAIN: "engine: [\n"}), "falco.yaml line 2: not YAML"),
    (Host(files={}, unreadable={MAIN: "can't be read; run with become"}), "can't be read; run with become"),
    (Host(total=256 << 20, cpus=64), "no buffers fit the budget of"),
])
def test_hosts_that_can_not_be_planned_for_say_why(host, message):
    assert message in refused(host)


@pytest.mark.parametrize("host", [Host(restarts=7, age=3600.0), Host(restarts=0, age=3.0), Host(restarts=None, age=3.0)])
def test_a_young_or_restarted_process_alone_is_no_reason(host):
    assert plan(host)["changes"]


def test_another_driver_than_the_policys_is_refused():
    text = refused(Host(), driver="kmod")
    assert text.startswith("policy says driver kmod, but Falco runs modern_ebpf (process arguments): the unit chooses the driver")
    assert plan(Host(), driver="modern_ebpf")["driver"] == "modern_ebpf"


def test_a_fixed_preset_that_does_not_fit_is_refused():
    assert "lower the preset that the policy sets" in refused(Host(), buf_size_preset=10)


def test_a_wrong_policy_is_refused_before_the_host_is_looked_at():
    with pytest.raises(policies.PolicyError, match="falco_tune_buf_size_preset is 11"):
        planner.make({"falco": {}}, {"buf_size_preset": 11})


def test_a_newer_release_is_planned_with_a_warning():
    made = plan(Host(version="0.47.0"))
    assert made["release"] == "0.47.0" and "0.47.0 is newer" in made["warnings"][0]


def test_a_stale_process_is_a_change_without_settings():
    host = Host()
    quiet = host.after(plan(host)).but(record=None)
    quiet.files[MAIN] = quiet.files[MAIN].replace("watch_config_files: true", "watch_config_files: false")
    assert plan(quiet)["changes"] == []
    made = plan(quiet.but(mtimes={MAIN: 9000.0}))
    assert [item["kind"] for item in made["changes"]] == ["running"]
    assert made["settings"] == {} and made["restart_required"] is True


@pytest.mark.parametrize("host", [Host(), Host(running=False, state="failed"), Host(files={MAIN: "engine: [\n"})])
@pytest.mark.parametrize("phase, said", [
    ("swapped", "a change that was broken off (swapped)"), ("trial", "a trial that was broken off")])
def test_what_was_broken_off_comes_first(phase, said, host):
    made = plan(host.but(unfinished={"phase": phase, "at": 5.0}))
    assert [item["kind"] for item in made["changes"]] == ["unfinished"] and made["changes"][0]["from"] == said
    assert made["settings"] == {} and made["restart_required"] is True
    assert set(made) == set(plan(Host()))


def test_what_was_never_proven_is_proven_without_an_interruption():
    """A package that is upgraded under a tuned host, and an edit that is no matter of ours."""
    host = Host()
    tuned = host.after(plan(host))
    tuned = tuned.but(record=dict(tuned.record, version="0.44.1", driver="modern_ebpf"))
    assert plan(tuned)["changes"] == []
    upgraded = tuned.with_file(MAIN, tuned.files[MAIN] + "# as packaged\n").but(record=dict(tuned.record, version="0.43.1"))
    made = plan(upgraded)
    assert [(item["kind"], item["from"], item["to"]) for item in made["changes"]] == [(
        "record", "Falco's release: 0.43.1; %s: as it was when Falco was proven with it" % MAIN,
        "Falco's release: 0.44.1; %s: changed since" % MAIN)]
    assert made["settings"] == {} and made["restart_required"] is False
    # A file of ours that Falco does not read.
    lost = tuned.but(record=dict(tuned.record, files={"/etc/logrotate.d/falcotune": "0" * 64}, written=["/etc/logrotate.d/falcotune"]))
    assert plan(lost)["changes"] == []
    # Whatever restarts Falco proves it as well.
    assert [item["kind"] for item in plan(upgraded, buf_size_preset=6)["changes"] if item["kind"] == "record"] == []
    assert "record" in [item["kind"] for item in plan(upgraded, bpf_stats=True)["changes"]]


def test_the_units_own_rings_do_not_count_against_its_limit():
    # 4 rings of 8 MiB are charged to a unit that uses 60 MiB: the rest is 100 - 28 MiB.
    made = plan(Host(limit=100 << 20, used=60 << 20))
    assert made["buffers"]["budget"] == {"bytes": 72 << 20, "bound": "the unit's memory limit of 100 MiB less what Falco uses"}


def test_facts_are_not_changed_and_the_plan_is_plain_data():
    found = Host(**LARGE).with_file(KIND_FILE, KIND).facts()
    kept = copy.deepcopy(found)
    made = planner.make(found, {"bpf_stats": True})
    assert found == kept
    assert json.loads(json.dumps(made)) == made


@pytest.mark.parametrize("host, said", [
    (Host(arguments=["falco", "--disable-source", "syscall"]), "it reads plugins only (process arguments: --disable-source syscall)"),
    (Host(version="0.37.1", files={MAIN: OLD}, folders=(), arguments=["falco", "-g", "/srv/trace.json"]), "gVisor sandboxes"),
    (Host(options=("engine.kind=nodriver",)), "no driver is opened (process arguments)"),
    (Host(version="0.43.1", arguments=["falco"], files={MAIN: SHIPPED.replace("kind: modern_ebpf", "kind: gvisor")}), "gVisor sandboxes"),
    (Host(arguments=["falco"], files={MAIN: SHIPPED.replace("kind: modern_ebpf", "kind: replay")}), "it replays a capture file"),
])
def test_a_falco_that_watches_no_system_calls_is_refused(host, said):
    for policy in ({}, {"driver": "modern_ebpf"}):
        reason = refused(host, **policy)
        assert "watches no system calls" in reason and said in reason and "nothing was changed" in reason


def test_trap_33_metrics_that_are_switched_on_are_no_alerts():
    made = plan(Host())
    found = change(made, "metrics.output_rule")
    assert (found["from"], found["to"]) == (True, False) and "every output" in found["why"]
    # Nor where the file is the user's own.
    assert plan(metrics_host(output_rule=True, output_file="/srv/falco.jsonl"))["settings"]["metrics"]["output_rule"] is False
    assert change(plan(metrics_host(output_rule=False)), "metrics.output_rule") is None


def test_trap_33_an_interval_is_not_shortened_where_snapshots_are_alerts():
    on = metrics_host(enabled=True, interval="1h", output_rule=True)
    made = plan(on)
    assert change(made, "metrics.interval") is None and change(made, "metrics.output_rule") is None
    assert made["settings"]["metrics"]["interval"] == "1h" and made["settings"]["metrics"]["output_rule"] is True
    assert [text for text in made["warnings"] if "would make 120 times as many" in text and "too seldom" in text]
    # Nothing can be proven by counters that come once an hour: not waited for, and said.
    assert made["metrics_file"] is None
    assert made["rotate"]["path"] == "/var/log/falco/metrics.jsonl"
    quiet = plan(metrics_host(enabled=True, interval="1h"))
    assert change(quiet, "metrics.interval")["to"] == "30s" and quiet["warnings"] == []
    assert quiet["metrics_file"] == "/var/log/falco/metrics.jsonl"
    minute = plan(metrics_host(enabled=True, interval="40s", output_rule=True))
    assert minute["metrics_file"] and "1.33 times" in minute["warnings"][0] and "too seldom" not in minute["warnings"][0]


@pytest.mark.parametrize("interval, warned", [("15s", False), ("10s", False), ("9s", True), ("500ms", True)])
def test_a_shorter_interval_is_kept(interval, warned):
    host = metrics_host(enabled=True, interval=interval)
    made = plan(host)
    assert change(made, "metrics.interval") is None and made["settings"]["metrics"]["interval"] == interval
    assert any("metrics.interval is %s: below 10s" % interval in text for text in made["warnings"]) is warned
    assert plan(host.after(made))["changes"] == []
    # One of metrics that are off says nothing.
    assert change(plan(metrics_host(interval=interval)), "metrics.interval")["to"] == "30s"


@pytest.mark.parametrize("host", [Host(), metrics_host(enabled=True, interval="30s"), metrics_host(enabled=True, interval="5s"),
                                  metrics_host(enabled=False, interval="2s")], ids=["off", "longer", "short", "not-in-force"])
def test_trap_24_no_interval_is_made_shorter_than_the_driver_can_stand(host):
    with pytest.raises(planner.PlanError) as raised:
        plan(host, metrics_interval="2s")
    text = str(raised.value)
    assert text.startswith("falco_tune_metrics_interval is 2s, but Falco runs modern_ebpf (") and "expected 10s or longer" in text
    assert "BPF programs" in text and "Set 10s or longer" in text
    assert plan(Host(), metrics_interval="10s")["warnings"] == []


def test_trap_24_a_short_interval_is_followed_where_it_is_in_force_or_harmless():
    # In force already: nothing is changed by it, and its danger is named.
    for policy in ("2s", "3s"):
        made = plan(metrics_host(enabled=True, interval="2s"), metrics_interval=policy)
        assert made["settings"]["metrics"]["interval"] == "2s" and change(made, "metrics.interval") is None
        assert [text for text in made["warnings"] if text.startswith("metrics.interval is 2s: below 10s") and "BPF" in text]
    # Kept, whatever policy says, as each snapshot is an alert.
    alerts = metrics_host(enabled=True, interval="5s", output_rule=True)
    assert plan(alerts, metrics_interval="2s")["settings"]["metrics"]["interval"] == "5s"
    # kmod loads no BPF programs.
    kmod = Host(arguments=["falco"], files={MAIN: SHIPPED.replace("kind: modern_ebpf", "kind: kmod")})
    made = plan(kmod, metrics_interval="2s")
    assert made["warnings"] == [] and made["settings"]["metrics"]["interval"] == "2s"
    assert plan(Host(), metrics=False, metrics_interval="2s")["metrics_file"] is None


def test_trap_30_merge_keys_are_not_in_force_and_are_said():
    main = SHIPPED.replace("engine:\n", "x: &rings {buf_size_preset: 7, cpus_for_each_buffer: 4}\nengine:\n")
    main = main.replace("    cpus_for_each_buffer: 2\n    buf_size_preset: 4\n", "    <<: *rings\n")
    host = Host().with_file(MAIN, main + "plugins: [{<<: *rings, name: a}]\n<<: *rings\n")
    facts = host.facts()
    assert facts["config"]["merge_keys"] == ["engine.modern_ebpf.<<", "plugins[0].<<", "<<"]
    made = planner.make(facts, {})
    # The code's defaults are in force: two CPUs for each buffer, and preset 4.
    assert (made["buffers"]["buf_size_preset"], made["buffers"]["cpus_for_each_buffer"]) == (4, 2)
    assert [text.split()[0] for text in made["warnings"] if "merges nothing" in text] == facts["config"]["merge_keys"]
    assert "merges nothing" not in "".join(plan(Host())["warnings"])


@pytest.mark.parametrize("version, proven", [("0.40.0", False), ("0.41.0", False), ("0.41.3", True)])
def test_a_release_that_counts_nothing_beside_plugins_is_not_asked_for_counters(version, proven):
    pair = {"reason": "its snapshots of the syscall source hold no kernel counters", "uncounted": True, "bytes_read": 1}
    made = plan(Host(version=version, pair=pair))
    assert (made["metrics_file"] is not None) is proven
    assert any("proven by its process only" in text for text in made["warnings"]) is not proven


def test_f15_comments_that_go_and_what_an_upgrade_finds_are_said_beforehand():
    text = "engine:\n  kind: modern_ebpf\n  # house rule\nmetrics:\n  enabled: false\n# about rules\nrules_files: []  # none\n"
    facts = Host(version="0.37.1", cpus=32, files={MAIN: text}, folders=()).facts()
    assert facts["config"]["commented"] == ["engine", "rules_files"]
    made = planner.make(facts, {})
    assert made["layout"] == "full" and "engine" in made["settings"] and "metrics" in made["settings"]
    told = "the comments inside these blocks of %s go, because the blocks are written anew: engine. A rollback brings them back" % MAIN
    assert told in made["warnings"], made["warnings"]
    assert any(".dpkg-dist, .rpmnew" in text for text in made["warnings"])
