# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs on a host must parse there: Python 3.6 grammar, no later standard library, the licence."""

import ast
import sys

import pytest
from ansible_collections.falcotune.fleet.tests.unit.hosts import ROOT

ON_HOSTS = sorted((ROOT / "plugins" / "modules").rglob("*.py")) + sorted((ROOT / "plugins" / "module_utils").rglob("*.py"))
ALL = [path for path in sorted((ROOT / "plugins").rglob("*.py")) if path.name != "__init__.py"]
# What action plugins have in common knows Ansible and reads the modules' documentation; the rest is pure.
CORE = [path for path in sorted((ROOT / "plugins" / "plugin_utils").rglob("*.py")) if path.parent.name != "_action"]
SINCE_3_7 = {"dataclasses", "contextvars", "graphlib", "zoneinfo", "tomllib"}
# REUSE-IgnoreStart
HEADER = [
    "# Copyright (c) 2026 falcotune contributors",
    "# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)",
    "# SPDX-License-Identifier: GPL-3.0-or-later",
]
# REUSE-IgnoreEnd
# Beside the pure core, on the controller: the history of audits is a file.
WITH_IO = {"_report/history.py": {"os"}}
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


@pytest.mark.parametrize("path", CORE, ids=name)
def test_the_pure_core_imports_nothing_of_ansible_and_does_no_io(path):
    for module in imported(ast.parse(path.read_text())):
        forbidden = {"os", "pathlib", "subprocess", "socket", "time", "random"} - WITH_IO.get("/".join(path.parts[-2:]), set())
        assert not module.startswith("ansible.") and module.split(".")[0] not in forbidden
        assert not module.startswith("ansible_collections") or module.startswith(PURE)


@pytest.mark.parametrize("path", ALL, ids=name)
def test_licence(path):
    lines = path.read_text().splitlines()
    start = 1 if lines[0].startswith("#!") else 0
    assert lines[start:start + 3] == HEADER


@pytest.mark.parametrize("path", ALL, ids=name)
def test_no_function_has_more_than_50_lines(path):
    functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    assert not [node.name for node in functions if node.end_lineno - node.lineno >= 50]


def test_packages_are_marked_by_an_empty_file():
    for path in (ROOT / "plugins").rglob("__init__.py"):
        assert path.read_text() == "", path


# What a folder may import beside itself: what stands before it. One arrow a folder, none upward.
ARROWS = {
    "plugin_utils": ("_contracts", "_text", "_untrusted", "_yaml", "_falco", "_rules", "_rules_audit", "_tuning", "_trial", "_rollout",
                     "_report", "_prometheus", "_action"),
    "module_utils": ("_host", "_metrics", "_change", "_measure"),
}


def folder_of(module, kind):
    """The folder of ARROWS that a dotted module of the collection lives in, or None for one of elsewhere."""
    prefix = "ansible_collections.falcotune.fleet.plugins.%s." % kind
    return module[len(prefix):].split(".")[0] if module.startswith(prefix) else None


@pytest.mark.parametrize("kind", ARROWS)
def test_folders_import_only_what_stands_before_them(kind):
    order = ARROWS[kind]
    found = set()
    for path in sorted((ROOT / "plugins" / kind).rglob("*.py")):
        parts = path.relative_to(ROOT / "plugins" / kind).with_suffix("").parts
        if parts[-1] == "__init__":
            continue
        found.add(parts[0])
        for module in imported(ast.parse(path.read_text())):
            other = folder_of(module, kind)
            assert other is None or order.index(other) <= order.index(parts[0]), "%s imports %s" % (name(path), module)
    assert found == set(order)


def test_no_circle_of_imports():
    graph = {}
    for path in ALL:
        dotted = "ansible_collections.falcotune.fleet." + ".".join(path.relative_to(ROOT).with_suffix("").parts)
        graph[dotted] = set(imported(ast.parse(path.read_text())))
    for dotted, modules in graph.items():
        graph[dotted] = {module for item in modules for module in (item, item.rpartition(".")[0]) if module in graph} - {dotted}
    left = dict(graph)
    while left:
        free = [dotted for dotted, modules in left.items() if not modules & set(left)]
        assert free, "a circle among %s" % sorted(left)
        for dotted in free:
            del left[dotted]
