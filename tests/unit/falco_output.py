# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Falco writes, for the tests of whatever reads it: recorded, or made up by the minute."""

import gzip
import json
import os

from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import falco_lines, snapshots, tail
from ansible_collections.falcotune.fleet.tests.unit.hosts import ROOT


FIXTURES = ROOT / "tests" / "unit" / "fixtures" / "metrics"
EXAMPLES = int(os.environ.get("FALCOTUNE_FUZZ", "300"))
START = 1_700_000_000
RELOAD = 1_700_000_000 * 10**9
NUMBERS = ("seconds", "events", "drops", "drops_percent", "rate", "rate_per_cpu", "drop_rate", "engine_rate", "falco_cpu_percent",
           "falco_cpu_error", "outputs_queue_drops")


def lines(name):
    return (FIXTURES / name).read_bytes().splitlines()


def fields(number, **more):
    """Snapshot `number` of a run, one a minute, 6000 events and 60 drops each."""
    found = {"evt.source": "syscall", "evt.time": (START + 60 * number) * 10**9, "falco.start_ts": START * 10**9,
             "falco.reload_ts": RELOAD, "falco.version": "0.44.1", "falco.host_num_cpus": 2, "scap.n_evts": 6000 * number,
             "scap.n_drops": 60 * number}
    found.update(more)
    return {name: value for name, value in found.items() if value is not None}


def line(number, sample=True, **more):
    value = {"output_fields": fields(number, **more), "sample": number if sample is True else sample}
    return json.dumps(value).encode() + b"\n"


def alert_line(number, **more):
    return json.dumps({"rule": falco_lines.SNAPSHOT_RULE, "source": "internal", "output_fields": fields(number, **more)}).encode() + b"\n"


def text_line(number, **more):
    pairs = " ".join("%s=%s" % (name, json.dumps(value)) for name, value in sorted(fields(number, **more).items()))
    return ("22:13:38.186472615: Informational Falco metrics snapshot (%s)\n" % pairs).encode()


def pair_of(path, min_seconds=60.0, max_bytes=1 << 22, since=None):
    return snapshots.two_snapshots(tail.Tail(str(path), max_bytes, falco_lines.NEEDLE), "metrics_file", min_seconds, since)


def written(tmp_path, *parts):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"".join(parts))
    return path


def minutes(found):
    """Which snapshots of fields() a pair is made of."""
    return tuple((found[name]["evt.time"] // 10**9 - START) // 60 for name in ("first", "last"))


def zipped(content):
    """The same bytes in every second, for ids of tests."""
    return gzip.compress(content, mtime=0)


def aged(path, content, age):
    path.write_bytes(zipped(content) if path.suffix == ".gz" else content)
    os.utime(path, (START - age, START - age))


def sane(window):
    """No number that can't be."""
    json.dumps(window, allow_nan=False)
    since = window["since_start"]
    assert since is None or (since["seconds"] > 0 and 0 <= since["drops"] <= since["events"])
    assert window["snapshot"] is None or all(isinstance(value, (int, float, str)) for value in window["snapshot"].values())
    assert window["age"] is None or window["age"] >= 0
    if window["voided"]:
        assert all(window[name] is None for name in NUMBERS) and not window["drops_by_category"] and not window["userspace"]
        return
    assert 0 <= window["drops"] <= window["events"] and 0 <= window["drops_percent"] <= 100 and window["seconds"] > 0
    for name in NUMBERS:
        assert window[name] is None or window[name] >= 0
    assert window["cpus"] is None or window["cpus"] > 0
    assert sum(window["drops_by_category"].values()) <= window["drops"]
    for number in (*window["drops_by_category"].values(), *window["userspace"].values(), *window["memory"].values()):
        assert number >= 0
    kernel = window["kernel"] or {}
    assert all(number is None or number >= 0 for number in kernel.values()) and (kernel.get("percent") or 0) <= 100
