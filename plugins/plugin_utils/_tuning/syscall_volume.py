# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many of a host's events each system call makes. Pure.

Falco has no counter per system call. A profile (falco_syscall_profile) counts them all. Without one, the
volume is estimated from drops: Falco's drop categories name a few kinds of calls, and as a full ring drops
whatever arrives, the drops of each kind are in proportion to its volume.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, TypeGuard

from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.releases import Release
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.syscall_names import names_for

# Members of Falco's drop categories, as the drivers count them (libs driver/modern_bpf/helpers/base/stats.h);
# kernel names.
CATEGORIES = {
    "open": "open creat openat openat2 open_by_handle_at",
    "dir_file": "dup chmod fchmod fchmodat chown fchown fchownat lchown link linkat mkdir mkdirat mount "
    "umount umount2 rename renameat "
    "renameat2 rmdir symlink symlinkat unlink unlinkat",
    "clone_fork": "clone clone3 fork vfork",
    "execve": "execve execveat",
    "connect": "connect",
    "close": "close",
    "proc": "sched_process_exit",
    "other_interest": "bpf setpgid ptrace seccomp setns setresgid setresuid setsid unshare capset keyctl",
}
_CATEGORY_OF = {name: category for category, members in CATEGORIES.items() for name in members.split()}
UNCATEGORISED = "uncategorised"

Basis = Literal["profile", "drops", "none"]


class Volume:
    """Rates of system calls, in events a second.

    shared: the part of each rate that is left without the user and without the control group that made the
    most of these calls. Calls of which that is not known count as those of one caller.
    """

    def __init__(
        self, basis: Basis, rates: Mapping[str, float], shared: Mapping[str, float] | None = None
    ) -> None:
        self.basis = basis
        self.rates = rates
        self.shared = shared or {}

    def of(self, kernel: Iterable[str]) -> float | None:
        """The events a second of some kernel names, or None where nothing is known."""
        if self.basis == "none":
            return None
        return self.total(kernel)

    def total(self, kernel: Iterable[str]) -> float:
        """The same as a number; 0 where nothing is known."""
        return sum(self.rates.get(name, 0.0) for name in kernel)

    def without_the_busiest(self, kernel: Iterable[str]) -> float:
        """The events a second that do not depend on one user or one control group.

        0 where that is not known.
        """
        return sum(self.shared.get(name, 0.0) for name in kernel)

    def scaled(self, factor: float) -> Volume:
        rates, shared = (
            {name: rate * factor for name, rate in found.items()} for found in (self.rates, self.shared)
        )
        return Volume(self.basis, rates, shared)


def measured(
    release: Release,
    watched: Collection[str],
    profile: Mapping[str, Any] | None = None,
    drops: object = None,
    rate: object = None,
) -> Volume:
    """The Volume of a host's system calls, in events a second of this Falco.

    watched: kernel names that Falco watches now. profile: {'counts': {kernel name: calls}, 'seconds',
    'callers': {kernel name: {'uids': [[uid, calls]], 'cgroups': [[path, calls]], 'unknown': calls}}}, or
    None. drops: the window's drops_by_category, or None. rate: events a second that Falco counts now, or
    None.

    With a rate, that is the volume of what is watched. Without one, a call makes one event, or two before
    0.42.
    """
    names = names_for(release)
    counts = _numbers((profile or {}).get("counts"), names.kernel)
    seconds = (profile or {}).get("seconds")
    if counts and _positive(seconds):
        shared = _shared((profile or {}).get("callers"), counts)
        found = Volume("profile", counts, shared).scaled(1 / float(seconds))
        factor = 2.0 if release.enter_events else 1.0
    else:
        shares = _shares(drops, watched)
        if not shares or not _positive(rate):
            return Volume("none", {})
        found, factor = Volume("drops", shares), 1.0
    whole = found.of(watched)
    return found.scaled(rate / whole if _positive(rate) and whole else factor)


def _shared(callers: object, counts: Mapping[str, float]) -> dict[str, float]:
    """{kernel name: calls without those of the busiest user, and of the busiest control group}.

    What a host sends is not trusted: what cannot be read is the same as unknown.
    """
    found = {}
    for name, one in (callers if isinstance(callers, dict) else {}).items():
        if name not in counts or not isinstance(one, dict):
            continue
        most = max(_most(one.get(kind)) for kind in ("uids", "cgroups"))
        unknown = one.get("unknown", counts[name])
        if isinstance(unknown, (int, float)) and not isinstance(unknown, bool) and unknown >= 0:
            found[name] = max(0.0, counts[name] - most - unknown)
    return found


def _most(callers: object) -> float:
    """The calls of the busiest of some callers; endless where that cannot be read."""
    if not isinstance(callers, list):
        return float("inf")
    calls = [one[1] if isinstance(one, (list, tuple)) and len(one) == 2 else None for one in callers]
    return max([count if _positive(count) else float("inf") for count in calls] or [float("inf")])


def _positive(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def _numbers(given: object, known: Collection[str]) -> dict[str, float]:
    if not isinstance(given, dict):
        return {}
    return {name: value for name, value in given.items() if name in known and _positive(value)}


def _shares(drops: object, watched: Iterable[str]) -> dict[str, float]:
    """The drops of each kind, spread evenly over the watched calls of that kind."""
    lost = _numbers(drops, drops) if isinstance(drops, dict) else {}
    members: dict[str, list[str]] = {}
    for name in watched:
        members.setdefault(_CATEGORY_OF.get(name, UNCATEGORISED), []).append(name)
    return {
        name: lost[category] / float(len(group))
        for category, group in members.items()
        if category in lost
        for name in group
    }
