# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import configuration, drivers, releases

MAIN, PACKAGE = "/etc/falco/falco.yaml", "/etc/falco/config.d/engine-kind-falcoctl.yaml"


@pytest.mark.parametrize("arguments, options", [
    (["falco"], []),
    (["falco", "-o", "a=1", "--option", "b=2", "--option=c=3", "-od=4"], ["a=1", "b=2", "c=3", "d=4"]),
    (["falco", "-c", "x.yaml", "-o", "a.b=c d"], ["a.b=c d"]),
    (["falco", "-o"], []),
    (["-o", "a=1"], []),
    (["falco", "-o", "-o", "a=1"], ["-o"]),
    ([], []),
])
def test_options_of(arguments, options):
    assert drivers.options_of(arguments) == options


def decide(version, arguments=(), main=None, package=None, environment=None, unit=None):
    release = releases.release_for(version)
    files = {MAIN: main or "config_files: [/etc/falco/config.d]\n"}
    if package:
        files[PACKAGE] = package
    arguments = ["falco"] + list(arguments) if arguments is not None else []
    merged = configuration.merge(MAIN, files, drivers.options_of(arguments), environment or {}, release)
    found = drivers.decide(arguments, environment or {}, unit, merged, release)
    return found["kind"], found["decided_by"]


CONFIGURED = "config_files: [/etc/falco/config.d]\nengine: {kind: ebpf}\n"


@pytest.mark.parametrize("version", ["0.41.0", "0.43.0", "0.44.1"])
def test_trap_05_the_units_option_wins_over_all_files(version):
    assert decide(version, ["-o", "engine.kind=modern_ebpf"], CONFIGURED, "engine: {kind: kmod}") == ("modern_ebpf", "process arguments")


@pytest.mark.parametrize("version", ["0.38.2", "0.40.0"])
def test_trap_19_a_fragment_beats_the_units_option_before_0_41(version):
    assert decide(version, ["-o", "engine.kind=modern_ebpf"], package="engine: {kind: kmod}") == ("kmod", "configuration (%s)" % PACKAGE)
    # The main file's block does not.
    assert decide(version, ["-o", "engine.kind=modern_ebpf"], CONFIGURED) == ("modern_ebpf", "process arguments")


@pytest.mark.parametrize("version, arguments, kind", [
    ("0.44.1", ["-o", "engine.kind=kmod", "-o", "engine.kind=modern_ebpf"], "modern_ebpf"),
    ("0.44.1", ["-o", "engine.kind='kmod'"], "kmod"),
    ("0.44.1", ["--option=engine.kind=kmod"], "kmod"),
    ("0.44.1", ["-oengine.kind=kmod"], "kmod"),
    ("0.37.1", ["-o", "engine.kind=ebpf"], "ebpf"),
    ("0.36.2", ["--modern-bpf"], "modern_ebpf"),
    ("0.34.0", ["--modern-bpf"], "modern_ebpf"),
    ("0.44.1", ["-o", "engine.kind=nodriver"], "nodriver"),
])
def test_arguments_decide(version, arguments, kind):
    assert decide(version, arguments) == (kind, "process arguments")


@pytest.mark.parametrize("version, arguments", [
    ("0.38.0", ["--modern-bpf"]),  # gone
    ("0.36.2", ["-o", "engine.kind=modern_ebpf"]),  # not there yet
    ("0.44.1", ["-o", "engine.kinds=modern_ebpf"]),
])
def test_arguments_of_other_releases_decide_nothing(version, arguments):
    assert decide(version, arguments) == ("kmod", "default of release %s" % version)


def test_map_form_of_the_option_decides_too():
    assert decide("0.44.1", ["-o", "engine={kind: modern_ebpf}"], CONFIGURED)[0] == "modern_ebpf"


@pytest.mark.parametrize("version, kind", [("0.33.0", "ebpf"), ("0.36.2", "ebpf"), ("0.37.1", "ebpf"), ("0.38.0", "kmod")])
def test_probe_of_the_environment_decides_before_0_38(version, kind):
    assert decide(version, environment={"FALCO_BPF_PROBE": ""})[0] == kind


def test_old_flags_are_ignored_by_0_37_once_its_engine_block_was_touched():
    # userspace/falco/app/actions/load_config.cpp at 0.37.0: m_changes_in_engine_config
    assert decide("0.37.1", ["--modern-bpf"])[0] == "modern_ebpf"
    assert decide("0.37.1", ["--modern-bpf"], "engine: {kind: kmod, kmod: {buf_size_preset: 6}}\n")[0] == "kmod"
    assert decide("0.37.1", environment={"FALCO_BPF_PROBE": ""}, main="engine: {kind: modern_ebpf}\n")[0] == "modern_ebpf"


@pytest.mark.parametrize("version, main, package, kind, decided_by", [
    ("0.44.1", CONFIGURED, None, "ebpf", "configuration (%s)" % MAIN),
    ("0.44.1", CONFIGURED, "engine: {kind: modern_ebpf}", "modern_ebpf", "configuration (%s)" % PACKAGE),
    ("0.37.1", CONFIGURED, None, "ebpf", "configuration (%s)" % MAIN),
    ("0.36.2", CONFIGURED, None, "kmod", "default of release 0.36.2"),
    # A block without kind is kmod, whatever the main file said: trap 1.
    ("0.44.1", CONFIGURED, "engine: {modern_ebpf: {buf_size_preset: 6}}", "kmod", "default of release 0.44.1"),
])
def test_configuration_decides_where_the_arguments_do_not(version, main, package, kind, decided_by):
    assert decide(version, [], main, package) == (kind, decided_by)


@pytest.mark.parametrize("version", ["0.%d.0" % minor for minor in range(33, 45)])
def test_the_default_of_every_release_is_kmod(version):
    assert decide(version, main="watch_config_files: true\n") == ("kmod", "default of release %s" % version)


@pytest.mark.parametrize("unit, kind", [
    ("falco-modern-bpf.service", "modern_ebpf"), ("falco-bpf.service", "ebpf"), ("falco-kmod.service", "kmod"), ("falco.service", "kmod"),
])
def test_before_0_37_the_unit_tells_where_no_process_and_no_arguments_do(unit, kind):
    assert decide("0.36.2", None, unit=unit)[0] == kind


def test_nothing_merged_still_decides():
    assert drivers.decide(["falco", "-o", "engine.kind=kmod"], {}, None, None, releases.release_for("0.44.1"))["kind"] == "kmod"
    assert drivers.decide(["falco"], {}, None, None, releases.release_for("0.44.1"))["decided_by"] == "default of release 0.44.1"


@pytest.mark.parametrize("version, arguments, kind, by", [
    ("0.44.1", ["--disable-source", "syscall"], "none", "--disable-source syscall"),
    ("0.33.1", ["--disable-source=syscall"], "none", "--disable-source syscall"),
    ("0.41.3", ["--disable-source", "k8s_audit,syscall"], "none", "--disable-source syscall"),
    ("0.44.1", ["--enable-source=k8s_audit"], "none", "--enable-source k8s_audit"),
    ("0.44.1", ["--enable-source", "k8s_audit", "--enable-source", "okta"], "none", "--enable-source k8s_audit,okta"),
    ("0.44.1", ["-o", "engine.kind=modern_ebpf", "--disable-source", "syscall"], "none", "--disable-source syscall"),
    ("0.36.2", ["--modern-bpf", "--disable-source", "syscall"], "none", "--disable-source syscall"),
    ("0.37.1", ["--gvisor-config=/srv/trace.json"], "gvisor", "--gvisor-config"),
    ("0.36.2", ["-g", "/srv/trace.json"], "gvisor", "--gvisor-config"),
    ("0.34.0", ["--nodriver"], "nodriver", "--nodriver"),
    ("0.36.2", ["-e", "/srv/capture.scap"], "replay", "-e"),
])
def test_a_falco_without_system_calls_has_no_driver(version, arguments, kind, by):
    assert decide(version, arguments) == (kind, "process arguments: " + by)
    assert kind in drivers.WITHOUT_SYSCALLS


@pytest.mark.parametrize("version, arguments", [
    ("0.44.1", ["--enable-source=syscall", "--enable-source=k8s_audit"]),
    ("0.44.1", ["--enable-source", "k8s_audit,syscall"]),
    ("0.44.1", ["--disable-source", "k8s_audit"]),
    # No options of these releases.
    ("0.38.2", ["--gvisor-config=/srv/trace.json"]),
    ("0.38.2", ["--nodriver"]),
])
def test_other_sources_beside_system_calls_change_no_driver(version, arguments):
    assert decide(version, arguments)[0] == "kmod"


def test_0_37_ignores_the_old_options_once_its_engine_block_is_changed():
    assert decide("0.37.1", ["--nodriver"], CONFIGURED)[0] == "ebpf"
