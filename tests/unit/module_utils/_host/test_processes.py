# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From Falco's unit to its process and what that was started with, on a fake /proc."""

import os

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._host import processes


@pytest.fixture
def root(tmp_path):
    """A host root whose files are written by write()."""
    return tmp_path


def write(root, path, text):
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


STAT = "812 (falco (x) y) %s 1 812 812 0 -1 4194304 1 2 3 4 70 30 0 0 20 -10 3 0 4711 1000 2000\n"


@pytest.fixture
def process(root):
    write(root, "/proc/812/stat", STAT % "S")
    write(root, "/proc/812/cmdline", "/usr/bin/falco\0-o\0engine.kind=kmod\0-o\0a=\0")
    write(root, "/proc/812/environ", "A=1\0B=x=y\0nonsense\0")
    write(root, "/proc/812/task/812/schedstat", "100 50 7\n")
    write(root, "/proc/812/task/813/schedstat", "11 5 7\n")
    write(root, "/proc/812/task/814/schedstat", "\n")
    return processes.Process(str(root), 812)


def test_process(process):
    assert process.stat() == (4711, 100, -10)
    assert process.alive(4711) and not process.alive(4712)
    assert process.arguments() == ["/usr/bin/falco", "-o", "engine.kind=kmod", "-o", "a="]
    assert process.environment() == {"A": "1", "B": "x=y"}
    assert process.schedule() == (111, 55)
    assert process.threads() == {"812": (100, 50), "813": (11, 5)}


def test_the_busiest_thread():
    assert processes.busiest({}) == (0, 0)
    assert processes.busiest({"1": (5, 1), "2": (2, 9), "3": (7, 0)}) == (2, 9), "waiting is wanting, too"
    assert processes.busiest({"1": (50, 10), "2": (20, 5)}, {"1": (50, 9)}) == (20, 5)


@pytest.mark.parametrize("state", ["Z", "X"])
def test_a_dead_process_is_gone(root, process, state):
    write(root, "/proc/812/stat", STAT % state)
    assert process.stat() is None and not process.alive(4711)


def test_a_process_that_is_gone(root):
    gone = processes.Process(str(root), 9)
    assert (gone.stat(), gone.arguments(), gone.environment(), gone.schedule()) == (None, [], None, None)


def test_started_at(root):
    write(root, "/proc/stat", "cpu 1 2 3\nbtime 1000000\nprocesses 1\n")
    assert processes.started_at(str(root), 2 * os.sysconf("SC_CLK_TCK")) == 1000002.0


UNIT = {"MainPID": "812", "ExecStart": "{ path=/opt/falco ; argv[]=/opt/falco -o b=1 ; }", "Environment": "A=2 HOST_ROOT=/host C"}


def test_the_process_of_a_unit(root, process):
    found, start = processes.of_unit(str(root) + "/", UNIT)
    assert (found.path, start) == (process.path, 4711)


@pytest.mark.parametrize("unit", [None, {}, {"MainPID": "0"}, {"MainPID": "9"}, {"MainPID": "[not set]"}])
def test_a_unit_without_a_process(root, process, unit):
    assert processes.of_unit(str(root), unit) == (None, None)


NOT_THERE = "%s can't be examined: No such file or directory"
ROOTS = "Uid:\t0\t0\t0\t0\n"


def test_a_command_is_told_by_the_process(root, process):
    write(root, "/proc/812/status", ROOTS)
    found = processes.command(dict(UNIT, ExecStart="{ argv[]=/opt/falco -o b=1 ; }"), process)
    assert found["arguments"] == ["/usr/bin/falco", "-o", "engine.kind=kmod", "-o", "a="]
    assert (found["binary"], found["environment"]) == ("/usr/bin/falco", {"A": "1", "B": "x=y"})


def test_the_program_is_what_the_kernel_says_and_not_what_the_process_calls_itself(root, process):
    write(root, "/proc/812/status", ROOTS)
    (root / "opt").mkdir()
    (root / "opt/falco").write_bytes(b"\x7fELF")
    (root / "proc/812/exe").symlink_to(root / "opt/falco")
    found = processes.command(UNIT, process)
    assert found["binary"] == found["arguments"][0] == str(root / "opt/falco") and found["arguments"][1:3] == ["-o", "engine.kind=kmod"]
    assert found["reason"] is None


def test_a_process_that_is_not_roots_does_not_say_what_root_runs(root, process):
    write(root, "/proc/812/status", "Uid:\t998\t998\t998\t998\n")
    write(root, "/proc/812/cmdline", "/usr/bin/falco\0-c\0/tmp/evil.yaml\0")
    write(root, "/proc/812/environ", "LD_PRELOAD=/tmp/x.so\0FALCO_X=1\0HOST_ROOT=/tmp\0")
    assert processes.command(UNIT, process)["arguments"] == ["/usr/bin/falco", "-o", "b=1"]
    assert processes.start_environment(UNIT, process, ["${FALCO_X}"]) == {"A": "2", "HOST_ROOT": "/host"}
    # The same words, but with a blank in one of them, are root's.
    write(root, "/proc/812/cmdline", "/opt/falco\0-c\0/etc/my falco.yaml\0")
    unit = {"ExecStart": "{ path=/opt/falco ; argv[]=/opt/falco -c /etc/my falco.yaml ; ignore_errors=no }"}
    assert processes.command(unit, process)["arguments"] == ["/opt/falco", "-c", "/etc/my falco.yaml"]


def test_of_roots_process_only_the_variables_that_falco_needs(root, process):
    write(root, "/proc/812/status", ROOTS)
    write(root, "/proc/812/environ", "LD_PRELOAD=/x\0LD_AUDIT=/x\0FALCO_BPF_PROBE=\0HOST_ROOT=/\0KIND=kmod\0SECRET=1\0PATH=/tmp\0")
    unit = {"Environment": '"LD_LIBRARY_PATH=/opt/my libs" B=2'}
    assert processes.start_environment(unit, process, ["a: ${KIND} ${LD_AUDIT}", None]) == {
        "LD_LIBRARY_PATH": "/opt/my libs", "B": "2", "FALCO_BPF_PROBE": "", "HOST_ROOT": "/", "KIND": "kmod"}
    assert processes.start_environment(None, None) == {}


@pytest.mark.parametrize("unit, command", [
    (UNIT, {"binary": "/opt/falco", "arguments": ["/opt/falco", "-o", "b=1"], "environment": {"A": "2", "HOST_ROOT": "/host"},
            "reason": NOT_THERE % "/opt/falco"}),
    ({"ExecStart": "{ argv[]=/nonexistent/falco ; }"}, {"binary": "/nonexistent/falco", "arguments": ["/nonexistent/falco"],
     "environment": {}, "reason": NOT_THERE % "/nonexistent/falco"}),
])
def test_a_command_without_a_process_is_told_by_the_unit(root, unit, command):
    assert processes.command(unit, None) == command
    gone = processes.Process(str(root), 9)
    assert processes.command(unit, gone) == command


@pytest.mark.parametrize("unit", [{}, None])
def test_without_any_word_it_is_where_the_packages_put_it(unit):
    found = processes.command(unit, None)
    assert (found["binary"], found["arguments"], found["environment"]) == ("/usr/bin/falco", [], {})


def test_the_arguments_of_a_container_runtime_are_not_falcos():
    unit = {"ExecStart": "{ path=/usr/bin/docker ; argv[]=/usr/bin/docker run falcosecurity/falco falco -c /x.yaml ; ignore_errors=no }"}
    found = processes.command(unit, None)
    assert found["arguments"] == ["/usr/bin/docker"] and "starts Falco in a container, which" in found["reason"]
