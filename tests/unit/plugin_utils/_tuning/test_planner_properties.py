# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every release, driver, size, configuration and policy."""

import copy
import json
import re

from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import configuration, releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import planner
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies
from ansible_collections.falcotune.fleet.tests.unit.hosts import FOLDER, GIB, KIND_FILE, MAIN, MIB, Host, fragment
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

RELEASES = ["0.33.0", "0.34.1", "0.35.4", "0.36.2", "0.37.1", "0.38.2", "0.39.2", "0.40.0", "0.41.0", "0.41.3", "0.42.1", "0.43.0",
            "0.44.0", "0.44.1"]

# The guide: kmod and ebpf 5 to 6 on large machines, modern eBPF 6 to 7 with 4 to 6 CPUs; Falco's defaults below.
GUIDE = ((1, (4, 4), (4, 4), (1, 2)), (16, (5, 6), (6, 7), (4, 6)))

# Every reason for which a host of this strategy may be refused.
REFUSALS = re.compile("no buffers fit the budget|is read after|layout dropin|expected 10s or longer")

FLAGS = ["enabled", "output_rule", "kernel_event_counters_enabled", "libbpf_stats_enabled", "resource_utilization_enabled",
         "rules_counters_enabled",
         "kernel_event_counters_per_cpu_enabled", "convert_memory_to_mb", "include_empty_values", "jemalloc_stats_enabled"]


def some(**values):
    """A mapping with any of these keys."""
    return st.fixed_dictionaries({}, optional=values)


presets = st.integers(1, 10) | st.sampled_from(["7", "big", "${PRESET}", 0, 11, None])
groups = st.integers(0, 12) | st.sampled_from([200, 70000, "x"])
flags = st.booleans() | st.sampled_from(["yes", "maybe", None])
rings = some(buf_size_preset=presets, drop_failed_exit=flags)
engines = some(kmod=rings, ebpf=rings, modern_ebpf=some(buf_size_preset=presets, cpus_for_each_buffer=groups, drop_failed_exit=flags))
metrics = some(interval=st.sampled_from(["1h", "30s", "5000", 30, "1m30s"]),
               output_file=st.sampled_from(["", "/tmp/m.jsonl", "/srv/m.jsonl", ["x"]]), **dict.fromkeys(FLAGS, flags))
others = some(watch_config_files=st.booleans(), webserver=some(enabled=flags, listen_port=st.integers(1, 65535)),
              base_syscalls=some(custom_set=st.lists(st.sampled_from(["open", "!close"]), max_size=2), repair=flags),
              metrics=metrics, syscall_buf_size_preset=presets, modern_bpf=some(cpus_for_each_syscall_buffer=groups),
              json_output=st.booleans())


@st.composite
def hosts(draw):
    version = draw(st.sampled_from(RELEASES))
    release = releases.release_for(version)
    driver = draw(st.sampled_from(release.drivers))
    main, files = {"priority": "debug", **draw(others)}, {}
    by_option = draw(st.booleans())
    arguments = ["falco"]
    if release.since(0, 37):
        engine = dict(draw(engines))
        if not by_option or draw(st.booleans()):
            engine["kind"] = driver
        if by_option:
            arguments += ["-o", "engine.kind=" + driver]
        main["engine"] = engine
    elif driver == "modern_ebpf":
        arguments.append("--modern-bpf")
    if release.fragments:
        if draw(st.booleans()):
            main["config_files"] = draw(st.sampled_from([[FOLDER], [FOLDER, "/srv/conf.d"], [FOLDER + "/"]]))
            if draw(st.booleans()):
                files[KIND_FILE] = fragment(engine={"kind": driver})
            if draw(st.booleans()):
                files[FOLDER + "/50-site.yaml"] = fragment(**draw(others))
    files[MAIN] = fragment(**main) + "# the end\n"
    total = draw(st.integers(256 * MIB, 64 * GIB) | st.integers(64 * GIB, 6144 * GIB))
    return Host(
        version=version, files=files, folders=(FOLDER, "/srv/conf.d"), arguments=arguments, environment={"PRESET": "6"},
        probe=not release.since(0, 37) and driver == "ebpf", cpus=draw(st.integers(1, 16) | st.integers(1, 1024)), total=total,
        available=draw(st.none() | st.integers(total // 8, total)), limit=draw(st.none() | st.integers(64 * MIB, 16 * GIB)),
        used=draw(st.none() | st.integers(0, 2 * GIB)), page_size=draw(st.sampled_from([4096, 16384, 65536])),
        metrics_dir_exists=draw(st.booleans()), private_tmp=draw(st.booleans()), bpf_stats=draw(st.sampled_from([None, 0, 1])),
        protect_system=draw(st.sampled_from(["full", "strict"])),
    )


policies_given = some(
    buf_size_preset=st.just("auto") | st.integers(1, 10), cpus_for_each_buffer=st.just("auto") | st.integers(0, 300),
    keep_larger_buffers=st.booleans(), memory_share_percent=st.floats(0.5, 100), available_share_percent=st.floats(0.5, 100),
    buffer_max_bytes=st.just(0) | st.integers(8 * MIB, 64 * GIB), metrics=st.booleans(),
    metrics_interval=st.sampled_from(["30s", "5s", "1m"]),
    metrics_dir=st.sampled_from(["/var/log/falco", "/srv/log"]), bpf_stats=st.booleans(),
    layout=st.sampled_from(["auto", "auto", "full", "dropin"]),
    healthy_deadline=st.just(600),
).map(lambda given: dict(given, healthy_deadline=600))

slowly = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def attempt(host, given):
    """(facts, plan); plan is None where the host is refused for a known reason."""
    found = host.facts()
    assert found["config"]["reason"] is None
    try:
        return found, planner.make(found, given)
    except planner.PlanError as error:
        assert REFUSALS.search(str(error)), error
        return found, None


def test_most_hosts_of_the_strategy_are_planned():
    """The properties below would hold for refused hosts too."""
    planned = []

    @settings(max_examples=100, suppress_health_check=list(HealthCheck))
    @given(hosts(), policies_given)
    def count(host, given):
        planned.append(attempt(host, given)[1] is not None)

    count()
    assert sum(planned) > len(planned) / 3


@slowly
@given(hosts(), policies_given)
def test_no_plan_exceeds_its_budget(host, given):
    found, made = attempt(host, given)
    if made is None:
        return
    policy = policies.complete(given)
    rings = made["buffers"]
    assert rings["bytes_at_load"] <= host.total * policy["memory_share_percent"] / 100
    if host.limit and made["driver"] == "modern_ebpf":  # the others' rings are not charged to the unit
        assert rings["bytes_at_load"] <= host.limit
    if policy["buffer_max_bytes"]:
        assert rings["bytes_at_load"] <= policy["buffer_max_bytes"]
    assert rings["bytes_at_load"] <= rings["budget"]["bytes"]
    if host.available is not None:
        # What the rings that are there now give back counts as available.
        assert rings["bytes_at_load"] <= (host.available + host.rings()) * policy["available_share_percent"] / 100


@slowly
@given(hosts(), policies_given)
def test_no_plan_names_a_key_that_the_release_lacks(host, given):
    found, made = attempt(host, given)
    if made is None:
        return
    release = releases.release_for(host.version)
    for item in made["changes"]:
        if item["kind"] == "config":
            assert release.has(item["key"]), item
            legal, value = configuration.coerce(item["to"], release.key(item["key"]))
            assert legal and value == item["to"]
    effective = found["config"]["effective"]
    for block, value in made["settings"].items():
        for path in leaves(block, value):
            assert release.has(path) or configuration.lookup(effective, path)[0], path


def leaves(path, value):
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves("%s.%s" % (path, key), item)
    else:
        yield path


@slowly
@given(hosts(), policies_given)
def test_presets_leave_the_guides_range_only_with_a_reason(host, given):
    found, made = attempt(host, given)
    if made is None:
        return
    chosen, reasons = made["buffers"], "; ".join(made["buffers"]["reasons"])
    dummy, old, modern, groups_ = [row for row in GUIDE if row[0] <= host.cpus][-1]
    low, high = modern if made["driver"] == "modern_ebpf" else old
    if given.get("buf_size_preset", "auto") != "auto":
        assert chosen["buf_size_preset"] == given["buf_size_preset"] and "is set by policy" in reasons
    elif chosen["buf_size_preset"] > high:
        assert "larger already" in reasons
    elif chosen["buf_size_preset"] < low:
        assert "binds" in reasons or "larger already" in reasons
    if made["driver"] != "modern_ebpf":
        assert chosen["cpus_for_each_buffer"] is None
    elif given.get("cpus_for_each_buffer", "auto") != "auto":
        assert chosen["cpus_for_each_buffer"] == min(given["cpus_for_each_buffer"], host.cpus)
    else:
        assert groups_[0] <= chosen["cpus_for_each_buffer"] <= groups_[1] or "larger already" in reasons


@settings(slowly, max_examples=500)
@given(hosts(), policies_given)
def test_a_host_that_was_changed_needs_no_change(host, given):
    made = attempt(host, given)[1]
    if made is None:
        return
    second = planner.make(host.after(made).facts(), given)
    assert second["changes"] == [] and second["settings"] == {} and second["restart_required"] is False


@slowly
@given(hosts(), policies_given)
def test_applying_a_plan_changes_what_it_says_and_nothing_else(host, given):
    found, made = attempt(host, given)
    if made is None:
        return
    release = releases.release_for(host.version)
    changed = host.after(made)
    before, after = host.effective(), changed.effective()
    said = {item["key"]: item["to"] for item in made["changes"]}
    for key in releases.KEYS:
        if not key.since <= release.table < key.until or key.path == "engine.kind":
            continue
        was, now = (configuration.Settings(values, release).value(key.path) for values in (before, after))
        assert now == said.get(key.path, was), key.path
    assert {key: value for key, value in after.items() if key not in made["settings"]} == {
        key: value for key, value in before.items() if key not in made["settings"]}
    assert changed.facts()["driver"]["kind"] == found["driver"]["kind"] == made["driver"]


@slowly
@given(hosts(), policies_given)
def test_the_same_input_gives_the_same_plan_byte_for_byte(host, given):
    found, made = attempt(host, given)
    if made is None:
        return
    again = json.loads(json.dumps(copy.deepcopy(found)))
    turned = dict(reversed(list(given.items())))
    assert json.dumps(planner.make(again, turned)) == json.dumps(made)
