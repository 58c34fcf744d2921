# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Arguments of an audit from elsewhere → what the auditor takes. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from ansible_collections.falcotune.fleet.plugins.plugin_utils import _untrusted
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.releases import Release
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.syscall_names import names_for
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules_audit import auditor
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import hint

LEVELS = ("error", "warning", "note")


class InputError(ValueError):
    """An argument of another shape. The text says which, and what was expected."""


def files(given: object) -> tuple[list[tuple[str, str]], dict[str, int]]:
    """[(name, text)] of texts, of {'name', 'text'}, or of what ansible.builtin.slurp returns; and the first
    line of each file that is not UTF-8. Raises InputError."""
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, (list, tuple)) or not given:
        raise InputError("expected a list of rules files, each with 'name' and 'text'")
    found: list[tuple[str, str]] = []
    damaged: dict[str, int] = {}
    for number, item in enumerate(given):
        name, text = "rules file %d" % (number + 1), item
        if isinstance(item, Mapping):
            name = str(item.get("name") or item.get("source") or name)
            text = item.get("text")
            if text is None and isinstance(item.get("content"), str):
                text, line = _decoded(name, item["content"])
                if line is not None:
                    damaged[name] = line
        if not isinstance(text, str):
            raise InputError("%s has no text: expected a string" % name)
        found.append((name, text))
    return found, damaged


def _decoded(name: str, content: str) -> tuple[str, int | None]:
    """(text of base64, line of the first byte that is not UTF-8). Falco takes such bytes as they are."""
    try:
        raw = base64.b64decode(content, validate=True)
    except ValueError:
        raise InputError("the content of %s is not base64" % name) from None
    try:
        return raw.decode("utf-8"), None
    except UnicodeDecodeError as error:
        return raw.decode("utf-8", "replace"), raw.count(b"\n", 0, error.start) + 1


def fail_on(given: object) -> list[str]:
    """Levels and kinds of findings. Raises InputError."""
    known = (*LEVELS, *auditor.KINDS)
    if not isinstance(given, (list, tuple)):
        raise InputError("fail_on is not a list of levels and kinds of findings")
    for name in given:
        if name not in known:
            raise InputError(
                "fail_on holds %r, which is neither a level nor a kind%s" % (name, hint(name, known))
            )
    return [str(name) for name in given]


def host(
    release: Release,
    config: object = None,
    profile: object = None,
    matches: object = None,
    seconds: object = None,
) -> auditor.Host:
    """What is known of a host. config: settings of falco.yaml; profile: of falco_syscall_profile. What is
    missing or of another shape is not known."""
    settings = _untrusted.dictionary(config)
    base = _untrusted.dictionary(settings.get("base_syscalls"))
    return auditor.Host(
        priority=str(settings.get("priority") or "debug"),
        selection=settings.get("rules") or (),
        matching="all" if settings.get("rule_matching") == "all" else "first",
        base_syscalls={
            "custom_set": _untrusted.listed(_untrusted.text)(base.get("custom_set")),
            "repair": _flag(base.get("repair")),
            "all": _flag(base.get("all")),
        }
        if base
        else {},
        rates=rates(release, profile),
        matches=_untrusted.counts(matches) if isinstance(matches, Mapping) else None,
        matched_seconds=_untrusted.number(seconds),
    )


def _flag(value: object) -> bool:
    return value is True or (isinstance(value, str) and value.lower() in ("true", "yes", "on", "y"))


def rates(release: Release, profile: object) -> dict[str, float] | None:
    """{kernel name: events a second} of a profile, or None. A call makes one event, two before 0.42."""
    given = _untrusted.dictionary(profile)
    counts: Any = _untrusted.dictionary(given.get("counts"))
    seconds = _untrusted.number(given.get("seconds"))
    if not counts or not seconds:
        return None
    factor = 2.0 if release.enter_events else 1.0
    known = names_for(release).kernel
    return {
        name: factor * count / seconds
        for name, count in ((name, _untrusted.number(value)) for name, value in counts.items())
        if count is not None and name in known
    }
