# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that are machines of their own: systemd, file system, network and sshd, in containers of podman or docker.

    machines = Machines(folder)
    inventory = machines.start({"web-01": {"release": "0.44.1"}, "web-02": {"driver": "kmod", "cpus": 16, "memory": "64G"}})
    machines.exec("web-01", "systemctl", "is-active", "falco").stdout
    machines.stop()

Falco is the simulator under the units that Falco's packages ship. `ops` logs in with a key and becomes root with sudo.
The keys of a host are those of DEFAULTS. Starting needs PyYAML, the rest only the standard library.
"""

from __future__ import annotations

import hashlib
import io
import json
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "fleet")]

import engine as engines  # noqa: E402
import hosts as fleet  # noqa: E402
from engine import LABEL, Failed, NotHere  # noqa: E402, F401

SIMULATOR = HERE.parent / "simulator"
MARKER = ".machines.json"
PROGRAM = "/usr/lib/falco-simulator"
PATIENCE = 90  # seconds until a host must be up

DEFAULTS = {
    "release": "0.44.1",
    "driver": "modern_ebpf",  # kmod, ebpf or modern_ebpf: which unit is enabled
    "unit": None,  # falco-custom and the like, where it isn't the driver's own
    "cpus": None,  # a number that the host shows instead of the machine's
    "memory": None,  # the same, for example "64G"
    "available": 0.6,  # this share of such a memory is available
    "running": True,
    "restart_seconds": 15,  # RestartSec and TimeoutSec of the packaged unit
    "stop_timeout_seconds": 30,
    "unit_options": {},  # a drop-in's [Service] lines, for example {"CPUQuota": "50%"}
    "files": {},  # path: text
    "config": {},  # top-level blocks of falco.yaml instead of the packaged ones
    "measures": None,  # an interval: metrics are on with it already, see fleet.measuring()
    "startup_seconds": 1.6,  # this and what follows: the simulator's profile
    "reload_seconds": 2.0,
    "load": {"events_per_second": 4000},
    "consumer_events_per_second": 600000,
    "starved": 0.0,
    "fault": None,
    "profile": {},  # more of it, for example {"cpu_quota": 0.5}
    "password": None,  # what sudo asks ops for; None: nothing
    "hostvars": {},
}
PROFILE_KEYS = ("startup_seconds", "reload_seconds", "load", "consumer_events_per_second", "starved", "fault")
# What a package keeps where somebody has changed it.
CONFFILES = ("/etc/falco/falco.yaml", "/etc/falco/falco_rules.local.yaml")

SSH_OPTIONS = ("StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "LogLevel=ERROR", "ConnectTimeout=10", "ServerAliveInterval=5",
               "ServerAliveCountMax=3")

LAUNCHER = f"""#!/usr/bin/python3
import os, runpy, sys
os.environ.setdefault('FALCO_SIM', '{PROGRAM}/host.json')
sys.argv[0] = '{PROGRAM}/falco'
sys.path[0] = '{PROGRAM}'
runpy.run_path(sys.argv[0], run_name='__main__')
"""


class Tree:
    """Files and links that a host gets, as a tar archive of root's."""

    def __init__(self):
        self.stream = io.BytesIO()
        self.archive = tarfile.open(fileobj=self.stream, mode="w")

    def write(self, path: str, text: str | bytes, mode: int = 0o644) -> None:
        data = text.encode() if isinstance(text, str) else text
        info = tarfile.TarInfo(path.lstrip("/"))
        info.size, info.mode, info.mtime = len(data), mode, int(time.time())
        self.archive.addfile(info, io.BytesIO(data))

    def folder(self, path: str, mode: int = 0o755) -> None:
        info = tarfile.TarInfo(path.lstrip("/"))
        info.type, info.mode, info.mtime = tarfile.DIRTYPE, mode, int(time.time())
        self.archive.addfile(info)

    def link(self, path: str, target: str) -> None:
        info = tarfile.TarInfo(path.lstrip("/"))
        info.type, info.linkname = tarfile.SYMTYPE, target
        self.archive.addfile(info)

    def bytes(self) -> bytes:
        self.archive.close()
        return self.stream.getvalue()


def pyyaml() -> list[Path]:
    """PyYAML's sources, which the simulator needs and keeps to itself: no module of a collection may count on it."""
    import yaml

    return sorted(Path(yaml.__file__).parent.glob("*.py"))


def unit_of(spec: dict) -> str:
    return spec["unit"] or fleet.DRIVER_UNITS[spec["driver"]]


def packaged(spec: dict) -> dict[str, str]:
    """The files of Falco's package of this release: path → text."""
    config = fleet.measuring(fleet.packaged_config("", spec["release"], 8765), spec["measures"])
    config.update(spec["config"])
    files = {
        "/etc/falco/falco.yaml": fleet.config_text(spec["release"], config),
        "/etc/falco/falco_rules.yaml": fleet.RULES,
        "/etc/falco/falco_rules.local.yaml": "# Rules of this host.\n",
        "/usr/lib/systemd/system/falco-kmod-inject.service": (
            "[Unit]\nDescription=Falco, kernel module\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n"),
    }
    for name in fleet.unit_names(spec["release"]):
        files[f"/usr/lib/systemd/system/{name}.service"] = fleet.unit_text("", name, spec)
    return files


def simulated(spec: dict) -> str:
    """The simulator's profile of this host."""
    number = fleet.version(spec["release"])
    profile = {"release": spec["release"], "syslog": "/dev/log",
               "drivers": ["modern_ebpf", "kmod"] if number >= (0, 44) else ["modern_ebpf", "ebpf", "kmod"]}
    if spec["cpus"]:
        profile["cpus"] = spec["cpus"]
    profile.update({key: spec[key] for key in PROFILE_KEYS}, **spec["profile"])
    return json.dumps(profile, indent=2) + "\n"


def meminfo(spec: dict) -> str:
    total = fleet.size_of(spec["memory"]) // 1024
    available = int(total * spec["available"])
    return "".join(f"{key + ':':<15} {value:>9} kB\n" for key, value in (
        ("MemTotal", total), ("MemFree", available // 2), ("MemAvailable", available), ("Buffers", total // 100),
        ("Cached", available // 3), ("SwapCached", 0), ("SwapTotal", 0), ("SwapFree", 0)))


class Machines:
    """All hosts below one directory: their keys, their inventory, and what is known of them."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).resolve()
        self.owner = hashlib.sha256(str(self.folder).encode()).hexdigest()[:10]
        self.inventory = self.folder / "inventory.yml"
        self._engine: engines.Engine | None = None

    @property
    def engine(self) -> engines.Engine:
        self._engine = self._engine or engines.find()
        return self._engine

    @property
    def specs(self) -> dict[str, dict]:
        """name → its description, its `port` and its host `key`."""
        path = self.folder / MARKER
        return json.loads(path.read_text()) if path.exists() else {}

    def container(self, name: str) -> str:
        return f"falcotune-{self.owner}-{name}"

    # --- made and destroyed ------------------------------------------------------------------------------------------------

    def start(self, hosts: dict[str, dict], **defaults) -> Path:
        """Make these hosts anew, wait until they are up, and write their inventory. Raises NotHere or Failed."""
        specs = {}
        for name, description in hosts.items():
            specs[name] = fleet.merged(DEFAULTS, defaults, description or {})
            unknown = set(specs[name]) - set(DEFAULTS)
            if unknown:
                raise ValueError(f"{name}: unknown {', '.join(sorted(unknown))}")
        image = self.engine.image()
        engines.raise_inotify()
        self.stop()
        self.folder.mkdir(parents=True, mode=0o700)
        self.keygen(self.folder / "id_ed25519", "ops")
        for (name, spec), port in zip(specs.items(), fleet.free_ports(len(specs)), strict=True):
            key = self.folder / f"{name}.key"
            self.keygen(key, name)
            spec.update(port=port, key=key.with_suffix(".key.pub").read_text().strip())
        self.save(specs)
        self.engine.run("network", "create", "--label", f"{LABEL}={self.owner}", f"falcotune-{self.owner}")
        try:
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda name: self.boot(name, specs[name], image), specs))
        except BaseException:
            self.stop()
            raise
        self.write_inventory(specs)
        return self.inventory

    def keygen(self, path: Path, comment: str) -> None:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)], check=True,
                       stdin=subprocess.DEVNULL, timeout=30)

    def save(self, specs: dict[str, dict]) -> None:
        path = self.folder / MARKER
        path.write_text(json.dumps(specs, indent=2) + "\n")
        path.chmod(0o600)

    def boot(self, name: str, spec: dict, image: str) -> None:
        shown = self.folder / f"{name}.shown"
        words = [f"--name={self.container(name)}", f"--hostname={name}", f"--label={LABEL}={self.owner}",
                 f"--network=falcotune-{self.owner}", f"--publish=127.0.0.1:{spec['port']}:22", *self.engine.options(),
                 *self.shown(shown, spec)]
        self.engine.run("create", *words, image)
        self.copy(name, self.tree(name, spec))
        self.engine.run("start", self.container(name))
        self.wait(name)
        if spec["password"] is not None:
            self.exec(name, "chpasswd", data=f"ops:{spec['password']}\n")
        if not spec["running"]:
            self.exec(name, "systemctl", "stop", unit_of(spec))

    def shown(self, folder: Path, spec: dict) -> list[str]:
        """Options that show another kernel's files: a class of machine, and the loaded module that kmod's unit expects."""
        files = {}
        if spec["cpus"]:
            numbers = f"0-{spec['cpus'] - 1}\n" if spec["cpus"] > 1 else "0\n"
            files.update({f"/sys/devices/system/cpu/{kind}": numbers for kind in ("online", "possible", "present")})
        if spec["memory"]:
            files["/proc/meminfo"] = meminfo(spec)
        words = []
        for path, text in files.items():
            target = folder / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
            words.append(f"--volume={target}:{path}:ro")
        if spec["driver"] == "kmod":
            state = folder / "module/falco/initstate"
            state.parent.mkdir(parents=True)
            state.write_text("live\n")
            words.append(f"--volume={state.parents[1]}:/sys/module")
        return words

    def tree(self, name: str, spec: dict) -> bytes:
        """All files of a new host."""
        tree = Tree()
        tree.write("/etc/ssh/ssh_host_ed25519_key", (self.folder / f"{name}.key").read_bytes(), 0o600)
        # Root's, as an administrator distributes them: sshd reads it before it takes the user's rights.
        tree.write("/etc/ssh/sshd_config.d/ops.conf", "AuthorizedKeysFile /etc/ssh/ops_keys\n")
        tree.write("/etc/ssh/ops_keys", (self.folder / "id_ed25519.pub").read_bytes())
        asked = "" if spec["password"] is not None else "NOPASSWD: "
        tree.write("/etc/sudoers.d/ops", f"ops ALL=(ALL) {asked}ALL\n", 0o440)
        for path in [SIMULATOR / "falco", *sorted((SIMULATOR / "falcosim").glob("*.py"))]:
            tree.write(f"{PROGRAM}/{path.relative_to(SIMULATOR)}", path.read_bytes(), path.stat().st_mode & 0o755)
        for path in pyyaml():
            tree.write(f"{PROGRAM}/yaml/{path.name}", path.read_bytes())
        tree.write("/usr/bin/falco", LAUNCHER, 0o755)
        tree.write(f"{PROGRAM}/host.json", simulated(spec))
        for path, text in packaged(spec).items():
            tree.write(path, text)
        tree.folder("/etc/falco/rules.d")
        if fleet.version(spec["release"]) >= (0, 38):
            tree.folder("/etc/falco/config.d")
        for path, target in self.enabled(spec).items():
            tree.link(path, target)
        if spec["unit_options"]:
            lines = "".join(f"{key}={value}\n" for key, value in spec["unit_options"].items())
            tree.write(f"/etc/systemd/system/{unit_of(spec)}.service.d/50-local.conf", "[Service]\n" + lines)
        for path, text in spec["files"].items():
            tree.write(path, text)
        return tree.bytes()

    def enabled(self, spec: dict) -> dict[str, str]:
        """The links of an enabled unit: path → target."""
        unit = unit_of(spec)
        target = f"/usr/lib/systemd/system/{unit}.service"
        links = {f"/etc/systemd/system/multi-user.target.wants/{unit}.service": target}
        if "Alias=falco.service" in fleet.unit_text("", unit, spec):
            links["/etc/systemd/system/falco.service"] = target
        return links

    def wait(self, name: str) -> None:
        """Until systemd has started everything and sshd answers. Raises Failed with what keeps it."""
        deadline = time.monotonic() + PATIENCE
        state = ""
        while state not in ("running", "degraded"):
            if time.monotonic() > deadline:
                running = self.exec(name, "systemctl", "list-jobs", check=False).stdout.strip()
                raise Failed(f"{name}: systemd is {state or 'silent'} after {PATIENCE} s: {running}")
            state = self.exec(name, "systemctl", "is-system-running", "--wait", check=False, timeout=PATIENCE).stdout.strip()
            if state not in ("running", "degraded"):
                time.sleep(0.1)
        failed = self.exec(name, "systemctl", "list-units", "--failed", "--plain", "--no-legend", check=False).stdout.split("\n")
        failed = [line.split()[0] for line in failed if line.strip() and not line.startswith("falco")]
        if failed:
            raise Failed(f"{name}: failed to start: {', '.join(failed)}")
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.specs[name]["port"]), timeout=5) as connection:
                    connection.settimeout(5)
                    if connection.recv(4) == b"SSH-":
                        return
            except OSError:
                pass
            if time.monotonic() > deadline:
                raise Failed(f"{name}: no sshd answers on 127.0.0.1:{self.specs[name]['port']} after {PATIENCE} s")
            time.sleep(0.1)

    def write_inventory(self, specs: dict[str, dict]) -> None:
        """Literal YAML, as a user writes it; and the keys of the hosts, so that ssh need not ask."""
        known = self.folder / "known_hosts"
        known.write_text("".join(f"[127.0.0.1]:{spec['port']} {' '.join(spec['key'].split()[:2])}\n" for spec in specs.values()))
        shared = {
            "ansible_host": "127.0.0.1",
            "ansible_user": "ops",
            "ansible_ssh_private_key_file": str(self.folder / "id_ed25519"),
            "ansible_ssh_common_args": " ".join(f"-o {shlex.quote(option)}" for option in self.ssh_options()),
            "ansible_pipelining": True,
            "ansible_become": True,
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        hosts = {name: {"ansible_port": spec["port"], **spec["hostvars"]} for name, spec in specs.items()}
        tree = {"falco": {"vars": shared, "hosts": hosts}}
        self.inventory.write_text("---\n" + "\n".join(fleet.yaml_lines(tree)) + "\n")

    def ssh_options(self) -> list[str]:
        return [f"UserKnownHostsFile={self.folder / 'known_hosts'}", *SSH_OPTIONS]

    def ssh(self, name: str, *words: str) -> list[str]:
        """The command line that runs something on the host as ops, over a connection of its own."""
        options = [word for option in self.ssh_options() for word in ("-o", option)]
        return ["ssh", "-F", "none", "-o", "BatchMode=yes", *options, "-i", str(self.folder / "id_ed25519"), "-p",
                str(self.specs[name]["port"]), "ops@127.0.0.1", *words]

    def instance_config(self) -> list[dict]:
        """What Molecule's default driver wants to know of each instance."""
        return [{"instance": name, "address": "127.0.0.1", "user": "ops", "port": spec["port"],
                 "identity_file": str(self.folder / "id_ed25519"), "become_method": "sudo"} for name, spec in self.specs.items()]

    def stop(self) -> int:
        """Remove every container and network of this directory, known or left by a killed run, and the directory."""
        if self.folder.exists() and any(self.folder.iterdir()) and not (self.folder / MARKER).exists():
            raise FileExistsError(f"{self.folder} is not empty and holds no machines")
        mine = f"label={LABEL}={self.owner}"
        containers = self.engine.run("ps", "--all", "--quiet", "--filter", mine).split()
        if containers:
            self.engine.run("rm", "--force", *(["--time=0"] if self.engine.podman else []), *containers, timeout=300)
        networks = self.engine.run("network", "ls", "--quiet", "--filter", mine).split()
        if networks:
            self.engine.run("network", "rm", *networks)
        shutil.rmtree(self.folder, ignore_errors=True)
        return len(containers)

    # --- used ---------------------------------------------------------------------------------------------------------------

    def exec(self, name: str, *argv: str, data: str | None = None, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess:
        """Run a command as root on the host, without ssh; outputs as text. Raises Failed unless check is off."""
        words = ["exec", *(["--interactive"] if data is not None else []), self.container(name), *argv]
        done = self.engine.process(*words, data=None if data is None else data.encode(), timeout=timeout)
        result = subprocess.CompletedProcess(argv, done.returncode, done.stdout.decode(errors="replace"),
                                             done.stderr.decode(errors="replace"))
        if check and result.returncode:
            raise Failed(f"{name}: {' '.join(argv)}: {result.stderr.strip() or result.stdout.strip() or result.returncode}")
        return result

    def copy(self, name: str, archive: bytes) -> None:
        """Unpack a tar archive on a host, running or not."""
        # podman keeps a copy of what it reads and forgets to remove it.
        # podman 4.3 loses its own pipe now and then, when many hosts are made at once.
        for left in (2, 1, 0):
            try:
                self.engine.run("cp", "-", f"{self.container(name)}:/", data=archive, TMPDIR=str(self.folder))
                return
            except Failed as problem:
                if not left or "broken pipe" not in str(problem):
                    raise
                time.sleep(0.5)

    def read(self, name: str, path: str) -> str:
        return self.exec(name, "cat", path).stdout

    def write(self, name: str, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file of root's; its directory is made."""
        script = 'mkdir -p "$(dirname "$1")" && cat >"$1" && chmod "$2" "$1"'
        self.exec(name, "sh", "-c", script, "sh", path, f"{mode:o}", data=text)

    def show(self, name: str, *properties: str, unit: str | None = None) -> dict[str, str]:
        """Properties of a unit, Falco's if none is named."""
        out = self.exec(name, "systemctl", "show", "-p", ",".join(properties), unit or unit_of(self.specs[name])).stdout
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def journal(self, name: str, unit: str | None = None) -> str:
        """What a unit's processes have logged."""
        return self.exec(name, "journalctl", "--no-pager", "--output=cat", "--unit", unit or unit_of(self.specs[name])).stdout

    def starts(self, name: str) -> int:
        """How often a Falco has begun to capture on this host: its starts and its hot reloads.

        By what it sent to syslog: a change lets systemd put its standard error into the journal too.
        """
        lines = self.exec(name, "journalctl", "--no-pager", "--output=cat", "--unit", unit_of(self.specs[name]), "_TRANSPORT=syslog").stdout
        return lines.count("Opening 'syscall' source")

    def profile(self, name: str, **changes) -> None:
        """Change the simulator's profile, for example fault={"blind": True}; it counts from the next start or reload on."""
        path = f"{PROGRAM}/host.json"
        self.write(name, path, json.dumps({**json.loads(self.read(name, path)), **changes}, indent=2) + "\n")

    def install(self, name: str, release: str, driver: str | None = None) -> None:
        """What a package of another release does to a running host: Falco stops, files that nobody changed are replaced, the
        unit of a driver is chosen and enabled again, Falco starts."""
        specs = self.specs
        old = specs[name]
        new = {**old, "release": release, "driver": driver or old["driver"], "unit": None if driver else old["unit"]}
        tree, before, after = Tree(), packaged(old), packaged(new)
        for path, text in after.items():
            if path not in CONFFILES or self.read(name, path) == before.get(path):
                tree.write(path, text)
        tree.write("/usr/bin/falco", LAUNCHER, 0o755)
        tree.write(f"{PROGRAM}/host.json", simulated(new))
        self.exec(name, "systemctl", "disable", "--now", unit_of(old))
        gone = sorted(set(before) - set(after))
        if gone:
            self.exec(name, "rm", "-f", *gone)
        self.copy(name, tree.bytes())
        self.exec(name, "mkdir", "-p", "/etc/falco/config.d")
        self.save({**specs, name: new})
        self.exec(name, "systemctl", "daemon-reload")
        self.exec(name, "systemctl", "enable", "--now", unit_of(new))

    # --- made to fail ---------------------------------------------------------------------------------------------------------

    def reboot(self, name: str, hard: bool = False) -> None:
        """Reboot the host, or cut its power; returns when it is up again, at the same address."""
        self.power_off(name, hard)
        self.power_on(name)

    def power_off(self, name: str, hard: bool = True) -> None:
        """End the host and leave it off. Its files stay, its memory is gone."""
        if hard:
            self.engine.run("kill", "--signal=KILL", self.container(name))
        else:
            self.exec(name, "systemctl", "reboot", check=False)
        self.engine.run("wait", self.container(name), timeout=PATIENCE)

    def power_on(self, name: str) -> None:
        self.engine.run("start", self.container(name))
        self.wait(name)

    def cut(self, name: str) -> None:
        """Take the host's network away: packets go nowhere, connections hang."""
        self.exec(name, "sh", "-c", "ip -4 route show default >/run/route && ip link set eth0 down")

    def mend(self, name: str) -> None:
        """Give the network back."""
        self.exec(name, "sh", "-c", "ip link set eth0 up && xargs -r ip route replace </run/route")

    def kill_ssh(self, name: str) -> None:
        """End every session of sshd; the next connection is served."""
        self.exec(name, "pkill", "-KILL", "-f", "^sshd: ops", check=False)

    def shrink(self, name: str, path: str, size: str) -> None:
        """Put a directory on a disk of its own of this size ("256k"), until the host reboots. Its files are kept; what has them
        open is not told."""
        script = ('mkdir -p "$1" /run/kept && cp -a "$1/." /run/kept/ && mount -t tmpfs -o size="$2" tmpfs "$1" '
                  '&& cp -a /run/kept/. "$1/" && rm -r /run/kept')
        self.exec(name, "sh", "-c", script, "sh", path, size)

    def fill(self, name: str, path: str) -> None:
        """Leave no byte free on the disk of a directory."""
        self.exec(name, "dd", "if=/dev/zero", f"of={path}/.filled-{secrets.token_hex(4)}", "bs=4k", check=False, timeout=120)
