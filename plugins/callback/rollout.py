# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollout in one line a batch."""

from __future__ import annotations

DOCUMENTATION = """
name: rollout
type: stdout
short_description: A rollout in one line a batch
version_added: 0.1.0
description:
  - Shows C(tune_falco.yml) as its batches. Each has one line with the time elapsed, the expected end of the
    rollout, the hosts done, reverted and left, and how many are blind now. A terminal rewrites the line
    while the batch runs; a log has it once, when the batch has ended.
  - Also shows failures, the plan and the end of the rollout, and nothing else.
  - Enable it with C(ANSIBLE_STDOUT_CALLBACK=falcotune.fleet.rollout).
author:
  - falcotune contributors (@falcotune)
"""

import sys
import time

from ansible.plugins.callback import CallbackBase
from ansible_collections.falcotune.fleet.plugins.plugin_utils import _untrusted
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rollout import hosts, progress
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import several, visible


class CallbackModule(CallbackBase):
    """Follows the results of falco_rollout and falco_config."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "falcotune.fleet.rollout"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.live = sys.stdout.isatty()
        self.progress = progress.Progress()
        self.shown = False  # a live line is on the terminal

    # -- output

    def _say(self, text):
        """A line that stays. Hosts' text is in it, whose control characters are written out."""
        self._clear()
        self._display.display(visible(str(text)))

    def _clear(self):
        if self.shown:
            sys.stdout.write("\r\033[K")
            self.shown = False

    def _line(self):
        """The line of this batch, over the previous one. Terminals only."""
        if self.live and self.progress.number:
            width = max(20, self._display.columns - 1)
            sys.stdout.write("\r\033[K" + visible(self.progress.line(time.time()))[:width])
            sys.stdout.flush()
            self.shown = True

    # -- events

    def v2_playbook_on_play_start(self, play):
        if not self.progress.number:
            self._say(play.get_name().strip())

    def v2_playbook_on_no_hosts_matched(self):
        pass  # the plays of a rollout without hosts to change, or without failures

    def v2_runner_on_start(self, host, task):
        if task.action.endswith("falco_config") and self.progress.number:
            self.progress.started(host.get_name())
            self._line()

    def v2_runner_on_ok(self, result):
        action, found = result._task.action, result._result
        if action.endswith("falco_rollout"):
            self._decided(found)
        elif action.endswith("falco_config"):
            self._host(result)

    def v2_runner_on_skipped(self, result):
        self.progress.skipped(result._host.get_name())

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._failed("failed", result)

    def v2_runner_on_unreachable(self, result):
        self._failed("unreachable", result)

    def v2_on_file_diff(self, result):
        diff = result._result.get("diff")
        if diff and result._result.get("changed"):
            # Coloured by Ansible where it is written, so the text is cleaned before.
            self._clear()
            self._display.display(self._get_diff(_visible_diff(diff)))

    def v2_playbook_on_stats(self, stats):
        self._clear()
        hosts = sorted(stats.processed)
        bad = [
            host
            for host in hosts
            if stats.summarize(host)["failures"] or stats.summarize(host)["unreachable"]
        ]
        self._say(
            "%s, %d of them failed or unreachable%s"
            % (several(len(hosts), "host"), len(bad), ": " + ", ".join(bad) if bad else "")
        )

    def _decided(self, found):
        facts = _untrusted.dictionary(found.get("ansible_facts"))
        kept = _untrusted.dictionary(facts.get("falco_tune_rollout"))
        if "plan" in kept:
            self.progress.planned(kept["plan"], time.time())
        if "hosts" in found and "number" in found:
            self.progress.admitted(found)
            self._line()
        if "ended" in found:
            self.progress.ended(found)
            self._say(self.progress.line(time.time()))
        for line in found.get("summary") or []:
            self._say("  " + line)

    def _host(self, result):
        found = result._result
        if "rollout" not in found and self.progress.number:
            self.progress.host(
                result._host.get_name(), hosts.outcome(found, {}) if "look" not in found else None
            )
            self._line()

    def _failed(self, word, result):
        name, found = result._host.get_name(), result._result
        if self.progress.number and result._task.action.endswith("falco_config"):
            looked = "reverted" in found
            self.progress.host(
                name, hosts.outcome({"evidence": {}} if looked else found, found if looked else {})
            )
        if result._task.action.endswith("fail") and name in self.progress.outcomes:
            return  # shown already, when it happened
        self._say("%s: %s: %s" % (name, word, found.get("msg")))
        self._line()


def _visible_diff(value):
    """A diff with the control characters of its texts written out, its lines kept."""
    if isinstance(value, dict):
        return {key: _visible_diff(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_visible_diff(item) for item in value]
    if isinstance(value, str):
        return "".join(visible(line.rstrip("\n")) + "\n" * line.endswith("\n") for line in _lines(value))
    return value


def _lines(text):
    """The lines with their ends; no other character than a line feed ends one."""
    parts = text.split("\n")
    return [part + "\n" for part in parts[:-1]] + parts[-1:]
