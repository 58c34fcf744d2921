# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two snapshots of one run of Falco, from whichever source on a host has them. Stdlib only, Python 3.6+.

Nothing here computes rates: the controller does (plugin_utils/_tuning/windows.py).
"""

import re
import time

from ansible_collections.falcotune.fleet.plugins.module_utils._host import host
from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import journalctl, prometheus, tail
from ansible_collections.falcotune.fleet.plugins.module_utils._metrics.falco_lines import (
    NEEDLE,
    counter,
    drop_alert,
    from_json_line,
    from_text_line,
    lacks_counters,
)

ORDER = ("metrics_file", "alerts_file", "journal", "syslog", "prometheus")
LIMITS = {
    "max_bytes": 8 << 20,  # read from each source, all its files together
    "min_seconds": 60.0,  # the window wanted
    "enough": None,  # a window so long that no other source is tried; None: only the one wanted
    "since": None,  # Unix time of Falco's start: what is older belongs to another process
    "timeout": 10.0,  # seconds for the journal, and for each answer of /metrics
}
NOT_ASKED = (
    "not asked: Falco's driver is not seen to be open (its ring buffers are not in its memory map), and an "
    "earlier scrape kills Falco before 0.41.1"
)
SWITCH_ON = (
    "set metrics.enabled: true with an interval, and metrics.output_file (or metrics.output_rule, or "
    "webserver.prometheus_metrics_enabled since 0.38)"
)

# Where snapshots without the kernel's counters are looked for: NEEDLE is not in them.
UNCOUNTED_BYTES = 1 << 16
UNCOUNTED_NEEDLE = b'"syscall"'
UNCOUNTED = "its snapshots of the syscall source hold no kernel counters"

# What a window needs. Counters must not go down within a run.
_RUN = ("falco.start_ts", "falco.reload_ts", "falco.version")
_COUNTER = re.compile(
    r"^(?:falco\.(?:num_evts|outputs_queue_num_drops|n_drops_full_threadtable|n_failed_(?:thread|fd)_lookups"
    r"|n_store_evts_drops|n_retrieve_evts_drops)"
    r"|scap\.(?:n_evts|n_drops|n_drops_(?:buffer_\w+|scratch_map|page_faults|bug)|sys_exit\.run_cnt"
    r"|run_time_ns))\Z"
)
_BESIDE = re.compile(
    r"^(?:sample|evt\.time|scap\.engine_name|falco\.(?:start_ts|reload_ts|version|host_num_cpus|n_threads"
    r"|cpu_usage_perc|(?:container_)?memory_(?:rss|pss|vsz|used)(?:_mb|_kb|_bytes)?))\Z"
)
# One for each rules file that Falco has loaded.
_RULES_FILE = "falco.sha256_rules_file."
_HIDDEN_ZERO = ("scap.n_drops",)  # Falco leaves these out while they are 0 (metrics.include_empty_values)


def reduced(snapshot):
    """The fields that a window needs, 500 to 1000 bytes of JSON; scap.run_time_ns is the sum over Falco's
    kernel programs, and falco.rules tells rules files apart that differ in content.
    """
    found = {
        name: value
        for name, value in snapshot.items()
        if _BESIDE.match(name) or _COUNTER.match(name) and counter(value)
    }
    for name in [name for name, value in found.items() if name.startswith("scap.n_drops_") and not value]:
        del found[name]
    found.pop("scap.n_drops_buffer_total", None)
    times = [value for name, value in snapshot.items() if name.endswith(".run_time_ns") and counter(value)]
    if times:
        found["scap.run_time_ns"] = sum(times)
    rules = sorted(str(value) for name, value in snapshot.items() if name.startswith(_RULES_FILE))
    if rules:
        found["falco.rules"] = host.digest(" ".join(rules).encode("utf-8"))[:12]
    return found


def broken(older, newer):
    """Why these two reduced snapshots (older, newer) are not of one run, or None.

    newer may also carry scap.n_evts_prev, what Falco counted at its snapshot before: a restart between them
    shows there even where the counter has since overtaken the old one. 0.38 has no reload_ts: a reset is
    sample or a counter going down.
    """
    for name in _RUN:
        if older.get(name) != newer.get(name):
            return "hot reload" if name == "falco.reload_ts" else "restart"
    if older["evt.time"] >= newer["evt.time"]:
        return "clock set back"
    if "sample" in older and "sample" in newer and older["sample"] >= newer["sample"]:
        return "restart or hot reload (sample went down)"
    if older["scap.n_evts"] > newer.get("scap.n_evts_prev", newer["scap.n_evts"]):
        return "restart or hot reload (scap.n_evts went down)"
    for name, value in older.items():
        if (
            _COUNTER.match(name)
            and (name in newer or name.startswith(_HIDDEN_ZERO))
            and value > newer.get(name, 0)
        ):
            return "restart or hot reload (%s went down)" % name
    return None


# Intervals with the most lost events that travel to the controller.
MOST_INTERVALS = 8


class Intervals:
    """The intervals between neighbouring snapshots of a run. Those with the most lost events are kept.

    They tell a burst from a load that lasts, which a window of an hour does not.
    """

    def __init__(self):
        self.count = self.losing = 0
        self.worst = []

    def add(self, older, newer):
        self.count += 1
        drops = newer.get("scap.n_drops", 0) - older.get("scap.n_drops", 0)
        if drops <= 0:
            return
        self.losing += 1
        self.worst.append(
            {
                "ns": newer["evt.time"] - older["evt.time"],
                "events": newer["scap.n_evts"] - older["scap.n_evts"],
                "drops": drops,
            }
        )
        self.worst.sort(key=lambda item: -item["drops"])
        del self.worst[MOST_INTERVALS:]

    def result(self):
        """{'count', 'losing', 'worst': [{'ns', 'events', 'drops'}, most drops first]}"""
        return {"count": self.count, "losing": self.losing, "worst": self.worst}


_PER_CPU = re.compile(r"^scap\.n_(evts|drops)_cpu_(\d{1,5})\Z")


def per_cpu(snapshot):
    """{CPU: [events, drops]} of a snapshot with metrics.kernel_event_counters_per_cpu_enabled; else {}."""
    found = {}
    for name, value in snapshot.items():
        match = _PER_CPU.match(name)
        if match and counter(value):
            found.setdefault(int(match.group(2)), [0, 0])[match.group(1) == "drops"] = value
    return found


def losing_cpus(first, last):
    """The CPUs whose events were lost: {'count', 'worst': [[CPU, drops], most first]}; None without counters.

    first, last: as per_cpu().
    """
    if not first or not last:
        return None
    lost = [[cpu, now[1] - first.get(cpu, [0, 0])[1]] for cpu, now in last.items()]
    lost = sorted((item for item in lost if item[1] > 0), key=lambda item: (-item[1], item[0]))
    return {"count": len(lost), "worst": lost[:MOST_INTERVALS]}


class Alerts:
    """Drop alerts met on the way, for when there is nothing better.

    Each speaks of about one second with drops.
    """

    def __init__(self, since):
        self.since, self.sums, self.count, self.undated, self.seen = since, {}, 0, 0, set()

    def add(self, line):
        found = drop_alert(line)
        if found is None or (self.since and found["time"] is not None and found["time"] < self.since):
            return
        key = hash(line)
        if key in self.seen or len(self.seen) >= 10000:
            return
        self.seen.add(key)
        self.count += 1
        self.undated += found["time"] is None
        for name, number in found["fields"].items():
            self.sums[name] = self.sums.get(name, 0) + number

    def result(self):
        """{'count', 'undated', 'fields': sums}; None where there were none."""
        return (
            {
                "count": self.count,
                "undated": self.undated,
                "fields": {name: value for name, value in self.sums.items() if value},
            }
            if self.count
            else None
        )


def two_snapshots(lines, source, min_seconds=60.0, since=None):
    """The newest snapshot and the first one found, going back, that is min_seconds older and of the same run.

    lines: newest first. → {'first', 'last', 'source', 'seconds', 'bytes_read', 'ended_by', 'intervals'} with
    reduced snapshots; where none is that old, the oldest of the run. ended_by says what ended the run's
    record going back, or None. Else {'reason', 'source', 'bytes_read', 'alerts'} and, of a run with one
    snapshot, 'last': alerts as Alerts.result(). intervals: as Intervals.result(); cpus: as losing_cpus().
    """
    alerts, seen, intervals = Alerts(since), set(), Intervals()
    last = first = newer = ended_by = None
    cpus = [{}, {}]  # of the first and of the last snapshot
    for line in lines:
        found = from_json_line(line) or from_text_line(line)
        if found is None:
            alerts.add(line)
            continue
        if since is not None and found["evt.time"] < (since - 2) * 1e9:
            break  # the start is known to about a second
        step, key = reduced(found), (found["evt.time"], found["scap.n_evts"])
        if key in seen or (last is not None and _other_instance(step, last)):
            continue
        seen.add(key)
        ended_by = broken(step, newer) if newer else None
        if ended_by:
            break
        if newer:
            intervals.add(step, newer)
        first, newer = step, dict(step, **_previous(found))
        cpus = [per_cpu(found), cpus[1] if last else per_cpu(found)]
        last = last or first
        if first is not last and last["evt.time"] - first["evt.time"] >= min_seconds * 1e9:
            break
    found = _outcome(lines, source, first, last, ended_by, alerts)
    if "first" in found:
        found.update(intervals=intervals.result(), cpus=losing_cpus(*cpus))
    return found


def _previous(found):
    """The count that Falco itself remembers from its snapshot before; 0 in the first one of a run."""
    value = found.get("scap.n_evts_prev")
    return {"scap.n_evts_prev": value} if counter(value) else {}


def _other_instance(step, last):
    """Two Falcos may write to one log: a snapshot of another start, made after the start of the one that is
    followed.
    """
    start = last.get("falco.start_ts")
    return isinstance(start, int) and step.get("falco.start_ts") != start and step["evt.time"] > start


def _outcome(lines, source, first, last, ended_by, alerts):
    read = getattr(lines, "bytes_read", 0)
    if last is not None and first is not last:
        return {
            "first": first,
            "last": last,
            "source": source,
            "seconds": round((last["evt.time"] - first["evt.time"]) / 1e9, 3),
            "bytes_read": read,
            "ended_by": ended_by,
        }
    result = {
        "reason": getattr(lines, "reason", None),
        "source": source,
        "bytes_read": read,
        "alerts": alerts.result(),
    }
    if last is not None:
        result["last"] = last
        result["reason"] = (
            "only one snapshot of the running Falco%s: wait for another interval of metrics.interval"
            % (" since a " + ended_by if ended_by else "")
        )
    elif not result["reason"]:
        result["reason"] = "no metrics snapshot of the syscall source in the %d bytes read" % read
    return result


def two_scrapes(source, limits):
    """As two_snapshots(), from /metrics, source['seconds'] apart by the monotonic clock."""
    url, allowed = source["url"], source.get("scrape_ok")
    began, read, found, cpus = time.time(), 0, [], []
    mark = time.monotonic()
    for turn in (0, 1):
        if turn:
            time.sleep(max(0.0, mark + source["seconds"] - time.monotonic()))
        if not (allowed() if callable(allowed) else allowed):
            return {
                "reason": source.get("reason") or NOT_ASKED,
                "source": "prometheus",
                "bytes_read": read,
                "alerts": None,
            }
        if source.get("foreign") and source["foreign"]():
            reason = "not asked: another process than Falco listens at %s" % url
            return {"reason": reason, "source": "prometheus", "bytes_read": read, "alerts": None}
        asked = time.monotonic()
        text, reason = prometheus.scrape(url, limits["max_bytes"] // 2, limits["timeout"])
        read += len(text or "")
        snapshot = prometheus.from_prometheus(text, int((began + asked - mark) * 1e9)) if text else None
        if snapshot is None:
            if text and prometheus.kernel_lines(text) is None:
                reason = prometheus.TWO_SOURCES % url
            reason = (
                reason or "%s holds no counters of the syscall source (404 until the driver is open)" % url
            )
            return {"reason": reason, "source": "prometheus", "bytes_read": read, "alerts": None}
        found.append(reduced(snapshot))
        cpus.append(per_cpu(snapshot))
    ended_by = broken(*found)
    if ended_by:
        return {
            "reason": "%s between the two scrapes" % ended_by,
            "source": "prometheus",
            "bytes_read": read,
            "alerts": None,
        }
    return {
        "first": found[0],
        "last": found[1],
        "source": "prometheus",
        "bytes_read": read,
        "ended_by": None,
        "cpus": losing_cpus(*cpus),
        "seconds": round((found[1]["evt.time"] - found[0]["evt.time"]) / 1e9, 3),
    }


def _from_files(name, paths, limits):
    """The best of several files; a file's own outcome where there is one."""
    best, read = None, 0
    for path in [paths] if isinstance(paths, str) else paths:
        lines = tail.Tail(path, limits["max_bytes"] - read, NEEDLE)
        found = two_snapshots(lines, name, limits["min_seconds"], limits["since"])
        read += found["bytes_read"]
        best = better(best, found)
        if _long_enough(found, limits) or read >= limits["max_bytes"]:
            break
    if best is None:
        return {"reason": "no path", "source": name, "bytes_read": 0, "alerts": None}
    if "last" not in best and not best["alerts"]:
        for path in [paths] if isinstance(paths, str) else paths:
            lines = tail.Tail(path, UNCOUNTED_BYTES, UNCOUNTED_NEEDLE)
            if any(lacks_counters(line, limits["since"]) for line in lines):
                return dict(best, bytes_read=read, reason=UNCOUNTED, uncounted=True)
    return dict(best, bytes_read=read)


def better(one, other):
    """The longer pair; else a pair; else one with alerts; else one with a snapshot; else the first."""

    def worth(found):
        return (
            (found.get("seconds", -1), bool(found.get("alerts")), "last" in found)
            if found
            else (-2, False, False)
        )

    return other if worth(other) > worth(one) else one


def _long_enough(found, limits):
    wanted = (
        limits["min_seconds"] if limits["enough"] is None else min(limits["enough"], limits["min_seconds"])
    )
    return "first" in found and found["seconds"] >= wanted


def _one(name, source, limits, best):
    if name in ("metrics_file", "alerts_file", "syslog"):
        return _from_files(name, source, limits)
    if name == "journal":
        match = "_PID=%d" % source["pid"] if source.get("pid") else "_SYSTEMD_UNIT=%s" % source["unit"]
        return two_snapshots(
            journalctl.Journal(match, limits["max_bytes"], limits["timeout"], limits["since"]),
            name,
            limits["min_seconds"],
            limits["since"],
        )
    if best and best.get("seconds", 0) >= source["seconds"]:
        return {"reason": "not needed", "source": name, "bytes_read": 0, "alerts": None}
    return two_scrapes(source, limits)


def gather(sources, order=ORDER, limits=None):
    """The first pair of snapshots that is min_seconds (or enough) apart, from the sources in this order.

    The longest pair where none is.

    sources: {'metrics_file', 'alerts_file', 'syslog': path or [paths], 'journal': {'pid' or 'unit'},
              'prometheus': {'url', 'seconds', 'scrape_ok', 'foreign', 'reason'}}; what is absent or empty is
              not tried.
              scrape_ok: the caller's word that the driver is open, or that this release survives being asked
              early; or a function that tells, asked before each scrape. reason: why it is not asked.
              foreign: a function that tells whether somebody else listens there.
    limits:   overrides of LIMITS.
    → {'first', 'last', 'source', 'seconds', 'age', 'bytes_read', 'ended_by'}: age is seconds since the newest
      snapshot; else {'reason', 'bytes_read'}: each source tried and what it lacks. With it 'alerts' and
      'source' where drop alerts were found, and 'last', 'age' and 'source' where the run has one snapshot.
      'uncounted': True where there are snapshots, and they lack the kernel's counters.
    """
    limits = dict(LIMITS, **(limits or {}))
    best, lone, read, reasons, uncounted = None, None, 0, [], False
    for name in order:
        source = sources.get(name)
        if not source:
            continue
        found = _one(name, source, limits, best)
        read += found["bytes_read"]
        best = better(best, found)
        if "first" in found:
            if _long_enough(found, limits):
                break
            continue
        reasons.append("%s: %s" % (name, found["reason"]))
        uncounted = uncounted or found.get("uncounted", False)
        if "last" in found and (lone is None or found["last"]["evt.time"] > lone["last"]["evt.time"]):
            lone = found
    if best and "first" in best:
        return dict(best, bytes_read=read, age=_age(best["last"]))
    result = {"reason": "; ".join(reasons or ["no source of metrics"]), "bytes_read": read}
    if uncounted:
        result["uncounted"] = True
    elif lone is None:
        result["reason"] += ". To measure, " + SWITCH_ON
    if lone is not None:
        result.update(last=lone["last"], age=_age(lone["last"]), source=lone["source"])
    if best and best["alerts"]:
        result.update(alerts=best["alerts"], source=best["source"])
    return result


def _age(snapshot):
    return max(0.0, round(time.time() - snapshot["evt.time"] / 1e9, 1))
