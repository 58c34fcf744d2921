#!/usr/bin/python
# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: falco_rollout
short_description: Decide how a rollout over a fleet goes on
version_added: 0.1.0
description:
  - Plans the batches of a rollout, admits the hosts of each batch when its turn has come, judges the batch,
    and concludes the rollout.
  - The entry points C(plan), C(batch) and C(conclude) of the role P(falcotune.fleet.tune#role) use it, and
    it reads their registered results. Runs on the controller alone. Use it once a play or batch
    (C(run_once)).
options:
  state:
    description:
      - V(planned) makes batches of the hosts of the play that need a change, so that never more than the
        allowed share of a failure domain is blind. It sets the fact C(falco_tune_rollout), with C(hosts)
        and C(serial) for the next play; delegate it to localhost with C(delegate_facts).
      - V(admitted) returns the hosts of the batch that may begin now, and whether the rollout is to stop.
      - V(gated) judges the batch that has ended.
      - V(concluded) makes the record of the rollout.
    type: str
    required: true
    choices: [planned, admitted, gated, concluded]
extends_documentation_fragment:
  - falcotune.fleet.attributes.controller
  - ansible.builtin.action_common_attributes
  - ansible.builtin.action_common_attributes.conn
  - ansible.builtin.action_common_attributes.flow
attributes:
  check_mode:
    support: full
    description: Plans, and lets every host show what would change.
  delegation:
    support: full
  diff_mode:
    support: N/A
    description: Changes nothing on any host.
author:
  - falcotune contributors (@falcotune)
seealso:
  - module: falcotune.fleet.falco_config
"""

EXAMPLES = r"""
- name: Plan the rollout and change nothing
  hosts: servers
  gather_facts: false
  tasks:
    - name: Plan the rollout
      ansible.builtin.import_role:
        name: falcotune.fleet.tune
        tasks_from: plan

- name: Change them batch by batch
  hosts: "{{ hostvars.localhost.ansible_facts.falco_tune_rollout.hosts }}"
  serial: "{{ hostvars.localhost.ansible_facts.falco_tune_rollout.serial }}"
  gather_facts: false
  tasks:
    - name: Change the admitted hosts
      ansible.builtin.import_role:
        name: falcotune.fleet.tune
        tasks_from: batch
"""

RETURN = r"""
summary:
  description: The plan or the end of the rollout in lines.
  type: list
  elements: str
  returned: with O(state=planned) and O(state=concluded)
hosts:
  description: The hosts of the batch that may begin now.
  type: list
  elements: str
  returned: with O(state=admitted)
  sample: [web-01, web-02]
deferred:
  description: The others, and why not. They are left for the next run.
  type: dict
  returned: with O(state=admitted)
stop:
  description: Why no further batch may begin; empty where one may.
  type: str
  returned: with O(state=admitted) and O(state=gated)
ask:
  description: Whether somebody must promote the canaries now.
  type: bool
  returned: with O(state=gated)
record:
  description:
    - C(id), C(state) (finished, stopped or awaiting_promotion), C(reason), C(began), C(ended), C(planned),
      C(budget), C(domains), C(batches) with each host's outcome, blind seconds and evidence, C(left) and
      C(down).
  type: dict
  returned: with O(state=concluded)
"""
