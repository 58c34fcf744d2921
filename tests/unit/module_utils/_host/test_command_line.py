# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Falco's command line, read once for all who need it."""

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._host import command_line

TAIL = ["-o", "log_stderr=true", "-o", "log_syslog=false", "-o", "log_level=info"]


@pytest.mark.parametrize("arguments, kept", [
    (["falco"], ["falco"]),
    (["falco", "-c", "/etc/falco/falco.yaml"], ["falco"]),
    (["falco", "--config", "/x", "--config=/x", "-c/x"], ["falco"]),
    (["falco", "--pidfile", "/run/x", "--pidfile=/run/x", "-P", "/run/x", "-d", "--daemon"], ["falco"]),
    (["falco", "-o", "engine.kind=kmod"], ["falco", "-o", "engine.kind=kmod"]),
    (["falco", "--option", "a=1", "--option=b=2", "-oc=3"], ["falco", "--option", "a=1", "--option=b=2", "-oc=3"]),
    (["falco", "-o", "config_files[]=/x", "--option=config_files=/x", "-oconfig_files[0]=/x", "-o", "a=1"], ["falco", "-o", "a=1"]),
    (["falco", "--modern-bpf", "-A"], ["falco", "--modern-bpf", "-A"]),
    (["falco", "-o", "-c"], ["falco", "-o", "-c"]),  # the value of -o
])
def test_the_arguments_of_a_falco_that_reads_another_configuration(arguments, kept):
    assert command_line.quiet(arguments, replace_config=True) == kept + TAIL


@pytest.mark.parametrize("arguments, kept", [
    (["falco", "-c", "/x", "-o", "config_files[]=/y", "--pidfile=/run/x", "-d"], ["falco", "-c", "/x", "-o", "config_files[]=/y"]),
    (["falco", "--config=/x", "-c/x"], ["falco", "--config=/x", "-c/x"]),
])
def test_the_arguments_of_a_falco_that_says_what_it_has(arguments, kept):
    assert command_line.quiet(arguments, "debug") == kept + TAIL[:-1] + ["log_level=debug"]


@pytest.mark.parametrize("arguments, main", [
    (["falco"], None), (["falco", "-c", "/a"], "/a"), (["falco", "--config", "/a"], "/a"), (["falco", "--config=/a"], "/a"),
    (["falco", "-c/a"], "/a"),
    (["falco", "-c"], None),
])
def test_main_file(arguments, main):
    assert command_line.main_file(arguments) == main


@pytest.mark.parametrize("arguments, values", [
    (["falco"], []), (["falco", "-o"], [""]), (["-o", "a=1"], []),  # the program's name comes first
    (["falco", "-o", "a=1", "-ob=2", "--option", "c=3", "--option=d=4"], ["a=1", "b=2", "c=3", "d=4"]),
    (["falco", "-c", "-o", "-o", "-c", "-o", "x=1"], ["-c", "x=1"]),  # the value of -c, and of the first -o
    (["falco", "--modern-bpf", "-A", "--options=x"], []),
])
def test_options(arguments, values):
    assert command_line.options(arguments) == values


def test_every_word_is_kept():
    arguments = ["falco", "-A", "-c", "/x", "-oa=1", "--pidfile", "/run/x", "-d", "-o"]
    assert [word for dummy, dummy2, words in command_line.parse(arguments) for word in words] == arguments[1:]
