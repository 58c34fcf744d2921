# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench` is not part of `make test`: its parts that need hosts run here on a small fleet, so that a change which breaks them
is seen. Nothing here looks at a time."""

import os
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks" / "run.py"


def test_trips_converged_and_audit_run():
    words = ["trips", "converged", "audit", "--hosts", "2", "--pairs", "1", "--forks", "4"]
    done = subprocess.run([sys.executable, str(BENCHMARKS), *words], check=False, capture_output=True, text=True, timeout=900,
                          env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "round trips to a host, converged: 1 (each of 5 hosts)" in done.stdout
    assert "round trips to a host, changed: 3 (each of 5 hosts)" in done.stdout
    assert "converged tune over 2 hosts / one ping task" in done.stdout
    assert "audit over 4 hosts / one ping task" in done.stdout
