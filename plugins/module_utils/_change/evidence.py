# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proof that a running Falco has taken a change: process, counters, buffers. Never /healthz, which is a constant."""

import json
import os
import re
import time

from ansible_collections.falcotune.fleet.plugins.module_utils._host import host, systemd
from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import rings

STEP = 0.25

# Events, and seconds, from which the share that was lost says something: one burst is no measurement.
ENOUGH_EVENTS = 1000
ENOUGH_SECONDS = 5

# Hot reloads by others that a second look waits out. Each makes it begin anew.
MOST_RELOADS = 3

# Share of MemoryMax, page cache left out, above which the next burst would end Falco.
MOST_MEMORY = 0.95


class Died(Exception):
    """Falco ended instead of proving itself; the text says what was seen."""


class NoEvidence(Exception):
    """Falco did not prove itself; the text says what was seen."""


def file_mark(path):
    """Where the metrics file ends now: [inode, size]."""
    try:
        found = os.stat(path)
    except OSError:
        return [0, 0]
    return [found.st_ino, found.st_size]


def new_snapshots(path, mark):
    """The syscall snapshots written since the mark; partial and foreign lines are passed over.

    → [(scap.n_evts, scap.n_drops, seconds since Falco's start or reload; 0 where it does not say)]
    """
    try:
        with open(path, "rb") as stream:
            found = os.fstat(stream.fileno())
            if found.st_ino == mark[0] and found.st_size >= mark[1]:
                stream.seek(mark[1])
            data = stream.read(1 << 22)
    except (IOError, OSError):
        return []
    snapshots = []
    for line in data.decode("utf-8", "replace").splitlines():
        try:
            fields = json.loads(line).get("output_fields")
        except (ValueError, AttributeError):
            continue
        if isinstance(fields, dict) and isinstance(fields.get("scap.n_evts"), int):
            times = [fields.get(name) for name in ("evt.time", "falco.start_ts", "falco.reload_ts")]
            at, started, reloaded = [value if isinstance(value, int) else 0 for value in times]
            drops = fields.get("scap.n_drops")  # left out while it is 0, where Falco is told so
            snapshots.append(
                (
                    fields["scap.n_evts"],
                    drops if isinstance(drops, int) else 0,
                    max(0, at - max(started, reloaded)) / 1e9 if at and started else 0,
                )
            )
    return snapshots


def drops_percent(snapshots):
    """Percent of the events lost in the last run that these snapshots show, or None where they are too few to say.

    From the first one that counted anything, so that a burst during the start is left out where a later one is there.
    """
    run = []
    for snapshot in snapshots:
        if run and (snapshot[0] < run[-1][0] or snapshot[1] < run[-1][1]):
            run = []  # a hot reload
        if snapshot[0] > 0:
            run.append(snapshot)
    for first in (run[0], (0, 0, 0)) if run else ():
        events, drops, seconds = [last - one for last, one in zip(run[-1], first)]
        if events >= ENOUGH_EVENTS and seconds >= ENOUGH_SECONDS:
            return round(100.0 * drops / events, 2)
    return None


def scrape(url):
    """scap n_evts from the host's own /metrics, or None. Only called where the release survives it."""
    from urllib.request import ProxyHandler, build_opener  # 25 ms that hosts with a metrics file don't pay

    try:
        with build_opener(ProxyHandler({})).open(url, timeout=3) as answer:
            text = answer.read(1 << 22).decode("utf-8", "replace")
    except (IOError, OSError, ValueError):
        return None
    match = re.search(r"^falcosecurity_(?:scap|falco)_n_evts_total(?:\{[^}]*\})? (\S+)", text, re.M)
    try:
        return int(float(match.group(1))) if match else None
    except ValueError:
        return None


def memory_used(root, unit):
    """Bytes that the unit's cgroup holds, page cache that can go left out; None where nothing tells."""
    used = systemd.number(unit.get("MemoryCurrent"))
    text = (
        host.read(
            "%s/sys/fs/cgroup%s/memory.stat" % (root, unit.get("ControlGroup") or "/nonexistent"), 65536
        )
        or ""
    )
    cache = re.search(r"^inactive_file (\d+)", text, re.M)
    return used if used is None or not cache else max(0, used - int(cache.group(1)))


class Watch(object):
    """Follows one started Falco until it has proven itself or the deadline is over."""

    limit = "healthy_deadline"

    def __init__(self, params, unit, old, mark, began):
        self.params = params
        self.unit = unit
        self.old = old  # (pid, start in ticks) before the change, or None
        self.mark = mark  # of the metrics file before the change
        self.began = began
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
            if time.time() >= self.began + self.params["healthy_deadline"]:
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
        """What proves it, or None and what is missing."""
        if self.process is None:
            return None, "unit %s is %s, no process yet" % (self.unit, unit.get("ActiveState"))
        counted, source = self._counted()
        if counted is None:
            return None, "process %d runs, but %s" % (self.process.pid, source)
        self._privileged(unit)
        now = time.time()
        if self.first_counted is None:
            self.first_counted = now
        left = self.params["min_healthy_time"] - (now - self.first_counted)
        if left > 0:
            return None, "counters move; %.1f s of min_healthy_time left" % left
        return dict(
            self._state(unit, counted, source),
            buffers=self._buffers(),
            seconds_to_evidence=round(self.first_counted - self.began, 2),
        ), None

    def _state(self, unit, counted, source):
        """What proves it. Raises NoEvidence where the host is worse than before, or close to its limit."""
        self._bounded(unit)
        return {
            "pid": self.process.pid,
            "start_ticks": self.start,
            "restarts": self.restarts,
            "source": source,
            "events": counted,
            "drops_percent": self._no_worse(),
        }

    def _bounded(self, unit):
        limit, used = (
            systemd.number(unit.get("MemoryMax")),
            memory_used(self.params["host_root"].rstrip("/"), unit),
        )
        if limit and used is not None and used > MOST_MEMORY * limit:
            raise NoEvidence(
                "the unit uses %d bytes of memory of its MemoryMax of %d: the next burst would end Falco; raise MemoryMax or "
                "choose smaller buffers" % (used, limit)
            )

    def _no_worse(self):
        """Percent of events lost since the start, or None where that is not known."""
        if not self.params["metrics_file"]:
            return None
        lost, most = (
            drops_percent(new_snapshots(self.params["metrics_file"], self.mark)),
            self.params.get("drops_at_most"),
        )
        if lost is not None and most is not None and lost > most:
            raise NoEvidence(
                "Falco loses %s %% of the events now, and at most %s %% would be no worse than before"
                % (lost, most)
            )
        return lost

    def _alive(self, unit):
        """Raises Died where the started process is gone."""
        pid = host.integer(unit.get("MainPID")) or 0
        process = host.Process(self.params["host_root"].rstrip("/"), pid) if pid else None
        stat = process.stat() if process else None
        if self.process is not None:
            if stat is None or pid != self.process.pid or stat[0] != self.start:
                raise Died(
                    "Falco started and died (unit %s is %s, result %s)"
                    % (self.unit, unit.get("ActiveState"), unit.get("Result"))
                )
        elif stat is not None:
            self.process, self.start, self.restarts = process, stat[0], host.integer(unit.get("NRestarts"))
        elif unit.get("ActiveState") == "failed" or unit.get("SubState") == "auto-restart":
            raise Died(
                "Falco does not start (unit %s is %s, result %s)"
                % (self.unit, unit.get("ActiveState"), unit.get("Result"))
            )

    def _privileged(self, unit):
        """Raises NoEvidence where the process does not have what the unit says: systemctl shows a priority that never took effect."""
        wanted = self.params.get("unit_settings") or {}
        stat = self.process.stat()
        if "Nice" in wanted and stat and stat[2] != int(wanted["Nice"]):
            raise NoEvidence(
                "the unit was to run at nice %s, and the process runs at %d: a later drop-in overrides it, or systemd may not "
                "set it here (a container without CAP_SYS_NICE)" % (wanted["Nice"], stat[2])
            )
        weight = host.cgroup(self.params["host_root"].rstrip("/"), unit.get("ControlGroup"))["weight"]
        if "CPUWeight" in wanted and weight != int(wanted["CPUWeight"]):
            raise NoEvidence(
                "the unit was to have CPUWeight %s, and its cgroup has %s: a later drop-in overrides it, or the cgroup is not "
                "writable (a container)"
                % (wanted["CPUWeight"], "no cpu.weight" if weight is None else weight)
            )
        quota = systemd.quota_percent(unit.get("CPUQuotaPerSecUSec"))
        if wanted.get("CPUQuota") == "" and quota:
            raise NoEvidence(
                "CPUQuota was to go, and the unit still has %.10g %%: a later drop-in overrides it" % quota
            )

    def _counted(self):
        """(events counted since the change, where that was read) or (None, what is missing)."""
        if self.params["metrics_file"]:
            for events, _drops, _seconds in reversed(new_snapshots(self.params["metrics_file"], self.mark)):
                if events > 0:  # counters begin at 0 with the process and with every reload
                    return events, "metrics.output_file"
        if self.params["scrape_url"]:
            events = scrape(self.params["scrape_url"])
            if events is not None and self.scraped is not None and events > self.scraped:
                return events, "/metrics"
            if events is not None:
                self.scraped = events
        if not self.params["metrics_file"] and not self.params["scrape_url"]:
            return 0, "process only: metrics are off"
        if not self.params.get("counters", True):
            return 0, "process only: falco_tune_evidence is process"
        return None, "no snapshot shows that it counts events"

    def _buffers(self):
        """What is known of the rings that run. Raises NoEvidence where they are not the planned ones."""
        wanted = self.params["buffers"] or {}
        found = rings.mapped(
            host.read(self.process.path + "/maps", 1 << 22) or "",
            self.params["driver"],
            os.sysconf("SC_PAGE_SIZE"),
        )
        if found:
            size = max(found)
            if wanted and size != wanted["bytes_each"]:
                raise NoEvidence(
                    "Falco runs with ring buffers of %d bytes, planned were %d" % (size, wanted["bytes_each"])
                )
            return {"bytes_each": size, "count": found[size], "source": "memory map"}
        # A change that is finished after a power cut was logged at the boot, long before this watch began.
        started = host.started_at(self.params["host_root"].rstrip("/"), self.start)
        size = rings.in_log(self.process, min(self.began, started or self.began))
        if size is None:
            return {
                "bytes_each": None,
                "count": None,
                "source": None,
                "reason": "neither its memory map nor the journal (log_syslog) tells",
            }
        if wanted and size != wanted["bytes_each"]:
            raise NoEvidence(
                "Falco logged ring buffers of %d bytes, planned were %d" % (size, wanted["bytes_each"])
            )
        return {"bytes_each": size, "count": None, "source": "log"}


class SecondLook(Watch):
    """Whether a Falco that has proven itself still is what it was, counts on and loses no more."""

    limit = "two metrics intervals"

    def __init__(self, params, unit, proof, marks):
        super(SecondLook, self).__init__(params, unit, None, marks["started"], time.time())
        self.process = host.Process(params["host_root"].rstrip("/"), proof["pid"])
        self.start, self.restarts, self.events = proof["start_ticks"], proof["restarts"], proof["events"]
        self.reloads = 0
        self.since = marks["proven"]  # the end of the metrics file when the proof was complete
        # Two snapshots, and what writing them may take.
        self.params = dict(params, healthy_deadline=2 * params.get("interval", 30) + 5)

    def _judge(self, unit):
        counted, source = self._counted()
        if source.startswith("process only"):
            return self._state(unit, counted, source), None
        if counted is not None and counted < self.events and self.reloads < MOST_RELOADS:
            # Somebody else's hot reload, of new rules say: the same process, which counts from 0 again.
            self.events, self.began, self.reloads = counted, time.time(), self.reloads + 1
        if counted is None or counted <= self.events:
            return None, "its counters stand still at %s since its proof" % self.events
        if self._stale():
            return None, "it has ceased to write metrics, %s events after its proof" % (counted - self.events)
        return self._state(unit, counted, source), None

    def _stale(self):
        """Whether the next snapshot is overdue: a Falco that sees nothing writes none."""
        try:
            age = (
                time.time() - os.stat(self.params["metrics_file"]).st_mtime
                if self.params["metrics_file"]
                else 0
            )
        except OSError:
            return True
        return age > 1.2 * self.params.get("interval", 30) + 1

    def _counted(self):
        started, self.mark = self.mark, self.since
        try:
            return super(SecondLook, self)._counted()
        finally:
            self.mark = started
