# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The auditor on damaged and on hostile rules files: an answer with named errors, never an exception.

FALCOTUNE_MUTATIONS says how many files are damaged (3000 without it), FALCOTUNE_SEED which ones.
"""

import json
import os
import random

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import document
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules_audit import auditor

MUTATIONS = int(os.environ.get("FALCOTUNE_MUTATIONS", "3000"))
HOST = auditor.Host(base_syscalls={"custom_set": ["!ptrace"], "repair": True, "all": False}, rates={"openat": 5e4, "execve": 10.0},
                    matches={"Opens": 3}, matched_seconds=5e6)
BASE = """\
- required_engine_version: 0.30.0
- list: shells
  items: [bash, "z sh", dash]
- list: programs
  items: [shells, cron]
- macro: opening
  condition: evt.type in (open, openat) and evt.is_open_read=true
- macro: of_shell
  condition: (proc.aname in (programs) or proc.cmdline contains "-c \\"x")
- rule: Opens
  desc: Opens of files.
  condition: >
    opening and fd.name regex '.*/x[0-9]+' and proc.name = sh
    and not (of_shell or fd.directory startswith /etc)
  output: opened (proc=%proc.name file=%fd.name %evt.arg[1])
  priority: info
  tags: [files, demo]
  exceptions:
    - name: known
      fields: [proc.name, fd.name]
      comps: [in, startswith]
      values:
        - [[shells, cron], /tmp]
- rule: Opens
  condition: and proc.pname = val(proc.name)
  append: true
- rule: Traces
  desc: d
  condition: evt.type=ptrace and tolower(proc.name) = x and fd.name = oneof (a, b)
  output: o
  priority: WARNING
- rule: Traces
  tags: [more]
  override: {tags: append}
- rule: Opens
  enabled: true
"""
TOKENS = """( ) [ ] { } *x ' " \\ evt.type regex glob macro opening of_shell programs <<: --- % 🦅 val( tolower( null ~ not( in""".split()
TOKENS += ["exists"]
TOKENS += ["\n", "  ", "\t", "\x00", "\ud800", "\ufeff", "\r\n", "not ", " and ", " or ", ": ", "- ", "&x ", "!!int ", "rule: ", "list: ",
           "append: true", "override: ", "exceptions: "]


def damaged(chance):
    text = BASE
    for _time in range(chance.choice((1, 1, 2, 5))):
        at, other = chance.randrange(len(text) + 1), chance.randrange(len(text) + 1)
        kind = chance.randrange(5)
        if kind == 0:
            text = text[:at] + text[at + chance.randrange(1, 40):]
        elif kind == 1:
            text = text[:at] + chance.choice(TOKENS) + text[at:]
        elif kind == 2:
            text = text[:at] + text[min(at, other):max(at, other)][:200] + text[at:]
        elif kind == 3:
            text = text[:at] + chr(chance.randrange(256)) + text[at + 1:]
        else:
            lines = text.split("\n")
            chance.shuffle(lines) if chance.random() < 0.1 else lines.insert(chance.randrange(len(lines)), chance.choice(lines))
            text = "\n".join(lines)
    return text or " "


def test_damaged_files():
    chance, errors = random.Random(int(os.environ.get("FALCOTUNE_SEED", "1"))), 0
    for number in range(MUTATIONS):
        text = damaged(chance)
        try:
            found = auditor.audit([("f", text), ("g", BASE)], "0.44.1", HOST)
        except Exception:
            print("file %d:\n%s" % (number, text))
            raise
        errors += not found["ok"]
        for item in found["findings"]:
            assert item["kind"] in auditor.KINDS and item["text"] and (item["level"] != "error" or item["line"])
        json.dumps(found)
    assert MUTATIONS // 10 < errors < MUTATIONS


def test_the_undamaged_file_loads():
    found = auditor.audit([("f", BASE)], "0.44.1", HOST)
    assert found["ok"] and {item["kind"] for item in found["findings"]} >= {"order"}


@pytest.mark.parametrize("text, says", [
    ("- list: a\n  items: " + "[" * 5000, "nested deeper than %d" % document.DEEPEST),
    ("- &a [x]\n" + "".join("- &%s [%s]\n" % (name, ", ".join(["*" + before] * 9)) for before, name in zip("abcdefghij", "bcdefghijk")),
     "more than %d values" % document.LIMIT),
    ("- rule: r\n  desc: d\n  output: o\n  priority: INFO\n  condition: " + "(" * 100000 + "\n", "brackets are nested deeper"),
    ("- rule: r\n  desc: d\n  output: o\n  priority: INFO\n  condition: " + "not " * 100000 + "\n", "macro 'not' is not"),
    ("# padding\n" * (1 << 20), "has 10485760 characters, and at most 4194304 are read of one file"),
], ids=["nesting", "aliases", "brackets", "negations", "ten megabytes"])
def test_bombs(text, says):
    found = auditor.audit([("bomb.yaml", text), ("g", BASE)], "0.44.1")
    (error,) = [item for item in found["findings"] if item["level"] == "error"]
    assert says in error["text"] and error["file"] == "bomb.yaml" and error["line"]
    assert found["rules_total"] >= 2


def test_a_file_that_is_too_large_names_the_line_where_the_limit_is_passed():
    _entries, problem = document.entries("- list: x\n" * (1 << 20))
    assert problem.line == document.MAX_TEXT // 10 + 1 and "split the file" in str(problem)
    entries, problem = document.entries("- list: x\n" + " " * (document.MAX_TEXT - 10))
    assert len(entries) == 1 and problem is None


def test_a_condition_with_a_hundred_thousand_checks():
    text = " or ".join("proc.name = x%d" % number for number in range(100000))
    found = auditor.audit([("f", json.dumps([{"rule": "r", "desc": "d", "output": "o", "priority": "INFO", "condition": text}]))], "0.44.1")
    assert found["ok"] and "too_large" in {item["kind"] for item in found["findings"]}
