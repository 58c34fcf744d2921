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
    sysctls, with one interruption of Falco and in one round trip.
  - First the host's own Falco reads the candidate in a dry run. Then the module keeps the previous files
    outside every directory that Falco reads, stops Falco, renames the new files into place, starts Falco and
    waits until its event counters move. On failure or at the deadline it restores the previous files.
  - The transaction is detached from the connection. If the controller dies, the host ends with the new proven
    configuration or with the previous one. The next run finishes or undoes a change that a power cut broke
    off.
  - Makes no round trip to the host where nothing changes.
options:
  state:
    description:
      - V(present) applies O(plan). Where it needs a restart and the policy's C(restart_ok) is false, the
        change is kept in C(STATE_DIR/staged) once the host's own Falco has read it, and Falco is not touched.
      - V(proven) checks the change of O(evidence) again. The process must be the same, its counters must have
        moved on, and its drops must be within the limit of the change. Otherwise the host fails, and the
        change is rolled back unless the policy's C(auto_revert) is false.
      - V(rolled_back) restores what an earlier run of this module replaced.
    type: str
    choices: [present, proven, rolled_back]
    default: present
  plan:
    description:
      - What the plan filter returned. Required with O(state=present).
    type: dict
  content:
    description:
      - The rendered configuration. For the layout V(dropin) it is the whole file, for V(full) the top-level
        blocks to replace in the main file.
    type: str
  facts:
    description:
      - What P(falcotune.fleet.falco_facts#module) returned. Required with O(state=present). The
        module refuses to change files that differ from the facts.
    type: dict
  evidence:
    description:
      - With O(state=proven), what O(state=present) returned as RV(evidence). Without it nothing is checked.
    type: dict
  policy:
    description:
      - The tuning policy, with or without the prefix C(falco_tune_) on its keys.
    type: dict
  round:
    description:
      - With O(state=present), RV(next_round) of the change before. Without it this is the first round.
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
    description: Returns what would change. The host's Falco reads the candidate; nothing is written.
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
    - What proved the change. C(basis) is V(counters) where event counters moved, or V(process) where only the
      process is alive; C(reason) says why there are no counters.
    - C(adopted) is true where Falco was not interrupted, for example where the release that a package upgrade
      started was proven.
  returned: when something changed
  type: dict
  sample:
    pid: 4711
    start_ticks: 8123456
    restarts: 0
    basis: counters
    source: metrics.output_file
    reason: null
    events: 51234
    drops_percent: 0.0
    buffers: {bytes_each: 33554432, count: 4, source: memory map}
    seconds_to_evidence: 2.4
    blind_seconds_at_most: 2.9
    interruptions: 1
    notes: []
undone:
  description: Whether the previous configuration is back.
  returned: on failure
  type: bool
touched:
  description: Whether Falco was interrupted before the previous configuration was restored.
  returned: on failure after a change began
  type: bool
look:
  description: What the second check found, as in RV(evidence).
  returned: with O(state=proven)
  type: dict
reverted:
  description: Whether the change was rolled back after the second check.
  returned: with O(state=proven) on failure
  type: bool
next_round:
  description:
    - When the host can be judged after this change, and what may follow, for O(round) of the next change and
      O(falcotune.fleet.falco_facts#module:round). C(number) counts the rounds, which C(rounds) of the policy
      bounds. With C(closing) no step follows; what had no effect is taken back.
  returned: after a change on which another look follows in the same run
  type: dict
  sample: {number: 2, closing: false, not_before: 1795000091.5, seconds: 91.0}
staged:
  description: Whether the change is kept until a restart is allowed.
  returned: when it is
  type: bool
recovered:
  description: What was done about an earlier change or trial that was broken off.
  returned: when there was one
  type: str
log:
  description: The last lines of the unit in the journal.
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
from ansible_collections.falcotune.fleet.plugins.module_utils._host import detach
from ansible_collections.falcotune.fleet.plugins.module_utils._measure import trial

# Seconds for a first read of what the change reads; systemctl has 60 of them.
PROBE = 90

# What an earlier run may have left: a change, or a trial.
RECOVERIES = (transaction.recover, trial.recover)


def apply(work, check_mode):
    """What the module answers, as a dict. Raises Failed."""
    work.look()
    if work.request["state"] == "proven":
        return {"changed": False, "look": work.look_again(RECOVERIES)}
    unfinished = records.unfinished(work.state_dir)
    if unfinished and not check_mode:
        # History and files may be half of an earlier change.
        work.finish_earlier(RECOVERIES)
        unfinished = None
    work.collect()
    left = records.staged(work.state_dir) if not work.request["stage"] else None
    if not work.needed and not unfinished:
        if left and not check_mode:
            work.drop_kept()
        if records.untidy(work.state_dir) and not check_mode:
            work.tidy()
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
            "state": {"type": "str", "choices": ["present", "proven", "rolled_back"], "default": "present"},
            "plan": {"type": "dict"},
            "content": {"type": "str"},
            "facts": {"type": "dict"},
            "evidence": {"type": "dict"},
            "policy": {"type": "dict"},
            "round": {"type": "dict"},
            "request": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    if module.params["request"] is None:
        module.fail_json(msg="request is missing: falco_config runs with its action plugin, which makes it")
    try:
        detach.within(PROBE, change.Change(module.params["request"]).probe)
    except detach.Late as error:
        module.fail_json(msg="%s. Nothing was changed" % error, undone=True, touched=False)
    except OSError as error:
        module.fail_json(msg="no process could be started: %s. Nothing was changed" % error.strerror)
    try:
        answer = apply(change.Change(module.params["request"]), module.check_mode)
    except Failed as error:
        module.fail_json(msg=str(error), **error.more)
    if answer.pop("failed", False):
        module.fail_json(**answer)
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
