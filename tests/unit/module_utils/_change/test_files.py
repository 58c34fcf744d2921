# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a change: staged, swapped, put back."""

import os
import stat

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._change import files
from ansible_collections.falcotune.fleet.plugins.module_utils._change.failure import Failed


@pytest.fixture
def place(tmp_path):
    """A directory of ours and one of Falco's, with a file, a link to a file, and one that goes away."""
    for name in ("state", "etc/config.d", "srv"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("etc/falco.yaml", "srv/linked.yaml", "etc/gone.yaml"):
        (tmp_path / name).write_text("old " + name)
    (tmp_path / "etc/falco.yaml").chmod(0o600)
    (tmp_path / "etc/linked.yaml").symlink_to(tmp_path / "srv/linked.yaml")
    return tmp_path


def items(place):
    etc = place / "etc"
    return [files.Item(str(etc / "falco.yaml"), b"new"), files.Item(str(etc / "linked.yaml"), b"new"),
        files.Item(str(etc / "gone.yaml"), None),
            files.Item(str(etc / "config.d/zz.yaml"), b"made", 0o640)]


def content(place):
    return {str(path.relative_to(place)): path.read_text() for path in place.rglob("*") if path.is_file() and not path.is_symlink()}


def swapped(place, links=False):
    """The entries of a change that was swapped. links: as a restart has them, with its stage folders; else without."""
    found = items(place)
    staged, folders = files.stage(found, str(place / "state"), "token")
    old_links = files.keep_old(found, str(place / "state"), "token") if links else {}
    entries = [item.entry(staged, old_links) for item in found]
    assert not files.swapped(entries)
    files.swap(entries)
    assert files.swapped(entries)
    if not links:
        files.unstage(folders)
    return entries


def test_nothing_is_seen_of_a_change_before_its_swap(place):
    before = content(place)
    files.check_writable(items(place))
    dummy, folders = files.stage(items(place), str(place / "state"), "token")
    assert {name: text for name, text in content(place).items() if not name.startswith("state/")} == before
    files.unstage(folders)
    assert content(place) == before and os.listdir(place / "state") == []


def test_a_swap_keeps_links_modes_and_nothing_else(place):
    swapped(place)
    assert content(place) == {"etc/falco.yaml": "new", "srv/linked.yaml": "new", "etc/config.d/zz.yaml": "made"}
    assert (place / "etc/linked.yaml").is_symlink()
    assert stat.S_IMODE((place / "etc/falco.yaml").stat().st_mode) == 0o600
    assert stat.S_IMODE((place / "etc/config.d/zz.yaml").stat().st_mode) == 0o640


def test_everything_is_put_back_any_number_of_times(place):
    before = content(place)
    entries = swapped(place)
    for _number in range(2):
        assert files.restore(entries, str(place / "state"), "token") == []
        assert content(place) == before and (place / "etc/linked.yaml").is_symlink()
    assert stat.S_IMODE((place / "etc/falco.yaml").stat().st_mode) == 0o600


def test_a_stage_that_fails_leaves_nothing(place, monkeypatch):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_staged", fail)
    with pytest.raises(Failed, match="etc/falco.yaml can't be written: No space left on device; nothing was changed"):
        files.stage(items(place), str(place / "state"), "token")
    assert os.listdir(place / "state") == []


def test_folders_are_made_for_files_and_taken_back(place):
    new = [files.Item(str(place / "etc/falco.service.d/zz.conf"), b"new", 0o644), files.Item(str(place / "etc/none.d/x"), None)]
    made = files.missing_parents(new)
    files.make_parents(made)
    assert files.missing_parents(new) == [] and made == [str(place / "etc/falco.service.d")] and os.path.isdir(made[0])
    files.remove_directories(made)
    assert not os.path.exists(made[0])
    (place / "etc/config.d/kept").write_text("")
    files.remove_directories([str(place / "etc/config.d")])
    assert (place / "etc/config.d/kept").exists()


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_file_that_appears_in_the_last_moment_is_not_lost(place, monkeypatch, exchanges):
    """Between the comparison and the rename: the exchange takes it out, and it goes back."""
    staged, path = place / "state/staged", place / "etc/falco.yaml"
    staged.write_text("new")
    exchange, seen = files.renames.exchange, []

    def late(one, other):
        if not seen:
            path.write_text("theirs")
        seen.append(one)
        return exchange(one, other) if exchanges else False

    monkeypatch.setattr(files.renames, "exchange", late)
    old = files.digest_of(str(path))
    assert files._put(str(staged), str(path), old) is not exchanges
    assert (path.read_text() == "theirs") is exchanges, "a host without renameat2 has the comparison alone"


def test_a_file_that_somebody_makes_or_replaces_in_the_last_moment_stays(place):
    (place / "state/staged").write_text("new")
    (place / "etc/made").write_text("theirs")
    assert not files._put(str(place / "state/staged"), str(place / "etc/made"), None)
    assert not files._taken_out(str(place / "etc/made"), files.digest_of(str(place / "state/staged")), str(place / "state/kept"))
    assert (place / "etc/made").read_text() == "theirs" and not (place / "state/kept.out").exists()


def test_sysctls(tmp_path):
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/bpf_stats_enabled").write_text("0\n")
    assert files.sysctl(str(tmp_path), "kernel.bpf_stats_enabled") == "0" and files.sysctl(str(tmp_path), "kernel.none") == ""
    assert files.write_sysctls(str(tmp_path), {"kernel.bpf_stats_enabled": "1"}) == []
    assert files.sysctl(str(tmp_path), "kernel.bpf_stats_enabled") == "1"
    assert files.write_sysctls(str(tmp_path), {"fs.none": "1"}) == ["sysctl fs.none = 1 could not be set: No such file or directory"]
    files.check_sysctls(str(tmp_path), ["kernel.bpf_stats_enabled"])
    with pytest.raises(Failed, match="proc/sys/fs/none is not writable, and policy sets fs.none"):
        files.check_sysctls(str(tmp_path), ["fs.none"])


def test_undoing_by_the_second_names_needs_no_room_and_brings_the_old_file_back(place, monkeypatch):
    before, inode = content(place), (place / "etc/falco.yaml").stat().st_ino
    entries = swapped(place, links=True)
    assert (place / "etc/falco.yaml").stat().st_ino != inode

    def no_room(name, *dummy):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_staged", no_room)
    assert files.restore(entries, str(place / "state"), "token") == []
    assert {name: text for name, text in content(place).items() if not name.startswith("state/")} == before
    assert (place / "etc/falco.yaml").stat().st_ino == inode


def test_an_old_file_that_has_no_second_name_is_written_anew_and_the_answer_says_where_that_failed(place, monkeypatch):
    """The journal of an earlier version has none for files that were removed."""
    entries = swapped(place)

    def no_room(name, *dummy):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_staged", no_room)
    with pytest.raises(Failed, match="gone.yaml can't be put back: No space left on device"):
        files.restore(entries, str(place / "state"), "token")


@pytest.mark.parametrize("links", [True, False])
def test_without_hard_links_the_second_name_is_a_copy(place, monkeypatch, links):
    """links=False: for a hot reload, which a second name of the main file would keep from coming."""
    def refused(*dummy):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(files.os, "link", refused)
    found = items(place)
    dummy, folders = files.stage(found, str(place / "state"), "token")
    kept = files.keep_old(found, str(place / "state"), "token", links)
    assert sorted(os.path.basename(path) for path in kept) == ["falco.yaml", "gone.yaml", "linked.yaml"]
    copy = kept[str(place / "etc/falco.yaml")]
    assert open(copy).read() == "old etc/falco.yaml" and stat.S_IMODE(os.stat(copy).st_mode) == 0o600
    assert os.stat(place / "etc/falco.yaml").st_nlink == 1 and os.path.dirname(copy) in folders


@pytest.mark.parametrize("links", [False, True])
def test_what_a_third_party_wrote_stays(place, links):
    entries = swapped(place, links)
    (place / "srv/linked.yaml").write_text("theirs")
    assert files.restore(entries, str(place / "state"), "token") == [str(place / "etc/linked.yaml")]
    assert (place / "srv/linked.yaml").read_text() == "theirs" and (place / "etc/falco.yaml").read_text() == "old etc/falco.yaml"


def test_a_file_that_changed_since_it_was_read_is_not_replaced(place):
    found = items(place)
    staged, _folders = files.stage(found, str(place / "state"), "token")
    (place / "etc/falco.yaml").write_text("theirs")
    with pytest.raises(Failed, match="etc/falco.yaml was changed by somebody else while this change was made"):
        files.swap([item.entry(staged, {}) for item in found])
    assert (place / "etc/falco.yaml").read_text() == "theirs"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_link_that_takes_the_place_of_a_new_directory_gives_nothing_away(tmp_path, monkeypatch):
    """In Ubuntu the group syslog may write to /var/log."""
    (tmp_path / "etc").mkdir()
    made = tmp_path / "falco"

    def replaced(path, mode):
        made.symlink_to(tmp_path / "etc")

    monkeypatch.setattr(files.os, "mkdir", replaced)
    with pytest.raises(OSError):
        files.make_directories([str(made)], [65534, 65534])
    assert (tmp_path / "etc").stat().st_uid == 0
    made.unlink()
    monkeypatch.undo()
    files.make_directories([str(made)], [65534, 65534])
    assert (made.stat().st_uid, stat.S_IMODE(made.stat().st_mode)) == (65534, 0o750)


ETC, CONF = (b"system_u:object_r:%s:s0\0" % name for name in (b"etc_t", b"falco_conf_t"))


@pytest.fixture
def labelled(place):
    """The same with SELinux labels, which a file system keeps where no policy runs. They are of another place in the state directory."""
    try:
        for path in (place / "state", *(place / "state").rglob("*")):
            os.setxattr(path, "security.selinux", b"system_u:object_r:var_lib_t:s0\0")
        for path in [place / "etc", *(place / "etc").rglob("*")]:
            os.setxattr(path, "security.selinux", CONF if path.name == "falco.yaml" else ETC)
    except OSError as error:
        pytest.skip("no SELinux labels here: %s" % error.strerror)
    return place


@pytest.mark.parametrize("links", ["links", "copies", "none"])
def test_labels_are_kept_and_a_new_file_has_its_places(labelled, links, monkeypatch):
    def label(name):
        return os.getxattr(labelled / name, "security.selinux")

    if links == "copies":
        monkeypatch.setattr(files.os, "link", lambda *dummy: (_ for _ in ()).throw(OSError("no links")))
    entries = swapped(labelled, links=links != "none")
    assert content(labelled)["etc/falco.yaml"] == content(labelled)["etc/config.d/zz.yaml"].replace("made", "new") == "new"
    assert (label("etc/falco.yaml"), label("srv/linked.yaml"), label("etc/config.d/zz.yaml")) == (CONF, ETC, ETC)
    assert files.restore(entries, str(labelled / "state"), "token") == []
    assert content(labelled)["etc/falco.yaml"] == "old etc/falco.yaml"
    assert (label("etc/falco.yaml"), label("srv/linked.yaml")) == (CONF, ETC)
    assert label("etc/gone.yaml") == (CONF if links == "none" else ETC)  # a neighbour's, where nothing else is left


def test_a_bind_mount_is_found_before_the_stop_and_not_by_the_rename(tmp_path, monkeypatch):
    """It has the device of the directory that holds the state, and a rename into it fails with EXDEV."""
    for name in ("falco/config.d", "state"):
        (tmp_path / name).mkdir(parents=True)
    mounts = {str(tmp_path / "falco/config.d"): "/config.d", str(tmp_path / "falco"): "/", str(tmp_path / "state"): "/"}
    monkeypatch.setattr(files.host, "mount_of", mounts.get)
    with pytest.raises(Failed, match="is on a file system or bind mount of its own.*set falco_tune_state_dir to a directory on that mount"):
        files.stage_folder(str(tmp_path / "falco/config.d"), str(tmp_path / "state"), "token-1")
    mounts[str(tmp_path / "falco")] = "/config.d"
    assert files.stage_folder(str(tmp_path / "falco/config.d"), str(tmp_path / "state"), "token-1") == str(
        tmp_path / "falco/.falcotune-token-1")
