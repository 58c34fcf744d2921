# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Falco prints about itself, its rules and its system calls."""

import json
import os
import re

from subject import few

IGNORED = {"pread", "preadv", "pwrite", "pwritev", "read", "readv", "recv", "send", "sendfile", "write", "writev"}
RULES = """\
- list: shells
  items: [bash, zsh]
- list: programs
  items: [shells, cron]
- macro: opening
  condition: evt.type in (open, openat)
- macro: unused
  condition: proc.name=cron
- rule: Opens
  desc: Opens of files.
  condition: opening and fd.name startswith /etc and not proc.name in (programs)
  output: opened (proc=%proc.name file=%fd.name)
  priority: info
  tags: [files, demo]
- rule: Forgotten
  desc: Turned off.
  condition: evt.type=chmod and proc.name=cron
  output: mode
  priority: WARNING
  enabled: false
"""


def test_rules_are_described(falco):
    falco.write({"described.yaml": RULES})
    falco.config(rules="described.yaml")
    code, out, _ = falco.run("-c", "{dir}/falco.yaml", "-L", "-o", "json_output=true")
    assert code == 0
    found = json.loads(out)
    rules = {rule["info"]["name"]: rule for rule in found["rules"]}
    info, details = rules["Opens"]["info"], rules["Opens"]["details"]
    assert {key: info[key] for key in ("description", "enabled", "priority", "source")} == {
        "description": "Opens of files.", "enabled": True, "priority": "Informational", "source": "syscall"}
    assert set(info["tags"]) == {"files", "demo"}
    assert rules["Forgotten"]["info"]["enabled"] is False
    assert set(details["macros"]) == {"opening"}
    assert set(details["output_fields"]) == {"proc.name", "fd.name"}
    if falco.since(37):
        assert set(details["events"]) == {"open", "openat", "asyncevent"}
        assert set(details["condition_fields"]) == {"evt.type", "fd.name", "proc.name"}
        assert set(details["condition_operators"]) == {"in", "startswith"}
        assert details["condition_compiled"] == (
            "(evt.type in (open, openat) and fd.name startswith /etc and not proc.name in (bash, zsh, cron))")
    assert {macro["info"]["name"]: macro["details"]["used"] for macro in found["macros"]} == {"opening": True, "unused": False}
    assert {part["info"]["name"]: part["details"]["used"] for part in found["lists"]} == {"shells": True, "programs": True}


@few()
def test_rules_are_listed(falco):
    falco.write({"described.yaml": RULES})
    falco.config(rules="described.yaml")
    code, out, _ = falco.run("-c", "{dir}/falco.yaml", "-L")
    assert code == 0
    assert re.search(r"^Rule +Description$", out, re.M)
    assert re.search(r"^Opens +Opens of files\. *$", out, re.M)


def test_ignored_system_calls(falco):
    falco.config()
    code, out, _ = falco.run("-c", "{dir}/falco.yaml", "-i")
    assert code == 0
    assert set(re.findall(r"^- (\w+)$", out, re.M)) == IGNORED | (set() if falco.since(40) else {"recvmmsg", "sendmmsg"})


@few()
def test_page_size(falco):
    falco.config()
    code, out, err = falco.run("-c", "{dir}/falco.yaml", "--page-size")
    assert code == 0
    assert "Your system page size is: %d bytes" % os.sysconf("SC_PAGE_SIZE") in out + err


def test_help_names_the_options_of_the_release(falco):
    code, out, _ = falco.run("--help")
    assert code == 0
    assert "falco [OPTION...]" in out
    for option, there in (("--dry-run", True), ("--support", True), ("--config-schema", falco.since(39)), ("-A", not falco.since(41)),
                          ("--modern-bpf", not falco.since(38)), ("--list-events", True)):
        assert bool(re.search(r"^ +%s\b" % option, out, re.M)) == there, option


def test_an_unknown_option(falco):
    code, _, err = falco.run("--no-such-option")
    assert code == 1
    assert "Option \u2018no-such-option\u2019 does not exist" in err


def test_a_missing_configuration(falco):
    code, _, err = falco.run("-c", "{dir}/nowhere.yaml", "--version")
    assert code == 1
    assert "Could not find configuration file at " + falco.path("nowhere.yaml") in err


@few()
def test_version_needs_a_readable_configuration(falco):
    falco.write({"falco.yaml": "engine: [\n"})
    assert falco.run("-c", "{dir}/falco.yaml", "--version")[0] == 1
