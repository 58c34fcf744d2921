# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host ends with whose change is killed in some phase: for tests/integration, which compares it with stand-in hosts in real time.

    python killed.py FOLDER SECONDS PHASE:VICTIM …   prints {"PHASE:VICTIM": {…}} as JSON
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from faults import Fault, Faults
from host import STATE
from scenes import Scene, Watch, seen

VICTIMS = {"worker": ("worker",), "everyone": None}
# As a change writes them to its journal.
PHASES = ("staged", "kept", "stopping", "stopped", "swapped", "started")
HOST = {"mounts": (), "restart": True, "before": True, "full": False, "unit": False, "logrotate": True, "sysctl": False, "apply": "restart"}


def ends(base: Path, cache: dict, phase: str, victim: str, seconds: float) -> dict:
    """seconds: from the end of the run to the look at the host."""
    scene = Scene(1, "change", **HOST)
    reference = scene.reference(base, cache)
    written = [number for number, entry in enumerate(reference["calls"])
               if (entry["kind"], entry["name"], entry["paths"][-1:]) == ("worker", "rename", [f"{STATE}/journal.json"])]
    host = scene.host(base)
    try:
        old = seen(host)
        faults = Faults(host, [Fault(written[PHASES.index(phase)] + 1, "kill", victims=VICTIMS[victim])])
        answer = host.run(scene.what)
        faults.over()
        host.rest(seconds)
        now = seen(host)
        found = {"files": {True: "old", False: "new" if now == reference["new"] else "mixed"}[now == old], "runs": host.manager.up,
                 "undone": answer and answer.get("undone")}
        watch = Watch(host, scene, old, reference["new"])
        watch.next_runs()
        return {**found, "then": watch.violations or "new"}
    finally:
        host.close()


if __name__ == "__main__":
    print(json.dumps({case: ends(Path(sys.argv[1]), {}, *case.split(":"), float(sys.argv[2])) for case in sys.argv[3:]}))
