# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which two snapshots make a pair, and which source it is taken from."""

import gc
import http.server
import itertools
import json
import os
import socket
import threading
import time

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._host import processes
from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import prometheus, snapshots
from ansible_collections.falcotune.fleet.tests.unit.falco_output import (
    RELOAD, START, alert_line, line, lines, minutes, pair_of, text_line, written)


def test_the_newest_and_the_first_old_enough(tmp_path):
    path = written(tmp_path, *(line(number) for number in range(1, 20)))
    found = pair_of(path, 150)
    assert minutes(found) == (16, 19) and found["seconds"] == 180 and found["source"] == "metrics_file" and found["ended_by"] is None
    assert minutes(pair_of(path, 1e9)) == (1, 19)
    assert len(json.dumps(found)) < 1500


def test_interleaved_alerts_comments_duplicates_and_other_sources(tmp_path):
    alert = b'{"rule":"Shell","output":"n_evts","output_fields":{}}\n'
    audit = line(2, sample=0, **{"evt.source": "k8s_audit"})
    path = written(tmp_path, b"# the guide's own comment: n_evts\n", line(1), alert, line(1), audit,
                   b"\xff\0n_evts\n", line(2), alert * 50, line(2), b"\n\n", line(3), line(3), b'{"output_fields":{"scap.n_evts":77')
    assert minutes(pair_of(path, 100)) == (1, 3)


GUIDE = b"""{
  "output_fields": {
    "evt.source": "syscall",
    "falco.host_num_cpus": 96, # the rates are divided by this
    "falco.evts_rate_sec": 93345.1, # events that reached the rules
    "scap.evts_drop_rate_sec": 0.0, # and those that did not
    "scap.n_drops": 0, # counted since the start
    "scap.n_evts": 48528636923, # the same of all events
    "scap.n_drops_perc": 0.0 # of the last interval
  },
  "sample": 1
}
"""


def test_comments_as_in_the_guides_snippet(tmp_path):
    """The guide shows an object over many lines, with comments that JSON doesn't have."""
    commented = line(3).rstrip() + b" # who wrote this?\n"
    assert minutes(pair_of(written(tmp_path, line(1), GUIDE, line(2), GUIDE, commented, GUIDE, b"# n_evts {}\n"), 100)) == (1, 3)
    assert "no metrics snapshot" in pair_of(written(tmp_path, GUIDE * 3))["reason"]


ENDS = {
    "restart": ([line(1, **{"falco.start_ts": 5}), line(2, **{"falco.start_ts": 5})], None),
    "reload": ([line(1, **{"falco.reload_ts": 5}), line(2, **{"falco.reload_ts": 5})], "hot reload"),
    "sample": ([line(1, sample=8, **{"falco.reload_ts": RELOAD}), line(2, sample=9)], "sample went down"),
    "events": ([line(1, sample=None, **{"scap.n_evts": 10**9}), line(2, sample=None, **{"scap.n_evts": 10**9 + 5})],
               "scap.n_evts went down"),
    "drops": ([line(2, sample=None, **{"scap.n_drops_buffer_open_exit": 7})], "scap.n_drops_buffer_open_exit went down"),
    "clock": ([line(99, sample=None, **{"scap.n_evts": 5})], "clock set back"),
    "wrap": ([line(2, sample=None, **{"scap.n_evts": (1 << 64) - 1})], "scap.n_evts went down"),
    "upgrade": ([line(2, **{"falco.version": "0.44.0"})], "restart"),
}


@pytest.mark.parametrize("earlier, why", ENDS.values(), ids=ENDS)
def test_a_window_never_spans_a_restart(tmp_path, earlier, why):
    found = pair_of(written(tmp_path, *earlier, line(3), line(4), line(5)), 1e6)
    assert minutes(found) == (3, 5)
    assert why is None or why in found["ended_by"]


def test_a_restart_shows_where_the_counter_has_overtaken_the_old_one(tmp_path):
    """0.38 has no reload_ts, the rule no sample: but Falco's own memory of its last count begins at 0."""
    old = {"falco.reload_ts": None}
    path = written(tmp_path, alert_line(1, **old), alert_line(2, **dict(old, **{"scap.n_evts_prev": 0})),
                   alert_line(3, **dict(old, **{"scap.n_evts_prev": 12000})))
    assert minutes(pair_of(path, 1e6)) == (2, 3)


def test_the_first_snapshot_after_a_restart_is_no_window(tmp_path):
    found = pair_of(written(tmp_path, line(1), line(2), line(3, sample=0, **{"falco.reload_ts": 7})))
    assert found["reason"].startswith("only one snapshot of the running Falco since a hot reload")
    assert "first" not in found and found["last"]["scap.n_evts"] == 18000


@pytest.mark.parametrize("wrong", ["many", -1, 1.5, True, None, [1], {}, 1 << 70])
@pytest.mark.parametrize("name", ["falco.num_evts", "scap.n_drops_bug", "falco.n_threads", "falco.start_ts", "sample",
                                  "scap.x.run_time_ns"])
def test_fields_of_a_wrong_type_are_as_good_as_none(tmp_path, name, wrong):
    found = pair_of(written(tmp_path, line(1, **{name: wrong}), line(2), line(3, **{name: wrong}), line(4)), 1e6)
    assert minutes(found)[1] == 4
    assert name in ("falco.start_ts", "falco.n_threads") or name not in found["first"] or found["first"][name] == 1


def test_snapshots_of_an_earlier_process_do_not_count(tmp_path):
    path = written(tmp_path, line(1), line(2), line(3))
    assert "no metrics snapshot" in pair_of(path, since=START + 3600)["reason"]
    assert minutes(pair_of(path, 1e6, since=START + 100)) == (2, 3)


def test_two_falcos_in_one_log(tmp_path):
    other = {"falco.start_ts": START * 10**9 + 5, "scap.n_evts": 3}
    path = written(tmp_path, *(line(number) + line(number, sample=1, **other) for number in range(1, 5)), line(5))
    assert minutes(pair_of(path, 1e6)) == (1, 5)


# Sources

def test_drop_alerts_count_where_there_is_nothing_better(tmp_path):
    path = tmp_path / "alerts"
    path.write_bytes(b"\n".join(lines("0.44.1-drops.txt") * 2 + lines("0.44.1-drops.jsonl")))
    found = snapshots.gather({"alerts_file": str(path), "metrics_file": str(tmp_path / "none")})
    assert found["alerts"]["count"] == 2 and found["alerts"]["undated"] == 1
    assert found["alerts"]["fields"]["n_drops"] == 490497 + 470694
    assert found["source"] == "alerts_file" and "No such file" in found["reason"]
    later = snapshots.gather({"alerts_file": str(path)}, limits={"since": 1795471979.0 + 9})["alerts"]
    assert (later["count"], later["undated"]) == (1, 1)
    path.write_bytes(path.read_bytes() + b"\n" + text_line(1) + text_line(2))
    assert minutes(snapshots.gather({"alerts_file": str(path)})) == (1, 2)


class Served:
    """A /metrics on loopback that answers with each (status, body) in turn, then again with the last."""

    def __init__(self, *answers):
        answers = list(answers)
        self.asked = asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                status, body = answers.pop(0) if len(answers) > 1 else answers[0]
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "http://192.0.2.1/metrics")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *dummy):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d/metrics" % self.server.server_port

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *dummy):
        self.server.shutdown()
        self.server.server_close()


def _body(events, drops=0, start=5):
    return ("falcosecurity_scap_n_evts_total %d\nfalcosecurity_scap_n_drops_total %d\n"
            "falcosecurity_falco_start_timestamp_nanoseconds %d\n" % (events, drops, start)).encode()


def test_two_scrapes(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://192.0.2.1:9")
    with Served((200, _body(100)), (200, _body(300, 4))) as served:
        found = snapshots.gather({"prometheus": {"url": served.url, "seconds": 0.3, "scrape_ok": True}})
    assert found["last"]["scap.n_evts"] - found["first"]["scap.n_evts"] == 200 and found["source"] == "prometheus"
    assert found["seconds"] >= 0.3 and found["bytes_read"] == len(_body(100)) + len(_body(300, 4))


def test_whoever_drips_is_not_waited_for():
    """The time-out of a socket begins anew with each byte: a listener could hold an audit for hours."""
    listener = socket.create_server(("127.0.0.1", 0))

    def drip():
        connection, _address = listener.accept()
        with connection:
            try:
                for byte in itertools.chain(b"HTTP/1.1 200 OK\r\n", itertools.cycle(b"X-Drip: 1\r\n")):
                    connection.send(bytes((byte,)))
                    time.sleep(0.05)
            except OSError:
                pass

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    text, reason = prometheus.scrape("http://127.0.0.1:%d/metrics" % listener.getsockname()[1], 1000, 0.5)
    listener.close()
    gc.collect()  # the alarm may come between the opening of a socket and the code that would close it
    thread.join(10)
    assert text is None and "no whole answer within 0.5 s" in reason and not thread.is_alive()


def test_a_foreign_listener_is_not_asked():
    """Its port is free while Falco is down, and anybody may open it."""
    ours, others = processes.Process("", os.getpid()), processes.Process("", 1)
    with Served((200, _body(100))) as served:
        assert not prometheus.foreign(ours, served.url)
        if os.geteuid() == 0:
            assert prometheus.foreign(others, served.url)
            source = {"url": served.url, "seconds": 0.1, "scrape_ok": True, "foreign": lambda: prometheus.foreign(others, served.url)}
            found = snapshots.gather({"prometheus": source})
            assert "another process than Falco listens at %s" % served.url in found["reason"] and served.asked == []
        with socket.create_server(("127.0.0.2", served.server.server_port)):
            assert not prometheus.foreign(ours, served.url)
    assert not prometheus.foreign(others, served.url)  # nobody listens there


@pytest.mark.parametrize("answers,word", [
    ([(200, _body(100)), (200, _body(50))], "went down) between the two scrapes"),
    ([(200, _body(100)), (200, _body(500, start=6))], "restart between the two scrapes"),
    ([(404, b"")], "404"), ([(302, b"")], "302"), ([(200, b"")], "no counters"), ([(200, b"\0\xff" * 9999)], "no counters"),
    ([(200, b"x" * 300_000)], "more than"),
])
def test_scrapes_that_make_no_pair(answers, word):
    with Served(*answers) as served:
        found = snapshots.gather({"prometheus": {"url": served.url, "seconds": 0, "scrape_ok": True}}, limits={"max_bytes": 400_000})
    assert word in found["reason"] and "first" not in found


def test_nothing_is_scraped_without_leave(tmp_path):
    with Served((200, _body(100))) as served:
        source = {"url": served.url, "seconds": 0, "scrape_ok": False, "reason": "0.38.2 dies of an early scrape"}
        assert "0.38.2 dies" in snapshots.gather({"prometheus": source})["reason"]
        path = written(tmp_path, line(1), line(2))
        source = dict(source, seconds=10, scrape_ok=True)
        found = snapshots.gather({"prometheus": source, "metrics_file": str(path)}, limits={"min_seconds": 3600})
        assert minutes(found) == (1, 2) and served.asked == []
        answers = [False]
        assert "ring buffers" in snapshots.gather({"prometheus": dict(source, reason=None, scrape_ok=lambda: answers.pop())})["reason"]
        assert served.asked == [] and answers == []
        answers = [False, True]  # a hot reload begins between the two scrapes
        asked = dict(source, seconds=0, reason=None, scrape_ok=lambda: answers.pop())
        assert "ring buffers" in snapshots.gather({"prometheus": asked})["reason"]
        assert served.asked == ["/metrics"]


def test_the_order_is_the_callers_and_the_best_pair_wins(tmp_path):
    short, long = tmp_path / "short", tmp_path / "long"
    short.write_bytes(line(8) + line(9))
    long.write_bytes(line(1) + line(4))
    sources = {"metrics_file": str(short), "alerts_file": str(long), "syslog": [str(tmp_path / "none"), str(long)]}
    assert snapshots.gather(sources)["source"] == "metrics_file"
    assert snapshots.gather(sources, ["alerts_file", "metrics_file"])["source"] == "alerts_file"
    assert snapshots.gather(sources, limits={"min_seconds": 150})["source"] == "alerts_file"
    assert snapshots.gather(sources, ["syslog"])["source"] == "syslog"
    assert "metrics.enabled" in snapshots.gather({})["reason"]


def test_one_snapshot_so_far_is_told_beside_the_reason(tmp_path):
    one, other, alerts = tmp_path / "one", tmp_path / "other", tmp_path / "alerts"
    one.write_bytes(line(3))
    other.write_bytes(line(2))
    alerts.write_bytes(b"\n".join(lines("0.44.1-drops.txt")))
    found = snapshots.gather({"metrics_file": str(one), "syslog": str(other)})
    assert found["last"]["scap.n_evts"] == 18000 and found["source"] == "metrics_file" and found["age"] > 0
    assert "metrics_file: only one snapshot" in found["reason"] and "syslog: only one snapshot" in found["reason"]
    found = snapshots.gather({"metrics_file": str(one), "alerts_file": str(alerts)})
    assert found["alerts"]["count"] == 1 and found["source"] == "alerts_file" and found["last"]["scap.n_evts"] == 18000
    assert "last" not in snapshots.gather({"metrics_file": str(tmp_path / "none")})


def test_the_best_of_several_files_of_one_source_within_one_cap(tmp_path):
    paths = [tmp_path / name for name in ("empty", "short", "long")]
    for path, content in zip(paths, (b"", line(8) + line(9), line(1) * 500 + line(4)), strict=True):
        path.write_bytes(content)
    sources = {"metrics_file": [str(path) for path in paths]}
    assert minutes(snapshots.gather(sources, limits={"min_seconds": 150})) == (1, 4)
    assert minutes(snapshots.gather(sources)) == (8, 9)
    assert minutes(snapshots.gather(sources, limits={"min_seconds": 150, "enough": 60})) == (8, 9)
    assert minutes(snapshots.gather(sources, limits={"min_seconds": 150, "enough": 100})) == (1, 4)
    assert minutes(snapshots.gather(sources, limits={"min_seconds": 50, "enough": 100})) == (8, 9)
    other = {"metrics_file": sources["metrics_file"][1], "syslog": sources["metrics_file"][2]}
    assert snapshots.gather(other, limits={"min_seconds": 150, "enough": 60})["source"] == "metrics_file"
    assert snapshots.gather(other, limits={"min_seconds": 150})["source"] == "syslog"
    found = snapshots.gather(sources, limits={"min_seconds": 150, "max_bytes": 1000})
    assert minutes(found) == (8, 9) and found["bytes_read"] <= 1000


def uncounted(sample, source="syscall", **more):
    fields = dict({"evt.source": source, "evt.time": (1750000000 + 30 * sample) * 10 ** 9, "falco.version": "0.40.0",
                   "falco.num_evts": 10 ** 7 + sample, "scap.engine_name": "modern_bpf"}, **more)
    return json.dumps({"sample": sample, "output_fields": fields}) + "\n"


def test_snapshots_without_kernel_counters_are_told_from_none(tmp_path):
    """One collector serves both sources of Falco 0.40: its lines of system calls may have no scap.n_evts."""
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(uncounted(number, source) for number in range(40) for source in ("k8s_audit", "syscall")))
    found = snapshots.gather({"metrics_file": str(path)}, limits={"since": 1750000000.0})
    assert found["uncounted"] is True and "no kernel counters" in found["reason"] and "To measure" not in found["reason"]
    # Those of another process, those of another source, and none.
    assert "uncounted" not in snapshots.gather({"metrics_file": str(path)}, limits={"since": 1760000000.0})
    path.write_text(uncounted(1, "k8s_audit") * 3)
    assert "uncounted" not in snapshots.gather({"metrics_file": str(path)})
    path.write_text("")
    assert "uncounted" not in snapshots.gather({"metrics_file": str(path)})
    # One with counters is a measurement.
    path.write_text(uncounted(1) + uncounted(2, **{"scap.n_evts": 7}))
    assert "uncounted" not in snapshots.gather({"metrics_file": str(path)})


def counted(at, events, drops, **more):
    return json.dumps({"hostname": "h", "output_fields": dict({
        "evt.source": "syscall", "evt.time": at * 10 ** 9, "falco.start_ts": 5, "falco.reload_ts": 5, "falco.version": "0.44.1",
        "falco.num_evts": events, "scap.n_evts": events, "scap.n_drops": drops}, **more), "rule": "Falco internal: metrics snapshot",
        "sample": at}).encode()


def test_the_intervals_that_lost_most_and_the_cpus_that_did():
    counts = [(100, 1000, 0), (130, 2000, 0), (160, 9000, 4000), (190, 10000, 4000), (220, 30000, 9000)]
    lines = [counted(at, events, drops, **{"scap.n_evts_cpu_0": events, "scap.n_drops_cpu_0": drops - drops // 4,
                                        "scap.n_evts_cpu_1": 5, "scap.n_drops_cpu_1": drops // 4, "scap.n_drops_cpu_2": 7})
             for at, events, drops in counts]
    found = snapshots.two_snapshots(reversed(lines), "metrics_file", 100)
    assert found["intervals"] == {"count": 4, "losing": 2, "worst": [
        {"ns": 30 * 10 ** 9, "events": 20000, "drops": 5000}, {"ns": 30 * 10 ** 9, "events": 7000, "drops": 4000}]}
    assert found["cpus"] == {"count": 2, "worst": [[0, 6750], [1, 2250]]}


def test_without_counters_of_cpus_none_are_told():
    lines = [counted(at, 1000 * at, at) for at in (100, 200)]
    assert snapshots.two_snapshots(reversed(lines), "metrics_file", 60)["cpus"] is None
