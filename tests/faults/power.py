# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A power cut at a point of a run: what is on disk at the next boot, and whether Falco starts with it."""

from __future__ import annotations

import random
from pathlib import Path

from disk import Disk
from faults import label, writes
from scenes import Scene, Watch, broken_off, seen
from stand_in import Manager


def cut_seed(seed: int, base: Path, cache: dict, points: int = 10, kind: str | None = None, kept_of=None, between=None, **more) -> dict:
    """{'violations': [(point, text)], 'points', 'mixed' (boots with some old and some new files)} of one scene.

    points: how many. between: labels of two calls; each point from the one to the other instead. kept_of: see Disk.after_cut().
    """
    scene = Scene(seed, kind, **more)
    new = scene.reference(base, cache)["new"]
    host = scene.host(base)
    rng = random.Random(seed + 1)
    violations, mixed, told = [], 0, []
    try:
        conductor = host.conductor
        old = seen(host)
        disk, first = Disk(host.root, host.mounts, conductor.mount), len(conductor.calls)
        if scene.kind == "recovery":
            faults = broken_off(host, scene.rng.randrange(len(scene.reference(base, cache)["change"])))
            host.run(scene.what)
            faults.over()
        host.run(scene.faulty())
        calls = conductor.calls[first:]
        disk.record(calls)
        # Where nothing is written in between, one point is like the next.
        places = [number for number, entry in enumerate(calls) if writes(entry)] + [len(calls)]
        if between:
            first, last = (next(number for number, entry in enumerate(calls) if label(entry).startswith(start)) for start in between)
            chosen = [number for number in places if first <= number <= last]
        else:
            chosen = sorted(rng.choices(places, k=points))
        for point in chosen:
            found, lost = disk.after_cut(point, rng, kept_of)
            host.manager.shutdown()
            disk.write(found)
            (host.root / "proc/sys/kernel/bpf_stats_enabled").write_text("0\n")
            host.manager = Manager(conductor, host.root, host.restart, host.watches)
            watch = Watch(host, scene, old, new)
            conductor.say("CUT before call %d (%s): %s" % (point, label(calls[point]) if point < len(calls) else "the end", lost))
            begin = len(conductor.trace) - 1
            host.manager.boot()
            host.rest(61)
            watch.booted()
            mixed += seen(host) not in (old, new)
            watch.next_runs()
            if watch.violations:
                violations += [(point, text) for text in watch.violations]
                told += conductor.trace[begin:]
        return {"violations": violations, "points": len(chosen), "mixed": mixed, "trace": told, "scene": scene.key}
    finally:
        host.close()
