# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in of systemd reads and writes command lines as systemd does (systemd.syntax, systemd.service)."""

import os
import sys

import pytest

import subject

sys.path.insert(0, os.path.join(subject.HERE, "..", "fleet"))

from fleetd import command_lines  # noqa: E402
from hosts import Host, Fleet, unit_text  # noqa: E402


@pytest.mark.parametrize("line,words", [
    ("/usr/bin/falco -c /etc/falco/falco.yaml", ["/usr/bin/falco", "-c", "/etc/falco/falco.yaml"]),
    ("-@/usr/bin/falco  -o\tx", ["/usr/bin/falco", "-o", "x"]),
    ('"/srv/a b/falco" \'-o a b\'', ["/srv/a b/falco", "-o a b"]),
    (r"/srv/a\x20b/falco \s \t \u00e9", ["/srv/a b/falco", " ", "\t", "\u00e9"]),
    (r'"say \"no\"" ' + r"'it''s' \\", ['say "no"', "its", "\\"]),
    ('"" x', ["", "x"]),
    ("100%% -o", ["100%", "-o"]),
])
def test_a_command_line_is_split_as_systemd_does(line, words):
    assert command_lines.split_command(line) == words


@pytest.mark.parametrize("word", ["/usr/bin/falco", "/srv/a b/falco", "tab\there", 'say "no"', "it's", "back\\slash", "a;b", ""])
def test_a_quoted_word_is_one_word(word):
    assert command_lines.split(command_lines.quote(word)) == [word]


def test_variables_of_a_unit():
    settings = {"Environment": ['A=1 "B=two words"', r"C=tab\there"]}
    environment = command_lines.environment_of(settings)
    assert environment == {"A": "1", "B": "two words", "C": "tab\there"}
    assert command_lines.expand(["$B", "${B}", "x${A}y", "$$A"], environment) == ["two", "words", "two words", "x1y", "$A"]


def test_a_machines_unit_has_nothing_to_quote():
    text = unit_text("", "falco-modern-bpf", {"release": "0.44.1", "stop_timeout_seconds": 1, "restart_seconds": 1})
    assert "\nExecStart=/usr/bin/falco -o engine.kind=modern_ebpf\n" in text


def test_a_host_below_a_folder_with_blanks_runs(tmp_path):
    if not subject.SIMULATED:
        pytest.skip("these hosts run the simulator")
    fleet = Fleet(tmp_path / "a fleet of hosts")
    try:
        fleet.start({"hosts": {"host": {"startup_seconds": 0.2}}})
        host: Host = fleet.hosts[0]
        shown = dict(line.split("=", 1) for line in host.systemctl("show", host.unit).stdout.splitlines())
        assert shown["ActiveState"] == "active" and int(shown["MainPID"]) > 0
        command = (host.root / "proc" / shown["MainPID"] / "cmdline").read_text().split("\0")
        assert command[-3:] == ["-c", f"{host.root}/etc/falco/falco.yaml", ""]
        # systemd joins the words by blanks here, whatever they hold.
        assert f"argv[]={host.root}/usr/bin/falco -o engine.kind=modern_ebpf -c {host.root}/etc/falco/falco.yaml ;" in shown["ExecStart"]
        assert host.systemctl("stop", host.unit).returncode == 0
        assert host.systemctl("show", "-P", "ActiveState", host.unit).stdout == "inactive\n"
        assert host.systemctl("enable", host.unit).returncode == 1, "a verb that nothing needs"
    finally:
        fleet.stop()
