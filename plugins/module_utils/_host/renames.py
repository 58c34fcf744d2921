# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""renameat2(2), which loses no file that appears at the last moment. Stdlib only, Python 3.6+.

Linux 3.15 and glibc 2.28 have it; XFS, ext4, btrfs and tmpfs support both flags.
"""

import errno
import os

try:
    import ctypes
except ImportError:
    ctypes = None

# linux/fs.h, fcntl.h
NOREPLACE, EXCHANGE = 1, 2
_AT_FDCWD = -100
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


def call(one, other, flags):
    """As renameat2(2). Raises OSError; NotImplementedError where the host has no such call."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if ctypes else None
    if function is None:
        raise NotImplementedError
    if function(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), flags) != 0:
        number = ctypes.get_errno()
        if number in _UNSUPPORTED:
            raise NotImplementedError
        raise OSError(number, os.strerror(number), other)


def exchange(one, other):
    """Each of the two files gets the other's name, at once. Whether the host can do that. Raises OSError."""
    try:
        call(one, other, EXCHANGE)
        return True
    except NotImplementedError:
        return False


def move(source, target):
    """Rename to a name that nobody has. Raises OSError, FileExistsError where somebody has it."""
    try:
        call(source, target, NOREPLACE)
    except NotImplementedError:
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        os.rename(source, target)
