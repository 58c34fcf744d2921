# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict against the truth: a real Falco under loads whose bottleneck is known, where FALCO_BIN names one (root).

On a machine that is busy otherwise, the quiet loads are starved as well. With autogroup, `echo -15 >/proc/self/autogroup` in the
shell that runs this keeps others away.
"""

from __future__ import annotations

import os

import pytest

from watched import Load, judged

BINARY = os.environ.get("FALCO_BIN")

pytestmark = pytest.mark.skipif(not BINARY or os.geteuid() != 0, reason="FALCO_BIN names no real Falco, or this is not root")

CPUS = os.cpu_count() or 1
LOADS = {
    "idle": Load("none"),
    "bursts at preset 1": Load("buffer", workers=1, burst=(0.2, 1.5), preset=1, heavy=12),
    "the same bursts at preset 5": Load("none", workers=1, burst=(0.2, 1.5), preset=5, heavy=12),
    "steady": Load("none", workers=1, rate=10000.0),
    "starved": Load("starved", workers=5 * CPUS),
    "60 heavy rules": Load("consumer", workers=1, heavy=60),
    "60 heavy rules beside neighbours": Load("consumer", workers=5 * CPUS, heavy=60, also="starved"),
}


@pytest.mark.parametrize("name", LOADS)
def test_the_verdict_is_the_truth(name, tmp_path):
    load = LOADS[name]
    verdict, facts = judged(BINARY, tmp_path, load)
    found = verdict["capacity"]
    print("\n%s: truth %s, verdict %s %s %s, %.3g %% lost" % (
        name, load.truth, verdict["state"], verdict["bottleneck"], verdict["also"], verdict["drops_percent"] or 0))
    if found:
        print("  demand %(demand).0f/s, capacity %(capacity).0f/s, factor %(factor).2f (alone %(factor_alone).2f), "
              "on %(on).0f %%, waiting %(waiting).0f %%, idle %(idle).0f %%, lost to %(lost)s" % found)
    for reason in verdict["reasons"]:
        print("  " + reason)
    print("  cpu %s, window %s" % (facts["falco"]["cpu"], {key: facts["metrics"][key] for key in (
        "seconds", "events", "drops", "falco_cpu_percent", "falco_cpu_error", "losing")}))
    if load.truth == "none":
        assert verdict["state"] in ("healthy", "acceptable"), verdict
        return
    assert verdict["state"] in ("dropping", "overloaded") and verdict["bottleneck"] == load.truth, verdict
    if load.truth == "consumer":
        assert found["factor_alone"] > 1 and verdict["next_step"] in ("syscalls", "overloaded")
    if load.truth == "starved":
        assert verdict["next_step"] == "priority"
    if load.also:
        assert found["waiting"] > found["on"] or load.also in verdict["also"]
