# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of falco_metrics_info: two snapshots from the host → a window."""

from __future__ import annotations

from ansible_collections.falcotune.fleet.plugins.plugin_utils._action.host_answers import HostAction, mapping
from ansible_collections.falcotune.fleet.plugins.plugin_utils._action.arguments import (
    ArgumentError,
    Arguments,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import windows
from ansible_collections.falcotune.fleet.plugins.plugin_utils._untrusted import count

ARGUMENTS = Arguments("falco_metrics_info")
KEPT = {"pair": mapping, "cpus": count}


class ActionModule(HostAction):
    """Runs the module and computes here the window between the snapshots that it sent."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        self._task_vars = task_vars
        try:
            ARGUMENTS.check(self._task.args)
        except ArgumentError as error:
            return dict(result, failed=True, msg=str(error))
        answer = self.ask("falco_metrics_info", self._task.args, KEPT)
        if answer.get("failed") or "pair" not in answer:
            return answer
        answer["metrics"] = windows.window(answer.pop("pair"), None, answer.pop("cpus", None))
        result.update(answer)
        return result
