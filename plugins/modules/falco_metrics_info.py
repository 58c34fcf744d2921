#!/usr/bin/python
# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: falco_metrics_info
short_description: Measure how many events Falco sees and loses
version_added: 0.1.0
description:
  - Reads two snapshots of Falco's own counters and returns the difference as rates, drops and costs.
  - The snapshots come from the first source in O(order) that has a pair at least O(min_seconds) apart, else
    from the one with the longest pair. Both are of one run of Falco, never across a restart or hot reload.
  - Log files are read from their end, through rotated and gzipped ones, and never more of them than
    O(max_bytes).
  - Without O(metrics_file) and O(alerts_file) the files are those that the running Falco has open for
    writing. They are opened as Falco sees them, also with C(PrivateTmp) or in a container.
  - Only regular files and symbolic links to them are read. A FIFO, a device or a directory is refused.
  - P(falcotune.fleet.falco_facts#module) returns the same among its facts.
options:
  metrics_file:
    description:
      - The file of C(metrics.output_file), as Falco sees it. Empty finds it.
    type: str
    default: ""
  alerts_file:
    description:
      - The file of C(file_output.filename), as Falco sees it. Empty finds it where C(file_output.keep_alive)
        is on.
    type: str
    default: ""
  syslog:
    description:
      - Files that a syslog daemon writes. Every user of the host can write there too.
      - By default C(/var/log/syslog) and C(/var/log/messages), where they exist.
    type: list
    elements: str
  order:
    description:
      - The sources to try, in this order. Those left out are not tried.
      - V(metrics_file) is C(metrics.output_file). V(alerts_file), V(journal) and V(syslog) hold what
        C(metrics.output_rule) writes, as JSON or text. V(prometheus) is Falco's own C(/metrics).
    type: list
    elements: str
    choices: [metrics_file, alerts_file, journal, syslog, prometheus]
    default: [metrics_file, alerts_file, journal, syslog, prometheus]
  max_bytes:
    description:
      - How much is read from each source, 65536 to 1073741824 bytes.
    type: int
    default: 8388608
  min_seconds:
    description:
      - Length of the window wanted. A shorter one is returned where there is none of this length.
    type: float
    default: 60
  prometheus_url:
    description:
      - Falco's C(/metrics) on the host's loopback, for example V(http://127.0.0.1:8765/metrics). Empty asks
        nothing.
      - It is asked only where no other source has a window of O(prometheus_seconds).
      - A Falco before 0.41.1 is killed by a scrape before its driver is open, at its start and in a hot
        reload. So it is asked only while ring buffers are seen in its memory map, or with O(scrape_ok).
    type: str
    default: ""
  prometheus_seconds:
    description:
      - Time between two scrapes, 0.1 to 600 seconds, for which the task waits.
    type: float
    default: 10
  scrape_ok:
    description:
      - Set it where this Falco survives a scrape at any time, as 0.41.1 and newer do.
    type: bool
    default: false
extends_documentation_fragment:
  - falcotune.fleet.attributes
  - falcotune.fleet.attributes.reads
  - falcotune.fleet.host
  - ansible.builtin.action_common_attributes
author:
  - falcotune contributors (@falcotune)
seealso:
  - module: falcotune.fleet.falco_facts
"""

EXAMPLES = r"""
- name: Measure what Falco drops
  falcotune.fleet.falco_metrics_info:
  become: true
  register: measured

- name: Show it
  ansible.builtin.debug:
    msg: "{{ measured.metrics.voided or (measured.metrics.drops_percent ~ ' % of the events dropped') }}"

- name: Ten minutes, from the journal only
  falcotune.fleet.falco_metrics_info:
    order: [journal]
    min_seconds: 600
  become: true

- name: Two scrapes, half a minute apart
  falcotune.fleet.falco_metrics_info:
    order: [prometheus]
    prometheus_url: http://127.0.0.1:8765/metrics
    prometheus_seconds: 30
  become: true
"""

RETURN = r"""
metrics:
  description:
    - The window. Where there is none, RV(metrics.voided) says why, and numbers are V(null).
  returned: success
  type: dict
  contains:
    source:
      description: Where it was read, one of the choices of O(order).
      type: str
      returned: always
      sample: metrics_file
    voided:
      description: Why there is no window, else V(null).
      type: str
      returned: always
      sample: null
    basis:
      description:
        - V(counters), or V(drop alerts) where only Falco's alerts of drops were found. Then events and drops
          are those of seconds with drops alone, and there are no rates. V(no counters) where the snapshots
          lack the counters of the kernel.
      type: str
      returned: always
      sample: counters
    seconds:
      description: Length of the window.
      type: float
      returned: always
      sample: 60.0
    age:
      description: Seconds since its end.
      type: float
      returned: always
      sample: 3.2
    cpus:
      description: The CPUs by which RV(metrics.rate_per_cpu) is divided.
      type: int
      returned: always
      sample: 8
    enter_events:
      description:
        - Whether this release counts the beginning of system calls too (before 0.42), about twice the events.
      type: bool
      returned: always
      sample: false
    events:
      description: Events made in the kernel, those lost included.
      type: int
      returned: always
      sample: 720000
    drops:
      description: Events lost.
      type: int
      returned: always
      sample: 3600
    drops_percent:
      description: Percent of the events that were lost, as Falco's C(scap.n_drops_perc).
      type: float
      returned: always
      sample: 0.5
    rate:
      description: Events a second.
      type: float
      returned: always
      sample: 12000.0
    rate_per_cpu:
      description: Events a second for each CPU.
      type: float
      returned: always
      sample: 1500.0
    drop_rate:
      description: Events lost a second.
      type: float
      returned: always
      sample: 60.0
    engine_rate:
      description: Events a second that reached the rules.
      type: float
      returned: always
      sample: 11200.0
    drops_by_category:
      description:
        - Drops by Falco's classes of system calls and by causes other than full buffers, without zeros.
      type: dict
      returned: always
      sample: {open: 3000, uncategorised: 600}
    falco_cpu_percent:
      description: Falco's own use in percent of one CPU, where its lifetime averages are precise enough.
      type: float
      returned: always
      sample: 34.1
    falco_cpu_error:
      description: Percentage points by which RV(metrics.falco_cpu_percent) may be wrong.
      type: float
      returned: always
      sample: 0.4
    outputs_queue_drops:
      description: Alerts dropped because an output was slow.
      type: int
      returned: always
      sample: 0
    userspace:
      description: Drops of Falco's own tables, and the number of threads in its thread table.
      type: dict
      returned: always
      sample: {n_drops_full_threadtable: 0, n_threads: 812}
    kernel:
      description: Time in Falco's kernel programs, where C(kernel.bpf_stats_enabled) is on, else V(null).
      type: dict
      returned: always
      sample: {run_time_ns: 3400000000, percent: 0.71, ns_per_event: 4722.2, syscalls: 900000}
    memory:
      description: Falco's memory in bytes at the end.
      type: dict
      returned: always
      sample: {rss: 60293120, pss: 54525952, vsz: 1073741824, container: 62914560}
    since_start:
      description:
        - Seconds, events and drops since Falco's start or last hot reload, from the last snapshot alone.
      type: dict
      returned: always
      sample: {seconds: 86400.1, events: 1036800000, drops: 3600}
    losing:
      description:
        - The intervals between snapshots that lost most events - their seconds, events and drops together,
          the longest, the most drops of one, and how many intervals of how many lost events.
        - C(null) without losses, or where only two snapshots are known.
      type: dict
      returned: always
    losing_cpus:
      description:
        - How many CPUs lost events, and the lost events of those that lost most.
        - C(null) where C(metrics.kernel_event_counters_per_cpu_enabled) is off.
      type: dict
      returned: always
    ruleset:
      description:
        - Twelve hexadecimal digits, the same for Falcos that loaded rules files of the same content.
        - C(null) where Falco names no rules files in its metrics.
      type: str
      returned: always
      sample: 1c15d5d54363
    snapshot:
      description: The last snapshot, with Falco's own names.
      type: dict
      returned: always
      sample: {evt.time: 1795471080751263038, scap.n_evts: 1036800000, scap.n_drops: 3600}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.falcotune.fleet.plugins.module_utils._host import detach, host, systemd
from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import snapshots, sources

# Seconds that all sources together may take: systemctl has 60, journalctl and /metrics 10 each.
AROUND = 120
RANGES = {"max_bytes": (65536, 1 << 30), "min_seconds": (0, 31622400), "prometheus_seconds": (0.1, 600)}


def gather(params):
    """{'pair': what snapshots.gather() found, 'cpus': CPUs online or None} for the controller half."""
    try:
        unit = systemd.find(params["unit"] or None, params["host_root"].rstrip("/"))
    except systemd.ManagerError:
        unit = None  # files can be read without systemd
    options = {name: params[name] for name in sources.OPTIONS}
    limits = {name: params[name] for name in ("max_bytes", "min_seconds")}
    return {
        "pair": sources.gather(params["host_root"], unit, options, params["order"], limits),
        "cpus": host.cpus(params["host_root"].rstrip("/"))["online"],
    }


def main():
    module = AnsibleModule(
        argument_spec={
            "host_root": {"type": "str", "default": ""},
            "unit": {"type": "str", "default": ""},
            "metrics_file": {"type": "str", "default": ""},
            "alerts_file": {"type": "str", "default": ""},
            "syslog": {"type": "list", "elements": "str"},
            "order": {
                "type": "list",
                "elements": "str",
                "choices": list(snapshots.ORDER),
                "default": list(snapshots.ORDER),
            },
            "max_bytes": {"type": "int", "default": 8388608},
            "min_seconds": {"type": "float", "default": 60},
            "prometheus_url": {"type": "str", "default": ""},
            "prometheus_seconds": {"type": "float", "default": 10},
            "scrape_ok": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    for name, (low, high) in sorted(RANGES.items()):
        if not low <= module.params[name] <= high:
            module.fail_json(msg="%s is %s: expected %s to %s" % (name, module.params[name], low, high))
    waits = module.params["prometheus_seconds"] if module.params["prometheus_url"] else 0
    try:
        found = detach.within(AROUND + waits, lambda: gather(module.params))
    except detach.Late as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
