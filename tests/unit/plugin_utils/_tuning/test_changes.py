# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import json
from typing import get_args

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils import _contracts
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import changes
from ansible_collections.falcotune.fleet.tests.unit.hosts import ROOT


@pytest.mark.parametrize("kind, key, label", [
    ("config", "engine.kind", "engine.kind"), ("unit", "Nice", "(unit) Nice"), ("file", "/etc/x", "(file) /etc/x"),
    ("record", "proven state", "(record) proven state"),
])
def test_a_label_has_the_kind_where_the_key_is_not_falco_s(kind, key, label):
    assert changes.label(changes.change(kind, key, None, 1, "why")) == label


def test_the_kinds_are_those_of_the_contract_and_of_the_report_s_schema():
    schema = json.loads((ROOT / "docs" / "report-1.schema.json").read_text())
    told = schema["$defs"]["host"]["properties"]["plan"]["properties"]["changes"]["items"]["properties"]["kind"]["enum"]
    assert told == list(_contracts.CHANGE_KINDS) == list(get_args(_contracts.ChangeKind))
    assert set(changes.WITHOUT_RESTART) | set(changes.OF_WHAT_RUNS) <= set(_contracts.CHANGE_KINDS)


def test_has():
    made = [changes.change("unit", "Nice", None, -10, "why")]
    assert changes.has(made, "record", "unit") and not changes.has(made, "config") and not changes.has([], "unit")
