#!/usr/bin/python
# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: falco_facts
short_description: Gather what Falco runs with, and what the host can afford
version_added: 0.1.0
description:
  - Gathers CPUs, memory, kernel, Falco's release, unit, process, the driver that really runs, every
    configuration file that Falco loads and the configuration that results from them, in one round trip.
  - The configuration is merged on the controller by the rules of the host's own release, so hosts need no
    PyYAML.
  - Read-only. A fact that can't be gathered is V(null) with a reason. The host fails only where no decision
    is possible without the fact.
options:
  config_file:
    description:
      - Falco's main configuration file. Empty takes it from the process, else from the unit, else
        C(/etc/falco/falco.yaml).
    type: str
    default: ""
  state_dir:
    description:
      - Where P(falcotune.fleet.falco_config#module) keeps its records, below O(host_root).
    type: str
    default: /var/lib/falcotune
  metrics_dir:
    description:
      - The directory in which the plan will put Falco's metrics. The facts say whether it exists.
    type: str
    default: /var/log/falco
  observe_seconds:
    description:
      - Time between two samples of Falco's CPU time, run-queue wait and throttling, 0 to 60 seconds. 0 takes
        no second sample.
      - Only a Falco that has run for more than a day is sampled twice. Before that the totals since its start
        are enough.
    type: float
    default: 1.0
  metrics_sources:
    description:
      - Where Falco's metrics are looked for, in this order; see P(falcotune.fleet.falco_metrics_info#module).
    type: list
    elements: str
    choices: [metrics_file, alerts_file, journal, syslog, prometheus]
    default: [metrics_file, alerts_file, journal, syslog, prometheus]
  metrics_max_bytes:
    description:
      - Bytes read from the end of each source.
    type: int
    default: 2097152
  window_seconds:
    description:
      - Length of the window wanted, in seconds. It never spans a restart or a hot reload, so it may be
        shorter.
    type: float
    default: 3600.0
  min_observation:
    description:
      - A window of this many seconds is long enough; no other source is tried then.
    type: float
    default: 60.0
  prometheus_url:
    description:
      - The host's own C(/metrics). It is not asked where this is empty. The controller half sets it in a
        second round trip where no other source has metrics and the configuration and release allow it.
    type: str
    default: ""
  prometheus_seconds:
    description:
      - Seconds between two scrapes.
    type: float
    default: 60.0
  scrape_ok:
    description:
      - Whether this release survives a scrape at any time (0.41.1 and newer). Otherwise it is asked only
        while its ring buffers are mapped.
    type: bool
    default: false
  rules:
    description:
      - Ask the host's Falco for its rules (C(falco -L)) and for the system calls that it selects (a dry run),
        a second or two of CPU.
      - The controller half asks for it in a second round trip where the plan of O(policy) depends on them.
    type: bool
    default: false
  coverage:
    description:
      - Where the selection of system calls in force is narrowed and the host's record does not tell which
        rules see less with it, the controller half asks for the rules in a second round trip, as O(rules)
        does. A plan can then offer what rules lose. A host that does not answer keeps the facts of the first
        round trip.
    type: bool
    default: false
  dry_run:
    description:
      - The option by which this release makes a dry run; used with O(rules).
    type: str
    default: --dry-run
  profile_seconds:
    description:
      - With O(rules), count the host's system calls for so many seconds, 0.5 to 60, as
        P(falcotune.fleet.falco_syscall_profile#module) does. 0 counts none.
    type: float
    default: 0.0
  refusal:
    description:
      - What to do with a host for which O(policy) yields no plan. V(fail) fails the host, V(report) puts the
        reason into the fact C(falco_plan).
    type: str
    choices: [fail, report]
    default: fail
  entry:
    description:
      - With O(policy), return C(entry), what P(falcotune.fleet.falco_report#module) shows of the host, in
        place of the facts and the plan, so that the result is smaller. A host whose metrics cover less time
        than C(min_observation) returns its facts all the same, because the report may judge it by counters of
        the last audit.
    type: bool
    default: false
  rollout:
    description:
      - With O(policy), also return RV(rollout) and RV(fleet_policy), what
        P(falcotune.fleet.falco_rollout#module) plans the host's part in a rollout with. A host that lacks the
        variable of the policy's C(failure_domain), or the evidence that policy asks for, fails.
    type: bool
    default: false
  policy:
    description:
      - A tuning policy, with or without the prefix C(falco_tune_) on its keys. With it the module also makes
        the host's plan, returns it as the fact C(falco_plan), and takes the values of options that are not
        set from it.
      - A wrong policy fails the host with the reason before anything is touched.
    type: dict
  round:
    description:
      - What the change before returned as RV(falcotune.fleet.falco_config#module:next_round). The controller
        half waits until the host can be judged. Where the round is a closing one, the plan only takes back
        what had no effect.
    type: dict
  extra_files:
    description:
      - More files to read. The controller half uses it where C(config_files) names files through variables.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - falcotune.fleet.attributes
  - falcotune.fleet.attributes.reads
  - falcotune.fleet.host
  - ansible.builtin.action_common_attributes
author:
  - falcotune contributors (@falcotune)
seealso:
  - module: falcotune.fleet.falco_config
"""

EXAMPLES = r"""
- name: Gather what Falco runs with
  falcotune.fleet.falco_facts:

- name: What would change, and why
  falcotune.fleet.falco_facts:
    policy:
      buf_size_preset: 6

- name: Show the driver that runs and who decided it
  ansible.builtin.debug:
    var: ansible_facts.falco.driver
"""

RETURN = r"""
entry:
  description: What a report shows of the host. What is unknown is left out.
  returned: with O(entry)
  type: dict
ansible_facts:
  description: Facts to add to the host.
  returned: without O(entry)
  type: dict
  contains:
    falco:
      description: What Falco runs with.
      type: dict
      returned: always
      contains:
        cpus:
          description:
            - CPUs online and possible (numbers) and the list of online ones, from C(/sys/devices/system/cpu).
          type: dict
          returned: always
          sample: {online: 8, possible: 8, list: 0-7, reason: null}
        memory:
          description: Bytes in total, available, the unit's effective limit and what the unit uses.
          type: dict
          returned: always
          sample: {total: 16777216000, available: 12000000000, limit: null, used: 62914560}
        kernel:
          description:
            - Kernel release, whether it has BTF, C(kernel.bpf_stats_enabled) and the page size in bytes.
          type: dict
          returned: always
          sample: {release: 6.1.0-18-amd64, btf: true, bpf_stats_enabled: 0, page_size: 4096}
        falco:
          description:
            - Version, binary, whether it runs, process, start in Unix seconds, restarts by systemd, nice and
              mapped ring buffers.
            - C(cpu) has the seconds on a CPU, waiting for one and throttled since the start (C(total)), and
              for an old process, or one that loses events, the same in percent between two looks. C(reader)
              has the same of the busiest thread, which reads the events.
          type: dict
          returned: always
          sample:
            version: 0.44.1
            binary: /usr/bin/falco
            running: true
            pid: 812
            since: 1795470186.1
            age: 86400.5
            restarts: 0
            nice: 0
            rings: {driver: modern_ebpf, bytes_each: 8388608, count: 4}
            cpu:
              "on": null
              waiting: null
              throttled: null
              seconds: null
              total: {"on": 1203.5, waiting: 80.2, throttled: null}
              reader: {"on": null, waiting: null, total_on: 1187.2, total_waiting: 78.1}
              reason: not sampled twice
        service:
          description: Manager, unit, arguments, limits and sandbox of the unit.
          type: dict
          returned: always
        driver:
          description: The driver that runs, and what decided it.
          type: dict
          returned: always
          sample: {kind: modern_ebpf, decided_by: process arguments}
        config:
          description:
            - Loaded files in order with their hashes, the blocks that the collection reads as Falco merged
              them, and which file decided each.
          type: dict
          returned: always
        metrics:
          description:
            - What Falco's own counters say, as P(falcotune.fleet.falco_metrics_info#module) returns it.
              C(voided) says why there is no window.
          type: dict
          returned: always
        syscalls:
          description:
            - What O(rules) asked for. C(rules) as Falco has loaded them, C(selected) by its dry run,
              C(profile) of the kernel; C(reason) where something is missing. V(null) where it was not asked
              for.
          type: dict
          returned: always
        host:
          description: What a plan needs to know about the rest of the host.
          type: dict
          returned: always
    falco_plan:
      description: What P(falcotune.fleet.plan#filter) makes of the facts and O(policy).
      type: dict
      returned: when O(policy) is given
    falco_tune_restart_required:
      description: Whether the host waits for a restart that policy does not allow now.
      type: bool
      returned: with O(rollout)
rollout:
  description: What P(falcotune.fleet.falco_rollout#module) needs to know about the host.
  returned: with O(rollout)
  type: dict
fleet_policy:
  description: The part of O(policy) that must be the same for all hosts of a rollout.
  returned: with O(rollout)
  type: dict
"""

import os
import re
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.falcotune.fleet.plugins.module_utils._change import records, yaml_text
from ansible_collections.falcotune.fleet.plugins.module_utils._host import (
    command_line,
    detach,
    host,
    processes,
    programs,
    systemd,
)
from ansible_collections.falcotune.fleet.plugins.module_utils._measure import rules_loaded, syscall_counts
from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import rings, snapshots, sources

DEFAULT_MAIN = "/etc/falco/falco.yaml"
# Seconds up to which the totals of a process say enough about now (plugin_utils/_tuning/capacity.py has the
# same line).
LONG_LIFE = 86400
# Seconds. The programs that are asked have time limits of their own: systemctl 60, falco --version 30,
# journalctl 10, and falco -L and its dry run 120 each. A busy host reads its files in less than a second.
AROUND = 120
AROUND_RULES = 360


def version_of(binary, record, environment=None):
    """(version, reason): from the proven record when the binary is the same file, else by running it.

    environment: the variables to run it with.
    """
    identity = records.identity(binary)
    if identity is None:
        return None, "%s does not exist or is not executable: is Falco installed?" % binary
    known = (record or {}).get("binary") or {}
    if known.get("version") and known.get("identity") == identity:
        return known["version"], None
    refused = programs.refusal(binary)
    if refused:
        return None, refused
    status, out, err = systemd.run([binary, "--version"], timeout=30, environment=environment or {})
    match = re.search(r"^Falco version:\s*v?(\S+)", out, re.M)
    if match:
        return match.group(1), None
    if status is None:
        return None, err
    return None, (
        "%s --version does not print 'Falco version:' (exit %s, first line: %r): that is another program of "
        "the same name, or a broken Falco" % (binary, status, (out or err).strip().splitlines()[:1])
    )


def config_files(main, arguments, extra):
    """([files], [folders]) that the controller may need: the main file, what config_files may name, members
    of its directories.

    files: as host.fetch() gives them. extra: more paths.
    """
    first = host.fetch(main)
    if "reason" in first:
        return [first], []
    words = yaml_text.path_words(first["text"])
    for option in command_line.options(arguments):
        if option.startswith("config_files"):
            words.extend(yaml_text.path_words("config_files: " + option.partition("=")[2]))
    found, folders, seen = [first], [], {main}
    for word in words + list(extra):
        if word in seen or "$" in word:
            continue
        seen.add(word)
        if os.path.isdir(word):
            folders.append(word)
            found.extend(_members(word, seen))
        elif os.path.isfile(word):
            found.append(host.fetch(word))
    return found, folders


def _members(folder, seen):
    """The files of a directory, but for those already seen."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        reason = "%s can't be listed: %s; run with become" % (folder, error.strerror)
        return [{"path": folder, "reason": reason}]
    paths = [os.path.join(folder, name) for name in names]
    new = [path for path in paths if path not in seen and os.path.isfile(path)]
    seen.update(new)
    return [host.fetch(path) for path in new]


def variables(files, environment):
    """The variables that the files name.

    The rest of Falco's environment may hold secrets and stays on the host.
    """
    names = set()
    for item in files:
        names.update(re.findall(r"\$\{([^}]*)\}", item.get("text", "")))
    return {name: environment[name] for name in names if name in environment}


def alerts_file(files):
    """The last file_output.filename in the configuration: Falco holds it open only with keep_alive. '' where
    there is none.
    """
    found = ""
    for item in files:
        part = yaml_text.block(item.get("text", ""), "file_output") or ""
        for word in re.findall(r"""^\s+filename:\s*["']?([^\s"'#]+)""", part, re.M):
            found = word
    return found


def measure(params, root, unit, files):
    """Two snapshots of Falco's metrics, or a reason."""
    options = {
        "alerts_file": alerts_file(files),
        "prometheus_url": params["prometheus_url"],
        "prometheus_seconds": params["prometheus_seconds"],
        "scrape_ok": params["scrape_ok"],
    }
    limits = {
        "max_bytes": params["metrics_max_bytes"],
        "min_seconds": params["window_seconds"],
        "enough": params["min_observation"],
    }
    return sources.gather(root, unit, options, params["metrics_sources"], limits)


def on_disk(record):
    """Hashes, as they are now, of the files that the proven record speaks of; None for one that is gone."""
    found = {}
    for path in sorted((record or {}).get("files") or {}):
        item = host.fetch(path)
        found[path] = item.get("sha256")
    return found


class Observation:
    """Percent of the time that Falco's threads use a CPU, wait for one, or are kept off it by a quota.

    The totals since the start are enough for a young process that loses nothing; any other is sampled twice.
    """

    def __init__(self, root, process, age, unit, seconds):
        self.root, self.process, self.age = root, process, age
        self.group = (unit or {}).get("ControlGroup")
        self.seconds = seconds
        self.threads = None
        self.first = self.look() if process else None
        self.first_threads = self.threads
        self.began = time.monotonic()

    def look(self):
        """{'on', 'waiting', 'throttled'} in seconds since the start, or None."""
        self.threads = self.process.threads()
        if self.threads is None:
            return None
        on, waiting = processes.summed(self.threads)
        return {
            "on": on / 1e9,
            "waiting": waiting / 1e9,
            "throttled": host.cgroup(self.root, self.group)["throttled"],
        }

    def end(self, losing=False):
        """{'on', 'waiting', 'throttled', 'seconds', 'total', 'reader', 'reason'}; sleeps for what is left of
        the time, if it must look twice.

        losing: Falco lost events, so its present use of the CPU is of interest however young it is.
        """
        found = dict.fromkeys(("on", "waiting", "throttled", "seconds", "total", "reader", "reason"))
        if self.process is None:
            return dict(found, reason="not running")
        if self.first is None:
            return dict(found, reason="schedstat can't be read; run with become")
        found["total"] = {
            name: None if value is None else round(value, 3) for name, value in self.first.items()
        }
        total = processes.busiest(self.first_threads)
        found["reader"] = {
            "on": None,
            "waiting": None,
            "total_on": round(total[0] / 1e9, 3),
            "total_waiting": round(total[1] / 1e9, 3),
        }
        if not self.seconds or (not losing and self.age is not None and self.age <= LONG_LIFE):
            return dict(found, reason="not sampled twice")
        time.sleep(max(0, self.began + self.seconds - time.monotonic()))
        second, took = self.look(), time.monotonic() - self.began
        if not self._same_threads(second) or took <= 0:
            return dict(found, reason="Falco's threads changed between the two samples")
        found["seconds"] = round(took, 2)
        for name, value in second.items():
            if value is not None and self.first[name] is not None:
                found[name] = round(100 * (value - self.first[name]) / took, 2)
        for name, spent in zip(("on", "waiting"), processes.busiest(self.threads, self.first_threads)):
            found["reader"][name] = round(100 * spent / 1e9 / took, 2)
        return found

    def _same_threads(self, second):
        """Whether no time is lost between the two samples, as it is with a thread that ends."""
        return second is not None and all(second[name] >= self.first[name] for name in ("on", "waiting"))


def loses(pair):
    """Whether Falco's metrics or its drop alerts tell of lost events. pair: as measure()."""
    if pair.get("alerts"):
        return True
    if "first" not in pair:
        return False
    return pair["last"].get("scap.n_drops", 0) > pair["first"].get("scap.n_drops", 0)


def ring_buffers(process):
    """The ring buffers that the process has mapped: {'driver', 'bytes_each', 'count'}, or None."""
    maps = (host.read(process.path + "/maps", 1 << 22) if process else None) or ""
    for driver in ("modern_ebpf", "kmod", "ebpf"):
        found = rings.mapped(maps, driver, os.sysconf("SC_PAGE_SIZE"))
        if found:
            return {"driver": driver, "bytes_each": max(found), "count": found[max(found)]}
    return None


def unit_dropin(root, unit):
    """What our own drop-in of the unit says: {key: value}."""
    text = host.read("%s/etc/systemd/system/%s.d/zz-falcotune.conf" % (root, unit), 65536) if unit else None
    return dict(re.findall(r"^([A-Za-z]+)=(.*)$", text or "", re.M))


def find_unit(name, root):
    """(properties of Falco's unit, None) or (None, reason)."""
    try:
        unit = systemd.find(name or None, root)
    except systemd.ManagerError as error:
        return None, "systemd did not answer: %s" % error
    if unit:
        return unit, None
    return None, "systemd has no unit %s" % (name or "of Falco's packages (%s)" % ", ".join(systemd.UNITS))


def service_facts(root, unit, reason):
    found = systemd.service(unit) if unit else {"manager": None, "unit": None, "reason": reason}
    found["cgroup"] = host.cgroup(root, unit.get("ControlGroup") if unit else None)
    return found


def memory_facts(root, unit):
    """The host's memory, and the smallest limit of the unit: its own, by any of its names, or that of a slice
    around it.
    """
    unit = unit or {}
    used = systemd.number(unit.get("MemoryCurrent"))
    return dict(host.memory(root), limit=processes.memory_limit(root, unit), used=used)


def falco_facts(root, unit, process, start, started, record):
    """What runs; its use of the CPU is added once everything else was looked at."""
    binary = started["binary"]
    environment = processes.start_environment(unit, process)
    version, reason = version_of(binary, record, environment)
    stat = process.stat() if process else None
    return {
        "version": version,
        "reason": reason,
        "binary": binary,
        "running": bool(process),
        "pid": process.pid if process else None,
        "since": processes.started_at(root, start) if process else None,
        "age": processes.age(start) if process else None,
        "start_ticks": start,
        "restarts": host.integer(unit.get("NRestarts")) if unit else None,
        "nice": stat[2] if stat else None,
        "rings": ring_buffers(process),
    }


def host_facts(params, unit, process, start, record):
    """What a plan needs to know of the rest of the host."""
    root = params["host_root"].rstrip("/")
    state_dir = root + params["state_dir"]
    return {
        "metrics_dir_exists": os.path.isdir(params["metrics_dir"]),
        "files": on_disk(record),
        "unit_dropin": unit_dropin(root, unit.get("Id") if unit else None),
        "record": records.summary(record, process.pid if process else None, start),
        "unfinished": records.unfinished(state_dir),
        "staged": records.staged(state_dir),
    }


def config_sources(params, started):
    """(what the controller merges the configuration from, the files with their texts). started: as
    processes.command().
    """
    arguments, environment = started["arguments"], started["environment"]
    main = params["config_file"] or command_line.main_file(arguments) or DEFAULT_MAIN
    files, folders = config_files(main, arguments, params["extra_files"])
    return {
        "main": main,
        "files": [{name: value for name, value in item.items() if name != "text"} for item in files],
        "folders": folders,
        "arguments": arguments,
        "environment": variables(files, environment),
        "probe": "FALCO_BPF_PROBE" in environment,
    }, files


def rules_facts(params, started, environment):
    """Falco's rules and selection, and the system calls that the host makes where they are to be counted.

    environment: variables to run Falco with.
    """
    if started["reason"]:
        found = {"list": None, "dry_run": None, "reason": started["reason"]}
    else:
        arguments = started["arguments"] or [started["binary"]]
        found = rules_loaded.ask(arguments, environment, params["dry_run"])
    if params["profile_seconds"]:
        # tracefs alone: perf would take the kernel many seconds to let go of, on a host that is busy already.
        found["profile"] = syscall_counts.measure(
            params["host_root"].rstrip("/"), params["profile_seconds"], means=("tracefs",)
        )
    return found


def gather(params):
    """Everything that one round trip brings, for the controller half to assemble.

    Never raises on what it finds.
    """
    root = params["host_root"].rstrip("/")
    unit, reason = find_unit(params["unit"], root)
    process, start = processes.of_unit(root, unit)
    age = processes.age(start) if process else None
    observation = Observation(root, process, age, unit, params["observe_seconds"])
    started = processes.command(unit, process)
    record = records.load(root + params["state_dir"])
    sources_found, files = config_sources(params, started)
    result = {
        "cpus": host.cpus(root),
        "kernel": host.kernel(root),
        "memory": memory_facts(root, unit),
        "clock": time.time(),
        "service": service_facts(root, unit, reason),
        "falco": falco_facts(root, unit, process, start, started, record),
        "metrics": measure(params, root, unit, files),
        "config_sources": sources_found,
        "host": host_facts(params, unit, process, start, record),
    }
    if params["rules"]:
        texts = [item.get("text") for item in files]
        environment = processes.start_environment(unit, process, texts)
        result["rules"] = rules_facts(params, started, environment)
    result["falco"]["cpu"] = observation.end(loses(result["metrics"]))
    return result


def patience(params):
    """Seconds that all of this may take: what it waits for on purpose, and AROUND, or AROUND_RULES."""
    waits = params["observe_seconds"] + params["profile_seconds"]
    if params["prometheus_url"]:
        waits += params["prometheus_seconds"]
    return waits + (AROUND_RULES if params["rules"] else AROUND)


def main():
    module = AnsibleModule(
        argument_spec={
            "host_root": {"type": "str", "default": ""},
            "unit": {"type": "str", "default": ""},
            "config_file": {"type": "str", "default": ""},
            "state_dir": {"type": "str", "default": "/var/lib/falcotune"},
            "metrics_dir": {"type": "str", "default": "/var/log/falco"},
            "observe_seconds": {"type": "float", "default": 1.0},
            "metrics_sources": {
                "type": "list",
                "elements": "str",
                "choices": list(snapshots.ORDER),
                "default": list(snapshots.ORDER),
            },
            "metrics_max_bytes": {"type": "int", "default": 2 << 20},
            "window_seconds": {"type": "float", "default": 3600.0},
            "min_observation": {"type": "float", "default": 60.0},
            "prometheus_url": {"type": "str", "default": ""},
            "prometheus_seconds": {"type": "float", "default": 60.0},
            "scrape_ok": {"type": "bool", "default": False},
            "policy": {"type": "dict"},
            "round": {"type": "dict"},
            "refusal": {"type": "str", "choices": ["fail", "report"], "default": "fail"},
            "rules": {"type": "bool", "default": False},
            "coverage": {"type": "bool", "default": False},
            "entry": {"type": "bool", "default": False},
            "rollout": {"type": "bool", "default": False},
            "dry_run": {"type": "str", "default": "--dry-run"},
            "profile_seconds": {"type": "float", "default": 0.0},
            "extra_files": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    if not 0 <= module.params["observe_seconds"] <= 60:
        module.fail_json(msg="observe_seconds is %s: expected 0 to 60" % module.params["observe_seconds"])
    shortest, longest = syscall_counts.SECONDS
    if module.params["profile_seconds"] and not shortest <= module.params["profile_seconds"] <= longest:
        module.fail_json(
            msg="profile_seconds is %s: expected 0, or %s to %s"
            % (module.params["profile_seconds"], shortest, longest)
        )
    try:
        found = detach.within(patience(module.params), lambda: gather(module.params))
    except detach.Late as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, ansible_facts={"falco": found})


if __name__ == "__main__":
    main()
