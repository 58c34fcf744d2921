# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with a systemd of its own: this machine's files below an overlay in memory, in namespaces of its own.

Nothing has to be installed or fetched, and it is up in a second or two. It has the machine's Python and this checkout at
the same paths. What it writes to files is gone with it. It has no network, devices, sysctls or units of the machine: /dev
and the units are its own, /sys and /proc/sys are read-only. Its processes die with its process 1.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SYSTEMD = next((path for path in ("/usr/lib/systemd/systemd", "/lib/systemd/systemd") if os.path.exists(path)), None)
TOOLS = ("setpriv", "unshare", "nsenter", "mount", "pivot_root", "systemctl", "journalctl")

# Runs as process 1 of the new namespaces. $1: an empty directory, $2: systemd, the rest: directories of other file systems to show.
BOOT = r"""
set -eu
place=$1 init=$2; shift 2
mount --make-rprivate /
mount -t tmpfs tmpfs "$place"
mkdir "$place/upper" "$place/work" "$place/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$place/upper,workdir=$place/work" "$place/root"
cd "$place/root"

for dir in etc/systemd/system var/lib/systemd/timers usr/lib/systemd/system-generators usr/local/lib/systemd/system; do
    rm -rf "./$dir"; mkdir -p "./$dir"
done
rm -rf usr/lib/systemd/system/*.wants usr/lib/systemd/system/*.automount
: >etc/fstab; : >etc/machine-id
cat >etc/systemd/system/host.target <<UNIT
[Unit]
Requires=basic.target systemd-journald.service
Wants=timers.target
After=basic.target timers.target systemd-journald.service
UNIT

mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup
else
    mount -t tmpfs tmpfs sys/fs/cgroup
    mkdir sys/fs/cgroup/systemd sys/fs/cgroup/unified
    mount -t cgroup -o none,name=systemd,xattr cgroup sys/fs/cgroup/systemd
    mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
    # No other hierarchy can be mounted: in those, its groups would be the machine's.
    mount -o remount,ro sys/fs/cgroup
fi
mount -t tmpfs -o mode=755 tmpfs dev
for name in null zero full random urandom tty; do
    : >dev/$name; mount --bind /dev/$name dev/$name
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx; ln -s /proc/self/fd dev/fd; ln -s fd/0 dev/stdin; ln -s fd/1 dev/stdout; ln -s fd/2 dev/stderr
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
for dir; do
    mkdir -p ".$dir"; mount --rbind "$dir" ".$dir"; mount -o remount,bind,ro ".$dir"
done

mkdir -p run/old
pivot_root . run/old
umount -l /run/old
exec env -i container=falcotune PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$init" --unit=host.target
"""


class NotHere(Exception):
    """This machine can't have such a host; the reason."""


class SystemdHost:
    def __init__(self):
        if sys.platform != "linux" or os.geteuid() != 0:
            raise NotHere("a host with systemd needs root on Linux")
        missing = [tool for tool in TOOLS if not shutil.which(tool)]
        if missing or not SYSTEMD:
            raise NotHere("a host with systemd needs %s" % ", ".join(missing or ["systemd"]))
        if ROOT.parts[1] in ("tmp", "run", "dev", "proc", "sys"):
            raise NotHere("a host with systemd has a /%s of its own, and the checkout is there" % ROOT.parts[1])
        self.place = Path(tempfile.mkdtemp(prefix="falcotune-host-"))
        self.cgroups = [Path(base) / self.place.name for base in cgroup_roots()]
        self.outer = self.pid = None
        try:
            self._boot()
        except (OSError, NotHere) as error:
            self.stop()
            raise NotHere("no host with systemd: %s" % error)

    def _boot(self) -> None:
        # What the machine's root directory does not show by itself.
        beside = {str(path) for path in (ROOT, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve())
                  if path.stat().st_dev != os.stat("/").st_dev}
        for path in self.cgroups:
            path.mkdir()
        join = "".join("echo $$ >%s/cgroup.procs\n" % path for path in self.cgroups)
        # Not even a killed test run leaves it behind.
        command = join + 'exec setpriv --pdeathsig KILL unshare -m -p -f -u -i -n -C --kill-child sh -c "$BOOT" boot "$@"'
        self.log = self.place.with_name(self.place.name + ".log")
        with open(self.log, "wb") as log:
            self.outer = subprocess.Popen(["sh", "-c", command, "boot", str(self.place), SYSTEMD, *sorted(beside)],
                                          env={**os.environ, "BOOT": BOOT}, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while True:
            if self.outer.poll() is not None:
                raise NotHere("it ended with %s: %s" % (self.outer.returncode, self.log.read_text()[-500:].strip()))
            if self.pid is None:
                children = Path("/proc/%d/task/%d/children" % (self.outer.pid, self.outer.pid)).read_text().split()
                self.pid = int(children[0]) if children else None
            elif Path("/proc/%d/comm" % self.pid).read_text().strip() == "systemd":
                if self.run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"):
                    break
            if time.monotonic() > deadline:
                raise NotHere("systemd did not come up within 60 s: %s" % self.log.read_text()[-500:].strip())
            time.sleep(0.1)
        # The user of a service must reach Python and the checkout.
        for path in (ROOT, Path(sys.executable).resolve(), Path(sys.base_prefix).resolve()):
            self.run("chmod", "o+x", *[str(parent) for parent in path.parents if str(parent) not in beside])

    def run(self, *argv: str, **env: str) -> subprocess.CompletedProcess:
        """Run a command on the host to its end; stdout holds both outputs."""
        enter = ["nsenter", "-t", str(self.pid), "-m", "-p", "-u", "-i", "-n", "-C", "--"]
        return subprocess.run([*enter, *argv], env={**os.environ, **env}, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False, timeout=300)

    def write(self, path: str, text: str, mode: int = 0o644) -> str:
        """Write a file on the host."""
        inside = self.inside(path)
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.write_text(text)
        inside.chmod(mode)
        return path

    def inside(self, path: str) -> Path:
        """The host's path as this process reaches it. Links of the host's own are not followed on the host: use plain paths."""
        return Path("/proc/%d/root%s" % (self.pid, path))

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit."""
        out = self.run("systemctl", "show", "-p", ",".join(names), unit).stdout
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def stop(self) -> None:
        if self.pid:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self.outer:
            self.outer.kill()
            self.outer.wait()
        deadline = time.monotonic() + 10
        for root in self.cgroups:
            for path in sorted(root.rglob("*"), key=lambda path: -len(path.parts)) + [root]:
                while path.is_dir():
                    try:
                        path.rmdir()
                    except OSError:  # its processes are still on their way out
                        if time.monotonic() > deadline:
                            break
                        time.sleep(0.05)
        if self.place.exists():
            self.place.rmdir()
        if getattr(self, "log", None):
            self.log.unlink(missing_ok=True)


def cgroup_roots() -> list[str]:
    """Where systemd keeps its groups: one hierarchy, or two of an older layout."""
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        return ["/sys/fs/cgroup"]
    return [path for path in ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified") if os.path.isdir(path)]
