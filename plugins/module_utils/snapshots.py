# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Falco's own metrics on a host: two snapshots of one run, from whichever source has them. Stdlib only, Python 3.6+.

A *snapshot* is a flat dict of Falco's field names, as 0.44 prints them in JSON, to numbers and texts. Every source is
brought to these names: metrics.output_file, the rule "Falco internal: metrics snapshot" as JSON or text, and /metrics.
Only the syscall event source counts. Nothing here computes rates: the controller does (plugin_utils/metrics.py).

Falco wrote these lines, but others can write to the same logs. An alert quotes whatever a process calls itself, so a
snapshot is taken only from where Falco itself puts it in a line. syslog files remain open to everyone on the host.
"""

import calendar
import json
import os
import re
import select
import signal
import subprocess
import time

from ansible_collections.falcotune.fleet.plugins.module_utils import tail

try:
    from urllib.parse import urlsplit
    from urllib.request import HTTPRedirectHandler, ProxyHandler, build_opener
except ImportError:  # pragma: no cover - Python 2 can't run this anyway
    HTTPRedirectHandler = object

SNAPSHOT_RULE = "Falco internal: metrics snapshot"
DROP_RULE = "Falco internal: syscall event drop"
NEEDLE = b"n_evts"  # in every snapshot and every drop alert, and in little else
LIMIT = 1 << 64
MAX_TEXT = 256

ORDER = ("metrics_file", "alerts_file", "journal", "syslog", "prometheus")
LIMITS = {
    "max_bytes": 8 << 20,   # read from each source, all its files together
    "min_seconds": 60.0,    # the window wanted
    "since": None,          # Unix time of Falco's start: what is older belongs to another process
    "timeout": 10.0,        # seconds for the journal, and for each answer of /metrics
}
SWITCH_ON = ("set metrics.enabled: true with an interval, and metrics.output_file (or metrics.output_rule, or "
             "webserver.prometheus_metrics_enabled since 0.38)")

# Names in the alert and in /metrics carry no prefix, or another one. Kernel-side ones are scap., the others falco.
_KERNEL = re.compile(r"^(?:n_evts|n_drops|evts_rate_sec|evts_drop_rate_sec|engine_name|n_preemptions)(?:_|$)|\.(?:run_cnt|run_time_ns|avg_time_ns)$")
_USERSPACE = ("n_drops_full_threadtable",)
# How a Falco without json_output begins its own lines: time with nanoseconds, ISO 8601 on request, and the priority.
_HEADER = re.compile(r"(?:\d{4}-\d\d-\d\dT)?\d\d:\d\d:\d\d\.\d{9}(?:Z|[+-]\d{4})?: [A-Z][a-z]+ ")
_PAIR = re.compile(r'(?<=[ (])([A-Za-z0-9_.:-]{1,160})=("(?:[^"\\]|\\.)*"|[^\s"()]+)(?=[ )])')


def _number(text):
    """JSON's integers; longer ones than any counter are no numbers (and cost quadratic time on old Pythons)."""
    return int(text) if len(text) <= 24 else None


def _loads(text):
    """A JSON object, or None."""
    try:
        value = json.loads(text, parse_int=_number, parse_constant=lambda name: None)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _clean(fields):
    """Only finite numbers and short texts."""
    found = {}
    for name, value in fields.items():
        if isinstance(value, bool):
            continue
        if isinstance(value, float) and abs(value) < LIMIT or isinstance(value, int) and -LIMIT < value < LIMIT:
            found[name] = value
        elif isinstance(value, str) and len(value) <= MAX_TEXT:
            found[name] = value
    return found


def prefixed(name):
    """'n_evts' → 'scap.n_evts', 'n_threads' → 'falco.n_threads'; a name with its prefix stays."""
    if name.startswith(("falco.", "scap.", "evt.", "plugins.")) or name == "sample":
        return name
    return ("scap." if _KERNEL.search(name) and name not in _USERSPACE else "falco.") + name


def _snapshot(fields, sample=None):
    """A clean snapshot of the syscall source, or None."""
    found = {prefixed(name): value for name, value in _clean(fields).items()}
    if found.get("evt.source", "syscall") != "syscall":
        return None
    if not _counter(found.get("scap.n_evts")) or not _counter(found.get("scap.n_drops", 0)) or not _counter(found.get("evt.time")):
        return None
    if _counter(sample):
        found["sample"] = sample
    return found


def _counter(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LIMIT


def _text(line):
    return line.decode("utf-8", "replace") if isinstance(line, bytes) else line


def _json_object(line):
    """The object of a JSON line, with or without a syslog prefix, or None.

    A text alert that quotes JSON begins with Falco's own time and priority before the brace.
    """
    text = _text(line)
    brace = text.find("{")
    if brace < 0 or brace > 512 or _HEADER.search(text, 0, brace):
        return None
    return _loads(text[brace:])


def from_json_line(line):
    """One snapshot of metrics.output_file ({"sample", "output_fields"}) or of the rule as a JSON alert, or None."""
    value = _json_object(line)
    if value is None or not isinstance(value.get("output_fields"), dict):
        return None
    if value.get("rule") != SNAPSHOT_RULE and ("rule" in value or "sample" not in value):
        return None
    return _snapshot(value["output_fields"], value.get("sample"))


def _pairs(text):
    """The k=v and k="JSON string" of one alert's brackets; {} unless they are closed: a cut number is a wrong one."""
    text = text.rstrip("\r\n")
    if not text.endswith(")"):
        return {}
    found = {}
    for name, value in _PAIR.findall(text):
        if value.startswith('"'):
            try:
                found[name] = json.loads(value)
            except ValueError:
                continue
        elif re.match(r"^-?\d{1,24}$", value):
            found[name] = int(value)
        else:
            try:
                found[name] = float(value)
            except ValueError:
                found[name] = value
    return found


def _message(line, beginning):
    """What follows Falco's own header in a line of text output where it begins so, else None."""
    text = _text(line)
    header = _HEADER.search(text, 0, 1024)
    if not header or not text.startswith(beginning, header.end()):
        return None
    return text[header.start():]


def from_text_line(line):
    """One snapshot of the rule in text form, with or without a syslog prefix, or None."""
    text = _message(line, "Falco metrics snapshot (")
    return _snapshot(_pairs(text)) if text else None


def _when(text):
    """Unix time of Falco's ISO times in UTC, or None."""
    match = re.match(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(?:Z|\+0000)", text or "")
    try:
        return float(calendar.timegm(time.strptime(match.group(1), "%Y-%m-%dT%H:%M:%S"))) if match else None
    except (ValueError, OverflowError):
        return None


def drop_alert(line):
    """{'time' or None, 'fields': {'n_evts', 'n_drops', 'n_drops_…'}} of a drop alert: counts of about one second. Or None."""
    value = _json_object(line)
    if value is not None:
        if value.get("rule") != DROP_RULE or not isinstance(value.get("output_fields"), dict):
            return None
        fields, at = value["output_fields"], value.get("time")
    else:
        at = _message(line, DROP_RULE)
        fields = _pairs(at) if at else {}
    found = {}
    for name, number in fields.items():
        if name in ("n_evts", "n_drops") or name.startswith("n_drops_"):
            if isinstance(number, str) and re.match(r"^\d{1,20}$", number):
                number = int(number)
            if _counter(number):
                found[name] = number
    if "n_evts" not in found or not 0 < found.get("n_drops", 0) <= found["n_evts"]:
        return None
    return {"time": _when(at) if isinstance(at, str) else None, "fields": found}


_SAMPLE = re.compile(r"^falcosecurity_(falco|scap|evt|plugins)_([A-Za-z0-9_]{1,160})(?:\{(.*)\})? (\S{1,40})(?: -?\d+)?$")
_LABEL = re.compile(r'([a-z_]{1,40})="((?:[^"\\]|\\.)*)"')
_ENDINGS = (
    (re.compile(r"_run_time_nanoseconds_total$"), ".run_time_ns"),
    (re.compile(r"_run_cnt_total$"), ".run_cnt"),
    (re.compile(r"_avg_time_nanoseconds$"), ".avg_time_ns"),
    (re.compile(r"_timestamp_nanoseconds$"), "_ts"),
    (re.compile(r"_seconds_total$"), "_sec"),
    (re.compile(r"_total$"), ""),
)


def from_prometheus(text, now=None):
    """One snapshot of a /metrics body, in the JSON's names; None without counters of the syscall source.

    now: Unix time in ns of the scrape, which the body doesn't carry. 0.38 calls its kernel counters falco_…, has one family
    per category and a total; later ones have labels and no total. Since 0.42 the enter-side drops of open and connect are
    printed as 0 here, whatever they are. Two programs of one (cut) name are added up. No falco.num_evts, rates or percentages.
    """
    found = {"evt.source": "syscall", "evt.time": now if now is not None else 0}
    for line in text.split("\n"):
        match = _SAMPLE.match(line.rstrip("\r")) if line.startswith("falcosecurity_") and len(line) <= 4096 else None
        if not match:
            continue
        labels = dict(_LABEL.findall(match.group(3) or ""))
        name, value = match.group(2), match.group(4)
        if name.endswith("_info"):
            _info(found, name[:-5], labels)
            continue
        try:
            number = int(value) if re.match(r"^\d{1,20}$", value) else float(value)
        except ValueError:
            continue
        _sample(found, match.group(1), name, labels, number)
    return _snapshot(found)


def _info(found, name, labels):
    if name == "engine_name" and labels.get("evt_source", "syscall") == "syscall":
        found["scap.engine_name"] = labels.get("engine_name")
    elif name == "version":
        found["falco.version"] = labels.get("version")


def _sample(found, prefix, name, labels, number):
    if prefix == "plugins" or name.startswith("rules_"):
        return
    if name.endswith("_usage_ratio"):
        found["falco." + name[:-len("ratio")] + "perc"] = round(number * 100, 6)
        return
    if name == "n_drops_buffer_total":
        category = "%s_%s" % (labels["drop"], labels["dir"]) if "drop" in labels and "dir" in labels else "total"
        found["scap.n_drops_buffer_" + category] = number
        return
    if "cpu" in labels:
        found["scap.%s_%s" % (name[:-len("_total")], labels["cpu"])] = number
        return
    for ending, instead in _ENDINGS:
        name, done = ending.subn(instead, name)
        if done:
            break
    name = prefixed(name)
    if name.endswith((".run_time_ns", ".run_cnt")):
        number += found.get(name, 0)
    found[name] = number


# What a window needs. Counters must not go down within a run.
_RUN = ("falco.start_ts", "falco.reload_ts", "falco.version")
_KEPT = re.compile(
    r"^(?:sample|evt\.time|falco\.(?:start_ts|reload_ts|version|host_num_cpus|num_evts|outputs_queue_num_drops|cpu_usage_perc"
    r"|(?:container_)?memory_(?:rss|pss|vsz|used)(?:_mb|_kb|_bytes)?|n_threads|n_drops_full_threadtable|n_failed_thread_lookups"
    r"|n_failed_fd_lookups|n_store_evts_drops|n_retrieve_evts_drops)"
    r"|scap\.(?:engine_name|n_evts|n_drops|n_drops_(?:buffer_\w+|scratch_map|page_faults|bug)|sys_exit\.run_cnt|run_time_ns))$")
_COUNTER = re.compile(
    r"^(?:falco\.(?:num_evts|outputs_queue_num_drops|n_drops_full_threadtable|n_failed_\w+_lookups|n_store_evts_drops"
    r"|n_retrieve_evts_drops)|scap\.(?:n_evts|n_drops|n_drops_(?:buffer_\w+|scratch_map|page_faults|bug)|sys_exit\.run_cnt|run_time_ns))$")
_HIDDEN_ZERO = ("scap.n_drops",)  # Falco leaves these out while they are 0 (metrics.include_empty_values)


def reduced(snapshot):
    """The fields that a window needs, some 700 bytes; scap.run_time_ns is the sum over Falco's kernel programs."""
    found = {name: value for name, value in snapshot.items()
             if _KEPT.match(name) and not (value == 0 and name.startswith("scap.n_drops_"))}
    times = [value for name, value in snapshot.items() if name.endswith(".run_time_ns") and _counter(value)]
    if times:
        found["scap.run_time_ns"] = sum(times)
    return found


def broken(older, newer):
    """Why these two reduced snapshots (older, newer) are not of one run, or None.

    newer may also carry scap.n_evts_prev, what Falco counted at its snapshot before: a restart between them shows there
    even where the counter has since overtaken the old one. 0.38 has no reload_ts: a reset is sample or a counter going down.
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
        if _COUNTER.match(name) and (name in newer or name.startswith(_HIDDEN_ZERO)) and value > newer.get(name, 0):
            return "restart or hot reload (%s went down)" % name
    return None


class Alerts(object):
    """Drop alerts met on the way, for when there is nothing better. Each speaks of about one second with drops."""

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
        return {"count": self.count, "undated": self.undated,
                "fields": {name: value for name, value in self.sums.items() if value}} if self.count else None


def two_snapshots(lines, source, min_seconds=60.0, since=None):
    """The newest snapshot and the first one found, going back, that is min_seconds older and of the same run.

    lines: newest first. → {'first', 'last', 'source', 'seconds', 'bytes_read', 'ended_by'} with reduced snapshots; where
    none is that old, the oldest of the run. ended_by says what ended the run's record going back, or None.
    Else {'reason', 'source', 'bytes_read', 'alerts'}: alerts as Alerts.result().
    """
    alerts, last, first, ended_by, seen = Alerts(since), None, None, None, set()
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
        ended_by = broken(step, newer) if last is not None else None
        if ended_by:
            break
        first, newer = step, dict(step, **_previous(found))
        if last is None:
            last = first
            continue
        if last["evt.time"] - first["evt.time"] >= min_seconds * 1e9:
            break
    return _outcome(lines, source, first, last, ended_by, alerts)


def _previous(found):
    """The count that Falco itself remembers from its snapshot before; 0 in the first one of a run."""
    value = found.get("scap.n_evts_prev")
    return {"scap.n_evts_prev": value} if _counter(value) else {}


def _other_instance(step, last):
    """Two Falcos may write to one log: a snapshot of another start, made after the start of the one that is followed."""
    start = last.get("falco.start_ts")
    return isinstance(start, int) and step.get("falco.start_ts") != start and step["evt.time"] > start


def _outcome(lines, source, first, last, ended_by, alerts):
    read = getattr(lines, "bytes_read", 0)
    if last is not None and first is not last:
        return {"first": first, "last": last, "source": source, "seconds": round((last["evt.time"] - first["evt.time"]) / 1e9, 3),
                "bytes_read": read, "ended_by": ended_by}
    reason = getattr(lines, "reason", None)
    if last is not None:
        reason = "only one snapshot of the running Falco%s: wait for another interval of metrics.interval" % (
            " since a " + ended_by if ended_by else "")
    elif not reason:
        reason = "no metrics snapshot of the syscall source in the %d bytes read: %s" % (read, SWITCH_ON)
    return {"reason": reason, "source": source, "bytes_read": read, "alerts": alerts.result()}


class Journal(object):
    """Iterate for the journal's messages of Falco, newest first; .bytes_read and .reason as a Tail.

    match: '_PID=812' or '_SYSTEMD_UNIT=falco-modern-bpf.service'. The name falco.service is an alias under the packages and
    holds nothing.
    """

    def __init__(self, match, max_bytes, timeout=10.0, since=None, program="journalctl"):
        self.arguments = [program, "--quiet", "--no-pager", "--output=cat", "--reverse", "--lines=100000", match]
        if since is not None:
            self.arguments.insert(-1, "--since=@%d" % (since - 2))
        self.max_bytes, self.timeout = max_bytes, timeout
        self.bytes_read, self.reason = 0, None

    def __iter__(self):
        environment = dict(os.environ, LC_ALL="C.UTF-8")
        try:
            process = subprocess.Popen(self.arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                       env=environment)
        except OSError as error:
            self.reason = "%s: %s" % (self.arguments[0], error.strerror)
            return
        try:
            for line in self._lines(process.stdout.fileno()):
                if NEEDLE in line:
                    yield line
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.stdout.close()
            status = process.wait()
        if status > 0 and not self.bytes_read:
            self.reason = "journalctl ended with status %d" % status

    def _lines(self, handle):
        deadline, rest = time.monotonic() + self.timeout, b""
        while self.bytes_read < self.max_bytes:
            if not select.select([handle], [], [], max(0, deadline - time.monotonic()))[0]:
                self.reason = "journalctl gave no answer within %d s" % self.timeout if not self.bytes_read else None
                return
            block = os.read(handle, min(tail.BLOCK, self.max_bytes - self.bytes_read))
            self.bytes_read += len(block)
            lines = (rest + block).split(b"\n")
            rest = lines.pop()[-tail.MAX_LINE - 1:]
            for line in lines:
                if len(line) <= tail.MAX_LINE:
                    yield line
            if not block:
                yield rest
                return


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *dummy):
        return None


def loopback(url):
    """Whether a URL is http(s) on this host."""
    try:
        parts = urlsplit(url)
        name = (parts.hostname or "") if parts.port != 0 else ""
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and (
        name in ("localhost", "::1") or bool(re.match(r"^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$", name)))


def _opener(url):
    handlers = [ProxyHandler({}), _NoRedirect()]
    if url.startswith("https"):
        import ssl  # not every minimal Python has it
        from urllib.request import HTTPSHandler
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        handlers.append(HTTPSHandler(context=context))
    return build_opener(*handlers)


def scrape(url, max_bytes, timeout):
    """(text, None) or (None, reason). Loopback only, no proxy, no redirect; Falco's certificate there is its own."""
    if not loopback(url):
        return None, "%s is not on this host's loopback" % url
    deadline, data = time.monotonic() + timeout, b""
    try:
        with _opener(url).open(url, timeout=timeout) as answer:
            while len(data) <= max_bytes:
                block = answer.read1(tail.BLOCK)
                if not block:
                    return data.decode("utf-8", "replace"), None
                data += block
                if time.monotonic() > deadline:
                    return None, "%s did not end within %d s" % (url, timeout)
    except Exception as error:  # http.client has more kinds of them than a list here would
        return None, "%s: %s" % (url, error)
    return None, "%s answers with more than %d bytes" % (url, max_bytes)


def two_scrapes(url, seconds, limits, sleep=time.sleep):
    """As two_snapshots(), from /metrics, `seconds` apart by the monotonic clock."""
    began, read, found = time.time(), 0, []
    mark = time.monotonic()
    for turn in (0, 1):
        if turn:
            sleep(max(0.0, mark + seconds - time.monotonic()))
        asked = time.monotonic()
        text, reason = scrape(url, limits["max_bytes"] // 2, limits["timeout"])
        read += len(text or "")
        snapshot = from_prometheus(text, int((began + asked - mark) * 1e9)) if text else None
        if snapshot is None:
            reason = reason or "%s holds no counters of the syscall source (404 until the driver is open)" % url
            return {"reason": reason, "source": "prometheus", "bytes_read": read, "alerts": None}
        found.append(reduced(snapshot))
    ended_by = broken(*found)
    if ended_by:
        return {"reason": "%s between the two scrapes" % ended_by, "source": "prometheus", "bytes_read": read, "alerts": None}
    return {"first": found[0], "last": found[1], "source": "prometheus", "bytes_read": read, "ended_by": None,
            "seconds": round((found[1]["evt.time"] - found[0]["evt.time"]) / 1e9, 3)}


def _from_files(name, paths, limits):
    """The best of several files; a file's own outcome where there is one."""
    best, read = None, 0
    for path in [paths] if isinstance(paths, str) else paths:
        lines = tail.Tail(path, limits["max_bytes"] - read, NEEDLE)
        found = two_snapshots(lines, name, limits["min_seconds"], limits["since"])
        read += found["bytes_read"]
        best = better(best, found)
        if found.get("seconds", 0) >= limits["min_seconds"] or read >= limits["max_bytes"]:
            break
    return dict(best, bytes_read=read) if best else {"reason": "no path", "source": name, "bytes_read": 0, "alerts": None}


def better(one, other):
    """The longer pair; else a pair; else the one with alerts; else the first."""
    def worth(found):
        return (found.get("seconds", -1), bool(found.get("alerts"))) if found else (-2, False)
    return other if worth(other) > worth(one) else one


def _one(name, source, limits, best):
    if name in ("metrics_file", "alerts_file", "syslog"):
        return _from_files(name, source, limits)
    if name == "journal":
        match = "_PID=%d" % source["pid"] if source.get("pid") else "_SYSTEMD_UNIT=%s" % source["unit"]
        return two_snapshots(Journal(match, limits["max_bytes"], limits["timeout"], limits["since"]), name, limits["min_seconds"],
                             limits["since"])
    if not source.get("scrape_ok"):
        reason = source.get("reason") or "not asked: a scrape before the driver is open kills Falco before 0.41.1"
    elif best and best.get("seconds", 0) >= source["seconds"]:
        reason = "not needed"
    else:
        return two_scrapes(source["url"], source["seconds"], limits)
    return {"reason": reason, "source": name, "bytes_read": 0, "alerts": None}


def gather(sources, order=ORDER, limits=None):
    """The first pair of snapshots that is min_seconds apart, from the sources in this order; else the longest pair.

    sources: {'metrics_file': path, 'alerts_file': path, 'syslog': path or [paths], 'journal': {'pid' or 'unit'},
              'prometheus': {'url', 'seconds', 'scrape_ok', 'reason'}}; what is absent or empty is not tried.
              scrape_ok is the caller's word that the driver is open, or that this release survives being asked early.
    limits:   overrides of LIMITS.
    → {'first', 'last', 'source', 'seconds', 'age', 'bytes_read', 'ended_by'}: age is seconds since the newest snapshot;
      else {'alerts', 'source', 'reason', 'bytes_read'} where only drop alerts were found;
      else {'reason', 'bytes_read'}: each source tried and what it lacks.
    """
    limits = dict(LIMITS, **(limits or {}))
    best, read, reasons = None, 0, []
    for name in order:
        source = sources.get(name)
        if not source:
            continue
        found = _one(name, source, limits, best)
        read += found["bytes_read"]
        best = better(best, found)
        if "reason" in found:
            reasons.append("%s: %s" % (name, found["reason"]))
        elif found["seconds"] >= limits["min_seconds"]:
            break
    if best and "last" in best:
        age = max(0.0, round(time.time() - best["last"]["evt.time"] / 1e9, 1))
        return dict(best, bytes_read=read, age=age)
    reason = "; ".join(reasons) or "no source of metrics: " + SWITCH_ON
    if best and best["alerts"]:
        return {"alerts": best["alerts"], "source": best["source"], "reason": reason, "bytes_read": read}
    return {"reason": reason, "bytes_read": read}
