# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Falco's ring buffers in its memory map."""

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import rings

# As a running 0.44.1 with one ring of 16 MiB had them.
MODERN = """\
7f01d02b9000-7f01d22ba000 r--s 00001000 00:10 1038                       anon_inode:bpf-map
7f01d834e000-7f01d83fc000 r--s 00000000 00:10 1038                       anon_inode:bpf-map
7f01dbd35000-7f01dbd36000 rw-s 00000000 00:10 1038                       anon_inode:bpf-map
7f01dbd36000-7f01dbd37000 rw-s 00000000 00:10 1038                       anon_inode:bpf-map
7f01dbe00000-7f01dbe21000 rw-p 00000000 00:00 0
7ffd0a1b2000-7ffd0a1d3000 rw-p 00000000 00:00 0                          [stack]
"""
KMOD = """\
7f01d0000000-7f01d1000000 r--s 00000000 00:06 512                        /dev/falco0
7f01d1000000-7f01d1001000 rw-s 00000000 00:06 512                        /dev/falco0
7f01d2000000-7f01d3000000 r--s 00000000 00:06 513                        /dev/falco1
7f01d3000000-7f01d3001000 rw-s 00000000 00:06 513                        /dev/falco1
"""
EBPF = """\
7f01d0000000-7f01d0801000 rw-s 00000000 00:10 1038                       anon_inode:[perf_event]
7f01d0801000-7f01d1001000 rw-s 00001000 00:10 1038                       anon_inode:[perf_event]
"""


@pytest.mark.parametrize("maps,driver,found", [
    (MODERN, "modern_ebpf", {16 << 20: 1}),
    (KMOD, "kmod", {8 << 20: 2}),
    (EBPF, "ebpf", {8 << 20: 1}),
    (MODERN, "kmod", {}),
    (KMOD, "modern_ebpf", {}),
    ("", "modern_ebpf", {}),
    ("no map at all\n", "ebpf", {}),
])
def test_rings_are_seen_in_the_memory_map(maps, driver, found):
    assert rings.mapped(maps, driver, 4096) == found
