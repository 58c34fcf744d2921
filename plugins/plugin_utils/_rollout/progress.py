# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a rollout stands while it runs, in one line. Pure: the caller says what happened and what time it is."""

from __future__ import annotations

import datetime


class Progress:
    """Fed with what happens; line() says where the rollout is."""

    def __init__(self):
        self.number = self.of = 0
        self.stage, self.total, self.began = "", 0, 0.0
        self.waiting = set()  # admitted, and not at an end yet
        self.busy = set()  # their change has begun
        self.outcomes = {}
        self.took, self.wave_began = [], 0.0

    def planned(self, plan, now):
        self.of, self.began = len(plan["waves"]), now
        self.total = sum(len(wave["hosts"]) for wave in plan["waves"])

    def admitted(self, wave):
        """wave: the result of falco_rollout with state admitted."""
        if wave["hosts"]:
            self.number, self.of, self.stage, self.wave_began = (
                wave["number"],
                wave["of"],
                wave["stage"],
                wave["began"],
            )
            self.waiting, self.busy = set(wave["hosts"]), set()

    def started(self, name):
        if name in self.waiting:
            self.busy.add(name)

    def host(self, name, outcome):
        """A host's change or second look is over. outcome: None after a look that found it well."""
        if outcome is not None:
            self.outcomes[name] = outcome
        self.waiting.discard(name)
        self.busy.discard(name)

    def skipped(self, name):
        self.busy.discard(name)

    def ended(self, gate):
        """gate: the result of falco_rollout with state gated."""
        self.waiting, self.busy = set(), set()
        if self.wave_began:
            self.took.append(gate["ended"] - self.wave_began)

    def blind(self):
        return len(self.busy | {name for name, item in self.outcomes.items() if item["blind"]})

    def expected_end(self, now):
        """Unix time by the batches so far, or None before one has ended."""
        if not self.took:
            return None
        each = sum(self.took) / len(self.took)
        running = max(0.0, each - (now - self.wave_began)) if self.waiting else 0.0
        return now + running + each * (self.of - self.number)

    def line(self, now):
        counts = {"done": 0, "reverted": 0}
        for item in self.outcomes.values():
            counts[item["outcome"]] = counts.get(item["outcome"], 0) + 1
        said = ", ".join("%d %s" % (number, kind) for kind, number in counts.items())
        end = self.expected_end(now)
        return "%s %d of %d: %s, %d left, %d blind now | %s, end %s" % (
            "canaries," if self.stage == "canary" else "batch",
            self.number,
            self.of,
            said,
            self.total - len(self.outcomes),
            self.blind(),
            _span(now - self.began),
            "not known yet"
            if end is None
            else "about %s" % datetime.datetime.fromtimestamp(end).strftime("%H:%M:%S"),
        )


def _span(seconds):
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return "%d:%02d:%02d" % (hours, minutes, rest)
