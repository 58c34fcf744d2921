# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every result of a run and every module that is sent to a host, as lines of JSON, for tests and benchmarks."""

from __future__ import annotations

import functools
import json
import os

from ansible.plugins.action import ActionBase
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: events
type: aggregate
short_description: Results and round trips as lines of JSON
description:
  - Appends an object of host, task, action, state and result to the file that EVENTS_LOG names.
  - Appends an object of host and module for each module that an action plugin sends to a host, a round trip. Results do not
    tell that since ansible-core 2.21, which keeps C(invocation) from callbacks.
"""


def append(line):
    with open(os.environ["EVENTS_LOG"], "a", encoding="utf-8") as stream:
        stream.write(json.dumps(line, default=str) + "\n")


def count_round_trips():
    """Have ActionBase tell of each module. Workers are forked from the process that loads this plugin, and inherit it."""
    send = ActionBase._execute_module
    if hasattr(send, "__wrapped__"):
        return

    @functools.wraps(send)
    def told(self, module_name=None, module_args=None, tmp=None, task_vars=None, **more):
        append({"host": (task_vars or {}).get("inventory_hostname"), "module": module_name or self._task.action})
        return send(self, module_name, module_args, tmp, task_vars, **more)

    ActionBase._execute_module = told


class CallbackModule(CallbackBase):
    """One line a result."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "events"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self):
        super().__init__()
        count_round_trips()

    def _write(self, state, result):
        append({"host": result._host.get_name(), "task": result._task.get_name(), "action": result._task.action,
                "state": state, "result": result._result})

    def v2_runner_on_ok(self, result):
        self._write("ok", result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._write("failed", result)

    def v2_runner_on_skipped(self, result):
        self._write("skipped", result)

    def v2_runner_on_unreachable(self, result):
        self._write("unreachable", result)
