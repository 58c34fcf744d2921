# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The profile on the kernel that is here: a known load is counted within 1 %, and whoever is killed leaves nothing behind.

FALCOTUNE_KILLS is how many processes are killed for each means (default 8, and 3 with perf, which takes 15 s to end).
"""

from __future__ import annotations

import json
import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
import syscall_load
from playbooks import COLLECTIONS, environment

if str(COLLECTIONS) not in sys.path:
    sys.path.insert(0, str(COLLECTIONS))
from ansible_collections.falcotune.fleet.plugins.module_utils._measure import syscall_counts  # noqa: E402
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import syscall_names  # noqa: E402

HERE = Path(__file__).resolve().parent
RATE = int(os.environ.get("FALCOTUNE_LOAD", "1500"))
# What an Ansible module is here: a process that counts and prints.
MODULE = """\
import json, sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.falcotune.fleet.plugins.module_utils._measure import syscall_counts as profile
if sys.argv[3] == "instance":
    # A kernel without histograms: hold an instance for as long, with everything around it.
    def hold(root, tracing, seconds, life, notes):
        instance = profile.Instance(tracing)
        try:
            instance.write("buffer_size_kb", "4")
            profile._wait(life, seconds)
        finally:
            instance.remove()
        return {"read": 1}, {}, seconds
    profile.by_histogram = hold
    sys.argv[3] = "tracefs"
print(json.dumps(profile.measure("", float(sys.argv[2]), [sys.argv[3]])))
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may count system calls")


def counted(seconds: float, means: str) -> dict:
    """A profile, or a skipped test that says what this kernel lacks."""
    found = syscall_counts.measure("", seconds, (means,))
    if found["means"] is None:
        pytest.skip(found["reason"])
    return found


# -- a known load --------------------------------------------------------------------------------------------------------------

@pytest.fixture
def load(tmp_path):
    if not syscall_load.CALLS:
        pytest.skip("the load knows the numbers of x86_64 and aarch64 only")
    path = tmp_path / "counters"
    path.write_bytes(bytes(syscall_load.SIZE))
    process = subprocess.Popen([sys.executable, str(HERE / "syscall_load.py"), str(path), str(RATE)])
    try:
        os.setpriority(os.PRIO_PROCESS, process.pid, -10)
    except PermissionError:
        pass
    counters = syscall_load.Counters(path)
    while counters.rounds() < 50:
        time.sleep(0.05)
    yield counters
    process.kill()
    process.wait()


def held_against(found: dict, least: float, most: float, capsys) -> None:
    """Counts and the load's own: the same within 1 %, or more for what others make too."""
    lines, wrong, own = [], [], (least + most) / 2
    for name in syscall_load.CALLS:
        calls, common = found["counts"].get(name, 0), name not in syscall_load.RARE
        lines.append(f"{name:12} {calls:9} counted {100 * (calls / own - 1):+8.3f} %" + (" (others make it too)" if common else ""))
        if calls < 0.99 * own or (calls > 1.01 * own and not common):
            wrong.append(name)
    with capsys.disabled():
        print(f"\n{found['means']}, {found['seconds']:.3f} s, the load made each {least:.0f} to {most:.0f} times", *lines, sep="\n  ")
    assert not wrong, lines
    assert own > 1000 * found["seconds"], "the load is below 1 000 calls a second: set FALCOTUNE_LOAD"


def test_a_known_load_in_a_histogram(load, monkeypatch, capsys):
    """The load's count is read before and after the histogram is set going, and before and after it is halted."""
    seen, trigger = mmap.mmap(-1, 64), syscall_counts.Instance.trigger

    def between(self, what, action, notes=None):
        place = {":cont": 0, ":pause": 16}.get(action)
        before = load.rounds()
        done = trigger(self, what, action, notes)
        if what is syscall_counts.CALLS:
            seen[place:place + 16] = struct.pack("<QQ", before, load.rounds())
        return done

    monkeypatch.setattr(syscall_counts.Instance, "trigger", between)
    for _attempt in range(3):
        found = counted(5, "tracefs")
        first, going, last, halted = struct.unpack("<4Q", seen[:32])
        if (halted - first) < 1.005 * (last - going):
            break
    else:
        pytest.skip("this machine is too busy to say what the load made meanwhile")
    held_against(found, last - going, halted - first, capsys)


def test_a_known_load_by_perf(load, capsys):
    """perf says how long it counted but not when: so it is held against the most and the least of any time so long."""
    for _attempt in range(3):
        began = time.monotonic()
        found = counted(10, "perf")
        least, most = load.windows(began, time.monotonic(), found["seconds"])
        if most / least < 1.005:
            break
    else:
        pytest.skip("this machine is too busy for a steady load: %.0f to %.0f calls in %.3f s" % (least, most, found["seconds"]))
    held_against(found, least, most, capsys)


def test_every_call_of_this_kernel_has_a_name_of_falcos(tmp_path):
    """In a mount namespace of the test's own, so that tracefs may be mounted."""
    program = ("import json, os, sys; sys.path.insert(0, sys.argv[1])\n"
               "from ansible_collections.falcotune.fleet.plugins.module_utils._measure import syscall_counts as p\n"
               "print(json.dumps(sorted(os.listdir(p.folder('') + '/events/syscalls'))))")
    done = subprocess.run([sys.executable, "-c", program, str(COLLECTIONS)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(done.stderr.splitlines()[-1])
    events = [name for name in json.loads(done.stdout) if name.startswith("sys_enter_")]
    names = {syscall_counts.call_name(name, "sys_enter_") for name in events}
    # Newer kernels may know calls that this Falco doesn't; functions with names of their own would be here too.
    unknown = names - syscall_names.names_for("0.44.1").kernel
    assert len(events) > 250 and len(unknown) <= 10 and not [name for name in unknown if name.startswith(("new", "old", "arm64"))], unknown


def test_the_module_in_a_play(tmp_path):
    """Both halves through Ansible, and a reason where this kernel has no means."""
    playbook = tmp_path / "count.yml"
    playbook.write_text("""\
- hosts: localhost
  gather_facts: false
  tasks:
    - falcotune.fleet.falco_syscall_profile: {seconds: 0.5, means: [tracefs]}
      check_mode: true
      register: counted
    - ansible.builtin.copy: {content: "{{ counted | to_json }}", dest: "%s", mode: "0600"}
""" % (tmp_path / "counted.json"))
    done = subprocess.run([str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local", str(playbook),
                           "-e", "ansible_python_interpreter=" + sys.executable],
                          env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    counted_there = json.loads((tmp_path / "counted.json").read_text())
    found = counted_there["profile"]
    assert counted_there["changed"] is False and "measured" not in counted_there
    if found["means"] is None:
        assert found["reason"].startswith(("tracefs: ", "there is no tracefs", "only root", "kernel lockdown", "no writable tracefs"))
    else:
        assert found["means"] == "tracefs" and found["total_per_second"] > 0


# -- kills ---------------------------------------------------------------------------------------------------------------------

def stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name; [] for one that is gone or only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return []
    return [] if fields[0] in "ZX" else fields


def members(session: int) -> list[int]:
    """Living processes of a session: a watchdog's are its own and perf."""
    found = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [pid for pid in found if (stat(pid) or [0] * 4)[3] == str(session)]


def tracefs_mounts() -> list[str]:
    return [line for line in Path("/proc/self/mounts").read_text().splitlines() if line.split()[2] in ("tracefs", "debugfs")]


def watchdog_of(pid: int) -> int | None:
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and (stat(int(path.name)) or [0, 0])[1] == str(pid):
            return int(path.name)
    return None


def instances(watchdog: int) -> list[str]:
    """A watchdog's instances, seen from a mount namespace that is gone afterwards; other tests have theirs."""
    program = ("import os, sys; sys.path.insert(0, sys.argv[1])\n"
               "from ansible_collections.falcotune.fleet.plugins.module_utils._measure import syscall_counts as p\n"
               "print(*[name for name in os.listdir(p.folder('') + '/instances') if name.startswith(p.PREFIX)])")
    done = subprocess.run([sys.executable, "-c", program, str(COLLECTIONS)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(done.stderr.splitlines()[-1])
    return [name for name in done.stdout.split() if name.startswith("%s%d-" % (syscall_counts.PREFIX, watchdog))]


def gone(pids, seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while any(stat(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(stat(pid) for pid in pids)


@pytest.mark.parametrize("means", ["tracefs", "perf"])
@pytest.mark.parametrize("victim", ["module", "watchdog", "both"])
def test_killed_at_a_random_moment(means, victim, capsys):
    number = int(os.environ.get("FALCOTUNE_KILLS", "0")) or {"tracefs": 8, "perf": 3}[means]
    share = len(range(["module", "watchdog", "both"].index(victim), number, 3))
    began = time.monotonic()
    if syscall_counts.measure("", 0.5, (means,))["means"] is None:
        if means == "perf":
            pytest.skip("no perf here")
        instances(0)
        means, began = "instance", time.monotonic() - 0.6
    took = time.monotonic() - began
    chance, mounts = random.Random(), tracefs_mounts()
    caught = {"over": 0, "working": 0, "left an instance": 0}
    for _kill in range(share):
        module = subprocess.Popen([sys.executable, "-c", MODULE, str(COLLECTIONS), "0.5", means], stdout=subprocess.PIPE,
                                  start_new_session=True)
        watchdog = None
        while watchdog is None and module.poll() is None:
            watchdog = watchdog_of(module.pid)
        time.sleep(chance.uniform(0, took))
        caught["working" if watchdog and stat(watchdog) else "over"] += 1
        followers = members(watchdog) if watchdog else []
        for pid in {"module": [module.pid], "watchdog": [watchdog], "both": [watchdog, module.pid]}[victim]:
            if pid:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        said = module.communicate()[0]
        if watchdog is None:
            continue
        assert gone([watchdog, *followers]), "a process stays"
        assert members(watchdog) == []
        left = instances(watchdog)
        if victim == "both":
            caught["left an instance"] += len(left)
            syscall_counts.measure("", 0.5, ("tracefs",) if means == "instance" else (means,) if means == "tracefs" else ())
            left = instances(watchdog)
        elif victim == "watchdog" and said:
            found = json.loads(said)
            assert found["means"] or found["reason"] == "the process that counts was killed"
        assert left == [] and tracefs_mounts() == mounts
    with capsys.disabled():
        print(f"\n{means}, {victim} killed {share} times in {took:.1f} s: {caught}")


def test_a_run_leaves_the_living_alone():
    """Two at once: the second sweeps, and the first goes on counting in its instance."""
    probe = syscall_counts.measure("", 0.5, ("tracefs",))
    means = "tracefs" if probe["means"] else "instance"
    if means == "instance":
        instances(0)
    first = subprocess.Popen([sys.executable, "-c", MODULE, str(COLLECTIONS), "60", means])
    watchdog = None
    while watchdog is None or not instances(watchdog):
        watchdog = watchdog_of(first.pid)
        assert first.poll() is None
    syscall_counts.measure("", 0.5, ("tracefs",))
    assert len(instances(watchdog)) == 1
    first.kill()
    first.wait()
    assert gone([watchdog]) and instances(watchdog) == []


