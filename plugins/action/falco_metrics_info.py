# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of falco_metrics_info: two snapshots from the host → a window."""

from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import windows


class ActionModule(ActionBase):
    """Runs the module and computes here what lies between the snapshots that it sent."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        answer = self._execute_module(
            module_name="falcotune.fleet.falco_metrics_info", module_args=self._task.args, task_vars=task_vars
        )
        if answer.get("failed") or "pair" not in answer:
            return answer
        answer["metrics"] = windows.window(answer.pop("pair"), None, answer.pop("cpus", None))
        result.update(answer)
        return result
