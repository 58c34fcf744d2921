# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An audit of a fleet in which one host of each kind is hostile and one in a hundred never answers: the report is whole.

100 hosts, or FALCOTUNE_HOSTILE=1000 of them. Each host's Python prints an answer that lies in a file: a good host's, or a hostile
one's, of which there are 1 % of each kind, and 1 % wait for ever. The numbers that the run took are printed (pytest -s).
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys

import pytest
import yaml

from playbooks import AUDIT, ROOT, play

NUMBER = int(os.environ.get("FALCOTUNE_HOSTILE", "100"))
# The shortest that policy allows, with the shorter waits beside it.
DEADLINE = 10
POLICY = {"falco_tune_round_trip_seconds": DEADLINE, "falco_tune_prometheus_seconds": 1, "falco_tune_profile_seconds": 0}
PROGRAMS = {"hangs": "exec sleep 120", "endless": "exec yes '[[[[[[[[[[[[[[[[[[[[[[[[[[[['"}
WRITE = """\
import sys
sys.path.insert(0, sys.argv[1])
import conftest
from ansible_collections.falcotune.fleet.tests.unit import hostile_hosts
hostile_hosts.write(sys.argv[2], int(sys.argv[3]))
"""


class Fleet:
    """A Python for each host, which prints what lies in a file. expected: {name: what becomes of it, as in hostile_hosts.KINDS}."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "answers").mkdir()
        done = subprocess.run([sys.executable, "-c", WRITE, str(ROOT / "tests/unit"), str(folder / "answers"), str(NUMBER)],
                              check=True, stdout=subprocess.PIPE, text=True)
        self.expected = json.loads(done.stdout)
        for name in self.expected:
            program = PROGRAMS.get(name.rpartition("-")[0], "exec cat %s" % (folder / "answers" / name))
            (folder / name).write_text("#!/bin/sh\n%s\n" % program)
            (folder / name).chmod(0o755)

    def named(self, *said: str | None) -> list[str]:
        return [name for name, expected in self.expected.items() if expected in said]

    def audit(self, names, folder) -> tuple:
        """(the run, {name: entry of the report}, the report's directory)."""
        shared = {"ansible_connection": "local", "ansible_pipelining": True, "ansible_become": False, **POLICY}
        hosts = {name: {"ansible_python_interpreter": str(self.folder / name)} for name in names}
        (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": shared, "hosts": hosts}}))
        run = play(AUDIT, folder / "hosts.yml", "-e", "falco_audit_report_dir=%s" % (folder / "reports"))
        path = folder / "reports/report.json"
        assert path.exists(), run.output[-5000:]
        return run, {host["name"]: host for host in json.loads(path.read_text())["hosts"]}, folder / "reports"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    return Fleet(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def whole(fleet, tmp_path_factory):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = fleet.audit(fleet.expected, tmp_path_factory.mktemp("whole"))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print("\n%d hosts, %d of them good, %d that hang: %.0f s, %.0f s of CPU, largest process %.0f MiB" % (
        len(fleet.expected), len(fleet.named("good")), len(fleet.named("hangs")), found[0].seconds, cpu, after.ru_maxrss / 1024))
    return found


def test_every_host_has_a_line(fleet, whole):
    run, entries, _folder = whole
    assert set(entries) == set(fleet.expected) and run.status == 0


def test_hostile_hosts_are_named_with_what_is_wrong(fleet, whole):
    _run, entries, _folder = whole
    for name, said in fleet.expected.items():
        status, reason = entries[name]["status"], entries[name]["reason"] or ""
        assert status == ("ok" if said in ("ok", "good") else "failed"), (name, entries[name])
        assert said in (None, "ok", "good", "hangs") or said in reason, (name, reason)


def test_hosts_that_hang_are_named(fleet, whole):
    _run, entries, _folder = whole
    for name in fleet.named("hangs"):
        assert "imed out after %d second" % DEADLINE in entries[name]["reason"]


def test_the_others_results_are_the_same_as_without_them(fleet, whole, tmp_path):
    _run, entries, _folder = whole
    names = fleet.named("good")
    _run, alone, _folder = fleet.audit(names, tmp_path)
    assert {name: timeless(entries[name]) for name in names} == {name: timeless(entry) for name, entry in alone.items()}


def timeless(entry):
    """An entry without when it was made."""
    return {**entry, "history": [row[1:] for row in entry["history"]]}


def test_no_control_character_of_a_host_is_shown_or_written(whole):
    run, _entries, folder = whole
    bad = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202e]")
    for text in (run.output, *((folder / name).read_text("utf-8") for name in ("falcotune.prom", "report.csv"))):
        assert not bad.search(text), text[max(0, bad.search(text).start() - 100):][:200]
    assert "<script>alert" not in (folder / "report.html").read_text("utf-8")
