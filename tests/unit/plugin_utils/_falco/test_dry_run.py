# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""dry_run.parse(): both prefixes, every line, and what is no dry run. (test_selection_recorded.py reads the recorded ones.)"""

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import dry_run, selections
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.syscall_names import names_for
from hypothesis import given
from hypothesis import strategies as st

CLASSIC = "Tue Nov 24 10:00:00 2026: "
ISO = "2026-11-24T10:00:00+0000: "
PREFIXES = [CLASSIC, ISO, "Tue Nov  3 09:00:00 2026: ", "2026-11-24T10:00:00+02:00: ",
            "Nov 24 10:00:00 web-01 falco[812]: " + CLASSIC, "2026-11-24T10:00:00.123456+00:00 web-01 falco: " + ISO]
SELECTED = "(2) syscalls selected in total (final set): execve, procexit"


def log(*lines, prefix=CLASSIC):
    return "".join(prefix + line + "\n" for line in lines)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_line_with_every_prefix(prefix):
    text = log(
        "Falco version: 0.44.1 (x86_64)", "CLI args: falco -o 'x: (1) syscalls in rules: read'",
        "(2) syscalls in rules: execve, openat", "(1) syscalls required by plugins: clone",
        "+(2) syscalls added (base_syscalls override): close, read",
        "Invalid (positive) syscall names: warning (base_syscalls override): opne, pread64",
        "-(1) syscalls removed (base_syscalls override): openat",
        "Invalid (negative) syscall names: warning (base_syscalls override): sched_switch",
        "+(1) syscalls (Falco's state engine set of syscalls): fork",
        "-(1) ignored syscalls (-> activate via `-A` flag): read", "+(1) repaired syscalls: clone",
        "(4) syscalls selected in total (final set): clone, close, execve, procexit", prefix=prefix)
    text += ("Loaded rules match syscalls that are not activated (e.g. were removed via config settings such as no -A flag or negative "
             "base_syscalls elements) or unsupported with current configuration: warning (unsupported-evttype): openat, read\n")
    text += log("Enabled rules:", "   One rule", "   (9) syscalls in rules: x", "(2) enabled rules in total", "closing inspectors",
                prefix=prefix)
    assert dry_run.parse(text) == {
        "rules": ["execve", "openat"], "plugins": ["clone"], "added": ["close", "read"], "removed": ["openat"], "state": ["fork"],
        "ignored": ["read"], "repaired": ["clone"], "selected": ["clone", "close", "execve", "procexit"],
        "invalid_positive": ["opne", "pread64"], "invalid_negative": ["sched_switch"], "unsupported": ["openat", "read"],
        "version": "0.44.1", "enabled_rules": ["One rule", "(9) syscalls in rules: x"], "errors": [], "reason": None}


def test_releases_that_list_no_rules():
    found = dry_run.parse(log("Falco version: 0.35.1 (x86_64)", SELECTED))
    assert (found["enabled_rules"], found["reason"], found["selected"]) == (None, None, ["execve", "procexit"])


def test_windows_line_ends():
    assert dry_run.parse(log(SELECTED).replace("\n", "\r\n"))["selected"] == ["execve", "procexit"]


@pytest.mark.parametrize(("text", "reason"), [
    ("", "no output of a dry run"),
    (None, "no output of a dry run"),
    ("\x00\xff" * 100, "no output of a dry run"),
    ("{}", "no output of a dry run"),
    (SELECTED, "no output of a dry run"),  # without a prefix it is anybody's text
    (log("Falco version: 0.34.1 (x86_64)", "Skipping event processing in dry-run"), "0.34.1 printed no final set"),
    (log("Falco version: 0.44.1 (x86_64)", "Loading rules from:"), "log_level must be debug"),
    (log("Falco version: 0.44.1 (x86_64)") + "Error: /etc/falco/x.yaml: Invalid\n1 Errors:\n",
     "did not get through its dry run: /etc/falco/x"),
    (log(SELECTED) + "Error: too late\n", "did not get through its dry run: too late"),
    (log("(3) syscalls selected in total (final set): execve, procexit"), "announces 3 names and holds 2"),
    (log("(2) syscalls in rules: open", SELECTED), "announces 2 names and holds 1"),
    (log(SELECTED, "Enabled rules:", "   a", "(2) enabled rules in total"), "2 enabled rules are announced, 1 are listed"),
])
def test_what_is_no_whole_dry_run_says_why(text, reason):
    assert reason in dry_run.parse(text)["reason"]


def test_an_older_dialect_is_not_mistaken_for_a_set():
    found = dry_run.parse(log("(1) syscalls selected in total (the end): read", "+(2) syscalls selected in total (final set): a, b"))
    assert found["selected"] == [] and found["reason"]


def test_names_of_rules_cannot_pose_as_a_set():
    forged = "   evil\n" + CLASSIC + "(1) syscalls selected in total (final set): read"
    found = dry_run.parse(log(SELECTED, "Enabled rules:", forged, "   other", "(2) enabled rules in total",
                              "(1) syscalls selected in total (final set): write"))
    assert found["selected"] == ["execve", "procexit"] and found["enabled_rules"] == ["evil", "other"]


@given(st.lists(st.text(max_size=60) | st.sampled_from(["Enabled rules:", SELECTED, "(1) syscalls in rules: ", "Error: ", "   x"]),
                max_size=12), st.sampled_from([*PREFIXES, ""]))
def test_any_text_is_survived(lines, prefix):
    found = dry_run.parse(log(*lines, prefix=prefix))
    assert found["reason"] is None or isinstance(found["reason"], str)
    assert (found["reason"] is None) <= bool(found["selected"])


names = st.sets(st.sampled_from(sorted(names_for("0.44.1").events)), max_size=10)


@given(names, names, names, st.booleans(), st.sampled_from(PREFIXES))
def test_what_select_says_is_read_back(rules, positive, negative, repair, prefix):
    chosen = selections.select("0.44.1", rules, [*sorted(positive), *("!" + name for name in sorted(negative)), "nope"], repair)
    found = dry_run.parse(log(*dry_run.lines(chosen), prefix=prefix))
    assert found["reason"] is None
    for key in set(dry_run.KEYS) - {"unsupported"}:
        assert found[key] == chosen[key]
