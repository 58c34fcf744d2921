# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics: one model, written as JSON fields or as Prometheus text."""

import hashlib
import os
import re
import socket

from . import yamltext

_PRIORITY_NUMBERS = {name: index for index, name in enumerate(
    ("emergency", "alert", "critical", "error", "warning", "notice", "informational", "debug"))}
_ENGINE_NAMES = {"modern_ebpf": "modern_bpf", "ebpf": "bpf"}
_ENTER_OLD = ("clone_fork", "execve", "connect", "open", "dir_file", "other_interest")
_TASK_FILES = "pipe memfd regular directory socket_inet socket_inet6 socket_unix socket_netlink anon_inode".split()
_PROGRAMS = ("sys_exit sched_proc_exit sched_switch pf_user pf_kernel signal_deliver sched_p_exec connect_e creat_e open_e "
             "openat_e openat2_e ia32_connect_e ia32_creat_e ia32_compat_ope ia32_openat2_e dump_task dump_task_file").split()
_GAUGES = frozenset(
    "n_threads n_fds n_containers n_missing_container_images host_procs_running host_open_fds host_num_cpus cpu_usage_perc "
    "host_cpu_usage_perc memory_rss memory_vsz memory_pss container_memory_used host_memory_used".split())


def sha256(path):
    try:
        with open(path, "rb") as stream:
            return hashlib.sha256(stream.read()).hexdigest()
    except OSError:
        return ""


def _sane(name):
    return re.sub(r"[^a-zA-Z0-9_:]+", "_", name).rstrip("_")


def _boot_ns():
    try:
        with open("/proc/stat", encoding="ascii") as stream:
            for line in stream:
                if line.startswith("btime "):
                    return int(line.split()[1]) * 10**9
    except OSError:
        pass
    return 0


class Counters:
    """Groups of (name, value) of the moment; the writers below add prefixes and units."""

    def __init__(self, run, now):
        rings, self.run = run.rings, run
        if rings:
            rings.advance(now)
        release = run.profile.release
        self.release = release
        self.now = now
        self.n_evts = int(rings.events) if rings else 0
        buffer_drops = int(rings.drops) if rings else 0
        faults = int(rings.page_faults) if rings else 0
        self.n_drops = buffer_drops + faults
        self.num_evts = int(rings.consumed * 0.94) if rings else 0
        self.kernel = self._kernel(rings, buffer_drops, faults)
        alive = max(now - run.first_open, 0.01)
        # Of the process's whole life, start included, as `ps` has it.
        self.cpu_perc = round(100.0 * run.cpu.on / max(now - run.cpu.born, 0.01), 1)
        self.duration = int(alive)
        ring_mb = (rings.memory if rings else 0) / 1048576.0
        plugins_mb = sum(run.profile.plugin_bytes.get(name, 0) for name, _path in run.settings.plugins) / 1048576.0
        self.memory = [("memory_rss", 42.3 + 2 * ring_mb + plugins_mb), ("memory_vsz", 320.2 + 2 * ring_mb + plugins_mb),
                       ("memory_pss", 40.4 + ring_mb + plugins_mb)]
        self.rules = {item.name: int(run.profile.rule_rates.get(item.name, 0) * (now - run.opened_at)) for item in run.enabled}
        self.state = self._state()

    def _kernel(self, rings, drops, faults):
        out = [("n_drops_buffer_total", drops)]
        shares = rings.by_category(drops) if rings else {}
        old = not self.release.since(42)
        for name in ("clone_fork", "execve", "connect", "open", "dir_file", "other_interest", "close", "proc_exit"):
            total = shares.get(name, 0)
            enters = name in _ENTER_OLD and old or name in ("connect", "open")
            enter = total // 2 if enters and old else total // 20 if enters else 0
            if enters:
                out.append(("n_drops_buffer_%s_enter" % name, enter))
            if name == "proc_exit":
                if self.release.since(36):
                    out.append(("n_drops_buffer_proc_exit", total))
            elif name != "close" or self.release.since(36):
                out.append(("n_drops_buffer_%s_exit" % name, total - enter))
        kind = self.run.settings.kind
        if kind != "kmod":
            out.append(("n_drops_scratch_map", 0))
        if kind == "kmod" or (kind == "ebpf" and not self.release.since(44)):
            out += [("n_drops_page_faults", faults), ("n_drops_bug", 0)]
        if kind == "kmod":
            out.append(("n_preemptions", 0))
        return out

    def _state(self):
        events = self.num_evts
        names = [("n_threads", 60 + events % 7), ("n_fds", 900 + events % 31), ("n_noncached_fd_lookups", events // 2),
                 ("n_cached_fd_lookups", events // 8), ("n_failed_fd_lookups", events // 900), ("n_added_fds", events // 3),
                 ("n_removed_fds", events // 3), ("n_stored_evts", events // 20), ("n_store_evts_drops", 0),
                 ("n_retrieved_evts", events // 21), ("n_retrieve_evts_drops", 0), ("n_noncached_thread_lookups", events // 25),
                 ("n_cached_thread_lookups", events * 3 // 2), ("n_failed_thread_lookups", events // 700),
                 ("n_added_threads", 60 + events // 400), ("n_removed_threads", events // 400), ("n_drops_full_threadtable", 0)]
        if not self.release.since(41):
            names += [("n_missing_container_images", 0), ("n_containers", 0)]
        return names

    def per_cpu(self):
        cpus, out = self.run.profile.cpus, []
        label = "cpu" if self.run.settings.kind != "kmod" else "dev"
        for index in range(cpus):
            for name, total in (("n_evts", self.n_evts), ("n_drops", self.n_drops)):
                value = self._on_cpu(name, total, index)
                out.append((name, label, index, value))
        return out

    def _on_cpu(self, name, total, index):
        cpus, hot = self.run.profile.cpus, self.run.profile.hot
        if not hot or cpus == 1:
            return total // cpus + (total % cpus if index == 0 else 0)
        first = int(total * hot) if name == "n_evts" else min(total, int(self.run.rings.hot_drops))
        rest = total - first
        return first if index == 0 else rest // (cpus - 1) + (rest % (cpus - 1) if index == 1 else 0)

    def iterators(self):
        out = [("n_evts_task", 60)] + [("n_evts_task_file_" + name, 20) for name in _TASK_FILES]
        return out + [("n_drops_max_event_size", 0), ("n_drops_task", 0)] + [("n_drops_task_file_" + name, 0) for name in _TASK_FILES]

    def programs(self):
        known = [name for name in _PROGRAMS if self.release.since(44) or not name.startswith("dump_")]
        if not self.release.since(42):
            known = ["sys_enter", "sys_exit", "sched_proc_exit", "sched_switch", "pf_user", "pf_kernel", "signal_deliver"]
        for name in known:
            count = self.n_evts * 2 if name in ("sys_exit", "sys_enter") else 0
            yield name, count, count * 120, 120 if count else 0

    def has_bpf_stats(self):
        return self.run.settings.kind in ("modern_ebpf", "ebpf") and self.run.profile.bpf_stats


class Snapshots:
    """JSON snapshots with their differences to the one before."""

    def __init__(self):
        self.previous = None
        self.sample = 0

    def fields(self, run, now):
        count, release, metric = Counters(run, now), run.profile.release, run.settings.metric
        then, events, drops, scap_events = self.previous or (None, 0, 0, 0)
        gap = now - then if then else 0
        host = "falco.hostname" if not release.since(38) else "evt.hostname"
        out = {
            "evt.time": int(now * 1e9), host: socket.gethostname(), "evt.source": "syscall", "falco.version": release.text,
            "falco.start_ts": run.start_ns, "falco.duration_sec": count.duration, "falco.kernel_release": os.uname().release,
            "falco.host_boot_ts": _boot_ns(), "falco.host_num_cpus": run.profile.cpus, "falco.num_evts": count.num_evts,
            "falco.num_evts_prev": events, "scap.engine_name": _ENGINE_NAMES.get(run.settings.kind, run.settings.kind),
        }
        if release.since(36):
            out["falco.outputs_queue_num_drops"] = 0
        if events:
            out["falco.evts_rate_sec"] = round((count.num_evts - events) / gap, 1) if gap else 0.0
        if release.since(41):
            out["falco.reload_ts"] = run.reload_ns
        if release.since(39):
            out["falco.host_netinfo.interfaces.eth0.protocols.ipv4.addresses"] = "192.0.2.2"
        if release.since(38):
            for kind, paths in (("rules", run.rules_paths), ("config", run.config_paths)):
                for path in paths:
                    name = os.path.basename(path)
                    name = name if release.since(39) else os.path.splitext(name)[0]
                    out["falco.sha256_%s_file.%s" % (kind, _sane(name))] = sha256(path)
        optional = {}
        if metric["resource_utilization_enabled"]:
            optional.update(self._resources(count, release, metric["convert_memory_to_mb"]))
        if metric["state_counters_enabled"]:
            optional.update(("falco." + name, value) for name, value in count.state)
            if release.since(41) and any(name == "container" for name, _ in run.settings.plugins):
                optional.update({"plugins.container.n_containers": 0, "plugins.container.n_missing_container_images": 0})
        if metric["rules_counters_enabled"]:
            optional["falco.rules.matches_total"] = sum(count.rules.values())
            optional.update(("falco.rules." + _sane(name), value) for name, value in count.rules.items())
        if metric["kernel_event_counters_enabled"]:
            optional.update(("scap." + name, value) for name, value in count.kernel)
            fresh = count.n_evts - scap_events
            out.update({
                "scap.n_evts": count.n_evts, "scap.n_evts_prev": scap_events, "scap.n_drops": count.n_drops,
                "scap.n_drops_prev": drops,
                "scap.evts_rate_sec": round(fresh / gap, 1) if gap else 0.0,
                "scap.evts_drop_rate_sec": round((count.n_drops - drops) / gap, 1) if gap else 0.0,
                "scap.n_drops_perc": 100.0 * (count.n_drops - drops) / fresh if fresh > 0 else 0.0,
            })
            if metric["kernel_event_counters_per_cpu_enabled"]:
                optional.update(("scap.%s_%s_%d" % (name, label, index), value) for name, label, index, value in count.per_cpu())
            if metric["kernel_iter_event_counters_enabled"] and run.settings.kind == "modern_ebpf":
                optional.update(("scap." + name, value) for name, value in count.iterators())
        if metric["libbpf_stats_enabled"] and count.has_bpf_stats():
            for name, runs, nanos, average in count.programs():
                optional.update({"scap.%s.run_cnt" % name: runs, "scap.%s.run_time_ns" % name: nanos,
                                 "scap.%s.avg_time_ns" % name: average})
        keep_empty = metric["include_empty_values"]
        out.update((key, value) for key, value in optional.items() if value or keep_empty)
        self.previous = (now, count.num_evts, count.n_drops, count.n_evts)
        return {key: out[key] for key in sorted(out)}

    @staticmethod
    def _resources(count, release, megabytes):
        out = {"cpu_usage_perc": count.cpu_perc}
        new = release.since(38)
        for name, value in count.memory:
            if not new:
                out[name] = int(value) if megabytes else int(value * 1024)
            elif megabytes:
                out[name + "_mb"] = round(value, 1)
            else:
                out[name + "_kb"] = int(value * 1024)
        used = count.memory[2][1] + 10
        if new:
            out.update({"container_memory_used_mb": round(used, 1), "host_memory_used_mb": 1024.0} if megabytes else
                       {"container_memory_used_bytes": int(used * 1048576), "host_memory_used_kb": 1048576})
            out.update({"host_cpu_usage_perc": 30.0, "host_procs_running": 2, "host_open_fds": 900})
        else:
            out.update({"container_memory_used": int(used), "memory_used_host": 1024, "cpu_usage_perc_total_host": 30.0,
                        "procs_running_host": 2, "open_fds_host": 900})
        return {"falco." + name: value for name, value in out.items()}


class _Text:
    """Prometheus text; before 0.39 each sample also names its raw field."""

    def __init__(self, old):
        self.old = old
        self.lines = []

    def add(self, name, value, gauge=False, raw=None, **labels):
        pairs = ['%s="%s"' % (key, labels[key]) for key in sorted(labels)]
        if self.old:
            pairs.insert(0, 'raw_name="%s"' % (raw or name))
        name = "falcosecurity_" + name
        self.lines += ["# HELP %s https://falco.org/docs/metrics/" % name,
                       "# TYPE %s %s" % (name, "gauge" if gauge else "counter"),
                       "%s%s %s" % (name, "{%s}" % ",".join(pairs) if pairs else "", value)]

    def text(self):
        return "\n".join(self.lines) + "\n"


def prometheus(run, now):
    release, metric, settings = run.profile.release, run.settings.metric, run.settings
    count, old = Counters(run, now), not run.profile.release.since(39)
    out = _Text(old)
    scap = "falco_" if old else "scap_"
    labels = {"engine_name": _ENGINE_NAMES.get(settings.kind, settings.kind)}
    if not old:
        labels["evt_source"] = "syscall"
    out.add("scap_engine_name_info", 1, True, "engine_name", **labels)
    out.add("falco_version_info", 1, True, "version", version=release.text)
    out.add("falco_kernel_release_info", 1, True, "kernel_release", kernel_release=os.uname().release)
    out.add("evt_hostname_info", 1, True, "hostname", hostname=socket.gethostname())
    for kind, paths in (("rules", run.rules_paths), ("config", run.config_paths)):
        name = "falco_sha256_%s_files" % kind
        for path in paths:
            base = os.path.basename(path)
            out.add(("falco_" if old else "") + name + "_info", 1, True, name,
                    file_name=os.path.splitext(base)[0] if old else base, sha256=sha256(path))
    if old:
        out.add("falco_evt_source_info", 1, True, "evt_source", evt_source="syscall")
    out.add("falco_start_timestamp_nanoseconds", run.start_ns, True, "start_ts")
    if release.since(41):
        out.add("falco_reload_timestamp_nanoseconds", run.reload_ns, True)
    out.add("falco_host_boot_timestamp_nanoseconds", _boot_ns(), True, "host_boot_ts")
    out.add("falco_host_num_cpus_total", run.profile.cpus, True, "host_num_cpus")
    out.add("falco_outputs_queue_num_drops_total", 0, False, "outputs_queue_num_drops")
    out.add("falco_duration_seconds_total", count.duration, False, "duration_sec")
    if metric["rules_counters_enabled"]:
        _rules(out, run, count, old)
    if metric["kernel_event_counters_enabled"]:
        _kernel(out, run, count, old, scap)
    if metric["libbpf_stats_enabled"] and count.has_bpf_stats():
        for name, runs, nanos, average in count.programs():
            out.add("scap_%s_run_cnt_total" % name, runs)
            out.add("scap_%s_run_time_nanoseconds_total" % name, nanos)
            out.add("scap_%s_avg_time_nanoseconds" % name, average, True)
    if metric["resource_utilization_enabled"]:
        out.add("falco_cpu_usage_ratio", "%f" % (count.cpu_perc / 100), True, "cpu_usage_ratio")
        used = count.memory + [("container_memory_used", count.memory[2][1] + 10)]
        for name, value in used:
            out.add("falco_%s_bytes" % name, "%f" % (int(value * 1024) * 1024), True, name + "_bytes")
        out.add("falco_host_cpu_usage_ratio", "%f" % 0.3, True, "host_cpu_usage_ratio")
        out.add("falco_host_memory_used_bytes", "%f" % (1 << 30), True, "host_memory_used_bytes")
        out.add("falco_host_procs_running_total", 2, True, "host_procs_running")
        out.add("falco_host_open_fds_total", 900, True, "host_open_fds")
    if metric["state_counters_enabled"]:
        for name, value in count.state:
            out.add("scap_%s_total" % name, value, name in _GAUGES, name)
        if release.since(41) and any(name == "container" for name, _ in settings.plugins):
            out.add("plugins_container_n_containers_total", 0)
            out.add("plugins_container_n_missing_container_images_total", 0)
    return out.text()


def _rules(out, run, count, old):
    for item in run.enabled:
        matches = count.rules[item.name]
        if not matches:
            continue
        level = str(item.body["priority"]).lower()
        level = {"info": "informational"}.get(level, level)
        tags = sorted(yamltext.as_list(item.body.get("tags")))
        labels = {"rule_name": item.name, "priority": _PRIORITY_NUMBERS[level], "source": "syscall"}
        labels.update({"tags": ", ".join(tags)} if old else {"tag_" + tag: "true" for tag in tags})
        out.add("falco_rules_counters_total" if old else "falco_rules_matches_total", matches, False, "rules_counters", **labels)


def _kernel(out, run, count, old, scap):
    kernel = dict(count.kernel)
    out.add(scap + "n_evts_total", count.n_evts, False, "n_evts")
    if old:
        for name, value in count.kernel:
            suffix = "" if name.endswith("_total") else "_total"
            out.add(scap + name + suffix, value, False, name)
        out.add(scap + "n_drops_total", count.n_drops, False, "n_drops")
        return
    for drop in ("clone_fork", "execve", "connect", "open", "dir_file", "other_interest", "close", "proc"):
        out.add("scap_n_drops_buffer_total", kernel.get("n_drops_buffer_%s_exit" % drop, 0), dir="exit", drop=drop)
    for drop in _ENTER_OLD:
        # Since 0.42 these are constants, even where the JSON fields count.
        value = 0 if count.release.since(42) else kernel.get("n_drops_buffer_%s_enter" % drop, 0)
        out.add("scap_n_drops_buffer_total", value, dir="enter", drop=drop)
    for name in ("n_drops_scratch_map", "n_drops_page_faults", "n_drops_bug", "n_preemptions"):
        if name in kernel:
            out.add("scap_%s_total" % name, kernel[name])
    out.add("scap_n_drops_total", count.n_drops)
    if run.settings.metric["kernel_event_counters_per_cpu_enabled"]:
        for name, label, index, value in count.per_cpu():
            if label == "cpu":
                out.add("scap_%s_cpu_total" % name, value, cpu=index)
            else:
                out.add("scap_%s_dev_%d_total" % (name, index), value)
    if run.settings.metric["kernel_iter_event_counters_enabled"] and run.settings.kind == "modern_ebpf":
        for name, value in count.iterators():
            out.add("scap_%s_total" % name, value)
