# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench` is not part of `make test`: its parts that need no hosts run here on a small fleet, so that a change which breaks them
is seen. Nothing here looks at a time."""

import os
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks" / "run.py"


def test_plans_and_reports_run():
    done = subprocess.run([sys.executable, str(BENCHMARKS), "plans", "reports", "--synthetic", "30"], check=False,
                          capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    assert done.returncode == 0, done.stderr
    assert "facts and plans together" in done.stdout
    assert "reports of 30 hosts" in done.stdout
