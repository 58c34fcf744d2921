# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that are directories with a host's Falco, systemd and kernel files, for ansible_connection: local.

    fleet = Fleet(folder)
    fleet.start({"hosts": {"web-01": {"release": "0.44.1", "cpus": 8, "memory": "16G", "driver": "modern_ebpf"}}})
    fleet.stop()

The keys of a host are those of DEFAULTS. Only the standard library, so that stopping needs nothing installed.
"""

from __future__ import annotations

import copy
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from fleetd import command_lines  # noqa: E402

SIMULATOR = HERE.parent / "simulator" / "falco"
MARKER = ".fleet.json"

DEFAULTS = {
    "release": "0.44.1",
    "driver": "modern_ebpf",  # kmod, ebpf or modern_ebpf: which unit is enabled
    "unit": None,  # falco-custom and the like, where it isn't the driver's own
    "cpus": 4,  # a number, or online/possible/present lists such as "0-5,7"
    "memory": "8G",
    "available": 0.6,  # this share of memory is available
    "kernel": None,  # release of the kernel; None is a usual one for the driver
    "btf": None,  # None: as that kernel has it
    "bpf_stats_enabled": 0,
    "cgroup_cpu": True,  # the slice of Falco's unit has the cpu controller; "auto": once a unit asks for it; False: it can't have it
    # The kernel groups by session where no cpu controller does: Nice= has no effect then. With a binary it is the machine's own.
    "autogroup": False,
    "cap_sys_nice": True,  # False, as in a container: Nice= below 0 is shown and never takes effect
    "restart_seconds": 15,  # RestartSec and TimeoutSec of the packaged unit
    "stop_timeout_seconds": 30,
    "running": True,
    "unit_options": {},  # a drop-in's [Service] lines, for example {"CPUQuota": "50%"}
    "files": {},  # path below the host: text; {root} in it is the host's directory
    "config": {},  # top-level blocks of falco.yaml instead of the packaged ones; {root} in them is the host's directory
    "measures": None,  # an interval, such as "1s": metrics are on with it already, see measuring(); None: off, as packaged
    "startup_seconds": 1.6,
    "reload_seconds": 2.0,
    "load": {"events_per_second": 4000, "burst": None, "bytes_per_event": 80, "categories": {}},
    "consumer_events_per_second": 600000,
    "starved": 0.0,
    "fault": None,
    "binary": None,  # a real Falco instead of the simulator
    "profile": {},  # more of the simulator's profile, for example {"cpu_quota": 0.5}
    "hostvars": {},
}
# What of a host's description is for the simulator and passed on as it is.
PROFILE_KEYS = ("startup_seconds", "reload_seconds", "load", "consumer_events_per_second", "starved", "autogroup", "fault")
KERNELS = {"modern_ebpf": "6.1.0-18-amd64", "ebpf": "5.4.0-150-generic", "kmod": "4.18.0-513.el8.x86_64"}
DRIVER_UNITS = {"modern_ebpf": "falco-modern-bpf", "ebpf": "falco-bpf", "kmod": "falco-kmod"}


def version(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))


def size_of(text: str | int) -> int:
    text = str(text).upper().rstrip("B").rstrip("I")
    factor = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}.get(text[-1])
    return int(float(text[:-1]) * factor) if factor else int(text)


def merged(*layers: dict) -> dict:
    """Later layers win; dictionaries are merged one level deep, where both have one."""
    result: dict = {}
    for layer in layers:
        for key, value in (layer or {}).items():
            if isinstance(value, dict) and isinstance(result.get(key), dict):
                result[key] = {**result[key], **copy.deepcopy(value)}
            else:
                result[key] = copy.deepcopy(value)
    return result


def placed(value, root: Path):
    """The value with the host's directory for {root} in all its texts."""
    if isinstance(value, dict):
        return {key: placed(item, root) for key, item in value.items()}
    if isinstance(value, list):
        return [placed(item, root) for item in value]
    return value.replace("{root}", str(root)) if isinstance(value, str) else value


def count_cpus(cpulist: str) -> int:
    total = 0
    for part in cpulist.split(","):
        first, _dash, last = part.partition("-")
        total += int(last or first) - int(first) + 1
    return total


def free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _port in range(number)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def ticks_of(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def bare_python(folder: Path) -> str:
    """The Python that runs modules on the hosts: FLEET_PYTHON, or one without any packages, in particular PyYAML."""
    if os.environ.get("FLEET_PYTHON"):
        return os.environ["FLEET_PYTHON"]
    python = folder / ".python/bin/python3"
    if not python.exists():
        base = getattr(sys, "_base_executable", None) or sys.executable
        subprocess.run([base, "-m", "venv", "--without-pip", python.parents[1]], check=True)
    return str(python)


# --- Falco's configuration, by release ---------------------------------------------------------------------------


def packaged_config(root: Path | str, release: str, port: int) -> dict:
    """The top-level blocks that this release's falco.yaml has, with paths of this host."""
    number = version(release)
    etc = f"{root}/etc/falco"
    rules = [f"{etc}/falco_rules.yaml", f"{etc}/falco_rules.local.yaml", f"{etc}/rules.d"]
    config: dict = {}
    if number >= (0, 38):
        config["config_files"] = [f"{etc}/config.d"]
    config["watch_config_files"] = True
    config["rules_files" if number >= (0, 38) else "rules_file"] = rules

    if number >= (0, 37):
        engine: dict = {
            "kind": "modern_ebpf" if number >= (0, 38) else "kmod",
            "kmod": {"buf_size_preset": 4, "drop_failed_exit": False},
            "modern_ebpf": {"cpus_for_each_buffer": 2, "buf_size_preset": 4, "drop_failed_exit": False},
        }
        if number < (0, 44):
            engine["ebpf"] = {"probe": f"{root}/root/.falco/falco-bpf.o", "buf_size_preset": 4, "drop_failed_exit": False}
        if number >= (0, 44, 1):
            engine["modern_ebpf"]["disable_iterators"] = False
        config["engine"] = engine
    if number < (0, 38):
        config["syscall_buf_size_preset"] = 4
        config["syscall_drop_failed_exit"] = False
        config["modern_bpf"] = {"cpus_for_each_syscall_buffer": 2}

    config["load_plugins"] = []
    config.update(time_format_iso_8601=False, priority="debug", json_output=False, json_include_output_property=True,
                  json_include_tags_property=True, buffered_outputs=False, rule_matching="first")
    config["outputs_queue"] = {"capacity": 0}
    if number < (0, 37):
        config["outputs"] = {"rate": 0, "max_burst": 1000}
    config["stdout_output"] = {"enabled": True}
    config["syslog_output"] = {"enabled": True}
    config["file_output"] = {"enabled": False, "keep_alive": False, "filename": "./events.txt"}

    webserver: dict = {"enabled": True, "threadiness": 0, "listen_port": port}
    if number >= (0, 37):
        webserver["listen_address"] = "127.0.0.1"
    webserver["k8s_healthz_endpoint"] = "/healthz"
    if number >= (0, 38):
        webserver["prometheus_metrics_enabled"] = False
    webserver["ssl_enabled"] = False
    config["webserver"] = webserver

    config.update(log_stderr=True, log_syslog=True, log_level="info")
    config["libs_logger"] = {"enabled": number >= (0, 41), "severity": "info" if number >= (0, 41) else "debug"}
    config["output_timeout"] = 2000
    config["syscall_event_timeouts"] = {"max_consecutives": 1000}
    config["syscall_event_drops"] = {"threshold": 0.1, "actions": ["log", "alert"], "rate": 0.03333, "max_burst": 1,
                                     "simulate_drops": False}

    metrics: dict = {"enabled": False, "interval": "1h", "output_rule": True, "resource_utilization_enabled": True,
                     "kernel_event_counters_enabled": True, "libbpf_stats_enabled": True}
    if number >= (0, 37):
        metrics["state_counters_enabled"] = True
    if number >= (0, 38):
        metrics["rules_counters_enabled"] = True
    if number >= (0, 39):
        metrics.update(plugins_metrics_enabled=True, kernel_event_counters_per_cpu_enabled=False)
    if number >= (0, 40):
        metrics["jemalloc_stats_enabled"] = False
    metrics.update(convert_memory_to_mb=True, include_empty_values=False)
    config["metrics"] = metrics

    base: dict = {"custom_set": [], "repair": False}
    if number >= (0, 40):
        base["all"] = False
    config["base_syscalls"] = base
    if number >= (0, 38):
        config["falco_libs"] = {"thread_table_size": 262144}
    if number >= (0, 40):
        config["falco_libs"]["snaplen"] = 80
    return config


def measuring(config: dict, interval: str | None) -> dict:
    """The configuration with metrics that somebody has switched on at this interval: a plan makes none that is shorter than 10 s.

    Nobody can read them: they are alerts (output_rule is on, as packaged; without any output Falco exits) on standard output, which
    the unit sends to /dev/null. One counter is missing: a first tune has something to change.
    """
    if not interval:
        return config
    on = {"enabled": True, "interval": interval, "resource_utilization_enabled": False}
    return {**config, "metrics": {**config["metrics"], **on}, "syslog_output": {"enabled": False}}


COMMENTS = {
    "config_files": "More configuration; what comes later replaces whole top-level blocks.",
    "rules_files": "Rules, in the order in which they are loaded.",
    "rules_file": "Rules, in the order in which they are loaded.",
    "engine": "Where system calls come from.",
    "syscall_buf_size_preset": "Size of the buffers between kernel and Falco, 1 to 10.",
    "webserver": "Health and metrics.",
    "syscall_event_drops": "What to do when events are lost.",
    "metrics": "Falco's own counters.",
    "base_syscalls": "System calls that are watched whatever the rules say.",
}


def yaml_lines(value, indent: int = 0) -> list[str]:
    """Block-style YAML of plain data, without a YAML library."""
    pad = " " * indent
    lines: list[str] = []
    for key, item in value.items():
        if isinstance(item, dict) and item:
            lines += [f"{pad}{key}:", *yaml_lines(item, indent + 2)]
        elif isinstance(item, list) and item:
            lines.append(f"{pad}{key}:")
            for element in item:
                if isinstance(element, dict):
                    first, *rest = yaml_lines(element, indent + 4)
                    lines += [f"{pad}  - {first.strip()}", *rest]
                else:
                    lines.append(f"{pad}  - {scalar(element)}")
        else:
            lines.append(f"{pad}{key}: {scalar(item)}")
    return lines


def scalar(value) -> str:
    if isinstance(value, str) and value and value[0].isalpha() | (value[0] in "/.") \
            and not set(value) & set(":#{}[],&*'\"") and value.lower() not in ("true", "false", "yes", "no", "on", "off", "null"):
        return value
    return json.dumps(value)


def config_text(release: str, config: dict) -> str:
    lines = [f"# Falco {release}"]
    for key, value in config.items():
        lines.append("")
        if key in COMMENTS:
            lines.append(f"# {COMMENTS[key]}")
        lines += yaml_lines({key: value})
    return "\n".join(lines) + "\n"


RULES = """\
# A few rules in the manner of a default installation.

- macro: spawned_process
  condition: (evt.type in (execve, execveat) and evt.dir=<)

- macro: open_write
  condition: (evt.type in (open, openat, openat2) and evt.is_open_write=true and fd.typechar='f' and fd.num>=0)

- macro: open_read
  condition: (evt.type in (open, openat, openat2) and evt.is_open_read=true and fd.typechar='f' and fd.num>=0)

- macro: outbound
  condition: (evt.type in (connect, sendto, sendmsg) and fd.typechar=4)

- list: shells
  items: [ash, bash, csh, dash, ksh, sh, zsh]

- list: secret_files
  items: [/etc/shadow, /etc/gshadow, /etc/sudoers]

- rule: Secret file read by an unknown program
  desc: A program that isn't trusted with it reads a file that holds secrets.
  condition: open_read and fd.name in (secret_files) and not proc.name in (sshd, sudo, su, login)
  output: Secret file read (file=%fd.name program=%proc.name user=%user.name)
  priority: WARNING
  tags: [host, filesystem]

- rule: Program directory written
  desc: Something writes below a directory of programs.
  condition: open_write and (fd.name startswith /usr/bin/ or fd.name startswith /usr/sbin/)
  output: File below a program directory opened for writing (file=%fd.name program=%proc.name)
  priority: ERROR
  tags: [host, filesystem, persistence]

- rule: Shell started by a web server
  desc: A web server runs a shell.
  condition: spawned_process and proc.name in (shells) and proc.pname in (nginx, httpd, apache2)
  output: Shell under a web server (command=%proc.cmdline parent=%proc.pname)
  priority: NOTICE
  tags: [host, process]

- rule: Connection to the cloud's metadata service
  desc: Something asks for the credentials of the machine.
  condition: outbound and fd.sip="169.254.169.254"
  output: Metadata service contacted (connection=%fd.name program=%proc.name)
  priority: NOTICE
  tags: [network, cloud]

- rule: Another process traced
  desc: A program attaches itself to another one.
  condition: evt.type=ptrace and evt.arg.request in (5, 6, 11, 20)
  output: Process traced (program=%proc.name parent=%proc.pname)
  priority: WARNING
  tags: [host, process]
"""


# --- systemd units, by release -------------------------------------------------------------------------------------


def unit_text(root: Path | str, name: str, host: dict) -> str:
    """The packaged unit of a driver for this release, with the host's own paths; those of a whole machine where root is ""."""
    number = version(host["release"])
    command = command_lines.quote(f"{root}/usr/bin/falco")
    config = f" -c {command_lines.quote(f'{root}/etc/falco/falco.yaml')}" if str(root) else ""
    environment = ""
    if number >= (0, 37):
        kinds = {unit: kind for kind, unit in DRIVER_UNITS.items()}
        options = f" -o engine.kind={kinds[name]}" if name in kinds else ""
    else:
        options = " --modern-bpf" if name == "falco-modern-bpf" else ""
        environment = "Environment=FALCO_BPF_PROBE=\n" if name == "falco-bpf" else ""
    alias = number >= (0, 39) or name == "falco-kmod"
    kmod = name == "falco-kmod"
    return (
        "[Unit]\n"
        f"Description=Falco, {name.removeprefix('falco-')}\n"
        + ("After=falco-kmod-inject.service\nRequires=falco-kmod-inject.service\n" if kmod else "")
        + "Before=falcoctl-artifact-follow.service\n"
        "Wants=falcoctl-artifact-follow.service\n"
        "\n"
        "[Service]\n"
        "Type=simple\n"
        f"User={'%u' if name == 'falco-custom' else 'root'}\n"
        + environment
        # A package's Falco needs no -c: /etc/falco/falco.yaml is where it looks.
        + f"ExecStart={command}{options}{config}\n"
        "ExecReload=kill -1 $MAINPID\n"
        "UMask=0077\n"
        f"TimeoutSec={host['stop_timeout_seconds']}\n"
        f"RestartSec={host['restart_seconds']}s\n"
        "Restart=on-failure\n"
        "PrivateTmp=true\n"
        "NoNewPrivileges=yes\n"
        "ProtectHome=read-only\n"
        "ProtectSystem=full\n"
        "ProtectKernelTunables=true\n"
        + ("ReadWriteDirectories=/sys/module/falco\n" if kmod else "")
        + "RestrictRealtime=true\n"
        "RestrictAddressFamilies=~AF_PACKET\n"
        "StandardOutput=null\n"
        "\n"
        "[Install]\n"
        "WantedBy=multi-user.target\n"
        + ("Alias=falco.service\n" if alias else "")
    )


def unit_names(release: str) -> list[str]:
    names = ["falco-modern-bpf", "falco-kmod", "falco-custom"]
    return names if version(release) >= (0, 44) else [*names, "falco-bpf"]


# --- one host --------------------------------------------------------------------------------------------------------


class Host:
    """One directory that looks like a host."""

    def __init__(self, root: Path, spec: dict | None = None):
        self.root = root
        self.name = root.name
        self.spec = spec or json.loads((root / MARKER).read_text())

    @property
    def unit(self) -> str:
        return self.spec["unit"] or DRIVER_UNITS[self.spec["driver"]]

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def link(self, path: str, target: str) -> None:
        """A link to another file of this host."""
        source = self.root / path
        source.parent.mkdir(parents=True, exist_ok=True)
        source.symlink_to(os.path.relpath(self.root / target, source.parent))

    def create(self, port: int) -> None:
        self.spec["port"] = port
        self.kernel()
        self.programs()
        self.falco(port)
        self.units()
        for path, text in placed(self.spec["files"], self.root).items():
            self.write(path, text)
        (self.root / "var/log").mkdir(parents=True, exist_ok=True)
        (self.root / "var/lib").mkdir(parents=True, exist_ok=True)
        (self.root / "tmp").mkdir(exist_ok=True)
        (self.root / "run/systemd/units").mkdir(parents=True, exist_ok=True)
        self.write(MARKER, json.dumps(self.spec, indent=2) + "\n")

    def cpulists(self) -> dict[str, str]:
        cpus = self.spec["cpus"]
        if not isinstance(cpus, dict):
            cpus = {"online": f"0-{int(cpus) - 1}" if int(cpus) > 1 else "0"}
        return {"online": cpus["online"], "possible": cpus.get("possible", cpus["online"]),
                "present": cpus.get("present", cpus.get("possible", cpus["online"]))}

    def kernel(self) -> None:
        spec = self.spec
        for name, text in self.cpulists().items():
            self.write(f"sys/devices/system/cpu/{name}", text + "\n")
        release = spec["kernel"] or KERNELS[spec["driver"]]
        btf = spec["btf"] if spec["btf"] is not None else version(release.split("-")[0]) >= (5, 8)
        if btf:
            self.write("sys/kernel/btf/vmlinux", "")
        if spec["driver"] == "kmod":
            self.write("sys/module/falco/initstate", "live\n")
        total = size_of(spec["memory"]) // 1024
        available = int(total * spec["available"])
        self.write("proc/meminfo", "".join(f"{key + ':':<15} {value:>9} kB\n" for key, value in (
            ("MemTotal", total), ("MemFree", available // 2), ("MemAvailable", available), ("Buffers", total // 100),
            ("Cached", available // 3), ("SwapTotal", 0), ("SwapFree", 0))))
        self.write("proc/sys/kernel/osrelease", release + "\n")
        self.write("proc/sys/kernel/bpf_stats_enabled", f"{spec['bpf_stats_enabled']}\n")
        autogroup = "proc/sys/kernel/sched_autogroup_enabled"
        if spec["binary"] and Path("/", autogroup).exists():  # the machine's own kernel schedules it
            (self.root / autogroup).symlink_to(f"/{autogroup}")
        else:
            self.write(autogroup, f"{int(spec['autogroup'])}\n")
        self.cgroups()
        # Start times in /proc/PID/stat count from the machine's own boot.
        boot = [line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime ")]
        self.write("proc/stat", "".join(line + "\n" for line in boot))
        for name in ("uptime", "loadavg"):
            (self.root / "proc" / name).symlink_to(f"/proc/{name}")

    def cgroups(self) -> None:
        """cgroup v2. What the kernel writes lives below run/, as the state of the units does."""
        (self.root / "run/cgroup").mkdir(parents=True)
        self.link("sys/fs/cgroup", "run/cgroup")
        cpu, rest = ["cpu"], ["io", "memory", "pids"]
        there = rest if self.spec["cgroup_cpu"] is False else cpu + rest
        for folder in ("run/cgroup", "run/cgroup/system.slice"):
            enabled = rest if self.spec["cgroup_cpu"] == "auto" and folder.endswith("slice") else there
            self.write(f"{folder}/cgroup.controllers", " ".join(there) + "\n")
            self.write(f"{folder}/cgroup.subtree_control", " ".join(enabled) + "\n")

    def programs(self) -> None:
        root, python = self.root, sys.executable
        base = getattr(sys, "_base_executable", None) or python
        quoted = {name: shlex.quote(str(path)) for name, path in (
            ("root", root), ("bin", root / "usr/bin"), ("base", base), ("target", bare_python(root.parent)), ("here", HERE))}
        # A Python program of this name and not a shell's exec, so that its command line and its process name are Falco's.
        self.write("usr/bin/falco", f"#!/bin/sh\nexec {shlex.quote(self.spec['binary'])} \"$@\"\n" if self.spec["binary"] else (
            f"#!{python}\n"
            "import os, runpy, sys\n"
            f"os.environ['FALCO_SIM'] = {str(root / 'etc/falco-sim.json')!r}\n"
            f"sys.path[0] = {str(HERE)!r}\n"
            "import shown\n"
            f"shown.process({str(root / 'proc')!r})\n"
            f"sys.argv[0] = {str(SIMULATOR)!r}\n"
            "sys.path[0] = os.path.dirname(sys.argv[0])\n"
            "runpy.run_path(sys.argv[0], run_name='__main__')\n"), 0o755)
        for name in ("systemctl", "systemd-run", "journalctl", "busctl"):
            self.write(f"usr/bin/{name}", (
                "#!/bin/sh\n"
                f"FLEET_HOST_ROOT={quoted['root']}\n"
                "export FLEET_HOST_ROOT\n"
                f"exec {quoted['base']} -S -E {quoted['here']}/{name} \"$@\"\n"), 0o755)
        # What Ansible runs modules with: a bare Python, which finds this host's programs first.
        self.write("usr/bin/python3", (
            "#!/bin/sh\n"
            "unset PYTHONPATH PYTHONHOME VIRTUAL_ENV\n"
            f"PATH={quoted['bin']}:$PATH\n"
            "export PATH\n"
            f"exec {quoted['target']} \"$@\"\n"), 0o755)

    def falco(self, port: int) -> None:
        spec, root = self.spec, self.root
        config = measuring(packaged_config(root, spec["release"], port), spec["measures"])
        config.update(placed(spec["config"], root))
        output = (config.get("metrics") or {}).get("output_file")
        if output and output.startswith(f"{root}/"):  # Falco makes no directories
            Path(output).parent.mkdir(parents=True, exist_ok=True)
        self.write("etc/falco/falco.yaml", config_text(spec["release"], config))
        self.write("etc/falco/falco_rules.yaml", RULES)
        self.write("etc/falco/falco_rules.local.yaml", "# Rules of this host.\n")
        (root / "etc/falco/rules.d").mkdir()
        if version(spec["release"]) >= (0, 38):
            (root / "etc/falco/config.d").mkdir()
        number = version(spec["release"])
        drivers = ["modern_ebpf", "kmod"] if number >= (0, 44) else ["modern_ebpf", "ebpf", "kmod"]
        profile = {"release": spec["release"], "cpus": count_cpus(self.cpulists()["online"]), "page_size": 4096,
                   "drivers": drivers, "syslog": str(root / "var/log/syslog")}
        if not spec["binary"]:
            profile.update(accounting=str(root / "proc"), cgroups=str(root / "sys/fs/cgroup"))
        profile.update({key: spec[key] for key in PROFILE_KEYS}, **spec["profile"])
        self.write("etc/falco-sim.json", json.dumps(profile, indent=2) + "\n")

    def units(self) -> None:
        for name in unit_names(self.spec["release"]):
            self.write(f"usr/lib/systemd/system/{name}.service", unit_text(self.root, name, self.spec))
        self.write("usr/lib/systemd/system/falco-kmod-inject.service", (
            "[Unit]\nDescription=Falco, kernel module\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n"))
        fragment = f"usr/lib/systemd/system/{self.unit}.service"
        self.link(f"etc/systemd/system/multi-user.target.wants/{self.unit}.service", fragment)
        if "Alias=falco.service" in (self.root / fragment).read_text():
            self.link("etc/systemd/system/falco.service", fragment)
        if self.spec["unit_options"]:
            lines = "".join(f"{key}={value}\n" for key, value in self.spec["unit_options"].items())
            self.write(f"etc/systemd/system/{self.unit}.service.d/50-local.conf", "[Service]\n" + lines)

    def systemctl(self, *words: str) -> subprocess.CompletedProcess:
        return subprocess.run([self.root / "usr/bin/systemctl", *words], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, check=False)

    def reboot(self) -> None:
        """As after a power cut: everything dies at once, /run is empty, and the units that are enabled start."""
        timers = self.root / "run/systemd/units/.timers"
        for service in timers.glob("*.service"):
            os.killpg(json.loads(service.read_text())["pid"], signal.SIGKILL)
        shutil.rmtree(timers, ignore_errors=True)
        for pid, _ticks, leader in self.processes():
            (os.killpg if leader else os.kill)(pid, signal.SIGKILL)
        while self.processes():
            time.sleep(0.02)
        # A systemctl that was still on its way.
        mine = f"FLEET_HOST_ROOT={self.root}\0".encode()
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mine in path.read_bytes() + b"\0":
                    os.kill(int(path.parent.name), signal.SIGKILL)
            except OSError:
                pass
        (self.root / "run/systemd").rename(self.root / "run/before-the-boot")
        shutil.rmtree(self.root / "run/before-the-boot", ignore_errors=True)
        (self.root / "run/systemd/units").mkdir(parents=True, exist_ok=True)
        done = self.systemctl("isolate", "multi-user.target")
        if done.returncode:
            raise RuntimeError(f"{self.name}: {done.stderr.strip()}")

    def states(self) -> dict[str, dict]:
        found = {}
        for path in sorted((self.root / "run/systemd/units").glob("*/state.json")):
            try:
                found[path.parent.name] = json.loads(path.read_text())
            except (OSError, ValueError):
                continue
        return found

    def processes(self) -> list[tuple[int, int, bool]]:
        """(pid, when it started, whether it leads a session of its own) of what runs here."""
        found = []
        for state in self.states().values():
            for pid, ticks in (("supervisor", "supervisor_ticks"), ("main_pid", "main_ticks")):
                if state.get(pid) and state.get(ticks) is not None and ticks_of(state[pid]) == state[ticks]:
                    found.append((state[pid], state[ticks], pid == "main_pid"))
        return found

    @property
    def started(self) -> bool:
        """A supervisor runs, in whatever state its Falco is."""
        return bool(self.processes())

    def hostvars(self) -> dict:
        return merged({
            "ansible_python_interpreter": str(self.root / "usr/bin/python3"),
            "falco_tune_host_root": str(self.root),
            "falco_tune_metrics_dir": str(self.root / "var/log/falco"),
            **({"falco_tune_metrics_interval": self.spec["measures"]} if self.spec["measures"] else {}),
        }, self.spec["hostvars"])


# --- the fleet --------------------------------------------------------------------------------------------------------


class Fleet:
    """All hosts below one directory."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).resolve()

    @property
    def hosts(self) -> list[Host]:
        return [Host(path.parent) for path in sorted(self.folder.glob(f"*/{MARKER}"))]

    @property
    def inventory(self) -> Path:
        return self.folder / "inventory.yml"

    def start(self, spec: dict) -> list[str]:
        """Create missing hosts and start stopped ones; the names of the hosts that were started."""
        if self.folder.exists() and any(self.folder.iterdir()) and not (self.folder / MARKER).exists():
            raise FileExistsError(f"{self.folder} is not empty and not a fleet")
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / MARKER).write_text("{}\n")

        missing = [name for name in spec["hosts"] if not (self.folder / name / MARKER).exists()]
        for name, port in zip(missing, free_ports(len(missing)), strict=True):
            description = merged(DEFAULTS, spec.get("defaults", {}), spec["hosts"][name])
            unknown = set(description) - set(DEFAULTS)
            if unknown:
                raise ValueError(f"{name}: unknown {', '.join(sorted(unknown))}")
            shutil.rmtree(self.folder / name, ignore_errors=True)
            Host(self.folder / name, description).create(port)
        self.write_inventory()

        waiting = []
        for host in self.hosts:
            if host.spec["running"] and not host.started:
                waiting.append((host, subprocess.Popen(
                    [host.root / "usr/bin/systemctl", "start", host.unit],
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)))
        for host, process in waiting:
            output = process.communicate()[0]
            if process.returncode:
                raise RuntimeError(f"{host.name}: {output.strip()}")
        return [host.name for host, _process in waiting]

    def write_inventory(self) -> None:
        hosts = {host.name: host.hostvars() for host in self.hosts}
        tree = {"falco": {"vars": {"ansible_connection": "local"}, "hosts": hosts}}
        self.inventory.write_text("---\n" + "\n".join(yaml_lines(tree)) + "\n")

    def stop(self, patience: float = 2.0) -> None:
        """End every process of every host, first with SIGTERM, and remove the directory."""
        if not self.folder.exists():
            return
        if not (self.folder / MARKER).exists():
            raise FileExistsError(f"{self.folder} is not a fleet")
        hosts = self.hosts
        deadline = time.monotonic() + patience
        asked = set()
        while True:
            left = [process for host in hosts for process in host.processes()]
            if not left:
                break
            late = time.monotonic() > deadline
            for pid, _ticks, leader in left:
                try:
                    if late and leader:
                        os.killpg(pid, signal.SIGKILL)
                    elif late and time.monotonic() > deadline + 1:
                        os.kill(pid, signal.SIGKILL)
                    elif not leader and pid not in asked:
                        asked.add(pid)
                        os.kill(pid, signal.SIGTERM)
                except OSError:
                    pass
            if late and time.monotonic() > deadline + 10:
                raise RuntimeError(f"still running: {', '.join(str(pid) for pid, _ticks, _leader in left)}")
            time.sleep(0.02)
        shutil.rmtree(self.folder)
