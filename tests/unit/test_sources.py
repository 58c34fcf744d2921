# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs on a host must parse there: Python 3.6 grammar, no later standard library, the licence."""

import ast
import sys

import pytest
from ansible_collections.falcotune.fleet.tests.unit.hosts import ROOT

ON_HOSTS = sorted((ROOT / "plugins" / "modules").glob("*.py")) + sorted((ROOT / "plugins" / "module_utils").glob("*.py"))
ALL = sorted((ROOT / "plugins").rglob("*.py"))
SINCE_3_7 = {"dataclasses", "contextvars", "graphlib", "zoneinfo", "tomllib"}
HEADER = [
    "# Copyright (c) 2026 falcotune contributors",
    "# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)",
    "# SPDX-License-Identifier: GPL-3.0-or-later",
]
# Beside the pure core, on the controller: the history of audits is a file.
WITH_IO = {"history.py": {"os"}}
PURE = "ansible_collections.falcotune.fleet.plugins.plugin_utils"


def name(path):
    return str(path.relative_to(ROOT))


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ("%s.%s" % (node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("path", ON_HOSTS, ids=name)
def test_python_3_6_reads_it(path):
    tree = ast.parse(path.read_text(), name(path), feature_version=(3, 6))
    assert "__future__.annotations" not in set(imported(tree))
    keywords = {keyword.arg for node in ast.walk(tree) if isinstance(node, ast.Call) for keyword in node.keywords}
    assert not keywords & {"capture_output", "missing_ok", "dirs_exist_ok"}


def test_the_grammar_check_can_fail():
    with pytest.raises(SyntaxError):
        ast.parse("if (x := 1): pass", feature_version=(3, 6))


@pytest.mark.parametrize("path", ON_HOSTS, ids=name)
def test_hosts_need_nothing_but_python_and_what_ansible_sends(path):
    for module in imported(ast.parse(path.read_text())):
        first = module.split(".")[0]
        if first in ("ansible", "ansible_collections"):
            assert module.startswith(("ansible.module_utils.", "ansible_collections.falcotune.fleet.plugins.module_utils"))
        else:
            assert first in sys.stdlib_module_names and first not in SINCE_3_7, module


@pytest.mark.parametrize("path", sorted((ROOT / "plugins" / "plugin_utils").glob("*.py")), ids=name)
def test_the_pure_core_imports_nothing_of_ansible_and_does_no_io(path):
    for module in imported(ast.parse(path.read_text())):
        forbidden = {"os", "pathlib", "subprocess", "socket", "time", "random"} - WITH_IO.get(path.name, set())
        assert not module.startswith("ansible.") and module.split(".")[0] not in forbidden
        assert not module.startswith("ansible_collections") or module.startswith(PURE)


@pytest.mark.parametrize("path", ALL, ids=name)
def test_licence(path):
    lines = path.read_text().splitlines()
    start = 1 if lines[0].startswith("#!") else 0
    assert lines[start:start + 3] == HEADER
