# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd as the modules need it: which unit is Falco's, what it says, stop and start. No shell."""

import glob
import grp
import os
import pwd
import re
import shlex
import signal
import subprocess
import time

from ansible_collections.falcotune.fleet.plugins.module_utils._host import host

UNITS = (
    "falco-modern-bpf.service",
    "falco-kmod.service",
    "falco-bpf.service",
    "falco-custom.service",
    "falco.service",
)

PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,UnitFileState,MainPID,NRestarts,ExecStart,FragmentPath,Nice,CPUWeight,"
    "CPUQuotaPerSecUSec,MemoryMax,MemoryHigh,MemoryLimit,MemoryCurrent,PrivateTmp,ProtectSystem,"
    "ReadWritePaths,User,Group,ControlGroup,Result,Environment,StandardOutput,StandardError,NeedDaemonReload,"
    "CapabilityBoundingSet,AmbientCapabilities,SupplementaryGroups,ReadOnlyPaths,InaccessiblePaths,"
    "ProtectHome"
)


# A line that starts Falco itself or by a wrapper such as nice.
EXEC_FALCO = re.compile(r"""^ExecStart=[^\n#]*?["\s=/@:!+|-]/?(?:[^\s"']*/)?falco["'\s]*(?:\s|$)""", re.M)
# Seconds that a killed process may take to be gone.
KILLED = 5


class ManagerError(Exception):
    """systemctl did not do what was asked; the text says what it printed."""


def _environment():
    return dict(os.environ, LC_ALL="C.UTF-8", SYSTEMD_PAGER="", SYSTEMD_COLORS="0")


def environment_for(variables):
    """The whole environment of a program of Falco's: these variables, and of this session only where programs
    and the user's files are.
    """
    own = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return dict(own, **dict(variables, LC_ALL="C.UTF-8"))


def run(arguments, timeout=60, environment=None, prepare=None):
    """(exit status, stdout, stderr) as text; the exit status is None when it hangs or does not exist.

    environment: variables of a program of Falco's, which then gets no others but environment_for()'s, and
    whose children end with it when it hangs. None for a tool of the system, which gets this session's.
    prepare: called in the child before the program is started, to become another user.
    """
    try:
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment() if environment is None else environment_for(environment),
            start_new_session=environment is not None,
            preexec_fn=prepare,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return None, "", "%s: %s" % (arguments[0], getattr(error, "strerror", None) or error)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        if environment is not None:
            os.killpg(process.pid, signal.SIGKILL)
        out = killed(process)
        return (
            None,
            out.decode("utf-8", "replace"),
            "no answer after %d s from: %s" % (timeout, " ".join(arguments)),
        )
    return process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")


def killed(process):
    """What a process that we kill has written so far. One that the kernel holds, or whose output another one
    has still open, is left behind.
    """
    process.kill()
    try:
        return process.communicate(timeout=KILLED)[0] or b""
    except subprocess.TimeoutExpired:
        for stream in (process.stdout, process.stderr):
            stream.close()
        return b""


class Begun:
    """A command that takes its time, while its caller looks at other things."""

    def __init__(self, process):
        self.process, self.answer = process, None

    def ended(self, seconds):
        """(exit status, what it said) as soon as it has ended, (None, '') after so many seconds; later calls
        wait those too.
        """
        if self.answer:
            time.sleep(seconds)
            return self.answer
        try:
            out, err = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            return None, ""
        self.answer = self.process.returncode, (err or out).decode("utf-8", "replace").strip()
        return self.answer

    def give_up(self):
        killed(self.process)


def begin(arguments):
    """A Begun command. Raises ManagerError where it can't be run."""
    try:
        return Begun(
            subprocess.Popen(  # pylint: disable=ansible-bad-function
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(),
            )
        )
    except OSError as error:
        raise ManagerError("%s: %s" % (arguments[0], error.strerror))


def parse_show(text):
    """Output of `systemctl show` for several units → [{property: value}]."""
    units = []
    for part in re.split(r"\n\s*\n", text.strip()):
        unit = {}
        for line in part.splitlines():
            key, equals, value = line.partition("=")
            if equals:
                unit.setdefault(key, value)
        if unit:
            units.append(unit)
    return units


def show(units):
    status, out, err = run(["systemctl", "show", "--property=" + PROPERTIES] + list(units))
    if status is None or (status and not out.strip()):
        raise ManagerError((err or out).strip() or "systemctl show failed")
    return parse_show(out)


def own_units(root=""):
    """{name: uids} of units that are not of Falco's packages and run a program named falco, the running ones
    first.

    By the cgroup of each such process, whose uids those are, and by ExecStart= of the files in
    /etc/systemd/system, with None.
    """
    found = {}
    for path in glob.glob(root + "/proc/[0-9]*/comm"):
        if (host.read(path, 64) or "").strip() == "falco":
            folder = os.path.dirname(path)
            group = host.read(os.path.join(folder, "cgroup"), 1 << 16) or ""
            uids = re.search(r"^Uid:\t(\d+)", host.read(os.path.join(folder, "status"), 1 << 16) or "", re.M)
            for name in re.findall(
                r"^(?:0:|1:name=systemd):(?:/[\w.@-]+)*/([\w.@:\\-]+\.service)$", group, re.M
            ):
                found.setdefault(name, set()).add(int(uids.group(1)) if uids else None)
    for path in sorted(glob.glob(root + "/etc/systemd/system/*.service")):
        if EXEC_FALCO.search(host.read(path, 1 << 16) or ""):
            # A link is an alias, and systemd shows the unit under its own name.
            found[os.path.basename(os.path.realpath(path))] = None
    return {name: uids for name, uids in found.items() if name not in UNITS}


def _runs_as(unit, uids):
    """Whether one of these users, or ours, is whom the unit runs as.

    Anybody may call a process falco, in a unit of this name of a manager of his own, or in a unit that runs
    what users want, such as cron. uids: as own_units() tells them.
    """
    user = unit.get("User") or "root"
    try:
        uid = int(user) if user.isdigit() else pwd.getpwnam(user).pw_uid
    except KeyError:
        uid = os.geteuid()
    return uids is None or uid in uids or os.geteuid() in uids


def find(name=None, root=""):
    """The properties of Falco's unit (the named one, else the running, else the enabled one), or None.

    root: prefix of /proc and /etc, where units of the host's own are looked for if no unit of the packages
    runs.
    """
    shown = show([name] if name else UNITS)
    if not name and not any(unit.get("ActiveState") == "active" for unit in shown):
        own = own_units(root)
        shown += (
            [unit for unit in show(list(own)) if _runs_as(unit, own.get(unit.get("Id"), ()))] if own else []
        )
    units = [unit for unit in shown if unit.get("LoadState") == "loaded"]
    seen, unique = set(), []
    for unit in units:
        if unit.get("Id") not in seen:
            seen.add(unit.get("Id"))
            unique.append(unit)
    for wanted in (
        lambda unit: (
            unit.get("ActiveState") in ("active", "reloading") and unit.get("MainPID") not in (None, "0")
        ),
        lambda unit: unit.get("ActiveState") in ("active", "activating", "deactivating", "reloading"),
        lambda unit: unit.get("UnitFileState") in ("enabled", "enabled-runtime"),
        lambda unit: unit.get("ActiveState") == "failed",
        lambda unit: True,
    ):
        for unit in unique:
            if wanted(unit):
                return unit
    return None


def environment(unit):
    """The variables that the unit's Environment= lines set, quoted as systemd prints them."""
    text = unit.get("Environment") or ""
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    return dict(word.split("=", 1) for word in words if "=" in word)


def argv(unit):
    """The words of ExecStart, with the unit's variables in them.

    systemd prints argv[] joined by blanks, so a word with a blank is known only by the process. path= is the
    program, blanks included.
    """
    text = unit.get("ExecStart", "")
    match = re.search(r"argv\[\]=(.*?) ; (?:flags=|ignore_errors=|start_time=|\}|$)", text)
    if not match:
        return []
    said = match.group(1)
    path = re.search(r"path=(.*?) ; argv\[\]=", text)
    program = [path.group(1)] if path and path.group(1) else []
    if program and (said + " ").startswith(program[0] + " "):
        rest = said[len(program[0]) :].split()
    else:
        # With @ in ExecStart argv[0] is another name.
        rest = said.split()
        program, rest = program or rest[:1], rest[1:]
    return program + _expanded(rest, environment(unit))


def _expanded(words, variables):
    """$NAME alone gives any number of words, ${NAME} none but its own (systemd.service, "Command lines")."""
    found = []
    for word in words:
        match = re.match(r"^\$(\w+)$", word)
        if match and match.group(1) in variables:
            found.extend(variables[match.group(1)].split())
        else:
            found.append(
                re.sub(r"\$\{(\w+)\}", lambda name: variables.get(name.group(1), name.group(0)), word)
            )
    return found


def number(text):
    """A property that may be infinity, [not set] or empty → int or None."""
    text = (text or "").strip()
    if not re.match(r"^-?\d+$", text):
        return None
    value = int(text)
    return None if value >= (1 << 64) - 1 else value


def quota_percent(text):
    """CPUQuotaPerSecUSec → percent of one CPU, or None: '500ms' → 50, '1s' → 100, '2min 3s' → 12300."""
    if not text or text == "infinity":
        return None
    width = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
    total = 0.0
    for amount, unit in re.findall(r"([\d.]+)(us|ms|min|s|h)", text):
        total += float(amount) * width[unit]
    return round(total * 100, 3) or None


def _group(unit):
    """Name of the group that the unit runs as, None where the host does not know it."""
    user, group = unit.get("User") or "root", unit.get("Group")
    try:
        if group:
            return grp.getgrgid(int(group)).gr_name if group.isdigit() else group
        account = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
        return grp.getgrgid(account.pw_gid).gr_name
    except KeyError:
        return None


def service(unit):
    """The facts' service part."""
    protect = unit.get("ProtectSystem") or "no"
    return {
        "manager": "systemd",
        "unit": unit.get("Id"),
        "state": unit.get("ActiveState"),
        "exec_start": argv(unit),
        "user": unit.get("User") or "root",
        "group": _group(unit),
        "limits": {
            "cpu_quota": quota_percent(unit.get("CPUQuotaPerSecUSec")),
            "cpu_weight": number(unit.get("CPUWeight")),
            "nice": number(unit.get("Nice")),
            "memory_max": number(unit.get("MemoryMax")),
        },
        "sandbox": {
            "private_tmp": unit.get("PrivateTmp") == "yes",
            "protect_system": protect,
            "read_write_paths": (unit.get("ReadWritePaths") or "").split(),
        },
    }
