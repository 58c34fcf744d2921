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


def two_sources(prefix, plugin_last, drops=True, both=False):
    kernel = ['falcosecurity_scap_engine_name_info{engine_name="modern_bpf"} 1', "falcosecurity_%s_n_evts_total 8640000" % prefix]
    kernel += ["falcosecurity_%s_n_drops_total 5000" % prefix] if drops else []
    plugin = ['falcosecurity_scap_engine_name_info{engine_name="source_plugin"} 1', "falcosecurity_%s_n_evts_total 15" % prefix]
    plugin += ["falcosecurity_%s_n_drops_total 1" % prefix] if both else []
    return "\n".join(["falcosecurity_falco_host_num_cpus_total 4"] + (kernel + plugin if plugin_last else plugin + kernel)
                     + ["falcosecurity_falco_outputs_queue_num_drops_total 3", ""])


@pytest.mark.parametrize("prefix", ["falco", "scap"])
@pytest.mark.parametrize("plugin_last", [False, True])
def test_trap_29_of_two_sources_the_kernels_counters_count(prefix, plugin_last, monkeypatch):
    text = two_sources(prefix, plugin_last)
    found = prometheus.from_prometheus(text)
    assert (found["scap.n_evts"], found["scap.n_drops"], found["scap.engine_name"]) == (8640000, 5000, "modern_bpf")
    assert (found["falco.host_num_cpus"], found["falco.outputs_queue_num_drops"]) == (4, 3)
    monkeypatch.setattr(prometheus, "_opener", lambda url: Answer(text))
    assert prometheus.events("http://127.0.0.1/metrics") == 8640000


class Answer:
    """An opener whose every answer is one text."""

    def __init__(self, text):
        self.text = text.encode()

    def open(self, url, timeout):
        return self

    def read1(self, size):
        block, self.text = self.text[:size], self.text[size:]
        return block

    def __enter__(self):
        return self

    def __exit__(self, *dummy):
        return None


@pytest.mark.parametrize("text", [two_sources("scap", False, drops=False), two_sources("scap", True, both=True)])
def test_trap_29_sources_that_can_not_be_told_apart_are_refused(text, monkeypatch):
    assert prometheus.from_prometheus(text) is None and prometheus.kernel_lines(text) is None
    monkeypatch.setattr(prometheus, "scrape", lambda *dummy: (text, None))
    limits = {"max_bytes": 1 << 20, "timeout": 1}
    found = snapshots.two_scrapes({"url": "http://127.0.0.1/metrics", "seconds": 0, "scrape_ok": True}, limits)
    assert "more than one source" in found["reason"] and "upgrade Falco" in found["reason"]


def test_rules_files_are_told_apart_as_by_the_file_beside_it():
    """The lines of a real 0.44.1, and the fields of the file that it wrote in the same run."""
    local, rules = ("25154e0f2012815109f953a95873e2895b2252f6cc8a8f3579edcbdbbacc26a3",
                    "1c15d5d543635b76e31cca39d7df8bf4caf50a428613c314d92986a23bfcb617")
    counters = "falcosecurity_scap_n_evts_total 7\nfalcosecurity_scap_n_drops_total 0\n"
    line = 'falcosecurity_falco_sha256_rules_files_info{file_name="%s",sha256="%s"} 1\n'
    scraped = prometheus.from_prometheus(
        counters + line % ("falco_rules.local.yaml", local) + line % ("falco_rules.yaml", rules), now=1)
    of_file = {"falco.sha256_rules_file.falco_rules_local_yaml": local, "falco.sha256_rules_file.falco_rules_yaml": rules}
    found = snapshots.reduced(scraped)["falco.rules"]
    assert found == snapshots.reduced(of_file)["falco.rules"] == "16ccb4624c6e"
    assert snapshots.reduced(prometheus.from_prometheus(counters + line % ("falco_rules.yaml", rules), now=1))["falco.rules"] != found
