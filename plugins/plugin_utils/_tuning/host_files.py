# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files outside Falco's own that a plan needs: rotation, sysctls, the drop-in of Falco's unit. Pure."""

from __future__ import annotations

from typing import Any

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import HostFile, Rotation

WRITTEN = "# Written by falcotune.fleet."
ROTATION_PATH = "/etc/logrotate.d/falcotune"
SYSCTL_PATH = "/etc/sysctl.d/zz-falcotune.conf"
UNIT_PATH = "/etc/systemd/system/%s.d/zz-falcotune.conf"

_ROTATION = """\
%(written)s Falco keeps its metrics file open and does not rotate it, hence copytruncate.
%(path)s {%(su)s
    size %(size)s
    rotate %(count)s
    copytruncate
    compress
    missingok
    notifempty
}
"""


def _file(path: str, content: str, why: str) -> HostFile:
    return {"path": path, "mode": "0644", "content": content, "why": why}


def wanted(
    rotate: Rotation | None, sysctls: dict[str, str], unit: str, lines: dict[str, Any] | None
) -> list[HostFile]:
    """The files, in the order in which they are written.

    unit: the name of Falco's unit. lines: of our drop-in's [Service]; None where no drop-in is there and none
    is needed.
    """
    found = []
    if rotate:
        # logrotate refuses a directory that others than root may write to, unless it is told whose it is.
        owner = "\n    su %s" % rotate["owner"] if rotate["owner"] else ""
        content = _ROTATION % dict(rotate, written=WRITTEN, su=owner)
        found.append(_file(ROTATION_PATH, content, "Falco does not rotate its metrics file"))
    if sysctls:
        content = "%s\n%s\n" % (WRITTEN, _lines(sysctls, " = "))
        found.append(_file(SYSCTL_PATH, content, "a sysctl does not survive a reboot by itself"))
    if lines is not None:
        content = "%s\n[Service]\n%s\n" % (WRITTEN, _lines(lines, "="))
        found.append(_file(UNIT_PATH % unit, content, "settings that Falco's unit needs"))
    return found


def _lines(values: dict[str, Any], sign: str) -> str:
    return "\n".join("%s%s%s" % (name, sign, values[name]) for name in sorted(values, key=str.lower))
