# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Falco has counted since a moment."""

import json

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import since


def _line(**fields):
    return json.dumps({"output_fields": fields}) + "\n"


def test_only_complete_new_snapshots_of_syscalls_count(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(_line(**{"scap.n_evts": 9}))
    mark = since.file_mark(str(path))
    with open(path, "a", encoding="utf-8") as stream:
        stream.write(_line(**{"scap.n_evts": 0}) + "text\n" + _line(**{"evt.source": "k8s_audit"}) + '{"rule": "other"}\n[1]\n'
                     + _line(**{"scap.n_evts": 12}) + '{"output_fields": {"scap.n_evts": 99')
    assert since.new_snapshots(str(path), mark) == [(0, 0, 0), (12, 0, 0)]


def test_a_file_that_was_rotated_is_read_from_its_beginning(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(_line(**{"scap.n_evts": 9}) * 9)
    mark = since.file_mark(str(path))
    path.write_text(_line(**{"scap.n_evts": 3}))
    assert since.new_snapshots(str(path), mark) == [(3, 0, 0)]
    assert since.new_snapshots(str(tmp_path / "gone"), mark) == []


def _run(sample, events, reload_ts=None):
    more = {} if reload_ts is None else {"falco.reload_ts": reload_ts}
    return json.dumps({"output_fields": {"scap.n_evts": events, **more}, "sample": sample}) + "\n"


@pytest.mark.parametrize("before, after, counted", [
    # 0.41 and newer say when they were reloaded; a run may have counted more than the one before it.
    ([(7, 900, 5)], [(8, 950, 5)], []),
    ([(7, 900, 5)], [(8, 950, 5), (1, 2000, 6), (2, 2100, 6)], [2000, 2100]),
    # Before, counters and samples begin anew.
    ([(7, 900)], [(8, 950)], []),
    ([(7, 900)], [(8, 950), (1, 6), (2, 140)], [6, 140]),
    ([(7, 900)], [(1, 2000)], [2000]),
    # Nothing of the old run is in the file: only the first snapshot of a run tells.
    ([], [(8, 950), (9, 990)], []), ([], [(1, 6)], [6]), ([], [(8, 950), (1, 6)], [6]),
])
def test_a_hot_reload_is_told_from_the_run_before_it(before, after, counted, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("text\n" + "".join(_run(*one) for one in before))
    mark = since.file_mark(str(path))
    with open(path, "a", encoding="utf-8") as stream:
        stream.write("".join(_run(*one) for one in after))
    assert [item[0] for item in since.new_snapshots(str(path), mark, reloaded=True)] == counted
    assert [item[0] for item in since.new_snapshots(str(path), mark)] == [one[1] for one in after]


def test_a_file_that_is_cut_short_before_the_reload_still_has_the_old_run(tmp_path):
    """logrotate's copytruncate."""
    path = tmp_path / "metrics.jsonl"
    path.write_text(_run(7, 900, 5) * 9)
    mark = since.file_mark(str(path))
    for after, counted in ([(8, 950, 5)], []), ([(8, 950, 5), (1, 6, 6)], [6]):
        with open(path, "r+", encoding="utf-8") as stream:
            stream.truncate(0)
            stream.write("".join(_run(*one) for one in after))
        assert [item[0] for item in since.new_snapshots(str(path), mark, reloaded=True)] == counted


def test_a_metrics_file_that_is_new_is_of_the_new_configuration(tmp_path):
    path = tmp_path / "metrics.jsonl"
    mark = since.file_mark(str(path))
    path.write_text(_run(3, 40))
    assert since.new_snapshots(str(path), mark, reloaded=True) == [(40, 0, 0)]


@pytest.mark.parametrize("snapshots, percent", [
    ([], None), ([(0, 0, 9)], None), ([(500, 500, 9)], None), ([(2000, 20, 9)], 1.0), ([(2000, 20, 4)], None),
    ([(1000, 900, 1), (3000, 900, 6)], 0.0),  # a burst at the start is not held against it
    ([(100, 90, 1), (300, 90, 9)], None),
    ([(900, 90, 1), (1500, 90, 9)], 6.0), ([(900, 90, 5), (9000, 90, 9)], 1.0),  # too little after the first one: all of them
    ([(9000, 9000, 60), (100, 0, 1), (2100, 200, 9)], 10.0),  # a hot reload in between
])
def test_what_a_host_loses_after_its_change(snapshots, percent):
    assert since.drops_percent(snapshots) == percent
