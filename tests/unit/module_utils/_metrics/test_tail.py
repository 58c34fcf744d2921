# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a log: of any size, content and kind, rotated, growing or shrinking meanwhile."""

import os
import random
import socket

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import falco_lines, snapshots, tail
from ansible_collections.falcotune.fleet.tests.unit.falco_output import EXAMPLES, START, aged, line, minutes, pair_of, written, zipped
from hypothesis import given, settings
from hypothesis import strategies as st


WITHOUT = {
    "empty": b"", "nul": b"\0" * 300000, "binary": random.Random(1).randbytes(1 << 18), "one-line": b"n_evts " * 1_500_000,
    "line-feeds": b"\n" * 100000, "braces": b'{"n_evts' * 100000, "brackets": b'{"n_evts":' + b"[" * 900_000,
    "nested": b'{"output_fields":{"n_evts":' * 30000 + b"\n", "unclosed": b'{"sample":1,"output_fields":{"scap.n_evts":1',
}


@pytest.mark.parametrize("content", WITHOUT.values(), ids=WITHOUT)
def test_files_without_snapshots(tmp_path, content):
    found = pair_of(written(tmp_path, content))
    assert "no metrics snapshot" in found["reason"] and found["bytes_read"] <= 1 << 22 and "first" not in found


def test_a_huge_line_hides_nothing(tmp_path):
    path = written(tmp_path, line(1), line(2), b"n_evts" + b"x" * 10_000_000 + b"\n", line(3))
    assert minutes(pair_of(path, 100, max_bytes=1 << 24)) == (1, 3)


def test_the_cap_counts_everything(tmp_path):
    path = written(tmp_path, *(line(number) for number in range(1, 2000)))
    (tmp_path / "metrics.jsonl.1").write_bytes(line(0) * 2000)
    found = pair_of(path, 1e9, max_bytes=100_000)
    assert found["bytes_read"] == 100_000 and minutes(found)[1] == 1999
    assert pair_of(path, 60)["bytes_read"] == tail.BLOCK


def test_a_hundred_megabytes_without_a_line_feed_stay_within_the_cap(tmp_path):
    path = written(tmp_path, line(1), line(2))
    with open(path, "r+b") as stream:
        stream.truncate(100 << 20)  # zeros that take no room on the disk
    found = pair_of(path, max_bytes=4 << 20)
    assert found["bytes_read"] == 4 << 20 and "no metrics snapshot" in found["reason"]


def test_unreadable(tmp_path, monkeypatch):
    def refuse(path, flags):
        raise PermissionError(13, "Permission denied")

    path = written(tmp_path, line(1), line(2))
    monkeypatch.setattr(tail.os, "open", refuse)
    found = pair_of(path)
    assert found["reason"] == "%s can't be read: Permission denied; run with become" % path and found["bytes_read"] == 0


def _fifo(path):
    os.mkfifo(path)


def _socket(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


NO_LOGS = {
    "fifo": (_fifo, "a FIFO"), "socket": (_socket, "a socket"), "directory": (os.mkdir, "a directory"),
    "link-to-directory": (lambda path: os.symlink("/", path), "a directory"),
    "link-to-device": (lambda path: os.symlink("/dev/zero", path), "a device"),
    "link-to-itself": (lambda path: os.symlink(path, path), "can't be read"),
    "link-to-nothing": (lambda path: os.symlink(path.with_name("none"), path), "No such file"),
    "nothing": (lambda path: None, "No such file"),
}


@pytest.mark.parametrize("make, word", NO_LOGS.values(), ids=NO_LOGS)
def test_what_is_no_log_is_refused_unread(tmp_path, make, word):
    (tmp_path / "x").mkdir()
    path = tmp_path / "x" / "log"
    make(path)
    found = pair_of(path)
    assert word in found["reason"] and found["bytes_read"] == 0


def test_a_refused_log_is_not_made_up_for_by_rotated_ones(tmp_path):
    os.mkfifo(tmp_path / "metrics.jsonl")
    (tmp_path / "metrics.jsonl.1").write_bytes(line(1) + line(2))
    assert "FIFO" in pair_of(tmp_path / "metrics.jsonl")["reason"]


def test_a_path_with_a_nul():
    assert "is not a path" in pair_of("a\0b")["reason"]


def test_the_root_of_a_process_is_where_its_paths_lead(tmp_path):
    """As with PrivateTmp or a container: the same path is another file there, and so are the targets of symlinks."""
    root = tmp_path / "proc" / "812" / "root"
    (root / "var" / "log" / "falco").mkdir(parents=True)
    (root / "var" / "log" / "falco" / "m.log").write_bytes(line(3))
    (root / "var" / "log" / "falco" / "m.log.1").write_bytes(line(1) + line(2))
    (root / "tmp").symlink_to("/var/run/../log/falco")  # absolute: below the process's root, not ours
    (root / "m.log").symlink_to("../../../../../tmp/./m.log")  # never above it
    for path in ("tmp/m.log", "m.log", "var/log//falco/m.log"):
        assert tail.resolved("%s/%s" % (root, path)) == str(root / "var" / "log" / "falco" / "m.log")
        assert minutes(pair_of(root / path, 1e6)) == (1, 3)
    (root / "loop").symlink_to("/loop")
    assert "Too many levels of symbolic links" in pair_of(root / "loop")["reason"]


def test_through_the_root_of_a_real_process(tmp_path):
    aged(tmp_path / "m.log.1", line(1), 1)
    (tmp_path / "m.log").write_bytes(line(2) + line(3))
    assert minutes(pair_of("/proc/%d/root%s" % (os.getpid(), tmp_path / "m.log"), 1e6)) == (1, 3)


def test_what_a_process_has_open(tmp_path):
    """Falco keeps writing to what it opened, whatever logrotate makes of the name."""
    aged(tmp_path / "m.log.1", line(1), 1)
    with open(tmp_path / "m.log", "ab", buffering=0) as stream:
        stream.write(line(2) + line(3))
        path = "/proc/%d/fd/%d" % (os.getpid(), stream.fileno())
        assert minutes(pair_of(path, 1e6)) == (1, 3)
        os.unlink(tmp_path / "m.log")
        stream.write(line(4))
        assert minutes(pair_of(path, 1e6)) == (2, 4)
    assert "No such file" in pair_of(path)["reason"]


def test_a_link_to_a_log_is_followed_to_its_rotated_files(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "log")
    (tmp_path / "real" / "log").write_bytes(line(3))
    (tmp_path / "real" / "log.1").write_bytes(line(1) + line(2))
    assert minutes(pair_of(tmp_path / "link", 1e6)) == (1, 3)


@pytest.mark.parametrize("names", [("m.log.1", "m.log.2.gz", "m.log.10.gz"), ("m.log-20260103", "m.log-20260102.gz", "m.log-20260101.gz"),
                                   ("m-20260102.log", "m-20260101.log", "m-20251231.log.gz"), ("m.1.log", "m.2.log", "m.3.log"),
                                   ("m.log-20260101-1767225700", "m.log-20260101-1767225600.gz", "m.log-20251231-1767125600.gz")])
def test_rotated_files_continue_the_log(tmp_path, names):
    (tmp_path / "m.log").write_bytes(line(8) + line(9))
    for age, name in enumerate(names):
        aged(tmp_path / name, line(6 - 2 * age) + line(7 - 2 * age), age)
    for name in ("m.log.bak", "m.logger", "m.log.1.gz.tmp", "other.log.1"):
        (tmp_path / name).write_bytes(line(77))
    assert minutes(pair_of(tmp_path / "m.log", 1e6)) == (2, 9)
    assert minutes(pair_of(tmp_path / "m.log", 150)) == (6, 9)


def test_just_rotated_and_not_yet_written(tmp_path):
    aged(tmp_path / "m.log.1", line(1) + line(2), 1)
    assert minutes(pair_of(tmp_path / "m.log", 60)) == (1, 2)
    (tmp_path / "m.log").write_bytes(b"")
    assert minutes(pair_of(tmp_path / "m.log", 60)) == (1, 2)


def test_copytruncate_repeats_lines(tmp_path):
    (tmp_path / "m.log").write_bytes(line(3) + line(4))
    aged(tmp_path / "m.log.1", line(1) + line(2) + line(3) + line(4), 1)
    assert minutes(pair_of(tmp_path / "m.log", 1e6)) == (1, 4)


BROKEN = {"empty": b"", "garbage": b"garbage", "cut": zipped(line(2))[:-12], "begun": zipped(line(2))[:20]}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_broken_gzip_ends_the_record(tmp_path, broken):
    (tmp_path / "m.log").write_bytes(line(3) + line(4))
    (tmp_path / "m.log.1.gz").write_bytes(broken)
    os.utime(tmp_path / "m.log.1.gz", (START, START))
    aged(tmp_path / "m.log.2.gz", line(1), 99)
    assert minutes(pair_of(tmp_path / "m.log", 1e6)) == ((3, 4) if broken else (1, 4))


def test_gzip_beside_its_source_is_still_being_written(tmp_path):
    (tmp_path / "m.log").write_bytes(line(4))
    (tmp_path / "m.log.1").write_bytes(line(2) + line(3))
    (tmp_path / "m.log.1.gz").write_bytes(zipped(line(2) + line(3))[:40])
    assert minutes(pair_of(tmp_path / "m.log", 1e6)) == (2, 4)


def test_several_gzip_members(tmp_path):
    (tmp_path / "m.log").write_bytes(line(4))
    (tmp_path / "m.log.1.gz").write_bytes(zipped(line(1)) + zipped(line(2)[:30]) + zipped(line(2)[30:] + line(3)))
    assert minutes(pair_of(tmp_path / "m.log", 1e6)) == (1, 4)


def test_a_gzip_bomb_is_left_alone(tmp_path):
    (tmp_path / "m.log").write_bytes(line(3) + line(4))
    (tmp_path / "m.log.1.gz").write_bytes(zipped(line(2) + b"n_evts" * 20_000_000))
    log = tail.Tail(str(tmp_path / "m.log"), 1 << 20, falco_lines.NEEDLE)
    assert minutes(snapshots.two_snapshots(log, "x", 1e6)) == (3, 4)
    assert log.inflated <= tail.INFLATE * (1 << 20) + tail.BLOCK


def test_growth_while_reading_is_not_seen(tmp_path):
    path = written(tmp_path, *(line(number) for number in range(1, 500)))
    log, times = tail.Tail(str(path), 1 << 22), []
    for text in log:
        with open(path, "ab") as stream:
            stream.write(line(900))
        times.append(falco_lines.from_json_line(text)["sample"] if text else None)
        if len(times) == 400:
            break
    assert times == list(range(499, 99, -1))


@pytest.mark.parametrize("change", ["rename", "truncate"])
def test_rotation_while_reading(tmp_path, change):
    path = written(tmp_path, *(line(number) for number in range(1, 2000)))
    log, seen = tail.Tail(str(path), 1 << 22, falco_lines.NEEDLE), []
    for text in log:
        if len(seen) == 10:
            if change == "rename":
                path.rename(str(path) + ".1")
                path.write_bytes(line(2001))
            else:
                path.write_bytes(line(2001))
        seen.append(falco_lines.from_json_line(text)["sample"])
    assert seen == sorted(set(seen), reverse=True) and seen[0] == 1999
    assert change == "truncate" or seen[-1] == 1


@settings(max_examples=min(EXAMPLES, 1000))
@given(st.lists(st.binary(max_size=40).filter(lambda text: b"\n" not in text), max_size=30), st.integers(1, 16))
def test_lines_are_those_of_the_file_whatever_the_block(tmp_path_factory, parts, block):
    path = tmp_path_factory.getbasetemp() / "blocks"
    path.write_bytes(b"\n".join(parts))
    was, tail.BLOCK = tail.BLOCK, block
    try:
        assert list(tail.Tail(str(path), 1 << 20)) == [part for part in reversed(parts) if part]
    finally:
        tail.BLOCK = was
