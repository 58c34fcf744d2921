# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON, CSV, OpenMetrics and the terminal: what they say, and that nothing of a host does anything in them."""

import csv
import io
import json
import re

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils import _text
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import json_csv, models, openmetrics, shape, terminal
from ansible_collections.falcotune.fleet.tests.benchmarks import synthetic_audit, synthetic_rollout, synthetic_trial
from ansible_collections.falcotune.fleet.tests.unit import hostile
from hypothesis import given, strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as prometheus_families

FORMS = (json_csv.to_json, json_csv.to_csv, openmetrics.to_openmetrics, terminal.to_terminal)
MODEL = synthetic_audit.audit_model(300)
HOSTILE = hostile.model()
TRIALS = models.assemble(synthetic_trial.tried(synthetic_audit.audit_results(60, history=0)), dict(synthetic_audit.POLICY, fail_on=[]),
                         dict(synthetic_audit.META, kind="trial"))
COMPARED = models.assemble(synthetic_trial.tried(synthetic_audit.audit_results(30, history=0), make=synthetic_trial.compared),
                           dict(synthetic_audit.POLICY, fail_on=[]), dict(synthetic_audit.META, kind="trial"))
RECORD = synthetic_rollout.rollout(["host-%03d" % number for number in range(300)], wrong=0.2, stop=12)
ROLLOUT = models.assemble([], dict(synthetic_audit.POLICY, fail_on=[]), dict(synthetic_audit.META, kind="rollout"), None, RECORD)
KINDS = {"trials": TRIALS, "trials of rules": COMPARED, "rollout": ROLLOUT, "hostile trials": hostile.model(kind="trial"),
         "hostile rollout": hostile.model(kind="rollout")}
BY_NAME = {host["name"]: host for host in MODEL["hosts"]}
TEXTS = st.text(max_size=40) | st.sampled_from(hostile.TEXTS)


def named(*names, **more):
    """A model of hosts that are called so and lose events."""
    verdict = {"state": "dropping", "drops_percent": 12.5, "rate_per_cpu_guide": 2000.0, "bottleneck": "buffer", "next_step": "buffers",
               "advice": "", "reasons": [], "cost": {}}
    return models.assemble([dict({"name": name, "status": "ok", "verdict": verdict}, **more) for name in names],
                           synthetic_audit.POLICY, synthetic_audit.META)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("model", [MODEL, HOSTILE], ids=["fleet", "hostile"])
def test_the_same_model_makes_the_same_bytes(form, model):
    again = synthetic_audit.audit_model(300) if model is MODEL else hostile.model()
    assert form(model).encode("utf-8") == form(again).encode("utf-8")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("results", [[], [None], [{"name": "a", "status": "unreachable"}], [{"name": "a", "status": "ok"}]])
def test_little_is_enough(form, results):
    assert form(models.assemble(results, synthetic_audit.POLICY, synthetic_audit.META)).endswith("\n")


# JSON

@pytest.mark.parametrize("model", [MODEL, HOSTILE], ids=["fleet", "hostile"])
def test_json_is_the_public_model_one_host_a_line(model):
    text = json_csv.to_json(model)
    assert json.loads(text) == models.public(model)
    assert text.isascii() and not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
    lines = text.splitlines()
    assert [json.loads(line.rstrip(","))["name"] for line in lines if line.startswith('{"name"')] == [
        host["name"] for host in model["hosts"]]


def test_json_has_no_snapshot():
    assert any(host["snapshot"] for host in MODEL["hosts"])
    assert '"snapshot":' not in json_csv.to_json(MODEL)


# CSV

def rows(model):
    return list(csv.DictReader(io.StringIO(json_csv.to_csv(model), newline=""), strict=True))


def test_csv_has_a_row_a_host_with_its_numbers():
    found = rows(MODEL)
    assert [row["host"] for row in found] == list(BY_NAME)
    for row in found:
        host = BY_NAME[row["host"]]
        assert row["state"] == (models.state_of(host) or "")
        lost = models.drops_of(host)
        assert row["drops_percent"] == ("" if lost is None else repr(lost))
        assert row["cpus"] == ("" if host["cpus"] is None else str(host["cpus"]))
        assert row["restart_required"] == ("" if host["plan"] is None else str(host["plan"]["restart_required"]).lower())


def test_csv_is_as_rfc_4180_wants_it():
    text = json_csv.to_csv(HOSTILE)
    assert text.endswith("\r\n") and "\n" not in text.replace("\r\n", "") and "\r" not in text.replace("\r\n", "")
    assert text.count("\r\n") == len(HOSTILE["hosts"]) + 1
    assert {len(row) for row in csv.reader(io.StringIO(text, newline=""), strict=True)} == {len(json_csv.COLUMNS)}


def test_csv_has_the_rules_that_the_chosen_calls_cost():
    found = {row["host"]: row for row in rows(MODEL)}
    chosen = [host for host in MODEL["hosts"] if host["syscalls"]]
    assert chosen and len(chosen) < len(MODEL["hosts"])
    for host in MODEL["hosts"]:
        coverage = (host["syscalls"] or {}).get("coverage")
        assert found[host["name"]]["rules_blind"] == ("" if coverage is None else str(len(coverage["blind"])))
        assert found[host["name"]]["syscalls_selected"] == ("" if coverage is None else str(host["syscalls"]["after"]["syscalls"]))


def test_csv_of_trials_has_a_row_a_test_and_of_a_rollout_a_row_a_host():
    tried = [(host["name"], test["name"]) for host in TRIALS["hosts"] if host["trial"] for test in host["trial"]["tests"]]
    found = rows(TRIALS)
    assert [(row["host"], row["test"]) for row in found if row["test"]] == tried
    assert [row["host"] for row in found if not row["test"]] == [
        host["name"] for host in TRIALS["hosts"] if host["trial"] and not host["trial"]["tests"]]
    told = [(host["name"], host["outcome"], str(host["began"])) for batch in RECORD["batches"] for host in batch["hosts"]]
    assert [(row["host"], row["outcome"], row["began"]) for row in rows(ROLLOUT)] == told


@pytest.mark.parametrize("name", KINDS)
def test_csv_of_the_other_kinds_has_no_formula(name):
    text = json_csv.to_csv(KINDS[name])
    assert len({len(row) for row in csv.reader(io.StringIO(text, newline=""), strict=True)}) == 1
    assert text.count("\r\n") > 50 and all(no_formula(value) for row in rows(KINDS[name]) for value in row.values())


def test_every_text_of_csv_is_quoted():
    """Or a spreadsheet with another separator would split it, and what follows could be a formula."""
    for line in json_csv.to_csv(HOSTILE).splitlines():
        for plain in re.sub(r'"(?:[^"]|"")*"', "", line).split(","):
            assert plain == "" or json_csv._NUMBER.fullmatch(plain), line


def no_formula(shown):
    return json_csv._NUMBER.fullmatch(shown) or not shown.lstrip(" \t\r\n").startswith(tuple("=+-@\uff1d\uff0b\uff0d\uff20"))


@given(TEXTS)
def test_no_cell_is_a_formula(text):
    shown = json_csv.cell(text)
    assert no_formula(shown) and shown.isprintable()


def test_no_cell_of_a_hostile_report_is_a_formula():
    assert all(no_formula(value) for row in rows(HOSTILE) for value in row.values())


@pytest.mark.parametrize("value, expected", [
    (None, ""), (True, "true"), (False, "false"), (5, 5), (0.5, 0.5), ("web-01", "web-01"), ("=1+1", "'=1+1"), ("+1", "+1"),
    ("-1.5", "-1.5"), ("-1-1", "'-1-1"), ("+49 30", "'+49 30"), ("@x", "'@x"), ("\t=1", "'\\x09=1"), ("\rx", "'\\x0dx"), (" =1", "' =1"),
    ("\uff1d1", "'\uff1d1"), ("\ufeff=1", "\\ufeff=1"), ("-1e5", "-1e5"), ("a=1", "a=1")])
def test_cells(value, expected):
    assert json_csv.cell(value) == expected


# OpenMetrics

def samples(text):
    """{(name, labels): value} as Prometheus reads it; fails where a family comes twice."""
    found, families = {}, []
    for family in prometheus_families(text):
        families.append(family.name)
        assert family.type == "gauge" and family.documentation
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found and sample.timestamp is None
            found[key] = sample.value
    assert len(families) == len(set(families))
    return found


@pytest.mark.parametrize("model", [MODEL, HOSTILE, models.assemble([], synthetic_audit.POLICY, synthetic_audit.META)],
                         ids=["fleet", "hostile", "empty"])
def test_prometheus_and_openmetrics_read_the_same(model):
    text = openmetrics.to_openmetrics(model)
    found = samples(text)
    strict = {(sample.name, tuple(sorted(sample.labels.items()))): sample.value
              for family in openmetrics_families(text) for sample in family.samples}
    assert found == strict and found
    assert all(name.startswith("falcotune_") for name, dummy in found)


def test_help_and_type_come_once_and_before_their_samples():
    seen, current = set(), None
    for line in openmetrics.to_openmetrics(HOSTILE).splitlines():
        if line.startswith("# HELP "):
            current = line.split()[2]
            assert current not in seen
            seen.add(current)
        elif line.startswith("# TYPE "):
            assert line == "# TYPE %s gauge" % current
        elif line != "# EOF":
            assert re.match(r"%s(\{| )" % re.escape(current), line), line


def test_the_numbers_of_openmetrics():
    found = samples(openmetrics.to_openmetrics(MODEL))
    fleet = MODEL["fleet"]
    assert found["falcotune_audit_timestamp_seconds", ()] == synthetic_audit.NOW
    assert found["falcotune_audit_duration_seconds", ()] == MODEL["seconds"]
    assert found["falcotune_fleet_hosts", (("status", "ok"),)] == fleet["ok"]
    assert found["falcotune_fleet_drops_ratio", (("quantile", "0.999"),)] == fleet["percentiles"]["drops_percent"]["p99.9"] / 100
    for state, number in fleet["states"].items():
        assert found["falcotune_fleet_states", (("state", state),)] == number
        assert sum(1 for name, labels in found if name == "falcotune_host_state" and ("state", state) in labels) == number
    for name, host in BY_NAME.items():
        label = (("host", name),)
        assert found["falcotune_host_up", label] == (host["status"] == "ok")
        lost = models.drops_of(host)
        assert found.get(("falcotune_host_drops_ratio", label)) == (None if lost is None else lost / 100)
    assert {labels for name, labels in found if name == "falcotune_host_drops_ratio"} == {
        (("host", name),) for name, host in BY_NAME.items() if models.drops_of(host) is not None}


def test_blind_rules_are_a_gauge_where_calls_were_chosen():
    found = samples(openmetrics.to_openmetrics(MODEL))
    for name, host in BY_NAME.items():
        expected = len(host["syscalls"]["coverage"]["blind"]) if host["syscalls"] else None
        assert found.get(("falcotune_host_rules_blind", (("host", name),))) == expected


def test_breaches_count_hosts_and_are_there_at_zero():
    found = samples(openmetrics.to_openmetrics(MODEL))
    broken = {rule: sum(len(item["hosts"]) for item in MODEL["fleet"]["breaches"] if item["rule"] == rule)
              for rule in ("blind", "dropping")}
    assert {labels[0][1]: value for (name, labels), value in found.items() if name == "falcotune_fleet_breaches"} == broken
    calm = samples(openmetrics.to_openmetrics(models.assemble([], synthetic_audit.POLICY, synthetic_audit.META)))
    assert calm["falcotune_fleet_breaches", (("rule", "blind"),)] == 0


def test_openmetrics_of_the_fleet_alone():
    text = openmetrics.to_openmetrics(MODEL, hosts=False)
    assert "falcotune_host_" not in text and "falcotune_fleet_hosts" in text and text.endswith("# EOF\n")
    assert set(samples(text)) < set(samples(openmetrics.to_openmetrics(MODEL)))


def test_hosts_that_look_alike_do_not_spoil_the_file():
    found = samples(openmetrics.to_openmetrics(named("a\x1b", "a\\x1b", "b", "b", "b (2)")))
    hosts = [labels[0][1] for name, labels in found if name == "falcotune_host_up"]
    assert len(hosts) == len(set(hosts)) == 5


@given(st.lists(TEXTS, max_size=5), TEXTS)
def test_any_label_is_read_back(names, release):
    found = samples(openmetrics.to_openmetrics(named(*names, release=release)))
    assert sum(name == "falcotune_host_up" for name, dummy in found) == len(names)
    shown = _text.visible(release.encode("utf-8", "replace").decode() if len(release) < 4096 else "") or None
    if shown and names and "?" not in shown:
        assert any(("release", shown) in labels for name, labels in found if name == "falcotune_host_info")


# The terminal

def test_terminal_tells_what_counts():
    text = terminal.to_terminal(MODEL)
    fleet = MODEL["fleet"]
    worst = max((host for host in MODEL["hosts"] if models.drops_of(host)), key=models.drops_of)
    flat = " ".join(text.split())
    assert flat.startswith(fleet["headline"])
    assert "%d healthy" % fleet["states"]["healthy"] in flat
    line = next(line for line in text.splitlines() if line.startswith(worst["name"]))
    assert line.split()[1:3] == [worst["verdict"]["state"], _text.number_text(models.drops_of(worst))]
    assert worst["verdict"]["bottleneck"] in line and line.endswith(worst["verdict"]["next_step"])
    for name in ("p50", "p90", "p99", "p99.9", "max"):
        assert name in text
    for breach in fleet["breaches"]:
        assert "FAILED by %s: %s" % (breach["rule"], breach["text"]) in flat
    assert "\n\n\n" not in text


def test_terminal_shows_the_ten_worst_and_says_how_many_there_are():
    lines = terminal.to_terminal(named(*("host-%03d" % number for number in range(40)))).splitlines()
    assert "The worst 10 of 40 hosts that lose events:" in lines
    assert sum(line.startswith("host-") and "dropping" in line for line in lines) == 10


def test_terminal_of_a_fleet_that_passes():
    model = models.assemble([{"name": "a", "status": "ok", "verdict": {"state": "healthy", "drops_percent": 0.0}}], synthetic_audit.POLICY,
                            synthetic_audit.META)
    text = terminal.to_terminal(model)
    assert "None of 1 host loses events." in text and "Passed: no host breaks blind, dropping." in text and "FAILED" not in text
    lenient = models.assemble([], dict(synthetic_audit.POLICY, fail_on=[]), synthetic_audit.META)
    assert "No policy enforced: falco_audit_fail_on is empty." in terminal.to_terminal(lenient)


def test_terminal_names_the_rules_that_go_blind():
    found = {}
    for host in MODEL["hosts"]:
        for item in host["syscalls"]["coverage"]["blind"] if host["syscalls"] else ():
            found[item["rule"]] = found.get(item["rule"], 0) + 1
    flat = " ".join(terminal.to_terminal(MODEL).split())
    assert "Rules that go blind with the chosen system calls (%d)" % len(found) in flat
    most = min(found, key=lambda rule: (-found[rule], rule))
    assert "%s on %d hosts" % (most, found[most]) in flat
    assert "go blind" not in terminal.to_terminal(named("a"))


def test_terminal_of_trials_of_rules_has_the_differences():
    text = terminal.to_terminal(COMPARED, 200)
    tried = sum(bool(host["trial"]) for host in COMPARED["hosts"])
    assert text.startswith("%d hosts were tried: %d compare rules and plugins." % (tried, tried))
    assert "without plugins: %d of %d hosts ran it; CPU for each million events changes by -" % (tried, tried) in text
    assert "without plugins, compared with without their rules in 3 pairs of runs: CPU for each million events: " in text
    assert all(row["runs"] == "3" for row in rows(COMPARED) if row["test"])


def test_terminal_of_trials_is_a_matrix():
    text = terminal.to_terminal(TRIALS)
    assert text.startswith(TRIALS["fleet"]["headline"][:60]) and "hosts were tried" in TRIALS["fleet"]["headline"]
    head = next(line.split() for line in text.splitlines() if line.startswith("host "))
    assert head[:5] == ["host", "verdict", "largest", "T1", "T2"]
    busy = next(host for host in TRIALS["hosts"] if host["trial"] and host["trial"]["verdict"] == "too_busy")
    line = next(line.split() for line in text.splitlines() if line.startswith(busy["name"] + " "))
    assert line[1:5] == ["too_busy", "-", _text.number_text(busy["trial"]["tests"][0]["drops_percent"]), "skipped"]
    assert "(20 of %d hosts)" % sum(bool(host["trial"]) for host in TRIALS["hosts"]) in text
    assert "Passed" not in text, "nothing was asked, so nothing passed"


def test_terminal_of_a_rollout_tells_where_it_stands():
    text = terminal.to_terminal(ROLLOUT)
    flat = " ".join(text.split())
    hosts = [host for batch in RECORD["batches"] for host in batch["hosts"]]
    wrong = [host for host in hosts if host["outcome"] != "done"]
    assert flat.startswith("The rollout stopped: %d of 300 hosts changed" % (len(hosts) - len(wrong)))
    assert "Because: the budget of 12 failures is used up" in flat and "Failures: %d of 12 allowed" % len(wrong) in flat
    assert wrong[0]["name"] in flat and "and %d more that failed" % (len(wrong) - 8) in flat
    assert "Left (%d): %s" % (len(RECORD["left"]), RECORD["left"][0]) in flat and "Down before it began (2): db-90001, db-90002" in flat
    assert "Most blind at once: rack-c 3 (allowed 3)" in flat
    assert len(text.splitlines()) < 50


@pytest.mark.parametrize("width", [60, 80, 100, 132])
@pytest.mark.parametrize("name", KINDS)
def test_no_line_of_the_other_kinds_is_wider_or_moves_the_terminal(name, width):
    for line in terminal.to_terminal(KINDS[name], width).split("\n"):
        assert sum(map(_text._width, line)) <= width and line.isprintable(), line


@pytest.mark.parametrize("width", [60, 80, 100, 132])
@pytest.mark.parametrize("model", [MODEL, HOSTILE], ids=["fleet", "hostile"])
def test_no_line_is_wider_than_the_terminal(model, width):
    for line in terminal.to_terminal(model, width).splitlines():
        assert sum(map(_text._width, line)) <= width, line


@given(st.lists(TEXTS, max_size=4))
def test_nothing_of_a_host_moves_the_terminal(names):
    for line in terminal.to_terminal(named(*names)).split("\n"):
        assert line.isprintable()


def test_nothing_of_a_hostile_report_moves_the_terminal():
    assert all(line.isprintable() for line in terminal.to_terminal(HOSTILE).split("\n"))


def test_what_is_unknown_of_a_class_of_hosts_is_said_and_no_number_is_made_up():
    errors = {"hosts": 1, "median_error": 2.0, "p90_error": 2.0}
    unknown = {**errors, "driver": None, "cpus": None, "release": None, "ruleset": None, "against": None}
    known = {**errors, "driver": "kmod", "cpus": 1, "release": "0.44.1", "ruleset": "1c15d5d54363", "against": "buffer"}
    told = [" ".join(terminal._prediction_lines({**errors, "hosts": 2, "by_class": [one, unknown]}, 200)) for one in (unknown, known)]
    assert ("for unknown CPUs with an unknown driver, Falco of an unknown release and unknown rules against an unknown bottleneck: p90 2"
            in told[0])
    assert "for 1 CPU with kmod, Falco 0.44.1 and rules 1c15d5d54363 against buffer: p90 2" in told[1]


def test_the_way_of_the_fleet_is_told_from_the_first_audit_to_this_one():
    way = [[1795471080, 12, 11, 4, 31.5], [1795557480, 13, 12, 9, 44.0], [1795643880, 13, 12, 1, 0.25]]
    model = {**MODEL, "fleet": {**MODEL["fleet"], "way": way}}
    told = " ".join(terminal.to_terminal(model).split())
    assert ("Lost events in 3 audits since %s: 4 of 11 measured hosts, 31.5 %% of their events; "
            "now 1 of 12 measured hosts, 0.25 %% of their events" % shape.iso(1795471080)) in told
    model["fleet"]["way"] = model["fleet"]["way"][:1]
    assert "Lost events in" not in terminal.to_terminal(model)
