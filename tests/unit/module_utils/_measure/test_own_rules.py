# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules and plugins of the host's own Falco, for a private one."""

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._measure import own_rules

MAIN = """\
# Falco
rules_files: [/etc/falco/falco_rules.yaml]
plugins:
  - name: json
    library_path: libjson.so
    init_config: {token: secret}  # kept
load_plugins: [json]
engine: {kind: modern_ebpf}
"""
FRAGMENT = "load_plugins: [container]\nplugins:\n- name: container\n  library_path: libcontainer.so\n"


def wanted(tmp_path, *sources, paths=(), **more):
    files = [{"path": str(tmp_path / name), "strategy": strategy} for name, strategy in sources]
    return {"blocks": ["plugins", "plugins_hostinfo"], "sources": files,
            "fragments": True, "key": "rules_files", "paths": list(paths), "only_yaml": True, "whole": True, **more}


def own(tmp_path, *sources, arguments=("/usr/bin/falco",), **more):
    return own_rules.Own(wanted(tmp_path, *sources, **more), list(arguments))


def test_the_configuration_of_plugins_stays_text(tmp_path):
    (tmp_path / "falco.yaml").write_text(MAIN)
    (tmp_path / "a.yaml").write_text("engine: {kind: kmod}\n")
    (tmp_path / "b.yaml").write_text(FRAGMENT)
    main, fragments = own(tmp_path, ("falco.yaml", None), ("a.yaml", None), ("b.yaml", "override")).blocks()
    assert main == MAIN[MAIN.index("plugins:"):MAIN.index("load_plugins")]
    assert fragments.texts == {"config-00.yaml": FRAGMENT[FRAGMENT.index("plugins:\n"):]}
    assert fragments.listed("{trial}") == {"config_files": [{"path": "{trial}/config-00.yaml", "strategy": "override"}]}
    assert own_rules.Fragments().listed("x") == {}


@pytest.mark.parametrize("text,said", [("{plugins: []}\n", "can't copy its plugins"), (None, "can't be read")])
def test_a_configuration_that_cannot_be_cut(tmp_path, text, said):
    if text:
        (tmp_path / "falco.yaml").write_text(text)
    with pytest.raises(own_rules.Unusable, match=said):
        own(tmp_path, ("falco.yaml", None)).blocks()


def test_rules_files_in_falcos_order(tmp_path):
    (tmp_path / "rules.d").mkdir()
    for name in ("rules.d/b.yaml", "rules.d/a.yml", "rules.d/notes.txt", "main.yaml"):
        (tmp_path / name).write_text("# %s\n" % name)
    paths = [str(tmp_path / name) for name in ("main.yaml", "missing.yaml", "rules.d")]
    found = own(tmp_path, paths=paths)
    assert [path[len(str(tmp_path)) + 1:] for path, _text in found.texts()] == ["main.yaml", "rules.d/a.yml", "rules.d/b.yaml"]
    assert found.named() == {"rules_files": paths} and found.texts()[0][1] == "# main.yaml\n"
    assert len(own(tmp_path, paths=paths, only_yaml=False).texts()) == 4
    by_option = own(tmp_path, paths=paths, arguments=["/usr/bin/falco", "-r", paths[0], "-r" + paths[1]])
    assert by_option.named() == {"rules_files": paths[:2]}


def test_rules_files_have_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(own_rules, "MAX_RULES", 10)
    (tmp_path / "a.yaml").write_text("- rule: x\n")
    assert own(tmp_path, paths=[str(tmp_path / "a.yaml")]).texts()
    (tmp_path / "b.yaml").write_text("#")
    with pytest.raises(own_rules.Unusable, match="more than 10 bytes"):
        own(tmp_path, paths=[str(tmp_path / name) for name in ("a.yaml", "b.yaml")]).texts()


@pytest.mark.parametrize("arguments,kept", [
    ([], []), (["-o", "engine.kind=kmod", "-c", "/x", "-U"], []), (["-o", "plugins[0].init_config=x"], ["-o", "plugins[0].init_config=x"]),
    (["-D", "Shell", "-Tnet", "-A", "-S", "200"], ["-A", "-D", "Shell", "-T", "net", "-S", "200"]),
    (["--disable-source", "k8s_audit"], []),
])
def test_options_about_rules_and_plugins(arguments, kept):
    assert own_rules.options(["/usr/bin/falco", *arguments]) == kept
