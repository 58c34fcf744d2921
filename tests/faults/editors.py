# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody else edits the files of a change while it runs, between any two of its system calls."""

from __future__ import annotations

import os
from pathlib import Path

import interposed
from faults import label
from host import FRAGMENT, LOGROTATE
from scenes import Scene, broken_off
from stand_in import DROPIN, END, MAIN, read

HOW = ("in place", "rename over", "delete", "create")


class Editor:
    """at: number of the call before which it edits, counted from now. bad: a line that it takes out where it finds it."""

    def __init__(self, host, at: int, path: str, how: str, mark: str, bad: str | None):
        self.host, self.path, self.how, self.mark, self.bad = host, path, how, mark, bad
        self.at = len(host.conductor.calls) + at
        self.done = False
        host.conductor.watchers.append(self.look)

    def look(self, entry: dict) -> None:
        if entry["number"] < self.at or self.done:
            return
        whole = self.host.root / self.path
        if (self.how == "create") == whole.exists() or not whole.parent.is_dir():
            return  # there is nothing to edit, or it is there already: later
        self.done, self.order = True, len(self.host.conductor.trace)
        self.told = "%s %s before %s" % (self.how, self.path, label(entry))
        self.host.conductor.say("EDITOR " + self.told)
        # A new key of the main file is its last block, after an empty line: with that line left, the stand-in would take his
        # file for one that was cut short, and no Falco could run with it.
        text = f"# {self.mark}\n{read(whole) or '# ' + END}".replace(f"{self.bad}\n", "").rstrip("\n") + "\n"
        if self.how == "delete":
            interposed.REAL["unlink"](whole)
        elif self.how == "rename over":
            beside = self.host.root / "etc/.editor"
            beside.write_text(text)
            interposed.REAL["rename"](beside, whole)
        else:
            whole.write_text(text)


def edit_seed(seed: int, base: Path, cache: dict, kind: str | None = None, given=None, **more) -> dict:
    """{'violations', 'edits', 'trace'} of one seed: one to three edits while a change, an undo, a recovery or a rollback runs.

    given: [(call, path, how)] instead.
    """
    scene = Scene(seed, kind, **more)
    reference = scene.reference(base, cache)
    rng, host, violations = scene.rng, scene.host(base), []
    try:
        if scene.kind == "recovery":
            at = rng.randrange(len(reference["change"])) if scene.broken_at is None else scene.broken_at
            faults = broken_off(host, at)
            host.run(scene.what)
            faults.over()
        paths = [MAIN if scene.what["full"] else FRAGMENT]
        paths += [DROPIN] * scene.what["unit"] + [LOGROTATE] * scene.what["logrotate"]
        places = [number for number, entry in enumerate(reference["calls"])]
        near = [number for number in places if reference["calls"][number]["name"] in ("rename", "unlink", "exchange", "move")
                and reference["calls"][number]["paths"][-1] in (MAIN, FRAGMENT, DROPIN, LOGROTATE)]
        editors = []
        for at, path, how in given or ():
            editors.append(Editor(host, at, path, how, f"edit of seed {seed}", scene.bad))
        for number in range(0 if given else rng.choice((1, 1, 2, 3))):
            at = rng.choice(places)
            if near and rng.random() < 0.5:
                at = max(0, rng.choice(near) + rng.randint(-6, 4))
            path, how = rng.choice(paths), rng.choice(HOW)
            if path == MAIN and how == "delete":
                how = "rename over"  # no Falco runs without it, whoever has deleted it
            editors.append(Editor(host, at, path, how, f"edit {number} of seed {seed}", scene.bad))
        found = host.files()
        answer = host.run(scene.faulty())
        host.conductor.watchers.clear()
        done = sorted((editor for editor in editors if editor.done), key=lambda editor: editor.order)
        for position, editor in enumerate(done):
            # What somebody makes at a free place and deletes again leaves that place as it was.
            made = any(earlier.path == editor.path and earlier.how == "create" for earlier in done[:position])
            his_own = editor.how == "delete" and (made or found[editor.path] is None)
            if not his_own and not any(later.path == editor.path for later in done[position + 1:]):
                alone = not any(other.path == editor.path for other in done if other is not editor)
                problem = lost(host, editor, answer or {}, alone)
                if problem:
                    violations.append("%s: %s; the answer: %s" % (editor.told, problem, (answer or {}).get("msg")))
        if answer is None or "crashed" in answer:
            violations.append("no answer: %s" % answer)
        host.rest(61)
        if not host.manager.up:
            violations.append("Falco does not run")
        return {"violations": violations, "edits": len(done), "trace": host.conductor.trace, "scene": scene.key, "answer": answer}
    finally:
        host.close()


def lost(host, editor: Editor, answer: dict, alone: bool) -> str | None:
    """Why an edit is lost, or None: its bytes are at their place, or they are kept and the answer names the file.

    alone: whether nobody else edited this file in this run.
    """
    now = read(host.root / editor.path)
    if editor.how == "delete":
        if now is None:
            return None
        kept = True
    else:
        if now is not None and editor.mark in now:
            return None
        kept = editor.mark.encode() in host.everything()
    told = os.path.basename(editor.path) in str({key: value for key, value in answer.items() if key != "diff"})
    shown = any(item["after_header"].endswith(editor.path) and editor.mark in item["before"] for item in answer.get("diff") or [])
    if editor.how == "delete":
        # He deleted it before the run read it: the run made a new file, and its diff shows that there was none.
        shown = alone and any(item["after_header"].endswith(editor.path) and not item["before"] for item in answer.get("diff") or [])
        return None if told or shown else "the file is back and nobody says so"
    if not kept:
        return "its bytes are nowhere"
    return None if told or shown else "its bytes are kept, and nobody says so"
