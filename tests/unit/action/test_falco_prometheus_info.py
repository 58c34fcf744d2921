# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts an audit visits, with servers that answer, and with servers that are down, slow, lie or truncate."""

import json
import re
import time
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from ansible_collections.falcotune.fleet.plugins.action import falco_prometheus_info
from ansible_collections.falcotune.fleet.tests.unit.prometheus_server import fleet, sent, servers

HEALTHY = {"web-%02d:8765" % number: 0 for number in range(20)}
NAMES = [name.split(":")[0] for name in HEALTHY]


class Hosts(dict):
    """As Ansible's hostvars: raw_get() is what is not templated."""

    raw_get = dict.__getitem__


@pytest.fixture
def server():
    with servers() as start:
        yield start


def run(hosts=None, variables=None, **args):
    hosts = Hosts({name: {} for name in [*NAMES, "db-01"]} if hosts is None else hosts)
    task = SimpleNamespace(args=args, check_mode=False, async_val=0, diff=False, _ds={}, delegate_to=None, environment=None)
    action = falco_prometheus_info.ActionModule(task, MagicMock(), MagicMock(check_mode=False), MagicMock(), MagicMock(), MagicMock())
    return action.run(None, {"hostvars": hosts, "ansible_play_hosts_all": list(hosts), **(variables or {})})


def found(result):
    assert not result.get("failed"), result
    return result["ansible_facts"]["falco_prometheus"]


def test_suspects_are_visited_and_the_others_are_known(server):
    answer = found(run(url=server(fleet({**HEALTHY, "db-01:8765": 40})), options={"sample_percent": 0}))
    assert answer["hosts"] == ["db-01"] and set(answer["left"]) == set(NAMES) and answer["problem"] is None
    known = answer["left"]["web-00"]
    assert known["state"] == "healthy" and known["events"] == 1000 and "labels" not in known


def test_hosts_that_prometheus_does_not_know_are_visited(server):
    assert found(run(url=server(fleet(HEALTHY)), options={"sample_percent": 0}))["hosts"] == ["db-01"]


def test_the_sample_and_the_hosts_that_are_asked_for(server):
    url = server(fleet({**HEALTHY, "db-01:8765": 40}))
    answer = found(run(url=url, options={"sample_percent": 0}, visit=["web-03"]))
    assert answer["hosts"] == ["web-03", "db-01"] and answer["sample"] == ["web-03"] and "web-03" not in answer["left"]
    answer = found(run(url=url, options={"sample_percent": 100}))
    assert answer["hosts"] is None and answer["sample"] == NAMES and answer["left"] == {}


def test_a_quiet_fleet_is_visited_by_a_hundredth(server):
    """By default. All others are in the report with what Prometheus knows."""
    names = ["web-%03d" % number for number in range(300)]
    answer = found(run({name: {} for name in names}, url=server(fleet({"%s:8765" % name: 0 for name in names}))))
    assert 1 <= len(answer["hosts"]) <= 3 and answer["hosts"] == answer["sample"]
    assert set(answer["left"]) == set(names) - set(answer["hosts"])


def test_a_host_is_found_by_its_address_and_no_address_of_two_hosts(server):
    hosts = {"a": {"ansible_host": "192.0.2.1"}, "b": {"ansible_host": "192.0.2.2"}, "c": {"ansible_host": "192.0.2.2"}, "d": {}}
    url = server(fleet({"192.0.2.1:8765": 0, "192.0.2.2:8765": 0, "d:8765": 0}))
    result = run(hosts, url=url, options={"sample_percent": 0})
    assert set(found(result)["left"]) == {"a", "d"} and found(result)["hosts"] == ["b", "c"]
    assert any("192.0.2.2" in text for text in result["warnings"])


def test_an_address_beside_the_name_of_the_same_host_are_two_targets(server):
    hosts = {"a": {"ansible_host": "192.0.2.1"}, "b": {}}
    url = server(fleet({"192.0.2.1:8765": 0, "a:8765": 0, "b:8765": 0}))
    assert found(run(hosts, url=url, options={"sample_percent": 0}))["hosts"] == ["a"]


def test_names_that_are_patterns_make_the_audit_visit_everybody(server):
    hosts = {"web-00": {}, "db[0]": {}}
    answer = found(run(hosts, url=server(fleet(HEALTHY)), options={"sample_percent": 0}))
    assert answer["hosts"] is None and answer["left"] == {}


def slow(handler, _query):
    time.sleep(3)


def cut(handler, query):
    sent(handler, json.dumps({"status": "success", "warnings": ["results truncated due to limit"],
                              "data": {"resultType": "vector", "result": []}}).encode())


@pytest.mark.parametrize(("answer", "options", "said"), [
    (lambda handler, _query: sent(handler, b"gone", 503), {}, "HTTP status 503"), (slow, {"timeout": 1}, "timed out|no whole answer"),
    (cut, {}, "truncated"), (fleet(HEALTHY), {"limit": 5}, "raise limit"), (fleet(HEALTHY, at=time.time() - 7200), {}, "cache"),
    (lambda handler, _query: sent(handler, b"<html>"), {}, "not JSON")])
def test_a_server_that_is_of_no_use_makes_the_audit_visit_everybody(server, answer, options, said):
    result = run(url=server(answer), options=options)
    told = found(result)
    assert told["hosts"] is None and told["left"] == {} and re.search(said, told["problem"]) and told["server"]
    assert re.search(said, result["warnings"][0]) and "every host is visited" in result["warnings"][0]


def test_a_server_that_is_down():
    assert "refused" in found(run(url="http://127.0.0.1:1"))["problem"]


@pytest.mark.parametrize(("given", "said"), [
    ({"url": "ftp://x"}, "expected http"), ({"url": "http://x", "options": {"windo": "15m"}}, "windo"),
    ({"url": "http://x", "options": {"window": "15"}}, "expected a duration"), ({"url": "http://x", "options": {"hosts": "all"}}, "hosts"),
    ({"url": "http://x", "options": {"name_regex": "("}}, "name_regex"), ({"urls": "x"}, "urls")])
def test_wrong_options_are_told_before_anybody_is_asked(given, said):
    result = run(**given)
    assert result["failed"] and said in result["msg"]


def test_nobody_is_asked_without_a_url():
    assert found(run()) == {"server": None, "problem": None, "hosts": None, "sample": [], "left": {}}


def test_secrets_come_from_the_environment_and_are_not_in_the_answer(server, monkeypatch):
    monkeypatch.setenv("FALCOTUNE_PROMETHEUS_TOKEN", "t0ken")
    result = run(url=server(fleet(HEALTHY)))
    assert server.asked[0][1]["Authorization"] == "Bearer t0ken" and "t0ken" not in json.dumps(result)


FLEET = {"web-01": {}, "web-02": {"ansible_host": "192.0.2.2"}, "both": {}, "db[0]": {}, "a:b": {}, "2001:db8::1": {}}
GROUPS = {"all": list(FLEET), "ungrouped": [], "web": ["web-01", "web-02"], "both": ["web-01"]}


def alerted(labels, options=None, hosts=None):
    event = {"event": {"alert": {"labels": labels, "status": "firing"}}, "rule": "a"}
    return run(Hosts(hosts or FLEET), {"groups": GROUPS, "ansible_eda": event}, alert="ansible_eda", options=options or {})


@pytest.mark.parametrize(("instance", "name"), [
    ("web-01:8765", "web-01"), ("web-01", "web-01"), ("192.0.2.2:8765", "web-02"), ("[2001:db8::1]:8765", "2001:db8::1")])
def test_an_alert_is_about_the_host_that_its_instance_names(instance, name):
    assert alerted({"instance": instance})["ansible_facts"] == {"falco_alerted": {"hosts": [name]}}


def test_an_alert_is_mapped_as_the_inventory_maps_a_target():
    options = {"name_labels": ["site", "node"], "name_regex": "x;([^.]+)\\..*", "name_replacement": "web-\\1"}
    found = alerted({"site": "x", "node": "02.example.com", "instance": "web-01"}, options)
    assert found["ansible_facts"] == {"falco_alerted": {"hosts": ["web-02"]}}
    assert alerted({"site": "y", "node": "02.example.com", "instance": "web-01"}, options)["failed"]


@pytest.mark.parametrize("instance", [
    "all", "*", "web*", "web-0?", "web-0[1:2]", "!web-01", "&web", "web", "web:db", "web-01:web-02", "web-01,web-02", "web-01:8765,all",
    "~web.*", "both", "db[0]", "a:b", "ungrouped", "localhost:8765", "127.0.0.1:8765", "", " ", "web-01\nall", "web-01 all", "@/etc/passwd",
    "-web-01", "{{ groups.all | join(',') }}", "web-03"])
def test_no_label_widens_the_hosts_of_an_alert(instance):
    result = alerted({"instance": instance})
    assert result["failed"] and "ansible_facts" not in result and "host" in result["msg"]


@pytest.mark.parametrize("replacement", ["all", "web", "both", "\\1,\\1", "!\\1", "*"])
def test_nor_does_a_mapping(replacement):
    assert alerted({"instance": "web-01:8765"}, {"name_replacement": replacement})["failed"]


@pytest.mark.parametrize("event", [
    None, "x", {}, {"event": None}, {"event": {"alert": []}}, {"event": {"alert": {"labels": "instance"}}},
    {"event": {"alert": {"labels": {"instance": ["web-01"]}}}}, {"event": {"alert": {"labels": {"instance": 1}}}}])
def test_what_is_no_alert_is_refused(event):
    result = run(Hosts(FLEET), {"groups": GROUPS, "ansible_eda": event}, alert="ansible_eda")
    assert result["failed"] and "event.alert.labels" in result["msg"] and "ansible_facts" not in result


def test_a_refusal_shows_no_control_characters_and_not_all_of_a_long_label():
    said = alerted({"instance": "\x1b[31mweb-01" + "x" * 5000})["msg"]
    assert "\x1b" not in said and len(said) < 400
