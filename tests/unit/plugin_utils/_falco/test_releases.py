# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases


def test_every_release_of_the_table_is_taken_and_older_ones_are_refused():
    for minor in range(33, 45):
        assert str(releases.release_for("0.%d.0" % minor)) == "0.%d.0" % minor
    with pytest.raises(releases.UnsupportedRelease, match="older than 0.33"):
        releases.release_for("0.32.1")
    with pytest.raises(releases.UnsupportedRelease, match="not a Falco version"):
        releases.release_for("Fastly")


def test_newer_release_is_the_newest_known_with_a_warning():
    release = releases.release_for("0.46.0")
    assert release.table == releases.NEWEST
    assert "0.46.0 is newer" in release.warning


@pytest.mark.parametrize("version, driver, preset, cpus", [
    ("0.33.0", "kmod", ("syscall_buf_size_preset",), ()),
    ("0.36.2", "modern_ebpf", ("syscall_buf_size_preset",), ("modern_bpf.cpus_for_each_syscall_buffer",)),
    ("0.37.1", "modern_ebpf", ("engine.modern_ebpf.buf_size_preset", "syscall_buf_size_preset"),
     ("engine.modern_ebpf.cpus_for_each_buffer", "modern_bpf.cpus_for_each_syscall_buffer")),
    ("0.38.2", "ebpf", ("engine.ebpf.buf_size_preset",), ()),
    ("0.44.1", "modern_ebpf", ("engine.modern_ebpf.buf_size_preset",), ("engine.modern_ebpf.cpus_for_each_buffer",)),
])
def test_buffer_keys(version, driver, preset, cpus):
    keys = releases.release_for(version).buffer_keys(driver)
    assert keys == {"buf_size_preset": preset, "cpus_for_each_buffer": cpus}


def test_drivers_by_release():
    assert releases.release_for("0.33.0").drivers == ("kmod", "ebpf")
    assert releases.release_for("0.43.0").drivers == ("kmod", "ebpf", "modern_ebpf")
    assert releases.release_for("0.44.0").drivers == ("kmod", "modern_ebpf")


def test_early_scrape_is_survived_since_0_41_1():
    assert not releases.release_for("0.41.0").scrape_before_capture
    assert releases.release_for("0.41.1").scrape_before_capture
