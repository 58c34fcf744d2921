# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading what the kernel and perf print, what is said where something is missing, and whose instances are removed."""

import fcntl
import os
import re
import signal
import time
from pathlib import Path

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._measure import syscall_counts
from hypothesis import given
from hypothesis import strategies as st

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "syscall_profile"
HIST = (FIXTURES / "linux-6.1.hist").read_text()
PERF = (FIXTURES / "perf-6.1.csv").read_text()
EVENT = "events/raw_syscalls/sys_enter"


# -- a histogram ---------------------------------------------------------------------------------------------------------------

def test_a_recorded_histogram_in_the_names_of_the_table():
    notes = []
    counts = syscall_counts.histogram(HIST, notes)
    assert notes == [] and sum(counts.values()) == 914 and len(counts) == 48  # the totals that the kernel printed below it
    for name in ("fstat", "stat", "lstat", "uname", "sendfile", "umount2", "syscall_999"):
        assert counts[name] == 3, name
    assert counts["clock_gettime"] == 306 and counts["newfstatat"] == 162 and counts["pread64"] == 4
    assert not [name for name in counts if name.startswith(("sys_", "newu", "unknown"))]


def test_what_the_kernel_could_not_count_is_said():
    notes = []
    syscall_counts.histogram(HIST.replace("Dropped: 0", "Dropped: 17"), notes)
    assert notes == ["the kernel could not count 17 calls (Dropped)"]


def test_a_histogram_that_was_cut_short_is_said_and_used():
    notes = []
    counts = syscall_counts.histogram(HIST[:1200], notes)
    assert notes == ["the histogram has no end: some calls may be missing"] and 0 < len(counts) < 48
    assert set(counts) < set(syscall_counts.histogram(HIST, []))


def test_names_as_long_as_the_column_and_numbers_beyond_64_bits():
    text = ("{ id: sys_a_name_that_fills_the_column[451] } hitcount:          2\n"
            "{ id: unknown_syscall               [18446744073709551611] } hitcount: 18446744073709551615\n"
            "{ id: sys_read                      [  0] } hitcount:          1\n"
            "{ id: sys_read                      [515] } hitcount:          2\n\nTotals:\n    Dropped: 0\n")
    assert syscall_counts.histogram(text, []) == {"a_name_that_fills_the_column": 2, "syscall_%d" % (2 ** 64 - 5): 2 ** 64 - 1, "read": 3}


@pytest.mark.parametrize("text", [
    "", "\0\0\0", "{ id: } hitcount: 3", "{ id: sys_read [ 0] } hitcount: -4", "{ id: sys_read [ 0] } hitcount: four",
    "{ id: sys_RE'AD [ 0] } hitcount: 4", "{ id: sys_../../x [ 1] } hitcount: 4", "{ id: sys_ [ 1] } hitcount: 4",
    "x{ id: sys_read [ 0] } hitcount: 4", "{ id: sys_%s [ 1] } hitcount: 4" % ("a" * 80), "{" * 100000, "{ id: " * 20000,
    "{ id: sys_read [" + " " * 50000, "hitcount: " * 10000,
])
def test_garbage_is_no_call(text):
    assert syscall_counts.histogram(text, []) == {}


@given(st.text() | st.lists(st.sampled_from(
    ["{ id: ", "sys_", "read", " ", "[", "0", "] } hitcount: ", "7", "\n", "CPU0,", "syscalls:sys_enter_", "Dropped: "])).map("".join))
def test_any_text_gives_names_and_counts(text):
    for reader in (lambda: syscall_counts.histogram(text, []), lambda: syscall_counts.counters(text, [])[0]):
        for name, calls in reader().items():
            assert re.fullmatch(r"[a-z0-9_]{1,80}", name) and calls > 0


def test_a_million_lines_end():
    line = "{ id: sys_read                      [  0] } hitcount:          1\n"
    assert syscall_counts.histogram(line * 200000, []) == {"read": 200000}


# -- perf ----------------------------------------------------------------------------------------------------------------------

def test_perf_as_recorded_brings_all_counters_to_one_window():
    counts, seconds = syscall_counts.counters(PERF, [])
    rows = [line.split(",") for line in PERF.splitlines()]
    ran = sorted(int(row[4]) for row in rows)
    assert seconds == ran[len(ran) // 2] / 1e9
    both = [(int(row[1]), int(row[4])) for row in rows if row[3] == "syscalls:sys_enter_newfstat"]
    assert len(both) == 2 and counts["fstat"] == round(sum(calls * seconds * 1e9 / on for calls, on in both))
    assert counts["sched_process_exit"] == 99 and counts["read"] == 5009 and "cachestat" not in counts


def test_a_cpu_that_began_late_counts_for_the_whole_window():
    text = "".join(f"CPU{cpu},{calls},,syscalls:sys_enter_{name},{ran},100.00,,\n" for cpu, calls, name, ran in (
        (0, 100, "read", 1000), (1, 0, "read", 1000), (0, 50, "write", 500), (1, 10, "write", 1000), (1, 7, "newstat", 1000)))
    assert syscall_counts.counters(text, []) == ({"read": 100, "write": 110, "stat": 7}, 1e-6)


def test_a_counter_that_perf_lost_is_said():
    notes = []
    text = "CPU0,5,,syscalls:sys_exit_openat,1000,100.00,,\nCPU0,<not counted>,,syscalls:sys_enter_write,500,0.00,,\n"
    assert syscall_counts.counters(text, notes)[0] == {"openat": 5} and notes == ["perf did not count write"]


@pytest.mark.parametrize("text", [
    "", "# started on Mon\n", "event syntax error: 'nosuch:x'\n", "CPU0,5,,syscalls:sys_enter_read,0,100.00,,\n",
    "CPU0,5,,syscalls:sys_enter_read\n", "CPU0,5,,sched:sched_switch,100,1\n", "CPU0,5,,syscalls:sys_enter_,100,1\n", "," * 5000,
    "CPU0,5,,cycles,100,100\n", "CPU0,1e3,,syscalls:sys_enter_read,100,1\n", "5,,syscalls:sys_enter_read,1000,100.00,,\n",
    "CPU0,5,,syscalls:sys_enter_RE'AD,100,1\n", "CPU0,-5,,syscalls:sys_enter_read,100,1\n",
])
def test_no_counters_no_window(text):
    assert syscall_counts.counters(text, []) == ({}, None)


# -- what is missing -----------------------------------------------------------------------------------------------------------

@pytest.fixture
def root(tmp_path, monkeypatch):
    """A host with a tracefs that has everything, in files; no test mounts or traces."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(syscall_counts, "_alone", lambda: None)
    monkeypatch.setattr(syscall_counts, "_mount", lambda *arguments: None)
    monkeypatch.setattr(syscall_counts.shutil, "which", lambda name, path=None: None)
    files = {"sys/kernel/tracing/buffer_size_kb": "7 (expanded: 1408)\n", f"sys/kernel/tracing/{EVENT}/hist": "",
             "sys/kernel/tracing/events/syscalls/sys_enter_read/id": "1\n", "sys/devices/system/cpu/online": "0-1\n",
             "proc/meminfo": "MemTotal: 8000000 kB\nMemAvailable: 4000000 kB\n", "proc/sys/kernel/perf_event_paranoid": "3\n"}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "sys/kernel/tracing/instances").mkdir()
    return tmp_path


def reason(root, means=syscall_counts.MEANS):
    before = state(root)
    found = syscall_counts.measure(str(root), 0.5, means)
    assert found["means"] is None and found["counts"] == {} and found["seconds"] is None and found["notes"] == []
    assert state(root) == before
    return found["reason"]


def state(root):
    return sorted(str(path) for path in root.rglob("*"))


def test_not_root(root, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert reason(root) == "only root may count system calls, and this is user 1000: set become"


def test_lockdown(root):
    (root / "sys/kernel/security").mkdir()
    (root / "sys/kernel/security/lockdown").write_text("none integrity [confidentiality]\n")
    assert reason(root).startswith("kernel lockdown is 'confidentiality'")
    (root / "sys/kernel/security/lockdown").write_text("none [integrity] confidentiality\n")
    assert "lockdown" not in reason(root, ["perf"])


def test_no_tracefs_at_all(tmp_path, root):
    assert "neither" in reason(tmp_path / "nowhere") and "CONFIG_TRACING" in reason(tmp_path / "nowhere")


def test_a_tracefs_that_may_not_be_mounted(root, monkeypatch):
    def refused(*arguments):
        raise OSError(1, "Operation not permitted", "unshare")

    (root / "sys/kernel/tracing/instances").rmdir()
    monkeypatch.setattr(syscall_counts, "_alone", refused)
    assert "can't be mounted: unshare: Operation not permitted (a lockdown" in reason(root)


def test_tracefs_is_mounted_for_ourselves_where_nobody_has(root, monkeypatch):
    (root / "sys/kernel/tracing/instances").rmdir()
    called = []
    monkeypatch.setattr(syscall_counts, "_alone", lambda: called.append("alone"))
    monkeypatch.setattr(syscall_counts, "_mount", lambda *arguments: [called.append(arguments[:3]),
        (Path(arguments[1]) / "instances").mkdir()])
    place = str(root / "sys/kernel/tracing")
    assert syscall_counts.folder(str(root)) == place and called == ["alone", ("tracefs", place, "tracefs")]
    assert syscall_counts.folder(str(root)) == place and len(called) == 2


def test_tracefs_of_an_old_kernel_is_below_debugfs(root):
    (root / "sys/kernel/debug").mkdir()
    (root / "sys/kernel/tracing").rename(root / "sys/kernel/debug/tracing")
    assert syscall_counts.folder(str(root)) == str(root / "sys/kernel/debug/tracing")


def test_what_the_kernel_was_built_without(root):
    (root / "sys/kernel/tracing" / EVENT / "hist").unlink()
    said = reason(root)
    assert "tracefs: there is no" in said and "CONFIG_HIST_TRIGGERS" in said and "perf: perf isn't installed" in said
    (root / "sys/kernel/tracing" / EVENT).rmdir()
    (root / "sys/kernel/tracing/events/syscalls").rename(root / "other")
    said = reason(root)
    assert said.count("CONFIG_FTRACE_SYSCALLS") == 2


def test_memory_that_a_new_instance_may_not_have(root):
    (root / "sys/devices/system/cpu/online").write_text("0-511\n")
    assert reason(root, ["tracefs"]) == ("tracefs: a tracing instance takes 704 MiB at first, more than a tenth of the 3906 MiB that "
                                         "are available")


def test_more_cpus_than_counters(root, monkeypatch):
    monkeypatch.setattr(syscall_counts.shutil, "which", lambda name, path=None: "/bin/false")
    (root / "sys/devices/system/cpu/online").write_text("0-40000\n")
    monkeypatch.setattr(syscall_counts, "COUNTERS", 40000)
    assert reason(root, ["perf"]) == "perf: 1 calls on 40001 CPUs would need more than 40000 counters"


@pytest.mark.parametrize("script, said", [
    ("echo 'Error: No permission to enable syscalls:sys_enter_read event.' >&2; echo 'Usage' >&2; exit 255",
     "perf: perf stat ended with 255: Error: No permission to enable syscalls:sys_enter_read event. (perf_event_paranoid is 3)"),
    ("exit 0", "perf: perf stat ended with 0: it said nothing (perf_event_paranoid is 3)"),
    ("echo 'CPU0,5,,syscalls:sys_enter_read,1000,100.00,,' >&2; exit 1", "ended with 1"),
    ("kill -9 $$", "ended with -9"),
    ("exec sleep 60", "ended with no answer in time: it said nothing"),
])
def test_perf_that_fails(root, monkeypatch, script, said):
    fake = root / "perf"
    fake.write_text("#!/bin/sh\n%s\n" % script)
    fake.chmod(0o755)
    monkeypatch.setattr(syscall_counts.shutil, "which", lambda name, path=None: str(fake))
    monkeypatch.setattr(syscall_counts, "PERF_PATIENCE", 1)
    assert said in reason(root, ["perf"])


def test_a_perf_that_counts(root, monkeypatch):
    """What Falco's own programs hide at the entry is counted at the exit."""
    fake = root / "perf"
    fake.write_text("#!/bin/sh\necho \"$@\" >%s\necho '# started on' >&2\n"
                    "echo 'CPU0,5,,syscalls:sys_enter_newfstat,1000000000,100.00,,' >&2\n" % (root / "said"))
    fake.chmod(0o755)
    monkeypatch.setattr(syscall_counts.shutil, "which", lambda name, path=None: str(fake))
    (root / "sys/kernel/tracing/events/syscalls/sys_enter_openat2").mkdir()
    found = syscall_counts.measure(str(root), 0.5, ["perf"])
    assert found == {"means": "perf", "seconds": 1.0, "counts": {"fstat": 5}, "callers": {}, "reason": None,
                     "notes": ["who made the calls is not known: perf counts for each CPU"]}
    assert (root / "said").read_text() == ("stat -a -A -x , -e {syscalls:sys_exit_openat2,syscalls:sys_enter_read,"
                                           "sched:sched_process_exit} --timeout 500\n")


@pytest.mark.parametrize("seconds", [0, 0.4, 61, float("nan"), -1])
def test_seconds_are_bounded(root, seconds):
    with pytest.raises(ValueError, match="expected 0.5 to 60"):
        syscall_counts.measure(str(root), seconds)


def test_unknown_means(root):
    with pytest.raises(ValueError, match="expected tracefs, perf"):
        syscall_counts.measure(str(root), 1, ["ptrace"])


# -- the instance --------------------------------------------------------------------------------------------------------------

BY_THREAD = """\
# event histogram
#
# trigger info: hist:keys=id.syscall,common_pid:vals=hitcount:sort=hitcount:size=8192 if id >= 0 && id < 1024 [active]
#

{ id: sys_newfstat                  [  5], common_pid:       1234 } hitcount:          2
{ id: sys_newfstat                  [  5], common_pid:       1235 } hitcount:          1
{ id: sys_clock_gettime             [228], common_pid: 4194304 } hitcount:        300

Totals:
    Hits: 303
    Entries: 3
    Dropped: 12
"""
BOTH = BY_THREAD + "\n\n" + HIST


class Paper(syscall_counts.Instance):
    """An instance that notes what is written, and counts nothing."""

    written = []
    refuse = ()

    def write(self, name, text):
        if name in self.refuse:
            raise OSError(22, "Invalid argument", name)
        self.written.append((name.split("/")[-2] if "/" in name else name, text))

    def histogram(self, what):
        return BOTH if what is syscall_counts.CALLS else "{ common_type: 316 } hitcount:          2\n"


@pytest.fixture
def paper(monkeypatch):
    monkeypatch.setattr(syscall_counts, "Instance", Paper)
    monkeypatch.setattr(Paper, "written", [])
    return Paper


def by_histogram(root, seconds=0.0):
    life, other = os.pipe()
    handler = signal.getsignal(signal.SIGTERM)
    notes = []
    try:
        return syscall_counts.by_histogram(str(root), str(root / "sys/kernel/tracing"), seconds, life, notes) + (notes,)
    finally:
        signal.signal(signal.SIGTERM, handler)
        os.close(life)
        os.close(other)


def test_histograms_are_made_at_rest_and_read_at_rest(root, paper):
    counts, who, seconds, notes = by_histogram(root)
    assert counts["sched_process_exit"] == 2 and counts["fstat"] == 3 and 0 <= seconds < 5
    assert who == {} and len(notes) == 1 and notes[0].startswith("who made the calls is not known: the namespace of processes is unknown")
    calls = [text for name, text in paper.written if name == "sys_enter"]
    kinds = {"": "hist:keys=id.syscall:size=1024:%s if id >= 0 && id < 1024",
             "t": "hist:keys=id.syscall,common_pid:size=8192:%s if id >= 0 && id < 1024"}
    # The calls are counted for as long as the threads, or shorter.
    assert calls == [kinds[kind] % action for kind, action in (
        ("t", "pause"), ("", "pause"), ("t", "cont"), ("", "cont"), ("", "pause"), ("t", "pause"))]
    assert paper.written[0] == ("buffer_size_kb", "4")
    assert os.listdir(root / "sys/kernel/tracing/instances") == []


def test_exits_can_be_done_without(root, paper, monkeypatch):
    monkeypatch.setattr(paper, "refuse", ("events/sched/sched_process_exit/trigger",))
    counts, dummy, dummy, notes = by_histogram(root)
    assert "sched_process_exit" not in counts and counts["fstat"] == 3 and notes[0].startswith("exits are not counted")


def test_a_kernel_that_counts_no_threads_counts_the_calls(root, paper, monkeypatch):
    write = paper.write

    def refuse(self, name, text):
        if "common_pid" in text:
            raise OSError(22, "Invalid argument", name)
        write(self, name, text)

    monkeypatch.setattr(paper, "write", refuse)
    counts, who, dummy, notes = by_histogram(root)
    assert counts["fstat"] == 3 and who == {} and notes == [
        "who made the calls is not known: events/raw_syscalls/sys_enter/trigger: Invalid argument"]


@pytest.mark.parametrize("order", [(BY_THREAD, HIST), (HIST, BY_THREAD)])
def test_what_is_counted_for_threads_is_told_from_what_is_counted_for_calls(order):
    notes = []
    calls, by_thread = syscall_counts.parted("\n\n".join(order))
    assert syscall_counts.histogram(calls, notes) == syscall_counts.histogram(HIST, []) and notes == []
    assert "common_pid: 4194304" in by_thread and "common_pid" not in calls
    assert syscall_counts.parted(HIST)[1] == "" == syscall_counts.parted("")[0]


def test_a_kernel_that_refuses_the_trigger_is_left_as_it_was(root, paper, monkeypatch):
    monkeypatch.setattr(paper, "refuse", ("events/raw_syscalls/sys_enter/trigger",))
    with pytest.raises(OSError):
        by_histogram(root)
    assert os.listdir(root / "sys/kernel/tracing/instances") == []
    assert "tracefs: events/raw_syscalls/sys_enter/trigger: Invalid argument" in reason(root)


def test_only_instances_of_the_dead_are_removed(root):
    instances = root / "sys/kernel/tracing/instances"
    for name in ("falcotune-1-dead", "falcotune-2-alive", "somebody", "falcotune"):
        (instances / name).mkdir()
    handle = os.open(instances / "falcotune-2-alive", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    syscall_counts.sweep(str(root / "sys/kernel/tracing"))
    assert sorted(os.listdir(instances)) == ["falcotune", "falcotune-2-alive", "somebody"]
    os.close(handle)  # as a kill does
    syscall_counts.sweep(str(root / "sys/kernel/tracing"))
    assert sorted(os.listdir(instances)) == ["falcotune", "somebody"]


def test_an_instance_that_was_swept_before_it_was_held_is_made_again(root, monkeypatch):
    swept, hold = [], syscall_counts._hold

    def late(path):
        if len(swept) < 2:
            swept.append(path)
            os.rmdir(path)
        return hold(path)

    monkeypatch.setattr(syscall_counts, "_hold", late)
    instance = syscall_counts.Instance(str(root / "sys/kernel/tracing"))
    assert os.path.isdir(instance.path) and instance.path not in swept and len(swept) == 2
    os.close(instance.handle)


def test_a_killed_watchdog_is_said_and_swept_after(root, paper, monkeypatch):
    monkeypatch.setattr(syscall_counts, "_wait", lambda life, seconds: os.kill(os.getpid(), signal.SIGKILL))
    assert reason(root, ["tracefs"]) == "the process that counts was killed"  # and reason() looks for what is left


def test_a_terminated_watchdog_cleans_up(root, paper, monkeypatch):
    monkeypatch.setattr(syscall_counts, "_wait", lambda life, seconds: [os.kill(os.getpid(), signal.SIGTERM), time.sleep(10)])
    assert reason(root, ["tracefs"]) == "the process that counts was killed"
