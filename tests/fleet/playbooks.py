# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-playbook as a user runs it, with the collection as it is built, and what came of it as data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = ROOT / "build" / "collections"
TUNE, AUDIT, ROLLBACK = "falcotune.fleet.tune_falco", "falcotune.fleet.audit_falco", "falcotune.fleet.rollback_falco"
TRIAL = "falcotune.fleet.trial_syscalls"


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "ANSIBLE_LOCALHOST_WARNING": "False",
            "ANSIBLE_DEPRECATION_WARNINGS": "False", "ANSIBLE_FORKS": "12", "ANSIBLE_NOCOLOR": "1", **more}


class Run:
    """One run of a playbook: status, seconds, output, a dictionary for every result, and one for every module sent to a host."""

    def __init__(self, status: int, seconds: float, output: str, lines: list[dict]):
        self.status, self.seconds, self.output = status, seconds, output
        self.events = [line for line in lines if "result" in line]
        self.sent = [line for line in lines if "module" in line]

    def of(self, host: str) -> list[dict]:
        return [event for event in self.events if event["host"] == host]

    def result(self, host: str, module: str) -> dict:
        """The result of the module's task on a host; of a rollout's tasks the one that changes the host, where that ran."""
        found = [event["result"] for event in self.of(host) if event["action"].endswith("." + module)]
        return next((result for result in found if "rollout" not in result), found[0] if found else None)

    def record(self) -> dict:
        """The record of a rollout."""
        return next(event["result"]["record"] for event in self.events if "record" in event["result"])

    def result_of(self, host: str) -> dict:
        """What the record of a rollout says of a host."""
        return next(entry for batch in self.record()["batches"] for entry in batch["hosts"] if entry["name"] == host)

    def failure(self, host: str) -> str | None:
        """The message that the host failed with."""
        return next((event["result"].get("msg") for event in self.of(host) if event["state"] in ("failed", "unreachable")), None)

    @property
    def failures(self) -> dict[str, str]:
        return {event["host"]: event["result"].get("msg") for event in self.events if event["state"] in ("failed", "unreachable")}

    @property
    def changed(self) -> set[str]:
        return {event["host"] for event in self.events if event["result"].get("changed")}

    def trips(self, host: str) -> int:
        """Modules that were sent to the host."""
        return sum(line["host"] == host for line in self.sent)


def play(playbook: str | Path, inventory: Path, *words: str, **more: str) -> Run:
    """Run a playbook to its end, whatever that is."""
    with tempfile.TemporaryDirectory(prefix="falcotune-play-") as folder:
        log = Path(folder) / "events"
        env = environment(ANSIBLE_CALLBACK_PLUGINS=str(ROOT / "tests/callback"), ANSIBLE_CALLBACKS_ENABLED="events",
                          EVENTS_LOG=str(log), **more)
        before = time.monotonic()
        done = subprocess.run([str(Path(sys.executable).with_name("ansible-playbook")), str(playbook), "-i", str(inventory), *words],
                              env=env, cwd=ROOT, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        took = time.monotonic() - before
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return Run(done.returncode, took, done.stdout, lines)
