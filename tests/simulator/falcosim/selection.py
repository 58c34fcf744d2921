# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which system calls Falco asks the driver for."""

import sys

from . import syscalls


def repair(codes):
    """The smallest set on which Falco's state keeps working for `codes`."""
    out = set(codes) | syscalls.REPAIR_CODES
    if codes & syscalls.NETWORK_CODES:
        out |= {"socket", "getsockopt", "close"}
    if codes & {"accept", "accept4", "listen"}:
        out |= {"bind"}
    if codes & syscalls.FD_CODES:
        out |= {"close"}
    return out


def _listed(names):
    return ", ".join(sorted(names))


def select(settings, rule_codes, log, activate_all=False):
    release = settings.release
    rules = set(rule_codes)
    if not release.since(35):
        return (rules | release.state_codes) - (set() if activate_all else release.ignored_codes)

    def say(write, template, codes):
        names = syscalls.to_names(codes)
        write(template % (len(names), _listed(names)))

    if rules:
        say(log.debug, "(%d) syscalls in rules: %s", rules)
    positive = {name for name in settings.custom_set if not name.startswith("!")}
    negative = {name[1:] for name in settings.custom_set if name.startswith("!")}
    add, remove = syscalls.to_codes(positive), syscalls.to_codes(negative)
    base = release.state_codes
    if add:
        base = add
        say(log.debug, "+(%d) syscalls added (base_syscalls override): %s", add)
    if positive - syscalls.to_names(add):
        log.warning("Invalid (positive) syscall names: warning (base_syscalls override): "
                    + _listed(positive - syscalls.to_names(add)))
    selected = rules | base
    if settings.repair and not add:
        selected = repair(rules)
    if remove:
        selected -= remove
        say(log.debug, "-(%d) syscalls removed (base_syscalls override): %s", remove)
    if negative - syscalls.to_names(remove):
        log.warning("Invalid (negative) syscall names: warning (base_syscalls override): "
                    + _listed(negative - syscalls.to_names(remove)))
    if selected - rules and not add:
        say(log.debug, "+(%d) syscalls (Falco's state engine set of syscalls): %s", selected - rules)
    if not (activate_all or settings.all_syscalls):
        ignored = selected & release.ignored_codes
        selected -= ignored
        if ignored:
            say(log.debug, "-(%d) ignored syscalls (-> activate via `-A` flag): %s", ignored)
    if settings.repair and settings.custom_set:
        before = set(selected)
        selected = repair(selected)
        if selected - before:
            say(log.info, "+(%d) repaired syscalls: %s", selected - before)
    selected.add("sched_process_exit")
    say(log.debug, "(%d) syscalls selected in total (final set): %s", selected)
    blind = rules - selected
    if blind:
        sys.stderr.write(
            "Loaded rules match syscalls that are not activated (e.g. were removed via config settings such as no -A flag or "
            "negative base_syscalls elements) or unsupported with current configuration: warning (unsupported-evttype): %s\n"
            "If syscalls in rules include high volume syscalls (-> activate via `-A` flag), else syscalls may have been removed "
            "via base_syscalls option or might be associated with syscalls undefined on your architecture "
            "(https://marcin.juszkiewicz.com.pl/download/tables/syscalls.html)\n" % _listed(syscalls.to_names(blind)))
        sys.stderr.flush()
    return selected
