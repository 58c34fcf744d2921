# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""falco_facts' host half on a fake root, and its message against the one that the other tests are written with."""

import os
import sys

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._change import records
from ansible_collections.falcotune.fleet.plugins.module_utils._host import host, systemd
from ansible_collections.falcotune.fleet.plugins.modules import falco_facts
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import assembly
from ansible_collections.falcotune.fleet.tests.unit.hosts import Host

FALCO = "#!" + sys.executable + """
import os, sys
if sys.argv[1:] == ["--version"]:
    print("Falco version: %s\\nLibs version:  0.25.4")
    open(sys.argv[0] + ".asked", "a").write(" ".join(sorted(os.environ)))
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A root with CPUs, memory, a binary, configuration and one running process."""
    def write(path, text, mode=0o644):
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    etc = tmp_path / "etc/falco"
    write("usr/bin/falco", FALCO % "0.44.1 (x86_64)", 0o755)
    write("etc/falco/falco.yaml", "config_files: [%s/config.d]\nengine: {kind: '${KIND}'}\n" % etc)
    write("etc/falco/config.d/a.yaml", "metrics: {enabled: true}\n")
    write("etc/falco/config.d/sub/b.yaml", "metrics: {enabled: false}\n")
    write("sys/devices/system/cpu/online", "0-3\n")
    write("sys/devices/system/cpu/possible", "0-7\n")
    write("proc/meminfo", "MemTotal: 1024 kB\nMemAvailable: 512 kB\n")
    write("proc/sys/kernel/osrelease", "6.1.0\n")
    write("proc/sys/kernel/bpf_stats_enabled", "0\n")
    write("proc/stat", "btime 1000\n")
    write("proc/812/stat", "812 (falco) S 1 812 812 0 -1 4194304 1 2 3 4 70 30 0 0 20 -10 3 0 4711 1 2\n")
    write("proc/812/cmdline", "\0".join([str(tmp_path / "usr/bin/falco"), "-c", str(etc / "falco.yaml"), "-o", "a.b=1", ""]))
    write("proc/812/environ", "KIND=kmod\0SECRET=x\0")
    write("proc/812/status", "Name:\tfalco\nUid:\t%d\t%d\t%d\t%d\n" % ((os.getuid(),) * 4))
    write("proc/812/task/812/schedstat", "100 50 7\n")
    unit = {"Id": "falco-kmod.service", "LoadState": "loaded", "ActiveState": "active", "MainPID": "812", "NRestarts": "2",
            "ExecStart": "{ argv[]=%s/usr/bin/falco ; }" % tmp_path, "MemoryMax": "infinity", "MemoryCurrent": "4096"}
    monkeypatch.setattr(systemd, "show", lambda names: [unit])
    return tmp_path


def gather(root, **params):
    return falco_facts.gather(dict({
        "host_root": str(root), "unit": "", "config_file": "", "state_dir": "/state", "metrics_dir": str(root), "observe_seconds": 0,
        "extra_files": [], "metrics_sources": ["metrics_file"], "metrics_max_bytes": 1 << 20, "window_seconds": 60.0,
        "min_observation": 10.0, "prometheus_url": "", "prometheus_seconds": 1.0, "scrape_ok": False, "rules": False,
        "dry_run": "--dry-run", "profile_seconds": 0}, **params))


def shape(value):
    """The keys of nested mappings, in facts that no test takes apart further."""
    return {key: shape(item) if isinstance(item, dict) else None for key, item in value.items()}


def test_the_message_of_the_other_tests_has_the_shape_of_the_real_one(root):
    found, paper = gather(root), Host().message()
    for message in (found, paper):
        for item in message["config_sources"]["files"]:
            assert set(item) == {"path", "sha256", "mtime", "data"}
        message["config_sources"]["environment"] = message["host"]["files"] = None
    assert shape(found) == shape(paper)


def test_gather(root):
    found = gather(root)
    assert found["cpus"]["online"] == 4
    assert found["memory"] == {"total": 1 << 20, "available": 1 << 19, "limit": None, "used": 4096}
    assert found["service"]["unit"] == "falco-kmod.service"
    falco = found["falco"]
    assert (falco["version"], falco["running"], falco["pid"], falco["start_ticks"], falco["restarts"], falco["nice"]) == (
        "0.44.1", True, 812, 4711, 2, -10)
    assert falco["since"] == pytest.approx(1000 + 4711 / os.sysconf("SC_CLK_TCK"))
    assert found["config_sources"]["folders"] == [str(root / "etc/falco/config.d")]
    assert [os.path.basename(item["path"]) for item in found["config_sources"]["files"]] == ["falco.yaml", "a.yaml"]
    assert found["config_sources"]["environment"] == {"KIND": "kmod"}  # nothing else of Falco's environment
    assembled = assembly.assemble(found)
    assert assembled["driver"]["kind"] == "kmod" and assembled["config"]["effective"]["metrics"] == {"enabled": True}


def test_a_host_without_falco(root, monkeypatch):
    monkeypatch.setattr(systemd, "show", lambda names: [])
    found = gather(root)
    reason = "systemd has no unit of Falco's packages (%s)" % ", ".join(systemd.UNITS)
    assert found["service"] == {"manager": None, "unit": None, "reason": reason,
                                "cgroup": {"weight": None, "weighable": False, "throttled": None}}
    assert found["falco"]["running"] is False and found["falco"]["cpu"]["reason"] == "not running"


def test_a_systemd_that_does_not_answer(root, monkeypatch):
    def fail(names):
        raise systemd.ManagerError("no bus")

    monkeypatch.setattr(systemd, "show", fail)
    assert gather(root)["service"]["reason"] == "systemd did not answer: no bus"


@pytest.mark.parametrize("text, reason", [
    (None, "does not exist or is not executable: is Falco installed?"),
    ("#!%s\nprint('falco version 1.2')\n" % sys.executable, "that is another program of the same name, or a broken Falco"),
    ("#!%s\nraise SystemExit(3)\n" % sys.executable, "(exit 3, first line: [])"),
    ("#!/bin/sh\ntouch $0.ran; echo Falco version: 0.44.1\n", "is a script of /bin/sh: it was not run; expected Falco's program"),
    ("echo Falco version: 0.44.1\n", "is neither an ELF file nor a script"),
])
def test_an_unknown_binary_gives_a_reason(root, text, reason):
    binary = root / "usr/bin/falco"
    binary.unlink()
    if text:
        binary.write_text(text)
        binary.chmod(0o755)
    falco = gather(root)["falco"]
    assert falco["version"] is None and reason in falco["reason"]
    assert not os.path.exists(str(binary) + ".ran")


def test_a_proven_binary_is_not_run_again(root):
    binary = str(root / "usr/bin/falco")
    record = {"binary": {"version": "0.44.0", "identity": records.identity(binary)}}
    assert falco_facts.version_of(binary, record) == ("0.44.0", None)
    assert not os.path.exists(binary + ".asked")
    os.utime(binary, (1, 1))
    assert falco_facts.version_of(binary, record) == ("0.44.1", None)


def test_a_start_script_is_never_run_and_hides_no_release(root, monkeypatch):
    """F16, F05: ExecStart is a script that becomes Falco: the running process is asked for, not the script."""
    script = root / "opt/start-falco"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\ntouch %s/ran\nexec %s/usr/bin/falco\n" % (root, root))
    script.chmod(0o755)
    unit = dict(systemd.show([])[0], ExecStart="{ path=%s ; argv[]=%s ; ignore_errors=no }" % (script, script))
    monkeypatch.setattr(systemd, "show", lambda names: [unit])
    falco = gather(root)["falco"]
    assert (falco["version"], falco["binary"]) == ("0.44.1", str(root / "usr/bin/falco"))
    unit["MainPID"] = "0"
    found = gather(root, rules=True)
    assert found["falco"]["version"] is None and "but a wrapper or start script" in found["falco"]["reason"]
    assert found["rules"]["reason"] == found["falco"]["reason"] and not (root / "ran").exists()


@pytest.mark.parametrize("path, reason", [("/bin/sh", "not Falco by its name"), (sys.executable, "not Falco by its name")])
def test_a_program_of_another_name_is_not_asked_for_its_version(path, reason):
    version, said = falco_facts.version_of(path, None)
    assert version is None and reason in said


def test_a_program_that_others_may_write_is_not_run(root):
    (root / "usr/bin").chmod(0o777)
    falco = gather(root)["falco"]
    assert falco["version"] is None and "usr/bin (mode 0777) can be written by others" in falco["reason"]
    assert not (root / "usr/bin/falco.asked").exists()


def test_falco_is_run_without_the_variables_of_its_process(root, monkeypatch):
    (root / "proc/812/environ").write_text("KIND=kmod\0SECRET=x\0LD_PRELOAD=/tmp/x.so\0PATH=/tmp\0HOST_ROOT=/\0")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/tmp")
    gather(root)
    asked = (root / "usr/bin/falco.asked").read_text().split()
    assert "HOST_ROOT" in asked and not {"SECRET", "LD_PRELOAD", "LD_LIBRARY_PATH", "KIND"} & set(asked)


def test_a_variable_in_config_files_does_not_make_the_host_read_something_else(root):
    etc = root / "etc/falco"
    (etc / "falco.yaml").write_text("config_files: ['${PREFIX}%s/config.d']\n" % etc)
    found = gather(root)["config_sources"]
    assert [item["path"] for item in found["files"]] == [str(etc / "falco.yaml")] and found["folders"] == []


OLD = 10 * 86400.0


def observe(looks, age=OLD, seconds=0.05, losing=False):
    looks = [look and (look if isinstance(look, dict) else {"1": look}) for look in looks]
    process = type("Process", (), {"threads": lambda self: looks.pop(0)})()
    return falco_facts.Observation("", process, age, {}, seconds).end(losing)


def test_an_old_process_is_looked_at_twice():
    found = observe([(0, 0), (5 * 10 ** 7, 10 ** 7)])
    # 50 ms on a CPU and 10 ms waiting in at least 50 ms.
    assert 0 < found["on"] <= 100 and found["waiting"] == pytest.approx(found["on"] / 5, abs=0.02) and found["reason"] is None
    assert found["total"] == {"on": 0.0, "waiting": 0.0, "throttled": None} and found["seconds"] >= 0.05


def test_a_young_process_is_told_by_its_totals():
    found = observe([(3 * 10 ** 9, 10 ** 9)], age=60.0)
    assert (found["on"], found["total"]) == (None, {"on": 3.0, "waiting": 1.0, "throttled": None})


def test_a_young_process_that_loses_events_is_looked_at_twice():
    found = observe([(0, 0), (5 * 10 ** 7, 10 ** 7)], age=60.0, losing=True)
    assert found["on"] > 0 and found["total"]["on"] == 0.0


def test_the_thread_that_reads_events_is_the_one_that_wanted_a_cpu_most():
    ms = 10 ** 6
    before = {"1": (9000 * ms, 10 * ms), "2": (40 * ms, 0), "3": (100 * ms, 0)}
    # Thread 1 was the busiest once; between the two looks thread 2 runs and waits, and a fourth one begins.
    after = {"1": (9001 * ms, 10 * ms), "2": (50 * ms, 30 * ms), "3": (112 * ms, 0), "4": (2 * ms, 1 * ms)}
    found = observe([before, after])
    assert found["reader"]["waiting"] == pytest.approx(3 * found["reader"]["on"], rel=0.01)
    assert (found["reader"]["total_on"], found["reader"]["total_waiting"]) == (9.0, 0.01)
    assert found["on"] > 2 * found["reader"]["on"], "all threads together"


@pytest.mark.parametrize("pair, losing", [
    ({"reason": "x"}, False), ({"reason": "x", "alerts": {"count": 1}}, True), ({"reason": "x", "alerts": None}, False),
    ({"first": {}, "last": {"scap.n_drops": 5}}, True), ({"first": {"scap.n_drops": 5}, "last": {"scap.n_drops": 5}}, False),
    ({"first": {}, "last": {}}, False)])
def test_losing_is_told_by_counters_or_alerts(pair, losing):
    assert falco_facts.loses(pair) is losing


@pytest.mark.parametrize("looks, reason", [([None], "schedstat can't be read"), ([(5, 5), (4, 6)], "changed between"),
                                           ([(5, 5), None], "changed between")])
def test_observation_says_why_not(looks, reason):
    found = observe(looks, seconds=0.001)
    assert found["on"] is None and reason in found["reason"]


V2, V1 = "sys/fs/cgroup/a/", "sys/fs/cgroup/cpu,cpuacct/a/"


@pytest.mark.parametrize("files, weight, weighable, throttled", [
    ({}, None, False, None),
    ({V2 + "cpu.weight": "931\n", V2 + "cpu.stat": "usage_usec 5\nnr_throttled 3\nthrottled_usec 2500000\n"}, 931, True, 2.5),
    ({"sys/fs/cgroup/cgroup.controllers": "cpuset cpu io\n"}, None, True, None),
    ({"sys/fs/cgroup/cgroup.controllers": "cpuset io\n"}, None, False, None),
    ({V1 + "cpu.shares": "2048\n", V1 + "cpu.stat": "nr_throttled 1\nthrottled_time 1500000000\n"}, 200, True, 1.5),
    ({V2 + "cpu.weight": "many\n", V2 + "cpu.stat": "garbage"}, None, False, None),
])
def test_what_the_kernel_tells_of_the_units_cgroup(tmp_path, files, weight, weighable, throttled):
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert host.cgroup(str(tmp_path), "/a") == {"weight": weight, "weighable": weighable, "throttled": throttled}
    assert host.cgroup(str(tmp_path), None) == {"weight": None, "weighable": False, "throttled": None}


def test_our_own_dropin_of_the_unit(root):
    assert gather(root)["host"]["unit_dropin"] == {}
    folder = root / "etc/systemd/system/falco-kmod.service.d"
    folder.mkdir(parents=True)
    (folder / "zz-falcotune.conf").write_text("# Written by falcotune.fleet.\n[Service]\nCPUQuota=\nNice=-10\n")
    (folder / "50-other.conf").write_text("[Service]\nNice=5\n")
    assert gather(root)["host"]["unit_dropin"] == {"CPUQuota": "", "Nice": "-10"}


def test_the_interpreter_of_the_tests_is_no_stand_in_for_falco():
    assert falco_facts.version_of(sys.executable, None)[0] is None


@pytest.mark.parametrize("properties, groups, limit", [
    ({}, {}, None),
    ({"MemoryMax": "infinity", "MemoryHigh": "infinity", "MemoryLimit": "infinity"}, {}, None),
    ({"MemoryMax": "1073741824"}, {}, 1 << 30),
    ({"MemoryMax": "infinity", "MemoryLimit": "1073741824"}, {}, 1 << 30),
    ({"MemoryMax": "1073741824", "MemoryHigh": "536870912"}, {}, 1 << 29),
    ({"MemoryMax": "1073741824"}, {"/system.slice/memory.max": "268435456"}, 1 << 28),
    ({"MemoryMax": "infinity"}, {"/system.slice/falco.service/memory.max": "4096", "/system.slice/memory.max": "max"}, 4096),
    ({"MemoryMax": "8192"}, {"/system.slice/falco.service/memory.max": "max"}, 8192),
    ({}, {"/memory/system.slice/memory.limit_in_bytes": "4096",
          "/memory/system.slice/falco.service/memory.limit_in_bytes": "9223372036854771712"}, 4096),
    ({"MemoryMax": "infinity"}, {"/other.slice/memory.max": "4096"}, None),
])
def test_the_memory_limit_is_the_smallest_that_holds(tmp_path, properties, groups, limit):
    for path, text in groups.items():
        place = tmp_path / ("sys/fs/cgroup" + path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text + "\n")
    unit = dict(properties, ControlGroup="/system.slice/falco.service", MemoryCurrent="77")
    found = falco_facts.memory_facts(str(tmp_path), unit)
    assert (found["limit"], found["used"]) == (limit, 77)


def test_a_host_without_a_unit_has_no_memory_limit(tmp_path):
    assert falco_facts.memory_facts(str(tmp_path), None) == {"total": None, "available": None, "limit": None, "used": None}


def test_systemd_is_asked_for_every_name_of_the_memory_limit():
    assert {"MemoryMax", "MemoryHigh", "MemoryLimit", "ControlGroup"} <= set(systemd.PROPERTIES.split(","))
