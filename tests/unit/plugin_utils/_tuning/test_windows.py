# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Windows from two snapshots: Falco's own numbers, and none that can't be."""

import csv
import itertools
import json

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import (
    falco_lines, prometheus, snapshots,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import windows
from ansible_collections.falcotune.fleet.tests.unit.falco_output import FIXTURES, START, fields, lines, sane

PRINTED = ("scap.evts_rate_sec", "scap.evts_drop_rate_sec", "scap.n_drops_perc", "falco.evts_rate_sec")


def recorded():
    """Every metrics line of every recording, as {field: number}, by recording."""
    with open(FIXTURES / "printed.csv", encoding="utf-8", newline="") as stream:
        for key, rows in itertools.groupby(csv.DictReader(stream), lambda row: (row["release"], row["recording"])):
            yield key, [{name: float(text) if name in PRINTED or "perc" in name else int(text)
                         for name, text in row.items() if text and name not in ("release", "recording")} for row in rows]


RECORDED = dict(recorded())


def as_line(row, release):
    inside = {name: value for name, value in row.items() if name != "sample"}
    return json.dumps({"output_fields": dict(inside, **{"evt.source": "syscall", "falco.version": release}), "sample": row["sample"]})


def window_of(older, newer, release, **more):
    pair = snapshots.two_snapshots([as_line(newer, release), as_line(older, release)], "metrics_file", 0)
    return windows.window(pair, releases.release_for(release), **more)


@pytest.mark.parametrize("release,recording", list(RECORDED))
def test_the_numbers_that_falco_printed(release, recording):
    """Rates to their one decimal, the percentage to its last digit."""
    rows, compared = RECORDED[release, recording], 0
    for older, newer in itertools.pairwise(rows):
        if newer["scap.n_evts_prev"] != older["scap.n_evts"] or newer["sample"] <= older["sample"]:
            assert window_of(older, newer, release)["voided"], "a hot reload between them"
            continue
        window = window_of(older, newer, release)
        assert window["voided"] is None
        assert (window["rate"], window["drop_rate"], window["drops_percent"]) == tuple(newer[name] for name in PRINTED[:3])
        assert "falco.evts_rate_sec" not in newer or window["engine_rate"] == newer["falco.evts_rate_sec"]
        compared += 1
    assert compared


def test_enough_was_recorded():
    assert len(RECORDED) >= 40 and sum(len(rows) for rows in RECORDED.values()) > 400
    assert sum(row["scap.n_drops_perc"] > 0 for rows in RECORDED.values() for row in rows) > 30


@pytest.mark.parametrize("name", ["0.44.1-A.jsonl", "0.44.1-B.alerts.jsonl", "0.44.1-C.alerts.txt", "0.44.1-D.jsonl", "0.44.1-G.jsonl",
                                  "0.38.2-A.jsonl", "0.38.2-B.alerts.jsonl", "0.38.2-C.alerts.txt", "0.38.2-D.jsonl"])
def test_the_numbers_in_each_form(name):
    """The true lines of every source: file, rule as JSON, rule as text; with and without empty values."""
    parse = falco_lines.from_text_line if name.endswith("txt") else falco_lines.from_json_line
    found = [snapshot for snapshot in map(parse, lines(name)) if snapshot]
    for older, newer in itertools.pairwise(found):
        window = windows.window({"first": snapshots.reduced(older), "last": snapshots.reduced(newer)}, None)
        assert window["voided"] is None and window["cpus"] == 2
        assert (window["rate"], window["drop_rate"], window["drops_percent"]) == tuple(newer[field] for field in PRINTED[:3])
        assert window["rate_per_cpu"] == pytest.approx(window["rate"] / 2, abs=0.1)
        assert sum(window["drops_by_category"].values()) == window["drops"]


def test_drops_by_category_and_the_rest():
    found = [falco_lines.from_json_line(text) for text in lines("0.44.1-G.jsonl")]
    window = windows.window({"first": snapshots.reduced(found[1]), "last": snapshots.reduced(found[-1])})
    total = found[-1]["scap.n_drops_buffer_total"] - found[1].get("scap.n_drops_buffer_total", 0)
    assert sum(window["drops_by_category"].values()) == window["drops"] == total
    assert window["drops_by_category"]["uncategorised"] < window["drops"] / 10 and window["drops_by_category"]["open"] > 10**6
    assert "bug" not in window["drops_by_category"]


def test_metrics_has_no_enter_drops_so_they_are_uncategorised():
    of_file = snapshots.reduced(falco_lines.from_json_line(lines("0.44.1-G.jsonl")[0]))
    scraped = snapshots.reduced(prometheus.from_prometheus((FIXTURES / "0.44.1-G.prometheus.txt").read_text(),
                                                          now=of_file["evt.time"] + 14 * 10**9))
    window = windows.window({"first": {name: value for name, value in of_file.items() if "enter" not in name}, "last": scraped})
    assert window["voided"] is None and window["drops_by_category"]["uncategorised"] > 300_000
    assert sum(window["drops_by_category"].values()) == window["drops"]


def test_cpu_of_the_window_from_lifetime_averages():
    """Falco beside 10 busy processes used 13.8 and 14.0 % of a CPU by /proc/PID/schedstat (drops/cpu_starved.csv, nice 0)."""
    rows = RECORDED["0.44.1", "drops/raw/heavy_stock_default_p1_c2"]
    for older, newer in ((1, 2), (2, 3), (3, 4), (2, 4)):
        window = window_of(rows[older], rows[newer], "0.44.1")
        assert 13.5 <= window["falco_cpu_percent"] <= 14.3 and abs(window["falco_cpu_percent"] - 13.9) <= window["falco_cpu_error"]
        assert rows[newer]["falco.cpu_usage_perc"] > 19  # what Falco printed


@pytest.mark.parametrize("age,told", [(3600, True), (30 * 86400, False)])
def test_a_lifetime_average_tells_nothing_late_in_life(age, told):
    ages = [{"falco.start_ts": 10**18, "falco.reload_ts": None, "evt.time": 10**18 + (age + later) * 10**9,
             "falco.cpu_usage_perc": 20.0, "scap.n_evts": later} for later in (0, 600)]
    window = windows.window({"first": fields(1, **ages[0]), "last": fields(1, **ages[1])})
    assert (window["falco_cpu_percent"] == 20.0) is told and (window["falco_cpu_percent"] is None) is not told
    assert window["falco_cpu_error"] > 0


def test_kernel_side_cost():
    found = [snapshots.reduced(falco_lines.from_json_line(text)) for text in lines("0.44.1-A.jsonl")]
    window = windows.window({"first": found[1], "last": found[3]})
    assert window["kernel"] == {"run_time_ns": 420581398 - 273985511, "percent": 0.73, "ns_per_event": 1701.9, "syscalls": 338800}
    assert windows.window({"first": fields(1), "last": fields(2)})["kernel"] is None


@pytest.mark.parametrize("more,expected", [
    ({"falco.memory_rss_mb": 57.5, "falco.container_memory_used_bytes": 99}, {"rss": 60293120, "container": 99}),
    ({"falco.memory_rss_kb": 2048, "falco.memory_pss_bytes": 7.0}, {"rss": 2097152, "pss": 7}),
    ({"falco.memory_rss": 57, "falco.memory_vsz": 524288}, {"rss": 57 << 20, "vsz": 512 << 20}),
    ({"falco.memory_rss_mb": "much"}, {}),
])
def test_memory_in_bytes_whatever_the_release(more, expected):
    assert windows.window({"first": fields(1), "last": fields(2, **more)})["memory"] == expected


def test_userspace_counters():
    hidden = {"falco.n_failed_thread_lookups": 3, "falco.n_threads": 9}  # zeros are left out of the first
    window = windows.window({"first": fields(1, **{"falco.n_drops_full_threadtable": 2}),
                             "last": fields(2, **dict(hidden, **{"falco.n_drops_full_threadtable": 7}))})
    assert window["userspace"] == {"n_drops_full_threadtable": 5, "n_failed_thread_lookups": 3, "n_threads": 9}


@pytest.mark.parametrize("first,last,why", [
    ({}, {"evt.time": 1}, "clock was set back"),
    ({"evt.time": 5}, {"evt.time": 5}, "no time passed"),
    ({}, {"scap.n_evts": 5, "scap.n_drops": 61}, "scap.n_evts went down"),
    ({"scap.n_evts": (1 << 64) - 10}, {"scap.n_evts": 90}, "went down"),
    ({}, {"scap.n_drops": 7}, "scap.n_drops went down"),
    ({"scap.n_drops_scratch_map": 7}, {}, "scap.n_drops_scratch_map went down"),
    ({"falco.num_evts": 7}, {"falco.num_evts": 6}, "falco.num_evts went down"),
    ({}, {"falco.start_ts": 7}, "restarted"), ({}, {"falco.reload_ts": 7}, "reloaded"), ({}, {"falco.version": "0.43.0"}, "replaced"),
    ({}, {"scap.n_drops": 900000}, "impossible"), ({}, {"scap.n_drops": (1 << 64) - 1}, "impossible"),
    ({}, {"scap.n_evts": (1 << 64) - 1}, "impossible"),
    ({}, {"scap.n_evts": 1.5}, "no scap.n_evts"), ({"scap.n_evts": None}, {}, "no scap.n_evts"),
    ({}, {"scap.n_evts": "9"}, "no scap.n_evts"),
])
def test_what_voids_a_window(first, last, why):
    window = windows.window({"first": fields(1, **first), "last": fields(2, **last), "source": "metrics_file"})
    assert why in window["voided"] and window["source"] == "metrics_file"
    assert set(window) == set(windows.EMPTY)
    sane(window)


@pytest.mark.parametrize("pair", [None, {}, [], {"reason": "metrics are off"}, {"first": {}}, {"first": 1, "last": 2}, {"alerts": 7},
                                  {"alerts": {"count": 1, "fields": {}}}, {"alerts": {"count": -1, "fields": {"n_evts": 1, "n_drops": 1}}},
                                  {"alerts": {"count": 1, "fields": {"n_evts": 1, "n_drops": 2}}}])
def test_no_pair_no_window(pair):
    window = windows.window(pair)
    assert window["voided"] and set(window) == set(windows.EMPTY)
    assert not isinstance(pair, dict) or "reason" not in pair or window["voided"] == pair["reason"]


def test_cpus_and_release():
    plugins_only = {"falco.host_num_cpus": None}  # falco#2821
    pair = {"first": fields(1, **plugins_only), "last": fields(2, **plugins_only), "source": "journal", "age": 7.5}
    window = windows.window(pair, releases.release_for("0.38.2"), cpus=4)
    assert (window["rate"], window["rate_per_cpu"], window["cpus"], window["enter_events"]) == (100.0, 25.0, 4, True)
    assert (window["age"], window["basis"], window["drops_percent"], window["seconds"]) == (7.5, "counters", 1.0, 60.0)
    window = windows.window(pair, releases.release_for("0.42.0"))
    assert window["rate_per_cpu"] is None and window["rate"] == 100.0 and window["enter_events"] is False
    assert windows.window({"first": fields(1), "last": fields(2)}, None, cpus=64)["cpus"] == 2


def test_an_idle_host():
    window = windows.window({"first": fields(1), "last": fields(1, **{"evt.time": fields(2)["evt.time"]})})
    assert (window["events"], window["drops_percent"], window["rate"], window["drops_by_category"]) == (0, 0.0, 0.0, {})


def test_drop_alerts_are_seconds_with_drops_only():
    alerts = snapshots.Alerts(None)
    for name in ("0.44.1-drops.txt", "0.44.1-drops.jsonl"):
        alerts.add(lines(name)[0])
    window = windows.window({"alerts": alerts.result(), "source": "syslog", "reason": "no snapshots"}, None, cpus=2)
    assert window["basis"] == "drop alerts" and window["voided"] is None and window["seconds"] == 2.0
    assert window["drops"] == 490497 + 470694 and window["drops_percent"] == 100 * 961191 / 1319349
    assert window["rate"] is None and window["rate_per_cpu"] is None
    assert sum(window["drops_by_category"].values()) == window["drops"]


def test_parts_read_ahead_of_their_sum():
    last = fields(2, **{"scap.n_drops_buffer_open_exit": 50, "scap.n_drops_buffer_close_exit": 30})
    assert windows.window({"first": fields(1), "last": last})["drops_by_category"] == {"close": 22, "open": 37}


# The last snapshot alone, and what lies between two audits

def test_since_start_is_told_by_the_last_snapshot():
    whole = fields(7, **{"falco.reload_ts": None})
    alone = {"last": whole, "reason": "only one snapshot", "age": 3.5}
    for pair in ({"first": fields(6, **{"falco.reload_ts": None}), "last": whole}, alone):
        window = windows.window(pair)
        assert window["since_start"] == {"seconds": 420.0, "events": 42000, "drops": 420} and window["snapshot"] == whole
    assert window["voided"] == "only one snapshot" and window["age"] == 3.5 and window["events"] is None and window["basis"] is None
    sane(window)


@pytest.mark.parametrize("more, expected", [
    ({"falco.reload_ts": (START + 400) * 10**9}, {"seconds": 20.0, "events": 42000, "drops": 420}),
    ({"falco.reload_ts": (START - 2) * 10**9}, {"seconds": 420.0, "events": 42000, "drops": 420}),
    ({"scap.n_drops": None}, {"seconds": 420.0, "events": 42000, "drops": 0}),
    ({"falco.start_ts": None}, None), ({"falco.start_ts": 1.5}, None), ({"falco.start_ts": (START + 420) * 10**9}, None),
    ({"falco.reload_ts": (START + 421) * 10**9}, None), ({"scap.n_evts": None}, None), ({"scap.n_drops": 42001}, None),
    ({"scap.n_evts": (1 << 64) - 1}, None),
])
def test_since_start_needs_a_start_before_it(more, expected):
    assert windows.window({"last": fields(7, **more)})["since_start"] == expected


def test_between_two_audits():
    older, newer = (windows.window({"first": fields(number), "last": fields(number + 1)})["snapshot"] for number in (1, 100))
    window = windows.between(older, newer, releases.release_for("0.44.1"), 8)
    assert (window["source"], window["voided"], window["basis"]) == ("between audits", None, "counters")
    assert (window["seconds"], window["events"], window["drops_percent"], window["cpus"]) == (99 * 60.0, 99 * 6000, 1.0, 2)
    assert window["since_start"]["events"] == 101 * 6000 and window["snapshot"] == newer and window["age"] is None
    assert windows.between(json.loads(json.dumps(older)), newer)["events"] == 99 * 6000
    sane(window)


@pytest.mark.parametrize("first, last, why", [
    ({"falco.start_ts": 5}, {}, "restarted"), ({"falco.reload_ts": 5}, {}, "reloaded"), ({"falco.version": "0.43.0"}, {}, "replaced"),
    ({}, {"falco.reload_ts": None}, "reloaded"),
    ({"falco.reload_ts": None}, {"falco.reload_ts": None}, "does not report when it was reloaded"),
    ({"sample": 9}, {"sample": 8}, "sample went down"), ({"scap.n_evts": 10**9}, {}, "scap.n_evts went down"),
    ({"scap.n_drops_buffer_open_exit": 5}, {}, "scap.n_drops_buffer_open_exit went down"), ({"evt.time": 10**19}, {}, "clock was set back"),
])
def test_audits_of_different_runs(first, last, why):
    window = windows.between(fields(1, **first), fields(9, **last))
    assert why in window["voided"] and window["events"] is None and window["snapshot"]["scap.n_evts"] == 54000
    sane(window)


@pytest.mark.parametrize("older, newer, word", [(None, fields(1), "earlier"), ({}, fields(1), "earlier"), (fields(1), None, "later"),
                                                (fields(1), "x", "later"), (fields(1), {"scap.n_evts": []}, "later")])
def test_audits_without_a_snapshot(older, newer, word):
    assert windows.between(older, newer)["voided"] == "there is no snapshot of the %s audit" % word
    assert windows.between(fields(1), fields(1))["voided"].startswith("no time passed")


def test_an_audit_by_file_and_one_by_metrics():
    """/metrics has no enter-side drops."""
    window = windows.between(fields(1, **{"scap.n_drops_buffer_open_enter": 5}), fields(2, **{"scap.n_drops_buffer_open_exit": 9}))
    assert window["voided"] is None and window["drops_by_category"] == {"open": 9, "uncategorised": 51}


def test_a_snapshot_holds_nothing_but_fields():
    evil = dict(fields(2), **{"scap.n\n": 1, "<b>": 2, "falco.version": "<script>", "scap.engine_name": "x" * 65, "falco.x": float("nan"),
                              "falco.y": [1], "falco.z": "\ud800", "scap.w": True, "scap." + "a" * 101: 1})
    evil[7] = 7
    assert windows.window({"last": evil})["snapshot"] == {
        name: value for name, value in fields(2).items() if name != "falco.version"}
    window = windows.window({"last": fields(2), "source": {"a": 1}, "reason": "x" * 9999, "age": "old"})
    assert window["source"] is None and len(window["voided"]) == 2000 and window["age"] is None
    assert len(windows.window({"last": {"scap.f%d" % number: number for number in range(10**4)}})["snapshot"]) == 200


def test_the_snapshot_names_the_release():
    assert windows.window({"last": fields(1, **{"falco.version": "0.38.2"})})["enter_events"] is True
    assert windows.window({"last": fields(1)})["enter_events"] is False
    assert windows.window({"last": fields(1, **{"falco.version": "0.9.0"})})["enter_events"] is None
    assert windows.window({"last": fields(1, **{"falco.version": 7})})["enter_events"] is None
