# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What changed from release to release, seen by dry runs: options, keys, system calls, merging."""

import json
import re

import pytest

from subject import few

FINAL = re.compile(r"^\((\d+)\) syscalls selected in total \(final set\): (.*)$")
REPAIRED = ("capset chdir chroot clone clone3 execve execveat fchdir fork prctl procexit setgid setpgid setresgid setresuid setsid "
            "setuid vfork").split()
DEFAULT = ("accept accept4 bind capset chdir chroot clone clone3 close connect creat dup dup2 dup3 epoll_create epoll_create1 eventfd "
           "eventfd2 execve execveat fchdir fcntl fork getsockopt inotify_init inotify_init1 io_uring_setup memfd_create mount open "
           "open_by_handle_at openat openat2 pidfd_getfd pidfd_open pipe pipe2 prctl prlimit procexit recvfrom recvmsg sendmsg sendto "
           "setgid setresgid setresuid setrlimit setsid setuid shutdown signalfd signalfd4 socket socketpair timerfd_create umount "
           "umount2 userfaultfd vfork").split()


def _final(lines):
    """The system calls that a dry run selects."""
    found = [match for match in map(FINAL.match, lines) if match]
    assert len(found) == 1, lines
    names = found[0].group(2).split(", ")
    assert len(names) == int(found[0].group(1))
    return names


def _ring_bytes(lines):
    found = [int(match.group(1)) for match in (re.match(r"The chosen syscall buffer dimension is: (\d+) bytes", line) for line in lines)
             if match]
    assert len(found) == 1, lines
    return found[0]


def _engine(preset):
    return "engine:\n  kind: modern_ebpf\n  modern_ebpf:\n    buf_size_preset: %d\n" % preset


def test_version_says_the_release(falco):
    code, out, _ = falco.run("--version")
    assert code == 0
    assert re.search(r"^Falco version: +%s$" % re.escape(falco.release), out, re.M)
    versions = json.loads(falco.run("--version", "-o", "json_output=true")[1])
    assert versions["falco_version"] == falco.release
    assert re.match(r"\d+\.\d+\.\d+$", versions["libs_version"])
    assert re.match(r"\d+\.\d+\.\d+\+driver$", versions["default_driver_version"])
    assert int(versions["engine_version"]) >= 26


def test_default_system_calls(falco):
    falco.config()
    code, lines = falco.dry_run()
    wanted = set(DEFAULT)
    wanted |= {"close_range"} if falco.since(44) else set()
    wanted |= {"recvmmsg", "sendmmsg"} if falco.since(40) else set()
    wanted |= {"setregid", "setreuid"} if falco.since(39) else set()
    wanted |= {"setpgid"} if not falco.since(42) else set()
    assert (code, _final(lines)) == (0, sorted(wanted))


def test_repair_selects_the_least(falco):
    falco.config("base_syscalls:\n  repair: true\n")
    code, lines = falco.dry_run()
    assert (code, _final(lines)) == (0, REPAIRED)


@few()
@pytest.mark.parametrize("asked,added", [
    ("openat", "close"), ("sendto", "close"), ("connect", "close getsockopt socket"), ("accept4", "bind close getsockopt socket")])
def test_repair_adds_what_a_call_needs(falco, asked, added):
    falco.write({"one.yaml": "- rule: One\n  desc: one call\n  condition: evt.type=%s and proc.name=iShouldNeverAlert\n"
                             "  output: never\n  priority: INFO\n" % asked})
    falco.config("base_syscalls:\n  repair: true\n", rules="one.yaml")
    code, lines = falco.dry_run()
    # The name accept4 selects what Falco prints under the older name too.
    shown = {asked} | ({"accept"} if asked == "accept4" else set())
    assert (code, _final(lines)) == (0, sorted(set(REPAIRED) | shown | set(added.split())))


def test_the_switch_for_high_volume_calls(falco):
    """read and write come only on request: by -A before 0.41, by base_syscalls.all since 0.40."""
    block = "base_syscalls:\n  custom_set: [read, write]\n"
    falco.config(block)
    assert not {"read", "write"} & set(_final(falco.dry_run()[1]))
    if falco.since(41):
        code, _, err = falco.run("-A", "--version")
        assert (code, err.strip()) == (1, "Error: Option \u2018A\u2019 does not exist")
    else:
        assert {"read", "write"} <= set(_final(falco.dry_run("-A")[1]))
    falco.config(block + "  all: true\n")
    assert ({"read", "write"} <= set(_final(falco.dry_run()[1]))) == falco.since(40)


def test_driver_kinds(falco):
    if not falco.since(37):
        pytest.skip("the driver is chosen on the command line")
    falco.config(engine="engine:\n  kind: ebpf\n")
    assert falco.dry_run()[0] == (1 if falco.since(44) else 0)
    falco.config(engine="engine:\n  kind: ebdf\n")
    code, lines = falco.dry_run()
    assert code == 1
    assert [line for line in lines if "engine.kind 'ebdf' is not a valid kind." in line]


def test_old_and_new_names_of_the_buffer_size(falco):
    """The old key counts up to 0.37, and there only beside a kmod with nothing set; the new one since 0.37."""
    def size(*words):
        return _ring_bytes(falco.dry_run(*words)[1])

    falco.config("syscall_buf_size_preset: 6\n", engine="engine:\n  kind: kmod\n")
    assert size() == (8 if falco.since(38) else 32) << 20
    if falco.since(37):
        falco.config("syscall_buf_size_preset: 6\n", engine=_engine(5))
        assert size() == 16 << 20


def test_an_unknown_key_is_at_most_a_warning(falco):
    falco.config("no_such_key: 1\n")
    code, lines = falco.dry_run()
    warned = [line for line in lines if "schema validation: failed for <root>" in line and "no_such_key" in line]
    assert (code, len(warned)) == (0, 1 if falco.since(39) else 0)


def test_schemas_are_printed_since_0_39(falco):
    for option in ("config", "rule"):
        code, out, _ = falco.run("--%s-schema" % option)
        assert code == (0 if falco.since(39) else 1)
        if falco.since(39):
            assert isinstance(json.loads(out), dict)


@pytest.mark.parametrize("entry", ["enabled: false", "condition: evt.type = openat\n  override: {condition: replace}"])
def test_an_entry_that_changes_a_rule_needs_that_rule(falco, entry):
    """A rule that goes from its file keeps Falco from starting where another file overrides or disables it."""
    if "override" in entry and not falco.since(37):
        pytest.skip("override came with 0.37")
    falco.config()
    files = ["-r", "{dir}/dummy_rules.yaml", "-r", "{dir}/more.yaml"]
    falco.write({"more.yaml": "- rule: Dummy rule that never alerts\n  %s\n" % entry})
    assert falco.dry_run(*files)[0] == 0
    falco.write({"more.yaml": "- rule: Gone\n  %s\n" % entry})
    code, out, err = falco.run("-c", "{dir}/falco.yaml", *files, *falco.driver_options, "--dry-run")
    assert code == 1 and "no rule by that name already exists" in out + err


def test_a_rule_that_is_gone_can_be_disabled_by_the_configuration(falco):
    if not falco.since(38):
        pytest.skip("`rules` came with 0.38")
    falco.config("rules:\n  - disable: {rule: Gone}\n")
    assert falco.dry_run()[0] == 0


def test_rules_files_by_either_name(falco):
    falco.config()
    text = falco.read("falco.yaml")
    falco.write({"falco.yaml": text.replace("rules_files:", "rules_file:")})
    assert falco.dry_run()[0] == 0
    other = "rules_file" if falco.since(38) else "rules_files"
    falco.write({"falco.yaml": text + "%s: [{dir}/dummy2_rules.yaml]\n" % other})
    assert falco.dry_run()[0] == (1 if falco.since(38) else 0)


def test_metrics_need_an_output_and_an_interval(falco):
    falco.config("metrics:\n  enabled: true\n  interval: 1s\n")
    code, lines = falco.dry_run()
    assert code == 1
    assert [line for line in lines if line.startswith("Error: Metrics are enabled with no output configured")]
    falco.config("metrics:\n  enabled: true\n  output_rule: true\n  interval: 30000\n")
    code, lines = falco.dry_run()
    assert code == 1
    assert [line for line in lines if line.startswith("Error: Metrics interval must have a minimum value of 100ms")]


def test_fragments_are_read_since_0_38(falco):
    if not falco.since(37):
        pytest.skip("has no engine block")
    falco.config("config_files:\n  - {dir}/config.d\n", engine=_engine(5))
    falco.write({"config.d/10-buffers.yaml": _engine(6), "config.d/9-buffers.yaml": _engine(7)})
    assert _ring_bytes(falco.dry_run()[1]) == (64 if falco.since(38) else 16) << 20, "9 sorts after 10"


def test_a_fragment_replaces_a_whole_block(falco):
    if not falco.since(38):
        pytest.skip("reads no fragments")
    falco.config("config_files:\n  - {dir}/config.d\nbase_syscalls:\n  custom_set: [execve]\n")
    before = _final(falco.dry_run()[1])
    falco.write({"config.d/lean.yaml": "base_syscalls:\n  repair: true\n"})
    assert before == ["execve", "execveat", "procexit"]
    assert _final(falco.dry_run()[1]) == REPAIRED


def test_lists_of_a_fragment_are_appended_since_0_41(falco):
    if not falco.since(38):
        pytest.skip("reads no fragments")
    falco.config("config_files:\n  - {dir}/config.d\n")
    falco.write({"config.d/more.yaml": "rules_files: [{dir}/dummy2_rules.yaml]\n"})
    enabled = [line.strip() for line in falco.dry_run()[1] if line.startswith("   ") and line.endswith("that never alerts")]
    both = ["Dummy rule that never alerts", "Second dummy rule that never alerts"]
    assert enabled == (both if falco.since(41) else both[1:])


def test_strategies_since_0_41(falco):
    if not falco.since(38):
        pytest.skip("reads no fragments")
    falco.write({"config.d/buffers.yaml": _engine(6)})
    falco.config("config_files:\n  - path: {dir}/config.d\n    strategy: add-only\n", engine=_engine(5))
    code, lines = falco.dry_run()
    if falco.since(41):
        assert (code, _ring_bytes(lines)) == (0, 16 << 20)
    else:
        assert code == 1
        assert [line for line in lines if line.startswith("Error: ") and "bad conversion" in line]


def test_options_beat_fragments_since_0_41(falco):
    if not falco.since(38):
        pytest.skip("reads no fragments")
    falco.config("config_files:\n  - {dir}/config.d\n", engine=_engine(5))
    option = ("-o", "engine.modern_ebpf.buf_size_preset=8")
    assert _ring_bytes(falco.dry_run(*option)[1]) == 128 << 20
    falco.write({"config.d/buffers.yaml": _engine(6)})
    assert _ring_bytes(falco.dry_run(*option)[1]) == (128 if falco.since(41) else 32) << 20


@few()
def test_every_file_in_a_directory_of_fragments_counts(falco):
    falco.config("config_files:\n  - {dir}/config.d\n", engine=_engine(5))
    falco.write({"config.d/buffers.yaml": _engine(6), "config.d/buffers.yaml.2026-01-01~": _engine(7), "config.d/.hidden": "a: 1\n"})
    assert _ring_bytes(falco.dry_run()[1]) == 64 << 20


def test_an_output_is_needed(falco):
    falco.config()
    falco.write({"falco.yaml": falco.read("falco.yaml").replace("stdout_output:\n  enabled: true", "stdout_output:\n  enabled: false")})
    code, lines = falco.dry_run()
    assert code == 1
    assert "Error: No output configured, please make sure at least one output is configured and enabled." in lines
    assert falco.dry_run("-o", "syslog_output.enabled=true")[0] == 0
