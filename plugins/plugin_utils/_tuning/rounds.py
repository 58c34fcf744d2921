# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host that was changed is looked at once more in the same run, when, and what may follow. Pure.

A round is: observe, verdict, step, proof. The last round of a run ends with a look at what its step came to:
what had no effect is taken back, and no further step is taken.
"""

from __future__ import annotations

from ansible_collections.falcotune.fleet.plugins.plugin_utils import _untrusted
from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import NextRound, Plan, Policy

# Seconds. A host that must be observed for longer is left to the next run.
LONGEST_WAIT = 900.0
# Seconds that a snapshot may take until it can be read.
WRITING = 1.0


def following(
    plan: Plan, policy: Policy, this: NextRound | None, interval: float, ended: float
) -> NextRound | None:
    """The next look at a host that has just been changed, or None.

    this: what this change followed from; None in the first round. interval: seconds between two snapshots of
    Falco's metrics. ended: Unix time of the proof.
    """
    number = this["number"] if this else 1
    if (this and this["closing"]) or not plan["metrics_file"]:
        return None
    closing = number >= policy["rounds"]
    if closing and not _judged(plan):
        return None
    seconds = policy["min_observation"] + interval + WRITING
    if seconds > LONGEST_WAIT:
        return None
    return {
        "number": number if closing else number + 1,
        "closing": closing,
        "not_before": ended + seconds,
        "seconds": seconds,
    }


def _judged(plan: Plan) -> bool:
    """Whether there is anything to judge this step by: losses before it."""
    step, verdict = plan["step"], plan["verdict"]
    if step is None or verdict is None or step["name"] == "give_back":
        return False
    return bool(verdict["drops_percent"]) and plan["restart_required"]


def given(value: object) -> NextRound | None:
    """A round as a task gives it, or None."""
    found = _untrusted.dictionary(value)
    number, seconds = _untrusted.number(found.get("number")), _untrusted.number(found.get("seconds"))
    if number is None or seconds is None:
        return None
    return {
        "number": int(number),
        "closing": _untrusted.flag(found.get("closing")),
        "not_before": _untrusted.number(found.get("not_before")) or 0.0,
        "seconds": min(float(seconds), LONGEST_WAIT),
    }


def wait(this: NextRound | None, now: float) -> float:
    """Seconds until a host can be judged; never more than was said, whatever became of the clock."""
    return max(0.0, min(this["seconds"], this["not_before"] - now)) if this else 0.0
