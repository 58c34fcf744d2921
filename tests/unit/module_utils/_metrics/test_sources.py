# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files a running Falco writes: real handles of this very process, and processes on paper."""

import contextlib
import os
import socket

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._host import processes
from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import snapshots, sources, tail
from ansible_collections.falcotune.fleet.tests.unit.falco_output import alert_line, line, lines, minutes, text_line, zipped

UNIT = {"Id": "falco-modern-bpf.service", "MainPID": "812"}
# One ring of 8 MiB, as the modern eBPF driver maps it.
MAPS = "7f0000000000-7f0001001000 r--s %08x 00:10 1038     anon_inode:bpf-map\n" % os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def us():
    """This process, whose handles are real."""
    return processes.Process("", os.getpid())


@pytest.fixture
def paper(tmp_path):
    """A process on paper: ROOT/proc/812."""
    (tmp_path / "proc/812/root").mkdir(parents=True)
    (tmp_path / "proc/812/fd").mkdir()
    (tmp_path / "proc/812/fdinfo").mkdir()
    return processes.Process(str(tmp_path), 812)


@contextlib.contextmanager
def opened(*paths, flags=os.O_WRONLY | os.O_APPEND | os.O_CREAT):
    handles = [os.open(path, flags) for path in paths]
    try:
        yield handles
    finally:
        for handle in handles:
            os.close(handle)


def ours(found, folder):
    """The paths below a folder, as they are without /proc/PID/root."""
    prefix = "/proc/%d/root" % os.getpid()
    return [path.replace(prefix, "") for path in found if str(folder) in path]


def test_files_open_for_writing_are_found_once_and_others_are_not(tmp_path, us):
    both, read, fifo = (tmp_path / name for name in ("both", "read", "fifo"))
    read.write_bytes(line(1))
    os.mkfifo(fifo)
    with opened(tmp_path / "a", tmp_path / "a", tmp_path / "b"), opened(both, flags=os.O_RDWR | os.O_CREAT), \
            opened(read, tmp_path, flags=os.O_RDONLY), opened(fifo, flags=os.O_RDWR), socket.socket(), opened("/dev/null"):
        assert ours(sources.written_by(us), tmp_path) == [str(tmp_path / name) for name in ("a", "b", "both")]


def test_a_renamed_file_has_its_new_name_and_a_deleted_one_its_handle(tmp_path, us):
    with opened(tmp_path / "a", tmp_path / "b") as (first, second):
        os.write(second, line(1) + line(2))
        os.rename(tmp_path / "a", tmp_path / "a.1")
        os.unlink(tmp_path / "b")
        found = sources.written_by(us)
        assert ours(found, tmp_path) == [str(tmp_path / "a.1")]
        assert "/proc/%d/fd/%d" % (os.getpid(), second) in found and first
        assert minutes(snapshots.gather(dict(sources.of("", None, us, {}), journal=None))) == (1, 2)


def test_a_file_of_another_mount_namespace_is_reached_by_its_handle(tmp_path, paper):
    """The name leads to another file in the process's root as we see it, or to none."""
    (tmp_path / "real").write_bytes(line(1) + line(2))
    (tmp_path / "proc/812/fd/5").symlink_to(tmp_path / "real")
    (tmp_path / "proc/812/fdinfo/5").write_text("pos:\t0\nflags:\t0102001\nmnt_id:\t29\n")
    assert sources.written_by(paper) == [paper.path + "/fd/5"]
    other = paper.path + "/root" + str(tmp_path / "real")
    os.makedirs(os.path.dirname(other))
    with open(other, "wb") as stream:
        stream.write(line(9))
    assert sources.written_by(paper) == [paper.path + "/fd/5"]
    os.unlink(other)
    os.link(tmp_path / "real", other)
    assert sources.written_by(paper) == [other]


def test_handles_that_tell_nothing(tmp_path, paper):
    for number, target in ((1, "socket:[77]"), (2, "anon_inode:bpf-map"), (3, "/nowhere"), (4, str(tmp_path / "log")), (5, "/dev/zero")):
        (tmp_path / ("proc/812/fd/%d" % number)).symlink_to(target)
    (tmp_path / "log").write_bytes(line(1))
    (tmp_path / "proc/812/fdinfo/5").write_text("flags:\t0100001\n")
    assert sources.written_by(paper) == []  # 4 has no flags
    (tmp_path / "proc/812/fdinfo/4").write_text("flags:\t0100000\n")
    assert sources.written_by(paper) == []  # and now is read only
    assert sources.written_by(processes.Process(str(tmp_path), 813)) == []


KINDS = {
    "metrics": (line(1) + line(2), "metrics_file"),
    "other-source": (line(1, **{"evt.source": "k8s_audit"}), "metrics_file"),
    "alerts": (alert_line(1), "alerts_file"),
    "text": (text_line(1), "alerts_file"),
    "drops": (b"\n".join(lines("0.44.1-drops.txt")), "alerts_file"),
    "one-alert": (b'{"rule":"x","output_fields":{}}\n', "alerts_file"),
    "begun": (line(1) + line(2)[:50], "metrics_file"),
    "foreign": (b"one\ntwo\n" * 200, None), "binary": (bytes(range(256)) * 2000, None), "json": (b'{"a":1}\n', None), "empty": (b"", None),
    "late": (line(1) + b"n_evts\n" * 200, None),
}


@pytest.mark.parametrize("content, expected", KINDS.values(), ids=KINDS)
def test_whose_a_file_is_shows_in_its_last_lines(tmp_path, content, expected):
    path = tmp_path / "log"
    path.write_bytes(content)
    assert sources.kind(str(path)) == expected


def test_whose_an_empty_file_is_shows_in_its_rotated_ones(tmp_path):
    (tmp_path / "log").write_bytes(b"")
    (tmp_path / "log.1.gz").write_bytes(zipped(line(1)))
    assert sources.kind(str(tmp_path / "log")) == "metrics_file"


def test_what_falco_has_open_is_sorted_by_what_it_is(tmp_path, us):
    with opened(tmp_path / "m", tmp_path / "a", tmp_path / "capture.scap") as (first, second, third):
        os.write(first, line(1) + line(2))
        os.write(second, alert_line(1))
        os.write(third, b"\x0a\x0d\x0d\x0a" * 1000)
        found = sources.of("", UNIT, us, {})
        assert ours(found["metrics_file"], tmp_path) == [str(tmp_path / "m")]
        assert ours(found["alerts_file"], tmp_path) == [str(tmp_path / "a")]
        assert found["journal"] == {"pid": os.getpid()} and "prometheus" not in found
        assert minutes(snapshots.gather(found)) == (1, 2)
        named = sources.of("", UNIT, us, {"metrics_file": str(tmp_path / "a")})
        assert ours(named["metrics_file"], tmp_path) == ours(named["alerts_file"], tmp_path) == [str(tmp_path / "a")]


def test_named_files_are_meant_as_falco_sees_them(tmp_path, paper):
    inside = tmp_path / "proc/812/root/var/log"
    inside.mkdir(parents=True)
    (inside / "m.log").write_bytes(b"")
    (tmp_path / "proc/812/cwd").symlink_to("/var/log")
    (tmp_path / "here").write_bytes(b"")
    assert sources.seen_by(paper, "/var/log/m.log") == str(inside / "m.log")
    assert sources.seen_by(paper, "m.log") == paper.path + "/root/var/log/m.log"
    assert sources.seen_by(paper, "/var/log/gone.log") == paper.path + "/root/var/log/gone.log"
    assert sources.seen_by(paper, str(tmp_path / "here")) == str(tmp_path / "here")
    assert sources.seen_by(paper, "/proc/7/root/x") == "/proc/7/root/x"
    assert sources.seen_by(None, "/var/log/m.log") == "/var/log/m.log"


def test_without_a_process(tmp_path):
    assert sources.of(str(tmp_path), UNIT, None, {}) == {
        "metrics_file": [], "alerts_file": [], "syslog": [], "journal": {"unit": "falco-modern-bpf.service"}}
    assert "journal" not in sources.of(str(tmp_path), None, None, {})
    (tmp_path / "var/log").mkdir(parents=True)
    (tmp_path / "var/log/messages").write_bytes(b"")
    assert sources.of(str(tmp_path) + "/", None, None, {})["syslog"] == [str(tmp_path / "var/log/messages")]
    assert sources.of(str(tmp_path), None, None, {"syslog": ["/x"]})["syslog"] == ["/x"]
    assert sources.of(str(tmp_path), None, None, {"syslog": []})["syslog"] == []


def test_a_scrape_waits_for_ring_buffers_in_the_memory_map(tmp_path, paper):
    url = "http://127.0.0.1:1/metrics"
    found = sources.of(str(tmp_path), UNIT, paper, {"prometheus_url": url, "prometheus_seconds": 0.1})["prometheus"]
    assert (found["url"], found["seconds"]) == (url, 0.1) and found["scrape_ok"]() is False
    answer = snapshots.gather({"prometheus": found})
    assert "not asked" in answer["reason"] and "kills Falco before 0.41.1" in answer["reason"]
    (tmp_path / "proc/812/maps").write_text("7f0000000000-7f0000001000 r--p 00000000 00:10 1038 /usr/bin/falco\n")
    assert found["scrape_ok"]() is False
    (tmp_path / "proc/812/maps").write_text(MAPS)
    assert found["scrape_ok"]() is True
    assert "refused" in snapshots.gather({"prometheus": found})["reason"]
    assert sources.of("", UNIT, None, {"prometheus_url": url})["prometheus"]["scrape_ok"]() is False
    assert sources.of("", UNIT, None, {"prometheus_url": url, "scrape_ok": True})["prometheus"]["scrape_ok"] is True


def test_the_running_process_and_its_start(tmp_path, paper):
    (tmp_path / "proc/stat").write_text("btime 1000\n")
    assert sources.running(str(tmp_path), UNIT) == (None, None, None)
    (tmp_path / "proc/812/stat").write_text("812 (falco) S 1 812 812 0 -1 4194304 1 2 3 4 70 30 0 0 20 0 3 0 4711 1 2\n")
    process, start, since = sources.running(str(tmp_path) + "/", UNIT)
    assert process.path == paper.path and start == 4711 and since == pytest.approx(1000 + 4711 / os.sysconf("SC_CLK_TCK"))
    assert sources.running(str(tmp_path), None) == sources.running(str(tmp_path), {"MainPID": "0"}) == (None, None, None)


def test_handles_that_may_not_be_listed(tmp_path, monkeypatch, paper):
    monkeypatch.setattr(sources.os, "access", lambda path, mode: False)
    monkeypatch.setattr(sources, "running", lambda root, unit: (paper, 1, None))
    found = sources.gather(str(tmp_path), None, {}, ["metrics_file", "syslog"])
    assert found["reason"].endswith("; the files that Falco has open can't be listed: run with become")


def test_a_name_with_a_nul_in_a_link_chain(tmp_path):
    with pytest.raises(tail.Refused):
        tail.resolved(str(tmp_path) + "/\0")
