# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Falco's /metrics on this host → a snapshot in the JSON's names. Stdlib only, Python 3.6+."""

import contextlib
import os
import re
import signal
import socket
import time

from ansible_collections.falcotune.fleet.plugins.module_utils._host import host
from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import tail
from ansible_collections.falcotune.fleet.plugins.module_utils._metrics.falco_lines import prefixed, snapshot

_SAMPLE = re.compile(
    r"^falcosecurity_(falco|scap|evt|plugins)_([A-Za-z0-9_]{1,160})(?:\{(.*)\})? (\S{1,40})(?: -?\d+)?$"
)
_EVENTS = re.compile(r"^falcosecurity_(?:scap|falco)_n_evts_total(?:\{[^}]*\})? ")
_DROPS = re.compile(r"^falcosecurity_(?:scap|falco)_n_drops_total(?:\{[^}]*\})? ")
TWO_SOURCES = (
    "%s holds the event counters of more than one source, and which are the kernel's can't be told (a bug of "
    "Falco before 0.41.1 with plugins): upgrade Falco, or set metrics.output_file"
)
# The state of a listening socket in /proc/net/tcp (include/net/tcp_states.h).
LISTENS = "0A"
# Bytes, and seconds, for a look at the counters during a proof.
EVENTS_BYTES, EVENTS_TIMEOUT = 1 << 22, 3
_LABEL = re.compile(r'([a-z_][a-z0-9_]{0,39})="((?:[^"\\]|\\.)*)"')
_ENDINGS = (
    (re.compile(r"_run_time_nanoseconds_total$"), ".run_time_ns"),
    (re.compile(r"_run_cnt_total$"), ".run_cnt"),
    (re.compile(r"_avg_time_nanoseconds$"), ".avg_time_ns"),
    (re.compile(r"_timestamp_nanoseconds$"), "_ts"),
    (re.compile(r"_seconds_total$"), "_sec"),
    (re.compile(r"_total$"), ""),
)


def kernel_lines(text):
    """The lines of a /metrics body without the event counts of other sources; None where those can't be told.

    0.38 to 0.41.0 print n_evts once for each source under one name, in any order. A source's counters begin
    with it, and only the kernel's go on to n_drops.
    """
    lines = text.split("\n")
    starts = [number for number, line in enumerate(lines) if _EVENTS.match(line)]
    if len(starts) < 2:
        return lines
    ends = starts[1:] + [len(lines)]
    kernel = [
        start for start, end in zip(starts, ends) if any(_DROPS.match(line) for line in lines[start:end])
    ]
    if len(kernel) != 1:
        return None
    others = set(starts) - set(kernel)
    return [line for number, line in enumerate(lines) if number not in others]


def from_prometheus(text, now=None):
    """One snapshot of a /metrics body, in the JSON's names; None without counters of the syscall source.

    now: Unix time in ns of the scrape, which the body doesn't carry. 0.38 calls its kernel counters falco_…,
    has one family per category and a total; later ones have labels and no total. Since 0.42 the enter-side
    drops of open and connect are printed as 0 here, whatever they are. Two programs of one (cut) name are
    added up. No falco.num_evts, rates or percentages. None, too, where kernel_lines() finds none.
    """
    found = {"evt.source": "syscall", "evt.time": now if now is not None else 0}
    for line in kernel_lines(text) or []:
        match = (
            _SAMPLE.match(line.rstrip("\r"))
            if line.startswith("falcosecurity_") and len(line) <= 4096
            else None
        )
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
    return snapshot(found)


def _info(found, name, labels):
    if name == "engine_name" and labels.get("evt_source", "syscall") == "syscall":
        if labels.get("engine_name") != "source_plugin":
            found["scap.engine_name"] = labels.get("engine_name")
    elif name == "version":
        found["falco.version"] = labels.get("version")
    elif name == "sha256_rules_files":
        found["falco.sha256_rules_file.%s" % labels.get("file_name")] = labels.get("sha256")


def _sample(found, prefix, name, labels, number):
    if prefix == "plugins" or name.startswith("rules_"):
        return
    if name.endswith("_usage_ratio"):
        found["falco." + name[: -len("ratio")] + "perc"] = round(number * 100, 6)
        return
    if name == "n_drops_buffer_total":
        category = (
            "%s_%s" % (labels["drop"], labels["dir"]) if "drop" in labels and "dir" in labels else "total"
        )
        found["scap.n_drops_buffer_" + category] = number
        return
    if "cpu" in labels:
        found["scap.%s_%s" % (name[: -len("_total")], labels["cpu"])] = number
        return
    for ending, instead in _ENDINGS:
        name, done = ending.subn(instead, name)
        if done:
            break
    name = prefixed(name)
    if name.endswith((".run_time_ns", ".run_cnt")):
        number += found.get(name, 0)
    found[name] = number


def loopback(url):
    """Whether a URL is http(s) on this host."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        name = (parts.hostname or "") if parts.port != 0 else ""
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and (
        name in ("localhost", "::1") or bool(re.match(r"^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$", name))
    )


def _opener(url):
    # 25 ms that hosts with a metrics file don't pay.
    from urllib.request import HTTPRedirectHandler, ProxyHandler, build_opener

    class NoRedirect(HTTPRedirectHandler):
        def redirect_request(self, *dummy):
            return None

    handlers = [ProxyHandler({}), NoRedirect()]
    if url.startswith("https"):
        import ssl  # not every minimal Python has it
        from urllib.request import HTTPSHandler

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        handlers.append(HTTPSHandler(context=context))
    return build_opener(*handlers)


@contextlib.contextmanager
def in_all(seconds):
    """socket.timeout after so many seconds in all: the time-out of a socket begins anew with each byte."""

    def over(_number, _frame):
        raise socket.timeout("no whole answer within %g s" % seconds)

    try:
        before = signal.signal(signal.SIGALRM, over)
    except ValueError:  # not in the main thread
        yield
        return
    # A task's own timeout is an alarm too: it goes on afterwards.
    outer, began = signal.setitimer(signal.ITIMER_REAL, seconds)[0], time.monotonic()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if outer:
            signal.setitimer(signal.ITIMER_REAL, max(outer - (time.monotonic() - began), 0.001))


def scrape(url, max_bytes, timeout):
    """(text, None) or (None, reason).

    Loopback only, no proxy, no redirect; Falco's certificate there is its own. timeout: seconds in all.
    """
    if not loopback(url):
        return None, "%s is not on this host's loopback" % url
    data = b""
    try:
        with in_all(timeout), _opener(url).open(url, timeout=timeout) as answer:
            while len(data) <= max_bytes:
                block = answer.read1(tail.BLOCK)
                if not block:
                    return data.decode("utf-8", "replace"), None
                data += block
    except Exception as error:  # http.client has more kinds of them than a list here would
        return None, "%s: %s" % (url, error)
    return None, "%s answers with more than %d bytes" % (url, max_bytes)


def events(url):
    """The kernel's n_evts of a host's own /metrics, or None.

    Only for releases that survive being asked before capture.
    """
    text = scrape(url, EVENTS_BYTES, EVENTS_TIMEOUT)[0]
    return (from_prometheus(text) or {}).get("scap.n_evts") if text else None


def foreign(process, url):
    """Whether another process than Falco answers at a URL of this host: while Falco is down, anybody may
    listen there, and tell what it likes. False where that can't be told.

    process: a processes.Process, or None. All sockets that listen on the port must be among its own, since
    the one with the most exact address gets the connection.
    """
    from urllib.parse import urlsplit

    if process is None:
        return False
    port = urlsplit(url).port or (443 if url.startswith("https") else 80)
    listening = set()
    for name in ("tcp", "tcp6"):
        for line in (host.read("/proc/self/net/" + name, 1 << 22) or "").splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                listening.add("socket:[%s]" % fields[9])
    try:
        handles = os.listdir(process.path + "/fd")
    except OSError:
        return False
    own = {tail.link("%s/fd/%s" % (process.path, handle)) for handle in handles}
    return not listening <= own
