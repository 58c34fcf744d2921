# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines as recorded Falcos wrote them, and what others write into the same logs."""

import json

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import falco_lines, prometheus
from ansible_collections.falcotune.fleet.tests.unit.falco_output import FIXTURES, alert_line, line, lines, text_line


@pytest.mark.parametrize("release,cpus_seen", [("0.44.1", 2), ("0.38.2", 2)])
def test_every_recorded_form_is_read(release, cpus_seen):
    of_file = [falco_lines.from_json_line(item) for item in lines(release + "-A.jsonl")]
    of_rule = [found for found in map(falco_lines.from_json_line, lines(release + "-B.alerts.jsonl")) if found]
    of_text = [found for found in map(falco_lines.from_text_line, lines(release + "-C.alerts.txt")) if found]
    scraped = prometheus.from_prometheus((FIXTURES / (release + "-A.prometheus.txt")).read_text(), now=1)
    for found in (*of_file, *of_rule, *of_text, scraped):
        assert found["falco.version"] == release and found["falco.host_num_cpus"] == cpus_seen
        assert found["scap.engine_name"] == "modern_bpf" and found["evt.source"] == "syscall"
        assert isinstance(found["scap.n_evts"], int) and isinstance(found["falco.start_ts"], int)
    assert [found["sample"] for found in of_file] == ([0, 1, 2, 3] if release == "0.44.1" else [1, 2, 3])
    assert len(of_rule) == len(of_text) == len(of_file)
    assert set(of_rule[-1]) == set(of_file[-1]) - {"sample"} or release == "0.38.2"


@pytest.mark.parametrize("name,drops,dated", [("0.44.1-drops.txt", 490497, False), ("0.44.1-drops.jsonl", 470694, True)])
def test_recorded_drop_alerts(name, drops, dated):
    found = falco_lines.drop_alert(lines(name)[0])
    assert found["fields"]["n_drops"] == drops and "ebpf_enabled" not in found["fields"]
    assert (found["time"] == 1795471979.0) if dated else (found["time"] is None)


# Who may speak for Falco

PREFIXES = (b"", b"Nov 23 22:13:38 vm falco[812]: ", b"2026-11-23T22:13:38.186472+01:00 web-1 falco: ", b"<134>1 - vm falco 812 - - ")


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("make", [alert_line, text_line])
def test_syslog_prefixes(prefix, make):
    text = prefix + make(3)
    found = falco_lines.from_json_line(text) or falco_lines.from_text_line(text)
    assert found["scap.n_evts"] == 18000 and found["falco.version"] == "0.44.1"


def test_time_in_iso_8601():
    text = text_line(3).replace(b"22:13:38.186472615:", b"2026-11-23T22:13:38.186472615+0000:")
    assert falco_lines.from_text_line(text)["scap.n_evts"] == 18000


@pytest.mark.parametrize("quoted", [text_line(9).strip(), alert_line(9).strip()])
def test_a_command_line_can_not_speak_for_falco(quoted):
    for alert in (b"22:13:40.186472615: Warning Shell (user=joe command=echo %s)", b"22:13:40.186472615: Notice cmd | %s",
                  b"Nov 23 22:13:38 vm falco[812]: 22:13:40.186472615: Warning %s"):
        text = alert % quoted
        assert falco_lines.from_json_line(text) is None and falco_lines.from_text_line(text) is None
    text = json.dumps({"rule": "Shell", "output": quoted.decode(), "output_fields": {"proc.cmdline": quoted.decode()}})
    assert falco_lines.from_json_line(text) is None and falco_lines.from_text_line(text) is None


@pytest.mark.parametrize("text", [
    b"", b"\n", b"{", b"[]", b"{}", b"null", b'{"output_fields": 7, "sample": 1}', b"# metrics:", b"\xff\xfe\0\0", b"[" * 100000,
    b'{"sample":1,"output_fields":' + b"[" * 100000, line(1)[:-20], text_line(3)[:-20], text_line(3).rstrip()[:-1],
    line(1, **{"scap.n_evts": -1}), line(1, **{"scap.n_evts": 1.5}), line(1, **{"scap.n_evts": "7"}), line(1, **{"scap.n_evts": True}),
    line(1, **{"scap.n_evts": 1 << 64}), line(1, **{"scap.n_drops": -3}), line(1, **{"evt.time": None}),
    line(1, **{"scap.n_evts": None}), line(1, **{"evt.source": "k8s_audit"}),
    b'{"sample":1,"output_fields":{"scap.n_evts":' + b"9" * 5000 + b"}}",
    b'{"sample":1,"output_fields":{"scap.n_evts":NaN,"evt.time":Infinity}}', line(1).rstrip() + b", and more", line(1).rstrip() + line(2),
], ids=lambda text: ascii(text[:40]))
def test_what_is_no_snapshot(text):
    assert falco_lines.from_json_line(text) is None and falco_lines.from_text_line(text) is None
    assert falco_lines.drop_alert(text) is None


def test_names_without_prefix():
    bare = {"evt.source": "syscall", "evt.time": 5, "n_evts": 9, "n_drops": 1, "n_drops_full_threadtable": 4, "memory_rss": 50}
    found = falco_lines.from_json_line(json.dumps({"sample": 1, "output_fields": bare}))
    assert found["scap.n_evts"] == 9 and found["falco.n_drops_full_threadtable"] == 4 and found["falco.memory_rss"] == 50


def test_numbers_that_are_none():
    text = line(3)[:-2].replace(b'"output_fields": {', b'"output_fields": {"falco.n_threads": NaN, "falco.memory_rss_mb": -Infinity, '
                                b'"falco.cpu_usage_perc": 1e999, "falco.num_evts": ' + b"1" * 30 + b", ") + b"}"
    found = falco_lines.from_json_line(text)
    assert found["scap.n_evts"] == 18000
    assert not {"falco.n_threads", "falco.memory_rss_mb", "falco.cpu_usage_perc", "falco.num_evts"} & set(found)


def test_a_comment_behind_a_line():
    assert falco_lines.from_json_line(line(3).rstrip() + b" # n_evts")["scap.n_evts"] == 18000
