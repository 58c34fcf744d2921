# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Extended attributes of files that are written elsewhere and renamed into place: ACLs, SELinux labels, those
of users.

A file that is renamed keeps the label of the directory in which it was made. Where SELinux is enforcing,
systemd ignores a drop-in with the type of /var/lib.
"""

import errno
import os

from ansible_collections.falcotune.fleet.plugins.module_utils._host import systemd

ACL, DEFAULT_ACL = "system.posix_acl_access", "system.posix_acl_default"
SELINUX = "security.selinux"
# They sign the content of one file: the kernel makes them, and a copy would be wrong.
OF_CONTENT = ("security.ima", "security.evm")
_UNSUPPORTED = (errno.ENOTSUP, errno.ENODATA, errno.ENOSYS)


def _get(path, name):
    try:
        return os.getxattr(path, name)
    except OSError as error:
        if error.errno in _UNSUPPORTED or error.errno in (errno.ENOENT, errno.EACCES, errno.EPERM):
            return None
        raise


def of(path):
    """{name: value} of a file, for its successor. Raises OSError."""
    try:
        names = os.listxattr(path)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return {}
        raise
    values = {name: _get(path, name) for name in names if name not in OF_CONTENT}
    return {name: value for name, value in values.items() if value is not None}


def of_new(path):
    """{name: value} that a file of this path would have if it were made in its directory. Raises OSError."""
    folder = os.path.dirname(path)
    found = {ACL: _get(folder, DEFAULT_ACL), SELINUX: _label(path)}
    return {name: value for name, value in found.items() if value is not None}


def _label(path):
    """The SELinux label of a path: by the policy, else by a neighbour or the directory; None without one."""
    folder = os.path.dirname(path)
    inherited = _get(folder, SELINUX)
    if inherited is None:
        return None
    status, out, dummy = systemd.run(["matchpathcon", "-n", path], timeout=20)
    label = out.strip()
    if status == 0 and label.count(":") >= 2:
        return label.encode("utf-8") + b"\0"
    for name in sorted(os.listdir(folder)):
        neighbour = os.path.join(folder, name)
        if os.path.isfile(neighbour) and not os.path.islink(neighbour):
            return _get(neighbour, SELINUX) or inherited
    return inherited


def put(handle, name, value):
    """Set one attribute of an open file; where the file system has none of its kind, nothing. Raises
    OSError.
    """
    try:
        os.setxattr(handle, name, value)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
