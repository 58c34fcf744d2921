# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What rules need of a selection of system calls, and which of them it leaves blind. Pure.

rules: as rules.resolve() and falco_list.parse() give them; only enabled rules for system calls count.
"""

from __future__ import annotations

from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.syscall_names import names_for
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules.definitions import SYSCALL


def needs(rules, release):
    """Event names that the enabled rules need together: what syscalls.select() takes as `rules`."""
    kernel = set()
    for rule in _counted(rules):
        kernel.update(rule["kernel"])
    return names_for(release).exact_events(kernel)


def coverage(rules, selected, release):
    """Which rules lose events under a selection.

    selected: what syscalls.select() returned, or the names of a final set as a dry run prints it.
    → {'blind': [item], 'half_blind': [item]} in the order of the rules; item: {'rule', 'lost': [event names], 'left': [event names]}
    blind: none of its system calls is selected, and no event of Falco's own can match it either.
    A rule that needs no system call at all is in neither list.
    """
    names = names_for(release)
    kernel = (
        set(selected["kernel"])
        if isinstance(selected, dict) and "kernel" in selected
        else names.kernel_of(selected["selected"] if isinstance(selected, dict) else selected)
    )
    found = {"blind": [], "half_blind": []}
    for rule in _counted(rules):
        wanted = set(rule["kernel"])
        lost = wanted - kernel
        if not lost:
            continue
        left = names.exact_events(wanted & kernel) | set(rule["other_events"] if rule["restricted"] else ())
        # In the names in which the loss is a loss: of accept and accept4, losing accept alone is losing accept.
        found["half_blind" if left else "blind"].append(
            {"rule": rule["name"], "lost": sorted(names.exact_events(lost)), "left": sorted(left)}
        )
    return found


def lines(found, but=()):
    """The rules that lose events, a line each, but those named. found: a plan's coverage, or None."""
    told = []
    for kind in ("blind", "half_blind"):
        for item in (found or {}).get(kind) or []:
            if item["rule"] not in but:
                left = ", left %s" % ", ".join(item["left"]) if item["left"] else ""
                told.append(
                    "%s: %s (lost %s%s)"
                    % (kind.replace("_", " "), item["rule"], ", ".join(item["lost"]), left)
                )
    return told


def _counted(rules):
    return (rule for rule in rules if rule["enabled"] and rule["source"] == SYSCALL)
