# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One group for each host, and unknown wherever Prometheus cannot know."""

import math
import re

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._prometheus import monitored, queries
from ansible_collections.falcotune.fleet.plugins.plugin_utils._prometheus.responses import Sample
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies
from hypothesis import given
from hypothesis import strategies as st

ASKED = tuple(queries.queries("", "15m", "1d"))
NAMING = monitored.Naming(("instance",), re.compile(r"\[?(.+?)\]?(?::[0-9]+)?"), r"\1", {})
LIMITS = monitored.Limits(1.0, 300, "15m", "1d")


class Server:
    """What the queries find, built host by host."""

    def __init__(self):
        self.found = {name: [] for name in ASKED}

    def host(self, instance="web-01:8765", job="falco", release="0.44.1", source=None, **values):
        """values: of the queries; None leaves a query's series out."""
        labels = {"instance": instance, "job": job}
        wanted = {"known": 1, "age": 3, "samples": 60, "events": 90000, "drops": 0, **values}
        for name, value in wanted.items():
            if value is not None:
                self.found[name].append(Sample(dict(labels), float(value)))
        if wanted["age"] is not None:
            self.found["releases"].append(Sample({**labels, "version": release, "__name__": queries.VERSION}, 1.0))
        if source:
            self.found["sources"].append(Sample({**labels, "evt_source": source, "engine_name": "source_plugin"}, 1.0))
        return self

    def judged(self, naming=NAMING, limits=LIMITS):
        return monitored.judge(self.found, naming, limits)

    def only(self, **more):
        hosts = self.judged(**more).hosts
        assert len(hosts) == 1
        return next(iter(hosts.values()))


def test_a_host_that_loses_nothing():
    assert Server().host().only() == {
        "state": "healthy", "reason": "0 % of its events were lost in the last 15m; the limit is 1 %", "release": "0.44.1", "age": 3,
        "events": 90000, "drops": 0, "drops_percent": 0, "labels": {"instance": "web-01:8765", "job": "falco"}}


@pytest.mark.parametrize(("drops", "state"), [(900, "healthy"), (901, "dropping"), (90000, "dropping")])
def test_the_limit_is_no_loss_too_many(drops, state):
    assert Server().host(drops=drops).only()["state"] == state


def test_the_default_limit_is_that_of_the_policy():
    from ansible_collections.falcotune.fleet.plugins.inventory import prometheus

    import yaml
    options = yaml.safe_load(prometheus.DOCUMENTATION)["options"]
    assert options["drops_percent"]["default"] == policies.OPTIONS["accepted_drops_percent"].default
    assert NAMING.pattern.pattern == options["name_regex"]["default"] and NAMING.replacement == options["name_replacement"]["default"]


def test_a_counter_that_stands_still_is_blind():
    assert Server().host(events=0).only()["state"] == "blind"


@pytest.mark.parametrize("values", [
    {"samples": 2}, {"samples": 2, "events": 0}, {"samples": 1, "events": None, "drops": None}, {"drops": None}, {"events": None},
    {"samples": None, "events": None, "drops": None}])
def test_too_few_samples_or_counters_are_unknown(values):
    found = Server().host(**values).only()
    assert found["state"] == "unknown" and found["reason"]


@pytest.mark.parametrize("values", [
    {"drops": 200000}, {"drops": math.nan}, {"events": math.nan}, {"events": math.inf}, {"drops": math.inf}, {"events": -5.0},
    {"drops": -5.0}, {"age": -1}, {"age": math.nan}, {"age": math.inf}, {"events": 0, "drops": 7}])
def test_a_server_that_lies_gets_no_verdict(values):
    assert Server().host(**values).only()["state"] == "unknown"


def test_an_old_sample_is_stale():
    assert Server().host(age=300).only()["state"] == "healthy"
    assert Server().host(age=301, drops=90000).only()["state"] == "stale"


def test_a_host_that_was_there_and_is_not_is_stale_and_says_why():
    gone = {"age": None, "samples": None, "events": None, "drops": None}
    failed = Server().host(**gone, down=0).only()
    assert failed["state"] == "stale" and "last scrape failed" in failed["reason"]
    assert "no target any more" in Server().host(**gone).only()["reason"]


def test_a_target_of_somebody_else_that_is_down_is_no_host_of_ours():
    nothing = {"known": None, "age": None, "samples": None, "events": None, "drops": None}
    assert Server().host(**nothing, job="node", down=0).judged() == ({}, [])


def test_two_jobs_for_one_host_get_no_verdict():
    found = Server().host().host(job="other", drops=90000).only()
    assert found["state"] == "unknown" and 'job="falco"' in found["reason"] and 'job="other"' in found["reason"]


def test_a_job_that_was_renamed_is_one_host():
    gone = {"age": None, "samples": None, "events": None, "drops": None}
    found = Server().host(job="before", **gone).host(drops=90000).only()
    assert found["state"] == "dropping" and found["labels"]["job"] == "falco"


def test_counters_without_the_version_are_unknown():
    found = Server().host(known=None, age=None).only()
    assert found["state"] == "unknown" and queries.VERSION in found["reason"]


@pytest.mark.parametrize(("release", "state"), [
    ("0.38.2", "unknown"), ("0.40.0", "unknown"), ("0.41.0", "unknown"), ("0.41.1", "healthy"), ("0.44.1", "healthy"), ("junk", "unknown")])
def test_counters_beside_other_sources_are_the_kernels_only_since_0_41_1(release, state):
    found = Server().host(release=release, source="k8s_audit").only()
    assert found["state"] == state
    assert state == "healthy" or "k8s_audit" in found["reason"]


@pytest.mark.parametrize(("instance", "name"), [
    ("web-01:8765", "web-01"), ("web-01", "web-01"), ("web-01.example.com:8765", "web-01.example.com"), ("192.0.2.7:8765", "192.0.2.7"),
    ("[2001:db8::7]:8765", "2001:db8::7")])
def test_the_instance_names_the_host(instance, name):
    assert list(Server().host(instance=instance).judged().hosts) == [name]


@pytest.mark.parametrize("instance", [
    "localhost:8765", "127.0.0.1:8765", "[::1]:8765", "-oProxyCommand=id:8765", "a b:8765", "web\n01:8765", "", "{{ 7 }}:8765", "ü:8765",
    "x" * 254, "/metrics"])
def test_what_is_no_hosts_name_is_told_and_left_out(instance):
    assert Server().host(instance=instance).judged() == ({}, [instance])


def test_labels_and_a_pattern_name_the_host_as_relabelling_does():
    naming = monitored.Naming(("job", "instance"), re.compile(r"falco;([^.]+)\..*"), r"\1.internal", {})
    server = Server().host(instance="web-01.example.com:8765").host(instance="db-01.example.com", job="other")
    found = server.judged(naming)
    assert list(found.hosts) == ["web-01.internal"] and found.nameless == ["other;db-01.example.com"]


def test_an_address_names_a_host_of_the_inventory():
    naming = NAMING._replace(aliases={"192.0.2.7": "web-01"})
    assert list(Server().host(instance="192.0.2.7:8765").judged(naming).hosts) == ["web-01"]
    # Its name and its address: two targets of one host.
    assert Server().host(instance="192.0.2.7:8765").host().only(naming=naming)["state"] == "unknown"


def test_a_host_that_prometheus_does_not_know():
    assert monitored.absent("1d")["state"] == "unknown"


@pytest.mark.parametrize("every", [1, 2, 6, 24, 7 * 24])
@pytest.mark.parametrize(("hosts", "percent", "runs"), [
    (1000, 1, 101), (1000, 2, 53), (1000, 100, 1), (1000, 200, 1), (1000, 30, 5), (1000, 0.5, 205), (10000, 1, 101), (250, 1, 125),
    (200, 1, 101), (42, 1, 43)])
def test_every_host_has_one_turn_in_runs_of_every_schedule(hosts, percent, runs, every):
    names = ["host-%05d" % number for number in range(hosts)]
    turns = [monitored.sampled(names, percent, 490000 + number * every) for number in range(runs)]
    assert set().union(*turns) == set(names)
    assert all(1 <= len(turn) <= max(1, hosts * percent / 100) for turn in turns)
    assert sum(map(len, turns)) == hosts or hosts < runs


@pytest.mark.parametrize("hosts", [1, 2, 3, 5, 7])
def test_a_small_fleet_has_one_host_in_each_turn_and_all_in_few(hosts):
    names = ["host-%d" % number for number in range(hosts)]
    turns = [monitored.sampled(names, 1, 490000 + 24 * number) for number in range(11)]
    assert all(len(turn) == 1 for turn in turns) and set().union(*turns) == set(names)
    assert monitored.sampled([], 1, 490000) == set()


def test_a_new_host_moves_few_others_to_another_turn():
    names = ["host-%05d" % number for number in range(10000)]
    turns = [(monitored.sampled(names, 1, hour), monitored.sampled([*names, "new"], 1, hour)) for hour in range(101)]
    assert sum(len(before - after) for before, after in turns) < 110


@pytest.mark.parametrize("selector", ["", 'job="falco"'])
def test_no_more_than_twelve_queries_and_each_with_the_selector(selector):
    found = queries.queries(selector, "15m", "1d")
    assert len(found) <= 12
    assert all(selector in query and "{}" not in query for query in found.values())


NUMBERS = st.floats(allow_nan=True) | st.integers(-5, 1 << 70).map(float)


@given(st.lists(st.tuples(st.sampled_from(ASKED), st.dictionaries(
    st.sampled_from(["instance", "job", "version", "evt_source", "raw_name", "__name__"]), st.sampled_from(["a:1", "b", "", "0.38.2"]),
    max_size=4), NUMBERS), max_size=20))
def test_every_answer_gives_one_state_a_host(samples):
    given_ = {name: [] for name in ASKED}
    for name, labels, value in samples:
        given_[name].append(Sample(labels, value))
    found = monitored.judge(given_, NAMING, LIMITS)
    for host in found.hosts.values():
        assert host["state"] in monitored.STATES and host["reason"]
        percent = host["drops_percent"]
        assert (host["state"] in ("healthy", "dropping")) == (percent is not None)
        assert percent is None or 0 <= percent <= 100
