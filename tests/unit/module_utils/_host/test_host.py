# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import base64
import errno
import os
import zlib

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._host import host


@pytest.fixture
def root(tmp_path):
    """A host root whose files are written by write()."""
    return tmp_path


def write(root, path, text):
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


@pytest.mark.parametrize("text, numbers", [
    ("0", [0]), ("0-3", [0, 1, 2, 3]), ("0-1,4,6-7\n", [0, 1, 4, 6, 7]), ("5-5", [5]), (" 0 , 2 ", [0, 2]),
])
def test_cpu_list(text, numbers):
    assert host.cpu_list(text) == numbers


@pytest.mark.parametrize("text", ["", "\n", "a", "3-1", "0-", "-1", "0,,1", "0-70000", "0x1"])
def test_cpu_list_refuses(text):
    with pytest.raises(ValueError, match="is not a list of CPUs such as 0-3,8"):
        host.cpu_list(text)


def test_cpus(root):
    write(root, "/sys/devices/system/cpu/online", "0-2,4\n")
    write(root, "/sys/devices/system/cpu/possible", "0-7\n")
    assert host.cpus(str(root)) == {"online": 4, "possible": 8, "list": "0-2,4", "reason": None}


@pytest.mark.parametrize("online, reason", [(None, "online can't be read"), ("nonsense", "'nonsense' is not a list of CPUs")])
def test_cpus_without_a_list_give_a_reason(root, online, reason):
    write(root, "/sys/devices/system/cpu/possible", "0-7\n")
    if online:
        write(root, "/sys/devices/system/cpu/online", online)
    found = host.cpus(str(root))
    assert found["online"] is None and found["list"] is None and found["possible"] == 8
    assert reason in found["reason"]


@pytest.mark.parametrize("text, result", [
    ("MemTotal:       16384 kB\nMemFree: 1 kB\nMemAvailable:    8192 kB\n", {"total": 16 << 20, "available": 8 << 20}),
    ("MemTotal:       16384 kB\n", {"total": 16 << 20, "available": None}),
    ("", {"total": None, "available": None}),
])
def test_memory(root, text, result):
    write(root, "/proc/meminfo", text)
    assert host.memory(str(root)) == result


def test_memory_without_meminfo(root):
    assert host.memory(str(root)) == {"total": None, "available": None}


@pytest.mark.parametrize("stats, btf, result", [("1\n", True, (1, True)), ("0\n", False, (0, False)), (None, False, (None, False)),
                                                ("x", True, (None, True))])
def test_kernel(root, stats, btf, result):
    write(root, "/proc/sys/kernel/osrelease", "6.1.0-18-amd64\n")
    if stats is not None:
        write(root, "/proc/sys/kernel/bpf_stats_enabled", stats)
    if btf:
        write(root, "/sys/kernel/btf/vmlinux", "")
    found = host.kernel(str(root))
    assert found["release"] == "6.1.0-18-amd64"
    assert (found["bpf_stats_enabled"], found["btf"]) == result
    assert found["page_size"] == os.sysconf("SC_PAGE_SIZE")


def test_kernel_without_a_root_is_that_of_the_host(root):
    assert host.kernel(str(root))["release"] == os.uname()[2]


def test_fetch(tmp_path):
    path = tmp_path / "falco.yaml"
    path.write_text("engine: {kind: kmod}  # caf\u00e9\n")
    found = host.fetch(str(path))
    assert zlib.decompress(base64.b64decode(found["data"])) == path.read_bytes()
    assert found["sha256"] == host.digest(path.read_bytes()) and found["text"] == path.read_text()
    assert found["mtime"] == pytest.approx(path.stat().st_mtime)


@pytest.mark.parametrize("content, reason", [
    (None, "can't be read: No such file or directory"),
    (b"\xff\xfe", "is not UTF-8 text"),
    (b"#" * (host.MAX_FILE + 1), "is larger than 1048576 bytes: expected a Falco configuration"),
])
def test_fetch_says_why_not(tmp_path, content, reason):
    path = tmp_path / "falco.yaml"
    if content is not None:
        path.write_bytes(content)
    found = host.fetch(str(path))
    assert set(found) == {"path", "reason"} and reason in found["reason"] and found["path"] == str(path)


def test_fetch_advises_become(monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(host, "open_regular", refuse)
    assert host.fetch("/etc/falco/falco.yaml")["reason"] == "/etc/falco/falco.yaml can't be read: Permission denied; run with become"


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    """Opened as open() does it, a FIFO without a writer would hold the module for ever."""
    fifo = tmp_path / "falco.yaml"
    os.mkfifo(fifo)
    assert host.read(str(fifo)) is None and host.read("/dev/zero") is None and host.read(str(tmp_path)) is None
    assert host.fetch(str(fifo)) == {"path": str(fifo), "reason": "%s can't be read: it is a FIFO, not a regular file" % fifo}
    with pytest.raises(host.NotRegular, match="it is a device"):
        host.regular("/dev/zero")


@pytest.mark.parametrize("text, number", [("5\n", 5), (" -1 ", -1), ("", None), (None, None), ("5 kB", None)])
def test_integer(text, number):
    assert host.integer(text) == number


def test_read_is_bounded(tmp_path):
    (tmp_path / "x").write_bytes(b"abc\xff")
    assert host.read(str(tmp_path / "x"), 2) == "ab"
    assert host.read(str(tmp_path / "x")) == "abc\ufffd"
    assert host.read(str(tmp_path)) is None


@pytest.mark.parametrize("path", ["/proc/kmsg", "/dev/null", "/sys/kernel/uevent_seqnum", "/proc/self/status"])
def test_a_file_of_the_kernel_is_no_configuration(tmp_path, path):
    """Whoever may write to falco.yaml names it there, and reading /proc/kmsg takes the messages from the log."""
    (tmp_path / "falco.yaml").symlink_to(path)
    for name in (path, str(tmp_path / "falco.yaml")):
        assert "is a file of the kernel: expected a Falco configuration" in host.fetch(name)["reason"]


def test_a_file_of_the_kernel_that_has_nothing_yet_is_not_waited_for(monkeypatch):
    class Empty:
        def __enter__(self):
            return self

        def __exit__(self, *dummy):
            pass

        def read(self, dummy):
            return None  # of a raw stream: EAGAIN

    monkeypatch.setattr(host, "regular", lambda path: Empty())
    assert host.read("/proc/kmsg") is None


def test_a_path_is_below_its_nearest_mount_point(tmp_path, monkeypatch):
    lines = ("22 1 8:1 / / rw - ext4 /dev/sda1 rw", "30 22 8:1 /srv/falco /etc/falco rw - ext4 /dev/sda1 rw",
             "31 22 8:1 /srv/x /etc/with\\040blank rw - ext4 /dev/sda1 rw", "cut short")
    monkeypatch.setattr(host, "read", lambda path, limit: "\n".join(lines))
    monkeypatch.setattr(host.os.path, "realpath", lambda path: path)
    assert [host.mount_of(path) for path in ("/etc/falco", "/etc/falco/config.d", "/etc/falcon", "/etc/with blank/a", "/")] == [
        "/etc/falco", "/etc/falco", "/", "/etc/with blank", "/"]
    monkeypatch.setattr(host, "read", lambda path, limit: None)
    assert host.mount_of("/etc/falco") is None
