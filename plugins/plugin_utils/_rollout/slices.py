# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job's variables tell of what started it: whether it sees its whole inventory, and whether anybody
can answer a question. Pure.

AWX gives a job the hosts of its slice, and neither the number of the slice nor how many there are
(Job.awx_meta_vars() of AWX 24.6). But a sliced job template runs as a workflow that has the name of the
template, and each job knows both names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# AWX sets each of its variables by both.
PREFIXES = ("awx", "tower")


def sliced(variables: Mapping[str, Any]) -> str | None:
    """The name of the sliced job template that a job with these variables belongs to, or None."""
    for prefix in PREFIXES:
        workflow = variables.get(prefix + "_workflow_job_name")
        if variables.get(prefix + "_workflow_job_id") is not None and workflow is not None:
            if workflow == variables.get(prefix + "_job_template_name"):
                return str(workflow)
    return None


def unattended(variables: Mapping[str, Any]) -> bool:
    """Whether AWX or ansible-rulebook started this job. ansible-runner gives it a terminal that nobody sees,
    so a question would be waited for without end."""
    return "ansible_eda" in variables or any(prefix + "_job_id" in variables for prefix in PREFIXES)


def refusal(template: str, domain: str) -> str:
    """Why a rollout over a slice is refused. domain: the variable of the failure domain, or ''."""
    others = "Hosts of other slices are changed at the same time"
    if domain:
        others = (
            "Hosts of the same %s may be in other slices, and each slice would use the share of it" % domain
        )
    return (
        "this job has a slice of its inventory (AWX runs the job template %s in slices). %s, and each slice "
        "would have canaries and a failure budget of its own. Nothing was changed. Set the template's job "
        "slicing to 1. Where no failure domain has hosts in two slices, set falco_tune_slices: separate"
        % (template, others)
    )
