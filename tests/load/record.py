# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records what a real Falco does under load.py's loads, for tests/conformance/test_loads.py. As root, with autogroup off:

    FALCO_BIN=/usr/bin/falco .venv/bin/python tests/load/record.py tests/conformance/fixtures/0.44.1/loads.json

What the file holds already is kept: each name has a list of runs. Names after the file are those to run. Each run has a Falco of its
own; the first name of a load tells what the others are predicted from. The seconds are a multiple of the bursts' period, so that each
run has as many.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import conftest  # noqa: E402, F401
from looped import autogroup  # noqa: E402
from watched import Load, Watched, loaded  # noqa: E402

CPUS, SECONDS, WARM_UP = os.cpu_count() or 1, 15.0, 6.0
BURSTS, CROWD = {"workers": 1, "burst": (0.2, 1.5)}, {"workers": 5 * CPUS}
# name: (the load, nice value of Falco)
RUNS = {
    "steady": (Load("", workers=1, rate=10000.0), 0),
    "bursts": (Load("", **BURSTS, heavy=12), 0),
    "bursts preset 1": (Load("", **BURSTS, preset=1, heavy=12), 0),
    "bursts preset 2": (Load("", **BURSTS, preset=2, heavy=12), 0),
    "bursts preset 3": (Load("", **BURSTS, preset=3, heavy=12), 0),
    "bursts preset 6": (Load("", **BURSTS, preset=6, heavy=12), 0),
    "one worker": (Load("", workers=1), 0),
    "one worker 12 rules": (Load("", workers=1, heavy=12), 0),
    "one worker 30 rules": (Load("", workers=1, heavy=30), 0),
    "one worker 60 rules": (Load("", workers=1, heavy=60), 0),
    "crowd": (Load("", **CROWD), 0),
    "crowd preset 7": (Load("", **CROWD, preset=7), 0),
    "crowd nice -10": (Load("", **CROWD), -10),
    "crowd 60 rules": (Load("", **CROWD, heavy=60), 0),
    "crowd 60 rules nice -10": (Load("", **CROWD, heavy=60), -10),
}


def recorded(binary: str, load: Load, nice: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        falco = Watched(binary, Path(folder), load.preset, load.heavy, nice)
        try:
            with loaded(load, WARM_UP + SECONDS + 60):
                falco.measured(WARM_UP)
                found = falco.measured(SECONDS)
        finally:
            falco.stop()
    return {"workers": load.workers, "rate": load.rate, "burst": load.burst, "heavy_rules": load.heavy, "buf_size_preset": load.preset,
            "cpus_for_each_buffer": 2, "cpus": CPUS, "nice": nice, **found}


def main() -> None:
    path, names = Path(sys.argv[1]), sys.argv[2:] or RUNS
    found = json.loads(path.read_text()) if path.exists() else {}
    with autogroup(False):
        for name in names:
            found.setdefault(name, []).append(recorded(os.environ["FALCO_BIN"], *RUNS[name]))
            print(name, found[name][-1], flush=True)
    path.write_text(json.dumps({name: found[name] for name in RUNS if name in found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
