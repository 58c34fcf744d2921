# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a rollout stands while it runs, in one line. Pure: the caller tells what happened, and the time."""

from __future__ import annotations

import datetime
from collections import Counter
from typing import Any

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import Outcome, RolloutPlan
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import clock_text

# These are shown even where no host has them.
ALWAYS_SHOWN = ("done", "reverted")


class Progress:
    """Is told what happens; line() says where the rollout is. Times are Unix times."""

    def __init__(self) -> None:
        self.number = self.of = 0
        self.stage, self.total, self.began = "", 0, 0.0
        self.waiting: set[str] = set()  # admitted, and their turn is not over
        self.busy: set[str] = set()  # their change has begun
        self.outcomes: dict[str, Outcome] = {}
        self.took: list[float] = []
        self.batch_began = 0.0

    def planned(self, plan: RolloutPlan, now: float) -> None:
        self.of, self.began = len(plan["batches"]), now
        self.total = sum(len(batch["hosts"]) for batch in plan["batches"])

    def admitted(self, batch: dict[str, Any]) -> None:
        """batch: the result of falco_rollout with state admitted."""
        if batch["hosts"]:
            self.number, self.of, self.stage = batch["number"], batch["of"], batch["stage"]
            self.batch_began = batch["began"]
            self.waiting, self.busy = set(batch["hosts"]), set()

    def started(self, name: str) -> None:
        if name in self.waiting:
            self.busy.add(name)

    def host(self, name: str, outcome: Outcome | None) -> None:
        """A host's change or second look is over. outcome: None after a second look that passed."""
        if outcome is not None:
            self.outcomes[name] = outcome
        self.waiting.discard(name)
        self.busy.discard(name)

    def skipped(self, name: str) -> None:
        self.busy.discard(name)

    def ended(self, gate: dict[str, Any]) -> None:
        """gate: the result of falco_rollout with state gated."""
        self.waiting, self.busy = set(), set()
        # A batch whose hosts are looked at again goes on.
        if self.batch_began and not gate.get("again"):
            self.took.append(gate["ended"] - self.batch_began)

    def blind(self) -> int:
        return len(self.busy | {name for name, item in self.outcomes.items() if item["blind"]})

    def expected_end(self, now: float) -> float | None:
        """Unix time, by how long the batches took so far; None before one has ended."""
        if not self.took:
            return None
        each = sum(self.took) / len(self.took)
        running = max(0.0, each - (now - self.batch_began)) if self.waiting else 0.0
        return now + running + each * (self.of - self.number)

    def line(self, now: float) -> str:
        counts = Counter(dict.fromkeys(ALWAYS_SHOWN, 0))
        counts.update(item["outcome"] for item in self.outcomes.values())
        end = self.expected_end(now)
        return "%s %d of %d: %s, %d left, %d blind now | %s, end %s" % (
            "canaries," if self.stage == "canary" else "batch",
            self.number,
            self.of,
            ", ".join("%d %s" % (number, outcome) for outcome, number in counts.items()),
            self.total - len(self.outcomes),
            self.blind(),
            clock_text(now - self.began),
            "not known yet"
            if end is None
            else "about %s" % datetime.datetime.fromtimestamp(end).strftime("%H:%M:%S"),
        )
