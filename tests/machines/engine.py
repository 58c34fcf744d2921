# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""podman or docker, whichever can run systemd here, and the image of the hosts. Only the standard library."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
IMAGE = HERE / "image"
BUILD = HERE.parents[1] / "build" / "machines"
LABEL = "falcotune.machines"
SUITE = "bookworm"
CAP_SYS_RESOURCE = 24
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
ENOUGH_INOTIFY = 1024  # a host takes about six


class NotHere(Exception):
    """This machine can run no hosts; the capability that is missing."""


class Failed(Exception):
    """The engine or a host did not do what was asked; what it said."""


def say(text: str) -> None:
    print(f"machines: {text}", file=sys.stderr, flush=True)


def find() -> Engine:
    """The first of podman and docker that answers, or that which MACHINES_ENGINE names. Raises NotHere."""
    wanted = os.environ.get("MACHINES_ENGINE")
    reasons = []
    if not shutil.which("ssh") or not shutil.which("ssh-keygen"):
        raise NotHere("ssh and ssh-keygen are missing: install OpenSSH's client")
    for name in [wanted] if wanted else ["podman", "docker"]:
        if not shutil.which(name):
            reasons.append(f"{name} is not installed")
            continue
        try:
            return Engine(name)
        except (Failed, OSError) as problem:
            reasons.append(str(problem))
    raise NotHere("hosts need podman or docker: " + "; ".join(reasons))


class Engine:
    """One of the two programs, and what differs between them."""

    def __init__(self, program: str):
        self.program = program
        self.podman = program == "podman"
        self.environment = dict(os.environ)
        if self.podman and "CONTAINERS_CONF" not in os.environ:
            self.environment["CONTAINERS_CONF"] = str(write_containers_conf())
        shown = "{{.Host.CgroupsVersion}}" if self.podman else "{{.CgroupVersion}}"
        # podman says v2, docker 2.
        self.cgroup_v1 = self.run("info", "--format", shown, timeout=60).strip().lstrip("v") == "1"

    def process(self, *words: str, data: bytes | None = None, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess:
        """Run the engine's program to its end, whatever that is; outputs as bytes. Raises Failed when time is up."""
        try:
            return subprocess.run([self.program, *words], env={**self.environment, **environment}, input=data, timeout=timeout, check=False,
                                  stdin=subprocess.DEVNULL if data is None else None, capture_output=True)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.program} {' '.join(words[:3])} did not end within {timeout:g} s")

    def run(self, *words: str, data: bytes | None = None, timeout: float = 120, **environment: str) -> str:
        """Run it to a good end; its output. Raises Failed with what it said."""
        done = self.process(*words, data=data, timeout=timeout, **environment)
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip() or done.stdout.decode(errors="replace").strip()
            raise Failed(f"{self.program} {' '.join(words[:3])}: {said[-600:] or f'exit status {done.returncode}'}")
        return done.stdout.decode(errors="replace")

    def options(self) -> list[str]:
        """What a container needs to be a host of its own under systemd."""
        words = [f"--cap-add={name}" for name in ("SYS_ADMIN", "NET_ADMIN", "SYS_NICE")]
        # An AppArmor profile for containers forbids the mounts of a unit's sandbox.
        words += ["--security-opt=apparmor=unconfined", "--stop-signal=SIGRTMIN+3"]
        if not self.podman:
            return [*words, "--tmpfs=/run", "--tmpfs=/run/lock", "--env=container=docker", "--cgroupns=host",
                    "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw"]
        words.append("--systemd=always")
        if self.cgroup_v1:
            # With groups of their own all hosts would share one systemd hierarchy, and a reboot of one would end the others.
            words.append("--cgroupns=host")
            words += [f"--volume={path}:{path}:rw" for path in controllers_v1()]
        return words

    # --- the image -------------------------------------------------------------------------------------------------------

    def image(self) -> str:
        """The image's name. It is made when there is none of this recipe: once for a machine, in about a minute."""
        files = sorted(path for path in IMAGE.iterdir() if path.is_file())
        recipe = b"".join(path.name.encode() + b"\0" + path.read_bytes() + b"\0" for path in files)
        name = f"localhost/falcotune-machine:{hashlib.sha256(recipe).hexdigest()[:12]}"
        BUILD.mkdir(parents=True, exist_ok=True)
        with open(BUILD / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.process("image", "inspect", name).returncode:
                self.make_image(name)
        return name

    def make_image(self, name: str) -> None:
        public = os.environ.get("MACHINES_BASE")
        if not public and os.geteuid() == 0 and shutil.which("mmdebstrap"):
            say(f"making {name} with mmdebstrap, once for this machine; it takes about a minute")
            archive = BUILD / "base.tar"
            try:
                debootstrap(archive)
                self.run("import", "--change", 'CMD ["/sbin/init"]', "--change", f"LABEL {LABEL}=image", str(archive), name, timeout=600)
            finally:
                archive.unlink(missing_ok=True)
            return
        words = ["--build-arg", f"BASE={public}"] if public else []
        say(f"making {name} from {public or 'the public image of Debian'}, once for this machine")
        self.run("build", "--quiet", "--label", f"{LABEL}=image", *words, "--tag", name, "--file", str(IMAGE / "Containerfile"),
                 str(IMAGE), timeout=1800)

    def remove_images(self) -> int:
        """Remove every image of this project; how many there were."""
        names = set(self.run("image", "ls", "--quiet", "--filter", f"label={LABEL}").split())
        if names:
            self.run("image", "rm", "--force", *names, timeout=300)
        return len(names)


def debootstrap(archive: Path) -> None:
    """A small Debian from its packages, in memory where that can be had: half the time goes into the disk otherwise."""
    place = BUILD / "mmdebstrap"
    place.mkdir(exist_ok=True)
    excluded = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "info", "locale", "man")]
    command = ["mmdebstrap", "--quiet", "--variant=minbase", "--include=" + ",".join((IMAGE / "packages").read_text().split()),
               *excluded, f"--customize-hook=copy-in {IMAGE / 'setup'} /tmp",
               '--customize-hook=chroot "$1" sh /tmp/setup', '--customize-hook=rm "$1/tmp/setup"', SUITE, str(archive), *mirror()]
    memory = 'mount -t tmpfs -o size=2g,mode=755 tmpfs "$TMPDIR" 2>/dev/null; exec "$@"'
    try:
        done = subprocess.run(["unshare", "--mount", "sh", "-c", memory, "sh", *command], env={**os.environ, "TMPDIR": str(place)},
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=1200)
    except subprocess.TimeoutExpired:
        raise Failed("mmdebstrap did not end within 20 minutes")
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if done.returncode:
        raise Failed(f"mmdebstrap: {done.stderr.strip()[-1000:]}")


def mirror() -> list[str]:
    """Where this machine's apt has that Debian from, if it is one; else mmdebstrap knows one."""
    try:
        told = subprocess.run(["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages"],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.split()[1] for line in told.splitlines() if line.split()[:1] == [SUITE] and len(line.split()) == 2][:1]


def controllers_v1() -> list[str]:
    """Where this machine mounts the controllers that a unit's CPUQuota=, CPUWeight= and MemoryMax= need, on cgroup v1."""
    found = []
    for line in Path("/proc/mounts").read_text().splitlines():
        _device, path, kind, options = line.split()[:4]
        if kind == "cgroup" and {"cpu", "cpuacct", "memory"} & set(options.split(",")):
            found.append(path)
    return found


def write_containers_conf() -> Path:
    """podman's configuration for this machine, in place of the user's own, which stays as it is."""
    engine, containers, network = [], [], []
    if not Path("/sys/fs/cgroup/cgroup.controllers").exists() and shutil.which("runc"):
        engine.append('runtime = "runc"')  # crun fails on a hybrid hierarchy
    if not Path("/run/systemd/system").exists():
        engine += ['cgroup_manager = "cgroupfs"', 'events_logger = "file"']
        containers.append('log_driver = "k8s-file"')
    status = Path("/proc/self/status")
    effective = next((line.split()[1] for line in status.read_text().splitlines() if line.startswith("CapEff:")), "0") \
        if status.exists() else "0"
    if os.geteuid() == 0 and not int(effective, 16) >> CAP_SYS_RESOURCE & 1:
        # Limits can't be raised then, and podman's defaults would be.
        containers.append('default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]')
    if any(Path(folder, "netavark").exists() for folder in ("/usr/lib/podman", "/usr/libexec/podman")):
        network.append('network_backend = "netavark"')
    text = "".join(f"[{name}]\n" + "\n".join(lines) + "\n" for name, lines in (
        ("containers", containers), ("engine", engine), ("network", network)) if lines)
    BUILD.mkdir(parents=True, exist_ok=True)
    path = BUILD / "containers.conf"
    if not path.exists() or path.read_text() != text:
        new = path.with_suffix(f".{os.getpid()}")
        new.write_text(text)
        new.replace(path)
    return path


def raise_inotify() -> None:
    """Each systemd takes several inotify instances of the same user; where there are too few it starts nothing."""
    try:
        now = int(INOTIFY.read_text())
        if now < ENOUGH_INOTIFY and os.geteuid() == 0:
            INOTIFY.write_text(str(ENOUGH_INOTIFY))
            say(f"raised fs.inotify.max_user_instances from {now} to {ENOUGH_INOTIFY}, until this machine reboots")
    except (OSError, ValueError):
        pass  # another kind of machine, or no right to: few hosts work anyway
