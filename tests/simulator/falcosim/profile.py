# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the environment asks of the simulated host."""

import json
import os

from .release import Release

DEFAULT_CATEGORIES = {
    "open": 0.35, "close": 0.3, "connect": 0.03, "execve": 0.004, "clone_fork": 0.004, "proc_exit": 0.004, "dir_file": 0.008,
    "other_interest": 0.002, "other": 0.298,
}


class Profile:
    """FALCO_SIM names a JSON file, read again at each start and reload."""

    def __init__(self):
        data = {}
        path = os.environ.get("FALCO_SIM")
        if path:
            with open(path, encoding="utf-8") as stream:
                data = json.load(stream)
        self.data = data
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
        self.bytes_per_event = float(load.get("bytes_per_event") or 80)
        self.categories = load.get("categories") or DEFAULT_CATEGORIES
        self.rule_rates = load.get("rules") or {}  # rule name -> matches per second
        self.consumer = float(data.get("consumer_events_per_second") or 600000)
        self.starved = float(data.get("starved") or 0)
        self.quota = data.get("cpu_quota")
        self.page_faults = float(data.get("page_faults_per_second") or 0)
        self.memory = data.get("memory_available")
        self.bpf_stats = bool(data.get("bpf_stats"))
        self.fault = data.get("fault") or {}

    def opens(self, kind):
        return self.drivers is None or kind in self.drivers
