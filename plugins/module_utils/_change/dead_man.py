# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A dead man's switch: a transient timer of systemd that runs a command when nobody has taken the timer away.

The worker and its watchdog can be killed together: by the end of a session (KillUserProcesses=), by a
time-out of the unit that runs Ansible, by the kernel out of memory. The timer is outside their cgroup. It
fires once. Of a change the command is undo.sh (undo_script), which waits for as long as a worker is alive; of
a trial it is a start of Falco's unit, which does nothing where that runs.
"""

from ansible_collections.falcotune.fleet.plugins.module_utils._change.failure import Failed
from ansible_collections.falcotune.fleet.plugins.module_utils._host import systemd

# Seconds. A start in a trial must not replace a stop that is still waited for (unit_control.STOP_TIMEOUT).
STARTS_AFTER = 55
# undo.sh starts nothing while a stop is waited for.
UNDOES_AFTER = 30


def _name(token):
    return "falcotune-start-%s" % token


def arm(unit, token, command, seconds):
    """Set the timer, where it is not set. token: of the change or trial, the same for disarm(). Raises
    Failed.
    """
    timer = ["systemd-run", "--unit=" + _name(token), "--on-active=%ds" % seconds]
    status, out, err = systemd.run(timer + ["--timer-property=AccuracySec=1s"] + command, timeout=20)
    if status != 0 and not _armed(token):
        raise Failed(
            "systemd-run can't set the timer that starts %s if this run is killed: %s"
            % (unit, (err or out).strip())
        )


def _armed(token):
    """Whether the timer waits, or what it has started is at work."""
    return systemd.run(["systemctl", "is-active", _name(token) + ".timer", _name(token) + ".service"])[0] == 0


def interrupt(token):
    """Stop what the timer has started. A timer that waits stays."""
    systemd.run(["systemctl", "stop", _name(token) + ".service"], timeout=20)


def disarm(token):
    """Take the timer away, and what it has started; one that was never set is no error."""
    systemd.run(["systemctl", "stop", _name(token) + ".timer", _name(token) + ".service"], timeout=20)
