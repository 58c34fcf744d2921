# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever fails, and whenever: Falco runs, every file is old, new or a third party's, and the next run leaves nothing behind.

FALCOTUNE_FAULTS=1000 runs a thousand seeds, power cuts and editors instead of fifty. FALCOTUNE_SEED=N runs one and shows what happened.
"""

from __future__ import annotations

import os

import pytest

from disk import Disk
from editors import edit_seed
from faults import errnos, label, writes
from power import cut_seed
from scenes import KINDS, Scene, run_seed

SEEDS = int(os.environ.get("FALCOTUNE_FAULTS", "50"))
ONE = os.environ.get("FALCOTUNE_SEED")
# A test takes so many seeds, so that several processes share them.
BLOCK = max(10, SEEDS // 20)
CUTS = 10  # power cuts a run


def blocks(number: int):
    if ONE:
        return [range(int(ONE), int(ONE) + 1)]
    return [range(first, min(first + BLOCK, number)) for first in range(0, number, BLOCK)]


def told(seeds) -> str:
    return f"{seeds.start}-{seeds.stop - 1}"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tmp_path_factory.mktemp("hosts")


@pytest.fixture(scope="module")
def cache():
    return {}


class Part:
    """One block of seeds: goes on after a violation, and names all of them at its end."""

    def __init__(self, test: str, record_property):
        self.test, self.record, self.wrong = test, record_property, []

    def took(self, seed: int, result: dict, **counts: int) -> None:
        for name, number in {**counts, "violations": len(result["violations"])}.items():
            self.record(name, number)
        if result["violations"] or ONE:
            print("\n".join(result["trace"]))
            print("answer:", result.get("answer"))
        if result["violations"]:
            replay = f"FALCOTUNE_SEED={seed} python -m pytest tests/faults -k {self.test} -s"
            self.wrong.append(f"seed {seed}: {result['scene']}\n{result.get('faults')}\n{result['violations']}\nreplay: {replay}")

    def ends(self) -> None:
        assert not self.wrong, f"{len(self.wrong)} seeds\n" + "\n".join(self.wrong)


def test_every_call_of_a_transaction_is_a_point(base, cache):
    """A change, an undo, a recovery and a rollback, observed. A point is a call by name, process and object that can fail."""
    points: dict[str, int] = {}
    for kind in KINDS:
        scene = Scene(1, kind, mounts=("var", "var/log"), before=kind == "rollback", full=False, unit=True, logrotate=True, sysctl=True,
                      apply="restart")
        for entry in scene.reference(base, cache)["calls"]:
            if errnos(entry):
                name = f"{kind}: {label(entry)}"
                points[name] = points.get(name, 0) + 1
    print("\n".join(f"{count:3} {name}" for name, count in sorted(points.items())))
    print(f"{len(points)} points, {sum(points.values())} calls")
    assert len(points) >= 200
    for needed in ("change: worker rename var/lib/falcotune/.falcotune-*/var/lib/falcotune/journal.json", "change: watchdog fork",
                   "change: worker fsync var/lib/falcotune", "change: worker move etc/falco/.falcotune-token-*",
                   "undo: worker rename etc/falco/config.d", "rollback: worker run systemctl stop", "recovery: module open"):
        assert any(name.startswith(needed) for name in points), needed


@pytest.mark.parametrize("seeds", blocks(SEEDS), ids=told)
def test_faults(seeds, base, cache, record_property):
    part = Part("test_faults", record_property)
    for seed in seeds:
        result = run_seed(seed, base, cache)
        part.took(seed, result, seeds=1, faults=len(result["faults"]))
    part.ends()


@pytest.mark.parametrize("seeds", blocks(SEEDS // CUTS), ids=told)
def test_power_cuts(seeds, base, cache, record_property):
    """Some points of each run, with what no fsync has forced lost or kept, for each file system apart."""
    part = Part("test_power_cuts", record_property)
    for seed in seeds:
        result = cut_seed(seed, base, cache, CUTS)
        if result["mixed"]:
            result["violations"].append(f"after {result['mixed']} boots some files are old and some are new")
        part.took(seed, result, **{"power cuts": result["points"]})
    part.ends()


@pytest.mark.parametrize("seeds", blocks(SEEDS), ids=told)
def test_edits(seeds, base, cache, record_property):
    part = Part("test_edits", record_property)
    for seed in seeds:
        result = edit_seed(seed, base, cache)
        part.took(seed, result, **{"runs with an editor": 1, "edits": result["edits"]})
    part.ends()


def test_the_disk_after_all_calls_is_the_disk(base, cache):
    """The model of the disk: where nothing is lost, it is what the calls have left."""
    import random
    for kind in KINDS:
        scene = Scene(3, kind, apply="restart", mounts=("var",))
        host = scene.host(base)
        try:
            disk, first = Disk(host.root, host.mounts, host.conductor.mount), len(host.conductor.calls)
            host.run(scene.faulty())
            calls = host.conductor.calls[first:]
            disk.record(calls)
            found, _lost = disk.after_cut(len(calls), random.Random(1), {"": 1.0, "var": 1.0})
            now = Disk(host.root, host.mounts, host.conductor.mount).after_cut(0, random.Random(1))[0]
            by_falco = ("var/log", "run", "proc")
            assert {path: data for path, data in found.items() if not path.startswith(by_falco) and path != "var/lib/falcotune/lock"} == {
                path: data for path, data in now.items() if not path.startswith(by_falco) and path != "var/lib/falcotune/lock"}
            assert any(writes(entry) for entry in calls)
        finally:
            host.close()
