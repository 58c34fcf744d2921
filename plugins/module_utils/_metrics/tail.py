# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last lines of a log, newest first, for a bounded number of bytes. Stdlib only, Python 3.6+.

Whatever the log's size, only its end is read. Rotated files (X.1, X.2.gz, X-20260101, X-20260101.gz)
continue it.
"""

import collections
import errno
import os
import re
import zlib

from ansible_collections.falcotune.fleet.plugins.module_utils._host import host

BLOCK = 1 << 16
# The longest snapshots come from hosts with hundreds of CPUs and network interfaces: tens of kB. A longer
# line is none.
MAX_LINE = 1 << 20
# A rotated metrics file of a day is about 8 MB and 15 times less as gzip: inflating costs CPU, no disk.
INFLATE = 8
MAX_ROTATED = 20
MAX_LINKS = 40
GONE = " (deleted)"  # behind the target of /proc/PID/fd/N


class Refused(Exception):
    """A file that can't be read here; the text says why.

    missing: whether there is none, as for a moment in a rotation.
    """

    def __init__(self, text, missing=False):
        Exception.__init__(self, text)
        self.missing = missing


def open_regular(path):
    """(handle, stat) of a regular file, symlinks followed.

    Raises Refused; never waits for the writer of a FIFO.
    """
    try:
        return host.open_regular(path)
    except host.NotRegular as error:
        raise Refused("%s is %s, not a log" % (path, error.kind))
    except OSError as error:
        advice = "; run with become" if isinstance(error, PermissionError) else ""
        raise Refused(
            "%s can't be read: %s%s" % (path, error.strerror, advice), isinstance(error, FileNotFoundError)
        )


def resolved(path):
    """The path without symlinks, followed as the process would whose root (/proc/PID/root) it goes through.

    /proc/PID/fd/N is what that process has open, under its name if it has one still. Raises Refused.
    """
    if "\0" in path:
        raise Refused("%r is not a path" % path)
    handle = re.match(r"^(.*/proc/\d+)/fd/\d+$", path)
    if handle:
        target = link(path) or ""
        if not target.startswith("/") or target.endswith(GONE):
            return path
        named = handle.group(1) + "/root" + target
        if not _same(path, named):
            return path
        path = named
    through = re.match(r"^(.*/proc/\d+/root)(/.*)$", path)
    if not through:
        return os.path.realpath(path)
    root, names, done, links = through.group(1), through.group(2).split("/")[::-1], [], 0
    while names:
        name = names.pop()
        if name == "..":
            del done[-1:]
        if name in ("", ".", ".."):
            continue
        target = link("/".join([root] + done + [name]))
        if target is None:
            done.append(name)
            continue
        links += 1
        if links > MAX_LINKS:
            raise Refused("%s can't be read: %s" % (path, os.strerror(errno.ELOOP)))
        done = [] if target.startswith("/") else done
        names.extend(reversed(target.split("/")))
    return "/".join([root] + done)


def _same(one, other):
    try:
        return os.path.samestat(os.stat(one), os.stat(other))
    except OSError:
        return False


def link(path):
    try:
        return os.readlink(path)
    except OSError:
        return None


def rotated(path):
    """Rotated files of a log, newest first by their last write.

    A .gz beside its plain file is still being written.
    """
    folder, name = os.path.split(path)
    stem, ending = os.path.splitext(name)
    number = r"(?:\.\d{1,9}|[-.]\d{8}(?:-?\d{1,12})?)"
    pattern = re.compile(
        "^(?:%s%s|%s%s%s)(?:\\.gz)?$" % (re.escape(name), number, re.escape(stem), number, re.escape(ending))
    )
    try:
        names = [item for item in os.listdir(folder or "/") if item != name and pattern.match(item)]
    except OSError:
        return []
    plain, found = set(names), []
    for item in names:
        if item.endswith(".gz") and item[:-3] in plain:
            continue
        try:
            found.append((-os.stat(os.path.join(folder, item)).st_mtime_ns, len(item), item))
        except OSError:
            continue
    return [os.path.join(folder, item) for dummy, dummy, item in sorted(found)[:MAX_ROTATED]]


class Tail:
    """Iterate for the lines (bytes without line feed), newest first, that hold `needle`.

    path         a regular file, or a symlink to one: administrators move logs. Nothing else is opened.
    bytes_read   what was read from disk, over all files; never more than max_bytes
    reason       why the log itself could not be read, or None

    A line longer than MAX_LINE is passed over. What is appended after the beginning is not seen, and a file
    that shrinks meanwhile (copytruncate) ends the reading: what came before is true.
    """

    def __init__(self, path, max_bytes, needle=b""):
        self.path, self.max_bytes, self.needle = path, max_bytes, needle
        self.bytes_read = self.inflated = 0
        self.reason = None
        self._seen = set()

    def __iter__(self):
        log = self.path
        try:
            log = resolved(self.path)
            yield from self._file(log)
        except Refused as error:
            self.reason = str(error)
            if not error.missing:
                return
        for path in rotated(log):
            if self.bytes_read >= self.max_bytes:
                return
            try:
                for line in self._file(path):
                    self.reason = None
                    yield line
            except Refused:
                return  # a gap: what lies before it may belong to another run

    def _file(self, path):
        handle, found = open_regular(path)
        try:
            if (found.st_dev, found.st_ino) in self._seen:
                return
            self._seen.add((found.st_dev, found.st_ino))
            reader = self._gzip if path.endswith(".gz") else self._plain
            for line in reader(handle, found.st_size):
                if line and len(line) <= MAX_LINE and self.needle in line:
                    yield line
        finally:
            os.close(handle)

    def _read(self, handle, length, position):
        try:
            block = os.pread(handle, length, position)
        except OSError as error:
            raise Refused("%s can't be read: %s" % (self.path, error.strerror))
        self.bytes_read += len(block)
        return block

    def _plain(self, handle, position):
        held, length = [], 0  # pieces of the line at hand, last first; none once it is too long
        while position > 0:
            step = min(BLOCK, position, self.max_bytes - self.bytes_read)
            block = self._read(handle, step, position - step) if step > 0 else b""
            if not block or len(block) < step:
                return
            position -= step
            lines = block.split(b"\n")
            if len(lines) > 1:
                held.append(lines.pop())
                if length + len(held[-1]) <= MAX_LINE:
                    yield b"".join(reversed(held))
                held, length = [], 0
                yield from reversed(lines[1:])
            held.append(lines[0])
            length += len(lines[0])
            if length > MAX_LINE:
                held = []
        if length <= MAX_LINE:
            yield b"".join(reversed(held))

    def _gzip(self, handle, size):
        """gzip has no end to begin at: it is inflated whole, within the caps, or not used."""
        if size > self.max_bytes - self.bytes_read:
            raise Refused("%s is too large" % self.path)
        kept, length = collections.deque(), 0
        for line in self._inflated(handle):
            if len(line) <= MAX_LINE and self.needle in line:
                kept.append(line)
                length += len(line)
            while length > self.max_bytes:
                length -= len(kept.popleft())
        while kept:
            yield kept.pop()

    def _inflated(self, handle):
        position, rest, whole, inflate = 0, b"", True, zlib.decompressobj(31)
        while True:
            data = self._read(handle, min(BLOCK, self.max_bytes - self.bytes_read), position)
            position += len(data)
            if not data:
                break
            while data:
                try:
                    text = inflate.decompress(data, BLOCK)
                except zlib.error:
                    raise Refused("%s is not whole" % self.path)
                self.inflated += len(text)
                if self.inflated > INFLATE * self.max_bytes:
                    raise Refused("%s is too large" % self.path)
                lines = (rest + text).split(b"\n")
                rest = lines.pop()[-MAX_LINE - 1 :]
                yield from lines
                data, whole = inflate.unconsumed_tail, inflate.eof
                if whole:  # of this member; another may follow
                    data, inflate = inflate.unused_data.lstrip(b"\0"), zlib.decompressobj(31)
        if not whole:
            raise Refused("%s is not whole" % self.path)
        yield rest
