# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts with strace which state calls each action issues, and notes them (kernel names) as `calls` in scenarios.json and stock.json:
issued.py FOLDER. Needs no Falco.

What every program does (the scaffolding: a shell, the loader and a plain open) does not count. Every program closes descriptors, so
close and close_range count only for the scenarios that describe the reuse of a number.
"""

import collections
import contextlib
import json
import re
import subprocess
import sys

import conftest  # noqa: F401 (makes the collection importable)
import corpus
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.syscall_names import names_for

RELEASE = "0.44.1"
SCAFFOLDING = "dir_openat"
OF_ITS_OWN = {"openat": 2}  # what that scenario opens itself
CLOSERS = {"close", "close_range"}
CALL = re.compile(r"^\d+ +([a-z0-9_]+)\((.*)")
FAILED = re.compile(r"= -1 E(?!INPROGRESS|PERM)")


def main(folder):
    of_strace = {name for name in names_for(RELEASE).state if name != "sched_process_exit"}
    bench = corpus.Corpus(folder)
    bench.stage()

    def issued(one, number):
        trace = bench.root.parent / "trace"
        env = dict(bench.environment(), I=one["id"], N=str(number), S=str(bench.root / one["id"]))
        command = ["strace", "-f", "-qq", "-o", str(trace), "-e", "trace=" + ",".join("?" + name for name in sorted(of_strace)),
                   "bash", "-c", one["cmd"]]
        # What traces itself hangs under strace; what it issued before counts.
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(command, env=env, timeout=20, check=False,
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        matches = (CALL.match(line) for line in trace.read_text(errors="replace").splitlines())
        return collections.Counter(match[1] for match in matches if match and not FAILED.search(match[2]))

    base = issued(next(one for one in corpus.SCENARIOS if one["id"] == SCAFFOLDING), 31000)
    base.subtract(OF_ITS_OWN)
    for name, actions in (("scenarios", corpus.SCENARIOS), ("stock", corpus.STOCK)):
        for one in actions:
            calls = {call for call, count in issued(one, one.get("n", 0)).items() if count > base[call]}
            one["calls"] = sorted(calls if "stale" in one.get("mech", "") else calls - CLOSERS)
        (corpus.HERE / (name + ".json")).write_text("[\n%s\n]\n" % ",\n".join(json.dumps(one) for one in actions))


if __name__ == "__main__":
    main(*sys.argv[1:])
