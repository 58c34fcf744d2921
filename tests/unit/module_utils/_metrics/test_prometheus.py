# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""/metrics as recorded Falcos answered, in the vocabulary of their files; and who may be asked."""

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import (
    falco_lines, prometheus, snapshots,
)
from ansible_collections.falcotune.fleet.tests.unit.falco_output import FIXTURES, lines


@pytest.mark.parametrize("release", ["0.44.1", "0.38.2"])
def test_metrics_and_file_have_one_vocabulary(release):
    scraped = snapshots.reduced(prometheus.from_prometheus((FIXTURES / (release + "-A.prometheus.txt")).read_text(), now=1))
    of_file = snapshots.reduced(falco_lines.from_json_line(lines(release + "-A.jsonl")[-1]))
    unit = {name.replace("_bytes", "_mb") for name in scraped}
    if release == "0.38.2":  # its /metrics had no libbpf fields
        unit |= {"scap.run_time_ns", "scap.sys_exit.run_cnt"}
    assert set(of_file) - unit <= {"falco.num_evts", "sample"}
    assert unit - set(of_file) <= {"scap.run_time_ns", "scap.sys_exit.run_cnt"}
    assert scraped["falco.start_ts"] == of_file["falco.start_ts"] or release == "0.38.2"


def test_metrics_under_drops_are_the_same_run_as_the_file_beside_it():
    of_file = snapshots.reduced(falco_lines.from_json_line(lines("0.44.1-G.jsonl")[-1]))
    scraped = snapshots.reduced(prometheus.from_prometheus((FIXTURES / "0.44.1-G.prometheus.txt").read_text(),
                                                          now=of_file["evt.time"] + 4 * 10**9))
    assert scraped["scap.n_drops"] == 5352254 and scraped["scap.n_drops_buffer_open_exit"] == 2660981
    # The one difference: the enter-side drops of connect, 267790 in the file, are 0 in /metrics.
    assert "scap.n_drops_buffer_connect_enter" in of_file and "scap.n_drops_buffer_connect_enter" not in scraped
    del of_file["scap.n_drops_buffer_connect_enter"]
    assert snapshots.broken(of_file, scraped) is None


def test_a_prometheus_total_with_labels_of_other_releases():
    labelled = 'falcosecurity_scap_n_evts_total 9\nfalcosecurity_scap_n_drops_buffer_total{drop="open",dir="enter"} 3\n'
    old = ('falcosecurity_falco_n_evts_total{raw_name="n_evts"} 9\n'
           'falcosecurity_falco_n_drops_buffer_open_enter_total{raw_name="n_drops_buffer_open_enter"} 3\n')
    for text in (labelled, old):
        assert prometheus.from_prometheus(text)["scap.n_drops_buffer_open_enter"] == 3


def test_two_programs_of_one_name_are_added_up():
    body = ("falcosecurity_scap_n_evts_total 9\nfalcosecurity_scap_ia32_compat_ope_run_time_nanoseconds_total 5\n"
            "falcosecurity_scap_ia32_compat_ope_run_time_nanoseconds_total 7\n")
    assert snapshots.reduced(prometheus.from_prometheus(body))["scap.run_time_ns"] == 12


@pytest.mark.parametrize("url,local", [
    ("http://127.0.0.1:8765/metrics", True), ("https://localhost:8765/metrics", True), ("http://[::1]:8765/metrics", True),
    ("http://127.0.0.1.example.com/", False), ("http://10.0.0.1/", False), ("file:///etc/passwd", False), ("ftp://127.0.0.1/", False),
    ("http://127.0.0.1@192.0.2.1/", False), ("http://localhost:x/", False), ("", False), ("http://[", False),
])
def test_only_loopback(url, local):
    assert prometheus.loopback(url) is local
