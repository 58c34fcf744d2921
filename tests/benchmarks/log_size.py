# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two snapshots out of a large log over the same out of a small one: only the end of either may be read."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import time
from pathlib import Path

from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import snapshots

FIXTURES = Path(__file__).resolve().parents[1] / "unit" / "fixtures" / "metrics"
MIB = 1 << 20
ALERTS = 10  # between two snapshots, one of these a second


def lines(numbers: range) -> bytes:
    """What Falco wrote in these seconds of its run: recorded lines with counters that go on."""
    snapshot = json.loads((FIXTURES / "0.44.1-B.alerts.jsonl").read_text().splitlines()[-1])
    alert = next(line for line in (FIXTURES / "0.38.2-B.alerts.jsonl").read_text().splitlines() if '"priority":"Warning"' in line)
    fields, found = snapshot["output_fields"], []
    start = fields["falco.start_ts"]
    for number in numbers:
        for name, value in (("evt.time", start + number * 10**9), ("scap.n_evts", 4000 * number), ("scap.n_evts_prev", 4000 * (number - 1)),
                            ("falco.num_evts", 3700 * number)):
            fields[name] = value
        found += [alert] * ALERTS + [json.dumps(snapshot, separators=(",", ":"))]
    return "".join(line + "\n" for line in found).encode()


def write(path: Path, mebibytes: int, block: bytes, end: bytes) -> None:
    """So many MiB, the last one `end` and the others `block`."""
    with open(path, "wb", buffering=0) as stream:
        for _number in range(mebibytes - 1):
            stream.write(block)
        stream.write(end)


def measure(folder: Path, pairs: int, large: int = 1024) -> list[str]:
    """Lines of results; raises where a log isn't read as it was written."""
    if shutil.disk_usage(folder).free < (large + 512) * MIB:
        raise SystemExit(f"{folder} has no room for a log of {large} MiB")
    text = lines(range(10**6, 10**6 + 1000))
    block, end = text[:MIB], text[-MIB:]
    if len(text) < 2 * MIB:
        raise SystemExit("the recorded lines are too short")

    sizes = {"small": 1, "large": large}
    took, found = {name: [] for name in sizes}, {}
    try:
        for name, size in sizes.items():
            write(folder / name, size, block, end)
            if os.path.getsize(folder / name) != size * MIB:
                raise SystemExit(f"the {name} log was not written whole")
        for number in range(pairs + 1):
            for name in sorted(sizes, reverse=number % 2 == 0):
                before = time.perf_counter()
                found[name] = snapshots.gather({"alerts_file": str(folder / name)}, limits={"min_seconds": 60})
                if number:  # the first look warms the page cache
                    took[name].append(time.perf_counter() - before)
    finally:
        for name in sizes:
            (folder / name).unlink(missing_ok=True)
    if {item["seconds"] for item in found.values()} != {60.0} or found["small"]["last"] != found["large"]["last"]:
        raise SystemExit("the logs were not read as they were written")
    small, big = (statistics.median(took[name]) for name in ("small", "large"))
    return [
        f"two snapshots, 60 s apart, from a log of {large} MiB / one of 1 MiB: {big / small:.2f} (medians of {pairs} pairs: "
        f"{big * 1e3:.2f} ms / {small * 1e3:.2f} ms; goal at most 1.2)",
        f"bytes read: {found['large']['bytes_read']} of {large * MIB} / {found['small']['bytes_read']} of {MIB}",
    ]
