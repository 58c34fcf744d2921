# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Extended attributes of files that are renamed into place, by their values alone: no policy need run here."""

import errno
import os

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._change import attributes, files

ETC, VAR = b"system_u:object_r:etc_t:s0\0", b"system_u:object_r:var_lib_t:s0\0"


@pytest.fixture
def labels(monkeypatch):
    """{path: {name: value}} in place of the file system's."""
    found = {}

    def get(path, name):
        if name not in found.get(str(path), {}):
            raise OSError(errno.ENODATA, "No data available")
        return found[str(path)][name]

    monkeypatch.setattr(attributes.os, "listxattr", lambda path: list(found.get(str(path), {})))
    monkeypatch.setattr(attributes.os, "getxattr", get)
    return found


def test_a_successor_has_all_but_what_signs_the_content(labels):
    labels["/etc/falco/falco.yaml"] = {"security.selinux": ETC, "user.origin": b"site", "security.ima": b"hash", "security.evm": b"x"}
    assert attributes.of("/etc/falco/falco.yaml") == {"security.selinux": ETC, "user.origin": b"site"}
    assert attributes.of("/etc/falco/other.yaml") == {}


@pytest.mark.parametrize("answer, label", [
    ((0, "system_u:object_r:falco_etc_t:s0\n", ""), b"system_u:object_r:falco_etc_t:s0\0"),
    ((0, "<<none>>\n", ""), ETC), ((1, "", "no policy"), ETC), ((None, "", "matchpathcon: No such file or directory"), ETC),
])
def test_a_new_file_has_the_label_of_its_path_by_the_policy_or_a_neighbour(labels, monkeypatch, tmp_path, answer, label):
    """Not that of the directory in which it is made: systemd ignores a drop-in with that of /var/lib."""
    labels[str(tmp_path)] = {"security.selinux": b"system_u:object_r:folder_t:s0\0"}
    (tmp_path / "neighbour").write_text("")
    labels[str(tmp_path / "neighbour")] = {"security.selinux": ETC}
    asked = []
    monkeypatch.setattr(attributes.systemd, "run", lambda words, **options: (asked.append(words), answer)[1])
    assert attributes.of_new(str(tmp_path / "new")) == {"security.selinux": label}
    assert asked == [["matchpathcon", "-n", str(tmp_path / "new")]]


def test_alone_in_its_directory_it_has_that_ones_label_and_default_acl(labels, monkeypatch, tmp_path):
    labels[str(tmp_path)] = {"security.selinux": ETC, "system.posix_acl_default": b"acl"}
    monkeypatch.setattr(attributes.systemd, "run", lambda *words, **options: (None, "", ""))
    assert attributes.of_new(str(tmp_path / "new")) == {"security.selinux": ETC, "system.posix_acl_access": b"acl"}


def test_without_selinux_nothing_is_asked(labels, monkeypatch, tmp_path):
    monkeypatch.setattr(attributes.systemd, "run", lambda *words, **options: pytest.fail("asked"))
    assert attributes.of_new(str(tmp_path / "new")) == {}


@pytest.mark.parametrize("number, there, refused", [
    (errno.ENOTSUP, None, False), (errno.EPERM, None, True), (errno.EPERM, ETC, False), (errno.EPERM, VAR, True),
    (errno.ENOSPC, None, True),
])
def test_an_attribute_that_can_not_be_set_is_an_error_unless_it_is_there(labels, monkeypatch, number, there, refused):
    def refuse(*dummy):
        raise OSError(number, os.strerror(number))

    if there:
        labels["7"] = {"security.selinux": there}
    monkeypatch.setattr(attributes.os, "setxattr", refuse)
    if refused:
        with pytest.raises(OSError):
            attributes.put(7, "security.selinux", ETC)
    else:
        attributes.put(7, "security.selinux", ETC)


def test_staged_files_have_the_attributes_of_their_predecessor(tmp_path):
    (tmp_path / "state").mkdir()
    path = tmp_path / "falco.yaml"
    path.write_text("old")
    try:
        os.setxattr(path, "user.origin", b"site")
    except OSError as error:
        pytest.skip(error.strerror)
    items = [files.Item(str(path), b"new")]
    staged, _folders = files.stage(items, str(tmp_path / "state"), "token")
    kept = files.keep_old(items, str(tmp_path / "state"), "token", links=False)
    assert os.getxattr(staged[str(path)], "user.origin") == os.getxattr(kept[str(path)], "user.origin") == b"site"
