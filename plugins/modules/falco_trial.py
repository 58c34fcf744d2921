#!/usr/bin/python
# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: falco_trial
short_description: Try what Falco can monitor without drops, and what its rules and plugins cost
version_added: 0.1.0
description:
  - Runs a private Falco for a while with each of several sets of system calls and a dummy rule that never
    alerts, as Falco's guide advises, and measures what it sees, loses and costs. The private Falco has the
    host's own binary, driver and the buffers that a tune would give it; its outputs and web server are off.
  - A test with C(without) has the host's own rules and plugins instead of the dummy rule, and leaves some of
    them out. Such tests run in turn, several times, and each is compared with another one in pairs of runs.
    What the rules alert is discarded.
  - Each test begins with a dry run, which prints the final set. Names are checked before anything is touched.
  - With O(mode=beside) the host's own Falco keeps running. With O(mode=instead) it is stopped for each test
    and started again.
  - A test ends before its time where the load, the memory or the losses of the host's own Falco pass a limit,
    or where the controller is gone. The host is cleaned up then, whichever process was killed.
  - A test is skipped where its set contains the whole set of a test that dropped too much.
  - The private Falco has the priority of the host's own, and is not held to its unit's C(CPUQuota),
    C(CPUWeight) or C(MemoryMax). Where the unit has one, a warning says so.
options:
  tests:
    description:
      - V(guide) for the five tests of Falco's guide, V(plugins) for its advice to try without plugins, or a
        list. Each has V(name), V(custom_set) (names of events as in Falco's C(base_syscalls)), V(repair) and
        V(all).
      - With V(without), a test has the host's own rules and plugins except V(rules) (names; C(*) stands for
        any text), V(tags), V(files) (paths or names of rules files), V(plugins) (names or V(all)), and
        V(rules_of_plugins), the rules that need these plugins. Rules that need a plugin are left out with it.
        Without V(custom_set), V(repair) and V(all), the host's own C(base_syscalls) apply.
      - A test with V(without) is compared with the test that V(against) names, or with the test
        V(as it is), which is added and has all rules and plugins.
    type: raw
    default: guide
  repeats:
    description:
      - How often each test runs, 1 to 20. Tests run in turn. V(0) is three times for tests with V(without),
        and once for others.
    type: int
    default: 0
  seconds:
    description:
      - How long each test measures, 5 to 3600.
    type: int
    default: 60
  mode:
    description:
      - V(beside) the host's own Falco, or V(instead) of it.
    type: str
    choices: [beside, instead]
    default: beside
  accepted_drops_percent:
    description:
      - Percent of events that a test may drop and still pass.
    type: float
    default: 1.0
  metrics_interval:
    description:
      - Time between two snapshots, V(200ms) or more. A short one keeps a driver from loading on a slow host.
    type: str
    default: 1s
  max_load_per_cpu:
    description:
      - Load average of the last minute, per CPU, above which a test is aborted.
    type: float
    default: 8.0
  min_available_percent:
    description:
      - Percent of the memory that must be available. A test is aborted below it.
    type: float
    default: 5.0
  max_more_drops_percent:
    description:
      - A test is aborted where the host's own Falco drops more than before the test, by this many percentage
        points.
    type: float
    default: 5.0
  facts:
    description:
      - What P(falcotune.fleet.falco_facts#module) returned.
    type: dict
  plan:
    description:
      - The host's plan, whose buffer settings the trial uses. Without it, those of the configuration.
    type: dict
  policy:
    description:
      - The tuning policy, for C(host_root), C(unit) and C(state_dir).
    type: dict
  request:
    description:
      - One test as the controller half sends it to the host. Not for use in a task.
    type: dict
extends_documentation_fragment:
  - falcotune.fleet.attributes
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    description: Makes the dry runs only, and returns what would be measured.
  diff_mode:
    support: N/A
    description: Changes no file.
author:
  - falcotune contributors (@falcotune)
seealso:
  - module: falcotune.fleet.falco_facts
"""

EXAMPLES = r"""
- name: Gather and plan
  falcotune.fleet.falco_facts:
    policy: {}
  become: true

- name: Run the guide's five tests, a minute each
  falcotune.fleet.falco_trial:
    facts: "{{ ansible_facts.falco }}"
    plan: "{{ ansible_facts.falco_plan }}"
  become: true

- name: Measure what plugins cost
  falcotune.fleet.falco_trial:
    tests: plugins
    repeats: 5
    facts: "{{ ansible_facts.falco }}"
  become: true

- name: Measure what two rules and a tag cost
  falcotune.fleet.falco_trial:
    tests:
      - name: without the heavy rules
        without:
          rules: [Read sensitive file untrusted, Directory traversal monitored file read]
          tags: [maturity_sandbox]
    facts: "{{ ansible_facts.falco }}"
  become: true

- name: Run a test of your own
  falcotune.fleet.falco_trial:
    tests:
      - name: processes and connections
        custom_set: [clone, clone3, fork, vfork, execve, execveat, socket, connect, close]
        repair: true
    seconds: 300
    facts: "{{ ansible_facts.falco }}"
  become: true
"""

RETURN = r"""
summary:
  description: The trial in text, one line a test.
  returned: success
  type: list
  elements: str
  sample:
    - "verdict: largest"
    - "because: T2 repair: 18 system calls, 5210 events/s without a loss; Falco used 3.1 % of a CPU and 58
      MiB"
    - "T1 processes, clean, 7 system calls, 310 events/s/CPU, 0 % lost, CPU 1.2 %"
ansible_facts:
  description: What the host can monitor.
  returned: success
  type: dict
  contains:
    falco_trial:
      description: The trial.
      type: dict
      returned: success
      contains:
        verdict:
          description:
            - V(largest) where a set passed, V(compared) where tests of rules or plugins were compared,
              V(too_busy) where every set lost too much, V(aborted) where a limit was passed, V(failed) where
              none ran, V(none) where nothing was to be measured.
          type: str
          returned: success
          sample: largest
        reason:
          description: Why, in a sentence.
          type: str
          returned: success
          sample: "T2 repair: 18 system calls, 5210 events/s without a loss"
        largest:
          description: The test with the largest set that passed, by events a second, or V(null).
          type: str
          returned: success
          sample: T2 repair
        accepted_drops_percent:
          description: As given.
          type: float
          returned: success
          sample: 1.0
        mode:
          description: As given.
          type: str
          returned: success
          sample: beside
        began:
          description: Unix time.
          type: float
          returned: success
          sample: 1795471080.1
        ended:
          description: Unix time.
          type: float
          returned: success
          sample: 1795471405.7
        tests:
          description:
            - One entry a test. Its state is V(clean), V(accepted), V(dropping), V(aborted), V(failed) or
              V(skipped); C(selected) is the final set as the host's Falco printed it; numbers are V(null)
              where they are unknown. C(cpu_per_million) is seconds of CPU time for each million events that
              Falco read. C(runs) has the numbers of each run.
            - C(difference) is what the test differs by from the one that it is compared with, for each
              number as C(mean), C(percent), the 95 % interval from C(low) to C(high), and whether 0 is
              outside of it (C(certain)).
          type: list
          elements: dict
          returned: success
          sample:
            - name: T2 repair
              custom_set: []
              repair: true
              all: false
              state: clean
              reason: null
              selected: [capset, chdir, chroot, clone, clone3]
              seconds: 60.0
              events: 312600
              events_per_second: 5210.0
              rate_per_cpu: 1302.5
              drops: 0
              drops_percent: 0.0
              drops_by_category: {}
              falco_cpu_percent: 3.1
              falco_wait_percent: 0.4
              memory_bytes: 60817408
              rules_total: 25
              rules_blind: [Read sensitive file untrusted]
              rules_half_blind: []
              rules_wrong_output: []
              unseen:
                - way: paths relative to a directory handle copied by dup3
                  calls: [dup3]
                  fields: []
                  false_alarms: false
                  rules: [Read sensitive file untrusted]
"""

import json
import os
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.falcotune.fleet.plugins.module_utils._change import records
from ansible_collections.falcotune.fleet.plugins.module_utils._change.failure import Failed
from ansible_collections.falcotune.fleet.plugins.module_utils._host import host, processes, systemd
from ansible_collections.falcotune.fleet.plugins.module_utils._measure import trial

# Seconds beside those of the test itself: dry run, start, a stop that takes long, the host's own Falco that
# stops and starts.
AROUND = 600
OUTPUT = 1  # the connection


def subject(module):
    """What trial.Trial needs: the request and what the host's own Falco is started with."""
    request = module.params["request"]
    root = request["host_root"].rstrip("/")
    try:
        unit = systemd.find(request["unit"] or None, root)
    except systemd.ManagerError as error:
        module.fail_json(msg="systemd did not answer: %s" % error)
    if unit is None:
        module.fail_json(msg="systemd has no unit %s" % (request["unit"] or "of Falco's packages"))
    process = processes.of_unit(root, unit)[0]
    started = processes.command(unit, process)
    if started["reason"]:
        module.fail_json(msg="%s. Nothing was tried." % started["reason"])
    state_dir = root + request["state_dir"]
    if module.check_mode:
        # Nothing of the host's is touched, not even our own directory.
        state_dir = os.path.join(tempfile.gettempdir(), "falcotune-" + host.digest(os.urandom(16))[:16])
    return {
        "request": request,
        "root": root,
        "state_dir": state_dir,
        "unit": unit,
        "arguments": started["arguments"] or [started["binary"]],
        "environment": processes.start_environment(unit, process, [host.read(request["main"] or "")]),
        "binary": started["binary"],
        "dry": module.check_mode,
    }


def hold(module, state_dir):
    """Take the host for this test, and remove what an earlier one left.

    (lock, a sentence about that or None).
    """
    try:
        records.own(state_dir)
        lock = records.lock(state_dir)
    except records.Locked as error:
        module.fail_json(
            msg="another run is changing or trying Falco on this host (%s): nothing was touched; run again "
            "when it is done" % error
        )
    except Failed as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(
            msg="%s: %s; run with become, or set falco_tune_state_dir" % (state_dir, error.strerror)
        )
    if os.path.lexists(os.path.join(state_dir, records.JOURNAL)):
        module.fail_json(
            msg="an earlier change of this host was broken off (%s/journal.json): run tune_falco.yml, which "
            "finishes or undoes it" % state_dir
        )
    try:
        return lock, trial.recover(state_dir)
    except trial.Failed as error:
        module.fail_json(msg=str(error))


def main():
    # The controller half turns tests, facts, plan and policy into one request a test.
    module = AnsibleModule(
        argument_spec={
            "tests": {"type": "raw", "default": "guide"},
            "seconds": {"type": "int", "default": 60},
            "mode": {"type": "str", "choices": ["beside", "instead"], "default": "beside"},
            "accepted_drops_percent": {"type": "float", "default": 1.0},
            "metrics_interval": {"type": "str", "default": "1s"},
            "max_load_per_cpu": {"type": "float", "default": 8.0},
            "min_available_percent": {"type": "float", "default": 5.0},
            "max_more_drops_percent": {"type": "float", "default": 5.0},
            "repeats": {"type": "int", "default": 0},
            "facts": {"type": "dict"},
            "plan": {"type": "dict"},
            "policy": {"type": "dict"},
            "request": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    if module.params["request"] is None:
        module.fail_json(msg="request is missing: falco_trial runs with its action plugin, which makes it")
    found = subject(module)
    lock, recovered = (None, None) if module.check_mode else hold(module, found["state_dir"])
    work = trial.Trial(found)
    watchdog, reader = trial.detached(work, found["request"]["seconds"] + AROUND)
    try:
        answer = trial.answer_of(watchdog, reader, OUTPUT)
    except trial.Gone:
        # The worker sees that the pipe is closed.
        os._exit(1)
    if answer is None:
        answer = trial.killed(work)
    if answer.get("rules"):
        answer["rules"] = host.pack(answer["rules"].encode("utf-8"))
    if answer.get("rules_files"):
        answer["rules_files"] = host.pack(json.dumps(answer["rules_files"]).encode("utf-8"))
    if lock is not None:
        os.close(lock)
    module.exit_json(changed=False, trial=answer, recovered=recovered)


if __name__ == "__main__":
    main()
