# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""schedule_audit: files below a directory of the test's, cron's script as cron starts it, and a host with a systemd of its own."""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import wait_for
from playbooks import COLLECTIONS, environment, play
from systemd_host import NotHere, SystemdHost

SCHEDULE = "falcotune.fleet.schedule_audit"
# What systemd, a shell or cron could take for something else.
HOSTILE = ["", "a  b ", "%n %% %", "$HOME", "${HOME}", "a$HOME$$ ${x", 'say "yes"', "it's", "back\\slash\\", "\\x41\\n",
           "two\nlines\n", "tab\tcr\r", "; exit 0", ";", "&& x || y | z > /x", "`id` $(id)", "*", "~", "#no comment", "!history", "-@+:x",
           "web[0:3]:&db", "\x1b[31m\x7f", "ünï ☃ 😀", "--vault-password-file=/etc/my secrets/%h.vault", "[Service]", "x" * 3000]

# Stands in for ansible-playbook: writes down how it was started, waits for a file if it is told to, and exits with the status it is told.
PROGRAM = """#!%s
import json, os, sys, time
if sys.argv[-1] == "--syntax-check":
    sys.exit(0)
with open(os.environ["RECORD"], "a") as stream:
    stream.write(json.dumps({"argv": sys.argv[1:], "environment": dict(os.environ), "cwd": os.getcwd(), "nice": os.nice(0)}) + "\\n")
plan = json.load(open(os.environ["PLAN"]))
print("said on stdout")
while plan["until"] and not os.path.exists(plan["until"]):
    time.sleep(0.05)
sys.exit(plan["status"])
""" % sys.executable


class Place:
    """Directories for one schedule after the other, its user the one that runs the tests."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("units", "cron", "bin"):
            (folder / name).mkdir()
        self.inventory = folder / "the hosts.ini"
        self.inventory.write_text("[web]\nweb-01\n")
        self.program = folder / "ansible-playbook"
        self.program.write_text(PROGRAM)
        self.program.chmod(0o755)
        self.plan = folder / "plan.json"
        self.end(0)
        self.record = folder / "record"
        self.variables = {
            "inventory": [str(self.inventory)], "ansible_playbook": str(self.program), "activate": False, "sandbox": False,
            "environment": {"RECORD": str(self.record), "PLAN": str(self.plan), "ODD": "".join(HOSTILE)},
            "user": getpass.getuser(), "dir": str(folder / "lib"), "unit_dir": str(folder / "units"), "cron_dir": str(folder / "cron"),
            "script_dir": str(folder / "bin")}

    def end(self, status: int, until: Path | None = None) -> None:
        self.plan.write_text(json.dumps({"status": status, "until": str(until or "")}))

    def converge(self, *words: str, **variables):
        given = {"falco_schedule_" + name: value for name, value in {**self.variables, **variables}.items()}
        return play(SCHEDULE, "localhost,", "-e", json.dumps({"ansible_become": False, **given}), *words)

    def records(self) -> list[dict]:
        return [json.loads(line) for line in self.record.read_text().splitlines()] if self.record.exists() else []

    def files(self) -> dict[str, tuple]:
        """Every file and directory that the role may touch: mode, content."""
        found = {}
        for top in ("units", "cron", "bin", "lib"):
            for path in [self.folder / top, *sorted((self.folder / top).rglob("*"))]:
                if path.exists() and ".ansible" not in path.parts:
                    mode, text = stat.S_IMODE(path.stat().st_mode), path.read_text() if path.is_file() else None
                    found[str(path.relative_to(self.folder))] = (mode, text)
        return found


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def as_cron_does(script: Path) -> subprocess.Popen:
    env = {"PATH": "/usr/bin:/bin", "HOME": os.path.expanduser("~"), "LOGNAME": getpass.getuser(), "SHELL": "/bin/sh"}
    return subprocess.Popen(["/bin/sh", "-c", str(script)], cwd="/", env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.skipif(not shutil.which("flock"), reason="cron's script needs flock")
def test_cron_from_installation_to_removal(place):
    wanted = {"manager": "cron", "arguments": HOSTILE, "cron_seed": "one", "log_max_mib": 1, "timeout": 60}
    before = place.files()
    trial = place.converge("--check", "--diff", **wanted)
    assert trial.status == 0 and trial.changed == {"localhost"} and place.files() == before, trial.output
    done = place.converge(**wanted)
    assert done.status == 0, done.output
    files = place.files()
    assert place.converge(**wanted).changed == set() and place.files() == files

    script, home = place.folder / "bin/falco-schedule-audit", place.folder / "lib/audit"
    assert files["lib/audit"][0] == 0o700 and files["bin/falco-schedule-audit"][0] == 0o755
    mode, text = files["cron/falco-schedule-audit"]
    line = text.splitlines()[-1]
    minute = re.fullmatch(r"([0-5]?\d) 2 \* \* \* (\S+) (\S+)", line)
    assert mode == 0o644 and minute and minute[2] == getpass.getuser() and minute[3] == str(script), line
    assert "%" not in text and max(map(len, text.splitlines())) < 998

    # A run: what was given arrives, and its status is cron's.
    place.end(2)
    status, out, err = ended(as_cron_does(script))
    assert (status, out) == (2, "") and "exit status 2" in err and str(home / "run.log") in err
    run, = place.records()
    assert run["argv"] == ["falcotune.fleet.audit_falco", "--inventory", str(place.inventory),
                           "--extra-vars", json.dumps({"falco_audit_report_dir": str(home / "reports")}), *HOSTILE]
    assert run["environment"]["ODD"] == "".join(HOSTILE) and run["environment"]["ANSIBLE_HOME"] == str(home / ".ansible")
    assert run["cwd"] == str(home) and run["nice"] >= 10
    log = (home / "run.log").read_text()
    assert "said on stdout" in log and "exit status 2" in log and stat.S_IMODE((home / "run.log").stat().st_mode) == 0o600

    # A second start while one is under way.
    place.end(0, until=place.folder / "go")
    first = as_cron_does(script)
    wait_for(lambda: len(place.records()) == 2)
    status, out, err = ended(as_cron_does(script))
    assert status == 75 and "has not ended" in err
    (place.folder / "go").touch()
    assert ended(first)[0] == 0 and len(place.records()) == 2

    # The log keeps one older.
    (home / "run.log").write_text("x" * (1024 * 1024 + 1))
    place.end(0)
    assert ended(as_cron_does(script)) == (0, "", "")
    assert (home / "run.log.1").stat().st_size > 1024 * 1024 > (home / "run.log").stat().st_size > 0

    # Another beside it, with a minute of its own.
    assert place.converge(**{**wanted, "job": "check", "name": "what-if", "cron_seed": "one"}).status == 0
    other = (place.folder / "cron/falco-schedule-what-if").read_text().splitlines()[-1]
    assert other.split()[0] != minute[1] and "--check" in (place.folder / "bin/falco-schedule-what-if").read_text()

    gone = place.converge(state="absent", manager="cron")
    assert gone.status == 0 and gone.changed == {"localhost"}, gone.output
    assert [name for name in place.files() if "schedule-audit" in name] == [] and (home / "run.log").exists()
    assert (place.folder / "cron/falco-schedule-what-if").exists()


def test_units_from_installation_to_removal(place):
    wanted = {"manager": "systemd", "arguments": HOSTILE, "on_failure": "mail@%n.service", "writable_paths": [str(place.folder)]}
    before = place.files()
    trial = place.converge("--check", "--diff", **wanted)
    assert trial.status == 0 and trial.changed == {"localhost"} and place.files() == before, trial.output
    assert "+OnCalendar=*-*-* 02:00:00" in trial.output and "+ExecStart=%s" % place.program in trial.output

    # What was cron's before is systemd's now, and not both.
    assert place.converge(manager="cron").status == 0
    done = place.converge(**wanted)
    assert done.status == 0, done.output
    files = place.files()
    assert {name for name in files if name.startswith(("units/", "cron/", "bin/"))} == {
        "units/falco-schedule-audit.service", "units/falco-schedule-audit.timer"}
    assert place.converge(**wanted).changed == set() and place.files() == files
    service = files["units/falco-schedule-audit.service"][1]
    for line in ("Type=oneshot", "User=%s" % getpass.getuser(), "OnFailure=mail@%n.service", "TimeoutStartSec=3600", "Nice=10",
                 "IOSchedulingClass=idle"):
        assert line in service.splitlines()
    for line in ("Persistent=true", "RandomizedDelaySec=1800"):
        assert line in files["units/falco-schedule-audit.timer"][1].splitlines()
    if shutil.which("systemd-analyze"):
        units = [str(path) for path in (place.folder / "units").iterdir()]
        found = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, check=False)
        assert "falco-schedule" not in found.stdout, found.stdout

    trial = place.converge("--check", state="absent")
    assert trial.changed == {"localhost"} and place.files() == files
    assert place.converge(state="absent").changed == {"localhost"}
    assert {name for name in place.files() if name not in before} == {"lib", "lib/audit"}
    assert place.converge(state="absent").changed == set()
    assert place.converge(state="absent", purge=True).changed == {"localhost"}
    assert not (place.folder / "lib/audit").exists()


# What is given, and what the role says of it: what it found and what it expected.
WRONG = {
    "name": ("Audit!", '"Audit!", expected lower-case letters'),
    "dir": ("lib", '"lib", expected an absolute path'),
    "unit_dir": ("/etc/a b", '"/etc/a b", expected an absolute path'),
    "cron_dir": ("", '"", expected an absolute path'),
    "script_dir": ("/usr/%n", '"/usr/%n", expected an absolute path'),
    "inventory": ([], "[], expected at least one absolute path"),
    "arguments": (["a\0b"], "expected a list, one argument an item, without NUL"),
    "environment": ({"a b": 1}, '["a b"], expected names of letters'),
    "playbook": ("site.yml", '"site.yml", expected an absolute path or a full name'),
    "ansible_playbook": ("ansible-playbook", '"ansible-playbook", expected an absolute path'),
    "collections_path": ("here", '"here", expected absolute paths'),
    "calendar": ("daily\nUnit=other.service", "expected a calendar event"),
    "random_delay": (-1, "-1, expected 0 to 86400"),
    "cron_time": ("61 2 * * *", '"61 2 * * *", expected the five fields'),
    "timeout": (5, "5, expected 60 to 604800"),
    "nice": (20, "20, expected 0 to 19"),
    "log_max_mib": (0, "0, expected 1 to 1024"),
    "writable_paths": (["here"], '["here"], expected a list of absolute paths'),
    "on_failure": ("mail", '"mail", expected the name of one unit'),
    "cron_mailto": ('root"\n* * * * * root sh', "expected addresses or users"),
    "user": ("nobody-of-this-name", '"no user nobody-of-this-name", expected one that exists'),
    "calender": ("daily", '["falco_schedule_calender"], expected only falco_schedule_activate'),
}


def test_all_that_is_wrong_is_told_before_anything_is_touched(place):
    before = place.files()
    run = place.converge(**{name: value for name, (value, _) in WRONG.items()})
    said = run.failure("localhost")
    assert run.status == 2 and run.changed == set() and place.files() == before
    missing = [name for name, (_, text) in WRONG.items() if text not in said]
    assert missing == [], said
    assert all("falco_schedule_%s: found" % name in said for name in WRONG if name != "calender")


@pytest.mark.parametrize("given, said", [
    ({"inventory": ["/nonexistent/hosts.ini"]}, "/nonexistent/hosts.ini: found nothing, expected"),
    ({"job": "tune"}, "value of falco_schedule_job must be one of: audit, check, got: tune"),
    ({"manager": "systemd", "sandbox": True, "inventory": ["/tmp/hosts.ini"]}, "which it hides"),
    ({"timeout": "soon"}, "falco_schedule_timeout"),
])
def test_more_that_is_wrong(place, given, said):
    before = place.files()
    run = place.converge(**given)
    assert run.status == 2 and run.changed == set() and place.files() == before
    assert said in json.dumps([event["result"] for event in run.events if event["state"] == "failed"])


def test_what_the_user_cant_read_is_told_before_anything_is_scheduled(place):
    place.program.write_text("#!/bin/sh\necho 'no such collection' >&2\nexit 4\n")
    run = place.converge(manager="cron")
    assert run.status == 2 and "no such collection" in run.output
    assert not [name for name in place.files() if name.startswith(("units/", "cron/", "bin/"))]


# -- a host with systemd

INSTALLED = "/opt/falcotune/collections"
PLAYBOOK = """
- hosts: all
  gather_facts: false
  connection: local
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
    wanted: "{{ lookup('ansible.builtin.file', '/srv/wanted.json') | from_json }}"
  tasks:
    - name: Look where the run can write
      ansible.builtin.command:
        argv:
          - sh
          - -c
          - 'for dir in /var/lib/falco-schedule /var/lib/falco-schedule/audit /srv/open; do touch "$dir/mark" && echo "$dir"; done; true'
      register: marks
      changed_when: false
    - name: Tell
      ansible.builtin.debug:
        msg: "writable={{ marks.stdout_lines | join(',') }}"
    - name: Take time
      ansible.builtin.wait_for:
        path: "{{ wanted.until }}"
    - name: End badly
      ansible.builtin.fail:
        msg: told to
      when: wanted.status != 0
"""


@pytest.fixture(scope="module")
def host():
    try:
        host = SystemdHost()
    except NotHere as reason:
        pytest.skip(str(reason))
    # Where an administrator installs it for all users.
    shutil.copytree(COLLECTIONS, host.inside(INSTALLED), symlinks=True)
    yield host
    host.stop()


def converge(host, *words, **variables):
    """Run the playbook on the host and have its recap: (status, changed tasks, output)."""
    given = {"falco_schedule_inventory": ["/srv/hosts.ini"], **{"falco_schedule_" + name: value for name, value in variables.items()}}
    done = host.run(str(Path(sys.executable).with_name("ansible-playbook")), SCHEDULE, "-i", "localhost,", "-e", json.dumps(given), *words,
                    **environment(ANSIBLE_COLLECTIONS_PATH=INSTALLED))
    changed = re.search(r"changed=(\d+)", done.stdout)
    return done.returncode, int(changed[1]) if changed else None, done.stdout


def test_a_run_by_systemd(host):
    """One story: install, runs that end well, badly and not yet, remove."""
    host.write("/srv/hosts.ini", "here\n")
    host.write("/srv/play.yml", PLAYBOOK)
    host.write("/etc/systemd/system/notice@.service", "[Service]\nType=oneshot\nExecStart=/usr/bin/touch /run/notice-%i\n")
    host.inside("/srv/open").mkdir(mode=0o777)
    host.inside("/srv/open").chmod(0o777)
    wanted = {"playbook": "/srv/play.yml", "on_failure": "notice@%p.service"}
    status, changed, output = converge(host, **wanted)
    assert status == 0 and changed, output
    assert converge(host, **wanted)[:2] == (0, 0)
    assert host.run("getent", "passwd", "falco-schedule").stdout.strip().endswith(":/var/lib/falco-schedule:/usr/sbin/nologin")
    assert host.run("stat", "-c", "%U %a", "/var/lib/falco-schedule/audit").stdout == "falco-schedule 700\n"
    assert host.show("falco-schedule-audit.timer", "ActiveState", "UnitFileState", "Persistent", "RandomizedDelayUSec") == {
        "ActiveState": "active", "UnitFileState": "enabled", "Persistent": "yes", "RandomizedDelayUSec": "30min"}

    def start(status, until="/srv", *words):
        host.write("/srv/wanted.json", json.dumps({"status": status, "until": until}))
        return host.run("systemctl", "start", *words, "falco-schedule-audit.service")

    def state():
        return host.show("falco-schedule-audit.service", "ActiveState", "Result", "ExecMainStatus", "InvocationID")

    done = start(0)
    assert done.returncode == 0, host.run("systemctl", "status", "--no-pager", "-l", "falco-schedule-audit.service").stdout
    assert state()["Result"] == "success" and state()["ExecMainStatus"] == "0"
    kept = {"Nice": "10", "IOSchedulingClass": "3", "NoNewPrivileges": "yes", "PrivateTmp": "yes", "ProtectSystem": "strict",
            "ProtectHome": "read-only", "TimeoutStartUSec": "1h", "User": "falco-schedule"}
    assert host.show("falco-schedule-audit.service", *kept) == kept
    assert host.run("systemctl", "is-failed", "falco-schedule-audit.service").stdout == "inactive\n"
    log = host.run("cat", "/var/lib/falco-schedule/audit/run.log").stdout
    # In its own directory, and nowhere else: not even where everybody may. The log and the journal both have it.
    for text in (log, host.run("journalctl", "--no-pager", "-u", "falco-schedule-audit.service").stdout):
        assert '"msg": "writable=/var/lib/falco-schedule/audit"' in text, text

    assert start(2).returncode == 1
    assert host.run("systemctl", "is-failed", "falco-schedule-audit.service").stdout == "failed\n"
    said = host.run("systemctl", "status", "--no-pager", "falco-schedule-audit.service")
    assert said.returncode == 3 and "code=exited, status=2" in said.stdout and "told to" in said.stdout
    wait_for(lambda: host.inside("/run/notice-falco-schedule-audit").exists(), what="OnFailure")

    # A second start joins the run that is under way.
    start(0, "/srv/go", "--no-block")
    wait_for(lambda: state()["ActiveState"] == "activating", what="the run")
    first = state()["InvocationID"]
    assert start(0, "/srv/go", "--no-block").returncode == 0
    assert len(host.run("systemctl", "list-jobs", "--no-legend", "falco-schedule-audit.service").stdout.splitlines()) == 1
    host.write("/srv/go", "")
    wait_for(lambda: state()["ActiveState"] == "inactive", 120, "the end of the run")
    assert state()["InvocationID"] == first and state()["Result"] == "success"
    assert host.run("grep", "-c", "PLAY RECAP", "/var/lib/falco-schedule/audit/run.log").stdout == "3\n"

    # Removed in the middle of a run: nothing is left but what was written.
    start(0, "/srv/never", "--no-block")
    wait_for(lambda: state()["ActiveState"] == "activating", what="the run")
    status, changed, output = converge(host, state="absent")
    assert status == 0 and changed, output
    assert host.run("systemctl", "list-units", "--all", "--no-legend", "falco-schedule*").stdout == ""
    assert host.run("systemctl", "list-unit-files", "--no-legend", "falco-schedule*").stdout == ""
    places = ("/etc/systemd", "/run/systemd", "/var/lib/systemd", "/etc/cron.d", "/usr/local/sbin")
    assert host.run("find", *places, "-name", "*falco-schedule*").stdout == ""
    assert host.run("pgrep", "-u", "falco-schedule").stdout == ""
    assert host.inside("/var/lib/falco-schedule/audit/run.log").exists()
    status, changed, output = converge(host, state="absent", purge=True)
    assert status == 0 and changed, output
    assert host.run("getent", "passwd", "falco-schedule").stdout == "" and not host.inside("/var/lib/falco-schedule").exists()
    assert converge(host, state="absent", purge=True)[:2] == (0, 0)


def test_systemd_starts_it_with_what_was_given(host):
    host.write("/srv/hosts.ini", "here\n")
    host.write("/srv/program", PROGRAM, 0o755)
    host.write("/srv/plan.json", '{"status": 0, "until": ""}')
    host.inside("/srv/record").mkdir(exist_ok=True)
    host.inside("/srv/record").chmod(0o777)
    wanted = {"name": "odd", "ansible_playbook": "/srv/program", "arguments": HOSTILE, "writable_paths": ["/srv/record"],
              "environment": {"RECORD": "/srv/record/lines", "PLAN": "/srv/plan.json", "ODD": "".join(HOSTILE)}}
    status, changed, output = converge(host, **wanted)
    assert status == 0 and changed, output
    done = host.run("systemctl", "start", "falco-schedule-odd.service")
    assert done.returncode == 0, host.run("systemctl", "status", "--no-pager", "-l", "falco-schedule-odd.service").stdout
    run = json.loads(host.run("cat", "/srv/record/lines").stdout)
    assert run["argv"][5:] == HOSTILE and run["environment"]["ODD"] == "".join(HOSTILE)
    assert json.loads(run["argv"][4]) == {"falco_audit_report_dir": "/var/lib/falco-schedule/odd/reports"}
    assert host.run("systemd-analyze", "verify", "--man=no", "falco-schedule-odd.service", "falco-schedule-odd.timer").stdout == ""

    # Another calendar is taken without a restart, and one that systemd can't read before anything is touched.
    before = host.show("falco-schedule-odd.timer", "NextElapseUSecRealtime")
    assert converge(host, **wanted, calendar="Mon *-05-* 05:00:00", random_delay=0)[0] == 0
    assert "May" not in before["NextElapseUSecRealtime"]
    assert re.match(r"Mon \d+-05-\d+ 05:00:00", host.show("falco-schedule-odd.timer", "NextElapseUSecRealtime")["NextElapseUSecRealtime"])
    status, changed, output = converge(host, **wanted, calendar="Mon 25:00")
    assert status == 2 and changed == 0 and "Mon 25:00" in output
    assert converge(host, name="odd", state="absent", purge=True)[0] == 0


def test_an_audit_by_systemd_leaves_its_report(host):
    """The audit itself, shut in as it will be; the only host of its fleet can't be reached."""
    host.write("/srv/hosts.ini", "away ansible_connection=ssh ansible_host=127.0.0.1 ansible_port=9\n")
    status, changed, output = converge(host)
    assert status == 0 and changed, output
    done = host.run("systemctl", "start", "falco-schedule-audit.service")
    assert done.returncode == 0, host.run("systemctl", "status", "--no-pager", "-l", "falco-schedule-audit.service").stdout
    reports = host.run("find", "/var/lib/falco-schedule/audit/reports", "-printf", "%u %m %P\n").stdout.splitlines()
    assert {"falco-schedule 700 ", "falco-schedule 600 report.json", "falco-schedule 600 report.html"} <= set(reports)
    assert '"away"' in host.run("cat", "/var/lib/falco-schedule/audit/reports/report.json").stdout
    assert converge(host, state="absent", purge=True)[0] == 0
