# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import json

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import audit
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import planner
from ansible_collections.falcotune.fleet.tests.unit.hosts import SHIPPED, Host, measured
from hypothesis import given
from hypothesis import strategies as st

POLICY = {"min_observation": 60, "accepted_drops_percent": 1.0}


def entry(host, older=None):
    facts = host.facts()
    return audit.entry("web-01", facts, planner.make(facts, {}), POLICY, older)


def test_an_entry_says_what_runs_what_is_lost_and_what_would_change():
    found = entry(Host(age=1000.0, pair=measured(drops=5000)))
    assert (found["name"], found["status"], found["release"], found["cpus"]) == ("web-01", "ok", "0.44.1", 8)
    assert found["buffers"] == {"buf_size_preset": 4, "cpus_for_each_buffer": 2, "count": 4, "bytes_each": 8 << 20, "bytes_total": 32 << 20}
    assert found["window"]["drops"] == 5000 and "snapshot" not in found["window"]
    assert (found["verdict"]["state"], found["verdict"]["bottleneck"]) == ("dropping", "buffer")
    assert found["plan"]["changes"] and found["plan"]["restart_required"] is True and found["plan"]["reason"] is None
    assert found["snapshot"]["scap.n_drops"] == 5000
    assert set(found) == set(audit.EMPTY)
    json.dumps(found)


def test_a_host_that_can_not_be_planned_for_is_still_audited():
    facts = Host(running=False).facts()
    found = audit.entry("web-01", facts, {"reason": "Falco is not running"}, POLICY)
    assert found["verdict"]["state"] == "blind" and found["plan"]["reason"] == "Falco is not running" and found["plan"]["changes"] == []


def test_a_host_without_falco_is_audited_too():
    facts = Host(unit=None, version=None, running=False).facts()
    found = audit.entry("web-01", facts, None, POLICY)
    assert (found["status"], found["release"], found["buffers"], found["verdict"]["state"]) == ("ok", None, None, "blind")


def later(seconds, events, drops, cpu, age, ticks=4711):
    """A host with one snapshot so far, and the snapshot of an audit so many seconds before."""
    host = Host(age=age, cpu=cpu, pair=measured(events=events, drops=drops, seconds=seconds))
    host.pair["first"] = host.pair["last"]  # the record on the host begins now
    pair = measured(events=events, drops=drops, seconds=seconds)
    older = dict(pair["first"], cpu={"on": 0.0, "waiting": 0.0, "throttled": None, "start_ticks": ticks, "age": age - seconds})
    host.pair = {"reason": "only one snapshot", "last": pair["last"], "age": 1.0, "source": "metrics_file", "bytes_read": 1}
    return host, older


def test_counters_of_two_audits_make_a_window():
    host, older = later(3600.0, 10 ** 6, 84 * 10 ** 4, {"on": 504.0, "waiting": 3121.0, "throttled": None}, 90000.0)
    assert entry(host)["verdict"]["state"] == "unmeasured"
    found = entry(host, older)
    assert found["window"]["source"] == "between audits"
    assert (found["window"]["seconds"], found["window"]["drops"]) == (3600.0, 84 * 10 ** 4)
    # And so does CPU time, which tells the bottleneck of a process that has run for days.
    assert found["verdict"]["bottleneck"] == "starved" and "between the audits" in found["verdict"]["reasons"][-1]
    assert found["verdict"]["cost"]["falco_wait_percent"] == pytest.approx(86.69)


def test_another_process_has_other_cpu_time():
    host, older = later(3600.0, 10 ** 6, 84 * 10 ** 4, {"on": 504.0, "waiting": 3121.0, "throttled": None}, 90000.0, ticks=1)
    assert "between the audits" not in " ".join(entry(host, older)["verdict"]["reasons"])


def test_a_run_that_began_since_the_last_audit_is_not_measured_across():
    host, older = later(3600.0, 10 ** 6, 0, {"on": 5.0, "waiting": 0.0, "throttled": None}, 90000.0)
    older["falco.start_ts"] -= 1
    found = entry(host, older)
    assert found["verdict"]["state"] == "unmeasured" and found["window"]["source"] != "between audits"


def test_a_window_of_the_hosts_own_is_preferred():
    host, older = later(3600.0, 10 ** 6, 0, {"on": 5.0, "waiting": 0.0, "throttled": None}, 90000.0)
    host.pair = measured(seconds=1000.0)
    assert entry(host, older)["window"]["source"] == "metrics_file"


KEYS = st.sampled_from(["cpu", "scap.n_evts", "evt.time", "start_ticks", "age", "on", "falco.start_ts"])
ANYTHING = st.recursive(st.none() | st.integers() | st.floats() | st.text(max_size=8),
                        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12)


@given(ANYTHING)
def test_whatever_the_history_holds_does_no_harm(older):
    host = Host(age=90000.0, files={"/etc/falco/falco.yaml": SHIPPED}, pair=measured())
    assert entry(host, older)["name"] == "web-01"


def test_missing():
    found = audit.missing("web-09", "unreachable", "no route to host")
    assert (found["status"], found["reason"], found["verdict"]) == ("unreachable", "no route to host", None)
    assert set(found) == set(audit.EMPTY)


def test_a_host_that_watches_no_system_calls_is_shown_apart():
    facts = Host(arguments=["falco", "--disable-source", "syscall"]).facts()
    found = audit.entry("web-01", facts, {"reason": "watches no system calls"}, POLICY)
    assert found["verdict"]["state"] == "no_syscalls" and found["driver"] == "none" and found["buffers"] is None
