# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program that makes system calls at a steady pace and counts them itself, where others can read it. Stdlib only.

syscall_load.py FILE RATE makes rounds, so many a second, until it is killed; a round makes each of CALLS once. FILE holds the number
of rounds and of batches of them (64 bits each), and a ring of (monotonic time in ns, rounds made by then), one for each batch.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import struct
import sys
import time
from pathlib import Path

# name in the kernel's table: (number on x86_64, on aarch64, arguments)
TABLE = {
    "getppid": (110, 173, ()), "getpgid": (121, 155, (0,)), "times": (100, 153, (0,)),
    "getitimer": (36, 102, (-1, 0)), "ioprio_get": (252, 31, (0, 0)),
    "fstat": (5, 80, (0, 0)), "stat": (4, None, (0, 0)), "sendfile": (40, 71, (-1, -1, 0, 0)), "umount2": (166, 39, (0, 0)),
    "pread64": (17, 67, (-1, 0, 0, 0)), "uname": (63, 160, (0,)), "openat2": (437, 437, (-1, 0, 0, 0)),
    "openat": (257, 56, (-100, b"/", 0, 0)), "close": (3, 57, None),
}
COLUMN = {"x86_64": 0, "aarch64": 1}.get(platform.machine())
CALLS = [name for name, row in TABLE.items() if COLUMN is not None and row[COLUMN] is not None]
# Nobody else makes these often; whoever else is on the machine makes the others too, all the time.
RARE = ("getpgid", "times", "getitimer", "ioprio_get")
HEAD = struct.Struct("<QQ")
MOMENT = struct.Struct("<QQ")
MOMENTS = 1 << 15
SIZE = HEAD.size + MOMENTS * MOMENT.size


class Counters:
    """The load's own count."""

    def __init__(self, path):
        with open(path, "r+b") as stream:
            self.map = mmap.mmap(stream.fileno(), SIZE)

    def rounds(self) -> int:
        return HEAD.unpack(self.map[:HEAD.size])[0]

    def windows(self, began: float, ended: float, seconds: float) -> tuple[float, float]:
        """The least and the most rounds that were made in any so long a part of this time."""
        moments = sorted(MOMENT.iter_unpack(self.map[HEAD.size:]))
        moments = [(at / 1e9, made) for at, made in moments if began * 1e9 <= at <= ended * 1e9]
        found, late = [], 0
        for at, made in moments:
            while late < len(moments) and moments[late][0] < at + seconds:
                late += 1
            if late == len(moments):
                break
            (before, less), (after, more) = moments[late - 1], moments[late]
            found.append(less + (more - less) * (at + seconds - before) / (after - before) - made)
        return min(found), max(found)


def run(path: Path, rate: int) -> None:
    counters = Counters(path)
    call = ctypes.CDLL(None, use_errno=False).syscall
    rows = [(TABLE[name][COLUMN], TABLE[name][2]) for name in CALLS]
    now = time.monotonic_ns
    ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
    began, made, batches = now(), 0, 0
    while True:
        due = (now() - began) * rate // 10**9
        for _time in range(due - made):
            descriptor = -1
            for number, arguments in rows:
                if arguments is None:
                    call(number, descriptor)
                else:
                    result = call(number, *arguments)
                    descriptor = result if result > 2 else descriptor
            made += 1
            HEAD.pack_into(counters.map, 0, made, batches)
        MOMENT.pack_into(counters.map, HEAD.size + batches % MOMENTS * MOMENT.size, now(), made)
        batches += 1
        time.sleep(0.002)


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]))
