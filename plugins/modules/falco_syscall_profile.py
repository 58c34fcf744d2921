#!/usr/bin/python
# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: falco_syscall_profile
short_description: Count the system calls that a host makes
version_added: 0.1.0
description:
  - Counts every system call of a live host for some seconds, without Falco's help, and returns rates by the
    names that Falco's rules and C(base_syscalls.custom_set) use. Falco itself has no such counters.
  - The calls are counted by the kernel, on all CPUs, for all processes and containers, this module's few
    included.
  - Where no means works on a host, the task doesn't fail. RV(profile.reason) names what each of them lacks.
  - V(tracefs) is a C(hist) trigger on C(raw_syscalls/sys_enter) in a tracing instance of its own. The event
    stays off, nothing is written to a ring buffer. It needs C(CONFIG_HIST_TRIGGERS), which the large
    distributions' kernels have. The new instance takes about 1.4 MiB a CPU until it is made smaller at once;
    where this is more than a tenth of the available memory it isn't made.
  - V(perf) is C(perf stat) with a counter for each call and CPU. After it has counted, the kernel needs 10 to
    20 seconds to let go of the tracepoints, for which the task waits. Calls of 32-bit processes are not in
    it, nor are those on whose tracepoint a BPF program of another tool hangs. Falco's own programs (0.42 and
    newer, on C(open), C(openat), C(openat2), C(creat) and C(connect)) hide nothing. It isn't used where it
    would need more than 65536 counters, which is some 180 CPUs.
  - Where tracefs is mounted nowhere, it is mounted for this module's process alone.
  - The instance is removed even where the module is killed. A second process ends the count then. Where both
    are killed the instance goes on counting until the next run removes it.
options:
  host_root:
    description:
      - Prefix for C(/proc) and C(/sys), as Falco's own E(HOST_ROOT).
    type: str
    default: ""
  seconds:
    description:
      - How long to count, 0.5 to 60 seconds.
    type: float
    default: 5
  means:
    description:
      - What to try, in this order.
    type: list
    elements: str
    choices: [tracefs, perf]
    default: [tracefs, perf]
  release:
    description:
      - The Falco release whose names are wanted, 0.35 or newer. Empty takes the newest that this collection
        knows.
    type: str
    default: ""
  facts:
    description:
      - What P(falcotune.fleet.falco_facts#module) returned. With it, a host whose Falco watches no system
        calls is refused, and an empty O(release) is that of its Falco.
    type: dict
notes:
  - A 64-bit kernel that runs 32-bit programs counts their calls under the number that they have in the 32-bit
    table, so under another name (V(tracefs) only).
  - A rate is calls a second. A Falco before 0.42 makes two events of a call, and no Falco makes events of
    what it doesn't watch.
  - While it counts, every system call of the host takes a little longer. The worst case is a program that
    makes nothing but the cheapest calls. With V(perf) it kept 0.79 of its speed, 31 ns more a call (Linux
    6.18, two virtual CPUs, seven pairs). With V(tracefs) it kept 0.6 to 0.8 on an emulated machine (Linux
    6.1), which says little about a real one. C(make bench) measures both on yours.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    description: Counts all the same, because it changes nothing that lasts.
  diff_mode:
    support: N/A
    description: Changes nothing.
  platform:
    platforms: linux
    support: full
    description:
      - Linux on x86_64 and aarch64. On others some calls may be named as the kernel names their functions.
author:
  - falcotune contributors (@falcotune)
seealso:
  - module: falcotune.fleet.falco_facts
"""

EXAMPLES = r"""
- name: Count for ten seconds
  falcotune.fleet.falco_syscall_profile:
    seconds: 10
    release: 0.44.1
  become: true
  register: counted

- name: The five most frequent calls
  ansible.builtin.debug:
    msg: "{{ (counted.profile.per_second | dict2items | sort(attribute='value', reverse=true))[:5] }}"

- name: Count with tracefs only
  falcotune.fleet.falco_syscall_profile:
    means: [tracefs]
  become: true
"""

RETURN = r"""
profile:
  description:
    - Rates by name. Where the host could not count, RV(profile.reason) says why, and there are none.
  returned: success
  type: dict
  contains:
    means:
      description: What counted, V(tracefs) or V(perf), else V(null).
      type: str
      returned: always
      sample: tracefs
    seconds:
      description: How long it counted, else V(null).
      type: float
      returned: always
      sample: 5.000214
    reason:
      description: What is missing on this host for each of the means, else V(null).
      type: str
      returned: always
      sample: null
    notes:
      description: Limits of the numbers, such as calls that the kernel could not count.
      type: list
      elements: str
      returned: always
      sample: []
    per_second:
      description:
        - Calls a second by Falco's event names. Each call counts once, under the narrowest name, C(accept4)
          apart from C(accept).
        - C(procexit) are threads that ended.
      type: dict
      returned: always
      sample: {openat: 4100.2, close: 4300.8, futex: 21000.0, procexit: 3.4}
    unwatchable:
      description:
        - Calls a second by the kernel's names that this release of Falco has no name for, C(syscall_<number>)
          where the kernel has none either.
      type: dict
      returned: always
      sample: {listns: 0.4}
    callers:
      description:
        - Who made the calls that are at least 1 % of all, by Falco's event names, the three busiest users
          (real uid) and control groups of each, in calls a second. A user's sessions count as one control
          group, and so do the containers of a pod. C(unknown) are the calls of threads that ended meanwhile
          or began while it counted.
        - Empty with V(perf), and where C(/proc) does not show the host's first namespace of processes;
          RV(profile.notes) says so.
      type: dict
      returned: always
      sample:
        openat:
          uids: {"33": 3900.0, "0": 200.2}
          cgroups: {/system.slice/nginx.service: 3900.0, /init.scope: 200.2}
          unknown: 0.0
    total_per_second:
      description: All of them, else V(null).
      type: float
      returned: always
      sample: 29404.8
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.falcotune.fleet.plugins.module_utils._measure import syscall_counts


def main():
    module = AnsibleModule(
        argument_spec={
            "host_root": {"type": "str", "default": ""},
            "seconds": {"type": "float", "default": 5},
            "means": {
                "type": "list",
                "elements": "str",
                "choices": list(syscall_counts.MEANS),
                "default": list(syscall_counts.MEANS),
            },
            "release": {"type": "str", "default": ""},
            "facts": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    try:
        measured = syscall_counts.measure(
            module.params["host_root"], module.params["seconds"], module.params["means"]
        )
    except ValueError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, measured=measured)


if __name__ == "__main__":
    main()
