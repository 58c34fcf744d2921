# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A dead man's switch: a transient timer of systemd that starts Falco's unit when nobody has taken the timer
away.

The worker and its watchdog can be killed together: by the end of a session (KillUserProcesses=), by a
time-out of the unit that runs Ansible, by the kernel out of memory. The timer is outside their cgroup. It
fires once. A start of a unit that runs does nothing.
"""

from ansible_collections.falcotune.fleet.plugins.module_utils._change.failure import Failed
from ansible_collections.falcotune.fleet.plugins.module_utils._host import systemd

# Seconds. Longer than a stop may take (unit_control.STOP_TIMEOUT): a start would replace a stop that is still
# waited for.
FIRES_AFTER = 55


def _name(token):
    return "falcotune-start-%s" % token


def arm(unit, token, seconds=FIRES_AFTER):
    """Set the timer. token: of the change or trial, the same for disarm(). Raises Failed."""
    command = ["systemd-run", "--unit=" + _name(token), "--on-active=%ds" % seconds]
    command += ["--timer-property=AccuracySec=1s", "systemctl", "start", unit]
    status, out, err = systemd.run(command, timeout=20)
    if status != 0:
        raise Failed(
            "systemd-run can't set the timer that starts %s if this run is killed: %s"
            % (unit, (err or out).strip())
        )


def disarm(token):
    """Take the timer away; one that has fired, or that was never set, is no error."""
    systemd.run(["systemctl", "stop", _name(token) + ".timer"], timeout=20)
