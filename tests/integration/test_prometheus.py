# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin prometheus: a real Prometheus scrapes hosts in every state, and Ansible groups them; and the rules."""

from __future__ import annotations

import http.server
import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from conftest import wait_for
from hosts import free_ports
from playbooks import AUDIT, ROOT, environment, play
from prometheus import Prometheus

if not Prometheus.there():
    pytest.skip("there is no prometheus or promtool: install Debian's package prometheus", allow_module_level=True)

RULES = ROOT / "extensions" / "prometheus" / "falco.rules.yml"
DASHBOARD = json.loads((ROOT / "extensions" / "grafana" / "falco-servers.json").read_text())
# Real Falcos of 0.38.2 and 0.44.1.
RECORDED = ROOT / "tests" / "unit" / "fixtures" / "metrics"
ON = {"metrics": {"enabled": True, "interval": "1s", "output_rule": False, "output_file": "{root}/var/log/falco/metrics.jsonl",
                  "resource_utilization_enabled": True, "kernel_event_counters_enabled": True}}
BUSY = {"starved": 0.8, "load": {"events_per_second": 300000, "bytes_per_event": 335}}
HOSTS = {
    "calm": {"config": ON},
    "busy": {"config": ON, **BUSY},
    "old-calm": {"config": ON, "release": "0.38.2", "driver": "kmod"},
    "old-busy": {"config": ON, "release": "0.38.2", "driver": "kmod", **BUSY},
    "blind": {"config": ON, "fault": {"blind": True}},
    "stopped": {"config": ON},
    "twice": {"config": ON},
    "uncounted": {"config": {**ON, "metrics": {**ON["metrics"], "kernel_event_counters_enabled": False}}},
    "unscraped": {"config": ON},
}
EXPECTED = {"falco_dropping": {"busy", "old-busy"}, "falco_healthy": {"calm", "old-calm"}, "falco_blind": {"blind"},
            "falco_stale": {"stopped"}, "falco_unknown": {"twice", "uncounted", "unscraped"}}
# Of hosts that count; a counter must have moved at least twice in the window.
COUNTED = ("calm", "busy", "old-calm", "old-busy", "twice", "blind", "stopped")


@pytest.fixture(scope="module")
def fleet(fleet_of):
    for spec, port in zip(HOSTS.values(), free_ports(len(HOSTS)), strict=True):
        served = {"enabled": True, "listen_port": port, "listen_address": "127.0.0.1", "prometheus_metrics_enabled": True}
        spec["config"] = {**spec["config"], "webserver": served}
    return fleet_of(HOSTS)


@pytest.fixture(scope="module")
def prometheus(fleet, tmp_path_factory):
    """Scrapes all hosts but one, and one of them twice. One host is stopped after its metrics were there."""
    ports = {name: spec["config"]["webserver"]["listen_port"] for name, spec in HOSTS.items() if name != "unscraped"}
    server = Prometheus(tmp_path_factory.mktemp("prometheus") / "server", {"falco": ports, "other": {"twice": ports["twice"]}}, RULES)
    server.start()
    try:
        names = 'count_over_time({__name__=~"falcosecurity_(scap|falco)_n_evts_total",job="falco"}[1m]) >= 5'
        wait_for(lambda: {item["metric"]["instance"] for item in server.ask(names)} == {f"{name}:8765" for name in COUNTED}, 90,
                 "five samples of each host")
        stopped = next(host for host in fleet.hosts if host.name == "stopped")
        stopped.systemctl("stop", stopped.unit)
        wait_for(lambda: server.ask('up{instance="stopped:8765"} == 0'), 30, "a failed scrape")
        yield server
    finally:
        server.stop()


def source(folder: Path, url: str, **options) -> Path:
    path = folder / "falco.prometheus.yml"
    path.write_text(json.dumps({"plugin": "falcotune.fleet.prometheus", "url": url, "window": "30s", "remember": "1h",
                                "sample_percent": 0, **options}))
    return path


def listed(*sources: Path) -> subprocess.CompletedProcess:
    words = [word for path in sources for word in ("-i", str(path))]
    return subprocess.run([str(Path(sys.executable).with_name("ansible-inventory")), *words, "--list"], cwd=ROOT, check=False,
                          env=environment(), capture_output=True, text=True)


def read(run: subprocess.CompletedProcess) -> dict:
    """The inventory, without the marks of ansible-core 2.19 on texts that are no templates."""
    return json.loads(run.stdout, object_hook=lambda value: value.get("__ansible_unsafe", value))


def groups(run: subprocess.CompletedProcess) -> dict[str, set[str]]:
    assert run.returncode == 0, run.stderr
    found = read(run)
    return {name: set(group.get("hosts", [])) for name, group in found.items() if name.startswith("falco_")}


def test_every_host_of_the_inventory_is_in_the_group_that_its_metrics_say(fleet, prometheus, tmp_path):
    run = listed(fleet.inventory, source(tmp_path, prometheus.url))
    assert groups(run) == EXPECTED
    about = {name: values["falco_prometheus"] for name, values in read(run)["_meta"]["hostvars"].items()}
    assert about["busy"]["drops_percent"] > 1 and about["busy"]["release"] == "0.44.1"
    assert about["old-busy"]["drops_percent"] > 1 and about["old-busy"]["release"] == "0.38.2"
    assert about["calm"]["events"] > 0 and about["calm"]["drops_percent"] == 0
    assert "last scrape failed" in about["stopped"]["reason"]
    assert 'job="falco"' in about["twice"]["reason"] and 'job="other"' in about["twice"]["reason"]
    assert "kernel_event_counters_enabled" in about["uncounted"]["reason"]
    assert "no series" in about["unscraped"]["reason"]


def test_the_sample_is_beside_the_other_groups(fleet, prometheus, tmp_path):
    found = groups(listed(fleet.inventory, source(tmp_path, prometheus.url, sample_percent=100)))
    assert found == {**EXPECTED, "falco_sample": set(HOSTS)}


def test_a_selector_chooses_one_of_two_jobs(fleet, prometheus, tmp_path):
    found = groups(listed(fleet.inventory, source(tmp_path, prometheus.url, selector='job="falco"')))
    assert found["falco_unknown"] == {"uncounted", "unscraped"} and "twice" in found["falco_healthy"]


def test_alone_it_is_the_inventory(prometheus, tmp_path):
    run = listed(source(tmp_path, prometheus.url, keyed_groups=[{"key": "falco_prometheus.labels.job", "prefix": "job"}],
                        compose={"lost": "falco_prometheus.drops_percent"}))
    assert groups(run) == {**EXPECTED, "falco_unknown": {"twice", "uncounted"}}
    found = read(run)
    assert set(found["job_falco"]["hosts"]) == set(HOSTS) - {"unscraped", "twice"}
    assert found["_meta"]["hostvars"]["busy"]["lost"] > 1


def test_a_play_reaches_the_hosts_of_a_group_and_no_others(fleet, prometheus, tmp_path):
    folder = tmp_path / "reports"
    run = play(AUDIT, fleet.inventory, "-i", str(source(tmp_path, prometheus.url)), "--limit", "falco_dropping",
               "-e", f"falco_audit_report_dir={folder}", "-e", "falco_tune_min_observation=2")
    assert run.status == 0, run.output
    assert {line["host"] for line in run.sent} == {"busy", "old-busy"}
    states = {host["name"]: host["verdict"]["state"] for host in json.loads((folder / "report.json").read_text())["hosts"]}
    assert set(states) == {"busy", "old-busy"} and set(states.values()) <= {"dropping", "overloaded"}


def audited(fleet, folder: Path, url: str, **options):
    """(the run of an audit in two stages, its report)."""
    given = {"falco_audit_report_dir": str(folder), "falco_tune_min_observation": 2, "falco_audit_prometheus_url": url,
             "falco_audit_prometheus_options": {"window": "30s", "remember": "1h", "sample_percent": 0, **options}}
    run = play(AUDIT, fleet.inventory, "-e", json.dumps(given))
    assert run.status == 0, run.output
    return run, json.loads((folder / "report.json").read_text())


LOSING = ("dropping", "overloaded", "blind")


def losing(model) -> set[str]:
    return {host["name"] for host in model["hosts"] if host["verdict"] and host["verdict"]["state"] in LOSING}


def test_an_audit_in_two_stages_misses_no_host_that_loses_events(fleet, prometheus, tmp_path):
    """Old names of metrics, two jobs of one host, a stopped Falco and one that is not scraped are among the hosts."""
    run, model = audited(fleet, tmp_path / "stages", prometheus.url)
    everybody, whole = play(AUDIT, fleet.inventory, "-e", f"falco_audit_report_dir={tmp_path / 'whole'}",
                            "-e", "falco_tune_min_observation=2"), tmp_path / "whole" / "report.json"
    assert everybody.status == 0 and {line["host"] for line in everybody.sent} == set(HOSTS)
    assert losing(model) == losing(json.loads(whole.read_text())) >= {"busy", "old-busy", "blind", "stopped"}
    assert {line["host"] for line in run.sent} == set(HOSTS) - EXPECTED["falco_healthy"]
    assert {host["name"] for host in model["hosts"]} == set(HOSTS)
    for host in model["hosts"]:
        if host["name"] in EXPECTED["falco_healthy"]:
            assert host["status"] == "monitored" and host["verdict"] is None and host["monitored"]["events"] > 0
            assert "its quota" in host["reason"]
    assert "2 were not visited and are healthy by Prometheus" in model["fleet"]["headline"]
    assert {line["host"] for line in run.sent} >= losing(model) and "2 monitored" in run.output


def test_the_sample_is_visited_and_finds_a_prometheus_that_is_wrong(fleet, prometheus, tmp_path):
    run, model = audited(fleet, tmp_path / "right", prometheus.url, sample_percent=100)
    assert {line["host"] for line in run.sent} == set(HOSTS) and model["fleet"]["monitoring"]["contradicted"] == []
    assert set(model["fleet"]["monitoring"]["sample"]) == EXPECTED["falco_healthy"]
    # A limit that nobody exceeds calls every host healthy that counts.
    run, model = audited(fleet, tmp_path / "wrong", prometheus.url, sample_percent=100, drops_percent=100)
    assert set(model["fleet"]["monitoring"]["contradicted"]) == {"busy", "old-busy"}
    assert "Prometheus calls these hosts healthy, and the audit does not" in run.output


def test_the_role_alone_visits_the_same_hosts(fleet, prometheus, tmp_path):
    given = {"falco_audit_report_dir": str(tmp_path / "reports"), "falco_tune_min_observation": 2,
             "falco_audit_prometheus_url": prometheus.url,
             "falco_audit_prometheus_options": {"window": "30s", "remember": "1h", "sample_percent": 0}}
    playbook = tmp_path / "own.yml"
    playbook.write_text("- hosts: all\n  gather_facts: false\n  roles: [falcotune.fleet.audit]\n")
    run = play(playbook, fleet.inventory, "-e", json.dumps(given))
    assert run.status == 0, run.output
    assert {line["host"] for line in run.sent} == set(HOSTS) - EXPECTED["falco_healthy"]
    found = {host["name"]: host["status"] for host in json.loads((tmp_path / "reports/report.json").read_text())["hosts"]}
    assert set(found) == set(HOSTS) and found["calm"] == "monitored"


def test_with_a_server_that_is_down_every_host_is_audited(fleet, tmp_path):
    run, model = audited(fleet, tmp_path, f"http://127.0.0.1:{free_ports(1)[0]}")
    assert {line["host"] for line in run.sent} == set(HOSTS) and model["fleet"]["ok"] == len(HOSTS)
    assert "refused" in model["fleet"]["monitoring"]["problem"] and "every host was visited" in " ".join(run.output.split())


def test_with_a_server_that_is_down_no_host_is_chosen(fleet, tmp_path):
    path = source(tmp_path, f"http://127.0.0.1:{free_ports(1)[0]}")
    assert "refused" in listed(fleet.inventory, path).stderr
    run = play(AUDIT, fleet.inventory, "-i", str(path), "--limit", "falco_dropping")
    assert run.status != 0 and not run.sent


def test_a_wrong_selector_is_an_error_in_prometheus_words(fleet, prometheus, tmp_path):
    run = listed(fleet.inventory, source(tmp_path, prometheus.url, selector="job=falco"))
    assert "bad_data" in run.stderr and "parse error" in run.stderr
    assert not groups(run)


def promtool(*words) -> str:
    done = subprocess.run(["promtool", *map(str, words)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rules_are_read_by_prometheus_and_alert_as_they_should():
    assert "11 rules found" in promtool("check", "rules", "--lint-fatal", RULES)
    assert "SUCCESS" in promtool("test", "rules", ROOT / "tests" / "integration" / "promtool" / "falco.test.yml")


def test_rules_and_dashboard_have_no_name_that_falco_was_not_recorded_with():
    recorded = set()
    for path in RECORDED.glob("*.prometheus.txt"):
        recorded |= set(re.findall(r"^falcosecurity_\w+", path.read_text(), re.MULTILINE))
    named = set(re.findall(r"falcosecurity_\w+", "".join(str(rule["expr"]) for rule in rules())))
    shown = set(re.findall(r"falcosecurity_\w+", json.dumps(DASHBOARD)))
    assert len(named) == 8 and len(shown) == 6 and named | shown <= recorded
    assert set(re.findall(r"instance:\w+:\w+", json.dumps(DASHBOARD))) <= {rule["record"] for rule in rules() if "record" in rule}


def rules() -> list[dict]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def recorded_falcos(tmp_path_factory):
    """A Prometheus that scrapes what real Falcos of each release were recorded with, and evaluates the rules."""
    bodies = {path.name.split(".prometheus")[0]: path.read_bytes() for path in RECORDED.glob("*.prometheus.txt")}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = bodies[self.server.name]
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *dummy):
            pass

    servers = {}
    for name in bodies:
        servers[name] = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers[name].name = name
        threading.Thread(target=servers[name].serve_forever, daemon=True).start()
    ports = {name: server.server_port for name, server in servers.items()}
    prometheus = Prometheus(tmp_path_factory.mktemp("recorded") / "server", {"falco": ports}, RULES)
    prometheus.start()
    try:
        wait_for(lambda: len(prometheus.ask("instance:falco_drops:rate5m")) == len(bodies), 60, "recording rules")
        yield prometheus, bodies
    finally:
        prometheus.stop()
        for server in servers.values():
            server.shutdown()
            server.server_close()


def test_no_metric_of_a_rule_is_missing_on_a_recorded_falco(recorded_falcos):
    """Every name in a rule, of 0.38 or of later releases, has one series for each Falco of these releases."""
    prometheus, bodies = recorded_falcos
    for name in {found for rule in rules() for found in re.findall(r"falcosecurity_\w+", rule["expr"])}:
        having = {release for release, body in bodies.items() if re.search(rb"^%s[{ ]" % name.encode(), body, re.MULTILINE)}
        series = prometheus.ask(name)
        assert having and {item["metric"]["instance"].removesuffix(":8765") for item in series} == having
        assert len(series) == len(having), name
    # Recordings stand still, as a blind Falco does.
    assert len(prometheus.ask("instance:falco_events:rate5m == 0")) == len(bodies)


def test_every_expression_of_the_dashboard_has_a_result(prometheus):
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            query = target["expr"].replace("$job", ".*").replace("$instance", ".*")
            assert "$" not in query
            assert wait_for(lambda text=query: prometheus.ask(text), 30, f"{panel['title']}: {query}")


def test_the_dashboard_is_whole():
    names = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]+)", json.dumps(DASHBOARD)))
    assert used == names == {"datasource", "job", "instance"}
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    cells = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        columns, rows = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        found = {(column, row) for column in columns for row in rows}
        assert not cells & found, panel["title"]
        cells |= found
        assert panel["description"] and all(target["datasource"] == panel["datasource"] for target in panel["targets"])
        for target in panel["targets"]:
            assert target["expr"].count('job=~"$job"') == target["expr"].count('instance=~"$instance"') > 0
    variables = [variable["definition"] for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"]
    assert all(re.fullmatch(r"label_values\(falcosecurity_falco_version_info(\{[^}]*\})?, (job|instance)\)", text) for text in variables)
