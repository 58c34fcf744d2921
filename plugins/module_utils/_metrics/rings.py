# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Falco's ring buffers, as its process and its log show them."""

import re

from ansible_collections.falcotune.fleet.plugins.module_utils._host import systemd


def mapped(maps, driver, page_size):
    """Ring buffers in a process's memory map, {bytes: number}; empty where there are none.

    maps: text of /proc/PID/maps. How each driver maps its rings: modern_ebpf one page of positions and then
    the data twice (libbpf's ring_buffer__add); kmod the data twice (libscap's scap_kmod.c); ebpf one page and
    the data, with the second copy at an offset (scap_bpf.c).
    """
    found = {}
    for line in maps.splitlines():
        match = re.match(r"^([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+) \S+ \d+\s+(.+)$", line)
        if not match:
            continue
        length = int(match.group(2), 16) - int(match.group(1), 16)
        kind, offset, name = match.group(3), int(match.group(4), 16), match.group(5)
        size = None
        if driver == "modern_ebpf" and "bpf-map" in name and kind == "r--s" and offset == page_size:
            size = (length - page_size) // 2
        elif driver == "kmod" and re.match(r"^/dev/\w+\d+$", name) and kind == "r--s":
            size = length // 2
        elif driver == "ebpf" and "[perf_event]" in name and kind == "rw-s" and offset == 0:
            size = length - page_size
        if size and size >= 1 << 20:
            found[size] = found.get(size, 0) + 1
    return found


def in_log(process, since):
    """The buffer size that this process logged, in bytes, or None.

    Syslog may be off; stdout is null under the packages' units.
    """
    status, out, dummy = systemd.run(
        [
            "journalctl",
            "--quiet",
            "--no-pager",
            "--output=cat",
            "--lines=400",
            "--since=@%d" % (since - 1),
            "_PID=%d" % process.pid,
        ],
        timeout=20,
    )
    if status != 0:
        return None
    sizes = re.findall(r"The chosen syscall buffer dimension is: (\d+) bytes", out)
    return int(sizes[-1]) if sizes else None
