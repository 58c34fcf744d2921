#!/usr/bin/python
# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: falco_report
short_description: One report on the hosts of a play
version_added: 0.1.0
description:
  - Makes one model of the facts that P(falcotune.fleet.falco_facts#module) left on the hosts of a play, and
    writes it as JSON, CSV, OpenMetrics and one self-contained HTML page on the control node. Returns a
    short summary.
  - Keeps every audit in an SQLite database, so that a report compares with the last audit and can measure
    between two audits.
  - Two kinds of report are not audits and have files of their own. V(trial) shows the sets of system calls
    that each host can watch, from the fact C(falco_trial). V(rollout) shows the timeline of O(rollout).
  - Runs on the controller alone. Use it once a play (C(run_once)).
  - Only the owner can read the files, but for the textfile for node_exporter, which everybody can read.
options:
  kind:
    description:
      - The kind of report.
      - V(trial) and V(rollout) are written as C(trial.html), C(rollout.html) and so on. They keep no
        history and have no OpenMetrics form.
    type: str
    default: audit
  rollout:
    description:
      - The record of a rollout, for O(kind=rollout) only. A dict with C(id), C(state), C(reason), C(began),
        C(ended), C(planned), C(budget), C(domains), C(batches), C(left) and C(down), as C($defs/rollout) of
        the report's schema describes it.
    type: dict
  hosts:
    description: The hosts to report on. The default is all hosts of the play.
    type: list
    elements: str
  gathered:
    description:
      - Name of the variable that P(falcotune.fleet.falco_facts#module) was registered in. It tells which
        hosts were unreachable or failed.
    type: str
    default: ""
  monitored:
    description:
      - Name of the fact that P(falcotune.fleet.falco_prometheus_info#module) left on localhost. Hosts that
        were not visited are then in the report, with what Prometheus knows of them and without a verdict.
    type: str
    default: ""
  part:
    description:
      - Name of this job among several that audit parts of one fleet. The hosts are written into a file of
        O(directory) then. There is no report, no exit status and no entry in the history before the parts
        are merged.
      - Up to 64 letters, digits, dots and underscores.
    type: str
    default: ""
  id:
    description:
      - Name of the audit that O(part) belongs to, or whose parts O(merge) takes. It may be empty for O(merge)
        if O(directory) has parts of one audit only.
    type: str
    default: ""
  merge:
    description:
      - Make the report, the exit status and the entry in the history from the parts in O(directory), as one
        job would have made them. Rules and limits are those of the parts. The parts are then removed.
    type: bool
    default: false
  parts:
    description:
      - Number of parts that O(merge) needs. If they are not all there, the task fails and nothing is written.
        V(0) takes those that are there.
    type: int
    default: 0
  directory:
    description:
      - Directory of the report on the control node. A missing one is made with mode 0700. A relative path
        begins at the working directory.
    type: path
    default: falco-reports
  forms:
    description: The forms to write.
    type: list
    elements: str
    choices: [json, csv, openmetrics, html]
    default: [json, csv, openmetrics, html]
  textfile_dir:
    description:
      - Directory of node_exporter's textfile collector on the control node. If empty, no file is written
        there.
    type: path
    default: ""
  history:
    description: The SQLite database. If empty, it is beside the reports. V(none) keeps no history.
    type: str
    default: ""
  history_dsn:
    description:
      - A connection string or URI of libpq. The audits are then kept in the schema C(falcotune) of that
        PostgreSQL database, which several control nodes can share, and not in a file. The first audit makes
        the schema.
      - Needs the Python library psycopg 3 on the control node.
      - If the server cannot be used, the report is made without earlier audits, and a warning says why.
    type: str
    default: ""
  retention_days:
    description: Days after which an audit is removed from the history, 1 to 36500.
    type: int
    default: 400
  fail_on:
    description:
      - The rules of the policy. The task fails, after the report is written, if a host breaks one of them.
      - States of hosts (V(blind), V(dropping), V(overloaded), V(acceptable), V(unmeasured)),
        V(unreachable), V(failed), V(drift) (the host differs from its last proven state), V(worse) (than at
        the last audit), V(restart_required) and V(blind_rules) (rules that see less with the system calls in
        force than by default).
    type: list
    elements: str
    choices:
      [blind, dropping, overloaded, acceptable, unmeasured, unreachable, failed, worse, drift,
       restart_required, blind_rules]
    default: []
  min_observation:
    description: Seconds of metrics that a verdict needs.
    type: float
    default: 60
  accepted_drops_percent:
    description: Percent of events that a host may lose.
    type: float
    default: 1.0
  accepted_hosts_percent:
    description:
      - Percent of the measured hosts that may lose up to O(accepted_drops_percent) before that counts as
        dropping. Falco's guide accepts it on a small part of a fleet.
    type: float
    default: 5.0
  bundle_hosts:
    description:
      - Hosts whose metrics and settings are written into an anonymised bundle for maintainers,
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
    description: Returns the report and writes no files.
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
- name: Gather the facts of every host
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

- name: Write the hosts of this job for a report that another job makes
  falcotune.fleet.falco_report:
    gathered: gathered
    directory: /srv/falco-reports
    id: "2026-11-24"
    part: "3"
  run_once: true

- name: Report on the parts of eight jobs
  falcotune.fleet.falco_report:
    directory: /srv/falco-reports
    merge: true
    parts: 8
  run_once: true

- name: Report on trials, after falco_trial left its facts on the hosts
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
  description: The written files, and the fleet's part of the model.
  type: dict
  returned: always
  contains:
    paths:
      description: Form and path of each file.
      type: dict
      returned: always
      sample: {html: /srv/falco-reports/report.html}
    fleet:
      description: Counts, percentiles, head line, changes since the last audit, and breaches of O(fail_on).
      type: dict
      returned: always
stats:
  description:
    - Headline, numbers of hosts, breaches and paths, for C(ansible.builtin.set_stats). At most 8 kB.
  type: dict
  returned: always
summary:
  description: The summary in lines.
  type: list
  elements: str
  returned: always
"""
