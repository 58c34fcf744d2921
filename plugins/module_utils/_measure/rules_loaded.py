# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host's own Falco prints about its rules and the system calls that it selects for them.

The controller reads it.
"""

from ansible_collections.falcotune.fleet.plugins.module_utils._change import candidate
from ansible_collections.falcotune.fleet.plugins.module_utils._host import command_line, host, systemd

# The stock rules are listed in 0.6 MB, all of Falco's rules in 2 MB.
MAX_OUTPUT = 1 << 25


def ask(arguments, environment, dry_run):
    """{'list', 'dry_run', 'reason'}: `falco -L` as JSON and the debug output of a dry run, packed.

    arguments, environment: the process's own. dry_run: the release's option for it. reason: why one of them
    is missing, or None. Neither opens the driver or an output.
    """
    found = {"list": None, "dry_run": None, "reason": None}
    command = command_line.quiet(arguments, "debug")
    status, out, err = systemd.run(
        command + ["-L", "-o", "json_output=true"], timeout=120, environment=environment
    )
    if status != 0:
        return dict(found, reason="falco -L failed: %s" % candidate.cause(out, err, status))
    found["list"] = host.pack(out[:MAX_OUTPUT].encode("utf-8"))
    status, out, err = systemd.run(command + [dry_run], timeout=120, environment=environment)
    found["dry_run"] = host.pack(err[:MAX_OUTPUT].encode("utf-8"))
    if status != 0:
        found["reason"] = "falco %s failed: %s" % (dry_run, candidate.cause(out, err, status))
    elif len(out) > MAX_OUTPUT or len(err) > MAX_OUTPUT:
        found["reason"] = "Falco printed more than %d bytes" % MAX_OUTPUT
    return found
