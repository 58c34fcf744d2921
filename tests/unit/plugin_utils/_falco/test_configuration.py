# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import os
from pathlib import Path

import pytest
import yaml
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import configuration, releases
from ansible_collections.falcotune.fleet.tests.unit.hosts import FOLDER, MAIN, ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

UPSTREAM = Path(os.environ.get("FALCOTUNE_UPSTREAM") or ROOT.parent / "shared" / "upstream")
MODERN = releases.release_for("0.44.1")
OLD = releases.release_for("0.38.2")
BEFORE = releases.release_for("0.37.1")

BASE = {
    "config_files": [FOLDER],
    "engine": {"kind": "modern_ebpf", "modern_ebpf": {"buf_size_preset": 3, "cpus_for_each_buffer": 1}},
    "metrics": {"enabled": True, "interval": "5m", "output_rule": True},
    "load_plugins": ["one"],
}


def merge(fragments=None, options=(), release=MODERN, environment=None, **main):
    files = {MAIN: yaml.safe_dump(dict(BASE, **main), sort_keys=False)}
    files.update({(path if path.startswith("/") else "%s/%s" % (FOLDER, path)): text for path, text in (fragments or {}).items()})
    return configuration.merge(MAIN, files, list(options), environment or {}, release)


@pytest.mark.parametrize("release", [OLD, MODERN])
def test_trap_01_fragment_replaces_whole_blocks(release):
    merged = merge({"a.yaml": "engine: {modern_ebpf: {buf_size_preset: 6}}"}, release=release)
    assert merged["effective"]["engine"] == {"modern_ebpf": {"buf_size_preset": 6}}
    assert configuration.Settings(merged["effective"], release).in_force("engine.kind") == ("kmod", False, True)
    assert merged["origin"]["engine"] == FOLDER + "/a.yaml"
    assert merged["origin"]["metrics"] == MAIN


def test_trap_02_the_packages_fragment_resets_the_buffers_of_the_main_file():
    effective = merge({"engine-kind-falcoctl.yaml": "engine:\n  kind: modern_ebpf\n"})["effective"]
    assert configuration.Settings(effective, MODERN).value("engine.modern_ebpf.buf_size_preset") == 4
    assert configuration.Settings(effective, MODERN).value("engine.modern_ebpf.cpus_for_each_buffer") == 2


@pytest.mark.parametrize("name, wins", [("90-tuning.yaml", False), ("ZZ-tuning.yaml", False), ("falco.yaml", True),
                                        ("zz-falcotune.yaml", True)])
def test_trap_03_fragments_load_in_lexicographic_order(name, wins):
    merged = merge({"engine-kind-falcoctl.yaml": "engine: {kind: kmod}", name: "engine: {kind: modern_ebpf}"})
    assert merged["effective"]["engine"]["kind"] == ("modern_ebpf" if wins else "kmod")
    assert merged["order"][1:] == sorted(merged["order"][1:])


@pytest.mark.parametrize("name", ["zz.yaml.bak", "zz.yaml~", ".zz.yaml.swp", "README"])
def test_trap_04_every_file_of_the_folder_is_loaded_whatever_its_ending(name):
    merged = merge({name: "metrics: {enabled: false}"})
    assert merged["effective"]["metrics"] == {"enabled": False}
    assert FOLDER + "/" + name in merged["order"]


def test_members_of_subfolders_are_not_loaded():
    assert merge({"sub/a.yaml": "metrics: {enabled: false}"})["order"] == [MAIN]


@pytest.mark.parametrize("path, text, value, set_, legal", [
    ("engine.modern_ebpf.buf_size_preset", "engine: {modern_ebpf: {buf_size_preset: big}}", 4, True, False),
    ("engine.modern_ebpf.buf_size_preset", "engine: {modern_ebpf: {buf_size_preset: 11}}", 4, True, False),
    ("engine.modern_ebpf.buf_size_preset", "engine: {modern_ebpf: {buf_size_preset: 6.0}}", 4, True, False),
    ("engine.modern_ebpf.buf_size_preset", "engine: {modern_ebpf: {buf_size_preset: '7'}}", 7, True, True),
    ("engine.modern_ebpf.buf_size_preset", "engine: {modern_ebpf: {buf_size_preset: }}", 4, True, False),
    ("base_syscalls.repair", "base_syscalls: {repair: yes please}", False, True, False),
    ("base_syscalls.repair", "base_syscalls: {repair: yes}", True, True, True),
    ("base_syscalls.repair", "base_syscalls: {repair: y}", True, True, True),
    ("base_syscalls.repair", "base_syscalls: {repair: 'off'}", False, True, True),
    ("metrics.output_file", "metrics: {output_file: [a]}", "", True, False),
    ("metrics.output_file", "metrics: {output_file: {a: b}}", "", True, False),
    ("metrics.interval", "metrics: {interval: {a: b}}", "5000", True, False),
    ("base_syscalls.custom_set", "base_syscalls: {custom_set: [open]}", ["open"], True, True),
    ("no.such.key", "no: {such: {key: 1}}", None, False, True),
])
def test_trap_09_wrong_types_take_the_code_default_and_unknown_keys_are_nothing(path, text, value, set_, legal):
    assert configuration.Settings(yaml.safe_load(text), MODERN).in_force(path)._asdict() == {"value": value, "set": set_, "legal": legal}


@pytest.mark.parametrize("path, release, default", [
    ("metrics.interval", MODERN, "5000"),
    ("metrics.output_rule", MODERN, False),
    ("metrics.kernel_event_counters_per_cpu_enabled", MODERN, True),
    ("webserver.enabled", MODERN, False),
    ("engine.kind", MODERN, "kmod"),
    ("syscall_buf_size_preset", BEFORE, 4),
    ("syscall_buf_size_preset", MODERN, None),
    ("engine.ebpf.buf_size_preset", MODERN, None),
])
def test_trap_10_absent_keys_take_the_code_default(path, release, default):
    assert configuration.Settings({}, release).value(path) == default


@pytest.mark.parametrize("text, key, line", [
    ("a: 1\nb: 2\na: 3\n", "a", 3),
    ("a:\n  x: 1\n  y: 2\n  x: 3\n", "x", 4),
    ("'a': 1\n# comment\n\na: 2\n", "a", 4),
])
def test_trap_17_of_duplicate_keys_the_first_counts_and_the_second_is_reported(text, key, line):
    data, duplicates = configuration.load(text, "f.yaml")
    assert duplicates == [(key, line)]
    assert (data["a"] if key == "a" else data["a"]["x"]) == 1


def test_trap_17_duplicates_carry_their_file():
    merged = merge({"b.yaml": "metrics: {enabled: true}\nmetrics: {enabled: false}\n"})
    assert merged["duplicates"] == [(FOLDER + "/b.yaml", "metrics", 2)]
    assert merged["effective"]["metrics"] == {"enabled": True}


@pytest.mark.parametrize("version, preset, origin", [
    ("0.38.2", 6, FOLDER + "/a.yaml"), ("0.40.0", 6, FOLDER + "/a.yaml"), ("0.41.0", 2, "-o"), ("0.44.1", 2, "-o"),
])
def test_trap_19_options_lose_to_fragments_before_0_41_and_win_since(version, preset, origin):
    merged = merge({"a.yaml": "engine: {kind: modern_ebpf, modern_ebpf: {buf_size_preset: 6}}"},
                   ["engine.modern_ebpf.buf_size_preset=2"], releases.release_for(version))
    assert merged["effective"]["engine"]["modern_ebpf"]["buf_size_preset"] == preset
    assert merged["origin"]["engine"] == origin


@pytest.mark.parametrize("version, strategy, result", [
    ("0.38.2", None, ["two"]), ("0.40.0", None, ["two"]), ("0.41.0", None, ["one", "two"]),
    ("0.44.1", "append", ["one", "two"]), ("0.44.1", "override", ["two"]), ("0.44.1", "add-only", ["one"]),
    ("0.44.1", "nonsense", ["one", "two"]),
])
def test_trap_19_top_level_lists_are_replaced_before_0_41_and_follow_the_strategy_since(version, strategy, result):
    entry = FOLDER if strategy is None else {"path": FOLDER, "strategy": strategy}
    merged = merge({"a.yaml": "load_plugins: [two]"}, release=releases.release_for(version), config_files=[entry])
    assert merged["effective"]["load_plugins"] == result


@pytest.mark.parametrize("version", ["0.38.0", "0.40.0"])
def test_trap_19_entries_with_a_strategy_end_falco_before_0_41(version):
    with pytest.raises(configuration.ConfigError, match="falco.yaml: config_files has an entry with path and strategy; Falco %s" % version):
        merge(release=releases.release_for(version), config_files=[{"path": FOLDER, "strategy": "append"}])


def test_add_only_takes_new_keys_only():
    merged = merge({"a.yaml": "metrics: {enabled: false}\nbase_syscalls: {repair: true}"},
                   config_files=[{"path": FOLDER, "strategy": "add-only"}])
    assert merged["effective"]["metrics"]["enabled"] is True
    assert merged["effective"]["base_syscalls"] == {"repair": True}
    assert merged["origin"]["metrics"] == MAIN


def test_before_0_38_there_are_no_fragments():
    merged = merge({"a.yaml": "metrics: {enabled: false}"}, release=BEFORE)
    assert merged["order"] == [MAIN] and merged["effective"]["metrics"]["enabled"] is True


@pytest.mark.parametrize("entries, order", [
    ([FOLDER + "/"], ["a.yaml"]),
    ([FOLDER, "/etc/falco/one.yaml"], ["a.yaml", "/etc/falco/one.yaml"]),
    (["/etc/falco/one.yaml", FOLDER], ["/etc/falco/one.yaml", "a.yaml"]),
    (["/nowhere", "/etc/falco/one.yaml"], ["/etc/falco/one.yaml"]),
    (FOLDER, ["a.yaml"]),  # a scalar counts as a list of one: recorded on 0.38.2
])
def test_load_order_follows_config_files(entries, order):
    merged = merge({"a.yaml": "x: 1", "/etc/falco/one.yaml": "x: 2"}, config_files=entries)
    assert merged["order"] == [MAIN] + [path if path.startswith("/") else "%s/%s" % (FOLDER, path) for path in order]
    assert merged["entry"][MAIN] == -1


def test_option_chooses_the_folders_before_they_are_read():
    merged = merge({"a.yaml": "x: 1", "/etc/falco/one.yaml": "x: 2"}, ["config_files=/etc/falco/one.yaml"])
    assert merged["order"] == [MAIN, "/etc/falco/one.yaml"]


@pytest.mark.parametrize("entries, text, message", [
    ([FOLDER], "config_files: [/tmp/x]", "a.yaml: holds config_files"),
    ([FOLDER, MAIN], "x: 1", "config_files names the main file itself"),
    ([FOLDER], "- a\n- b\n", "a.yaml: a list at the root"),
    ([FOLDER], "a: 1\nb: [\n", "a.yaml line 3: not YAML"),
    ([FOLDER], "a: 1\n\tb: 2\n", "a.yaml line 2: not YAML"),
    ([FOLDER], "a: 1\n---\nb: 1\n", "a.yaml line 2: not YAML"),
    ([FOLDER], "a: *nothing\n", "a.yaml line 1: not YAML"),
    ([FOLDER], "? [a, b]\n: 1\n", "a.yaml line 1: not YAML"),
])
def test_what_ends_falco_is_an_error_that_names_file_and_line(entries, text, message):
    with pytest.raises(configuration.ConfigError, match=message):
        merge({"a.yaml": text}, config_files=entries)


@pytest.mark.parametrize("text", ["", "# nothing\n", "This folder holds drop-ins.\n", "---\n"])
def test_files_without_keys_change_nothing(text):
    assert merge({"a.yaml": text})["effective"] == merge()["effective"]


@pytest.mark.parametrize("text, value", [
    ("a: !name", ""), ("a: !custom text", "text"), ("a: [!open, close]", ["", "close"]), ("a: !t {b: 1}", {"b": 1}),
    ("a: 2026-01-01", "2026-01-01"), ("a: !!str 5", "5"),
])
def test_unquoted_tags_and_dates_read_as_their_text(text, value):
    if "," in text and not yaml.__with_libyaml__:
        # PyYAML's own scanner takes the comma for a part of the tag: said, rather than read otherwise than by Falco.
        with pytest.raises(configuration.ConfigError, match="f.yaml line 1: a value that begins with ! stands before a comma: quote it"):
            configuration.load(text, "f.yaml")
        return
    assert configuration.load(text, "f.yaml")[0]["a"] == value


@pytest.mark.parametrize("value, result", [
    ("${SET}", 7), ("${UNSET}", ""), ("$${SET}", "${SET}"), ("x-${SET}", "x-7"), ("${FLAG}", True), ("$SET", "$SET"),
    ("${TEXT} ", "some text "), ("${SET}${SET}", 77), (["${SET}"], [7]), ({"a": "${SET}"}, {"a": 7}), (5, 5), (None, None),
])
def test_variables_are_expanded(value, result):
    assert configuration.expand(value, {"SET": "7", "FLAG": "true", "TEXT": "some text"}) == result


def test_raw_keeps_the_variable_that_effective_expands():
    merged = merge({"a.yaml": "engine: {kind: '${KIND}'}"}, environment={"KIND": "kmod"})
    assert (merged["raw"]["engine"]["kind"], merged["effective"]["engine"]["kind"]) == ("${KIND}", "kmod")


@pytest.mark.parametrize("option, key, result", [
    ("a.b.c=1", "a", {"b": {"c": 1}}),
    ("a=true", "a", True),
    ("a=", "a", ""),
    ("list[0]=x", "list", ["x", "2"]),
    ("list[]=x", "list", ["1", "2", "x"]),
    ("list[3]=x", "list", ["1", "2", None, "x"]),
    ("a={b: 1}", "a", {"b": 1}),
    ("new[0].path=/x", "new", [{"path": "/x"}]),
    ("text=[a, b]", "text", "[a, b]"),
    ("text={broken", "text", "{broken"),
    ("text=a=b", "text", "a=b"),
])
def test_set_option(option, key, result):
    given = {"list": ["1", "2"], "text": "old"}
    assert configuration.set_option(given, option) == key
    assert given[key] == result


@pytest.mark.parametrize("option", ["=1", "", "[0]=x", "a[100000]=x"])
def test_options_that_can_not_be_placed_are_refused(option):
    with pytest.raises(configuration.ConfigError, match="-o "):
        configuration.set_option({}, option)


def test_lookup():
    assert configuration.lookup({"a": {"b": None}}, "a.b") == (True, None)
    assert configuration.lookup({"a": {"b": None}}, "a.b.c") == (False, None)
    assert configuration.lookup({"a": []}, "a.b") == (False, None)


def aliases(depth, wide, merged=False):
    """Lists of aliases of lists: wide ** depth values. merged: as merge keys instead."""
    form = "a%d: &a%d {<<: [%s]}" if merged else "a%d: &a%d [%s]"
    first = "a0: &a0 {k0: 1, k1: 2}" if merged else "a0: &a0 [1, 1]"
    return "\n".join([first] + [form % (n, n, ", ".join(["*a%d" % (n - 1)] * wide)) for n in range(1, depth + 1)])


# Each of these ended the worker process, or cost it gigabytes or minutes, when PyYAML composed what hosts send.
@pytest.mark.parametrize(("text", "what"), [
    ("a: " + "[" * 60000, "nested deeper"),
    ("a: " + "[" * 60000 + "]" * 60000, "nested deeper"),
    ("a: " + "{a: " * 60000, "nested deeper"),
    ("- " * 30000, "nested deeper"),
    (aliases(9, 10), "more than 100000 values"),
    (aliases(9, 10, merged=True), "more than 100000 values"),
    ("a: &a [*a]", "refers to no anchor"),
])
def test_hostile_yaml_is_refused_while_it_is_read(text, what):
    with pytest.raises(configuration.ConfigError, match=what):
        configuration.load(text, "f.yaml")


@pytest.mark.parametrize(("text", "value"), [
    ("a: " + ":".join(["1"] * 100000), ":".join(["1"] * 100000)),
    ("a: " + ":".join(["1"] * 1000) + ".5", ":".join(["1"] * 1000) + ".5"),
    ("a: " + "9" * 100000, "9" * 100000),
    ("? !!set {a}\n: 1\na: 1", None),
])
def test_numbers_that_are_costly_to_convert_stay_text(text, value):
    if value is None:
        with pytest.raises(configuration.ConfigError, match="line 1: not YAML"):
            configuration.load(text, "f.yaml")
    else:
        assert configuration.load(text, "f.yaml")[0] == {"a": value}


@pytest.mark.parametrize("text", ["${" * 200000, "${a}" * 100000, "$${a" * 200000, "}" * 200000 + "${" * 200000])
def test_any_number_of_variables_is_expanded_in_one_pass(text):
    assert configuration.expand(text, {"a": ""}) in (text, "")


def test_an_option_of_aliases_is_refused_as_yaml():
    option = "x={%s}" % ", ".join(aliases(9, 8).split("\n"))
    given = {}
    configuration.set_option(given, option)
    assert given == {"x": option[2:]}


def test_a_merge_key_is_an_ordinary_key_as_in_falco():
    data, duplicates = configuration.load("base: &b {x: 1}\nengine:\n  <<: *b\n  kind: kmod\n", "f.yaml")
    assert data["engine"] == {"<<": {"x": 1}, "kind": "kmod"} and duplicates == []


@pytest.mark.parametrize("text", ["a: 1\n...\n", "a: 1\n---\n", "--- # comment\na: 1\n", "\ufeff# comment\na: 1\n"])
def test_document_marks_are_read_as_falco_reads_them(text):
    assert configuration.load(text, "f.yaml")[0] == {"a": 1}


def test_an_exclusion_in_an_option_is_a_text_and_not_a_tag():
    given = {"base_syscalls": {"custom_set": ["open"]}}
    configuration.set_option(given, "base_syscalls.custom_set[]=!fcntl")
    assert given == {"base_syscalls": {"custom_set": ["open", "!fcntl"]}}


@pytest.mark.parametrize("text", ["a%d: [" + "b," * 990 + "]\n", "".join("a%d: [b]\n" for number in range(495))])
def test_the_values_of_all_files_of_a_host_are_bounded(text, monkeypatch):
    """Each of these files alone is within its limit; 80 of them would cost the controller half a minute."""
    assert configuration.MAX_HOST_NODES <= 4 * configuration.MAX_NODES
    monkeypatch.setattr(configuration, "MAX_HOST_NODES", 4000)
    release = releases.release_for("0.44.1")
    files = {"/etc/falco/falco.yaml": "config_files: [/etc/falco/config.d]\n"}
    files.update({"/etc/falco/config.d/%02d.yaml" % number: text.replace("%d", str(number)) for number in range(6)})
    with pytest.raises(configuration.ConfigError, match=r"^/etc/falco/config.d/04.yaml.*more than"):
        configuration.merge("/etc/falco/falco.yaml", files, [], {}, release)
    for number in (4, 5):
        del files["/etc/falco/config.d/%02d.yaml" % number]
    assert set(configuration.merge("/etc/falco/falco.yaml", files, [], {}, release)["raw"]) == {"config_files", "a0", "a1", "a2", "a3"}


WORDS = ["null", "NULL", "Null", "nULL", "true", "False", "yes", "No", "on", "y", "n", "0x1f", "0o17", "017", "1e3", "1.5", "1_000", "5.",
         "inf", ".inf", "1.2.3", "a...", "2026.11", "_"]


@given(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_./]{0,8}", fullmatch=True) | st.sampled_from(WORDS))
def test_an_option_of_one_word_is_typed_as_a_file_would_be(word):
    made = {}
    configuration.set_option(made, "engine.kind=" + word)
    assert made == {"engine": {"kind": configuration.load("x: " + word, "file")[0]["x"]}}


# Lines of which files are made that may be read block by block, and lines across which something goes on.
PARTS = [
    "a: 1", "b:", "  c: [1, two, 'three']", "  - item", "- item", "engine:", "  kind: kmod  # a comment", "# a comment", "", "  ", "\t",
    "list: [1,", "2]", "quoted: \"one", "two\"", "single: 'one", "two'", "text: |", "  kept: as it is", "  # no comment", "keep: |+",
    "folded: >-", "anchor: &x {y: 1}", "alias: *x", "merge: {<<: *x}", "---", "...", "--- # two", "%YAML 1.1", "? key", ": value",
    "key", "a.b: 1", "\"key\": 1", "a: 2", "a:1", "b: 'it''s'", "c: {", "d: 1}", "tag: !x y", "excluded: [!open, close]",
    "  indented: 1", "e: \xe9", "f: x\ry: 1", "g: x\x85h: 1", "# x\u2028h: 1", "# \xfc", "# \x07", "# \ud800", "\xfc: 1",
    "var: ${HOME}", "long: " + "x" * 300, "n: 0x1f", "d: 2024-01-01", "k: ~", "- - -", "|", "\x00", "\ufeff", "z: \"\\x3c\\x3c\"",
]
INDENTED = st.tuples(st.sampled_from(["", "", "", " ", "  ", "    "]), st.sampled_from(PARTS)).map("".join)


@given(st.lists(INDENTED, max_size=9).map("\n".join), st.sampled_from(["", "\n", "\n\n", "\n# end"]))
@settings(max_examples=1500)
def test_a_file_is_the_same_block_by_block(text, end):
    found = configuration._by_blocks(text + end)
    if found is not None:
        data, duplicates, values = configuration._whole(text + end, "x")
        assert (list(data.items()), duplicates, values) == (list(found[0].items()), [], found[1])
        assert yaml.safe_dump(data) == yaml.safe_dump(found[0])  # types too


@pytest.mark.parametrize("text", [
    "a: [1,\nb: 2]\n", "a: 'x\nb: y'\n", 'a: "x\nb: y"\n', "a: &x 1\nb: *x\n", "a: 1\nb: 2\na: 3\n", "a: 1\n---\nb: 2\n", "  a: 1\nb: 2\n",
    "x\nb: 2\n", "a: 1\nb: {\n", "# x\x85a: 1\nb: 2\n", "%YAML 1.1\nb: 1\n"])
def test_what_goes_on_across_blocks_is_read_as_a_whole(text):
    assert configuration._by_blocks(text) is None


@given(st.lists(st.sampled_from(["---", "...", "--", "..", ".", "\n", "\r", " ", "a: 1", "\x85", "\u2028", "\ufeff", "\ud800",
                                 "\xe9"]), max_size=8))
def test_a_text_that_is_quickly_seen_to_have_no_marker_has_none(parts):
    text = "".join(parts)
    marked = configuration._MARKER.search(text) is not None
    assert not (configuration._is_plain(text) and marked)
    assert configuration._is_plain(text) or marked or not text.isascii()


def test_most_files_are_read_block_by_block():
    text = yaml.safe_dump(BASE, sort_keys=False)
    found = configuration._by_blocks("# a comment\n\n" + text)
    assert found is not None and found[0] == BASE
    before = configuration._block.cache_info().hits
    configuration._by_blocks("# another host\n" + text)
    assert configuration._block.cache_info().hits == before + len(BASE)


@pytest.mark.skipif(not UPSTREAM.is_dir(), reason="there are no files of Falco")
@pytest.mark.parametrize("path", sorted(UPSTREAM.glob("falco-*.yaml")), ids=lambda path: path.name)
def test_falcos_own_files_are_read_block_by_block(path):
    text = path.read_text()
    if "_rules" in path.name:
        return
    found = configuration._by_blocks(text)
    data, duplicates, values = configuration._whole(text, "x")
    assert found == (data, values) and duplicates == []
    assert configuration.commented(text) == list(configuration._commented.__wrapped__(text)) != []


def test_what_one_host_has_is_no_other_hosts():
    """Values that were read once are shared; options of one host, its variables and whoever changes its facts must not reach another."""
    options = ["engine.kind=kmod", "engine.modern_ebpf.buf_size_preset=9", "load_plugins[]=two", "metrics={enabled: false}"]
    before = merge()
    first = merge(options=options, environment={"X": "y"})
    assert first["raw"]["engine"] == {"kind": "kmod", "modern_ebpf": {"buf_size_preset": 9, "cpus_for_each_buffer": 1}}
    assert first["raw"]["load_plugins"] == ["one", "two"]
    assert merge() == before and before["raw"] == BASE


@given(st.lists(INDENTED, max_size=12).map("\n".join))
def test_comments_of_blocks_are_those_of_the_file(text):
    assert configuration.commented(text) == list(configuration._commented.__wrapped__(text))
