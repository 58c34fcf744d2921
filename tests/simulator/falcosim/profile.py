# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the environment asks of the simulated host.

FALCO_SIM names a JSON file, read again at each start and at each hot reload. Everything in it may be left out:

    release                      "0.44.1"; FALCO_SIM_RELEASE says the same
    cpus, page_size              of the host; the machine's own otherwise
    drivers                      those that open here, for example ["kmod"]; all otherwise
    memory_available             bytes there are for ring buffers; no limit otherwise
    startup_seconds              from the start of the process to the first captured event
    reload_seconds               how long a hot reload captures nothing
    stop_seconds                 from SIGTERM to the end
    syslog                       file that stands for syslog, or its socket
    bpf_stats                    whether kernel.bpf_stats_enabled is 1
    quiet                        no summary of alerts at the end
    load                         {"events_per_second": 2000, "bytes_per_event": 80,
                                  "burst": {"events_per_second": 900000, "seconds": 0.1, "every": 5},
                                  "hot": share of all of it that CPU 0 makes; as much as any other otherwise,
                                  "categories": {name of a drop category or system call: its share},
                                  "rules": {name of a rule: matches a second}}
    consumer_events_per_second   what Falco's thread can take in, before the costs of rules and plugins
    rule_nanoseconds             {name of a rule: CPU time for each event of its types while the rule is enabled}
    plugin_nanoseconds           {name of a plugin: CPU time for each event while the plugin is loaded}
    plugin_bytes                 {name of a plugin: memory that it takes}
    starved                      share of the time for which that thread waits for a CPU at nice 0 and weight 100
    nice                         its nice value; the process's own otherwise
    cpu_quota                    CPUs that it may use, for example 0.5
    page_faults_per_second       events lost to page faults (kmod, ebpf)
    accounting                   a directory that stands for /proc: see below
    cgroups                      a directory that stands for /sys/fs/cgroup: see below
    autogroup                    whether the kernel groups processes by session (sched_autogroup_enabled)
    fault                        what goes wrong; any of these together:

        {"refuse": "text"}         the driver doesn't open: `Error: text`, exit 1. A dry run passes and the version is printed,
                                   as neither opens a driver; a hot reload ends the process.
        {"refuse_config": "text"}  the configuration is refused: `Error: text`, exit 1, by a dry run too. A hot reload keeps
                                   the old one. The version is printed.
        {"never_opens": true}      hangs at start: announces the capture, answers /healthz, captures nothing. SIGTERM ends it.
        {"die_after": 5}           captures, and exits 1 after so many seconds.
        {"blind": true}            captures, but no event ever arrives: counters stand still, no snapshots are written.
        {"blind": 5}               the same from the fifth second on.
        {"hang_on_term": true}     SIGTERM and SIGINT are ignored; only SIGKILL helps.
        {"hang_on_term": 5}        they are obeyed five seconds late.
        {"when": {"engine.modern_ebpf.buf_size_preset": 6}}
                                   the faults come only while the effective configuration holds all of these values.

CPU time. Falco's thread takes in `consumer_events_per_second` for a whole CPU. It waits for its neighbours (`starved`) and while
a quota is used up; the rings bridge that, or drop. Its totals, start included, are what falco.cpu_usage_perc shows.

If the directory accounting/PID exists when the process starts, `stat` (utime, stime, nice) and task/PID/schedstat in it hold
these totals, written every 0.1 s. accounting/PID/stat must be there with the nice value that the kernel granted, and
accounting/PID/cgroup with the path of the unit's cgroup. If that exists below `cgroups`:

    cpu.weight   what the process's cgroup weighs among its neighbours; read every 0.1 s
    cpu.max      its quota, which counts instead of cpu_quota; read every 0.1 s
    cpu.stat     written: usage_usec, user_usec, system_usec; with a cpu.max also nr_periods, nr_throttled, throttled_usec

Priority. `starved` is what a recorded Falco would wait at nice 0 among neighbours at nice 0 (recordings/drops/cpu_starved.csv:
0.87). At nice -10 it waited 0.23 times as long, at -20 0.07 times; between those by equal factors, and above 0 as fair shares
have it. What counts as the nice value:

    with cpu.weight     that of this weight: each nice step is a factor of 1.25, 100 is nice 0, 931 is -10. Neighbours live in other
                        cgroups, so Falco's own nice value does not matter
    else, autogroup     0: the process competes by session, and its nice value does not matter (sched(7))
    else                the process's own

The neighbours make the load, and they are as busy as the CPUs let them: what Falco gets more, they lose.
"""

import json
import os

from .release import Release

FAULTS = {"refuse", "refuse_config", "never_opens", "die_after", "blind", "hang_on_term", "when"}

DEFAULT_CATEGORIES = {
    "open": 0.35, "close": 0.3, "connect": 0.03, "execve": 0.004, "clone_fork": 0.004, "proc_exit": 0.004, "dir_file": 0.008,
    "other_interest": 0.002, "other": 0.298,
}


class Profile:
    """The file that FALCO_SIM names."""

    def __init__(self, data=None):
        """data: what the file would hold; the file is not read then."""
        path = os.environ.get("FALCO_SIM")
        if data is None and path:
            with open(path, encoding="utf-8") as stream:
                data = json.load(stream)
        data = data or {}
        self.release = Release(str(data.get("release") or os.environ.get("FALCO_SIM_RELEASE") or "0.44.1"))
        self.cpus = int(data.get("cpus") or os.cpu_count() or 1)
        self.page_size = int(data.get("page_size") or os.sysconf("SC_PAGE_SIZE"))
        self.drivers = data.get("drivers")
        old = not self.release.since(42)
        self.startup = float(data.get("startup_seconds", 1.1 if old else 1.6))
        self.reload = float(data.get("reload_seconds", 1.2 if old else 2.0))
        self.stop = float(data.get("stop_seconds", 0.4))
        self.syslog = data.get("syslog")
        load = data.get("load") or {}
        self.rate = float(load.get("events_per_second", 2000))
        self.burst = load.get("burst")
        self.hot = load.get("hot")
        self.bytes_per_event = float(load.get("bytes_per_event") or 80)
        self.categories = load.get("categories") or DEFAULT_CATEGORIES
        self.rule_rates = load.get("rules") or {}  # rule name -> matches per second
        self.consumer = float(data.get("consumer_events_per_second") or 600000)
        self.rule_nanoseconds = data.get("rule_nanoseconds") or {}
        self.plugin_nanoseconds = data.get("plugin_nanoseconds") or {}
        self.plugin_bytes = data.get("plugin_bytes") or {}
        self.starved = float(data.get("starved") or 0)
        self.nice = int(data.get("nice", os.getpriority(os.PRIO_PROCESS, 0)))
        self.quota = data.get("cpu_quota")
        self.accounting = data.get("accounting")
        self.cgroups = data.get("cgroups")
        self.autogroup = bool(data.get("autogroup"))
        self.page_faults = float(data.get("page_faults_per_second") or 0)
        self.memory = data.get("memory_available")
        self.bpf_stats = bool(data.get("bpf_stats"))
        self.quiet = bool(data.get("quiet"))
        self._fault = data.get("fault") or {}
        unknown = set(self._fault) - FAULTS
        if unknown:
            raise SystemExit("simulator: unknown fault: %s" % ", ".join(sorted(unknown)))

    def fault(self, settings):
        """The faults that come with a configuration, as {name: value}."""
        wanted = self._fault.get("when") or {}
        if any(settings.text(key, None) != _yaml(value) for key, value in wanted.items()):
            return {}
        return {name: value for name, value in self._fault.items() if name != "when"}

    def opens(self, kind):
        return self.drivers is None or kind in self.drivers


def _yaml(value):
    """A JSON value as it stands in a YAML file."""
    return str(value).lower() if isinstance(value, bool) else str(value)
