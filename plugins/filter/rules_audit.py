# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""files | falcotune.fleet.rules_audit(release, …): what rules cost, and what is wrong with them."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules_audit import auditor, inputs


def rules_audit(files, release, config=None, profile=None, matches=None, seconds=None, fail_on=("error",)):
    """The audit of rules files, with `failing` and `lines`."""
    try:
        known = releases.release_for(release)
        host = inputs.host(known, config, profile, matches, seconds)
        texts, damaged = inputs.files(files)
        found = auditor.audit(texts, known, host, damaged)
        return {
            **found,
            "failing": auditor.failing(found, inputs.fail_on(fail_on)),
            "lines": list(auditor.lines(found)),
        }
    except (inputs.InputError, releases.UnsupportedRelease) as error:
        raise AnsibleFilterError("rules_audit: %s" % error) from None


class FilterModule:
    """The filter of this file."""

    def filters(self):
        return {"rules_audit": rules_audit}
