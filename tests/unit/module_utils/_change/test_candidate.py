# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import json
import os
import sys

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._change import access, candidate

@pytest.mark.parametrize("stdout, stderr, text", [
    ("", "date: Loading\ndate: Error: bad preset\nmore\n", "Error: bad preset"),
    ("Error: on stdout\n", "", "Error: on stdout"),
    ("", "one\ntwo\n\nthree\nfour\n", "two | three | four"),
    ("", "", "exit status 1 and no output"),
])
def test_cause(stdout, stderr, text):
    assert candidate.cause(stdout, stderr, 1) == text


FALCO = """#!%s
import json, os, re, sys
main = sys.argv[sys.argv.index("-c") + 1]
text = open(main).read()
files = re.findall(r"(\\S+/\\d{4}-\\S+)", text)
seen = {"arguments": sys.argv[1:], "main": text, "files": [[name, open(name).read()] for name in files], "flag": os.environ.get("FLAG")}
json.dump(seen, open(os.environ["SEEN"], "w"))
for name in [main] + files:
    found = re.search(r"say (.*)", open(name).read())
    if found:
        print(found.group(1).replace("SELF", name), file=sys.stderr)
    if "fail here" in open(name).read():
        sys.exit("Error: %%s is broken, see %%s/x" %% (name, os.path.dirname(name)))
print("The chosen syscall buffer dimension is: 33554432 bytes (32 MBs)", file=sys.stderr)
"""


@pytest.fixture
def asks(tmp_path):
    """dry_run() on a small fake Falco; returns (its answer, what Falco saw)."""
    falco = tmp_path / "falco"
    falco.write_text(FALCO % sys.executable)
    falco.chmod(0o755)
    state = tmp_path / "state"
    state.mkdir()
    etc = tmp_path / "etc"
    etc.mkdir()
    main, target, site = (str(etc / name) for name in ("falco.yaml", "zz-falcotune.yaml", "50-site.yaml"))
    (etc / "falco.yaml").write_text("config_files: [%s]\nengine: {kind: kmod}\n" % etc)
    (etc / "50-site.yaml").write_text("site: 1\n")

    def ask(new=b"engine: {kind: modern_ebpf}\n", strategy=None, expected=33554432, selected=None, metrics="", only_main=False,
            main_text=None, site_text=None):
        if main_text is not None:
            (etc / "falco.yaml").write_text(main_text)
        if site_text is not None:
            (etc / "50-site.yaml").write_text(site_text)
        order = [] if only_main else [{"path": site, "strategy": strategy}, {"path": target, "strategy": strategy}]
        before = dict(os.environ)
        try:
            answer = candidate.dry_run([str(falco), "-o", "engine.kind=kmod"], {"FLAG": "1", "SEEN": str(tmp_path / "seen.json")},
                                       "--dry-run", main, order, {main if only_main else target: new},
                                       {"bytes_each": expected, "selected": selected}, metrics, str(state))
        finally:
            assert os.listdir(state) == []  # nothing is left behind
            assert dict(os.environ) == before
            assert not os.path.exists(target)
        return answer, json.loads((tmp_path / "seen.json").read_text())

    ask.main, ask.target, ask.site, ask.state = main, target, site, str(state)
    return ask


def test_dry_run_shows_falco_the_whole_load_order_from_a_private_copy(asks):
    answer, seen = asks()
    assert answer == 33554432
    assert [os.path.basename(name) for name, text in seen["files"]] == ["0000-50-site.yaml", "0001-zz-falcotune.yaml"]
    assert [text for name, text in seen["files"]] == ["site: 1\n", "engine: {kind: modern_ebpf}\n"]
    assert all(name.startswith(asks.state + "/candidate-") for name, text in seen["files"])
    assert seen["main"].endswith("engine: {kind: kmod}\n") and asks.site not in seen["main"]
    assert seen["arguments"][:2] == ["-o", "engine.kind=kmod"] and seen["arguments"][-1] == "--dry-run"
    assert seen["flag"] == "1"


def test_dry_run_keeps_the_strategies(asks):
    assert asks(strategy="override")[1]["main"].count("    strategy: override\n") == 2


def test_dry_run_of_the_main_file_alone(asks):
    dummy, seen = asks(new=b"syscall_buf_size_preset: 6\n", only_main=True)
    assert seen["main"] == "syscall_buf_size_preset: 6\n" and seen["files"] == []


def test_dry_run_writes_no_metrics_file(asks):
    dummy, seen = asks(new=b"metrics: {output_file: /var/log/falco/metrics.jsonl}\n", metrics="/var/log/falco/metrics.jsonl")
    assert "/var/log" not in seen["files"][1][1] and asks.state in seen["files"][1][1]


def test_a_refusal_names_the_hosts_own_paths(asks):
    with pytest.raises(candidate.Refused) as raised:
        asks(new=b"fail here\n")
    assert str(raised.value) == "Falco refuses the candidate configuration: Error: %s is broken, see (candidate)/x" % asks.target


@pytest.mark.parametrize("expected, refused", [(33554432, False), (8388608, True), (None, False)])
def test_other_buffers_than_expected_are_refused(asks, expected, refused):
    if not refused:
        assert asks(expected=expected)[0] == 33554432
        return
    with pytest.raises(candidate.Refused, match="take buffers of 33554432 bytes instead of 8388608: something overrides the setting"):
        asks(expected=expected)


SELECTION = b"x: 1  # say Wed Nov 25 10:00:00 2026: (3) syscalls selected in total (final set): close, open, procexit\n"


def test_the_selection_is_asked_for_at_debug_and_compared(asks):
    dummy, seen = asks(new=SELECTION, selected=["open", "close", "procexit"])
    assert "log_level=debug" in seen["arguments"]
    dummy, seen = asks(new=SELECTION)
    assert "log_level=info" in seen["arguments"]


@pytest.mark.parametrize("new, selected, text", [
    (SELECTION, ["close", "procexit"], "it adds open and leaves out none"),
    (SELECTION, ["close", "connect", "open", "procexit"], "it adds none and leaves out connect"),
    (b"x: 1\n", ["close"], "does not say which system calls it selects"),
])
def test_another_selection_than_planned_is_refused(asks, new, selected, text):
    with pytest.raises(candidate.Refused, match=text):
        asks(new=new, selected=selected)


WARNING = "say SELF | schema validation: failed for <root>[engine]: unknown property\n"


def test_trap_09_a_schema_warning_about_our_own_fragment_is_a_refusal(asks):
    with pytest.raises(candidate.Refused) as raised:
        asks(new=WARNING.encode())
    assert str(raised.value) == "Falco's schema does not know what would be written to %s: <root>[engine]: unknown property" % asks.target


def test_a_schema_warning_about_somebody_elses_file_is_none(asks):
    assert asks(site_text="site: 1  # " + WARNING)[0] == 33554432
    assert asks(main_text="engine: {kind: kmod}  # " + WARNING)[0] == 33554432


def test_a_main_file_that_can_not_be_cut_is_refused(asks):
    with pytest.raises(candidate.Refused, match="falco.yaml line 1: expected a top-level key"):
        asks(main_text="{engine: {kind: kmod}}\n")


def test_a_missing_file_of_the_load_order_is_an_error(asks):
    os.unlink(asks.site)
    with pytest.raises(OSError):
        asks()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_dry_run_is_done_as_the_user_of_the_unit(tmp_path):
    """A file that only root can read would end Falco at its start, and not in a dry run of root's."""
    for path in (tmp_path, *tmp_path.parents):
        path.chmod(path.stat().st_mode | 0o001)
    (tmp_path / "falco").write_text('#!/bin/sh\nwhile [ "$1" != -c ]; do shift; done\n'
                                    'echo "Error: $(id -u) $(id -G) $(head -c 4 "$2") $(cat %s/secret 2>&1)" >&2\nexit 1\n' % tmp_path)
    (tmp_path / "falco").chmod(0o755)
    (tmp_path / "falco.yaml").write_text("json_output: true\n")
    (tmp_path / "secret").write_text("secret\n")
    for name in ("falco.yaml", "secret"):
        (tmp_path / name).chmod(0o600)
    user = access.Account("nobody", 65534, 65533, [65533, 4])
    with pytest.raises(candidate.Refused) as error:
        candidate.dry_run([str(tmp_path / "falco")], {}, "--dry-run", str(tmp_path / "falco.yaml"), [], {},
                          {"bytes_each": None, "selected": None}, "", str(tmp_path), user)
    assert "Error: 65534 65533 4 json " in str(error.value) and "secret: Permission denied" in str(error.value)
    assert sorted(os.listdir(tmp_path)) == ["falco", "falco.yaml", "secret"]
