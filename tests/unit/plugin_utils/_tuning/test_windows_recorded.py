# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole recordings of real Falcos, where they are at hand, read as a host's files are: the numbers that Falco printed.

FALCOTUNE_RECORDINGS names their directories (separated by colons); the fixtures beside these tests were cut from them.
"""

import itertools
import os
from pathlib import Path

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import (
    falco_lines, prometheus, snapshots, tail,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import windows
from ansible_collections.falcotune.fleet.tests.unit.falco_output import sane
from ansible_collections.falcotune.fleet.tests.unit.hosts import ROOT

NAMED = [Path(name) for name in os.environ.get("FALCOTUNE_RECORDINGS", "").split(os.pathsep) if name]
ROOTS = [path for path in NAMED or sorted((ROOT.parent / "shared").glob("recordings*")) if path.is_dir()]
PRINTED = {"rate": "scap.evts_rate_sec", "drop_rate": "scap.evts_drop_rate_sec", "drops_percent": "scap.n_drops_perc",
           "engine_rate": "falco.evts_rate_sec"}


def read(path):
    """Every snapshot that one file holds, oldest first; the same one on two outputs counts once."""
    lines = tail.Tail(str(path), 1 << 26, falco_lines.NEEDLE)
    found = [falco_lines.from_json_line(line) or falco_lines.from_text_line(line) for line in lines]
    return [item for item in reversed(found) if item]


def neighbours(found):
    """Snapshots that Falco made one after the other: each remembers the count of the one before."""
    for older, newer in itertools.pairwise(found):
        if newer.get("scap.n_evts_prev") == older["scap.n_evts"] and newer["evt.time"] > older["evt.time"]:
            yield older, newer


def of_root(root):
    return [path for path in sorted(root.rglob("*")) if path.suffix in (".jsonl", ".txt") and path.is_file()]


@pytest.mark.skipif(not ROOTS, reason="no recordings at hand")
@pytest.mark.parametrize("root", ROOTS, ids=lambda path: path.name)
def test_the_numbers_that_falco_printed(root):
    compared = dict.fromkeys(PRINTED, 0)
    dropped = 0
    for path in of_root(root):
        for older, newer in neighbours(read(path)):
            window = windows.window({"first": snapshots.reduced(older), "last": snapshots.reduced(newer)})
            assert window["voided"] is None, path
            sane(window)
            for name, field in PRINTED.items():
                if field in newer:
                    assert window[name] == newer[field], (path, newer["evt.time"], field)
                    compared[name] += 1
            dropped += newer["scap.n_drops_perc"] > 0
    assert min(compared.values()) >= 5 and dropped, compared


@pytest.mark.skipif(not ROOTS, reason="no recordings at hand")
@pytest.mark.parametrize("root", ROOTS, ids=lambda path: path.name)
def test_the_first_percentage_is_the_one_since_the_start(root):
    first = [item for path in of_root(root) for item in read(path) if item.get("scap.n_evts_prev") == 0 < item["scap.n_evts"]]
    for item in first:
        since = windows.window({"last": snapshots.reduced(item)})["since_start"]
        assert windows.percent(since["drops"], since["events"]) == item["scap.n_drops_perc"]
    assert len(first) > 3


@pytest.mark.skipif(not ROOTS, reason="no recordings at hand")
@pytest.mark.parametrize("root", ROOTS, ids=lambda path: path.name)
def test_any_pair_of_any_file_is_sane(root):
    """Pairs from gather(), as a host sends them; those of a run that was reloaded begin after the reload."""
    pairs = 0
    for path in of_root(root):
        for seconds in (0, 12, 1e6):
            window = windows.window(snapshots.gather({"alerts_file": str(path)}, limits={"min_seconds": seconds, "max_bytes": 1 << 26}))
            sane(window)
            pairs += window["basis"] == "counters"
    assert pairs > 20


@pytest.mark.skipif(not ROOTS, reason="no recordings at hand")
@pytest.mark.parametrize("root", ROOTS, ids=lambda path: path.name)
def test_what_metrics_answered(root):
    bodies = [path.read_text(encoding="utf-8") for path in sorted(root.rglob("*_metrics.txt"))]
    found = [prometheus.from_prometheus(text, now=1) for text in bodies if "n_evts_total" in text]
    assert found and all(item["scap.n_evts"] > 0 and item["falco.start_ts"] > 0 for item in found)
