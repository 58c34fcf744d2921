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


@pytest.mark.parametrize("snapshots, percent", [
    ([], None), ([(0, 0, 9)], None), ([(500, 500, 9)], None), ([(2000, 20, 9)], 1.0), ([(2000, 20, 4)], None),
    ([(1000, 900, 1), (3000, 900, 6)], 0.0),  # a burst at the start is not held against it
    ([(100, 90, 1), (300, 90, 9)], None),
    ([(900, 90, 1), (1500, 90, 9)], 6.0), ([(900, 90, 5), (9000, 90, 9)], 1.0),  # too little after the first one: all of them
    ([(9000, 9000, 60), (100, 0, 1), (2100, 200, 9)], 10.0),  # a hot reload in between
])
def test_what_a_host_loses_after_its_change(snapshots, percent):
    assert since.drops_percent(snapshots) == percent
