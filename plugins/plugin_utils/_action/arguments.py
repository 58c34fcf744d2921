# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task gives an action plugin, checked by the DOCUMENTATION of the module of the same name.

So there is one list of options, types, choices and defaults, and it is the one that ansible-doc shows. This
is the one room of plugin_utils that knows Ansible.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

PLUGINS = Path(__file__).resolve().parents[2]
COLLECTION = "falcotune.fleet."
# Of an option's documentation, what the validator reads too.
SPECIFIED = ("type", "elements", "choices", "default", "required")


class ArgumentError(ValueError):
    """Wrong arguments: names each option, what was found and what was expected."""


class Arguments:
    """The options of one module, or of a plugin of another kind. internal: those that the controller half
    sends to its host, which no task may give.
    """

    def __init__(self, module: str, internal: tuple[str, ...] = (), kind: str = "modules") -> None:
        documented = options_of(module, kind)
        self.spec = {
            name: {key: option[key] for key in SPECIFIED if key in option}
            for name, option in documented.items()
            if name not in internal
        }
        self._validator = ArgumentSpecValidator(self.spec)

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Every option in its type, defaults filled in. Raises ArgumentError.

        Dicts are passed through as they are: facts and plans are large, and their contents are not documented
        option by option.
        """
        unknown = sorted(str(name) for name in given if name not in self.spec)
        if unknown:
            raise ArgumentError(
                "unsupported parameters: %s; supported are %s"
                % (", ".join(unknown), ", ".join(sorted(self.spec)))
            )
        # null is the same as not given: ansible-core before 2.17 refuses it as a text.
        given = {name: value for name, value in given.items() if value is not None}
        whole = {name: value for name, value in given.items() if isinstance(value, Mapping)}
        found = self._validator.validate(
            {name: {} if name in whole and self._is_dict(name) else value for name, value in given.items()}
        )
        if found.error_messages:
            raise ArgumentError("; ".join(found.error_messages))
        return {**found.validated_parameters, **{name: whole[name] for name in whole if self._is_dict(name)}}

    def _is_dict(self, name: str) -> bool:
        return self.spec[name].get("type") == "dict"


def options_of(module: str, kind: str = "modules") -> dict[str, dict[str, Any]]:
    """The documented options of a module or plugin of this collection, with those of its own fragments."""
    documentation = yaml.safe_load(_documentation(PLUGINS / kind / (module + ".py")))
    options: dict[str, dict[str, Any]] = {}
    for name in documentation.get("extends_documentation_fragment", []):
        if name.startswith(COLLECTION):
            options.update(_fragment(name[len(COLLECTION) :]).get("options", {}))
    options.update(documentation.get("options", {}))
    return options


def _documentation(path: Path) -> str:
    """The text of DOCUMENTATION, without running the module."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "DOCUMENTATION":
            return str(ast.literal_eval(node.value))
    raise ValueError("%s has no DOCUMENTATION" % path)


def _fragment(name: str) -> dict[str, Any]:
    """'host' or 'attributes.reads' → what that fragment says."""
    file, _dot, part = name.partition(".")
    module = importlib.import_module("ansible_collections.falcotune.fleet.plugins.doc_fragments." + file)
    text = getattr(module.ModuleDocFragment, part.upper() or "DOCUMENTATION")
    return dict(yaml.safe_load(text))
