# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench` is not part of `make test`: its parts that need hosts run here on a small fleet, so that a change which breaks them
is seen. Nothing here looks at a time."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from prometheus import Prometheus

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks" / "run.py"


@pytest.mark.skipif(not Prometheus.there(), reason="there is no prometheus or promtool: install Debian's package prometheus")
def test_monitored_runs():
    done = subprocess.run([sys.executable, str(BENCHMARKS), "monitored", "--synthetic", "300", "--pairs", "1"], check=False,
                          capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    visited, ratio = re.search(r"round trips: (\d+) of 300, .* of a quiet fleet of 294 hosts \d+, 1/(\d+)", done.stdout).groups()
    assert 7 <= int(visited) <= 9 and int(ratio) >= 100
    assert "groups of 300 hosts" in done.stdout


def test_trips_converged_and_audit_run():
    words = ["trips", "converged", "audit", "--hosts", "2", "--pairs", "1", "--forks", "4"]
    done = subprocess.run([sys.executable, str(BENCHMARKS), *words], check=False, capture_output=True, text=True, timeout=900,
                          env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "round trips to a host, converged: 1 (each of 5 hosts)" in done.stdout
    assert "round trips to a host, changed: 3 (each of 5 hosts)" in done.stdout
    assert "converged tune over 2 hosts / one ping task" in done.stdout
    assert "audit over 4 hosts / one ping task" in done.stdout
