# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""auditor.audit(): every kind of finding, and only where it is true."""

import json

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules_audit import auditor, inputs
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules_audit.auditor import Host

OPEN = "evt.type in (open, openat, openat2)"


def rule(condition, name="r", **keys):
    return {"rule": name, "desc": "d", "condition": condition, "output": "o", "priority": "NOTICE", **keys}


def audit(*entries, host=auditor.NOTHING_KNOWN, release="0.44.1"):
    return auditor.audit([("f.yaml", json.dumps(list(entries), indent=0))], release, host)


def kinds(found, but=("unused_macro", "unused_list")):
    return [(item["kind"], item["rule"]) for item in found["findings"] if item["kind"] not in but]


def only(found, kind):
    (item,) = [item for item in found["findings"] if item["kind"] == kind]
    return item


def test_a_good_rule_has_no_finding():
    found = audit(rule(OPEN + " and proc.name = x and fd.name startswith /etc/"))
    assert found["ok"] and found["findings"] == [] and found["rules_enabled"] == 1
    weight = found["weights"][0]
    assert weight["events"] == ["open", "openat", "openat2"] and weight["ns"] > 0 and weight["share"] == 100.0
    assert weight["rate"] is None and weight["percent"] is None and found["basis"] == "none" and found["percent"] is None


@pytest.mark.parametrize("condition, kind", [
    ("proc.name = x", "no_evttype"),
    ("not evt.type in (open, close)", "negative_evttype"),
    ("evt.type != open and proc.name = x", "negative_evttype"),
    ("evt.type = open or proc.name = x", "no_evttype"),
    ("evt.type in (open, pread64)", "illegal_name"),
    ("evt.type = open and evt.type = close", "dead"),
    ("evt.type = read", "ignored_io"),
    ("evt.type = open and evt.dir = >", "evt_dir"),
])
def test_event_types(condition, kind):
    found = audit(rule(condition))
    item = only(found, kind)
    assert item["rule"] == "r" and item["file"] == "f.yaml" and item["line"] > 0 and item["text"] and item["instead"]
    assert kind in found["weights"][0]["findings"]


def test_a_negated_macro_beside_a_positive_type_is_fine():
    macro = {"macro": "spawned", "condition": "evt.type = execve"}
    assert kinds(audit(macro, rule("evt.type in (execve, fork) and not spawned"))) == []


def test_types_of_several_actions_are_named_where_one_is_frequent():
    item = only(audit(rule("evt.type in (openat, unlink, unlinkat) and fd.name = x")), "mixed_events")
    assert item["level"] == "note" and "2 actions" in item["text"] and "openat" in item["text"]
    assert kinds(audit(rule("evt.type in (unlink, unlinkat, rename) and proc.name = x"))) == []
    assert kinds(audit(rule("evt.type in (open, openat, openat2, creat) and proc.name = x"))) == []


@pytest.mark.parametrize("check, instead", [
    ("fd.name glob '/etc/*'", 'fd.name startswith "/etc/"'),
    ("fd.name glob '*.conf'", 'fd.name endswith ".conf"'),
    ("fd.name glob '*shadow*'", 'fd.name contains "shadow"'),
    ("fd.name glob /etc/shadow", 'fd.name = "/etc/shadow"'),
    ("fd.name regex '^/etc/.*'", 'fd.name startswith "/etc/"'),
    ("fd.name regex '.*shadow$'", 'fd.name endswith "shadow"'),
    ("fd.name regex '.*shadow.*'", 'fd.name contains "shadow"'),
    ("fd.name regex shadow", 'fd.name = "shadow"'),
])
def test_operators_that_can_be_cheaper(check, instead):
    item = only(audit(rule("%s and %s" % (OPEN, check))), "operator")
    assert item["instead"] == instead and item["saves_ns"] > 0


@pytest.mark.parametrize("check", [
    "fd.name glob '/etc/*/x'", "fd.name glob '/etc/?'", "fd.name glob '[a]*'", "fd.name glob '*'", "fd.name regex '[a-z]+'",
    "fd.name regex 'a|b'", "fd.name regex '/etc/.'", "fd.name regex '.*'", "fd.name regex 'price\\\\$'", "fd.name iglob '/etc/*'",
])
def test_operators_that_are_needed(check):
    assert kinds(audit(rule("%s and %s" % (OPEN, check)))) == []


def test_equal_comparisons_that_are_a_list():
    condition = OPEN + " and (proc.name = a or proc.name = b or proc.name = c)"
    item = only(audit(rule(condition)), "equal_chain")
    assert item["instead"] == "proc.name in (a, b, c)"
    # Two are as good as a list, and lists of values compare in another way.
    assert kinds(audit(rule(OPEN + " and (proc.name = a or proc.name = b)"))) == []
    assert kinds(audit(rule(OPEN + " and (fd.types = a or fd.types = b or fd.types = c)"))) == []


def test_an_expensive_check_before_a_cheap_and_strong_one():
    late = OPEN + " and fd.name regex '.*/x[0-9]+/.*' and proc.name = x"
    item = only(audit(rule(late)), "order")
    assert "fd.name regex" in item["text"] and item["instead"].startswith('put proc.name = "x" before') and item["saves_ns"] > 50
    early = OPEN + " and proc.name = x and fd.name regex '.*/x[0-9]+/.*'"
    assert kinds(audit(rule(early))) == []
    # A negated check is weak, so it belongs to the end.
    assert kinds(audit(rule(OPEN + " and fd.name regex '.*/x[0-9]+/.*' and not proc.name = x"))) == []


def test_exceptions_do_not_hide_the_order():
    exceptions = [{"name": "known", "fields": ["proc.pname"], "values": [["cron"]]}]
    found = audit(rule(OPEN + " and fd.name regex '.*/x[0-9]+/.*' and proc.name = x", exceptions=exceptions))
    assert kinds(found) == [("order", "r")]


def test_an_expensive_macro_before_a_cheap_check():
    macro = {"macro": "of_shell", "condition": "proc.aname in (bash, sh) or proc.cmdline contains curl"}
    item = only(audit(macro, rule(OPEN + " and of_shell and proc.name = x")), "order")
    assert item["text"].startswith("of_shell is evaluated before")


def test_names_of_sockets_are_expensive_on_connects_only():
    condition = "evt.type = %s and fd.name startswith 10. and proc.name = x"
    assert kinds(audit(rule(condition % "connect"))) == [("order", "r")]
    assert kinds(audit(rule(condition % "openat"))) == []


def test_duplicates_and_shadowed_rules():
    one, two = rule(OPEN + " and proc.name = x", "one"), rule(OPEN + " and proc.name = x", "two")
    narrow = rule("evt.type = openat and fd.name = /etc/x and proc.name = x", "narrow")
    found = audit(one, two, narrow)
    assert set(kinds(found)) == {("duplicate", "two"), ("shadowed", "narrow")} and "never does" in only(found, "duplicate")["text"]
    # The other way round all of them can match, and with rule_matching: all each of them does.
    assert kinds(audit(narrow, one)) == []
    assert kinds(audit(one, narrow, host=Host(matching="all"))) == [("matching_all", None)]
    assert ("duplicate", "two") in kinds(audit(one, two, host=Host(matching="all")))


def test_rules_that_only_look_alike_are_not_shadowed():
    base = rule(OPEN + " and proc.name = x", "one")
    for condition in ("evt.type in (openat, close) and proc.name = x", OPEN + " and (proc.name = x or fd.name = y)",
                      OPEN + " and not proc.name = x", OPEN + " and fd.name = /x"):
        assert kinds(audit(base, rule(condition, "two")), but=("mixed_events",)) == [], condition
    assert kinds(audit(base, rule(OPEN + " and proc.name = x and fd.name = y", "two", source="other"))) == []
    assert kinds(audit(dict(base, enabled=False), rule(OPEN + " and proc.name = x", "two"))) == []


def test_an_exclusion_that_never_holds_does_not_hide_a_shadow():
    never = {"macro": "never", "condition": "(evt.num=0)"}
    found = audit(never, rule(OPEN + " and proc.name = x and not never", "one"), rule(OPEN + " and proc.name = x", "two"))
    assert kinds(found) == [("duplicate", "two")]


def test_priority_below_the_threshold():
    found = audit(rule(OPEN, priority="DEBUG"), host=Host(priority="warning"))
    assert kinds(found) == [("below_priority", "r")] and found["weights"] == []


def test_rules_that_a_selection_blinds():
    host = Host(base_syscalls={"custom_set": ["!ptrace"], "repair": False, "all": False})
    assert kinds(audit(rule("evt.type = ptrace"), host=host)) == [("unselected", "r")]


def test_outputs_that_a_selection_cannot_fill():
    host = Host(base_syscalls={"custom_set": ["!chdir", "!fchdir"], "repair": False, "all": False})
    found = audit(rule("evt.type = ptrace and proc.name = x", output="%proc.cwd"), host=host)
    item = only(found, "output")
    assert "proc.cwd" in item["text"] and "chdir" in item["text"]


def test_a_rule_that_alone_keeps_a_frequent_call():
    only_rule, other = rule("evt.type = sendto and proc.name = x"), rule("evt.type = openat and proc.name = y", "other")
    repaired = {"custom_set": [], "repair": True, "all": False}
    found = audit(only_rule, other, host=Host(base_syscalls=repaired))
    kept = {item["rule"]: item["text"] for item in found["findings"]}
    assert kinds(found) == [("keeps_calls", "r"), ("keeps_calls", "other")]
    assert "collects sendto for this rule only" in kept["r"] and "openat" in kept["other"]
    rates = {"sendto": 9000.0, "openat": 1000.0}
    found = audit(only_rule, other, host=Host(base_syscalls=repaired, rates=rates))
    first = found["findings"][0]
    assert first["rule"] == "r" and "9000 events/s, 90 % of all" in first["text"] and first["saves_percent"] > 0
    rates = {"sendto": 1.0, "openat": 9000.0}
    kept = [item["rule"] for item in audit(only_rule, other, host=Host(base_syscalls=repaired, rates=rates))["findings"]]
    assert kept == ["other"]
    again = rule("evt.type = sendto and proc.name = z", "again")
    assert "sendto" not in str(audit(only_rule, again, other, host=Host(base_syscalls=repaired))["findings"])


def test_unused_macros_and_lists():
    found = audit({"list": "used", "items": ["a"]}, {"list": "inner", "items": ["b"]}, {"list": "outer", "items": ["inner"]},
                  {"list": "lost", "items": ["c"]}, {"macro": "m", "condition": "proc.name in (used, outer)"},
                  {"macro": "nobody", "condition": "proc.name = x"}, rule(OPEN + " and m"))
    assert [(item["kind"], item["rule"]) for item in found["findings"]] == [("unused_macro", "nobody"), ("unused_list", "lost")]


def test_counters():
    host = Host(matches={"noisy one": 5000, "never": 0, "Some_times": 3}, matched_seconds=31 * 86400.0)
    found = audit(rule("evt.type = ptrace and proc.name = x", "noisy one"), rule("evt.type = ptrace and proc.name = y", "never"),
                  rule("evt.type = ptrace and proc.name = z", "Some times"), host=host)
    assert kinds(found) == [("silent", "never")]
    busy = audit(rule("evt.type = ptrace and proc.name = x", "noisy one"), host=host._replace(matched_seconds=3600.0))
    assert kinds(busy) == [("noisy", "noisy one")]


def test_weights_with_a_profile():
    rates = {"openat": 100000.0, "execve": 10.0}
    heavy, light = rule("evt.type = openat and fd.name regex '.*[0-9]x'", "heavy"), rule("evt.type = execve and proc.name = x", "light")
    found = audit(light, heavy, host=Host(rates=rates))
    first, second = found["weights"]
    assert first["rule"] == "heavy" and first["rate"] == 100000.0 and found["basis"] == "profile"
    assert first["percent"] == pytest.approx(first["ns"] * 100000 / 1e7, rel=0.01) and first["share"] > 99 > second["share"]
    assert found["percent"] == pytest.approx(first["percent"] + second["percent"], abs=0.001)


def test_evaluation_stops_where_the_result_is_known():
    ns = {name: audit(rule(OPEN + " and " + condition))["weights"][0]["ns"] for name, condition in {
        "regex": "fd.name regex '.*[0-9]x'", "cheap first": "proc.name = x and fd.name regex '.*[0-9]x'",
        "weak first": "not proc.name = x and fd.name regex '.*[0-9]x'", "either": "proc.name = x or fd.name regex '.*[0-9]x'"}.items()}
    assert ns["cheap first"] < ns["regex"] < ns["weak first"] and ns["cheap first"] < ns["either"]
    # Within one rule a field is read once and a comparison is made once.
    once, twice = (audit(rule(OPEN + " and (%s)" % " or ".join(["proc.cmdline contains a"] * count)))["weights"][0]["ns"]
                   for count in (1, 2))
    assert twice - once < once / 4


def test_errors_keep_their_file_and_line_and_lose_nothing():
    files = [("good.yaml", json.dumps([rule("proc.name = x", "seen")])),
             ("bad.yaml", "- rule: broken\n  desc: d\n  condition: evt.type = open and (\n  output: o\n  priority: INFO\n"),
             ("worse.yaml", "- list: [\n"), ("last.yaml", json.dumps([rule("nobody and evt.type = open", "macroless")]))]
    found = auditor.audit(files, "0.44.1")
    assert not found["ok"]
    assert [(item["file"], item["kind"]) for item in found["findings"] if item["level"] == "error"] == [
        ("bad.yaml", "syntax"), ("last.yaml", "syntax"), ("worse.yaml", "syntax")]
    assert ("no_evttype", "seen") in kinds(found) and all(item["line"] for item in found["findings"])


def test_circles_and_bombs_of_macros_are_named():
    circle = audit({"macro": "a", "condition": "b"}, {"macro": "b", "condition": "a"}, rule(OPEN + " and a"))
    assert not circle["ok"] and "a" in circle["findings"][0]["text"]
    bomb = [{"macro": "m0", "condition": "proc.name = x or fd.name = y"}]
    bomb += [{"macro": "m%d" % n, "condition": "m%d %s m%d" % (n - 1, ("or", "and")[n % 2], n - 1)} for n in range(1, 36)]
    found = audit(*bomb, rule(OPEN + " and m35"))
    assert found["ok"] and ("too_large", "r") in kinds(found) and found["weights"][0]["ns"] is None


def test_inputs():
    import base64

    bad = base64.b64encode(b"- list: a\n  items: [\xff]\n").decode()
    files, damaged = inputs.files([{"source": "x.yaml", "content": bad}, {"name": "y", "text": "[]"}, "[]"])
    assert [name for name, _text in files] == ["x.yaml", "y", "rules file 3"] and damaged == {"x.yaml": 2}
    found = auditor.audit(files, "0.44.1", damaged=damaged)
    assert only(found, "encoding")["line"] == 2 and found["ok"]
    for wrong, says in (({}, "list of rules files"), ([], "list of rules files"), ([1], "has no text"), ([{"name": "n"}], "n has no text"),
                        ([{"source": "s", "content": "%"}], "not base64")):
        with pytest.raises(inputs.InputError, match=says):
            inputs.files(wrong)
    with pytest.raises(inputs.InputError, match="did you mean no_evttype"):
        inputs.fail_on(["no_evtype"])
    with pytest.raises(inputs.InputError, match="not a list"):
        inputs.fail_on("error")


def test_failing_by_policy_and_lines():
    found = audit(rule("proc.name = x"), host=Host(rates={"openat": 1.0}))
    assert auditor.failing(found, ["error"]) == [] and len(auditor.failing(found, ["warning"])) == 1
    assert auditor.failing(found, ["no_evttype"]) == auditor.failing(found, ["warning"])
    text = "\n".join(auditor.lines(found))
    assert "f.yaml:" in text and "no evt.type restricts it" in text and "ns an event" in text
