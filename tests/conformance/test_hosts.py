# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that are directories: what their kernel shows of Falco, and what systemd's settings change in it."""

import json
import os
import sys
import time

import pytest

import subject

sys.path.insert(0, os.path.join(subject.HERE, "..", "fleet"))

from hosts import Fleet, ticks_of  # noqa: E402

pytestmark = pytest.mark.usefixtures("simulator")

METRICS = {"enabled": True, "interval": "300ms", "output_file": "{root}/var/log/falco/metrics.jsonl",
           "resource_utilization_enabled": True, "kernel_event_counters_enabled": True}
DEFAULTS = {"startup_seconds": 0.3, "reload_seconds": 0.3, "cpus": 2, "config": {"metrics": METRICS},
            "starved": 0.867, "consumer_events_per_second": 690000, "load": {"events_per_second": 575000, "bytes_per_event": 80}}
CALM = {"starved": 0.0, "load": {"events_per_second": 120000}}
PRIORITY = {"Nice": -10}
HOSTS = {
    # Neighbours live in other cgroups, and the kernel weighs cgroups.
    "starved": {},
    "niced": {"unit_options": PRIORITY},
    "weighted": {"unit_options": {"CPUWeight": 931}, "cgroup_cpu": "auto"},
    # It doesn't weigh them.
    "flat": {"cgroup_cpu": False},
    "flat-niced": {"unit_options": PRIORITY, "cgroup_cpu": False},
    "flat-weighted": {"unit_options": {"CPUWeight": 931}, "cgroup_cpu": False},
    "flat-sessions": {"unit_options": PRIORITY, "cgroup_cpu": "auto", "autogroup": True},
    "flat-powerless": {"unit_options": PRIORITY, "cgroup_cpu": False, "cap_sys_nice": False},
    "throttled": {"unit_options": {"CPUQuota": "10%"}, **CALM},
    "reloaded": CALM,
}
CURED = {"weighted", "flat-niced"}
DEADLINE = 60


class Kernel:
    """What a host's kernel shows of its Falco."""

    def __init__(self, host):
        self.host = host
        shown = dict(line.split("=", 1) for line in host.systemctl("show", host.unit).stdout.splitlines() if "=" in line)
        self.shown, self.pid = shown, int(shown["MainPID"])
        self.process = host.root / "proc" / str(self.pid)
        self.group = host.root / ("sys/fs/cgroup" + shown["ControlGroup"])

    def schedule(self):
        """(seconds on a CPU, seconds waiting)"""
        words = (self.process / "task" / str(self.pid) / "schedstat").read_text().split()
        assert len(words) == 3
        return int(words[0]) / 1e9, int(words[1]) / 1e9

    def stat(self):
        """Fields of proc/PID/stat after the name."""
        return (self.process / "stat").read_text().rpartition(")")[2].split()

    def nice(self):
        return int(self.stat()[16])

    def cpu_stat(self):
        return {name: int(value) for name, value in (line.split() for line in (self.group / "cpu.stat").read_text().splitlines())}

    def files(self):
        return {path.name for path in self.group.iterdir()}

    def samples(self):
        path = self.host.root / "var/log/falco/metrics.jsonl"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line)["output_fields"] for line in text.splitlines(True) if line.endswith("\n")]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    if not subject.SIMULATED:
        pytest.skip("these hosts run the simulator")
    fleet = Fleet(tmp_path_factory.mktemp("fleet") / "hosts")
    try:
        fleet.start({"defaults": DEFAULTS, "hosts": HOSTS})
        found = {host.name: Kernel(host) for host in fleet.hosts}
        # Until the rings are full where they fill, and the start is long ago.
        for kernel in found.values():
            wait_for_samples(kernel, 15)
        yield found
    finally:
        fleet.stop()


def wait_for(condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def wait_for_samples(kernel, number):
    wait_for(lambda: len(kernel.samples()) >= number)


def moved(kernel, samples=4):
    """(seconds on a CPU, waiting) over some snapshots, and the last of those."""
    before, written = kernel.schedule(), len(kernel.samples())
    wait_for_samples(kernel, written + samples)
    after = kernel.schedule()
    return after[0] - before[0], after[1] - before[1], kernel.samples()[written:]


@pytest.mark.parametrize("name", [name for name in HOSTS if name not in ("throttled", "reloaded")])
def test_priority_cures_where_it_takes_effect(kernels, name):
    on, waiting, samples = moved(kernels[name])
    lost = [fields["scap.n_drops_perc"] for fields in samples]
    if name in CURED:
        assert max(lost) == 0
        assert waiting / (on + waiting) == pytest.approx(0.24, abs=0.1), "20 % waiting beside 62 % on a CPU"
    else:
        # One period of stalls is longer than one of snapshots.
        assert sum(lost) / len(lost) == pytest.approx(83, abs=12)
        assert waiting / (on + waiting) == pytest.approx(0.867, abs=0.08)


@pytest.mark.parametrize("name,nice,shown", [
    ("starved", 0, "0"), ("niced", -10, "-10"), ("flat-niced", -10, "-10"), ("flat-powerless", 0, "-10")])
def test_the_nice_value_that_was_granted(kernels, name, nice, shown):
    assert (kernels[name].nice(), kernels[name].shown["Nice"]) == (nice, shown)
    assert int(kernels[name].stat()[15]) == 20 + nice


@pytest.mark.parametrize("name,weight,limit", [
    ("starved", "100", "max 100000"), ("weighted", "931", "max 100000"), ("throttled", "100", "10000 100000")])
def test_the_cgroup_has_what_the_unit_says(kernels, name, weight, limit):
    kernel = kernels[name]
    assert kernel.shown["ControlGroup"] == "/system.slice/falco-modern-bpf.service"
    assert (kernel.process / "cgroup").read_text() == "0::/system.slice/falco-modern-bpf.service\n"
    assert (kernel.group / "cpu.weight").read_text() == weight + "\n"
    assert (kernel.group / "cpu.max").read_text() == limit + "\n"
    assert (kernel.group / "cgroup.procs").read_text() == "%d\n" % kernel.pid


@pytest.mark.parametrize("name", ["flat-weighted", "flat-sessions"])
def test_without_the_controller_the_kernel_only_counts(kernels, name):
    assert not {"cpu.weight", "cpu.max"} & kernels[name].files()
    assert set(kernels[name].cpu_stat()) == {"usage_usec", "user_usec", "system_usec"}


@pytest.mark.parametrize("name", ["starved", "throttled", "flat"])
def test_all_that_is_shown_agrees(kernels, name):
    """schedstat, stat, cpu.stat and falco.cpu_usage_perc are one truth; they are written at different moments."""
    kernel = kernels[name]
    on, waiting = kernel.schedule()
    fields, usage = kernel.stat(), kernel.cpu_stat()
    seen = kernel.samples()[-1]
    ticks = os.sysconf("SC_CLK_TCK")
    assert (int(fields[11]) + int(fields[12])) / ticks == pytest.approx(on, abs=0.3)
    assert usage["usage_usec"] / 1e6 == pytest.approx(on, abs=0.3)
    assert usage["user_usec"] + usage["system_usec"] == pytest.approx(usage["usage_usec"], abs=2)
    # All its life it has run or waited, so the share of running is that of its CPU.
    assert seen["falco.cpu_usage_perc"] == pytest.approx(100 * on / (on + waiting), abs=4)


def test_the_rest_of_proc_is_the_machines(kernels):
    kernel = kernels["starved"]
    assert int(kernel.stat()[19]) == ticks_of(kernel.pid)
    assert (kernel.process / "cmdline").read_text().endswith("/etc/falco/falco.yaml\0")
    assert "FLEET_HOST_ROOT=" in (kernel.process / "environ").read_text()
    assert (kernel.process / "maps").read_text()
    assert os.listdir(kernel.process / "fd") and os.listdir(kernel.process / "fdinfo")
    assert os.listdir(kernel.process / "task") == [str(kernel.pid)]


def test_files_are_whole_whenever_they_are_read(kernels):
    kernel, last = kernels["starved"], (0.0, 0.0)
    for _look in range(3000):
        now = kernel.schedule()
        assert now >= last and len(kernel.stat()) > 40 and len(kernel.cpu_stat()) == 8
        last = now


def test_totals_go_on_over_a_hot_reload(kernels):
    kernel = kernels["reloaded"]
    before, log = kernel.schedule(), kernel.host.root / "var/log/syslog"
    openings = log.read_text().count("Opening 'syscall' source")
    fragment = kernel.host.root / "etc/falco/config.d/any.yaml"
    (kernel.host.root / "etc/falco/any.yaml").write_text("priority: info\n")
    os.rename((kernel.host.root / "etc/falco/any.yaml"), fragment)
    last = before
    while log.read_text().count("Opening 'syscall' source") == openings:
        now = kernel.schedule()
        assert now >= last
        last = now
        time.sleep(0.02)
    wait_for(lambda: kernel.schedule()[0] > last[0])
    assert ticks_of(kernel.pid)


def test_a_quota_throttles_until_it_is_taken_away(kernels):
    kernel = kernels["throttled"]
    assert kernel.shown["CPUQuotaPerSecUSec"] == "100ms"
    was = kernel.cpu_stat()
    on, waiting, samples = moved(kernel)
    now = kernel.cpu_stat()
    assert now["nr_throttled"] > was["nr_throttled"]
    assert now["nr_periods"] - was["nr_periods"] == pytest.approx(now["nr_throttled"] - was["nr_throttled"], abs=1)
    assert (now["throttled_usec"] - was["throttled_usec"]) / 1e6 == pytest.approx(waiting, abs=0.3)
    assert on / (on + waiting) == pytest.approx(0.1, abs=0.03)
    # A tenth of a CPU, less what goes for nothing, takes in 65 000 of 120 000 events a second.
    assert samples[-1]["scap.n_drops_perc"] == pytest.approx(45, abs=15)

    # An empty assignment takes back what was said before; cgroups take it without a restart.
    kernel.host.write(f"etc/systemd/system/{kernel.host.unit}.service.d/zz.conf", "[Service]\nCPUQuota=\n")
    assert kernel.host.systemctl("daemon-reload").returncode == 0
    assert (kernel.group / "cpu.max").read_text() == "max 100000\n"
    wait_for(lambda: kernel.samples()[-1]["scap.n_drops_perc"] == 0)
    was = kernel.cpu_stat()
    on, waiting, samples = moved(kernel)
    now = kernel.cpu_stat()
    assert [now[key] - was[key] for key in ("nr_periods", "nr_throttled", "throttled_usec")] == [0, 0, 0]
    assert now["usage_usec"] > was["usage_usec"] and (waiting, samples[-1]["scap.n_drops_perc"]) == (0, 0)
    again = Kernel(kernel.host)
    assert (again.pid, again.shown["CPUQuotaPerSecUSec"]) == (kernel.pid, "infinity")


def test_nothing_is_left_of_a_process_that_ended(kernels):
    """Stopped, killed and started anew; the last test that needs this host as it was."""
    kernel = kernels["flat"]
    assert kernel.host.systemctl("kill", "--signal=SIGKILL", kernel.host.unit).returncode == 0
    wait_for(lambda: not kernel.process.exists())
    kernel.host.systemctl("restart", kernel.host.unit)
    again = Kernel(kernel.host)
    assert again.pid != kernel.pid and again.nice() == 0
    wait_for(lambda: again.schedule()[0] > 0)
    kernel.host.systemctl("stop", kernel.host.unit)
    assert not again.process.exists() and not again.group.exists()
