# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bundle says as much as numbers can, and nobody's names."""

import copy
import json
import re

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import anonymise, json_csv, models, shape
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import drift
from ansible_collections.falcotune.fleet.tests.benchmarks import synthetic_audit, synthetic_trial
from ansible_collections.falcotune.fleet.tests.unit import hostile
from ansible_collections.falcotune.fleet.tests.unit.hosts import Host
from hypothesis import given, strategies as st

MODEL = synthetic_audit.audit_model(120, seed=5, history=4)
TRIALS = models.assemble(synthetic_trial.tried(synthetic_audit.audit_results(60, 5, history=0)), synthetic_audit.POLICY,
                         dict(synthetic_audit.META, kind="trial"))

COMPARED = models.assemble(synthetic_trial.tried(synthetic_audit.audit_results(20, 5, history=0), make=synthetic_trial.compared),
                           synthetic_audit.POLICY, dict(synthetic_audit.META, kind="trial"))


def assembled(*hosts, **meta):
    return models.assemble(hosts, synthetic_audit.POLICY, dict(synthetic_audit.META, **meta))


def bundled(**host):
    """The one host of a bundle of this one."""
    return anonymise.bundle(assembled(dict({"name": "secret-host", "status": "ok"}, **host)))["hosts"][0]


def texts_of(value):
    """Every text in a value, keys of dicts included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from texts_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts_of(item)


EMPTY = {"name": "", "status": "ok", "window": {"kernel": {}, "since_start": {}}, "verdict": {"cost": {}}, "buffers": {},
         "plan": {"changes": [{}]}, "drift": [{}], "change": {"before": {}}, "previous": {},
         "syscalls": {"coverage": {"blind": [{}], "unseen": [{}]}, "frontier": [{}]}, "trial": {"tests": [{
             "unseen": [{}], "without": {}, "runs": [{}], "difference": {"cpu_per_million": {}}}]},
         "sight": {"basis": "rules"}}
# What may be in any bundle: our own words, and what stands in for others.
OURS = set(texts_of(json.loads(json_csv.to_json(assembled(EMPTY)))))
OURS |= {*shape.STATES, *shape.STATUSES, *shape.BOTTLENECKS, *shape.NEXT_STEPS, *shape.TIERS,
         *shape.DRIFTS, *models.RULES, *shape.BASES, *shape.TRIALS, *shape.MODES, *shape.TESTS}
OURS |= {*anonymise.ENGINES, *anonymise.UNITS, *anonymise.SOURCES, *anonymise.windows.BASES, *anonymise.CATEGORIES, *anonymise.MEMORIES,
         *anonymise.EVIDENCE, *anonymise.PROOFS, *anonymise.PROPERTIES, *anonymise.SAID, *anonymise._WORDS, *anonymise._PARTS,
         *anonymise.TESTS, *anonymise.EVENTS, *("!" + name for name in anonymise.EVENTS),
         "source", "buffers", "bytes_each", "count", anonymise.EPOCH, "n_threads", *anonymise.windows.USERSPACE}
STAND_IN = re.compile(
    r"(host|path|unit|address|text|release|driver|kernel|category|counter|memory|key|rule|tag|plugin|test|!?event)-[0-9]+")


def is_ours(text):
    """Whether a text of a bundle is on the list of what may stay, or a stand-in, or a sentence that is made of numbers and stand-ins."""
    if text in OURS or STAND_IN.fullmatch(text) or anonymise._SETTING.fullmatch(text) or anonymise._RELEASE.fullmatch(text):
        return True
    match = re.fullmatch(r"\((?:directory|file|unit|sysctl)\) (.+)|[a-z_]+ of (.+)", text)
    if match:
        return is_ours(match.group(1) or match.group(2))
    return bool(re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z", text)
                or re.fullmatch(r"[0-9]+(\.[0-9]+)+([-._+~]([0-9]{1,4}|(el|fc|deb|amzn)[0-9]+|%s))*" % "|".join(anonymise.FLAVOURS), text))


def checked(bundle):
    """Fails where a text of a host's part is none of ours. The fleet's part has sentences of ours and the hosts' new names."""
    for text in texts_of(bundle["hosts"]):
        assert is_ours(text), text
    for text in texts_of({name: part for name, part in bundle["fleet"].items() if name not in ("headline", "breaches")}):
        assert is_ours(text), text


# No original survives

ALPHABET = st.characters(codec="utf-8", exclude_characters="\x00")
NAMES = st.from_regex(
    r"/[a-z]{2,6}/[a-z]{2,6}\.ya?ml|[a-z]{3,9}-[0-9]{2}\.corp\.example|10\.[0-9]{1,3}\.[0-9]{1,3}\.7|fe80::[0-9a-f]{4}|acme-[a-z]{4}\.service"
    r"|[4-6]\.[0-9]{1,2}\.0-acme[0-9]{4}|Terminal shell in [a-z]{4}er", fullmatch=True)
FREE = NAMES | st.text(ALPHABET, min_size=4, max_size=30) | st.sampled_from([text for text in hostile.TEXTS if 4 <= len(text) < 100])
VALUES = st.recursive(FREE | st.integers(0, 9) | st.booleans() | st.none(),
                      lambda inner: st.lists(inner, max_size=2) | st.dictionaries(FREE, inner, max_size=2), max_leaves=4)
HOSTS = st.fixed_dictionaries({
    "name": FREE, "status": st.sampled_from(shape.STATUSES), "reason": FREE, "release": FREE, "driver": FREE, "kernel": FREE,
    "unit": FREE, "cpus": st.integers(1, 9),
    "window": st.fixed_dictionaries({"source": FREE, "basis": FREE, "voided": FREE, "events": st.integers(0, 9),
                                     "drops_by_category": st.dictionaries(FREE, st.integers(0, 9), max_size=2),
                                     "userspace": st.dictionaries(FREE, st.integers(0, 9), max_size=2),
                                     "memory": st.dictionaries(FREE, st.integers(0, 9), max_size=2)}),
    "verdict": st.fixed_dictionaries({"state": st.sampled_from(shape.STATES), "advice": FREE,
                                      "reasons": st.lists(FREE, max_size=2)}),
    "plan": st.fixed_dictionaries({"changes": st.lists(st.fixed_dictionaries({"key": FREE, "from": VALUES, "to": VALUES, "why": FREE}),
                                                       max_size=2),
                                   "warnings": st.lists(FREE, max_size=2), "reason": FREE}),
    "drift": st.lists(st.fixed_dictionaries({"kind": st.just("disk"), "what": FREE, "found": VALUES, "expected": VALUES, "advice": FREE}),
                      max_size=2),
    "change": st.fixed_dictionaries({"at": st.integers(10 ** 9, 2 * 10 ** 9), "evidence": st.dictionaries(
        FREE | st.sampled_from(("basis", "source", "buffers", "events", "pid")), VALUES, max_size=3)}),
    "syscalls": st.fixed_dictionaries({
        "custom_set": st.lists(FREE | st.just("!openat"), max_size=2), "selected": st.lists(FREE, max_size=2), "basis": FREE,
        "coverage": st.fixed_dictionaries({"blind": st.lists(st.fixed_dictionaries({"rule": FREE, "lost": st.lists(FREE, max_size=1)}),
                                                             max_size=2)}),
        "frontier": st.lists(st.fixed_dictionaries({"exclude": st.lists(FREE, max_size=1), "lost": st.lists(FREE, max_size=1)}),
                             max_size=1), "warnings": st.lists(FREE, max_size=1)}) | st.none(),
    "trial": st.fixed_dictionaries({
        "verdict": FREE, "reason": FREE, "largest": FREE, "mode": FREE, "began": st.integers(0, 2 * 10 ** 9),
        "tests": st.lists(st.fixed_dictionaries({
            "name": FREE, "state": FREE, "reason": FREE, "custom_set": st.lists(FREE, max_size=1), "selected": st.lists(FREE, max_size=1),
            "drops_by_category": st.dictionaries(FREE, st.integers(0, 9), max_size=1), "rules_blind": st.lists(FREE, max_size=1)}),
            max_size=2)}) | st.none(),
    "previous": st.fixed_dictionaries({"at": FREE, "state": FREE}),
    "snapshot": st.dictionaries(FREE, VALUES, max_size=2),
})


def originals(hosts):
    return {text for text in texts_of(hosts) if len(text) >= 4} - OURS


@given(st.lists(HOSTS, min_size=1, max_size=3), FREE)
def test_no_original_text_survives(hosts, collection):
    model = assembled(*hosts, collection=collection)
    bundle = anonymise.bundle(model)
    # These two are sentences of ours, about numbers and stand-ins.
    assert bundle["fleet"].pop("headline") == model["fleet"]["headline"]
    assert [item.pop("text") for item in bundle["fleet"]["breaches"]] == [item["text"] for item in model["fleet"]["breaches"]]
    inside = "\n".join(texts_of(json.loads(json_csv.to_json(bundle))))
    for original in originals(hosts) | {collection}:
        # What may stay may; pieces of our own words and digits say nothing.
        if not is_ours(original) and not any(original in ours for ours in OURS) and not re.fullmatch(r"[-0-9.:TZ\n]*", original):
            assert original not in inside
    checked(bundle)


@pytest.mark.parametrize("model", [MODEL, TRIALS, COMPARED, hostile.model(), hostile.model(kind="trial")],
                         ids=["fleet", "trials", "trials of rules", "hostile", "hostile trials"])
def test_only_our_own_words_are_in_a_bundle(model):
    checked(anonymise.bundle(model))


def test_nothing_of_the_other_hosts_is_in_a_bundle():
    name = MODEL["hosts"][3]["name"]
    bundle = anonymise.bundle(MODEL, [name])
    assert len(bundle["hosts"]) == bundle["fleet"]["hosts"] == 1
    found = json.dumps(bundle)
    assert not [host["name"] for host in MODEL["hosts"] if host["name"] in found]


WAYS = [{"way": "acme", "calls": ["acme"], "fields": ["acme"], "false_alarms": True, "rules": ["acme"]}]


@pytest.mark.parametrize("host", [
    {"name": "web-01.corp.example"}, {"reason": "ssh: connect to host web-01.corp.example port 22"}, {"unit": "acme-falco.service"},
    {"kernel": "6.1.0-acmecorp"}, {"release": "0.44.1-acme"}, {"driver": "acme"},
    {"plan": {"changes": [{"kind": "acme", "key": "/srv/acme", "from": "/srv/acme",
                           "to": ["10.1.2.3", {"acme": "fe80::1"}], "why": "acme"}],
              "warnings": ["rule Acme Shell goes blind"], "reason": "acme"}},
    {"drift": [{"kind": "disk", "what": "engine of /srv/acme/zz.yaml", "found": "acme", "expected": {"acme": 1}, "advice": "acme"}]},
    {"change": {"at": 1795000000, "evidence": {"pid": 4711, "basis": "acme", "source": "/srv/acme/metrics", "acme": 1,
        "buffers": {"source": "acme"}}}},
    {"window": {"source": "acme", "basis": "acme", "voided": "acme", "drops_by_category": {"acme": 1}, "userspace": {"acme": 1},
                "memory": {"acme": 1}}},
    {"verdict": {"state": "dropping", "advice": "acme", "reasons": ["acme"]}},
    {"snapshot": {"falco.version": "acme"}},
    {"syscalls": {"custom_set": ["!acme"], "selected": ["acme"], "added": ["acme"], "removed": ["acme"], "warnings": ["acme"],
                  "coverage": {"blind": [{"rule": "acme", "lost": ["acme"], "left": ["acme"]}], "half_blind": [{"rule": "acme"}],
                               "wrong_output": [{"rule": "acme"}], "unseen": WAYS},
                  "frontier": [{"exclude": ["acme"], "lost": ["acme"]}]}},
    {"trial": {"reason": "acme", "largest": "acme", "began": 1795000000, "ended": 1795000001, "tests": [
        {"name": "acme", "reason": "acme", "custom_set": ["acme"], "selected": ["acme"], "drops_by_category": {"acme": 1},
         "rules_blind": ["acme"], "rules_half_blind": ["acme"], "rules_wrong_output": ["acme"], "unseen": WAYS}]}},
    {"sight": {"basis": "rules", "reason": "acme", "blind": ["acme"], "half_blind": ["acme"], "wrong_output": ["acme"], "unseen": WAYS}},
])
def test_no_part_of_a_host_is_forgotten(host):
    found = json.dumps(anonymise.bundle(assembled(dict({"name": "acme", "status": "ok"}, **host))))
    assert not re.search("(?i)acme|corp|10\\.1|fe80|4711|17950", found), found


# What stays

def test_numbers_and_verdicts_stay():
    bundle = anonymise.bundle(MODEL)
    for host, original in zip(bundle["hosts"], MODEL["hosts"]):
        for name in ("cpus", "memory_bytes", "buffers", "release", "driver", "unit", "kernel", "status"):
            assert host[name] == original[name]
        for name in ("state", "tier", "drops_percent", "rate_per_cpu", "rate_per_cpu_guide", "bottleneck", "next_step", "cost"):
            assert (host["verdict"] or {}).get(name) == (original["verdict"] or {}).get(name)
        assert host["window"] == original["window"] or original["window"]["voided"]
    for name in ("states", "bottlenecks", "next_steps", "percentiles", "events", "drops", "headline"):
        assert bundle["fleet"][name] == MODEL["fleet"][name]


def test_system_calls_stay_and_rules_do_not():
    chosen = next(host["syscalls"] for host in MODEL["hosts"] if host["syscalls"] and host["syscalls"]["coverage"]["blind"])
    found = bundled(syscalls=chosen)["syscalls"]
    for name in ("custom_set", "selected", "removed", "before", "after", "target_events_per_second", "basis", "reached"):
        assert found[name] == chosen[name]
    assert [step["exclude"] for step in found["frontier"]] == [step["exclude"] for step in chosen["frontier"]]
    assert all(STAND_IN.fullmatch(item["rule"]) for item in found["coverage"]["blind"])
    # The same rule has the same name in the coverage and in the frontier.
    names = {ours["rule"]: theirs["rule"] for theirs, ours in zip(chosen["coverage"]["blind"], found["coverage"]["blind"])}
    for step, original in zip(found["frontier"], chosen["frontier"]):
        assert [names.get(rule, real) for rule, real in zip(step["lost"], original["lost"])] == original["lost"]


def test_numbers_of_a_comparison_stay_and_names_of_rules_and_plugins_do_not():
    bundle = anonymise.bundle(COMPARED)
    text = json.dumps(bundle)
    assert "Terminal shell" not in text and '"container"' not in text and "without plugins" in text
    for host, original in zip(bundle["hosts"], COMPARED["hosts"]):
        for test, told in zip(host["trial"]["tests"] if host["trial"] else (), original["trial"]["tests"] if original["trial"] else ()):
            for name in ("difference", "runs", "cpu_per_million", "against"):
                assert test[name] == told[name]
            assert len(test["rules_removed"]) == len(told["rules_removed"])


def test_the_guide_s_tests_stay_and_others_do_not():
    for host, original in zip(anonymise.bundle(TRIALS)["hosts"], TRIALS["hosts"]):
        assert (host["trial"] is None) == (original["trial"] is None)
        for test, told in zip(host["trial"]["tests"] if host["trial"] else (), original["trial"]["tests"] if original["trial"] else ()):
            assert test["name"] == (told["name"] if told["name"] != "no files" else "test-1")
            for name in ("state", "drops_percent", "rate_per_cpu", "selected", "custom_set", "memory_bytes", "falco_cpu_percent"):
                assert test[name] == told[name]
        if host["trial"] and original["trial"]["largest"]:
            assert host["trial"]["largest"] in ("T1", "T2", "T3", "T4", "T5", "test-1")


def test_a_bundle_has_no_rollout():
    assert anonymise.bundle(hostile.model(kind="rollout"))["rollout"] is None


@pytest.mark.parametrize("key", [key.path for key in releases.KEYS])
def test_falcos_own_keys_stay(key):
    assert bundled(plan={"changes": [{"kind": "config", "key": key, "from": 4, "to": "30s", "why": "x"}]})["plan"]["changes"] == [
        {"kind": "config", "key": key, "from": 4, "to": "30s", "why": "text-1"}]


@pytest.mark.parametrize("change, expected", [
    ({"kind": "unit", "key": "Nice", "from": 0, "to": -10}, ("unit", "Nice", 0, -10)),
    ({"kind": "sysctl", "key": "kernel.bpf_stats_enabled", "from": 0, "to": 1}, ("sysctl", "kernel.bpf_stats_enabled", 0, 1)),
    ({"kind": "directory", "key": "/srv/x", "from": None, "to": "0750"}, ("directory", "path-1", None, "0750")),
    ({"kind": "file", "key": "/srv/x", "from": "/srv/x", "to": "/srv/y"}, ("file", "path-1", "path-1", "path-2")),
    ({"key": "webserver.listen_address", "from": "10.0.0.1", "to": "::1"},
     ("config", "webserver.listen_address", "address-1", "address-2")),
    ({"key": "engine", "from": {"kind": "kmod", "mine": "kmod"}, "to": [True, 1.5]},
     ("config", "engine", {"kind": "kmod", "key-1": "kmod"}, [True, 1.5])),
    ({"key": "x y", "from": "secret-host", "to": "x y"}, ("config", "text-1", "host-1", "text-1")),
])
def test_changes(change, expected):
    found = bundled(plan={"changes": [change]})["plan"]["changes"][0]
    assert (found["kind"], found["key"], found["from"], found["to"]) == expected


@pytest.mark.parametrize("kernel, expected", [
    ("6.1.0-18-amd64", "6.1.0-18-amd64"), ("5.14.0-427.13.1.el9_4.x86_64", "5.14.0-427.13.1.el9_4.x86_64"),
    ("6.8.0-1014-aws", "6.8.0-1014-aws"), ("6.1.0-acme", "6.1.0"), ("5.15.0-116-acme-generic", "5.15.0-116"), ("6.1.0acme", "6.1.0"),
    ("6.1.0-20260401", "6.1.0"), ("acme", "kernel-1"), (None, None), ("6.18", "6.18"), ("", "")])
def test_kernels(kernel, expected):
    assert bundled(kernel=kernel)["kernel"] == expected


def test_words_of_findings_are_known():
    facts = Host().facts()
    facts["config"]["stale"] = "x"
    facts["falco"].update(rings={"driver": "kmod", "bytes_each": 1, "count": 9}, nice=5, version="0.44.1")
    facts["driver"].update(kind="kmod", decided_by="unit")
    facts["service"]["cgroup"]["weight"] = 100
    facts["host"].update(unit_dropin={"Nice": "-10", "CPUWeight": "500"}, files={}, record={
        "files": {"/etc/falco/x": "1"}, "driver": "ebpf", "version": "0.43.0", "written": []})
    findings = drift.find(facts, None, {"buf_size_preset": 4, "cpus_for_each_buffer": 1})
    kept = {item["what"] for item in bundled(drift=findings)["drift"] if not STAND_IN.fullmatch(item["what"])}
    assert {"configuration", "bytes of each ring buffer", "number of ring buffers", "Falco's release", "Nice of the process",
            "CPUWeight of the process"} <= kept


# Names

def test_the_same_text_has_the_same_name_everywhere():
    bundle = anonymise.bundle(assembled(
        {"name": "alpha", "status": "ok", "unit": "beta", "plan": {"changes": [{"key": "x", "from": "/srv/a", "to": "alpha"}]}},
        {"name": "beta", "status": "ok", "unit": "alpha", "drift": [{"kind": "disk", "what": "/srv/a", "found": "/srv/b"}]}))
    one, two = bundle["hosts"]
    assert (one["name"], one["unit"], two["name"], two["unit"]) == ("host-1", "host-2", "host-2", "host-1")
    assert one["plan"]["changes"][0]["from"] == two["drift"][0]["what"] == "path-1"
    assert two["drift"][0]["found"] == "path-2"


def test_many_hosts_keep_their_order():
    names = [host["name"] for host in anonymise.bundle(MODEL)["hosts"]]
    assert names == sorted(names) == ["host-%03d" % number for number in range(1, 121)]


def test_a_host_that_is_called_like_a_stand_in_is_not_taken_for_another():
    bundle = anonymise.bundle(assembled({"name": "host-1", "status": "ok"}, {"name": "host-2", "status": "ok"},
                                        {"name": "text-1", "status": "ok", "reason": "path-7"}))
    found = set(texts_of(bundle["hosts"]))
    assert not found & {"host-1", "host-2", "text-1", "path-7"}
    assert [host["name"] for host in bundle["hosts"]] == ["host-3", "host-4", "host-5"]


def test_the_same_report_makes_the_same_bundle_and_stays_as_it_was():
    model = copy.deepcopy(MODEL)
    assert json_csv.to_json(anonymise.bundle(model)) == json_csv.to_json(anonymise.bundle(MODEL))
    assert model == MODEL


def test_a_report_that_was_read_from_a_file_makes_the_same_bundle():
    assert anonymise.bundle(json.loads(json_csv.to_json(MODEL))) == anonymise.bundle(MODEL)


@pytest.mark.parametrize("hosts, told", [
    (["wbe-01"], "wbe-01 is not in this report (did you mean web-01?)"), (["x"], "x is not in this report")])
def test_a_host_that_is_not_there(hosts, told):
    with pytest.raises(anonymise.BundleError) as caught:
        anonymise.bundle(assembled({"name": "web-01", "status": "ok"}), hosts)
    assert str(caught.value) == told


# Times

def test_times_are_shifted_together():
    bundle = anonymise.bundle(MODEL)
    shift = synthetic_audit.NOW - shape.unix(anonymise.EPOCH)
    assert bundle["made_at"] == anonymise.EPOCH
    for host, original in zip(bundle["hosts"], MODEL["hosts"]):
        assert [row[0] + shift for row in host["history"]] == [row[0] for row in original["history"]]
        if original["change"]:
            assert host["change"]["at"] + shift == original["change"]["at"]
        if original["previous"] and original["previous"]["at"]:
            assert shape.unix(host["previous"]["at"]) + shift == shape.unix(original["previous"]["at"])


def test_no_time_of_the_report_is_in_a_bundle():
    found = json.dumps(anonymise.bundle(MODEL))
    assert "2026" not in {at for text in texts_of(json.loads(found)) for at in re.findall("^[0-9]{4}(?=-)", text)}
    assert str(synthetic_audit.NOW)[:5] not in {number[:5] for number in re.findall(r"\b[0-9]{10}\b", found)}


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "x"])
def test_any_time_is_shifted_or_left_out(at):
    for made_at in (at, synthetic_audit.MADE_AT):
        bundle = anonymise.bundle(assembled({"name": "a", "previous": {"at": at}, "change": {"at": 0}, "history": [[0] + [None] * 4]},
                                            made_at=made_at))
        assert bundle["made_at"] == anonymise.EPOCH


def test_the_guides_own_tests_keep_their_names():
    assert {"T1 processes", "T5 files", "T1", "T5"} <= set(anonymise.TESTS)
