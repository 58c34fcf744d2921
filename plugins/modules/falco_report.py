#!/usr/bin/python
# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: falco_report
short_description: One report on what the hosts of a play brought
version_added: 0.1.0
description:
  - Makes one model of the facts that P(falcotune.fleet.falco_facts#module) left on the hosts of a play, and
    writes it as JSON, CSV, OpenMetrics and one self-contained HTML page on the control node. Prints a short
    summary.
  - Keeps every audit in an SQLite database, so that a report compares with the last one and can measure
    between two audits.
  - Two kinds of report are no audit, and lie beside it under their own names. V(trial) shows which sets of
    system calls each host could watch, of the fact C(falco_trial). V(rollout) shows a timeline of O(rollout).
  - Makes no trip to any host. Use it once a play (C(run_once)).
  - Files are for their owner only; only the textfile for node_exporter can be read by all.
options:
  kind:
    description:
      - What the report is of; shown in it.
      - V(trial) and V(rollout) have contents of their own, are written as C(trial.html), C(rollout.html) and
        so on, keep no history, and have no OpenMetrics form.
    type: str
    default: audit
  rollout:
    description:
      - The record of a rollout, for O(kind=rollout) and no other. A dict with C(id), C(state), C(reason),
        C(began), C(ended), C(planned), C(budget), C(domains), C(batches), C(left) and C(down), as
        C($defs/rollout) of the report's schema describes it.
    type: dict
  hosts:
    description: The hosts to report on. Not given, all of the play.
    type: list
    elements: str
  gathered:
    description:
      - Name of the variable that P(falcotune.fleet.falco_facts#module) was registered in. It tells which
        hosts were unreachable or failed.
    type: str
    default: ""
  directory:
    description:
      - Where the report goes on the control node. Made with mode 0700. A relative path begins at the working
        directory.
    type: path
    default: falco-reports
  forms:
    description: The forms to write.
    type: list
    elements: str
    choices: [json, csv, openmetrics, html]
    default: [json, csv, openmetrics, html]
  textfile_dir:
    description: Directory of node_exporter's textfile collector on the control node. Empty writes none there.
    type: path
    default: ""
  history:
    description: The SQLite database. Empty keeps it beside the reports, V(none) keeps nothing.
    type: str
    default: ""
  retention_days:
    description: Days after which an audit leaves the history, 1 to 36500.
    type: int
    default: 400
  fail_on:
    description:
      - What makes the task fail after the report is written.
      - States of hosts (V(blind), V(dropping), V(overloaded), V(acceptable), V(unmeasured)), V(unreachable),
        V(failed), V(drift) (what runs is not what was written), V(worse) (than at the last audit) and
        V(restart_required).
    type: list
    elements: str
    choices: [blind, dropping, overloaded, acceptable, unmeasured, unreachable, failed, worse, drift, restart_required]
    default: []
  min_observation:
    description: Seconds of metrics before a host is judged.
    type: float
    default: 60
  accepted_drops_percent:
    description: Percent of events that a host may lose.
    type: float
    default: 1.0
  accepted_hosts_percent:
    description:
      - Percent of measured hosts that may lose that little before it counts as dropping. Falco's guide
        accepts it on a small subset.
    type: float
    default: 5.0
  bundle_hosts:
    description:
      - Hosts whose metrics and settings go into an anonymised bundle for sharing with maintainers,
        C(bundle.json).
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - falcotune.fleet.attributes.controller
  - ansible.builtin.action_common_attributes
  - ansible.builtin.action_common_attributes.conn
  - ansible.builtin.action_common_attributes.flow
attributes:
  check_mode:
    support: full
    description: Says everything and writes nothing.
  delegation:
    support: none
  diff_mode:
    support: N/A
    description: Changes nothing on any host.
author:
  - falcotune contributors (@falcotune)
seealso:
  - module: falcotune.fleet.falco_facts
"""

EXAMPLES = r"""
- name: Look at every host
  falcotune.fleet.falco_facts:
    policy: {}
    refusal: report
  register: gathered
  ignore_unreachable: true

- name: Report on the fleet, and fail where Falco is blind
  falcotune.fleet.falco_report:
    gathered: gathered
    directory: /var/lib/falco-reports
    fail_on: [blind, dropping]
  run_once: true

- name: Report on trials, where falco_trial left its facts on the hosts
  falcotune.fleet.falco_report:
    kind: trial
  run_once: true

- name: Report on a rollout
  falcotune.fleet.falco_report:
    kind: rollout
    rollout: "{{ record_of_the_rollout }}"
  run_once: true
"""

RETURN = r"""
report:
  description: What was written, and the fleet's part of the model.
  type: dict
  returned: always
  contains:
    paths:
      description: Form and path of each file.
      type: dict
      returned: always
      sample: {html: /srv/falco-reports/report.html}
    fleet:
      description:
        - Counts, percentiles, head line, what changed since the last audit, and breaches of O(fail_on).
      type: dict
      returned: always
summary:
  description: Lines for people.
  type: list
  elements: str
  returned: always
"""
