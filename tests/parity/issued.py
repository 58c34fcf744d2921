# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Traces each action with strace and notes how it comes by what its event reads: issued.py FOLDER. Needs no Falco.

scenarios.json gets `events`, the marked calls, and `history`: for each subject of the state model the calls in the history of what they
read (history.py follows it through the trace). stock.json gets `calls`: kernel names of the state calls that an action
issues beside those of every program (a shell, the loader and a plain open).
"""

import collections
import contextlib
import json
import re
import subprocess
import sys

import conftest  # noqa: F401 - makes the collection importable
import corpus
import history
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.syscall_names import names_for

RELEASE = "0.44.1"
SCAFFOLDING = "dir_openat"
OF_ITS_OWN = {"openat": 2}  # what that scenario opens itself
CALL = re.compile(r"^\d+ +([a-z0-9_]+)\((.*)")
FAILED = re.compile(r"= -1 E(?!INPROGRESS|PERM)")


class Trace(history.Trace):
    """Notes the marked calls too, and what a descriptor was in the process from which pidfd_getfd takes it."""

    def __init__(self, scenario):
        super().__init__(scenario)
        self.pids, self.events = {}, set()

    def step(self, process, pid, call, arguments, given, result):
        super().step(process, pid, call, arguments, given, result)
        if call == "pidfd_open":
            self.pids[pid, result] = given[0]
        elif call == "pidfd_getfd":
            source = self.process(self.pids.get((pid, int(given[0]))))
            process.fds[result] = process.fds[result] | source.fds.get(int(given[1]), set())

    def look(self, process, call, given, result):
        super().look(process, call, given, result)
        self.events.add(call)


def main(folder):
    bench = corpus.Corpus(folder)
    bench.close()
    bench.stage()
    for one in (*corpus.SCENARIOS, *corpus.STOCK):
        trace(bench, one)
    for one in corpus.SCENARIOS:
        found = Trace(one)
        found.play(place(bench, one).read_text(errors="replace"))
        one["history"] = {subject: sorted(calls) for subject, calls in sorted(found.ways.items()) if calls}
        one["events"] = sorted(found.events)
    base = issued(bench, {"id": SCAFFOLDING})
    base.subtract(OF_ITS_OWN)
    # Every program closes descriptors, and strace does not see how a process ends.
    state = names_for(RELEASE).state - {"close", "close_range", "sched_process_exit"}
    for one in corpus.STOCK:
        one["calls"] = sorted(name for name, count in issued(bench, one).items() if count > base[name] and name in state)
    for name, actions in (("scenarios", corpus.SCENARIOS), ("stock", corpus.STOCK)):
        (corpus.HERE / (name + ".json")).write_text("[\n%s\n]\n" % ",\n".join(json.dumps(one) for one in actions))


def place(bench, one):
    return bench.programs.parent / (one["id"] + ".strace")


def trace(bench, one):
    env = dict(bench.environment(), I=one["id"], N=str(one.get("n", 0)), S=str(bench.root / one["id"]))
    command = ["strace", "-f", "-qq", "-o", str(place(bench, one)), "bash", "-c", one["cmd"]]
    # What traces itself hangs under strace; what it issued before counts.
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(command, env=env, timeout=20, check=False,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def issued(bench, one):
    matches = (CALL.match(line) for line in place(bench, one).read_text(errors="replace").splitlines())
    return collections.Counter(match[1] for match in matches if match and not FAILED.search(match[2]))


if __name__ == "__main__":
    main(*sys.argv[1:])
