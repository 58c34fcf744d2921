# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever files and scrapes hold: no crash, and no window with a number that can't be. FALCOTUNE_FUZZ=100000 tries more."""

import json
import re

from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import prometheus, snapshots
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import windows
from ansible_collections.falcotune.fleet.tests.unit.falco_output import (
    EXAMPLES, FIXTURES, START, alert_line, fields, line, sane, text_line, zipped)
from hypothesis import given, settings
from hypothesis import strategies as st

FILES = [(FIXTURES / name).read_bytes() for name in (
    "0.44.1-D.jsonl", "0.44.1-G.jsonl", "0.38.2-A.jsonl", "0.38.2-B.alerts.jsonl", "0.38.2-C.alerts.txt", "0.44.1-drops.txt",
    "0.44.1-drops.jsonl")]
FILES += [b"".join(make(number) for number in range(1, 6)) for make in (line, alert_line, text_line)]
SCRAPES = [(FIXTURES / name).read_bytes() for name in ("0.44.1-G.prometheus.txt", "0.38.2-A.prometheus.txt")]
BITS = [b"\n", b"{", b"}", b'"', b"-", b"1e400", b"NaN", b"\0", b"\xff", b",", b'"scap.n_evts":', b" scap.n_drops=", b" (", b")", b"true",
        b"null", b"[]", b"[[[[", b"[" * 5000]
INTEGERS = [b"0", b"1", b"-1", b"1.5", b"4294967296", b"9223372036854775808", b"18446744073709551615", b"18446744073709551616", b"9" * 30]

anywhere = st.floats(0, 1, exclude_max=True)
edits = st.lists(st.one_of(
    st.tuples(st.just("bytes"), anywhere, st.integers(0, 60), st.one_of(st.sampled_from(BITS), st.binary(max_size=8))),
    st.tuples(st.just("number"), anywhere, st.just(0), st.one_of(st.sampled_from(INTEGERS), st.integers(0, 1 << 64).map(b"%d".__mod__))),
    st.tuples(st.just("line"), anywhere, st.integers(0, 5), st.just(b"")),
), min_size=1, max_size=8)


def mutate(data, edits):
    for what, where, number, put in edits:
        at = int(where * len(data))
        if what == "bytes":
            data = data[:at] + put + data[at + number:]
        elif what == "number":
            found = re.compile(rb"(?<![\w.])\d+").search(data, at)
            data = data[:found.start()] + put + data[found.end():] if found else data
        else:
            parts = data.split(b"\n")
            one = int(where * len(parts))
            other = (one + number) % len(parts)
            if other == one:
                del parts[one]  # lost
            elif number == 5:
                parts.insert(other, parts[one])  # repeated
            elif number == 4:
                parts[one] = parts[one][:len(parts[one]) // 2]  # partial
            else:
                parts[one], parts[other] = parts[other], parts[one]
            data = b"\n".join(parts)
    return data


def judged(pair):
    """The window of a pair, as a host sends it."""
    pair = json.loads(json.dumps(pair, allow_nan=False))
    window = windows.window(pair)
    sane(window)
    sane(windows.between(pair.get("first"), pair.get("last")))
    sane(windows.between(window["snapshot"], pair.get("first")))
    return window


def read(folder, data, split=None, packed=False, **limits):
    """What gather() makes of these bytes in a log, the part before `split` in its rotated file."""
    at = 0 if split is None else int(split * len(data))
    (folder / "log").write_bytes(data[at:])
    for name, content in (("log.1", None if packed or not at else data[:at]), ("log.1.gz", zipped(data[:at]) if packed and at else None)):
        (folder / name).unlink(missing_ok=True)
        if content is not None:
            (folder / name).write_bytes(content)
    return snapshots.gather({"alerts_file": str(folder / "log")}, limits=limits)


@settings(max_examples=EXAMPLES)
@given(st.sampled_from(FILES), edits, st.none() | anywhere, st.booleans(), st.sampled_from([0.0, 5.0, 1e6]),
       st.sampled_from([None, START + 100]))
def test_mutated_files(tmp_path_factory, data, edits, split, packed, min_seconds, since):
    judged(read(tmp_path_factory.getbasetemp(), mutate(data, edits), split, packed, min_seconds=min_seconds, since=since))


@settings(max_examples=EXAMPLES)
@given(st.sampled_from(SCRAPES), edits, edits)
def test_mutated_scrapes(data, one, other):
    texts = [mutate(data, changes).decode("utf-8", "replace") for changes in (one, one + other)]
    found = [prometheus.from_prometheus(text, 10**18 + 10**10 * turn) for turn, text in enumerate(texts)]
    if None not in found:
        first, last = (snapshots.reduced(item) for item in found)
        assert isinstance(snapshots.broken(first, last), (str, type(None)))
        judged({"first": first, "last": last, "source": "prometheus"})


def test_most_mutations_leave_something_to_judge(tmp_path):
    """The properties above hold of files without any snapshot too."""
    counted = []

    @settings(max_examples=100)
    @given(st.sampled_from(FILES[-3:]), edits)
    def count(data, edits):
        counted.append(judged(read(tmp_path, mutate(data, edits), min_seconds=1e6))["basis"] == "counters")

    count()
    assert sum(counted) > len(counted) / 3


NAMES = ["evt.time", "falco.start_ts", "falco.reload_ts", "falco.host_num_cpus", "falco.cpu_usage_perc", "falco.num_evts", "scap.n_evts",
         "scap.n_drops", "scap.n_drops_buffer_open_exit", "scap.n_drops_buffer_open_enter", "scap.n_drops_scratch_map", "scap.run_time_ns",
         "scap.sys_exit.run_cnt", "falco.n_threads", "falco.memory_rss_mb", "falco.outputs_queue_num_drops"]
VALUES = st.one_of(st.integers(-5, 1 << 65), st.integers(0, 1000), st.floats(), st.booleans(), st.none(), st.text(max_size=3))
PARTS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=8)


@settings(max_examples=EXAMPLES)
@given(PARTS, PARTS, st.booleans(), st.one_of(st.none(), st.integers(0, 512)))
def test_any_snapshots_make_a_sane_window(first, last, grown, cpus):
    one, other = fields(1), fields(2)
    one.update(first)
    if grown:
        other.update(first)
    other.update(last)
    sane(windows.window({"first": one, "last": other, "age": first.get("evt.time")}, None, cpus))
    sane(windows.between(one, other, None, cpus))
