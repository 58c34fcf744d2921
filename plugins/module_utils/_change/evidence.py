# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proof that a running Falco has taken a change: process, counters, buffers.

Never /healthz, which is a constant.
"""

import os
import re
import time

from ansible_collections.falcotune.fleet.plugins.module_utils._host import host, processes, systemd
from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import prometheus, rings, since

STEP = 0.25

# Hot reloads by others that a second look waits out. Each makes it begin anew.
MOST_RELOADS = 3

# Share of the unit's memory limit, page cache left out, above which the next burst would end Falco.
MOST_MEMORY = 0.95


class Died(Exception):
    """Falco ended instead of proving itself; the text says what was seen."""


class TooEarly(Exception):
    """Falco was started before all files of the change were in place."""


class NoEvidence(Exception):
    """Falco did not prove itself; the text says what was seen."""


def memory_used(root, unit):
    """Bytes that the unit's cgroup holds, page cache that can go left out; None where nothing tells."""
    used = systemd.number(unit.get("MemoryCurrent"))
    path = "%s/sys/fs/cgroup%s/memory.stat" % (root, unit.get("ControlGroup") or "/nonexistent")
    cache = re.search(r"^inactive_file (\d+)", host.read(path, 65536) or "", re.M)
    return used if used is None or not cache else max(0, used - int(cache.group(1)))


def _by_counters(source):
    return {"basis": "counters", "source": source, "reason": None}


class Proof:
    """Follows one started Falco until it has proven itself or the deadline is over.

    params:  'host_root'; 'healthy_deadline', 'min_healthy_time' and 'interval' (between two snapshots) in
             seconds; 'metrics_file', 'scrape_url'; 'driver', 'buffers' ({'bytes_each'} or None);
             'unit_settings' ({key of the drop-in: value}); 'drops_at_most' (percent or None); 'counters'
             (whether they must move)
    unit: its name. mark: of the metrics file before the change. began: time.monotonic() of the start.
    not_before: seconds since boot; a process that started earlier read other files, and TooEarly is raised.
    reloaded: the same process reads the files, in a hot reload. What it counted before is no evidence.
    """

    limit = "healthy_deadline"

    def __init__(self, params, unit, mark, began, not_before=None, reloaded=False):
        self.params = params
        self.root = params["host_root"].rstrip("/")
        self.unit = unit
        self.mark = mark
        self.began = began
        self.not_before = not_before
        self.reloaded = reloaded
        self.began_at = time.time() - (time.monotonic() - began)  # Unix time, for what has dates: logs
        self.process = None
        self.start = None
        self.restarts = None
        self.scraped = None
        self.first_counted = None

    def wait(self):
        seen = "nothing"
        while True:
            state, seen = self._look()
            if state:
                return state
            if time.monotonic() >= self.began + self.params["healthy_deadline"]:
                raise NoEvidence(
                    "no evidence within %s (%d s): %s" % (self.limit, self.params["healthy_deadline"], seen)
                )
            time.sleep(STEP)

    def _look(self):
        try:
            unit = systemd.show([self.unit])[0]
        except (systemd.ManagerError, IndexError) as error:
            return None, "systemd did not answer: %s" % error
        self._alive(unit)
        return self._judge(unit)

    def _judge(self, unit):
        """(evidence, None), or None and what is missing."""
        if self.process is None:
            return None, "unit %s is %s, no process yet" % (self.unit, unit.get("ActiveState"))
        counted, how = self._counted()
        if counted is None:
            return None, "process %d runs, but no snapshot shows that it counts events" % self.process.pid
        self._privileged(unit)
        now = time.monotonic()
        if self.first_counted is None:
            self.first_counted = now
        left = self.params["min_healthy_time"] - (now - self.first_counted)
        if left > 0:
            return None, "counters move; %.1f s of min_healthy_time left" % left
        return dict(
            self._state(unit, counted, how),
            buffers=self._buffers(),
            seconds_to_evidence=round(self.first_counted - self.began, 2),
        ), None

    def _state(self, unit, counted, how):
        """The evidence.

        Raises NoEvidence where the host is worse than before, or close to its limit. how: as of _counted().
        """
        self._bounded(unit)
        return dict(
            how,
            pid=self.process.pid,
            start_ticks=self.start,
            restarts=self.restarts,
            events=counted,
            drops_percent=self._no_worse(),
        )

    def _bounded(self, unit):
        # MemoryHigh= slows a unit down; the others end it.
        limit = processes.memory_limit(self.root, unit, ("MemoryMax", "MemoryLimit"))
        used = memory_used(self.root, unit)
        if limit and used is not None and used > MOST_MEMORY * limit:
            raise NoEvidence(
                "the unit uses %d bytes of memory, and its limit is %d (MemoryMax=, MemoryLimit= or a slice "
                "around it): the next burst would end Falco; raise the limit or choose smaller buffers"
                % (used, limit)
            )

    def _no_worse(self):
        """Percent of events lost since the start, or None where that is not known."""
        if not self.params["metrics_file"]:
            return None
        lost = since.drops_percent(self._snapshots())
        most = self.params.get("drops_at_most")
        if lost is not None and most is not None and lost > most:
            raise NoEvidence(
                "Falco drops %s %% of the events now; the limit after this change is %s %% (what it dropped "
                "before, with falco_tune_tolerance_percent, and falco_tune_accepted_drops_percent)"
                % (lost, most)
            )
        return lost

    def _alive(self, unit):
        """Raises Died where the started process is gone."""
        process, start = processes.of_unit(self.root, unit)
        if self.process is not None:
            if process is None or process.pid != self.process.pid or start != self.start:
                raise Died(
                    "Falco started and died (unit %s is %s, result %s)"
                    % (self.unit, unit.get("ActiveState"), unit.get("Result"))
                )
        elif process is not None:
            if self.not_before and start + 1 < self.not_before * os.sysconf("SC_CLK_TCK"):
                raise TooEarly()
            self.process, self.start, self.restarts = process, start, host.integer(unit.get("NRestarts"))
        elif unit.get("ActiveState") == "failed" or unit.get("SubState") == "auto-restart":
            raise Died(
                "Falco does not start (unit %s is %s, result %s)"
                % (self.unit, unit.get("ActiveState"), unit.get("Result"))
            )

    def _privileged(self, unit):
        """Raises NoEvidence where the process does not have what the unit says.

        systemctl shows a priority that never took effect.
        """
        wanted = self.params.get("unit_settings") or {}
        stat = self.process.stat()
        if "Nice" in wanted and stat and stat[2] != int(wanted["Nice"]):
            raise NoEvidence(
                "the drop-in sets Nice=%s but the process runs at %d: a later drop-in overrides it, or "
                "systemd may not set it here (a container without CAP_SYS_NICE)" % (wanted["Nice"], stat[2])
            )
        weight = host.cgroup(self.root, unit.get("ControlGroup"))["weight"]
        shown = "no cpu.weight" if weight is None else "cpu.weight %s" % weight
        if "CPUWeight" in wanted and weight != int(wanted["CPUWeight"]):
            raise NoEvidence(
                "the drop-in sets CPUWeight=%s but the unit's cgroup has %s: a later drop-in overrides it, "
                "or the cgroup is not writable (a container)" % (wanted["CPUWeight"], shown)
            )
        quota = systemd.quota_percent(unit.get("CPUQuotaPerSecUSec"))
        if wanted.get("CPUQuota") == "" and quota:
            raise NoEvidence(
                "the drop-in removes CPUQuota but the unit still has %.10g %%: a later drop-in overrides it"
                % quota
            )

    def _counted(self):
        """(events counted since the change, {'basis', 'source', 'reason'}); (None, None) where no counter has
        moved.

        basis: 'counters', which moved, or 'process', which is alive and all that there is. source: where the
            counters were read.
        reason: why there are none.
        """
        path, url = self.params["metrics_file"], self.params["scrape_url"]
        if path:
            for events, _drops, _seconds in reversed(self._snapshots()):
                if events > 0:  # counters begin at 0 with the process and with every reload
                    return events, _by_counters("metrics.output_file")
        if url and not self.reloaded:
            events = None if prometheus.foreign(self.process, url) else prometheus.events(url)
            if events is not None and self.scraped is not None and events > self.scraped:
                return events, _by_counters("/metrics")
            if events is not None:
                self.scraped = events
        if not path and not url:
            return 0, {"basis": "process", "source": None, "reason": "metrics are off"}
        if not self.params.get("counters", True):
            return 0, {"basis": "process", "source": None, "reason": "falco_tune_evidence is process"}
        return None, None

    def _snapshots(self):
        return since.new_snapshots(self.params["metrics_file"], self.mark, self.reloaded)

    def _buffers(self):
        """What is known of the rings that run. Raises NoEvidence where they are not the planned ones."""
        wanted = self.params["buffers"] or {}
        maps = host.read(self.process.path + "/maps", 1 << 22) or ""
        found = rings.mapped(maps, self.params["driver"], os.sysconf("SC_PAGE_SIZE"))
        if found:
            size = max(found)
            if wanted and size != wanted["bytes_each"]:
                raise NoEvidence(
                    "Falco runs with ring buffers of %d bytes instead of %d" % (size, wanted["bytes_each"])
                )
            return {"bytes_each": size, "count": found[size], "source": "memory map"}
        # A change that is finished after a power cut was logged at the boot, long before this watch began.
        started = processes.started_at(self.root, self.start)
        size = rings.in_log(self.process, min(self.began_at, started or self.began_at))
        if size is None:
            return {
                "bytes_each": None,
                "count": None,
                "source": None,
                "reason": "neither its memory map nor the journal (log_syslog) shows them",
            }
        if wanted and size != wanted["bytes_each"]:
            raise NoEvidence(
                "Falco logged ring buffers of %d bytes instead of %d" % (size, wanted["bytes_each"])
            )
        return {"bytes_each": size, "count": None, "source": "log"}


class SecondLook(Proof):
    """Whether a Falco that has proven itself still is what it was, counts on and loses no more.

    proven: the evidence of its change. marks: of the metrics file, 'started' before its start and 'proven' at
    its proof.
    """

    limit = "two metrics intervals"

    def __init__(self, params, unit, proven, marks):
        super().__init__(params, unit, marks["started"], time.monotonic())
        self.process = processes.Process(self.root, proven["pid"])
        self.start, self.restarts, self.events = proven["start_ticks"], proven["restarts"], proven["events"]
        self.reloads = 0
        self.since = marks["proven"]
        # Two snapshots, and what writing them may take.
        self.params = dict(params, healthy_deadline=2 * params.get("interval", 30) + 5)

    def _judge(self, unit):
        counted, how = self._counted()
        if how and how["basis"] == "process":
            return self._state(unit, counted, how), None
        if counted is not None and counted < self.events and self.reloads < MOST_RELOADS:
            # Somebody else's hot reload, of new rules say: the same process, which counts from 0 again.
            self.events, self.began, self.reloads = counted, time.monotonic(), self.reloads + 1
        if counted is None or counted <= self.events:
            return None, "its counters have stood still at %s since its proof" % self.events
        if self._stale():
            return None, "it stopped writing metrics, %s events after its proof" % (counted - self.events)
        return self._state(unit, counted, how), None

    def _stale(self):
        """Whether the next snapshot is overdue: a Falco that sees nothing writes none."""
        if not self.params["metrics_file"]:
            return False
        try:
            age = time.time() - os.stat(self.params["metrics_file"]).st_mtime
        except OSError:
            return True
        return age > 1.2 * self.params.get("interval", 30) + 1

    def _counted(self):
        started, self.mark = self.mark, self.since
        try:
            return super()._counted()
        finally:
            self.mark = started
