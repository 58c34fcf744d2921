# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes on a host with a systemd and a journal of its own: what the stand-ins can't show of cgroups, timers, users and streams."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import yaml

import direct
from conftest import wait_for
from hosts import HERE
from machines import packaged, simulated
from machines import DEFAULTS as MACHINE
from playbooks import COLLECTIONS
from systemd_host import NotHere, SystemdHost

UNIT = "falco-modern-bpf.service"
FRAGMENT = "/etc/falco/config.d/zz-falcotune.yaml"
STATE = "/var/lib/falcotune"
SIMULATOR = HERE.parent / "simulator" / "falco"
POLICY = {"falco_tune_metrics_interval": "1s", "falco_tune_min_healthy_time": 1, "falco_tune_healthy_deadline": 60,
          "falco_tune_buf_size_preset": 6}
# Of systemd-run: the unit's processes are a session of this PAM service.
SESSION = ("--property=PAMName=falcotune", "--property=User=root")
# A script that its interpreter reads, so that the process's command line is Falco's.
FALCO = """#!%s
import os, runpy, sys
os.environ["FALCO_SIM"] = "/etc/falco-sim.json"
sys.argv[0] = %r
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
""" % (sys.executable, str(SIMULATOR))


class Machine(SystemdHost):
    """With Falco's packaged unit and the simulator."""

    def __init__(self):
        super().__init__()
        self.write("/root/run.py", direct.RUNNER)

    def install(self, fault=None, user=None, lines="", **more):
        """A new Falco, which runs. more: of the simulator's profile. lines: of a drop-in's [Service]."""
        spec = {**MACHINE, "driver": "modern_ebpf", "startup_seconds": 0.3, "restart_seconds": 2, "measures": "1s", "fault": fault,
                "cpus": 2, **more}
        self.run("systemctl", "stop", UNIT)
        self.run("sh", "-c", f"rm -rf {STATE} /etc/falco /var/log/falco /etc/systemd/system/{UNIT}.d /etc/systemd/system/*falcotune* "
                 "/etc/systemd/system/*.wants/falcotune*")
        for path, text in packaged(spec).items():
            self.write(path, text)
        self.write("/usr/bin/falco", FALCO, 0o755)
        self.write("/etc/falco-sim.json", simulated(spec))
        self.run("mkdir", "-p", "/etc/falco/config.d", "/etc/falco/rules.d", "/etc/logrotate.d", "/var/log")
        # Its own processes see the interpreter and the checkout, wherever those are.
        lines = "ProtectHome=no\nStandardOutput=null\n" + lines + (f"User={user}\n" if user else "")
        self.write(f"/etc/systemd/system/{UNIT}.d/50-local.conf", "[Service]\n" + lines)
        self.run("systemctl", "daemon-reload")
        self.run("systemctl", "reset-failed", UNIT)
        started = self.run("systemctl", "start", UNIT)
        assert started.returncode == 0, started.stdout
        wait_for(lambda: self.show(UNIT, "SubState")["SubState"] == "running", what="Falco")

    def module(self, name, arguments, unit=None):
        """What a module answers. unit: it is begun in a unit of this name, and not waited for."""
        self.write("/root/in.json", json.dumps([name, arguments, ""]))
        words = f"PYTHONPATH={COLLECTIONS} exec {sys.executable} /root/run.py </root/in.json"
        if unit:
            self.run("systemctl", "reset-failed", unit)
            done = self.run("systemd-run", f"--unit={unit}", "sh", "-c", words + " >/root/out.json")
            assert done.returncode == 0, done.stdout
            return None
        done = self.run("sh", "-c", words + " 2>/root/errors")
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise AssertionError(done.stdout + self.inside("/root/errors").read_text()) from None

    def request(self, **policy):
        from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import assembly, planner
        from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies
        from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import requests

        complete = policies.complete({**POLICY, **policy})
        arguments = {name: complete[name] for name in ("host_root", "unit", "config_file", "state_dir", "metrics_dir")}
        gathered = self.module("falco_facts", {**arguments, "observe_seconds": 0})
        found = assembly.assemble(gathered["ansible_facts"]["falco"])
        made = planner.make(found, complete)
        return {"request": requests.build("present", made, found, complete, yaml.safe_dump(made["settings"], sort_keys=False))}

    def kept(self, name):
        try:
            return json.loads(self.inside(f"{STATE}/{name}").read_text())
        except (OSError, ValueError):
            return {}

    def left(self):
        """What a change should have removed."""
        found = self.run("sh", "-c", f"ls -A {STATE} | grep -v -x -e history -e lock -e record.json -e undone.json; "
                         "find /etc/systemd /run/systemd/system -name '*falcotune-*' ! -name '*.conf'; "
                         "find /run/systemd/system -name 'zz-falcotune*'; "
                         "systemctl list-units --all --plain --no-legend 'falcotune-*'")
        return found.stdout

    def runs(self):
        return self.show(UNIT, "SubState")["SubState"] == "running"


@pytest.fixture(scope="module")
def machine():
    try:
        host = Machine()
    except NotHere as reason:
        pytest.skip(str(reason))
    yield host
    host.stop()


@pytest.fixture
def bus(machine):
    if machine.run("systemctl", "start", "dbus").returncode:
        pytest.skip("no D-Bus here")
    yield
    machine.run("systemctl", "stop", "dbus.socket", "dbus")


@pytest.fixture
def logind(machine, bus):
    """systemd-logind, which ends what a session leaves behind, and a PAM service whose sessions it knows.

    As for a user who becomes root with sudo: of root's own sessions nothing is ended by default.
    """
    machine.write("/etc/systemd/logind.conf.d/90-ends.conf", "[Login]\nKillUserProcesses=yes\nKillExcludeUsers=nobody\n")
    machine.write("/etc/pam.d/falcotune", "account required pam_permit.so\nsession required pam_systemd.so class=user\n")
    if machine.run("systemctl", "restart", "systemd-logind").returncode:
        pytest.skip("no systemd-logind here")
    if machine.run("systemd-run", "--wait", *SESSION, "grep", "-q", "session-", "/proc/self/cgroup").returncode:
        pytest.skip("no session of systemd-logind here: pam_systemd is missing")
    yield
    machine.run("systemctl", "stop", "systemd-logind")


def _begun(machine, phases=("stopping", "stopped", "swapped", "started"), **policy):
    """A change in a session that can be ended, in one of these phases."""
    machine.module("falco_config", machine.request(**policy), unit="session")
    wait_for(lambda: machine.kept("journal.json").get("phase") in phases, 60, "the stop")


def test_a_change_outlives_its_session(machine, bus):
    """As at logout with KillUserProcesses=yes, and at the end of a job: systemd kills the whole cgroup."""
    machine.install(startup_seconds=4)
    _begun(machine)
    scope = "falcotune-%s.scope" % machine.kept("journal.json")["token"]
    assert machine.show(scope, "ActiveState", "Slice") == {"ActiveState": "active", "Slice": "system.slice"}
    machine.run("systemctl", "stop", "session")
    wait_for(lambda: machine.kept("record.json") and not machine.kept("journal.json"), 60, "the end of the change")
    wait_for(lambda: machine.left() == "", 20, "nothing left")
    assert machine.runs() and machine.inside(FRAGMENT).exists()
    assert machine.kept("record.json")["evidence"]["notes"] == []


def test_a_change_outlives_a_logout_with_kill_user_processes(machine, logind):
    """The process that opened a session of systemd-logind closes it, as sshd does when the connection ends."""
    machine.install(startup_seconds=4)
    machine.write("/root/in.json", json.dumps(["falco_config", machine.request(), ""]))
    words = f"setsid sleep 600 & PYTHONPATH={COLLECTIONS} {sys.executable} /root/run.py </root/in.json >/root/out.json"
    machine.run("systemctl", "reset-failed", "session")
    done = machine.run("systemd-run", "--unit=session", *SESSION, "sh", "-c", words)
    assert done.returncode == 0, done.stdout
    wait_for(lambda: machine.kept("journal.json").get("phase") in ("stopping", "stopped", "swapped", "started"), 60, "the stop")
    assert machine.run("loginctl", "list-sessions", "--no-legend").stdout.strip() and machine.run("pgrep", "-x", "sleep").stdout
    machine.run("systemctl", "stop", "session")  # its processes are in the session's scope, and logind ends that
    wait_for(lambda: not machine.run("pgrep", "-x", "sleep").stdout, 60, "the end of what the session left behind")
    wait_for(lambda: machine.kept("record.json") and not machine.kept("journal.json"), 60, "the end of the change")
    wait_for(lambda: machine.left() == "", 20, "nothing left")
    assert machine.runs() and machine.inside(FRAGMENT).exists()


def test_without_d_bus_the_end_of_the_session_is_undone_by_the_timer(machine):
    machine.install(startup_seconds=4)
    _begun(machine, ("swapped", "started"))
    machine.run("systemctl", "kill", "--signal=SIGKILL", "session")
    machine.run("systemctl", "stop", UNIT)
    wait_for(lambda: machine.kept("undone.json"), 60, "the timer")
    wait_for(lambda: machine.left() == "", 20, "nothing left")
    assert machine.runs() and not machine.inside(FRAGMENT).exists()


def test_at_boot_systemd_undoes_it_before_falco_starts(machine):
    machine.install(startup_seconds=4)
    _begun(machine, ("swapped", "started"))
    token = machine.kept("journal.json")["token"]
    machine.run("systemctl", "kill", "--signal=SIGKILL", "session")
    machine.run("systemctl", "stop", f"falcotune-start-{token}.timer", UNIT)
    machine.run("systemctl", "daemon-reload")
    unit = f"falcotune-undo-{token}.service"
    assert UNIT in machine.show(unit, "Before")["Before"].split()
    assert machine.run("readlink", "-e", f"/etc/systemd/system/multi-user.target.wants/{unit}").stdout.strip() \
        == machine.show(unit, "FragmentPath")["FragmentPath"]
    done = machine.run("systemctl", "start", unit, UNIT)
    assert done.returncode == 0, done.stdout
    assert machine.runs() and not machine.inside(FRAGMENT).exists() and machine.kept("undone.json")["token"] == token
    assert machine.left() == ""


def test_why_a_start_failed_is_in_the_journal(machine):
    machine.install(fault={"refuse": "no device", "when": {"metrics.resource_utilization_enabled": True}})
    answer = machine.module("falco_config", machine.request())
    assert answer["undone"] and "Falco said: Error: no device" in answer["msg"], answer
    assert machine.runs() and machine.left() == "" and not machine.inside(FRAGMENT).exists()


def test_a_falco_that_is_not_roots(machine):
    if machine.run("sh", "-c", "id falco || useradd --system --shell /bin/false falco").returncode:
        pytest.skip("no user can be made here")
    machine.install(user="falco")
    machine.run("sh", "-c", "chown -R root:falco /etc/falco && chmod 0640 /etc/falco/*.yaml")
    answer = machine.module("falco_config", machine.request())
    assert answer.get("changed"), answer
    found = machine.run("stat", "-c", "%U %G %a", FRAGMENT, "/var/log/falco", "/var/log/falco/metrics.jsonl").stdout.splitlines()
    assert found[:2] == ["root falco 640", "falco falco 750"] and found[2].startswith("falco falco"), found
    assert "    su falco falco\n" in machine.inside("/etc/logrotate.d/falcotune").read_text()
    assert answer["evidence"]["basis"] == "counters" and machine.left() == ""


def test_a_directory_that_the_unit_may_not_write_to_is_refused_before_the_stop(machine):
    """F08: root without the capability that overrides modes, and the log daemon's directory."""
    machine.install(lines="CapabilityBoundingSet=~CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH\n")
    machine.run("sh", "-c", "mkdir -p /var/log/falco && chown daemon /var/log/falco && chmod 0755 /var/log/falco")
    pid = machine.show(UNIT, "MainPID")
    answer = machine.module("falco_config", machine.request())
    assert answer["undone"] and "as user root without cap_dac_override" in answer["msg"], answer
    assert machine.show(UNIT, "MainPID") == pid and not machine.inside(FRAGMENT).exists()


def test_acl_attributes_and_label_of_a_replaced_file_are_kept(machine):
    machine.install()
    assert machine.module("falco_config", machine.request())["changed"]
    path = machine.inside(FRAGMENT)
    try:
        os.setxattr(path, "user.origin", b"site")
    except OSError as error:
        pytest.skip("this file system has no attributes: %s" % error.strerror)
    acl = bytes.fromhex("0200000001000600ffffffff02000400010000000400040 0ffffffff10000400ffffffff20000000ffffffff".replace(" ", ""))
    os.setxattr(path, "system.posix_acl_access", acl)
    os.chown(path, 0, 4)
    kept = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    answer = machine.module("falco_config", machine.request(falco_tune_buf_size_preset=7))
    assert answer["changed"] and "buf_size_preset: 7" in path.read_text(), answer
    assert {name: os.getxattr(path, name) for name in os.listxattr(path)} == kept and path.stat().st_gid == 4
    assert set(kept) >= {"user.origin", "system.posix_acl_access"}


def test_a_stop_of_two_minutes(machine):
    """systemd kills it after TimeoutStopSec; the start that follows the undo waits for that."""
    machine.install(fault={"hang_on_term": True}, stop_timeout_seconds=60)
    before = Path(machine.inside("/etc/falco/falco.yaml")).read_text()
    answer = machine.module("falco_config", machine.request())
    assert answer["undone"] and "did not stop within 45 s" in answer["msg"], answer
    assert machine.runs() and machine.left() == "" and machine.inside("/etc/falco/falco.yaml").read_text() == before
