# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which file is Falco's program, and what root does not run."""

import os
import struct
import sys

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._host import processes, programs


def program(folder, name="falco", data=b"\x7fELF\x02", mode=0o755):
    path = folder / name
    path.write_bytes(data)
    path.chmod(mode)
    return str(path)


def python(text=b""):
    return b"#!" + sys.executable.encode() + b"\n" + text


def test_an_elf_file_and_a_program_of_an_interpreter_may_be_run(tmp_path):
    assert programs.refusal(program(tmp_path)) is None
    assert programs.refusal(program(tmp_path, "falco-custom")) is None
    assert programs.refusal(program(tmp_path, data=python())) is None


@pytest.mark.parametrize("name, data, said", [
    ("falco", b"#!/bin/sh\nexec falco\n", "is a script of /bin/sh: it was not run"),
    ("falco", b"#!/usr/bin/env -S A=1 bash\n", "is a script of /usr/bin/env -S A=1 bash: it was not run"),
    ("falco", b"#! \n", "is a script of a shell: it was not run"),
    ("falco", b"echo\n", "is neither an ELF file nor a script: it was not run"),
    ("falco", b"", "is neither an ELF file nor a script"),
    ("start-falco", b"\x7fELF", "is not Falco by its name, but a wrapper or start script: it was not run"),
    ("falcoctl", b"\x7fELF", "is not Falco by its name"),
    ("docker", b"\x7fELF", "starts Falco in a container, which this collection does not tune"),
])
def test_what_is_not_falco_is_not_run(tmp_path, name, data, said):
    assert said in programs.refusal(program(tmp_path, name, data))


def test_a_program_that_is_not_a_file_is_not_run(tmp_path):
    (tmp_path / "falco").mkdir()
    assert "is not a regular file" in programs.refusal(str(tmp_path / "falco"))
    os.mkfifo(str(tmp_path / "falco.fifo"))
    assert "is not a regular file" in programs.refusal(str(tmp_path / "falco.fifo"))
    assert "No such file or directory" in programs.refusal(str(tmp_path / "falco-gone"))


@pytest.mark.parametrize("mode", [0o777, 0o757])
def test_a_program_that_others_may_write_is_not_run(tmp_path, mode):
    assert "can be written by others: a program that root runs must not" in programs.refusal(program(tmp_path, mode=mode))


def test_nor_one_in_a_directory_that_others_may_write(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    path = program(tmp_path / "a/b")
    (tmp_path / "a").chmod(0o777)
    assert "/a (mode 0777) can be written by others: the directory of a program" in programs.refusal(path)
    (tmp_path / "falco").symlink_to(path)
    assert "/a (mode 0777)" in programs.refusal(str(tmp_path / "falco"))
    (tmp_path / "a").chmod(0o1777)  # as /tmp: nobody else can rename what is in it
    assert programs.refusal(path) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_program_of_another_user_is_not_run(tmp_path):
    path = program(tmp_path)
    os.chown(path, 12345, 0)
    assert "belongs to uid 12345: expected root: it was not run" in programs.refusal(path)
    os.chown(path, 0, 12345)
    os.chmod(path, 0o775)
    assert "can be written by others" in programs.refusal(path)


@pytest.mark.parametrize("line, words", [
    ("/usr/bin/nice -n -5 /usr/bin/falco -c /x.yaml", ["/usr/bin/falco", "-c", "/x.yaml"]),
    ("/usr/bin/taskset -c 0,1 /usr/bin/falco -c /x.yaml", ["/usr/bin/falco", "-c", "/x.yaml"]),
    ("/usr/bin/env A=2 /usr/bin/falco", ["/usr/bin/falco"]),
    ("/bin/sh -c exec /usr/bin/falco -c /x.yaml", ["/usr/bin/falco", "-c", "/x.yaml"]),
    ("/usr/bin/docker run --rm falcosecurity/falco falco -c /x.yaml", None),
    ("/usr/bin/podman start --attach falco", None),
    ("/opt/start-falco /usr/bin/falco", None),
    ("/usr/bin/nice -n 5 /opt/start", None),
    ("", None),
])
def test_wrappers_are_taken_off_and_nothing_else_is(line, words):
    assert programs.of_words(line.split()) == (line.split() if words is None else words)


@pytest.fixture
def process(tmp_path):
    """process(words, exe): a process on paper."""
    def make(words, exe=None):
        folder = tmp_path / "proc/7"
        folder.mkdir(parents=True)
        (folder / "cmdline").write_text("\0".join(words) + "\0")
        if exe:
            (folder / "exe").symlink_to(exe)
        return processes.Process(str(tmp_path), 7)
    return make


def test_a_process_is_its_executable_file(process, tmp_path):
    path = program(tmp_path)
    assert programs.of_process(process(["nonsense", "-c", "/x y.yaml"], path)) == [path, "-c", "/x y.yaml"]


def test_an_upgraded_program_is_the_new_file(process):
    assert programs.of_process(process(["falco"], "/usr/bin/falco (deleted)")) == ["/usr/bin/falco"]


def test_an_interpreter_is_its_script(process, tmp_path):
    path = program(tmp_path, data=python())
    exe = os.path.realpath(sys.executable)
    assert programs.of_process(process([sys.executable, path, "-A"], exe)) == [path, "-A"]


def test_a_shell_that_runs_a_start_script_is_that_script_and_not_falco(process, tmp_path):
    path = program(tmp_path, "start-falco", b"#!/bin/sh\n")
    words = programs.of_process(process(["/bin/sh", path], os.path.realpath("/bin/sh")))
    assert words == [path] and "wrapper or start script" in programs.refusal(path)


def test_a_program_that_names_a_script_is_not_that_script(process, tmp_path):
    path, other = program(tmp_path), program(tmp_path, "falco-x", b"#!/bin/sh\n")
    assert programs.of_process(process([path, other], path)) == [path, other]


def test_a_process_whose_executable_is_hidden_is_told_by_its_whole_words(process):
    assert programs.of_process(process(["/usr/bin/falco", "-A"])) == ["/usr/bin/falco", "-A"]


def test_and_not_by_a_name_alone(process):
    assert programs.of_process(process(["falco", "-A"])) == []


def test_nor_one_behind_a_link_that_others_may_turn(tmp_path):
    """It is run by its path: whoever may write to the link's directory decides what that is by then."""
    (tmp_path / "safe").mkdir()
    real = program(tmp_path / "safe")
    (tmp_path / "open").mkdir()
    (tmp_path / "open/falco").symlink_to(real)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/falco").symlink_to("../open/falco")
    assert programs.refusal(str(tmp_path / "bin/falco")) is None
    (tmp_path / "open").chmod(0o777)
    assert "open (mode 0777) can be written by others" in programs.refusal(str(tmp_path / "bin/falco"))
    assert programs.refusal(real) is None
    (tmp_path / "turns").symlink_to("turns")
    assert "symbolic links" in programs.refusal(str(tmp_path / "turns/falco")) or "Too many levels" in programs.refusal(
        str(tmp_path / "turns/falco"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link away")
def test_nor_one_behind_a_link_of_somebody_else(tmp_path):
    real = program(tmp_path)
    (tmp_path / "falco-link").symlink_to(real)
    os.lchown(str(tmp_path / "falco-link"), 12345, 12345)
    assert "falco-link belongs to uid 12345: expected root" in programs.refusal(str(tmp_path / "falco-link"))


def test_nor_one_that_an_acl_lets_others_write(tmp_path):
    """The mask of an ACL is shown as the group's bits, and the group is root's."""
    path = program(tmp_path, mode=0o755)
    # user::rwx, user:12345:rw-, group::r-x, mask::rwx, other::r-x (include/uapi/linux/posix_acl_xattr.h)
    entries = ((1, 7, 0xFFFFFFFF), (2, 6, 12345), (4, 5, 0xFFFFFFFF), (16, 7, 0xFFFFFFFF), (32, 5, 0xFFFFFFFF))
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", acl)
    except OSError:
        pytest.skip("this file system has no ACLs")
    assert "can be written by others" in programs.refusal(path)


def test_nor_a_script_whose_interpreter_others_may_write(tmp_path):
    (tmp_path / "lib").mkdir()
    interpreter = program(tmp_path / "lib", "python3", mode=0o777)
    refused = programs.refusal(program(tmp_path, data=b"#!" + interpreter.encode() + b"\n"))
    assert "is a script, and" in refused and "python3 (mode 0777) can be written by others" in refused


@pytest.mark.parametrize("name, value, kept", [
    ("LD_PRELOAD", "/lib64/libresolv.so.2", True), ("LD_PRELOAD", "libresolv.so.2 {own}", True), ("LD_PRELOAD", "{open}", False),
    ("LD_PRELOAD", "/lib64/x:{open}", False), ("LD_PRELOAD", "./x.so", False), ("LD_LIBRARY_PATH", "/opt/my libs:/usr/lib", True),
    ("LD_LIBRARY_PATH", "/usr/lib:", False), ("LD_LIBRARY_PATH", "lib", False), ("LD_AUDIT", "{open}", False), ("LD_BIND_NOW", "1", True),
])
def test_the_loader_gets_no_library_that_others_may_change(tmp_path, name, value, kept):
    own = program(tmp_path, "own.so")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    assert programs.only_roots(name, value.format(own=own, open=program(tmp_path / "shared", "open.so"))) is kept


def test_of_a_unit_that_is_not_roots_root_gets_what_falco_needs(tmp_path):
    """What its user may load as itself, a dry run of root's must not."""
    unit = {"User": "falco", "Environment": "PYTHONPATH=/home/falco PATH=/home/falco/bin FALCO_X=1 HOST_ROOT=/ KIND=kmod"}
    assert processes.start_environment(unit, None, ["kind: ${KIND}"]) == {"FALCO_X": "1", "HOST_ROOT": "/", "KIND": "kmod"}
    assert "PATH" in processes.start_environment(dict(unit, User="root"), None)
