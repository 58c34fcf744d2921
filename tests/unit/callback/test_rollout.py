# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the callback writes to a terminal: never a host's own control sequences."""

from types import SimpleNamespace

import pytest
from ansible_collections.falcotune.fleet.plugins.callback import rollout

EVIL = "boom\x1b]0;owned\x07\x1b[2J\r\nok: all hosts are healthy\u202e\x9b1m"
SHOWN = "boom\\x1b]0;owned\\x07\\x1b[2J\\x0d\\x0aok: all hosts are healthy\\u202e\\x9b1m"


@pytest.fixture
def callback():
    made = rollout.CallbackModule()
    made.said = []
    made._display = SimpleNamespace(columns=80, verbosity=0, display=lambda text, **options: made.said.append(text))
    return made


def result(action="falcotune.fleet.falco_config", **found):
    return SimpleNamespace(_host=SimpleNamespace(get_name=lambda: "web-01"), _task=SimpleNamespace(action=action), _result=found)


@pytest.mark.parametrize("event, word", [("v2_runner_on_failed", "failed"), ("v2_runner_on_unreachable", "unreachable")])
def test_a_message_of_a_host(callback, event, word):
    getattr(callback, event)(result(msg=EVIL))
    assert callback.said == ["web-01: %s: %s" % (word, SHOWN)]


def test_the_summary_of_a_rollout(callback):
    callback.v2_runner_on_ok(result("falcotune.fleet.falco_rollout", summary=["refused: web-01: " + EVIL]))
    assert callback.said == ["  refused: web-01: " + SHOWN]


def test_a_diff_keeps_its_lines_and_nothing_else(callback):
    diff = {"before_header": "/etc/falco/x.yaml", "after_header": "/etc/falco/x.yaml", "before": "a: 1\n", "after": "a: \x1b[2J\r2\n"}
    callback.v2_on_file_diff(result(diff=[diff], changed=True))
    lines = "".join(callback.said).replace("\x1b[", "").split("\n")  # Ansible's own colours, if any
    assert any("-a: 1" in line for line in lines) and any("+a: \\x1b[2J\\x0d2" in line for line in lines)
    assert "\r" not in "".join(callback.said) and "\x1b[2J" not in "".join(callback.said)
