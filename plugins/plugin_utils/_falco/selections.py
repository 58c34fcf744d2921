# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which system calls Falco selects for given rules and base_syscalls, as its own dry run would print them.
Pure.

The order in which Falco adds and removes is what makes the result
(userspace/falco/app/actions/configure_interesting_sets.cpp, 0.35 to 0.44.1): an exclusion is taken from the
rules' calls too, what is ignored goes before the repair, and the repair puts members of its minimum back that
an exclusion took away.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.releases import Release
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.syscall_names import (
    KERNEL_ONLY,
    META,
    REPAIR,
    Names,
    known_since,
    names_for,
)

Selection = dict[str, Any]
"""What select() returns: lists of event names, and warnings."""
Warning = dict[str, Any]
"""{'kind', 'names', 'text'}"""

# Falco's cleanup hangs on it: it is selected whatever is configured.
ALWAYS = "procexit"
# Before these names a kernel or a tracer puts something of its own.
DECORATION = re.compile(
    r"^(?:sys_enter_|sys_exit_|__x64_sys_|__arm64_sys_|__se_sys_|__sys_|sys_|SYS_|__NR_|NR_)"
)
# What a name must have in common with a legal one to be taken for a slip of the pen.
LIKENESS = 0.7


def select(
    release: Release | str,
    rules: Iterable[str],
    custom_set: Any = (),
    repair: bool = False,
    all_: bool = False,
    option_all: bool = False,
) -> Selection:
    """What this Falco would watch.

    release: a Release or a version, 0.35 or newer. rules: event names that the enabled rules need
    (coverage.needs(), or those that a dry run prints). custom_set, repair, all_: base_syscalls; all_ does
    nothing before 0.40. option_all: -A, gone since 0.41.
    → lists of event names, sorted, each empty where Falco would print no such line:
       {'rules', 'plugins' (always empty, as in every Falco), 'added', 'removed', 'state', 'ignored',
        'repaired', 'selected', 'unsupported', 'invalid_positive', 'invalid_negative',
        'kernel': what is switched on in the kernel, in its own names, 'warnings': [Warning]}
    """
    if not isinstance(release, releases.Release):
        release = releases.release_for(release)
    names = names_for(release)
    entries = entries_of(custom_set)
    positive = {item for item in entries if not item.startswith("!")}
    negative = {item[1:] for item in entries if item.startswith("!")}
    everything = (bool(all_) and release.since(0, 40)) or (bool(option_all) and not release.since(0, 41))

    wanted, added, removed = (names.kernel_of(given) for given in (rules, positive, negative))
    state, ignored, restored, chosen = stages(
        names, wanted, added, removed, repair, bool(entries), everything
    )

    kernel = {
        "rules": wanted,
        "added": added,
        "removed": removed,
        "state": state,
        "ignored": ignored,
        "repaired": restored,
        "selected": chosen,
        "unsupported": wanted - chosen,
    }
    result: Selection = {key: sorted(names.events_of(calls)) for key, calls in kernel.items()}
    result["plugins"] = []
    result["invalid_positive"] = sorted(positive - set(result["added"]))
    result["invalid_negative"] = sorted(negative - set(result["removed"]))
    result["kernel"] = sorted(chosen)
    case = _Case(result, release, names, removed & chosen, positive, bool(all_), bool(option_all))
    result["warnings"] = _warnings(case)
    return result


def stages(
    names: Names,
    wanted: set[str],
    added: set[str],
    removed: set[str],
    repair: bool,
    given: bool,
    everything: bool,
) -> tuple[set[str], set[str], set[str], set[str]]:
    """Falco's own order of adding and removing, on kernel names: (state, ignored, restored, selected).

    wanted: what rules need. added, removed: what custom_set names. given: whether custom_set holds anything.
    everything: ignored calls are watched too.
    """
    if repair and not added:
        chosen = repaired(wanted, names)
    else:
        chosen = wanted | (added or names.state)
    chosen = chosen - removed
    state = set() if added else chosen - wanted
    ignored = set() if everything else chosen & names.ignored
    chosen = chosen - ignored
    restored = set()
    if repair and given:
        whole = repaired(chosen, names)
        restored = whole - chosen
        chosen = whole
    return state, ignored, restored, chosen | names.kernel_of({ALWAYS})


def repaired(kernel: set[str], names: Names) -> set[str]:
    """Kernel names with what Falco needs to make sense of them."""
    whole = set(kernel) | REPAIR
    if kernel & names.network:
        whole |= {"socket", "getsockopt", "close"}
    if kernel & {"accept", "accept4", "listen"}:
        whole.add("bind")
    if kernel & names.files:
        whole.add("close")
    return whole


def nearest(name: object, release: Release) -> dict[str, Any]:
    """The event name that somebody meant.

    → {'name': a legal event name or None, 'text': one sentence that says why; '' where the name itself is
    legal}
    """
    names = names_for(release)
    text = str(name).strip()
    text = text.removeprefix("!").strip()
    if text in names.events:
        return {"name": text, "text": ""}
    for form in dict.fromkeys(
        (text, text.lower(), DECORATION.sub("", text), DECORATION.sub("", text).lower())
    ):
        if form in KERNEL_ONLY and form in names.kernel:
            event = KERNEL_ONLY[form]
            return {"name": event, "text": "%s is the kernel's name: Falco calls it %s" % (text, event)}
        if form in names.events:
            return {"name": form, "text": "%s is written %s in Falco" % (text, form)}
    if text in META:
        return {
            "name": None,
            "text": "%s is an event of Falco's own, no system call: it cannot be selected" % text,
        }
    since = known_since(text)
    if since:
        return {"name": None, "text": "%s is known since Falco %s" % (text, since)}
    form = DECORATION.sub("", text).lower()
    close = difflib.get_close_matches(form[:64], sorted(names.events), 1, LIKENESS) if form else []
    if close:
        return {
            "name": close[0],
            "text": "no system call of Falco is called %s: %s is nearest" % (text, close[0]),
        }
    return {"name": None, "text": "no system call of Falco is called %s" % text}


def entries_of(custom_set: Any) -> list[str]:
    """base_syscalls.custom_set as Falco reads it, a list of texts: a scalar counts as a list of one, nothing
    as an empty one."""
    if custom_set is None:
        return []
    given = [custom_set] if isinstance(custom_set, str) else list(custom_set)
    return [str(item) for item in given if item is not None and str(item)]


class _Case(NamedTuple):
    """One selection, for its warnings. undone: kernel names that are selected although they are excluded."""

    result: Selection
    release: Release
    names: Names
    undone: set[str]
    positive: set[str]
    all_: bool
    option_all: bool


def _warning(kind: str, affected: Iterable[str], text: str) -> Warning:
    return {"kind": kind, "names": sorted(affected), "text": text}


def _warnings(case: _Case) -> list[Warning]:
    return [
        *_invalid(case),
        *_restored(case),
        *_not_selected(case),
        *_unknown_options(case),
        *_surprising(case),
    ]


def _invalid(case: _Case) -> Iterator[Warning]:
    result = case.result
    for key, sign in (("invalid_positive", ""), ("invalid_negative", "!")):
        invalid = result[key]
        if invalid:
            hints = "; ".join(nearest(name, case.release)["text"] for name in invalid)
            names = ", ".join(sign + name for name in invalid)
            yield _warning(
                key, invalid, "ignored by Falco in base_syscalls.custom_set: %s (%s)" % (names, hints)
            )
    if result["invalid_positive"] and not result["added"]:
        yield _warning(
            "fallback",
            result["invalid_positive"],
            "no name in base_syscalls.custom_set is valid, so Falco takes its default set, as if the list "
            "were empty",
        )


def _restored(case: _Case) -> Iterator[Warning]:
    always = case.names.kernel_of({ALWAYS})
    back = case.undone - always
    if back:
        names = sorted(case.names.events_of(back) & set(case.result["removed"]))
        yield _warning(
            "restored", names, "excluded and put back by base_syscalls.repair: %s" % ", ".join(names)
        )
    if case.undone & always:
        yield _warning("always", [ALWAYS], "excluding %s has no effect: Falco always selects it" % ALWAYS)


def _not_selected(case: _Case) -> Iterator[Warning]:
    ignored = case.result["ignored"]
    if ignored:
        cure = "base_syscalls.all: true" if case.release.since(0, 40) else "the option -A"
        yield _warning(
            "ignored", ignored, "asked for and not selected without %s: %s" % (cure, ", ".join(ignored))
        )


def _unknown_options(case: _Case) -> Iterator[Warning]:
    if case.all_ and not case.release.since(0, 40):
        yield _warning(
            "all_unknown",
            [],
            "Falco %s does not know base_syscalls.all (since 0.40); there it is the option -A" % case.release,
        )
    if case.option_all and case.release.since(0, 41):
        yield _warning(
            "option_gone",
            [],
            "Falco %s has no option -A any more and does not start with it; set base_syscalls.all: true"
            % case.release,
        )


def _surprising(case: _Case) -> Iterator[Warning]:
    if "accept4" in case.positive and "accept" not in case.positive:
        yield _warning(
            "accept", ["accept4"], "accept4 selects accept4 alone, though Falco prints it as accept, accept4"
        )
    unsupported = case.result["unsupported"]
    if unsupported:
        yield _warning(
            "unsupported",
            unsupported,
            "rules ask for system calls that are not selected: %s" % ", ".join(unsupported),
        )
