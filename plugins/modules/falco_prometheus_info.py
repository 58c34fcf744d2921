#!/usr/bin/python
# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: falco_prometheus_info
short_description: Ask a Prometheus which hosts of a play have to be visited
version_added: 0.1.0
description:
  - Asks a Prometheus eight queries about the Falcos of a whole play, as the
    P(falcotune.fleet.prometheus#inventory) inventory does, and connects to no host.
  - A host need not be visited if Prometheus knows that it is healthy. All other hosts have to be. These are
    hosts that lose events, that are blind or stale, and those that Prometheus cannot tell about.
  - A sample of the healthy hosts is visited in addition, others each hour, so that an audit finds out whether
    Prometheus is right. At least one host is visited.
  - A server that cannot be asked, or whose answer is not whole, is a warning. Every host is visited then.
  - With O(alert), nobody is asked. The host that an alert of Alertmanager is about is found instead.
  - Runs on the controller alone. Use it once a play (C(run_once)), with C(delegate_to=localhost) and
    C(delegate_facts=true).
options:
  url:
    description: The server's URL. If empty, nobody is asked and every host is visited.
    type: str
    default: ""
  options:
    description:
      - More options of the P(falcotune.fleet.prometheus#inventory) inventory, by their names. They are those
        for the connection, for the names of hosts, and for what is judged.
      - C(hosts) and those of constructed groups are not taken.
    type: dict
    default: {}
  hosts:
    description: The hosts to ask about. The default is all hosts of the play.
    type: list
    elements: str
  alert:
    description:
      - Name of a variable with what ansible-rulebook passes to a playbook for an alert of
        C(ansible.eda.alertmanager), usually V(ansible_eda).
      - The labels in C(event.alert.labels) name the host as those of a target do, with C(name_labels),
        C(name_regex) and C(name_replacement) of O(options). It must be one of O(hosts). A group, a pattern,
        or a host whose name is that of a group too, is an error.
      - The variable is read without templating it.
    type: str
    default: ""
  visit:
    description: Hosts that are visited whatever Prometheus says.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - falcotune.fleet.attributes.controller
  - ansible.builtin.action_common_attributes
  - ansible.builtin.action_common_attributes.conn
  - ansible.builtin.action_common_attributes.facts
  - ansible.builtin.action_common_attributes.flow
attributes:
  check_mode:
    support: full
    description: Reads only.
  delegation:
    support: full
  diff_mode:
    support: N/A
    description: Changes nothing.
  facts:
    support: full
author:
  - falcotune contributors (@falcotune)
seealso:
  - plugin: falcotune.fleet.prometheus
    plugin_type: inventory
  - module: falcotune.fleet.falco_report
"""

EXAMPLES = r"""
- name: Ask Prometheus about every host
  hosts: all
  gather_facts: false
  tasks:
    - name: Choose the hosts to visit
      falcotune.fleet.falco_prometheus_info:
        url: https://prometheus.example.com:9090
        options:
          selector: job="falco"
          bearer_token: "{{ vault_prometheus_token }}"
      run_once: true
      delegate_to: localhost
      delegate_facts: true

- name: Visit them
  hosts: "{{ hostvars.localhost.ansible_facts.falco_prometheus.hosts | default('all', true) }}"
  gather_facts: false
  tasks:
    - name: Gather facts
      falcotune.fleet.falco_facts:
        policy: {}
        refusal: report
      register: gathered
      ignore_unreachable: true

    - name: Report on all of them
      falcotune.fleet.falco_report:
        gathered: gathered
        monitored: falco_prometheus
      run_once: true

# In a playbook that ansible-rulebook runs
- name: Find the host of an alert
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Read the labels of the alert
      falcotune.fleet.falco_prometheus_info:
        alert: ansible_eda
        hosts: "{{ groups.all }}"
"""

RETURN = r"""
ansible_facts:
  description: What Prometheus knows, or what an alert names.
  type: dict
  returned: always
  contains:
    falco_prometheus:
      description: The hosts to visit, and what is known of the others.
      type: dict
      returned: without O(alert)
      contains:
        server:
          description: The URL without a password. V(null) if nobody was asked.
          type: str
          returned: always
        problem:
          description: Why the server could not be asked, or V(null).
          type: str
          returned: always
        hosts:
          description: The hosts to visit. V(null) is all of them.
          type: list
          elements: str
          returned: always
        sample:
          description: Those of them that Prometheus calls healthy.
          type: list
          elements: str
          returned: always
        left:
          description:
            - C(state), C(reason), C(release), C(age), C(events), C(drops) and C(drops_percent) of each host
              that need not be visited.
          type: dict
          returned: always
    falco_alerted:
      description: The host that O(alert) is about.
      type: dict
      returned: with O(alert), in place of C(falco_prometheus)
      contains:
        hosts:
          description: Its name, alone.
          type: list
          elements: str
          returned: always
"""
