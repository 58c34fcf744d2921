# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import json

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils import _contracts
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import assembly
from ansible_collections.falcotune.fleet.tests.unit.hosts import FOLDER, KIND_FILE, MAIN, OLD, SHIPPED, TARGET, Host, packed
from hypothesis import given
from hypothesis import strategies as st


def test_a_packaged_host():
    found = Host().with_file(KIND_FILE, "engine: {kind: modern_ebpf}\n").facts()
    config = found["config"]
    assert "config_sources" not in found
    assert found["driver"] == {"kind": "modern_ebpf", "decided_by": "process arguments"}
    assert config["reason"] is None and config["layout"] == "dropin" and config["watch"] is True and config["stale"] is None
    assert config["order"] == [MAIN, KIND_FILE]
    assert [item["path"] for item in config["files"]] == config["order"]
    assert config["files"][1]["keys"] == ["engine"] and config["files"][1]["entry"] == 0 and len(config["files"][1]["sha256"]) == 64
    assert config["folders"] == [{"path": FOLDER, "strategy": None, "entry": 0}]
    assert config["options"] == ["engine.kind=modern_ebpf"]
    assert config["origin"]["metrics"] == MAIN and config["duplicates"] == []


def test_trap_02_facts_hold_the_buffers_in_force_not_those_of_the_main_file():
    host = Host().with_file(MAIN, SHIPPED.replace("buf_size_preset: 4", "buf_size_preset: 8"))
    assert host.facts()["config"]["effective"]["engine"]["modern_ebpf"]["buf_size_preset"] == 8
    assert host.with_file(KIND_FILE, "engine: {kind: modern_ebpf}\n").facts()["config"]["effective"]["engine"] == {"kind": "modern_ebpf"}


def test_trap_04_a_backup_file_in_the_folder_is_a_fact():
    config = Host().with_file(FOLDER + "/zz.yaml.bak", "engine: {kind: kmod}\n").facts()["config"]
    assert FOLDER + "/zz.yaml.bak" in config["order"]
    assert config["origin"]["engine"] == "-o" and config["effective"]["engine"] == {"kind": "modern_ebpf"}


def test_trap_05_the_driver_is_what_runs():
    found = Host(options=("engine.kind=kmod",)).facts()
    assert found["driver"] == {"kind": "kmod", "decided_by": "process arguments"}


def test_facts_keep_no_outputs_and_no_secrets():
    text = json.dumps(Host().facts())
    assert "secret" not in text and "http_output" not in text
    assert len(text) < 5000


def test_facts_are_plain_data():
    text = SHIPPED + "base_syscalls:\n  custom_set: [!open, 2026-01-01]\n"
    found = Host().with_file(MAIN, text).facts()
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("text, reason", [
    ("engine: [\n", "falco.yaml line 2: not YAML"),
    ("- engine\n", "falco.yaml: a list at the root"),
    ("a:\n  b: 1\n c: 2\n", "falco.yaml line 3: not YAML"),
])
def test_a_broken_main_file_is_a_reason_not_a_crash(text, reason):
    found = Host().with_file(MAIN, text).facts()
    assert reason in found["config"]["reason"]
    assert found["config"]["effective"] == {} and found["config"]["order"] == [MAIN]


def test_a_broken_fragment_is_named():
    assert "zz-falcotune.yaml line 2" in Host().with_file(TARGET, "engine: {\n").facts()["config"]["reason"]


def test_an_unreadable_main_file():
    reason = "%s can't be read: Permission denied; run with become" % MAIN
    found = Host(files={}, unreadable={MAIN: reason}).facts()
    assert found["config"]["reason"] == reason
    assert found["driver"]["kind"] == "modern_ebpf"  # the arguments tell


@pytest.mark.parametrize("path, loaded", [(FOLDER + "/a.yaml", True), ("/etc/falco/other.yaml", False)])
def test_an_unreadable_file_matters_only_where_falco_loads_it(path, loaded):
    found = Host(unreadable={path: "can't be read"}).facts()
    assert found["config"]["reason"] == ("can't be read" if loaded else None)


def test_a_text_that_inflates_without_end_is_refused():
    message = Host().message()
    message["config_sources"]["files"][0]["data"] = packed("a" * (assembly.MAX_TEXT + 2))
    assert "the host sent more than 1048576 bytes; expected a configuration file" in assembly.assemble(message)["config"]["reason"]


@pytest.mark.parametrize("version, reason", [
    (None, "/usr/bin/falco does not exist"), ("0.32.2", "Falco 0.32.2 is older than 0.33"), ("Fastly", "not a Falco version"),
])
def test_an_unknown_release(version, reason):
    found = Host(version=version).facts()
    assert found["driver"]["kind"] is None and reason in found["driver"]["decided_by"]
    assert reason in found["falco"]["reason"]


def test_a_newer_release_is_taken_with_a_warning():
    found = Host(version="0.47.0").facts()
    assert found["config"]["reason"] is None and "0.47.0 is newer" in found["falco"]["warning"]


def test_a_release_before_fragments():
    config = Host(version="0.36.2", files={MAIN: OLD}, options=()).facts()["config"]
    assert config["layout"] == "full" and config["folders"] == [] and config["order"] == [MAIN]


def test_trap_17_duplicates_are_facts():
    config = Host().with_file(TARGET, "metrics: {enabled: true}\nmetrics: {enabled: false}\n").facts()["config"]
    assert config["duplicates"] == [[TARGET, "metrics", 2]]
    assert config["effective"]["metrics"] == {"enabled": True}


def test_raw_is_kept_only_where_a_variable_makes_it_differ():
    host = Host(environment={"PRESET": "7"}).with_file(TARGET, "engine: {kind: modern_ebpf, modern_ebpf: {buf_size_preset: '${PRESET}'}}\n")
    config = host.facts()["config"]
    assert config["effective"]["engine"]["modern_ebpf"]["buf_size_preset"] == 7
    assert list(config["raw"]) == ["engine"]
    assert config["raw"]["engine"]["modern_ebpf"]["buf_size_preset"] == "${PRESET}"


@pytest.mark.parametrize("entries, environment, files, asked", [
    ("[/etc/falco/config.d]", {}, {}, []),
    ("['${WHERE}/x.yaml', /etc/falco/config.d]", {"WHERE": "/srv"}, {}, ["/srv/x.yaml"]),
    ("['${WHERE}/x.yaml']", {"WHERE": "/srv"}, {"/srv/x.yaml": "a: 1\n"}, []),
    ("['${WHERE}']", {}, {}, []),
    ("[/etc/falco/config.d/, {path: /b.d, strategy: override}]", {}, {}, ["/b.d"]),
    ("[relative.yaml]", {}, {}, []),
    ("'${WHERE}/x.yaml'", {"WHERE": "/srv"}, {}, ["/srv/x.yaml"]),
])
def test_missing_names_what_config_files_reaches_through_variables(entries, environment, files, asked):
    host = Host(files=dict({MAIN: "config_files: %s\n" % entries}, **files), environment=environment)
    assert assembly.missing(host.message()["config_sources"], releases.release_for("0.44.1")) == asked


def test_missing_reads_the_option_too():
    host = Host(options=("config_files=/srv/x.yaml",))
    assert assembly.missing(host.message()["config_sources"], releases.release_for("0.44.1")) == ["/srv/x.yaml"]


@pytest.mark.parametrize("version, text", [("0.37.1", "config_files: [/srv/x]\n"), ("0.44.1", "config_files: [\n")])
def test_missing_asks_for_nothing_where_nothing_is_loaded(version, text):
    assert assembly.missing(Host().with_file(MAIN, text).message()["config_sources"], releases.release_for(version)) == []


def test_missing_asks_once():
    sources = Host().with_file(MAIN, "config_files: [/srv/x.yaml]\n").message()["config_sources"]
    assert assembly.missing(dict(sources, asked=["/srv/x.yaml"]), releases.release_for("0.44.1")) == []


NO_WATCH = SHIPPED.replace("watch_config_files: true", "watch_config_files: false")


@pytest.mark.parametrize("host, stale", [
    (Host(mtimes={MAIN: 9000.0}), None),  # Falco watches: it has loaded or refused it itself
    (Host(files={MAIN: NO_WATCH}, mtimes={MAIN: 1999.0}), None),
    (Host(files={MAIN: NO_WATCH}, mtimes={MAIN: 9000.0}), "falco.yaml changed after Falco started, and watch_config_files is off"),
    (Host(files={MAIN: NO_WATCH}, mtimes={MAIN: 9000.0}, since=None), None),
    (Host(files={MAIN: NO_WATCH}, mtimes={MAIN: 9000.0}, record={"proven": True, "files": {}}), None),
    (Host(files={MAIN: NO_WATCH}, record={"proven": True, "files": {MAIN: "0" * 64}}), "falco.yaml changed after Falco started"),
])
def test_stale_is_what_the_process_can_not_have_loaded(host, stale):
    found = host.facts()["config"]["stale"]
    assert found is None if stale is None else stale in found


@given(
    text=st.text(max_size=200) | st.lists(st.sampled_from([
        "engine:\n", "  kind: kmod\n", "- a\n", "metrics: 5\n", "config_files: ", "[/etc/falco/config.d]\n", "&a ", "*a ", "{", "}", "!x",
        "? ",
        "null\n", "engine: []\n", "1: 2\n", "[a]: 1\n", "\t", "config_files: {path: [1]}\n", "rules_files: 7\n", "${X}", "'", '"', "%",
        "---\n",
    ]), max_size=8).map("".join),
    fragment=st.text(max_size=60) | st.just("engine: 7\nmetrics: [a]\n"),
    options=st.lists(st.text(max_size=20) | st.sampled_from([
        "engine=5", "engine.kind=x", "engine[0]=1", "config_files=", "config_files[3]=x", "[0]=x", ".=1", "metrics={a", "a[]=1",
        "engine.kind.x=1",
        "engine=2026-99-99", "metrics.interval=2026-01-01", "rules_files[0]=1:30",
    ]), max_size=3),
    version=st.sampled_from(["0.33.0", "0.37.1", "0.38.2", "0.44.1"]),
)
def test_assemble_never_raises_on_what_a_host_sends(text, fragment, options, version):
    found = Host(version=version, files={MAIN: text, TARGET: fragment}, options=tuple(options)).facts()
    json.dumps(found)
    assert set(found) == {"cpus", "kernel", "memory", "service", "falco", "host", "driver", "config", "metrics", "syscalls", "clock"}


@pytest.mark.parametrize("depth", [50, 150, 300, 450, 600, 950])
def test_assemble_takes_or_refuses_deep_nesting(depth):
    found = Host().with_file(MAIN, "engine: " + "[" * depth + "]" * depth + "\n").facts()
    assert found["config"]["reason"] is None or "falco.yaml" in found["config"]["reason"]


# --- rules and system calls

LISTED = {"rules": [
    {"info": {"name": name, "priority": priority, "source": "syscall", "enabled": True, "tags": ["t"], "condition": "x"},
     "details": {"events": events + ["asyncevent"], "condition_compiled": "evt.type in (%s)" % ", ".join(events)}}
    for name, priority, events in (("files", "Warning", ["open", "openat"]), ("off", "Notice", ["ptrace"]))]}
STAMP = "Wed Nov 25 10:00:00 2026: "
SAID = "\n".join(STAMP + line for line in (
    "(2) syscalls in rules: open, openat", "+(1) syscalls (Falco's state engine set of syscalls): close",
    "(4) syscalls selected in total (final set): close, open, openat, procexit", "Enabled rules:", "   files",
    "(1) enabled rules in total"))
LISTING = json.dumps(LISTED)


def asked(listed=LISTING, said=SAID, **more):
    message = Host().message()
    message["rules"] = {"list": packed(listed), "dry_run": packed(said), "reason": None, **more}
    return assembly.assemble(message)["syscalls"]


def test_what_was_not_asked_for_is_null():
    assert Host().facts()["syscalls"] is None


def test_rules_and_selection_by_falcos_own_words():
    found = asked(profile={"means": "tracefs", "seconds": 5.0, "counts": {"openat": 1}, "callers": {}, "reason": None, "notes": [],
                           "more": 1})
    assert found["reason"] is None and found["selected"] == ["close", "open", "openat", "procexit"]
    assert [(rule["name"], rule["enabled"], rule["kernel"]) for rule in found["rules"]] == [
        ("files", True, ["open", "openat"]), ("off", False, ["ptrace"])]
    assert found["profile"] == {"means": "tracefs", "seconds": 5.0, "counts": {"openat": 1}, "callers": {}, "reason": None, "notes": []}


@pytest.mark.parametrize("changes, reason", [
    ({"reason": "falco -L failed: Error: x"}, "falco -L failed: Error: x"),
    ({"listed": "no json"}, "falco -L printed no JSON"),
    ({"said": "nothing"}, "this is no output of a dry run"),
    ({"said": SAID.replace("(2) syscalls in rules: open, openat", "(1) syscalls in rules: open")},
     "disagree about the system calls of the rules: openat"),
    ({"list": None}, "can't be read"), ({"list": "AAAA"}, "can't be read"), ({"dry_run": 7}, "can't be read"),
])
def test_what_does_not_fit_together_is_a_reason(changes, reason):
    found = asked(**changes)
    assert reason in found["reason"] and found["rules"] == [] and found["selected"] == []


def test_facts_have_every_key_of_their_contract_whatever_a_host_left_out():
    """Readers of facts have no guards: each part of the contract is there, however little a host could tell."""
    message = Host().message()
    bare = dict(message, falco={"version": None, "running": False}, service={}, cpus={}, kernel={}, memory={},
                host={"record": {"at": 1.0, "attempts": [{"step": "buffers", "before": {}}]}})
    found = assembly.assemble(bare)
    assert set(found) >= set(_contracts.Facts.__annotations__)
    parts = {"falco": _contracts.FalcoFacts, "service": _contracts.Service, "cpus": _contracts.Cpus, "kernel": _contracts.Kernel,
             "memory": _contracts.Memory, "host": _contracts.HostState, "metrics": _contracts.Window, "config": _contracts.Config}
    for name, contract in parts.items():
        assert set(contract.__annotations__) - {"binary"} <= set(found[name]), name
    assert set(_contracts.CpuUse.__annotations__) <= set(found["falco"]["cpu"])
    assert set(_contracts.Record.__annotations__) <= set(found["host"]["record"])
    assert found["host"]["record"]["attempts"][0]["to"] == {}


def many(number, size):
    files = {MAIN: SHIPPED}
    files.update({"%s/%04d.yaml" % (FOLDER, index): "#" * size + "\n" for index in range(number)})
    return Host(files=files)


@pytest.mark.parametrize("host, said", [
    (many(500, 10), "/0499.yaml: the host sent 501 configuration files, and at most 500 are read"),
    (many(17, (1 << 20) - 8), "/0015.yaml: with this file the host's configuration is larger than 16777216 bytes"),
])
def test_what_a_host_sends_has_a_limit_for_all_its_files(host, said):
    facts = host.facts()
    assert said in facts["config"]["reason"] and facts["config"]["effective"] == {}
    assert facts["driver"]["kind"] and facts["falco"]["running"]


def test_many_files_within_the_limit_are_read():
    assert many(499, 10).facts()["config"]["reason"] is None
    assert many(15, (1 << 20) - 8).facts()["config"]["reason"] is None
