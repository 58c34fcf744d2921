# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watching the files whose change makes Falco reload itself."""

import os
import struct

_CLOSE_WRITE, _MOVED, _CREATE, _DELETE = 0x8, 0x40 | 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF = 0x400, 0x800


def watched(run):
    """(files, directories). Members of a configuration directory are seen only through their directory."""
    settings, merged = run.settings, run.settings.merged
    if not settings.watch:
        return [], []
    files = [merged.path] + list(run.rules_paths)
    directories = [path for path in run.rules_asked if os.path.isdir(path)]
    if settings.release.since(38):
        files += merged.listed
        directories += merged.directories
    return files, directories


class Watcher:
    def __init__(self, release, files, directories):
        old = not release.since(37)
        file_mask = _CLOSE_WRITE if old else _CLOSE_WRITE | _DELETE_SELF | _MOVE_SELF
        directory_mask = _CREATE | _DELETE | (0 if old else _MOVED)
        self.fd = -1
        self.poll = None
        try:
            self._inotify([(path, file_mask) for path in files] + [(path, directory_mask) for path in directories])
        except (OSError, ImportError, AttributeError):
            # No inotify instance left: compare what stat and listdir say instead.
            self.poll = (files, directories, old)
            self.state = self._state()

    def _inotify(self, pairs):
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "inotify")
        for path, mask in pairs:
            libc.inotify_add_watch(self.fd, os.fsencode(path), ctypes.c_uint32(mask))

    def _state(self):
        files, directories, old = self.poll
        seen = []
        for path in files:
            try:
                info = os.stat(path)
                seen.append((info.st_mtime_ns, 0 if old else info.st_ino))
            except OSError:
                seen.append(None)
        for path in directories:
            try:
                seen.append(sorted((entry.name, 0 if old else entry.inode()) for entry in os.scandir(path)))
            except OSError:
                seen.append(None)
        return seen

    def changed(self):
        """Whether anything of interest happened since the last call."""
        if self.poll:
            state = self._state()
            if state != self.state:
                self.state = state
                return True
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False
        offset, found = 0, False
        while offset + 16 <= len(data):
            _, mask, _, length = struct.unpack_from("iIII", data, offset)
            offset += 16 + length
            found = found or bool(mask & 0xFFF)
        return found

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
