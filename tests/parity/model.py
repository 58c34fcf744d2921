# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the collection says of a selection: which rules lose what, and the selection that loses nothing. No Falco is asked."""

from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases, selections
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.syscall_names import names_for
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import coverage, ruleset, state


class Model:
    """files: paths of rules files in Falco's order. release: a version."""

    def __init__(self, files, release):
        self.release = releases.release_for(release)
        self.names = names_for(self.release)
        found = ruleset.resolve([(str(path), path.read_text()) for path in files], self.release)
        assert found["ok"], found["findings"]
        self.rules = {rule["name"]: rule for rule in found["rules"] if rule["enabled"]}

    def lossless(self):
        """The custom_set beside `repair: true` that takes nothing away."""
        repaired = selections.select(self.release, coverage.needs(self.rules.values(), self.release), repair=True)
        extra = state.carrying(self.rules.values(), repaired["kernel"], self.release)
        return sorted(self.names.exact_events(extra))

    def losses(self, rule, selected):
        """What a rule loses under a selection (the names of a dry run's final set): [(kernel names, in words)]."""
        kernel, rule = self.names.kernel_of(selected), self.rules[rule]
        events = [((name,), "its event %s" % name) for name in sorted(set(rule["kernel"]) - kernel)]
        return events + [(need.calls, need.way) for need in state.unseen(rule, kernel, self.release)]

    def named(self, rule, selected, calls):
        """What of it concerns somebody who issues these calls (kernel names), in words."""
        lost = self.losses(rule, selected)
        return [words for names, words in lost if set(names) & set(calls) or words.startswith("its event")]
