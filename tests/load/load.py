# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A load that Falco watches by default: opens and closes of /dev/null, in this machine's own files alone. Stdlib only.

load.py WORKERS SECONDS [RATE] [BURST EVERY]

WORKERS processes (at most 32) open and close for SECONDS (at most 900), then end; they end with their parent, too. RATE: rounds
a second of each worker, as many as it can otherwise. BURST EVERY: seconds of work in each so many seconds.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

MOST_WORKERS, MOST_SECONDS = 32, 900.0
ROUNDS = 50  # between two looks at the clock


def work(ended: float, rate: float, burst: float, every: float) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    began, made = time.monotonic(), 0
    while (now := time.monotonic()) < ended:
        if every and now % every >= burst:
            time.sleep(min(every - now % every, ended - now))
            continue
        if rate and made >= rate * (now - began):
            time.sleep(0.001)
            continue
        for _round in range(ROUNDS):
            os.close(os.open("/dev/null", os.O_RDONLY))
        made += ROUNDS


def main() -> None:
    workers, seconds, *rest = (float(word) for word in sys.argv[1:])
    rate, burst, every = (*rest, 0.0, 0.0, 0.0)[:3]
    ended = time.monotonic() + min(seconds, MOST_SECONDS)
    children = []
    for _number in range(min(int(workers), MOST_WORKERS)):
        child = os.fork()
        if child == 0:
            work(ended, rate, burst, every)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
