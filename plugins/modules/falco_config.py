#!/usr/bin/python
# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: falco_config
short_description: Change Falco's configuration in one proven transaction
version_added: 0.1.0
description:
  - Applies a plan of P(falcotune.fleet.plan#filter) to Falco's files, its unit's drop-in, log rotation and
    sysctls together, with exactly one interruption of Falco, in one trip.
  - The candidate is read by the host's own Falco first. The previous state is kept outside every directory
    that Falco reads. Then Falco is stopped, the files are swapped by rename, and Falco is started and watched
    until its event counters move. On failure or at the deadline the previous state is put back.
  - The transaction is detached from the connection. A controller that dies leaves the host in the new proven
    state or in the old one; what a power cut breaks off is finished or undone by the next run.
  - Without a change no trip to the host is made.
options:
  state:
    description:
      - V(present) applies O(plan). Where it needs a restart and the policy's C(restart_ok) is false, the
        change is kept in C(STATE_DIR/staged) once the host's own Falco has read it, and Falco is not touched.
      - V(planned) tells what V(present) would do, without a trip to the host.
      - V(proven) looks again at the change whose O(evidence) is given. The process must be the same, its
        counters must have moved on and its drops be no worse than before the change. Else the change is
        rolled back, unless the policy's C(auto_revert) is false, and the host fails.
      - V(rolled_back) puts back what an earlier run of this module replaced.
    type: str
    choices: [present, planned, proven, rolled_back]
    default: present
  plan:
    description:
      - What the plan filter returned. Required with O(state=present) and O(state=planned).
    type: dict
  content:
    description:
      - The rendered blocks, as text; whole file for the layout V(dropin), blocks to replace in the main file
        for V(full).
    type: str
  facts:
    description:
      - What P(falcotune.fleet.falco_facts#module) returned; the change is refused where the host is not as
        the facts say.
    type: dict
  evidence:
    description:
      - With O(state=proven), what O(state=present) returned as RV(evidence). Without it nothing is looked at.
    type: dict
  policy:
    description:
      - The tuning policy, with or without the prefix C(falco_tune_) on its keys.
    type: dict
  request:
    description:
      - What the controller half sends to the host. Not for use in a task.
    type: dict
extends_documentation_fragment:
  - falcotune.fleet.attributes
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    description: Tells what would change and lets the host's Falco read the candidate; touches nothing.
  diff_mode:
    support: full
    description: Shows every file before and after.
author:
  - falcotune contributors (@falcotune)
seealso:
  - module: falcotune.fleet.falco_facts
"""

EXAMPLES = r"""
- name: Apply the plan
  falcotune.fleet.falco_config:
    plan: "{{ plan }}"
    content: "{{ lookup('ansible.builtin.template', 'falco.yaml.j2') }}"
    facts: "{{ ansible_facts.falco }}"
    policy: "{{ policy }}"
  vars:
    plan: "{{ ansible_facts.falco | falcotune.fleet.plan(policy) }}"
    policy: "{{ {'metrics_interval': '1m'} | falcotune.fleet.policy }}"

- name: Undo the last change
  falcotune.fleet.falco_config:
    state: rolled_back
"""

RETURN = r"""
evidence:
  description:
    - What proved the change. C(adopted) is true where nothing that Falco reads was changed - what runs since
      a package upgrade, say, was proven as it is, without an interruption.
  returned: when something changed
  type: dict
  sample:
    pid: 4711
    start_ticks: 8123456
    restarts: 0
    source: metrics.output_file
    events: 51234
    drops_percent: 0.0
    buffers: {bytes_each: 33554432, count: 4, source: memory map}
    seconds_to_evidence: 2.4
    blind_seconds_at_most: 2.9
    interruptions: 1
    notes: []
undone:
  description: Whether the previous state is back.
  returned: on failure
  type: bool
touched:
  description: Whether Falco was interrupted before the previous state was put back.
  returned: on failure after a change began
  type: bool
look:
  description: What the second look found, as in RV(evidence).
  returned: with O(state=proven)
  type: dict
reverted:
  description: Whether the change was rolled back after the second look.
  returned: with O(state=proven) on failure
  type: bool
staged:
  description: Whether the change is kept until a restart is allowed.
  returned: when it is
  type: bool
rollout:
  description: What a rollout wants to know of the host.
  returned: with O(state=planned)
  type: dict
recovered:
  description: What was done about an earlier change or trial that had been broken off.
  returned: when there was one
  type: str
log:
  description: The last lines of Falco's log as the journal has them.
  returned: on failure
  type: list
  elements: str
changes:
  description: What changes and why.
  returned: always
  type: list
  elements: dict
  sample:
    - key: engine.modern_ebpf.buf_size_preset
      from: 4
      to: 6
      why: "preset 6: the class of machines from 16 CPUs with modern_ebpf"
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.falcotune.fleet.plugins.module_utils._change import change, records, transaction
from ansible_collections.falcotune.fleet.plugins.module_utils._change.failure import Failed
from ansible_collections.falcotune.fleet.plugins.module_utils._measure import trial

# What an earlier run may have left: a change, or a trial.
RECOVERIES = (transaction.recover, trial.recover)


def apply(work, check_mode):
    """What the module answers, as a dict. Raises Failed."""
    work.look()
    if work.request["state"] == "proven":
        return {"changed": False, "look": work.look_again(RECOVERIES)}
    work.collect()
    unfinished = records.unfinished(work.state_dir)
    left = records.staged(work.state_dir) if not work.request["stage"] else None
    if not work.needed and not unfinished:
        if left and not check_mode:
            work.drop_kept()
        return {"changed": bool(left), "diff": []}
    diff = work.diff()
    if check_mode:
        work.check()
        return {"changed": True, "diff": diff}
    if work.request["stage"]:
        work.keep()
        return {"changed": True, "diff": diff}
    return dict(work.make(RECOVERIES), diff=diff)


def main():
    # The controller half turns state, plan, facts, policy and the other options into one request.
    module = AnsibleModule(
        argument_spec={
            "state": {
                "type": "str",
                "choices": ["present", "planned", "proven", "rolled_back"],
                "default": "present",
            },
            "plan": {"type": "dict"},
            "content": {"type": "str"},
            "facts": {"type": "dict"},
            "evidence": {"type": "dict"},
            "policy": {"type": "dict"},
            "request": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    if module.params["request"] is None:
        module.fail_json(msg="request is missing: falco_config runs with its action plugin, which makes it")
    try:
        answer = apply(change.Change(module.params["request"]), module.check_mode)
    except Failed as error:
        module.fail_json(msg=str(error), **error.more)
    if answer.pop("failed", False):
        module.fail_json(**answer)
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
