# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of a synthetic fleet → model, every form of the report in a folder, and the history. In a process of its own,
whose peak memory is that of this work alone."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import synthetic_audit

GOAL = "goal: under 10 s and 500 MiB"


def peak() -> float:
    """MiB that this process had at most until now."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def work(hosts: int, points: int) -> dict:
    from ansible_collections.falcotune.fleet.plugins.action import falco_report as action
    from ansible_collections.falcotune.fleet.plugins.plugin_utils._action import collector
    from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import models, terminal
    from ansible_collections.falcotune.fleet.plugins.plugin_utils._report.history import History

    results = synthetic_audit.audit_results(hosts, history=points)
    previous = synthetic_audit.previous_of(results)
    found = {"hosts": hosts, "points": points, "before": peak(), "steps": [], "bytes": {}}
    # As the action falco_report does.
    with collector.paused(), tempfile.TemporaryDirectory(prefix="falcotune-bench-") as name:
        folder = Path(name)

        def step(title, action):
            started, used = time.perf_counter(), time.process_time()
            value = action()
            found["steps"].append((title, time.perf_counter() - started, time.process_time() - used))
            return value

        def write(title, make):
            step(title, lambda: action._replace(str(folder / title), make(model), 0o600))
            found["bytes"][title] = (folder / title).stat().st_size

        model = step("model", lambda: models.assemble(results, synthetic_audit.POLICY, synthetic_audit.META, previous))
        # The model is what the forms read; an audit has nothing else of its hosts by then.
        results = previous = None
        for title, make in (*action.MAKERS.items(), ("terminal", terminal.to_terminal)):
            write(title, make)

        def remember():
            with History(folder / "history") as history:
                history.add(model)
        step("history", remember)
    found["peak"] = peak()
    return found


def measure(hosts: int, points: int = 60) -> list[str]:
    """Lines of results."""
    run = subprocess.run([sys.executable, __file__, str(hosts), str(points)], check=True, stdout=subprocess.PIPE, text=True,
                         env={"PYTHONPATH": ":".join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"})
    found = json.loads(run.stdout)
    total, cpu = (sum(step[index] for step in found["steps"]) for index in (1, 2))
    return [
        "  %s of %s" % (", ".join("%s %.2f s" % (title, seconds) for title, seconds, _ in found["steps"]),
                        ", ".join("%s %.1f MB" % (title, size / 1e6) for title, size in found["bytes"].items())),
        "reports of %d hosts with %d earlier audits each: %.1f s (%.1f s of CPU), peak memory %.0f MiB, %.0f MiB of it the results "
        "before any report (%s)" % (found["hosts"], found["points"], total, cpu, found["peak"], found["before"], GOAL),
    ]


if __name__ == "__main__":
    print(json.dumps(work(int(sys.argv[1]), int(sys.argv[2]))))
