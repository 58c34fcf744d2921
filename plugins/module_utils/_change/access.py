# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Falco may read and write as the user of its unit, with the unit's capabilities and sandbox.

Asked before Falco is stopped: a Falco that can't write metrics.output_file exits at its start. Modes, ACLs
and capabilities are judged by the kernel, in a child process that becomes what the unit says; paths that the
unit hides or makes read-only are compared by name (systemd.exec, "Sandboxing").
"""

import collections
import ctypes
import grp
import os
import pwd

# linux/capability.h
DAC_OVERRIDE, DAC_READ_SEARCH = 1, 2
_VERSION_3 = 0x20080522
_HOMES = ("/home", "/root", "/run/user")
_SYSTEM = {"yes": ("/usr", "/boot", "/efi"), "full": ("/usr", "/boot", "/efi", "/etc"), "strict": ("/",)}


# Whom a unit's processes belong to: a name, and the numbers of the user, the group and the groups beside it.
Account = collections.namedtuple("Account", "name uid gid groups")


def account(unit):
    """The Account by the unit's User=, Group= and SupplementaryGroups=, root's where it has none; None where
    the host does not know one of them.
    """
    name, group = unit.get("User") or "root", unit.get("Group")
    try:
        user = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
        gid = _gid(group) if group else user.pw_gid
        more = [_gid(word) for word in (unit.get("SupplementaryGroups") or "").split()]
    except KeyError:
        return None
    return Account(user.pw_name, user.pw_uid, gid, os.getgrouplist(user.pw_name, gid) + more)


def _gid(group):
    return int(group) if group.isdigit() else grp.getgrnam(group).gr_gid


def become(user, bounding=None):
    """Make this process, a child, what the unit runs as.

    user: an Account. bounding: names of the capabilities that root keeps, as systemctl shows
    CapabilityBoundingSet=; None keeps all. Raises OSError.
    """
    os.setgroups(user.groups)
    os.setgid(user.gid)
    if user.uid != 0:
        os.setuid(user.uid)
    elif bounding is not None:
        _drop([number for number, name in _OVERRIDES if name not in bounding])


_OVERRIDES = ((DAC_OVERRIDE, "cap_dac_override"), (DAC_READ_SEARCH, "cap_dac_read_search"))


def _drop(numbers):
    """Take capabilities out of the permitted and effective sets: access(2) of root goes by the first."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: of 0-31, then of 32-63
    if libc.capget(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    for number in numbers:
        for position in range(3):
            sets[position] &= ~(1 << number)
    if libc.capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def denied(unit, wanted):
    """The wanted [(path, mode of access(2))] that the unit's user may not have; [] where this process can't
    tell.
    """
    user = account(unit)
    # access(2) does not ask for the capabilities of a user who is not root.
    overrides = (
        user and user.uid != 0 and "cap_dac_override" in (unit.get("AmbientCapabilities") or "").split()
    )
    if os.geteuid() != 0 or user is None or overrides:
        return []
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            bounding = unit.get("CapabilityBoundingSet")
            become(user, None if bounding is None else bounding.split())
            found = [str(number) for number, item in enumerate(wanted) if not _allowed(*item)]
            os.write(writer, " ".join(found).encode("ascii"))
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        found = stream.read().split()
    os.waitpid(child, 0)
    return [wanted[int(number)] for number in found]


def _allowed(path, mode):
    """As access(2); a file that is not there can be written where it can be made."""
    if mode & os.W_OK and not os.path.lexists(path):
        return os.access(os.path.dirname(path), os.W_OK | os.X_OK)
    return os.access(path, mode)


def _inside(path, folder):
    return folder == "/" or path == folder or path.startswith(folder.rstrip("/") + "/")


def hidden(unit, path, root=""):
    """Why the unit's sandbox keeps Falco from writing below a directory of the host, or None.

    The longest path that names it counts, as for systemd. root: prefix of the host's paths.
    """
    inside = path[len(root) :] if root and path.startswith(root + "/") else path
    rules = []
    for name in _SYSTEM.get(unit.get("ProtectSystem") or "", ()):
        rules.append((name, "ProtectSystem=%s" % unit["ProtectSystem"]))
    if unit.get("ProtectHome") not in (None, "", "no"):
        rules.extend((name, "ProtectHome=%s" % unit["ProtectHome"]) for name in _HOMES)
    for setting in ("ReadOnlyPaths", "InaccessiblePaths"):
        rules.extend(
            (name.lstrip("-+"), "%s=%s" % (setting, name)) for name in (unit.get(setting) or "").split()
        )
    rules.extend((name.lstrip("-+"), None) for name in (unit.get("ReadWritePaths") or "").split())
    rules = [
        (len(name.rstrip("/")), reason)
        for name, reason in rules
        if _inside(inside, name) or _inside(path, name)
    ]
    return max(rules, key=lambda rule: rule[0])[1] if rules else None
