# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a power cut leaves on disk: the recorded calls up to a point, less what no fsync has forced.

Two kinds of file systems. Ordered: changes of names reach the disk in their order (ext4, xfs, btrfs with a journal), so that a cut
leaves a prefix of them. Strict: only what POSIX promises; changes of names in one directory keep their order, those of other
directories may overtake them. On both, fsync of a file forces its bytes, fsync of a directory forces the changes of its names, and
bytes that were not forced are lost, cut short or kept, whatever became of the name. File systems (/, /var, /var/log) are cut apart.
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

VOLATILE = ("proc", "run")


class Inode:
    def __init__(self, data: bytes = b"", link: str | None = None):
        self.data, self.link = data, link  # data: what is on disk already
        self.changes: list[tuple[int, str, bytes]] = []  # (number of the call, 'cut' or 'write', bytes)
        self.forced = -1


class Disk:
    """root: of the host, as it is on disk now. mounts: as host.Host has them."""

    def __init__(self, root: Path, mounts: list[str], mount):
        self.root, self.mounts, self.mount = root, ["", *mounts], mount
        self.names: dict[str, Inode | None] = {}  # of now; None is a directory
        for folder, folders, names in os.walk(root):
            where = os.path.relpath(folder, root)
            if where.split("/")[0] in VOLATILE:
                continue
            for name in folders + names:
                path = os.path.normpath(os.path.join(where, name))
                if path in VOLATILE:
                    continue
                whole = os.path.join(folder, name)
                if os.path.islink(whole):
                    self.names[path] = Inode(link=os.readlink(whole))
                elif os.path.isdir(whole):
                    self.names[path] = None
                else:
                    with open(whole, "rb") as stream:
                        self.names[path] = Inode(stream.read())
        self.first = dict(self.names)
        self.operations: list[dict] = []
        self.handles: dict[tuple[int, int], Inode | str] = {}

    def record(self, calls: list[dict]) -> None:
        for number, entry in enumerate(calls):
            if entry["result"] == 0 and not any(path.split("/")[0] in VOLATILE for path in entry["paths"]):
                getattr(self, "_" + entry["name"], lambda *_: None)(number, entry, *entry["paths"])
        self.calls = len(calls)

    def _change(self, number: int, kind: str, *paths: str, inode=None, more=()) -> None:
        touched = {os.path.dirname(path) for path in paths} | set(more)
        self.operations.append({"number": number, "kind": kind, "paths": paths, "inode": inode, "touched": touched,
                                "mount": self.mount(paths[-1])})

    def _open(self, number, entry, path):
        flags = entry["flags"]
        key = (entry["process"], entry.get("handle"))
        if path in self.names and self.names[path] is None:
            self.handles[key] = path
            return
        inode = self.names.get(path)
        if inode is None:
            if not flags & os.O_CREAT:
                return
            inode = self.names[path] = Inode()
            self._change(number, "create", path, inode=inode)
        elif flags & os.O_TRUNC:
            inode.changes.append((number, "cut", b""))
        self.handles[key] = inode

    def _write(self, number, entry, path):
        inode = self.handles.get((entry["process"], entry["fd"]))
        if isinstance(inode, Inode):
            inode.changes.append((number, "write", entry["value"]))

    def _ftruncate(self, number, entry, path):
        inode = self.handles.get((entry["process"], entry["fd"]))
        if isinstance(inode, Inode):
            inode.changes.append((number, "cut", b""))

    def _fsync(self, number, entry, path):
        found = self.handles.get((entry["process"], entry["fd"]))
        if isinstance(found, Inode):
            found.changes.append((number, "force", b""))
        elif found is not None:
            self.operations.append({"number": number, "kind": "force", "paths": (found,), "touched": {found}, "mount": self.mount(found)})

    def _mkdir(self, number, entry, path):
        self.names[path] = None
        self._change(number, "mkdir", path, more=(path,))

    def _rmdir(self, number, entry, path):
        self.names.pop(path, None)
        self._change(number, "remove", path, more=(path,))

    def _unlink(self, number, entry, path):
        self.names.pop(path, None)
        self._change(number, "remove", path)

    _remove = _unlink

    def _link(self, number, entry, source, target):
        self.names[target] = self.names[source]
        self._change(number, "link", source, target, inode=self.names[source])

    def _symlink(self, number, entry, path):
        self.names[path] = Inode(link=entry["value"])
        self._change(number, "create", path, inode=self.names[path])

    def _rename(self, number, entry, source, target):
        move(self.names, source, target)
        self._change(number, "rename", source, target, more=(source, target) if self.names.get(target) is None else ())

    _replace = _move = _rename

    def _exchange(self, number, entry, one, other):
        self.names[one], self.names[other] = self.names[other], self.names[one]
        self._change(number, "exchange", one, other)

    # -- the cut

    def after_cut(self, point: int, rng: random.Random, kept_of: dict[str, float] | None = None) -> tuple[dict, str]:
        """({path: bytes, ('link', target) or None for a directory}, what was lost) where the power fails before call `point`.

        kept_of: {mount: share of what nobody forced that is on disk all the same}; without one each has its own.
        """
        done = [item for item in self.operations if item["number"] < point]
        kept: set[int] = set()
        told = []
        for mount in self.mounts:
            mine = [position for position, item in enumerate(done) if item["mount"] == mount]
            ordered, luck = rng.random() < 0.5, kept_of[mount] if kept_of else rng.choice((0.0, 0.0, 0.5, 1.0))
            told.append("/%s %s, %s kept" % (mount, "ordered" if ordered else "strict", luck))
            kept |= _kept(done, mine, ordered, luck, rng)
        names = dict(self.first)
        for position, item in enumerate(done):
            if position in kept and item["kind"] != "force":
                _apply(names, item)
        lucks = kept_of or {mount: rng.choice((0.0, 0.0, 0.5, 1.0)) for mount in self.mounts}
        found: dict = {}
        for path, inode in names.items():
            if inode is None:
                found[path] = None
            elif inode.link is not None:
                found[path] = ("link", inode.link)
            else:
                found[path] = _bytes(inode, point, lucks[self.mount(path)], rng)
        return found, "; ".join(told)

    def write(self, found: dict) -> None:
        """Make the host's disk so."""
        for folder in sorted({path.split("/")[0] for path in list(found) + list(self.first)}):
            shutil.rmtree(self.root / folder, ignore_errors=True)
        for path in sorted(found):
            whole = self.root / path
            whole.parent.mkdir(parents=True, exist_ok=True)
            if found[path] is None:
                whole.mkdir(exist_ok=True)
            elif isinstance(found[path], tuple):
                whole.symlink_to(found[path][1])
            else:
                whole.write_bytes(found[path])
                if path.startswith("usr/bin/"):
                    whole.chmod(0o755)


def move(names: dict, source: str, target: str) -> None:
    if source not in names:
        return
    names[target] = names.pop(source)
    for path in [path for path in names if path.startswith(source + "/")]:
        names[target + path[len(source):]] = names.pop(path)


def _apply(names: dict, item: dict) -> None:
    kind, paths = item["kind"], item["paths"]
    if kind == "create":
        names[paths[0]] = item["inode"]
    elif kind == "mkdir":
        names[paths[0]] = None
    elif kind == "remove":
        names.pop(paths[0], None)
    elif kind == "link":
        names[paths[1]] = item["inode"]
    elif kind == "rename":
        move(names, *paths)
    elif kind == "exchange":
        names[paths[0]], names[paths[1]] = names[paths[1]], names[paths[0]]


def _kept(done: list[dict], mine: list[int], ordered: bool, luck: float, rng: random.Random) -> set[int]:
    """Positions of the changes of names that are on disk."""
    wanted = {position for position in mine if done[position]["kind"] != "force" and rng.random() < luck}
    for position in mine:
        if done[position]["kind"] == "force":
            wanted |= {earlier for earlier in mine if earlier < position and done[earlier]["touched"] & done[position]["touched"]}
    if luck == 1.0:
        return set(mine)
    if ordered:
        last = max(wanted, default=-1)
        return {position for position in mine if position <= last}
    # Changes of one directory keep their order.
    kept: set[int] = set()
    for position in sorted(wanted, reverse=True):
        _close(done, mine, position, kept)
    return kept


def _close(done: list[dict], mine: list[int], position: int, kept: set[int]) -> None:
    waiting = [position]
    while waiting:
        now = waiting.pop()
        if now in kept:
            continue
        kept.add(now)
        waiting += [earlier for earlier in mine if earlier < now and earlier not in kept and done[earlier]["kind"] != "force"
                    and done[earlier]["touched"] & done[now]["touched"]]


def _bytes(inode: Inode, point: int, luck: float, rng: random.Random) -> bytes:
    changes = [item for item in inode.changes if item[0] < point]
    forced = max([item[0] for item in changes if item[1] == "force"], default=-1)
    data = inode.data
    for number, kind, more in changes:
        if kind == "force" or number > forced and rng.random() >= luck:
            continue
        if kind == "cut":
            data = b""
        else:
            data += more if number < forced or rng.random() < 0.7 else more[:len(more) // 2]
    return data

