# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel would show of a unit's process and its cgroup: proc/PID, and sys/fs/cgroup/system.slice/UNIT (cgroup v2).

The CPU time in both is the simulator's model, which writes it (see its profile.py); of any other program proc/PID is the
machine's own. With "cap_sys_nice": false in .fleet.json the manager may not raise priorities.
"""

import os

from fleetd import files, states

SLICE = files.ROOT + "/sys/fs/cgroup/system.slice"
QUOTA_PERIOD = 100000


# linux/capability.h, from 0.
CAPABILITIES = ("cap_" + " cap_".join((
    "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service net_broadcast net_admin "
    "net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time "
    "sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read "
    "perfmon bpf checkpoint_restore").split())).split()
PR_CAPBSET_DROP = 24  # linux/prctl.h


def bounding(values):
    """Names of the capabilities that a unit's processes may have: of this process's own, those that the unit leaves."""
    mask = int(files.read_text("/proc/self/status").split("CapBnd:")[1].split()[0], 16)
    mine = [name for number, name in enumerate(CAPABILITIES) if mask >> number & 1]
    text = values.get("CapabilityBoundingSet", "").lower()
    named = text.lstrip("~").split()
    return [name for name in mine if (name in named) != text.startswith("~")] if text else mine


def drop_capabilities(values):
    """Of this process, a unit's, before it starts its program."""
    if values.get("CapabilityBoundingSet"):
        import ctypes

        left = bounding(values)
        for number, name in enumerate(CAPABILITIES):
            if name not in left:
                ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, number, 0, 0, 0)


def group_of(unit_id):
    return "/system.slice/" + unit_id


def quota_usec(values):
    """Microseconds of CPU a second, or None."""
    quota = values.get("CPUQuota", "")
    return int(float(quota[:-1]) * 10000) if quota.endswith("%") else None


def set_cgroup(unit_id, values):
    """Give the unit's cgroup what its settings say, if the slice has the cpu controller: when it starts, and at daemon-reload."""
    folder = SLICE + "/" + unit_id
    if not os.path.isdir(folder):
        return
    weight, quota = values.get("CPUWeight"), quota_usec(values)
    enabled = files.read_text(SLICE + "/cgroup.subtree_control").split()
    if "cpu" not in enabled and (weight or quota) and "cpu" in files.read_text(SLICE + "/cgroup.controllers").split():
        # The first unit that needs the controller has it enabled for all of the slice.
        enabled.insert(0, "cpu")
        files.write_text(SLICE + "/cgroup.subtree_control", " ".join(enabled) + "\n")
    files.write_text(folder + "/cgroup.controllers", " ".join(enabled) + "\n")
    if "cpu" not in enabled:
        return
    files.write_text(folder + "/cpu.weight", (weight or "100") + "\n")
    files.write_text(folder + "/cpu.max", "%s %d\n" % (quota * QUOTA_PERIOD // 1000000 if quota else "max", QUOTA_PERIOD))


def make_cgroup(unit_id, values, pid):
    if not os.path.isdir(SLICE):
        return
    folder = SLICE + "/" + unit_id
    os.makedirs(folder, exist_ok=True)
    files.write_text(folder + "/cgroup.procs", "%d\n" % pid)
    set_cgroup(unit_id, values)
    stat = "usage_usec 0\nuser_usec 0\nsystem_usec 0\n"
    if os.path.exists(folder + "/cpu.max"):
        stat += "nr_periods 0\nnr_throttled 0\nthrottled_usec 0\nnr_bursts 0\nburst_usec 0\n"
    files.write_text(folder + "/cpu.stat", stat)


def granted_nice(values):
    """The nice value that a process gets: without CAP_SYS_NICE the closest that is permitted, and no error."""
    nice = int(values.get("Nice") or 0)
    settings = files.read_json(files.ROOT + "/.fleet.json") or {}
    return nice if settings.get("cap_sys_nice", True) else max(nice, 0)


def make_process(unit_id, pid, program, nice):
    """ROOT/proc/PID: the machine's own, but for what the simulator models."""
    for name in os.listdir(files.ROOT + "/proc"):
        if name.isdigit() and (int(name) == pid or states.ticks_of(int(name)) is None):
            forget_process(int(name))
    folder = "%s/proc/%d" % (files.ROOT, pid)
    modelled = program == files.ROOT + "/usr/bin/falco" and "accounting" in (files.read_json(files.ROOT + "/etc/falco-sim.json") or {})
    if not modelled:
        os.symlink("/proc/%d" % pid, folder)
        return
    thread = "%s/task/%d" % (folder, pid)
    os.makedirs(thread)
    name, _paren, fields = files.read_text("/proc/%d/stat" % pid).rpartition(") ")
    fields = fields.split()
    fields[11] = fields[12] = "0"
    fields[15], fields[16] = str(20 + nice), str(nice)
    files.write_text(folder + "/stat", name + ") " + " ".join(fields) + "\n")
    files.write_text(folder + "/cgroup", "0::%s\n" % group_of(unit_id))
    files.write_text(thread + "/schedstat", "0 0 0\n")
    # It has one thread: what is true of that is true of the process.
    os.symlink("task/%d/schedstat" % pid, folder + "/schedstat")
    for entry in ("stat", "cgroup"):
        os.symlink("../../" + entry, thread + "/" + entry)
    for where, real in ((folder, "/proc/%d" % pid), (thread, "/proc/%d/task/%d" % (pid, pid))):
        there = os.listdir(where)
        for entry in os.listdir(real):
            if entry not in there:
                os.symlink(real + "/" + entry, where + "/" + entry)


def forget_process(pid):
    folder = "%s/proc/%d" % (files.ROOT, pid)
    files.remove(folder + "/stat")  # first what tells that it lives
    files.remove(folder)
