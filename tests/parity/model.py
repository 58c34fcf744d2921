# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the collection says of a selection: which rules lose what, and the selections that it plans. No Falco is asked."""

from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.syscall_names import names_for
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import ruleset, state
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies, syscall_set


# What the host of a plan makes more often than other calls: copies of descriptors and messages.
BUSY = {"fcntl": 3000, "recvmsg": 3000, "dup2": 1000, "openat": 1000}


class Model:
    """files: paths of rules files in Falco's order. release: a version."""

    def __init__(self, files, release):
        self.release = releases.release_for(release)
        self.names = names_for(self.release)
        found = ruleset.resolve([(str(path), path.read_text()) for path in files], self.release)
        assert found["ok"], found["findings"]
        self.rules = {rule["name"]: rule for rule in found["rules"] if rule["enabled"]}

    def planned(self, syscalls, share=None):
        """The base_syscalls that a tune plans with `falco_tune_syscalls` and no rule protected.

        share: down to how much of the events it should come.
        """
        profile = {"counts": dict.fromkeys(self.names.kernel, 10) | BUSY, "seconds": 1}
        policy, rules = policies.complete({"syscalls": syscalls, "protected_priority": "none"}), list(self.rules.values())
        plan = syscall_set.choose(rules, self.release, policy, profile=profile)
        if share:
            target = share * plan["before"]["events_per_second"]
            plan = syscall_set.choose(rules, self.release, policy, profile=profile, target=target)
        return {"repair": plan["repair"], "custom_set": plan["custom_set"]}

    def named(self, rule, selected, action):
        """What a rule does not see of an action under a selection (names of a final set), in words."""
        kernel, rule = self.names.kernel_of_printed(selected), self.rules[rule]
        lost = set(rule["kernel"]) - kernel
        if "history" in action:
            lost &= set(action["events"]).union(*action["history"].values())
        events = ["its event %s" % name for name in sorted(lost)]
        return events + [need.way for need in state.unseen(rule, kernel, self.release)
                         if set(need.calls) & self.came_by(need.subject, action)]

    def came_by(self, subject, action):
        """Kernel names of the calls by which an action came by a subject. A working directory may be entered through a handle."""
        if "history" not in action:
            return set(action["calls"])
        calls = set(action["history"].get("cwd" if subject == "fchdir" else subject, ()))
        return calls & self.names.kernel | self.names.kernel_of(calls - {"accept"})
