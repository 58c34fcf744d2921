# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens on a host in one seed, and what must be true of it afterwards."""

from __future__ import annotations

import random
from pathlib import Path

from faults import Fault, Faults, draw
from host import FRAGMENT, Host
from stand_in import DROPIN, read

KINDS = ("change", "undo", "recovery", "rollback")
# How a change fails when it is to be undone.
BAD = ("refused: true", "dies_after: 0.7", "blind: true")
WITHIN = 60  # seconds
FIRST = {"preset": 5, "unit": True, "logrotate": True}


class Scene:
    """One kind of run on one kind of host, by its seed. kind and more: what is given instead."""

    def __init__(self, seed: int, kind: str | None = None, **more):
        self.rng = random.Random(seed)
        rng = self.rng
        self.kind = kind or rng.choice(KINDS)
        self.mounts = rng.choice(((), (), ("var",), ("var", "var/log")))
        self.restart = rng.random() < 0.6
        self.before = self.kind == "rollback" or rng.random() < 0.5
        apply = rng.choice(("restart",) * 5 + ("reload",))
        self.what = {"preset": 6, "unit": rng.random() < 0.6 and apply == "restart", "logrotate": rng.random() < 0.5,
                     "sysctl": rng.random() < 0.5, "full": rng.random() < 0.3, "apply": apply}
        if self.what["full"]:
            self.what["logrotate"] = True
        if self.mounts:
            self.what["full"] = self.what["full"] and "var" in self.mounts
        self.bad = rng.choice(BAD) if self.kind == "undo" else None
        self.broken_at: int | None = None  # the call at which the change of a recovery is killed
        self.reloads_after, self.tells_reloads = 0.1, True
        for name, value in more.items():
            if name in self.what:
                self.what[name] = value
            else:
                setattr(self, name, value)

    @property
    def key(self) -> tuple:
        return (self.kind, self.mounts, self.restart, self.before, self.bad, tuple(sorted(self.what.items())))

    def host(self, base: Path) -> Host:
        host = Host(base, self.mounts, self.restart, self.what["apply"] == "reload")
        host.manager.reloads_after, host.manager.tells_reloads = self.reloads_after, self.tells_reloads
        if self.before:
            answer = host.run({**FIRST, "full": self.what["full"], "sysctl": self.what["sysctl"]})
            assert answer and answer.get("changed"), answer
        return host

    def good(self) -> dict:
        """What the next run asks for."""
        return {"state": "rolled_back"} if self.kind == "rollback" else self.what

    def faulty(self) -> dict:
        """What this run asks for."""
        return {**self.what, "extra": (self.bad,)} if self.bad else self.good()

    def reference(self, base: Path, cache: dict) -> dict:
        """The same without faults: {'calls', 'change' (those of the change before a recovery), 'new'}."""
        if self.key not in cache:
            host = self.host(base)
            try:
                first, change = len(host.conductor.calls), []
                if self.kind == "recovery":
                    host.run(self.what)
                    change = host.conductor.calls[first:]
                    host.close()
                    host = self.host(base)
                    first = len(host.conductor.calls)
                    broken_off(host, int(0.8 * len(change)))
                    host.run(self.what)
                    host.conductor.faults = None
                    first = len(host.conductor.calls)
                answer = host.run(self.faulty())
                calls = host.conductor.calls[first:]
                assert answer and (self.kind == "recovery" or bool(answer.get("failed")) == bool(self.bad)), answer
                if answer.get("failed"):
                    answer = host.run(self.good())
                assert answer and not answer.get("failed"), answer
                assert host.leftovers() == [], host.leftovers()
                cache[self.key] = {"calls": calls, "change": change, "new": seen(host)}
            finally:
                host.close()
        return cache[self.key]


def broken_off(host: Host, call: int) -> Faults:
    """All processes of the next run will be killed at this call."""
    return Faults(host, [Fault(call, "kill", victims=None)])


def seen(host: Host) -> dict:
    return {path: text and text.replace(str(host.root), "{root}") for path, text in host.files().items()}


def run_seed(seed: int, base: Path, cache: dict, kind: str | None = None, given: list[Fault] | None = None, **more) -> dict:
    """{'violations', 'trace', 'faults', 'answer'} of one seed. given: the faults, instead of those of the seed."""
    scene = Scene(seed, kind, **more)
    reference = scene.reference(base, cache)
    host = scene.host(base)
    try:
        old = seen(host)
        watch = Watch(host, scene, old, reference["new"])
        if scene.kind == "recovery":
            at = scene.rng.randrange(len(reference["change"])) if scene.broken_at is None else scene.broken_at
            watch.faults.append(broken_off(host, at))
            host.run(scene.what)
            host.rest(scene.rng.choice((0, 0, 5, 70)))
            watch.faults[-1].over()
        watch.found = seen(host)
        faults = Faults(host, given if given is not None else draw(scene.rng, reference["calls"]))
        watch.faults.append(faults)
        answer = host.run(scene.faulty())
        watch.after_run(answer)
        faults.over()
        watch.next_runs()
        return {"violations": watch.violations, "trace": host.conductor.trace, "scene": scene.key, "answer": answer,
                "faults": [item for one in watch.faults for item in one.happened], "calls": host.conductor.calls}
    finally:
        host.close()


class Watch:
    """The outside observer."""

    def __init__(self, host: Host, scene: Scene, old: dict, new: dict):
        self.host, self.scene, self.old, self.new = host, scene, old, new
        self.faults: list[Faults] = []
        self.violations: list[str] = []
        self.found = old  # when this run began

    def wrong(self, text: str) -> None:
        self.host.conductor.say("VIOLATION " + text)
        self.violations.append(text)

    @property
    def obstacles(self):
        return [item for faults in self.faults for item in faults.obstacles]

    def after_run(self, answer: dict | None) -> None:
        """Nobody of ours is there any more. What did they leave?"""
        conductor = self.host.conductor
        ends = [until for _since, until in self.obstacles]
        self.host.rest(max([conductor.now] + ends) - conductor.now + WITHIN + 1)
        self.running()
        now = seen(self.host)
        for path, text in now.items():
            # A change that was to fail asks for files that no later run asks for.
            if text not in (self.old[path], self.new[path]) and not (self.scene.bad and text and self.scene.bad in text):
                self.wrong("%s is neither the old nor the new file: %r" % (path, text))
        if answer is None:
            return
        if "crashed" in answer:
            self.wrong("the module ended with an exception: %s" % answer["crashed"])
        if answer.get("changed") and not answer.get("failed") and (now != self.new or self.scene.bad):
            self.wrong("the answer says changed, and the files are not the new ones")
        if answer.get("undone") and not answer.get("recovered") and now not in (self.old, self.found):
            self.wrong("the answer says undone, and the files are not the old ones")

    def booted(self) -> None:
        """A minute after a boot."""
        manager = self.host.manager
        if not manager.up or manager.falco.phase != "runs":
            self.wrong("Falco does not run a minute after the boot")
        now = seen(self.host)
        for path, text in now.items():
            if text not in (self.old[path], self.new[path]) and not (self.scene.bad and text and self.scene.bad in text):
                self.wrong("after the boot %s is neither the old nor the new file: %r" % (path, text))

    def running(self) -> None:
        """Falco was never away for longer than allowed, but for what nobody could help."""
        now = self.host.conductor.now
        for start, end in self.host.outages(now):
            allowed = start + WITHIN
            for since, until in sorted(self.obstacles):
                if since <= allowed and until >= start:
                    allowed = max(allowed, until + WITHIN)
            if end > allowed:
                self.wrong("Falco was away from %.1f to %s, allowed until %.1f" % (
                    start, "the end (%.1f)" % end if end >= now else "%.1f" % end, allowed))

    def next_runs(self) -> None:
        """Runs without faults: they end what is left."""
        answers = []
        for _run in range(4):
            answers.append(self.host.run(self.scene.good()) or {"failed": True, "msg": "no answer"})
            if not answers[-1].get("failed"):
                break
        self.host.rest(5)
        if answers[-1].get("failed"):
            self.wrong("four runs without faults end with: %s" % answers[-1].get("msg"))
        if any("crashed" in answer for answer in answers):
            self.wrong("a run without faults ends with an exception: %s" % answers)
        now = seen(self.host)
        for path in now:
            if now[path] != self.new[path]:
                self.wrong("after the next run %s is not the new file: %r" % (path, now[path]))
        if self.host.leftovers():
            self.wrong("left after the next run: %s" % ", ".join(self.host.leftovers()))
        manager = self.host.manager
        if not manager.up or manager.falco.phase != "runs":
            self.wrong("Falco does not run after the next run")
        elif not self.scene.what["apply"] == "reload" and manager.falco.config.get(FRAGMENT) != read(self.host.root / FRAGMENT):
            self.wrong("Falco runs with other files than those on disk after the next run")
        if manager.loaded != read(self.host.root / DROPIN):
            self.wrong("systemd has not read the drop-in that is on disk")
